package httprule

import (
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
		if i < len(s.segs) {
			next := s.literal(n, s.at(i))
			if next != nil && n.star == nil && len(n.tails) == 0 {
				// Fast path: no choice, so nothing to come back to.
				n, i = next, i+1
				continue
			}
			if next != nil {
				if e := s.find(next, i+1); e != nil {
					return e
				}
			}
			if n.star != nil && len(n.tails) == 0 {
				n, i = n.star, i+1
				continue
			}
			if n.star != nil {
				if e := s.find(n.star, i+1); e != nil {
					return e
				}
			}
		} else if e := s.pick(n); e != nil {
			return e
		}
		for t := range n.tails {
			if from := len(s.segs) - n.tails[t].length; from >= i {
				if e := s.find(n.tails[t].node, from); e != nil {
					return e
				}
			}
		}
		return nil
	}
}

// literal finds the child for a raw segment. A literal is stored decoded, and no stored one reads like the encoded form
// of another, so a segment with percent-encoding is decoded only when it is not found as it stands.
func (s *search[T, Q]) literal(n *node[T], seg string) *node[T] {
	if n.first.node == nil || len(seg) > 3*s.tree.longest {
		return nil
	}
	if next := n.literal(seg); next != nil {
		return next
	}
	if strings.IndexByte(seg, '%') < 0 {
		return nil
	}
	var buf [128]byte
	return n.literal(string(appendDecoded(buf[:0], seg, true)))
}

// pick chooses among the entries of a node that is reached by the last segment.
func (s *search[T, Q]) pick(n *node[T]) *entry[T] {
	anyVerb := false
	for i := range n.ends {
		e := &n.ends[i]
		if e.verb == s.verb {
			if s.admitted(e) {
				return e
			}
		} else if e.verb == "*" {
			anyVerb = true
		}
	}
	if !anyVerb {
		return nil
	}
	for i := range n.ends {
		if e := &n.ends[i]; e.verb == "*" && s.admitted(e) {
			return e
		}
	}
	return nil
}

func (s *search[T, Q]) admitted(e *entry[T]) bool {
	return s.fits(e.tmpl) && s.tree.admit(e.value, s.q)
}

// fits says that no wildcard outside a variable stands for a segment with an encoded slash.
func (s *search[T, Q]) fits(t *Template) bool {
	for _, o := range t.open {
		start, end := o.in(t, len(s.segs)-len(t.segs))
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
	if i < len(s.segs) {
		if next := s.literal(n, s.at(i)); next != nil {
			verbs = s.collect(next, i+1, verbs)
		}
		if n.star != nil {
			verbs = s.collect(n.star, i+1, verbs)
		}
	} else {
		for i := range n.ends {
			if e := &n.ends[i]; !slices.Contains(verbs, e.verb) && s.admitted(e) {
				verbs = append(verbs, e.verb)
			}
		}
	}
	for _, t := range n.tails {
		if from := len(s.segs) - t.length; from >= i {
			verbs = s.collect(t.node, from, verbs)
		}
	}
	return verbs
}

// capture appends what t's variables stand for. path may be "".
func (s *search[T, Q]) capture(t *Template, path string, vars []string) []string {
	seg, offset := 0, 1 // the segment whose place in path is known
	for i := range t.vars {
		v := &t.vars[i]
		start, end := v.span.in(t, len(s.segs)-len(t.segs))
		switch end - start {
		case 0:
			vars = append(vars, "")
			continue
		case 1:
			vars = append(vars, decoded(s.at(start), v.Multi))
			continue
		}
		for ; seg < start; seg++ {
			offset += len(s.segs[seg]) + 1
		}
		vars = append(vars, s.join(path, offset, start, end))
	}
	return vars
}

// join returns the segments from start to end, two or more, joined and decoded; if path is given it has them at offset.
func (s *search[T, Q]) join(path string, offset, start, end int) string {
	length := end - start - 1
	for i := start; i < end; i++ {
		length += len(s.at(i))
	}
	if offset+length <= len(path) {
		return decoded(path[offset:offset+length], true)
	}
	var b strings.Builder
	b.Grow(length)
	for i := start; i < end; i++ {
		if i > start {
			b.WriteByte('/')
		}
		writeDecoded(&b, s.at(i), true)
	}
	return b.String()
}

// decoded returns raw percent-decoded: raw itself if there is nothing to decode.
func decoded(raw string, keepSlash bool) string {
	if strings.IndexByte(raw, '%') < 0 {
		return raw
	}
	var b strings.Builder
	b.Grow(len(raw))
	writeDecoded(&b, raw, keepSlash)
	return b.String()
}
