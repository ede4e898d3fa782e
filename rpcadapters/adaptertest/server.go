package adaptertest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http1"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http2"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Gateway stands in the edge's place: it finds the method by the path and has the face serve the call.
type Gateway struct {
	Faces   []rpcadapters.Face
	Schema  *schema.Schema
	Handler rpc.Handler
	Options *rpcadapters.Options

	mu   sync.Mutex
	sent []rpc.Sent
}

// ServeExchange implements wire.Handler.
func (g *Gateway) ServeExchange(ctx context.Context, x *wire.Exchange) {
	x.ID = "id-1"
	for _, f := range g.Faces {
		if !f.Match(x) {
			continue
		}
		m, ok := g.Schema.Method(x.HTTP.Path)
		if !ok {
			g.Done(nil, f.Refuse(x, rpc.Refuse(codes.Unimplemented, "ROUTE_NOT_FOUND", "no route takes %s", x.HTTP.Path).WithStatus(404)))
			return
		}
		f.Serve(ctx, x, &rpcadapters.Matched{Method: m, Options: g.Options, Finish: g}, g.Handler)
		return
	}
	_ = x.Respond(404, nil, []byte("no face\n")) // a client that has gone is no fault
}

// Done implements rpc.Finisher.
func (g *Gateway) Done(_ *rpc.Call, sent rpc.Sent) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent = append(g.sent, sent)
}

// Sent is what the calls so far were answered with.
func (g *Gateway) Sent() []rpc.Sent {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]rpc.Sent(nil), g.sent...)
}

// Serve serves g by HTTP/1.1 and HTTP/2 in plain text until the test ends, and returns its address. At the end no byte of
// the budget may be held.
func Serve(t testing.TB, g *Gateway) string {
	t.Helper()
	if g.Schema == nil {
		g.Schema = Schema(t)
	}
	if g.Handler == nil {
		g.Handler = Echo{}
	}
	if g.Options == nil {
		g.Options = Options()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(g, http1.New(http1.Limits{}, nil), http2.NewServer(http2.Limits{}), server.Options{})
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // cuts what a failed test left
		if err := <-done; err != nil {
			t.Errorf("Serve: want nil after Shutdown, found %v", err)
		}
		if n := g.Options.Budget.Used(); n != 0 {
			t.Errorf("%d bytes of the budget are held after the last call", n)
		}
	})
	return ln.Addr().String()
}
