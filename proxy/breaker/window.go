package breaker

import "time"

// slots is how many parts a window is seen in.
const slots = 10

// window counts the calls of the last slots.
type window struct {
	epoch time.Time // where the slots are counted from
	slot  time.Duration
	at    int64 // the slot being filled
	ring  [slots]tally
}

type tally struct{ ok, bad uint64 }

// start empties the window.
func (w *window) start(now time.Time, slot time.Duration) {
	*w = window{epoch: now, slot: slot}
}

// fold takes in the successes since the last time. They are spread over the slots since then, for nobody looked when they
// came.
func (w *window) fold(now time.Time, ok uint64) {
	at := int64(now.Sub(w.epoch) / w.slot)
	passed := max(0, at-w.at)
	over := uint64(passed) + 1
	w.ring[w.at%slots].ok += ok / over
	for i := range min(passed, slots) {
		w.ring[(w.at+passed-i)%slots] = tally{ok: ok / over}
	}
	w.at += passed
	w.ring[w.at%slots].ok += ok % over
}

// fail counts a failure, and returns the calls of the window and how many of them failed.
func (w *window) fail() (calls, bad uint64) {
	w.ring[w.at%slots].bad++
	for _, s := range w.ring {
		calls, bad = calls+s.ok+s.bad, bad+s.bad
	}
	return calls, bad
}
