package admin

import (
	"net/http"
	"time"

	"github.com/causeway-gateway/causeway/proxy/upstream"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Service is what the admin calls tell of a service. Ages are seconds.
type Service struct {
	Service   string     `json:"service"`
	Sources   []Source   `json:"sources"`
	Instances []Instance `json:"instances"`
	Breaker   *Breaker   `json:"breaker,omitempty"`
	// Retries is how many the budget has left, Saved when the last snapshot of the registries was written.
	Retries float64    `json:"retries_left"`
	Saved   *time.Time `json:"saved,omitempty"`
}

// Source is where instances are known.
type Source struct {
	Name      string   `json:"name"`
	Key       string   `json:"key"` // the service's name there
	Known     bool     `json:"known"`
	Stale     *float64 `json:"stale_seconds,omitempty"`
	Error     string   `json:"error,omitempty"`
	Shelved   *float64 `json:"snapshot_age_seconds,omitempty"` // instances come from a snapshot of this age
	Instances int      `json:"instances"`
	Skipped   int      `json:"skipped"`
	Suspects  int      `json:"suspects"`
}

// Instance is one instance, with why it is used or not.
type Instance struct {
	Address   string            `json:"address"`
	IDs       []string          `json:"ids"`
	Sources   []string          `json:"sources"`
	Region    string            `json:"region,omitempty"`
	Zone      string            `json:"zone,omitempty"`
	Priority  uint32            `json:"priority"`
	Weight    uint32            `json:"weight"`
	Effective float64           `json:"effective_weight"`
	Status    string            `json:"status"`
	State     string            `json:"state"`
	Health    *Health           `json:"health,omitempty"`
	Ejected   *Ejected          `json:"ejected,omitempty"`
	BeatAge   *float64          `json:"beat_age_seconds,omitempty"`
	Load      *float64          `json:"load,omitempty"`
	InFlight  int64             `json:"in_flight"`
	Latency   *float64          `json:"latency_seconds,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Used      bool              `json:"used"`
	Panic     bool              `json:"panic,omitempty"` // not used by rights, and called all the same, for hardly anybody is well
	Why       string            `json:"why"`
}

// Health is what a check says.
type Health struct {
	Known  bool       `json:"known"`
	Up     bool       `json:"up"`
	Since  *time.Time `json:"since,omitempty"`
	Last   *time.Time `json:"last,omitempty"`
	Fails  int        `json:"failures"` // in succession
	Error  string     `json:"error,omitempty"`
	Probes uint64     `json:"probes"`
}

// Ejected is why an instance is out, and how long.
type Ejected struct {
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
	Detail string    `json:"detail"`
	Times  int       `json:"times"`
}

// Breaker is how a breaker stands.
type Breaker struct {
	State   string     `json:"state"`
	Inside  int64      `json:"inside"`
	Pending int64      `json:"pending"`
	Until   *time.Time `json:"until,omitempty"`
	Opened  uint64     `json:"opened"`
	Refused uint64     `json:"refused"` // calls, for whatever reason
}

// services answers all services.
func (s *Server) services(w http.ResponseWriter, _ *http.Request) {
	views := s.opts.Gateway.Services()
	out := struct {
		Services []Service `json:"services"`
	}{make([]Service, len(views))}
	for i := range views {
		out.Services[i] = told(&views[i])
	}
	answer(w, out)
}

// service answers one service.
func (s *Server) service(w http.ResponseWriter, r *http.Request) {
	views := s.opts.Gateway.Services()
	names := make([]string, len(views))
	for i := range views {
		if names[i] = views[i].Service; names[i] == r.PathValue("name") {
			answer(w, told(&views[i]))
			return
		}
	}
	refuse(w, http.StatusNotFound, "there is no service %q%s", r.PathValue("name"), schema.DidYouMean(r.PathValue("name"), names))
}

func told(v *upstream.View) Service {
	out := Service{Service: v.Service, Retries: v.Retries, Saved: when(v.Saved), Sources: []Source{}, Instances: []Instance{}}
	for _, src := range v.Sources {
		out.Sources = append(out.Sources, Source{
			Name: src.Name, Key: src.Key, Known: src.Known, Stale: age(src.Stale), Error: src.Err, Shelved: age(src.Shelved),
			Instances: src.Instances, Skipped: src.Skipped, Suspects: src.Suspects,
		})
	}
	for i := range v.Instances {
		out.Instances = append(out.Instances, toldInstance(&v.Instances[i]))
	}
	if b := v.Breaker; b != nil {
		out.Breaker = &Breaker{
			State: b.Phase.String(), Inside: b.Inside, Pending: b.Pending, Until: when(b.Until), Opened: b.Opened, Refused: b.Full + b.Refused + b.Late,
		}
	}
	return out
}

func toldInstance(v *upstream.InstanceView) Instance {
	out := Instance{
		Address: v.Address, IDs: v.IDs, Sources: v.Sources, Region: v.Region, Zone: v.Zone, Priority: v.Priority, Weight: v.Weight, Effective: v.Effective,
		Status: v.Status.String(), State: string(v.State), InFlight: v.Inflight, Latency: age(v.Latency), Metadata: v.Meta, Used: v.Used, Panic: v.Panic, Why: v.Why,
	}
	if h := v.Health; h != nil {
		out.Health = &Health{Known: h.Known, Up: h.Up, Since: when(h.Since), Last: when(h.Last), Fails: h.Fails, Probes: h.Probes}
		if h.Err != nil && !h.Up {
			out.Health.Error = h.Err.Error()
		}
	}
	if e := v.Ejection; e != nil {
		out.Ejected = &Ejected{Since: e.Since, Until: e.Until, Reason: e.Reason, Detail: e.Detail, Times: e.Times}
	}
	if v.Beat >= 0 {
		seconds := v.Beat.Seconds()
		out.BeatAge = &seconds
	}
	if v.Load >= 0 {
		out.Load = &v.Load
	}
	return out
}

// age is a time in seconds, nil where it is none.
func age(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	seconds := d.Seconds()
	return &seconds
}

// when is a moment, nil where it never came.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
