// Package refererrestriction is the plugin referer_restriction: it lets calls through by the page that a browser comes from.
package refererrestriction

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	refererrestrictionv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/refererrestriction/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "referer_restriction",
	Config: func() proto.Message { return new(refererrestrictionv1.RefererRestriction) },
	New:    newPlugin,
}

// restriction never changes once made.
type restriction struct {
	every       bool // who is not denied may call
	allow, deny hosts
	missing     bool // calls that say nothing pass
}

// hosts are names, and those below others.
type hosts struct {
	names  map[string]bool
	suffix map[string]bool // "example.com" for "*.example.com"
}

func newPlugin(config proto.Message, _ plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*refererrestrictionv1.RefererRestriction)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	if len(conf.GetAllow()) == 0 && len(conf.GetDeny()) == 0 {
		return nil, plugin.Faultf("", `list the hosts of pages that may call: allow: [app.example.com], or that may not: deny`, "neither `allow` nor `deny`")
	}
	r := &restriction{every: len(conf.GetAllow()) == 0, missing: conf.GetAllowMissing()}
	var err error
	if r.allow, err = read("allow", conf.GetAllow()); err != nil {
		return nil, err
	}
	if r.deny, err = read("deny", conf.GetDeny()); err != nil {
		return nil, err
	}
	return r, nil
}

func read(key string, list []string) (hosts, error) {
	out := hosts{map[string]bool{}, map[string]bool{}}
	for i, text := range list {
		name, below := strings.CutPrefix(text, "*.")
		if why := fault(name); why != "" {
			return out, plugin.Faultf(fmt.Sprintf("%s[%d]", key, i), why, `wanted a host such as "example.com" or "*.example.com", found %q`, text)
		}
		if below {
			out.suffix[canonical(name)] = true
		} else {
			out.names[canonical(name)] = true
		}
	}
	return out, nil
}

// fault says what to write instead of something that is no host; "" for one.
func fault(name string) string {
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil && a.Zone() == "" {
		return ""
	}
	switch {
	case strings.Contains(name, "://"):
		u, err := url.Parse(name)
		if err == nil && u.Hostname() != "" {
			return "leave out the scheme: " + u.Hostname()
		}
		return "leave out the scheme"
	case strings.ContainsAny(name, ":/"):
		return "leave out port and path: " + name[:strings.IndexAny(name, ":/")]
	case strings.Contains(name, "*"):
		return `write "*." in front of a name for every name below it`
	case name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) || strings.HasPrefix(name, ".") || strings.Contains(name, ".."):
		return "write letters, digits, - and . (other scripts in their xn-- form)"
	}
	return ""
}

// canonical is a host as it is compared: in lower case, without brackets and the dot of the root.
func canonical(host string) string {
	return strings.TrimSuffix(strings.Trim(rpc.Lower(host), "[]"), ".")
}

// has tells whether a canonical host is one of them.
func (h hosts) has(host string) bool {
	if h.names[host] {
		return true
	}
	for i := strings.IndexByte(host, '.'); i >= 0 && len(h.suffix) > 0; i = strings.IndexByte(host, '.') {
		host = host[i+1:]
		if h.suffix[host] {
			return true
		}
	}
	return false
}

// Wrap implements plugin.Plugin.
func (r *restriction) Wrap(next rpc.Handler) rpc.Handler { return &handler{r, next} }

type handler struct {
	*restriction
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	header := c.Header
	if c.HTTP != nil {
		header = c.HTTP.Header
	}
	if !h.passes(header) {
		return rpc.Refuse(codes.PermissionDenied, "REFERER_NOT_ALLOWED", "calls from this page are not allowed").WithStatus(403)
	}
	return h.next.Handle(ctx, c)
}

// passes tells whether each Referer may call: of several, nobody knows which one the others go by.
func (r *restriction) passes(header rpc.Metadata) bool {
	said := false
	for i := range header {
		if header[i].Key != "referer" || header[i].Value == "" {
			continue
		}
		said = true
		host, ok := hostOf(header[i].Value)
		if !ok || r.deny.has(host) || !r.every && !r.allow.has(host) {
			return false
		}
	}
	return said || r.missing
}

// maxValue is the longest Referer that is looked at, in bytes: browsers send at most so much.
const maxValue = 4096

// hostOf is the host of a page's URL (RFC 9110 section 10.1.3), canonical. Others than http and https have none, nor what
// browsers and this reader could take for different hosts, such as one in another script: browsers send its xn-- form.
func hostOf(referer string) (string, bool) {
	if len(referer) > maxValue || strings.ContainsAny(referer, "\\@") && strings.ContainsAny(authority(referer), "\\@") {
		return "", false
	}
	u, err := url.Parse(referer)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	host := strings.TrimSuffix(rpc.Lower(u.Hostname()), ".")
	return host, host != "" && rpc.Printable(host) && !strings.ContainsAny(host, "[]%")
}

// authority is what stands between the scheme and the path of an URL.
func authority(u string) string {
	_, rest, _ := strings.Cut(u, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}
