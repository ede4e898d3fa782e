package jsonwire

import (
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// ahead writes the fields at the start of the message m, of which o is the only part, in the same look in which it finds them: as long as they
// come in the order of the table, each once, and are plain. It appends their occurrences like index, which goes on where
// ahead stops, at next; last is the index of the last field that was written, or -1.
//
// What is written so has to be taken back when a field follows that belongs before it. That costs plain values of this one
// message, and once: nothing that has messages inside is written before all of its message is known.
func (p *printer) ahead(m *schema.Message, o occurrence) (next, last int) {
	i, end := p.span(o)
	in := p.in[:end]
	last = -1
	for i < len(in) && len(p.occs) < cap(p.occs) && p.elements < p.maxElements {
		tag, at := varint(in, i, len(in))
		f := m.ByNumber(protowire.Number(tag >> 3)) // cut to 32 bits it may be a field's, but the tag is not
		if f == nil || f.Tag != tag || !f.Plain || f.Index <= last {
			break
		}
		var v uint64
		var stop int
		switch f.Wire {
		case protowire.BytesType:
			if v, stop = varint(in, at, len(in)); stop < 0 || v > uint64(len(in)-stop) {
				return i, last
			}
			start := stop
			stop += int(v)
			if !p.textMember(f, in[start:stop]) {
				return i, last // index comes here again, after what else is wrong before it
			}
		case protowire.VarintType:
			if v, stop = varint(in, at, len(in)); stop < 0 {
				return i, last
			}
			p.numberMember(f, v)
		default:
			if v, stop = number(in, at, len(in), f.Wire); stop < 0 {
				return i, last
			}
			p.numberMember(f, v)
		}
		p.occs = append(p.occs, occurrence{pos: uint32(at), info: uint32(f.Index)<<3 | uint32(f.Wire)})
		p.elements++
		p.steps += 2
		last, i = f.Index, stop
	}
	return i, last
}

// textMember writes name and value of a field of strings or bytes; nothing for an empty one without presence. It is false, and
// nothing is written, when a string is not UTF-8.
func (p *printer) textMember(f *schema.Field, s []byte) bool {
	if len(s) == 0 && !f.Presence && !p.opts.EmitUnpopulated {
		return true
	}
	b, n := p.begin(f, len(s)+2)
	if f.Kind == protoreflect.StringKind {
		if end := putString(b, n, s); end >= 0 {
			p.out = b[:end]
			return true
		}
	}
	out, ok := appendText(b[:n], f, s)
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
	b, n := p.begin(f, numberRoom)
	if f.Enum != nil {
		p.out = p.appendEnum(b[:n], f.Enum, int32(v))
		return
	}
	p.out = b[:p.putNumber(b, n, f.Kind, v)]
}

// begin writes the name of a member, behind a comma unless it is the first: only then does a brace stand before it. It returns
// p.out up to its capacity, with at least size bytes behind n, where the value begins.
func (p *printer) begin(f *schema.Field, size int) (b []byte, n int) {
	name := f.JSONKey
	if p.opts.ProtoNames {
		name = f.ProtoKey
	}
	b, n = p.out, len(p.out)
	if cap(b)-n <= len(name)+size {
		b = slices.Grow(b, len(name)+size+1)
	}
	b = b[:cap(b)]
	if b[n-1] != '{' {
		b[n] = ','
		n++
	}
	to := b[n : n+len(name)]
	if len(name) < 8 {
		if len(name) < 4 { // an empty name
			return b, n + copy(to, name)
		}
		binary.LittleEndian.PutUint32(to, load32(name, 0))
		binary.LittleEndian.PutUint32(to[len(to)-4:], load32(name, len(name)-4))
		return b, n + len(name)
	}
	for i := 0; i+8 <= len(name); i += 8 {
		binary.LittleEndian.PutUint64(to[i:], load64(name, i))
	}
	binary.LittleEndian.PutUint64(to[len(to)-8:], load64(name, len(name)-8))
	return b, n + len(name)
}

func load32(s string, i int) uint32 {
	s = s[i : i+4]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func load64(s string, i int) uint64 {
	s = s[i : i+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
