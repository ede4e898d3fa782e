package wire

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Context is the context of one exchange. It ends when the client has gone, when its deadline has passed, or when the
// exchange is over; an engine says so, from outside: no timer and no goroutine watches a call. It makes its channel only
// when Done is asked for. All methods are safe for concurrent use, except Reset and Release, which are the engine's.
type Context struct {
	base context.Context

	state atomic.Uint32 // live, cancelled or expired
	due   atomic.Int64  // the deadline as nanoseconds since epoch; 0: none
	asked atomic.Bool   // somebody may hold on to it: it is not used again

	mu     sync.Mutex
	done   chan struct{}
	waiter Waiter
	funcs  map[*afterFunc]struct{}
}

// Waiter is told of a context's end, once, in the goroutine that ends it. It must not block.
type Waiter interface{ ContextEnded() }

type afterFunc struct{ f func() }

const (
	live uint32 = iota
	cancelled
	expired
)

// epoch is what deadlines are counted from, so that they are one word by the monotonic clock.
var epoch = time.Now()

// Reset makes the context ready for an exchange. base gives the values and nothing else.
func (c *Context) Reset(base context.Context) {
	c.base = base
	c.asked.Store(false)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due.Store(0) // under the lock, so that a late Expire of the exchange before ends nothing
	c.done, c.waiter, c.funcs = nil, nil, nil
	c.state.Store(live)
}

// Release ends the context with the exchange. It tells whether nobody took notice of it, so that it may be Reset for the
// next exchange; else it belongs to those who did.
func (c *Context) Release() (reusable bool) {
	c.finish(cancelled, time.Time{})
	return !c.asked.Load()
}

// Cancel ends the context with context.Canceled: the client has gone.
func (c *Context) Cancel() { c.finish(cancelled, time.Time{}) }

// Expire ends the context with context.DeadlineExceeded if its deadline is not after now, and tells whether it did.
func (c *Context) Expire(now time.Time) bool {
	return c.overdue(now) && c.finish(expired, now)
}

// overdue tells whether the deadline is not after now.
func (c *Context) overdue(now time.Time) bool {
	due := c.due.Load()
	return due != 0 && int64(now.Sub(epoch)) >= due
}

// finish ends the context; with expired only if that is still due, for it may be another exchange's by now.
func (c *Context) finish(how uint32, now time.Time) bool {
	c.mu.Lock()
	if how == expired && !c.overdue(now) || !c.state.CompareAndSwap(live, how) {
		c.mu.Unlock()
		return false
	}
	if c.done != nil {
		close(c.done)
	}
	funcs := c.funcs
	c.funcs = nil
	w := c.waiter
	c.waiter = nil
	if w != nil {
		// Under the lock, so that after Forget it neither runs nor will.
		w.ContextEnded()
	}
	c.mu.Unlock()
	for a := range funcs {
		go a.run()
	}
	return true
}

// run is the goroutine of one function; a panic in it ends with it, for it concerns nobody else.
func (a *afterFunc) run() {
	defer func() { _ = recover() }()
	a.f()
}

// SetDeadline sets when the context ends; the zero time: never. The engine notices within its tick.
func (c *Context) SetDeadline(t time.Time) {
	if t.IsZero() {
		c.due.Store(0)
		return
	}
	c.due.Store(max(1, int64(t.Sub(epoch))))
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) {
	due := c.due.Load()
	if due == 0 {
		return time.Time{}, false
	}
	return epoch.Add(time.Duration(due)), true
}

// Err implements context.Context.
func (c *Context) Err() error {
	switch c.state.Load() {
	case cancelled:
		return context.Canceled
	case expired:
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements context.Context; values are those of the base.
func (c *Context) Value(key any) any {
	c.asked.Store(true)
	return c.base.Value(key)
}

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.asked.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.state.Load() != live {
			close(c.done)
		}
	}
	return c.done
}

// AfterFunc arranges for f to run in a goroutine of its own when the context ends; package context looks for it, so that
// contexts derived from this one need no goroutine. stop tells whether it kept f from running.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.asked.Store(true)
	a := &afterFunc{f}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Load() != live {
		go a.run()
		return func() bool { return false }
	}
	if c.funcs == nil {
		c.funcs = map[*afterFunc]struct{}{}
	}
	c.funcs[a] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waiting := c.funcs[a]
		delete(c.funcs, a)
		return waiting
	}
}

// Await has w told of the end, without channel or allocation. There is one such waiter at a time: false means that the
// place is taken, and the caller uses AfterFunc. A context that has ended tells w before Await returns. Whoever awaited
// calls Forget before it returns from the call.
func (c *Context) Await(w Waiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiter != nil {
		return false
	}
	if c.state.Load() != live {
		w.ContextEnded()
		return true
	}
	c.waiter = w
	return true
}

// Forget takes the waiter back: after it returned, the waiter is not told and not being told.
func (c *Context) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiter = nil
}
