package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// runBlocking makes the calls with a goroutine per connection, as crypto/tls needs one. It costs more than the epoll loop,
// so the candidates are a little less loaded.
func (l *load) runBlocking(ctx context.Context) (*loaded, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &blockingLoad{load: l, begin: time.Now(), fault: make(chan error, l.conns)}
	conns := make([]net.Conn, 0, l.conns)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range l.conns {
		c, err := l.dial(ctx)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	t.begin = time.Now()
	var due chan time.Duration
	if l.rate > 0 {
		due = make(chan time.Duration, l.rate*int((l.warm+l.measure)/time.Second+2))
	}
	var workers sync.WaitGroup
	for i, c := range conns {
		workers.Go(func() {
			if err := t.calls(c, uint64(i), due); err != nil { //nolint:gosec // a small index
				t.fault <- err
			}
		})
	}
	if due != nil {
		workers.Go(func() { t.pace(ctx, due) })
	}
	out, err := t.measured(ctx)
	t.over.Store(true)
	if err != nil {
		for _, c := range conns {
			_ = c.Close() // ends the calls under way
		}
	}
	cancel()
	workers.Wait()
	if err != nil {
		return nil, err
	}
	select {
	case err := <-t.fault:
		return nil, err
	default:
	}
	out.latency = t.latencies
	return out, nil
}

// dial connects to the candidate.
func (l *load) dial(ctx context.Context) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: stallAfter}
	if l.tls == nil {
		return dialer.DialContext(ctx, "tcp", l.address)
	}
	return (&tls.Dialer{NetDialer: dialer, Config: l.tls}).DialContext(ctx, "tcp", l.address)
}

type blockingLoad struct {
	*load

	begin     time.Time
	over      atomic.Bool
	count     atomic.Bool
	done      atomic.Int64
	fault     chan error
	mu        sync.Mutex
	latencies []time.Duration
}

// measured waits for the warm-up, then for the measured time.
func (t *blockingLoad) measured(ctx context.Context) (*loaded, error) {
	if err := t.wait(ctx, t.warm); err != nil {
		return nil, err
	}
	before, err := cpuTime(t.pid)
	if err != nil {
		return nil, err
	}
	calls, started := t.done.Load(), time.Now()
	t.count.Store(true)
	if err := t.wait(ctx, t.measure); err != nil {
		return nil, err
	}
	for t.done.Load()-calls < int64(t.conns) && time.Since(started) < stallAfter {
		if err := t.wait(ctx, t.measure); err != nil {
			return nil, err
		}
	}
	used, err := cpuTime(t.pid)
	if err != nil {
		return nil, err
	}
	t.count.Store(false)
	return &loaded{calls: int(t.done.Load() - calls), took: time.Since(started), cpu: used.minus(before)}, nil
}

func (t *blockingLoad) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case err := <-t.fault:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pace sends the time of every call that is due. It sleeps in the kernel: the runtime's own timers are up to a
// millisecond late in an idle process.
func (t *blockingLoad) pace(ctx context.Context, due chan<- time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(due)
	every := time.Second / time.Duration(t.rate)
	for next := every; ctx.Err() == nil && !t.over.Load(); next += every {
		for wait := next - time.Since(t.begin); wait > 0; wait = next - time.Since(t.begin) {
			ts := unix.NsecToTimespec(wait.Nanoseconds())
			_ = unix.Nanosleep(&ts, nil) // ended early by a signal it is slept again
		}
		select {
		case due <- next:
		default:
			return // far behind: the workers report what is wrong
		}
	}
}

// calls makes calls on one connection until the time is over.
func (t *blockingLoad) calls(conn net.Conn, seed uint64, due <-chan time.Duration) error {
	var (
		rng       = rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // header values, not secrets
		r         = t.request.clone()
		parser    answerParser
		buf       = make([]byte, answerSize)
		latencies []time.Duration
	)
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.latencies = append(t.latencies, latencies...)
	}()
	for !t.over.Load() {
		begun := time.Since(t.begin)
		if due != nil {
			at, more := <-due
			if !more {
				return nil
			}
			begun = at
		}
		r.vary(rng.Uint64(), rng.Uint64(), rng.Uint64())
		if err := conn.SetDeadline(time.Now().Add(stallAfter)); err != nil {
			return err
		}
		if err := t.single(conn, r.bytes, buf, &parser); err != nil {
			return err
		}
		t.done.Add(1)
		if t.latency && t.count.Load() {
			latencies = append(latencies, time.Since(t.begin)-begun)
		}
	}
	return nil
}

// single makes one call and checks its answer.
func (l *load) single(conn net.Conn, request, buf []byte, parser *answerParser) error {
	a, err := roundTrip(conn, request, buf, parser)
	if err != nil {
		return err
	}
	return l.check(a)
}

// roundTrip makes one call. The answer holds until buf is used again.
func roundTrip(conn net.Conn, request, buf []byte, parser *answerParser) (answer, error) {
	if _, err := conn.Write(request); err != nil {
		return answer{}, err
	}
	for have := 0; ; {
		n, err := conn.Read(buf[have:])
		if err != nil {
			return answer{}, fmt.Errorf("connection closed with %d bytes of an answer read: %w", have, err)
		}
		have += n
		a, size, err := parser.parse(buf[:have])
		switch {
		case err != nil:
			return answer{}, err
		case size == have:
			return a, nil
		case size > 0:
			return answer{}, errors.New("more bytes than one answer")
		case have == len(buf):
			return answer{}, fmt.Errorf("answer above %d bytes", len(buf))
		}
	}
}
