package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/causeway-gateway/causeway/testdata/collector"
	"github.com/causeway-gateway/causeway/testdata/echo"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// ruleFile is what the tests read of alerts.yaml.
type ruleFile struct {
	Groups []struct {
		Rules []struct {
			Record, Alert, Expr string
			Labels, Annotations map[string]string
		}
	}
}

func readRules(t *testing.T) (f ruleFile) {
	t.Helper()
	if err := yaml.Unmarshal(alerts, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestAlertsHaveRunbooks: each alert has a section, and each section an alert.
func TestAlertsHaveRunbooks(t *testing.T) {
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(string(runbooks), -1) {
		sections[m[1]] = true
	}
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			if !sections[r.Alert] || r.Annotations["runbook_url"] != "RUNBOOKS.md#"+strings.ToLower(r.Alert) {
				t.Errorf("alert %s has the runbook %q", r.Alert, r.Annotations["runbook_url"])
			}
			delete(sections, r.Alert)
			if r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
				t.Errorf("alert %s has no summary or no severity", r.Alert)
			}
		}
	}
	for s := range sections {
		t.Errorf("runbook %s is for no alert", s)
	}
}

// TestAlertRules has Prometheus' own tool check the rules and run their tests.
func TestAlertRules(t *testing.T) {
	dir, err := filepath.Abs("observability")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		if out, err := realserver.Promtool(t, dir, args...); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	tests, err := os.ReadFile(filepath.Join(dir, "alerts_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			if r.Alert != "" && !strings.Contains(string(tests), "alertname: "+r.Alert) {
				t.Errorf("no test fires %s", r.Alert)
			}
		}
	}
}

// dashboardFile is what the tests read of dashboard.json.
type dashboardFile struct {
	Panels []struct {
		Title   string
		Type    string
		Targets []struct{ Expr string }
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Annotations struct{ List []struct{ Expr string } }
}

// watched are the queries that dashboards and rules ask, by where they stand.
func watched(t *testing.T) (queries map[string]string, variables map[string][2]string) {
	t.Helper()
	var d dashboardFile
	if err := json.Unmarshal(dashboard, &d); err != nil {
		t.Fatal(err)
	}
	queries, variables = map[string]string{}, map[string][2]string{}
	grafana := strings.NewReplacer("[$__rate_interval]", "[30s]", "$instance", ".*", "$route", ".*", "$service", ".*", "$method", ".*",
		"$consumer", ".*", "$job", ".*")
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for _, q := range p.Targets {
			queries["panel "+p.Title+": "+q.Expr] = grafana.Replace(q.Expr)
		}
	}
	variable := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			m := variable.FindStringSubmatch(v.Definition)
			if m == nil {
				t.Fatalf("variable %s: %q", v.Name, v.Definition)
			}
			variables[v.Name] = [2]string{m[2], grafana.Replace(m[1])}
		}
	}
	for _, a := range d.Annotations.List {
		queries["annotation"] = withoutThresholds(t, grafana.Replace(a.Expr))[0]
	}
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				queries["record "+r.Record] = r.Expr
				queries["recorded "+r.Record] = r.Record
				continue
			}
			for _, q := range withoutThresholds(t, r.Expr) {
				queries["alert "+r.Alert+": "+q] = q
			}
		}
	}
	return queries, variables
}

var threshold = regexp.MustCompile(`^(.*) [<>] [0-9.]+$`)

// withoutThresholds are the parts of an alert's expression whether or not it fires.
func withoutThresholds(t *testing.T, expr string) (parts []string) {
	t.Helper()
	for part := range strings.SplitSeq(expr, " and ") {
		m := threshold.FindStringSubmatch(part)
		if m == nil {
			t.Fatalf("no threshold in %q", part)
		}
		parts = append(parts, m[1])
	}
	return parts
}

// apisixAsked is all that the dashboard that Apache APISIX ships asks (docs/assets/other/json/apisix-grafana-dashboard.json).
func apisixAsked() map[string]string {
	queries := map[string]string{}
	add := func(q string) { queries["APISIX "+q] = q }
	for _, q := range []string{
		`sum(apisix_http_requests_total{instance=~".*"})`, `sum(apisix_etcd_reachable{instance=~".*"})`,
		`sum(apisix_nginx_metric_errors_total{instance=~".*"})`, `apisix_etcd_modify_indexes{key=~"consumers|global_rules|max_modify_index|prev_index|protos|routes|services|ssls|stream_routes|upstreams|x_etcd_index"}`,
		`sum(rate(apisix_http_status{service=~".*",route=~".*",instance=~".*"}[30s]))`,
		`(apisix_shared_dict_free_space_bytes * 100) / on (name, instance) apisix_shared_dict_capacity_bytes`,
	} {
		add(q)
	}
	for _, state := range []string{"active", "reading", "writing", "waiting", "accepted", "handled"} {
		add(`sum(apisix_nginx_http_current_connections{state="` + state + `", instance=~".*"})`)
	}
	for _, by := range []string{"code", "route", "service"} {
		add(`sum(rate(apisix_http_status{service=~".*",route=~".*",instance=~".*"}[30s])) by (` + by + `)`)
	}
	add(`sum(rate(apisix_bandwidth{instance=~".*"}[30s])) by (type)`)
	for _, kind := range []string{"ingress", "egress"} {
		add(`sum(rate(apisix_bandwidth{type="` + kind + `", service =~".*",route=~".*",instance=~".*"}[30s])) by (service)`)
		add(`sum(rate(apisix_bandwidth{type="` + kind + `", service =~".*",route=~".*",instance=~".*"}[30s])) by (route)`)
	}
	for _, kind := range []string{"request", "apisix", "upstream"} {
		for _, p := range []string{"0.90", "0.95", "0.99"} {
			add(`histogram_quantile(` + p + `, sum(rate(apisix_http_latency_bucket{type=~"` + kind + `",service=~".*",consumer=~".*",node=~".*",route=~".*"}[30s])) by (le))`)
		}
	}
	return queries
}

// TestEveryQueryReturnsData has a real Prometheus scrape a gateway under load, and asks it all that the dashboard, the rules and
// APISIX's dashboard ask.
func TestEveryQueryReturnsData(t *testing.T) {
	t.Parallel()
	realserver.Need(t, "prometheus", "prometheus")
	backend := echo.Start(t, "127.0.0.1:0", "a")
	text := strings.Replace(echoConfig(t, t.TempDir(), backend.Address), "  - name: metrics\n",
		"  - name: metrics\n    config: {consumers: true, apisix: true}\n", 1)
	g := startGateway(t, text+`routes:
  - {name: limited, methods: ["demo.echo.v1.Echo/Wait"], service: echo, plugins: [{name: key_auth}]}
consumers:
  - {name: shop, credentials: [{plugin: key_auth, config: {key: '`+shopKey+`'}}]}
`)
	rules, err := filepath.Abs("observability/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := realserver.StartPrometheus(t, g.adminAddr, g.token, rules)
	queries, variables := watched(t)
	left := apisixAsked()
	maps.Copy(left, queries)
	if len(left) < 90 {
		t.Errorf("%d queries, want all of them", len(left))
	}
	waitFor(t, "every query returns data", func() bool {
		callAll(t, g)
		for where, q := range left {
			samples, err := p.Query(q)
			if err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			if number(samples) {
				delete(left, where)
			} else if len(left) < 5 {
				t.Logf("no data: %s: %s %v", where, q, samples)
			}
		}
		return len(left) == 0
	})
	for name, v := range variables {
		if values, err := p.LabelValues(v[0], v[1]); err != nil || len(values) == 0 {
			t.Errorf("variable %s has the values %q, %v", name, values, err)
		}
	}
	for _, label := range []string{"instance", "service", "route", "consumer", "node"} {
		if values, err := p.LabelValues(label, "apisix_http_latency_count"); err != nil || len(values) == 0 {
			t.Errorf("APISIX's variable %s has the values %q, %v", label, values, err)
		}
	}
}

// number tells an answer in which a value is a number.
func number(samples []realserver.Sample) bool {
	for _, s := range samples {
		if v, _ := s.Value[1].(string); v != "NaN" && v != "" {
			return true
		}
	}
	return false
}

const shopKey = "9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d"

// callAll makes calls of every sort.
func callAll(t *testing.T, g *gatewayTest) {
	t.Helper()
	for range 5 {
		g.call("POST", "/v1/echo", `{"text":"x"}`)
	}
	g.call("GET", "/v1/fail/14", "")
	g.call("GET", "/v1/fail/5", "")
	g.call("GET", "/v1/fail/8", "")
	g.call("GET", "/nowhere", "")
	g.call("GET", "/v1/wait?time=0.001s", "")
	g.call("GET", "/v1/wait?time=0.001s", "", "x-api-key", shopKey)
}

// TestMetricsAreDocumented holds the tables of the READMEs against a scrape of a gateway: each metric is there, with its type and
// labels, and the gateway's own are all that the table names.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	own := documented(t, "../../proxy/telemetry/README.md", `(?m)^\| `+"`"+`(causeway_\w+)`+"`"+` \| (\w+) \|([^|]*)\| (start|first) \|`)
	plugins, err := filepath.Glob("../../proxy/plugin/*/README.md")
	if err != nil || len(plugins) < 3 {
		t.Fatal(plugins, err)
	}
	named := map[string]bool{}
	for _, file := range plugins {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(causeway_\\w+)`").FindAllStringSubmatch(string(text), -1) {
			named[m[1]] = true
		}
	}
	backend, sink := echo.Start(t, "127.0.0.1:0", "a"), collector.Start(t)
	g := startGateway(t, traced(t, backend.Address, otlp("grpc", sink.GRPC)))
	g.call("GET", "/v1/echo/x", "")
	waitFor(t, "something is sent", func() bool { return len(sink.Lines()) > 0 && len(sink.Spans()) > 0 })
	var body string
	waitFor(t, "it is counted", func() bool {
		body = g.control("GET", "/metrics", nil).body
		return strings.Contains(body, `causeway_telemetry_sent_total{signal="traces"}`)
	})
	scraped := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (causeway_\w+) (\w+)$`).FindAllStringSubmatch(body, -1) {
		name := m[1]
		scraped[name] = true
		d, ok := own[name]
		if !ok {
			if !named[name] {
				t.Errorf("%s is in no README: add it to the table of proxy/telemetry/README.md or to its plugin's", name)
			}
			continue
		}
		labels := regexp.MustCompile(`(?m)^` + name + `(?:\{([^}]*)\})? `).FindStringSubmatch(body)[1]
		var found []string
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(labels, -1) {
			found = append(found, l[1])
		}
		slices.Sort(found)
		if d.kind != m[2] || !slices.Equal(found, d.labels) {
			t.Errorf("%s is a %s with labels %v, the README says %s with %v", name, m[2], found, d.kind, d.labels)
		}
	}
	for name, d := range own {
		if d.from == "start" && !scraped[name] {
			t.Errorf("%s is in the README and not in a scrape", name)
		}
	}
}

// metricRow is a row of a README's table of metrics.
type metricRow struct {
	kind, from string
	labels     []string
}

func documented(t *testing.T, file, row string) map[string]metricRow {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]metricRow{}
	for _, m := range regexp.MustCompile(row).FindAllStringSubmatch(string(text), -1) {
		var labels []string
		for _, l := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[3], -1) {
			labels = append(labels, l[1])
		}
		slices.Sort(labels)
		rows[m[1]] = metricRow{kind: m[2], from: m[4], labels: labels}
	}
	if len(rows) < 15 {
		t.Fatalf("%d rows in %s", len(rows), file)
	}
	return rows
}

// TestSeriesGoWithTheirConsumer: what a removed consumer and a removed route were counted under goes with them.
func TestSeriesGoWithTheirConsumer(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	text := strings.Replace(echoConfig(t, t.TempDir(), backend.Address), "  - name: metrics\n",
		"  - name: metrics\n    config: {consumers: true, apisix: true}\n", 1)
	route := func(name, methods string) string {
		return "  - {name: " + name + ", methods: ['demo.echo.v1.Echo/" + methods + "'], service: echo, plugins: [{name: key_auth}]}\n"
	}
	consumer := func(name, key string) string {
		return "  - {name: " + name + ", credentials: [{plugin: key_auth, config: {key: '" + key + "'}}]}\n"
	}
	g := startGateway(t, text+"routes:\n"+route("one", "Call")+route("two", "Fail")+"consumers:\n"+consumer("shop", shopKey)+consumer("depot", shopKey+"2"))
	calls := func() {
		for _, key := range []string{shopKey, shopKey + "2"} {
			g.call("GET", "/v1/echo/x", "", "x-api-key", key)
			g.call("GET", "/v1/fail/5", "", "x-api-key", key)
		}
	}
	calls()
	before := g.control("GET", "/metrics", nil).body
	for _, want := range []string{`consumer="shop"`, `consumer="depot"`, `route="one"`, `route="two"`, `apisix_http_status{code="404",consumer="depot"`} {
		if !strings.Contains(before, want) {
			t.Errorf("no series with %s", want)
		}
	}
	revision := g.gateway.Current().Revision
	g.write(text + "routes:\n" + route("one", "*") + "consumers:\n" + consumer("shop", shopKey))
	waitFor(t, "the change", func() bool { return g.gateway.Current().Revision > revision })
	calls()
	after := g.control("GET", "/metrics", nil).body
	for _, gone := range []string{`consumer="depot"`, `route="two"`} {
		if strings.Contains(after, gone) {
			t.Errorf("still series with %s", gone)
		}
	}
	if !strings.Contains(after, `consumer="shop"`) || !strings.Contains(after, `code="UNAUTHENTICATED",consumer=""`) {
		t.Errorf("the calls of who is left, and of nobody, are not counted")
	}
}

// TestObservabilityPrints: the commands print the files.
func TestObservabilityPrints(t *testing.T) {
	for name, want := range map[string][]byte{"dashboard": dashboard, "alerts": alerts, "runbooks": runbooks} {
		var out bytes.Buffer
		root := rootCommand()
		root.SetOut(&out)
		root.SetArgs([]string{"observability", name})
		if err := root.Execute(); err != nil || !bytes.Equal(out.Bytes(), want) || len(want) == 0 {
			t.Errorf("%s: %d bytes, %v", name, out.Len(), err)
		}
	}
	root := rootCommand()
	root.SetArgs([]string{"observability", "alrets"})
	if err := root.Execute(); err == nil || !strings.Contains(err.Error(), `did you mean`) || exitCode(err) != exitUsage {
		t.Errorf("error %v", err)
	}
}
