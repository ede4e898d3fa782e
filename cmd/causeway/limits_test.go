package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// dialed is a connection that nobody has spoken on.
func dialed(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A connection that should be closed is so long waited for; one that should not, for a moment.
const (
	patience = 20 * time.Second
	moment   = 200 * time.Millisecond
)

// closedWithin tells whether a connection is closed without a word in the time given.
func closedWithin(t testing.TB, c net.Conn, limit time.Duration) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(make([]byte, 1))
	ne, ok := err.(net.Error) //nolint:errorlint // as net gives it
	return err != nil && (!ok || !ne.Timeout())
}

func TestConnectionsOfAllListenersAreBounded(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	dir := t.TempDir()
	text := strings.Replace(echoConfig(t, dir, backend.Address), "  - address: 127.0.0.1:0\n", "  - address: 127.0.0.1:0\n  - address: localhost:0\n", 1)
	g := startGateway(t, text+"limits: {connections: 3}\n")
	addresses := g.gateway.Addresses()
	var conns []net.Conn
	for i := range 3 {
		conns = append(conns, dialed(t, addresses[i%2]))
		waitFor(t, "the connection", func() bool { return metric(g, "causeway_connections{listener=") == i+1 })
	}
	for i := range 4 {
		if !closedWithin(t, dialed(t, addresses[i%2]), patience) {
			t.Errorf("want connection %d closed", i)
		}
	}
	if n := metric(g, "causeway_connections_refused_total "); n != 4 {
		t.Errorf("want 4 refused, found %d", n)
	}
	conns[0].Close()
	waitFor(t, "the connection to end", func() bool { return metric(g, "causeway_connections{listener=") == 2 })
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
		t.Errorf("want room again, found %d", a.status)
	}
	g.stopWatch()
	g.write(text + "limits: {connections: 50}\n")
	if err := g.gateway.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if closedWithin(t, dialed(t, addresses[0]), moment) {
			t.Error("want room after a reload")
		}
	}
}

// metric is the sum of the series whose line begins so.
func metric(g *gatewayTest, prefix string) int {
	g.t.Helper()
	total := 0
	for line := range strings.Lines(g.control("GET", "/metrics", nil).body) {
		if strings.HasPrefix(line, prefix) {
			f := strings.Fields(line)
			n := 0
			for _, c := range f[len(f)-1] {
				n = 10*n + int(c-'0')
			}
			total += n
		}
	}
	return total
}

func TestStreamsAreBounded(t *testing.T) {
	g := startClientsGateway(t, "", "limits: {streams: 2}\n")
	callers := limitCallers(t, g)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 2 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/v1/rooms/head.wait/messages", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := g.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		waitFor(t, "a stream", func() bool { return g.chat.open.Load() == int64(i+1) })
	}
	a := g.call("GET", "/v1/rooms/1/messages", "")
	if a.status != 503 || a.header.Get("Retry-After") != "1" || !strings.Contains(a.body, "TOO_MANY_STREAMS") {
		t.Errorf("found %d %v %s", a.status, a.header, a.body)
	}
	if _, err := callers["WebSocket"](); err == nil {
		t.Error("want a WebSocket to count as a stream")
	}
	if _, err := callers["gRPC"](); err != nil {
		t.Errorf("want unary calls to pass, found %v", err)
	}
	if n := g.chat.calls.Load(); n != 2 {
		t.Errorf("want two streams at the service, found %d", n)
	}
	cancel()
	waitFor(t, "room again", func() bool { return g.call("GET", "/v1/rooms/1/messages", "").status == 200 })
}

// Without memory every protocol is refused, idle connections are closed, and it passes.
func TestCallsAreRefusedWithoutMemory(t *testing.T) {
	g := startClientsGateway(t, "", "admin: {address: \"127.0.0.1:0\"}\n")
	callers := limitCallers(t, g)
	idle := dialed(t, strings.TrimPrefix(g.url, "http://"))
	if _, err := io.WriteString(idle, "GET /v1/echo/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Read(make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	text := g.text(t)
	g.stopWatch()
	g.write(text + "limits: {memory_bytes: 4194304}\n")
	if err := g.gateway.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "refusals", func() bool { return g.call("GET", "/v1/echo/x", "").status == 503 })
	waitFor(t, "the idle connection to be closed", func() bool { return closedWithin(t, idle, moment) })
	hits := g.echo.Calls.Load() + g.chat.calls.Load()
	for name, call := range callers {
		if _, err := call(); err == nil || status.Code(err) == codes.ResourceExhausted {
			if name != "gRPC-Web" { // which has its status in the body
				t.Errorf("%s: want a refusal, found %v", name, err)
			}
		}
	}
	a := g.call("GET", "/v1/echo/x", "")
	if a.status != 503 || a.header.Get("Retry-After") != "1" || !strings.Contains(a.body, "OUT_OF_MEMORY") || !a.close {
		t.Errorf("found %d %v %s", a.status, a.header, a.body)
	}
	if n := g.echo.Calls.Load() + g.chat.calls.Load(); n != hits {
		t.Errorf("want no call at the services, found %d", n-hits)
	}
	if metric(g.gatewayTest, "causeway_memory_pressure ") != 3 || metric(g.gatewayTest, "causeway_memory_refused_total ") < 3 {
		t.Error("want the pressure told")
	}
	g.write(text)
	if err := g.gateway.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "calls to pass again", func() bool { return g.call("GET", "/v1/echo/x", "").status == 200 })
}
