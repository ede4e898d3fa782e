package http2

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// A unary call costs the server two allocations at most, read from a socket and written to one.
func TestServerAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := serve(t, Limits{}, nil, canned)
	l, err := newLoad(s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.conn.Close()
	if err := l.run(2000, 16); err != nil { // what is kept is made
		t.Fatal(err)
	}
	// The client's requests are made before, for they allocate.
	const calls = 5000
	var requests [][]byte
	l.out = nil
	for range calls {
		l.call()
		requests = append(requests, l.out)
		l.out = nil
	}
	b := make([]byte, 64<<10)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, r := range requests {
		if _, err := l.conn.Write(r); err != nil {
			t.Fatal(err)
		}
		for done, have := false, 0; !done; {
			n, err := l.conn.Read(b[have:])
			if err != nil {
				t.Fatal(err)
			}
			have += n
			for at := 0; have-at >= 9 && have-at >= 9+frameLength(b[at:]); at += 9 + frameLength(b[at:]) {
				done = done || b[at+4]&flagEndStream != 0
			}
		}
	}
	runtime.ReadMemStats(&after)
	allocs := float64(after.Mallocs-before.Mallocs) / calls
	size := float64(after.TotalAlloc-before.TotalAlloc) / calls
	t.Logf("%.2f allocations and %.0f bytes per call", allocs, size)
	if allocs > 2 || size > 1024 {
		t.Errorf("want at most 2 allocations and 1 KiB per call, found %.2f and %.0f bytes", allocs, size)
	}
}

// What an idle connection holds, after calls and without having had any.
func TestServerMemoryOfIdleConnections(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes more")
	}
	const connections = 500
	conf := serverTLS(t)
	for _, secure := range []bool{false, true} {
		t.Run("tls="+strconv.FormatBool(secure), func(t *testing.T) {
			var serverConf *tls.Config
			most := int64(32 << 10)
			if secure {
				serverConf, most = conf, 64<<10
			}
			s := serve(t, Limits{}, serverConf, func(ctx context.Context, x *wire.Exchange) {
				if x.HTTP.Path == "/echo" {
					echo(ctx, x)
					return
				}
				canned(ctx, x)
			})
			clients := make([]*quiet, 0, connections)
			before := inUse()
			for range connections {
				c := dialQuiet(t, s.address, secure, conf)
				clients = append(clients, c)
			}
			for _, c := range clients {
				c.call(t)
			}
			eventually(t, "idle connections", func() bool {
				for _, c := range s.list() {
					if !c.Idle() {
						return false
					}
				}
				return len(s.list()) == connections
			})
			// Buffers that grew are let go.
			for _, c := range clients[:50] {
				c.echo(t, 60<<10)
			}
			eventually(t, "small buffers", func() bool {
				for _, c := range s.list() {
					sc := c.(*serverConn)
					sc.w.Lock()
					held := sc.w.Held()
					sc.w.Unlock()
					if sc.fr.size.Load() > readBufferMin || held > 0 {
						return false
					}
				}
				return true
			})
			runtime.GC() // stacks that were grown
			per := (inUse() - before) / connections
			t.Logf("%d bytes per idle connection, the client's half included", per)
			if per > most {
				t.Errorf("want at most %d bytes, found %d", most, per)
			}
			runtime.KeepAlive(clients)
		})
	}
}

// inUse is the memory of heap and stacks.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// quiet is a client that holds as little as can be.
type quiet struct{ conn net.Conn }

func dialQuiet(t *testing.T, address string, secure bool, conf *tls.Config) *quiet {
	t.Helper()
	conn := dialTCP(t, address)
	t.Cleanup(func() { _ = conn.Close() })
	if secure {
		tc := tls.Client(conn, clientTLS(t, conf))
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		conn = tc
	}
	return &quiet{conn}
}

// call makes one call.
func (q *quiet) call(t *testing.T) {
	t.Helper()
	out := append([]byte(preface), appendSettings(nil)...)
	out = appendSettingsAck(out)
	l := &load{next: 1, out: out}
	l.enc = hpack.NewEncoder(&l.block)
	l.call()
	if _, err := q.conn.Write(l.out); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(io.Discard, q.conn)
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if f.Header().StreamID == 1 && f.Header().Flags.Has(http2.FlagDataEndStream) {
			return
		}
	}
}

// echo sends a body and reads it back, on the second stream.
func (q *quiet) echo(t *testing.T, n int) {
	t.Helper()
	var block []byte
	for i, f := 0, []string{":method", "POST", ":scheme", "http", ":path", "/echo", ":authority", "x"}; i < len(f); i += 2 {
		block = AppendField(block, f[i], f[i+1])
	}
	out := appendHeaders(nil, 3, false, block, 16<<10)
	for left := n; left > 0; left -= 15 << 10 {
		out = appendData(out, 3, left <= 15<<10, make([]byte, min(left, 15<<10)), nil)
	}
	if _, err := q.conn.Write(out); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(io.Discard, q.conn)
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if f.Header().StreamID == 3 && f.Header().Flags.Has(http2.FlagDataEndStream) {
			return
		}
	}
}
