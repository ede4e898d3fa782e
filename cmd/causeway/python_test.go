package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/testdata/pygrpc"
)

// A server that is not of our language: Python's gRPC, which stands on the C core.
func TestPythonServer(t *testing.T) {
	address, set := pygrpc.Start(t)
	file := filepath.Join(t.TempDir(), "orders.binpb")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, `listen: [{address: 127.0.0.1:0}]
schemas: [{name: orders, descriptor_set: `+file+`}]
services: [{name: orders, schema: orders, endpoints: [{address: "`+address+`"}]}]
`)
	if a := g.call("GET", "/v1/orders/1", ""); a.status != 200 || a.text(t, "name") != "orders/1" {
		t.Errorf("one order: want 200, found %d %s", a.status, a.body)
	}
	if a := g.call("POST", "/demo.orders.v1.Orders/Quote", `{"items":[{"sku":"mug","quantity":2}]}`); a.status != 200 || a.text(t, "totalCents") == "" {
		t.Errorf("a quote: want 200 with a total, found %d %s", a.status, a.body)
	}
	if a := g.call("GET", "/v1/orders/nope", ""); a.status < 400 || !strings.Contains(a.body, `"@type":"type.googleapis.com/google.rpc.`) {
		t.Errorf("an error: want its details decoded, found %d %s", a.status, a.body)
	}
	if a := g.call("GET", "/v1/orders", ""); a.status != 501 {
		t.Errorf("a method that the server does not have: want 501, found %d %s", a.status, a.body)
	}
}
