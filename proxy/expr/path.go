package expr

import "strings"

// path gives a request's path in one form for all that lead to the same route: routes take a segment for theirs however much
// of it is percent-encoded, so what was sent would let callers choose what a condition or a key sees. What decides sees the
// path as routes do, decoded but for a slash within a segment; text is made of it with as much encoded as a path needs (RFC
// 3986 section 3.3). The edge has refused control characters and bad encodings.
func path(sent string, decides bool) string {
	i := 0
	for i < len(sent) && sent[i] != '%' && (decides || inPath(sent[i])) {
		i++
	}
	if i == len(sent) {
		return sent
	}
	b := append(make([]byte, 0, 2*len(sent)), sent[:i]...)
	for ; i < len(sent); i++ {
		c, escaped := sent[i], false
		if c == '%' && i+2 < len(sent) {
			if hi, lo := digit(sent[i+1]), digit(sent[i+2]); hi >= 0 && lo >= 0 {
				c, escaped = byte(hi<<4|lo), true //nolint:gosec // two digits
				i += 2
			}
		}
		if plain := decides || inPath(c); plain && !(escaped && c == '/') {
			b = append(b, c)
		} else {
			b = append(b, '%', upper[c>>4], upper[c&15])
		}
	}
	return string(b)
}

const upper = "0123456789ABCDEF"

// digit is the value of a hexadecimal digit, -1 for what is none.
func digit(c byte) int { return strings.IndexByte(upper, c&^(c>>6&1<<5)) }

// inPath tells the characters that stand in a path as they are.
func inPath(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("/-._~!$&'()*+,;=:@", c) >= 0
}
