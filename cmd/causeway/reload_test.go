package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

func TestChangedFileIsPutIntoForce(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	dir := t.TempDir()
	text := echoConfig(t, dir, backend.Address)
	g := startGateway(t, text)
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
		t.Fatal(a.body)
	}
	conns := backend.Conns.Load()

	g.write(text + "routes:\n  - {name: only, hosts: [only.example.com], methods: [demo.echo.v1.Echo/*], service: echo}\n")
	waitFor(t, "the new routes", func() bool { return g.call("GET", "/v1/echo/x", "").status == 404 })
	if a := g.call("GET", "/v1/echo/x", "", "Host", "only.example.com:8080"); a.status != 200 {
		t.Errorf("want 200 on the route's host, found %d %s", a.status, a.body)
	}
	if n := backend.Conns.Load(); n != conns {
		t.Errorf("a reload that does not concern the service: want its connection kept, found %d new ones", n-conns)
	}

	revision := g.gateway.Current().Revision
	g.write(text + "routs: []\n")
	waitFor(t, "the refusal", func() bool { return g.gateway.Status().Refused != nil })
	if g.gateway.Current().Revision != revision {
		t.Error("want the former configuration in force")
	}
	if a := g.call("GET", "/v1/echo/x", "", "Host", "only.example.com"); a.status != 200 {
		t.Errorf("want the former routes to serve on, found %d", a.status)
	}
	verbose := g.control("GET", "/readyz?verbose", nil)
	if verbose.status != 200 || !strings.Contains(verbose.body, `unknown key "routs"`) || !strings.Contains(verbose.body, `did you mean "routes"?`) {
		t.Errorf("readyz?verbose: want 200 with the fault, found %d %s", verbose.status, verbose.body)
	}
	if m := g.control("GET", "/metrics", nil); !strings.Contains(m.body, "causeway_config_last_reload_success 0") {
		t.Error("want causeway_config_last_reload_success 0")
	}
	if !strings.Contains(g.log.String(), "refused") {
		t.Error("want the refusal in the log")
	}

	g.write(text)
	waitFor(t, "the mended configuration", func() bool { return g.call("GET", "/v1/echo/x", "").status == 200 })
}

func TestChangedSchemaFileIsPutIntoForce(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	dir := t.TempDir()
	g := startGateway(t, echoConfig(t, dir, backend.Address))
	set := descriptors.Set(echov1.File_demo_echo_v1_echo_proto)
	// A copy of the method under another name: the backend does not have it, the gateway serves its rule.
	file := set.GetFile()[len(set.GetFile())-1]
	extra := proto.CloneOf(file.GetService()[0].GetMethod()[2])
	extra.Name, extra.Options = proto.String("Linger"), nil
	file.Service[0].Method = append(file.Service[0].Method, extra)
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	const path = "/demo.echo.v1.Echo/Linger"
	if a := g.call("POST", path, "{}"); a.status != 404 {
		t.Fatalf("want 404 before, found %d", a.status)
	}
	if err := os.WriteFile(filepath.Join(dir, "echo.binpb"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new method", func() bool { return g.call("POST", path, "{}").status == 501 })
	if err := os.WriteFile(filepath.Join(dir, "echo.binpb"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the refusal", func() bool { return g.gateway.Status().Refused != nil })
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
		t.Errorf("want the former schema to serve on, found %d %s", a.status, a.body)
	}
}

const pushedConfig = `listen: [{address: 127.0.0.1:0}]
admin: {address: 127.0.0.1:0}
schemas: [{name: echo, pushed: {}}]
services: [{name: echo, schema: echo, endpoints: [{address: ADDR}]}]
`

func TestPushShowRollbackRestart(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	text := strings.ReplaceAll(pushedConfig, "ADDR", backend.Address)
	dir := t.TempDir()
	g, err := tryGateway(t, dir, text)
	if err != nil {
		t.Fatal(err)
	}
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 404 {
		t.Fatalf("want 404 before the first push, found %d", a.status)
	}
	full := descriptors.Encode(t, echov1.File_demo_echo_v1_echo_proto)
	if a := g.control("PUT", "/api/v1/schemas/echo?from=v1", full); a.status != 200 || a.json(t)["number"] != 1.0 {
		t.Fatalf("first push: want version 1, found %d %s", a.status, a.body)
	}
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
		t.Fatalf("want 200 after the push, found %d %s", a.status, a.body)
	}
	less := descriptors.Set(echov1.File_demo_echo_v1_echo_proto)
	file := less.GetFile()[len(less.GetFile())-1]
	file.Service[0].Method = file.GetService()[0].GetMethod()[1:]
	raw, err := proto.Marshal(less)
	if err != nil {
		t.Fatal(err)
	}
	if a := g.control("POST", "/api/v1/schemas/echo?from=v2", raw); a.status != 200 || a.json(t)["number"] != 2.0 {
		t.Fatalf("second push: want version 2, found %d %s", a.status, a.body)
	}
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 404 {
		t.Errorf("want the method gone, found %d", a.status)
	}
	for name, tc := range map[string]struct {
		path   string
		body   []byte
		status int
		text   string
	}{
		"broken bytes":   {"/api/v1/schemas/echo", []byte("not a set"), 422, "descriptor set"},
		"empty":          {"/api/v1/schemas/echo", nil, 422, ""},
		"unknown schema": {"/api/v1/schemas/ehco", full, 409, "pushed: {}"},
	} {
		if a := g.control("PUT", tc.path, tc.body); a.status != tc.status || !strings.Contains(a.body, tc.text) {
			t.Errorf("%s: want %d with %q, found %d %s", name, tc.status, tc.text, a.status, a.body)
		}
	}
	g.end()

	g, err = tryGateway(t, dir, text)
	if err != nil {
		t.Fatal(err)
	}
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 404 {
		t.Errorf("after a restart: want version 2 in force, found %d", a.status)
	}
	if a := g.control("POST", "/api/v1/schemas/echo/rollback", nil); a.status != 200 || a.json(t)["number"] != 1.0 {
		t.Errorf("rollback: want version 1, found %d %s", a.status, a.body)
	}
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
		t.Errorf("after the rollback: want 200, found %d %s", a.status, a.body)
	}
	if a := g.control("GET", "/api/v1/schemas/echo", nil); !strings.Contains(a.body, `"from": "v2"`) || !strings.Contains(a.body, "GET /v1/echo/{text}") {
		t.Errorf("show: want both versions and the routes, found %s", a.body)
	}
}

func TestAdminIsClosedToStrangers(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	base := "http://" + g.adminAddr
	for _, tc := range []struct {
		name, method, path string
		header             []string
		status             int
	}{
		{"livez is open", "GET", "/livez", nil, 200},
		{"readyz is open", "GET", "/readyz", nil, 200},
		{"verbose is not", "GET", "/readyz?verbose", nil, 401},
		{"metrics are not", "GET", "/metrics", nil, 401},
		{"schemas are not", "GET", "/api/v1/schemas", nil, 401},
		{"nor is a path that does not exist", "GET", "/nope", nil, 401},
		{"nor with a wrong token", "GET", "/metrics", []string{"Authorization", "Bearer x"}, 401},
		{"nor with an empty one", "GET", "/metrics", []string{"Authorization", "Bearer "}, 401},
		{"a page may not ask", "GET", "/livez", []string{"Origin", "https://evil.example"}, 403},
		{"a rebound name may not ask", "GET", "/livez", []string{"Host", "evil.example"}, 403},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if a := send(t, g.client, tc.method, base+tc.path, "", tc.header...); a.status != tc.status {
				t.Errorf("want %d, found %d %s", tc.status, a.status, a.body)
			}
		})
	}
	st, err := os.Stat(filepath.Join(filepath.Dir(g.file), ".causeway", tokenFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("token file: want mode 600, found %v %v", st, err)
	}
}

// Listeners come and go with the configuration.
func TestListenersFollowTheConfiguration(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	text := echoConfig(t, t.TempDir(), backend.Address)
	g := startGateway(t, text)
	second := reserve(t)
	g.write(strings.Replace(text, "  - address: 127.0.0.1:0\n", "  - address: 127.0.0.1:0\n  - address: "+second+"\n", 1))
	waitFor(t, "the second listener", func() bool {
		a, err := trySend(g.client, "GET", "http://"+second+"/v1/echo/x", "")
		return err == nil && a.status == 200
	})
	g.write(text)
	waitFor(t, "the second listener to close", func() bool {
		g.client.CloseIdleConnections()
		_, err := trySend(g.client, "GET", "http://"+second+"/v1/echo/x", "")
		return err != nil
	})
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
		t.Errorf("want the first to serve on, found %d", a.status)
	}
}

// A stop lets calls in flight end and says so to clients that stay connected.
func TestStopIsGraceful(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	got := make(chan answer, 1)
	go func() {
		a, err := trySend(g.client, "GET", g.url+"/v1/wait?time=1s", "")
		if err != nil {
			a.body = err.Error()
		}
		got <- a
	}()
	waitFor(t, "the call to reach the service", func() bool { return backend.Waiting.Load() == 1 })
	start := time.Now()
	g.client.CloseIdleConnections()
	g.once.Do(func() { g.stop(context.Background(), proxy.Stop{Grace: 2 * time.Minute}) })
	a := <-got
	if a.status != 200 || !a.close {
		t.Errorf("the call in flight: want 200 and Connection: close, found %d, close %v, %s", a.status, a.close, a.body)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("want the stop to end with the last call, not with its grace, it took %s", took)
	}
}
