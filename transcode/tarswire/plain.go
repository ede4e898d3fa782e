package tarswire

import (
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// plain says of a field that its value, or each element of its list, has one of the forms that most values have: head and tag
// are one byte each, and nothing else of the field needs a look.
type plain uint8

const (
	notPlain plain = iota
	plainText
	plainNumber // a varint, and not zigzag
	plainDouble
	plainStruct
)

func (f *field) plainness() plain {
	if f.wireTag >= 0x80 || f.shape != single && (f.shape != list || f.packedTag != 0) {
		return notPlain
	}
	switch f.kind {
	case tarsv1.Type_STRING:
		return plainText
	case tarsv1.Type_STRUCT:
		return plainStruct
	case tarsv1.Type_DOUBLE:
		return plainDouble
	}
	if f.wire == protowire.VarintType && !f.zigzag {
		return plainNumber
	}
	return notPlain
}

// room gives b with at least n bytes behind it.
func room(b []byte, n int) []byte {
	if cap(b)-len(b) < n {
		b = slices.Grow(b, n)
	}
	return b
}

// copyASCII copies s to the beginning of to, which is as long, and says whether it is all ASCII. It is looked at and copied in
// the same pieces of eight bytes, the last of which may overlap the one before.
func copyASCII(to, s []byte) bool {
	const highBits = 0x8080808080808080
	n := len(s)
	to = to[:n]
	if n < 8 {
		switch {
		case n >= 4:
			x, y := binary.LittleEndian.Uint32(s), binary.LittleEndian.Uint32(s[n-4:])
			binary.LittleEndian.PutUint32(to, x)
			binary.LittleEndian.PutUint32(to[n-4:], y)
			return (x|y)&(highBits&0xFFFFFFFF) == 0
		case n >= 2:
			x, y := binary.LittleEndian.Uint16(s), binary.LittleEndian.Uint16(s[n-2:])
			binary.LittleEndian.PutUint16(to, x)
			binary.LittleEndian.PutUint16(to[n-2:], y)
			return (x|y)&(highBits&0xFFFF) == 0
		case n == 1:
			to[0] = s[0]
			return s[0] < 0x80
		}
		return true
	}
	all := binary.LittleEndian.Uint64(s[n-8:])
	binary.LittleEndian.PutUint64(to[n-8:], all)
	for len(s) > 8 {
		x := binary.LittleEndian.Uint64(s)
		binary.LittleEndian.PutUint64(to, x)
		all |= x
		s, to = s[8:], to[8:]
	}
	return all&highBits == 0
}
