package devserver

import (
	"io"
	"maps"
	"net"
	"slices"
	"testing"
)

// FuzzRequest executes packets of any bytes in one session and holds the tree to what must be true of every tree.
func FuzzRequest(f *testing.F) {
	seed := func(op int32, body []byte) { f.Add(append(appendInt32(appendInt32(nil, 7), op), body...)) }
	seed(opCreate, createBody("/a", "x", persistentSequential))
	seed(opCreate2, createBody("/a", "x", ephemeral))
	seed(opCreateContainer, createBody("/c", "", container))
	seed(opCreateTTL, appendInt64(createBody("/t", "", withTTL), 1000))
	seed(opSetData, setBody("/n", "y"))
	seed(opDelete, deleteBody("/n"))
	seed(opGetData, watchPath("/n", true))
	seed(opGetChildren2, watchPath("/", true))
	seed(opSetWatches2, appendStrings(appendStrings(appendStrings(appendStrings(appendStrings(appendInt64(nil, 0), []string{"/n"}), nil), nil), nil), []string{"/"}))
	seed(opAddWatch, appendInt32(appendString(nil, "/n"), 1))
	seed(opRemoveWatches, appendInt32(appendString(nil, "/n"), 3))
	seed(opAuth, appendBuffer(appendString(appendInt32(nil, 0), "digest"), []byte("a:b")))
	seed(opCloseSession, nil)
	end := appendInt32(appendBool(appendInt32(nil, -1), true), -1)
	many := append(appendResult(nil, opCreate, -1), createBody("/m", "", persistent)...)
	many = append(appendResult(many, opDelete, -1), deleteBody("/none")...)
	many = append(appendResult(many, opSetData, -1), setBody("/n", "z")...)
	seed(opMulti, append(many, end...))
	seed(opMultiRead, append(append(appendResult(nil, opGetData, -1), watchPath("/n", false)...), end...))
	f.Fuzz(func(t *testing.T, packet []byte) {
		s := New(Config{MaxNodes: 10, MaxBytes: 1 << 10})
		defer s.Close()
		here, there := net.Pipe()
		defer there.Close()
		c := newConn(s, here)
		connect := appendBuffer(appendInt64(appendInt32(appendInt64(appendInt32(nil, 0), 0), 100_000), 0), nil)
		if !s.attach(c, connect) {
			t.Fatal("want a session")
		}
		if !s.execute(c, append(appendInt32(appendInt32(nil, 1), opCreate), createBody("/n", "data", persistent)...)) {
			t.Fatal("want a node")
		}
		s.execute(c, packet)
		s.execute(c, packet)
		s.mu.Lock()
		defer s.mu.Unlock()
		bytes, names := 0, 0
		for path, n := range s.tree.nodes {
			if !validPath(path, false) {
				t.Errorf("want valid paths, found %q", path)
			}
			bytes += len(path) + len(n.data)
			names += len(n.children)
			for name := range n.children {
				at := path + "/" + name
				if path == "/" {
					at = "/" + name
				}
				if s.tree.nodes[at] == nil {
					t.Errorf("want the child %q of %q, found none", name, path)
				}
			}
			if _, owned := s.tree.ephemerals[n.owner][path]; owned != (n.kind == ephemeral) {
				t.Errorf("want %q among the ephemeral ones if it is one", path)
			}
		}
		if names != len(s.tree.nodes)-1 || len(s.tree.nodes) > 10 {
			t.Errorf("want each node but the root to be a child, and 10 at most, found %v", slices.Sorted(maps.Keys(s.tree.nodes)))
		}
		const own = 1 + 10 + 17 + 16 // the paths that are there from the beginning are not counted
		if bytes-own != s.tree.bytes || s.tree.bytes > 1<<10 {
			t.Errorf("want %d bytes, found %d counted", bytes-own, s.tree.bytes)
		}
		watching := 0
		for _, w := range []watches{s.dataWatches, s.childWatches} {
			for _, by := range w {
				watching += len(by)
			}
		}
		if watching != c.watching && c.session != nil {
			t.Errorf("want %d watches, found %d counted", watching, c.watching)
		}
	})
}

func TestBounds(t *testing.T) {
	s, addr := start(t, Config{MaxNodes: 6, MaxBytes: 100, MaxSessions: 2, MaxConns: 3, MaxWatches: 2, MaxPacket: 1000})
	a := dialRaw(t, addr, long, 0, nil, 0)
	a.mustCall(opCreate, createBody("/a", "", persistent))
	a.mustCall(opCreate, createBody("/b", "", persistent))
	if err, _ := a.call(opCreate, createBody("/c", "", persistent)); err != quotaExceeded {
		t.Errorf("one node too many: want code %d, found %d", quotaExceeded, err)
	}
	if err, _ := a.call(opSetData, setBody("/a", string(make([]byte, 97)))); err != quotaExceeded {
		t.Errorf("one byte too many: want code %d, found %d", quotaExceeded, err)
	}
	b := dialRaw(t, addr, long, 0, nil, 0)
	if c := dialRaw(t, addr, long, 0, nil, 0); c.sessionID != 0 {
		t.Error("want the third session refused")
	}
	b.mustCall(opGetData, watchPath("/a", true))
	b.mustCall(opGetData, watchPath("/b", true))
	b.mustCall(opGetChildren, watchPath("/b", true))
	if b.packet() != nil {
		t.Error("want a connection with too many watches ended")
	}
	a.write(make([]byte, 1001))
	if a.packet() != nil {
		t.Error("want a packet of 1001 bytes refused")
	}
	if s.Close() != nil {
		t.Error("want closing to be fine")
	}
	if err := s.Serve(nil); err == nil {
		t.Error("want a closed server to serve no more")
	}
}

// FuzzConnection serves whatever comes over one connection, from its first byte to its last, and holds that the server goes
// on serving others and ends in order.
func FuzzConnection(f *testing.F) {
	packet := func(b []byte) []byte { return append(appendInt32(nil, int32(len(b))), b...) }
	connect := packet(appendBool(appendBuffer(appendInt64(appendInt32(appendInt64(appendInt32(nil, 0), 0), 1000), 0), make([]byte, 16)), false))
	request := func(op int32, body []byte) []byte {
		return packet(append(appendInt32(appendInt32(nil, 1), op), body...))
	}
	f.Add([]byte("ruok"))
	f.Add([]byte("stat"))
	f.Add(connect)
	f.Add(packet(appendBuffer(appendInt64(appendInt32(appendInt64(appendInt32(nil, 0), 1<<62), 1000), 7), make([]byte, 16))))
	f.Add(slices.Concat(connect, request(opCreate, createBody("/n", "x", ephemeral)), request(opGetData, watchPath("/n", true)), request(opCloseSession, nil)))
	f.Add(slices.Concat(connect, request(opPing, nil), appendInt32(nil, 1<<30)))
	f.Add(slices.Concat(connect, appendInt32(nil, -5)))
	f.Fuzz(func(t *testing.T, sent []byte) {
		s := New(Config{MaxNodes: 10, MaxBytes: 1 << 10, MaxSessions: 2})
		here, there := net.Pipe()
		if !s.take(here) {
			t.Fatal("want the connection taken")
		}
		answers := make(chan struct{})
		go func() {
			defer close(answers)
			_, _ = io.Copy(io.Discard, there) // until the server or this test ends it
		}()
		_, _ = there.Write(sent) // the server may have hung up
		if answer, is := s.word("ruok"); answer != "imok" || !is {
			t.Error("want the others served on")
		}
		there.Close()
		<-answers
		if err := s.Close(); err != nil || len(s.conns) != 0 {
			t.Errorf("want every connection ended, found %d left, %v", len(s.conns), err)
		}
	})
}
