package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	metricsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/metrics/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// known makes a plugin in whose configuration there is the consumer "shop" alone.
func known(t testing.TB, conf *metricsv1.Metrics) (*metrics, *telemetry.Meter) {
	t.Helper()
	env := plugintest.Env(t)
	env.Consumer = func(name string) *rpc.Consumer {
		if name == "shop" {
			return &rpc.Consumer{Name: name}
		}
		return nil
	}
	p, err := Kind.New(conf, env)
	if err != nil {
		t.Fatal(err)
	}
	return p.(*metrics), env.Meter
}

// lines are those of a scrape that begin with prefix and end otherwise than in 0.
func lines(meter *telemetry.Meter, prefix string) (out []string) {
	rec := httptest.NewRecorder()
	meter.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(rec.Body.String()) {
		if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, prefix) && !strings.HasSuffix(line, " 0") {
			out = append(out, line)
		}
	}
	return out
}

func by(consumer string) *rpc.Call {
	c := call("orders", "Get")
	c.Consumer, c.Node = &rpc.Consumer{Name: consumer}, "[2001:db8::1]:9000"
	return c
}

// TestConsumers: those of the configuration are counted apart where that is wished for, all others together.
func TestConsumers(t *testing.T) {
	for _, on := range []bool{true, false} {
		m, meter := known(t, &metricsv1.Metrics{Consumers: on})
		for _, who := range []string{"shop", "shop", "invented", "also invented"} {
			m.Done(by(who), sent(codes.OK, 200))
		}
		m.Done(call("orders", "Get"), sent(codes.OK, 200))
		total := func(consumer string, n int) string {
			return fmt.Sprintf(`causeway_requests_total{code="OK",consumer="%s",protocol="rest",route="orders",rpc_method="acme.v1.Orders/Get",service="backend",status="200"} %d`, consumer, n)
		}
		want := []string{total("", 5)}
		if on {
			want = []string{total("", 3), total("shop", 2)}
		}
		if diff := cmp.Diff(want, lines(meter, "causeway_requests_total")); diff != "" {
			t.Errorf("consumers %v (-want +got):\n%s", on, diff)
		}
		if n := len(lines(meter, `causeway_request_duration_seconds_count{consumer="shop"`)); (n == 1) != on {
			t.Errorf("consumers %v: %d series of its latency", on, n)
		}
	}
}

// TestInventedConsumersAreBounded: a plugin that makes up a million names fills no memory and makes no series.
func TestInventedConsumersAreBounded(t *testing.T) {
	m, _ := known(t, &metricsv1.Metrics{Consumers: true})
	n := maxGroups + 1000
	if testing.Short() || raceEnabled {
		n = 1000
	}
	for i := range n {
		m.Done(by(fmt.Sprint("c", i)), sent(codes.OK, 200))
	}
	if got := m.requests.Len(); got != 1 {
		t.Errorf("%d series, want 1", got)
	}
	if got := m.cells().groups.len(); got > maxGroups {
		t.Errorf("%d groups, want at most %d", got, maxGroups)
	}
}

// TestAPISIX: what comes out under APISIX's names, and that it goes with the switch.
func TestAPISIX(t *testing.T) {
	m, meter := known(t, &metricsv1.Metrics{Apisix: true})
	m.Done(by("shop"), sent(codes.OK, 200)) // 500 ms, of which 250 at the upstream
	refused := by("invented")
	refused.Attempts, refused.Times.Upstream, refused.Node = 0, 0, ""
	limited := sent(codes.ResourceExhausted, 429)
	limited.Reason = "LIMITED"
	m.Done(refused, limited)
	own(t, meter)
	const rest = `,request_llm_model="",request_type="traditional_http"`
	status := func(code, consumer, node, source string) string {
		return `apisix_http_status{code="` + code + `",consumer="` + consumer + `",llm_model="",matched_host="",matched_uri="/acme.v1.Orders/Get",node="` + node + `"` +
			rest + `,response_source="` + source + `",route="orders",service="backend"} 1`
	}
	if diff := cmp.Diff([]string{status("200", "shop", "2001:db8::1", "upstream"), status("429", "", "", "apisix")}, lines(meter, "apisix_http_status{")); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	labels := `consumer="shop",llm_model="",node="2001:db8::1"` + rest + `,route="orders",service="backend"`
	for _, want := range []string{
		`apisix_http_latency_sum{` + labels + `,type="request"} 500`, `apisix_http_latency_sum{` + labels + `,type="upstream"} 250`,
		`apisix_http_latency_sum{` + labels + `,type="apisix"} 250`, `apisix_http_latency_bucket{` + labels + `,type="request",le="500"} 1`,
		`apisix_bandwidth{` + labels + `,type="ingress"} 10`, `apisix_bandwidth{` + labels + `,type="egress"} 20`,
		`apisix_http_requests_total 2`, `apisix_upstream_status{ip="2001:db8::1",name="backend",port="9000"} 1`,
		`apisix_nginx_http_current_connections{state="active"} 5`, `apisix_nginx_http_current_connections{state="waiting"} 5`,
	} {
		if got := lines(meter, want); len(got) != 1 {
			t.Errorf("no line %s in\n%s", want, strings.Join(lines(meter, want[:strings.IndexAny(want, "{ ")]), "\n"))
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if left := lines(meter, "apisix_"); len(left) != 0 {
		t.Errorf("switched off, and still %v", left)
	}
}

func TestAPISIXAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m, _ := known(t, &metricsv1.Metrics{Apisix: true, Consumers: true})
	c, s := by("shop"), sent(codes.OK, 200)
	if n := testing.AllocsPerRun(100, func() { m.Done(c, s) }); n != 0 {
		t.Errorf("%v allocations per call, want 0", n)
	}
}
