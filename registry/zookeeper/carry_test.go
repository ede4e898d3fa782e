package zookeeper

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/registrytest"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// readLog notes which nodes are read over connections, and when.
type readLog struct {
	mu    sync.Mutex
	paths []string
	last  time.Time
}

type readConn struct {
	net.Conn
	log *readLog
}

// Write takes one request, as the library writes it.
func (c *readConn) Write(p []byte) (int, error) {
	if len(p) > 16 && be32(p[4:]) > 0 {
		if op := be32(p[8:]); op == 4 || op == 12 { // getData, getChildren2
			c.log.mu.Lock()
			c.log.paths = append(c.log.paths, string(p[16:16+be32(p[12:])]))
			c.log.last = time.Now()
			c.log.mu.Unlock()
		}
	}
	return c.Conn.Write(p)
}

func (l *readLog) dial(ctx context.Context, address string) (net.Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	return &readConn{nc, l}, err
}

func (l *readLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paths = nil
}

// seen is how many reads there were, of how many nodes, and when the last one was.
func (l *readLog) seen() (reads, nodes int, last time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]struct{}{}
	for _, p := range l.paths {
		all[p] = struct{}{}
	}
	return len(l.paths), len(all), l.last
}

// TestNewSessionKeepsToTheRate holds that what has changed while a session ended is told at once in the next one, and what changes
// then too, although everything is read again at no more than the rate.
func TestNewSessionKeepsToTheRate(t *testing.T) {
	t.Parallel()
	onServers(t, testNewSession)
}

func testNewSession(t *testing.T, addr string, session time.Duration) {
	const services, instances = 40, 4
	side := plain(t, addr)
	g := startGate(t, addr)
	reads := &readLog{}
	conn := connect(t, Config{Servers: []string{g.addr()}, Session: session, Dial: reads.dial})
	dir := func(n int) string { return fmt.Sprintf("/causeway/v1/services/orders%d/instances", n) }
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	was := []string{"a:1", "b:1", "c:1", "d:1"}
	sinks := make([]*registrytest.Sink, services)
	for i := range sinks {
		if i != 5 { // which is not there
			setInstances(t, side, dir(i), was...)
		}
		sinks[i] = registrytest.NewSink(t)
		all.Go(func() {
			_ = (&Resolver{Conn: conn, Relist: time.Hour}).Watch(ctx, fmt.Sprintf("orders%d", i), sinks[i])
		}) // until ctx ends
	}
	for i, s := range sinks {
		if i == 5 {
			s.Wait()
		} else {
			s.Wait(was...)
		}
	}
	id, data := instanceAt(t, "a:1")
	before, _ := conn.now()
	// The server ends the session, as its node shows.
	_, err := do(short(t), conn, before.generation, func(z *zk.Conn) (string, error) {
		return z.Create("/own", nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	})
	if err != nil {
		t.Fatal(err)
	}
	g.set(refuse)
	for _, s := range sinks {
		if err := s.WaitFail(); err == nil {
			t.Error("want the outage told")
		}
	}
	eventually(t, "the end of the session", func() bool { there, _, err := side.Exists("/own"); return err == nil && !there })
	setInstances(t, side, dir(1), append(was, "e:1")...)
	setInstances(t, side, dir(2), was[1:]...)
	put(t, side, dir(3)+"/"+id, strings.Replace(data, `"v":1`, `"v":1,"weight":7`, 1))
	setInstances(t, side, dir(4))
	setInstances(t, side, dir(5), "f:1")
	reads.reset()
	g.set(pass)
	eventually(t, "a new session", func() bool { s, _ := conn.now(); return s.connected && s.generation > before.generation })
	began := time.Now()
	now, _ := conn.now()
	if !now.told {
		t.Error("want the server to have told what has changed")
	}
	heavier := func(s registry.Set) bool { return len(s.Endpoints) == 4 && s.Endpoints[0].Weight == 7 }
	sinks[1].Wait(append(was, "e:1")...)
	sinks[2].Wait(was[1:]...)
	sinks[3].WaitSet("the new weight", heavier)
	sinks[4].Wait()
	sinks[5].Wait("f:1")
	for i, s := range sinks[6:] {
		s.WaitSet("it confirmed", func(s registry.Set) bool { return len(s.Endpoints) == instances })
		// And nothing is unseen from then on, read again or not.
		if i%10 == 0 {
			setInstances(t, side, dir(6+i), "g:1")
			s.Wait("g:1")
		}
	}
	so, _, _ := reads.seen()
	t.Logf("everything is known %v after the new session, with %d reads", time.Since(began), so)

	// The connection is lost once more, while most is watched only as the server was asked for at once.
	g.set(refuse)
	eventually(t, "the loss", func() bool { return conn.Err() != nil })
	setInstances(t, side, dir(7), "h:1")
	put(t, side, dir(8)+"/"+id, strings.Replace(data, `"v":1`, `"v":1,"weight":7`, 1))
	g.set(pass)
	sinks[7].Wait("h:1")
	sinks[8].WaitSet("the new weight", heavier)
	setInstances(t, side, dir(9), "i:1")
	sinks[9].Wait("i:1")

	const nodes = (services-10)*instances + services // of those whose instances stay
	eventually(t, "everything read again", func() bool { _, n, _ := reads.seen(); return n >= nodes })
	n, _, last := reads.seen()
	t.Logf("everything is read again %v after the new session, with %d reads", last.Sub(began), n)
	if least := (nodes - 60) * time.Second / relistReads; last.Sub(began) < least { // but for those with changes
		t.Errorf("want the reads spread over %v at least, found %v", least, last.Sub(began))
	}
}

// TestOtherData holds that the numbers of changes in a registry that has lost its data, and has had as many changes since, are
// not taken for those of before.
func TestOtherData(t *testing.T) {
	t.Parallel()
	server := realserver.StartZooKeeper(t)
	g := startGate(t, server.Address)
	conn := connect(t, Config{Servers: []string{g.addr()}, Session: 3 * time.Second})
	sink, stop := registrytest.Watch(t, &Resolver{Conn: conn, Relist: time.Hour}, "orders")
	defer stop() //nolint:errcheck // the context's error
	dir := "/causeway/v1/services/orders/instances"
	id, data := instanceAt(t, "a:1")
	changes := func(side *zk.Conn, n int) {
		for i := range n {
			put(t, side, "/changes", strconv.Itoa(i))
		}
	}
	side := plain(t, server.Address)
	changes(side, 100)
	put(t, side, dir+"/"+id, data)
	sink.Wait("a:1")
	side.Close()
	g.set(refuse)
	if err := sink.WaitFail(); err == nil {
		t.Error("want the outage told")
	}
	server.Kill()
	server.Wipe()
	server.Start()
	side = plain(t, server.Address)
	put(t, side, dir+"/"+id, strings.Replace(data, `"v":1`, `"v":1,"weight":7`, 1))
	changes(side, 300)
	g.set(pass)
	sink.WaitSet("the new weight", func(s registry.Set) bool { return len(s.Endpoints) == 1 && s.Endpoints[0].Weight == 7 })
	if now, _ := conn.now(); now.told {
		t.Error("want it known that the server can tell nothing")
	}
	setInstances(t, side, dir, "b:1")
	sink.Wait("b:1")
}

// TestWatchFrames holds requests that set watches to their size, and that each watch is in one of them.
func TestWatchFrames(t *testing.T) {
	t.Parallel()
	want := map[string]int{}
	keys := map[watchKey]bool{}
	for i := range 5000 {
		path := fmt.Sprintf("/causeway/v1/services/%s%d/instances", strings.Repeat("x", i%200), i)
		keys[watchKey{path, i%3 == 2}] = i%3 == 1
		want[path] = i % 3
	}
	frames := watchFrames(77, keys)
	for _, f := range frames {
		if len(f) > watchesFrame+64 || int(binary.BigEndian.Uint32(f)) != len(f)-4 || be32(f[4:]) != watchesXid || be32(f[8:]) != opSetWatches || binary.BigEndian.Uint64(f[12:]) != 77 {
			t.Fatalf("found a frame of %d bytes that begins with %x", len(f), f[:20])
		}
		r := record{f[20:]}
		for list := range 3 {
			n, _ := r.int32()
			for range n {
				size, _ := r.int32()
				path := string(r.b[:size])
				r.skip(int(size))
				if which, there := want[path]; !there || which != list {
					t.Fatalf("want %s once, and in list %d, found it in %d", path, which, list)
				}
				delete(want, path)
			}
		}
		if len(r.b) > 0 {
			t.Errorf("want nothing behind the lists, found %x", r.b)
		}
	}
	if len(want) > 0 || len(frames) < 4 {
		t.Errorf("want all watches in several frames, found %d frames and %d missing", len(frames), len(want))
	}
}

// TestCarryGivesUp holds that a server which ends the connection at a request to set watches is served without them.
func TestCarryGivesUp(t *testing.T) {
	t.Parallel()
	var n atomic.Int64 // each connection gets another session
	addr := sessions(t, func() int64 { return n.Add(1) }, func(xid, op int32) []byte {
		switch {
		case xid == watchesXid:
			return nil // and the connection ends
		case op == 12:
			return frameOf(xid, 0, make([]byte, 4+statSize)...) // no children
		case op == 4:
			return frameOf(xid, 0, append(binary.BigEndian.AppendUint32(nil, 0), make([]byte, statSize)...)...)
		case op == 3:
			return frameOf(xid, 0, make([]byte, statSize)...)
		}
		return frameOf(xid, 0)
	})
	conn := connect(t, Config{Servers: []string{addr}, Session: 3 * time.Second})
	sink, stop := registrytest.Watch(t, &Resolver{Conn: conn, Relist: time.Hour}, "orders")
	defer stop() //nolint:errcheck // the context's error
	sink.Wait()
	before, _ := conn.now()
	conn.mu.Lock()
	live := conn.client.live
	conn.mu.Unlock()
	_ = live.Close()
	eventually(t, "a connection without", func() bool { s, _ := conn.now(); return s.connected && s.generation > before.generation })
	if s, _ := conn.now(); s.told {
		t.Error("want it known that nothing is told")
	}
	if dials := n.Load(); dials < 4 {
		t.Errorf("want it tried again first, found %d connections", dials)
	}
}

// sessions is a server that gives a session to each connection, answers, and ends the connection when there is no answer.
func sessions(t *testing.T, session func() int64, answer func(xid, op int32) []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				for first := true; ; first = false {
					var head [4]byte
					if _, err := io.ReadFull(c, head[:]); err != nil {
						return
					}
					b := make([]byte, binary.BigEndian.Uint32(head[:]))
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					var out []byte
					if first {
						out = connected(20_000)
						binary.BigEndian.PutUint64(out[12:], uint64(session()))
					} else if out = answer(be32(b), be32(b[4:])); out == nil {
						return
					}
					if _, err := c.Write(out); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}
