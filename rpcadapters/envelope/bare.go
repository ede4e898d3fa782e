package envelope

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Bare is the request of a unary call whose body is the message without an envelope, compressed as a whole if the stream's
// options say so: Bare-Message of https://connectrpc.com/docs/protocol/#unary-request. It implements rpc.Body and is used
// by the call's goroutine.
type Bare struct {
	frames *Stream
	src    io.Reader
	length int64 // stated; -1: not
	read   bool  // the body was received, or fault says why it was not
	fault  error
	raw    rpc.Message
	msg    rpc.Message
	typ    *schema.Message // of msg
}

// Reset makes b the body of a call with s's options, read from src. length is its size as stated, -1 where it is not.
func (b *Bare) Reset(s *Stream, src io.Reader, length int64) {
	*b = Bare{frames: s, src: src, length: length}
}

// Close gives back what the body holds. It may be called twice, and on the zero Bare.
func (b *Bare) Close() {
	b.msg.Free()
	b.raw.Free()
	*b = Bare{}
}

// Bound implements rpc.Bounded.
func (b *Bare) Bound(most int) { b.frames.bound(most) }

// Raw returns the body as sent.
func (b *Bare) Raw(context.Context) ([]byte, error) {
	if !b.read {
		b.read = true
		buf := rpc.GetBuffer()
		b.fault = b.receive(buf)
		b.raw.Own(buf)
	}
	if b.fault != nil {
		return nil, b.fault
	}
	return b.raw.Data, nil
}

func (b *Bare) receive(buf *rpc.Buffer) error {
	limit := b.frames.Limit
	if b.length > int64(limit) {
		return tooLarge(limit)
	}
	for {
		if n := len(buf.B); n == cap(buf.B) {
			total := -1
			if b.length >= int64(n) {
				total = int(b.length) + 1 // so that the end is seen with the last bytes
			}
			buf.B = rpc.Grow(buf.B, PrefixLen, total)
		}
		n, err := b.src.Read(buf.B[len(buf.B):cap(buf.B)])
		buf.B = buf.B[:len(buf.B)+n]
		if !b.frames.take(n) {
			return overloaded()
		}
		if len(buf.B) > limit {
			return tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return readFault(err)
		}
	}
}

// Message returns the body in wire bytes; they are those that were sent, if those are.
func (b *Bare) Message(ctx context.Context, m *schema.Message) (*rpc.Message, error) {
	if b.typ == m {
		return &b.msg, nil
	}
	raw, err := b.Raw(ctx)
	if err != nil {
		return nil, err
	}
	var flags byte
	if b.frames.In != rpc.Identity {
		flags = Compressed
	}
	made, err := b.frames.decode(flags, raw, m)
	if err != nil {
		if e, ok := errors.AsType[*rpc.Error](err); ok && e.Code == codes.Internal {
			e.Code = codes.InvalidArgument // there is no framing that could be broken: it is the message
		}
		return nil, err
	}
	if made != nil {
		b.msg.Own(made)
	} else {
		b.msg.Free()
		b.msg = b.raw.Retain()
	}
	b.typ = m
	return &b.msg, nil
}
