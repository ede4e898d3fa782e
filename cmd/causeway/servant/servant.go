// Package servant serves methods over an inlet without a gateway: the demo's services that speak TARS and tRPC.
package servant

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Server serves some methods of a schema. It is safe for concurrent use.
type Server struct {
	wire wire.Server
}

// New makes a server of handlers by the methods' full names, "/package.Service/Method". conf is what the inlet's Config makes, nil
// where it makes nothing.
func New(in rpcadapters.Inlet, conf proto.Message, s *schema.Schema, handlers map[string]rpc.Handler, log *slog.Logger) (*Server, error) {
	e := &entry{methods: map[string]method{}, log: log}
	for name, h := range handlers {
		m, ok := s.Method(name)
		if !ok {
			return nil, fmt.Errorf("the schema has no method %s", name)
		}
		bound, err := in.Bind(m, conf)
		if err != nil {
			return nil, err
		}
		for _, n := range bound.Names {
			e.methods[n] = method{m, bound.Plan, h}
		}
	}
	p, err := in.New(e, conf, rpcadapters.Limits{})
	if err != nil {
		return nil, err
	}
	return &Server{wire: server.One(nil, p, server.Options{Log: log})}, nil
}

// Serve takes connections from ln until Stop.
func (s *Server) Serve(ln net.Listener) error { return s.wire.Serve(ln) }

// Stop ends the server and its connections at once.
func (s *Server) Stop() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.wire.Shutdown(now) // that calls were cut is what was asked for
}

// Unary is the handler of a method that answers a message with another, over the messages of generated code.
func Unary[Req, Resp any, R interface {
	*Req
	proto.Message
}, A interface {
	*Resp
	proto.Message
}](f func(context.Context, R) (A, error)) rpc.Handler {
	return handler(func(ctx context.Context, c *rpc.Call) error {
		in, err := c.Body.Message(ctx, c.Method.Input)
		if err != nil {
			return err
		}
		req := R(new(Req))
		if err := proto.Unmarshal(in.Data, req); err != nil {
			return rpc.Refuse(codes.InvalidArgument, "MALFORMED", "the request is malformed").WithCause(err)
		}
		answer, err := f(ctx, req)
		if err != nil {
			return err
		}
		c.Reply.Message.Data, err = proto.Marshal(answer)
		return err
	})
}

// ServerStream is the handler of a method that answers a message with several.
func ServerStream[Req, Resp any, R interface {
	*Req
	proto.Message
}, A interface {
	*Resp
	proto.Message
}](f func(ctx context.Context, req R, send func(A) error) error) rpc.Handler {
	return handler(func(ctx context.Context, c *rpc.Call) error {
		var in rpc.Message
		if err := c.Stream.Recv(&in); err != nil {
			return err
		}
		defer in.Free()
		req := R(new(Req))
		if err := proto.Unmarshal(in.Data, req); err != nil {
			return rpc.Refuse(codes.InvalidArgument, "MALFORMED", "the request is malformed").WithCause(err)
		}
		return f(ctx, req, func(a A) error {
			raw, err := proto.Marshal(a)
			if err != nil {
				return err
			}
			return c.Stream.Send(&rpc.Message{Data: raw}, false)
		})
	})
}

// JSON is the handler of a unary method whose messages are known by their JSON: of a schema without generated code.
func JSON(f func(ctx context.Context, request []byte) (answer []byte, err error)) rpc.Handler {
	return handler(func(ctx context.Context, c *rpc.Call) error {
		in, err := c.Body.Message(ctx, c.Method.Input)
		if err != nil {
			return err
		}
		request, err := jsonwire.AppendJSON(nil, in.Data, c.Method.Input, &jsonwire.Options{})
		if err != nil {
			return err
		}
		answer, err := f(ctx, request)
		if err != nil {
			return err
		}
		c.Reply.Message.Data, err = jsonwire.AppendWire(nil, answer, c.Method.Output, &jsonwire.Options{})
		return err
	})
}

type handler func(context.Context, *rpc.Call) error

// Handle implements rpc.Handler.
func (h handler) Handle(ctx context.Context, c *rpc.Call) error { return h(ctx, c) }

// method is one that is served.
type method struct {
	*schema.Method
	plan    any
	handler rpc.Handler
}

// entry finds the methods. It is a rpcadapters.Entry.
type entry struct {
	methods map[string]method
	log     *slog.Logger
}

// options are those of every call.
var options = rpcadapters.Options{MaxBody: 4 << 20, JSON: &jsonwire.Options{}}

// Find implements rpcadapters.Entry.
func (e *entry) Find(name string, c *rpc.Call) *rpcadapters.Found {
	v := &visit{log: e.log}
	f := &rpcadapters.Found{Visit: v}
	f.Options, f.Finish = &options, v
	m, ok := e.methods[name]
	if !ok {
		f.Refusal = rpc.Refuse(codes.Unimplemented, "METHOD_NOT_FOUND", "no such method is served here")
		return f
	}
	c.ID = c.Header.Get("x-request-id")
	c.Method, f.Method, f.Plan, f.Handler = m.Method, m.Method, m.plan, m.handler
	return f
}

// visit is one call's stay.
type visit struct{ log *slog.Logger }

// Leave implements rpcadapters.Visit.
func (*visit) Leave() {}

// Done implements rpc.Finisher: nobody asks.
func (*visit) Done(*rpc.Call, rpc.Sent) {}

// Panicked implements rpcadapters.Visit.
func (v *visit) Panicked(_ *rpc.Call, reason any) *rpc.Error {
	v.log.Error("panic in a call", "panic", reason)
	return rpc.Refuse(codes.Internal, "INTERNAL", "internal error")
}
