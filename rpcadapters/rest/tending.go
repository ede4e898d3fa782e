package rest

import (
	"sync"
	"time"
)

// tending looks after streams on which little happens: one goroutine for all of them, which runs while there are any.
type tending struct {
	mu      sync.Mutex
	all     map[tended]struct{}
	running bool
}

// tended is a stream that is looked after. tend does not wait.
type tended interface{ tend(now time.Time) }

// tendEvery is how often streams are looked at.
const tendEvery = time.Second

func (t *tending) add(s tended) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[tended]struct{}{}
	}
	t.all[s] = struct{}{}
	if !t.running {
		t.running = true
		go t.run()
	}
}

func (t *tending) remove(s tended) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, s)
}

func (t *tending) run() {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for now := range tick.C {
		if !t.look(now) {
			return
		}
	}
}

// look looks at every stream, and tells whether there are any.
func (t *tending) look(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.all {
		s.tend(now)
	}
	t.running = len(t.all) > 0
	return t.running
}
