package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
	"github.com/causeway-gateway/causeway/proxy"
)

func grpcChat(t testing.TB, address string) chatv1.ChatClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return chatv1.NewChatClient(conn)
}

// Streams last through a graceful stop as long as that lasts, and then end with a status, in each protocol's own form.
func TestStreamsEndWithAStatusWhenTheGatewayStops(t *testing.T) {
	t.Parallel()
	b := startChat(t)
	g := startChatGateway(t, b, "")
	address := strings.TrimPrefix(g.url, "http://")
	ends := make(chan string, 10)
	var running sync.WaitGroup

	client := grpcChat(t, address)
	calls, err := client.Listen(t.Context(), &chatv1.ListenRequest{Room: "1.wait"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := calls.Recv(); err != nil {
		t.Fatal(err)
	}
	running.Go(func() {
		_, err := calls.Recv()
		ends <- "gRPC: " + status.Convert(err).Code().String() + " " + status.Convert(err).Message()
	})
	for version, client := range versions(t) {
		for _, form := range []string{"application/json", "application/x-ndjson", "text/event-stream"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/v1/rooms/1.wait/messages", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", form)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			running.Go(func() {
				defer resp.Body.Close()
				raw, err := io.ReadAll(resp.Body)
				if (streamed{200, nil, string(raw), err}).whole(form) {
					err = fmt.Errorf("%s looks whole", raw)
				}
				_, end, _ := strings.Cut(string(raw), `"code":`)
				code, _, _ := strings.Cut(end, ",")
				ends <- fmt.Sprintf("%s %s: %s %v", version, form, code, err)
			})
		}
	}
	c := dialSocket(t, g, "/v1/rooms/1.wait/messages")
	running.Go(func() {
		e := socketEnded(t, c)
		ends <- fmt.Sprintf("WebSocket: %d %s %d", e.Code, e.Reason, len(e.Texts))
	})
	waitFor(t, "the calls to reach the service", func() bool { return b.open.Load() == 8 })

	start := time.Now()
	g.once.Do(func() { g.stop(context.Background(), proxy.Stop{Grace: 5 * time.Second}) })
	took := time.Since(start)
	running.Wait()
	close(ends)
	found := map[string]bool{}
	for e := range ends {
		found[e] = true
	}
	for _, want := range []string{
		"gRPC: Unavailable the gateway is stopping", "WebSocket: 1001 the gateway is stopping 2",
		"HTTP/1.1 application/json: 14 <nil>", "HTTP/1.1 application/x-ndjson: 14 <nil>", "HTTP/1.1 text/event-stream: 14 <nil>",
		"HTTP/2 application/json: 14 <nil>", "HTTP/2 application/x-ndjson: 14 <nil>", "HTTP/2 text/event-stream: 14 <nil>",
	} {
		if !found[want] {
			t.Errorf("want %q, found %v", want, found)
		}
	}
	if took < 3500*time.Millisecond || took > 20*time.Second {
		t.Errorf("want the streams to have most of the grace, the stop took %s", took)
	}
	b.ended(t)
}

// smallWindow is a connection that holds little.
func smallWindow(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	tcp, _ := c.(*net.TCPConn)
	return tcp
}

// A client that does not read holds back its own stream at the service, after what buffers take, and nobody else.
func TestSlowReaderHoldsBackItsOwnStream(t *testing.T) {
	t.Parallel()
	b := startChat(t)
	g := startChatGateway(t, b, "")
	address := strings.TrimPrefix(g.url, "http://")
	const path = "/v1/rooms/flood/messages?latest=10000" // messages of 10 kB
	for _, how := range []string{"NDJSON", "SSE", "WebSocket", "gRPC"} {
		t.Run(how, func(t *testing.T) {
			before := b.sent.Load()
			var leave func()
			switch how {
			case "gRPC":
				ctx, cancel := context.WithCancel(t.Context())
				leave = cancel
				if _, err := grpcChat(t, address).Listen(ctx, &chatv1.ListenRequest{Room: "flood", Latest: 10_000}); err != nil {
					t.Fatal(err)
				}
			default:
				c := smallWindow(t, address)
				leave = func() { _ = c.Close() }
				head := map[string]string{"NDJSON": "Accept: application/x-ndjson\r\n", "SSE": "Accept: text/event-stream\r\n", "WebSocket": handshakeHead}[how]
				if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n"+head+"\r\n"); err != nil {
					t.Fatal(err)
				}
			}
			sent := b.heldBack(t) - before
			t.Logf("held back after %d messages of 10 kB", sent)
			if sent == 0 || sent > 2000 {
				t.Errorf("want it held back within 20 MB, %d messages were sent", sent)
			}
			// Others are served.
			for range 20 {
				if a := stream(t, g.client, "GET", g.url+"/v1/rooms/5/messages?latest=10000", nil); !a.whole("application/json") {
					t.Fatalf("found %d %v", a.status, a.err)
				}
			}
			leave()
			b.ended(t)
		})
	}
}

// heldBack waits until the service's messages are held back, since for a while nothing more is sent, and returns how many
// were.
func (b *chatBackend) heldBack(t testing.TB) (sent int64) {
	t.Helper()
	sent = -1
	for still, end := 0, time.Now().Add(3*time.Minute); still <= 30; time.Sleep(10 * time.Millisecond) { // nothing is to happen
		if time.Now().After(end) {
			t.Fatalf("the service is not held back, %d messages were sent", sent)
		}
		now := b.sent.Load()
		if now == sent && now > 0 {
			still++
		} else {
			still = 0
		}
		sent = now
	}
	return sent
}

// openStreams opens n streams that stay open, and returns how to end them; also beside an error.
func openStreams(t testing.TB, how string, addresses []string, n int) (leave func(), err error) {
	t.Helper()
	if how == "gRPC" {
		ctx, cancel := context.WithCancel(t.Context())
		for i := range n / 100 {
			client := grpcChat(t, addresses[i%len(addresses)])
			for range 100 {
				s, err := client.Listen(ctx, &chatv1.ListenRequest{Room: "1.wait"})
				if err != nil {
					return cancel, err
				}
				if _, err := s.Recv(); err != nil {
					return cancel, err
				}
			}
		}
		return cancel, nil
	}
	head := map[string]string{"NDJSON": "Accept: application/x-ndjson\r\n", "SSE": "Accept: text/event-stream\r\n", "WebSocket": handshakeHead}[how]
	var mu sync.Mutex // of conns while they are opened
	conns := make([]net.Conn, 0, n)
	quit := make(chan struct{})
	var alive sync.WaitGroup
	if how == "WebSocket" { // whoever is silent for long is asked for a sign of life, so one is given before
		alive.Go(func() {
			tick := time.NewTicker(5 * time.Second)
			defer tick.Stop()
			for {
				select {
				case <-quit:
					return
				case <-tick.C:
				}
				mu.Lock()
				for _, c := range conns {
					_, _ = io.WriteString(c, frame(0x8a, 0, "")) // one that is lost is found
				}
				mu.Unlock()
			}
		})
	}
	leave = func() {
		close(quit)
		alive.Wait()
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for i := range n {
		c, err := net.Dial("tcp", addresses[i%len(addresses)]) //nolint:noctx // on loopback
		if err != nil {
			return leave, err
		}
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		if _, err := io.WriteString(c, "GET /v1/rooms/1.wait/messages HTTP/1.1\r\nHost: x\r\n"+head+"\r\n"); err != nil {
			return leave, err
		}
	}
	for _, c := range conns {
		r := bufio.NewReaderSize(c, 16)
		for got := ""; !strings.Contains(got, "message 0"); {
			line, err := r.ReadSlice('"')
			got += string(line)
			if err != nil && err != bufio.ErrBufferFull { //nolint:errorlint // it is returned as it is
				return leave, fmt.Errorf("%q: %w", got, err)
			}
		}
	}
	return leave, nil
}

func inUse() int64 {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse) //nolint:gosec // far from the limit
}

// measureOpenStreams measures what a stream takes that is open and on which nothing passes: heap and stacks of the gateway
// with those of client and service, which are in the same process, less what the same calls take without the gateway.
func measureOpenStreams(t *testing.T, n int, bound int64) {
	b := startChat(t)
	// Two gateways: a listener takes 10,000 connections, and not all of them are streams.
	g, second := startChatGateway(t, b, ""), startChatGateway(t, b, "")
	both := []string{strings.TrimPrefix(g.url, "http://"), strings.TrimPrefix(second.url, "http://")}
	measure := func(how string, addresses []string, n int) int64 {
		stream(t, g.client, "GET", g.url+"/v1/rooms/1/messages", nil) // what is made once
		// On a machine that is busy with other things the service may not answer a PING in time, and lose its streams.
		for try := 1; ; try++ {
			before := inUse()
			leave, err := openStreams(t, how, addresses, n)
			each := (inUse() - before) / int64(n)
			if open := b.open.Load(); err == nil && open != int64(n) {
				err = fmt.Errorf("%d of %d streams are open", open, n)
			}
			leave()
			b.ended(t)
			if err == nil {
				return each
			}
			if try == 3 {
				t.Fatal(err)
			}
			t.Logf("once more: %v", err)
		}
	}
	direct := measure("gRPC", []string{b.address}, n)
	t.Logf("a stream of grpc-go's client at its server: %d bytes", direct)
	for _, how := range []string{"gRPC", "NDJSON", "SSE", "WebSocket"} {
		n := n
		if how != "gRPC" { // a connection each, whose both ends are files of this process
			n = min(n, fileBound(t))
		}
		each := measure(how, both, n)
		t.Logf("PROOF %d open streams over %s: %d bytes each with client and service, %d more than without the gateway", n, how, each, each-direct)
		if each-direct > bound {
			t.Errorf("%s: want at most %d bytes above %d, found %d", how, bound, direct, each)
		}
	}
}

// fileBound is how many connections with both ends in this process there may be.
func fileBound(t *testing.T) int {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	return int(min(1<<20, files.Cur/2-600)) / 100 * 100 //nolint:gosec // small
}

// A stream that is open takes what its connection and its goroutines take, and no more.
func TestProofOpenStreams(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("the race detector has a memory of its own")
	}
	n, slow := 1000, 50
	if full() {
		n, slow = 10_000, 200
	}
	measureOpenStreams(t, n, 32<<10)
	measureHeldBack(t, slow, 512<<10)
}

// measureHeldBack measures what a stream takes whose caller does not read while the service has more to say without an end:
// heap of gateway and service. Beside it the kernel has what it lets a socket have.
func measureHeldBack(t *testing.T, n int, bound int64) {
	b := startChat(t)
	g := startChatGateway(t, b, "")
	for how, head := range map[string]string{"NDJSON": "Accept: application/x-ndjson\r\n", "SSE": "Accept: text/event-stream\r\n", "WebSocket": handshakeHead} {
		stream(t, g.client, "GET", g.url+"/v1/rooms/1/messages", nil) // what is made once
		before, sent := inUse(), b.sent.Load()
		conns := make([]net.Conn, n)
		for i := range conns {
			conns[i] = smallWindow(t, strings.TrimPrefix(g.url, "http://"))
			if _, err := io.WriteString(conns[i], "GET /v1/rooms/flood/messages?latest=10000 HTTP/1.1\r\nHost: x\r\n"+head+"\r\n"); err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, "the streams to be open", func() bool { return b.open.Load() == int64(n) })
		sent = b.heldBack(t) - sent
		each := (inUse() - before) / int64(n)
		t.Logf("PROOF %d streams over %s whose callers do not read: held back after %d kB each, %d bytes in gateway and service", n, how, sent*10/int64(n), each)
		if each > bound {
			t.Errorf("%s: want at most %d bytes, found %d", how, bound, each)
		}
		for _, c := range conns {
			_ = c.Close()
		}
		b.ended(t)
	}
}

// A silent client of a WebSocket is asked for a sign of life by frames, not by messages; this only checks that a ping of the
// client's is heard while the service says nothing.
func TestWebSocketPing(t *testing.T) {
	b := startChat(t)
	g := startChatGateway(t, b, "")
	for _, path := range []string{"/v1/rooms/1.wait/messages", "/v1/rooms/x:talk"} {
		c := dialSocket(t, g, path)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		go func() { _, _, _ = c.Read(ctx); _, _, _ = c.Read(ctx) }() // pongs are found by a reader
		if err := c.Ping(ctx); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		cancel()
		_ = c.Close(websocket.StatusNormalClosure, "")
	}
	b.ended(t)
}

// A caller whose requests are held back by the service, so that nobody reads from him, is seen to leave all the same: his
// kernel resets a connection on which answers are unread. (With nothing unread, the end of the connection stays behind the
// bytes that cannot be sent, and only idle_timeout finds it.)
func TestDepartureWhileRequestsAreHeldBack(t *testing.T) {
	b := startChat(t)
	g := startChatGateway(t, b, "")
	big := `{"text":"` + strings.Repeat("x", 50_000) + `"}`
	for how, start := range map[string]string{
		"WebSocket": "GET /v1/rooms/1.wait:talk HTTP/1.1\r\nHost: x\r\n" + handshakeHead + "\r\n" + text(`{"text":"do"}`),
		"NDJSON":    "POST /v1/rooms/1.wait:talk HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n{\"text\":\"do\"}\r\n",
	} {
		t.Run(how, func(t *testing.T) {
			before := b.cancelled.Load()
			c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://")) //nolint:noctx // on loopback
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, start); err != nil {
				t.Fatal(err)
			}
			one := fmt.Sprintf("%x\r\n%s\n\r\n", len(big)+1, big)
			if how == "WebSocket" {
				one = text(big)
			}
			for { // until it is held back
				if err := c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(c, one); err != nil {
					break
				}
			}
			if b.cancelled.Load() != before {
				t.Fatal("want the call to last as long as its caller")
			}
			left := time.Now()
			_ = c.Close()
			waitFor(t, "the service to hear that the client has gone", func() bool { return b.cancelled.Load() == before+1 })
			t.Logf("the service heard after %s", time.Unix(0, b.left.Load()).Sub(left).Round(time.Millisecond))
			b.ended(t)
		})
	}
}
