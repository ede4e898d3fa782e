package balancer

import (
	"math"
	"math/rand/v2"
)

// group is instances among which the policy chooses: those of one subset, priority and distance.
type group struct {
	Group
	nodes  []*Node
	policy policy // nil: it has no share and takes only what others do not
}

// find chooses a node that takes the call; nil: there is none.
func (g *group) find(c call) *Node {
	if g.policy != nil {
		if n := g.policy.pick(c); n != nil {
			return n
		}
	}
	n := len(g.nodes)
	at := int(c.key % uint64(n)) //nolint:gosec // below n
	for range g.nodes {
		if c.takes(g.nodes[at]) {
			return g.nodes[at]
		}
		if at++; at == n {
			at = 0
		}
	}
	return nil
}

// table is groups with their shares: those of one subset, or of all that have a weight.
type table struct {
	entries []entry
	why     string // there are none
	err     error  // the same, as a pick says it
}

// entry is a group in a table. The entries of a subset follow each other, nearest first.
type entry struct {
	group *group
	share float64
	upto  uint64 // the group takes draws from the former's up to here, in 2^-64
	start int    // the first entry of the same subset
}

// choose finds the entry that a draw falls on.
func (t *table) choose(u uint64) int {
	for i := range t.entries {
		if u < t.entries[i].upto {
			return i
		}
	}
	return len(t.entries) - 1
}

// seal makes thresholds of the shares, whose sum is 1.
func (t *table) seal() {
	sum, last := 0.0, 0
	for i := range t.entries {
		e := &t.entries[i]
		sum += e.share
		if e.upto = math.MaxUint64; sum < 1 {
			e.upto = uint64(sum * (1 << 63) * 2)
		}
		if e.share > 0 {
			last = i
		}
	}
	for i := last; i < len(t.entries); i++ {
		t.entries[i].upto = math.MaxUint64
	}
}

// picker is what New makes.
type picker struct {
	any     table
	subsets []table
	keyed   bool // the policy goes by keys
	turns   bool // the policy goes by turns: so do the groups
	seq     counter
}

func (p *picker) Pick(info Info) (*Node, error) {
	t := &p.any
	if info.Subset >= 0 {
		if info.Subset >= len(p.subsets) {
			return nil, errNoSubset
		}
		t = &p.subsets[info.Subset]
	}
	if len(t.entries) == 0 {
		return nil, t.err
	}
	c := call{now: info.Now, tried: info.Tried}
	if p.keyed {
		if info.Hashed {
			c.key = mix(info.Hash)
		} else {
			c.key = rand.Uint64()
		}
	}
	i := 0
	if len(t.entries) > 1 {
		i = t.choose(p.draw(c.key))
	}
	if g := t.entries[i].group; g.policy != nil {
		if n := g.policy.pick(c); n != nil {
			return n, nil
		}
	}
	return p.search(t, i, c)
}

// draw says which group a call falls on: by its key where it has one, so that it stays in one place and subset as long as the
// shares stay; by turns where nodes are taken by turns.
func (p *picker) draw(key uint64) uint64 {
	switch {
	case p.keyed:
		return mix(key ^ golden)
	case p.turns:
		return uint64(p.seq.Add(1)) * golden
	default:
		return rand.Uint64()
	}
}

// search looks further than the policy of the group that a call fell on: at all nodes of that group, at the other groups, the
// nearest of the same subset first, and then at nodes that were tried already or that nobody was reached at.
func (p *picker) search(t *table, i int, c call) (*Node, error) {
	if !p.keyed {
		c.key = rand.Uint64()
	}
	for range 2 {
		if n := t.entries[i].group.find(c); n != nil {
			return n, nil
		}
		at := t.entries[i].start
		for range t.entries {
			if n := t.entries[at].group.find(c); n != nil {
				return n, nil
			}
			if at++; at == len(t.entries) {
				at = 0
			}
		}
		c.tried, c.last = nil, true
	}
	return t.entries[i].group.nodes[0], nil // all are leaving
}

// Groups shows how a Picker that New made spreads calls, in the order in which its groups are looked at.
func Groups(made Picker) []Group {
	p, ok := made.(*picker)
	if !ok {
		return nil
	}
	var out []Group
	at := map[*group]int{}
	for i := range p.subsets {
		for _, e := range p.subsets[i].entries {
			at[e.group] = len(out)
			out = append(out, e.group.Group)
			out[len(out)-1].Pinned = e.share
		}
	}
	for _, e := range p.any.entries {
		if i, ok := at[e.group]; ok {
			out[i].Share = e.share
			continue
		}
		out = append(out, e.group.Group)
		out[len(out)-1].Share = e.share
	}
	return out
}
