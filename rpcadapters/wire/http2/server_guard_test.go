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

// Workers are kept up to a number and a time, and end with the last connection.
func TestWorkers(t *testing.T) {
	var p workers
	idle := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.idle)
	}
	p.enter()
	c := &counting{wait: make(chan struct{})}
	const tasks = idleWorkers + 100
	for range tasks {
		c.wg.Add(1)
		p.run(c)
	}
	eventually(t, "all of them at once", func() bool { return c.n.Load() == tasks })
	close(c.wait)
	c.wg.Wait()
	eventually(t, "as many idle workers as are kept", func() bool { return idle() == idleWorkers })
	c.wg.Add(1)
	p.run(c)
	c.wg.Wait()
	eventually(t, "the worker back", func() bool { return idle() == idleWorkers })
	p.trim(time.Now())
	if n := idle(); n != idleWorkers {
		t.Errorf("want none ended yet, found %d left", n)
	}
	p.trim(time.Now().Add(2 * workerIdle))
	if n := idle(); n != 0 {
		t.Errorf("want all ended, found %d left", n)
	}
	c.wg.Add(1)
	p.run(c)
	c.wg.Wait()
	eventually(t, "one idle worker", func() bool { return idle() == 1 })
	p.leave()
	if n := idle(); n != 0 {
		t.Errorf("want none without connections, found %d", n)
	}
}
