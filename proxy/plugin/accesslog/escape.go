package accesslog

import (
	"encoding/binary"
	"unicode/utf8"
)

const (
	maxField = 2048     // bytes of one escaped field, so that no caller decides how long a line is
	cut      = "\u2026" // what stands at the end of a field that was longer
	hex      = "0123456789abcdef"
)

// appendEscaped appends text as the inside of a JSON string of at most maxField bytes. Everything that could end the line,
// move a terminal's cursor or turn the order of characters is escaped; bytes that are not UTF-8 become U+FFFD.
func appendEscaped(b []byte, text string) []byte {
	// Fast path: plain ASCII, copied and then looked at eight bytes at a time.
	if start := len(b); len(text) <= maxField {
		b = append(b, text...)
		if allPlain(b[start:]) {
			return b
		}
		b = b[:start]
	}
	limit := len(b) + maxField
	room := limit - len(cut)
	fits := len(b) // the end of what leaves room for cut
	for i := 0; i < len(text); {
		run := i
		for run < len(text) && run-i < maxField && plain[text[run]] {
			run++
		}
		if run > i {
			start := len(b)
			b = append(b, text[i:run]...)
			if fits == start {
				fits = min(len(b), room)
			}
			i = run
		} else {
			r, size := utf8.DecodeRuneInString(text[i:])
			start := len(b)
			b = appendRune(b, r, text[i:i+size])
			if fits == start && len(b) <= room {
				fits = len(b)
			}
			i += size
		}
		if len(b) > limit {
			return append(b[:fits], cut...)
		}
	}
	return b
}

// Eight bytes of one value each.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// allPlain tells whether b is printable ASCII without " and \.
func allPlain(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if odd(binary.LittleEndian.Uint64(b)) != 0 {
			return false
		}
	}
	for _, c := range b {
		if !plain[c] {
			return false
		}
	}
	return true
}

// odd is not 0 if a byte of v is not plain. Of bytes below 0x80, x - n sets the high bit where x < n; a borrow can only
// come from a byte that is odd itself.
func odd(v uint64) uint64 {
	quote, back, del := v^'"'*ones, v^'\\'*ones, v^0x7f*ones
	return (v | (v - ' '*ones) | (quote - ones) | (back - ones) | (del - ones)) & highs
}

// appendRune appends one character that is not plain ASCII; raw is as it came.
func appendRune(b []byte, r rune, raw string) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r))
	case r == '\n':
		return append(b, `\n`...)
	case r == '\r':
		return append(b, `\r`...)
	case r == '\t':
		return append(b, `\t`...)
	case r == utf8.RuneError, acts(r):
		return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
	}
	return append(b, raw...)
}

// acts tells characters that terminals and viewers act on: controls (C0, DEL, C1), line and paragraph separators, and
// the marks that change the direction of text. All are below U+10000.
func acts(r rune) bool {
	switch {
	case r < 0x20, 0x7f <= r && r <= 0x9f, r == 0x61c, 0x200e <= r && r <= 0x200f, 0x2028 <= r && r <= 0x202e,
		0x2066 <= r && r <= 0x2069, r == 0xfeff:
		return true
	}
	return false
}

// plain are the bytes that stand in a JSON string as they are: printable ASCII but " and \.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()
