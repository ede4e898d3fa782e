package breaker_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-gateway/causeway/proxy/breaker"
)

// model is the package's rules in the plainest form.
type model struct {
	cfg    breaker.Config // without zeros
	now    time.Duration
	phase  breaker.Phase
	era    int
	until  time.Duration
	trials int
	proven int

	inside  []*guest
	waiting []*guest

	slots  map[int64]*[2]int // successes, failures
	epoch  time.Duration
	slot   int64
	unseen int // successes that no slot has
	opened uint64
}

// guest is a call.
type guest struct {
	era      int
	deadline time.Duration // when its wait ends; 0: never
	err      error         // refused

	// What the breaker made of it.
	cancel context.CancelFunc
	done   atomic.Bool // Enter returned
	pass   breaker.Pass
	got    error
}

func (m *model) enter(g *guest) {
	if m.phase != breaker.Closed && m.now >= m.until {
		if m.phase == breaker.Open {
			m.phase = breaker.HalfOpen
			m.era++
			m.proven = 0
		}
		m.trials = m.cfg.Trials
		m.until = m.now + m.cfg.Open
	}
	full := m.cfg.MaxCalls > 0 && int64(len(m.inside)) >= m.cfg.MaxCalls
	switch {
	case m.phase == breaker.Open || m.phase == breaker.HalfOpen && m.trials == 0:
		g.err = breaker.ErrOpen
	case m.phase != breaker.Closed && full:
		g.err = breaker.ErrFull
	case m.phase != breaker.Closed:
		m.trials--
		m.admit(g)
	case !full:
		m.admit(g)
	case int64(len(m.waiting)) >= m.cfg.MaxPending:
		g.err = breaker.ErrFull
	default:
		if m.cfg.PendingTimeout > 0 {
			g.deadline = m.now + m.cfg.PendingTimeout
		}
		m.waiting = append(m.waiting, g)
	}
}

func (m *model) admit(g *guest) {
	g.era = m.era
	m.inside = append(m.inside, g)
}

func (m *model) leave(g *guest, counted, failed bool) {
	if m.cfg.FailureRate > 0 && g.era == m.era {
		switch {
		case m.phase == breaker.HalfOpen && !counted:
			m.trials = min(m.trials+1, m.cfg.Trials)
		case m.phase == breaker.HalfOpen && failed:
			m.open()
		case m.phase == breaker.HalfOpen:
			if m.proven++; m.proven >= m.cfg.Trials {
				m.phase = breaker.Closed
				m.era++
				m.start()
			}
		case counted && failed:
			m.see()
			m.slots[m.slot][1]++
			n, bad := 0, 0
			for at, s := range m.slots {
				if at > m.slot-10 {
					n, bad = n+s[0]+s[1], bad+s[1]
				}
			}
			if n >= m.cfg.MinCalls && float64(bad) >= m.cfg.FailureRate*float64(n) {
				m.open()
			}
		case counted:
			if m.unseen++; m.unseen == 64 {
				m.see()
			}
		}
	}
	m.inside = slices.DeleteFunc(m.inside, func(o *guest) bool { return o == g })
	if len(m.waiting) > 0 {
		m.admit(m.waiting[0])
		m.waiting = m.waiting[1:]
	}
}

func (m *model) start() {
	m.slots, m.epoch, m.slot, m.unseen = map[int64]*[2]int{0: {}}, m.now, 0, 0
}

// see spreads the successes over the slots since the last time.
func (m *model) see() {
	to := int64((m.now - m.epoch) / (m.cfg.Window / 10))
	each := m.unseen / int(to-m.slot+1)
	for at := m.slot; at <= to; at++ {
		if m.slots[at] == nil {
			m.slots[at] = new([2]int)
		}
		m.slots[at][0] += each
		m.unseen -= each
	}
	m.slots[to][0] += m.unseen
	m.slot, m.unseen = to, 0
}

func (m *model) open() {
	m.phase = breaker.Open
	m.era++
	m.until = m.now + m.cfg.Open
	m.opened++
	for _, g := range m.waiting {
		g.err = breaker.ErrOpen
	}
	m.waiting = nil
}

func (m *model) giveUp(g *guest, why error) {
	if i := slices.Index(m.waiting, g); i >= 0 {
		m.waiting = slices.Delete(m.waiting, i, i+1)
		g.err = why
	}
}

// follow runs a script, whose bytes are decisions, against the breaker and the model.
func follow(t *testing.T, script []byte, seen map[error]int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		next := func(n int) int {
			if len(script) == 0 {
				return 0
			}
			v := int(script[0]) % n
			script = script[1:]
			return v
		}
		ms := time.Millisecond
		cfg := breaker.Config{
			MaxCalls: []int64{2, 1, 5, 0}[next(4)], MaxPending: []int64{3, 0, 1, 10}[next(4)], PendingTimeout: []time.Duration{500 * ms, 0, 2 * time.Second}[next(3)],
			FailureRate: []float64{0.5, 0.3, 0, 1}[next(4)], MinCalls: 1 + next(5), Window: []time.Duration{time.Second, 10 * time.Second}[next(2)],
			Open: []time.Duration{time.Second, 300 * ms}[next(2)], Trials: 1 + next(3),
		}
		start := time.Now()
		m := &model{cfg: cfg}
		m.start()
		b := breaker.New(cfg, nil)
		all, done := context.WithCancel(t.Context())
		defer done()
		var guests []*guest
		for step := 0; len(script) > 0; step++ {
			switch op := next(10); {
			case op < 4:
				ctx, cancel := context.WithCancel(all)
				g := &guest{cancel: cancel}
				guests = append(guests, g)
				m.enter(g)
				go func() {
					g.pass, g.got = b.Enter(ctx)
					g.done.Store(true)
				}()
			case op < 7 && len(m.inside) > 0:
				g := m.inside[next(len(m.inside))]
				counted, failed := next(4) > 0, next(2) > 0
				m.leave(g, counted, failed)
				b.Leave(g.pass, counted, failed)
				guests = slices.DeleteFunc(guests, func(o *guest) bool { return o == g })
			case op == 7 && len(m.waiting) > 0:
				g := m.waiting[next(len(m.waiting))]
				m.giveUp(g, context.Canceled)
				g.cancel()
			case op == 8:
				for range next(100) {
					if m.phase != breaker.Closed || len(m.waiting) > 0 || cfg.MaxCalls > 0 && int64(len(m.inside)) >= cfg.MaxCalls {
						break
					}
					g := new(guest)
					m.enter(g)
					m.leave(g, true, false)
					b.Leave(enter(t, b, nil), true, false)
				}
			case op == 9:
				d := []time.Duration{ms, 100 * ms, 350 * ms, time.Second, 7 * time.Second}[next(5)]
				time.Sleep(d)
				m.now += d
				for _, g := range slices.Clone(m.waiting) {
					if g.deadline > 0 && g.deadline <= m.now {
						m.giveUp(g, breaker.ErrPendingTimeout)
					}
				}
			}
			synctest.Wait()

			s := b.State()
			if s.Phase != m.phase || int(s.Inside) != len(m.inside) || int(s.Pending) != len(m.waiting) || s.Opened != m.opened {
				t.Fatalf("step %d: %v, %d inside, %d waiting, opened %d times; want %v, %d, %d, %d", step, s.Phase, s.Inside, s.Pending, s.Opened, m.phase, len(m.inside), len(m.waiting), m.opened)
			}
			if m.phase == breaker.Open && s.Until.Sub(start) != m.until {
				t.Fatalf("step %d: open until %v, want %v", step, s.Until.Sub(start), m.until)
			}
			guests = slices.DeleteFunc(guests, func(g *guest) bool {
				waits := slices.Contains(m.waiting, g)
				done := g.done.Load()
				if done == waits || done && !errors.Is(g.got, g.err) {
					t.Fatalf("step %d: Enter returned: %t, %v; want %t, %v", step, done, g.got, !waits, g.err)
				}
				if done {
					seen[g.err]++
				}
				return g.err != nil
			})
		}
	})
}

func TestModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[error]int{}
	for range 150 {
		b := make([]byte, 800)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		follow(t, b, seen)
	}
	t.Log(seen)
	for _, err := range []error{nil, breaker.ErrFull, breaker.ErrOpen, breaker.ErrPendingTimeout, context.Canceled} {
		if seen[err] < 20 {
			t.Errorf("%v was seen %d times, which is too few to tell anything", err, seen[err])
		}
	}
}

func FuzzModel(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		b := make([]byte, 300)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		follow(t, b[:min(len(b), 2000)], map[error]int{})
	})
}
