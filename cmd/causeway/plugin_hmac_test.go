package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/echo"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// signedRequest is a POST whose method, path, query and body are signed.
func signedRequest(t testing.TB, nonce, path, contentType string, body []byte) func(g *gatewayTest) int {
	t.Helper()
	sum := sha256.Sum256(body)
	digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	params := fmt.Sprintf(`("@method" "@path" "@query" "content-digest");created=%d;keyid="k1";nonce=%q`, time.Now().Unix(), nonce)
	mac := hmac.New(sha256.New, []byte(matrixSecret))
	_, _ = fmt.Fprintf(mac, "\"@method\": POST\n\"@path\": %s\n\"@query\": ?\n\"content-digest\": %s\n\"@signature-params\": %s", path, digest, params)
	signature := "s=:" + base64.StdEncoding.EncodeToString(mac.Sum(nil)) + ":"
	return func(g *gatewayTest) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Content-Digest", digest)
		r.Header.Set("Signature-Input", "s="+params)
		r.Header.Set("Signature", signature)
		resp, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }() // it was read
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
}

// What is signed is the body as sent, whatever the protocol; the same bytes are taken once.
func TestSignedBodies(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "  - {name: hmac_auth}\nconsumers: [{name: shop, credentials: [{plugin: hmac_auth, config: {key_id: k1, secret: "+matrixSecret+"}}]}]\n", backend.Address)
	for i, tc := range []struct {
		path, typ string
		body      []byte
	}{
		{"/v1/echo", "application/json", []byte(`{"text":"x"}`)},
		{echoCall, "application/grpc-web+proto", []byte("\x00\x00\x00\x00\x03\x0a\x01x")},
		{echoCall, "application/proto", []byte("\x0a\x01x")},
	} {
		send := signedRequest(t, fmt.Sprint("n", i), tc.path, tc.typ, tc.body)
		before := backend.Calls.Load()
		if got := send(g); got != http.StatusOK || backend.Calls.Load() != before+1 {
			t.Errorf("%s: found %d", tc.typ, got)
		}
		send(g)
		if backend.Calls.Load() != before+1 {
			t.Errorf("%s: sent again, it reached the service", tc.typ)
		}
	}
}

// Gateways with one store take a request once among them; while the store is gone, it goes by the policy.
func TestNoncesInRedis(t *testing.T) {
	t.Parallel()
	r := realserver.StartRedis(t)
	backend := echo.Start(t, "127.0.0.1:0", "a")
	start := func(onError string) *gatewayTest {
		return startEcho(t, "  - {name: hmac_auth, config: {replay: {store: main, on_error: "+onError+"}}}\n"+
			"stores: [{name: main, redis: {addresses: [\""+r.Address+"\"], timeout: 5s}}]\n"+ // a busy machine is not what this is about
			"consumers: [{name: shop, credentials: [{plugin: hmac_auth, config: {key_id: k1, secret: "+matrixSecret+"}}]}]\n", backend.Address)
	}
	a, b, local := start("deny"), start("deny"), start("local")
	for _, g := range []*gatewayTest{a, b, local} {
		waitFor(t, "the store", func() bool { return metric(g, "causeway_store_up{") == 1 })
	}
	send := signedRequest(t, "n1", "/v1/echo", "application/json", []byte("{}"))
	for i, step := range []struct {
		g    *gatewayTest
		want int
	}{{a, 200}, {a, 401}, {b, 401}, {local, 401}} {
		if got := step.g; send(got) != step.want {
			t.Errorf("step %d: want %d", i, step.want)
		}
	}
	r.Kill()
	send = signedRequest(t, "n2", "/v1/echo", "application/json", []byte("{}"))
	if got := send(a); got != http.StatusServiceUnavailable {
		t.Errorf("without the store, deny: found %d", got)
	}
	if got := send(local); got != http.StatusOK {
		t.Errorf("without the store, local: found %d", got)
	}
	if got := send(local); got != http.StatusUnauthorized {
		t.Errorf("without the store, local, again: found %d", got)
	}
}
