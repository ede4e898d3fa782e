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
	Weight  uint32 // 0 takes the instance out of balancing: no new calls, those in flight end as they would
	Status  Status // any but Up takes it out as a weight of 0 does; Weight is then what it has once it is up, or 0 where nobody says
	// Protocol is what the instance speaks ("grpc", "http", "tars", ...), TLS whether over TLS. Empty: the registry does not say.
	Protocol string
	TLS      bool
	// Unverified says that no heartbeat stands behind the entry: it is to be used only once an active check has passed.
	Unverified bool
	Meta       map[string]string // also "version", "region" and "schema", where the registry has them
}

// Status is what an instance says of itself.
type Status uint8

// The statuses. An instance that says nothing is up.
const (
	Up Status = iota
	Starting
	Draining // ends the calls it has and wants no new ones
	Down
)

// String is the status as registries spell it.
func (s Status) String() string {
	switch s {
	case Up:
		return "up"
	case Starting:
		return "starting"
	case Draining:
		return "draining"
	default:
		return "down"
	}
}

// Set is the complete list of a service's instances at one moment. Immutable; endpoints are sorted by ID.
type Set struct {
	Service   string
	Revision  int64 // rises with each change seen by the resolver that sent it
	Endpoints []Endpoint
	Skipped   int // entries that could not be read, or were too many
	// Withdrawn says that somebody has taken the service itself out of the registry, which has lost nothing: that there are no
	// endpoints is meant so.
	Withdrawn bool
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
	// set is sent as soon as it is known. A registry that is lost is a Fail, never an empty Update; when it is there again, an
	// Update follows even if nothing has changed.
	Watch(ctx context.Context, service string, to Sink) error
}

// Sink takes what a Resolver sees. Calls are serial, from the resolver's goroutine, and must not block.
type Sink interface {
	Update(s Set)
	// Beat is a new sign of life of an instance. One that has never sent any is not judged by them, and while a Fail is in force
	// none comes and none is overdue.
	Beat(id string, b Beat)
	// Fail says that what was sent last may be stale; it stays in force until the next Update.
	Fail(err error)
}

// Registrar announces an instance.
type Registrar interface {
	Register(ctx context.Context, service string, ep Endpoint) (Lease, error)
}

// Lease is an announced instance. It renews itself until it is closed.
type Lease interface {
	// Drain tells gateways to send no new calls, and returns when they have had the time to hear it.
	Drain(ctx context.Context) error
	// Close withdraws the instance.
	Close(ctx context.Context) error
}
