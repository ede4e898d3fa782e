package proxy_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/causeway-gateway/causeway/proxy"
)

// What has been replaced is let go, also when each reload changes the service, whose instances go on being checked.
func TestFormerSnapshotsAreLetGo(t *testing.T) {
	b := mustBench(t, serviceOf("health_check: {tcp: {}, interval: 0.1s}"))
	if v := b.visit("GET", read, ""); v.status != 200 {
		t.Fatalf("found %d", v.status)
	}
	checked := func() bool {
		v := b.gateway.Services()[0]
		return len(v.Instances) > 0 && v.Instances[0].Health != nil && v.Instances[0].Health.Known
	}
	for end := time.Now().Add(20 * time.Second); !checked(); time.Sleep(time.Millisecond) { // its prober outlives what follows
		if time.Now().After(end) {
			t.Fatal("want the instances checked")
		}
	}
	var former []weak.Pointer[proxy.Snapshot]
	for i := range 4 {
		former = append(former, weak.Make(b.gateway.Current()))
		b.set(serviceOf(fmt.Sprintf("health_check: {tcp: {}, interval: 0.1s}, outliers: {consecutive: %d}", 7+i)))
		if err := b.gateway.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	gone := func() bool {
		runtime.GC()
		for i := range former {
			if former[i].Value() != nil {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(20 * time.Second); !gone(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("want the former snapshots let go, found %v", former)
		}
	}
}
