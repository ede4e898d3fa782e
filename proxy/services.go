package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/breaker"
	"github.com/causeway-gateway/causeway/proxy/certs"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/proxy/upstream"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// service is one upstream with what it was made of.
type service struct {
	name    string
	digest  string // of the configuration that the upstream depends on
	up      *upstream.Service
	schema  *loaded
	serves  []string
	plans   map[*schema.Method]any // what the adapter made of the methods; nil: it makes nothing
	spells  bool                   // its protocol has names and values of any text as metadata
	hash    *hashing               // nil: calls have no key
	subsets []string
	retry   *configv1.Retry
	retried *retryCounts // of calls of this service, whichever route they came by
}

// services makes the services, or takes over the upstreams of those that are unchanged.
func (b *builder) services() {
	for i, conf := range b.doc.Config.GetServices() {
		path := fmt.Sprintf("services[%d]", i)
		sv := &service{name: conf.GetName(), digest: b.upstreamDigest(conf), schema: b.snap.schemas[conf.GetSchema()], serves: conf.GetServes(), retry: conf.GetRetry(), retried: b.retries(conf.GetName())}
		if sv.schema != nil && len(sv.schema.schema.Services()) > 0 {
			for j, name := range sv.serves {
				if _, ok := sv.schema.schema.Service(name); !ok {
					b.fault(fmt.Sprintf("%s.serves[%d]", path, j), "schema %q has no service %q%s", sv.schema.name, name, schema.DidYouMean(name, serviceNames(sv.schema.schema)))
				}
			}
		}
		for _, s := range conf.GetBalancer().GetSubsets() {
			sv.subsets = append(sv.subsets, s.GetName())
		}
		var err error
		var part string
		if sv.hash, part, err = newHashing(conf.GetBalancer().GetHash()); err != nil {
			b.fault(path+".balancer.hash."+part, "%s", err)
		} else if sv.hash != nil {
			b.keyed(path+".balancer.hash.expression", sv)
		}
		var former *upstream.Service
		if b.prev != nil {
			if old := b.prev.services[sv.name]; old != nil {
				if former = old.up; old.digest == sv.digest {
					sv.up = old.up
				}
			}
		}
		adapter, options, ok := b.adapter(path, conf)
		if !ok {
			continue
		}
		sv.spells = rpcadapters.Spells(adapter.Name())
		b.bind(path, sv, adapter, options)
		if sv.up == nil {
			up, ok := b.dial(path, conf, adapter, options, former)
			if !ok {
				continue
			}
			b.made = append(b.made, up.Close)
			sv.up = up
		}
		b.snap.services[sv.name] = sv
	}
}

// adapter finds what a service's protocol is spoken by, with the options that it has.
func (b *builder) adapter(path string, conf *configv1.Service) (rpcadapters.Adapter, proto.Message, bool) {
	i := slices.IndexFunc(b.std.Adapters, func(a rpcadapters.Adapter) bool { return a.Name() == conf.GetAdapter() })
	if i < 0 {
		b.fault(path, "service %q: there is no adapter %q", conf.GetName(), conf.GetAdapter())
		return nil, nil, false
	}
	options, err := settings(b.std.Adapters[i], conf.GetOptions())
	if err != nil {
		b.fault(path+".options", "%s", err)
		return nil, nil, false
	}
	return b.std.Adapters[i], options, true
}

// bind has the adapter prepare the methods that the service serves.
func (b *builder) bind(path string, sv *service, adapter rpcadapters.Adapter, options proto.Message) {
	binder, ok := adapter.(rpcadapters.Binder)
	if !ok || sv.schema == nil {
		return
	}
	sv.plans = map[*schema.Method]any{}
	told := map[string]bool{}
	for _, m := range sv.methods("*") {
		plan, err := binder.Bind(m, options)
		if err == nil {
			sv.plans[m] = plan
			continue
		}
		// What is wrong with the options is wrong for every method.
		if at, text, ok := strings.Cut(err.Error(), ": "); ok && isOption(options, strings.TrimPrefix(at, "options.")) {
			if !told[err.Error()] {
				b.fault(path+".options."+strings.TrimPrefix(at, "options."), "%s", text)
			}
			told[err.Error()] = true
			continue
		}
		b.fault(path, "service %q: %s: %s", sv.name, m.Name[1:], err).
			WithFix("mend it in the schema or under `options`, or list under `serves` what can be called")
	}
}

// isOption tells whether a path, "errors[0].code", begins with a key of the options.
func isOption(options proto.Message, path string) bool {
	if options == nil {
		return false
	}
	name := path
	if i := strings.IndexAny(path, ".["); i >= 0 {
		name = path[:i]
	}
	return options.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name)) != nil
}

// upstreamDigest tells whether two configurations of a service mean the same connections, registries and judgement: the
// authorities trusted are part of it.
func (b *builder) upstreamDigest(conf *configv1.Service) string {
	c := proto.CloneOf(conf)
	c.Schema, c.Serves, c.Plugins = "", nil, nil
	c.Retry = &configv1.Retry{Budget: conf.GetRetry().Budget}
	if c.GetBalancer() != nil {
		c.Balancer.Hash = nil
	}
	h := sha256.New()
	add := func(m proto.Message) {
		raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m) // strings that were read as UTF-8
		h.Write(raw)
	}
	add(c)
	add(b.doc.Config.GetLocality())
	for _, d := range conf.GetDiscovery() {
		if r := b.snap.registries[d.GetRegistry()]; r != nil {
			h.Write([]byte(r.digest))
		}
	}
	return hex.EncodeToString(h.Sum(nil)) + certs.Fingerprint(conf.GetTls().GetCaFile())
}

// dial makes the upstream of a service; former is that of its former configuration, nil: it had none.
func (b *builder) dial(path string, conf *configv1.Service, adapter rpcadapters.Adapter, options proto.Message, former *upstream.Service) (*upstream.Service, bool) {
	faults := len(b.faults)
	for i, e := range conf.GetEndpoints() {
		if _, err := clientTLS(conf.GetTls(), e.GetAddress(), b.log); err != nil {
			b.fault(path, "service %q: %s", conf.GetName(), err)
			break // of each endpoint the same, most likely
		} else if i > 0 {
			break
		}
	}
	c := upstream.Config{
		Name:      conf.GetName(),
		Sources:   b.sources(path, conf),
		Balancer:  b.balancing(conf.GetBalancer()),
		Priority:  priorities(conf),
		SlowStart: conf.GetBalancer().GetSlowStart().AsDuration(),
		Pool:      b.probers,
		Outliers:  judging(conf.GetOutliers()),
		Breaker:   breaking(conf.GetBreaker()),
		Budget:    conf.GetRetry().GetBudget(),
		Log:       b.log,
	}
	if c.Budget == 0 {
		c.Budget = -1 // none at all
	}
	if len(conf.GetDiscovery()) > 0 {
		c.Shelf = b.shelf
	}
	log := b.log // alone: the builder has the former snapshot, which would live as long as this service
	secure := func(ep registry.Endpoint) (*tls.Config, error) {
		t := conf.GetTls()
		if t == nil && ep.TLS {
			t = &configv1.ClientTLS{}
		}
		return clientTLS(t, ep.Address, log)
	}
	c.Dial = func(ep registry.Endpoint) (rpcadapters.Transport, error) {
		tlsConfig, err := secure(ep)
		if err != nil {
			return nil, err
		}
		return adapter.Dial(rpcadapters.Target{
			Address:     ep.Address,
			TLS:         tlsConfig,
			DialTimeout: conf.GetDialTimeout().AsDuration(),
			MaxMessage:  int(conf.GetMaxMessage()),
			Service:     conf.GetName(),
			Config:      options,
			Discovered:  len(conf.GetDiscovery()) > 0,
		})
	}
	c.Health = b.healthCheck(path+".health_check", conf, c.Dial, secure)
	if conf.GetHealthCheck().GetAdapter() != nil && !asks(adapter, conf, options) {
		b.fault(path+".health_check.adapter", "%s has nothing to ask instances by", conf.GetAdapter()).WithFix("write grpc: {}, http: {path: /healthz} or tcp: {}")
	}
	c.Implied = &upstream.Check{
		Key:  "tcp",
		Dial: func(ep registry.Endpoint) (health.Prober, error) { return health.TCP(ep.Address, nil) },
	}
	if len(b.faults) > faults {
		return nil, false
	}
	return upstream.New(c, former), true
}

// asks tells whether the transports of an adapter can ask their instance whether it is well. Dialling does not connect.
func asks(adapter rpcadapters.Adapter, conf *configv1.Service, options proto.Message) bool {
	t, err := adapter.Dial(rpcadapters.Target{Address: "127.0.0.1:1", Service: conf.GetName(), Config: options})
	if err != nil {
		return true // it is told elsewhere
	}
	defer func() { _ = t.Close() }() // it was not used
	_, ok := t.(rpcadapters.Prober)
	return ok
}

// sources are what knows the instances of a service, in the order in which they are believed.
func (b *builder) sources(path string, conf *configv1.Service) []upstream.Source {
	var out []upstream.Source
	if len(conf.GetEndpoints()) > 0 {
		var given []registry.Endpoint
		for _, e := range conf.GetEndpoints() {
			ep := registry.Endpoint{Address: e.GetAddress(), Weight: e.GetWeight(), Zone: e.GetZone(), Meta: e.GetMetadata()}
			if e.GetRegion() != "" {
				ep.Meta = map[string]string{"region": e.GetRegion()}
				maps.Copy(ep.Meta, e.GetMetadata())
			}
			given = append(given, ep)
		}
		r, err := b.std.Static(conf.GetName(), given...)
		if err != nil {
			b.fault(path+".endpoints", "%s", err)
			return nil
		}
		out = append(out, upstream.Source{Name: "endpoints", Key: conf.GetName(), Resolver: r, Static: true})
	}
	for i, d := range conf.GetDiscovery() {
		at := fmt.Sprintf("%s.discovery[%d]", path, i)
		in := b.snap.registries[d.GetRegistry()]
		if in == nil {
			continue // told already
		}
		r, err := in.Resolver(d)
		if err != nil {
			b.fault(at, "%s", err)
			continue
		}
		name := d.GetRegistry()
		if l := d.GetLayout(); l != "" && l != "native" {
			name += "/" + l
		}
		name += d.GetRoot() + d.GetGeneric().GetPath()                 // one service may be at several
		how, _ := proto.MarshalOptions{Deterministic: true}.Marshal(d) // strings that were read as UTF-8
		out = append(out, upstream.Source{
			Name: name, Key: d.GetService(), Resolver: r, Origin: in.digest + string(how),
			Guard: !d.GetUnguarded(), Beats: d.GetBeats().AsDuration(), Protocols: d.GetProtocols(),
		})
	}
	return out
}

// policies are the balancers' by name.
var policies = map[string]balancer.Policy{
	"round_robin": balancer.RoundRobin, "random": balancer.Random, "least_request": balancer.LeastRequest,
	"peak_ewma": balancer.PeakEWMA, "ring_hash": balancer.RingHash, "maglev": balancer.Maglev,
}

func (b *builder) balancing(conf *configv1.Balancer) balancer.Config {
	c := balancer.Config{
		Policy:        policies[conf.GetPolicy()],
		Region:        b.doc.Config.GetLocality().GetRegion(),
		Zone:          b.doc.Config.GetLocality().GetZone(),
		ZoneFirst:     conf.GetZoneFirst(),
		Overprovision: conf.GetOverprovision(),
		Panic:         conf.GetPanic(),
	}
	if c.Panic == 0 {
		c.Panic = -1 // never
	}
	for _, s := range conf.GetSubsets() {
		c.Subsets = append(c.Subsets, balancer.Subset{Name: s.GetName(), Match: s.GetMatch(), Weight: s.GetWeight()})
	}
	return c
}

// priorities gives an instance's priority: that of its endpoint, or of its region. nil: all have the same.
func priorities(conf *configv1.Service) func(registry.Endpoint) uint32 {
	given := map[string]uint32{}
	for _, e := range conf.GetEndpoints() {
		if e.GetPriority() > 0 {
			given[e.GetAddress()] = e.GetPriority()
		}
	}
	regions := conf.GetBalancer().GetRegionPriorities()
	if len(given) == 0 && len(regions) == 0 {
		return nil
	}
	last := uint32(0)
	for _, p := range regions {
		last = max(last, p)
	}
	return func(ep registry.Endpoint) uint32 {
		if p, ok := given[ep.Address]; ok {
			return p
		}
		if len(regions) == 0 {
			return 0
		}
		if p, ok := regions[ep.Meta["region"]]; ok {
			return p
		}
		return last + 1
	}
}

// healthCheck is how instances are asked whether they are well; nil: they are not. A check that could never pass is a fault.
func (b *builder) healthCheck(path string, conf *configv1.Service, dial func(registry.Endpoint) (rpcadapters.Transport, error), secure func(registry.Endpoint) (*tls.Config, error)) *upstream.Check {
	h := conf.GetHealthCheck()
	if h == nil {
		return nil
	}
	// Two services share the prober of an address where these are the same.
	raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(h)               // strings that were read as UTF-8
	trust, _ := proto.MarshalOptions{Deterministic: true}.Marshal(conf.GetTls()) // as well
	c := &upstream.Check{
		Key: string(raw) + "\x00" + string(trust) + certs.Fingerprint(conf.GetTls().GetCaFile()),
		Own: h.GetHttp().GetPort() == 0,
		Timing: health.Timing{
			Interval: h.GetInterval().AsDuration(), Timeout: h.GetTimeout().AsDuration(),
			Unhealthy: int(h.GetUnhealthy()), Healthy: int(h.GetHealthy()),
		},
	}
	switch kind := h.GetKind().(type) {
	case *configv1.HealthCheck_Grpc:
		c.Dial = func(ep registry.Endpoint) (health.Prober, error) {
			t, err := secure(ep)
			if err != nil {
				return nil, err
			}
			return health.GRPC(ep.Address, health.GRPCCheck{Service: kind.Grpc.GetService(), Unimplemented: kind.Grpc.GetUnimplemented()}, t)
		}
	case *configv1.HealthCheck_Http:
		ask := health.HTTPCheck{
			Path: kind.Http.GetPath(), Host: kind.Http.GetHost(), Statuses: statusRanges(kind.Http.GetStatuses()),
			Contains: kind.Http.GetContains(),
		}
		if err := ask.Fault(); err != nil {
			b.fault(path+".http", "%s", strings.TrimPrefix(err.Error(), "health: "))
		}
		c.Dial = func(ep registry.Endpoint) (health.Prober, error) {
			var t *tls.Config
			if kind.Http.GetTls() {
				var err error
				if t, err = secure(registry.Endpoint{Address: ep.Address, TLS: true}); err != nil {
					return nil, err
				}
			}
			return health.HTTP(onPort(ep.Address, kind.Http.GetPort()), ask, t)
		}
	case *configv1.HealthCheck_Tcp:
		c.Dial = func(ep registry.Endpoint) (health.Prober, error) {
			t, err := secure(ep)
			if err != nil {
				return nil, err
			}
			return health.TCP(ep.Address, t)
		}
	case *configv1.HealthCheck_Adapter:
		c.Key += "\x00" + conf.GetName() + "\x00" + conf.GetAdapter() // its connection is the service's
		c.Dial = func(ep registry.Endpoint) (health.Prober, error) {
			t, err := dial(ep)
			if err != nil {
				return nil, err
			}
			p, ok := t.(rpcadapters.Prober)
			if !ok {
				_ = t.Close() // it was not used
				return nil, fmt.Errorf("%s has nothing to ask instances by", conf.GetAdapter())
			}
			return health.Func(p.Probe, func() { _ = t.Close() }), nil // nobody to tell
		}
		// Whether the adapter's transports can be asked shows in one of them. It connects to nobody, for nobody calls.
		if t, err := dial(registry.Endpoint{Address: "127.0.0.1:1"}); err == nil {
			if _, ok := t.(rpcadapters.Prober); !ok {
				b.fault(path+".adapter", "%s has nothing to ask instances by", conf.GetAdapter()).
					WithFix("write another check: grpc: {}, http: {path: /healthz}, tcp: {}")
			}
			_ = t.Close() // it was not used
		}
	}
	return c
}

// onPort is an address with another port; 0: its own.
func onPort(address string, port uint32) string {
	i := strings.LastIndexByte(address, ':')
	if port == 0 || i < 0 {
		return address
	}
	return address[:i+1] + strconv.FormatUint(uint64(port), 10)
}

// statusRanges reads what was checked: "200", "200-399".
func statusRanges(texts []string) []health.StatusRange {
	out := make([]health.StatusRange, 0, len(texts))
	for _, s := range texts {
		low, high, ok := strings.Cut(s, "-")
		if !ok {
			high = low
		}
		l, err1 := strconv.Atoi(low)
		h, err2 := strconv.Atoi(high)
		if err1 == nil && err2 == nil {
			out = append(out, health.StatusRange{From: l, To: h})
		}
	}
	return out
}

func judging(conf *configv1.Outliers) *outlier.Config {
	if conf.GetOff() {
		return nil
	}
	return &outlier.Config{
		Consecutive: int(conf.GetConsecutive()), Unreached: 1, Interval: conf.GetInterval().AsDuration(),
		FailureRate: conf.GetFailureRate(), MinCalls: int(conf.GetMinCalls()),
		LatencyFactor: conf.GetLatencyFactor(), MinLatency: minLatency,
		Base: conf.GetBase().AsDuration(), Max: conf.GetMax().AsDuration(), Most: max(conf.GetMost(), math.SmallestNonzeroFloat64), MostUnreached: 1,
	}
}

// minLatency is below what no instance is slow.
const minLatency = 50 * time.Millisecond

func breaking(conf *configv1.Breaker) *breaker.Config {
	if conf == nil {
		return nil
	}
	return &breaker.Config{
		MaxCalls: int64(conf.GetMaxCalls()), MaxPending: int64(conf.GetMaxPending()), PendingTimeout: conf.GetPendingTimeout().AsDuration(),
		FailureRate: conf.GetFailureRate(), MinCalls: int(min(conf.GetMinCalls(), math.MaxInt32)),
		Window: conf.GetWindow().AsDuration(), Open: conf.GetOpen().AsDuration(), Trials: breakerTrials,
	}
}

// breakerTrials is how many calls are let through to find out whether a service is well again.
const breakerTrials = 3
