package trpc

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// inbox holds the messages of a stream that have come and were not taken yet. Whoever reads the connection puts them in and
// never waits; one goroutine takes them. What it holds is bounded by the window that the peer was told of.
type inbox struct {
	mu     sync.Mutex
	wake   chan struct{} // a hint to look again
	window int           // bytes that the peer may send before some are taken; 0: it knows no windows
	queued int           // bytes of messages that were not taken
	count  int           // those messages
	taken  uint32        // bytes that were taken and not yet given back to the peer

	// Messages of at most smallMessage bytes are copied, each behind its length, so that many of them do not hold a buffer each.
	// The length of a larger one is followed by nothing: it is the next of large.
	small []byte
	off   int // of small: what was taken
	large []queued

	end error // why there are no more messages; io.EOF after a clean end
	cut bool  // what is queued is not wanted any more
}

type queued struct {
	buf     *rpc.Buffer
	payload []byte
}

const (
	smallMessage = 1 << 10
	// unwindowed bounds what is held of a peer that knows no windows.
	unwindowed = 1 << 20
	// maxQueued bounds the messages that are held, for empty ones cost no window.
	maxQueued = 1 << 18
)

var errFlood = errors.New("wanted a peer that waits for its window, found one that sends beyond it")

func (q *inbox) init(window int) {
	q.wake = make(chan struct{}, 1)
	q.window = window
}

func (q *inbox) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// put queues a message, whose buffer is the inbox's from then on. The error says that the peer sends more than it may. After
// the end messages are dropped.
func (q *inbox) put(buf *rpc.Buffer, payload []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	bound := q.window
	if bound == 0 {
		bound = unwindowed
	}
	switch {
	case q.end != nil:
		buf.Free()
		return nil
	case q.queued >= bound || q.count >= maxQueued:
		buf.Free()
		return errFlood
	}
	q.queued += len(payload)
	q.count++
	if q.off > len(q.small)/2 && len(q.small)+4+smallMessage > cap(q.small) {
		q.small = append(q.small[:0], q.small[q.off:]...)
		q.off = 0
	}
	q.small = binary.NativeEndian.AppendUint32(q.small, uint32(len(payload))) //nolint:gosec // a part of a frame
	if len(payload) <= smallMessage {
		q.small = append(q.small, payload...)
		buf.Free()
	} else {
		q.large = append(q.large, queued{buf, payload})
	}
	q.signal()
	return nil
}

// close ends the inbox; only the first reason counts. cut: what is queued is dropped.
func (q *inbox) close(why error, cut bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end == nil {
		q.end = why
	}
	if cut && !q.cut {
		q.cut = true
		for _, l := range q.large {
			l.buf.Free()
		}
		q.small, q.large, q.off, q.queued, q.count = nil, nil, 0, 0, 0
	}
	q.signal()
}

// ready tells whether there is a message, or an end.
func (q *inbox) ready() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count > 0 || q.end != nil
}

// take waits for the next message and returns its buffer, which is the caller's, and what of it is the message. credit is what
// the peer is to be given back, 0: nothing yet.
func (q *inbox) take() (buf *rpc.Buffer, payload []byte, credit uint32, err error) {
	for {
		q.mu.Lock()
		if q.count > 0 {
			buf, payload = q.pop()
			credit = q.credit(len(payload))
			q.mu.Unlock()
			return buf, payload, credit, nil
		}
		err = q.end
		q.mu.Unlock()
		if err != nil {
			return nil, nil, 0, err
		}
		<-q.wake
	}
}

// pop takes the first message. With mu held.
func (q *inbox) pop() (*rpc.Buffer, []byte) {
	size := int(binary.NativeEndian.Uint32(q.small[q.off:]))
	q.off += 4
	q.queued -= size
	q.count--
	var l queued
	if size <= smallMessage {
		l.buf = rpc.GetBuffer()
		l.buf.B = append(l.buf.B, q.small[q.off:q.off+size]...)
		l.payload = l.buf.B
		q.off += size
	} else {
		l = q.large[0]
		q.large = slices.Delete(q.large, 0, 1)
	}
	if q.count == 0 {
		q.off, q.small = 0, q.small[:0]
		if cap(q.small) > unwindowed/16 {
			q.small = nil
		}
	}
	return l.buf, l.payload
}

// credit counts a message that was taken. The peer is given back what makes a quarter of its window, unless it has ended. With
// mu held.
func (q *inbox) credit(n int) uint32 {
	if q.window == 0 || q.end != nil {
		return 0
	}
	q.taken += uint32(n) //nolint:gosec // a part of a frame
	if int(q.taken) < q.window/4 {
		return 0
	}
	credit := q.taken
	q.taken = 0
	return credit
}

// outbox is how much may be sent on a stream. One goroutine sends; others open and close the window.
type outbox struct {
	mu      sync.Mutex
	wake    chan struct{} // a hint to look again
	opened  bool          // the peer has said how much it takes
	endless bool          // it knows no windows
	window  int64         // what it takes; may become negative, for a message larger than the window passes
	end     error         // why nothing may be sent any more
}

func (o *outbox) init() { o.wake = make(chan struct{}, 1) }

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// open says how much the peer takes; 0: it knows no windows. false: it has said so before.
func (o *outbox) open(window uint32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.opened {
		return false
	}
	o.opened, o.endless, o.window = true, window == 0, o.window+int64(window)
	o.signal()
	return true
}

// grant enlarges the window. A peer may grant more than was sent: only that the window is above zero counts.
func (o *outbox) grant(increment uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	const most = 1 << 40
	o.window = min(o.window+int64(increment), most)
	o.signal()
}

// close ends sending; only the first reason counts.
func (o *outbox) close(why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end == nil {
		o.end = why
	}
	o.signal()
}

// begun tells whether the peer has said how much it takes, and why nothing may be sent, if so.
func (o *outbox) begun() (opened bool, end error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.opened, o.end
}

// await waits until the peer has opened its window, and that is not used up, and takes n bytes of it.
func (o *outbox) await(n int) error { return o.wait(n, false) }

// awaitOpen waits until the peer has said how much it takes, whatever that is.
func (o *outbox) awaitOpen() error { return o.wait(0, true) }

func (o *outbox) wait(n int, whatever bool) error {
	for {
		o.mu.Lock()
		switch {
		case o.end != nil:
			o.mu.Unlock()
			return o.end
		case o.opened && (whatever || o.endless || o.window > 0):
			o.window -= int64(n)
			o.mu.Unlock()
			return nil
		}
		o.mu.Unlock()
		<-o.wake
	}
}
