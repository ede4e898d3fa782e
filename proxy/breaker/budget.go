package breaker

import "sync/atomic"

// Budget bounds the retries of a service by its calls: every call adds a share of a retry, every retry takes a whole one.
// There are 3 to begin with and 1000 at most saved up, so that retries never exceed the share of all calls so far plus 3.
// It is safe for concurrent use. A nil Budget allows every retry.
type Budget struct {
	tokens  atomic.Int64 // in millionths of a retry
	share   int64        // what a call adds
	refused atomic.Uint64
}

const (
	retry   = 1_000_000
	reserve = 3 * retry
	saved   = 1000 * retry
)

// NewBudget returns a Budget with the retries that calls may have on average: 0 is 0.2, negative is none at all.
func NewBudget(ratio float64) *Budget {
	b := new(Budget)
	if ratio < 0 {
		return b
	}
	or(&ratio, 0.2)
	b.share = int64(min(ratio, 1000) * retry)
	b.tokens.Store(reserve)
	return b
}

// Deposit counts a call.
func (b *Budget) Deposit() {
	if b != nil && b.tokens.Load() < saved {
		b.tokens.Add(b.share)
	}
}

// Withdraw takes a retry; false: there is none left, the call has to do with what it got.
func (b *Budget) Withdraw() bool {
	if b == nil {
		return true
	}
	for {
		tokens := b.tokens.Load()
		if tokens < retry {
			b.refused.Add(1)
			return false
		}
		if b.tokens.CompareAndSwap(tokens, tokens-retry) {
			return true
		}
	}
}

// Left is how many retries there are.
func (b *Budget) Left() float64 {
	if b == nil {
		return 0
	}
	return float64(b.tokens.Load()) / retry
}

// Refused is how many retries were not to be had.
func (b *Budget) Refused() uint64 {
	if b == nil {
		return 0
	}
	return b.refused.Load()
}
