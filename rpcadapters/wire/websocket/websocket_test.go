package websocket

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// side is an engine that hands one side of a pipe over.
type side struct {
	wire.Engine
	conn net.Conn
}

// TakeOver implements wire.Taker.
func (s side) TakeOver() (net.Conn, []byte, error) { return s.conn, nil, nil }

// pair is a WebSocket of the gateway's and its client's connection, the handshake done.
func pair(t *testing.T) (*Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String()) //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var x wire.Exchange
	x.Reset(side{conn: server}, nil)
	x.Proto = "HTTP/1.1"
	x.HTTP = rpc.HTTP{Method: "GET", Host: "x", Header: rpc.Metadata{
		{Key: "connection", Value: "Upgrade"}, {Key: "upgrade", Value: "websocket"}, {Key: "sec-websocket-version", Value: "13"}, {Key: "sec-websocket-key", Value: "dGhlIHNhbXBsZSBub25jZQ=="},
	}}
	if err := Check(&x, nil); err != nil || !Asked(&x) {
		t.Fatal(err)
	}
	c, err := Accept(&x, Options{MaxMessage: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Cut(); _ = client.Close() })
	if err := client.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(client)
	for line := ""; line != "\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return c, client
}

// later is a time at which the client has been silent for too long.
func later() time.Time { return time.Now().Add(pingAfter + time.Second) }

func ping(t *testing.T, client net.Conn) {
	t.Helper()
	var head [3]byte
	if _, err := io.ReadFull(client, head[:]); err != nil || head[0] != 0x89 || head[1] != 1 {
		t.Fatalf("want a ping, found %q %v", head, err)
	}
}

// reads has somebody read until the end, and tells when he does.
func reads(c *Conn) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := c.Next()
		ended <- err
	}()
	for !c.reading.Load() {
		time.Sleep(time.Millisecond)
	}
	return ended
}

func TestDeadClientsAreFound(t *testing.T) {
	c, client := pair(t)
	c.tap.pongWithin = 50 * time.Millisecond
	ended := reads(c)
	c.Tend(time.Now())
	if c.pinging.Load() {
		t.Error("want a client left alone that was heard just now")
	}
	c.Tend(later())
	c.Tend(later()) // one at a time
	ping(t, client)
	if err := <-ended; !errors.Is(err, ErrGone) {
		t.Errorf("want the silent client found gone, found %v", err)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("want its connection closed")
	}
}

func TestLiveClientsAreKept(t *testing.T) {
	c, client := pair(t)
	c.tap.pongWithin = time.Minute
	ended := reads(c)
	c.Tend(later())
	ping(t, client)
	if _, err := io.WriteString(client, "\x8a\x81\x00\x00\x00\x001"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); c.pinging.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("want the pong heard")
		}
	}
	c.StopRead()
	if err := <-ended; !errors.Is(err, ErrStopped) {
		t.Errorf("found %v", err)
	}
}

// Where nobody reads, a pong could not be heard: such a client is not asked, and not given up.
func TestWhoIsHeldBackIsNotAsked(t *testing.T) {
	c, client := pair(t)
	c.Tend(later())
	if c.pinging.Load() {
		t.Error("want no ping")
	}
	if _, err := io.WriteString(client, "\x81\x82\x00\x00\x00\x00{}"); err != nil {
		t.Fatal(err)
	}
	if k, err := c.Next(); k != Text || err != nil {
		t.Fatal(k, err)
	}
	if b, err := io.ReadAll(c); string(b) != "{}" || err != nil {
		t.Errorf("found %q %v", b, err)
	}
}

// A client that takes nothing is given up after a time.
func TestWritesEnd(t *testing.T) {
	c, _ := pair(t)
	c.tap.writeTime = 100 * time.Millisecond
	var err error
	for err == nil {
		err = c.Write(Binary, make([]byte, 1<<20))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("want the time to be over, found %v", err)
	}
}

// One that takes its time is waited for, and gets all of it.
func TestSlowClientsGetAll(t *testing.T) {
	c, client := pair(t)
	const messages, size = 8, 1 << 20
	var sent atomic.Int64
	wrote := make(chan error, 1)
	go func() {
		for range messages {
			if err := c.Write(Binary, make([]byte, size)); err != nil {
				wrote <- err
				return
			}
			sent.Add(1)
		}
		wrote <- nil
	}()
	for before, still := int64(-1), 0; still < 10; time.Sleep(10 * time.Millisecond) { // until nothing more is taken
		if now := sent.Load(); now == before {
			still++
		} else {
			before, still = now, 0
		}
	}
	if n, err := io.CopyN(io.Discard, client, messages*(size+10)); err != nil {
		t.Errorf("found %d bytes, %v", n, err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

func TestCloseReaches(t *testing.T) {
	c, client := pair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Close(4007, strings.Repeat("ü", 100)+"\xff")
	}()
	raw, err := io.ReadAll(client) // up to the end, though nobody answers
	<-done
	if want := "\x88\x7c\x0f\xa7" + strings.Repeat("ü", 61); string(raw) != want || err != nil {
		t.Errorf("want %q, found %q %v", want, raw, err)
	}
}

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		origin, host string
		list         []string
		want         bool
	}{
		{"http://x", "x", nil, true},
		{"http://x:80", "x", nil, true},
		{"https://x", "x:443", nil, true},
		{"http://[::1]:8080", "[::1]:8080", nil, true},
		{"http://x.evil", "x", nil, false},
		{"http://evil?x", "x", nil, false},
		{"x", "x", nil, false},
		{"", "", nil, false},
		{"://", "", nil, false},
		{"null", "x", []string{"https://null"}, false},
		{"https://a.b", "x", []string{"https://*.b"}, true},
		{"https://b", "x", []string{"https://*.b"}, false},
		{"http://a.b", "x", []string{"https://*.b"}, false},
		{"https://a.b:8443", "x", []string{"https://*.b"}, false},
		{"null", "x", []string{"*"}, true},
		{"HTTPS://KISS.b", "x", []string{"https://kiss.b"}, true},
		{"https://\u212aiss.b", "x", []string{"https://kiss.b", "https://*.kiss.b"}, false},
		{"https://a.k\u0130ss.b", "x", []string{"https://*.kiss.b"}, false},
		{"http\u017f://kiss.b", "x", []string{"https://kiss.b"}, false},
		{"https://\u212aiss", "kiss", nil, false},
		{"https://ki\u017fs", "kiss", nil, false},
	} {
		if got := Allows(c.list, c.origin, c.host); got != c.want {
			t.Errorf("%+v: found %v", c, got)
		}
	}
}

// What only Unicode takes for a token is none.
func TestAsked(t *testing.T) {
	for v, want := range map[string]bool{
		"websocket": true, "h2c,\tWebSocket ": true, "web\u017focket": false, "websoc\u212aet": false, "\u00a0websocket": false, "websockets": false,
	} {
		x := &wire.Exchange{Proto: "HTTP/1.1", HTTP: rpc.HTTP{Method: "GET", Header: rpc.Metadata{{Key: "upgrade", Value: v}}}}
		if got := Asked(x); got != want {
			t.Errorf("Upgrade: %q: want %v, found %v", v, want, got)
		}
	}
}

// Bytes are counted, the handshake with them.
func TestBytes(t *testing.T) {
	c, client := pair(t)
	if err := client.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Write(Text, []byte("a")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "\x81\x01a" {
		t.Errorf("found %q %v", got, err)
	}
	if in, out := c.Bytes(); in != 0 || out < 100 {
		t.Errorf("found %d and %d bytes", in, out)
	}
	if c.Protocol() != "" {
		t.Error("want no subprotocol")
	}
}
