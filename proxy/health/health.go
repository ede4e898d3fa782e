// Package health asks instances whether they are well: one prober per endpoint in the whole process, however many services,
// routes and reloads there are.
//
// A Pool has one goroutine that keeps the schedule; a goroutine for a probe lives as long as the probe. Each endpoint has a
// place of its own in the interval, counted from the start of the pool by the monotonic clock, so probes neither drift nor
// come in bursts, and what was missed while the process stood still is not made good. A probe that takes long delays no other
// endpoint and is not overlapped by the next. At most 4096 probes run at once, 1024 of them for endpoints that had no answer
// to the last one.
//
// Without an answer nothing counts as up: the kernel goes on to accept connections for a process that hangs, so GRPC and HTTP
// find one within Unhealthy intervals and a timeout, and TCP does not.
//
// What it costs, measured with BenchmarkProbe and BenchmarkEndpoints on two shared cores: 2 KiB of memory and no goroutine for
// an endpoint, its kept connection included; 24 us of processor time for a probe by GRPC, 19 us by HTTP and 37 us by TCP, which
// connects each time, where one follows the other. On their schedule, each waking the process, they are 70, 50 and 80 us, of
// which 15 us are the schedule: 5,000 endpoints asked each second take about a third of a core. Over TLS, GRPC and HTTP pay for
// the handshake when they connect, TCP with every probe.
package health

import (
	"context"
	"time"
)

// Timing says how often an endpoint is probed and what becomes of the results. Zero fields take the defaults.
type Timing struct {
	// Interval is the time from the beginning of one probe to that of the next; 1 s, at least 10 ms.
	Interval time.Duration
	// Timeout is how long one probe may take: 1 s, or four fifths of the interval where that is less, so that a hung process
	// is found within Unhealthy intervals and one timeout. One that is longer than the interval is heeded: a slow probe then
	// takes the place of those that were due meanwhile.
	Timeout time.Duration
	// Unhealthy is after how many failures in succession an endpoint counts as down (2), Healthy after how many passes as up
	// again (1). The very first result decides by itself.
	Unhealthy, Healthy int
}

const (
	defaultInterval = time.Second
	defaultTimeout  = time.Second
	leastInterval   = 10 * time.Millisecond
)

// filled has every field set.
func (t Timing) filled() Timing {
	if t.Interval <= 0 {
		t.Interval = defaultInterval
	}
	t.Interval = max(t.Interval, leastInterval)
	if t.Timeout <= 0 {
		t.Timeout = min(defaultTimeout, t.Interval*4/5)
	}
	if t.Unhealthy <= 0 {
		t.Unhealthy = 2
	}
	if t.Healthy <= 0 {
		t.Healthy = 1
	}
	return t
}

// quickest is the shorter of each, so that it does not matter in which order several came.
func (t Timing) quickest(o Timing) Timing {
	return Timing{
		Interval:  min(t.Interval, o.Interval),
		Timeout:   min(t.Timeout, o.Timeout),
		Unhealthy: min(t.Unhealthy, o.Unhealthy),
		Healthy:   min(t.Healthy, o.Healthy),
	}
}

// State is what is known of an endpoint.
type State struct {
	Known bool // a probe has ended
	Up    bool
	Since time.Time     // when Up became what it is; zero while unknown
	Last  time.Time     // when the last probe ended
	Took  time.Duration // how long it took
	Fails int           // failures in succession, the last probe's among them
	// Err is why the last probe that failed did so, in words for operators; it stays when later ones pass. nil: none failed.
	Err    error
	Probes uint64 // probes begun
}

// Prober probes one endpoint.
type Prober interface {
	// Probe asks once; nil says that the endpoint is well. It returns soon after ctx ends. It is never called twice at once.
	Probe(ctx context.Context) error
	// Close releases what the prober holds, once the last Probe has returned. It does not wait for the network.
	Close()
}

// Dial makes a prober. It does not block: connections are made by probes. An error counts as a probe that failed, and Dial is
// called again for the next.
type Dial func() (Prober, error)

// Func makes a prober of functions that use what somebody else owns, a transport say, for as long as the watch is open whose
// Dial made it. When that watch is closed, another one's Dial makes the next prober, and while there is none nothing is
// asked: state and phase are kept all the same. release may be nil.
func Func(probe func(ctx context.Context) error, release func()) Prober {
	return funcs{probe, release}
}

type funcs struct {
	probe   func(context.Context) error
	release func()
}

func (f funcs) Probe(ctx context.Context) error { return f.probe(ctx) }

func (f funcs) Close() {
	if f.release != nil {
		f.release()
	}
}
