package outlier

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Detector judges the records of one service. It starts no goroutine.
type Detector struct {
	rules *rules

	mu    sync.Mutex
	began bool
	round uint64
	out   map[*Record]*sighting // what this detector knows to be out
	cases []finding
	speed []speed
	half  []int // of all speeds, in order
	tenth []int
}

// sighting is a spell that the detector knows of.
type sighting struct {
	*spell

	round uint64
}

// finding is the case against one instance.
type finding struct {
	*Record

	reason string
	rank   int     // lower goes first
	weight float64 // more goes first
	ok     uint64
	bad    uint64
	half   int
	others int
}

// speed is how slow an instance is: the buckets of its median, and of what nine of ten of its calls take.
type speed struct {
	*Record

	half, tenth int
}

// New returns a Detector. now is the clock that the times handed to Judge come from; nil is time.Now.
func New(cfg Config, now func() time.Time) *Detector {
	if now == nil {
		now = time.Now
	}
	cfg = cfg.withDefaults()
	return &Detector{
		rules: &rules{Config: cfg, now: now, slot: max(cfg.Interval/slots, 1)},
		out:   make(map[*Record]*sighting),
	}
}

// Judge ends the ejections whose time is over and ejects whom the rules name; it returns what changed since the last
// Judge, in no order. all has the record of each instance of the service once, whoever is out included. Call it when
// Observe says so, at Next, and once a second; before anybody asks Ejected, call it once. Concurrent calls wait for each
// other.
func (d *Detector) Judge(now time.Time, all []*Record) []Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	var events []Event
	d.round++
	d.cases, d.speed = d.cases[:0], d.speed[:0]
	n := 0
	for _, r := range all {
		d.review(r, now)
		if events = d.sight(r, d.began, events); r.lasting() {
			n++
		}
	}
	d.compare()
	for _, c := range d.ordered() {
		share := d.rules.Most
		if c.reason == ReasonUnreached {
			share = d.rules.MostUnreached
		}
		if n >= most(share, len(all)) {
			continue
		}
		if c.eject(d.rules, now, c.reason, c.detail()) {
			n++
			events = d.sight(c.Record, true, events)
		}
	}
	if n > 0 && n >= len(all) {
		events = d.keepOne(now, all, events)
	}
	d.prune(now)
	d.began = true
	return events
}

// Next is when the next ejection ends by its time; zero: nobody is out.
func (d *Detector) Next() (next time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.out {
		if next.IsZero() || s.Until.Before(next) {
			next = s.Until
		}
	}
	return next
}

// sight compares what the detector knew of a record with what it is now, and tells of a new spell if tell is set: what a
// former detector decided is no news.
func (d *Detector) sight(r *Record, tell bool, events []Event) []Event {
	s := r.spell.Load()
	known := d.out[r]
	if known != nil {
		known.round = d.round
		if known.spell == s {
			return events
		}
		e := Event{Record: r, Reason: ByTime, Ejection: known.Ejection}
		if s.Since.Equal(known.Since) {
			e.Reason = s.how
		}
		events = append(events, e)
		delete(d.out, r)
	}
	if s.lasts() {
		d.out[r] = &sighting{s, d.round}
		if tell {
			events = append(events, Event{Record: r, Ejected: true, Reason: s.Reason, Ejection: s.Ejection})
		}
	}
	return events
}

// prune ends the ejections of those that are no longer among all when their time is over, and forgets them.
func (d *Detector) prune(now time.Time) {
	for r, s := range d.out {
		if s.round == d.round {
			continue
		}
		if !now.Before(s.Until) {
			r.end(s.spell, now, ByTime)
		}
		if r.spell.Load() != s.spell {
			delete(d.out, r)
		}
	}
}

// keepOne brings back the one that would come back first.
func (d *Detector) keepOne(now time.Time, all []*Record, events []Event) []Event {
	var first *Record
	var spell *spell
	for _, r := range all {
		if s := r.spell.Load(); s.lasts() && (first == nil || s.Until.Before(spell.Until)) {
			first, spell = r, s
		}
	}
	if first == nil {
		return events
	}
	first.end(spell, now, ByCap)
	return d.sight(first, true, events)
}

// ordered returns the cases, the worst first.
func (d *Detector) ordered() []finding {
	slices.SortStableFunc(d.cases, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.weight, a.weight))
	})
	return d.cases
}

// compare adds cases against those that are slower than the others.
func (d *Detector) compare() {
	if len(d.speed) < 2 {
		return
	}
	d.half, d.tenth = d.half[:0], d.tenth[:0]
	for _, s := range d.speed {
		d.half, d.tenth = append(d.half, s.half), append(d.tenth, s.tenth)
	}
	slices.Sort(d.half)
	slices.Sort(d.tenth)
	for _, s := range d.speed {
		took, others := end(s.half), end(ofOthers(d.half, s.half))
		ratio := float64(took) / float64(others)
		if took < d.rules.MinLatency || ratio <= d.rules.LatencyFactor || s.half <= ofOthers(d.tenth, s.tenth) {
			continue
		}
		d.cases = append(d.cases, finding{Record: s.Record, reason: ReasonLatency, rank: 3, weight: ratio, half: s.half, others: ofOthers(d.half, s.half)})
	}
}

// ofOthers is the median of sorted without one that equals own; the higher of two.
func ofOthers(sorted []int, own int) int {
	m := (len(sorted) - 1) / 2 // in a list without own
	at, _ := slices.BinarySearch(sorted, own)
	if at <= m {
		m++
	}
	return sorted[m]
}

// detail is the figures behind a case.
func (f *finding) detail() string {
	switch f.reason {
	case ReasonUnreached:
		return fmt.Sprintf("%d attempts in a row found no connection", int(f.weight))
	case ReasonConsecutive:
		return fmt.Sprintf("%d calls in a row failed", int(f.weight))
	case ReasonFailureRate:
		return fmt.Sprintf("%d of %d calls failed", f.bad, f.ok+f.bad)
	default:
		return fmt.Sprintf("half of its calls take %v or more, of the others %v", end(f.half).Round(time.Millisecond), end(f.others).Round(time.Millisecond))
	}
}
