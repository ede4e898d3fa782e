package jsonwire

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"

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
		p.out = append(p.out, '{')
		ok = p.fields(m, lo, hi, true)
		p.out = append(p.out, '}')
	} else {
		ok = p.wellKnown(m, lo, hi)
	}
	p.depth--
	return ok
}

// fields writes the members of m without the braces; first says that none stands before them.
func (p *printer) fields(m *schema.Message, lo, hi int, first bool) bool {
	base := len(p.occs)
	if !p.index(m, lo, hi) {
		return false
	}
	top := len(p.occs)
	required, next := 0, 0
	for i := base; i < top; {
		j := p.run(i, top)
		p.steps += j - i
		f := m.Fields[p.occs[i].index()]
		if p.opts.EmitUnpopulated {
			first = p.unpopulated(m, next, f.Index, first)
			next = f.Index + 1
		}
		if f.Required {
			required++
		}
		switch {
		case f.Cardinality == schema.Singular && !f.Presence && !p.opts.EmitUnpopulated && p.isZero(f, p.occs[j-1]):
			if !p.check(f, i, j) {
				return p.inField(f)
			}
		case f.Cardinality == schema.Repeated && (!p.opts.EmitUnpopulated || f.Desc.IsExtension()) && p.noElements(f, i, j):
		default:
			if !first {
				p.out = append(p.out, ',')
			}
			first = false
			if p.opts.ProtoNames {
				p.out = append(p.out, f.ProtoKey...)
			} else {
				p.out = append(p.out, f.JSONKey...)
			}
			if !p.value(f, i, j) {
				return p.inField(f)
			}
		}
		i = j
	}
	if p.opts.EmitUnpopulated {
		p.unpopulated(m, next, len(m.Fields), first)
	}
	if required < len(m.Required) && p.partial == 0 {
		return p.lacks(m, base)
	}
	p.occs = p.occs[:base]
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
func (p *printer) unpopulated(m *schema.Message, i, end int, first bool) bool {
	for ; i < end; i++ {
		f := m.Fields[i]
		null := f.Presence
		if f.Desc.IsExtension() || null && (!p.opts.EmitNull || f.Desc.ContainingOneof() != nil) {
			continue
		}
		if !first {
			p.out = append(p.out, ',')
		}
		first = false
		if p.opts.ProtoNames {
			p.out = append(p.out, f.ProtoKey...)
		} else {
			p.out = append(p.out, f.JSONKey...)
		}
		if null {
			p.raw("null")
		} else {
			p.zero(f)
		}
	}
	return first
}

// zero writes what a field without presence has when it is not set.
func (p *printer) zero(f *schema.Field) {
	switch {
	case f.Cardinality == schema.Map:
		p.raw("{}")
	case f.Cardinality == schema.Repeated:
		p.raw("[]")
	case f.Kind == protoreflect.StringKind || f.Kind == protoreflect.BytesKind:
		p.raw(`""`)
	default:
		p.number(f, 0)
	}
}

// isZero says whether the value of a singular scalar is the zero of its kind. Minus zero is not.
func (p *printer) isZero(f *schema.Field, o occurrence) bool {
	if o.typ() == protowire.BytesType {
		return p.emptySpan(o)
	}
	v, _ := number(p.in, int(o.pos), len(p.in), o.typ())
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
	if j-i > 1 && !p.check(f, i, j-1) {
		return false
	}
	return p.scalar(f, p.occs[j-1])
}

func (p *printer) list(f *schema.Field, i, j int) bool {
	p.out = append(p.out, '[')
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

// scalar writes one value that is no message.
func (p *printer) scalar(f *schema.Field, o occurrence) bool {
	switch f.Kind {
	case protoreflect.StringKind:
		start, end := p.span(o)
		var ok bool
		if p.out, ok = appendString(p.out, p.in[start:end]); !ok {
			return p.notUTF8(p.in[start:end])
		}
		return true
	case protoreflect.BytesKind:
		start, end := p.span(o)
		p.out = append(p.out, '"')
		p.out = base64.StdEncoding.AppendEncode(p.out, p.in[start:end])
		p.out = append(p.out, '"')
		return true
	}
	v, _ := number(p.in, int(o.pos), len(p.in), f.Wire)
	p.number(f, v)
	return true
}

func (p *printer) notUTF8(s []byte) bool {
	i := len(validPrefix(s, len(s)))
	return p.failf("wanted UTF-8 in a string, found byte 0x%02x at offset %d", s[i], i)
}

// number writes a number, bool or enum from its bits on the wire.
func (p *printer) number(f *schema.Field, v uint64) {
	switch f.Kind {
	case protoreflect.BoolKind:
		if v != 0 {
			p.raw("true")
		} else {
			p.raw("false")
		}
	case protoreflect.EnumKind:
		p.enum(f.Enum, int32(v))
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		p.out = strconv.AppendInt(p.out, int64(int32(v)), 10)
	case protoreflect.Sint32Kind:
		p.out = strconv.AppendInt(p.out, int64(int32(protowire.DecodeZigZag(v&math.MaxUint32))), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		p.out = strconv.AppendUint(p.out, uint64(uint32(v)), 10)
	case protoreflect.FloatKind:
		p.out = appendFloat(p.out, float64(math.Float32frombits(uint32(v))), 32)
	case protoreflect.DoubleKind:
		p.out = appendFloat(p.out, math.Float64frombits(v), 64)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		p.quote64()
		p.out = strconv.AppendUint(p.out, v, 10)
		p.quote64()
	default:
		if f.Kind == protoreflect.Sint64Kind {
			v = uint64(protowire.DecodeZigZag(v))
		}
		p.quote64()
		p.out = strconv.AppendInt(p.out, int64(v), 10)
		p.quote64()
	}
}

func (p *printer) quote64() {
	if !p.opts.Int64Numbers {
		p.out = append(p.out, '"')
	}
}

func (p *printer) enum(e *schema.Enum, n int32) {
	if e.Null {
		p.raw("null")
		return
	}
	if !p.opts.EnumNumbers {
		if name, ok := e.NameOf(n); ok {
			p.out = append(p.out, '"')
			p.out = append(p.out, name...)
			p.out = append(p.out, '"')
			return
		}
	}
	p.out = strconv.AppendInt(p.out, int64(n), 10)
}
