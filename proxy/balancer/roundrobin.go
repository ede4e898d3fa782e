package balancer

import "sync/atomic"

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
