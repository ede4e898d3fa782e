// Package static resolves services to the endpoints given in the configuration.
package static

import (
	"context"
	"fmt"
	"slices"

	"github.com/causeway-gateway/causeway/registry"
)

// Resolver knows a fixed list per service. It is safe for concurrent use.
type Resolver struct {
	sets map[string]registry.Set
}

// New makes a resolver for one service with one endpoint per address; an address is its endpoint's ID.
func New(service string, addresses ...string) (*Resolver, error) {
	endpoints := make([]registry.Endpoint, 0, len(addresses))
	for _, a := range addresses {
		endpoints = append(endpoints, registry.Endpoint{ID: a, Address: a, Weight: 100})
	}
	set, err := registry.NewSet(service, 1, endpoints)
	if err != nil {
		return nil, err
	}
	return &Resolver{sets: map[string]registry.Set{service: set}}, nil
}

// Watch sends the service's endpoints once and waits for ctx to end.
func (r *Resolver) Watch(ctx context.Context, service string, to registry.Sink) error {
	set, ok := r.sets[service]
	if !ok {
		return fmt.Errorf("static: service %q has no endpoints here", service)
	}
	set.Endpoints = slices.Clone(set.Endpoints)
	to.Update(set)
	<-ctx.Done()
	return ctx.Err()
}
