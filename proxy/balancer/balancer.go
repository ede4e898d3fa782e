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

// Picker chooses a node. Pick neither locks nor allocates; it is safe for concurrent use. The error wraps ErrNoNode. A node
// whose draining began since the picker was made is passed over; where that leaves none, one of them is returned, whose
// Start says so: by then there is a newer picker.
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

// String is the policy's name in the configuration.
func (p Policy) String() string {
	switch p {
	case LeastRequest:
		return "least_request"
	case PeakEWMA:
		return "peak_ewma"
	case RingHash:
		return "ring_hash"
	case Maglev:
		return "maglev"
	case Random:
		return "random"
	default:
		return "round_robin"
	}
}

// Subset is a part of the instances: those whose metadata have all of Match, where "region" and "zone" are the member's.
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

// SlowStart is the Member.Share of an instance that has been up for age: it grows evenly over the window, from a tenth on.
func SlowStart(age, window time.Duration) float64 {
	if age >= window {
		return 1
	}
	return max(0.1, float64(age)/float64(window))
}

// Distance is where the instances of a group are, seen from the gateway.
type Distance uint8

// The distances.
const (
	Anywhere   Distance = iota // nobody asked
	SameZone                   // in the gateway's zone
	SameRegion                 // in another zone of its region
	Elsewhere                  // in another region
)

// String is the distance as shown to operators; empty for Anywhere.
func (d Distance) String() string {
	switch d {
	case SameZone:
		return "zone"
	case SameRegion:
		return "region"
	case Elsewhere:
		return "elsewhere"
	default:
		return ""
	}
}

// Group is instances that a Picker treats alike, as shown to operators.
type Group struct {
	Subset   string
	Priority uint32
	Distance Distance
	Members  int     // of a weight more than 0
	Up       int     // of these
	Panic    bool    // so few are up that all are taken
	Share    float64 // of the calls that are pinned to no subset
	Pinned   float64 // of those pinned to its subset
}
