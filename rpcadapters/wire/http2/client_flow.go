package http2

import (
	"context"
	"io"
	"sync/atomic"
)

// Stream is one streaming exchange. One goroutine may send while another receives; Cancel and Fault may be called by any.
// Whoever opened it reads to the end or cancels it, else it lasts as long as its context.
type Stream struct {
	s    stream
	conn *clientConn
	stop func() bool // of the context's function

	opened  atomic.Bool   // conn is set
	sending chan struct{} // like stream.sema, for the sender

	// Guarded by the connection's lock.
	in  []byte // of the body, what is not yet taken: at most a stream's window
	off int
}

// keepIn is how much room is kept for a consumer that keeps up.
const keepIn = 4 << 10

// append takes a piece of the body. With the connection's lock held.
func (f *Stream) append(p []byte) []byte {
	if f.off > 0 && len(f.in)+len(p) > cap(f.in) {
		n := copy(f.in, f.in[f.off:])
		f.in, f.off = f.in[:n], 0
	}
	return append(f.in, p...)
}

func (f *Stream) wake() {
	f.s.signal()
	f.wakeSender()
}

func (f *Stream) wakeSender() {
	select {
	case f.sending <- struct{}{}:
	default:
	}
}

// Open sends the head of a request whose body will follow. It waits for a connection, not for an answer. head is encoded
// as Call.Head is, and not held. The error is a *Fault.
func (cl *Client) Open(ctx context.Context, head []byte, headSize int) (*Stream, error) {
	f := &Stream{sending: make(chan struct{}, 1)}
	f.s.sema = make(chan struct{}, 1)
	f.s.flow = f
	f.stop = context.AfterFunc(ctx, func() { f.end(context.Cause(ctx)) })
	c, fault := cl.start(ctx, &f.s, head, headSize)
	if fault != nil {
		f.stop()
		return nil, fault
	}
	f.conn = c
	f.opened.Store(true)
	if f.s.ended.Load() {
		f.end(context.Cause(ctx)) // its context ended before there was a connection to be told
	}
	return f, nil
}

// end ends the exchange from our side, if it has not ended.
func (f *Stream) end(cause error) {
	f.s.ended.Store(true)
	if f.opened.Load() {
		f.conn.cancel(&f.s, &Fault{Kind: Ended, Cause: cause})
	}
	f.wake()
}

// Send sends a piece of the request's body, prefix and data together, and waits while the peer does not take it. It holds
// nothing of them afterwards. io.EOF: the peer has ended the answer and takes no more; else the error is a *Fault.
func (f *Stream) Send(prefix, data []byte) error { return f.write(prefix, data, false) }

// CloseSend ends the request's body.
func (f *Stream) CloseSend() error { return f.write(nil, nil, true) }

func (f *Stream) write(prefix, data []byte, last bool) error {
	s := &f.s
	c := f.conn
	c.w.Lock()
	if s.finished.Load() || s.sentEnd {
		c.w.Unlock()
		return f.sendError()
	}
	s.prefix, s.body, s.last = prefix, data, last
	for {
		c.sendBody(s)
		if done := len(s.prefix)+len(s.body) == 0 && (!last || s.sentEnd); done {
			s.prefix, s.body = nil, nil
			c.w.UnlockFlush()
			return nil
		}
		c.w.UnlockFlush()
		<-f.sending
		c.w.Lock()
		if s.finished.Load() {
			s.prefix, s.body = nil, nil
			c.w.Unlock()
			return f.sendError()
		}
	}
}

func (f *Stream) sendError() error {
	if f.s.finished.Load() && f.s.fault != nil {
		return f.s.fault
	}
	return io.EOF
}

// Header waits for the head of the answer. The error is a *Fault.
func (f *Stream) Header() (*Head, error) {
	for {
		f.conn.w.Lock()
		h, finished := f.s.head, f.s.finished.Load() // together: an answer that is a head alone comes and ends at once
		f.conn.w.Unlock()
		switch {
		case h != nil:
			return h, nil
		case finished:
			return nil, f.s.fault
		}
		<-f.s.sema
	}
}

// Trailer are the trailers; nil before the end of the answer, or when there were none.
func (f *Stream) Trailer() *Head {
	if !f.s.finished.Load() {
		return nil
	}
	return f.s.trailer
}

// Received is how many bytes of the answer's body came; it is whole after the end of the answer.
func (f *Stream) Received() int64 {
	f.conn.w.Lock()
	defer f.conn.w.Unlock()
	return f.s.received
}

// Peek copies from the beginning of what Read would give without waiting, and tells how much that is, and whether the
// answer is over.
func (f *Stream) Peek(p []byte) (n, buffered int, over bool) {
	f.conn.w.Lock()
	defer f.conn.w.Unlock()
	return copy(p, f.in[f.off:]), len(f.in) - f.off, f.s.finished.Load()
}

// Read reads the answer's body. io.EOF after its end, whatever the trailers say; else the error is a *Fault, which comes
// after the bytes that came before it.
func (f *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c := f.conn
	for {
		c.w.Lock()
		finished := f.s.finished.Load()
		if n := copy(p, f.in[f.off:]); n > 0 {
			if f.off += n; f.off == len(f.in) {
				if f.in, f.off = f.in[:0], 0; cap(f.in) > keepIn {
					f.in = nil
				}
			}
			if !finished {
				if up := f.s.recv.consume(n); up > 0 {
					c.w.Batch = appendWindowUpdate(c.w.Batch, f.s.id, up)
				}
			}
			c.w.UnlockFlush()
			return n, nil
		}
		c.w.Unlock()
		if finished {
			if f.s.fault != nil {
				return 0, f.s.fault
			}
			return 0, io.EOF
		}
		<-f.s.sema
	}
}

// Cancel ends the exchange if it has not ended: the peer is told with RST_STREAM, and who sends or reads gets a *Fault.
// What was not read is let go.
func (f *Stream) Cancel() {
	f.stop()
	f.end(context.Canceled)
	f.conn.w.Lock()
	f.in, f.off = nil, 0
	f.conn.w.Unlock()
}

// Ended lets go of the context once the answer has been read to its end; Cancel does so too.
func (f *Stream) Ended() { f.stop() }
