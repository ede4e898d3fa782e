package config

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// wellKnown reads the messages that have a JSON form of their own (protobuf's "ProtoJSON Format"). An Any cannot be
// written: only settings are one, whose type is known by a name beside them.
func (r *reader) wellKnown(n *yaml.Node, m protoreflect.Message, at *place) (handled, ok bool) {
	switch name := m.Descriptor().FullName(); name {
	case "google.protobuf.Duration":
		return true, r.literal(n, at, "a duration", func(l literal) *misfit {
			seconds, nanos, bad := convertDuration(l)
			setTime(m, seconds, nanos)
			return bad
		})
	case "google.protobuf.Timestamp":
		return true, r.literal(n, at, "a time", func(l literal) *misfit {
			seconds, nanos, bad := convertTimestamp(l)
			setTime(m, seconds, nanos)
			return bad
		})
	case "google.protobuf.DoubleValue", "google.protobuf.FloatValue", "google.protobuf.Int64Value",
		"google.protobuf.UInt64Value", "google.protobuf.Int32Value", "google.protobuf.UInt32Value",
		"google.protobuf.BoolValue", "google.protobuf.StringValue", "google.protobuf.BytesValue":
		fd := m.Descriptor().Fields().ByNumber(1)
		v, ok := r.scalar(n, fd, at)
		if ok {
			m.Set(fd, v)
		}
		return true, ok
	case "google.protobuf.Struct":
		fd := m.Descriptor().Fields().ByNumber(1)
		return true, r.mapField(n, m.Mutable(fd).Map(), fd, at)
	case "google.protobuf.ListValue":
		fd := m.Descriptor().Fields().ByNumber(1)
		return true, r.list(n, m.Mutable(fd).List(), fd, at)
	case "google.protobuf.Value":
		return true, r.anyValue(n, m, at)
	case "google.protobuf.Any", "google.protobuf.FieldMask":
		at.failed = true
		r.fault(at.where(), at.path(), "a value of type %s cannot be written in a document", name).WithFix("remove the key")
		return true, false
	}
	return false, false
}

// wraps reports whether a field holds a scalar with presence; null leaves it unset.
func wraps(fd protoreflect.FieldDescriptor) bool {
	if fd.Message() == nil || fd.IsList() || fd.IsMap() {
		return false
	}
	name := string(fd.Message().FullName())
	return strings.HasPrefix(name, "google.protobuf.") && strings.HasSuffix(name, "Value") &&
		name != "google.protobuf.Value" && name != "google.protobuf.ListValue"
}

// anyValue reads a google.protobuf.Value: whatever JSON has.
func (r *reader) anyValue(n *yaml.Node, m protoreflect.Message, at *place) bool {
	fields := m.Descriptor().Fields()
	switch {
	case isNull(n):
		m.Set(fields.ByName("null_value"), protoreflect.ValueOfEnum(0))
		return true
	case n.Kind == yaml.MappingNode:
		return r.message(n, m.Mutable(fields.ByName("struct_value")).Message(), at)
	case n.Kind == yaml.SequenceNode:
		return r.message(n, m.Mutable(fields.ByName("list_value")).Message(), at)
	}
	name := protoreflect.Name("string_value")
	switch n.ShortTag() {
	case "!!bool":
		name = "bool_value"
	case "!!int", "!!float":
		name = "number_value"
	}
	v, ok := r.scalar(n, fields.ByName(name), at)
	if ok {
		m.Set(fields.ByName(name), v)
	}
	return ok
}

// setTime sets a Duration or Timestamp; both have seconds and nanos as fields 1 and 2.
func setTime(m protoreflect.Message, seconds int64, nanos int32) {
	fields := m.Descriptor().Fields()
	m.Set(fields.ByNumber(1), protoreflect.ValueOfInt64(seconds))
	m.Set(fields.ByNumber(2), protoreflect.ValueOfInt32(nanos))
}

// The bounds of google.protobuf.Duration: 10,000 years.
const maxSeconds = 315_576_000_000

var jsonDuration = regexp.MustCompile(`^(-?)(0|[1-9][0-9]*)(?:\.([0-9]{1,9}))?s$`)

func convertDuration(l literal) (seconds int64, nanos int32, bad *misfit) {
	if m := jsonDuration.FindStringSubmatch(l.text); m != nil && l.isString() {
		s, err := strconv.ParseInt(m[2], 10, 64)
		n, _ := strconv.ParseInt((m[3] + "000000000")[:9], 10, 32) // nine digits, as the expression has it
		if err != nil || s > maxSeconds || s == maxSeconds && n > 0 {
			return 0, 0, misfitf("write a shorter time", "wanted a duration up to %ds", int64(maxSeconds))
		}
		if m[1] == "-" {
			s, n = -s, -n
		}
		return s, int32(n), nil //nolint:gosec // below 1e9
	}
	fix := `write seconds and "s": 1.5s`
	if d, ok := guessDuration(l); ok {
		fix = "write " + secondsText(d)
	}
	return 0, 0, misfitf(fix, `wanted a duration in seconds such as "1.5s"`)
}

// guessDuration reads what people write for durations elsewhere: "500ms", "2m", "1h30m", "1d", "10 s", 15.
func guessDuration(l literal) (time.Duration, bool) {
	text := strings.ToLower(strings.ReplaceAll(l.text, " ", ""))
	if jsonNumber.MatchString(text) {
		text += "s"
	}
	for _, unit := range [][2]string{{"seconds", "s"}, {"second", "s"}, {"secs", "s"}, {"sec", "s"}, {"minutes", "m"}, {"minute", "m"}, {"mins", "m"}, {"min", "m"}, {"hours", "h"}, {"hour", "h"}} {
		if cut, ok := strings.CutSuffix(text, unit[0]); ok {
			text = cut + unit[1]
			break
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		return time.Duration(n * float64(24*time.Hour)), err == nil && math.Abs(n) < 10_000 // also false for NaN
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

// secondsText is a duration in ProtoJSON form.
func secondsText(d time.Duration) string {
	s := strconv.FormatFloat(d.Seconds(), 'f', 9, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "s"
}

// rfc3339 is the form of RFC 3339 section 5.6, upper case; package time takes more (a comma, a single digit).
var rfc3339 = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$`)

func convertTimestamp(l literal) (seconds int64, nanos int32, bad *misfit) {
	if rfc3339.MatchString(l.text) && l.isString() {
		t, err := time.Parse(time.RFC3339Nano, l.text)
		if utc := t.UTC(); err == nil && utc.Year() >= 1 && utc.Year() <= 9999 {
			return utc.Unix(), int32(utc.Nanosecond()), nil //nolint:gosec // below 1e9
		}
	}
	return 0, 0, misfitf("write it as 2006-01-02T15:04:05Z", "wanted a time in RFC 3339 form")
}
