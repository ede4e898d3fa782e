package tarswire

import (
	"encoding/binary"
	"math"
)

// Type is the type of an encoded value, the low four bits of its head.
type Type uint8

// The types.
const (
	Byte Type = iota
	Short
	Int
	Long
	Float
	Double
	String1 // one byte of length
	String4 // four bytes of length
	Map
	List
	StructBegin
	StructEnd
	Zero       // the number 0, without bytes
	SimpleList // bytes
)

var typeNames = [...]string{"BYTE", "SHORT", "INT", "LONG", "FLOAT", "DOUBLE", "STRING1", "STRING4", "MAP", "LIST", "STRUCT_BEGIN", "STRUCT_END", "ZERO", "SIMPLE_LIST", "type 14", "type 15"}

// String returns the type as the protocol's documents have it.
func (t Type) String() string { return typeNames[t&0xF] }

// AppendHead appends the head of a value.
func AppendHead(dst []byte, tag uint8, t Type) []byte {
	if tag < 15 {
		return append(dst, tag<<4|byte(t))
	}
	return append(dst, 0xF0|byte(t), tag)
}

// AppendInt appends a number of any integer type in as few bytes as hold it.
func AppendInt(dst []byte, tag uint8, v int64) []byte {
	switch {
	case v == 0:
		return AppendHead(dst, tag, Zero)
	case v >= math.MinInt8 && v <= math.MaxInt8:
		return append(AppendHead(dst, tag, Byte), byte(v))
	case v >= math.MinInt16 && v <= math.MaxInt16:
		return binary.BigEndian.AppendUint16(AppendHead(dst, tag, Short), uint16(v))
	case v >= math.MinInt32 && v <= math.MaxInt32:
		return binary.BigEndian.AppendUint32(AppendHead(dst, tag, Int), uint32(v))
	}
	return binary.BigEndian.AppendUint64(AppendHead(dst, tag, Long), uint64(v))
}

// AppendStringHead appends what stands before the n bytes of a string.
func AppendStringHead(dst []byte, tag uint8, n int) []byte {
	if n <= math.MaxUint8 {
		return append(AppendHead(dst, tag, String1), byte(n))
	}
	return binary.BigEndian.AppendUint32(AppendHead(dst, tag, String4), uint32(n))
}

// AppendString appends a string.
func AppendString(dst []byte, tag uint8, s string) []byte {
	return append(AppendStringHead(dst, tag, len(s)), s...)
}

// AppendBytes appends a vector<byte>.
func AppendBytes(dst []byte, tag uint8, b []byte) []byte {
	return append(AppendBytesHead(dst, tag, len(b)), b...)
}

// AppendBytesHead appends what stands before the n bytes of a vector<byte>.
func AppendBytesHead(dst []byte, tag uint8, n int) []byte {
	dst = append(AppendHead(dst, tag, SimpleList), byte(Byte))
	return AppendInt(dst, 0, int64(n))
}

// AppendMapHead appends what stands before the n entries of a map: each is a key with tag 0 and a value with tag 1.
func AppendMapHead(dst []byte, tag uint8, n int) []byte {
	return AppendInt(AppendHead(dst, tag, Map), 0, int64(n))
}

// Reader reads values one after the other. After a fault every call reports it: Fault says which.
type Reader struct {
	in    []byte
	pos   int
	fault string
}

// NewReader reads in, which must not change as long as the Reader and what it gave are used.
func NewReader(in []byte) Reader { return Reader{in: in} }

// Fault is what was wrong first, or "".
func (r *Reader) Fault() string { return r.fault }

// More says that there is a value to read.
func (r *Reader) More() bool { return r.fault == "" && r.pos < len(r.in) }

// Offset is how many bytes were read.
func (r *Reader) Offset() int { return r.pos }

// Since gives the bytes that were read since an offset.
func (r *Reader) Since(offset int) []byte { return r.in[offset:r.pos:r.pos] }

func (r *Reader) fail(msg string) {
	if r.fault == "" {
		r.fault = msg
	}
	r.pos = len(r.in)
}

// Head reads the head of a value.
func (r *Reader) Head() (tag uint8, t Type) {
	tag, t, next := head(r.in, r.pos)
	if next < 0 {
		r.fail("wanted a value, found the end of the data or a type that does not exist")
		return 0, Zero
	}
	r.pos = next
	return tag, t
}

// Int reads a number whose head had type t; widest is the type it is declared with.
func (r *Reader) Int(t, widest Type) int64 {
	v, next := integer(r.in, r.pos, t, widest)
	if next < 0 {
		r.fail("wanted an integer of type " + widest.String() + " or narrower, found " + t.String())
		return 0
	}
	r.pos = next
	return v
}

// Number reads a value with its head if that is next, has the tag, and is a number no wider than widest. Otherwise it reads
// nothing, and there is no fault.
func (r *Reader) Number(tag uint8, widest Type) (v int64, ok bool) {
	at, t, next := head(r.in, r.pos)
	if next < 0 || at != tag {
		return 0, false
	}
	if v, next = integer(r.in, next, t, widest); next < 0 {
		return 0, false
	}
	r.pos = next
	return v, true
}

// Bytes reads a string or a vector<byte> in its form SIMPLE_LIST. The result is part of the input.
func (r *Reader) Bytes(t Type) []byte {
	var start, end int
	switch t {
	case String1, String4:
		start, end = str(r.in, r.pos, t)
	case SimpleList:
		start, end = simpleList(r.in, r.pos)
	default:
		r.fail("wanted a string or bytes, found " + t.String())
		return nil
	}
	if end < 0 {
		r.fail("wanted a length within the data, found a larger one")
		return nil
	}
	r.pos = end
	return r.in[start:end:end]
}

// Len reads the number of elements of a LIST, or of entries of a MAP.
func (r *Reader) Len(t Type) int {
	least := 1
	if t == Map {
		least = 2
	}
	n, next := length(r.in, r.pos, least)
	if next < 0 {
		r.fail("wanted a number of elements that the data can hold, found another")
		return 0
	}
	r.pos = next
	return n
}

// Skip passes over a value whose head had type t.
func (r *Reader) Skip(t Type) {
	s := skipper{in: r.in, depth: defaultDepth, left: len(r.in)}
	next := s.skip(t, r.pos)
	if next < 0 {
		r.fail("wanted a value of type " + t.String() + ", found bytes that are not")
		return
	}
	r.pos = next
}

// head reads the head at in[i:]; next is negative when there is none.
func head(in []byte, i int) (tag uint8, t Type, next int) {
	if i >= len(in) {
		return 0, 0, -1
	}
	b := in[i]
	if t = Type(b & 0xF); t > SimpleList {
		return 0, 0, -1
	}
	if b < 0xF0 {
		return b >> 4, t, i + 1
	}
	if i+1 >= len(in) {
		return 0, 0, -1
	}
	return in[i+1], t, i + 2
}

// integer reads a number of type t, which must not be wider than widest.
func integer(in []byte, i int, t, widest Type) (v int64, next int) {
	if t == Zero {
		return 0, i
	}
	if t > widest || t > Long {
		return 0, -1
	}
	n := 1 << t
	if len(in)-i < n {
		return 0, -1
	}
	switch t {
	case Byte:
		return int64(int8(in[i])), i + 1
	case Short:
		return int64(int16(binary.BigEndian.Uint16(in[i:]))), i + 2
	case Int:
		return int64(int32(binary.BigEndian.Uint32(in[i:]))), i + 4
	default:
		return int64(binary.BigEndian.Uint64(in[i:])), i + 8
	}
}

// str gives the bounds of a string's bytes; end is negative when they are not all there.
func str(in []byte, i int, t Type) (start, end int) {
	if t == String1 {
		if i >= len(in) || len(in)-i-1 < int(in[i]) {
			return 0, -1
		}
		return i + 1, i + 1 + int(in[i])
	}
	if len(in)-i < 4 {
		return 0, -1
	}
	n := binary.BigEndian.Uint32(in[i:])
	if uint64(n) > uint64(len(in)-i-4) {
		return 0, -1
	}
	return i + 4, i + 4 + int(n)
}

// length reads a count, an int with tag 0, of things of which each has at least so many bytes.
func length(in []byte, i, least int) (n, next int) {
	tag, t, next := head(in, i)
	if next < 0 || tag != 0 {
		return 0, -1
	}
	v, next := integer(in, next, t, Int)
	if next < 0 || v < 0 || v > int64((len(in)-next)/least) {
		return 0, -1
	}
	return int(v), next
}

// simpleList gives the bounds of the bytes behind the head of a SIMPLE_LIST.
func simpleList(in []byte, i int) (start, end int) {
	if i >= len(in) || in[i] != byte(Byte) {
		return 0, -1
	}
	n, next := length(in, i+1, 1)
	if next < 0 {
		return 0, -1
	}
	return next, next + n
}

// skipper passes over values of any type.
type skipper struct {
	in    []byte
	depth int // how deep values may nest
	left  int // how many values may be looked at
	steps int // values looked at
}

// skip passes over the value of type t whose head ends at i; -1 when it is not well formed.
func (s *skipper) skip(t Type, i int) int {
	if s.steps++; s.steps > s.left {
		return -1
	}
	switch t {
	case Byte, Short, Int, Long:
		i += 1 << t
	case Float:
		i += 4
	case Double:
		i += 8
	case String1, String4:
		_, i = str(s.in, i, t)
		return i
	case Zero:
		return i
	case SimpleList:
		_, i = simpleList(s.in, i)
		return i
	case Map, List, StructBegin:
		return s.skipNested(t, i)
	default:
		return -1
	}
	if i > len(s.in) {
		return -1
	}
	return i
}

func (s *skipper) skipNested(t Type, i int) int {
	if s.depth--; s.depth < 0 {
		return -1
	}
	defer func() { s.depth++ }()
	n := -1
	switch t {
	case List:
		n, i = length(s.in, i, 1)
	case Map:
		n, i = length(s.in, i, 2)
		n *= 2
	}
	for ; n != 0 && i >= 0; n-- {
		_, t, next := head(s.in, i)
		if next < 0 {
			return -1
		}
		if t == StructEnd {
			if n > 0 { // no element
				return -1
			}
			return next
		}
		i = s.skip(t, next)
	}
	return i
}
