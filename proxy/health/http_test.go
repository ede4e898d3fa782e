package health

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestHTTPAnswers: what servers answer, and what operators read.
func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, answer string
		check        HTTPCheck
		want         string
	}{
		{"fine", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", HTTPCheck{}, ""},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", HTTPCheck{}, ""},
		{"until the end", "HTTP/1.0 200 OK\r\n\r\nall of it", HTTPCheck{Contains: "of it"}, ""},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", HTTPCheck{Contains: "ok"}, ""},
		{"head", "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n", HTTPCheck{Method: "HEAD"}, ""},
		{"after early words", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", HTTPCheck{}, ""},
		{"down", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", HTTPCheck{}, "the answer has status 503; wanted is 200-299"},
		{"a redirect", "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", HTTPCheck{}, "the answer has status 302; wanted is 200-299"},
		{"a redirect that is wanted", "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", HTTPCheck{Statuses: []StatusRange{{200, 200}, {300, 399}}}, ""},
		{"none of several", "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", HTTPCheck{Statuses: []StatusRange{{200, 200}, {204, 204}, {401, 403}}}, "the answer has status 500; wanted is 200, 204 or 401-403"},
		{"early words without end", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50), HTTPCheck{}, "the answer has status 103; wanted is 200-299"},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\n\r\n", HTTPCheck{}, "the answer has status 101; wanted is 200-299"},
		{"not contained", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfail", HTTPCheck{Contains: "ok"}, `the answer has status 200, but its body does not contain "ok"`},
		{"contained too late", "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", maxBody+1) + "ok", HTTPCheck{Contains: "ok"}, `the answer has status 200, but its body does not contain "ok"`},
		{"a long body", "HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + strings.Repeat("x", 2*maxBody), HTTPCheck{}, ""},
		{"a cut body", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", HTTPCheck{}, "the other side closed the connection during the answer"},
		{"a cut head", "HTTP/1.1 200 OK\r\nX: y\r\n", HTTPCheck{}, "the other side closed the connection during the answer"},
		{"nothing", "", HTTPCheck{}, "the other side closed the connection during the answer"},
		{"a long head", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead), HTTPCheck{}, "the head of the answer is longer than 16384 bytes"},
		{"noise", "\x15\x03\x01\x00\x02\x02\x46\r\n", HTTPCheck{}, `what answered does not speak HTTP/1: malformed HTTP response "\x15\x03\x01\x00\x02\x02F"`},
		{"another version", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", HTTPCheck{}, `what answered does not speak HTTP/1 but "HTTP/2.0"`},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", HTTPCheck{}, `what answered does not speak HTTP/1: bad Content-Length "x"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := HTTP(script(t, tc.answer, false), tc.check, nil)
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
	for _, tc := range []struct{ name, answer string }{
		{"silent", ""},
		{"half a head", "HTTP/1.1 200 OK\r\n"},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := HTTP(script(t, tc.answer, true), HTTPCheck{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if got, want := ask(t, p, 300*time.Millisecond), "connected, but no answer in time: the process may hang"; got != want {
				t.Errorf("want %q, found %q", want, got)
			}
		})
	}
}

// TestHTTPRequests are as they were configured.
func TestHTTPRequests(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	l := listen(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", r.UserAgent(), " ", r.ContentLength)
	}))
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	address := l.Addr().String()
	for _, tc := range []struct {
		check HTTPCheck
		want  string
	}{
		{HTTPCheck{}, "GET / " + address + " causeway-health 0"},
		{HTTPCheck{Method: "HEAD", Path: "/healthz?full=1", Host: "books.example"}, "HEAD /healthz?full=1 books.example causeway-health 0"},
		{HTTPCheck{Method: "OPTIONS", Path: "/%20"}, "OPTIONS /%20 " + address + " causeway-health 0"},
	} {
		p, err := HTTP(address, tc.check, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := ask(t, p, patience); got != "" {
				t.Error(got)
			}
			if got := <-seen; got != tc.want {
				t.Errorf("want %q, found %q", tc.want, got)
			}
		}
		p.Close()
	}
}

// TestHTTPKeepsItsConnection where the server does, and takes a closed one for no failure.
func TestHTTPKeepsItsConnection(t *testing.T) {
	t.Parallel()
	l := &counted{Listener: listen(t)}
	var last atomic.Bool
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if last.Load() {
			w.Header().Set("Connection", "close")
		}
		_, _ = io.WriteString(w, "fine")
	}))
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	p, err := HTTP(l.Addr().String(), HTTPCheck{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	probe := func(times, made int) {
		t.Helper()
		for range times {
			if got := ask(t, p, patience); got != "" {
				t.Error(got)
			}
		}
		if n := l.made(); n != made {
			t.Errorf("want %d connections, found %d", made, n)
		}
	}
	probe(100, 1)
	for i := range 5 {
		l.mu.Lock()
		conn := l.conns[len(l.conns)-1]
		l.mu.Unlock()
		conn.Close()
		probe(1, 2+i)
	}
	last.Store(true)
	probe(3, 6+2)
}

// TestHTTPFaults are found when a configuration is loaded.
func TestHTTPFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		check HTTPCheck
		want  string
	}{
		{HTTPCheck{Method: "GET", Path: "/a?b=%20", Host: "a.example:8080", Statuses: []StatusRange{{200, 599}}, Contains: "x"}, ""},
		{HTTPCheck{Method: "POST"}, `health: want the method GET, HEAD or OPTIONS, found "POST"`},
		{HTTPCheck{Path: "healthz"}, `health: want a path that begins with / and has what is not printable ASCII percent-encoded, found "healthz"`},
		{HTTPCheck{Path: "/a b"}, `health: want a path that begins with / and has what is not printable ASCII percent-encoded, found "/a b"`},
		{HTTPCheck{Path: "/a\r\nX: y"}, `health: want a path that begins with / and has what is not printable ASCII percent-encoded, found "/a  X: y"`},
		{HTTPCheck{Path: "/é"}, `health: want a path that begins with / and has what is not printable ASCII percent-encoded, found "/é"`},
		{HTTPCheck{Host: "a\r\nb"}, `health: want a name for the host, found "a  b"`},
		{HTTPCheck{Statuses: []StatusRange{{100, 200}}}, "health: want statuses from 200 to 599, the lower first, found 100-200"},
		{HTTPCheck{Statuses: []StatusRange{{300, 200}}}, "health: want statuses from 200 to 599, the lower first, found 300-200"},
		{HTTPCheck{Method: "HEAD", Contains: "x"}, "health: the answer to HEAD has no body that could contain anything: use GET"},
	} {
		got := ""
		if err := tc.check.Fault(); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%+v: want %q, found %q", tc.check, tc.want, got)
		}
		if _, err := HTTP("a:1", tc.check, nil); (err == nil) != (tc.want == "") {
			t.Errorf("%+v: want HTTP to refuse what Fault finds, found %v", tc.check, err)
		}
	}
	for _, address := range []string{"", "a", "a:", "a:0", "a:65536", "a:b", "::1:80"} {
		_, err1 := HTTP(address, HTTPCheck{}, nil)
		_, err2 := GRPC(address, GRPCCheck{}, nil)
		_, err3 := TCP(address, nil)
		want := fmt.Sprintf("health: want an address like host:port, found %q", address)
		for _, err := range []error{err1, err2, err3} {
			if err == nil || err.Error() != want {
				t.Errorf("want %q, found %v", want, err)
			}
		}
	}
}

// TestTLS: HTTP and TCP over TLS, and the ways in which that fails.
func TestTLS(t *testing.T) {
	t.Parallel()
	config, pool, _ := certificate(t, "books.example", time.Hour)
	expired, expiredPool, _ := certificate(t, "books.example", -time.Hour)
	web := func(c *tls.Config) string {
		l := listen(t)
		s := &http.Server{ReadHeaderTimeout: time.Minute, TLSConfig: c, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = s.ServeTLS(l, "", "") }()
		t.Cleanup(func() { s.Close(); <-ended })
		return l.Addr().String()
	}
	good, old := web(config), web(expired)
	plain := script(t, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", false)
	mute := script(t, "", true)
	name := func(name string) *tls.Config {
		return &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS12}
	}
	for _, tc := range []struct {
		name, address string
		tls           *tls.Config
		limit         time.Duration
		want          string
	}{
		{"good", good, name("books.example"), patience, ""},
		{"another name", good, name("other.example"), patience, `the certificate is not for the name "other.example"`},
		{"nobody's", good, &tls.Config{ServerName: "books.example", MinVersion: tls.VersionTLS12}, patience, "the certificate is signed by nobody whom the gateway trusts"},
		{"expired", old, &tls.Config{RootCAs: expiredPool, ServerName: "books.example", MinVersion: tls.VersionTLS12}, patience, "the certificate has expired or is not valid yet"},
		{"no TLS there", plain, name("books.example"), patience, "TLS was wanted, and what answered speaks none"},
		{"mute", mute, name("books.example"), 300 * time.Millisecond, "connected, but the TLS handshake did not end in time: the process may hang, or speak no TLS"},
	} {
		for kind, dial := range map[string]Dial{
			"http": func() (Prober, error) { return HTTP(tc.address, HTTPCheck{}, tc.tls) },
			"tcp":  func() (Prober, error) { return TCP(tc.address, tc.tls) },
		} {
			t.Run(kind+" "+tc.name, func(t *testing.T) {
				t.Parallel()
				p, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				for range 2 {
					if got := ask(t, p, tc.limit); got != tc.want {
						t.Errorf("want %q, found %q", tc.want, got)
					}
				}
			})
		}
	}
}

// TestTCP connects, and says why it could not.
func TestTCP(t *testing.T) {
	t.Parallel()
	l := listen(t)
	closed := listen(t)
	nobody := closed.Addr().String()
	closed.Close()
	for _, tc := range []struct {
		name, address string
		want          string
	}{
		{"listens", l.Addr().String(), ""},
		{"nobody listens", nobody, "the connection was refused: nothing listens there"},
		{"no such name", "no-such-name.invalid:80", `the name "no-such-name.invalid" `},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := TCP(tc.address, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if got := ask(t, p, patience); got != tc.want && (tc.name != "no such name" || !strings.HasPrefix(got, tc.want) && !strings.HasPrefix(got, "no connection in time")) {
				t.Errorf("want %q, found %q", tc.want, got)
			}
		})
	}
	// What listens and never accepts is up as far as this check can tell, until its queue is full.
	p, err := TCP(l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if got := ask(t, p, patience); got != "" {
			t.Fatal(got)
		}
	}
}

// FuzzHTTPAnswer has a server send anything to a kept connection.
func FuzzHTTPAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 103 Hi\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 200\r\n\r\nok"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := HTTP("a:1", HTTPCheck{Contains: "ok"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		h, _ := p.(*httpProber)
		conn := &memoryConn{}
		conn.in.Reset(b)
		h.conn = conn
		for range 2 {
			if h.conn == nil {
				break
			}
			err, _ := h.ask(t.Context(), h.conn)
			if err == nil && (!bytes.Contains(b, []byte("HTTP/1.")) || !bytes.Contains(b, []byte("o"))) {
				t.Error("up, though nobody said so")
			}
			if err != nil && (err.Error() == "" || len(err.Error()) > 1000) {
				t.Errorf("want a reason of some length, found %q", err)
			}
		}
	})
}

var _ net.Conn = (*memoryConn)(nil)
