package http2

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The history of ids says what a map of all of them would, as far back as it reaches.
func TestIDHistory(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var h idHistory
		used, cut := map[uint32]bool{}, map[uint32]bool{}
		last := uint32(0)
		for range 3000 {
			step := uint32(2)
			switch rnd.IntN(50) {
			case 0:
				step += 2 * uint32(rnd.IntN(idCount*2))
			case 1, 2, 3:
				step += 2 * uint32(rnd.IntN(5))
			}
			if last == 0 {
				step--
			}
			last += step
			h.use(last)
			used[last] = true
			for range 3 {
				id := last - min(last-1, 2*uint32(rnd.IntN(idCount+100)))
				if rnd.IntN(3) == 0 && used[id] {
					h.reset(id)
					if (last-id)/2 < idCount {
						cut[id] = true
					}
				}
				known := (last-id)/2 < idCount
				if want := !known || used[id]; h.wasUsed(id) != want {
					t.Fatalf("seed %d, last %d: %d used: want %v", seed, last, id, want)
				}
				if want := known && cut[id]; h.wasReset(id) != want {
					t.Fatalf("seed %d, last %d: %d reset: want %v", seed, last, id, want)
				}
			}
		}
	}
}

func TestWasteGuard(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name           string
		opened, wasted int
		within         time.Duration
		over           bool
	}{
		{"few", 499, 499, time.Second, false},
		{"all of many", 500, 500, time.Second, true},
		{"half of many", 1000, 500, time.Second, true},
		{"less than half", 1002, 500, time.Second, false},
		{"many over a long time", 1000, 1000, 10 * time.Second, false},
	} {
		var g wasteGuard
		over := false
		for i := range tc.opened {
			at := now.Add(tc.within * time.Duration(i) / time.Duration(tc.opened))
			g.open(at)
			// Spread as evenly as can be.
			if i*tc.wasted/tc.opened != (i+1)*tc.wasted/tc.opened {
				g.reset(at)
			}
			over = over || g.over(500)
		}
		if over != tc.over {
			t.Errorf("%s: found %v", tc.name, over)
		}
	}
}

type counting struct {
	n    atomic.Int64
	wait chan struct{}
	wg   sync.WaitGroup
}

func (c *counting) run() {
	c.n.Add(1)
	<-c.wait
	c.wg.Done()
}

func (p *workers) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// busy has p run so many tasks at once and returns what has them end.
func busy(t *testing.T, p *workers, tasks int) (end func()) {
	t.Helper()
	c := &counting{wait: make(chan struct{})}
	c.wg.Add(tasks)
	for range tasks {
		p.run(c)
	}
	eventually(t, "all of them at once", func() bool { return c.n.Load() == int64(tasks) })
	return func() {
		close(c.wait)
		c.wg.Wait()
	}
}

// Workers are kept up to a number. Those above it end when they find as many waiting, whenever that is: what takes workers
// away from the waiting ones is tested apart, with no more of them than are kept.
func TestWorkersKept(t *testing.T) {
	var p workers
	p.enter()
	busy(t, &p, idleWorkers+100)()
	eventually(t, "as many idle workers as are kept", func() bool { return p.waiting() == idleWorkers })
	p.leave()
	if n := p.waiting(); n != 0 {
		t.Errorf("want none without connections, found %d", n) // those on their way do not wait any more either
	}
}

// Workers are kept for a time, and end with the last connection.
func TestWorkersEnd(t *testing.T) {
	var p workers
	p.enter()
	busy(t, &p, idleWorkers)()
	eventually(t, "all of them idle", func() bool { return p.waiting() == idleWorkers })
	busy(t, &p, 1)()
	eventually(t, "the worker back", func() bool { return p.waiting() == idleWorkers })
	p.trim(time.Now())
	if n := p.waiting(); n != idleWorkers {
		t.Errorf("want none ended yet, found %d left", n)
	}
	p.trim(time.Now().Add(2 * workerIdle))
	if n := p.waiting(); n != 0 {
		t.Errorf("want all ended, found %d left", n)
	}
	busy(t, &p, 1)()
	eventually(t, "one idle worker", func() bool { return p.waiting() == 1 })
	p.leave()
	if n := p.waiting(); n != 0 {
		t.Errorf("want none without connections, found %d", n)
	}
}
