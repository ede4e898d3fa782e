package http2

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// upstream is a server whose connections are run by a function, frame by frame, with x/net's Framer.
type upstream struct {
	address string
	conns   atomic.Int64
}

// upConn is one connection of it; its first frames have been exchanged.
type upConn struct {
	net.Conn
	t  testing.TB
	n  int // of the connections so far
	fr *http2.Framer
}

func startUpstream(t testing.TB, settings []http2.Setting, serve func(*upConn)) *upstream {
	t.Helper()
	return startNarrow(t, 1<<30, settings, serve)
}

// startNarrow is a server that answers on its first few connections only; others are never accepted.
func startNarrow(t testing.TB, conns int, settings []http2.Setting, serve func(*upConn)) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{address: l.Addr().String()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for range conns {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			n := int(u.conns.Add(1))
			wg.Go(func() {
				defer c.Close()
				p := &upConn{Conn: c, t: t, n: n, fr: http2.NewFramer(c, c)}
				p.fr.AllowIllegalReads, p.fr.AllowIllegalWrites = true, true
				var pre [24]byte
				if _, err := io.ReadFull(c, pre[:]); err != nil || string(pre[:]) != preface {
					return
				}
				if p.fr.WriteSettings(settings...) == nil {
					serve(p)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return u
}

// next reads one frame, answering SETTINGS and PING; nil at the end.
func (p *upConn) next() http2.Frame {
	f, err := p.fr.ReadFrame()
	if err != nil {
		return nil
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = p.fr.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = p.fr.WritePing(true, f.Data)
		}
	}
	return f
}

// request reads until a request has come whole and returns its stream; 0 at the end.
func (p *upConn) request() uint32 {
	for f := p.next(); f != nil; f = p.next() {
		if h := f.Header(); h.Type <= http2.FrameHeaders && h.Flags.Has(http2.FlagDataEndStream) {
			return h.StreamID
		}
	}
	return 0
}

func (p *upConn) head(id uint32, end bool) {
	_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: end, BlockFragment: AppendIndexed(nil, IndexStatus200)})
}

func (p *upConn) answer(id uint32, body string) {
	p.head(id, false)
	for len(body) > 16_384 {
		_ = p.fr.WriteData(id, false, []byte(body[:16_384]))
		body = body[16_384:]
	}
	_ = p.fr.WriteData(id, true, []byte(body))
}

// drain reads until the client has gone.
func (p *upConn) drain() {
	for f := p.next(); f != nil; f = p.next() {
		continue
	}
}

// honest answers every request with its stream's id.
func (p *upConn) honest() {
	for id := p.request(); id != 0; id = p.request() {
		p.answer(id, strconv.FormatUint(uint64(id), 10))
	}
}

func newTestClient(t testing.TB, address string) *Client {
	t.Helper()
	cl, err := NewClient(ClientConfig{Address: address, DialTimeout: 20 * time.Second}) // a busy machine is no fault
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cl.Close()
		until(t, "connections closed", func() bool { return cl.Conns() == 0 })
	})
	return cl
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

var requestHead = AppendNamed(AppendIndexed(AppendIndexed(nil, IndexMethodPOST), IndexSchemeHTTP), IndexPath, "/")

// ask makes one call and returns the answer's body.
func ask(ctx context.Context, cl *Client, body string) (string, error) {
	c := cl.Get()
	defer cl.Put(c)
	c.Head = append(c.Head, requestHead...)
	c.Body, c.MaxAnswer = []byte(body), 1<<20
	err := cl.Unary(ctx, c)
	return string(c.Data()), err
}

func wantFault(t *testing.T, err error, kind FaultKind, sent bool) {
	t.Helper()
	var f *Fault
	if !errors.As(err, &f) || f.Kind != kind || f.Sent != sent {
		t.Errorf("want %s, sent %v, found %v", faultNames[kind], sent, err)
	}
}

func short(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// Streams above GOAWAY's last id are made again on another connection; those below are finished on the old one.
func TestGoAwayCostsNoCall(t *testing.T) {
	const calls = 10
	u := startUpstream(t, nil, func(p *upConn) {
		if p.n > 1 {
			p.honest()
			return
		}
		var ids []uint32
		for len(ids) < calls {
			ids = append(ids, p.request())
		}
		_ = p.fr.WriteGoAway(ids[calls/2-1], http2.ErrCodeNo, nil)
		for _, id := range ids[:calls/2] {
			p.answer(id, "old")
		}
		for f := p.next(); f != nil; f = p.next() { // and then it is closed
			if h := f.Header(); h.Type == http2.FrameHeaders {
				t.Error("want no call on a connection that is to be left")
			}
		}
	})
	cl := newTestClient(t, u.address)
	var old, renewed atomic.Int64
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			switch got, err := ask(short(t), cl, "x"); {
			case err != nil:
				t.Error(err)
			case got == "old":
				old.Add(1)
			default:
				renewed.Add(1)
			}
		})
	}
	wg.Wait()
	if old.Load() != calls/2 || renewed.Load() != calls/2 || u.conns.Load() != 2 {
		t.Errorf("found %d on the old connection, %d on another of %d", old.Load(), renewed.Load(), u.conns.Load())
	}
	until(t, "the old connection closed", func() bool { return cl.Conns() == 1 })
}

// A server that answers every call with GOAWAY is left after some tries, and nothing has been executed.
func TestGoAwayForEver(t *testing.T) {
	u := startUpstream(t, nil, func(p *upConn) {
		p.request()
		_ = p.fr.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings"))
		p.drain()
	})
	_, err := ask(short(t), newTestClient(t, u.address), "x")
	wantFault(t, err, Refused, false)
	if n := u.conns.Load(); n != tries {
		t.Errorf("want %d tries, found %d", tries, n)
	}
}

func TestRefusedStreamIsNotExecuted(t *testing.T) {
	u := startUpstream(t, nil, func(p *upConn) {
		_ = p.fr.WriteRSTStream(p.request(), http2.ErrCodeRefusedStream)
		_ = p.fr.WriteRSTStream(p.request(), http2.ErrCodeCancel)
		p.honest()
	})
	cl := newTestClient(t, u.address)
	_, err := ask(short(t), cl, "x")
	wantFault(t, err, Refused, false)
	_, err = ask(short(t), cl, "x")
	wantFault(t, err, Reset, true)
	if got, err := ask(short(t), cl, "x"); err != nil || got != "5" || u.conns.Load() != 1 {
		t.Errorf("want the connection to go on, found %q, %v", got, err)
	}
}

// A server that takes three streams at a time is given three, others wait or get another connection, and none fails.
func TestMaxConcurrentStreams(t *testing.T) {
	const limit, calls = 3, 300
	u := startUpstream(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: limit}}, func(p *upConn) {
		var open []uint32
		for f := p.next(); f != nil; f = p.next() {
			switch h := f.Header(); {
			case h.Type == http2.FrameData && h.Flags.Has(http2.FlagDataEndStream):
				if open = append(open, h.StreamID); len(open) > limit {
					t.Errorf("found %d streams at once", len(open))
				}
				if len(open) < limit {
					_ = p.fr.WritePing(false, [8]byte{}) // until it is answered, more may come
					continue
				}
			case h.Type != http2.FramePing:
				continue
			}
			for _, id := range open {
				p.answer(id, "x")
			}
			open = nil
		}
	})
	cl := newTestClient(t, u.address)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range calls / 50 {
				if _, err := ask(short(t), cl, "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := u.conns.Load(); n > maxNarrow {
		t.Errorf("found %d connections", n)
	}
}

// A caller that waits for a stream on a full connection leaves with its context, and the place goes to the next.
func TestWaitingForAStreamEndsWithTheContext(t *testing.T) {
	release := make(chan struct{})
	u := startNarrow(t, 1, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}, func(p *upConn) {
		id := p.request()
		<-release
		p.answer(id, "first")
		p.honest()
	})
	cl := newTestClient(t, u.address)
	var wg sync.WaitGroup
	wg.Go(func() {
		if got, err := ask(short(t), cl, "x"); err != nil || got != "first" {
			t.Errorf("found %q, %v", got, err)
		}
	})
	until(t, "the first call is under way", func() bool { return cl.InFlight() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		_, err := ask(ctx, cl, "x")
		wantFault(t, err, Ended, false)
	})
	until(t, "one waits", func() bool { return cl.waiting.Load() == 1 })
	wg.Go(func() {
		if got, err := ask(short(t), cl, "x"); err != nil || got != "3" {
			t.Errorf("found %q, %v", got, err)
		}
	})
	until(t, "two wait", func() bool { return cl.waiting.Load() == 2 })
	cancel()
	until(t, "one has left", func() bool { return cl.waiting.Load() == 1 })
	close(release)
	wg.Wait()
}

// The windows of the server are kept to, through changes of SETTINGS and below zero.
func TestSendingKeepsToTheWindows(t *testing.T) {
	const total = 300_000
	u := startUpstream(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1000}}, func(p *upConn) {
		got, stream, conn := 0, 1000, 65_535
		var id uint32
		step := 0
		for {
			f := p.next()
			if f == nil {
				return
			}
			d, ok := f.(*http2.DataFrame)
			if !ok {
				continue
			}
			id = d.StreamID
			n := int(d.Length)
			got, stream, conn = got+n, stream-n, conn-n
			if stream < 0 || conn < 0 {
				t.Errorf("after %d bytes: stream window %d, connection window %d", got, stream, conn)
			}
			if d.StreamEnded() {
				p.answer(id, strconv.Itoa(got))
				continue
			}
			if stream > 0 && conn > 0 {
				continue
			}
			switch step++; step {
			case 1: // smaller: the stream's window is negative now
				_ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
				stream -= 990
				_ = p.fr.WriteWindowUpdate(id, 2000)
				stream += 2000
			case 2: // larger
				_ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 50_000})
				stream += 49_990
			default:
				if stream <= 0 {
					_ = p.fr.WriteWindowUpdate(id, 40_000)
					stream += 40_000
				}
				if conn <= 0 {
					_ = p.fr.WriteWindowUpdate(0, 30_000)
					conn += 30_000
				}
			}
		}
	})
	got, err := ask(short(t), newTestClient(t, u.address), string(make([]byte, total-5)))
	if err != nil || got != strconv.Itoa(total) {
		t.Errorf("found %q, %v", got, err)
	}
}

// A call that waits for the server's window holds up no other, and ends with its context.
func TestNoWindowHoldsUpItsOwnCallOnly(t *testing.T) {
	u := startUpstream(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 100}}, (*upConn).honest)
	cl := newTestClient(t, u.address)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := ask(ctx, cl, string(make([]byte, 10_000)))
		wantFault(t, err, Ended, true)
	})
	until(t, "it waits", func() bool { return cl.InFlight() == 1 })
	for range 10 {
		if _, err := ask(short(t), cl, "small"); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	if n := cl.InFlight(); n != 0 {
		t.Errorf("found %d streams left", n)
	}
}

// The windows given to the server are given back; a server that sends beyond them loses its stream, or the connection.
func TestReceivingGivesWindowsBack(t *testing.T) {
	const total = 5 << 20
	u := startUpstream(t, nil, func(p *upConn) {
		id := p.request()
		p.head(id, false)
		stream, conn, sent := streamWindow, connWindow, 0
		for sent < total {
			n := min(16_384, stream, conn, total-sent)
			if n == 0 {
				switch f := p.next().(type) {
				case nil:
					return
				case *http2.WindowUpdateFrame:
					if f.StreamID == 0 {
						conn += int(f.Increment)
					} else {
						stream += int(f.Increment)
					}
				}
				continue
			}
			stream, conn, sent = stream-n, conn-n, sent+n
			_ = p.fr.WriteData(id, sent == total, make([]byte, n))
		}
		id = p.request()
		p.head(id, false)
		for range 5 { // 80 KiB where 64 are allowed, and nobody takes them
			_ = p.fr.WriteData(id, false, make([]byte, 16_384))
		}
		p.drain()
	})
	cl := newTestClient(t, u.address)
	c := cl.Get()
	c.Head, c.MaxAnswer = append(c.Head, requestHead...), total
	if err := cl.Unary(short(t), c); err != nil || len(c.Data()) != total {
		t.Fatalf("found %d bytes, %v", len(c.Data()), err)
	}
	cl.Put(c)
	s, err := cl.Open(short(t), requestHead, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	until(t, "the stream is reset", func() bool { return s.s.finished.Load() })
	wantFault(t, s.s.fault, Malformed, true)
	s.Cancel()
}

// A cancelled call is told to the server, and what it answers late is dropped; the connection lives on.
func TestLateAnswersAreDropped(t *testing.T) {
	const calls, rounds = 200, 2 // together more than are remembered
	codes := make(chan http2.ErrCode, calls*rounds)
	u := startUpstream(t, nil, func(p *upConn) {
		var late []uint32
		for len(late) < calls*rounds {
			switch f := p.next().(type) {
			case nil:
				return
			case *http2.RSTStreamFrame:
				codes <- f.ErrCode
				late = append(late, f.StreamID)
			}
		}
		for _, id := range late {
			p.answer(id, "late")
		}
		p.honest()
	})
	cl := newTestClient(t, u.address)
	for range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range calls {
			wg.Go(func() {
				if i%2 == 0 {
					wc := &wire.Context{}
					wc.Reset(t.Context())
					stop := context.AfterFunc(ctx, wc.Cancel)
					defer stop()
					_, err := ask(wc, cl, "x")
					wantFault(t, err, Ended, true)
					return
				}
				_, err := ask(ctx, cl, "x")
				wantFault(t, err, Ended, true)
			})
		}
		until(t, "all wait", func() bool { return cl.InFlight() == calls })
		cancel()
		wg.Wait()
	}
	for range calls * rounds {
		if code := <-codes; code != http2.ErrCodeCancel {
			t.Errorf("want CANCEL, found %v", code)
		}
	}
	for range 20 {
		if got, err := ask(short(t), cl, "x"); err != nil || got == "late" {
			t.Fatalf("found %q, %v", got, err)
		}
	}
	if n := u.conns.Load(); n != 1 {
		t.Errorf("want the connection kept, found %d", n)
	}
}

// An answer that comes before the request has gone out is the answer; the rest of the request is not sent.
func TestEarlyAnswer(t *testing.T) {
	reset := make(chan http2.ErrCode, 1)
	u := startUpstream(t, nil, func(p *upConn) {
		for {
			switch f := p.next().(type) {
			case nil:
				return
			case *http2.HeadersFrame:
				p.answer(f.StreamID, "early")
			case *http2.RSTStreamFrame:
				reset <- f.ErrCode
			}
		}
	})
	got, err := ask(short(t), newTestClient(t, u.address), string(make([]byte, 1<<20)))
	if err != nil || got != "early" {
		t.Errorf("found %q, %v", got, err)
	}
	if code := <-reset; code != http2.ErrCodeNo {
		t.Errorf("found %v", code)
	}
}
