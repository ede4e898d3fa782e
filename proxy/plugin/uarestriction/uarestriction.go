// Package uarestriction is the plugin ua_restriction: it lets calls through by what the client says that it is.
package uarestriction

import (
	"context"
	"fmt"
	"regexp"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	uarestrictionv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/uarestriction/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "ua_restriction",
	Config: func() proto.Message { return new(uarestrictionv1.UARestriction) },
	New:    newPlugin,
}

// restriction never changes once made.
type restriction struct {
	allow, deny []*regexp.Regexp
	missing     bool // calls that say nothing pass
}

// maxValue is the longest User-Agent that is looked at, in bytes. Longer ones are refused, for no client is called so.
const maxValue = 2048

func newPlugin(config proto.Message, _ plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*uarestrictionv1.UARestriction)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	if len(conf.GetAllow()) == 0 && len(conf.GetDeny()) == 0 {
		return nil, plugin.Faultf("", `list what may call: allow: ["^acme-app/"], or what may not: deny`, "neither `allow` nor `deny`")
	}
	r := &restriction{missing: conf.GetAllowMissing()}
	var err error
	if r.allow, err = plugin.Regexps("allow", conf.GetAllow(), false); err != nil {
		return nil, err
	}
	if r.deny, err = plugin.Regexps("deny", conf.GetDeny(), false); err != nil {
		return nil, err
	}
	return r, nil
}

// Wrap implements plugin.Plugin.
func (r *restriction) Wrap(next rpc.Handler) rpc.Handler { return &handler{r, next} }

type handler struct {
	*restriction
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	header := c.Header
	if c.HTTP != nil {
		header = c.HTTP.Header // also what metadata cannot carry
	}
	if !h.passes(header) {
		return rpc.Refuse(codes.PermissionDenied, "USER_AGENT_NOT_ALLOWED", "calls from this client are not allowed").WithStatus(403)
	}
	return h.next.Handle(ctx, c)
}

// passes tells whether each User-Agent may call: of several, nobody knows which one the others go by.
func (r *restriction) passes(header rpc.Metadata) bool {
	said := false
	for i := range header {
		if header[i].Key != "user-agent" || header[i].Value == "" {
			continue
		}
		said = true
		v := header[i].Value
		if len(v) > maxValue || plugin.AnyMatch(r.deny, v) || len(r.allow) > 0 && !plugin.AnyMatch(r.allow, v) {
			return false
		}
	}
	return said || r.missing
}
