package config

import (
	"errors"
	"maps"
	"math"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/origin"
	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func (k *checker) route(path string, r *configv1.Route) {
	if k.failed(path) {
		return
	}
	k.hosts(path, r.GetHosts())
	k.methods(path, r)
	if r.GetHttp() != nil {
		k.httpRule(path+".http", r.GetHttp())
	}
	for i, h := range r.GetHeaders() {
		k.condition(item(path+".headers", i), h)
	}
	if r.GetService() == "" {
		fix := "name the service that it leads to"
		if all := k.visible(k.service.list(), k.service); len(all) > 0 {
			fix += ": " + list(all)
		}
		k.missing(path, "service", fix)
	} else {
		k.reference(path+".service", "service", r.GetService(), k.service)
	}
	if known := k.subsets[r.GetService()]; r.GetSubset() != "" && known != nil && !known[r.GetSubset()] && !k.failed(path+".subset") {
		at := path + ".subset"
		k.fault(at, k.suggest(at, "add it under balancer.subsets of service "+r.GetService()), "service %q has no subset %s%s", r.GetService(), k.show(at, r.GetSubset()),
			schema.DidYouMean(r.GetSubset(), slices.Sorted(maps.Keys(known))))
	}
	if k.retry(path+".retry", r.GetRetry()); k.written(path + ".retry.budget") {
		k.fault(path+".retry.budget", "write it under retry of the service", "a route has no budget of its own")
	}
	k.plugins(path+".plugins", r.GetPlugins())
	k.callTimeout(path+".timeout", r.GetTimeout())
	k.passed(path+".request_headers", r.GetRequestHeaders())
	k.passed(path+".response_headers", r.GetResponseHeaders())
	k.limit(path+".max_body", r.GetMaxBody(), math.MaxInt32)
	k.rest(path+".rest", r.GetRest())
	k.stream(path+".stream", r.GetStream())
}

// defaults checks what routes take over.
func (k *checker) defaults(path string, d *configv1.Defaults) {
	if d == nil || k.failed(path) {
		return
	}
	k.callTimeout(path+".timeout", d.GetTimeout())
	k.passed(path+".request_headers", d.GetRequestHeaders())
	k.passed(path+".response_headers", d.GetResponseHeaders())
	k.limit(path+".max_body", d.GetMaxBody(), math.MaxInt32)
	k.rest(path+".rest", d.GetRest())
	k.stream(path+".stream", d.GetStream())
}

// maxStream bounds what may be written for streams: more is a mistake of units.
const maxStream = 365 * 24 * time.Hour

func (k *checker) stream(path string, s *configv1.StreamOptions) {
	if s == nil || k.failed(path) {
		return
	}
	k.between(path+".idle_timeout", s.GetIdleTimeout(), maxStream)
	k.between(path+".max_age", s.GetMaxAge(), maxStream)
}

// rest checks that the two keys about unknown parameters go together.
func (k *checker) rest(path string, r *configv1.RESTOptions) {
	if r == nil || k.failed(path) {
		return
	}
	capture := r.GetUnknownQuery() == configv1.UnknownQuery_UNKNOWN_QUERY_CAPTURE
	switch {
	case k.anyFailed(path, "unknown_query", "capture_query"):
	case capture && r.GetCaptureQuery() == "":
		k.missing(path, "capture_query", "name the field of the request that takes the parameters")
	case !capture && r.GetCaptureQuery() != "":
		k.fault(path+".capture_query", "add unknown_query: capture, or remove it", "a field that nothing is captured into")
	}
	k.origins(path+".websocket_origins", r.GetWebsocketOrigins())
}

// origins checks a list of origins as browsers send them (RFC 6454 section 6.2).
func (k *checker) origins(path string, origins []string) {
	seen := map[string]bool{}
	for i, o := range origins {
		at := item(path, i)
		if k.failed(at) || o == "*" {
			continue
		}
		if seen[strings.ToLower(o)] {
			k.fault(at, "keep it once", "%s is listed twice", k.show(at, o))
		}
		seen[strings.ToLower(o)] = true
		if fix := origin.Fix(strings.ToLower(o)); fix != "" {
			k.fault(at, k.suggest(at, fix), `wanted an origin such as "https://app.example.com", found %s`, k.show(at, o))
		}
	}
}

func (k *checker) hosts(path string, hosts []string) {
	seen := map[string]bool{}
	for i, host := range hosts {
		at := item(path+".hosts", i)
		if k.failed(at) {
			continue
		}
		lower := strings.ToLower(host)
		if seen[lower] {
			k.fault(at, "keep it once", "%s is listed twice", k.show(at, host))
		}
		seen[lower] = true
		if bad := routeHostFault(lower); bad != nil {
			k.fault(at, k.suggest(at, bad.fix), "%s, found %s", bad.message, k.show(at, host))
		}
	}
}

func routeHostFault(host string) *misfit {
	if scheme, rest, ok := strings.Cut(host, "://"); ok && scheme != "" {
		rest, _, _ = strings.Cut(rest, "/")
		return misfitf("write the host alone: "+rest, "wanted a host without a scheme")
	}
	if before, _, ok := strings.Cut(host, "/"); ok {
		return misfitf("write the host alone: "+before, "wanted a host without a path")
	}
	if host == "*" {
		return misfitf("remove `hosts`: without it every host fits", `wanted a host or "*." and a domain`)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err == nil && ip.Is6() && strings.HasSuffix(inner, "]") {
			return nil
		}
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		if _, err := netip.ParseAddr(host); err == nil {
			return misfitf("write ["+host+"]", "wanted an IPv6 host in brackets")
		}
		return misfitf("write the host alone: "+host[:i]+"; every port fits", "wanted a host without a port")
	}
	name := strings.TrimPrefix(host, "*.")
	if strings.Contains(name, "*") {
		return misfitf(`write "*." and a domain: "*.example.com"`, "wanted * as the whole first label only")
	}
	if bad := hostFault(name); bad != nil {
		if name != "." && strings.HasSuffix(name, ".") {
			bad.fix = "remove the dot at the end"
		}
		return misfitf(bad.fix, "wanted a host name (%s)", bad.message)
	}
	return nil
}

func (k *checker) methods(path string, r *configv1.Route) {
	switch {
	case len(r.GetMethods()) > 0 && r.GetHttp() != nil:
		k.fault(path+".http", "keep one; a rule names its own method", "`methods` and `http` exclude each other, and both are set")
	case len(r.GetMethods()) == 0 && r.GetHttp() == nil && !k.anyFailed(path, "methods", "http"):
		k.fault(path, `add methods: ["acme.v1.Orders/*"], or an http rule`, "neither methods nor http")
	}
	seen := map[string]bool{}
	for i, m := range r.GetMethods() {
		at := item(path+".methods", i)
		if k.failed(at) {
			continue
		}
		if seen[m] {
			k.fault(at, "keep it once", "%s is listed twice", k.show(at, m))
		}
		seen[m] = true
		if bad := globFault(m); bad != nil {
			k.fault(at, k.suggest(at, bad.fix), "%s, found %s", bad.message, k.show(at, m))
		}
	}
}

var (
	globChars  = regexp.MustCompile(`^[A-Za-z0-9_.*/]*$`)
	methodName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*$`)
)

// globFault says what is wrong with a method's full name or a glob over such names.
func globFault(m string) *misfit {
	if !strings.Contains(m, "*") {
		return methodFault(m)
	}
	const want = `wanted a glob over method names such as "acme.v1.Orders/*"`
	switch {
	case strings.HasPrefix(m, "/"):
		return misfitf("write "+strings.TrimLeft(m, "/"), "%s", want)
	case !globChars.MatchString(m):
		return misfitf("use letters, digits, _ . / and *", "%s", want)
	case strings.Contains(m, "**"):
		return misfitf("write one *: it stands for any run of characters, dots and / too", "%s", want)
	case strings.Count(m, "/") > 1, strings.Contains(m, ".."), strings.Contains(m, "./"), strings.Contains(m, "/."), strings.HasPrefix(m, "."), strings.HasSuffix(m, "/"):
		return misfitf("write package.Service/Method with * where any characters may stand", "%s", want)
	}
	return nil
}

// methodFault says what is wrong with a method's full name.
func methodFault(m string) *misfit {
	if methodName.MatchString(m) {
		return nil
	}
	fix := "write package.Service/Method"
	trimmed := strings.Trim(m, "/. ")
	switch i := strings.LastIndexByte(trimmed, '.'); {
	case methodName.MatchString(trimmed):
		fix = "write " + trimmed
	case !fullName.MatchString(trimmed) || i < 0:
	case strings.HasSuffix(m, "/") || !upper(trimmed[strings.LastIndexByte(trimmed[:i], '.')+1]):
		fix = "write " + trimmed + "/* for all methods of a service"
	default:
		fix = "write " + trimmed[:i] + "/" + trimmed[i+1:]
	}
	return misfitf(fix, "wanted a method's full name")
}

// upper reports whether a name begins as those of services and methods do; packages are in lower case.
func upper(first byte) bool { return 'A' <= first && first <= 'Z' }

func (k *checker) httpRule(path string, h *configv1.HTTPRule) {
	if k.failed(path) {
		return
	}
	for i, b := range h.GetAdditionalBindings() {
		at := item(path+".additional_bindings", i)
		switch {
		case k.failed(at):
		case b.GetMethod() != "":
			k.fault(at+".method", "remove it", "an additional binding is one of the rule's method, and names none of its own")
		case len(b.GetAdditionalBindings()) > 0:
			k.fault(at+".additional_bindings", "move them one level up", "additional bindings do not nest")
		default:
			k.pattern(at, b)
		}
	}
	switch m := h.GetMethod(); {
	case m == "":
		k.missing(path, "method", "name the method that is called: acme.v1.Orders/Get")
	case k.failed(path + ".method"):
	default:
		if bad := methodFault(m); bad != nil {
			fix := bad.fix
			if strings.Contains(m, "*") {
				fix = "name one method; globs stand in `methods`"
			}
			k.fault(path+".method", k.suggest(path+".method", fix), "%s, found %s", bad.message, k.show(path+".method", m))
		}
	}
	k.pattern(path, h)
}

// pattern checks a rule's verb and path.
func (k *checker) pattern(path string, h *configv1.HTTPRule) {
	at, template := path, ""
	switch p := h.GetPattern().(type) {
	case nil:
		if !k.anyFailed(path, "get", "put", "post", "delete", "patch", "custom") {
			k.fault(path, `add one of: get, put, post, delete, patch, custom`, "no verb and path")
		}
		return
	case *configv1.HTTPRule_Get:
		at, template = path+".get", p.Get
	case *configv1.HTTPRule_Put:
		at, template = path+".put", p.Put
	case *configv1.HTTPRule_Post:
		at, template = path+".post", p.Post
	case *configv1.HTTPRule_Delete:
		at, template = path+".delete", p.Delete
	case *configv1.HTTPRule_Patch:
		at, template = path+".patch", p.Patch
	case *configv1.HTTPRule_Custom:
		at = path + ".custom"
		if k.failed(at) {
			return
		}
		if kind := p.Custom.GetKind(); kind == "" {
			k.missing(at, "kind", `write the verb in upper case, or "*" for every verb`)
		} else if !customVerb.MatchString(kind) && !k.failed(at+".kind") {
			k.fault(at+".kind", k.suggest(at+".kind", "write "+strings.ToUpper(kind)), `wanted a verb in upper case or "*", found %s`, k.show(at+".kind", kind))
		}
		if p.Custom.GetPath() == "" {
			k.missing(at, "path", "write a path template: /v1/orders/{id}")
			return
		}
		at, template = at+".path", p.Custom.GetPath()
	}
	k.template(at, template)
}

// customVerb is a method token of RFC 9110 in upper case, or every verb.
var customVerb = regexp.MustCompile(`^(\*|[A-Z][A-Z0-9_-]*)$`)

func (k *checker) template(path, template string) {
	if k.failed(path) {
		return
	}
	_, err := httprule.Parse(template)
	if err == nil {
		return
	}
	const fix = "write a path template such as /v1/orders/{id}"
	se, ok := errors.AsType[*httprule.SyntaxError](err)
	if !ok || k.show(path, "") == mask {
		k.fault(path, k.suggest(path, fix), "this is not a path template")
		return
	}
	f := k.fault(path, fix, "path template %s: wanted %s, found %s", k.show(path, template), se.Want, se.Found)
	k.narrow(f, path, template, se.Column-1, 1)
}

// narrow moves a fault from a whole scalar to a part of it, given in bytes, when the file has the value as it is.
func (k *checker) narrow(f *Fault, path, value string, offset, length int) {
	p := k.at(path)
	if p == nil || p.file == nil || p.secret || offset < 0 || offset > len(value) {
		return
	}
	rest := p.file.from(p.line, p.column)
	quote := 0
	if strings.HasPrefix(rest, `"`) || strings.HasPrefix(rest, `'`) {
		quote = 1
	}
	if !strings.HasPrefix(rest[quote:], value) {
		return
	}
	f.Column = p.column + quote + utf8.RuneCountInString(value[:offset])
	f.width = max(1, utf8.RuneCountInString(value[offset:min(len(value), offset+length)]))
}

func (k *checker) condition(path string, h *configv1.HeaderCondition) {
	if k.failed(path) {
		return
	}
	at := path + ".name"
	switch name := h.GetName(); {
	case name == "":
		k.missing(path, "name", "name a request header")
	case k.failed(at):
	case strings.HasPrefix(name, ":"):
		k.fault(at, "use `hosts` for the host; the path and verb are matched by the method's bindings", "%s is not a header", k.show(at, name))
	case !headerToken.MatchString(name):
		k.fault(at, tokenRule, "%s is not the name of a header", k.show(at, name))
	}
	switch c := h.GetCondition().(type) {
	case nil:
		if !k.anyFailed(path, "exact", "prefix", "regex", "present") {
			k.fault(path, "add one of: exact, prefix, regex, present", "no condition")
		}
	case *configv1.HeaderCondition_Prefix:
		if c.Prefix == "" && !k.failed(path+".prefix") {
			k.fault(path+".prefix", "write the prefix, or `present: true` for any value", "an empty prefix fits every value")
		}
	case *configv1.HeaderCondition_Regex:
		k.regex(path+".regex", c.Regex)
	}
}

func (k *checker) regex(path, expr string) {
	if k.failed(path) {
		return
	}
	_, err := regexp.Compile(expr)
	if err == nil {
		return
	}
	se, ok := errors.AsType[*syntax.Error](err)
	if !ok || k.show(path, "") == mask {
		k.fault(path, k.suggest(path, "correct the expression"), "this is not a regular expression of RE2")
		return
	}
	fix := "correct the expression"
	if se.Code == syntax.ErrInvalidPerlOp || se.Code == syntax.ErrInvalidEscape {
		fix = "RE2 has no lookaround and no backreferences; say it without them, or with several conditions"
	}
	f := k.fault(path, fix, "this is not a regular expression of RE2: %s: %q", se.Code, abridge(se.Expr))
	if i := strings.Index(expr, se.Expr); se.Expr != "" && strings.Count(expr, se.Expr) == 1 {
		k.narrow(f, path, expr, i, len(se.Expr))
	}
}

// headerToken is a field name of RFC 9110, section 5.1.
var headerToken = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

const tokenRule = "write letters, digits and -"

// passed checks the names of headers that are to pass between HTTP and metadata.
func (k *checker) passed(path string, headers []string) {
	seen := map[string]bool{}
	for i, h := range headers {
		at := item(path, i)
		if k.failed(at) {
			continue
		}
		lower := strings.ToLower(h)
		switch {
		case strings.HasPrefix(h, ":"):
			k.fault(at, "remove it", "%s is a pseudo header of HTTP/2, which never passes", k.show(at, h))
		case !headerToken.MatchString(h):
			k.fault(at, tokenRule, "%s is not the name of a header", k.show(at, h))
		case seen[lower]:
			k.fault(at, "keep it once", "%s is listed twice", k.show(at, h))
		default:
			if why := neverPasses(lower); why != "" {
				k.fault(at, "remove it", "%s never passes: %s", k.show(at, h), why)
			}
		}
		seen[lower] = true
	}
}

// neverPasses says why a header stays at the edge, or "".
func neverPasses(header string) string {
	switch header {
	case "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
		"transfer-encoding", "upgrade": // RFC 9110 section 7.6.1, RFC 9113 section 8.2.2
		return "it is about one connection only"
	case "host", "content-length", "content-type", "content-encoding", "content-language", "content-location", "content-range",
		"content-md5", "range", "expect", "accept", "accept-encoding", "accept-charset", "priority", "http2-settings":
		return "it is about the message as it was sent, which is translated"
	case "x-request-timeout":
		return "it becomes the deadline"
	case "via", "date", "server":
		return "it is about one hop"
	}
	for _, identity := range []string{"x-consumer", "x-credential", "x-causeway"} {
		if strings.HasPrefix(strings.ReplaceAll(header, "_", "-"), identity) {
			return "only the gateway says who a caller is"
		}
	}
	switch {
	case strings.HasPrefix(header, "grpc-metadata-"):
		return "it is sent as " + strings.TrimPrefix(header, "grpc-metadata-") + " without being listed"
	case strings.HasPrefix(header, "grpc-"), strings.HasPrefix(header, "connect-"), strings.HasPrefix(header, "proxy-"):
		return "it belongs to the protocol, which is translated"
	}
	return ""
}
