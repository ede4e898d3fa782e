package httprule

import (
	"fmt"
	"slices"
)

// Mismatch says why the template does not fit a path's segments, and how many segments from the left do fit; why is ""
// where it fits. It is for people (explain), not for calls.
func (t *Template) Mismatch(segs []string) (fits int, why string) {
	segs, why = t.cutVerb(segs)
	head := len(t.segs)
	if t.glob >= 0 {
		head = t.glob
	}
	for i, s := range t.segs[:head] {
		if i >= len(segs) {
			return fits, fmt.Sprintf("the path ends after %s, the template wants %d", count(len(segs)), len(t.segs))
		}
		if s.kind == literal && decoded(segs[i], reserveNone) != s.text {
			return fits, fmt.Sprintf("segment %d: wanted %q, found %q", i+1, s.text, segs[i])
		}
		fits++
	}
	if t.glob < 0 {
		if len(segs) > head {
			return fits, fmt.Sprintf("the path has %s, the template takes %d", count(len(segs)), head)
		}
	} else {
		tail := t.segs[t.glob+1:]
		if len(segs)-head < len(tail) {
			return fits, fmt.Sprintf("the path has %s, the template wants %d or more", count(len(segs)), len(t.segs)-1)
		}
		for i, s := range tail {
			at := len(segs) - len(tail) + i
			if s.kind == literal && decoded(segs[at], reserveNone) != s.text {
				return fits, fmt.Sprintf("segment %d: wanted %q, found %q", at+1, s.text, segs[at])
			}
		}
	}
	for _, o := range t.open {
		start, end := o.in(t.glob, len(segs)-len(t.segs))
		for i := start; i < end; i++ {
			if escapedSlash(segs[i]) >= 0 {
				return i, fmt.Sprintf("segment %d: an encoded slash may stand only in what a variable captures, found %q", i+1, segs[i])
			}
		}
	}
	return len(segs), why
}

// count is a number of segments in words.
func count(n int) string {
	if n == 1 {
		return "1 segment"
	}
	return fmt.Sprintf("%d segments", n)
}

// cutVerb takes the template's verb from the last segment; why says that it is not there.
func (t *Template) cutVerb(segs []string) (rest []string, why string) {
	if t.verb == "" {
		return segs, ""
	}
	if len(segs) == 0 {
		return segs, fmt.Sprintf("wanted a path that ends in %q", ":"+t.verb)
	}
	last := segs[len(segs)-1]
	i := len(last) - 1
	for i >= 0 && (last[i] != ':' || decoded(last[i+1:], reserveNone) != t.verb) {
		if i--; len(last)-i > 3*len(t.verb)+1 {
			i = -1
		}
	}
	if i < 0 {
		return segs, fmt.Sprintf("wanted a path that ends in %q, found %q", ":"+t.verb, last)
	}
	if i == 0 {
		return segs, fmt.Sprintf("wanted a segment before %q", last)
	}
	if cause, _ := refuse(last[:i]); cause != "" {
		return segs, fmt.Sprintf("segment %d: without %q it is %s", len(segs), last[i:], cause)
	}
	rest = slices.Clone(segs)
	rest[len(rest)-1] = last[:i]
	return rest, ""
}
