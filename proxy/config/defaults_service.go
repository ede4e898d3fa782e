package config

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
)

// What a document does not say of registries and of how services are called.
const (
	defaultRoot        = "/causeway"
	defaultSession     = 6 * time.Second
	defaultAskInterval = 10 * time.Second
	defaultWeight      = 100

	defaultPolicy        = "round_robin"
	defaultPanic         = 0.5
	defaultOverprovision = 1.4

	defaultProbeInterval  = time.Second
	defaultProbeTimeout   = time.Second
	defaultProbeUnhealthy = 2
	defaultProbeHealthy   = 1

	defaultConsecutive = 5
	defaultFailureRate = 0.5
	defaultMinCalls    = 20
	defaultWindow      = 10 * time.Second
	defaultEjection    = 5 * time.Second
	defaultMaxEjection = 300 * time.Second
	defaultMostEjected = 0.5

	defaultPendingTimeout = time.Second
	defaultBreakerOpen    = 5 * time.Second

	defaultAttempts = 3
	defaultBudget   = 0.2
)

func finishRegistry(r *configv1.Registry) {
	if z := r.GetZookeeper(); z != nil {
		setDefault(&z.Root, defaultRoot)
		setSpan(&z.Session, defaultSession)
	}
	if d := r.GetDns(); d != nil {
		setSpan(&d.Interval, defaultAskInterval)
	}
	if t := r.GetTars(); t != nil {
		setSpan(&t.Interval, defaultAskInterval)
	}
}

func finishService(s *configv1.Service) {
	for _, e := range s.GetEndpoints() {
		setDefault(&e.Weight, proto.Uint32(defaultWeight))
	}
	for _, d := range s.GetDiscovery() {
		setDefault(&d.Service, s.GetName())
		if len(d.GetProtocols()) == 0 {
			d.Protocols = []string{s.GetAdapter()}
			if s.GetAdapter() == "grpc" {
				d.Protocols = []string{"grpc", "grpcs", "tri", "triple"}
			}
		}
	}
	setDefault(&s.Balancer, &configv1.Balancer{})
	b := s.GetBalancer()
	setDefault(&b.Policy, defaultPolicy)
	setDefault(&b.Panic, proto.Float64(defaultPanic))
	setDefault(&b.Overprovision, defaultOverprovision)
	if h := s.GetHealthCheck(); h != nil {
		setSpan(&h.Interval, defaultProbeInterval)
		setSpan(&h.Timeout, min(defaultProbeTimeout, h.GetInterval().AsDuration()*4/5))
		setDefault(&h.Unhealthy, defaultProbeUnhealthy)
		setDefault(&h.Healthy, defaultProbeHealthy)
		if c := h.GetHttp(); c != nil {
			setDefault(&c.Path, "/")
			if len(c.GetStatuses()) == 0 {
				c.Statuses = []string{"200-399"}
			}
		}
	}
	setDefault(&s.Outliers, &configv1.Outliers{})
	o := s.GetOutliers()
	setDefault(&o.Consecutive, defaultConsecutive)
	setDefault(&o.FailureRate, proto.Float64(defaultFailureRate))
	setDefault(&o.MinCalls, defaultMinCalls)
	setSpan(&o.Interval, defaultWindow)
	setSpan(&o.Base, defaultEjection)
	setSpan(&o.Max, max(defaultMaxEjection, o.GetBase().AsDuration()))
	setDefault(&o.Most, proto.Float64(defaultMostEjected))
	if b := s.GetBreaker(); b != nil {
		setSpan(&b.PendingTimeout, defaultPendingTimeout)
		setDefault(&b.MinCalls, defaultMinCalls)
		setSpan(&b.Window, defaultWindow)
		setSpan(&b.Open, defaultBreakerOpen)
	}
	setDefault(&s.Retry, &configv1.Retry{})
	setDefault(&s.Retry.Attempts, defaultAttempts)
	setDefault(&s.Retry.Budget, proto.Float64(defaultBudget))
}

// finishRetry fills in what a route does not say about tries with what its service says.
func finishRetry(r, of *configv1.Retry) {
	if r == nil || of == nil {
		return
	}
	setDefault(&r.Attempts, of.GetAttempts())
	setDefault(&r.PerTryTimeout, of.GetPerTryTimeout())
	setDefault(&r.Idempotent, of.Idempotent)
	setDefault(&r.HedgeAfter, of.GetHedgeAfter())
	if len(r.GetCodes()) == 0 {
		r.Codes = of.GetCodes()
	}
}

func setSpan(field **durationpb.Duration, d time.Duration) {
	if *field == nil {
		*field = durationpb.New(d)
	}
}
