package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/testdata/tarskit"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// startDraining is a gateway before a backend of gRPC, with a log.
func startDraining(t *testing.T) *kindsGateway {
	t.Helper()
	g := &kindsGateway{out: "gRPC", schema: adaptertest.Schema(t)}
	g.backend = startKinds(t, g.out, g.schema)
	text := kindsDocument(t, g.out, "", g.backend.address, kindsMethods...)
	g.gatewayTest = startGateway(t, strings.Replace(text, "plugins: [", "plugins: [{name: access_log, config: {output: DIR/access.log}}, ", 1))
	return g
}

func dialRaw(t *testing.T, address string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", address) //nolint:noctx // the test's own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return nc
}

// Calls by TARS and tRPC are logged and counted as others, under their protocol.
func TestMatrixIsObserved(t *testing.T) {
	t.Parallel()
	g := startDraining(t)
	for i, protocol := range []string{"tars", "trpc"} {
		in := kindsCallers[4+i]
		if got := in.call(t.Context(), t, g.gatewayTest, g.asked(t, adaptertest.Unary, &adaptertest.Message{Text: "x"})); got.failed {
			t.Fatalf("%+v", got)
		}
		if got := in.call(t.Context(), t, g.gatewayTest, g.asked(t, adaptertest.Unary, &adaptertest.Message{Text: "fail"})); !got.failed {
			t.Fatal("want an error")
		}
		g.logged("the call", `"protocol":"`+protocol+`"`, `"route":"unary"`, `"code":"OK"`, adaptertest.Unary[1:])
		g.logged("the error", `"protocol":"`+protocol+`"`, `"route":"unary"`, `"code":"NOT_FOUND"`)
		waitFor(t, "both counted", func() bool {
			m := g.control("GET", "/metrics", nil).body
			for _, code := range []string{"OK", "NOT_FOUND"} {
				found := false
				for line := range strings.Lines(m) {
					found = found || strings.HasPrefix(line, "causeway_requests_total{") && strings.Contains(line, `code="`+code+`"`) && strings.Contains(line, `protocol="`+protocol+`"`) &&
						strings.Contains(line, `rpc_method="`) && strings.HasSuffix(line, " 1\n")
				}
				if !found {
					return false
				}
			}
			return true
		})
	}
	if got := g.control("GET", "/api/v1/explain?method=tars&url="+kindsServant+"/Unary", nil); !strings.Contains(got.body, `"rpc":"test.v1.Kinds/Unary"`) && !strings.Contains(got.body, `"rpc": "test.v1.Kinds/Unary"`) {
		t.Errorf("explain: %d %s", got.status, got.body)
	}
	if got := g.control("GET", "/api/v1/explain?method=tars&url="+kindsServant+"/Bidi", nil); !strings.Contains(got.body, "is a bidirectional stream, and TARS has none") {
		t.Errorf("explain: %d %s", got.status, got.body)
	}
}

// A graceful stop tells clients of TARS to go elsewhere, lets calls end by both protocols, and then the connections.
func TestMatrixDrains(t *testing.T) {
	t.Parallel()
	g := startDraining(t)
	raw, err := proto.Marshal(&adaptertest.Message{Text: "wait"})
	if err != nil {
		t.Fatal(err)
	}
	byTARS, byTRPC := dialRaw(t, g.gateway.Addresses()[1]), dialRaw(t, g.gateway.Addresses()[2])
	request := tarskit.Packet{Version: 1, ID: 7, Servant: kindsServant, Function: "Unary", Body: append(tarskit.String([]byte{1<<4 | 10}, 0, "wait"), 11)}
	if _, err := byTARS.Write(request.Request()); err != nil {
		t.Fatal(err)
	}
	if _, err := byTRPC.Write(trpckit.Request(7, adaptertest.Unary, raw).Bytes()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "both calls at the backend", func() bool { return g.backend.waiting.Load() == 2 })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		g.once.Do(func() {
			g.client.CloseIdleConnections()
			g.stop(context.Background(), proxy.Stop{Grace: 20 * time.Second})
		})
	}()
	push, err := tarskit.ReadAnswer(byTARS)
	if err != nil || push.ID != 0 || push.Ret != 0 || push.Desc != "_reconnect_" {
		t.Fatalf("want the client asked to leave, found %+v %v", push, err)
	}
	g.backend.letGo()
	if a, err := tarskit.ReadAnswer(byTARS); err != nil || a.ID != 7 || a.Ret != 0 {
		t.Errorf("want the answer of the call, found %+v %v", a, err)
	}
	if f, err := trpckit.Read(byTRPC, false); err != nil || f.ID != 7 || f.Int("ret") != 0 || string(f.Body) != string(raw) {
		t.Errorf("want the answer of the call, found %+v %v", f, err)
	}
	for name, nc := range map[string]net.Conn{"TARS": byTARS, "tRPC": byTRPC} {
		if n, err := nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: want the end of the connection, found %d bytes, %v", name, n, err)
		}
		_ = nc.Close()
	}
	<-stopped
}

// No call of a TARS client that does as it is told is lost when the gateway stops: it is answered, or no service has seen it.
func TestMatrixDrainLosesNoCall(t *testing.T) {
	t.Parallel()
	g := startDraining(t)
	var done atomic.Int64
	var all sync.WaitGroup
	clients := make([]*overClient, 4)
	for i := range clients {
		clients[i] = dialOver(t, tars.Adapter{}, g.gateway.Addresses()[1], g.schema, kindsServant)
		all.Go(func() {
			for n := 0; ; n++ {
				text := fmt.Sprint(i, n)
				out := &adaptertest.Message{}
				got := clients[i].unary(context.Background(), t, adaptertest.Unary, nil, &adaptertest.Message{Text: text}, out)
				switch {
				case got.err == nil && out.GetText() == text:
					done.Add(1)
				case got.err != nil && got.err.Code == codes.Unavailable:
					return // nobody listens any more, or a connection was still to be taken up when that ended: the count tells
				default:
					t.Errorf("call %s: found %+v %v", text, out, got.err)
					return
				}
			}
		})
	}
	waitFor(t, "some calls", func() bool { return done.Load() > 100 })
	g.end()
	all.Wait()
	for _, c := range clients {
		c.close(t)
	}
	if n := int64(len(g.backend.take())); n != done.Load() {
		t.Errorf("%d calls were answered, and the backend had %d", done.Load(), n)
	}
	if log := g.log.String(); strings.Contains(log, "calls in flight were cut") {
		t.Errorf("calls were cut: %s", log)
	}
}
