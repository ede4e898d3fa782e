// Package polling watches a service where nobody tells of changes: by asking again and again.
package polling

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"
	"time"

	"github.com/causeway-gateway/causeway/registry"
)

// Question is how a service is asked for.
type Question struct {
	// Name is what errors begin with: "dns".
	Name     string
	Interval time.Duration // between two questions; 10 s, give or take a tenth. While answers fail, at most 1 s
	Timeout  time.Duration // of one question; 5 s
	// Ask asks once. The endpoints are the caller's; skipped is how many could not be read. An error is an outage.
	Ask func(ctx context.Context) (endpoints []registry.Endpoint, skipped int, err error)
}

// Watch reports the instances of a service to to until ctx ends.
func (q *Question) Watch(ctx context.Context, service string, to registry.Sink) error {
	var sent registry.Set
	failed, known := false, false
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next.C:
		}
		endpoints, skipped, err := q.once(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		interval := cmp.Or(q.Interval, 10*time.Second)
		if err != nil {
			if !failed {
				failed = true
				to.Fail(fmt.Errorf("%s: %s: %w", q.Name, service, err))
			}
			interval = min(interval, time.Second)
		} else {
			set, err := registry.NewSet(service, sent.Revision+1, endpoints)
			if err != nil {
				return err
			}
			set.Skipped = skipped
			if !known || failed || skipped != sent.Skipped || !reflect.DeepEqual(set.Endpoints, sent.Endpoints) {
				sent, known, failed = set, true, false
				set.Endpoints = slices.Clone(set.Endpoints) // the taker's own
				to.Update(set)
			}
		}
		next.Reset(interval + time.Duration((rand.Float64()-0.5)*0.2*float64(interval))) //nolint:gosec // spreads load, no secret
	}
}

func (q *Question) once(ctx context.Context) (endpoints []registry.Endpoint, skipped int, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(q.Timeout, 5*time.Second))
	defer cancel()
	return q.Ask(ctx)
}
