package balancer

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Node is one instance with its connections. Nodes outlive pickers: a Node stays while its instance stays. Its methods are
// safe for concurrent use.
type Node struct {
	Address   string
	Transport rpcadapters.Transport
	Outcomes  *outlier.Record // nil: nobody asks how its calls went

	endpoint atomic.Pointer[registry.Endpoint]
	away     atomic.Uint32 // leaving, missed
	gate     rpc.Gate
	latency  latency
	load     atomic.Uint64 // above, the bits of a float32, below, the ticks at which it was reported
}

// NewNode makes the node of an instance. It takes the transport over: Drain closes it.
func NewNode(ep registry.Endpoint, t rpcadapters.Transport, r *outlier.Record) *Node {
	n := &Node{Address: ep.Address, Transport: t, Outcomes: r}
	n.load.Store(never)
	n.SetEndpoint(ep)
	return n
}

// Endpoint is the instance as the registry has it now.
func (n *Node) Endpoint() registry.Endpoint { return *n.endpoint.Load() }

// SetEndpoint takes over what the registry has changed about the instance. The address stays what it was.
func (n *Node) SetEndpoint(ep registry.Endpoint) { n.endpoint.Store(&ep) }

// Start takes the node for one call. It returns false when the node is being drained: pick again. Every Start that
// returned true is followed by one Done.
func (n *Node) Start() bool { return n.gate.Enter() }

// Done ends a call's hold on the node.
func (n *Node) Done() { n.gate.Leave() }

// Drain lets calls in flight end and takes no new ones; the last one out closes the transport. It is called once. Pickers
// made before pass the node over from then on.
func (n *Node) Drain() {
	n.away.Or(leaving)
	n.gate.Shut(func() { _ = n.Transport.Close() }) // nobody is left to tell of an error
}

// Why a node is passed over.
const (
	leaving = 1 << iota // it takes no calls any more
	missed              // nobody was there a moment ago
)

// Miss has every Picker pass the node over while others are left, at once and until Found: nobody was reached there. It
// spans the time until somebody has looked at the instance and has made another Picker.
func (n *Node) Miss() { n.away.Or(missed) }

// Found ends what Miss began. It costs little where nothing did.
func (n *Node) Found() {
	if n.away.Load()&missed != 0 {
		n.away.And(^uint32(missed))
	}
}

// Inflight is the number of calls that hold the node.
func (n *Node) Inflight() int64 { return n.gate.Inside() }

// Observe takes the time after which the instance answered an attempt; now is the clock of Info.Now.
func (n *Node) Observe(took time.Duration, now int64) { n.latency.observe(took, now) }

// ObserveFailure takes note of an attempt that got no answer. It counts as a long one however soon it failed: an instance
// that refuses at once would look like the fastest of all.
func (n *Node) ObserveFailure(took time.Duration, now int64) {
	n.latency.observe(max(took, time.Second), now)
}

// Latency is the moving average that PeakEWMA compares, as it stands at now; 0: unknown.
func (n *Node) Latency(now int64) time.Duration { return time.Duration(n.latency.at(now)) }

// origin is what moments are counted from, so that a wall clock that jumps moves none of them.
var origin = time.Now()

// SetLoad takes a load that the instance reported: 0 idle, 1 full, negative: not known any more. One older than the last
// is left alone. Nobody but the caller watches its age: a load holds until the next is set.
func (n *Node) SetLoad(load float64, at time.Time) {
	if math.IsNaN(load) {
		return
	}
	stamp := uint32(at.Sub(origin) >> tick) //nolint:gosec // wraps on purpose: only differences are used
	word := uint64(math.Float32bits(float32(min(load, 1))))<<32 | uint64(stamp)
	for {
		last := n.load.Load()
		if last != never && int32(stamp-uint32(last)) < 0 { //nolint:gosec // wraps on purpose
			return
		}
		if n.load.CompareAndSwap(last, word) {
			return
		}
	}
}

// Load is the load reported last; negative: none is known.
func (n *Node) Load() float64 {
	return float64(math.Float32frombits(uint32(n.load.Load() >> 32)))
}

// never is the load of a node that has reported none: -1, at no time.
const never = 0xbf800000 << 32
