package redirect

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing", Config: `{status: 301}`, Path: "", Want: "found 0", Fix: "https"},
		{Name: "two", Config: `{https: {}, to: /a}`, Path: "", Want: "found 2", Fix: "https"},
		{Name: "status", Config: `{to: /a, status: 200}`, Path: "status", Want: "found 200", Fix: "302"},
		{Name: "port", Config: `{https: {port: 70000}}`, Path: "https.port", Want: "70000", Fix: "65535"},
		{Name: "no path", Config: `{to: a/b}`, Path: "to", Want: "neither a path nor an URL", Fix: "https://"},
		{Name: "two slashes", Config: `{to: //evil.com}`, Path: "to", Want: "neither a path nor an URL", Fix: "one /"},
		{Name: "a slash and its like", Config: `{to: '/\evil.com'}`, Path: "to", Want: "neither a path nor an URL", Fix: "one /"},
		{Name: "script", Config: `{to: "javascript://a/%0aalert(1)"}`, Path: "to", Want: `"javascript"`, Fix: "https://"},
		{Name: "no host", Config: `{to: "https:///a"}`, Path: "to", Want: "has no host", Fix: "https://example.com/"},
		{Name: "a user", Config: `{to: "https://a@b/"}`, Path: "to", Want: "has no host", Fix: "https://example.com/"},
		{Name: "expression", Config: `{to: "/{{ x }}"}`, Path: "to", Want: "undeclared", Fix: "EXPRESSION"},
		{Name: "answer", Config: `{to: "/{{ answer.code }}"}`, Path: "to", Want: "not known", Fix: "request"},
		{Name: "regular expression", Config: `{path: {regex: "(", to: /a}}`, Path: "path.regex", Want: "missing closing", Fix: "RE2"},
		{Name: "no place", Config: `{path: {regex: "/a"}}`, Path: "path.to", Want: "no place", Fix: "{1}"},
		{Name: "group", Config: `{path: {regex: "/(a)", to: "/{1}{2}"}}`, Path: "path.to", Want: "no group {2}", Fix: "{id}"},
		{Name: "named group", Config: `{path: {regex: "/(?P<id>a)", to: "/{id}/{no}"}}`, Path: "path.to", Want: "no group {no}", Fix: "{id}"},
		{Name: "a group that is open", Config: `{path: {regex: "/(a)", to: "/{1"}}`, Path: "path.to", Want: "no group {1}", Fix: "{id}"},
		{Name: "a group below", Config: `{path: {regex: "/(a)", to: "/{-1}"}}`, Path: "path.to", Want: "no group {-1}", Fix: "{id}"},
		{Name: "a path of no path", Config: `{path: {regex: "/(a)", to: "b"}}`, Path: "path.to", Want: "neither", Fix: "https://"},
		{Name: "host", Config: `{to: "{{ metadata['to'] }}", hosts: [example.com, "https://a.com"]}`, Path: "hosts[1]", Want: "wanted a host", Fix: "name"},
	})
}

type params map[string]string

func (p params) Param(name string) (string, bool) { v, ok := p[name]; return v, ok }

func TestHandle(t *testing.T) {
	const listed = `{to: "{{ metadata['to'] }}", hosts: [example.com, "*.example.org"]}`
	const host = `{to: "https://shop.example.com/{{ metadata['to'] }}"}`
	const path = `{path: {regex: "/v1/(?P<rest>.*)", to: "/v2/{rest}"}, status: 308}`
	for _, tc := range []struct {
		name, config, to string
		change           func(*rpc.HTTP)
		status           int // 0: it passes; 400: refused
		want             string
	}{
		{"constant", `{to: /new}`, "", nil, 302, "/new"},
		{"constant URL", `{to: "https://example.com", status: 301}`, "", nil, 301, "https://example.com"},
		{"query", `{to: /new}`, "", func(h *rpc.HTTP) { h.Query = "a=b&c=\"" }, 302, "/new?a=b&c=%22"},
		{"query of its own", `{to: "/new?x=y"}`, "", func(h *rpc.HTTP) { h.Query = "a=b" }, 302, "/new?x=y"},
		{"no query", `{to: /new, keep_query: false}`, "", func(h *rpc.HTTP) { h.Query = "a=b" }, 302, "/new"},
		{"variable", `{to: "/v2/{{ path['id'] }}"}`, "", nil, 302, "/v2/7"},

		{"https", `{https: {}}`, "", func(h *rpc.HTTP) { h.Query = "a=b" }, 308, "https://api.example.com/v1/orders/7?a=b"},
		{"https elsewhere", `{https: {port: 8443}, status: 301}`, "", nil, 301, "https://api.example.com:8443/v1/orders/7"},
		{"https at its port", `{https: {port: 443}}`, "", nil, 308, "https://api.example.com/v1/orders/7"},
		{"https already", `{https: {}}`, "", func(h *rpc.HTTP) { h.Scheme = "https" }, 0, ""},
		{"https of an address", `{https: {}}`, "", func(h *rpc.HTTP) { h.Host = "2001:db8::1" }, 308, "https://[2001:db8::1]/v1/orders/7"},
		{"https without host", `{https: {}}`, "", func(h *rpc.HTTP) { h.Host = "" }, 400, ""},
		{"https of no host", `{https: {}}`, "", func(h *rpc.HTTP) { h.Host = "a@evil.com" }, 400, ""},
		{"https of a host with a path", `{https: {}}`, "", func(h *rpc.HTTP) { h.Host = `evil.com\x` }, 400, ""},

		{"path", path, "", nil, 308, "/v2/orders/7"},
		{"path as it was sent", path, "", func(h *rpc.HTTP) { h.Path = "/v1/a%2Fb%0D" }, 308, "/v2/a%2Fb%0D"},
		{"another path", path, "", func(h *rpc.HTTP) { h.Path = "/v3/a" }, 0, ""},
		{"no part of a path", path, "", func(h *rpc.HTTP) { h.Path = "/x/v1/a" }, 0, ""},
		{"a path that leads away", `{path: {regex: "/v1(/.*)", to: "/{1}"}}`, "", func(h *rpc.HTTP) { h.Path = "/v1/evil.com" }, 400, ""},
		{"a path that goes on a host", `{path: {regex: "/v1(.*)", to: "https://example.com{1}"}}`, "", func(h *rpc.HTTP) { h.Path = "/v1.evil.com" }, 400, ""},
		{"a path on a host", `{path: {regex: "/v1(.*)", to: "https://example.com/{1}"}}`, "", func(h *rpc.HTTP) { h.Path = "/v1.evil.com" }, 302, "https://example.com/.evil.com"},
		{"groups", `{path: {regex: "/v1/(\\w+)/(\\d)(x)?", to: "/$1/{2}x{3}{1}"}}`, "", nil, 302, "/$1/7xorders"},

		{"listed", listed, "https://example.com/a", nil, 302, "https://example.com/a"},
		{"listed, in capitals, with a port", listed, "HTTPS://EXAMPLE.com:8443/a", nil, 302, "HTTPS://EXAMPLE.com:8443/a"},
		{"below", listed, "http://a.b.example.org", nil, 302, "http://a.b.example.org"},
		{"not below", listed, "https://example.org/", nil, 400, ""},
		{"the request's own", listed, "https://api.example.com/a", nil, 302, "https://api.example.com/a"},
		{"a path", listed, "/a?b", nil, 302, "/a?b"},
		{"not listed", listed, "https://evil.com/", nil, 400, ""},
		{"a longer name", listed, "https://example.com.evil.com/", nil, 400, ""},
		{"another name that ends so", listed, "https://notexample.com/", nil, 400, ""},
		{"as Unicode folds it", listed, "https://shop.\u0130xample.org/", nil, 400, ""},
		{"the request's own as Unicode folds it", listed, "https://ap\u0130.example.com/", nil, 400, ""},
		{"a user", listed, "https://example.com@evil.com/", nil, 400, ""},
		{"a user before a listed one", listed, "https://evil.com@example.com/", nil, 400, ""},
		{"a backslash", listed, `https://evil.com\@example.com/`, nil, 400, ""},
		{"a backslash behind", listed, `https://example.com\.evil.com/`, nil, 400, ""},
		{"two slashes", listed, "//evil.com/", nil, 400, ""},
		{"three slashes", listed, "///evil.com/", nil, 400, ""},
		{"a slash and its like", listed, `/\evil.com/`, nil, 302, "/%5Cevil.com/"},
		{"its like and a slash", listed, `\/evil.com/`, nil, 400, ""},
		{"a tab between", listed, "/\t/evil.com/", nil, 302, "/%09/evil.com/"},
		{"a space in front", listed, " //evil.com", nil, 400, ""},
		{"one slash", listed, "https:/evil.com", nil, 400, ""},
		{"no slash", listed, "https:evil.com", nil, 400, ""},
		{"script", listed, "javascript:alert(1)", nil, 400, ""},
		{"data", listed, "data:text/html,x", nil, 400, ""},
		{"nothing", listed, "", nil, 400, ""},
		{"a name only", listed, "example.com", nil, 400, ""},
		{"a line end", listed, "/a\r\nset-cookie: b", nil, 302, "/a%0D%0Aset-cookie:%20b"},

		{"behind a host", host, "a", nil, 302, "https://shop.example.com/a"},
		{"slashes behind a host", host, "/evil.com", nil, 302, "https://shop.example.com//evil.com"},
		{"a user behind a host", host, "@evil.com", nil, 302, "https://shop.example.com/@evil.com"},
		{"a host that goes on", `{to: "https://shop.example.com{{ metadata['to'] }}"}`, ".evil.com/", nil, 400, ""},
		{"a host that goes on and is listed", `{to: "https://{{ metadata['to'] }}.example.org/a", hosts: ["*.example.org"]}`, "de", nil, 302, "https://de.example.org/a"},
		{"a host that ends early", `{to: "https://{{ metadata['to'] }}.example.org/a", hosts: ["*.example.org"]}`, "evil.com/", nil, 400, ""},
		{"a host that ends early otherwise", `{to: "https://{{ metadata['to'] }}.example.org/a", hosts: ["*.example.org"]}`, "evil.com#", nil, 400, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			next := &plugintest.Next{}
			h := plugintest.New(t, Kind, plugintest.Env(t), tc.config).Wrap(next)
			c := plugintest.Call("GET", "/v1/orders/7", "to", tc.to)
			c.Params = params{"id": "7"}
			if tc.change != nil {
				tc.change(c.HTTP)
			}
			err := h.Handle(t.Context(), c)
			if (next.Calls == 1) != (tc.status == 0) {
				t.Errorf("want status %d, found %d calls", tc.status, next.Calls)
			}
			switch tc.status {
			case 0:
				if err != nil {
					t.Error(err)
				}
			case 400:
				plugintest.Refused(t, err, codes.InvalidArgument, 0, "REDIRECT_REFUSED")
			default:
				a, ok := errors.AsType[*rpc.Answer](err)
				if !ok || a.Status != tc.status || a.Header.Get("location") != tc.want || a.Code != codes.FailedPrecondition || !strings.HasSuffix(a.Message, tc.want) {
					t.Errorf("want %d %s, found %+v, %v", tc.status, tc.want, a, err)
				}
			}
		})
	}
}

func TestFailing(t *testing.T) {
	next := &plugintest.Next{}
	h := plugintest.New(t, Kind, plugintest.Env(t), `{to: "/{{ claims.sub }}"}`).Wrap(next)
	plugintest.Refused(t, h.Handle(t.Context(), plugintest.Call("GET", "/")), codes.Internal, 0, "REDIRECT_FAILED")
	c := plugintest.Call("GET", "/")
	c.HTTP = nil
	plugintest.Refused(t, h.Handle(t.Context(), c), codes.FailedPrecondition, 0, "REDIRECTED")

	// Without HTTP the path is the method's; the configuration is told which calls are refused.
	for config, refused := range map[string]bool{
		"{to: /new}":  true,
		"{https: {}}": false,
		`{path: {regex: "/acme.v1.Orders/(.*)", to: "/v2/{1}"}}`: true,
		`{path: {regex: "/v1/orders/(.*)", to: "/v2/{1}"}}`:      false,
	} {
		p := plugintest.New(t, Kind, plugintest.Env(t), config)
		next := &plugintest.Next{}
		err := p.Wrap(next).Handle(t.Context(), c)
		if (err != nil) != refused || (next.Calls == 0) != refused || (p.(plugin.HTTPReader).WithoutHTTP(c.Method) != "") != refused {
			t.Errorf("%s: %v, %d calls came through; told: %q", config, err, next.Calls, p.(plugin.HTTPReader).WithoutHTTP(c.Method))
		}
	}
	if next.Calls != 0 {
		t.Error("want nothing through")
	}
	if err := plugintest.New(t, Kind, plugintest.Env(t), `{https: {}}`).Wrap(next).Handle(t.Context(), c); err != nil || next.Calls != 1 {
		t.Error(err)
	}
}

// Wherever a caller asks to be sent, a browser stays on the hosts that it may be sent to.
func FuzzPlace(f *testing.F) {
	for _, seed := range []string{"/a", "//evil.com", `/\evil.com`, "https://example.com", "https://evil.com", "https://example.com@evil.com", "https://[::1]/", "\t//evil.com", "https://example.com:80@evil.com", "https:\\\\evil.com"} {
		f.Add(seed)
	}
	h := plugintest.New(f, Kind, plugintest.Env(f), `{to: "{{ metadata['to'] }}", hosts: [example.com, "*.example.org"]}`).Wrap(&plugintest.Next{})
	base := &url.URL{Scheme: "https", Host: "api.example.com", Path: "/v1"}
	f.Fuzz(func(t *testing.T, to string) {
		a, ok := errors.AsType[*rpc.Answer](h.Handle(t.Context(), plugintest.Call("GET", "/v1", "to", to)))
		if !ok {
			return
		}
		place := a.Header.Get("location")
		u, err := base.Parse(place)
		if err != nil {
			return // no browser goes there
		}
		host := strings.ToLower(u.Hostname())
		if host != "api.example.com" && host != "example.com" && !strings.HasSuffix(host, ".example.org") || strings.ContainsAny(place, "\\\r\n\t ") || u.Scheme != "https" && u.Scheme != "http" {
			t.Errorf("%q leads to %q", to, place)
		}
	})
}

func BenchmarkHandle(b *testing.B) {
	h := plugintest.New(b, Kind, plugintest.Env(b), `{https: {}}`).Wrap(&plugintest.Next{})
	c, ctx := plugintest.Call("GET", "/v1"), b.Context()
	c.HTTP.Scheme = "https"
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}
