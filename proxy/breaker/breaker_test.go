package breaker_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-gateway/causeway/proxy/breaker"
)

func enter(t *testing.T, b *breaker.Breaker, want error) breaker.Pass {
	t.Helper()
	p, err := b.Enter(t.Context())
	if !errors.Is(err, want) {
		t.Fatalf("Enter: %v, want %v", err, want)
	}
	return p
}

func wantState(t *testing.T, b *breaker.Breaker, phase breaker.Phase, inside, pending int64) {
	t.Helper()
	if s := b.State(); s.Phase != phase || s.Inside != inside || s.Pending != pending {
		t.Errorf("%v with %d inside and %d waiting, want %v with %d and %d", s.Phase, s.Inside, s.Pending, phase, inside, pending)
	}
}

func TestPlaces(t *testing.T) {
	b := breaker.New(breaker.Config{MaxCalls: 2}, nil)
	p, q := enter(t, b, nil), enter(t, b, nil)
	enter(t, b, breaker.ErrFull)
	b.Leave(p, true, true)
	wantState(t, b, breaker.Closed, 1, 0)
	p = enter(t, b, nil)
	enter(t, b, breaker.ErrFull)
	b.Leave(p, true, false)
	b.Leave(q, false, false)
	wantState(t, b, breaker.Closed, 0, 0)
	if got := b.State().Full; got != 2 {
		t.Errorf("%d calls were refused, want 2", got)
	}

	b = breaker.New(breaker.Config{MaxPending: 5}, nil)
	for range 10_000 {
		enter(t, b, nil)
	}
	wantState(t, b, breaker.Closed, 10_000, 0)

	var nobody *breaker.Breaker
	p = enter(t, nobody, nil)
	nobody.Leave(p, true, true)
	wantState(t, nobody, breaker.Closed, 0, 0)
}

func TestWaitingIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{MaxCalls: 2, MaxPending: 6, PendingTimeout: time.Second}, nil)
		passes := []breaker.Pass{enter(t, b, nil), enter(t, b, nil)}
		var order []int
		var mu sync.Mutex
		errs := make([]error, 6)
		var waiting sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 6 {
			waiting.Go(func() {
				use := t.Context()
				if i == 1 || i == 4 {
					use = ctx
				}
				p, err := b.Enter(use)
				if errs[i] = err; err != nil {
					return
				}
				mu.Lock()
				order = append(order, i)
				passes = append(passes, p)
				mu.Unlock()
			})
			synctest.Wait()
		}
		enter(t, b, breaker.ErrFull)
		wantState(t, b, breaker.Closed, 2, 6)
		cancel()
		synctest.Wait()
		wantState(t, b, breaker.Closed, 2, 4)
		b.Leave(passes[0], true, false)
		synctest.Wait()
		wantState(t, b, breaker.Closed, 2, 3)
		time.Sleep(900 * time.Millisecond)
		b.Leave(passes[1], true, false)
		synctest.Wait()
		time.Sleep(99 * time.Millisecond)
		wantState(t, b, breaker.Closed, 2, 2)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		wantState(t, b, breaker.Closed, 2, 0)
		waiting.Wait()
		if !slices.Equal(order, []int{0, 2}) {
			t.Errorf("let in were %v, want 0 and 2", order)
		}
		for i, want := range []error{nil, context.Canceled, nil, breaker.ErrPendingTimeout, context.Canceled, breaker.ErrPendingTimeout} {
			if !errors.Is(errs[i], want) {
				t.Errorf("%d got %v, want %v", i, errs[i], want)
			}
		}
		if s := b.State(); s.Late != 2 || s.Full != 1 {
			t.Errorf("%d were too late and %d found it full, want 2 and 1", s.Late, s.Full)
		}
		// Who waited gets its whole time again.
		var again error
		waiting.Go(func() { _, again = b.Enter(t.Context()) })
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		wantState(t, b, breaker.Closed, 2, 1)
		waiting.Wait()
		if !errors.Is(again, breaker.ErrPendingTimeout) {
			t.Errorf("the next one got %v", again)
		}
	})
}

func TestOpenRefusesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(breaker.Config{MaxCalls: 3, MaxPending: 5, FailureRate: 0.5, MinCalls: 2}, nil)
		one, two, three := enter(t, b, nil), enter(t, b, nil), enter(t, b, nil)
		b.Leave(one, true, true)
		one = enter(t, b, nil)
		errs := make(chan error, 5)
		for range 5 {
			go func() {
				_, err := b.Enter(t.Context())
				errs <- err
			}()
		}
		synctest.Wait()
		b.Leave(two, true, true)
		for range 5 {
			if err := <-errs; !errors.Is(err, breaker.ErrOpen) {
				t.Errorf("who waits when the breaker opens gets %v", err)
			}
		}
		wantState(t, b, breaker.Open, 2, 0)
		b.Leave(one, true, true)
		b.Leave(three, true, true)
		wantState(t, b, breaker.Open, 0, 0)
		if s := b.State(); s.Refused != 5 || s.Opened != 1 || time.Until(s.Until) != 5*time.Second {
			t.Errorf("%d were refused, %d times it opened, until %v", s.Refused, s.Opened, s.Until)
		}
	})
}

// clock is a time that stands until it is moved.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestRate(t *testing.T) {
	c := &clock{begin}
	b := breaker.New(breaker.Config{FailureRate: 0.5}, c.now)
	calls := func(n int, counted, failed bool) {
		t.Helper()
		for range n {
			b.Leave(enter(t, b, nil), counted, failed)
		}
	}
	calls(19, true, true)
	calls(1000, false, true)
	wantState(t, b, breaker.Closed, 0, 0)
	c.advance(11 * time.Second)
	calls(1, true, true) // what failed before is forgotten
	calls(30, true, false)
	calls(28, true, true)
	wantState(t, b, breaker.Closed, 0, 0)
	calls(1, true, true)
	wantState(t, b, breaker.Open, 0, 0)
	if got := b.State().Until; !got.Equal(c.now().Add(5 * time.Second)) {
		t.Errorf("open until %v", got)
	}
	c.advance(5*time.Second - 1)
	enter(t, b, breaker.ErrOpen)
}

// Successes are not timed one by one; an hour of them does not hide that the service is gone.
func TestRateAfterGoodTimes(t *testing.T) {
	for _, every := range []time.Duration{time.Millisecond, 100 * time.Millisecond} {
		c := &clock{begin}
		b := breaker.New(breaker.Config{FailureRate: 0.5}, c.now)
		for range time.Hour / every / 10 {
			c.advance(every)
			b.Leave(enter(t, b, nil), true, false)
		}
		took := time.Duration(0)
		for b.State().Phase == breaker.Closed && took < time.Minute {
			c.advance(every)
			took += every
			b.Leave(enter(t, b, nil), true, true)
		}
		// Half of ten seconds, and what is not told apart.
		if took < 4*time.Second || took > 7*time.Second {
			t.Errorf("a call each %v: open %v after all fail", every, took)
		}
	}
}

func opened(t *testing.T, cfg breaker.Config) (*breaker.Breaker, *clock) {
	t.Helper()
	c := &clock{begin}
	cfg.FailureRate, cfg.MinCalls = 0.5, 1
	b := breaker.New(cfg, c.now)
	b.Leave(enter(t, b, nil), true, true)
	enter(t, b, breaker.ErrOpen)
	return b, c
}

func TestTrials(t *testing.T) {
	b, c := opened(t, breaker.Config{})
	c.advance(5 * time.Second)
	trials := []breaker.Pass{enter(t, b, nil), enter(t, b, nil), enter(t, b, nil)}
	enter(t, b, breaker.ErrOpen)
	wantState(t, b, breaker.HalfOpen, 3, 0)
	b.Leave(trials[0], true, false)
	enter(t, b, breaker.ErrOpen)
	b.Leave(trials[1], false, true) // says nothing: another may try
	fourth := enter(t, b, nil)
	enter(t, b, breaker.ErrOpen)
	b.Leave(trials[2], true, false)
	wantState(t, b, breaker.HalfOpen, 1, 0)
	b.Leave(fourth, true, false)
	wantState(t, b, breaker.Closed, 0, 0)
	// The window is empty.
	b.Leave(enter(t, b, nil), true, false)
	b.Leave(enter(t, b, nil), true, false)
	b.Leave(enter(t, b, nil), true, true)
	wantState(t, b, breaker.Closed, 0, 0)
	b.Leave(enter(t, b, nil), true, true)
	wantState(t, b, breaker.Open, 0, 0)

	c.advance(5 * time.Second)
	trials = []breaker.Pass{enter(t, b, nil), enter(t, b, nil)}
	b.Leave(trials[0], true, true)
	wantState(t, b, breaker.Open, 1, 0)
	enter(t, b, breaker.ErrOpen)
	c.advance(5*time.Second - 1)
	enter(t, b, breaker.ErrOpen)
	c.advance(1)
	enter(t, b, nil)
	b.Leave(trials[1], true, true) // of the former trials
	wantState(t, b, breaker.HalfOpen, 1, 0)
	if got := b.State().Opened; got != 3 {
		t.Errorf("it opened %d times, want 3", got)
	}
}

func TestTrialsThatHang(t *testing.T) {
	b, c := opened(t, breaker.Config{Trials: 2, Open: time.Second})
	c.advance(time.Second)
	one, two := enter(t, b, nil), enter(t, b, nil)
	c.advance(time.Second - 1)
	enter(t, b, breaker.ErrOpen)
	c.advance(1)
	three, four := enter(t, b, nil), enter(t, b, nil)
	enter(t, b, breaker.ErrOpen)
	b.Leave(three, false, false)
	b.Leave(one, false, false)
	b.Leave(two, false, false)
	three, one = enter(t, b, nil), enter(t, b, nil)
	enter(t, b, breaker.ErrOpen)
	b.Leave(three, true, false)
	b.Leave(four, true, false)
	wantState(t, b, breaker.Closed, 1, 0)
	b.Leave(one, true, true) // a trial that nobody waits for
	wantState(t, b, breaker.Closed, 0, 0)
}

func TestTrialsTakePlaces(t *testing.T) {
	c := &clock{begin}
	b := breaker.New(breaker.Config{MaxCalls: 2, MaxPending: 5, FailureRate: 1, MinCalls: 1}, c.now)
	long, bad := enter(t, b, nil), enter(t, b, nil)
	b.Leave(bad, true, true)
	c.advance(5 * time.Second)
	trial := enter(t, b, nil)
	enter(t, b, breaker.ErrFull)
	b.Leave(long, true, true) // began before: no verdict
	wantState(t, b, breaker.HalfOpen, 1, 0)
	b.Leave(enter(t, b, nil), true, false)
	b.Leave(enter(t, b, nil), true, false)
	b.Leave(trial, true, false)
	wantState(t, b, breaker.Closed, 0, 0)
}

// TestConcurrent counts who is inside while callers come, wait, give up and leave, and the breaker opens and closes.
func TestConcurrent(t *testing.T) {
	for _, cfg := range []breaker.Config{
		{MaxCalls: 3, MaxPending: 4, PendingTimeout: 200 * time.Microsecond},
		{MaxCalls: 1, MaxPending: 100},
		{MaxCalls: 4, MaxPending: 10, FailureRate: 0.35, MinCalls: 10, Window: 5 * time.Millisecond, Open: 300 * time.Microsecond, Trials: 2},
		{FailureRate: 0.3, MinCalls: 5, Open: 100 * time.Microsecond},
	} {
		b := breaker.New(cfg, nil)
		var inside, highest, let, full, open, late, gone atomic.Int64
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), 1))
				for range 1000 {
					ctx, cancel := t.Context(), context.CancelFunc(func() {})
					if rng.IntN(4) == 0 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(int(50*time.Microsecond))))
					}
					p, err := b.Enter(ctx)
					switch {
					case err == nil:
						let.Add(1)
						now := inside.Add(1)
						for h := highest.Load(); now > h && !highest.CompareAndSwap(h, now); h = highest.Load() {
							continue
						}
						if rng.IntN(8) == 0 {
							time.Sleep(time.Duration(rng.IntN(int(50 * time.Microsecond))))
						}
						inside.Add(-1)
						b.Leave(p, rng.IntN(5) > 0, rng.IntN(3) == 0)
					case errors.Is(err, breaker.ErrFull):
						full.Add(1)
					case errors.Is(err, breaker.ErrOpen):
						open.Add(1)
					case errors.Is(err, breaker.ErrPendingTimeout):
						late.Add(1)
					case errors.Is(err, context.DeadlineExceeded):
						gone.Add(1)
					default:
						t.Errorf("Enter: %v", err)
					}
					cancel()
				}
			})
		}
		all.Wait()
		s := b.State()
		if cfg.MaxCalls > 0 && highest.Load() > cfg.MaxCalls {
			t.Errorf("%+v: %d were inside", cfg, highest.Load())
		}
		if s.Inside != 0 || s.Pending != 0 {
			t.Errorf("%+v: %d are inside and %d wait when all have left", cfg, s.Inside, s.Pending)
		}
		if int64(s.Full) != full.Load() || int64(s.Refused) != open.Load() || int64(s.Late) != late.Load() {
			t.Errorf("%+v: refused were %d, %d, %d; the breaker counted %d, %d, %d", cfg, full.Load(), open.Load(), late.Load(), s.Full, s.Refused, s.Late)
		}
		if (cfg.FailureRate > 0) != (s.Opened > 0) {
			t.Errorf("%+v: opened %d times", cfg, s.Opened)
		}
		if let.Load() == 0 {
			t.Errorf("%+v: nobody was let in", cfg)
		}
		t.Logf("%+v: %d let in, %d full, %d open, %d late, %d gave up; opened %d times", cfg, let.Load(), full.Load(), open.Load(), late.Load(), gone.Load(), s.Opened)
	}
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	b := breaker.New(breaker.Config{MaxCalls: 5, MaxPending: 5, FailureRate: 1}, nil)
	full := breaker.New(breaker.Config{MaxCalls: 1}, nil)
	enter(t, full, nil)
	open, _ := opened(t, breaker.Config{})
	waiting := breaker.New(breaker.Config{MaxCalls: 1, MaxPending: 1, PendingTimeout: time.Microsecond}, nil)
	enter(t, waiting, nil)
	ctx := t.Context()
	for name, f := range map[string]func(){
		"enter":  func() { p, _ := b.Enter(ctx); b.Leave(p, true, false) },
		"failed": func() { p, _ := b.Enter(ctx); b.Leave(p, true, true); p, _ = b.Enter(ctx); b.Leave(p, true, false) },
		"full":   func() { _, _ = full.Enter(ctx) },
		"open":   func() { _, _ = open.Enter(ctx) },
		"wait":   func() { _, _ = waiting.Enter(ctx) },
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: %v allocations, want none", name, got)
		}
	}
}

func BenchmarkBreaker(b *testing.B) {
	for name, cfg := range map[string]breaker.Config{
		"places":          {MaxCalls: 1000, MaxPending: 100},
		"places and rate": {MaxCalls: 1000, MaxPending: 100, FailureRate: 0.5},
	} {
		one := func(br *breaker.Breaker, failed bool) {
			p, _ := br.Enter(context.Background())
			br.Leave(p, true, failed)
		}
		b.Run(name+"/enter and leave", func(b *testing.B) {
			br := breaker.New(cfg, nil)
			for b.Loop() {
				one(br, false)
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			br := breaker.New(cfg, nil)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					one(br, false)
				}
			})
		})
	}
	b.Run("open", func(b *testing.B) {
		br := breaker.New(breaker.Config{FailureRate: 0.5, MinCalls: 1, Open: time.Hour}, nil)
		p, _ := br.Enter(context.Background())
		br.Leave(p, true, true)
		for b.Loop() {
			_, _ = br.Enter(context.Background())
		}
	})
	b.Run("wait", func(b *testing.B) {
		br := breaker.New(breaker.Config{MaxCalls: 1, MaxPending: 1000, PendingTimeout: time.Second}, nil)
		b.SetParallelism(50)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if p, err := br.Enter(context.Background()); err == nil {
					br.Leave(p, true, false)
				}
			}
		})
	})
}
