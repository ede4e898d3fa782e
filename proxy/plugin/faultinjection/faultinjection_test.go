package faultinjection

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) {
	env := plugintest.Env(t)
	plugintest.Readme(t, Kind, env)
	plugintest.Metrics(t, Kind, env)
}

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing", Config: `{}`, Path: "", Want: "neither", Fix: "delay"},
		{Name: "no time", Config: `{delay: {percent: 1}}`, Path: "delay.duration", Want: "found 0s", Fix: "1.5s"},
		{Name: "long", Config: `{delay: {duration: 601s}}`, Path: "delay.duration", Want: "found 10m1s", Fix: "1.5s"},
		{Name: "share", Config: `{delay: {duration: 1s, percent: 101}}`, Path: "delay.percent", Want: "found 101", Fix: "0 to 100"},
		{Name: "no number", Config: `{abort: {code: ABORTED, percent: NaN}}`, Path: "abort.percent", Want: "found NaN", Fix: "0 to 100"},
		{Name: "no error", Config: `{abort: {}}`, Path: "abort", Want: "neither", Fix: "code"},
		{Name: "code", Config: `{abort: {code: unavailable}}`, Path: "abort.code", Want: `"unavailable"`, Fix: "capitals"},
		{Name: "success", Config: `{abort: {code: OK}}`, Path: "abort.code", Want: `"OK"`, Fix: "other than OK"},
		{Name: "status", Config: `{abort: {status: 302}}`, Path: "abort.status", Want: "found 302", Fix: "400"},
	})
}

func TestAbort(t *testing.T) {
	for _, tc := range []struct {
		config  string
		code    codes.Code
		status  int
		message string
	}{
		{`{abort: {code: UNAVAILABLE}}`, codes.Unavailable, 0, "a fault on purpose"},
		{`{abort: {status: 503, message: gone}}`, codes.Unavailable, 503, "gone"},
		{`{abort: {status: 418}}`, codes.Unknown, 418, "a fault on purpose"},
		{`{abort: {code: DATA_LOSS, status: 507}}`, codes.DataLoss, 507, "a fault on purpose"},
		{`{delay: {duration: 0.000000001s}, abort: {code: ABORTED}}`, codes.Aborted, 0, "a fault on purpose"},
	} {
		next := &plugintest.Next{}
		h := plugintest.New(t, Kind, plugintest.Env(t), tc.config).Wrap(next)
		err := h.Handle(t.Context(), plugintest.Call("GET", "/"))
		if e := plugintest.Refused(t, err, tc.code, tc.status, "FAULT_INJECTED"); e.Message != tc.message || next.Calls != 0 {
			t.Errorf("%s: %q, %d calls", tc.config, e.Message, next.Calls)
		}
		// Each call has an error of its own: faces may add to it.
		err.(*rpc.Error).Header.Add("a", "b") //nolint:errorlint,forcetypeassert // Refused has looked
		if again := plugintest.Refused(t, h.Handle(t.Context(), plugintest.Call("GET", "/")), tc.code, tc.status, "FAULT_INJECTED"); len(again.Header) != 0 {
			t.Errorf("found %v", again.Header)
		}
	}
}

func TestEveryStatusHasACode(t *testing.T) {
	for status := 400; status < 600; status++ {
		if c := codeOf(status); c == codes.OK {
			t.Errorf("status %d: %v", status, c)
		}
	}
}

// A delay is over with the call's time, and when the caller has gone; the metrics count what was done.
func TestDelay(t *testing.T) {
	env := plugintest.Env(t)
	next := &plugintest.Next{}
	long := plugintest.New(t, Kind, env, `{delay: {duration: 600s}}`).Wrap(next)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	plugintest.Refused(t, long.Handle(ctx, plugintest.Call("GET", "/")), codes.DeadlineExceeded, 0, "DEADLINE_EXCEEDED")
	gone, leave := context.WithCancel(t.Context())
	leave()
	plugintest.Refused(t, long.Handle(gone, plugintest.Call("GET", "/")), codes.Canceled, 0, "CANCELLED")
	if next.Calls != 0 {
		t.Errorf("%d calls came through", next.Calls)
	}
	short := plugintest.New(t, Kind, env, `{delay: {duration: 0.02s}}`).Wrap(next)
	start := time.Now()
	if err := short.Handle(t.Context(), plugintest.Call("GET", "/")); err != nil || next.Calls != 1 || time.Since(start) < 20*time.Millisecond {
		t.Errorf("%v after %s", err, time.Since(start))
	}
	if got := plugintest.Scrape(t, env); !strings.Contains(got, `causeway_fault_injection_faults_total{fault="delay",scope="global"} 3`) {
		t.Errorf("found %s", got)
	}
}

// With 20,000 calls a share of 10 % is off by 1 % once in a million times.
func TestShare(t *testing.T) {
	for percent, want := range map[string]float64{"0": 0, "10": 0.1, "100": 1} {
		next := &plugintest.Next{}
		h := plugintest.New(t, Kind, plugintest.Env(t), `{abort: {code: ABORTED, percent: `+percent+`}}`).Wrap(next)
		const n = 20_000
		c := plugintest.Call("GET", "/")
		for range n {
			_ = h.Handle(t.Context(), c)
		}
		got := 1 - float64(next.Calls)/n
		if math.Abs(got-want) > 0.0105 || (want == 0 || want == 1) && got != want {
			t.Errorf("%s %%: found %v", percent, got)
		}
	}
}

func TestHandleAllocs(t *testing.T) {
	h := plugintest.New(t, Kind, plugintest.Env(t), `{delay: {duration: 1s, percent: 0}, abort: {code: ABORTED, percent: 0}}`).Wrap(&plugintest.Next{})
	plugintest.Allocs(t, 0, h, plugintest.Call("GET", "/"))
}

func BenchmarkHandle(b *testing.B) {
	p := plugintest.New(b, Kind, plugintest.Env(b), `{abort: {code: ABORTED, percent: 0.0001}}`)
	h, c, ctx := p.Wrap(&plugintest.Next{}), plugintest.Call("GET", "/"), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_ = h.Handle(ctx, c)
	}
}
