package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/builtin"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/proxy/upstream"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// builder makes one snapshot. It gathers every fault before it gives up.
type builder struct {
	std        *Standard
	doc        *config.Document
	prev       *Snapshot // nil the first time
	env        plugin.Env
	store      *source.Store
	candidates map[string]*source.Set // pushed schemas under check
	panics     counter
	budget     *rpc.Budget
	streams    *streams
	current    func() builtin.Catalog // what is served
	states     *states
	fetching   func(first plugin.Fetcher, revision int64) plugin.Fetcher
	lend       func(store string) plugin.Store
	exports    *telemetry.Exports
	probers    *health.Pool
	shelf      upstream.Shelf
	retries    func(service string) *retryCounts
	version    string
	log        *slog.Logger

	collects       string           // not "": a collector takes logs
	equal          map[string]int   // plugins alike in one scope, so far
	misplaced      map[*member]bool // those whose place was found fault with already
	bared          map[*member]bool // those found to refuse what does not come by HTTP
	evaluated      []*evaluated
	ofConsumers    []*member
	servicePlugins map[string][]*member
	asserted       []string // headers by which plugins of consumers tell what they found

	snap   *Snapshot
	faults config.Faults
	made   []func() // undo what was started, when the snapshot is refused
}

// build makes the snapshot, or returns all faults at once, each with its position. A refused snapshot leaves nothing
// behind.
func (b *builder) build(ctx context.Context) (_ *Snapshot, err error) {
	defer func() {
		if r := recover(); r != nil { // of a plugin, most likely: what is in force serves on
			b.panics.Add(1)
			b.log.Error("panic while a configuration was built", "panic", r, "stack", string(debug.Stack()))
			b.undo()
			err = fmt.Errorf("the configuration cannot be built: panic: %v", r)
		}
	}()
	b.snap = &Snapshot{
		Revision: 1,
		Built:    time.Now(),
		Doc:      b.doc,
		schemas:  map[string]*loaded{},
		services: map[string]*service{},
		plugins:  map[string]*instance{},

		consumers: map[string]*consumer{},
		stores:    map[string]*openStore{},

		registries: map[string]*openRegistry{},
		inlets:     map[string]*inletTable{},
	}
	if b.prev != nil {
		b.snap.Revision = b.prev.Revision + 1
	}
	b.listeners()
	b.schemas(ctx)
	b.registries()
	b.services()
	b.stores()
	b.telemetry()
	b.consumers()
	b.fetcher()
	b.consumerChains()
	for _, n := range b.doc.Config.GetTrustedProxies() {
		if p, err := config.Network(n); err == nil { // it was checked
			b.snap.trusted = append(b.snap.trusted, p)
		}
	}
	global := b.pluginsOf("plugins", globalScope, b.doc.Config.GetPlugins())
	b.snap.nobody = b.bareRoute(global)
	b.servicePlugins = map[string][]*member{}
	for i, conf := range b.doc.Config.GetServices() {
		b.servicePlugins[conf.GetName()] = b.pluginsOf(fmt.Sprintf("services[%d].plugins", i), "service "+conf.GetName(), conf.GetPlugins())
	}
	b.snap.lenient = b.doc.Config.GetDefaults().GetRest().GetCompatibility() == configv1.Compatibility_COMPATIBILITY_GRPC_GATEWAY
	b.routes(global)
	b.judge()
	b.strangers()
	b.idle()
	if len(b.faults) > 0 {
		b.undo()
		return nil, b.faults
	}
	return b.snap, nil
}

// undo ends what was started, the last first: it may use what was there before.
func (b *builder) undo() {
	for _, undo := range slices.Backward(b.made) {
		undo()
	}
}

func (b *builder) fault(path, format string, args ...any) *config.Fault {
	f := b.doc.Fault(path, format, args...)
	b.faults = append(b.faults, f)
	return f
}

// listeners checks what can be without binding.
func (b *builder) listeners() {
	for i, conf := range b.doc.Config.GetListen() {
		if conf.GetTls() == nil {
			continue
		}
		if _, _, err := serverTLS(conf.GetTls(), b.log); err != nil {
			b.fault(fmt.Sprintf("listen[%d].tls", i), "%s", err).WithFix("name PEM files with a certificate and the key that belongs to it")
		}
	}
}

func (b *builder) schemas(ctx context.Context) {
	for i, conf := range b.doc.Config.GetSchemas() {
		var former *loaded
		if b.prev != nil {
			former = b.prev.schemas[conf.GetName()]
		}
		l, err := b.loadSchema(ctx, conf, former)
		if err != nil {
			b.faults = append(b.faults, schemaFault(b.doc, i, conf, err))
			continue
		}
		l.outside = b.outsideRules(fmt.Sprintf("schemas[%d]", i), conf.GetHttpRules(), l)
		b.snap.schemas[conf.GetName()] = l
	}
}

// newRoute makes a route to a service for methods, with its chain. conf is when its calls are tried again, nil: as the service
// says; subset is that of the service, "": none.
func (b *builder) newRoute(sv *service, subset string, conf *configv1.Retry, methods []*schema.Method, members []*member) *route {
	r := &route{service: sv}
	r.Service = sv.name
	if conf == nil {
		conf = sv.retry
	}
	r.retries = newRetries(conf)
	others := b.directed(members, methods)
	b.suits(slices.Concat(members, b.ofConsumers), methods, false)
	b.newChain(r, members, &forward{
		service: sv, subset: slices.Index(sv.subsets, subset), others: others, retries: r.retries,
		options: &r.Options, streams: b.streams, panics: b.panics,
	})
	return r
}

// bareRoute is what requests without a route pass.
func (b *builder) bareRoute(global []*member) *route {
	r := &route{}
	b.newChain(r, global, nobody{})
	return r
}

// defaultPriority is below that of every configured route.
const defaultPriority = math.MinInt64

func (b *builder) routes(global []*member) {
	r := router{b: b, levels: map[int64]*level{}, named: map[int64]*level{}}
	selected := map[*schema.Method]bool{}
	for i, conf := range b.doc.Config.GetRoutes() {
		at := fmt.Sprintf("routes[%d]", i)
		sv := b.snap.services[conf.GetService()]
		own := b.pluginsOf(at+".plugins", "route "+conf.GetName(), conf.GetPlugins())
		if sv == nil || sv.schema == nil {
			if sv != nil {
				b.fault(at+".service", "service %q has no schema, so it has no methods to route to", sv.name)
			}
			continue
		}
		var methods []*schema.Method
		for _, glob := range conf.GetMethods() {
			methods = append(methods, sv.methods(glob)...)
		}
		if m, ok := sv.schema.schema.Method("/" + conf.GetHttp().GetMethod()); ok {
			methods = append(methods, m)
		}
		rt := b.newRoute(sv, conf.GetSubset(), conf.GetRetry(), methods, slices.Concat(global, b.servicePlugins[sv.name], own))
		rt.path = at
		rt.Route = conf.GetName()
		rt.Timeout = conf.GetTimeout().AsDuration()
		rt.StreamIdle, rt.StreamAge = conf.GetStream().GetIdleTimeout().AsDuration(), conf.GetStream().GetMaxAge().AsDuration()
		rt.MaxBody = int(conf.GetMaxBody())
		rt.Request, rt.Response = lower(conf.GetRequestHeaders()), lower(conf.GetResponseHeaders())
		b.reading(rt, conf.GetJson(), conf.GetRest())
		rt.priority = int64(conf.GetPriority())
		rt.hosts = lower(conf.GetHosts())
		rt.conditions = b.conditions(at, conf.GetHeaders())
		if conf.GetHttp() != nil {
			for i, binding := range b.ownRule(rt, conf.GetHttp()) {
				selected[binding.Method] = true
				r.add(rt, binding)
				if i == 0 {
					r.addNamed(rt, binding.Method, true)
				}
			}
			continue
		}
		for j, glob := range conf.GetMethods() {
			methods := sv.methods(glob)
			if len(methods) == 0 && len(sv.schema.schema.Services()) > 0 {
				b.fault(fmt.Sprintf("%s.methods[%d]", at, j), "%q selects no method that service %q serves%s", glob, sv.name, schema.DidYouMean(glob, methodNames(sv.methods("*"))))
			}
			for _, m := range methods {
				selected[m] = true
				r.addNamed(rt, m, false)
				for _, binding := range b.bindings(rt, m) {
					r.add(rt, binding)
				}
			}
		}
	}
	b.builtin(&r, global)
	for i, conf := range b.doc.Config.GetServices() {
		sv := b.snap.services[conf.GetName()]
		if sv == nil || sv.schema == nil {
			continue
		}
		methods := slices.DeleteFunc(sv.methods("*"), func(m *schema.Method) bool { return selected[m] })
		if b.doc.Config.GetDefaults().GetRoutedOnly() {
			methods = nil
		}
		rt := b.newRoute(sv, "", nil, methods, slices.Concat(global, b.servicePlugins[sv.name]))
		rt.path = fmt.Sprintf("services[%d]", i)
		all := b.doc.Config.GetDefaults()
		rt.Route, rt.Timeout, rt.MaxBody = sv.name, all.GetTimeout().AsDuration(), int(all.GetMaxBody())
		rt.StreamIdle, rt.StreamAge = all.GetStream().GetIdleTimeout().AsDuration(), all.GetStream().GetMaxAge().AsDuration()
		rt.Request, rt.Response = lower(all.GetRequestHeaders()), lower(all.GetResponseHeaders())
		b.reading(rt, all.GetJson(), all.GetRest())
		rt.priority = defaultPriority
		for _, m := range methods {
			r.addNamed(rt, m, false)
			for _, binding := range b.bindings(rt, m) {
				r.add(rt, binding)
			}
		}
	}
	r.place()
	b.inlets(r.names)
}

// methods are those that the service serves and glob selects, in the schema's order.
func (sv *service) methods(glob string) []*schema.Method {
	var out []*schema.Method
	for _, s := range sv.schema.schema.Services() {
		if len(sv.serves) > 0 && !slices.Contains(sv.serves, s.Name) {
			continue
		}
		for _, m := range s.Methods {
			if globMatch(glob, m.Name[1:]) {
				out = append(out, m)
			}
		}
	}
	return out
}

// globMatch matches name against a pattern in which * stands for any run of characters.
func globMatch(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	if !strings.HasPrefix(name, parts[0]) {
		return false
	}
	name = name[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(name, p)
		if i < 0 {
			return false
		}
		name = name[i+len(p):]
	}
	return strings.HasSuffix(name, parts[len(parts)-1])
}

func (b *builder) conditions(at string, confs []*configv1.HeaderCondition) []condition {
	var out []condition
	for i, conf := range confs {
		c := condition{name: strings.ToLower(conf.GetName())}
		switch v := conf.GetCondition().(type) {
		case *configv1.HeaderCondition_Exact:
			c.kind, c.value = isExactly, v.Exact
		case *configv1.HeaderCondition_Prefix:
			c.kind, c.value = hasPrefix, v.Prefix
		case *configv1.HeaderCondition_Regex:
			re, err := regexp.Compile("^(?:" + v.Regex + ")$")
			if err != nil {
				b.fault(fmt.Sprintf("%s.headers[%d].regex", at, i), "%s", err)
				continue
			}
			c.kind, c.value, c.regexp = fitsRegexp, v.Regex, re
		case *configv1.HeaderCondition_Present:
			c.kind = isAbsent
			if v.Present {
				c.kind = isPresent
			}
		}
		out = append(out, c)
	}
	return out
}

// reading sets how a route's requests are read and its answers written.
func (b *builder) reading(rt *route, json *configv1.JSONOptions, rest *configv1.RESTOptions) {
	rt.Budget = b.budget
	rt.JSON = &jsonwire.Options{
		EmitUnpopulated: json.GetEmitUnpopulated(),
		ProtoNames:      json.GetProtoNames(),
		EnumNumbers:     json.GetEnumNumbers(),
		Int64Numbers:    json.GetInt64Numbers(),
		IgnoreUnknown:   json.GetIgnoreUnknown(),
		BytesAsArray:    json.GetBytesAsArray(),
	}
	rt.REST = rpcadapters.REST{
		Override:    rest.GetPathConflict() == configv1.PathConflict_PATH_CONFLICT_OVERRIDE,
		Capture:     rest.GetCaptureQuery(),
		GRPCGateway: rest.GetCompatibility() == configv1.Compatibility_COMPATIBILITY_GRPC_GATEWAY,
		Origins:     lower(rest.GetWebsocketOrigins()),
	}
	switch rest.GetUnknownQuery() {
	case configv1.UnknownQuery_UNKNOWN_QUERY_IGNORE:
		rt.REST.Unknown = jsonwire.IgnoreUnknown
	case configv1.UnknownQuery_UNKNOWN_QUERY_CAPTURE:
		rt.REST.Unknown = jsonwire.CaptureUnknown
	case configv1.UnknownQuery_UNKNOWN_QUERY_REFUSE, configv1.UnknownQuery_UNKNOWN_QUERY_UNSPECIFIED:
	}
	if rest.GetCompatibility() == configv1.Compatibility_COMPATIBILITY_TARS {
		o := rt.JSON
		o.EmitUnpopulated, o.EnumNumbers, o.Int64Numbers, o.BytesAsArray, o.TarsReturn, o.IgnoreUnknown = true, true, true, true, true, true
	}
	if rt.REST.GRPCGateway {
		rt.JSON.EmitUnpopulated, rt.JSON.EmitNull, rt.JSON.IgnoreUnknown = true, true, true
		if rt.REST.Unknown == jsonwire.RefuseUnknown {
			rt.REST.Unknown = jsonwire.IgnoreUnknown
		}
	}
	stubs := *rt.JSON
	stubs.Protobuf, stubs.BytesAsArray, stubs.TarsReturn = true, false, false
	rt.Stubs = &stubs
}

func lower(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToLower(n)
	}
	return out
}

func serviceNames(s *schema.Schema) []string {
	var names []string
	for _, sv := range s.Services() {
		names = append(names, sv.Name)
	}
	return names
}

func methodNames(ms []*schema.Method) []string {
	names := make([]string, len(ms))
	for i, m := range ms {
		names[i] = m.Name[1:]
	}
	return names
}
