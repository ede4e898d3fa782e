package proxy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// client finds who calls behind trusted proxies: the last address of X-Forwarded-For that is not one of theirs. Each proxy
// appends whom it saw, so whatever stands in front of that is hearsay. The edge asks once for each request.
func (s *Snapshot) client(x *wire.Exchange) {
	x.Client = netip.Addr{}
	if !s.trusts(x.Peer.Addr()) {
		return
	}
	header := x.HTTP.Header
	if proto := header.Get("x-forwarded-proto"); proto == "http" || proto == "https" {
		x.HTTP.Scheme = proto // of the caller, where the proxy ends TLS
	}
	for _, h := range slices.Backward(header) {
		if h.Key != "x-forwarded-for" {
			continue
		}
		for rest := h.Value; ; {
			at := strings.LastIndexByte(rest, ',')
			a, ok := forwardedFor(rest[at+1:])
			if !ok {
				return // a trusted proxy does not write that: nobody is believed beyond it
			}
			x.Client = a
			if !s.trusts(a) {
				return
			}
			if at < 0 {
				break
			}
			rest = rest[:at]
		}
	}
}

func (s *Snapshot) trusts(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range s.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// forwardedFor reads one element of X-Forwarded-For: an address, with a port where the proxy writes one.
func forwardedFor(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	a, err := netip.ParseAddr(s)
	if err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		a = ap.Addr()
	}
	return a.Unmap().WithZone(""), true
}
