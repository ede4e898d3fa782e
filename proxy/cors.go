package proxy

import (
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// cors is the leave that scripts of other origins have, as https://fetch.spec.whatwg.org/#http-cors-protocol has it. It is
// part of a snapshot and never changes.
type cors struct {
	every       bool     // any origin
	origins     []string // lower case
	credentials bool
	maxAge      string   // seconds
	headers     []string // request headers that may always be sent, lower case: the faces' and the configured ones
	named       []string // those of faces whose requests name the method by their path
}

// newCORS is nil where the configuration has none.
func newCORS(conf *configv1.CORS, faces []rpcadapters.Face) *cors {
	if conf == nil {
		return nil
	}
	c := &cors{
		every:       slices.Contains(conf.GetOrigins(), "*"),
		origins:     conf.GetOrigins(),
		credentials: conf.GetCredentials(),
		maxAge:      strconv.FormatInt(conf.GetMaxAge().GetSeconds(), 10),
		headers:     lower(conf.GetHeaders()),
	}
	for _, f := range faces {
		s, ok := f.(rpcadapters.Scripted)
		if !ok {
			continue
		}
		if _, named := f.(rpcadapters.Named); named {
			c.named = append(c.named, s.RequestHeaders()...)
		} else {
			c.headers = append(c.headers, s.RequestHeaders()...)
		}
	}
	return c
}

// allowed is what Access-Control-Allow-Origin says to the origin of a request; "" when it may not call.
func (c *cors) allowed(header rpc.Metadata) string {
	origin := header.Get("origin")
	switch {
	case origin == "":
		return ""
	case c.every:
		return "*"
	case slices.ContainsFunc(c.origins, func(o string) bool { return o == origin }):
		return origin
	}
	return ""
}

// AppendHeader implements wire.Dresser: it lets the script read the answer and all its headers.
func (c *cors) AppendHeader(header rpc.Metadata, x *wire.Exchange) rpc.Metadata {
	if !c.every {
		header = append(header, rpc.Pair{Key: "vary", Value: "origin"}) // also where this answer is without
	}
	origin := c.allowed(x.HTTP.Header)
	if origin == "" {
		return header
	}
	var shown strings.Builder
	if !x.Preflight {
		for i := range header {
			key := header[i].Key
			if safelisted(key) || header[:i].Has(key) {
				continue
			}
			if shown.Len() > 0 {
				shown.WriteString(", ")
			}
			shown.WriteString(key)
		}
	}
	header = append(header, rpc.Pair{Key: "access-control-allow-origin", Value: origin})
	if c.credentials {
		header = append(header, rpc.Pair{Key: "access-control-allow-credentials", Value: "true"})
	}
	if shown.Len() > 0 {
		header = append(header, rpc.Pair{Key: "access-control-expose-headers", Value: shown.String()})
	}
	return header
}

// safelisted tells the headers of answers that scripts may read unasked, and those that they never may.
func safelisted(key string) bool {
	switch key {
	case "cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma", // readable
		"set-cookie", "set-cookie2", // never
		"vary", "connection", "transfer-encoding", "trailer", "date": // of no use
		return true
	}
	return false
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

// refusePreflight is why an origin gets no leave at all, or nil.
func (c *cors) refusePreflight(x *wire.Exchange) *rpc.Error {
	if c.allowed(x.HTTP.Header) != "" {
		return nil
	}
	return rpc.Refuse(codes.PermissionDenied, "ORIGIN_NOT_ALLOWED", "pages of this origin may not call: list it in cors.origins").WithStatus(403)
}

// grant answers a preflight whose request would reach t. Neither the plugins nor the service hear of it.
func (c *cors) grant(x *wire.Exchange, verb string, t *target, named bool) error {
	header := rpc.Metadata{
		{Key: "x-request-id", Value: x.ID},
		{Key: "access-control-allow-methods", Value: verb},
	}
	if asked := x.HTTP.Header.Get("access-control-request-headers"); asked != "" {
		var list strings.Builder
		for name := range strings.SplitSeq(asked, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if !c.sendable(name, t.route.Request, named) {
				continue // the browser tells its user which
			}
			if list.Len() > 0 {
				list.WriteString(", ")
			}
			list.WriteString(name)
		}
		if list.Len() > 0 {
			header = append(header, rpc.Pair{Key: "access-control-allow-headers", Value: list.String()})
		}
	}
	header = append(header,
		rpc.Pair{Key: "access-control-max-age", Value: c.maxAge},
		rpc.Pair{Key: "vary", Value: "access-control-request-method, access-control-request-headers"})
	return x.Respond(204, header, nil)
}

// sendable tells whether a script may send a request header: one of the protocols', one that the configuration has, or
// one that becomes metadata.
func (c *cors) sendable(name string, listed []string, named bool) bool {
	if slices.Contains(c.headers, name) || named && slices.Contains(c.named, name) {
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
		coming = coming || strings.EqualFold(strings.TrimSpace(name), c.name)
	}
	if c.kind == isAbsent {
		return !coming
	}
	// What is safe to send is not asked for.
	return coming || slices.Contains(unasked[:], c.name) || c.holds(header)
}

// unasked are request headers that a script may send, or that the browser does, without asking.
var unasked = [...]string{"accept", "accept-language", "content-language", "content-type", "range", "cookie"}
