package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// teller answers every check with an error or a status.
type teller struct {
	healthpb.UnimplementedHealthServer
	status healthpb.HealthCheckResponse_ServingStatus
	err    error
	asked  chan string
	block  bool
}

func (s *teller) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if s.asked != nil {
		s.asked <- r.GetService()
	}
	if s.block {
		<-ctx.Done()
	}
	if s.err != nil {
		return nil, s.err
	}
	return &healthpb.HealthCheckResponse{Status: s.status}, nil
}

// ask probes once with a limit, and says what came out: "" is a pass.
func ask(t *testing.T, p Prober, limit time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := p.Probe(ctx); err != nil {
		return err.Error()
	}
	return ""
}

// TestGRPCAnswers: what servers answer, and what operators read.
func TestGRPCAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		server healthpb.HealthServer // nil: none registered
		check  GRPCCheck
		want   string
	}{
		{"serving", &teller{status: healthpb.HealthCheckResponse_SERVING}, GRPCCheck{}, ""},
		{"a service serves", &teller{status: healthpb.HealthCheckResponse_SERVING}, GRPCCheck{Service: "acme.v1.Books"}, ""},
		{"not serving", &teller{status: healthpb.HealthCheckResponse_NOT_SERVING}, GRPCCheck{}, "the server says that it is NOT_SERVING"},
		{"a service does not serve", &teller{status: healthpb.HealthCheckResponse_NOT_SERVING}, GRPCCheck{Service: "acme.v1.Books"}, `the service "acme.v1.Books" says that it is NOT_SERVING`},
		{"unknown health", &teller{}, GRPCCheck{}, "the server says that its health is UNKNOWN"},
		{"unknown service, by status", &teller{status: healthpb.HealthCheckResponse_SERVICE_UNKNOWN}, GRPCCheck{Service: "x"}, `the server's health service does not know the service "x"`},
		{"a status of tomorrow", &teller{status: 77}, GRPCCheck{}, "the server says that its health is 77, which has no meaning"},
		{"unknown service", grpchealth.NewServer(), GRPCCheck{Service: "x"}, `the server's health service does not know the service "x"`},
		{"no health service", nil, GRPCCheck{}, "the server has no service grpc.health.v1.Health: add it, or have its absence count as up"},
		{"no health service, which is allowed", nil, GRPCCheck{Unimplemented: true}, ""},
		{"unavailable", &teller{err: status.Error(codes.Unavailable, "warming up: 40 %")}, GRPCCheck{}, "the health service answered Unavailable: warming up: 40 %"},
		{"an error", &teller{err: status.Error(codes.Internal, "")}, GRPCCheck{Unimplemented: true}, "the health service answered Internal"},
		{"a long error", &teller{err: status.Error(codes.Aborted, "ä\n"+strings.Repeat("é", 300))}, GRPCCheck{}, "the health service answered Aborted: ä " + strings.Repeat("é", 98) + "…"},
		{"credentials", &teller{err: status.Error(codes.Unauthenticated, "who?")}, GRPCCheck{}, "the server wants credentials for its health service: let checks in without"},
		{"hangs", &teller{block: true}, GRPCCheck{}, "connected, but no answer in time: the process may hang"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			address, _ := serveGRPC(t, tc.server, nil)
			p, err := GRPC(address, tc.check, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			limit := patience
			if tc.name == "hangs" {
				limit = 300 * time.Millisecond
			}
			for range 2 {
				if got := ask(t, p, limit); got != tc.want {
					t.Errorf("want %q, found %q", tc.want, got)
				}
			}
		})
	}
}

// TestGRPCAsksForTheService sends the name as it is, however long.
func TestGRPCAsksForTheService(t *testing.T) {
	t.Parallel()
	s := &teller{status: healthpb.HealthCheckResponse_SERVING, asked: make(chan string, 9)}
	address, _ := serveGRPC(t, s, nil)
	for _, service := range []string{"", "a", strings.Repeat("long.", 200)} {
		p, err := GRPC(address, GRPCCheck{Service: service}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, p, patience); got != "" {
			t.Error(got)
		}
		if got := <-s.asked; got != service {
			t.Errorf("want %q asked for, found %q", service, got)
		}
		p.Close()
	}
	if _, err := GRPC(address, GRPCCheck{Service: strings.Repeat("x", maxService+1)}, nil); err == nil {
		t.Error("want a name without end refused")
	}
}

// counted counts the connections of a listener.
type counted struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *counted) made() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns)
}

// TestGRPCKeepsItsConnection for thousands of probes, beyond the protocol's windows, and makes another when the server closes
// it, which is no failure.
func TestGRPCKeepsItsConnection(t *testing.T) {
	t.Parallel()
	l := &counted{Listener: listen(t)}
	// The server asks whether the client is there all the time, and closes the connection if it is not.
	server := grpc.NewServer(grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Second, Timeout: patience}))
	healthpb.RegisterHealthServer(server, &teller{status: healthpb.HealthCheckResponse_SERVING})
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	defer func() { server.Stop(); <-ended }()
	p, err := GRPC(l.Addr().String(), GRPCCheck{Service: strings.Repeat("s", 200)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := range 800 {
		if got := ask(t, p, patience); got != "" {
			t.Fatalf("probe %d: %s", i, got)
		}
	}
	if n := l.made(); n != 1 {
		t.Errorf("want one connection for 800 probes, found %d", n)
	}
	for range 5 {
		l.mu.Lock()
		last := l.conns[len(l.conns)-1]
		l.mu.Unlock()
		last.Close()
		if got := ask(t, p, patience); got != "" {
			t.Errorf("after the connection was closed: %s", got)
		}
	}
	if n := l.made(); n != 6 {
		t.Errorf("want a new connection for each that was closed, found %d", n)
	}
}

// TestGRPCSurvivesGoaway: a server that ends its connections by age fails no probe.
func TestGRPCSurvivesGoaway(t *testing.T) {
	t.Parallel()
	l := &counted{Listener: listen(t)}
	server := grpc.NewServer(grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 50 * time.Millisecond, MaxConnectionAgeGrace: time.Millisecond}))
	healthpb.RegisterHealthServer(server, &teller{status: healthpb.HealthCheckResponse_SERVING})
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	defer func() { server.Stop(); <-ended }()
	p, err := GRPC(l.Addr().String(), GRPCCheck{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	eventually(t, "5 connections", func() bool {
		if got := ask(t, p, patience); got != "" {
			t.Errorf("a probe while connections end: %s", got)
		}
		return l.made() > 5
	})
}

// TestGRPCRestart: refused while nobody listens, up as soon as somebody does.
func TestGRPCRestart(t *testing.T) {
	t.Parallel()
	address, server := serveGRPC(t, grpchealth.NewServer(), nil)
	p, err := GRPC(address, GRPCCheck{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got := ask(t, p, patience); got != "" {
		t.Fatal(got)
	}
	server.Stop()
	for range 3 {
		if got := ask(t, p, patience); got != "the connection was refused: nothing listens there" {
			t.Errorf("want it refused, found %q", got)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	again := grpc.NewServer()
	healthpb.RegisterHealthServer(again, grpchealth.NewServer())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = again.Serve(l) }()
	defer func() { again.Stop(); <-ended }()
	if got := ask(t, p, patience); got != "" {
		t.Errorf("once it listens again: %s", got)
	}
}

// script answers whatever comes with bytes, and closes.
func script(t testing.TB, answer string, stay bool) (address string) {
	t.Helper()
	l := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				// Not before the request has come: a connection closed with unread bytes is reset.
				b := make([]byte, 4096)
				if _, err := conn.Read(b); err != nil && answer == "" {
					return
				}
				_, _ = io.WriteString(conn, answer)
				if stay {
					_, _ = io.Copy(io.Discard, conn)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// frames are bytes of HTTP/2.
func frames(t testing.TB, write func(f *http2.Framer, head func(...string) []byte)) string {
	t.Helper()
	var b, block bytes.Buffer
	f := http2.NewFramer(&b, nil)
	f.AllowIllegalWrites = true
	encoder := hpack.NewEncoder(&block)
	write(f, func(fields ...string) []byte {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true})
		}
		return bytes.Clone(block.Bytes())
	})
	return b.String()
}

func heads(id uint32, block []byte, end bool) http2.HeadersFrameParam {
	return http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end}
}

// TestGRPCOddAnswers are those of servers that are broken or something else.
func TestGRPCOddAnswers(t *testing.T) {
	t.Parallel()
	serving := string([]byte{0, 0, 0, 0, 2, 8, 1})
	full := func(message string, trailer ...string) string {
		return frames(t, func(f *http2.Framer, head func(...string) []byte) {
			_ = f.WriteSettings()
			_ = f.WriteHeaders(heads(1, head(":status", "200", "content-type", "application/grpc+proto"), false))
			_ = f.WriteData(1, false, []byte(message))
			_ = f.WriteHeaders(heads(1, head(trailer...), true))
		})
	}
	for _, tc := range []struct{ name, answer, want string }{
		{"nothing", "", "the other side closed the connection during the answer"},
		{"HTTP/1", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "what answered does not speak HTTP/2 as it should: "},
		{"noise", strings.Repeat("\x00\x00\x01\x77\x00\x00\x00\x00\x00z", 20000), "the answer is too long"},
		{"good", full(serving, "grpc-status", "0"), ""},
		{"no status", full(serving, "x", "0"), "the answer has no grpc-status"},
		{"a status that is none", full(serving, "grpc-status", "-1"), "the answer has no grpc-status"},
		{"a status of tomorrow", full(serving, "grpc-status", "99", "grpc-message", "ol%C3%A9 %zz%"), "the health service answered Code(99): olé %zz%"},
		{"no message", full("", "grpc-status", "0"), "the answer is no HealthCheckResponse: want one message, found 0 bytes that are none"},
		{"half a message", full(serving[:6], "grpc-status", "0"), "the answer is no HealthCheckResponse: want one message, found 6 bytes that are none"},
		{"two messages", full(serving+serving, "grpc-status", "0"), "the answer is no HealthCheckResponse: want one message, found 14 bytes that are none"},
		{"compressed", full("\x01\x00\x00\x00\x02\x08\x01", "grpc-status", "0"), "the answer is no HealthCheckResponse: it is compressed, though no compression was offered"},
		{"malformed", full("\x00\x00\x00\x00\x02\x08\xff", "grpc-status", "0"), "the answer is no HealthCheckResponse: unexpected EOF"},
		{"other fields", full("\x00\x00\x00\x00\x06\x12\x02hi\x08\x01", "grpc-status", "0"), ""},
		{"endless", full(strings.Repeat("x", 5000), "grpc-status", "0"), "the answer is too long"},
		{"a web page", frames(t, func(f *http2.Framer, head func(...string) []byte) {
			_ = f.WriteHeaders(heads(1, head(":status", "200", "content-type", "text/html"), true))
		}), `what answered is not gRPC: its content-type is "text/html"`},
		{"not found", frames(t, func(f *http2.Framer, head func(...string) []byte) {
			_ = f.WriteHeaders(heads(1, head(":status", "404"), true))
		}), "what answered is HTTP with status 404, not gRPC"},
		{"an early word", frames(t, func(f *http2.Framer, head func(...string) []byte) {
			_ = f.WriteHeaders(heads(1, head(":status", "103"), false))
			_ = f.WriteHeaders(heads(1, head(":status", "200", "content-type", "application/grpc", "grpc-status", "12"), true))
		}), "the server has no service grpc.health.v1.Health: add it, or have its absence count as up"},
		{"reset", frames(t, func(f *http2.Framer, _ func(...string) []byte) {
			_ = f.WriteRSTStream(1, http2.ErrCodeInternal)
		}), "the server broke the call off with INTERNAL_ERROR"},
		{"refused", frames(t, func(f *http2.Framer, _ func(...string) []byte) {
			_ = f.WriteRSTStream(1, http2.ErrCodeRefusedStream)
		}), "the server closed the connection before it took the call"},
		{"leaves", frames(t, func(f *http2.Framer, _ func(...string) []byte) {
			_ = f.WriteSettings()
			_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
		}), "the server closed the connection before it took the call"},
		{"cut", full(serving, "grpc-status", "0")[:40], "the other side closed the connection during the answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := GRPC(script(t, tc.answer, false), GRPCCheck{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			for range 2 {
				if got := ask(t, p, patience); got != tc.want && (tc.name != "HTTP/1" || !strings.HasPrefix(got, tc.want)) {
					t.Errorf("want %q, found %q", tc.want, got)
				}
			}
		})
	}
}

// TestGRPCOverTLS, and the ways in which that fails.
func TestGRPCOverTLS(t *testing.T) {
	t.Parallel()
	server, pool, _ := certificate(t, "books.example", time.Hour)
	address, _ := serveGRPC(t, &teller{status: healthpb.HealthCheckResponse_SERVING}, server)
	plain, _ := serveGRPC(t, &teller{status: healthpb.HealthCheckResponse_SERVING}, nil)
	old := server.Clone()
	old.NextProtos = []string{"http/1.1"}
	noH2 := serveTLS(t, old)
	for _, tc := range []struct {
		name, address string
		tls           *tls.Config
		want          string
	}{
		{"good", address, &tls.Config{RootCAs: pool, ServerName: "books.example", MinVersion: tls.VersionTLS12}, ""},
		{"another name", address, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, `the certificate is not for the name "127.0.0.1"`},
		{"plain server", plain, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, "TLS was wanted, and what answered speaks none"},
		{"no HTTP/2", noH2, &tls.Config{RootCAs: pool, ServerName: "books.example", MinVersion: tls.VersionTLS12}, "the other side broke TLS off: tls: no application protocol"},
		{"plain client", address, nil, "the other side closed the connection during the answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := GRPC(tc.address, GRPCCheck{}, tc.tls)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			for range 2 {
				if got := ask(t, p, patience); got != tc.want {
					t.Errorf("want %q, found %q", tc.want, got)
				}
			}
		})
	}
}

// memoryConn answers with bytes and takes whatever it is told.
type memoryConn struct {
	net.Conn
	in  bytes.Reader
	out bytes.Buffer
}

func (c *memoryConn) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *memoryConn) Write(b []byte) (int, error) { return c.out.Write(b) }
func (c *memoryConn) Close() error                { return nil }
func (c *memoryConn) SetDeadline(time.Time) error { return nil }

// TestH2GrantsWindow: what answers took of the window is granted again, and PING and SETTINGS are answered.
func TestH2GrantsWindow(t *testing.T) {
	t.Parallel()
	const calls = 40
	message := make([]byte, 2000)
	conn := &memoryConn{}
	conn.in.Reset([]byte(frames(t, func(f *http2.Framer, head func(...string) []byte) {
		_ = f.WriteSettings()
		for i := range uint32(calls) {
			_ = f.WriteHeaders(heads(2*i+1, head(":status", "200", "content-type", "application/grpc"), false))
			_ = f.WritePing(false, [8]byte{byte(i)})
			_ = f.WriteData(2*i+1, false, message)
			_ = f.WriteHeaders(heads(2*i+1, head("grpc-status", "0"), true))
		}
	})))
	c := newH2(&oneByOne{memoryConn: conn})
	for i := range calls {
		a, _, err := c.call(nil, []byte{0, 0, 0, 0, 0})
		if err != nil || a.status != "0" || len(a.body) != len(message) {
			t.Fatalf("call %d: found %+v, %v", i, a, err)
		}
	}
	conn.out.Next(len(http2.ClientPreface))
	framer := http2.NewFramer(nil, &conn.out)
	granted, pongs, settled := uint32(0), 0, 0
	for f, err := framer.ReadFrame(); err == nil; f, err = framer.ReadFrame() {
		switch f := f.(type) {
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				granted += f.Increment
			}
		case *http2.PingFrame:
			pongs++
		case *http2.SettingsFrame:
			if f.IsAck() {
				settled++
			}
		}
	}
	if took := uint32(calls * len(message)); granted > took || took-granted > ownWindow/2 {
		t.Errorf("want the %d bytes taken granted again but for the last, found %d", took, granted)
	}
	if pongs != calls || settled != 1 {
		t.Errorf("want %d PINGs and one SETTINGS answered, found %d and %d", calls, pongs, settled)
	}
}

// oneByOne ends each read with a frame's end, as a server does that waits for the next call.
type oneByOne struct {
	*memoryConn
	left int
}

func (c *oneByOne) Read(b []byte) (int, error) {
	if c.left == 0 {
		var head [9]byte
		n, err := c.in.Read(head[:])
		if err != nil || n < len(head) {
			return 0, io.EOF
		}
		_, _ = c.in.Seek(int64(-n), io.SeekCurrent)
		c.left = n + int(head[0])<<16 + int(head[1])<<8 + int(head[2])
	}
	n, err := c.in.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// FuzzGRPCAnswer has a server send anything to two probes in a row; whoever is said to serve said so.
func FuzzGRPCAnswer(f *testing.F) {
	good := frames(f, func(f *http2.Framer, head func(...string) []byte) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
		_ = f.WriteSettingsAck()
		for id := uint32(1); id < 5; id += 2 {
			_ = f.WritePing(false, [8]byte{1})
			_ = f.WriteWindowUpdate(0, 7)
			_ = f.WriteHeaders(heads(id, head(":status", "200", "content-type", "application/grpc"), false))
			_ = f.WriteData(id, false, []byte{0, 0, 0, 0, 2, 8, 1})
			_ = f.WriteHeaders(heads(id, head("grpc-status", "0", "grpc-message", "%41"), true))
		}
		_ = f.WriteGoAway(3, http2.ErrCodeNo, []byte("bye"))
	})
	f.Add([]byte(good))
	f.Add([]byte(good[:len(good)/2]))
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := GRPC("a:1", GRPCCheck{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		g, _ := p.(*grpcProber)
		conn := &memoryConn{}
		conn.in.Reset(b)
		g.conn = newH2(conn)
		for range 2 {
			a, keep, err := g.conn.call(g.head, g.body)
			if err != nil {
				err = g.broken(t.Context(), err)
			} else {
				err = g.verdict(a)
				var want healthpb.HealthCheckResponse
				serves := len(a.body) >= 5 && proto.Unmarshal(a.body[5:], &want) == nil && want.GetStatus() == healthpb.HealthCheckResponse_SERVING
				if framed := len(a.body) >= 5 && a.body[0] == 0 && len(a.body)-5 == int(binary.BigEndian.Uint32(a.body[1:])); framed && a.status == "0" && a.http == "200" && a.content == "application/grpc" && serves != (err == nil) {
					t.Errorf("%x: want up %v, found %v", a.body, serves, err)
				}
				if !serves && err == nil {
					t.Errorf("%x: up, though it does not serve", a.body)
				}
			}
			if err != nil && (err.Error() == "" || len(err.Error()) > 1000) {
				t.Errorf("want a reason of some length, found %q", err)
			}
			if !keep {
				break
			}
		}
	})
}
