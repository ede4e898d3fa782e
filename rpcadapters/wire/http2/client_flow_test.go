package http2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func open(ctx context.Context, t *testing.T, cl *Client) *Stream {
	t.Helper()
	s, err := cl.Open(ctx, requestHead, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Cancel)
	return s
}

// mirrorBody sends back every piece of a body, within the client's windows, and ends when the request does.
func mirrorBody(p *upConn) {
	stream, conn := streamWindow, connWindow
	var pending []byte
	var id uint32
	ended, headed := false, false
	for {
		for len(pending) > 0 && min(stream, conn) > 0 {
			n := min(len(pending), stream, conn, 16_384)
			_ = p.fr.WriteData(id, false, pending[:n])
			pending, stream, conn = pending[n:], stream-n, conn-n
		}
		if ended && len(pending) == 0 {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: AppendField(nil, "x-end", "1")})
			ended = false
		}
		switch f := p.next().(type) {
		case nil:
			return
		case *http2.HeadersFrame:
			if id = f.StreamID; !headed {
				p.head(id, false)
				headed = true
			}
		case *http2.DataFrame:
			pending = append(pending, f.Data()...)
			if n := f.Length; n > 0 {
				_ = p.fr.WriteWindowUpdate(0, n)
				_ = p.fr.WriteWindowUpdate(id, n)
			}
			ended = f.StreamEnded()
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				conn += int(f.Increment)
			} else {
				stream += int(f.Increment)
			}
		}
	}
}

// One goroutine sends while another receives, far beyond all windows.
func TestStreamBothWays(t *testing.T) {
	u := startUpstream(t, nil, mirrorBody)
	s := open(short(t), t, newTestClient(t, u.address))
	const total = 3 << 20
	want := make([]byte, total)
	for i := range want {
		want[i] = byte(i * 31 >> 3)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 50_001)
			if err := s.Send(rest[:3], rest[3:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(s)
	wg.Wait()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("found %d bytes, %v", len(got), err)
	}
	if h, err := s.Header(); err != nil || h.Status != 200 || s.Trailer().Fields.Get("x-end") != "1" {
		t.Errorf("found %v, %v", h, err)
	}
	if err := s.Send(nil, []byte("x")); !errors.Is(err, io.EOF) {
		t.Errorf("want io.EOF for who sends after the end, found %v", err)
	}
}

// A stream that nobody reads holds its window's bytes, and no other stream waits for it.
func TestUnreadStreamHoldsItsWindow(t *testing.T) {
	u := startUpstream(t, nil, func(p *upConn) {
		first := uint32(0)
		for {
			id := p.request()
			switch {
			case id == 0:
				return
			case first == 0:
				first = id
				p.head(id, false)
				for range streamWindow / 16_384 {
					_ = p.fr.WriteData(id, false, make([]byte, 16_384))
				}
			default:
				p.answer(id, string(make([]byte, 60_000)))
			}
		}
	})
	cl := newTestClient(t, u.address)
	s := open(short(t), t, cl)
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for range 40 { // more than the connection's window
		if got, err := ask(short(t), cl, "x"); err != nil || len(got) != 60_000 {
			t.Fatalf("found %d, %v", len(got), err)
		}
	}
	if _, n, over := s.Peek(nil); n != streamWindow || over {
		t.Errorf("want %d bytes held, found %d, over %v", streamWindow, n, over)
	}
}

// Who sends to a server that takes nothing waits, and is let go by the context, by Cancel, or by the server's reset.
func TestBlockedSenderIsLetGo(t *testing.T) {
	begin := make(chan uint32, 3)
	reset := make(chan uint32, 1)
	u := startUpstream(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 10}}, func(p *upConn) {
		go func() {
			_, _ = p.Write(appendRSTStream(nil, <-reset, EnhanceYourCalm))
		}()
		for f := p.next(); f != nil; f = p.next() {
			if h, ok := f.(*http2.HeadersFrame); ok {
				begin <- h.StreamID
			}
		}
	})
	cl := newTestClient(t, u.address)
	for _, how := range []string{"context", "cancel", "reset"} {
		t.Run(how, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := open(ctx, t, cl)
			id := <-begin
			done := make(chan error, 2)
			go func() { done <- s.Send(nil, make([]byte, 100)) }()
			go func() {
				_, err := s.Read(make([]byte, 1))
				done <- err
			}()
			until(t, "the sender waits", func() bool {
				s.conn.w.Lock()
				defer s.conn.w.Unlock()
				return s.s.waiting
			})
			kind := Ended
			switch how {
			case "context":
				cancel()
			case "cancel":
				s.Cancel()
			case "reset":
				kind = Reset
				reset <- id
			}
			wantFault(t, <-done, kind, true)
			wantFault(t, <-done, kind, true)
		})
	}
}

// The context's end reaches the server although nobody waits in the stream.
func TestAbandonedStreamEndsWithItsContext(t *testing.T) {
	codes := make(chan http2.ErrCode, 1)
	u := startUpstream(t, nil, func(p *upConn) {
		for f := p.next(); f != nil; f = p.next() {
			if r, ok := f.(*http2.RSTStreamFrame); ok {
				codes <- r.ErrCode
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	s := open(ctx, t, newTestClient(t, u.address))
	cancel()
	if code := <-codes; code != http2.ErrCodeCancel {
		t.Errorf("found %v", code)
	}
	_, err := s.Header()
	wantFault(t, err, Ended, true)
}

// What came before a stream broke is read first, and then the break, never a clean end.
func TestBrokenStream(t *testing.T) {
	u := startUpstream(t, nil, func(p *upConn) {
		id := p.request()
		p.head(id, false)
		_ = p.fr.WriteData(id, false, []byte("hello"))
	})
	s := open(short(t), t, newTestClient(t, u.address))
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if string(got) != "hello" {
		t.Errorf("found %q", got)
	}
	wantFault(t, err, Broken, true)
}

// An idle connection's buffer is made small again, and it goes on.
func TestIdleBufferIsLetGo(t *testing.T) {
	u := startUpstream(t, nil, func(p *upConn) {
		for id := p.request(); id != 0; id = p.request() {
			p.answer(id, string(make([]byte, 16_000)))
		}
	})
	cl := newTestClient(t, u.address)
	for range 5 {
		if _, err := ask(short(t), cl, "x"); err != nil {
			t.Fatal(err)
		}
	}
	c := (*cl.conns.Load())[0]
	if c.r.size.Load() <= readBufferMin {
		t.Fatalf("want the buffer grown, found %d bytes", c.r.size.Load())
	}
	now := time.Now()
	c.sweep(now, false)
	c.sweep(now.Add(bufferIdle), false)
	until(t, "a small buffer", func() bool { return c.r.size.Load() == readBufferMin })
	if _, err := ask(short(t), cl, "x"); err != nil || u.conns.Load() != 1 {
		t.Errorf("want the connection to go on, found %v, %d", err, u.conns.Load())
	}
}

// Who waits for the head of an answer that is a head alone gets it, whenever in between it comes.
func TestHeaderOfAnAnswerThatIsOver(t *testing.T) {
	c := &clientConn{}
	for range 200_000 {
		f := &Stream{conn: c, sending: make(chan struct{}, 1)}
		f.s.sema = make(chan struct{}, 1)
		start := make(chan struct{})
		go func() {
			<-start
			c.w.Lock()
			f.s.head = &Head{}
			f.s.finished.Store(true)
			c.w.Unlock()
			f.wake()
		}()
		close(start)
		if h, err := f.Header(); h == nil || err != nil {
			t.Fatalf("want the head, found %v, %v", h, err)
		}
	}
}
