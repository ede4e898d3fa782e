package tars

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// swift is a servant that costs nothing: every call has the same body as answer.
type swift struct {
	body []byte
	pool sync.Pool
}

func (s *swift) Begin(*framed.Incoming) framed.Handler { return s }

func (s *swift) Run(in *framed.Incoming) {
	p, _ := s.pool.Get().(*packet)
	if p == nil {
		p = &packet{&Response{Version: VersionTARS, Body: s.body}}
	}
	_ = in.Send(p)
	s.pool.Put(p)
}

// swiftly serves s until the test ends.
func swiftly(t testing.TB, p wire.Protocol) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	srv := server.One(&door{}, p, server.Options{})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx) // cuts what is left
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// nodeJSON is a message of some size.
const nodeJSON = `{"name":"root","weight":3,"labels":["a","bb","ccc"],"counts":{"x":300,"y":-1},"blob":"AAECAwQ=","at":{"x":3,"y":-4},"children":[{"name":"child"}]}`

func sample(t testing.TB, s *schema.Schema) (m *schema.Method, request, answer []byte) {
	t.Helper()
	m = kitMethod(t, s, "echoNode")
	p := bind(t, m, nil).(*plan)
	body, err := p.appendBody(nil, message(t, m.Output, `{"ret":`+nodeJSON+`}`), p.out(), VersionTARS, true)
	if err != nil {
		t.Fatal(err)
	}
	return m, message(t, m.Input, `{"req":`+nodeJSON+`}`), body
}

// TestAdapterAllocs holds a call through the adapter to its budget: the buffers are pooled, so nothing but what metadata takes.
func TestAdapterAllocs(t *testing.T) {
	if RaceEnabled {
		t.Skip("the race detector allocates")
	}
	m, request, body := sample(t, kit(t))
	tr := dial(t, swiftly(t, framed.NewServer(framed.ServerConfig{Framing: requests{}, Service: &swift{body: body}})), nil)
	var ctx wire.Context
	ctx.Reset(context.Background())
	ctx.SetDeadline(time.Now().Add(time.Minute))
	c := &rpc.Call{Method: m, Plan: bind(t, m, nil), Header: rpc.Metadata{{Key: "x-request-id", Value: "1"}, {Key: "traceparent", Value: "2"}}}
	req := &rpc.Message{Data: request}
	var out rpc.Reply
	call := func() {
		if err := tr.Unary(&ctx, c, req, &out); err != nil {
			t.Fatal(err)
		}
	}
	call()
	if n := testing.AllocsPerRun(2000, call); n > 1 {
		t.Errorf("%.1f allocations per call on both sides together, want at most 1", n)
	}
}

// frontDoor is an entry that costs nothing.
type frontDoor struct {
	found rpcadapters.Found
}

func (d *frontDoor) Find(_ string, c *rpc.Call) *rpcadapters.Found { c.ID = "id"; return &d.found }
func (d *frontDoor) Leave()                                        {}
func (d *frontDoor) Done(*rpc.Call, rpc.Sent)                      {}
func (d *frontDoor) Panicked(*rpc.Call, any) *rpc.Error            { return nil }
func (d *frontDoor) Handle(ctx context.Context, c *rpc.Call) error {
	m, err := c.Body.Message(ctx, c.Method.Input)
	if err == nil {
		c.Reply.Message = m.Retain() // both messages of echoNode have one field of one number
	}
	return err
}

func openDoor(t testing.TB, m *schema.Method) string {
	t.Helper()
	b, err := Inlet{}.Bind(m, kitListener())
	if err != nil {
		t.Fatal(err)
	}
	d := &frontDoor{}
	d.found = rpcadapters.Found{Plan: b.Plan, Handler: d, Visit: d}
	d.found.Method, d.found.Options, d.found.Finish = m, &rpcadapters.Options{MaxBody: 1 << 20, Budget: rpc.NewBudget(1 << 30)}, d
	p, err := Inlet{}.New(d, kitListener(), rpcadapters.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return swiftly(t, p)
}

// TestInletAllocs holds a call through the inlet, and the client that makes it, to their budget.
func TestInletAllocs(t *testing.T) {
	if RaceEnabled {
		t.Skip("the race detector allocates")
	}
	m, _ := plain(t).Method("/plain.v1.Plain/Do")
	tr := dial(t, openDoor(t, m), nil)
	o := bind(t, m, nil).(*plan)
	var ctx wire.Context
	ctx.Reset(context.Background())
	ctx.SetDeadline(time.Now().Add(time.Minute))
	c := &rpc.Call{Method: m, Plan: o, Header: rpc.Metadata{{Key: "x-request-id", Value: "1"}}}
	req := &rpc.Message{Data: message(t, m.Input, `{"id":"7","word":"hello","list":[1,2,3]}`)}
	var out rpc.Reply
	call := func() {
		if err := tr.Unary(&ctx, c, req, &out); err != nil {
			t.Fatal(err)
		}
	}
	call()
	// The key and the value of each entry of both contexts, and the name of the function.
	if n := testing.AllocsPerRun(2000, call); n > 5 {
		t.Errorf("%.1f allocations per call on both sides together, want at most 5", n)
	}
}

// BenchmarkAdapter is a call over loopback to a servant that costs nothing.
func BenchmarkAdapter(b *testing.B) {
	m, request, body := sample(b, kit(b))
	tr := dial(b, swiftly(b, framed.NewServer(framed.ServerConfig{Framing: requests{}, Service: &swift{body: body}})), nil)
	plan := bind(b, m, nil)
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := &rpc.Call{Method: m, Plan: plan, Header: rpc.Metadata{{Key: "x-request-id", Value: "1"}, {Key: "traceparent", Value: "2"}}}
		req := &rpc.Message{Data: request}
		var out rpc.Reply
		for pb.Next() {
			if err := tr.Unary(context.Background(), c, req, &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBody translates the body of a request and of an answer, without a network.
func BenchmarkBody(b *testing.B) {
	m, request, body := sample(b, kit(b))
	p := bind(b, m, nil).(*plan)
	dst := make([]byte, 0, 64<<10)
	b.Run("to_TARS", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.appendBody(dst, request, p.in(), VersionTARS, true); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("to_wire", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.body(dst, body, p.out(), VersionTARS, true); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPacket writes the packet of a request, and tells apart and reads that of an answer.
func BenchmarkPacket(b *testing.B) {
	_, request, body := sample(b, kit(b))
	q := &Request{Version: VersionTARS, ID: 70_000, Servant: []byte("Bench.OrdersServer.OrdersObj"), Function: []byte("place"), Body: request, Timeout: 9999}
	dst := make([]byte, 0, 4<<10)
	b.Run("request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			q.Context.Reset()
			q.Context.Add("x-request-id", "0123456789abcdef0123456789abcdef")
			AppendRequest(dst, q)
		}
	})
	answer := AppendResponse(make([]byte, headSize), &Response{Version: VersionTARS, ID: 70_000, Body: body})
	b.Run("answer", func(b *testing.B) {
		b.ReportAllocs()
		var r Response
		for b.Loop() {
			if l, err := (answers{}).Label(answer); err != nil || l.ID != 70_000 {
				b.Fatal(err)
			}
			if err := ParseResponse(&r, answer[headSize:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
