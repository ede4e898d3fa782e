package load

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Every call is accounted for, those that fail by their reasons; those that hang do not hold the others up.
func TestLoad(t *testing.T) {
	var good atomic.Int64
	l := Start(1000, 50*time.Millisecond,
		Call{"good", func(context.Context) (int, error) { good.Add(1); return 0, nil }},
		Call{"bad", func(context.Context) (int, error) { return 2, errors.New("no") }},
		Call{"hung", func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }})
	for end := time.Now().Add(20 * time.Second); good.Load() < 100; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no calls are made")
		}
	}
	r := l.Stop()
	if again := l.Stop(); again.Started != r.Started {
		t.Error("want no call after the end")
	}
	if r.Ended != r.Started || r.Kinds["good"] != (Count{Ended: int(good.Load())}) {
		t.Errorf("want all accounted for, found %+v", r)
	}
	if bad := r.Kinds["bad"]; bad.Failed != bad.Ended || bad.Retried != bad.Ended || bad.Ended < 99 || r.Reasons["bad: no"] != bad.Ended {
		t.Errorf("found %+v, %v", bad, r.Reasons)
	}
	if hung := r.Kinds["hung"]; r.Reasons["hung: context deadline exceeded"] != hung.Ended {
		t.Errorf("found %+v, %v", hung, r.Reasons)
	}
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "bad: no") || !strings.Contains(err.Error(), "hung: context deadline exceeded") {
		t.Errorf("want the reasons told, found %v", err)
	}
	if p := r.Percentile(50, 0, 0); p <= 0 || r.Percentile(50, r.Took, 0) != 0 {
		t.Errorf("found %v", p)
	}
}

// A load that cannot keep its rate says so, and counts what callers would have waited.
func TestLoadThatIsLate(t *testing.T) {
	release := make(chan struct{})
	var running atomic.Int64
	l := Start(1_000_000, time.Minute, Call{"slow", func(context.Context) (int, error) { running.Add(1); <-release; return 0, nil }})
	for end := time.Now().Add(20 * time.Second); running.Load() < mostRunning; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("only %d calls run", running.Load())
		}
	}
	time.Sleep(50 * time.Millisecond) // the next call waits for so long
	close(release)
	for ended, _ := l.Ended(); ended <= mostRunning; ended, _ = l.Ended() {
		time.Sleep(time.Millisecond)
	}
	r := l.Stop()
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if r.Late < 50*time.Millisecond || r.Percentile(99, 0, 0) < 50*time.Millisecond {
		t.Errorf("want the wait told, found %s", r.String())
	}
}
