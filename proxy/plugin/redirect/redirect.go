// Package redirect is the plugin redirect: it sends callers elsewhere.
package redirect

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	redirectv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/redirect/v1"
	"github.com/causeway-gateway/causeway/proxy/expr"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "redirect",
	Config: func() proto.Message { return new(redirectv1.Redirect) },
	New:    newPlugin,
}

// redirect never changes once made.
type redirect struct {
	status    int
	https     string         // what stands behind the host of the same place with TLS: "", ":8443"
	to        *expr.Template // nil: none
	path      *regexp.Regexp // nil: none
	parts     []part         // of a place made of the path
	fixed     string         // scheme and authority that every place begins with, "https://example.com"; "" where it is none
	hosts     []string       // that a place may be on; "*.example.com" is ".example.com"
	dropQuery bool
}

func newPlugin(config proto.Message, _ plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*redirectv1.Redirect)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	r := &redirect{status: int(conf.GetStatus()), dropQuery: conf.KeepQuery != nil && !conf.GetKeepQuery()}
	kinds := 0
	for _, given := range []bool{conf.GetHttps() != nil, conf.GetTo() != "", conf.GetPath() != nil} {
		if given {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, plugin.Faultf("", "write one of https: {}, to: /new, and path: {regex: ..., to: ...}", "wanted exactly one of `https`, `to` and `path`, found %d", kinds)
	}
	if err := r.target(conf); err != nil {
		return nil, err
	}
	switch r.status {
	case 0:
		r.status = 302
		if conf.GetHttps() != nil {
			r.status = 308 // the method and the body stay
		}
	case 301, 302, 303, 307, 308:
	default:
		return nil, plugin.Faultf("status", "write 301, 302, 303, 307 or 308", "wanted the status of a redirection, found %d", r.status)
	}
	for i, h := range conf.GetHosts() {
		name, below := strings.CutPrefix(strings.ToLower(h), "*.")
		if name == "" || strings.ContainsAny(name, "/:@*\\ ?#%") {
			return nil, plugin.Faultf(fmt.Sprintf("hosts[%d]", i), `write a name, or "*." and a name for every name below it`, `wanted a host such as "example.com", found %q`, h)
		}
		if below {
			name = "." + name
		}
		r.hosts = append(r.hosts, name)
	}
	return r, nil
}

// target reads where calls are sent.
func (r *redirect) target(conf *redirectv1.Redirect) error {
	switch {
	case conf.GetHttps() != nil:
		switch port := conf.GetHttps().GetPort(); {
		case port < 0 || port > 65535:
			return plugin.Faultf("https.port", "write 1 to 65535", "%d is not a port", port)
		case port != 0 && port != 443:
			r.https = ":" + strconv.Itoa(int(port))
		}
		return nil
	case conf.GetPath() != nil:
		re, err := plugin.Regexp("path.regex", conf.GetPath().GetRegex(), false)
		if err != nil {
			return err
		}
		if r.path, err = plugin.Regexp("path.regex", "^(?:"+conf.GetPath().GetRegex()+")$", false); err != nil {
			return err
		}
		to := conf.GetPath().GetTo()
		if to == "" {
			return plugin.Faultf("path.to", "write where it leads: /new/{1}", "no place")
		}
		var unknown string
		if r.parts, unknown = expansion(re, to); unknown != "" {
			return plugin.Faultf("path.to", "name a group of the regular expression: {1}, or {id} for (?P<id>...)", "the regular expression has no group %s", unknown)
		}
		return r.begins("path.to", r.parts[0].plain, len(r.parts) == 1 && r.parts[0].group < 0)
	}
	t, err := expr.ParseTemplate(conf.GetTo())
	if err != nil {
		return plugin.Faultf("to", "write a path or an URL with {{ EXPRESSION }} parts", "%s", err)
	}
	if t.AfterAnswer() {
		return plugin.Faultf("to", "ask for what is known of the request", "`answer` is not known yet")
	}
	r.to = t
	_, constant := t.Constant()
	return r.begins("to", t.Prefix(), constant)
}

// part is plain text, and the group of a regular expression that stands behind it.
type part struct {
	plain string
	group int // -1: none
}

// expansion takes a place apart at its groups; unknown is one that the regular expression does not have.
func expansion(re *regexp.Regexp, to string) (parts []part, unknown string) {
	for rest := to; ; {
		plain, after, found := strings.Cut(rest, "{")
		name, behind, closed := strings.Cut(after, "}")
		if !found {
			if plain != "" || len(parts) == 0 {
				parts = append(parts, part{plain, -1})
			}
			return parts, ""
		}
		n, err := strconv.Atoi(name)
		if err != nil {
			n = re.SubexpIndex(name)
		}
		if !closed || n < 0 || n > re.NumSubexp() {
			return nil, "{" + name + "}"
		}
		parts = append(parts, part{plain, n})
		rest = behind
	}
}

func wordRune(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// begins reads what every place begins with. Where that is the whole of a host, the operator has chosen it; a host that is made
// of the request has to be among those that are listed.
func (r *redirect) begins(at, plain string, whole bool) error {
	scheme, rest, ok := strings.Cut(plain, "://")
	if !ok {
		if whole && !local(plain) {
			return plugin.Faultf(at, "begin with one /, or with https://", "%q is neither a path nor an URL", plain)
		}
		return nil
	}
	if s := strings.ToLower(scheme); s != "https" && s != "http" {
		return plugin.Faultf(at, "begin with one /, or with https://", "%q is not a place for callers by HTTP", scheme)
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		if !whole {
			return nil // the host goes on with a part of the request: it has to be listed
		}
		end = len(rest)
	}
	u, err := url.Parse(scheme + "://" + rest[:end])
	if err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(rest[:end], "\\@") {
		return plugin.Faultf(at, "write the host as in https://example.com/", "%q has no host", plain)
	}
	r.fixed = scheme + "://" + rest[:end]
	return nil
}

// local tells whether a place is a path on the same host: browsers take // and /\ for the beginning of another.
func local(place string) bool {
	return strings.HasPrefix(place, "/") && (len(place) == 1 || place[1] != '/' && place[1] != '\\')
}

// Expressions implements plugin.Evaluator.
func (r *redirect) Expressions(*schema.Method) []plugin.Expression {
	if r.to == nil {
		return nil
	}
	return []plugin.Expression{{Path: "to", Source: r.to}}
}

// WithoutHTTP implements plugin.HTTPReader: who calls by another protocol cannot be sent elsewhere.
func (r *redirect) WithoutHTTP(m *schema.Method) (why string) {
	if r.to != nil || r.path != nil && r.path.MatchString(m.Name) {
		return "callers who do not come by HTTP cannot be sent elsewhere"
	}
	return ""
}

// Wrap implements plugin.Plugin.
func (r *redirect) Wrap(next rpc.Handler) rpc.Handler { return &handler{r, next} }

type handler struct {
	*redirect
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	if c.HTTP == nil {
		if h.to == nil && (h.path == nil || !h.path.MatchString(c.Method.Name)) {
			return h.next.Handle(ctx, c) // there is no such thing as the same place with TLS, and no path but the method's
		}
		return rpc.Refuse(codes.FailedPrecondition, "REDIRECTED", "the method is called by HTTP, elsewhere")
	}
	place, moved, err := h.place(ctx, c)
	if err != nil {
		return err
	}
	if !moved {
		return h.next.Handle(ctx, c)
	}
	return &rpc.Answer{
		Status: h.status, Header: rpc.Metadata{{Key: "location", Value: place}},
		Code: codes.FailedPrecondition, Message: "the method is to be called at " + place,
	}
}

// place is where the call is sent; moved is false where it stays.
func (h *handler) place(ctx context.Context, c *rpc.Call) (place string, moved bool, err error) {
	r := c.HTTP
	switch {
	case h.to != nil:
		if place, err = h.to.Text(ctx, c, nil); err != nil {
			return "", false, rpc.Refuse(codes.Internal, "REDIRECT_FAILED", "internal error").WithCause(err)
		}
	case h.path != nil:
		m := h.path.FindStringSubmatchIndex(r.Path)
		if m == nil {
			return "", false, nil
		}
		var b strings.Builder
		for _, p := range h.parts {
			b.WriteString(p.plain)
			if p.group >= 0 && m[2*p.group] >= 0 {
				b.WriteString(r.Path[m[2*p.group]:m[2*p.group+1]])
			}
		}
		place = b.String()
	case r.Scheme == "https":
		return "", false, nil
	default:
		return h.secure(r)
	}
	place = escaped(place)
	if !h.allowed(place, r) {
		return "", false, rpc.Refuse(codes.InvalidArgument, "REDIRECT_REFUSED", "the request names a place that callers are not sent to").
			WithCause(fmt.Errorf("redirection to %q: its host is none of those listed", place))
	}
	if !h.dropQuery && r.Query != "" && !strings.ContainsAny(place, "?#") {
		place += "?" + escaped(r.Query)
	}
	return place, true, nil
}

// secure is the same place with TLS.
func (h *handler) secure(r *rpc.HTTP) (place string, moved bool, err error) {
	host := r.Host
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	if !hostname(host) {
		return "", false, rpc.Refuse(codes.InvalidArgument, "REDIRECT_REFUSED", "the request names no host to be sent to")
	}
	place = "https://" + host + h.https + escaped(r.Path)
	if !h.dropQuery && r.Query != "" {
		place += "?" + escaped(r.Query)
	}
	return place, true, nil
}

// hostname tells whether s is a name or an address, and nothing that an URL's reader could take apart otherwise.
func hostname(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && a.Is6() && a.Zone() == "" && strings.HasSuffix(s, "]")
	}
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r != '-' && r != '.' && !wordRune(r) })
}

// allowed tells whether callers may be sent to a place: a path on the same host, the host that the configuration names in full,
// the request's own, or one that is listed.
func (h *handler) allowed(place string, r *rpc.HTTP) bool {
	if local(place) {
		return true
	}
	if h.fixed != "" {
		rest, ok := strings.CutPrefix(place, h.fixed)
		return ok && (rest == "" || strings.IndexByte("/?#", rest[0]) >= 0)
	}
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Opaque != "" || !hostname(hostOf(u)) {
		return false
	}
	host := rpc.Lower(u.Hostname())
	return host == r.Host || slices.ContainsFunc(h.hosts, func(listed string) bool {
		return host == listed || listed[0] == '.' && strings.HasSuffix(host, listed)
	})
}

// hostOf is an URL's host without port, with the brackets of an address.
func hostOf(u *url.URL) string {
	if strings.HasPrefix(u.Host, "[") {
		return "[" + u.Hostname() + "]"
	}
	return u.Hostname()
}

// escaped is a place in which every byte may stand in an URL (RFC 3986 section 2): what may not is percent-encoded, so that no
// line ends, and no backslash is taken for a slash. Percent-encoding that is there stays.
func escaped(s string) string {
	clean := 0
	for clean < len(s) && urlByte(s[clean]) {
		clean++
	}
	if clean == len(s) {
		return s
	}
	const hex = "0123456789ABCDEF"
	b := append(make([]byte, 0, len(s)+16), s[:clean]...)
	for i := clean; i < len(s); i++ {
		if c := s[i]; urlByte(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

func urlByte(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte("\"<>\\^`{|}", c) < 0
}
