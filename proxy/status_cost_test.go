package proxy_test

import (
	"fmt"
	"strings"
	"testing"
)

// What is asked for every second by those who watch the gateway does not describe each instance in words.
func TestLooksAreCheapWithManyInstances(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	var endpoints strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&endpoints, `{address: "10.0.%d.%d:1"}, `, i/250, i%250)
	}
	b := mustBench(t, strings.Replace(document, `{address: "a:1"}`, strings.TrimSuffix(endpoints.String(), ", "), 1))
	b.gateway.Sample()
	for name, tc := range map[string]struct {
		look func()
		most float64
	}{
		"ready":  {func() { b.gateway.Ready() }, 0},
		"status": {func() { b.gateway.Status() }, 100},
		"sample": {b.gateway.Sample, 3000},
	} {
		if n := testing.AllocsPerRun(10, tc.look); n > tc.most {
			t.Errorf("%s: want at most %.0f allocations with 1,001 instances, found %.0f", name, tc.most, n)
		}
	}
}
