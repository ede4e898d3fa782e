package telemetry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Meter makes instruments and reads them out. It lives as long as the gateway: instruments outlive snapshots. Safe for
// concurrent use.
type Meter struct {
	registry *prometheus.Registry
	folded   *CounterVec
	epoch    atomic.Uint64

	mu          sync.Mutex
	instruments []instrument
}

// instrument is a Vec of any sort.
type instrument interface {
	describe() *desc
	read(now time.Time) metricdata.Aggregation
	keep(label int, wanted func(value string) bool) int
}

// desc is an instrument's shape.
type desc struct {
	kind, name, unit, help string
	labels                 []string
	bounds                 []float64
	foreign                bool // the name is another product's
}

func (d *desc) String() string {
	s := fmt.Sprintf("%s{%s}, unit %q, help %q", d.kind, strings.Join(d.labels, ","), d.unit, d.help)
	if d.bounds != nil {
		s += fmt.Sprintf(", buckets %v", d.bounds)
	}
	return s
}

func (d *desc) equal(o *desc) bool {
	return d.kind == o.kind && d.unit == o.unit && d.help == o.help &&
		slices.Equal(d.labels, o.labels) && slices.Equal(d.bounds, o.bounds)
}

// NewMeter makes a meter with the instruments of the Go runtime and of the process. It starts no goroutine.
func NewMeter() (*Meter, error) {
	m := &Meter{registry: prometheus.NewRegistry()}
	var err error
	m.folded, err = m.Counter("causeway_metrics_series_folded_total", "",
		"Series asked for beyond an instrument's bound, counted under the label value "+Other+".", "metric")
	if err != nil {
		return nil, err
	}
	exporter, err := otelprom.New(
		otelprom.WithRegisterer(m.registry),
		otelprom.WithProducer(producer{m}),
		// Names come out as they are given; Meter checks them.
		otelprom.WithTranslationStrategy("UnderscoreEscapingWithoutSuffixes"),
		otelprom.WithoutScopeInfo(),
		otelprom.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	// A reader collects only once a provider has taken it; the provider has no instruments of its own.
	sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
	}
	return m, nil
}

// Counter returns the instrument of this name, made now if there is none. The same name with another shape is an error.
//
// The name begins with causeway_ and ends in _total, the unit's suffix before that; unit is "", "s" or "By".
func (m *Meter) Counter(name, unit, help string, labels ...string) (*CounterVec, error) {
	return obtain(m, desc{kind: "counter", name: name, unit: unit, help: help, labels: labels},
		func() *Counter { return new(Counter) }, counterData)
}

// Gauge is as Counter; the name ends in the unit's suffix.
func (m *Meter) Gauge(name, unit, help string, labels ...string) (*GaugeVec, error) {
	return obtain(m, desc{kind: "gauge", name: name, unit: unit, help: help, labels: labels},
		func() *Gauge { return new(Gauge) }, gaugeData)
}

// Histogram is as Gauge; bounds are the buckets' upper bounds in the unit, inclusive and rising, without infinity.
func (m *Meter) Histogram(name, unit, help string, bounds []float64, labels ...string) (*HistogramVec, error) {
	bounds = slices.Clone(bounds)
	return obtain(m, desc{kind: "histogram", name: name, unit: unit, help: help, labels: labels, bounds: bounds},
		func() *Histogram { return newHistogram(bounds, time.Second) }, histogramData)
}

// ForeignCounter is as Counter, with another product's name.
func (m *Meter) ForeignCounter(name, help string, labels ...string) (*CounterVec, error) {
	return obtain(m, desc{kind: "counter", name: name, help: help, labels: labels, foreign: true},
		func() *Counter { return new(Counter) }, counterData)
}

// ForeignHistogram is as Histogram, with another product's name; bounds are in unit, as ObserveDuration counts.
func (m *Meter) ForeignHistogram(name, help string, unit time.Duration, bounds []float64, labels ...string) (*HistogramVec, error) {
	bounds = slices.Clone(bounds)
	return obtain(m, desc{kind: "histogram", name: name, help: help, labels: labels, bounds: bounds, foreign: true},
		func() *Histogram { return newHistogram(bounds, unit) }, histogramData)
}

func obtain[C any](m *Meter, d desc, cell func() *C, data func([]*series[C], time.Time) metricdata.Aggregation) (*Vec[C], error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("metric %s: %w", d.name, err)
	}
	d.labels = slices.Clone(d.labels)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, in := range m.instruments {
		had := in.describe()
		if had.name != d.name {
			continue
		}
		if v, ok := in.(*Vec[C]); ok && had.equal(&d) {
			return v, nil
		}
		return nil, fmt.Errorf("metric %s: asked for as %s, but is %s since the start; restart to change it", d.name, &d, had)
	}
	v := &Vec[C]{desc: d, meter: m, cell: cell, data: data, series: map[string]*series[C]{}}
	m.instruments = append(m.instruments, v)
	return v, nil
}

var (
	metricName = regexp.MustCompile(`^causeway(_[a-z0-9]+)+$`)
	otherName  = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)+$`)
	labelName  = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
)

// check refuses what would come out under another name, or be refused, at some reader.
func (d *desc) check() error {
	if d.foreign {
		if !otherName.MatchString(d.name) || metricName.MatchString(d.name) {
			return errors.New(`want a name of lower case words joined by "_" that does not begin with causeway_`)
		}
		return d.checkRest()
	}
	if !metricName.MatchString(d.name) {
		return errors.New(`want a name of lower case words joined by "_" that begins with causeway_`)
	}
	base, total := strings.CutSuffix(d.name, "_total")
	if total != (d.kind == "counter") {
		return errors.New("want _total at the end of a counter's name and of no other's")
	}
	suffix, known := map[string]string{"": "", "s": "_seconds", "By": "_bytes"}[d.unit]
	if !known {
		return fmt.Errorf(`want unit "", "s" or "By", found %q`, d.unit)
	}
	if !strings.HasSuffix(base, suffix) {
		return fmt.Errorf("want %s at the end of the name of a metric in unit %q", suffix, d.unit)
	}
	return d.checkRest()
}

// checkRest refuses help, labels and buckets that no instrument has.
func (d *desc) checkRest() error {
	if d.help == "" {
		return errors.New("want a help text")
	}
	for i, label := range d.labels {
		if !labelName.MatchString(label) || label == "le" || slices.Contains(d.labels[:i], label) {
			return fmt.Errorf("want distinct labels of lower case words, found %q", label)
		}
	}
	if d.kind != "histogram" {
		return nil
	}
	if len(d.bounds) == 0 {
		return errors.New("want one bucket or more")
	}
	for i, b := range d.bounds {
		if math.IsNaN(b) || math.IsInf(b, 0) || i > 0 && b <= d.bounds[i-1] {
			return fmt.Errorf("want finite, rising bucket bounds, found %v", d.bounds)
		}
	}
	return nil
}

// Keep removes, from every instrument with this label, the series whose value of it is not wanted any more: those of
// routes, services or methods that are gone. The values "", Other and Unmatched stay.
func (m *Meter) Keep(label string, wanted func(value string) bool) {
	m.mu.Lock()
	instruments := slices.Clone(m.instruments)
	m.mu.Unlock()
	removed := 0
	for _, in := range instruments {
		if i := slices.Index(in.describe().labels, label); i >= 0 {
			removed += in.keep(i, wanted)
		}
	}
	if removed > 0 {
		m.epoch.Add(1) // after the removal: who has seen the new epoch finds no removed cell
	}
}

// Epoch changes whenever series were removed. Who keeps cells loads it before binding them, and binds them anew when it
// differs; else a series that comes back would be counted into a cell that nobody reads.
func (m *Meter) Epoch() uint64 { return m.epoch.Load() }

func (m *Meter) countFolded(name string) {
	if m.folded != nil && m.folded.desc.name != name {
		m.folded.With(name).Inc()
	}
}

// Handler serves all instruments in Prometheus' text format. It may be called by many at once: those who come while a
// collection runs share it.
func (m *Meter) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry:       m.registry,
		ErrorHandling:  promhttp.ContinueOnError,
		CoalesceGather: true,
	})
}

// producer lends the cells to readers of OpenTelemetry's SDK.
type producer struct{ m *Meter }

// Produce returns the values of all instruments as of now.
func (p producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	p.m.mu.Lock()
	instruments := slices.Clone(p.m.instruments)
	p.m.mu.Unlock()
	now := time.Now()
	var scope metricdata.ScopeMetrics
	scope.Scope.Name = scopeName
	for i, in := range instruments {
		if superseded(instruments, i) {
			continue
		}
		if data := in.read(now); data != nil {
			d := in.describe()
			scope.Metrics = append(scope.Metrics, metricdata.Metrics{Name: d.name, Description: d.help, Unit: d.unit, Data: data})
		}
	}
	return []metricdata.ScopeMetrics{scope}, nil
}
