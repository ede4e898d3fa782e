package httprule

import (
	"net/http"
	"slices"
	"strings"
)

// search is one walk through a tree.
type search[T, Q any] struct {
	tree *Tree[T, Q]
	verb string
	segs []string
	last string // what counts as the last segment: a verb may have been split off
	q    Q
}

func (s *search[T, Q]) at(i int) string {
	if i == len(s.segs)-1 {
		return s.last
	}
	return s.segs[i]
}

// find looks for an entry below n for the segments from i on. Its depth is bounded by the longest template's.
func (s *search[T, Q]) find(n *node[T], i int) *entry[T] {
	for {
		b := n.branch
		if b == nil {
			if f := n.first.form; f != nil && s.restFits(f.rest, i) {
				return s.pick(n)
			}
			return nil
		}
		if i < len(s.segs) {
			next := s.literal(b, s.at(i))
			if next != nil && b.star == nil && len(b.tails) == 0 {
				// Fast path: no choice, so nothing to come back to.
				n, i = next, i+1
				continue
			}
			if next != nil {
				if e := s.find(next, i+1); e != nil {
					return e
				}
			}
			if b.star != nil && len(b.tails) == 0 {
				n, i = b.star, i+1
				continue
			}
			if b.star != nil {
				if e := s.find(b.star, i+1); e != nil {
					return e
				}
			}
		} else if e := s.pick(n); e != nil {
			return e
		}
		for t := range b.tails {
			if from := len(s.segs) - b.tails[t].length; from >= i {
				if e := s.find(b.tails[t].node, from); e != nil {
					return e
				}
			}
		}
		return nil
	}
}

// restFits says that a leaf's segments fit those from i on.
func (s *search[T, Q]) restFits(rest []segment, i int) bool {
	for k := range rest {
		switch rest[k].kind {
		case literal:
			if i >= len(s.segs) || !sameLiteral(rest[k].text, s.at(i)) {
				return false
			}
			i++
		case star:
			i++
		case deep:
			from := len(s.segs) - (len(rest) - 1 - k)
			if from < i {
				return false
			}
			i = from
		}
	}
	return i == len(s.segs)
}

// sameLiteral says that the raw segment seg is the literal text.
func sameLiteral(text, seg string) bool {
	if seg == text {
		return true
	}
	if len(seg) > 3*len(text) || strings.IndexByte(seg, '%') < 0 {
		return false
	}
	var buf [128]byte
	return string(appendDecoded(buf[:0], seg, reserveSlash)) == text
}

// literal finds the child for a raw segment. A literal is stored decoded, and no stored one reads like the encoded form
// of another, so a segment with percent-encoding is decoded only when it is not found as it stands.
func (s *search[T, Q]) literal(b *branch[T], seg string) *node[T] {
	if b.literals.count == 0 || len(seg) > 3*s.tree.longest {
		return nil
	}
	if next := b.literals.find(seg); next != nil {
		return next
	}
	if strings.IndexByte(seg, '%') < 0 {
		return nil
	}
	var buf [128]byte
	return b.literals.find(string(appendDecoded(buf[:0], seg, reserveSlash)))
}

// pick chooses among the entries of a node that is reached by the last segment.
func (s *search[T, Q]) pick(n *node[T]) *entry[T] {
	if n.first.form == nil {
		return nil
	}
	others := false
	for e := &n.first; e != nil; e = e.next {
		if e.verb != s.verb {
			others = true
		} else if s.admitted(e) {
			return e
		}
	}
	if !others {
		return nil
	}
	if s.verb == http.MethodHead {
		if e := s.under(n, http.MethodGet); e != nil {
			return e
		}
	}
	return s.under(n, "*")
}

// under is the first entry of n that was added under verb and is admitted, or nil.
func (s *search[T, Q]) under(n *node[T], verb string) *entry[T] {
	for e := &n.first; e != nil; e = e.next {
		if e.verb == verb && s.admitted(e) {
			return e
		}
	}
	return nil
}

func (s *search[T, Q]) admitted(e *entry[T]) bool {
	return s.fits(e.form) && s.tree.admit(e.value, s.q)
}

// fits says that no wildcard outside a variable stands for a segment with an encoded slash.
func (s *search[T, Q]) fits(f *form) bool {
	for _, o := range f.open {
		start, end := o.in(f.glob, len(s.segs)-f.segs)
		for i := start; i < end; i++ {
			if escapedSlash(s.at(i)) >= 0 {
				return false
			}
		}
	}
	return true
}

// collect appends the HTTP verbs of all admitted entries below n for the segments from i on, each once.
func (s *search[T, Q]) collect(n *node[T], i int, verbs []string) []string {
	b := n.branch
	if b == nil {
		if s.restFits(n.rest(), i) {
			verbs = s.list(n, verbs)
		}
		return verbs
	}
	if i < len(s.segs) {
		if next := s.literal(b, s.at(i)); next != nil {
			verbs = s.collect(next, i+1, verbs)
		}
		if b.star != nil {
			verbs = s.collect(b.star, i+1, verbs)
		}
	} else {
		verbs = s.list(n, verbs)
	}
	for _, t := range b.tails {
		if from := len(s.segs) - t.length; from >= i {
			verbs = s.collect(t.node, from, verbs)
		}
	}
	return verbs
}

// list appends the verbs of the admitted entries that end at n.
func (s *search[T, Q]) list(n *node[T], verbs []string) []string {
	if n.first.form == nil {
		return verbs
	}
	for e := &n.first; e != nil; e = e.next {
		if !slices.Contains(verbs, e.verb) && s.admitted(e) {
			verbs = append(verbs, e.verb)
		}
	}
	return verbs
}

// capture appends what a template's variables stand for. path may be "".
func (s *search[T, Q]) capture(f *form, path string, vars []string) []string {
	seg, offset := 0, 1 // the segment whose place in path is known
	for i := range f.vars {
		v := &f.vars[i]
		start, end := v.span.in(f.glob, len(s.segs)-f.segs)
		switch end - start {
		case 0:
			vars = append(vars, "")
			continue
		case 1:
			vars = append(vars, decoded(s.at(start), v.keep))
			continue
		}
		for ; seg < start; seg++ {
			offset += len(s.segs[seg]) + 1
		}
		vars = append(vars, s.join(path, offset, start, end, v.keep))
	}
	return vars
}

// join returns the segments from start to end, two or more, joined and decoded; if path is given it has them at offset.
func (s *search[T, Q]) join(path string, offset, start, end int, keep reserve) string {
	length := end - start - 1
	for i := start; i < end; i++ {
		length += len(s.at(i))
	}
	if offset+length <= len(path) {
		return decoded(path[offset:offset+length], keep)
	}
	var b strings.Builder
	b.Grow(length)
	for i := start; i < end; i++ {
		if i > start {
			b.WriteByte('/')
		}
		writeDecoded(&b, s.at(i), keep)
	}
	return b.String()
}

// decoded returns raw percent-decoded, but for what is kept: raw itself if there is nothing to decode.
func decoded(raw string, keep reserve) string {
	if strings.IndexByte(raw, '%') < 0 {
		return raw
	}
	var b strings.Builder
	b.Grow(len(raw))
	writeDecoded(&b, raw, keep)
	return b.String()
}
