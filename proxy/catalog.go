package proxy

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/causeway-gateway/causeway/proxy/builtin"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// ownName is what the gateway's own services go by, as route and as service, in logs and metrics.
const ownName = "causeway"

// builtin adds the services that the gateway answers itself. A route that selects such a method of an upstream goes before
// them.
func (b *builder) builtin(r *router, global []named) {
	reflection := b.doc.Config.Reflection == nil || b.doc.Config.GetReflection()
	methods, err := builtin.Methods(reflection)
	if err != nil {
		b.fault("", "the gateway's own services: %s", err)
		return
	}
	rt := &route{path: "reflection"}
	rt.Route, rt.Service, rt.priority = ownName, ownName, defaultPriority
	all := b.doc.Config.GetDefaults()
	rt.Timeout, rt.MaxBody = all.GetTimeout().AsDuration(), int(all.GetMaxBody())
	b.reading(rt, all.GetJson(), all.GetRest())
	b.chain(rt, global, &builtin.Handler{Current: b.current})
	for _, m := range methods {
		r.addNamed(rt, m, false)
	}
}

// catalog is what a snapshot serves, for the gateway's own services.
type catalog struct {
	snap     *Snapshot
	draining bool
	source.Extensions
}

// catalog is what is served now.
func (g *Gateway) catalog() builtin.Catalog {
	c := &catalog{snap: g.snap.Load(), draining: g.draining.Load()}
	for _, name := range slices.Sorted(maps.Keys(c.snap.schemas)) {
		c.Extensions = append(c.Extensions, c.snap.schemas[name].schema.Files())
	}
	return c
}

// Services implements builtin.Catalog.
func (c *catalog) Services() []string {
	names := map[string]bool{}
	for _, sv := range c.snap.services {
		if sv.schema == nil {
			continue
		}
		for _, m := range sv.methods("*") {
			names[m.Service.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Health implements builtin.Catalog: a service is well while some upstream that serves it has an instance.
func (c *catalog) Health(name string) (serving, known bool) {
	if name == "" {
		return !c.draining, true
	}
	for _, sv := range c.snap.services {
		if sv.schema == nil {
			continue
		}
		if s, ok := sv.schema.schema.Service(name); ok && (len(sv.serves) == 0 || slices.Contains(sv.serves, s.Name)) {
			known = true
			serving = serving || !c.draining && len(sv.up.Nodes()) > 0
		}
	}
	return serving, known
}

// FindFileByPath implements protodesc.Resolver.
func (c *catalog) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	for _, files := range c.Extensions {
		if fd, err := files.FindFileByPath(path); err == nil {
			return fd, nil
		}
	}
	return nil, protoregistry.NotFound
}

// FindDescriptorByName implements protodesc.Resolver.
func (c *catalog) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	for _, files := range c.Extensions {
		if d, err := files.FindDescriptorByName(name); err == nil {
			return d, nil
		}
	}
	return nil, protoregistry.NotFound
}
