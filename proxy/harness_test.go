package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	metricsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/metrics/v1"
	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/static"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/connect"
	"github.com/causeway-gateway/causeway/rpcadapters/rest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a gateway whose network ends in memory: requests are handed to it, and calls end in a function.
type bench struct {
	t       testing.TB
	gateway *proxy.Gateway
	meter   *telemetry.Meter
	text    atomic.Pointer[string]
	unary   func(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error
	open    func(ctx context.Context, c *rpc.Call) (rpcadapters.ClientStream, error)
	at      func(ctx context.Context, address string, c *rpc.Call, out *rpc.Reply) error // instead of unary, where it matters which instance it is
	dials   atomic.Int64
	closes  atomic.Int64
	watches atomic.Int64 // resolvers at work
	log     syncLog      // of the gateway
	faulty  atomic.Bool  // the face panics
	torn    bool         // where answers are written there is a panic
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
	return newBenchOf(t, text, nil, kinds...)
}

// newBenchOf is newBench with inlets.
func newBenchOf(t testing.TB, text string, inlets []rpcadapters.Inlet, kinds ...plugin.Kind) (*bench, error) {
	t.Helper()
	b := &bench{t: t, unary: func(_ context.Context, _ *rpc.Call, _ *rpc.Message, out *rpc.Reply) error {
		buf := rpc.GetBuffer()
		buf.B = append(buf.B, "\x0a\x02hi"...)
		out.Message.Own(buf)
		return nil
	}}
	set := filepath.Join(t.TempDir(), "echo.binpb")
	if err := os.WriteFile(set, descriptors.Encode(t, echov1.File_demo_echo_v1_echo_proto), 0o600); err != nil {
		t.Fatal(err)
	}
	b.set(strings.ReplaceAll(text, "SET", set))
	restFace, err := rest.New()
	if err != nil {
		t.Fatal(err)
	}
	connectFace, err := connect.NewFace()
	if err != nil {
		t.Fatal(err)
	}
	std := &proxy.Standard{
		Faces:    []rpcadapters.Face{connectFace, face{restFace, b}},
		Adapters: []rpcadapters.Adapter{adapter{b}},
		Plugins:  kinds,
		Static: func(service string, endpoints ...registry.Endpoint) (registry.Resolver, error) {
			r, err := static.New(service, endpoints...)
			return watching{r, b}, err
		},
		Inlets: inlets,
		Engine: func(wire.Handler, *tls.Config, *slog.Logger) wire.Server { return &silent{done: make(chan struct{})} },
		Only: func(wire.Handler, wire.Protocol, *tls.Config, *slog.Logger) wire.Server {
			return &silent{done: make(chan struct{})}
		},
	}
	types := std.ConfigTypes()
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
		Meter: b.meter, Sinks: sinks, Log: slog.New(slog.NewTextHandler(&b.log, nil)),
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

// syncLog keeps what was logged.
type syncLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *syncLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// watching is a resolver of which it is counted how often it is at work.
type watching struct {
	registry.Resolver
	b *bench
}

func (w watching) Watch(ctx context.Context, service string, to registry.Sink) error {
	w.b.watches.Add(1)
	defer w.b.watches.Add(-1)
	return w.Resolver.Watch(ctx, service, to)
}

// soon waits until what is wanted holds.
func soon(t testing.TB, want string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("want %s, which does not come about", want)
		}
	}
}

// adapter ends calls in the bench's function.
type adapter struct{ b *bench }

func (adapter) Name() string { return "grpc" }

func (a adapter) Dial(t rpcadapters.Target) (rpcadapters.Transport, error) {
	a.b.dials.Add(1)
	return transport{a.b, t.Address}, nil
}

type transport struct {
	b       *bench
	address string
}

func (t transport) Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	if t.b.at != nil {
		return t.b.at(ctx, t.address, c, out)
	}
	return t.b.unary(ctx, c, req, out)
}

func (t transport) Open(ctx context.Context, c *rpc.Call) (rpcadapters.ClientStream, error) {
	return t.b.open(ctx, c)
}

func (t transport) Close() error { t.b.closes.Add(1); return nil }

// silent is an engine that takes no connections.
type silent struct{ done chan struct{} }

func (s *silent) Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
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
	header rpc.Metadata
	answer []byte
	torn   bool // it panics where the answer is written
}

func (v *visitor) Read(p []byte) (int, error) {
	if v.body == nil {
		return 0, io.EOF
	}
	return v.body.Read(p)
}

func (v *visitor) Respond(status int, header rpc.Metadata, body []byte) error {
	v.header = append(v.header[:0], header...)
	if v.torn {
		panic("boom")
	}
	v.status, v.answer = status, append(v.answer[:0], body...)
	return nil
}

// visit sends one request through the gateway.
func (b *bench) visit(method, path, body string, header ...rpc.Pair) *visitor {
	return b.visitFrom("192.0.2.1", method, path, body, header...)
}

// visitFrom is visit from an address.
func (b *bench) visitFrom(peer, method, path, body string, header ...rpc.Pair) *visitor {
	v := &visitor{body: strings.NewReader(body), torn: b.torn}
	x := &wire.Exchange{}
	x.Reset(v, nil)
	x.Start = time.Now()
	x.HTTP.Method, x.HTTP.Path, x.HTTP.Host = method, path, "example.com"
	x.HTTP.Header, x.HTTP.Scheme = header, "http"
	x.Peer = netip.AddrPortFrom(netip.MustParseAddr(peer), 4711)
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
	close  func() // what Close does besides; nil: nothing
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
	if s.close != nil {
		s.close()
	}
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
