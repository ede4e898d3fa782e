// Package tracing is the plugin tracing: it finds a call's place in a distributed trace, passes it on to the service, and
// makes the call's spans when its answer has gone out.
package tracing

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"google.golang.org/protobuf/proto"

	tracingv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/tracing/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "tracing",
	Config: func() proto.Message { return new(tracingv1.Tracing) },
	New:    newPlugin,
}

// tracing is the plugin.
type tracing struct {
	spans       *telemetry.Spans
	below       uint64 // a trace is sampled if the last 63 bits of its id are below this
	parentBased bool
	propagators []propagator
	fresh       freshIDs
}

var _ rpc.Finisher = (*tracing)(nil)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*tracingv1.Tracing)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	t := &tracing{spans: env.Spans, parentBased: true, below: 1 << 63}
	if conf.ParentBased != nil { //nolint:protogetter // false is a value
		t.parentBased = conf.GetParentBased()
	}
	if conf.Ratio != nil { //nolint:protogetter // 0 is a value
		ratio := conf.GetRatio()
		if math.IsNaN(ratio) || ratio < 0 || ratio > 1 {
			return nil, plugin.Faultf("ratio", "write 0.1 for one trace in ten", "want a share from 0 to 1, found %v", ratio)
		}
		t.below = uint64(ratio * (1 << 63))
	}
	names := conf.GetPropagators()
	if len(names) == 0 {
		names = []string{"tracecontext"}
	}
	for i, name := range names {
		at := fmt.Sprintf("propagators[%d]", i)
		n := slices.Index(propagatorNames[:], name)
		switch {
		case n < 0:
			return nil, plugin.Faultf(at, "name any of tracecontext, b3, b3multi", "unknown propagator %q%s", name,
				schema.DidYouMean(name, propagatorNames[:]))
		case slices.Contains(t.propagators, propagator(n)): //nolint:gosec // of three names
			return nil, plugin.Faultf(at, "name it once", "the propagator %q a second time", name)
		}
		t.propagators = append(t.propagators, propagator(n)) //nolint:gosec // as above
	}
	return t, nil
}

// Wrap puts the call into its trace before next.
func (t *tracing) Wrap(next rpc.Handler) rpc.Handler { return &handler{t, next} }

type handler struct {
	*tracing

	next rpc.Handler
}

// Handle passes the call on, with its place in the trace in the metadata that the service gets.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	from, found := h.begin(c)
	switch {
	case c.Trace.Sampled && h.spans.Active():
		h.inject(c, c.Trace, upstreamID(c.Trace.Span), from.state)
	case !found:
		h.injectFresh(c)
	case !from.passes(h.propagators) || from.sampled() != c.Trace.Sampled:
		h.inject(c, c.Trace, c.Trace.Parent, from.state)
	default: // the service gets what the caller wrote: the gateway has no span in between
	}
	return h.next.Handle(ctx, c)
}

// begin sets c.Trace: by what the caller shows, else anew.
func (t *tracing) begin(c *rpc.Call) (from incoming, found bool) {
	header := c.Header
	if c.HTTP != nil {
		header = c.HTTP.Header
	}
	if from, found = t.extract(header); found {
		c.Trace = rpc.Trace{ID: from.id, Parent: from.span, Sampled: t.sampled(&from)}
	} else {
		c.Trace = rpc.Trace{ID: newTraceID()}
		c.Trace.Sampled = t.chosen(c.Trace.ID)
	}
	c.Trace.Span = newSpanID()
	return from, found
}

// sampled is the decision for a trace that a caller shows.
func (t *tracing) sampled(from *incoming) bool {
	if t.parentBased && from.decided {
		return from.sampledFlag
	}
	return t.chosen(from.id)
}

// chosen is the gateway's own decision, the same wherever it is made for one trace.
func (t *tracing) chosen(id [16]byte) bool {
	return binary.BigEndian.Uint64(id[8:])>>1 < t.below
}

func newTraceID() (id [16]byte) {
	for id == [16]byte{} {
		binary.LittleEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // an id has to differ, not to be secret
		binary.LittleEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // as above
	}
	return id
}

func newSpanID() (id [8]byte) {
	for id == [8]byte{} {
		binary.LittleEndian.PutUint64(id[:], rand.Uint64()) //nolint:gosec // as above
	}
	return id
}

// The gateway's spans of one call have ids that follow from the first one's.
func upstreamID(span [8]byte) [8]byte { return derived(span, 1) }
func receiveID(span [8]byte) [8]byte  { return derived(span, 2) }
func sendID(span [8]byte) [8]byte     { return derived(span, 3) }

// derived is a mix of span and n (splitmix64), never zero.
func derived(span [8]byte, n uint64) (id [8]byte) {
	z := binary.BigEndian.Uint64(span[:]) + n*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	if z == 0 {
		z = n
	}
	binary.BigEndian.PutUint64(id[:], z)
	return id
}
