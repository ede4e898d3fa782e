package balancer

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
)

func newRoundRobin(all []weighted) policy {
	if equal(all) {
		p := &turns{nodes: nodesOf(all)}
		p.round.start(len(p.nodes))
		return p
	}
	p := &roundRobin{slots: split(all)}
	p.round.start(len(p.slots))
	return p
}

// counter is alone in its cache line, for every pick writes it.
type counter struct {
	_ [64]byte
	atomic.Uint32
	_ [64]byte
}

// round counts 0, 1, ..., size-1 again and again. It leaps once in 2^32, when the counter does.
type round struct {
	size  uint64
	part  uint64 // 2^64/size, rounded up: division by size is multiplication by it
	count counter
}

// start begins anywhere, so that many gateways do not march in step.
func (r *round) start(size int) {
	r.size = uint64(size) //nolint:gosec // not negative
	r.part = math.MaxUint64/r.size + 1
	r.count.Store(rand.Uint32())
}

// next is the next place, and how many rounds there were. Exact for 32 bits: Lemire, Kaser, Kurz, "Faster remainder by direct
// computation".
func (r *round) next() (rounds, at uint64) {
	rounds, fraction := bits.Mul64(uint64(r.count.Add(1)), r.part)
	at, _ = bits.Mul64(fraction, r.size)
	return rounds, at
}

// turns takes nodes of equal weight in turn.
type turns struct {
	nodes []*Node
	round round
}

func (p *turns) pick(c call) *Node {
	if _, at := p.round.next(); c.takes(p.nodes[at]) {
		return p.nodes[at]
	}
	for range draws * (1 + len(c.tried)) {
		if _, at := p.round.next(); c.takes(p.nodes[at]) {
			return p.nodes[at]
		}
	}
	return nil
}

// roundRobin goes round its slots, and passes one over so often that it is taken in proportion to its weight: static
// stride scheduling, gRFC A58. A pick is one addition to a shared number, and three in the mean at worst.
type roundRobin struct {
	slots []slot
	round round
}

// slot is a node's place in the round, one of several when the node is much heavier than the others.
type slot struct {
	node *Node
	// stride is the part of rounds in which the slot is taken, in 2^-32; the heaviest have 2^32.
	stride uint64
	// phase says in which: those of slots that follow each other differ by the golden ratio, so that every round passes
	// over about as many.
	phase uint64
}

const whole = 1 << 32

// split gives nodes of more than twice the mean weight several slots, spread over the round. No slot then has more than
// three times the mean of slots, which bounds how many are passed over for one that is taken.
func split(all []weighted) []slot {
	most := 2 * total(all) / float64(len(all))
	parts := make([]int, len(all)) // slots of each
	largest, n := 0.0, 0
	for i := range all {
		parts[i] = max(1, int(math.Ceil(all[i].weight/most)))
		largest = max(largest, all[i].weight/float64(parts[i]))
		n += parts[i]
	}
	slots := make([]slot, n)
	put := func(at, i int) {
		slots[at].node = all[i].node
		slots[at].stride = max(1, uint64(math.Round(all[i].weight/float64(parts[i])/largest*whole)))
	}
	// Those of several slots first, evenly apart, each pushed on to the next free place; the others fill what is left.
	for i := range all {
		if parts[i] == 1 {
			continue
		}
		for j := range parts[i] {
			at := (i + j*n/parts[i]) % n
			for slots[at].node != nil {
				at = (at + 1) % n
			}
			put(at, i)
		}
	}
	at := 0
	for i := range all {
		if parts[i] > 1 {
			continue
		}
		for slots[at].node != nil {
			at++
		}
		put(at, i)
	}
	for i := range slots {
		slots[i].phase = uint64(i) * golden >> 32
	}
	return slots
}

func (p *roundRobin) pick(c call) *Node {
	for range 1 + draws*(1+len(c.tried)) {
		if n := p.next(); c.takes(n) {
			return n
		}
	}
	return nil
}

func (p *roundRobin) next() *Node {
	for {
		rounds, at := p.round.next()
		// The phase moves on by the stride with every round; the slot is taken in those in which it passes the whole.
		if s := &p.slots[at]; (s.phase+rounds*s.stride)%whole+s.stride >= whole {
			return s.node
		}
	}
}
