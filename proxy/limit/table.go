package limit

import "sync"

// MaxKeys bounds the keys that a limiter knows at one moment; what the longest was not seen is forgotten.
const MaxKeys = 100_000

// parts is into how many parts with a lock each a table is divided.
const parts = 64

// table holds the state of each key, bounded: a key that is new takes the place of that which was not seen for longest.
// Keys that are blocked lose theirs only where all are: nobody gets rid of a refusal by flooding the table with keys.
type table[E any] struct {
	parts [parts]part[E]
}

// part is a part of the keys, in slots of one slice. A slot is in one of two rings; those of the two heads stand first.
type part[E any] struct {
	mu    sync.Mutex
	index map[uint64]int32
	slots []slot[E]
	most  int
	// rests tells that a key's state means no more than if it had never been seen.
	rests func(e *E, now int64) bool
	_     [24]byte // neighbours are locked by other cores
}

type slot[E any] struct {
	key        uint64
	prev, next int32
	blocked    bool
	of         E
}

// The heads of the rings.
const (
	passing int32 = iota
	blocked
	heads
)

func newTable[E any](most int, rests func(e *E, now int64) bool) *table[E] {
	t := &table[E]{}
	for i := range t.parts {
		p := &t.parts[i]
		p.most, p.rests = max(1, most/parts), rests
		p.index = map[uint64]int32{}
		p.slots = make([]slot[E], heads)
		for h := range heads {
			p.slots[h].prev, p.slots[h].next = h, h
		}
	}
	return t
}

// lock locks the part that has a key and returns it. Who has it locked calls mu.Unlock.
func (t *table[E]) lock(key uint64) *part[E] {
	p := &t.parts[key>>(64-6)]
	p.mu.Lock()
	return p
}

// len is the number of keys.
func (t *table[E]) len() int {
	n := 0
	for i := range t.parts {
		p := &t.parts[i]
		p.mu.Lock()
		n += len(p.index)
		p.mu.Unlock()
	}
	return n
}

// find returns the slot of a key, which counts as seen; one that is new has the zero state. It is valid until the next find.
func (p *part[E]) find(key uint64, now int64) *slot[E] {
	i, ok := p.index[key]
	if !ok {
		i = p.place(now)
		p.slots[i] = slot[E]{key: key}
		p.index[key] = i
		p.link(i, passing)
		return &p.slots[i]
	}
	s := &p.slots[i]
	p.unlink(i)
	p.link(i, ring(s.blocked))
	return s
}

// seen returns the slot of a key that is there still, or nil.
func (p *part[E]) seen(key uint64) *slot[E] {
	if i, ok := p.index[key]; ok {
		return &p.slots[i]
	}
	return nil
}

// place is a slot in no ring: a new one, or that of the key that is missed least.
func (p *part[E]) place(now int64) int32 {
	if len(p.index) < p.most {
		p.slots = append(p.slots, slot[E]{})
		return int32(len(p.slots) - 1) //nolint:gosec // at most MaxKeys
	}
	victim := p.slots[blocked].prev
	if victim == blocked || !p.rests(&p.slots[victim].of, now) {
		if v := p.slots[passing].prev; v != passing {
			victim = v
		}
	}
	p.unlink(victim)
	delete(p.index, p.slots[victim].key)
	return victim
}

// mark notes whether the key of a slot is blocked.
func (p *part[E]) mark(s *slot[E], is bool) {
	if s.blocked == is {
		return
	}
	i := p.slots[s.prev].next
	p.unlink(i)
	s.blocked = is
	p.link(i, ring(is))
}

func ring(is bool) int32 {
	if is {
		return blocked
	}
	return passing
}

func (p *part[E]) link(i, head int32) {
	s, h := &p.slots[i], &p.slots[head]
	s.prev, s.next = head, h.next
	p.slots[h.next].prev = i
	h.next = i
}

func (p *part[E]) unlink(i int32) {
	s := &p.slots[i]
	p.slots[s.prev].next, p.slots[s.next].prev = s.next, s.prev
}
