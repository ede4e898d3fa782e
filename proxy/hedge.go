package proxy

import (
	"context"
	"runtime/debug"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// hedge is one of two attempts that run side by side.
type hedge struct {
	node  *balancer.Node
	reply rpc.Reply
	err   error
	took  time.Duration
}

// hedged calls an instance, and a second one when the first has not answered after a while; the answer that comes first is
// taken, and the other attempt ended. It returns when both have, for they use the call.
func (f *forward) hedged(ctx context.Context, c *rpc.Call, one *try, req *rpc.Message) error {
	copied := *one // so that calls which are not hedged cost no allocation
	t := &copied
	defer func() { one.info.Tried = copied.info.Tried }()
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan *hedge, 2)
	first, err := t.pick(ctx, c)
	if err != nil {
		return err
	}
	if t.to.plans != nil {
		c.Plan = t.to.plans[c.Method]
	}
	c.Attempts++
	go f.run(both, c, t, first, req, ended)
	t.info.Tried = append(t.info.Tried, first)
	running := 1
	timer := time.NewTimer(t.retries.hedgeAfter)
	defer timer.Stop()
	var best *hedge
	defer func() {
		for ; running > 0; running-- { // also behind a panic: the call may be used again as soon as it is over
			f.settle(t, <-ended, true)
		}
	}()
	for running > 0 && (best == nil || best.err != nil) {
		select {
		case <-timer.C:
			if c.Attempts < t.retries.attempts && t.to.up.Budget().Withdraw() {
				if second, err := t.pick(ctx, c); err == nil {
					t.to.retried.hedged.Add(1)
					c.Attempts++
					go f.run(both, c, t, second, req, ended)
					t.info.Tried = append(t.info.Tried, second)
					running++
				}
			}
		case h := <-ended:
			running--
			f.settle(t, h, false)
			if best != nil {
				best.reply.Reset()
			}
			best = h
		}
	}
	cancel()
	c.Node = best.node.Address
	c.Times.Upstream += best.took
	best.reply, c.Reply = c.Reply, best.reply
	best.reply.Reset()
	if best.err == nil {
		takeLoad(best.node, &c.Reply)
	}
	return best.err
}

// run is one attempt, in a goroutine of its own.
func (f *forward) run(ctx context.Context, c *rpc.Call, t *try, node *balancer.Node, req *rpc.Message, ended chan<- *hedge) {
	h := &hedge{node: node}
	start := time.Now()
	defer func() {
		if r := recover(); r != nil {
			f.panics.Add(1)
			f.streams.log.Error("panic in an attempt", "route", c.Route, "request_id", c.ID, "panic", r, "stack", string(debug.Stack()))
			h.err = panicked(r)
		}
		h.took = time.Since(start)
		node.Done()
		ended <- h
	}()
	h.err = t.call(ctx, c, node, req, &h.reply)
}

// settle takes the outcome of an attempt. The answer of one that lost is dropped; where it was broken off for that it would have
// taken longer still.
func (f *forward) settle(t *try, h *hedge, lost bool) {
	t.to.up.Report(h.node, h.err, h.took)
	if !lost {
		return
	}
	h.reply.Reset()
	if h.err != nil && rpc.AsError(h.err).Code == codes.Canceled {
		t.to.up.Overtaken(h.node, h.took)
	}
}
