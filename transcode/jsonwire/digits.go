package jsonwire

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// numberRoom is the room in which any number is written: 25 bytes at the most, as -0.000001234567890123456, and 8 that are
// written with the last digits.
const numberRoom = 40

// room gives out up to its capacity, of which at least n bytes are free.
func room(out []byte, n int) []byte {
	if cap(out)-len(out) < n {
		return grown(out, n)
	}
	return out[:cap(out)]
}

func grown(out []byte, n int) []byte {
	out = slices.Grow(out, n)
	return out[:cap(out)]
}

const zeros = eachByte * '0'

// eightDigits gives the eight digits of v, which is below 1e8, the first in the lowest byte: by halves in numbers of four
// digits, of two and of one, all of them at once. The factors are 1/100 and 1/10, near enough for what they are used on.
func eightDigits(v uint64) uint64 {
	four := v / 1e4
	v = four | (v-four*1e4)<<32
	two := v * 10486 >> 20 & 0x0000007F0000007F
	v = two | (v-two*100)<<16
	one := v * 103 >> 10 & 0x000F000F000F000F
	return one | (v-one*10)<<8
}

// putUint writes v at b[n:], where there is room, and returns where it ends; so do the others.
func putUint(b []byte, n int, v uint64) int {
	if v < 10 {
		b[n] = byte('0' + v)
		return n + 1
	}
	const half = 1e8
	if v >= half*half {
		upper := v / (half * half)
		n = putUint(b, n, upper)
		v -= upper * half * half
		binary.LittleEndian.PutUint64(b[n:], eightDigits(v/half)|zeros)
		binary.LittleEndian.PutUint64(b[n+8:], eightDigits(v%half)|zeros)
		return n + 16
	}
	upper := v / half
	if upper == 0 {
		d := eightDigits(v)
		lead := bits.TrailingZeros64(d) &^ 7
		binary.LittleEndian.PutUint64(b[n:], (d|zeros)>>lead)
		return n + 8 - lead/8
	}
	d := eightDigits(upper)
	lead := bits.TrailingZeros64(d) &^ 7
	binary.LittleEndian.PutUint64(b[n:], (d|zeros)>>lead)
	n += 8 - lead/8
	binary.LittleEndian.PutUint64(b[n:], eightDigits(v-upper*half)|zeros)
	return n + 8
}

func appendUint(dst []byte, v uint64) []byte {
	b := room(dst, numberRoom)
	return b[:putUint(b, len(dst), v)]
}

func appendInt(dst []byte, v int64) []byte {
	if v < 0 {
		return appendUint(append(dst, '-'), -uint64(v))
	}
	return appendUint(dst, uint64(v))
}

// putFloat64 writes a number as protojson and encoding/json do; the values that JSON lacks become strings.
//
// The few digits that most numbers have are found by trying. A decimal of at most 15 digits that parses as v is the shortest
// one that does, since no two such decimals parse alike; and the quotient of two numbers that are exact is what parsing gives.
func putFloat64(b []byte, n int, v float64) int {
	const limit = 1e15
	abs := math.Abs(v)
	if scaled := abs*1e4 + 0.5; scaled < limit {
		if d := int64(scaled); float64(d)/1e4 == abs && d > 0 {
			if v < 0 {
				b[n] = '-'
				n++
			}
			return putDecimal4(b, n, uint64(d))
		}
	}
	if scaled := abs*1e8 + 0.5; scaled < limit && abs >= 1e-6 {
		if d := int64(scaled); float64(d)/1e8 == abs {
			if v < 0 {
				b[n] = '-'
				n++
			}
			return putDecimal(b, n, uint64(d)/1e8, uint64(d)%1e8)
		}
	}
	return putFloat(b, n, v, 64)
}

// putFloat32 is putFloat64 for the other size, of which 6 digits are exact.
func putFloat32(b []byte, n int, v float32) int {
	const limit = 1e6
	abs := max(v, -v)
	if scaled := abs*1e4 + 0.5; scaled < limit {
		if d := int64(scaled); float32(d)/1e4 == abs && d > 0 {
			if v < 0 {
				b[n] = '-'
				n++
			}
			return putDecimal4(b, n, uint64(d))
		}
	}
	return putFloat(b, n, float64(v), 32)
}

// putDecimal4 writes v/1e4 without zeros at its end.
func putDecimal4(b []byte, n int, v uint64) int {
	if v >= 1e8 {
		return putDecimal(b, n, v/1e4, v%1e4*1e4)
	}
	d := eightDigits(v)
	lead := min(bits.TrailingZeros64(d)&^7, 24)
	binary.LittleEndian.PutUint32(b[n:], uint32(d|zeros)>>lead)
	n += 4 - lead/8
	b[n] = '.'
	binary.LittleEndian.PutUint32(b[n+1:], uint32((d|zeros)>>32))
	if trail := bits.LeadingZeros64(d) / 8; trail < 4 {
		n += 5 - trail
	}
	return n
}

// putDecimal writes a number by its whole part and eight decimals, without zeros at its end.
func putDecimal(b []byte, n int, whole, decimals uint64) int {
	n = putUint(b, n, whole)
	if decimals == 0 {
		return n
	}
	d := eightDigits(decimals)
	b[n] = '.'
	binary.LittleEndian.PutUint64(b[n+1:], d|zeros)
	return n + 9 - bits.LeadingZeros64(d)/8
}

// putFloat writes what has no short form.
func putFloat(b []byte, n int, v float64, bitSize int) int {
	switch {
	case math.IsNaN(v):
		return n + copy(b[n:], `"NaN"`)
	case math.IsInf(v, 1):
		return n + copy(b[n:], `"Infinity"`)
	case math.IsInf(v, -1):
		return n + copy(b[n:], `"-Infinity"`)
	}
	format := byte('f')
	if abs := math.Abs(v); abs != 0 {
		if bitSize == 64 && (abs < 1e-6 || abs >= 1e21) || bitSize == 32 && (float32(abs) < 1e-6 || float32(abs) >= 1e21) {
			format = 'e'
		}
	}
	n = len(strconv.AppendFloat(b[:n], v, format, -1, bitSize))
	if format == 'e' && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b[n-2] = b[n-1]
		n--
	}
	return n
}
