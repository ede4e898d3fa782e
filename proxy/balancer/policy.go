package balancer

import (
	"math/rand/v2"
	"slices"
)

// call is what a policy knows of a call. It is passed by value, in registers.
type call struct {
	key   uint64 // mixed; random when the call has no key
	now   int64
	tried []*Node
	last  bool // nobody else is left: also those that are missed
}

// takes tells whether the call may go to n.
func (c *call) takes(n *Node) bool {
	away := n.away.Load()
	return (away == 0 || away == missed && c.last) && (len(c.tried) == 0 || !slices.Contains(c.tried, n))
}

// policy chooses among the nodes of one group. It returns nil when those it looked at do not take the call: the caller
// then asks each.
type policy interface {
	pick(c call) *Node
}

// newPolicy makes the policy of a group, which is not empty.
func newPolicy(cfg *Config, all []weighted) policy {
	if len(all) == 1 {
		return single{all[0].node}
	}
	switch cfg.Policy {
	case LeastRequest:
		return newLeastRequest(all)
	case PeakEWMA:
		return newPeakEWMA(all)
	case RingHash:
		return newRing(all, cfg.RingSize)
	case Maglev:
		return newMaglev(all, cfg.Table)
	case Random:
		return newRandom(all)
	default:
		return newRoundRobin(all)
	}
}

// single is a group of one.
type single struct{ node *Node }

func (p single) pick(c call) *Node {
	if c.takes(p.node) {
		return p.node
	}
	return nil
}

// draws is how often a policy draws again where what it drew does not take the call.
const draws = 4

// random draws by weight.
type random struct {
	nodes []*Node
	draw  draw
}

func newRandom(all []weighted) *random {
	return &random{nodes: nodesOf(all), draw: newDraw(all)}
}

func (p *random) pick(c call) *Node {
	for range draws {
		if n := p.nodes[p.draw.index(rand.Uint64())]; c.takes(n) {
			return n
		}
	}
	return nil
}

func nodesOf(all []weighted) []*Node {
	nodes := make([]*Node, len(all))
	for i := range all {
		nodes[i] = all[i].node
	}
	return nodes
}
