// Package csrf is the plugin csrf: it refuses calls that a page of another origin makes a browser send with its user's
// credentials.
//
// Browsers say what kind of page a request comes from: Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/), older ones Origin
// (RFC 6454). No script can change these, and no attack of this kind comes without a browser. A token adds what does not rest on
// browsers alone: a signed double-submit cookie.
package csrf

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	csrfv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/csrf/v1"
	"github.com/causeway-gateway/causeway/proxy/origin"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "csrf",
	Config: func() proto.Message { return new(csrfv1.CSRF) },
	New:    newPlugin,
}

// csrf never changes once made.
type csrf struct {
	trusted []string // origins, in lower case
	tokens  *tokens  // nil: none are asked for
}

// RequestHeaders implements plugin.Scripted.
func (p *csrf) RequestHeaders() []string {
	if p.tokens == nil {
		return nil
	}
	return []string{p.tokens.header}
}

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*csrfv1.CSRF)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	p := &csrf{}
	for i, o := range conf.GetTrustedOrigins() {
		low := strings.ToLower(o)
		at := fmt.Sprintf("trusted_origins[%d]", i)
		switch {
		case low == "null":
			return nil, plugin.Faultf(at, "remove it, and serve the page from an origin of its own", `"null" is what browsers send for every sandboxed page and local file`)
		case strings.Contains(low, "*"):
			return nil, plugin.Faultf(at, "write each origin in full", "wanted a whole origin, found %q", o)
		case origin.Fix(low) != "":
			return nil, plugin.Faultf(at, origin.Fix(low), `wanted an origin such as "https://app.example.com", found %q`, o)
		}
		p.trusted = append(p.trusted, low)
	}
	if conf.GetToken() != nil {
		var err error
		if p.tokens, err = newTokens(conf.GetToken(), env.Now); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Wrap implements plugin.Plugin.
func (p *csrf) Wrap(next rpc.Handler) rpc.Handler { return &handler{p, next} }

type handler struct {
	*csrf
	next rpc.Handler
}

// Handle implements rpc.Handler. No browser speaks a protocol that is not borne by HTTP.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	if c.HTTP == nil {
		return h.next.Handle(ctx, c)
	}
	socket := isSocket(c.HTTP)
	safe := isSafe(c.HTTP.Method) && !socket
	if !safe {
		if !h.ownPage(c.HTTP) {
			return rpc.Refuse(codes.PermissionDenied, "CROSS_ORIGIN", "pages of this origin may not call").WithStatus(403).
				WithCause(errors.New("its origin is not one of trusted_origins"))
		}
		// A page cannot give the handshake of a WebSocket a header.
		if h.tokens != nil && !socket && !h.tokens.shown(c) {
			return rpc.Refuse(codes.PermissionDenied, "CSRF_TOKEN", "the call wants the token of the cookie %s in the header %s", h.tokens.cookieName(c.HTTP), h.tokens.header).WithStatus(403)
		}
	}
	if h.tokens != nil {
		if safe {
			if err := h.tokens.give(c); err != nil {
				return rpc.Refuse(codes.Internal, "CSRF_FAILED", "internal error").WithCause(err)
			}
		}
		c.Header.Del(h.tokens.header)
		plugin.DiscardCookie(c, h.tokens.cookieName(c.HTTP))
	}
	return h.next.Handle(ctx, c)
}

// isSafe tells the methods that change nothing (RFC 9110 section 9.2.1). A form can send no others than GET and POST.
func isSafe(verb string) bool { return verb == "GET" || verb == "HEAD" || verb == "OPTIONS" }

// isSocket tells whether the request wants to become a WebSocket: that begins with GET, and can do anything then.
func isSocket(r *rpc.HTTP) bool {
	for i := range r.Header {
		if r.Header[i].Key == "upgrade" || r.Header[i].Key == "sec-websocket-key" {
			return true
		}
	}
	return false
}

// ownPage tells whether a request comes from a page that may call, or from no page at all.
func (p *csrf) ownPage(r *rpc.HTTP) bool {
	from, origins := one(r.Header, "origin")
	site, sites := one(r.Header, "sec-fetch-site")
	if origins > 1 || sites > 1 {
		return false // no browser says it twice
	}
	if origins == 1 && slices.Contains(p.trusted, rpc.Lower(from)) {
		return true
	}
	if sites == 1 {
		return site == "same-origin" || site == "none" // none: the user's own doing
	}
	if origins == 1 {
		return own(from, r)
	}
	// Neither: a client that is no browser, or a browser that is older than both, which says the page.
	page, n := one(r.Header, "referer")
	if n == 0 {
		return true
	}
	u, err := url.Parse(page)
	if err != nil || u.User != nil || n > 1 {
		return false
	}
	from = u.Scheme + "://" + u.Host
	return own(from, r) || slices.Contains(p.trusted, rpc.Lower(from))
}

// one is the first value of a header and how many there are.
func one(header rpc.Metadata, key string) (value string, n int) {
	for i := range header {
		if header[i].Key == key {
			if n == 0 {
				value = header[i].Value
			}
			n++
		}
	}
	return value, n
}

// own tells whether an origin is the one that the request was sent to. Where TLS ends in front of the gateway, the origin has it and
// the request does not; the other way round the page could be anybody's on the network.
func own(from string, r *rpc.HTTP) bool {
	scheme, host, ok := strings.Cut(from, "://")
	if !ok || scheme != "https" && (scheme != "http" || r.Scheme == "https") {
		return false
	}
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		name, port = host[:i], host[i+1:]
	}
	if name == "" || !rpc.EqualFold(strings.Trim(name, "[]"), strings.Trim(r.Host, "[]")) {
		return false
	}
	return effective(port, scheme) == effective(r.Port, r.Scheme) || r.Port == "" && port == ""
}

// effective is the port that an URL of a scheme means.
func effective(port, scheme string) string {
	switch {
	case port != "":
		return port
	case scheme == "https":
		return "443"
	}
	return "80"
}
