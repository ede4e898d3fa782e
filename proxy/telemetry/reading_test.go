package telemetry

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func scraped(t *testing.T, m *Meter, prefix string) string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	var b strings.Builder
	for l := range strings.Lines(rec.Body.String()) {
		if strings.HasPrefix(l, prefix) {
			b.WriteString(l)
		}
	}
	return b.String()
}

// TestReadings: values under other names are read when somebody collects, of several the last ones, and are gone when stopped.
func TestReadings(t *testing.T) {
	m := newMeter(t)
	c := must[*CounterVec](t)(m.Counter("causeway_x_total", "", "X.", "a", "b"))
	c.With("1", "2").Add(3)
	c.With("1", "3").Add(4)
	sum := Reading{Name: "other_x_total", Help: "X.", Read: func(add func(float64, ...string)) { add(m.Sum("causeway_x_total")) }}
	each := Reading{Name: "other_x", Help: "X.", Labels: []string{"b"}, Read: func(add func(float64, ...string)) {
		m.Each("causeway_x_total", func(v float64, labels []string) { add(v, labels[1]) })
		add(1, "too", "many")
	}}
	stop := must[func()](t)(m.Reading(sum))
	stopEach := must[func()](t)(m.Reading(each))
	want := "other_x{b=\"2\"} 3\nother_x{b=\"3\"} 4\nother_x_total 7\n"
	if got := scraped(t, m, "other_"); got != want {
		t.Errorf("scrape\n%swant\n%s", got, want)
	}
	sum.Read = func(add func(float64, ...string)) { add(-1) }
	stopSecond := must[func()](t)(m.Reading(sum))
	if got := scraped(t, m, "other_x_total"); got != "other_x_total -1\n" {
		t.Errorf("scrape %s", got)
	}
	stop()
	stop()
	stopSecond()
	stopEach()
	if got := scraped(t, m, "other_"); got != "" {
		t.Errorf("still there: %s", got)
	}
	if m.Sum("causeway_none") != 0 {
		t.Error("a sum of nothing")
	}
	if _, err := m.Reading(Reading{Name: "causeway_y", Help: "Y.", Read: sum.Read}); err == nil {
		t.Error("a foreign metric has a name of ours")
	}
}

// TestForeign: instruments with other names, in milliseconds.
func TestForeign(t *testing.T) {
	m := newMeter(t)
	h := must[*HistogramVec](t)(m.ForeignHistogram("other_latency", "L.", time.Millisecond, []float64{1, 10}, "route"))
	h.With("a").ObserveDuration(2500 * time.Microsecond)
	c := must[*CounterVec](t)(m.ForeignCounter("other_status", "S.", "code"))
	c.With("200").Inc()
	want := "other_latency_bucket{route=\"a\",le=\"1\"} 0\nother_latency_bucket{route=\"a\",le=\"10\"} 1\nother_latency_bucket{route=\"a\",le=\"+Inf\"} 1\n" +
		"other_latency_sum{route=\"a\"} 2.5\nother_latency_count{route=\"a\"} 1\nother_status{code=\"200\"} 1\n"
	if got := scraped(t, m, "other_"); got != want {
		t.Errorf("scrape\n%swant\n%s", got, want)
	}
	epoch := m.Epoch()
	h.Clear()
	c.Clear()
	if got := scraped(t, m, "other_"); got != "" || m.Epoch() == epoch {
		t.Errorf("cleared, and still %s", got)
	}
	for _, name := range []string{"causeway_x", "Other", "other-x"} {
		if _, err := m.ForeignCounter(name, "X."); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}
