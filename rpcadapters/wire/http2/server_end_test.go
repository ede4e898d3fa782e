package http2

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// What ends a call ends its context, what waits for its body, and what waits to write.
func TestServerCancel(t *testing.T) {
	for name, end := range map[string]func(r *raw, s *listening){
		"RST_STREAM":        func(r *raw, _ *listening) { r.must(r.fr.WriteRSTStream(1, http2.ErrCodeCancel)) },
		"connection closed": func(r *raw, _ *listening) { _ = r.conn.Close() },
		"connection reset": func(r *raw, _ *listening) {
			_ = r.conn.(*net.TCPConn).SetLinger(0)
			_ = r.conn.Close()
		},
		"a fault": func(r *raw, _ *listening) { r.data(0, false, "x") },
		"abort":   func(_ *raw, s *listening) { s.one(t).Abort() },
		"gone":    func(_ *raw, s *listening) { s.one(t).Gone() },
	} {
		for _, waits := range []string{"done", "read", "write", "after"} {
			t.Run(name+"/"+waits, func(t *testing.T) {
				in, out := make(chan struct{}), make(chan error, 1)
				s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
					switch waits {
					case "done":
						close(in)
						<-ctx.Done()
					case "after":
						c := make(chan struct{})
						context.AfterFunc(ctx, func() { close(c) })
						close(in)
						<-c
					case "read":
						close(in)
						_, err := io.ReadAll(x)
						if err == nil {
							t.Error("want the body cut off, found its end")
						}
					case "write":
						close(in)
						if err := x.Respond(200, nil, make([]byte, 10<<20)); err == nil {
							t.Error("want the answer cut off, found it sent")
						}
					}
					out <- ctx.Err()
				})
				r := dialRaw(t, s.address)
				r.stingy = true
				r.headers(1, false, post()...)
				<-in
				if waits == "write" {
					r.until("the beginning of an answer", func() bool { return len(r.answer(1).body) > 0 })
				}
				end(r, s)
				if err := <-out; !errors.Is(err, context.Canceled) {
					t.Errorf("want the context cancelled, found %v", err)
				}
			})
		}
	}
}

// Deadlines hold to 20 ms on a machine that has nothing else to do, and an answer that says so goes out.
func TestServerDeadline(t *testing.T) {
	const timeout = 50 * time.Millisecond
	late := make(chan time.Duration, 1)
	s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		due := time.Now().Add(timeout)
		x.SetDeadline(due)
		var err error
		switch x.HTTP.Path {
		case "/read":
			_, err = io.ReadAll(x)
		case "/write":
			_ = x.WriteHead(200, nil)
			for err == nil {
				err = x.Write(make([]byte, 100_000))
			}
		default:
			<-ctx.Done()
			err = ctx.Err()
		}
		late <- time.Since(due)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("%s: want the deadline exceeded, found %v and %v", x.HTTP.Path, err, ctx.Err())
		}
		if x.Status() == 0 {
			_ = x.Respond(504, nil, []byte("late"))
		}
	})
	for _, path := range []string{"/read", "/write", "/wait"} {
		for begun := time.Now(); ; {
			r := dialRaw(t, s.address)
			r.stingy = true
			r.headers(1, false, ":method", "POST", ":scheme", "http", ":path", path, ":authority", "x")
			if path == "/write" {
				r.wantReset(1, http2.ErrCodeInternal)
			} else {
				r.wantAnswer(1, "504")
			}
			_ = r.conn.Close()
			d := <-late
			t.Logf("%s: noticed %v after the deadline", path, d)
			if d < 0 {
				t.Errorf("%s: noticed too early", path)
			}
			if d <= 20*time.Millisecond {
				break
			}
			if time.Since(begun) > 30*time.Second {
				t.Fatalf("%s: want it noticed within 20 ms, found none of many tries that was", path)
			}
		}
	}
}

func TestServerDrain(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, Limits{}, nil, func(_ context.Context, x *wire.Exchange) {
		<-release
		_ = x.Respond(200, nil, nil)
	})
	r := dialRaw(t, s.address)
	r.headers(1, true, get()...)
	r.sync()
	c := s.one(t)
	c.Drain()
	c.Drain()
	r.headers(3, true, get()...) // opened before the client knows: it is taken up
	r.until("two GOAWAYs", func() bool { return len(r.goAways) == 2 })
	if r.goAways[0] != http2.ErrCodeNo || r.goAways[1] != http2.ErrCodeNo || r.lastID != 3 {
		t.Errorf("want NO_ERROR twice and the last stream 3, found %v and %d", r.goAways, r.lastID)
	}
	r.headers(5, true, get()...) // not any more
	r.data(5, true, "")
	r.sync()
	close(release)
	r.wantAnswer(1, "200")
	r.wantAnswer(3, "200")
	for r.read() {
	}
	if !errors.Is(r.ended, io.EOF) || len(r.goAways) != 2 || len(r.resets) != 0 || r.answers[5] != nil {
		t.Errorf("want the connection closed politely, found %v, %v, %v", r.ended, r.goAways, r.resets)
	}
	_ = r.conn.Close()
	eventually(t, "no connection", func() bool { return len(s.list()) == 0 })
	// One that has not begun is greeted first.
	r = silentRaw(t, dialTCP(t, s.address))
	eventually(t, "a connection that has not begun", func() bool { return len(s.list()) == 1 })
	s.one(t).Drain()
	r.send([]byte(preface))
	r.must(r.fr.WriteSettings())
	r.until("SETTINGS", func() bool { return r.settings != nil })
	r.headers(1, true, get()...)
	r.wantAnswer(1, "200")
	r.wantGoAway(http2.ErrCodeNo)
	if len(r.goAways) != 2 {
		t.Errorf("found %v", r.goAways)
	}
	_ = r.conn.Close()
	eventually(t, "no connection", func() bool { return len(s.list()) == 0 })
	// A connection without calls goes at once.
	r = dialRaw(t, s.address)
	eventually(t, "the second connection alone", func() bool { return len(s.list()) == 1 })
	c = s.one(t)
	if !c.Idle() {
		t.Error("want an idle connection")
	}
	c.Drain()
	if c.Idle() {
		t.Error("want no idle connection while the client does not know")
	}
	r.wantGoAway(http2.ErrCodeNo)
	_ = r.conn.Close()
	eventually(t, "no connection", func() bool { return len(s.list()) == 0 })
}

// Everything that a client leaves undone ends.
func TestServerTimeouts(t *testing.T) {
	const short = 100 * time.Millisecond
	t.Parallel()
	dial := func(t *testing.T, address string) *raw {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		return silentRaw(t, conn)
	}
	early := serve(t, Limits{HeadTimeout: short}, nil, hello)
	t.Run("nothing", func(t *testing.T) { dial(t, early.address).wantGoAway(http2.ErrCodeSettingsTimeout) })
	t.Run("half a preface", func(t *testing.T) {
		r := dial(t, early.address)
		r.send([]byte(preface[:10]))
		r.wantGoAway(http2.ErrCodeSettingsTimeout)
	})
	t.Run("no SETTINGS", func(t *testing.T) {
		r := dial(t, early.address)
		r.silent = true
		r.send([]byte(preface))
		r.wantGoAway(http2.ErrCodeSettingsTimeout)
	})
	// What comes before these has to come in time, on a busy machine too.
	late := serve(t, Limits{HeadTimeout: 5 * short}, nil, hello)
	greeted := func(t *testing.T, s *listening) (r *raw) {
		t.Helper()
		eventually(t, "a connection that was made in time", func() bool {
			r = dial(t, s.address)
			r.send([]byte(preface))
			_ = r.fr.WriteSettings() // a failed write shows in what is read
			for r.settings == nil || r.acks == 0 {
				if !r.read() {
					return false
				}
			}
			return len(r.goAways) == 0
		})
		return r
	}
	t.Run("a header block without end", func(t *testing.T) {
		r := greeted(t, late)
		block := r.block(get()...)
		r.must(r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:3]}))
		r.wantGoAway(http2.ErrCodeEnhanceYourCalm)
	})
	t.Run("half a frame", func(t *testing.T) {
		r := greeted(t, late)
		r.send([]byte{0, 0, 10, byte(http2.FrameHeaders)})
		r.wantGoAway(http2.ErrCodeEnhanceYourCalm)
	})
	t.Run("idle", func(t *testing.T) {
		s := serve(t, Limits{IdleTimeout: 5 * short}, nil, hello)
		eventually(t, "an answer before the connection was idle for too long", func() bool {
			r := greeted(t, s)
			r.headers(1, true, get()...)
			for !r.answer(1).ended {
				if !r.read() {
					return false
				}
			}
			r.wantGoAway(http2.ErrCodeNo)
			return r.answer(1).status() == "200"
		})
	})
	t.Run("old", func(t *testing.T) {
		s := serve(t, Limits{MaxAge: short}, nil, hello)
		r := dialRaw(t, s.address)
		r.wantGoAway(http2.ErrCodeNo)
	})
	t.Run("a window that stays shut", func(t *testing.T) {
		done := make(chan error, 1)
		s := serve(t, Limits{WriteTimeout: short}, nil, func(ctx context.Context, x *wire.Exchange) {
			if x.HTTP.Method == "GET" {
				hello(ctx, x)
				return
			}
			done <- x.Respond(200, nil, make([]byte, 100_000))
		})
		r := dialRaw(t, s.address)
		r.stingy = true
		r.headers(1, true, post()...)
		r.wantReset(1, http2.ErrCodeCancel)
		if err := <-done; !errors.Is(err, errStuck) {
			t.Errorf("found %v", err)
		}
		r.must(r.fr.WriteWindowUpdate(0, 1<<20))
		r.headers(3, true, get()...)
		r.wantAnswer(3, "200")
	})
	t.Run("a window that opens by drops", func(t *testing.T) {
		done := make(chan error, 1)
		s := serve(t, Limits{WriteTimeout: short}, nil, func(_ context.Context, x *wire.Exchange) {
			done <- x.Respond(200, nil, make([]byte, 100_000))
		})
		r := dialRaw(t, s.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		r.stingy = true
		r.headers(1, true, post()...)
		for drops := 0; r.resets[1] == 0; drops++ {
			r.sync()
			_ = r.fr.WriteWindowUpdate(1, 1)
			time.Sleep(5 * time.Millisecond)
		}
		if err := <-done; !errors.Is(err, errStuck) {
			t.Errorf("found %v", err)
		}
	})
	t.Run("a socket that is not read", func(t *testing.T) {
		done := make(chan error, 1)
		s := serve(t, Limits{WriteTimeout: short}, nil, func(_ context.Context, x *wire.Exchange) {
			done <- x.Respond(200, nil, make([]byte, 64<<20))
		})
		r := dialRaw(t, s.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		r.must(r.fr.WriteWindowUpdate(0, 1<<30))
		r.headers(1, true, get()...)
		if err := <-done; err == nil {
			t.Error("want the answer cut off, found it sent")
		}
		eventually(t, "the connection cut", func() bool { return len(s.list()) == 0 })
	})
}

// Reading is ended from another goroutine.
func TestServerStopRead(t *testing.T) {
	in, out := make(chan *wire.Exchange), make(chan error)
	s := serve(t, Limits{}, nil, func(_ context.Context, x *wire.Exchange) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 10)
			_, err := x.Read(b)
			for err == nil {
				_, err = x.Read(b)
			}
			out <- err
			_, err = x.Read(b)
			out <- err
		}()
		in <- x
		<-done
		_ = x.Respond(200, nil, nil)
	})
	r := dialRaw(t, s.address)
	r.headers(1, false, post()...)
	r.data(1, false, "abc")
	x := <-in
	x.StopRead()
	for range 2 {
		if err := <-out; !errors.Is(err, errStopped) {
			t.Errorf("found %v", err)
		}
	}
	r.wantAnswer(1, "200")
}

// A piece that did not go out at all leaves room for trailers that say so, and for no other end.
func TestServerLostPiece(t *testing.T) {
	for _, trailer := range []rpc.Metadata{nil, {{Key: "grpc-status", Value: "4"}}} {
		s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
			x.SetDeadline(time.Now().Add(10 * time.Millisecond))
			<-ctx.Done()
			_ = x.WriteHead(200, nil)
			if err := x.Write(make([]byte, 100_000)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("found %v", err)
			}
			if err := x.End(trailer); errors.Is(err, errTorn) != (trailer == nil) {
				t.Errorf("found %v", err)
			}
		})
		r := dialRaw(t, s.address)
		r.headers(1, true, get()...)
		if trailer == nil {
			r.wantReset(1, http2.ErrCodeInternal)
		} else if a := r.wantAnswer(1, "200"); field(a.trailer, "grpc-status") != "4" || len(a.body) != 0 {
			t.Errorf("found %v and %d bytes", a.trailer, len(a.body))
		}
	}
}

// A piece that a deadline cut in two is not followed by an end that would make it look whole.
func TestServerTornAnswer(t *testing.T) {
	s := serve(t, Limits{}, nil, func(_ context.Context, x *wire.Exchange) {
		x.SetDeadline(time.Now().Add(20 * time.Millisecond))
		_ = x.WriteHead(200, nil)
		if err := x.Write(make([]byte, 100_000)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("found %v", err)
		}
		if err := x.End(rpc.Metadata{{Key: "grpc-status", Value: "4"}}); !errors.Is(err, errTorn) {
			t.Errorf("found %v", err)
		}
	})
	r := dialRaw(t, s.address)
	r.stingy = true
	r.headers(1, true, get()...)
	r.wantReset(1, http2.ErrCodeInternal)
}
