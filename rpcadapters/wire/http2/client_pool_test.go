package http2

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A server that accepts and says nothing costs the dial's timeout, or the call's, and nothing was executed.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cl, err := NewClient(ClientConfig{Address: l.Addr().String(), DialTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer until(t, "closed", func() bool { return cl.Conns() == 0 })
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = ask(ctx, cl, "x")
	wantFault(t, err, Ended, false)
	_, err = ask(short(t), cl, "x")
	wantFault(t, err, Unreachable, false)
	_, err = ask(short(t), cl, "x") // at once, while the next dial waits its time
	wantFault(t, err, Unreachable, false)
}

// What is no HTTP/2 server is told so, and nothing was executed.
func TestAnotherProtocol(t *testing.T) {
	for name, says := range map[string]string{
		"HTTP/1": "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "nothing": "",
		"PING first": string(appendPing(nil, false, make([]byte, 8))), "ACK first": string(appendSettingsAck(nil)),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for c, err := l.Accept(); err == nil; c, err = l.Accept() {
					_, _ = io.ReadFull(c, make([]byte, 24))
					_, _ = io.WriteString(c, says)
					_ = c.Close()
				}
			}()
			_, err = ask(short(t), newTestClient(t, l.Addr().String()), "x")
			wantFault(t, err, Unreachable, false)
		})
	}
}

func TestCloseLetsCallsEnd(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	u := startUpstream(t, nil, func(p *upConn) {
		id := p.request()
		close(asked)
		<-release
		p.answer(id, "done")
		for f := p.next(); f != nil; f = p.next() {
			if g, ok := f.(*http2.GoAwayFrame); ok && g.ErrCode != http2.ErrCodeNo {
				t.Errorf("found %v", g.ErrCode)
			}
		}
	})
	cl := newTestClient(t, u.address)
	var wg sync.WaitGroup
	wg.Go(func() {
		if got, err := ask(short(t), cl, "x"); err != nil || got != "done" {
			t.Errorf("found %q, %v", got, err)
		}
	})
	<-asked
	cl.Close()
	cl.Close()
	_, err := ask(short(t), cl, "x")
	wantFault(t, err, Unreachable, false)
	close(release)
	wg.Wait()
}

// A call whose connection ends before any of it was written was not executed; any other may have been.
func TestWhatWasNeverWrittenWasNotExecuted(t *testing.T) {
	u := startUpstream(t, nil, (*upConn).honest)
	cl := newTestClient(t, u.address)
	if _, err := ask(short(t), cl, "x"); err != nil {
		t.Fatal(err)
	}
	c := (*cl.conns.Load())[0]
	// Somebody is writing and does not come back.
	until(t, "nobody else writes", func() bool {
		c.w.Lock()
		defer c.w.Unlock()
		free := !c.w.Writing && len(c.w.Batch) == 0
		c.w.Writing = c.w.Writing || free
		return free
	})
	done := make(chan error, 1)
	go func() {
		_, err := ask(t.Context(), cl, "x")
		done <- err
	}()
	until(t, "the call is in the batch", func() bool { return cl.InFlight() == 1 })
	c.abort(io.ErrUnexpectedEOF)
	wantFault(t, <-done, Broken, false)
}

// More calls than one connection is given get another one, made one at a time.
func TestMoreConnectionsUnderLoad(t *testing.T) {
	const calls = softStreams + softStreams/2
	release := make(chan struct{})
	u := startUpstream(t, nil, func(p *upConn) {
		for f := p.next(); f != nil; f = p.next() {
			if h := f.Header(); h.Type == http2.FrameData {
				id := h.StreamID
				select {
				case <-release:
				default:
					continue
				}
				p.answer(id, "x")
			}
		}
	})
	cl := newTestClient(t, u.address)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	begin := func(n int) {
		for range n {
			wg.Go(func() { _, _ = ask(ctx, cl, "x") })
		}
	}
	// All of them before there is any connection.
	cl.mu.Lock()
	cl.dialing = 1
	cl.mu.Unlock()
	begin(calls)
	until(t, "all wait", func() bool { return cl.waiting.Load() == calls })
	cl.mu.Lock()
	cl.dialing = 0
	cl.dial()
	cl.mu.Unlock()
	until(t, "all are under way", func() bool { return cl.InFlight() == calls })
	until(t, "a second connection", func() bool {
		begin(1)
		return cl.Conns() >= 2
	})
	close(release)
	if got, err := ask(short(t), cl, "x"); err != nil || got != "x" {
		t.Errorf("found %q, %v", got, err)
	}
	cancel()
	wg.Wait()
}

// No second PING until the server has sent something of an answer; none while nothing waits.
func TestPingPolicy(t *testing.T) {
	var pings atomic.Int64
	answer := make(chan struct{})
	u := startUpstream(t, nil, func(p *upConn) {
		go func() {
			<-answer
			_, _ = p.Write(appendHeaders(nil, 1, false, AppendIndexed(nil, IndexStatus200), 16384))
		}()
		for f := p.next(); f != nil; f = p.next() {
			if g, ok := f.(*http2.PingFrame); ok && !g.IsAck() {
				pings.Add(1)
			}
		}
	})
	cl := newTestClient(t, u.address)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := ask(ctx, cl, "x")
		wantFault(t, err, Ended, true)
	})
	until(t, "the call is under way", func() bool { return cl.InFlight() == 1 })
	c := (*cl.conns.Load())[0]
	// The sweeper's clock, turned by hand.
	now := time.Now()
	look := func(after time.Duration) {
		now = now.Add(after)
		c.sweep(now, false)
	}
	quiet := func() bool {
		c.w.Lock()
		defer c.w.Unlock()
		return c.heard == c.r.reads.Load()
	}
	look(0)
	if look(pingAfter - time.Millisecond); pings.Load() != 0 {
		t.Error("want no PING yet")
	}
	look(time.Millisecond)
	until(t, "one PING", func() bool { return pings.Load() == 1 })
	until(t, "its answer is heard", func() bool { return !quiet() })
	for range 100 {
		look(pingAfter)
	}
	if pings.Load() != 1 {
		t.Errorf("want no second PING, found %d", pings.Load())
	}
	close(answer)
	until(t, "the head is heard", func() bool { return !quiet() })
	look(0)
	look(pingAfter)
	until(t, "another PING", func() bool { return pings.Load() == 2 })
	cancel()
	wg.Wait()
	for range 100 {
		look(time.Hour)
	}
	if _, err := ask(ctx, cl, "x"); err == nil {
		t.Error("want a context that has ended to count")
	}
	if pings.Load() != 2 {
		t.Errorf("want no PING while nothing waits, found %d", pings.Load())
	}
}

// Who did not run for a while does not count that as its peer's silence.
func TestStoppedClientBlamesNobody(t *testing.T) {
	u := startUpstream(t, nil, func(p *upConn) {
		p.request()
		_ = binary.Read(neverRead{p.t.Context()}, binary.BigEndian, new(int64)) // reads and answers nothing more
	})
	cl := newTestClient(t, u.address)
	cl.timer.Stop() // the clock is turned by hand
	cl.pace.Store(sweepFast)
	ended := make(chan error, 1)
	go func() {
		_, err := ask(t.Context(), cl, "x")
		ended <- err
	}()
	until(t, "the call is under way", func() bool { return cl.InFlight() == 1 })
	c := (*cl.conns.Load())[0]
	now := time.Now()
	look := func(after time.Duration) bool {
		now = now.Add(after)
		waiting, _ := c.sweep(now, false)
		return waiting
	}
	look(0)
	look(pingAfter) // the PING goes out
	if !look(time.Hour) {
		t.Error("want the peer given its time after an hour in which nobody looked")
	}
	waited := 2 * sweepTick
	for look(sweepTick) {
		if waited += sweepTick; waited > pingWait {
			t.Fatalf("want the peer left after %v, found it waited for still", pingWait)
		}
	}
	if waited < pingWait-sweepTick {
		t.Errorf("want it left after %v, found %v", pingWait, waited)
	}
	wantFault(t, <-ended, Broken, true)
}

// A server that is not heard at all is left within three seconds.
func TestDeadPeer(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, nil, func(p *upConn) {
		p.request()
		_ = binary.Read(neverRead{p.t.Context()}, binary.BigEndian, new(int64)) // reads and answers nothing more
	})
	best := time.Hour // of some, for the machine may be busy
	for range 10 {
		cl := newTestClient(t, u.address)
		begin := time.Now()
		_, err := ask(short(t), cl, "x")
		wantFault(t, err, Broken, true)
		d := time.Since(begin)
		if d < 2*time.Second {
			t.Errorf("want it left after 2s at the earliest, found %v", d)
		}
		if best = min(best, d); best <= 3500*time.Millisecond {
			return
		}
	}
	t.Errorf("want it noticed within 3s, found %v at best", best)
}

type neverRead struct{ ctx context.Context }

func (n neverRead) Read([]byte) (int, error) {
	<-n.ctx.Done()
	return 0, io.EOF
}
