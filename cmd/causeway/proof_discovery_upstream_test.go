package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/causeway-gateway/causeway/testdata/load"
)

// startBefore starts a gateway before instances that are written down; more are further keys of the service.
func startBefore(t testing.TB, more string, instances ...*probedInstance) (*gatewayTest, *callers) {
	t.Helper()
	var addresses []string
	for _, p := range instances {
		addresses = append(addresses, p.address)
	}
	dir := t.TempDir()
	text := echoConfig(t, dir, addresses...)
	text = text[:strings.Index(text, "plugins:\n")] + more
	g, err := tryGateway(t, dir, text)
	if err != nil {
		t.Fatal(err)
	}
	return g, startCallers(t, strings.TrimPrefix(g.url, "http://"))
}

// When every instance refuses every call, retries add a fifth of the calls and three, not more.
func TestProofRetryStorm(t *testing.T) {
	calls, rate := 200, 50
	if full() {
		calls, rate = 50_000, 1000
	} else {
		t.Parallel()
	}
	var instances []*probedInstance
	for _, name := range []string{"a", "b", "c"} {
		p := startProbed(t, "127.0.0.1", name)
		p.answer = func() error { return status.Error(codes.Unavailable, "not now") }
		instances = append(instances, p)
	}
	_, c := startBefore(t, "    retry: {idempotent: true, codes: [UNAVAILABLE]}\n", instances...)
	l := load.Start(rate, patient, c.all()...)
	defer l.Stop()
	passes(t, l, calls)
	r := l.Stop()
	arrived := int64(0)
	for _, p := range instances {
		arrived += p.calls.Load()
	}
	t.Logf("PROOF retry storm: %d calls, all refused; %d arrived, %.3f of each", r.Ended, arrived, float64(arrived)/float64(r.Ended))
	if r.Failed != r.Ended || r.Ended != r.Started {
		t.Errorf("want all calls refused, found %s", r.String())
	}
	if most := int64(r.Ended)*12/10 + 3; arrived > most || full() && arrived < int64(r.Ended)*11/10 || arrived == 0 {
		t.Errorf("want at most %d to arrive, and some retries, found %d", most, arrived)
	}
}

// One of four instances takes half a second longer than the others. Within ten seconds hardly a call meets it.
func TestProofSlowInstance(t *testing.T) {
	if !full() {
		t.Parallel()
	}
	for name, keys := range map[string]string{
		"ejected":     "    outliers: {latency_factor: 3}\n    balancer: {slow_start: 10s}\n",
		"passed over": "    balancer: {policy: peak_ewma}\n",
	} {
		t.Run(name, func(t *testing.T) {
			// In the short form it is slower: the others may take long, too.
			rate, by, found, length := 50, 2*time.Second, 10*time.Second, 20*time.Second
			if full() {
				rate, by = 400, 500*time.Millisecond
			} else {
				t.Parallel()
			}
			var instances []*probedInstance
			for _, name := range []string{"a", "b", "c", "slow"} {
				instances = append(instances, startProbed(t, "127.0.0.1", name))
			}
			slow := instances[3]
			slow.answer = func() error { time.Sleep(by); return nil }
			_, c := startBefore(t, keys, instances...)
			l := load.Start(rate, patient, c.all()...)
			defer l.Stop()
			if full() {
				time.Sleep(found + length)
			} else {
				// Until of two hundred calls in a row hardly one has met it.
				await(t, "the slow instance to be found", func() bool {
					ended, _ := l.Ended()
					before := slow.calls.Load()
					passes(t, l, 2*rate)
					now, _ := l.Ended()
					return slow.calls.Load()-before <= int64(now-ended)/50
				})
			}
			r := l.Stop()
			t.Logf("PROOF one slow instance, %s: %s", name, r.String())
			if err := r.Err(); err != nil && full() {
				t.Error(err)
			}
			p99 := r.Percentile(99, found, 0)
			t.Logf("PROOF one slow instance, %s: %d of %d calls met it; p99 %s, after %s %s", name, slow.calls.Load(), r.Ended, ms(r.Percentile(99, 0, 0)), found, ms(p99))
			within(t, "p99", p99, 100*time.Millisecond)
		})
	}
}
