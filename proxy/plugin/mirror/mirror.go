// Package mirror is the plugin mirror: it sends copies of calls to another service and drops what that answers.
//
// A copy is made when its call is over, of what the call has read by then, and sent by goroutines of the plugin's own: there is no
// way for it to slow the call down, or to fail it.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	mirrorv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/mirror/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "mirror",
	Config: func() proto.Message { return new(mirrorv1.Mirror) },
	New:    newPlugin,
}

// Header is what a copy has beside the metadata of its call. No caller can send it.
const Header = "x-causeway-mirror"

const (
	defaultConcurrency, maxConcurrency = 16, 1000
	defaultQueue, maxQueue             = 256, 100_000
	defaultBytes                       = 16 << 20
	defaultTimeout, maxTimeout         = 5 * time.Second, 5 * time.Minute
	maxShare                           = 1 << 32
)

// mirror has copies that wait, and goroutines that send them while there are any.
type mirror struct {
	service     plugin.Service
	name        string
	share       uint64 // of the calls, of maxShare
	concurrency int
	most        int   // copies that wait
	bytes       int64 // of messages that wait or are under way
	timeout     time.Duration
	log         *slog.Logger

	sent, failed, dropped, streams *telemetry.Counter

	ctx  context.Context //nolint:containedctx // of the goroutines, which end with the plugin
	stop context.CancelFunc
	all  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	waiting []*duplicate
	senders int
	held    int64
}

var _ plugin.Director = (*mirror)(nil)

// duplicate is a copy of a call with its message.
type duplicate struct {
	call *rpc.Call
	msg  rpc.Message
}

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*mirrorv1.Mirror)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	if conf.GetService() == "" {
		return nil, plugin.Faultf("service", "name one of the services", "no service")
	}
	m := &mirror{
		name: conf.GetService(), share: maxShare, concurrency: int(conf.GetConcurrency()), most: int(conf.GetQueue()),
		bytes: conf.GetMaxBytes(), timeout: defaultTimeout, log: env.Log,
	}
	if conf.Percent != nil {
		if p := conf.GetPercent(); math.IsNaN(p) || p < 0 || p > 100 {
			return nil, plugin.Faultf("percent", "write 0 to 100", "wanted a share in percent, found %v", p)
		}
		m.share = uint64(conf.GetPercent() / 100 * maxShare)
	}
	if conf.GetTimeout() != nil {
		if m.timeout = conf.GetTimeout().AsDuration(); m.timeout <= 0 || m.timeout > maxTimeout {
			return nil, plugin.Faultf("timeout", "write a time above 0s, such as 5s", "wanted more than 0s and at most %s, found %s", maxTimeout, m.timeout)
		}
	}
	for _, k := range []struct {
		key            string
		to             *int
		standard, most int
	}{{"concurrency", &m.concurrency, defaultConcurrency, maxConcurrency}, {"queue", &m.most, defaultQueue, maxQueue}} {
		if *k.to < 0 || *k.to > k.most {
			return nil, plugin.Faultf(k.key, "write a number, or remove the key for the default", "wanted 1 to %d, found %d", k.most, *k.to)
		}
		if *k.to == 0 {
			*k.to = k.standard
		}
	}
	if m.bytes < 0 {
		return nil, plugin.Faultf("max_bytes", "write a number of bytes, or remove the key for the default", "wanted 1 or more, found %d", m.bytes)
	}
	if m.bytes == 0 {
		m.bytes = defaultBytes
	}
	copies, err := env.Meter.Counter("causeway_mirror_copies_total", "", "Copies of calls, by what became of them.", "service", "result")
	if err != nil {
		return nil, err
	}
	m.sent, m.failed, m.dropped, m.streams = copies.With(m.name, "ok"), copies.With(m.name, "error"), copies.With(m.name, "dropped"), copies.With(m.name, "stream")
	if env.Service == nil {
		return nil, errors.New("there are no services to send copies to")
	}
	m.service = env.Service(m.name)
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m, nil
}

// Services implements plugin.Director: the service gets copies, and no calls.
func (m *mirror) Services() (chosen, called []string) { return nil, []string{m.name} }

// Close implements io.Closer: what waits is dropped, and what is under way ends.
func (m *mirror) Close() error {
	m.mu.Lock()
	m.closed = true
	m.dropped.Add(int64(len(m.waiting)))
	for _, d := range m.waiting {
		m.held -= int64(len(d.msg.Data))
	}
	m.waiting = nil
	m.mu.Unlock()
	m.stop()
	m.all.Wait()
	return nil
}

// Wrap implements plugin.Plugin.
func (m *mirror) Wrap(next rpc.Handler) rpc.Handler { return &handler{m, next} }

type handler struct {
	*mirror
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	if h.share != maxShare && rand.Uint64N(maxShare) >= h.share { //nolint:gosec // which calls are copied is no secret
		return h.next.Handle(ctx, c)
	}
	if c.Method.Kind != schema.Unary {
		h.streams.Inc()
		return h.next.Handle(ctx, c)
	}
	err := h.next.Handle(ctx, c)
	// What did not get so far that its body was read would not have reached the other service either.
	if !c.Times.Body.IsZero() {
		h.duplicate(ctx, c)
	}
	return err
}

// duplicate queues a copy of a call that is over, if there is room.
func (m *mirror) duplicate(ctx context.Context, c *rpc.Call) {
	defer m.recovered()
	msg, err := c.Body.Message(ctx, c.Method.Input) // translated already
	if err != nil {
		m.dropped.Inc()
		return
	}
	if !m.room(int64(len(msg.Data))) {
		m.dropped.Inc()
		return
	}
	// The call's own bytes end with it.
	d := &duplicate{c.Clone(), rpc.Message{Data: slices.Clone(msg.Data), Enc: msg.Enc, Comp: msg.Comp}}
	d.call.Header.Set(Header, "1")
	d.call.Service, d.call.Attempts, d.call.Node = m.name, 0, ""
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		m.held -= int64(len(d.msg.Data))
		m.dropped.Inc()
		return
	}
	m.waiting = append(m.waiting, d)
	if m.senders < m.concurrency {
		m.senders++
		m.all.Add(1)
		go m.send()
	}
}

// room takes n bytes if a copy may wait.
func (m *mirror) room(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.waiting) >= m.most || m.held+n > m.bytes {
		return false
	}
	m.held += n
	return true
}

// next takes a copy from the queue; nil: there is none, and the sender ends.
func (m *mirror) next() *duplicate {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.waiting) == 0 {
		m.waiting = nil // what the queue has grown to
		m.senders--
		return nil
	}
	d := m.waiting[0]
	m.waiting[0] = nil
	m.waiting = m.waiting[1:]
	return d
}

// send sends copies until there are none.
func (m *mirror) send() {
	defer m.all.Done()
	for d := m.next(); d != nil; d = m.next() {
		m.one(d)
	}
}

// one sends a copy.
func (m *mirror) one(d *duplicate) {
	defer m.recovered()
	defer func() {
		m.mu.Lock()
		m.held -= int64(len(d.msg.Data))
		m.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(m.ctx, m.timeout)
	defer cancel()
	var out rpc.Reply
	defer out.Reset()
	if err := m.service.Unary(ctx, d.call, &d.msg, &out); err != nil {
		m.failed.Inc()
		m.log.Debug("a copy of a call failed", "service", m.name, "request_id", d.call.ID, "error", err)
		return
	}
	m.sent.Inc()
}

// recovered ends a panic: nothing about a copy is worth more than the calls.
func (m *mirror) recovered() {
	if r := recover(); r != nil {
		m.failed.Inc()
		m.log.Error("panic in a copy of a call", "service", m.name, "panic", r, "stack", string(debug.Stack()))
	}
}
