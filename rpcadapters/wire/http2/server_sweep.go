package http2

import "time"

// heldUp tells how long a thing that has a number has been the same.
type heldUp struct {
	what  int64
	since time.Time
}

// see notes that at now it is what; 0: there is none. It returns for how long that has been so.
func (h *heldUp) see(what int64, now time.Time) time.Duration {
	if what == 0 || what != h.what {
		*h = heldUp{what, now}
		return 0
	}
	return now.Sub(h.since)
}

var (
	errNoSettings = connFault(SettingsTimeout, "no SETTINGS came")
	errSlowHead   = connFault(EnhanceYourCalm, "a header block that does not come to its end")
)

// midHead tells whether a frame or a header block has come in part.
func (c *serverConn) midHead() bool {
	fr := c.reader.Load()
	return fr != nil && fr.begun.Load() != 0
}

// lookBy has Sweep look at the connection at t at the latest.
func (c *serverConn) lookBy(t time.Time) {
	if at := monotonic(t); at < c.alarm.Load() {
		c.alarm.Store(at)
	}
}

// Sweep implements wire.Conn. A client that has gone is seen by the reader, so nobody else has to look for it.
func (c *serverConn) Sweep(now time.Time) bool {
	c.server.sweep(now)
	if c.active.Load() == 0 && monotonic(now) < c.alarm.Load() && !c.midHead() {
		return false
	}
	c.w.Lock()
	if c.over.Load() {
		c.w.Unlock()
		if now.After(c.cutAt) {
			cut(c.conn)
		}
		return false
	}
	c.alarm.Store(monotonic(now.Add(c.server.look)))
	c.clock = now
	l := &c.server.limits
	switch {
	case !c.greeted && now.Sub(c.idleSince) >= l.HeadTimeout:
		c.expel(errNoSettings, now)
	case c.slowHead(now) >= l.HeadTimeout:
		c.expel(errSlowHead, now)
	case c.leave.state == staying && c.streams.n == 0 && c.greeted && now.Sub(c.idleSince) >= l.IdleTimeout:
		c.leave.ask(c, now)
	case c.leave.state == asked && c.greeted && now.Sub(c.leave.since) >= roundTrip:
		c.leave.tell(c)
	case c.leave.state == staying && now.After(c.retire):
		c.leave.ask(c, now)
	}
	if c.stuckWrite(now) >= l.WriteTimeout {
		c.w.Unlock()
		c.Abort()
		return false
	}
	c.streams.each(func(s *serverStream) bool {
		s.sweep(now, l.WriteTimeout)
		return true
	})
	rest := c.greeted && !c.rested && c.active.Load() == 0 && now.Sub(c.idleSince) >= restAfter
	if rest {
		c.rested = true
		c.w.Shrink()
	}
	c.w.UnlockKick()
	if rest {
		_ = c.conn.SetReadDeadline(longAgo) // wakes the reader, see readAll
	}
	return false
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// slowHead is for how long a head has been coming. With w locked.
func (c *serverConn) slowHead(now time.Time) time.Duration {
	fr := c.reader.Load()
	if fr == nil {
		return 0
	}
	return c.begun.see(int64(fr.begun.Load()), now)
}

// stuckWrite is for how long the same batch has been written. With w locked.
func (c *serverConn) stuckWrite(now time.Time) time.Duration {
	if !c.w.Writing {
		return c.flushed.see(0, now)
	}
	return c.flushed.see(c.w.Taken+1, now)
}

// sweep ends the stream's call if it is overdue, and the stream if the client takes nothing. With w locked.
func (s *serverStream) sweep(now time.Time, writeTimeout time.Duration) {
	if s.ctx.Expire(now) {
		s.wake()
	}
	if !s.writing.IsZero() && now.Sub(s.writing) >= writeTimeout+time.Duration(s.moved)*(time.Second/slowest) {
		s.stuck = true
		s.c.resetBy(s, Cancel)
	}
}

// sweep does what is to be done for all connections now and then.
func (s *Server) sweep(now time.Time) {
	s.tellDate(now)
	if last, n := s.trimmed.Load(), monotonic(now); n-last > int64(time.Second) && s.trimmed.CompareAndSwap(last, n) {
		s.workers.trim(now)
	}
}
