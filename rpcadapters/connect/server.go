// Package connect is the inbound face for the Connect protocol (https://connectrpc.com/docs/protocol/): unary calls by POST
// and GET whose body is the message, and streams of enveloped messages that end with a JSON object.
package connect

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/envelope"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Face serves callers that speak Connect. It is safe for concurrent use.
type Face struct {
	calls sync.Pool // of *call
	// details are the standard messages of google.rpc, for errors whose schema does not have them.
	details *schema.Schema
}

var (
	_ rpcadapters.Named    = (*Face)(nil)
	_ rpcadapters.Scripted = (*Face)(nil)
)

// NewFace makes the face. The error is about the descriptors of the standard details.
func NewFace() (*Face, error) {
	details, err := rpcadapters.StandardDetails()
	if err != nil {
		return nil, err
	}
	f := &Face{details: details}
	f.calls.New = func() any { return &call{face: f} }
	return f, nil
}

// Name is "connect".
func (f *Face) Name() string { return "connect" }

// Named tells that requests name their method by the path.
func (f *Face) Named() {}

// RequestHeaders are the protocol's own headers of requests that a browser asks leave for before a call from another origin
// (https://connectrpc.com/docs/cors/).
func (f *Face) RequestHeaders() []string {
	return []string{"content-type", "content-encoding", "connect-protocol-version", "connect-timeout-ms", "connect-content-encoding", "connect-accept-encoding"}
}

// Match takes what says that it is Connect, also in a form that is then refused: by its content type, for JSON with the
// protocol's version beside it, or by connect=v1 in the query of a GET.
func (f *Face) Match(x *wire.Exchange) bool {
	if x.HTTP.Method == "GET" {
		v, _ := query(x.HTTP.Query, "connect")
		return v == "v1"
	}
	if x.HTTP.Header.Has("connect-protocol-version") {
		return true // in a form that may then be refused
	}
	t := x.HTTP.Header.Get("content-type")
	if len(t) < len(jsonType) || len(t) > 0 && t[0]|0x20 != 'a' {
		return false
	}
	t = rpcadapters.ContentType(t)
	return t == protoType || strings.HasPrefix(t, streamPrefix)
}

// call is one call with all it needs; pooled. It is its own stream.
type call struct {
	rpc.Call
	face    *Face
	x       *wire.Exchange
	form    form
	frames  envelope.Stream
	json    rpcadapters.JSONForm
	body    envelope.Bare
	query   strings.Reader // the message of a GET
	header  rpc.Metadata   // backing of the answer's head
	trailer rpc.Metadata
	started bool  // the head of a streamed answer was written
	werr    error // why the answer could not be
}

// Serve makes a call of the exchange, has h handle it and writes the answer.
func (f *Face) Serve(ctx context.Context, x *wire.Exchange, m *rpcadapters.Matched, h rpc.Handler) {
	c := f.calls.Get().(*call)
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

func (c *call) serve(ctx context.Context, m *rpcadapters.Matched, h rpc.Handler) rpc.Sent {
	var refusal *rpc.Error
	if c.form, refusal = formOf(c.x, m.Method); refusal != nil {
		c.form.streaming = false
		return c.finish(refusal)
	}
	o := envelope.Options{Method: m.Method, Limit: m.Options.MaxBody, Budget: m.Options.Budget}
	if c.form.json {
		c.json.Options = m.Options.StubJSON()
		o.Codec = &c.json
	}
	refusal = c.encodings(&o)
	c.frames.Reset(c.x, c.x, o)
	if refusal == nil {
		refusal = version(c.x.HTTP.Header)
	}
	if refusal == nil {
		refusal = c.source()
	}
	if refusal != nil {
		return c.finish(refusal)
	}
	ctx, cancel, err := rpcadapters.Admit(ctx, &c.Call, c.x, m)
	if err == nil {
		err = h.Handle(ctx, &c.Call)
	}
	cancel()
	return c.finish(rpcadapters.RPCError(err))
}

// source finds where the requests come from.
func (c *call) source() *rpc.Error {
	switch {
	case c.form.streaming:
		c.Stream = c
		c.x.SlowBody()
	case c.form.get:
		message, e := getMessage(c.x.HTTP.Query)
		if e != nil {
			return e
		}
		c.query.Reset(message)
		c.body.Reset(&c.frames, &c.query, int64(len(message)))
		c.Body = &c.body
	default:
		c.body.Reset(&c.frames, c.x, c.x.ContentLength)
		c.Body = &c.body
	}
	return nil
}

// version holds a request to the one version of the protocol that there is.
func version(h rpc.Metadata) *rpc.Error {
	if v := h.Get("connect-protocol-version"); v != "1" && h.Has("connect-protocol-version") {
		return rpc.Refuse(codes.InvalidArgument, "UNSUPPORTED_VERSION", "connect-protocol-version is %q: want \"1\"", v)
	}
	return nil
}

// encodings reads how messages are compressed, and chooses how answers are: as the client likes best
// (https://connectrpc.com/docs/protocol/#unary-request; streams have names of their own for the same).
func (c *call) encodings(o *envelope.Options) *rpc.Error {
	h := c.x.HTTP.Header
	content, accept := "content-encoding", "accept-encoding"
	if c.form.streaming {
		content, accept = "connect-content-encoding", "connect-accept-encoding"
	}
	name := h.Get(content)
	if c.form.get {
		content = "compression"
		name, _ = query(c.x.HTTP.Query, content)
	}
	in, known := envelope.ByName(name)
	if !known {
		e := rpc.Refuse(codes.Unimplemented, "UNSUPPORTED_ENCODING", "%s %q is not known here: want one of %s", content, name, envelope.Names)
		e.Header.Add(accept, envelope.Names)
		return e
	}
	o.In, o.Out = in, in
	if h.Has(accept) {
		o.Out = envelope.Preferred(h.Get(accept))
	}
	return nil
}

// finish writes what the chain came back with and says what was sent.
func (c *call) finish(e *rpc.Error) rpc.Sent {
	if !c.form.streaming {
		e = c.whole(e)
		return rpcadapters.Finished(c.x, e, c.werr)
	}
	if !c.started {
		c.begin(e)
	}
	if c.werr == nil {
		c.end(e)
	}
	if c.werr != nil {
		c.x.Abort() // what went out must not look whole
	}
	return rpcadapters.Finished(c.x, e, c.werr)
}

// whole writes the answer of a unary call, and returns the call's error as it is then.
func (c *call) whole(e *rpc.Error) *rpc.Error {
	if e == nil {
		answer, err := c.frames.Encode(&c.Reply.Message)
		if err == nil {
			c.werr = c.x.Respond(200, c.head(c.form.typ, answer.Flags != 0, nil), answer.Payload)
			answer.Free()
			return nil
		}
		answer.Free()
		e = rpc.AsError(err)
	}
	buf := rpc.GetBuffer()
	buf.B = appendError(buf.B, e, c.types(), c.face.details)
	c.werr = c.x.Respond(status(e), c.head(jsonType, false, e), buf.B)
	buf.Free()
	return e
}

// types is the schema that details are looked up in first; nil where there is no method.
func (c *call) types() *schema.Schema {
	if c.Method == nil {
		return nil
	}
	return c.Method.Schema
}

// head is the head of an answer. Trailers of a unary call are headers with a prefix.
func (c *call) head(typ string, packed bool, e *rpc.Error) rpc.Metadata {
	h := append(c.header[:0], rpc.Pair{Key: "content-type", Value: typ}, rpc.Pair{Key: "x-request-id", Value: c.ID})
	switch {
	case c.form.streaming && c.frames.Out != rpc.Identity:
		h = append(h, rpc.Pair{Key: "connect-content-encoding", Value: envelope.Name(c.frames.Out)})
	case packed:
		h = append(h, rpc.Pair{Key: "content-encoding", Value: envelope.Name(c.frames.Out)})
	}
	if c.form.get {
		h = append(h, rpc.Pair{Key: "vary", Value: "accept-encoding"}) // answers to GET may be kept by caches
	}
	if e != nil {
		h = append(h, e.Header...)
	}
	h = rpcadapters.AppendResponseMetadata(h, c.Reply.Header, "")
	if !c.form.streaming {
		h = rpcadapters.AppendResponseMetadata(h, c.Reply.Trailer, "trailer-")
	}
	c.header = h
	return h
}

// begin writes the head of a streamed answer.
func (c *call) begin(e *rpc.Error) {
	c.started = true
	c.werr = c.x.WriteHead(200, c.head(c.form.typ, false, e))
}

// end writes the last message of a streamed answer: status and trailers.
func (c *call) end(e *rpc.Error) {
	c.trailer = rpcadapters.AppendResponseMetadata(c.trailer[:0], c.Reply.Trailer, "")
	buf := rpc.GetBuffer()
	buf.B = appendEnd(buf.B, e, c.trailer, c.types(), c.face.details)
	_ = c.frames.Write(envelope.EndStream, buf.B) // Failed tells
	buf.Free()
	if c.werr = c.frames.Failed(); c.werr == nil {
		c.werr = c.x.End(nil)
	}
}

// Recv implements rpc.Stream.
func (c *call) Recv(m *rpc.Message) error { return c.frames.Recv(m) }

// Start implements rpc.Stream: it sends the head of the answer.
func (c *call) Start() error {
	if !c.started {
		c.begin(nil)
	}
	if c.werr != nil {
		return envelope.Gone(c.werr)
	}
	err := c.frames.Flush()
	c.werr = c.frames.Failed()
	return err
}

// Send implements rpc.Stream.
func (c *call) Send(m *rpc.Message, more bool) error {
	if !c.started {
		c.begin(nil)
	}
	if c.werr != nil {
		return envelope.Gone(c.werr)
	}
	err := c.frames.Send(m, more)
	c.werr = c.frames.Failed()
	return err
}

// Stop implements rpc.Stream.
func (c *call) Stop() { c.x.StopRead() }

// release gives back what the call holds and makes it ready for the next.
func (c *call) release() {
	c.frames.Close()
	c.body.Close()
	c.Reply.Reset()
	clear(c.header[:cap(c.header)])
	clear(c.trailer[:cap(c.trailer)])
	*c = call{
		Call: rpc.Call{Header: c.Call.Header[:0], Reply: rpc.Reply{Header: c.Reply.Header[:0], Trailer: c.Reply.Trailer[:0]}},
		face: c.face, header: c.header[:0], trailer: c.trailer[:0],
	}
}

// Refuse answers a request that has no route, or that broke before it had one.
func (f *Face) Refuse(x *wire.Exchange, err *rpc.Error) rpc.Sent {
	c := call{face: f, x: x}
	c.ID = x.ID
	var refusal *rpc.Error
	if c.form, refusal = formOf(x, nil); refusal != nil {
		c.form.streaming = false
		err = refusal
	}
	c.frames.Reset(x, x, envelope.Options{})
	return c.finish(err)
}
