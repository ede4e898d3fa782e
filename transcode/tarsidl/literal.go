package tarsidl

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// integer reads decimal, 0x and, with a leading 0, octal.
func integer(s string, negative bool) (int64, bool) {
	base, digits := 10, s
	switch {
	case len(s) > 2 && (s[1] == 'x' || s[1] == 'X') && s[0] == '0':
		base, digits = 16, s[2:]
	case len(s) > 1 && s[0] == '0':
		base, digits = 8, s[1:]
	}
	if strings.HasPrefix(digits, "_") {
		return 0, false
	}
	if negative {
		digits = "-" + digits
	}
	v, err := strconv.ParseInt(digits, base, 64)
	return v, err == nil
}

// decimalFraction reads a float with or without exponent and trailing f.
func decimalFraction(s string, negative bool) (float64, bool) {
	s = strings.TrimRight(s, "fF")
	if strings.ContainsAny(s, "xXpP_iInN") {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	if negative {
		v = -v
	}
	return v, err == nil
}

// ranges are the bounds of the integer types.
var ranges = map[tarsv1.Type]struct{ low, high int64 }{
	tarsv1.Type_BYTE:           {math.MinInt8, math.MaxInt8},
	tarsv1.Type_SHORT:          {math.MinInt16, math.MaxInt16},
	tarsv1.Type_INT:            {math.MinInt32, math.MaxInt32},
	tarsv1.Type_LONG:           {math.MinInt64, math.MaxInt64},
	tarsv1.Type_UNSIGNED_BYTE:  {0, math.MaxUint8},
	tarsv1.Type_UNSIGNED_SHORT: {0, math.MaxUint16},
	tarsv1.Type_UNSIGNED_INT:   {0, math.MaxUint32},
	tarsv1.Type_ENUM:           {math.MinInt32, math.MaxInt32},
}

// value is what a literal is worth as a value of type t, which is no name of an enum's value; or why it is none.
func value(l *literal, t *typ) (*tarsv1.Default, string) {
	wrong := func(wanted string) (*tarsv1.Default, string) {
		return nil, fmt.Sprintf("wanted %s for %s, found %s", wanted, t, l)
	}
	integral := func(v int64) *tarsv1.Default {
		return &tarsv1.Default{Value: &tarsv1.Default_Integer{Integer: v}}
	}
	switch t.kind {
	case tarsv1.Type_BOOL:
		switch {
		case l.kind == name && l.text == "true" && len(l.scope) == 0, l.kind == number && !l.negative && l.text == "1":
			return integral(1), ""
		case l.kind == name && l.text == "false" && len(l.scope) == 0, l.kind == number && l.text == "0":
			return integral(0), ""
		}
		return wrong("true or false")
	case tarsv1.Type_STRING:
		if l.kind != text {
			return wrong("a string in quotes")
		}
		if !utf8.ValidString(l.text) {
			return nil, "this string is not UTF-8, which strings of protobuf must be"
		}
		return &tarsv1.Default{Value: &tarsv1.Default_Text{Text: l.text}}, ""
	case tarsv1.Type_FLOAT, tarsv1.Type_DOUBLE:
		v, ok := decimalFraction(l.text, l.negative)
		if i, isInt := integer(l.text, l.negative); isInt { // also hex and octal
			v, ok = float64(i), true
		}
		if l.kind != number || !ok {
			return wrong("a number")
		}
		if t.kind == tarsv1.Type_FLOAT && math.Abs(v) > math.MaxFloat32 {
			return wrong("a number in the range of a float")
		}
		return &tarsv1.Default{Value: &tarsv1.Default_Number{Number: v}}, ""
	}
	r, ok := ranges[t.kind]
	if !ok {
		return nil, fmt.Sprintf("%s has no default", t)
	}
	v, ok := integer(l.text, l.negative)
	if l.kind != number || !ok {
		return wrong("a whole number")
	}
	if v < r.low || v > r.high {
		return wrong(fmt.Sprintf("a number from %d to %d", r.low, r.high))
	}
	return integral(v), ""
}

// String writes the literal as it stands in the text.
func (l *literal) String() string {
	switch {
	case l.kind == text:
		return printable([]byte(l.text))
	case l.negative:
		return "-" + l.text
	}
	return strings.Join(append(append([]string{}, l.scope...), l.text), "::")
}
