// Package requestsize is the plugin request_size: it bounds requests below the route's own limit.
package requestsize

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	requestsizev1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/requestsize/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "request_size",
	Config: func() proto.Message { return new(requestsizev1.RequestSize) },
	New:    newPlugin,
}

// bounds never change once made; 0: none.
type bounds struct {
	body, message int
	stream        int64
}

func newPlugin(config proto.Message, _ plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*requestsizev1.RequestSize)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	for _, k := range []struct {
		key   string
		value int64
	}{{"max_body", conf.GetMaxBody()}, {"max_message", conf.GetMaxMessage()}, {"max_stream", conf.GetMaxStream()}} {
		if k.value < 0 || k.key != "max_stream" && k.value > math.MaxInt32 {
			return nil, plugin.Faultf(k.key, "write a number of bytes, or remove the key for no bound", "wanted 1 to %d bytes, found %d", math.MaxInt32, k.value)
		}
	}
	b := &bounds{int(conf.GetMaxBody()), int(conf.GetMaxMessage()), conf.GetMaxStream()}
	if *b == (bounds{}) {
		return nil, plugin.Faultf("", "write max_body: 65536, or another bound", "no bounds")
	}
	return b, nil
}

// Wrap implements plugin.Plugin.
func (b *bounds) Wrap(next rpc.Handler) rpc.Handler { return &handler{b, next} }

type handler struct {
	*bounds
	next rpc.Handler
}

// prefix is what an envelope of gRPC or gRPC-Web adds to a body that has one message.
const prefix = 5

// Handle implements rpc.Handler. A body whose length says that it is too large is refused before a byte of it is read; any other
// when it turns out to be.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	switch {
	case c.Method != nil && c.Method.Kind != schema.Unary:
		if c.Stream != nil && (h.message > 0 || h.stream > 0) {
			c.Stream = &stream{Stream: c.Stream, bounds: h.bounds}
		}
	case h.body > 0:
		if length(c) > int64(h.body)+prefix {
			return tooLarge("the request body", int64(h.body))
		}
		if b, ok := c.Body.(rpc.Bounded); ok {
			b.Bound(h.body)
		} else if c.Body != nil {
			c.Body = &body{c.Body, h.body}
		}
	}
	return h.next.Handle(ctx, c)
}

// length is the stated length of the body, -1 where none is.
func length(c *rpc.Call) int64 {
	if c.HTTP != nil {
		if n, err := strconv.ParseInt(c.HTTP.Header.Get("content-length"), 10, 64); err == nil {
			return n
		}
	}
	return -1
}

func tooLarge(what string, most int64) *rpc.Error {
	return rpc.Refuse(codes.ResourceExhausted, "BODY_TOO_LARGE", "%s is larger than %d bytes", what, most).WithStatus(413)
}

// body is a body that cannot be bounded before it is read; the route's limit holds for that.
type body struct {
	rpc.Body
	most int
}

// Raw implements rpc.Body.
func (b *body) Raw(ctx context.Context) ([]byte, error) {
	raw, err := b.Body.Raw(ctx)
	if err == nil && len(raw) > b.most {
		return nil, tooLarge("the request body", int64(b.most))
	}
	return raw, err
}

// Message implements rpc.Body.
func (b *body) Message(ctx context.Context, m *schema.Message) (*rpc.Message, error) {
	if _, err := b.Raw(ctx); err != nil {
		return nil, err
	}
	msg, err := b.Body.Message(ctx, m)
	if err == nil && len(msg.Data) > b.most {
		return nil, tooLarge("the request body", int64(b.most)) // packed it was smaller
	}
	return msg, err
}

// Bound implements rpc.Bounded, for others of this kind on the call's way.
func (b *body) Bound(most int) { b.most = min(b.most, most) }

// stream is a stream whose requests are bounded.
type stream struct {
	rpc.Stream
	*bounds
	got int64
}

// Recv implements rpc.Stream.
func (s *stream) Recv(m *rpc.Message) error {
	if err := s.Stream.Recv(m); err != nil {
		return err
	}
	s.got += int64(len(m.Data))
	switch {
	case s.message > 0 && len(m.Data) > s.message:
		m.Free()
		return tooLarge("a message of the stream", int64(s.message))
	case s.bounds.stream > 0 && s.got > s.bounds.stream:
		m.Free()
		return tooLarge("the stream of requests", s.bounds.stream)
	}
	return nil
}
