package framed

import (
	"cmp"
	"context"
)

// Stream is a stream of a Client: frames with one number, both ways. It is used for one stream. One goroutine may Send at a
// time; everything else may be called by any.
type Stream struct {
	waiter
	entry

	to   Sink
	req  Frame
	conn *clientConn
	gone bool // guarded by the connection's lock: nothing more is sent or taken
}

// Open begins a stream with its first frame. Frames for it may come, and go to the sink, before Open returns. ctx counts
// until then: what ends the stream afterwards is the caller's business. The error is a *Fault.
func (cl *Client) Open(ctx context.Context, s *Stream, to Sink, first Frame) error {
	if err := ctx.Err(); err != nil {
		return &Fault{Kind: Ended, Cause: err}
	}
	s.to, s.req = to, first
	s.waiter.init(s)
	w := s.watch(ctx)
	_, fault := cl.start(ctx, &s.waiter)
	w.forget() // a late hint does no harm: a stream is not used again
	s.req = nil
	if fault != nil {
		return fault
	}
	return nil
}

// ID is the stream's number. It counts from the moment that the first frame is appended.
func (s *Stream) ID() uint32 { return s.entry.id }

// begin implements opener.
func (s *Stream) begin(conn *clientConn) {
	s.id = conn.streams.number()
	s.conn = conn
	s.entry.stream = s
	conn.w.Batch = s.req.AppendFrame(conn.w.Batch, s.id)
	conn.streams.put(&s.entry)
}

// Send sends a frame, and waits while the connection has no room. The error is a *Fault: the connection has ended, or the
// stream was closed.
func (s *Stream) Send(r Frame) error {
	for {
		sent, fault := s.send(r)
		if sent {
			return nil
		}
		if fault != nil {
			return fault
		}
		<-s.sema
	}
}

func (s *Stream) send(r Frame) (bool, *Fault) {
	c := s.conn
	c.w.Lock()
	appended := false
	defer func() {
		if !appended {
			c.w.Unlock()
		}
	}()
	switch {
	case c.err != nil || c.w.Err != nil:
		return false, &Fault{Kind: Broken, Sent: true, Cause: cmp.Or(c.err, c.w.Err)}
	case s.gone:
		return false, &Fault{Kind: Ended, Sent: true, Cause: errGone}
	case !c.w.Room():
		c.blocked = append(c.blocked, s)
		return false, nil
	}
	c.w.Batch = r.AppendFrame(c.w.Batch, s.id)
	appended = true
	c.w.UnlockFlush()
	return true, nil
}

// SendNow sends a frame without waiting, while the stream is open; also from a Sink. A peer that has us speak and does not
// read loses the connection.
func (s *Stream) SendNow(r Frame) {
	c := s.conn
	if !s.now(r) {
		_ = c.nc.Close() // its reading goroutine sees to the rest
		return
	}
	c.w.Lock()
	c.w.UnlockKick()
}

func (s *Stream) now(r Frame) bool {
	c := s.conn
	c.w.Lock()
	defer c.w.Unlock()
	if s.gone || c.err != nil || c.w.Err != nil {
		return true
	}
	c.w.Batch = r.AppendFrame(c.w.Batch, s.id)
	return !c.w.Flooded()
}

// Close ends the stream on our side: frames with its number are dropped, and a Send that waits returns. It may be called
// twice.
func (s *Stream) Close() {
	c := s.conn
	if c == nil {
		return
	}
	c.w.Lock()
	if s.gone {
		c.w.Unlock()
		return
	}
	s.gone = true
	c.streams.remove(&s.entry)
	c.count()
	closing := c.closing
	c.w.Unlock()
	s.signal()
	c.cl.released(1)
	if closing {
		c.leave()
	}
}
