// Package tars resolves servants of TARS by asking their registry, which is a servant itself (tars.tarsregistry.QueryObj),
// again and again: it tells nobody of changes.
package tars

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/polling"
	tarsadapter "github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// Registry is a TARS registry, with one connection to each of its addresses, made when somebody asks. It is safe for concurrent
// use.
type Registry struct {
	callers []*tarsadapter.Caller
}

// Open makes a registry without connecting. Addresses of TLS are connected to as secure says, nil: with what the system trusts; where
// that has no name, each has its own host for one. The error is about the locator.
func Open(l Locator, secure *tls.Config) (*Registry, error) {
	if secure == nil {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	r := &Registry{}
	for _, a := range l.Addresses {
		var conf *tls.Config
		if a.TLS {
			conf = secure
		}
		c, err := tarsadapter.NewCaller(a.At, l.Servant, conf)
		if err != nil {
			r.Close()
			return nil, err
		}
		r.callers = append(r.callers, c)
	}
	return r, nil
}

// Close ends the connections once what was asked is answered.
func (r *Registry) Close() {
	for _, c := range r.callers {
		c.Close()
	}
}

// Resolver asks a registry for servants, which are the services. A zero field takes the default named.
type Resolver struct {
	Registry *Registry
	Interval time.Duration // between two questions; 10 s, give or take a tenth
	Timeout  time.Duration // of one question, to all addresses; 5 s
	Most     int           // instances of one service; 10,000. More of them are a Fail
	// Allow are the networks that instances may be in: everywhere that registry.Allowed has without any. Those that are elsewhere
	// are skipped.
	Allow []netip.Prefix
}

// Watch reports the instances of a servant to to until ctx ends. A servant that the registry does not know is one without
// instances.
func (r *Resolver) Watch(ctx context.Context, service string, to registry.Sink) error {
	if strings.Count(service, ".") != 2 || strings.Contains("."+service+".", "..") || strings.ContainsAny(service, "@ ") {
		return fmt.Errorf(`tars: want a servant of three names, like "App.Server.Obj", found %q`, service)
	}
	w := &watch{r: r, body: tarswire.AppendString(nil, 1, service)}
	q := &polling.Question{Name: "tars", Interval: r.Interval, Timeout: r.Timeout, Ask: w.ask}
	return q.Watch(ctx, service, to)
}

// watch is one call of Watch.
type watch struct {
	r    *Resolver
	body []byte // what the function takes
	last int    // which of the callers answered
}

// function gives all instances of a servant, active and not.
const function = "findObjectById4Any"

// ask asks the addresses one after the other, beginning with that which answered last.
func (w *watch) ask(ctx context.Context) ([]registry.Endpoint, int, error) {
	due, _ := ctx.Deadline()
	callers := w.r.Registry.callers
	var all []error
	for i := range callers {
		at := (w.last + i) % len(callers)
		// What does not answer leaves time for the others.
		share := time.Until(due) / time.Duration(len(callers)-i)
		a, err := w.one(ctx, callers[at], share)
		if err == nil {
			w.last = at
			endpoints := slices.DeleteFunc(a.endpoints(), func(e registry.Endpoint) bool {
				refused := !registry.Allowed(w.r.Allow, e.Address)
				if refused {
					a.skipped++
				}
				return refused
			})
			return endpoints, a.skipped, nil
		}
		all = append(all, err)
	}
	return nil, 0, errors.Join(all...)
}

func (w *watch) one(ctx context.Context, c *tarsadapter.Caller, timeout time.Duration) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := c.Call(ctx, function, w.body)
	if err != nil {
		return nil, err
	}
	a := &answer{}
	return a, a.parse(body, cmp.Or(w.r.Most, 10_000))
}
