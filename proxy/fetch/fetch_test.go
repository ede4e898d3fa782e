package fetch

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Which addresses may be dialled, as the operating system is about to be asked for them.
func TestAddresses(t *testing.T) {
	allow := []netip.Prefix{
		netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32"), netip.MustParsePrefix("::ffff:192.168.7.7/128"),
		netip.MustParsePrefix("fe80::/64"),
	}
	f := newFetcher(allow, nil)
	defer f.transport.CloseIdleConnections()
	for _, tc := range []struct {
		name, addr string
		want       bool
	}{
		{"public", "93.184.215.14", true},
		{"public", "8.8.8.8", true},
		{"public, the neighbour of private", "172.32.0.1", true},
		{"public, the neighbour of carriers'", "100.128.0.1", true},
		{"public", "2606:4700:4700::1111", true},
		{"public, mapped", "::ffff:8.8.8.8", true},
		{"public, translated", "64:ff9b::808:808", true},
		{"loopback", "127.0.0.1", false},
		{"loopback, another", "127.255.3.9", false},
		{"loopback", "::1", false},
		{"loopback, mapped", "::ffff:127.0.0.1", false},
		{"loopback, translated", "64:ff9b::7f00:1", false},
		{"loopback, compatible", "::127.0.0.1", false},
		{"metadata service", "169.254.169.254", false},
		{"metadata service, mapped", "::ffff:a9fe:a9fe", false},
		{"metadata service, translated", "64:ff9b::a9fe:a9fe", false},
		{"metadata service, 6to4", "2002:a9fe:a9fe::1", false},
		{"metadata service", "fd00:ec2::254", false},
		{"private", "10.0.0.1", false},
		{"private", "172.16.0.1", false},
		{"private", "172.31.255.255", false},
		{"private", "192.168.1.1", false},
		{"private, mapped", "::ffff:10.0.0.1", false},
		{"private", "fc00::1", false},
		{"carriers'", "100.64.0.1", false},
		{"unspecified", "0.0.0.0", false},
		{"unspecified", "::", false},
		{"this network", "0.1.2.3", false},
		{"broadcast", "255.255.255.255", false},
		{"multicast", "224.0.0.251", false},
		{"multicast", "ff02::1", false},
		{"reserved", "240.0.0.1", false},
		{"benchmarks", "198.18.0.1", false},
		{"documentation", "192.0.2.1", false},
		{"documentation", "2001:db8::1", false},
		{"Teredo", "2001::1", false},
		{"locally translated", "64:ff9b:1::808:808", false},
		{"site-local", "fec0::1", false},
		{"link-local", "fe80:1::1", false},
		{"a zone", "fe80:1::1%eth0", false},
		{"a zone on a public address", "2606:4700:4700::1111%eth0", false},
		{"allowed", "10.1.2.3", true},
		{"allowed, mapped", "::ffff:10.1.2.3", true},
		{"beside the allowed", "10.2.0.1", false},
		{"allowed", "fd00:1:ffff::1", true},
		{"allowed as mapped", "192.168.7.7", true},
		{"allowed with a zone", "fe80::1%eth0", true},
		{"allowed, translated is another", "64:ff9b::a01:203", false},
	} {
		network := "tcp4"
		if strings.Contains(tc.addr, ":") {
			network = "tcp6"
		}
		err := f.control(t.Context(), network, net.JoinHostPort(tc.addr, "80"), nil)
		if (err == nil) != tc.want {
			t.Errorf("%s (%s): dialled %v, want %v (%v)", tc.addr, tc.name, err == nil, tc.want, err)
		}
	}
	if f.control(t.Context(), "unix", "/run/x", nil) == nil || f.control(t.Context(), "tcp4", "localhost:80", nil) == nil {
		t.Error("dialled what is no address")
	}
}

// server answers on loopback; reached counts requests.
func server(t *testing.T, h http.HandlerFunc) (s *httptest.Server, reached *atomic.Int64) {
	t.Helper()
	reached = new(atomic.Int64)
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s, reached
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// testFetcher may call loopback.
func testFetcher(t *testing.T) *fetcher {
	t.Helper()
	f := newFetcher(loopback, nil)
	t.Cleanup(f.transport.CloseIdleConnections)
	return f
}

func TestFetch(t *testing.T) {
	s, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Got", r.Method+" "+r.URL.String()+" "+r.Host+" "+r.Header.Get("X-A")+" "+r.UserAgent()+" "+string(b))
		w.WriteHeader(418)
		_, _ = io.WriteString(w, "tea")
	})
	f := testFetcher(t)
	got, err := f.Fetch(t.Context(), &plugin.FetchRequest{
		Method: "POST", URL: s.URL + "/a%2Fb?q=1#f", Body: []byte("body"),
		Header: rpc.Metadata{{Key: "x-a", Value: "b"}, {Key: "host", Value: "example.com"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "POST /a%2Fb?q=1 example.com b causeway body"; got.Status != 418 || string(got.Body) != "tea" || got.Header.Get("x-got") != want {
		t.Errorf("found %d %q %v, want %q", got.Status, got.Body, got.Header, want)
	}
	if _, err := f.Fetch(t.Context(), &plugin.FetchRequest{URL: s.URL, Header: rpc.Metadata{{Key: "transfer-encoding", Value: "chunked"}}}); err == nil {
		t.Error("a header of the connection was sent")
	}
}

// The environment's proxy, which is inside as a rule, is not asked.
func TestNoProxy(t *testing.T) {
	proxy, asked := server(t, func(http.ResponseWriter, *http.Request) {})
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	f := newFetcher(nil, nil)
	if _, err := f.Fetch(t.Context(), &plugin.FetchRequest{URL: "http://192.0.2.1/"}); err == nil || asked.Load() != 0 {
		t.Errorf("error %v, the proxy was asked %d times", err, asked.Load())
	}
}

// Inside is not reached by any spelling; what is refused dials nothing.
func TestInsideIsRefused(t *testing.T) {
	s, reached := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret") })
	port := s.URL[strings.LastIndexByte(s.URL, ':')+1:]
	f := newFetcher(nil, nil)
	for _, url := range []string{
		"http://127.0.0.1:" + port, "http://localhost:" + port, "http://[::1]:" + port, "http://[::ffff:127.0.0.1]:" + port,
		"http://0.0.0.0:" + port, "http://[::]:" + port, "http://[fe80::1%25lo]:" + port, "http://127.1:" + port, "http://2130706433:" + port,
		"http://0x7f000001:" + port, "http://127.0.0.1:" + port + "@example.com/", "http://user:hunter2@127.0.0.1:" + port,
		"file:///etc/passwd", "ftp://127.0.0.1:" + port, "gopher://127.0.0.1:" + port, "unix:///run/x", "//127.0.0.1:" + port,
		"http:127.0.0.1:" + port, "http://", "/etc/passwd", "", "http://[", "HTTP://127.0.0.1:" + port, "jar:http://127.0.0.1:" + port,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		got, err := f.Fetch(ctx, &plugin.FetchRequest{URL: url, Timeout: 500 * time.Millisecond})
		cancel()
		if err == nil {
			t.Errorf("%s answered %q", url, got.Body)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells the password: %v", url, err)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the server was reached %d times", n)
	}
}

func TestRedirectIsAnAnswer(t *testing.T) {
	inner, reached := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret") })
	s, _ := server(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inner.URL, http.StatusFound) })
	got, err := testFetcher(t).Fetch(t.Context(), &plugin.FetchRequest{URL: s.URL})
	if err != nil || got.Status != 302 || got.Header.Get("location") != inner.URL || reached.Load() != 0 {
		t.Errorf("found %+v, %v, reached %d times", got, err, reached.Load())
	}
}

func TestBounds(t *testing.T) {
	quit := make(chan struct{})
	s, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/exact":
			_, _ = w.Write(make([]byte, 1000))
		case "/long":
			_, _ = w.Write(make([]byte, 1001))
		case "/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 4096))
				w.(http.Flusher).Flush()
			}
		case "/default":
			_, _ = w.Write(make([]byte, defaultMaxBytes+1))
		case "/slow":
			<-quit
		case "/drip":
			for tick := time.NewTicker(10 * time.Millisecond); r.Context().Err() == nil; {
				_, _ = w.Write([]byte("x"))
				w.(http.Flusher).Flush()
				<-tick.C
			}
		case "/head":
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxHeader))
		case "/zipped": // as it is: what it unpacks to is not the fetcher's business
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, "not gzip")
		}
	})
	t.Cleanup(func() { close(quit) })
	f := testFetcher(t)
	for _, tc := range []struct{ path, want string }{
		{"/exact", ""},
		{"/zipped", ""},
		{"/long?token=secret", "fetch URL/long: the answer is longer than 1000 bytes"},
		{"/endless", "fetch URL/endless: the answer is longer than 1000 bytes"},
		{"/slow?token=secret", "fetch URL/slow: no answer within 300ms: context deadline exceeded"},
		{"/drip", "fetch URL/drip: no answer within 300ms: context deadline exceeded"},
		{"/head", "fetch URL/head: net/http: HTTP/1.x transport connection broken: net/http: server response headers exceeded 65536 bytes; aborted"},
	} {
		r := &plugin.FetchRequest{URL: s.URL + tc.path, MaxBytes: 1000, Timeout: time.Minute}
		if strings.Contains(tc.want, "300ms") {
			r.Timeout = 300 * time.Millisecond
		}
		_, err := f.Fetch(t.Context(), r)
		got := ""
		if err != nil {
			got = strings.ReplaceAll(err.Error(), s.URL, "URL")
		}
		if got != tc.want {
			t.Errorf("%s: error %q, want %q", tc.path, got, tc.want)
		}
	}
	if _, err := f.Fetch(t.Context(), &plugin.FetchRequest{URL: s.URL + "/default"}); err == nil {
		t.Error("more than 64 KiB were read")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Fetch(gone, &plugin.FetchRequest{URL: s.URL + "/exact"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// dns answers each question for an IPv4 address with the next of addrs, which are for ever taken in turn.
func dns(t *testing.T, addrs ...string) (r *net.Resolver, asked *atomic.Int64) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // for the test's length
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int64)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for buf := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true}
			m.Additionals = nil
			if q.Type == dnsmessage.TypeA {
				a := netip.MustParseAddr(addrs[int(asked.Add(1)-1)%len(addrs)])
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 0},
					Body:   &dnsmessage.AResource{A: a.As4()},
				}}
			}
			out, _ := m.Pack()
			_, _ = conn.WriteTo(out, from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-ended })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}, asked
}

// A name that is outside when it is looked at and inside when it is dialled (DNS rebinding): what is dialled counts.
func TestRebinding(t *testing.T) {
	s, reached := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret") })
	port := s.URL[strings.LastIndexByte(s.URL, ':')+1:]
	resolver, asked := dns(t, "127.0.0.2", "127.0.0.1") // "outside" is the one that the fetcher may call
	f := newFetcher([]netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, resolver)
	defer f.transport.CloseIdleConnections()
	inside := 0
	for range 10 {
		_, err := f.Fetch(t.Context(), &plugin.FetchRequest{URL: "http://keys.example.com:" + port})
		if err != nil && strings.Contains(err.Error(), "127.0.0.1 is not a public address: add it to outbound.allow if it is meant") {
			inside++
		}
	}
	if asked.Load() < 10 || inside != 5 || reached.Load() != 0 { // nobody listens on 127.0.0.2
		t.Errorf("asked %d times, refused %d times, want 5; the server was reached %d times", asked.Load(), inside, reached.Load())
	}
	// The same name, allowed: reached, by the address that was looked up.
	resolver, _ = dns(t, "127.0.0.1")
	f = newFetcher(loopback, resolver)
	defer f.transport.CloseIdleConnections()
	if got, err := f.Fetch(t.Context(), &plugin.FetchRequest{URL: "http://keys.example.com:" + port}); err != nil || string(got.Body) != "secret" {
		t.Errorf("found %v, %v", got, err)
	}
}
