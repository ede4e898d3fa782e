// Package metrics is the plugin metrics: it counts calls, their latency and their bytes per route, method and code.
//
// Labels come from the configuration, the schemas and the gateway's own constants alone, never from a request.
package metrics

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	metricsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/metrics/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "metrics",
	Config: func() proto.Message { return new(metricsv1.Metrics) },
	New:    newPlugin,
}

// metrics holds the instruments and the cells that calls have used so far.
type metrics struct {
	meter *telemetry.Meter

	requests *telemetry.CounterVec
	duration *telemetry.HistogramVec
	upstream *telemetry.HistogramVec
	bytesIn  *telemetry.CounterVec
	bytesOut *telemetry.CounterVec
	inFlight *telemetry.GaugeVec

	bound atomic.Pointer[cells]
}

var _ rpc.Finisher = (*metrics)(nil)

// defaultBuckets are upper bounds in seconds.
func defaultBuckets() []float64 {
	return []float64{0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10}
}

// maxBuckets bounds the buckets of one series: each is a series of its own in the monitoring system.
const maxBuckets = 50

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*metricsv1.Metrics)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	buckets := conf.GetBuckets()
	if len(buckets) == 0 {
		buckets = defaultBuckets()
	}
	if len(buckets) > maxBuckets {
		return nil, fmt.Errorf("buckets: want at most %d, found %d", maxBuckets, len(buckets))
	}
	for i, b := range buckets {
		if math.IsNaN(b) || math.IsInf(b, 0) || b <= 0 || i > 0 && b <= buckets[i-1] {
			return nil, fmt.Errorf("buckets[%d]: want bounds in seconds above 0 that rise, found %v", i, b)
		}
	}
	m := &metrics{meter: env.Meter}
	var err error
	counter := func(to **telemetry.CounterVec, name, unit, help string, labels ...string) {
		if err == nil {
			*to, err = env.Meter.Counter(name, unit, help, labels...)
		}
	}
	histogram := func(to **telemetry.HistogramVec, name, help string, labels ...string) {
		if err == nil {
			*to, err = env.Meter.Histogram(name, "s", help, buckets, labels...)
		}
	}
	counter(&m.requests, "causeway_requests_total", "",
		"Calls that ended.", "route", "service", "rpc_method", "protocol", "code", "status")
	histogram(&m.duration, "causeway_request_duration_seconds",
		"Time from a call's head to the last byte of its answer.", "route", "rpc_method")
	histogram(&m.upstream, "causeway_upstream_duration_seconds",
		"Time that calls waited for their upstream, all attempts.", "service", "rpc_method")
	counter(&m.bytesIn, "causeway_request_bytes_total", "By", "Body bytes read from callers.", "route", "rpc_method")
	counter(&m.bytesOut, "causeway_response_bytes_total", "By", "Body bytes written to callers.", "route", "rpc_method")
	if err == nil {
		m.inFlight, err = env.Meter.Gauge("causeway_requests_in_flight", "", "Calls in the chain now.", "route")
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Wrap counts the calls in flight around next.
func (m *metrics) Wrap(next rpc.Handler) rpc.Handler { return &handler{metrics: m, next: next} }

type handler struct {
	metrics *metrics
	next    rpc.Handler
}

// Handle passes the call on.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	g := h.metrics.cells().flight(h.metrics, c.Route)
	g.Add(1)
	defer g.Add(-1)
	return h.next.Handle(ctx, c)
}

// Done counts the call. After the first call of its sort it neither locks nor allocates.
func (m *metrics) Done(c *rpc.Call, sent rpc.Sent) {
	g := m.cells().group(m, c)
	g.duration.ObserveDuration(sent.End.Sub(c.Times.Start))
	g.bytesIn.Add(sent.BytesIn)
	g.bytesOut.Add(sent.BytesOut)
	p := g.path(m, c.Service, c.Protocol)
	p.requests(m, g, sent.Code, sent.Status).Inc()
	if p.upstream != nil && c.Attempts > 0 {
		p.upstream.ObserveDuration(c.Times.Upstream)
	}
}

// cells are the cells bound since the meter last removed series. They are looked up by names, not by the pointers of a
// schema: an old schema's memory is not held.
type cells struct {
	epoch   uint64
	groups  table[key, *group]
	flights table[string, *telemetry.Gauge]
}

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

func (s *cells) flight(m *metrics, route string) *telemetry.Gauge {
	if g, ok := s.flights.get(route); ok {
		return g
	}
	return s.bindFlight(m, strings.Clone(route))
}

func (s *cells) bindFlight(m *metrics, route string) *telemetry.Gauge {
	return s.flights.obtain(route, func() *telemetry.Gauge { return m.inFlight.With(routeLabel(route)) })
}

// key is what most instruments tell apart.
type key struct{ route, method string }

// group holds the cells of a route's method.
type group struct {
	route, method     string // label values
	duration          *telemetry.Histogram
	bytesIn, bytesOut *telemetry.Counter
	paths             atomic.Pointer[path] // a list: nearly always one, at most services x protocols
}

func (s *cells) group(m *metrics, c *rpc.Call) *group {
	k := key{route: c.Route}
	if c.Method != nil {
		k.method = c.Method.Name
	}
	if g, ok := s.groups.get(k); ok {
		return g
	}
	return s.bindGroup(m, key{strings.Clone(k.route), strings.Clone(k.method)}) // it outlives the call
}

func (s *cells) bindGroup(m *metrics, k key) *group {
	return s.groups.obtain(k, func() *group {
		route, method := routeLabel(k.route), strings.TrimPrefix(k.method, "/")
		return &group{
			route: route, method: method,
			duration: m.duration.With(route, method),
			bytesIn:  m.bytesIn.With(route, method),
			bytesOut: m.bytesOut.With(route, method),
		}
	})
}

// path holds the cells of a group's calls by one protocol to one service.
type path struct {
	service, protocol string
	upstream          *telemetry.Histogram // nil where no service is
	byCode            [codes.Unauthenticated + 1]atomic.Pointer[answer]
	next              *path
}

func (g *group) path(m *metrics, service, protocol string) *path {
	for {
		first := g.paths.Load()
		for p := first; p != nil; p = p.next {
			if p.service == service && p.protocol == protocol {
				return p
			}
		}
		p := &path{service: strings.Clone(service), protocol: strings.Clone(protocol), next: first}
		if service != "" {
			p.upstream = m.upstream.With(service, g.method)
		}
		if g.paths.CompareAndSwap(first, p) {
			return p
		}
	}
}

// answer is the counter of one code and status, in a list of those with the same code: nearly always one.
type answer struct {
	status int
	cell   *telemetry.Counter
	next   *answer
}

// requests returns the counter of an answer.
func (p *path) requests(m *metrics, g *group, code codes.Code, status int) *telemetry.Counter {
	if uint64(code) >= uint64(len(p.byCode)) {
		code = codes.Unknown
	}
	if status < 100 || status > 599 {
		status = 0
	}
	head := &p.byCode[code]
	for {
		first := head.Load()
		for a := first; a != nil; a = a.next {
			if a.status == status {
				return a.cell
			}
		}
		cell := m.requests.With(g.route, p.service, g.method, p.protocol, rpc.CodeName(code), statusLabel(status))
		a := &answer{status: status, cell: cell, next: first}
		if head.CompareAndSwap(first, a) {
			return a.cell
		}
	}
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
