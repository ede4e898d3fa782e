package proxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/expr"
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

// suits holds what the plugins of a chain ask of requests against the methods whose calls they see. own: they are the gateway's.
func (b *builder) suits(members []*member, methods []*schema.Method, own bool) {
	for _, m := range members {
		for _, method := range methods {
			if m.when != nil {
				if f := m.when.Suits(method); f != nil && own {
					b.ownMisfit(m, m.path+".when", f)
				} else {
					b.misfit(m, m.path+".when", f)
				}
			}
			for _, in := range m.origins {
				c, ok := in.Plugin.(plugin.MethodChecker)
				if !ok || m.when != nil { // which may keep such calls from it
					continue
				}
				f, ok := errors.AsType[*plugin.Fault](c.CheckMethod(method))
				if !ok {
					continue
				}
				path, misfit := strings.TrimSuffix(m.path+".config."+f.Path, "."), &expr.Misfit{Text: f.Message, Always: true}
				if own {
					b.ownMisfit(m, path, misfit)
				} else {
					b.misfit(m, path, misfit)
				}
			}
		}
	}
}

// How far a plugin was found not to suit the methods of its routes.
const (
	doubtful = iota + 1
	unsuited
)

// ownMisfit is misfit for the gateway's own methods, which nobody wrote the expression for.
func (b *builder) ownMisfit(m *member, path string, f *expr.Misfit) {
	if f.Always {
		b.misfit(m, path, &expr.Misfit{Text: f.Text})
	}
}

// misfit tells, once for a plugin, that an expression fails over calls of a method.
func (b *builder) misfit(m *member, path string, f *expr.Misfit) {
	const fix = "ask has(message...) or for rpc.method in front of it, or write the plugin at the routes whose requests have the field"
	switch {
	case f == nil:
	case f.Always && b.unsuited[m] != unsuited:
		b.unsuited[m] = unsuited
		b.fault(path, "it would fail for every call of a method: %s", f.Text).WithFix(fix)
	case !f.Always && b.unsuited[m] == 0:
		b.unsuited[m] = doubtful
		b.warn(path, fix, "it may fail for calls of a method: %s", f.Text)
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
