// Package balancer chooses the instance of a service that takes a call. A Picker is made anew for each change of the
// instances and swapped in whole, so picking needs no lock.
package balancer

import (
	"errors"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// ErrNoNode is the error of a Pick that finds no instance to take the call.
var ErrNoNode = errors.New("no instance is available")

// Node is one instance with its connections. Nodes outlive pickers: a Node stays while its instance stays.
type Node struct {
	registry.Endpoint
	Transport rpcadapters.Transport

	gate rpc.Gate
}

// Start takes the node for one call. It returns false when the node is being drained: pick again. Every Start that
// returned true is followed by one Done.
func (n *Node) Start() bool { return n.gate.Enter() }

// Done ends a call's hold on the node.
func (n *Node) Done() { n.gate.Leave() }

// Drain lets calls in flight end and takes no new ones; the last one out closes the transport. It is called once.
func (n *Node) Drain() {
	n.gate.Shut(func() { _ = n.Transport.Close() }) // nobody is left to tell of an error
}

// Inflight is the number of calls that hold the node.
func (n *Node) Inflight() int64 { return n.gate.Inside() }

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
