package outlier

import (
	"sync"
	"sync/atomic"
	"time"
)

// Record is what is known of the calls of one instance. The zero Record is ready. It outlives connections and
// configurations: hand the same Record to the next Detector and nothing is forgotten. Two Detectors may judge one Record
// for the time of a change; each window is then shared between them.
//
// Its size is fixed: about 300 bytes, and 1.3 KB more where latencies are judged.
type Record struct {
	run   atomic.Uint64 // what is in a row, and flags: see below
	ok    atomic.Uint64 // successes, while there is no histogram
	bad   atomic.Uint64 // failures and unreached
	hist  atomic.Pointer[latencies]
	rules atomic.Pointer[rules] // of the last Detector that judged it
	spell atomic.Pointer[spell] // the last one out; nil: none yet
	well  atomic.Bool           // a call succeeded that began after the last spell

	// What follows belongs to whoever judges.
	mu    sync.Mutex
	epoch time.Time     // where the slots are counted from
	slot  time.Duration // the length of a slot
	at    int64         // the slot being filled
	ring  [slots]tally
	seen  tally     // of ok and bad, what the ring has taken in
	last  *spell    // the one that calm follows
	calm  time.Time // from here on whole Intervals count
	times [2]int    // ejections that count towards the next one's length: others, unreached
}

// slots is how many parts an Interval is seen in.
const slots = 10

// tally counts calls.
type tally struct{ ok, bad uint64 }

// The parts of Record.run. A run that reaches most stays there.
const (
	runBits          = 24
	runMask          = 1<<runBits - 1
	unreachedOne     = 1 << runBits
	unreachedMask    = runMask << runBits
	asked            = 1 << 62 // a look was asked for and has not been taken
	watched          = 1 << 63 // out, or not trusted yet: calls are told apart by when they began
	runs             = runMask | unreachedMask
	longestRun       = runMask - 1
	longestUnreached = longestRun << runBits
)

// rules are a Detector's, with its clock.
type rules struct {
	Config

	now  func() time.Time
	slot time.Duration
}

// spell is one time out of rotation. It is not changed: its end is another spell.
type spell struct {
	Ejection

	ended time.Time // zero: it lasts
	how   string    // what ended it
	deaf  bool      // checks do not end it
}

func (s *spell) lasts() bool { return s != nil && s.ended.IsZero() }

// Observe counts the end of a call that took so long. It returns true when the instance may have to go out, or come back:
// let a Detector.Judge begin soon; until then it does not ask again. It never blocks and allocates nothing unless it ends an ejection; success of an instance in
// good standing is a load or two and one addition.
func (r *Record) Observe(o Outcome, took time.Duration) (look bool) {
	if o == Success && r.run.Load() == 0 {
		r.succeed(took)
		return false
	}
	return r.observe(o, took)
}

func (r *Record) succeed(took time.Duration) {
	if h := r.hist.Load(); h != nil && took >= 0 { // negative: it is not known
		h.live[bucketOf(took)].Add(1)
		return
	}
	r.ok.Add(1)
}

func (r *Record) observe(o Outcome, took time.Duration) (look bool) {
	if o >= Neutral {
		return false
	}
	for {
		old := r.run.Load()
		if old&watched != 0 {
			if s := r.spell.Load(); s != nil {
				now := r.rules.Load().now()
				began := now.Add(-max(took, 0))
				if s.lasts() {
					if o != Success || s.Reason != ReasonUnreached || !began.After(s.Since) {
						return false
					}
					r.well.Store(true)
					return r.end(s, now, BySuccess)
				}
				if began.Before(s.ended) {
					return false
				}
				if o == Success {
					r.well.Store(true)
				}
			}
		}
		next := old &^ runs
		if o != Success {
			next |= min(old&runMask+1, longestRun)
			if o == Unreached {
				next |= min(old&unreachedMask+unreachedOne, longestUnreached)
			}
			look = old&asked == 0 && r.long(next)
			if look {
				next |= asked
			}
		}
		if next == old || r.run.CompareAndSwap(old, next) {
			break
		}
	}
	if o == Success {
		r.succeed(took)
	} else {
		r.bad.Add(1)
	}
	return look
}

// long reports whether a run is as long as the rules allow. Until there are rules every failure is worth a look.
func (r *Record) long(run uint64) bool {
	rules := r.rules.Load()
	return rules == nil || rules.inRow(run) != ""
}

// inRow returns the reason to eject for what is in a row, or "".
func (c *rules) inRow(run uint64) string {
	if n := int(run & unreachedMask >> runBits); c.Unreached > 0 && n >= c.Unreached {
		return ReasonUnreached
	}
	if n := int(run & runMask); c.Consecutive > 0 && n >= c.Consecutive {
		return ReasonConsecutive
	}
	return ""
}

// Ejected returns the spell that the instance is out for; ok is false when it is in. Past Until an instance stays out
// until it is judged.
func (r *Record) Ejected() (e Ejection, ok bool) {
	if s := r.spell.Load(); s.lasts() {
		return s.Ejection, true
	}
	return Ejection{}, false
}

// Clear says that an active check passed that began after the ejection. It returns true when this ended the ejection, at
// once: the next Judge has the Event. See the package's comment for the ejections that it does not end.
func (r *Record) Clear() bool {
	s := r.spell.Load()
	if !s.lasts() || s.deaf || s.Reason == ReasonFailureRate || s.Reason == ReasonLatency {
		return false
	}
	return r.end(s, r.rules.Load().now(), ByCheck)
}

// end ends a spell unless somebody else did.
func (r *Record) end(s *spell, now time.Time, how string) bool {
	ended := *s
	ended.ended, ended.how = now, how
	return r.spell.CompareAndSwap(s, &ended)
}
