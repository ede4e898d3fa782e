package jframe

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Inlet serves clients that speak the protocol.
type Inlet struct{}

func (Inlet) Name() string { return name }

func (Inlet) Bind(m *schema.Method, _ proto.Message) (rpcadapters.Bound, error) {
	if m.Kind != schema.Unary {
		return rpcadapters.Bound{}, errors.New("jframe has no streams")
	}
	return rpcadapters.Bound{Names: []string{m.Name[1:]}}, nil
}

func (Inlet) New(e rpcadapters.Entry, _ proto.Message, limits rpcadapters.Limits) (wire.Protocol, error) {
	return framed.NewServer(framed.ServerConfig{
		Framing: framing{}, Service: &service{e},
		MaxFrame: limits.MaxMessage, Calls: limits.Calls, Idle: limits.Idle, Budget: limits.Budget,
	}), nil
}

// service takes the calls of a listener.
type service struct{ entry rpcadapters.Entry }

// Begin must not block: it runs where the connection is read.
func (s *service) Begin(*framed.Incoming) framed.Handler { return s }

// Run handles one call, on a goroutine of its own.
func (s *service) Run(in *framed.Incoming) {
	c := &served{in: in}
	if in.Refused != framed.Taken {
		c.write(&answer{Error: &failure{Code: uint32(codes.ResourceExhausted), Message: "the request is larger than is taken now"}})
		return
	}
	if err := json.Unmarshal(in.Frame[headSize:], &c.req); err != nil {
		c.write(&answer{Error: &failure{Code: uint32(codes.InvalidArgument), Message: err.Error()}})
		return
	}
	c.Protocol, c.Peer, c.Times.Start = name, in.Peer, in.Start
	c.Header, c.Body = appendHeader(nil, c.req.Header), c
	found := s.entry.Find(c.req.Method, &c.Call)
	c.most = found.Options.MaxBody
	scheme := name
	if in.TLS != nil {
		scheme += "+tls"
	}
	if found.Run(in.Context(), &c.Call, scheme, time.Duration(c.req.Timeout)*time.Millisecond, c) {
		c.msg.Free()
		c.Reply.Reset()
	}
}

// served is one call. It is its own body.
type served struct {
	rpc.Call
	in   *framed.Incoming
	req  request
	most int
	msg  rpc.Message
}

func (c *served) Raw(context.Context) ([]byte, error) {
	if c.most > 0 && len(c.req.Body) > c.most {
		return nil, rpc.Refuse(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", "at most %d bytes are taken", c.most).WithStatus(413)
	}
	return c.req.Body, nil
}

// Message is asked for when somebody wants to know: a plugin, or the adapter. Calls that are refused before are not translated.
func (c *served) Message(ctx context.Context, m *schema.Message) (*rpc.Message, error) {
	if c.msg.Data != nil {
		return &c.msg, nil
	}
	raw, err := c.Raw(ctx)
	if err != nil {
		return nil, err
	}
	b := rpc.GetBuffer()
	if b.B, err = form.AppendWire(b.B, raw, m); err != nil {
		b.Free()
		return nil, err
	}
	c.msg.Own(b)
	return &c.msg, nil
}

// Answer says what became of the call.
func (c *served) Answer(e *rpc.Error) rpc.Sent {
	a := &answer{}
	if e == nil {
		body, err := form.AppendForm(nil, c.Reply.Message.Data, c.Method.Output)
		if err != nil {
			e = rpc.AsError(err)
		}
		a.Body = body
	}
	header := rpcadapters.AppendResponseMetadata(nil, c.Reply.Header, "")
	header = rpcadapters.AppendResponseMetadata(header, c.Reply.Trailer, "")
	header.Add("x-request-id", c.ID)
	s := rpc.Sent{BytesIn: int64(len(c.in.Frame))}
	if e != nil {
		header = append(header, e.Header...)
		a.Body, a.Error = nil, &failure{Code: uint32(e.Code), Message: e.Message, Retry: e.Class == rpc.Transport && !e.Executed}
		s.Code, s.Reason, s.Err = e.Code, e.Reason, e
	}
	a.Header = object(header)
	var err error
	if s.BytesOut, err = c.write(a); err != nil && e == nil {
		s.Code, s.Reason, s.Err = codes.Canceled, "CLIENT_GONE", err
	}
	s.End = rpcadapters.Now(c.in.Start)
	return s
}

func (c *served) write(a *answer) (int64, error) {
	raw, err := json.Marshal(a)
	if err == nil {
		err = c.in.Send(text(raw))
	}
	return int64(len(raw)), err
}
