// Package rpc is the neutral model of a call: what every inbound protocol makes of its bytes, what every plugin sees, and
// what every outbound adapter turns into its own bytes. The neutral form of a message is protobuf wire bytes, with
// metadata beside it and one status at the end.
//
// # Ownership
//
// A Call, its strings and its bytes are valid until the call's Done; whoever wants them longer uses Clone. Nothing in a
// Call aliases a buffer that is used again. Message bytes belong to their Message and are counted (see Message.Retain).
package rpc

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Call is one RPC on its way through the gateway. It is used by one goroutine at a time: the face's, which runs the
// whole chain.
type Call struct {
	Method   *schema.Method
	Protocol string // the inbound protocol: "rest", "grpc", ...
	Route    string // name of the route that took the call; "" when none did
	Service  string // name of the service that the route leads to
	ID       string // the request id, on every answer as X-Request-Id
	Peer     netip.AddrPort
	Client   netip.Addr // who calls as far as is proven: the peer, or whom a trusted proxy names; see Address
	Consumer *Consumer  // who calls, set by an authenticating plugin; nil: nobody known
	Claims   Claims     // what a verified token says of its bearer, set by an authenticating plugin
	Trace    Trace      // its place in a trace, set by a tracing plugin
	// Caller and Callee are what the caller calls itself and the service where the protocol has such names (tRPC), else "". They
	// prove nothing.
	Caller, Callee string
	// Marks are bits that mark a call for everybody who passes it on over the same protocol: tRPC's message_type.
	Marks  uint32
	HTTP   *HTTP    // nil in a call that came by a protocol not borne by HTTP
	Params Params   // what the HTTP rule captured of the path; nil where none matched
	Header Metadata // the caller's metadata, already filtered: hop-by-hop, framing and protocol headers never enter
	// Spelled is how Header stood where the caller's protocol has names and values of any text. Adapters of such protocols read it.
	Spelled Spelled
	Body    Body   // the request of a unary call
	Stream  Stream // streaming methods only
	// Packed is what the message of a unary answer may stay compressed with, because the caller takes it so. A plugin that
	// reads the answer clears it before it calls the next handler.
	Packed   Compression
	Reply    Reply
	Times    Times
	Node     string // address of the instance that answered, for logs; never shown to callers
	Attempts int    // how many times an upstream was tried

	// Plan is what the outbound adapter has made of the method, while one of its transports is called; the gateway's own.
	Plan any

	// Entered has a bit for each conditional plugin of the chain that took the call on; the gateway's own.
	Entered uint64
	// After is where the call goes on behind its consumer's plugins; the gateway's own.
	After Handler
}

// Consumer is somebody known by name, as the configuration has it. Shared by calls and read-only.
type Consumer struct {
	Name   string
	Groups []string
	Labels map[string]string

	GroupList string // Groups with commas between, as headers have them
}

// ConsumerName is the name of the call's consumer, "" where there is none.
func (c *Call) ConsumerName() string {
	if c.Consumer == nil {
		return ""
	}
	return c.Consumer.Name
}

// Claims are the claims of a token as JSON has them: string, float64, bool, nil, []any, map[string]any. They may be shared
// by all calls with that token: read-only.
type Claims map[string]any

// Params gives the variables of a path.
type Params interface {
	// Param returns what the template's variable of this name ("shelf.id") captured, decoded.
	Param(name string) (value string, ok bool)
}

// Trace is a call's place in a distributed trace (https://www.w3.org/TR/trace-context/). The zero Trace is none.
type Trace struct {
	ID      [16]byte
	Span    [8]byte // the gateway's own span of this call
	Parent  [8]byte // the caller's
	Sampled bool
}

// Address is the address that counts as the caller's, without zone and not mapped.
func (c *Call) Address() netip.Addr {
	if c.Client.IsValid() {
		return c.Client
	}
	return c.Peer.Addr().Unmap().WithZone("")
}

// Times are the moments of a call, all monotonic.
type Times struct {
	Start    time.Time     // the head was read
	Body     time.Time     // the body was received; zero when it was not asked for
	Upstream time.Duration // spent in Transport.Unary, all attempts
}

// Clone copies the call with everything that a plugin may use after Done (mirrors, delayed logs). Body, Stream and the
// reply's message stay behind: they end with the call.
func (c *Call) Clone() *Call {
	n := *c
	n.Header, n.Spelled = slices.Clone(c.Header), slices.Clone(c.Spelled)
	if c.HTTP != nil {
		h := *c.HTTP
		h.Header, h.Answer = slices.Clone(c.HTTP.Header), nil
		n.HTTP = &h
	}
	n.Body, n.Stream, n.Params, n.After, n.Plan = nil, nil, nil, nil, nil
	n.Reply = Reply{Header: slices.Clone(c.Reply.Header), Trailer: slices.Clone(c.Reply.Trailer), Spelled: slices.Clone(c.Reply.Spelled)}
	return &n
}

// HTTP is the request line and head of a call that came by HTTP. Path and Query are as sent, after the edge has refused
// what is ambiguous: router, plugins, log and upstreams see the same bytes.
type HTTP struct {
	Method string
	Scheme string // "http" or "https"
	Host   string // lower case, without port
	Port   string // as the caller wrote it behind the host; "" where it did not
	Path   string
	Query  string // without "?"
	Header Metadata
	// Answer are headers that plugins add to the answer, whatever it is and whichever face writes it, under their own names.
	// They count once the answer's head goes out, so not on a WebSocket, whose answer is its handshake.
	Answer Metadata
}

// Reply is what came back from the upstream. Plugins may change it while the chain unwinds.
type Reply struct {
	Header  Metadata
	Trailer Metadata
	Message Message
	// Spelled is how Header, and then Trailer, stood where the upstream's protocol has names and values of any text. Kept where the
	// caller's has, too.
	Spelled Spelled
}

// Reset empties the reply and gives its message's bytes back.
func (r *Reply) Reset() {
	r.Message.Free()
	r.Header, r.Trailer, r.Spelled = r.Header[:0], r.Trailer[:0], r.Spelled[:0]
}

// Body is the request of a unary call, read when somebody first asks: a call refused by a plugin costs no parse. The
// source is kept until the last attempt has ended.
type Body interface {
	// Raw returns the body as sent, before decompression: for digests and mirrors. Bounded by the route's limit; valid
	// until the call's Done. The error is an *Error.
	Raw(ctx context.Context) ([]byte, error)
	// Message returns the body as one message of type m in wire bytes; memoised for the last type asked. The message
	// belongs to the body, which frees it at Done. The error is an *Error with the position of the fault.
	Message(ctx context.Context, m *schema.Message) (*Message, error)
}

// Bounded is a Body that a plugin can bound below the route's own limit before it is read.
type Bounded interface {
	// Bound lowers how many bytes are received, as sent and once unpacked; it never raises it. That there are more is an error
	// of Raw and Message.
	Bound(most int)
}

// Stream is the caller's half of a streaming call. One goroutine may receive while another sends.
type Stream interface {
	// Recv gives the next request in wire bytes; io.EOF after the last, else an *Error. The message is the receiver's, who
	// frees it.
	Recv(m *Message) error
	// Start sends the head of the answer with Call.Reply.Header as it is then. The first Send does so if nobody did.
	Start() error
	// Send sends one answer; m is not held afterwards. It waits while the caller does not take bytes. more says that
	// another follows at once, so that this one need not go out alone. The error is an *Error: the caller has gone.
	Send(m *Message, more bool) error
	// Stop ends a Recv that waits, and all later ones, with an error: the call is over and wants no more requests.
	Stop()
}

// Handler handles a call: a plugin around the next one, or the forwarder at the end. It blocks until the call has its
// reply (nil) or its error (an *Error or an *Answer). Only the inbound side writes to the caller.
type Handler interface {
	Handle(ctx context.Context, c *Call) error
}

// Finisher is told when the last byte of an answer went out (access log, metrics, traces). It must not keep c.
type Finisher interface {
	Done(c *Call, sent Sent)
}

// Sent says what the caller got.
type Sent struct {
	Status   int // the HTTP status; 0 where the protocol has none; 499 when the caller had gone
	Code     codes.Code
	Reason   string // reason of an error made by the gateway, "" else
	Err      error  // why the call failed, for logs: may name addresses; nil on success
	BytesIn  int64  // body bytes read from the caller
	BytesOut int64  // body bytes written to the caller
	End      time.Time
}
