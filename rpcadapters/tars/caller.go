package tars

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
)

// Caller calls functions of a servant whose parameters are encoded already: for calls of the gateway's own, which have no
// schema. It is safe for concurrent use.
type Caller struct {
	cl      *framed.Client
	servant []byte
}

// NewCaller makes a caller of a servant at host:port without connecting. secure: how it is connected to; nil: without TLS.
func NewCaller(address, servant string, secure *tls.Config) (*Caller, error) {
	if err := checkServant(servant); err != nil {
		return nil, fmt.Errorf("tars: %w", err)
	}
	cl, err := framed.NewClient(framed.ClientConfig{Framing: answers{}, Address: address, TLS: secure, Conns: 1, MaxFrame: defaultMaxPacket})
	if err != nil {
		return nil, fmt.Errorf("tars: %w", err)
	}
	return &Caller{cl: cl, servant: []byte(servant)}, nil
}

// Call calls a function and returns the body of its answer, which is the caller's. body is its parameters in version 1. The error is a
// *framed.Fault where no answer came.
func (c *Caller) Call(ctx context.Context, function string, body []byte) ([]byte, error) {
	k := clientCalls.Get().(*clientCall)
	defer k.release()
	k.req.Version, k.req.Servant, k.req.Function, k.req.Body = VersionTARS, c.servant, []byte(function), body
	if due, ok := ctx.Deadline(); ok {
		k.req.Timeout = int32(min(max(int64(time.Until(due)/time.Millisecond), 1), math.MaxInt32))
	}
	if err := c.cl.Unary(ctx, &k.Call, k); err != nil {
		return nil, err
	}
	if err := ParseResponse(&k.resp, k.Answer()[headSize:]); err != nil {
		return nil, err
	}
	if k.resp.Ret != retOK {
		return nil, fmt.Errorf("%s: code %d: %.200q", function, k.resp.Ret, k.resp.Desc)
	}
	return slices.Clone(k.resp.Body), nil
}

// Close lets calls in flight end; it does not wait.
func (c *Caller) Close() { c.cl.Close() }
