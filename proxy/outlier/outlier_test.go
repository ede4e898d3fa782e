package outlier_test

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/proxy/outlier"
)

// service is records, a detector and their clock.
type service struct {
	t       *testing.T
	now     time.Time
	d       *outlier.Detector
	records []*outlier.Record
}

func serviceOf(t *testing.T, n int, cfg outlier.Config) *service {
	t.Helper()
	s := &service{t: t, now: start}
	for range n {
		s.records = append(s.records, new(outlier.Record))
	}
	s.configure(cfg)
	return s
}

// configure judges by other rules from now on.
func (s *service) configure(cfg outlier.Config) {
	s.d = outlier.New(cfg, func() time.Time { return s.now })
	s.wantChanges()
}

func (s *service) calls(who, n int, o outlier.Outcome, took time.Duration) (look bool) {
	for range n {
		look = s.records[who].Observe(o, took) || look
	}
	return look
}

// pass lets time pass and judges each second of it, or more often; it returns the changes.
func (s *service) pass(d time.Duration) (changes []string) {
	until := s.now.Add(d)
	for {
		for _, e := range s.d.Judge(s.now, s.records) {
			what := "in"
			if e.Ejected {
				what = "out"
			}
			for i, r := range s.records {
				if r == e.Record {
					changes = append(changes, string(rune('a'+i))+" "+what+": "+e.Reason)
				}
			}
		}
		if !s.now.Before(until) {
			return changes
		}
		next := s.now.Add(time.Second)
		if at := s.d.Next(); !at.IsZero() && at.Before(next) {
			next = at
		}
		if next.After(until) {
			next = until
		}
		s.now = next
	}
}

// wantChanges judges now.
func (s *service) wantChanges(want ...string) {
	s.t.Helper()
	if diff := gocmp.Diff(want, s.pass(0)); diff != "" {
		s.t.Errorf("after %v: changes (-want +got):\n%s", s.now.Sub(start), diff)
	}
}

// wantOut is how long an instance is out still; 0: it is in.
func (s *service) wantOut(who int, want time.Duration) {
	s.t.Helper()
	var got time.Duration
	if e, out := s.records[who].Ejected(); out {
		got = e.Until.Sub(s.now)
	}
	if got != want {
		s.t.Errorf("after %v: %c is out for another %v, want %v", s.now.Sub(start), 'a'+who, got, want)
	}
}

const ms = time.Millisecond

func TestOneRefusedConnectionIsEnough(t *testing.T) {
	s := serviceOf(t, 3, outlier.Config{})
	if !s.calls(0, 1, outlier.Unreached, ms) {
		t.Error("a refused connection asks for no look")
	}
	if s.calls(0, 1, outlier.Unreached, ms) {
		t.Error("a second look is asked for before the first is taken")
	}
	s.wantChanges("a out: unreached")
	for _, seconds := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		length := time.Duration(seconds) * time.Second
		s.wantOut(0, length)
		s.now = s.now.Add(length - 1)
		s.wantChanges()
		s.now = s.now.Add(1)
		s.wantChanges("a in: time")
		s.now = s.now.Add(50 * ms)
		s.calls(0, 1, outlier.Unreached, ms)
		s.wantChanges("a out: unreached")
	}
	s.now = s.now.Add(300 * time.Second)
	s.wantChanges("a in: time")
	// The first success starts the doubling anew.
	s.now = s.now.Add(50 * ms)
	s.calls(0, 1, outlier.Success, ms)
	s.calls(0, 1, outlier.Unreached, ms)
	s.wantChanges("a out: unreached")
	s.wantOut(0, time.Second)
}

func TestSuccessEndsUnreached(t *testing.T) {
	s := serviceOf(t, 2, outlier.Config{})
	s.calls(0, 1, outlier.Unreached, 0)
	s.wantChanges("a out: unreached")
	s.now = s.now.Add(500 * ms)
	if s.calls(0, 1, outlier.Success, 501*ms) {
		t.Error("a call that began before the ejection asks for a look")
	}
	s.wantOut(0, 500*ms)
	if !s.calls(0, 1, outlier.Success, 499*ms) {
		t.Error("a call that began after the ejection asks for no look")
	}
	s.wantOut(0, 0)
	s.wantChanges("a in: success")

	// What ejected for failures is not undone by a success: some calls of a bad instance succeed.
	s.calls(0, 5, outlier.Failed, 0)
	s.wantChanges("a out: consecutive_failures")
	s.now = s.now.Add(time.Second)
	s.calls(0, 50, outlier.Success, ms)
	s.wantChanges()
	s.wantOut(0, 4*time.Second)
}

func TestConsecutiveFailures(t *testing.T) {
	s := serviceOf(t, 4, outlier.Config{FailureRate: 0.9})
	for range 20 {
		if s.calls(1, 4, outlier.Failed, ms) {
			t.Error("four failures ask for a look")
		}
		s.calls(1, 100, outlier.Neutral, ms)
		s.calls(1, 1, outlier.Success, ms)
	}
	s.wantChanges()
	s.calls(1, 3, outlier.Failed, ms)
	s.calls(1, 1, outlier.Neutral, ms)
	if !s.calls(1, 2, outlier.Failed, ms) {
		t.Error("five failures ask for no look")
	}
	s.wantChanges("b out: consecutive_failures")
	s.wantOut(1, 5*time.Second)
	if e, _ := s.records[1].Ejected(); e.Detail != "5 calls in a row failed" || e.Times != 1 {
		t.Errorf("ejection is %+v", e)
	}

	// Without a connection counts as a failure where it does not have a rule of its own.
	s = serviceOf(t, 4, outlier.Config{Unreached: -1})
	s.calls(2, 2, outlier.Failed, ms)
	s.calls(2, 3, outlier.Unreached, ms)
	s.wantChanges("c out: consecutive_failures")
	s = serviceOf(t, 4, outlier.Config{Consecutive: -1, Unreached: -1})
	s.calls(2, 1000, outlier.Unreached, ms)
	if changes := s.pass(time.Minute); changes != nil {
		t.Errorf("with all rules off: %v", changes)
	}
}

func TestFailureRate(t *testing.T) {
	s := serviceOf(t, 4, outlier.Config{FailureRate: 0.5})
	spread := func(who, ok, bad int) (changes []string) {
		for i := range 10 {
			s.calls(who, (i+1)*ok/10-i*ok/10, outlier.Success, ms)
			s.calls(who, (i+1)*bad/10-i*bad/10, outlier.Failed, ms)
			changes = append(changes, s.pass(time.Second)...)
		}
		return changes
	}
	if c := spread(0, 9, 9); c != nil {
		t.Errorf("18 calls in an interval: %v", c)
	}
	s.pass(11 * time.Second)
	if c := spread(0, 40, 30); c != nil {
		t.Errorf("30 of 70 calls failed: %v", c)
	}
	s.pass(11 * time.Second)
	// The second half of one interval and the first of the next are an interval too.
	s.pass(5 * time.Second)
	if diff := gocmp.Diff([]string{"a out: failure_rate"}, spread(0, 10, 10)); diff != "" {
		t.Errorf("10 of 20 calls failed (-want +got):\n%s", diff)
	}
	if e, _ := s.records[0].Ejected(); e.Detail != "10 of 20 calls failed" {
		t.Errorf("the figures are %q", e.Detail)
	}
	s.pass(5 * time.Second)
	s.wantOut(0, 0)
	if c := s.pass(20 * time.Second); c != nil {
		t.Errorf("what led to the ejection counts after it: %v", c)
	}
}

func TestLatency(t *testing.T) {
	type calls map[time.Duration]int // how many took so long, each second
	well := calls{20 * ms: 10, 40 * ms: 2}
	tests := []struct {
		name  string
		calls []calls
		want  []string
	}{
		{"equal", []calls{well, well, well, well}, nil},
		{"one is slow", []calls{well, {520 * ms: 12}, well, well}, []string{"b out: latency"}},
		{"one of two is slow", []calls{well, {520 * ms: 12}}, []string{"b out: latency"}},
		{"two of three are slow", []calls{well, {520 * ms: 12}, {510 * ms: 12}}, nil},
		{"two of four are slow", []calls{well, {520 * ms: 12}, {510 * ms: 12}, well}, []string{"b out: latency", "c out: latency"}},
		{"three of five are slow", []calls{{900 * ms: 12}, {520 * ms: 12}, {510 * ms: 12}, well, well}, nil},
		{"two of five are slow, the slowest first", []calls{{510 * ms: 12}, {5 * time.Second: 12}, well, well, well}, []string{"b out: latency", "a out: latency"}},
		{"slower, but fast", []calls{{ms: 12}, {ms: 12}, {40 * ms: 12}}, nil},
		{"slower, but not by the factor", []calls{{60 * ms: 12}, {60 * ms: 12}, {110 * ms: 12}}, nil},
		{"too few calls", []calls{well, {520 * ms: 1}, well, well}, nil},
		{"the others have too few calls", []calls{{20 * ms: 1}, {520 * ms: 12}, {20 * ms: 1}, nil}, nil},
		{"slow methods by chance", []calls{{ms: 7, 200 * ms: 5}, {ms: 5, 200 * ms: 7}, {ms: 7, 200 * ms: 5}}, nil},
		{"one call that hung", []calls{well, {20 * ms: 11, 30 * time.Second: 1}, well}, nil},
		{"alone", []calls{{520 * ms: 12}}, nil},
		{"all slow", []calls{{520 * ms: 12}, {520 * ms: 12}}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := serviceOf(t, len(test.calls), outlier.Config{LatencyFactor: 3})
			var got []string
			for range 6 {
				for who, calls := range test.calls {
					for took, n := range calls {
						s.calls(who, n, outlier.Success, took)
					}
				}
				got = append(got, s.pass(900*ms)...)
				s.now = s.now.Add(100 * ms)
				if got != nil {
					break
				}
			}
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
	s := serviceOf(t, 3, outlier.Config{LatencyFactor: 3})
	for who, took := range []time.Duration{20 * ms, 25 * ms, 500 * ms} {
		s.calls(who, 30, outlier.Success, took)
	}
	s.pass(time.Second)
	if e, _ := s.records[2].Ejected(); e.Detail != "half of its calls take 537ms or more, of the others 25ms" {
		t.Errorf("the figures are %q", e.Detail)
	}
}

func TestCap(t *testing.T) {
	tests := []struct {
		instances       int
		most, unreached float64
		failed, refused int // how many may be out at once
	}{
		{1, 0, 0, 0, 0},
		{2, 0, 0, 1, 1},
		{3, 0, 0, 1, 1},
		{4, 0, 0, 2, 2},
		{5, 0, 0, 2, 2},
		{9, 0, 0, 4, 4},
		{4, 0.1, 0, 1, 1},
		{10, 0.3, 0, 3, 3},
		{100, 0.29, 0, 29, 29},
		{10, 1, 0, 9, 9},
		{3, 0, 1, 1, 2},
		{1, 0, 1, 0, 0},
		{10, 0.1, 0.5, 1, 5},
	}
	for _, test := range tests {
		for outcome, want := range map[outlier.Outcome]int{outlier.Failed: test.failed, outlier.Unreached: test.refused} {
			s := serviceOf(t, test.instances, outlier.Config{Most: test.most, MostUnreached: test.unreached})
			highest := 0
			for range 60 {
				for who := range s.records {
					s.calls(who, 7, outcome, 0)
				}
				s.pass(0)
				out := 0
				for _, r := range s.records {
					if _, ok := r.Ejected(); ok {
						out++
					}
				}
				highest = max(highest, out)
				s.now = s.now.Add(time.Second)
			}
			if highest != want {
				t.Errorf("%d instances, most %v and %v: %d are out for %d, want %d", test.instances, test.most, test.unreached, highest, outcome, want)
			}
		}
	}
}

func TestTheWorstGoFirst(t *testing.T) {
	s := serviceOf(t, 6, outlier.Config{FailureRate: 0.5, LatencyFactor: 3})
	s.calls(4, 30, outlier.Success, 20*ms)
	s.calls(5, 30, outlier.Success, 20*ms)
	s.calls(0, 30, outlier.Success, 600*ms)
	for range 15 {
		s.calls(1, 1, outlier.Failed, 20*ms)
		s.calls(1, 1, outlier.Success, 20*ms)
	}
	s.calls(2, 9, outlier.Failed, 20*ms)
	s.calls(3, 1, outlier.Unreached, 0)
	s.now = s.now.Add(time.Second)
	s.wantChanges("d out: unreached", "c out: consecutive_failures", "b out: failure_rate")
}

func TestTheLastOneIsKept(t *testing.T) {
	s := serviceOf(t, 4, outlier.Config{})
	s.calls(0, 5, outlier.Failed, 0)
	s.now = s.now.Add(10 * ms)
	s.wantChanges("a out: consecutive_failures")
	s.now = s.now.Add(10 * ms)
	s.calls(1, 1, outlier.Unreached, 0)
	s.wantChanges("b out: unreached")
	all := s.records
	s.records = all[:2]
	s.wantChanges("b in: kept")
	s.wantOut(0, 5*time.Second-10*ms)
	// Who is gone comes back when its time is over, seen or not.
	s.records = all[1:]
	if got := s.d.Next(); !got.Equal(start.Add(5*time.Second + 10*ms)) {
		t.Errorf("the next change is at %v", got)
	}
	s.now = s.now.Add(5 * time.Second)
	s.wantChanges()
	if _, out := all[0].Ejected(); out {
		t.Error("an instance that left is out for longer than its time")
	}
	if got := s.d.Next(); !got.IsZero() {
		t.Errorf("the next change is at %v, want none", got)
	}
}

func TestChecks(t *testing.T) {
	s := serviceOf(t, 4, outlier.Config{FailureRate: 0.5, LatencyFactor: 3})
	if s.records[0].Clear() {
		t.Error("an ejection was ended where there is none")
	}
	s.calls(0, 1, outlier.Unreached, 0)
	s.calls(1, 5, outlier.Failed, 0)
	s.wantChanges("a out: unreached", "b out: consecutive_failures")
	s.now = s.now.Add(200 * ms)
	if !s.records[0].Clear() || !s.records[1].Clear() || s.records[1].Clear() {
		t.Error("a check ends an ejection for want of a connection, and for failures in a row, once")
	}
	s.wantOut(0, 0)
	s.wantChanges("a in: check", "b in: check")

	// The check was wrong about both.
	s.calls(0, 1, outlier.Unreached, 0)
	s.calls(1, 1, outlier.Success, 0)
	s.calls(1, 5, outlier.Failed, 0)
	s.wantChanges("a out: unreached", "b out: consecutive_failures")
	s.wantOut(0, 2*time.Second)
	s.wantOut(1, 10*time.Second)
	if s.records[0].Clear() || s.records[1].Clear() {
		t.Error("a check that was wrong is believed")
	}
	s.now = s.now.Add(2 * time.Second)
	s.wantChanges("a in: time")
	s.calls(0, 1, outlier.Unreached, 0)
	s.wantChanges("a out: unreached")
	if s.records[0].Clear() {
		t.Error("a check that was wrong is believed the next time but one")
	}
	s.now = s.now.Add(4 * time.Second)
	s.wantChanges("a in: time")
	s.now = s.now.Add(ms)
	s.calls(0, 1, outlier.Success, 0)
	s.calls(0, 1, outlier.Unreached, 0)
	s.wantChanges("a out: unreached")
	if !s.records[0].Clear() {
		t.Error("after a success a check is believed again")
	}
	s.now = start.Add(200*ms + 10*time.Second)
	s.wantChanges("a in: check", "b in: time")
	s.pass(10 * time.Second)
	s.calls(1, 5, outlier.Failed, 0)
	s.wantChanges("b out: consecutive_failures")
	if !s.records[1].Clear() {
		t.Error("an instance that is trusted again has its check believed")
	}
	s.wantChanges("b in: check")

	// A rate that checks did not see before they do not see now.
	for range 20 {
		s.calls(2, 1, outlier.Failed, 0)
		s.calls(2, 1, outlier.Success, 0)
	}
	s.calls(0, 20, outlier.Success, ms)
	s.calls(1, 20, outlier.Success, ms)
	s.calls(3, 20, outlier.Success, time.Second)
	s.now = s.now.Add(time.Second)
	s.wantChanges("c out: failure_rate", "d out: latency")
	if s.records[2].Clear() || s.records[3].Clear() {
		t.Error("a check ends an ejection for a rate or for latency")
	}
}

func TestWhatBeganBeforeTheReturn(t *testing.T) {
	s := serviceOf(t, 2, outlier.Config{FailureRate: 0.5, LatencyFactor: 2})
	s.calls(0, 5, outlier.Failed, 0)
	s.wantChanges("a out: consecutive_failures")
	s.now = s.now.Add(4 * time.Second)
	if s.calls(0, 100, outlier.Failed, 4*time.Second) {
		t.Error("calls in flight ask for a look while the instance is out")
	}
	s.now = s.now.Add(time.Second)
	s.wantChanges("a in: time")
	for range 9 {
		s.now = s.now.Add(time.Second)
		if s.calls(0, 10, outlier.Failed, s.now.Sub(start)-4*time.Second) {
			t.Error("calls that began before the return ask for a look")
		}
		s.calls(0, 10, outlier.Success, s.now.Sub(start)-4*time.Second)
		s.calls(1, 10, outlier.Success, 200*ms)
		s.wantChanges()
	}
	if !s.calls(0, 5, outlier.Failed, time.Second) {
		t.Error("calls that began after the return do not count")
	}
	s.wantChanges("a out: consecutive_failures")
	s.wantOut(0, 10*time.Second)
}

func TestDecay(t *testing.T) {
	s := serviceOf(t, 2, outlier.Config{})
	fail := func(seconds int) {
		t.Helper()
		want := time.Duration(seconds) * time.Second
		s.calls(0, 5, outlier.Failed, 0)
		s.wantChanges("a out: consecutive_failures")
		s.wantOut(0, want)
		s.now = s.now.Add(want)
		s.wantChanges("a in: time")
	}
	fail(5)
	fail(10)
	fail(20)
	s.now = s.now.Add(20*time.Second - 1) // the first ten to be trusted, and not quite ten more
	fail(40)
	s.now = s.now.Add(20 * time.Second)
	fail(40)
	s.now = s.now.Add(30*time.Second + 5*time.Second)
	fail(20)
	s.now = s.now.Add(time.Hour)
	fail(5)
	for _, want := range []int{10, 20, 40, 80, 160, 300, 300, 300} {
		fail(want)
	}
}

func TestReload(t *testing.T) {
	s := serviceOf(t, 4, outlier.Config{})
	s.calls(0, 5, outlier.Failed, 0)
	s.calls(1, 1, outlier.Unreached, 0)
	s.wantChanges("b out: unreached", "a out: consecutive_failures")
	s.now = s.now.Add(500 * ms)
	s.configure(outlier.Config{Base: 3 * time.Second, Consecutive: 2}) // no change is told
	s.wantOut(0, 4500*ms)
	if got := s.d.Next(); !got.Equal(start.Add(time.Second)) {
		t.Errorf("the next change is at %v", got)
	}
	s.now = s.now.Add(500 * ms)
	s.wantChanges("b in: time")
	s.calls(1, 1, outlier.Unreached, 0)
	s.wantChanges("b out: unreached")
	s.wantOut(1, 2*time.Second)
	s.now = start.Add(5 * time.Second)
	s.wantChanges("a in: time", "b in: time")
	if !s.calls(0, 2, outlier.Failed, 0) {
		t.Error("the new rules ask for no look")
	}
	s.wantChanges("a out: consecutive_failures")
	s.wantOut(0, 6*time.Second)

	// While two detectors judge, each tells of what the other did.
	former := s.d
	s.configure(outlier.Config{})
	s.calls(2, 1, outlier.Unreached, 0)
	if events := former.Judge(s.now, s.records); len(events) != 1 || events[0].Record != s.records[2] {
		t.Errorf("the former detector found %v", events)
	}
	s.wantChanges("c out: unreached")
}

func TestBeforeTheFirstJudge(t *testing.T) {
	r := new(outlier.Record)
	if _, out := r.Ejected(); out || r.Clear() {
		t.Error("an instance of which nothing is known is out")
	}
	if !r.Observe(outlier.Failed, 0) {
		t.Error("a failure asks for no look where no rules are known")
	}
	r.Observe(outlier.Success, 0)
	r.Observe(outlier.Unreached, 0)
	d := outlier.New(outlier.Config{}, nil)
	events := d.Judge(time.Now(), []*outlier.Record{r, new(outlier.Record)})
	if len(events) != 1 || !events[0].Ejected || events[0].Record != r {
		t.Errorf("the first Judge found %v", events)
	}
}
