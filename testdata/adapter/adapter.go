package jframe

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Adapter calls services over the protocol.
type Adapter struct{}

func (Adapter) Name() string { return name }

// plan is what is known of a method once the configuration is loaded.
type plan struct {
	method *schema.Method
	name   string
}

func (Adapter) Bind(m *schema.Method, _ proto.Message) (any, error) {
	if m.Kind != schema.Unary {
		return nil, errors.New("jframe has no streams")
	}
	return &plan{method: m, name: m.Name[1:]}, nil
}

func (Adapter) Dial(t rpcadapters.Target) (rpcadapters.Transport, error) {
	cl, err := framed.NewClient(framed.ClientConfig{
		Framing: framing{}, Address: t.Address, TLS: t.TLS, DialTimeout: t.DialTimeout, MaxFrame: t.MaxMessage,
	})
	if err != nil {
		return nil, err
	}
	return &transport{cl}, nil
}

// transport is one instance.
type transport struct{ cl *framed.Client }

func (t *transport) Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	out.Reset()
	p, ok := c.Plan.(*plan)
	if !ok {
		return rpc.AsError(fmt.Errorf("%s was not bound", c.Method.Name))
	}
	body, err := form.AppendForm(nil, req.Data, p.method.Input)
	if err != nil {
		return rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "%s", err)
	}
	r := request{Method: p.name, Header: object(coded(c.Header)), Body: body}
	if due, ok := ctx.Deadline(); ok {
		r.Timeout = max(time.Until(due).Milliseconds(), 1)
	}
	sent, err := json.Marshal(r)
	if err != nil {
		return rpc.AsError(err)
	}
	var call framed.Call
	defer call.Reset()
	if err := t.cl.Unary(ctx, &call, text(sent)); err != nil {
		return framed.Failed(ctx, err)
	}
	return p.read(call.Answer()[headSize:], out)
}

// coded is metadata with the values of -bin names as base64, which JSON can hold.
func coded(m rpc.Metadata) rpc.Metadata {
	m = slices.Clone(m) // the call may be tried elsewhere at the same time
	for i, p := range m {
		if strings.HasSuffix(p.Key, "-bin") {
			m[i].Value = base64.RawStdEncoding.EncodeToString([]byte(p.Value))
		}
	}
	return m
}

// read makes the reply of the frame that came.
func (p *plan) read(frame []byte, out *rpc.Reply) error {
	var a answer
	if err := json.Unmarshal(frame, &a); err != nil {
		return malformed(err)
	}
	out.Header = appendHeader(out.Header, a.Header)
	if a.Error != nil {
		e := &rpc.Error{Code: codes.Code(a.Error.Code), Message: a.Error.Message, Class: rpc.Business, Executed: true, Native: int32(a.Error.Code)}
		if e.Code == codes.OK || e.Code > codes.Unauthenticated {
			e.Code = codes.Unknown
		}
		if a.Error.Retry {
			e.Class, e.Executed = rpc.Transport, false // another instance may
		}
		return e
	}
	b := rpc.GetBuffer()
	var err error
	if b.B, err = form.AppendWire(b.B, a.Body, p.method.Output); err != nil {
		b.Free()
		return malformed(err)
	}
	out.Message.Own(b)
	return nil
}

// malformed is the error of an answer that is not what it should be. The cause is for the log alone.
func malformed(cause error) *rpc.Error {
	e := &rpc.Error{Code: codes.Internal, Status: 502, Class: rpc.Transport, Executed: true, Reason: "UPSTREAM_MALFORMED", Message: "the service's answer is malformed"}
	return e.WithCause(cause)
}

// Probe is for health checks: {adapter: {}}.
func (t *transport) Probe(ctx context.Context) error { return t.cl.Reach(ctx) }

func (t *transport) Close() error {
	t.cl.Close()
	return nil
}
