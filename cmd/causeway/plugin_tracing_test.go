package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/testdata/collector"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// otlp is the part of a configuration that sends everything to a collector.
func otlp(protocol, endpoint string) string {
	return fmt.Sprintf(`telemetry:
  resource: {deployment.environment.name: test}
  otlp: {protocol: %s, endpoint: %q, headers: {x-key: k1}, signals: [traces, metrics, logs], interval: 0.2s, timeout: 2s}
`, protocol, endpoint)
}

// traced is a gateway that traces all calls and logs to the collector.
func traced(t *testing.T, backend, telemetry string) string {
	t.Helper()
	text := echoConfig(t, t.TempDir(), backend)
	text = strings.Replace(text, "config: {output: DIR/access.log}", "config: {output: otlp}", 1)
	return strings.Replace(text, "plugins:\n", "plugins:\n  - name: tracing\n", 1) + telemetry
}

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// TestTracingByOTLP: the spans, the metrics and the lines of a call arrive at a collector, by gRPC and by HTTP; the service's
// parent is the gateway's client span.
func TestTracingByOTLP(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			sink, backend := collector.Start(t), echo.Start(t, "127.0.0.1:0", "a")
			endpoint := sink.GRPC
			if protocol == "http" {
				endpoint = sink.HTTP
			}
			g := startGateway(t, traced(t, backend.Address, otlp(protocol, endpoint)))
			a := g.call("GET", "/v1/echo/x?number=424242", "", "traceparent", traceparent, "tracestate", "v=1", "authorization", "Bearer secret")
			if a.status != 200 {
				t.Fatalf("answer %d %s", a.status, a.body)
			}
			if refused := g.call("GET", "/nowhere", ""); refused.status != 404 {
				t.Fatalf("answer %d", refused.status)
			}
			waitFor(t, "the spans of two calls", func() bool { return len(sink.Spans()) >= 5 })
			spans := map[string]*tracepb.Span{}
			for _, s := range sink.Spans() {
				spans[s.GetName()+" "+s.GetKind().String()] = s
			}
			server := spans["demo.echo.v1.Echo/Call SPAN_KIND_SERVER"]
			client := spans["demo.echo.v1.Echo/Call SPAN_KIND_CLIENT"]
			if server == nil || client == nil || spans["receive SPAN_KIND_INTERNAL"] == nil || spans["send SPAN_KIND_INTERNAL"] == nil || spans["GET SPAN_KIND_SERVER"] == nil {
				t.Fatalf("spans: %v", spans)
			}
			if hex.EncodeToString(server.GetTraceId()) != traceparent[3:35] || hex.EncodeToString(server.GetParentSpanId()) != traceparent[36:52] || server.GetTraceState() != "v=1" {
				t.Errorf("server span %v", server)
			}
			if want := "00-" + traceparent[3:35] + "-" + hex.EncodeToString(client.GetSpanId()) + "-01"; a.text(t, "metadata", "traceparent") != want {
				t.Errorf("the service got traceparent %q, want %q", a.text(t, "metadata", "traceparent"), want)
			}
			if !slices.Equal(client.GetParentSpanId(), server.GetSpanId()) || client.GetStartTimeUnixNano() < server.GetStartTimeUnixNano() || client.GetEndTimeUnixNano() > server.GetEndTimeUnixNano() {
				t.Errorf("client span %v in %v", client, server)
			}
			if collector.Attr(server, "rpc.method") != "demo.echo.v1.Echo/Call" || collector.Attr(client, "server.address") != "127.0.0.1" || collector.Attr(server, "url.path") != "/v1/echo/x" {
				t.Errorf("attributes %v %v", server, client)
			}
			waitFor(t, "metrics", func() bool {
				return sink.Metric("causeway_requests_total") > 0 && sink.Metric("causeway_connections") > 0
			})
			waitFor(t, "lines", func() bool { return len(sink.Lines()) >= 2 })
			var line map[string]any
			if err := json.Unmarshal([]byte(sink.Lines()[0]), &line); err != nil || line["trace_id"] != traceparent[3:35] {
				t.Errorf("line %v: %v", line, err)
			}
			if sink.Resource("service.name") != "causeway" || sink.Resource("deployment.environment.name") != "test" || sink.Header("x-key") != "k1" {
				t.Errorf("from %q %q %q", sink.Resource("service.name"), sink.Resource("deployment.environment.name"), sink.Header("x-key"))
			}
			for _, s := range sink.Spans() {
				if strings.Contains(s.String(), "secret") || strings.Contains(s.String(), "424242") {
					t.Errorf("a secret is in %v", s)
				}
			}
		})
	}
}

// TestTelemetryChanges: a reload moves what is sent to another collector, and ends it; the calls meanwhile are not touched.
func TestTelemetryChanges(t *testing.T) {
	t.Parallel()
	first, second, backend := collector.Start(t), collector.Start(t), echo.Start(t, "127.0.0.1:0", "a")
	text := traced(t, backend.Address, "")
	text = strings.Replace(text, "config: {output: otlp}", "config: {output: DIR/access.log}", 1)
	g := startGateway(t, text+otlp("grpc", first.GRPC))
	call := func() { g.call("GET", "/v1/echo/x", "") }
	call()
	waitFor(t, "a span at the first collector", func() bool { return len(first.Spans()) > 0 })
	revision := g.gateway.Current().Revision
	g.write(text + otlp("http", second.HTTP))
	waitFor(t, "the change", func() bool { return g.gateway.Current().Revision > revision })
	call()
	waitFor(t, "a span at the second collector", func() bool { return len(second.Spans()) > 0 })
	revision = g.gateway.Current().Revision
	g.write(text)
	waitFor(t, "the change", func() bool { return g.gateway.Current().Revision > revision })
	before := len(second.Spans())
	if a := g.call("GET", "/v1/echo/x", "", "traceparent", traceparent); a.text(t, "metadata", "traceparent") != traceparent {
		t.Errorf("the service got traceparent %q, want the caller's", a.text(t, "metadata", "traceparent"))
	}
	g.end()
	if n := len(second.Spans()); n != before {
		t.Errorf("%d spans after the collector was removed, want %d", n, before)
	}
}

// TestTelemetryFaults are configurations that are refused.
func TestTelemetryFaults(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"logs to no collector", "", "plugins[1].config.output"},
		{"a collector without logs", "telemetry: {otlp: {endpoint: '127.0.0.1:4317'}}\n", "add logs to the signals of telemetry.otlp"},
		{"no such authority", "telemetry: {otlp: {endpoint: '127.0.0.1:4317', signals: [logs], tls: {ca_file: /no/such}}}\n", "telemetry.otlp.tls"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, err := tryGateway(t, t.TempDir(), traced(t, "127.0.0.1:1", tc.text))
			if err == nil {
				g.end()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

var dropped = regexp.MustCompile(`(?m)^causeway_telemetry_dropped_total\{reason="\w+",signal="traces"\} [1-9]`)

// TestProofBadCollectors: a collector that is dead, does not answer, or answers without end costs calls nothing (R7): none
// fails, what is not delivered is counted, and memory is bounded. In the full form their p99 is compared with that of a gateway
// whose collector is well.
func TestProofBadCollectors(t *testing.T) {
	calls, rounds := 600, 1
	if full() {
		calls, rounds = 20_000, 5
	}
	backend := echo.Start(t, "127.0.0.1:0", "a")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := gone.Addr().String()
	gone.Close()
	good := collector.Start(t)
	good.Forgets.Store(true)
	well := startGateway(t, traced(t, backend.Address, otlp("grpc", good.GRPC)))
	for _, tc := range []struct{ name, telemetry string }{
		{"dead", otlp("grpc", dead)},
		{"does not answer", otlp("grpc", collector.Blackhole(t))},
		{"does not answer, HTTP", otlp("http", "http://"+collector.Blackhole(t))},
		{"answers without end", otlp("http", collector.Liar(t))},
		{"answers with 8 MiB", otlp("grpc", collector.LiarGRPC(t, 8<<20))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := startGateway(t, traced(t, backend.Address, tc.telemetry))
			var worst []float64
			var heap runtime.MemStats
			for range rounds {
				with := p99(t, g, calls)
				if !full() {
					continue
				}
				without := p99(t, well, calls)
				worst = append(worst, float64(with)/float64(without))
				t.Logf("p99 %s with the bad collector, %s with a good one", with, without)
			}
			waitFor(t, "drops are counted", func() bool {
				return dropped.MatchString(g.control("GET", "/metrics", nil).body)
			})
			runtime.GC()
			runtime.ReadMemStats(&heap)
			if heap.HeapAlloc > 256<<20 {
				t.Errorf("%d MiB of heap", heap.HeapAlloc>>20)
			}
			t.Logf("PROOF collector that is bad (%s): %d calls went well, heap %d MiB", tc.name, calls*rounds, heap.HeapAlloc>>20)
			if slices.Sort(worst); full() {
				t.Logf("PROOF collector that is bad (%s): p99 of calls %.2f times that with a good one, median of %d", tc.name, worst[rounds/2], rounds)
				if worst[rounds/2] > 1.5 {
					t.Errorf("p99 ratios %v, want at most 1.5", worst)
				}
			}
			began := time.Now()
			g.end()
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("the gateway ended after %s", took)
			}
		})
	}
}

// p99 is that of calls made by four callers.
func p99(t *testing.T, g *gatewayTest, calls int) time.Duration {
	t.Helper()
	const callers = 4
	took := make([]time.Duration, calls)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := i; n < calls; n += callers {
				began := time.Now()
				a, err := trySend(g.client, "GET", g.url+"/v1/echo/x", "")
				if took[n] = time.Since(began); err != nil || a.status != 200 {
					t.Errorf("call %d: %d %v", n, a.status, err)
					return
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}

// TestAccessLogRotates: a log that grows beyond its bound is set aside.
func TestAccessLogRotates(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	text := strings.Replace(echoConfig(t, t.TempDir(), backend.Address), "config: {output: DIR/access.log}",
		"config: {output: DIR/access.log, rotate: {max_bytes: 65536, keep: 2}, request_headers: ['x-*']}", 1)
	g := startGateway(t, text)
	dir := filepath.Dir(g.file)
	filler := strings.Repeat("x", 1500)
	waitFor(t, "two files that were set aside", func() bool {
		for range 50 {
			g.call("GET", "/v1/echo/x", "", "x-filler", filler)
		}
		files, err := filepath.Glob(filepath.Join(dir, "access.log.*"))
		return err == nil && len(files) == 2
	})
}

// TestEveryProtocolIsTraced: a call by gRPC, Connect and gRPC-Web goes on with the trace that it shows, in B3 too, and a stream has
// its span when it ends.
func TestEveryProtocolIsTraced(t *testing.T) {
	t.Parallel()
	sink, backend := collector.Start(t), echo.Start(t, "127.0.0.1:0", "a")
	text := strings.Replace(traced(t, backend.Address, otlp("grpc", sink.GRPC)), "  - name: tracing\n",
		"  - name: tracing\n    config: {propagators: [tracecontext, b3, b3multi]}\n", 1)
	g := startGateway(t, text)
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	conn, err := grpc.NewClient(strings.TrimPrefix(g.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "b3", id+"-"+parent+"-1")
	reply, err := echov1.NewEchoClient(conn).Call(ctx, &echov1.CallRequest{Text: "x"})
	if err != nil {
		t.Fatal(err)
	}
	connect := g.call("POST", "/demo.echo.v1.Echo/Call", `{"text":"x"}`, "Content-Type", "application/json", "Connect-Protocol-Version", "1",
		"X-B3-TraceId", id, "X-B3-SpanId", parent, "X-B3-Sampled", "1")
	if connect.status != 200 {
		t.Fatalf("answer %d %s", connect.status, connect.body)
	}
	var parents []string
	for _, got := range []func(string) string{
		func(k string) string { return reply.GetMetadata()[k] }, func(k string) string { return connect.text(t, "metadata", k) },
	} {
		tp := got("traceparent")
		if len(tp) != 55 || tp[3:35] != id || tp[53:] != "01" || got("b3") != id+"-"+tp[36:52]+"-1" || got("x-b3-spanid") != tp[36:52] || got("x-b3-sampled") != "1" {
			t.Errorf("the service got traceparent %q, b3 %q, x-b3-spanid %q", tp, got("b3"), got("x-b3-spanid"))
			continue
		}
		parents = append(parents, tp[36:52])
	}
	waitFor(t, "both calls' spans", func() bool { return len(sink.Spans()) >= 8 })
	systems := map[string]bool{}
	for _, s := range sink.Spans() {
		switch s.GetKind() {
		case tracepb.Span_SPAN_KIND_SERVER:
			systems[collector.Attr(s, "rpc.system.name")] = hex.EncodeToString(s.GetParentSpanId()) == parent
		case tracepb.Span_SPAN_KIND_CLIENT:
			if !slices.Contains(parents, hex.EncodeToString(s.GetSpanId())) {
				t.Errorf("the service's parent is none of %v: %v", parents, s)
			}
		default:
		}
	}
	if !systems["grpc"] || !systems["connectrpc"] {
		t.Errorf("systems %v", systems)
	}
}

// TestWatchersKeepSecrets: what callers and the configuration hold secret is in no log, trace, metric, error or status, with all
// that can be logged (A8).
func TestWatchersKeepSecrets(t *testing.T) {
	t.Parallel()
	sink, backend := collector.Start(t), echo.Start(t, "127.0.0.1:0", "a")
	const canary = "CANARY0123456789"
	text := strings.Replace(echoConfig(t, t.TempDir(), backend.Address), "config: {output: DIR/access.log}",
		"config: {output: DIR/access.log, fields: [default, client, groups, span_id, scheme], request_headers: ['*'], response_headers: ['*'], claims: [sub]}", 1)
	text = strings.Replace(text, "plugins:\n", "plugins:\n  - name: tracing\n", 1) + strings.ReplaceAll(otlp("grpc", sink.GRPC), "k1", canary) +
		"routes:\n  - {name: kept, methods: ['demo.echo.v1.Echo/Fail'], service: echo, plugins: [{name: key_auth}]}\n" +
		"consumers:\n  - {name: shop, credentials: [{plugin: key_auth, config: {key: '" + canary + "'}}]}\n"
	g := startGateway(t, text)
	secrets := []string{
		"Authorization", "Bearer " + canary, "Cookie", "sid=" + canary, "X-Api-Key", canary, "Proxy-Authorization", canary, "X-Auth-Token", canary,
		"X-Session-Id", canary, "X-Amz-Security-Token", canary, "X-Csrf-Token", canary,
	}
	for _, path := range []string{"/v1/echo/x?token=" + canary, "/v1/fail/13?message=x", "/v1/fail/99?message=x", "/nowhere?key=" + canary, "/v1/fail/5"} {
		g.call("GET", path, "", secrets...)
	}
	g.call("POST", "/v1/echo", `{"text":"`+canary+`"}`, secrets...)
	g.call("POST", "/v1/echo", `{"text":`, secrets...)
	seen := map[string]string{"status": g.control("GET", "/readyz?verbose", nil).body, "metrics": g.control("GET", "/metrics", nil).body}
	waitFor(t, "spans", func() bool { return len(sink.Spans()) >= 7 })
	file := filepath.Join(filepath.Dir(g.file), "access.log")
	g.end()
	for _, s := range sink.Spans() {
		seen["spans"] += s.String()
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	seen["log of calls"], seen["gateway's log"] = string(raw), g.log.String()
	if strings.Count(seen["log of calls"], "\n") != 7 || !strings.Contains(seen["log of calls"], `"request_headers":{`) {
		t.Errorf("the log has not what it is to be searched for:\n%s", seen["log of calls"])
	}
	for where, text := range seen {
		if i := strings.Index(text, canary); i >= 0 {
			t.Errorf("a secret is in the %s: ...%s...", where, text[max(i-200, 0):min(i+50, len(text))])
		}
	}
}
