package config

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watcher tells when files change: written in place, renamed over by an editor, swapped behind a symlink (as Kubernetes
// mounts them), deleted, or made for the first time. It takes the kernel's word for it, and looks for itself besides,
// because notifications get lost.
type Watcher struct {
	// Files gives the files and folders to watch. It is asked again after each change, from Run's goroutine. Of a folder
	// the names below it count; files in it are watched when they are listed themselves.
	Files func() []string
	// Changed is called from Run's goroutine when something changed, or may have. What the watcher saw before the call is
	// settled by it: a change during the call leads to another.
	Changed func()
	// Since is when the files were about to be read for the first time; what changed after it is told at the start of
	// Run. Zero: when Run starts.
	Since time.Time
	// Warn hears that notifications do not work and only polling is left; nil: nobody hears it.
	Warn func(error)

	quiet, most, poll time.Duration // 0: the defaults below
}

const (
	// A change is told when nothing more happened for defaultQuiet: editors and copies write in several steps. Files that
	// are written without end do not put it off for more than defaultMost.
	defaultQuiet = 100 * time.Millisecond
	defaultMost  = time.Second
	// defaultPoll is how often the watcher looks for itself, blindPoll how often when there are no notifications.
	defaultPoll = 30 * time.Second
	blindPoll   = 2 * time.Second
)

// Run watches until the context ends, and returns nil then. The error says that the Watcher is not complete.
func (w *Watcher) Run(ctx context.Context) error {
	if w.Files == nil || w.Changed == nil {
		return errors.New("config: a watcher needs Files and Changed")
	}
	quiet, most, poll := orDefault(w.quiet, defaultQuiet), orDefault(w.most, defaultMost), orDefault(w.poll, defaultPoll)
	l := &look{folders: map[string]identity{}}
	var events chan fsnotify.Event
	var lost chan error
	notify, err := fsnotify.NewWatcher()
	if err == nil {
		defer notify.Close() //nolint:errcheck // nothing is left to do about it
		l.notify, events, lost = notify, notify.Events, notify.Errors
	} else {
		w.warn(fmt.Errorf("watching files: %w; looking every %s", err, blindPoll))
		poll = min(poll, blindPoll)
	}
	if err := l.aim(w.Files()); err != nil {
		w.warn(fmt.Errorf("watching files: %w; looking every %s", err, blindPoll))
		poll = min(poll, blindPoll)
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	settle := time.NewTimer(0) // runs while something may have changed
	if l.dirty = !w.Since.IsZero() && l.freshSince(w.Since); !l.dirty {
		settle.Stop()
	}
	defer settle.Stop()
	var since time.Time // of the first event that was not told yet
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			now := time.Now()
			if since.IsZero() {
				since = now
			}
			l.note(e)
			settle.Reset(max(0, min(quiet, most-now.Sub(since))))
			continue
		case err := <-lost: // the queue ran over, most likely
			w.warn(fmt.Errorf("watching files: %w", err))
		case <-tick.C:
		case <-settle.C:
		}
		since = time.Time{}
		w.settle(l, settle, quiet)
	}
}

// settle tells of a change if there is one, and looks once more when the watches have been put where they are needed now.
func (w *Watcher) settle(l *look, again *time.Timer, quiet time.Duration) {
	started := time.Now()
	changed := l.changed()
	if changed {
		w.Changed()
	}
	if err := l.aim(w.Files()); err != nil {
		w.warn(fmt.Errorf("watching files: %w", err))
	}
	// A file that is new in the set may have changed since Changed read it.
	if l.changed() || changed && l.freshSince(started) {
		l.dirty = true
		again.Reset(quiet)
	}
}

func (w *Watcher) warn(err error) {
	if w.Warn != nil {
		w.Warn(err)
	}
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
