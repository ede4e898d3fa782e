// Package cors is the plugin cors: leave for scripts of pages on other origins to call, and to read the answers, as
// https://fetch.spec.whatwg.org/#http-cors-protocol has it.
package cors

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	corsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/cors/v1"
	"github.com/causeway-gateway/causeway/proxy/origin"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "cors",
	Config: func() proto.Message { return new(corsv1.CORS) },
	New:    newPlugin,
}

// cors never changes once made.
type cors struct {
	every       bool     // any origin
	origins     []string // lower case
	credentials bool
	maxAge      string   // seconds
	headers     []string // request headers that may always be sent, lower case
}

var (
	_ plugin.Preflighter = (*cors)(nil)
	_ plugin.Dresser     = (*cors)(nil)
)

const (
	defaultMaxAge = 600 * time.Second
	maxMaxAge     = 24 * time.Hour // no browser keeps it longer
)

func newPlugin(config proto.Message, _ plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*corsv1.CORS)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	if err := check(conf); err != nil {
		return nil, err
	}
	c := &cors{every: conf.GetOrigins()[0] == "*", credentials: conf.GetCredentials()}
	age := defaultMaxAge
	if conf.GetMaxAge() != nil {
		age = conf.GetMaxAge().AsDuration()
	}
	c.maxAge = strconv.FormatInt(int64(age/time.Second), 10)
	for _, o := range conf.GetOrigins() {
		c.origins = append(c.origins, strings.ToLower(o))
	}
	for _, h := range conf.GetHeaders() {
		c.headers = append(c.headers, strings.ToLower(h))
	}
	return c, nil
}

func check(conf *corsv1.CORS) error {
	if len(conf.GetOrigins()) == 0 {
		return plugin.Faultf("", `list the origins of the pages: origins: ["https://app.example.com"]`, "no origins")
	}
	seen := map[string]bool{}
	for i, o := range conf.GetOrigins() {
		at := fmt.Sprintf("origins[%d]", i)
		switch low := strings.ToLower(o); {
		case o == "*" && len(conf.GetOrigins()) > 1:
			return plugin.Faultf(at, "keep it alone, or name the origins", `"*" is every origin, and stands beside others`)
		case o == "*" && conf.GetCredentials():
			return plugin.Faultf("credentials", "name the origins that may send them", `credentials for every page there is: with "*" no browser sends them`)
		case o == "*":
		case low == "null":
			return plugin.Faultf(at, "remove it, and serve the page from an origin of its own", `"null" is what browsers send for every sandboxed page and local file`)
		case strings.Contains(o, "*"):
			return plugin.Faultf(at, `write each origin in full, or "*" alone for every page there is`, "wanted a whole origin, found %q", o)
		case origin.Fix(low) != "":
			return plugin.Faultf(at, origin.Fix(low), `wanted an origin such as "https://app.example.com", found %q`, o)
		case seen[low]:
			return plugin.Faultf(at, "keep it once", "%q is listed twice", o)
		default:
			seen[low] = true
		}
	}
	for i, h := range conf.GetHeaders() {
		if !plugin.HeaderName(strings.ToLower(h)) {
			return plugin.Faultf(fmt.Sprintf("headers[%d]", i), "write letters, digits and -", "%q is not the name of a header", h)
		}
	}
	if a := conf.GetMaxAge(); a != nil && (!a.IsValid() || a.AsDuration() < 0 || a.AsDuration() > maxMaxAge) {
		return plugin.Faultf("max_age", "write 0s to 86400s", "wanted at most 86400s, found %s", a.AsDuration())
	}
	return nil
}

// Wrap implements plugin.Plugin: calls themselves are not looked at.
func (c *cors) Wrap(next rpc.Handler) rpc.Handler { return next }

// allowed is what Access-Control-Allow-Origin says to the origin of a request; "" when it may not call.
func (c *cors) allowed(header rpc.Metadata) string {
	from := header.Get("origin")
	switch {
	case from == "":
		return ""
	case c.every:
		return "*"
	case slices.Contains(c.origins, from):
		return from
	}
	return ""
}

// Dress implements plugin.Dresser: it lets the script read the answer and all its headers. What another one of the kind, further
// out, has said of that is void: browsers take two answers for none.
func (c *cors) Dress(header rpc.Metadata, h *rpc.HTTP, preflight bool) rpc.Metadata {
	header = slices.DeleteFunc(header, func(p rpc.Pair) bool {
		return p.Key == "access-control-allow-origin" || p.Key == "access-control-allow-credentials" || p.Key == "access-control-expose-headers"
	})
	if !c.every && !slices.Contains(header, rpc.Pair{Key: "vary", Value: "origin"}) {
		header = append(header, rpc.Pair{Key: "vary", Value: "origin"}) // also where this answer is without
	}
	from := c.allowed(h.Header)
	if from == "" {
		return header
	}
	var shown strings.Builder
	if !preflight {
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
	header = append(header, rpc.Pair{Key: "access-control-allow-origin", Value: from})
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

// Preflight implements plugin.Preflighter.
func (c *cors) Preflight(h *rpc.HTTP, asked *plugin.Asked) (*rpc.Answer, error) {
	if c.allowed(h.Header) == "" {
		return nil, rpc.Refuse(codes.PermissionDenied, "ORIGIN_NOT_ALLOWED", "pages of this origin may not call").WithStatus(403).
			WithCause(errors.New("its origin is not one of origins"))
	}
	header := rpc.Metadata{{Key: "access-control-allow-methods", Value: asked.Method}}
	if names := h.Header.Get("access-control-request-headers"); names != "" {
		var list strings.Builder
		for name := range strings.SplitSeq(names, ",") {
			name = rpc.Lower(strings.Trim(name, " \t"))
			if !slices.Contains(c.headers, name) && !asked.Takes(name) {
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
	return &rpc.Answer{Status: 204, Header: append(header,
		rpc.Pair{Key: "access-control-max-age", Value: c.maxAge},
		rpc.Pair{Key: "vary", Value: "access-control-request-method, access-control-request-headers"})}, nil
}
