package upstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/causeway-gateway/causeway/registry"
)

// Source is one place where a service's instances are found.
type Source struct {
	Name     string // of the registry; in logs, and with Key what a changed configuration knows the source by
	Resolver registry.Resolver
	Key      string // the service's name there
	// Origin stands for who is asked, and how the answer is read. Where a changed configuration has another, the instances known stay
	// until it answers; those that its first answer with anybody in it does not have are not missed: that is meant so.
	Origin string
	// Static says that the set is part of the configuration: it is there at once, and is neither guarded nor kept on the shelf.
	Static bool
	// Guard keeps instances for a while when most of them vanish at once, see suspectTime.
	Guard bool
	// Beats is how often instances that beat at all do so; 0: they are not judged by it.
	Beats time.Duration
	// Protocols are those that the service speaks; an endpoint that names another is left out. Empty: any.
	Protocols []string
}

// silence is how long a source is waited for at the start before the shelf is asked.
const silence = time.Second

const (
	halfAfter = 3 // beats overdue that halve the weight
	outAfter  = 6 // beats overdue that take an instance out
)

// source is a Source at work: what its resolver sends is put down by the resolver's goroutine and taken up by the keeper.
type source struct {
	Source
	s        *Service
	answered chan struct{} // closed with the first answer, or when there will be none for now
	once     sync.Once

	mu    sync.Mutex
	inbox inbox

	// What follows is the keeper's, under the service's lock.
	heard    bool // an answer has come in this Service's time
	known    bool
	set      registry.Set
	at       map[string]int // address to index in set; of several entries the one that holds
	shelved  bool           // the set is from the shelf
	savedAt  time.Time      // of that
	first    bool           // the set is the first that is known, and has not been merged so far
	moved    bool           // what is known is of another origin, which had somebody
	asked    bool           // the shelf has been asked
	stale    time.Time      // since when; zero: it is not
	back     time.Time      // it could be asked again after an outage; zero: there was none
	err      error
	beats    map[string]registry.Beat // by ID
	gone     map[string]vanished
	suspects map[string]suspect
	beating  bool // some beats have come
}

// inbox is what came since the keeper looked last.
type inbox struct {
	set     *registry.Set
	leaving map[string]struct{} // addresses that were said to be leaving in sets that were replaced before anybody looked
	failed  error               // since the last set
	outage  bool                // it has failed, before the set or since
	beats   map[string]registry.Beat
	beating bool // the keeper looks once a second anyhow
}

func newSource(s *Service, c Source) *source {
	return &source{
		Source: c, s: s, answered: make(chan struct{}),
		beats: map[string]registry.Beat{}, gone: map[string]vanished{}, suspects: map[string]suspect{},
	}
}

// await waits until every one of them has answered, for at most as long as the shelf would.
func await(sources []*source) {
	if len(sources) == 0 {
		return
	}
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for _, src := range sources {
		select {
		case <-src.answered:
		case <-timer.C:
			return
		}
	}
}

// adopt takes over what another source knows, whose service's lock is held. Sets are never written to, so they are shared.
func (src *source) adopt(old *source) {
	src.known, src.set, src.at = old.known, old.set, src.index(old.set.Endpoints) // it may speak other protocols
	src.shelved, src.savedAt, src.stale, src.err = old.shelved, old.savedAt, old.stale, old.err
	src.beats, src.gone, src.suspects = maps.Clone(old.beats), maps.Clone(old.gone), maps.Clone(old.suspects)
	src.beating, src.back = old.beating, old.back
	src.moved = old.moved || old.Origin != src.Origin
}

// run has the resolver watch, again and again when it gives up, until ctx ends.
func (src *source) run(ctx context.Context) {
	const first, most = time.Second, 30 * time.Second
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := first; ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		err := src.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		src.s.cfg.Log.Error("a resolver gave up; it is started again", "service", src.s.cfg.Name, "source", src.Name, "after", wait, "error", err)
		src.fail(err)
		if time.Since(began) > 2*most {
			wait = first
		}
		timer.Reset(wait)
		wait = min(2*wait, most)
	}
}

// watch is one run of the resolver.
func (src *source) watch(ctx context.Context) (err error) {
	to := &sink{src: src}
	defer to.close()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the resolver panicked: %v\n%s", r, debug.Stack())
		}
	}()
	if err := src.Resolver.Watch(ctx, src.Key, to); err != nil {
		return err
	}
	return errors.New("the resolver ended without an error")
}

// sink is what one run of the resolver speaks to. Nothing is taken from it once that is over.
type sink struct {
	src  *source
	over bool // under src.mu
}

func (to *sink) close() {
	to.src.mu.Lock()
	to.over = true
	to.src.mu.Unlock()
}

// Update takes a complete set.
func (to *sink) Update(set registry.Set) {
	src := to.src
	src.mu.Lock()
	if to.over {
		src.mu.Unlock()
		return
	}
	in := &src.inbox
	if in.set != nil {
		for i := range in.set.Endpoints {
			if ep := &in.set.Endpoints[i]; !willing(ep) {
				if in.leaving == nil {
					in.leaving = map[string]struct{}{}
				}
				in.leaving[ep.Address] = struct{}{}
			}
		}
	}
	in.set, in.failed = &set, nil
	src.mu.Unlock()
	src.once.Do(func() { close(src.answered) })
	src.s.poke()
}

// Beat takes a sign of life. The keeper takes it up with the next look, which is due within a second.
func (to *sink) Beat(id string, b registry.Beat) {
	src := to.src
	src.mu.Lock()
	if to.over {
		src.mu.Unlock()
		return
	}
	in := &src.inbox
	if in.beats == nil {
		in.beats = map[string]registry.Beat{}
	}
	in.beats[id] = b
	soon := in.beating
	src.mu.Unlock()
	if !soon {
		src.s.poke()
	}
}

// Fail says that what is known may be stale.
func (to *sink) Fail(err error) {
	to.src.mu.Lock()
	over := to.over
	to.src.mu.Unlock()
	if !over {
		to.src.fail(err)
	}
}

func (src *source) fail(err error) {
	if err == nil {
		err = errors.New("the registry did not say why")
	}
	src.mu.Lock()
	src.inbox.failed, src.inbox.outage = err, true
	src.mu.Unlock()
	src.once.Do(func() { close(src.answered) })
	src.s.poke()
}

// absorb takes up what has come, and what time has done; it reports whether the sources have to be merged again. The service's
// lock is held.
func (src *source) absorb(due *alarm) (changed bool) {
	src.mu.Lock()
	in := src.inbox
	src.inbox = inbox{beating: src.beating || len(in.beats) > 0}
	src.mu.Unlock()
	if in.set != nil {
		src.take(&in, due.now)
		changed = true
	}
	if in.failed != nil {
		src.err = in.failed
		if src.stale.IsZero() {
			src.stale = due.now
			src.s.counts.fails++
			said := "instances may be stale; the last ones known stay in force"
			if !src.known && len(src.set.Endpoints) == 0 {
				said = "instances are not known so far: the registry does not answer"
			}
			src.s.cfg.Log.Warn(said, "service", src.s.cfg.Name, "source", src.Name, "instances", len(src.set.Endpoints), "error", in.failed)
		}
	}
	for id, b := range in.beats {
		ep := src.byID(id)
		if ep == nil {
			continue // the set that has it is on its way, and so is its next beat
		}
		src.beats[id] = b
		src.beating = true
		if i := src.s.instances[ep.Address]; i != nil && i.node != nil && b.Load >= 0 {
			i.node.SetLoad(b.Load, b.At)
		}
	}
	if src.beating {
		due.in(second)
	}
	if src.lapse(due) {
		changed = true
	}
	if src.unshelve(due) {
		changed = true
	}
	return changed
}

// take makes the set that has come the one in force.
func (src *source) take(in *inbox, now time.Time) {
	former, set := src.set, *in.set
	wasKnown := src.known
	if byID := func(a, b registry.Endpoint) int { return strings.Compare(a.ID, b.ID) }; !slices.IsSortedFunc(set.Endpoints, byID) {
		slices.SortStableFunc(set.Endpoints, byID)
	}
	src.set, src.at = set, src.index(set.Endpoints)
	src.first = src.first || !src.heard && (!wasKnown || src.shelved)
	if (in.outage || !src.stale.IsZero()) && wasKnown && !src.shelved {
		src.back = now
	}
	switch {
	case src.moved && slices.ContainsFunc(set.Endpoints, func(ep registry.Endpoint) bool { return willing(&ep) }):
		src.moved = false
		clear(src.suspects)
		clear(src.gone)
	case src.Guard && !src.Static && wasKnown:
		src.guard(former.Endpoints, in.leaving, now)
	}
	for id := range src.beats {
		if src.byID(id) == nil {
			delete(src.beats, id)
		}
	}
	if !src.stale.IsZero() {
		src.s.cfg.Log.Info("instances are fresh again", "service", src.s.cfg.Name, "source", src.Name, "instances", len(set.Endpoints), "stale_for", now.Sub(src.stale).Round(time.Millisecond))
		for id, b := range src.beats { // none was overdue meanwhile
			b.At = now
			src.beats[id] = b
		}
		for address, v := range src.suspects { // their time stood still
			v.until = now.Add(suspectTime)
			src.suspects[address] = v
		}
	}
	src.heard, src.known, src.shelved, src.stale, src.err = true, true, false, time.Time{}, nil
	src.keep()
}

// keep puts what is known on the shelf: suspects too, for a start in between must not lose them.
func (src *source) keep() {
	if src.Static || src.s.shelver == nil {
		return
	}
	set := src.set
	if len(src.suspects) > 0 {
		set.Endpoints = slices.Clone(set.Endpoints)
		for _, address := range slices.Sorted(maps.Keys(src.suspects)) {
			set.Endpoints = append(set.Endpoints, src.suspects[address].ep)
		}
	}
	src.s.shelver.put(src.shelfName(), set)
}

// unshelve asks the shelf when the source has been silent for too long, or has failed at once.
func (src *source) unshelve(due *alarm) (changed bool) {
	if src.heard || src.asked {
		return false
	}
	if late := src.s.began.Add(silence); due.now.Before(late) && src.stale.IsZero() {
		due.at(late)
		return false
	}
	src.asked = true
	if src.stale.IsZero() {
		src.stale, src.err = due.now, fmt.Errorf("no answer within %v", silence)
	}
	if src.known || src.Static || src.s.cfg.Shelf == nil {
		return false
	}
	log := src.s.cfg.Log.With("service", src.s.cfg.Name, "source", src.Name)
	set, saved, err := src.s.cfg.Shelf.Load(src.shelfName())
	switch {
	case errors.Is(err, ErrNoSnapshot):
		log.Warn("a registry does not answer, and there is no snapshot of it", "error", src.err)
		return false
	case err != nil:
		src.s.counts.shelfFaults++
		log.Error("a registry does not answer, and its snapshot cannot be used", "error", err)
		return false
	case len(set.Endpoints) == 0:
		return false
	}
	src.set, src.at, src.known, src.first, src.shelved, src.savedAt = set, src.index(set.Endpoints), true, true, true, saved
	log.Warn("a registry does not answer; the instances of its snapshot are used as long as checks find them alive", "instances", len(set.Endpoints), "age", due.now.Sub(saved).Round(time.Second), "error", src.err)
	return true
}

// shelfName is what the shelf knows the source by.
func (src *source) shelfName() string { return src.s.cfg.Name + "@" + src.Name + "/" + src.Key }

// accepts tells whether the service speaks what the endpoint does.
func (src *source) accepts(ep *registry.Endpoint) bool {
	return ep.Protocol == "" || len(src.Protocols) == 0 || slices.Contains(src.Protocols, ep.Protocol)
}

// byID finds an endpoint of the set.
func (src *source) byID(id string) *registry.Endpoint {
	at, ok := slices.BinarySearchFunc(src.set.Endpoints, id, func(ep registry.Endpoint, id string) int { return strings.Compare(ep.ID, id) })
	if !ok {
		return nil
	}
	return &src.set.Endpoints[at]
}

// overdue is by how many intervals the beats of an instance are late, and how old the last one is; it is not judged by them when ok
// is false.
func (src *source) overdue(id string, now time.Time) (beats int, age time.Duration, ok bool) {
	b, has := src.beats[id]
	if !has || src.Beats <= 0 || !src.stale.IsZero() {
		return 0, 0, false
	}
	age = max(0, now.Sub(b.At))
	return int(age / src.Beats), age, true
}

// willing tells whether an entry says of itself that it takes calls.
func willing(ep *registry.Endpoint) bool { return ep.Status == registry.Up && ep.Weight > 0 }

// index finds the endpoints that the service speaks to by address. Of several entries at one address the first that is willing
// holds: a ghost that a former process has left does not stand in the way of its successor.
func (src *source) index(endpoints []registry.Endpoint) map[string]int {
	at := make(map[string]int, len(endpoints))
	for i := range endpoints {
		ep := &endpoints[i]
		if ep.Address == "" || !src.accepts(ep) {
			continue
		}
		if had, ok := at[ep.Address]; !ok || !willing(&endpoints[had]) && willing(ep) {
			at[ep.Address] = i
		}
	}
	return at
}
