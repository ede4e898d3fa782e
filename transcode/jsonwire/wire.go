package jsonwire

import (
	"encoding/binary"
	"math/bits"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxNumber is the highest field number that a message may have.
const maxNumber = uint64(protowire.MaxValidNumber)

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
	return longVarint(b, i, end)
}

// longVarint is the slow half of varint. Up to eight bytes are read at once, and their groups of seven bits moved together.
func longVarint(b []byte, i, end int) (v uint64, next int) {
	if i+8 <= end {
		x := binary.LittleEndian.Uint64(b[i:])
		if last := ^x & highBits; last != 0 {
			n := bits.TrailingZeros64(last) + 1
			x &= 1<<n - 1
			x = x&0x007F007F007F007F | x&0x7F007F007F007F00>>1
			x = x&0x00003FFF00003FFF | x&0x3FFF00003FFF0000>>2
			x = x&0x000000000FFFFFFF | x&0x0FFFFFFF00000000>>4
			return x, i + n/8
		}
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

// fixed reads a little-endian number of size bytes at b[i:end].
func fixed(b []byte, i, end, size int) (v uint64, next int) {
	if end-i < size {
		return 0, -1
	}
	if size == 4 {
		return uint64(binary.LittleEndian.Uint32(b[i:])), i + 4
	}
	return binary.LittleEndian.Uint64(b[i:]), i + 8
}

// number reads one scalar of a wire type that is not length-delimited.
func number(b []byte, i, end int, typ protowire.Type) (v uint64, next int) {
	switch typ {
	case protowire.VarintType:
		return varint(b, i, end)
	case protowire.Fixed32Type:
		return fixed(b, i, end, 4)
	default:
		return fixed(b, i, end, 8)
	}
}
