package proxy

import (
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/causeway-gateway/causeway/proxy/breaker"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/proxy/upstream"
)

// serviceGauges are the metrics of services and of the registries that know their instances.
type serviceGauges struct {
	instances *telemetry.GaugeVec
	stale     *telemetry.GaugeVec
	skipped   *telemetry.GaugeVec
	failed    *telemetry.CounterVec
	guarded   *telemetry.CounterVec
	ejections *telemetry.CounterVec
	retries   *telemetry.CounterVec
	breaker   *telemetry.GaugeVec
	refused   *telemetry.CounterVec
	probes    *telemetry.CounterVec
	probed    *telemetry.GaugeVec
}

func newServiceGauges(m *telemetry.Meter) (serviceGauges, error) {
	var g serviceGauges
	var errs []error
	gauge := func(to **telemetry.GaugeVec, name, unit, help string, labels ...string) {
		var err error
		*to, err = m.Gauge(name, unit, help, labels...)
		errs = append(errs, err)
	}
	counter := func(to **telemetry.CounterVec, name, help string, labels ...string) {
		var err error
		*to, err = m.Counter(name, "", help, labels...)
		errs = append(errs, err)
	}
	gauge(&g.instances, "causeway_service_instances", "", "Instances of a service, by what becomes of them.", "service", "state")
	gauge(&g.stale, "causeway_discovery_stale_seconds", "s", "How long a registry has not been heard of; its last instances stay in force. 0: it is there.", "service")
	gauge(&g.skipped, "causeway_discovery_skipped", "", "Entries of registries that could not be read or used.", "service")
	counter(&g.failed, "causeway_discovery_failures_total", "How often a registry was lost.", "service")
	counter(&g.guarded, "causeway_discovery_guarded_total", "How often more than half of the instances vanished at once, and were kept as long as they were well.", "service")
	counter(&g.ejections, "causeway_outlier_ejections_total", "Instances taken out because calls failed on them.", "service", "reason")
	counter(&g.retries, "causeway_retries_total", "Calls tried again: retried, hedged, or refused by the budget.", "service", "result")
	gauge(&g.breaker, "causeway_breaker_open", "", "1 while the breaker of a service refuses calls, or tries only some.", "service")
	counter(&g.refused, "causeway_breaker_refused_total", "Calls that a breaker did not let through.", "service", "reason")
	counter(&g.probes, "causeway_health_probes_total", "Probes of instances, by result.", "result")
	gauge(&g.probed, "causeway_health_endpoints", "", "Endpoints that are probed, by what is known of them.", "state")
	return g, errors.Join(errs...)
}

// retriesOf are the counters of a service's retries.
func (g *serviceGauges) retriesOf(service string) *retryCounts {
	return &retryCounts{
		retried: g.retries.With(service, "retried"),
		hedged:  g.retries.With(service, "hedged"),
		refused: g.retries.With(service, "refused"),
	}
}

// sampleServices brings the metrics of services up to date. g.mu is held.
func (g *Gateway) sampleServices() {
	m := &g.gauges.services
	if snap := g.snap.Load(); snap != nil {
		for _, sv := range snap.services {
			m.sample(sv.name, sv.up.Stats(), sv.up.Breaker())
		}
	}
	s := g.probers.Stats()
	total(m.probes.With("passed"), s.Passed)
	total(m.probes.With("failed"), s.Failed)
	m.probed.With("up").Set(int64(s.Up))
	m.probed.With("down").Set(int64(s.Down))
	m.probed.With("unknown").Set(int64(s.Unknown))
}

func (g *serviceGauges) sample(service string, s upstream.Stats, b *breaker.Breaker) {
	for state, n := range s.Instances {
		g.instances.With(service, string(state)).Set(int64(n))
	}
	g.stale.With(service).Set(int64(s.Stale.Seconds()))
	g.skipped.With(service).Set(int64(s.Skipped + s.LeftOut))
	total(g.failed.With(service), s.Fails)
	total(g.guarded.With(service), s.Guarded)
	for _, reason := range slices.Sorted(maps.Keys(s.Ejections)) {
		total(g.ejections.With(service, reason), s.Ejections[reason])
	}
	if b == nil {
		g.breaker.Delete(service) // there may have been one before
		return
	}
	st := b.State()
	open := int64(0)
	if st.Phase != breaker.Closed {
		open = 1
	}
	g.breaker.With(service).Set(open)
	total(g.refused.With(service, "full"), st.Full)
	total(g.refused.With(service, "open"), st.Refused)
	total(g.refused.With(service, "late"), st.Late)
}

// total brings a counter to what was counted elsewhere. It may be less than before where a service was made anew.
func total(c *telemetry.Counter, n uint64) { c.Add(int64(min(n, math.MaxInt64)) - c.Value()) }
