package upstream

import (
	"maps"
	"slices"
	"time"

	"github.com/causeway-gateway/causeway/registry"
)

const (
	// guardWindow is the time in which instances that vanish count together.
	guardWindow = 10 * time.Second
	// suspectTime is how long an instance is kept that has vanished with most of the others.
	suspectTime = 60 * time.Second
)

// vanished is an instance that was up when its entry went away.
type vanished struct {
	ep registry.Endpoint
	at time.Time
}

// suspect is an instance that its registry does not have any more, but that is used while its check passes.
type suspect struct {
	ep           registry.Endpoint
	since, until time.Time
	why          string // "zk lost it with most of the others"
}

// guard compares the set in force with the one before. When more instances that were up have vanished within the window than are
// left, a registry that lost them is as likely as instances that died, and their checks decide; so they do for everybody who
// vanishes right after an outage, for instances may have to register again. An instance that has announced
// its leave, that is at another address by the same ID, or that another source has, has not vanished; nor has one that did not answer the gateway either.
func (src *source) guard(former []registry.Endpoint, leaving map[string]struct{}, now time.Time) {
	if src.set.Withdrawn { // it is meant so
		clear(src.suspects)
		clear(src.gone)
		return
	}
	up := 0
	ids := make(map[string]struct{}, len(src.set.Endpoints))
	for i := range src.set.Endpoints {
		ids[src.set.Endpoints[i].ID] = struct{}{}
	}
	for address, i := range src.at {
		delete(src.suspects, address)
		delete(src.gone, address)
		if willing(&src.set.Endpoints[i]) {
			up++
		}
	}
	maps.DeleteFunc(src.gone, func(_ string, v vanished) bool { return now.Sub(v.at) > guardWindow })
	for address, i := range src.index(former) {
		ep := &former[i]
		if !willing(ep) {
			continue
		}
		if _, stays := src.at[address]; stays {
			continue
		}
		if _, moved := ids[ep.ID]; moved {
			continue
		}
		if _, left := leaving[address]; left || src.elsewhere(address) || src.s.dead(address) {
			continue
		}
		src.gone[address] = vanished{*ep, now}
	}
	most, back := len(src.gone) > up, !src.back.IsZero() && now.Sub(src.back) <= guardWindow
	if !most && !back {
		return
	}
	fresh, why := 0, src.Name+" lost it with most of the others"
	if !most {
		why = src.Name + " has come back from an outage without it"
	}
	for address, v := range src.gone {
		if _, already := src.suspects[address]; already {
			continue
		}
		src.suspects[address] = suspect{ep: v.ep, since: v.at, until: now.Add(suspectTime), why: why}
		fresh++
	}
	switch {
	case fresh == 0:
	case !most:
		src.s.cfg.Log.Warn("instances are not listed any more after an outage of their registry; they are used as long as checks find them alive",
			"service", src.s.cfg.Name, "source", src.Name, "vanished", fresh, "left", up, "for", suspectTime)
	default:
		src.s.counts.guarded++
		src.s.cfg.Log.Error("most instances of a service have vanished at once from a registry; they are used as long as checks find them alive",
			"service", src.s.cfg.Name, "source", src.Name, "vanished", fresh, "left", up, "for", suspectTime)
	}
}

// elsewhere tells whether another source has the address.
func (src *source) elsewhere(address string) bool {
	return slices.ContainsFunc(src.s.sources, func(o *source) bool {
		_, has := o.at[address]
		return o != src && has
	})
}

// lapse lets suspects go whose time is over.
func (src *source) lapse(due *alarm) (changed bool) {
	if len(src.suspects) == 0 || !src.stale.IsZero() { // nobody is let go while the registry cannot be asked
		return false
	}
	for address, v := range src.suspects {
		if !due.now.Before(v.until) {
			delete(src.suspects, address)
			changed = true
			continue
		}
		due.at(v.until)
	}
	if changed {
		src.s.cfg.Log.Warn("instances that vanished with most of the others are let go", "service", src.s.cfg.Name, "source", src.Name, "left", len(src.at), "suspects", len(src.suspects))
		src.keep()
	}
	return changed
}
