// Package limitconn is the plugin limit_conn: it bounds the calls of each key that are in flight at one moment.
package limitconn

import (
	"context"
	"sync"

	"google.golang.org/protobuf/proto"

	limitconnv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/limitconn/v1"
	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

const name = "limit_conn"

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   name,
	Config: func() proto.Message { return new(limitconnv1.LimitConn) },
	New:    newPlugin,
}

type limitConn struct {
	count   int64
	keys    *limit.Keys
	parts   [parts]part
	refused *telemetry.CounterVec
}

// parts is into how many parts with a lock each the keys are divided.
const parts = 64

// part counts the calls in flight of some keys. A key without any has no entry, so that the table is no larger than the calls
// are many.
type part struct {
	mu    sync.Mutex
	calls map[uint64]int64
	_     [48]byte // neighbours are locked by other cores
}

const maxCount = 1_000_000

// ReadsCaller implements plugin.CallerReader.
func (p *limitConn) ReadsCaller() (reads, needs bool) { return p.keys.ByCaller(), false }

// Expressions implements plugin.Evaluator.
func (p *limitConn) Expressions(m *schema.Method) []plugin.Expression {
	return p.keys.Expressions(m)
}

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, err := limit.ConfigOf[*limitconnv1.LimitConn](config)
	if err != nil {
		return nil, err
	}
	if conf.GetCount() < 1 || conf.GetCount() > maxCount {
		return nil, plugin.Faultf("count", "write how many calls may be in flight", "wanted 1 to %d, found %d", maxCount, conf.GetCount())
	}
	p := &limitConn{count: conf.GetCount()}
	if p.keys, err = limit.NewKeys(conf.GetKey(), "key"); err != nil {
		return nil, err
	}
	for i := range p.parts {
		p.parts[i].calls = map[uint64]int64{}
	}
	p.refused, err = env.Meter.Counter("causeway_limit_conn_refused_total", "", "Calls refused because of a limit.", "route")
	if err != nil {
		return nil, err
	}
	st, prefix, err := limit.Open(name, conf, env)
	if err != nil || st == nil {
		return p, err
	}
	return newShared(p, conf, st, prefix, env)
}

// enter counts a call in, unless there are most of its key.
func (p *limitConn) enter(key uint64, most int64) bool {
	t := &p.parts[key%parts]
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.calls[key]
	if n >= most {
		return false
	}
	t.calls[key] = n + 1
	return true
}

// leave counts a call out.
func (p *limitConn) leave(key uint64) {
	t := &p.parts[key%parts]
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.calls[key]; n > 1 {
		t.calls[key] = n - 1
	} else {
		delete(t.calls, key)
	}
}

// Wrap implements plugin.Plugin.
func (p *limitConn) Wrap(next rpc.Handler) rpc.Handler { return &handler{p, next} }

type handler struct {
	*limitConn
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	key, _, err := h.keys.Number(ctx, c)
	if err != nil {
		return err
	}
	if !h.enter(key, h.count) {
		h.refused.With(c.Route).Inc()
		return limit.Refused(0)
	}
	defer h.leave(key)
	return h.next.Handle(ctx, c)
}
