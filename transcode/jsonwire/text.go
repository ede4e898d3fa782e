package jsonwire

import (
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"
)

const (
	eachByte = 0x0101010101010101
	highBits = 0x8080808080808080
)

// special marks, in the high bit of each byte of x, the bytes that end a run of plain text in JSON: controls, quote,
// backslash, and all that is not ASCII. Only the lowest mark is exact, which is the one that is used.
func special(x uint64) uint64 {
	quote := x ^ eachByte*'"'
	slash := x ^ eachByte*'\\'
	return ((quote-eachByte)&^quote | (slash-eachByte)&^slash | (x-eachByte*' ')&^x | x) & highBits
}

// appendString appends s as a JSON string, escaped as protojson does: what RFC 8259 demands and no more. It is false
// when s is not valid UTF-8.
func appendString(dst, s []byte) ([]byte, bool) {
	dst = append(dst, '"')
	i := 0
	for ; i+8 <= len(s); i += 8 {
		if special(binary.LittleEndian.Uint64(s[i:])) != 0 {
			return appendEscaped(dst, s, i)
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendEscaped(dst, s, i)
		}
	}
	dst = append(dst, s...)
	return append(dst, '"'), true
}

// appendEscaped is the slow half of appendString: s is plain up to i.
func appendEscaped(dst, s []byte, i int) ([]byte, bool) {
	const hex = "0123456789abcdef"
	if !utf8.Valid(s) {
		return dst, false
	}
	from := 0
	for ; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"'), true
}

// appendFloat appends a number as protojson and encoding/json write it; the values that JSON lacks become strings.
func appendFloat(dst []byte, v float64, bitSize int) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Infinity"`...)
	}
	if v == math.Trunc(v) && math.Abs(v) < 1<<24 && (v != 0 || !math.Signbit(v)) {
		return strconv.AppendInt(dst, int64(v), 10)
	}
	if bitSize == 64 {
		if out, ok := appendDecimal(dst, v); ok {
			return out
		}
	}
	format := byte('f')
	if abs := math.Abs(v); abs != 0 {
		if bitSize == 64 && (abs < 1e-6 || abs >= 1e21) || bitSize == 32 && (float32(abs) < 1e-6 || float32(abs) >= 1e21) {
			format = 'e'
		}
	}
	dst = strconv.AppendFloat(dst, v, format, -1, bitSize)
	if n := len(dst); format == 'e' && n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

// appendDecimal appends a float64 that is a decimal of few places, such as a price. A decimal of at most 15 digits that
// parses as v is the shortest one that does, since no two such decimals parse alike; and the quotient of two numbers that
// are exact is what parsing gives.
func appendDecimal(dst []byte, v float64) ([]byte, bool) {
	const limit = 1e15
	scaled := math.Round(v * 1e4)
	if abs := math.Abs(scaled); abs < 1 || abs >= limit || scaled/1e4 != v {
		return dst, false
	}
	if v < 0 {
		dst = append(dst, '-')
	}
	n := uint64(math.Abs(scaled))
	whole, frac := n/1e4, n%1e4
	dst = strconv.AppendUint(dst, whole, 10)
	if frac == 0 {
		return dst, true
	}
	dst = append(dst, '.', byte('0'+frac/1000), byte('0'+frac/100%10), byte('0'+frac/10%10), byte('0'+frac%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst, true
}
