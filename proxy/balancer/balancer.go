// Package balancer chooses the instance of a service that takes a call. A Picker is made anew for each change of the
// instances and swapped in whole, so picking needs no lock.
package balancer

import (
	"errors"
	"time"
)

// ErrNoNode is what every error of a Pick wraps; its text says why there is none.
var ErrNoNode = errors.New("no instance is available")

// Member is a node with what is known of it at the moment that a Picker is made. Weight, priority, place and metadata are
// those in force, which need not be the registry's.
type Member struct {
	*Node
	// Weight is the share of calls in proportion to others', status and beats counted in, slow start not; 0: no new calls,
	// not even in a panic.
	Weight   uint32
	Priority uint32 // lower ones first
	Up       bool   // healthy, not ejected, verified
	// Region and Zone are where the instance runs.
	Region, Zone string
	Meta         map[string]string // what subsets match; read while New runs
	Share        float64           // slow start: the part of Weight that it takes already, up to 1; 0 is 1
}

// Info is what a policy may know of a call.
type Info struct {
	Hash   uint64  // of the key that RingHash and Maglev keep on one node; any spread of bits will do
	Hashed bool    // false: the call has no key, such policies take any node
	Subset int     // index in Config.Subsets; negative: by their weights
	Tried  []*Node // passed over while others are left
	Now    int64   // monotonic nanoseconds, the clock of Node.Observe; read by PeakEWMA only; 0: averages do not age
}

// Picker chooses a node. Pick neither blocks nor allocates; it is safe for concurrent use. The error wraps ErrNoNode.
type Picker interface {
	Pick(Info) (*Node, error)
}

// Policy is how one of several nodes that are equally good otherwise is chosen.
type Policy uint8

// The policies.
const (
	RoundRobin   Policy = iota // in turn, evenly interleaved by weight
	LeastRequest               // the one with fewer calls in flight, of two drawn by weight
	PeakEWMA                   // the one with less latency times calls in flight, of two drawn by weight
	RingHash                   // the call's key on a ring of points
	Maglev                     // the call's key in a permutation table
	Random                     // drawn by weight
)

// Subset is a part of the instances: those whose metadata have all of Match.
type Subset struct {
	Name   string
	Match  map[string]string
	Weight uint32 // share of the calls that are pinned to no subset
}

// Config is how nodes are chosen. The zero Config is round robin over all that are up.
type Config struct {
	Policy       Policy
	Region, Zone string // where this gateway runs; empty: unknown
	ZoneFirst    bool
	// Overprovision is how many times its usual load an instance can carry for those that are down; 0: 1.4.
	Overprovision float64
	// Panic is the share of instances up below which nobody believes the checks any more; 0: 0.5, negative: never.
	Panic   float64
	Subsets []Subset
	// RingSize bounds the points of RingHash; 0: 262144. Table is the least size of Maglev's table; 0: 65537.
	RingSize, Table int
}

// SlowStart is the Member.Share of an instance that has been up for age.
func SlowStart(age, window time.Duration) float64 {
	if age >= window {
		return 1
	}
	return max(0.1, float64(age)/float64(window))
}

// New makes a Picker. It keeps neither members nor their maps.
func New(_ Config, members []Member) Picker {
	p := &roundRobin{}
	for _, m := range members {
		if m.Weight > 0 && m.Up {
			p.nodes = append(p.nodes, m.Node)
		}
	}
	return p
}
