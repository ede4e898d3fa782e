package proxy

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// inletTable is what the clients of an inlet's listeners with the same options can call.
type inletTable struct {
	protocol string
	names    map[string][]inletTarget
	services map[string]struct{} // what stands before the last slash of names
	left     []unserved
}

// inletTarget is a method under one of its names; where several routes have it, the first whose conditions hold takes the call.
type inletTarget struct {
	*target
	plan any
}

// unserved is a method that an inlet does not serve, and why.
type unserved struct {
	method *schema.Method
	why    error
}

// inletKey tells listeners apart that serve different methods by different names.
func inletKey(conf *configv1.Listener) string {
	raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(conf.GetOptions()) // what was decoded is encoded
	return conf.GetProtocol() + "\x00" + string(raw)
}

// inlet finds the protocol that a listener speaks; nil: it is HTTP.
func (s *Standard) inlet(conf *configv1.Listener) rpcadapters.Inlet {
	i := slices.IndexFunc(s.Inlets, func(in rpcadapters.Inlet) bool { return in.Name() == conf.GetProtocol() })
	if i < 0 {
		return nil
	}
	return s.Inlets[i]
}

// inlets has the methods of all routes bound to the protocols that listeners speak.
func (b *builder) inlets(names []placed) {
	for i, conf := range b.doc.Config.GetListen() {
		in, key := b.std.inlet(conf), inletKey(conf)
		if in == nil || b.snap.inlets[key] != nil {
			continue
		}
		at := fmt.Sprintf("listen[%d]", i)
		options, err := settings(in, conf.GetOptions())
		if err != nil {
			b.fault(at+".options", "%s", err)
			continue
		}
		// What is there of a listener's options that methods do not show is said by its protocol.
		if _, err := in.New(nowhere{}, options, rpcadapters.Limits{}); err != nil {
			b.fault(at+".options", "%s", err)
			continue
		}
		b.snap.inlets[key] = b.inletTable(at, in, options, names)
		b.bare(b.snap.inlets[key])
		if c, ok := in.(rpcadapters.Checker); ok && !b.awaitsPush() {
			var methods []*schema.Method
			for _, p := range names {
				methods = append(methods, p.method)
			}
			if err := c.Check(options, methods); err != nil {
				b.fault(at+".options", "%s", err)
			}
		}
	}
}

// awaitsPush tells whether there are schemas of which nothing is known so far.
func (b *builder) awaitsPush() bool {
	for _, l := range b.snap.schemas {
		if l.pushed && len(l.schema.Services()) == 0 {
			return true
		}
	}
	return false
}

func (b *builder) inletTable(at string, in rpcadapters.Inlet, options proto.Message, names []placed) *inletTable {
	table := &inletTable{protocol: in.Name(), names: map[string][]inletTarget{}, services: map[string]struct{}{}}
	bound := map[*schema.Method]*rpcadapters.Bound{}
	names = inOrder(slices.Clone(names))
	slices.SortStableFunc(names, func(a, b placed) int { return cmp.Compare(b.route.priority, a.route.priority) })
	for _, p := range names {
		if p.host != "" {
			continue // such callers name no host
		}
		to, ok := bound[p.method]
		if !ok {
			made, err := in.Bind(p.method, options)
			if err != nil {
				table.left = append(table.left, unserved{p.method, err})
			} else {
				to = &made
			}
			bound[p.method] = to
		}
		if to == nil {
			continue
		}
		for _, name := range to.Names {
			if other := table.names[name]; len(other) > 0 && other[0].method != p.method {
				b.fault(at, "%s and %s are both called %q over %s", other[0].method.Name[1:], p.method.Name[1:], name, in.Name()).
					WithFix("give one of them another name under `options`")
				continue
			}
			table.names[name] = append(table.names[name], inletTarget{p.target, to.Plan})
			table.services[serviceOf(name)] = struct{}{}
		}
	}
	return table
}

// nowhere is an entry to nothing, for a protocol that is made to see whether it can be.
type nowhere struct{}

// Find implements rpcadapters.Entry. Nobody asks.
func (nowhere) Find(string, *rpc.Call) *rpcadapters.Found { return nil }

// entry is the door for the calls of the listeners of one key.
type entry struct {
	gateway *Gateway
	keys    atomic.Pointer[entryKeys]
}

// entryKeys say which table of a snapshot is an entry's, see inletKey: the snapshot before the options were changed has it under
// the former key.
type entryKeys struct{ now, former string }

// turn has the entry go by another key from the next snapshot on.
func (e *entry) turn(key string) {
	next := &entryKeys{now: key}
	if k := e.keys.Load(); k != nil {
		next.former = k.now
	}
	e.keys.Store(next)
}

// table is the entry's in a snapshot.
func (e *entry) table(s *Snapshot) *inletTable {
	k := e.keys.Load()
	if t := s.inlets[k.now]; t != nil {
		return t
	}
	return s.inlets[k.former]
}

// inletVisit is one call's stay; pooled.
type inletVisit struct {
	found rpcadapters.Found
	visit visit
	torn  bool // something of the call has panicked
}

var inletVisits = sync.Pool{New: func() any { return &inletVisit{} }}

// Find implements rpcadapters.Entry.
func (e *entry) Find(name string, c *rpc.Call) *rpcadapters.Found {
	g := e.gateway
	v := inletVisits.Get().(*inletVisit)
	v.visit.gateway = g
	v.found.Visit, v.found.Finish = v, &v.visit
	c.ID = v.visit.requestID(c.Header)
	invalid := g.memory.refusal()
	for {
		snap := g.snap.Load()
		rt, refusal := snap.nobody, invalid
		var to *inletTarget
		if refusal == nil {
			if to = e.table(snap).find(name, c.Header); to != nil {
				rt = to.route
			} else {
				refusal = rpc.Refuse(codes.Unimplemented, "METHOD_NOT_FOUND", "no method %s is served here", printable(name)).WithStatus(404)
				v.found.NoService = !e.table(snap).serves(name)
			}
		}
		if !rt.gate.Enter() {
			if g.snap.Load() != snap {
				continue // a newer snapshot has been swapped in: match again on that
			}
			v.visit.closing = snap.nobody
			v.found.Options = &snap.nobody.Options
			v.found.Refusal = rpc.Refuse(codes.Unavailable, "STOPPING", "the gateway is stopping")
			return &v.found
		}
		v.visit.route = rt
		v.found.Options, v.found.Refusal, v.found.Handler = &rt.Options, refusal, rt.handler
		c.Route, c.Service = rt.Route, rt.Service
		if to != nil {
			v.found.Method, v.found.Plan = to.method, to.plan
			v.visit.Method, c.Method = to.method, to.method
		}
		return &v.found
	}
}

// find is the first target of a name whose conditions hold; nil: there is none.
func (t *inletTable) find(name string, header rpc.Metadata) *inletTarget {
	if t == nil {
		return nil
	}
	targets := t.names[name]
next:
	for i := range targets {
		for j := range targets[i].route.conditions {
			if !targets[i].route.conditions[j].holds(header) {
				continue next
			}
		}
		return &targets[i]
	}
	return nil
}

// serves tells whether the service of a name is there.
func (t *inletTable) serves(name string) bool {
	if t == nil {
		return false
	}
	_, ok := t.services[serviceOf(name)]
	return ok
}

// serviceOf is what stands before the last slash of a method's name.
func serviceOf(name string) string { return name[:max(strings.LastIndexByte(name, '/'), 0)] }

// of tells by what names a method is called, in order; where there are none, why.
func (t *inletTable) of(m *schema.Method) (names []string, why string) {
	for name, targets := range t.names {
		if targets[0].method == m {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		return names, ""
	}
	for _, u := range t.left {
		if u.method == m {
			return nil, u.why.Error()
		}
	}
	return nil, "its routes want a host, and such callers name none"
}

// printable is a name that a client has sent, as an error may show it.
func printable(name string) string {
	const most = 100
	if len(name) > most {
		name = name[:most]
	}
	if rpc.Printable(name) {
		return name
	}
	return fmt.Sprintf("%q", name)
}

// Leave implements rpcadapters.Visit.
func (v *inletVisit) Leave() {
	if v.visit.route != nil {
		v.visit.route.gate.Leave()
	}
	if v.torn {
		return // the visit may be held by what panicked: it is not used again
	}
	ids := v.visit.ids
	*v = inletVisit{}
	v.visit.ids = ids
	inletVisits.Put(v)
}

// Panicked implements rpcadapters.Visit.
func (v *inletVisit) Panicked(c *rpc.Call, reason any) *rpc.Error {
	v.torn = true
	g := v.visit.gateway
	g.panics.Add(1)
	g.log.Error("panic in a call", "route", c.Route, "request_id", c.ID, "panic", reason, "stack", string(debug.Stack()))
	return panicked(reason)
}
