package http2

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// lateConn has the dial's time run out while the peer's SETTINGS are on their way: they come once the connection is closed.
type lateConn struct {
	net.Conn
	expire context.CancelFunc
	closed chan struct{}
	frames []byte
}

func (c *lateConn) Read(p []byte) (int, error) {
	c.expire()
	<-c.closed
	if len(c.frames) == 0 {
		return 0, net.ErrClosed
	}
	n := copy(p, c.frames)
	c.frames = c.frames[n:]
	return n, nil
}

func (c *lateConn) Close() error {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return c.Conn.Close()
}

// A dial that is given up at the very moment when it succeeds is counted once: else none would ever be made again.
func TestClientSettingsAtTheLastMoment(t *testing.T) {
	u := startUpstream(t, nil, func(c *upConn) {
		for id := c.request(); id != 0; id = c.request() {
			c.answer(id, "fine")
		}
	})
	cl := newTestClient(t, u.address)
	near, far := net.Pipe()
	defer far.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	nc := &lateConn{Conn: near, expire: cancel, closed: make(chan struct{}), frames: appendSettings(nil)}
	c := newClientConn(cl, nc, nc)
	cl.mu.Lock()
	cl.all[c] = struct{}{}
	cl.dialing++
	cl.mu.Unlock()
	cl.carry(ctx, c)
	cl.mu.Lock()
	dialing := cl.dialing
	cl.retryAt = time.Time{}
	cl.mu.Unlock()
	if dialing != 0 || cl.Made() != 0 || cl.Conns() != 0 {
		t.Fatalf("want nothing under way and nothing made, found %d dials, %d made, %d open", dialing, cl.Made(), cl.Conns())
	}
	if got, err := ask(short(t), cl, ""); got != "fine" {
		t.Errorf("found %q, %v", got, err)
	}
}

// A call that gives its turn back unused, since the peer does not take its head, lets the next one have it.
func TestClientTurnPassedOn(t *testing.T) {
	free := make(chan struct{})
	u := startUpstream(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}, {ID: http2.SettingMaxHeaderListSize, Val: 1000}}, func(c *upConn) {
		for id := c.request(); id != 0; id = c.request() {
			<-free
			c.answer(id, "fine")
		}
	})
	cl := newTestClient(t, u.address)
	cl.mu.Lock()
	cl.extraAt = time.Now().Add(time.Hour) // one connection
	cl.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	results := make([]chan error, 3)
	for i := range results {
		results[i] = make(chan error, 1)
		go func() {
			call := cl.Get()
			defer cl.Put(call)
			call.Head = append(call.Head, requestHead...)
			call.HeadSize, call.MaxAnswer = 100, 1000
			if i == 1 {
				call.HeadSize = 2000
			}
			results[i] <- cl.Unary(ctx, call)
		}()
		until(t, "the call is in its place", func() bool { return cl.InFlight()+int(cl.waiting.Load()) == i+1 })
	}
	close(free)
	var fault *Fault
	for i, r := range results {
		err := <-r
		if i == 1 {
			if !errors.As(err, &fault) || fault.Kind != HeadTooLarge {
				t.Errorf("want head too large, found %v", err)
			}
		} else if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// Answers that come in one read make room for as many calls as they end.
func TestClientAnswersAtOnce(t *testing.T) {
	const limit = 8
	ctx := short(t)
	begin, release := make(chan struct{}), make(chan struct{})
	u := startNarrow(t, 1, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: limit}}, func(c *upConn) {
		for _, goOn := range []chan struct{}{begin, release} {
			var answers []byte
			for range limit {
				id := c.request()
				answers = appendHeaders(answers, id, false, AppendIndexed(nil, IndexStatus200), 16384)
				answers = appendData(answers, id, true, nil, []byte("x"))
			}
			select {
			case <-goOn:
				_, _ = c.Write(answers)
			case <-ctx.Done():
			}
		}
		c.drain()
	})
	cl := newTestClient(t, u.address)
	cl.mu.Lock()
	cl.extraAt = time.Now().Add(time.Hour) // one connection
	cl.mu.Unlock()
	var wg sync.WaitGroup
	for i := range 2 * limit {
		wg.Go(func() {
			if _, err := ask(ctx, cl, ""); err != nil {
				t.Error(err)
			}
		})
		until(t, "the call is in its place", func() bool { return cl.InFlight()+int(cl.waiting.Load()) == i+1 })
	}
	close(begin)
	until(t, "those who waited are under way", func() bool { return cl.InFlight() == limit && cl.waiting.Load() == 0 })
	close(release)
	wg.Wait()
}

// A service that has begun to answer has looked at the call, whatever it says of it then.
func TestClientRefusedAfterHead(t *testing.T) {
	for name, end := range map[string]func(*upConn, uint32){
		"RST_STREAM": func(c *upConn, id uint32) { _ = c.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) },
		"GOAWAY":     func(c *upConn, _ uint32) { _ = c.fr.WriteGoAway(0, http2.ErrCodeNo, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			u := startUpstream(t, nil, func(c *upConn) {
				for id := c.request(); id != 0; id = c.request() {
					c.head(id, false)
					end(c, id)
				}
			})
			cl := newTestClient(t, u.address)
			call := cl.Get()
			defer cl.Put(call)
			call.Head = append(call.Head, requestHead...)
			call.MaxAnswer = 1000
			err := cl.Unary(short(t), call)
			var fault *Fault
			if !errors.As(err, &fault) || fault.Kind != Reset || !fault.Sent || u.conns.Load() != 1 {
				t.Errorf("want a reset of a call that was sent, on one connection, found %#v on %d", err, u.conns.Load())
			}
		})
	}
}

// What was on its way when a stream was cancelled is no flood, in frames however small.
func TestClientLateData(t *testing.T) {
	u := startUpstream(t, nil, func(c *upConn) {
		for f := c.next(); f != nil; f = c.next() {
			h := f.Header()
			switch {
			case h.Type == http2.FrameData && h.Flags.Has(http2.FlagDataEndStream):
				_ = c.fr.WriteData(h.StreamID, true, []byte("fine"))
			case h.Type == http2.FrameHeaders:
				c.head(h.StreamID, false)
			case h.Type == http2.FrameRSTStream:
				for range 2 * floodFrames {
					_ = c.fr.WriteData(h.StreamID, false, []byte("a message of some bytes"))
				}
			}
		}
	})
	cl := newTestClient(t, u.address)
	s, err := cl.Open(t.Context(), requestHead, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	s.Cancel()
	for range 2 {
		if got, err := ask(short(t), cl, ""); got != "fine" {
			t.Errorf("found %q, %v", got, err)
		}
	}
	if n := u.conns.Load(); n != 1 {
		t.Errorf("want the connection to live, found %d", n)
	}
}

// A connection that is given up sends nothing any more of what its calls are told was not sent.
func TestClientAbortDropsTheBatch(t *testing.T) {
	cl := newTestClient(t, "127.0.0.1:1")
	near, far := net.Pipe()
	defer far.Close()
	c := newClientConn(cl, near, near)
	s := &stream{sema: make(chan struct{}, 1), last: true}
	c.w.Lock()
	c.ready, c.w.Writing = true, true // somebody is at it
	c.w.Batch = c.w.Batch[:0]
	c.begin(s, requestHead)
	c.w.Unlock()
	c.abort(errSilent)
	c.cancel(s, &Fault{Kind: Ended})
	c.w.Lock()
	c.w.Writing = false
	c.w.UnlockKick()
	c.w.Lock()
	defer c.w.Unlock()
	if s.fault.Sent || c.w.Taken > 0 {
		t.Errorf("want a call that was not sent, found sent %v and %d bytes to be written", s.fault.Sent, c.w.Taken)
	}
}

// faulty is a connection with a fault of the program in it.
type faulty struct {
	net.Conn
	frames  []byte
	now     chan struct{} // when to read on
	onWrite bool
}

func (c *faulty) Read(p []byte) (int, error) {
	if len(c.frames) > 0 {
		n := copy(p, c.frames)
		c.frames = c.frames[n:]
		return n, nil
	}
	if c.onWrite {
		return c.Conn.Read(p)
	}
	<-c.now
	panic("on purpose")
}

func (c *faulty) Write(p []byte) (int, error) {
	if c.onWrite {
		panic("on purpose")
	}
	return len(p), nil
}

// A panic in a goroutine of the client's own ends a connection and its calls, not the process.
func TestClientPanics(t *testing.T) {
	for _, tc := range []struct {
		name    string
		onWrite bool
	}{{"reading", false}, {"writing", true}} {
		t.Run(tc.name, func(t *testing.T) {
			cl := newTestClient(t, "127.0.0.1:1")
			near, far := net.Pipe()
			defer far.Close()
			nc := &faulty{Conn: near, frames: appendSettings(nil), now: make(chan struct{}), onWrite: tc.onWrite}
			c := newClientConn(cl, nc, nc)
			cl.mu.Lock()
			cl.all[c] = struct{}{}
			cl.dialing++
			cl.mu.Unlock()
			done := make(chan struct{})
			go func() {
				defer close(done)
				cl.carry(t.Context(), c)
			}()
			if !tc.onWrite {
				until(t, "the connection is up", func() bool { return cl.Made() == 1 })
				go func() {
					until(t, "the call is on the wire", func() bool {
						c.w.Lock()
						defer c.w.Unlock()
						return c.streams.n == 1 && len(c.w.Batch) == 0
					})
					close(nc.now)
				}()
				_, err := ask(short(t), cl, "")
				wantFault(t, err, Broken, true)
			}
			<-done
			if cl.Panics() != 1 || cl.Conns() != 0 {
				t.Errorf("want one panic and no connection, found %d and %d", cl.Panics(), cl.Conns())
			}
		})
	}
	t.Run("dialling", func(t *testing.T) {
		server := serverTLS(t)
		s := serve(t, Limits{}, server, hello)
		conf := clientTLS(t, server)
		conf.VerifyConnection = func(tls.ConnectionState) error { panic("on purpose") }
		cl, err := NewClient(ClientConfig{Address: s.address, TLS: conf, DialTimeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		_, err = ask(short(t), cl, "")
		wantFault(t, err, Unreachable, false)
		if cl.Panics() != 1 || cl.Conns() != 0 {
			t.Errorf("want one panic and no connection, found %d and %d", cl.Panics(), cl.Conns())
		}
	})
	t.Run("among the frames of one read", func(t *testing.T) {
		cl := newTestClient(t, "127.0.0.1:1")
		near, far := net.Pipe()
		defer far.Close()
		c := newClientConn(cl, near, near)
		c.ready, c.opened = true, 3
		answered := &stream{id: 1, sema: make(chan struct{}, 1), head: &Head{Status: 200, length: -1}, sentEnd: true, recv: newRecvWindow(streamWindow)}
		broken := &stream{id: 3, head: answered.head, flow: &Stream{off: 1}, recv: newRecvWindow(streamWindow)} // off lies beyond what it has
		c.streams.put(answered)
		c.streams.put(broken)
		c.r = newFrameReader(near, append(appendData(nil, 1, true, nil, nil), appendData(nil, 3, false, nil, []byte("x"))...))
		var f inFrame
		if err := c.r.next(&f); err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("want a panic")
				}
			}()
			_, _ = c.take(&f)
		}()
		if !answered.finished.Load() || len(answered.sema) != 1 {
			t.Error("want the call whose answer had come told of it")
		}
		if !c.w.TryLock() {
			t.Error("want the lock left")
		}
	})
	t.Run("looking at the time", func(t *testing.T) {
		cl := newTestClient(t, "127.0.0.1:1")
		near, far := net.Pipe()
		defer far.Close()
		c := newClientConn(cl, near, near)
		c.ready, c.r = true, nil // there is no reader to ask
		c.streams.put(&stream{id: 1})
		if cl.look(c, time.Now(), false); cl.Panics() != 1 {
			t.Errorf("want one panic, found %d", cl.Panics())
		}
	})
}
