package framed

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire/batch"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/socket"
)

// clientConn is one connection of a Client. One goroutine reads it; everybody else goes through the lock of its writer.
type clientConn struct {
	cl   *Client
	nc   net.Conn // under TLS; closed to end everything at once
	w    batch.Writer
	load atomic.Int32 // about how many calls are on it

	// The reading goroutine's own.
	r     *reader
	woken []*Call // have their answer, to be told without the lock

	// Guarded by w's lock.
	calls     table
	streams   table
	blocked   []*Stream // wait for room to send
	away      bool      // takes no further calls
	closing   bool
	err       error     // why it ended
	idleSince time.Time // zero: it had a call since it was looked at

	// The pool's sweep's own: since when the same frame has been coming.
	frames  uint32
	begunAt time.Time
}

func newClientConn(cl *Client, raw, secure net.Conn) *clientConn {
	c := &clientConn{cl: cl, nc: raw}
	c.calls.first, c.streams.first = 1, cl.cfg.FirstStream
	c.r = newReader(socket.NewReader(secure), cl.cfg.Framing, cl.cfg.MaxFrame, nil, nil)
	c.w.Init(secure, batch.Owner{
		OnRoom: c.wakeBlocked, OnShut: c.wakeBlocked, OnError: func(error) { _ = raw.Close() }, Alone: c.lone, Panics: &cl.panics,
	})
	c.w.Half = true
	return c
}

// lone tells that nobody else is about to send. With w locked.
func (c *clientConn) lone() bool { return c.calls.n+c.streams.n <= 1 }

// takes tells whether a call may begin while there are fewer than limit. With w locked.
func (c *clientConn) takes(limit int) bool {
	return !c.away && c.err == nil && c.w.Err == nil && c.calls.n+c.streams.n < limit && c.w.Room()
}

// open begins w's call on c if it takes it.
func (c *clientConn) open(w *waiter, limit int) bool {
	c.w.Lock()
	if !c.takes(limit) {
		c.w.Unlock()
		return false
	}
	begun := false
	defer func() {
		if !begun { // a panic: what was appended is no frame
			c.w.Unlock()
			_ = c.nc.Close() // its reading goroutine sees to the rest
		}
	}()
	w.begin(c)
	c.count()
	begun = true
	c.w.UnlockFlush()
	return true
}

// count notes how many calls there are. With w locked.
func (c *clientConn) count() {
	n := c.calls.n + c.streams.n
	c.load.Store(int32(n)) //nolint:gosec // at most hardCalls
	c.idleSince = time.Time{}
	c.closing = c.closing || c.away && n == 0
}

// idleFor is how long the connection has had no call.
func (c *clientConn) idleFor(now time.Time) time.Duration {
	c.w.Lock()
	defer c.w.Unlock()
	if c.calls.n+c.streams.n > 0 || c.err != nil {
		return 0
	}
	if c.idleSince.IsZero() {
		c.idleSince = now
		c.w.Shrink()
		if c.r.grown.Load() && !c.closing {
			_ = c.w.Conn.SetReadDeadline(past) // a connection that cannot is closed
		}
	}
	return now.Sub(c.idleSince)
}

// stuck tells whether a frame takes too long to come. It is the pool's sweep's.
func (c *clientConn) stuck(now time.Time) bool {
	begun, frames := c.r.begun.Load(), c.r.count.Load()
	if begun == 0 || frames != c.frames || c.begunAt.IsZero() {
		c.begunAt, c.frames = now, frames
		if begun == 0 {
			c.begunAt = time.Time{}
		}
		return false
	}
	return now.Sub(c.begunAt) >= c.cl.cfg.FrameTimeout+time.Duration(begun)*(time.Second/slowest)
}

// cut ends a connection at once; its reading goroutine sees to the rest.
func (c *clientConn) cut(why error) {
	c.w.Lock()
	if c.err == nil {
		c.err, c.away = why, true
	}
	c.w.Unlock()
	c.cl.gone(c)
	_ = c.nc.Close() // it is over either way
}

// wakeBlocked has those look again who wait for room to send. With w locked.
func (c *clientConn) wakeBlocked() {
	for i, s := range c.blocked {
		s.signal()
		c.blocked[i] = nil
	}
	c.blocked = c.blocked[:0]
	if c.cl.waiting.Load() > 0 {
		go c.cl.released(softCalls) // not here: the pool's lock comes before this one
	}
}

// retire lets a connection's calls end and then closes it.
func (c *clientConn) retire() {
	c.w.Lock()
	c.away = true
	c.closing = c.closing || c.calls.n+c.streams.n == 0
	closing := c.closing
	c.w.Unlock()
	if closing {
		c.leave()
	}
}

// leave closes a connection that has no further use, once what is appended is written. Without w locked.
func (c *clientConn) leave() {
	c.w.Lock()
	if c.err != nil {
		c.w.Unlock()
		return
	}
	if c.w.Writing || len(c.w.Batch) > 0 {
		_ = c.w.Conn.SetReadDeadline(time.Now().Add(time.Second)) // for the peer to close its side
		c.w.Finish()
		return
	}
	c.err = errRetired
	c.w.Unlock()
	_ = c.nc.Close() // nothing is on it
}

// serve reads until the connection ends.
func (c *clientConn) serve() {
	defer func() {
		if r := recover(); r != nil {
			c.cl.panics.Add(1)
			c.end(fmt.Errorf("panic while reading: %v", r))
		}
	}()
	var f frame
	for {
		err := c.r.next(&f)
		if err == nil {
			err = c.handle(&f)
		}
		if err != nil && !c.r.rested(c.w.Conn, err) {
			c.end(err)
			return
		}
	}
}

// news is what frames have brought about.
type news struct {
	over          int // calls that have finished: as many may begin
	away, closing bool
}

// handle takes a frame and those that were read with it.
func (c *clientConn) handle(f *frame) error {
	n, err := c.take(f)
	c.cl.released(n.over)
	if n.away {
		c.cl.gone(c)
	}
	if n.closing {
		c.leave()
	}
	return err
}

// atOnce is how many frames are taken in a row before others may have the lock.
const atOnce = 64

// take takes frames with the lock held, and then tells the calls that have their answers: they find the lock free, and what
// they do next goes out together. A frame of a stream is handed over without the lock.
func (c *clientConn) take(f *frame) (n news, err error) {
	defer c.tell()
	for i := 1; ; i++ {
		switch s, fault := c.dispatch(f, &n); {
		case fault != nil:
			s.to.Broken(fault)
		case s != nil:
			s.to.Frame(f.buf)
			f.buf = nil
		}
		if i == atOnce || !c.r.whole() {
			return n, nil
		}
		if err = c.r.next(f); err != nil {
			return n, err
		}
	}
}

// dispatch gives a frame to its call, or tells to which stream it goes, or what ends that.
func (c *clientConn) dispatch(f *frame, n *news) (*Stream, *Fault) {
	c.w.Lock()
	defer c.w.Unlock()
	switch f.label.Kind {
	case Unary:
		if e := c.calls.get(f.label.ID); e != nil {
			c.calls.remove(e)
			e.call.answered(f)
			c.woken = append(c.woken, e.call)
			n.over++
			c.count()
			n.closing = c.closing
		}
	case OfStream:
		if e := c.streams.get(f.label.ID); e != nil {
			if f.why == Taken {
				return e.stream, nil
			}
			f.free(nil)
			c.streams.remove(e)
			c.count()
			e.stream.gone = true
			e.stream.signal()
			n.over++
			n.closing = c.closing
			return e.stream, &Fault{Kind: AnswerTooLarge, Sent: true}
		}
	case Leave:
		c.away, n.away = true, true
		c.count()
		n.closing = c.closing
	case Noise:
	}
	f.free(nil)
	return nil, nil
}

// tell wakes those who wait for woken.
func (c *clientConn) tell() {
	for i, call := range c.woken {
		c.woken[i] = nil
		call.signal()
	}
	c.woken = c.woken[:0]
}

// end fails what is open and closes the connection.
func (c *clientConn) end(err error) {
	c.w.Lock()
	if c.err != nil {
		err = c.err // who ended it knows better
	}
	c.err, c.away = err, true
	if c.w.Err == nil {
		c.w.Err = net.ErrClosed // what is in the batch is about to be told that it was not sent
	}
	open := c.streams.all(c.calls.all(nil))
	for _, e := range open {
		if e.call != nil {
			c.calls.remove(e)
			e.call.fault = &Fault{Kind: Broken, Sent: c.w.Attempted(e.call.at), Cause: err}
			e.call.finished.Store(true)
		} else {
			c.streams.remove(e)
			e.stream.gone = true
		}
	}
	c.blocked = nil
	c.w.Unlock()
	_ = c.nc.Close() // it is over either way
	c.r.drop()
	c.cl.gone(c)
	for _, e := range open {
		if e.call != nil {
			e.call.signal()
			continue
		}
		e.stream.signal()
		e.stream.to.Broken(&Fault{Kind: Broken, Sent: true, Cause: err})
	}
}
