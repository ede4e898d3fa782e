package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/upstream"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// maxAttempts bounds how often a call that no upstream has run is tried elsewhere.
const maxAttempts = 3

// forward is the last handler of every chain: it has the body translated, picks an instance and calls it.
type forward struct {
	service *upstream.Service
	others  []alternative // where plugins may send a call instead
	options *rpcadapters.Options
	streams *streams
	panics  counter
}

// Handle forwards a call. One that certainly was not executed is tried on another instance, with the same bytes.
func (f *forward) Handle(ctx context.Context, c *rpc.Call) error {
	if c.Method.Kind != schema.Unary {
		return f.stream(ctx, c)
	}
	req, err := c.Body.Message(ctx, c.Method.Input)
	if err != nil {
		return err
	}
	start := rpcadapters.Now(c.Times.Start)
	c.Times.Body = start
	for {
		err = f.attempt(ctx, c, req, start)
		if err == nil || !notExecuted(err) || c.Attempts >= maxAttempts || ctx.Err() != nil {
			return err
		}
		c.Reply.Reset()
		start = time.Now()
	}
}

// notExecuted tells that no upstream has run the call that ended so: another may. It is apart from Handle because the variable
// that errors.As fills is allocated where it is declared.
func notExecuted(err error) bool {
	var e *rpc.Error
	return errors.As(err, &e) && !e.Executed && e.Class == rpc.Transport
}

// attempt calls an instance; start is now.
func (f *forward) attempt(ctx context.Context, c *rpc.Call, req *rpc.Message, start time.Time) error {
	node, err := f.pick(c)
	if err != nil {
		return err
	}
	defer node.Done()
	c.Attempts++
	c.Node = node.Address
	err = node.Transport.Unary(ctx, c, req, &c.Reply)
	c.Times.Upstream += time.Since(start)
	return err
}

// pick finds a node of the service that the call goes to.
func (f *forward) pick(c *rpc.Call) (*balancer.Node, error) {
	service := f.service
	if c.Service != f.options.Service {
		i := slices.IndexFunc(f.others, func(a alternative) bool { return a.name == c.Service })
		if i < 0 {
			return nil, rpc.Refuse(codes.Internal, "INTERNAL", "internal error").WithCause(fmt.Errorf("a plugin chose the service %q, which it did not name when it was made", c.Service))
		}
		service = f.others[i].up
	}
	return pick(service, balancer.Info{Subset: -1})
}

// pick finds a node that takes the call. A node that is being drained will not start: the next pick sees the new set.
func pick(service *upstream.Service, info balancer.Info) (*balancer.Node, error) {
	for tries := 0; ; tries++ {
		node, err := service.Pick(info)
		if err != nil {
			return nil, rpc.Refuse(codes.Unavailable, "NO_INSTANCE", "no instance of the service is available").WithCause(err)
		}
		if node.Start() {
			return node, nil
		}
		if tries >= maxPicks {
			return nil, rpc.Refuse(codes.Unavailable, "NO_INSTANCE", "every instance of the service is leaving")
		}
	}
}

// maxPicks bounds picking while a set of nodes is being replaced.
const maxPicks = 100
