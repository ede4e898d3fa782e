package httprule

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// AppendSegments splits a raw request path (without query) at its raw slashes and appends the segments, undecoded, to
// dst. They are substrings of path. "/" alone has none. It does not allocate when dst has room for them.
//
// It is the one place that decides which paths are let in, so nothing behind it has to normalise, and nothing can
// disagree: empty, "." and ".." segments, backslash, NUL and other control characters, each raw or percent-encoded, raw
// "#", "?" and space, bad or double percent-encoding, and what is not UTF-8 once decoded are refused. The error names
// the cause and the column; dst is then returned as it was.
func AppendSegments(dst []string, path string) ([]string, error) {
	if path == "" || path[0] != '/' {
		return dst, errors.New(`path: wanted a leading "/"`)
	}
	if path == "/" {
		return dst, nil
	}
	kept := len(dst)
	start, odd := 1, false
	for i := 1; ; i++ {
		if i < len(path) && path[i] != '/' {
			odd = odd || !plain[path[i]]
			continue
		}
		seg := path[start:i]
		if seg == "" {
			return dst[:kept], fmt.Errorf("path: column %d: an empty segment", start+1)
		}
		if odd || seg[0] == '.' {
			if cause, at := refuse(seg); cause != "" {
				return dst[:kept], fmt.Errorf("path: column %d: %s", start+at+1, cause)
			}
		}
		dst = append(dst, seg)
		if i == len(path) {
			return dst, nil
		}
		start, odd = i+1, false
	}
}

// plain are the bytes that need no second look.
var plain = func() (t [256]bool) {
	for c := byte('!'); c < 0x7f; c++ {
		t[c] = strings.IndexByte(`%\#?`, c) < 0
	}
	return t
}()

// refuse returns why the raw segment s cannot be let in and at which byte of it, or "".
func refuse(s string) (cause string, at int) {
	var run [utf8.UTFMax]byte // bytes of the character being decoded
	n := 0
	dots, length := 0, 0
	percent, digits := -1, 0 // where a decoded "%" is that only hex digits have followed, and how many
	for i := 0; i < len(s); {
		at, c := i, s[i]
		i++
		escaped := c == '%'
		if escaped {
			if i+2 > len(s) || !isHex(s[i]) || !isHex(s[i+1]) {
				return fmt.Sprintf("bad percent-encoding %q", s[at:min(at+3, len(s))]), at
			}
			c = unhex(s[i])<<4 | unhex(s[i+1])
			i += 2
		}
		switch {
		case c == '\\':
			return "a backslash", at
		case c == 0:
			return "a NUL character", at
		case c < ' ' || c == 0x7f:
			return fmt.Sprintf("control character 0x%02X", c), at
		case !escaped && (c == '#' || c == '?' || c == ' '):
			return fmt.Sprintf("%q not percent-encoded", string(rune(c))), at
		}
		// Once decoded, a segment must not decode again: somebody further on might.
		switch {
		case escaped && c == '%':
			percent, digits = at, 0
		case percent >= 0 && isHex(c):
			if digits++; digits == 2 {
				return "double percent-encoding", percent
			}
		default:
			percent = -1
		}
		length++
		if c == '.' {
			dots++
		}
		if n == 0 && c < utf8.RuneSelf {
			continue
		}
		run[n] = c
		n++
		if utf8.FullRune(run[:n]) {
			if r, size := utf8.DecodeRune(run[:n]); r == utf8.RuneError && size == 1 {
				return "not UTF-8", at
			}
			n = 0
		}
	}
	switch {
	case n > 0:
		return "not UTF-8", len(s) - 1
	case length == dots && length <= 2:
		return fmt.Sprintf("a %q segment", ".."[:length]), 0
	}
	return "", 0
}

// reserve are characters that stay encoded.
type reserve uint8

const (
	reserveNone  reserve = iota
	reserveSlash         // "/"
	reserve6570          // the reserved characters of RFC 6570, section 1.5 (those of RFC 3986, section 2.2); "/" is one
)

func (r reserve) has(c byte) bool {
	switch r {
	case reserveSlash:
		return c == '/'
	case reserve6570:
		return strings.IndexByte(":/?#[]@!$&'()*+,;=", c) >= 0
	case reserveNone:
	}
	return false
}

// appendDecoded appends s percent-decoded, but for what is kept. s has been let in by refuse.
func appendDecoded(dst []byte, s string, keep reserve) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' && i+2 < len(s) {
			if d := unhex(s[i+1])<<4 | unhex(s[i+2]); !keep.has(d) {
				c = d
				i += 2
			}
		}
		dst = append(dst, c)
	}
	return dst
}

// writeDecoded is appendDecoded for a builder.
func writeDecoded(b *strings.Builder, s string, keep reserve) {
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 || i+2 >= len(s) {
			b.WriteString(s)
			return
		}
		b.WriteString(s[:i])
		if c := unhex(s[i+1])<<4 | unhex(s[i+2]); !keep.has(c) {
			b.WriteByte(c)
		} else {
			b.WriteString(s[i : i+3])
		}
		s = s[i+3:]
	}
}

// escapedSlash is the index of the first encoded slash in s, or -1.
func escapedSlash(s string) int {
	for i := 0; ; i++ {
		j := strings.IndexByte(s[i:], '%')
		if j < 0 {
			return -1
		}
		if i += j; i+2 < len(s) && s[i+1] == '2' && s[i+2]|0x20 == 'f' {
			return i
		}
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// unhex is the value of a hex digit.
func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&15 + 9
}
