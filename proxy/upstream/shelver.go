package upstream

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/causeway-gateway/causeway/registry"
)

// saveGap is the least time between two writes of a service's snapshots: of a storm of changes the last of each is written.
const saveGap = time.Second

// shelver writes a service's snapshots, for a disk may be slow and the keeper must not wait.
type shelver struct {
	s    *Service
	wake chan struct{} // has room for one

	mu      sync.Mutex
	pending map[string]registry.Set
	saved   time.Time // the last one that succeeded
	failing bool
	faults  uint64
}

func newShelver(s *Service) *shelver {
	return &shelver{s: s, wake: make(chan struct{}, 1), pending: map[string]registry.Set{}}
}

// put has a set written soon.
func (h *shelver) put(name string, set registry.Set) {
	h.mu.Lock()
	h.pending[name] = set
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and then what is left, unless a successor does that with fresher sets.
func (h *shelver) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-h.wake:
			h.write()
			timer.Reset(saveGap)
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
	}
	if h.s.successor.Load() == nil {
		h.write()
	}
}

// write writes what is pending.
func (h *shelver) write() {
	h.mu.Lock()
	pending := h.pending
	h.pending = map[string]registry.Set{}
	h.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(pending)) {
		h.outcome(name, h.save(name, pending[name]))
	}
}

func (h *shelver) save(name string, set registry.Set) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return h.s.cfg.Shelf.Save(name, set)
}

// outcome tells of the first failure and of the first success after it.
func (h *shelver) outcome(name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil:
		h.faults++
		if !h.failing {
			h.s.cfg.Log.Error("the instances known are not kept for the next start", "service", h.s.cfg.Name, "snapshot", name, "error", err)
		}
		h.failing = true
	default:
		if h.failing {
			h.s.cfg.Log.Info("the instances known are kept again for the next start", "service", h.s.cfg.Name, "snapshot", name)
		}
		h.failing, h.saved = false, h.s.now()
	}
}

// figures are when the last snapshot was written and how many could not be.
func (h *shelver) figures() (saved time.Time, faults uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.saved, h.faults
}
