package config

import (
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

const (
	maxWeight   = 10_000
	maxPriority = 100
	maxSession  = 5 * time.Minute
	maxAttempts = 10
	minInterval = 100 * time.Millisecond // of what asks others again and again
)

// zkPath is an absolute path of ZooKeeper without a slash at its end.
var zkPath = regexp.MustCompile(`^(/[^/\x00-\x1f\x7f]+)+$`)

func (k *checker) registry(path string, r *configv1.Registry) {
	if k.failed(path) {
		return
	}
	switch kind := r.GetKind().(type) {
	case nil:
		if !k.anyFailed(path, "zookeeper", "dns", "tars") {
			k.fault(path, `add one of: zookeeper: {servers: ["127.0.0.1:2181"]}, dns: {}, tars: {locator: "`+exampleLocator+`"}`, "no kind of registry")
		}
	case *configv1.Registry_Zookeeper:
		k.kinds[r.GetName()] = "zookeeper"
		k.zookeeper(path+".zookeeper", kind.Zookeeper)
	case *configv1.Registry_Dns:
		k.kinds[r.GetName()] = "dns"
		at := path + ".dns"
		if kind.Dns.GetServer() != "" {
			k.address(at+".server", kind.Dns.GetServer(), dialing)
		}
		k.interval(at+".interval", kind.Dns.GetInterval())
	case *configv1.Registry_Tars:
		k.kinds[r.GetName()] = "tars"
		at := path + ".tars"
		if kind.Tars.GetLocator() == "" && !k.anyFailed(at, "locator") && !k.failed(at) {
			k.missing(at, "locator", `write the servant that is asked, and where it is: "`+exampleLocator+`"`)
		}
		k.interval(at+".interval", kind.Tars.GetInterval())
		k.networks(at+".allow", kind.Tars.GetAllow())
		k.clientTLS(at+".tls", kind.Tars.GetTls())
	}
}

const exampleLocator = "tars.tarsregistry.QueryObj@tcp -h 127.0.0.1 -p 17890"

func (k *checker) zookeeper(path string, z *configv1.ZooKeeper) {
	if k.failed(path) {
		return
	}
	if len(z.GetServers()) == 0 && !k.tried(path+".servers") {
		k.missing(path, "servers", "list the host:port of every member: [\"127.0.0.1:2181\"]")
	}
	for i, s := range z.GetServers() {
		k.address(item(path+".servers", i), s, dialing)
	}
	k.zkRoot(path+".root", z.GetRoot())
	k.between(path+".session", z.GetSession(), maxSession)
	if at := path + ".auth"; z.GetAuth() != "" && !strings.Contains(z.GetAuth(), ":") && !k.failed(at) {
		k.fault(at, "write user:password", "wanted a user and a password with a colon between them")
	}
	k.clientTLS(path+".tls", z.GetTls())
	k.networks(path+".allow", z.GetAllow())
}

func (k *checker) zkRoot(path, root string) {
	if root == "" || k.failed(path) || zkPath.MatchString(root) {
		return
	}
	fix := "write a path such as /causeway"
	if near := "/" + strings.Trim(root, "/"); zkPath.MatchString(near) {
		fix = "write " + near
	}
	k.fault(path, k.suggest(path, fix), "%s is not a path of ZooKeeper", k.show(path, root))
}

// interval checks how often something is asked.
func (k *checker) interval(path string, d *durationpb.Duration) {
	switch t := d.AsDuration(); {
	case d == nil || k.failed(path):
	case t < minInterval:
		k.fault(path, "write at least "+secondsText(minInterval), "wanted at least %s, found %s", secondsText(minInterval), k.shown(path, secondsText(t)))
	case t > maxTimeout:
		k.fault(path, "write at most "+secondsText(maxTimeout), "wanted at most %s, found %s", secondsText(maxTimeout), k.shown(path, secondsText(t)))
	}
}

// layouts are those that the nodes of ZooKeeper may have.
func layouts() []string { return []string{"native", "dubbo", "curator", "kratos", "seed", "generic"} }

func (k *checker) discovery(path string, d *configv1.Discovery) {
	if k.failed(path) {
		return
	}
	if d.GetRegistry() == "" {
		k.missing(path, "registry", "name a registry: "+list(k.visible(k.lookups.list(), k.lookups)))
	} else {
		k.reference(path+".registry", "registry", d.GetRegistry(), k.lookups)
	}
	switch k.kinds[d.GetRegistry()] {
	case "dns":
		k.asked(path, "names in DNS have", d, `"orders.internal:9090", or "_grpc._tcp.orders.internal" for SRV records`)
		return
	case "tars":
		k.asked(path, "servants of TARS have", d, `a servant such as "App.Server.Obj"`)
		if s := d.GetService(); s != "" && (strings.Count(s, ".") != 2 || strings.Contains("."+s+".", "..") || strings.ContainsAny(s, "@ ")) && !k.failed(path+".service") {
			k.fault(path+".service", `write three names with dots between, such as "App.Server.Obj"`, "%s is not a servant", k.show(path+".service", s))
		}
		return
	}
	if l := d.GetLayout(); l != "" && !slices.Contains(layouts(), l) && !k.failed(path+".layout") {
		k.fault(path+".layout", "name one of: "+list(layouts()), "unknown layout %s%s", k.show(path+".layout", l), schema.DidYouMean(l, layouts()))
	}
	k.zkRoot(path+".root", d.GetRoot())
	if strings.Contains(d.GetService(), "/") && d.GetLayout() != "dubbo" && d.GetLayout() != "generic" {
		k.fault(path+".service", "write the name that instances register under", "%s has a /, which no name of a service has in ZooKeeper", k.show(path+".service", d.GetService()))
	}
	switch {
	case d.GetLayout() == "generic" && d.GetGeneric() == nil && !k.failed(path+".generic"):
		k.missing(path, "generic", "describe the nodes: generic: {path: \"/{service}\", name: \"^(?P<host>.+):(?P<port>[0-9]+)$\"}")
	case d.GetLayout() != "generic" && d.GetGeneric() != nil:
		k.fault(path+".generic", "write layout: generic, or remove it", "a description of nodes, and the layout is another")
	case d.GetGeneric() != nil:
		k.regex(path+".generic.name", d.GetGeneric().GetName())
		k.regex(path+".generic.data", d.GetGeneric().GetData())
	}
	if k.written(path+".beats") && d.GetLayout() != "" && d.GetLayout() != "native" {
		k.fault(path+".beats", "remove it", "only instances of the layout native have beats")
	} else {
		k.interval(path+".beats", d.GetBeats())
	}
}

// asked checks what is looked up in a registry whose entries are no nodes of ZooKeeper; have says so.
func (k *checker) asked(path, have string, d *configv1.Discovery, example string) {
	for _, f := range []string{"layout", "root", "generic", "beats"} {
		if k.written(path + "." + f) {
			k.fault(path+"."+f, "remove it", "%s no %s", have, f)
		}
	}
	if d.GetService() == "" {
		k.missing(path, "service", "write what is asked for: "+example)
	}
}

// policies are those that balancers can have.
func policies() []string {
	return []string{"round_robin", "random", "least_request", "peak_ewma", "ring_hash", "maglev"}
}

func (k *checker) balancer(path string, b *configv1.Balancer) {
	if b == nil || k.failed(path) {
		return
	}
	p := b.GetPolicy()
	at := path + ".policy"
	hashed := p == "ring_hash" || p == "maglev"
	switch {
	case k.failed(at):
	case p != "" && !slices.Contains(policies(), p):
		k.fault(at, "name one of: "+list(policies()), "unknown policy %s%s", k.show(at, p), schema.DidYouMean(p, policies()))
	case hashed && b.GetHash() == nil && !k.failed(path+".hash"):
		k.missing(path, "hash", "say what the same instance is met by: hash: {header: x-user}")
	case !hashed && b.GetHash() != nil:
		k.fault(path+".hash", "write policy: ring_hash or maglev, or remove it", "a key, and the policy goes by none")
	}
	k.hashKey(path+".hash", b.GetHash())
	k.between(path+".slow_start", b.GetSlowStart(), maxTimeout)
	k.share(path+".panic", b.GetPanic())
	if o := b.GetOverprovision(); o != 0 && (o < 1 || o > 10 || math.IsNaN(o)) {
		k.fault(path+".overprovision", "write 1 to 10", "wanted 1 to 10, found %s", k.shown(path+".overprovision", strconv.FormatFloat(o, 'g', -1, 64)))
	}
	k.subsetsOf(path, b.GetSubsets())
	for _, region := range slices.Sorted(maps.Keys(b.GetRegionPriorities())) {
		at := path + ".region_priorities[" + strconv.Quote(region) + "]"
		k.limit(at, int64(b.GetRegionPriorities()[region]), maxPriority)
	}
}

func (k *checker) subsetsOf(path string, subsets []*configv1.Subset) {
	seen := map[string]string{}
	for i, s := range subsets {
		at := item(path+".subsets", i)
		if k.failed(at) {
			continue
		}
		switch name := s.GetName(); {
		case name == "":
			k.missing(at, "name", nameRule)
		case !validName.MatchString(name):
			k.fault(at+".name", nameRule, "%s is not a name", k.show(at+".name", name))
		case seen[name] != "":
			k.fault(at+".name", "give each its own name", "%s is the name of %s already%s", k.show(at+".name", name), seen[name], k.where(seen[name]+".name"))
		default:
			seen[name] = at
		}
		if len(s.GetMatch()) == 0 && !k.tried(at+".match") {
			k.missing(at, "match", "say what its instances have: match: {version: v2}")
		}
		k.limit(at+".weight", int64(s.GetWeight()), maxWeight)
	}
}

func (k *checker) hashKey(path string, h *configv1.HashKey) {
	if h == nil || k.failed(path) {
		return
	}
	given := func(field, value string) {
		if value == "" && !k.failed(path+"."+field) {
			k.fault(path+"."+field, "write its name", "wanted a name, found an empty one")
		}
	}
	chosen := func(field string, is bool) {
		if !is && !k.failed(path+"."+field) {
			k.fault(path+"."+field, "write true, or another key", "wanted true, found false")
		}
	}
	switch b := h.GetBy().(type) {
	case nil:
		if !k.anyFailed(path, "header", "cookie", "consumer", "variable", "expression", "address") {
			k.fault(path, "add one of: header, cookie, consumer, variable, expression, address", "no key")
		}
	case *configv1.HashKey_Header:
		given("header", b.Header)
	case *configv1.HashKey_Cookie:
		given("cookie", b.Cookie)
	case *configv1.HashKey_Variable:
		given("variable", b.Variable)
	case *configv1.HashKey_Expression:
		given("expression", b.Expression)
	case *configv1.HashKey_Consumer:
		chosen("consumer", b.Consumer)
	case *configv1.HashKey_Address:
		chosen("address", b.Address)
	}
}

// share checks a number from 0 to 1.
func (k *checker) share(path string, s float64) {
	if !(s >= 0 && s <= 1) && !k.failed(path) { // also NaN
		k.fault(path, "write a share such as 0.5", "wanted 0 to 1, found %s", k.shown(path, strconv.FormatFloat(s, 'g', -1, 64)))
	}
}

// statuses is a status of HTTP, or a range of them.
var statuses = regexp.MustCompile(`^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$`)

func (k *checker) healthCheck(path string, h *configv1.HealthCheck) {
	if h == nil || k.failed(path) {
		return
	}
	switch c := h.GetKind().(type) {
	case nil:
		if !k.anyFailed(path, "grpc", "http", "tcp", "adapter") {
			k.fault(path, "add one of: grpc: {}, http: {path: /healthz}, tcp: {}, adapter: {}", "no kind of check")
		}
	case *configv1.HealthCheck_Http:
		at := path + ".http"
		if p := c.Http.GetPath(); p != "" && !strings.HasPrefix(p, "/") {
			k.fault(at+".path", k.suggest(at+".path", "write /"+p), "wanted a path from /, found %s", k.show(at+".path", p))
		}
		k.limit(at+".port", int64(c.Http.GetPort()), math.MaxUint16)
		for i, s := range c.Http.GetStatuses() {
			one := item(at+".statuses", i)
			if low, high, _ := strings.Cut(s, "-"); !k.failed(one) && (!statuses.MatchString(s) || high != "" && high < low) {
				k.fault(one, "write a status such as 200, or a range such as 200-399", "%s is no status and no range of them", k.show(one, s))
			}
		}
	}
	k.interval(path+".interval", h.GetInterval())
	k.timeout(path+".timeout", h.GetTimeout())
	k.limit(path+".unhealthy", int64(h.GetUnhealthy()), 100)
	k.limit(path+".healthy", int64(h.GetHealthy()), 100)
}

func (k *checker) outliers(path string, o *configv1.Outliers) {
	if o == nil || k.failed(path) {
		return
	}
	k.limit(path+".consecutive", int64(o.GetConsecutive()), 10_000)
	k.share(path+".failure_rate", o.GetFailureRate())
	k.limit(path+".min_calls", int64(o.GetMinCalls()), 1_000_000)
	k.interval(path+".interval", o.GetInterval())
	if f := o.GetLatencyFactor(); f != 0 && !(f > 1 && f <= 1000) {
		k.fault(path+".latency_factor", "write a factor such as 3", "wanted a factor above 1, found %s", k.shown(path+".latency_factor", strconv.FormatFloat(f, 'g', -1, 64)))
	}
	k.timeout(path+".base", o.GetBase())
	k.timeout(path+".max", o.GetMax())
	if o.GetBase() != nil && o.GetMax() != nil && o.GetMax().AsDuration() < o.GetBase().AsDuration() {
		k.fault(path+".max", "write at least as long as base", "wanted at least %s, found %s", secondsText(o.GetBase().AsDuration()), k.shown(path+".max", secondsText(o.GetMax().AsDuration())))
	}
	k.share(path+".most", o.GetMost())
}

func (k *checker) breaker(path string, b *configv1.Breaker) {
	if b == nil || k.failed(path) {
		return
	}
	k.limit(path+".max_calls", int64(b.GetMaxCalls()), math.MaxInt32)
	k.limit(path+".max_pending", int64(b.GetMaxPending()), math.MaxInt32)
	if b.GetMaxPending() > 0 && b.GetMaxCalls() == 0 {
		k.fault(path+".max_pending", "add max_calls", "calls wait only where there is a bound on calls")
	}
	k.timeout(path+".pending_timeout", b.GetPendingTimeout())
	k.share(path+".failure_rate", b.GetFailureRate())
	k.limit(path+".min_calls", int64(b.GetMinCalls()), math.MaxInt32)
	k.interval(path+".window", b.GetWindow())
	k.timeout(path+".open", b.GetOpen())
}

func (k *checker) retry(path string, r *configv1.Retry) {
	if r == nil || k.failed(path) {
		return
	}
	if n := r.GetAttempts(); n > maxAttempts {
		k.fault(path+".attempts", "write at most "+strconv.Itoa(maxAttempts), "wanted at most %d, found %s", maxAttempts, k.shown(path+".attempts", strconv.FormatUint(uint64(n), 10)))
	}
	if k.written(path+".attempts") && r.GetAttempts() == 0 {
		k.fault(path+".attempts", "write 1 for a single try, or remove the key for the default", "wanted at least 1, found 0")
	}
	if r.GetHedgeAfter() != nil && r.GetAttempts() == 1 {
		k.fault(path+".hedge_after", "write attempts: 2, or remove one of the two", "a second try beside the first, and `attempts` allows one")
	}
	k.timeout(path+".per_try_timeout", r.GetPerTryTimeout())
	k.share(path+".budget", r.GetBudget())
	for i, c := range r.GetCodes() {
		at := item(path+".codes", i)
		if k.failed(at) {
			continue
		}
		if _, ok := Code(c); !ok {
			k.fault(at, "name one of: "+list(codeNames()), "unknown code %s%s", k.show(at, c), schema.DidYouMean(c, codeNames()))
		}
	}
	k.timeout(path+".hedge_after", r.GetHedgeAfter())
}

// Code reads a code of gRPC other than OK by its name: "UNAVAILABLE".
func Code(name string) (codes.Code, bool) {
	var c codes.Code
	if name == "OK" || name == "" || name[0] < 'A' || name[0] > 'Z' {
		return c, false
	}
	err := c.UnmarshalJSON([]byte(strconv.Quote(name)))
	return c, err == nil
}

func codeNames() []string {
	return []string{
		"ABORTED", "ALREADY_EXISTS", "CANCELLED", "DATA_LOSS", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION", "INTERNAL", "INVALID_ARGUMENT",
		"NOT_FOUND", "OUT_OF_RANGE", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN",
	}
}
