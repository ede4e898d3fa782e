package config

import (
	"cmp"
	"math"
	"regexp"
	"strings"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func (k *checker) schema(path string, s *configv1.Schema) {
	if k.failed(path) {
		return
	}
	switch src := s.GetSource().(type) {
	case nil:
		if !k.anyFailed(path, "descriptor_set", "proto", "reflection", "pushed", "tars") {
			k.fault(path, "add one of: descriptor_set, proto, reflection, pushed, tars", "no source of descriptors")
		}
	case *configv1.Schema_DescriptorSet:
		k.file(path+".descriptor_set", src.DescriptorSet)
	case *configv1.Schema_Proto:
		k.sourceFiles(path+".proto", ".proto", "protos", src.Proto)
	case *configv1.Schema_Tars:
		k.tarsSource(path+".tars", src.Tars)
	case *configv1.Schema_Reflection:
		at := path + ".reflection"
		if k.failed(at) {
			break
		}
		if a := src.Reflection.GetAddress(); a == "" {
			k.missing(at, "address", "write the host:port of a server with gRPC reflection")
		} else {
			k.address(at+".address", a, dialing)
		}
		k.clientTLS(at+".tls", src.Reflection.GetTls())
	}
	for i, f := range s.GetHttpRules() {
		k.file(item(path+".http_rules", i), f)
	}
	if l := s.GetLimits(); l != nil {
		at := path + ".limits"
		k.limit(at+".max_bytes", l.GetMaxBytes(), math.MaxInt32)
		k.limit(at+".max_files", int64(l.GetMaxFiles()), math.MaxInt32)
		k.limit(at+".max_messages", int64(l.GetMaxMessages()), math.MaxInt32)
		k.limit(at+".max_fields", int64(l.GetMaxFields()), math.MaxInt32)
		k.limit(at+".max_nesting", int64(l.GetMaxNesting()), maxNesting)
	}
}

// maxNesting is what protobuf's own decoders take (100 in most languages); deeper messages cannot be sent anyhow.
const maxNesting = 100

// sourceTree is a source of files that are compiled here.
type sourceTree interface {
	GetPaths() []string
	GetImportRoots() []string
}

// sourceFiles checks files with an extension; folder is one for an example.
func (k *checker) sourceFiles(path, ext, folder string, p sourceTree) {
	if k.failed(path) {
		return
	}
	if len(p.GetPaths()) == 0 {
		if !k.failed(path + ".paths") {
			k.fault(path, "add the "+ext+" files, or folders of them: paths: ["+folder+"]", "no paths")
		}
	}
	for i, f := range p.GetPaths() {
		k.file(item(path+".paths", i), f)
	}
	for i, f := range p.GetImportRoots() {
		k.file(item(path+".import_roots", i), f)
	}
}

// packageName is a package of protobuf.
var packageName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

func (k *checker) tarsSource(path string, p *configv1.TarsSource) {
	k.sourceFiles(path, ".tars", "idl", p)
	if at := path + ".package"; p.GetPackage() != "" && !k.failed(at) && !packageName.MatchString(p.GetPackage()) {
		k.fault(at, "write names with dots between them, such as acme.games", "wanted the name of a package, found %q", p.GetPackage())
	}
}

func (k *checker) anyFailed(path string, fields ...string) bool {
	for _, f := range fields {
		if k.failed(path + "." + f) {
			return true
		}
	}
	return false
}

func (k *checker) upstream(path string, s *configv1.Service) {
	if k.failed(path) {
		return
	}
	k.endpoints(path, s)
	k.protocol(path+".adapter", "adapter", s.GetAdapter(), k.types.Adapters)
	if s.GetForPlugins() {
		if s.GetSchema() != "" {
			k.fault(path+".schema", "remove one of the two", "a schema, and `for_plugins`, which says that no route leads here")
		}
	} else if s.GetSchema() == "" {
		fix := "name the schema that describes the service"
		if all := k.visible(k.schemas.list(), k.schemas); len(all) > 0 {
			fix += ": " + list(all)
		}
		k.missing(path, "schema", fix)
	} else {
		k.reference(path+".schema", "schema", s.GetSchema(), k.schemas)
	}
	k.plugins(path+".plugins", s.GetPlugins())
	named := map[string]bool{}
	for i, name := range s.GetServes() {
		at := item(path+".serves", i)
		switch {
		case k.failed(at):
		case !fullName.MatchString(name):
			fix := "write the full name of a protobuf service: acme.v1.Orders"
			if trimmed := strings.Trim(name, "./ "); fullName.MatchString(trimmed) {
				fix = "write " + trimmed
			} else if before, _, ok := strings.Cut(trimmed, "/"); ok && fullName.MatchString(before) {
				fix = "services are served whole; write " + before
			}
			k.fault(at, k.suggest(at, fix), "wanted the full name of a protobuf service, found %s", k.show(at, name))
		case named[name]:
			k.fault(at, "keep it once", "%s is listed twice", k.show(at, name))
		}
		named[name] = true
	}
	k.clientTLS(path+".tls", s.GetTls())
	k.timeout(path+".dial_timeout", s.GetDialTimeout())
	k.limit(path+".max_message", s.GetMaxMessage(), math.MaxInt32)
	type key struct{ registry, service, layout, root, path string }
	seen := map[key]string{}
	for i, d := range s.GetDiscovery() {
		at := item(path+".discovery", i)
		k.discovery(at, d)
		one := key{d.GetRegistry(), cmp.Or(d.GetService(), s.GetName()), cmp.Or(d.GetLayout(), "native"), d.GetRoot(), d.GetGeneric().GetPath()}
		if first := seen[one]; first != "" && one.registry != "" && !k.failed(at) {
			k.fault(at, "keep it once", "it is %s already%s", first, k.where(first))
		}
		seen[one] = at
	}
	k.balancer(path+".balancer", s.GetBalancer())
	k.subsets[s.GetName()] = map[string]bool{}
	for _, sub := range s.GetBalancer().GetSubsets() {
		k.subsets[s.GetName()][sub.GetName()] = true
	}
	k.healthCheck(path+".health_check", s.GetHealthCheck())
	k.outliers(path+".outliers", s.GetOutliers())
	k.breaker(path+".breaker", s.GetBreaker())
	k.retry(path+".retry", s.GetRetry())
}

// protocol checks the name of something that is spoken against those that this build speaks.
func (k *checker) protocol(path, kind, name string, known Messages) {
	if _, ok := known[name]; name == "" || known == nil || ok || k.failed(path) {
		return
	}
	near := schema.DidYouMean(name, known.names())
	if k.show(path, name) == mask {
		near = ""
	}
	k.fault(path, "name one of: "+list(known.names()), "unknown %s %s%s", kind, k.show(path, name), near)
}

func (k *checker) endpoints(path string, s *configv1.Service) {
	if len(s.GetEndpoints())+len(s.GetDiscovery()) == 0 && !k.failed(path+".endpoints") && !k.failed(path+".discovery") {
		k.fault(path, "add one: endpoints: [{address: \"127.0.0.1:9090\"}], or the registry that knows them: discovery: [{registry: zk}]", "no endpoints")
	}
	seen := map[address]string{}
	for i, e := range s.GetEndpoints() {
		at := item(path+".endpoints", i)
		if k.failed(at) {
			continue
		}
		if e.GetAddress() == "" {
			k.missing(at, "address", "write host:port")
			continue
		}
		k.limit(at+".weight", int64(e.GetWeight()), maxWeight)
		k.limit(at+".priority", int64(e.GetPriority()), maxPriority)
		full := at + ".address"
		a, ok := k.address(full, e.GetAddress(), dialing)
		if !ok {
			continue
		}
		if first := seen[a]; first != "" {
			k.fault(full, "keep it once", "%s is %s already%s", k.show(full, e.GetAddress()), first, k.where(first))
			continue
		}
		seen[a] = full
	}
}

// fullName is a protobuf full name (protobuf's specification, "Identifiers").
var fullName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
