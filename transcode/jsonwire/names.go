package jsonwire

import (
	"hash/maphash"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// nameSet tells which keys the open maps of a text have: a hash table of the places of the keys in the output, where they
// stand in their wire form. Its seed is its own, so that no input can be made to collide. It takes at most 16 bytes a key,
// and forgets the keys of maps that were closed when it needs their room.
type nameSet struct {
	seed   maphash.Seed
	slots  []nameSlot
	spare  []nameSlot // a former table, kept while it is small, so that growing need not allocate
	used   int        // slots that are not free
	scopes []uint32   // of the open maps, ascending
}

// nameSlot is a key: where it stands, and the scope of its map. A scope is the map's number, from 1 on, and in its low
// three bits the wire type of the keys; 0 is a free slot.
type nameSlot struct{ at, scope uint32 }

// keptNames is the number of slots up to which a table is kept.
const keptNames = 1 << 12

func (s *nameSet) scratch() int { return (cap(s.slots)+cap(s.spare))*8 + cap(s.scopes)*4 }

// reset empties the table and makes it small again, so that a small text does not pay for what a large one left.
func (s *nameSet) reset() {
	if s.used > 0 {
		clear(s.slots)
		s.slots, s.used = s.slots[:0], 0
	}
	if cap(s.slots) > keptNames {
		s.slots = nil
	}
	s.scopes = s.scopes[:0]
}

// open begins the map of a number; its keys have a wire type. The result is the scope of its keys.
func (s *nameSet) open(number uint32, typ protowire.Type) uint32 {
	scope := number<<3 | uint32(typ)
	s.scopes = append(s.scopes, scope)
	return scope
}

// close ends the map that was opened last.
func (s *nameSet) close() { s.scopes = s.scopes[:len(s.scopes)-1] }

// bytesAt is the key that stands at an offset of out.
func bytesAt(out []byte, at, scope uint32) []byte {
	i := int(at)
	switch protowire.Type(scope & 7) {
	case protowire.Fixed32Type:
		return out[i : i+4]
	case protowire.Fixed64Type:
		return out[i : i+8]
	case protowire.BytesType:
		n, next := varint(out, i, len(out))
		return out[next : next+int(n)]
	}
	_, next := varint(out, i, len(out))
	return out[i:next]
}

// find gives the slot of a key, or the free one where it belongs.
func (s *nameSet) find(out []byte, at, scope uint32) (i int, found bool) {
	key := bytesAt(out, at, scope)
	h := maphash.Bytes(s.seed, key) ^ uint64(scope)*0x9E3779B97F4A7C15
	i = int((h >> 32) * uint64(len(s.slots)) >> 32)
	for s.slots[i].scope != 0 {
		if s.slots[i].scope == scope && string(bytesAt(out, s.slots[i].at, scope)) == string(key) {
			return i, true
		}
		if i++; i == len(s.slots) {
			i = 0
		}
	}
	return i, false
}

// put adds the key that stands at an offset of out; it says whether its map had it.
func (s *nameSet) put(out []byte, at, scope uint32) bool {
	if 4*(s.used+1) > 3*len(s.slots) {
		s.grow(out)
	}
	i, found := s.find(out, at, scope)
	if !found {
		s.slots[i] = nameSlot{at, scope}
		s.used++
	}
	return found
}

// drop forgets the key that was put in last. No chain leads over its slot to another key, because every other key was put
// in before it.
func (s *nameSet) drop(out []byte, at, scope uint32) {
	if i, found := s.find(out, at, scope); found {
		s.slots[i] = nameSlot{}
		s.used--
	}
}

// grow keeps the keys of the open maps, in a table that they fill by half.
func (s *nameSet) grow(out []byte) {
	const first = 16
	old := s.slots
	if cap(old) == 0 {
		s.seed = maphash.MakeSeed()
	} else if len(old) == 0 {
		s.slots = old[:first]
		return
	}
	live := func(n nameSlot) bool {
		_, ok := slices.BinarySearch(s.scopes, n.scope)
		return ok
	}
	s.used = 0
	for _, n := range old {
		if live(n) {
			s.used++
		}
	}
	size := max(first, len(old))
	if 2*s.used >= size {
		size += size / 2
	}
	if cap(s.spare) >= size {
		s.slots = s.spare[:size]
		clear(s.slots)
	} else {
		s.slots = make([]nameSlot, size)
	}
	if s.spare = old; cap(old) > keptNames {
		s.spare = nil
	}
	for _, n := range old {
		if live(n) {
			i, _ := s.find(out, n.at, n.scope)
			s.slots[i] = n
		}
	}
}
