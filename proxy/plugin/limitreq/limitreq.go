// Package limitreq is the plugin limit_req: it holds the calls of each key to a steady rate.
package limitreq

import (
	"context"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	limitreqv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/limitreq/v1"
	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

const name = "limit_req"

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   name,
	Config: func() proto.Message { return new(limitreqv1.LimitReq) },
	New:    newPlugin,
}

type limitReq struct {
	limiter *limit.Limiter[cell, *gcra]
	delay   bool
}

// Bounds of a configuration: beyond them calls are counted in nanoseconds no more.
const (
	maxRate  = 1e7 // in a second
	maxPer   = 24 * time.Hour
	maxAhead = 24 * time.Hour // what a burst may be worth
)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, err := limit.ConfigOf[*limitreqv1.LimitReq](config)
	if err != nil {
		return nil, err
	}
	per := time.Second
	if conf.GetPer() != nil {
		per = conf.GetPer().AsDuration()
	}
	rate := conf.GetRate() / per.Seconds()
	interval := 1e9 / rate
	switch {
	case !conf.GetPer().IsValid() && conf.GetPer() != nil, per <= 0, per > maxPer:
		return nil, plugin.Faultf("per", "write 1s, 60s or 3600s", "wanted more than 0s and at most 86400s, found %s", per)
	case math.IsNaN(rate) || conf.GetRate() <= 0:
		return nil, plugin.Faultf("rate", "write how many calls may come in "+per.String(), "wanted more than 0, found %v", conf.GetRate())
	case rate > maxRate:
		return nil, plugin.Faultf("rate", "write a lower rate", "wanted at most %v calls in a second, found %v", maxRate, rate)
	case interval > float64(maxAhead):
		return nil, plugin.Faultf("rate", "write a higher rate", "wanted at least one call in %s, found %v in %s", maxAhead, conf.GetRate(), per)
	case conf.GetBurst() < 0:
		return nil, plugin.Faultf("burst", "write 0, or how many may come at once", "wanted at least 0, found %d", conf.GetBurst())
	case float64(conf.GetBurst())*interval > float64(maxAhead):
		return nil, plugin.Faultf("burst", "write fewer", "wanted a burst that the rate makes up for within %s, found %d", maxAhead, conf.GetBurst())
	case conf.GetDelay() && conf.GetBurst() == 0:
		return nil, plugin.Faultf("delay", "write a `burst`, or remove it", "there is no burst that could wait")
	case conf.GetDelay() && conf.GetStore() != "":
		return nil, plugin.Faultf("delay", "remove `delay`, or `store`", "calls cannot wait for a limit that is kept in a store")
	}
	replicas := float64(limit.Replicas(conf))
	whole, part := newGCRA(interval, conf.GetBurst()), newGCRA(interval*replicas, int64(float64(conf.GetBurst())/replicas))
	l, err := limit.New[cell](limit.Options[*gcra]{
		Plugin: name,
		Rule:   whole,
		Share:  part,
		Shared: newShared(interval, conf.GetBurst(), rate/replicas),
		Limit:  conf.GetBurst() + 1,
	}, conf, env)
	if err != nil {
		return nil, err
	}
	return &limitReq{l, conf.GetDelay()}, nil
}

// ReadsCaller implements plugin.CallerReader.
func (p *limitReq) ReadsCaller() (reads, needs bool) { return p.limiter.ReadsCaller() }

// Expressions implements plugin.Evaluator.
func (p *limitReq) Expressions(m *schema.Method) []plugin.Expression {
	return p.limiter.Expressions(m)
}

// Wrap implements plugin.Plugin.
func (p *limitReq) Wrap(next rpc.Handler) rpc.Handler { return &handler{p, next} }

type handler struct {
	*limitReq
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	v, err := h.limiter.Take(ctx, c)
	if err != nil {
		return err
	}
	if h.delay && v.Early > 0 {
		if err := wait(ctx, v.Early); err != nil {
			return err
		}
	}
	return h.next.Handle(ctx, c)
}

// wait waits for a call's turn, or for the end of the call.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
