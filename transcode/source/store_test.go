package source_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/source"
)

// numbered is a set whose message has the field number n: another content for every n.
func numbered(t testing.TB, n int) *source.Set {
	t.Helper()
	return accept(t, smallSet(t, func(fd *descriptorpb.FileDescriptorProto) { fd.MessageType[0].Field[0].Number = proto.Int32(int32(n)) }))
}

func open(t testing.TB, dir string) *source.Store {
	t.Helper()
	s, err := source.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func push(t testing.TB, s *source.Store, n int) source.Version {
	t.Helper()
	v, err := s.Push("orders", numbered(t, n), "a test", noon.Add(time.Duration(n)*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// active asserts which content and version number are served.
func active(t testing.TB, s *source.Store, number, content int) {
	t.Helper()
	set, v, ok, err := s.Active("orders")
	if err != nil || !ok {
		t.Fatalf("nothing is active: %v", err)
	}
	if v.Number != number || !v.Active {
		t.Errorf("version %+v is active, want %d", v, number)
	}
	if want := numbered(t, content).Digest; set.Digest != want || v.Digest != want {
		t.Errorf("digests %s and %s, want that of content %d", set.Digest, v.Digest, content)
	}
	if _, err := set.Schema(); err != nil {
		t.Error(err)
	}
}

// files lists the folder of a schema, digests cut to what tells them apart.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func setFile(dir string, v source.Version) string {
	return filepath.Join(dir, "orders", strings.TrimPrefix(v.Digest, "sha256:")+".binpb.gz")
}

func TestStorePush(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "schemas")
	s := open(t, dir)
	if _, _, ok, err := s.Active("orders"); ok || err != nil {
		t.Errorf("something is active before the first push: %v", err)
	}
	got := push(t, s, 1)
	want := source.Version{
		Number: 1, Digest: numbered(t, 1).Digest, Created: noon.Add(time.Minute), From: "a test", Active: true,
		Services: 1, Methods: 1, Messages: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	before := files(t, dir)
	if again := push(t, s, 1); !cmp.Equal(want, again) {
		t.Errorf("pushing the same again made %+v", again)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Errorf("pushing the same again changed files:\n%s", diff)
	}
	for n := 2; n <= 8; n++ {
		push(t, s, n)
	}
	active(t, s, 8, 8)
	versions, err := s.Versions("orders")
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for _, v := range versions {
		numbers = append(numbers, v.Number)
		if v.Active != (v.Number == 8) {
			t.Errorf("version %d: active is %v", v.Number, v.Active)
		}
	}
	if diff := cmp.Diff([]int{8, 7, 6, 5, 4}, numbers); diff != "" {
		t.Errorf("kept versions (-want +got):\n%s", diff)
	}
	if n := len(files(t, dir)); n != 6 {
		t.Errorf("%d files, want five versions and the record: %v", n, files(t, dir))
	}
	reopened := open(t, dir)
	active(t, reopened, 8, 8)
	if diff := cmp.Diff(s.List(), reopened.List()); diff != "" {
		t.Errorf("the list after opening again:\n%s", diff)
	}
	// Content of an earlier version becomes a new version and shares its file.
	if v := push(t, reopened, 6); v.Number != 9 {
		t.Errorf("version %d, want 9", v.Number)
	}
	if n := len(files(t, dir)); n != 5 {
		t.Errorf("%d files, want four contents and the record: %v", n, files(t, dir))
	}
	active(t, open(t, dir), 9, 6)
}

func TestStoreRollback(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for n := 1; n <= 3; n++ {
		push(t, s, n)
	}
	rollback := func(to, want int) {
		t.Helper()
		v, err := s.Rollback("orders", to)
		if err != nil || v.Number != want || !v.Active {
			t.Fatalf("rollback to %d: %+v, %v; want version %d", to, v, err, want)
		}
		active(t, s, want, want)
		active(t, open(t, dir), want, want)
	}
	rollback(0, 2)
	rollback(0, 1)
	rollback(3, 3)
	rollback(1, 1)
	// The version before the one pushed now is the one that was active, not the bad ones between.
	push(t, s, 4)
	active(t, s, 4, 4)
	rollback(0, 1)

	for _, tt := range []struct {
		name string
		to   int
		want string
	}{
		{"orders", 0, "schema orders has no version before 1; kept: 1, 2, 3, 4"},
		{"orders", 9, "schema orders has no version 9; kept: 1, 2, 3, 4"},
		{"ordres", 0, `no schema "ordres" was pushed; did you mean "orders"?`},
	} {
		if _, err := s.Rollback(tt.name, tt.to); err == nil || err.Error() != tt.want {
			t.Errorf("error %v, want %s", err, tt.want)
		}
	}
	active(t, s, 1, 1)
	if _, err := s.Versions("nope"); err == nil || err.Error() != `no schema "nope" was pushed` {
		t.Errorf("error %v", err)
	}
}

func TestStoreNames(t *testing.T) {
	s := open(t, t.TempDir())
	set := numbered(t, 1)
	for _, name := range []string{"", "..", ".hidden", "a/b", `a\b`, "Orders", "a b", "-a", strings.Repeat("a", 64), "a\x00", "ä", "a\n"} {
		if _, err := s.Push(name, set, "", noon); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	for _, name := range []string{"a", "0", "a..b", "orders-v1.2_x", strings.Repeat("a", 63)} {
		if _, err := s.Push(name, set, "", noon); err != nil {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// TestStoreCorrupt: what was damaged on disk is set aside and said, and the rest is served.
func TestStoreCorrupt(t *testing.T) {
	damage := map[string]func(t *testing.T, path string){
		"cut short": func(t *testing.T, path string) {
			if err := os.Truncate(path, 10); err != nil {
				t.Fatal(err)
			}
		},
		"another set": func(t *testing.T, path string) {
			if err := os.WriteFile(path, zip(t, smallSet(t)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, hurt := range damage {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			push(t, s, 2)
			bad := push(t, s, 3)
			if _, err := s.Push("other", numbered(t, 9), "", noon); err != nil {
				t.Fatal(err)
			}
			hurt(t, setFile(dir, bad))
			s = open(t, dir)
			active(t, s, 1, 2)
			if _, _, ok, err := s.Active("other"); !ok || err != nil {
				t.Errorf("the other schema is not served: %v", err)
			}
			// The fault outlives a restart, until the next push.
			for _, s := range []*source.Store{s, open(t, dir)} {
				list := s.List()
				if len(list) != 2 || list[0].Name != "orders" || list[0].Active.Number != 1 || list[0].Versions != 1 ||
					!strings.HasPrefix(list[0].Fault, "version 2 is corrupt (") || !strings.HasSuffix(list[0].Fault, ") and was set aside: version 1 is served") {
					t.Errorf("list %+v", list)
				}
				active(t, s, 1, 2)
			}
			if _, err := os.Stat(setFile(dir, bad) + ".corrupt"); (err == nil) == (name == "gone") {
				t.Errorf("the corrupt file: %v", err)
			}
			if v := push(t, s, 3); v.Number != 3 {
				t.Errorf("pushed anew as version %d, want 3", v.Number)
			}
			active(t, open(t, dir), 3, 3)
			if f := s.List()[0].Fault; f != "" {
				t.Errorf("fault %q after a push", f)
			}
		})
	}
	t.Run("the active one while running", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		v := push(t, s, 1)
		damage["cut short"](t, setFile(dir, v))
		if again := push(t, s, 1); again.Number != 2 {
			t.Errorf("pushing over the damage made version %d, want 2", again.Number)
		}
		active(t, s, 2, 1)
		if _, err := s.Rollback("orders", 1); err != nil {
			t.Errorf("the file serves both versions again: %v", err)
		}
	})
	t.Run("rollback to a corrupt one", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		v := push(t, s, 1)
		push(t, s, 2)
		damage["cut short"](t, setFile(dir, v))
		if _, err := s.Rollback("orders", 0); err == nil || err.Error() != "schema orders: version 1 is corrupt: the file is not the one that was written" {
			t.Errorf("error %v", err)
		}
		active(t, s, 2, 2)
	})
	t.Run("every version", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		damage["gone"](t, setFile(dir, push(t, s, 1)))
		for range 2 {
			set, _, ok, err := s.Active("orders")
			if want := "schema orders has no version to serve: version 1 is corrupt (no such file or directory) and was set aside: no other version is left: push the schema again"; err == nil || err.Error() != want || ok || set != nil {
				t.Errorf("error %v, want %s", err, want)
			}
			s = open(t, dir)
		}
	})
	for name, text := range map[string]string{
		"no JSON":         `{"active":`,
		"path as digest":  `{"active":1,"last":1,"versions":[{"number":1,"digest":"sha256:../../../etc/passwd"}]}`,
		"active unknown":  `{"active":7,"last":1,"versions":[]}`,
		"numbers turning": `{"active":0,"last":2,"versions":[{"number":2,"digest":"sha256:` + strings.Repeat("0", 64) + `"},{"number":1,"digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`,
	} {
		t.Run("record: "+name, func(t *testing.T) {
			dir := t.TempDir()
			push(t, open(t, dir), 1)
			record := filepath.Join(dir, "orders", "versions.json")
			if err := os.WriteFile(record, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir)
			if list := s.List(); len(list) != 1 || !strings.HasPrefix(list[0].Fault, "versions.json is corrupt (") {
				t.Errorf("list %+v", list)
			}
			if _, _, ok, err := s.Active("orders"); ok || err == nil {
				t.Error("something is active")
			}
			if _, err := os.Stat(record + ".corrupt"); err != nil {
				t.Error(err)
			}
			push(t, s, 2)
			active(t, open(t, dir), 1, 2)
		})
	}
}

// TestStoreErrorChangesNothing: a push that cannot be written leaves what was served, in memory and on disk.
func TestStoreErrorChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	push(t, s, 1)
	// A folder in the record's place cannot be replaced by a file.
	record := filepath.Join(dir, "orders", "versions.json")
	if err := os.Rename(record, record+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(record, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Push("orders", numbered(t, 2), "", noon); err == nil {
		t.Fatal("pushed")
	}
	active(t, s, 1, 1)
	if err := errors.Join(os.RemoveAll(record), os.Rename(record+".away", record)); err != nil {
		t.Fatal(err)
	}
	active(t, open(t, dir), 1, 1)
	for _, name := range files(t, dir) {
		if strings.HasPrefix(name, ".tmp-") {
			t.Errorf("left %s", name)
		}
	}
	push(t, s, 2)
	active(t, open(t, dir), 2, 2)
}

func TestStoreConcurrent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	sets := make([]*source.Set, 4)
	for i := range sets {
		sets[i] = numbered(t, i+1)
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 10 {
				name := fmt.Sprintf("s%d", j%2)
				if _, err := s.Push(name, sets[(i+j)%len(sets)], "", noon); err != nil {
					t.Error(err)
				}
				if _, _, ok, err := s.Active(name); !ok || err != nil {
					t.Errorf("active: %v", err)
				}
				s.List()
				// There may be nothing to roll back to; what matters is that nothing breaks.
				_, _ = s.Rollback(name, 0)
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(s.List(), open(t, dir).List()); diff != "" {
		t.Errorf("memory and disk differ:\n%s", diff)
	}
}

// TestStoreKilled kills a process that pushes without end, many times: what is on disk is always whole.
func TestStoreKilled(t *testing.T) {
	if dir := os.Getenv("CAUSEWAY_TEST_PUSH_INTO"); dir != "" {
		s := open(t, dir)
		for n := 1; ; n++ {
			if _, err := s.Push("orders", numbered(t, 1+n%7), strconv.Itoa(n), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	last := 0
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestStoreKilled$")
		cmd.Env = append(os.Environ(), "CAUSEWAY_TEST_PUSH_INTO="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitForVersion(t, dir, last+2+round)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		s := open(t, dir)
		set, v, ok, err := s.Active("orders")
		if err != nil || !ok || v.Number <= last {
			t.Fatalf("round %d: version %+v after %d: %v", round, v, last, err)
		}
		if fault := s.List()[0].Fault; fault != "" {
			t.Fatalf("round %d: %s", round, fault)
		}
		if _, err := set.Schema(); err != nil {
			t.Fatal(err)
		}
		for _, name := range files(t, dir) {
			if strings.HasPrefix(name, ".tmp-") || strings.HasSuffix(name, ".corrupt") {
				t.Errorf("round %d: left %s", round, name)
			}
		}
		last = v.Number
	}
}

// waitForVersion waits until the process has pushed version n.
func waitForVersion(t *testing.T, dir string, n int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		data, err := os.ReadFile(filepath.Join(dir, "orders", "versions.json"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if _, rest, ok := strings.Cut(string(data), `"last": `); ok {
			if last, err := strconv.Atoi(rest[:strings.IndexByte(rest, ',')]); err == nil && last >= n {
				return
			}
		}
		<-tick.C
	}
	t.Fatalf("version %d was not pushed in time", n)
}
