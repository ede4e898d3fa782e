package server_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http1"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// admitter is a handler that allows so many connections.
type admitter struct {
	wire.Handler
	limit, open atomic.Int64
}

func (a *admitter) Admit() bool {
	if a.open.Add(1) > a.limit.Load() {
		a.open.Add(-1)
		return false
	}
	return true
}

func (a *admitter) Left() { a.open.Add(-1) }

// A handler that bounds connections is asked for each, and told of each end, by all servers that it has.
func TestHandlerBoundsConnections(t *testing.T) {
	a := &admitter{Handler: handler(hello)}
	a.limit.Store(3)
	var addresses [2]string
	for i := range addresses {
		ln := listen(t)
		run(t, server.New(a, http1.New(http1.Limits{}, nil), nil, server.Options{}), ln)
		addresses[i] = ln.Addr().String()
	}
	first := dial(t, addresses[0])
	dial(t, addresses[1])
	dial(t, addresses[1])
	waitFor(t, "three connections", func() bool { return a.open.Load() == 3 })
	for _, address := range addresses {
		if got := readAll(t, dial(t, address)); got != "" {
			t.Errorf("want the connection closed, found %q", got)
		}
	}
	first.Close()
	waitFor(t, "a connection to end", func() bool { return a.open.Load() == 2 })
	c := dial(t, addresses[1])
	send(t, c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if got := readAll(t, c); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("found %q", got)
	}
	waitFor(t, "the connection to end", func() bool { return a.open.Load() == 2 })
}

// Connections that have had no call since the last look are closed; those with one, or with one just now, are not.
func TestIdleConnectionsAreClosed(t *testing.T) {
	in, end := make(chan struct{}), make(chan struct{})
	s, address := serve(t, func(_ context.Context, x *wire.Exchange) {
		if x.HTTP.Path == "/wait" {
			in <- struct{}{}
			<-end
		}
		_ = x.Respond(200, nil, nil)
	}, server.Options{})
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	idle, used, busy := dial(t, address), dial(t, address), dial(t, address)
	answered := func(c interface{ Read([]byte) (int, error) }) {
		t.Helper()
		if _, err := c.Read(make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	send(t, idle, request)
	answered(idle)
	send(t, busy, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	<-in
	waitFor(t, "a connection that was not used between two looks to end", func() bool {
		s.CloseIdle()
		send(t, used, request)
		answered(used)
		if err := idle.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := idle.Read(make([]byte, 1))
		if n > 0 {
			t.Fatal("want the end alone, found more")
		}
		late, ok := errors.AsType[net.Error](err)
		return err != nil && !(ok && late.Timeout())
	})
	send(t, used, request)
	answered(used)
	close(end)
	answered(busy)
	waitFor(t, "one connection to end", func() bool { return s.Conns() == 2 })
}

// While connections are not kept, all answers say so, on connections old and new; afterwards new ones are kept.
func TestConnectionsAreNotKept(t *testing.T) {
	s, address := serve(t, hello, server.Options{})
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	old := dial(t, address)
	send(t, old, request)
	if _, err := old.Read(make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	s.Hurry(true)
	fresh := dial(t, address)
	send(t, old, request)
	send(t, fresh, request)
	for _, got := range []string{readAll(t, old), readAll(t, fresh)} { // to the end
		if !strings.Contains(got, "\r\nConnection: close\r\n") {
			t.Errorf("want the client asked to leave, found %q", got)
		}
	}
	s.Hurry(false)
	kept := dial(t, address)
	for range 2 {
		send(t, kept, request)
		buf := make([]byte, 1<<10)
		n, err := kept.Read(buf)
		if err != nil || strings.Contains(string(buf[:n]), "Connection: close") {
			t.Fatalf("found %q %v", buf[:n], err)
		}
	}
}
