package registry_test

import (
	"net/netip"
	"testing"

	"github.com/causeway-gateway/causeway/registry"
)

func TestAllowed(t *testing.T) {
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		address         string
		freely, ofThose bool
	}{
		{"10.1.2.3:80", true, true},
		{"[::ffff:10.1.2.3]:80", true, true},
		{"[fd00::1]:80", true, true},
		{"127.0.0.1:80", true, false},
		{"11.0.0.1:80", true, false},
		{"orders.internal:80", true, false},
		{"169.254.169.254:80", false, false},
		{"[fe80::1%eth0]:80", false, false},
		{"[::ffff:169.254.169.254]:80", false, false},
		{"0.0.0.0:80", false, false},
		{"[::]:80", false, false},
		{"224.0.0.1:80", false, false},
		{"10.1.2.3", false, false},
		{"", false, false},
	} {
		if got := registry.Allowed(nil, c.address); got != c.freely {
			t.Errorf("%q without networks: want %v, found %v", c.address, c.freely, got)
		}
		if got := registry.Allowed(nets, c.address); got != c.ofThose {
			t.Errorf("%q in %v: want %v, found %v", c.address, nets, c.ofThose, got)
		}
	}
}
