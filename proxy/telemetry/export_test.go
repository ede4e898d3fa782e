package telemetry

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/collector"
)

func newExports(t *testing.T, sample func()) (*Exports, *Meter) {
	t.Helper()
	m := newMeter(t)
	e := must[*Exports](t)(NewExports(m, slog.New(slog.DiscardHandler), sample))
	t.Cleanup(e.Close)
	return e, m
}

func use(t *testing.T, e *Exports, c ExportConfig) {
	t.Helper()
	e.Use(must[*Export](t)(e.New(c)))
}

func span(n byte) *Span {
	at := time.Unix(1_700_000_000, 5)
	return &Span{
		Trace: [16]byte{1, n}, ID: [8]byte{2, n}, Parent: [8]byte{3}, State: "a=b", Name: "call \xff", Kind: Server, Start: at, End: at.Add(time.Second),
		Failed: true, Message: "why", Attrs: []Attr{{Key: "text", Text: "x\xff"}, {Key: "number", Int: 7, IsInt: true}},
		Children: []Span{{ID: [8]byte{4, n}, Name: "part", Kind: Client, Start: at.Add(time.Second), End: at}}, // a clock that went back
	}
}

// TestSpansArrive: all of a span, over both transports; texts that are not UTF-8 spoil nothing.
func TestSpansArrive(t *testing.T) {
	sink := collector.Start(t)
	for _, c := range []ExportConfig{{Endpoint: sink.GRPC}, {Endpoint: sink.HTTP, HTTP: true}} {
		before := len(sink.Spans())
		e, m := newExports(t, nil)
		if e.Spans().Active() {
			t.Error("active without a collector")
		}
		e.Spans().Add(span(0)) // nobody takes it
		c.Traces, c.Resource, c.Version = true, map[string]string{"service.name": "edge"}, "v1"
		use(t, e, c)
		for n := range 3 {
			e.Spans().Add(span(byte(n)))
		}
		e.Close() // sends what waits
		got := sink.Spans()[before:]
		if len(got) != 6 {
			t.Fatalf("%d spans arrived, want 6", len(got))
		}
		s, part := got[0], got[1]
		if hex.EncodeToString(s.GetTraceId()) != "01000000000000000000000000000000" || s.GetTraceState() != "a=b" || s.GetName() != "call \ufffd" ||
			s.GetStatus().GetMessage() != "why" || collector.Attr(s, "text") != "x\ufffd" || s.GetEndTimeUnixNano()-s.GetStartTimeUnixNano() != 1e9 {
			t.Errorf("span %v", s)
		}
		if !bytes.Equal(part.GetParentSpanId(), s.GetSpanId()) || part.GetEndTimeUnixNano() < part.GetStartTimeUnixNano() || part.GetTraceState() != "a=b" {
			t.Errorf("part %v", part)
		}
		if sink.Resource("service.name") != "edge" || sink.Resource("service.version") != "v1" || m.Sum("causeway_telemetry_sent_total") != 6 {
			t.Errorf("from %q, %v sent", sink.Resource("service.name"), m.Sum("causeway_telemetry_sent_total"))
		}
	}
}

// TestMetricsArrive: the gauges are brought up to date before each reading.
func TestMetricsArrive(t *testing.T) {
	sink := collector.Start(t)
	var mu sync.Mutex
	sampled := 0
	e, m := newExports(t, func() { mu.Lock(); sampled++; mu.Unlock() })
	must[*CounterVec](t)(m.Counter("causeway_x_total", "", "X.")).With().Inc()
	use(t, e, ExportConfig{Endpoint: sink.GRPC, Metrics: true, Interval: 10 * time.Millisecond})
	eventually(t, "two readings", func() bool { return sink.Metric("causeway_x_total") > 1 })
	mu.Lock()
	defer mu.Unlock()
	if sampled < 2 {
		t.Errorf("sampled %d times", sampled)
	}
}

// TestLinesArrive: the output "otlp", and what it says where no collector takes lines.
func TestLinesArrive(t *testing.T) {
	sink := collector.Start(t)
	e, m := newExports(t, nil)
	s := must[*Sinks](t)(NewSinks(m, nil))
	if _, err := s.Open(Collector, Rotation{}); err == nil {
		t.Error("opened without a collector")
	}
	s.Collect(e.Lines())
	if _, err := e.Lines().Write([]byte("x\n")); err == nil {
		t.Error("written without a collector")
	}
	use(t, e, ExportConfig{Endpoint: sink.HTTP, HTTP: true, Logs: true})
	w := open(t, s, Collector)
	const n = 2000
	for i := range n {
		if _, err := fmt.Fprintf(w, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	lines := sink.Lines()
	if len(lines) != n || lines[0] != "line 0" || lines[n-1] != fmt.Sprintf("line %d", n-1) {
		t.Errorf("%d lines arrived", len(lines))
	}
}

// TestQueueIsBounded: with a collector that does not answer, 2,048 spans wait and the others are counted; adding never waits, and
// the end comes soon.
func TestQueueIsBounded(t *testing.T) {
	e, m := newExports(t, nil)
	use(t, e, ExportConfig{Endpoint: collector.Blackhole(t), Traces: true, Metrics: true, Interval: time.Millisecond, Timeout: time.Minute})
	const n = 10_000
	for i := range n {
		e.Spans().Add(span(byte(i)))
	}
	lost := 0.0
	m.Each("causeway_telemetry_dropped_total", func(v float64, labels []string) {
		if labels[1] == "queue_full" {
			lost += v
		}
	})
	if kept := n - lost/2; kept < maxSpans || kept > maxSpans+2*batchSpans {
		t.Errorf("%v spans are kept, want about %d", kept, maxSpans)
	}
	began := time.Now()
	e.Close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %s", took)
	}
}

// TestStuckCollectorEndsWithItsOutput: a log output whose collector does not answer is closed in time.
func TestStuckCollectorEndsWithItsOutput(t *testing.T) {
	e, m := newExports(t, nil)
	s := must[*Sinks](t)(NewSinks(m, nil))
	s.Collect(e.Lines())
	use(t, e, ExportConfig{Endpoint: "http://" + collector.Blackhole(t), HTTP: true, Logs: true, Timeout: time.Minute})
	w := open(t, s, Collector)
	if _, err := w.Write([]byte("x\n")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := w.Close(); err == nil {
		t.Error("closed as if the line had arrived")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %s", took)
	}
	eventually(t, "the line is counted", func() bool { return m.Sum("causeway_log_dropped_lines_total") == 1 })
}

// TestFailuresAreToldOnce: the log hears of a dead collector once, and once when it is well again.
func TestFailuresAreToldOnce(t *testing.T) {
	var buf bytes.Buffer
	m := newMeter(t)
	e := must[*Exports](t)(NewExports(m, slog.New(slog.NewTextHandler(&buf, nil)), nil))
	x := must[*Export](t)(e.New(ExportConfig{Endpoint: "127.0.0.1:1", Traces: true}))
	for range 3 {
		x.report(traces, 2, errors.New("refused"))
	}
	x.report(traces, 5, nil)
	x.report(traces, 5, nil)
	x.Close()
	if text := buf.String(); strings.Count(text, "does not take") != 1 || strings.Count(text, "again") != 1 {
		t.Errorf("log:\n%s", text)
	}
	if m.Sum("causeway_telemetry_dropped_total") != 6 || m.Sum("causeway_telemetry_sent_total") != 10 {
		t.Errorf("%v dropped, %v sent", m.Sum("causeway_telemetry_dropped_total"), m.Sum("causeway_telemetry_sent_total"))
	}
}
