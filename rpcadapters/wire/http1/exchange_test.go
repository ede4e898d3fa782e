package http1_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http1"
)

const get = "GET / HTTP/1.1\r\nHost: x\r\n"

func TestKeepAliveAndPipelining(t *testing.T) {
	both(t, func(t *testing.T, u setup) {
		s, address := u.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
			body, err := io.ReadAll(x)
			if err != nil {
				t.Error(err)
			}
			if err := x.Respond(200, nil, append([]byte(x.HTTP.Path+" "+x.HTTP.Scheme+" "), body...)); err != nil {
				t.Error(err)
			}
		}))
		scheme := " http "
		if u.tls != nil {
			scheme = " https "
		}
		c := u.dial(t, address)
		for i := range 3 {
			c.send(fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab%d", i, i))
			if body := c.body("POST"); body != fmt.Sprintf("/%d%sab%d", i, scheme, i) {
				t.Errorf("found %q", body)
			}
		}
		// All at once, bodies of both kinds, and then byte by byte.
		requests := "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n" +
			"GET /b HTTP/1.1\r\nHost: x\r\n\r\n" + "POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nuv" + "GET /d HTTP/1.1\r\nHost: x\r\n\r\n"
		want := []string{"/a" + scheme + "xyz", "/b" + scheme, "/c" + scheme + "uv", "/d" + scheme}
		c.send(requests)
		for _, w := range want {
			if body := c.body("POST"); body != w {
				t.Errorf("want %q, found %q", w, body)
			}
		}
		go func() {
			for i := range len(requests) {
				if _, err := c.Write([]byte{requests[i]}); err != nil {
					return // the reader fails too
				}
			}
		}()
		for _, w := range want {
			if body := c.body("POST"); body != w {
				t.Errorf("byte by byte: want %q, found %q", w, body)
			}
		}
		if s.Accepted() != 1 {
			t.Errorf("want one connection, found %d", s.Accepted())
		}
	})
}

func TestLargeBodiesBothWays(t *testing.T) {
	both(t, func(t *testing.T, u setup) {
		_, address := u.serve(t, &recorder{})
		c := u.dial(t, address)
		body := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
		for _, framing := range []string{"length", "chunks", "length"} {
			go func() {
				if framing == "length" {
					_, _ = fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", post, len(body), body)
					return
				}
				_, _ = fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\n\r\n", post)
				for rest := body; rest != ""; {
					n := min(len(rest), 1+len(rest)/7)
					_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n", n, rest[:n])
					rest = rest[n:]
				}
				_, _ = io.WriteString(c, "0\r\n\r\n")
			}()
			if resp, got := c.answer("POST"); got != body || resp.ContentLength != int64(len(body)) {
				t.Errorf("%s: want the body back, found %d bytes", framing, len(got))
			}
		}
	})
}

func TestFramingOfAnswers(t *testing.T) {
	status := 200
	_, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
		_ = x.Respond(status, fields("content-type", "text/plain", "content-length", "77", "transfer-encoding", "chunked", "connection", "x", "x-request-id", "1"), []byte("hello"))
	}))
	c := setup{}.dial(t, address)
	for _, want := range []struct {
		method, length, body string
		status               int
	}{{"GET", "5", "hello", 200}, {"HEAD", "5", "", 200}, {"GET", "", "", 204}, {"GET", "", "", 304}, {"GET", "5", "hello", 599}} {
		status = want.status
		c.send(want.method + " / HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, body := c.answer(want.method)
		if resp.StatusCode != want.status || body != want.body || resp.Header.Get("Content-Length") != want.length || len(resp.TransferEncoding) != 0 || resp.Header.Get("Connection") != "" || resp.Header.Get("X-Request-Id") != "1" {
			t.Errorf("%v: found %d %v %q", want, resp.StatusCode, resp.Header, body)
		}
	}
	if d := time.Since(date(t, c)); d < -2*time.Second || d > 20*time.Second { // the machine may be busy
		t.Errorf("want the present date, found %s ago", d)
	}
}

func date(t *testing.T, c *client) time.Time {
	t.Helper()
	c.send(get + "\r\n")
	resp, _ := c.answer("GET")
	d, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", resp.Header.Get("Date"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What an upstream sends can split no answer: such headers are left out.
func TestHeadersThatCannotBeWritten(t *testing.T) {
	_, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
		_ = x.Respond(200, fields("x-a", "1\r\nX-Evil: 1", "x-b", "1\n", "x-c", "\x00", "x d", "1", "", "1", "x-e:", "1", "x-\r\nevil", "1", "x-f", "\ttab \xe9"), nil)
	}))
	a := raw(t, address, get+"Connection: close\r\n\r\n")
	if strings.Contains(a, "vil") || !strings.HasPrefix(a, "HTTP/1.1 200 OK\r\nX-F: \ttab \xe9\r\nDate: ") {
		t.Errorf("found %q", a)
	}
}

func TestUnanswered(t *testing.T) {
	_, address := setup{}.serve(t, handler(func(context.Context, *wire.Exchange) {}))
	if a := raw(t, address, get+"\r\n"); !strings.HasPrefix(a, "HTTP/1.1 500 ") || !strings.Contains(a, `"reason":"INTERNAL"`) {
		t.Errorf("want 500, found %q", a)
	}
}

// An answer that is broken off does not look whole, in whatever way it is framed.
// A body can be read while the answer is written.
// Reading ends from outside, whether it waits or has not begun, and the answer goes on.
// Requests that come together are served in turn, wherever in the reader's buffer they begin and end.
func TestPipeliningOverTheBuffersEdges(t *testing.T) {
	both(t, func(t *testing.T, u setup) {
		_, address := u.serve(t, &recorder{})
		c := u.dial(t, address)
		const many = 400
		go func() {
			var all strings.Builder
			for i := range many {
				body := strings.Repeat("b", i*37%1500) + strconv.Itoa(i)
				padding := strings.Repeat("p", i*53%700)
				if i%3 == 0 {
					fmt.Fprintf(&all, "%sX: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", post, padding, len(body), body)
				} else {
					fmt.Fprintf(&all, "%sX: %s\r\nContent-Length: %d\r\n\r\n%s", post, padding, len(body), body)
				}
			}
			_, _ = io.WriteString(c, all.String())
		}()
		for i := range many {
			if body := c.body("POST"); body != strings.Repeat("b", i*37%1500)+strconv.Itoa(i) {
				t.Fatalf("answer %d: found %.100q", i, body)
			}
		}
	})
}

// What a face does wrong gets an error, and nothing is written twice.
func TestExpectContinue(t *testing.T) {
	_, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
		if x.HTTP.Path == "/refuse" {
			_ = x.Respond(403, nil, nil)
			return
		}
		body, err := io.ReadAll(x)
		if err != nil {
			t.Error(err)
		}
		_ = x.Respond(200, nil, body)
	}))
	c := setup{}.dial(t, address)
	expect := func(path string, length int) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: %d\r\n\r\n", path, length)
	}
	for range 2 {
		c.send(expect("/", 3))
		line := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
		if _, err := io.ReadFull(c.r, line); err != nil || string(line) != "HTTP/1.1 100 Continue\r\n\r\n" {
			t.Fatalf("found %q %v", line, err)
		}
		c.send("abc")
		if resp, body := c.answer("POST"); body != "abc" || resp.StatusCode != 200 {
			t.Errorf("found %v %q", resp, body)
		}
	}
	// Sent without waiting: nothing is asked for. No body: nothing is expected.
	c.send(expect("/", 3) + "abc")
	if resp, body := c.answer("POST"); body != "abc" || resp.StatusCode != 200 {
		t.Errorf("found %v %q", resp, body)
	}
	c.send(expect("/", 0))
	if resp, _ := c.answer("POST"); resp.StatusCode != 200 {
		t.Errorf("found %v", resp)
	}
	// Refused: whether the body comes is not known, so the connection ends.
	c.send(expect("/refuse", 3))
	if a := c.rest(); !strings.HasPrefix(a, "HTTP/1.1 403 ") || !strings.Contains(a, "\r\nConnection: close\r\n") {
		t.Errorf("found %q", a)
	}
}

// A refusal reaches its client even while that sends a body that nobody reads; the connection ends with it, unless the
// rest of the body is small and comes at once.
func TestUnreadBody(t *testing.T) {
	both(t, func(t *testing.T, u setup) {
		_, address := u.serve(t, handler(func(_ context.Context, x *wire.Exchange) { _ = x.Respond(413, nil, []byte("too large")) }))
		for _, size := range []int{10_000, 60_000, 1 << 20, 8 << 20} {
			c := u.dial(t, address)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n", post, size)
				_, _ = c.Write(make([]byte, size)) // may fail: the server need not take it
			}()
			resp, body := c.answer("POST")
			if resp.StatusCode != 413 || body != "too large" || !resp.Close && size > 64<<10 {
				t.Errorf("%d: found %v %q", size, resp, body)
			}
			c.Close()
			<-done
		}
		// One that has come already does no harm.
		c := u.dial(t, address)
		for range 3 {
			c.send(post + "Content-Length: 5\r\n\r\nhello" + post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n")
			for range 2 {
				if resp, _ := c.answer("POST"); resp.Close {
					t.Error("want the connection kept")
				}
			}
		}
		// One that does not come holds nobody up.
		c.send(post + "Content-Length: 5\r\n\r\nhell")
		if resp, _ := c.answer("POST"); !resp.Close {
			t.Error("want the connection ended")
		}
	})
}

// A client that ends its side in the middle of a body has its call end.
func TestCutBody(t *testing.T) {
	for _, framing := range []string{"Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
		var r recorder
		_, address := setup{}.serve(t, &r)
		c := setup{}.dial(t, address)
		c.send(post + framing)
		if err := c.tcp.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if a := c.rest(); !strings.HasPrefix(a, "HTTP/1.1 400 ") {
			t.Errorf("found %q", a)
		}
		if got := r.all(); len(got) != 1 || got[0].Err != io.ErrUnexpectedEOF.Error() {
			t.Errorf("found %+v", got)
		}
	}
}

func TestTakeOver(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, u setup) {
		u.limits = http1.Limits{Idle: 50 * time.Millisecond, Write: 50 * time.Millisecond}
		forgotten, done := make(chan struct{}), make(chan struct{})
		s, address := u.serve(t, handler(func(ctx context.Context, x *wire.Exchange) {
			conn, read, err := x.Engine().(wire.Taker).TakeOver()
			if err != nil {
				t.Error(err)
				return
			}
			if ctx.Err() != nil {
				t.Error(ctx.Err())
			}
			go func() { // it does not end with the exchange
				defer close(done)
				defer conn.Close()
				<-forgotten
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n"+string(read))
				_, _ = io.CopyN(conn, conn, 5)
			}()
		}))
		c := u.dial(t, address)
		c.send(get + "Upgrade: websocket\r\nConnection: upgrade\r\n\r\nearly")
		waitFor(t, "the connection to be forgotten", func() bool { return s.Accepted() == 1 && s.Conns() == 0 })
		close(forgotten)
		early := "HTTP/1.1 101 Switching Protocols\r\n\r\nearly"
		got := make([]byte, len(early))
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != early {
			t.Fatalf("found %q %v", got, err)
		}
		time.Sleep(1200 * time.Millisecond) // longer than every limit that an engine would hold it to
		c.send("12345")
		if a := c.rest(); a != "12345" {
			t.Errorf("found %q", a)
		}
		<-done
	})
	_, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
		if _, _, err := x.Engine().(wire.Taker).TakeOver(); err == nil {
			t.Error("with an unread body: want an error")
		}
		_ = x.Respond(200, nil, nil)
		if _, _, err := x.Engine().(wire.Taker).TakeOver(); err == nil {
			t.Error("after the answer: want an error")
		}
	}))
	raw(t, address, post+"Connection: close\r\nContent-Length: 1\r\n\r\na")
}

// A panic of the handler's ends its connection and nothing else.
func TestPanicEndsTheConnection(t *testing.T) {
	s, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
		if x.HTTP.Path == "/panic" {
			panic("on purpose")
		}
		_ = x.Respond(200, nil, nil)
	}))
	c := setup{}.dial(t, address)
	c.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n")
	if raw, _ := io.ReadAll(c.r); len(raw) != 0 {
		t.Errorf("found %q", raw)
	}
	if a := raw(t, address, get+"Connection: close\r\n\r\n"); !strings.HasPrefix(a, "HTTP/1.1 200 ") {
		t.Errorf("found %q", a)
	}
	waitFor(t, "the connections to end", func() bool { return s.Conns() == 0 })
	if s.Panics() != 1 {
		t.Errorf("want one panic counted, found %d", s.Panics())
	}
}

// What the engine refuses is answered in the form of the gateway's other errors.
func TestRefusalIsJSON(t *testing.T) {
	_, address := setup{}.serve(t, &recorder{})
	a := raw(t, address, "GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n")
	want := `{"code":3,"message":"the request target: column 2: byte 0x01 is not allowed there: percent-encode it","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"MALFORMED_REQUEST","domain":"causeway"}]}`
	if !strings.HasSuffix(a, "\r\n\r\n"+want) || !strings.Contains(a, "\r\nContent-Type: application/json\r\n") {
		t.Errorf("found %q", a)
	}
	if a := raw(t, address, "HEAD /\x01 HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasSuffix(a, "\r\n\r\n") || !strings.Contains(a, fmt.Sprintf("\r\nContent-Length: %d\r\n", len(want))) {
		t.Errorf("HEAD: found %q", a)
	}
}

// The exchange says who calls, and its strings stay what they are while the next request is read.
func TestStringsOutliveTheirRequest(t *testing.T) {
	var kept []string
	var headers []rpc.Metadata
	_, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
		if !x.Peer.Addr().IsLoopback() || x.Peer.Port() == 0 || x.Start.IsZero() {
			t.Errorf("found peer %v, start %v", x.Peer, x.Start)
		}
		kept = append(kept, x.HTTP.Path, x.HTTP.Header[0].Key, x.HTTP.Header[0].Value, x.HTTP.Host)
		headers = append(headers, append(rpc.Metadata(nil), x.HTTP.Header...))
		_ = x.Respond(200, nil, nil)
	}))
	c := setup{}.dial(t, address)
	for i := range 3 {
		c.send(fmt.Sprintf("GET /%d HTTP/1.1\r\nX-Name-%d: v%d\r\nHost: h%d\r\n\r\n", i, i, i, i))
		c.answer("GET")
	}
	if got := strings.Join(kept, " "); got != "/0 x-name-0 v0 h0 /1 x-name-1 v1 h1 /2 x-name-2 v2 h2" {
		t.Errorf("found %s", got)
	}
	if headers[0].Get("x-name-0") != "v0" {
		t.Errorf("found %v", headers)
	}
}

// A client writes the end of a chunked body by itself: an answer that was made without it does not end the connection.
// Where too much of a body is left, a client is told that the connection ends, also by an answer in pieces.
func TestUnreadBodyEndsTheConnection(t *testing.T) {
	_, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
		if err := errors.Join(x.WriteHead(200, nil), x.Write([]byte("ok")), x.End(nil)); err != nil {
			t.Error(err)
		}
	}))
	for length, closed := range map[int]bool{1000: false, 200_000: true} {
		c := setup{}.dial(t, address)
		c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", length) + strings.Repeat("x", min(length, 1000)))
		resp, body := c.answer("POST")
		if body != "ok" || resp.Close != closed {
			t.Errorf("%d bytes left: want the end told: %v, found %v %q", length, closed, resp, body)
		}
	}
}
