package iprestriction

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing", Config: `{}`, Path: "", Want: "neither", Fix: "allow"},
		{Name: "a name", Config: `{allow: [10.0.0.0/8, localhost]}`, Path: "allow[1]", Want: `"localhost" is not a network`, Fix: "10.0.0.0/8"},
		{Name: "bits beyond", Config: `{deny: [10.0.0.1/8]}`, Path: "deny[0]", Want: "beyond its length", Fix: "write 10.0.0.0/8"},
		{Name: "a zone", Config: `{deny: ["fe80::1%eth0"]}`, Path: "deny[0]", Want: "not a network", Fix: "write"},
		{Name: "half mapped", Config: `{deny: ["::ffff:0:0/90"]}`, Path: "deny[0]", Want: "not a network", Fix: "write"},
		{Name: "too long", Config: `{allow: [10.0.0.0/33]}`, Path: "allow[0]", Want: "not a network", Fix: "write"},
	})
}

func TestHandle(t *testing.T) {
	const both = `{allow: [10.0.0.0/8, "fd00::/8", "::ffff:192.0.2.0/120"], deny: [10.0.0.7, "fd00:bad::/32", 10.1.0.0/16]}`
	for _, tc := range []struct {
		config, address string
		passes          bool
	}{
		{both, "10.0.0.6", true},
		{both, "10.0.0.7", false},
		{both, "10.0.0.8", true},
		{both, "10.0.255.255", true},
		{both, "10.1.0.0", false},
		{both, "10.1.255.255", false},
		{both, "10.255.255.255", true},
		{both, "11.0.0.0", false},
		{both, "9.255.255.255", false},
		{both, "::ffff:10.0.0.6", true},
		{both, "::ffff:10.0.0.7", false},
		{both, "::10.0.0.6", false},
		{both, "192.0.2.255", true},
		{both, "192.0.3.0", false},
		{both, "fd00::1", true},
		{both, "fd00::1%eth0", true},
		{both, "fd00:bad::1", false},
		{both, "fd00:bad:ffff::", false},
		{both, "fd00:bae::", true},
		{both, "fe00::1", false},
		{both, "", false},
		{`{deny: [0.0.0.0/0]}`, "192.0.2.1", false},
		{`{deny: [0.0.0.0/0]}`, "2001:db8::1", true},
		{`{deny: ["::/0"]}`, "192.0.2.1", true},
		{`{deny: ["::/0"]}`, "2001:db8::1", false},
		{`{deny: ["::/0"]}`, "", false},
	} {
		t.Run(tc.config+" "+tc.address, func(t *testing.T) {
			next := &plugintest.Next{}
			h := plugintest.New(t, Kind, plugintest.Env(t), tc.config).Wrap(next)
			c := &rpc.Call{}
			if tc.address != "" {
				c.Peer = netip.AddrPortFrom(netip.MustParseAddr(tc.address), 1)
			}
			err := h.Handle(t.Context(), c)
			if tc.passes {
				if err != nil || next.Calls != 1 {
					t.Errorf("want it through, found %v", err)
				}
				return
			}
			e := plugintest.Refused(t, err, codes.PermissionDenied, 403, "ADDRESS_NOT_ALLOWED")
			if next.Calls != 0 || tc.address != "" && strings.Contains(e.Message, tc.address) {
				t.Errorf("calls %d, message %q", next.Calls, e.Message)
			}
		})
	}
}

// The client that a trusted proxy names counts, not the proxy.
func TestClient(t *testing.T) {
	next := &plugintest.Next{}
	h := plugintest.New(t, Kind, plugintest.Env(t), `{deny: [203.0.113.9]}`).Wrap(next)
	c := plugintest.Call("GET", "/", "x-forwarded-for", "203.0.113.9")
	if err := h.Handle(t.Context(), c); err != nil {
		t.Errorf("want a header believed by nobody, found %v", err)
	}
	c.Client = netip.MustParseAddr("203.0.113.9")
	plugintest.Refused(t, h.Handle(t.Context(), c), codes.PermissionDenied, 403, "ADDRESS_NOT_ALLOWED")
}

// Looking in a list of spans is as looking at each network.
func TestNetworksAgreeWithAScan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	address := func() netip.Addr {
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(4) * 64), byte(r.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0xfd, byte(r.IntN(3)), 15: byte(r.IntN(256))})
	}
	for range 200 {
		var list []string
		var prefixes []netip.Prefix
		for range r.IntN(12) {
			a := address()
			p := netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
			prefixes, list = append(prefixes, p), append(list, p.String())
		}
		n, err := read("allow", list)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			a := address()
			want := false
			for _, p := range prefixes {
				want = want || p.Contains(a)
			}
			if got := n.has(a); got != want {
				t.Fatalf("%v in %v: want %v, found %v (%v)", a, list, want, got, n)
			}
		}
	}
}

func many(t testing.TB) rpc.Handler {
	var list []string
	for i := range 10_000 {
		list = append(list, fmt.Sprintf("10.%d.%d.%d/31", i>>12, i>>4&255, i<<4&255))
	}
	return plugintest.New(t, Kind, plugintest.Env(t), "{deny: ["+strings.Join(list, ", ")+"]}").Wrap(&plugintest.Next{})
}

func TestHandleAllocs(t *testing.T) { plugintest.Allocs(t, 0, many(t), plugintest.Call("GET", "/")) }

func BenchmarkHandle10000(b *testing.B) {
	h, c, ctx := many(b), plugintest.Call("GET", "/"), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}
