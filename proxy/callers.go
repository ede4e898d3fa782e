package proxy

import (
	"fmt"
	"maps"
	"slices"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Warnings are what is in order by itself and hardly meant so, by the places in the configuration.
func (s *Snapshot) Warnings() []*config.Fault { return s.warnings }

// warn notes what does not refuse the snapshot.
func (b *builder) warn(path, fix, format string, args ...any) {
	b.snap.warnings = append(b.snap.warnings, b.doc.Fault(path, format, args...).WithFix(fix))
}

// names holds the consumers and groups that a plugin names against those that there are.
func (b *builder) names(at string, in *instance) {
	n, ok := in.Plugin.(plugin.CallerNamer)
	if !ok {
		return
	}
	groups := map[string]bool{}
	for _, u := range b.snap.consumers {
		for _, g := range u.Groups {
			groups[g] = true
		}
	}
	for _, c := range n.Callers() {
		path := at + ".config." + c.Path
		switch {
		case !c.Group && b.snap.consumers[c.Name] == nil:
			b.fault(path, "there is no consumer %q%s", c.Name, schema.DidYouMean(c.Name, slices.Sorted(maps.Keys(b.snap.consumers)))).
				WithFix("name one of `consumers`, or add it there")
		case c.Group && !groups[c.Name]:
			b.warn(path, "add it to the groups of a consumer, or remove it", "no consumer is in the group %q%s", c.Name, schema.DidYouMean(c.Name, slices.Sorted(maps.Keys(groups))))
		}
	}
}

// strangers warns of credentials that no plugin asks for.
func (b *builder) strangers() {
	asked := map[string]bool{}
	var note func(confs []*configv1.Plugin)
	note = func(confs []*configv1.Plugin) {
		for _, p := range confs {
			asked[p.GetName()] = true
			note(p.GetAnyOf())
		}
	}
	conf := b.doc.Config
	note(conf.GetPlugins())
	for _, s := range conf.GetServices() {
		note(s.GetPlugins())
	}
	for _, r := range conf.GetRoutes() {
		note(r.GetPlugins())
	}
	for i, u := range conf.GetConsumers() {
		for j, c := range u.GetCredentials() {
			if !asked[c.GetPlugin()] {
				b.warn(fmt.Sprintf("consumers[%d].credentials[%d].plugin", i, j), "add the plugin, or remove the credential", "no plugin %q asks for this credential", c.GetPlugin())
			}
		}
	}
}

// idle warns of stores that no plugin uses.
func (b *builder) idle() {
	used := map[string]bool{}
	for _, in := range b.snap.plugins {
		for _, name := range in.stores {
			used[name] = true
		}
	}
	for i, s := range b.doc.Config.GetStores() {
		if !used[s.GetName()] {
			b.warn(fmt.Sprintf("stores[%d].name", i), "name it as the `store` of a plugin, or remove it", "no plugin uses the store %q", s.GetName())
		}
	}
}
