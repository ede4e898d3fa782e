package jsonwire

import "hash/maphash"

// keySet is a hash table from (scope, bytes) to a number: the fields given by parameters, and the keys of maps among them. It
// is emptied in time linear in what was put in, and its seed is its own, so that no input can be made to collide.
type keySet struct {
	seed  maphash.Seed
	slots []uint32 // index in items plus one; a power of two
	items []keyItem
	bytes []byte
}

type keyItem struct {
	scope, off, size, value uint32
	hash                    uint64
}

const firstSlots = 16

// keepSlots bounds what a pooled table keeps.
const keepSlots = 1 << 14

func (s *keySet) reset() {
	if len(s.items) == 0 {
		return
	}
	if len(s.slots) > keepSlots || cap(s.bytes) > keepScratch {
		s.slots, s.items, s.bytes = nil, nil, nil
		return
	}
	clear(s.slots)
	s.slots, s.items, s.bytes = s.slots[:0], s.items[:0], s.bytes[:0]
}

// put finds the value kept for key in scope, or keeps value for it. The result points into the table and holds until the
// next put.
func (s *keySet) put(scope uint32, key []byte, value uint32) (at *uint32, found bool) {
	if len(s.slots) == 0 {
		if cap(s.slots) == 0 {
			s.seed = maphash.MakeSeed()
			s.slots = make([]uint32, firstSlots)
		}
		s.slots = s.slots[:firstSlots]
	}
	if 2*len(s.items) >= len(s.slots) {
		s.grow()
	}
	h := maphash.Bytes(s.seed, key) ^ uint64(scope)*0x9E3779B97F4A7C15
	mask := uint64(len(s.slots) - 1)
	i := h & mask
	for s.slots[i] != 0 {
		it := &s.items[s.slots[i]-1]
		if it.hash == h && it.scope == scope && string(s.bytes[it.off:it.off+it.size]) == string(key) {
			return &it.value, true
		}
		i = (i + 1) & mask
	}
	s.items = append(s.items, keyItem{scope: scope, off: uint32(len(s.bytes)), size: uint32(len(key)), value: value, hash: h})
	s.bytes = append(s.bytes, key...)
	s.slots[i] = uint32(len(s.items))
	return &s.items[len(s.items)-1].value, false
}

// get finds the value kept for key in scope.
func (s *keySet) get(scope uint32, key []byte) (uint32, bool) {
	if len(s.items) == 0 {
		return 0, false
	}
	h := maphash.Bytes(s.seed, key) ^ uint64(scope)*0x9E3779B97F4A7C15
	mask := uint64(len(s.slots) - 1)
	for i := h & mask; s.slots[i] != 0; i = (i + 1) & mask {
		it := &s.items[s.slots[i]-1]
		if it.hash == h && it.scope == scope && string(s.bytes[it.off:it.off+it.size]) == string(key) {
			return it.value, true
		}
	}
	return 0, false
}

func (s *keySet) grow() {
	n := 2 * len(s.slots)
	if cap(s.slots) >= n {
		s.slots = s.slots[:n]
	} else {
		s.slots = make([]uint32, n)
	}
	clear(s.slots)
	mask := uint64(n - 1)
	for k := range s.items {
		i := s.items[k].hash & mask
		for s.slots[i] != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = uint32(k + 1)
	}
}
