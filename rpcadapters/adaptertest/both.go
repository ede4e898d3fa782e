package adaptertest

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Ends are an adapter and an inlet of one protocol.
type Ends struct {
	Adapter rpcadapters.Adapter
	Inlet   rpcadapters.Inlet
	// Options are the adapter's, Listener the inlet's; nil where they have none.
	Options, Listener proto.Message
	// NotFound is what NOT_FOUND of a service arrives as, where the protocol has no such code; 0: as NOT_FOUND.
	NotFound codes.Code
}

// Both holds an adapter and an inlet against their contracts, by having one call the other.
func Both(t *testing.T, e Ends) {
	s := Schema(t)
	p := &pair{ends: e, schema: s, method: Method(t, s, Unary)}
	p.gateway = &door{t: t, table: map[string]rpcadapters.Bound{}, method: p.method, options: Options()}
	p.serve(t)
	p.dial(t)
	t.Run("messages", p.messages)
	t.Run("metadata", p.metadata)
	t.Run("an error of the method", p.failure)
	t.Run("a method that is not there", p.missing)
	t.Run("a panic", p.panics)
	t.Run("a deadline", p.deadline)
	t.Run("many at once", p.many)
	t.Run("nobody is there", p.unreachable)
	t.Run("the connection breaks", p.broken)
	t.Run("streams", p.streams)
	t.Run("a probe", p.probe)
	t.Run("outbound", func(t *testing.T) {
		Outbound(t, Outward{Adapter: e.Adapter, Options: e.Options, Address: p.address, NotFound: e.NotFound})
	})
}

// pair are two ends, connected.
type pair struct {
	ends      Ends
	schema    *schema.Schema
	method    *schema.Method
	gateway   *door
	address   string
	transport rpcadapters.Transport
}

// door stands in the gateway's place behind the inlet.
type door struct {
	t       *testing.T
	table   map[string]rpcadapters.Bound
	method  *schema.Method
	options *rpcadapters.Options

	calls, left, panicked atomic.Int64
	mu                    sync.Mutex
	sent                  []rpc.Sent
	header                rpc.Metadata // of the last call
}

// ServeExchange implements wire.Handler: it is not called.
func (d *door) ServeExchange(context.Context, *wire.Exchange) { d.t.Error("want no exchange by HTTP") }

// Find implements rpcadapters.Entry.
func (d *door) Find(name string, c *rpc.Call) *rpcadapters.Found {
	d.calls.Add(1)
	f := &rpcadapters.Found{Handler: d, Visit: d}
	f.Options, f.Finish = d.options, d
	if c.Protocol == "" || !c.Peer.IsValid() || c.Times.Start.IsZero() {
		d.t.Errorf("want the call's protocol, peer and start, found %q %v %v", c.Protocol, c.Peer, c.Times.Start)
	}
	c.ID, c.Route, c.Service = "id-1", d.options.Route, d.options.Service
	bound, ok := d.table[name]
	if !ok {
		f.Refusal = rpc.Refuse(codes.Unimplemented, "METHOD_NOT_FOUND", "no method %s is served here", name).WithStatus(404)
		return f
	}
	f.Method, f.Plan, c.Method = d.method, bound.Plan, d.method
	return f
}

// Handle implements rpc.Handler.
func (d *door) Handle(ctx context.Context, c *rpc.Call) error {
	d.mu.Lock()
	d.header = slices.Clone(c.Header)
	d.mu.Unlock()
	m, err := c.Body.Message(ctx, c.Method.Input)
	if err != nil {
		return err
	}
	var req echov1.CallRequest
	if proto.Unmarshal(m.Data, &req) == nil && req.GetText() == "panic" {
		panic("asked to") //nolint:forbidigo // that is what is tested
	}
	return Echo{}.Handle(ctx, c)
}

// Done implements rpc.Finisher.
func (d *door) Done(_ *rpc.Call, sent rpc.Sent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent = append(d.sent, sent)
}

// Leave implements rpcadapters.Visit.
func (d *door) Leave() { d.left.Add(1) }

// Panicked implements rpcadapters.Visit.
func (d *door) Panicked(*rpc.Call, any) *rpc.Error {
	d.panicked.Add(1)
	return rpc.Refuse(codes.Internal, "INTERNAL", "internal error")
}

// last is what the last call came to, once all that came have been told; a caller has its answer before.
func (d *door) last() (rpc.Sent, rpc.Metadata) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		d.mu.Lock()
		told := len(d.sent)
		if told > 0 && int64(told) == d.calls.Load() {
			defer d.mu.Unlock()
			return d.sent[told-1], d.header
		}
		d.mu.Unlock()
		if time.Now().After(end) {
			d.t.Errorf("want every call told once, found %d calls and %d told", d.calls.Load(), told)
			return rpc.Sent{}, nil
		}
	}
}

func (p *pair) serve(t *testing.T) {
	t.Helper()
	bound, err := p.ends.Inlet.Bind(p.method, p.ends.Listener)
	if err != nil || len(bound.Names) == 0 {
		t.Fatalf("want a unary method served, found %v %v", bound.Names, err)
	}
	for _, n := range bound.Names {
		p.gateway.table[n] = bound
	}
	protocol, err := p.ends.Inlet.New(p.gateway, p.ends.Listener, rpcadapters.Limits{MaxMessage: 4 << 20, Calls: 16, Budget: p.gateway.options.Budget})
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	p.address = ln.Addr().String()
	s := server.One(p.gateway, protocol, server.Options{})
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // cuts what a failed test left
		if err := <-done; err != nil {
			t.Errorf("Serve: want nil after Shutdown, found %v", err)
		}
		d := p.gateway
		if calls, left := d.calls.Load(), d.left.Load(); calls != left || int(calls) != len(d.sent) {
			t.Errorf("want every call finished and left once, found %d calls, %d finished, %d left", calls, len(d.sent), left)
		}
		if n := d.options.Budget.Used(); n != 0 {
			t.Errorf("%d bytes of the budget are held after the last call", n)
		}
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func (p *pair) dial(t *testing.T) {
	t.Helper()
	p.transport = p.to(t, p.address)
}

// to dials an instance; the transport is closed when the test ends.
func (p *pair) to(t *testing.T, address string) rpcadapters.Transport {
	t.Helper()
	tr, err := p.ends.Adapter.Dial(rpcadapters.Target{Address: address, DialTimeout: 5 * time.Second, MaxMessage: 4 << 20, Service: "s", Config: p.ends.Options})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() }) // nothing is to be told
	return tr
}

// call calls a method by a transport; the reply is the caller's to reset.
func (p *pair) call(ctx context.Context, t *testing.T, tr rpcadapters.Transport, m *schema.Method, header rpc.Metadata, req *echov1.CallRequest) (*echov1.CallRequest, rpc.Metadata, *rpc.Error) {
	raw, err := proto.Marshal(req)
	if err != nil {
		t.Error(err)
		return nil, nil, nil
	}
	c := &rpc.Call{Method: m, Header: header, Protocol: "test", ID: "id-0", Service: "s"}
	if b, ok := p.ends.Adapter.(rpcadapters.Binder); ok {
		if c.Plan, err = b.Bind(m, p.ends.Options); err != nil {
			t.Errorf("want a unary method bound, found %v", err)
			return nil, nil, nil
		}
	}
	var out rpc.Reply
	defer out.Reset()
	err = tr.Unary(ctx, c, &rpc.Message{Data: raw}, &out)
	got := append(slices.Clone(out.Header), out.Trailer...)
	if err != nil {
		e, ok := err.(*rpc.Error) //nolint:errorlint // the contract says what it is
		if !ok {
			t.Errorf("want an *rpc.Error, found %T: %v", err, err)
			return nil, nil, nil
		}
		return nil, got, e
	}
	var answer echov1.CallRequest
	if err := proto.Unmarshal(out.Message.Data, &answer); err != nil {
		t.Errorf("the answer: %v", err)
	}
	return &answer, got, nil
}

// ask calls the method that is there.
func (p *pair) ask(t *testing.T, header rpc.Metadata, req *echov1.CallRequest) (*echov1.CallRequest, rpc.Metadata, *rpc.Error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return p.call(ctx, t, p.transport, p.method, header, req)
}

func (p *pair) messages(t *testing.T) {
	for _, req := range []*echov1.CallRequest{
		{},
		{Text: "grüß dich\x00\n\"", Data: []byte{0, 255, 128}, Number: -1 << 62, Fill: 7},
		{Text: strings.Repeat("x", 300_000)},
	} {
		got, _, e := p.ask(t, nil, req)
		if e != nil || !proto.Equal(got, req) {
			t.Errorf("want %.80v, found %.80v %v", req, got, e)
		}
	}
	if sent, _ := p.gateway.last(); sent.Code != codes.OK || sent.BytesIn < 300_000 || sent.BytesOut < 300_000 || sent.End.IsZero() {
		t.Errorf("want bytes and end of the call told, found %+v", sent)
	}
}

func (p *pair) metadata(t *testing.T) {
	_, got, e := p.ask(t, rpc.Metadata{
		{Key: "x-echo", Value: "a b"}, {Key: "x-echo-bin", Value: "\x00\xff"}, {Key: "x-consumer-name", Value: "root"}, {Key: "cookie", Value: "c"},
	}, &echov1.CallRequest{})
	// Some protocols have everything sent come back, which is not the service's.
	if e != nil || got.Get("x-echo-trailer") != "a b" || got.Get("x-echo-trailer-bin") != "\x00\xff" {
		t.Errorf("want metadata there and back, found %q %v", got, e)
	}
	_, header := p.gateway.last()
	if header.Has("x-consumer-name") || header.Has("cookie") {
		t.Errorf("want nothing in that callers may not say, found %q", header)
	}
	if header.Get("x-request-id") != "id-1" {
		t.Errorf("want the gateway's request id, found %q", header)
	}
}

func (p *pair) failure(t *testing.T) {
	want := p.ends.NotFound
	if want == codes.OK {
		want = codes.NotFound
	}
	_, _, e := p.ask(t, nil, &echov1.CallRequest{Text: "fail 5 no such thing"})
	if e == nil || e.Code != want || e.Class != rpc.Business || !e.Executed || !strings.Contains(e.Message, "no such thing") {
		t.Errorf("want %v of the method, found %+v", want, e)
	}
	if sent, _ := p.gateway.last(); sent.Code != codes.NotFound {
		t.Errorf("want the code told, found %+v", sent)
	}
}

func (p *pair) missing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, _, e := p.call(ctx, t, p.transport, Method(t, p.schema, Safe), nil, &echov1.CallRequest{})
	if e == nil || e.Code == codes.OK {
		t.Errorf("want an error, found %v", e)
	}
	if sent, _ := p.gateway.last(); sent.Reason != "METHOD_NOT_FOUND" {
		t.Errorf("want the refusal told, found %+v", sent)
	}
}

func (p *pair) panics(t *testing.T) {
	_, _, e := p.ask(t, nil, &echov1.CallRequest{Text: "panic"})
	if e == nil || p.gateway.panicked.Load() != 1 {
		t.Errorf("want an error and the panic told once, found %v, told %d times", e, p.gateway.panicked.Load())
	}
	if _, _, e := p.ask(t, nil, &echov1.CallRequest{Text: "after"}); e != nil {
		t.Errorf("want the next call served, found %v", e)
	}
}

func (p *pair) deadline(t *testing.T) {
	_, got, e := p.ask(t, nil, &echov1.CallRequest{})
	if e != nil || got.Get("x-deadline") == "" {
		t.Errorf("want the deadline known on the other side, found %q %v", got, e)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, e := p.call(ctx, t, p.transport, p.method, nil, &echov1.CallRequest{Text: "wait"}); e == nil || e.Code != codes.DeadlineExceeded {
		t.Errorf("want DEADLINE_EXCEEDED, found %v", e)
	}
	if _, _, e := p.ask(t, nil, &echov1.CallRequest{Text: "after"}); e != nil {
		t.Errorf("want the next call answered with its own answer, found %v", e)
	}
}

func (p *pair) many(t *testing.T) {
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			req := &echov1.CallRequest{Text: fmt.Sprint("call ", i), Data: make([]byte, i*200)}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if got, _, e := p.call(ctx, t, p.transport, p.method, nil, req); e != nil || !proto.Equal(got, req) {
				t.Errorf("call %d: want its own answer, found %.80v %v", i, got, e)
			}
		})
	}
	all.Wait()
}

// nobody is an address where nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	defer func() { _ = ln.Close() }() // which is what it was made for
	return ln.Addr().String()
}

func (p *pair) unreachable(t *testing.T) {
	_, _, e := p.call(t.Context(), t, p.to(t, nobody(t)), p.method, nil, &echov1.CallRequest{})
	if e == nil || e.Code != codes.Unavailable || e.Class != rpc.Transport || e.Executed {
		t.Errorf("want UNAVAILABLE of the transport, nothing executed, found %+v", e)
	}
	if e != nil && strings.Contains(e.Message, "127.0.0.1") {
		t.Errorf("want no address shown to callers, found %q", e.Message)
	}
}

func (p *pair) broken(t *testing.T) {
	ln := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(c, make([]byte, 8)) // a request has begun
			_ = c.Close()
		}
	}()
	defer func() { _ = ln.Close(); <-done }()
	_, _, e := p.call(t.Context(), t, p.to(t, ln.Addr().String()), p.method, nil, &echov1.CallRequest{})
	if e == nil || e.Code != codes.Unavailable || e.Class != rpc.Transport || !e.Executed {
		t.Errorf("want UNAVAILABLE of the transport, perhaps executed, found %+v", e)
	}
}

func (p *pair) streams(t *testing.T) {
	b, ok := p.ends.Adapter.(rpcadapters.Binder)
	if _, has := p.transport.(rpcadapters.Streamer); has || !ok {
		return
	}
	for _, name := range []string{Server, Client, Bidi} {
		if _, err := b.Bind(Method(t, p.schema, name), p.ends.Options); err == nil {
			t.Errorf("%s: want a streaming method refused at load by an adapter without streams", name)
		}
		if _, err := p.ends.Inlet.Bind(Method(t, p.schema, name), p.ends.Listener); err == nil {
			t.Errorf("%s: want a streaming method left out by the inlet, too", name)
		}
	}
}

func (p *pair) probe(t *testing.T) {
	for address, well := range map[string]bool{p.address: true, nobody(t): false} {
		pr, ok := p.to(t, address).(rpcadapters.Prober)
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := pr.Probe(ctx); (err == nil) != well {
			t.Errorf("want it well: %v, found %v", well, err)
		}
	}
}
