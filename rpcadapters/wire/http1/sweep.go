package http1

import (
	"time"
)

// longPast is a deadline that has passed.
var longPast = time.Unix(1, 0)

// Sweep ends what is overdue at now. It implements wire.Conn. Serve writes no times down: the sweeper remembers when it
// first saw what it sees, so that a call that it never sees costs nothing. What it ends is late by the time between two of
// its looks: some milliseconds for calls, about a second for connections without one.
func (c *conn) Sweep(now time.Time) (watch bool) {
	c.p.dates.tick(now)
	state := c.state.Load()
	phase := state & (phases - 1)
	key := state
	if phase == inBody {
		key = state - inBody + inCall // the call is the same one
	}
	if key != c.seen {
		c.seen, c.seenAt, c.reading, c.waited, c.bodyBase = key, now, false, 0, c.bodyIn.Load()
	}
	age := now.Sub(c.seenAt)
	lim := &c.p.limits
	switch phase {
	case idle:
		limit := lim.Idle
		if state == idle {
			limit = lim.Head // the first request of a connection
		}
		if age >= limit {
			c.endRead(state)
		}
	case inHead:
		if begun := c.begun.Load(); begun != 0 && now.Sub(epoch)-time.Duration(begun) >= lim.Head {
			c.endRead(state)
		}
	case inCall, inBody:
		if cx := c.ctx.Load(); cx != nil {
			cx.Expire(now)
			if phase == inBody && cx.Err() != nil {
				c.endRead(state)
			}
		}
		c.sweepBody(state, phase == inBody, now)
		watch = age >= lookAfter
	case taken:
		// Whoever took it over keeps its times; his call has a deadline and a client all the same.
		if cx := c.ctx.Load(); cx != nil {
			cx.Expire(now)
		}
		watch = true
	}
	c.sweptAt = now
	c.sweepWrite(now)
	return watch
}

// sweepBody ends the reading of a body that comes too slowly.
func (c *conn) sweepBody(state uint64, reading bool, now time.Time) {
	lim := &c.p.limits
	if reading && c.reading {
		c.waited += now.Sub(c.sweptAt)
		if late := c.waited - lim.BodyGrace; late > 0 && lim.BodyRate > 0 && !c.patient.Load() &&
			float64(c.bodyIn.Load()-c.bodyBase) < late.Seconds()*float64(lim.BodyRate) {
			c.slow.Store(true)
			c.endRead(state)
		}
	}
	c.reading = reading
}

// sweepWrite cuts the connection of a client that does not take its answer.
func (c *conn) sweepWrite(now time.Time) {
	w := c.writes.Load()
	if w != c.wseen {
		c.wseen, c.wseenAt = w, now
	}
	if w%2 == 1 && now.Sub(c.wseenAt) >= c.p.limits.Write {
		c.cutOff()
	}
}

// endRead makes the read fail that the connection waits in, if it is still in that state.
func (c *conn) endRead(state uint64) {
	c.cutMu.Lock()
	defer c.cutMu.Unlock()
	if c.state.Load() != state {
		return
	}
	c.cutAt.Store(state + 1)
	_ = c.raw.SetReadDeadline(longPast) // a connection that is closed needs none
}

// Gone says that the client has closed its side. It implements wire.Conn.
func (c *conn) Gone() {
	c.gone.Store(true)
	if cx := c.ctx.Load(); cx != nil {
		cx.Cancel()
	}
}

// Drain makes answers ask the client to leave. It implements wire.Conn.
func (c *conn) Drain() { c.leave.Store(true) }

// Idle tells whether no request has begun. It implements wire.Conn.
func (c *conn) Idle() bool { return c.phase() == idle }

// Abort cuts the connection. It implements wire.Conn, and wire.Streamer, where it keeps an answer from being taken for a
// whole one. A connection that was taken over belongs to whoever did: he is told by the context.
func (c *conn) Abort() { c.cutOff() }

func (c *conn) cutOff() {
	c.gone.Store(true)
	if cx := c.ctx.Load(); cx != nil {
		cx.Cancel()
	}
	if c.phase() == taken {
		return
	}
	if c.phase() != idle {
		// A reset, so that even an answer that the end of the connection would complete is seen to be cut.
		if t, ok := c.raw.(interface{ SetLinger(sec int) error }); ok {
			_ = t.SetLinger(0) // then it ends in the ordinary way
		}
	}
	_ = c.raw.Close() // Serve closes it again at worst
}
