// Package breaker keeps a service from being asked for more than it can do: a Breaker bounds the calls inside and refuses
// while most of them fail, a Budget bounds the retries.
//
// # Places
//
// At most Config.MaxCalls calls are inside. Up to Config.MaxPending more wait for a place, first come first served, for
// Config.PendingTimeout at most (0: as long as their context lasts); nobody overtakes who waits. Everybody else gets
// ErrFull.
//
// # Failures
//
// The breaker opens when in the last Config.Window (10 s, seen in tenths) at least Config.MinCalls (20) counted calls ended
// and Config.FailureRate (0 to 1; 0 is off) or more of them failed. It then refuses with ErrOpen everybody who comes and
// everybody who waits; those inside stay, and their ends count no longer. After Config.Open (5 s) it is half-open:
// Config.Trials (3) calls are let in, if there is a place, and the others are refused. When one of them fails it opens
// again; when as many succeeded it closes, with an empty window. A trial that ends without being counted makes room for
// another, and when there is no verdict after another Config.Open (the trials are long streams, or hang) as many trials
// more are let in.
package breaker

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrFull refuses a call that finds neither a place nor room to wait for one.
	ErrFull = errors.New("the service has as many calls as it may have")
	// ErrOpen refuses a call while too many of the service's calls fail.
	ErrOpen = errors.New("too many of the service's calls fail")
	// ErrPendingTimeout refuses a call that waited too long for a place.
	ErrPendingTimeout = errors.New("the service had no place for the call in time")
)

// Config says when calls are refused; the package's comment has the rules. Configs are comparable.
type Config struct {
	MaxCalls       int64         // calls inside at once; 0: any number
	MaxPending     int64         // calls that wait; 0: none
	PendingTimeout time.Duration // how long they wait; 0: as long as their context lasts
	FailureRate    float64       // share of the calls of a Window, above 0 up to 1; 0: never opens
	MinCalls       int           // calls in a Window below which the rate says nothing; 0 is 20
	Window         time.Duration // what the rate is counted over; 0 is 10 s
	Open           time.Duration // how long nobody is let in; 0 is 5 s
	Trials         int           // calls that try whether the service is well again; 0 is 3
}

// Phase is whether calls are let in.
type Phase uint8

// The phases.
const (
	Closed   Phase = iota // all for whom there is a place
	Open                  // none
	HalfOpen              // trials
)

func (p Phase) String() string {
	switch p {
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	default:
		return "closed"
	}
}

// State is a breaker at one moment, for people and metrics.
type State struct {
	Phase           Phase
	Inside, Pending int64
	Until           time.Time // when an open breaker lets trials in
	Opened          uint64    // how often it opened
	Full            uint64    // calls refused with ErrFull
	Refused         uint64    // calls refused with ErrOpen
	Late            uint64    // calls refused with ErrPendingTimeout
}

// Pass is what Enter gives and Leave takes back. It tells the breaker since when the call has been inside.
type Pass uint64

// Breaker guards one service. It is safe for concurrent use and starts no goroutine. A nil Breaker lets everybody in.
type Breaker struct {
	cfg     Config
	now     func() time.Time
	limit   uint64 // calls inside
	waiters sync.Pool

	era    atomic.Uint64 // a count of the changes of phase, and the phase
	places atomic.Uint64 // who is inside, and who waits
	ok     atomic.Uint64 // counted successes of this era, while closed

	mu      sync.Mutex
	window  window
	until   time.Time // the end of an open phase; while half-open, when more trials are let in
	trials  int       // that may still be let in
	proven  int       // trials that succeeded
	waiting queue
	opened  uint64
	full    uint64
	refused uint64
	late    uint64
}

// New returns a closed Breaker. now is its clock; nil is time.Now. Only failures, and calls that are not simply let in,
// read it. Waiting calls are timed by package time.
func New(cfg Config, now func() time.Time) *Breaker {
	if now == nil {
		now = time.Now
	}
	or(&cfg.MinCalls, 20)
	or(&cfg.Window, 10*time.Second)
	or(&cfg.Open, 5*time.Second)
	or(&cfg.Trials, 3)
	b := &Breaker{cfg: cfg, now: now, limit: inside}
	if cfg.MaxCalls > 0 {
		b.limit = min(inside, uint64(cfg.MaxCalls))
	}
	b.waiters.New = func() any { return &waiter{called: make(chan struct{}, 1)} }
	b.window.start(now(), max(cfg.Window/slots, 1))
	return b
}

func or[T cmp.Ordered](v *T, otherwise T) {
	var zero T
	if *v <= zero {
		*v = otherwise
	}
}

// The parts of Breaker.places and Breaker.era.
const (
	inside   = 1<<32 - 1
	oneWaits = 1 << 32

	phaseMask = 3
	nextEra   = phaseMask + 1

	unseen = 64 // successes after which the window is told when they were
)

func phase(era uint64) Phase { return Phase(era & phaseMask) }

// Enter takes a place, or waits for one. It returns ErrFull, ErrOpen, ErrPendingTimeout or the error of ctx; every Enter
// that returned nil is followed by one Leave with its Pass. A call that is let in at once costs two atomic operations.
func (b *Breaker) Enter(ctx context.Context) (Pass, error) {
	if b == nil {
		return 0, nil
	}
	if era := b.era.Load(); phase(era) == Closed {
		// Where somebody waits the number is higher than any limit: nobody overtakes.
		for places := b.places.Load(); places < b.limit; places = b.places.Load() {
			if b.places.CompareAndSwap(places, places+1) {
				return Pass(era), nil
			}
		}
	}
	return b.enter(ctx)
}

func (b *Breaker) enter(ctx context.Context) (Pass, error) {
	b.mu.Lock()
	era := b.era.Load()
	if phase(era) != Closed {
		pass, err := b.try()
		b.mu.Unlock()
		return pass, err
	}
	for {
		places := b.places.Load()
		next := places + 1
		if places >= b.limit {
			if int64(places/oneWaits) >= b.cfg.MaxPending { //nolint:gosec // 32 bits
				b.full++
				b.mu.Unlock()
				return 0, ErrFull
			}
			next = places + oneWaits
		}
		if !b.places.CompareAndSwap(places, next) {
			continue
		}
		if next&inside != places&inside {
			b.mu.Unlock()
			return Pass(era), nil
		}
		break
	}
	w := b.newWaiter()
	b.waiting.push(w)
	b.mu.Unlock()
	return b.wait(ctx, w)
}

// wait returns when the waiter is called, or gives up.
func (b *Breaker) wait(ctx context.Context, w *waiter) (Pass, error) {
	var err error
	select {
	case <-w.called:
	case <-ctx.Done():
		err = ctx.Err()
	case <-w.late():
		err = ErrPendingTimeout
	}
	if err != nil && !b.leaveQueue(w, err) {
		// Called at the same moment.
		<-w.called
		err = nil
		if w.err == nil && ctx.Err() != nil {
			err = ctx.Err()
			b.release()
		}
	}
	if err == nil {
		err = w.err
	}
	pass := w.pass
	b.free(w)
	if err != nil {
		return 0, err
	}
	return pass, nil
}

// leaveQueue returns false when the waiter has been called.
func (b *Breaker) leaveQueue(w *waiter, why error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.waiting.remove(w) {
		return false
	}
	b.places.Add(^uint64(oneWaits - 1))
	if errors.Is(why, ErrPendingTimeout) {
		b.late++
	}
	return true
}

// Leave gives the place back. counted says whether the call's end tells something of the service, failed what.
func (b *Breaker) Leave(p Pass, counted, failed bool) {
	if b == nil {
		return
	}
	if b.cfg.FailureRate > 0 {
		if era := b.era.Load(); era == uint64(p) {
			switch {
			case phase(era) == Closed && counted && !failed:
				if b.ok.Add(1)%unseen == 0 && b.mu.TryLock() {
					b.window.fold(b.now(), b.ok.Swap(0))
					b.mu.Unlock()
				}
			case phase(era) == HalfOpen || counted:
				b.tell(p, counted, failed)
			}
		}
	}
	b.release()
}

// release gives a place to who waits longest, or back.
func (b *Breaker) release() {
	for {
		places := b.places.Load()
		if places >= oneWaits {
			break
		}
		if b.places.CompareAndSwap(places, places-1) {
			return
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := b.waiting.pop(); w != nil {
		b.places.Add(^uint64(oneWaits - 1))
		w.call(Pass(b.era.Load()), nil)
		return
	}
	b.places.Add(^uint64(0))
}

// try lets a trial in, or not. b.mu is held.
func (b *Breaker) try() (Pass, error) {
	now := b.now()
	if !now.Before(b.until) {
		if phase(b.era.Load()) == Open {
			b.turn(HalfOpen)
			b.proven = 0
		}
		b.trials = b.cfg.Trials
		b.until = now.Add(b.cfg.Open)
	}
	if b.trials == 0 || phase(b.era.Load()) == Open {
		b.refused++
		return 0, ErrOpen
	}
	for {
		places := b.places.Load()
		if places >= b.limit {
			b.full++
			return 0, ErrFull
		}
		if b.places.CompareAndSwap(places, places+1) {
			b.trials--
			return Pass(b.era.Load()), nil
		}
	}
}

// tell takes in the end of a trial, or a failure.
func (b *Breaker) tell(p Pass, counted, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	era := b.era.Load()
	if era != uint64(p) {
		return // the phase is over
	}
	switch {
	case phase(era) == Closed:
		now := b.now()
		b.window.fold(now, b.ok.Swap(0))
		if calls, bad := b.window.fail(); calls >= uint64(max(1, b.cfg.MinCalls)) && float64(bad) >= b.cfg.FailureRate*float64(calls) {
			b.open(now)
		}
	case !counted:
		b.trials = min(b.trials+1, b.cfg.Trials)
	case failed:
		b.open(b.now())
	default:
		if b.proven++; b.proven >= b.cfg.Trials {
			b.window.start(b.now(), b.window.slot)
			b.turn(Closed)
		}
	}
}

// open refuses everybody from now on. b.mu is held.
func (b *Breaker) open(now time.Time) {
	b.turn(Open)
	b.opened++
	b.until = now.Add(b.cfg.Open)
	for w := b.waiting.pop(); w != nil; w = b.waiting.pop() {
		b.places.Add(^uint64(oneWaits - 1))
		b.refused++
		w.call(0, ErrOpen)
	}
}

// turn begins another phase. b.mu is held.
func (b *Breaker) turn(to Phase) {
	b.era.Store(b.era.Load()&^phaseMask + nextEra | uint64(to))
}

// State returns what the breaker is now.
func (b *Breaker) State() State {
	if b == nil {
		return State{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	places := b.places.Load()
	s := State{
		Phase: phase(b.era.Load()), Inside: int64(places & inside), Pending: int64(places / oneWaits), //nolint:gosec // 32 bits
		Opened: b.opened, Full: b.full, Refused: b.refused, Late: b.late,
	}
	if s.Phase == Open {
		s.Until = b.until
	}
	return s
}
