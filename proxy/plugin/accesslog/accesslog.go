// Package accesslog is the plugin access_log: one line per call, written when the last byte of its answer went out.
package accesslog

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	accesslogv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/accesslog/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "access_log",
	Config: func() proto.Message { return new(accesslogv1.AccessLog) },
	New:    newPlugin,
}

// accessLog writes a call's line in Done. It does nothing on the way in: its Wrap returns next itself.
type accessLog struct {
	out     io.WriteCloser
	layout  *layout
	sampled uint64        // of 2^64 calls that went well so many are logged, and one more
	slow    time.Duration // calls this slow are logged in any case; 0: none

	writers [4]writer
}

var (
	_ rpc.Finisher = (*accessLog)(nil)
	_ io.Closer    = (*accessLog)(nil)
)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*accesslogv1.AccessLog)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	l := &accessLog{sampled: math.MaxUint64, slow: conf.GetSlow().AsDuration()}
	if l.slow < 0 {
		return nil, plugin.Faultf("slow", "write a duration: 1s", "want a duration above 0, found %s", l.slow)
	}
	if conf.Sample != nil { //nolint:protogetter // 0 is a value
		share := conf.GetSample()
		if math.IsNaN(share) || share < 0 || share > 1 {
			return nil, plugin.Faultf("sample", "write 0.1 for one call in ten", "want a share from 0 to 1, found %v", share)
		}
		if share < 1 {
			l.sampled = uint64(share * (1 << 63) * 2)
		}
	}
	var err error
	if l.layout, err = newLayout(conf); err != nil {
		return nil, err
	}
	rotation, err := rotationOf(conf)
	if err != nil {
		return nil, err
	}
	output := conf.GetOutput()
	if output == "" {
		output = telemetry.Stdout
	}
	if l.out, err = env.Open(output, rotation); err != nil {
		return nil, plugin.Faultf("output", "write stdout, stderr, otlp, or the path of a file in a folder that is there", "%s", err)
	}
	return l, nil
}

// Bounds of a rotation: fewer bytes would make a file of every few lines, and a file a minute is enough.
const (
	minRotateBytes = 64 << 10
	minRotateAge   = time.Minute
	maxKeep        = 1000
	defaultKeep    = 7
)

func rotationOf(conf *accesslogv1.AccessLog) (r telemetry.Rotation, err error) {
	c := conf.GetRotate()
	if c == nil {
		return r, nil
	}
	switch conf.GetOutput() {
	case "", telemetry.Stdout, telemetry.Stderr, telemetry.Collector:
		return r, plugin.Faultf("rotate", "remove it, or write the path of a file as output", "want a file to rotate, found the output %q", conf.GetOutput())
	}
	r = telemetry.Rotation{MaxBytes: c.GetMaxBytes(), MaxAge: c.GetMaxAge().AsDuration(), Keep: int(c.GetKeep())}
	switch {
	case r.MaxBytes == 0 && c.GetMaxAge() == nil:
		err = plugin.Faultf("rotate", "add max_bytes or max_age", "want a size or an age after which the file is set aside")
	case r.MaxBytes != 0 && r.MaxBytes < minRotateBytes:
		err = plugin.Faultf("rotate.max_bytes", "write 104857600 for 100 MiB", "want at least %d bytes, found %d", minRotateBytes, r.MaxBytes)
	case c.GetMaxAge() != nil && r.MaxAge < minRotateAge:
		err = plugin.Faultf("rotate.max_age", "write 86400s for a day", "want at least %s, found %s", minRotateAge, r.MaxAge)
	case r.Keep < 0 || r.Keep > maxKeep:
		err = plugin.Faultf("rotate.keep", "", "want 1 to %d files, found %d", maxKeep, r.Keep)
	case r.Keep == 0:
		r.Keep = defaultKeep
	}
	return r, err
}

// Wrap returns next: the plugin has nothing to do before a call's end.
func (l *accessLog) Wrap(next rpc.Handler) rpc.Handler { return next }

// Done writes the call's line. It neither blocks nor, for a call like those before, allocates.
func (l *accessLog) Done(c *rpc.Call, sent rpc.Sent) {
	if l.sampled != math.MaxUint64 && !l.remarkable(c, &sent) && rand.Uint64() >= l.sampled { //nolint:gosec // no secret
		return
	}
	for i := range l.writers {
		// Nobody waits: there are as many writers as calls are likely to end at one moment.
		if w := &l.writers[i]; w.mu.TryLock() {
			w.line = l.layout.appendLine(w.line[:0], c, &sent, w)
			_, _ = l.out.Write(w.line) // the sink counts what it drops
			if cap(w.line) > maxKept {
				w.line = nil
			}
			w.mu.Unlock()
			return
		}
	}
	b := rpc.GetBuffer()
	b.B = l.layout.appendLine(b.B, c, &sent, nil)
	_, _ = l.out.Write(b.B)
	b.Free()
}

// maxKept is the largest buffer that a writer keeps.
const maxKept = 64 << 10

// remarkable tells the calls that are logged whatever share is.
func (l *accessLog) remarkable(c *rpc.Call, sent *rpc.Sent) bool {
	return sent.Code != codes.OK || sent.Status >= 400 || sent.Err != nil || l.slow > 0 && sent.End.Sub(c.Times.Start) >= l.slow
}

// Close gives the output up.
func (l *accessLog) Close() error { return l.out.Close() }
