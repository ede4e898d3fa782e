package telemetry

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// ExportConfig says where signals are sent.
type ExportConfig struct {
	Endpoint string // host:port; with HTTP an URL without path
	HTTP     bool   // else gRPC
	Headers  map[string]string
	TLS      *tls.Config // nil: plain text

	Traces, Metrics, Logs bool

	Interval time.Duration // between two readings of the metrics, 0: 15 s
	Timeout  time.Duration // of one request, 0: 10 s
	Resource map[string]string
	Version  string
}

// Bounds of what is kept and sent.
const (
	maxSpans      = 2048        // that wait; more are dropped and counted
	batchSpans    = 512         // in one request
	spanLinger    = time.Second // how long a span waits for others
	maxAnswer     = 1 << 20     // bytes of a collector's answer that are read; what is longer is an error
	endWithin     = time.Second // how long the end of an export sends what is left
	retryFirst    = 500 * time.Millisecond
	retryAtMost   = 5 * time.Second
	maxExportSize = 16 << 20 // bytes of one request
)

// Exports send traces, metrics and logs to a collector. They live as long as the gateway; where they send to changes with its
// configuration. Nothing that calls use ever waits for a collector. Safe for concurrent use.
type Exports struct {
	meter   *Meter
	log     *slog.Logger
	sample  func()
	spans   *Spans
	dropped *CounterVec
	sent    *CounterVec

	current atomic.Pointer[Export]
	mu      sync.Mutex
	ending  sync.WaitGroup
}

// NewExports makes exports that send nothing so far. sample, if not nil, is called before metrics are read.
func NewExports(m *Meter, log *slog.Logger, sample func()) (*Exports, error) {
	e := &Exports{meter: m, log: log, sample: sample}
	var err, other error
	e.dropped, err = m.Counter("causeway_telemetry_dropped_total", "",
		"Spans, log lines and readings of metrics that were not delivered to the collector.", "signal", "reason")
	e.sent, other = m.Counter("causeway_telemetry_sent_total", "",
		"Spans, log lines and readings of metrics that were delivered to the collector.", "signal")
	if err := errors.Join(err, other); err != nil {
		return nil, err
	}
	e.spans = &Spans{queue: make(chan *Span, maxSpans), dropped: e.dropped.With("traces", "queue_full")}
	return e, nil
}

// Spans takes spans, whether or not they are sent.
func (e *Exports) Spans() *Spans { return e.spans }

// Export is one configuration put into effect: made by New, started by Use.
type Export struct {
	of     *Exports
	conf   ExportConfig
	res    *resource.Resource
	ctx    context.Context // of its requests
	cancel context.CancelFunc
	stop   chan struct{}
	once   sync.Once
	used   atomic.Bool
	run    sync.WaitGroup

	traces  otlptrace.Client
	metrics sdkmetric.Exporter
	logs    sdklog.Exporter //nolint:forbidigo // OpenTelemetry's log, not the standard library's
	emit    *emitter

	failing [signals]atomic.Bool
}

type signal int

const (
	traces signal = iota
	metricsSignal
	logs
	signals
)

func (s signal) String() string { return [...]string{"traces", "metrics", "logs"}[s] }

// New makes an export and starts nothing: it dials with the first thing that is sent. The caller uses or closes it.
func (e *Exports) New(conf ExportConfig) (*Export, error) {
	conf.Interval, conf.Timeout = cmp.Or(conf.Interval, 15*time.Second), cmp.Or(conf.Timeout, 10*time.Second)
	x := &Export{of: e, conf: conf, res: conf.resource(), stop: make(chan struct{})}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	if err := x.dial(); err != nil {
		x.Close()
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return x, nil
}

func (c *ExportConfig) resource() *resource.Resource {
	all := maps.Clone(c.Resource)
	if all == nil {
		all = map[string]string{}
	}
	all["service.name"] = cmp.Or(all["service.name"], "causeway")
	if c.Version != "" {
		all["service.version"] = cmp.Or(all["service.version"], c.Version)
	}
	var attrs []attribute.KeyValue
	for _, k := range slices.Sorted(maps.Keys(all)) {
		attrs = append(attrs, attribute.String(k, all[k]))
	}
	return resource.NewSchemaless(attrs...)
}

// Use sends by x from now on; nil: nothing is sent. What the former export has to send is sent meanwhile, for at most a
// second. The same again changes nothing.
func (e *Exports) Use(x *Export) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.current.Load()
	if old == x {
		return
	}
	e.spans.active.Store(x != nil && x.conf.Traces)
	e.current.Store(x)
	if old != nil {
		e.ending.Go(old.end)
	}
	if x != nil {
		x.used.Store(true)
		x.start()
	}
}

// Close sends what is left, for about a second, and sends nothing more.
func (e *Exports) Close() {
	e.Use(nil)
	e.ending.Wait()
}

// Close gives up an export that was never used. Another one goes on until it is not used any more.
func (x *Export) Close() {
	if !x.used.Load() {
		x.end()
	}
}

func (x *Export) start() {
	if x.conf.Traces {
		x.run.Go(func() { x.guarded(traces, x.sendSpans) })
	}
	if x.conf.Metrics {
		x.run.Go(func() { x.guarded(metricsSignal, x.sendMetrics) })
	}
}

// guarded runs a loop until it ends; a panic in an exporter costs that signal, not the gateway.
func (x *Export) guarded(s signal, loop func()) {
	defer func() {
		if r := recover(); r != nil {
			x.of.log.Error("panic in an exporter; its signal is not sent any more", "signal", s.String(), "panic", r, "stack", string(debug.Stack()))
		}
	}()
	loop()
}

// end stops the loops, which send what they have, and closes the connections.
func (x *Export) end() {
	x.once.Do(func() {
		close(x.stop)
		hurry := time.AfterFunc(endWithin, x.cancel)
		x.run.Wait()
		hurry.Stop()
		x.cancel()
		ctx, cancel := context.WithTimeout(context.Background(), endWithin)
		defer cancel()
		var errs []error
		if x.traces != nil {
			errs = append(errs, x.traces.Stop(ctx))
		}
		if x.metrics != nil {
			errs = append(errs, x.metrics.Shutdown(ctx))
		}
		if x.logs != nil {
			errs = append(errs, x.logs.Shutdown(ctx)) //nolint:forbidigo // as above
		}
		if err := errors.Join(errs...); err != nil {
			x.of.log.Debug("the connections to the collector ended with an error", "error", err)
		}
	})
}

// report counts n of a signal as sent, or as lost by err, which the log is told of once until it goes well again.
func (x *Export) report(s signal, n int, err error) {
	if err == nil {
		x.of.sent.With(s.String()).Add(int64(n))
		if x.failing[s].Swap(false) {
			x.of.log.Info("the collector takes what is sent again", "signal", s.String())
		}
		return
	}
	x.of.dropped.With(s.String(), "export_failed").Add(int64(n))
	if !x.failing[s].Swap(true) {
		x.of.log.Warn("the collector does not take what is sent; it is dropped and counted", "signal", s.String(), "endpoint", x.conf.Endpoint, "error", err)
	}
}

// Host is the host and port of the collector.
func (c *ExportConfig) Host() string {
	host, _, err := c.address()
	if err != nil {
		return ""
	}
	return host
}

// address is the host and port, and whether plain text is spoken there.
func (c *ExportConfig) address() (hostport string, plain bool, err error) {
	if !c.HTTP {
		return c.Endpoint, c.TLS == nil, nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return "", false, err
	}
	return u.Host, u.Scheme == "http", nil
}
