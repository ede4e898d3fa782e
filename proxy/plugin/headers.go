package plugin

import "strings"

// Framing tells headers (lower case) that belong to a connection or a protocol: no plugin sets them.
func Framing(name string) bool {
	switch name {
	case "connection", "content-length", "content-type", "content-encoding", "transfer-encoding", "te", "trailer", "upgrade", "host", "keep-alive":
		return true
	}
	return strings.HasPrefix(name, "grpc-") || strings.HasPrefix(name, "connect-") || strings.HasPrefix(name, "proxy-") || strings.HasPrefix(name, ":")
}

// Token tells whether s is a header's name (RFC 9110 section 5.6.2).
func Token(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
