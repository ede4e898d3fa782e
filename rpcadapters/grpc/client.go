// Package grpc is gRPC (grpc/doc/PROTOCOL-HTTP2.md) on both sides. In the outbound adapter a call's wire bytes go out as they
// are, and the answer's come back as they are; so they do in the inbound face, Face.
package grpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http2"
)

// Adapter dials gRPC servers.
type Adapter struct{}

// Name is "grpc".
func (Adapter) Name() string { return "grpc" }

const defaultMaxMessage = 4 << 20

// Dial makes a transport whose connections are made when calls need them. It carries streams too, see rpcadapters.Streamer.
func (Adapter) Dial(t rpcadapters.Target) (rpcadapters.Transport, error) {
	cl, err := http2.NewClient(http2.ClientConfig{Address: t.Address, TLS: t.TLS, DialTimeout: t.DialTimeout})
	if err != nil {
		return nil, fmt.Errorf("grpc: %w", err)
	}
	if t.MaxMessage <= 0 {
		t.MaxMessage = defaultMaxMessage
	}
	tr := &transport{cl: cl, max: t.MaxMessage, authority: t.Address, scheme: http2.IndexSchemeHTTP}
	if t.TLS != nil {
		tr.scheme = http2.IndexSchemeHTTPS
		if t.TLS.ServerName != "" {
			tr.authority = t.TLS.ServerName
		}
	}
	return tr, nil
}

type transport struct {
	cl        *http2.Client
	authority string
	scheme    byte // index of HPACK's static table
	max       int  // bytes of one message of an answer
	heads     headTable
}

var (
	_ rpcadapters.Transport = (*transport)(nil)
	_ rpcadapters.Streamer  = (*transport)(nil)
)

// Unary calls the method.
func (t *transport) Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	out.Header, out.Trailer = out.Header[:0], out.Trailer[:0]
	out.Message.Free()
	if err := ctx.Err(); err != nil {
		return rpc.AsError(err)
	}
	if req.Comp > rpc.Gzip {
		return unknownPacking()
	}
	call := t.cl.Get()
	defer t.cl.Put(call)
	var err error
	if call.Head, call.HeadSize, err = t.appendHead(ctx, call.Head, c, req.Comp); err != nil {
		return err
	}
	putPrefix(&call.Prefix, req)
	call.Body = req.Data
	call.MaxAnswer = prefixLen + t.max
	err = t.cl.Unary(ctx, call)
	head, trailer := call.Answer(), call.Trailer()
	if err != nil {
		var fault *http2.Fault
		if !errors.As(err, &fault) {
			return rpc.AsError(err)
		}
		return t.cut(ctx, fault, head, out)
	}
	var e *rpc.Error
	if trailer == nil {
		// Trailers-only, or an answer without an end.
		if out.Trailer, e = appendMetadata(out.Trailer, head.Fields); e != nil {
			return e
		}
	} else {
		if out.Header, e = appendMetadata(out.Header, head.Fields); e != nil {
			return e
		}
		if out.Trailer, e = appendMetadata(out.Trailer, trailer.Fields); e != nil {
			return e
		}
	}
	if e := ending(head, trailer, len(call.Data()) > 0); e != nil {
		return e
	}
	packed, e := single(call.Data(), head)
	if e != nil {
		return e
	}
	if packed && c.Packed != rpc.Gzip {
		b, e := inflate(call.Data()[prefixLen:], t.max)
		if e != nil {
			return e
		}
		out.Message.Own(b)
		return nil
	}
	out.Message.Own(call.TakeData())
	out.Message.Data = out.Message.Data[prefixLen:]
	if packed {
		out.Message.Comp = rpc.Gzip // its caller unpacks it, or nobody
	}
	return nil
}

// cut makes the error of an answer that was broken off; what came of its metadata goes with it.
func (t *transport) cut(ctx context.Context, fault *http2.Fault, head *http2.Head, out *rpc.Reply) error {
	if head != nil {
		if e := notGRPC(head); e != nil && fault.Kind != http2.Ended {
			return e
		}
		out.Header, _ = appendMetadata(out.Header, head.Fields)
	}
	return broken(ctx, fault)
}

// Close lets calls in flight end.
func (t *transport) Close() error {
	t.cl.Close()
	return nil
}

// Open begins a streaming call.
func (t *transport) Open(ctx context.Context, c *rpc.Call) (rpcadapters.ClientStream, error) {
	if err := ctx.Err(); err != nil {
		return nil, rpc.AsError(err)
	}
	call := t.cl.Get() // for its buffer
	defer t.cl.Put(call)
	var err error
	if call.Head, call.HeadSize, err = t.appendHead(ctx, call.Head, c, rpc.Identity); err != nil {
		return nil, err
	}
	s, err := t.cl.Open(ctx, call.Head, call.HeadSize)
	if err != nil {
		var fault *http2.Fault
		if !errors.As(err, &fault) {
			return nil, rpc.AsError(err)
		}
		return nil, broken(ctx, fault)
	}
	return &clientStream{s: s, ctx: ctx, max: t.max}, nil
}

// remaining is the time until ctx's deadline; 0: it has none.
func remaining(ctx context.Context) (time.Duration, *rpc.Error) {
	due, ok := ctx.Deadline()
	if !ok {
		return 0, nil
	}
	left := time.Until(due)
	if left <= 0 {
		return 0, rpc.Refuse(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "deadline exceeded").WithCause(context.DeadlineExceeded)
	}
	return left, nil
}
