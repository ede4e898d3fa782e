package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/breaker"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/proxy/upstream"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// forward is the last handler of every chain: it has the body translated, picks an instance and calls it.
type forward struct {
	service *service
	subset  int // of the service's instances; -1: by their shares
	others  []alternative
	retries *retries
	options *rpcadapters.Options
	streams *streams
	panics  counter
}

// alternative is a service that a plugin may send a route's calls to.
type alternative struct {
	name    string
	service *service
}

// Handle forwards a call. It is tried again, with the same bytes, as retries has it.
func (f *forward) Handle(ctx context.Context, c *rpc.Call) error {
	to, subset, err := f.destination(c)
	if err != nil {
		return err
	}
	if len(c.Spelled) > 0 && !to.spells {
		rpcadapters.Plain(c)
	}
	if c.Method.Kind != schema.Unary {
		return f.stream(ctx, c, to, subset)
	}
	req, err := c.Body.Message(ctx, c.Method.Input)
	if err != nil {
		return err
	}
	t := try{to: to, retries: f.retries}
	t.info.Subset = subset
	t.start = rpcadapters.Now(c.Times.Start)
	c.Times.Body = t.start
	if b := to.up.Breaker(); b != nil {
		return f.within(ctx, c, b, &t, req)
	}
	return f.unary(ctx, c, &t, req)
}

// within is unary where a breaker bounds the calls of the service.
func (f *forward) within(ctx context.Context, c *rpc.Call, b *breaker.Breaker, t *try, req *rpc.Message) (err error) {
	pass, err := b.Enter(ctx)
	if err != nil {
		return refused(ctx, b, err)
	}
	counted, failed := true, true // by a panic
	defer func() { b.Leave(pass, counted, failed) }()
	t.start = time.Now() // it may have waited
	err = f.unary(ctx, c, t, req)
	counted, failed = blamed(err, time.Since(t.start))
	return err
}

// blamed tells whether the end of a call says something of the service, and whether it is the service's fault.
func blamed(err error, took time.Duration) (counted, failed bool) {
	if err == nil {
		return true, false
	}
	o := upstream.Classify(err, took)
	return o != outlier.Neutral, o == outlier.Failed || o == outlier.Unreached
}

// refused is the error of a call that a breaker does not let through.
func refused(ctx context.Context, b *breaker.Breaker, err error) error {
	if ctx.Err() != nil {
		return rpc.AsError(ctx.Err())
	}
	e := rpc.Refuse(codes.Unavailable, "OVERLOADED", "too many calls of the service are in flight").WithCause(err)
	if errors.Is(err, breaker.ErrOpen) {
		e = rpc.Refuse(codes.Unavailable, "BREAKER_OPEN", "the service fails: calls are refused for a while").WithCause(err)
		if left := time.Until(b.State().Until); left > 0 {
			e.Header.Add("retry-after", seconds(left))
		}
	}
	return e
}

// unary tries a unary call until it has an answer or may not be tried again.
func (f *forward) unary(ctx context.Context, c *rpc.Call, t *try, req *rpc.Message) error {
	t.to.up.Budget().Deposit()
	for {
		var err error
		if t.retries.hedgeAfter > 0 && t.retries.twice(c.Method) {
			err = f.hedged(ctx, c, t, req)
		} else {
			err = f.attempt(ctx, c, t, req)
		}
		if err == nil || !t.again(ctx, c, err) {
			return err
		}
		c.Reply.Reset()
		t.start = time.Now()
	}
}

// try is one call's way through the instances of a service. It is of the call's goroutine.
type try struct {
	to      *service
	retries *retries
	info    balancer.Info
	start   time.Time // of the attempt
	asked   bool      // counted is known
	counted bool      // somebody before the gateway tries the call again by himself
}

// attempt calls an instance.
func (f *forward) attempt(ctx context.Context, c *rpc.Call, t *try, req *rpc.Message) error {
	node, err := t.pick(ctx, c)
	if err != nil {
		return err
	}
	defer node.Done()
	c.Attempts++
	c.Node = node.Address
	if t.to.plans != nil {
		c.Plan = t.to.plans[c.Method]
	}
	err = t.call(ctx, c, node, req, &c.Reply)
	took := time.Since(t.start)
	c.Times.Upstream += took
	t.to.up.Report(node, err, took)
	if err != nil {
		t.info.Tried = append(t.info.Tried, node)
		return err
	}
	takeLoad(node, &c.Reply)
	return nil
}

// call has a node's transport call the method, for no longer than one try may take.
func (t *try) call(ctx context.Context, c *rpc.Call, node *balancer.Node, req *rpc.Message, out *rpc.Reply) error {
	if t.retries.perTry <= 0 {
		return node.Transport.Unary(ctx, c, req, out)
	}
	one, cancel := context.WithTimeout(ctx, t.retries.perTry)
	defer cancel()
	err := node.Transport.Unary(one, c, req, out)
	if err != nil && over(one) && !over(ctx) {
		return outOfTime(err)
	}
	return err
}

// outOfTime is what a try ends with whose time is over: what the transport says, unless it is just that. Whether it was sent is
// believed only where there is more behind the error than the context's end.
func outOfTime(err error) error {
	e := rpc.AsError(err)
	if e.Class != rpc.Framework || e.Code != codes.DeadlineExceeded {
		return err
	}
	slow := tooSlow(err)
	slow.Executed = e.Executed || errors.Is(err, context.DeadlineExceeded)
	return slow
}

// over tells whether a context has ended, or its time has by the clock: its timer may be late, and transports do not wait for it.
func over(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	due, ok := ctx.Deadline()
	return ok && !time.Now().Before(due)
}

// tooSlow is the error of a try that took longer than one may.
func tooSlow(cause error) *rpc.Error {
	e := rpc.Refuse(codes.DeadlineExceeded, "UPSTREAM_TIMEOUT", "the service did not answer in the time that one try has").WithCause(cause)
	e.Class, e.Executed = rpc.Transport, true
	return e
}

// destination is the service that a call goes to: the route's, unless a plugin has chosen another.
func (f *forward) destination(c *rpc.Call) (to *service, subset int, err error) {
	if c.Service == f.options.Service {
		return f.service, f.subset, nil
	}
	i := slices.IndexFunc(f.others, func(a alternative) bool { return a.name == c.Service })
	if i < 0 {
		return nil, 0, rpc.Refuse(codes.Internal, "INTERNAL", "internal error").WithCause(fmt.Errorf("a plugin chose the service %q, which it did not name when it was made", c.Service))
	}
	return f.others[i].service, -1, nil
}

// pick finds a node that takes the call and starts it there.
func (t *try) pick(ctx context.Context, c *rpc.Call) (*balancer.Node, error) {
	if h := t.to.hash; h != nil && !t.info.Hashed {
		t.info.Hash, t.info.Hashed = h.of(ctx, c)
	}
	return pick(t.to.up, t.info)
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
