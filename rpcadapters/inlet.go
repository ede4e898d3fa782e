package rpcadapters

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Inlet is one inbound protocol whose connections are not HTTP: it has listeners of its own. What it serves runs as calls
// that came by HTTP do: it fills the call, has the handler handle it, writes the answer, and tells the finisher.
type Inlet interface {
	// Name is the protocol's name in the configuration, in logs and in metrics: "tars".
	Name() string
	// Bind prepares a method that some route serves, at load. conf is the listener's options, made by Configured.Config; nil
	// where the inlet has none. The error says why the method is not served over this protocol, which refuses nothing.
	Bind(m *schema.Method, conf proto.Message) (Bound, error)
	// New makes what serves the connections of one listener. The error refuses the configuration.
	New(e Entry, conf proto.Message, limits Limits) (wire.Protocol, error)
}

// Checker is an Inlet whose options name services. Looked up at load, once the methods of all routes are known.
type Checker interface {
	Inlet
	// Check says what the options name that none of the methods is of: "servants[0].service: ...". The error refuses the
	// configuration.
	Check(conf proto.Message, methods []*schema.Method) error
}

// Bound is what an inlet makes of a method.
type Bound struct {
	// Names are what the method is called by on this listener, each as Entry.Find is asked for it. Two methods with one name
	// refuse the configuration.
	Names []string
	Plan  any // handed back in Found; read by many calls at once
}

// Limits bound what the clients of a listener may ask for. Zero values mean the protocol's defaults.
type Limits struct {
	MaxMessage int // bytes of one message as it is on the wire
	Calls      int // of one connection at once; what comes above waits
	// Idle is for a connection without calls.
	Idle time.Duration
	// Budget is what frames of requests are taken from while they are held; shared, nil: no bound but that of the listener.
	Budget *rpc.Budget
}

// Entry is the gateway's door for calls that an inlet has read. It is safe for concurrent use.
type Entry interface {
	// Find finds who takes a call; name is one of Bound.Names, whatever else finds nothing. c has its Protocol, Peer, Header
	// and Times.Start; its ID, Client, Method, Route and Service are set here. The result is never nil and is the caller's
	// until it calls Leave.
	Find(name string, c *rpc.Call) *Found
}

// Found is who takes a call.
type Found struct {
	Matched // Method is nil beside a Refusal; Options and Finish are always there
	// Plan is what Inlet.Bind made of the method.
	Plan    any
	Handler rpc.Handler
	// Refusal is set where nobody takes the call: it is answered with that, and Finish is told.
	Refusal *rpc.Error
	// NoService is set beside a Refusal where nothing at all is served under what stands before the name's last slash.
	NoService bool
	Visit     Visit
}

// Visit is whoever made a Found.
type Visit interface {
	// Leave says that the call is over. It is the last that is said.
	Leave()
	// Panicked notes a panic of the call and gives what it is answered with.
	Panicked(c *rpc.Call, reason any) *rpc.Error
}

// Answerer answers one call of an inlet.
type Answerer interface {
	// Answer writes what became of the call, its Reply where e is nil, and says what was sent.
	Answer(e *rpc.Error) rpc.Sent
}

// Run takes a call that was found to its end: its handler handles it, a answers it, Finish is told, and Leave. ctx and scheme are
// those of the connection, allowed is the time that the caller allows, 0 for ever. A panic is answered, too: clean is false then, and
// nothing of the call may be used again.
func (f *Found) Run(ctx *wire.Context, c *rpc.Call, scheme string, allowed time.Duration, a Answerer) (clean bool) {
	finished := false
	defer func() {
		if r := recover(); r != nil {
			clean = false
			e := f.Visit.Panicked(c, r)
			if !finished {
				f.Finish.Done(c, a.Answer(e))
			}
		}
		f.Leave()
	}()
	sent := a.Answer(f.handle(ctx, c, scheme, allowed))
	finished = true
	f.Finish.Done(c, sent)
	return true
}

func (f *Found) handle(ctx *wire.Context, c *rpc.Call, scheme string, allowed time.Duration) *rpc.Error {
	if f.Refusal != nil {
		return f.Refusal
	}
	c.Method = f.Method
	f.Admit(c, scheme)
	if due := f.Deadline(c.Times.Start, allowed); !due.IsZero() {
		ctx.SetDeadline(due)
	}
	return RPCError(f.Handler.Handle(ctx, c))
}

// Leave ends the call's stay with the configuration that it was found in: once, after Finish.Done.
func (f *Found) Leave() { f.Visit.Leave() }

// Admit completes the metadata of a call that was found: the request id, and what the route lists of where the call came
// from. scheme is that of the connection: "tars", "tars+tls".
func (f *Found) Admit(c *rpc.Call, scheme string) {
	c.Header.Set("x-request-id", c.ID)
	client := c.Client
	c.Header = appendForwarded(c.Header, c.Peer.Addr().Unmap(), client, scheme, "", f.Options.Request)
}

// Deadline is when a call that began at start has to be over, by its route and by what its caller allows, 0 for ever; the
// zero time: never.
func (f *Found) Deadline(start time.Time, allowed time.Duration) time.Time {
	limit := f.Timeout()
	if allowed = min(allowed, maxTimeout); allowed > 0 && (limit == 0 || allowed < limit) {
		limit = allowed
	}
	if limit == 0 {
		return time.Time{}
	}
	return start.Add(limit)
}

// AppendCarried appends a pair of a protocol that is not HTTP if it is metadata, by the rule for callers of the gRPC family:
// names in lower case, values of -bin names decoded from base64. What metadata cannot carry stays behind, for such protocols
// carry more. Cookies never pass.
func AppendCarried(dst rpc.Metadata, key, value string) rpc.Metadata {
	key = rpc.Lower(key)
	if c := headerClass(key); c == never || c == onlyListed || !metadataKey(key) {
		return dst
	}
	if strings.HasSuffix(key, "-bin") {
		raw, ok := decodeBin(value)
		if !ok {
			return dst
		}
		value = raw
	} else if !Printable(value) {
		return dst
	}
	return append(dst, rpc.Pair{Key: key, Value: value})
}
