package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// finishers are the plugins of a chain that want to see the end of each call, outermost first.
type finishers []rpc.Finisher

// guard stands outermost in a chain: a panic of a plugin refuses the call, and the gateway lives on.
type guard struct {
	next   rpc.Handler
	panics counter
	log    *slog.Logger
}

// counter is what the gateway counts with.
type counter interface{ Add(n int64) }

// Handle calls the chain.
func (g *guard) Handle(ctx context.Context, c *rpc.Call) (err error) {
	defer func() {
		if r := recover(); r != nil {
			g.panics.Add(1)
			g.log.Error("panic in a call", "route", c.Route, "request_id", c.ID, "panic", r, "stack", string(debug.Stack()))
			err = panicked(r)
		}
	}()
	return g.next.Handle(ctx, c)
}

// finish tells every finisher; one that panics does not keep the others from hearing.
func (f finishers) finish(c *rpc.Call, sent rpc.Sent, panics counter, log *slog.Logger) {
	for i := 0; i < len(f); {
		i = f.from(i, c, sent, panics, log)
	}
}

// from runs the finishers from i on and returns where to go on: one deferred recover serves them all.
func (f finishers) from(i int, c *rpc.Call, sent rpc.Sent, panics counter, log *slog.Logger) (next int) {
	at := i
	defer func() {
		if r := recover(); r != nil {
			panics.Add(1)
			log.Error("panic at the end of a call", "route", c.Route, "request_id", c.ID, "panic", r, "stack", string(debug.Stack()))
			next = at + 1
		}
	}()
	for ; at < len(f); at++ {
		f[at].Done(c, sent)
	}
	return at
}

func panicked(r any) *rpc.Error {
	return rpc.Refuse(codes.Internal, "INTERNAL", "internal error").WithCause(fmt.Errorf("panic: %v", r))
}
