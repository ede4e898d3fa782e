package proxy

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-gateway/causeway/proxy/telemetry"
)

func testMemory(t *testing.T, own int64, used *uint64) (m *memory, shed *[]pressure, tuned *[]int64) {
	t.Helper()
	meter, err := telemetry.NewMeter()
	if err != nil {
		t.Fatal(err)
	}
	shed, tuned = new([]pressure), new([]int64)
	m, err = newMemory(meter, slog.New(slog.DiscardHandler), own, func(limit int64) { *tuned = append(*tuned, limit) }, func(p pressure) { *shed = append(*shed, p) })
	if err != nil {
		t.Fatal(err)
	}
	m.used = func() uint64 { return *used }
	return m, shed, tuned
}

func TestMemoryPressure(t *testing.T) {
	used := uint64(0)
	m, shed, _ := testMemory(t, 0, &used)
	m.limit.Store(1000)
	for i, step := range []struct {
		used uint64
		want pressure
	}{
		{0, relaxed},
		{849, relaxed},
		{850, closeIdle},
		{840, closeIdle},
		{829, relaxed},
		{920, keepNone},
		{901, keepNone},
		{899, closeIdle},
		{949, keepNone},
		{950, refuse},
		{931, refuse},
		{929, keepNone},
		{2000, refuse},
		{840, closeIdle},
		{100, relaxed},
	} {
		before, was := len(*shed), pressure(m.now.Load())
		used = step.used
		m.look()
		if p := pressure(m.now.Load()); p != step.want || m.gauge.Value() != int64(p) {
			t.Errorf("step %d, %d used: want %d, found %d", i, step.used, step.want, p)
		}
		if (m.refusal() != nil) != (step.want == refuse) {
			t.Errorf("step %d: refused %v", i, m.refusal())
		}
		if acted := len(*shed) > before; acted != (step.want > relaxed || was > relaxed) {
			t.Errorf("step %d: acted %v", i, acted)
		}
	}
	if m.denied.Value() == 0 {
		t.Error("want refusals counted")
	}
}

// The watch runs while there is a limit: the configuration's, else the process's own.
func TestMemoryIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		used := uint64(990)
		m, shed, tuned := testMemory(t, 1000, &used)
		m.setLimit(0)
		time.Sleep(memoryTick + 1)
		synctest.Wait()
		if len(*shed) != 1 || (*shed)[0] != refuse {
			t.Errorf("found %v", *shed)
		}
		m.setLimit(2000)
		time.Sleep(memoryTick)
		synctest.Wait()
		if pressure(m.now.Load()) != relaxed || !slices.Equal(*shed, []pressure{refuse, relaxed}) {
			t.Errorf("found %v", *shed)
		}
		m.setLimit(2000) // nothing changes
		m.own = 0
		m.setLimit(0)
		synctest.Wait()
		m.setLimit(1000)
		time.Sleep(memoryTick + 1)
		synctest.Wait()
		m.close()
		m.close()
		if pressure(m.now.Load()) != relaxed || !slices.Equal(*tuned, []int64{1000, 2000, 0, 1000}) {
			t.Errorf("found %v, tuned %v", m.now.Load(), *tuned)
		}
	})
}

// What acts on pressure may fail; the watch goes on.
func TestMemoryWatchOutlivesPanics(t *testing.T) {
	used := uint64(1)
	m, _, _ := testMemory(t, 0, &used)
	m.limit.Store(1)
	m.shed = func(pressure) { panic("on purpose") }
	m.look()
	if pressure(m.now.Load()) != refuse {
		t.Errorf("found %d", m.now.Load())
	}
}

func TestUsedMemory(t *testing.T) {
	before := usedMemory()
	ballast := bytes.Repeat([]byte{1}, 64<<20)
	if after := usedMemory(); before == 0 || after < before+60<<20 {
		t.Errorf("found %d, then %d", before, after)
	}
	_ = ballast[0]
}

func TestConnectionLimit(t *testing.T) {
	for _, tc := range []struct {
		configured, files, want int64
		told                    bool
	}{
		{0, 20_000, 10_000, false},
		{0, 1 << 30, 100_000, false},
		{0, 1, 1, false},
		{500, 1024, 500, false},
		{1000, 1024, 960, true},
		{1000, 10, 1, true},
	} {
		var log bytes.Buffer
		got := connectionLimit(tc.configured, tc.files, slog.New(slog.NewTextHandler(&log, nil)))
		if got != tc.want || strings.Contains(log.String(), "ulimit") != tc.told {
			t.Errorf("%d of %d: want %d, found %d, log %s", tc.configured, tc.files, tc.want, got, &log)
		}
	}
	if n := files(); n < 64 {
		t.Errorf("found %d files", n)
	}
}
