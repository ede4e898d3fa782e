// Package load calls something at a constant rate, whatever becomes of the calls, and accounts for every one of them.
package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Call is one kind of call.
type Call struct {
	Name string
	// Do makes one call and returns how often it was tried again on its way, and why it failed.
	Do func(ctx context.Context) (retries int, err error)
}

// Load is a run of calls that has been started.
type Load struct {
	rate    int
	timeout time.Duration
	kinds   []Call
	began   time.Time
	stop    context.CancelFunc
	sender  sync.WaitGroup
	running sync.WaitGroup

	mu     sync.Mutex
	report Report
}

// mostRunning bounds the calls at one moment: beyond them the load is late, and says so.
const mostRunning = 4096

// Start makes calls, of each kind in turn, rate a second, until Stop. Each may take as long as timeout.
func Start(rate int, timeout time.Duration, kinds ...Call) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{rate: rate, timeout: timeout, kinds: kinds, began: time.Now(), stop: cancel}
	l.report = Report{Rate: rate, Kinds: map[string]Count{}, Reasons: map[string]int{}}
	l.sender.Go(func() { l.send(ctx) })
	return l
}

// send begins every call when it is due, or as soon after that as the machine lets it.
func (l *Load) send(ctx context.Context) {
	places := make(chan struct{}, mostRunning)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		due := l.began.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
		if early := time.Until(due); early > 0 {
			timer.Reset(early)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		select {
		case <-ctx.Done():
			return
		case places <- struct{}{}:
		}
		kind := &l.kinds[n%len(l.kinds)]
		late := time.Since(due)
		l.mu.Lock()
		l.report.Started++
		l.report.Late = max(l.report.Late, late)
		l.mu.Unlock()
		l.running.Go(func() {
			defer func() { <-places }()
			l.call(kind, due)
		})
	}
}

func (l *Load) call(kind *Call, due time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	retries, err := kind.Do(ctx)
	took := time.Since(due)
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.report
	r.Ended++
	c := r.Kinds[kind.Name]
	c.Ended++
	if retries > 0 {
		r.Retried++
		c.Retried++
	}
	if err != nil {
		r.Failed++
		c.Failed++
		r.Reasons[kind.Name+": "+err.Error()]++
	} else {
		r.samples = append(r.samples, sample{due.Sub(l.began), took})
	}
	r.Kinds[kind.Name] = c
}

// Report tells how it stands.
func (l *Load) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.Took = time.Since(l.began)
	r.Kinds, r.Reasons, r.samples = maps.Clone(r.Kinds), maps.Clone(r.Reasons), slices.Clone(r.samples)
	return r
}

// Ended is how many calls have come to an end, Failed how many of them failed.
func (l *Load) Ended() (ended, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.report.Ended, l.report.Failed
}

// Since is the time that has gone since the load was started, as Percentile takes it.
func (l *Load) Since() time.Duration { return time.Since(l.began) }

// Stop begins no more calls, waits for those that are under way, and tells how it went. It may be called twice.
func (l *Load) Stop() Report {
	l.stop()
	l.sender.Wait()
	l.running.Wait()
	return l.Report()
}

// Count is what became of the calls of one kind.
type Count struct{ Ended, Failed, Retried int }

// Report is what became of the calls. When no call is under way, Ended is Started.
type Report struct {
	Rate    int // wanted, a second
	Took    time.Duration
	Started int
	Ended   int
	Failed  int
	Retried int // calls that were tried again, whatever became of them
	Kinds   map[string]Count
	Reasons map[string]int // of those that failed
	Late    time.Duration  // the longest that a call was begun after it was due: what the load itself fell behind

	samples []sample
}

// sample is a call that succeeded.
type sample struct{ due, took time.Duration }

// Percentile is the time within which p of 100 successful calls came back that were due between two moments since the start;
// to 0: until the end. It counts from when the call was due.
func (r *Report) Percentile(p float64, from, to time.Duration) time.Duration {
	var all []time.Duration
	for _, s := range r.samples {
		if s.due >= from && (to == 0 || s.due < to) {
			all = append(all, s.took)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(int(float64(len(all))*p/100), len(all)-1)]
}

// Err is nil when every call was accounted for and none failed.
func (r *Report) Err() error {
	if r.Ended != r.Started {
		return fmt.Errorf("%d calls were begun, and %d ended", r.Started, r.Ended)
	}
	if r.Started == 0 {
		return errors.New("no call was made")
	}
	if r.Failed == 0 {
		return nil
	}
	reasons := slices.SortedFunc(maps.Keys(r.Reasons), func(a, b string) int { return r.Reasons[b] - r.Reasons[a] })
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d calls failed:", r.Failed, r.Started)
	for _, reason := range reasons[:min(len(reasons), 5)] {
		fmt.Fprintf(&text, "\n%6d %s", r.Reasons[reason], reason)
	}
	return errors.New(text.String())
}

// String is the report in one line.
func (r *Report) String() string {
	ms := func(p float64) time.Duration { return r.Percentile(p, 0, 0).Round(100 * time.Microsecond) }
	return fmt.Sprintf("%d calls in %s, %d a second: %d succeeded, %d failed, %d tried again; p50 %s, p99 %s; begun up to %s late",
		r.Started, r.Took.Round(100*time.Millisecond), r.Rate, r.Ended-r.Failed, r.Failed, r.Retried, ms(50), ms(99), r.Late.Round(time.Millisecond))
}
