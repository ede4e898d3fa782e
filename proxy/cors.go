package proxy

import (
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// scripted are the headers that faces have for themselves, lower case, and which scripts in browsers may send.
type scripted struct {
	ordinary []string
	named    []string // of faces whose requests name the method by their path
}

func scriptedOf(faces []rpcadapters.Face) scripted {
	var h scripted
	for _, f := range faces {
		s, ok := f.(rpcadapters.Scripted)
		if !ok {
			continue
		}
		if _, named := f.(rpcadapters.Named); named {
			h.named = append(h.named, s.RequestHeaders()...)
		} else {
			h.ordinary = append(h.ordinary, s.RequestHeaders()...)
		}
	}
	return h
}

// preflight tells whether a request asks leave for another one, and with which verb.
func preflight(x *wire.Exchange) (verb string, ok bool) {
	if x.HTTP.Method != "OPTIONS" || !x.HTTP.Header.Has("origin") {
		return "", false
	}
	verb = x.HTTP.Header.Get("access-control-request-method")
	return verb, verb != ""
}

// findAsked finds the target of a request that is asked for. named: it names its method by the path.
func (s *Snapshot) findAsked(x *wire.Exchange, verb string, vars []string) (t *target, named, ok bool) {
	if t, ok = s.findNamed(x); ok {
		if verb == "POST" || verb == "GET" && t.method.ReadOnly && t.method.Kind == schema.Unary {
			return t, true, true
		}
	}
	t, _, ok = s.find(x, verb, vars)
	return t, false, ok
}

// preflight has a plugin of rt answer a preflight whose request would reach t; nil: no route takes that.
func (g *Gateway) preflight(x *wire.Exchange, rt *route, verb string, t *target, named bool) (*rpc.Answer, error) {
	return rt.preflight.Preflight(&x.HTTP, &plugin.Asked{Method: verb, Takes: func(header string) bool {
		return t != nil && (slices.Contains(t.route.scripted, header) || g.sendable(header, t.route.Request, named))
	}})
}

// sendable tells whether a script may send a request header: one of the protocols', or one that becomes metadata.
func (g *Gateway) sendable(name string, listed []string, named bool) bool {
	if slices.Contains(g.scripted.ordinary, name) || named && slices.Contains(g.scripted.named, name) {
		return true
	}
	policy := rpcadapters.PassListed
	if named {
		policy = rpcadapters.PassAll
	}
	return rpcadapters.Passes(name, listed, policy)
}

// promised tells whether a header condition may hold for a request that is only asked for: it will have headers of these
// names.
func (c *condition) promised(header rpc.Metadata) bool {
	coming := false
	for name := range strings.SplitSeq(header.Get("access-control-request-headers"), ",") {
		coming = coming || rpc.EqualFold(strings.Trim(name, " \t"), c.name)
	}
	if c.kind == isAbsent {
		return !coming
	}
	// What is safe to send is not asked for.
	return coming || slices.Contains(unasked[:], c.name) || c.holds(header)
}

// unasked are request headers that a script may send, or that the browser does, without asking.
var unasked = [...]string{"accept", "accept-language", "content-language", "content-type", "range", "cookie"}
