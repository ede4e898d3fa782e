package adaptive

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestLogarithm(t *testing.T) {
	last := int64(-1)
	for ns := int64(1); ns < 1<<40; ns += 1 + ns/7 {
		l := logarithm(ns)
		if l < last || math.Abs(float64(l)/logScale-math.Log2(float64(ns))) > 0.09 {
			t.Fatalf("%d: found %d", ns, l)
		}
		last = l
		if back := exponential(float64(l)); back/float64(ns) > 1.001 || back/float64(ns) < 0.93 {
			t.Fatalf("%d: found %v back", ns, back)
		}
	}
	if logarithm(0) != 0 || logarithm(-5) != 0 {
		t.Error("want times that are none to count as the shortest")
	}
}

// simulated is a service with so many workers, and calls that come at random in virtual time.
type simulated struct {
	l       *limiter
	workers int
	service func() int64 // ns
	rate    float64      // calls in a second
	patient int64        // how long a caller waits

	queue   []arrival
	busy    int
	events  events
	good    int
	refused int
	lats    []float64
}

type arrival struct{ at int64 }

type event struct {
	at      int64
	arrival int64 // of the call that ends; -1: a call comes
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any          { o := *e; x := o[len(o)-1]; *e = o[:len(o)-1]; return x }

func (s *simulated) begin(now int64) {
	for s.busy < s.workers && len(s.queue) > 0 {
		a := s.queue[0]
		s.queue = s.queue[1:]
		s.busy++
		heap.Push(&s.events, event{now + s.service(), a.at})
	}
}

// run lets calls come until a time; the counts begin at from.
func (s *simulated) run(r *rand.Rand, start, from, until int64) {
	s.good, s.refused, s.lats = 0, 0, nil
	heap.Push(&s.events, event{start, -1})
	for len(s.events) > 0 {
		e := heap.Pop(&s.events).(event)
		if e.at > until {
			continue
		}
		if e.arrival >= 0 {
			s.busy--
			if s.l != nil {
				s.l.leave(e.arrival, e.at, true)
			}
			if e.arrival >= from && e.at-e.arrival <= s.patient {
				s.good++
				s.lats = append(s.lats, float64(e.at-e.arrival))
			}
			s.begin(e.at)
			continue
		}
		heap.Push(&s.events, event{e.at + int64(r.ExpFloat64()*1e9/s.rate), -1})
		if s.l != nil && !s.l.enter(1) {
			if e.at >= from {
				s.refused++
			}
			continue
		}
		s.queue = append(s.queue, arrival{e.at})
		s.begin(e.at)
	}
	s.queue, s.busy = nil, 0
}

func (s *simulated) p99() time.Duration {
	slices.Sort(s.lats)
	return time.Duration(s.lats[len(s.lats)*99/100])
}

// In virtual time, so that the figures are the same everywhere: at twice what a service can do, it does at least 85 % of
// that, and the calls that are let in take at most three times as long as at 80 %.
func TestOverload(t *testing.T) {
	const second = int64(time.Second)
	for _, tc := range []struct {
		name    string
		workers int
		service func(r *rand.Rand) func() int64
	}{
		{"8 workers, 5 ms", 8, func(*rand.Rand) func() int64 { return func() int64 { return 5e6 } }},
		{"2 workers, 0.2 ms", 2, func(*rand.Rand) func() int64 { return func() int64 { return 2e5 } }},
		{"100 workers, 50 ms", 100, func(r *rand.Rand) func() int64 { return func() int64 { return int64(2e7 + r.ExpFloat64()*3e7) } }},
		{"16 workers, some slow", 16, func(r *rand.Rand) func() int64 {
			return func() int64 {
				if r.IntN(100) == 0 {
					return 1e8
				}
				return 4e6
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			service := tc.service(r)
			sum := 0.0
			for range 10_000 {
				sum += float64(service())
			}
			capacity := float64(tc.workers) * 1e9 / (sum / 10_000)
			calm := &simulated{workers: tc.workers, service: service, rate: 0.8 * capacity, patient: math.MaxInt64}
			calm.run(r, 0, 2*second, 8*second)
			l := newLimiter(defaultMin, defaultMax, defaultInitial, defaultTolerance)
			over := &simulated{l: l, workers: tc.workers, service: service, rate: 2 * capacity, patient: second}
			over.run(r, second, 4*second, 14*second)
			goodput := float64(over.good) / 10 / capacity
			t.Logf("goodput %.1f %% of the capacity of %.0f a second, p99 %s against %s at 80 %%, limit %d", 100*goodput, capacity, over.p99(), calm.p99(), l.limit.Load())
			if goodput < 0.85 || over.p99() > 3*calm.p99() {
				t.Errorf("goodput %.3f, p99 %s against %s", goodput, over.p99(), calm.p99())
			}
			// Without the limit, all calls wait until nobody does for them.
			lost := &simulated{workers: tc.workers, service: service, rate: 2 * capacity, patient: second}
			lost.run(r, 0, 4*second, 14*second)
			if without := float64(lost.good) / 10 / capacity; without > 0.5 {
				t.Errorf("want the simulation to collapse without a limit, found goodput %.3f", without)
			}
		})
	}
}

// Under an overload that lasts, the limit does not drift; and the next load is taken whole.
func TestLimitDoesNotDrift(t *testing.T) {
	const second = int64(time.Second)
	r := rand.New(rand.NewPCG(3, 4))
	service := func() int64 { return int64(4e6 + r.ExpFloat64()*1e6) }
	l := newLimiter(defaultMin, defaultMax, defaultInitial, defaultTolerance)
	s := &simulated{l: l, workers: 8, service: service, rate: 3200, patient: second}
	for minute := range int64(3) {
		s.run(r, (1+60*minute)*second, (20+60*minute)*second, (60+60*minute)*second)
		l.inside.Store(0)
		if p := s.p99(); p > 40*time.Millisecond {
			t.Errorf("minute %d: p99 %s, limit %d", minute, p, l.limit.Load())
		}
	}
	// The service becomes four times slower for good: that is what it can do from now on.
	service = func() int64 { return int64(16e6 + r.ExpFloat64()*4e6) }
	s.service, s.rate = service, 300
	s.run(r, 181*second, 220*second, 240*second)
	l.inside.Store(0)
	if share := float64(s.refused) / float64(s.refused+s.good); share > 0.02 {
		t.Errorf("want a slower service's calls to pass at 75 %% load, found %.3f refused", share)
	}
}

// A load below the capacity is not refused, and a low one does not raise the limit.
func TestLowLoad(t *testing.T) {
	const second = int64(time.Second)
	r := rand.New(rand.NewPCG(5, 6))
	l := newLimiter(defaultMin, defaultMax, defaultInitial, defaultTolerance)
	s := &simulated{l: l, workers: 8, service: func() int64 { return 5e6 }, rate: 1000, patient: second}
	s.run(r, second, second, 40*second)
	if s.refused > 0 || l.wanted > defaultInitial+20 {
		t.Errorf("found %d refused, limit %v", s.refused, l.wanted)
	}
}
