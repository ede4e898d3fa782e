package telemetry

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// aside lists the files beside path that were set aside, oldest first.
func aside(t *testing.T, path string) []string {
	t.Helper()
	return must[[]string](t)(filepath.Glob(path + ".*"))
}

// TestRotateBySize: nothing is lost or torn over the files, and no more are kept than wished for.
func TestRotateBySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	other := path + ".old" // not of ours: it stays
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := newSinks(t, nil, nil)
	w := must[interface {
		Write(p []byte) (int, error)
		Close() error
	}](t)(s.Open(path, Rotation{MaxBytes: 64 << 10, Keep: 100}))
	const n = 2000
	for i := range n {
		if _, err := w.Write(line(i)); err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 { // a write of its own
			eventually(t, "the lines are written", func() bool { return written(t, path) >= (i+1)*len(line(0)) })
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	files := append(slices.DeleteFunc(aside(t, path), func(f string) bool { return f == other }), path)
	for _, f := range files {
		raw := must[[]byte](t)(os.ReadFile(f))
		if len(raw) > 128<<10 {
			t.Errorf("%s has %d bytes", f, len(raw))
		}
		all.Write(raw)
	}
	if got := sequence(t, &all); got != n || len(files) < 5 {
		t.Errorf("%d lines in %d files, want %d in many", got, len(files), n)
	}
	if must[os.FileInfo](t)(os.Stat(path)).Mode().Perm()&^0o640 != 0 {
		t.Error("others may read the log")
	}
}

// written is how many bytes the log has in all its files; the filler is wider than a number.
func written(t *testing.T, path string) int {
	t.Helper()
	n := 0
	for _, f := range append(aside(t, path), path) {
		if info, err := os.Stat(f); err == nil { // else it is being set aside
			n += int(info.Size())
		}
	}
	return n
}

func TestRotateKeepsSome(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	f := must[*logFile](t)(openLog(path))
	defer f.Close()
	r := &Rotation{MaxBytes: 1, Keep: 2}
	at := time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)
	for i := range 5 {
		if _, err := f.Write([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
		if !f.due(r, 1, at) {
			t.Fatalf("write %d: not due", i)
		}
		if renewed, err := f.rotate(r, at); err != nil || !renewed { // all at one moment: the names differ all the same
			t.Fatal(renewed, err)
		}
		if f.due(r, 1, at) {
			t.Error("an empty file is due")
		}
	}
	want := []string{path + ".20261122T050000.003Z", path + ".20261122T050000.004Z"}
	if got := aside(t, path); len(got) != 2 || !strings.HasPrefix(got[0], path+".20261122T050000.00") {
		t.Errorf("kept %v, want like %v", got, want)
	}
}

func TestRotateByAge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(path, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	f := must[*logFile](t)(openLog(path))
	defer f.Close()
	if r := (&Rotation{MaxAge: time.Hour, Keep: 1}); !f.due(r, 1, time.Now()) || (&Rotation{MaxAge: 3 * time.Hour}).never() {
		t.Error("a file of two hours is not due after one")
	}
	if f.due(&Rotation{MaxAge: 3 * time.Hour}, 1, time.Now()) {
		t.Error("a file of two hours is due after three")
	}
}

// TestRotateFails: where the file cannot be set aside, lines go on into it, and the failure is told once.
func TestRotateFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.log")
	failed := make(chan error, 100)
	s, _ := newSinks(t, nil, func(_ string, err error) { failed <- err })
	w := must[interface {
		Write(p []byte) (int, error)
		Close() error
	}](t)(s.Open(path, Rotation{MaxBytes: 1000, Keep: 1}))
	if _, err := w.Write(line(0)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first line", func() bool { return written(t, path) > 0 })
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if _, err := w.Write(line(i + 1)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the line is in the file that was", func() bool { return written(t, filepath.Join(dir+".gone", "a.log")) >= (i+2)*len(line(0)) })
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if len(failed) != 1 {
		t.Errorf("told %d times, want once", len(failed))
	}
}

// TestLastRotationHolds: of several users of a file the last who wishes for a rotation has it.
func TestLastRotationHolds(t *testing.T) {
	s, _ := newSinks(t, nil, nil)
	path := filepath.Join(t.TempDir(), "a.log")
	var handles []interface{ Close() error }
	var k *sink
	check := func(want int64) {
		t.Helper()
		var got int64
		if r := k.rotation.Load(); r != nil {
			got = r.MaxBytes
		}
		if got != want {
			t.Errorf("rotation at %d bytes, want %d", got, want)
		}
	}
	for _, size := range []int64{100, 0, 300} {
		h, err := s.Open(path, Rotation{MaxBytes: size})
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, h)
	}
	k = s.open[path]
	check(300)
	for i, want := range []int64{100, 100, 0} {
		if i == 2 {
			break
		}
		if err := handles[2-i].Close(); err != nil {
			t.Fatal(err)
		}
		check(want)
	}
	if err := handles[0].Close(); err != nil {
		t.Fatal(err)
	}
}
