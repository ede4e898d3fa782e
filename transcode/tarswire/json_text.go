package tarswire

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// text reads a string. The result holds until the next one with an escape is read.
func (d *decoder) text() ([]byte, bool) {
	if !d.expect('"') {
		return nil, false
	}
	start := d.pos
	for d.pos < len(d.in) {
		switch c := d.in[d.pos]; {
		case c == '"':
			s := d.in[start:d.pos]
			d.pos++
			return d.valid(s, start)
		case c == '\\':
			return d.escaped(start)
		case c < ' ':
			return nil, d.failf("wanted text at offset %d of the JSON text, found the control character 0x%02x", d.pos, c)
		}
		d.pos++
	}
	return nil, d.failf("the JSON text ends in the middle of a string")
}

func (d *decoder) valid(s []byte, start int) ([]byte, bool) {
	if utf8.Valid(s) {
		return s, true
	}
	if !d.replaceUTF8 {
		i := invalid(s)
		return nil, d.failf("wanted UTF-8, found byte 0x%02x at offset %d", s[i], start+i)
	}
	return appendReplaced(nil, s), true
}

// escaped reads a string that has escapes, from its start.
func (d *decoder) escaped(start int) ([]byte, bool) {
	s := append([]byte(nil), d.in[start:d.pos]...)
	for d.pos < len(d.in) {
		c := d.in[d.pos]
		d.pos++
		switch {
		case c == '"':
			return d.valid(s, start)
		case c < ' ':
			return nil, d.failf("wanted text at offset %d of the JSON text, found the control character 0x%02x", d.pos-1, c)
		case c != '\\':
			s = append(s, c)
			continue
		case d.pos == len(d.in):
			return nil, d.failf("the JSON text ends in the middle of a string")
		}
		c = d.in[d.pos]
		d.pos++
		switch c {
		case '"', '\\', '/':
			s = append(s, c)
		case 'b':
			s = append(s, '\b')
		case 'f':
			s = append(s, '\f')
		case 'n':
			s = append(s, '\n')
		case 'r':
			s = append(s, '\r')
		case 't':
			s = append(s, '\t')
		case 'u':
			r, ok := d.hex()
			if ok && utf16.IsSurrogate(r) && d.pos+6 <= len(d.in) && d.in[d.pos] == '\\' && d.in[d.pos+1] == 'u' {
				d.pos += 2
				var low rune
				low, ok = d.hex()
				r = utf16.DecodeRune(r, low)
			}
			if !ok {
				return nil, false
			}
			s = utf8.AppendRune(s, r) // half a pair becomes U+FFFD
		default:
			return nil, d.failf("wanted an escape at offset %d of the JSON text, found \\%c", d.pos-2, c)
		}
	}
	return nil, d.failf("the JSON text ends in the middle of a string")
}

func (d *decoder) hex() (rune, bool) {
	if d.pos+4 <= len(d.in) {
		if v, err := strconv.ParseUint(string(d.in[d.pos:d.pos+4]), 16, 16); err == nil {
			d.pos += 4
			return rune(v), true
		}
	}
	return 0, d.failf("wanted four hexadecimal digits at offset %d of the JSON text", d.pos)
}
