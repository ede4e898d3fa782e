// Package iprestriction is the plugin ip_restriction: it lets calls through by the client's address.
package iprestriction

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	iprestrictionv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/iprestriction/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "ip_restriction",
	Config: func() proto.Message { return new(iprestrictionv1.IPRestriction) },
	New:    newPlugin,
}

// restriction never changes once made.
type restriction struct {
	every       bool // who is not denied may call
	allow, deny networks
}

func newPlugin(config proto.Message, _ plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*iprestrictionv1.IPRestriction)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	if len(conf.GetAllow()) == 0 && len(conf.GetDeny()) == 0 {
		return nil, plugin.Faultf("", `list who may call: allow: ["10.0.0.0/8"], or who may not: deny`, "neither `allow` nor `deny`")
	}
	r := &restriction{every: len(conf.GetAllow()) == 0}
	var err error
	if r.allow, err = read("allow", conf.GetAllow()); err != nil {
		return nil, err
	}
	if r.deny, err = read("deny", conf.GetDeny()); err != nil {
		return nil, err
	}
	return r, nil
}

// span is the addresses from the first to the last, of one family.
type span struct{ first, last netip.Addr }

// networks are spans that rise and do not overlap.
type networks []span

func read(key string, list []string) (networks, error) {
	var spans networks
	for i, text := range list {
		p, err := network(text)
		at := fmt.Sprintf("%s[%d]", key, i)
		if err != nil {
			return nil, plugin.Faultf(at, "write a network (10.0.0.0/8, fd00::/8) or an address", "%q is not a network", text)
		}
		if p.Masked() != p {
			return nil, plugin.Faultf(at, "write "+p.Masked().String(), "%q has bits beyond its length", text)
		}
		spans = append(spans, span{p.Addr(), lastOf(p)})
	}
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && s.first.Compare(out[n-1].last) <= 0 {
			if out[n-1].last.Less(s.last) {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out, nil
}

// network reads a network, or an address as a network of one. IPv4 in the form of IPv6 (::ffff:10.0.0.0/104) is IPv4, which
// clients' addresses are too.
func network(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone", s)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, err
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, fmt.Errorf("%q is neither of IPv4 nor of IPv6", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, nil
}

// lastOf is the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(raw) // 4 or 16 bytes
	return last
}

// has tells whether an address is in one of the networks.
func (n networks) has(a netip.Addr) bool {
	low, high := 0, len(n)
	for low < high {
		if mid := int(uint(low+high) >> 1); n[mid].first.Compare(a) <= 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low > 0 && a.Compare(n[low-1].last) <= 0
}

// Wrap implements plugin.Plugin.
func (r *restriction) Wrap(next rpc.Handler) rpc.Handler { return &handler{r, next} }

type handler struct {
	*restriction
	next rpc.Handler
}

// Handle implements rpc.Handler. A caller without an address has none that is allowed.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	a := c.Address()
	if !a.IsValid() || h.deny.has(a) || !h.every && !h.allow.has(a) {
		return rpc.Refuse(codes.PermissionDenied, "ADDRESS_NOT_ALLOWED", "calls from this address are not allowed").WithStatus(403)
	}
	return h.next.Handle(ctx, c)
}
