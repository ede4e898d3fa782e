package framed

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// readFrame reads one frame; nil: the end.
func readFrame(t *testing.T, c net.Conn) []byte {
	t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		if err != io.EOF {
			t.Errorf("want the end, found %v", err)
		}
		return nil
	}
	n, err := framing{}.Length(head[:])
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	copy(b, head[:])
	if _, err := io.ReadFull(c, b[4:]); err != nil {
		t.Fatal(err)
	}
	return b
}

// speak connects and sends frames.
func speak(t *testing.T, addr string, frames ...*text) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	var out []byte
	for i, f := range frames {
		out = f.AppendFrame(out, uint32(i+1))
	}
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// began waits until calls with n contents have begun.
func (e *echo) began(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		e.mu.Lock()
		seen := len(e.seen)
		e.mu.Unlock()
		if seen >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d calls have begun, want %d", seen, n)
		}
	}
}

// TestHalfClosed: a client that has closed its side gets the answers of its calls, and then the end.
func TestHalfClosed(t *testing.T) {
	for name, leave := range map[string]Frame{"without a word": nil, "asked": &text{'l', nil}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slow := leave != nil
			e := &echo{release: make(chan struct{})}
			_, addr := serve(t, ServerConfig{Service: e, Leave: leave, Unasked: time.Minute}, server.Options{})
			c := speak(t, addr, unary("slow"), unary("slow"))
			e.began(t, 2)
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if slow { // for long enough to be asked whether it is there
				if f := readFrame(t, c); f == nil || f[4] != 'l' {
					t.Fatalf("want a word, found %q", f)
				}
				if f := readFrame(t, c); f == nil || f[4] != 'l' {
					t.Fatalf("want another word, found %q", f)
				}
			}
			close(e.release)
			answers := 0
			for {
				f := readFrame(t, c)
				if f == nil {
					break
				}
				if f[4] == 'u' && string(f[headLen:]) == "slow" {
					answers++
				}
			}
			if answers != 2 {
				t.Errorf("want 2 answers, found %d", answers)
			}
		})
	}
}

// TestGone: the calls of a client that has gone altogether end, and so do those of one that leaves in the middle of a frame,
// that has streams, or that cannot be asked.
func TestGone(t *testing.T) {
	leave := &text{'l', nil}
	for name, c := range map[string]struct {
		leave Frame
		close func(c *net.TCPConn)
		more  *text
	}{
		"closed":            {leave, func(c *net.TCPConn) { _ = c.Close() }, nil},
		"reset":             {leave, func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() }, nil},
		"in a frame":        {leave, func(c *net.TCPConn) { _, _ = c.Write([]byte{0, 0, 1}); _ = c.CloseWrite() }, nil},
		"with a stream":     {leave, func(c *net.TCPConn) { _ = c.CloseWrite() }, ofStream("x")},
		"without that word": {nil, func(c *net.TCPConn) { _ = c.CloseWrite() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &echo{}
			_, addr := serve(t, ServerConfig{Service: e, Leave: c.leave}, server.Options{})
			frames := []*text{unary("wait")}
			if c.more != nil {
				frames = append(frames, c.more)
			}
			conn := speak(t, addr, frames...)
			e.began(t, 1)
			if c.more != nil {
				if f := readFrame(t, conn); f == nil || f[4] != 's' {
					t.Fatalf("want the stream begun, found %q", f)
				}
			}
			c.close(conn)
			for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
				e.mu.Lock()
				ended := e.ended
				e.mu.Unlock()
				if ended == 1 {
					return
				}
				if time.Now().After(end) {
					t.Fatal("the call did not end")
				}
			}
		})
	}
}

// TestHalfClosedShutdown: a server that stops for good waits for such calls no longer than for others.
func TestHalfClosedShutdown(t *testing.T) {
	e := &echo{}
	s, addr := serve(t, ServerConfig{Service: e, Leave: &text{'l', nil}}, server.Options{})
	c := speak(t, addr, unary("wait"))
	e.began(t, 1)
	_ = c.CloseWrite()
	if f := readFrame(t, c); f == nil || f[4] != 'l' {
		t.Fatalf("want a word, found %q", f)
	}
	s.Drain()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Shutdown(now) // that a call was cut is what was asked for
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended != 1 {
		t.Errorf("want the call ended, found %d", e.ended)
	}
}

// TestGoneIsHeard: the calls of a client that has gone altogether end soon: after 60 ms on a machine that has nothing else to do.
func TestGoneIsHeard(t *testing.T) {
	e := &echo{}
	_, addr := serve(t, ServerConfig{Service: e, Leave: &text{'l', nil}}, server.Options{})
	best := time.Hour
	for n, begun := 1, time.Now(); best > 300*time.Millisecond; n++ {
		conn := speak(t, addr, unary("wait"))
		e.began(t, n)
		left := time.Now()
		_ = conn.Close()
		for ended := 0; ended < n; time.Sleep(time.Millisecond) {
			e.mu.Lock()
			ended = e.ended
			e.mu.Unlock()
			if time.Since(begun) > time.Minute {
				t.Fatalf("want the call ended within 300 ms, found %v at best", best)
			}
		}
		best = min(best, time.Since(left))
	}
	t.Logf("the call has ended after %v", best.Round(time.Millisecond))
}
