package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// heard is the metadata that reached the services, newest last.
type heard struct {
	mu  sync.Mutex
	all []metadata.MD
}

func (h *heard) note(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	h.mu.Lock()
	h.all = append(h.all, md)
	h.mu.Unlock()
}

// take returns what was heard since the last time.
func (h *heard) take() []metadata.MD {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.all
	h.all = nil
	return out
}

// startHeard starts both services.
func startHeard(t testing.TB) (h *heard, echoAddress, chatAddress string) {
	t.Helper()
	h = &heard{}
	e := echo.Start(t, "127.0.0.1:0", "a", grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		h.note(ctx)
		return next(ctx, req)
	}))
	c := startChat(t, grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		h.note(ss.Context())
		return next(srv, ss)
	}))
	return h, e.Address, c.address
}

const (
	identitySecret = "0123456789abcdef0123456789abcdef"
	identityKey    = "shop-key-0123456789"
)

// identities are three ways to be known, of which one is enough. Everything that a caller could forge may become metadata.
const identities = `plugins:
  - any_of:
      - name: jwt_auth
        config:
          keys: [{algorithm: HS256, secret: ` + identitySecret + `}]
          consumer_claim: client
          claims_to_headers: {x-user-id: sub}
      - name: key_auth
        config: {query: api_key}
      - name: basic_auth
  - name: acl
    config: {allow: {groups: [partners]}}
  - name: access_log
    config: {output: DIR/access.log}
consumers:
  - name: shop
    groups: [partners, eu]
    credentials:
      - {plugin: key_auth, config: {key: ` + identityKey + `}}
      - {plugin: basic_auth, config: {username: shop, password: hunter2}}
  - name: trial
    credentials:
      - {plugin: key_auth, config: {key: trial-key-0123456789}}
defaults:
  request_headers: [x-user-id, x_user_id, x-user_id, x-api-key, x_api_key, cookie, x-other]
`

func identityToken(t testing.TB, secret string, claims jwt.MapClaims) string {
	t.Helper()
	c := jwt.MapClaims{"sub": "u-1", "client": "shop", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(c, claims)
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func basicHead(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// forgeries are headers by which a caller would be somebody else.
var forgeries = head{
	"x-consumer-name": "root", "x_consumer_name": "root", "x-consumer_name": "root", "x-consumer-groups": "admins", "x_consumer_groups": "admins",
	"x-consumer-custom-id": "0", "x-consumer-username": "root", "x-credential-identifier": "root", "x_credential-identifier": "root", "x-causeway-consumer": "root",
	"grpc-metadata-x-consumer-name": "root", "grpc-metadata-x_consumer_groups": "admins",
	"x-user-id": "root", "x_user_id": "root", "x-user_id": "root", "grpc-metadata-x-user-id": "root", "grpc-metadata-x_user-id": "root",
	"grpc-metadata-authorization": "Bearer root", "x-other": "stays",
}

// identity is what of metadata says who calls, or proves it.
func identity(md metadata.MD) map[string][]string {
	out := map[string][]string{}
	for k, v := range md {
		folded := strings.ReplaceAll(strings.ToLower(k), "_", "-")
		for _, p := range []string{"x-consumer", "x-credential", "x-causeway", "x-user", "x-api-key", "authorization", "cookie"} {
			if strings.HasPrefix(folded, p) {
				out[k] = v
			}
		}
	}
	return out
}

// Each way on its own is enough, by every protocol; what the service is told is what the gateway found, once, and nothing of
// what callers say in its place, in any spelling.
func TestIdentity(t *testing.T) {
	h, echoAddress, chatAddress := startHeard(t)
	g := startGateway(t, inletsConfig(t, echoAddress, chatAddress, identities))
	shop := map[string][]string{"x-consumer-name": {"shop"}, "x-consumer-groups": {"partners,eu"}}
	byToken := map[string][]string{"x-consumer-name": {"shop"}, "x-consumer-groups": {"partners,eu"}, "x-user-id": {"u-1"}}
	token, forged := identityToken(t, identitySecret, nil), identityToken(t, "x"+identitySecret, nil)
	for _, tc := range []struct {
		name string
		says head
		want codes.Code
		told map[string][]string
	}{
		{"token", head{"authorization": "Bearer " + token}, codes.OK, byToken},
		{"token again", head{"authorization": "Bearer " + token}, codes.OK, byToken},
		{"key", head{"x-api-key": identityKey}, codes.OK, shop},
		{"password", head{"authorization": basicHead("shop", "hunter2")}, codes.OK, shop},
		{"key beside a forged token", head{"authorization": "Bearer " + forged, "x-api-key": identityKey}, codes.OK, shop},
		{"token beside a forged key", head{"authorization": "Bearer " + token, "x-api-key": "forged-key-0123456789"}, codes.OK, byToken},
		{"key beside a forged password", head{"authorization": basicHead("root", "x"), "x-api-key": identityKey, "x_api_key": "other"}, codes.OK, shop},
		{"nothing", head{}, codes.Unauthenticated, nil},
		{"a forged token", head{"authorization": "Bearer " + forged}, codes.Unauthenticated, nil},
		{"a token of nobody", head{"authorization": "Bearer " + identityToken(t, identitySecret, jwt.MapClaims{"client": "root"})}, codes.Unauthenticated, nil},
		{"a forged key", head{"x-api-key": "forged-key-0123456789"}, codes.Unauthenticated, nil},
		{"a forged password", head{"authorization": basicHead("shop", "x")}, codes.Unauthenticated, nil},
		{"all forged", head{"authorization": "Bearer " + forged, "x-api-key": "forged-key-0123456789"}, codes.Unauthenticated, nil},
		{"somebody else", head{"x-api-key": "trial-key-0123456789"}, codes.PermissionDenied, nil},
	} {
		for _, in := range inlets {
			t.Run(tc.name+"/"+in.name, func(t *testing.T) {
				says := maps.Clone(forgeries)
				maps.Copy(says, tc.says)
				got := in.ask(t.Context(), t, g, says)
				calls := h.take()
				if got.code != in.shown(tc.want) {
					t.Fatalf("found %s, want %s", got, in.shown(tc.want))
				}
				if tc.told == nil {
					if len(calls) != 0 {
						t.Errorf("the service was reached with %v", calls)
					}
					if ways := got.header.Values("Www-Authenticate"); in.name == "REST" && tc.name == "nothing" && len(ways) != 3 {
						t.Errorf("want a challenge of each way, found %q", ways)
					}
					return
				}
				if len(calls) != 1 {
					t.Fatalf("the service was reached %d times", len(calls))
				}
				if d := cmp.Diff(tc.told, identity(calls[0])); d != "" {
					t.Errorf("told (-want +got):\n%s", d)
				}
				if in.name != "WebSocket" && !slices.Equal(calls[0].Get("x-other"), []string{"stays"}) {
					t.Errorf("another header: %v", calls[0])
				}
			})
		}
	}
	// Values that the gateway does not read, and a service might: beside a key that holds, they do not arrive.
	conn, err := grpc.NewClient(strings.TrimPrefix(g.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", identityKey,
		"authorization", "Basic x", "authorization", "Bearer "+forged, "authorization", "bearer,"+forged, "authorization", "Token other")
	if _, err := echov1.NewEchoClient(conn).Call(ctx, &echov1.CallRequest{}); err != nil {
		t.Fatal(err)
	}
	told := maps.Clone(shop)
	told["authorization"] = []string{"Token other"} // of a scheme that is nobody's here
	if d := cmp.Diff(told, identity(h.take()[0])); d != "" {
		t.Errorf("several Authorizations (-want +got):\n%s", d)
	}
	for _, secret := range []string{token, forged, identityKey, "trial-key", "forged-key", "hunter2", basicHead("shop", "hunter2")[6:]} {
		if strings.Contains(g.log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
		raw, err := os.ReadFile(filepath.Join(filepath.Dir(g.file), "access.log"))
		if err != nil || strings.Contains(string(raw), secret) {
			t.Errorf("the access log has %q, %v", secret, err)
		}
	}
}

// A key in the query is no part of the request, and no part of the log.
func TestKeyInTheQuery(t *testing.T) {
	h, echoAddress, chatAddress := startHeard(t)
	g := startGateway(t, inletsConfig(t, echoAddress, chatAddress, identities))
	a := g.call("GET", "/v1/echo/x?number=7&api%5Fkey="+identityKey, "")
	if a.status != 200 || a.text(t, "number") != "7" || len(h.take()) != 1 {
		t.Errorf("found %d %s", a.status, a.body)
	}
	if a := g.call("GET", "/v1/echo/x?api_key=forged", ""); a.status != 401 || len(h.take()) != 0 || strings.Contains(a.body, "forged") {
		t.Errorf("found %d %s", a.status, a.body)
	}
	conn := dialSocket(t, g, "/v1/rooms/1/messages?api_key="+identityKey)
	if end := socketEnded(t, conn); end.Code != 1000 || len(end.Texts) != 1 {
		t.Errorf("by WebSocket: %+v", end)
	}
	g.logged("the calls", `"status":401`)
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(g.file), "access.log"))
	if err != nil || strings.Contains(string(raw), "forged") || strings.Contains(string(raw), identityKey) {
		t.Errorf("the access log has a key: %s %v", raw, err)
	}
}

// Identity by raw bytes: the same header several times, in the capitals that no library sends, joined, hop by hop, and in
// trailers.
func TestForgedIdentityInRawBytes(t *testing.T) {
	h, echoAddress, chatAddress := startHeard(t)
	g := startGateway(t, inletsConfig(t, echoAddress, chatAddress, identities))
	address := strings.TrimPrefix(g.url, "http://")
	const lines = "X-Consumer-Name: root\r\nx-consumer-name: root\r\nX-CONSUMER-NAME: shop, root\r\nX_Consumer_Name: root\r\nX-Consumer-Groups: admins\r\n" +
		"X-User-Id: root\r\nX-USER-ID: root\r\nx-user_id: root\r\nConnection: keep-alive, x-consumer-name, x-user-id\r\n"
	auth := "Authorization: Bearer " + identityToken(t, identitySecret, nil) + "\r\n"
	const trailers = "X-Consumer-Name: root\r\nX-User-Id: root\r\nAuthorization: Bearer root\r\nX-Api-Key: forged\r\n\r\n"
	told := map[string][]string{"x-consumer-name": {"shop"}, "x-consumer-groups": {"partners,eu"}, "x-user-id": {"u-1"}}
	for _, tc := range []struct{ name, request string }{
		{"REST", "GET /v1/echo/x HTTP/1.1\r\nHost: a\r\n" + lines + auth + "\r\n"},
		{"REST, in front of the credentials and behind", "GET /v1/echo/x HTTP/1.1\r\nHost: a\r\n" + auth + lines + "\r\n"},
		{"REST with trailers", "POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: X-Consumer-Name\r\n" + lines + auth + "\r\n2\r\n{}\r\n0\r\n" + trailers},
		{"Connect", "POST /demo.echo.v1.Echo/Call HTTP/1.1\r\nHost: a\r\nContent-Type: application/proto\r\nContent-Length: 0\r\n" + lines + auth + "\r\n"},
		{"Connect with trailers", "POST /demo.echo.v1.Echo/Call HTTP/1.1\r\nHost: a\r\nContent-Type: application/proto\r\nTransfer-Encoding: chunked\r\n" + lines + auth + "\r\n0\r\n" + trailers},
		{"gRPC-Web", "POST /demo.echo.v1.Echo/Call HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\nContent-Length: 5\r\n" + lines + auth + "\r\n\x00\x00\x00\x00\x00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", address) //nolint:noctx // the test's own
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.WriteString(conn, tc.request); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			calls := h.take()
			if resp.StatusCode != 200 || len(calls) != 1 {
				t.Fatalf("found %d %s, the service was reached %d times", resp.StatusCode, body, len(calls))
			}
			if d := cmp.Diff(told, identity(calls[0])); d != "" {
				t.Errorf("told (-want +got):\n%s", d)
			}
		})
	}
	t.Run("HTTP/2 with trailers", func(t *testing.T) {
		client := versions(t)["HTTP/2"]
		if client == nil {
			t.Fatal("there is no client for HTTP/2")
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", g.url+"/v1/echo", io.MultiReader(strings.NewReader(`{}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Authorization": {"Bearer " + identityToken(t, identitySecret, nil)}, "X-Consumer-Name": {"root", "root"}, "X_user_id": {"root"}, "Content-Type": {"application/json"}}
		req.Trailer = http.Header{"X-Consumer-Name": {"root"}, "X-User-Id": {"root"}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		calls := h.take()
		if resp.StatusCode != 200 || len(calls) != 1 {
			t.Fatalf("found %d, the service was reached %d times", resp.StatusCode, len(calls))
		}
		if d := cmp.Diff(told, identity(calls[0])); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
	})
}

// A set of keys by HTTP: not from inside unless that is allowed, rotated while calls run, kept over reloads.
func TestPublishedKeys(t *testing.T) {
	t.Parallel()
	h, echoAddress, chatAddress := startHeard(t)
	var mu sync.Mutex
	published := map[string]*ecdsa.PrivateKey{}
	publish := func(kids ...string) {
		mu.Lock()
		defer mu.Unlock()
		for kid := range published {
			if !slices.Contains(kids, kid) {
				delete(published, kid)
			}
		}
		for _, kid := range kids {
			if published[kid] == nil {
				k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				published[kid] = k
			}
		}
	}
	var fetched atomic.Int64
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		mu.Lock()
		defer mu.Unlock()
		var set []string
		for kid, k := range published {
			raw, _ := k.PublicKey.Bytes() // of a key that was generated
			b := base64.RawURLEncoding.EncodeToString
			set = append(set, fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":%q,"x":%q,"y":%q}`, kid, b(raw[1:33]), b(raw[33:])))
		}
		_, _ = io.WriteString(w, `{"keys":[`+strings.Join(set, ",")+`]}`)
	}))
	t.Cleanup(keys.Close)
	sign := func(kid string) head {
		mu.Lock()
		defer mu.Unlock()
		tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix(), "sub": "u"})
		tok.Header["kid"] = kid
		text, err := tok.SignedString(published[kid])
		if err != nil {
			t.Fatal(err)
		}
		return head{"authorization": "Bearer " + text}
	}
	publish("1")
	config := func(more string) string {
		return inletsConfig(t, echoAddress, chatAddress, "plugins: [{name: jwt_auth, config: {key_sets: [{url: "+keys.URL+"}]}}]\n"+more)
	}
	g := startGateway(t, config(""))
	first := sign("1")
	for _, in := range inlets {
		if got := in.ask(t.Context(), t, g, first); got.code != codes.Unavailable {
			t.Errorf("%s: keys on loopback, not allowed: %s", in.name, got)
		}
	}
	if fetched.Load() != 0 || len(h.take()) != 0 {
		t.Fatalf("fetched %d times", fetched.Load())
	}
	g.write(config("outbound: {allow: [127.0.0.1]}\n"))
	waitFor(t, "the keys, once they may be fetched", func() bool { return askREST(t.Context(), t, g, first).code == codes.OK })
	for _, in := range inlets {
		if got := in.ask(t.Context(), t, g, first); got.code != codes.OK {
			t.Errorf("%s: %s", in.name, got)
		}
	}
	// Other consumers make the plugin anew, not its keys.
	before := fetched.Load()
	g.write(config("outbound: {allow: [127.0.0.1]}\nconsumers: [{name: shop, credentials: [{plugin: jwt_auth, config: {id: shop, algorithm: HS256, secret: " + identitySecret + "}}]}]\n"))
	own := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix()})
	own.Header["kid"] = "shop"
	text, err := own.SignedString([]byte(identitySecret))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the consumer's key", func() bool {
		return askREST(t.Context(), t, g, head{"authorization": "Bearer " + text}).code == codes.OK
	})
	if got := askREST(t.Context(), t, g, first); got.code != codes.OK || fetched.Load() > before+1 { // once for the kid that no set had
		t.Errorf("%s, fetched %d times more", got, fetched.Load()-before)
	}
	h.take()
	// A stranger's key with a kid that is published.
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix()})
	tok.Header["kid"] = "1"
	if text, err = tok.SignedString(stranger); err != nil {
		t.Fatal(err)
	}
	for _, in := range inlets {
		if got := in.ask(t.Context(), t, g, head{"authorization": "Bearer " + text}); got.code != codes.Unauthenticated {
			t.Errorf("%s: a stranger's key: %s", in.name, got)
		}
	}
	if calls := h.take(); len(calls) != 0 {
		t.Errorf("the service was reached %d times", len(calls))
	}
}
