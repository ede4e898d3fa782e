package outlier_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/causeway-gateway/causeway/proxy/outlier"
)

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	now := time.Now()
	clock := func() time.Time { return now }
	d := outlier.New(outlier.Config{FailureRate: 0.5, LatencyFactor: 3}, clock)
	var all []*outlier.Record
	for range 100 {
		all = append(all, new(outlier.Record))
	}
	d.Judge(now, all)
	for name, f := range map[string]func(){
		"success":         func() { all[0].Observe(outlier.Success, 20*time.Millisecond) },
		"failure":         func() { all[1].Observe(outlier.Failed, time.Second) },
		"success after":   func() { all[1].Observe(outlier.Failed, 0); all[1].Observe(outlier.Success, 0) },
		"neutral":         func() { all[0].Observe(outlier.Neutral, 0) },
		"ejected":         func() { all[0].Ejected() },
		"judged, in vain": func() { now = now.Add(time.Second); d.Judge(now, all[2:]) },
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: %v allocations, want none", name, got)
		}
	}
	if size := unsafe.Sizeof(outlier.Record{}); size > 448 {
		t.Errorf("a record has %d bytes", size)
	}
}

// TestConcurrent has calls end, checks pass and two detectors judge, all at once, and looks for an end that is lost: when
// everything is quiet whoever failed last is out, and comes back by its time.
func TestConcurrent(t *testing.T) {
	var clock atomic.Int64
	now := func() time.Time { return start.Add(time.Duration(clock.Load())) }
	var all []*outlier.Record
	for range 8 {
		all = append(all, new(outlier.Record))
	}
	cfg := outlier.Config{FailureRate: 0.5, LatencyFactor: 3, MinCalls: 5}
	detectors := []*outlier.Detector{outlier.New(cfg, now), outlier.New(cfg, now)}
	for _, d := range detectors {
		d.Judge(now(), all)
	}
	var calls, others sync.WaitGroup
	var over atomic.Bool
	out := make([]map[*outlier.Record]bool, len(detectors))
	judge := func(i int) {
		for _, e := range detectors[i].Judge(now(), all) {
			if out[i][e.Record] == e.Ejected {
				t.Errorf("detector %d says twice that the ejection of an instance is %t", i, e.Ejected)
			}
			out[i][e.Record] = e.Ejected
		}
	}
	for i := range detectors {
		out[i] = map[*outlier.Record]bool{}
		others.Go(func() {
			for !over.Load() {
				clock.Add(int64(50 * time.Millisecond))
				judge(i)
			}
		})
	}
	others.Go(func() {
		for i := 0; !over.Load(); i++ {
			all[i%len(all)].Clear()
			all[i%len(all)].Ejected()
			detectors[0].Next()
		}
	})
	for i := range 4 {
		calls.Go(func() {
			for n := range 20_000 {
				r := all[(n/7+i)%len(all)]
				o := outlier.Outcome(n * (i + 3) % 5 % 4) //nolint:gosec // below 4
				r.Observe(o, time.Duration(n%300)*time.Millisecond)
			}
		})
	}
	calls.Wait()
	over.Store(true)
	others.Wait()
	clock.Add(int64(time.Hour))
	for i := range detectors {
		judge(i)
	}
	for range 2 * 10 {
		clock.Add(int64(time.Minute))
		for _, r := range all {
			for range 30 {
				r.Observe(outlier.Success, 0)
			}
		}
		for i := range detectors {
			judge(i)
		}
	}
	for i := range detectors {
		for _, r := range all {
			if _, isOut := r.Ejected(); isOut || out[i][r] {
				t.Error("an instance is out after all the time and successes")
			}
		}
	}
	for range 5 {
		all[3].Observe(outlier.Failed, 0)
	}
	for i := range detectors {
		judge(i)
		if !out[i][all[3]] {
			t.Errorf("detector %d did not tell of an instance that failed", i)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	for name, cfg := range map[string]outlier.Config{"counts": {}, "latency": {LatencyFactor: 3}} {
		prepare := func() *outlier.Record {
			r := new(outlier.Record)
			outlier.New(cfg, nil).Judge(time.Now(), []*outlier.Record{r})
			return r
		}
		b.Run(name+"/success", func(b *testing.B) {
			r := prepare()
			for b.Loop() {
				r.Observe(outlier.Success, 20*time.Millisecond)
			}
		})
		b.Run(name+"/failure", func(b *testing.B) {
			r := prepare()
			for b.Loop() {
				r.Observe(outlier.Failed, 20*time.Millisecond)
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			r := prepare()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r.Observe(outlier.Success, 20*time.Millisecond)
				}
			})
		})
	}
	b.Run("on probation", func(b *testing.B) {
		now := time.Now()
		r := new(outlier.Record)
		d := outlier.New(outlier.Config{}, time.Now)
		all := []*outlier.Record{r, new(outlier.Record)}
		d.Judge(now, all)
		r.Observe(outlier.Unreached, 0)
		d.Judge(now, all)
		r.Clear()
		for b.Loop() {
			r.Observe(outlier.Success, 0)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	for name, cfg := range map[string]outlier.Config{"look": {FailureRate: 0.5}, "tick": {FailureRate: 0.5}, "tick with latency": {FailureRate: 0.5, LatencyFactor: 3}} {
		b.Run(name+" of 5000", func(b *testing.B) {
			now := time.Now()
			d := outlier.New(cfg, nil)
			var all []*outlier.Record
			for range 5000 {
				all = append(all, new(outlier.Record))
			}
			d.Judge(now, all)
			for _, r := range all {
				for i := range 50 {
					r.Observe(outlier.Success, time.Duration(i)*time.Millisecond)
				}
			}
			for b.Loop() {
				if name != "look" {
					now = now.Add(time.Second)
				}
				d.Judge(now, all)
			}
		})
	}
}
