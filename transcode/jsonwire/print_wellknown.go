package jsonwire

import (
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// wellKnown writes a type with a JSON form of its own.
func (p *printer) wellKnown(m *schema.Message, lo, hi int) bool {
	if m.WellKnown == schema.Any {
		return p.any(m.Schema, lo, hi)
	}
	if p.opts.Protobuf && m.WellKnown.Tars() {
		return p.object(m, lo, hi)
	}
	base := len(p.occs)
	if !p.index(m, lo, hi) {
		return false
	}
	top := len(p.occs)
	ok := true
	switch m.WellKnown {
	case schema.Timestamp:
		ok = p.timestamp(base, top)
	case schema.Duration:
		ok = p.duration(base, top)
	case schema.FieldMask:
		ok = p.fieldMask(base, top)
	case schema.Struct:
		ok = p.mapping(m.Fields[0], base, top)
	case schema.ListValue:
		ok = p.list(m.Fields[0], base, top)
	case schema.Value:
		ok = p.jsonValue(m, base, top)
	case schema.TarsItems:
		ok = p.items(m.Fields[0], base, top)
	case schema.TarsEntry:
		ok = p.pair(m, base, top)
	default: // a wrapper
		f := m.Fields[0]
		if base == top {
			p.zero(f)
		} else {
			ok = p.check(f, base, top-1) && p.scalar(f, p.occs[top-1])
		}
	}
	p.occs = p.occs[:base]
	return ok
}

// secondsNanos reads the two fields that Timestamp and Duration have; the last occurrence counts.
func (p *printer) secondsNanos(base, top int) (secs int64, nanos int32) {
	for _, o := range p.occs[base:top] {
		v, _ := varint(p.in, int(o.pos), len(p.in))
		if o.index() == 0 {
			secs = int64(v)
		} else {
			nanos = int32(v)
		}
	}
	return secs, nanos
}

func (p *printer) timestamp(base, top int) bool {
	secs, nanos := p.secondsNanos(base, top)
	if secs < minTimestamp || secs > maxTimestamp {
		return p.failf("wanted a time in the years 1 to 9999, found %d seconds since 1970", secs)
	}
	if nanos < 0 || nanos > maxNanos {
		return p.failf("wanted nanos from 0 to 999999999, found %d", nanos)
	}
	days := secs / 86400
	if secs%86400 < 0 {
		days--
	}
	rest := int(secs - days*86400)
	y, m, d := civilFromDays(days)
	p.out = append(p.out, '"', byte('0'+y/1000), byte('0'+y/100%10))
	p.out = appendTwo(p.out, y%100)
	p.out = append(p.out, '-')
	p.out = appendTwo(p.out, m)
	p.out = append(p.out, '-')
	p.out = appendTwo(p.out, d)
	p.out = append(p.out, 'T')
	p.out = appendTwo(p.out, rest/3600)
	p.out = append(p.out, ':')
	p.out = appendTwo(p.out, rest/60%60)
	p.out = append(p.out, ':')
	p.out = appendTwo(p.out, rest%60)
	p.out = appendNanos(p.out, nanos)
	p.out = append(p.out, 'Z', '"')
	return true
}

func appendTwo(out []byte, n int) []byte { return append(out, byte('0'+n/10), byte('0'+n%10)) }

// appendNanos appends a fraction of 0, 3, 6 or 9 digits with its point.
func appendNanos(out []byte, nanos int32) []byte {
	if nanos == 0 {
		return out
	}
	digits := 9
	for digits > 3 && nanos%1000 == 0 {
		nanos /= 1000
		digits -= 3
	}
	out = append(out, ".000000000"[:digits+1]...)
	for i := len(out) - 1; nanos > 0; i-- {
		out[i] = byte('0' + nanos%10)
		nanos /= 10
	}
	return out
}

// civilFromDays is the inverse of daysFromCivil.
func civilFromDays(days int64) (year, month, day int) {
	z := days + 719468 // from 0000-03-01; positive for all times that are taken
	era := z / 146097
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy - (153*mp+2)/5 + 1)
	month = int(mp) + 3
	year = int(yoe + era*400)
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, day
}

func (p *printer) duration(base, top int) bool {
	secs, nanos := p.secondsNanos(base, top)
	switch {
	case secs < -maxDuration || secs > maxDuration:
		return p.failf("wanted a duration of at most 315576000000 seconds, found %d", secs)
	case nanos < -maxNanos || nanos > maxNanos:
		return p.failf("wanted nanos from -999999999 to 999999999, found %d", nanos)
	case secs > 0 && nanos < 0 || secs < 0 && nanos > 0:
		return p.failf("wanted seconds and nanos of one sign, found %d and %d", secs, nanos)
	}
	p.out = append(p.out, '"')
	if secs < 0 || nanos < 0 {
		p.out = append(p.out, '-')
		secs, nanos = -secs, -nanos
	}
	p.out = appendInt(p.out, secs)
	p.out = appendNanos(p.out, nanos)
	p.out = append(p.out, 's', '"')
	return true
}

func (p *printer) fieldMask(base, top int) bool {
	p.out = append(p.out, '"')
	for i := base; i < top; i++ {
		if i > base {
			p.out = append(p.out, ',')
		}
		start, end := p.span(p.occs[i])
		path := p.in[start:end]
		if !utf8.Valid(path) {
			return p.notUTF8(path)
		}
		if !protoreflect.FullName(view(path)).IsValid() {
			return p.failf("wanted a path of field names, found %s", quoteName(path))
		}
		for k := 0; k < len(path); k++ {
			c := path[k]
			switch {
			case c == '_':
				if k++; k == len(path) || path[k] < 'a' || path[k] > 'z' {
					return p.failf("path %s has no form in JSON: an underscore must be followed by a lower-case letter", quoteName(path))
				}
				p.out = append(p.out, path[k]-'a'+'A')
			case 'A' <= c && c <= 'Z':
				return p.failf("path %s has no form in JSON: a name in it has a capital letter", quoteName(path))
			default:
				p.out = append(p.out, c)
			}
		}
	}
	p.out = append(p.out, '"')
	return true
}

// jsonValue writes the one member that is set of a google.protobuf.Value.
func (p *printer) jsonValue(m *schema.Message, base, top int) bool {
	if base == top {
		return p.fail("wanted a google.protobuf.Value with one of its kinds set, found none")
	}
	f := m.Fields[p.occs[base].index()]
	if f.Kind == protoreflect.DoubleKind {
		v, _ := number(p.in, int(p.occs[top-1].pos), len(p.in), protowire.Fixed64Type)
		if d := math.Float64frombits(v); math.IsNaN(d) || math.IsInf(d, 0) {
			return p.failf("wanted a google.protobuf.Value that JSON can hold, found the number %v", d)
		}
	}
	if f.Message != nil { // Struct and ListValue: in JSON one level with the Value that holds them
		return p.wellKnown(f.Message, base, top)
	}
	return p.value(f, base, top)
}

// any writes a google.protobuf.Any in the parts occs[lo:hi], its type looked up in types.
func (p *printer) any(types *schema.Schema, lo, hi int) bool {
	var url, val occurrence
	for part := lo; part < hi; part++ {
		i, end := p.span(p.occs[part])
		for i < end {
			num, typ, next := p.tag(i, end)
			if next < 0 || typ == protowire.EndGroupType {
				return p.fail("wanted the wire form of google.protobuf.Any, found bytes that are not")
			}
			if i = p.skip(num, typ, next, end); i < 0 {
				return p.fail("wanted the wire form of google.protobuf.Any, found bytes that are not")
			}
			p.steps++
			if !p.element() {
				return false
			}
			o := occurrence{pos: uint32(next), info: uint32(typ)}
			switch {
			case num == 1 && typ == protowire.BytesType:
				url = o
				if start, stop := p.span(o); !utf8.Valid(p.in[start:stop]) {
					return p.notUTF8(p.in[start:stop])
				}
			case num == 2 && typ == protowire.BytesType:
				val = o
			}
		}
	}
	if url.info == 0 || p.emptySpan(url) {
		if val.info != 0 && !p.emptySpan(val) {
			return p.fail("wanted a type URL in google.protobuf.Any, found a value without one")
		}
		return p.raw("{}")
	}
	start, end := p.span(url)
	m, fault := anyType(p.in[start:end], types)
	if m == nil {
		p.fail(fault)
		p.err.cause = ErrUnknownType
		return false
	}
	p.raw(`{"@type":`)
	p.out, _ = appendString(p.out, p.in[start:end])
	base := len(p.occs)
	if val.info != 0 {
		p.push(val)
	}
	p.partial++
	var ok bool
	if p.depth++; p.depth > p.maxDepth {
		return p.failf("nested deeper than %d levels", p.maxDepth)
	}
	if m.WellKnown == schema.NotWellKnown || m.WellKnown == schema.Empty {
		ok = p.fields(m, base, len(p.occs))
	} else {
		p.raw(`,"value":`)
		ok = p.wellKnown(m, base, len(p.occs))
	}
	p.depth--
	p.partial--
	p.occs = p.occs[:base]
	p.out = append(p.out, '}')
	return ok
}
