package proxy

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// router gathers targets into levels and trees, and refuses two that want the same requests.
type router struct {
	b       *builder
	levels  map[int64]*level
	targets []placed
	named   map[int64]*level
	names   []placed // of methods, by their names
}

// placed is a target with the host it stands under.
type placed struct {
	*target
	host string // "", a name, or "*.name"
	own  bool   // of a route with a rule of its own: it does not select the method as such
}

// add takes one binding of a route for each of the route's hosts.
func (r *router) add(rt *route, binding *httprule.Binding) {
	rule, err := rpcadapters.NewRule(binding, &rt.REST)
	if err != nil {
		r.b.fault(rt.path, "%s", err)
		return
	}
	if rt.retries != nil {
		rt.retries.reached(rule.Method, rule.Verb)
	}
	for _, h := range rt.everyHost() {
		r.targets = append(r.targets, placed{target: &target{route: rt, method: rule.Method, rule: rule, order: len(r.targets)}, host: h})
	}
}

// addNamed takes a method of a route under its name. own: the route has it for a rule of its own.
func (r *router) addNamed(rt *route, m *schema.Method, own bool) {
	for _, h := range rt.everyHost() {
		r.names = append(r.names, placed{&target{route: rt, method: m, order: len(r.names)}, h, own})
	}
}

// everyHost are the hosts that a route answers for; "" is any.
func (r *route) everyHost() []string {
	if len(r.hosts) == 0 {
		return []string{""}
	}
	return r.hosts
}

// place builds the trees. Under one template a target with more conditions is asked before one with fewer, and else the
// one that stands first.
func (r *router) place() {
	r.b.snap.targets = slices.Clone(r.targets)
	for _, p := range inOrder(r.targets) {
		t := tree(r.levels, p)
		if other := rival(t, p, p.rule.Verb, p.rule.Template); other == nil {
			t.Add(p.rule.Verb, p.rule.Template, p.target)
		} else if other.route != p.route || other.method != p.method { // else two globs overlap
			r.collision(p, other)
		}
	}
	for _, p := range inOrder(r.names) {
		// Calls by a method's name go to the route that selects it, with its plugins, as do those to its default path. Where
		// only routes with rules of their own have it, they go to the first: the rules are what tells them apart. Two routes
		// that select it both have collided above.
		t, name := tree(r.named, p), httprule.Default(p.method).Template
		if rival(t, p, "POST", name) == nil {
			t.Add("POST", name, p.target)
		}
		for _, path := range r.b.aliases(p.method) {
			if name := httprule.Path(path); rival(t, p, "POST", name) == nil {
				t.Add("POST", name, p.target)
			}
		}
	}
	r.b.snap.levels, r.b.snap.named = falling(r.levels), falling(r.named)
}

// aliases are the other paths that faces know a method by.
func (b *builder) aliases(m *schema.Method) (paths []string) {
	for _, f := range b.std.Faces {
		if a, ok := f.(rpcadapters.Aliased); ok {
			paths = append(paths, a.Aliases(m)...)
		}
	}
	return slices.DeleteFunc(paths, func(path string) bool { return !strings.HasPrefix(path, "/") })
}

// inOrder are targets in the order in which they are asked. Only among names own tells any apart.
func inOrder(targets []placed) []placed {
	slices.SortStableFunc(targets, func(a, b placed) int {
		if d := cmp.Compare(len(b.route.conditions), len(a.route.conditions)); d != 0 || a.own == b.own {
			return cmp.Or(d, cmp.Compare(a.order, b.order))
		}
		if a.own {
			return 1
		}
		return -1
	})
	return targets
}

func falling(levels map[int64]*level) []*level {
	out := slices.Collect(maps.Values(levels))
	slices.SortFunc(out, func(a, b *level) int { return cmp.Compare(b.priority, a.priority) })
	return out
}

// tree is where a target belongs.
func tree(levels map[int64]*level, p placed) *targets {
	l := levels[p.route.priority]
	if l == nil {
		l = &level{priority: p.route.priority, exact: map[string]*targets{}, suffix: map[string]*targets{}}
		levels[p.route.priority] = l
	}
	return l.tree(p.host)
}

// rival is a target of the tree that takes the very requests that p would take, or nil.
func rival(t *targets, p placed, verb string, template *httprule.Template) *target {
	for _, other := range t.Same(verb, template) {
		if conditionsKey(other.route) == conditionsKey(p.route) {
			return other
		}
	}
	return nil
}

func (r *router) collision(p placed, other *target) {
	where := "every host"
	if p.host != "" {
		where = "host " + p.host
	}
	fix := "leave one of the methods out with `serves` or `methods`, or tell the routes apart by hosts, headers or priority"
	r.b.fault(p.route.path, "%s of %s and %s of %s both take %s %s on %s", p.rule.Method.Name[1:], p.route.label(), other.rule.Method.Name[1:], other.route.label(), p.rule.Verb, p.rule.Template, where).WithFix(fix)
}

// label names a route for people.
func (r *route) label() string {
	if r.priority == defaultPriority {
		return "service " + r.Service
	}
	return "route " + r.Route
}

func (l *level) tree(host string) *targets {
	if host == "" {
		if l.any == nil {
			l.any = newTree()
		}
		return l.any
	}
	in, key := l.exact, host
	if rest, ok := strings.CutPrefix(host, "*"); ok {
		in, key = l.suffix, rest
	}
	if in[key] == nil {
		in[key] = newTree()
	}
	return in[key]
}

func newTree() *targets { return httprule.NewTree(admit) }

// conditionsKey tells two sets of conditions apart, whatever their order.
func conditionsKey(r *route) string {
	parts := make([]string, len(r.conditions))
	for i := range r.conditions {
		parts[i] = r.conditions[i].String()
	}
	slices.Sort(parts)
	return strings.Join(parts, "\x00")
}
