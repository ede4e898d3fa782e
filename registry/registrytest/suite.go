// Package registrytest is the suite that every resolver must pass.
package registrytest

import (
	"context"
	"errors"
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
	changed chan struct{}
}

// NewSink makes an empty sink.
func NewSink(t testing.TB) *Sink {
	t.Helper()
	return &Sink{t: t, changed: make(chan struct{}, 1)}
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
func (s *Sink) Update(set registry.Set) { s.serial(func() { s.last = set; s.updates++ }) }

// Beat is kept by nobody here.
func (s *Sink) Beat(string, registry.Beat) { s.serial(func() {}) }

// Fail keeps the error.
func (s *Sink) Fail(err error) { s.serial(func() { s.fails = append(s.fails, err) }) }

// Wait waits until the last set holds exactly these addresses.
func (s *Sink) Wait(addresses ...string) registry.Set {
	s.t.Helper()
	slices.Sort(addresses)
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		last, updates := s.last, s.updates
		s.mu.Unlock()
		got := make([]string, 0, len(last.Endpoints))
		for _, e := range last.Endpoints {
			got = append(got, e.Address)
		}
		slices.Sort(got)
		if updates > 0 && slices.Equal(got, addresses) {
			return last
		}
		select {
		case <-s.changed:
		case <-timeout.C:
			s.t.Fatalf("want the addresses %v, found %v after %d updates, failures %v", addresses, got, updates, s.fails)
		}
	}
}

// Run holds a resolver against the contract. create returns a resolver that knows the service "orders" at the addresses.
func Run(t *testing.T, create func(t *testing.T, addresses ...string) registry.Resolver) {
	t.Run("the first set is complete and sorted", func(t *testing.T) {
		sink, stop := watch(t, create(t, "b:1", "a:1", "c:1"), "orders")
		t.Cleanup(func() { _ = stop() }) // the context's error
		set := sink.Wait("a:1", "b:1", "c:1")
		if set.Service != "orders" || !slices.IsSortedFunc(set.Endpoints, func(a, b registry.Endpoint) int { return compare(a.ID, b.ID) }) {
			t.Errorf("want the service's name and its endpoints by id, found %+v", set)
		}
	})
	t.Run("the end of the context ends the watch", func(t *testing.T) {
		sink, stop := watch(t, create(t, "a:1"), "orders")
		sink.Wait("a:1")
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("want the context's error, found %v", err)
		}
	})
	t.Run("two watches do not share their sets", func(t *testing.T) {
		r := create(t, "a:1", "b:1")
		first, stop1 := watch(t, r, "orders")
		t.Cleanup(func() { _ = stop1() }) // the context's error
		second, stop2 := watch(t, r, "orders")
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

// watch starts watching; stop ends it and returns what Watch returned.
func watch(t *testing.T, r registry.Resolver, service string) (sink *Sink, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	sink = NewSink(t)
	done := make(chan error, 1)
	go func() { done <- r.Watch(ctx, service, sink) }()
	return sink, sync.OnceValue(func() error { cancel(); return <-done })
}
