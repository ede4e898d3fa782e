package telemetry

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// scopeName is the instrumentation scope of all that is sent.
const scopeName = "github.com/causeway-gateway/causeway"

// Spans takes the spans of calls. Its methods neither block nor wait for a collector.
type Spans struct {
	active  atomic.Bool
	queue   chan *Span
	dropped *Counter
}

// Active tells whether spans are sent anywhere: else there is no need to make them.
func (s *Spans) Active() bool { return s.active.Load() }

// Add takes a span, which belongs to the queue from now on, with its children. Where 2,048 wait it is dropped and counted.
func (s *Spans) Add(span *Span) {
	if !s.Active() {
		return
	}
	select {
	case s.queue <- span:
	default:
		s.dropped.Add(int64(1 + len(span.Children)))
	}
}

// Kind is what a span is of.
type Kind uint8

// The kinds: a part of the gateway's own work, a call that was answered, a call that was made.
const (
	Internal Kind = iota
	Server
	Client
)

// Span is one operation. Times are of the wall clock.
type Span struct {
	Trace      [16]byte
	ID, Parent [8]byte
	State      string // the W3C tracestate
	Name       string
	Kind       Kind
	Start, End time.Time
	Failed     bool
	Message    string // why it failed
	Attrs      []Attr
	Children   []Span // of the same trace, each with an ID; their parent is this one
}

// Attr is one attribute: a text, or a number where Text is "" and IsInt holds.
type Attr struct {
	Key   string
	Text  string
	Int   int64
	IsInt bool
}

// sendSpans sends spans in batches until the export ends. It is a goroutine of its own.
func (x *Export) sendSpans() {
	timer := time.NewTimer(spanLinger)
	timer.Stop()
	defer timer.Stop()
	batch := make([]*Span, 0, batchSpans)
	flush := func() {
		timer.Stop()
		x.upload(batch)
		clear(batch)
		batch = batch[:0]
	}
	for {
		select {
		case s := <-x.of.spans.queue:
			if batch = append(batch, s); len(batch) == 1 {
				timer.Reset(spanLinger)
			}
			if len(batch) == batchSpans {
				flush()
			}
		case <-timer.C:
			flush()
		case <-x.stop:
			for x.ctx.Err() == nil {
				select {
				case s := <-x.of.spans.queue:
					if batch = append(batch, s); len(batch) == batchSpans {
						flush()
					}
					continue
				default:
				}
				break
			}
			flush()
			return
		}
	}
}

func (x *Export) upload(batch []*Span) {
	if len(batch) == 0 {
		return
	}
	list := make([]*tracepb.Span, 0, 4*len(batch))
	for _, s := range batch {
		list = append(list, s.proto(s.Trace, s.Parent, s.State))
		for i := range s.Children {
			list = append(list, s.Children[i].proto(s.Trace, s.ID, s.State))
		}
	}
	ctx, cancel := context.WithTimeout(x.ctx, x.conf.Timeout)
	defer cancel()
	err := x.traces.UploadTraces(ctx, []*tracepb.ResourceSpans{{
		Resource:   &resourcepb.Resource{Attributes: x.resourceAttrs()},
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: &commonpb.InstrumentationScope{Name: scopeName, Version: x.conf.Version}, Spans: list}},
	}})
	x.report(traces, len(list), err)
}

func (x *Export) resourceAttrs() []*commonpb.KeyValue {
	var out []*commonpb.KeyValue
	for _, kv := range x.res.Attributes() {
		out = append(out, textAttr(string(kv.Key), kv.Value.AsString()))
	}
	return out
}

func textAttr(key, text string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: strings.ToValidUTF8(text, "\ufffd")}}}
}

var kinds = [...]tracepb.Span_SpanKind{tracepb.Span_SPAN_KIND_INTERNAL, tracepb.Span_SPAN_KIND_SERVER, tracepb.Span_SPAN_KIND_CLIENT}

// proto is the span as it is sent.
func (s *Span) proto(trace [16]byte, parent [8]byte, state string) *tracepb.Span {
	p := &tracepb.Span{
		TraceId: trace[:], SpanId: s.ID[:], TraceState: state, Name: strings.ToValidUTF8(s.Name, "\ufffd"), Kind: kinds[s.Kind%3],
		StartTimeUnixNano: uint64(max(s.Start.UnixNano(), 0)), EndTimeUnixNano: uint64(max(s.End.UnixNano(), s.Start.UnixNano(), 0)),
		Attributes: make([]*commonpb.KeyValue, 0, len(s.Attrs)),
	}
	if parent != [8]byte{} {
		p.ParentSpanId = parent[:]
	}
	if s.Failed {
		p.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: strings.ToValidUTF8(s.Message, "\ufffd")}
	}
	for i := range s.Attrs {
		a := &s.Attrs[i]
		if a.IsInt {
			p.Attributes = append(p.Attributes, &commonpb.KeyValue{Key: a.Key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: a.Int}}})
			continue
		}
		p.Attributes = append(p.Attributes, textAttr(a.Key, a.Text))
	}
	return p
}
