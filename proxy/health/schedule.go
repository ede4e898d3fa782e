package health

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

const (
	// firstGap lies between the first probes of endpoints, so that a set of thousands does not begin in one moment.
	firstGap = 200 * time.Microsecond
	// tick is how long the schedule sleeps at least: what is due within it is begun together.
	tick = time.Millisecond

	leastGrace = 3 * time.Second
	mostGrace  = 30 * time.Second
)

// Endpoints whose last probe had no answer in time have places of their own, so that a site that is gone as a whole does not
// take them from those that answer.
const (
	lively = iota
	hung
)

const (
	livelyPlaces = 3072
	hungPlaces   = 1024
)

// lane is a number of places for probes, and who waits for one.
type lane struct {
	places, running int
	waiting         []*endpoint
}

// golden spreads what is counted evenly over a circle, whatever the count.
const golden = 0x9e3779b97f4a7c15

// endpoint is one prober with its state. Pool.mu guards it, prober apart: that is the running probe's.
type endpoint struct {
	key     string
	prober  Prober
	made    *Watch // whose dial made a prober of Func; the running probe's, as the prober is
	by      *Watch // whose dial makes the next one
	watches []*Watch
	timing  Timing // the quickest of the watches'
	phase   uint64 // where its slots lie in the interval: a fraction of 2^64

	due     time.Duration // next slot, or when the grace ends
	slot    time.Duration // next slot
	ends    time.Duration // when it is given up; 0: it is watched
	index   int           // in the schedule; -1: not there
	running bool
	waiting bool // for a place
	owed    bool // a slot came while it ran
	missed  bool // the last slot was let go
	lane    int
	slow    bool // the last probe failed after most of its time: it had no answer
	gone    bool
	noted   bool // a panic was logged
	borrows bool // the prober is one of Func
	begun   time.Duration
	cancel  context.CancelFunc

	passes int
	state  State
}

// add makes an endpoint. Called under mu.
func (p *Pool) add(key string, t Timing) *endpoint {
	e := &endpoint{key: key, timing: t, phase: p.made * golden, index: -1, gone: p.closed}
	p.made++
	if p.closed {
		return e
	}
	p.endpoints[key] = e
	p.first = max(p.now(), p.first+firstGap)
	e.slot = p.first
	p.plan(e)
	return e
}

// retime has the quickest timing of those who watch hold. Called under mu.
func (p *Pool) retime(e *endpoint) {
	if p.closed || len(e.watches) == 0 {
		return
	}
	e.ends = 0
	t := e.watches[0].timing
	for _, w := range e.watches[1:] {
		t = t.quickest(w.timing)
	}
	moved := t.Interval != e.timing.Interval
	e.timing = t
	if moved && e.state.Probes > 0 {
		e.slot = e.after(p.now())
	}
	p.plan(e)
}

// after is the first slot later than a time, and not sooner than half an interval behind the last probe. Slots are counted
// from the start of the pool, so they never drift.
func (e *endpoint) after(t time.Duration) time.Duration {
	interval := e.timing.Interval
	offset := time.Duration(float64(e.phase>>11) / (1 << 53) * float64(interval))
	if e.state.Probes > 0 {
		t = max(t, e.begun+interval/2)
	}
	if t < offset {
		return offset
	}
	return t + interval - (t-offset)%interval
}

// plan puts an endpoint where it belongs in the schedule. Called under mu.
func (p *Pool) plan(e *endpoint) {
	due := e.slot
	if e.ends > 0 {
		due = min(due, e.ends)
	}
	if e.index >= 0 && e.due == due {
		return
	}
	e.due = due
	if e.index < 0 {
		heap.Push(&p.due, e)
	} else {
		heap.Fix(&p.due, e.index)
	}
	if e.index == 0 && !p.rounding {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// run is the schedule's goroutine.
func (p *Pool) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(max(tick, p.round())) // 0 where it panicked
		select {
		case <-timer.C:
		case <-p.wake:
		case <-p.ctx.Done():
			return
		}
	}
}

// round begins what is due and returns how long there is nothing to do.
func (p *Pool) round() time.Duration {
	defer p.recovered("the schedule of health checks", "")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rounding = true
	defer func() { p.rounding = false }()
	now := p.now()
	var gone []*endpoint
	for len(p.due) > 0 && p.due[0].due <= now {
		e := p.due[0]
		if e.ends > 0 && e.ends <= now {
			heap.Pop(&p.due)
			delete(p.endpoints, e.key)
			e.gone = true
			if e.running {
				e.cancel()
			} else {
				gone = append(gone, e)
			}
			continue
		}
		p.slot(e, now)
	}
	if len(gone) > 0 && !p.closed {
		p.done.Go(func() { p.release(gone) })
	}
	if len(p.due) == 0 {
		return time.Hour
	}
	return p.due[0].due - now
}

// slot deals with a slot that has come. Called under mu.
func (p *Pool) slot(e *endpoint, now time.Duration) {
	late := now - e.slot
	from := max(now, e.slot)
	if e.state.Probes == 0 {
		from += e.timing.Interval / 2
	}
	e.slot = e.after(from)
	p.plan(e)
	switch {
	case p.closed, len(e.watches) == 0 && (e.borrows || e.state.Probes == 0):
	case e.state.Probes > 0 && late > e.timing.Interval/2 && !e.missed:
		// The process stood still. What is due now is due for all, so it waits for the next slots, which are spread. But a
		// process that is late each time still probes.
		e.missed = true
		p.stats.Missed++
		return
	case e.running:
		if e.owed {
			p.stats.Missed++
		}
		e.owed = true
		if ran := now - e.begun; ran > e.timing.Timeout+max(e.timing.Timeout/4, 100*time.Millisecond) {
			if p.result(e, fmt.Errorf("the check does not end; it was given %v and has run for %v", e.timing.Timeout, ran.Round(time.Millisecond)), ran) {
				p.done.Go(func() { p.tell(e) })
			}
		}
	case e.waiting:
		p.stats.Missed++
	default:
		p.begin(e)
	}
	e.missed = false
}

// begin probes, or waits for a place to. Called under mu.
func (p *Pool) begin(e *endpoint) {
	e.lane = lively
	if e.slow {
		e.lane = hung
	}
	l := &p.lanes[e.lane]
	if l.running >= l.places {
		e.waiting = true
		l.waiting = append(l.waiting, e)
		return
	}
	l.running++
	e.running, e.owed = true, false
	e.begun = p.now()
	e.state.Probes++
	p.stats.Probes++
	ctx, cancel := context.WithTimeout(p.ctx, e.timing.Timeout)
	e.cancel = cancel
	by := e.by
	p.done.Go(func() { p.probe(ctx, e, by) })
}

// probe is a probe's goroutine.
func (p *Pool) probe(ctx context.Context, e *endpoint, by *Watch) {
	begun := time.Now()
	err := p.ask(ctx, e, by)
	took := time.Since(begun)

	p.mu.Lock()
	_, e.borrows = e.prober.(funcs)
	// What was borrowed may have been closed under the probe.
	returned := err != nil && e.borrows && (e.by != by || len(e.watches) == 0)
	changed := !e.gone && !returned && p.result(e, err, took)
	e.slow = err != nil && took >= e.timing.Timeout*3/4
	p.mu.Unlock()
	e.cancel()
	if changed {
		p.tell(e)
	}

	p.mu.Lock()
	e.running = false
	l := &p.lanes[e.lane]
	l.running--
	if e.owed && !e.gone {
		p.begin(e)
	}
	for len(l.waiting) > 0 && l.running < l.places && !p.closed {
		next := l.waiting[0]
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		next.waiting = false
		if !next.gone {
			p.begin(next)
		}
	}
	gone := e.gone
	p.mu.Unlock()
	if gone {
		p.release([]*endpoint{e})
	}
}

// ask has the prober probe, which is dialled first where there is none.
func (p *Pool) ask(ctx context.Context, e *endpoint, by *Watch) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("the check panicked; the log has more")
			if !e.noted {
				e.noted = true
				p.log.Error("panic in a health check", "endpoint", e.key, "panic", r, "stack", string(debug.Stack()))
			}
		}
	}()
	if _, borrows := e.prober.(funcs); borrows && e.made != by {
		p.end(e)
	}
	if e.prober == nil {
		if e.prober, err = by.dial(); err != nil {
			e.prober = nil
			return err
		}
		if _, borrows := e.prober.(funcs); borrows { // else nobody asks, and a watch may hold much that has gone
			e.made = by
		}
	}
	return e.prober.Probe(ctx)
}

// result takes what a probe found, and reports whether that changes what is known. Called under mu.
func (p *Pool) result(e *endpoint, err error, took time.Duration) bool {
	s := &e.state
	now := time.Now()
	s.Last, s.Took = now, took
	if err == nil {
		s.Fails = 0
		e.passes++
		p.stats.Passed++
	} else {
		s.Err = err
		s.Fails++
		e.passes = 0
		p.stats.Failed++
	}
	up := s.Up
	switch {
	case !s.Known:
		up = err == nil
	case s.Fails >= e.timing.Unhealthy:
		up = false
	case e.passes >= e.timing.Healthy:
		up = true
	}
	if s.Known && up == s.Up {
		return false
	}
	s.Known, s.Up, s.Since = true, up, now
	return true
}

// tell calls those who watch an endpoint.
func (p *Pool) tell(e *endpoint) {
	p.mu.Lock()
	var to []*Watch
	if !p.closed {
		to = append(to, e.watches...)
	}
	p.mu.Unlock()
	for _, w := range to {
		w.tell()
	}
}

// release closes probers that nobody uses any more.
func (p *Pool) release(all []*endpoint) {
	for _, e := range all {
		if e.prober != nil {
			p.end(e)
		}
	}
}

func (p *Pool) end(e *endpoint) {
	defer p.recovered("the end of a health check", e.key)
	prober := e.prober
	e.prober = nil
	prober.Close()
}

// recovered keeps a panic from ending the process; it is deferred.
func (p *Pool) recovered(what, key string) {
	if r := recover(); r != nil {
		p.log.Error("panic in "+what, "endpoint", key, "panic", r, "stack", string(debug.Stack()))
	}
}

// schedule is a heap of endpoints by when they are due.
type schedule []*endpoint

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due < s[j].due }

func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push adds an endpoint.
func (s *schedule) Push(x any) {
	e, ok := x.(*endpoint)
	if !ok {
		return
	}
	e.index = len(*s)
	*s = append(*s, e)
}

// Pop takes the last off.
func (s *schedule) Pop() any {
	old := *s
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	e.index = -1
	return e
}
