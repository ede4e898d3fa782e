package trpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// TestServerCrash: a server that goes at any byte of its answer, or of a stream, is never taken for one that has finished.
func TestServerCrash(t *testing.T) {
	s := kitSchema(t)
	echo, chat := method(t, s, "/trpc.kit.echo.Echo/Echo"), method(t, s, kitChat)
	answer := func(id uint32) []byte {
		return trpckit.Response(trpckit.Request(id, "", nil), []byte("\n\x05hello")).Set("trans_info", map[string]string{"app-a": "b"}).Bytes()
	}
	stream := func(id uint32) (out []byte) {
		for _, f := range []*trpckit.Frame{trpckit.Opened(id, 65535, 0, ""), trpckit.Message(id, []byte(item(1, "a"))), trpckit.Message(id, []byte(item(2, "b"))), trpckit.End(id, 0, 0, "")} {
			out = append(out, f.Bytes()...)
		}
		return out
	}
	for _, kind := range []string{"unary", "stream"} {
		whole := answer(1)
		if kind == "stream" {
			whole = stream(100)
		}
		var cut int
		var mu sync.Mutex
		addr := scripted(t, func(nc net.Conn) {
			f, err := trpckit.Read(nc, true)
			if err != nil {
				return
			}
			raw := stream(f.ID)
			if f.Kind == trpckit.Unary {
				raw = answer(f.ID)
			}
			mu.Lock()
			raw = raw[:cut]
			mu.Unlock()
			_, _ = nc.Write(raw) // the client may have gone
		})
		for n := range whole {
			mu.Lock()
			cut = n
			mu.Unlock()
			tr := dial(t, addr, nil)
			var err error
			if kind == "unary" {
				var out rpc.Reply
				err = tr.Unary(deadline(t), callOf(t, echo, nil), &rpc.Message{}, &out)
				out.Reset()
			} else {
				st := open(t, tr, callOf(t, chat, nil))
				_, err = receive(st)
				st.Close()
			}
			e, ok := errors.AsType[*rpc.Error](err)
			if !ok || e.Code != codes.Unavailable || !e.Executed || e.Class != rpc.Transport {
				t.Fatalf("%s cut after %d of %d bytes: %v", kind, n, len(whole), err)
			}
			tr.Close()
		}
	}
}

// TestClientCrash: a client that goes at any byte of what it sends leaves nothing behind.
func TestClientCrash(t *testing.T) {
	d := newDoor(t, kitSchema(t))
	addr := d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{})
	for name, steps := range captures(t) {
		if name != "attachment" && name != "stream_bidi" && name != "echo_gzip" {
			continue
		}
		var whole []byte
		for _, s := range steps {
			if s.client {
				whole = append(whole, s.raw...)
			}
		}
		for n := range whole {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(whole[:n]); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.panics != 0 {
		t.Errorf("%d panics", d.panics)
	}
}

// TestMixedLies: frames that are for nobody, of the wrong kind, or there twice, do not disturb the calls of a connection.
func TestMixedLies(t *testing.T) {
	s := kitSchema(t)
	addr := scripted(t, func(nc net.Conn) {
		for {
			f, err := trpckit.Read(nc, true)
			if err != nil {
				return
			}
			switch {
			case f.Kind == trpckit.Unary:
				right := trpckit.Response(f, f.Body)
				write(nc, trpckit.Message(f.ID, []byte("a stream frame on a unary call")), trpckit.End(f.ID, 0, 0, ""), trpckit.Response(trpckit.Request(f.ID+1000, "", nil), []byte("wrong number")),
					right, trpckit.Response(f, []byte("the same again")), right)
			case f.Kind == trpckit.Init:
				write(nc, trpckit.Response(trpckit.Request(f.ID, "", nil), []byte("a unary frame on a stream")), trpckit.Opened(f.ID, 65535, 0, ""))
			case f.Kind == trpckit.Data:
				write(nc, trpckit.Response(trpckit.Request(f.ID, "", nil), nil), trpckit.Message(f.ID, f.Body))
			case f.Kind == trpckit.Close && f.Int("close_type") == 0:
				write(nc, trpckit.End(f.ID, 0, 0, ""), trpckit.End(f.ID, 1, 5, "again"), trpckit.Message(f.ID, []byte("late")))
			}
		}
	})
	tr := dial(t, addr, &trpcv1.Options{Connections: 1})
	echo, chat := method(t, s, "/trpc.kit.echo.Echo/Echo"), method(t, s, kitChat)
	for i := range 50 {
		var out rpc.Reply
		want := string(field(nil, 1, fmt.Sprint("call ", i)))
		if err := tr.Unary(deadline(t), callOf(t, echo, nil), &rpc.Message{Data: []byte(want)}, &out); err != nil || string(out.Message.Data) != want {
			t.Fatalf("%v %q", err, out.Message.Data)
		}
		out.Reset()
		st := open(t, tr, callOf(t, chat, nil))
		send(t, st, "one", "two")
		if err := st.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if got, err := receive(st); !errors.Is(err, io.EOF) || strings.Join(got, " ") != "one two" {
			t.Fatalf("%v %q", err, got)
		}
		st.Close()
	}
	if n := tr.cl.Made(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestSlowReader: a service that opens no window, and one that does not read at all, hold up nobody but their own calls; those
// end when their callers leave.
func TestSlowReader(t *testing.T) {
	s := kitSchema(t)
	chat := method(t, s, kitChat)
	for name, opened := range map[string]*trpckit.Frame{
		"never opens": nil, "no credit": trpckit.Opened(0, 1, 0, ""), "never reads": trpckit.Opened(0, 0, 0, ""),
	} {
		t.Run(name, func(t *testing.T) {
			addr := scripted(t, func(nc net.Conn) {
				f, err := trpckit.Read(nc, true)
				if err != nil {
					return
				}
				if opened != nil {
					opened.ID = f.ID
					write(nc, opened)
				}
				if name == "never reads" {
					<-t.Context().Done()
					return
				}
				_, _ = io.Copy(io.Discard, nc) // until the client leaves
			})
			ctx, cancel := context.WithCancel(deadline(t))
			tr := dial(t, addr, nil)
			st, err := tr.Open(ctx, callOf(t, chat, nil))
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
			payload := make([]byte, 1<<20)
			for err == nil {
				err = st.Send(&rpc.Message{Data: payload})
			}
			if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.Canceled {
				t.Errorf("%v", err)
			}
			if _, err := receive(st); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestLiesCostNothing: what is only announced is not made room for, on either side.
func TestLiesCostNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has its own memory")
	}
	d := newDoor(t, kitSchema(t))
	addr := d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{})
	lie := trpckit.Request(1, "/trpc.kit.echo.Echo/Echo", nil).Bytes()
	copy(lie[4:], "\x00\x9f\xff\xff") // ten MiB, of which nothing comes
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	conns := make([]net.Conn, 100)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(lie); err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	// What is asked behind it on another connection is answered when all that was read.
	p := connect(t, addr)
	p.send(trpckit.Request(1, "/trpc.kit.echo.Echo/Echo", nil))
	p.next()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("%d bytes for 100 lies", grown)
	}
}

// FuzzServer: whatever a client sends, what it is answered are frames, no call is left behind, and nothing panics.
func FuzzServer(f *testing.F) {
	s := kitSchema(f)
	for _, steps := range captures(f) {
		var all []byte
		for _, s := range steps {
			if s.client {
				all = append(all, s.raw...)
			}
		}
		f.Add(all)
	}
	d := newDoor(f, s)
	d.options.Timeout, d.options.StreamAge, d.options.MaxBody = time.Second, time.Second, 1<<16
	d.handler = func(ctx context.Context, c *rpc.Call) error {
		if c.Method.Name == "/trpc.kit.echo.Echo/Slow" {
			return nil
		}
		if c.Method.Name == kitCount {
			var m rpc.Message
			defer m.Free()
			return c.Stream.Recv(&m) // what it asks for may be much
		}
		return serveKit(ctx, c)
	}
	p, err := Inlet{}.New(d, asTheSDK(), rpcadapters.Limits{MaxMessage: 1 << 16, Budget: d.options.Budget})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		mine, theirs := net.Pipe()
		conn := p.NewConn(theirs, nil, nil, d)
		var wg sync.WaitGroup
		wg.Go(conn.Serve)
		wg.Go(func() {
			for {
				if _, err := trpckit.Read(mine, false); err != nil {
					if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("%v", err)
					}
					return
				}
			}
		})
		_, _ = mine.Write(data) // it may have been enough before the end
		conn.Gone()
		mine.Close()
		wg.Wait()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.sent, d.calls = nil, nil
		if d.inside != 0 || d.panics != 0 || d.options.Budget.Used() != 0 {
			t.Fatalf("%d calls are left, %d panicked, %d bytes are held", d.inside, d.panics, d.options.Budget.Used())
		}
	})
}

// FuzzClient: whatever a server sends, calls and streams end, and what is taken for an answer is one.
func FuzzClient(f *testing.F) {
	s := kitSchema(f)
	for _, steps := range captures(f) {
		var all []byte
		for _, s := range steps {
			if s.client || s.raw == nil {
				continue
			}
			frame, err := trpckit.Read(bytes.NewReader(s.raw), false)
			if err != nil {
				f.Fatal(err)
			}
			if frame.ID = 100; frame.Kind == trpckit.Unary {
				frame.ID = 1
				frame.Set("request_id", uint32(1))
			}
			all = append(all, frame.Bytes()...)
		}
		f.Add(all)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	payload := make(chan []byte, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			data := <-payload
			_, _ = trpckit.Read(c, true) // what the client asks does not matter
			_, _ = c.Write(data)         // it may have gone
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c) // so that nothing that was sent is lost
			c.Close()
		}
	}()
	f.Cleanup(func() { l.Close(); <-done })
	echo, chat := method(f, s, "/trpc.kit.echo.Echo/Echo"), method(f, s, kitChat)
	echoCall, chatCall := callOf(f, echo, nil), callOf(f, chat, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		target := rpcadapters.Target{Address: l.Addr().String(), MaxMessage: 1 << 16}
		tr, err := Adapter{}.Dial(target)
		if err != nil {
			t.Fatal(err)
		}
		payload <- data
		var out rpc.Reply
		err = tr.Unary(ctx, echoCall, &rpc.Message{}, &out)
		if ctx.Err() != nil {
			t.Fatal("the call does not end")
		}
		if err == nil && out.Message.Comp == rpc.Identity && bytes.Count(data, []byte{0x09, 0x30}) == 1 && bytes.HasPrefix(data, []byte{0x09, 0x30}) {
			frame, err := trpckit.Read(bytes.NewReader(data), false)
			if err != nil || frame.Int("ret") != 0 || frame.Int("func_ret") != 0 {
				t.Fatalf("an answer of %x: %v", data, err)
			}
			if frame.Uint("content_type") == 0 && frame.Uint("content_encoding") == 0 && !bytes.Equal(frame.Body, out.Message.Data) {
				t.Fatalf("%q of %x", out.Message.Data, data)
			}
		}
		out.Reset()
		tr.Close()

		if tr, err = (Adapter{}).Dial(target); err != nil {
			t.Fatal(err)
		}
		payload <- data
		st, err := tr.(rpcadapters.Streamer).Open(ctx, chatCall)
		if err == nil {
			_, err = receive(st)
			st.Close()
		}
		if ctx.Err() != nil {
			t.Fatal("the stream does not end")
		}
		if errors.Is(err, io.EOF) && !bytes.Contains(data, []byte{0x09, 0x30, 0x01, 0x04}) {
			t.Fatalf("%x is taken for the end of a stream", data)
		}
		tr.Close()
	})
}
