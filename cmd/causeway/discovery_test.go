package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// discovered is a gateway's configuration that finds the echo service in a ZooKeeper; more are further keys of the service.
func discovered(t testing.TB, dir, zk, more string) string {
	t.Helper()
	text := echoConfig(t, dir)
	return strings.Replace(text, "    endpoints:\n", "    discovery: [{registry: zk, service: demo.echo.v1.Echo}]\n"+more, 1) +
		"registries:\n  - name: zk\n    zookeeper: {servers: [\"" + zk + "\"]}\n"
}

// register announces an instance; the function returned takes it back.
func register(t testing.TB, c *zookeeper.Conn, ep registry.Endpoint) registry.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	lease, err := (&zookeeper.Registrar{Conn: c}).Register(ctx, "demo.echo.v1.Echo", ep)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

// A gateway calls the instances that are registered, and no others; it starts without its registry from what it knew.
func TestDiscovery(t *testing.T) {
	one, two := echo.Start(t, "127.0.0.1:0", "one"), echo.Start(t, "127.0.0.1:0", "two")
	zk, addr := startZK(t)
	c := zkAt(t, addr)
	lease := register(t, c, registry.Endpoint{Address: one.Address})
	dir := t.TempDir()
	text := discovered(t, dir, addr, "")
	g, err := tryGateway(t, dir, text)
	if err != nil {
		t.Fatal(err)
	}
	seen := func(g *gatewayTest) string {
		a := g.call("POST", "/v1/echo", `{"text":"x"}`)
		if a.status != 200 {
			return a.body
		}
		return a.text(t, "instance")
	}
	if s := seen(g); s != "one" {
		t.Fatalf("want the instance that is registered, found %q", s)
	}
	second := register(t, c, registry.Endpoint{Address: two.Address})
	waitFor(t, "calls on the second instance", func() bool { return seen(g) == "two" })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := lease.Close(ctx); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "no calls on the first instance", func() bool {
		for range 4 {
			if seen(g) != "two" {
				return false
			}
		}
		return true
	})
	body := g.control("GET", "/api/v1/services/echo", nil)
	if body.status != 200 || !strings.Contains(body.body, two.Address) || strings.Contains(body.body, one.Address) {
		t.Errorf("want the one instance shown, found %d %s", body.status, body.body)
	}
	waitFor(t, "the snapshot", func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, ".causeway", "discovery", "*.json"))
		if len(files) != 1 {
			return false
		}
		raw, err := os.ReadFile(files[0])
		return err == nil && strings.Contains(string(raw), two.Address) && !strings.Contains(string(raw), one.Address)
	})
	if err := zk.Close(); err != nil {
		t.Fatal(err)
	}
	later, err := tryGateway(t, dir, text)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "an answer by the snapshot", func() bool { return seen(later) == "two" })
	if s := seen(g); s != "two" {
		t.Errorf("want the instances kept in an outage, found %q", s)
	}
	_ = second // its end needs the registry
}
