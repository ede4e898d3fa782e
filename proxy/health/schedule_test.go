package health

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// probed is a prober that takes its time and notes when it was asked.
type probed struct {
	takes  time.Duration
	deaf   bool // does not heed its context
	mu     sync.Mutex
	begun  []time.Time
	inside int
	most   int
	closed int
	err    error
}

func (p *probed) Probe(ctx context.Context) error {
	p.mu.Lock()
	p.begun = append(p.begun, time.Now())
	p.inside++
	p.most = max(p.most, p.inside)
	err := p.err
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.inside--
		p.mu.Unlock()
	}()
	if p.deaf {
		time.Sleep(p.takes)
		return err
	}
	if p.takes > 0 {
		wait := time.NewTimer(p.takes)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (p *probed) Close() {
	p.mu.Lock()
	p.closed++
	p.mu.Unlock()
}

func (p *probed) fail(err error) {
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
}

func (p *probed) starts() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.begun)
}

// within counts the probes begun from one time until before another.
func (p *probed) within(from, to time.Time) int {
	n := 0
	for _, at := range p.starts() {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}

// ended tells how often it was closed.
func (p *probed) ended() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *probed) dial() (Prober, error) { return p, nil }

// peak keeps the highest.
func peak(most *atomic.Int64, n int64) {
	for o := most.Load(); n > o; o = most.Load() {
		if most.CompareAndSwap(o, n) {
			return
		}
	}
}

// pass lets virtual time pass until everybody waits again, so that what they wrote may be read.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func nothing(context.Context) error { return nil }

// TestCountIsExact: whatever the interval is and however long probes take up to it, there is one per interval, at the same
// place in each, and none drifts.
func TestCountIsExact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(7, 7))
		p := NewPool(quiet())
		defer p.Close()
		type one struct {
			*probed
			interval time.Duration
			watch    *Watch
		}
		var all []one
		for i := range 40 {
			interval := 200*time.Millisecond + time.Duration(random.Int64N(int64(5*time.Second)))
			c := one{&probed{takes: time.Duration(random.Float64() * 0.98 * float64(interval))}, interval, nil}
			if i%3 == 0 {
				c.takes = 0
			}
			c.watch = p.Watch(strconv.Itoa(i), Timing{Interval: interval, Timeout: interval}, c.dial, nil)
			all = append(all, c)
			pass(time.Duration(random.Int64N(int64(30 * time.Millisecond))))
		}
		const intervals = 120
		pass(5 * intervals * time.Second)
		for i, c := range all {
			starts := c.starts()
			if want := float64(time.Since(starts[0])) / float64(c.interval); math.Abs(float64(len(starts))-want) > 2 {
				t.Fatalf("endpoint %d: want %.1f probes in all, found %d", i, want, len(starts))
			}
			if gap := starts[1].Sub(starts[0]); gap < c.interval/2-2*tick || gap > c.interval*3/2+2*tick {
				t.Errorf("endpoint %d: want about an interval of %v between its first probes, found %v", i, c.interval, gap)
			}
			// The first has no slot, so those that follow may have to wait for each other's end until they have caught up.
			const settled = intervals / 4
			last := len(starts) - 1
			for k, at := range starts[1:] {
				off := at.Sub(starts[last].Add(time.Duration(k+1-last) * c.interval))
				if off < -2*tick || off > c.interval || k >= settled && off > 2*tick {
					t.Fatalf("endpoint %d with the interval %v: its slot %d is off by %v", i, c.interval, k, off)
				}
			}
			if c.most != 1 {
				t.Errorf("endpoint %d: want one probe at a time, found %d", i, c.most)
			}
			if s := c.watch.State(); s.Probes != uint64(len(starts)) || !s.Up || s.Fails != 0 {
				t.Errorf("endpoint %d: want %d probes and up, found %+v", i, len(starts), s)
			}
		}
		if s := p.Stats(); s.Missed != 0 {
			t.Errorf("want no slot missed, found %d", s.Missed)
		}
	})
}

// TestSlowProbesKeepToThemselves: a probe that takes longer than the interval is not overlapped by the next, takes at most one
// slot each, and delays nobody.
func TestSlowProbesKeepToThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		const interval = time.Second
		slow := &probed{takes: 1900 * time.Millisecond}
		hung := &probed{takes: time.Hour}
		full := &probed{takes: time.Hour}
		deaf := &probed{takes: 70 * time.Second, deaf: true}
		quick := &probed{}
		timing := Timing{Interval: interval, Timeout: 5 * time.Second}
		slowly := p.Watch("slow", timing, slow.dial, nil)
		p.Watch("hung", timing, hung.dial, nil)
		p.Watch("full", Timing{Interval: interval, Timeout: interval}, full.dial, nil)
		deafly := p.Watch("deaf", Timing{Interval: interval, Timeout: interval}, deaf.dial, nil)
		p.Watch("quick", timing, quick.dial, nil)
		pass(10 * time.Second)
		if s := deafly.State(); !s.Known || s.Up || s.Err == nil || s.Err.Error()[:len("the check does not end")] != "the check does not end" {
			t.Errorf("want a check that does not end to count as failed, found %+v", s)
		}
		from := time.Now().Add(interval / 2)
		pass(50*time.Second + interval)
		to := from.Add(50 * time.Second)
		if n := quick.within(from, to); n != 50 {
			t.Errorf("beside slow ones: want 50 probes in 50 s, found %d", n)
		}
		if n := slow.within(from, to); n != 26 && n != 27 {
			t.Errorf("with probes of 1.9 s: want one after the other, 26 or 27 in 50 s, found %d", n)
		}
		if n := hung.within(from, to); n != 10 {
			t.Errorf("with probes that end after a timeout of 5 s: want 10 in 50 s, found %d", n)
		}
		if n := full.within(from, to); n < 49 || n > 50 {
			t.Errorf("with probes that take all the interval: want 50 in 50 s, found %d", n)
		}
		for name, s := range map[string]*probed{"slow": slow, "hung": hung, "full": full, "deaf": deaf} {
			if s.most != 1 {
				t.Errorf("%s: want one probe at a time, found %d", name, s.most)
			}
		}
		if s := slowly.State(); !s.Up {
			t.Errorf("want a slow one up, found %+v", s)
		}
		p.Close()
		pass(2 * deaf.takes)
	})
}

// TestFrozenIsFoundInTime: what hangs from a moment on is down within Unhealthy intervals and one timeout, whatever the moment.
func TestFrozenIsFoundInTime(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{0, time.Second} {
		for after := time.Duration(0); after < time.Second; after += 50 * time.Millisecond {
			synctest.Test(t, func(t *testing.T) {
				p := NewPool(quiet())
				defer p.Close()
				var frozen atomic.Bool
				down := make(chan struct{}, 9)
				w := p.Watch("a", Timing{Timeout: timeout}, func() (Prober, error) {
					return Func(func(ctx context.Context) error {
						if frozen.Load() {
							<-ctx.Done()
						}
						return ctx.Err()
					}, nil), nil
				}, func() { down <- struct{}{} })
				<-down // up
				pass(5*time.Second + after)
				frozen.Store(true)
				begun := time.Now()
				<-down
				limit := 2*defaultInterval + w.timing.Timeout + 5*tick
				if took := time.Since(begun); took > limit || w.State().Up {
					t.Errorf("frozen %v into an interval with a timeout of %v: want it down within %v, found %v", after, timeout, limit, took)
				}
			})
		}
	}
}

// TestPhasesAreSpread: endpoints that came at once are not probed at once.
func TestPhasesAreSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		defer p.Close()
		const endpoints = 1000
		all := make([]probed, endpoints)
		begun := time.Now()
		for i := range all {
			p.Watch(strconv.Itoa(i), Timing{}, all[i].dial, nil)
		}
		pass(20 * time.Second)
		var last time.Time
		buckets := make([]int, 50) // 20 ms each, of the tenth second
		from := begun.Add(10 * time.Second)
		for i := range all {
			starts := all[i].starts()
			if starts[0].After(last) {
				last = starts[0]
			}
			if n := all[i].within(from, from.Add(10*time.Second)); n != 10 {
				t.Fatalf("endpoint %d: want 10 probes in 10 s, found %d", i, n)
			}
			for _, at := range starts {
				if d := at.Sub(from); d >= 0 && d < time.Second {
					buckets[d/(20*time.Millisecond)]++
				}
			}
		}
		if took := last.Sub(begun); took > endpoints*firstGap+10*tick {
			t.Errorf("want the first probes of all within %v, found %v", endpoints*firstGap, took)
		}
		if low, high := slices.Min(buckets), slices.Max(buckets); low < 16 || high > 24 {
			t.Errorf("want about 20 probes begun in each 20 ms, found %d to %d", low, high)
		}
	})
}

// TestNoBurstAfterAPause: what was missed while the process stood still is not made good, and the phases stay.
func TestNoBurstAfterAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		defer p.Close()
		const endpoints = 200
		all := make([]probed, endpoints)
		for i := range all {
			p.Watch(strconv.Itoa(i), Timing{}, all[i].dial, nil)
		}
		pass(10 * time.Second)
		p.mu.Lock()
		p.start = p.start.Add(-7300 * time.Millisecond) // the clock went on, nothing else did
		p.mu.Unlock()
		from := time.Now()
		pass(21 * time.Second)
		early, whole := 0, 0
		for i := range all {
			early += all[i].within(from, from.Add(10*time.Millisecond))
			whole += all[i].within(from.Add(time.Second), from.Add(21*time.Second))
			starts := all[i].starts()
			for k := 2; k < len(starts); k++ {
				if gap := starts[k].Sub(starts[k-1]); gap < 250*time.Millisecond {
					t.Fatalf("endpoint %d: two probes %v from each other", i, gap)
				}
			}
		}
		// Of those whose slots are due or were a little late.
		if early > endpoints*6/10 {
			t.Errorf("want no burst after the pause, found %d of %d endpoints probed in the first 10 ms", early, endpoints)
		}
		if want := endpoints * 20; whole < want*99/100 || whole > want*101/100 {
			t.Errorf("want %d probes in the 20 s that follow, found %d", want, whole)
		}
	})
}

// TestReloadsKeepTheProber: whoever closes and opens watches a thousand times is probed as one who does not.
func TestReloadsKeepTheProber(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"close, open", "open, close"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := NewPool(quiet())
				defer p.Close()
				const endpoints, reloads = 50, 1000
				all := make([]probed, endpoints)
				for i := range all {
					if i%2 == 1 {
						all[i].err = errors.New("broken")
					}
				}
				var dialled atomic.Int64
				open := func(i int) *Watch {
					return p.Watch(strconv.Itoa(i), Timing{}, func() (Prober, error) { dialled.Add(1); return &all[i], nil }, nil)
				}
				watches := make([]*Watch, endpoints)
				for i := range watches {
					watches[i] = open(i)
				}
				pass(5*time.Second + time.Millisecond/3)
				since := watches[1].State().Since
				from := time.Now()
				for range reloads {
					pass(77 * time.Millisecond)
					for i, w := range watches {
						if order == "close, open" {
							w.Close()
							watches[i] = open(i)
						} else {
							watches[i] = open(i)
							w.Close()
						}
						if s := watches[i].State(); !s.Known || s.Up != (i%2 == 0) || s.Up && s.Fails != 0 || !s.Up && s.Fails < 4 {
							t.Fatalf("endpoint %d: want its state kept, found %+v", i, s)
						}
					}
				}
				pass(time.Until(from.Add(reloads * 77 * time.Millisecond)))
				to := from.Add(reloads * 77 * time.Millisecond)
				for i := range all {
					if n := all[i].within(from, to); n != 77 {
						t.Errorf("endpoint %d: want 77 probes in 77 s, found %d", i, n)
					}
				}
				if dialled.Load() != endpoints {
					t.Errorf("want each endpoint dialled once, found %d dials for %d", dialled.Load(), endpoints)
				}
				if s := watches[1].State(); s.Since != since || s.Probes < 80 {
					t.Errorf("want down since %v, and every probe counted, found %+v", since, s)
				}
				for _, w := range watches {
					w.Close()
				}
				pass(leastGrace - 10*time.Millisecond)
				if s := p.Stats(); s.Endpoints != endpoints {
					t.Errorf("want them kept within the grace, found %+v", s)
				}
				pass(time.Second)
				if s := p.Stats(); s.Endpoints != 0 || s.Running != 0 {
					t.Errorf("want nothing left after the grace, found %+v", s)
				}
				for i := range all {
					if n := all[i].ended(); n != 1 {
						t.Errorf("endpoint %d: want its prober closed once, found %d times", i, n)
					}
				}
			})
		})
	}
}

// TestPlacesAreBounded: a great many endpoints that hang take neither all memory nor the places of those that answer.
func TestPlacesAreBounded(t *testing.T) {
	t.Parallel()
	const livelyTest, hungTest = 90, 30
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		defer p.Close()
		p.mu.Lock()
		p.lanes[lively].places, p.lanes[hung].places = livelyTest, hungTest
		p.mu.Unlock()
		var inside, most atomic.Int64
		watches := make([]*Watch, 400)
		for i := range watches {
			watches[i] = p.Watch(strconv.Itoa(i), Timing{Timeout: time.Second}, func() (Prober, error) {
				return Func(func(ctx context.Context) error {
					n := inside.Add(1)
					defer inside.Add(-1)
					peak(&most, n)
					<-ctx.Done()
					return ctx.Err()
				}, nil), nil
			}, nil)
		}
		pass(20 * time.Second)
		if n := most.Load(); n > livelyTest+hungTest {
			t.Errorf("want at most %d probes at once, found %d", livelyTest+hungTest, n)
		}
		if s := p.Stats(); s.Down != len(watches) || s.Running > hungTest+1 || s.Waiting < 300 {
			t.Errorf("want all down, known to hang, and some waiting, found %+v", s)
		}
		quick := &probed{}
		begun := time.Now()
		w := p.Watch("quick", Timing{}, quick.dial, nil)
		pass(30*time.Second + time.Millisecond)
		if n := quick.within(begun, begun.Add(30*time.Second)); n < 29 || n > 31 || !w.State().Up {
			t.Errorf("beside those that hang: want 30 probes in 30 s and up, found %d, %+v", n, w.State())
		}
		for _, w := range watches {
			w.Close()
		}
		pass(10 * time.Second)
		if s := p.Stats(); s.Endpoints != 1 || s.Waiting != 0 || s.Running != 0 {
			t.Errorf("want one endpoint left, found %+v", s)
		}
	})
}

// TestIntervalsChange: the quickest of those who watch holds, and a change makes no extra probes.
func TestIntervalsChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		defer p.Close()
		a := &probed{}
		slow := p.Watch("a", Timing{Interval: 10 * time.Second}, a.dial, nil)
		pass(25 * time.Second)
		quick := p.Watch("a", Timing{Interval: time.Second}, a.dial, nil)
		pass(2 * time.Second)
		from := time.Now()
		pass(20 * time.Second)
		if n := a.within(from, time.Now()); n != 20 {
			t.Errorf("want the shorter interval of two watches, 20 probes in 20 s, found %d", n)
		}
		from = time.Now()
		quick.Close()
		pass(100 * time.Second)
		if n := a.within(from, time.Now()); n < 9 || n > 11 {
			t.Errorf("want the longer interval again, 10 probes in 100 s, found %d", n)
		}
		from = time.Now()
		for i := range 1000 {
			w := p.Watch("a", Timing{Interval: 5*time.Second + time.Duration(i)*time.Millisecond}, a.dial, nil)
			pass(50 * time.Millisecond)
			w.Close()
		}
		if n := a.within(from, time.Now()); n > 20 {
			t.Errorf("while the interval changes all the time: want at most two probes in each 5 s, found %d in 50 s", n)
		}
		slow.Close()
	})
}

// TestPassesAreCounted: passes are what passed, however often a probe that does not end has failed.
func TestPassesAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		deaf := &probed{takes: 40 * time.Second, deaf: true}
		p.Watch("deaf", Timing{Interval: time.Second, Timeout: time.Second}, deaf.dial, nil)
		pass(30 * time.Second)
		if s := p.Stats(); s.Passed != 0 || s.Failed <= s.Probes {
			t.Errorf("want no pass of a check that does not end, and many failures of its one probe, found %+v", s)
		}
		well := &probed{}
		p.Watch("well", Timing{Interval: time.Second, Timeout: time.Second}, well.dial, nil)
		pass(5 * time.Second)
		if s := p.Stats(); s.Passed < 4 || s.Passed > 6 {
			t.Errorf("want about five passes, found %+v", s)
		}
		p.Close()
		pass(2 * deaf.takes)
	})
}
