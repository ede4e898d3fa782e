package framed

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/batch"
)

// serverConn is one connection of a client. The goroutine of Serve reads; calls run on the server's workers; whoever has
// something to send appends it to the writer's batch.
type serverConn struct {
	s       *Server
	conn    net.Conn
	counter wire.Counter // may be nil
	peer    netip.AddrPort
	tls     *tls.ConnectionState
	w       batch.Writer
	r       *reader // the reader's alone, but for its atomics

	// Guarded by w's lock.
	first     *Incoming // calls whose handler has not returned
	running   int
	streams   table     // those of them that are streams
	room      sync.Cond // somebody may send, or has to look why not
	ended     sync.Cond // running has become less, or the connection is over
	form      uint8     // of the last frame
	paused    bool      // it is not read because of all that runs
	over      bool      // nothing is taken up any more
	lost      bool      // nothing is sent any more
	cut       bool      // by the gateway
	idleSince time.Time // when the last call ended; counts while there are none
	parting   time.Time // when the client was asked to leave; zero: it was not
	cutAt     time.Time // when the connection is cut, whatever the client does; zero: it is not being ended
	closed    bool      // the client has closed its side, and calls of it run
	askAt     time.Time // when such a client is sent a word again, for one that has gone altogether
	patience  time.Duration

	// Sweep's own: since when the same has been so.
	begun    int64
	frames   uint32
	begunAt  time.Time
	writing  int64
	writesAt time.Time
}

// Serve reads requests until the connection ends. It returns when the last call's handler has.
func (c *serverConn) Serve() {
	c.s.workers.enter()
	defer c.s.workers.leave()
	defer c.finish() // also after a panic, which the server of connections counts
	var f frame
	for c.ready() {
		if err := c.r.next(&f); err != nil {
			if c.r.rested(c.conn, err) {
				continue
			}
			if errors.Is(err, io.EOF) && c.r.empty() {
				c.outlive()
			}
			return
		}
		c.take(&f)
	}
}

// ready waits while as many calls run as may; false: the connection is over.
func (c *serverConn) ready() bool {
	c.w.Lock()
	defer c.w.Unlock()
	for c.running >= c.s.cfg.Calls && !c.lost {
		c.paused = true
		c.ended.Wait()
	}
	c.paused = false
	return !c.lost
}

// take acts on a frame.
func (c *serverConn) take(f *frame) {
	if f.label.Kind > OfStream || c.isOver() {
		f.free(c.s.cfg.Budget)
		return
	}
	if f.label.Kind == OfStream {
		if sink := c.sink(f.label.ID); sink != nil {
			if f.why != Taken {
				f.free(c.s.cfg.Budget)
				sink.Broken(&Fault{Kind: AnswerTooLarge, Sent: true})
				return
			}
			c.s.cfg.Budget.Give(f.took) // from here on the protocol's window bounds it
			sink.Frame(f.buf)
			return
		}
	}
	s := c.s
	in := s.calls.Get().(*Incoming)
	in.ID, in.Kind, in.Frame, in.Refused = f.label.ID, f.label.Kind, f.buf.B, f.why
	in.Start, in.Peer, in.TLS = time.Now(), c.peer, c.tls
	in.c, in.buf, in.took = c, f.buf, f.took
	in.ctx.Reset(context.Background())
	f.buf = nil
	if in.Kind == OfStream && in.Refused == Taken && c.streamCount() >= s.cfg.Streams {
		in.Refused = TooMany
	}
	if in.handler = s.cfg.Service.Begin(in); in.handler == nil {
		in.free()
		in.release(s)
		return
	}
	if in.Kind == OfStream {
		in.sink, _ = in.handler.(Sink)
	}
	if c.counter != nil {
		c.counter.Began()
	}
	c.enlist(in, f.label.Form)
	s.workers.run(in)
}

func (c *serverConn) isOver() bool {
	c.w.Lock()
	defer c.w.Unlock()
	return c.over
}

// sink is what takes the frames of a stream; nil: none of that number is open.
func (c *serverConn) sink(id uint32) Sink {
	c.w.Lock()
	defer c.w.Unlock()
	if e := c.streams.get(id); e != nil {
		return e.in.sink
	}
	return nil
}

func (c *serverConn) streamCount() int {
	c.w.Lock()
	defer c.w.Unlock()
	return c.streams.n
}

// enlist puts a call among those that run.
func (c *serverConn) enlist(in *Incoming, form uint8) {
	c.w.Lock()
	defer c.w.Unlock()
	c.form = form
	in.after = c.first
	if c.first != nil {
		c.first.before = in
	}
	c.first = in
	c.running++
	if in.sink != nil && in.Refused == Taken {
		in.entry.id, in.entry.in = in.ID, in
		c.streams.put(&in.entry)
	}
	if c.lost {
		in.ctx.Cancel()
	}
}

// done takes a call off those that run.
func (c *serverConn) done(in *Incoming) {
	in.free()
	c.w.Lock()
	if in.before != nil {
		in.before.after = in.after
	} else {
		c.first = in.after
	}
	if in.after != nil {
		in.after.before = in.before
	}
	if in.entry.in != nil {
		c.streams.remove(&in.entry)
	}
	c.running--
	if c.running == 0 {
		c.idleSince = time.Time{}
	}
	c.ended.Broadcast()
	c.w.Unlock()
	if c.counter != nil {
		c.counter.Over()
	}
}

// lone tells that nobody else is about to send. With w locked.
func (c *serverConn) lone() bool { return c.running <= 1 }

// outlive has the calls of a client that has closed its side answered, for it may still read. Whether it does is found out by
// asking it to leave: where nobody is left a write fails, and the calls end. Without such a word they have to be quick. Where streams
// are open the client counts as gone.
func (c *serverConn) outlive() {
	c.w.Lock()
	defer c.w.Unlock()
	if c.running == 0 || c.streams.n > 0 || c.lost {
		return
	}
	c.over, c.closed, c.patience = true, true, firstPatience
	c.askAt = time.Now().Add(quickCalls)
	if c.s.cfg.Leave == nil {
		c.askAt = time.Now().Add(c.s.cfg.Unasked)
	}
	for c.running > 0 && !c.lost {
		c.ended.Wait()
	}
	if c.lost {
		return
	}
	c.conclude(time.Now())
	c.w.UnlockKick()
	c.w.Lock()
	for !c.w.Shut && !c.lost {
		c.room.Wait()
	}
}

// finish ends the connection after reading has, and waits for the calls.
func (c *serverConn) finish() {
	c.abandon()
	c.w.Lock()
	streams := c.streams.all(nil)
	sinks := make([]Sink, 0, len(streams))
	for _, e := range streams {
		sinks = append(sinks, e.in.sink)
	}
	c.w.Unlock()
	for _, s := range sinks {
		s.Broken(&Fault{Kind: Broken, Sent: true, Cause: net.ErrClosed})
	}
	c.w.Lock()
	for c.running > 0 {
		c.ended.Wait()
	}
	if c.w.Err == nil {
		c.w.Err = net.ErrClosed
	}
	c.w.Unlock()
	c.r.drop()
}

// Sweep implements wire.Conn. A client that has gone is seen by the reader, unless it waits for calls to end.
func (c *serverConn) Sweep(now time.Time) (watch bool) {
	c.s.workers.trim(now)
	cfg := &c.s.cfg
	begun := c.r.begun.Load()
	if count := c.r.count.Load(); begun == 0 || c.begun == 0 || count != c.frames {
		c.begunAt, c.frames = now, count
	}
	c.begun = begun
	c.w.Lock()
	for in := c.first; in != nil; in = in.after {
		in.ctx.Expire(now)
	}
	if !c.w.Writing || c.writing != c.w.Taken || c.writesAt.IsZero() {
		c.writing, c.writesAt = c.w.Taken, now
	}
	cut := false
	switch {
	case !c.cutAt.IsZero():
		cut = now.After(c.cutAt)
	case begun != 0 && !c.paused && now.Sub(c.begunAt) >= cfg.FrameTimeout+time.Duration(begun)*(time.Second/slowest),
		now.Sub(c.writesAt) >= cfg.WriteTimeout:
		cut = true
	case c.closed && c.running > 0 && cfg.Leave == nil:
		cut = !now.Before(c.askAt)
	case c.closed && c.running > 0:
		c.askAgain(now)
	case c.running > 0 || begun != 0:
	case c.idleSince.IsZero():
		c.idleSince = now
		c.w.Shrink()
		if c.r.grown.Load() {
			_ = c.conn.SetReadDeadline(past) // a connection that cannot is closed
		}
	case c.parting.IsZero() && now.Sub(c.idleSince) >= cfg.Idle:
		c.ask(now)
	case !c.parting.IsZero() && (cfg.Leave == nil || now.Sub(c.parting) >= roundTrip):
		c.conclude(now)
	}
	watch = c.paused
	c.w.UnlockKick()
	if cut {
		c.abandon()
	}
	return watch
}

// ask asks the client to leave. With w locked, by whoever then has the batch written.
func (c *serverConn) ask(now time.Time) {
	if !c.parting.IsZero() || c.over {
		return
	}
	c.parting = now
	if c.s.cfg.Leave != nil && c.w.Err == nil {
		c.appendLeave()
	}
}

// appendLeave appends the word to leave. With w locked.
func (c *serverConn) appendLeave() {
	word := c.s.cfg.Leave
	if f := c.s.cfg.LeaveIn[c.form]; f != nil {
		word = f
	}
	c.w.Batch = word.AppendFrame(c.w.Batch, 0)
}

// askAgain sends a word to a client that has closed its side, ever more rarely. With w locked, by whoever then has the batch
// written.
func (c *serverConn) askAgain(now time.Time) {
	if now.Before(c.askAt) || c.w.Err != nil || len(c.w.Batch) > 0 {
		return
	}
	c.appendLeave()
	c.askAt = now.Add(c.patience)
	c.patience *= 2
}

// conclude has our side of the connection closed when all is written; the client closes the other. With w locked, by
// whoever then has the batch written.
func (c *serverConn) conclude(now time.Time) {
	c.over, c.w.Ending = true, true
	c.cutAt = now.Add(linger)
}

// Abort implements wire.Conn.
func (c *serverConn) Abort() {
	c.w.Lock()
	c.cut = true
	c.w.Unlock()
	c.abandon()
}

// abandon closes the connection, as a client does that leaves.
func (c *serverConn) abandon() {
	c.w.Lock()
	c.over, c.lost = true, true
	c.cancelAll()
	c.room.Broadcast()
	c.ended.Broadcast()
	c.w.Unlock()
	nc := c.conn
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn() // without a word, which could wait for the client to take it
	}
	_ = nc.Close() // it is over either way
}

// cancelAll cancels all calls but those that go on without the client. With w locked.
func (c *serverConn) cancelAll() {
	for in := c.first; in != nil; in = in.after {
		if c.cut || !in.kept {
			in.ctx.Cancel()
		}
	}
}

// Gone implements wire.Conn.
func (c *serverConn) Gone() {
	c.w.Lock()
	defer c.w.Unlock()
	c.cancelAll()
}

// Drain implements wire.Conn.
func (c *serverConn) Drain() {
	c.w.Lock()
	c.ask(time.Now())
	c.w.UnlockKick()
}

// Idle implements wire.Conn. While a client is being asked to leave a request may be on its way, so the connection is not
// idle until it has ended, by itself.
func (c *serverConn) Idle() bool {
	c.w.Lock()
	defer c.w.Unlock()
	return c.running == 0 && c.r.begun.Load() == 0 && (c.parting.IsZero() || c.s.cfg.Leave == nil)
}
