package main

import (
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// One gateway speaks a protocol on both sides: REST goes out over it to the gateway's own listener, and from there to gRPC.
func TestProtocolsBothWays(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "one")
	for protocol, options := range map[string][2]string{
		"tars": {", options: {servants: [{name: Demo.Echo.EchoObj, service: demo.echo.v1.Echo}]}", "{servant: Demo.Echo.EchoObj}"},
		"trpc": {"", "{}"},
	} {
		t.Run(protocol, func(t *testing.T) {
			inner := reserve(t)
			text := echoConfig(t, t.TempDir(), backend.Address)
			text = strings.Replace(text, "admin:", "  - {address: \""+inner+"\", protocol: "+protocol+options[0]+"}\nadmin:", 1)
			text = strings.Replace(text, "plugins:", "  - name: over\n    schema: echo\n    adapter: "+protocol+"\n    options: "+options[1]+"\n    endpoints: [{address: \""+inner+"\"}]\n"+
				"routes:\n  - {name: over, hosts: [over.test], service: over, methods: [\"*\"]}\n  - {name: direct, service: echo, methods: [\"*\"]}\nplugins:", 1)
			g := startGateway(t, text)
			a := g.call("POST", "/v1/echo", `{"text":"hello","number":"42","data":"AQI="}`, "Host", "over.test", "Grpc-Metadata-App-Tenant", "acme")
			if a.status != 200 || a.text(t, "text") != "hello" || a.text(t, "number") != "42" || a.text(t, "data") != "AQI=" {
				t.Fatalf("want the message through %s twice, found %d %s", protocol, a.status, a.body)
			}
			if got := a.text(t, "metadata", "app-tenant"); got != "acme" {
				t.Errorf("want metadata through %s, found %q in %s", protocol, got, a.body)
			}
			a = g.call("GET", "/v1/fail/5", "", "Host", "over.test")
			t.Logf("%d %s", a.status, a.body)
		})
	}
}
