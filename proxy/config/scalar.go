package config

import (
	"encoding/base64"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// misfit says why a text is not a value of the wanted kind. It never repeats the text: that may be secret.
type misfit struct {
	message string // "wanted an integer from 0 to 255"
	fix     string
}

func misfitf(fix, format string, args ...any) *misfit {
	return &misfit{message: fmt.Sprintf(format, args...), fix: fix}
}

// hiddenFix stands for a fix that would show a secret.
const hiddenFix = "correct what ${...} stands for here"

// literal is a scalar as it was written, after ${...}.
type literal struct {
	text string
	tag  string // !!str, !!int, !!float, !!bool, !!timestamp as YAML resolves it
	// free: the text came from ${...}, which has no types of its own; it is read as what is wanted.
	free bool
}

func (l literal) isString() bool {
	return l.tag == "!!str" || l.tag == "!!timestamp" || l.tag == "!!binary"
}
func (l literal) isNumber() bool { return l.tag == "!!int" || l.tag == "!!float" }

// scalar reads a node as a value of a scalar field.
func (r *reader) scalar(n *yaml.Node, fd protoreflect.FieldDescriptor, at *place) (protoreflect.Value, bool) {
	var v protoreflect.Value
	ok := r.literal(n, at, kindName(fd), func(l literal) *misfit {
		var bad *misfit
		v, bad = convert(fd, l)
		return bad
	})
	return v, ok
}

// literal hands a scalar node's text to read, and notes its misfit as a fault.
func (r *reader) literal(n *yaml.Node, at *place, want string, read func(literal) *misfit) bool {
	target := r.resolve(n, at)
	defer r.leave(n)
	if target == nil {
		return false
	}
	if target.Kind != yaml.ScalarNode || isNull(target) {
		f := r.wanted(target, at, want)
		if target.Kind == yaml.SequenceNode && len(target.Content) == 1 {
			f.WithFix("one value is taken here, not a list")
		}
		return false
	}
	l := literal{text: target.Value, tag: target.ShortTag()}
	if l.isString() {
		s, ok := r.expand(target, at)
		if !ok {
			return false
		}
		l.text, l.free = s, strings.Contains(target.Value, "${")
	}
	bad := read(l)
	if bad == nil {
		return true
	}
	at.failed = true
	fix, found := bad.fix, shape(target, at.secret)
	switch {
	case l.free:
		fix = hiddenFix
	case at.secret:
		fix = "quote it"
	case l.isNumber() && (strings.Contains(bad.message, "number") || strings.Contains(bad.message, "integer")):
		found = l.text
	}
	r.fault(at.where(), at.path(), "%s, found %s", bad.message, found).WithFix(fix)
	return false
}

// convert is the one place where texts become values of scalar fields.
func convert(fd protoreflect.FieldDescriptor, l literal) (protoreflect.Value, *misfit) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		if !l.isString() {
			return protoreflect.Value{}, misfitf("quote it: "+strconv.Quote(l.text), "wanted a string")
		}
		return protoreflect.ValueOfString(l.text), nil
	case protoreflect.BytesKind:
		b, bad := convertBytes(l)
		return protoreflect.ValueOfBytes(b), bad
	case protoreflect.BoolKind:
		b, bad := convertBool(l)
		return protoreflect.ValueOfBool(b), bad
	case protoreflect.EnumKind:
		return convertEnum(fd.Enum(), l)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		i, bad := convertInt(l, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfInt32(int32(i)), bad //nolint:gosec // in range, or bad
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		i, bad := convertInt(l, math.MinInt64, math.MaxInt64)
		return protoreflect.ValueOfInt64(i), bad
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		u, bad := convertUint(l, math.MaxUint32)
		return protoreflect.ValueOfUint32(uint32(u)), bad //nolint:gosec // in range, or bad
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		u, bad := convertUint(l, math.MaxUint64)
		return protoreflect.ValueOfUint64(u), bad
	case protoreflect.FloatKind:
		f, bad := convertFloat(l, 32)
		return protoreflect.ValueOfFloat32(float32(f)), bad
	case protoreflect.DoubleKind:
		f, bad := convertFloat(l, 64)
		return protoreflect.ValueOfFloat64(f), bad
	default: // messages and groups are not scalars
		return protoreflect.Value{}, misfitf("remove it", "a %s cannot be written in a document", fd.Kind())
	}
}

// convertKey reads the key of a map entry; keys are strings in JSON, whatever their type.
func convertKey(fd protoreflect.FieldDescriptor, key string) (protoreflect.MapKey, *misfit) {
	l := literal{text: key, tag: "!!str", free: true}
	v, bad := convert(fd, l)
	if bad != nil {
		bad.message += fmt.Sprintf(" as key, found %q", abridge(key))
		return protoreflect.MapKey{}, bad
	}
	return v.MapKey(), nil
}

func convertBool(l literal) (bool, *misfit) {
	if l.tag == "!!bool" || l.free {
		switch l.text {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	}
	fix := "write true or false"
	switch strings.ToLower(l.text) {
	case "yes", "on", "y", "true", "1":
		fix = "write true"
	case "no", "off", "n", "false", "0":
		fix = "write false"
	}
	return false, misfitf(fix, "wanted true or false")
}

// enumNames are how a document writes the values of an enum: in lower case and without the enum's own name in front
// ("refuse" for PATH_CONFLICT_REFUSE). The value that only stands for "not said" is not offered.
func enumNames(ed protoreflect.EnumDescriptor) []string {
	names := make([]string, 0, ed.Values().Len())
	for i := range ed.Values().Len() {
		if name := shortName(ed.Values().Get(i)); name != "unspecified" {
			names = append(names, name)
		}
	}
	return names
}

func shortName(v protoreflect.EnumValueDescriptor) string {
	name := strings.ToLower(string(v.Name()))
	return strings.TrimPrefix(name, snake(string(v.Parent().Name()))+"_")
}

// snake turns PathConflict into path_conflict.
func snake(camel string) string {
	var b strings.Builder
	for i, r := range camel {
		if i > 0 && 'A' <= r && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// convertEnum takes the short name and, as ProtoJSON does, the whole one.
func convertEnum(ed protoreflect.EnumDescriptor, l literal) (protoreflect.Value, *misfit) {
	if l.isString() {
		for i := range ed.Values().Len() {
			if v := ed.Values().Get(i); l.text == string(v.Name()) || l.text == shortName(v) && l.text != "unspecified" {
				return protoreflect.ValueOfEnum(v.Number()), nil
			}
		}
	}
	names := enumNames(ed)
	if n, err := strconv.ParseInt(l.text, 10, 32); err == nil {
		if v := ed.Values().ByNumber(protoreflect.EnumNumber(n)); v != nil {
			return protoreflect.Value{}, misfitf("write "+shortName(v), "wanted a name")
		}
	}
	fix := "write one of " + list(names)
	if near := schema.Nearest(strings.ToLower(l.text), names); near != "" {
		fix = "write " + near + "; one of " + list(names)
	}
	return protoreflect.Value{}, misfitf(fix, "wanted a name from a list")
}

// jsonNumber is the grammar of RFC 8259, section 6.
var jsonNumber = regexp.MustCompile(`^(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?$`)

// number reports whether a literal may stand for a number at all; ProtoJSON takes them quoted too.
func (l literal) number() []string {
	if !l.isNumber() && !l.isString() {
		return nil
	}
	return jsonNumber.FindStringSubmatch(l.text)
}

// integer gives the digits of an integral number, without sign and leading zeros, and whether it is negative. 1.0 and
// 1e3 are integers, as in ProtoJSON.
func (l literal) integer() (digits string, negative, ok bool) {
	m := l.number()
	if m == nil {
		return "", false, false
	}
	frac := strings.TrimRight(m[3], "0")
	digits = strings.TrimLeft(m[2]+frac, "0")
	exp := 0
	if m[4] != "" {
		e, err := strconv.Atoi(m[4])
		if err != nil && digits != "" {
			return "", false, false
		}
		exp = e
	}
	if digits == "" {
		return "0", m[1] == "-", true
	}
	exp -= len(frac)
	if exp < 0 { // the last digit is at 10^exp: zeros there may go
		cut := len(digits) + exp
		if cut <= 0 || strings.Trim(digits[cut:], "0") != "" {
			return "", false, false
		}
		return digits[:cut], m[1] == "-", true
	}
	const tooMany = 20 // 2^64 has 20 digits
	if exp > tooMany {
		exp = tooMany
	}
	return digits + strings.Repeat("0", exp), m[1] == "-", true
}

func convertInt(l literal, low, high int64) (int64, *misfit) {
	digits, negative, ok := l.integer()
	if ok {
		if negative {
			digits = "-" + digits
		}
		if i, err := strconv.ParseInt(digits, 10, 64); err == nil && low <= i && i <= high {
			return i, nil
		}
	}
	if !ok {
		return 0, misfitf(numberFix(l), "wanted an integer")
	}
	return 0, misfitf("write a number in this range", "wanted an integer from %d to %d", low, high)
}

func convertUint(l literal, high uint64) (uint64, *misfit) {
	digits, negative, ok := l.integer()
	if ok && (!negative || digits == "0") {
		if u, err := strconv.ParseUint(digits, 10, 64); err == nil && u <= high {
			return u, nil
		}
	}
	if !ok {
		return 0, misfitf(numberFix(l), "wanted an integer")
	}
	return 0, misfitf("write a number in this range", "wanted an integer from 0 to %d", high)
}

func convertFloat(l literal, bits int) (float64, *misfit) {
	if l.isString() {
		switch l.text {
		case "NaN":
			return math.NaN(), nil
		case "Infinity":
			return math.Inf(1), nil
		case "-Infinity":
			return math.Inf(-1), nil
		}
	}
	if l.number() != nil {
		if f, err := strconv.ParseFloat(l.text, bits); err == nil {
			return f, nil
		}
		return 0, misfitf("write a smaller number", "wanted a number of %d bits", bits)
	}
	fix := numberFix(l)
	switch strings.ToLower(strings.TrimLeft(l.text, "+-")) {
	case ".inf":
		fix = `write "Infinity" or "-Infinity"`
	case ".nan":
		fix = `write "NaN"`
	}
	return 0, misfitf(fix, "wanted a number")
}

// sized is a number with a unit of bytes.
var sized = regexp.MustCompile(`^([0-9]{1,9})[ ]?([kKmMgG])(i?)[bB]?$`)

// numberFix guesses what was meant by something that is not a number as JSON has it.
func numberFix(l literal) string {
	if m := sized.FindStringSubmatch(l.text); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 64)
		unit := map[string]int64{"k": 1, "m": 2, "g": 3}[strings.ToLower(m[2])]
		base := int64(1000)
		if m[3] != "" {
			base = 1024
		}
		for range unit {
			n *= base
		}
		if err == nil {
			return "write the number alone: " + strconv.FormatInt(n, 10)
		}
	}
	if l.number() == nil {
		if i, err := strconv.ParseInt(l.text, 0, 64); err == nil && strings.ContainsAny(l.text, "xXoObB_") {
			return "write it in decimal digits: " + strconv.FormatInt(i, 10)
		}
		if trimmed := strings.TrimLeft(strings.TrimPrefix(l.text, "+"), "0"); trimmed != l.text && jsonNumber.MatchString(trimmed) {
			return "write it without sign and leading zeros: " + trimmed
		}
	}
	if l.number() != nil {
		return "write a whole number"
	}
	return "write it in digits"
}

func convertBytes(l literal) ([]byte, *misfit) {
	if l.isString() {
		enc := base64.StdEncoding
		if strings.ContainsAny(l.text, "-_") {
			enc = base64.URLEncoding
		}
		if len(l.text)%4 != 0 {
			enc = enc.WithPadding(base64.NoPadding)
		}
		if b, err := enc.DecodeString(l.text); err == nil && !strings.ContainsAny(l.text, "\r\n") {
			return b, nil
		}
	}
	return nil, misfitf("encode the bytes: `base64 -w0 FILE`", "wanted bytes in base64")
}

// kindName names what a field wants, for faults.
func kindName(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.IsMap():
		return "a mapping"
	case fd.IsList():
		return "a list"
	}
	return elementName(fd)
}

// elementName names what one element of a field wants.
func elementName(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		switch fd.Message().FullName() {
		case "google.protobuf.Duration":
			return "a duration"
		case "google.protobuf.Timestamp":
			return "a time"
		}
		return "a mapping"
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BytesKind:
		return "bytes in base64"
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.EnumKind:
		return "a name"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "a number"
	default:
		return "an integer"
	}
}
