package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/proxy/admin"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// What a method answers, errors too, takes no instance out, opens no breaker and is not tried again, whatever protocol the instance
// speaks; neither is the answer taken for a fault of the transport.
func TestBusinessErrorsNeverCount(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "one")
	for protocol, options := range map[string][2]string{
		"grpc": {},
		"tars": {", options: {servants: [{name: Demo.Echo.EchoObj, service: demo.echo.v1.Echo}]}", "{servant: Demo.Echo.EchoObj}"},
		"trpc": {"", "{}"},
	} {
		t.Run(protocol, func(t *testing.T) {
			text := echoConfig(t, t.TempDir(), backend.Address)
			over := "  - name: over\n    schema: echo\n    endpoints: [{address: \"" + backend.Address + "\"}]\n"
			if protocol != "grpc" { // the gateway's own listener speaks it
				inner := reserve(t)
				text = strings.Replace(text, "admin:", "  - {address: \""+inner+"\", protocol: "+protocol+options[0]+"}\nadmin:", 1)
				over = "  - name: over\n    schema: echo\n    adapter: " + protocol + "\n    options: " + options[1] + "\n    endpoints: [{address: \"" + inner + "\"}]\n"
			}
			over += "    outliers: {consecutive: 2, failure_rate: 0.1, min_calls: 2}\n" +
				"    breaker: {failure_rate: 0.1, min_calls: 2}\n" +
				"    retry: {attempts: 3, budget: 1, idempotent: true}\n"
			g := startGateway(t, strings.Replace(text, "plugins:", over+
				"routes:\n  - {name: over, hosts: [over.test], service: over, methods: [\"*\"]}\n  - {name: direct, service: echo, methods: [\"*\"]}\nplugins:", 1))
			var want []string
			for code := 1; code <= 16; code++ {
				if code == 4 { // of which nobody can tell whose it is once the time is over; here it is not
					continue
				}
				for range 2 {
					before := backend.Calls.Load()
					a := g.call("GET", fmt.Sprintf("/v1/fail/%d", code), "", "Host", "over.test")
					if n := backend.Calls.Load() - before; n != 1 || a.status == 200 {
						t.Errorf("code %d: want one call and its error, found %d calls and %d %s", code, n, a.status, a.body)
					}
					want = append(want, a.body)
				}
			}
			if slices.ContainsFunc(want, func(body string) bool {
				return strings.Contains(body, "UPSTREAM_") || strings.Contains(body, "BREAKER_")
			}) {
				t.Errorf("an answer was taken for a fault: %q", want)
			}
			var s admin.Service
			if err := json.Unmarshal([]byte(g.control("GET", "/api/v1/services/over", nil).body), &s); err != nil {
				t.Fatal(err)
			}
			if len(s.Instances) != 1 || !s.Instances[0].Used || s.Instances[0].Ejected != nil || s.Breaker == nil || s.Breaker.Opened != 0 || s.Breaker.State != "closed" {
				t.Errorf("want the instance used and the breaker closed, found %+v %+v", s.Instances, s.Breaker)
			}
		})
	}
}
