package telemetry

import (
	"math"
	"sync/atomic"
	"time"
)

// Counter is one series that only grows. Its methods are lock-free, allocate nothing and may be called by any goroutine.
type Counter struct {
	n atomic.Int64
	_ [56]byte // a cache line of its own: neighbours are written by other cores
}

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n. Negative values do nothing: a counter never falls.
func (c *Counter) Add(n int64) {
	if n > 0 {
		c.n.Add(n)
	}
}

// Value is what was counted so far.
func (c *Counter) Value() int64 { return c.n.Load() }

// Gauge is one series that rises and falls. Its methods are lock-free, allocate nothing and may be called by any goroutine.
type Gauge struct {
	n atomic.Int64
	_ [56]byte
}

// Add adds n, which may be negative.
func (g *Gauge) Add(n int64) { g.n.Add(n) }

// Set replaces the value.
func (g *Gauge) Set(n int64) { g.n.Store(n) }

// Value is the current value.
func (g *Gauge) Value() int64 { return g.n.Load() }

// Histogram is one series of observations in buckets. Its methods are lock-free, allocate nothing and may be called by any
// goroutine.
type Histogram struct {
	bounds  []float64       // upper bounds, inclusive, rising; shared by all series
	buckets []atomic.Uint64 // one more than bounds
	sum     atomic.Uint64   // bits of a float64
	unit    time.Duration   // of bounds and sum, where they are of time
}

func newHistogram(bounds []float64, unit time.Duration) *Histogram {
	return &Histogram{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1), unit: unit}
}

// Observe counts v in its bucket. NaN and infinities do nothing: they would spoil the sum for ever.
func (h *Histogram) Observe(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	h.observe(v)
}

func (h *Histogram) observe(v float64) {
	lo, hi := 0, len(h.bounds)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); h.bounds[mid] < v {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	h.buckets[lo].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// ObserveDuration counts d in the histogram's unit: seconds, but for foreign ones. Negative durations count as zero.
func (h *Histogram) ObserveDuration(d time.Duration) {
	d = max(d, 0)
	if h.unit == time.Second {
		h.observe(d.Seconds())
		return
	}
	h.observe(float64(d) / float64(h.unit))
}

// Count is the number of observations so far.
func (h *Histogram) Count() uint64 {
	var n uint64
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// Sum is the sum of all observations so far.
func (h *Histogram) Sum() float64 { return math.Float64frombits(h.sum.Load()) }
