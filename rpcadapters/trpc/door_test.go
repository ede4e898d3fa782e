package trpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// door stands in the gateway's place: it finds methods of kit.proto and handles their calls as the services would.
type door struct {
	t       testing.TB
	options rpcadapters.Options
	bound   map[string]*rpcadapters.Found
	handler func(ctx context.Context, c *rpc.Call) error // before the services, when it is set

	mu     sync.Mutex
	sent   []rpc.Sent
	calls  []*rpc.Call
	inside int
	panics int
}

func newDoor(t testing.TB, s *schema.Schema) *door {
	t.Helper()
	d := &door{t: t, bound: map[string]*rpcadapters.Found{}}
	d.options = rpcadapters.Options{MaxBody: 4 << 20, Budget: rpc.NewBudget(64 << 20), StreamAge: time.Minute}
	for _, service := range s.Services() {
		for _, m := range service.Methods {
			b, err := Inlet{}.Bind(m, &trpcv1.Listener{})
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range b.Names {
				d.bound[name] = &rpcadapters.Found{Matched: rpcadapters.Matched{Method: m, Options: &d.options}, Plan: b.Plan}
			}
		}
	}
	return d
}

// Find implements rpcadapters.Entry.
func (d *door) Find(name string, c *rpc.Call) *rpcadapters.Found {
	c.ID = "id-1"
	f := rpcadapters.Found{Matched: rpcadapters.Matched{Options: &d.options}}
	if to := d.bound[name]; to != nil {
		f = *to
		c.Method = f.Method
	} else {
		f.Refusal = rpc.Refuse(codes.Unimplemented, "METHOD_NOT_FOUND", "no method %s is served here", name)
	}
	f.Finish, f.Visit, f.Handler = d, d, d
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside++
	return &f
}

// Done implements rpc.Finisher.
func (d *door) Done(c *rpc.Call, sent rpc.Sent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent = append(d.sent, sent)
	d.calls = append(d.calls, c.Clone())
}

// Leave implements rpcadapters.Visit.
func (d *door) Leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
}

// Panicked implements rpcadapters.Visit.
func (d *door) Panicked(*rpc.Call, any) *rpc.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.panics++
	return rpc.Refuse(codes.Internal, "INTERNAL", "internal error")
}

// done are the calls that are over, and how they ended.
func (d *door) done() ([]*rpc.Call, []rpc.Sent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*rpc.Call(nil), d.calls...), append([]rpc.Sent(nil), d.sent...)
}

// open serves until the test ends, and returns the address. At the end nobody is inside and nothing of the budget is held.
func (d *door) open(o *trpcv1.Listener, limits rpcadapters.Limits, so server.Options) string {
	d.t.Helper()
	if limits.Budget == nil {
		limits.Budget = d.options.Budget
	}
	p, err := Inlet{}.New(d, o, limits)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.serve(p, so)
}

func (d *door) serve(p wire.Protocol, so server.Options) string {
	d.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	s := server.One(d, p, so)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	d.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // cuts what a failed test left
		if err := <-done; err != nil {
			d.t.Error(err)
		}
		eventually(d.t, "nobody is inside", func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.inside == 0 && d.options.Budget.Used() == 0
		})
	})
	return l.Addr().String()
}

// ServeExchange implements wire.Handler.
func (d *door) ServeExchange(context.Context, *wire.Exchange) {}

// Handle implements rpc.Handler.
func (d *door) Handle(ctx context.Context, c *rpc.Call) error {
	if d.handler != nil {
		return d.handler(ctx, c)
	}
	return serveKit(ctx, c)
}

func serveKit(ctx context.Context, c *rpc.Call) error {
	if c.Stream != nil {
		return serveStream(c)
	}
	req, err := c.Body.Message(ctx, c.Method.Input)
	if err != nil {
		return err
	}
	numbers, texts := read(req.Data)
	switch c.Method.Name {
	case "/trpc.kit.echo.Echo/Echo", "/trpc.kit.echo.Echo/Attach":
		c.Reply.Message = req.Retain()
		if len(req.Attached) > 0 {
			b := rpc.GetBuffer()
			b.B = append(b.B, req.Data...)
			if numbers[2] == 0 && len(req.Data) < 10 {
				b.B = field(b.B, 2, len(req.Attached))
			}
			at := len(b.B)
			b.B = append(b.B, bytes.ToUpper(req.Attached)...)
			c.Reply.Message.Own(b)
			c.Reply.Message.Data, c.Reply.Message.Attached = b.B[:at], b.B[at:]
		}
	case "/trpc.kit.echo.Echo/Fail":
		e := &rpc.Error{Class: rpc.Business, Code: codes.Unknown, Native: int32(numbers[1]), Message: texts[2], Executed: true}
		if numbers[3] != 0 {
			e.Class = rpc.Framework
		}
		if numbers[4] != 0 {
			e.Native = 999
		}
		return e
	case "/trpc.kit.echo.Echo/Slow":
		timer := time.NewTimer(time.Duration(numbers[1]) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	case "/trpc.kit.echo.Echo/Meta":
		c.Reply.Header.Add("app-resp", "pong")
	}
	return nil
}

func serveStream(c *rpc.Call) error {
	var m rpc.Message
	defer m.Free()
	switch c.Method.Name {
	case kitCount:
		if err := c.Stream.Recv(&m); err != nil {
			return err
		}
		numbers, _ := read(m.Data)
		if err := c.Stream.Recv(&m); !errors.Is(err, io.EOF) {
			return rpc.Refuse(codes.Unimplemented, "CARDINALITY", "more than one request: %v", err)
		}
		for i := range int(numbers[1]) {
			if numbers[3] != 0 && i == int(numbers[4]) {
				break
			}
			b := []byte(item(i, "item-"+strconv.Itoa(i)))
			if numbers[2] > 0 {
				b = field(b, 3, string(make([]byte, numbers[2])))
			}
			if err := c.Stream.Send(&rpc.Message{Data: b}, false); err != nil {
				return err
			}
		}
		if numbers[3] != 0 {
			return &rpc.Error{Class: rpc.Business, Code: codes.Unknown, Native: int32(numbers[3]), Message: "stream business failure"}
		}
		c.Reply.Trailer.Add("app-end", "counted")
	case kitSum:
		items, size := 0, 0
		for {
			err := c.Stream.Recv(&m)
			if errors.Is(err, io.EOF) {
				return c.Stream.Send(&rpc.Message{Data: field(field(nil, 1, items), 2, size)}, false)
			}
			if err != nil {
				return err
			}
			_, texts := read(m.Data)
			items++
			size += len(texts[2]) + len(texts[3])
		}
	case kitChat:
		for {
			err := c.Stream.Recv(&m)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			numbers, texts := read(m.Data)
			if err := c.Stream.Send(&rpc.Message{Data: []byte(item(int(numbers[1]), string(bytes.ToUpper([]byte(texts[2])))))}, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// read is the fields of a message.
func read(b []byte) (numbers map[protowire.Number]uint64, texts map[protowire.Number]string) {
	numbers, texts = map[protowire.Number]uint64{}, map[protowire.Number]string{}
	f := fields{data: b}
	for f.next() {
		switch f.typ {
		case protowire.VarintType:
			numbers[f.num] = f.varint
		case protowire.BytesType:
			texts[f.num] = string(f.bytes)
		}
	}
	return numbers, texts
}

// peer is a client of its own making.
type peer struct {
	t testing.TB
	net.Conn
}

func connect(t testing.TB, addr string) *peer {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &peer{t, c}
}

func (p *peer) send(frames ...*trpckit.Frame) {
	p.t.Helper()
	for _, f := range frames {
		if _, err := p.Write(f.Bytes()); err != nil {
			p.t.Fatal(err)
		}
	}
}

// next is the next frame.
func (p *peer) next() *trpckit.Frame {
	p.t.Helper()
	f, err := trpckit.Read(p, false)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

// message is the next frame that is no FEEDBACK.
func (p *peer) message() *trpckit.Frame {
	p.t.Helper()
	for {
		if f := p.next(); f.Kind != trpckit.Feedback {
			return f
		}
	}
}

// on is the next frame of a stream, whatever comes for others: credit for one that is over is answered.
func (p *peer) on(id uint32) *trpckit.Frame {
	p.t.Helper()
	for {
		if f := p.next(); f.ID == id {
			return f
		}
	}
}

// messageOn is the next frame of a stream that is no FEEDBACK.
func (p *peer) messageOn(id uint32) *trpckit.Frame {
	p.t.Helper()
	for {
		if f := p.on(id); f.Kind != trpckit.Feedback {
			return f
		}
	}
}
