package telemetry

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// Rotation says when a log file is set aside. The zero Rotation is never.
type Rotation struct {
	MaxBytes int64         // 0: however long; a file may be longer by one write
	MaxAge   time.Duration // 0: however old
	Keep     int           // how many files that were set aside are kept
}

func (r *Rotation) never() bool { return r.MaxBytes == 0 && r.MaxAge == 0 }

// logFile is a file that follows its path: after a rename it makes a new one. One goroutine uses it, except for
// SetWriteDeadline, which any may call.
type logFile struct {
	path  string
	file  atomic.Pointer[os.File]
	size  int64     // of the file; what others write is not seen
	since time.Time // when it was begun, as far as is known
	pipe  bool      // it has no size and no age
}

// Write writes p in one call to the system where it can.
func (f *logFile) Write(p []byte) (int, error) {
	n, err := f.file.Load().Write(p)
	f.size += int64(max(n, 0))
	return n, err
}

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
	l := &logFile{path: path, since: time.Now()}
	if info, err := f.Stat(); err == nil {
		l.pipe = !info.Mode().IsRegular()
		if l.size = info.Size(); l.size > 0 {
			l.since = info.ModTime() // it is at least that old
		}
	}
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
	return f.renew()
}

// renew opens the file anew.
func (f *logFile) renew() (renewed bool, err error) {
	next, err := openLog(f.path)
	if err != nil {
		return false, fmt.Errorf("open the file anew: %w", err)
	}
	f.size, f.since, f.pipe = next.size, next.since, next.pipe
	return true, f.file.Swap(next.file.Load()).Close()
}

// due tells whether the file is to be set aside before n more bytes are written to it.
func (f *logFile) due(r *Rotation, n int, now time.Time) bool {
	if f.pipe || f.size == 0 {
		return false
	}
	return r.MaxBytes > 0 && f.size+int64(n) > r.MaxBytes || r.MaxAge > 0 && now.Sub(f.since) >= r.MaxAge
}

// asideForm is the end of the name of a file that was set aside: the time, UTC, behind a point.
const asideForm = ".20060102T150405.000Z"

// rotate sets the file aside, makes a new one and removes those that are too many. On an error the old one stays in use.
func (f *logFile) rotate(r *Rotation, now time.Time) (renewed bool, err error) {
	at := now.UTC()
	aside := f.path + at.Format(asideForm)
	for {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
		at = at.Add(time.Millisecond)
		aside = f.path + at.Format(asideForm)
	}
	if err := os.Rename(f.path, aside); err != nil {
		return false, fmt.Errorf("set the file aside: %w", err)
	}
	if renewed, err = f.renew(); err != nil {
		return renewed, err
	}
	return renewed, f.prune(r.Keep)
}

// prune removes the oldest of the files that were set aside.
func (f *logFile) prune(keep int) error {
	dir, base := filepath.Split(f.path)
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return err
	}
	var aside []string
	for _, e := range entries {
		name := e.Name()
		if len(name) != len(base)+len(asideForm) || name[:len(base)] != base {
			continue
		}
		if _, err := time.Parse(asideForm, name[len(base):]); err == nil {
			aside = append(aside, name)
		}
	}
	slices.Sort(aside) // by their time
	for len(aside) > keep {
		err = errors.Join(err, os.Remove(filepath.Join(dir, aside[0])))
		aside = aside[1:]
	}
	return err
}
