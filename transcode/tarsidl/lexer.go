package tarsidl

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// position is a place in a file: both from 1 on, the column in bytes.
type position struct{ line, column int }

// tokenKind says what a token is.
type tokenKind uint8

const (
	endOfFile tokenKind = iota
	name
	number // an integer or a float, without a sign
	text   // a string, its escapes resolved
	punctuation
	include // #include
	broken  // its text says what is wrong
)

// token is one word of a file.
type token struct {
	kind tokenKind
	text string
	at   position
	end  position // behind it
	doc  string   // the comment that ends on the line before, or in front of it on the same line
}

// keywords cannot be names.
var keywords = []string{
	"void", "struct", "bool", "byte", "short", "int", "double", "float", "long", "string", "vector", "map", "key", "routekey",
	"module", "interface", "out", "require", "optional", "false", "true", "enum", "const", "unsigned",
}

// lexer cuts a file into tokens. The text is bytes: comments and strings may hold any encoding.
type lexer struct {
	in   []byte
	pos  int
	line int
	bol  int // where the line begins
	// trail is the comment that follows the last token on its line; it is taken by the parser.
	trail string
	last  position // the end of the last token
}

func newLexer(in []byte) *lexer {
	l := &lexer{in: bytes.TrimPrefix(in, []byte("\xef\xbb\xbf")), line: 1}
	return l
}

func (l *lexer) here() position { return position{l.line, l.pos - l.bol + 1} }

func (l *lexer) newline() {
	l.line++
	l.bol = l.pos
}

// next reads a token. Comments are put before it or behind the one before it.
func (l *lexer) next() token {
	l.trail = ""
	doc, fault := l.space()
	t := l.token()
	if fault != nil {
		t = *fault
	}
	t.doc = doc
	t.end = l.here()
	l.last = t.end
	return t
}

// space passes over white space and comments.
func (l *lexer) space() (doc string, fault *token) {
	first := true // on the line of the last token
	docLine := 0
	for l.pos < len(l.in) {
		switch c := l.in[l.pos]; {
		case c == '\n':
			l.pos++
			l.newline()
			first = false
			if docLine > 0 && l.line > docLine+1 {
				doc = "" // a blank line parts the comment from what follows
			}
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			l.pos++
		case bytes.HasPrefix(l.in[l.pos:], []byte("//")), bytes.HasPrefix(l.in[l.pos:], []byte("/*")):
			at := l.here()
			comment, ok := l.comment()
			if !ok {
				return "", &token{kind: broken, at: at, text: `this comment does not end; wanted "*/"`}
			}
			if first && l.last.line == at.line {
				l.trail += comment
			} else {
				doc += comment
				docLine = l.line
			}
		default:
			return doc, nil
		}
	}
	return "", nil
}

// comment reads a comment; the result is its text with a line feed behind each line, or "" when it is no UTF-8.
func (l *lexer) comment() (string, bool) {
	start := l.pos + 2
	if l.in[l.pos+1] == '/' {
		n := bytes.IndexByte(l.in[start:], '\n')
		if n < 0 {
			n = len(l.in) - start
		}
		l.pos = start + n
		return commentText(l.in[start:l.pos]), true
	}
	n := bytes.Index(l.in[start:], []byte("*/"))
	if n < 0 {
		l.pos = len(l.in)
		return "", false
	}
	body := l.in[start : start+n]
	for i, c := range body {
		if c == '\n' {
			l.pos = start + i + 1
			l.newline()
		}
	}
	l.pos = start + n + 2
	return commentText(body), true
}

func commentText(body []byte) string {
	if !utf8.Valid(body) {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		line = strings.TrimSpace(strings.TrimLeft(line, "*/!<"))
		line = strings.TrimSpace(strings.TrimRight(line, "*"))
		line = strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' || r == 0x7F {
				return -1
			}
			return r
		}, line)
		if line != "" || b.Len() > 0 {
			b.WriteString(" " + line + "\n")
		}
	}
	text := strings.TrimRight(strings.ReplaceAll(b.String(), "*/", "* /"), " \n")
	if text != "" {
		text += "\n"
	}
	return text
}

func letter(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// token reads the token at pos.
func (l *lexer) token() token {
	t := token{at: l.here()}
	if l.pos >= len(l.in) {
		return t
	}
	start := l.pos
	switch c := l.in[start]; {
	case letter(c):
		for l.pos < len(l.in) && (letter(l.in[l.pos]) || digit(l.in[l.pos])) {
			l.pos++
		}
		t.kind, t.text = name, string(l.in[start:l.pos])
	case digit(c) || c == '.' && start+1 < len(l.in) && digit(l.in[start+1]):
		l.number()
		t.kind, t.text = number, string(l.in[start:l.pos])
	case c == '"':
		t.kind, t.text = l.str()
	case bytes.HasPrefix(l.in[start:], []byte("::")):
		l.pos += 2
		t.kind, t.text = punctuation, "::"
	case c == '#':
		l.pos++
		for l.pos < len(l.in) && (l.in[l.pos] == ' ' || l.in[l.pos] == '\t') {
			l.pos++
		}
		word := l.pos
		for l.pos < len(l.in) && letter(l.in[l.pos]) {
			l.pos++
		}
		if string(l.in[word:l.pos]) == "include" {
			t.kind, t.text = include, "#include"
			break
		}
		t.kind, t.text = broken, "wanted #include, found "+printable(l.in[start:l.pos])
	case bytes.IndexByte([]byte("{}[]()<>;,=:-+*"), c) >= 0:
		l.pos++
		t.kind, t.text = punctuation, string(c)
	default:
		_, n := utf8.DecodeRune(l.in[start:])
		l.pos += n
		t.kind, t.text = broken, fmt.Sprintf("the character %s has no meaning here", printable(l.in[start:l.pos]))
	}
	return t
}

// number passes over an integer (decimal, 0x, octal) or a float with exponent and trailing f; what it is worth the
// parser finds out.
func (l *lexer) number() {
	hex := l.pos+1 < len(l.in) && l.in[l.pos] == '0' && l.in[l.pos+1]|0x20 == 'x'
	for l.pos < len(l.in) {
		c := l.in[l.pos]
		sign := (c == '-' || c == '+') && !hex && l.in[l.pos-1]|0x20 == 'e'
		if !digit(c) && !letter(c) && c != '.' && !sign {
			return
		}
		l.pos++
	}
}

// str reads a string: \\ \" \n and the like, \x and octal escapes are resolved.
func (l *lexer) str() (tokenKind, string) {
	l.pos++
	var b strings.Builder
	for l.pos < len(l.in) && l.in[l.pos] != '\n' {
		c := l.in[l.pos]
		l.pos++
		switch {
		case c == '"':
			return text, b.String()
		case c != '\\' || l.pos >= len(l.in):
			b.WriteByte(c)
		default:
			l.escape(&b)
		}
	}
	return broken, `this string does not end on its line; wanted a closing quote`
}

func (l *lexer) escape(b *strings.Builder) {
	c := l.in[l.pos]
	simple := map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', 'a': '\a', 'b': '\b', 'f': '\f', 'v': '\v', '\\': '\\', '"': '"', '\'': '\'', '?': '?'}
	switch r, ok := simple[c]; {
	case ok:
		l.pos++
		b.WriteByte(r)
	case c == 'x' && l.pos+1 < len(l.in) && hexValue(l.in[l.pos+1]) >= 0:
		l.pos++
		v := 0
		for n := 0; n < 2 && l.pos < len(l.in) && hexValue(l.in[l.pos]) >= 0; n++ {
			v = v<<4 | hexValue(l.in[l.pos])
			l.pos++
		}
		b.WriteByte(byte(v))
	case '0' <= c && c <= '7':
		v := 0
		for n := 0; n < 3 && l.pos < len(l.in) && '0' <= l.in[l.pos] && l.in[l.pos] <= '7'; n++ {
			v = v<<3 | int(l.in[l.pos]-'0')
			l.pos++
		}
		b.WriteByte(byte(v)) // of three octal digits C keeps the low byte too
	default:
		b.WriteByte('\\')
	}
}

func hexValue(c byte) int {
	switch {
	case digit(c):
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// printable shows bytes of a file in a message.
func printable(b []byte) string {
	const longest = 32
	if len(b) > longest {
		b = b[:longest]
	}
	return fmt.Sprintf("%q", b)
}
