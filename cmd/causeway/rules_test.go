package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// rulesFile is a file of HTTP rules outside the protos.
type rulesFile struct {
	t    testing.TB
	path string
}

func newRulesFile(t testing.TB, rules ...string) *rulesFile {
	t.Helper()
	f := &rulesFile{t, filepath.Join(t.TempDir(), "rules.yaml")}
	f.write(rules...)
	return f
}

// write replaces the file, as an editor does: a new one renamed over the old.
func (f *rulesFile) write(rules ...string) {
	f.t.Helper()
	text := "type: google.api.Service\nconfig_version: 3\nname: mirror.example.com\nhttp:\n  rules:\n  - " + strings.Join(rules, "\n  - ") + "\n"
	tmp := f.path + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(tmp, f.path); err != nil {
		f.t.Fatal(err)
	}
}

// Rules outside the protos take the place of those inside, follow their file, and a broken file changes nothing.
func TestRulesOutsideTheProto(t *testing.T) {
	t.Parallel()
	backend := echo.StartMirror(t)
	f := newRulesFile(t, `{selector: demo.echo.v1.Mirror.Show, get: "/v2/show/{text}", additional_bindings: [{put: "/v2/show/{text}:mirror", body: nested, response_body: nested}]}`)
	g := startGateway(t, mirrorConfig(t, backend.Address, ", http_rules: ["+f.path+"]"))
	for _, c := range []exchangeCase{
		{name: "the rule", method: "GET", path: "/v2/show/a?flag=true", status: 200, want: []string{`{"text":"a","flag":true}`}},
		{name: "its additional binding", method: "PUT", path: "/v2/show/a:mirror", body: `{"flag":true}`, status: 200, want: []string{`{"flag":true}`}},
		{name: "the proto's own is not served", method: "GET", path: "/v1/mirror", status: 404},
		{name: "nor the default", method: "POST", path: "/demo.echo.v1.Mirror/Show", body: "{}", status: 404},
		{name: "other methods keep theirs", method: "GET", path: "/v1/downloads/3?content_type=text/plain", status: 200, want: []string{string(echo.Pattern(3))}},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, g, backend) })
	}

	f.write(`{selector: demo.echo.v1.Mirror.Show, get: "/v3/show/{text}"}`)
	waitFor(t, "the new rule", func() bool { return g.call("GET", "/v3/show/a", "").status == 200 })
	if a := g.call("GET", "/v2/show/a", ""); a.status != 404 {
		t.Errorf("the former rule: want 404, found %d %s", a.status, a.body)
	}

	for _, tc := range []struct{ name, rule, want string }{
		{"a template that is none", `{selector: demo.echo.v1.Mirror.Show, get: "/v4/{text"}`, "rules.yaml:6:"},
		{"an unknown field in the path", `{selector: demo.echo.v1.Mirror.Show, get: "/v4/{txet}"}`, `did you mean "text"?`},
		{"a method that is not there", `{selector: demo.echo.v1.Mirror.Sow, get: "/v4"}`, `demo.echo.v1.Mirror.Show`},
		{"a key that is none", `{selector: demo.echo.v1.Mirror.Show, gett: "/v4"}`, `did you mean "get"?`},
		{"no YAML", `{selector: [}`, "rules.yaml:"},
		{"a collision", `{selector: demo.echo.v1.Mirror.Show, get: "/v1/downloads/{small_number}"}`, "demo.echo.v1.Mirror/Download"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.write(`{selector: demo.echo.v1.Mirror.Show, get: "/v3/show/{text}"}`)
			waitFor(t, "a rule without a fault", func() bool { return g.gateway.Status().Refused == nil })
			f.write(tc.rule)
			waitFor(t, "the refusal", func() bool { return g.gateway.Status().Refused != nil })
			if fault := g.gateway.Status().Refused.Error(); !strings.Contains(fault, tc.want) || !strings.Contains(fault, "rules.yaml:6:") && tc.name != "a collision" {
				t.Errorf("want a fault at line 6 of the file that says %q, found %s", tc.want, fault)
			}
			if a := g.call("GET", "/v3/show/a", ""); a.status != 200 {
				t.Errorf("want the former rule to serve on, found %d %s", a.status, a.body)
			}
		})
	}
	f.write(`{selector: demo.echo.v1.Mirror.*, get: "/v5/show/{text}"}`, `{selector: demo.echo.v1.Mirror.Show, get: "/v5/all"}`)
	waitFor(t, "the refusal of a wildcard that fits not all", func() bool {
		return g.gateway.Status().Refused != nil && strings.Contains(g.gateway.Status().Refused.Error(), "Mirror/Break")
	})
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the refusal of a file that is gone", func() bool {
		return g.gateway.Status().Refused != nil && strings.Contains(g.gateway.Status().Refused.Error(), "schemas[0].http_rules[0]")
	})
	if a := g.call("GET", "/v3/show/a", ""); a.status != 200 {
		t.Errorf("want the former rule to serve on, found %d %s", a.status, a.body)
	}
	f.write(`{selector: demo.echo.v1.Mirror.Show, get: "/v6/show/{text}"}`)
	waitFor(t, "the mended file", func() bool { return g.call("GET", "/v6/show/a", "").status == 200 })
}

// Of several files the last one that has a rule for a method counts.
func TestLastRuleCounts(t *testing.T) {
	backend := echo.StartMirror(t)
	first := newRulesFile(t, `{selector: demo.echo.v1.Mirror.Show, get: "/first/{text}"}`, `{selector: demo.echo.v1.Mirror.Break, post: "/first/break", body: "*"}`)
	last := newRulesFile(t, `{selector: demo.echo.v1.Mirror.Show, get: "/former"}`, `{selector: demo.echo.v1.Mirror.Show, get: "/last/{text}"}`)
	g := startGateway(t, mirrorConfig(t, backend.Address, ", http_rules: ["+first.path+", "+last.path+"]"))
	for path, status := range map[string]int{"/first/a": 404, "/former": 404, "/last/a": 200} {
		if a := g.call("GET", path, ""); a.status != status {
			t.Errorf("%s: want %d, found %d %s", path, status, a.status, a.body)
		}
	}
	if a := g.call("POST", "/first/break", `{"code":5,"message":"x"}`); a.status != 404 || a.text(t, "message") != "x" {
		t.Errorf("the rule of the first file: want the service's 404, found %d %s", a.status, a.body)
	}
}

// Two that want the same requests are refused with both owners named.
func TestCollisionsNameBothOwners(t *testing.T) {
	config := func(more string) string { return mirrorConfig(t, "127.0.0.1:1", "") + more }
	for _, tc := range []struct {
		name, config string
		want         []string
	}{
		{
			"two services", strings.Replace(config(""), "services: [", "services: [{name: other, schema: mirror, endpoints: [{address: '127.0.0.1:1'}]}, ", 1),
			[]string{"causeway.yaml:4:", "demo.echo.v1.Mirror/Show of service mirror", "demo.echo.v1.Mirror/Show of service other", "POST /v1/mirror"},
		},
		{
			"two routes", config("routes: [{name: one, service: mirror, http: {method: demo.echo.v1.Mirror/Show, get: '/x/{text}'}}, {name: two, service: mirror, http: {method: demo.echo.v1.Mirror/Download, get: '/x/{size}'}}]\n"),
			[]string{"causeway.yaml:5:", "demo.echo.v1.Mirror/Show of route one", "demo.echo.v1.Mirror/Download of route two", "GET /x/{"},
		},
		{
			"by an additional binding", config("routes: [{name: one, service: mirror, http: {method: demo.echo.v1.Mirror/Show, get: '/x', additional_bindings: [{post: /y, body: '*'}]}}, {name: two, service: mirror, http: {method: demo.echo.v1.Mirror/Break, post: /y, body: '*'}}]\n"),
			[]string{"demo.echo.v1.Mirror/Show of route one", "demo.echo.v1.Mirror/Break of route two", "POST /y"},
		},
		{
			"on one host", config("routes: [{name: one, hosts: [a.test], service: mirror, methods: ['demo.echo.v1.Mirror/*']}, {name: two, hosts: [b.test, A.test], service: mirror, methods: ['demo.echo.v1.Mirror/Show']}]\n"),
			[]string{"route one", "route two", "on host a.test"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := tryGateway(t, t.TempDir(), tc.config)
			if err == nil {
				t.Fatal("want it refused")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("want %q, found %v", w, err)
				}
			}
		})
	}
	// Told apart by host they stand beside each other.
	startGateway(t, config("routes: [{name: one, hosts: [a.test], service: mirror, methods: ['demo.echo.v1.Mirror/*']}, {name: two, hosts: [b.test], service: mirror, methods: ['demo.echo.v1.Mirror/*']}]\n"))
}

// What explain says of a request is what becomes of it.
func TestExplainReadsTheQueryAsTheCallDoes(t *testing.T) {
	g, backend := startMirror(t, routesByHost("Show", "plain", "rest: {}", "ignore", "rest: {unknown_query: ignore}",
		"labels", "rest: {unknown_query: capture, capture_query: labels}", "gateway", "rest: {compatibility: grpc_gateway}"))
	for _, tc := range []struct{ host, method, url, want string }{
		{"plain", "GET", "/v1/mirror?nope=1", "names no field"},
		{"plain", "GET", "/v1/mirror?flag=maybe", "flag"},
		{"plain", "GET", "/v1/mirror?flag=true&flag=true", "twice"},
		{"plain", "GET", "/v1/mirror/a/tags?text=b", "text"},
		{"plain", "POST", "/v1/mirror?flag=true", "the body is the whole message here"},
		{"plain", "GET", "/v1/mirror?labels[a]=b", ""},
		{"ignore", "GET", "/v1/mirror?nope=1", ""},
		{"ignore", "GET", "/v1/mirror?flag=maybe", "flag"},
		{"labels", "GET", "/v1/mirror?nope=1", ""},
		{"gateway", "GET", "/v1/mirror/a/tags?text=b&nope=1", ""},
		{"gateway", "POST", "/v1/mirror?flag=true", ""},
	} {
		t.Run(tc.host+" "+tc.method+" "+tc.url, func(t *testing.T) {
			said := g.control("GET", "/api/v1/explain?"+url.Values{"method": {tc.method}, "url": {"http://" + tc.host + ".test" + tc.url}}.Encode(), nil)
			calls := backend.Calls.Load()
			a := g.call(tc.method, tc.url, "", "Host", tc.host+".test")
			fault := said.text(t, "taken", "fault")
			if refused := backend.Calls.Load() == calls; refused != (fault != "") || refused != (a.status != 200) {
				t.Errorf("explain says %s, the call %d %s", said.body, a.status, a.body)
			}
			if !strings.Contains(fault, tc.want) || fault != "" && a.text(t, "message") != fault {
				t.Errorf("want %q in both, explain says %q, the call %s", tc.want, fault, a.body)
			}
		})
	}
	said := g.control("GET", "/api/v1/explain?"+url.Values{"method": {"GET"}, "url": {"http://labels.test/v1/mirror?utm=mail"}}.Encode(), nil)
	if !strings.Contains(said.body, `"labels[utm]"`) {
		t.Errorf("want the captured parameter shown, found %s", said.body)
	}
}
