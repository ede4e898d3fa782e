package server

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

const (
	tick      = 10 * time.Millisecond // between looks at connections with calls
	slowTick  = time.Second           // between looks at all connections
	rounded   = 50                    // ticks that a look at all connections takes
	atOnce    = 64                    // connections looked at in one tick at least
	quietLook = 100                   // ticks without a call after which a connection is looked at with all others only
)

// sweeper keeps time for all connections of a server, in one goroutine that runs while there are any. Connections that
// have or had calls just now are looked at each tick, all of them each slow tick.
type sweeper struct {
	s       *Server
	running bool // by the server's lock
	ended   sync.WaitGroup
	wake    chan struct{}
	asleep  atomic.Bool // it waits for a slow tick

	mu     sync.Mutex
	active []*conn

	// The goroutine's alone.
	round   []*conn // of looks at all
	every   []*conn // what is left of it
	some    int     // of it in each tick
	watched []*conn
	from    int // where the next look at watched connections begins
	poll    poller
}

func (w *sweeper) init(s *Server) {
	w.s = s
	w.wake = make(chan struct{}, 1)
}

// start makes sure that the goroutine runs. The server's lock is held.
func (w *sweeper) start() {
	if !w.running {
		w.running = true
		w.ended.Go(w.run)
	}
}

// add has c looked at each tick from now on.
func (w *sweeper) add(c *conn) {
	if c.listed.Swap(true) {
		return
	}
	w.mu.Lock()
	w.active = append(w.active, c)
	w.mu.Unlock()
	if w.asleep.Load() {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// run looks at connections until there are none.
func (w *sweeper) run() {
	t := time.NewTimer(tick)
	defer t.Stop()
	next := time.Now().Add(slowTick)
	stop, stopping := w.s.stop, false
	for {
		now := time.Now()
		busy := w.look(now)
		slow := !now.Before(next)
		if slow {
			next = now.Add(slowTick)
			w.begin()
		}
		if (slow || stopping) && w.done() {
			return
		}
		pause := tick
		if !w.lookAtSome(now) && !busy && !stopping {
			w.asleep.Store(true)
			if w.idle() {
				pause = time.Until(next)
			}
		}
		t.Reset(pause)
		select {
		case <-t.C:
		case <-w.wake:
		case <-stop:
			stop, stopping = nil, true
		}
		w.asleep.Store(false)
	}
}

// idle tells whether no connection is looked at each tick.
func (w *sweeper) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.active) == 0
}

// done tells whether there are no connections left, so that the goroutine ends.
func (w *sweeper) done() bool {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if len(w.s.conns) > 0 {
		return false
	}
	w.running = false
	return true
}

// look looks at the connections that have calls, and tells whether there are any in the list.
func (w *sweeper) look(now time.Time) (busy bool) {
	w.mu.Lock()
	active := w.active
	w.mu.Unlock()
	dropped := 0
	w.watched = w.watched[:0]
	for _, c := range active {
		if c.calls.Load() == 0 {
			if c.quiet++; c.quiet >= quietLook {
				dropped++
			}
			continue
		}
		c.quiet = 0
		if p := c.serving(); p != nil && w.sweep(p, now) {
			w.watched = append(w.watched, c)
		}
	}
	w.watch()
	if dropped > 0 {
		w.drop()
	}
	return len(active) > dropped
}

// drop takes those off the list that have had no call for long.
func (w *sweeper) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := w.active[:0]
	for _, c := range w.active {
		if c.quiet >= quietLook {
			c.quiet = 0
			c.listed.Store(false)
			// A call that has begun meanwhile either sees that, or is seen here.
			if c.calls.Load() == 0 || c.listed.Swap(true) {
				continue
			}
		}
		kept = append(kept, c)
	}
	clear(w.active[len(kept):])
	w.active = kept
}

// begin begins a round of looks at all connections. It is spread over ticks, so that many that have come together do not
// all end together.
func (w *sweeper) begin() {
	w.round = w.s.all(w.round[:0])
	w.every = w.round
	w.some = max(len(w.round)/rounded, atOnce)
}

// lookAtSome looks at the next connections of the round, and tells whether there are more.
func (w *sweeper) lookAtSome(now time.Time) (more bool) {
	n := min(w.some, len(w.every))
	for _, c := range w.every[:n] {
		if p := c.serving(); p != nil {
			w.sweep(p, now)
		}
	}
	clear(w.every[:n])
	w.every = w.every[n:]
	return len(w.every) > 0
}

// sweep has one connection look at the time; a panic there ends nothing else.
func (w *sweeper) sweep(c wire.Conn, now time.Time) (watch bool) {
	defer w.s.survive("panic while the time of a connection was looked at")
	return c.Sweep(now)
}

// survive is deferred where a panic concerns one connection only.
func (s *Server) survive(what string) {
	if r := recover(); r != nil {
		s.panicked.Add(1)
		s.log.Error(what, "panic", r, "stack", string(debug.Stack()))
	}
}

// watchedAtOnce is how many clients are looked for in one tick.
const watchedAtOnce = 1024

// watch looks whether the clients of long calls are still there, some in each tick where they are many.
func (w *sweeper) watch() {
	n := len(w.watched)
	if n == 0 {
		w.from = 0
		return
	}
	if w.from >= n {
		w.from = 0
	}
	end := min(n, w.from+watchedAtOnce)
	w.poll.look(w.watched[w.from:end])
	w.from = end
}
