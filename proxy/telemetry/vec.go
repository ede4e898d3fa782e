package telemetry

import (
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Other is the value of every label of the series that takes what is over an instrument's bound.
const Other = "__other__"

// Unmatched is the value of the label "route" for calls that no route took.
const Unmatched = "unmatched"

// maxSeries bounds the series of one instrument: a mistake in labels must cost neither memory nor the monitoring system.
const maxSeries = 10_000

// Vec is one instrument with all its series. It is safe for concurrent use.
type Vec[C any] struct {
	desc  desc
	meter *Meter
	cell  func() *C
	data  func([]*series[C], time.Time) metricdata.Aggregation

	mu     sync.RWMutex
	series map[string]*series[C]
}

type (
	// CounterVec is an instrument of counters.
	CounterVec = Vec[Counter]
	// GaugeVec is an instrument of gauges.
	GaugeVec = Vec[Gauge]
	// HistogramVec is an instrument of histograms.
	HistogramVec = Vec[Histogram]
)

// series is one combination of label values. It never changes; only its cell does.
type series[C any] struct {
	values []string
	attrs  attribute.Set
	start  time.Time
	cell   *C
}

// With returns the cell of the series with these label values, in the order of the instrument's labels; the first asking
// makes it. It is meant for binding, not for a call's path: whoever keeps the cell asks again when Meter.Epoch has changed.
//
// Past 10,000 series the cell is the one of the series whose labels are all Other, and
// causeway_metrics_series_folded_total counts it. So it does when the number of values is wrong.
func (v *Vec[C]) With(values ...string) *C {
	if len(values) != len(v.desc.labels) {
		return v.fold()
	}
	key := seriesKey(values)
	v.mu.RLock()
	s := v.series[key]
	v.mu.RUnlock()
	if s != nil {
		return s.cell
	}
	v.mu.Lock()
	if v.series[key] == nil && len(v.series) >= maxSeries {
		v.mu.Unlock()
		return v.fold()
	}
	defer v.mu.Unlock()
	return v.obtain(key, values)
}

// fold returns the cell of the series for the rest.
func (v *Vec[C]) fold() *C {
	v.meter.countFolded(v.desc.name)
	values := make([]string, len(v.desc.labels))
	for i := range values {
		values[i] = Other
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.obtain(seriesKey(values), values)
}

// obtain returns the cell of a series, made now if need be. The caller holds v.mu.
func (v *Vec[C]) obtain(key string, values []string) *C {
	if s := v.series[key]; s != nil {
		return s.cell
	}
	s := &series[C]{start: time.Now(), cell: v.cell(), values: make([]string, len(values))}
	attrs := make([]attribute.KeyValue, len(values))
	for i, value := range values {
		// Cloned: the value may be a part of something larger. Made valid: one bad label would spoil the whole read-out.
		s.values[i] = strings.Clone(strings.ToValidUTF8(value, "\ufffd"))
		attrs[i] = attribute.String(v.desc.labels[i], s.values[i])
	}
	s.attrs = attribute.NewSet(attrs...)
	v.series[key] = s
	return s.cell
}

// seriesKey joins label values by a byte that no valid text holds.
func seriesKey(values []string) string {
	if len(values) == 1 {
		return strings.ToValidUTF8(values[0], "\ufffd")
	}
	var b strings.Builder
	for _, value := range values {
		b.WriteString(strings.ToValidUTF8(value, "\ufffd"))
		b.WriteByte(0xff)
	}
	return b.String()
}

// Delete removes one series. Who still holds its cell counts into nothing; see Meter.Epoch.
func (v *Vec[C]) Delete(values ...string) {
	key := seriesKey(values)
	v.mu.Lock()
	_, found := v.series[key]
	delete(v.series, key)
	v.mu.Unlock()
	if found {
		v.meter.epoch.Add(1) // after the removal: who has seen the new epoch finds no removed cell
	}
}

// Clear removes all series, as Delete does.
func (v *Vec[C]) Clear() {
	v.mu.Lock()
	clear(v.series)
	v.mu.Unlock()
	v.meter.epoch.Add(1) // after the removal, as above
}

// Len is the number of series.
func (v *Vec[C]) Len() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.series)
}

func (v *Vec[C]) describe() *desc { return &v.desc }

// keep removes the series whose value of label i is not wanted any more and returns how many there were.
func (v *Vec[C]) keep(i int, wanted func(value string) bool) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	removed := 0
	for key, s := range v.series {
		switch value := s.values[i]; {
		case value == "", value == Other, value == Unmatched, wanted(value):
		default:
			delete(v.series, key)
			removed++
		}
	}
	return removed
}

// read returns the instrument's values as of now, nil while it has no series.
func (v *Vec[C]) read(now time.Time) metricdata.Aggregation {
	v.mu.RLock()
	all := make([]*series[C], 0, len(v.series))
	for _, s := range v.series {
		all = append(all, s)
	}
	v.mu.RUnlock()
	if len(all) == 0 {
		return nil
	}
	return v.data(all, now)
}

func counterData(all []*series[Counter], now time.Time) metricdata.Aggregation {
	points := make([]metricdata.DataPoint[int64], len(all))
	for i, s := range all {
		points[i] = metricdata.DataPoint[int64]{Attributes: s.attrs, StartTime: s.start, Time: now, Value: s.cell.Value()}
	}
	return metricdata.Sum[int64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
}

func gaugeData(all []*series[Gauge], now time.Time) metricdata.Aggregation {
	points := make([]metricdata.DataPoint[int64], len(all))
	for i, s := range all {
		points[i] = metricdata.DataPoint[int64]{Attributes: s.attrs, Time: now, Value: s.cell.Value()}
	}
	return metricdata.Gauge[int64]{DataPoints: points}
}

func histogramData(all []*series[Histogram], now time.Time) metricdata.Aggregation {
	points := make([]metricdata.HistogramDataPoint[float64], len(all))
	for i, s := range all {
		p := metricdata.HistogramDataPoint[float64]{
			Attributes: s.attrs, StartTime: s.start, Time: now,
			Bounds: s.cell.bounds, BucketCounts: make([]uint64, len(s.cell.buckets)),
		}
		p.Sum = s.cell.Sum()
		for b := range s.cell.buckets {
			p.BucketCounts[b] = s.cell.buckets[b].Load()
			p.Count += p.BucketCounts[b]
		}
		points[i] = p
	}
	return metricdata.Histogram[float64]{DataPoints: points, Temporality: metricdata.CumulativeTemporality}
}
