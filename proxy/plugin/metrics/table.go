package metrics

import (
	"maps"
	"sync"
	"sync/atomic"
)

// table is a map for many readers of which nothing is ever removed. Get reads an immutable map and takes no lock; what
// is new waits in a second map, under a lock, and joins the first after as many misses as make its copying cheap.
type table[K comparable, V any] struct {
	settled atomic.Pointer[map[K]V]

	mu     sync.Mutex
	fresh  map[K]V // not yet in settled
	misses int     // asked for in fresh since settled was stored
}

// get returns the value of a settled key.
func (t *table[K, V]) get(key K) (v V, ok bool) {
	if m := t.settled.Load(); m != nil {
		v, ok = (*m)[key]
	}
	return v, ok
}

// len is how many keys there are.
func (t *table[K, V]) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.fresh)
	if m := t.settled.Load(); m != nil {
		n += len(*m)
	}
	return n
}

// obtain returns the value of a key, made by newValue if there is none; newValue runs once per key, under the lock.
func (t *table[K, V]) obtain(key K, newValue func() V) V {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, ok := t.get(key); ok { // settled in the meantime
		return v
	}
	v, ok := t.fresh[key]
	if !ok {
		v = newValue()
		if t.fresh == nil {
			t.fresh = map[K]V{}
		}
		t.fresh[key] = v
	}
	t.misses++
	settled := t.settled.Load()
	if settled != nil && t.misses < len(*settled)/8 {
		return v
	}
	next := make(map[K]V, len(t.fresh))
	if settled != nil {
		maps.Copy(next, *settled)
	}
	maps.Copy(next, t.fresh)
	t.settled.Store(&next)
	t.fresh, t.misses = nil, 0
	return v
}
