package http1_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http1"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// best holds a promise about time on a machine that has other things to do: never early, and the shortest of some tries in
// time. As long as none is, there are more tries.
func best(t *testing.T, what string, promised time.Duration, tries int, try func(i int) time.Duration) {
	t.Helper()
	var times []time.Duration
	shortest, begun := time.Duration(math.MaxInt64), time.Now()
	for i := 0; i < tries || shortest > promised && time.Since(begun) < 30*time.Second && !t.Failed(); i++ {
		d := try(i)
		times = append(times, d)
		shortest = min(shortest, d)
		if d < 0 {
			t.Errorf("%s: %s too early", what, -d)
		}
	}
	t.Logf("%s: %s", what, times)
	if shortest > promised {
		t.Errorf("%s: want it within %s, found %s at best", what, promised, shortest)
	}
}

// told is a waiter that notes when it was told.
type told struct{ at chan time.Time }

func (w told) ContextEnded() { w.at <- time.Now() }

func TestDeadline(t *testing.T) {
	const tries, after = 8, 105 * time.Millisecond
	for _, how := range []string{"done", "await", "body"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, u setup) {
				late := make(chan time.Duration, 1)
				_, address := u.serve(t, handler(func(ctx context.Context, x *wire.Exchange) {
					x.SetDeadline(x.Start.Add(after))
					switch how {
					case "done":
						<-ctx.Done()
					case "await":
						w := told{make(chan time.Time, 1)}
						wc := ctx.(*wire.Context)
						if !wc.Await(w) {
							t.Error("want a place to wait")
						}
						<-w.at
						wc.Forget()
					case "body":
						if _, err := io.ReadAll(x); !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("want the deadline, found %v", err)
						}
					}
					late <- time.Since(x.Start) - after
					if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
						t.Errorf("want the deadline, found %v", ctx.Err())
					}
					_ = x.Respond(504, nil, nil)
				}))
				c := u.dial(t, address)
				best(t, "deadline", 20*time.Millisecond, tries, func(int) time.Duration {
					if how == "body" {
						c = u.dial(t, address) // with the body unread the connection has ended
						c.send(post + "Content-Length: 10\r\n\r\nabc")
					} else {
						c.send(get + "\r\n")
					}
					if resp, _ := c.answer("GET"); resp.StatusCode != 504 {
						t.Errorf("want 504, found %v", resp)
					}
					return <-late
				})
			})
		})
	}
}

// A sweeper that has had nothing to do for long is awake for the next call at once.
func TestDeadlineAfterIdleTime(t *testing.T) {
	t.Parallel()
	_, address := setup{}.serve(t, handler(func(ctx context.Context, x *wire.Exchange) {
		x.SetDeadline(x.Start.Add(30 * time.Millisecond))
		<-ctx.Done()
		_ = x.Respond(504, nil, []byte(time.Since(x.Start).String()))
	}))
	c := setup{}.dial(t, address)
	best(t, "deadline", 20*time.Millisecond, 3, func(int) time.Duration {
		time.Sleep(2100 * time.Millisecond) // beyond the time that a connection is looked at each tick
		c.send(get + "\r\n")
		took, err := time.ParseDuration(c.body("GET"))
		if err != nil {
			t.Fatal(err)
		}
		return took - 30*time.Millisecond
	})
}

func TestDeparture(t *testing.T) {
	const tries = 4
	leave := map[string]func(c *client) error{
		"close":    func(c *client) error { return c.Close() },
		"half":     func(c *client) error { return c.tcp.CloseWrite() },
		"reset":    func(c *client) error { return errors.Join(c.tcp.SetLinger(0), c.tcp.Close()) },
		"pipeline": func(c *client) error { return c.tcp.CloseWrite() },
	}
	for how, leave := range leave {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, u setup) {
				began, ended := make(chan struct{}), make(chan time.Time)
				_, address := u.serve(t, handler(func(ctx context.Context, _ *wire.Exchange) {
					began <- struct{}{}
					<-ctx.Done()
					ended <- time.Now()
					if !errors.Is(ctx.Err(), context.Canceled) {
						t.Errorf("want the call cancelled, found %v", ctx.Err())
					}
				}))
				best(t, "departure", 100*time.Millisecond, tries, func(i int) time.Duration {
					c := u.dial(t, address)
					defer c.Close()
					c.send(get + "\r\n")
					if how == "pipeline" {
						c.send(get + "\r\n" + get)
					}
					<-began
					time.Sleep(time.Duration(i%2) * 120 * time.Millisecond) // the call is young, or has been looked at for long
					left := time.Now()
					if err := leave(c); err != nil {
						t.Fatal(err)
					}
					return (<-ended).Sub(left)
				})
			})
		})
	}
}

// A client that is there is not taken for one that has gone.
func TestStayingIsNoDeparture(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, u setup) {
		_, address := u.serve(t, handler(func(ctx context.Context, x *wire.Exchange) {
			wait := time.NewTimer(300 * time.Millisecond)
			defer wait.Stop()
			select {
			case <-ctx.Done():
				t.Error("want the call to go on")
			case <-wait.C:
			}
			_ = x.Respond(200, nil, nil)
		}))
		c := u.dial(t, address)
		c.send(get + "\r\n" + get + "\r\n")
		c.answer("GET")
		c.answer("GET")
	})
}

// hidden is a connection that shows no descriptor, as on systems where the kernel cannot be asked.
type hidden struct{ net.Conn }

type hiding struct{ net.Listener }

func (h hiding) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	return hidden{c}, err
}

func TestDepartureWithoutDescriptor(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, u setup) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		began, ended := make(chan struct{}), make(chan struct{})
		s := server.New(handler(func(ctx context.Context, x *wire.Exchange) {
			if x.HTTP.Path == "/wait" {
				began <- struct{}{}
				<-ctx.Done()
				ended <- struct{}{}
				return
			}
			wait := 150 * time.Millisecond // long enough to be looked at, and for the byte to have come
			if x.HTTP.Path == "/early" {
				wait = 80 * time.Millisecond
			}
			time.Sleep(wait)
			body, err := io.ReadAll(x)
			if err != nil {
				t.Error(err)
			}
			_ = x.Respond(200, nil, body)
		}), http1.New(http1.Limits{}, nil), nil, server.Options{TLS: u.tls})
		done := make(chan error, 1)
		go func() { done <- s.Serve(hiding{ln}) }()
		c := u.dial(t, ln.Addr().String())
		for _, path := range []string{"/early", "/", "/early", "/"} {
			c.send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
			time.Sleep(100 * time.Millisecond) // the byte read ahead is the body's first
			c.send("hello")
			if _, body := c.answer("POST"); body != "hello" {
				t.Errorf("found %q", body)
			}
		}
		c.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
		<-began
		c.tcp.Close()
		<-ended
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestSlowClients(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, u setup) {
		// Each has a server of its own, with no limit that a busy machine could come to besides the one in question.
		try := func(name string, lim http1.Limits, h wire.Handler, client func(t *testing.T, c *client, ref *refusals)) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var ref refusals
				u := setup{limits: lim, refused: &ref, tls: u.tls}
				_, address := u.serve(t, h)
				client(t, u.dial(t, address), &ref)
			})
		}
		try("head", http1.Limits{Head: time.Second}, &recorder{}, func(t *testing.T, c *client, ref *refusals) {
			c.send(get)
			if a := c.rest(); !strings.HasPrefix(a, "HTTP/1.1 408 ") || ref.last() != "408 REQUEST_TIMEOUT" {
				t.Errorf("want 408, found %q, %s", a, ref.last())
			}
		})
		try("head, byte by byte", http1.Limits{Head: time.Second}, &recorder{}, func(t *testing.T, c *client, _ *refusals) {
			go func() {
				for {
					if _, err := c.Write([]byte("G")); err != nil {
						return // it was time
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
			if a := c.rest(); !strings.HasPrefix(a, "HTTP/1.1 408 ") {
				t.Errorf("want 408, found %q", a)
			}
			c.Close()
		})
		try("first byte", http1.Limits{Head: 300 * time.Millisecond}, &recorder{}, func(t *testing.T, c *client, _ *refusals) {
			if u.tls != nil {
				c.send("") // the handshake
			}
			if a := c.rest(); a != "" {
				t.Errorf("want the end alone, found %q", a)
			}
		})
		try("idle", http1.Limits{Idle: 300 * time.Millisecond}, &recorder{}, func(t *testing.T, c *client, _ *refusals) {
			c.send(get + "\r\n")
			c.answer("GET")
			if a := c.rest(); a != "" {
				t.Errorf("want the end alone, found %q", a)
			}
		})
		slow := http1.Limits{BodyGrace: 200 * time.Millisecond, BodyRate: 1000}
		try("body", slow, &recorder{}, func(t *testing.T, c *client, _ *refusals) {
			c.send(post + "Content-Length: 100000\r\n\r\nabc")
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					if _, err := c.Write([]byte("a")); err != nil {
						return // it was time
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
			resp, body := c.answer("POST")
			if resp.StatusCode != 408 || body != "the request body came too slowly" || !resp.Close {
				t.Errorf("want 408, found %v %q", resp, body)
			}
			c.Close()
			<-done
		})
		try("body that may be slow", slow, handler(func(_ context.Context, x *wire.Exchange) {
			x.Engine().(interface{ SlowBody() }).SlowBody()
			body, err := io.ReadAll(x)
			if err != nil {
				t.Error(err)
			}
			_ = x.Respond(200, nil, body)
		}), func(t *testing.T, c *client, _ *refusals) {
			c.send(post + "Content-Length: 2\r\n\r\na")
			time.Sleep(400 * time.Millisecond)
			c.send("b")
			if resp, body := c.answer("POST"); resp.StatusCode != 200 || body != "ab" {
				t.Errorf("want 200, found %v %q", resp, body)
			}
		})
		// Longer than the grace, and faster than the rate by what a busy machine may stop for.
		try("body fast enough", http1.Limits{BodyGrace: time.Second, BodyRate: 100}, &recorder{}, func(t *testing.T, c *client, _ *refusals) {
			c.send(post + "Content-Length: 10000\r\n\r\n")
			for range 10 {
				c.send(strings.Repeat("a", 1000))
				time.Sleep(130 * time.Millisecond)
			}
			if resp, body := c.answer("POST"); resp.StatusCode != 200 || len(body) != 10_000 {
				t.Errorf("want 200, found %v %d", resp, len(body))
			}
		})
	})
}

// A client that does not take its answer is cut, and the call that writes it ends.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, u setup) {
		u.limits = http1.Limits{Write: 300 * time.Millisecond}
		ended := make(chan error, 1)
		var streamed atomic.Bool
		s, address := u.serve(t, handler(func(ctx context.Context, x *wire.Exchange) {
			large := make([]byte, 1<<20)
			if !streamed.Load() {
				ended <- x.Respond(200, nil, make([]byte, 64<<20))
				return
			}
			err := x.WriteHead(200, nil)
			for err == nil {
				err = x.Write(large)
			}
			if ctx.Err() == nil {
				t.Error("want the context ended")
			}
			ended <- err
		}))
		for range 2 {
			c := u.dial(t, address)
			c.send(get + "\r\n")
			if err := <-ended; err == nil {
				t.Error("want an error")
			}
			c.Close()
			streamed.Store(true)
		}
		waitFor(t, "the connections to end", func() bool { return s.Conns() == 0 })
	})
}

// A deadline that passes just when the body comes ends that call or none: the connection lives on with the next request.
func TestDeadlineRacesWithBody(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, u setup) {
		_, address := u.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
			if x.HTTP.Method == "POST" {
				x.SetDeadline(x.Start.Add(10 * time.Millisecond))
			}
			_, err := io.ReadAll(x)
			if err != nil {
				_ = x.Respond(504, nil, nil)
				return
			}
			_ = x.Respond(200, nil, nil)
		}))
		c := u.dial(t, address)
		kept := 0
		for i := range 150 {
			c.send(post + "Content-Length: 2\r\n\r\na")
			time.Sleep(9*time.Millisecond + time.Duration(i%30)*300*time.Microsecond)
			c.send("b")
			resp, _ := c.answer("POST")
			if resp.Close {
				c.Close()
				c = u.dial(t, address)
				continue
			}
			kept++
			c.send(get + "\r\n")
			if resp, _ := c.answer("GET"); resp.StatusCode != 200 {
				t.Errorf("want 200, found %v", resp)
			}
		}
		t.Logf("%d of 150 connections lived on", kept)
	})
}

// The context is the connection's, and used again unless somebody took notice of it.
func TestContextIsUsedAgain(t *testing.T) {
	var kept []context.Context
	_, address := setup{}.serve(t, handler(func(ctx context.Context, x *wire.Exchange) {
		kept = append(kept, ctx)
		if x.HTTP.Path == "/notice" {
			ctx.Done()
		}
		if ctx.Err() != nil {
			t.Error(ctx.Err())
		}
		_ = x.Respond(200, nil, nil)
	}))
	c := setup{}.dial(t, address)
	for _, path := range []string{"/", "/notice", "/", "/"} {
		c.send(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path))
		c.answer("GET")
	}
	if kept[0] != kept[1] || kept[1] == kept[2] || kept[2] != kept[3] {
		t.Errorf("found %p", kept)
	}
	if !errors.Is(kept[1].Err(), context.Canceled) {
		t.Errorf("want the noticed one ended with its exchange, found %v", kept[1].Err())
	}
}

// 5,000 clients (in short 200) that send a byte of a head, or of a body, every 5 s are gone after 11 s, and others are served
// meanwhile. The server, a process of its own, grows by less than 100 MiB.
func TestProofSlowloris(t *testing.T) {
	t.Parallel()
	full := os.Getenv("CAUSEWAY_PROOF") != ""
	clients, limit := 200, 40*time.Second // for machines that have other things to do
	if full {
		clients, limit = 5000, 15*time.Second // 11 s and what a busy machine adds
	}
	for _, tc := range []struct{ name, first string }{
		{"heads", "G"},
		{"bodies", post + "Content-Length: 900\r\n\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !full {
				t.Parallel()
			}
			slowloris(t, clients, limit, tc.name, tc.first)
		})
	}
}

func slowloris(t *testing.T, clients int, limit time.Duration, name, first string) {
	p := startPeer(t, "http1", 0)
	canary := setup{}.dial(t, p.address)
	canary.send(call)
	canary.answer("POST")
	_, before, _ := p.used()
	var open atomic.Int32
	start := time.Now()
	for range clients {
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		open.Add(1)
		go func() {
			defer open.Add(-1)
			defer conn.Close()
			for next := first; ; next = "x" {
				if _, err := io.WriteString(conn, next); err != nil {
					return // it was time
				}
				if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
					return // as above
				}
			}
		}()
	}
	dialled := time.Since(start)
	if err := canary.SetDeadline(start.Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	var worst time.Duration
	most := before
	for open.Load() > 0 {
		at := time.Now()
		canary.send(call)
		canary.answer("POST")
		worst = max(worst, time.Since(at))
		_, now, _ := p.used()
		most = max(most, now)
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(start)
	t.Logf("PROOF slow %s: %d dialled in %s, all gone after %s; the canary waited %s at most; the server grew by %d MiB",
		name, clients, dialled, took, worst, (most-before)>>20)
	if took > dialled+limit {
		t.Errorf("want them gone 11 s after the last came, found %s", took-dialled)
	}
	if most-before >= 100<<20 && !raceEnabled {
		t.Errorf("want the server to grow by less than 100 MiB, found %d bytes", most-before)
	}
	waitFor(t, "the connections to end", func() bool { _, _, conns := p.used(); return conns == 1 })
}
