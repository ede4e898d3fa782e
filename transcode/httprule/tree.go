package httprule

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Tree finds the value of the most specific template that fits a path. Values have the type T; Q is what a caller asks
// with besides verb and path (a host, headers), and a value is found only if it is admitted for it.
//
// A Tree is built by one goroutine and then read by many: Add must not be called while others read.
//
// It is a trie over segments. A template has at most one "**", and what follows it is a trie of its own reached by the
// number of segments it needs, so for a given path each node is gone to at most once: a search costs at most the number
// of nodes, whatever the templates are, and the few nodes that fit in practice.
type Tree[T, Q any] struct {
	admit func(T, Q) bool
	root  *node[T]
	// verbs are the tries of the templates with a verb (":cancel"), by verb.
	verbs literals[T]
	// colons is the most colons that a known verb has inside it.
	colons int
	// longest is the length of the longest literal or verb: longer text needs no look-up.
	longest int
	// layouts and forms are those in use, each once.
	layouts map[string]*layout
	forms   map[formKey]*form
	key     []byte
	// texts are those of the literals, side by side.
	texts strings.Builder
}

type formKey struct {
	layout *layout
	rest   string
}

// NewTree returns an empty tree. Match asks admit whether a value whose template fits is to be taken; admit must be safe
// for concurrent use.
func NewTree[T, Q any](admit func(T, Q) bool) *Tree[T, Q] {
	return &Tree[T, Q]{admit: admit, root: &node[T]{}, layouts: map[string]*layout{}, forms: map[formKey]*form{}}
}

// Add adds v under an HTTP verb ("*" for any) and a template.
func (t *Tree[T, Q]) Add(verb string, tmpl *Template, v T) {
	n := t.root
	if tmpl.verb != "" {
		t.colons = max(t.colons, strings.Count(tmpl.verb, ":"))
		t.longest = max(t.longest, len(tmpl.verb))
		if n = t.verbs.find(tmpl.verb); n == nil {
			n = &node[T]{text: t.text(tmpl.verb)}
			t.verbs.add(n)
		}
	}
	for _, s := range tmpl.segs {
		t.longest = max(t.longest, len(s.text))
	}
	l := t.layout(tmpl)
	e := entry[T]{verb: verb, value: v}
	for rest := tmpl.segs; ; {
		switch {
		case n.empty(), n.branch == nil && slices.Equal(n.rest(), rest):
			e.form = t.form(l, rest)
			n.append(e)
			return
		case n.branch == nil && len(n.rest()) > 0:
			// A second shape: what is here moves one segment down.
			old := n.rest()
			first := n.first
			n.first = entry[T]{}
			down := t.below(n, old[0], len(old)-1)
			down.first = first
			for e := &down.first; e != nil; e = e.next {
				e.form = t.form(e.form.layout, old[1:])
			}
		case len(rest) == 0:
			e.form = t.form(l, nil)
			n.append(e)
			return
		default:
			n, rest = t.below(n, rest[0], len(rest)-1), rest[1:]
		}
	}
}

// below returns the node behind s, with after segments following it, and makes it if need be. n must not be a leaf that
// has a rest.
func (t *Tree[T, Q]) below(n *node[T], s segment, after int) *node[T] {
	if n.branch == nil {
		n.branch = &branch[T]{}
	}
	b := n.branch
	switch s.kind {
	case literal:
		next := b.literals.find(s.text)
		if next == nil {
			next = &node[T]{text: t.text(s.text)}
			b.literals.add(next)
		}
		return next
	case star:
		if b.star == nil {
			b.star = &node[T]{}
		}
		return b.star
	case deep:
	}
	return b.tail(after)
}

// text copies a literal's text next to the others, so that comparing touches little memory.
func (t *Tree[T, Q]) text(s string) string {
	const block = 4096
	if t.texts.Cap()-t.texts.Len() < len(s) {
		t.texts.Reset() // what has been given out stays as it is
		t.texts.Grow(max(block, len(s)))
	}
	t.texts.WriteString(s)
	all := t.texts.String()
	return all[len(all)-len(s):]
}

// layout is the one value of the tree for templates that capture alike.
func (t *Tree[T, Q]) layout(tmpl *Template) *layout {
	l := layout{len(tmpl.segs), tmpl.glob, tmpl.captures(), tmpl.open}
	t.key = strconv.AppendInt(t.key[:0], int64(l.segs), 10)
	t.key = strconv.AppendInt(append(t.key, ' '), int64(l.glob), 10)
	for _, v := range l.vars {
		t.key = strconv.AppendInt(append(t.key, " v"...), int64(v.span.start), 10)
		t.key = strconv.AppendInt(append(t.key, '-'), int64(v.span.end), 10)
		t.key = append(t.key, ' ', '0'+byte(v.keep))
	}
	for _, o := range l.open {
		t.key = strconv.AppendInt(append(t.key, " o"...), int64(o.start), 10)
	}
	one, ok := t.layouts[string(t.key)]
	if !ok {
		one = &l
		t.layouts[string(t.key)] = one
	}
	return one
}

// form is the one value of the tree for templates that capture alike and have rest behind a node.
func (t *Tree[T, Q]) form(l *layout, rest []segment) *form {
	t.key = t.key[:0]
	for _, s := range rest {
		t.key = append(t.key, '/', '0'+byte(s.kind))
		t.key = append(t.key, s.text...)
	}
	one, ok := t.forms[formKey{l, string(t.key)}]
	if !ok {
		rest = slices.Clone(rest)
		for i := range rest {
			rest[i].text = t.text(rest[i].text)
		}
		one = &form{rest, l}
		t.forms[formKey{l, string(t.key)}] = one
	}
	return one
}

// Same are the values added under the HTTP verb and a template that fits the same paths: one that differs in what its
// variables are called and capture, or in where "**" stands among wildcards ("/*/**" and "/**/*"). A value for "*" is
// not the same as one for a named verb, which goes before it, and a value for GET is not the same as one for HEAD, which
// it answers only where there is none.
func (t *Tree[T, Q]) Same(verb string, tmpl *Template) []T {
	var same []T
	for segs := range tmpl.equals {
		for e := t.ends(tmpl.verb, segs); e != nil; e = e.next {
			if e.verb == verb {
				same = append(same, e.value)
			}
		}
	}
	return same
}

// ends is the first entry added under that shape, or nil.
func (t *Tree[T, Q]) ends(verb string, rest []segment) *entry[T] {
	n := t.root
	if verb != "" {
		n = t.verbs.find(verb)
	}
	for n != nil && n.branch != nil && len(rest) > 0 {
		n, rest = n.behind(rest[0], len(rest)-1), rest[1:]
	}
	if n == nil || n.first.form == nil || !slices.Equal(n.rest(), rest) {
		return nil
	}
	return &n.first
}

// Match finds the value of the most specific template that fits: at the leftmost segment where two differ, a literal
// goes before "*" and "*" before "**"; templates with a verb (":cancel") go before all others, and among them the longer
// verb first. What is not admitted for q is passed over. Of several values under one shape those of the very HTTP verb
// go before those of "*", and otherwise the one added first. HEAD finds what GET would, and at each shape a value for
// HEAD itself first.
//
// The segments are those of AppendSegments. What the template's variables capture is appended to vars, in its order and
// decoded; only an encoded slash stays encoded in a variable of several segments (see Decoding). A segment with an
// encoded slash fits nothing but a variable's wildcard.
//
// Match allocates for captures with percent-encoding, and for those that join several segments (see MatchPath).
func (t *Tree[T, Q]) Match(verb string, segs []string, q Q, vars []string) (T, []string, bool) {
	return t.MatchPath(verb, "", segs, q, vars)
}

// MatchPath is Match for callers that still have the path the segments are of: captures of several segments without
// percent-encoding are then substrings of it, and nothing is allocated.
func (t *Tree[T, Q]) MatchPath(verb, path string, segs []string, q Q, vars []string) (T, []string, bool) {
	s := search[T, Q]{tree: t, verb: verb, segs: segs, q: q}
	if len(segs) > 0 {
		last := segs[len(segs)-1]
		for i := t.firstColon(last); i > 0; i = nextColon(last, i) {
			if n := t.custom(last, i); n != nil {
				s.last = last[:i]
				if e := s.find(n, 0); e != nil {
					return e.value, s.capture(e.form, path, vars), true
				}
			}
		}
		s.last = last
	}
	if e := s.find(t.root, 0); e != nil {
		return e.value, s.capture(e.form, path, vars), true
	}
	var none T
	return none, vars, false
}

// Verbs are the HTTP verbs, sorted, under which a Match of the same segments and q would have found a value: HEAD is
// among them wherever GET is. "*" is among them if a value for every verb is.
func (t *Tree[T, Q]) Verbs(segs []string, q Q) []string {
	s := search[T, Q]{tree: t, segs: segs, q: q}
	var verbs []string
	if len(segs) > 0 {
		last := segs[len(segs)-1]
		for i := t.firstColon(last); i > 0; i = nextColon(last, i) {
			if n := t.custom(last, i); n != nil {
				s.last = last[:i]
				verbs = s.collect(n, 0, verbs)
			}
		}
		s.last = last
	}
	verbs = s.collect(t.root, 0, verbs)
	if slices.Contains(verbs, http.MethodGet) && !slices.Contains(verbs, http.MethodHead) {
		verbs = append(verbs, http.MethodHead)
	}
	slices.Sort(verbs)
	return verbs
}

// firstColon is where in a path's last segment the longest verb can begin, or not above 0. A verb has at most t.colons
// colons inside, so there are as many places to try, whatever is sent.
func (t *Tree[T, Q]) firstColon(last string) int {
	if t.verbs.count == 0 {
		return -1
	}
	at := -1
	for i, left := len(last), t.colons+1; left > 0; left-- {
		if i = strings.LastIndexByte(last[:i], ':'); i <= 0 {
			break
		}
		at = i
	}
	return at
}

// nextColon is where in last the first colon after i is, or -1.
func nextColon(last string, i int) int {
	if j := strings.IndexByte(last[i+1:], ':'); j >= 0 {
		return i + 1 + j
	}
	return -1
}

// custom finds the trie of the verb that follows the colon at i, or nil. What is left must be a segment that
// AppendSegments lets in.
func (t *Tree[T, Q]) custom(last string, i int) *node[T] {
	verb := last[i+1:]
	if len(verb) > 3*t.longest {
		return nil
	}
	n := t.verbs.find(verb)
	if n == nil && strings.IndexByte(verb, '%') >= 0 {
		var buf [128]byte
		n = t.verbs.find(string(appendDecoded(buf[:0], verb, reserveSlash)))
	}
	if n == nil {
		return nil
	}
	if last[0] == '.' || last[0] == '%' {
		if cause, _ := refuse(last[:i]); cause != "" {
			return nil
		}
	}
	return n
}
