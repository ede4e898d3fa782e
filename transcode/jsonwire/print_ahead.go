package jsonwire

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// aheadFields is the number of fields up to which a message is written ahead. Beyond, sorting takes two passes; with plain
// values written twice on top, a message out of order would cost more than three times what the ordered one does.
const aheadFields = 256

// ahead writes the fields at the start of the message m, of which occs[part] is the only part, in the same look in which it
// finds them: as long as they come in the order of the table, each once, and are plain. It returns where it stops, -1 for the
// end, and the index of the last field that it wrote, or -1.
//
// What is written so has to be taken back when a field follows that belongs before it. That costs plain values of this one
// message, and once: nothing that has messages inside is written before all of its message is known.
func (p *printer) ahead(m *schema.Message, part int) (next, last int) {
	i, end := p.span(p.occs[part])
	in := p.in[:end]
	first := p.elements
	last = -1
	for i < len(in) && p.elements < p.maxElements {
		tag, at := uint64(in[i]), i+1
		if tag >= 0x80 {
			tag, at = longVarint(in, i, len(in))
		}
		f := m.ByNumber(protowire.Number(tag >> 3)) // cut to 32 bits it may be a field's, but the tag is not
		if f == nil || f.Tag != tag || !f.Plain || f.Index <= last || at >= len(in) {
			break
		}
		// A number, or the length of a string.
		v, stop := uint64(in[at]), at+1
		if f.Wire != protowire.BytesType && f.Wire != protowire.VarintType {
			v, stop = number(in, at, len(in), f.Wire)
		} else if v >= 0x80 {
			v, stop = longVarint(in, at, len(in))
		}
		if stop < 0 {
			break
		}
		if f.Wire == protowire.BytesType {
			if v > uint64(len(in)-stop) {
				break
			}
			s := in[stop : stop+int(v)]
			if stop += int(v); !p.textMember(f, s) {
				break // index comes here again, after what else is wrong before it
			}
		} else {
			p.numberMember(f, v)
		}
		p.elements++
		last, i = f.Index, stop
	}
	p.steps += 2 * (p.elements - first)
	if i == len(in) {
		i = -1
	}
	return i, last
}

// takeBack makes up for what was written ahead, up to the offset stop, and must not have been: its occurrences join those that
// followed, occs[base:], in front of them and sorted with them.
func (p *printer) takeBack(m *schema.Message, part, base, stop int) {
	first := len(p.occs)
	for i, end := p.span(p.occs[part]); i < stop; {
		f, typ, at, next := p.next(m, i, end)
		p.push(occurrence{pos: uint32(at), info: uint32(f.Index)<<3 | uint32(typ)})
		p.steps++
		i = next
	}
	slices.Reverse(p.occs[base:first])
	slices.Reverse(p.occs[first:])
	slices.Reverse(p.occs[base:])
	p.sort(base, len(m.Fields))
}

// textMember writes name and value of a field of strings or bytes; nothing for an empty one without presence. It is false, and
// nothing is written, when a string is not UTF-8.
func (p *printer) textMember(f *schema.Field, s []byte) bool {
	if len(s) == 0 && !f.Presence && !p.opts.EmitUnpopulated {
		return true
	}
	name := p.name(f)
	b := room(p.out, len(name)+len(s)+2)
	n := len(p.out) + copy(b[len(p.out):], name)
	if f.Kind != protoreflect.StringKind {
		p.out = b[:n]
		p.bytes(s)
		return true
	}
	if end := putString(b, n, s); end >= 0 {
		p.out = b[:end]
		return true
	}
	out, ok := appendEscaped(b[:n], s)
	if ok {
		p.out = out
	}
	return ok
}

// numberMember writes name and value of a field of numbers; nothing for a zero without presence.
func (p *printer) numberMember(f *schema.Field, v uint64) {
	if uint32(v) == 0 && !f.Presence && !p.opts.EmitUnpopulated && zeroNumber(f, v) {
		return
	}
	name := p.name(f)
	b := room(p.out, len(name)+numberRoom)
	n := len(p.out) + copy(b[len(p.out):], name)
	if f.Enum != nil {
		p.out = p.appendEnum(b[:n], f.Enum, int32(v))
		return
	}
	p.out = b[:p.putNumber(b, n, f.Kind, v)]
}

// name is the name of a member, behind a comma.
func (p *printer) name(f *schema.Field) string {
	if p.named {
		return p.otherName(f)
	}
	return f.JSONNext
}
