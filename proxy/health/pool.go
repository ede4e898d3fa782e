package health

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Pool probes endpoints for a whole process. It is safe for concurrent use.
type Pool struct {
	log   *slog.Logger
	start time.Time // the schedule counts from here, by the monotonic clock
	ctx   context.Context
	stop  context.CancelFunc
	wake  chan struct{} // the schedule has something earlier
	done  sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	endpoints map[string]*endpoint
	due       schedule
	rounding  bool // the schedule looks at it
	lanes     [2]lane
	made      uint64        // endpoints so far; spreads their phases
	first     time.Duration // the last first probe given out
	stats     Stats
}

// Stats are totals of a pool since it was made, and what there is now.
type Stats struct {
	Endpoints, Up, Down, Unknown int    // endpoints watched, or kept for a watch to come
	Running, Waiting             int    // probes under way, and those that wait for a place
	Probes                       uint64 // probes begun
	Passed, Failed               uint64 // results; a probe that does not end fails once in each interval
	Missed                       uint64 // slots that went by without a probe: the process stood still, or the former probe ran on
}

// NewPool starts a pool without endpoints.
func NewPool(log *slog.Logger) *Pool {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{
		log: log, start: time.Now(), ctx: ctx, stop: cancel, wake: make(chan struct{}, 1),
		endpoints: map[string]*endpoint{},
		lanes:     [2]lane{lively: {places: livelyPlaces}, hung: {places: hungPlaces}},
		first:     -firstGap,
	}
	p.done.Go(p.run)
	return p
}

// now is the pool's time.
func (p *Pool) now() time.Duration { return time.Since(p.start) }

// Watch is somebody's interest in an endpoint.
type Watch struct {
	pool    *Pool
	ep      *endpoint
	timing  Timing
	dial    Dial
	changed func()

	mu     sync.Mutex
	closed bool
	queued int           // calls of changed that are owed; more than one is one
	idle   chan struct{} // closed when no call runs; nil while none does
}

// Watch has an endpoint probed until the watch is closed. The key says what is asked and where; the same key is the same
// prober with one state, whoever dialled it first and while anybody watches it. Of several timings the quickest of each
// figure holds. A former watch's state is kept if it was closed but a moment ago (two intervals, at least 3 s, at most 30 s).
//
// changed, which may be nil, is called when State.Known or State.Up has changed: by a goroutine of the pool, under no lock of
// it, never twice at once, and no more once Close has returned. A slow one delays the endpoint's next probe. For a state
// that is known already it is not called. After Close of the pool nothing is probed.
func (p *Pool) Watch(key string, t Timing, dial Dial, changed func()) *Watch {
	w := &Watch{pool: p, timing: t.filled(), dial: dial, changed: changed}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.endpoints[key]
	if e == nil || p.closed {
		e = p.add(key, w.timing)
	}
	w.ep = e
	if len(e.watches) == 0 {
		e.by = w
	}
	e.watches = append(e.watches, w)
	p.retime(e)
	return w
}

// State is what is known now.
func (w *Watch) State() State {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	return w.ep.state
}

// Close ends the watch. It waits for a call of changed that is under way, so it must not be called by changed, nor under a
// lock that changed takes. It may be called twice.
func (w *Watch) Close() {
	w.mu.Lock()
	w.closed = true
	idle := w.idle
	w.mu.Unlock()
	if idle != nil {
		<-idle
	}
	w.pool.leave(w)
}

// tell calls changed, unless another goroutine is at it, who then calls it once more.
func (w *Watch) tell() {
	if w.changed == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queued++
	if w.idle != nil {
		return
	}
	w.idle = make(chan struct{})
	for w.queued > 0 && !w.closed {
		w.queued = 0
		w.call()
	}
	close(w.idle)
	w.idle = nil
}

// call calls changed with w.mu released.
func (w *Watch) call() {
	w.mu.Unlock()
	defer w.mu.Lock()
	defer w.pool.recovered("what is told of a changed health", w.ep.key)
	w.changed()
}

// leave takes a watch off its endpoint, which is kept for a while.
func (p *Pool) leave(w *Watch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := w.ep
	for i, o := range e.watches {
		if o == w {
			e.watches = append(e.watches[:i:i], e.watches[i+1:]...)
			break
		}
	}
	if n := len(e.watches); n > 0 {
		if e.by == w {
			e.by = e.watches[n-1]
		}
		p.retime(e)
		return
	}
	if e.ends == 0 && !p.closed {
		e.ends = p.now() + min(max(2*e.timing.Interval, leastGrace), mostGrace)
		p.plan(e)
	}
}

// Stats counts.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Endpoints = len(p.endpoints)
	for _, e := range p.endpoints {
		switch {
		case !e.state.Known:
			s.Unknown++
		case e.state.Up:
			s.Up++
		default:
			s.Down++
		}
	}
	for i := range p.lanes {
		s.Running += p.lanes[i].running
		s.Waiting += len(p.lanes[i].waiting)
	}
	return s
}

// Close ends every probe and waits for them, though not for long for those that do not heed their context. Nobody is told of anything any more; states stay as they are.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	var idle []*endpoint
	for _, e := range p.endpoints {
		e.gone = true
		if !e.running {
			idle = append(idle, e)
		}
	}
	p.mu.Unlock()
	p.stop()
	ended := make(chan struct{})
	go func() {
		p.done.Wait()
		close(ended)
	}()
	patience := time.NewTimer(closeWait)
	defer patience.Stop()
	select {
	case <-ended:
	case <-patience.C:
		p.log.Error("health checks do not end though they were told to; they are left behind", "probes", p.Stats().Running)
	}
	p.release(idle)
}

// closeWait is how long Close waits for probes that do not heed their context.
const closeWait = 10 * time.Second
