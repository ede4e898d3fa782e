package http2

import (
	"crypto/tls"
	"errors"
	"net"
	"time"
)

const (
	// linger is how long a connection that we have ended may take to be closed by the client.
	linger = time.Second
	// lingerBytes is how much of what the client still sends is read then, so that it sees our last words and not a reset.
	lingerBytes = 16 << 20
	// roundTrip is how long we wait, between saying that we will leave and leaving, for the client to have heard it.
	roundTrip = time.Second
	// restAfter is how long a connection is idle before its buffers are let go.
	restAfter = time.Second
	// lookAgain is how often an idle connection is looked at, at least.
	lookAgain = time.Second
)

// epoch is what monotonic counts from.
var epoch = time.Now()

// monotonic is an instant as nanoseconds, whatever happens to the wall clock.
func monotonic(t time.Time) int64 { return int64(t.Sub(epoch)) }

// leaving is how far a connection is with being ended politely (RFC 9113 section 6.8): first the client is told that
// we will leave, without a last stream; when it has heard that, what the last stream is; when the last stream has ended,
// the connection does.
type leaving struct {
	state uint8
	last  uint32    // the highest stream that is taken up, once told
	since time.Time // of asked
}

const (
	staying uint8 = iota
	asked
	told
)

var leavePing = [8]byte{'l', 'e', 'a', 'v', 'i', 'n', 'g'}

// refuses tells whether a new stream comes too late.
func (l *leaving) refuses(id uint32) bool { return l.state == told && id > l.last }

// ask says that we will leave. With w locked.
func (l *leaving) ask(c *serverConn, now time.Time) {
	if l.state != staying || c.over.Load() {
		return
	}
	l.state, l.since = asked, now
	c.parting.Store(true)
	c.lookBy(now.Add(roundTrip))
	if c.hello {
		l.say(c)
	}
}

// say tells the client; our SETTINGS have to go first, so they may do it. With w locked.
func (l *leaving) say(c *serverConn) {
	if l.state == asked {
		c.w.Batch = appendGoAway(c.w.Batch, maxStreamID, NoError, "")
		c.w.Batch = appendPing(c.w.Batch, false, leavePing[:])
	}
}

// pong takes an answer to a PING: to ours, it says that the client has heard. With w locked.
func (l *leaving) pong(c *serverConn, data []byte) {
	if l.state == asked && [8]byte(data) == leavePing {
		l.tell(c)
	}
}

// tell says which stream is the last. With w locked.
func (l *leaving) tell(c *serverConn) {
	l.state, l.last = told, c.lastID
	c.w.Batch = appendGoAway(c.w.Batch, l.last, NoError, "")
	l.empty(c)
}

// empty ends the connection when the last stream has ended. With w locked.
func (l *leaving) empty(c *serverConn) {
	if l.state == told && c.streams.n == 0 {
		c.conclude(time.Now())
	}
}

// conclude has our side of the connection closed when all is written; the client closes the other. With w locked, by
// whoever then has the batch written.
func (c *serverConn) conclude(now time.Time) {
	if c.over.Swap(true) {
		return
	}
	c.w.Ending, c.w.Half = true, true
	c.cutAt = now.Add(linger)
	c.lookBy(c.cutAt)
}

// expel ends the connection for a fault. With w locked, by whoever then has the batch written.
func (c *serverConn) expel(fault *ConnError, now time.Time) {
	if c.over.Load() {
		return
	}
	c.dropAll()
	if c.w.Err == nil {
		c.w.Batch = appendGoAway(c.w.Batch, c.lastID, fault.Code, fault.Reason)
	}
	c.conclude(now)
}

// dropAll cancels all calls. With w locked.
func (c *serverConn) dropAll() {
	c.streams.each(func(s *serverStream) bool {
		c.drop(s)
		return true
	})
}

// finish ends the connection after reading has, and waits for the calls.
func (c *serverConn) finish(err error) {
	var fault *ConnError
	c.w.Lock()
	ours := c.over.Load()
	if errors.As(err, &fault) && !ours {
		c.expel(fault, time.Now())
		ours = true
	}
	c.over.Store(true)
	c.dropAll()
	c.w.UnlockKick()
	if ours {
		c.discard()
	}
	cut(c.conn)
	c.w.Lock()
	if c.w.Err == nil {
		c.w.Err = net.ErrClosed
	}
	for c.running > 0 {
		c.calls.Wait()
	}
	c.w.Unlock()
}

// discard reads what the client still sends until it closes its side.
func (c *serverConn) discard() {
	if c.conn.SetReadDeadline(time.Now().Add(linger)) != nil {
		return
	}
	b := make([]byte, 32<<10)
	for n := 0; n < lingerBytes; {
		m, err := c.conn.Read(b)
		if err != nil {
			return
		}
		n += m
	}
}

// cut closes a connection without a word, for TLS would have one and wait for it.
func cut(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	_ = c.Close() // it is over either way
}

// lost is called by the writer when the connection cannot be written to.
func (c *serverConn) lost(error) { c.Abort() }

// Abort implements wire.Conn.
func (c *serverConn) Abort() {
	c.w.Lock()
	c.over.Store(true)
	c.dropAll()
	c.w.Unlock()
	cut(c.conn)
}

// Gone implements wire.Conn.
func (c *serverConn) Gone() {
	c.w.Lock()
	defer c.w.Unlock()
	c.dropAll()
}

// Drain implements wire.Conn: GOAWAY in two steps.
func (c *serverConn) Drain() {
	c.w.Lock()
	c.leave.ask(c, time.Now())
	c.w.UnlockKick()
}

// Idle implements wire.Conn. While the client is being told to leave a request may be on its way, so the connection is not
// idle until it has ended, by itself.
func (c *serverConn) Idle() bool { return c.active.Load() == 0 && !c.parting.Load() && !c.midHead() }

// spawn has a worker write the batch.
func (c *serverConn) spawn() { c.server.workers.run(c) }

// run writes the batch. It is a worker's task.
func (c *serverConn) run() { c.w.Drain() }
