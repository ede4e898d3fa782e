package jsonwire

import (
	"math"
	"math/bits"
	"strconv"
)

func lowest(mask uint64) int { return bits.TrailingZeros64(mask) / 8 }

// numberToken reads the number at pos.
func (p *parser) numberToken() ([]byte, bool) {
	at := p.pos
	for p.pos < len(p.in) && wordByte(p.in[p.pos]) {
		p.pos++
	}
	tok := p.in[at:p.pos]
	if len(tok) > maxNumberToken {
		return nil, p.failf(at, "wanted a number of at most %d bytes, found one of %d", maxNumberToken, len(tok))
	}
	if !validNumber(tok) {
		return nil, p.failf(at, "wanted a number, found %s", p.found(at))
	}
	return tok, true
}

// validNumber holds tok against the grammar of RFC 8259 section 6.
func validNumber(tok []byte) bool {
	i := 0
	if i < len(tok) && tok[i] == '-' {
		i++
	}
	digits := func() bool {
		from := i
		for i < len(tok) && '0' <= tok[i] && tok[i] <= '9' {
			i++
		}
		return i > from
	}
	from := i
	if !digits() || tok[from] == '0' && i > from+1 {
		return false
	}
	if i < len(tok) && tok[i] == '.' {
		i++
		if !digits() {
			return false
		}
	}
	if i < len(tok) && (tok[i] == 'e' || tok[i] == 'E') {
		i++
		if i < len(tok) && (tok[i] == '+' || tok[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(tok)
}

// integer gives sign and magnitude of a number token that stands for an integer, in whatever form: 100, 1e2, 100.0. It
// follows protojson in what counts as one: with a fraction or exponent at most 20 digits.
func integer(tok []byte) (neg bool, mag uint64, ok bool) {
	d := tok
	if len(d) > 0 && d[0] == '-' {
		neg, d = true, d[1:]
	}
	if len(d) == 0 || len(d) > 19 || d[0] == '0' && len(d) > 1 {
		return integerSlow(tok)
	}
	for _, c := range d {
		if c < '0' || c > '9' {
			return integerSlow(tok)
		}
		mag = mag*10 + uint64(c-'0')
	}
	return neg, mag, true
}

func integerSlow(tok []byte) (neg bool, mag uint64, ok bool) {
	if len(tok) > maxNumberToken || !validNumber(tok) {
		return false, 0, false
	}
	if tok[0] == '-' {
		neg, tok = true, tok[1:]
	}
	var digits [2 * maxNumberToken]byte
	n, point, exp := 0, -1, 0
scan:
	for i, c := range tok {
		switch c {
		case '.':
			point = n
		case 'e', 'E':
			v, err := strconv.ParseInt(view(tok[i+1:]), 10, 32)
			if err != nil {
				exp = math.MaxInt32 // too large for all but zero
			} else {
				exp = int(v)
			}
			break scan
		default:
			digits[n] = c
			n++
		}
	}
	if point < 0 {
		point = n
	}
	for n > point && digits[n-1] == '0' {
		n--
	}
	whole, frac := digits[:point], digits[point:n]
	if len(whole) == 1 && whole[0] == '0' {
		whole = nil
	}
	num := digits[point-len(whole) : n]
	switch {
	case len(num) == 0:
		return false, 0, true
	case exp == math.MaxInt32:
		return false, 0, false
	case exp >= 0:
		const longest = 20
		if len(frac) > exp || len(whole)+exp > longest {
			return false, 0, false
		}
		for range exp - len(frac) {
			num = append(num, '0')
		}
	default:
		if len(frac) > 0 || len(whole)+exp < 0 {
			return false, 0, false
		}
		for _, c := range num[len(num)+exp:] {
			if c != '0' {
				return false, 0, false
			}
		}
		num = num[:len(num)+exp]
	}
	for _, c := range num {
		hi, lo := bits.Mul64(mag, 10)
		sum, carry := bits.Add64(lo, uint64(c-'0'), 0)
		if hi != 0 || carry != 0 {
			return false, 0, false
		}
		mag = sum
	}
	return neg, mag, true
}

// signed turns sign and magnitude into an integer of the given width.
func signed(neg bool, mag uint64, width int) (int64, bool) {
	limit := uint64(1) << (width - 1)
	if neg {
		return int64(-mag), mag <= limit
	}
	return int64(mag), mag < limit
}

// unsigned is signed for an unsigned width; minus zero is zero.
func unsigned(neg bool, mag uint64, width int) (uint64, bool) {
	return mag, (!neg || mag == 0) && (width == 64 || mag>>width == 0)
}
