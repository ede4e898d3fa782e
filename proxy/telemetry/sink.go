package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxQueue    = 4 << 20                // bytes queued or being written, per output
	maxKept     = 1 << 20                // a batch buffer larger than this is given up when a burst is over
	flushAt     = 256 << 10              // bytes that are written without lingering; a page costs a third of what it does at 64 KiB
	linger      = 20 * time.Millisecond  // how long a line waits for others to share its write
	followEvery = time.Second            // how often a file's path is looked at
	closeWithin = time.Second            // how long Close writes what is queued
	breakWithin = 100 * time.Millisecond // how long an interrupted write may take to return
)

// sink is one output: a queue that writers append to under a short lock, and one goroutine, owned by the sink from
// newSink to close, that writes it out.
type sink struct {
	output  string
	dropped *Counter
	failed  func(output string, err error)
	users   []*handle // guarded by Sinks.mu

	rotation atomic.Pointer[Rotation]

	mu      sync.Mutex
	pending []byte        // whole lines that wait
	writing int           // bytes of the batch that is being written
	idle    bool          // the goroutine waits for wake
	closing bool          // nothing is queued any more
	giveUp  bool          // close has waited long enough: what is left is dropped
	wake    chan struct{} // capacity 1
	done    chan struct{} // closed when the goroutine has ended
	out     io.Writer     // closed by the goroutine if it is a logFile

	// Used by the goroutine alone; closeErr is read after done.
	tail     []byte // rest of a line that was written in part: goes out before anything else
	failing  bool   // the last write failed
	astray   bool   // the file could not be opened anew
	followed time.Time
	refused  time.Time // when setting the file aside last failed
	closeErr error
}

func newSink(output string, out io.Writer, dropped *Counter, failed func(string, error)) *sink {
	k := &sink{
		output: output, out: out, dropped: dropped, failed: failed, followed: time.Now(),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go k.run()
	return k
}

// write queues p or drops it.
func (k *sink) write(p []byte) {
	k.mu.Lock()
	if k.closing || len(k.pending)+k.writing+len(p) > maxQueue {
		k.mu.Unlock()
		k.dropped.Add(lines(p))
		return
	}
	before := len(k.pending)
	k.pending = append(k.pending, p...)
	if len(p) > 0 && p[len(p)-1] != '\n' {
		k.pending = append(k.pending, '\n') // what is queued is whole lines, whoever writes
	}
	rouse := k.idle || before < flushAt && len(k.pending) >= flushAt
	k.idle = false
	k.mu.Unlock()
	if rouse {
		k.rouse()
	}
}

func (k *sink) rouse() {
	select {
	case k.wake <- struct{}{}:
	default: // it is on its way
	}
}

// run writes batches until the sink closes.
func (k *sink) run() {
	defer close(k.done)
	timer := time.NewTimer(linger)
	defer timer.Stop()
	var spare []byte
	for k.await(timer) {
		k.mu.Lock()
		batch, giveUp := k.pending, k.giveUp
		k.pending, k.writing = spare[:0], len(batch)
		k.mu.Unlock()
		if giveUp {
			k.dropped.Add(lines(batch))
		} else {
			k.flush(batch)
		}
		k.mu.Lock()
		k.writing = 0
		k.mu.Unlock()
		if spare = batch; cap(batch) > maxKept && len(batch) < cap(batch)/4 {
			spare = nil // the burst is over
		}
	}
	if len(k.tail) > 0 {
		k.dropped.Inc()
	}
	if f, ok := k.out.(*logFile); ok { // the inherited outputs stay open
		k.closeErr = f.Close()
	}
}

// await waits until there is a batch worth writing; false: the sink is closed and empty.
func (k *sink) await(timer *time.Timer) bool {
	k.mu.Lock()
	for len(k.pending) == 0 {
		if k.closing {
			k.mu.Unlock()
			return false
		}
		k.idle = true
		k.mu.Unlock()
		<-k.wake
		k.mu.Lock()
	}
	hurry := k.closing || len(k.pending) >= flushAt
	k.mu.Unlock()
	if !hurry {
		timer.Reset(linger)
		select {
		case <-timer.C:
		case <-k.wake:
		}
	}
	return true
}

// flush writes one batch; what cannot be written is counted.
func (k *sink) flush(batch []byte) {
	if f, ok := k.out.(*logFile); ok {
		now := time.Now()
		if now.Sub(k.followed) >= followEvery {
			k.followed = now
			k.renewed(f.follow())
		}
		if r := k.rotation.Load(); r != nil && f.due(r, len(k.tail)+len(batch), now) && len(k.tail) == 0 && now.Sub(k.refused) >= followEvery {
			if !k.renewed(f.rotate(r, now)) {
				k.refused = now
			}
		}
	}
	if len(k.tail) > 0 {
		n, err := writeTo(k.out, k.tail)
		k.tail = append(k.tail[:0], k.tail[n:]...)
		if err != nil {
			k.dropped.Add(lines(batch))
			k.report(&k.failing, err)
			return
		}
	}
	n, err := writeTo(k.out, batch)
	k.report(&k.failing, err)
	if err == nil {
		return
	}
	rest := batch[n:]
	if n > 0 && batch[n-1] != '\n' {
		end := bytes.IndexByte(rest, '\n') + 1
		k.tail = append(k.tail[:0], rest[:end]...)
		rest = rest[end:]
	}
	k.dropped.Add(lines(rest))
}

// rotateAsWished takes over the rotation of the last user who has one. The caller holds Sinks.mu.
func (k *sink) rotateAsWished() {
	for _, u := range slices.Backward(k.users) {
		if !u.rotation.never() {
			k.rotation.Store(&u.rotation)
			return
		}
	}
	k.rotation.Store(nil)
}

// renewed takes note of a file that was opened anew, or could not be.
func (k *sink) renewed(renewed bool, err error) bool {
	if renewed && len(k.tail) > 0 {
		k.tail = k.tail[:0] // its beginning is in the old file
		k.dropped.Inc()
	}
	k.report(&k.astray, err)
	return err == nil
}

// report tells the first of a run of errors; nil ends the run.
func (k *sink) report(failing *bool, err error) {
	first := err != nil && !*failing
	*failing = err != nil
	if first && k.failed != nil {
		k.failed(k.output, err)
	}
}

// writeTo writes p and makes an error of a panic and of a writer that breaks io.Writer's promises.
func writeTo(w io.Writer, p []byte) (n int, err error) {
	defer func() {
		if r := recover(); r != nil {
			n, err = 0, fmt.Errorf("the writer panicked: %v", r)
		}
	}()
	n, err = w.Write(p)
	n = min(max(n, 0), len(p))
	if n < len(p) && err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}

// lines counts the lines of p; a rest without a line's end is one.
func lines(p []byte) int64 {
	n := bytes.Count(p, []byte{'\n'})
	if len(p) > 0 && p[len(p)-1] != '\n' {
		n++
	}
	return int64(n)
}

// close writes what is queued, for at most a second, and ends the goroutine. A write that hangs is interrupted where the
// system can (files, pipes opened by path); where it cannot (an inherited stdout), the goroutine ends when the write
// returns, and writes nothing more.
func (k *sink) close() error {
	k.mu.Lock()
	k.closing = true
	k.mu.Unlock()
	k.rouse()
	if k.ended(closeWithin) {
		return k.closeErr
	}
	k.mu.Lock()
	k.giveUp = true
	left := len(k.pending) + k.writing
	k.mu.Unlock()
	if w, ok := k.out.(interface{ SetWriteDeadline(t time.Time) error }); ok && w.SetWriteDeadline(time.Now()) == nil {
		k.ended(breakWithin)
	}
	return fmt.Errorf("log output %q: %d bytes not written within %s", k.output, left, closeWithin)
}

// ended waits for the goroutine's end.
func (k *sink) ended(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-k.done:
		return true
	case <-timer.C:
		return false
	}
}
