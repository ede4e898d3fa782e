package proxy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// A call by the method's name goes to the route that selects the method, through its plugins, and not to one that only has
// an HTTP rule of its own for it, whichever stands first.
func TestNamesGoToTheRouteThatSelects(t *testing.T) {
	const (
		own  = "  - {name: own, service: echo, http: {method: demo.echo.v1.Echo/Call, get: \"/v1/public/{text}\"}}\n"
		all  = "  - {name: all, service: echo, methods: [\"demo.echo.v1.Echo/*\"]}\n"
		team = "  - {name: team, service: echo, http: {method: demo.echo.v1.Echo/Call, get: \"/v1/team/{text}\"}, headers: [{name: x-team, present: true}]}\n"
	)
	for _, tc := range []struct {
		name, routes string
		header       rpc.Metadata
		want         string
	}{
		{"behind one with a rule", own + all, nil, "all"},
		{"before it", all + own, nil, "all"},
		{"without another", own, nil, "own"},
		{"more conditions", all + team, rpc.Metadata{{Key: "x-team", Value: "a"}}, "team"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &spy{name: "outer"}
			b := mustBench(t, document+"plugins: [{name: outer}]\nroutes:\n"+tc.routes, s.kind())
			var took string
			s.handle = func(next rpc.Handler, ctx context.Context, c *rpc.Call) error {
				took = c.Route
				return next.Handle(ctx, c)
			}
			v := b.visit("POST", "/demo.echo.v1.Echo/Call", "", append(tc.header, rpc.Pair{Key: "content-type", Value: "application/proto"})...)
			if v.status != 200 || took != tc.want {
				t.Errorf("want 200 by route %s, found %d by %q: %s", tc.want, v.status, took, v.answer)
			}
		})
	}
}

// What a call took of the budget is given back also when its face panics.
func TestPanicOfAFaceGivesTheBudgetBack(t *testing.T) {
	for _, typ := range []string{"application/json", "application/proto"} {
		t.Run(typ, func(t *testing.T) {
			b := mustBench(t, document)
			b.torn = true
			path, body := "/v1/echo", `{"text":"a"}`
			if typ == "application/proto" {
				path, body = "/demo.echo.v1.Echo/Call", "\x0a\x01a"
			}
			b.visit("POST", path, body, rpc.Pair{Key: "content-type", Value: typ})
			if n := panics(t, b); n != 1 {
				t.Fatalf("want one panic counted, found %d", n)
			}
			b.gateway.Sample()
			gauge, err := b.meter.Gauge("causeway_translation_bytes", "By", "Bytes of bodies and messages that are being received and translated.")
			if err != nil {
				t.Fatal(err)
			}
			if n := gauge.With().Value(); n != 0 {
				t.Errorf("want nothing held, found %d bytes", n)
			}
		})
	}
}

// A GET that only says the word WebSocket, without being able to be one, does not call a method whose rule is a POST.
func TestOnlyAWebSocketFindsAPost(t *testing.T) {
	caller := newQuietCaller()
	b, s := chatBench(t, caller, nil)
	b.visit("GET", "/v1/rooms/a:talk", "", rpc.Pair{Key: "upgrade", Value: "websocket"}) // of no HTTP/1.1
	if s.sent[0].Status != 405 {
		t.Errorf("want 405, found %d", s.sent[0].Status)
	}
}

// The pairs of a form count in the budget by what they take, not by the bytes that they came in.
func TestPairsOfAFormAreCounted(t *testing.T) {
	b := mustBench(t, document+"limits: {translation_bytes: 65536}\n")
	form := rpc.Pair{Key: "content-type", Value: "application/x-www-form-urlencoded"}
	if v := b.visit("POST", "/v1/echo", strings.Repeat("text=&", 5000), form); v.status != 503 {
		t.Errorf("want 503, found %d %s", v.status, v.answer)
	}
	if v := b.visit("POST", "/v1/echo", "text=a", form); v.status != 200 {
		t.Errorf("want 200, found %d %s", v.status, v.answer)
	}
}
