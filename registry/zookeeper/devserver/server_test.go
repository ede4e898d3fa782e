package devserver

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/goleak"

	"github.com/causeway-gateway/causeway/testdata/realserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a server with ticks of 300 ms, or as cfg says, and returns it with its address.
func start(t testing.TB, cfg Config) (*Server, string) {
	t.Helper()
	if cfg.Tick == 0 {
		cfg.Tick = 300 * time.Millisecond
	}
	if cfg.Vanish == 0 {
		cfg.Vanish = 50 * time.Millisecond
	}
	s := New(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// silent keeps the library quiet.
type silent struct{}

func (silent) Printf(string, ...any) {}

// dial connects with the library and waits for the session.
func dial(t testing.TB, addr string, session time.Duration) *zk.Conn {
	t.Helper()
	c, events, err := zk.Connect([]string{addr}, session, zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for {
		select {
		case e := <-events:
			if e.State == zk.StateHasSession {
				return c
			}
		case <-timeout.C:
			t.Fatal("no session after a minute")
		}
	}
}

// TestServers holds this server and Debian's ZooKeeper to the same.
func TestServers(t *testing.T) {
	t.Run("devserver", func(t *testing.T) {
		_, addr := start(t, Config{})
		conform(t, addr, 300*time.Millisecond)
	})
	t.Run("zookeeper", func(t *testing.T) {
		conform(t, realserver.StartZooKeeper(t).Address, 500*time.Millisecond)
	})
}

func conform(t *testing.T, addr string, tick time.Duration) {
	var n atomic.Int32
	// own makes a node under which a test is alone.
	own := func(t *testing.T, c *zk.Conn) string {
		t.Helper()
		path := fmt.Sprintf("/own%d", n.Add(1))
		if _, err := c.Create(path, nil, 0, zk.WorldACL(zk.PermAll)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, addr string, tick time.Duration, c *zk.Conn, root string)
	}{
		{"nodes and versions", testNodes},
		{"errors", testErrors},
		{"sequential nodes", testSequential},
		{"ephemeral nodes", testEphemeral},
		{"containers and time to live", testVanishing},
		{"one-shot watches", testWatches},
		{"an event precedes the answer that shows its change", testWatchOrder},
		{"persistent watches", testPersistentWatches},
		{"watches set again", testSetWatches},
		{"multi", testMulti},
		{"reads in one request, and of many nodes", testReads},
		{"answers in the order of the requests", testOrder},
		{"the end of a session, as it is seen", testEndOrder},
		{"access lists", testACL},
		{"sessions", testSessions},
		{"expiry", testExpiry},
		{"four-letter words", testWords},
		{"hostile packets", testHostile},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, addr, 20*tick)
			tc.run(t, addr, tick, c, own(t, c))
		})
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func testNodes(t *testing.T, _ string, _ time.Duration, c *zk.Conn, root string) {
	all := zk.WorldACL(zk.PermAll)
	if got := must[string](t)(c.Create(root+"/a", []byte("one"), 0, all)); got != root+"/a" {
		t.Errorf("want %s/a, found %s", root, got)
	}
	data, stat, err := c.Get(root + "/a")
	if err != nil || string(data) != "one" || stat.Version != 0 || stat.DataLength != 3 || stat.EphemeralOwner != 0 ||
		stat.Czxid == 0 || stat.Czxid != stat.Mzxid || stat.Czxid != stat.Pzxid || stat.Ctime != stat.Mtime {
		t.Errorf("a new node: %q %+v %v", data, stat, err)
	}
	changed := must[*zk.Stat](t)(c.Set(root+"/a", []byte("two"), 0))
	if changed.Version != 1 || changed.Mzxid <= stat.Mzxid || changed.Czxid != stat.Czxid {
		t.Errorf("a changed node: %+v after %+v", changed, stat)
	}
	if _, err := c.Set(root+"/a", nil, 0); !errors.Is(err, zk.ErrBadVersion) {
		t.Errorf("set with an old version: %v", err)
	}
	if err := c.Delete(root+"/a", 0); !errors.Is(err, zk.ErrBadVersion) {
		t.Errorf("delete with an old version: %v", err)
	}
	for _, name := range []string{"/c", "/b"} {
		must[string](t)(c.Create(root+name, nil, 0, all))
	}
	if err := c.Delete(root+"/a", 1); err != nil {
		t.Error(err)
	}
	names, stat, err := c.Children(root)
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"b", "c"}) || stat.NumChildren != 2 || stat.Cversion != 4 || stat.Pzxid <= changed.Mzxid {
		t.Errorf("children: %v %+v %v", names, stat, err)
	}
	if path := must[string](t)(c.Sync(root)); path != root {
		t.Errorf("sync: want the path, found %s", path)
	}
	exists, _, err := c.Exists(root + "/none")
	if exists || err != nil {
		t.Errorf("exists: %v %v", exists, err)
	}
}

func testErrors(t *testing.T, addr string, _ time.Duration, c *zk.Conn, root string) {
	all := zk.WorldACL(zk.PermAll)
	must[string](t)(c.Create(root+"/a", nil, 0, all))
	must[string](t)(c.Create(root+"/e", nil, zk.FlagEphemeral, all))
	for _, tc := range []struct {
		name string
		want error
		do   func() error
	}{
		{"create twice", zk.ErrNodeExists, func() error { _, err := c.Create(root+"/a", nil, 0, all); return err }},
		{"create the root", zk.ErrNodeExists, func() error { _, err := c.Create("/", nil, 0, all); return err }},
		{"create without a parent", zk.ErrNoNode, func() error { _, err := c.Create(root+"/x/y", nil, 0, all); return err }},
		{"create below an ephemeral node", zk.ErrNoChildrenForEphemerals, func() error { _, err := c.Create(root+"/e/y", nil, 0, all); return err }},
		{"create without a list of access", zk.ErrInvalidACL, func() error { _, err := c.Create(root+"/l", nil, 0, nil); return err }},
		{"delete what has children", zk.ErrNotEmpty, func() error { return c.Delete(root, -1) }},
		{"delete nothing", zk.ErrNoNode, func() error { return c.Delete(root+"/x", -1) }},
		{"set nothing", zk.ErrNoNode, func() error { _, err := c.Set(root+"/x", nil, -1); return err }},
		{"get nothing", zk.ErrNoNode, func() error { _, _, err := c.Get(root + "/x"); return err }},
		{"list nothing", zk.ErrNoNode, func() error { _, _, err := c.Children(root + "/x"); return err }},
	} {
		if err := tc.do(); !errors.Is(err, tc.want) {
			t.Errorf("%s: want %v, found %v", tc.name, tc.want, err)
		}
	}
	r := dialRaw(t, addr, long, 0, nil, 0)
	for path, want := range map[string]code{
		"": badArguments, "a": badArguments, root + "/": badArguments, root + "/.": badArguments, root + "/\x01": badArguments,
		root + "/\u0085": badArguments, root + "//b": noNode, root + "/../b": noNode,
	} {
		if err, _ := r.call(opCreate, createBody(path, "", persistent)); err != want {
			t.Errorf("create %q: want code %d, found %d", path, want, err)
		}
	}
	if err, _ := r.call(opCreate, createBody(root+"/flags", "", 99)); err != badArguments {
		t.Errorf("create with flags 99: want code %d, found %d", badArguments, err)
	}
}

func testSequential(t *testing.T, _ string, _ time.Duration, c *zk.Conn, root string) {
	all := zk.WorldACL(zk.PermAll)
	must[string](t)(c.Create(root+"/plain", nil, 0, all))
	for i, want := range []string{root + "/n-0000000001", root + "/n-0000000002"} {
		if got := must[string](t)(c.Create(root+"/n-", nil, zk.FlagSequence, all)); got != want {
			t.Errorf("%d: want %s, found %s", i, want, got)
		}
	}
	if err := c.Delete(root+"/n-0000000002", -1); err != nil {
		t.Error(err)
	}
	if got, want := must[string](t)(c.Create(root+"/", nil, zk.FlagSequence|zk.FlagEphemeral, all)), root+"/0000000003"; got != want {
		t.Errorf("want no number twice, %s, found %s", want, got)
	}
}

func testEphemeral(t *testing.T, addr string, tick time.Duration, c *zk.Conn, root string) {
	other := dial(t, addr, 20*tick)
	must[string](t)(other.Create(root+"/e", []byte("x"), zk.FlagEphemeral, zk.WorldACL(zk.PermAll)))
	_, stat, err := c.Get(root + "/e")
	if err != nil || stat.EphemeralOwner != other.SessionID() {
		t.Errorf("want the owner %d, found %+v %v", other.SessionID(), stat, err)
	}
	_, _, gone, err := c.ExistsW(root + "/e")
	if err != nil {
		t.Fatal(err)
	}
	// Written by somebody else, it is still its owner's.
	if stat := must[*zk.Stat](t)(c.Set(root+"/e", []byte("y"), -1)); stat.EphemeralOwner != other.SessionID() {
		t.Errorf("want the owner %d after a foreign write, found %+v", other.SessionID(), stat)
	}
	waitFor(t, gone, zk.EventNodeDataChanged)
	_, _, gone, err = c.ExistsW(root + "/e")
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	waitFor(t, gone, zk.EventNodeDeleted)
}

func testVanishing(t *testing.T, _ string, tick time.Duration, c *zk.Conn, root string) {
	all := zk.WorldACL(zk.PermAll)
	must[string](t)(c.CreateContainer(root+"/c", nil, zk.FlagContainer, all))
	must[string](t)(c.CreateTTL(root+"/t", nil, zk.FlagTTL, all, tick))
	if _, stat, err := c.Get(root + "/c"); err != nil || stat.EphemeralOwner != 0 {
		t.Fatalf("want a container that shows no owner, found %+v %v", stat, err)
	}
	_, _, container, err := c.ExistsW(root + "/c")
	if err != nil {
		t.Fatal(err)
	}
	_, _, timed, err := c.ExistsW(root + "/t")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, timed, zk.EventNodeDeleted)
	if exists, _, err := c.Exists(root + "/c"); !exists || err != nil {
		t.Fatalf("want a container that never had a child kept, found %v %v", exists, err)
	}
	must[string](t)(c.Create(root+"/c/child", nil, 0, all))
	if err := c.Delete(root+"/c/child", -1); err != nil {
		t.Fatal(err)
	}
	waitFor(t, container, zk.EventNodeDeleted)
}

// waitFor waits for an event of a one-shot watch.
func waitFor(t testing.TB, events <-chan zk.Event, want zk.EventType) {
	t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	select {
	case e := <-events:
		if e.Type != want {
			t.Errorf("want %v, found %v", want, e)
		}
	case <-timeout.C:
		t.Fatalf("want %v, found nothing after a minute", want)
	}
}

func testWatches(t *testing.T, addr string, _ time.Duration, _ *zk.Conn, root string) {
	watcher, writer := dialRaw(t, addr, long, 0, nil, 0), dialRaw(t, addr, long, 0, nil, 0)
	path := root + "/n"
	for _, step := range []struct {
		name    string
		watch   func()
		change  func()
		want    []event
		another bool // the change is made once more, and nothing is seen
	}{
		{
			"created", func() { watcher.call(opExists, watchPath(path, true)) },
			func() { writer.mustCall(opCreate, createBody(path, "", persistent)) },
			[]event{{nodeCreated, path}},
			false,
		},
		{
			"data, once", func() { watcher.mustCall(opGetData, watchPath(path, true)) },
			func() { writer.mustCall(opSetData, setBody(path, "x")) },
			[]event{{nodeDataChanged, path}},
			true,
		},
		{
			"data by exists", func() { watcher.mustCall(opExists, watchPath(path, true)) },
			func() { writer.mustCall(opSetData, setBody(path, "x")) },
			[]event{{nodeDataChanged, path}},
			true,
		},
		{
			"two watches, one event", func() {
				watcher.mustCall(opExists, watchPath(path, true))
				watcher.mustCall(opGetData, watchPath(path, true))
			},
			func() { writer.mustCall(opSetData, setBody(path, "x")) },
			[]event{{nodeDataChanged, path}},
			true,
		},
		{
			"children do not hear of data", func() { watcher.mustCall(opGetChildren2, watchPath(path, true)) },
			func() { writer.mustCall(opSetData, setBody(path, "y")) }, nil, true,
		},
		{
			"a child", func() {},
			func() { writer.mustCall(opCreate, createBody(path+"/c", "", persistent)) },
			[]event{{nodeChildrenChanged, path}},
			false,
		},
		{
			"a child gone", func() { watcher.mustCall(opGetChildren, watchPath(path, true)) },
			func() { writer.mustCall(opDelete, deleteBody(path+"/c")) },
			[]event{{nodeChildrenChanged, path}},
			false,
		},
		{
			"deleted, told once", func() {
				watcher.mustCall(opGetChildren, watchPath(path, true))
				watcher.mustCall(opGetData, watchPath(path, true))
				watcher.mustCall(opGetChildren, watchPath(root, true))
			},
			func() { writer.mustCall(opDelete, deleteBody(path)) },
			[]event{{nodeDeleted, path}, {nodeChildrenChanged, root}},
			false,
		},
		{
			"no watch on data that is not there", func() { watcher.call(opGetData, watchPath(path, true)) },
			func() { writer.mustCall(opCreate, createBody(path, "", persistent)) }, nil, false,
		},
	} {
		step.watch()
		step.change()
		watcher.mustCall(opPing, nil)
		if !slices.Equal(watcher.events, step.want) {
			t.Errorf("%s: want the events %v, found %v", step.name, step.want, watcher.events)
		}
		watcher.events = nil
		if step.another {
			step.change()
			watcher.mustCall(opPing, nil)
			if watcher.events != nil {
				t.Errorf("%s: want one event, found more: %v", step.name, watcher.events)
			}
			watcher.events = nil
		}
	}
}

func testWatchOrder(t *testing.T, addr string, _ time.Duration, _ *zk.Conn, root string) {
	watcher, writer := dialRaw(t, addr, long, 0, nil, 0), dialRaw(t, addr, long, 0, nil, 0)
	path := root + "/n"
	writer.mustCall(opCreate, createBody(path, "0", persistent))
	last := "0"
	for i := range 200 {
		watcher.mustCall(opGetData, watchPath(path, true))
		watcher.events = nil
		next := strconv.Itoa(i + 1)
		go writer.write(append(appendInt32(appendInt32(nil, int32(i)), opSetData), setBody(path, next)...))
		for {
			r := reader{b: watcher.mustCall(opGetData, watchPath(path, false))}
			if got := string(r.buffer()); got != last {
				if got != next {
					t.Fatalf("want %s, found %s", next, got)
				}
				break
			}
			if len(watcher.events) > 0 { // told, but the answer above was executed before
				continue
			}
		}
		if !slices.Equal(watcher.events, []event{{nodeDataChanged, path}}) {
			t.Fatalf("round %d: want the event before the new data, found %v", i, watcher.events)
		}
		last = next
		if writer.packet() == nil {
			t.Fatal("the writer was left")
		}
	}
	// What a client changes itself is told to it before its answer.
	writer.mustCall(opGetData, watchPath(path, true))
	writer.mustCall(opSetData, setBody(path, "own"))
	writer.saw(event{nodeDataChanged, path})
}

func testPersistentWatches(t *testing.T, addr string, _ time.Duration, _ *zk.Conn, root string) {
	flat, deep, writer := dialRaw(t, addr, long, 0, nil, 0), dialRaw(t, addr, long, 0, nil, 0), dialRaw(t, addr, long, 0, nil, 0)
	path := root + "/n"
	flat.mustCall(opAddWatch, appendInt32(appendString(nil, path), 0))
	deep.mustCall(opAddWatch, appendInt32(appendString(nil, path), 1))
	writer.mustCall(opCreate, createBody(path, "", persistent))
	writer.mustCall(opSetData, setBody(path, "1"))
	writer.mustCall(opSetData, setBody(path, "2"))
	writer.mustCall(opCreate, createBody(path+"/a", "", persistent))
	writer.mustCall(opCreate, createBody(path+"/a/b", "", persistent))
	writer.mustCall(opSetData, setBody(path+"/a/b", "3"))
	writer.mustCall(opDelete, deleteBody(path+"/a/b"))
	writer.mustCall(opDelete, deleteBody(path+"/a"))
	writer.mustCall(opDelete, deleteBody(path))
	flat.mustCall(opPing, nil)
	flat.saw(
		event{nodeCreated, path}, event{nodeDataChanged, path}, event{nodeDataChanged, path},
		event{nodeChildrenChanged, path}, event{nodeChildrenChanged, path}, event{nodeDeleted, path},
	)
	deep.mustCall(opPing, nil)
	deep.saw(
		event{nodeCreated, path}, event{nodeDataChanged, path}, event{nodeDataChanged, path},
		event{nodeCreated, path + "/a"}, event{nodeCreated, path + "/a/b"}, event{nodeDataChanged, path + "/a/b"},
		event{nodeDeleted, path + "/a/b"}, event{nodeDeleted, path + "/a"}, event{nodeDeleted, path},
	)
	// Removed, they are silent.
	flat.mustCall(opCheckWatches, appendInt32(appendString(nil, path), 3))
	flat.mustCall(opRemoveWatches, appendInt32(appendString(nil, path), 3))
	if err, _ := flat.call(opRemoveWatches, appendInt32(appendString(nil, path), 3)); err != noWatcher {
		t.Errorf("remove twice: want code %d, found %d", noWatcher, err)
	}
	writer.mustCall(opCreate, createBody(path, "", persistent))
	flat.mustCall(opPing, nil)
	flat.saw()
	deep.mustCall(opPing, nil)
	deep.saw(event{nodeCreated, path})
}

func testSetWatches(t *testing.T, addr string, _ time.Duration, c *zk.Conn, root string) {
	writer, watcher := dialRaw(t, addr, long, 0, nil, 0), dialRaw(t, addr, long, 0, nil, 0)
	for _, name := range []string{"same", "changed", "gone"} {
		writer.mustCall(opCreate, createBody(root+"/"+name, "", persistent))
	}
	_, stat, err := c.Get(root + "/gone") // the latest change so far
	if err != nil {
		t.Fatal(err)
	}
	writer.mustCall(opSetData, setBody(root+"/changed", "1"))
	writer.mustCall(opDelete, deleteBody(root+"/gone"))
	body := appendInt64(nil, stat.Czxid)
	body = appendStrings(body, []string{root + "/same", root + "/changed", root + "/gone"})
	body = appendStrings(body, []string{root + "/none", root + "/same"})
	body = appendStrings(body, []string{root + "/same", root})
	watcher.mustCall(opSetWatches, body)
	for len(watcher.events) < 4 {
		watcher.mustCall(opPing, nil)
	}
	slices.SortFunc(watcher.events, func(a, b event) int { return strings.Compare(a.path, b.path) })
	watcher.saw(event{nodeChildrenChanged, root}, event{nodeDataChanged, root + "/changed"}, event{nodeDeleted, root + "/gone"}, event{nodeCreated, root + "/same"})
	// Those that were not due are armed.
	writer.mustCall(opSetData, setBody(root+"/same", "1"))
	writer.mustCall(opCreate, createBody(root+"/none", "", persistent))
	writer.mustCall(opCreate, createBody(root+"/same/child", "", persistent))
	watcher.mustCall(opPing, nil)
	watcher.saw(event{nodeDataChanged, root + "/same"}, event{nodeCreated, root + "/none"}, event{nodeChildrenChanged, root + "/same"})
}

func testMulti(t *testing.T, addr string, _ time.Duration, c *zk.Conn, root string) {
	all := zk.WorldACL(zk.PermAll)
	must[string](t)(c.Create(root+"/old", []byte("0"), 0, all))
	watcher := dialRaw(t, addr, long, 0, nil, 0)
	watcher.mustCall(opGetChildren, watchPath(root, true))
	got, err := c.Multi(
		&zk.CheckVersionRequest{Path: root + "/old", Version: 0},
		&zk.CreateRequest{Path: root + "/a", Acl: all},
		&zk.CreateRequest{Path: root + "/a/b-", Acl: all, Flags: zk.FlagSequence},
		&zk.SetDataRequest{Path: root + "/old", Data: []byte("1"), Version: 0},
		&zk.DeleteRequest{Path: root + "/old", Version: 1},
	)
	if err != nil || len(got) != 5 || got[1].String != root+"/a" || got[2].String != root+"/a/b-0000000000" || got[3].Stat.Version != 1 {
		t.Fatalf("multi: %+v %v", got, err)
	}
	watcher.mustCall(opPing, nil)
	watcher.saw(event{nodeChildrenChanged, root})
	_, a, _ := c.Get(root + "/a")
	_, b, _ := c.Get(root + "/a/b-0000000000")
	if a == nil || b == nil || a.Czxid != b.Czxid {
		t.Errorf("want one change for all, found %+v and %+v", a, b)
	}
	// One that fails takes the others with it, and fires nothing.
	watcher.mustCall(opGetChildren, watchPath(root, true))
	before, statBefore, _ := c.Children(root)
	got, err = c.Multi(
		&zk.CreateRequest{Path: root + "/x", Acl: all},
		&zk.SetDataRequest{Path: root + "/a", Data: []byte("2"), Version: -1},
		&zk.DeleteRequest{Path: root + "/a/b-0000000000", Version: -1},
		&zk.CheckVersionRequest{Path: root + "/x", Version: 7},
		&zk.CreateRequest{Path: root + "/y", Acl: all},
	)
	if !errors.Is(err, zk.ErrBadVersion) || len(got) != 5 || got[0].Error != nil || !errors.Is(got[3].Error, zk.ErrBadVersion) || got[4].Error == nil {
		t.Errorf("a multi that fails: %+v %v", got, err)
	}
	after, statAfter, _ := c.Children(root)
	if !slices.Equal(before, after) || *statBefore != *statAfter {
		t.Errorf("want nothing changed, found %v %+v after %v %+v", after, statAfter, before, statBefore)
	}
	if data, stat, err := c.Get(root + "/a"); len(data) != 0 || stat.Version != 0 || stat.NumChildren != 1 || err != nil {
		t.Errorf("want the node as it was, found %q %+v %v", data, stat, err)
	}
	watcher.mustCall(opPing, nil)
	watcher.saw()
}

func testACL(t *testing.T, addr string, tick time.Duration, c *zk.Conn, root string) {
	owner := dial(t, addr, 20*tick)
	if err := owner.AddAuth("digest", []byte("writer:secret")); err != nil {
		t.Fatal(err)
	}
	list := append(zk.DigestACL(zk.PermAll, "writer", "secret"), zk.WorldACL(zk.PermRead)...)
	must[string](t)(owner.Create(root+"/a", []byte("x"), 0, list))
	if data, _, err := c.Get(root + "/a"); string(data) != "x" || err != nil {
		t.Errorf("want it read by anyone, found %q %v", data, err)
	}
	if _, err := c.Set(root+"/a", nil, -1); !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("want it written by its owner only, found %v", err)
	}
	if _, err := c.Create(root+"/a/b", nil, 0, zk.WorldACL(zk.PermAll)); !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("want no child of another, found %v", err)
	}
	if _, err := c.SetACL(root+"/a", zk.WorldACL(zk.PermAll), -1); !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("want the list kept from another, found %v", err)
	}
	must[*zk.Stat](t)(owner.Set(root+"/a", []byte("y"), -1))
	must[string](t)(owner.Create(root+"/a/b", nil, 0, zk.AuthACL(zk.PermAll)))
	if err := c.Delete(root+"/a/b", -1); !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("want no child deleted by another, found %v", err)
	}
	if got, _, err := owner.GetACL(root + "/a/b"); err != nil || !slices.Equal(got, zk.DigestACL(zk.PermAll, "writer", "secret")) {
		t.Errorf("want the owner's own identity, found %v %v", got, err)
	}
	if stat := must[*zk.Stat](t)(owner.SetACL(root+"/a", zk.WorldACL(zk.PermAll), 0)); stat.Aversion != 1 {
		t.Errorf("want the list's version 1, found %+v", stat)
	}
	must[*zk.Stat](t)(c.Set(root+"/a", nil, -1))
}
