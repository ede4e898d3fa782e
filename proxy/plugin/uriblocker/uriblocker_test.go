package uriblocker

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing", Config: `{status: 404}`, Path: "", Want: "no rules", Fix: "paths"},
		{Name: "status", Config: `{paths: [a], status: 200}`, Path: "status", Want: "found 200", Fix: "403 or 404"},
		{Name: "paths", Config: `{paths: [a, "["]}`, Path: "paths[1]", Want: "missing closing ]", Fix: "RE2"},
		{Name: "what closes the group", Config: `{paths: ["a)|(b"]}`, Path: "paths[0]", Want: "unexpected )", Fix: "RE2"},
		{Name: "queries", Config: `{queries: ["(?!x)"]}`, Path: "queries[0]", Want: "invalid", Fix: "RE2"},
		{Name: "methods", Config: `{methods: [""]}`, Path: "methods[0]", Want: "found everywhere", Fix: "write"},
	})
}

func TestHandle(t *testing.T) {
	const config = `{paths: ["^/internal(/|$)", "\\.php$"], queries: ["union\\s+select", "<script"], methods: ["\\.Admin/", "/Delete$"]}`
	for _, tc := range []struct {
		path, query, method string
		passes              bool
	}{
		{"/v1/orders", "", "", true},
		{"/internal", "", "", false},
		{"/internal/x", "", "", false},
		{"/INTERNAL/x", "", "", false},
		{"/%69nternal/x", "", "", false},
		{"/%49%4E%54%45%52%4E%41%4C", "", "", false},
		{"/internal%2Fx", "", "", false},
		{"/internal%2fx", "", "", false},
		{"/internals", "", "", true},
		{"/v1/internal/x", "", "", true},
		{"/v1/a.php", "", "", false},
		{"/v1/a%2Ephp", "", "", false},
		{"/v1/a.phps", "", "", true},
		{"/v1", "q=union%20select", "", false},
		{"/v1", "q=union+select", "", false},
		{"/v1", "q=UNION%0A%09SELECT", "", false},
		{"/v1", "q=%3Cscript%3e", "", false},
		{"/v1", "q=union", "", true},
		{"/v1", "q=%3", "", true},
		{"/v1", "", "/acme.v1.Admin/Get", false},
		{"/v1", "", "/acme.v1.Orders/Delete", false},
		{"/v1", "", "/acme.v1.Orders/DeleteAll", true},
	} {
		t.Run(tc.path+"?"+tc.query+" "+tc.method, func(t *testing.T) {
			next := &plugintest.Next{}
			h := plugintest.New(t, Kind, plugintest.Env(t), config).Wrap(next)
			c := plugintest.Call("GET", tc.path)
			c.HTTP.Query = tc.query
			if tc.method != "" {
				c.Method = &schema.Method{Name: tc.method}
			}
			err := h.Handle(t.Context(), c)
			if !tc.passes {
				plugintest.Refused(t, err, codes.PermissionDenied, 403, "URI_BLOCKED")
			} else if err != nil {
				t.Error(err)
			}
			if (next.Calls == 1) != tc.passes {
				t.Errorf("want passed %v, found %d calls", tc.passes, next.Calls)
			}
		})
	}
}

func TestForms(t *testing.T) {
	next := &plugintest.Next{}
	h := plugintest.New(t, Kind, plugintest.Env(t), `{paths: ["^/A", "Orders/Get"], case_sensitive: true, status: 404}`).Wrap(next)
	plugintest.Refused(t, h.Handle(t.Context(), plugintest.Call("GET", "/A")), codes.NotFound, 404, "URI_BLOCKED")
	if err := h.Handle(t.Context(), plugintest.Call("GET", "/a")); err != nil {
		t.Errorf("want case to matter, found %v", err)
	}
	c := plugintest.Call("GET", "/a")
	c.HTTP = nil // by a protocol that has no paths
	plugintest.Refused(t, h.Handle(t.Context(), c), codes.NotFound, 404, "URI_BLOCKED")
}

// What is found in the decoded path is found in each way to write it.
func FuzzBlocked(f *testing.F) {
	for _, seed := range []string{"/internal", "/%69nternal", "/a%2Finternal", "/%zz", "/a+b", "%", "%2", "/%25internal"} {
		f.Add(seed)
	}
	list := []*regexp.Regexp{regexp.MustCompile("internal"), regexp.MustCompile("^/a/b")}
	f.Fuzz(func(t *testing.T, path string) {
		plain, err := url.PathUnescape(path)
		if err != nil {
			plain = path
		}
		for _, re := range list {
			one := []*regexp.Regexp{re}
			if (re.MatchString(path) || re.MatchString(plain)) && !blocked(one, path, false) {
				t.Errorf("%q passes %s", path, re)
			}
			if !strings.Contains(path, "%") && blocked(one, path, false) != re.MatchString(path) {
				t.Errorf("%q: %s", path, re)
			}
		}
	})
}

func handling(t testing.TB) rpc.Handler {
	return plugintest.New(t, Kind, plugintest.Env(t), `{paths: ["^/internal/", "\\.php$"], methods: ["\\.Admin/"]}`).Wrap(&plugintest.Next{})
}

func TestHandleAllocs(t *testing.T) {
	plugintest.Allocs(t, 0, handling(t), plugintest.Call("GET", "/v1/orders/17"))
}

func BenchmarkHandle(b *testing.B) {
	h, c, ctx := handling(b), plugintest.Call("GET", "/v1/orders/17"), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}
