// Package outlier takes instances out of rotation whose calls go wrong, judged by the calls themselves.
//
// A Record counts what became of the calls of one instance; a Detector reads the records of a service's instances and
// says which are out. Nothing here runs by itself: time is handed in, and whoever owns the Detector calls Judge.
//
// # When an instance goes out
//
//   - Unreached: Config.Unreached (1) attempts in a row found no connection. One refused connection is enough, for nothing
//     was executed and the attempt goes elsewhere.
//   - Consecutive failures: Config.Consecutive (5) calls in a row failed or found no connection.
//   - Failure rate: in the last Config.Interval (10 s, seen in tenths) at least Config.MinCalls (20) calls ended and
//     Config.FailureRate (0.5; 0 is off) or more of them failed or found no connection.
//   - Latency: Config.LatencyFactor (0 is off) is above 0, and of at least Config.MinCalls calls that
//     succeeded the median took Config.MinLatency (50 ms) or more, and more than LatencyFactor times
//     the median of the other instances' medians, and more than nine of ten calls take at the median one of the others.
//     The last condition keeps an instance in that merely had more of a service's slow methods. Where the number of
//     others is even the higher of the two in the middle counts: the slow must be the fewer. The calls are those of about
//     the last Interval, but of no more tenths of it than have twice MinCalls. Times are told apart to a fifth. In the
//     Interval after a return from an ejection for latency a quarter of MinCalls is enough.
//
// Business errors are successes here: the instance answered. What says nothing of the instance (the caller hung up) is
// Neutral and changes nothing.
//
// # How many
//
// Ejections stop when Config.Most (0.5) of the instances are out, those that are out already counted and the number
// rounded down; of two or more instances one may always go, and one always stays. For unreachable instances
// Config.MostUnreached takes the place of Most (0: the same). Where more are to go than may, the unreachable go first,
// then those with the most failures in a row, then by failure rate, then by latency. When others leave the service and all
// that remain are out, the one whose time ends first comes back.
//
// # For how long
//
// The n-th ejection lasts Config.Base (5 s) times 2^(n-1), but for one without a connection at first 1 s (no longer than
// Base), and at most Config.Max (300 s); the two are counted apart. An instance that stays in for one Interval after its
// return is trusted again, and each further Interval in rotation takes one off both counts. The first success that began
// after an ejection for want of a connection ends that one's count, and the ejection itself if it still lasts.
//
// An active check that passes ends (Record.Clear) an ejection for want of a connection or for failures in a row, but not
// one for failure rate or latency, for the check passed all along. When the same instance goes out again before it is
// trusted, and for want of a connection also before any call succeeded, the check was wrong and is not listened to: the
// next ejection ends by its time.
//
// Calls that began before an instance came back are not evidence: what hung before its ejection may end long after it.
package outlier

import (
	"cmp"
	"time"
)

// Outcome is what a call's end says of the instance.
type Outcome uint8

// The outcomes.
const (
	Success   Outcome = iota // it answered, if only with an error of its own
	Failed                   // it broke the call off, hung, or answered garbage
	Unreached                // there was no connection to it: nothing was executed
	Neutral                  // nothing: the caller hung up, or the gateway refused the call
)

// Why an instance is out: the values of Ejection.Reason.
const (
	ReasonUnreached   = "unreached"
	ReasonConsecutive = "consecutive_failures"
	ReasonFailureRate = "failure_rate"
	ReasonLatency     = "latency"
)

// What ended an ejection: the values of Event.Reason where Ejected is false.
const (
	ByTime    = "time"    // Until was reached
	ByCheck   = "check"   // an active check passed
	BySuccess = "success" // a call succeeded that began after the ejection
	ByCap     = "kept"    // everybody else was out or gone
)

// Ejection is one spell out of rotation.
type Ejection struct {
	Since, Until time.Time
	Reason       string // one of the Reason constants
	Detail       string // the figures behind it, for people
	Times        int    // 1 for the first; counted apart for ReasonUnreached
}

// Event is a change that Judge found or made.
type Event struct {
	Record   *Record
	Ejected  bool     // it went out; false: it came back
	Reason   string   // why, or what ended it
	Ejection Ejection // the spell that began or ended
}

// Config says when instances go out; the package's comment has the rules. Configs are comparable.
type Config struct {
	Consecutive   int           // failures in a row; 0 is 5, negative is off
	Unreached     int           // attempts in a row without a connection; 0 is 1, negative is off
	Interval      time.Duration // what rates are counted over; 0 is 10 s
	FailureRate   float64       // share of the calls of an Interval, above 0 up to 1; 0 is off
	MinCalls      int           // calls in an Interval below which rate and latency say nothing; 0 is 20
	LatencyFactor float64       // how many times slower than the others; 0 is off
	MinLatency    time.Duration // what is never slow; 0 is 50 ms
	Base          time.Duration // the first ejection; 0 is 5 s
	Max           time.Duration // the longest ejection; 0 is 300 s
	Most          float64       // share of the instances that may be out at once; 0 is 0.5
	MostUnreached float64       // the same where the next to go has no connection; 0 is Most
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if c.Consecutive == 0 {
		c.Consecutive = 5
	}
	if c.Unreached == 0 {
		c.Unreached = 1
	}
	or(&c.Interval, 10*time.Second)
	or(&c.MinCalls, 20)
	or(&c.MinLatency, 50*time.Millisecond)
	or(&c.Base, 5*time.Second)
	or(&c.Max, 300*time.Second)
	or(&c.Most, 0.5)
	or(&c.MostUnreached, c.Most)
	return c
}

func or[T cmp.Ordered](v *T, otherwise T) {
	var zero T
	if *v <= zero {
		*v = otherwise
	}
}

// firstUnreached is the first ejection of an instance without a connection. It is short, for most often the instance is
// being started anew.
const firstUnreached = time.Second

// length is how long the n-th ejection lasts.
func (c *Config) length(unreached bool, n int) time.Duration {
	d := c.Base
	if unreached {
		d = min(d, firstUnreached)
	}
	for ; n > 1 && d < c.Max; n-- {
		d *= 2
	}
	return min(d, c.Max)
}

// most is how many of n instances may be out for the next one to go.
func most(share float64, n int) int {
	return max(0, min(n-1, max(1, int(share*float64(n)+1e-9))))
}
