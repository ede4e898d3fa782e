package trpc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/envelope"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Face serves callers that send tRPC over HTTP: POST /package.Service/Method with what the header of a frame says in headers
// that begin with trpc-. A GET has its message in its query, as servers of trpc-go take it; SDKs send one for an empty message. It is
// safe for concurrent use.
type Face struct {
	calls sync.Pool // of *httpCall
}

var (
	_ rpcadapters.Unsure  = (*Face)(nil)
	_ rpcadapters.Aliased = (*Face)(nil)
)

// NewFace makes the face.
func NewFace() *Face {
	f := &Face{}
	f.calls.New = func() any { return &httpCall{} }
	return f
}

// protocolHTTP is the protocol of calls that come by HTTP.
const protocolHTTP = "trpc-http"

// Name is "trpc-http".
func (f *Face) Name() string { return protocolHTTP }

// Named tells that requests name their method by the path.
func (f *Face) Named() {}

// Aliases is the method's trpc.alias.
func (f *Face) Aliases(m *schema.Method) []string {
	if alias := aliasOf(m); alias != "" {
		return []string{alias}
	}
	return nil
}

// Unsure tells that clients of trpc-go send their headers to services that are not tRPC's, too.
func (f *Face) Unsure() {}

// The headers of requests and answers.
const (
	httpCaller      = "trpc-caller"
	httpCallee      = "trpc-callee"
	httpTimeout     = "trpc-timeout"
	httpRequestID   = "trpc-request-id"
	httpInfo        = "trpc-trans-info" // a JSON object of values in base64
	httpMessageType = "trpc-message-type"
	httpRet         = "trpc-ret"
	httpMessage     = "trpc-error-msg"
)

// Match takes a request to what may be a method, with a header that only callers of tRPC send.
func (f *Face) Match(x *wire.Exchange) bool {
	if x.HTTP.Method != "POST" && x.HTTP.Method != "GET" {
		return false
	}
	for i := range x.HTTP.Header {
		switch x.HTTP.Header[i].Key {
		case httpCaller, httpCallee, httpTimeout, httpRequestID, httpInfo:
			return true
		}
	}
	return false
}

// httpCall is one call with all it needs; pooled.
type httpCall struct {
	rpc.Call
	x      *wire.Exchange
	frames envelope.Stream
	body   envelope.Bare
	codec  httpCodec
	typ    string       // content type of the answer
	header rpc.Metadata // backing of the answer's head
}

// httpCodec is JSON as trpc-go has it, and forms; see envelope.Codec.
type httpCodec struct {
	json   *jsonwire.Options
	query  string // of a GET, which has the message
	form   bool   // the body is a form
	budget *rpc.Budget
	held   int
}

// parameters says what becomes of a query's and a form's: as with trpc-go, what names no field stays behind.
var parameters = jsonwire.QueryOptions{Unknown: jsonwire.IgnoreUnknown}

// paramSize is what a parameter takes in memory.
const paramSize = 64

// appendParameters appends the message that a query or a form has.
func (c *httpCodec) appendParameters(dst, body []byte, m *schema.Message) ([]byte, error) {
	var req jsonwire.Request
	var err error
	req.Message = m
	if c.form {
		req.Params, err = jsonwire.AppendForm(nil, m, body, nil, c.json, &parameters)
	} else {
		req.Params, err = jsonwire.AppendQuery(nil, m, c.query, c.json, &parameters)
	}
	if err != nil {
		return dst, invalid(err)
	}
	// Two bytes of a form may be a parameter, which is many times as large.
	size := len(req.Params) * paramSize
	if !c.budget.Take(size) {
		return dst, overloaded()
	}
	c.held += size
	out, err := jsonwire.AppendRequest(dst, &req, c.json)
	if err != nil {
		return dst, invalid(err)
	}
	return out, nil
}

// AppendWire implements envelope.Codec.
func (c *httpCodec) AppendWire(dst, body []byte, m *schema.Message) ([]byte, error) {
	if c.form || c.query != "" {
		return c.appendParameters(dst, body, m)
	}
	if len(body) == 0 {
		return dst, nil
	}
	out, err := jsonwire.AppendWire(dst, body, m, c.json)
	if err != nil {
		return dst, invalid(err)
	}
	return out, nil
}

// AppendForm implements envelope.Codec.
func (c *httpCodec) AppendForm(dst, wire []byte, m *schema.Message) ([]byte, error) {
	return jsonwire.AppendJSON(dst, wire, m, &jsonForm)
}

// Serve makes a call of the exchange, has h handle it and writes the answer.
func (f *Face) Serve(ctx context.Context, x *wire.Exchange, m *rpcadapters.Matched, h rpc.Handler) {
	c := f.calls.Get().(*httpCall)
	c.x = x
	rpcadapters.Begin(&c.Call, f.Name(), x, m)
	over := false
	defer func() {
		if !over { // a panic: the call is not used again, but what it took of the budget is others'
			c.frames.Close()
			c.codec.budget.Give(c.codec.held)
		}
	}()
	sent := c.serve(ctx, m, h)
	m.Finish.Done(&c.Call, sent)
	over = true
	c.release()
	f.calls.Put(c)
}

func (c *httpCall) serve(ctx context.Context, m *rpcadapters.Matched, h rpc.Handler) rpc.Sent {
	if m.Method.Kind != schema.Unary {
		return c.finish(rpc.Refuse(codes.Unimplemented, "METHOD_NOT_FOUND", "%s is a %s method, and those are not served by tRPC over HTTP", m.Method.Name[1:], m.Method.Kind))
	}
	o := envelope.Options{Method: m.Method, Limit: m.Options.MaxBody, Budget: m.Options.Budget}
	if e := c.forms(m, &o); e != nil {
		return c.finish(e)
	}
	c.frames.Reset(c.x, c.x, o)
	c.body.Reset(&c.frames, c.x, c.x.ContentLength)
	c.Body = &c.body
	ctx, cancel, err := c.admit(ctx, m)
	if err == nil {
		err = h.Handle(ctx, &c.Call)
	}
	cancel()
	return c.finish(rpcadapters.RPCError(err))
}

// forms reads what the body is in.
func (c *httpCall) forms(m *rpcadapters.Matched, o *envelope.Options) *rpc.Error {
	name := c.x.HTTP.Header.Get("content-encoding")
	in, known := envelope.ByName(name)
	if !known {
		return rpc.Refuse(codes.InvalidArgument, "UNSUPPORTED_ENCODING", "content-encoding %q is not known here: want one of %s", name, envelope.Names).WithStatus(415)
	}
	o.In = in
	// Clients of trpc-go name nothing that they accept, and read answers as they send requests.
	if h := c.x.HTTP.Header; in != rpc.Identity && (!h.Has("accept-encoding") || envelope.Accepts(h.Get("accept-encoding"), in)) {
		o.Out, o.Always = in, true
	}
	c.codec = httpCodec{json: m.Options.StubJSON(), budget: m.Options.Budget}
	if c.x.HTTP.Method == "GET" && c.x.HTTP.Query != "" {
		c.typ, c.codec.query = "application/json", c.x.HTTP.Query
		o.Codec = &c.codec
		return nil
	}
	switch c.typ = rpcadapters.ContentType(c.x.HTTP.Header.Get("content-type")); c.typ {
	case "application/json", "", "application/x-www-form-urlencoded":
		c.codec.form = strings.HasSuffix(c.typ, "form-urlencoded")
		c.typ = "application/json"
		o.Codec = &c.codec
		return nil
	case "application/proto", "application/protobuf", "application/x-protobuf", "application/pb":
		return nil
	}
	e := rpc.Refuse(codes.InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", "content-type %q is not served here: want application/json, application/proto or application/x-www-form-urlencoded", c.typ).WithStatus(415)
	e.Header.Add("accept-post", "application/json, application/proto, application/x-www-form-urlencoded")
	return e
}

// admit gives the call its metadata and its deadline: what the headers say, and what is in trans_info.
func (c *httpCall) admit(ctx context.Context, m *rpcadapters.Matched) (call context.Context, cancel context.CancelFunc, err error) {
	call, cancel, err = rpcadapters.Admit(ctx, &c.Call, c.x, m)
	if err != nil {
		return call, cancel, err
	}
	kept := c.Header[:0]
	for _, pair := range c.Header {
		if !strings.HasPrefix(pair.Key, frameworkPrefix) {
			kept = append(kept, pair)
		}
	}
	c.Header = kept
	headers := c.x.HTTP.Header
	if text := headers.Get(httpInfo); text != "" {
		var info map[string]string
		if json.Unmarshal([]byte(text), &info) != nil {
			return call, cancel, rpc.Refuse(codes.InvalidArgument, "INVALID_METADATA", "header %q: want a JSON object of values in base64", httpInfo)
		}
		for key, value := range info {
			if raw, err := base64.StdEncoding.DecodeString(value); err == nil {
				value = string(raw) // SDKs can be told to send text as it is
			}
			c.Header, c.Spelled = appendCarried(c.Header, c.Spelled, key, value)
		}
	}
	c.Caller, c.Callee = headers.Get(httpCaller), headers.Get(httpCallee)
	if marks, err := strconv.ParseUint(headers.Get(httpMessageType), 10, 32); err == nil {
		c.Marks = uint32(marks)
	}
	if text := headers.Get(httpTimeout); text != "" {
		ms, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return call, cancel, rpc.Refuse(codes.InvalidArgument, "INVALID_TIMEOUT", "header %q: want milliseconds, like 500", httpTimeout)
		}
		timeout := time.Duration(ms) * time.Millisecond
		if due, ok := call.Deadline(); ms > 0 && (!ok || c.x.Start.Add(timeout).Before(due)) {
			earlier, stop := rpcadapters.SetDeadline(call, c.x, timeout)
			outer := cancel
			return earlier, func() { stop(); outer() }, nil
		}
	}
	return call, cancel, nil
}

// finish writes what the chain came back with and says what was sent.
func (c *httpCall) finish(e *rpc.Error) rpc.Sent {
	if e == nil {
		answer, err := c.frames.Encode(&c.Reply.Message)
		if err == nil {
			encoding := ""
			if answer.Flags != 0 {
				encoding = envelope.Name(c.frames.Out)
			}
			werr := c.x.Respond(200, c.head(nil, encoding), answer.Payload)
			answer.Free()
			return rpcadapters.Finished(c.x, nil, werr)
		}
		answer.Free()
		e = rpc.AsError(err)
	}
	status := e.Status
	if status == 0 {
		status = rpcadapters.HTTPStatus(e.Code)
	}
	return rpcadapters.Finished(c.x, e, c.x.Respond(status, c.head(e, ""), nil))
}

// head is the head of an answer.
func (c *httpCall) head(e *rpc.Error, encoding string) rpc.Metadata {
	o := outcomeOf(e)
	h := append(c.header[:0], rpc.Pair{Key: "x-request-id", Value: c.ID},
		rpc.Pair{Key: httpRet, Value: strconv.Itoa(int(o.ret))}, rpc.Pair{Key: funcRetHeader, Value: strconv.Itoa(int(o.funcRet))})
	if e == nil {
		h = append(h, rpc.Pair{Key: "content-type", Value: c.typ})
	} else {
		h = append(h, rpc.Pair{Key: httpMessage, Value: headerText(o.message)})
		for _, pair := range e.Header {
			if !strings.HasPrefix(pair.Key, frameworkPrefix) {
				h = append(h, pair)
			}
		}
	}
	if encoding != "" {
		h = append(h, rpc.Pair{Key: "content-encoding", Value: encoding})
	}
	if id := c.x.HTTP.Header.Get(httpRequestID); id != "" && rpc.Printable(id) {
		h = append(h, rpc.Pair{Key: httpRequestID, Value: id})
	}
	if text := infoText(&c.Reply); text != "" {
		h = append(h, rpc.Pair{Key: httpInfo, Value: text})
	}
	c.header = h
	return h
}

var lineEnds = strings.NewReplacer("\r", `\r`, "\n", `\n`)

// headerText is a text as a header can have it: ends of lines as trpc-go writes them.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, lineEnds.Replace(s))
}

// infoText is metadata of an answer as a JSON object of values in base64, "" without any.
func infoText(r *rpc.Reply) string {
	var b []byte
	add := func(key, name, value string) {
		if strings.HasPrefix(key, frameworkPrefix) {
			return
		}
		if b = append(b, ','); len(b) == 1 {
			b[0] = '{'
		}
		b = append(jsonwire.AppendString(b, name), ':', '"')
		b = append(base64.StdEncoding.AppendEncode(b, []byte(value)), '"')
	}
	speller := r.Spelled.Speller()
	for _, md := range [...]rpc.Metadata{r.Header, r.Trailer} {
		for i := range md {
			name, value := asStood(&speller, &md[i])
			add(md[i].Key, name, value)
		}
	}
	for i := range r.Spelled {
		if s := &r.Spelled[i]; s.As.Key == "" && utf8.ValidString(s.Name) {
			add(rpc.Lower(s.Name), s.Name, s.Text)
		}
	}
	if b == nil {
		return ""
	}
	return string(append(b, '}'))
}

// release gives back what the call holds and makes it ready for the next.
func (c *httpCall) release() {
	c.frames.Close()
	c.body.Close()
	c.codec.budget.Give(c.codec.held)
	c.Reply.Reset()
	clear(c.header[:cap(c.header)])
	clear(c.Spelled[:cap(c.Spelled)])
	clear(c.Reply.Spelled[:cap(c.Reply.Spelled)])
	header, metadata, spelled := c.header[:0], c.Call.Header[:0], c.Spelled[:0]
	reply := rpc.Reply{Header: c.Reply.Header, Trailer: c.Reply.Trailer, Spelled: c.Reply.Spelled}
	*c = httpCall{}
	c.header, c.Call.Header, c.Spelled, c.Reply = header, metadata, spelled, reply
}

// Refuse answers a request that has no route, or that broke before it had one.
func (f *Face) Refuse(x *wire.Exchange, err *rpc.Error) rpc.Sent {
	c := httpCall{x: x}
	c.ID = x.ID
	return c.finish(err)
}
