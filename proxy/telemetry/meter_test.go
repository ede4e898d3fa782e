package telemetry

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func newMeter(t testing.TB) *Meter {
	t.Helper()
	m, err := NewMeter()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// must returns v of a call that has to succeed.
func must[V any](t testing.TB) func(v V, err error) V {
	t.Helper()
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func scrape(t testing.TB, m *Meter) string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	if got, want := rec.Header().Get("Content-Type"), "text/plain; version=0.0.4"; !strings.HasPrefix(got, want) {
		t.Errorf("content type %q, want %q", got, want)
	}
	return rec.Body.String()
}

// own are the lines of a scrape that are ours.
func own(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "causeway_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestScrape(t *testing.T) {
	m := newMeter(t)
	requests := must[*CounterVec](t)(m.Counter("causeway_requests_total", "", "Calls.", "route", "code"))
	sent := must[*CounterVec](t)(m.Counter("causeway_sent_bytes_total", "By", "Bytes sent."))
	flight := must[*GaugeVec](t)(m.Gauge("causeway_requests_in_flight", "", "Calls now.", "route"))
	ratio := must[*GaugeVec](t)(m.Gauge("causeway_queue_bytes", "By", "Bytes queued."))
	took := must[*HistogramVec](t)(m.Histogram("causeway_request_duration_seconds", "s", "Time.", []float64{0.25, 0.5, 2}, "route"))
	must[*CounterVec](t)(m.Counter("causeway_unused_total", "", "No series, so no family."))

	requests.With("a", "OK").Add(3)
	requests.With("a", "OK").Add(-3)
	requests.With(`q"\`+"\n", "NOT_FOUND").Inc()
	requests.With("bad\xffutf8", "OK").Inc()
	sent.With().Add(1 << 40)
	flight.With("a").Add(2)
	flight.With("a").Add(-3)
	ratio.With().Set(17)
	h := took.With("a")
	h.ObserveDuration(250 * time.Millisecond)
	h.ObserveDuration(1500 * time.Millisecond)
	h.ObserveDuration(-time.Second)
	h.Observe(3)
	h.Observe(math.NaN())
	h.Observe(math.Inf(1))

	want := `# HELP causeway_queue_bytes Bytes queued.
# TYPE causeway_queue_bytes gauge
causeway_queue_bytes 17
# HELP causeway_request_duration_seconds Time.
# TYPE causeway_request_duration_seconds histogram
causeway_request_duration_seconds_bucket{route="a",le="0.25"} 2
causeway_request_duration_seconds_bucket{route="a",le="0.5"} 2
causeway_request_duration_seconds_bucket{route="a",le="2"} 3
causeway_request_duration_seconds_bucket{route="a",le="+Inf"} 4
causeway_request_duration_seconds_sum{route="a"} 4.75
causeway_request_duration_seconds_count{route="a"} 4
# HELP causeway_requests_in_flight Calls now.
# TYPE causeway_requests_in_flight gauge
causeway_requests_in_flight{route="a"} -1
# HELP causeway_requests_total Calls.
# TYPE causeway_requests_total counter
causeway_requests_total{code="NOT_FOUND",route="q\"\\\n"} 1
causeway_requests_total{code="OK",route="a"} 3
causeway_requests_total{code="OK",route="bad�utf8"} 1
# HELP causeway_sent_bytes_total Bytes sent.
# TYPE causeway_sent_bytes_total counter
causeway_sent_bytes_total 1.099511627776e+12
`
	text := scrape(t, m)
	if diff := cmp.Diff(want, own(text)); diff != "" {
		t.Errorf("scrape (-want +got):\n%s", diff)
	}
	for _, name := range []string{"go_goroutines", "process_cpu_seconds_total", "process_open_fds", "go_memstats_heap_alloc_bytes"} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("no %s in the scrape", name)
		}
	}
	for _, noise := range []string{"otel_scope", "target_info", "_ratio", "_total_total"} {
		if strings.Contains(text, noise) {
			t.Errorf("%s in the scrape", noise)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestInstrumentIsMadeOnce(t *testing.T) {
	m := newMeter(t)
	labels := []string{"route"}
	a := must[*HistogramVec](t)(m.Histogram("causeway_x_seconds", "s", "Time.", []float64{1, 2}, labels...))
	labels[0] = "changed by the caller"
	if b := must[*HistogramVec](t)(m.Histogram("causeway_x_seconds", "s", "Time.", []float64{1, 2}, "route")); a != b {
		t.Error("the same shape gave another instrument")
	}
}

func TestInstrumentErrors(t *testing.T) {
	m := newMeter(t)
	must[*HistogramVec](t)(m.Histogram("causeway_x_seconds", "s", "Time.", []float64{1, 2}, "route"))
	must[*CounterVec](t)(m.Counter("causeway_x_total", "", "Calls.", "route"))
	counter := func(name, unit, help string, labels ...string) error {
		_, err := m.Counter(name, unit, help, labels...)
		return err
	}
	gauge := func(name, unit, help string, labels ...string) error {
		_, err := m.Gauge(name, unit, help, labels...)
		return err
	}
	histogram := func(bounds ...float64) error {
		_, err := m.Histogram("causeway_x_seconds", "s", "Time.", bounds, "route")
		return err
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{counter("requests_total", "", "x"), `metric requests_total: want a name of lower case words joined by "_" that begins with causeway_`},
		{counter("causeway_Requests_total", "", "x"), `metric causeway_Requests_total: want a name of lower case words joined by "_" that begins with causeway_`},
		{counter("causeway_requests", "", "x"), `metric causeway_requests: want _total at the end of a counter's name and of no other's`},
		{gauge("causeway_requests_total", "", "x"), `metric causeway_requests_total: want _total at the end of a counter's name and of no other's`},
		{gauge("causeway_size", "By", "x"), `metric causeway_size: want _bytes at the end of the name of a metric in unit "By"`},
		{counter("causeway_cpu_total", "s", "x"), `metric causeway_cpu_total: want _seconds at the end of the name of a metric in unit "s"`},
		{gauge("causeway_size", "ms", "x"), `metric causeway_size: want unit "", "s" or "By", found "ms"`},
		{gauge("causeway_size", "", ""), `metric causeway_size: want a help text`},
		{gauge("causeway_size", "", "x", "a", "a"), `metric causeway_size: want distinct labels of lower case words, found "a"`},
		{gauge("causeway_size", "", "x", "le"), `metric causeway_size: want distinct labels of lower case words, found "le"`},
		{gauge("causeway_size", "", "x", "rpc.method"), `metric causeway_size: want distinct labels of lower case words, found "rpc.method"`},
		{histogram(), `metric causeway_x_seconds: want one bucket or more`},
		{histogram(1, 1), `metric causeway_x_seconds: want finite, rising bucket bounds, found [1 1]`},
		{histogram(1, math.Inf(1)), `metric causeway_x_seconds: want finite, rising bucket bounds, found [1 +Inf]`},
		{histogram(1, 3), `metric causeway_x_seconds: asked for as histogram{route}, unit "s", help "Time.", buckets [1 3], ` +
			`but is histogram{route}, unit "s", help "Time.", buckets [1 2] since the start; restart to change it`},
		{counter("causeway_x_total", "", "Calls.", "service"), `metric causeway_x_total: asked for as counter{service}, unit "", help "Calls.", ` +
			`but is counter{route}, unit "", help "Calls." since the start; restart to change it`},
	} {
		if tt.err == nil || tt.err.Error() != tt.want {
			t.Errorf("error\n got %v\nwant %s", tt.err, tt.want)
		}
	}
}

func TestSeriesAreBounded(t *testing.T) {
	m := newMeter(t)
	v := must[*CounterVec](t)(m.Counter("causeway_x_total", "", "Calls.", "route", "code"))
	const extra = 500
	for i := range maxSeries + extra {
		v.With(strconv.Itoa(i), "OK").Inc()
	}
	v.With("3", "OK").Inc() // known before: not folded
	v.With("wrong number").Inc()
	if got, want := v.Len(), maxSeries+1; got != want {
		t.Errorf("%d series, want %d", got, want)
	}
	text := own(scrape(t, m))
	for _, line := range []string{
		`causeway_x_total{code="OK",route="3"} 2`,
		fmt.Sprintf(`causeway_x_total{code="__other__",route="__other__"} %d`, extra+1),
		fmt.Sprintf(`causeway_metrics_series_folded_total{metric="causeway_x_total"} %d`, extra+1),
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s in the scrape", line)
		}
	}
}

func TestKeepRemovesSeries(t *testing.T) {
	m := newMeter(t)
	requests := must[*CounterVec](t)(m.Counter("causeway_x_total", "", "Calls.", "code", "route"))
	flight := must[*GaugeVec](t)(m.Gauge("causeway_x", "", "Calls now.", "route"))
	plain := must[*GaugeVec](t)(m.Gauge("causeway_y", "", "Something without routes."))
	for _, route := range []string{"old", "new", "", Unmatched, Other} {
		requests.With("OK", route).Inc()
		flight.With(route).Add(1)
	}
	plain.With().Set(1)
	before := m.Epoch()
	m.Keep("route", func(string) bool { return true })
	if m.Epoch() != before {
		t.Error("the epoch changed though nothing was removed")
	}
	m.Keep("route", func(route string) bool { return route == "new" })
	if m.Epoch() == before {
		t.Error("the epoch did not change")
	}
	if text := scrape(t, m); strings.Contains(text, `"old"`) {
		t.Error("removed series are still there")
	}
	if requests.Len() != 4 || flight.Len() != 4 || plain.Len() != 1 {
		t.Errorf("%d, %d and %d series stay, want 4, 4 and 1", requests.Len(), flight.Len(), plain.Len())
	}
	if n := requests.With("OK", "old").Value(); n != 0 {
		t.Errorf("a series that came back begins at %d", n)
	}
	before = m.Epoch()
	flight.Delete("new")
	flight.Delete("never there")
	if flight.Len() != 3 || m.Epoch() != before+1 {
		t.Errorf("%d series and %d epochs after Delete, want 3 and 1", flight.Len(), m.Epoch()-before)
	}
}

// TestConcurrentUse counts, binds, reads and removes at once; what is counted on a kept series is exact.
func TestConcurrentUse(t *testing.T) {
	m := newMeter(t)
	requests := must[*CounterVec](t)(m.Counter("causeway_x_total", "", "Calls.", "route"))
	took := must[*HistogramVec](t)(m.Histogram("causeway_x_seconds", "s", "Time.", []float64{1, 2}, "route"))
	const goroutines, calls = 4, 5000
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range calls {
				requests.With("kept").Inc()
				requests.With(fmt.Sprint("gone", i%50)).Inc()
				took.With("kept").Observe(float64(i % 3))
				if g == 0 && i%500 == 0 {
					m.Keep("route", func(route string) bool { return route == "kept" })
				}
			}
		})
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				scrape(t, m)
			}
		}
	})
	wg.Wait()
	close(stop)
	reader.Wait()
	if got := requests.With("kept").Value(); got != goroutines*calls {
		t.Errorf("counted %d, want %d", got, goroutines*calls)
	}
	h := took.With("kept")
	wantSum := float64(goroutines * (calls/3*3 + 1)) // 0+1+2 per three calls, then 0 and 1
	if h.Count() != goroutines*calls || h.Sum() != wantSum {
		t.Errorf("observed %d with sum %v, want %d with %v", h.Count(), h.Sum(), goroutines*calls, wantSum)
	}
}

func TestHistogramBucketsAgreeWithAScan(t *testing.T) {
	bounds := []float64{-1, 0, 0.0005, 0.1, 1, 2.5, 10}
	for _, v := range []float64{-2, -1, -0.5, 0, 1e-9, 0.0005, 0.00051, 0.1, 1, 2.5, 2.50001, 10, 11, math.MaxFloat64} {
		h := newHistogram(bounds, time.Second)
		h.Observe(v)
		want := len(bounds)
		for i, b := range bounds {
			if v <= b {
				want = i
				break
			}
		}
		if h.buckets[want].Load() != 1 || h.Count() != 1 {
			t.Errorf("%v is not in bucket %d", v, want)
		}
	}
}

func TestCellAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := newMeter(t)
	c := must[*CounterVec](t)(m.Counter("causeway_x_total", "", "Calls.")).With()
	g := must[*GaugeVec](t)(m.Gauge("causeway_x", "", "Calls.")).With()
	h := must[*HistogramVec](t)(m.Histogram("causeway_x_seconds", "s", "Time.", []float64{1, 2})).With()
	if n := testing.AllocsPerRun(100, func() {
		c.Inc()
		g.Add(1)
		h.ObserveDuration(time.Second)
		m.Epoch()
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkCounter(b *testing.B) {
	c := must[*CounterVec](b)(newMeter(b).Counter("causeway_x_total", "", "Calls.")).With()
	b.ReportAllocs()
	for b.Loop() {
		c.Inc()
	}
}

func BenchmarkHistogram(b *testing.B) {
	bounds := []float64{0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10}
	h := must[*HistogramVec](b)(newMeter(b).Histogram("causeway_x_seconds", "s", "Time.", bounds)).With()
	b.ReportAllocs()
	for b.Loop() {
		h.ObserveDuration(3 * time.Millisecond)
	}
}

func BenchmarkScrape10000Series(b *testing.B) {
	m := newMeter(b)
	v := must[*CounterVec](b)(m.Counter("causeway_x_total", "", "Calls.", "route", "code"))
	for i := range maxSeries {
		v.With(strconv.Itoa(i), "OK").Inc()
	}
	b.ResetTimer()
	for b.Loop() {
		scrape(b, m)
	}
}
