package outlier

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Durations are counted in buckets of a quarter of an octave: 19 % wide at most, from 16 µs up to 18 minutes.
const (
	lowest  = 14 // the logarithm of what bucket 0 ends at, in ns
	highest = 40
	buckets = 1 + (highest-lowest)*4 + 1
)

// least is the weight below which calls are forgotten.
const least = 1e-6

func bucketOf(took time.Duration) int {
	u := uint64(max(took, 0))
	if u < 1<<lowest {
		return 0
	}
	e := bits.Len64(u) - 1
	if e >= highest {
		return buckets - 1
	}
	return 1 + (e-lowest)*4 + int(u>>(e-2)&3)
}

// end is where a bucket ends.
func end(bucket int) time.Duration {
	if bucket == 0 {
		return 1 << lowest
	}
	e := lowest + (bucket-1)/4
	return time.Duration(4+(bucket-1)%4+1) << (e - 2)
}

// latencies is how long the calls of an instance took that succeeded, the older the less.
type latencies struct {
	live [buckets]atomic.Uint32 // since ever; it wraps around

	// What follows belongs to whoever judges.
	seen  [buckets]uint32
	held  [buckets]float32
	total float32
}

// fold takes in what came since the last time, and returns how many calls. What was there keeps the share kept of its
// weight, or less: it only makes up what the new calls lack to be enough. So the more calls there are the sooner a change
// shows.
func (l *latencies) fold(kept float32, enough int) (came uint64) {
	var news [buckets]uint32
	for i := range l.live {
		v := l.live[i].Load()
		news[i] = v - l.seen[i]
		l.seen[i] = v
		came += uint64(news[i])
	}
	if l.total > 0 {
		kept = min(kept, max(0, float32(enough)-float32(came))/l.total)
	}
	l.total = 0
	for i, n := range news {
		if l.held[i] *= kept; l.held[i] < least {
			l.held[i] = 0 // numbers that are next to nothing are slow to reckon with
		}
		l.held[i] += float32(n)
		l.total += l.held[i]
	}
	return came
}

// forget drops what is held.
func (l *latencies) forget() {
	l.held = [buckets]float32{}
	l.total = 0
}

// quantile returns the bucket in which the share q of the calls ends.
func (l *latencies) quantile(q float32) int {
	rest := l.total * q
	for i, n := range l.held {
		rest -= n
		if rest <= 0 && n > 0 {
			return i
		}
	}
	return buckets - 1
}

// fade is the share of their weight that latencies keep after so many tenths of an Interval. The weights of calls that
// come steadily add up to the calls of one Interval.
func fade(tenths int64) float32 {
	return float32(math.Pow(1-1.0/slots, float64(tenths)))
}
