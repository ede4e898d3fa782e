package outlier_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/proxy/outlier"
)

// model is the package's rules in the plainest form: it keeps every call and counts anew each time.
type model struct {
	cfg   outlier.Config // without zeros
	now   time.Time
	began bool
	all   []*instance
}

type call struct {
	ok    bool
	timed bool
	took  time.Duration
	slot  int64
}

type instance struct {
	gone      bool // it left the service; it may come back
	judged    bool
	cfg       outlier.Config // by which it was judged
	timed     bool           // latencies are counted, from the first time that they are judged
	slot      time.Duration
	epoch     time.Time
	at        int64
	fresh     []call // since the last slot ended
	calls     []call // of the slots before
	held      map[int]float32
	run, lost int // in a row: failures, of them the last ones without a connection
	asked     bool

	out       bool
	ejection  outlier.Ejection
	ended     time.Time
	how       string
	deaf      bool
	spells    int
	known     int // the spell that the detector knows to be going on; 0: none
	knownE    outlier.Ejection
	probation bool
	well      bool
	times     [2]int
	calm      time.Time
}

type change struct {
	Who      int
	Ejected  bool
	Reason   string
	Ejection outlier.Ejection
}

func (x *instance) back(now time.Time, how string) { x.out, x.ended, x.how = false, now, how }

func (x *instance) forget() { x.fresh, x.calls, x.held = nil, nil, map[int]float32{} }

func (m *model) observe(who int, o outlier.Outcome, took time.Duration) bool {
	x := m.all[who]
	began := m.now.Add(-took)
	switch {
	case o == outlier.Neutral:
		return false
	case x.out:
		if o == outlier.Success && x.ejection.Reason == outlier.ReasonUnreached && began.After(x.ejection.Since) {
			x.back(m.now, outlier.BySuccess)
			x.well = true
			return true
		}
		return false
	case x.probation && began.Before(x.ended):
		return false
	}
	x.fresh = append(x.fresh, call{ok: o == outlier.Success, timed: x.timed, took: took})
	switch o {
	case outlier.Success:
		x.run, x.lost = 0, 0
		x.well = x.well || x.probation
		return false
	case outlier.Unreached:
		x.run, x.lost = x.run+1, x.lost+1
	default:
		x.run, x.lost = x.run+1, 0
	}
	look := !x.asked && (!x.judged || x.inRow() != "")
	x.asked = x.asked || look
	return look
}

func (x *instance) inRow() string {
	switch {
	case x.cfg.Unreached > 0 && x.lost >= x.cfg.Unreached:
		return outlier.ReasonUnreached
	case x.cfg.Consecutive > 0 && x.run >= x.cfg.Consecutive:
		return outlier.ReasonConsecutive
	}
	return ""
}

func (m *model) check(who int) bool {
	x := m.all[who]
	if !x.out || x.deaf || x.ejection.Reason == outlier.ReasonFailureRate || x.ejection.Reason == outlier.ReasonLatency {
		return false
	}
	x.back(m.now, outlier.ByCheck)
	return true
}

type accused struct {
	who    int
	reason string
	weight float64
}

var ranks = []string{outlier.ReasonUnreached, outlier.ReasonConsecutive, outlier.ReasonFailureRate, outlier.ReasonLatency}

func (m *model) judge() (changes []change) {
	see := func(who int, tell bool) {
		x := m.all[who]
		if x.known != 0 && (!x.out || x.known != x.spells) {
			how := outlier.ByTime
			if x.known == x.spells {
				how = x.how
			}
			changes = append(changes, change{who, false, how, x.knownE})
			x.known = 0
		}
		if x.out && x.known == 0 {
			x.known, x.knownE = x.spells, x.ejection
			if tell {
				changes = append(changes, change{who, true, x.ejection.Reason, x.ejection})
			}
		}
	}
	var cases []accused
	var speeds []accused
	halves, tenths := map[int]int{}, map[int]int{}
	out, n := 0, 0
	for who, x := range m.all {
		if x.gone {
			continue
		}
		n++
		x.asked = false
		x.timed = x.timed || m.cfg.LatencyFactor > 0
		if x.out && !m.now.Before(x.ejection.Until) {
			x.back(m.now, outlier.ByTime)
		}
		ticked := m.tick(x)
		x.judged, x.cfg = true, m.cfg
		if x.out {
			out++
			see(who, m.began)
			continue
		}
		m.settle(x)
		see(who, m.began)
		if reason := x.inRow(); reason != "" {
			weight := x.run
			if reason == outlier.ReasonUnreached {
				weight = x.lost
			}
			cases = append(cases, accused{who, reason, float64(weight)})
			continue
		}
		if !ticked {
			continue
		}
		bad, n := 0, 0
		for _, c := range x.calls {
			if c.slot > x.at-10 {
				n++
				if !c.ok {
					bad++
				}
			}
		}
		rated := m.cfg.FailureRate > 0 && n >= m.cfg.MinCalls && float64(bad) >= m.cfg.FailureRate*float64(n)
		if rated {
			cases = append(cases, accused{who, outlier.ReasonFailureRate, float64(bad) / float64(n)})
		}
		if m.cfg.LatencyFactor > 0 {
			least := m.cfg.MinCalls
			if x.probation && x.ejection.Reason == outlier.ReasonLatency {
				least = int(math.Ceil(float64(least) / 4))
			}
			if half, tenth, ok := x.quantiles(least); ok {
				halves[who], tenths[who] = half, tenth
				if !rated {
					speeds = append(speeds, accused{who: who}) // once accused is enough
				}
			}
		}
	}
	for _, s := range speeds {
		if len(halves) < 2 {
			break
		}
		took, others := edge(halves[s.who]), edge(median(halves, s.who))
		ratio := float64(took) / float64(others)
		if took >= m.cfg.MinLatency && ratio > m.cfg.LatencyFactor && halves[s.who] > median(tenths, s.who) {
			cases = append(cases, accused{s.who, outlier.ReasonLatency, ratio})
		}
	}
	slices.SortStableFunc(cases, func(a, b accused) int {
		return cmp.Or(slices.Index(ranks, a.reason)-slices.Index(ranks, b.reason), cmp.Compare(b.weight, a.weight))
	})
	for _, c := range cases {
		share := m.cfg.Most
		if c.reason == outlier.ReasonUnreached {
			share = m.cfg.MostUnreached
		}
		allowed := max(1, int(math.Floor(share*float64(n)+1e-9)))
		if out+1 > allowed || out+1 > n-1 {
			continue
		}
		m.eject(m.all[c.who], c.reason)
		out++
		see(c.who, true)
	}
	if out == n && n > 0 {
		first := -1
		for who, x := range m.all {
			if !x.gone && (first < 0 || x.ejection.Until.Before(m.all[first].ejection.Until)) {
				first = who
			}
		}
		m.all[first].back(m.now, outlier.ByCap)
		see(first, true)
	}
	for _, x := range m.all {
		if x.gone && x.known != 0 {
			if x.out && x.known == x.spells && !m.now.Before(x.ejection.Until) {
				x.back(m.now, outlier.ByTime)
			}
			if !x.out || x.known != x.spells {
				x.known = 0
			}
		}
	}
	m.began = true
	return changes
}

func (m *model) tick(x *instance) bool {
	slot := m.cfg.Interval / 10
	if x.slot != slot {
		x.slot, x.epoch, x.at = slot, m.now, 0
		x.forget()
		return false
	}
	at := int64(m.now.Sub(x.epoch) / slot)
	if at == x.at {
		return false
	}
	fade := float32(math.Pow(0.9, float64(at-x.at)))
	came := map[int]float32{}
	for _, c := range x.fresh {
		c.slot = at
		x.calls = append(x.calls, c)
		if c.ok && c.timed {
			came[bucket(c.took)]++
		}
	}
	var total, news float32
	for _, n := range came {
		news += n
	}
	for b := range edges {
		total += x.held[b]
		if x.held[b] > 0 {
			came[b] += 0
		}
	}
	if total > 0 {
		fade = min(fade, max(0, float32(2*m.cfg.MinCalls)-news)/total)
	}
	for b, n := range came {
		old := x.held[b] * fade
		if old < 1e-6 {
			old = 0
		}
		x.held[b] = old + n
	}
	x.at, x.fresh = at, nil
	return true
}

func (m *model) settle(x *instance) {
	if x.spells == 0 {
		return
	}
	if x.well {
		x.times[1] = 0
	}
	if x.calm.IsZero() {
		x.calm = x.ended.Add(m.cfg.Interval)
	}
	if m.now.Sub(x.ended) >= m.cfg.Interval {
		x.probation = false
	}
	for x.times != [2]int{} && m.now.Sub(x.calm) >= m.cfg.Interval {
		x.calm = x.calm.Add(m.cfg.Interval)
		x.times = [2]int{max(0, x.times[0]-1), max(0, x.times[1]-1)}
	}
}

func (m *model) eject(x *instance, reason string) {
	kind, base := 0, m.cfg.Base
	if reason == outlier.ReasonUnreached {
		kind, base = 1, min(time.Second, m.cfg.Base)
	}
	wrong := x.spells > 0 && m.now.Sub(x.ended) < m.cfg.Interval && (kind == 0 || !x.well)
	x.deaf = wrong && (x.deaf || x.how == outlier.ByCheck)
	x.times[kind]++
	length := min(m.cfg.Max, time.Duration(float64(base)*math.Pow(2, float64(x.times[kind]-1))))
	x.ejection = outlier.Ejection{Since: m.now, Until: m.now.Add(length), Reason: reason, Times: x.times[kind]}
	x.out, x.probation, x.well, x.calm = true, true, false, time.Time{}
	x.spells++
	x.run, x.lost, x.asked = 0, 0, false
	x.forget()
}

func (x *instance) quantiles(least int) (half, tenth int, ok bool) {
	var sorted []int
	for b := range x.held {
		sorted = append(sorted, b)
	}
	slices.Sort(sorted)
	var total float32
	for _, b := range sorted {
		total += x.held[b]
	}
	if total < float32(least) {
		return 0, 0, false
	}
	at := func(q float32) int {
		rest := total * q
		for _, b := range sorted {
			if rest -= x.held[b]; rest <= 0 && x.held[b] > 0 {
				return b
			}
		}
		return len(edges) - 1
	}
	return at(0.5), at(0.9), true
}

// median is the median of all but one; of two in the middle the higher.
func median(of map[int]int, but int) int {
	var others []int
	for who, v := range of {
		if who != but {
			others = append(others, v)
		}
	}
	slices.Sort(others)
	return others[len(others)/2]
}

// edges is where buckets end: quarters of octaves from 2^14 ns.
var edges = func() (edges []time.Duration) {
	edges = append(edges, 1<<14)
	for octave := int64(1 << 14); octave < 1<<40; octave *= 2 {
		for quarter := range int64(4) {
			edges = append(edges, time.Duration(octave+octave/4*(quarter+1)))
		}
	}
	return append(edges, 1<<40+1<<38)
}()

func bucket(took time.Duration) int {
	for b, end := range edges {
		if took < end {
			return b
		}
	}
	return len(edges) - 1
}

func edge(b int) time.Duration { return edges[b] }

// start is where virtual time begins.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// script is bytes that are decisions.
type script struct{ b []byte }

func (s *script) next(n int) int {
	if len(s.b) == 0 {
		return 0
	}
	v := int(s.b[0]) % n
	s.b = s.b[1:]
	return v
}

func pick[T any](s *script, of ...T) T { return of[s.next(len(of))] }

// follow runs a script against the detector and the model.
func follow(t *testing.T, b []byte, seen map[string]int) {
	t.Helper()
	s := &script{b}
	config := func() (outlier.Config, outlier.Config) {
		c := outlier.Config{
			Consecutive: pick(s, 0, 1, 3, -1), Unreached: pick(s, 0, 2, -1), Interval: pick(s, 0, time.Second, 20*time.Second),
			FailureRate: pick(s, 0.5, 0, 0.1), MinCalls: pick(s, 3, 0, 8), LatencyFactor: pick(s, 0, 3, 1.5),
			MinLatency: pick(s, 0, time.Millisecond), Base: pick(s, 0, 500*time.Millisecond), Max: pick(s, 0, 8*time.Second),
			Most: pick(s, 0, 0.34, 1), MostUnreached: pick(s, 0, 1.0),
		}
		full := c
		set(&full.Consecutive, 5)
		set(&full.Unreached, 1)
		set(&full.Interval, 10*time.Second)
		set(&full.MinCalls, 20)
		set(&full.MinLatency, 50*time.Millisecond)
		set(&full.Base, 5*time.Second)
		set(&full.Max, 300*time.Second)
		set(&full.Most, 0.5)
		set(&full.MostUnreached, full.Most)
		return c, full
	}
	cfg, full := config()
	m := &model{cfg: full, now: start}
	clock := func() time.Time { return m.now }
	d := outlier.New(cfg, clock)
	records := make([]*outlier.Record, 1+s.next(6))
	index := map[*outlier.Record]int{}
	present := func() (all []*outlier.Record) {
		for i, x := range m.all {
			if !x.gone {
				all = append(all, records[i])
			}
		}
		return all
	}
	for i := range records {
		records[i] = new(outlier.Record)
		index[records[i]] = i
		m.all = append(m.all, &instance{held: map[int]float32{}})
	}
	for step := 0; len(s.b) > 0; step++ {
		switch op := s.next(16); op {
		case 0:
			m.now = m.now.Add(pick(s, time.Millisecond, 40*time.Millisecond, 100*time.Millisecond, time.Second, 3*time.Second, 11*time.Second, time.Minute))
		case 1, 2, 3:
			m.now = m.now.Add(pick(s, 0, time.Second, time.Second, time.Second))
			var got []change
			for _, e := range d.Judge(m.now, present()) {
				seen[e.Reason]++
				if e.Ejected {
					if e.Ejection.Detail == "" {
						t.Fatalf("step %d: no figures for %s", step, e.Reason)
					}
				}
				e.Ejection.Detail = ""
				got = append(got, change{index[e.Record], e.Ejected, e.Reason, e.Ejection})
			}
			if diff := gocmp.Diff(m.judge(), got); diff != "" {
				t.Fatalf("step %d, after %v: changes (-model +detector):\n%s", step, m.now.Sub(start), diff)
			}
			var next time.Time
			for _, x := range m.all {
				if x.known != 0 && (next.IsZero() || x.knownE.Until.Before(next)) {
					next = x.knownE.Until
				}
			}
			if got := d.Next(); !got.Equal(next) {
				t.Fatalf("step %d: next change at %v, want %v", step, got, next)
			}
		case 4:
			who := s.next(len(records))
			if got, want := records[who].Clear(), m.check(who); got != want {
				t.Fatalf("step %d: Clear of %d is %t, want %t", step, who, got, want)
			}
		case 5:
			switch s.next(8) {
			case 0: // another configuration
				cfg, m.cfg = config()
				d = outlier.New(cfg, clock)
				m.began = false
				for _, x := range m.all {
					x.known = 0
				}
				d.Judge(m.now, present())
				m.judge()
			case 1, 2:
				x := m.all[s.next(len(m.all))]
				x.gone = !x.gone
			}
		default:
			who := s.next(len(records))
			o := pick(s, outlier.Success, outlier.Success, outlier.Success, outlier.Failed, outlier.Failed, outlier.Unreached, outlier.Neutral)
			took := pick(s, 0, 3*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond, 70*time.Millisecond, 600*time.Millisecond, 4*time.Second, 30*time.Minute)
			for range pick(s, 1, 1, 2, 5, 30) {
				if got, want := records[who].Observe(o, took), m.observe(who, o, took); got != want {
					t.Fatalf("step %d: look at %d is %t after %d, want %t", step, who, got, o, want)
				}
			}
		}
		for i, r := range records {
			e, out := r.Ejected()
			e.Detail = ""
			want := outlier.Ejection{}
			if m.all[i].out {
				want = m.all[i].ejection
			}
			if out != m.all[i].out || e != want {
				t.Fatalf("step %d: ejection of %d is %+v, want %+v", step, i, e, want)
			}
		}
	}
}

func set[T cmp.Ordered](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

func TestModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 80 {
		b := make([]byte, 1500)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		follow(t, b, seen)
	}
	t.Log(seen)
	for _, reason := range append(ranks, outlier.ByTime, outlier.ByCheck, outlier.BySuccess, outlier.ByCap) {
		if seen[reason] < 3 {
			t.Errorf("%s was seen %d times, which is too few to tell anything", reason, seen[reason])
		}
	}
}

func FuzzModel(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		follow(t, b[:min(len(b), 4000)], map[string]int{})
	})
}
