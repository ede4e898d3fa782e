package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// gatewayAnswer has all fields, some that are not known, and instances with few.
const gatewayAnswer = `{"service":"orders","since":"2026","sources":[
  {"name":"main","key":"a.A","stale_seconds":12,"error":"connection refused","skipped":1,"instances":2,"new":{}},
  {"name":"static","known":true,"snapshot_age_seconds":60,"suspects":3},{"name":"new","known":false}],
 "instances":[
  {"address":"10.0.0.1:1","ids":["10.0.0.1-1"],"sources":["main"],"zone":"z","priority":1,"latency_seconds":0.0025,"weight":100,"effective_weight":50,"status":"up",
   "health":{"up":true,"since":"2020-01-01T00:00:00Z","error":""},"beat_age_seconds":3.2,"load":0.25,"in_flight":4,"used":true,"why":"slow start"},
  {"address":"10.0.0.2:1","health":{"up":false,"error":"deadline exceeded"},"ejected":{"until":"2020-01-01T00:00:00Z","reason":"5 failures in a row","detail":"last: reset"},"used":false,"why":"ejected: 5 failures in a row"},
  {"address":"10.0.0.3:1","weight":"many","health":{"known":false,"up":false}},
  {"address":"10.0.0.4:1","used":false,"panic":true,"why":"not used; but it is called all the same"}]}`

const gatewayTable = `
gateway ADMIN, service orders
  source main, as a.A, 2 instances, 1 left out, stale for 12s: connection refused
  source static, 3 suspects, which the registry has lost, from a snapshot of 1m ago
  source new, not known yet
  ADDRESS     USED      STATUS  PRIORITY  ZONE  WEIGHT  EFFECTIVE  HEALTH        LATENCY  BEAT  LOAD  IN FLIGHT  WHY
  10.0.0.1:1  yes       up      1         z     100     50         ok for AGE    2.5ms    3.2s  0.25  4          slow start
  10.0.0.2:1  no        -       -         -     -       -          failing       -        -     -     -          ejected: 5 failures in a row; deadline exceeded; last: reset
  10.0.0.3:1  -         -       -         -     -       -          not known     -        -     -     -          -
  10.0.0.4:1  in panic  -       -         -     -       -          -             -        -     -     -          not used; but it is called all the same
`

// adminOf answers as an admin listener does.
func adminOf(t testing.TB, answers map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, has := answers[r.URL.Path]
		switch {
		case r.Header.Get("Authorization") != "Bearer right":
			w.WriteHeader(http.StatusUnauthorized)
			body = `{"code":16,"message":"want the admin token"}`
		case !has:
			w.WriteHeader(http.StatusNotFound)
			body = `{"code":5,"message":"there is no such service"}`
		}
		_, _ = w.Write([]byte(body)) // the test sees what is missing
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestServiceInspectGateway(t *testing.T) {
	t.Parallel()
	_, addr := startZK(t)
	c := zkAt(t, addr)
	registerAt(t, c, "a.A", registry.Endpoint{Address: "10.0.0.1:1"})
	registerAt(t, c, "orders", registry.Endpoint{Address: "10.0.0.9:1"})
	token := fileOf(t, "right\n")
	inspect := func(admin string, args ...string) (string, error) {
		t.Helper()
		out, _, err := causeway(t, append([]string{"service", "inspect", "--zookeeper", addr, "--admin", admin, "--token-file", token}, args...)...)
		return out, err
	}
	table := func(out string) string {
		_, gateway, _ := strings.Cut(out, "\n\n")
		lines := strings.Split("\n"+gateway, "\n")
		for i, line := range lines {
			if before, after, found := strings.Cut(line, "ok for "); found {
				_, after, _ = strings.Cut(after, " ")
				lines[i] = before + "ok for AGE   " + after
			}
		}
		return strings.Join(lines, "\n")
	}
	byName := adminOf(t, map[string]string{"/api/v1/services/orders": gatewayAnswer})
	byKey := adminOf(t, map[string]string{"/api/v1/services": `{"services":[{"service":"x","sources":[{"key":"other"}]},` + gatewayAnswer + `]}`, "/api/v1/services/orders": gatewayAnswer})
	bare := adminOf(t, map[string]string{"/api/v1/services": `[` + gatewayAnswer + `]`})
	for name, tc := range map[string]struct{ admin, service string }{
		"by its name": {byName, "orders"}, "by its name in the registry": {byKey, "a.A"}, "a bare list": {bare, "a.A"},
	} {
		out, err := inspect(tc.admin, tc.service)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, want := table(out), strings.Replace(gatewayTable, "ADMIN", tc.admin, 1); got != want {
			t.Errorf("%s: want\n%s, found\n%s", name, want, got)
		}
	}
	out, err := inspect(byKey, "a.A", "10.0.0.1-1")
	if err != nil || !strings.Contains(out, "use        takes calls\n") || !strings.Contains(out, "  10.0.0.1:1  yes ") || strings.Contains(out, "10.0.0.2:1") {
		t.Errorf("want one instance from both, found %q %v", out, err)
	}
	if out, err = inspect(byKey, "a.A", "--json"); err != nil || !strings.Contains(out, `"since": "2026"`) || !strings.Contains(out, `"weight": "many"`) {
		t.Errorf("want what the gateway says as it is, found %q %v", out, err)
	}

	// Whichever of the two is missing, the other is shown, and the exit code tells.
	for name, tc := range map[string]struct {
		admin, want, shows string
		args               []string
		code               int
	}{
		"denied":                  {byKey, "want the admin token", "10.0.0.1-1", []string{"a.A", "--token-file", fileOf(t, "wrong")}, exitDenied},
		"nobody there":            {reserve(t), "no gateway answers at", "10.0.0.1-1", []string{"a.A"}, exitUnreachable},
		"not known to it":         {byKey, `has no service that is, or is resolved as, "orders-2"`, "10.0.0.8-1", []string{"orders-2"}, exitFailure},
		"not known to its lister": {byName, "does not tell of its services: there is no such service", "10.0.0.1-1", []string{"a.A"}, exitFailure},
		"no ZooKeeper":            {byName, "no ZooKeeper answers at 127.0.0.1:1 ", "gateway ", []string{"orders", "--zookeeper", "127.0.0.1:1"}, exitUnreachable},
		"neither":                 {reserve(t), "no ZooKeeper answers at 127.0.0.1:1 ", "", []string{"orders", "--zookeeper", "127.0.0.1:1"}, exitUnreachable},
	} {
		if name == "not known to it" {
			registerAt(t, c, "orders-2", registry.Endpoint{Address: "10.0.0.8:1"})
		}
		out, err := inspect(tc.admin, tc.args...)
		if err == nil || exitCode(err) != tc.code || !strings.Contains(err.Error(), tc.want) || !strings.Contains(out, tc.shows) {
			t.Errorf("%s: want exit code %d and %q beside %q, found %v beside %q", name, tc.code, tc.want, tc.shows, err, out)
		}
	}
}

// What a gateway has from elsewhere need not be in ZooKeeper: that is told, and is no fault.
func TestServiceInspectFromElsewhere(t *testing.T) {
	t.Parallel()
	_, addr := startZK(t)
	registerAt(t, zkAt(t, addr), "orders", registry.Endpoint{Address: "10.0.0.9:1"})
	admin := adminOf(t, map[string]string{"/api/v1/services/static": gatewayAnswer})
	out, said, err := causeway(t, "service", "inspect", "--zookeeper", addr, "--admin", admin, "--token-file", fileOf(t, "right\n"), "static")
	if err != nil || !strings.Contains(out, "gateway "+admin) || !strings.Contains(said, `not in ZooKeeper: there is no service "static"`) {
		t.Errorf("want the gateway's view and a word, found %q, %q, %v", out, said, err)
	}
	for seconds, want := range map[float64]string{0.0000123: "0.0123ms", 0.0025: "2.5ms", 0.2641: "264ms", 2.6412: "2.64s", 250: "4m10s"} {
		if got := latency(optional[float64]{seconds, true}); got != want {
			t.Errorf("%v s: want %s, found %s", seconds, want, got)
		}
	}
}

func TestLenient(t *testing.T) {
	t.Parallel()
	var s gatewayService
	if err := lenient([]byte(`{"service":7,"instances":[{"address":"a:1","used":"yes","why":"x"}]}`), &s); err != nil || len(s.Instances) != 1 || s.Instances[0].Why != "x" || s.Instances[0].Used.has {
		t.Errorf("want the fields that fit, found %+v %v", s, err)
	}
	if err := lenient([]byte(`{`), &s); err == nil {
		t.Error("want what is no JSON refused")
	}
}

// TestServiceInspectRealGateway asks a gateway that resolves the service from the same ZooKeeper.
func TestServiceInspectRealGateway(t *testing.T) {
	t.Parallel()
	one := echo.Start(t, "127.0.0.1:0", "one")
	_, addr := startZK(t)
	c := zkAt(t, addr)
	const service = "demo.echo.v1.Echo"
	registerAt(t, c, service, registry.Endpoint{ID: "one", Address: one.Address, Zone: "bj-a"})
	g := startGateway(t, discovered(t, t.TempDir(), addr, ""))
	token := fileOf(t, g.token)
	show := func(args ...string) string {
		t.Helper()
		out, _, err := causeway(t, append([]string{"service", "inspect", service, "--zookeeper", addr, "--admin", g.adminAddr, "--token-file", token}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	waitFor(t, "the instance in use", func() bool {
		out := show()
		return strings.Contains(out, "\ngateway "+g.adminAddr+", service echo\n  source zk, as demo.echo.v1.Echo, 1 instances\n") &&
			strings.Contains(out, "\n  "+one.Address+"  yes   up      0         bj-a  100     100 ")
	})
	if _, _, err := causeway(t, "service", "drain", service, "one", "--zookeeper", addr); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the instance drained", func() bool {
		out := show("one")
		return strings.Contains(out, "\nuse        no new calls: draining, calls in flight end as they would\n") &&
			strings.Contains(out, "\n  "+one.Address+"  no    draining  0         bj-a  100     0 ") // the weight it has, and what it takes for now
	})
	t.Log(show())
}
