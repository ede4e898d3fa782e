package jsonwire

import (
	"hash/maphash"
	"math/bits"
)

// groupEnds tells where the groups end that have been gone over: a hash table from the offset of a group's content to the
// offset of its end tag. Its seed is its own, so that no input can be made to collide; it takes at most 16 bytes a group.
type groupEnds struct {
	seed  uint64
	slots []groupEnd
	n     int
}

// groupEnd is one entry. No content begins at 0, for a tag stands before it: then the slot is free.
type groupEnd struct{ start, end uint32 }

func (g *groupEnds) reset() {
	const kept = 1 << 10 // clearing more than was used would cost small messages what a large one left
	switch {
	case len(g.slots) > kept:
		g.slots, g.n = nil, 0
	case g.n > 0:
		clear(g.slots)
		g.n = 0
	}
}

// find gives the slot that holds start, or the free one where it belongs.
func (g *groupEnds) find(start uint32) int {
	hi, lo := bits.Mul64(uint64(start)^g.seed, g.seed|1)
	at, _ := bits.Mul64(hi^lo, uint64(len(g.slots)))
	i := int(at)
	for g.slots[i].start != start && g.slots[i].start != 0 {
		if i++; i == len(g.slots) {
			i = 0
		}
	}
	return i
}

// get gives the end of the group whose content begins at start.
func (g *groupEnds) get(start uint32) (end uint32, ok bool) {
	if g.n == 0 {
		return 0, false
	}
	s := g.slots[g.find(start)]
	return s.end, s.start != 0
}

// put notes a group that is not there.
func (g *groupEnds) put(start, end uint32) {
	if 4*(g.n+1) > 3*len(g.slots) {
		g.grow()
	}
	g.slots[g.find(start)] = groupEnd{start, end}
	g.n++
}

func (g *groupEnds) grow() {
	const first = 16
	old := g.slots
	g.slots = make([]groupEnd, max(first, len(old)+len(old)/2))
	if old == nil {
		g.seed = maphash.Bytes(maphash.MakeSeed(), nil)
	}
	for _, s := range old {
		if s.start != 0 {
			g.slots[g.find(s.start)] = s
		}
	}
}
