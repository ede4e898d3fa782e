package tars

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// transport carries calls to one instance of a servant.
type transport struct {
	cl      *framed.Client
	servant []byte
	max     int           // bytes of one message of an answer
	timeout time.Duration // of calls without a deadline; 0: none
	// discovered: a servant that is not there may have moved, and is not what the configuration is wrong about.
	discovered bool
}

var (
	_ rpcadapters.Transport = (*transport)(nil)
	_ rpcadapters.Prober    = (*transport)(nil)
)

// clientCall is what a call needs; pooled. It is its own frame.
type clientCall struct {
	framed.Call
	req  Request
	resp Response
	body []byte
}

var clientCalls = sync.Pool{New: func() any { return &clientCall{} }}

// maxKept is the largest body whose memory is kept for the next call.
const maxKept = 1 << 20

// release gives the call back, with what is left of its answer.
func (k *clientCall) release() {
	reusable := k.Reset()
	if !reusable || cap(k.body) > maxKept {
		return
	}
	context, status := k.req.Context, k.req.Status
	context.Reset()
	status.Reset()
	k.req, k.resp = Request{Context: context, Status: status}, Response{}
	clientCalls.Put(k)
}

// AppendFrame implements framed.Frame.
func (k *clientCall) AppendFrame(dst []byte, id uint32) []byte {
	at := len(dst)
	k.req.ID = int32(id) //nolint:gosec // the client gives out positive ones
	dst = AppendRequest(append(dst, 0, 0, 0, 0), &k.req)
	return putLength(dst, at)
}

// Unary calls the function.
func (t *transport) Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	out.Reset()
	p, ok := c.Plan.(*plan)
	if !ok {
		return rpc.Refuse(codes.Internal, "INTERNAL", "internal error").WithCause(errNoPlan)
	}
	if err := ctx.Err(); err != nil {
		return rpc.AsError(err)
	}
	if _, limited := ctx.Deadline(); !limited && t.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.timeout)
		defer cancel()
	}
	if req.Comp != rpc.Identity || req.Enc != rpc.Wire {
		return rpc.Refuse(codes.Internal, "INTERNAL", "internal error").WithCause(fmt.Errorf("a request in form %d, packed with %d", req.Enc, req.Comp))
	}
	k := clientCalls.Get().(*clientCall)
	defer k.release()
	return k.run(ctx, t, c, p, req.Data, out)
}

// run makes a call of p with a message. It is apart from Unary because two defers cost more in a function with many returns.
func (k *clientCall) run(ctx context.Context, t *transport, c *rpc.Call, p *plan, wire []byte, out *rpc.Reply) error {
	var err error
	if k.body, err = p.appendBody(k.body[:0], wire, p.in(), p.version, true); err != nil {
		return unwritable(err)
	}
	if len(k.body) > maxBody {
		return rpc.Refuse(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", "the request is larger than a packet of TARS can be").WithStatus(413)
	}
	if e := k.fill(ctx, c, p); e != nil {
		return e
	}
	if p.oneWay {
		if err := t.cl.Tell(ctx, &k.Call, k); err != nil {
			return framed.Failed(ctx, err)
		}
		return nil
	}
	if err := t.cl.Unary(ctx, &k.Call, k); err != nil {
		return framed.Failed(ctx, err)
	}
	return k.answer(p, out, t, rpcadapters.Spells(c.Protocol))
}

// fill makes the packet of the request.
func (k *clientCall) fill(ctx context.Context, c *rpc.Call, p *plan) *rpc.Error {
	k.req.Version, k.req.Servant, k.req.Function, k.req.Body = p.version, p.servant, p.function, k.body
	if p.oneWay {
		k.req.PacketType = OneWay
	}
	if due, ok := ctx.Deadline(); ok {
		left := time.Until(due)
		if left <= 0 {
			return rpc.AsError(context.DeadlineExceeded)
		}
		k.req.Timeout = int32(min(max(int64(left/time.Millisecond), 1), math.MaxInt32))
	}
	k.req.Status.raw, k.req.Status.n = append(k.req.Status.raw, p.status.raw...), p.status.n
	framework := p.framework
	if c.Protocol == protocolName {
		framework |= traceBit
	}
	k.req.MessageType = p.messageType | appendMetadata(&k.req.Context, &k.req.Status, c.Header, c.Spelled, p.request, p.spelling, framework&^p.messageType)
	return nil
}

// answer makes the reply of the packet that came. spelled: how its metadata stood is kept.
func (k *clientCall) answer(p *plan, out *rpc.Reply, t *transport, spelled bool) error {
	most := t.max
	if err := ParseResponse(&k.resp, k.Answer()[headSize:]); err != nil {
		return misshapen(err)
	}
	out.Header, out.Spelled = appendEntries(out.Header, out.Spelled, &k.resp.Context, &k.resp.Status, p.response, spelled)
	if k.resp.Ret != retOK {
		return p.failed(k.resp.Ret, k.resp.Desc, t.discovered)
	}
	if most > 0 && len(k.resp.Body) > most {
		return framed.TooLargeAnswer()
	}
	if p.retErrors && k.resp.Version == VersionTARS { // what else there is need not be in order then
		if ret := returned(k.resp.Body); ret != 0 {
			return p.failed(ret, nil, t.discovered)
		}
	}
	b := rpc.GetBuffer()
	var err error
	if b.B, err = p.body(b.B, k.resp.Body, p.out(), k.resp.Version, true); err != nil {
		b.Free()
		return misshapen(err)
	}
	if most > 0 && len(b.B) > most {
		b.Free()
		return framed.TooLargeAnswer()
	}
	if p.retErrors {
		if ret := returnedWire(b.B); ret != 0 {
			b.Free()
			return p.failed(ret, nil, t.discovered)
		}
	}
	out.Message.Own(b)
	return nil
}

// returnedWire is the field with the number 1 of a message, an int; 0 where there is none.
func returnedWire(b []byte) int32 {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0
		}
		if num == 1 && typ == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(b[n:])
			return int32(v) //nolint:gosec // an int32 on the wire
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return 0
		}
		b = b[n+m:]
	}
	return 0
}

// returned is the return value of a function that returns an int; 0 where there is none that can be read.
func returned(body []byte) int32 {
	in := tarswire.NewReader(body)
	for in.More() {
		tag, t := in.Head()
		if tag == 0 && (t <= tarswire.Int || t == tarswire.Zero) {
			return int32(in.Int(t, tarswire.Int)) //nolint:gosec // no wider type is read
		}
		in.Skip(t)
	}
	return 0
}

// Close lets calls in flight end.
func (t *transport) Close() error {
	t.cl.Close()
	return nil
}

// pingFunction is answered by every servant.
const pingFunction = "tars_ping"

// Probe implements rpcadapters.Prober: it calls tars_ping. A servant that answers at all, other than that it is not there or
// overloaded, is well.
func (t *transport) Probe(ctx context.Context) error {
	k := clientCalls.Get().(*clientCall)
	defer k.release()
	k.req.Version, k.req.Servant, k.req.Function = VersionTARS, t.servant, []byte(pingFunction)
	if due, ok := ctx.Deadline(); ok {
		k.req.Timeout = int32(min(max(int64(time.Until(due)/time.Millisecond), 1), math.MaxInt32))
	}
	if err := t.cl.Unary(ctx, &k.Call, k); err != nil {
		return err
	}
	if err := ParseResponse(&k.resp, k.Answer()[headSize:]); err != nil {
		return err
	}
	if v, ok := verdictOf(k.resp.Ret); ok && !v.executed {
		return fmt.Errorf("tars_ping: code %d: %s", k.resp.Ret, k.resp.Desc)
	}
	return nil
}
