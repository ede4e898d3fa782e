package trpc

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Inlet serves clients that speak tRPC. It is safe for concurrent use.
type Inlet struct{}

var (
	_ rpcadapters.Inlet      = Inlet{}
	_ rpcadapters.Configured = Inlet{}
)

// Name is "trpc".
func (Inlet) Name() string { return protocolName }

// Config makes empty options of a listener.
func (Inlet) Config() proto.Message { return &trpcv1.Listener{} }

// Bind implements rpcadapters.Inlet: a method is called by its path, and by its alias where it has one.
func (Inlet) Bind(m *schema.Method, _ proto.Message) (rpcadapters.Bound, error) {
	f, err := newForm(m, "")
	if err != nil {
		return rpcadapters.Bound{}, err
	}
	called := []string{m.Name}
	if alias := aliasOf(m); alias != "" && alias != m.Name {
		called = append(called, alias)
	}
	return rpcadapters.Bound{Names: called, Plan: f}, nil
}

// New implements rpcadapters.Inlet.
func (Inlet) New(e rpcadapters.Entry, conf proto.Message, limits rpcadapters.Limits) (wire.Protocol, error) {
	o, _ := conf.(*trpcv1.Listener)
	window, err := windowOf(o.GetWindow())
	if err != nil {
		return nil, err
	}
	most := limits.MaxMessage
	if most <= 0 {
		most = defaultMaxFrame
	}
	n := &inlet{entry: e, window: window, echo: o.GetEchoInfo(), response: lowered(o.GetResponseInfo()), most: most}
	if n.spelling, err = spellingOf(o.GetInfoNames()); err != nil {
		return nil, err
	}
	return framed.NewServer(framed.ServerConfig{
		Framing: framing{}, Service: n, MaxFrame: headLen + maxHeader + most, Calls: limits.Calls, Idle: limits.Idle, Budget: limits.Budget,
	}), nil
}

// inlet serves the calls of a listener.
type inlet struct {
	entry    rpcadapters.Entry
	window   uint32
	echo     bool
	response names
	spelling *rpcadapters.Spelling
	most     int // bytes of one message of a stream
}

// Begin implements framed.Service. A frame of a stream that is not open is answered with a reset, unless it is one.
func (n *inlet) Begin(in *framed.Incoming) framed.Handler {
	if in.Kind == framed.Unary {
		return n
	}
	var h head
	if h.parse(in.Frame, noLimit) != nil {
		return nil
	}
	if h.stream == streamInit {
		return newServerStream(n, in)
	}
	var m closeMeta
	if h.stream != streamClose || m.parse(in.Frame[headLen:]) == nil && m.reset == 0 {
		in.SendNow(&closeFrame{closeMeta{reset: closeReset, ret: retDecode, message: []byte(uninitialized)}})
	}
	return nil
}

// serverCall is one unary call with all it needs; pooled. It is its own body and the frame of its answer.
type serverCall struct {
	rpc.Call
	in       *framed.Incoming
	inlet    *inlet
	version  uint8
	req      request
	body     []byte // of the request, as sent
	attached []byte
	form     *form
	json     *jsonwire.Options
	most     int         // bytes of the body
	budget   *rpc.Budget // of messages in translation
	held     int
	parsed   bool
	msg      rpc.Message
	fault    *rpc.Error
	scratch  []byte

	// The answer.
	resp     response
	err      *rpc.Error
	answer   []byte
	appendix []byte
	made     *rpc.Buffer // what answer is part of where it is not the service's
	sent     int
}

var serverCalls = sync.Pool{New: func() any { return &serverCall{} }}

// AppendFrame implements framed.Frame: the answer.
func (c *serverCall) AppendFrame(dst []byte, id uint32) []byte {
	start := len(dst)
	h := head{frame: frameUnary, id: id, version: c.version}
	dst = c.resp.appendFront(h.append(dst))
	dst = c.inlet.appendReply(dst, responseInfo, &c.Call, c.err, &c.req.info)
	dst = c.resp.appendBack(dst)
	at := len(dst)
	dst = append(append(dst, c.answer...), c.appendix...)
	patch(dst, start, at)
	c.sent = len(dst) - start
	return dst
}

// Run implements framed.Handler, for unary calls.
func (n *inlet) Run(in *framed.Incoming) {
	c := serverCalls.Get().(*serverCall)
	c.in, c.inlet = in, n
	clean := false
	defer func() {
		if !clean { // the call is not used again, but what it took of the budget is others'
			c.budget.Give(c.held)
		}
	}()
	if clean = c.run(); clean {
		c.release()
		serverCalls.Put(c)
	}
}

// run takes the call to its end; false: it may be held by what has panicked.
func (c *serverCall) run() (clean bool) {
	if e := c.parse(); e != nil {
		c.Answer(e)
		return true
	}
	if c.req.callType == callOneWay {
		c.in.Keep()
	}
	c.Protocol, c.Peer, c.Times.Start = protocolName, c.in.Peer, c.in.Start
	c.Header, c.Spelled = appendInfo(c.Header[:0], c.Spelled[:0], &c.req.info)
	var fn string
	c.scratch, fn = introduce(&c.Call, c.scratch, c.req.caller, c.req.callee, c.req.fn, c.req.messageType)
	found := c.inlet.entry.Find(fn, &c.Call)
	c.prepare(found)
	return found.Run(c.in.Context(), &c.Call, scheme(c.in), time.Duration(c.req.timeout)*time.Millisecond, c)
}

// introduce notes what a call says of itself and gives the name that it is for; the names cost one string. scratch is used for that.
func introduce(c *rpc.Call, scratch, caller, callee, fn []byte, messageType uint32) (_ []byte, name string) {
	scratch = append(append(append(scratch[:0], caller...), callee...), fn...)
	all := string(scratch)
	at := len(caller) + len(callee)
	if rpc.Printable(all[:at]) {
		c.Caller, c.Callee = all[:len(caller)], all[len(caller):at]
	}
	c.Marks = messageType
	return scratch, all[at:]
}

// scheme is what clients of a connection are forwarded as.
func scheme(in *framed.Incoming) string {
	if in.TLS != nil {
		return "trpc+tls"
	}
	return "trpc"
}

// parse reads the frame.
func (c *serverCall) parse() *rpc.Error {
	frame := c.in.Frame
	var h head
	if err := h.parse(frame, noLimit); err != nil {
		return malformed(err)
	}
	c.version = h.version
	c.req.id = c.in.ID
	if c.in.Refused != framed.Taken {
		return notTaken(c.in.Refused)
	}
	if err := c.req.parse(frame[headLen : headLen+h.header]); err != nil {
		c.req.id = c.in.ID
		return malformed(err)
	}
	if c.req.id == 0 {
		c.req.id = c.in.ID
	}
	var err error
	if c.body, c.attached, err = parts(frame, &h, c.req.attachment); err != nil {
		return malformed(err)
	}
	return nil
}

// malformed is the error of a frame that cannot be read.
func malformed(err error) *rpc.Error {
	return rpc.Refuse(codes.InvalidArgument, "MALFORMED_MESSAGE", "%s", err)
}

// notTaken is the error of a frame that was not taken.
func notTaken(why framed.Refused) *rpc.Error {
	e := rpc.Refuse(codes.ResourceExhausted, "OVERLOADED", "the gateway is out of memory")
	e.Native = retOverload
	switch why {
	case framed.TooLarge:
		return rpc.Refuse(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", "the request is larger than is taken")
	case framed.TooMany:
		e.Message = "there are as many streams on this connection as it may have"
	}
	return e
}

// appendInfo appends what of a request's trans_info is metadata.
func appendInfo(dst rpc.Metadata, sp rpc.Spelled, info *transInfo) (rpc.Metadata, rpc.Spelled) {
	text := info.text()
	for e := info.entries(); e.next(); {
		name, value := e.pair(text)
		dst, sp = appendCarried(dst, sp, name, value)
	}
	return dst, sp
}

// appendCarried appends a pair of a request's trans_info if it is metadata. Of the framework's that is what is passed on along
// a chain of calls.
func appendCarried(dst rpc.Metadata, sp rpc.Spelled, name, value string) (rpc.Metadata, rpc.Spelled) {
	key := rpc.Lower(name)
	if strings.HasPrefix(key, frameworkPrefix) && key != dyeingKey && key != envKey {
		return dst, sp
	}
	if strings.HasSuffix(key, "-bin") {
		value = base64.RawStdEncoding.EncodeToString([]byte(value)) // which AppendSpelled wants
	}
	return rpcadapters.AppendSpelled(dst, sp, name, value)
}

// prepare readies the call for who takes it.
func (c *serverCall) prepare(found *rpcadapters.Found) {
	if found.Refusal != nil {
		return
	}
	if found.Method.Kind != schema.Unary {
		found.Refusal = rpc.Refuse(codes.Unimplemented, "METHOD_NOT_FOUND", "%s is a %s method: open a stream for it", found.Method.Name[1:], found.Method.Kind)
		return
	}
	c.form = found.Plan.(*form)
	c.most, c.budget, c.json = found.Options.MaxBody, found.Options.Budget, found.Options.StubJSON()
	if c.req.encoding == encodingGzip && c.req.contentType == contentProto {
		c.Packed = rpc.Gzip
	}
	c.Body = c
}

// Raw implements rpc.Body: the body as sent.
func (c *serverCall) Raw(context.Context) ([]byte, error) {
	if e := c.large(len(c.body) + len(c.attached)); e != nil {
		return nil, e
	}
	return c.body, nil
}

// Bound implements rpc.Bounded.
func (c *serverCall) Bound(most int) {
	if c.most == 0 || most < c.most {
		c.most = most
	}
}

func (c *serverCall) large(size int) *rpc.Error { return large(size, c.most) }

func large(size, most int) *rpc.Error {
	if most == 0 || size <= most {
		return nil
	}
	return rpc.Refuse(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", "the message is larger than %d bytes", most).WithStatus(413)
}

// Message implements rpc.Body.
func (c *serverCall) Message(_ context.Context, m *schema.Message) (*rpc.Message, error) {
	if m != c.form.input {
		return nil, rpc.Refuse(codes.Internal, "INTERNAL", "internal error").WithCause(errors.New("the body is a " + c.form.input.Name + ", and was asked for as " + m.Name))
	}
	if !c.parsed {
		c.parsed = true
		c.Times.Body = c.in.Start
		var b *rpc.Buffer
		if c.fault = c.large(len(c.body) + len(c.attached)); c.fault == nil {
			b, c.held, c.fault = c.form.request(c.body, c.attached, c.req.contentType, c.req.encoding, c.json, c.most, c.budget)
		}
		if c.fault == nil {
			c.msg.Own(b)
			at := len(b.B) - len(c.attached)
			c.msg.Data, c.msg.Attached = b.B[:at:at], b.B[at:]
		}
	}
	if c.fault != nil {
		return nil, c.fault
	}
	return &c.msg, nil
}

// request makes wire bytes of a request's body, with what is attached behind them. They are taken from the budget; held says
// how much, also beside an error.
func (f *form) request(body, attached []byte, content, encoding uint32, json *jsonwire.Options, most int, budget *rpc.Budget) (made *rpc.Buffer, held int, e *rpc.Error) {
	b := rpc.GetBuffer()
	var err error
	if encoding != encodingNone && len(body) > 0 {
		limit := most
		if limit == 0 {
			limit = maxUnpacked
		}
		if b.B, held, err = appendUnpacked(b.B, body, encoding, limit, budget); err != nil {
			b.Free()
			return nil, held, unpacked(err, limit)
		}
		if content == contentProto {
			b.B = append(b.B, attached...)
			return b, held, nil
		}
		body = b.B
	}
	wired := rpc.GetBuffer()
	wired.B, err = f.appendWire(wired.B, body, content, f.input, json)
	b.Free()
	if err == nil {
		if e = large(len(wired.B), most); e == nil && !budget.Take(len(wired.B)+len(attached)) {
			e = overloaded()
		}
	} else {
		e = invalid(err)
	}
	if e != nil {
		wired.Free()
		return nil, held, e
	}
	held += len(wired.B) + len(attached)
	wired.B = append(wired.B, attached...)
	return wired, held, nil
}

// maxUnpacked bounds what a message unpacks to where the route has no bound.
const maxUnpacked = 64 << 20

// unpacked is the error of a request whose body cannot be unpacked.
func unpacked(err error, limit int) *rpc.Error {
	switch {
	case errors.Is(err, errTooLarge):
		return large(limit+1, limit)
	case errors.Is(err, errBudget):
		return overloaded()
	}
	return rpc.Refuse(codes.InvalidArgument, "MALFORMED_MESSAGE", "%s", err)
}

func overloaded() *rpc.Error {
	e := rpc.Refuse(codes.Unavailable, "TRANSLATION_BUDGET", "the gateway is translating as much as it may at one moment: try again")
	e.Native = retOverload
	return e
}

// Answer implements rpcadapters.Answerer.
func (c *serverCall) Answer(e *rpc.Error) rpc.Sent {
	c.resp = response{id: c.req.id, callType: c.req.callType, messageType: c.req.messageType, contentType: c.req.contentType}
	if e == nil {
		e = c.encode()
	}
	if c.err = e; e != nil {
		o := outcomeOf(e)
		c.resp.ret, c.resp.funcRet, c.resp.message = o.ret, o.funcRet, []byte(o.message)
		c.answer, c.appendix, c.resp.encoding, c.resp.contentType = nil, nil, encodingNone, contentProto
	}
	c.resp.attachment = uint32(len(c.appendix)) //nolint:gosec // frames are far smaller
	var werr error
	if c.req.callType != callOneWay {
		werr = c.in.Send(c)
	}
	s := rpc.Sent{BytesIn: int64(len(c.in.Frame)), BytesOut: int64(c.sent), End: rpcadapters.Now(c.in.Start)}
	finished(&s, e, werr)
	return s
}

// finished says how a call ended: with e, and werr where that could not be told.
func finished(s *rpc.Sent, e *rpc.Error, werr error) {
	if e != nil {
		s.Code, s.Reason, s.Err = e.Code, e.Reason, e
	}
	if werr != nil {
		if e == nil {
			s.Code, s.Reason = codes.Canceled, "CLIENT_GONE"
		}
		s.Err = errors.Join(s.Err, werr)
	}
}

// encode makes the body of the answer: in the form that the request came in, packed as that was.
func (c *serverCall) encode() *rpc.Error {
	if c.req.callType == callOneWay {
		return nil
	}
	m := &c.Reply.Message
	c.appendix = m.Attached
	packing := c.req.encoding
	if packing == encodingSnappy {
		packing = snappyOf(c.body)
	}
	body, encoding, made, err := c.form.answer(m, c.req.contentType, packing, len(m.Data) >= defaultAbove)
	if encoding != encodingNone {
		encoding = c.req.encoding // what the client calls it
	}
	c.answer, c.resp.encoding, c.made = body, encoding, made
	if err != nil {
		return rpc.Refuse(codes.Internal, "INVALID_ANSWER", "the service's answer is not a valid %s", c.form.output.Name).WithStatus(502).WithCause(err)
	}
	if most := noLimit / 2; len(c.answer)+len(c.appendix) > most {
		return rpc.Refuse(codes.Internal, "ANSWER_TOO_LARGE", "the service's answer is larger than a frame can be")
	}
	return nil
}

// answer makes the body of an answer in a content type, packed by packing, which is not encodingSnappy, where it is worth it. made
// is what was made for it, also beside an error.
func (f *form) answer(m *rpc.Message, content, packing uint32, worth bool) (body []byte, encoding uint32, made *rpc.Buffer, err error) {
	body = m.Data
	if m.Comp != rpc.Identity {
		if m.Comp == rpc.Gzip && packing == encodingGzip && content == contentProto {
			return body, encodingGzip, nil, nil
		}
		made = rpc.GetBuffer()
		made.B, _, err = appendUnpacked(made.B, body, encodingGzip, maxUnpacked, nil)
		if body = made.B; err != nil {
			return nil, 0, made, err
		}
	}
	if content != contentProto {
		b := rpc.GetBuffer()
		b.B, err = f.appendForm(b.B, body, content, f.output)
		if made != nil {
			made.Free()
		}
		made, body = b, b.B
		if err != nil {
			return nil, 0, made, err
		}
	}
	if packing != encodingNone && worth {
		b := rpc.GetBuffer()
		b.B, err = appendPacked(b.B, body, packing)
		if made != nil {
			made.Free()
		}
		made, body = b, b.B
		encoding = packing
	}
	return body, encoding, made, err
}

// release gives back what the call holds and makes it ready for the next.
func (c *serverCall) release() {
	c.msg.Free()
	c.budget.Give(c.held)
	if c.made != nil {
		c.made.Free()
	}
	c.Reply.Reset()
	scratch, header, spelled := c.scratch[:0], c.Call.Header[:0], c.Spelled[:0]
	reply := rpc.Reply{Header: c.Reply.Header, Trailer: c.Reply.Trailer, Spelled: c.Reply.Spelled}
	clear(header[:cap(header)])
	clear(spelled[:cap(spelled)])
	clear(reply.Spelled[:cap(reply.Spelled)])
	*c = serverCall{}
	c.scratch, c.Call.Header, c.Spelled, c.Reply = scratch, header, spelled, reply
}
