package tarswire

import (
	"encoding/binary"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// structure reads the members of a struct up to STRUCT_END.
func (d *decoder) structure(m *Message) bool { return d.deeper() && d.members(m, true) }

// members reads the members of m, up to STRUCT_END when they are nested and else up to the end of the input. Plain values are
// read here, from copies of what d holds; all else, and all that is wrong, is left to member.
func (d *decoder) members(m *Message, nested bool) bool {
	var seen mask
	in, pos, out := d.in, d.pos, d.out
	for pos < len(in) {
		b := in[pos]
		if b == byte(StructEnd) && nested {
			d.pos, d.out = pos+1, out
			d.depth--
			return d.complete(m, &seen)
		}
		// The tag of a longer head is 15 here, and no field with that tag is plain.
		if tag, t := b>>4, Type(b&0xF); int(tag) < len(m.byTag) && d.elements < d.maxElements {
			if f := m.byTag[tag]; f != nil && f.shape == single && f.plain != notPlain && seen[0]>>tag&1 == 0 {
				next := -1
				switch f.plain {
				case plainText:
					if t == String1 && d.charset == UTF8 {
						out, next = text(out, in, pos+1, f)
					}
				case plainNumber:
					out, next = varintOf(out, in, pos+1, f, t)
				case plainDouble:
					if t == Double {
						out, next = double(out, in, pos+1, f)
					}
				case plainStruct:
					if t != StructBegin {
						break
					}
					d.elements++
					d.pos, d.out = pos+1, append(out, byte(f.wireTag))
					g := d.openLen()
					if !d.structure(f.message) {
						return d.inField(f)
					}
					d.closeLen(g)
					if f.lean {
						d.dropZero(f, len(out))
					}
					seen[0] |= 1 << tag
					pos, out = d.pos, d.out
					continue
				}
				if next >= 0 {
					d.elements++
					seen[0] |= 1 << tag
					pos = next
					continue
				}
			}
		}
		d.pos, d.out = pos, out
		tag, t, ok := d.head()
		if !ok {
			return false
		}
		if t == StructEnd && nested {
			d.depth--
			return d.complete(m, &seen)
		}
		if !d.member(m, tag, t, &seen) {
			return false
		}
		pos, out = d.pos, d.out
	}
	d.pos, d.out = pos, out
	if nested {
		return d.cut()
	}
	return d.complete(m, &seen)
}

// text reads a STRING1 behind its head and appends it with its tag. next is negative, and nothing is appended, when it is not
// of the kind that needs one byte for its length in both forms, or wrong.
func text(out, in []byte, i int, f *field) (_ []byte, next int) {
	if i >= len(in) {
		return out, -1
	}
	n := int(in[i])
	i++
	if n >= 0x80 || n > len(in)-i {
		return out, -1
	}
	if n == 0 && f.lean {
		return out, i
	}
	at := len(out)
	out = room(out, n+2)
	b := out[at : at+n+2]
	b[0], b[1] = byte(f.wireTag), byte(n)
	s := in[i : i+n]
	if !copyASCII(b[2:], s) && !utf8.Valid(s) {
		return out, -1
	}
	return out[:at+n+2], i + n
}

// varintOf reads a number of type t behind its head and appends it with its tag; next is negative, and nothing is appended,
// when it is wrong.
func varintOf(out, in []byte, i int, f *field, t Type) (_ []byte, next int) {
	v, next := integer(in, i, t, f.widest)
	if next < 0 {
		return out, -1
	}
	if f.isBool && v != 0 {
		v = 1
	}
	if v < f.low || v > f.high {
		return out, -1
	}
	if v == 0 && f.lean {
		return out, next
	}
	if uint64(v) < 0x80 {
		return append(out, byte(f.wireTag), byte(v)), next
	}
	out = room(out, 11)
	at := len(out)
	b := out[at : at+11]
	b[0] = byte(f.wireTag)
	n := 1
	u := uint64(v)
	for ; u >= 0x80 && n < 10; n++ {
		b[n] = byte(u) | 0x80
		u >>= 7
	}
	b[n] = byte(u)
	return out[:at+n+1], next
}

// double reads a DOUBLE behind its head and appends it with its tag; next is negative, and nothing is appended, when it is cut.
func double(out, in []byte, i int, f *field) (_ []byte, next int) {
	if len(in)-i < 8 {
		return out, -1
	}
	v := binary.BigEndian.Uint64(in[i:])
	if v == 0 && f.lean {
		return out, i + 8
	}
	return protowire.AppendFixed64(append(out, byte(f.wireTag)), v), i + 8
}
