package proxy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/cors"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

const corsDocument = document + `plugins: [{name: cors, config: {origins: ["https://app.example.com"]}}, {name: spy}]
`

func preflight(verb, headers string) []rpc.Pair {
	return []rpc.Pair{
		{Key: "origin", Value: "https://app.example.com"},
		{Key: "access-control-request-method", Value: verb},
		{Key: "access-control-request-headers", Value: headers},
	}
}

// A preflight carries nobody's credentials, so no plugin may judge it; that it was, they hear.
func TestPreflightPassesNoPlugin(t *testing.T) {
	s := &spy{name: "spy", handle: func(rpc.Handler, context.Context, *rpc.Call) error {
		return rpc.Refuse(16, "UNAUTHENTICATED", "who are you?")
	}}
	var methods []bool
	s.done = func(c *rpc.Call, _ rpc.Sent) { methods = append(methods, c.Method != nil) }
	b := mustBench(t, corsDocument, s.kind(), cors.Kind)
	if v := b.visit("OPTIONS", "/v1/echo/x", "", preflight("GET", "authorization")...); v.status != 204 || v.header.Get("access-control-allow-headers") != "authorization" {
		t.Errorf("want leave, found %d %v", v.status, v.header)
	}
	if v := b.visit("GET", "/v1/echo/x", "", preflight("", "")[:1]...); v.status != 401 || v.header.Get("access-control-allow-origin") != "https://app.example.com" {
		t.Errorf("want a refusal that the script may read, found %d %v", v.status, v.header)
	}
	if len(s.sent) != 2 || s.sent[0].Status != 204 || s.sent[1].Status != 401 {
		t.Fatalf("want both told once, found %v", s.sent)
	}
	if methods[0] || !methods[1] {
		t.Errorf("want a method of the call only, found %v", methods)
	}
}

// noLeave refuses every preflight.
type noLeave struct{ endsOnly }

func (*noLeave) Preflight(*rpc.HTTP, *plugin.Asked) (*rpc.Answer, error) {
	return nil, rpc.Refuse(7, "ORIGIN_NOT_ALLOWED", "no").WithStatus(403)
}

// Who hears of a preflight that got no leave is not closed meanwhile.
func TestRefusedPreflightIsToldToOpenPlugins(t *testing.T) {
	s := &spy{name: "spy"}
	b := mustBench(t, document+"plugins: [{name: spy}, {name: no_leave}]\n", s.kind(), kindOf("no_leave", &noLeave{endsOnly{&order{}}}))
	s.done = func(*rpc.Call, rpc.Sent) {
		b.set(document)
		if err := b.gateway.Reload(t.Context()); err != nil {
			t.Error(err)
		}
		if _, closed, _ := s.counts(); closed != 0 {
			t.Error("closed while it was told of the end")
		}
	}
	v := b.visit("OPTIONS", "/v1/echo", "", rpc.Pair{Key: "origin", Value: "http://x"}, rpc.Pair{Key: "access-control-request-method", Value: "POST"})
	if _, _, sent := s.counts(); v.status != 403 || sent != 1 {
		t.Errorf("status %d, told %d times", v.status, sent)
	}
	soon(t, "it closed afterwards", func() bool { _, closed, _ := s.counts(); return closed == 1 })
}

// What looks like a preflight to a route that gives none is a request that no route takes, as any other with its verb.
func TestPreflightThatNobodyAnswers(t *testing.T) {
	s := &spy{name: "spy"}
	var routes []string
	s.done = func(c *rpc.Call, _ rpc.Sent) { routes = append(routes, c.Route) }
	b := mustBench(t, document+`routes:
  - {name: open, service: echo, methods: ["demo.echo.v1.Echo/Wait"], plugins: [{name: cors, config: {origins: ["https://app.example.com"]}}]}
  - {name: shut, service: echo, methods: ["demo.echo.v1.Echo/Call"]}
plugins: [{name: spy}]
`, s.kind(), cors.Kind)
	for _, asked := range [][]rpc.Pair{nil, preflight("POST", "x-a")} {
		if v := b.visit("OPTIONS", "/v1/echo", "", asked...); v.status != 405 {
			t.Errorf("found %d %v", v.status, v.header)
		}
	}
	if len(routes) != 2 || routes[0] != "" || routes[1] != "" {
		t.Errorf("want both told of no route, found %q", routes)
	}
}

// asking reads a header of its own, which scripts may send.
type asking struct{ endsOnly }

func (*asking) RequestHeaders() []string { return []string{"x-api-key"} }

func TestPreflightsGrantWhatPluginsRead(t *testing.T) {
	var o order
	b := mustBench(t, document+`plugins: [{name: cors, config: {origins: ["https://app.example.com"]}}, {name: asks}]`, cors.Kind, kindOf("asks", &asking{endsOnly{&o}}))
	if v := b.visit("OPTIONS", "/v1/echo/x", "", preflight("GET", "x-api-key,x-other")...); v.header.Get("access-control-allow-headers") != "x-api-key" {
		t.Errorf("found %d %v", v.status, v.header)
	}
}

// A face that panics leaves an answer that the script may read.
func TestPanicIsDressed(t *testing.T) {
	b := mustBench(t, document+`plugins: [{name: cors, config: {origins: ["*"]}}]`, cors.Kind)
	b.faulty.Store(true)
	if v := b.visit("GET", "/v1/echo/x", "", preflight("", "")[:1]...); v.status != 500 || v.header.Get("access-control-allow-origin") != "*" {
		t.Errorf("found %d %v", v.status, v.header)
	}
}

// FuzzPreflight: leave is given for what was asked, word for word, and for nothing else.
func FuzzPreflight(f *testing.F) {
	for _, seed := range [][3]string{
		{"https://app.example.com", "GET", "authorization, x-request-timeout"},
		{"https://app.example.com", "POST", "Content-Type,,X-Foo ,\x00,grpc-metadata-a"},
		{"null", "GET", ""},
		{"https://app.example.com", "GET", "authori\u017aation, x-re\u017fource,\u212a, \u0130"},
		{"https://app.example.com.evil.com", "GET", "*"},
		{"https://app.example.com", "GET, POST", "x"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	b := mustBench(f, document+`plugins: [{name: cors, config: {origins: ["https://app.example.com"]}}]`, cors.Kind)
	f.Fuzz(func(t *testing.T, origin, verb, headers string) {
		v := b.visit("OPTIONS", "/v1/echo/x", "",
			rpc.Pair{Key: "origin", Value: origin}, rpc.Pair{Key: "access-control-request-method", Value: verb}, rpc.Pair{Key: "access-control-request-headers", Value: headers})
		listed := origin == "https://app.example.com"
		if (v.header.Get("access-control-allow-origin") == origin) != (listed || origin == "") || !listed && v.header.Has("access-control-allow-origin") {
			t.Errorf("origin %q: %v", origin, v.header)
		}
		granted := listed && (verb == "GET" || verb == "HEAD")
		if (v.status == 204) != granted || v.header.Has("access-control-allow-methods") != granted {
			t.Errorf("%q from %q: %d %v", verb, origin, v.status, v.header)
		}
		if !v.header.Has("access-control-allow-headers") {
			return
		}
		asked := strings.Split(strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			return r
		}, headers), ",")
		for name := range strings.SplitSeq(v.header.Get("access-control-allow-headers"), ", ") {
			found := false
			for _, a := range asked {
				found = found || strings.Trim(a, " \t") == name
			}
			if !found || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("leave to send %q, asked for %q", name, headers)
			}
		}
	})
}
