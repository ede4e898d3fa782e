package metrics

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"

	metricsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/metrics/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
)

// readme returns the README and its examples: the blocks fenced as yaml.
func readme(t *testing.T) (text string, examples []string) {
	t.Helper()
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text = string(b)
	for i, part := range strings.Split(text, "```yaml\n") {
		if i > 0 {
			example, _, closed := strings.Cut(part, "```")
			if !closed {
				t.Fatal("a fence is not closed")
			}
			examples = append(examples, example)
		}
	}
	if len(examples) == 0 {
		t.Fatal("no example")
	}
	return text, examples
}

// TestReadme reads every example as the gateway would, makes the plugin of it, and looks for every key in the table.
func TestReadme(t *testing.T) {
	text, examples := readme(t)
	for _, example := range examples {
		var doc struct {
			Plugins []struct {
				Name   string
				Config map[string]any
			}
		}
		dec := yaml.NewDecoder(strings.NewReader(example))
		dec.KnownFields(true)
		if err := dec.Decode(&doc); err != nil {
			t.Fatalf("%v in\n%s", err, example)
		}
		for _, p := range doc.Plugins {
			if p.Name != Kind.Name {
				t.Errorf("the example is of %q, want %q", p.Name, Kind.Name)
			}
			js, err := json.Marshal(p.Config)
			if err != nil {
				t.Fatal(err)
			}
			conf := Kind.Config()
			if err := protojson.Unmarshal(js, conf); err != nil { // strict: unknown keys are errors
				t.Fatalf("%v in\n%s", err, example)
			}
			meter, err := telemetry.NewMeter()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Kind.New(conf, plugin.Env{Meter: meter}); err != nil {
				t.Error(err)
			}
		}
	}
	fields := Kind.Config().ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if key := "| `" + fields.Get(i).JSONName() + "` |"; !strings.Contains(text, key) {
			t.Errorf("the key %s is not in the README's table", fields.Get(i).JSONName())
		}
	}
}

// TestReadmeNamesEveryMetric holds the README's table against what comes out at /metrics: names, types and labels.
func TestReadmeNamesEveryMetric(t *testing.T) {
	text, _ := readme(t)
	type metric struct{ Kind, Labels string }
	want := map[string]metric{}
	row := regexp.MustCompile("(?m)^\\| `(causeway_[a-z_]+)` \\| (counter|gauge|histogram) \\| ([^|]*) \\|")
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		want[m[1]] = metric{m[2], m[3]}
	}

	m, meter := newMetrics(t, &metricsv1.Metrics{})
	if err := m.Wrap(pass{}).Handle(t.Context(), call("orders", "Get")); err != nil {
		t.Fatal(err)
	}
	m.Done(call("orders", "Get"), sent(codes.OK, 200))
	rec := httptest.NewRecorder()
	meter.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body := rec.Body.String()
	got := map[string]metric{}
	for _, typ := range regexp.MustCompile(`(?m)^# TYPE (causeway_\S+) (\S+)$`).FindAllStringSubmatch(body, -1) {
		name := typ[1]
		for w := range strings.SplitSeq(want[name].Labels, ", ") {
			label := strings.Trim(w, "`")
			if !regexp.MustCompile(`(?m)^` + name + `[a-z_]*\{([^}]*,)?` + label + `="`).MatchString(body) {
				t.Errorf("%s has no label %q", name, label)
			}
		}
		sample := regexp.MustCompile(`(?m)^` + name + `(_sum)?\{([^}]*)\}`).FindStringSubmatch(body)
		if n := strings.Count(sample[2], `="`); n != strings.Count(want[name].Labels, "`")/2 {
			t.Errorf("%s has %d labels, the README names %s", name, n, want[name].Labels)
		}
		got[name] = metric{typ[2], want[name].Labels}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-README +scraped):\n%s", diff)
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
