package balancer

import (
	"math/rand/v2"
	"sync/atomic"
)

// RoundRobin takes the nodes in turn, starting anywhere, so that many gateways do not march in step.
func RoundRobin(nodes []*Node) Picker {
	p := &roundRobin{nodes: nodes}
	p.next.Store(rand.Uint64())
	return p
}

type roundRobin struct {
	nodes []*Node
	next  atomic.Uint64
}

func (p *roundRobin) Pick(Info) (*Node, error) {
	if len(p.nodes) == 0 {
		return nil, ErrNoNode
	}
	return p.nodes[p.next.Add(1)%uint64(len(p.nodes))], nil
}
