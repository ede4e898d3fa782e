package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// startMirror is a gateway before a service that gives back what it was given, with more at the end of its configuration.
func startMirror(t testing.TB, more string) (*gatewayTest, *echo.Server) {
	t.Helper()
	backend := echo.StartMirror(t)
	return startGateway(t, mirrorConfig(t, backend.Address, "")+more), backend
}

// mirrorConfig is the configuration of such a gateway; schema is more of what its schema has.
func mirrorConfig(t testing.TB, address, schema string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mirror.binpb")
	if err := os.WriteFile(file, descriptors.Encode(t, echov1.File_demo_echo_v1_mirror_proto), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`listen: [{address: 127.0.0.1:0}]
admin: {address: 127.0.0.1:0}
schemas: [{name: mirror, descriptor_set: %q%s}]
services: [{name: mirror, schema: mirror, endpoints: [{address: %q}]}]
`, file, schema, address)
}

// exchangeCase is a request, and what comes of it.
type exchangeCase struct {
	name               string
	method, path, body string
	header             []string
	status             int
	want               []string // parts of the answer's body; of a 200 the one part is all of it
	not                []string // what may not be in it
}

// check sends the request. What is answered 200 has reached the service once, anything else not at all.
func (c exchangeCase) check(t *testing.T, g *gatewayTest, backend *echo.Server) {
	t.Helper()
	before := backend.Calls.Load()
	a := g.call(c.method, c.path, c.body, c.header...)
	reached := backend.Calls.Load() - before
	if a.status != c.status {
		t.Fatalf("want %d, found %d %s", c.status, a.status, a.body)
	}
	if want := int64(0); c.status == http.StatusOK {
		if want = 1; len(c.want) == 1 && a.body != c.want[0] {
			t.Errorf("want %s, found %s", c.want[0], a.body)
		}
		if reached != want {
			t.Errorf("want the service reached once, it was %d times", reached)
		}
	} else {
		if reached != want {
			t.Errorf("want the service not reached, it was %d times", reached)
		}
		a.fault(t, c.status)
	}
	for _, w := range c.want {
		if !strings.Contains(a.body, w) {
			t.Errorf("want %q, found %s", w, a.body)
		}
	}
	for _, w := range c.not {
		if strings.Contains(a.body, w) {
			t.Errorf("want no %q, found %s", w, a.body)
		}
	}
}

// fault checks that an answer is a google.rpc.Status in JSON whose code fits its HTTP status, and reads it.
func (a answer) fault(t testing.TB, status int) *statuspb.Status {
	t.Helper()
	if ct := a.header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type: want application/json, found %q", ct)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(a.body), &fields); err != nil {
		t.Fatalf("want JSON, found %q", a.body)
	}
	s := &statuspb.Status{}
	delete(fields, "details") // they may be of types that are not linked in
	bare, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(bare, s); err != nil {
		t.Fatalf("want google.rpc.Status, found %s: %v", a.body, err)
	}
	fit := map[int][]codes.Code{
		400: {codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange}, 404: {codes.Unimplemented, codes.NotFound}, 405: {codes.Unimplemented},
		413: {codes.ResourceExhausted}, 415: {codes.InvalidArgument}, 429: {codes.ResourceExhausted}, 502: {codes.Internal}, 503: {codes.Unavailable}, 504: {codes.DeadlineExceeded},
	}
	if !slices.Contains(fit[status], codes.Code(s.GetCode())) || s.GetMessage() == "" { //nolint:gosec // a code is small
		t.Errorf("want a code that fits %d, and a message, found %s", status, a.body)
	}
	return s
}

const jsonBody = "application/json"

// What Apache APISIX's transcoding gets wrong, tried on the whole gateway: each group is one of its faults.
func TestFaultsOfOthers(t *testing.T) {
	g, backend := startMirror(t, "routes: [{name: numbers, hosts: [numbers.test], service: mirror, methods: ['demo.echo.v1.Mirror/Show'], json: {int64_numbers: true}},"+
		" {name: all, service: mirror, methods: ['demo.echo.v1.Mirror/*']}]\n")
	show := func(name, body, want string) exchangeCase {
		return exchangeCase{name: name, method: "POST", path: "/v1/mirror", body: body, status: 200, want: []string{want}}
	}
	refused := func(name, body string, want ...string) exchangeCase {
		return exchangeCase{name: name, method: "POST", path: "/v1/mirror", body: body, status: 400, want: append(want, "INVALID_REQUEST")}
	}
	asked := func(name, query, want string) exchangeCase {
		return exchangeCase{name: name, method: "GET", path: "/v1/mirror?" + query, status: 200, want: []string{want}}
	}
	notAsked := func(name, query string, want ...string) exchangeCase {
		return exchangeCase{name: name, method: "GET", path: "/v1/mirror?" + query, status: 400, want: append(want, "INVALID_REQUEST")}
	}
	numbers := func(c exchangeCase) exchangeCase {
		c.header = append(c.header, "Host", "numbers.test")
		return c
	}
	for group, cases := range map[string][]exchangeCase{
		"the rule of google.api.http is not read": {
			{name: "a variable binds", method: "PUT", path: "/v1/mirror/seven", body: `{"smallNumber":7}`, status: 200, want: []string{`{"text":"seven","smallNumber":7}`}},
			{name: "the body is the field named", method: "POST", path: "/v1/mirror/a/nested?flag=true", body: `{"text":"b"}`, status: 200, want: []string{`{"text":"a","flag":true,"nested":{"text":"b"}}`}},
			{name: "the answer is the field named", method: "GET", path: "/v1/mirror/a/tags?tags=x&tags=y", status: 200, want: []string{`["x","y"]`}},
			{name: "the method's name is no path beside its rule", method: "POST", path: "/demo.echo.v1.Mirror/Show", body: "{}", status: 404, want: []string{"ROUTE_NOT_FOUND"}},
		},
		"malformed JSON calls the method with an empty message": {
			refused("an open object", `{"text":"a"`, "line 1 column 12"),
			refused("no object", `hello`, "line 1 column 1"),
			refused("an array", `[]`, "line 1 column 1"),
			refused("a string", `"text"`, "line 1 column 1"),
			refused("a comma too many", `{"text":"a",}`, "line 1 column 13"),
			refused("a second value", `{} {}`, "line 1 column 4"),
			refused("single quotes", `{'text':'a'}`, "line 1 column 2"),
			refused("a comment", "{\n  // no\n}", "line 2 column 3"),
			refused("a key twice", `{"text":"a","text":"b"}`, "text"),
			refused("a field under both its names", `{"smallNumber":1,"small_number":1}`, "small"),
			refused("bytes that are no UTF-8", "{\"text\":\"\xff\"}", "UTF-8"),
			refused("half a surrogate", `{"text":"\ud800"}`, "text"),
			refused("blanks", "  \n"),
		},
		"camelCase names and unknown fields are dropped": {
			show("camelCase", `{"smallNumber":1,"largeNumber":"2"}`, `{"smallNumber":1,"largeNumber":"2"}`),
			show("as declared", `{"small_number":1,"large_number":2}`, `{"smallNumber":1,"largeNumber":"2"}`),
			asked("camelCase in the query", "smallNumber=1", `{"smallNumber":1}`),
			asked("as declared in the query", "small_number=1", `{"smallNumber":1}`),
			refused("unknown", `{"smalNumber":1}`, `smalNumber`, `did you mean \"smallNumber\"?`),
			refused("unknown below", `{"nested":{"nested":{"txt":"a"}}}`, `nested.nested.txt`),
			refused("of another case", `{"TEXT":"a"}`, `did you mean \"text\"?`),
			notAsked("unknown in the query", "smal_number=1", `did you mean \"small_number\"?`),
			refused("an unknown enum value", `{"color":"COLOR_RAD"}`, "COLOR_RED"),
		},
		"null for a message is 500": {
			show("a message", `{"nested":null}`, `{}`),
			show("a repeated field", `{"tags":null}`, `{}`),
			show("a map", `{"labels":null}`, `{}`),
			show("a Struct", `{"extra":null}`, `{}`),
			show("a wrapper", `{"note":null}`, `{}`),
			show("a scalar", `{"text":null,"smallNumber":null,"flag":null,"color":null,"maybe":null}`, `{}`),
			refused("an element", `{"tags":[null]}`, "tags[0]"),
			refused("the whole", `null`),
		},
		"9007199254740993 arrives as 9007199254740992": {
			show("a number", `{"largeNumber":9007199254740993}`, `{"largeNumber":"9007199254740993"}`),
			show("a string", `{"largeNumber":"9007199254740993"}`, `{"largeNumber":"9007199254740993"}`),
			asked("in the query", "large_number=9007199254740993", `{"largeNumber":"9007199254740993"}`),
			numbers(show("and as a number back", `{"largeNumber":9007199254740993}`, `{"largeNumber":9007199254740993}`)),
			numbers(show("from a string back", `{"largeNumber":"-9007199254740993"}`, `{"largeNumber":-9007199254740993}`)),
			show("the largest of uint64", `{"natural":18446744073709551615}`, `{"natural":"18446744073709551615"}`),
			show("an exponent", `{"largeNumber":9.007199254740993e15}`, `{"largeNumber":"9007199254740993"}`),
		},
		"int32 overflow wraps": {
			show("the largest", `{"smallNumber":2147483647}`, `{"smallNumber":2147483647}`),
			show("the smallest", `{"smallNumber":-2147483648}`, `{"smallNumber":-2147483648}`),
			refused("above", `{"smallNumber":2147483648}`, "smallNumber", "2147483648"),
			refused("below", `{"smallNumber":-2147483649}`, "smallNumber"),
			refused("as a string", `{"smallNumber":"4294967296"}`, "smallNumber"),
			refused("by an exponent", `{"smallNumber":3e9}`, "smallNumber"),
			refused("a part", `{"smallNumber":1.5}`, "smallNumber"),
			refused("int64", `{"largeNumber":9223372036854775808}`, "largeNumber"),
			refused("uint64 below zero", `{"natural":-1}`, "natural"),
			refused("a double", `{"ratio":1e400}`, "ratio"),
			notAsked("in the query", "small_number=2147483648", "smallNumber"),
			notAsked("below in the query", "small_number=-2147483649", "smallNumber"),
		},
		`"maybe" is true for a bool`: {
			refused("maybe", `{"flag":"maybe"}`, "flag"),
			refused("true in quotes", `{"flag":"true"}`, "flag"),
			refused("a number", `{"flag":1}`, "flag"),
			notAsked("in the query", "flag=maybe", "flag"),
			asked("true", "flag=true", `{"flag":true}`),
		},
		"int64 prints as 1.7637800001235e+18": {
			show("large", `{"largeNumber":"1763780000123500000"}`, `{"largeNumber":"1763780000123500000"}`),
			numbers(show("large as a number", `{"largeNumber":"1763780000123500000"}`, `{"largeNumber":1763780000123500000}`)),
			numbers(show("the smallest", `{"largeNumber":"-9223372036854775808"}`, `{"largeNumber":-9223372036854775808}`)),
			show("small", `{"largeNumber":1}`, `{"largeNumber":"1"}`),
			show("in a message", `{"nested":{"natural":"1763780000123500000"}}`, `{"nested":{"natural":"1763780000123500000"}}`),
		},
	} {
		t.Run(group, func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) { c.check(t, g, backend) })
			}
		})
	}
}

// Any HTTP method reaches the call elsewhere: here the rule's, and HEAD for GET.
func TestFaultAnyMethod(t *testing.T) {
	g, backend := startMirror(t, "")
	for path, allowed := range map[string]string{
		"/v1/mirror":        "GET, HEAD, POST",
		"/v1/mirror/a":      "PUT",
		"/v1/mirror/a/tags": "GET, HEAD",
		"/v1/items/a":       "PATCH, PUT",
		"/v1/uploads":       "POST",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"} {
			if slices.Contains(strings.Split(allowed, ", "), method) {
				continue
			}
			a := g.call(method, path, "")
			if a.status != 405 || a.header.Get("Allow") != allowed {
				t.Errorf("%s %s: want 405 with Allow: %s, found %d %q", method, path, allowed, a.status, a.header.Get("Allow"))
			}
			if method != "HEAD" {
				a.fault(t, 405)
			}
		}
	}
	if n := backend.Calls.Load(); n != 0 {
		t.Errorf("want the service not reached, it was %d times", n)
	}
}

// Error bodies are empty or HTML elsewhere.
func TestFaultErrorBodies(t *testing.T) {
	g, backend := startMirror(t, "")
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		a := g.call("POST", "/v1/break", fmt.Sprintf(`{"code":%d,"message":"no: \"%s\" <b>"}`, code, code))
		want := fmt.Sprintf(`{"code":%d,"message":"no: \"%s\" <b>","details":[]}`, code, code)
		if a.status < 400 || a.body != want || a.header.Get("Content-Type") != jsonBody {
			t.Errorf("%s: want %s, found %d %q %s", code, want, a.status, a.header.Get("Content-Type"), a.body)
		}
	}
	if n := backend.Calls.Load(); n != 16 {
		t.Errorf("want 16 calls, found %d", n)
	}
	backend.Stop()
	a := g.call("GET", "/v1/mirror", "")
	if a.status != 503 || a.fault(t, 503).GetCode() != int32(codes.Unavailable) || strings.Contains(a.body, backend.Address) {
		t.Errorf("without the service: want 503 that says nothing of the network, found %d %s", a.status, a.body)
	}
}

// A deadline that passes is 502 in HTML elsewhere.
func TestFaultDeadline(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "routes: [{name: short, service: echo, methods: ['demo.echo.v1.Echo/*'], timeout: 0.05s}]\n", backend.Address)
	for name, header := range map[string][]string{"the route's": nil, "the caller's": {"Grpc-Timeout", "20m"}} {
		a := g.call("GET", "/v1/wait?time=30s", "", header...)
		if a.status != 504 {
			t.Fatalf("%s: want 504, found %d %s", name, a.status, a.body)
		}
		if s := a.fault(t, 504); s.GetCode() != int32(codes.DeadlineExceeded) {
			t.Errorf("%s: want DEADLINE_EXCEEDED, found %s", name, a.body)
		}
	}
	waitFor(t, "the calls to be cancelled", func() bool { return backend.Waiting.Load() == 0 })
}

// Cookies and credentials leak into metadata elsewhere. Authorization is the service's own business where no plugin of the
// route has used it up: it arrives once, as it was sent, and by no other name.
func TestFaultLeakingHeaders(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	a := g.call("GET", "/v1/echo/x", "", "Authorization", "Bearer mine", "Cookie", "session=secret1", "Proxy-Authorization", "Basic secret2",
		"Grpc-Metadata-Cookie", "secret3", "Grpc-Metadata-Authorization", "Bearer secret4", "Grpc-Metadata-Proxy-Authorization", "secret5",
		"X-Forwarded-For", "secret6", "X-Consumer-Name", "secret7", "Grpc-Metadata-X-Real-Ip", "secret8", "Set-Cookie", "secret9")
	if a.status != 200 || strings.Contains(a.body, "secret") {
		t.Errorf("want none of the secrets at the service, found %d %s", a.status, a.body)
	}
	if got := a.text(t, "metadata", "authorization"); got != "Bearer mine" {
		t.Errorf("authorization: want the caller's, found %q", got)
	}
}
