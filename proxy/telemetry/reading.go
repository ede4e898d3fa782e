package telemetry

import (
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Reading is a gauge with another product's name, whose values are read when somebody collects.
type Reading struct {
	Name, Help string
	Labels     []string
	// Read calls add for each series, with as many labels. It may ask the meter for Sum and Each.
	Read func(add func(value float64, labels ...string))
}

// Reading gives a reading out until stop is called. Of several with one name the last one is read.
func (m *Meter) Reading(r Reading) (stop func(), err error) {
	d := desc{kind: "gauge", name: r.Name, help: r.Help, labels: slices.Clone(r.Labels), foreign: true}
	if err := d.check(); err != nil {
		return nil, err
	}
	in := &reading{desc: d, from: r.Read}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.instruments = append(m.instruments, in)
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.instruments = slices.DeleteFunc(slices.Clone(m.instruments), func(i instrument) bool { return i == instrument(in) })
	}), nil
}

// reading is a Reading among the instruments.
type reading struct {
	desc desc
	from func(add func(float64, ...string))
}

func (r *reading) describe() *desc                 { return &r.desc }
func (r *reading) keep(int, func(string) bool) int { return 0 }

func (r *reading) read(now time.Time) metricdata.Aggregation {
	var points []metricdata.DataPoint[float64]
	r.from(func(value float64, labels ...string) {
		if len(labels) != len(r.desc.labels) || len(points) >= maxSeries {
			return
		}
		attrs := make([]attribute.KeyValue, len(labels))
		for i, l := range labels {
			attrs[i] = attribute.String(r.desc.labels[i], l)
		}
		points = append(points, metricdata.DataPoint[float64]{Attributes: attribute.NewSet(attrs...), Time: now, Value: value})
	})
	if len(points) == 0 {
		return nil
	}
	return metricdata.Gauge[float64]{DataPoints: points}
}

// superseded tells a reading that another one with its name came after.
func superseded(all []instrument, at int) bool {
	if _, ok := all[at].(*reading); !ok {
		return false
	}
	return slices.ContainsFunc(all[at+1:], func(i instrument) bool { return i.describe().name == all[at].describe().name })
}

// Sum is the sum over all series of a counter or gauge; 0 where there is none.
func (m *Meter) Sum(name string) float64 {
	var sum float64
	m.Each(name, func(v float64, _ []string) { sum += v })
	return sum
}

// Each calls f for each series of a counter or gauge, with the values of its labels in the instrument's order.
func (m *Meter) Each(name string, f func(value float64, labels []string)) {
	m.mu.Lock()
	at := slices.IndexFunc(m.instruments, func(i instrument) bool { return i.describe().name == name })
	var in instrument
	if at >= 0 {
		in = m.instruments[at]
	}
	m.mu.Unlock()
	switch v := in.(type) {
	case *CounterVec:
		v.each(func(s *series[Counter]) { f(float64(s.cell.Value()), s.values) })
	case *GaugeVec:
		v.each(func(s *series[Gauge]) { f(float64(s.cell.Value()), s.values) })
	}
}

func (v *Vec[C]) each(f func(*series[C])) {
	v.mu.RLock()
	all := make([]*series[C], 0, len(v.series))
	for _, s := range v.series {
		all = append(all, s)
	}
	v.mu.RUnlock()
	for _, s := range all {
		f(s)
	}
}
