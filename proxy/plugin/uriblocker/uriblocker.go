// Package uriblocker is the plugin uri_blocker: it refuses calls by what is found in their path, query or method.
package uriblocker

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	uriblockerv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/uriblocker/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "uri_blocker",
	Config: func() proto.Message { return new(uriblockerv1.URIBlocker) },
	New:    newPlugin,
}

// blocker never changes once made.
type blocker struct {
	paths, queries, methods []*regexp.Regexp
	status                  int
}

func newPlugin(config proto.Message, _ plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*uriblockerv1.URIBlocker)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	if len(conf.GetPaths())+len(conf.GetQueries())+len(conf.GetMethods()) == 0 {
		return nil, plugin.Faultf("", `list what is blocked: paths: ["^/internal/"]`, "no rules")
	}
	b := &blocker{status: int(conf.GetStatus())}
	switch b.status {
	case 0:
		b.status = 403
	case 403, 404:
	default:
		return nil, plugin.Faultf("status", "write 403 or 404", "wanted the status of a refusal, found %d", b.status)
	}
	var err error
	for _, l := range []struct {
		to   *[]*regexp.Regexp
		key  string
		list []string
	}{{&b.paths, "paths", conf.GetPaths()}, {&b.queries, "queries", conf.GetQueries()}, {&b.methods, "methods", conf.GetMethods()}} {
		if *l.to, err = plugin.Regexps(l.key, l.list, !conf.GetCaseSensitive()); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Wrap implements plugin.Plugin.
func (b *blocker) Wrap(next rpc.Handler) rpc.Handler { return &handler{b, next} }

type handler struct {
	*blocker
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	if h.blocks(c) {
		if h.status == 404 {
			return rpc.Refuse(codes.NotFound, "URI_BLOCKED", "nothing is served here").WithStatus(404)
		}
		return rpc.Refuse(codes.PermissionDenied, "URI_BLOCKED", "this call is not allowed").WithStatus(403)
	}
	return h.next.Handle(ctx, c)
}

func (b *blocker) blocks(c *rpc.Call) bool {
	if c.Method != nil && len(b.methods) > 0 && plugin.AnyMatch(b.methods, strings.TrimPrefix(c.Method.Name, "/")) {
		return true
	}
	path, query := "", ""
	switch {
	case c.HTTP != nil:
		path, query = c.HTTP.Path, c.HTTP.Query
	case c.Method != nil:
		path = c.Method.Name // what such a call would have for a path
	}
	return blocked(b.paths, path, false) || query != "" && blocked(b.queries, query, true)
}

// blocked tells whether an expression is found in s: as it was sent, as it reads once decoded, and as it reads for somebody to
// whom an encoded slash is one too. The router takes a segment decoded for a literal one, and may take an encoded slash for
// a border, so whatever it makes of a path is one of the three. plus: + is a space too.
func blocked(list []*regexp.Regexp, s string, plus bool) bool {
	if len(list) == 0 {
		return false
	}
	if plugin.AnyMatch(list, s) {
		return true
	}
	if strings.IndexByte(s, '%') < 0 && (!plus || strings.IndexByte(s, '+') < 0) {
		return false
	}
	plain := decoded(s, plus, false)
	return plugin.AnyMatch(list, plain) || strings.ContainsRune(s, '%') && plugin.AnyMatch(list, decoded(s, plus, true))
}

// decoded is s with its percent-encoding taken away; an encoded slash stays unless slash says otherwise. What is no encoding
// stays as it is.
func decoded(s string, plus, slash bool) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		ch := s[i]
		switch {
		case ch == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			ch = unhex(s[i+1])<<4 | unhex(s[i+2])
			if ch == '/' && !slash {
				b = append(b, '%', '2', 'F')
			} else {
				b = append(b, ch)
			}
			i += 2
		case ch == '+' && plus:
			b = append(b, ' ')
		default:
			b = append(b, ch)
		}
	}
	return string(b)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// unhex is the value of a hex digit.
func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&15 + 9
}
