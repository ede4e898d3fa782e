package nethttp

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler is an exchange's handler as a function.
type handler func(ctx context.Context, x *wire.Exchange)

func (h handler) ServeExchange(ctx context.Context, x *wire.Exchange) { h(ctx, x) }

func serve(t *testing.T, h handler) (*Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	s := New(h, nil, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // cuts what a failed test left
		if err := <-done; err != nil {
			t.Errorf("Serve: want nil after Shutdown, found %v", err)
		}
	})
	return s, ln.Addr().String()
}

// raw sends bytes and returns all that comes back until the connection ends.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address) //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it is over
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("%v after %q", err, answer)
	}
	return string(answer)
}

func TestExchangeOfARequest(t *testing.T) {
	var got wire.Exchange
	var body string
	_, address := serve(t, func(_ context.Context, x *wire.Exchange) {
		got = *x
		got.HTTP.Header = slices.Clone(x.HTTP.Header)
		raw, err := io.ReadAll(x)
		if err != nil {
			t.Error(err)
		}
		body = string(raw)
		if err := x.Respond(201, rpc.Metadata{{Key: "x-a", Value: "1"}, {Key: "x-a", Value: "2"}}, []byte("hello")); err != nil {
			t.Error(err)
		}
		if err := x.Respond(500, nil, nil); err != nil || x.Status() != 201 {
			t.Errorf("a second answer: want it ignored, found %v and status %d", err, x.Status())
		}
		if in, out := x.Bytes(); in != 3 || out != 5 {
			t.Errorf("bytes: want 3 in and 5 out, found %d and %d", in, out)
		}
	})
	answer := raw(t, address, "POST /a%2Fb//c?x=1&y HTTP/1.1\r\nHost: API.Example.com.:8080\r\nX-One: a\r\nX-One: b\r\nX-Odd-Name: c\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc")
	if !strings.HasPrefix(answer, "HTTP/1.1 201 ") || !strings.HasSuffix(answer, "\r\n\r\nhello") || strings.Count(answer, "X-A: ") != 2 || !strings.Contains(answer, "Content-Length: 5\r\n") {
		t.Errorf("found %q", answer)
	}
	h := got.HTTP
	if h.Method != "POST" || h.Path != "/a%2Fb//c" || h.Query != "x=1&y" || h.Host != "api.example.com" || h.Scheme != "http" || got.ContentLength != 3 || body != "abc" {
		t.Errorf("found %+v, length %d, body %q", h, got.ContentLength, body)
	}
	if h.Header.Count("x-one") != 2 || h.Header.Get("x-odd-name") != "c" || !got.Peer.Addr().IsLoopback() || got.Start.IsZero() {
		t.Errorf("found header %v, peer %v, start %v", h.Header, got.Peer, got.Start)
	}
}

func TestDrainAsksClientsToLeave(t *testing.T) {
	s, address := serve(t, func(_ context.Context, x *wire.Exchange) { _ = x.Respond(200, nil, nil) })
	client := &http.Client{Transport: &http.Transport{}}
	get := func() bool {
		resp, err := client.Get("http://" + address + "/") //nolint:noctx // on loopback
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // empty
		return resp.Close
	}
	if get() {
		t.Error("before: want the connection kept")
	}
	if s.Conns() != 1 || s.Accepted() != 1 {
		t.Errorf("want one connection, found %d of %d", s.Conns(), s.Accepted())
	}
	s.Drain()
	if !get() {
		t.Error("after: want the client asked to leave")
	}
	for s.Conns() != 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestOptionsStarIsAnExchange(t *testing.T) {
	_, address := serve(t, func(_ context.Context, x *wire.Exchange) { _ = x.Respond(418, nil, []byte(x.HTTP.Path)) })
	if a := raw(t, address, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(a, "HTTP/1.1 418 ") || !strings.HasSuffix(a, "*") {
		t.Errorf("found %q", a)
	}
}

func TestTargetAndHost(t *testing.T) {
	for uri, want := range map[string][2]string{
		"/":                   {"/", ""},
		"/a?b?c":              {"/a", "b?c"},
		"/a#b":                {"/a#b", ""},
		"http://h/a?b":        {"/a", "b"},
		"http://h":            {"/", ""},
		"http://h?b":          {"/", "b"},
		"*":                   {"*", ""},
		"//h/a":               {"//h/a", ""},
		"/http://other/x?y=z": {"/http://other/x", "y=z"},
	} {
		if path, query := target(uri); path != want[0] || query != want[1] {
			t.Errorf("%s: want %q, found %q %q", uri, want, path, query)
		}
	}
	for h, want := range map[string]string{
		"a": "a", "A.b:80": "a.b", "a.": "a", "a.:80": "a", "[::1]": "[::1]", "[::1]:80": "[::1]", "": "", "127.0.0.1:8080": "127.0.0.1",
	} {
		if got := host(h); got != want {
			t.Errorf("%s: want %q, found %q", h, want, got)
		}
	}
}

// Whatever the target, path and query are parts of it.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/", "/a?b", "http://h/a?b", "://", "a://?", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		path, query := target(uri)
		if whole := path + "?" + query; path != "/" && !strings.Contains(uri, path) || !strings.HasSuffix(uri, query) || strings.Contains(path, "?") {
			t.Errorf("%q became %q", uri, whole)
		}
	})
}
