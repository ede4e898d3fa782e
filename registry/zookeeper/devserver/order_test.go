package devserver

import (
	"cmp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

func testReads(t *testing.T, addr string, _ time.Duration, c *zk.Conn, root string) {
	all := zk.WorldACL(zk.PermAll)
	must[string](t)(c.Create(root+"/a", []byte("x"), 0, all))
	must[string](t)(c.Create(root+"/a/b", nil, 0, all))
	r := dialRaw(t, addr, long, 0, nil, 0)
	r.mustCall(opCreate, createBody(root+"/e2", "", ephemeral))
	r.mustCall(opCreate, createBody(root+"/e1", "", ephemeral))
	own := reader{b: r.mustCall(opGetEphemerals, appendString(nil, root))}
	names := own.strings()
	slices.Sort(names)
	if !slices.Equal(names, []string{root + "/e1", root + "/e2"}) {
		t.Errorf("want the session's own nodes, found %v", names)
	}
	elsewhere := reader{b: r.mustCall(opGetEphemerals, appendString(nil, "/nowhere"))}
	if names := elsewhere.strings(); len(names) != 0 {
		t.Errorf("want none elsewhere, found %v", names)
	}
	count := reader{b: r.mustCall(opAllChildrenCount, appendString(nil, root))}
	if n := count.int32(); n != 4 {
		t.Errorf("want 4 nodes below, found %d", n)
	}

	body := append(appendResult(nil, opGetData, -1), watchPath(root+"/a", false)...)
	body = append(appendResult(body, opGetChildren, -1), watchPath(root+"/a", false)...)
	body = append(appendResult(body, opGetData, -1), watchPath(root+"/none", false)...)
	body = append(appendResult(body, opGetData, -1), watchPath(root+"/a/b", false)...)
	answer := reader{b: r.mustCall(opMultiRead, appendInt32(appendBool(appendInt32(body, -1), true), -1))}
	part := func(want int32) code {
		t.Helper()
		op, done, err := answer.int32(), answer.bool(), code(answer.int32())
		if op != want || done || answer.err != nil {
			t.Fatalf("want a part of kind %d, found %d, %v %v", want, op, done, answer.err)
		}
		return err
	}
	stat := func() { // czxid, mzxid, ctime, mtime; three versions; the owner; two lengths; pzxid
		answer.b = answer.b[4*8+3*4+8+2*4+8:]
	}
	part(opGetData)
	if data := answer.buffer(); string(data) != "x" {
		t.Errorf("want x, found %q", data)
	}
	stat()
	part(opGetChildren)
	if names := answer.strings(); !slices.Equal(names, []string{"b"}) {
		t.Errorf("want b, found %v", names)
	}
	// Each read has its own error; those behind are executed.
	if err := part(opError); err != noNode {
		t.Errorf("want code %d, found %d", noNode, err)
	}
	if err := code(answer.int32()); err != noNode {
		t.Errorf("want code %d again, found %d", noNode, err)
	}
	part(opGetData)
}

// testOrder sends many requests before it reads an answer.
func testOrder(t *testing.T, addr string, _ time.Duration, _ *zk.Conn, root string) {
	r := dialRaw(t, addr, long, 0, nil, 0)
	path := root + "/n"
	r.mustCall(opCreate, createBody(path, "", persistent))
	const rounds = 100
	for i := range int32(rounds) {
		r.write(append(appendInt32(appendInt32(nil, 1000+2*i), opSetData), setBody(path, strconv.Itoa(int(i)))...))
		r.write(append(appendInt32(appendInt32(nil, 1001+2*i), opGetData), watchPath(path, false)...))
	}
	last := int64(0)
	for i := range int32(2 * rounds) {
		a := reader{b: r.packet()}
		xid, zxid, err := a.int32(), a.int64(), code(a.int32())
		if xid != 1000+i || err != ok || zxid < last {
			t.Fatalf("want the answer to %d with a later change than %x, found %d, %x, code %d", 1000+i, last, xid, zxid, err)
		}
		last = zxid
		if i%2 == 1 {
			if data := a.buffer(); string(data) != strconv.Itoa(int(i/2)) {
				t.Fatalf("want a session to see what it has written, %d, found %q", i/2, data)
			}
		}
	}
}

// testEndOrder watches a session's end from outside: one event for each list, and whoever hears of one sees all gone.
func testEndOrder(t *testing.T, addr string, _ time.Duration, _ *zk.Conn, root string) {
	watcher, owner := dialRaw(t, addr, long, 0, nil, 0), dialRaw(t, addr, long, 0, nil, 0)
	for _, name := range []string{"/a", "/b"} {
		owner.mustCall(opCreate, createBody(root+name, "", persistent))
		owner.mustCall(opCreate, createBody(root+name+"/e-", "", ephemeralSequential))
		owner.mustCall(opCreate, createBody(root+name+"/e-", "", ephemeralSequential))
		watcher.mustCall(opGetChildren, watchPath(root+name, true))
	}
	watcher.mustCall(opExists, watchPath(root+"/a/e-0000000001", true))
	owner.mustCall(opCloseSession, nil)
	for len(watcher.events) < 3 {
		first := len(watcher.events) == 0
		list := reader{b: watcher.mustCall(opGetChildren, watchPath(root+"/b", false))}
		if names := list.strings(); len(names) != 0 && (len(names) != 2 || !first) {
			t.Fatalf("want all of a session's nodes to go at once, found %v after %v", names, watcher.events)
		}
	}
	slices.SortFunc(watcher.events, func(a, b event) int { return cmp.Or(cmp.Compare(a.typ, b.typ), cmp.Compare(a.path, b.path)) })
	watcher.saw(event{nodeDeleted, root + "/a/e-0000000001"}, event{nodeChildrenChanged, root + "/a"}, event{nodeChildrenChanged, root + "/b"})
}
