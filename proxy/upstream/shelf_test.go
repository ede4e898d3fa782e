package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/registry"
)

func newShelf(t *testing.T) (Shelf, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state", "snapshots")
	return NewShelf(dir), dir
}

// files are the names of what is in a folder.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// everything is a set with all that an endpoint can have.
func everything(t testing.TB) registry.Set {
	t.Helper()
	set, err := registry.NewSet("shop.Orders", 7, []registry.Endpoint{
		{ID: "a", Address: "10.0.0.1:80", Zone: "z1", Weight: 100, Protocol: "grpc", TLS: true, Meta: map[string]string{"region": "south", "<&>": "\u2028"}},
		{ID: "b", Address: "[::1]:80", Status: registry.Starting},
		{ID: "c", Address: "c:80", Status: registry.Draining, Unverified: true},
		{ID: "d", Address: "d:80", Status: registry.Down},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestShelfKeepsSets(t *testing.T) {
	shelf, dir := newShelf(t)
	names := []string{"orders", "../../etc/passwd", "a/b", "a_b", "", ".", "A_B", strings.Repeat("ü", 300), "orders\x00", "con"}
	for i, name := range names {
		if _, _, err := shelf.Load(name); !errors.Is(err, ErrNoSnapshot) {
			t.Errorf("%q: want ErrNoSnapshot, found %v", name, err)
		}
		set := everything(t)
		set.Endpoints[0].Weight = uint32(i)
		for range 2 { // the second replaces the first
			if err := shelf.Save(name, set); err != nil {
				t.Fatalf("%q: %v", name, err)
			}
		}
	}
	for i, name := range names {
		want := everything(t)
		want.Revision, want.Endpoints[0].Weight = 0, uint32(i)
		set, saved, err := shelf.Load(name)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if diff := cmp.Diff(want, set); diff != "" {
			t.Errorf("%q: -want +found:\n%s", name, diff)
		}
		if age := time.Since(saved); age < 0 || age > time.Minute {
			t.Errorf("%q: want it saved just now, found an age of %v", name, age)
		}
	}
	found := files(t, dir)
	if len(found) != len(names) {
		t.Errorf("want a file for each of %d names in the folder, found %q", len(names), found)
	}
	for _, f := range found {
		if len(f) > 100 || !strings.HasSuffix(f, ".json") || strings.HasPrefix(f, ".") {
			t.Errorf("want a short, plain name, found %q", f)
		}
	}
}

func TestDamagedSnapshots(t *testing.T) {
	good, err := encodeSnapshot("orders", everything(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":           {nil, "want a snapshot as JSON"},
		"cut off":         {good[:len(good)/2], "want a snapshot as JSON"},
		"garbage":         {[]byte("\x00\xff"), "want a snapshot as JSON"},
		"another address": {bytes.Replace(good, []byte("10.0.0.1:80"), []byte("10.0.0.6:80"), 1), "the file is damaged"},
		"another version": {bytes.Replace(good, []byte(`"version":1`), []byte(`"version":2`), 1), "want version 1, found 2"},
		"another service": {bytes.Replace(good, []byte(`"name":"orders"`), []byte(`"name":"order"`), 1), `want the snapshot of "orders", found that of "order"`},
		"no set":          {[]byte(`{"version":1,"name":"orders"}`), "want a set as JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			shelf, dir := newShelf(t)
			if err := shelf.Save("orders", everything(t)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, files(t, dir)[0]), c.raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := shelf.Load("orders"); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("want an error with %q and the path, found %v", c.want, err)
			}
		})
	}
}

func TestSnapshotsAreBounded(t *testing.T) {
	shelf, dir := newShelf(t)
	err := shelf.Save("orders", registry.Set{Endpoints: many("i", mostShelved+1)})
	if err == nil || !strings.Contains(err.Error(), "want at most 20000 instances of orders, found 20001") {
		t.Errorf("want it refused, found %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("want nothing written, found %v", err)
	}
	if err := shelf.Save("orders", registry.Set{Endpoints: many("i", mostShelved)}); err != nil {
		t.Error(err)
	}
}

func TestShelfThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewShelf(filepath.Join(file, "below")).Save("orders", everything(t)); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("want it told, found %v", err)
	}
}

func TestLeftoversAreSweptAway(t *testing.T) {
	dir := t.TempDir()
	old, young := filepath.Join(dir, "orders-1.json.1.tmp"), filepath.Join(dir, "orders-1.json.2.tmp")
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	NewShelf(dir)
	if found := files(t, dir); len(found) != 1 || found[0] != filepath.Base(young) {
		t.Errorf("want the one that somebody may be writing, found %q", found)
	}
}

// FuzzSnapshot reads what anybody may have made of a file: it is refused, or what was read is what would be written.
func FuzzSnapshot(f *testing.F) {
	good, err := encodeSnapshot("orders", everything(f), time.Unix(1e9, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"name":"orders","saved":"2026-11-22T04:00:00Z","checksum":"sha256:","set":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		// Whoever wants to harm can make a checksum.
		var file snapshot
		if json.Unmarshal(raw, &file) == nil {
			if sum, err := checksum(file.Set); err == nil {
				file.Checksum, file.Version, file.Name = sum, shelfVersion, "orders"
				if again, err := json.Marshal(file); err == nil {
					raw = again
				}
			}
		}
		set, saved, err := decodeSnapshot("orders", raw)
		if err != nil {
			return
		}
		again, err := encodeSnapshot("orders", set, saved)
		if err != nil {
			t.Fatalf("want what was read to be written, found %v", err)
		}
		twice, _, err := decodeSnapshot("orders", again)
		if err != nil {
			t.Fatalf("want what was written to be read, found %v", err)
		}
		for i := range set.Endpoints { // JSON has one form of no metadata
			if len(set.Endpoints[i].Meta) == 0 {
				set.Endpoints[i].Meta = nil
			}
		}
		if diff := cmp.Diff(set, twice); diff != "" {
			t.Errorf("-first +again:\n%s", diff)
		}
	})
}

// memory is a shelf without a disk.
type memory struct {
	mu    sync.Mutex
	sets  map[string]registry.Set
	saved time.Time
	saves int
	err   error
}

// has is how many instances a snapshot has, and how often any was saved.
func (m *memory) has(name string) (instances, saves int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sets[name].Endpoints), m.saves
}

// fails has everything fail, or nothing.
func (m *memory) fails(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) Load(name string) (registry.Set, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	set, ok := m.sets[name]
	switch {
	case m.err != nil:
		return registry.Set{}, time.Time{}, m.err
	case !ok:
		return registry.Set{}, time.Time{}, ErrNoSnapshot
	}
	return set, m.saved, nil
}

func (m *memory) Save(name string, set registry.Set) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saves++
	if m.err == nil {
		m.sets[name] = set
	}
	return m.err
}

func newMemory() *memory { return &memory{sets: map[string]registry.Set{}} }

func TestStartWithoutTheRegistry(t *testing.T) {
	for _, answers := range []string{"never", "fails"} {
		synctest.Test(t, func(t *testing.T) {
			shelf := newMemory()
			b := start(t, Config{Shelf: shelf}, nil, "zk")
			b.update("zk", many("i", 4)...)
			b.end()

			// The gateway starts again, and i3 has died meanwhile.
			shelf.saved = time.Now()
			after(time.Hour)
			d := newDoctor()
			d.set(d.ill, true, "i3")
			pool := health.NewPool((&journal{}).logger())
			defer pool.Close()
			b = start(t, Config{Shelf: shelf, Pool: pool, Implied: d.check("tcp"), Outliers: &outlier.Config{Base: 5 * time.Minute}}, nil, "zk")
			defer b.end()
			begun := time.Now()
			if answers == "fails" {
				b.fail("zk")
			}
			<-b.Ready()
			took := time.Since(begun)
			if answers == "never" && took != silence || answers == "fails" && took > settle {
				t.Errorf("%s: want it ready after %v or at once when the registry says that it is lost, found %v", answers, silence, took)
			}
			after(2 * time.Second)
			b.wantPicked(answers, "i0", "i1", "i2")
			if v := b.instance("i0"); !strings.HasPrefix(v.Why, "used from the snapshot: zk has not answered; its check passed ") || v.Health == nil {
				t.Errorf("want the reason, found %+v", v)
			}
			v, s := b.Inspect().Sources[0], b.Stats()
			if !v.Known || v.Err == "" || v.Stale == 0 || v.Shelved < time.Hour || s.Shelved < time.Hour || s.Stale == 0 {
				t.Errorf("want it stale, and how old, found %+v and %+v", v, s)
			}
			if b.log.count("a registry does not answer; the instances of its snapshot are used", "age=1h0m") != 1 {
				t.Error("want it told")
			}
			for range 5 {
				b.Report(b.node("i0"), brokenOff(), time.Millisecond)
			}
			settled()
			_, before := shelf.has("")
			after(time.Minute)
			if _, n := shelf.has(""); n != before {
				t.Error("want nothing saved of what was loaded")
			}
			// The registry comes back and lists the dead one still; i2 has left long ago.
			b.update("zk", up("i0"), up("i1"), up("i3"))
			if len(b.Nodes()) != 3 || b.instance("i2").Address != "" {
				t.Errorf("want what the registry says, found %s", b)
			}
			if v := b.instance("i0"); v.State != StateEjected {
				t.Errorf("want the ejection to last, found %+v", v)
			}
			if v := b.instance("i1"); v.Health != nil || v.Why != "used" || len(b.net.of("i1")) != 1 {
				t.Errorf("want it unchecked, on its transport, found %+v", v)
			}
			if v := b.Inspect().Sources[0]; v.Stale != 0 || v.Shelved != 0 || v.Err != "" {
				t.Errorf("want it fresh, found %+v", v)
			}
			after(2 * time.Second)
			if n, _ := shelf.has("orders@zk/orders"); n != 3 {
				t.Errorf("want it saved, found %d instances", n)
			}
		})
	}
}

func TestRegistryThatAnswersInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := newMemory()
		shelf.sets["orders@zk/orders"] = registry.Set{Endpoints: many("old", 3)}
		b := start(t, Config{Shelf: shelf}, nil, "zk")
		defer b.end()
		after(silence / 2)
		b.update("zk", up("x"))
		<-b.Ready()
		after(time.Minute)
		b.wantPicked("no snapshot needed", "x")
		if len(b.net.of("old0")) > 0 {
			t.Error("want nothing of the snapshot")
		}
	})
}

func TestSnapshotThatCannotBeUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := newMemory()
		shelf.fails(errors.New("the file is damaged"))
		b := start(t, Config{Shelf: shelf}, nil, "zk")
		defer b.end()
		after(2 * silence)
		if b.log.count("its snapshot cannot be used", "the file is damaged") != 1 || b.Stats().ShelfFaults != 1 {
			t.Error("want it told and counted")
		}
		b.update("zk", up("x"))
		b.wantPicked("the registry is there", "x")
		after(time.Minute)
		b.update("zk", up("x"), up("y"))
		after(time.Minute)
		if n := b.log.count("are not kept for the next start"); n != 1 {
			t.Errorf("want one line of what cannot be saved, found %d", n)
		}
		if n := b.Stats().ShelfFaults; n != 3 {
			t.Errorf("want two more failures counted, found %d", n)
		}
		shelf.fails(nil)
		b.update("zk", up("x"))
		after(time.Minute)
		if n, _ := shelf.has("orders@zk/orders"); b.log.count("are kept again") != 1 || n != 1 {
			t.Error("want it saved and told")
		}
	})
}

func TestOneOfTwoRegistriesIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := newMemory()
		shelf.sets["orders@two/orders"] = registry.Set{Endpoints: many("two", 2)}
		b := start(t, Config{Shelf: shelf}, nil, "one", "two")
		defer b.end()
		b.update("one", up("x"))
		after(2 * silence)
		b.wantPicked("the other's snapshot", "two0", "two1", "x")
	})
}

func TestSavesAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := newMemory()
		b := start(t, Config{Shelf: shelf}, nil, "zk")
		all := many("i", 60)
		b.update("zk", all...)
		for n := range 500 {
			b.update("zk", all[:1+n%60]...)
		}
		if _, n := shelf.has(""); n > 13 {
			t.Errorf("want about one a second in 10 s, found %d", n)
		}
		b.update("zk", all[:40]...)
		b.end()
		if n, _ := shelf.has("orders@zk/orders"); n < 40 {
			t.Errorf("want the last set saved at the end, found %d instances", n)
		}
	})
}

func TestTheLastChangeIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := newMemory()
		b := start(t, Config{Shelf: shelf}, nil, "zk")
		b.update("zk", many("i", 2)...)
		b.update("zk", many("i", 3)...)
		b.end()
		if n, saves := shelf.has("orders@zk/orders"); n != 3 || saves != 2 {
			t.Errorf("want three instances saved with the second write, found %d after %d", n, saves)
		}
	})
}

func TestSuspectsAreSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := newMemory()
		b := start(t, Config{Shelf: shelf}, nil, "zk")
		defer b.end()
		b.update("zk", many("i", 4)...)
		b.update("zk")
		after(2 * time.Second)
		if n, _ := shelf.has("orders@zk/orders"); n != 4 {
			t.Errorf("want those kept that are suspects, found %d", n)
		}
		after(2 * suspectTime)
		if n, _ := shelf.has("orders@zk/orders"); n != 0 {
			t.Errorf("want the empty set in the end, found %d", n)
		}
	})
}

// A configuration that was tried and refused leaves the one in force as it was: what it learns last is saved, too.
func TestTheLastChangeIsSavedAfterARefusedConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := newMemory()
		b := start(t, Config{Shelf: shelf}, nil, "zk")
		b.update("zk", many("i", 2)...)
		tried := start(t, Config{Shelf: shelf}, b.Service, "zk")
		tried.end()
		if b.successor.Load() != nil {
			t.Error("want no successor that is closed")
		}
		after(2 * saveGap)
		b.update("zk", many("i", 3)...)
		b.update("zk", many("i", 4)...)
		b.end()
		if n, _ := shelf.has("orders@zk/orders"); n != 4 {
			t.Errorf("want the last four instances saved, found %d", n)
		}
	})
}
