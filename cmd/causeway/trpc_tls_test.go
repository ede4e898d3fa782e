package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// TestTRPCOverTLS: a listener and services of tRPC speak TLS, with a client's certificate where that is asked for; many calls and
// streams share a connection as without it, and who is not trusted is not spoken to.
func TestTRPCOverTLS(t *testing.T) {
	t.Parallel()
	services, gateways := newAuthority(t, "services"), newAuthority(t, "gateways")
	certFile, keyFile := services.issue("service", 1)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	ownCert, ownKey := gateways.issue("gateway", 2)
	start := func(auth tls.ClientAuthType) (*trpckit.Server, string) {
		t.Helper()
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientAuth: auth, ClientCAs: gateways.pool()})
		if err != nil {
			t.Fatal(err)
		}
		kit := &trpckit.Server{}
		done := make(chan struct{})
		go func() { defer close(done); kit.Serve(l) }()
		t.Cleanup(func() { l.Close(); <-done })
		return kit, l.Addr().String()
	}
	kit, address := start(tls.NoClientCert)
	_, mutual := start(tls.RequireAndVerifyClientCert)
	dir := t.TempDir()
	text, err := os.ReadFile("../../testdata/trpc/kit.proto")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/kit.proto", text)
	g := startGateway(t, fmt.Sprintf(`listen: [{address: "127.0.0.1:0"}, {address: "127.0.0.1:0", protocol: trpc, tls: {cert_file: %[1]s, key_file: %[2]s}}]
admin: {address: "127.0.0.1:0"}
schemas: [{name: kit, proto: {paths: [%[3]s/kit.proto]}}]
services:
  - {name: kit, schema: kit, adapter: trpc, endpoints: [{address: %[4]q}], tls: {ca_file: %[5]s}}
  - {name: stranger, schema: kit, adapter: trpc, endpoints: [{address: %[4]q}], tls: {ca_file: %[6]s}}
  - {name: nobody, schema: kit, adapter: trpc, endpoints: [{address: %[7]q}], tls: {ca_file: %[5]s}}
  - {name: mutual, schema: kit, adapter: trpc, endpoints: [{address: %[7]q}], tls: {ca_file: %[5]s, cert_file: %[1]s, key_file: %[2]s}}
routes:
  - {name: kit, service: kit, methods: ["*"]}
  - {name: stranger, service: stranger, http: {method: trpc.kit.echo.Echo/Echo, post: /v1/stranger, body: "*"}}
  - {name: nobody, service: nobody, http: {method: trpc.kit.echo.Echo/Echo, post: /v1/nobody, body: "*"}}
  - {name: mutual, service: mutual, http: {method: trpc.kit.echo.Echo/Echo, post: /v1/mutual, body: "*"}}
`, ownCert, ownKey, dir, address, services.file, gateways.file, mutual))
	for path, status := range map[string]int{"/trpc.kit.echo.Echo/Echo": 200, "/v1/mutual": 200, "/v1/stranger": 503} {
		if a := g.call("POST", path, `{"msg":"x"}`); a.status != status {
			t.Errorf("%s: want %d, found %d %s", path, status, a.status, a.body)
		}
	}
	// With TLS 1.3 a client is refused when it has sent already.
	if a := g.call("POST", "/v1/nobody", `{"msg":"x"}`); a.status != 503 && a.status != 502 {
		t.Errorf("without a certificate: found %d %s", a.status, a.body)
	}

	nc, err := tls.Dial("tcp", g.gateway.Addresses()[1], &tls.Config{RootCAs: gateways.pool(), MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const calls = 20
	out := trpckit.Open(100, "/trpc.kit.echo.Stream/Chat", 65535).Bytes()
	for id := range uint32(calls) {
		out = append(out, trpckit.Request(id+1, "/trpc.kit.echo.Echo/Echo", fmt.Appendf(nil, "\n\x02%02d", id)).Bytes()...)
	}
	out = append(out, trpckit.Message(100, []byte("\x12\x03abc")).Bytes()...)
	out = append(out, trpckit.End(100, 0, 0, "").Bytes()...)
	if _, err := nc.Write(out); err != nil {
		t.Fatal(err)
	}
	answered, message, ended := 0, "", false
	for answered < calls || !ended {
		f, err := trpckit.Read(nc, false)
		if err != nil {
			t.Fatal(err)
		}
		switch f.Kind {
		case trpckit.Unary:
			if want := fmt.Sprintf("\n\x02%02d", f.ID-1); string(f.Body) != want {
				t.Errorf("call %d: %v %q", f.ID, f.Header, f.Body)
			}
			answered++
		case trpckit.Data:
			message = string(f.Body)
		case trpckit.Close:
			ended = f.Int("close_type") == 0
		}
	}
	if message != "\x12\x03ABC" || len(kit.Opened()) != 1 {
		t.Errorf("%q", message)
	}
	if _, err := tls.Dial("tcp", g.gateway.Addresses()[1], &tls.Config{RootCAs: services.pool(), MinVersion: tls.VersionTLS12}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("want a gateway that is not trusted not spoken to, found %v", err)
	}
	plain, err := net.Dial("tcp", g.gateway.Addresses()[1]) //nolint:noctx // the test's own
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_ = plain.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = plain.Write(trpckit.Request(1, "/trpc.kit.echo.Echo/Echo", nil).Bytes()) // it may be closed by then
	if f, err := trpckit.Read(plain, false); err == nil {
		t.Errorf("want nothing served in plain text, found %v", f.Header)
	}
}
