package httprule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/grpclog"
)

// stricter are the faults for which templates are refused that grpc-gateway takes, by a part of the message.
var stricter = []struct{ found, why string }{
	{"wildcard is a whole segment", `google/api/http.proto has "*" as a segment only; grpc-gateway takes "a*" and "***" as literals, which is never what was meant`},
	{`wanted "*" or "**", found "**`, `the same`},
	{"that a request path can have", `the literal stands for a path that is refused before it is matched, so the template would never fit`},
	{`("%3A" is a literal colon)`, `the grammar has a colon before the verb only; grpc-gateway takes it inside variables`},
	{`found a second "**"`, `behind a wildcard the first colon begins the verb; grpc-gateway takes "**:a" in "/**/**:a:b" as a literal`},
	{`that ends the variable of column`, `the same, after a wildcard inside a variable ("{a=*:b}")`},
	{`wanted a verb after ":"`, `an empty verb is no verb`},
	{"wanted a segment", `an empty segment: grpc-gateway's parser takes "/" for any token`},
	{"wanted a field name", `the same, inside a variable`},
	{"wanted the end after the verb", `a verb before the last segment: grpc-gateway takes "*:a" in "/*:a/b" as a literal`},
	{"not bound before", `the same variable twice: grpc-gateway keeps the last`},
	{"the end after at most", `the bound on length`},
	{`found "\x00"`, `a NUL: grpc-gateway's parser takes it for the end`},
}

// TestMain keeps grpc-gateway from logging each template that it refuses.
func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	m.Run()
}

// looser are the reasons for which a path may fit a template in grpc-gateway and not here.
var looser = []struct {
	why   string
	holds func(tmpl *Template, segs []string) bool
}{
	{`to grpc-gateway "/" has one segment, an empty one, which "*" fits`, func(_ *Template, segs []string) bool { return len(segs) == 0 }},
	{"an encoded slash may stand only in what a variable captures", func(tmpl *Template, segs []string) bool {
		return len(tmpl.open) > 0 && slices.ContainsFunc(segs, func(seg string) bool { return escapedSlash(seg) >= 0 })
	}},
	{"splitting the verb off must not make a dot segment", func(tmpl *Template, segs []string) bool {
		if tmpl.verb == "" {
			return false
		}
		i := verbAt(tmpl, segs)
		if i < 0 {
			return false
		}
		text := decoded(segs[len(segs)-1][:i], reserveNone)
		return text == "." || text == ".."
	}},
}

// otherwise are the things that grpc-gateway does in another way when several templates are in one mux; each is allowed
// for where the mux is set up or asked.
var otherwise = []string{
	"the template registered last goes first: they are registered in the order of preference here, the best one last",
	"HEAD is a verb like any other: a template for GET is registered for HEAD too when that is asked",
	`the custom kind "*" is a verb like any other: it is registered under the verb that is asked`,
	"a last segment that is nothing but a known verb is 404, whatever else fits; here no verb is split off",
}

// gatewayLooser is the reason why grpc-gateway may find a path that is not found here; "" if there is none.
func gatewayLooser(tmpl *Template, segs []string) string {
	for _, l := range looser {
		if l.holds(tmpl, segs) {
			return l.why
		}
	}
	return ""
}

// gateway is grpc-gateway's mux.
type gateway struct {
	mux    *runtime.ServeMux
	value  string // of the route that was found last
	vars   map[string]string
	status int // of the refusal, where none was found
}

func newGateway(mode runtime.UnescapingMode) *gateway {
	g := &gateway{}
	g.mux = runtime.NewServeMux(runtime.WithUnescapingMode(mode), runtime.WithRoutingErrorHandler(
		func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, _ http.ResponseWriter, _ *http.Request, status int) {
			g.status = status
		}))
	return g
}

func (g *gateway) add(verb, template, value string) error {
	return g.mux.HandlePath(verb, template, func(_ http.ResponseWriter, _ *http.Request, vars map[string]string) { g.value, g.vars = value, vars })
}

func (g *gateway) ask(t *testing.T, verb, path string) bool {
	t.Helper()
	g.value, g.vars, g.status = "", nil, 0
	g.mux.ServeHTTP(httptest.NewRecorder(), (&http.Request{Method: verb, URL: &url.URL{Path: path, RawPath: path}}).WithContext(t.Context()))
	return g.vars != nil
}

// gatewayMatch asks grpc-gateway's mux, alone with one template, for a path; the path is sent in the canonical encoding,
// since grpc-gateway compares literals undecoded.
func gatewayMatch(t *testing.T, template string) (func(path string) (vars map[string]string, ok bool), error) {
	t.Helper()
	g := newGateway(runtime.UnescapingModeAllExceptSlash)
	err := g.add(http.MethodGet, template, "")
	return func(path string) (map[string]string, bool) {
		ok := g.ask(t, http.MethodGet, path)
		return g.vars, ok
	}, err
}

// verbAt is where in the last segment the colon is that tmpl's verb follows, or -1.
func verbAt(tmpl *Template, segs []string) int {
	if tmpl.verb == "" || len(segs) == 0 {
		return -1
	}
	last := segs[len(segs)-1]
	for i := range len(last) {
		if last[i] == ':' && decoded(last[i+1:], reserveNone) == tmpl.verb {
			return i
		}
	}
	return -1
}

// canonicalPath re-encodes segments as tmpl is: what may stand raw does, colons and asterisks do not, but for the colon
// that begins the verb if the path ends in it.
func canonicalPath(segs []string, tmpl *Template) string {
	if len(segs) == 0 {
		return "/"
	}
	at := verbAt(tmpl, segs)
	var b strings.Builder
	for i, seg := range segs {
		b.WriteByte('/')
		if i < len(segs)-1 || at < 0 {
			segment{text: decoded(seg, reserveNone)}.write(&b)
			continue
		}
		segment{text: decoded(seg[:at], reserveNone)}.write(&b)
		b.WriteByte(':')
		tmpl.writeVerb(&b, tmpl.verb)
	}
	return b.String()
}

// checkGateway holds Parse and a tree of one template to grpc-gateway.
func checkGateway(t *testing.T, template, path string) {
	t.Helper()
	_, gatewayErr := gatewayMatch(t, template)
	tmpl, err := Parse(template)
	if err != nil {
		syntax, ok := errors.AsType[*SyntaxError](err)
		if !ok || syntax.Column < 1 || syntax.Column > len(template)+1 || syntax.Want == "" || syntax.Found == "" {
			t.Fatalf("%q: found error %#v", template, err)
		}
		if gatewayErr != nil {
			return
		}
		for _, s := range stricter {
			if strings.Contains(err.Error(), s.found) {
				return
			}
		}
		t.Fatalf("%q: grpc-gateway takes it, here: %v", template, err)
	}
	if gatewayErr != nil {
		t.Fatalf("%q: grpc-gateway: %v", template, gatewayErr)
	}
	again, err := Parse(tmpl.String())
	if err != nil || again.String() != tmpl.String() || len(again.vars) != len(tmpl.vars) {
		t.Fatalf("%q: canonical form %q parses to %v, %v", template, tmpl, again, err)
	}
	segs, err := AppendSegments(nil, path)
	if err != nil {
		return
	}
	gateway, err := gatewayMatch(t, tmpl.String())
	if err != nil {
		t.Fatalf("%q: grpc-gateway on the canonical form: %v", tmpl, err)
	}
	want, fits := gateway(canonicalPath(segs, tmpl))
	tree := NewTree(always)
	tree.Add(http.MethodGet, tmpl, "")
	_, got, ok := tree.MatchPath(http.MethodGet, path, segs, struct{}{}, nil)
	if ok != fits {
		if fits && gatewayLooser(tmpl, segs) != "" {
			return
		}
		t.Fatalf("%q on %q: grpc-gateway says %v, here %v", tmpl, path, fits, ok)
	}
	if !ok {
		return
	}
	sameCaptures(t, tmpl, segs, got, want)
}

// sameCaptures holds what is captured here to what grpc-gateway captures.
func sameCaptures(t *testing.T, tmpl *Template, segs, got []string, want map[string]string) {
	t.Helper()
	if len(got) != len(tmpl.vars) || len(got) != len(want) {
		t.Fatalf("%q on %q: grpc-gateway captures %q, here %q", tmpl, segs, want, got)
	}
	// Captures that grpc-gateway gives otherwise: it keeps a captured literal's percent-encoding, gives "a/" for {x=a/**}
	// when "**" stands for nothing, and decodes the encoded slash that "*" stands for in a variable of several segments,
	// against google/api/http.proto, so that "orders/a%2Fb" and "orders/a/b" would be one name.
	nothing := tmpl.glob >= 0 && len(segs) == len(tmpl.segs)-1
	if strings.Contains(tmpl.String(), "%") {
		return
	}
	for i, v := range tmpl.vars {
		if nothing && v.span.start <= tmpl.glob && tmpl.glob < v.span.end {
			continue
		}
		// The path was sent re-encoded, so encoded slashes come back in capitals.
		have := strings.ReplaceAll(got[i], "%2f", "%2F")
		if v.Multi && strings.ReplaceAll(have, "%2F", "/") == strings.ReplaceAll(want[v.Field], "%2F", "/") {
			continue
		}
		if have != want[v.Field] {
			t.Fatalf("%q on %q: variable %s: grpc-gateway captures %q, here %q", tmpl, segs, v.Field, want[v.Field], have)
		}
	}
}

// checkTable holds a tree of the lines of table to grpc-gateway's mux with the same templates, and returns whether
// something was found. What fits is grpc-gateway's word, the order of preference is google/api/http.proto's silence made
// a rule (see preference), and which of the verbs answers is verbRank's.
func checkTable(t *testing.T, table, request string) bool {
	t.Helper()
	verb, path, _ := strings.Cut(request, " ")
	segs, err := AppendSegments(nil, path)
	if err != nil || !token(verb) || len(segs) == 0 || strings.HasPrefix(segs[len(segs)-1], ":") || strings.Contains(strings.ToLower(path), "%3a") {
		return false // a verb alone: see otherwise; grpc-gateway does not decode verbs
	}
	// Literals are compared undecoded there, so nothing is encoded but what has to be; colons may begin verbs.
	var sent strings.Builder
	for _, seg := range segs {
		for i, part := range strings.Split(seg, ":") {
			sent.WriteByte("/:"[min(i, 1)])
			segment{text: decoded(part, reserveNone)}.write(&sent)
		}
	}
	segs, err = AppendSegments(nil, sent.String())
	if err != nil {
		t.Fatal(err)
	}
	tree := NewTree(func(int, struct{}) bool { return true })
	var verbs []string
	var tmpls []*Template
	for line := range strings.SplitSeq(table, "\n") {
		v, p, _ := strings.Cut(line, " ")
		tmpl, err := Parse(p)
		if err != nil || !token(v) || strings.Contains(tmpl.String(), "%") || len(tmpls) == 16 {
			continue
		}
		tree.Add(v, tmpl, len(tmpls))
		verbs, tmpls = append(verbs, v), append(tmpls, tmpl)
	}
	g := newGateway(runtime.UnescapingModeAllExceptSlash)
	var fitting []int
	known := false // grpc-gateway may find, or say that another verb would
	for i, tmpl := range tmpls {
		one, err := gatewayMatch(t, tmpl.String())
		if err != nil {
			t.Fatalf("%q: grpc-gateway: %v", tmpl, err)
		}
		_, fits := one(sent.String())
		if fits && gatewayLooser(tmpl, segs) != "" {
			return false
		}
		known = known || fits
		asked := verbs[i]
		if verbRank(asked, verb) >= 0 {
			if fits {
				fitting = append(fitting, i)
				continue
			}
			asked = verb
		}
		if err := g.add(asked, tmpl.String(), strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortStableFunc(fitting, func(a, b int) int {
		return cmp.Or(preference(tmpls[b], tmpls[a]), verbRank(verbs[b], verb)-verbRank(verbs[a], verb), b-a)
	})
	for _, i := range fitting {
		if err := g.add(verb, tmpls[i].String(), strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	found := g.ask(t, verb, sent.String())
	got, vars, ok := tree.MatchPath(verb, sent.String(), segs, struct{}{}, nil)
	if ok != found || ok && strconv.Itoa(got) != g.value {
		t.Fatalf("%s %s in\n%s\ngrpc-gateway finds %v %s, here %v %d", verb, sent.String(), table, found, g.value, ok, got)
	}
	if ok {
		sameCaptures(t, tmpls[got], segs, vars, g.vars)
		return true
	}
	if want := map[bool]int{true: http.StatusMethodNotAllowed, false: http.StatusNotFound}[len(tree.Verbs(segs, struct{}{})) > 0]; g.status != want || known != (want == http.StatusMethodNotAllowed) {
		t.Fatalf("%s %s in\n%s\ngrpc-gateway answers %d, here %d", verb, sent.String(), table, g.status, want)
	}
	return false
}

// FuzzTable is FuzzTemplate for several templates at once.
func FuzzTable(f *testing.F) {
	f.Add("GET /v1/{uuid}:custom:custom\nGET /v1/{uuid}:custom\nGET /v1/{uuid}", "GET /v1/7:custom:custom")
	f.Add("POST /v1/{uuid}:custom:custom\nGET /v1/{uuid}:custom\nPUT /v1/{uuid}", "POST /v1/7:x:custom")
	f.Add("GET /a/b\nHEAD /a/*\nGET /**\n* /a/{x=b}", "HEAD /a/b")
	f.Add("GET /a\nPOST /a\n* /a\nPURGE /a", "PURGE /a")
	f.Add("GET /{x}/{y=**}\nGET /{x=**}/b:v\nPUT /{a}/**", "DELETE /a/b:v")
	f.Fuzz(func(t *testing.T, table, request string) { checkTable(t, table, request) })
}

// TestTablesAgainstGateway is FuzzTable over templates and paths of so few words that much fits.
func TestTablesAgainstGateway(t *testing.T) {
	t.Log("done otherwise by grpc-gateway:\n" + strings.Join(otherwise, "\n"))
	w := words{rand.New(rand.NewPCG(5, 6))} //nolint:gosec // the same cases each run
	rounds := 10000
	if testing.Short() || raceEnabled {
		rounds = 1000
	}
	found := 0
	for range rounds {
		var table strings.Builder
		for range 1 + w.IntN(10) {
			table.WriteString(w.pick("GET ", "GET ", "POST ", "HEAD ", "PURGE ", "* ") + w.template() + "\n")
		}
		path := w.path()
		if lines := strings.Split(table.String(), "\n"); w.IntN(3) > 0 {
			_, template, _ := strings.Cut(w.pick(lines[:len(lines)-1]...), " ")
			path = w.fitting(template)
		}
		if checkTable(t, table.String(), w.pick("GET", "HEAD", "POST", "PUT", "PURGE")+" "+path) {
			found++
		}
	}
	if found < rounds/5 {
		t.Errorf("of %d requests %d found a route: too few to say much", rounds, found)
	}
}

func FuzzTemplate(f *testing.F) {
	for _, s := range [][2]string{
		{"/v1/{name=orders/*}:archive", "/v1/orders/7:archive"},
		{"/v1/{name=orders/*}", "/v1/orders/a%20b%2Fc"},
		{"/v1/{a}/{b.c}", "/v1/x%2fy/%25"},
		{"/files/{path=**}", "/files/a/b%2Fc/d"},
		{"/files/{path=a/**}", "/files/a"},
		{"/a/{b=c/**}/d/e", "/a/c/x/y/d/e"},
		{"/a/{b=c/**/d}/e:verb", "/a/c/d/e:verb"},
		{"/a/{b=*}/**:verb", "/a/b:verb"},
		{"/", "/"},
		{"/**", "/"},
		{"/{x}", "/"},
		{"/*", "/a%2Fb"},
		{"/{x}:v", "/..:v"},
		{"/{x}:v", "/a:b:v"},
		{"/{x}:v", "/a%3Av"},
		{"/a:b/c", "/a:b/c"},
		{"/a:b:c", "/a:b:c"},
		{"/{x}:b:c", "/a:b:c"},
		{"/{x}:b:c", "/a:b%3Ac"},
		{"/{x}:b:c", "/a%3Ab:c"},
		{"/**:b:c", "/a:b:c"},
		{"/{x=*}:b:c/d", "/a:b:c/d"},
		{"/caf%c3%a9/%41", "/caf%C3%A9/A"},
		{"/a//b", "/a/b"},
		{"/a*", "/a*"},
		{"/{x=%2A}", "/*"},
		{"/{a}/{a}", "/1/2"},
		{"/{a}\x00", "/1"},
		{"/*://", "/a"},
		{"/a/{b=**}/**v", "/a/b"},
		{"/*:a/b", "/*:a/b"},
		{"/{x=a:b}", "/a:b"},
		{"/$m('x')", "/$m('x')"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(checkGateway)
}

// TestVectorsAgainstGateway asks grpc-gateway about the templates of the public tests, each on paths made to fit it and
// to miss it.
func TestVectorsAgainstGateway(t *testing.T) {
	fit := 0
	for _, row := range readVectors(t).TemplateParse {
		tmpl, err := Parse(row.Template)
		if err != nil {
			checkGateway(t, row.Template, "/")
			continue
		}
		for n := range 4 { // segments for "**"
			var path strings.Builder
			for i, s := range tmpl.segs {
				switch s.kind {
				case literal:
					path.WriteString("/" + s.text)
				case star:
					fmt.Fprintf(&path, "/s%d", i)
				case deep:
					path.WriteString(strings.Repeat("/d", n))
				}
			}
			base := path.String()
			if base == "" {
				base = "/"
			} else if tmpl.verb != "" {
				base += ":" + tmpl.verb
			}
			segs, err := AppendSegments(nil, base)
			if err != nil {
				t.Fatal(err)
			}
			tree := NewTree(always)
			tree.Add(http.MethodGet, tmpl, "")
			if _, _, ok := tree.Match(http.MethodGet, segs, struct{}{}, nil); ok {
				fit++
			} else if tmpl.verb == "" || n > 0 {
				t.Errorf("%s does not fit %s", row.Template, base)
			}
			for _, p := range []string{base, base + "/x", base + ":x", strings.TrimSuffix(base, ":"+tmpl.verb), strings.ToUpper(base), "/x" + base} {
				checkGateway(t, row.Template, p)
			}
		}
	}
	if fit < 150 {
		t.Errorf("wanted 150 fits or more, found %d", fit)
	}
}

// TestRandomAgainstGateway is FuzzTemplate over templates and paths of so few words that much fits.
func TestRandomAgainstGateway(t *testing.T) {
	w := words{rand.New(rand.NewPCG(3, 4))} //nolint:gosec // the same cases each run
	rounds := 5000
	if testing.Short() || raceEnabled {
		rounds = 500
	}
	for range rounds {
		template := w.template()
		for range 4 {
			checkGateway(t, template, w.path())
		}
	}
}
