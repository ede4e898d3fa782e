// Package grpcweb is the inbound face for gRPC-Web (grpc/doc/PROTOCOL-WEB.md), binary and text: gRPC for callers that cannot
// see trailers, over any version of HTTP. It is gRPC's framing with the trailers as the last message of the body.
package grpcweb

import (
	"context"
	"encoding/base64"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/envelope"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Face serves callers that speak gRPC-Web. It is safe for concurrent use.
type Face struct {
	calls sync.Pool // of *call
}

var (
	_ rpcadapters.Named    = (*Face)(nil)
	_ rpcadapters.Scripted = (*Face)(nil)
)

// NewFace makes the face.
func NewFace() *Face {
	f := &Face{}
	f.calls.New = func() any { return &call{} }
	return f
}

// Name is "grpcweb".
func (f *Face) Name() string { return "grpcweb" }

// Named tells that requests name their method by the path.
func (f *Face) Named() {}

// RequestHeaders are the protocol's own headers of requests that a browser asks leave for before a call from another origin.
func (f *Face) RequestHeaders() []string {
	return []string{"content-type", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "x-grpc-web", "x-user-agent"}
}

const (
	baseType = "application/grpc-web"
	textType = "application/grpc-web-text"
)

// Match takes what says that it is gRPC-Web, also in a form that is then refused.
func (f *Face) Match(x *wire.Exchange) bool {
	t := x.HTTP.Header.Get("content-type")
	if len(t) < len(baseType) {
		return false
	}
	t = rpcadapters.ContentType(t)
	rest, ok := strings.CutPrefix(t, baseType)
	return ok && (rest == "" || rest[0] == '+' || rest[0] == '-')
}

// form is what a request's head says of its messages and those of the answer.
type form struct {
	typ       string // content type of the answer
	json      bool
	text      bool // the request is text
	answerTxt bool // the answer is
}

// formOf reads content type and accept of a request.
func formOf(x *wire.Exchange) (form, *rpc.Error) {
	if x.HTTP.Method != "POST" {
		e := rpc.Refuse(codes.Unknown, "METHOD_NOT_ALLOWED", "%s is not how gRPC-Web is called: want POST", x.HTTP.Method).WithStatus(405)
		e.Header.Add("allow", "POST")
		return form{}, e
	}
	typ := rpcadapters.ContentType(x.HTTP.Header.Get("content-type"))
	base, sub, _ := strings.Cut(typ, "+")
	var f form
	switch base {
	case baseType:
	case textType, textType + "-base64":
		f.text = true
	default:
		return form{}, unsupported(typ)
	}
	// Text may be asked for by accept alone.
	f.answerTxt = f.text || strings.Contains(x.HTTP.Header.Get("accept"), textType)
	switch sub {
	case "", "proto":
	case "json":
		f.json = true
	default:
		return form{}, unsupported(typ)
	}
	f.typ = answerType(f.answerTxt, sub)
	return f, nil
}

// answerType is the content type of an answer, by text or not and by the form of its messages.
func answerType(text bool, sub string) string {
	switch {
	case text && sub == "json":
		return textType + "+json"
	case text && sub == "proto":
		return textType + "+proto"
	case text:
		return textType
	case sub == "json":
		return baseType + "+json"
	case sub == "proto":
		return baseType + "+proto"
	}
	return baseType
}

func unsupported(typ string) *rpc.Error {
	e := rpc.Refuse(codes.Unknown, "UNSUPPORTED_MEDIA_TYPE", "content-type %q is not served here: want application/grpc-web or application/grpc-web-text, +proto or +json", typ).WithStatus(415)
	e.Header.Add("accept-post", "application/grpc-web, application/grpc-web+proto, application/grpc-web+json, application/grpc-web-text, application/grpc-web-text+proto, application/grpc-web-text+json")
	return e
}

// call is one call with all it needs; pooled. It is its own stream.
type call struct {
	rpc.Call
	x       *wire.Exchange
	form    form
	text    *textReader // made for the first call in text
	sink    sink
	frames  envelope.Stream
	json    rpcadapters.JSONForm
	body    envelope.Body
	header  rpc.Metadata // backing of the answer's head
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
	if c.form, refusal = formOf(c.x); refusal != nil {
		return rpcadapters.RefuseHTTP(c.x, refusal)
	}
	o := envelope.Options{Method: m.Method, Limit: m.Options.MaxBody, Budget: m.Options.Budget}
	if refusal = c.encodings(&o); refusal != nil {
		c.open(envelope.Options{})
		return c.finish(refusal)
	}
	if c.form.json {
		c.json.Options = m.Options.JSON
		o.Codec = &c.json
	}
	c.open(o)
	if m.Method.Kind == schema.Unary {
		c.body.Reset(&c.frames)
		c.Body = &c.body
	} else {
		c.Stream = c
		c.x.SlowBody()
	}
	ctx, cancel, err := rpcadapters.Admit(ctx, &c.Call, c.x, m)
	if err == nil {
		err = h.Handle(ctx, &c.Call)
	}
	cancel()
	return c.finish(rpcadapters.RPCError(err))
}

// open makes the stream of the call's messages.
func (c *call) open(o envelope.Options) {
	c.sink = sink{x: c.x, text: c.form.answerTxt}
	if !c.form.text {
		c.frames.Reset(c.x, &c.sink, o)
		return
	}
	if c.text == nil {
		c.text = &textReader{}
	}
	c.text.reset(c.x)
	c.frames.Reset(c.text, &c.sink, o)
}

// encodings reads how messages are compressed. PROTOCOL-WEB.md leaves that to HTTP; what clients do (Connect's) is gRPC's
// way.
func (c *call) encodings(o *envelope.Options) *rpc.Error {
	if e := c.x.HTTP.Header.Get("content-encoding"); e != "" && e != "identity" {
		return rpc.Refuse(codes.Unimplemented, "UNSUPPORTED_ENCODING", "content-encoding %q is not served here: compress messages, by grpc-encoding", e)
	}
	name := c.x.HTTP.Header.Get("grpc-encoding")
	in, known := envelope.ByName(name)
	if !known {
		e := rpc.Refuse(codes.Unimplemented, "UNSUPPORTED_ENCODING", "grpc-encoding %q is not known here: want one of %s", name, envelope.Names)
		e.Header.Add("grpc-accept-encoding", envelope.Names)
		return e
	}
	o.In = in
	if in != rpc.Identity && envelope.Accepts(c.x.HTTP.Header.Get("grpc-accept-encoding"), in) {
		o.Out = in
	}
	return nil
}

// finish writes what the chain came back with and says what was sent.
func (c *call) finish(e *rpc.Error) rpc.Sent {
	if c.Stream == nil {
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

// whole writes the answer of a unary call at once, and returns the call's error as it is then.
func (c *call) whole(e *rpc.Error) *rpc.Error {
	buf := rpc.GetBuffer()
	c.sink.whole = buf
	if e == nil {
		e = rpcadapters.RPCError(c.frames.Send(&c.Reply.Message, true))
	}
	c.trailers(e)
	body := buf
	if c.form.answerTxt {
		body = rpc.GetBuffer()
		body.B = base64.StdEncoding.AppendEncode(body.B, buf.B)
		buf.Free()
	}
	c.werr = c.x.Respond(200, c.head(e), body.B)
	body.Free()
	c.sink.whole = nil
	return e
}

// begin writes the head of a streamed answer.
func (c *call) begin(e *rpc.Error) {
	c.started = true
	c.werr = c.x.WriteHead(200, c.head(e))
}

// end writes the last message of a streamed answer: the trailers.
func (c *call) end(e *rpc.Error) {
	c.trailers(e)
	c.werr = c.frames.Failed()
	if c.werr == nil {
		c.werr = c.sink.pad()
	}
	if c.werr == nil {
		c.werr = c.x.End(nil)
	}
}

// head is the head of the answer. The status is never there, but always in the body: that is as good (PROTOCOL-WEB.md,
// "Message framing"), and a script of another origin sees it without being let.
func (c *call) head(e *rpc.Error) rpc.Metadata {
	h := append(c.header[:0], rpc.Pair{Key: "content-type", Value: c.form.typ}, rpc.Pair{Key: "x-request-id", Value: c.ID})
	if c.frames.Out != rpc.Identity {
		h = append(h, rpc.Pair{Key: "grpc-encoding", Value: envelope.Name(c.frames.Out)})
	}
	if e != nil {
		h = append(h, e.Header...)
	}
	c.header = rpcadapters.AppendResponseMetadata(h, c.Reply.Header, "")
	return c.header
}

// trailers writes the trailers as a message: lines as in a head of HTTP/1.1, names in lower case. Binary metadata is in
// base64 also where the whole is: nobody does as the specification has it.
func (c *call) trailers(e *rpc.Error) {
	t := rpcadapters.AppendGRPCStatus(c.trailer[:0], e)
	t = rpcadapters.AppendResponseMetadata(t, c.Reply.Trailer, "")
	c.trailer = t
	buf := rpc.GetBuffer()
	buf.B = appendBlock(buf.B, t)
	_ = c.frames.Write(envelope.Trailer, buf.B) // Failed tells
	buf.Free()
}

// appendBlock appends metadata as lines. A value that could end its line is made one that cannot.
func appendBlock(b []byte, md rpc.Metadata) []byte {
	for i := range md {
		b = append(b, md[i].Key...)
		b = append(b, ": "...)
		for j := range len(md[i].Value) {
			v := md[i].Value[j]
			if v < ' ' && v != '\t' || v == 0x7f {
				v = ' '
			}
			b = append(b, v)
		}
		b = append(b, "\r\n"...)
	}
	return b
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
		Call:   rpc.Call{Header: c.Call.Header[:0], Reply: rpc.Reply{Header: c.Reply.Header[:0], Trailer: c.Reply.Trailer[:0]}},
		header: c.header[:0], trailer: c.trailer[:0], text: c.text,
	}
	if c.text != nil {
		c.text.reset(nil)
	}
}

// Refuse answers a request that has no route, or that broke before it had one.
func (f *Face) Refuse(x *wire.Exchange, err *rpc.Error) rpc.Sent {
	form, refusal := formOf(x)
	if refusal != nil {
		return rpcadapters.RefuseHTTP(x, refusal)
	}
	c := call{x: x, form: form}
	c.ID = x.ID
	c.open(envelope.Options{})
	return c.finish(err)
}
