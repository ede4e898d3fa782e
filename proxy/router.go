package proxy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/transcode/httprule"
)

// router gathers targets into levels and trees, and refuses two that want the same requests.
type router struct {
	b       *builder
	levels  map[int64]*level
	targets []placed
}

// placed is a target with the host it stands under.
type placed struct {
	*target
	host string // "", a name, or "*.name"
}

// add takes one binding of a route for each of the route's hosts.
func (r *router) add(rt *route, binding *httprule.Binding) {
	rule, err := rpcadapters.NewRule(binding, &rt.REST)
	if err != nil {
		r.b.fault(rt.path, "%s", err)
		return
	}
	hosts := rt.hosts
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	for _, h := range hosts {
		r.targets = append(r.targets, placed{&target{route: rt, rule: rule, order: len(r.targets)}, h})
	}
}

// sorted builds the trees. Under one template a target with more conditions is asked before one with fewer, and else the
// one that stands first.
func (r *router) sorted() []*level {
	r.b.snap.targets = slices.Clone(r.targets)
	slices.SortStableFunc(r.targets, func(a, b placed) int {
		return cmp.Or(cmp.Compare(len(b.route.conditions), len(a.route.conditions)), cmp.Compare(a.order, b.order))
	})
	for _, p := range r.targets {
		r.place(p)
	}
	levels := make([]*level, 0, len(r.levels))
	for _, l := range r.levels {
		levels = append(levels, l)
	}
	slices.SortFunc(levels, func(a, b *level) int { return cmp.Compare(b.priority, a.priority) })
	return levels
}

func (r *router) place(p placed) {
	l := r.levels[p.route.priority]
	if l == nil {
		l = &level{priority: p.route.priority, exact: map[string]*tree{}, suffix: map[string]*tree{}}
		r.levels[p.route.priority] = l
	}
	t := l.tree(p.host)
	for _, other := range t.Same(p.rule.Verb, p.rule.Template) {
		if conditionsKey(other.route) != conditionsKey(p.route) {
			continue
		}
		if other.route == p.route && other.rule.Method == p.rule.Method {
			return // selected twice by the same route: two globs that overlap
		}
		r.collision(p, other)
		return
	}
	t.Add(p.rule.Verb, p.rule.Template, p.target)
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

func (l *level) tree(host string) *tree {
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

func newTree() *tree { return httprule.NewTree(admit) }

// conditionsKey tells two sets of conditions apart, whatever their order.
func conditionsKey(r *route) string {
	parts := make([]string, len(r.conditions))
	for i := range r.conditions {
		parts[i] = r.conditions[i].String()
	}
	slices.Sort(parts)
	return strings.Join(parts, "\x00")
}
