package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// routesByHost is one route for each host name.test: pairs of name and what the route says besides.
func routesByHost(methods string, pairs ...string) string {
	var b strings.Builder
	b.WriteString("routes:\n")
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(&b, "  - {name: %s, hosts: [%s.test], service: mirror, methods: ['demo.echo.v1.Mirror/%s'], %s}\n", pairs[i], pairs[i], methods, pairs[i+1])
	}
	return b.String()
}

// at sends a case to a host.
func at(host string, c exchangeCase) exchangeCase {
	c.header = append([]string{"Host", host + ".test"}, c.header...)
	return c
}

func TestJSONOptionsPerRoute(t *testing.T) {
	g, backend := startMirror(t, routesByHost("*",
		"plain", "json: {}",
		"emit", "json: {emit_unpopulated: true}",
		"names", "json: {proto_names: true}",
		"enums", "json: {enum_numbers: true}",
		"numbers", "json: {int64_numbers: true}",
		"ignore", "json: {ignore_unknown: true}",
		"all", "json: {emit_unpopulated: true, proto_names: true, enum_numbers: true, int64_numbers: true}"))
	const body = `{"smallNumber":1,"largeNumber":"2","color":"COLOR_BLUE","maybe":0}`
	for host, want := range map[string]string{
		"plain": `{"smallNumber":1,"largeNumber":"2","color":"COLOR_BLUE","maybe":0}`,
		"emit": `{"text":"","smallNumber":1,"largeNumber":"2","natural":"0","flag":false,"color":"COLOR_BLUE","data":"","ratio":0,` +
			`"tags":[],"labels":{},"maybe":0}`,
		"names":   `{"small_number":1,"large_number":"2","color":"COLOR_BLUE","maybe":0}`,
		"enums":   `{"smallNumber":1,"largeNumber":"2","color":2,"maybe":0}`,
		"numbers": `{"smallNumber":1,"largeNumber":2,"color":"COLOR_BLUE","maybe":0}`,
		"ignore":  `{"smallNumber":1,"largeNumber":"2","color":"COLOR_BLUE","maybe":0}`,
		"all": `{"text":"","small_number":1,"large_number":2,"natural":0,"flag":false,"color":2,"data":"","ratio":0,` +
			`"tags":[],"labels":{},"maybe":0}`,
	} {
		t.Run(host, func(t *testing.T) {
			at(host, exchangeCase{method: "POST", path: "/v1/mirror", body: body, status: 200, want: []string{want}}).check(t, g, backend)
			unknown := exchangeCase{method: "POST", path: "/v1/mirror", body: `{"nope":{"a":[1]},"text":"a","nested":{"nope":1}}`, status: 400, want: []string{"nope"}}
			if host == "ignore" {
				unknown.status, unknown.want = 200, []string{`{"text":"a","nested":{}}`}
			}
			at(host, unknown).check(t, g, backend)
		})
	}
}

func TestPathAgainstBody(t *testing.T) {
	g, backend := startMirror(t, routesByHost("*", "plain", "rest: {}", "refuse", "rest: {path_conflict: refuse}", "override", "rest: {path_conflict: override}",
		"gateway", "rest: {compatibility: grpc_gateway}"))
	const refused = 400
	for _, tc := range []struct {
		name               string
		method, path, body string
		refuse, override   string // the answer; "": refused, with the part of it in `fault`
		fault              string
	}{
		{"another value", "PUT", "/v1/mirror/a", `{"text":"b","flag":true}`, "", `{"text":"a","flag":true}`, "text"},
		{"the same value", "PUT", "/v1/mirror/a", `{"text":"a"}`, `{"text":"a"}`, `{"text":"a"}`, ""},
		{"none", "PUT", "/v1/mirror/a", `{}`, `{"text":"a"}`, `{"text":"a"}`, ""},
		{"null", "PUT", "/v1/mirror/a", `{"text":null}`, `{"text":"a"}`, `{"text":"a"}`, ""},
		{"zero", "PUT", "/v1/mirror/a", `{"text":""}`, `{"text":"a"}`, `{"text":"a"}`, ""},
		{"no body", "PUT", "/v1/mirror/a", ``, `{"text":"a"}`, `{"text":"a"}`, ""},
		{"below, another", "PUT", "/v1/items/a", `{"text":"b"}`, "", `{"item":{"text":"a"}}`, "item.text"},
		{"below, the same", "PUT", "/v1/items/a", `{"text":"a","flag":true}`, `{"item":{"text":"a","flag":true}}`, `{"item":{"text":"a","flag":true}}`, ""},
		{"below, none", "PUT", "/v1/items/a", `{"flag":true}`, `{"item":{"flag":true,"text":"a"}}`, `{"item":{"flag":true,"text":"a"}}`, ""},
		{"decoded", "PUT", "/v1/mirror/a%2Fb%20c", `{"text":"a/b c"}`, `{"text":"a/b c"}`, `{"text":"a/b c"}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, host := range []string{"plain", "refuse", "override"} {
				want := tc.refuse
				if host == "override" {
					want = tc.override
				}
				before := backend.Calls.Load()
				a := g.call(tc.method, tc.path, tc.body, "Host", host+".test")
				switch {
				case want == "":
					if a.status != refused || !strings.Contains(a.body, `"field":"`+tc.fault+`"`) || backend.Calls.Load() != before {
						t.Errorf("%s: want a refusal that names %q, found %d %s", host, tc.fault, a.status, a.body)
					}
				case a.status != 200 || !sameJSON(t, a.body, want):
					t.Errorf("%s: want %s, found %d %s", host, want, a.status, a.body)
				}
			}
			if a := g.call(tc.method, tc.path, tc.body, "Host", "gateway.test"); a.status != 200 {
				t.Errorf("grpc-gateway's conventions: want 200, found %d %s", a.status, a.body)
			}
		})
	}
}

// sameJSON tells whether two texts are the same JSON, whatever the order of members.
func sameJSON(t testing.TB, a, b string) bool {
	t.Helper()
	return cmp.Equal(answer{body: a}.json(t), answer{body: b}.json(t))
}

func TestUnknownQueryParameters(t *testing.T) {
	g, backend := startMirror(t, routesByHost("Show",
		"plain", "rest: {}",
		"refuse", "rest: {unknown_query: refuse}",
		"ignore", "rest: {unknown_query: ignore}",
		"labels", "rest: {unknown_query: capture, capture_query: labels}",
		"extra", "rest: {unknown_query: capture, capture_query: extra}",
		"tags", "rest: {unknown_query: capture, capture_query: tags}",
		"below", "rest: {unknown_query: capture, capture_query: nested.labels}"))
	for _, tc := range []struct {
		name, query string
		want        map[string]string // by host; "": refused
	}{
		{"one", "utm_source=mail&flag=true", map[string]string{
			"plain": "", "refuse": "", "ignore": `{"flag":true}`, "labels": `{"flag":true,"labels":{"utm_source":"mail"}}`,
			"extra": `{"flag":true,"extra":{"utm_source":"mail"}}`, "tags": `{"flag":true,"tags":["utm_source=mail"]}`,
			"below": `{"flag":true,"nested":{"labels":{"utm_source":"mail"}}}`,
		}},
		{"twice", "x=1&x=2", map[string]string{
			"refuse": "", "ignore": `{}`, "labels": "", "extra": `{"extra":{"x":["1","2"]}}`, "tags": `{"tags":["x=1","x=2"]}`, "below": "",
		}},
		{"encoded", "a%20b=%C3%BC%26", map[string]string{
			"refuse": "", "ignore": `{}`, "labels": `{"labels":{"a b":"ü&"}}`, "extra": `{"extra":{"a b":"ü&"}}`, "tags": `{"tags":["a b=ü&"]}`,
		}},
		{"without a value", "debug", map[string]string{
			"refuse": "", "ignore": `{}`, "labels": `{"labels":{"debug":""}}`, "extra": `{"extra":{"debug":""}}`, "tags": `{"tags":["debug="]}`,
		}},
		{"beside the field itself", "x=1&labels[y]=2&tags=z", map[string]string{
			"refuse": "", "ignore": `{"tags":["z"],"labels":{"y":"2"}}`, "labels": `{"tags":["z"],"labels":{"x":"1","y":"2"}}`,
			"tags": `{"tags":["x=1","z"],"labels":{"y":"2"}}`,
		}},
		{"a known name that does not fit", "small_number=x", map[string]string{"plain": "", "refuse": "", "ignore": "", "labels": "", "extra": "", "tags": ""}},
		{"below a known name", "nested.nope=1", map[string]string{
			"plain": "", "refuse": "", "ignore": `{}`, "labels": `{"labels":{"nested.nope":"1"}}`, "extra": `{"extra":{"nested.nope":"1"}}`,
		}},
		{"none", "flag=true", map[string]string{"plain": `{"flag":true}`, "labels": `{"flag":true}`, "extra": `{"flag":true}`, "tags": `{"flag":true}`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for host, want := range tc.want {
				before := backend.Calls.Load()
				a := g.call("GET", "/v1/mirror?"+tc.query, "", "Host", host+".test")
				switch {
				case want == "":
					if a.status != 400 || backend.Calls.Load() != before {
						t.Errorf("%s: want 400 and the service not reached, found %d %s", host, a.status, a.body)
					}
				case a.status != 200 || !sameJSON(t, a.body, want):
					t.Errorf("%s: want %s, found %d %s", host, want, a.status, a.body)
				}
			}
		})
	}
	a := g.call("GET", "/v1/mirror?flga=true", "", "Host", "refuse.test")
	if a.status != 400 || !strings.Contains(a.body, `did you mean \"flag\"?`) {
		t.Errorf("want a suggestion, found %d %s", a.status, a.body)
	}
}

// A field that cannot keep parameters is a fault of the configuration.
func TestCaptureFieldsAreChecked(t *testing.T) {
	for field, want := range map[string]string{
		"color":       "wanted a field that can keep query parameters",
		"lables":      `did you mean "labels"?`,
		"nested.text": "wanted a field that can keep query parameters",
	} {
		config := mirrorConfig(t, "127.0.0.1:1", "") + routesByHost("Show", "a", "rest: {unknown_query: capture, capture_query: "+field+"}")
		if g, err := tryGateway(t, t.TempDir(), config); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "causeway.yaml:6:") {
			t.Errorf("%s: want a fault at its place that says %q, found %v %v", field, want, g, err)
		}
	}
}

func TestContradictionsInOneRequest(t *testing.T) {
	g, backend := startMirror(t, "")
	refused := func(name, method, path, body, field string) exchangeCase {
		return exchangeCase{name: name, method: method, path: path, body: body, status: 400, want: []string{`"field":"` + field + `"`}}
	}
	for _, c := range []exchangeCase{
		refused("a singular field twice", "GET", "/v1/mirror?flag=true&flag=true", "", "flag"),
		refused("under both names", "GET", "/v1/mirror?small_number=1&smallNumber=1", "", "smallNumber"),
		refused("a field below twice", "GET", "/v1/mirror?nested.text=a&nested.text=b", "", "nested.text"),
		refused("an optional field twice", "GET", "/v1/mirror?maybe=1&maybe=2", "", "maybe"),
		refused("a wrapper twice", "GET", "/v1/mirror?note=a&note=b", "", "note"),
		refused("a key of a map twice", "GET", "/v1/mirror?labels[a]=1&labels[a]=2", "", "labels.a"),
		refused("path and query", "GET", "/v1/mirror/a/tags?text=a", "", "text"),
		refused("body and query", "POST", "/v1/mirror/a/nested?nested.flag=true", `{"text":"b"}`, "nested.flag"),
		refused("two members of a oneof in the query", "GET", "/v1/mirror?left=a&right=b", "", "right"),
		refused("two members of a oneof in the body", "POST", "/v1/mirror", `{"left":"a","right":"b"}`, "right"),
		refused("two members of a oneof below", "GET", "/v1/mirror?nested.right=a&nested.left=b", "", "nested.left"),
		{name: "a repeated field twice", method: "GET", path: "/v1/mirror?tags=a&tags=a", status: 200, want: []string{`{"tags":["a","a"]}`}},
		{name: "a map by two keys", method: "GET", path: "/v1/mirror?labels[a]=1&labels[b]=2", status: 200, want: []string{`{"labels":{"a":"1","b":"2"}}`}},
		{name: "one member of a oneof", method: "GET", path: "/v1/mirror?right=", status: 200, want: []string{`{"right":""}`}},
		{name: "null for the other member", method: "POST", path: "/v1/mirror", body: `{"left":null,"right":"b"}`, status: 200, want: []string{`{"right":"b"}`}},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, g, backend) })
	}
}

// PATCH of a field fills the mask from the body; PUT does not, and a mask that is given stays.
func TestMasks(t *testing.T) {
	g, backend := startMirror(t, "")
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, c := range []exchangeCase{
		{
			name: "from the body", method: "PATCH", path: "/v1/items/a", body: `{"smallNumber":1,"nested":{"flag":true,"tags":[]},"note":null}`, status: 200,
			want: []string{`{"item":{"text":"a","smallNumber":1,"nested":{"flag":true}},"updateMask":"smallNumber,nested.flag,nested.tags,note"}`},
		},
		{name: "a message that is empty", method: "PATCH", path: "/v1/items/a", body: `{"nested":{}}`, status: 200, want: []string{`{"item":{"text":"a","nested":{}},"updateMask":"nested"}`}},
		{
			name: "a Struct and a map end it", method: "PATCH", path: "/v1/items/a", body: `{"extra":{"a":{"b":1}},"labels":{"c":"d"}}`, status: 200,
			want: []string{`"updateMask":"extra,labels"`, `"extra":{"a":{"b":1}}`, `"labels":{"c":"d"}`},
		},
		{
			name: "given in the query", method: "PATCH", path: "/v1/items/a?update_mask=flag,nested.small_number", body: `{"smallNumber":1}`, status: 200,
			want: []string{`{"item":{"text":"a","smallNumber":1},"updateMask":"flag,nested.smallNumber"}`},
		},
		{name: "an empty body", method: "PATCH", path: "/v1/items/a", body: `{}`, status: 200, want: []string{`{"item":{"text":"a"}}`}},
		{name: "PUT", method: "PUT", path: "/v1/items/a", body: `{"smallNumber":1}`, status: 200, want: []string{`{"item":{"text":"a","smallNumber":1}}`}},
		{
			name: "from a form", method: "PATCH", path: "/v1/items/a", body: `small_number=1&nested.flag=true&tags=x&tags=y`, header: form, status: 200,
			want: []string{`{"item":{"text":"a","smallNumber":1,"nested":{"flag":true},"tags":["x","y"]},"updateMask":"smallNumber,nested.flag,tags"}`},
		},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, g, backend) })
	}
}

func TestForms(t *testing.T) {
	g, backend := startMirror(t, "")
	form := []string{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}
	for _, c := range []exchangeCase{
		{
			name: "the whole message", method: "POST", path: "/v1/mirror", body: "text=a+b&small_number=7&tags=x&tags=%C3%BC&labels[k]=v&nested.flag=true", header: form, status: 200,
			want: []string{`{"text":"a b","smallNumber":7,"nested":{"flag":true},"tags":["x","ü"],"labels":{"k":"v"}}`},
		},
		{name: "a field", method: "POST", path: "/v1/mirror/a/nested?flag=true", body: "text=b", header: form, status: 200, want: []string{`"nested":{"text":"b"}`, `"flag":true`}},
		{name: "JSON that curl calls a form", method: "POST", path: "/v1/mirror", body: ` {"text":"a"}`, header: form, status: 200, want: []string{`{"text":"a"}`}},
		{name: "against the path", method: "PUT", path: "/v1/mirror/a", body: "text=b", header: form, status: 400, want: []string{"text"}},
		{name: "the path's own value", method: "PUT", path: "/v1/mirror/a", body: "text=a", header: form, status: 200, want: []string{`{"text":"a"}`}},
		{name: "a field twice", method: "POST", path: "/v1/mirror", body: "text=a&text=b", header: form, status: 400, want: []string{"text"}},
		{name: "to a path that takes GET", method: "POST", path: "/v1/mirror/a/tags", body: "tags=a", header: form, status: 405},
		{name: "empty", method: "POST", path: "/v1/mirror", header: form, status: 200, want: []string{`{}`}},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, g, backend) })
	}
}

// HEAD is answered by what GET calls: the same status and headers, and no body.
func TestHeadIsGetWithoutABody(t *testing.T) {
	g, backend := startMirror(t, routesByHost("*", "plain", "rest: {}", "gateway", "rest: {compatibility: grpc_gateway}"))
	for _, host := range []string{"plain", "gateway"} {
		for _, path := range []string{
			"/v1/mirror?text=a&tags=b", "/v1/mirror/a/tags?tags=x", "/v1/downloads/70000?content_type=image/png", "/v1/downloads/0",
			"/v1/mirror?small_number=x", "/v1/mirror/..", "/nope", "/v1/uploads",
		} {
			calls := backend.Calls.Load()
			get := g.call("GET", path, "", "Host", host+".test", "X-Request-Id", "same")
			once := backend.Calls.Load() - calls
			head := g.call("HEAD", path, "", "Host", host+".test", "X-Request-Id", "same")
			if backend.Calls.Load()-calls != 2*once {
				t.Errorf("%s %s: want HEAD to call what GET calls", host, path)
			}
			if head.status != get.status || head.body != "" {
				t.Errorf("%s %s: want %d without a body, found %d %q", host, path, get.status, head.status, head.body)
			}
			// A refusal without a route names the verb, so that its text differs.
			if n := head.header.Get("Content-Length"); n != strconv.Itoa(len(get.body)) && get.status < 404 {
				t.Errorf("%s %s: Content-Length: want %d, found %s", host, path, len(get.body), n)
			}
			for _, a := range []answer{get, head} {
				for _, k := range []string{"Date", "Content-Length"} {
					a.header.Del(k)
				}
			}
			if diff := cmp.Diff(get.header, head.header); diff != "" {
				t.Errorf("%s %s: headers (-GET +HEAD):\n%s", host, path, diff)
			}
		}
	}
}

// What a google.api.HttpBody carries passes as it is, both ways.
func TestHTTPBody(t *testing.T) {
	t.Parallel()
	g, backend := startMirror(t, "")
	const size = 1 << 20
	data := string(echo.Pattern(size))
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(data)))
	t.Run("upload", func(t *testing.T) {
		for _, typ := range []string{"application/x-tar", "application/json", "application/x-www-form-urlencoded", "text/plain; charset=latin1", ""} {
			header := []string{"Content-Type", typ}
			want := fmt.Sprintf(`{"contentType":%q,"size":"%d","sha256":%q}`, typ, size, sum)
			if typ == "" {
				header, want = nil, fmt.Sprintf(`{"size":"%d","sha256":%q}`, size, sum)
			}
			if a := g.call("POST", "/v1/uploads", data, header...); a.status != 200 || a.body != want {
				t.Errorf("%s: want %s, found %d %.300s", typ, want, a.status, a.body)
			}
		}
	})
	t.Run("download", func(t *testing.T) {
		for typ, want := range map[string]string{"image/png": "image/png", "text/html;charset=utf-8": "text/html;charset=utf-8", "": "application/octet-stream"} {
			a := g.call("GET", fmt.Sprintf("/v1/downloads/%d?content_type=%s", size, strings.ReplaceAll(typ, ";", "%3B")), "")
			if a.status != 200 || a.header.Get("Content-Type") != want || a.body != data || a.header.Get("Content-Length") != strconv.Itoa(size) {
				t.Errorf("%q: want the bytes as %q, found %d %q, %d bytes", typ, want, a.status, a.header.Get("Content-Type"), len(a.body))
			}
		}
	})
	t.Run("as a field, both ways", func(t *testing.T) {
		a := g.call("PUT", "/v1/objects/a%2Fb", data, "Content-Type", "application/x-tar")
		if a.status != 200 || a.body != data || a.header.Get("Content-Type") != "application/x-tar" {
			t.Errorf("want what was sent, found %d %q, %d bytes", a.status, a.header.Get("Content-Type"), len(a.body))
		}
		if a := g.call("PUT", "/v1/objects/a", ""); a.status != 200 || a.body != "" || a.header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("without a body: want nothing, found %d %q %q", a.status, a.header.Get("Content-Type"), a.body)
		}
	})
	t.Run("errors stay JSON", func(t *testing.T) {
		if a := g.call("GET", "/v1/downloads/x", ""); a.status != 400 || a.fault(t, 400) == nil {
			t.Errorf("want 400, found %d %s", a.status, a.body)
		}
	})
	// The type is the service's to choose; what would add headers is refused, and says nothing of the content.
	for name, typ := range map[string]string{
		"a line break": "text/html%0D%0ASet-Cookie:%20a=b", "a line feed": "text/html%0ASet-Cookie:a", "a carriage return": "text/html%0Da", "a NUL": "text/%00html", "another control": "text/%C2%85",
	} {
		t.Run(name, func(t *testing.T) {
			a := g.call("GET", "/v1/downloads/4?content_type="+typ, "")
			if a.status != http.StatusBadGateway || a.header.Get("Set-Cookie") != "" || !strings.Contains(a.body, "INVALID_ANSWER") {
				t.Errorf("want 502, found %d %v %s", a.status, a.header, a.body)
			}
			a.fault(t, 502)
		})
	}
	if n := backend.Calls.Load(); n != 15 {
		t.Errorf("want 15 calls, found %d", n)
	}
}
