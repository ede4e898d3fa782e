package adaptive

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// The limit follows the latency of calls, as gradient2 of Netflix' concurrency-limits does: it falls with the ratio of the
// latency without load to the latency now, and rises by the square root of itself, which is the queue that is let stand. Two
// things are otherwise.
//
// The latency of a window is the geometric mean of its calls: a few that are slow by their nature (long polls, reports) hardly
// move it, and it can be summed up without a lock.
//
// The latency without load is the least of the last windows, as in BBR. Under a load that lasts, no window is without. So for
// two windows in fifty the limit is lowered by the tolerance. Where the latency falls by as much, calls were waiting for each
// other alone and the service has done no less: the lower limit is kept, and lowered again. Where it does not, the queue has
// run empty, and that was the latency without load. Envoy's filter goes down to a handful of calls for that, which starves a
// service that can do many at a time.

const (
	window     = 100 * time.Millisecond // the least that one lasts
	minSamples = 20                     // the fewest calls that tell something
	longest    = time.Second            // after which a window ends with fewer
	round      = 50                     // windows from one dip to the next
	dip        = 2                      // windows that one lasts
	memory     = 2 * round              // windows after which what was the least is forgotten, half of them at a time
	settle     = 5                      // windows before the first dip
	alone      = 1.2                    // how much less than the limit the latency may fall for calls to wait for each other alone
	fall       = 0.5                    // the least that one window leaves of the limit
	smooth     = 0.3                    // of what a window says that counts at once
)

// limiter finds the limit. Calls are counted in and out without a lock; one of them ends each window.
type limiter struct {
	min, max  float64
	tolerance float64

	limit  atomic.Int64 // in force now, also in a dip
	inside atomic.Int64

	ends atomic.Int64 // when the window may end; in nanoseconds of the caller's clock, as all times here
	sum  atomic.Int64 // of the calls' latencies, in logarithms
	n    atomic.Int64
	most atomic.Int64 // calls inside at one moment

	mu      sync.Mutex // of the one that ends a window
	began   int64
	wanted  float64 // the limit without dips
	least   [2]float64
	age     int
	windows int     // since the last dip; from round on: in one
	before  float64 // the latency that the dip is held against
	dipped  float64 // that of the last dip
}

func newLimiter(low, high, initial, tolerance float64) *limiter {
	l := &limiter{min: low, max: high, tolerance: tolerance, wanted: initial, windows: round - settle, dipped: math.Inf(1)}
	l.least[0], l.least[1] = math.Inf(1), math.Inf(1)
	l.limit.Store(int64(initial))
	return l
}

// room tells whether a call that may use a share of the limit would be let in now.
func (l *limiter) room(share float64) bool {
	return l.inside.Load() < l.places(share)
}

// places is what a share of the limit is: one at least.
func (l *limiter) places(share float64) int64 {
	return max(1, int64(float64(l.limit.Load())*share))
}

// enter counts a call in, unless there is no room.
func (l *limiter) enter(share float64) bool {
	n := l.inside.Add(1)
	if n > l.places(share) {
		l.inside.Add(-1)
		return false
	}
	for {
		m := l.most.Load()
		if n <= m || l.most.CompareAndSwap(m, n) {
			return true
		}
	}
}

// leave counts a call out. sampled: its latency says something of the service. turned: it was the last of a window.
func (l *limiter) leave(entered, now int64, sampled bool) (turned bool) {
	l.inside.Add(-1)
	if !sampled {
		return false
	}
	l.sum.Add(logarithm(now - entered))
	n := l.n.Add(1)
	if ends := l.ends.Load(); now < ends || n < minSamples && now < ends+int64(longest-window) {
		return false
	}
	if !l.mu.TryLock() {
		return false
	}
	defer l.mu.Unlock()
	return l.turn(now)
}

// turn ends a window, unless another call just did.
func (l *limiter) turn(now int64) bool {
	if now < l.ends.Load() {
		return false
	}
	n, sum := l.n.Swap(0), l.sum.Swap(0)
	most := l.most.Swap(l.inside.Load())
	first := l.began == 0
	l.began = now
	l.ends.Store(now + int64(window))
	if first || n == 0 {
		return false
	}
	l.update(exponential(float64(sum)/float64(n)), most)
	return true
}

// update takes in a window: its latency in nanoseconds, and how many calls were inside at most.
func (l *limiter) update(latency float64, most int64) {
	l.least[0] = min(l.least[0], latency)
	if l.age++; l.age >= memory/2 {
		l.age = 0
		l.least[0], l.least[1] = latency, l.least[0]
	}
	if l.windows++; l.windows > round {
		l.dip(latency)
	} else {
		l.follow(latency, min(l.least[0], l.least[1]), most)
		if l.windows == dip && l.wanted/l.tolerance > l.min && l.dipped*l.tolerance <= latency {
			l.windows = round // the load was still rising when the dip began: what it was held against was too little
		}
		if l.windows == round {
			l.before = latency
			if float64(most) < l.wanted/l.tolerance {
				l.windows = 0 // there is no load to be without
			}
		}
	}
	limit := l.wanted
	if l.windows >= round {
		limit = max(l.min, l.wanted/l.tolerance)
	}
	l.limit.Store(int64(math.Round(limit)))
}

// follow has the limit follow the latency of a window.
func (l *limiter) follow(latency, base float64, most int64) {
	gradient := min(1, max(fall, l.tolerance*base/latency))
	next := l.wanted*gradient + math.Sqrt(l.wanted)
	switch {
	case next > l.wanted && float64(most) < l.wanted/2:
		next = l.wanted // it was not used: nothing says that more could be
	case next < l.wanted:
		next = l.wanted*(1-smooth) + next*smooth
	}
	l.wanted = min(max(next, l.min), l.max)
}

// dip looks at a window of a dip. The first one still has calls from before.
func (l *limiter) dip(latency float64) {
	if l.windows < round+dip {
		return
	}
	l.windows, l.dipped = 0, latency
	if lower := l.wanted / l.tolerance; lower > l.min && latency*l.tolerance <= l.before*alone {
		l.wanted, l.before, l.windows = lower, latency, round
	}
}

// logScale is how many steps logarithms have between a number and its double.
const logScale = 1 << 20

// logarithm is the logarithm to base 2 of nanoseconds, in steps of logScale; linear between powers, and so off by 0.09 at
// most, which is all the same for all calls.
func logarithm(ns int64) int64 {
	x := uint64(max(ns, 1))
	whole := bits.Len64(x) - 1
	rest := x - 1<<whole
	if whole > 20 {
		rest >>= whole - 20
	} else {
		rest <<= 20 - whole
	}
	return int64(whole)*logScale + int64(rest) //nolint:gosec // 20 bits
}

func exponential(l float64) float64 { return math.Exp2(l / logScale) }
