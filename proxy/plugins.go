package proxy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/expr"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// instance is a plugin with what it holds: made once, it serves every snapshot whose configuration has it unchanged.
type instance struct {
	plugin.Plugin
	held   []*kept  // state that outlives it
	stores []string // names of those that it uses
}

// close ends the plugin and lets go of its state.
func (i *instance) close() error {
	var err error
	if c, ok := i.Plugin.(io.Closer); ok {
		err = c.Close()
	}
	for _, k := range i.held {
		err = errors.Join(err, k.release())
	}
	return err
}

// member is one place of a chain.
type member struct {
	name    string // "jwt_auth", "any of jwt_auth, key_auth"
	scope   string // "global", "service orders", ...
	path    string // in the document
	when    *expr.Program
	plugin  plugin.Plugin
	origins []*instance // what it consists of
	acts    bool        // it does something before the end of calls
	// evaluated are the expressions of its configuration and its condition, as far as calls come to them.
	evaluated []*evaluated
}

// String is how explain shows it.
func (m *member) String() string {
	s := m.name + " (" + m.scope + ")"
	if m.when != nil {
		s += " when " + m.when.String()
	}
	return s
}

// The scopes of plugins, as explain and plugin.Env have them.
const globalScope = "global"

// pluginsOf makes the plugins of one scope, or takes over those that the former snapshot has with the same configuration.
func (b *builder) pluginsOf(path, scope string, confs []*configv1.Plugin) []*member {
	out := make([]*member, 0, len(confs))
	for i, conf := range confs {
		at := fmt.Sprintf("%s[%d]", path, i)
		m := &member{name: conf.GetName(), scope: scope, path: at}
		if len(conf.GetAnyOf()) > 0 {
			if !b.anyOf(m, conf.GetAnyOf()) {
				continue
			}
		} else if in := b.instance(at, scope, conf); in != nil {
			m.plugin, m.origins = in.Plugin, []*instance{in}
		} else {
			continue
		}
		if conf.GetWhen() != "" {
			b.condition(m, conf.GetWhen())
		}
		out = append(out, m)
	}
	return out
}

// anyOf makes the plugins of which one has to accept a call.
func (b *builder) anyOf(m *member, confs []*configv1.Plugin) bool {
	var names []string
	var members []plugin.Authenticator
	for i, conf := range confs {
		at := fmt.Sprintf("%s.any_of[%d]", m.path, i)
		in := b.instance(at, m.scope, conf)
		if in == nil {
			continue
		}
		a, ok := in.Plugin.(plugin.Authenticator)
		if !ok {
			b.fault(at, "plugin %q does not find out who calls, so it cannot be one of several ways to", conf.GetName()).
				WithFix("move it out of any_of")
			continue
		}
		names, members, m.origins = append(names, conf.GetName()), append(members, a), append(m.origins, in)
	}
	m.name, m.plugin = anyOfPrefix+strings.Join(names, ", "), plugin.AnyOf(members...)
	return len(members) == len(confs)
}

// condition compiles a plugin's condition.
func (b *builder) condition(m *member, text string) {
	for _, in := range m.origins {
		_, preflights := in.Plugin.(plugin.Preflighter)
		if _, dresses := in.Plugin.(plugin.Dresser); preflights || dresses {
			b.fault(m.path+".when", "plugin %q acts on every answer of its routes, so it cannot have a condition", m.name).
				WithFix("remove `when`, and write the plugin at the routes that it is for")
			return
		}
	}
	when, err := expr.Bool(text)
	if err != nil {
		b.fault(m.path+".when", "%s", err)
		return
	}
	m.when = when
}

// instance makes one plugin, or takes it over; nil: there was a fault.
func (b *builder) instance(at, scope string, conf *configv1.Plugin) *instance {
	k := slices.IndexFunc(b.std.Plugins, func(k plugin.Kind) bool { return k.Name == conf.GetName() })
	if k < 0 {
		b.fault(at+".name", "there is no plugin %q%s", conf.GetName(), schema.DidYouMean(conf.GetName(), b.std.PluginNames()))
		return nil
	}
	kind := b.std.Plugins[k]
	creds, digest, ok := b.credentials(&kind)
	if !ok {
		return nil
	}
	// Equal plugins of one scope are told apart by their order.
	own := fmt.Sprintf("%s\x00%s\x00%s", scope, kind.Name, conf.GetConfig().GetValue())
	b.equal[own]++
	own = fmt.Sprintf("%d\x00%s", b.equal[own], own)
	key := own + "\x00" + digest + b.collects
	if b.prev != nil && b.prev.plugins[key] != nil {
		in := b.prev.plugins[key]
		if err := b.snap.wants(in.stores...); err != nil {
			b.fault(at, "plugin %q: %s", kind.Name, err)
			return nil
		}
		b.snap.plugins[key] = in
		b.names(at, in)
		return in
	}
	msg := kind.Config()
	if err := proto.Unmarshal(conf.GetConfig().GetValue(), msg); err != nil {
		b.fault(at+".config", "plugin %q: %s", kind.Name, err)
		return nil
	}
	in := &instance{}
	env := b.env
	env.Scope, env.Credentials = scope, creds
	env.Log = b.log.With("plugin", kind.Name, "scope", scope)
	env.Store = func(name string) (plugin.Store, error) {
		in.stores = append(in.stores, name)
		return b.lend(name), b.snap.wants(name)
	}
	env.Keep = func(name string, create func() (any, error)) (any, error) {
		k, err := b.states.acquire(own+"\x00"+name, create)
		if err != nil {
			return nil, err
		}
		in.held = append(in.held, k)
		return k.value, nil
	}
	var err error
	in.Plugin, err = kind.New(msg, env)
	if err != nil {
		_ = (&instance{held: in.held}).close() // the fault is told
		b.pluginFault(at, kind.Name, err)
		return nil
	}
	b.made = append(b.made, func() { _ = in.close() }) // the snapshot is refused for a reason that is told
	b.snap.plugins[key] = in
	b.names(at, in)
	return in
}

// pluginFault notes why a plugin could not be made.
func (b *builder) pluginFault(at, name string, err error) {
	f, ok := errors.AsType[*plugin.Fault](err)
	if !ok {
		b.fault(at, "plugin %q: %s", name, err)
		return
	}
	path := f.Path
	if !strings.HasPrefix(path, "consumers[") { // of a credential
		path = strings.TrimSuffix(at+".config."+path, ".")
	}
	fault := b.fault(path, "%s", f.Message)
	if f.Fix != "" {
		_ = fault.WithFix(f.Fix)
	}
}

// credentials are what consumers have for a kind of plugin, and a digest of them.
func (b *builder) credentials(kind *plugin.Kind) (creds []plugin.Credential, digest string, ok bool) {
	if kind.Credential == nil {
		return nil, "", true
	}
	var sum bytes.Buffer
	for i, conf := range b.doc.Config.GetConsumers() {
		for j, c := range conf.GetCredentials() {
			if c.GetPlugin() != kind.Name {
				continue
			}
			path := fmt.Sprintf("consumers[%d].credentials[%d].config", i, j)
			msg := kind.Credential()
			if err := proto.Unmarshal(c.GetConfig().GetValue(), msg); err != nil {
				b.fault(path, "credential for %q: %s", kind.Name, err)
				return nil, "", false
			}
			u := b.snap.consumers[conf.GetName()]
			creds = append(creds, plugin.Credential{Consumer: u.Consumer, Config: msg, Path: path})
			fmt.Fprintf(&sum, "%s\x00%q\x00", u.digest, c.GetConfig().GetValue())
		}
	}
	return creds, sum.String(), true
}

// consumer is somebody known, with the chain of its own plugins.
type consumer struct {
	*rpc.Consumer
	digest  string
	handler rpc.Handler // nil: no plugins
	finish  finishers
	chain   []string
}

// consumers reads the consumers; what is unchanged is taken over, so that plugins hold the same ones.
func (b *builder) consumers() {
	for _, conf := range b.doc.Config.GetConsumers() {
		who := &configv1.Consumer{Name: conf.GetName(), Groups: conf.GetGroups(), Labels: conf.GetLabels()}
		raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(who) // strings that were read as UTF-8
		u := &consumer{digest: string(raw)}
		if old := b.formerConsumer(conf.GetName()); old != nil && old.digest == u.digest {
			u.Consumer = old.Consumer
		} else {
			u.Consumer = &rpc.Consumer{Name: who.GetName(), Groups: who.GetGroups(), Labels: who.GetLabels(), GroupList: strings.Join(who.GetGroups(), ",")}
		}
		b.snap.consumers[conf.GetName()] = u
	}
}

func (b *builder) formerConsumer(name string) *consumer {
	if b.prev == nil {
		return nil
	}
	return b.prev.consumers[name]
}

// consumerChains make the plugins of consumers.
func (b *builder) consumerChains() {
	for i, conf := range b.doc.Config.GetConsumers() {
		u := b.snap.consumers[conf.GetName()]
		members := b.pluginsOf(fmt.Sprintf("consumers[%d].plugins", i), "consumer "+conf.GetName(), conf.GetPlugins())
		if len(members) == 0 {
			continue
		}
		for _, m := range members {
			for _, in := range m.origins {
				switch in.Plugin.(type) {
				case plugin.Authenticator:
					b.fault(m.path, "plugin %q finds out who calls, and here that is known", m.name).WithFix("write it at the routes")
				case plugin.Preflighter, plugin.Dresser:
					b.fault(m.path, "plugin %q acts on every answer of a route, whoever calls", m.name).WithFix("write it at the routes")
				case plugin.Director:
					b.fault(m.path, "plugin %q sends calls elsewhere, which is for routes", m.name).WithFix("write it at the routes, with a condition: when: consumer.name == '" + conf.GetName() + "'")
				}
			}
		}
		b.ofConsumers = append(b.ofConsumers, members...)
		u.handler, u.finish = b.wrap(members, resume{}, maxConditions/2)
		b.snap.consumerPlugins = true
		b.asserted = append(b.asserted, slices.DeleteFunc(asserted(members), plugin.CarriesCredentials)...)
		for _, m := range members {
			u.chain = append(u.chain, m.String())
		}
	}
}

// known sends the calls of a consumer through the consumer's own plugins.
type known struct {
	snap *Snapshot
	next rpc.Handler
}

// newChain puts plugins in front of a route's last handler, and what they can do beside into the route.
func (b *builder) newChain(r *route, members []*member, h rpc.Handler) {
	if b.snap.consumerPlugins {
		h = &known{b.snap, h}
	}
	h, r.finish = b.wrap(members, h, 0)
	b.callers(members)
	r.members = members
	if len(b.asserted) > 0 { // a service takes them for proven, whoever calls
		h = plugin.Without(b.asserted, h)
	}
	r.snap = b.snap
	for _, m := range members {
		r.chain = append(r.chain, m.String())
		for _, in := range m.origins {
			if d, ok := in.Plugin.(plugin.Dresser); ok {
				r.dressers = append(r.dressers, d)
			}
			if s, ok := in.Plugin.(plugin.Scripted); ok {
				r.scripted = append(r.scripted, s.RequestHeaders()...)
			}
			if p, ok := in.Plugin.(plugin.Preflighter); ok {
				r.preflight = p
				b.snap.preflights = true
			}
		}
	}
	if b.snap.consumerPlugins {
		r.chain = append(r.chain, "those of the consumer")
	}
	r.handler = &guard{next: h, panics: b.panics, log: b.log}
	b.snap.routes = append(b.snap.routes, r)
}

// callers refuses plugins that go by who calls where nobody knows that so far.
func (b *builder) callers(members []*member) {
	found := false
	for i, m := range members {
		var finder *member // behind m
		if later := slices.IndexFunc(members[i+1:], findsOut); later >= 0 {
			finder = members[i+1+later]
		}
		b.asksWho(m, found, finder)
		found = found || findsOut(m)
		r, ok := m.plugin.(plugin.CallerReader)
		if !ok || found || b.misplaced[m] {
			continue
		}
		reads, needs := r.ReadsCaller()
		if reads && (needs || finder != nil) {
			b.misplaced[m] = true
			fix := "add a plugin that finds out who calls in front of it: key_auth, jwt_auth, ..."
			if finder != nil {
				fix = "write it behind " + finder.name
			}
			b.fault(m.path, "plugin %q goes by who calls, and here nobody knows that so far", m.name).WithFix(fix)
		}
	}
}

// findsOut tells a plugin that finds out who calls.
func findsOut(m *member) bool {
	_, ok := m.plugin.(plugin.Authenticator)
	return ok
}

// maxConditions is how many bits rpc.Call.Entered has; a route's chain has the lower half, a consumer's the upper.
const maxConditions = 64

// wrap puts plugins around h, the first outermost. Conditions have the bits from bit on.
func (b *builder) wrap(members []*member, h rpc.Handler, bit int) (rpc.Handler, finishers) {
	most := bit + maxConditions/2
	var finish finishers
	for _, m := range slices.Backward(members) {
		past := h
		h = m.plugin.Wrap(past)
		m.acts = m.acts || h != past
		var mask uint64
		if m.when != nil && h == past && m.when.ReadsMessage() && !b.misplaced[m] {
			b.misplaced[m] = true
			b.fault(m.path+".when", "`message` is not there any more when plugin %q acts, at the end of calls", m.name).WithFix("ask for what else is known: metadata, path, rpc.method, answer")
		}
		if m.when != nil && h != past {
			if bit >= most {
				b.fault(m.path+".when", "a call passes more than %d plugins with conditions here", maxConditions/2).WithFix("remove some")
				return h, finish
			}
			mask = 1 << bit
			bit++
			if m.when.AfterAnswer() {
				b.fault(m.path+".when", "`answer` is not known yet when a call reaches plugin %q", m.name).WithFix("ask for what is known of the request")
			}
			h = &conditional{when: m.when, bit: mask, with: h, past: past}
		}
		for _, in := range slices.Backward(m.origins) {
			if f, ok := in.Plugin.(rpc.Finisher); ok {
				if m.when != nil {
					f = &conditionalEnd{when: m.when, bit: mask, next: f}
				}
				finish = append(finish, f)
			}
		}
	}
	slices.Reverse(finish)
	if names := asserted(members); len(names) > 0 {
		h = plugin.Without(names, h)
	}
	return h, finish
}

// asserted are the headers by which the plugins of a chain tell what they found: no caller may send them.
func asserted(members []*member) []string {
	var names []string
	for _, m := range members {
		for _, in := range m.origins {
			if a, ok := in.Plugin.(plugin.Asserter); ok {
				names = append(names, a.Asserts()...)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// directed finds the services that the plugins of a chain may send calls to, and checks that they can take them.
func (b *builder) directed(members []*member, methods []*schema.Method) []alternative {
	var out []alternative
	for _, m := range members {
		if b.misplaced[m] {
			continue // told for another route already
		}
		for _, in := range m.origins {
			d, ok := in.Plugin.(plugin.Director)
			if !ok {
				continue
			}
			chosen, called := d.Services()
			for _, name := range append(slices.Clone(chosen), called...) {
				if b.snap.services[name] == nil {
					b.misplaced[m] = true
					b.fault(m.path, "plugin %q: there is no service %q%s", m.name, name, schema.DidYouMean(name, b.serviceNames()))
				}
			}
			for _, name := range chosen {
				sv := b.snap.services[name]
				if sv == nil || slices.ContainsFunc(out, func(a alternative) bool { return a.name == name }) {
					continue
				}
				if missing := sv.lacks(methods); missing != nil {
					b.fault(m.path, "plugin %q: service %q does not serve %s, which the route sends there", m.name, name, missing.Name[1:])
				}
				out = append(out, alternative{name, sv})
			}
		}
	}
	return out
}

// lacks is a method that the service does not serve, or serves with other messages; nil: there is none.
func (sv *service) lacks(methods []*schema.Method) *schema.Method {
	if sv.schema == nil {
		return nil // told already
	}
	own := sv.methods("*")
	for _, m := range methods {
		if !slices.ContainsFunc(own, func(o *schema.Method) bool {
			return o.Name == m.Name && o.Kind == m.Kind && o.Input.Name == m.Input.Name && o.Output.Name == m.Output.Name
		}) {
			return m
		}
	}
	return nil
}

func (b *builder) serviceNames() []string {
	var names []string
	for name := range b.snap.services {
		names = append(names, name)
	}
	slices.SortFunc(names, cmp.Compare)
	return names
}

// PluginNames are the names of the plugins that this build has.
func (s *Standard) PluginNames() []string {
	names := make([]string, len(s.Plugins))
	for i, k := range s.Plugins {
		names[i] = k.Name
	}
	return names
}

// ConfigTypes gives the configuration the messages of its plugins and protocols.
func (s *Standard) ConfigTypes() config.Types {
	types := config.Types{Plugins: config.Messages{}, Credentials: config.Messages{}, Adapters: config.Messages{}, Protocols: config.Messages{"http": nil}}
	for _, k := range s.Plugins {
		types.Plugins[k.Name] = k.Config().ProtoReflect().Descriptor()
		if k.Credential != nil {
			types.Credentials[k.Name] = k.Credential().ProtoReflect().Descriptor()
		}
	}
	for _, a := range s.Adapters {
		types.Adapters[a.Name()] = optionsOf(a)
	}
	for _, i := range s.Inlets {
		types.Protocols[i.Name()] = optionsOf(i)
	}
	return types
}

// settings makes the message of what an adapter or an inlet is told; nil where it takes nothing.
func settings(of any, given *anypb.Any) (proto.Message, error) {
	c, ok := of.(rpcadapters.Configured)
	if !ok {
		return nil, nil
	}
	m := c.Config()
	if given != nil {
		if err := given.UnmarshalTo(m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// optionsOf is the message of what an adapter or an inlet is told, nil where there is none.
func optionsOf(of any) protoreflect.MessageDescriptor {
	if c, ok := of.(rpcadapters.Configured); ok {
		return c.Config().ProtoReflect().Descriptor()
	}
	return nil
}
