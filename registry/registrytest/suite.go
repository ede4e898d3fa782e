// Package registrytest is the suite that every resolver must pass.
package registrytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/registry"
)

// Sink keeps what a resolver sends and says when its calls overlap.
type Sink struct {
	t       testing.TB
	busy    sync.Mutex
	mu      sync.Mutex
	last    registry.Set
	updates int
	fails   []error
	stale   bool // a Fail is in force
	emptied int  // updates with no endpoint after one with some
	beats   map[string][]registry.Beat
	changed chan struct{}
}

// NewSink makes an empty sink.
func NewSink(t testing.TB) *Sink {
	t.Helper()
	return &Sink{t: t, changed: make(chan struct{}, 1), beats: map[string][]registry.Beat{}}
}

func (s *Sink) serial(f func()) {
	if !s.busy.TryLock() {
		s.t.Error("want the resolver's calls one after the other, they overlap")
		return
	}
	defer s.busy.Unlock()
	s.mu.Lock()
	f()
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Update keeps the set.
func (s *Sink) Update(set registry.Set) {
	s.serial(func() {
		if len(set.Endpoints) == 0 && len(s.last.Endpoints) > 0 {
			s.emptied++
		}
		if set.Revision <= s.last.Revision && s.updates > 0 {
			s.t.Errorf("want a revision after %d, found %d", s.last.Revision, set.Revision)
		}
		s.last, s.stale = set, false
		s.updates++
	})
}

// Beat keeps the last one of each instance.
func (s *Sink) Beat(id string, b registry.Beat) {
	s.serial(func() { s.beats[id] = append(s.beats[id], b) })
}

// Fail keeps the error.
func (s *Sink) Fail(err error) { s.serial(func() { s.fails, s.stale = append(s.fails, err), true }) }

// Wait waits until the last set holds exactly these addresses, and nothing says that it is stale.
func (s *Sink) Wait(addresses ...string) registry.Set {
	s.t.Helper()
	addresses = slices.Sorted(slices.Values(addresses))
	var set registry.Set
	what := fmt.Sprintf("the addresses %v", addresses)
	if len(addresses) > 20 {
		what = fmt.Sprintf("%d addresses", len(addresses))
	}
	s.until(what, func() bool {
		got := make([]string, 0, len(s.last.Endpoints))
		for _, e := range s.last.Endpoints {
			got = append(got, e.Address)
		}
		slices.Sort(got)
		set = s.last
		return s.updates > 0 && !s.stale && slices.Equal(got, addresses)
	})
	return set
}

// WaitSet waits until a set passes.
func (s *Sink) WaitSet(what string, pass func(registry.Set) bool) registry.Set {
	s.t.Helper()
	var set registry.Set
	s.until(what, func() bool { set = s.last; return s.updates > 0 && !s.stale && pass(set) })
	return set
}

// WaitFail waits until a Fail is in force, and returns its error.
func (s *Sink) WaitFail() error {
	s.t.Helper()
	var err error
	s.until("a failure", func() bool {
		if s.stale {
			err = s.fails[len(s.fails)-1]
		}
		return s.stale
	})
	return err
}

// WaitBeats waits until n beats of an instance were seen, and returns them.
func (s *Sink) WaitBeats(id string, n int) []registry.Beat {
	s.t.Helper()
	var beats []registry.Beat
	s.until(fmt.Sprintf("%d beats of %s", n, id), func() bool { beats = slices.Clone(s.beats[id]); return len(beats) >= n })
	return beats
}

// Emptied is how often a set with no endpoint has followed one with some.
func (s *Sink) Emptied() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emptied
}

// Updates is how many sets have come.
func (s *Sink) Updates() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.updates
}

// until waits for a condition, which is asked with the lock held.
func (s *Sink) until(what string, holds func() bool) {
	s.t.Helper()
	timeout := time.NewTimer(90 * time.Second)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		done := holds()
		last, updates, fails := s.last, s.updates, slices.Clone(s.fails)
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-s.changed:
		case <-timeout.C:
			if len(last.Endpoints) > 20 {
				last.Endpoints = last.Endpoints[:20]
			}
			s.t.Fatalf("want %s, found %+v after %d updates, failures %v", what, last, updates, fails)
		}
	}
}

// Run holds a resolver against the contract. create returns a resolver that knows the service "orders" at the addresses.
func Run(t *testing.T, create func(t *testing.T, addresses ...string) registry.Resolver) {
	t.Run("the first set is complete and sorted", func(t *testing.T) {
		sink, stop := Watch(t, create(t, "b:1", "a:1", "c:1"), "orders")
		t.Cleanup(func() { _ = stop() }) // the context's error
		set := sink.Wait("a:1", "b:1", "c:1")
		if set.Service != "orders" || !slices.IsSortedFunc(set.Endpoints, func(a, b registry.Endpoint) int { return compare(a.ID, b.ID) }) {
			t.Errorf("want the service's name and its endpoints by id, found %+v", set)
		}
	})
	t.Run("the end of the context ends the watch", func(t *testing.T) {
		sink, stop := Watch(t, create(t, "a:1"), "orders")
		sink.Wait("a:1")
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("want the context's error, found %v", err)
		}
	})
	t.Run("two watches do not share their sets", func(t *testing.T) {
		r := create(t, "a:1", "b:1")
		first, stop1 := Watch(t, r, "orders")
		t.Cleanup(func() { _ = stop1() }) // the context's error
		second, stop2 := Watch(t, r, "orders")
		t.Cleanup(func() { _ = stop2() }) // the context's error
		first.Wait("a:1", "b:1").Endpoints[0].Address = "changed"
		second.Wait("a:1", "b:1")
	})
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Registry is one that a test can change.
type Registry struct {
	Resolver registry.Resolver
	// Set makes "orders" be at these addresses and no others.
	Set func(addresses ...string)
	// Lose makes the registry unreachable, Return ends that. Set may be called in between.
	Lose, Return func()
}

// RunChanging holds a resolver of a registry that changes against the contract. create returns one that knows no service.
func RunChanging(t *testing.T, create func(t *testing.T) Registry) {
	t.Run("a service that comes, changes and goes", func(t *testing.T) {
		r := create(t)
		sink, stop := Watch(t, r.Resolver, "orders")
		t.Cleanup(func() { _ = stop() }) // the context's error
		sink.Wait()
		for _, at := range [][]string{{"a:1"}, {"a:1", "b:1", "c:1"}, {"b:1", "d:1"}, {}, {"e:1"}} {
			r.Set(at...)
			sink.Wait(at...)
		}
	})
	t.Run("an outage empties nothing, and its end is told", func(t *testing.T) {
		r := create(t)
		r.Set("a:1", "b:1")
		sink, stop := Watch(t, r.Resolver, "orders")
		t.Cleanup(func() { _ = stop() }) // the context's error
		sink.Wait("a:1", "b:1")
		r.Lose()
		if err := sink.WaitFail(); err == nil {
			t.Error("want a failure's error")
		}
		r.Return()
		sink.Wait("a:1", "b:1")
		r.Lose()
		_ = sink.WaitFail() // told above
		r.Set("a:1", "c:1")
		r.Return()
		sink.Wait("a:1", "c:1")
		if n := sink.Emptied(); n != 0 {
			t.Errorf("want no empty set for an outage, found %d", n)
		}
	})
	t.Run("a start while the registry is away", func(t *testing.T) {
		r := create(t)
		r.Set("a:1")
		r.Lose()
		sink, stop := Watch(t, r.Resolver, "orders")
		t.Cleanup(func() { _ = stop() }) // the context's error
		_ = sink.WaitFail()              // whatever it says
		if n := sink.Updates(); n != 0 {
			t.Errorf("want no set from a registry that is away, found %d", n)
		}
		r.Return()
		sink.Wait("a:1")
	})
}

// Watch starts watching; stop ends it and returns what the resolver returned.
func Watch(t testing.TB, r registry.Resolver, service string) (sink *Sink, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	sink = NewSink(t)
	done := make(chan error, 1)
	go func() { done <- r.Watch(ctx, service, sink) }()
	return sink, sync.OnceValue(func() error { cancel(); return <-done })
}
