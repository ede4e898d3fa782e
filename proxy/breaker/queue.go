package breaker

import "time"

// waiter is a call that waits for a place.
type waiter struct {
	next, prev *waiter
	queued     bool
	pass       Pass
	err        error
	called     chan struct{} // receives one value once pass or err is set
	timer      *time.Timer   // nil: no limit
}

func (b *Breaker) newWaiter() *waiter {
	w, _ := b.waiters.Get().(*waiter)
	w.pass, w.err = 0, nil
	switch {
	case b.cfg.PendingTimeout <= 0:
	case w.timer == nil:
		w.timer = time.NewTimer(b.cfg.PendingTimeout)
	default:
		w.timer.Reset(b.cfg.PendingTimeout)
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

func (b *Breaker) free(w *waiter) {
	if w.timer != nil {
		w.timer.Stop()
	}
	b.waiters.Put(w)
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
