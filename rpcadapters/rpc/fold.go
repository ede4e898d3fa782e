package rpc

import "strings"

// Lower is s with its letters of ASCII in lower case, and everything else as it is. Names and tokens that decide something are
// compared so: folding by Unicode makes ASCII of what is none (U+0130 becomes i, and U+212A, the sign of Kelvin, k), which takes
// for one what others take for two.
func Lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return lowerFrom(s, i)
		}
	}
	return s
}

func lowerFrom(s string, i int) string {
	var b strings.Builder
	b.Grow(len(s))
	b.WriteString(s[:i])
	for ; i < len(s); i++ {
		b.WriteByte(lowerByte(s[i]))
	}
	return b.String()
}

// EqualFold tells whether a and b are the same but for the case of letters of ASCII. See Lower.
func EqualFold[A, B string | []byte](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lowerByte(a[i]) != lowerByte(b[i]) {
			return false
		}
	}
	return true
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}
