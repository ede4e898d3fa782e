package telemetry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Sinks are the outputs of logs, each open once however many use it. They live as long as the gateway: a sink outlives the
// snapshots that name it. Safe for concurrent use.
type Sinks struct {
	dropped *CounterVec
	failed  func(output string, err error)
	stdout  io.Writer
	stderr  io.Writer
	offline bool // outputs are looked at, not opened

	mu   sync.Mutex
	open map[string]*sink // by output; guarded by mu, as are the sinks' users
}

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

// Open returns a writer to an output: "stdout", "stderr" or the path of a file or named pipe. A file is appended to,
// and made with mode 0640 if need be; when it is renamed or removed (logrotate), the next line after a second goes to a
// new one.
//
// Each Write is one or more whole lines; it copies them and never blocks. What finds the queue (4 MiB) full, or cannot be
// written, is dropped and counted. Lines keep their order and are never torn. Close gives the output up; the last user's
// Close writes what is queued, for at most a second.
func (s *Sinks) Open(output string) (io.WriteCloser, error) {
	key := output
	if output != "stdout" && output != "stderr" {
		if !strings.ContainsRune(output, filepath.Separator) {
			return nil, fmt.Errorf(`log output: want "stdout", "stderr" or a path with a %q in it, found %q`,
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
	k.users++
	return &handle{sinks: s, sink: k}, nil
}

func (s *Sinks) target(key string) (io.Writer, error) {
	switch key {
	case "stdout":
		return s.stdout, nil
	case "stderr":
		return s.stderr, nil
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
func (s *Sinks) release(k *sink) error {
	s.mu.Lock()
	k.users--
	last := k.users == 0
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
	return h.sinks.release(h.sink)
}

// logFile is a file that follows its path: after a rename it makes a new one. One goroutine uses it, except for
// SetWriteDeadline, which any may call.
type logFile struct {
	path string
	file atomic.Pointer[os.File]
}

// Write writes p in one call to the system where it can.
func (f *logFile) Write(p []byte) (int, error) { return f.file.Load().Write(p) }

// SetWriteDeadline interrupts a write that waits; an error where the system cannot.
func (f *logFile) SetWriteDeadline(t time.Time) error { return f.file.Load().SetWriteDeadline(t) }

// Close closes the file.
func (f *logFile) Close() error { return f.file.Load().Close() }

// openLog opens path for appending. It does not block on a named pipe that nobody reads: that is an error.
func openLog(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640) //nolint:gosec // the operator's path; group may read logs
	switch {
	case errors.Is(err, syscall.ENXIO):
		return nil, errors.New("nobody reads this pipe; start its reader first")
	case errors.Is(err, fs.ErrNotExist):
		return nil, noFolder(path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("user %d may not write there", os.Getuid())
	case err != nil:
		return nil, errors.Unwrap(err)
	}
	l := &logFile{path: path}
	l.file.Store(f)
	return l, nil
}

// follow opens the file anew if path does not lead to it any more. On an error the old one stays in use.
func (f *logFile) follow() (renewed bool, err error) {
	mine, err := f.file.Load().Stat()
	if err != nil {
		return false, err
	}
	if at, err := os.Stat(f.path); err == nil && os.SameFile(at, mine) {
		return false, nil
	}
	next, err := openLog(f.path)
	if err != nil {
		return false, fmt.Errorf("open the file anew: %w", err)
	}
	return true, f.file.Swap(next.file.Load()).Close()
}
