package registry

import (
	"net"
	"net/netip"
	"slices"
)

// Allowed tells whether an instance may be at an address, host:port: who can write to a registry could else make the gateway
// call what only it can reach. Without networks everything is allowed but link-local, multicast and unspecified addresses; with
// them names are not, for they may lead anywhere.
func Allowed(where []netip.Prefix, address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	at, err := netip.ParseAddr(host)
	if err != nil {
		return len(where) == 0
	}
	at = at.Unmap().WithZone("")
	if len(where) == 0 {
		return !at.IsLinkLocalUnicast() && !at.IsMulticast() && !at.IsUnspecified()
	}
	return slices.ContainsFunc(where, func(p netip.Prefix) bool { return p.Contains(at) })
}
