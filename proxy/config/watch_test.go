package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched runs a Watcher over files and gives its calls.
type watched struct {
	t     *testing.T
	files atomic.Pointer[[]string]
	calls chan struct{}
}

func watch(t *testing.T, w *Watcher, files ...string) *watched {
	t.Helper()
	s := &watched{t: t, calls: make(chan struct{}, 1000)}
	decoy := filepath.Join(t.TempDir(), "decoy") // makes a call at the start, even if there is no other file
	put(t, decoy, "")
	files = append(files, decoy)
	s.files.Store(&files)
	standing := make(chan struct{})
	first := true
	w.Files = func() []string {
		defer func() {
			if first {
				first = false
			} else if standing != nil {
				close(standing)
				standing = nil
			}
		}()
		return *s.files.Load()
	}
	w.Changed = func() { s.calls <- struct{}{} }
	if w.poll == 0 {
		w.poll = time.Hour // notifications alone
	}
	ready := standing
	w.Since = time.Now().Add(-time.Hour) // one call at the start: after it the watches stand
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case <-time.NewTimer(10 * time.Second).C:
		t.Fatal("the watcher does not start")
	}
	s.drain()
	return s
}

// wait waits for a call.
func (s *watched) wait(after string) {
	s.t.Helper()
	select {
	case <-s.calls:
	case <-time.NewTimer(10 * time.Second).C:
		s.t.Fatalf("no call after: %s", after)
	}
}

// drain takes calls until there was none for a while.
func (s *watched) drain() {
	for {
		select {
		case <-s.calls:
		case <-time.NewTimer(4 * fast).C:
			return
		}
	}
}

// silent fails if something is told within a few times the quiet period.
func (s *watched) silent(after string) {
	s.t.Helper()
	select {
	case <-s.calls:
		s.t.Fatalf("a call after: %s", after)
	case <-time.NewTimer(6 * fast).C:
	}
}

const fast = 30 * time.Millisecond

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	t.Run("written in place", func(t *testing.T) {
		t.Parallel()
		f := filepath.Join(t.TempDir(), "c.yaml")
		put(t, f, "a")
		s := watch(t, &Watcher{quiet: fast}, f)
		put(t, f, "b") // the same size
		s.wait("a write")
		s.drain()
		s.silent("nothing")
	})
	t.Run("truncated and written in two steps", func(t *testing.T) {
		t.Parallel()
		f := filepath.Join(t.TempDir(), "c.yaml")
		put(t, f, "listen: []\nroutes: []\n")
		s := watch(t, &Watcher{quiet: 300 * time.Millisecond}, f)
		h, err := os.Create(f) //nolint:gosec // of this test
		must(t, err)
		_, err = h.WriteString("listen: []\n")
		must(t, err)
		_, err = h.WriteString("routes: []\n")
		must(t, err)
		must(t, h.Close())
		s.wait("the writes")
		if b, err := os.ReadFile(f); err != nil || len(b) != 22 { //nolint:gosec // of this test
			t.Errorf("told while half of it was written: %q, %v", b, err)
		}
		select {
		case <-s.calls:
			t.Error("told twice")
		case <-time.NewTimer(600 * time.Millisecond).C:
		}
	})
	t.Run("renamed over, as editors do", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		f := filepath.Join(dir, "c.yaml")
		put(t, f, "a")
		s := watch(t, &Watcher{quiet: fast}, f)
		for range 3 {
			put(t, filepath.Join(dir, ".c.yaml.swp"), "a")
			must(t, os.Rename(f, f+"~"))
			must(t, os.Rename(filepath.Join(dir, ".c.yaml.swp"), f))
			s.wait("a rename")
			s.drain()
		}
	})
	t.Run("deleted and made again", func(t *testing.T) {
		t.Parallel()
		f := filepath.Join(t.TempDir(), "c.yaml")
		put(t, f, "a")
		s := watch(t, &Watcher{quiet: fast}, f)
		must(t, os.Remove(f))
		s.wait("a removal")
		s.drain()
		put(t, f, "a")
		s.wait("it was made again")
	})
	t.Run("not there yet, nor its folders", func(t *testing.T) {
		t.Parallel()
		f := filepath.Join(t.TempDir(), "a", "b", "c.yaml")
		s := watch(t, &Watcher{quiet: fast}, f)
		put(t, f, "a")
		s.wait("it was made")
		s.drain()
		put(t, f, "bb")
		s.wait("a write")
	})
	t.Run("symlinks swapped, as Kubernetes does", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		put(t, filepath.Join(dir, "..v1", "c.yaml"), "a")
		must(t, os.Symlink("..v1", filepath.Join(dir, "..data")))
		f := filepath.Join(dir, "c.yaml")
		must(t, os.Symlink(filepath.Join("..data", "c.yaml"), f))
		s := watch(t, &Watcher{quiet: fast}, f)
		for _, next := range []string{"..v2", "..v3"} {
			put(t, filepath.Join(dir, next, "c.yaml"), "a")
			must(t, os.Symlink(next, filepath.Join(dir, "..tmp")))
			must(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
			s.wait("the swap to " + next)
			s.drain()
		}
	})
	t.Run("the folder is a symlink that is swapped", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		put(t, filepath.Join(dir, "releases", "1", "c.yaml"), "a")
		put(t, filepath.Join(dir, "releases", "2", "c.yaml"), "b")
		link := filepath.Join(dir, "app", "current")
		must(t, os.MkdirAll(filepath.Dir(link), 0o750))
		must(t, os.Symlink("../releases/1", link))
		s := watch(t, &Watcher{quiet: fast}, filepath.Join(link, "c.yaml"))
		must(t, os.Symlink("../releases/2", link+".new"))
		must(t, os.Rename(link+".new", link))
		s.wait("the swap")
		s.drain()
		put(t, filepath.Join(dir, "releases", "2", "c.yaml"), "ccc")
		s.wait("a write to the new target")
	})
	t.Run("the folder is replaced whole", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "conf")
		f := filepath.Join(dir, "c.yaml")
		put(t, f, "a")
		s := watch(t, &Watcher{quiet: fast}, f)
		put(t, filepath.Join(dir+".new", "c.yaml"), "b")
		must(t, os.Rename(dir, dir+".old"))
		must(t, os.Rename(dir+".new", dir))
		s.wait("the rename")
		s.drain()
		put(t, f, "ccc")
		s.wait("a write in the new folder")
		s.drain()
		must(t, os.RemoveAll(dir))
		s.wait("the removal")
		s.drain()
		put(t, f, "d")
		s.wait("it was made again")
	})
	t.Run("fragments come and go", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		put(t, filepath.Join(dir, "10.yaml"), "a")
		s := watch(t, &Watcher{quiet: fast}, dir, filepath.Join(dir, "10.yaml"))
		put(t, filepath.Join(dir, "20.yaml"), "a")
		s.wait("a new fragment")
		s.drain()
		s.files.Store(&[]string{dir, filepath.Join(dir, "10.yaml"), filepath.Join(dir, "20.yaml")})
		put(t, filepath.Join(dir, "10.yaml"), "bb") // the set is asked after this call
		s.wait("a write")
		s.drain()
		put(t, filepath.Join(dir, "20.yaml"), "cc")
		s.wait("a write to the new fragment")
		s.drain()
		must(t, os.Remove(filepath.Join(dir, "10.yaml")))
		s.wait("a removal")
		s.drain()
		put(t, filepath.Join(dir, ".hidden.yaml"), "x")
		put(t, filepath.Join(dir, "20.yaml~"), "x")
		s.silent("files that do not count")
	})
	t.Run("other files beside it", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		f := filepath.Join(dir, "c.yaml")
		put(t, f, "a")
		s := watch(t, &Watcher{quiet: fast}, f)
		put(t, filepath.Join(dir, "access.log"), "x")
		s.silent("a write to another file")
	})
	t.Run("without end", func(t *testing.T) {
		t.Parallel()
		f := filepath.Join(t.TempDir(), "c.yaml")
		put(t, f, "a")
		s := watch(t, &Watcher{quiet: 20 * fast, most: 40 * fast}, f)
		stop := time.NewTimer(10 * time.Second)
		for i := 0; ; i++ {
			put(t, f, string(make([]byte, i%7)))
			select {
			case <-s.calls: // although it was never quiet
				return
			case <-stop.C:
				t.Fatal("never told")
			case <-time.NewTimer(time.Millisecond).C:
			}
		}
	})
}

// TestPoll: what changed without a notification is found by looking.
func TestPoll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := filepath.Join(dir, "c.yaml")
	put(t, f, "a")
	l := &look{folders: map[string]identity{}} // no notifications
	must(t, l.aim([]string{f, filepath.Join(dir, "none"), dir}))
	if l.changed() {
		t.Error("changed at once")
	}
	steps := []struct {
		name string
		do   func() error
	}{
		{"size", func() error { return os.WriteFile(f, []byte("bb"), 0o600) }},
		{"time", func() error { return os.Chtimes(f, time.Time{}, time.Unix(1, 0)) }},
		{"mode", func() error { return os.Chmod(f, 0o400) }},
		{"inode", func() error {
			if err := os.WriteFile(f+".new", []byte("bb"), 0o400); err != nil {
				return err
			}
			if err := os.Chtimes(f+".new", time.Time{}, time.Unix(1, 0)); err != nil {
				return err
			}
			return os.Rename(f+".new", f)
		}},
		{"made", func() error { return os.WriteFile(filepath.Join(dir, "none"), nil, 0o600) }},
		{"gone", func() error { return os.Remove(f) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if !l.changed() {
			t.Errorf("%s: not seen", step.name)
		}
		if l.changed() {
			t.Errorf("%s: seen twice", step.name)
		}
	}
}

// TestPolling runs a watcher whose notifications are of no use: they are settled after an hour of quiet only.
func TestPolling(t *testing.T) {
	t.Parallel()
	f := filepath.Join(t.TempDir(), "c.yaml")
	put(t, f, "a")
	s := watch(t, &Watcher{quiet: time.Hour, most: 2 * time.Hour, poll: 10 * time.Millisecond}, f)
	put(t, f, "bb")
	s.wait("a look")
}

// TestChangeDuringReload: what changes while the last change is being read is told once more.
func TestChangeDuringReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, extra := filepath.Join(dir, "c.yaml"), filepath.Join(dir, "sub", "extra")
	put(t, f, "a")
	files := []string{f}
	calls := make(chan int, 100)
	n := 0
	w := &Watcher{quiet: fast, poll: time.Hour, Since: time.Now().Add(-time.Hour), Files: func() []string { return files }}
	w.Changed = func() {
		n++
		if n == 1 { // it reads another file from now on, which changes right after
			put(t, extra, "x")
			files = []string{f, extra}
		}
		calls <- n
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for want := 1; want <= 2; want++ {
		select {
		case got := <-calls:
			if got != want {
				t.Errorf("call %d, want %d", got, want)
			}
		case <-time.NewTimer(10 * time.Second).C:
			t.Fatalf("no call %d", want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := (&Watcher{}).Run(context.Background()); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("an empty watcher ran: %v", err)
	}
}
