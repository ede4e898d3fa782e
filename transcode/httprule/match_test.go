package httprule

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// naiveFits says whether tmpl fits a path's segments, and what its variables capture, straight from the definition.
func naiveFits(tmpl *Template, segs []string) (vars []string, ok bool) {
	if tmpl.verb != "" {
		if len(segs) == 0 {
			return nil, false
		}
		last := segs[len(segs)-1]
		i := len(last) - 1
		for i > 0 && (last[i] != ':' || decoded(last[i+1:], reserveNone) != tmpl.verb) {
			i--
		}
		if i <= 0 || naiveRefuses("/"+last[:i]) {
			return nil, false
		}
		segs = append(slices.Clone(segs[:len(segs)-1]), last[:i])
	}
	// Every template segment is given the path segments that it stands for.
	var parts [][]string
	for i, s := range tmpl.segs {
		n := 1
		if s.kind == deep {
			n = len(segs) - (len(tmpl.segs) - i - 1)
		}
		if n < 0 || n > len(segs) {
			return nil, false
		}
		parts = append(parts, segs[:n])
		segs = segs[n:]
	}
	if len(segs) > 0 {
		return nil, false
	}
	captured := make([]bool, len(parts))
	for _, v := range tmpl.vars {
		var texts []string
		for i := v.span.start; i < v.span.end; i++ {
			captured[i] = true
			texts = append(texts, parts[i]...)
		}
		for i, text := range texts {
			if text = decoded(text, reserveNone); v.Multi {
				text = strings.ReplaceAll(decoded(strings.NewReplacer("%2F", "\x00", "%2f", "\x01").Replace(texts[i]), reserveNone), "\x00", "%2F")
				text = strings.ReplaceAll(text, "\x01", "%2f")
			}
			texts[i] = text
		}
		vars = append(vars, strings.Join(texts, "/"))
	}
	for i, s := range tmpl.segs {
		for _, p := range parts[i] {
			text := decoded(p, reserveNone)
			if s.kind == literal && text != s.text || (s.kind == literal || !captured[i]) && strings.Contains(text, "/") {
				return nil, false
			}
		}
	}
	return vars, true
}

// verbRank says how well a value under one HTTP verb answers another: the less the better, -1 not at all.
func verbRank(has, asked string) int {
	switch {
	case has == asked:
		return 0
	case has == "GET" && asked == "HEAD":
		return 1
	case has == "*":
		return 2
	}
	return -1
}

// preference orders two templates that fit the same path.
func preference(a, b *Template) int {
	if a.verb != b.verb {
		return cmp.Compare(len(b.verb), len(a.verb)) // both end the path, so one ends the other
	}
	for i := range min(len(a.segs), len(b.segs)) {
		if c := cmp.Compare(a.segs[i].kind, b.segs[i].kind); c != 0 {
			return c
		}
		if a.segs[i].kind == deep && len(a.segs) != len(b.segs) {
			return cmp.Compare(len(b.segs), len(a.segs))
		}
	}
	return cmp.Compare(len(a.segs), len(b.segs))
}

// FuzzMatch holds the tree to a search through all templates in turn.
func FuzzMatch(f *testing.F) {
	f.Add("GET /a/b\nGET /a/*\nGET /**\nPOST /a/{x=b/**}/c:v", "GET /a/b")
	f.Add("GET /{x}/a\nGET /{x=**}/a\n* /{x=*/a}\nGET /*/*", "GET /%2F/a")
	f.Add("GET /{x}:a\nGET /{x=**}:a\nGET /{x}\nGET /*:a", "GET /..:a")
	f.Add("GET /{x}:a\nGET /{x=**}:a\nGET /{x}\nGET /*:a", "GET /x%2f:a:a")
	f.Add("GET /\nGET /**\n* /\nGET /{x=**/*/*}", "GET /")
	f.Add("GET /a/*/c/d\nGET /*/b/*/d\nGET /a/**/d\nGET /**/c/*\n* /a/b/*/*", "GET /a/b/c/e")
	f.Add("GET /b/**/a\nGET /b/**/*/a\nGET /b/**\nGET /b/*/**", "GET /b/%61/a")
	f.Add("GET /{x}:a\nGET /{x}:a:b\nGET /{x=**}:b\nGET /{x}:b\nHEAD /{x}:a:b", "HEAD /x:a:b")
	f.Add("GET /{x}:a:b\nGET /{x}:b\nGET /a:a:b", "GET /a:a%3Ab")
	f.Add("GET /{x}:a:b:c\nGET /{x}:c", "GET /a:a:a:b:c")
	f.Add("GET /a\nHEAD /{x}\n* /a\nHEAD /**", "HEAD /a")
	f.Fuzz(checkMatch)
}

// TestMatchRandom is FuzzMatch over tables and paths of so few words that much fits.
func TestMatchRandom(t *testing.T) {
	w := words{rand.New(rand.NewPCG(1, 2))} //nolint:gosec // the same cases each run
	rounds := 20000
	if testing.Short() || raceEnabled {
		rounds = 2000
	}
	for range rounds {
		var table strings.Builder
		for range 1 + w.IntN(12) {
			table.WriteString(w.pick("GET ", "POST ", "* ", "HEAD ") + w.template() + "\n")
		}
		path := w.path()
		if lines := strings.Split(table.String(), "\n"); w.IntN(2) == 0 {
			_, template, _ := strings.Cut(lines[0], " ")
			path = w.fitting(template)
		}
		checkMatch(t, table.String(), w.pick("GET", "POST", "PUT", "HEAD")+" "+path)
	}
}

// words makes random templates and paths.
type words struct{ *rand.Rand }

func (w words) pick(from ...string) string { return from[w.IntN(len(from))] }

func (w words) template() string {
	var b strings.Builder
	inside := false
	for i := range 1 + w.IntN(5) {
		switch {
		case !inside && w.IntN(4) == 0:
			inside = true
			fmt.Fprintf(&b, "/{v%d=%s", i, w.pick("a", "b", "*", "*", "**"))
		case w.IntN(8) == 0:
			b.WriteString("/**")
		default:
			b.WriteString("/" + w.pick("a", "b", "c", "*"))
		}
		if inside && w.IntN(2) == 0 {
			inside = false
			b.WriteByte('}')
		}
	}
	if inside {
		b.WriteByte('}')
	}
	return b.String() + w.pick("", "", "", "", ":v", ":w", ":v:v", ":v:w", ":v%3Av:w")
}

func (w words) path() string {
	var b strings.Builder
	for range w.IntN(6) {
		b.WriteString("/" + w.pick("a", "a", "b", "b", "c", "%61", "x", "x%2Fy", "%20", "a%25"))
	}
	return cmp.Or(b.String(), "/") + w.pick("", "", ":v", ":v", ":w", ":%76", "%3Av", ":v:v", ":v:w", ":v:v:w", ":v%3av:w", ":v%3Av", "..:v:v", ".:v%3Aw")
}

// fitting makes a path that fits template if that is one, else any.
func (w words) fitting(template string) string {
	tmpl, err := Parse(template)
	if err != nil {
		return w.path()
	}
	var b strings.Builder
	for _, s := range tmpl.segs {
		n := 1
		if s.kind == deep {
			n = w.IntN(3)
		}
		for range n {
			b.WriteString("/" + cmp.Or(s.text, w.pick("a", "b", "c", "x", "x%2Fy", "v:v")))
		}
	}
	return cmp.Or(b.String(), "/") + strings.TrimSuffix(":"+tmpl.verb, ":")
}

// checkMatch holds a tree of the lines of table to a search through them in turn.
func checkMatch(t *testing.T, table, request string) {
	t.Helper()
	verb, path, _ := strings.Cut(request, " ")
	segs, err := AppendSegments(nil, path)
	if err != nil || verb == "" {
		return
	}
	tree := NewTree(func(i int, not int) bool { return i != not })
	var verbs []string
	var tmpls []*Template
	for line := range strings.SplitSeq(table, "\n") {
		v, p, _ := strings.Cut(line, " ")
		tmpl, err := Parse(p)
		if err != nil || v == "" || len(tmpls) == 32 {
			continue
		}
		tree.Add(v, tmpl, len(tmpls))
		verbs, tmpls = append(verbs, v), append(tmpls, tmpl)
	}
	// With nothing left out, then with the best left out.
	not := -1
	for range 2 {
		best, bestVars := -1, []string(nil)
		allow := []string(nil)
		for i, tmpl := range tmpls {
			vars, ok := naiveFits(tmpl, segs)
			if fits, why := tmpl.Mismatch(segs); ok != (why == "") || ok && fits != len(segs) {
				t.Fatalf("%s on %s: fits %v, but Mismatch says %d, %q", tmpl, path, ok, fits, why)
			}
			if !ok || i == not {
				continue
			}
			allow = append(allow, verbs[i])
			if verbs[i] == "GET" {
				allow = append(allow, "HEAD")
			}
			rank := verbRank(verbs[i], verb)
			if rank < 0 {
				continue
			}
			if best >= 0 {
				if c := preference(tmpl, tmpls[best]); c > 0 || c == 0 && rank >= verbRank(verbs[best], verb) {
					continue
				}
			}
			best, bestVars = i, vars
		}
		got, vars, ok := tree.MatchPath(verb, path, segs, not, nil)
		got2, vars2, ok2 := tree.Match(verb, segs, not, nil)
		if ok != ok2 || got != got2 || !slices.Equal(vars, vars2) {
			t.Fatalf("%s: MatchPath found %v %d %q, Match %v %d %q", request, ok, got, vars, ok2, got2, vars2)
		}
		if ok != (best >= 0) || ok && (got != best || !slices.Equal(vars, bestVars)) {
			t.Fatalf("%s in\n%s\nwanted %d %q, found %v %d %q", request, table, best, bestVars, ok, got, vars)
		}
		slices.Sort(allow)
		if d := gocmp.Diff(slices.Compact(allow), tree.Verbs(segs, not)); d != "" {
			t.Fatalf("%s in\n%s\nverbs (-want +got):\n%s", request, table, d)
		}
		if best < 0 {
			return
		}
		if same := tree.Same(verbs[best], tmpls[best]); !slices.Contains(same, best) {
			t.Fatalf("%d is not the same as itself, but %v is", best, same)
		}
		not = best
	}
}
