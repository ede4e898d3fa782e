package httprule

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// always admits everything.
func always(string, struct{}) bool { return true }

// routes builds a tree from lines "GET /v1/{x}"; the value of each is its line.
func routes(t testing.TB, lines ...string) *Tree[string, struct{}] {
	t.Helper()
	tree := NewTree(always)
	for _, line := range lines {
		verb, path, _ := strings.Cut(line, " ")
		tree.Add(verb, mustParse(t, path), line)
	}
	return tree
}

// ask matches "GET /v1/7" with and without the path at hand, which must give the same; "" when nothing is found.
func ask(t testing.TB, tree *Tree[string, struct{}], request string) (string, []string) {
	t.Helper()
	verb, path, _ := strings.Cut(request, " ")
	segs, err := AppendSegments(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	kept := []string{"kept"}
	v, vars, ok := tree.Match(verb, segs, struct{}{}, kept)
	v2, vars2, ok2 := tree.MatchPath(verb, path, segs, struct{}{}, kept)
	if v != v2 || ok != ok2 || !slices.Equal(vars, vars2) {
		t.Errorf("%s: Match found %q %q, MatchPath %q %q", request, v, vars, v2, vars2)
	}
	if ok != (v != "") || len(vars) == 0 || vars[0] != "kept" {
		t.Fatalf("%s: found %q, %q, %v", request, v, vars, ok)
	}
	return v, vars[1:]
}

func TestMatch(t *testing.T) {
	tree := routes(t,
		"GET /",
		"GET /v1/orders",
		"GET /v1/{name=orders/*}",
		"POST /v1/{name=orders/*}:cancel",
		"POST /v1/orders:batch",
		"GET /v1/orders/latest",
		"GET /v1/{name=*/*/parts/*}",
		"GET /v1/shelves/{shelf}/books/{book}",
		"GET /v1/files/{path=**}",
		"GET /v1/files/{path=**}/meta",
		"GET /v1/files/{path=**}/*/meta",
		"GET /v1/files/{path=**}:raw",
		"* /v1/any/{x}",
		"PUT /v1/any/{x}",
		"PURGE /v1/files/{path=**}",
		"GET /open/*/x",
		"GET /open/**",
		"GET /me/{who=self}",
		"GET /caf%C3%A9/{x}",
		"GET /a/{b=c/**}/d/e",
		"GET /Case",
	)
	for _, c := range []struct {
		request, want string
		vars          []string
	}{
		{"GET /", "GET /", nil},
		{"POST /", "", nil},
		{"GET /v1/orders", "GET /v1/orders", nil},
		{"GET /v1/Orders", "", nil},
		{"GET /case", "", nil},
		{"get /v1/orders", "", nil},
		{"GET /v1/orders/7", "GET /v1/{name=orders/*}", []string{"orders/7"}},
		{"GET /v1/orders/latest", "GET /v1/orders/latest", nil},
		{"GET /v1/orders/7/x", "", nil},
		{"GET /v1/%6Frders/7", "GET /v1/{name=orders/*}", []string{"orders/7"}},
		{"GET /v1/orders/a%20b%25", "GET /v1/{name=orders/*}", []string{"orders/a b%"}},
		{"GET /v1/orders/a%2Fb", "GET /v1/{name=orders/*}", []string{"orders/a%2Fb"}},
		{"GET /v1/orders/a%2fb%3A", "GET /v1/{name=orders/*}", []string{"orders/a%2fb:"}},
		{"GET /v1%2Forders/7", "", nil},
		{"GET /v1/orders%2F7", "", nil},
		{"POST /v1/orders/7:cancel", "POST /v1/{name=orders/*}:cancel", []string{"orders/7"}},
		{"POST /v1/orders/7:%63ancel", "POST /v1/{name=orders/*}:cancel", []string{"orders/7"}},
		{"POST /v1/orders/a:b:cancel", "POST /v1/{name=orders/*}:cancel", []string{"orders/a:b"}},
		{"POST /v1/orders/7%3Acancel", "", nil}, // an encoded colon begins no verb
		{"GET /v1/orders/7:cancel", "GET /v1/{name=orders/*}", []string{"orders/7:cancel"}},
		{"POST /v1/orders/:cancel", "", nil},
		{"POST /v1/orders/..:cancel", "", nil},
		{"POST /v1/orders/%2e%2E:cancel", "", nil},
		{"POST /v1/orders/.:cancel", "", nil},
		{"POST /v1/orders/...:cancel", "POST /v1/{name=orders/*}:cancel", []string{"orders/..."}},
		{"POST /v1/orders:batch", "POST /v1/orders:batch", nil},
		{"POST /v1/orders:other", "", nil},
		{"GET /v1/a/b/parts/c", "GET /v1/{name=*/*/parts/*}", []string{"a/b/parts/c"}},
		{"GET /v1/shelves/1%2F2/books/x%20y", "GET /v1/shelves/{shelf}/books/{book}", []string{"1/2", "x y"}},
		{"GET /v1/files", "GET /v1/files/{path=**}", []string{""}},
		{"GET /v1/files/a", "GET /v1/files/{path=**}", []string{"a"}},
		{"GET /v1/files/a%2Fb", "GET /v1/files/{path=**}", []string{"a%2Fb"}},
		{"GET /v1/files/a/b%20c/d", "GET /v1/files/{path=**}", []string{"a/b c/d"}},
		{"GET /v1/files/meta", "GET /v1/files/{path=**}/meta", []string{""}},
		{"GET /v1/files/a/meta", "GET /v1/files/{path=**}/*/meta", []string{""}},
		{"GET /v1/files/a/b/meta", "GET /v1/files/{path=**}/*/meta", []string{"a"}},
		{"GET /v1/files/a/b%2Fc/meta", "GET /v1/files/{path=**}/meta", []string{"a/b%2Fc"}},
		{"GET /v1/files/a/b:raw", "GET /v1/files/{path=**}:raw", []string{"a/b"}},
		{"GET /v1/files:raw", "GET /v1/files/{path=**}:raw", []string{""}},
		{"PURGE /v1/files/x", "PURGE /v1/files/{path=**}", []string{"x"}},
		{"PUT /v1/any/1", "PUT /v1/any/{x}", []string{"1"}},
		{"BREW /v1/any/1", "* /v1/any/{x}", []string{"1"}},
		{"GET /open/a/x", "GET /open/*/x", nil},
		{"GET /open/a%2Fb/x", "", nil},
		{"GET /open/a/y", "GET /open/**", nil},
		{"GET /open", "GET /open/**", nil},
		{"GET /open/a/b%2Fc", "", nil},
		{"GET /me/self", "GET /me/{who=self}", []string{"self"}},
		{"GET /me/s%65lf", "GET /me/{who=self}", []string{"self"}},
		{"GET /me/you", "", nil},
		{"GET /caf%c3%a9/1", "GET /caf%C3%A9/{x}", []string{"1"}},
		{"GET /caf\u00e9/1", "GET /caf%C3%A9/{x}", []string{"1"}},
		{"GET /a/c/d/e", "GET /a/{b=c/**}/d/e", []string{"c"}},
		{"GET /a/c/d/e/d/e", "GET /a/{b=c/**}/d/e", []string{"c/d/e"}},
		{"GET /a/c/d", "", nil},
	} {
		got, vars := ask(t, tree, c.request)
		if got != c.want {
			t.Errorf("%s: wanted %q, found %q", c.request, c.want, got)
		} else if !slices.Equal(vars, c.vars) {
			t.Errorf("%s: wanted %q captured, found %q", c.request, c.vars, vars)
		}
	}
}

// TestPreference adds the same templates in both orders: which is found must not depend on it.
func TestPreference(t *testing.T) {
	for _, c := range []struct {
		request string
		lines   []string // in the order of preference
	}{
		{"GET /a/b", []string{"GET /a/b", "GET /a/*", "GET /*/b", "GET /*/*"}},
		{"GET /a/b", []string{"GET /a/b", "GET /a/b/**", "GET /a/*", "GET /a/*/**", "GET /a/**/b", "GET /a/**", "GET /*/b", "GET /*/**", "GET /**/a/b", "GET /**/*/b", "GET /**/b", "GET /**"}},
		{"GET /a/b/c/d", []string{"GET /a/*/c/d", "GET /a/*/*/d", "GET /*/b/c/d", "GET /**/b/c/d", "GET /**/*/d"}},
		{"GET /a/b:v", []string{"GET /a/b:v", "GET /*/b:v", "GET /**:v", "GET /a/b%3Av", "GET /a/*", "GET /**"}},
		{"GET /a/b", []string{"GET /a/b", "* /a/b", "GET /a/{x}", "* /a/{x}", "GET /**", "* /**"}},
		{"GET /", []string{"GET /", "GET /**"}},
	} {
		for n := len(c.lines); n > 0; n-- {
			lines := slices.Clone(c.lines[len(c.lines)-n:])
			want := lines[0]
			for range 5 {
				rand.Shuffle(n, func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
				if got, _ := ask(t, routes(t, lines...), c.request); got != want {
					t.Errorf("%s among %q: wanted %q, found %q", c.request, lines, want, got)
				}
			}
		}
	}
}

// TestLongestVerb: a verb may have colons inside; of several known ones the longest that ends the path goes first.
func TestLongestVerb(t *testing.T) {
	tree := routes(t,
		"GET /v1/{id}:custom:custom", "GET /v1/{id}:custom", "POST /v1/{id}:custom", "GET /v1/{id}", "PUT /v1/{id}:a:b:c", "GET /v1/x:y:z", "GET /*/*:deep:er", "GET /v2/{name=a/**}:b:c")
	for _, c := range []struct {
		request, want string
		vars          []string
	}{
		{"GET /v1/7:custom:custom", "GET /v1/{id}:custom:custom", []string{"7"}},
		{"GET /v1/7:custom%3Acustom", "GET /v1/{id}:custom:custom", []string{"7"}}, // inside the verb it may be encoded
		{"GET /v1/7%3Acustom:custom", "GET /v1/{id}:custom", []string{"7:custom"}}, // the one that begins it may not
		{"GET /v1/7:custom:custom:custom", "GET /v1/{id}:custom:custom", []string{"7:custom"}},
		{"POST /v1/7:custom:custom", "POST /v1/{id}:custom", []string{"7:custom"}},
		{"GET /v1/7:custom", "GET /v1/{id}:custom", []string{"7"}},
		{"GET /v1/7:other:custom", "GET /v1/{id}:custom", []string{"7:other"}},
		{"GET /v1/7:custom:other", "GET /v1/{id}", []string{"7:custom:other"}},
		{"GET /v1/:custom:custom", "GET /v1/{id}:custom", []string{":custom"}},     // nothing stands before the longest
		{"GET /v1/..:custom:custom", "GET /v1/{id}:custom", []string{"..:custom"}}, // nor may a dot segment
		{"GET /v1/..:custom", "GET /v1/{id}", []string{"..:custom"}},
		{"PUT /v1/7:a:b:c", "PUT /v1/{id}:a:b:c", []string{"7"}},
		{"PUT /v1/7:b:c", "", nil},
		{"GET /v1/x:y:z", "GET /v1/x:y:z", nil},
		{"GET /a/b:deep:er", "GET /*/*:deep:er", nil},
		{"GET /v2/a/b/c:b:c", "GET /v2/{name=a/**}:b:c", []string{"a/b/c"}},
	} {
		got, vars := ask(t, tree, c.request)
		if got != c.want || !slices.Equal(vars, c.vars) {
			t.Errorf("%s: wanted %q %q, found %q %q", c.request, c.want, c.vars, got, vars)
		}
	}
	// However many colons are sent, only as many verbs are looked for as the longest known one allows.
	if got, _ := ask(t, tree, "PUT /v1/"+strings.Repeat(":", 100_000)+":a:b:c"); got != "PUT /v1/{id}:a:b:c" {
		t.Errorf("found %q", got)
	}
	last := strings.Repeat("x:", 1000) + "custom"
	tried := 0
	for i := tree.firstColon(last); i > 0; i = nextColon(last, i) {
		tried++
	}
	if tried != 3 {
		t.Errorf("wanted 3 colons tried, for the longest verb has 2 inside, found %d", tried)
	}
}

// TestHead: HEAD finds what GET would, unless the same shape has a value of its own for HEAD.
func TestHead(t *testing.T) {
	tree := routes(t,
		"GET /a", "HEAD /{x}", "GET /{x}", "GET /b", "HEAD /b", "* /b", "* /c", "GET /c", "POST /d", "* /e", "GET /f/{x}:v", "GET /f/**", "POST /f/*")
	for _, c := range []struct {
		path, want string
		vars       []string
	}{
		{"/a", "GET /a", nil}, // as GET /a is answered, though a less specific template has HEAD
		{"/b", "HEAD /b", nil},
		{"/c", "GET /c", nil}, // a named verb goes before "*"
		{"/d", "HEAD /{x}", []string{"d"}},
		{"/e", "* /e", nil},
		{"/other", "HEAD /{x}", []string{"other"}},
		{"/f/7:v", "GET /f/{x}:v", []string{"7"}},
		{"/f/7", "GET /f/**", nil}, // the more specific one takes POST alone
		{"/g/h", "", nil},
	} {
		got, vars := ask(t, tree, "HEAD "+c.path)
		if got != c.want || !slices.Equal(vars, c.vars) {
			t.Errorf("%s: wanted %q %q, found %q %q", c.path, c.want, c.vars, got, vars)
		}
	}
	// A value for GET that is not admitted does not answer HEAD either.
	picky := NewTree(func(v string, _ struct{}) bool { return v != "no" })
	for _, e := range [][2]string{{"GET", "no"}, {"*", "any"}, {"GET", "yes"}} {
		picky.Add(e[0], mustParse(t, "/a"), e[1])
	}
	if got, _, _ := picky.Match("HEAD", []string{"a"}, struct{}{}, nil); got != "yes" {
		t.Errorf("wanted yes, found %q", got)
	}
	segs := []string{"f", "7"}
	vars := make([]string, 0, 4)
	if n := testing.AllocsPerRun(100, func() { _, vars, _ = tree.MatchPath("HEAD", "/f/7", segs, struct{}{}, vars[:0]) }); n > 0 && !raceEnabled {
		t.Errorf("wanted no allocation, found %v", n)
	}
}

// TestAdmit: values refused are passed over, down to less specific templates; within a template the order added counts.
func TestAdmit(t *testing.T) {
	tree := NewTree(func(v, q string) bool { return strings.Contains(v, q) })
	for _, line := range []string{"GET /a/{x} h1", "GET /a/{y=*} h2", "GET /a/* h2 later", "* /a/{x} h3", "GET /{all=**} h4", "POST /a/b h1"} {
		f := strings.Fields(line)
		tree.Add(f[0], mustParse(t, f[1]), line)
	}
	for _, c := range []struct {
		verb, host, want string
		vars             []string
	}{
		{"GET", "h1", "GET /a/{x} h1", []string{"b"}},
		{"GET", "h2", "GET /a/{y=*} h2", []string{"b"}},
		{"GET", "later", "GET /a/* h2 later", nil},
		{"GET", "h3", "* /a/{x} h3", []string{"b"}},
		{"GET", "h4", "GET /{all=**} h4", []string{"a/b"}},
		{"POST", "h1", "POST /a/b h1", nil},
		{"POST", "h2", "", nil},
		{"GET", "h5", "", nil},
	} {
		got, vars, ok := tree.Match(c.verb, []string{"a", "b"}, c.host, nil)
		if got != c.want || ok != (c.want != "") || !slices.Equal(vars, c.vars) {
			t.Errorf("%s at %s: wanted %q %q, found %q %q %v", c.verb, c.host, c.want, c.vars, got, vars, ok)
		}
	}
	if got := tree.Verbs([]string{"a", "b"}, "h1"); !slices.Equal(got, []string{"GET", "HEAD", "POST"}) {
		t.Errorf("found verbs %q", got)
	}
}

func TestVerbs(t *testing.T) {
	tree := routes(t,
		"GET /v1/orders/{x}", "DELETE /v1/orders/{x}", "POST /v1/orders/{x}:cancel", "PATCH /v1/orders/{x=**}", "PUT /v1/orders/7", "GET /v1/**",
		"* /any/*", "GET /any/x", "GET /**/tail")
	for _, c := range []struct {
		path string
		want []string
	}{
		{"/v1/orders/7", []string{"DELETE", "GET", "HEAD", "PATCH", "PUT"}},
		{"/v1/orders/7:cancel", []string{"DELETE", "GET", "HEAD", "PATCH", "POST"}},
		{"/v1/orders/a%2Fb", []string{"DELETE", "GET", "HEAD", "PATCH"}},
		{"/v1/x%2Fy", nil},
		{"/any/x", []string{"*", "GET", "HEAD"}},
		{"/nothing", nil},
		{"/tail", []string{"GET", "HEAD"}},
		{"/", nil},
	} {
		segs, err := AppendSegments(nil, c.path)
		if err != nil {
			t.Fatal(err)
		}
		got := tree.Verbs(segs, struct{}{})
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: wanted %q, found %q", c.path, c.want, got)
		}
		for _, verb := range []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"} {
			found, _ := ask(t, tree, verb+" "+c.path)
			if want := slices.Contains(got, verb) || slices.Contains(got, "*"); want != (found != "") {
				t.Errorf("%s %s: Verbs gave %q, Match %q", verb, c.path, got, found)
			}
		}
	}
}

// TestSame is how a caller detects collisions.
func TestSame(t *testing.T) {
	tree := routes(t,
		"GET /v1/{name=orders/*}", "GET /v1/orders/{id}", "POST /v1/orders/{id}", "GET /v1/orders/{id}:watch", "GET /a/{p=**}/z", "GET /", "* /v1/orders/*", "GET /x%2Dy", "GET /{y=*}:a:b", "GET /*/b/{x=*/d}")
	for _, c := range []struct {
		verb, template string
		want           []string
	}{
		{"GET", "/v1/orders/*", []string{"GET /v1/{name=orders/*}", "GET /v1/orders/{id}"}},
		{"GET", "/{all=v1/orders/*}", []string{"GET /v1/{name=orders/*}", "GET /v1/orders/{id}"}},
		{"POST", "/v1/{name=orders/*}", []string{"POST /v1/orders/{id}"}},
		{"*", "/v1/orders/{a.b}", []string{"* /v1/orders/*"}},
		{"PUT", "/v1/orders/{id}", nil},
		{"GET", "/v1/orders/{id=**}", nil},
		{"GET", "/v1/{any}/{id}", nil},
		{"GET", "/v1/orders", nil},
		{"GET", "/v1/orders/{id}/x", nil},
		{"GET", "/v1/orders/*:watch", []string{"GET /v1/orders/{id}:watch"}},
		{"GET", "/v1/orders/*:other", nil},
		{"GET", "/a/**/z", []string{"GET /a/{p=**}/z"}},
		{"GET", "/a/**/*", nil},
		{"GET", "/a/**/*/z", nil},
		{"GET", "/", []string{"GET /"}},
		{"GET", "/x-y", []string{"GET /x%2Dy"}},
		{"GET", "/X-y", nil},
		// What only answers another verb where there is nothing better is no collision.
		{"HEAD", "/v1/orders/*", nil},
		{"POST", "/v1/orders/*", []string{"POST /v1/orders/{id}"}},
		{"*", "/v1/orders/{id}:watch", nil},
		{"GET", "/{x}:a:b", []string{"GET /{y=*}:a:b"}},
		{"GET", "/{x}:a%3ab", []string{"GET /{y=*}:a:b"}},
		{"GET", "/{x}:b", nil},
		{"GET", "/{x=z}:a:b", nil},
		{"GET", "/*/b/*/d", []string{"GET /*/b/{x=*/d}"}},
		{"GET", "/*/b/*/e", nil},
		{"GET", "/*/b/*", nil},
		{"GET", "/*/b", nil},
		{"GET", "/*/*/*/d", nil},
	} {
		if got := tree.Same(c.verb, mustParse(t, c.template)); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: wanted %q, found %q", c.verb, c.template, c.want, got)
		}
	}
}

// TestSameIsExact holds Same to its meaning for all small templates: those that fit the same paths, no others.
func TestSameIsExact(t *testing.T) {
	sequences := func(words []string, most int) []string {
		all, last := []string{""}, []string{""}
		for range most {
			var next []string
			for _, s := range last {
				for _, w := range words {
					next = append(next, s+"/"+w)
				}
			}
			all, last = append(all, next...), next
		}
		return all
	}
	var paths [][]string
	for _, p := range sequences([]string{"a", "b"}, 6) {
		for _, verb := range []string{"", ":v"} {
			if p == "" && verb != "" {
				continue
			}
			segs, err := AppendSegments(nil, cmp.Or(p, "/")+verb)
			if err != nil {
				t.Fatal(err)
			}
			paths = append(paths, segs)
		}
	}
	tree := NewTree(always)
	sets := map[string][]string{} // by the paths that fit
	fits := map[string]string{}
	for _, s := range sequences([]string{"a", "*", "**"}, 4) {
		for _, verb := range []string{"", ":v"} {
			tmpl, err := Parse(cmp.Or(s, "/") + verb)
			if err != nil {
				continue // two "**", or a verb of nothing
			}
			var set strings.Builder
			for _, segs := range paths {
				_, ok := naiveFits(tmpl, segs)
				set.WriteByte("01"[map[bool]int{true: 1}[ok]])
			}
			tree.Add("GET", tmpl, tmpl.String())
			sets[set.String()] = append(sets[set.String()], tmpl.String())
			fits[tmpl.String()] = set.String()
		}
	}
	several := 0
	for template, set := range fits {
		got := tree.Same("GET", mustParse(t, template))
		want := slices.Clone(sets[set])
		if slices.Sort(want); len(want) > 1 {
			several++
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: wanted %q, found %q", template, want, got)
		}
		for _, verb := range []string{"*", "HEAD", "POST"} {
			if got := tree.Same(verb, mustParse(t, template)); len(got) > 0 {
				t.Errorf("%s %s: found %q", verb, template, got)
			}
		}
	}
	if several < 20 {
		t.Errorf("%d of %d templates have an equal: too few to say much", several, len(fits))
	}
}

// TestAdversarialTemplates holds the work of one search to the number of nodes: the templates make every level branch
// and the path fits none.
func TestAdversarialTemplates(t *testing.T) {
	asked := 0
	tree := NewTree(func(string, struct{}) bool { asked++; return false })
	const depth, patience = 12, 30 * time.Second
	add := 0
	for bits := range 1 << depth {
		var b strings.Builder
		for i := range depth {
			b.WriteByte('/')
			b.WriteByte("a*"[bits>>i&1])
		}
		for _, end := range []string{"", "/b", "/**", "/**/*/c"} {
			tree.Add("GET", mustParse(t, b.String()+end), "")
			add++
		}
	}
	for _, end := range []string{"", "/a", "/b", "/c", "/a/c", strings.Repeat("/a", 1000) + "/c"} {
		segs, err := AppendSegments(nil, strings.Repeat("/a", depth)+end)
		if err != nil {
			t.Fatal(err)
		}
		asked = 0
		start := time.Now()
		if _, _, ok := tree.Match("GET", segs, struct{}{}, nil); ok {
			t.Error("nothing was admitted, yet something was found")
		}
		// Every value at most once; the time is a tenth of a microsecond per node, and the bound so far above that that only a
		// search which comes back to its nodes can reach it, on any machine.
		if took := time.Since(start); asked > add || took > patience {
			t.Errorf("%d segments: %d of %d values asked for, %v", len(segs), asked, add, took)
		}
	}

	// Many templates that share long beginnings of wildcards: /*/a, /*/*/a, ..., and many "**" with tails.
	deepTree := routes(t)
	for n := range 200 {
		stars := strings.Repeat("/*", n)
		for _, end := range []string{"/a", "/b", "/**/x", "/**/*/x"} {
			deepTree.Add("GET", mustParse(t, stars+end), "found")
		}
		deepTree.Add("GET", mustParse(t, "/**"+strings.Repeat("/*", n)+"/y"), "found")
	}
	path := strings.Repeat("/c", 1000)
	start := time.Now()
	if got, _ := ask(t, deepTree, "GET "+path); got != "" {
		t.Errorf("found %q", got)
	}
	if took := time.Since(start); took > patience {
		t.Errorf("took %v", took)
	}
	if got, _ := ask(t, deepTree, "GET "+path+"/x"); got != "found" {
		t.Error("found nothing")
	}
}

func TestMatchAllocates(t *testing.T) {
	tree := routes(t, "GET /v1/shelves/{shelf}/books/{book}", "GET /v1/{name=orders/*}", "POST /v1/{name=orders/*}:cancel", "GET /files/{path=**}/x")
	for i := range 100 {
		tree.Add("GET", mustParse(t, fmt.Sprintf("/v1/shelves/s%d/*", i)), "other")
	}
	vars := make([]string, 0, 8)
	for _, c := range []struct {
		request     string
		match, path float64
	}{
		{"GET /v1/shelves/7/books/8", 0, 0},
		{"GET /v1/orders/7", 1, 0}, // Match has to join what MatchPath finds joined
		{"POST /v1/orders/7:cancel", 1, 0},
		{"GET /files/a/b/c/d/x", 1, 0},
		{"GET /files/a/x", 0, 0},
		{"GET /nothing/at/all", 0, 0},
		{"GET /v1/%73helves/7/books/8", 0, 0},
		{"GET /v1/shelves/a%20b/books/8", 1, 1}, // decoding makes a string
		{"GET /v1/orders/a%20b%2F", 1, 1},
	} {
		verb, path, _ := strings.Cut(c.request, " ")
		segs, err := AppendSegments(nil, path)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, vars, _ = tree.Match(verb, segs, struct{}{}, vars[:0]) }); n > c.match && !raceEnabled {
			t.Errorf("%s: wanted at most %v allocations, found %v", c.request, c.match, n)
		}
		if n := testing.AllocsPerRun(100, func() { _, vars, _ = tree.MatchPath(verb, path, segs, struct{}{}, vars[:0]) }); n > c.path && !raceEnabled {
			t.Errorf("%s with its path: wanted at most %v allocations, found %v", c.request, c.path, n)
		}
	}
}

func TestConcurrentReaders(t *testing.T) {
	tree := routes(t, "GET /v1/{name=orders/*}", "GET /v1/**", "* /**")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if v, vars, _ := tree.Match("GET", []string{"v1", "orders", "7"}, struct{}{}, nil); v != "GET /v1/{name=orders/*}" || vars[0] != "orders/7" {
					t.Errorf("found %q %q", v, vars)
				}
				tree.Verbs([]string{"v1"}, struct{}{})
			}
		})
	}
	wg.Wait()
}
