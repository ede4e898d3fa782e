package upstream

import (
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters"
)

// Check is how instances are asked whether they are well.
type Check struct {
	// Key stands for everything that makes this check differ from another: what is asked, how, and over what. Checks with the
	// same key and address are one prober in the whole process.
	Key    string
	Timing health.Timing
	// Dial makes the prober of an instance. It outlives the service that asked for it when others watch the same, so it has
	// connections of its own.
	Dial func(ep registry.Endpoint) (health.Prober, error)
	// Own says that it connects to the address that calls go to: when nothing listens there, nobody is called there, however few
	// instances are well.
	Own bool
}

// instance is one address of the service. It is the keeper's, under the service's lock.
type instance struct {
	address string
	node    *balancer.Node // nil: taken over from a former service and not dialled so far
	offer   *offer
	record  *outlier.Record // nil: outcomes are not looked at
	watch   *health.Watch   // nil: it is not checked
	implied bool            // watch is that of Config.Implied

	initial   time.Time // when it came, if that was in the first set; else zero
	passed    bool      // a check has passed once: it is verified
	missing   bool      // nobody was reached there, and no check has passed since
	condition condition // when it was looked at last
	usable    bool      // it took calls then
	since     time.Time // it takes calls; zero: with its full share
	load      float64   // as the picker in force has it
	late      bool      // its beats were overdue, and the load that came with them is forgotten
	fresh     bool      // its place or metadata have changed since the last picker was made
}

// heir is what another Service begins with.
func (i *instance) heir() *instance {
	h := &instance{
		address: i.address, initial: i.initial, passed: i.passed, condition: i.condition, usable: i.usable, since: i.since, load: i.load,
	}
	if i.node != nil {
		h.load = i.node.Load()
	}
	return h
}

// forgive ends a run of failures of an instance that is new at its address, or back: they were its predecessor's. One that is
// ejected stays so.
func (i *instance) forgive() {
	if i.record == nil {
		return
	}
	if _, out := i.record.Ejected(); !out {
		i.record.Observe(outlier.Success, 0)
	}
}

// reconcile makes the instances those that the sources have together.
func (s *Service) reconcile(due *alarm) {
	offers, left := s.merge()
	for address, i := range s.instances {
		if offers[address] == nil {
			s.remove(i, due.now)
			s.others = true
		}
	}
	for address, o := range offers {
		i := s.instances[address]
		if i == nil {
			i = &instance{address: address, load: -1}
			if o.first {
				i.initial = due.now
			}
			s.instances[address] = i
			s.others = true
		}
		if i.node != nil && (i.offer.ep.Protocol != o.ep.Protocol || i.offer.ep.TLS != o.ep.TLS) {
			i.unwatch()
			s.leaving = append(s.leaving, i.node)
			i.node = nil
		}
		if i.node == nil {
			t, err := s.dial(o.ep)
			if err != nil {
				left = append(left, leftOut{address, o.ep.ID, o.listings[0].src, err.Error()})
				s.remove(i, due.now)
				s.others = true
				continue
			}
			if s.detector != nil && i.record == nil {
				var back bool
				if i.record, back = s.records.acquire(address); back {
					i.forgive()
				}
			}
			i.node = balancer.NewNode(o.ep, t, i.record)
			if i.load >= 0 {
				i.node.SetLoad(i.load, due.now) // what it said to the former service
			}
			i.fresh = true
			s.counts.dialled++
		} else if !same(&i.offer.ep, &o.ep) {
			i.node.SetEndpoint(o.ep)
			i.fresh = true
		}
		if i.offer != nil && !willing(&i.offer.ep) && willing(&o.ep) {
			i.forgive()
		}
		i.offer = o
		s.watch(i)
	}
	for _, src := range s.sources {
		src.first = false
	}
	if s.others {
		s.order = slices.SortedFunc(maps.Values(s.instances), func(a, b *instance) int { return strings.Compare(a.address, b.address) })
		s.others = false
	}
	s.told(left)
}

// told keeps what is left out, and logs what was not before.
func (s *Service) told(left []leftOut) {
	slices.SortFunc(left, func(a, b leftOut) int {
		if c := strings.Compare(a.address, b.address); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	before := make(map[string]struct{}, len(s.left))
	for _, l := range s.left {
		before[l.address+" "+l.why] = struct{}{}
	}
	fresh := 0
	for _, l := range left {
		if _, old := before[l.address+" "+l.why]; old {
			continue
		}
		if fresh++; fresh <= mostTold {
			s.cfg.Log.Warn("instance left out", "service", s.cfg.Name, "source", l.src.Name, "instance", l.id, "address", l.address, "error", l.why)
		}
	}
	if fresh > mostTold {
		s.cfg.Log.Warn("more instances left out", "service", s.cfg.Name, "instances", fresh-mostTold)
	}
	s.left = left
}

// mostTold bounds the lines that one change of the instances logs.
const mostTold = 10

// dial makes the transport of an instance.
func (s *Service) dial(ep registry.Endpoint) (t rpcadapters.Transport, err error) {
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("dialling it panicked: %v", r)
			s.counts.panics++
			s.cfg.Log.Error("panic while an instance was dialled", "service", s.cfg.Name, "address", ep.Address, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	return s.cfg.Dial(ep)
}

// remove lets go of an instance, whose node is drained later.
func (s *Service) remove(i *instance, now time.Time) {
	delete(s.instances, i.address)
	i.unwatch()
	if i.record != nil {
		s.records.release(i.address, now)
		i.record = nil
	}
	if i.node != nil {
		s.leaving = append(s.leaving, i.node)
	}
}

// dead tells whether nobody answers at an address, as far as the gateway can see.
func (s *Service) dead(address string) bool {
	i := s.instances[address]
	if i == nil {
		return false
	}
	if i.condition == ejected && i.record != nil {
		e, out := i.record.Ejected()
		return out && e.Reason == outlier.ReasonUnreached
	}
	return i.condition == failing || i.condition == lost
}

// watch has an instance checked as long as it needs to be.
func (s *Service) watch(i *instance) {
	check, implied := s.cfg.Health, false
	if check == nil && s.cfg.Implied != nil && (i.offer.ep.Unverified || i.offer.suspect != nil || i.offer.shelved || i.missing) {
		check, implied = s.cfg.Implied, true
	}
	if check == nil || s.cfg.Pool == nil {
		i.unwatch()
		return
	}
	if i.watch != nil && i.implied == implied {
		return
	}
	i.unwatch()
	ep := i.offer.ep
	key := check.Key + " " + ep.Address
	if ep.TLS {
		key += " tls"
	}
	i.watch = s.cfg.Pool.Watch(key, check.Timing, func() (health.Prober, error) { return check.Dial(ep) }, s.poke)
	i.implied = implied
}

func (i *instance) unwatch() {
	if i.watch != nil {
		i.watch.Close()
		i.watch = nil
	}
}

const (
	// recordsKept is how long the outcomes of an instance are remembered that is gone: after an outage registries list the dead
	// again, and what was ejected stays so.
	recordsKept = 10 * time.Minute
	// mostRecords bounds how many of those that are gone are remembered.
	mostRecords = 20_000
)

// ledger has the records of a service's instances by address. Services that follow one another share it.
type ledger struct {
	mu      sync.Mutex
	tracked map[string]*tracked
	gone    map[string]time.Time // since when nobody holds it
	next    time.Time            // when the first of those is forgotten
}

type tracked struct {
	record  *outlier.Record
	holders int
}

func newLedger() *ledger {
	return &ledger{tracked: map[string]*tracked{}, gone: map[string]time.Time{}}
}

// acquire returns the record of an address until it is released as often, and whether it is that of an instance that was gone.
func (l *ledger) acquire(address string) (r *outlier.Record, back bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tracked[address]
	if t == nil {
		t = &tracked{record: new(outlier.Record)}
		l.tracked[address] = t
	}
	_, back = l.gone[address]
	delete(l.gone, address)
	t.holders++
	return t.record, back
}

func (l *ledger) release(address string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tracked[address]
	if t == nil {
		return
	}
	if t.holders--; t.holders > 0 {
		return
	}
	if len(l.gone) >= mostRecords {
		delete(l.tracked, address)
		return
	}
	if len(l.gone) == 0 {
		l.next = now.Add(recordsKept)
	}
	l.gone[address] = now
}

// expire forgets what has been gone for long.
func (l *ledger) expire(due *alarm) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.gone) == 0 {
		return
	}
	if !due.now.Before(l.next) {
		oldest := due.now
		for address, since := range l.gone {
			switch {
			case due.now.Sub(since) >= recordsKept:
				delete(l.gone, address)
				delete(l.tracked, address)
			case since.Before(oldest):
				oldest = since
			}
		}
		l.next = oldest.Add(recordsKept)
	}
	if len(l.gone) > 0 {
		due.at(l.next)
	}
}
