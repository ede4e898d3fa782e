package tarswire

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// ahead writes the members of m, whose wire form is in[i:end], in the same look in which it finds them: as long as they come
// in the order of the table, and what is single comes once. It is false when they do not, and when anything is wrong: what was
// written then has no meaning, and members, for which any order is right, writes it all anew and says what is wrong. That is
// done once for a whole translation, so that it costs twice as much at most.
func (e *encoder) ahead(m *Message, i, end int) bool {
	in := e.in[:end]
	next := 0 // the index of the first field that was not written
	for i < len(in) {
		b := in[i]
		f := m.number(protowire.Number(b >> 3))
		if b >= 0x80 {
			num, _, _ := e.tag(i, end, maxNumber)
			f = m.number(num)
		}
		if f == nil || f.index < next {
			return false
		}
		for ; next < f.index; next++ {
			if !e.absent(m, m.fields[next], m.fields[next].tag) {
				return false
			}
		}
		next = f.index + 1
		switch {
		case f.plain == notPlain || uint64(b) != f.wireTag:
			i = e.runAhead(m, f, i, end)
		case f.shape == list:
			i = e.listAhead(f, i, end)
		default:
			if e.elements++; e.elements > e.maxElements {
				return false
			}
			i = e.plainAhead(m, f, i+1, end)
		}
		if i < 0 {
			return false
		}
	}
	for ; next < len(m.fields); next++ {
		if !e.absent(m, m.fields[next], m.fields[next].tag) {
			return false
		}
	}
	return true
}

// plainAhead writes a single plain field whose value begins at in[i], and returns where that ends, or -1.
func (e *encoder) plainAhead(m *Message, f *field, i, end int) int {
	switch f.plain {
	case plainText:
		n, at := e.size(i, end)
		switch {
		case n < 0:
			return -1
		case n == 0 && !f.presence:
			break
		case !e.textAhead(f.tag, at, n):
			return -1
		default:
			return at + n
		}
		i = at
	case plainStruct:
		n, at := e.size(i, end)
		if n < 0 || !e.structureAhead(f, f.tag, at, at+n) {
			return -1
		}
		return at + n
	case plainDouble:
		if end-i < 8 {
			return -1
		}
		v := binary.LittleEndian.Uint64(e.in[i:])
		if i += 8; v != 0 || f.presence {
			e.out = binary.BigEndian.AppendUint64(append(e.out, f.tag<<4|byte(Double)), v)
			return i
		}
	default:
		v, at := varint(e.in, i, end)
		if at < 0 {
			return -1
		}
		if f.isBool {
			v = min(v, 1)
		}
		i = at
		switch {
		case v-1 < math.MaxInt8: // which every type holds
			e.out = append(e.out, f.tag<<4|byte(Byte), byte(v))
			return i
		case v != 0 || f.presence:
			if !e.number(f, f.tag, v) {
				return -1
			}
			return i
		}
	}
	// A zero that protobuf does not tell from nothing.
	if !e.absent(m, f, f.tag) {
		return -1
	}
	return i
}

// listAhead writes a list of plain elements, of which the first has its tag at in[i], and returns where the last ends, or -1.
func (e *encoder) listAhead(f *field, i, end int) int {
	n, tag := 0, byte(f.wireTag)
	for at := i; at < end && e.in[at] == tag; n++ {
		size, start := e.size(at+1, end)
		if size < 0 {
			return -1
		}
		at = start + size
	}
	if !e.count(n) || !e.deeper() {
		return -1
	}
	e.out = AppendInt(append(e.out, f.tag<<4|byte(List)), 0, int64(n))
	for range n {
		size, start := e.size(i+1, end)
		i = start + size
		if f.plain == plainText && !e.textAhead(0, start, size) || f.plain == plainStruct && !e.structureAhead(f, 0, start, i) {
			return -1
		}
	}
	e.depth--
	return i
}

// runAhead writes a field that is not plain, whose first occurrence begins at in[i], from those that follow each other, and
// returns where the last ends, or -1.
func (e *encoder) runAhead(m *Message, f *field, i, end int) int {
	base := len(e.occs)
	for i < end {
		num, typ, next := e.tag(i, end, maxNumber)
		if next < 0 {
			return -1
		}
		if m.number(num) != f {
			break
		}
		if !e.count(1) || f.wireType() != typ && (f.packedTag == 0 || typ != protowire.BytesType) {
			return -1
		}
		if i = e.skip(num, typ, next, end, e.maxDepth); i < 0 {
			return -1
		}
		if len(e.occs) == cap(e.occs) {
			e.room(i, end, 0, 1)
		}
		e.occs = append(e.occs, occurrence{pos: uint32(next), info: uint32(f.index)<<3 | uint32(typ)})
	}
	top := len(e.occs)
	var ok bool
	if e.unset(f, base, top) {
		ok = e.absent(m, f, f.tag)
	} else {
		ok = e.value(f, f.tag, base, top)
	}
	if !ok {
		return -1
	}
	e.occs = e.occs[:base]
	return i
}

// structureAhead is structure for what is at in[i:end].
func (e *encoder) structureAhead(f *field, tag uint8, i, end int) bool {
	if !e.deeper() {
		return false
	}
	e.out = append(e.out, tag<<4|byte(StructBegin))
	if !e.ahead(f.message, i, end) {
		return false
	}
	e.out = append(e.out, byte(StructEnd))
	e.depth--
	return true
}

// size reads the length at in[i:end] of what follows it; negative when that is not there.
func (e *encoder) size(i, end int) (n, next int) {
	if i < end && e.in[i] < 0x80 && int(e.in[i]) < end-i {
		return int(e.in[i]), i + 1
	}
	v, next := varint(e.in, i, end)
	if next < 0 || v > uint64(end-next) {
		return -1, -1
	}
	return int(v), next
}

// textAhead writes the string that is in[at:at+n].
func (e *encoder) textAhead(tag uint8, at, n int) bool {
	s := e.in[at : at+n]
	if n > math.MaxUint8 || e.charset != UTF8 {
		return e.str(tag, s)
	}
	start := len(e.out)
	e.out = room(e.out, n+2)
	b := e.out[start : start+n+2]
	b[0], b[1] = tag<<4|byte(String1), byte(n)
	if !copyASCII(b[2:], s) && !utf8.Valid(s) {
		return e.str(tag, s)
	}
	e.out = e.out[:start+n+2]
	return true
}
