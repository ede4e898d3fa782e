package upstream

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/outlier"
)

// condition is what decides whether an instance takes calls: the first of these that holds.
type condition uint8

const (
	serving    condition = iota
	held                 // a source says that it is starting, draining or down, or its weight is 0
	unverified           // no heartbeat stands behind it, and no check has passed so far
	lost                 // a suspect whose check does not pass
	ejected
	failing // its check does not pass
	unasked // its check has not answered so far
	silent  // its beats are overdue
)

// verdict is what is known of an instance at one moment, and what follows from it.
type verdict struct {
	condition condition
	weight    uint32  // 0: no new calls, not even when hardly anybody is up
	up        bool    // else it takes calls only when hardly anybody is up
	share     float64 // slow start

	state    health.State
	ejection outlier.Ejection
	overdue  int           // beats
	beat     time.Duration // age of the last beat; negative: it does not beat
	source   string        // whose beats
}

// assess finds out about an instance.
func (s *Service) assess(i *instance, now time.Time) verdict {
	v := verdict{weight: i.offer.ep.Weight, up: true, share: 1, beat: -1}
	if i.watch != nil {
		v.state = i.watch.State()
	}
	passes := v.state.Known && v.state.Up
	var out bool
	if i.record != nil {
		v.ejection, out = i.record.Ejected()
	}
	v.beats(i, now)
	ep := &i.offer.ep
	switch suspect := i.offer.suspect; {
	case !willing(ep):
		v.condition, v.weight = held, 0
	case ep.Unverified && !i.passed && !passes:
		v.condition, v.weight = unverified, 0
	case suspect != nil && v.state.Known && !v.state.Up:
		v.condition, v.weight = lost, 0
	case out:
		v.condition = ejected
		if v.ejection.Reason == outlier.ReasonUnreached {
			v.weight = 0 // there is nobody, however few are up
		}
	case v.state.Known && !v.state.Up:
		v.condition = failing
		if i.missing && i.implied || s.refuses(i, &v) {
			v.weight = 0 // as above: not even a connection can be made
		}
	case i.watch != nil && !v.state.Known:
		v.condition = unasked
	case v.overdue >= outAfter:
		v.condition = silent
	}
	v.up = v.condition == serving
	if v.up && v.overdue >= halfAfter {
		v.weight = max(1, v.weight/2)
	}
	return v
}

// refuses tells whether a check found, where calls go as well, that nothing listens there.
func (s *Service) refuses(i *instance, v *verdict) bool {
	return !i.implied && s.cfg.Health != nil && s.cfg.Health.Own && errors.Is(v.state.Err, syscall.ECONNREFUSED)
}

// reassess finds out about an instance for people, as the last look at all of them has it.
func (s *Service) reassess(i *instance, now time.Time) verdict {
	v := s.assess(i, now)
	if v.condition == unasked && i.condition == serving {
		v.condition, v.up = serving, true
	}
	return v
}

// beats looks at the signs of life of an instance: of several entries the freshest counts.
func (v *verdict) beats(i *instance, now time.Time) {
	for _, l := range i.offer.listings {
		overdue, age, ok := l.src.overdue(l.id, now)
		if ok && (v.beat < 0 || age < v.beat) {
			v.overdue, v.beat, v.source = overdue, age, l.src.Name
		}
	}
}

// eject has the detector look at the outcomes of calls: at once when one may be out, else once a second while there are any.
func (s *Service) eject(due *alarm) {
	if s.detector == nil {
		return
	}
	tick := due.now.Sub(s.judged) >= second
	if s.look.Swap(false) || tick {
		if tick {
			s.ticking.Store(s.busy.Swap(false) || s.counts.out > 0)
		}
		s.judged = due.now
		s.all = s.all[:0]
		for _, i := range s.order { // who takes no calls anyhow stands in for nobody
			if i.record != nil && willing(&i.offer.ep) && (i.condition == serving || i.condition == ejected) {
				s.all = append(s.all, i.record)
			}
		}
		s.heard(s.detector.Judge(due.now, s.all))
	}
	if !s.ticking.Load() && s.busy.Load() {
		s.ticking.Store(true)
	}
	if s.ticking.Load() {
		due.in(second - due.now.Sub(s.judged))
	}
	if next := s.detector.Next(); !next.IsZero() {
		due.at(next)
	}
}

// heard counts and logs what the detector has decided.
func (s *Service) heard(events []outlier.Event) {
	for n, e := range events {
		if e.Ejected {
			s.counts.ejections[e.Reason]++
		}
		if n >= mostTold {
			continue
		}
		address := ""
		for _, i := range s.order {
			if i.record == e.Record {
				address = i.address
			}
		}
		if e.Ejected {
			s.cfg.Log.Warn("instance ejected", "service", s.cfg.Name, "address", address, "reason", e.Reason, "detail", e.Ejection.Detail, "times", e.Ejection.Times, "until", e.Ejection.Until)
		} else {
			s.cfg.Log.Info("instance takes calls again after its ejection", "service", s.cfg.Name, "address", address, "because", e.Reason)
		}
	}
	if len(events) > mostTold {
		s.cfg.Log.Warn("more instances were ejected or came back", "service", s.cfg.Name, "instances", len(events)-mostTold)
	}
}

// weigh makes a picker when what it is made of has changed.
func (s *Service) weigh(due *alarm) {
	members := slices.Grow(s.spare[:0], len(s.order))[:len(s.order)]
	s.spare = members
	changed := s.members == nil || len(s.members) != len(s.order)
	s.counts.out = 0
	asked := 0
	var unaskedAt []int
	for at, i := range s.order {
		v := s.assess(i, due.now)
		if v.condition == ejected && i.heals(&v) && i.record.Clear() {
			v = s.assess(i, due.now)
			s.look.Store(true) // the detector has to hear of it
			due.in(0)
		}
		if missing := i.lost(&v); missing != i.missing {
			i.missing = missing
			s.watch(i)
		}
		switch v.condition {
		case unasked:
			unaskedAt = append(unaskedAt, at)
			continue
		case ejected:
			if s.counts.out++; i.watch != nil {
				due.in(second) // a check that passes says nothing by itself
			}
		case serving:
			asked++
		case held, unverified, lost, failing, silent:
		}
		changed = s.note(at, &v, members, due) || changed
	}
	for _, at := range unaskedAt {
		v := s.assess(s.order[at], due.now)
		if v.condition == unasked && asked < len(unaskedAt) { // to wait for the checks of most would leave the calls to few or none
			v.condition, v.up = serving, true
		}
		changed = s.note(at, &v, members, due) || changed
	}
	if !changed {
		return
	}
	nodes := make([]*balancer.Node, 0, len(s.order))
	for _, i := range s.order {
		i.fresh, i.load = false, i.node.Load()
		nodes = append(nodes, i.node)
	}
	s.view.Store(&view{picker: balancer.New(s.cfg.Balancer, members), nodes: nodes})
	s.members, s.spare = members, s.members
	s.counts.pickers++
}

// lost tells whether nobody was reached at an instance, so that it is checked, configured or not, until it is there again: calls
// would find out late, for each time in vain they stay away for longer.
func (i *instance) lost(v *verdict) bool {
	if v.condition == ejected && v.ejection.Reason == outlier.ReasonUnreached {
		return true
	}
	return i.missing && i.implied && !(v.state.Known && v.state.Up)
}

// found ends what calls have done about nodes at which nobody was reached, once it has been looked at: the picker in force
// says what follows from it.
func (s *Service) found() {
	if s.look.Load() {
		return // there is more
	}
	for _, i := range s.order {
		i.node.Found()
	}
}

// note keeps of an instance what the next look has to know, and makes it a member; it reports whether the picker has to be told.
func (s *Service) note(at int, v *verdict, members []balancer.Member, due *alarm) (changed bool) {
	i := s.order[at]
	i.passed = i.passed || v.state.Known && v.state.Up
	late := v.overdue >= halfAfter
	if late && !i.late {
		i.node.SetLoad(-1, due.now) // what it said is old
	}
	i.late, i.condition = late, v.condition
	v.share = s.share(i, v, due)
	m := &members[at]
	*m = s.member(i, v)
	if len(s.members) != len(members) {
		return true
	}
	p, load := &s.members[at], i.node.Load()
	return i.fresh || p.Node != m.Node || p.Weight != m.Weight || p.Up != m.Up || p.Share != m.Share || p.Priority != m.Priority ||
		load-i.load > loadStep || i.load-load > loadStep
}

// heals tells whether a check has passed that began after the ejection, and that says something of its reason: the implied one
// only finds that somebody is there.
func (i *instance) heals(v *verdict) bool {
	st := &v.state
	return st.Known && st.Up && st.Last.Add(-st.Took).After(v.ejection.Since) && (!i.implied || v.ejection.Reason == outlier.ReasonUnreached)
}

// loadStep is by how much a reported load has to change for a new picker.
const loadStep = 0.05

// member is what the balancer is told.
func (s *Service) member(i *instance, v *verdict) balancer.Member {
	ep := &i.offer.ep
	m := balancer.Member{Node: i.node, Weight: v.weight, Up: v.up, Share: v.share, Region: ep.Meta["region"], Zone: ep.Zone, Meta: ep.Meta}
	if s.cfg.Priority != nil {
		m.Priority = s.cfg.Priority(*ep)
	}
	return m
}

// together is how long the instances of the first set have to come up with their full share, as they all have the same way to go.
const together = 5 * time.Second

// share is the part of its weight that an instance takes which came up later than the first.
func (s *Service) share(i *instance, v *verdict, due *alarm) float64 {
	usable := v.up && v.weight > 0
	if usable != i.usable {
		switch {
		case !usable:
			i.since = time.Time{}
		case !i.initial.IsZero() && due.now.Sub(i.initial) < together:
		default:
			i.since = due.now
		}
		i.usable = usable
	}
	if !usable || s.cfg.SlowStart <= 0 || i.since.IsZero() {
		return 1
	}
	age := due.now.Sub(i.since)
	if age >= s.cfg.SlowStart {
		i.since = time.Time{}
		return 1
	}
	due.in(min(second, s.cfg.SlowStart-age))
	return rising(age, s.cfg.SlowStart)
}

// rising is the share of an instance that has been up for age, in whole hundredths, so that a long window does not make a picker
// every second.
func rising(age, window time.Duration) float64 {
	return float64(int(balancer.SlowStart(age, window)*100)) / 100
}
