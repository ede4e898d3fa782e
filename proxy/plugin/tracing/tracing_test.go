package tracing

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	tracingv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/tracing/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "ratio", Config: `{ratio: 1.5}`, Path: "ratio", Want: "want a share from 0 to 1, found 1.5", Fix: "write 0.1 for one trace in ten"},
		{Name: "unknown", Config: `{propagators: [tracecontext, b3mutli]}`, Path: "propagators[1]", Want: `unknown propagator "b3mutli"`, Fix: "name any of tracecontext, b3, b3multi"},
		{Name: "twice", Config: `{propagators: [b3, b3]}`, Path: "propagators[1]", Want: `the propagator "b3" a second time`, Fix: "name it once"},
	})
}

func newTracing(t testing.TB, conf *tracingv1.Tracing, active bool) *tracing {
	t.Helper()
	env := plugintest.Env(t)
	if active {
		exports, err := telemetry.NewExports(env.Meter, env.Log, nil)
		if err != nil {
			t.Fatal(err)
		}
		x, err := exports.New(telemetry.ExportConfig{Endpoint: "127.0.0.1:1", Traces: true, Timeout: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		exports.Use(x)
		t.Cleanup(exports.Close)
		env.Spans = exports.Spans()
	}
	p, err := newPlugin(conf, env)
	if err != nil {
		t.Fatal(err)
	}
	return p.(*tracing)
}

func metadata(pairs ...string) (m rpc.Metadata) {
	for i := 0; i < len(pairs); i += 2 {
		m.Add(pairs[i], pairs[i+1])
	}
	return m
}

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID  = "00f067aa0ba902b7"
	parent  = "00-" + traceID + "-" + spanID + "-01"
	quiet   = "00-" + traceID + "-" + spanID + "-00"
)

// seen is what the service gets.
type seen struct{ header rpc.Metadata }

func (s *seen) Handle(_ context.Context, c *rpc.Call) error {
	s.header = c.Header
	return nil
}

// TestPropagation: what the service gets for what the caller shows. ID and SPAN stand for ids that the gateway made.
func TestPropagation(t *testing.T) {
	all := []string{"tracecontext", "b3", "b3multi"}
	for _, tc := range []struct {
		name      string
		conf      *tracingv1.Tracing
		collector bool
		in, want  rpc.Metadata
		sampled   bool
		same      bool // the trace goes on
	}{
		{
			"sampled by the caller", &tracingv1.Tracing{Ratio: share(0)}, true, metadata("traceparent", parent, "tracestate", "a=1"),
			metadata("traceparent", "00-ID-SPAN-01", "tracestate", "a=1"), true, true,
		},
		{
			"not sampled by the caller", &tracingv1.Tracing{}, true, metadata("traceparent", quiet, "tracestate", "a=1"),
			metadata("traceparent", quiet, "tracestate", "a=1"), false, true,
		},
		{
			"the caller does not decide", &tracingv1.Tracing{Ratio: share(0), ParentBased: new(bool)}, true, metadata("traceparent", parent),
			metadata("traceparent", quiet), false, true,
		},
		{
			"no collector: passed on as it is", &tracingv1.Tracing{}, false, metadata("traceparent", parent, "tracestate", "a=1"),
			metadata("traceparent", parent, "tracestate", "a=1"), true, true,
		},
		{"none shown, sampled", &tracingv1.Tracing{}, true, metadata("x", "y"), metadata("x", "y", "traceparent", "00-ID-SPAN-01"), true, false},
		{"none shown, not sampled", &tracingv1.Tracing{Ratio: share(0)}, true, metadata("tracestate", "a=1"), metadata("traceparent", "00-ID-SPAN-00"), false, false},
		{
			"malformed", &tracingv1.Tracing{}, true, metadata("traceparent", strings.ToUpper(parent), "tracestate", "a=1"),
			metadata("traceparent", "00-ID-SPAN-01"), true, false,
		},
		{"twice", &tracingv1.Tracing{}, true, metadata("traceparent", parent, "traceparent", parent), metadata("traceparent", "00-ID-SPAN-01"), true, false},
		{
			"b3 is not listed", &tracingv1.Tracing{Ratio: share(0)}, true, metadata("b3", traceID+"-"+spanID+"-1"),
			metadata("b3", traceID+"-"+spanID+"-1", "traceparent", "00-ID-SPAN-00"), false, false,
		},
		{
			"b3 in, all out", &tracingv1.Tracing{Propagators: all}, true, metadata("b3", traceID+"-"+spanID+"-1-"+spanID),
			metadata("traceparent", "00-ID-SPAN-01", "b3", "ID-SPAN-1", "x-b3-traceid", "ID", "x-b3-spanid", "SPAN", "x-b3-sampled", "1"), true, true,
		},
		{
			"b3multi in, b3 out too", &tracingv1.Tracing{Propagators: all[1:], Ratio: share(0)}, true,
			metadata("x-b3-traceid", traceID, "x-b3-spanid", spanID, "x-b3-flags", "1", "x-b3-parentspanid", spanID),
			metadata("b3", "ID-SPAN-1", "x-b3-traceid", "ID", "x-b3-spanid", "SPAN", "x-b3-sampled", "1"), true, true,
		},
		{
			"b3 leaves the decision", &tracingv1.Tracing{Propagators: all[1:2], Ratio: share(0)}, true, metadata("b3", traceID+"-"+spanID),
			metadata("b3", traceID+"-"+spanID+"-0"), false, true,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newTracing(t, tc.conf, tc.collector)
			c := &rpc.Call{Header: tc.in}
			end := &seen{}
			if err := p.Wrap(end).Handle(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			span := upstreamID(c.Trace.Span)
			if !c.Trace.Sampled {
				span = c.Trace.Span
			}
			r := strings.NewReplacer("ID", hex.EncodeToString(c.Trace.ID[:]), "SPAN", hex.EncodeToString(span[:]))
			want := rpc.Metadata{}
			for _, h := range tc.want {
				want.Add(h.Key, r.Replace(h.Value))
			}
			if diff := cmp.Diff(want, end.header); diff != "" {
				t.Errorf("the service gets (-want +got):\n%s", diff)
			}
			if got := hex.EncodeToString(c.Trace.ID[:]) == traceID; c.Trace.Sampled != tc.sampled || got != tc.same {
				t.Errorf("sampled %v, the caller's trace %v", c.Trace.Sampled, got)
			}
			if tc.same && hex.EncodeToString(c.Trace.Parent[:]) != spanID || !tc.same && c.Trace.Parent != [8]byte{} {
				t.Errorf("parent %x", c.Trace.Parent)
			}
		})
	}
}

func share(f float64) *float64 { return &f }

func TestRatio(t *testing.T) {
	p := newTracing(t, &tracingv1.Tracing{Ratio: share(0.25)}, false)
	n := 0
	for range 20_000 {
		if p.chosen(newTraceID()) {
			n++
		}
	}
	if n < 4600 || n > 5400 {
		t.Errorf("%d of 20000 are sampled, want about 5000", n)
	}
}

// FuzzExtract: the headers of a caller are read as OpenTelemetry's own propagators do.
func FuzzExtract(f *testing.F) {
	f.Add(parent, "a=1,b=2", "", "", "", "")
	f.Add(" \t"+parent+"-", "a=1", "", "", "", "")
	f.Add("\t"+parent+" ", "a=1", "", "", "", "")
	f.Add("01-"+traceID+"-"+spanID+"-ff-more", "", traceID+"-"+spanID+"-d", "", "", "")
	f.Add("", "", "0", traceID[:16], spanID, "true")
	f.Add("", "", spanID+"-"+spanID+"-1-"+spanID, traceID, spanID, "0")
	f.Add("", "", traceID+"-"+spanID+"-true", traceID, spanID, "d")
	f.Add("", "", traceID+"-"+spanID+"-1-0000000000000000", traceID, spanID, "false")
	f.Add("", "", traceID+"-"+spanID+"-0-"+spanID, traceID, spanID, "")
	f.Fuzz(func(t *testing.T, traceparent, state, single, id, span, sampled string) {
		header := metadata("traceparent", traceparent, "tracestate", state, "b3", single, "x-b3-traceid", id, "x-b3-spanid", span, "x-b3-sampled", sampled)
		carrier := propagation.HeaderCarrier{}
		for _, h := range header {
			carrier[http.CanonicalHeaderKey(h.Key)] = []string{h.Value}
		}
		// OpenTelemetry knows no space around it, and takes one of version 00 with an empty field behind the last.
		if plain := strings.Trim(traceparent, " \t"); !strings.HasPrefix(plain, "00-") || len(plain) != traceparentSize+1 || !strings.HasSuffix(plain, "-") {
			carrier["Traceparent"] = []string{plain}
			p := &tracing{propagators: []propagator{traceContext}}
			got, ok := p.extract(header)
			compare(t, "tracecontext", got, ok, trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier)))
		}
		// B3's own reads both forms, the single one first, and takes a malformed one for none.
		got, ok := extractB3(header)
		if ok {
			single := propagation.HeaderCarrier{"B3": carrier["B3"]}
			compare(t, "b3", got, ok, trace.SpanContextFromContext(b3.New(b3.WithInjectEncoding(b3.B3SingleHeader)).Extract(context.Background(), single)))
		}
		if got, ok = extractB3Multi(header); ok {
			multi := propagation.HeaderCarrier{}
			for _, k := range []string{"X-B3-Traceid", "X-B3-Spanid", "X-B3-Sampled"} {
				multi[k] = carrier[k]
			}
			compare(t, "b3multi", got, ok, trace.SpanContextFromContext(b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader)).Extract(context.Background(), multi)))
		}
	})
}

func compare(t *testing.T, name string, got incoming, ok bool, sc trace.SpanContext) {
	t.Helper()
	if ok != sc.IsValid() {
		t.Fatalf("%s: found %v, OpenTelemetry %v", name, ok, sc.IsValid())
	}
	if ok && (got.id != sc.TraceID() || got.span != sc.SpanID() || got.sampled() != sc.IsSampled()) {
		t.Fatalf("%s: %x %x %v, OpenTelemetry %s %s %v", name, got.id, got.span, got.sampled(), sc.TraceID(), sc.SpanID(), sc.IsSampled())
	}
}

func ended(t testing.TB) (*rpc.Call, rpc.Sent) {
	t.Helper()
	start := time.Now()
	c := &rpc.Call{
		Method: &schema.Method{Name: "/acme.v1.Orders/Get"}, Protocol: "rest", Route: "orders", Service: "backend", ID: "01J8",
		Peer: netip.MustParseAddrPort("192.0.2.7:4711"), Consumer: &rpc.Consumer{Name: "shop"},
		HTTP: &rpc.HTTP{
			Method: "GET", Scheme: "https", Host: "api.example.com", Port: "8443", Path: "/v1/orders/7", Query: "token=secret",
			Header: metadata("user-agent", "curl/8", "authorization", "Bearer secret", "cookie", "secret", "traceparent", parent),
		},
		Header: metadata("traceparent", parent, "authorization", "Bearer secret"),
		Times:  rpc.Times{Start: start, Body: start.Add(time.Millisecond), Upstream: 5 * time.Millisecond},
		Node:   "10.0.0.1:9000", Attempts: 2,
	}
	return c, rpc.Sent{Status: 503, Code: codes.Unavailable, Reason: "NO_INSTANCE", Err: errors.New("secret"), BytesIn: 1, BytesOut: 2, End: start.Add(7 * time.Millisecond)}
}

func TestSpan(t *testing.T) {
	c, sent := ended(t)
	p := newTracing(t, &tracingv1.Tracing{}, true)
	if err := p.Wrap(&seen{}).Handle(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s := spanOf(c, &sent)
	if strings.Contains(fmt.Sprint(s), "secret") {
		t.Errorf("a secret is in the span: %v", s)
	}
	got := map[string]string{}
	for _, a := range s.Attrs {
		got[a.Key] = a.Text
		if a.IsInt {
			got[a.Key] = strconv.FormatInt(a.Int, 10)
		}
	}
	want := map[string]string{
		"rpc.method": "acme.v1.Orders/Get", "rpc.response.status_code": "UNAVAILABLE", "http.request.method": "GET", "url.scheme": "https",
		"url.path": "/v1/orders/7", "server.address": "api.example.com", "server.port": "8443", "user_agent.original": "curl/8",
		"http.response.status_code": "503", "client.address": "192.0.2.7", "network.peer.address": "192.0.2.7", "network.peer.port": "4711",
		"error.type": "NO_INSTANCE", "causeway.protocol": "rest", "causeway.route": "orders", "causeway.service": "backend",
		"causeway.consumer": "shop", "causeway.request_id": "01J8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	var phases []string
	for _, ch := range s.Children {
		phases = append(phases, fmt.Sprintf("%s %s %s", ch.Name, ch.Start.Sub(s.Start), ch.End.Sub(s.Start)))
	}
	if diff := cmp.Diff([]string{"receive 0s 1ms", "acme.v1.Orders/Get 1ms 6ms", "send 6ms 7ms"}, phases); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	if s.Children[1].ID != upstreamID(s.ID) || !s.Children[1].Failed || !s.Failed || s.Kind != telemetry.Server {
		t.Errorf("span %+v", s)
	}
}

// TestAllocs: a call that is not sampled costs nothing but the text of its new place, many at once.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, tc := range []struct {
		name string
		in   rpc.Metadata
	}{
		{"shown", metadata("traceparent", quiet)},
		{"new", nil},
	} {
		p := newTracing(t, &tracingv1.Tracing{Ratio: share(0)}, true)
		h := p.Wrap(&nothing{})
		c, sent := ended(t)
		header := make(rpc.Metadata, 0, 8)
		ctx := t.Context()
		if n := testing.AllocsPerRun(1000, func() {
			c.Header, c.Trace = append(header, tc.in...), rpc.Trace{}
			c.HTTP.Header = tc.in
			if err := h.Handle(ctx, c); err != nil {
				t.Error(err)
			}
			p.Done(c, sent)
		}); n != 0 {
			t.Errorf("%s: %v allocations per call, want 0", tc.name, n)
		}
	}
}

type nothing struct{}

func (*nothing) Handle(context.Context, *rpc.Call) error { return nil }

func BenchmarkCall(b *testing.B) {
	for name, in := range map[string]rpc.Metadata{"not sampled": metadata("traceparent", quiet), "sampled": metadata("traceparent", parent)} {
		b.Run(name, func(b *testing.B) {
			p := newTracing(b, &tracingv1.Tracing{}, true)
			h := p.Wrap(&nothing{})
			c, sent := ended(b)
			header := make(rpc.Metadata, 0, 8)
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				c.Header, c.Trace = append(header, in...), rpc.Trace{}
				c.HTTP.Header = in
				_ = h.Handle(ctx, c) // never fails
				p.Done(c, sent)
			}
		})
	}
}
