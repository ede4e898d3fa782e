// Package limitcount is the plugin limit_count: it allows each key so many calls in a window of time.
package limitcount

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	limitcountv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/limitcount/v1"
	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

const name = "limit_count"

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   name,
	Config: func() proto.Message { return new(limitcountv1.LimitCount) },
	New:    newPlugin,
}

// taker counts a call, or refuses it.
type taker interface {
	Take(ctx context.Context, c *rpc.Call) (limit.Verdict, error)
	ReadsCaller() (reads, needs bool)
	Expressions(m *schema.Method) []plugin.Expression
}

type limitCount struct{ limiter taker }

const (
	maxCount  = 1_000_000_000
	minWindow = time.Millisecond
	maxWindow = 24 * time.Hour
)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, err := limit.ConfigOf[*limitcountv1.LimitCount](config)
	if err != nil {
		return nil, err
	}
	window, count := conf.GetWindow().AsDuration(), conf.GetCount()
	switch {
	case count < 1 || count > maxCount:
		return nil, plugin.Faultf("count", "write how many calls may come in a window", "wanted 1 to %d, found %d", maxCount, count)
	case conf.GetWindow() == nil:
		return nil, plugin.Faultf("", "add `window`: 1s, 60s or 3600s", "no window")
	case !conf.GetWindow().IsValid() || window < minWindow || window > maxWindow:
		return nil, plugin.Faultf("window", "write 1s, 60s or 3600s", "wanted 0.001s to 86400s, found %s", window)
	}
	replicas := limit.Replicas(conf)
	share, batch := max(1, count/replicas), max(1, count/(batches*replicas))
	p := &limitCount{}
	if conf.GetType() == limitcountv1.Type_TYPE_SLIDING {
		whole, part := newSliding(count, window), newSliding(share, window)
		p.limiter, err = limit.New[slots](limit.Options[*sliding]{
			Plugin: name, Rule: whole, Share: part, Shared: whole.shared(batch), Limit: count,
		}, conf, env)
	} else {
		whole, part := &fixed{count, int64(window)}, &fixed{share, int64(window)}
		p.limiter, err = limit.New[span](limit.Options[*fixed]{
			Plugin: name, Rule: whole, Share: part, Shared: whole.shared(batch), Limit: count,
		}, conf, env)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// ReadsCaller implements plugin.CallerReader.
func (p *limitCount) ReadsCaller() (reads, needs bool) { return p.limiter.ReadsCaller() }

// Expressions implements plugin.Evaluator.
func (p *limitCount) Expressions(m *schema.Method) []plugin.Expression {
	return p.limiter.Expressions(m)
}

// Wrap implements plugin.Plugin.
func (p *limitCount) Wrap(next rpc.Handler) rpc.Handler { return &handler{p.limiter, next} }

type handler struct {
	limiter taker
	next    rpc.Handler
}

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	if _, err := h.limiter.Take(ctx, c); err != nil {
		return err
	}
	return h.next.Handle(ctx, c)
}
