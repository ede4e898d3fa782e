package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

const (
	matrixKey    = "7d1f0f1d5bd6c0a8a7c3e7f5a0f4b6f1"
	matrixSecret = "0123456789abcdef0123456789abcdef"
)

// heads makes what a caller says for one call through an inlet.
type heads func(in inlet) head

func says(pairs ...string) heads {
	return func(inlet) head {
		h := head{}
		for i := 0; i+1 < len(pairs); i += 2 {
			h[pairs[i]] = pairs[i+1]
		}
		return h
	}
}

// deed is one call of a row: what is said, and what has to become of it.
type deed struct {
	says heads
	want codes.Code
	// status of the answer over REST, and of the handshake over WebSocket, where it is not that of the code.
	status int
	// bare is the code where the call does not come by HTTP, and what the plugin goes by is not there; nil: it is.
	bare *codes.Code
}

// wanted is what callers through an inlet have to see, before and after the protocol has no better code for it.
func (d deed) wanted(in inlet) (code, shown codes.Code) {
	code = d.want
	if d.bare != nil && !in.http() {
		code = *d.bare
	}
	return code, in.shown(code)
}

// row is one plugin in the matrix.
type row struct {
	plugins string // YAML of the list of global plugins
	more    string // further keys of the document
	deeds   []deed // the first passes, or is refused in the plugin's own way
	decides bool   // it decides whether a call may pass
	counts  bool   // what it does to a call depends on those before
}

// matrixBackends is what rows refer to.
type matrixBackends struct {
	echo        *echo.Server
	copies      *echo.Server // of mirrors
	chat        *chatBackend
	authz, http string // addresses
}

func (b *matrixBackends) hits() int64 { return b.echo.Calls.Load() + b.chat.calls.Load() }

// authzServer lets pass who says x-pass.
type authzServer struct {
	authv3.UnimplementedAuthorizationServer
}

func (authzServer) Check(_ context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	out := &authv3.CheckResponse{Status: &rpcstatus.Status{}}
	if r.GetAttributes().GetRequest().GetHttp().GetHeaders()["x-pass"] != "yes" {
		out.Status.Code = int32(codes.PermissionDenied)
	}
	return out, nil
}

func startMatrixBackends(t testing.TB) *matrixBackends {
	t.Helper()
	b := &matrixBackends{echo: echo.Start(t, "127.0.0.1:0", "a"), copies: echo.Start(t, "127.0.0.1:0", "b"), chat: startChat(t)}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	b.authz = ln.Addr().String()
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, authzServer{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln) // ends with Stop
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Pass") != "yes" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(web.Close)
	b.http = web.URL
	return b
}

// matrix has a row for every plugin of the build.
func matrix(t testing.TB, b *matrixBackends) map[string]row {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "u1", "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(matrixSecret))
	if err != nil {
		t.Fatal(err)
	}
	forged, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "u1", "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(matrixSecret + "x"))
	if err != nil {
		t.Fatal(err)
	}
	shop := "consumers:\n  - {name: shop, groups: [partners], credentials: [{plugin: key_auth, config: {key: " + matrixKey + "}}]}\n"
	other := "0" + matrixKey[1:]
	withOther := shop + "  - {name: trial, credentials: [{plugin: key_auth, config: {key: " + other + "}}]}\n"
	authz := services(b.echo.Address, b.chat.address, fmt.Sprintf("  - {name: authz, for_plugins: true, endpoints: [{address: %q}]}\n", b.authz))
	copies := services(b.echo.Address, b.chat.address, fmt.Sprintf("  - {name: copies, for_plugins: true, endpoints: [{address: %q}]}\n", b.copies.Address))
	passes := deed{says: says(), want: codes.OK}
	key := func(k string, want codes.Code) deed { return deed{says: says("x-api-key", k), want: want} }
	const denied, unknown = codes.PermissionDenied, codes.Unauthenticated
	let, refused := new(codes.OK), new(unknown) // calls that do not come by HTTP
	return map[string]row{
		"access_log":           {plugins: "{name: access_log, config: {output: DIR/access.log}}", deeds: []deed{passes}},
		"acl":                  {plugins: "{name: key_auth}, {name: acl, config: {allow: {groups: [partners]}}}", more: withOther, deeds: []deed{key(matrixKey, codes.OK), key(other, denied)}, decides: true},
		"adaptive_concurrency": {plugins: "{name: adaptive_concurrency}", deeds: []deed{passes}, decides: true},
		"basic_auth": {
			plugins: "{name: basic_auth}", more: fmt.Sprintf("consumers: [{name: shop, credentials: [{plugin: basic_auth, config: {username: shop, password_hash: %q}}]}]\n", hash), decides: true,
			deeds: []deed{
				{says: says("authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("shop:secret")))},
				{says: says("authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("shop:wrong"))), want: unknown},
				{says: says(), want: unknown},
			},
		},
		"cors": {plugins: `{name: cors, config: {origins: ["https://app.example.com"]}}`, deeds: []deed{passes}},
		"csrf": {plugins: "{name: csrf}", deeds: []deed{passes}, decides: true},
		"ext_authz": {
			plugins: "{name: ext_authz, config: {service: authz}}", more: authz, decides: true,
			deeds: []deed{{says: says("x-pass", "yes")}, {says: says("x-pass", "no"), want: denied, status: 403}},
		},
		"fault_injection": {plugins: "{name: fault_injection, config: {abort: {code: UNAVAILABLE, percent: 100}}}", deeds: []deed{{says: says(), want: codes.Unavailable}}, decides: true},
		"forward_auth": {
			plugins: "{name: forward_auth, config: {url: " + b.http + ", request_headers: [x-pass]}}", more: "outbound: {allow: [127.0.0.1]}\n", decides: true,
			deeds: []deed{{says: says("x-pass", "yes")}, {says: says("x-pass", "no"), want: denied, status: 403}},
		},
		"headers": {plugins: "{name: headers, config: {request: {set: {x-user: \"{{ int(request.headers['x-n']) }}\"}}}}", deeds: []deed{{says: says("x-n", "7")}, {says: says("x-n", "x"), want: codes.Internal}}, decides: true},
		"hmac_auth": {
			plugins: "{name: hmac_auth, config: {body: optional}}", more: "consumers: [{name: shop, credentials: [{plugin: hmac_auth, config: {key_id: k1, secret: " + matrixSecret + "}}]}]\n", decides: true,
			deeds: []deed{{says: signedHead(matrixSecret), bare: refused}, {says: signedHead("x" + matrixSecret), want: unknown}, {says: says(), want: unknown}},
		},
		"ip_restriction":      {plugins: "{name: ip_restriction, config: {allow: [127.0.0.1, 203.0.113.0/24], deny: [203.0.113.9]}}", more: "trusted_proxies: [127.0.0.1]\n", deeds: []deed{passes, {says: says("x-forwarded-for", "203.0.113.8")}, {says: says("x-forwarded-for", "203.0.113.9"), want: denied, bare: let}, {says: says("x-forwarded-for", "203.0.113.8, ::ffff:203.0.113.9"), want: denied, bare: let}}, decides: true},
		"jwt_auth":            {plugins: "{name: jwt_auth, config: {keys: [{algorithm: HS256, secret: " + matrixSecret + "}]}}", deeds: []deed{{says: says("authorization", "Bearer "+token)}, {says: says("authorization", "Bearer "+forged), want: unknown}, {says: says(), want: unknown}}, decides: true},
		"key_auth":            {plugins: "{name: key_auth}", more: shop, deeds: []deed{key(matrixKey, codes.OK), key(other, unknown), {says: says(), want: unknown}}, decides: true},
		"limit_conn":          {plugins: "{name: limit_conn, config: {count: 1}}", deeds: []deed{passes, passes}, decides: true},
		"limit_count":         {plugins: "{name: limit_count, config: {count: 1, window: 3600s}}", deeds: []deed{passes, {says: says(), want: codes.ResourceExhausted}}, decides: true, counts: true},
		"limit_req":           {plugins: "{name: limit_req, config: {rate: 1, per: 3600s}}", deeds: []deed{passes, {says: says(), want: codes.ResourceExhausted}}, decides: true, counts: true},
		"metrics":             {plugins: "{name: metrics}", deeds: []deed{passes}},
		"mirror":              {plugins: "{name: mirror, config: {service: copies}}", more: copies, deeds: []deed{passes}, decides: true},
		"redirect":            {plugins: "{name: redirect, config: {https: {}}}", deeds: []deed{{says: says("host", "api.example.com"), want: codes.FailedPrecondition, status: 308, bare: let}}, decides: true},
		"referer_restriction": {plugins: "{name: referer_restriction, config: {allow: [example.com]}}", deeds: []deed{{says: says("referer", "https://example.com/a")}, {says: says("referer", "https://evil.example.org/"), want: denied}}, decides: true},
		"request_size":        {plugins: "{name: request_size, config: {max_body: 65536, max_message: 4096}}", deeds: []deed{passes}, decides: true},
		"security_headers":    {plugins: "{name: security_headers}", deeds: []deed{passes}},
		"tracing":             {plugins: "{name: tracing}", deeds: []deed{passes}, decides: true},
		"traffic_split": {plugins: "{name: metrics}", more: `routes:
  - {name: e, service: echo, methods: ["demo.echo.v1.Echo/*"], plugins: [{name: traffic_split, config: {rules: [{services: [{service: echo}]}]}}]}
  - {name: c, service: chat, methods: ["demo.chat.v1.Chat/*"], plugins: [{name: traffic_split, config: {rules: [{services: [{service: chat}]}]}}]}
`, deeds: []deed{passes}, decides: true},
		"ua_restriction": {plugins: `{name: ua_restriction, config: {deny: ["(?i)bot"], allow_missing: true}}`, deeds: []deed{passes, {says: says("user-agent", "evilbot/1"), want: denied}}, decides: true},
		"uri_blocker":    {plugins: `{name: uri_blocker, config: {paths: ["^/internal/"]}}`, deeds: []deed{passes}, decides: true},
	}
}

var nonces atomic.Int64

// signedHead signs the request of an inlet as hmac_auth has it.
func signedHead(secret string) heads {
	return func(in inlet) head {
		params := fmt.Sprintf(`("@method" "@path" "@query");created=%d;keyid="k1";nonce="m%d"`, time.Now().Unix(), nonces.Add(1))
		mac := hmac.New(sha256.New, []byte(secret))
		_, _ = fmt.Fprintf(mac, "\"@method\": %s\n\"@path\": %s\n\"@query\": ?\n\"@signature-params\": %s", in.method, in.path, params)
		return head{"signature-input": "s=" + params, "signature": "s=:" + base64.StdEncoding.EncodeToString(mac.Sum(nil)) + ":"}
	}
}

func (r row) document(t testing.TB, b *matrixBackends, timeout string) string {
	t.Helper()
	text := inletsConfig(t, b.echo.Address, b.chat.address, "plugins: ["+r.plugins+"]\n"+r.more+"defaults: {timeout: "+timeout+", stream: {max_age: "+timeout+"}}\n")
	if strings.HasPrefix(r.more, "services:") { // its own list takes the place of the other
		text = strings.Replace(text, services(b.echo.Address, b.chat.address, ""), "", 1)
	}
	return text
}

// Every plugin, by every protocol: what may pass reaches the service and is answered, what may not is refused in the
// protocol's own form, and the service does not hear of it.
func TestPluginMatrix(t *testing.T) {
	t.Parallel()
	b := startMatrixBackends(t)
	rows := matrix(t, b)
	std, err := standard()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range std.Plugins {
		r, ok := rows[k.Name]
		if !ok {
			t.Errorf("plugin %s has no row in the matrix", k.Name)
			continue
		}
		var g *gatewayTest
		for _, in := range inlets {
			if g == nil || r.counts {
				g = startGateway(t, r.document(t, b, "10s"))
			}
			t.Run(k.Name+"/"+in.name, func(t *testing.T) {
				for i, d := range r.deeds {
					before := b.hits()
					got := in.ask(t.Context(), t, g, d.says(in))
					code, want := d.wanted(in)
					if d.status != 0 && (in.name == "REST" || in.name == "WebSocket") {
						if got.status != d.status {
							t.Errorf("call %d: want status %d, found %s", i, d.status, got)
						}
					} else if got.code != want {
						t.Errorf("call %d: want %s, found %s", i, want, got)
					}
					if reached := b.hits() > before; reached != (code == codes.OK) {
						t.Errorf("call %d, %s: the service was reached: %v", i, got, reached)
					}
				}
			})
			if r.counts {
				g.endNow()
			}
		}
		g.endNow()
	}
}

// The faults that are put into plugins.
const (
	faultError int64 = iota + 1
	faultPanic
	faultHang // until the call's time is over, and an error then
	faultLate // the same, and the call goes on as if nothing were
)

var faultNames = map[int64]string{faultError: "error", faultPanic: "panic", faultHang: "hang", faultLate: "late"}

// sabotaged is a plugin whose handler has a fault.
type sabotaged struct {
	plugin.Plugin
	fault int64
	idle  *atomic.Bool // the plugin does nothing on the way in
}

func (s *sabotaged) Wrap(next rpc.Handler) rpc.Handler {
	h := s.Plugin.Wrap(next)
	if h == next {
		s.idle.Store(true)
		return h
	}
	return &sabotagedHandler{s.fault, h}
}

// Close closes the plugin, if it is to be.
func (s *sabotaged) Close() error {
	if c, ok := s.Plugin.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

type sabotagedHandler struct {
	fault int64
	real  rpc.Handler
}

func (h *sabotagedHandler) Handle(ctx context.Context, c *rpc.Call) error {
	switch h.fault {
	case faultError:
		return errors.New("sabotage")
	case faultPanic:
		panic("sabotage")
	case faultHang:
		<-ctx.Done()
		return ctx.Err()
	default:
		<-ctx.Done()
		return h.real.Handle(ctx, c)
	}
}

// sabotage is the build with faults in one plugin.
func sabotage(t testing.TB, name string, fault int64, idle *atomic.Bool) *proxy.Standard {
	t.Helper()
	std, err := standard()
	if err != nil {
		t.Fatal(err)
	}
	for i := range std.Plugins {
		k := &std.Plugins[i]
		if k.Name != name {
			continue
		}
		original := k.New
		k.New = func(conf proto.Message, env plugin.Env) (plugin.Plugin, error) {
			p, err := original(conf, env)
			if err != nil {
				return nil, err
			}
			return &sabotaged{p, fault, idle}, nil
		}
	}
	return std
}

// A fault in a plugin lets no call pass, by any protocol: errors, panics, and time that runs out.
func TestPluginFaultsReachNoService(t *testing.T) {
	t.Parallel()
	b := startMatrixBackends(t)
	rows := matrix(t, b)
	std, err := standard()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range std.Plugins {
		name, r := k.Name, rows[k.Name]
		for fault := faultError; fault <= faultLate; fault++ {
			var idle atomic.Bool
			t.Run(name+"/"+faultNames[fault], func(t *testing.T) {
				g, err := tryGatewayOf(t, t.TempDir(), r.document(t, b, "0.05s"), sabotage(t, name, fault, &idle))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(g.endNow)
				if idle.Load() {
					return // it does nothing before the end of calls
				}
				if !r.decides {
					t.Fatal("want `decides` of its row: it is in the way of calls")
				}
				for _, in := range inlets {
					before := b.hits()
					if got := in.ask(t.Context(), t, g, r.deeds[0].says(in)); got.code == codes.OK {
						t.Errorf("%s: found %s", in.name, got)
					}
					if b.hits() != before {
						t.Errorf("%s: the service was reached", in.name)
					}
				}
			})
			if idle.Load() && r.decides {
				t.Errorf("%s: want no `decides` in its row: it does nothing on the way in", name)
			}
		}
	}
}

func writeFile(t testing.TB, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// torn is a body whose second half does not come.
type torn struct{ first io.Reader }

func (b torn) Read(p []byte) (int, error) {
	n, err := b.first.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("the rest does not come")
	}
	return n, err
}

// A body that does not arrive whole reaches no service, whatever stands in front: by length, in chunks, in frames of HTTP/2.
func TestTornBodiesReachNoService(t *testing.T) {
	t.Parallel()
	b := startMatrixBackends(t)
	rows := matrix(t, b)
	rows["hmac_auth"] = row{plugins: "{name: hmac_auth}", more: rows["hmac_auth"].more, deeds: rows["hmac_auth"].deeds}
	for _, name := range []string{"ext_authz", "forward_auth"} {
		r := rows[name]
		r.plugins = strings.Replace(r.plugins, "config: {", "config: {send_body: true, ", 1)
		rows[name] = r
	}
	frame := "\x00\x00\x00\x00\x03\x0a\x01x"
	ways := []struct {
		inlet
		typ, body string
		length    int64
		h2        bool
	}{
		{inlet{name: "REST by length", method: "POST", path: "/v1/echo"}, "application/json", `{"text":`, 20, false},
		{inlet{name: "REST in chunks", method: "POST", path: "/v1/echo"}, "application/json", `{"text":`, -1, false},
		{inlet{name: "REST by HTTP/2", method: "POST", path: "/v1/echo"}, "application/json", `{"text":"x"}`, -1, true},
		{inlet{name: "gRPC-Web", method: "POST", path: echoCall}, "application/grpc-web+proto", frame, -1, false},
		{inlet{name: "Connect", method: "POST", path: echoCall}, "application/proto", "\x0a\x01x", -1, false},
		{inlet{name: "Connect by HTTP/2", method: "POST", path: echoCall}, "application/proto", "\x0a\x01x", 10, true},
		{inlet{name: "gRPC", method: "POST", path: echoCall}, "application/grpc", frame[:6], -1, true},
	}
	std, err := standard()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range std.Plugins {
		t.Run(k.Name, func(t *testing.T) {
			r := rows[k.Name]
			g := startGateway(t, r.document(t, b, "10s"))
			t.Cleanup(g.endNow)
			before := b.hits()
			for _, w := range ways {
				transport := &http.Transport{Protocols: new(http.Protocols)}
				transport.Protocols.SetHTTP1(!w.h2)
				transport.Protocols.SetUnencryptedHTTP2(w.h2)
				req, err := http.NewRequestWithContext(t.Context(), w.method, g.url+w.path, torn{strings.NewReader(w.body)})
				if err != nil {
					t.Fatal(err)
				}
				req.ContentLength = w.length
				for key, v := range r.deeds[0].says(w.inlet) {
					req.Header.Set(key, v)
				}
				req.Header.Set("Content-Type", w.typ)
				resp, err := transport.RoundTrip(req)
				if err == nil { // refused before the body was looked at
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if resp.StatusCode == http.StatusOK && resp.Header.Get("Grpc-Status") == "" && resp.Trailer.Get("Grpc-Status") == "" {
						t.Errorf("%s: answered with 200", w.name)
					}
				}
				transport.CloseIdleConnections()
			}
			if n := b.hits() - before; n != 0 {
				t.Errorf("the service was reached %d times", n)
			}
		})
	}
}
