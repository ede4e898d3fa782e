package acl

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

var (
	alice = &rpc.Consumer{Name: "alice", Groups: []string{"staff", "admins"}}
	bob   = &rpc.Consumer{Name: "bob", Groups: []string{"staff"}}
	shop  = &rpc.Consumer{Name: "shop"}
)

func TestLists(t *testing.T) {
	const token = "a token"
	for _, tc := range []struct {
		name, config string
		in           []any // of alice, bob, shop, token; the others and nobody are kept out
	}{
		{"allow a consumer", `{allow: {consumers: [shop]}}`, []any{shop}},
		{"allow a group", `{allow: {groups: [staff]}}`, []any{alice, bob}},
		{"allow either", `{allow: {consumers: [shop], groups: [admins]}}`, []any{shop, alice}},
		{"deny a consumer", `{deny: {consumers: [shop]}}`, []any{alice, bob}},
		{"deny a group", `{deny: {groups: [admins]}}`, []any{bob, shop}},
		{"deny comes first", `{allow: {groups: [staff]}, deny: {groups: [admins]}}`, []any{bob}},
		{"deny comes first, by name", `{allow: {consumers: [alice]}, deny: {consumers: [alice]}}`, nil},
		{"anybody known", `{authenticated: true}`, []any{alice, bob, shop, token}},
		{"anybody known but some", `{authenticated: true, deny: {consumers: [bob]}}`, []any{alice, shop, token}},
		{"names are exact", `{allow: {consumers: [Alice, "alice ", "*"], groups: [STAFF, "sta*"]}}`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := plugintest.New(t, Kind, plugintest.Env(t), tc.config)
			next := &plugintest.Next{}
			h := p.Wrap(next)
			for _, who := range []any{alice, bob, shop, token, nil} {
				c := plugintest.Call("GET", "/")
				switch who := who.(type) {
				case *rpc.Consumer:
					c.Consumer = who
				case string:
					c.Claims = rpc.Claims{"sub": "x"}
				}
				want := false
				for _, w := range tc.in {
					want = want || w == who
				}
				next.Calls = 0
				err := h.Handle(t.Context(), c)
				if want {
					if err != nil || next.Calls != 1 {
						t.Errorf("%v was refused: %v", who, err)
					}
					continue
				}
				if next.Calls != 0 {
					t.Errorf("%v came in", who)
				}
				plugintest.Refused(t, err, codes.PermissionDenied, 0, Reason)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing", Config: `{}`, Path: "", Want: "says nothing", Fix: "authenticated: true"},
		{Name: "nobody", Config: `{allow: {}}`, Path: "allow", Want: "names nobody", Fix: "name"},
		{Name: "nobody denied", Config: `{authenticated: true, deny: {groups: []}}`, Path: "deny", Want: "names nobody", Fix: "name"},
		{Name: "both", Config: `{allow: {groups: [a]}, authenticated: true}`, Path: "authenticated", Want: "beside `allow`", Fix: "remove"},
		{Name: "empty name", Config: `{allow: {groups: [a, ""]}}`, Path: "allow.groups[1]", Want: `found ""`, Fix: "remove"},
		{Name: "twice", Config: `{deny: {consumers: [a, b, a]}}`, Path: "deny.consumers[2]", Want: `found "a"`, Fix: "remove"},
	})
}

func TestAllocs(t *testing.T) {
	p := plugintest.New(t, Kind, plugintest.Env(t), `{allow: {groups: [staff]}, deny: {consumers: [shop]}}`)
	c := plugintest.Call("GET", "/")
	c.Consumer = alice
	plugintest.Allocs(t, 0, p.Wrap(&plugintest.Next{}), c)
}

func BenchmarkHandle(b *testing.B) {
	h := plugintest.New(b, Kind, plugintest.Env(b), `{allow: {groups: [admins]}}`).Wrap(&plugintest.Next{})
	c := plugintest.Call("GET", "/")
	c.Consumer = alice
	b.ReportAllocs()
	for b.Loop() {
		_ = h.Handle(b.Context(), c)
	}
}
