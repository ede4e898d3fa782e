package http2

import (
	"slices"
	"time"
)

const (
	sweepAsleep int32 = iota
	sweepSlow
	sweepFast
)

// arm has the sweeper look often: a call waits. The sweeper is a timer that fires again as long as calls wait, and sleeps
// with the pool.
func (cl *Client) arm() {
	cl.sweepMu.Lock()
	defer cl.sweepMu.Unlock()
	if cl.pace.Load() != sweepFast {
		cl.pace.Store(sweepFast)
		cl.timer.Reset(sweepTick)
	}
}

// sweep looks after all connections.
func (cl *Client) sweep() {
	defer cl.survive()
	now := time.Now()
	cl.mu.Lock()
	conns := *cl.conns.Load()
	all := make([]*clientConn, 0, len(cl.all))
	for c := range cl.all {
		all = append(all, c)
	}
	closed := cl.closed
	cl.mu.Unlock()
	waiting, idle := false, false
	for _, c := range all {
		w, i := cl.look(c, now, !closed && len(conns) > 1 && slices.Index(conns, c) > 0)
		waiting, idle = waiting || w, idle || i
	}
	cl.sweepMu.Lock()
	defer cl.sweepMu.Unlock()
	if !waiting {
		// Who begins a call from here on sees that the sweeper is not fast, and waits for sweepMu; who began before is seen.
		cl.pace.Store(sweepSlow)
		for _, of := range [...][]*clientConn{all, *cl.conns.Load()} { // one may have been asked to leave since, others are new
			for _, c := range of {
				c.w.Lock()
				waiting = waiting || c.streams.n > 0
				c.w.Unlock()
			}
		}
	}
	switch {
	case waiting:
		cl.pace.Store(sweepFast)
		cl.timer.Reset(sweepTick)
	case idle:
		cl.timer.Reset(idleTick)
	default:
		cl.pace.Store(sweepAsleep)
	}
}

// look has one connection looked after; a panic there ends that one.
func (cl *Client) look(c *clientConn, now time.Time, extra bool) (waiting, idle bool) {
	defer func() {
		if r := recover(); r != nil {
			_ = cl.panicked(r)
			_ = c.nc.Close()
		}
	}()
	return c.sweep(now, extra)
}

// sweep looks after one connection. extra: the pool could do without it. waiting: calls wait on it; idle: it is to be
// looked at again although none does.
func (c *clientConn) sweep(now time.Time, extra bool) (waiting, idle bool) {
	c.w.Lock()
	if c.err != nil || !c.ready {
		c.w.Unlock()
		return false, false
	}
	if c.streams.n == 0 {
		c.heardAt, c.pingAt = time.Time{}, time.Time{}
		if c.idleAt.IsZero() {
			c.idleAt = now
		}
		quiet := now.Sub(c.idleAt)
		switch {
		case extra && quiet >= extraIdle:
			c.w.Unlock()
			c.cl.gone(c)
			c.retire()
			return false, false
		case quiet >= bufferIdle && !c.shrunk:
			c.shrunk = true
			c.w.Shrink()
			c.w.Unlock()
			_ = c.w.Conn.SetReadDeadline(past) // the reading goroutine sees to it
			return false, extra
		}
		idle = extra || !c.shrunk
		c.w.Unlock()
		return false, idle
	}
	c.idleAt, c.shrunk = time.Time{}, false
	// Time in which we did not run ourselves, because the machine was busy or stopped us, is none that the peer was silent in:
	// its answer may be there, unread.
	if late := now.Sub(c.sweptAt) - 2*sweepTick; late > 0 && !c.pingAt.IsZero() {
		c.pingAt = c.pingAt.Add(late)
	}
	c.sweptAt = now
	if n := c.r.reads.Load(); n != c.heard || c.heardAt.IsZero() {
		c.heard, c.heardAt, c.pingAt = n, now, time.Time{}
	}
	switch {
	case !c.pingAt.IsZero() && now.Sub(c.pingAt) >= pingWait:
		c.w.Unlock()
		c.abort(errSilent)
		return false, false
	case c.pingAt.IsZero() && !c.pingSpent && now.Sub(c.heardAt) >= pingAfter:
		c.pingAt, c.pingSpent = now, true
		c.w.Batch = appendPing(c.w.Batch, false, pingData)
		c.w.UnlockKick()
		return true, false
	}
	c.w.Unlock()
	return true, false
}

var (
	pingData = []byte("causeway")
	past     = time.Unix(1, 0)
)
