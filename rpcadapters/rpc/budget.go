package rpc

import "sync/atomic"

// Budget bounds the bytes that all calls together hold at one moment. Its methods are safe for concurrent use; a nil
// Budget has no bound.
type Budget struct {
	limit atomic.Int64
	used  atomic.Int64
}

// NewBudget makes a budget of limit bytes.
func NewBudget(limit int64) *Budget {
	b := &Budget{}
	b.limit.Store(limit)
	return b
}

// Take claims n bytes; false: they are not there, and nothing is claimed.
func (b *Budget) Take(n int) bool {
	if b == nil || n == 0 {
		return true
	}
	if b.used.Add(int64(n)) > b.limit.Load() {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

// Give gives back n bytes that were taken.
func (b *Budget) Give(n int) {
	if b != nil && n != 0 {
		b.used.Add(-int64(n))
	}
}

// SetLimit changes the bound; what is held already stays.
func (b *Budget) SetLimit(limit int64) { b.limit.Store(limit) }

// Used is how many bytes are held.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}
