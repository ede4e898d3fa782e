package trpc

import (
	"context"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// TestServerUnknownStream: frames of streams that are not open are answered with a reset, resets with nothing.
func TestServerUnknownStream(t *testing.T) {
	d := newDoor(t, kitSchema(t))
	p := connect(t, d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{}))
	p.send(trpckit.End(7, 1, 5, "reset"), trpckit.Message(8, []byte("x")), trpckit.Credit(9, 5), trpckit.End(10, 0, 0, ""))
	for _, id := range []uint32{8, 9, 10} {
		f := p.next()
		if f.ID != id || f.Kind != trpckit.Close || f.Int("close_type") != 1 || f.Int("ret") != 1 || f.Text("msg") != "uninitialized meta" {
			t.Errorf("%d: %v", f.ID, f.Header)
		}
	}
}

// TestServerStreams: windows are held and given back in both directions; a stream and a call with one number do not meet.
func TestServerStreams(t *testing.T) {
	d := newDoor(t, kitSchema(t))
	o := asTheSDK()
	o.ResponseInfo = []string{"app-*"}
	p := connect(t, d.open(o, rpcadapters.Limits{}, server.Options{}))

	p.send(trpckit.Open(7, kitCount, 65535), trpckit.Request(7, "/trpc.kit.echo.Echo/Echo", []byte("\n\x01x")))
	for range 2 {
		if f := p.next(); f.ID != 7 || f.Kind == trpckit.Unary && string(f.Body) != "\n\x01x" {
			t.Errorf("%v", f.Header)
		}
	}
	p.send(trpckit.Message(7, field(field(nil, 1, 30), 2, 10_000)), trpckit.End(7, 0, 0, ""))
	var got int
	for range 7 { // the seventh makes the window negative
		f := p.next()
		if f.Kind != trpckit.Data {
			t.Fatalf("%v", f.Header)
		}
		got += len(f.Body)
	}
	if got < 65535 || got > 65535+10_100 {
		t.Errorf("%d bytes within a window of 65535", got)
	}
	p.send(trpckit.Request(8, "/trpc.kit.echo.Echo/Echo", []byte("\n\x01y"))) // no more comes before its answer
	if f := p.next(); f.Kind != trpckit.Unary {
		t.Fatalf("%d bytes of DATA beyond the window", len(f.Body))
	}
	n := 7
	for {
		p.send(trpckit.Credit(7, 20_000))
		f := p.next()
		if f.Kind == trpckit.Close {
			if f.Int("close_type") != 0 || f.Info("trans_info")["app-end"] != "counted" {
				t.Errorf("%v", f.Header)
			}
			break
		}
		n++
	}
	if n != 30 {
		t.Errorf("%d messages", n)
	}

	// What is taken is given back by quarters of the window.
	p.send(trpckit.Open(8, kitSum, 65535))
	if f := p.on(8); f.Uint("init_window_size") != 65535 {
		t.Errorf("%v", f.Header)
	}
	window, back := 65535, 0
	payload := []byte(item(0, strings.Repeat("x", 9000)))
	for range 50 {
		for window <= 0 {
			f := p.on(8)
			if f.Kind != trpckit.Feedback || f.Uint("window_size_increment") < 65535/4 {
				t.Fatalf("%v", f.Header)
			}
			window += int(f.Uint("window_size_increment"))
			back += int(f.Uint("window_size_increment"))
		}
		p.send(trpckit.Message(8, payload))
		window -= len(payload)
	}
	p.send(trpckit.End(8, 0, 0, ""))
	if f := p.messageOn(8); string(f.Body) != string(field(field(nil, 1, 50), 2, 450_000)) {
		t.Errorf("%q", f.Body)
	}
	if f := p.on(8); f.Kind != trpckit.Close || f.Int("close_type") != 0 {
		t.Errorf("%v", f.Header)
	}
	if back < 450_000-2*65535 {
		t.Errorf("%d bytes given back", back)
	}

	// A client that knows no windows is told of none, and nothing is given back to it.
	p.send(trpckit.Open(9, kitChat, 0))
	if f := p.on(9); f.Uint("init_window_size") != 0 {
		t.Errorf("%v", f.Header)
	}
	for i := range 20 {
		p.send(trpckit.Message(9, []byte(item(i, strings.Repeat("y", 5000)))))
		if f := p.on(9); f.Kind != trpckit.Data || string(f.Body) != item(i, strings.Repeat("Y", 5000)) {
			t.Fatalf("%v", f.Header)
		}
	}
	p.send(trpckit.End(9, 0, 0, ""))
	if f := p.on(9); f.Kind != trpckit.Close {
		t.Errorf("%v", f.Header)
	}

	// JSON, and gzip, per message.
	p.send(trpckit.Open(10, kitChat, 65535).Set("content_type", uint32(2)))
	if f := p.on(10); f.Uint("content_type") != 2 {
		t.Errorf("%v", f.Header)
	}
	p.send(trpckit.Message(10, []byte(`{"index":3,"text":"abc"}`)), trpckit.End(10, 0, 0, ""))
	if f := p.on(10); string(f.Body) != `{"index":3,"text":"ABC","pad":""}` {
		t.Errorf("%q", f.Body)
	}
	p.on(10)
	for i, as := range []uint32{encodingGzip, encodingZlib, encodingSnappyStream, encodingSnappyBlock, encodingSnappyStream, encodingSnappyBlock, encodingLZ4Stream, encodingLZ4Block} {
		e, id := as, uint32(11+i)
		if i == 4 || i == 5 { // as trpc-go and trpc-cpp have it
			e = encodingSnappy
		}
		packed, err := appendPacked(nil, []byte(item(3, "abc")), as)
		if err != nil {
			t.Fatal(err)
		}
		p.send(trpckit.Open(id, kitChat, 65535).Set("content_encoding", e))
		if f := p.on(id); f.Uint("content_encoding") != e {
			t.Errorf("%v", f.Header)
		}
		p.send(trpckit.Message(id, packed), trpckit.End(id, 0, 0, ""))
		// Clients of trpc-go read answers by what they send, not by what INIT says.
		if out, _, err := appendUnpacked(nil, p.on(id).Body, as, 1<<20, nil); err != nil || string(out) != item(3, "ABC") {
			t.Errorf("%s: %q %v", encodingNames[e], out, err)
		}
		p.on(id)
	}
}

// TestServerStreamLies: a client that breaks the rules of a stream loses that, and nothing else.
func TestServerStreamLies(t *testing.T) {
	s := kitSchema(t)
	for _, c := range []struct {
		name   string
		frames func(id uint32) []*trpckit.Frame
		ret    int32
		init   bool // it is told so by INIT
	}{
		{"unknown encoding", func(id uint32) []*trpckit.Frame {
			return []*trpckit.Frame{trpckit.Open(id, kitChat, 65535).Set("content_encoding", uint32(9))}
		}, 1, true},
		{"unknown content", func(id uint32) []*trpckit.Frame {
			return []*trpckit.Frame{trpckit.Open(id, kitChat, 65535).Set("content_type", uint32(9))}
		}, 1, true},
		{"unknown method", func(id uint32) []*trpckit.Frame { return []*trpckit.Frame{trpckit.Open(id, "/no/method", 65535)} }, 12, true},
		{"unary method", func(id uint32) []*trpckit.Frame {
			return []*trpckit.Frame{trpckit.Open(id, "/trpc.kit.echo.Echo/Echo", 65535)}
		}, 12, true},
		{"INIT twice", func(id uint32) []*trpckit.Frame {
			return []*trpckit.Frame{trpckit.Open(id, kitChat, 65535), trpckit.Open(id, kitChat, 65535)}
		}, 1, false},
		{"not gzip", func(id uint32) []*trpckit.Frame {
			return []*trpckit.Frame{trpckit.Open(id, kitChat, 65535).Set("content_encoding", uint32(1)), trpckit.Message(id, []byte("x"))}
		}, 1, false},
		{"larger than the route takes", func(id uint32) []*trpckit.Frame {
			return []*trpckit.Frame{trpckit.Open(id, kitChat, 65535), trpckit.Message(id, make([]byte, 5<<20))}
		}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDoor(t, s)
			p := connect(t, d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{}))
			p.send(c.frames(7)...)
			f := p.message()
			code := int32(0)
			if f.Kind == trpckit.Init {
				code = f.Int("response_meta.ret")
			}
			if !c.init {
				if f.Kind == trpckit.Init && code == 0 {
					f = p.message()
				}
				if f.Kind == trpckit.Close {
					code = f.Int("ret")
				} else {
					code = f.Int("response_meta.ret") // it was told before INIT was answered
				}
			}
			if code != c.ret {
				t.Errorf("%v", f.Header)
			}
			p.send(trpckit.Request(8, "/trpc.kit.echo.Echo/Echo", []byte("\n\x01y")))
			if f := p.message(); f.Kind != trpckit.Unary || string(f.Body) != "\n\x01y" {
				t.Errorf("afterwards: %v", f.Header)
			}
		})
	}
}

// TestServerFlood: what a client sends beyond its window is not kept.
func TestServerFlood(t *testing.T) {
	d := newDoor(t, kitSchema(t))
	stop := make(chan struct{})
	d.handler = func(_ context.Context, c *rpc.Call) error {
		if err := c.Stream.Start(); err != nil {
			return err
		}
		<-stop
		var m rpc.Message
		defer m.Free()
		for {
			if err := c.Stream.Recv(&m); err != nil {
				return err
			}
		}
	}
	p := connect(t, d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{}))
	p.send(trpckit.Open(7, kitSum, 65535))
	p.next()
	for range 8 {
		p.send(trpckit.Message(7, make([]byte, 10_000)))
	}
	p.send(trpckit.Open(8, "/no/method", 0)) // when it is answered all before it was read
	p.next()
	close(stop)
	if f := p.message(); f.Kind != trpckit.Close || f.Int("close_type") != 1 || f.Int("ret") != 23 {
		t.Errorf("%v", f.Header)
	}
}
