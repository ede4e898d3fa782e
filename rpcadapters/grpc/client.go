// Package grpc is the outbound adapter for gRPC: a call's wire bytes go out as they are, and the answer's come back as
// they are.
package grpc

import (
	"context"
	"fmt"
	"math"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Adapter dials gRPC servers.
type Adapter struct{}

// Name is "grpc".
func (Adapter) Name() string { return "grpc" }

// maxReconnectDelay keeps an instance that came back from waiting out a long backoff: the balancer decides whom to call.
const maxReconnectDelay = 2 * time.Second

// Dial makes a transport with one HTTP/2 connection, made when the first call needs it.
func (Adapter) Dial(t rpcadapters.Target) (rpcadapters.Transport, error) {
	if _, _, err := net.SplitHostPort(t.Address); err != nil {
		return nil, fmt.Errorf("grpc: address %q: want host:port: %w", t.Address, err)
	}
	creds := insecure.NewCredentials()
	if t.TLS != nil {
		creds = credentials.NewTLS(t.TLS)
	}
	cc, err := grpc.NewClient("passthrough:///"+t.Address,
		grpc.WithTransportCredentials(creds),
		grpc.WithDisableRetry(), // retries are the gateway's
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnectDelay},
			MinConnectTimeout: t.DialTimeout,
		}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(codec{}),
			grpc.MaxCallRecvMsgSize(t.MaxMessage),
			grpc.MaxCallSendMsgSize(math.MaxInt32)))
	if err != nil {
		return nil, fmt.Errorf("grpc: address %q: %w", t.Address, err)
	}
	return &transport{cc: cc}, nil
}

type transport struct{ cc *grpc.ClientConn }

// Unary calls the method. The request's bytes are copied before they are queued, so nothing of it is held afterwards.
func (t *transport) Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	md := make(metadata.MD, len(c.Header))
	values := make([]string, len(c.Header)) // one array for the lists of all keys that stand once
	for i := range c.Header {
		key := c.Header[i].Key
		if former := md[key]; former != nil {
			md[key] = append(former, c.Header[i].Value)
			continue
		}
		values[i] = c.Header[i].Value
		md[key] = values[i : i+1 : i+1]
	}
	var header, trailer metadata.MD
	var p peer.Peer
	err := t.cc.Invoke(metadata.NewOutgoingContext(ctx, md), c.Method.Name, req, &out.Message,
		grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&p))
	out.Header = appendMetadata(out.Header[:0], header)
	out.Trailer = appendMetadata(out.Trailer[:0], trailer)
	if err == nil {
		return nil
	}
	return t.fault(ctx, err, sight{sent: p.Addr != nil, header: len(header["content-type"]) > 0, trailersOnly: len(trailer["content-type"]) > 0})
}

// Close ends the connection.
func (t *transport) Close() error {
	return t.cc.Close()
}

func appendMetadata(dst rpc.Metadata, md metadata.MD) rpc.Metadata {
	for k, vs := range md {
		if k == "content-type" || k == "grpc-status-details-bin" {
			continue
		}
		for _, v := range vs {
			dst = append(dst, rpc.Pair{Key: k, Value: v})
		}
	}
	return dst
}

// codec passes message bytes through.
type codec struct{}

var _ encoding.CodecV2 = codec{}

// Name is the content-subtype.
func (codec) Name() string { return "proto" }

// Marshal copies: grpc-go may hold the bytes in its send queue after the call has ended.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*rpc.Message)
	if !ok {
		return nil, fmt.Errorf("grpc: want a *rpc.Message to send, found %T", v)
	}
	return mem.BufferSlice{mem.Copy(m.Data, mem.DefaultBufferPool())}, nil
}

// Unmarshal copies the answer into a pooled buffer of the gateway's.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*rpc.Message)
	if !ok {
		return fmt.Errorf("grpc: want a *rpc.Message to fill, found %T", v)
	}
	b := rpc.GetBuffer()
	for _, part := range data {
		b.B = append(b.B, part.ReadOnlyData()...)
	}
	m.Own(b)
	return nil
}
