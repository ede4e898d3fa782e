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

type node[T any] struct {
	kids  []kid[T]            // literals, as long as they are few
	index map[string]*node[T] // literals, once they are many
	star  *node[T]
	tails []tail[T] // what follows "**", the longest tail first
	leafs []leaf[T]
}

// fewKids is how many literals are compared one by one, which is cheaper than a map.
const fewKids = 6

type kid[T any] struct {
	text string
	node *node[T]
}

type tail[T any] struct {
	length int
	node   *node[T]
}

// leaf holds the entries of one HTTP verb under templates of one shape, in the order added.
type leaf[T any] struct {
	verb    string
	entries []entry[T]
}

type entry[T any] struct {
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
	for i := range n.leafs {
		if l := &n.leafs[i]; l.verb == verb {
			l.entries = append(l.entries, entry[T]{tmpl, v})
			return
		}
	}
	n.leafs = append(n.leafs, leaf[T]{verb, []entry[T]{{tmpl, v}}})
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
	for _, e := range n.entries(verb) {
		same = append(same, e.value)
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
	next := &node[T]{}
	switch {
	case n.index != nil:
		n.index[text] = next
	case len(n.kids) < fewKids:
		n.kids = append(n.kids, kid[T]{text, next})
	default:
		n.index = make(map[string]*node[T], 2*fewKids)
		for _, k := range n.kids {
			n.index[k.text] = k.node
		}
		n.index[text] = next
		n.kids = nil
	}
	return next
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

func (n *node[T]) literal(text string) *node[T] {
	if n.index != nil {
		return n.index[text]
	}
	for i := range n.kids {
		if n.kids[i].text == text {
			return n.kids[i].node
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

func (n *node[T]) entries(verb string) []entry[T] {
	for i := range n.leafs {
		if n.leafs[i].verb == verb {
			return n.leafs[i].entries
		}
	}
	return nil
}
