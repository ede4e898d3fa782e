package balancer

import (
	"math"
	"sync/atomic"
	"time"
)

// latency is a moving average of durations that rises at once and falls slowly: Finagle's PeakEwma. The average and its
// time share one word, so that one compare-and-swap changes both: above, the bits of a float32 in nanoseconds, below, the
// time in ticks. The zero latency is unknown.
type latency struct{ word atomic.Uint64 }

const (
	tick  = 20                                    // a tick is 2^20 ns, about 1 ms: 32 bits of them last 52 days
	decay = float64(10*time.Second) / (1 << tick) // after so many ticks, e^-1 of an average is left
)

// observe lets the average jump to a longer time, and moves it towards a shorter one by as much as time has passed.
func (l *latency) observe(took time.Duration, now int64) {
	sample := max(float64(took), 1) // 0 would be unknown
	at := uint32(now >> tick)       //nolint:gosec // wraps on purpose: only differences are used
	for {
		old := l.word.Load()
		cost := sample
		if last := float64(math.Float32frombits(uint32(old >> 32))); last > sample {
			cost = sample + (last-sample)*left(at-uint32(old)) //nolint:gosec // the lower half
		}
		word := uint64(math.Float32bits(float32(cost)))<<32 | uint64(at)
		if word == old || l.word.CompareAndSwap(old, word) {
			return
		}
	}
}

// at is the average in nanoseconds, fallen towards 0 for as long as nothing was observed, so that a node which was slow
// once is tried again. 0: unknown.
func (l *latency) at(now int64) float64 {
	word := l.word.Load()
	cost := float64(math.Float32frombits(uint32(word >> 32)))
	if now == 0 || cost == 0 {
		return cost
	}
	return cost * left(uint32(now>>tick)-uint32(word)) //nolint:gosec // wraps on purpose
}

// left is about e^(-ticks/decay), within 0.003, and cheaper. Clocks of two goroutines may be read in one order and used
// in the other: what seems to lie in the future has no age.
func left(ticks uint32) float64 {
	if int32(ticks) < 0 { //nolint:gosec // wraps on purpose
		return 1
	}
	x := float64(ticks) / (8 * decay)
	x = 1 / (1 + x + x*x/2)
	x *= x
	x *= x
	return x * x
}
