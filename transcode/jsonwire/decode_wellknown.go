package jsonwire

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// The field tags of the well-known types that are written by hand.
const (
	tagVarint1 = 1 << 3
	tagVarint2 = 2 << 3
	tagVarint4 = 4 << 3
	tagBytes1  = 1<<3 | 2
	tagBytes2  = 2<<3 | 2
	tagBytes3  = 3<<3 | 2
	tagBytes5  = 5<<3 | 2
	tagBytes6  = 6<<3 | 2
	tagDouble2 = 2<<3 | 1
)

const (
	minTimestamp = -62135596800 // 0001-01-01T00:00:00Z
	maxTimestamp = 253402300799 // 9999-12-31T23:59:59Z
	maxDuration  = 315576000000
	maxNanos     = 999999999
)

// wellKnown reads a value of a type with a JSON form of its own.
func (p *parser) wellKnown(m *schema.Message) bool {
	switch m.WellKnown {
	case schema.Any:
		return p.anyObject(m.Schema)
	case schema.Timestamp, schema.Duration, schema.FieldMask:
		if p.peek() != '"' {
			return p.failf(p.pos, "wanted %s, found %s", formOf(m), p.found(p.pos))
		}
		at := p.pos
		raw, ok := p.str()
		return ok && p.wellKnownText(m, raw, at)
	case schema.Struct:
		return p.mapping(m.Fields[0]) != bad
	case schema.ListValue:
		return p.list(m.Fields[0]) != bad
	case schema.Value:
		return p.jsonValue(m)
	case schema.Empty, schema.TarsEntry:
		return p.object(m, false)
	case schema.TarsItems:
		if p.opts.Protobuf {
			return p.object(m, false)
		}
		return p.items(m.Fields[0])
	default: // a wrapper
		start := len(p.out)
		f := m.Fields[0]
		p.out = appendVarint(p.out, f.Tag)
		p.peek()
		v := p.scalar(f)
		if v == zero && !p.keepZero {
			p.out = p.out[:start]
		}
		return v != bad
	}
}

// formOf says what the JSON form of a well-known type written as a string is.
func formOf(m *schema.Message) string {
	switch m.WellKnown {
	case schema.Timestamp:
		return `a time as in RFC 3339 ("2006-01-02T15:04:05Z", years 1 to 9999, at most nine decimals)`
	case schema.Duration:
		return `a duration in seconds ("1.5s", at most 315576000000s, at most nine decimals)`
	default:
		return `a field mask ("name,address.city")`
	}
}

// wellKnownText writes the content of a Timestamp, Duration or FieldMask given as text. at is where the text stands, or
// negative for a parameter.
func (p *parser) wellKnownText(m *schema.Message, raw []byte, at int) bool {
	var ok bool
	switch m.WellKnown {
	case schema.Timestamp:
		var secs int64
		var nanos int32
		if secs, nanos, ok = parseTimestamp(raw); ok {
			p.secondsNanos(secs, nanos)
		}
	case schema.Duration:
		var secs int64
		var nanos int32
		if secs, nanos, ok = parseDuration(raw); ok {
			p.secondsNanos(secs, nanos)
		}
	default:
		ok = p.fieldMask(raw, at < 0)
	}
	if !ok && at >= 0 {
		return p.failf(at, "wanted %s, found %s", formOf(m), p.found(at))
	}
	return ok
}

func (p *parser) secondsNanos(secs int64, nanos int32) {
	if secs != 0 || p.keepZero {
		p.out = append(p.out, tagVarint1)
		p.out = appendVarint(p.out, uint64(secs))
	}
	if nanos != 0 || p.keepZero {
		p.out = append(p.out, tagVarint2)
		p.out = appendVarint(p.out, uint64(int64(nanos)))
	}
}

// parseTimestamp reads RFC 3339 as time.Parse does, with at most nine decimals.
func parseTimestamp(raw []byte) (secs int64, nanos int32, ok bool) {
	if secs, nanos, ok = parseUTC(raw); ok {
		return secs, nanos, true
	}
	s := view(raw)
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, 0, false
	}
	secs = t.Unix()
	if secs < minTimestamp || secs > maxTimestamp {
		return 0, 0, false
	}
	i := strings.LastIndexByte(s, '.')
	j := strings.LastIndexAny(s, "Z-+")
	if i >= 0 && j >= i && j-i > len(".999999999") {
		return 0, 0, false
	}
	return secs, int32(t.Nanosecond()), true
}

// parseUTC reads the usual form, 2006-01-02T15:04:05[.999999999]Z; what it does not know it leaves to time.Parse.
func parseUTC(s []byte) (secs int64, nanos int32, ok bool) {
	const fixedPart = len("2006-01-02T15:04:05")
	if len(s) < fixedPart+1 || len(s) > fixedPart+len(".999999999Z") || s[len(s)-1] != 'Z' ||
		s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return 0, 0, false
	}
	year, ok1 := decimal(s[0:4])
	month, ok2 := decimal(s[5:7])
	day, ok3 := decimal(s[8:10])
	hour, ok4 := decimal(s[11:13])
	minute, ok5 := decimal(s[14:16])
	second, ok6 := decimal(s[17:19])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || year < 1 || month < 1 || month > 12 || day < 1 || day > 28 ||
		hour > 23 || minute > 59 || second > 59 {
		return 0, 0, false
	}
	if frac := s[fixedPart : len(s)-1]; len(frac) > 0 {
		if frac[0] != '.' || len(frac) == 1 {
			return 0, 0, false
		}
		n, ok := decimal(frac[1:])
		if !ok {
			return 0, 0, false
		}
		for range 10 - len(frac) {
			n *= 10
		}
		nanos = int32(n)
	}
	return daysFromCivil(int64(year), int64(month), int64(day))*86400 + int64(hour)*3600 + int64(minute)*60 + int64(second), nanos, true
}

func decimal(s []byte) (int, bool) {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// daysFromCivil counts days from 1970-01-01 in the Gregorian calendar; the year begins in March so that the leap day is
// its last.
func daysFromCivil(y, m, d int64) int64 {
	if m <= 2 {
		y--
		m += 12
	}
	era := y / 400
	yoe := y - era*400
	doy := (153*(m-3)+2)/5 + d - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

// parseDuration reads what protojson takes: a decimal number of seconds with optional sign and "s" behind it.
func parseDuration(b []byte) (secs int64, nanos int32, ok bool) {
	if len(b) < 2 || b[len(b)-1] != 's' {
		return 0, 0, false
	}
	b = b[:len(b)-1]
	neg := b[0] == '-'
	if neg || b[0] == '+' {
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, 0, false
	}
	whole, frac, point := bytes.Cut(b, []byte("."))
	if len(whole) == 0 && !point || len(whole) > 1 && whole[0] == '0' || len(whole) > 12 || len(frac) > 9 {
		return 0, 0, false
	}
	s, ok1 := decimal64(whole)
	n, ok2 := decimal64(frac)
	if !ok1 || !ok2 || s > maxDuration {
		return 0, 0, false
	}
	for range 9 - len(frac) {
		n *= 10
	}
	if neg {
		s, n = -s, -n
	}
	return s, int32(n), true
}

func decimal64(s []byte) (int64, bool) {
	var n int64
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// fieldMask writes the paths of a mask, from lowerCamelCase to the declared form. In a parameter a path may also stand
// as declared, as people type it into URLs.
func (p *parser) fieldMask(raw []byte, declared bool) bool {
	raw = bytes.TrimSpace(raw)
	for len(raw) > 0 {
		path, rest, more := bytes.Cut(raw, []byte(","))
		if more && len(rest) == 0 {
			return false
		}
		raw = rest
		asIs := bytes.IndexByte(path, '_') >= 0
		if asIs && !declared {
			return false
		}
		if !p.element() {
			return false
		}
		p.out = append(p.out, tagBytes1)
		g := p.openLen()
		start := len(p.out)
		for _, c := range path {
			if 'A' <= c && c <= 'Z' && !asIs {
				p.out = append(p.out, '_', c+'a'-'A')
			} else {
				p.out = append(p.out, c)
			}
		}
		if !protoreflect.FullName(view(p.out[start:])).IsValid() {
			return false
		}
		p.closeLen(g)
	}
	return true
}

// jsonValue reads any JSON value into a google.protobuf.Value.
func (p *parser) jsonValue(m *schema.Message) bool {
	switch c := p.peek(); c {
	case 'n':
		if p.null() {
			p.out = append(p.out, tagVarint1, 0)
			return true
		}
	case 't', 'f':
		p.out = append(p.out, tagVarint4)
		return p.boolean(m.Fields[3]) != bad
	case '"':
		p.out = append(p.out, tagBytes3)
		return p.stringValue()
	case '{':
		p.out = append(p.out, tagBytes5)
		g := p.openLen()
		if p.mapping(m.Fields[4].Message.Fields[0]) == bad {
			return false
		}
		p.closeLen(g)
		return true
	case '[':
		p.out = append(p.out, tagBytes6)
		g := p.openLen()
		if p.list(m.Fields[5].Message.Fields[0]) == bad {
			return false
		}
		p.closeLen(g)
		return true
	default:
		if c == '-' || '0' <= c && c <= '9' {
			p.out = append(p.out, tagDouble2)
			return p.float(m.Fields[1], c) != bad
		}
	}
	return p.failf(p.pos, "wanted a JSON value, found %s", p.found(p.pos))
}

// quoteName is a name as messages show it.
func quoteName(b []byte) string { return strconv.Quote(string(validPrefix(b, 128))) }
