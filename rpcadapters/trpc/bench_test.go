package trpc

import (
	"context"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/grpc"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// swift is a server that costs next to nothing: it answers every call with its body.
type swift struct{}

func (swift) Begin(*framed.Incoming) framed.Handler { return swift{} }

func (swift) Run(in *framed.Incoming) {
	var h head
	var r request
	if h.parse(in.Frame, noLimit) != nil || r.parse(in.Frame[headLen:headLen+h.header]) != nil {
		return
	}
	a := serverCalls.Get().(*serverCall) // for something that is a frame and is pooled
	a.inlet, a.version, a.resp.id, a.answer = &inlet{}, h.version, r.id, in.Frame[headLen+h.header:]
	_ = in.Send(a) // a client that has gone wants nothing
	a.answer = nil
	a.release()
	serverCalls.Put(a)
}

// door0 is an entry that costs nothing: it echoes.
type door0 struct{ found rpcadapters.Found }

func (d *door0) Find(_ string, c *rpc.Call) *rpcadapters.Found { c.ID = "id"; return &d.found }
func (d *door0) Leave()                                        {}
func (d *door0) Done(*rpc.Call, rpc.Sent)                      {}
func (d *door0) Panicked(*rpc.Call, any) *rpc.Error            { return nil }

// Handle implements rpc.Handler.
func (d *door0) Handle(ctx context.Context, c *rpc.Call) error {
	m, err := c.Body.Message(ctx, c.Method.Input)
	if err == nil {
		c.Reply.Message = m.Retain()
	}
	return err
}

// swiftInlet serves m by an inlet whose calls cost nothing.
func swiftInlet(t testing.TB, m *schema.Method) string {
	t.Helper()
	b, err := Inlet{}.Bind(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &door0{}
	d.found = rpcadapters.Found{Plan: b.Plan, Handler: d, Visit: d}
	d.found.Method, d.found.Options, d.found.Finish = m, adaptertest.Options(), d
	p, err := Inlet{}.New(d, nil, rpcadapters.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return serveProtocol(t, p)
}

func serveProtocol(t testing.TB, p wire.Protocol) string {
	t.Helper()
	d := &door{t: t}
	return d.serve(p, server.Options{})
}

// quietCall is a call with a deadline and what a call usually has beside it.
func quietCall(t testing.TB, m *schema.Method) (*wire.Context, *rpc.Call, *rpc.Message) {
	t.Helper()
	ctx := &wire.Context{}
	ctx.Reset(context.Background())
	ctx.SetDeadline(time.Now().Add(time.Hour))
	c := callOf(t, m, nil, "x-request-id", "0123456789abcdef", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "user-agent", "bench/1")
	body := field(nil, 1, string(make([]byte, 500)))
	return ctx, c, &rpc.Message{Data: body}
}

// TestAdapterAllocs holds a unary call through the adapter, and the server that answers it, to a budget: buffers are pooled.
func TestAdapterAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := method(t, kitSchema(t), "/trpc.kit.echo.Echo/Echo")
	tr := dial(t, serveProtocol(t, framed.NewServer(framed.ServerConfig{Framing: framing{}, Service: swift{}})), nil)
	ctx, c, req := quietCall(t, m)
	var out rpc.Reply
	call := func() {
		if err := tr.Unary(ctx, c, req, &out); err != nil || len(out.Message.Data) != len(req.Data) {
			t.Fatal(err, len(out.Message.Data))
		}
	}
	call()
	if n := testing.AllocsPerRun(2000, call); n > 1 {
		t.Errorf("%.1f allocations per call on both sides together, want at most 1", n)
	}
	out.Reset()
}

// TestInletAllocs holds a unary call through the inlet, and the adapter that makes it, to a budget: metadata costs
// one string each way, and the method's name another.
func TestInletAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := method(t, kitSchema(t), "/trpc.kit.echo.Echo/Echo")
	tr := dial(t, swiftInlet(t, m), nil)
	ctx, c, req := quietCall(t, m)
	var out rpc.Reply
	call := func() {
		if err := tr.Unary(ctx, c, req, &out); err != nil || len(out.Message.Data) != len(req.Data) {
			t.Fatal(err, len(out.Message.Data))
		}
	}
	call()
	if n := testing.AllocsPerRun(2000, call); n > 4 {
		t.Errorf("%.1f allocations per call on both sides together, want at most 4", n)
	}
	out.Reset()
}

// BenchmarkUpstream compares calls through both adapters, each with a server of ours behind it that echoes.
func BenchmarkUpstream(b *testing.B) {
	s := adaptertest.Schema(b)
	m := adaptertest.Method(b, s, adaptertest.Unary)
	g := &adaptertest.Gateway{Faces: []rpcadapters.Face{grpc.NewFace()}, Schema: s, Handler: handler(func(ctx context.Context, c *rpc.Call) error {
		req, err := c.Body.Message(ctx, c.Method.Input)
		if err == nil {
			c.Reply.Message = req.Retain()
		}
		return err
	})}
	over := map[string]func() (rpcadapters.Transport, error){
		"grpc": func() (rpcadapters.Transport, error) {
			return grpc.Adapter{}.Dial(rpcadapters.Target{Address: adaptertest.Serve(b, g)})
		},
		"trpc": func() (rpcadapters.Transport, error) {
			return Adapter{}.Dial(rpcadapters.Target{Address: swiftInlet(b, m)})
		},
	}
	for _, name := range []string{"grpc", "trpc"} {
		tr, err := over[name]()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { tr.Close() })
		for _, callers := range []int{1, 16} {
			b.Run(name+map[int]string{1: "/one", 16: "/many"}[callers], func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(callers)
				if callers == 1 {
					ctx, c, req := quietCall(b, m)
					var out rpc.Reply
					for b.Loop() {
						if err := tr.Unary(ctx, c, req, &out); err != nil {
							b.Fatal(err)
						}
					}
					out.Reset()
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					ctx, c, req := quietCall(b, m)
					var out rpc.Reply
					for pb.Next() {
						if err := tr.Unary(ctx, c, req, &out); err != nil {
							b.Error(err)
							return
						}
					}
					out.Reset()
				})
			})
		}
	}
}
