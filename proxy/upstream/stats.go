package upstream

import (
	"maps"
	"time"
)

// counts are totals since the service was first configured.
type counts struct {
	ejections   map[string]uint64 // by reason
	guarded     uint64
	fails       uint64
	dialled     uint64
	pickers     uint64
	panics      uint64
	shelfFaults uint64
	out         int // ejected now
}

func (c counts) clone() counts {
	c.ejections = maps.Clone(c.ejections)
	return c
}

// Stats are a service's figures, for metrics. Totals go on when the configuration changes.
type Stats struct {
	Instances map[State]int // now; every state is there but StateLeftOut, see LeftOut
	// Stale is how long the source that has been stale longest has been; 0: all are fresh.
	Stale time.Duration
	// Shelved is how old the snapshot is that a source's instances come from; 0: none does.
	Shelved time.Duration
	// Skipped is how many entries the sources could not read; LeftOut how many could be read but not used.
	Skipped, LeftOut int

	Ejections      map[string]uint64 // by the outlier package's reasons
	Guarded        uint64            // how often most instances vanished at once
	Fails          uint64            // how often a source went stale
	ShelfFaults    uint64            // snapshots that could be neither read nor written
	Pickers        uint64            // how often the balancer was given other instances
	Transports     uint64            // made
	RetriesRefused uint64            // by the budget
	Panics         uint64
}

// State is what a service does with an instance, in short.
type State string

// The states of instances.
const (
	StateUp         State = "up"
	StateHeld       State = "held"       // its registry says that it is starting, draining or down, or its weight is 0
	StateUnverified State = "unverified" // its check has to pass first
	StateLost       State = "lost"       // its registry has lost it, and its check does not pass
	StateEjected    State = "ejected"
	StateDown       State = "down"     // its check fails
	StateChecking   State = "checking" // its first check has not ended
	StateSilent     State = "silent"   // its beats are overdue
	StateSuspect    State = "suspect"  // its registry has lost it, and it is used all the same
	StateLeftOut    State = "left out" // it cannot be used at all
)

var states = [...]State{
	serving: StateUp, held: StateHeld, unverified: StateUnverified, lost: StateLost, ejected: StateEjected,
	failing: StateDown, unasked: StateChecking, silent: StateSilent,
}

// short is what v comes to for an instance.
func (v *verdict) short(i *instance) State {
	if v.condition == serving && i.offer.suspect != nil {
		return StateSuspect
	}
	return states[v.condition]
}

// Stats counts.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	out := Stats{
		Instances: map[State]int{StateSuspect: 0}, LeftOut: len(s.left),
		Ejections: maps.Clone(s.counts.ejections), Guarded: s.counts.guarded, Fails: s.counts.fails, ShelfFaults: s.counts.shelfFaults,
		Pickers: s.counts.pickers, Transports: s.counts.dialled, Panics: s.counts.panics, RetriesRefused: s.budget.Refused(),
	}
	for _, state := range states {
		out.Instances[state] = 0
	}
	for _, i := range s.order {
		v := s.reassess(i, now)
		out.Instances[v.short(i)]++
	}
	for _, src := range s.sources {
		out.Skipped += src.set.Skipped
		if !src.stale.IsZero() {
			out.Stale = max(out.Stale, now.Sub(src.stale))
		}
		if src.shelved {
			out.Shelved = max(out.Shelved, now.Sub(src.savedAt), 1) // whatever the clock says by now
		}
	}
	if s.shelver != nil {
		_, faults := s.shelver.figures()
		out.ShelfFaults += faults
	}
	return out
}
