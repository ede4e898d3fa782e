package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// load is one run of calls against one candidate.
type load struct {
	address  string
	tls      *tls.Config // with it callers speak TLS
	blocking bool        // a goroutine per connection, which TLS needs
	call     *call
	request  request // of a call by HTTP/1.1
	body     []byte  // the body of every answer, byte for byte
	conns    int
	streams  int           // calls at once on each connection
	rate     int           // calls per second, begun on time whatever the answers do; 0: each connection calls as soon as it is answered
	warm     time.Duration // calls that are not counted
	measure  time.Duration // calls that are; longer on a machine so busy that no more than one per connection was answered
	pid      int           // whose CPU time is taken
	latency  bool          // keep the latency of every counted call
}

// loaded is what a run found.
type loaded struct {
	calls   int           // answered within the measured time
	bytes   int           // of answers' bodies that came within the measured time
	took    time.Duration // the measured time
	cpu     cpu           // used by the process meanwhile
	latency []time.Duration
	slow    int // with a rate: calls that found no free connection when their time had come
}

const (
	stallAfter  = 10 * time.Second // no answer for so long fails the run
	drainWithin = 10 * time.Second // calls under way when the time is over must be answered within this
	answerSize  = 64 << 10         // the largest answer with its head
)

// caller is one connection of the load. It carries calls in slots, which the load numbers over all connections.
type caller interface {
	// begin begins a call in a slot; its bytes may wait for flush.
	begin(slot int, rng *rand.Rand) error
	flush() error
	// receive reads what has arrived, calls done for the slot of every call that is answered as it must be, and returns how
	// many bytes of answers' bodies came. Anything else is an error.
	receive(done func(slot int) error) (int, error)
}

// run makes the calls. Any answer but the expected one fails it, as does a closed connection.
func (l *load) run(ctx context.Context) (*loaded, error) {
	if l.blocking {
		return l.runBlocking(ctx)
	}
	// One thread serves all connections with epoll, so that the load costs less than what it measures.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	e := &epollLoad{load: l, rng: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // header values, not secrets
	e.done = e.answered
	defer e.close()
	if err := e.connect(); err != nil {
		return nil, err
	}
	return e.run(ctx)
}

// slot is room for one call at a time.
type slot struct {
	busy bool
	due  time.Duration // when the call under way was begun, or was due with a rate
}

type epollLoad struct {
	*load

	rng     *rand.Rand
	epoll   int
	timer   int // timerfd that ticks with the rate, -1 without
	fds     []int
	callers []caller
	slots   []slot
	done    func(slot int) error // answered
	begin   time.Time
	now     time.Duration // since begin
	last    time.Duration // when something last came
	busy    int
	free    []int           // with a rate: idle slots, the one idle for longest first
	backlog []time.Duration // with a rate: when the calls were due that wait for a slot
	due     time.Duration   // with a rate: when the next call is due
	count   bool
	over    bool
	out     loaded
}

func (e *epollLoad) connect() error {
	e.epoll, e.timer = -1, -1
	address, err := netip.ParseAddrPort(e.address)
	if err != nil {
		return err
	}
	if e.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	e.streams = max(e.streams, 1)
	e.slots = make([]slot, e.conns*e.streams)
	for i := range e.conns {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		e.fds = append(e.fds, fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: address.Addr().As4(), Port: int(address.Port())}); err != nil {
			return fmt.Errorf("connect to %s: %w", e.address, err)
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
		event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(i)} //nolint:gosec // a small index
		if err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return err
		}
		e.callers = append(e.callers, e.newCaller(fd, i*e.streams))
	}
	if e.rate > 0 {
		for i := range e.slots {
			e.free = append(e.free, i)
		}
	}
	return nil
}

// newCaller gives the connection that speaks what is called; its first slot has the number first.
func (e *epollLoad) newCaller(fd, first int) caller {
	switch {
	case e.call.protocol == speaksGRPC:
		return newH2Caller(e.load, fd, first)
	case e.call.messages > 0:
		return &h1Stream{h1Caller: h1Caller{load: e.load, fd: fd, slot: first, request: e.request.clone(), buf: make([]byte, answerSize)}}
	default:
		return &h1Caller{load: e.load, fd: fd, slot: first, request: e.request.clone(), buf: make([]byte, answerSize)}
	}
}

func (e *epollLoad) close() {
	for _, fd := range append(e.fds, e.timer, e.epoll) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// tick is the event index of the timer.
const tick = -1

func (e *epollLoad) startTimer() error {
	var err error
	if e.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return err
	}
	every := unix.NsecToTimespec(int64(time.Second) / int64(e.rate))
	if err := unix.TimerfdSettime(e.timer, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return err
	}
	return unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, e.timer, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: tick})
}

func (e *epollLoad) run(ctx context.Context) (*loaded, error) {
	if e.latency {
		e.out.latency = make([]time.Duration, 0, 1<<17)
	}
	e.begin = time.Now()
	if e.rate > 0 {
		if err := e.startTimer(); err != nil {
			return nil, err
		}
		e.due = time.Second / time.Duration(e.rate)
	} else {
		for i := range e.slots {
			if err := e.send(i, 0); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range e.callers {
		if err := c.flush(); err != nil {
			return nil, err
		}
	}
	var (
		events     = make([]unix.EpollEvent, e.conns+1)
		before     cpu
		started    time.Duration
		phaseUntil = e.warm
	)
	for {
		n, err := unix.EpollWait(e.epoll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		e.now = time.Since(e.begin)
		for i := range max(n, 0) {
			if events[i].Fd == tick {
				err = e.beginDue()
			} else {
				err = e.receive(int(events[i].Fd))
			}
			if err != nil {
				return nil, err
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if e.now-e.last > stallAfter {
			return nil, fmt.Errorf("no answer for %v, %d calls under way", stallAfter, e.busy)
		}
		if e.over && (e.busy == 0 || e.now > phaseUntil) {
			if e.busy > 0 {
				return nil, fmt.Errorf("%d calls were not answered within %v", e.busy, drainWithin)
			}
			return &e.out, nil
		}
		if e.over || e.now < phaseUntil || e.count && e.out.calls < e.conns {
			continue // a machine that starves everything ends by stallAfter
		}
		used, err := cpuTime(e.pid)
		if err != nil {
			return nil, err
		}
		if !e.count {
			e.count, before, started = true, used, e.now
			phaseUntil = e.now + e.measure
			continue
		}
		e.out.took, e.out.cpu = e.now-started, used.minus(before)
		e.count, e.over = false, true
		phaseUntil = e.now + drainWithin
	}
}

// send begins a call in a slot.
func (e *epollLoad) send(i int, due time.Duration) error {
	if e.latency && e.rate == 0 {
		due = time.Since(e.begin)
	}
	if err := e.callers[i/e.streams].begin(i, e.rng); err != nil {
		return err
	}
	e.slots[i] = slot{busy: true, due: due}
	e.busy++
	return nil
}

// beginDue begins the calls whose time has come.
func (e *epollLoad) beginDue() error {
	var ticks [8]byte
	if _, err := unix.Read(e.timer, ticks[:]); err != nil {
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		return err
	}
	for range binary.NativeEndian.Uint64(ticks[:]) {
		due := e.due
		e.due += time.Second / time.Duration(e.rate)
		if e.over {
			continue
		}
		if len(e.free) == 0 {
			if e.count {
				e.out.slow++
			}
			e.backlog = append(e.backlog, due)
			continue
		}
		i := e.free[0]
		e.free = append(e.free[:0], e.free[1:]...)
		if err := e.send(i, due); err != nil {
			return err
		}
		if err := e.callers[i/e.streams].flush(); err != nil {
			return err
		}
	}
	return nil
}

// receive takes in what has arrived on a connection.
func (e *epollLoad) receive(i int) error {
	n, err := e.callers[i].receive(e.done)
	if err != nil {
		return err
	}
	if n > 0 {
		e.last = e.now
	}
	if e.count {
		e.out.bytes += n
	}
	return e.callers[i].flush()
}

// answered counts the call of a slot and begins the next.
func (e *epollLoad) answered(i int) error {
	s := &e.slots[i]
	if !s.busy {
		return errors.New("more bytes than one answer")
	}
	s.busy, e.last = false, e.now
	e.busy--
	if e.count {
		e.out.calls++
		if e.latency {
			e.out.latency = append(e.out.latency, time.Since(e.begin)-s.due)
		}
	}
	switch {
	case e.over:
		return nil
	case e.rate == 0:
		return e.send(i, e.now)
	case len(e.backlog) > 0:
		due := e.backlog[0]
		e.backlog = append(e.backlog[:0], e.backlog[1:]...)
		return e.send(i, due)
	default:
		e.free = append(e.free, i)
		return nil
	}
}

// check holds an answer against the expected one.
func (l *load) check(a answer) error {
	if a.status != l.call.status || !bytes.Equal(a.body, l.body) {
		return fmt.Errorf("unexpected answer: status %d, want %d, body %.300q", a.status, l.call.status, a.body)
	}
	return nil
}

// write writes all of b to a socket that has room for it.
func write(fd int, b []byte) error {
	n, err := unix.Write(fd, b)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if n != len(b) {
		return fmt.Errorf("write: %d of %d bytes", n, len(b))
	}
	return nil
}

// read reads what has arrived; 0 when that is nothing.
func read(fd int, b []byte) (int, error) {
	n, err := unix.Read(fd, b)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, nil
	case err == nil && n == 0:
		return 0, io.EOF
	default:
		return n, err
	}
}

// percentile returns the value below which p of 100 latencies lie. It sorts them.
func percentile(latencies []time.Duration, p float64) time.Duration {
	if len(latencies) == 0 {
		return 0
	}
	slices.Sort(latencies)
	return latencies[min(int(float64(len(latencies))*p/100), len(latencies)-1)]
}
