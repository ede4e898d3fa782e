package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	metricsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/metrics/v1"
	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/static"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a gateway whose network ends in memory: requests are handed to it, and calls end in a function.
type bench struct {
	t       testing.TB
	gateway *proxy.Gateway
	meter   *telemetry.Meter
	text    atomic.Pointer[string]
	unary   func(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error
	dials   atomic.Int64
	closes  atomic.Int64
	faulty  atomic.Bool // the face panics
}

// face is REST that panics when it is told to.
type face struct {
	*rest.Face
	b *bench
}

func (f face) Serve(ctx context.Context, x *wire.Exchange, m *rpcadapters.Matched, h rpc.Handler) {
	if f.b.faulty.Load() {
		panic("boom")
	}
	f.Face.Serve(ctx, x, m, h)
}

const document = `listen: [{address: "127.0.0.1:0"}]
schemas: [{name: echo, descriptor_set: SET}]
services: [{name: echo, schema: echo, endpoints: [{address: "a:1"}, {address: "b:1"}]}]
`

func newBench(t testing.TB, text string, kinds ...plugin.Kind) (*bench, error) {
	t.Helper()
	b := &bench{t: t, unary: func(_ context.Context, _ *rpc.Call, _ *rpc.Message, out *rpc.Reply) error {
		buf := rpc.GetBuffer()
		buf.B = append(buf.B, "\x0a\x02hi"...)
		out.Message.Own(buf)
		return nil
	}}
	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // temporary
	set := filepath.Join(dir, "echo.binpb")
	if err := os.WriteFile(set, descriptors(t, echov1.File_demo_echo_v1_echo_proto), 0o600); err != nil {
		t.Fatal(err)
	}
	b.set(strings.ReplaceAll(text, "SET", set))
	restFace, err := rest.New()
	if err != nil {
		t.Fatal(err)
	}
	std := &proxy.Standard{
		Faces:    []rpcadapters.Face{face{restFace, b}},
		Adapters: []rpcadapters.Adapter{adapter{b}},
		Plugins:  kinds,
		Balancer: balancer.RoundRobin,
		Static: func(service string, addresses ...string) (registry.Resolver, error) {
			return static.New(service, addresses...)
		},
		Engine: func(wire.Handler, *tls.Config, *slog.Logger) wire.Server { return &silent{done: make(chan struct{})} },
	}
	types := config.Types{}
	for _, k := range kinds {
		types[k.Name] = k.Config().ProtoReflect().Descriptor()
	}
	if b.meter, err = telemetry.NewMeter(); err != nil {
		t.Fatal(err)
	}
	sinks, err := telemetry.NewSinks(b.meter, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.gateway, err = proxy.New(proxy.Options{
		Standard: std,
		Load: func() (*config.Document, error) {
			return config.Parse("causeway.yaml", []byte(strings.ReplaceAll(*b.text.Load(), "SET", set)), types)
		},
		Meter: b.meter, Sinks: sinks, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.gateway.Shutdown(context.Background(), proxy.Stop{}) })
	return b, b.gateway.Reload(context.Background())
}

func mustBench(t testing.TB, text string, kinds ...plugin.Kind) *bench {
	t.Helper()
	b, err := newBench(t, text, kinds...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) set(text string) { b.text.Store(&text) }

func descriptors(t testing.TB, fd protoreflect.FileDescriptor) []byte {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(fd protoreflect.FileDescriptor) {
		if seen[fd.Path()] {
			return
		}
		seen[fd.Path()] = true
		for i := range fd.Imports().Len() {
			add(fd.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	add(fd)
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// adapter ends calls in the bench's function.
type adapter struct{ b *bench }

func (adapter) Name() string { return "grpc" }

func (a adapter) Dial(rpcadapters.Target) (rpcadapters.Transport, error) {
	a.b.dials.Add(1)
	return transport(a), nil
}

type transport struct{ b *bench }

func (t transport) Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	return t.b.unary(ctx, c, req, out)
}

func (t transport) Close() error { t.b.closes.Add(1); return nil }

// silent is an engine that takes no connections.
type silent struct{ done chan struct{} }

func (s *silent) Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return nil //nolint:nilerr // closed: the end
		}
		_ = c.Close() // nobody is served
	}
}
func (s *silent) Drain()                         {}
func (s *silent) Conns() int64                   { return 0 }
func (s *silent) Accepted() int64                { return 0 }
func (s *silent) Shutdown(context.Context) error { return nil }

// visitor is the engine of one exchange in memory.
type visitor struct {
	body   *strings.Reader
	status int
	answer []byte
}

func (v *visitor) Read(p []byte) (int, error) {
	if v.body == nil {
		return 0, io.EOF
	}
	return v.body.Read(p)
}

func (v *visitor) Respond(status int, _ rpc.Metadata, body []byte) error {
	v.status, v.answer = status, append(v.answer[:0], body...)
	return nil
}

// visit sends one request through the gateway.
func (b *bench) visit(method, path, body string) *visitor {
	v := &visitor{body: strings.NewReader(body)}
	x := &wire.Exchange{}
	x.Reset(v)
	x.Start = time.Now()
	x.HTTP.Method, x.HTTP.Path, x.HTTP.Host = method, path, "example.com"
	x.ContentLength = int64(len(body))
	b.gateway.ServeExchange(context.Background(), x)
	return v
}

// spy is a plugin that does as it is told and counts.
type spy struct {
	name   string
	handle func(next rpc.Handler, ctx context.Context, c *rpc.Call) error
	done   func(c *rpc.Call, sent rpc.Sent)
	mu     sync.Mutex
	sent   []rpc.Sent
	made   int
	closed int
	fail   error
}

func (s *spy) kind() plugin.Kind {
	return plugin.Kind{Name: s.name, Config: func() proto.Message { return &metricsv1.Metrics{} }, New: func(proto.Message, plugin.Env) (plugin.Plugin, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.made++
		return s, s.fail
	}}
}

type spied struct {
	*spy
	next rpc.Handler
}

func (s *spy) Wrap(next rpc.Handler) rpc.Handler { return &spied{s, next} }

func (s *spied) Handle(ctx context.Context, c *rpc.Call) error {
	if s.handle != nil {
		return s.handle(s.next, ctx, c)
	}
	return s.next.Handle(ctx, c)
}

func (s *spy) Done(c *rpc.Call, sent rpc.Sent) {
	s.mu.Lock()
	s.sent = append(s.sent, sent)
	s.mu.Unlock()
	if s.done != nil {
		s.done(c, sent)
	}
}

func (s *spy) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

func (s *spy) counts() (made, closed, sent int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made, s.closed, len(s.sent)
}

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
		if _, closed, sent := s.counts(); closed != 1 || sent != 1 {
			t.Errorf("%s: want closed once after hearing one end, found closed %d, heard %d", s.name, closed, sent)
		}
	}
	if n := b.closes.Load(); n != 2 {
		t.Errorf("the former service: want 2 transports closed, found %d", n)
	}
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
		{"same path, same host", `
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
		x.Reset(v)
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
				x.Reset(v)
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
