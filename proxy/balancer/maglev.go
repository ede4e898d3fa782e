package balancer

import "math/bits"

// maglevTable is the size of the table unless the configuration says otherwise: the smaller one of Google's paper, prime.
const maglevTable = 65537

// maglev is a consistent hash by a table of node numbers that each node fills in the order of its own permutation, taking
// turns by weight: "Maglev: A Fast and Reliable Software Network Load Balancer", section 3.4. Shares are evener than the
// ring's and picks cheaper; a change moves some more keys.
type maglev struct {
	nodes []*Node
	table []uint32
}

func newMaglev(all []weighted, size int) *maglev {
	all = byAddress(all)
	if size <= 0 {
		size = maglevTable
	}
	for size < 8*len(all) {
		size *= 8 // in large steps, for another size moves every key
	}
	size = prime(size)
	p := &maglev{nodes: nodesOf(all), table: make([]uint32, size)}
	m := uint64(size) //nolint:gosec // not negative
	most := 0.0
	for i := range all {
		most = max(most, all[i].weight)
	}
	type turn struct {
		at, skip   uint64  // where the permutation stands, how it goes on
		due, every float64 // the round of the next turn, and rounds between turns: 1 for the heaviest
		next       int32   // whose turn is after this one in its round; -1: none's
	}
	turns := make([]turn, len(all))
	type queue struct{ head, tail int32 }
	rounds := make([]queue, size) // the heaviest takes its turn in each: no more are needed
	for i := range rounds {
		rounds[i] = queue{-1, -1}
	}
	wait := func(i int32) {
		t := &turns[i]
		if t.due >= float64(size) {
			return
		}
		t.next = -1
		q := &rounds[int(t.due)]
		if q.head < 0 {
			q.head = i
		} else {
			turns[q.tail].next = i
		}
		q.tail = i
	}
	for i := range all {
		h := hashOf(all[i].node.Address)
		turns[i] = turn{at: h % m, skip: mix(h+golden)%(m-1) + 1, every: most / all[i].weight}
		wait(int32(i)) // everybody has a turn in the first round
	}
	taken := 0
	for round := range rounds {
		for i := rounds[round].head; i >= 0; {
			t := &turns[i]
			for p.table[t.at] != 0 {
				if t.at += t.skip; t.at >= m {
					t.at -= m
				}
			}
			p.table[t.at] = uint32(i) + 1
			if taken++; taken == size {
				break
			}
			next := t.next
			t.due += t.every
			wait(i)
			i = next
		}
		if taken == size {
			break
		}
	}
	for i := range p.table {
		p.table[i]--
	}
	return p
}

// prime is the least prime that is not less than n.
func prime(n int) int {
	for n = max(n, 2); ; n++ {
		found := true
		for d := 2; d*d <= n; d++ {
			if n%d == 0 {
				found = false
				break
			}
		}
		if found {
			return n
		}
	}
}

func (p *maglev) pick(c call) *Node {
	at, _ := bits.Mul64(c.key, uint64(len(p.table)))
	for range steps {
		if n := p.nodes[p.table[at]]; c.takes(n) {
			return n
		}
		if at++; at == uint64(len(p.table)) {
			at = 0
		}
	}
	return nil
}
