package http2

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// The client against the server of this package, with and without TLS: requests and answers of every size, far beyond the
// windows, at once; and again after the connection has been idle and let go of its buffers.
func TestClientAgainstServer(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS=%v", secure), func(t *testing.T) {
			var server, client *tls.Config
			if secure {
				server = serverTLS(t)
				client = clientTLS(t, server)
			}
			s := serve(t, Limits{}, server, func(_ context.Context, x *wire.Exchange) {
				body, err := io.ReadAll(x)
				if err != nil {
					_ = x.Respond(400, nil, []byte(err.Error()))
					return
				}
				_ = x.Respond(200, nil, body)
			})
			cl, err := NewClient(ClientConfig{Address: s.address, TLS: client, DialTimeout: 20 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				cl.Close()
				until(t, "connections closed", func() bool { return cl.Conns() == 0 })
			})
			head := AppendNamed(AppendIndexed(AppendIndexed(nil, IndexMethodPOST), IndexSchemeHTTP), IndexPath, "/")
			if secure {
				head = AppendNamed(AppendIndexed(AppendIndexed(nil, IndexMethodPOST), IndexSchemeHTTPS), IndexPath, "/")
			}
			head = AppendNamed(head, IndexAuthority, s.address)
			round := func() {
				var wg sync.WaitGroup
				for i, size := range []int{0, 1, 100, 16_379, 16_380, 70_000, 300_000, 1_500_000} {
					for j := range 4 {
						wg.Go(func() {
							body := strings.Repeat(string(rune('A'+i+8*j)), size)
							c := cl.Get()
							defer cl.Put(c)
							c.Head, c.Prefix = append(c.Head, head...), [5]byte{'h', 'e', 'l', 'l', 'o'}
							c.Body, c.MaxAnswer = []byte(body), 2<<20
							if err := cl.Unary(short(t), c); err != nil || c.Answer().Status != 200 || string(c.Data()) != "hello"+body {
								t.Errorf("%d bytes: found %d, %v", size, len(c.Data()), err)
							}
						})
					}
				}
				wg.Wait()
			}
			round()
			conns, now := *cl.conns.Load(), time.Now()
			for _, c := range conns {
				until(t, "nothing is under way", func() bool { return cl.InFlight() == 0 })
				c.sweep(now, false)
				c.sweep(now.Add(bufferIdle), false)
				until(t, "a small buffer", func() bool { return c.r.size.Load() == readBufferMin })
			}
			round()
			if got := *cl.conns.Load(); len(got) < len(conns) || got[0] != conns[0] {
				t.Error("want the connections to have lived on")
			}
			f, err := cl.Open(short(t), head, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Cancel()
			want := bytes.Repeat([]byte("0123456789"), 50_000)
			for rest := want; len(rest) > 0; rest = rest[min(len(rest), 33_333):] {
				if err := f.Send(nil, rest[:min(len(rest), 33_333)]); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
				t.Errorf("found %d bytes, %v", len(got), err)
			}
		})
	}
}

// One of several connections is closed after it has been idle; the last one stays.
func TestExtraConnectionsAreClosed(t *testing.T) {
	u := startUpstream(t, nil, (*upConn).honest)
	cl := newTestClient(t, u.address)
	for range 2 {
		cl.mu.Lock()
		cl.dial()
		cl.mu.Unlock()
	}
	until(t, "two connections", func() bool { return len(*cl.conns.Load()) == 2 })
	conns := *cl.conns.Load()
	now := time.Now()
	for _, c := range conns {
		c.sweep(now, true)
	}
	conns[1].sweep(now.Add(extraIdle), true)
	until(t, "one is closed", func() bool { return cl.Conns() == 1 && len(*cl.conns.Load()) == 1 })
	conns[0].sweep(now.Add(100*extraIdle), false)
	if got, err := ask(short(t), cl, "x"); err != nil || got != "1" {
		t.Errorf("found %q, %v", got, err)
	}
}
