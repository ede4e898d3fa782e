package refererrestriction

import (
	"net/url"
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
		{Name: "an origin", Config: `{allow: ["https://app.example.com/"]}`, Path: "allow[0]", Want: "wanted a host", Fix: "leave out the scheme: app.example.com"},
		{Name: "a port", Config: `{deny: [a.example.com, "b.example.com:8080"]}`, Path: "deny[1]", Want: "wanted a host", Fix: "b.example.com"},
		{Name: "a star inside", Config: `{deny: ["a.*.com"]}`, Path: "deny[0]", Want: "wanted a host", Fix: `"*."`},
		{Name: "a star alone", Config: `{deny: ["*"]}`, Path: "deny[0]", Want: "wanted a host", Fix: `"*."`},
		{Name: "empty", Config: `{deny: [""]}`, Path: "deny[0]", Want: "wanted a host", Fix: "letters"},
		{Name: "another script", Config: `{deny: ["bücher.example"]}`, Path: "deny[0]", Want: "wanted a host", Fix: "xn--"},
	})
}

func TestHandle(t *testing.T) {
	const both = `{allow: [example.com, "*.example.com", "192.0.2.1", "[2001:db8::1]"], deny: [bad.example.com]}`
	const folding = `{allow: [kiss.example]}`
	for _, tc := range []struct {
		config  string
		referer []string
		passes  bool
	}{
		{both, []string{"https://example.com/a?b#c"}, true},
		{both, []string{"https://example.com"}, true},
		{both, []string{"HTTPS://EXAMPLE.COM/"}, true},
		{both, []string{"http://example.com:8080/"}, true},
		{both, []string{"https://example.com./"}, true},
		{both, []string{"https://a.b.example.com/"}, true},
		{both, []string{"https://bad.example.com/"}, false},
		{both, []string{"https://BAD.example.com.:443/"}, false},
		{both, []string{"https://a.bad.example.com/"}, true},
		{both, []string{"https://notexample.com/"}, false},
		{both, []string{"https://example.com.evil.com/"}, false},
		{both, []string{"https://evil.com/example.com"}, false},
		{both, []string{"https://evil.com?.example.com"}, false},
		{both, []string{"https://evil.com#.example.com"}, false},
		{both, []string{`https://evil.com\.example.com/`}, false},
		{both, []string{`https://evil.com\@example.com/`}, false},
		{both, []string{"https://example.com@evil.com/"}, false},
		{both, []string{"https://evil.com@example.com/"}, false},
		{both, []string{"https://example.com/a@b"}, true},
		{both, []string{"https:example.com"}, false},
		{both, []string{"https:///example.com"}, false},
		{both, []string{"//example.com/"}, false},
		{both, []string{"/a"}, false},
		{both, []string{"javascript://example.com/%0aalert(1)"}, false},
		{both, []string{"null"}, false},
		{both, []string{"https://192.0.2.1/"}, true},
		{both, []string{"https://192.0.2.2/"}, false},
		{both, []string{"https://[2001:DB8::1]:8443/"}, true},
		{both, []string{"https://example.com]/"}, false},
		{both, []string{"https://example.com/", "https://evil.com/"}, false},
		{both, []string{"https://shop.b\u00fccher.example.com/"}, false},
		{both, []string{"https://shop.b%C3%BCcher.example.com/"}, false},
		{folding, []string{"https://kiss.example/"}, true},
		{folding, []string{"https://\u212aiss.example/"}, false}, // Kelvin, which Unicode folds to k
		{folding, []string{"https://%E2%84%AAiss.example/"}, false},
		{folding, []string{"https://k\u0130ss.example/"}, false}, // I with a dot, to i
		{folding, []string{"https://k%C4%B0ss.example/"}, false},
		{folding, []string{"https://kis\u017f.example/"}, false}, // the long s, to s
		{both, []string{"https://example.com/" + strings.Repeat("a", 4096)}, false},
		{both, []string{""}, false},
		{both, nil, false},
		{`{deny: ["*.example.com"], allow_missing: true}`, nil, true},
		{`{deny: ["*.example.com"], allow_missing: true}`, []string{"https://example.com/"}, true},
		{`{deny: ["*.example.com"], allow_missing: true}`, []string{"https://a.example.com/"}, false},
		{`{deny: ["*.example.com"], allow_missing: true}`, []string{"nonsense"}, false},
	} {
		t.Run(strings.Join(tc.referer, " "), func(t *testing.T) {
			next := &plugintest.Next{}
			h := plugintest.New(t, Kind, plugintest.Env(t), tc.config).Wrap(next)
			c := plugintest.Call("GET", "/")
			for _, v := range tc.referer {
				c.HTTP.Header.Add("referer", v)
			}
			err := h.Handle(t.Context(), c)
			if !tc.passes {
				plugintest.Refused(t, err, codes.PermissionDenied, 403, "REFERER_NOT_ALLOWED")
			} else if err != nil {
				t.Error(err)
			}
			if (next.Calls == 1) != tc.passes {
				t.Errorf("want passed %v, found %d calls", tc.passes, next.Calls)
			}
		})
	}
}

// What passes is of a host that a browser would name so: the host is where a URL's reader finds it, and nowhere else.
func FuzzHostOf(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/", `https://evil.com\@example.com/`, "https://a@b/", "http://[::1]:80/", "https://example.com%2eevil.com/",
		"https://x y/", "https://example.com:80:90/", "http://0]", "http://[[::1]]/", "http://\u0170\u0130", "http://%E2%84%AA.example", "HTTP://A.B.:80?c",
		"http://[fe80::1%25EN0]/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, referer string) {
		host, ok := hostOf(referer)
		if !ok {
			return
		}
		rest := authority(referer)
		if strings.ContainsAny(rest, "\\@ ") {
			t.Errorf("%q has the host %q, which others may read otherwise", referer, host)
		}
		for i := range len(host) {
			if c := host[i]; c <= ' ' || c >= 0x7f || 'A' <= c && c <= 'Z' {
				t.Fatalf("%q has the host %q: byte %#x", referer, host, c)
			}
		}
		if u, err := url.Parse(referer); err != nil || u.Host != rest {
			t.Errorf("%q: %v %v", referer, host, err)
		}
		var named string
		if inner, ok := strings.CutPrefix(rest, "["); ok {
			named, _, _ = strings.Cut(inner, "]")
		} else {
			named, _, _ = strings.Cut(rest, ":")
		}
		if want := strings.TrimSuffix(strings.ToLower(named), "."); host != want {
			t.Errorf("%q: want the host %q, found %q", referer, want, host)
		}
	})
}

func handling(t testing.TB) (rpc.Handler, *rpc.Call) {
	return plugintest.New(t, Kind, plugintest.Env(t), `{allow: [example.com, "*.example.com"]}`).Wrap(&plugintest.Next{}),
		plugintest.Call("GET", "/", "referer", "https://shop.example.com/cart")
}

func TestHandleAllocs(t *testing.T) {
	h, c := handling(t)
	plugintest.Allocs(t, 1, h, c) // the parsed URL
}

func BenchmarkHandle(b *testing.B) {
	h, c := handling(b)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}
