package telemetry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Sinks are the outputs of logs, each open once however many use it. They live as long as the gateway: a sink outlives the
// snapshots that name it. Safe for concurrent use.
type Sinks struct {
	dropped *CounterVec
	failed  func(output string, err error)
	stdout  io.Writer
	stderr  io.Writer
	offline bool // outputs are looked at, not opened

	collector io.Writer // of the output Collector; nil: there is none

	mu   sync.Mutex
	open map[string]*sink // by output; guarded by mu, as are the sinks' users
}

// The outputs that are no files.
const (
	Stdout    = "stdout"
	Stderr    = "stderr"
	Collector = "otlp" // the collector that Exports send logs to
)

// NewSinks makes the set of outputs; lost lines are counted with m as causeway_log_dropped_lines_total. failed, if not
// nil, is told once when an output begins to fail and is called from the output's own goroutine: it must not write to it.
func NewSinks(m *Meter, failed func(output string, err error)) (*Sinks, error) {
	dropped, err := m.Counter("causeway_log_dropped_lines_total", "",
		"Log lines lost because the output was too slow or failed.", "output")
	if err != nil {
		return nil, err
	}
	return &Sinks{
		dropped: dropped, failed: failed, stdout: os.Stdout, stderr: os.Stderr,
		open: map[string]*sink{},
	}, nil
}

// NewOfflineSinks makes a set for those who check a configuration beside the gateway that runs it: Open finds the same
// faults in an output as far as looking can, makes no file, and what is written goes nowhere.
func NewOfflineSinks(m *Meter) (*Sinks, error) {
	s, err := NewSinks(m, nil)
	if err != nil {
		return nil, err
	}
	s.stdout, s.stderr, s.offline = io.Discard, io.Discard, true
	return s, nil
}

// Collect makes w the output Collector. It is called before anything is opened.
func (s *Sinks) Collect(w io.Writer) { s.collector = w }

// Open returns a writer to an output: Stdout, Stderr, Collector or the path of a file or named pipe. A file is appended to,
// and made with mode 0640 if need be; when it is renamed or removed (logrotate), the next line after a second goes to a
// new one. Of several rotations that users of one file wish for, the one of who came last holds.
//
// Each Write is one or more whole lines; it copies them and never blocks. What finds the queue (4 MiB) full, or cannot be
// written, is dropped and counted. Lines keep their order and are never torn. Close gives the output up; the last user's
// Close writes what is queued, for at most a second.
func (s *Sinks) Open(output string, r Rotation) (io.WriteCloser, error) {
	key := output
	if output != Stdout && output != Stderr && output != Collector {
		if !strings.ContainsRune(output, filepath.Separator) {
			return nil, fmt.Errorf(`log output: want "stdout", "stderr", "otlp" or a path with a %q in it, found %q`,
				filepath.Separator, output)
		}
		abs, err := filepath.Abs(output)
		if err != nil {
			return nil, fmt.Errorf("log output %q: %w", output, err)
		}
		key = abs
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.open[key]
	if k == nil {
		out, err := s.target(key)
		if err != nil {
			return nil, fmt.Errorf("log output %q: %w", output, err)
		}
		k = newSink(key, out, s.dropped.With(key), s.failed)
		s.open[key] = k
	}
	h := &handle{sinks: s, sink: k, rotation: r}
	k.users = append(k.users, h)
	k.rotateAsWished()
	return h, nil
}

func (s *Sinks) target(key string) (io.Writer, error) {
	switch key {
	case Stdout:
		return s.stdout, nil
	case Stderr:
		return s.stderr, nil
	case Collector:
		switch {
		case s.collector == nil:
			return nil, ErrNoCollector
		case s.offline:
			return io.Discard, nil
		}
		return s.collector, nil
	}
	if s.offline {
		return io.Discard, lookAt(key)
	}
	return openLog(key)
}

// lookAt finds what would keep a file from being opened, without opening it.
func lookAt(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return syscall.EISDIR
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return noFolder(path)
		}
		return nil
	case err != nil:
		return errors.Unwrap(err)
	}
	return nil
}

func noFolder(path string) error {
	return fmt.Errorf("there is no folder %q; make it first", filepath.Dir(path))
}

// release gives up one user's claim and closes the sink after the last.
func (s *Sinks) release(h *handle) error {
	k := h.sink
	s.mu.Lock()
	k.users = slices.DeleteFunc(k.users, func(u *handle) bool { return u == h })
	k.rotateAsWished()
	last := len(k.users) == 0
	if last {
		delete(s.open, k.output)
	}
	s.mu.Unlock()
	if !last {
		return nil
	}
	return k.close()
}

// handle is one user's claim on a sink.
type handle struct {
	sinks  *Sinks
	sink   *sink
	closed atomic.Bool

	rotation Rotation
}

// Write queues p, which the sink copies. The error is os.ErrClosed after Close, and nil for what is dropped: that is counted.
func (h *handle) Write(p []byte) (int, error) {
	if h.closed.Load() {
		return 0, os.ErrClosed
	}
	h.sink.write(p)
	return len(p), nil
}

// Close gives the output up. A second call does nothing.
func (h *handle) Close() error {
	if h.closed.Swap(true) {
		return nil
	}
	return h.sinks.release(h)
}
