// Package wire holds what the engines that put bytes on the network have in common. An engine (net/http for now, one
// folder each) reads a request's head, makes an Exchange of it, and hands that to the gateway.
package wire

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Exchange is one HTTP request and its answer. One goroutine uses it at a time; it is not used after the Handler returns.
type Exchange struct {
	HTTP          rpc.HTTP
	Proto         string // "HTTP/1.1", "HTTP/2.0"
	Peer          netip.AddrPort
	Client        netip.Addr // whom a trusted proxy names as the caller, set by the edge; zero: nobody
	ContentLength int64      // -1: not stated
	Start         time.Time
	Deadline      time.Time // of the call, see SetDeadline; zero: none
	// Segments are the raw path's segments, set by the edge; see httprule.AppendSegments.
	Segments []string
	// ID is the request id, set by the edge: every answer carries it.
	ID string
	// Dresser, set by the edge, adds headers to the answer, whichever face writes it; nil: none.
	Dresser Dresser
	// Preflight, set by the edge, says that the request asks leave for another one, which has yet to come: the headers that
	// it will have are known by name only.
	Preflight bool

	ctx      *Context // nil with an engine that has deadlines of its own
	engine   Engine
	bytesIn  int64
	bytesOut int64
	status   int
	answer   rpc.Metadata // backing of HTTP.Answer
	dressed  rpc.Metadata // backing of the headers with those and the Dresser's
}

// Dresser adds headers to answers. It may serve many exchanges at once.
type Dresser interface {
	// AppendHeader appends to header, which has those of the answer to x.
	AppendHeader(header rpc.Metadata, x *Exchange) rpc.Metadata
}

// Engine is what carries an exchange. Streaming and taking the connection over are abilities of their own (Streamer,
// Taker), asked for by the faces that need them.
type Engine interface {
	// Read reads body bytes; io.EOF at the end. Errors: *rpc.Error where the body breaks a limit, else the connection's.
	Read(p []byte) (int, error)
	// Respond writes the whole answer at once; called once. It copies what it needs of header and body.
	Respond(status int, header rpc.Metadata, body []byte) error
}

// Streamer writes an answer piece by piece. One goroutine may write while another reads the body. What is given is copied
// or sent before the call returns; a write waits while the client does not take bytes.
type Streamer interface {
	// WriteHead begins the answer; nothing need go out before Flush, End or a full buffer.
	WriteHead(status int, header rpc.Metadata) error
	Write(p []byte) error
	// Flush sends what was written. One that the exchange's deadline ends leaves the rest for End.
	Flush() error
	// End finishes the answer; trailer may be nil.
	End(trailer rpc.Metadata) error
	// Abort breaks the answer off so that it cannot be taken for a whole one: a reset stream, a cut connection.
	Abort()
}

// ReadStopper ends reading a body from outside. A Streamer whose body may be read in a goroutine of its own has it.
type ReadStopper interface {
	// StopRead makes a Read that waits, and all later ones, return an error. It may be called while another goroutine reads.
	StopRead()
}

// Taker hands the connection over, with the bytes already read from it; the engine forgets it.
type Taker interface {
	TakeOver() (net.Conn, []byte, error)
}

// Handler is what an engine calls for each exchange, in the connection's goroutine. ctx ends when the client has gone.
type Handler interface {
	ServeExchange(ctx context.Context, x *Exchange)
}

// Admitter is a Handler that bounds the connections that bear its exchanges. Looked up once, when a server is made.
type Admitter interface {
	// Admit counts a connection in. false: there are too many, and it is closed at once.
	Admit() bool
	// Left counts one out that Admit has counted in.
	Left()
}

// Reset makes the exchange ready for a request that e carries. ctx is the exchange's own context, the one that the engine
// calls the handler with; nil with an engine that has deadlines of its own.
func (x *Exchange) Reset(e Engine, ctx *Context) {
	segs, header, answer := x.Segments[:0], x.HTTP.Header[:0], x.answer[:0]
	*x = Exchange{engine: e, ctx: ctx, Segments: segs, ContentLength: -1, dressed: x.dressed[:0], answer: answer}
	x.HTTP.Header, x.HTTP.Answer = header, answer
}

// Engine is what carries the exchange, to ask it for an ability.
func (x *Exchange) Engine() Engine { return x.engine }

// Read reads body bytes; io.EOF at the end.
func (x *Exchange) Read(p []byte) (int, error) {
	n, err := x.engine.Read(p)
	x.bytesIn += int64(n)
	return n, err
}

// Respond writes the whole answer. Only the first answer counts: a second call does nothing and returns nil, so that the
// recover of a panic may always try.
func (x *Exchange) Respond(status int, header rpc.Metadata, body []byte) error {
	if x.status != 0 {
		return nil
	}
	x.status = status
	x.bytesOut += int64(len(body))
	return x.engine.Respond(status, x.Dress(header), body)
}

// Dress is the headers of an answer with those of plugins: HTTP.Answer, and what the Dresser adds. Respond and WriteHead do
// so themselves; it is for what answers on a connection that it has taken over. The result is valid until the next one.
func (x *Exchange) Dress(header rpc.Metadata) rpc.Metadata {
	if x.Dresser == nil && len(x.HTTP.Answer) == 0 {
		return header
	}
	x.answer = x.HTTP.Answer
	x.dressed = append(append(x.dressed[:0], header...), x.HTTP.Answer...)
	if x.Dresser != nil {
		x.dressed = x.Dresser.AppendHeader(x.dressed, x)
	}
	return x.dressed
}

// SetDeadline sets when the call has to be over: reading the body ends then, and so does the exchange's context.
func (x *Exchange) SetDeadline(t time.Time) {
	x.Deadline = t
	if x.ctx != nil {
		x.ctx.SetDeadline(t)
	}
}

// StopRead ends reading the body: a Read that waits, and all later ones, return an error. It may be called from another
// goroutine than the one that reads.
func (x *Exchange) StopRead() {
	if s, ok := x.engine.(ReadStopper); ok {
		s.StopRead()
	}
}

// SlowBody lets the request's body come as slowly as it likes: the messages of a stream come when there are any.
func (x *Exchange) SlowBody() {
	if s, ok := x.engine.(interface{ SlowBody() }); ok {
		s.SlowBody()
	}
}

// TakeOver hands the connection over; see Taker. The exchange counts as answered then: with 101, whatever is said on it.
func (x *Exchange) TakeOver() (net.Conn, []byte, error) {
	t, ok := x.engine.(Taker)
	if !ok || x.status != 0 {
		return nil, nil, errNoTake
	}
	nc, read, err := t.TakeOver()
	if err == nil {
		x.status = 101
	}
	return nc, read, err
}

var errNoTake = errors.New("the request is answered already, or its engine cannot hand the connection over")

// WriteHead begins an answer that is written piece by piece; see Streamer, also for the methods that follow. The engine
// must be able to.
func (x *Exchange) WriteHead(status int, header rpc.Metadata) error {
	s, ok := x.engine.(Streamer)
	if !ok || x.status != 0 {
		return errNoStream
	}
	x.status = status
	return s.WriteHead(status, x.Dress(header))
}

// Write appends to the answer.
func (x *Exchange) Write(p []byte) error {
	s, ok := x.engine.(Streamer)
	if !ok {
		return errNoStream
	}
	x.bytesOut += int64(len(p))
	return s.Write(p)
}

// Flush sends what was written so far.
func (x *Exchange) Flush() error {
	s, ok := x.engine.(Streamer)
	if !ok {
		return errNoStream
	}
	return s.Flush()
}

// End finishes the answer.
func (x *Exchange) End(trailer rpc.Metadata) error {
	s, ok := x.engine.(Streamer)
	if !ok {
		return errNoStream
	}
	return s.End(trailer)
}

// Abort breaks an answer off.
func (x *Exchange) Abort() {
	if s, ok := x.engine.(Streamer); ok {
		s.Abort()
	}
}

var errNoStream = errors.New("the answer is written already, or its engine cannot write it in pieces")

// Status is the status that was sent, 0 while none was.
func (x *Exchange) Status() int { return x.status }

// Bytes are the body bytes read from and written to the caller so far.
func (x *Exchange) Bytes() (in, out int64) { return x.bytesIn, x.bytesOut }

// Server is an engine with its listeners. Its methods are safe for concurrent use.
type Server interface {
	// Serve takes connections from l until l is closed or Shutdown is called; it returns nil then.
	Serve(l net.Listener) error
	// Drain makes every answer from now on tell its client to leave the connection.
	Drain()
	// Conns is the number of open connections, Accepted how many there have been.
	Conns() int64
	Accepted() int64
	// Shutdown closes idle connections and waits for calls in flight until ctx ends; then it cuts them.
	Shutdown(ctx context.Context) error
}
