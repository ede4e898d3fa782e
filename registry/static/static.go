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

// New makes a resolver for one service. An endpoint without an ID has its address for one.
func New(service string, endpoints ...registry.Endpoint) (*Resolver, error) {
	endpoints = slices.Clone(endpoints)
	for i := range endpoints {
		if endpoints[i].ID == "" {
			endpoints[i].ID = endpoints[i].Address
		}
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
