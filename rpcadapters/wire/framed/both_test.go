package framed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/batch"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

func TestUnary(t *testing.T) {
	_, addr := serve(t, ServerConfig{Service: &echo{}}, server.Options{})
	cl := client(t, addr, ClientConfig{})
	for _, n := range []int{0, 1, 4 << 10, 5000, 64 << 10, 1 << 20, 9 << 20} {
		body := strings.Repeat("x", n)
		mustAsk(t, cl, body, body)
	}
	if cl.Made() != 1 {
		t.Errorf("want one connection, found %d", cl.Made())
	}
}

func TestManyAtOnce(t *testing.T) {
	_, addr := serve(t, ServerConfig{Service: &echo{}}, server.Options{})
	cl := client(t, addr, ClientConfig{})
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			for j := range 20 {
				body := fmt.Sprint(i, " ", j)
				if got, err := ask(t.Context(), cl, body); err != nil || got != body {
					t.Errorf("want %q, found %q, %v", body, got, err)
				}
			}
		})
	}
	all.Wait()
	if n := cl.Made(); n > defaultConns {
		t.Errorf("want at most %d connections, found %d", defaultConns, n)
	}
}

func TestFastOvertakesSlow(t *testing.T) {
	e := &echo{release: make(chan struct{})}
	_, addr := serve(t, ServerConfig{Service: e}, server.Options{})
	cl := client(t, addr, ClientConfig{Conns: 1})
	slow := make(chan string)
	go func() {
		got, err := ask(t.Context(), cl, "slow")
		slow <- fmt.Sprint(got, err)
	}()
	mustAsk(t, cl, "fast", "fast")
	close(e.release)
	if got := <-slow; got != "slow<nil>" {
		t.Errorf("found %s", got)
	}
}

func TestLateAnswerIsDropped(t *testing.T) {
	e := &echo{release: make(chan struct{})}
	_, addr := serve(t, ServerConfig{Service: e}, server.Options{})
	cl := client(t, addr, ClientConfig{Conns: 1})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		eventually(t, "the call has begun", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.seen) == 1 })
		cancel()
	}()
	_, err := ask(ctx, cl, "slow")
	isFault(t, err, Ended, true)
	close(e.release)
	for i := range 10 {
		mustAsk(t, cl, strconv.Itoa(i), strconv.Itoa(i))
	}
	if cl.Made() != 1 {
		t.Errorf("a late answer cost the connection: %d made", cl.Made())
	}
}

func TestServerDeadline(t *testing.T) {
	_, addr := serve(t, ServerConfig{Service: &echo{}}, server.Options{})
	mustAsk(t, client(t, addr, ClientConfig{}), "deadline", context.DeadlineExceeded.Error())
}

func TestClientGone(t *testing.T) {
	e := &echo{}
	_, addr := serve(t, ServerConfig{Service: e}, server.Options{})
	c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(unary("wait").AppendFrame(nil, 7))
	eventually(t, "the call has begun", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.seen) == 1 })
	_ = c.Close()
	eventually(t, "the call is cancelled", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.ended == 1 })
}

func TestPausedClientGone(t *testing.T) {
	e := &echo{}
	_, addr := serve(t, ServerConfig{Service: e, Calls: 1}, server.Options{})
	c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(unary("wait").AppendFrame(nil, 7))
	eventually(t, "the call has begun", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.seen) == 1 })
	_ = c.Close()
	eventually(t, "the call is cancelled although nobody reads", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.ended == 1 })
}

func TestOneWay(t *testing.T) {
	e := &echo{}
	_, addr := serve(t, ServerConfig{Service: e}, server.Options{})
	cl := client(t, addr, ClientConfig{})
	if err := cl.Tell(t.Context(), &Call{}, unary("told")); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, cl, "asked", "asked") // the answer to the first is dropped
	e.mu.Lock()
	defer e.mu.Unlock()
	if got := strings.Join(e.seen, " "); got != "told asked" && got != "asked told" {
		t.Errorf("found %q", got)
	}
}

func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	cl := client(t, addr, ClientConfig{})
	for range 3 {
		_, err = ask(t.Context(), cl, "x")
		isFault(t, err, Unreachable, false)
	}
	if cl.Reach(t.Context()) == nil {
		t.Error("Reach reached nobody")
	}
	cl.Close()
	_, err = ask(t.Context(), cl, "x")
	isFault(t, err, Unreachable, false)
}

func TestBrokenMidCall(t *testing.T) {
	addr := listen(t, func(c net.Conn) { _, _, _, _ = read(c) })
	_, err := ask(t.Context(), client(t, addr, ClientConfig{}), "x")
	isFault(t, err, Broken, true)
}

func TestLeave(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			e := &echo{release: make(chan struct{})}
			o := server.Options{}
			cc := ClientConfig{}
			if secure {
				o.TLS, cc.TLS = pair(t)
			}
			s, addr := serve(t, ServerConfig{Service: e, Leave: &text{'l', nil}}, o)
			cl := client(t, addr, cc)
			slow := make(chan string)
			go func() {
				got, err := ask(t.Context(), cl, "slow")
				slow <- fmt.Sprint(got, err)
			}()
			eventually(t, "the call has begun", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.seen) == 1 })
			s.Hurry(true)
			eventually(t, "the connection is not used any more", func() bool { return len(*cl.conns.Load()) == 0 })
			s.Hurry(false)
			mustAsk(t, cl, "next", "next")
			close(e.release)
			if got := <-slow; got != "slow<nil>" {
				t.Errorf("found %s", got)
			}
			if cl.Made() != 2 {
				t.Errorf("want two connections, found %d", cl.Made())
			}
			eventually(t, "the one that is left is closed", func() bool { return s.Conns() == 1 })
		})
	}
}

func TestIdleClosed(t *testing.T) {
	t.Parallel()
	s, addr := serve(t, ServerConfig{Service: &echo{}, Idle: 50 * time.Millisecond}, server.Options{})
	cl := client(t, addr, ClientConfig{})
	for _, body := range []string{"a", "b"} {
		// On a busy machine a connection may have been idle for too long before its first call comes.
		eventually(t, "a call that is answered", func() bool {
			got, err := ask(t.Context(), cl, body)
			var f *Fault
			if err != nil && (!errors.As(err, &f) || f.Kind != Broken) {
				t.Fatal(err)
			}
			return err == nil && got == body
		})
		eventually(t, "the idle connection is closed", func() bool { return s.Conns() == 0 })
	}
}

// TestRest: a connection without calls lets go what it needed under load, and is still of use.
func TestRest(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		o, cc := server.Options{}, ClientConfig{}
		if secure {
			o.TLS, cc.TLS = pair(t)
		}
		_, addr := serve(t, ServerConfig{Service: &echo{}}, o)
		cl := client(t, addr, cc)
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				for range 20 {
					mustAsk(t, cl, strings.Repeat("x", 3000), strings.Repeat("x", 3000))
				}
			})
		}
		all.Wait()
		c := (*cl.conns.Load())[0]
		for range 3 {
			c.idleFor(time.Now()) // as the client's timer does
		}
		eventually(t, "the buffer is small again", func() bool { return !c.r.grown.Load() })
		mustAsk(t, cl, "after", "after")
	}
}

func TestRefused(t *testing.T) {
	e := &echo{}
	budget := rpc.NewBudget(1 << 20)
	_, addr := serve(t, ServerConfig{Service: e, MaxFrame: 1 << 20, Budget: budget}, server.Options{})
	cl := client(t, addr, ClientConfig{})
	mustAsk(t, cl, strings.Repeat("x", 2<<20), "refused")
	mustAsk(t, cl, "after", "after")
	if !budget.Take(1 << 19) {
		t.Fatal("the budget is used up")
	}
	mustAsk(t, cl, strings.Repeat("x", 300), "x"+strings.Repeat("x", 299))
	budget.Give(1 << 19)
	eventually(t, "the budget is free", func() bool { return budget.Used() == 0 })
	if !budget.Take(1 << 20) {
		t.Fatal("the budget is used up")
	}
	mustAsk(t, cl, strings.Repeat("y", 3000), "refused")
	budget.Give(1 << 20)
	mustAsk(t, cl, "after", "after")
	eventually(t, "the budget is free", func() bool { return budget.Used() == 0 })
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.why[0] != TooLarge || e.why[3] != NoMemory {
		t.Errorf("found %v", e.why)
	}
}

func TestAnswerTooLarge(t *testing.T) {
	_, addr := serve(t, ServerConfig{Service: &echo{}}, server.Options{})
	cl := client(t, addr, ClientConfig{MaxFrame: 1 << 20})
	_, err := ask(t.Context(), cl, strings.Repeat("x", 2<<20))
	isFault(t, err, AnswerTooLarge, true)
	mustAsk(t, cl, "after", "after")
	if cl.Made() != 1 {
		t.Errorf("a large answer cost the connection: %d made", cl.Made())
	}
}

func TestPanicEndsConnection(t *testing.T) {
	s, addr := serve(t, ServerConfig{Service: &echo{}}, server.Options{})
	cl := client(t, addr, ClientConfig{})
	_, err := ask(t.Context(), cl, "panic")
	isFault(t, err, Broken, true)
	mustAsk(t, cl, "after", "after")
	if s.Panics() != 1 {
		t.Errorf("want one panic counted, found %d", s.Panics())
	}
}

// sinkChan is a sink of a client.
type sinkChan chan string

func (s sinkChan) Frame(b *rpc.Buffer) { s <- string(b.B[headLen:]); b.Free() }
func (s sinkChan) Broken(f *Fault)     { s <- f.Error() }

func TestStream(t *testing.T) {
	_, addr := serve(t, ServerConfig{Service: &echo{}, Streams: 2}, server.Options{})
	cl := client(t, addr, ClientConfig{FirstStream: 100, Conns: 1})
	var streams [2]Stream
	var sinks [2]sinkChan
	for i := range streams {
		sinks[i] = make(sinkChan, 10)
		if err := cl.Open(t.Context(), &streams[i], sinks[i], ofStream(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
		if got, want := <-sinks[i], fmt.Sprint("begun ", i); got != want {
			t.Fatalf("want %q, found %q", want, got)
		}
		if want := uint32(100 + i); streams[i].ID() != want {
			t.Errorf("want number %d, found %d", want, streams[i].ID())
		}
	}
	third, over := &Stream{}, make(sinkChan, 10)
	if err := cl.Open(t.Context(), third, over, ofStream("3")); err != nil {
		t.Fatal(err)
	}
	if got := <-over; got != "refused" {
		t.Errorf("a third stream: %q", got)
	}
	third.Close()
	mustAsk(t, cl, "beside", "beside")
	for i, s := range sinks {
		for _, word := range []string{"a", "b", "end"} {
			if err := streams[i].Send(ofStream(word)); err != nil {
				t.Fatal(err)
			}
			if got := <-s; got != word {
				t.Errorf("want %q, found %q", word, got)
			}
		}
		streams[i].Close()
		streams[i].Close()
		isFault(t, streams[i].Send(ofStream("late")), Ended, true)
	}
}

func TestStreamBroken(t *testing.T) {
	addr := listen(t, func(c net.Conn) { _, _, _, _ = read(c) })
	cl := client(t, addr, ClientConfig{})
	s, sink := &Stream{}, make(sinkChan, 10)
	if err := cl.Open(t.Context(), s, sink, ofStream("")); err != nil {
		t.Fatal(err)
	}
	if got := <-sink; !strings.HasPrefix(got, "broken") {
		t.Errorf("found %q", got)
	}
	if s.Send(ofStream("x")) == nil {
		t.Error("a frame was sent on a connection that has ended")
	}
}

// TestBackPressure has a peer that does not read: calls end at their deadlines, what is held is bounded, and Send of a stream
// returns once it is closed.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	addr := listen(t, func(net.Conn) { <-stop })
	defer close(stop)
	cl := client(t, addr, ClientConfig{Conns: 1})
	s := &Stream{}
	if err := cl.Open(t.Context(), s, make(sinkChan, 10), ofStream("")); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		big := ofStream(strings.Repeat("x", 64<<10))
		for {
			if err := s.Send(big); err != nil {
				sent <- err
				return
			}
		}
	}()
	eventually(t, "the sender waits", func() bool {
		c := (*cl.conns.Load())[0]
		c.w.Lock()
		defer c.w.Unlock()
		return len(c.blocked) == 1
	})
	c := (*cl.conns.Load())[0]
	c.w.Lock()
	if n := len(c.w.Batch); n > batch.High+128<<10 {
		t.Errorf("%d bytes wait to be written", n)
	}
	c.w.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := ask(ctx, cl, "x")
	isFault(t, err, Ended, false)
	s.Close()
	isFault(t, <-sent, Ended, true)
}

func TestServerBackPressure(t *testing.T) {
	t.Parallel()
	e := &echo{}
	s, addr := serve(t, ServerConfig{Service: e, WriteTimeout: 100 * time.Millisecond, Calls: 8}, server.Options{})
	c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	frame := unary(strings.Repeat("x", 256<<10)).AppendFrame(nil, 1)
	_ = c.SetWriteDeadline(time.Now().Add(20 * time.Second))
	for err == nil {
		_, err = c.Write(frame) // until the server has cut the connection
	}
	eventually(t, "the connection is cut", func() bool { return s.Conns() == 0 })
}

func TestLies(t *testing.T) {
	for _, lie := range []struct {
		name  string
		bytes string
	}{
		{"length too short", "\x00\x00\x00\x03"},
		{"length beyond belief", "\xff\xff\xff\xff"},
		{"unknown kind", "\x00\x00\x00\x09?\x00\x00\x00\x01"},
		{"http", "GET / HTTP/1.1\r\n\r\n"},
	} {
		t.Run(lie.name, func(t *testing.T) {
			s, addr := serve(t, ServerConfig{Service: &echo{}}, server.Options{})
			c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.WriteString(c, lie.bytes)
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if n, err := c.Read(make([]byte, 100)); n != 0 || err == nil {
				t.Errorf("the server answered %d bytes, %v", n, err)
			}
			eventually(t, "the connection has ended", func() bool { return s.Conns() == 0 })
			back := listen(t, func(c net.Conn) {
				_, _, _, _ = read(c)
				_, _ = io.WriteString(c, lie.bytes)
				_, _ = io.Copy(io.Discard, c)
			})
			_, err = ask(t.Context(), client(t, back, ClientConfig{}), "x")
			isFault(t, err, Broken, true)
		})
	}
}

// TestSlowFrame sends a frame that never comes to its end.
func TestSlowFrame(t *testing.T) {
	t.Parallel()
	s, addr := serve(t, ServerConfig{Service: &echo{}, FrameTimeout: 50 * time.Millisecond}, server.Options{})
	c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "\x00\x00\x00\x20u\x00")
	eventually(t, "the connection is cut", func() bool { return s.Conns() == 0 && s.Accepted() == 1 })
}

func TestLargeLengthHoldsNothing(t *testing.T) {
	budget := rpc.NewBudget(1 << 20)
	_, addr := serve(t, ServerConfig{Service: &echo{}, MaxFrame: 100 << 20, Budget: budget}, server.Options{})
	c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "\x06\x00\x00\x00u\x00\x00\x00\x01hello")
	eventually(t, "the frame has begun", func() bool { return budget.Used() == 14 })
	_ = c.Close()
	eventually(t, "nothing is held", func() bool { return budget.Used() == 0 })
}

// TestAlwaysMidFrame: a connection on which a frame has always come in part is not one that is slow.
func TestAlwaysMidFrame(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	c := NewServer(ServerConfig{Framing: framing{}, Service: &echo{}}).NewConn(theirs, nil, nil, nobody{}).(*serverConn)
	now := time.Now()
	c.r.begun.Store(6)
	for i := range 10 {
		c.r.count.Add(1)
		if c.Sweep(now.Add(time.Duration(i) * 8 * time.Second)); c.lost {
			t.Fatalf("cut after %d frames, each in time", i)
		}
	}
	if c.Sweep(now.Add(72*time.Second + 8*time.Second)); c.lost {
		t.Fatal("cut before the time for a frame was over")
	}
	if c.Sweep(now.Add(72*time.Second + 11*time.Second)); !c.lost {
		t.Error("a frame that does not come to its end was waited for")
	}
}
