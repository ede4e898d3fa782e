package balancer

import "math/bits"

// weighted is a node with its part of a group's calls, of any scale, more than 0.
type weighted struct {
	node   *Node
	weight float64
}

// equal tells whether the weights differ by rounding only.
func equal(all []weighted) bool {
	for i := range all {
		if d := all[i].weight - all[0].weight; d > 1e-9*all[0].weight || d < -1e-9*all[0].weight {
			return false
		}
	}
	return true
}

// total is the sum of the weights.
func total(all []weighted) float64 {
	sum := 0.0
	for i := range all {
		sum += all[i].weight
	}
	return sum
}

// draw turns random bits into an index by weight in constant time: Walker's alias method as Vose builds it.
type draw struct {
	n     uint64
	cells []cell // nil: equal weights
}

// cell is one of n equal parts of the whole; it belongs to its own index below cut and to another's from there.
type cell struct{ cut, other uint32 }

func newDraw(all []weighted) draw {
	d := draw{n: uint64(len(all))}
	if equal(all) {
		return d
	}
	d.cells = make([]cell, len(all))
	left := make([]float64, len(all)) // what is to be placed yet, in cells
	var small, large []uint32
	scale := float64(len(all)) / total(all)
	for i := range all {
		left[i] = all[i].weight * scale
		if left[i] < 1 {
			small = append(small, uint32(i))
		} else {
			large = append(large, uint32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		d.cells[s] = cell{cut: max(1, uint32(left[s]*(1<<32-1))), other: l} // below 1: it fits
		if left[l] -= 1 - left[s]; left[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, rest := range [][]uint32{small, large} { // full but for rounding
		for _, i := range rest {
			d.cells[i] = cell{cut: 1<<32 - 1, other: i}
		}
	}
	return d
}

// index takes 64 random bits.
func (d *draw) index(random uint64) int {
	if d.cells == nil {
		hi, _ := bits.Mul64(random, d.n)
		return int(hi) //nolint:gosec // below n
	}
	i := int((random >> 32) * d.n >> 32)
	if c := &d.cells[i]; uint32(random) >= c.cut { //nolint:gosec // the lower half
		return int(c.other)
	}
	return i
}

// pair draws two different indices of at least two. The second may be any other where weights are so uneven that it
// would have to be drawn often.
func (d *draw) pair(random uint64) (first, second int) {
	first = d.index(random)
	if d.cells != nil {
		for range 2 {
			random = mix(random + golden)
			if second = d.index(random); second != first {
				return first, second
			}
		}
	}
	hi, _ := bits.Mul64(mix(random+golden), d.n-1)
	if second = int(hi); second >= first { //nolint:gosec // below n-1
		second++
	}
	return first, second
}
