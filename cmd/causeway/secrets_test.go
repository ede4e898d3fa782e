package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// canaries are secrets that are known by their looks.
type canaries struct {
	all []string
}

// next plants one more.
func (c *canaries) next() string {
	s := fmt.Sprintf("Cnry%02dxQ7vT2mK9pL4wZ8rB3nH6jD1sF5g", len(c.all))
	c.all = append(c.all, s)
	return s
}

// found are those that stand in a text, as they are or in another form.
func (c *canaries) found(text []byte) (out []string) {
	for _, s := range c.all {
		sum := sha256.Sum256([]byte(s))
		raw := base64.StdEncoding.EncodeToString([]byte(s))
		for _, form := range []string{s, strings.ToLower(s), raw[:len(raw)-4], hex.EncodeToString([]byte(s)), hex.EncodeToString(sum[:])} {
			if bytes.Contains(text, []byte(form)) {
				out = append(out, s[:6])
				break
			}
		}
	}
	return out
}

// secretConfig has a secret in every place that there is for one.
func secretConfig(t *testing.T, c *canaries, dir, echoAddress, chatAddress string) string {
	t.Helper()
	file := filepath.Join(dir, "secret")
	writeFile(t, file, []byte(c.next()+"\n"))
	t.Setenv("CAUSEWAY_TEST_CANARY", c.next())
	t.Setenv("CAUSEWAY_TEST_TOKEN", c.next())
	writeFile(t, file+"2", []byte(c.next()))
	jwk := base64.StdEncoding.EncodeToString([]byte(c.next()))
	sum := sha256.Sum256([]byte(c.next()))
	text := inletsConfig(t, echoAddress, chatAddress, "")
	return text + `admin: {address: "127.0.0.1:0", token: "${file:` + file + `}"}
stores: [{name: shared, redis: {addresses: ["127.0.0.1:1"], username: gateway, password: ` + c.next() + `}}]
telemetry: {otlp: {endpoint: "127.0.0.1:1", headers: {authorization: "Bearer ` + c.next() + `", x-api-key: ` + c.next() + `}}}
consumers:
  - name: shop
    credentials:
      - {plugin: key_auth, config: {key: ` + c.next() + `}}
      - {plugin: key_auth, config: {key: "${CAUSEWAY_TEST_CANARY}"}}
      - {plugin: key_auth, config: {key_sha256: ` + hex.EncodeToString(sum[:]) + `}}
      - {plugin: basic_auth, config: {username: shop, password: ` + c.next() + `}}
      - {plugin: hmac_auth, config: {key_id: k1, secret: ` + c.next() + `}}
      - {plugin: hmac_auth, config: {key_id: k2, secret: ` + c.next() + `}}
      - {plugin: jwt_auth, config: {id: j1, algorithm: HS256, secret: ` + c.next() + `}}
      - {plugin: jwt_auth, config: {id: j2, algorithm: HS256, secret_base64: "` + jwk + `"}}
plugins:
  - {name: access_log, config: {output: DIR/access.log, request_headers: [user-agent, x-page, referer], response_headers: [cache-control]}}
  - {name: metrics}
  - {name: tracing}
  - {name: security_headers}
  - {name: cors, config: {origins: ["https://app.example.com"]}}
  - {name: csrf, config: {token: {secrets: [` + c.next() + `, ` + c.next() + `]}}, when: "request.headers['x-page'] == '1'"}
  - any_of:
      - {name: jwt_auth, config: {keys: [{id: p1, algorithm: HS256, secret: ` + c.next() + `}, {id: p2, algorithm: HS256, secret_base64: "` + base64.StdEncoding.EncodeToString([]byte(c.next())) + `"}]}}
      - {name: key_auth, config: {query: apikey}}
      - {name: basic_auth}
      - {name: hmac_auth}
  - {name: limit_count, config: {count: 100000, window: 60s, store: shared}}
  - name: headers
    config: {request: {set: {authorization: "Bearer ${CAUSEWAY_TEST_TOKEN}", x-internal: "${file:` + file + `2}"}, add: {x-more: "a ${CAUSEWAY_TEST_TOKEN} b"}}}
`
}

// No secret of the configuration, and none that a caller shows, comes out anywhere: in the log at its most talkative, in the access
// log, in answers, at the admin listener, in metrics, in what is said of a configuration that is refused, in stacks.
func TestSecretsStayInside(t *testing.T) {
	c := &canaries{}
	dir := t.TempDir()
	backend := startEdge(t, "")
	g := &gatewayTest{t: t, file: filepath.Join(dir, "causeway.yaml"), log: &syncBuffer{}}
	text := secretConfig(t, c, dir, backend.echo.Address, backend.chat.address)
	g.write(text)
	std, err := standard()
	if err != nil {
		t.Fatal(err)
	}
	g.client = &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	g.app, err = startApp(context.Background(), appOptions{
		std: std, watch: true,
		log:  slog.New(slog.NewJSONHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		load: func() (*config.Document, error) { return config.Load(g.file, std.ConfigTypes()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.endNow)
	g.url = "http://" + g.gateway.Addresses()[0]
	planted := append([]string(nil), c.all...) // those of the configuration, by their places
	var said bytes.Buffer
	hear := func(a answer) answer {
		fmt.Fprintf(&said, "%d %v %v %s\n", a.status, a.header, a.trailer, a.body)
		return a
	}

	// Callers with credentials that hold, and with others.
	token := func(secret string) string {
		made := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": c.next(), "exp": time.Now().Add(time.Hour).Unix()})
		made.Header["kid"] = "p1"
		s, err := made.SignedString([]byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		c.all = append(c.all, s)
		return s
	}
	find := func(before string) string { // the secret behind a place of the document
		_, after, ok := strings.Cut(text, before)
		if !ok {
			t.Fatalf("no %q in the document", before)
		}
		return after[:strings.IndexAny(after, "},\n\"")]
	}
	passing := 0
	for i, header := range [][]string{
		{"X-Api-Key", find("key_auth, config: {key: ")},
		{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("shop:"+find("username: shop, password: ")))},
		{"Authorization", "Bearer " + token(find("id: p1, algorithm: HS256, secret: "))},
		{"X-Api-Key", c.next()},
		{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("shop:"+c.next()))},
		{"Authorization", "Basic " + c.next()},
		{"Authorization", "Bearer " + token(c.next())},
		{"Authorization", "Bearer " + c.next() + ".a.b"},
		{"Authorization", "Digest " + c.next()},
		{"Signature-Input", `s=("@method");created=1;keyid="k1";nonce="` + c.next() + `"`, "Signature", "s=:" + base64.StdEncoding.EncodeToString([]byte(c.next())) + ":"},
		{"Cookie", "sid=" + c.next() + "; csrf-token=" + c.next(), "X-Csrf-Token", c.next(), "X-Page", "1"},
		{"X-Page", "1", "Cookie", "csrf-token=" + c.next()},
	} {
		for _, call := range [][4]string{
			{"GET", "/v1/wait?time=0s", "", ""},
			{"GET", "/v1/fail/13", "", ""},
			{"POST", "/v1/echo", `{"text": "` + c.next() + `", "nope": 1}`, "application/json"},
			{"POST", echoCall, "\x0a\x7f" + c.next(), "application/proto"},
			{"POST", echoCall, "\x00\x00\x00\x00\x05\x0a\x7f" + c.next(), "application/grpc-web+proto"},
			{"GET", "/v1/none", "", ""},
		} {
			h := header
			if call[3] != "" {
				h = append([]string{"Content-Type", call[3]}, header...)
			}
			a := hear(g.call(call[0], call[1], call[2], h...))
			if a.status == 200 && i < 3 && call[1] == "/v1/wait?time=0s" {
				passing++
			}
		}
	}
	if passing != 3 {
		t.Errorf("want three callers through, found %d", passing)
	}
	hear(g.call("GET", "/v1/wait?time=0s&apikey="+c.next(), ""))
	hear(g.call("GET", "/v1/wait?time=0s&apikey="+find("key_auth, config: {key: "), ""))
	for _, in := range inlets {
		r := in.ask(t.Context(), t, g, head{"x-api-key": c.next()})
		fmt.Fprintln(&said, r, r.header)
	}

	// The admin listener.
	for _, path := range []string{"/metrics", "/readyz?verbose", "/livez", "/api/v1/schemas", "/api/v1/schemas/echo", "/api/v1/explain?method=GET&url=/v1/echo/x", "/debug/pprof/", "/"} {
		hear(g.control("GET", path, nil))
		hear(send(t, g.client, "GET", "http://"+g.adminAddr+path, "", "Authorization", "Bearer "+c.next()))
	}

	// Configurations that are refused, with the secrets in the wrong places.
	for from, to := range map[string]string{
		"secret: " + find("id: p1, algorithm: HS256, secret: "):      "secret: " + c.next()[:8],
		"username: shop, password: ":                                 "username: shop, pasword: ",
		"key_id: k2, secret: ":                                       "key_id: k1, secret: ",
		"{addresses: [\"127.0.0.1:1\"], username: gateway, password": "{addresses: [\"127.0.0.1\"], username: gateway, password",
		"headers: {authorization: \"Bearer ":                         "headers: {\"a b\": \"Bearer ",
		"csrf, config: {token: {secrets: [":                          "csrf, config: {token: {secrets: {",
		"x-internal: ":                                               "\"x internal\": ",
		"x-more: \"a ":                                               "x-more: \"{{ a ",
		"id: j1, algorithm: HS256, secret: ":                         "id: j1, algorithm: RS256, secret: ",
		"id: j2, algorithm: HS256, secret_base64: \"":                "id: j2, algorithm: HS256, secret_base64: \"?",
		"{plugin: key_auth, config: {key: \"${CAUSEWAY_TEST_CANARY}": "{plugin: key_auth, config: {key: \"${CAUSEWAY_TEST_CANARY} ${NOBODY}",
		"key_sha256: ":                                               "key_sha256: zz",
	} {
		broken := strings.Replace(text, from, to, 1)
		if broken == text {
			t.Fatalf("no %q in the document", from)
		}
		_, err := config.Parse("causeway.yaml", []byte(strings.ReplaceAll(broken, "DIR", dir)), std.ConfigTypes())
		refusals := strings.Count(g.log.String(), "refused")
		g.write(broken)
		waitFor(t, "a refusal of "+to[:min(len(to), 30)], func() bool { return strings.Count(g.log.String(), "refused") > refusals })
		if err != nil {
			said.WriteString("the document: " + err.Error())
		}
		hear(g.control("GET", "/readyz?verbose", nil))
	}
	g.write(text)
	stacks := make([]byte, 1<<20)
	said.Write(stacks[:runtime.Stack(stacks, true)])
	g.end()
	log, err := os.ReadFile(filepath.Join(dir, "access.log"))
	if err != nil || bytes.Count(log, []byte("\n")) < 70 {
		t.Fatalf("want an access log, found %d lines, %v", bytes.Count(log, []byte("\n")), err)
	}
	for where, out := range map[string][]byte{"the access log": log, "the log": []byte(g.log.String()), "what was answered": said.Bytes()} {
		if found := c.found(out); len(found) > 0 {
			t.Errorf("%s has %d secrets: %v", where, len(found), found)
			for _, f := range found {
				t.Logf("%s: %.400s", f, grepLines(string(out), f))
			}
		}
		if len(out) < 1000 {
			t.Errorf("%s: want something said, found %d bytes", where, len(out))
		}
	}
	if len(planted) < 18 || len(c.all) < 40 {
		t.Errorf("want 40 secrets, 18 of them in the configuration, found %d and %d", len(c.all), len(planted))
	}
}

// Whatever callers send, a line of the access log is one line of JSON, and there is one for each of them.
func TestAccessLogIsNotForged(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startGateway(t, inletsConfig(t, backend.Address, "127.0.0.1:1", "plugins: [{name: access_log, config: {output: DIR/access.log, request_headers: [x-a, referer, origin, user-agent]}}]\n"))
	conn := func() net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://")) //nolint:noctx // on loopback
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	evil := []string{"\"", "\\", "\x1b[2J", "\x00", "\x7f", "\xff\xfe", "\u2028", "\u202e", "\n{\"route\":\"forged\"}\n", "\r", "\t", "{}", "<script>", "%0a", "%0d%0a", "é", "\u009b31m", "a", "%22", strings.Repeat("x", 3000), strings.Repeat("\x01", 400)}
	r := rand.New(rand.NewPCG(3, 5))
	text := func() string {
		var b strings.Builder
		for range 1 + r.IntN(4) {
			b.WriteString(evil[r.IntN(len(evil))])
		}
		return b.String()
	}
	const n = 600
	for range n {
		c := conn()
		fmt.Fprintf(c, "GET /v1/echo/%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nX-A: %s\r\nReferer: %s\r\nX-Request-Id: %s\r\nConnection: close\r\n\r\n",
			strings.ReplaceAll(text(), "\n", "%0A"), map[bool]string{true: "x", false: "x\"y"}[r.IntN(4) > 0], text(), text(), text(), text())
		_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // else the test hangs
		var head [1]byte
		_, _ = c.Read(head[:]) // its answer has begun: the line comes
		_ = c.Close()
	}
	file := filepath.Join(filepath.Dir(g.file), "access.log")
	waitFor(t, "a line for each", func() bool {
		raw, err := os.ReadFile(file)
		return err == nil && bytes.Count(raw, []byte("\n")) >= n
	})
	g.end()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range bytes.Lines(raw) {
		lines++
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if m["route"] == "forged" || m["status"] == nil || m["time"] == nil {
			t.Errorf("found %q", line)
		}
		for _, b := range line[:len(line)-1] {
			if b < ' ' || b == 0x7f {
				t.Fatalf("a control character in %q", line)
			}
		}
		if len(line) > 32<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if lines != n {
		t.Errorf("want %d lines, found %d", n, lines)
	}
}

// The control listener is for this machine, for whoever has the token, and for no page; no other port has anything of it.
func TestAdminIsNotExposed(t *testing.T) {
	t.Parallel()
	e := startEdge(t, "admin: {address: \"127.0.0.1:0\"}\n")
	admin := "http://" + e.adminAddr
	if host, _, err := net.SplitHostPort(e.adminAddr); err != nil || !net.ParseIP(host).IsLoopback() {
		t.Errorf("want loopback, found %s", e.adminAddr)
	}
	paths := []string{"/metrics", "/api/v1/schemas", "/api/v1/schemas/echo", "/api/v1/explain?url=/", "/readyz?verbose", "/debug/pprof/", "/debug/vars", "/", "/api/v1/none", "//metrics", "/livez/../metrics", "/%6detrics"}
	own := "Bearer " + e.token
	for _, path := range paths {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"} {
			for what, header := range map[string][]string{
				"no token": nil, "another token": {"Authorization", "Bearer x"}, "the token's beginning": {"Authorization", own[:len(own)-1]}, "the token without scheme": {"Authorization", e.token},
				"another scheme": {"Authorization", "Basic " + e.token}, "an empty token": {"Authorization", "Bearer "},
			} {
				a := send(t, staying(e.gatewayTest), method, admin+path, "{}", append([]string{"Content-Type", "text/plain"}, header...)...)
				if a.status != 401 && a.status != 307 && a.status != 301 {
					t.Errorf("%s %s with %s: found %d %.100s", method, path, what, a.status, a.body)
				}
			}
			for what, header := range map[string][]string{
				"a page's origin": {"Origin", "https://evil.example.com"}, "a sandboxed page": {"Origin", "null"}, "its own origin": {"Origin", admin},
				"a rebound name": {"Host", "evil.example.com"}, "a rebound name and port": {"Host", "evil.example.com:8081"}, "an address of the network": {"Host", "192.168.0.1"},
				"a name that begins so": {"Host", "localhost.evil.example.com"}, "every address": {"Host", "0.0.0.0"}, "a mapped address": {"Host", "[::ffff:10.0.0.1]"},
			} {
				a := send(t, staying(e.gatewayTest), method, admin+path, "{}", append([]string{"Authorization", own}, header...)...)
				if a.status != 403 {
					t.Errorf("%s %s from %s with the token: found %d %.100s", method, path, what, a.status, a.body)
				}
			}
		}
		if a := e.call("GET", path, "", "Authorization", own); a.status == 200 || strings.Contains(a.body, "causeway_") {
			t.Errorf("the listener of callers answers %s: %d %.100s", path, a.status, a.body)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/debug/requests"} {
		if a := send(t, e.client, "GET", admin+path, "", "Authorization", own); a.status != 404 {
			t.Errorf("%s: found %d", path, a.status)
		}
	}
	if a := send(t, e.client, "GET", admin+"/metrics", "", "Authorization", own); a.status != 200 || strings.Contains(a.body, e.token) {
		t.Errorf("found %d", a.status)
	}
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "localhost.example.com:0"} {
		if _, err := tryGateway(t, t.TempDir(), inletsConfig(t, "127.0.0.1:1", "127.0.0.1:1", "admin: {address: \""+address+"\"}\n")); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: want it refused, found %v", address, err)
		}
	}
}
