package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http1"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// echoProtocol sends back what it read, with its name before it, and then what comes. It counts what the server asks of it.
type echoProtocol struct {
	name   string
	panics bool
	call   bool // each connection is one call
	sweeps atomic.Int64
	drains atomic.Int64
	states atomic.Pointer[tls.ConnectionState]
}

type echoConn struct {
	p    *echoProtocol
	c    net.Conn
	read []byte
	h    wire.Handler
}

func (p *echoProtocol) NewConn(c net.Conn, read []byte, state *tls.ConnectionState, h wire.Handler) wire.Conn {
	p.states.Store(state)
	return &echoConn{p: p, c: c, read: bytes.Clone(read), h: h}
}

func (e *echoConn) Serve() {
	defer e.c.Close()
	if e.p.panics {
		panic("on purpose")
	}
	if e.p.call {
		e.h.ServeExchange(context.Background(), nil)
		return
	}
	_, _ = e.c.Write(append([]byte(e.p.name+":"), e.read...))
	_, _ = io.Copy(e.c, e.c)
}
func (e *echoConn) Sweep(time.Time) bool { e.p.sweeps.Add(1); return false }
func (*echoConn) Gone()                  {}
func (e *echoConn) Drain()               { e.p.drains.Add(1) }
func (*echoConn) Idle() bool             { return true }
func (e *echoConn) Abort()               { _ = e.c.Close() }

// logged is a log to look at.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// certificate is a TLS configuration with a certificate of its own.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

func TestFindsTheProtocolByItsPreface(t *testing.T) {
	h2 := &echoProtocol{name: "h2"}
	s := server.New(handler(hello), http1.New(http1.Limits{}, nil), h2, server.Options{})
	ln := listen(t)
	run(t, s, ln)
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	c := dial(t, ln.Addr().String())
	send(t, c, preface+"more")
	got := make([]byte, len("h2:"+preface+"more"))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "h2:"+preface+"more" {
		t.Errorf("found %q %v", got, err)
	}
	c = dial(t, ln.Addr().String())
	for i := range len(preface) {
		send(t, c, preface[i:i+1])
		time.Sleep(time.Millisecond)
	}
	if _, err := io.ReadFull(c, got[:len("h2:"+preface)]); err != nil || string(got[:len("h2:"+preface)]) != "h2:"+preface {
		t.Errorf("in pieces: found %q %v", got, err)
	}
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "P", "PRI * HTTP/1.1\r\n"} {
		c = dial(t, ln.Addr().String())
		send(t, c, request)
		want := "HTTP/1.1 200 OK\r\n"
		if request == "P" {
			send(t, c, "UT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		} else if strings.HasPrefix(request, "PRI") {
			send(t, c, "Host: x\r\n\r\n")
			want = "HTTP/1.1 400 "
		}
		if a := readAll(t, c); !strings.HasPrefix(a, want) {
			t.Errorf("%q: want %q, found %q", request, want, a)
		}
	}
}

func TestFindsTheProtocolByALPN(t *testing.T) {
	h2 := &echoProtocol{name: "h2"}
	s := server.New(handler(hello), http1.New(http1.Limits{}, nil), h2, server.Options{TLS: certificate(t)})
	ln := listen(t)
	run(t, s, ln)
	for protocols, want := range map[string]string{"h2": "h2:", "h2,http/1.1": "h2:", "http/1.1": "HTTP/1.1 200 OK\r\n", "": "HTTP/1.1 200 OK\r\n"} {
		var names []string
		if protocols != "" {
			names = strings.Split(protocols, ",")
		}
		c := tls.Client(dial(t, ln.Addr().String()), &tls.Config{InsecureSkipVerify: true, NextProtos: names, MinVersion: tls.VersionTLS12})
		send(t, c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Errorf("%q: want %q, found %q %v", protocols, want, got, err)
		}
		if want == "h2:" && h2.states.Load() == nil {
			t.Error("want the state of the handshake handed on")
		}
		_ = c.Close()
	}
	// With one protocol only, the other is not agreed on.
	_, address := serve(t, hello, server.Options{TLS: certificate(t)})
	c := tls.Client(dial(t, address), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12})
	if err := c.Handshake(); err != nil || c.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Errorf("found %v, %q", err, c.ConnectionState().NegotiatedProtocol)
	}
}

// Clients that do not get so far as to speak a protocol are let go.
func TestHandshakeHasATime(t *testing.T) {
	ln := listen(t)
	run(t, server.New(handler(hello), http1.New(http1.Limits{}, nil), nil, server.Options{TLS: certificate(t), Handshake: 100 * time.Millisecond}), ln)
	plain := listen(t)
	run(t, server.New(handler(hello), http1.New(http1.Limits{}, nil), &echoProtocol{}, server.Options{Handshake: 100 * time.Millisecond}), plain)
	for _, begin := range []struct {
		ln   net.Listener
		text string
	}{{ln, ""}, {ln, "\x16\x03\x01\x02\x00\x01"}, {plain, ""}, {plain, "PRI * HTTP"}} {
		c := dial(t, begin.ln.Addr().String())
		send(t, c, begin.text)
		if a := readAll(t, c); a != "" {
			t.Errorf("%q: want the end alone, found %q", begin.text, a)
		}
	}
	// The time is for the handshake, not for what comes after it. A busy machine may need more than one try.
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	var c net.Conn
	waitFor(t, "a handshake in time", func() bool {
		c = tls.Client(dial(t, ln.Addr().String()), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
		_, err := io.WriteString(c, request)
		if err == nil {
			_, err = c.Read(make([]byte, 1000))
		}
		return err == nil
	})
	time.Sleep(150 * time.Millisecond)
	send(t, c, request)
	if _, err := c.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
}

func TestLimitOfConnections(t *testing.T) {
	var log logged
	s, address := serve(t, hello, server.Options{Conns: 2, Log: slog.New(slog.NewTextHandler(&log, nil))})
	a, b := dial(t, address), dial(t, address)
	waitFor(t, "two connections", func() bool { return s.Conns() == 2 })
	for range 3 {
		c := dial(t, address)
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("want the connection closed, found %v", err)
		}
	}
	if s.Conns() != 2 || s.Accepted() != 2 || strings.Count(log.String(), "too many are open") != 1 {
		t.Errorf("found %d of %d, log %s", s.Conns(), s.Accepted(), &log)
	}
	a.Close()
	waitFor(t, "the connection to end", func() bool { return s.Conns() == 1 })
	c := dial(t, address)
	for _, conn := range []net.Conn{b, c} {
		send(t, conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if text := readAll(t, conn); !strings.HasPrefix(text, "HTTP/1.1 200 ") {
			t.Errorf("found %q", text)
		}
	}
}

// starving is a listener that has no descriptors left for a while.
type starving struct {
	net.Listener
	fails atomic.Int64 // how often it will
	calls atomic.Int64
}

func (s *starving) Accept() (net.Conn, error) {
	s.calls.Add(1)
	if s.fails.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: &os{syscall.EMFILE}}
	}
	return s.Listener.Accept()
}

// os is an error of the system's, one level deeper.
type os struct{ err error }

func (o *os) Error() string { return "accept4: " + o.err.Error() }
func (o *os) Unwrap() error { return o.err }

func TestAcceptPausesWithoutDescriptors(t *testing.T) {
	var log logged
	l := &starving{Listener: listen(t)}
	l.fails.Store(5)
	s := server.New(handler(hello), http1.New(http1.Limits{}, nil), nil, server.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	start := time.Now()
	run(t, s, l)
	c := dial(t, l.Addr().String())
	send(t, c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if a := readAll(t, c); !strings.HasPrefix(a, "HTTP/1.1 200 ") {
		t.Errorf("found %q", a)
	}
	if took := time.Since(start); took < 155*time.Millisecond { // 5 + 10 + 20 + 40 + 80
		t.Errorf("want pauses between the tries, found %s for all", took)
	}
	if n := strings.Count(log.String(), "cannot be accepted"); n != 1 {
		t.Errorf("want it told once, found %s", &log)
	}
	// It stops while it waits, too.
	l.fails.Store(1000)
	c = dial(t, l.Addr().String())
	c2 := dial(t, l.Addr().String()) // at the latest this one meets the fault
	waitFor(t, "a failure", func() bool { return l.calls.Load() > 7 })
	c.Close()
	c2.Close()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// broken is a listener that will not do any more.
type broken struct{ net.Listener }

func (broken) Accept() (net.Conn, error) { return nil, errors.New("broken") }

func TestServeReturnsWhatEndsIt(t *testing.T) {
	s := server.New(handler(hello), http1.New(http1.Limits{}, nil), nil, server.Options{})
	ln := listen(t)
	defer ln.Close()
	if err := s.Serve(broken{ln}); err == nil || err.Error() != "broken" {
		t.Errorf("found %v", err)
	}
	_ = ln.Close()
	if err := s.Serve(ln); err != nil {
		t.Errorf("a closed listener: want nil, found %v", err)
	}
	if err := errors.Join(s.Shutdown(context.Background()), s.Shutdown(context.Background())); err != nil {
		t.Error(err)
	}
	if err := s.Serve(listen(t)); err != nil {
		t.Errorf("after Shutdown: want nil, found %v", err)
	}
}

func TestPanicOfAProtocol(t *testing.T) {
	var log logged
	ln := listen(t)
	s := server.New(handler(hello), &echoProtocol{panics: true}, nil, server.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	run(t, s, ln)
	for range 2 {
		if a := readAll(t, dial(t, ln.Addr().String())); a != "" {
			t.Errorf("found %q", a)
		}
	}
	waitFor(t, "the connections to end", func() bool { return s.Conns() == 0 })
	if s.Panics() != 2 || !strings.Contains(log.String(), "on purpose") {
		t.Errorf("found %d panics, log %s", s.Panics(), &log)
	}
}

// Connections without calls are looked at once a second, those with one each tick, and none costs nothing.
func TestSweepsWhatHasCalls(t *testing.T) {
	p := &echoProtocol{name: "x"}
	end := make(chan struct{})
	s := server.New(handler(func(context.Context, *wire.Exchange) { <-end }), p, nil, server.Options{})
	ln := listen(t)
	run(t, s, ln)
	for range 10 {
		dial(t, ln.Addr().String())
	}
	waitFor(t, "ten connections", func() bool { return s.Conns() == 10 })
	before, from := p.sweeps.Load(), time.Now()
	waitFor(t, "a look at each of ten", func() bool { return p.sweeps.Load() >= before+10 })
	time.Sleep(500 * time.Millisecond)
	n := p.sweeps.Load() - before
	if most := 10 * (1 + int64(time.Since(from)/time.Second)); n > most {
		t.Errorf("want a look at each of ten once a second, %d at the most, found %d", most, n)
	}
	q := &echoProtocol{call: true}
	s2 := server.New(handler(func(context.Context, *wire.Exchange) { <-end }), q, nil, server.Options{})
	ln2 := listen(t)
	run(t, s2, ln2)
	time.Sleep(50 * time.Millisecond) // the sweeper has gone to sleep by the time that the call begins, or not: both will do
	dial(t, ln2.Addr().String())
	waitFor(t, "looks at a call", func() bool { return q.sweeps.Load() > 20 })
	close(end)
}

func TestShutdown(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	s, address := serve(t, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Path == "/wait" {
			began <- struct{}{}
			select {
			case <-end:
			case <-ctx.Done():
			}
			ended <- ctx.Err()
		}
		_ = x.Respond(200, nil, nil)
	}, server.Options{})

	fresh, idle, busy := dial(t, address), dial(t, address), dial(t, address)
	send(t, idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := idle.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	send(t, busy, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	if a := readAll(t, fresh) + readAll(t, idle); a != "" {
		t.Errorf("want idle connections closed, found %q", a)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("want the listener closed")
	}
	select {
	case err := <-done:
		t.Errorf("want Shutdown to wait for the call, found %v", err)
	default:
	}
	close(end)
	if a := readAll(t, busy); !strings.HasPrefix(a, "HTTP/1.1 200 ") || !strings.Contains(a, "\r\nConnection: close\r\n") {
		t.Errorf("want the call to end well, found %q", a)
	}
	busy.Close()
	if err := errors.Join(<-ended, <-done); err != nil {
		t.Error(err)
	}
}

func TestShutdownCutsWhatDoesNotEnd(t *testing.T) {
	for _, tlsConfig := range []*tls.Config{nil, certificate(t)} {
		began, ended := make(chan struct{}), make(chan error, 1)
		s, address := serve(t, func(ctx context.Context, _ *wire.Exchange) {
			began <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
		}, server.Options{TLS: tlsConfig})
		c := dial(t, address)
		if tlsConfig != nil {
			c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
		}
		send(t, c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		<-began
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("want the deadline, found %v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("want the call cancelled, found %v", err)
		}
		// The handler that was cancelled may still have its answer made.
		if raw, err := io.ReadAll(c); err == nil && !strings.HasPrefix(string(raw), "HTTP/1.1 500 ") {
			t.Errorf("want the connection cut, found %q", raw)
		}
		if s.Conns() != 0 {
			t.Errorf("want no connection left, found %d", s.Conns())
		}
	}
}

// A listener that is closed leaves its connections, which go on in all ways.
func TestConnectionsOutliveTheirListener(t *testing.T) {
	ln := listen(t)
	s := server.New(handler(func(ctx context.Context, x *wire.Exchange) {
		x.SetDeadline(time.Now().Add(30 * time.Millisecond))
		<-ctx.Done()
		_ = x.Respond(504, nil, nil)
	}), http1.New(http1.Limits{}, nil), nil, server.Options{})
	run(t, s, ln)
	c := dial(t, ln.Addr().String())
	waitFor(t, "the connection", func() bool { return s.Conns() == 1 })
	_ = ln.Close()
	s.Drain()
	send(t, c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if a := readAll(t, c); !strings.HasPrefix(a, "HTTP/1.1 504 ") {
		t.Errorf("found %q", a)
	}
}

// Many clients come, call, and leave in every way, while the server drains and stops.
func TestComingAndGoing(t *testing.T) {
	s, address := serve(t, func(ctx context.Context, x *wire.Exchange) {
		x.SetDeadline(x.Start.Add(20 * time.Millisecond))
		if strings.HasPrefix(x.HTTP.Path, "/wait") {
			<-ctx.Done()
		}
		_, _ = io.ReadAll(x)
		_ = x.Respond(200, nil, []byte("hello"))
	}, server.Options{Conns: 40})
	var clients sync.WaitGroup
	for i := range 50 {
		clients.Go(func() {
			for j := range 20 {
				c, err := net.Dial("tcp", address)
				if err != nil {
					return // it has stopped
				}
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				switch (i + j) % 5 {
				case 0:
					_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
					_, _ = c.Read(make([]byte, 100))
				case 1:
					_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
					_, _ = c.Read(make([]byte, 100))
				case 2:
					_, _ = io.WriteString(c, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
				case 3:
					_, _ = io.WriteString(c, "nonsense\r\n\r\n")
					_, _ = io.ReadAll(c)
				}
				_ = c.Close()
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	s.Drain()
	time.Sleep(50 * time.Millisecond)
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if s.Conns() != 0 || s.Panics() != 0 {
		t.Errorf("found %d connections and %d panics", s.Conns(), s.Panics())
	}
	clients.Wait()
}
