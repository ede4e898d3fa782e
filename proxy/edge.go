package proxy

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/httprule"
)

// visit is what the edge needs for one exchange; pooled.
type visit struct {
	rpcadapters.Matched
	gateway *Gateway
	route   *route // whose gate was entered; nil before
	closing *route // whose finishers hear of a call that entered no gate
	done    bool
	vars    [8]string
	ids     string // request ids that were not given out yet, see newID
}

var visits = sync.Pool{New: func() any { return &visit{} }}

// Done tells the route's finishers the end of the call, once.
func (v *visit) Done(c *rpc.Call, sent rpc.Sent) {
	if v.done {
		return
	}
	v.done = true
	v.owner().finishAll(c, sent, v.gateway.panics, v.gateway.log)
}

// owner is the route that a call is told of.
func (v *visit) owner() *route {
	switch {
	case v.route != nil:
		return v.route
	case v.closing != nil:
		return v.closing
	}
	return &route{}
}

// ServeExchange takes one request through the gateway. It is called by an engine, in the connection's goroutine.
func (g *Gateway) ServeExchange(ctx context.Context, x *wire.Exchange) {
	v := visits.Get().(*visit)
	x.ID = v.requestID(x.HTTP.Header)
	v.gateway = g
	defer g.leave(x, v)
	at := g.face(x, 0)
	invalid := split(x)
	if out := g.memory.refusal(); out != nil {
		invalid = out
	}
	for {
		snap := g.snap.Load()
		face, named := g.faces[at], g.named[at]
		var t *target
		refusal, rt := invalid, snap.nobody
		var asked string // the verb of the request that this one asks leave for
		var byName bool
		x.Dresser, x.Preflight = nil, false // another snapshot may have had it otherwise
		if len(snap.trusted) > 0 {
			snap.client(x)
		}
		if refusal == nil {
			var ok bool
			if snap.preflights {
				if asked, x.Preflight = preflight(x); x.Preflight {
					t, byName, ok = snap.findAsked(x, asked, v.vars[:0])
					if rt = snap.nobody; ok {
						rt = t.route
					}
					if rt.preflight == nil { // nobody gives leave: a request as any other
						asked, x.Preflight, ok, rt = "", false, false, snap.nobody
					}
				}
			}
			switch {
			case x.Preflight:
			case named:
				if t, ok = snap.findNamed(x); ok {
					break
				}
				if _, open := face.(rpcadapters.Unsure); open {
					if next := g.face(x, at+1); !g.named[next] {
						if t, v.Vars, ok = snap.find(x, x.HTTP.Method, v.vars[:0]); ok {
							face = g.faces[next]
						}
					}
				}
			default:
				t, v.Vars, ok = snap.find(x, x.HTTP.Method, v.vars[:0])
			}
			switch {
			case ok:
				rt = t.route
			case x.Preflight:
				if _, err := g.preflight(x, rt, asked, nil, false); err != nil { // who gets no leave at all is told no more
					refusal = rpcadapters.RPCError(err)
				} else {
					refusal = snap.unmatched(x, asked)
				}
			case named:
				refusal = rpc.Refuse(codes.Unimplemented, "METHOD_NOT_FOUND", "no method %s is served here", x.HTTP.Path).WithStatus(404)
			default:
				refusal = snap.unmatched(x, asked)
			}
		}
		if !rt.gate.Enter() {
			if g.snap.Load() != snap {
				continue // a newer snapshot has been swapped in: match again on that
			}
			v.closing = snap.nobody
			g.refuse(x, v, face, rpc.Refuse(codes.Unavailable, "STOPPING", "the gateway is stopping"))
			return
		}
		v.route = rt
		if len(rt.dressers) > 0 {
			x.Dresser = rt
		}
		if refusal != nil {
			refusal.Bare = refusal.Bare || snap.lenient
			g.refuse(x, v, face, refusal)
			return
		}
		if x.Preflight {
			a, err := g.preflight(x, rt, asked, t, byName)
			if err != nil {
				v.route, v.closing = nil, snap.nobody // the call itself has not come
				defer rt.gate.Leave()                 // the gate keeps open what is told
				g.refuse(x, v, face, rpcadapters.RPCError(err))
				return
			}
			c := g.unserved(x, v, face)
			v.Done(c, rpcadapters.Finished(x, nil, x.Respond(a.Status, append(rpc.Metadata{{Key: "x-request-id", Value: x.ID}}, a.Header...), a.Body)))
			return
		}
		v.Method, v.Options, v.Rule, v.Finish = t.method, &t.route.Options, t.rule, v
		face.Serve(ctx, x, &v.Matched, t.route.handler)
		return
	}
}

// split takes the path apart, once for all who look at it, and refuses what could be read in two ways.
func split(x *wire.Exchange) *rpc.Error {
	var err error
	if x.Segments, err = httprule.AppendSegments(x.Segments[:0], x.HTTP.Path); err != nil {
		return rpc.Refuse(codes.InvalidArgument, "INVALID_PATH", "%s", err)
	}
	if strings.IndexByte(x.HTTP.Query, '#') >= 0 {
		return rpc.Refuse(codes.InvalidArgument, "INVALID_PATH", "the query has a raw #: write it as %%23")
	}
	return nil
}

// leave ends the visit, also when the face panicked: the caller gets an answer if none was begun, and Done still runs.
func (g *Gateway) leave(x *wire.Exchange, v *visit) {
	r := recover()
	if r != nil {
		g.panics.Add(1)
		g.log.Error("panic at the edge", "request_id", x.ID, "panic", r, "stack", string(debug.Stack()))
		if v.route != nil {
			defer v.route.gate.Leave()
		} else if snap := g.snap.Load(); snap != nil {
			v.closing = snap.nobody
		}
		if !v.done {
			g.refuse(x, v, g.faces[len(g.faces)-1], panicked(r))
		}
		return // the visit may be held by what panicked: it is not used again
	}
	if v.route != nil {
		v.route.gate.Leave()
	}
	ids := v.ids
	*v = visit{}
	v.ids = ids
	visits.Put(v)
}

// face finds the protocol of a request among the faces from one on.
func (g *Gateway) face(x *wire.Exchange, from int) int {
	last := len(g.faces) - 1
	for i := from; i < last; i++ {
		if g.faces[i].Match(x) {
			return i
		}
	}
	return last
}

// refuse answers a request that has no route and tells the global finishers.
func (g *Gateway) refuse(x *wire.Exchange, v *visit, face rpcadapters.Face, err *rpc.Error) {
	v.Done(g.unserved(x, v, face), face.Refuse(x, err))
}

// unserved is the call that finishers are told of where no face made one.
func (g *Gateway) unserved(x *wire.Exchange, v *visit, face rpcadapters.Face) *rpc.Call {
	c := &rpc.Call{Protocol: face.Name(), Route: v.owner().Route, Service: v.owner().Service, ID: x.ID, Peer: x.Peer, HTTP: &x.HTTP, Method: v.Method}
	c.Times.Start = x.Start
	return c
}

// Refused tells the global finishers of a request that an engine has answered itself, because it was malformed, too large
// or too slow to become an exchange.
func (g *Gateway) Refused(peer netip.AddrPort, status int, reason string) {
	snap := g.snap.Load()
	if snap == nil || !snap.nobody.gate.Enter() {
		return // on its way out; there is nobody to tell
	}
	defer snap.nobody.gate.Leave()
	now := time.Now()
	c := &rpc.Call{Protocol: "http", Peer: peer}
	c.Times.Start = now
	snap.nobody.finish.finish(c, rpc.Sent{Status: status, Code: codes.InvalidArgument, Reason: reason, End: now}, g.panics, g.log)
}

// unmatched is the error of a request that no route takes: 405 where another verb would do, else 404.
// asked is the verb that a preflight asks for.
func (s *Snapshot) unmatched(x *wire.Exchange, asked string) *rpc.Error {
	verb := x.HTTP.Method
	if asked != "" {
		verb = asked
	}
	verbs := s.verbs(x)
	if s.lenient {
		return unmatchedLeniently(len(verbs) > 0)
	}
	if len(verbs) > 0 {
		allow := strings.Join(verbs, ", ")
		e := rpc.Refuse(codes.Unimplemented, "METHOD_NOT_ALLOWED", "%s is not served at this path: it takes %s", verb, allow).WithStatus(405)
		e.Header.Add("allow", allow)
		return e
	}
	return rpc.Refuse(codes.Unimplemented, "ROUTE_NOT_FOUND", "no route takes %s %s", verb, x.HTTP.Path).WithStatus(404)
}

// maxID is the longest request id taken from a caller.
const maxID = 128

// requestID is the caller's own id when it is one short word, else a new one.
func (v *visit) requestID(header rpc.Metadata) string {
	if id := header.Get("x-request-id"); id != "" && len(id) <= maxID && word(id) {
		return id
	}
	return v.newID()
}

// A new id is 16 random bytes in hexadecimal. They are made several at once, for one allocation.
const (
	idSize   = 32
	idsAhead = 8
)

// newID gives out an id.
func (v *visit) newID() string {
	if v.ids == "" {
		var raw [idsAhead * idSize / 2]byte
		for i := 0; i < len(raw); i += 8 {
			binary.LittleEndian.PutUint64(raw[i:], rand.Uint64()) //nolint:gosec // an id has to differ, not to be secret
		}
		var text [2 * len(raw)]byte
		hex.Encode(text[:], raw[:])
		v.ids = string(text[:])
	}
	id := v.ids[:idSize]
	v.ids = v.ids[idSize:]
	return id
}

func word(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return true
}

// ErrClosed is the error of a gateway that has been shut down.
var ErrClosed = errors.New("the gateway is closed")
