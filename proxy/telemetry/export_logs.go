//nolint:forbidigo // OpenTelemetry's log, not the standard library's
package telemetry

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
)

// ErrNoCollector is the error of log lines for a collector where none takes them.
var ErrNoCollector = errors.New("no collector takes logs: add logs to the signals of telemetry.otlp")

// batchLines is how many lines are sent in one request.
const batchLines = 512

// Lines is the output Collector: each line that is written becomes a log record whose body is the line. It is used by the
// goroutine of a log output, which counts what could not be sent.
func (e *Exports) Lines() *Lines { return &Lines{of: e} }

// Lines sends lines to the collector.
type Lines struct {
	of *Exports

	mu     sync.Mutex
	cancel context.CancelFunc // of the request under way
}

// Write sends whole lines, and waits. n is how many bytes of them were sent.
func (l *Lines) Write(p []byte) (n int, err error) {
	x := l.of.current.Load()
	if x == nil || x.logs == nil {
		return 0, ErrNoCollector
	}
	for n < len(p) {
		size, records := x.emit.records(p[n:])
		ctx, cancel := context.WithTimeout(x.ctx, x.conf.Timeout)
		l.mu.Lock()
		l.cancel = cancel
		l.mu.Unlock()
		err := x.logs.Export(ctx, records)
		cancel()
		x.report(logs, len(records), err)
		if err != nil {
			return n, err
		}
		n += size
	}
	return n, nil
}

// SetWriteDeadline ends the request under way, whatever t is: outputs are closed with it.
func (l *Lines) SetWriteDeadline(time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel != nil {
		l.cancel()
	}
	return nil
}

// emitter makes records of lines. A record has its resource only by way of a provider.
type emitter struct {
	logger log.Logger
	made   []sdklog.Record
}

func newEmitter(res *resource.Resource) *emitter {
	e := &emitter{}
	e.logger = sdklog.NewLoggerProvider(sdklog.WithResource(res), sdklog.WithProcessor(e)).Logger(scopeName)
	return e
}

// records makes records of the first lines of p, and says how many bytes they are.
func (e *emitter) records(p []byte) (size int, records []sdklog.Record) {
	now := time.Now()
	e.made = make([]sdklog.Record, 0, batchLines)
	for size < len(p) && len(e.made) < batchLines {
		end := bytes.IndexByte(p[size:], '\n')
		next := size + end + 1
		if end < 0 {
			end, next = len(p)-size, len(p)
		}
		var r log.Record
		r.SetTimestamp(now)
		r.SetObservedTimestamp(now)
		r.SetSeverity(log.SeverityInfo)
		r.SetBody(attribute.StringValue(string(p[size : size+end])))
		e.logger.Emit(context.Background(), r)
		size = next
	}
	return size, e.made
}

// OnEmit implements sdklog.Processor.
func (e *emitter) OnEmit(_ context.Context, r *sdklog.Record) error {
	e.made = append(e.made, r.Clone())
	return nil
}

// Enabled implements sdklog.Processor.
func (e *emitter) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

// Shutdown implements sdklog.Processor.
func (e *emitter) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdklog.Processor.
func (e *emitter) ForceFlush(context.Context) error { return nil }
