package metrics

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	metricsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/metrics/v1"
	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

var start = time.Now()

func newMetrics(t testing.TB, conf *metricsv1.Metrics) (*metrics, *telemetry.Meter) {
	t.Helper()
	meter, err := telemetry.NewMeter()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Kind.New(conf, plugin.Env{Meter: meter})
	if err != nil {
		t.Fatal(err)
	}
	return p.(*metrics), meter
}

// scrape returns the lines of a scrape that are ours, without those that begin with #.
func scrape(meter *telemetry.Meter) []string {
	rec := httptest.NewRecorder()
	meter.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var lines []string
	for line := range strings.Lines(rec.Body.String()) {
		if strings.HasPrefix(line, "causeway_") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func call(route, method string) *rpc.Call {
	c := &rpc.Call{
		Route: route, Protocol: "rest", Times: rpc.Times{Start: start, Upstream: time.Second / 4}, Attempts: 1,
		HTTP: &rpc.HTTP{Method: "GET", Host: "example.com", Path: "/x"},
	}
	if route != "" {
		c.Service = "backend"
	}
	if method != "" {
		c.Method = &schema.Method{Name: "/acme.v1.Orders/" + method}
	}
	return c
}

func sent(code codes.Code, status int) rpc.Sent {
	return rpc.Sent{Code: code, Status: status, BytesIn: 10, BytesOut: 20, End: start.Add(time.Second / 2)}
}

func TestScrape(t *testing.T) {
	m, meter := newMetrics(t, &metricsv1.Metrics{Buckets: []float64{0.25, 1}})
	m.Done(call("orders", "Get"), sent(codes.OK, 200))
	m.Done(call("orders", "Get"), sent(codes.OK, 200))
	m.Done(call("orders", "Get"), sent(codes.NotFound, 404))
	refused := call("orders", "Get")
	refused.Attempts, refused.Times.Upstream = 0, 0
	m.Done(refused, sent(codes.ResourceExhausted, 429))
	m.Done(call("", ""), sent(codes.NotFound, 404))
	tars := call("orders", "Get")
	tars.Protocol, tars.HTTP = "tars", nil
	m.Done(tars, sent(99, 0))
	want := []string{
		`causeway_request_bytes_total{consumer="",route="orders",rpc_method="acme.v1.Orders/Get",service="backend"} 50`,
		`causeway_request_bytes_total{consumer="",route="unmatched",rpc_method="",service=""} 10`,
		`causeway_request_duration_seconds_bucket{consumer="",route="orders",rpc_method="acme.v1.Orders/Get",service="backend",le="0.25"} 0`,
		`causeway_request_duration_seconds_bucket{consumer="",route="orders",rpc_method="acme.v1.Orders/Get",service="backend",le="1"} 5`,
		`causeway_request_duration_seconds_bucket{consumer="",route="orders",rpc_method="acme.v1.Orders/Get",service="backend",le="+Inf"} 5`,
		`causeway_request_duration_seconds_sum{consumer="",route="orders",rpc_method="acme.v1.Orders/Get",service="backend"} 2.5`,
		`causeway_request_duration_seconds_count{consumer="",route="orders",rpc_method="acme.v1.Orders/Get",service="backend"} 5`,
		`causeway_request_duration_seconds_bucket{consumer="",route="unmatched",rpc_method="",service="",le="0.25"} 0`,
		`causeway_request_duration_seconds_bucket{consumer="",route="unmatched",rpc_method="",service="",le="1"} 1`,
		`causeway_request_duration_seconds_bucket{consumer="",route="unmatched",rpc_method="",service="",le="+Inf"} 1`,
		`causeway_request_duration_seconds_sum{consumer="",route="unmatched",rpc_method="",service=""} 0.5`,
		`causeway_request_duration_seconds_count{consumer="",route="unmatched",rpc_method="",service=""} 1`,
		`causeway_requests_total{code="NOT_FOUND",consumer="",protocol="rest",route="orders",rpc_method="acme.v1.Orders/Get",service="backend",status="404"} 1`,
		`causeway_requests_total{code="NOT_FOUND",consumer="",protocol="rest",route="unmatched",rpc_method="",service="",status="404"} 1`,
		`causeway_requests_total{code="OK",consumer="",protocol="rest",route="orders",rpc_method="acme.v1.Orders/Get",service="backend",status="200"} 2`,
		`causeway_requests_total{code="RESOURCE_EXHAUSTED",consumer="",protocol="rest",route="orders",rpc_method="acme.v1.Orders/Get",service="backend",status="429"} 1`,
		`causeway_requests_total{code="UNKNOWN",consumer="",protocol="tars",route="orders",rpc_method="acme.v1.Orders/Get",service="backend",status=""} 1`,
		`causeway_response_bytes_total{consumer="",route="orders",rpc_method="acme.v1.Orders/Get",service="backend"} 100`,
		`causeway_response_bytes_total{consumer="",route="unmatched",rpc_method="",service=""} 20`,
		`causeway_upstream_duration_seconds_bucket{rpc_method="acme.v1.Orders/Get",service="backend",le="0.25"} 4`,
		`causeway_upstream_duration_seconds_bucket{rpc_method="acme.v1.Orders/Get",service="backend",le="1"} 4`,
		`causeway_upstream_duration_seconds_bucket{rpc_method="acme.v1.Orders/Get",service="backend",le="+Inf"} 4`,
		`causeway_upstream_duration_seconds_sum{rpc_method="acme.v1.Orders/Get",service="backend"} 1`,
		`causeway_upstream_duration_seconds_count{rpc_method="acme.v1.Orders/Get",service="backend"} 4`,
	}
	if diff := cmp.Diff(want, scrape(meter)); diff != "" {
		t.Errorf("scrape (-want +got):\n%s", diff)
	}
}

// TestRequestsMakeNoSeries: whatever a million callers write in their requests, the series are the same (L3).
func TestRequestsMakeNoSeries(t *testing.T) {
	m, meter := newMetrics(t, &metricsv1.Metrics{})
	m.Done(call("", ""), sent(codes.NotFound, 404))
	m.Done(call("orders", "Get"), sent(codes.OK, 200))
	before := len(scrape(meter))
	n := 1_000_000
	if testing.Short() || raceEnabled {
		n = 20_000
	}
	for i := range n {
		random := fmt.Sprint("r", i)
		c := call("", "")
		if i%2 == 0 {
			c = call("orders", "Get")
		}
		c.ID, c.Consumer = random, nil
		c.HTTP.Method, c.HTTP.Host, c.HTTP.Path, c.HTTP.Query = random, random, random, random
		c.HTTP.Header = rpc.Metadata{{Key: "user-agent", Value: random}, {Key: random, Value: random}}
		c.Header = c.HTTP.Header
		if i%2 == 0 {
			m.Done(c, sent(codes.OK, 200))
		} else {
			m.Done(c, sent(codes.NotFound, 404))
		}
	}
	if after := len(scrape(meter)); after != before {
		t.Errorf("%d lines in the scrape, were %d", after, before)
	}
}

// TestStatusIsBounded: an upstream that invents codes and statuses makes a bounded number of series.
func TestStatusIsBounded(t *testing.T) {
	m, _ := newMetrics(t, &metricsv1.Metrics{})
	for _, status := range []int{-1, 0, 99, 600, math.MaxInt} {
		for _, code := range []codes.Code{codes.Unknown, 17, math.MaxUint32} {
			m.Done(call("orders", "Get"), sent(code, status))
		}
	}
	if n := m.requests.Len(); n != 1 {
		t.Errorf("%d series, want 1", n)
	}
}

// TestRemovedSeriesComeBack: a route that is removed and added again is counted from zero, and is counted.
func TestRemovedSeriesComeBack(t *testing.T) {
	m, meter := newMetrics(t, &metricsv1.Metrics{})
	m.Done(call("old", "Get"), sent(codes.OK, 200))
	meter.Keep("route", func(string) bool { return false })
	for _, line := range scrape(meter) {
		if strings.Contains(line, `"old"`) {
			t.Errorf("still there: %s", line)
		}
	}
	m.Done(call("old", "Get"), sent(codes.OK, 200))
	found := false
	for _, line := range scrape(meter) {
		found = found || strings.HasPrefix(line, "causeway_requests_total{") && strings.HasSuffix(line, "} 1")
	}
	if !found {
		t.Errorf("the route's calls are not counted any more:\n%s", strings.Join(scrape(meter), "\n"))
	}
}

func TestConfigErrors(t *testing.T) {
	_, meter := newMetrics(t, &metricsv1.Metrics{Buckets: []float64{1}})
	for _, tt := range []struct {
		buckets []float64
		want    string
	}{
		{[]float64{0.1, 0.1}, `buckets[1]: want bounds in seconds above 0 that rise, found 0.1`},
		{[]float64{-1}, `buckets[0]: want bounds in seconds above 0 that rise, found -1`},
		{[]float64{0, 1}, `buckets[0]: want bounds in seconds above 0 that rise, found 0`},
		{[]float64{1, math.NaN()}, `buckets[1]: want bounds in seconds above 0 that rise, found NaN`},
		{[]float64{1, math.Inf(1)}, `buckets[1]: want bounds in seconds above 0 that rise, found +Inf`},
		{make([]float64, 51), `buckets: want at most 50, found 51`},
		{[]float64{2}, `metric causeway_request_duration_seconds: asked for as histogram{route,service,rpc_method,consumer}, unit "s", ` +
			`help "Time from a call's head to the last byte of its answer.", buckets [2], but is histogram{route,service,rpc_method,consumer}, unit "s", ` +
			`help "Time from a call's head to the last byte of its answer.", buckets [1] since the start; restart to change it`},
	} {
		_, err := Kind.New(&metricsv1.Metrics{Buckets: tt.buckets}, plugin.Env{Meter: meter})
		if err == nil || err.Error() != tt.want {
			t.Errorf("buckets %v\n got %v\nwant %s", tt.buckets, err, tt.want)
		}
	}
	if _, err := Kind.New(&ordersv1.Order{}, plugin.Env{Meter: meter}); err == nil ||
		err.Error() != "want a configuration of type *metricsv1.Metrics, found *ordersv1.Order" {
		t.Errorf("error %v", err)
	}
}

// TestConcurrentCalls counts calls of many sorts at once, while series are removed; those that stay are exact.
func TestConcurrentCalls(t *testing.T) {
	m, meter := newMetrics(t, &metricsv1.Metrics{})
	const goroutines, calls = 4, 3000
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range calls {
				c := call(fmt.Sprint("route", i%40), fmt.Sprint("Method", i%7))
				m.Done(c, sent(codes.Code(i%17), 200+i%3))
				m.Done(call("kept", "Get"), sent(codes.OK, 200+i%2))
				if g == 0 && i%300 == 0 {
					meter.Keep("route", func(route string) bool { return route == "kept" })
				}
			}
		})
	}
	wg.Wait()
	var n int64
	for _, status := range []string{"200", "201"} {
		n += m.requests.With("kept", "backend", "acme.v1.Orders/Get", "rest", "", "OK", status).Value()
	}
	if n != goroutines*calls {
		t.Errorf("counted %d calls, want %d", n, goroutines*calls)
	}
}

func TestTable(t *testing.T) {
	var tab table[int, *int]
	made := 0
	for round := range 3 {
		for i := range 10_000 {
			p := tab.obtain(i, func() *int { made++; return new(i) })
			if *p != i {
				t.Fatalf("round %d: key %d has value %d", round, i, *p)
			}
		}
	}
	if made != 10_000 {
		t.Errorf("%d values made, want 10000", made)
	}
	// Whoever is asked for again and again is soon found without the lock.
	for i := range 10_000 {
		tries := 0
		for p, ok := tab.get(i); !ok || *p != i; p, ok = tab.get(i) {
			if tries++; ok || tries > 10_000/8+1 {
				t.Fatalf("key %d is not settled after %d tries", i, tries)
			}
			tab.obtain(i, func() *int { t.Error("made again"); return nil })
		}
	}
}

func TestCallAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m, _ := newMetrics(t, &metricsv1.Metrics{})
	c, s := call("orders", "Get"), sent(codes.OK, 200)
	if n := testing.AllocsPerRun(100, func() { m.Done(c, s) }); n != 0 {
		t.Errorf("%v allocations per call, want 0", n)
	}
}

func BenchmarkCall(b *testing.B) {
	for _, routes := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("%d routes", routes), func(b *testing.B) {
			m, _ := newMetrics(b, &metricsv1.Metrics{})
			s := sent(codes.OK, 200)
			calls := make([]*rpc.Call, routes)
			for i := range calls {
				calls[i] = call(fmt.Sprint("orders", i), "Get")
			}
			for range 3 {
				for _, c := range calls {
					m.Done(c, s)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				c := calls[i%routes]
				m.Done(c, s)
			}
		})
	}
}

// BenchmarkFirstCalls is what 10,000 routes cost when each is called for the first time.
func BenchmarkFirstCalls(b *testing.B) {
	s := sent(codes.OK, 200)
	for b.Loop() {
		m, _ := newMetrics(b, &metricsv1.Metrics{})
		for i := range 10_000 {
			m.Done(call(fmt.Sprint("orders", i), "Get"), s)
		}
	}
}
