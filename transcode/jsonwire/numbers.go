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

// plainInteger reads an integer of at most 18 digits without fraction or exponent at pos, bare or in quotes. Where it is
// something else, it leaves pos as it was.
func (p *parser) plainInteger(c byte) (neg bool, mag uint64, ok bool) {
	in, i := p.in, p.pos
	quoted := c == '"'
	if quoted {
		i++
	}
	if i < len(in) && in[i] == '-' {
		neg = true
		i++
	}
	first := i
	for i < len(in) && in[i]-'0' <= 9 {
		mag = mag*10 + uint64(in[i]-'0')
		i++
	}
	const longest = 18
	if n := i - first; n == 0 || n > longest || n > 1 && in[first] == '0' || i >= len(in) {
		return false, 0, false
	}
	switch end := in[i]; {
	case quoted && end == '"':
		i++
	case quoted || wordByte(end):
		return false, 0, false
	}
	p.pos = i
	return neg, mag, true
}

// pow10 are the powers of ten that a float64 holds exactly.
var pow10 = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// plainFloat reads a valid number token of at most 15 digits without exponent. Its digits and the power of ten are then
// exact, so their quotient is the nearest float64.
func plainFloat(tok []byte) (float64, bool) {
	const longest = 15
	mag, digits, decimals, point := uint64(0), 0, 0, 0
	for i, c := range tok {
		switch {
		case c-'0' <= 9:
			mag = mag*10 + uint64(c-'0')
			digits++
			decimals += point
		case c == '.':
			point = 1
		case c != '-' || i > 0:
			return 0, false
		}
	}
	if digits > longest {
		return 0, false
	}
	v := float64(mag) / pow10[decimals]
	if tok[0] == '-' {
		v = -v
	}
	return v, true
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
