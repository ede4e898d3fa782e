package cors

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	const own = `"https://app.example.com"`
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing", Config: `{credentials: true}`, Path: "", Want: "no origins", Fix: `origins: ["https://app.example.com"]`},
		{Name: "every beside others", Config: `{origins: ["*", ` + own + `]}`, Path: "origins[0]", Want: `"*" is every origin, and stands beside others`, Fix: "keep it alone, or name the origins"},
		{Name: "others beside every", Config: `{origins: [` + own + `, "*"]}`, Path: "origins[1]", Want: `"*" is every origin`, Fix: "keep it alone"},
		{Name: "every with credentials", Config: `{origins: ["*"], credentials: true}`, Path: "credentials", Want: `with "*" no browser sends them`, Fix: "name the origins that may send them"},
		{Name: "a host", Config: `{origins: [app.example.com]}`, Path: "origins[0]", Want: `found "app.example.com"`, Fix: "write the scheme too: https://app.example.com"},
		{Name: "a page", Config: `{origins: [` + own + `, "https://app.example.com/"]}`, Path: "origins[1]", Want: `found "https://app.example.com/"`, Fix: "write it without a path: https://app.example.com"},
		{Name: "names below", Config: `{origins: ["https://*.example.com"]}`, Path: "origins[0]", Want: `wanted a whole origin, found "https://*.example.com"`, Fix: `write each origin in full, or "*" alone`},
		{Name: "null", Config: `{origins: ["null"]}`, Path: "origins[0]", Want: "sandboxed page", Fix: "an origin of its own"},
		{Name: "null in capitals", Config: `{origins: ["NULL"]}`, Path: "origins[0]", Want: "sandboxed page", Fix: "an origin of its own"},
		{Name: "the scheme's port", Config: `{origins: ["https://a.example.com:443"]}`, Path: "origins[0]", Want: `found "https://a.example.com:443"`, Fix: "as browsers do: https://a.example.com"},
		{Name: "twice", Config: `{origins: [HTTP://b.example.com, "http://b.example.com"]}`, Path: "origins[1]", Want: `"http://b.example.com" is listed twice`, Fix: "keep it once"},
		{Name: "a socket", Config: `{origins: ["wss://a.example.com"]}`, Path: "origins[0]", Want: "wanted an origin", Fix: "https://a.example.com"},
		{Name: "header", Config: `{origins: [` + own + `], headers: [X-Fine, "x y"]}`, Path: "headers[1]", Want: `"x y" is not the name of a header`, Fix: "write letters"},
		{Name: "every header", Config: `{origins: [` + own + `], headers: [""]}`, Path: "headers[0]", Want: `"" is not the name of a header`, Fix: "write letters"},
		{Name: "long", Config: `{origins: [` + own + `], max_age: 172800s}`, Path: "max_age", Want: "found 48h0m0s", Fix: "0s to 86400s"},
		{Name: "below", Config: `{origins: [` + own + `], max_age: -1s}`, Path: "max_age", Want: "found -1s", Fix: "0s to 86400s"},
	})
}

func lines(m rpc.Metadata) string {
	var out []string
	for _, p := range m {
		out = append(out, p.Key+": "+p.Value)
	}
	return strings.Join(out, "\n")
}

func TestPreflight(t *testing.T) {
	const listed = `{origins: ["https://App.example.com"], headers: [X-Requested-With], max_age: 0s}`
	for _, tc := range []struct {
		name, config, origin, headers string
		want                          string // "": refused
	}{
		{"leave", listed, "https://app.example.com", "Content-Type, x-other,X-REQUESTED-WITH", "allow-methods: PUT\nallow-headers: content-type, x-requested-with\nmax-age: 0"},
		{"no headers", listed, "https://app.example.com", "", "allow-methods: PUT\nmax-age: 0"},
		{"no header that may be sent", listed, "https://app.example.com", "x-other", "allow-methods: PUT\nmax-age: 0"},
		{"headers that Unicode folds", listed, "https://app.example.com", "x-requested-w\u0130th, x-reque\u017fted-with, \u00a0x-requested-with", "allow-methods: PUT\nmax-age: 0"},
		{"every origin", `{origins: ["*"]}`, "null", "content-type", "allow-methods: PUT\nallow-headers: content-type\nmax-age: 600"},
		{"another origin", listed, "https://app.example.com.evil.com", "content-type", ""},
		{"another scheme", listed, "http://app.example.com", "", ""},
		{"null", listed, "null", "", ""},
		{"no origin", listed, "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, ok := plugintest.New(t, Kind, plugintest.Env(t), tc.config).(plugin.Preflighter)
			if !ok {
				t.Fatal("want a Preflighter")
			}
			var header []string
			for _, h := range [][2]string{{"origin", tc.origin}, {"access-control-request-headers", tc.headers}} {
				if h[1] != "" {
					header = append(header, h[0], h[1])
				}
			}
			a, err := p.Preflight(plugintest.Call("OPTIONS", "/", header...).HTTP, &plugin.Asked{Method: "PUT", Takes: func(h string) bool { return h == "content-type" }})
			if tc.want == "" {
				plugintest.Refused(t, err, codes.PermissionDenied, 403, "ORIGIN_NOT_ALLOWED")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want+"\nvary: request-method, request-headers", strings.ReplaceAll(lines(a.Header), "access-control-", "")); diff != "" || a.Status != 204 {
				t.Error(a.Status, diff)
			}
		})
	}
}

func TestDress(t *testing.T) {
	for _, tc := range []struct {
		name, config, origin string
		preflight            bool
		want                 string
	}{
		{"listed", `{origins: ["https://a.com"]}`, "https://a.com", false, "vary: origin\nallow-origin: https://a.com\nexpose-headers: x-b, www-authenticate"},
		{"credentials", `{origins: ["https://a.com"], credentials: true}`, "https://a.com", false, "vary: origin\nallow-origin: https://a.com\nallow-credentials: true\nexpose-headers: x-b, www-authenticate"},
		{"preflight", `{origins: ["https://a.com"]}`, "https://a.com", true, "vary: origin\nallow-origin: https://a.com"},
		{"another", `{origins: ["https://a.com"], credentials: true}`, "https://b.com", false, "vary: origin"},
		{"none", `{origins: ["https://a.com"]}`, "", false, "vary: origin"},
		{"every", `{origins: ["*"]}`, "https://b.com", false, "allow-origin: *\nexpose-headers: x-b, www-authenticate"},
		{"every for none", `{origins: ["*"]}`, "", false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, ok := plugintest.New(t, Kind, plugintest.Env(t), tc.config).(plugin.Dresser)
			if !ok {
				t.Fatal("want a Dresser")
			}
			var header []string
			if tc.origin != "" {
				header = []string{"origin", tc.origin}
			}
			answer := rpc.Metadata{{Key: "content-type", Value: "a/b"}, {Key: "x-b", Value: "1"}, {Key: "x-b", Value: "2"}, {Key: "set-cookie", Value: "c"}, {Key: "www-authenticate", Value: "d"}}
			got := d.Dress(answer, plugintest.Call("GET", "/", header...).HTTP, tc.preflight)
			if diff := cmp.Diff(tc.want, strings.ReplaceAll(lines(got[len(answer):]), "access-control-", "")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Of two the inner one counts, whichever gives more leave.
func TestTwo(t *testing.T) {
	const a, b = `{origins: ["https://a.com", "https://both.com"], credentials: true}`, `{origins: ["https://b.com", "https://both.com"]}`
	for _, tc := range []struct{ outer, inner, origin, want string }{
		{a, b, "https://a.com", "vary: origin"},
		{a, b, "https://b.com", "vary: origin\nallow-origin: https://b.com"},
		{a, b, "https://both.com", "vary: origin\nallow-origin: https://both.com"},
		{b, a, "https://both.com", "vary: origin\nallow-origin: https://both.com\nallow-credentials: true"},
		{`{origins: ["*"]}`, b, "https://a.com", "vary: origin"},
		{b, `{origins: ["*"]}`, "https://a.com", "vary: origin\nallow-origin: *"},
	} {
		h := plugintest.Call("GET", "/", "origin", tc.origin).HTTP
		var header rpc.Metadata
		for _, config := range []string{tc.outer, tc.inner} {
			header = plugintest.New(t, Kind, plugintest.Env(t), config).(plugin.Dresser).Dress(header, h, false) //nolint:forcetypeassert // TestDress looks
		}
		if diff := cmp.Diff(tc.want, strings.ReplaceAll(lines(header), "access-control-", "")); diff != "" {
			t.Errorf("%s then %s from %s:\n%s", tc.outer, tc.inner, tc.origin, diff)
		}
	}
}

// Calls themselves are not looked at.
func TestWrap(t *testing.T) {
	next := &plugintest.Next{}
	if h := plugintest.New(t, Kind, plugintest.Env(t), `{origins: ["*"]}`).Wrap(next); h != rpc.Handler(next) {
		t.Errorf("want the next handler itself, found %T", h)
	}
}
