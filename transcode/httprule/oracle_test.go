package httprule

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
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
	{`("%3A" is a literal colon)`, `the grammar has a colon before the verb only; grpc-gateway takes it inside variables and verbs`},
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

// gatewayMatch asks grpc-gateway's mux, alone with one template, for a path; the path is sent in the canonical encoding,
// since grpc-gateway compares literals undecoded.
func gatewayMatch(t *testing.T, template string) (func(path string) (vars map[string]string, ok bool), error) {
	t.Helper()
	mux := runtime.NewServeMux(runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptSlash))
	var vars map[string]string
	err := mux.HandlePath(http.MethodGet, template, func(_ http.ResponseWriter, _ *http.Request, params map[string]string) { vars = params })
	return func(path string) (map[string]string, bool) {
		vars = nil
		mux.ServeHTTP(httptest.NewRecorder(), (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: path, RawPath: path}}).WithContext(t.Context()))
		return vars, vars != nil
	}, err
}

// canonicalPath re-encodes segments as templates are: what may stand raw does, colons and asterisks do not, but for the
// colon that begins a verb if the template has one.
func canonicalPath(segs []string, verb bool) string {
	if len(segs) == 0 {
		return "/"
	}
	var b strings.Builder
	for i, seg := range segs {
		rest, tail := seg, ""
		if j := strings.LastIndexByte(seg, ':'); j >= 0 && verb && i == len(segs)-1 {
			rest, tail = seg[:j], seg[j+1:]
		}
		b.WriteByte('/')
		segment{text: decoded(rest, false)}.write(&b)
		if len(rest) < len(seg) {
			b.WriteByte(':')
			segment{text: decoded(tail, false)}.write(&b)
		}
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
	want, fits := gateway(canonicalPath(segs, tmpl.verb != ""))
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
	if len(got) != len(tmpl.vars) || len(got) != len(want) {
		t.Fatalf("%q on %q: grpc-gateway captures %q, here %q", tmpl, path, want, got)
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
			t.Fatalf("%q on %q: variable %s: grpc-gateway captures %q, here %q", tmpl, path, v.Field, want[v.Field], have)
		}
	}
}

// gatewayLooser is the reason why grpc-gateway may find a path that is not found here; "" if there is none.
func gatewayLooser(tmpl *Template, segs []string) string {
	if len(segs) == 0 {
		return `to grpc-gateway "/" has one segment, an empty one, which "*" fits`
	}
	for _, seg := range segs {
		if escapedSlash(seg) >= 0 && len(tmpl.open) > 0 {
			return "an encoded slash may stand only in what a variable captures"
		}
	}
	last := segs[len(segs)-1]
	if i := strings.LastIndexByte(last, ':'); i > 0 && tmpl.verb != "" {
		if text := decoded(last[:i], false); text == "." || text == ".." {
			return "splitting the verb off must not make a dot segment"
		}
	}
	return ""
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
