package adaptive

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// body is a call's body that takes a place of the limit once it is there.
type body struct {
	rpc.Body
	of      *adaptive
	class   *class
	inside  bool
	refused bool
	entered int64
	most    int // bytes of the message; 0: no bound but the body's own
}

var bodies = sync.Pool{New: func() any { return &body{} }}

// Message implements rpc.Body.
func (b *body) Message(ctx context.Context, m *schema.Message) (*rpc.Message, error) {
	msg, err := b.Body.Message(ctx, m)
	if err != nil {
		return nil, err
	}
	if b.most > 0 && len(msg.Data) > b.most {
		return nil, rpc.Refuse(codes.ResourceExhausted, "BODY_TOO_LARGE", "the request body is larger than %d bytes", b.most).WithStatus(413)
	}
	if err := b.enter(); err != nil {
		return nil, err
	}
	return msg, nil
}

// Raw implements rpc.Body. It takes no place: who reads the body so has something to find out first.
func (b *body) Raw(ctx context.Context) ([]byte, error) { return b.Body.Raw(ctx) }

// Bound implements rpc.Bounded. Where the body itself cannot be bounded before it is read, it is looked at afterwards.
func (b *body) Bound(most int) {
	if under, ok := b.Body.(rpc.Bounded); ok {
		under.Bound(most)
	} else if b.most == 0 || most < b.most {
		b.most = most
	}
}

// enter takes a place, once.
func (b *body) enter() error {
	switch {
	case b.inside:
		return nil
	case b.refused || !b.of.limiter.enter(b.class.share):
		b.refused = true
		return b.of.refuse(b.class)
	}
	b.inside, b.entered = true, b.of.now()
	return nil
}

// leave gives the place back.
func (b *body) leave(sampled bool) {
	if !b.inside {
		return
	}
	if b.of.limiter.leave(b.entered, b.of.now(), sampled) {
		b.of.gauge.With(b.of.scope).Set(b.of.limiter.limit.Load())
	}
}
