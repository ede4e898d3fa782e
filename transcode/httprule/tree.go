package httprule

import (
	"slices"
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
	verbs map[string]*node[T]
	// longest is the length of the longest literal: a longer segment needs no look-up.
	longest int
}

// node is laid out so that a search touches little memory: most nodes have one literal below them or none.
type node[T any] struct {
	first kid[T]   // a literal; its node is nil when there is none
	more  *many[T] // the other literals
	star  *node[T]
	tails []tail[T]  // what follows "**", the longest tail first
	ends  []entry[T] // what ends here, in the order added
}

type kid[T any] struct {
	text string
	node *node[T]
}

// many are literals: one by one, which is cheaper, until there are more than a few.
type many[T any] struct {
	kids  []kid[T]
	index map[string]*node[T]
}

const few = 6

type tail[T any] struct {
	length int
	node   *node[T]
}

type entry[T any] struct {
	verb  string
	tmpl  *Template
	value T
}

// NewTree returns an empty tree. Match asks admit whether a value whose template fits is to be taken; admit must be safe
// for concurrent use.
func NewTree[T, Q any](admit func(T, Q) bool) *Tree[T, Q] {
	return &Tree[T, Q]{admit: admit, root: &node[T]{}}
}

// Add adds v under an HTTP verb ("*" for any) and a template.
func (t *Tree[T, Q]) Add(verb string, tmpl *Template, v T) {
	n := t.root
	if tmpl.verb != "" {
		if n = t.verbs[tmpl.verb]; n == nil {
			if t.verbs == nil {
				t.verbs = map[string]*node[T]{}
			}
			n = &node[T]{}
			t.verbs[tmpl.verb] = n
		}
	}
	for i, s := range tmpl.segs {
		switch s.kind {
		case literal:
			t.longest = max(t.longest, len(s.text))
			n = n.addLiteral(s.text)
		case star:
			if n.star == nil {
				n.star = &node[T]{}
			}
			n = n.star
		case deep:
			n = n.addTail(len(tmpl.segs) - i - 1)
		}
	}
	n.ends = append(n.ends, entry[T]{verb, tmpl, v})
}

// Same are the values added under the HTTP verb and a template of the same shape: one that differs at most in what its
// variables are called and capture, so that both fit the same paths.
func (t *Tree[T, Q]) Same(verb string, tmpl *Template) []T {
	n := t.root
	if tmpl.verb != "" {
		n = t.verbs[tmpl.verb]
	}
	for i, s := range tmpl.segs {
		if n == nil {
			return nil
		}
		switch s.kind {
		case literal:
			n = n.literal(s.text)
		case star:
			n = n.star
		case deep:
			n = n.tail(len(tmpl.segs) - i - 1)
		}
	}
	if n == nil {
		return nil
	}
	var same []T
	for _, e := range n.ends {
		if e.verb == verb {
			same = append(same, e.value)
		}
	}
	return same
}

// Match finds the value of the most specific template that fits: at the leftmost segment where two differ, a literal
// goes before "*" and "*" before "**"; templates with a verb (":cancel") go before all others. What is not admitted for
// q is passed over. Of several values under one shape those of the very HTTP verb go before those of "*", and otherwise
// the one added first.
//
// The segments are those of AppendSegments. What the template's variables capture is appended to vars, in its order and
// decoded; only an encoded slash stays encoded in a variable of several segments. A segment with an encoded slash fits
// nothing but a variable's wildcard.
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
		s.last = segs[len(segs)-1]
		if n, rest := t.custom(s.last); n != nil {
			whole := s.last
			s.last = rest
			if e := s.find(n, 0); e != nil {
				return e.value, s.capture(e.tmpl, path, vars), true
			}
			s.last = whole
		}
	}
	if e := s.find(t.root, 0); e != nil {
		return e.value, s.capture(e.tmpl, path, vars), true
	}
	var none T
	return none, vars, false
}

// Verbs are the HTTP verbs, sorted, under which a Match of the same segments and q would have found a value. "*" is
// among them if a value for every verb is.
func (t *Tree[T, Q]) Verbs(segs []string, q Q) []string {
	s := search[T, Q]{tree: t, segs: segs, q: q}
	var verbs []string
	if len(segs) > 0 {
		s.last = segs[len(segs)-1]
		if n, rest := t.custom(s.last); n != nil {
			whole := s.last
			s.last = rest
			verbs = s.collect(n, 0, verbs)
			s.last = whole
		}
	}
	verbs = s.collect(t.root, 0, verbs)
	slices.Sort(verbs)
	return verbs
}

// custom splits a verb off the last segment, if templates with that verb are known: it gives their trie and the segment
// without the verb. What is left must be a segment that AppendSegments lets in.
func (t *Tree[T, Q]) custom(last string) (*node[T], string) {
	if len(t.verbs) == 0 {
		return nil, ""
	}
	i := strings.LastIndexByte(last, ':')
	if i <= 0 {
		return nil, ""
	}
	verb := last[i+1:]
	n := t.verbs[verb]
	if n == nil && strings.IndexByte(verb, '%') >= 0 {
		n = t.verbs[string(appendDecoded(nil, verb, true))]
	}
	if n == nil {
		return nil, ""
	}
	if last[0] == '.' || last[0] == '%' {
		if cause, _ := refuse(last[:i]); cause != "" {
			return nil, ""
		}
	}
	return n, last[:i]
}

func (n *node[T]) addLiteral(text string) *node[T] {
	if next := n.literal(text); next != nil {
		return next
	}
	k := kid[T]{text, &node[T]{}}
	if n.first.node == nil {
		n.first = k
		return k.node
	}
	if n.more == nil {
		n.more = &many[T]{}
	}
	switch m := n.more; {
	case m.index != nil:
		m.index[text] = k.node
	case len(m.kids) < few:
		m.kids = append(m.kids, k)
	default:
		m.index = make(map[string]*node[T], 2*few)
		for _, k := range append(m.kids, k) {
			m.index[k.text] = k.node
		}
		m.kids = nil
	}
	return k.node
}

func (n *node[T]) addTail(length int) *node[T] {
	if next := n.tail(length); next != nil {
		return next
	}
	i := 0
	for i < len(n.tails) && n.tails[i].length > length {
		i++
	}
	n.tails = slices.Insert(n.tails, i, tail[T]{length, &node[T]{}})
	return n.tails[i].node
}

// literal finds the node below n for a decoded literal, or nil.
func (n *node[T]) literal(text string) *node[T] {
	if n.first.text == text {
		return n.first.node
	}
	if n.more == nil {
		return nil
	}
	if n.more.index != nil {
		return n.more.index[text]
	}
	for i := range n.more.kids {
		if n.more.kids[i].text == text {
			return n.more.kids[i].node
		}
	}
	return nil
}

func (n *node[T]) tail(length int) *node[T] {
	for _, t := range n.tails {
		if t.length == length {
			return t.node
		}
	}
	return nil
}
