// Package registry is the contract of service discovery: who serves what, and is it alive. Services import it, so it
// depends on nothing of the gateway.
package registry

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Endpoint is one instance of a service.
type Endpoint struct {
	ID      string // stable over a restart of the same slot; unique within its service
	Address string // host:port
	Zone    string
	Weight  uint32 // 0 takes the instance out of balancing
	Meta    map[string]string
}

// Set is the complete list of a service's instances at one moment. Immutable; endpoints are sorted by ID.
type Set struct {
	Service   string
	Revision  int64 // rises with each change seen by the resolver that sent it
	Endpoints []Endpoint
}

// NewSet sorts endpoints and returns the set; it takes the slice over. Two endpoints with one ID are an error.
func NewSet(service string, revision int64, endpoints []Endpoint) (Set, error) {
	slices.SortFunc(endpoints, func(a, b Endpoint) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	for i := 1; i < len(endpoints); i++ {
		if endpoints[i].ID == endpoints[i-1].ID {
			return Set{}, errors.New("registry: service " + service + " has two endpoints with the id " + endpoints[i].ID)
		}
	}
	return Set{Service: service, Revision: revision, Endpoints: endpoints}, nil
}

// Beat is a sign of life with load figures.
type Beat struct {
	At   time.Time // when it was seen, monotonic
	Load float64   // 0 idle, 1 full; negative: not stated
}

// Resolver watches one service.
type Resolver interface {
	// Watch reports to until ctx ends, whose error it then returns; any other error means it gave up. The first complete
	// set is sent as soon as it is known. A registry that is lost is a Fail, never an empty Update.
	Watch(ctx context.Context, service string, to Sink) error
}

// Sink takes what a Resolver sees. Calls are serial, from the resolver's goroutine, and must not block.
type Sink interface {
	Update(s Set)
	Beat(id string, b Beat)
	// Fail says that what was sent last may be stale; it stays in force.
	Fail(err error)
}

// Registrar announces an instance.
type Registrar interface {
	Register(ctx context.Context, service string, ep Endpoint) (Lease, error)
}

// Lease is an announced instance. It renews itself until it is closed.
type Lease interface {
	// Drain tells gateways to send no new calls.
	Drain(ctx context.Context) error
	// Close withdraws the instance.
	Close(ctx context.Context) error
}
