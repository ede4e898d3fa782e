package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/expr"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
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

// conditional takes a call through a plugin, or past it.
type conditional struct {
	when       *expr.Program
	bit        uint64
	with, past rpc.Handler
}

// Handle implements rpc.Handler. A condition that cannot be told refuses the call; one that asks for a message which did not
// come well, as the message would.
func (h *conditional) Handle(ctx context.Context, c *rpc.Call) error {
	ok, err := h.when.Bool(ctx, c, nil)
	if err != nil {
		if e, ok := errors.AsType[*rpc.Error](err); ok {
			return e
		}
		return rpc.Refuse(codes.Internal, "CONDITION_FAILED", "internal error").WithCause(err)
	}
	if !ok {
		return h.past.Handle(ctx, c)
	}
	c.Entered |= h.bit
	return h.with.Handle(ctx, c)
}

// conditionalEnd tells a plugin of the ends of those calls that it took on; one that only sees ends, of those for which the
// condition holds then, or cannot be told.
type conditionalEnd struct {
	when *expr.Program
	bit  uint64 // 0: it only sees ends
	next rpc.Finisher
}

// Done implements rpc.Finisher.
func (f *conditionalEnd) Done(c *rpc.Call, sent rpc.Sent) {
	if f.bit != 0 {
		if c.Entered&f.bit != 0 {
			f.next.Done(c, sent)
		}
		return
	}
	if ok, err := f.when.Bool(context.Background(), c, &sent); ok || err != nil {
		f.next.Done(c, sent)
	}
}

// Handle implements rpc.Handler.
func (h *known) Handle(ctx context.Context, c *rpc.Call) error {
	if c.Consumer != nil {
		if u := h.snap.consumers[c.Consumer.Name]; u != nil && u.handler != nil {
			c.After = h.next
			return u.handler.Handle(ctx, c)
		}
	}
	return h.next.Handle(ctx, c)
}

// resume ends a consumer's chain: the call goes on along its route.
type resume struct{}

// Handle implements rpc.Handler.
func (resume) Handle(ctx context.Context, c *rpc.Call) error { return c.After.Handle(ctx, c) }

// finishAll tells the finishers of a call's route, and of its consumer.
func (r *route) finishAll(c *rpc.Call, sent rpc.Sent, panics counter, log *slog.Logger) {
	if c.Consumer != nil && r.snap != nil && r.snap.consumerPlugins {
		if u := r.snap.consumers[c.Consumer.Name]; u != nil {
			u.finish.finish(c, sent, panics, log)
		}
	}
	r.finish.finish(c, sent, panics, log)
}

// AppendHeader implements wire.Dresser by the plugins of the route.
func (r *route) AppendHeader(header rpc.Metadata, x *wire.Exchange) rpc.Metadata {
	for _, d := range r.dressers {
		header = d.Dress(header, &x.HTTP, x.Preflight)
	}
	return header
}
