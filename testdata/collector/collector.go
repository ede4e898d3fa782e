// Package collector is an OpenTelemetry collector for tests: it takes traces, metrics and logs by OTLP over gRPC and HTTP and
// keeps them. Others here break their promises.
package collector

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Collector keeps what it was sent.
type Collector struct {
	GRPC, HTTP string      // host:port, and an URL
	Forgets    atomic.Bool // it takes everything and keeps nothing

	mu       sync.Mutex
	spans    []*tracepb.Span
	metrics  map[string]int // how often each name came
	lines    []string
	resource map[string]string
	headers  map[string]string // of the last request

	coltracepb.UnimplementedTraceServiceServer
}

// Start serves on two free ports until the test ends.
func Start(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{metrics: map[string]int{}, resource: map[string]string{}, headers: map[string]string{}}
	ln := listen(t)
	c.GRPC = ln.Addr().String()
	s := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(s, c)
	colmetricspb.RegisterMetricsServiceServer(s, metricsService{of: c})
	collogspb.RegisterLogsServiceServer(s, logsService{of: c})
	serve(t, func() { _ = s.Serve(ln) }, s.Stop)
	hl := listen(t)
	c.HTTP = "http://" + hl.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		take(c, w, r, &coltracepb.ExportTraceServiceRequest{}, c.Export)
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		take(c, w, r, &colmetricspb.ExportMetricsServiceRequest{}, metricsService{of: c}.Export)
	})
	mux.HandleFunc("POST /v1/logs", func(w http.ResponseWriter, r *http.Request) {
		take(c, w, r, &collogspb.ExportLogsServiceRequest{}, logsService{of: c}.Export)
	})
	h := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	serve(t, func() { _ = h.Serve(hl) }, func() { _ = h.Close() })
	return c
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func serve(t testing.TB, run, stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		run()
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}

func take[Q proto.Message, A proto.Message](c *Collector, w http.ResponseWriter, r *http.Request, q Q, export func(context.Context, Q) (A, error)) {
	raw, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(raw, q)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	for k := range r.Header {
		c.headers[strings.ToLower(k)] = r.Header.Get(k)
	}
	c.mu.Unlock()
	a, err := export(r.Context(), q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	raw, _ = proto.Marshal(a)
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(raw)
}

// Export takes traces.
func (c *Collector) Export(ctx context.Context, r *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(ctx)
	if c.Forgets.Load() {
		return &coltracepb.ExportTraceServiceResponse{}, nil
	}
	for _, rs := range r.GetResourceSpans() {
		c.from(rs.GetResource().GetAttributes())
		for _, ss := range rs.GetScopeSpans() {
			c.spans = append(c.spans, ss.GetSpans()...)
		}
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func (c *Collector) note(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	for k, v := range md {
		c.headers[k] = v[0]
	}
}

func (c *Collector) from(attrs []*commonpb.KeyValue) {
	for _, kv := range attrs {
		c.resource[kv.GetKey()] = kv.GetValue().GetStringValue()
	}
}

type metricsService struct {
	colmetricspb.UnimplementedMetricsServiceServer

	of *Collector
}

// Export takes metrics.
func (s metricsService) Export(_ context.Context, r *colmetricspb.ExportMetricsServiceRequest) (*colmetricspb.ExportMetricsServiceResponse, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	for _, rm := range r.GetResourceMetrics() {
		s.of.from(rm.GetResource().GetAttributes())
		for _, sm := range rm.GetScopeMetrics() {
			for _, m := range sm.GetMetrics() {
				s.of.metrics[m.GetName()]++
			}
		}
	}
	return &colmetricspb.ExportMetricsServiceResponse{}, nil
}

type logsService struct {
	collogspb.UnimplementedLogsServiceServer

	of *Collector
}

// Export takes logs.
func (s logsService) Export(_ context.Context, r *collogspb.ExportLogsServiceRequest) (*collogspb.ExportLogsServiceResponse, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.of.Forgets.Load() {
		return &collogspb.ExportLogsServiceResponse{}, nil
	}
	for _, rl := range r.GetResourceLogs() {
		s.of.from(rl.GetResource().GetAttributes())
		for _, sl := range rl.GetScopeLogs() {
			for _, l := range sl.GetLogRecords() {
				s.of.lines = append(s.of.lines, l.GetBody().GetStringValue())
			}
		}
	}
	return &collogspb.ExportLogsServiceResponse{}, nil
}

// Spans are those that came.
func (c *Collector) Spans() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*tracepb.Span(nil), c.spans...)
}

// Metric tells how often a metric came.
func (c *Collector) Metric(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.metrics[name]
}

// Lines are the bodies of the log records that came.
func (c *Collector) Lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines...)
}

// Resource is an attribute of what sent.
func (c *Collector) Resource(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resource[key]
}

// Header is a header of the requests.
func (c *Collector) Header(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headers[key]
}

// Attr is a span's attribute as text, "" where it has none.
func Attr(s *tracepb.Span, key string) string {
	for _, kv := range s.GetAttributes() {
		if kv.GetKey() == key {
			return kv.GetValue().GetStringValue()
		}
	}
	return ""
}

// Blackhole accepts connections and never answers.
func Blackhole(t testing.TB) (address string) {
	t.Helper()
	ln := listen(t)
	var mu sync.Mutex
	var conns []net.Conn
	serve(t, func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}, func() {
		_ = ln.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return ln.Addr().String()
}

// Liar says 200 and goes on with a body that does not end, as fast as it is read.
func Liar(t testing.TB) (url string) {
	t.Helper()
	ln := listen(t)
	h := &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/x-protobuf")
			chunk := make([]byte, 64<<10)
			for r.Context().Err() == nil {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}),
	}
	serve(t, func() { _ = h.Serve(ln) }, func() { _ = h.Close() })
	return "http://" + ln.Addr().String()
}

// LiarGRPC answers each call with a message of size bytes. They are made once: what the answers cost is not to be the liar's.
func LiarGRPC(t testing.TB, size int) (address string) {
	t.Helper()
	ln := listen(t)
	answer, err := proto.Marshal(&commonpb.AnyValue{Value: &commonpb.AnyValue_BytesValue{BytesValue: make([]byte, size)}})
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(asItIs{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		return stream.SendMsg(answer)
	}))
	serve(t, func() { _ = s.Serve(ln) }, s.Stop)
	return ln.Addr().String()
}

// asItIs is the codec of bytes that are a message already.
type asItIs struct{}

// Marshal implements encoding.CodecV2.
func (asItIs) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("want bytes, found %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal implements encoding.CodecV2; requests are not looked at.
func (asItIs) Unmarshal(mem.BufferSlice, any) error { return nil }

// Name implements encoding.CodecV2.
func (asItIs) Name() string { return "proto" }
