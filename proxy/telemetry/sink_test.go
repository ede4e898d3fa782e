package telemetry

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newSinks makes sinks whose standard output is out, and the counter of its lost lines.
func newSinks(t testing.TB, out io.Writer, failed func(string, error)) (*Sinks, *Counter) {
	t.Helper()
	s := must[*Sinks](t)(NewSinks(newMeter(t), failed))
	s.stdout = out
	return s, s.dropped.With("stdout")
}

func open(t testing.TB, s *Sinks, output string) io.WriteCloser {
	t.Helper()
	return must[io.WriteCloser](t)(s.Open(output, Rotation{}))
}

// eventually waits until ok; the deadline only bounds a failure.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10s: %s", what)
		}
		time.Sleep(time.Millisecond) // a poll's pause: the condition decides
	}
}

// sequence checks that every line of r is whole and that their numbers rise; it returns how many there are.
func sequence(t testing.TB, r io.Reader) int {
	t.Helper()
	n, last := 0, -1
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		line := scanner.Text()
		number, rest, _ := strings.Cut(line, " ")
		i, err := strconv.Atoi(number)
		if err != nil || rest != filler {
			t.Fatalf("line %d is torn: %q", n, line)
		}
		if i <= last {
			t.Fatalf("line %d comes after line %d", i, last)
		}
		n, last = n+1, i
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

var filler = strings.Repeat("x", 300)

func line(i int) []byte { return fmt.Appendf(nil, "%d %s\n", i, filler) }

func TestSinkWritesLinesInOrder(t *testing.T) {
	var out bytes.Buffer
	s, dropped := newSinks(t, &out, nil)
	w := open(t, s, "stdout")
	const n = 5000
	for i := range n {
		if _, err := w.Write(line(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := sequence(t, &out); got != n || dropped.Value() != 0 {
		t.Errorf("%d lines written and %d dropped, want %d and 0", got, dropped.Value(), n)
	}
	if _, err := w.Write(line(0)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// TestSinkLingersButNotForLong: a single line goes out without a second one pushing it.
func TestSinkLingersButNotForLong(t *testing.T) {
	r, pw := io.Pipe()
	s, _ := newSinks(t, pw, nil)
	w := open(t, s, "stdout")
	if _, err := w.Write(line(1)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(line(1)))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, line(1)) {
		t.Errorf("read %q, %v", got, err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestStuckReaderNeverBlocks writes four times what the queue holds to a pipe that nobody reads (R6).
func TestStuckReaderNeverBlocks(t *testing.T) {
	r, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, dropped := newSinks(t, pw, nil)
	w := open(t, s, "stdout")
	n := 4 * maxQueue / len(line(100000))
	for i := range n { // would hang here
		if _, err := w.Write(line(i)); err != nil {
			t.Fatal(err)
		}
	}
	lost := dropped.Value()
	if kept := int64(n) - lost; kept*int64(len(line(0))) > maxQueue+128<<10 || kept == 0 {
		t.Errorf("%d lines are queued, want about %d", kept, maxQueue/len(line(100000)))
	}
	// The reader goes on: what is queued comes out whole and in order, and nothing is unaccounted for.
	read := make(chan int)
	go func() { read <- sequence(t, r) }()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := pw.Close(); err != nil {
		t.Error(err)
	}
	if got := <-read; int64(got)+dropped.Value() != int64(n) || dropped.Value() != lost {
		t.Errorf("%d lines read and %d dropped, want %d together", got, dropped.Value(), n)
	}
}

// TestCloseOfStuckOutput: Close gives up after its second, counts what is lost and ends the goroutine.
func TestCloseOfStuckOutput(t *testing.T) {
	r, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer pw.Close()
	s, dropped := newSinks(t, pw, nil)
	w := open(t, s, "stdout")
	k := s.open["stdout"]
	const n = 1000
	for i := range n {
		if _, err := w.Write(line(i)); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	err = w.Close()
	if err == nil || !strings.HasSuffix(err.Error(), " bytes not written within 1s") {
		t.Errorf("close: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("close took %s", took)
	}
	<-k.done
	if err := pw.Close(); err != nil {
		t.Fatal(err)
	}
	out := must[[]byte](t)(io.ReadAll(r))
	whole := bytes.Count(out, []byte{'\n'})
	if int64(whole)+dropped.Value() != n {
		t.Errorf("%d lines read and %d dropped, want %d together", whole, dropped.Value(), n)
	}
}

// fullDisk takes some bytes, then fails until it is freed.
type fullDisk struct {
	mu   sync.Mutex
	left int
	out  bytes.Buffer
}

func (d *fullDisk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(d.left, len(p))
	d.left -= n
	d.out.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *fullDisk) free(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = n
}

// TestFullDiskCountsAndMends: what does not fit is counted; once there is room the line written in part is finished first.
func TestFullDiskCountsAndMends(t *testing.T) {
	disk := &fullDisk{left: 10*len(line(10)) + 57} // the end of a line is cut off
	var mu sync.Mutex
	var reports []error
	s, dropped := newSinks(t, disk, func(output string, err error) {
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, fmt.Errorf("%s: %w", output, err))
	})
	w := open(t, s, "stdout")
	written := 0
	write := func(n int) {
		for range n {
			if _, err := w.Write(line(written)); err != nil {
				t.Fatal(err)
			}
			written++
		}
	}
	write(100)
	eventually(t, "lines are dropped", func() bool { return dropped.Value() > 0 })
	write(100)
	eventually(t, "more lines are dropped", func() bool { return dropped.Value() >= 150 })
	disk.free(1 << 20)
	write(100)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if got := sequence(t, &disk.out); int64(got)+dropped.Value() != int64(written) || got < 100 {
		t.Errorf("%d lines written and %d dropped, want %d together", got, dropped.Value(), written)
	}
	if len(reports) != 1 || reports[0].Error() != "stdout: no space left on device" {
		t.Errorf("reports %v, want one", reports)
	}
}

func TestDeviceFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full here")
	}
	s := must[*Sinks](t)(NewSinks(newMeter(t), nil))
	w := open(t, s, "/dev/full")
	for i := range 100 {
		if _, err := w.Write(line(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if got := s.dropped.With("/dev/full").Value(); got != 100 {
		t.Errorf("%d lines dropped, want 100", got)
	}
}

type panickingWriter struct{}

func (panickingWriter) Write([]byte) (int, error) { panic("broken") }

type shortWriter struct{}

func (shortWriter) Write(p []byte) (int, error) { return len(p) + 7, errors.New("too many") }

func TestBrokenWriterIsCounted(t *testing.T) {
	for _, broken := range []io.Writer{panickingWriter{}, shortWriter{}} {
		t.Run(fmt.Sprintf("%T", broken), func(t *testing.T) {
			reported := make(chan error, 1)
			s, dropped := newSinks(t, broken, func(_ string, err error) { reported <- err })
			w := open(t, s, "stdout")
			if _, err := w.Write(line(1)); err != nil {
				t.Fatal(err)
			}
			if err := <-reported; err == nil {
				t.Error("nil was reported")
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if _, panics := broken.(panickingWriter); panics && dropped.Value() != 1 {
				t.Errorf("%d lines dropped, want 1", dropped.Value())
			}
		})
	}
}

// TestSinkIsShared: two users of one output have one sink, whose lines are not mixed; the first Close leaves it open.
func TestSinkIsShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	s := must[*Sinks](t)(NewSinks(newMeter(t), nil))
	a, b := open(t, s, path), open(t, s, filepath.Join(filepath.Dir(path), ".", "access.log"))
	if len(s.open) != 1 {
		t.Fatalf("%d sinks are open, want 1", len(s.open))
	}
	var wg sync.WaitGroup
	const n = 500
	for _, w := range []io.Writer{a, b} {
		wg.Go(func() {
			for range n {
				if _, err := w.Write(line(7)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.Write(line(7)); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if len(s.open) != 0 {
		t.Errorf("%d sinks are open after the last Close", len(s.open))
	}
	got := must[[]byte](t)(os.ReadFile(path))
	if want := bytes.Repeat(line(7), 2*n+1); !bytes.Equal(got, want) {
		t.Errorf("the file has %d bytes, want %d of whole lines", len(got), len(want))
	}
	info := must[os.FileInfo](t)(os.Stat(path))
	if info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v, want at most 0640", info.Mode())
	}
}

// TestFileIsFollowed: after a rename lines go to a new file within some seconds, none is lost on the way.
func TestFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	s := must[*Sinks](t)(NewSinks(newMeter(t), nil))
	w := open(t, s, path)
	written := 0
	write := func() {
		if _, err := w.Write(line(written)); err != nil {
			t.Fatal(err)
		}
		written++
	}
	write()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new file", func() bool {
		write()
		_, err := os.Stat(path)
		return err == nil
	})
	write()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	before, after := must[[]byte](t)(os.ReadFile(path+".1")), must[[]byte](t)(os.ReadFile(path))
	if got := sequence(t, bytes.NewReader(append(before, after...))); got != written || len(after) == 0 {
		t.Errorf("%d lines in both files, %d bytes in the new one; want %d lines", got, len(after), written)
	}
}

// TestFolderGone: when the file cannot be made anew, lines go on into the old one and the fault is told once.
func TestFolderGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	reported := make(chan error, 10)
	s := must[*Sinks](t)(NewSinks(newMeter(t), func(_ string, err error) { reported <- err }))
	path := filepath.Join(dir, "access.log")
	w := open(t, s, path)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a report", func() bool {
		if _, err := w.Write(line(1)); err != nil {
			t.Fatal(err)
		}
		return len(reported) > 0
	})
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	want := fmt.Sprintf("open the file anew: there is no folder %q; make it first", dir)
	if err := <-reported; err.Error() != want || len(reported) > 0 {
		t.Errorf("report %q and %d more, want %q and none", err, len(reported), want)
	}
	if n := s.dropped.With(path).Value(); n != 0 {
		t.Errorf("%d lines dropped", n)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s := must[*Sinks](t)(NewSinks(newMeter(t), nil))
	for _, tt := range []struct{ output, want string }{
		{"", `log output: want "stdout", "stderr", "otlp" or a path with a '/' in it, found ""`},
		{"stdot", `log output: want "stdout", "stderr", "otlp" or a path with a '/' in it, found "stdot"`},
		{"access.log", `log output: want "stdout", "stderr", "otlp" or a path with a '/' in it, found "access.log"`},
		{dir, fmt.Sprintf(`log output %q: is a directory`, dir)},
		{dir + "/no/x.log", fmt.Sprintf(`log output %q: there is no folder %q; make it first`, dir+"/no/x.log", dir+"/no")},
		{fifo, fmt.Sprintf(`log output %q: nobody reads this pipe; start its reader first`, fifo)},
	} {
		if _, err := s.Open(tt.output, Rotation{}); err == nil || err.Error() != tt.want {
			t.Errorf("open %q\n got %v\nwant %s", tt.output, err, tt.want)
		}
	}
	if len(s.open) != 0 {
		t.Errorf("%d sinks are open", len(s.open))
	}
}

// TestOfflineSinks: a check finds the faults and leaves no trace.
func TestOfflineSinks(t *testing.T) {
	dir := t.TempDir()
	s := must[*Sinks](t)(NewOfflineSinks(newMeter(t)))
	for output, want := range map[string]string{
		"stdout":            "",
		dir + "/access.log": "",
		"stdot":             `log output: want "stdout", "stderr", "otlp" or a path with a '/' in it, found "stdot"`,
		dir:                 fmt.Sprintf(`log output %q: is a directory`, dir),
		dir + "/no/x.log":   fmt.Sprintf(`log output %q: there is no folder %q; make it first`, dir+"/no/x.log", dir+"/no"),
	} {
		w, err := s.Open(output, Rotation{})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			if _, err := w.Write(line(1)); err != nil {
				t.Error(err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
		if got != want {
			t.Errorf("open %q\n got %s\nwant %s", output, got, want)
		}
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(dir)); len(entries) != 0 {
		t.Errorf("the check made %v", entries)
	}
}

// TestStuckPipeByPath: a named pipe whose reader stops is interrupted by Close.
func TestStuckPipeByPath(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader := must[*os.File](t)(os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0))
	defer reader.Close()
	s := must[*Sinks](t)(NewSinks(newMeter(t), nil))
	w := open(t, s, fifo)
	k := s.open[fifo]
	for i := range 1000 {
		if _, err := w.Write(line(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err == nil {
		t.Error("no error though nobody read")
	}
	<-k.done
}

func TestSinkWriteAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s, _ := newSinks(t, io.Discard, nil)
	w := open(t, s, "stdout")
	defer w.Close()
	p := line(1)
	if n := testing.AllocsPerRun(2000, func() { w.Write(p) }); n != 0 { //nolint:errcheck // never fails while open
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkSinkWrite(b *testing.B) {
	s, dropped := newSinks(b, io.Discard, nil)
	w := open(b, s, "stdout")
	defer w.Close()
	p := line(1)
	b.ReportAllocs()
	for b.Loop() {
		w.Write(p) //nolint:errcheck // never fails while open
	}
	b.ReportMetric(float64(dropped.Value())/float64(b.N), "dropped/op")
}
