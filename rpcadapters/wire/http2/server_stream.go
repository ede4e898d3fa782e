package http2

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

const (
	// answerBuffer is how much of an answer written in pieces is collected before it goes out.
	answerBuffer = 16 << 10
	// answerBurst is how much of one answer is put into the batch at a time, so that others get their share of it.
	answerBurst = 64 << 10
	// What a stream keeps of its buffers for the next request.
	keptBody  = 16 << 10
	keptBlock = 2 << 10
)

var (
	errStreamGone = errors.New("the client has cancelled the stream or gone")
	errStuck      = errors.New("the client takes nothing of the answer")
	errEnded      = errors.New("the answer has ended")
	errStopped    = errors.New("reading the body was stopped")
	errTorn       = errors.New("a piece of the answer was cut off by the deadline: it cannot be finished")
)

// serverStream is one stream: it carries the exchange of its request. It is used again once its handler has returned.
type serverStream struct {
	x   wire.Exchange
	ctx *wire.Context

	// Buffers, kept from one request to the next.
	block   []byte // the handler's: the answer's encoded head
	trailer []byte // its encoded trailers
	out     []byte // its body as far as it is collected
	body    []byte // received; guarded by the connection's lock

	streamState
}

// streamState is what a stream is of one request.
type streamState struct {
	c *serverConn

	// Set before the call begins.
	id     uint32
	next   *serverStream // in its bucket of the connection's open streams
	expect bool          // the client waits for 100 Continue

	// The handler's.
	headDue bool // the head has not been put into the batch
	noBody  bool // the answer has none, whatever is written: HEAD, 204, 304
	torn    bool // a piece was cut off in the middle
	lost    bool // a piece did not go out

	// Guarded by the connection's lock.
	recv     recvWindow
	send     sendWindow
	off      int   // of body, read
	got      int64 // bytes of body in all
	held     int64 // bytes counted against the server's memory for the head
	ended    bool  // the client has sent all
	closed   bool  // we have sent all
	reset    bool  // the stream is over by RST_STREAM or with the connection
	queued   bool  // it waits for a place among the running calls
	stuck    bool  // it was reset because the client took nothing
	stopped  bool  // nobody wants to read on
	headSent bool
	waiters  int       // goroutines that wait for cond
	cond     sync.Cond // something has changed
	writing  time.Time // since when a writer waits for the client to take something; zero: none does
	moved    int       // bytes that the client took since
}

func newServerStream() *serverStream { return &serverStream{ctx: new(wire.Context)} }

// takeStream makes a stream ready for a request on c.
func (s *Server) takeStream(c *serverConn) *serverStream {
	st := s.streams.Get().(*serverStream)
	st.c = c
	st.cond.L = &c.w
	st.ctx.Reset(context.Background())
	st.x.Reset(st, st.ctx)
	return st
}

// release gives a stream back that nobody uses any more. With w locked.
func (c *serverConn) release(s *serverStream) {
	c.server.memory.Add(-s.held - int64(len(s.body)-s.off))
	if !s.ctx.Release() {
		s.ctx = new(wire.Context)
	}
	poison(s.body)
	poison(s.out)
	poison(s.block)
	poison(s.trailer)
	clear(s.x.HTTP.Header[:cap(s.x.HTTP.Header)]) // its strings may be large
	s.body, s.out = kept(s.body, keptBody), kept(s.out, keptBody)
	s.block, s.trailer = kept(s.block, keptBlock), kept(s.trailer, keptBlock)
	s.streamState = streamState{}
	c.server.streams.Put(s)
}

func kept(b []byte, most int) []byte {
	if cap(b) > most {
		return nil
	}
	return b[:0]
}

// run runs the stream's call. It is a worker's task.
func (s *serverStream) run() {
	defer s.left()
	if s.ctx.Err() == nil { // a call that was cancelled before it began costs no more
		s.c.handler.ServeExchange(s.ctx, &s.x)
	}
}

// left ends the stream when the handler has returned, or panicked.
func (s *serverStream) left() {
	c := s.c
	panicked := recover() != nil
	if panicked {
		c.server.panics.Add(1)
	}
	c.w.Lock()
	if !s.reset {
		switch {
		case !s.closed:
			c.resetBy(s, InternalError) // an answer that was not finished must not look like one
		case !s.ended:
			c.resetBy(s, NoError) // nobody wants the rest of the body
		}
	}
	c.returned()
	if !panicked {
		c.release(s)
	} else {
		c.server.memory.Add(-s.held - int64(len(s.body)-s.off))
	}
	c.w.UnlockFlush()
}

// resetBy resets an open stream of our own accord. With w locked.
func (c *serverConn) resetBy(s *serverStream, code ErrCode) {
	c.ids.reset(s.id)
	c.onItsWay(s.recv.left)
	c.w.Batch = appendRSTStream(c.w.Batch, s.id, code)
	s.reset = true
	s.ctx.Cancel()
	s.wake()
	c.remove(s)
}

// wake wakes who waits for the stream. With w locked.
func (s *serverStream) wake() {
	if s.waiters > 0 {
		s.cond.Broadcast()
	}
}

func (s *serverStream) wait() {
	s.waiters++
	s.cond.Wait()
	s.waiters--
}

// receive takes DATA. The code is what the stream is to be reset with. With w locked.
func (s *serverStream) receive(f *inFrame) ErrCode {
	if !s.recv.receive(f.length) {
		return FlowControlError
	}
	n := len(f.payload)
	if s.got += int64(n); s.x.ContentLength >= 0 && s.got > s.x.ContentLength {
		return ProtocolError
	}
	if f.has(flagEndStream) {
		if !s.endBody() {
			return ProtocolError
		}
	} else if pad := f.length - n; pad > 0 {
		s.giveBack(pad)
	}
	if n == 0 || s.closed {
		return NoError // nobody reads a body after its answer
	}
	memory := &s.c.server.memory
	if memory.Add(int64(n)) > s.c.server.limits.Memory && s.off < len(s.body) {
		memory.Add(int64(-n))
		return EnhanceYourCalm
	}
	if s.off > 0 && len(s.body)+n > cap(s.body) {
		s.body = s.body[:copy(s.body, s.body[s.off:])]
		s.off = 0
	}
	s.body = append(s.body, f.payload...)
	s.wake()
	return NoError
}

// giveBack returns credit for n bytes that were consumed. With w locked.
func (s *serverStream) giveBack(n int) {
	if s.ended || s.reset {
		return
	}
	if inc := s.recv.consume(n); inc > 0 {
		s.c.w.Batch = appendWindowUpdate(s.c.w.Batch, s.id, inc)
	}
}

// endBody notes that the body is whole; false: it is not as long as it said. With w locked.
func (s *serverStream) endBody() bool {
	s.ended = true
	if s.x.ContentLength >= 0 && s.got != s.x.ContentLength {
		return false
	}
	s.wake()
	if s.closed {
		s.c.remove(s)
	}
	return true
}

// Read implements wire.Engine. The last bytes come with io.EOF where the end is known.
func (s *serverStream) Read(p []byte) (int, error) {
	c := s.c
	c.w.Lock()
	for {
		if s.reset {
			c.w.Unlock()
			return 0, s.gone()
		}
		if s.stopped {
			c.w.Unlock()
			return 0, errStopped
		}
		if err := s.ctx.Err(); err != nil {
			c.w.Unlock()
			return 0, err
		}
		if s.off < len(s.body) {
			n := copy(p, s.body[s.off:])
			if s.off += n; s.off == len(s.body) {
				s.body, s.off = s.body[:0], 0
			}
			c.server.memory.Add(int64(-n))
			s.giveBack(n)
			var end error
			if s.ended && s.off == len(s.body) {
				end = io.EOF // who reads need not ask again
			}
			c.w.UnlockFlush()
			return n, end
		}
		if s.ended {
			c.w.Unlock()
			return 0, io.EOF
		}
		if s.expect && !s.headSent {
			s.expect = false
			c.w.Batch = appendHeaders(c.w.Batch, s.id, false, continueBlock, c.peer.frameSize)
			c.w.UnlockFlush()
			c.w.Lock()
			continue
		}
		s.wait()
	}
}

// StopRead implements wire.ReadStopper.
func (s *serverStream) StopRead() {
	s.c.w.Lock()
	defer s.c.w.Unlock()
	s.stopped = true
	s.wake()
}

// continueBlock is the head of 100 Continue.
var continueBlock = AppendField(nil, ":status", "100")

// gone is the error of a stream that is over.
func (s *serverStream) gone() error {
	if s.stuck {
		return errStuck
	}
	if err := s.ctx.Err(); err != nil {
		return err
	}
	return errStreamGone
}

// Respond implements wire.Engine.
func (s *serverStream) Respond(status int, header rpc.Metadata, body []byte) error {
	s.begin(status, header, len(body))
	if s.noBody {
		body = nil
	}
	return s.push(body, true, false)
}

// WriteHead implements wire.Streamer.
func (s *serverStream) WriteHead(status int, header rpc.Metadata) error {
	s.begin(status, header, -1)
	return nil
}

// Write implements wire.Streamer.
func (s *serverStream) Write(p []byte) error {
	if s.noBody {
		return nil
	}
	if len(s.out)+len(p) <= answerBuffer {
		s.out = append(s.out, p...)
		return nil
	}
	return s.push(p, false, true)
}

// Flush implements wire.Streamer.
func (s *serverStream) Flush() error { return s.push(nil, false, true) }

// End implements wire.Streamer.
func (s *serverStream) End(trailer rpc.Metadata) error {
	if s.torn || s.lost && len(trailer) == 0 { // trailers may say that it is not all
		s.Abort()
		return errTorn
	}
	s.trailer = s.trailer[:0]
	if !s.noBody { // else nothing can follow the head
		s.trailer = appendFields(s.trailer, trailer, true)
	}
	return s.push(nil, true, true)
}

// Abort implements wire.Streamer.
func (s *serverStream) Abort() {
	c := s.c
	c.w.Lock()
	if !s.reset && !s.closed {
		c.resetBy(s, InternalError)
	}
	c.w.UnlockFlush()
}

// begin encodes the head of the answer. length is that of the whole body, -1: it comes in pieces.
func (s *serverStream) begin(status int, header rpc.Metadata, length int) {
	if status < 200 || status >= len(statuses) {
		status = 500 // not one that ends an exchange
	}
	bodiless := status == 204 || status == 304
	s.noBody = bodiless || s.x.HTTP.Method == "HEAD"
	b := append(s.block[:0], statuses[status]...)
	if !header.Has("date") {
		b = append(b, s.c.server.date.Load().field...)
	}
	b = appendFields(b, header, length >= 0)
	if length >= 0 && !bodiless {
		var digits [20]byte
		b = AppendNamed(b, IndexContentLength, string(strconv.AppendInt(digits[:0], int64(length), 10)))
	}
	s.block, s.headDue = b, true
}

// appendFields encodes the fields of an answer, without those that are the connection's or that HTTP/2 would not take.
func appendFields(b []byte, fields rpc.Metadata, lengthKnown bool) []byte {
	for i := range fields {
		k, v := fields[i].Key, fields[i].Value
		if !validName(k) || connectionHeader(k, v) || lengthKnown && k == "content-length" {
			continue
		}
		if !validValue(v) {
			v = strings.Trim(strings.Map(printable, v), " \t")
		}
		if k == "content-type" {
			b = AppendNamed(b, IndexContentType, v)
		} else {
			b = AppendField(b, k, v)
		}
	}
	return b
}

// printable makes a space of what a header value cannot have.
func printable(r rune) rune {
	if r < ' ' && r != '\t' || r == 0x7f {
		return ' '
	}
	return r
}

// push puts what is due of the answer and p behind it into the batch and has it written. It waits for the client's windows
// and for room in the batch. With end the answer is finished. pieces: it is written in pieces, and a deadline that passes
// ends the wait; a whole answer is what says so, and goes out all the same.
func (s *serverStream) push(p []byte, end, pieces bool) error {
	c := s.c
	out, whole := s.out, len(p)
	c.w.Lock()
	for burst := 0; ; {
		err := s.writable(pieces && !end)
		if err != nil {
			s.out = s.out[:copy(s.out, out)] // the rest is still due: the end of the answer may go out behind it
			s.torn = s.torn || len(p) < whole
			s.lost = s.lost || len(p) > 0
			s.writing = time.Time{}
			c.w.UnlockFlush()
			return err
		}
		moved := 0
		if c.w.Room() {
			moved = s.fill(&out, &p, end)
		}
		if len(out)+len(p) == 0 && !s.headDue {
			break
		}
		if burst += moved; moved > 0 && burst < answerBurst {
			continue
		}
		if burst > 0 {
			s.moved += burst
			burst = 0
			c.w.UnlockFlush() // what was appended, before waiting
			c.w.Lock()
			continue
		}
		if s.writing.IsZero() {
			s.writing, s.moved = time.Now(), 0
		}
		s.wait()
	}
	s.out = s.out[:0]
	s.writing = time.Time{}
	if end && !s.closed {
		s.finish()
	}
	c.w.UnlockFlush()
	return nil
}

// writable tells why nothing can be written any more. With w locked.
func (s *serverStream) writable(timed bool) error {
	switch {
	case s.reset:
		return s.gone()
	case s.closed:
		return errEnded
	case s.c.w.Err != nil:
		return s.c.w.Err
	case timed:
		return s.ctx.Err()
	}
	return nil
}

// fill appends the head if it is due, and DATA as far as the windows let it, one frame at most. It takes what it appends
// off out and p, and returns how much it did. With w locked.
func (s *serverStream) fill(out, p *[]byte, end bool) int {
	c := s.c
	n := len(*out) + len(*p)
	moved := 0
	if s.headDue {
		last := end && n == 0 && len(s.trailer) == 0
		c.w.Batch = appendHeaders(c.w.Batch, s.id, last, s.block, c.peer.frameSize)
		s.headDue, s.headSent = false, true
		moved = len(s.block)
		c.flood.earn(answerCredit)
		if last {
			s.close()
		}
	}
	k := min(n, int(s.send), int(c.send), c.peer.frameSize, sendFrameSize)
	if k <= 0 {
		return moved
	}
	first := (*out)[:min(k, len(*out))]
	second := (*p)[:k-len(first)]
	last := end && k == n && len(s.trailer) == 0
	c.w.Batch = appendData(c.w.Batch, s.id, last, first, second)
	*out, *p = (*out)[len(first):], (*p)[len(second):]
	s.send -= sendWindow(k)
	c.send -= sendWindow(k)
	c.flood.earn(answerCredit + k/creditBytes)
	if last {
		s.close()
	}
	return moved + k
}

// finish sends the end of the answer. With w locked.
func (s *serverStream) finish() {
	c := s.c
	if len(s.trailer) > 0 {
		c.w.Batch = appendHeaders(c.w.Batch, s.id, true, s.trailer, c.peer.frameSize)
	} else {
		c.w.Batch = appendData(c.w.Batch, s.id, true, nil, nil)
	}
	s.close()
}

// close notes that the answer is whole. With w locked.
func (s *serverStream) close() {
	s.closed = true
	if s.ended {
		s.c.remove(s)
	}
}
