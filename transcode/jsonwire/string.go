package jsonwire

import "strings"

// AppendString appends s as a JSON string. What of s is not UTF-8 becomes U+FFFD: it is for text that people read, such as
// the message of an error.
func AppendString(dst []byte, s string) []byte {
	out, ok := appendString(dst, []byte(s))
	if !ok {
		out, _ = appendString(dst, []byte(strings.ToValidUTF8(s, "\uFFFD"))) // valid now
	}
	return out
}
