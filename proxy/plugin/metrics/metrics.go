// Package metrics is the plugin metrics: it counts calls, their latency and their bytes per route, service, method, consumer
// and code.
//
// Labels come from the configuration, the schemas and the gateway's own constants alone, never from a request.
package metrics

import (
	"fmt"
	"io"
	"math"
	"sync/atomic"

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
	meter     *telemetry.Meter
	consumers bool
	known     func(name string) *rpc.Consumer
	apisix    *apisix // nil: switched off

	requests *telemetry.CounterVec
	duration *telemetry.HistogramVec
	upstream *telemetry.HistogramVec
	bytesIn  *telemetry.CounterVec
	bytesOut *telemetry.CounterVec

	bound atomic.Pointer[cells]
}

var (
	_ rpc.Finisher = (*metrics)(nil)
	_ io.Closer    = (*metrics)(nil)
)

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
		return nil, plugin.Faultf("buckets", "remove some", "want at most %d, found %d", maxBuckets, len(buckets))
	}
	for i, b := range buckets {
		if math.IsNaN(b) || math.IsInf(b, 0) || b <= 0 || i > 0 && b <= buckets[i-1] {
			return nil, plugin.Faultf(fmt.Sprintf("buckets[%d]", i), "write bounds like [0.01, 0.1, 1]",
				"want bounds in seconds above 0 that rise, found %v", b)
		}
	}
	m := &metrics{meter: env.Meter, consumers: conf.GetConsumers(), known: env.Consumer}
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
		"Calls that ended.", "route", "service", "rpc_method", "protocol", "consumer", "code", "status")
	histogram(&m.duration, "causeway_request_duration_seconds",
		"Time from a call's head to the last byte of its answer.", "route", "service", "rpc_method", "consumer")
	histogram(&m.upstream, "causeway_upstream_duration_seconds",
		"Time that calls waited for their upstream, all attempts.", "service", "rpc_method")
	counter(&m.bytesIn, "causeway_request_bytes_total", "By", "Body bytes read from callers.", "route", "service", "rpc_method", "consumer")
	counter(&m.bytesOut, "causeway_response_bytes_total", "By", "Body bytes written to callers.", "route", "service", "rpc_method", "consumer")
	if err == nil && conf.GetApisix() {
		m.apisix, err = newAPISIX(env.Meter)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Close takes the metrics by foreign names away.
func (m *metrics) Close() error {
	if m.apisix != nil {
		m.apisix.close()
	}
	return nil
}

// Wrap returns next: the plugin has nothing to do before a call's end.
func (m *metrics) Wrap(next rpc.Handler) rpc.Handler { return next }

// Done counts the call. After the first call of its sort it neither locks nor allocates.
func (m *metrics) Done(c *rpc.Call, sent rpc.Sent) {
	g := m.cells().group(m, c)
	took := sent.End.Sub(c.Times.Start)
	g.duration.ObserveDuration(took)
	g.bytesIn.Add(sent.BytesIn)
	g.bytesOut.Add(sent.BytesOut)
	g.answered(m, sent.Code, sent.Status).Inc()
	if g.upstream != nil && c.Attempts > 0 {
		g.upstream.ObserveDuration(c.Times.Upstream)
	}
	if m.apisix != nil {
		m.apisix.count(g, c, &sent, took)
	}
}
