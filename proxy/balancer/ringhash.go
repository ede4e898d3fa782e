package balancer

import (
	"cmp"
	"math/bits"
	"slices"
)

const (
	// pointsEach is how many points of the ring a node of median weight has: enough that shares differ by about a sixteenth.
	pointsEach = 256
	// ringSize is the most points a ring has unless the configuration says otherwise: 52 each for 5,000 nodes.
	ringSize = 1 << 18
	// steps is how far one goes on from a node that does not take the call before each is asked.
	steps = 64
)

// ring is a consistent hash: each node has points on a circle of 2^32 in proportion to its weight, and a key belongs to the
// node of the first point at or after it (ketama). A node's points depend on its address alone, so one that comes or goes
// moves its own keys only.
type ring struct {
	nodes  []*Node
	points []point  // in order
	first  []uint32 // by the upper bits of a key: the first point that may be at or after it
	shift  int
}

type point struct {
	at, node uint32
}

func newRing(all []weighted, size int) *ring {
	if size <= 0 {
		size = ringSize
	}
	all = byAddress(all)
	p := &ring{nodes: nodesOf(all)}
	// By the median, which stays when one comes, goes or starts slowly; a mean would give all the others other points.
	per := min(pointsEach/median(all), float64(size)/total(all))
	points := make([]point, 0, int(total(all)*per)+len(all))
	for i := range all {
		base := hashOf(all[i].node.Address)
		for j := range max(1, int(all[i].weight*per+0.5)) {
			points = append(points, point{uint32(mix(base+uint64(j)*golden) >> 32), uint32(i)})
		}
	}
	p.sort(points)
	return p
}

// byAddress is all in an order that does not depend on how they came.
func byAddress(all []weighted) []weighted {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b weighted) int { return cmp.Compare(a.node.Address, b.node.Address) })
	return all
}

func median(all []weighted) float64 {
	weights := make([]float64, len(all))
	for i := range all {
		weights[i] = all[i].weight
	}
	slices.Sort(weights)
	return weights[len(weights)/2]
}

// sort puts the points in order by way of the index, of which each part has one or two: points are spread evenly.
func (p *ring) sort(points []point) {
	width := max(1, bits.Len(uint(len(points)))-1)
	p.shift = 32 - width
	p.first = make([]uint32, 1<<width+1)
	for i := range points {
		p.first[points[i].at>>p.shift+1]++
	}
	for i := 1; i < len(p.first); i++ {
		p.first[i] += p.first[i-1]
	}
	next := slices.Clone(p.first)
	p.points = make([]point, len(points))
	for i := range points {
		at := &next[points[i].at>>p.shift]
		p.points[*at] = points[i]
		*at++
	}
	for i := 1; i < len(p.points); i++ {
		for j := i; j > 0 && p.points[j].at < p.points[j-1].at; j-- {
			p.points[j], p.points[j-1] = p.points[j-1], p.points[j]
		}
	}
}

func (p *ring) pick(c call) *Node {
	at := uint32(c.key >> 32)
	i := int(p.first[at>>p.shift])
	for i < len(p.points) && p.points[i].at < at {
		i++
	}
	for range steps {
		if i >= len(p.points) {
			i = 0
		}
		if n := p.nodes[p.points[i].node]; c.takes(n) {
			return n
		}
		i++
	}
	return nil
}
