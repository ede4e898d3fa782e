package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// refuses is why the plugin refuses calls of a method that come by a protocol which is not HTTP, "" where it need not; sure: it
// refuses all of them, whatever its condition is.
func (m *member) refuses(method *schema.Method, protocol string) (why string, sure bool) {
	sure = true
	if m.when != nil {
		holds, known := m.when.Holds(method, protocol)
		if known && !holds {
			return "", false
		}
		sure = known
	}
	for _, in := range m.origins {
		r, ok := in.Plugin.(plugin.HTTPReader)
		if !ok {
			return "", false // of several ways one is open
		}
		if why = r.WithoutHTTP(method); why == "" {
			return "", false
		}
	}
	return why, sure
}

// refused is why calls of a method over a protocol that is not HTTP are refused on the route, "" where they need not be.
func (r *route) refused(method *schema.Method, protocol string) string {
	for _, m := range r.members {
		if why, sure := m.refuses(method, protocol); why != "" && sure {
			return m.name + ": " + why
		} else if why != "" {
			return m.String() + ": " + why
		}
	}
	return ""
}

// bare looks for plugins that refuse every call which comes by the protocol of a table: where nothing is called by HTTP they are
// refused, and warned of where something is.
func (b *builder) bare(table *inletTable) {
	byHTTP := false
	for _, conf := range b.doc.Config.GetListen() {
		byHTTP = byHTTP || b.std.inlet(conf) == nil
	}
	for _, name := range slices.Sorted(maps.Keys(table.names)) {
		for i := range table.names[name] {
			t := &table.names[name][i]
			if t.route.Route == ownName {
				continue // nobody wrote the plugin for that
			}
			for _, m := range slices.Concat(t.route.members, b.ofConsumers) {
				why, sure := m.refuses(t.method, table.protocol)
				if why == "" || b.misplaced[m] || b.bared[m] {
					continue
				}
				b.bared[m] = true
				text := fmt.Sprintf("calls of %s over %s are refused by %s: %s", t.method.Name[1:], table.protocol, m.name, why)
				fix := fmt.Sprintf("keep them from the plugin (when: request.protocol != '%s'), or write it at other routes", table.protocol)
				if _, finds := m.plugin.(plugin.Authenticator); finds {
					fix = "write any_of: with another way to find out who calls beside it, or serve the method by HTTP alone"
				}
				if sure && !byHTTP {
					b.fault(m.path, "%s, and there is no other listener", text).WithFix(strings.Replace(fix, "serve the method by HTTP alone", "add a listener for HTTP", 1))
				} else {
					b.warn(m.path, fix, "%s", text)
				}
			}
		}
	}
}
