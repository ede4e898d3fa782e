// Package rpcadapters is the contract between the gateway and the protocols it speaks: Face for protocols borne by HTTP
// on the inbound side, Adapter for the outbound side. One folder below holds one protocol.
package rpcadapters

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Adapter speaks one protocol to upstreams.
type Adapter interface {
	// Name is the adapter's name in the configuration: "grpc".
	Name() string
	// Dial makes a transport to one instance. It never blocks: connections are made when the first call needs one. The
	// error is about the target itself (a malformed address), never about the network.
	Dial(t Target) (Transport, error)
}

// Target is one instance to dial.
type Target struct {
	Address     string      // host:port
	TLS         *tls.Config // nil: plain text
	DialTimeout time.Duration
	MaxMessage  int // bytes of one answer, once unpacked; of one that stays packed, see rpc.Call.Packed, as it came
	// Service is the name of the service that the instance belongs to, Config its options, made by Configured.Config; nil where
	// the adapter has none.
	Service string
	Config  proto.Message
	// Discovered says that the service's instances come from registries, which may be behind the times.
	Discovered bool
}

// Transport carries calls to one instance. It is safe for concurrent use.
type Transport interface {
	// Unary sends req and fills out. c and req are read-only and may serve several attempts at once; out belongs to this
	// attempt. When Unary returns, however it ends, the transport holds nothing of req, out or c. The error is an
	// *rpc.Error with its class; out may carry header and trailer beside an error.
	Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error
	// Close ends the transport once calls in flight have ended; it does not wait. Later calls fail with an error that is
	// not executed.
	Close() error
}

// Streamer is the ability of a Transport to carry streaming calls.
type Streamer interface {
	// Open begins a call. It may return before the upstream has heard of it. ctx ends the stream. The error is an
	// *rpc.Error; what is not executed may be tried elsewhere.
	Open(ctx context.Context, c *rpc.Call) (ClientStream, error)
}

// ClientStream is a streaming call on an upstream. One goroutine may send while another receives. Whoever opened it calls
// Close once nobody uses it any more.
type ClientStream interface {
	// Send sends a request and holds nothing of it afterwards. It waits while the upstream does not take bytes. io.EOF
	// says that the upstream has ended the call: Recv tells how.
	Send(m *rpc.Message) error
	// CloseSend says that there are no more requests.
	CloseSend() error
	// Header waits for the head of the answer. The error is that of Recv.
	Header() (rpc.Metadata, error)
	// Recv gives the next answer; the message is the receiver's, who frees it. io.EOF after a clean end, else an
	// *rpc.Error.
	Recv(m *rpc.Message) error
	// Ready tells whether the next Recv would not wait.
	Ready() bool
	// Trailer is complete once Recv has returned an error.
	Trailer() rpc.Metadata
	// Close ends the stream, cancelling it where it is not over: a Send or Recv that waits returns. It may be called twice.
	Close()
}

// SpelledStream is a ClientStream of a protocol whose metadata has names and values of any text.
type SpelledStream interface {
	ClientStream
	// Spelled is how the header and the trailer stood; complete when Trailer is.
	Spelled() rpc.Spelled
}

// Face is one inbound protocol borne by HTTP.
type Face interface {
	// Name is the protocol's name in logs and metrics: "rest".
	Name() string
	// Match tells from the head whether the request is of this protocol.
	Match(x *wire.Exchange) bool
	// Serve makes a call of the exchange, has h handle it, and writes the answer. It calls m.Finish.Done exactly once,
	// after the last byte went out.
	Serve(ctx context.Context, x *wire.Exchange, m *Matched, h rpc.Handler)
	// Refuse answers a request that has no route, or that broke before it had one, in the protocol's own form.
	Refuse(x *wire.Exchange, err *rpc.Error) rpc.Sent
}

// Named is a Face whose requests name the method by their path, /package.Service/Method. Its calls have no Rule. Looked up
// once, when the gateway is made.
type Named interface {
	Face
	// Named is there to tell such faces apart.
	Named()
}

// Aliased is a Named face that knows methods by more paths than their own. Looked up at load.
type Aliased interface {
	Named
	// Aliases are those paths; what does not begin with a slash is none.
	Aliases(m *schema.Method) []string
}

// Unsure is a Named face that cannot tell its requests from others by their heads: what names no method goes to whoever comes next.
// Looked up for such requests.
type Unsure interface {
	Named
	// Unsure is there to tell such faces apart.
	Unsure()
}

// Scripted is a Face that scripts in browsers call. Looked up once, when the gateway is made.
type Scripted interface {
	Face
	// RequestHeaders are the protocol's own headers of requests (lower case) that a browser asks leave for before a call from
	// another origin.
	RequestHeaders() []string
}

// Matched is what the edge found for an exchange.
type Matched struct {
	Method  *schema.Method
	Options *Options // of the route; shared by its calls and read-only
	Rule    *Rule    // the HTTP rule that matched; nil where the path named the method
	Vars    []string // what the rule's template captured, in its order; valid until Serve returns
	Finish  rpc.Finisher
}

// Timeout is how long the call may take as far as the route says.
func (m *Matched) Timeout() time.Duration {
	if m.Method.Kind != schema.Unary {
		return m.Options.StreamAge
	}
	return m.Options.Timeout
}

// Options are a route's settings that concern a face.
type Options struct {
	Route   string
	Service string
	Timeout time.Duration // longest a unary call may take, from its head on; 0: no limit but the caller's
	MaxBody int           // bytes of one request body, and of one message of a stream
	// StreamIdle is how long nothing may pass on a stream, StreamAge how long one may last; 0: no limit.
	StreamIdle, StreamAge time.Duration
	// Request and Response are the header names (lower case) that pass beside the standard ones.
	Request, Response []string
	JSON              *jsonwire.Options
	// Stubs is JSON for clients that are generated from a .proto, which know protobuf's mapping and no other; nil: JSON.
	Stubs *jsonwire.Options
	REST  REST
	// Budget is what the bytes of bodies and messages in translation are taken from; shared by all routes, nil: no bound.
	Budget *rpc.Budget
}

// StubJSON is Stubs, or JSON where there is none.
func (o *Options) StubJSON() *jsonwire.Options {
	if o.Stubs != nil {
		return o.Stubs
	}
	return o.JSON
}

// REST says how requests of REST callers are read.
type REST struct {
	Override    bool                   // the path wins over a body that gives the same field another value
	Unknown     jsonwire.UnknownPolicy // what becomes of query parameters that name no field
	Capture     string                 // the field that takes them
	GRPCGateway bool                   // its conventions hold
	Origins     []string               // whose pages may open WebSockets beside the own ones; "*": all
}
