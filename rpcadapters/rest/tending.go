package rest

import (
	"sync"
	"time"
)

// tending looks after streams on which little happens: one goroutine for all of them, which runs while there are any.
type tending struct {
	mu   sync.Mutex
	all  map[tended]struct{}
	stop chan struct{} // ends the goroutine; nil: there is none
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
	if t.stop == nil {
		t.stop = make(chan struct{})
		go t.run(t.stop)
	}
}

func (t *tending) remove(s tended) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, s)
	if len(t.all) == 0 && t.stop != nil {
		close(t.stop)
		t.stop = nil
	}
}

func (t *tending) run(stop <-chan struct{}) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			t.look(now)
		}
	}
}

// look looks at every stream.
func (t *tending) look(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.all {
		s.tend(now)
	}
}
