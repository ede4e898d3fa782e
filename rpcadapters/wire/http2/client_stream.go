package http2

import (
	"context"
	"sync/atomic"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// stream is one stream of a client's connection. What is not atomic is guarded by the connection's lock until the stream is
// finished, and belongs to its user afterwards. Signals are hints: who waits looks again, so a late one does no harm.
type stream struct {
	id   uint32
	next *stream // in its bucket of the connection's table
	at   int64   // where its HEADERS begin in what the connection has sent

	send    sendWindow
	recv    recvWindow
	prefix  []byte // of the body, what is left to send
	body    []byte
	last    bool // the body given so far is the whole body
	sentEnd bool
	waiting bool // for room to send

	head          *Head
	trailer       *Head
	informational int
	received      int64 // body bytes of the answer

	data *rpc.Buffer // of a unary call: the body so far
	max  int         // bytes of it
	flow *Stream     // of a streaming call: who takes the body

	fault    *Fault
	finished atomic.Bool // nothing more will come
	ended    atomic.Bool // the context has
	sema     chan struct{}
	turn     bool // called up from the queue of those who wait for a connection; guarded by the pool's lock
	queued   bool // in that queue; the same
	failed   *Fault
}

func (s *stream) signal() {
	select {
	case s.sema <- struct{}{}:
	default:
	}
}

// ContextEnded implements wire.Waiter.
func (s *stream) ContextEnded() {
	s.ended.Store(true)
	s.signal()
}

// Call is one unary exchange: what goes out, and room for what comes back. It is taken from a Client and put back.
type Call struct {
	// Head is the encoded header block, see AppendField, and HeadSize its size as a header list, see FieldSize.
	Head     []byte
	HeadSize int
	// Prefix and Body together are the request's body. They are only read, and not after Unary has returned.
	Prefix [5]byte
	Body   []byte
	// MaxAnswer is how many bytes the answer's body may have.
	MaxAnswer int

	stream  stream
	tainted bool // a function of its context may still run
}

// Answer is the head of the answer; nil when none came.
func (c *Call) Answer() *Head { return c.stream.head }

// Trailer are the answer's trailers; nil when there were none.
func (c *Call) Trailer() *Head { return c.stream.trailer }

// Data is the answer's body; nil when it is empty. The call owns it.
func (c *Call) Data() []byte {
	if c.stream.data == nil {
		return nil
	}
	return c.stream.data.B
}

// TakeData hands the body's buffer to the caller.
func (c *Call) TakeData() *rpc.Buffer {
	b := c.stream.data
	c.stream.data = nil
	return b
}

// Get returns an empty call.
func (cl *Client) Get() *Call {
	c, _ := cl.calls.Get().(*Call)
	if c == nil {
		c = &Call{}
		c.stream.sema = make(chan struct{}, 1)
	}
	c.Head, c.HeadSize = c.Head[:0], 0
	return c
}

// Put takes a call back, with what is left of its answer.
func (cl *Client) Put(c *Call) {
	s := &c.stream
	if s.data != nil {
		s.data.Free()
	}
	if c.tainted || cap(c.Head) > maxHeaderBlock {
		return
	}
	c.Body = nil
	s.reset()
	s.ended.Store(false)
	cl.calls.Put(c)
}

// reset makes the stream ready for another try. Whether its context has ended stays as it is.
func (s *stream) reset() {
	s.id, s.next, s.at = 0, nil, 0
	s.prefix, s.body, s.last, s.sentEnd, s.waiting = nil, nil, false, false, false
	s.head, s.trailer, s.informational, s.received = nil, nil, 0, 0
	s.data, s.fault, s.failed = nil, nil, nil
	s.turn, s.queued = false, false
	s.finished.Store(false)
}

// tries is how often a call is made when the peer said of the connection that it has not looked at it: a peer that is
// being stopped in an orderly way costs no call, and one that answers everything with GOAWAY no endless loop.
const tries = 3

// Unary sends the request and waits for the whole answer. It returns nil when a head, a body and their end have come,
// whatever they say, else a *Fault; the answer may then be there in part. It holds nothing of ctx, Head or Body afterwards.
func (cl *Client) Unary(ctx context.Context, c *Call) error {
	s := &c.stream
	w := awaiter(ctx)
	switch {
	case w != nil && w.Await(s):
	case ctx.Done() != nil:
		w = nil
		stop := context.AfterFunc(ctx, s.ContextEnded)
		defer func() {
			if !stop() {
				c.tainted = true
			}
		}()
	default:
		w = nil
	}
	var fault *Fault
	for try := 1; ; try++ {
		fault = cl.once(ctx, c)
		if fault == nil || fault.Kind != Refused || fault.Code != NoError || try == tries || s.ended.Load() {
			break
		}
		if s.data != nil {
			s.data.Free()
		}
		s.reset()
	}
	if w != nil {
		w.Forget()
	}
	if fault != nil {
		return fault
	}
	return nil
}

func (cl *Client) once(ctx context.Context, c *Call) *Fault {
	s := &c.stream
	s.prefix, s.body, s.last, s.max = c.Prefix[:], c.Body, true, c.MaxAnswer
	conn, fault := cl.start(ctx, s, c.Head, c.HeadSize)
	if fault != nil {
		return fault
	}
	for {
		<-s.sema
		if s.finished.Load() {
			break
		}
		if s.ended.Load() {
			conn.cancel(s, &Fault{Kind: Ended, Cause: context.Cause(ctx)})
			break
		}
		conn.w.Lock()
		if !s.finished.Load() {
			conn.sendBody(s)
		}
		conn.w.UnlockFlush()
	}
	s.prefix, s.body = nil, nil
	return s.fault
}
