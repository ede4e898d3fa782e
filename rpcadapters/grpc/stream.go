package grpc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http2"
)

// clientStream is one streaming call.
type clientStream struct {
	s   *http2.Stream
	ctx context.Context //nolint:containedctx // why a call was cut off is told by its context
	max int

	// The receiver's own.
	err     error       // how it ended
	head    *http2.Head // nil until it was seen to be in gRPC
	trailer rpc.Metadata
}

// Send sends one message.
func (c *clientStream) Send(m *rpc.Message) error {
	if m.Comp == rpc.Identity {
		return c.send(m)
	}
	// The head of a stream is sent before anybody knows what its messages will be packed with.
	if m.Comp != rpc.Gzip {
		return unknownPacking()
	}
	b, e := inflate(m.Data, maxUnpacked)
	if e != nil {
		return rpc.Refuse(codes.InvalidArgument, "INVALID_MESSAGE", "the message cannot be unpacked").WithCause(e)
	}
	var plain rpc.Message
	plain.Own(b)
	defer plain.Free()
	return c.send(&plain)
}

// maxUnpacked bounds a request that is unpacked here.
const maxUnpacked = 64 << 20

func (c *clientStream) send(m *rpc.Message) error {
	var prefix [prefixLen]byte
	putPrefix(&prefix, m)
	return c.sent(c.s.Send(prefix[:], m.Data))
}

// unknownPacking refuses a message that gRPC has no name for.
func unknownPacking() *rpc.Error {
	return rpc.Refuse(codes.Internal, "INTERNAL", "the message is packed in a way that gRPC upstreams do not know")
}

// CloseSend says that no further message will be sent.
func (c *clientStream) CloseSend() error { return c.sent(c.s.CloseSend()) }

func (c *clientStream) sent(err error) error {
	var fault *http2.Fault
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return err
	case errors.As(err, &fault):
		return broken(c.ctx, fault)
	}
	return rpc.AsError(err)
}

// Recv receives one message.
func (c *clientStream) Recv(m *rpc.Message) error {
	if c.err != nil {
		return c.err
	}
	m.Free()
	if err := c.receive(m); err != nil {
		c.err = err
		if !errors.Is(err, io.EOF) {
			c.s.Cancel() // nothing more of it is wanted
		}
		c.s.Ended()
		return err
	}
	return nil
}

func (c *clientStream) receive(m *rpc.Message) error {
	if c.head == nil {
		head, err := c.s.Header()
		if err != nil {
			return c.sent(err)
		}
		if e := notGRPC(head); e != nil {
			return e
		}
		c.head = head
	}
	head := c.head
	var prefix [prefixLen]byte
	switch n, err := readFull(c.s, prefix[:]); {
	case errors.Is(err, io.EOF) && n == 0:
		return c.end(head)
	case errors.Is(err, io.EOF):
		return misshapen("a stream cut within the %d bytes before a message", prefixLen)
	case err != nil:
		return c.sent(err)
	}
	packed, e := flags(prefix[0], head)
	if e != nil {
		return e
	}
	length := uint64(binary.BigEndian.Uint32(prefix[1:]))
	if length > uint64(c.max) { //nolint:gosec // a limit is positive
		return tooLarge()
	}
	b := rpc.GetBuffer()
	if err := c.body(b, int(length)); err != nil { //nolint:gosec // at most max
		b.Free()
		return err
	}
	if packed {
		raw, e := inflate(b.B, c.max)
		b.Free()
		if e != nil {
			return e
		}
		b = raw
	}
	m.Own(b)
	return nil
}

// body reads a message's bytes; whatever the prefix says, room is made for as many again as have come.
func (c *clientStream) body(b *rpc.Buffer, length int) error {
	for len(b.B) < length {
		if len(b.B) == cap(b.B) {
			b.B = rpc.Grow(b.B, prefixLen, length)
		}
		n, err := c.s.Read(b.B[len(b.B):min(cap(b.B), length)])
		b.B = b.B[:len(b.B)+n]
		switch {
		case errors.Is(err, io.EOF):
			return misshapen("a message of %d bytes, cut after %d", length, len(b.B))
		case err != nil:
			return c.sent(err)
		}
	}
	return nil
}

// end makes of the trailers the call's end.
func (c *clientStream) end(head *http2.Head) error {
	trailer := c.s.Trailer()
	fields := head.Fields
	if trailer != nil {
		fields = trailer.Fields
	}
	var e *rpc.Error
	if c.trailer, e = appendMetadata(nil, fields); e != nil {
		return e
	}
	if e := ending(head, trailer, c.s.Received() > 0); e != nil {
		return e
	}
	return io.EOF
}

// Header waits for the answer's metadata.
func (c *clientStream) Header() (rpc.Metadata, error) {
	head, err := c.s.Header()
	if err != nil {
		return nil, c.sent(err)
	}
	if trailersOnly(head) {
		return nil, nil // its metadata is that of the end
	}
	md, e := appendMetadata(nil, head.Fields)
	if e != nil {
		return nil, e
	}
	return md, nil
}

// trailersOnly tells a head that is the whole answer.
func trailersOnly(head *http2.Head) bool { return head.Fields.Has("grpc-status") }

// Trailer is the metadata at the end of the call.
func (c *clientStream) Trailer() rpc.Metadata { return c.trailer }

// Ready tells whether a whole message, or the end, is there.
func (c *clientStream) Ready() bool {
	if c.err != nil {
		return true
	}
	var prefix [prefixLen]byte
	n, buffered, over := c.s.Peek(prefix[:])
	return over || n == prefixLen && uint64(buffered-prefixLen) >= uint64(binary.BigEndian.Uint32(prefix[1:])) //nolint:gosec // n bytes are buffered
}

// Close ends the call.
func (c *clientStream) Close() { c.s.Cancel() }

// readFull reads all of p; io.EOF with what came before it.
func readFull(s *http2.Stream, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = s.Read(p[n:])
		n += m
	}
	return n, err
}
