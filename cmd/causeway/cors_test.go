package main

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// corsConfig goes on with the list of plugins that the test's configurations end with.
const corsConfig = `  - {name: cors, config: {origins: ["https://app.example.com"], headers: [X-Requested-With]}}
routes:
  - {name: fail, service: echo, methods: [demo.echo.v1.Echo/Fail], request_headers: [x-tenant]}
  - {name: wait, service: echo, methods: [demo.echo.v1.Echo/Wait], headers: [{name: x-canary, exact: "1"}]}
`

// corsHeaders are those of an answer's headers that CORS is about, one line each.
func corsHeaders(h http.Header) string {
	var lines []string
	for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Allow-Private-Network", "Access-Control-Max-Age", "Access-Control-Expose-Headers", "Vary"} {
		if v := h.Values(name); len(v) > 0 {
			if name == "Access-Control-Expose-Headers" { // gRPC servers write metadata in any order
				names := strings.Split(v[0], ", ")
				slices.Sort(names)
				v[0] = strings.Join(names, ", ")
			}
			lines = append(lines, strings.TrimPrefix(name, "Access-Control-")+": "+strings.Join(v, "; "))
		}
	}
	return strings.Join(lines, "\n")
}

func TestCORSPreflight(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, corsConfig, backend.Address)
	const own, other = "https://app.example.com", "https://other.example.com"
	const vary = "Vary: access-control-request-method, access-control-request-headers; origin"
	const allowed, refused = "Allow-Origin: " + own + "\n", "Vary: origin"
	granted := func(verb, headers string) string {
		if headers != "" {
			headers = "Allow-Headers: " + headers + "\n"
		}
		return allowed + "Allow-Methods: " + verb + "\n" + headers + "Max-Age: 600\n" + vary
	}
	for _, tc := range []struct {
		name, path, origin, verb, headers string
		more                              []string
		status                            int
		want                              string
	}{
		{name: "REST", path: "/v1/echo/x", origin: own, verb: "GET", status: 204, want: granted("GET", "")},
		{name: "REST with a body", path: "/v1/echo", origin: own, verb: "POST", headers: "Content-Type, authorization,x-request-timeout", status: 204, want: granted("POST", "content-type, authorization, x-request-timeout")},
		{name: "REST, headers that stay at the edge", path: "/v1/echo", origin: own, verb: "POST", headers: "x-tenant,grpc-metadata-shop,x-requested-with,x-consumer-id,proxy-authorization,x y,", status: 204, want: granted("POST", "grpc-metadata-shop, x-requested-with")},
		{name: "REST, headers of the route", path: "/v1/fail", origin: own, verb: "POST", headers: "x-tenant,grpc-metadata-x-tenant", status: 204, want: granted("POST", "x-tenant, grpc-metadata-x-tenant")},
		{name: "REST, another verb", path: "/v1/echo/x", origin: own, verb: "DELETE", status: 405, want: allowed + refused},
		{name: "no route", path: "/v1/none", origin: own, verb: "GET", status: 404, want: allowed + refused},
		{name: "a verb that is none", path: "/v1/echo/x", origin: own, verb: "GET, POST", status: 405, want: allowed + refused},
		{name: "gRPC-Web", path: "/demo.echo.v1.Echo/Call", origin: own, verb: "POST", headers: "content-type,grpc-timeout,x-grpc-web,x-user-agent,x-shop-bin", status: 204, want: granted("POST", "content-type, grpc-timeout, x-grpc-web, x-user-agent, x-shop-bin")},
		{name: "Connect", path: "/demo.echo.v1.Echo/Call", origin: own, verb: "POST", headers: "connect-protocol-version,connect-timeout-ms,content-type,x-shop", status: 204, want: granted("POST", "connect-protocol-version, connect-timeout-ms, content-type, x-shop")},
		{name: "by name, headers that stay at the edge", path: "/demo.echo.v1.Echo/Call", origin: own, verb: "POST", headers: "x-consumer-id,x-forwarded-for,grpc-status,connect-x", status: 204, want: granted("POST", "")},
		{name: "by name, GET of what changes things", path: "/demo.echo.v1.Echo/Call", origin: own, verb: "GET", status: 404, want: allowed + refused},
		{name: "a condition that may hold", path: "/v1/wait", origin: own, verb: "GET", headers: "x-canary", status: 204, want: granted("GET", "")},
		{name: "a condition that cannot hold", path: "/v1/wait", origin: own, verb: "GET", status: 404, want: allowed + refused},
		{name: "another origin", path: "/v1/echo/x", origin: other, verb: "GET", headers: "authorization", status: 403, want: refused},
		{name: "the origin on another port", path: "/v1/echo/x", origin: own + ":8443", verb: "GET", status: 403, want: refused},
		{name: "null", path: "/v1/echo/x", origin: "null", verb: "GET", status: 403, want: refused},
		{name: "no origin", path: "/v1/echo/x", verb: "GET", status: 405, want: refused},
		{name: "no verb asked for", path: "/v1/echo/x", origin: own, status: 405, want: allowed + "Expose-Headers: allow, x-request-id\nVary: origin"},
		{name: "private network", path: "/v1/echo/x", origin: own, verb: "GET", more: []string{"Access-Control-Request-Private-Network", "true"}, status: 204, want: granted("GET", "")},
		{name: "a path that is refused, whatever is asked", path: "/v1/echo/%2e%2e/x", origin: own, verb: "GET", status: 400, want: allowed + "Expose-Headers: x-request-id\n" + refused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			header := tc.more
			for name, value := range map[string]string{"Origin": tc.origin, "Access-Control-Request-Method": tc.verb, "Access-Control-Request-Headers": tc.headers} {
				if value != "" {
					header = append(header, name, value)
				}
			}
			a := g.call("OPTIONS", tc.path, "", header...)
			if a.status != tc.status {
				t.Errorf("status: want %d, found %d %s", tc.status, a.status, a.body)
			}
			if d := cmp.Diff(tc.want, corsHeaders(a.header)); d != "" {
				t.Errorf("headers (-want +got):\n%s", d)
			}
		})
	}
	if n := backend.Calls.Load(); n != 0 {
		t.Errorf("%d preflights reached the service", n)
	}
	g.logged("the preflight", `"OPTIONS"`, "204")
}

func TestCORSAnswers(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	const own, other = "https://app.example.com", "https://other.example.com"
	const list, every, credentials = `  - {name: cors, config: {origins: ["` + own + `"]}}` + "\n", `  - {name: cors, config: {origins: ["*"]}}` + "\n", `  - {name: cors, config: {origins: ["` + own + `"], credentials: true}}` + "\n"
	const web, connect = "application/grpc-web+proto", "application/connect+proto"
	const rest = "grpc-metadata-x-instance, grpc-metadata-x-raw-bin, grpc-trailer-x-cost, x-request-id"
	empty := string(make([]byte, 5)) // a message without fields, framed
	gateways := map[string]*gatewayTest{}
	for _, c := range []string{list, every, credentials, ""} {
		gateways[c] = startEcho(t, c, backend.Address)
	}
	for _, tc := range []struct {
		name, config, origin, verb, path, typ, body string
		status                                      int
		want                                        string
	}{
		{"REST", list, own, "GET", "/v1/echo/x", "", "", 200, "Allow-Origin: " + own + "\nExpose-Headers: " + rest + "\nVary: origin"},
		{"an error of the service", list, own, "GET", "/v1/fail/5", "", "", 404, "Allow-Origin: " + own + "\nExpose-Headers: x-request-id\nVary: origin"},
		{"a refusal", list, own, "GET", "/v1/none", "", "", 404, "Allow-Origin: " + own + "\nExpose-Headers: x-request-id\nVary: origin"},
		{"another origin", list, other, "GET", "/v1/echo/x", "", "", 200, "Vary: origin"},
		{"null", list, "null", "GET", "/v1/echo/x", "", "", 200, "Vary: origin"},
		{"no origin", list, "", "GET", "/v1/echo/x", "", "", 200, "Vary: origin"},
		{"every origin", every, other, "GET", "/v1/echo/x", "", "", 200, "Allow-Origin: *\nExpose-Headers: " + rest},
		{"every origin for null", every, "null", "GET", "/v1/echo/x", "", "", 200, "Allow-Origin: *\nExpose-Headers: " + rest},
		{"every origin where none is said", every, "", "GET", "/v1/echo/x", "", "", 200, ""},
		{"credentials", credentials, own, "GET", "/v1/none", "", "", 404, "Allow-Origin: " + own + "\nAllow-Credentials: true\nExpose-Headers: x-request-id\nVary: origin"},
		{"credentials for another origin", credentials, other, "GET", "/v1/none", "", "", 404, "Vary: origin"},
		{"gRPC-Web", list, own, "POST", "/demo.echo.v1.Echo/Call", web, empty, 200, "Allow-Origin: " + own + "\nExpose-Headers: x-instance, x-raw-bin, x-request-id\nVary: origin"},
		{"gRPC-Web and no such method", list, own, "POST", "/demo.echo.v1.Echo/None", web, empty, 200, "Allow-Origin: " + own + "\nExpose-Headers: x-request-id\nVary: origin"},
		{"Connect", list, own, "POST", "/demo.echo.v1.Echo/Call", "application/proto", "", 200, "Allow-Origin: " + own + "\nExpose-Headers: trailer-x-cost, x-instance, x-raw-bin, x-request-id\nVary: origin"},
		{"Connect with a stream where there is none", list, own, "POST", "/demo.echo.v1.Echo/Call", connect, empty, 415, "Allow-Origin: " + own + "\nExpose-Headers: accept-post, x-request-id\nVary: origin"},
		{"no cors", "", own, "GET", "/v1/echo/x", "", "", 200, ""},
		{"no cors for a preflight", "", own, "OPTIONS", "/v1/echo/x", "", "", 405, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := gateways[tc.config]
			header := []string{"Access-Control-Request-Method", "GET"} // which means something in a preflight only
			if tc.origin != "" {
				header = append(header, "Origin", tc.origin)
			}
			if tc.typ != "" {
				header = append(header, "Content-Type", tc.typ)
			}
			a := g.call(tc.verb, tc.path, tc.body, header...)
			if a.status != tc.status {
				t.Errorf("status: want %d, found %d %s", tc.status, a.status, a.body)
			}
			if d := cmp.Diff(tc.want, corsHeaders(a.header)); d != "" {
				t.Errorf("headers (-want +got):\n%s", d)
			}
		})
	}
}

// Answers in pieces are as those at once.
func TestCORSStreams(t *testing.T) {
	g := startChatGateway(t, startChat(t), `  - {name: cors, config: {origins: ["https://app.example.com"]}}`)
	listen := string([]byte{0, 0, 0, 0, 3, 0x0a, 1, '2'}) // {"room": "2"}, framed
	for _, tc := range []struct{ name, verb, path, accept, typ, body string }{
		{"array", "GET", "/v1/rooms/2/messages", "application/json", "", ""},
		{"NDJSON", "GET", "/v1/rooms/2/messages", "application/x-ndjson", "", ""},
		{"SSE", "GET", "/v1/rooms/2/messages", "text/event-stream", "", ""},
		{"gRPC-Web", "POST", "/demo.chat.v1.Chat/Listen", "", "application/grpc-web", listen},
		{"gRPC-Web in text", "POST", "/demo.chat.v1.Chat/Listen", "", "application/grpc-web-text", base64.StdEncoding.EncodeToString([]byte(listen))},
		{"Connect", "POST", "/demo.chat.v1.Chat/Listen", "", "application/connect+proto", listen},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := g.call(tc.verb, tc.path, tc.body, "Origin", "https://app.example.com", "Accept", tc.accept, "Content-Type", tc.typ)
			h := a.header
			if a.status != 200 || h.Get("Access-Control-Allow-Origin") != "https://app.example.com" || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "x-request-id") {
				t.Errorf("found %d %v %s", a.status, h, a.body)
			}
			body := a.body
			if strings.HasSuffix(tc.typ, "text") {
				var raw []byte
				for four := range slices.Chunk([]byte(body), 4) { // padded between messages
					var err error
					if raw, err = base64.StdEncoding.AppendDecode(raw, four); err != nil {
						t.Fatal(err)
					}
				}
				body = string(raw)
			}
			if !strings.Contains(body, "message 1") {
				t.Errorf("want two messages, found %q", body)
			}
		})
	}
}

// A reload gives and takes leave.
func TestCORSReload(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	dir := t.TempDir()
	g := startGateway(t, echoConfig(t, dir, backend.Address))
	leave := func() string {
		return corsHeaders(g.call("GET", "/v1/echo/x", "", "Origin", "https://app.example.com").header)
	}
	if got := leave(); got != "" {
		t.Errorf("want no leave, found %s", got)
	}
	g.write(echoConfig(t, dir, backend.Address) + corsConfig)
	waitFor(t, "leave after a reload", func() bool { return strings.HasPrefix(leave(), "Allow-Origin: https://app") })
	g.write(echoConfig(t, dir, backend.Address))
	waitFor(t, "no leave after a reload", func() bool { return leave() == "" })
}
