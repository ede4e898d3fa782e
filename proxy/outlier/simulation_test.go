package outlier_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/proxy/outlier"
)

// behaviour is what becomes of a call that reaches an instance so long after the beginning.
type behaviour func(at time.Duration, rng *rand.Rand) (outlier.Outcome, time.Duration)

func well(_ time.Duration, rng *rand.Rand) (outlier.Outcome, time.Duration) {
	return outlier.Success, 5*ms + time.Duration(rng.ExpFloat64()*float64(8*ms))
}

func refuses(time.Duration, *rand.Rand) (outlier.Outcome, time.Duration) {
	return outlier.Unreached, ms
}

func later(by time.Duration, b behaviour) behaviour {
	return func(at time.Duration, rng *rand.Rand) (outlier.Outcome, time.Duration) {
		o, took := b(at, rng)
		return o, took + by
	}
}

func failing(share float64) behaviour {
	return func(at time.Duration, rng *rand.Rand) (outlier.Outcome, time.Duration) {
		o, took := well(at, rng)
		if rng.Float64() < share {
			o = outlier.Failed
		}
		return o, took
	}
}

// between is b from one time to another, and well before and after.
func between(from, to time.Duration, b behaviour) behaviour {
	return func(at time.Duration, rng *rand.Rand) (outlier.Outcome, time.Duration) {
		if at >= from && at < to {
			return b(at, rng)
		}
		return well(at, rng)
	}
}

// simulation runs calls of an open loop against instances in virtual time, each to the next instance that is in.
type simulation struct {
	cfg       outlier.Config
	instances []behaviour
	every     time.Duration // between calls
	lasts     time.Duration
	ramp      time.Duration // how long it takes until an instance that came back gets its full share of the calls
	checked   bool          // an active check passes each second where connections are not refused

	now     time.Time
	ends    ends
	calls   []done
	most    int // out at once
	spells  [][]spell
	records []*outlier.Record
}

type done struct {
	at       time.Duration // when it began
	took     time.Duration
	outcome  outlier.Outcome
	instance int
}

type spell struct{ from, to time.Duration }

func (s spell) String() string { return fmt.Sprintf("%.2f-%.2f", s.from.Seconds(), s.to.Seconds()) }

type ends []done

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at+e[i].took < e[j].at+e[j].took }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(done)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (s *simulation) run(t *testing.T) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 11))
	s.now = start
	d := outlier.New(s.cfg, func() time.Time { return s.now })
	index := map[*outlier.Record]int{}
	for i := range s.instances {
		s.records = append(s.records, new(outlier.Record))
		index[s.records[i]] = i
	}
	s.spells = make([][]spell, len(s.instances))
	out := 0
	judge := func() {
		at := s.now.Sub(start)
		for _, e := range d.Judge(s.now, s.records) {
			i := index[e.Record]
			if e.Ejected {
				out++
				s.spells[i] = append(s.spells[i], spell{at, s.lasts})
				continue
			}
			out--
			s.spells[i][len(s.spells[i])-1].to = at
		}
		if s.most = max(s.most, out); out >= len(s.instances) {
			t.Fatalf("after %v nobody is in", at)
		}
	}
	judge()
	look := time.Duration(-1)
	second := time.Second
	turn := 0
	takes := func(i int, at time.Duration) bool {
		if _, out := s.records[i].Ejected(); out {
			return false
		}
		if n := len(s.spells[i]); n > 0 && s.ramp > 0 {
			return rng.Float64() < max(0.1, float64(at-s.spells[i][n-1].to)/float64(s.ramp))
		}
		return true
	}
	for arrival := time.Duration(0); arrival < s.lasts; {
		at := min(arrival, second)
		if len(s.ends) > 0 {
			at = min(at, s.ends[0].at+s.ends[0].took)
		}
		if look >= 0 {
			at = min(at, look)
		}
		if next := d.Next(); !next.IsZero() {
			at = min(at, next.Sub(start))
		}
		s.now = start.Add(at)
		switch {
		case len(s.ends) > 0 && at == s.ends[0].at+s.ends[0].took:
			c := heap.Pop(&s.ends).(done)
			s.calls = append(s.calls, c)
			if s.records[c.instance].Observe(c.outcome, c.took) && look < 0 {
				look = at + 20*ms
			}
		case at == second:
			second += time.Second
			for i, b := range s.instances {
				if o, _ := b(at, rng); s.checked && o != outlier.Unreached {
					s.records[i].Clear()
				}
			}
			judge()
		case at == arrival:
			arrival += s.every
			for turn = (turn + 1) % len(s.instances); !takes(turn, at); {
				turn = (turn + 1) % len(s.instances)
			}
			o, took := s.instances[turn](at, rng)
			heap.Push(&s.ends, done{at, took, o, turn})
		default:
			look = -1
			judge()
		}
	}
}

// share is how many of the calls that began between two times are as f says.
func (s *simulation) share(from, to time.Duration, f func(done) bool) float64 {
	n, as := 0, 0
	for _, c := range s.calls {
		if c.at >= from && c.at < to {
			n++
			if f(c) {
				as++
			}
		}
	}
	return float64(as) / float64(n)
}

func failed(c done) bool { return c.outcome != outlier.Success }

func (s *simulation) p99(from, to time.Duration) time.Duration {
	var took []time.Duration
	for _, c := range s.calls {
		if c.at >= from && c.at < to {
			took = append(took, c.took)
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100].Round(ms)
}

func instances(n int, bad ...behaviour) []behaviour {
	for len(bad) < n {
		bad = append(bad, well)
	}
	return bad
}

const sec = time.Second

func TestSimulationOneSlow(t *testing.T) {
	for _, ramp := range []time.Duration{0, 10 * sec} {
		s := simulation{
			cfg: outlier.Config{LatencyFactor: 3}, instances: instances(4, between(5*sec, time.Hour, later(500*ms, well))),
			every: 2500 * time.Microsecond, lasts: 90 * sec, ramp: ramp,
		}
		s.run(t)
		over := 0
		var highest time.Duration
		for from := 5 * sec; from < 85*sec; from += 10 * sec {
			p99 := s.p99(from, from+10*sec)
			if p99 > 100*ms {
				over++
			}
			if from > 5*sec {
				highest = max(highest, p99)
			}
		}
		t.Logf("slow from 5s, slow start %v: out %v; p99 is over 100ms in %d of 8 times 10 s; after the first it is %v at most", ramp, s.spells[0], over, highest)
		if out := s.spells[0]; len(out) == 0 || out[0].from > 7*sec {
			t.Errorf("an instance that is slow from 5s on is out %v", out)
		}
		for i := range s.spells[1:] {
			if s.spells[i+1] != nil {
				t.Errorf("instance %d is well and out %v", i+1, s.spells[i+1])
			}
		}
		if ramp > 0 && highest > 100*ms {
			t.Errorf("p99 is %v after the first ten seconds", highest)
		}
	}
}

func TestSimulationOneFailsSometimes(t *testing.T) {
	for _, rate := range []float64{0.5, 0.2} {
		s := simulation{
			cfg: outlier.Config{FailureRate: rate}, instances: instances(10, failing(0.3)),
			every: 2 * ms, lasts: 120 * sec,
		}
		s.run(t)
		after := s.share(20*sec, 120*sec, failed)
		t.Logf("failure rate %v: out %v; %.2f %% of all calls fail instead of 3 %%", rate, s.spells[0], 100*after)
		// One that fails below the rate is found now and then, by failures in a row.
		if limit := map[float64]float64{0.5: 0.025, 0.2: 0.001}[rate]; after > limit {
			t.Errorf("failure rate %v: %.2f %% of the calls fail", rate, 100*after)
		}
		if s.most != 1 {
			t.Errorf("%d are out at once", s.most)
		}
	}
}

func TestSimulationFlapping(t *testing.T) {
	flap := func(at time.Duration, rng *rand.Rand) (outlier.Outcome, time.Duration) {
		if at/(3*sec)%2 == 1 {
			return refuses(at, rng)
		}
		return well(at, rng)
	}
	for _, checked := range []bool{false, true} {
		s := simulation{instances: instances(4, flap), every: 5 * ms, lasts: 120 * sec, checked: checked}
		s.run(t)
		bad := s.share(0, 120*sec, failed)
		t.Logf("checked %t: %d times out, %.3f %% of all attempts find no connection instead of 12.5 %%", checked, len(s.spells[0]), 100*bad)
		if bad > 0.005 {
			t.Errorf("checked %t: %.3f %% of the attempts find no connection", checked, 100*bad)
		}
	}
}

func TestSimulationAllFail(t *testing.T) {
	for name, b := range map[string]behaviour{"failing": failing(1), "refusing": refuses, "failing often": failing(0.6)} {
		s := simulation{
			cfg: outlier.Config{FailureRate: 0.5}, instances: instances(5, between(5*sec, 35*sec, b), between(5*sec, 35*sec, b), between(5*sec, 35*sec, b), between(5*sec, 35*sec, b), between(5*sec, 35*sec, b)),
			every: 5 * ms, lasts: 90 * sec,
		}
		s.run(t)
		back := time.Duration(0)
		for _, spells := range s.spells {
			if len(spells) > 0 {
				back = max(back, spells[len(spells)-1].to)
			}
		}
		t.Logf("%s from 5s to 35s: %d of 5 out at once, all are in again at %v, %.3f %% fail after that", name, s.most, back, 100*s.share(35*sec, 90*sec, failed))
		if s.most != 2 {
			t.Errorf("%s: %d of 5 are out at once, want 2", name, s.most)
		}
		if bad := s.share(35*sec, 90*sec, failed); bad > 0 {
			t.Errorf("%s: %.3f %% of the calls fail after all are well", name, 100*bad)
		}
	}
}

func TestSimulationRecovery(t *testing.T) {
	for _, checked := range []bool{false, true} {
		s := simulation{instances: instances(4, between(5*sec, 35*sec, refuses)), every: 5 * ms, lasts: 80 * sec, checked: checked}
		s.run(t)
		last := s.spells[0][len(s.spells[0])-1]
		t.Logf("checked %t: gone from 5s to 35s, out %v, %.3f %% of the attempts in that time find no connection", checked, s.spells[0], 100*s.share(5*sec, 35*sec, failed))
		limit := 70 * sec
		if checked {
			limit = 36 * sec
		}
		if last.to > limit {
			t.Errorf("checked %t: out until %v", checked, last.to)
		}
	}
}

func TestSimulationHung(t *testing.T) {
	// It accepts connections, so a check of those passes.
	hung := func(time.Duration, *rand.Rand) (outlier.Outcome, time.Duration) { return outlier.Failed, 2 * sec }
	for _, checked := range []bool{false, true} {
		s := simulation{instances: instances(4, between(5*sec, 65*sec, hung)), every: 5 * ms, lasts: 100 * sec, checked: checked}
		s.run(t)
		t.Logf("checked %t: hung from 5s to 65s, out %v, %.2f %% of all calls fail in that time instead of 25 %%", checked, s.spells[0], 100*s.share(5*sec, 65*sec, failed))
		if bad := s.share(20*sec, 65*sec, failed); bad > 0.06 {
			t.Errorf("checked %t: %.2f %% of the calls fail later on", checked, 100*bad)
		}
		if s.spells[0][0].from > 5*sec+2*sec+200*ms {
			t.Errorf("checked %t: out %v", checked, s.spells[0])
		}
	}
}

func TestSimulationMostAreGone(t *testing.T) {
	gone := between(5*sec, time.Hour, refuses)
	for _, test := range []struct{ share, least, most float64 }{{0, 0.4, 0.6}, {1, 0, 0.01}} {
		s := simulation{cfg: outlier.Config{MostUnreached: test.share}, instances: instances(3, gone, gone), every: 5 * ms, lasts: 60 * sec}
		s.run(t)
		bad := s.share(6*sec, 60*sec, failed)
		t.Logf("MostUnreached %v: 2 of 3 gone, %d out at once, %.2f %% of the attempts find no connection", test.share, s.most, 100*bad)
		if bad < test.least || bad > test.most {
			t.Errorf("MostUnreached %v: %.2f %% of the attempts find no connection", test.share, 100*bad)
		}
	}
}
