package zookeeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
)

// tellNowhere says once that a service has no node, and what is there in its place: a name or a layout that is not right looks
// like a service that nobody has started.
func (w *watch) tellNowhere(ctx context.Context) error {
	nowhere := !slices.ContainsFunc(w.places, func(p *place) bool { return !p.missing })
	if !nowhere || w.nowhere || len(w.places) == 0 {
		w.nowhere = nowhere
		return nil
	}
	path := w.places[0].Path
	for above := path; ; {
		var below bool
		if above, _, below = cutLast(above); !below {
			return nil
		}
		at := cmp.Or(above, "/")
		node, err := w.c.read(ctx, w.generation, at)
		switch {
		case errors.Is(err, zk.ErrNoAuth):
			return nil // nobody can tell
		case err != nil:
			return err
		case node.stat == nil:
			continue
		}
		names, err := w.c.children(ctx, w.generation, at)
		if err != nil {
			return err
		}
		w.nowhere = true
		const most = 10
		there := strings.Join(names[:min(len(names), most)], ", ")
		if len(names) > most {
			there += fmt.Sprintf(" and %d more", len(names)-most)
		}
		w.c.cfg.Log.Warn("zookeeper: nothing is registered as this service so far: the registry has no such node",
			"service", w.service, "node", path, "nearest", at, "has", cmp.Or(there, "nothing"))
		return nil
	}
}

// unwanted counts the entries of hosts that offer nothing which is wanted, and tells why of one. Where a host also offers what is,
// another entry has it.
func (w *watch) unwanted(all []registry.Endpoint) (count int, why error) {
	var hosts map[string]struct{} // of those that are taken
	for _, p := range w.places {
		for _, e := range p.entries {
			if e.other == "" {
				continue
			}
			if hosts == nil {
				hosts = map[string]struct{}{}
				for _, ep := range all {
					if host, _, err := net.SplitHostPort(ep.Address); err == nil {
						hosts[host] = struct{}{}
					}
				}
			}
			if _, taken := hosts[e.other]; !taken {
				count++
				why = e.why
			}
		}
	}
	return count, why
}
