package main

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// edge is a gateway in front of the services echo and chat.
type edge struct {
	*gatewayTest
	echo *echo.Server
	chat *chatBackend
}

func (e *edge) hits() int64 { return e.echo.Calls.Load() + e.chat.calls.Load() }

// startEdge runs it with more of a configuration behind the services.
func startEdge(t *testing.T, more string) *edge {
	t.Helper()
	e := &edge{echo: echo.Start(t, "127.0.0.1:0", "a"), chat: startChat(t)}
	e.gatewayTest = startGateway(t, inletsConfig(t, e.echo.Address, e.chat.address, more))
	return e
}

// every calls through each inlet, and holds what comes back against a code; what is refused reaches no service.
func (e *edge) every(t *testing.T, what string, h head, want codes.Code) {
	t.Helper()
	for _, in := range inlets {
		before := e.hits()
		if got := in.ask(t.Context(), t, e.gatewayTest, h); got.code != in.shown(want) {
			t.Errorf("%s by %s: want %s, found %s", what, in.name, in.shown(want), got)
		}
		if reached := e.hits() > before; reached != (want == codes.OK) {
			t.Errorf("%s by %s: the service was reached: %v", what, in.name, reached)
		}
	}
}

// A route's own cors counts alone beside the global one, for preflights and for answers.
func TestCORSOfARoute(t *testing.T) {
	e := startEdge(t, `plugins: [{name: cors, config: {origins: ["https://a.example.com"], credentials: true}}]
routes: [{name: fail, service: echo, methods: [demo.echo.v1.Echo/Fail], plugins: [{name: cors, config: {origins: ["https://b.example.com"]}}]}]
`)
	for _, tc := range []struct{ method, path, origin, want string }{
		{"GET", "/v1/echo/x", "https://a.example.com", "https://a.example.com true"},
		{"GET", "/v1/echo/x", "https://b.example.com", " "},
		{"GET", "/v1/fail/5", "https://a.example.com", " "},
		{"GET", "/v1/fail/5", "https://b.example.com", "https://b.example.com "},
		{"OPTIONS", "/v1/echo/x", "https://a.example.com", "https://a.example.com true"},
		{"OPTIONS", "/v1/echo/x", "https://b.example.com", " "},
		{"OPTIONS", "/v1/fail/5", "https://a.example.com", " "},
		{"OPTIONS", "/v1/fail/5", "https://b.example.com", "https://b.example.com "},
		{"GET", "/v1/none", "https://a.example.com", "https://a.example.com true"},
	} {
		a := e.call(tc.method, tc.path, "", "Origin", tc.origin, "Access-Control-Request-Method", "GET")
		got := strings.Join(a.header.Values("Access-Control-Allow-Origin"), ",") + " " + strings.Join(a.header.Values("Access-Control-Allow-Credentials"), ",")
		if got != tc.want || (a.status == 403) != (tc.method == "OPTIONS" && tc.want == " ") {
			t.Errorf("%s %s from %s: want %q, found %q %d", tc.method, tc.path, tc.origin, tc.want, got, a.status)
		}
	}
}

// What a page of another origin has a browser send reaches no service, however it is dressed up.
func TestCSRF(t *testing.T) {
	e := startEdge(t, `plugins: [{name: csrf, config: {trusted_origins: ["https://app.example.com"]}}]
defaults: {rest: {websocket_origins: ["*"]}}
`)
	for _, tc := range []struct{ method, path, typ, body string }{
		{"POST", "/v1/echo", "application/json", `{"text":"x"}`},
		{"POST", "/v1/echo", "application/x-www-form-urlencoded", "text=x"},
		{"POST", "/v1/echo", "text/plain", `{"text":"x"}`},
		{"POST", echoCall, "application/json", `{"text":"x"}`},
		{"POST", echoCall, "application/proto", ""},
		{"POST", echoCall, "application/grpc-web+proto", "\x00\x00\x00\x00\x00"},
		{"POST", echoCall, "application/grpc-web-text", "AAAAAAA="},
	} {
		for _, page := range [][]string{
			{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example.com"},
			{"Sec-Fetch-Site", "same-site", "Origin", "https://evil.example.com"},
			{"Sec-Fetch-Site", "cross-site", "Origin", "null"},
			{"Origin", "https://evil.example.com"},
			{"Origin", "null"},
			{"Referer", "https://evil.example.com/a"},
		} {
			header := append([]string{"Content-Type", tc.typ, "Cookie", "sid=1"}, page...)
			if tc.path == echoCall {
				header = append(header, "Connect-Protocol-Version", "1")
			}
			a := e.call(tc.method, tc.path, tc.body, header...)
			if strings.HasSuffix(tc.typ, "-text") {
				raw, _ := base64.StdEncoding.DecodeString(a.body)
				a.body = string(raw)
			}
			if a.status != 403 && !strings.Contains(a.body, "grpc-status: 7") {
				t.Errorf("%s %s %s %v: found %d %.200q", tc.method, tc.path, tc.typ, page, a.status, a.body)
			}
		}
	}
	for _, in := range inlets[1:5] { // REST's is a GET; no browser speaks the rest
		if got := in.ask(t.Context(), t, e.gatewayTest, head{"origin": "https://evil.example.com"}); got.code != codes.PermissionDenied {
			t.Errorf("%s: found %s", in.name, got)
		}
	}
	if n := e.hits(); n != 0 {
		t.Errorf("the services were reached %d times", n)
	}
	before := e.hits()
	for _, page := range [][]string{{"Sec-Fetch-Site", "same-origin", "Origin", e.url}, {"Origin", e.url}, {"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.com"}, nil} {
		if a := e.call("POST", "/v1/echo", `{"text":"x"}`, append([]string{"Content-Type", "application/json"}, page...)...); a.status != 200 {
			t.Errorf("%v: found %d %s", page, a.status, a.body)
		}
	}
	if n := e.hits() - before; n != 4 {
		t.Errorf("want 4 calls of own pages, found %d", n)
	}
}

// A page gets its token with what it reads, and says it again; the service sees neither.
func TestCSRFToken(t *testing.T) {
	e := startEdge(t, `plugins: [{name: csrf, config: {token: {secrets: ["0123456789abcdef0123456789abcdef"], session_cookie: sid}}}]
defaults: {request_headers: [cookie, x-csrf-token]}
`)
	a := e.call("GET", "/v1/echo/x", "", "Cookie", "sid=ann")
	pair, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	_, token, ok := strings.Cut(pair, "=")
	if !ok || a.status != 200 {
		t.Fatalf("found %d %v", a.status, a.header)
	}
	a = e.call("POST", "/v1/echo", `{"text":"x"}`, "Content-Type", "application/json", "Cookie", "sid=ann; "+pair, "X-Csrf-Token", token)
	if a.status != 200 || strings.Contains(a.body, token) || !strings.Contains(a.body, "sid=ann") {
		t.Errorf("found %d %s", a.status, a.body)
	}
	before := e.hits()
	for _, header := range [][]string{
		{"Cookie", "sid=ann; " + pair}, {"Cookie", "sid=ann", "X-Csrf-Token", token}, {"Cookie", "sid=bob; " + pair, "X-Csrf-Token", token}, {"Cookie", "sid=ann; " + pair, "X-Csrf-Token", token[1:]},
	} {
		if a := e.call("POST", "/v1/echo", `{"text":"x"}`, append([]string{"Content-Type", "application/json"}, header...)...); a.status != 403 || !strings.Contains(a.body, "CSRF_TOKEN") {
			t.Errorf("%v: found %d %s", header, a.status, a.body)
		}
	}
	if e.hits() != before {
		t.Error("the service was reached")
	}
}

// A method is blocked by its name for every protocol; a path for those who use it.
func TestURIBlocker(t *testing.T) {
	e := startEdge(t, `plugins: [{name: uri_blocker, config: {methods: ["Echo/Call$", "Chat/"], paths: ["^/v1/fail"], queries: ["<script"]}}]
`)
	e.every(t, "a method", head{}, codes.PermissionDenied)
	for path, want := range map[string]int{"/v1/fail/5": 403, "/v1/%66ail/5": 403, "/V1/fail/5": 404, "/v1/wait?time=0s": 200, "/v1/wait?time=0s&x=%3Cscript%3E": 403, "/v1/echo/x": 403} {
		if a := e.call("GET", path, ""); a.status != want {
			t.Errorf("%s: want %d, found %d %s", path, want, a.status, a.body)
		}
	}
}

// A body that is too large is refused before it has come, where its length is said, else as soon as it turns out to be.
func TestRequestSize(t *testing.T) {
	e := startEdge(t, "plugins: [{name: request_size, config: {max_body: 1000, max_message: 500, max_stream: 900}}]\n")
	t.Run("stated", func(t *testing.T) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://")) //nolint:noctx // on loopback
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2000\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 12)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 413" { // no byte of the body was sent
			t.Errorf("found %q, %v", head, err)
		}
	})
	packed := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, s)
		_ = w.Close()
		return b.String()
	}
	message := func(n int) string { // CallRequest{text}
		return string([]byte{0x0a, byte(n&0x7f | 0x80), byte(n >> 7)}) + strings.Repeat("x", n)
	}
	frame := func(flags byte, m string) string {
		return string([]byte{flags, 0, 0, byte(len(m) >> 8), byte(len(m))}) + m
	}
	small, large := message(900), message(1000)
	for _, tc := range []struct {
		name, path, typ, encoding, body string
		chunked, passes                 bool
	}{
		{"REST", "/v1/echo", "application/json", "", `{"text":"` + strings.Repeat("x", 900) + `"}`, false, true},
		{"REST, large", "/v1/echo", "application/json", "", `{"text":"` + strings.Repeat("x", 1000) + `"}`, false, false},
		{"REST in chunks", "/v1/echo", "application/json", "", `{"text":"` + strings.Repeat("x", 900) + `"}`, true, true},
		{"REST in chunks, large", "/v1/echo", "application/json", "", `{"text":"` + strings.Repeat("x", 1000) + `"}`, true, false},
		{"gRPC-Web", echoCall, "application/grpc-web+proto", "", frame(0, small), false, true},
		{"gRPC-Web, large", echoCall, "application/grpc-web+proto", "", frame(0, large), true, false},
		{"gRPC-Web, as large as may be", echoCall, "application/grpc-web+proto", "", frame(0, message(997)), false, true},
		{"gRPC-Web, one byte more", echoCall, "application/grpc-web+proto", "", frame(0, message(998)), false, false},
		{"gRPC-Web, large unpacked", echoCall, "application/grpc-web+proto", "gzip", frame(1, packed(large)), true, false},
		{"gRPC-Web, packed", echoCall, "application/grpc-web+proto", "gzip", frame(1, packed(small)), true, true},
		{"Connect", echoCall, "application/proto", "", small, true, true},
		{"Connect, large", echoCall, "application/proto", "", large, true, false},
		{"Connect, large unpacked", echoCall, "application/proto", "gzip", packed(large), false, false},
		{"Connect, packed", echoCall, "application/proto", "gzip", packed(small), false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var body io.Reader = strings.NewReader(tc.body)
			if tc.chunked {
				body = io.MultiReader(body) // of no known length
			}
			r, err := http.NewRequestWithContext(t.Context(), "POST", e.url+tc.path, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", tc.typ)
			if tc.encoding != "" {
				r.Header.Set(map[bool]string{true: "Grpc-Encoding", false: "Content-Encoding"}[strings.Contains(tc.typ, "grpc")], tc.encoding)
			}
			before := e.hits()
			resp, err := e.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			refused := resp.StatusCode == 413 || resp.StatusCode == 429 || resp.Header.Get("Grpc-Status") == "8" || bytes.Contains(raw, []byte("grpc-status:8")) || bytes.Contains(raw, []byte("grpc-status: 8"))
			if refused == tc.passes || (e.hits() > before) != tc.passes {
				t.Errorf("want passed %v, found %d %v %.200q, reached %d times", tc.passes, resp.StatusCode, resp.Header, raw, e.hits()-before)
			}
		})
	}
	t.Run("WebSocket", func(t *testing.T) {
		for n, want := range map[int]int{400: 1000, 600: 4008} {
			c := dialSocket(t, e.gatewayTest, "/v1/rooms/1:talk")
			say(t, c, `{"text":"`+strings.Repeat("x", n)+`"}`)
			if want == 1000 {
				_ = c.Close(websocket.StatusNormalClosure, "")
				continue
			}
			if end := socketEnded(t, c); end.Code != want {
				t.Errorf("%d bytes: want %d, found %+v", n, want, end)
			}
		}
	})
}

// What no browser is to forget stands on every answer, whoever makes it.
func TestSecurityHeaders(t *testing.T) {
	e := startEdge(t, `plugins:
  - {name: cors, config: {origins: ["https://app.example.com"]}}
  - {name: security_headers, config: {hsts: {}, custom: {x-served-by: edge}}}
  - {name: uri_blocker, config: {paths: ["^/v1/fail"]}}
`)
	check := func(what string, h http.Header) {
		t.Helper()
		for name, want := range map[string]string{
			"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Served-By": "edge",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Strict-Transport-Security": "",
		} {
			if got := strings.Join(h.Values(name), "|"); got != want {
				t.Errorf("%s: %s: want %q, found %q", what, name, want, got)
			}
		}
	}
	for path, status := range map[string]int{"/v1/echo/x": 200, "/v1/none": 404, "/v1/fail/5": 403, "/v1//x": 400, "/v1/wait?time=x": 400} {
		a := e.call("GET", path, "")
		if a.status != status {
			t.Errorf("%s: found %d", path, a.status)
		}
		check(path, a.header)
	}
	check("a preflight", e.call("OPTIONS", "/v1/echo/x", "", "Origin", "https://app.example.com", "Access-Control-Request-Method", "GET").header)
	check("a stream", e.call("GET", "/v1/rooms/2/messages", "").header)
	for _, in := range inlets {
		if in.http() {
			check(in.name, in.ask(t.Context(), t, e.gatewayTest, head{}).header)
		}
	}
}

// Strict-Transport-Security goes over TLS only.
func TestHSTSOverTLS(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	dir := t.TempDir()
	ca := newAuthority(t, "authority")
	certFile, keyFile := ca.issue("gateway", 1)
	text := strings.Replace(echoConfig(t, dir, backend.Address), "  - address: 127.0.0.1:0\nadmin", "  - address: 127.0.0.1:0\n    tls: {cert_file: "+certFile+", key_file: "+keyFile+"}\nadmin", 1)
	g := startGateway(t, strings.Replace(text, "plugins:\n", "plugins:\n  - {name: security_headers, config: {hsts: {include_subdomains: true}}}\n", 1))
	g.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12}}
	g.url = strings.Replace(g.url, "http://", "https://", 1)
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 || a.header.Get("Strict-Transport-Security") != "max-age=31536000; includeSubDomains" {
		t.Errorf("found %d %v", a.status, a.header)
	}
}
