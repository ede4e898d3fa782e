package uarestriction

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing", Config: `{allow_missing: true}`, Path: "", Want: "neither", Fix: "allow"},
		{Name: "no expression", Config: `{allow: [a, "("]}`, Path: "allow[1]", Want: "missing closing )", Fix: "RE2"},
		{Name: "empty", Config: `{deny: [""]}`, Path: "deny[0]", Want: "found everywhere", Fix: "write"},
		{Name: "long", Config: `{deny: ["` + strings.Repeat("a", 1025) + `"]}`, Path: "deny[0]", Want: "1025 bytes", Fix: "several"},
		{Name: "large", Config: `{deny: ["(a{100}){100}"]}`, Path: "deny[0]", Want: "invalid repeat count", Fix: "RE2"},
		{Name: "many", Config: `{deny: [` + strings.Repeat("a, ", 201) + `]}`, Path: "deny", Want: "found 201", Fix: "join"},
	})
}

func TestHandle(t *testing.T) {
	const both = `{allow: ["^acme/", "(?i)mozilla"], deny: ["^acme/1\\.", bot]}`
	for _, tc := range []struct {
		name, config string
		agents       []string
		passes       bool
	}{
		{"allowed", both, []string{"acme/2.0"}, true},
		{"allowed without case", both, []string{"MOZILLA/5.0"}, true},
		{"another case", both, []string{"Acme/2.0"}, false},
		{"not at its beginning", both, []string{"x acme/2.0"}, false},
		{"denied within what is allowed", both, []string{"acme/1.9"}, false},
		{"denied", both, []string{"Mozilla/5.0 (compatible; bot)"}, false},
		{"not allowed", both, []string{"curl/8"}, false},
		{"none", both, nil, false},
		{"empty", both, []string{""}, false},
		{"both pass", both, []string{"acme/2.0", "Mozilla"}, true},
		{"the second does not", both, []string{"acme/2.0", "curl/8"}, false},
		{"too long", both, []string{"acme/2.0" + strings.Repeat("x", 2048)}, false},
		{"none, which may be", `{deny: [bot], allow_missing: true}`, nil, true},
		{"empty, which may be", `{deny: [bot], allow_missing: true}`, []string{""}, true},
		{"denied where none may be", `{deny: [bot], allow_missing: true}`, []string{"robot"}, false},
		{"not denied", `{deny: [bot]}`, []string{"curl/8"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			next := &plugintest.Next{}
			h := plugintest.New(t, Kind, plugintest.Env(t), tc.config).Wrap(next)
			var header rpc.Metadata
			for _, a := range tc.agents {
				header.Add("user-agent", a)
			}
			c := plugintest.Call("GET", "/")
			c.HTTP.Header = header
			for range 2 { // by HTTP, and not
				next.Calls = 0
				err := h.Handle(t.Context(), c)
				if !tc.passes {
					plugintest.Refused(t, err, codes.PermissionDenied, 403, "USER_AGENT_NOT_ALLOWED")
				} else if err != nil {
					t.Error(err)
				}
				if (next.Calls == 1) != tc.passes {
					t.Errorf("want passed %v, found %d calls", tc.passes, next.Calls)
				}
				c.HTTP, c.Header = nil, header
			}
		})
	}
}

func handling(t testing.TB) rpc.Handler {
	return plugintest.New(t, Kind, plugintest.Env(t), `{deny: [bot, "^curl/"]}`).Wrap(&plugintest.Next{})
}

func TestHandleAllocs(t *testing.T) {
	plugintest.Allocs(t, 0, handling(t), plugintest.Call("GET", "/", "user-agent", "acme/2.0"))
}

func BenchmarkHandle(b *testing.B) {
	h, c, ctx := handling(b), plugintest.Call("GET", "/", "user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}
