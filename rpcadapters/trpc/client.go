package trpc

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// protocolName is the protocol in the configuration, in logs and in metrics.
const protocolName = "trpc"

// Adapter dials tRPC servers.
type Adapter struct{}

var (
	_ rpcadapters.Adapter    = Adapter{}
	_ rpcadapters.Configured = Adapter{}
	_ rpcadapters.Binder     = Adapter{}
	_ rpcadapters.Transport  = (*transport)(nil)
	_ rpcadapters.Streamer   = (*transport)(nil)
	_ rpcadapters.Prober     = (*transport)(nil)
)

// Name is "trpc".
func (Adapter) Name() string { return protocolName }

// Config makes empty options of a service.
func (Adapter) Config() proto.Message { return &trpcv1.Options{} }

// Bind makes what calls of a method need.
func (Adapter) Bind(m *schema.Method, conf proto.Message) (any, error) { return newPlan(m, conf) }

// firstStream is the lowest number of a stream: those below 100 are kept for other uses.
const firstStream = 100

// Dial makes a transport whose connections are made when calls need them. It carries streams too, see rpcadapters.Streamer.
func (Adapter) Dial(t rpcadapters.Target) (rpcadapters.Transport, error) {
	if t.MaxMessage <= 0 {
		t.MaxMessage = defaultMaxFrame
	}
	conf, _ := t.Config.(*trpcv1.Options)
	conns := int(conf.GetConnections())
	if conns == 0 {
		conns = defaultConns
	}
	cl, err := framed.NewClient(framed.ClientConfig{
		Framing: framing{}, Address: t.Address, TLS: t.TLS, DialTimeout: t.DialTimeout, Conns: conns,
		MaxFrame: headLen + maxHeader + t.MaxMessage, FirstStream: firstStream,
	})
	if err != nil {
		return nil, fmt.Errorf("trpc: %w", err)
	}
	tr := &transport{cl: cl, max: t.MaxMessage, most: max(defaultMaxFrame, t.MaxMessage), conf: conf}
	tr.calls.New = func() any { return &unaryCall{} }
	return tr, nil
}

type transport struct {
	cl    *framed.Client
	max   int // bytes of one message of an answer, with what is attached to it
	most  int // bytes of a frame that is sent
	conf  *trpcv1.Options
	calls sync.Pool // of *unaryCall
}

// unaryCall is a call on its way; pooled. It is the frame of its request.
type unaryCall struct {
	call framed.Call
	request
	plan     *plan
	rpc      *rpc.Call
	body     []byte
	attached []byte
	made     *rpc.Buffer // what body is part of where it is not what the call came with
}

// AppendFrame implements framed.Frame.
func (u *unaryCall) AppendFrame(dst []byte, id uint32) []byte {
	start := len(dst)
	h := head{frame: frameUnary, id: id, version: 1}
	dst = h.append(dst)
	u.id = id
	dst = u.appendFront(dst)
	dst = u.plan.appendInfo(dst, u.rpc, requestInfo)
	dst = u.appendBack(dst)
	at := len(dst)
	dst = append(append(dst, u.body...), u.attached...)
	patch(dst, start, at)
	return dst
}

// appendFront appends what stands before trans_info; the names were encoded at load.
func (u *unaryCall) appendFront(dst []byte) []byte {
	dst = appendUint(dst, 2, u.callType)
	dst = appendUint(dst, 3, u.id)
	dst = appendUint(dst, 4, u.timeout)
	dst = append(dst, u.plan.names...)
	return appendUint(dst, 8, u.messageType)
}

// appendInfo appends a call's metadata as trans_info.
func (p *plan) appendInfo(dst []byte, c *rpc.Call, n protowire.Number) []byte {
	env, dyeing := p.env != "", p.dyeing != ""
	speller := c.Spelled.Speller()
	for i := range c.Header {
		key := c.Header[i].Key
		name, value := key, c.Header[i].Value
		if len(c.Spelled) > 0 {
			name, value = asStood(&speller, &c.Header[i])
		}
		if !p.sends(c, key) {
			continue
		}
		env, dyeing = env && key != envKey, dyeing && key != dyeingKey
		dst = appendEntry(dst, n, p.spelling.Of(key, name), value)
	}
	for i := range c.Spelled {
		if s := &c.Spelled[i]; s.As.Key == "" && utf8.ValidString(s.Name) && p.sends(c, rpc.Lower(s.Name)) {
			dst = appendEntry(dst, n, s.Name, s.Text)
		}
	}
	if dyeing {
		dst = appendEntry(dst, n, dyeingKey, p.dyeing)
	}
	if env {
		dst = appendEntry(dst, n, envKey, p.env)
	}
	return dst
}

// asStood is a pair of metadata as trans_info has it: by the name and with the value that it came with, those of -bin names raw. Names of
// the framework are written in one way.
func asStood(speller *rpc.Speller, pair *rpc.Pair) (name, value string) {
	name, value, _ = speller.Next(pair)
	if strings.HasSuffix(pair.Key, "-bin") {
		value = pair.Value
	}
	if strings.HasPrefix(pair.Key, frameworkPrefix) {
		name = pair.Key
	}
	return name, value
}

// measure tells how many bytes a call's header has at most, and its message type.
func (p *plan) measure(c *rpc.Call) (size int, messageType uint32) {
	const most = 24 // of an entry beside its strings
	size = 128 + len(p.names) + len(p.env) + len(p.dyeing)
	if chained(c) {
		messageType = c.Marks
	}
	if p.env != "" {
		messageType |= messageEnv
	}
	if p.dyeing != "" {
		messageType |= messageDyeing
	}
	for i := range c.Header {
		key := c.Header[i].Key
		if !p.sends(c, key) {
			continue
		}
		switch key {
		case envKey:
			messageType |= messageEnv
		case dyeingKey:
			messageType |= messageDyeing
		}
		size += most + len(key) + len(c.Header[i].Value) // no less than as it stood
	}
	for i := range c.Spelled {
		if s := &c.Spelled[i]; s.As.Key == "" {
			size += most + len(s.Name) + len(s.Text)
		}
	}
	return size, messageType
}

// planOf is what Bind has made of the method.
func (t *transport) planOf(c *rpc.Call) (*plan, error) {
	if p, ok := c.Plan.(*plan); ok {
		return p, nil
	}
	p, err := newPlan(c.Method, t.conf)
	if err != nil {
		return nil, rpc.AsError(err)
	}
	return p, nil
}

// Unary calls the method.
func (t *transport) Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	out.Reset()
	if err := ctx.Err(); err != nil {
		return rpc.AsError(err)
	}
	p, err := t.planOf(c)
	if err != nil {
		return err
	}
	u := t.calls.Get().(*unaryCall)
	u.plan, u.rpc = p, c
	err = t.unary(ctx, u, req, out)
	if u.made != nil {
		u.made.Free()
	}
	u.request, u.plan, u.rpc, u.body, u.attached, u.made = request{}, nil, nil, nil, nil, nil
	if u.call.Reset() {
		t.calls.Put(u)
	}
	return err
}

func (t *transport) unary(ctx context.Context, u *unaryCall, req *rpc.Message, out *rpc.Reply) error {
	size, messageType := u.plan.measure(u.rpc)
	if size > maxHeader {
		return tooMuchMetadata(size)
	}
	u.messageType = messageType
	if e := u.setTimeout(ctx); e != nil {
		return e
	}
	var e *rpc.Error
	if u.body, u.encoding, u.made, e = u.plan.pack(req, false, t.max); e != nil {
		return e
	}
	if size += len(u.body) + len(req.Attached); size > t.most {
		return requestTooLarge(size, t.most)
	}
	u.contentType, u.attached, u.attachment = u.plan.form.content, req.Attached, uint32(len(req.Attached)) //nolint:gosec // far smaller
	if u.plan.oneWay {
		u.callType = callOneWay
		if err := t.cl.Tell(ctx, &u.call, u); err != nil {
			return framed.Failed(ctx, err)
		}
		return nil
	}
	if err := t.cl.Unary(ctx, &u.call, u); err != nil {
		return framed.Failed(ctx, err)
	}
	return t.answer(u, out)
}

// setTimeout tells the server how long the caller waits.
func (u *unaryCall) setTimeout(ctx context.Context) *rpc.Error {
	due, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	left := time.Until(due)
	if left <= 0 {
		return rpc.Refuse(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "deadline exceeded").WithCause(context.DeadlineExceeded)
	}
	u.timeout = uint32(min(max(left/time.Millisecond, 1), 1<<31-1))
	return nil
}

// pack makes the body of a message in what the service takes: the message as it is, where that is protobuf. What was made for
// it, also beside an error, is freed by the caller. In a stream every message is packed, or none.
func (p *plan) pack(m *rpc.Message, stream bool, limit int) (body []byte, encoding uint32, made *rpc.Buffer, e *rpc.Error) {
	var err error
	body = m.Data
	replace := func(b *rpc.Buffer) {
		if made != nil {
			made.Free()
		}
		made, body = b, b.B
	}
	switch {
	case m.Comp == rpc.Gzip && p.form.content == contentProto && (!stream || p.encoding == encodingGzip):
		return body, encodingGzip, nil, nil
	case m.Comp > rpc.Gzip:
		return nil, 0, nil, rpc.Refuse(codes.Internal, "INTERNAL", "the message is packed in a way that tRPC upstreams do not know")
	case m.Comp == rpc.Gzip:
		b := rpc.GetBuffer()
		b.B, _, err = appendUnpacked(b.B, body, encodingGzip, limit, nil)
		replace(b)
		if err != nil {
			return nil, 0, made, rpc.Refuse(codes.InvalidArgument, "INVALID_MESSAGE", "the message cannot be unpacked").WithCause(err)
		}
	}
	if p.form.content != contentProto {
		b := rpc.GetBuffer()
		b.B, err = p.form.appendForm(b.B, body, p.form.content, p.method.Input)
		replace(b)
		if err != nil {
			return nil, 0, made, invalid(err)
		}
	}
	if p.encoding != encodingNone && (stream || len(body) >= p.above) {
		b := rpc.GetBuffer()
		b.B, err = appendPacked(b.B, body, p.encoding)
		replace(b)
		if err != nil {
			return nil, 0, made, rpc.AsError(err)
		}
		encoding = p.encoding
	}
	return body, encoding, made, nil
}

// answer makes the reply of an answer.
func (t *transport) answer(u *unaryCall, out *rpc.Reply) error {
	frame := u.call.Answer()
	var h head
	var r response
	if err := h.parse(frame, len(frame)); err != nil {
		return misshapen(err)
	}
	if err := r.parse(frame[headLen : headLen+h.header]); err != nil {
		return misshapen(err)
	}
	body, attached, err := parts(frame, &h, r.attachment)
	if err != nil {
		return misshapen(err)
	}
	out.Header, out.Spelled = u.plan.appendMetadata(out.Header, out.Spelled, u.rpc, &r.info)
	if r.ret != retOK || r.funcRet != 0 {
		return u.plan.failed(r.ret, r.funcRet, r.message)
	}
	if len(body)+len(attached) > t.max {
		return framed.TooLargeAnswer()
	}
	if (r.encoding == encodingNone || len(body) == 0) && r.contentType == contentProto {
		out.Message.Own(u.call.Take())
		out.Message.Data, out.Message.Attached = body, attached
		return nil
	}
	if r.encoding == encodingGzip && r.contentType == contentProto && u.rpc.Packed == rpc.Gzip {
		out.Message.Own(u.call.Take())
		out.Message.Data, out.Message.Attached, out.Message.Comp = body, attached, rpc.Gzip // its caller unpacks it, or nobody
		return nil
	}
	b, e := u.plan.form.read(body, attached, r.contentType, r.encoding, u.plan.method.Output, t.max)
	if e != nil {
		return e
	}
	out.Message.Own(b)
	at := len(b.B) - len(attached)
	out.Message.Data, out.Message.Attached = b.B[:at:at], b.B[at:]
	return nil
}

// read makes wire bytes of an answer's body, with what is attached behind them.
func (f *form) read(body, attached []byte, content, encoding uint32, m *schema.Message, limit int) (*rpc.Buffer, *rpc.Error) {
	b := rpc.GetBuffer()
	var err error
	if encoding != encodingNone && len(body) > 0 {
		if b.B, _, err = appendUnpacked(b.B, body, encoding, limit, nil); err != nil {
			b.Free()
			return nil, unreadable(err)
		}
		body = b.B
	}
	if content != contentProto {
		wire := rpc.GetBuffer()
		wire.B, err = f.appendWire(wire.B, body, content, m, &jsonTaken)
		b.Free()
		b = wire
		if err != nil {
			b.Free()
			return nil, misshapen(err)
		}
	}
	b.B = append(b.B, attached...)
	return b, nil
}

// appendMetadata appends what of an answer's trans_info becomes metadata: names in lower case, values that metadata can carry. How it
// stood is kept in sp for callers who can have it so.
func (p *plan) appendMetadata(dst rpc.Metadata, sp rpc.Spelled, c *rpc.Call, info *transInfo) (rpc.Metadata, rpc.Spelled) {
	text := info.text()
	spelled := rpcadapters.Spells(c.Protocol)
	for e := info.entries(); e.next(); {
		name, value := e.pair(text)
		key := rpc.Lower(name)
		if !p.takes(c, key, name, value) {
			continue
		}
		if spelled {
			if strings.HasSuffix(key, "-bin") {
				value = base64.RawStdEncoding.EncodeToString([]byte(value))
			}
			dst, sp = rpcadapters.AppendAnswered(dst, sp, name, value)
			continue
		}
		if !metadataKey(key) || !strings.HasSuffix(key, "-bin") && !rpc.Printable(value) {
			continue
		}
		dst = append(dst, rpc.Pair{Key: key, Value: value})
	}
	return dst, sp
}

// metadataKey tells whether metadata can have such a name (lower case).
func metadataKey(k string) bool {
	for i := range len(k) {
		switch c := k[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return k != ""
}

// Close lets calls in flight end.
func (t *transport) Close() error {
	t.cl.Close()
	return nil
}

// Probe tells whether the instance takes connections: the protocol has no question that every server answers.
func (t *transport) Probe(ctx context.Context) error { return t.cl.Reach(ctx) }
