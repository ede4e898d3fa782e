package metrics

import (
	"math"
	"os"
	"runtime/debug"
	rtmetrics "runtime/metrics"
	"strings"
	"time"

	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// apisix are the metrics of Apache APISIX's plugin prometheus: the same names, labels and milliseconds, so that dashboards made
// for it go on. What is counted already is renamed when somebody collects; what has other labels or buckets is counted here.
type apisix struct {
	status    *telemetry.CounterVec
	latency   *telemetry.HistogramVec
	bandwidth *telemetry.CounterVec
	stop      []func()
}

// apisixBuckets are upper bounds in milliseconds.
func apisixBuckets() []float64 {
	return []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000}
}

// Values of labels that APISIX has and that say nothing here.
const (
	requestType = "traditional_http"
	noModel     = ""
	anyHost     = ""
)

func newAPISIX(m *telemetry.Meter) (*apisix, error) {
	a := &apisix{}
	var err error
	if a.status, err = m.ForeignCounter("apisix_http_status", "HTTP status codes per service and route.",
		"code", "route", "matched_uri", "matched_host", "service", "consumer", "node", "request_type", "request_llm_model", "llm_model", "response_source"); err != nil {
		return nil, err
	}
	if a.latency, err = m.ForeignHistogram("apisix_http_latency", "Latency in milliseconds.", time.Millisecond, apisixBuckets(),
		"type", "route", "service", "consumer", "node", "request_type", "request_llm_model", "llm_model"); err != nil {
		return nil, err
	}
	if a.bandwidth, err = m.ForeignCounter("apisix_bandwidth", "Bytes of bodies.",
		"type", "route", "service", "consumer", "node", "request_type", "request_llm_model", "llm_model"); err != nil {
		return nil, err
	}
	for _, r := range renamed(m) {
		stop, err := m.Reading(r)
		if err != nil {
			a.close()
			return nil, err
		}
		a.stop = append(a.stop, stop)
	}
	return a, nil
}

// close takes them away.
func (a *apisix) close() {
	for _, stop := range a.stop {
		stop()
	}
	a.status.Clear()
	a.latency.Clear()
	a.bandwidth.Clear()
}

// nodeCells are the cells of a group's calls that one instance answered, or none.
type nodeCells struct {
	request, upstream, own *telemetry.Histogram
	ingress, egress        *telemetry.Counter
	byStatus               table[answerKey, *telemetry.Counter]
}

type answerKey struct {
	status int
	source string
}

// count counts a call that ended.
func (a *apisix) count(g *group, c *rpc.Call, sent *rpc.Sent, took time.Duration) {
	n, ok := g.nodes.get(c.Node)
	if !ok {
		node := strings.Clone(c.Node)
		n = g.nodes.obtain(node, func() *nodeCells { return a.newNode(g, node) })
	}
	n.request.ObserveDuration(took)
	own := took
	if c.Attempts > 0 {
		n.upstream.ObserveDuration(c.Times.Upstream)
		own -= c.Times.Upstream
	}
	n.own.ObserveDuration(own)
	n.ingress.Add(sent.BytesIn)
	n.egress.Add(sent.BytesOut)
	k := answerKey{status: bounded(sent.Status), source: "upstream"}
	if c.Attempts == 0 || sent.Reason != "" {
		k.source = "apisix"
	}
	counter, ok := n.byStatus.get(k)
	if !ok {
		counter = n.byStatus.obtain(k, func() *telemetry.Counter {
			v := g.labels()
			return a.status.With(statusLabel(k.status), v[0], "/"+v[2], anyHost, v[1], v[3], hostOf(c.Node), requestType, noModel, noModel, k.source)
		})
	}
	counter.Inc()
}

func (a *apisix) newNode(g *group, node string) *nodeCells {
	v, host := g.labels(), hostOf(node)
	latency := func(kind string) *telemetry.Histogram {
		return a.latency.With(kind, v[0], v[1], v[3], host, requestType, noModel, noModel)
	}
	bytes := func(kind string) *telemetry.Counter {
		return a.bandwidth.With(kind, v[0], v[1], v[3], host, requestType, noModel, noModel)
	}
	return &nodeCells{
		request: latency("request"), upstream: latency("upstream"), own: latency("apisix"),
		ingress: bytes("ingress"), egress: bytes("egress"),
	}
}

// hostOf is the host of an instance's address: APISIX labels nodes so.
func hostOf(node string) string {
	host, _, ok := cutLast(node, ':')
	if !ok {
		return node
	}
	return strings.Trim(host, "[]")
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// renamed are the metrics that are read from the gateway's own when somebody collects.
func renamed(m *telemetry.Meter) []telemetry.Reading {
	one := func(name, help string, value func() float64) telemetry.Reading {
		return telemetry.Reading{Name: name, Help: help, Read: func(add func(float64, ...string)) { add(value()) }}
	}
	return []telemetry.Reading{
		one("apisix_http_requests_total", "Requests since the start.", func() float64 { return m.Sum("causeway_requests_total") }),
		one("apisix_nginx_metric_errors_total", "Series that were folded.", func() float64 { return m.Sum("causeway_metrics_series_folded_total") }),
		one("apisix_etcd_reachable", "1 while the configuration can be read.", func() float64 { return m.Sum("causeway_config_last_reload_success") }),
		{Name: "apisix_nginx_http_current_connections", Help: "Connections of callers.", Labels: []string{"state"}, Read: func(add func(float64, ...string)) {
			active, accepted, writing := m.Sum("causeway_connections"), m.Sum("causeway_connections_accepted_total"), m.Sum("causeway_requests_in_flight")
			add(active, "active")
			add(accepted, "accepted")
			add(accepted, "handled")
			add(0, "reading")
			add(writing, "writing")
			add(math.Max(active-writing, 0), "waiting")
		}},
		{Name: "apisix_etcd_modify_indexes", Help: "Revision of the configuration.", Labels: []string{"key"}, Read: func(add func(float64, ...string)) {
			revision := m.Sum("causeway_config_revision")
			for _, k := range []string{"consumers", "global_rules", "max_modify_index", "prev_index", "protos", "routes", "services", "ssls", "stream_routes", "upstreams", "x_etcd_index"} {
				add(revision, k)
			}
		}},
		{Name: "apisix_node_info", Help: "The gateway.", Labels: []string{"hostname", "version"}, Read: func(add func(float64, ...string)) {
			host, _ := os.Hostname() // else it is unknown
			add(1, host, version())
		}},
		{Name: "apisix_upstream_status", Help: "1: the instance is in use.", Labels: []string{"name", "ip", "port"}, Read: func(add func(float64, ...string)) {
			m.Each("causeway_service_instance_up", func(value float64, labels []string) {
				host, port, _ := cutLast(labels[1], ':')
				add(value, labels[0], strings.Trim(host, "[]"), port)
			})
		}},
		{Name: "apisix_shared_dict_capacity_bytes", Help: "Memory that may be used.", Labels: []string{"name"}, Read: func(add func(float64, ...string)) {
			capacity, _ := memory()
			add(capacity, "go-memory")
		}},
		{Name: "apisix_shared_dict_free_space_bytes", Help: "Memory that is free.", Labels: []string{"name"}, Read: func(add func(float64, ...string)) {
			_, free := memory()
			add(free, "go-memory")
		}},
	}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "dev"
}

// memory is how much memory the process may use and how much of that is free; without a limit, of what it holds.
func memory() (capacity, free float64) {
	s := []rtmetrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/gc/gomemlimit:bytes"},
	}
	rtmetrics.Read(s)
	v := make([]float64, len(s))
	for i := range s {
		if s[i].Value.Kind() == rtmetrics.KindUint64 {
			v[i] = float64(s[i].Value.Uint64())
		}
	}
	total, idle, limit := v[0], v[1]+v[2]+v[3], v[4]
	if limit > 0 && limit < math.MaxInt64/2 {
		return limit, math.Max(limit-(total-idle), 0)
	}
	return total, idle
}
