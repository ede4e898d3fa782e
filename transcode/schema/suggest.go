package schema

import "fmt"

// DidYouMean returns `; did you mean "name"?` for the candidate nearest to got, or "" when none is near. It is the one
// place that decides what a near miss is.
func DidYouMean(got string, candidates []string) string {
	if n := Nearest(got, candidates); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}

// Nearest returns the candidate that differs from got by the fewest edits, at most a third of its length; or "".
// Case and the kind of separator (_, -, none) do not count as edits.
func Nearest(got string, candidates []string) string {
	const longest = 64
	if got == "" || len(got) > longest {
		return ""
	}
	g := fold(got)
	best, bestDist := "", len(g)/3+1
	for _, c := range candidates {
		if c == "" || len(c) > longest || c == got {
			continue
		}
		if d := distance(g, fold(c)); d < bestDist {
			best, bestDist = c, d
		}
	}
	return best
}

func fold(s string) string {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch ch := s[i]; {
		case ch == '_' || ch == '-':
		case 'A' <= ch && ch <= 'Z':
			b = append(b, ch+'a'-'A')
		default:
			b = append(b, ch)
		}
	}
	return string(b)
}

// distance is the optimal string alignment distance: inserts, deletes, substitutions and swaps of neighbours.
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
