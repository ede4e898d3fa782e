package proxy_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/proxy/breaker"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// What says nothing of the service, such as that nobody could be asked, is no proof that it is well again.
func TestBreakerIsNotClosedByWhatSaysNothing(t *testing.T) {
	b := mustBench(t, serviceOf("outliers: {off: true}, retry: {attempts: 1}, breaker: {failure_rate: 0.5, min_calls: 10, open: 0.05s}"))
	var err error = torn
	b.at = func(_ context.Context, _ string, _ *rpc.Call, out *rpc.Reply) error {
		if err == nil {
			hello(out)
		}
		return err
	}
	phase := func() breaker.Phase { return b.gateway.Services()[0].Breaker.Phase }
	for phase() != breaker.Open {
		b.visit("POST", write, "")
	}
	err = refusedBy
	for n := 0; n < 20; {
		v := b.visit("POST", write, "")
		if !strings.Contains(string(v.answer), "BREAKER_OPEN") {
			n++
		}
		time.Sleep(time.Millisecond) // it is open for a moment
	}
	if p := phase(); p != breaker.HalfOpen {
		t.Errorf("want it half-open as long as no call says anything of the service, found %s", p)
	}
	err = nil
	for phase() != breaker.Closed {
		b.visit("POST", write, "")
	}
}

// A panic counts as a failure in streams, too, and gives the place back.
func TestBreakerCountsPanicsOfStreams(t *testing.T) {
	b, _ := chatBench(t, newQuietCaller(), func(context.Context, *rpc.Call) (rpcadapters.ClientStream, error) { panic("boom") })
	b.set(strings.Replace(*b.text.Load(), "endpoints:", "outliers: {off: true}, breaker: {max_calls: 100, failure_rate: 0.5, min_calls: 10, open: 60s}, endpoints:", 1))
	if err := b.gateway.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		b.visit("POST", "/v1/rooms/a:talk", "")
	}
	if s := b.gateway.Services()[0].Breaker; s.Phase != breaker.Open || s.Inside != 0 {
		t.Errorf("want it open and nobody inside, found %+v", s)
	}
}

// A breaker that the configuration does not have any more is not open for ever in the metrics.
func TestBreakerLeavesTheMetrics(t *testing.T) {
	const broken = "outliers: {off: true}, retry: {attempts: 1}"
	b := mustBench(t, serviceOf(broken+", breaker: {failure_rate: 0.5, min_calls: 10, open: 60s}"))
	b.at = func(context.Context, string, *rpc.Call, *rpc.Reply) error { return torn }
	for range 20 {
		b.visit("POST", write, "")
	}
	series := func() (found []float64) {
		b.gateway.Sample()
		b.meter.Each("causeway_breaker_open", func(v float64, _ []string) { found = append(found, v) })
		return found
	}
	if s := series(); len(s) != 1 || s[0] != 1 {
		t.Fatalf("want an open breaker, found %v", s)
	}
	b.set(serviceOf(broken))
	if err := b.gateway.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s := series(); len(s) != 0 {
		t.Errorf("want nothing of a breaker that is not there, found %v", s)
	}
}
