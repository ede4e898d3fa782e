package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/proxy/upstream"
)

// Status is how the gateway stands, for readyz and the admin calls.
type Status struct {
	Ready    bool
	Draining bool
	Revision int64
	Built    time.Time
	// Refused is why the last configuration tried is not in force, nil when it is.
	Refused   error
	RefusedAt time.Time
	Listeners []ListenerStatus
	Schemas   []SchemaStatus
	Services  []ServiceStatus
}

// ListenerStatus is one address.
type ListenerStatus struct {
	Address     string
	Connections int64
	Fault       error // of certificate files that changed into something unusable; the former ones serve
}

// SchemaStatus is one schema.
type SchemaStatus struct {
	Name, Digest, Origin string
	Pushed               bool
	Version              int
	Services             []string
	Methods              int
	Stale                error
}

// ServiceStatus is one service.
type ServiceStatus struct {
	Name, Schema string
	Known, Used  int   // instances
	Stale        error // why a registry's instances may be out of date, nil: they are not
}

// Ready tells whether the gateway takes calls: Status.Ready alone, for those who ask often.
func (g *Gateway) Ready() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.snap.Load() != nil && !g.draining.Load() && !g.closed
}

// Status tells how the gateway stands.
func (g *Gateway) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	snap := g.snap.Load()
	s := Status{Draining: g.draining.Load(), Refused: g.last.err}
	if g.last.err != nil {
		s.RefusedAt = g.last.at
	}
	for _, l := range g.listeners {
		ls := ListenerStatus{Address: l.ln.Addr().String(), Connections: l.server.Conns()}
		if l.pair != nil {
			ls.Fault = l.pair.Fault()
		}
		s.Listeners = append(s.Listeners, ls)
	}
	if snap == nil {
		return s
	}
	s.Ready = !s.Draining && !g.closed
	s.Revision, s.Built = snap.Revision, snap.Built
	s.Schemas, s.Services = snap.schemaStatus(), snap.serviceStatus()
	return s
}

func (s *Snapshot) schemaStatus() []SchemaStatus {
	var out []SchemaStatus
	for _, l := range s.schemas {
		st := SchemaStatus{Name: l.name, Digest: l.digest, Origin: l.origin, Pushed: l.pushed, Version: l.version, Services: serviceNames(l.schema), Stale: l.stale}
		for _, sv := range l.schema.Services() {
			st.Methods += len(sv.Methods)
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b SchemaStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (s *Snapshot) serviceStatus() []ServiceStatus {
	var out []ServiceStatus
	for _, sv := range s.services {
		st := ServiceStatus{Name: sv.name}
		if sv.schema != nil {
			st.Schema = sv.schema.name
		}
		sources := sv.up.Survey(func(_ string, used bool) {
			st.Known++
			if used {
				st.Used++
			}
		})
		for _, src := range sources {
			if src.Stale > 0 {
				st.Stale = errors.Join(st.Stale, fmt.Errorf("stale for %s: %s: %s", src.Stale.Round(time.Second), src.Name, src.Err))
			}
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b ServiceStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Services tells what is known of the services and of their instances, by name.
func (g *Gateway) Services() []upstream.View {
	snap := g.snap.Load()
	if snap == nil {
		return nil
	}
	out := make([]upstream.View, 0, len(snap.services))
	for _, name := range slices.Sorted(maps.Keys(snap.services)) {
		out = append(out, snap.services[name].up.Inspect())
	}
	return out
}

// Sample brings the gauges up to date; it is called before metrics are read.
func (g *Gateway) Sample() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gauges.translation.Set(g.budget.Used())
	g.gauges.streams.Set(int64(g.streams.open()))
	g.sampleRoutes()
	g.sampleInstances()
	g.sampleServices()
	for _, l := range g.listeners {
		address := l.conf.GetAddress()
		g.gauges.connections.With(address).Set(l.server.Conns())
		accepted := g.gauges.accepted.With(address)
		accepted.Add(l.server.Accepted() - accepted.Value())
		if p, ok := l.server.(interface{ Panics() int64 }); ok {
			n := p.Panics()
			g.panics.Add(n - l.panics)
			l.panics = n
		}
	}
}

// sampleRoutes counts the calls in the gates of routes: of the snapshot in force, and of those on their way out. g.mu is held.
func (g *Gateway) sampleRoutes() {
	inside := map[string]int64{}
	count := func(routes []*route) {
		for _, rt := range routes {
			inside[cmp.Or(rt.Route, telemetry.Unmatched)] += rt.gate.Inside()
		}
	}
	if snap := g.snap.Load(); snap != nil {
		count(snap.routes)
	}
	g.leaving.each(count)
	for name, n := range inside {
		g.gauges.inFlight.With(name).Set(n)
	}
}

// instanceOf is an instance of a service.
type instanceOf struct{ service, node string }

// sampleInstances lists the instances of services; series of those that are gone go too. g.mu is held.
func (g *Gateway) sampleInstances() {
	snap := g.snap.Load()
	if snap == nil {
		return
	}
	now, nodes := map[instanceOf]bool{}, map[string]bool{}
	used := map[instanceOf]int64{}
	for _, sv := range snap.services {
		sv.up.Survey(func(address string, uses bool) {
			i := instanceOf{sv.name, address}
			now[i] = true
			if uses {
				used[i] = 1
			}
			nodes[address] = true
			if host, _, err := net.SplitHostPort(address); err == nil {
				nodes[host] = true
			}
		})
	}
	for i := range now {
		g.gauges.instances.With(i.service, i.node).Set(used[i])
	}
	if maps.Equal(now, g.instances) {
		return
	}
	for i := range g.instances {
		if !now[i] {
			g.gauges.instances.Delete(i.service, i.node)
		}
	}
	g.opts.Meter.Keep("node", func(v string) bool { return nodes[v] })
	g.instances = now
}

// Summary says in a line what the snapshot consists of, and what of it could not be checked.
func (s *Snapshot) Summary() string {
	var unknown strings.Builder
	methods := 0
	for _, l := range s.schemaStatus() {
		methods += l.Methods
		if l.Pushed && l.Digest == "" {
			fmt.Fprintf(&unknown, "\nnothing was pushed for schema %s so far: the routes over it could not be checked", l.Name)
		}
	}
	return fmt.Sprintf("valid: %d schemas with %d methods, %d services, %d bindings%s", len(s.schemas), methods, len(s.services), len(s.targets), unknown.String())
}
