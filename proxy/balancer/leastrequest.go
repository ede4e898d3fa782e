package balancer

import "math/rand/v2"

// compared is a node with what its calls in flight weigh: the mean weight of the group divided by its own.
type compared struct {
	node *Node
	each float64
}

func compare(all []weighted) []compared {
	mean := total(all) / float64(len(all))
	nodes := make([]compared, len(all))
	for i := range all {
		nodes[i] = compared{all[i].node, mean / all[i].weight}
	}
	return nodes
}

// leastRequest draws two by weight and takes the one with fewer calls in flight for its weight; of equals the first, so
// that idle nodes are taken by weight too.
type leastRequest struct {
	nodes []compared
	draw  draw
}

func newLeastRequest(all []weighted) *leastRequest {
	return &leastRequest{nodes: compare(all), draw: newDraw(all)}
}

func (p *leastRequest) pick(c call) *Node {
	for range draws {
		i, j := p.draw.pair(rand.Uint64())
		a, b := &p.nodes[i], &p.nodes[j]
		if !c.takes(b.node) {
			b = a
		}
		if !c.takes(a.node) {
			a = b
		}
		if a == b && !c.takes(a.node) {
			continue
		}
		if float64(b.node.Inflight())*b.each < float64(a.node.Inflight())*a.each {
			return b.node
		}
		return a.node
	}
	return nil
}

// peakEWMA draws two by weight and takes the one of less cost; of equals the first.
type peakEWMA struct {
	nodes []compared
	draw  draw
}

func newPeakEWMA(all []weighted) *peakEWMA {
	return &peakEWMA{nodes: compare(all), draw: newDraw(all)}
}

func (p *peakEWMA) pick(c call) *Node {
	for range draws {
		i, j := p.draw.pair(rand.Uint64())
		a, b := &p.nodes[i], &p.nodes[j]
		if !c.takes(b.node) {
			b = a
		}
		if !c.takes(a.node) {
			a = b
		}
		if a == b {
			if !c.takes(a.node) {
				continue
			}
			return a.node
		}
		if b.cost(c.now) < a.cost(c.now) {
			return b.node
		}
		return a.node
	}
	return nil
}

const (
	// unknown is the cost of a node that has answered nothing yet and has a call in flight already: so much that one is all
	// that it has until it answers.
	unknown = 1e15
	// headroom is the least that a loaded instance is taken to have left.
	headroom = 0.05
)

// cost is the time that a call would take if the calls in flight queued behind each other: latency, times one more than
// those in flight for the node's weight, divided by what the reported load leaves.
func (n *compared) cost(now int64) float64 {
	inflight := float64(n.node.Inflight()) * n.each
	cost := n.node.latency.at(now)
	if cost == 0 {
		if inflight == 0 {
			return 0
		}
		cost = unknown
	}
	cost *= 1 + inflight
	if load := n.node.Load(); load > 0 {
		cost /= max(1-load, headroom)
	}
	return cost
}
