package envelope

import (
	"context"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Body is the request of a unary call that comes in an envelope. It implements rpc.Body and is used by the call's goroutine.
type Body struct {
	frames *Stream
	read   bool // the message was received, or fault says why it was not
	fault  error
	flags  byte
	raw    rpc.Message // as sent, prefix and all
	msg    rpc.Message
	typ    *schema.Message // of msg
}

// Reset makes the body that of a call whose messages s reads.
func (b *Body) Reset(s *Stream) { *b = Body{frames: s} }

// Close gives back what the body holds. It may be called twice, and on the zero Body.
func (b *Body) Close() {
	b.msg.Free()
	b.raw.Free()
	*b = Body{}
}

// Bound implements rpc.Bounded.
func (b *Body) Bound(most int) { b.frames.bound(most) }

// Raw returns the message as sent, in its envelope.
func (b *Body) Raw(context.Context) ([]byte, error) {
	if !b.read {
		b.read = true
		buf := rpc.GetBuffer()
		b.flags, b.fault = b.frames.Frame(buf)
		b.raw.Own(buf)
	}
	if b.fault != nil {
		return nil, b.fault
	}
	return b.raw.Data, nil
}

// Message returns the message in wire bytes; they are those that were sent, if those are.
func (b *Body) Message(ctx context.Context, m *schema.Message) (*rpc.Message, error) {
	if b.typ == m {
		return &b.msg, nil
	}
	raw, err := b.Raw(ctx)
	if err != nil {
		return nil, err
	}
	made, err := b.frames.decode(b.flags, raw[PrefixLen:], m)
	if err != nil {
		return nil, err
	}
	if made != nil {
		b.msg.Own(made)
	} else {
		b.msg.Free()
		b.msg = b.raw.Retain()
		b.msg.Data = b.msg.Data[PrefixLen:]
	}
	b.typ = m
	return &b.msg, nil
}
