package httprule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxTemplate bounds a template in bytes: descriptors come from outside, and what is longer than any request line would
// never match.
const maxTemplate = 2048

// SyntaxError says where a path template breaks the grammar.
type SyntaxError struct {
	Template string
	Column   int // 1-based, in bytes
	Want     string
	Found    string
}

// Error returns one line: the template, the column, what was wanted and what was found.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("path template %q: column %d: wanted %s, found %s", abridge(e.Template), e.Column, e.Want, e.Found)
}

// abridge keeps messages short, whatever was sent.
func abridge(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// Parse parses a path template; see Template for the grammar. Refused are empty segments, nested and duplicate
// variables, a second "**", and literals that no request path can have. "**" may stand before other segments: while it
// is the only one, it is plain which segments it stands for. The error is a *SyntaxError.
func Parse(s string) (*Template, error) {
	p := parser{s: s, t: &Template{text: s, keep: reserveSlash}}
	if err := p.template(); err != nil {
		return nil, err
	}
	p.t.finish()
	return p.t, nil
}

type parser struct {
	s    string
	pos  int
	t    *Template
	deep bool // "**" has been seen
}

const anySegment = `a segment (a literal, "*", "**" or "{variable}")`

func (p *parser) template() error {
	switch {
	case len(p.s) > maxTemplate:
		return p.fail(maxTemplate, fmt.Sprintf("the end after at most %d bytes", maxTemplate), fmt.Sprintf("%d bytes", len(p.s)))
	case p.peek() != '/':
		return p.want(`"/"`)
	case p.s == "/":
		return nil
	}
	for p.peek() == '/' {
		p.pos++
		if err := p.segment(false); err != nil {
			return err
		}
	}
	if p.peek() == ':' {
		if err := p.verb(); err != nil {
			return err
		}
	}
	if p.pos < len(p.s) {
		return p.want(`"/", ":" or the end`)
	}
	return nil
}

// segment parses one segment, inside a variable or outside.
func (p *parser) segment(inside bool) error {
	switch p.peek() {
	case '*':
		return p.wildcard()
	case '{':
		if inside {
			return p.fail(p.pos, `a literal, "*" or "**"`, `"{": a variable cannot hold another`)
		}
		return p.variable()
	case 0, '/', ':', '}':
		return p.want(anySegment)
	default:
		return p.literal(inside)
	}
}

func (p *parser) wildcard() error {
	rest := p.s[p.pos:]
	n := len(rest) - len(strings.TrimLeft(rest, "*"))
	if n > 2 {
		return p.fail(p.pos, `"*" or "**"`, strconv.Quote(rest[:n]))
	}
	start := p.pos
	p.pos += n
	if p.pos < len(p.s) && strings.IndexByte("/:}", p.peek()) < 0 {
		return p.fail(p.pos, `"/", ":" or the end after a wildcard`, p.found()+`: a wildcard is a whole segment ("%2A" is a literal asterisk)`)
	}
	if n == 1 {
		p.t.segs = append(p.t.segs, segment{kind: star})
		return nil
	}
	if p.deep {
		return p.fail(start, `"*" or a literal`, `a second "**": it would be unclear which segments each stands for`)
	}
	p.deep = true
	p.t.segs = append(p.t.segs, segment{kind: deep})
	return nil
}

// literal parses a literal segment. In the last one a colon begins the verb, and of several the last one does, as
// grpc-gateway has it; behind a wildcard or a variable the first one does.
func (p *parser) literal(inside bool) error {
	start := p.pos
	end := len(p.s)
	stop := "/{"
	if inside {
		stop = "/}"
	}
	if i := strings.IndexAny(p.s[start:], stop); i >= 0 {
		end = start + i
	} else if i := strings.LastIndexByte(p.s[start:], ':'); i >= 0 && !inside {
		end = start + i
	}
	text, err := p.text(end, inside)
	if err != nil {
		return err
	}
	if p.peek() == '{' {
		return p.fail(p.pos, `"/", ":" or the end`, `"{": a variable is a whole segment`)
	}
	p.t.segs = append(p.t.segs, segment{text: text})
	return nil
}

// text reads the characters of a literal up to end and returns them decoded.
func (p *parser) text(end int, noColon bool) (string, error) {
	start := p.pos
	for ; p.pos < end; p.pos++ {
		switch c := p.s[p.pos]; {
		case c == '*':
			return "", p.fail(p.pos, "a literal", `"*": a wildcard is a whole segment ("%2A" is a literal asterisk)`)
		case c == ':' && noColon:
			return "", p.fail(p.pos, "a literal", `":" ("%3A" is a literal colon)`)
		case c != '%' && !pchar(c):
			return "", p.fail(p.pos, "a literal", p.found())
		}
	}
	raw := p.s[start:end]
	if cause, at := refuse(raw); cause != "" {
		return "", p.fail(start+at, "a literal that a request path can have", cause)
	}
	if i := escapedSlash(raw); i >= 0 {
		return "", p.fail(start+i, "a literal that a request path can have", `an encoded "/"`)
	}
	return decoded(raw, reserveNone), nil
}

func (p *parser) variable() error {
	open := p.pos
	p.pos++
	name := p.pos
	for {
		if err := p.ident(); err != nil {
			return err
		}
		if p.peek() != '.' {
			break
		}
		p.pos++
	}
	v := Variable{Field: p.s[name:p.pos], span: span{start: len(p.t.segs)}}
	if slices.ContainsFunc(p.t.vars, func(o Variable) bool { return o.Field == v.Field }) {
		return p.fail(name, "a variable not bound before", strconv.Quote(v.Field)+" again")
	}
	switch p.peek() {
	case '}':
		p.t.segs = append(p.t.segs, segment{kind: star})
	case '=':
		for first := true; first || p.peek() == '/'; first = false {
			p.pos++
			if err := p.segment(true); err != nil {
				return err
			}
		}
		if p.peek() != '}' {
			return p.want(fmt.Sprintf(`"/" or the "}" that ends the variable of column %d`, open+1))
		}
	default:
		return p.want(fmt.Sprintf(`".", "=" or the "}" that ends the variable of column %d`, open+1))
	}
	p.pos++
	v.span.end = len(p.t.segs)
	p.t.vars = append(p.t.vars, v)
	if c := p.peek(); c != 0 && c != '/' && c != ':' {
		return p.fail(p.pos, `"/", ":" or the end`, p.found()+": a variable is a whole segment")
	}
	return nil
}

func (p *parser) ident() error {
	start := p.pos
	for ; p.pos < len(p.s); p.pos++ {
		c := p.s[p.pos]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9' || p.pos == start) {
			break
		}
	}
	if p.pos == start {
		return p.want("a field name")
	}
	return nil
}

func (p *parser) verb() error {
	p.pos++
	if p.pos == len(p.s) {
		return p.want(`a verb after ":"`)
	}
	if i := strings.IndexByte(p.s[p.pos:], '/'); i >= 0 {
		return p.fail(p.pos+i, "the end after the verb", `"/"`)
	}
	text, err := p.text(len(p.s), false)
	p.t.verb = text
	return err
}

// peek is the next byte, 0 at the end; a NUL in the template is refused wherever a literal may be.
func (p *parser) peek() byte {
	if p.pos >= len(p.s) {
		return 0
	}
	return p.s[p.pos]
}

func (p *parser) want(what string) error { return p.fail(p.pos, what, p.found()) }

// found describes the character at the position.
func (p *parser) found() string {
	if p.pos >= len(p.s) {
		return "the end"
	}
	r, n := utf8.DecodeRuneInString(p.s[p.pos:])
	if r == utf8.RuneError && n == 1 {
		return fmt.Sprintf("byte 0x%02X", p.s[p.pos])
	}
	if r >= utf8.RuneSelf {
		return fmt.Sprintf("%q, to be percent-encoded here", string(r))
	}
	return strconv.Quote(string(r))
}

func (p *parser) fail(pos int, want, found string) error {
	return &SyntaxError{Template: p.s, Column: pos + 1, Want: want, Found: found}
}
