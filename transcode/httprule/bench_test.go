package httprule

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

type shape struct{ name, verb, template, path string }

// shapes are a realistic mix of bindings.
var shapes = []shape{
	{"collection", "GET", "/v1/resources%d", "/v1/resources%d"},
	{"item", "GET", "/v1/resources%d/{id}", "/v1/resources%d/7"},
	{"name", "GET", "/v2/{name=resources%d/*}", "/v2/resources%d/7"},
	{"verb", "POST", "/v2/{name=resources%d/*}:cancel", "/v2/resources%d/7:cancel"},
	{"nested", "PATCH", "/v1/projects/{p}/resources%d/{id}/parts/{part}", "/v1/projects/1/resources%d/2/parts/3"},
	{"deep", "GET", "/v1/files%d/{path=**}", "/v1/files%d/a/b/c"},
}

// requests are those that the given routes serve, in that order.
func requests(t testing.TB, routes []int) []benchRequest {
	t.Helper()
	return requestsFor(t, routes, func(i int) shape { return shapes[i%len(shapes)] })
}

// requestsFor are requests for routes of any shape. They lie in memory as they are asked, one behind another: in a call,
// the path has just been read.
func requestsFor(t testing.TB, routes []int, of func(route int) shape) []benchRequest {
	t.Helper()
	var all strings.Builder
	ends := make([]int, len(routes))
	for k, i := range routes {
		all.WriteString(strings.ReplaceAll(of(i).path, "%d", strconv.Itoa(i)))
		ends[k] = all.Len()
	}
	out := make([]benchRequest, len(routes))
	segs := make([]string, 0, 8*len(routes))
	start := 0
	for k, i := range routes {
		path := all.String()[start:ends[k]]
		start = ends[k]
		from := len(segs)
		var err error
		if segs, err = AppendSegments(segs, path); err != nil {
			t.Fatal(err)
		}
		s := of(i)
		out[k] = benchRequest{s.name, s.verb, path, segs[from:len(segs):len(segs)], i}
	}
	return out
}

// table returns a tree of n routes, each with its number as value, and a request for one of each shape.
func table(t testing.TB, n int) (*Tree[int, struct{}], []benchRequest) {
	t.Helper()
	tree, _ := loaded(t, n)
	var last []int
	for i := n - len(shapes); i < n; i++ {
		last = append(last, i)
	}
	return tree, requests(t, last)
}

type benchRequest struct {
	name, verb, path string
	segs             []string
	want             int
}

// BenchmarkMatch is what a look-up costs at several numbers of routes: "hot" asks for one route of each shape over and
// over, "in turn" for up to 4,096 routes one after another, far away from each other in memory.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		tree, hot := table(b, n)
		var far []int
		for i := range min(n, 4096) {
			far = append(far, i*7919%n)
		}
		b.Run(fmt.Sprintf("routes=%d/hot", n), func(b *testing.B) { benchmarkMatch(b, tree, hot) })
		b.Run(fmt.Sprintf("routes=%d/in_turn", n), func(b *testing.B) { benchmarkMatch(b, tree, requests(b, far)) })
		b.Run(fmt.Sprintf("routes=%d/none", n), func(b *testing.B) {
			b.ReportAllocs()
			segs := []string{"v1", "projects", "1", "unknown", "7"}
			for b.Loop() {
				if _, _, ok := tree.Match("GET", segs, struct{}{}, nil); ok {
					b.Fatal("found")
				}
			}
		})
	}
}

// apart is a shape of templates that have nothing in common: two literals of their own each.
var apart = shape{"apart", "GET", "/own%d/{a}/own%d/{b=c/*}", "/own%d/x/own%d/c/y"}

// BenchmarkApart is "in turn" for 10,000 such templates.
func BenchmarkApart(b *testing.B) {
	const n = 10_000
	tree := NewTree(func(int, struct{}) bool { return true })
	for i := range n {
		tree.Add(apart.verb, mustParse(b, strings.ReplaceAll(apart.template, "%d", strconv.Itoa(i))), i)
	}
	var routes []int
	for i := range 4096 {
		routes = append(routes, i*7919%n)
	}
	benchmarkMatch(b, tree, requestsFor(b, routes, func(int) shape { return apart }))
}

// BenchmarkShapes is BenchmarkMatch by the shape of the template.
func BenchmarkShapes(b *testing.B) {
	tree, hot := table(b, 10_000)
	for i := range hot {
		b.Run(hot[i].name, func(b *testing.B) { benchmarkMatch(b, tree, hot[i:i+1]) })
	}
}

func benchmarkMatch(b *testing.B, tree *Tree[int, struct{}], requests []benchRequest) {
	b.Helper()
	b.ReportAllocs()
	vars := make([]string, 0, 8)
	i := 0
	for b.Loop() {
		r := &requests[i]
		if i++; i == len(requests) {
			i = 0
		}
		got, captured, ok := tree.MatchPath(r.verb, r.path, r.segs, struct{}{}, vars[:0])
		if !ok || got != r.want {
			b.Fatalf("wanted %d, found %d, %v", r.want, got, ok)
		}
		vars = captured
	}
}

func BenchmarkAppendSegments(b *testing.B) {
	for _, path := range []string{"/v1/shelves/7/books", "/v1/projects/my-project/locations/eu/orders/1234567:cancel", "/v1/caf%C3%A9/a%2Fb"} {
		b.Run(path[1:], func(b *testing.B) {
			b.ReportAllocs()
			segs := make([]string, 0, 16)
			for b.Loop() {
				var err error
				if segs, err = AppendSegments(segs[:0], path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("/v1/projects/{p}/{name=resources/*/parts/*}:cancel"); err != nil {
			b.Fatal(err)
		}
	}
}

// loaded parses and adds n routes.
func loaded(t testing.TB, n int) (*Tree[int, struct{}], []*Template) {
	t.Helper()
	tree := NewTree(func(int, struct{}) bool { return true })
	tmpls := make([]*Template, n)
	for i := range n {
		s := shapes[i%len(shapes)]
		tmpls[i] = mustParse(t, fmt.Sprintf(s.template, i))
		tree.Add(s.verb, tmpls[i], i)
	}
	return tree, tmpls
}

// BenchmarkLoad parses and adds 100,000 routes.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		loaded(b, 100_000)
	}
}

// heap is the memory in use.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// TestLoad holds the memory of 100,000 routes to a bound: that of the tree, and that of the parsed templates, which
// belong to their bindings.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	const n = 100_000
	before := heap()
	tree, tmpls := loaded(t, n)
	all := heap() - before
	clear(tmpls)
	alone := heap() - before
	t.Logf("%d routes: the tree %.0f bytes each, the templates %.0f, %.0f MiB together", n, alone/n, (all-alone)/n, all/(1<<20))
	if alone/n > 200 || all/n > 700 {
		t.Errorf("wanted at most 200 bytes a route in the tree and 700 with the templates, found %.0f and %.0f", alone/n, all/n)
	}
	var last []int
	for i := n - len(shapes); i < n; i++ {
		last = append(last, i)
	}
	for _, r := range requests(t, last) {
		if got, _, ok := tree.Match(r.verb, r.segs, struct{}{}, nil); !ok || got != r.want {
			t.Errorf("%s %s: wanted %d, found %d", r.verb, r.path, r.want, got)
		}
	}
	runtime.KeepAlive(tree)
}

// TestLoadApart is TestLoad for templates that have nothing in common, so that none shares what is still to come.
func TestLoadApart(t *testing.T) {
	tmpls := make([]*Template, 10_000)
	for i := range tmpls {
		tmpls[i] = mustParse(t, strings.ReplaceAll(apart.template, "%d", strconv.Itoa(i)))
	}
	before := heap()
	tree := NewTree(func(int, struct{}) bool { return true })
	for i, tmpl := range tmpls {
		tree.Add(apart.verb, tmpl, i)
	}
	each := (heap() - before) / float64(len(tmpls))
	t.Logf("%d routes: the tree %.0f bytes each", len(tmpls), each)
	if each > 700 {
		t.Errorf("wanted at most 700 bytes each, found %.0f", each)
	}
	if got, _, ok := tree.Match("GET", []string{"own77", "x", "own77", "c", "y"}, struct{}{}, nil); !ok || got != 77 {
		t.Errorf("found %d, %v", got, ok)
	}
	runtime.KeepAlive(tmpls)
}
