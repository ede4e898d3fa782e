package proxy

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/causeway-gateway/causeway/proxy/builtin"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// ownName is what the gateway's own services go by, as route and as service, in logs and metrics.
const ownName = "causeway"

// builtin adds the services that the gateway answers itself. A route that selects such a method of an upstream goes before
// them.
func (b *builder) builtin(r *router, global []*member) {
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
	rt.StreamIdle, rt.StreamAge = all.GetStream().GetIdleTimeout().AsDuration(), all.GetStream().GetMaxAge().AsDuration()
	b.reading(rt, all.GetJson(), all.GetRest())
	b.suits(global, methods, true)
	b.newChain(rt, global, &own{next: &builtin.Handler{Current: b.current}, options: &rt.Options, streams: b.streams})
	for _, m := range methods {
		r.addNamed(rt, m, false)
	}
}

// own handles the calls of the gateway's own services: their streams end as those of others do.
type own struct {
	next    rpc.Handler
	options *rpcadapters.Options
	streams *streams
}

// Handle implements rpc.Handler.
func (o *own) Handle(ctx context.Context, c *rpc.Call) error {
	if c.Stream == nil {
		return o.next.Handle(ctx, c)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &stream{born: time.Now(), cut: watched{caller{c.Stream}, cancel}}
	if c.Method.Kind == schema.Bidi { // whoever watches the health waits for as long as it is the same
		s.idle = o.options.StreamIdle
	}
	c.Stream = noted{c.Stream, s}
	o.streams.enter(s)
	defer o.streams.leave(s)
	return s.outcome(o.next.Handle(ctx, c))
}

// watched ends a handler that waits for its caller, or for the end of its context.
type watched struct {
	caller
	cancel context.CancelFunc
}

func (w watched) Close() {
	w.cancel()
	w.caller.Close()
}

// noted is a caller's half of which it is noted when something passes.
type noted struct {
	rpc.Stream
	s *stream
}

func (n noted) Recv(m *rpc.Message) error {
	err := n.Stream.Recv(m)
	n.s.passed()
	return err
}

func (n noted) Send(m *rpc.Message, more bool) error {
	err := n.Stream.Send(m, more)
	n.s.passed()
	return err
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
