package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

const twoPlugins = document + "plugins: [{name: outer}, {name: inner}]\n"

// Wherever a call panics, the caller gets INTERNAL, every finisher hears it once, and the next call is served.
func TestPanicsAreContained(t *testing.T) {
	for _, where := range []string{"outer plugin", "inner plugin", "transport", "finisher", "face"} {
		t.Run(where, func(t *testing.T) {
			outer, inner := &spy{name: "outer"}, &spy{name: "inner"}
			b := mustBench(t, twoPlugins, outer.kind(), inner.kind())
			bomb := func(rpc.Handler, context.Context, *rpc.Call) error { panic("boom") }
			unary := b.unary
			status := 500
			switch where {
			case "outer plugin":
				outer.handle = bomb
			case "inner plugin":
				inner.handle = bomb
			case "transport":
				b.unary = func(context.Context, *rpc.Call, *rpc.Message, *rpc.Reply) error { panic("boom") }
			case "finisher":
				outer.done = func(*rpc.Call, rpc.Sent) { panic("boom") }
				status = 200
			case "face":
				b.faulty.Store(true)
			}
			v := b.visit("POST", "/v1/echo", `{"text":"a"}`)
			if v.status != status {
				t.Errorf("status: want %d, found %d %s", status, v.status, v.answer)
			}
			if strings.Contains(string(v.answer), "boom") {
				t.Errorf("the answer shows the panic: %s", v.answer)
			}
			if n := panics(t, b); n != 1 {
				t.Errorf("panics counted: want 1, found %d", n)
			}
			for _, s := range []*spy{outer, inner} {
				if _, _, sent := s.counts(); sent != 1 {
					t.Errorf("%s: want to hear the end once, heard it %d times", s.name, sent)
				}
			}
			outer.handle, inner.handle, outer.done, b.unary = nil, nil, nil, unary
			b.faulty.Store(false)
			if v := b.visit("POST", "/v1/echo", `{"text":"a"}`); v.status != 200 || string(v.answer) != `{"text":"hi"}` {
				t.Errorf("the next call: want 200, found %d %s", v.status, v.answer)
			}
		})
	}
}

func panics(t testing.TB, b *bench) int64 {
	t.Helper()
	vec, err := b.meter.Counter("causeway_panics_total", "", "Panics that were caught; each is a defect to report.")
	if err != nil {
		t.Fatal(err)
	}
	return vec.With().Value()
}

// A plugin that fails refuses the whole configuration; what was made for it is closed again, and the former one serves.
func TestFailingPluginRefusesTheConfiguration(t *testing.T) {
	outer, inner := &spy{name: "outer"}, &spy{name: "inner", fail: errors.New("no key")}
	b, err := newBench(t, twoPlugins, outer.kind(), inner.kind())
	var faults config.Faults
	if !errors.As(err, &faults) || !strings.Contains(err.Error(), `causeway.yaml:4:26`) || !strings.Contains(err.Error(), `plugin "inner": no key`) {
		t.Fatalf("want a fault at the plugin, found %v", err)
	}
	if _, closed, _ := outer.counts(); closed != 1 {
		t.Errorf("the plugin made before: want closed once, found %d", closed)
	}
	if b.gateway.Current() != nil {
		t.Error("want no snapshot")
	}
	b.set(document)
	if err := b.gateway.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	closes := b.closes.Load()
	b.set(twoPlugins)
	if err := b.gateway.Reload(context.Background()); err == nil {
		t.Error("want the plugin refused")
	}
	if v := b.visit("GET", "/v1/echo/x", ""); v.status != 200 {
		t.Errorf("want the former configuration to serve, found %d %s", v.status, v.answer)
	}
	if n := b.closes.Load() - closes; n != 0 {
		t.Errorf("want no transport of the former configuration closed, found %d", n)
	}
}

// What a reload does not concern is taken over; what goes is closed once the last call has left it, and
// every call that came before it.
func TestReloadKeepsAndCloses(t *testing.T) {
	outer, inner := &spy{name: "outer"}, &spy{name: "inner"}
	b := mustBench(t, twoPlugins, outer.kind(), inner.kind())
	entered, release := make(chan struct{}), make(chan struct{})
	unary := b.unary
	b.unary = func(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
		close(entered)
		<-release
		return unary(ctx, c, req, out)
	}
	got := make(chan int)
	go func() { got <- b.visit("GET", "/v1/echo/x", "").status }()
	<-entered
	dials := b.dials.Load()

	b.set(strings.Replace(twoPlugins, ", {name: inner}", "", 1))
	if err := b.gateway.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if made, closed, _ := outer.counts(); made != 1 || closed != 0 {
		t.Errorf("the plugin that stays: want made once and open, found made %d, closed %d", made, closed)
	}
	if b.dials.Load() != dials || b.closes.Load() != 0 {
		t.Errorf("the service that stays: want its transports kept, found %d dials, %d closed", b.dials.Load()-dials, b.closes.Load())
	}
	if _, closed, _ := inner.counts(); closed != 0 {
		t.Error("the plugin that goes: want it open while a call is inside")
	}
	b.set(strings.Replace(document, `{address: "a:1"}, `, "", 1))
	if err := b.gateway.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if b.closes.Load() != 0 {
		t.Error("the former service: want its transports open while a call is inside")
	}
	if _, closed, _ := outer.counts(); closed != 0 {
		t.Error("the plugin that goes later: want it open while a call is inside")
	}
	close(release)
	if status := <-got; status != 200 {
		t.Errorf("the call inside: want 200, found %d", status)
	}
	for _, s := range []*spy{outer, inner} {
		soon(t, s.name+" closed once after hearing one end", func() bool { _, closed, sent := s.counts(); return closed == 1 && sent == 1 })
	}
	soon(t, "the 2 transports of the former service closed", func() bool { return b.closes.Load() == 2 })
}

// Only a call that certainly was not executed is tried again, and not for ever.
func TestRetriesOnlyWhatWasNotExecuted(t *testing.T) {
	for _, tc := range []struct {
		name     string
		err      *rpc.Error
		attempts int
	}{
		{"not executed", &rpc.Error{Code: codes.Unavailable, Class: rpc.Transport}, 3},
		{"perhaps executed", &rpc.Error{Code: codes.Unavailable, Class: rpc.Transport, Executed: true}, 1},
		{"the service said so", &rpc.Error{Code: codes.Unavailable, Class: rpc.Business, Executed: true}, 1},
		{"the gateway refused", &rpc.Error{Code: codes.ResourceExhausted, Class: rpc.Framework}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := mustBench(t, document)
			var attempts int
			var bodies [][]byte
			b.unary = func(_ context.Context, _ *rpc.Call, req *rpc.Message, _ *rpc.Reply) error {
				attempts++
				bodies = append(bodies, append([]byte(nil), req.Data...))
				return tc.err
			}
			v := b.visit("POST", "/v1/echo", `{"text":"abc"}`)
			if want := rpcadapters.HTTPStatus(tc.err.Code); v.status != want || attempts != tc.attempts {
				t.Errorf("want %d after %d attempts, found %d after %d", want, tc.attempts, v.status, attempts)
			}
			for _, body := range bodies {
				if string(body) != "\x0a\x03abc" {
					t.Errorf("want the same bytes each time, found %q", body)
				}
			}
		})
	}
}

// An answer that is not the method's message is the service's fault, and its text stays inside.
func TestMalformedAnswerIsABadGateway(t *testing.T) {
	b := mustBench(t, document)
	b.unary = func(_ context.Context, _ *rpc.Call, _ *rpc.Message, out *rpc.Reply) error {
		buf := rpc.GetBuffer()
		buf.B = append(buf.B, "\x0a\xff"...)
		out.Message.Own(buf)
		return nil
	}
	v := b.visit("GET", "/v1/echo/x", "")
	if v.status != 502 || !strings.Contains(string(v.answer), `"code":13`) || !strings.Contains(string(v.answer), "INVALID_ANSWER") {
		t.Errorf("want 502, code 13 and the reason, found %d %s", v.status, v.answer)
	}
}

// Requests are matched by priority, then host, then the more specific path, then the one with more conditions.
func TestMatchOrder(t *testing.T) {
	const routes = `routes:
  - {name: any, service: echo, methods: [demo.echo.v1.Echo/Call]}
  - {name: sub, service: echo, methods: [demo.echo.v1.Echo/Call], hosts: ["*.example.com"]}
  - {name: deep, service: echo, methods: [demo.echo.v1.Echo/Call], hosts: ["*.b.example.com"]}
  - {name: exact, service: echo, methods: [demo.echo.v1.Echo/Call], hosts: [a.b.example.com]}
  - {name: canary, service: echo, methods: [demo.echo.v1.Echo/Call], hosts: [a.b.example.com], headers: [{name: X-Canary, present: true}]}
  - {name: first, service: echo, methods: [demo.echo.v1.Echo/Call], hosts: [a.b.example.com], headers: [{name: X-Canary, regex: "v[0-9]+"}, {name: X-Team, prefix: core}]}
  - {name: own, service: echo, http: {method: demo.echo.v1.Echo/Call, get: /v1/echo/fixed}}
  - {name: top, service: echo, methods: [demo.echo.v1.Echo/Call], priority: 7, headers: [{name: X-Top, exact: "1"}]}
`
	b := mustBench(t, document+routes)
	snap := b.gateway.Current()
	for _, tc := range []struct {
		url     string
		headers []string
		want    string
	}{
		{"http://other.org/v1/echo/x", nil, "any"},
		{"http://example.com/v1/echo/x", nil, "any"},
		{"http://x.example.com/v1/echo/x", nil, "sub"},
		{"http://x.b.example.com/v1/echo/x", nil, "deep"},
		{"http://a.b.example.com/v1/echo/x", nil, "exact"},
		{"http://A.B.Example.Com/v1/echo/x", nil, "exact"},
		{"http://a.b.example.com/v1/echo/x", []string{"X-Canary: yes"}, "canary"},
		{"http://a.b.example.com/v1/echo/x", []string{"x-canary: v12", "X-Team: core-a"}, "first"},
		{"http://a.b.example.com/v1/echo/x", []string{"x-canary: v12a", "X-Team: core-a"}, "canary"},
		{"http://other.org/v1/echo/fixed", nil, "own"},
		{"http://a.b.example.com/v1/echo/fixed", nil, "exact"},
		{"http://a.b.example.com/v1/echo/x", []string{"X-Top: 1"}, "top"},
	} {
		e := snap.Explain(proxy.Question{Method: "GET", URL: tc.url, Headers: tc.headers})
		if e.Taken == nil || e.Taken.Route != "route "+tc.want {
			t.Errorf("%s %v: want route %s, found %+v (%s)", tc.url, tc.headers, tc.want, e.Taken, e.Fault)
		}
	}
}

func TestCollisionsAreRefused(t *testing.T) {
	for _, tc := range []struct{ name, routes, want string }{
		{"same path and host", `
  - {name: a, service: echo, methods: [demo.echo.v1.Echo/Wait], hosts: [x.org]}
  - {name: b, service: echo, methods: [demo.echo.v1.Echo/Wait], hosts: [x.org]}`, "of route b and demo.echo.v1.Echo/Wait of route a both take GET /v1/wait on host x.org"},
		{"same conditions in another order", `
  - {name: a, service: echo, methods: [demo.echo.v1.Echo/Wait], headers: [{name: x, exact: "1"}, {name: y, present: true}]}
  - {name: b, service: echo, methods: [demo.echo.v1.Echo/Wait], headers: [{name: y, present: true}, {name: X, exact: "1"}]}`, "both take GET /v1/wait on every host"},
		{"variable names do not tell apart", `
  - {name: a, service: echo, http: {method: demo.echo.v1.Echo/Call, get: "/v9/{text}"}}
  - {name: b, service: echo, http: {method: demo.echo.v1.Echo/Call, get: "/v9/{number}"}}`, "both take GET /v9/"},
		{"other host", `
  - {name: a, service: echo, methods: [demo.echo.v1.Echo/Wait], hosts: [x.org]}
  - {name: b, service: echo, methods: [demo.echo.v1.Echo/Wait], hosts: [y.org]}`, ""},
		{"other conditions", `
  - {name: a, service: echo, methods: [demo.echo.v1.Echo/Wait]}
  - {name: b, service: echo, methods: [demo.echo.v1.Echo/Wait], headers: [{name: y, present: true}]}`, ""},
		{"other priority", `
  - {name: a, service: echo, methods: [demo.echo.v1.Echo/Wait]}
  - {name: b, service: echo, methods: [demo.echo.v1.Echo/Wait], priority: 1}`, ""},
		{"globs of one route may overlap", `
  - {name: a, service: echo, methods: [demo.echo.v1.Echo/Wait, "demo.echo.v1.Echo/W*", "*"]}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := newBench(t, document+"routes:"+tc.routes+"\n")
			if tc.want == "" {
				if err != nil {
					t.Errorf("want it accepted, found %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want %q, found %v", tc.want, err)
			}
		})
	}
}

// Two services that serve one method need to be told apart.
func TestTwoServicesWithOneMethodCollide(t *testing.T) {
	_, err := newBench(t, document+"")
	if err != nil {
		t.Fatal(err)
	}
	_, err = newBench(t, strings.Replace(document, "services: [", `services: [{name: twin, schema: echo, endpoints: [{address: "c:1"}]}, `, 1))
	if err == nil || !strings.Contains(err.Error(), "of service echo and demo.echo.v1.Echo/Call of service twin both take") {
		t.Errorf("want both owners named, found %v", err)
	}
}

// allocsPerCall is what the gateway's own part of a unary REST call may allocate: the deadline's context, the closure of
// its timer, the request id and the texts that the head was copied to.
const allocsPerCall = 8

func TestAllocBudgetOfACall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector changes what is allocated")
	}
	b := mustBench(t, document)
	body := strings.NewReader(`{"text":"abc","number":"7"}`)
	v := &visitor{body: body}
	x := &wire.Exchange{}
	ctx := context.Background()
	n := testing.AllocsPerRun(1000, func() {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		x.Reset(v, nil)
		x.Start = time.Now()
		x.HTTP.Method, x.HTTP.Path, x.HTTP.Host = "POST", "/v1/echo", "example.com"
		x.ContentLength = body.Size()
		x.HTTP.Header = append(x.HTTP.Header, rpc.Pair{Key: "content-type", Value: "application/json"}, rpc.Pair{Key: "authorization", Value: "Bearer x"})
		b.gateway.ServeExchange(ctx, x)
		if v.status != 200 {
			t.Fatal(v.status, string(v.answer))
		}
	})
	t.Logf("%.0f allocations per call", n)
	if n > allocsPerCall {
		t.Errorf("want at most %d allocations per call, found %.0f", allocsPerCall, n)
	}
}

func BenchmarkCall(b *testing.B) {
	g := mustBench(b, document)
	for _, tc := range []struct{ name, method, path, body string }{
		{"POST", "POST", "/v1/echo", `{"text":"abc","number":"7"}`},
		{"GET", "GET", "/v1/echo/abc", ""},
		{"unmatched", "GET", "/nope", ""},
	} {
		b.Run(tc.name, func(b *testing.B) {
			body := strings.NewReader(tc.body)
			v := &visitor{body: body}
			x := &wire.Exchange{}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := body.Seek(0, io.SeekStart); err != nil {
					b.Fatal(err)
				}
				x.Reset(v, nil)
				x.Start = time.Now()
				x.HTTP.Method, x.HTTP.Path, x.HTTP.Host, x.ContentLength = tc.method, tc.path, "example.com", body.Size()
				g.gateway.ServeExchange(context.Background(), x)
			}
			if v.status == 0 {
				b.Fatal(fmt.Sprint("no answer: ", v.status))
			}
		})
	}
}

// A request that comes when everything has been closed is answered, not kept.
func TestRequestAfterTheEnd(t *testing.T) {
	b := mustBench(t, document)
	b.gateway.Shutdown(context.Background(), proxy.Stop{})
	if v := b.visit("GET", "/v1/echo/x", ""); v.status != 503 || !strings.Contains(string(v.answer), "STOPPING") {
		t.Errorf("want 503 with the reason, found %d %s", v.status, v.answer)
	}
	if err := b.gateway.Reload(context.Background()); !errors.Is(err, proxy.ErrClosed) {
		t.Errorf("a reload: want ErrClosed, found %v", err)
	}
}
