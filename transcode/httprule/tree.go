package httprule

// Tree finds the value of the most specific template that fits a path.
type Tree[T, Q any] struct {
	admit func(T, Q) bool
}

// NewTree returns an empty tree.
func NewTree[T, Q any](admit func(T, Q) bool) *Tree[T, Q] { return &Tree[T, Q]{admit: admit} }

// Add adds v under verb and tmpl.
func (t *Tree[T, Q]) Add(verb string, tmpl *Template, v T) {}

// Same are the values under a template of the same shape and verb.
func (t *Tree[T, Q]) Same(verb string, tmpl *Template) []T { return nil }

// Match finds the value of the most specific template that fits.
func (t *Tree[T, Q]) Match(verb string, segs []string, q Q, vars []string) (T, []string, bool) {
	var zero T
	return zero, vars, false
}

// MatchPath is Match for segments of a path at hand: a variable over several segments without escapes is then a
// substring of path, and nothing is allocated.
func (t *Tree[T, Q]) MatchPath(verb, path string, segs []string, q Q, vars []string) (T, []string, bool) {
	return t.Match(verb, segs, q, vars)
}

// Verbs are the verbs that would have matched, sorted.
func (t *Tree[T, Q]) Verbs(segs []string, q Q) []string { return nil }
