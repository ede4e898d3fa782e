package main

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// What could be framed in two ways is refused and ends its connection, and no service hears a byte of it, nor of what comes
// behind it. The names are those of the threat table; rpcadapters/wire/http1 has every case of each.
func TestRefusedFramingReachesNoService(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	const (
		post     = "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
		chunked  = post + "Transfer-Encoding: chunked\r\n\r\n"
		smuggled = "GET /v1/echo/smuggled HTTP/1.1\r\nHost: y\r\n\r\n"
		body     = `{"text":"a"}`
	)
	for _, tc := range []struct{ name, request, status string }{
		{"S1 length and encoding", post + "Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{"S2 an encoding that only looks so", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400"},
		{"S2 twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{"S3 obs-fold", post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400"},
		{"S4 bare LF", "POST /v1/echo HTTP/1.1\nHost: x\nContent-Length: 0\n\n", "400"},
		{"S4 NUL", post + "X-A: a\x00b\r\nContent-Length: 12\r\n\r\n" + body, "400"},
		{"S5 LF after the size", chunked + "c\n" + body + "\r\n0\r\n\r\n", "400"},
		{"S5 0x", chunked + "0xc\r\n" + body + "\r\n0\r\n\r\n", "400"},
		{"S5 nothing after the data", chunked + "c\r\n" + body + "0\r\n\r\n", "400"},
		{"S5 a space after the size", chunked + "c \r\n" + body + "\r\n0\r\n\r\n", "400"},
		{"S5 extensions of more than 1 KiB", chunked + "c;" + strings.Repeat("a", 1100) + "\r\n" + body + "\r\n0\r\n\r\n", "400"},
		{"S6 the same length twice", post + "Content-Length: 12\r\nContent-Length: 12\r\n\r\n" + body, "400"},
		{"S6 a length beyond all", post + "Content-Length: 18446744073709551616\r\n\r\n" + body, "400"},
		{"S7 an encoding in HTTP/1.0", "POST /v1/echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{"S7 HTTP/1.2", "GET /v1/echo/a HTTP/1.2\r\nHost: x\r\n\r\n", "505"},
		{"S8 two hosts", "GET /v1/echo/a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400"},
		{"S8 the URL of another host", "GET http://y/v1/echo/a HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"S9 CONNECT", "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", "405"},
		{"S12 a long URI", "GET /v1/echo/" + strings.Repeat("a", 9000) + " HTTP/1.1\r\nHost: x\r\n\r\n", "414"},
		{"S12 many headers", "GET /v1/echo/a HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 101) + "\r\n", "431"},
	} {
		conn := dialed(t, strings.TrimPrefix(g.url, "http://"))
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, tc.request+smuggled); err != nil {
			t.Fatal(err)
		}
		answers, err := io.ReadAll(conn) // to the end of the connection
		if err != nil || !strings.HasPrefix(string(answers), "HTTP/1.1 "+tc.status+" ") || strings.Count(string(answers), "HTTP/1.1 ") != 1 {
			t.Errorf("%s: want %s and the end of the connection, found %v, %q", tc.name, tc.status, err, answers)
		}
	}
	if calls, conns := backend.Calls.Load(), backend.Conns.Load(); calls != 0 || conns != 0 {
		t.Errorf("want the service left alone, found %d calls on %d connections", calls, conns)
	}
	// No upgrade but a WebSocket's is one, and none is the service's business.
	a := g.call("GET", "/v1/echo/a", "", "Connection", "Upgrade, HTTP2-Settings, X-Mine", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABkAAQAAP__", "X-Mine", "1")
	if a.status != 200 || strings.Contains(strings.ToLower(a.body), "upgrade") || strings.Contains(strings.ToLower(a.body), "http2-settings") {
		t.Errorf("want an upgrade to h2c overheard, found %d %s", a.status, a.body)
	}
}

// However a caller leaves, the service's call is cancelled, within 100 ms on a machine that has nothing else to do.
func TestDepartureIsHeardByTheService(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	const request = "GET /v1/wait?time=60s HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, tc := range []struct {
		name, more string
		leave      func(c *net.TCPConn) error
	}{
		{"it closes", "", (*net.TCPConn).Close},
		{"it closes its side", "", (*net.TCPConn).CloseWrite},
		{"it resets", "", func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }},
		{"it closes behind another request", request, (*net.TCPConn).Close},
	} {
		best := time.Hour
		for begun := time.Now(); best > 100*time.Millisecond; {
			before := backend.Cancelled.Load()
			conn := dialed(t, strings.TrimPrefix(g.url, "http://"))
			if _, err := io.WriteString(conn, request+tc.more); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the call to reach the service", func() bool { return backend.Waiting.Load() == 1 })
			left := time.Now()
			if err := tc.leave(conn.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the service's call to be cancelled", func() bool { return backend.Cancelled.Load() > before })
			best = min(best, time.Since(left))
			_ = conn.Close()
			waitFor(t, "no call to be left", func() bool { return backend.Waiting.Load() == 0 })
			if time.Since(begun) > time.Minute {
				t.Fatalf("%s: want the service to hear of it within 100 ms, found %v at best", tc.name, best)
			}
		}
		t.Logf("%s: the service has heard of it after %v", tc.name, best.Round(time.Millisecond))
	}
}
