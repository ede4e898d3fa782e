package jsonwire

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// numberRoom is the room that any number takes: 21 digits before the point at the most, or a sign, "0." and 22 behind it.
const numberRoom = 32

// room gives out up to its capacity, of which at least n bytes are free.
func room(out []byte, n int) []byte {
	if cap(out)-len(out) < n {
		out = slices.Grow(out, n)
	}
	return out[:cap(out)]
}

// twoDigits are the numbers below 100.
const twoDigits = "" +
	"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849" +
	"5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899"

// tens are the powers of ten that fit 64 bits.
var tens = [...]uint64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// decimalLen is the number of digits of v, which is not zero.
func decimalLen(v uint64) int {
	n := bits.Len64(v) * 1233 >> 12 // log10(2) is 1233/4096, nearly
	if v >= tens[n] {
		n++
	}
	return n
}

// putDigits fills b with the last len(b) digits of v.
func putDigits(b []byte, v uint64) {
	for len(b) >= 4 {
		q := v / 1e4
		r := uint32(v - q*1e4)
		high, low := r/100, r%100
		four := b[len(b)-4:]
		four[0], four[1], four[2], four[3] = twoDigits[2*high], twoDigits[2*high+1], twoDigits[2*low], twoDigits[2*low+1]
		b, v = b[:len(b)-4], q
	}
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
}

// putUint writes v at b[n:], where there is room, and returns where it ends; so do putInt and the others.
func putUint(b []byte, n int, v uint64) int {
	if v < 10 {
		b[n] = byte('0' + v)
		return n + 1
	}
	if v < 100 {
		b[n], b[n+1] = twoDigits[2*v], twoDigits[2*v+1]
		return n + 2
	}
	end := n + decimalLen(v)
	putDigits(b[n:end], v)
	return end
}

func putInt(b []byte, n int, v int64) int {
	if v < 0 {
		b[n] = '-'
		return putUint(b, n+1, -uint64(v))
	}
	return putUint(b, n, uint64(v))
}

func appendUint(dst []byte, v uint64) []byte {
	b := room(dst, numberRoom)
	return b[:putUint(b, len(dst), v)]
}

func appendInt(dst []byte, v int64) []byte {
	b := room(dst, numberRoom)
	return b[:putInt(b, len(dst), v)]
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
			return putDecimal(b, n, v < 0, uint64(d), 4)
		}
	}
	if scaled := abs*1e8 + 0.5; scaled < limit && abs >= 1e-6 {
		if d := int64(scaled); float64(d)/1e8 == abs {
			return putDecimal(b, n, v < 0, uint64(d), 8)
		}
	}
	return putFloat(b, n, v, 64)
}

// putFloat32 is putFloat64 for the other size, of which 6 digits are exact.
func putFloat32(b []byte, n int, v float32) int {
	const limit = 1e6
	abs := max(v, -v)
	if d := int64(min(abs, limit)); d < limit && float32(d) == abs && d > 0 {
		return putDecimal(b, n, v < 0, uint64(d), 0)
	}
	if scaled := abs*1e4 + 0.5; scaled < limit {
		if d := int64(scaled); float32(d)/1e4 == abs && d > 0 {
			return putDecimal(b, n, v < 0, uint64(d), 4)
		}
	}
	return putFloat(b, n, float64(v), 32)
}

// putDecimal writes d divided by a power of ten, without zeros at its end.
func putDecimal(b []byte, n int, neg bool, d uint64, decimals int) int {
	if neg {
		b[n] = '-'
		n++
	}
	whole := d
	if decimals == 4 {
		whole /= 1e4
	} else {
		whole /= tens[decimals]
	}
	n = putUint(b, n, whole)
	rest := d - whole*tens[decimals]
	if rest == 0 {
		return n
	}
	b[n] = '.'
	n += 1 + decimals
	putDigits(b[n-decimals:n], rest)
	for b[n-1] == '0' {
		n--
	}
	return n
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
