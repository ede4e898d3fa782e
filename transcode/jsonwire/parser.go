package jsonwire

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

const (
	defaultDepth    = 100
	defaultElements = 100_000
	// maxNumberToken bounds a number in JSON: enough for every exact float64 in use, too little for a bomb.
	maxNumberToken = 64
	// keepScratch is the size in bytes above which pooled scratch is left to the garbage collector.
	keepScratch = 1 << 20
)

// parser turns JSON into wire bytes in one pass. Every length-delimited value gets one byte for its length; where that
// turns out too small, a gap is noted, and spread opens all gaps at the end.
type parser struct {
	in  []byte
	pos int
	out []byte

	gaps  []gap // those still open, and those closed that need more than one byte; ascending
	extra int   // bytes that the closed gaps need beyond the one they have

	opts        Options
	depth       int
	elements    int
	steps       int // elements looked at, also those looked at twice: what a parse costs
	moved       int // bytes that spread has moved
	maxDepth    int
	maxElements int
	partial     int  // above 0: required fields are not checked
	keepZero    bool // also write zeros of fields without presence, since what comes later must override or see them

	seen  []uint64 // bit sets of the open messages whose tables do not fit one word
	keys  keySet   // of parameters
	names nameSet  // of the maps in JSON
	scope uint32   // number of maps begun
	tmp   []byte
	anys  anyIndex

	keyBuf []byte // the key being read from its JSON
	inKey  bool

	failed  bool
	failAt  int
	failMsg string
	cause   error
}

// gap is the place of a length.
type gap struct {
	at     uint32 // of the reserved byte in out
	before uint32 // parser.extra when it was opened
	size   uint32 // the length, once closed
}

var parsers = sync.Pool{New: func() any { return new(parser) }}

func newParser(dst, in []byte, o *Options) *parser {
	p := parsers.Get().(*parser)
	if o != nil {
		p.opts = *o
	} else {
		p.opts = Options{}
	}
	p.maxDepth, p.maxElements = p.opts.limits()
	p.in, p.out, p.pos = in, dst, 0
	return p
}

// release gives p back to the pool without what it was given.
func (p *parser) release() {
	p.in, p.out = nil, nil
	p.gaps, p.extra = p.gaps[:0], 0
	p.depth, p.elements, p.steps, p.moved, p.partial, p.keepZero, p.scope = 0, 0, 0, 0, 0, false, 0
	p.seen = p.seen[:0]
	p.keys.reset()
	p.names.reset()
	p.anys.reset()
	p.failed, p.failMsg, p.cause = false, "", nil
	if p.scratch()+cap(p.tmp)+cap(p.keyBuf) > keepScratch {
		p.keyBuf = nil
		p.tmp, p.gaps, p.names, p.anys, p.seen = nil, nil, nameSet{}, anyIndex{}, nil
	}
	parsers.Put(p)
}

// scratch is the memory in bytes that p holds for a body besides input and output: at most 16 bytes for each element that
// it counts, and what depth and schema account for. An escaped string that is looked at, such as a key, has p.tmp besides, and
// a key that is JSON text has p.keyBuf.
func (p *parser) scratch() int {
	return cap(p.gaps)*12 + p.names.scratch() + cap(p.anys.objects)*8 + cap(p.seen)*8
}

func (o *Options) limits() (depth, elements int) {
	depth, elements = defaultDepth, defaultElements
	if o != nil && o.MaxDepth > 0 {
		depth = o.MaxDepth
	}
	if o != nil && o.MaxElements > 0 {
		elements = o.MaxElements
	}
	return depth, elements
}

// fail notes the first fault, at an offset of the text.
func (p *parser) fail(at int, msg string) bool {
	if !p.failed {
		p.failed, p.failAt, p.failMsg = true, at, msg
	}
	return false
}

func (p *parser) failf(at int, format string, args ...any) bool {
	return p.fail(at, fmt.Sprintf(format, args...))
}

// fault is the error of a parse that failed; above is the path of what the text stands for.
func (p *parser) fault(above string) *Error {
	path, line, column := locate(p.in, p.failAt)
	return &Error{Path: joinPath(above, path), Line: line, Column: column, Message: p.failMsg, cause: p.cause}
}

// maxText is the largest text in bytes whose output, which may be several times as large, has offsets that fit the tables.
const maxText = 256 << 20

// fits refuses a text whose offsets do not fit the tables.
func (p *parser) fits() bool {
	return len(p.in) <= maxText && len(p.out) <= maxText || p.fail(0, "wanted a body of at most 256 MiB, found a larger one")
}

// openLen reserves the length of what follows; closeLen(g) ends it.
func (p *parser) openLen() int {
	p.gaps = append(p.gaps, gap{at: uint32(len(p.out)), before: uint32(p.extra)})
	p.out = append(p.out, 0)
	return len(p.gaps) - 1
}

func (p *parser) closeLen(g int) {
	o := &p.gaps[g]
	n := len(p.out) - int(o.at) - 1 + p.extra - int(o.before)
	if n < 0x80 { // then nothing inside needs a gap either: g is the last
		p.out[o.at] = byte(n)
		p.gaps = p.gaps[:g]
		return
	}
	o.size = uint32(n)
	p.extra += varintLen(uint64(n)) - 1
}

// nothingIn says that nothing was written since openLen gave g.
func (p *parser) nothingIn(g int) bool { return len(p.out) == int(p.gaps[g].at)+1 }

// dropLen takes back everything since openLen gave g, and the start bytes of out.
func (p *parser) dropLen(g, start int) {
	p.extra = int(p.gaps[g].before)
	p.gaps = p.gaps[:g]
	p.out = p.out[:start]
}

// spread opens the gaps, last first, so that each byte moves at most once.
func (p *parser) spread() {
	if p.extra > 0 {
		end := len(p.out)
		p.out = slices.Grow(p.out, p.extra)[:end+p.extra]
		shift := p.extra
		for _, g := range slices.Backward(p.gaps) {
			at := int(g.at)
			p.moved += end - at - 1
			copy(p.out[at+1+shift:], p.out[at+1:end])
			shift -= varintLen(uint64(g.size)) - 1
			putVarint(p.out[at+shift:], uint64(g.size))
			end = at
		}
	}
	p.gaps, p.extra = p.gaps[:0], 0
}

// element counts one field, list element or map entry.
func (p *parser) element() bool {
	p.steps++
	if p.elements++; p.elements > p.maxElements {
		return p.failf(p.pos, "more than %d fields and elements in one message", p.maxElements)
	}
	return true
}

// peek skips white space and returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	for p.pos < len(p.in) {
		c := p.in[p.pos]
		if c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		p.pos++
	}
	return 0
}

// want consumes the byte c after white space.
func (p *parser) want(c byte, what string) bool {
	if p.peek() != c || p.pos >= len(p.in) {
		return p.failf(p.pos, "wanted %s, found %s", what, p.found(p.pos))
	}
	p.pos++
	return true
}

// more reads what stands between two members: a comma (more is true) or the closing byte.
func (p *parser) more(closing byte) (more, ok bool) {
	switch p.peek() {
	case ',':
		p.pos++
		return true, true
	case closing:
		p.pos++
		return false, true
	}
	return false, p.failf(p.pos, "wanted \",\" or %q, found %s", string(closing), p.found(p.pos))
}

// null consumes the literal null if it stands at pos.
func (p *parser) null() bool {
	if p.peek() == 'n' && p.literal("null") {
		p.pos += 4
		return true
	}
	return false
}

// literal says whether the word stands at pos.
func (p *parser) literal(word string) bool {
	return len(p.in)-p.pos >= len(word) && string(p.in[p.pos:p.pos+len(word)]) == word
}

// end checks that nothing but white space follows.
func (p *parser) end() bool {
	if p.peek(); p.pos < len(p.in) {
		return p.failf(p.pos, "wanted the end of the body, found %s after the value", p.found(p.pos))
	}
	return true
}

// found describes the token at an offset for messages.
func (p *parser) found(at int) string {
	const longest = 40
	for at < len(p.in) && (p.in[at] == ' ' || p.in[at] == '\n' || p.in[at] == '\t' || p.in[at] == '\r') {
		at++
	}
	if at >= len(p.in) {
		return "the end of the body"
	}
	rest := p.in[at:]
	switch c := rest[0]; {
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		raw := rest[:stringEnd(rest, 0)]
		if len(raw) > longest {
			return fmt.Sprintf("%s...", validPrefix(raw, longest))
		}
		return string(validPrefix(raw, longest))
	case c == 0xEF && len(rest) > 2 && rest[1] == 0xBB && rest[2] == 0xBF:
		return "a byte order mark"
	case wordByte(c):
		n := 1
		for n < len(rest) && wordByte(rest[n]) {
			n++
		}
		if n > longest {
			return string(rest[:longest]) + "..."
		}
		return string(rest[:n])
	}
	r, n := utf8.DecodeRune(rest)
	if r == utf8.RuneError && n == 1 {
		return fmt.Sprintf("byte 0x%02x", rest[0])
	}
	return fmt.Sprintf("%q", string(r))
}

func wordByte(c byte) bool {
	return c == '-' || c == '+' || c == '.' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// validPrefix is at most n bytes of b, cut where a character ends and without what is no character.
func validPrefix(b []byte, n int) []byte {
	b = b[:min(n, len(b))]
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return b[:i]
		}
		i += size
	}
	return b
}

// scan finds the quote that ends the string whose content begins at i. The content is then free of controls and valid
// UTF-8; escapes are found but not checked.
func (p *parser) scan(i int) (end int, escaped, ok bool) {
	in := p.in
	start, wide := i, false
	for {
		if i+8 <= len(in) {
			m := special(binary.LittleEndian.Uint64(in[i:]))
			if m == 0 {
				i += 8
				continue
			}
			i += lowest(m)
		}
		if i >= len(in) {
			return 0, false, p.fail(len(in), "wanted the end of a string, found the end of the body")
		}
		switch c := in[i]; {
		case c == '"':
			if wide && !utf8.Valid(in[start:i]) {
				bad := start + len(validPrefix(in[start:i], i-start))
				return 0, false, p.failf(bad, "wanted UTF-8, found byte 0x%02x", in[bad])
			}
			return i, escaped, true
		case c == '\\':
			escaped = true
			i += 2
		case c < ' ':
			return 0, false, p.failf(i, "wanted an escape such as \\n, found the control character 0x%02x in a string", c)
		case c >= utf8.RuneSelf:
			wide = true
			for i < len(in) && in[i] >= utf8.RuneSelf {
				i++
			}
		default:
			i++
		}
	}
}

// str reads the string at pos, which is its opening quote. The result is part of the text or of p.tmp: it holds until the
// next call.
func (p *parser) str() ([]byte, bool) {
	start := p.pos + 1
	end, escaped, ok := p.scan(start)
	if !ok {
		return nil, false
	}
	p.pos = end + 1
	if !escaped {
		return p.in[start:end], true
	}
	p.tmp, ok = p.unescape(p.tmp[:0], start, end)
	return p.tmp, ok
}

// unescape appends the content in[start:end] of a string with its escapes resolved.
func (p *parser) unescape(dst []byte, start, end int) ([]byte, bool) {
	in := p.in[:end]
	for i := start; i < end; {
		c := in[i]
		if c != '\\' {
			from := i
			for i < end && in[i] != '\\' {
				i++
			}
			dst = append(dst, in[from:i]...)
			continue
		}
		if i+1 >= end {
			return dst, p.fail(i, "wanted the end of an escape, found the end of the string")
		}
		at := i
		c = in[i+1]
		i += 2
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, ok := hex4(in, i)
			if !ok {
				return dst, p.fail(at, "wanted four hexadecimal digits after \\u")
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+6 <= end && in[i] == '\\' && in[i+1] == 'u' {
					low, _ = hex4(in, i+2)
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return dst, p.fail(at, "wanted a pair of surrogates, found a lone one")
				}
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
		default:
			return dst, p.failf(at, "wanted an escape such as \\n or \\u0041, found %q", string(validPrefix(in[at:], 6)))
		}
	}
	return dst, true
}

func hex4(in []byte, i int) (rune, bool) {
	if i+4 > len(in) {
		return -1, false
	}
	var r rune
	for _, c := range in[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return -1, false
		}
	}
	return r, true
}

// skipValue passes over one value of any shape, checking its grammar; p.depth limits nesting.
func (p *parser) skipValue() bool {
	if !p.element() {
		return false
	}
	switch c := p.peek(); c {
	case '{', '[':
		if p.depth++; p.depth > p.maxDepth {
			return p.tooDeep()
		}
		p.pos++
		closing := c + 2 // '}' and ']' stand two behind '{' and '['
		if p.peek() == closing {
			p.pos++
			p.depth--
			return true
		}
		for more := true; more; {
			if c == '{' && !p.skipKey() || !p.skipValue() {
				return false
			}
			var ok bool
			if more, ok = p.more(closing); !ok {
				return false
			}
		}
		p.depth--
		return true
	default:
		return p.skipScalar(c)
	}
}

func (p *parser) skipKey() bool {
	if p.peek() != '"' {
		return p.failf(p.pos, "wanted a key in quotes, found %s", p.found(p.pos))
	}
	if _, ok := p.str(); !ok {
		return false
	}
	return p.want(':', `":" after a key`)
}

func (p *parser) skipScalar(c byte) bool {
	switch c {
	case '"':
		_, ok := p.str()
		return ok
	case 't', 'f', 'n':
		for _, word := range [...]string{"true", "false", "null"} {
			if p.literal(word) {
				p.pos += len(word)
				return true
			}
		}
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		_, ok := p.numberToken()
		return ok
	}
	return p.failf(p.pos, "wanted a value, found %s", p.found(p.pos))
}

func (p *parser) tooDeep() bool {
	return p.failf(p.pos, "nested deeper than %d levels", p.maxDepth)
}

// wrong fails with what field f takes and what stands at an offset.
func (p *parser) wrong(at int, f *schema.Field) bool {
	return p.failf(at, "wanted %s, found %s", wanted(f), p.found(at))
}
