package jsonwire

import (
	"encoding/binary"
	"unicode/utf8"
)

const (
	eachByte = 0x0101010101010101
	highBits = 0x8080808080808080
)

// special marks, in the high bit of each byte of x, the bytes that end a run of plain text in JSON: controls, quote,
// backslash, and all that is not ASCII. Only the lowest mark is exact, which is the one that is used.
func special(x uint64) uint64 { return ^plain(x) & highBits }

// plain sets the high bit of each byte of x that is plain text, up to the first that is not: only that carries into the next.
func plain(x uint64) uint64 {
	const below = eachByte * 0x7F // gives 1 to 0x80 the high bit; what is not ASCII is 0x80 to one of the two at the most
	return ((x ^ eachByte*'"') + below) & ((x ^ eachByte*'\\') + below) & (x + eachByte*(0x80-' '))
}

// appendString appends s as a JSON string, escaped as protojson does: what RFC 8259 demands and no more. It is false
// when s is not valid UTF-8.
func appendString(dst, s []byte) ([]byte, bool) {
	b := room(dst, len(s)+2)
	if n := putString(b, len(dst), s); n >= 0 {
		return b[:n], true
	}
	return appendEscaped(dst, s)
}

// putString writes s as a JSON string at b[n:], where there is room for it as it is, and returns where it ends; -1 when it is
// not plain. It is looked at and copied in the same pieces of eight bytes, the last of which may overlap the one before.
func putString(b []byte, n int, s []byte) int {
	end := n + 1 + len(s)
	b[end] = '"'
	b[n] = '"'
	to := b[n+1 : end]
	if len(s) < 8 {
		return putShort(to, s, end+1)
	}
	x := binary.LittleEndian.Uint64(s[len(s)-8:])
	binary.LittleEndian.PutUint64(to[len(to)-8:], x)
	fine := plain(x)
	for len(s) > 8 {
		x := binary.LittleEndian.Uint64(s)
		binary.LittleEndian.PutUint64(to, x)
		fine &= plain(x)
		s, to = s[8:], to[8:]
	}
	if fine&highBits != highBits {
		return -1
	}
	return end + 1
}

// putShort copies up to 7 bytes of plain text, in two pieces that may overlap, and returns end.
func putShort(to, s []byte, end int) int {
	x := uint64(eachByte * ' ')
	switch n := len(s); {
	case n >= 4:
		x = uint64(binary.LittleEndian.Uint32(s)) | uint64(binary.LittleEndian.Uint32(s[n-4:]))<<32
		binary.LittleEndian.PutUint32(to, uint32(x))
		binary.LittleEndian.PutUint32(to[n-4:], uint32(x>>32))
	case n >= 2:
		x = x>>32<<32 | uint64(binary.LittleEndian.Uint16(s)) | uint64(binary.LittleEndian.Uint16(s[n-2:]))<<16
		binary.LittleEndian.PutUint16(to, uint16(x))
		binary.LittleEndian.PutUint16(to[n-2:], uint16(x>>16))
	case n == 1:
		x = x>>8<<8 | uint64(s[0])
		to[0] = s[0]
	}
	if special(x) != 0 {
		return -1
	}
	return end
}

// appendEscaped is appendString for what is not plain: in pieces of eight bytes, each copied up to what is special in it.
func appendEscaped(dst, s []byte) ([]byte, bool) {
	const hex = "0123456789abcdef"
	const slack = 16 // a quote, an escape, and the rest of a piece that is copied whole
	n := len(dst)
	b := room(dst, len(s)+slack)
	b[n] = '"'
	n++
	for i := 0; i < len(s); {
		x := uint64(0) // behind the end, where zeros are special
		switch rest := len(s) - i; {
		case rest >= 8:
			x = binary.LittleEndian.Uint64(s[i:])
		case len(s) >= 8:
			x = binary.LittleEndian.Uint64(s[len(s)-8:]) >> (64 - 8*rest)
		default:
			for k, c := range s[i:] {
				x |= uint64(c) << (8 * k)
			}
		}
		binary.LittleEndian.PutUint64(b[n:], x)
		size := lowest(special(x)) // 8 when there is none
		i, n = i+size, n+size
		if size == 8 {
			continue
		}
		if i >= len(s) {
			break
		}
		c := s[i]
		if c >= utf8.RuneSelf {
			for i < len(s) && s[i] >= utf8.RuneSelf {
				r, size := utf8.DecodeRune(s[i:])
				if r == utf8.RuneError && size == 1 {
					return dst, false
				}
				n += copy(b[n:], s[i:i+size])
				i += size
			}
			continue
		}
		i++
		if len(b)-n < len(s)-i+slack {
			b = room(b[:n], len(s)-i+slack)
		}
		b[n] = '\\'
		n += 2
		switch c {
		case '"', '\\':
			b[n-1] = c
		case '\b':
			b[n-1] = 'b'
		case '\f':
			b[n-1] = 'f'
		case '\n':
			b[n-1] = 'n'
		case '\r':
			b[n-1] = 'r'
		case '\t':
			b[n-1] = 't'
		default:
			b[n-1], b[n], b[n+1], b[n+2], b[n+3] = 'u', '0', '0', hex[c>>4], hex[c&15]
			n += 4
		}
	}
	b[n] = '"'
	return b[:n+1], true
}
