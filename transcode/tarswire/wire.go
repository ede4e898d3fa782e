package tarswire

import (
	"encoding/binary"
	"math/bits"

	"google.golang.org/protobuf/encoding/protowire"
)

func appendVarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// varintLen is the number of bytes of v as a varint.
func varintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func putVarint(b []byte, v uint64) {
	i := 0
	for v >= 0x80 {
		b[i] = byte(v) | 0x80
		v >>= 7
		i++
	}
	b[i] = byte(v)
}

// varint reads a varint at b[i:end]; next is negative when it is cut off or does not fit 64 bits.
func varint(b []byte, i, end int) (v uint64, next int) {
	if i < end && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	for shift := 0; shift < 64 && i < end; shift += 7 {
		c := b[i]
		i++
		if shift == 63 && c > 1 {
			return 0, -1
		}
		v |= uint64(c&0x7F) << shift
		if c < 0x80 {
			return v, i
		}
	}
	return 0, -1
}

// number reads one scalar of a wire type that is not length-delimited.
func number(b []byte, i, end int, typ protowire.Type) (v uint64, next int) {
	switch {
	case typ == protowire.VarintType:
		return varint(b, i, end)
	case typ == protowire.Fixed32Type && end-i >= 4:
		return uint64(binary.LittleEndian.Uint32(b[i:])), i + 4
	case typ == protowire.Fixed64Type && end-i >= 8:
		return binary.LittleEndian.Uint64(b[i:]), i + 8
	}
	return 0, -1
}

// oneByteTag reads what nearly all tags are. It is false for all others.
func oneByteTag(b byte) (num protowire.Number, typ protowire.Type, ok bool) {
	num, typ = protowire.Number(b>>3), protowire.Type(b&7)
	return num, typ, b < 0x80 && num != 0 && typ <= protowire.Fixed32Type
}
