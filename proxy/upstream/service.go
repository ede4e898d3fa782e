// Package upstream keeps the instances of a service: it merges what resolvers send, keeps the nodes that stay with their
// connections, guards against registries that lose everything at once, and knows which instances may take calls. A balancer
// picks among those.
//
// An address is one instance, however many registries have it. Of those, the source that is listed first gives weight, zone and
// metadata; the instance takes no new calls when any of them says that it is starting, draining or down; it is gone when none
// has it any more. A source that fails keeps what it said last.
package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/breaker"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters"
)

// Config is what a service is made of. Nothing of it is changed once it is in use.
type Config struct {
	Name string
	// Sources are where instances are found; where two say different things of an address, the first holds.
	Sources []Source
	// Dial makes the transport of an instance, and another one when its protocol or TLS has changed. It does not block.
	Dial     func(registry.Endpoint) (rpcadapters.Transport, error)
	Balancer balancer.Config
	// Priority is an instance's priority group, lower ones first; nil: 0 for all.
	Priority func(registry.Endpoint) uint32
	// SlowStart is how long an instance that comes up later than the first ones takes to reach its full share; 0: none.
	SlowStart time.Duration
	// Health is asked of every instance; nil: of none. Implied is asked, where Health is nil, of instances that a registry has
	// not vouched for: unverified ones, suspects and those from the shelf; and of those at which a call reached nobody, until
	// one passes.
	Health, Implied *Check
	Pool            *health.Pool    // runs the checks; needed where there is one
	Outliers        *outlier.Config // nil: outcomes of calls take no instance out
	Breaker         *breaker.Config // nil: none
	Budget          float64         // retries per call, see breaker.NewBudget: 0 is 0.2, negative is none at all
	Shelf           Shelf           // keeps what the sources said for the next start; nil: nobody does
	Log             *slog.Logger
	Now             func() time.Time // monotonic; nil: time.Now
}

const (
	idle       = time.Hour              // between two looks when nothing is due
	second     = time.Second            // between two looks when something is going on
	settle     = 20 * time.Millisecond  // least time between two pickers
	settleMost = 500 * time.Millisecond // where pickers are dear: they take a fifth of one core at most
	patience   = 10 * time.Second       // how long Close waits for resolvers that do not return
)

// Service is one upstream. It outlives snapshots: a reload that does not concern it takes it over as it is. Its methods are
// safe for concurrent use.
type Service struct {
	cfg      Config
	now      func() time.Time
	began    time.Time
	view     atomic.Pointer[view]
	records  *ledger
	detector *outlier.Detector // nil: none
	breaker  *breaker.Breaker
	budget   *breaker.Budget
	shelver  *shelver // nil: none

	wake    chan struct{} // has room for one
	poke    func()        // wakes the keeper; as a value, for watches
	epoch   time.Time     // Clock counts from here
	look    atomic.Bool   // an instance may have to be ejected
	busy    atomic.Bool   // calls were reported since the last second's look
	ticking atomic.Bool   // the keeper looks once a second

	ready     chan struct{} // closed when the instances are known
	readyOnce sync.Once
	stop      context.CancelFunc
	tasks     sync.WaitGroup
	retiring  sync.Once
	closing   sync.Once

	mu        sync.Mutex // what follows is the keeper's, others read it
	closed    bool
	dirty     bool // sources have to be merged again
	sources   []*source
	instances map[string]*instance // by address
	order     []*instance          // sorted by address
	others    bool                 // order has to be made again
	left      []leftOut
	members   []balancer.Member // of the picker in force
	spare     []balancer.Member // room for those of the next
	leaving   []*balancer.Node  // to be drained once no picker has them
	judged    time.Time
	all       []*outlier.Record // room for those that are judged
	counts    counts

	successor atomic.Pointer[Service] // has taken over what is known
	former    weak.Pointer[Service]   // of which it was taken over; it is not held, for it may be long gone
}

// view is what calls see: swapped in whole.
type view struct {
	picker balancer.Picker
	nodes  []*balancer.Node
}

// New starts watching. Close ends it. former, which may be nil and is closed by its owner later, is the same service under
// an earlier configuration: what it knows of sources with the same name and key, of its instances' outcomes and health, and
// the state of an unchanged breaker are taken over, so that the new one serves at once and forgets nothing. What static
// sources say is known when New returns.
func New(cfg Config, former *Service) *Service {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		cfg: cfg, now: cfg.Now, stop: cancel, wake: make(chan struct{}, 1), ready: make(chan struct{}),
		instances: map[string]*instance{}, others: true, dirty: true, epoch: time.Now(),
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.poke = func() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	s.began = s.now()
	s.counts.ejections = map[string]uint64{}
	if cfg.Outliers != nil {
		s.detector = outlier.New(*cfg.Outliers, s.now)
	}
	for _, c := range cfg.Sources {
		s.sources = append(s.sources, newSource(s, c))
	}
	s.view.Store(&view{picker: balancer.New(cfg.Balancer, nil)})
	if former != nil {
		s.adopt(former)
	}
	s.furnish(former)
	if cfg.Shelf != nil {
		s.shelver = newShelver(s)
		s.tasks.Go(func() { s.shelver.run(ctx) })
	}
	var static []*source
	for _, src := range s.sources {
		s.tasks.Go(func() { src.run(ctx) })
		if src.Static {
			static = append(static, src)
		}
	}
	await(static)
	next := time.Duration(0)
	if former != nil || static != nil {
		next = s.step()
	}
	s.tasks.Go(func() { s.keep(ctx, next) })
	return s
}

// furnish makes what is taken over from former only when its configuration has not changed.
func (s *Service) furnish(former *Service) {
	same := func(a, b *breaker.Config) bool { return a != nil && b != nil && *a == *b }
	switch {
	case s.cfg.Breaker == nil:
	case former != nil && same(s.cfg.Breaker, former.cfg.Breaker):
		s.breaker = former.breaker
	default:
		s.breaker = breaker.New(*s.cfg.Breaker, s.now)
	}
	if former != nil && former.cfg.Budget == s.cfg.Budget {
		s.budget = former.budget
	} else {
		s.budget = breaker.NewBudget(s.cfg.Budget)
	}
	if s.records == nil {
		s.records = newLedger()
	}
}

// adopt takes over what another Service knows. It goes on as it is: the new one may yet be thrown away.
func (s *Service) adopt(former *Service) {
	former.mu.Lock()
	defer former.mu.Unlock()
	former.successor.Store(s)
	s.former = weak.Make(former)
	s.records, s.epoch = former.records, former.epoch
	s.counts = former.counts.clone()
	for _, src := range s.sources {
		for _, old := range former.sources {
			if old.Name == src.Name && old.Key == src.Key && !src.Static && !old.Static {
				src.adopt(old)
			}
		}
	}
	for address, old := range former.instances {
		s.instances[address] = old.heir()
	}
}

// keep looks at what has changed, until ctx ends: at once when nothing has for a while, else no more often than pickers
// can be made.
func (s *Service) keep(ctx context.Context, next time.Duration) {
	timer := time.NewTimer(next)
	defer timer.Stop()
	var last time.Time
	gap := settle
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		if rest := gap - time.Since(last); rest > 0 {
			timer.Reset(rest)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			select {
			case <-s.wake:
			default:
			}
		}
		began := time.Now()
		next = s.step()
		last = time.Now()
		gap = min(max(settle, 4*last.Sub(began)), settleMost)
		timer.Reset(next)
	}
}

// alarm gathers when the keeper has to look again.
type alarm struct {
	now  time.Time
	next time.Duration
}

func (a *alarm) in(d time.Duration) { a.next = max(0, min(a.next, d)) }

func (a *alarm) at(t time.Time) { a.in(t.Sub(a.now)) }

// step brings the service up to date and returns when to do so again.
func (s *Service) step() (next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if r := recover(); r != nil {
			s.dirty, next = true, second
			s.counts.panics++
			s.cfg.Log.Error("panic while the instances of a service were looked at; the last ones stay in force", "service", s.cfg.Name, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	if s.closed {
		return idle
	}
	due := &alarm{now: s.now(), next: idle}
	for _, src := range s.sources {
		if src.absorb(due) {
			s.dirty = true
		}
	}
	if s.dirty {
		s.reconcile(due)
		s.dirty = false
	}
	s.eject(due)
	s.weigh(due)
	s.found()
	s.drainAll()
	s.records.expire(due)
	if s.known(due) {
		s.readyOnce.Do(func() { close(s.ready) })
	}
	return due.next
}

// known tells whether all sources have answered, or some have and the others had time enough.
func (s *Service) known(due *alarm) bool {
	all, some := true, false
	for _, src := range s.sources {
		all, some = all && src.known, some || src.known
	}
	if all {
		return true
	}
	late := s.began.Add(silence)
	if some && due.now.Before(late) {
		due.at(late)
		return false
	}
	return some
}

// drainAll drains what is leaving.
func (s *Service) drainAll() {
	for _, n := range s.leaving {
		s.drain(n)
	}
	s.leaving = nil
}

// drain lets a node's calls in flight end.
func (s *Service) drain(n *balancer.Node) {
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Log.Error("panic while an instance's transport was closed", "service", s.cfg.Name, "address", n.Address, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	n.Drain()
}

// Ready is closed when the service knows its instances for the first time, from its sources or from the shelf.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Pick chooses a node for one call. The caller starts it, and picks again when it will not start. It neither blocks nor
// allocates; the error wraps balancer.ErrNoNode. Info.Now is filled in where the policy reads it.
func (s *Service) Pick(info balancer.Info) (*balancer.Node, error) {
	if s.cfg.Balancer.Policy == balancer.PeakEWMA && info.Now == 0 {
		info.Now = s.Clock()
	}
	return s.view.Load().picker.Pick(info)
}

// Nodes are the service's nodes, used or not, sorted by address. Read-only.
func (s *Service) Nodes() []*balancer.Node { return s.view.Load().nodes }

// Breaker is what calls pass; nil: there is none.
func (s *Service) Breaker() *breaker.Breaker { return s.breaker }

// Budget is what retries are taken from.
func (s *Service) Budget() *breaker.Budget { return s.budget }

// Retire ends everything that watches: resolvers, checks, the keeper and the shelf. What is known then stays as it is, for calls
// that began under this configuration: they pick, are tried elsewhere and are reported as before, until Close. It waits for
// the resolvers, and may be called twice.
func (s *Service) Retire() {
	s.retiring.Do(func() {
		if f := s.former.Value(); f != nil {
			f.successor.CompareAndSwap(s, s.successor.Load()) // none, where the configuration was refused: the former one goes on
		}
		s.stop()
		if !s.waited() {
			s.cfg.Log.Error("a resolver does not end; its service is closed all the same", "service", s.cfg.Name, "waited", patience)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.closed = true
		for _, i := range s.instances {
			i.unwatch()
		}
	})
}

// Close stops watching and drains every node. Calls in flight end as they would; those that have not picked so far pick from the
// service that has taken this one over, if one has. It may be called twice.
func (s *Service) Close() {
	s.Retire()
	s.closing.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if next := s.successor.Load(); next != nil && reflect.DeepEqual(next.cfg.Balancer.Subsets, s.cfg.Balancer.Subsets) {
			s.view.Store(&view{picker: late{next}, nodes: s.view.Load().nodes})
		}
		now := s.now()
		for _, i := range s.instances {
			s.remove(i, now)
		}
		s.drainAll()
	})
}

// late picks for calls that began under a former configuration and have not picked before it was closed. Report may be told of
// such nodes as of the service's own.
type late struct{ successor *Service }

func (l late) Pick(info balancer.Info) (*balancer.Node, error) { return l.successor.Pick(info) }

// waited waits for the service's goroutines and reports whether they have ended.
func (s *Service) waited() bool {
	ended := make(chan struct{})
	go func() { // ends with the last of them
		s.tasks.Wait()
		close(ended)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}

// String names the service with its instances, for logs.
func (s *Service) String() string {
	return fmt.Sprintf("%s (%d instances)", s.cfg.Name, len(s.Nodes()))
}
