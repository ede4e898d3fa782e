// Package balancer chooses the instance of a service that takes a call. A Picker is made anew for each change of the
// instances and swapped in whole, so picking needs no lock.
package balancer

import (
	"errors"
	"sync/atomic"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters"
)

// ErrNoNode is the error of a Pick that finds no instance to take the call.
var ErrNoNode = errors.New("no instance is available")

// Node is one instance with its connections. Nodes outlive pickers: a Node stays while its instance stays.
type Node struct {
	registry.Endpoint
	Transport rpcadapters.Transport

	inflight atomic.Int64
	draining atomic.Bool
}

// Start takes the node for one call. It returns false when the node is being drained: pick again. Every Start that
// returned true is followed by one Done.
func (n *Node) Start() bool {
	n.inflight.Add(1)
	if n.draining.Load() {
		n.Done()
		return false
	}
	return true
}

// Done ends a call's hold on the node; the last one out of a draining node closes its transport.
func (n *Node) Done() {
	if n.inflight.Add(-1) == 0 && n.draining.Load() {
		_ = n.Transport.Close() // nobody is left to tell; Close may be called again
	}
}

// Drain lets calls in flight end and takes no new ones. The transport is closed when the last has ended.
func (n *Node) Drain() {
	n.draining.Store(true)
	if n.inflight.Load() == 0 {
		_ = n.Transport.Close() // as in Done
	}
}

// Inflight is the number of calls that hold the node.
func (n *Node) Inflight() int64 { return n.inflight.Load() }

// Info is what a policy may know of a call.
type Info struct {
	Attempt int // 0 for the first try
}

// Picker chooses a node. Pick neither blocks nor allocates; it is safe for concurrent use.
type Picker interface {
	Pick(Info) (*Node, error)
}

// Builder makes a Picker over nodes, which it may keep.
type Builder func(nodes []*Node) Picker
