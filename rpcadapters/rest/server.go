// Package rest is the inbound face for JSON over HTTP: a request that matched a google.api.http rule becomes a call, and
// the answer's wire bytes become JSON.
package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/websocket"
	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Face serves REST. It is safe for concurrent use.
type Face struct {
	calls sync.Pool
	// details are the standard messages of google.rpc, for errors whose schema does not have them.
	details *schema.Schema
	quiet   tending // streams that need somebody when they are quiet
}

// New makes the face.
func New() (*Face, error) {
	details, err := rpcadapters.StandardDetails()
	if err != nil {
		return nil, err
	}
	f := &Face{details: details}
	f.calls.New = func() any { return &call{} }
	return f, nil
}

// Name is "rest".
func (f *Face) Name() string { return "rest" }

// Match takes every request: REST stands last among the faces.
func (f *Face) Match(*wire.Exchange) bool { return true }

// call is one REST call with all it needs; pooled, so that a call costs no allocation of its own.
type call struct {
	rpc.Call
	x      *wire.Exchange
	m      *rpcadapters.Matched
	bound  int         // of the body, where a plugin lowers the route's; 0: none does
	raw    *rpc.Buffer // the body as received
	read   bool        // to its end
	fault  error       // why it could not be
	msg    rpc.Message
	typ    *schema.Message // of msg
	params []jsonwire.Param
	header rpc.Metadata // backing of the answer's headers
	held   int          // bytes of the budget
	face   *Face
	stream *stream // of a streaming method
	socket *socket // of one over WebSocket
	form   form    // of a stream's answers
}

// Serve makes a call of the exchange, has h handle it and writes the answer.
func (f *Face) Serve(ctx context.Context, x *wire.Exchange, m *rpcadapters.Matched, h rpc.Handler) {
	c := f.calls.Get().(*call)
	c.x, c.m, c.face = x, m, f
	rpcadapters.Begin(&c.Call, f.Name(), x, m)
	c.Body = c
	over := false
	defer func() {
		if !over { // a panic: the call is not used again, but what it took of the budget is others'
			m.Options.Budget.Give(c.held)
		}
	}()
	if m.Method.Kind != schema.Unary {
		if websocket.Asked(x) {
			over = true // it sees to that itself
			f.serveSocket(ctx, c, h)
			return
		}
		c.streams(ctx)
		defer c.stream.quit()
	}
	err := f.handle(ctx, c, h)
	sent := f.answer(c, err)
	m.Finish.Done(&c.Call, sent)
	over = true
	c.release()
	f.calls.Put(c)
}

func (f *Face) handle(ctx context.Context, c *call, h rpc.Handler) error {
	var err error
	policy := rpcadapters.PassListed
	if c.m.Options.REST.GRPCGateway {
		policy = rpcadapters.PassCarried
	}
	c.Call.Header, err = rpcadapters.AppendRequestMetadata(c.Call.Header[:0], c.x.HTTP.Header, c.m.Options.Request, policy)
	if err != nil {
		return err
	}
	c.Call.Header = rpcadapters.AppendForwarded(c.Call.Header, c.x, c.m.Options.Request)
	c.Call.Header.Set("x-request-id", c.ID)
	timeout, err := rpcadapters.Timeout(c.x.HTTP.Header, c.m.Timeout())
	if err != nil {
		return err
	}
	ctx, cancel := rpcadapters.SetDeadline(ctx, c.x, timeout)
	defer cancel()
	return h.Handle(ctx, &c.Call)
}

// Raw reads the body as sent, once.
func (c *call) Raw(ctx context.Context) ([]byte, error) {
	if c.read {
		return c.raw.B, nil
	}
	if c.fault == nil {
		c.fault = c.receive(ctx)
	}
	if c.fault != nil {
		return nil, c.fault
	}
	return c.raw.B, nil
}

// Bound implements rpc.Bounded.
func (c *call) Bound(most int) {
	if c.bound == 0 || most < c.bound {
		c.bound = max(most, 1)
	}
}

// receive reads the body into raw, once: what is left after a fault is not the body.
func (c *call) receive(ctx context.Context) error {
	limit := c.m.Options.MaxBody
	if c.bound > 0 {
		limit = min(limit, c.bound)
	}
	if c.x.ContentLength > int64(limit) {
		return tooLarge(limit)
	}
	c.raw = rpc.GetBuffer()
	b := c.raw.B[:0]
	for {
		if have := len(b); have == cap(b) {
			total := -1
			if n := int(c.x.ContentLength); n >= have {
				total = n + 1 // so that the end is seen with the last bytes
			}
			b = rpc.Grow(b, 512, total)
		}
		n, err := c.x.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		c.raw.B = b
		if !c.hold(n) {
			return overloaded()
		}
		if len(b) > limit {
			return tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			c.read = true
			return nil
		}
		if err != nil {
			return bodyError(ctx, err)
		}
	}
}

func tooLarge(limit int) *rpc.Error {
	return rpc.Refuse(codes.ResourceExhausted, "BODY_TOO_LARGE", "the request body is larger than %d bytes", limit).WithStatus(413)
}

func bodyError(ctx context.Context, err error) *rpc.Error {
	if e, ok := errors.AsType[*rpc.Error](err); ok {
		return e
	}
	// The read's own error first: an engine may end the context with it.
	if errors.Is(err, context.DeadlineExceeded) {
		return rpc.AsError(err)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return rpc.AsError(ctx.Err())
	}
	return rpc.Refuse(codes.InvalidArgument, "BODY_INCOMPLETE", "the request body is cut or malformed").WithCause(err)
}

// Message translates path, query and body into one message; it belongs to the call.
func (c *call) Message(ctx context.Context, m *schema.Message) (*rpc.Message, error) {
	if c.typ == m {
		return &c.msg, nil
	}
	rule, o := c.m.Rule, c.m.Options
	req := jsonwire.Request{
		Message: m, Params: c.params[:0], BodyField: rule.BodyField, Mask: rule.Mask,
		Override: o.REST.Override || o.REST.GRPCGateway, GRPCGateway: o.REST.GRPCGateway,
	}
	if err := c.body(ctx, &req); err != nil {
		return nil, err
	}
	if err := c.parameters(&req); err != nil {
		return nil, err
	}
	buf := rpc.GetBuffer()
	var err error
	buf.B, err = jsonwire.AppendRequest(buf.B, &req, o.JSON)
	if err != nil {
		buf.Free()
		return nil, badRequest(err)
	}
	if !c.hold(len(buf.B)) {
		buf.Free()
		return nil, overloaded()
	}
	c.msg.Own(buf)
	c.typ = m
	return &c.msg, nil
}

// parameters adds those of query and path.
func (c *call) parameters(req *jsonwire.Request) error {
	rule := c.m.Rule
	if c.x.HTTP.Query != "" {
		var err error
		if req.Params, err = jsonwire.AppendQuery(req.Params, req.Message, c.x.HTTP.Query, c.m.Options.JSON, &rule.Query); err != nil {
			return badRequest(err)
		}
	}
	for i, path := range rule.Vars {
		req.Params = jsonwire.AppendPath(req.Params, path, c.m.Vars[i], &rule.Query)
	}
	c.params = req.Params
	return nil
}

// body puts the request's body into req as the rule has it: JSON, a form, or the content of a google.api.HttpBody.
func (c *call) body(ctx context.Context, req *jsonwire.Request) error {
	rule, gateway := c.m.Rule, c.m.Options.REST.GRPCGateway
	if rule.Body == httprule.NoBody {
		return c.noBody(ctx, req)
	}
	// A google.api.HttpBody has no place for an encoding either.
	if err := c.unpacked(); err != nil {
		return err
	}
	kind := jsonContent
	if rule.RawBody {
		req.Raw, req.ContentType = true, c.x.HTTP.Header.Get("content-type")
	} else {
		var err error
		if kind, err = c.contentKind(gateway); err != nil {
			return err
		}
	}
	body, err := c.Raw(ctx)
	if err != nil {
		return err
	}
	if kind == formContent && !req.Raw && !looksLikeJSON(body) {
		return c.formBody(req, body)
	}
	req.Body = body
	return nil
}

// noBody is for a rule without a body. It is read all the same, for the caller's departure is seen behind it only; one
// that says something is refused, since nobody would hear it.
func (c *call) noBody(ctx context.Context, req *jsonwire.Request) error {
	if c.x.ContentLength == 0 {
		return nil
	}
	body, err := c.Raw(ctx)
	if err != nil {
		return err
	}
	if c.m.Options.REST.GRPCGateway {
		if kind, err := c.contentKind(true); err == nil && kind == formContent && formVerb(c.x.HTTP.Method) && !looksLikeJSON(body) {
			if err := c.unpacked(); err != nil {
				return err
			}
			return c.formBody(req, body)
		}
		return nil
	}
	if c.m.Options.JSON.IgnoreUnknown || saysNothing(body) {
		return nil
	}
	return rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "%s takes no body, found one of %d bytes: put its fields into the query", c.m.Rule.Verb+" "+c.m.Rule.Template.String(), len(body))
}

// formVerb tells the verbs whose form bodies net/http reads, and grpc-gateway with it (http.Request.ParseForm).
func formVerb(verb string) bool {
	return verb == "POST" || verb == "PUT" || verb == "PATCH"
}

// saysNothing tells a body that is empty or an empty object, as clients send one for form's sake.
func saysNothing(body []byte) bool {
	b := bytes.TrimSpace(body)
	return len(b) == 0 || len(b) >= 2 && b[0] == '{' && b[len(b)-1] == '}' && len(bytes.TrimSpace(b[1:len(b)-1])) == 0
}

// formBody reads a form; its pairs are those of a query.
func (c *call) formBody(req *jsonwire.Request, body []byte) error {
	var err error
	req.Params, err = jsonwire.AppendForm(req.Params, req.Message, body, c.m.Rule.BodyField, c.m.Options.JSON, &c.m.Rule.Query)
	if err != nil {
		return badRequest(err)
	}
	// Two bytes of a form may be a parameter, which is many times as large.
	if !c.hold(len(req.Params) * paramSize) {
		return overloaded()
	}
	return nil
}

// paramSize is what a parameter takes in memory; keptParams is how many of them a call keeps room for.
const (
	paramSize  = 64
	keptParams = 1 << 10
)

// looksLikeJSON tells JSON from a form where the content type says form: that is what curl -d sends, whatever it is given.
func looksLikeJSON(body []byte) bool {
	b := bytes.TrimLeft(body, " \t\r\n")
	return len(b) > 0 && (b[0] == '{' || b[0] == '[' || b[0] == '"')
}

type contentKind uint8

const (
	jsonContent contentKind = iota
	formContent
)

// unpacked refuses a body with a content encoding rather than misread it.
func (c *call) unpacked() error {
	for i := range c.x.HTTP.Header {
		h := &c.x.HTTP.Header[i]
		if h.Key == "content-encoding" && h.Value != "" && !rpc.EqualFold(h.Value, "identity") {
			return rpc.Refuse(codes.InvalidArgument, "UNSUPPORTED_ENCODING", "content-encoding %q is not served here: send the body as it is", h.Value).WithStatus(415)
		}
	}
	return nil
}

// contentKind accepts JSON and forms; any other type is refused rather than misread. Callers of grpc-gateway's kind may
// call JSON what they like.
func (c *call) contentKind(gateway bool) (contentKind, error) {
	full := c.x.HTTP.Header.Get("content-type")
	typ, _, _ := strings.Cut(full, ";")
	typ = strings.TrimSpace(typ)
	switch {
	case typ == "", typ == jsonType, rpc.EqualFold(typ, jsonType), strings.HasSuffix(typ, "+json"):
		return jsonContent, nil
	case rpc.EqualFold(typ, "application/x-www-form-urlencoded"):
		return formContent, nil
	case gateway:
		return jsonContent, nil
	}
	return 0, rpc.Refuse(codes.InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", "content-type %q is not served here: send application/json", full).WithStatus(415)
}

// hold takes n bytes of the budget until the call's end.
func (c *call) hold(n int) bool {
	if !c.m.Options.Budget.Take(n) {
		return false
	}
	c.held += n
	return true
}

// give gives n of them back before.
func (c *call) give(n int) {
	c.m.Options.Budget.Give(n)
	c.held -= n
}

func overloaded() *rpc.Error {
	e := rpc.Refuse(codes.Unavailable, "TRANSLATION_BUDGET", "the gateway is translating as much as it may at one moment: try again")
	e.Header.Add("retry-after", "1")
	return e
}

// badRequest makes the caller's error of a fault in JSON or in a parameter.
func badRequest(err error) *rpc.Error {
	e := rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "%s", err)
	if je, ok := errors.AsType[*jsonwire.Error](err); ok {
		e.Fields = []rpc.FieldViolation{{Field: je.Path, Description: je.Message}}
	}
	return e
}

// release gives back what the call holds and makes it ready for the next.
func (c *call) release() {
	c.m.Options.Budget.Give(c.held)
	c.msg.Free()
	c.Reply.Reset()
	if c.raw != nil {
		c.raw.Free()
	}
	clear(c.params)
	if cap(c.params) > keptParams {
		c.params = nil
	}
	*c = call{
		Call:   rpc.Call{Header: c.Call.Header[:0], Reply: rpc.Reply{Header: c.Reply.Header[:0], Trailer: c.Reply.Trailer[:0]}},
		params: c.params[:0],
		header: c.header[:0],
	}
}

// finished is the Sent of an exchange that has its answer.
func finished(x *wire.Exchange, code codes.Code) rpc.Sent {
	s := rpc.Sent{Status: x.Status(), Code: code, End: time.Now()}
	s.BytesIn, s.BytesOut = x.Bytes()
	return s
}
