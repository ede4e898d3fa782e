package breaker

import (
	"sync"
	"time"
)

// waiter is a call that waits for a place.
type waiter struct {
	next, prev *waiter
	queued     bool
	pass       Pass
	err        error
	called     chan struct{} // receives one value once pass or err is set
	timer      *time.Timer   // nil: no limit
}

var waiters = sync.Pool{New: func() any { return &waiter{called: make(chan struct{}, 1)} }}

func newWaiter(timeout time.Duration) *waiter {
	w, _ := waiters.Get().(*waiter)
	w.pass, w.err = 0, nil
	if timeout > 0 {
		w.timer = time.NewTimer(timeout)
	}
	return w
}

func (w *waiter) late() <-chan time.Time {
	if w.timer == nil {
		return nil
	}
	return w.timer.C
}

func (w *waiter) call(pass Pass, err error) {
	w.pass, w.err = pass, err
	w.called <- struct{}{}
}

func (w *waiter) free() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	waiters.Put(w)
}

// queue is the calls that wait, first come first served.
type queue struct{ first, last *waiter }

func (q *queue) push(w *waiter) {
	w.queued = true
	w.prev, w.next = q.last, nil
	if q.last != nil {
		q.last.next = w
	} else {
		q.first = w
	}
	q.last = w
}

func (q *queue) pop() *waiter {
	w := q.first
	if w != nil {
		q.remove(w)
	}
	return w
}

// remove returns false when the waiter is not in the queue any more.
func (q *queue) remove(w *waiter) bool {
	if !w.queued {
		return false
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.last = w.prev
	}
	w.next, w.prev, w.queued = nil, nil, false
	return true
}
