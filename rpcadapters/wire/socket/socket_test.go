package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// pair is two ends of one connection of TCP.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // the loopback
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil { //nolint:noctx // the loopback
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b
}

func TestReadWrite(t *testing.T) {
	a, b := pair(t)
	w, r := NewWriter(a), NewReader(b)
	if w == nil || r == io.Reader(b) {
		t.Skip("no plain sockets on this platform")
	}
	want := []byte(strings.Repeat("0123456789abcdef", 1<<12))
	got := make(chan []byte, 1)
	go func() {
		all, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		got <- all
	}()
	for rest := want; len(rest) > 0; {
		n, err := w.Write(rest[:min(len(rest), 1000)])
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if n, err := w.Write(nil); n != 0 || err != nil {
		t.Errorf("an empty write: %d, %v", n, err)
	}
	if n, err := r.Read(nil); n != 0 || err != nil {
		t.Errorf("an empty read: %d, %v", n, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("%d bytes came, want the %d that were written", len(all), len(want))
	}
}

// A peer that does not read makes Write return early, and not wait.
func TestWriteTakesNoMore(t *testing.T) {
	a, _ := pair(t)
	w := NewWriter(a)
	if w == nil {
		t.Skip("no plain sockets on this platform")
	}
	p := make([]byte, 1<<20)
	for sent := 0; sent < 1<<30; {
		n, err := w.Write(p)
		if err != nil {
			t.Fatal(err)
		}
		if sent += n; n < len(p) {
			if n, err = w.Write(p[:1]); n > 1 || err != nil {
				t.Errorf("a write to a full socket: %d, %v", n, err)
			}
			return
		}
	}
	t.Error("a peer that does not read has taken 1 GiB")
}

// What ends a Read of the connection's own ends this one.
func TestReadEnds(t *testing.T) {
	past := time.Unix(1, 0)
	tests := []struct {
		name string
		end  func(a, b net.Conn) error
		want func(error) bool
	}{
		{"deadline", func(_, b net.Conn) error { return b.SetReadDeadline(past) }, func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
		{"closed", func(_, b net.Conn) error { return b.Close() }, func(err error) bool { return errors.Is(err, net.ErrClosed) }},
		{"end", func(a, _ net.Conn) error { return a.Close() }, func(err error) bool { return errors.Is(err, io.EOF) }},
		{"reset", func(a, _ net.Conn) error { return errors.Join(a.(*net.TCPConn).SetLinger(0), a.Close()) }, func(err error) bool {
			var call *os.SyscallError
			return errors.As(err, &call) && call.Syscall == "read"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := pair(t)
			r := NewReader(b)
			if r == io.Reader(b) {
				t.Skip("no plain sockets on this platform")
			}
			got := make(chan error, 1)
			go func() {
				_, err := r.Read(make([]byte, 16))
				got <- err
			}()
			if err := tt.end(a, b); err != nil {
				t.Fatal(err)
			}
			if err := <-got; !tt.want(err) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	t.Run("after a deadline", func(t *testing.T) {
		a, b := pair(t)
		r := NewReader(b)
		_ = b.SetReadDeadline(past)
		if _, err := r.Read(make([]byte, 16)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		_ = b.SetReadDeadline(time.Time{})
		if _, err := a.Write([]byte("on")); err != nil {
			t.Fatal(err)
		}
		var got [16]byte
		if n, err := r.Read(got[:]); err != nil || string(got[:n]) != "on" {
			t.Errorf("read %q, %v", got[:n], err)
		}
	})
}

func TestWriteFails(t *testing.T) {
	a, _ := pair(t)
	w := NewWriter(a)
	if w == nil {
		t.Skip("no plain sockets on this platform")
	}
	if err := a.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var call *os.SyscallError
	if _, err := w.Write([]byte("x")); !errors.As(err, &call) {
		t.Errorf("the error is %v, want the system call's", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the error is %v, want that of a closed connection", err)
	}
}

// Whatever is no plain socket is left to itself.
func TestNotplain(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if NewReader(a) != io.Reader(a) || NewWriter(a) != nil || plain(a) != nil {
		t.Error("a pipe is taken for a socket")
	}
}

func TestAllocs(t *testing.T) {
	a, b := pair(t)
	w, r := NewWriter(a), NewReader(b)
	if w == nil {
		t.Skip("no plain sockets on this platform")
	}
	p := make([]byte, 512)
	if n := testing.AllocsPerRun(100, func() {
		if n, err := w.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		if n, err := r.Read(p); n == 0 || err != nil {
			t.Fatal(n, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a write and a read, want none", n)
	}
}
