package jsonwire

import (
	"encoding/base64"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// message writes the message m whose parts are occs[lo:hi]; several parts stand for their concatenation, which is how
// protobuf merges a sub-message that was sent in pieces. No part is the empty message.
func (p *printer) message(m *schema.Message, lo, hi int) bool {
	if p.depth++; p.depth > p.maxDepth {
		return p.failf("nested deeper than %d levels", p.maxDepth)
	}
	var ok bool
	if m.WellKnown == schema.NotWellKnown || m.WellKnown == schema.Empty {
		ok = p.object(m, lo, hi)
	} else {
		ok = p.wellKnown(m, lo, hi)
	}
	p.depth--
	return ok
}

// object writes m by its fields.
func (p *printer) object(m *schema.Message, lo, hi int) bool {
	at := len(p.out)
	ok := p.fields(m, lo, hi)
	if len(p.out) == at {
		p.out = append(p.out, '{')
	} else {
		p.out[at] = '{' // for the first comma
	}
	p.out = append(p.out, '}')
	return ok
}

// fields writes the members of m, each behind a comma.
func (p *printer) fields(m *schema.Message, lo, hi int) bool {
	base := len(p.occs)
	if hi-lo == 1 && !p.opts.EmitUnpopulated && len(m.Required) == 0 && len(m.Fields) <= aheadFields {
		mark := len(p.out)
		next, last := p.ahead(m, lo)
		if next < 0 {
			return true
		}
		if !p.indexFrom(m, lo, hi, next) {
			return false
		}
		if len(p.occs) > base && p.occs[base].index() <= last {
			p.out = p.out[:mark]
			p.takeBack(m, lo, base, next)
		}
	} else if !p.index(m, lo, hi) {
		return false
	}
	top := len(p.occs)
	required, unset := 0, 0
	for i := base; i < top; {
		j := p.run(i, top)
		p.steps += j - i
		f := m.Fields[p.occs[i].index()]
		if p.opts.EmitUnpopulated {
			p.unpopulated(m, unset, f.Index)
			unset = f.Index + 1
		}
		if f.Required {
			required++
		}
		ok := true
		switch {
		case f.Cardinality == schema.Singular && f.Message == nil:
			ok = (j-i == 1 || p.check(f, i, j-1)) && p.member(f, p.occs[j-1])
		case f.Cardinality == schema.Repeated && (!p.opts.EmitUnpopulated || f.Desc.IsExtension()) && p.noElements(f, i, j):
		default:
			p.out = append(p.out, p.name(f)...)
			ok = p.value(f, i, j)
		}
		if !ok {
			return p.inField(f)
		}
		i = j
	}
	if p.opts.EmitUnpopulated {
		p.unpopulated(m, unset, len(m.Fields))
	}
	if required < len(m.Required) && p.partial == 0 {
		return p.lacks(m, base)
	}
	p.occs = p.occs[:base]
	return true
}

// member writes name and value of a singular field that is no message.
func (p *printer) member(f *schema.Field, o occurrence) bool {
	if f.Wire == protowire.BytesType {
		start, end := p.span(o)
		return p.textMember(f, p.in[start:end]) || p.notUTF8(p.in[start:end])
	}
	v, _ := number(p.in, int(o.pos), len(p.in), f.Wire)
	p.numberMember(f, v)
	return true
}

// lacks fails with the required fields of m that are not among occs[base:].
func (p *printer) lacks(m *schema.Message, base int) bool {
	return p.fail(lacks(m, func(f *schema.Field) bool {
		return slices.ContainsFunc(p.occs[base:], func(o occurrence) bool { return o.index() == f.Index })
	}))
}

// unpopulated writes the fields from index i up to end that have no presence, at their zero; with EmitNull also the others
// that are in no oneof, as null.
func (p *printer) unpopulated(m *schema.Message, i, end int) {
	for ; i < end; i++ {
		f := m.Fields[i]
		null := f.Presence
		if f.Desc.IsExtension() || null && (!p.opts.EmitNull || f.Desc.ContainingOneof() != nil) {
			continue
		}
		p.out = append(p.out, p.name(f)...)
		if null {
			p.raw("null")
		} else {
			p.zero(f)
		}
	}
}

// zero writes what a field without presence has when it is not set.
func (p *printer) zero(f *schema.Field) {
	switch {
	case f.Cardinality == schema.Map:
		p.raw("{}")
	case f.Cardinality == schema.Repeated:
		p.raw("[]")
	case f.Kind == protoreflect.StringKind:
		p.raw(`""`)
	case f.Kind == protoreflect.BytesKind:
		p.bytes(nil)
	default:
		p.number(f, 0)
	}
}

// zeroNumber says whether the bits of a number, bool or enum are the zero of its kind. Minus zero is not.
func zeroNumber(f *schema.Field, v uint64) bool {
	if f.Kind != protoreflect.BoolKind && bitSize(f.Kind) == 32 {
		v &= math.MaxUint32
	}
	return v == 0
}

// noElements says whether a run of a repeated field holds nothing but packed lists without elements.
func (p *printer) noElements(f *schema.Field, i, j int) bool {
	if f.PackedTag == 0 {
		return false
	}
	for ; i < j; i++ {
		if o := p.occs[i]; o.typ() != protowire.BytesType || p.in[o.pos] != 0 && !p.emptySpan(o) {
			return false
		}
	}
	return true
}

func (p *printer) emptySpan(o occurrence) bool {
	start, end := p.span(o)
	return start == end
}

// value writes the value of field f from the run occs[i:j].
func (p *printer) value(f *schema.Field, i, j int) bool {
	switch f.Cardinality {
	case schema.Repeated:
		return p.list(f, i, j)
	case schema.Map:
		return p.mapping(f, i, j)
	}
	if f.Message != nil {
		return p.message(f.Message, i, j)
	}
	return p.check(f, i, j-1) && p.scalar(f, p.occs[j-1])
}

func (p *printer) list(f *schema.Field, i, j int) bool {
	p.out = append(p.out, '[')
	if f.Kind == protoreflect.StringKind {
		return p.strings(i, j)
	}
	n := 0
	for ; i < j; i++ {
		o := p.occs[i]
		if o.typ() == protowire.BytesType && f.PackedTag != 0 {
			at, end := p.span(o)
			for at < end {
				if !p.element() {
					return false
				}
				v, next := number(p.in, at, end, f.Wire)
				if next < 0 {
					p.failf("wanted packed values of kind %s, found bytes that are not", f.Kind)
					return p.inElement(n)
				}
				if n > 0 {
					p.out = append(p.out, ',')
				}
				p.number(f, v)
				n++
				at = next
			}
			continue
		}
		if n > 0 {
			p.out = append(p.out, ',')
		}
		var ok bool
		if f.Message != nil {
			ok = p.message(f.Message, i, i+1)
		} else {
			ok = p.scalar(f, o)
		}
		if !ok {
			return p.inElement(n)
		}
		n++
	}
	p.out = append(p.out, ']')
	return true
}

// strings writes the elements of a list of strings, and its end.
func (p *printer) strings(i, j int) bool {
	for n := range j - i {
		start, end := p.span(p.occs[i+n])
		s := p.in[start:end]
		b, at := room(p.out, len(s)+3), len(p.out)
		if n > 0 {
			b[at] = ','
			at++
		}
		if to := putString(b, at, s); to >= 0 {
			p.out = b[:to]
			continue
		}
		var ok bool
		if p.out, ok = appendEscaped(b[:at], s); !ok {
			p.notUTF8(s)
			return p.inElement(n)
		}
	}
	p.out = append(p.out, ']')
	return true
}

// scalar writes one value that is no message.
func (p *printer) scalar(f *schema.Field, o occurrence) bool {
	if f.Wire == protowire.BytesType {
		start, end := p.span(o)
		return p.text(f, p.in[start:end])
	}
	v, _ := number(p.in, int(o.pos), len(p.in), f.Wire)
	p.number(f, v)
	return true
}

// text writes a string, or bytes.
func (p *printer) text(f *schema.Field, s []byte) bool {
	if f.Kind != protoreflect.StringKind {
		p.bytes(s)
		return true
	}
	var ok bool
	if p.out, ok = appendString(p.out, s); !ok {
		return p.notUTF8(s)
	}
	return true
}

func appendBytes(out, s []byte) []byte {
	out = append(out, '"')
	out = base64.StdEncoding.AppendEncode(out, s)
	return append(out, '"')
}

func (p *printer) notUTF8(s []byte) bool {
	i := len(validPrefix(s, len(s)))
	return p.failf("wanted UTF-8 in a string, found byte 0x%02x at offset %d", s[i], i)
}

// number writes a number, bool or enum from its bits on the wire.
func (p *printer) number(f *schema.Field, v uint64) {
	if f.Enum != nil {
		p.enum(f.Enum, int32(v))
		return
	}
	b := room(p.out, numberRoom)
	p.out = b[:p.putNumber(b, len(p.out), f.Kind, v)]
}

// putNumber writes a number or bool at b[n:], where there is room for it.
func (p *printer) putNumber(b []byte, n int, kind protoreflect.Kind, v uint64) int {
	var whole int64
	wide := !p.opts.Int64Numbers
	switch kind {
	case protoreflect.BoolKind:
		if v != 0 {
			return n + copy(b[n:], "true")
		}
		return n + copy(b[n:], "false")
	case protoreflect.FloatKind:
		return putFloat32(b, n, math.Float32frombits(uint32(v)))
	case protoreflect.DoubleKind:
		return putFloat64(b, n, math.Float64frombits(v))
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		whole, wide = int64(int32(v)), false
	case protoreflect.Sint32Kind:
		whole, wide = int64(int32(protowire.DecodeZigZag(v&math.MaxUint32))), false
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		whole, wide = int64(uint32(v)), false
	case protoreflect.Sint64Kind:
		whole = protowire.DecodeZigZag(v)
	default:
		whole = int64(v)
	}
	if wide {
		b[n] = '"'
		n++
	}
	if whole < 0 && kind != protoreflect.Uint64Kind && kind != protoreflect.Fixed64Kind {
		b[n] = '-'
		n++
		whole = -whole
	}
	n = putUint(b, n, uint64(whole))
	if wide {
		b[n] = '"'
		n++
	}
	return n
}

func (p *printer) enum(e *schema.Enum, n int32) { p.out = p.appendEnum(p.out, e, n) }

func (p *printer) appendEnum(out []byte, e *schema.Enum, n int32) []byte {
	if e.Null {
		return append(out, "null"...)
	}
	if !p.opts.EnumNumbers {
		if name, ok := e.NameOf(n); ok {
			out = append(out, '"')
			out = append(out, name...)
			return append(out, '"')
		}
	}
	return appendInt(out, int64(n))
}
