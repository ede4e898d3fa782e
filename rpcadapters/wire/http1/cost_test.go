package http1_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// A call over real bytes costs one allocation: the string of its head.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	_, address := setup{}.serve(t, cannedHandler{true})
	c := setup{}.dial(t, address)
	out, buf := []byte(call), make([]byte, 4096)
	once := func() {
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		for n := 0; n == 0 || buf[n-1] != 'x'; {
			var err error
			if n, err = c.Conn.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 100 {
		once()
	}
	if got := testing.AllocsPerRun(500, once); got > 1 {
		t.Errorf("want 1 allocation for a call, found %v", got)
	}
}

// An idle connection keeps little: 2,000 of them after a call each.
func TestMemoryOfIdleConnections(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	const conns, limit = 2000, 32 << 10
	s, address := setup{}.serve(t, handler(func(_ context.Context, x *wire.Exchange) {
		deep(100)
		_ = x.Respond(200, nil, canned)
	}))
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := used()
	clients := make([]net.Conn, 0, conns) // the client's side of them counts too: it is small
	defer func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}()
	buf := make([]byte, 4096)
	for range conns {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nA: "+strings.Repeat("b", 20_000)+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	if s.Conns() != conns {
		t.Fatalf("want %d connections, found %d", conns, s.Conns())
	}
	each := int64(used()-before) / conns
	t.Logf("%d bytes for each of %d idle connections", each, conns)
	if each > limit {
		t.Errorf("want %d bytes for an idle connection at most, found %d", limit, each)
	}
}

// deep uses a stack like a call through the gateway does.
func deep(n int) int {
	var room [200]byte
	room[n%200] = 1
	if n == 0 {
		return int(room[0])
	}
	return deep(n-1) + int(room[n%200])
}
