package health

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// TestThresholds: results in a row, and what is known after each.
func TestThresholds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name               string
		unhealthy, healthy int
		results, want      string // + pass, - failure; U up, d down
		changes            int
	}{
		{"defaults", 0, 0, "+-+--+-", "UUUUdUU", 3},
		{"the first failure decides", 3, 2, "-++---+", "ddUUUdd", 3},
		{"the first pass decides", 1, 3, "+-++-+++", "UdddddDU", 3},
		{"failures must follow each other", 3, 1, "+--+--+---", "UUUUUUUUUd", 2},
		{"one failure is enough", 1, 1, "+-+-", "UdUd", 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := NewPool(quiet())
				defer p.Close()
				a := &probed{}
				changes := 0
				if tc.results[0] == '-' {
					a.fail(errors.New("broken"))
				}
				w := p.Watch("a", Timing{Unhealthy: tc.unhealthy, Healthy: tc.healthy}, a.dial, func() { changes++ })
				if s := w.State(); s.Known || s.Up || !s.Since.IsZero() {
					t.Errorf("before the first probe: want nothing known, found %+v", s)
				}
				var fails int
				for i, r := range tc.results {
					for len(a.starts()) == i {
						pass(50 * time.Millisecond)
					}
					synctest.Wait()
					s := w.State()
					if want := strings.ToUpper(tc.want[i:i+1]) == "U"; !s.Known || s.Up != want {
						t.Errorf("after %s: want up %v, found %+v", tc.results[:i+1], want, s)
					}
					if fails++; r == '+' {
						fails = 0
					}
					if s.Fails != fails || s.Probes != uint64(i+1) || s.Last.IsZero() || s.Since.IsZero() {
						t.Errorf("after %s: want %d failures, found %+v", tc.results[:i+1], fails, s)
					}
					if (s.Err != nil) != strings.Contains(tc.results[:i+1], "-") {
						t.Errorf("after %s: want the reason of the last failure, found %v", tc.results[:i+1], s.Err)
					}
					if i+1 < len(tc.results) {
						a.fail(nil)
						if tc.results[i+1] == '-' {
							a.fail(errors.New("broken"))
						}
					}
				}
				if changes != tc.changes {
					t.Errorf("want %d changes told, found %d", tc.changes, changes)
				}
			})
		})
	}
}

// TestOneProberForAll: two who watch the same share prober and state, and each is told.
func TestOneProberForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		defer p.Close()
		a, b := &probed{}, &probed{}
		var told [2]int
		one := p.Watch("a", Timing{}, a.dial, func() { told[0]++ })
		two := p.Watch("a", Timing{}, b.dial, func() { told[1]++ })
		pass(10 * time.Second)
		if len(b.starts()) != 0 || len(a.starts()) < 10 || one.State() != two.State() || told != [2]int{1, 1} {
			t.Errorf("want one prober, found %d and %d probes, told %v", len(a.starts()), len(b.starts()), told)
		}
		one.Close()
		one.Close()
		a.fail(errors.New("broken"))
		pass(10 * time.Second)
		if a.ended() != 0 || told != [2]int{1, 2} || two.State().Up {
			t.Errorf("want the other one told, found %v, %+v", told, two.State())
		}
		two.Close()
		pass(10 * time.Second)
		if a.ended() != 1 || b.ended() != 0 {
			t.Errorf("want the prober closed, found %d and %d times", a.ended(), b.ended())
		}
	})
}

// TestProberForgetsWatches: a prober that outlives the watch which had it made does not keep alive what that watch holds.
func TestProberForgetsWatches(t *testing.T) {
	p := NewPool(quiet())
	defer p.Close()
	a := &probed{}
	first := p.Watch("a", Timing{Interval: 10 * time.Millisecond, Timeout: patience}, a.dial, func() {})
	eventually(t, "a probe", func() bool { return len(a.starts()) > 0 })
	next := p.Watch("a", Timing{Interval: 10 * time.Millisecond, Timeout: patience}, a.dial, nil)
	defer next.Close()
	first.Close()
	held := weak.Make(first)
	eventually(t, "the first watch let go", func() bool {
		runtime.GC()
		return held.Value() == nil
	})
	if next.State().Probes == 0 || a.ended() != 0 {
		t.Error("want the prober kept")
	}
}

// TestBorrowedProbers are used only while the watch is open whose Dial made them.
func TestBorrowedProbers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		defer p.Close()
		var asks, releases [3]atomic.Int64
		counts := func() (asked, released [3]int64) {
			for i := range asks {
				asked[i], released[i] = asks[i].Load(), releases[i].Load()
			}
			return asked, released
		}
		var gone [3]atomic.Bool
		watch := func(i int) *Watch {
			return p.Watch("a", Timing{}, func() (Prober, error) {
				return Func(func(context.Context) error {
					if asks[i].Add(1) == 5 {
						// Long enough for the watch to be closed meanwhile.
						wait := time.NewTimer(700 * time.Millisecond)
						defer wait.Stop()
						<-wait.C
					}
					if gone[i].Load() {
						return errors.New("used after its end")
					}
					return nil
				}, func() { releases[i].Add(1) }), nil
			}, nil)
		}
		w0, w1 := watch(0), watch(1)
		for asks[0].Load() < 5 {
			pass(10 * time.Millisecond)
		}
		gone[0].Store(true)
		w0.Close()
		pass(10 * time.Second)
		if asked, released := counts(); asked[1] < 9 || asked[0] != 5 || released != [3]int64{1, 0, 0} {
			t.Errorf("want the other watch's prober in its place, found %v asked, %v released", asked, released)
		}
		if s := w1.State(); !s.Up || s.Err != nil {
			t.Errorf("want what a prober of a closed watch found ignored, found %+v", s)
		}
		gone[1].Store(true)
		since, probes := w1.State().Since, w1.State().Probes
		w1.Close()
		pass(2500 * time.Millisecond)
		if w1.State().Probes != probes {
			t.Error("want nothing asked while nobody watches")
		}
		w2 := watch(2)
		if s := w2.State(); !s.Up || s.Since != since || s.Err != nil {
			t.Errorf("want the state kept, found %+v", s)
		}
		pass(10 * time.Second)
		asked, released := counts()
		if s := w2.State(); asked[2] < 9 || !s.Up || s.Err != nil || released != [3]int64{1, 1, 0} {
			t.Errorf("want the new watch's prober, found %v asked, %v released, %+v", asked, released, s)
		}
	})
}

// TestCallbacks are told serially, may ask the pool, and never come after Close.
func TestCallbacks(t *testing.T) {
	t.Parallel()
	p := NewPool(quiet())
	defer p.Close()
	const endpoints = 40
	var wg sync.WaitGroup
	var told atomic.Int64
	for i := range endpoints {
		wg.Go(func() {
			var flip atomic.Int64
			for range 10 {
				var inside, calls atomic.Int64
				var closed atomic.Bool
				var w atomic.Pointer[Watch]
				w.Store(p.Watch(strconv.Itoa(i%7), Timing{Interval: leastInterval, Unhealthy: 1}, func() (Prober, error) {
					return funcs{func(context.Context) error {
						if flip.Add(1)%2 == 0 {
							return errors.New("broken")
						}
						return nil
					}, nil}, nil
				}, func() {
					if inside.Add(1) != 1 {
						t.Error("changed runs twice at once")
					}
					if closed.Load() {
						t.Error("changed runs after Close")
					}
					if w := w.Load(); w != nil {
						w.State()
					}
					p.Stats()
					calls.Add(1)
					inside.Add(-1)
				}))
				time.Sleep(30 * time.Millisecond)
				w.Load().Close()
				closed.Store(true)
				told.Add(calls.Load())
			}
		})
	}
	wg.Wait()
	if told.Load() == 0 {
		t.Error("want changes told")
	}
}

// TestCloseWaitsForChanged that is under way, and no other call follows.
func TestCloseWaitsForChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		defer p.Close()
		a := &probed{}
		var calls, over atomic.Int64
		w := p.Watch("a", Timing{Unhealthy: 1}, a.dial, func() {
			calls.Add(1)
			time.Sleep(10 * time.Second)
			over.Add(1)
		})
		pass(time.Second / 2)
		a.fail(errors.New("broken"))
		begun := time.Now()
		w.Close()
		if took := time.Since(begun); calls.Load() != 1 || over.Load() != 1 || took < 9*time.Second {
			t.Errorf("want Close to wait for the call under way, found %d begun, %d over, after %v", calls.Load(), over.Load(), took)
		}
		pass(20 * time.Second)
		if calls.Load() != 1 {
			t.Errorf("want no call after Close, found %d", calls.Load())
		}
	})
}

// TestPanics are failures, and end nothing.
func TestPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		a := &probed{}
		p.Watch("probe", Timing{}, func() (Prober, error) {
			return Func(func(context.Context) error { panic("oh") }, func() { panic("no") }), nil
		}, func() { panic("ah") })
		w := p.Watch("dial", Timing{}, func() (Prober, error) { panic("oh") }, nil)
		e := p.Watch("error", Timing{}, func() (Prober, error) { return nil, errors.New("no such thing") }, nil)
		good := p.Watch("good", Timing{}, a.dial, nil)
		pass(10 * time.Second)
		if s := w.State(); s.Up || s.Fails < 9 || s.Err.Error() != "the check panicked; the log has more" {
			t.Errorf("want a panic to be a failure, found %+v", s)
		}
		if s := e.State(); s.Up || s.Fails < 9 || s.Err.Error() != "no such thing" {
			t.Errorf("want an error of Dial to be a failure, found %+v", s)
		}
		if s := good.State(); !s.Up || s.Probes < 9 {
			t.Errorf("beside panics: want up, found %+v", s)
		}
		p.Close()
	})
}

// TestClose ends probes that are under way, tells nobody, and leaves states.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		var told int
		all := []*probed{{}, {takes: time.Hour}, {err: errors.New("broken")}}
		var watches []*Watch
		for i, a := range all {
			watches = append(watches, p.Watch(strconv.Itoa(i), Timing{Interval: time.Hour, Timeout: time.Hour}, a.dial, func() { told++ }))
		}
		pass(time.Minute)
		begun := time.Now()
		p.Close()
		p.Close()
		if took := time.Since(begun); took != 0 {
			t.Errorf("want Close to end probes at once, found %v", took)
		}
		if told != 2 {
			t.Errorf("want the end untold, found %d calls", told)
		}
		for i, a := range all {
			if a.ended() != 1 {
				t.Errorf("prober %d: want it closed once, found %d times", i, a.ended())
			}
		}
		if !watches[0].State().Up || watches[1].State().Known || watches[2].State().Up {
			t.Error("want the states as they were")
		}
		late := p.Watch("late", Timing{}, func() (Prober, error) { t.Error("dialled after Close"); return nil, nil }, nil)
		pass(time.Minute)
		if late.State().Known {
			t.Error("after Close: want nothing known")
		}
		for _, w := range append(watches, late) {
			w.Close()
		}
	})
}

// TestCloseOfDeafProbers does not wait for ever.
func TestCloseOfDeafProbers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(quiet())
		a := &probed{takes: time.Minute, deaf: true}
		p.Watch("a", Timing{}, a.dial, nil)
		pass(time.Second / 2)
		begun := time.Now()
		p.Close()
		if took := time.Since(begun); took != closeWait {
			t.Errorf("want Close to give up after %v, found %v", closeWait, took)
		}
		pass(2 * time.Minute)
		if a.ended() != 1 {
			t.Errorf("want the prober closed once it has returned, found %d times", a.ended())
		}
	})
}

// TestRaces opens, closes and asks from many goroutines at once.
func TestRaces(t *testing.T) {
	t.Parallel()
	p := NewPool(quiet())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			var open []*Watch
			for i := 0; ; i++ {
				select {
				case <-stop:
					for _, w := range open {
						w.Close()
					}
					return
				default:
				}
				a := &probed{takes: time.Duration(i%3) * 5 * time.Millisecond}
				open = append(open, p.Watch(strconv.Itoa((i+g)%20), Timing{Interval: time.Duration(10+i%5) * time.Millisecond}, a.dial, func() { p.Stats() }))
				if len(open) > 10 {
					open[0].Close()
					open[0].State()
					open = slices.Delete(open, 0, 1)
				}
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	eventually(t, "500 probes", func() bool { return p.Stats().Probes > 500 })
	close(stop)
	wg.Wait()
	p.Close()
}

// TestIdleEndpointsHaveNoGoroutines keeps connections to many endpoints by one goroutine, the schedule's.
func TestIdleEndpointsHaveNoGoroutines(t *testing.T) { //nolint:paralleltest // it counts goroutines
	at := startChild(t, "server").line(t)
	before := runtime.NumGoroutine()
	p := NewPool(quiet())
	defer p.Close()
	const endpoints = 300
	for i := range endpoints {
		p.Watch(strconv.Itoa(i), Timing{Interval: time.Hour, Timeout: patience}, func() (Prober, error) {
			if i%2 == 0 {
				return GRPC(at[0], GRPCCheck{}, nil)
			}
			return HTTP(at[1], HTTPCheck{}, nil)
		}, nil)
	}
	eventually(t, "all up", func() bool { return p.Stats().Up == endpoints })
	eventually(t, "one goroutine more", func() bool { return runtime.NumGoroutine() <= before+1 })
	kept := 0
	p.mu.Lock()
	for _, e := range p.endpoints {
		switch prober := e.prober.(type) {
		case *grpcProber:
			if prober.conn != nil {
				kept++
			}
		case *httpProber:
			if prober.conn != nil {
				kept++
			}
		}
	}
	p.mu.Unlock()
	if kept != endpoints {
		t.Errorf("want a connection kept to each of %d endpoints, found %d", endpoints, kept)
	}
}
