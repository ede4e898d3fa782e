package metrics

import (
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// cells are the cells bound since the meter last removed series. They are looked up by names, not by the pointers of a
// schema: an old schema's memory is not held.
type cells struct {
	epoch  uint64
	near   [nearGroups]atomic.Pointer[group] // those that were asked for last, by key.place
	groups table[key, *group]
}

// nearGroups is how many groups are found without hashing names.
const nearGroups = 512

// maxGroups bounds the table of groups, whatever plugins write into calls. Beyond it cells are bound for each call.
const maxGroups = 50_000

// cells returns the cells of the meter's present epoch.
func (m *metrics) cells() *cells {
	epoch := m.meter.Epoch()
	have := m.bound.Load()
	if have != nil && have.epoch == epoch {
		return have
	}
	next := &cells{epoch: epoch}
	if m.bound.CompareAndSwap(have, next) {
		return next
	}
	return m.bound.Load()
}

// key is what calls are told apart by, their code and status apart.
type key struct{ route, service, method, protocol, consumer string }

// place is where a group is near. What often differs counts: lengths, and the ends of method and route.
func (k *key) place() uint {
	h := uint(len(k.method))*31 + uint(len(k.route))*7 + uint(len(k.protocol)) + uint(len(k.consumer))*13
	for _, s := range [...]string{k.method, k.route, k.consumer} {
		if n := len(s); n >= 2 {
			h = h*33 + uint(s[n-1]) + uint(s[n-2])<<4
		}
	}
	return (h ^ h>>9 ^ h>>18) % nearGroups
}

// own makes a copy that outlives the call, all in one piece: looked at for every call, it takes few lines of the caches.
func (k *key) own() key {
	piece := k.route + k.service + k.method + k.protocol + k.consumer
	next := func(n int) (s string) {
		s, piece = piece[:n], piece[n:]
		return s
	}
	return key{next(len(k.route)), next(len(k.service)), next(len(k.method)), next(len(k.protocol)), next(len(k.consumer))}
}

// group holds the cells of the calls with one key.
type group struct {
	of                key
	duration          *telemetry.Histogram
	upstream          *telemetry.Histogram // nil where no service is
	bytesIn, bytesOut *telemetry.Counter
	byCode            [codes.Unauthenticated + 1]atomic.Pointer[answer]
	nodes             table[string, *nodeCells] // of the metrics by APISIX's names
}

// labels are the values that most instruments have.
func (g *group) labels() []string {
	return []string{routeLabel(g.of.route), g.of.service, strings.TrimPrefix(g.of.method, "/"), g.of.consumer}
}

// group returns the cells of a call.
func (s *cells) group(m *metrics, c *rpc.Call) *group {
	k := key{route: c.Route, service: c.Service, protocol: c.Protocol}
	if c.Method != nil {
		k.method = c.Method.Name
	}
	if c.Consumer != nil && (m.consumers || m.apisix != nil) {
		k.consumer = c.Consumer.Name
	}
	near := &s.near[k.place()]
	if g := near.Load(); g != nil && g.of == k {
		return g
	}
	g, ok := s.groups.get(k)
	if !ok {
		g = s.bind(m, k.own())
	}
	near.Store(g)
	return g
}

func (s *cells) bind(m *metrics, k key) *group {
	if s.groups.len() >= maxGroups {
		return newGroup(m, k)
	}
	return s.groups.obtain(k, func() *group { return newGroup(m, k) })
}

func newGroup(m *metrics, k key) *group {
	g := &group{of: k}
	if k.consumer != "" && (m.known == nil || m.known(k.consumer) == nil) {
		g.of.consumer = "" // labels are of the configuration alone
	}
	values := g.labels()
	if !m.consumers {
		values[3] = ""
	}
	g.duration, g.bytesIn, g.bytesOut = m.duration.With(values...), m.bytesIn.With(values...), m.bytesOut.With(values...)
	if k.service != "" {
		g.upstream = m.upstream.With(k.service, values[2])
	}
	return g
}

// answer is the counter of one code and status, in a list of those with the same code: nearly always one.
type answer struct {
	status int
	cell   *telemetry.Counter
	next   *answer
}

// answered returns the counter of an answer.
func (g *group) answered(m *metrics, code codes.Code, status int) *telemetry.Counter {
	if uint64(code) >= uint64(len(g.byCode)) {
		code = codes.Unknown
	}
	status = bounded(status)
	head := &g.byCode[code]
	for {
		first := head.Load()
		for a := first; a != nil; a = a.next {
			if a.status == status {
				return a.cell
			}
		}
		v := g.labels()
		if !m.consumers {
			v[3] = ""
		}
		cell := m.requests.With(v[0], v[1], v[2], g.of.protocol, v[3], rpc.CodeName(code), statusLabel(status))
		a := &answer{status: status, cell: cell, next: first}
		if head.CompareAndSwap(first, a) {
			return a.cell
		}
	}
}

// bounded is a status that an upstream has not invented; 0 is none.
func bounded(status int) int {
	if status < 100 || status > 599 {
		return 0
	}
	return status
}

func routeLabel(route string) string {
	if route == "" {
		return telemetry.Unmatched
	}
	return route
}

// statusLabel is "" for calls whose protocol has no status.
func statusLabel(status int) string {
	if status == 0 {
		return ""
	}
	return strconv.Itoa(status)
}
