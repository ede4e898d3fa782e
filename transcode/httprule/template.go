package httprule

import (
	"slices"
	"strings"
)

// Template is a parsed path template. Read-only and safe for concurrent use.
//
// The grammar, from google/api/http.proto ("Path template syntax"):
//
//	Template = "/" Segments [ Verb ] ;
//	Segments = Segment { "/" Segment } ;
//	Segment  = "*" | "**" | LITERAL | Variable ;
//	Variable = "{" FieldPath [ "=" Segments ] "}" ;
//	FieldPath = IDENT { "." IDENT } ;
//	Verb     = ":" LITERAL ;
//
// "/" alone is the template of the root. A LITERAL is one or more of RFC 3986's pchar, percent-encoding included.
//
// A LITERAL may have colons. Behind a wildcard or a variable the first colon begins the verb: that of "/{id}:a:b" is
// "a:b". In a last segment that is a literal the last colon does: "/x:a:b" is the literal "x:a" with the verb "b". A
// colon that is to be neither is written %3A. A path fits if it ends in a raw colon and the verb; when several verbs
// that are known end the same path, the longest goes first (see Tree.Match).
type Template struct {
	segs []segment
	verb string // decoded, without the colon
	vars []Variable
	// open are the wildcards that no variable captures.
	open []span
	glob int     // index in segs of "**", or -1
	keep reserve // what stays encoded in variables of several segments
	text string
}

// Variable is one variable of a template.
type Variable struct {
	Field string // dotted field path, as written
	Multi bool   // it may capture several segments, joined by "/"
	span  span
}

// kind says what a segment of a template fits; the order is that of preference.
type kind uint8

const (
	literal kind = iota
	star         // "*": any one segment
	deep         // "**": any number of segments, none included
)

type segment struct {
	kind kind
	text string // of a literal, decoded
}

// span is a half-open range of a template's segments.
type span struct{ start, end int }

// in returns the range of a path's segments that s stands for, when the path has extra segments more than the template,
// whose "**" is at glob (-1: there is none, and no segment is extra).
func (s span) in(glob, extra int) (start, end int) {
	start, end = s.start, s.end
	if start > glob {
		start += extra
	}
	if end > glob {
		end += extra
	}
	return start, end
}

// String returns the template in canonical form: "{x=*}" as "{x}", literals with as little percent-encoding as possible
// and a colon that is no verb's as %3A. Parsing it gives an equal template.
func (t *Template) String() string { return t.text }

// Vars are the template's variables in the order they stand in. Read-only.
func (t *Template) Vars() []Variable { return t.vars }

// finish derives what follows from the segments and variables. If the text is canonical it is kept: the literals are
// substrings of it.
func (t *Template) finish() {
	t.glob = slices.IndexFunc(t.segs, func(s segment) bool { return s.kind == deep })
	next := 0 // of vars
	for i, s := range t.segs {
		for next < len(t.vars) && t.vars[next].span.end <= i {
			next++
		}
		captured := next < len(t.vars) && t.vars[next].span.start <= i
		if s.kind != literal && !captured {
			t.open = append(t.open, span{i, i + 1})
		}
	}
	for i, v := range t.vars {
		t.vars[i].Multi = v.span.end-v.span.start > 1 || v.span.start == t.glob
	}
	if text := t.canonical(); text != t.text {
		t.text = text
	}
}

// equals yields the segments of every template that fits the same paths, t's own first. Among wildcards "**" may stand
// anywhere. And as a verb ends a segment, "/**:verb" needs one as "/*/**:verb" does.
func (t *Template) equals(yield func([]segment) bool) {
	if !yield(t.segs) || t.glob < 0 {
		return
	}
	from, to := t.glob, t.glob+1 // the wildcards around "**"
	for from > 0 && t.segs[from-1].kind == star {
		from--
	}
	for to < len(t.segs) && t.segs[to].kind == star {
		to++
	}
	least, most := to-from, to-from
	if t.verb != "" && from == 0 && to == len(t.segs) && most <= 2 {
		least, most = 1, 2
	}
	for n := least; n <= most; n++ {
		for glob := range n {
			if n == to-from && glob == t.glob-from {
				continue // t itself
			}
			segs := slices.Clone(t.segs[:from])
			for i := range n {
				k := star
				if i == glob {
					k = deep
				}
				segs = append(segs, segment{kind: k})
			}
			if !yield(append(segs, t.segs[to:]...)) {
				return
			}
		}
	}
}

// captures are the places of the variables, in their order.
func (t *Template) captures() []capture {
	var captures []capture
	for _, v := range t.vars {
		c := capture{v.span, reserveNone}
		if v.Multi {
			c.keep = t.keep
		}
		captures = append(captures, c)
	}
	return captures
}

func (t *Template) canonical() string {
	if len(t.segs) == 0 {
		return "/"
	}
	var b strings.Builder
	vars := t.vars
	for i := 0; i < len(t.segs); {
		b.WriteByte('/')
		if len(vars) == 0 || vars[0].span.start != i {
			t.segs[i].write(&b)
			i++
			continue
		}
		v := vars[0]
		vars = vars[1:]
		b.WriteByte('{')
		b.WriteString(v.Field)
		if part := t.segs[v.span.start:v.span.end]; len(part) > 1 || part[0].kind != star {
			for j, s := range part {
				b.WriteByte("=/"[min(j, 1)])
				s.write(&b)
			}
		}
		b.WriteByte('}')
		i = v.span.end
	}
	if t.verb != "" {
		b.WriteByte(':')
		t.writeVerb(&b, t.verb)
	}
	return b.String()
}

// writeVerb writes a verb's text. Its colons may stand raw behind a variable only: elsewhere other implementations take
// the last one for the verb's beginning.
func (t *Template) writeVerb(b *strings.Builder, verb string) {
	behindVariable := len(t.vars) > 0 && t.vars[len(t.vars)-1].span.end == len(t.segs)
	for i, part := range strings.Split(verb, ":") {
		if i > 0 && behindVariable {
			b.WriteByte(':')
		} else if i > 0 {
			b.WriteString("%3A")
		}
		segment{literal, part}.write(b)
	}
}

func (s segment) write(b *strings.Builder) {
	switch s.kind {
	case star:
		b.WriteByte('*')
	case deep:
		b.WriteString("**")
	case literal:
		const hex = "0123456789ABCDEF"
		for i := range len(s.text) {
			c := s.text[i]
			if pchar(c) && c != ':' && c != '*' {
				b.WriteByte(c)
				continue
			}
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
}

// pchar says that c may stand in a path segment unencoded (RFC 3986, section 3.3).
func pchar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@", c) >= 0
}
