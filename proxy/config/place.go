package config

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// source is one file that was read.
type source struct {
	name  string
	text  string
	lines []string // without their line ends

	// Where from was asked last; reading goes forward, so that a document in one line does not cost its square.
	cursor struct{ line, column, offset int }

	mu     sync.Mutex
	masked [2]struct { // the lines that faults printed last, by parity
		line int
		text string
	}
}

func newSource(name, text string) *source {
	text = strings.TrimPrefix(text, "\ufeff")
	return &source{name: name, text: text, lines: splitLines(text)}
}

// splitLines splits where YAML 1.1 counts a line: LF, CR, CR LF, NEL, LS, PS.
func splitLines(s string) []string {
	var lines []string
	start := 0
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == '\r' && strings.HasPrefix(s[i+size:], "\n") {
			size++
		}
		switch r {
		case '\n', '\r', '\u0085', '\u2028', '\u2029':
			lines = append(lines, s[start:i])
			start = i + size
		}
		i += size
	}
	return append(lines, s[start:])
}

// line returns line n, counted from 1, or "".
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// from returns what stands in a line from a column on, both counted from 1. It is for one goroutine, while reading.
func (s *source) from(line, column int) string {
	c := &s.cursor
	if c.line != line || c.column > column {
		c.line, c.column, c.offset = line, 1, 0
	}
	text := s.line(line)
	for c.column < column && c.offset < len(text) {
		_, size := utf8.DecodeRuneInString(text[c.offset:])
		c.offset += size
		c.column++
	}
	return text[c.offset:]
}

// span is a stretch of one line.
type span struct {
	file                *source
	line, column, width int
}

// fault makes a fault at the span; the zero span has no position.
func (s span) fault(path, message string) *Fault {
	f := &Fault{Path: path, Message: message}
	if s.file != nil {
		f.File, f.Line, f.Column, f.width = s.file.name, s.line, s.column, s.width
		f.Source, f.Before = s.file.shown(s.line), s.file.shown(s.line-1)
	}
	return f
}

func (s span) String() string {
	return s.file.name + ":" + strconv.Itoa(s.line) + ":" + strconv.Itoa(s.column)
}

// place is where one value of the document stands. Places form the same tree as the message; the root is the document.
type place struct {
	parent *place
	name   string // of the field, or the key of a map entry in brackets
	index  int    // in a list; -1 for a field or map entry
	span
	// failed: the value is there in some form but could not be read, so that nothing more is said about its absence.
	failed bool
	// secret: the value came from ${...}.
	secret bool
	kids   []*place
}

func (p *place) child(name string, index int, at span) *place {
	kid := &place{parent: p, name: name, index: index, span: at}
	p.kids = append(p.kids, kid)
	return kid
}

// path is the field path: "routes[0].plugins[1].config.output".
func (p *place) path() string {
	if p.parent == nil {
		return ""
	}
	parent := p.parent.path()
	switch {
	case p.index >= 0:
		return parent + "[" + strconv.Itoa(p.index) + "]"
	case parent == "" || strings.HasPrefix(p.name, "["):
		return parent + p.name
	default:
		return parent + "." + p.name
	}
}

// find follows a path as far as places go, and says whether it got to its end.
func (p *place) find(path string) (*place, bool) {
	for path != "" {
		var step string
		step, path = firstStep(path)
		kid := p.kid(step)
		if kid == nil {
			return p, false
		}
		p = kid
	}
	return p, true
}

// firstStep cuts the first step off a path: "routes", "[0]", `["key"]`.
func firstStep(path string) (step, rest string) {
	path = strings.TrimPrefix(path, ".")
	if strings.HasPrefix(path, "[") {
		if q, err := strconv.QuotedPrefix(path[1:]); err == nil && strings.HasPrefix(path[1+len(q):], "]") {
			return path[:len(q)+2], path[len(q)+2:]
		}
		if i := strings.IndexByte(path, ']'); i >= 0 {
			return path[:i+1], path[i+1:]
		}
		return path, ""
	}
	if i := strings.IndexAny(path, ".["); i > 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

func (p *place) kid(step string) *place {
	if strings.HasPrefix(step, "[") && !strings.HasPrefix(step, `["`) {
		i, err := strconv.Atoi(strings.Trim(step, "[]"))
		if err != nil {
			return nil
		}
		if i >= 0 && i < len(p.kids) && p.kids[i].index == i { // lists: the usual case
			return p.kids[i]
		}
		for _, k := range p.kids {
			if k.index == i {
				return k
			}
		}
		return nil
	}
	for _, k := range p.kids {
		if k.index < 0 && k.name == step {
			return k
		}
	}
	return nil
}

// where is the span of the nearest place, upwards, that has one.
func (p *place) where() span {
	for ; p != nil; p = p.parent {
		if p.file != nil {
			return p.span
		}
	}
	return span{}
}
