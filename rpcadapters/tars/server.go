package tars

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// Inlet serves clients that speak TARS. It is safe for concurrent use.
type Inlet struct{}

var (
	_ rpcadapters.Inlet      = Inlet{}
	_ rpcadapters.Configured = Inlet{}
	_ rpcadapters.Checker    = Inlet{}
)

// Name is "tars".
func (Inlet) Name() string { return protocolName }

// Config is a causeway.adapter.tars.v1.Listener.
func (Inlet) Config() proto.Message { return &tarsadapterv1.Listener{} }

// served is what is known at load of a method that clients call.
type served struct{ codec }

// Bind implements rpcadapters.Inlet. A method is called as "servant/function".
func (Inlet) Bind(m *schema.Method, conf proto.Message) (rpcadapters.Bound, error) {
	o, _ := conf.(*tarsadapterv1.Listener)
	s := &served{}
	if err := s.codec.compile(m, VersionTARS, o.GetCharset(), o.GetLenientRequire(), false); err != nil {
		return rpcadapters.Bound{}, err
	}
	var bound []string
	for _, one := range o.GetServants() {
		if one.GetService() == m.Service.Name || one.GetService() == s.fn.Interface {
			bound = append(bound, one.GetName()+"/"+s.fn.Name)
		}
	}
	if bound == nil {
		bound = []string{s.fn.Interface + "/" + s.fn.Name}
	}
	return rpcadapters.Bound{Names: bound, Plan: s}, nil
}

// Check implements rpcadapters.Checker.
func (Inlet) Check(conf proto.Message, methods []*schema.Method) error {
	o, _ := conf.(*tarsadapterv1.Listener)
	var known []string
	for i, one := range o.GetServants() {
		if known == nil {
			known = services(methods, o)
		}
		if !slices.Contains(known, one.GetService()) {
			return fmt.Errorf("servants[%d].service: no route serves a service %q%s", i, one.GetService(), schema.DidYouMean(one.GetService(), known))
		}
	}
	return nil
}

// services are the names that the services of methods go by, in proto and in TARS, sorted.
func services(methods []*schema.Method, o *tarsadapterv1.Listener) []string {
	var names []string
	for _, m := range methods {
		names = append(names, m.Service.Name)
		var s served
		if s.codec.compile(m, VersionTARS, o.GetCharset(), o.GetLenientRequire(), false) == nil {
			names = append(names, s.fn.Interface)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// New implements rpcadapters.Inlet.
func (Inlet) New(e rpcadapters.Entry, conf proto.Message, limits rpcadapters.Limits) (wire.Protocol, error) {
	o, _ := conf.(*tarsadapterv1.Listener)
	for i, s := range o.GetServants() {
		switch {
		case s.GetName() == "":
			return nil, fmt.Errorf(`servants[%d].name: want a name that clients call by, like "App.Server.Obj"`, i)
		case strings.ContainsAny(s.GetName(), "/@ "):
			return nil, fmt.Errorf(`servants[%d].name: want a name like "App.Server.Obj", found %q`, i, s.GetName())
		case s.GetService() == "":
			return nil, fmt.Errorf("servants[%d].service: want the full name of the proto service that %s leads to", i, s.GetName())
		}
	}
	if c := o.GetCharset(); c != "" && c != "utf8" && c != "gbk" {
		return nil, fmt.Errorf("charset: want utf8 or gbk, found %q%s", c, schema.DidYouMean(c, []string{"utf8", "gbk"}))
	}
	spelling, err := spellingOf("context_names", o.GetContextNames())
	if err != nil {
		return nil, err
	}
	maxFrame := 0
	if limits.MaxMessage > 0 {
		maxFrame = limits.MaxMessage + packetRoom
	}
	return framed.NewServer(framed.ServerConfig{
		Framing: requests{}, Service: &inlet{e, spelling}, MaxFrame: maxFrame, Calls: limits.Calls, Idle: limits.Idle, Budget: limits.Budget,
		Leave: leaving(VersionTARS), LeaveIn: map[uint8]framed.Frame{asRequest: leaving(VersionTUP)},
	}), nil
}

// leaving is the packet by which clients are asked to leave, laid out as all that they get: they read it by the version that they
// speak, and some of them end where it is not that.
func leaving(version int16) framed.Frame {
	return &packet{&Response{Version: version, Body: []byte{}, Desc: []byte(Reconnect)}}
}

// packet is a Response as a frame.
type packet struct{ *Response }

// AppendFrame implements framed.Frame.
func (p *packet) AppendFrame(dst []byte, id uint32) []byte {
	at := len(dst)
	r := *p.Response
	r.ID = int32(id) //nolint:gosec // the same bits
	return putLength(AppendResponse(append(dst, 0, 0, 0, 0), &r), at)
}

// inlet serves the calls of a listener.
type inlet struct {
	entry    rpcadapters.Entry
	spelling *rpcadapters.Spelling // of names of the context of answers
}

// Begin implements framed.Service.
func (n *inlet) Begin(*framed.Incoming) framed.Handler { return n }

// serverCall is one call with all it needs; pooled, so that a call costs little of its own. It is its own body and frame.
type serverCall struct {
	rpc.Call
	in        *framed.Incoming
	req       Request
	resp      Response
	plan      *served
	most      int         // bytes of the body
	budget    *rpc.Budget // of messages in translation
	held      int
	name      []byte
	answer    []byte // body of the answer
	msg       rpc.Message
	parsed    bool
	fault     error
	sent      int // bytes of the answer
	noServant bool
	torn      bool // something of the call has panicked: it may be held, and is not used again
	inlet     *inlet
}

var serverCalls = sync.Pool{New: func() any { return &serverCall{} }}

// AppendFrame implements framed.Frame.
func (c *serverCall) AppendFrame(dst []byte, id uint32) []byte {
	at := len(dst)
	c.resp.ID = int32(id) //nolint:gosec // the same bits
	dst = AppendResponse(append(dst, 0, 0, 0, 0), &c.resp)
	c.sent = len(dst) - at
	return putLength(dst, at)
}

// Run implements framed.Handler.
func (n *inlet) Run(in *framed.Incoming) {
	c := serverCalls.Get().(*serverCall)
	c.in, c.inlet = in, n
	clean := false
	defer func() {
		if !clean || c.torn { // the call is not used again, but what it took of the budget is others'
			c.budget.Give(c.held)
			return
		}
		c.release()
		serverCalls.Put(c)
	}()
	c.run()
	clean = true
}

// run answers a packet.
func (c *serverCall) run() {
	if c.in.Refused != framed.Taken {
		c.refuse()
		return
	}
	if err := ParseRequest(&c.req, c.in.Frame[headSize:]); err != nil {
		c.resp = Response{Version: VersionTARS, Ret: retServerDecode, Desc: []byte(err.Error())}
		if v := version(c.in.Frame[headSize:]); v != 0 {
			c.resp.Version = v
		}
		_, _ = c.write() // a client that has gone needs no answer
		return
	}
	c.resp.Version, c.resp.PacketType, c.resp.Servant, c.resp.Function = c.req.Version, c.req.PacketType, c.req.Servant, c.req.Function
	if string(c.req.Function) == pingFunction {
		_, _ = c.write() // of every servant, as the SDKs do
		return
	}
	switch c.req.Version {
	case VersionTARS, VersionTUP2, VersionTUP, VersionJSON:
	default:
		c.resp.Ret, c.resp.Desc = retServerDecode, []byte("version "+strconv.Itoa(int(c.req.Version))+" is not served: want 1, 2, 3 or 5")
		_, _ = c.write() // a client that has gone needs no answer
		return
	}
	c.call()
}

// refuse answers a packet that was not taken, of which there is the beginning.
func (c *serverCall) refuse() {
	c.resp = Response{Version: VersionTARS, Ret: retOverload, Desc: []byte("the gateway is out of memory")}
	if v := version(c.in.Frame[headSize:]); v != 0 {
		c.resp.Version = v
	}
	if c.in.Refused == framed.TooLarge {
		c.resp.Ret, c.resp.Desc = retServerDecode, []byte("the request is larger than is taken")
	}
	_, _ = c.write() // a client that has gone needs no answer
}

// write sends the answer, unless none is wanted.
func (c *serverCall) write() (sent bool, err error) {
	if c.req.PacketType == OneWay {
		return false, nil
	}
	if c.resp.Body == nil {
		c.resp.Body = []byte{}
	}
	return true, c.in.Send(c)
}

// call has the gateway handle the call.
func (c *serverCall) call() {
	c.Protocol, c.Peer, c.Times.Start = protocolName, c.in.Peer, c.in.Start
	c.Header, c.Spelled = appendRequest(c.Header[:0], c.Spelled[:0], &c.req.Context, &c.req.Status)
	c.name = append(append(append(c.name[:0], c.req.Servant...), '/'), c.req.Function...)
	found := c.inlet.entry.Find(string(c.name), &c.Call)
	c.noServant = found.NoService
	if found.Refusal == nil {
		c.plan, c.Body = found.Plan.(*served), c
		c.most, c.budget = found.Options.MaxBody, found.Options.Budget
	}
	scheme := "tars"
	if c.in.TLS != nil {
		scheme = "tars+tls"
	}
	var allowed time.Duration
	if c.req.Timeout > 0 {
		allowed = time.Duration(c.req.Timeout) * time.Millisecond
	}
	if c.req.PacketType == OneWay {
		c.in.Keep()
	}
	c.torn = !found.Run(c.in.Context(), &c.Call, scheme, allowed, c)
}

// Answer implements rpcadapters.Answerer.
func (c *serverCall) Answer(e *rpc.Error) rpc.Sent {
	c.resp.Body = nil
	if e == nil {
		e = c.encode()
	}
	c.resp.Ret, c.resp.Desc = retOK, nil
	c.resp.Context.Reset()
	c.resp.Status.Reset()
	speller, spelling := c.Reply.Spelled.Speller(), c.inlet.spelling
	appendAnswer(&c.resp.Context, &c.resp.Status, c.Reply.Header, &speller, spelling)
	appendAnswer(&c.resp.Context, &c.resp.Status, c.Reply.Trailer, &speller, spelling)
	for i := range c.Reply.Spelled {
		if sp := &c.Reply.Spelled[i]; sp.As.Key == "" && rpcadapters.PassesBack(rpc.Lower(sp.Name)) {
			addEntry(&c.resp.Context, &c.resp.Status, sp.Name, sp.Name, sp.Text, "")
		}
	}
	if e != nil {
		ret, text := retOf(e)
		if c.noServant && ret == retNoFunction {
			ret = retNoServant
		}
		c.resp.Ret, c.resp.Desc = ret, c.text(text)
		for _, p := range e.Header {
			addEntry(&c.resp.Context, &c.resp.Status, p.Key, spelling.Of(p.Key, p.Key), p.Value, "")
		}
	}
	if c.ID != "" {
		c.resp.Context.Add(spelling.Of(requestID, requestID), c.ID)
	}
	wanted, werr := c.write()
	s := rpc.Sent{BytesIn: int64(len(c.in.Frame)), BytesOut: int64(c.sent), Err: werr, End: rpcadapters.Now(c.in.Start)}
	if e != nil {
		s.Code, s.Reason, s.Err = e.Code, e.Reason, e
	} else if wanted && werr != nil {
		s.Code, s.Reason = codes.Canceled, "CLIENT_GONE"
	}
	return s
}

// text is the text of an error as the clients of the listener have it.
func (c *serverCall) text(s string) []byte {
	if c.plan == nil { // nobody takes the call: the text is ours, and English
		return []byte(s)
	}
	return tarswire.ToCharset(nil, []byte(s), c.plan.wire.Charset)
}

// encode makes the body of the answer.
func (c *serverCall) encode() *rpc.Error {
	if c.req.PacketType == OneWay {
		return nil
	}
	var err error
	if c.answer, err = c.plan.appendBody(c.answer[:0], c.Reply.Message.Data, c.plan.out(), c.req.Version, false); err != nil {
		return rpc.Refuse(codes.Internal, unwritten, "the service's answer cannot be written in TARS: %s", err)
	}
	if len(c.answer) > maxBody {
		return rpc.Refuse(codes.Internal, "ANSWER_TOO_LARGE", "the service's answer is larger than a packet can be")
	}
	c.resp.Body = c.answer
	return nil
}

// Raw implements rpc.Body: the body of the packet.
func (c *serverCall) Raw(context.Context) ([]byte, error) {
	if len(c.req.Body) > c.most && c.most > 0 {
		return nil, c.large()
	}
	return c.req.Body, nil
}

// Bound implements rpc.Bounded.
func (c *serverCall) Bound(most int) {
	if c.most == 0 || most < c.most {
		c.most = most
	}
}

func (c *serverCall) large() *rpc.Error {
	return rpc.Refuse(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", "the request has %d bytes: at most %d are taken", len(c.req.Body), c.most).WithStatus(413)
}

// Message implements rpc.Body.
func (c *serverCall) Message(_ context.Context, m *schema.Message) (*rpc.Message, error) {
	if m != c.plan.method.Input {
		return nil, rpc.Refuse(codes.Internal, "INTERNAL", "internal error").WithCause(fmt.Errorf("the body is a %s, and was asked for as %s", c.plan.method.Input.Name, m.Name))
	}
	if !c.parsed {
		c.parsed = true
		if e := c.parse(); e != nil {
			c.fault = e
		}
	}
	if c.fault != nil {
		return nil, c.fault
	}
	return &c.msg, nil
}

func (c *serverCall) parse() *rpc.Error {
	c.Times.Body = c.in.Start
	if len(c.req.Body) > c.most && c.most > 0 {
		return c.large()
	}
	b := rpc.GetBuffer()
	var err error
	if b.B, err = c.plan.body(b.B, c.req.Body, c.plan.in(), c.req.Version, false); err != nil {
		b.Free()
		return rpc.Refuse(codes.InvalidArgument, malformedBody, "the request: %s", err)
	}
	if len(b.B) > c.most && c.most > 0 {
		n := len(b.B)
		b.Free()
		return rpc.Refuse(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", "the request has %d bytes with its defaults: at most %d are taken", n, c.most).WithStatus(413)
	}
	if !c.budget.Take(len(b.B)) {
		b.Free()
		return rpc.Refuse(codes.ResourceExhausted, "OVERLOADED", "the gateway is out of memory").WithStatus(503)
	}
	c.held = len(b.B)
	c.msg.Own(b)
	return nil
}

// release gives back what the call holds and makes it ready for the next.
func (c *serverCall) release() {
	c.msg.Free()
	c.budget.Give(c.held)
	c.Reply.Reset()
	header, spelled, name, answer := c.Call.Header[:0], c.Spelled[:0], c.name, c.answer
	reply := rpc.Reply{Header: c.Reply.Header, Trailer: c.Reply.Trailer, Spelled: c.Reply.Spelled}
	clear(header[:cap(header)])
	clear(spelled[:cap(spelled)])
	clear(reply.Spelled[:cap(reply.Spelled)])
	entries, status := c.resp.Context, c.resp.Status
	entries.Reset()
	status.Reset()
	if cap(answer) > maxKept {
		answer = nil
	}
	*c = serverCall{}
	c.Call.Header, c.Spelled, c.Reply, c.name, c.answer = header, spelled, reply, name, answer
	c.resp.Context, c.resp.Status = entries, status
}
