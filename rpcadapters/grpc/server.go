package grpc

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/envelope"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Face serves callers that speak gRPC over HTTP/2. It is safe for concurrent use.
type Face struct {
	calls sync.Pool // of *serverCall
}

var _ rpcadapters.Named = (*Face)(nil)

// NewFace makes the face.
func NewFace() *Face {
	f := &Face{}
	f.calls.New = func() any { return &serverCall{} }
	return f
}

// Name is "grpc".
func (f *Face) Name() string { return "grpc" }

// Named tells that requests name their method by the path.
func (f *Face) Named() {}

const baseType = "application/grpc"

// Match takes what says that it is gRPC, also in a form that is then refused.
func (f *Face) Match(x *wire.Exchange) bool {
	t := x.HTTP.Header.Get("content-type")
	if len(t) < len(baseType) {
		return false
	}
	t = rpcadapters.ContentType(t)
	return t == baseType || len(t) > len(baseType) && t[:len(baseType)] == baseType && t[len(baseType)] == '+'
}

// serverCall is one call with all it needs; pooled, so that a call costs no allocation of its own. It is its own body and
// stream.
type serverCall struct {
	rpc.Call
	x       *wire.Exchange
	frames  envelope.Stream
	json    rpcadapters.JSONForm
	typ     string // content type of the answer
	body    envelope.Body
	header  rpc.Metadata // backing of the answer's head and trailers
	started bool         // the answer's head was written
	werr    error        // why the answer could not be
}

// Serve makes a call of the exchange, has h handle it and writes the answer.
func (f *Face) Serve(ctx context.Context, x *wire.Exchange, m *rpcadapters.Matched, h rpc.Handler) {
	c := f.calls.Get().(*serverCall)
	c.x = x
	rpcadapters.Begin(&c.Call, f.Name(), x, m)
	over := false
	defer func() {
		if !over { // a panic: the call is not used again, but what it took of the budget is others'
			c.frames.Close()
		}
	}()
	sent := c.serve(ctx, m, h)
	m.Finish.Done(&c.Call, sent)
	over = true
	c.release()
	f.calls.Put(c)
}

func (c *serverCall) serve(ctx context.Context, m *rpcadapters.Matched, h rpc.Handler) rpc.Sent {
	form, refusal := formOf(c.x)
	if refusal != nil {
		return rpcadapters.RefuseHTTP(c.x, refusal)
	}
	c.typ = form.typ
	in, known := envelope.ByName(c.x.HTTP.Header.Get("grpc-encoding"))
	if !known {
		return c.finish(unknownEncoding(c.x.HTTP.Header.Get("grpc-encoding")))
	}
	o := envelope.Options{Method: m.Method, Limit: m.Options.MaxBody, Budget: m.Options.Budget, In: in}
	if form.json {
		c.json.Options = m.Options.JSON
		o.Codec = &c.json
	}
	if in != rpc.Identity && envelope.Accepts(c.x.HTTP.Header.Get("grpc-accept-encoding"), in) {
		o.Out = in
	}
	c.frames.Reset(c.x, c.x, o)
	if m.Method.Kind == schema.Unary {
		c.body.Reset(&c.frames)
		c.Body = &c.body
		if !form.json {
			c.Packed = o.Out
		}
	} else {
		c.Stream = c
	}
	ctx, cancel, err := rpcadapters.Admit(ctx, &c.Call, c.x, m)
	if err == nil {
		err = h.Handle(ctx, &c.Call)
	}
	cancel()
	return c.finish(rpcadapters.RPCError(err))
}

// unknownEncoding is the error of a request that is compressed in a way that is not known; see grpc/doc/compression.md.
func unknownEncoding(name string) *rpc.Error {
	e := rpc.Refuse(codes.Unimplemented, "UNSUPPORTED_ENCODING", "grpc-encoding %q is not known here: want one of %s", name, envelope.Names)
	e.Header.Add("grpc-accept-encoding", envelope.Names)
	return e
}

// finish writes what the chain came back with and says what was sent.
func (c *serverCall) finish(e *rpc.Error) rpc.Sent {
	if e == nil && c.Body != nil {
		e = c.answer()
	}
	if e == nil && !c.started {
		e = rpcError(c.begin())
	}
	if c.werr == nil {
		c.end(e)
	}
	if c.werr != nil {
		c.x.Abort() // what went out must not look whole
	}
	return rpcadapters.Finished(c.x, e, c.werr)
}

// rpcError keeps a nil from becoming an error that is not.
func rpcError(err error) *rpc.Error {
	if err == nil {
		return nil
	}
	return rpc.AsError(err)
}

// answer writes the one message of a unary call.
func (c *serverCall) answer() *rpc.Error {
	return rpcError(c.Send(&c.Reply.Message, true))
}

// end writes the trailers; alone, if nothing went out before (Trailers-Only), unless that would make headers of the service
// look like trailers.
func (c *serverCall) end(e *rpc.Error) {
	if e != nil && !c.started && len(c.Reply.Header) > 0 {
		if err := c.begin(); err != nil {
			return
		}
	}
	trailer := c.header[:0]
	if !c.started {
		trailer = c.head(trailer)
	}
	if e != nil {
		trailer = append(trailer, e.Header...)
	}
	trailer = rpcadapters.AppendGRPCStatus(trailer, e)
	trailer = rpcadapters.AppendResponseMetadata(trailer, c.Reply.Trailer, "")
	c.header = trailer
	if c.started {
		c.werr = c.x.End(trailer)
		return
	}
	c.started = true
	if c.werr = c.x.WriteHead(200, trailer); c.werr == nil {
		c.werr = c.x.End(nil)
	}
}

// head appends the headers of every answer.
func (c *serverCall) head(dst rpc.Metadata) rpc.Metadata {
	dst = append(dst, rpc.Pair{Key: "content-type", Value: c.typ}, rpc.Pair{Key: "x-request-id", Value: c.ID})
	if c.frames.Out != rpc.Identity {
		dst = append(dst, rpc.Pair{Key: "grpc-encoding", Value: envelope.Name(c.frames.Out)})
	}
	return dst
}

// Recv implements rpc.Stream.
func (c *serverCall) Recv(m *rpc.Message) error { return c.frames.Recv(m) }

// Start implements rpc.Stream: it sends the head of the answer.
func (c *serverCall) Start() error {
	if err := c.begin(); err != nil {
		return err
	}
	err := c.frames.Flush()
	c.werr = c.frames.Failed()
	return err
}

// begin writes the head of the answer, once.
func (c *serverCall) begin() error {
	if c.started {
		return nil
	}
	c.started = true
	c.header = rpcadapters.AppendResponseMetadata(c.head(c.header[:0]), c.Reply.Header, "")
	if err := c.x.WriteHead(200, c.header); err != nil {
		c.werr = err
		return envelope.Gone(err)
	}
	return nil
}

// Send implements rpc.Stream.
func (c *serverCall) Send(m *rpc.Message, more bool) error {
	if err := c.begin(); err != nil {
		return err
	}
	err := c.frames.Send(m, more)
	c.werr = c.frames.Failed()
	return err
}

// Stop implements rpc.Stream.
func (c *serverCall) Stop() { c.x.StopRead() }

// release gives back what the call holds and makes it ready for the next.
func (c *serverCall) release() {
	c.frames.Close()
	c.body.Close()
	c.Reply.Reset()
	clear(c.header[:cap(c.header)])
	header, metadata, reply := c.header[:0], c.Call.Header[:0], rpc.Reply{Header: c.Reply.Header[:0], Trailer: c.Reply.Trailer[:0]}
	*c = serverCall{}
	c.header, c.Call.Header, c.Reply = header, metadata, reply
}

// Refuse answers a request that has no route, or that broke before it had one.
func (f *Face) Refuse(x *wire.Exchange, err *rpc.Error) rpc.Sent {
	form, refusal := formOf(x)
	if refusal != nil {
		return rpcadapters.RefuseHTTP(x, refusal)
	}
	c := serverCall{x: x, typ: form.typ}
	c.ID = x.ID
	return c.finish(err)
}
