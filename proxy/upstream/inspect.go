package upstream

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/breaker"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/registry"
)

// View is everything that is known of a service at one moment, for people.
type View struct {
	Service   string
	Sources   []SourceView
	Instances []InstanceView   // by address; behind them those that are left out
	Groups    []balancer.Group // how calls are spread
	Breaker   *breaker.State   // nil: there is none
	Retries   float64          // that the budget has left
	// Saved is when the last snapshot was written; zero: none was.
	Saved time.Time
}

// SourceView is one source.
type SourceView struct {
	Name, Key string
	Known     bool // it has answered, or the shelf has for it
	Stale     time.Duration
	Err       string        // why it is stale
	Shelved   time.Duration // how old the snapshot is that its instances come from; 0: they do not
	Instances int
	Skipped   int // entries that could not be read
	Suspects  int
}

// InstanceView is one instance.
type InstanceView struct {
	Address      string
	IDs, Sources []string // as they list it; one ID for each source's entry
	Region, Zone string
	Priority     uint32
	Weight       uint32  // as the registry has it
	Effective    float64 // with beats and slow start counted in
	Status       registry.Status
	State        State
	Health       *health.State     // nil: it is not checked
	Ejection     *outlier.Ejection // nil: it is not ejected
	Beat         time.Duration     // age of the last one; negative: it does not beat
	Load         float64           // negative: it is not known
	Inflight     int64
	Latency      time.Duration // 0: it is not known
	Meta         map[string]string
	Used         bool   // it takes calls as a matter of course
	Panic        bool   // it is not well, and takes calls all the same, for hardly anybody is
	Why          string // it is used or not
}

// Inspect tells what is known of the service.
func (s *Service) Inspect() View {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	out := View{Service: s.cfg.Name, Retries: s.budget.Left(), Groups: balancer.Groups(s.view.Load().picker)}
	if s.breaker != nil {
		state := s.breaker.State()
		out.Breaker = &state
	}
	if s.shelver != nil {
		out.Saved, _ = s.shelver.figures()
	}
	out.Sources = s.survey(now)
	for _, i := range s.order {
		v := s.show(i, now)
		if g := s.panicking(out.Groups, i, &v); g != nil {
			v.Panic = true
			v.Why += fmt.Sprintf("; but it is called all the same, for only %d of %d are up", g.Up, g.Members)
		}
		out.Instances = append(out.Instances, v)
	}
	for _, l := range s.left {
		out.Instances = append(out.Instances, InstanceView{
			Address: l.address, IDs: []string{l.id}, Sources: []string{l.src.Name}, State: StateLeftOut, Beat: -1, Load: -1, Why: "left out: " + l.why,
		})
	}
	return out
}

// Survey tells of the sources, and f of every instance whether it takes calls as a matter of course: what Inspect has, without the
// words. f must not call the service.
func (s *Service) Survey(f func(address string, used bool)) []SourceView {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, i := range s.order {
		v := s.reassess(i, now)
		f(i.address, v.up && v.weight > 0)
	}
	for _, l := range s.left {
		f(l.address, false)
	}
	return s.survey(now)
}

// survey is what is known of the sources. The lock is held.
func (s *Service) survey(now time.Time) []SourceView {
	var out []SourceView
	for _, src := range s.sources {
		v := SourceView{Name: src.Name, Key: src.Key, Known: src.known, Instances: len(src.set.Endpoints), Skipped: src.set.Skipped, Suspects: len(src.suspects)}
		if !src.stale.IsZero() {
			v.Stale = now.Sub(src.stale)
		}
		if src.err != nil {
			v.Err = src.err.Error()
		}
		if src.shelved {
			v.Shelved = max(now.Sub(src.savedAt), 1) // whatever the clock says by now
		}
		out = append(out, v)
	}
	return out
}

// panicking is the group in which an instance takes calls although it is not up; nil: it does not.
func (s *Service) panicking(groups []balancer.Group, i *instance, v *InstanceView) *balancer.Group {
	if v.Used || v.Effective == 0 {
		return nil
	}
	in := func(subset string) bool {
		at := slices.IndexFunc(s.cfg.Balancer.Subsets, func(sub balancer.Subset) bool { return sub.Name == subset })
		if at < 0 {
			return subset == ""
		}
		return s.cfg.Balancer.Subsets[at].Has(&balancer.Member{Node: i.node, Region: v.Region, Zone: v.Zone, Meta: v.Meta})
	}
	at := slices.IndexFunc(groups, func(g balancer.Group) bool {
		return g.Panic && g.Share+g.Pinned > 0 && g.Priority == v.Priority && in(g.Subset)
	})
	if at < 0 {
		return nil
	}
	return &groups[at]
}

func (s *Service) show(i *instance, now time.Time) InstanceView {
	v := s.reassess(i, now)
	m := s.member(i, &v)
	share := 1.0
	if s.cfg.SlowStart > 0 && !i.since.IsZero() && v.up {
		share = rising(now.Sub(i.since), s.cfg.SlowStart)
	}
	out := InstanceView{
		Address: i.address, Region: m.Region, Zone: m.Zone, Priority: m.Priority, Weight: i.offer.ep.Weight, Status: i.offer.ep.Status,
		Effective: float64(v.weight) * share, State: v.short(i), Beat: v.beat, Load: i.node.Load(), Inflight: i.node.Inflight(),
		Latency: i.node.Latency(s.Clock()), Meta: i.offer.ep.Meta, Used: v.up && v.weight > 0,
	}
	for _, l := range i.offer.listings {
		out.IDs = append(out.IDs, l.id)
		if !slices.Contains(out.Sources, l.src.Name) {
			out.Sources = append(out.Sources, l.src.Name)
		}
	}
	if i.watch != nil {
		out.Health = &v.state
	}
	if v.ejection.Times > 0 {
		out.Ejection = &v.ejection
	}
	out.Why = s.why(i, &v, share, out.Sources, now)
	return out
}

// why says in words why an instance is used or not.
func (s *Service) why(i *instance, v *verdict, share float64, sources []string, now time.Time) string {
	ep := &i.offer.ep
	switch v.condition {
	case held:
		if ep.Status != registry.Up {
			return fmt.Sprintf("not used: %s says that it is %s", i.offer.holder, ep.Status)
		}
		return fmt.Sprintf("not used: its weight in %s is 0", sources[0])
	case unverified:
		if i.watch == nil {
			return fmt.Sprintf("not used: no heartbeat stands behind its entry in %s, and there is no check that could stand in for one", sources[0])
		}
		return fmt.Sprintf("not used: no heartbeat stands behind its entry in %s, and its check has not passed so far: %s", sources[0], result(&v.state, now))
	case lost:
		return fmt.Sprintf("not used: %s %s ago, and its check does not pass: %s", i.offer.suspect.why, ago(now.Sub(i.offer.suspect.since)), result(&v.state, now))
	case ejected:
		e := &v.ejection
		return fmt.Sprintf("not used for another %s: ejected %s ago for %s (%s), time %d", ago(e.Until.Sub(now)), ago(now.Sub(e.Since)), strings.ReplaceAll(e.Reason, "_", " "), e.Detail, e.Times)
	case failing:
		return "not used: its check does not pass: " + result(&v.state, now)
	case unasked:
		return "not used: its first check has not ended so far"
	case silent:
		return fmt.Sprintf("not used: its last beat in %s was %s ago, %d intervals", v.source, ago(v.beat), v.overdue)
	}
	var parts []string
	if suspect := i.offer.suspect; suspect != nil {
		parts = append(parts, fmt.Sprintf("as a suspect: %s %s ago; %s; it is let go in %s", suspect.why, ago(now.Sub(suspect.since)), result(&v.state, now), ago(suspect.until.Sub(now))))
	}
	if i.offer.shelved && i.offer.suspect == nil {
		parts = append(parts, fmt.Sprintf("from the snapshot: %s has not answered; %s", sources[0], result(&v.state, now)))
	}
	if v.overdue >= halfAfter {
		parts = append(parts, fmt.Sprintf("at half its weight: its last beat in %s was %s ago, %d intervals", v.source, ago(v.beat), v.overdue))
	}
	if share < 1 {
		parts = append(parts, fmt.Sprintf("at %.0f %% of its weight: it came up %s ago and takes its full share after %s", share*100, ago(now.Sub(i.since)), s.cfg.SlowStart))
	}
	if len(parts) == 0 {
		return "used"
	}
	return "used " + strings.Join(parts, "; ")
}

// result is what a check says.
func result(st *health.State, now time.Time) string {
	switch {
	case !st.Known:
		return "its check has not ended so far"
	case st.Up:
		return fmt.Sprintf("its check passed %s ago", ago(now.Sub(st.Last)))
	case st.Fails == 1:
		return fmt.Sprintf("it failed %s ago: %v", ago(now.Sub(st.Last)), st.Err)
	}
	return fmt.Sprintf("it failed %d times in a row, last %s ago: %v", st.Fails, ago(now.Sub(st.Last)), st.Err)
}

// ago is a time as people say it.
func ago(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}
