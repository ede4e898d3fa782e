package server_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http1"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler is an exchange's handler as a function.
type handler func(ctx context.Context, x *wire.Exchange)

func (h handler) ServeExchange(ctx context.Context, x *wire.Exchange) { h(ctx, x) }

// serve starts a server of HTTP/1.1 on loopback, which the test's end shuts down.
func serve(t testing.TB, h handler, o server.Options) (*server.Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(h, http1.New(http1.Limits{}, nil), nil, o)
	run(t, s, ln)
	return s, ln.Addr().String()
}

// run has s serve ln until the test ends.
func run(t testing.TB, s *server.Server, ln net.Listener) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // cuts what a failed test left
		if err := <-done; err != nil {
			t.Errorf("Serve: want nil after Shutdown, found %v", err)
		}
	})
}

// dial opens a connection that the test's end closes, and on which nothing waits for ever.
func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, conn net.Conn) string {
	t.Helper()
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("%v after %q", err, raw)
	}
	return string(raw)
}

// waitFor waits for a condition.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

var discard = slog.New(slog.DiscardHandler)

func hello(_ context.Context, x *wire.Exchange) {
	_ = x.Respond(200, rpc.Metadata{{Key: "content-type", Value: "text/plain"}}, []byte("hello"))
}

func TestServesClientsOfTheStandardLibrary(t *testing.T) {
	s, address := serve(t, hello, server.Options{Log: discard})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Get("http://" + address + "/a")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "hello" || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/plain" || resp.Header.Get("Date") == "" {
			t.Errorf("found %v %q %v", resp, body, err)
		}
		_ = resp.Body.Close()
	}
	if s.Conns() != 1 || s.Accepted() != 1 {
		t.Errorf("want one connection, found %d of %d", s.Conns(), s.Accepted())
	}
}

func TestDrainAsksClientsToLeave(t *testing.T) {
	s, address := serve(t, hello, server.Options{})
	conn := dial(t, address)
	send(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	buf := make([]byte, 1000)
	n, err := conn.Read(buf)
	if err != nil || strings.Contains(string(buf[:n]), "Connection: close") {
		t.Fatalf("before: want the connection kept, found %q %v", buf[:n], err)
	}
	s.Drain()
	send(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if a := readAll(t, conn); !strings.Contains(a, "\r\nConnection: close\r\n") {
		t.Errorf("after: want the client asked to leave, found %q", a)
	}
	conn.Close()
	waitFor(t, "the connection to end", func() bool { return s.Conns() == 0 })
}
