package balancer

import (
	"math"
	"sync"
	"testing"
	"time"
)

var epoch = time.Unix(1_700_000_000, 0)

func nanoseconds(n int64) time.Duration { return time.Duration(n) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func TestLatencyRisesAtOnceAndFallsSlowly(t *testing.T) {
	const ms = int64(time.Millisecond)
	n := member("a", 1).Node
	at := func(now int64) float64 { return float64(n.Latency(now)) / 1e6 }
	if l := n.Latency(1e9); l != 0 {
		t.Errorf("want nothing known, found %v", l)
	}
	now := 1000 * ms
	n.Observe(nanoseconds(10*ms), now)
	near(t, "first", 10, at(now), 0.01)
	n.Observe(nanoseconds(200*ms), now)
	near(t, "peak", 200, at(now), 0.1)
	n.Observe(nanoseconds(10*ms), now)
	near(t, "same moment", 200, at(now), 0.1)
	near(t, "no clock", 200, at(0), 0.1)
	near(t, "clock before", 200, at(now-500*ms), 0.1)
	near(t, "10 s idle: e^-1, about", 200*math.Exp(-1), at(now+10_000*ms), 1)
	near(t, "20 s idle", 200*math.Exp(-2), at(now+20_000*ms), 1)
	for range 1000 {
		now += 10 * ms
		n.Observe(nanoseconds(10*ms), now)
	}
	near(t, "10 s of 10 ms", 10+190*math.Exp(-1), at(now), 5)
	for range 10_000 {
		now += 10 * ms
		n.Observe(nanoseconds(10*ms), now)
	}
	near(t, "100 s of 10 ms", 10, at(now), 1)
	n.ObserveFailure(nanoseconds(ms), now)
	near(t, "failed soon", 1000, at(now), 1)
	n.ObserveFailure(3*time.Second, now)
	near(t, "failed late", 3000, at(now), 1)
	n.Observe(0, now+int64(24*time.Hour))
	if l := n.Latency(now + int64(24*time.Hour)); l < 0 || l > time.Second {
		t.Errorf("after a day: want little, found %v", l)
	}
}

// What is left of an average after some time is close to the exponential.
func TestLeft(t *testing.T) {
	last := 1.0
	for x := 0.0; x < 10; x += 0.1 {
		l := left(uint32(x * decay))
		near(t, "left", math.Exp(-x), l, 0.003)
		if l > last {
			t.Errorf("want it to fall all the time, found %.4f after %.4f", l, last)
		}
		last = l
	}
}

func TestLatencyUnderContention(t *testing.T) {
	n := member("a", 1).Node
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				n.Observe(nanoseconds(int64(1e6+g*1e5)), int64(i)<<tick)
			}
		})
	}
	wg.Wait()
	if l := n.Latency(2000 << tick); l < 1e6-1e3 || l > 1.4e6 {
		t.Errorf("want it between the shortest and the longest, found %v", l)
	}
}

func TestLoadOfTheLastReport(t *testing.T) {
	n := member("a", 1).Node
	if l := n.Load(); l >= 0 {
		t.Errorf("want none known, found %v", l)
	}
	for _, tt := range []struct {
		load  float64
		after time.Duration
		want  float64
	}{
		{0.5, 0, 0.5},
		{0.75, time.Second, 0.75},
		{0.125, 500 * time.Millisecond, 0.75},
		{3, 2 * time.Second, 1},
		{math.NaN(), 3 * time.Second, 1},
		{-1, 4 * time.Second, -1},
	} {
		if n.SetLoad(tt.load, epoch.Add(tt.after)); n.Load() != tt.want {
			t.Errorf("after %v at %v: want %v, found %v", tt.load, tt.after, tt.want, n.Load())
		}
	}
}
