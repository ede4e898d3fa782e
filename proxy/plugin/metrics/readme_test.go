package metrics

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"google.golang.org/grpc/codes"

	metricsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/metrics/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

// TestReadmeNamesEveryMetric holds the README's tables against what comes out at /metrics: names, types and labels.
func TestReadmeNamesEveryMetric(t *testing.T) {
	text, _ := plugintest.Examples(t, "README.md")
	type metric struct{ Kind, Labels string }
	want := map[string]metric{}
	row := regexp.MustCompile("(?m)^\\| `((?:causeway|apisix)_[a-z_]+)` \\| (counter|gauge|histogram) \\|([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		labels := strings.NewReplacer("`", "", " ", "").Replace(m[3])
		want[m[1]] = metric{m[2], sorted(labels)}
	}

	m, meter := newMetrics(t, &metricsv1.Metrics{Apisix: true})
	m.Done(call("orders", "Get"), sent(codes.OK, 200))
	own(t, meter)
	rec := httptest.NewRecorder()
	meter.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body := rec.Body.String()
	got := map[string]metric{}
	for _, typ := range regexp.MustCompile(`(?m)^# TYPE ((?:causeway|apisix)_\S+) (\S+)$`).FindAllStringSubmatch(body, -1) {
		name := typ[1]
		if gatewaysOwn[name] {
			continue
		}
		sample := regexp.MustCompile(`(?m)^` + name + `(?:_sum)?(?:\{([^}]*)\})? `).FindStringSubmatch(body)
		if sample == nil {
			t.Fatalf("%s has no sample", name)
		}
		var labels []string
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(sample[1], -1) {
			labels = append(labels, l[1])
		}
		got[name] = metric{typ[2], sorted(strings.Join(labels, ","))}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-README +scraped):\n%s", diff)
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if !strings.HasPrefix(p.Metric, "apisix_") { // those names are APISIX's
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// gatewaysOwn are metrics that the test makes in the gateway's stead.
var gatewaysOwn = map[string]bool{"causeway_service_instance_up": true, "causeway_connections": true}

// own makes the metrics of the gateway that are given out by another name.
func own(t *testing.T, meter *telemetry.Meter) {
	t.Helper()
	up, err := meter.Gauge("causeway_service_instance_up", "", "1 for each instance.", "service", "node")
	if err != nil {
		t.Fatal(err)
	}
	up.With("backend", "[2001:db8::1]:9000").Set(1)
	connections, err := meter.Gauge("causeway_connections", "", "Connections.", "listener")
	if err != nil {
		t.Fatal(err)
	}
	connections.With("a").Set(2)
	connections.With("b").Set(3)
}

func sorted(labels string) string {
	list := strings.Split(labels, ",")
	slices.Sort(list)
	return strings.Join(list, ",")
}
