// Package acl is the plugin acl: it lets consumers and groups in, or keeps them out.
package acl

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	aclv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/acl/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "acl",
	Config: func() proto.Message { return new(aclv1.ACL) },
	New:    newPlugin,
}

// Reason is that of every refusal.
const Reason = "ACCESS_DENIED"

// list never changes once made.
type list struct {
	allow, deny     *members // nil: not given
	authenticated   bool     // a verified token is enough
	named           []plugin.CallerName
	allowed, denied *telemetry.Counter
}

// members are consumers by name and group.
type members struct {
	consumers map[string]bool
	groups    map[string]bool
}

// has tells whether a consumer is one of them.
func (m *members) has(u *rpc.Consumer) bool {
	if m.consumers[u.Name] {
		return true
	}
	return len(m.groups) > 0 && slices.ContainsFunc(u.Groups, func(g string) bool { return m.groups[g] })
}

// Callers implements plugin.CallerNamer.
func (l *list) Callers() []plugin.CallerName { return l.named }

// ReadsCaller implements plugin.CallerReader.
func (l *list) ReadsCaller() (reads, needs bool) { return true, true }

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*aclv1.ACL)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	switch {
	case conf.GetAllow() == nil && conf.GetDeny() == nil && !conf.GetAuthenticated():
		return nil, plugin.Faultf("", "add allow: {consumers: [...]}, deny: {...} or authenticated: true", "an access list that says nothing")
	case conf.GetAllow() != nil && conf.GetAuthenticated():
		return nil, plugin.Faultf("authenticated", "remove it: whom `allow` names is known", "`authenticated` beside `allow`")
	}
	l := &list{authenticated: conf.GetAuthenticated()}
	var err error
	if l.allow, err = l.newMembers("allow", conf.GetAllow()); err != nil {
		return nil, err
	}
	if l.deny, err = l.newMembers("deny", conf.GetDeny()); err != nil {
		return nil, err
	}
	calls, err := env.Meter.Counter("causeway_acl_total", "", "Calls that acl looked at, by result.", "result")
	if err != nil {
		return nil, err
	}
	l.allowed, l.denied = calls.With("allowed"), calls.With("denied")
	return l, nil
}

func (l *list) newMembers(path string, conf *aclv1.Members) (*members, error) {
	if conf == nil {
		return nil, nil
	}
	if len(conf.GetConsumers()) == 0 && len(conf.GetGroups()) == 0 {
		return nil, plugin.Faultf(path, "name `consumers` or `groups`, or remove it", "`%s` names nobody", path)
	}
	m := &members{consumers: map[string]bool{}, groups: map[string]bool{}}
	for _, part := range []struct {
		of    string
		names []string
		set   map[string]bool
	}{{"consumers", conf.GetConsumers(), m.consumers}, {"groups", conf.GetGroups(), m.groups}} {
		for i, name := range part.names {
			at := fmt.Sprintf("%s.%s[%d]", path, part.of, i)
			if name == "" || part.set[name] {
				return nil, plugin.Faultf(at, "remove it", "wanted a name that is not there yet, found %q", name)
			}
			part.set[name] = true
			l.named = append(l.named, plugin.CallerName{Path: at, Name: name, Group: part.of == "groups"})
		}
	}
	return m, nil
}

// Wrap implements plugin.Plugin.
func (l *list) Wrap(next rpc.Handler) rpc.Handler { return &handler{l, next} }

type handler struct {
	*list
	next rpc.Handler
}

var (
	errNobody  = errors.New("nobody is known to call")
	errDenied  = errors.New("`deny` has the consumer")
	errMissing = errors.New("`allow` does not have the consumer")
)

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	if cause := h.refuses(c); cause != nil {
		h.denied.Inc()
		return rpc.Refuse(codes.PermissionDenied, Reason, "access is denied").WithCause(cause)
	}
	h.allowed.Inc()
	return h.next.Handle(ctx, c)
}

// refuses says why a call is refused, or nil. Who is not known by name is refused by a list, also where it only says who is
// kept out: it might be one of those.
func (l *list) refuses(c *rpc.Call) error {
	u := c.Consumer
	if u == nil {
		if l.authenticated && c.Claims != nil {
			return nil
		}
		return errNobody
	}
	if l.deny != nil && l.deny.has(u) {
		return errDenied
	}
	if l.allow != nil && !l.allow.has(u) {
		return errMissing
	}
	return nil
}
