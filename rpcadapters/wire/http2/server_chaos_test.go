package http2

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// Clients that give up at any time, handlers that answer, break off, expire, panic or read half: every call ends, every
// answer that says it is whole is, and nothing is held afterwards.
func TestServerChaos(t *testing.T) {
	conf := serverTLS(t)
	for _, secure := range []bool{false, true} {
		t.Run("tls="+strconv.FormatBool(secure), func(t *testing.T) {
			// On a busy machine all takes longer: patience grows as long as nearly nothing comes to its end in time.
			var patience, whole, cut atomic.Int64
			patience.Store(1)
			within := func(ms int) time.Duration {
				return time.Duration(rand.IntN(ms)) * time.Millisecond * time.Duration(patience.Load())
			}
			h := func(ctx context.Context, x *wire.Exchange) {
				x.SetDeadline(time.Now().Add(within(40)))
				n := rand.IntN(40_000)
				head := rpc.Metadata{{Key: "x-size", Value: strconv.Itoa(n)}}
				switch rand.IntN(8) {
				case 0:
					_, _ = io.ReadAll(x)
					_ = x.Respond(200, head, make([]byte, n))
				case 1:
					_ = x.Respond(200, head, make([]byte, n))
				case 2:
					_ = x.WriteHead(200, head)
					for left := n; left > 0; left -= 1000 {
						if x.Write(make([]byte, min(left, 1000))) != nil || x.Flush() != nil {
							return
						}
					}
					_ = x.End(rpc.Metadata{{Key: "x-end", Value: "1"}})
				case 3:
					_ = x.WriteHead(200, head)
					_ = x.Write(make([]byte, n/2))
					if n > 1 {
						x.Abort()
					}
				case 4:
					<-ctx.Done()
				case 5:
					b := make([]byte, 100)
					_, _ = x.Read(b)
					_ = x.Respond(413, nil, nil)
				case 6:
					done := make(chan struct{})
					go func() {
						defer close(done)
						_, _ = io.Copy(io.Discard, x)
					}()
					_ = x.WriteHead(200, head)
					_ = x.Write(make([]byte, n))
					x.StopRead()
					<-done
					_ = x.End(nil)
				case 7:
					panic("chaos")
				}
			}
			var s *listening
			var p http.Protocols
			tr := &http.Transport{Protocols: &p, MaxConnsPerHost: 4}
			scheme := "http"
			if secure {
				s, scheme = serve(t, Limits{}, conf, h), "https"
				p.SetHTTP2(true)
				tr.TLSClientConfig = clientTLS(t, conf)
			} else {
				s = serve(t, Limits{}, nil, h)
				p.SetUnencryptedHTTP2(true)
			}
			client := &http.Client{Transport: tr}
			calls := 100
			if raceEnabled {
				calls = 50
			}
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					for range calls {
						if n := whole.Load(); cut.Load() > 8*(n+10) {
							patience.Store(min(64, 1+cut.Load()/(8*(n+10))))
						}
						ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond+within(50))
						req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+s.address+"/", bytes.NewReader(make([]byte, rand.IntN(200_000))))
						if err != nil {
							t.Error(err)
						}
						resp, err := client.Do(req)
						if err != nil {
							cut.Add(1)
							cancel()
							continue
						}
						body, err := io.ReadAll(resp.Body)
						_ = resp.Body.Close() // read
						cancel()
						if err != nil {
							cut.Add(1)
							continue
						}
						whole.Add(1)
						if resp.StatusCode == 200 && strconv.Itoa(len(body)) != resp.Header.Get("X-Size") {
							t.Errorf("an answer of %d bytes looks whole; it has %s", len(body), resp.Header.Get("X-Size"))
						}
					}
				})
			}
			wg.Wait()
			tr.CloseIdleConnections()
			eventually(t, "all calls ended", func() bool {
				for _, c := range s.list() {
					if c.(*serverConn).active.Load() != 0 {
						return false
					}
				}
				return s.protocol.memory.Load() == 0
			})
			if whole.Load() == 0 || cut.Load() == 0 {
				t.Errorf("want answers both whole and cut, found %d and %d", whole.Load(), cut.Load())
			}
			t.Logf("%d whole, %d cut", whole.Load(), cut.Load())
		})
	}
}

// Streams that wait hold little each, and end with their connections.
func TestServerManyWaitingStreams(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes more")
	}
	const connections = 50
	s := serve(t, Limits{}, nil, func(ctx context.Context, _ *wire.Exchange) { <-ctx.Done() })
	before := inUse()
	var all []*raw
	for range connections {
		r := dialRaw(t, s.address)
		for id := uint32(1); id < 200; id += 2 {
			r.headers(id, true, get()...)
		}
		r.sync()
		all = append(all, r)
	}
	running := func() (n int32) {
		for _, c := range s.list() {
			n += c.(*serverConn).active.Load()
		}
		return n
	}
	if n := running(); n != 2*100*connections { // open and running
		t.Errorf("want %d streams, found %d", 2*100*connections, n)
	}
	per := (inUse() - before) / (100 * connections)
	t.Logf("%d bytes per waiting stream, goroutine and client included", per)
	if per > 16<<10 {
		t.Errorf("want at most 16 KiB, found %d", per)
	}
	for _, r := range all {
		_ = r.conn.Close()
	}
	eventually(t, "all streams ended", func() bool { return running() == 0 && len(s.list()) == 0 })
	eventually(t, "the workers ended", func() bool { return runtime.NumGoroutine() < 50 })
}
