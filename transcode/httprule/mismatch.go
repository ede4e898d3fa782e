package httprule

import (
	"fmt"
	"strings"
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
			return fits, fmt.Sprintf("the path ends after %d segments, the template wants %d", len(segs), len(t.segs))
		}
		if s.kind == literal && decoded(segs[i], false) != s.text {
			return fits, fmt.Sprintf("segment %d: want %q, found %q", i+1, s.text, segs[i])
		}
		fits++
	}
	if t.glob < 0 {
		if len(segs) > head {
			return fits, fmt.Sprintf("the path has %d segments, the template takes %d", len(segs), head)
		}
		return fits, why
	}
	tail := t.segs[t.glob+1:]
	if len(segs)-head < len(tail) {
		return fits, fmt.Sprintf("the path has %d segments, the template wants %d or more", len(segs), len(t.segs)-1)
	}
	for i, s := range tail {
		at := len(segs) - len(tail) + i
		if s.kind == literal && decoded(segs[at], false) != s.text {
			return fits, fmt.Sprintf("segment %d: want %q, found %q", at+1, s.text, segs[at])
		}
	}
	return len(segs), why
}

// cutVerb takes the template's verb from the last segment; why says that it is not there.
func (t *Template) cutVerb(segs []string) (rest []string, why string) {
	if t.verb == "" || len(segs) == 0 {
		if t.verb != "" {
			why = fmt.Sprintf("the path wants to end in %q", ":"+t.verb)
		}
		return segs, why
	}
	last := segs[len(segs)-1]
	before, verb, ok := cutLast(last, ":")
	if !ok || decoded(verb, false) != t.verb {
		return segs, fmt.Sprintf("the path wants to end in %q, found %q", ":"+t.verb, last)
	}
	rest = append(rest, segs...)
	rest[len(rest)-1] = before
	return rest, ""
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
