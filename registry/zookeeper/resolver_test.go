package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/registrytest"
)

// TestServers holds registrar and resolver to their contracts on a development server and on Debian's ZooKeeper.
func TestServers(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, addr string, session time.Duration) {
		t.Run("registrar", func(t *testing.T) {
			t.Parallel()
			testRegistrar(t, addr, session)
		})
		t.Run("resolver", func(t *testing.T) {
			t.Parallel()
			testResolver(t, addr, session)
		})
		t.Run("examples", func(t *testing.T) {
			t.Parallel()
			testExamples(t, addr, session, session > time.Second)
		})
	})
}

func testResolver(t *testing.T, addr string, session time.Duration) {
	side := plain(t, addr)
	var n atomic.Int32
	root := func() string { return fmt.Sprintf("/test%d", n.Add(1)) }
	t.Run("contract", func(t *testing.T) {
		registrytest.Run(t, func(t *testing.T, addresses ...string) registry.Resolver {
			at := root()
			setInstances(t, side, at+"/v1/services/orders/instances", addresses...)
			return &Resolver{Conn: connect(t, Config{Servers: []string{addr}, Root: at, Session: session})}
		})
	})
	t.Run("changes", func(t *testing.T) {
		t.Parallel()
		registrytest.RunChanging(t, func(t *testing.T) registrytest.Registry {
			at, g := root(), startGate(t, addr)
			return registrytest.Registry{
				Resolver: &Resolver{Conn: connect(t, Config{Servers: []string{g.addr()}, Root: at, Session: session})},
				Set:      func(addresses ...string) { setInstances(t, side, at+"/v1/services/orders/instances", addresses...) },
				Lose:     func() { g.set(refuse) },
				Return:   func() { g.set(pass) },
			}
		})
	})
	for name, test := range map[string]func(*testing.T, *zk.Conn, *registrytest.Sink, string){
		"missing parents, vanishing containers": testContainers,
		"malformed entries":                     testMalformed,
		"data of one's own watch":               testDataChanges,
		"bursts end with the last state":        testBursts,
		"a service that was withdrawn":          testWithdrawn,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := root()
			conn := connect(t, Config{Servers: []string{addr}, Root: at, Session: session})
			sink, stop := registrytest.Watch(t, &Resolver{Conn: conn, Relist: time.Hour}, "orders")
			defer stop() //nolint:errcheck // the context's error
			sink.Wait()
			test(t, side, sink, at+"/v1/services/orders/instances")
		})
	}
	t.Run("5,000 instances", func(t *testing.T) { testMany(t, addr, side, root()) })
	t.Run("beats", func(t *testing.T) { testBeats(t, addr, session, root()) })
}

func testContainers(t *testing.T, side *zk.Conn, sink *registrytest.Sink, dir string) {
	id, data := instanceAt(t, "a:1")
	above, _, _ := cutLast(dir)
	for range 3 {
		mkdir(t, side, above)
		if _, err := side.CreateContainer(dir, nil, zk.FlagContainer, zk.WorldACL(zk.PermAll)); err != nil {
			t.Fatal(err)
		}
		put(t, side, dir+"/"+id, data)
		sink.Wait("a:1")
		if err := side.Delete(dir+"/"+id, -1); err != nil {
			t.Fatal(err)
		}
		sink.Wait()
		eventually(t, "the container gone", func() bool { there, _, err := side.Exists(dir); return err == nil && !there })
	}
}

// A service whose node somebody has deleted is withdrawn; where everything above it is gone too, the registry has lost it.
func testWithdrawn(t *testing.T, side *zk.Conn, sink *registrytest.Sink, dir string) {
	wipe := func(path string) {
		var remove func(path string)
		remove = func(path string) {
			names, _, err := side.Children(path)
			for _, n := range names {
				remove(path + "/" + n)
			}
			if err == nil {
				err = side.Delete(path, -1)
			}
			if err != nil && !errors.Is(err, zk.ErrNoNode) {
				t.Fatal(err)
			}
		}
		remove(path)
	}
	service, _, _ := cutLast(dir)
	services, _, _ := cutLast(service)
	for range 2 {
		setInstances(t, side, dir, "a:1", "b:1")
		if set := sink.Wait("a:1", "b:1"); set.Withdrawn {
			t.Error("want a service with instances there")
		}
		wipe(service)
		sink.WaitSet("withdrawn", func(s registry.Set) bool { return s.Withdrawn && len(s.Endpoints) == 0 })
	}
	setInstances(t, side, dir, "a:1", "b:1")
	sink.Wait("a:1", "b:1")
	setInstances(t, side, dir)
	if set := sink.Wait(); set.Withdrawn {
		t.Error("want a service without instances there")
	}
	setInstances(t, side, dir, "a:1", "b:1")
	sink.Wait("a:1", "b:1")
	wipe(services)
	mkdir(t, side, services) // by another service that has come back sooner
	if set := sink.Wait(); set.Withdrawn {
		t.Error("want nothing taken for withdrawn where everything was lost")
	}
}

func testMalformed(t *testing.T, side *zk.Conn, sink *registrytest.Sink, dir string) {
	setInstances(t, side, dir, "a:1", "b:1")
	sink.Wait("a:1", "b:1")
	for name, data := range map[string]string{
		"empty": "", "binary": "\xff\xfe\x00", "other": "127.0.0.1:80", "list": "[]", "huge": `{"v":1,"id":"huge","x":"` + strings.Repeat("x", 900<<10) + `"}`,
		"port0":    `{"v":1,"id":"port0","endpoints":[{"protocol":"grpc","host":"h","port":0}]}`,
		"wrong-id": `{"v":1,"id":"other","endpoints":[{"protocol":"grpc","host":"h","port":1}]}`,
	} {
		put(t, side, dir+"/"+name, data)
	}
	set := sink.WaitSet("seven skipped", func(s registry.Set) bool { return s.Skipped == 7 })
	if len(set.Endpoints) != 2 {
		t.Errorf("want the two sound ones kept, found %+v", set)
	}
	// One that was sound keeps what it said last.
	put(t, side, dir+"/a-1", "garbage")
	set = sink.WaitSet("eight skipped", func(s registry.Set) bool { return s.Skipped == 8 })
	if len(set.Endpoints) != 2 {
		t.Errorf("want one that became malformed to stay as it was, found %+v", set)
	}
	if err := side.Delete(dir+"/a-1", -1); err != nil {
		t.Fatal(err)
	}
	sink.Wait("b:1")
}

func testDataChanges(t *testing.T, side *zk.Conn, sink *registrytest.Sink, dir string) {
	setInstances(t, side, dir, "a:1", "b:1")
	sink.Wait("a:1", "b:1")
	_, data := instanceAt(t, "a:1")
	for _, s := range []registry.Status{registry.Draining, registry.Up, registry.Down, registry.Starting, registry.Up} {
		changed, err := WithStatus([]byte(data), s)
		if err != nil {
			t.Fatal(err)
		}
		put(t, side, dir+"/a-1", string(changed))
		set := sink.WaitSet(s.String(), func(set registry.Set) bool { return len(set.Endpoints) == 2 && set.Endpoints[0].Status == s })
		if set.Endpoints[0].Weight != 100 || set.Endpoints[1].Status != registry.Up {
			t.Errorf("want the status changed and nothing else, found %+v", set.Endpoints)
		}
	}
}

func testBursts(t *testing.T, side *zk.Conn, sink *registrytest.Sink, dir string) {
	mkdir(t, side, dir)
	for i := range 300 {
		address := fmt.Sprintf("h%d:1", i%40)
		id, data := instanceAt(t, address)
		if there, _, err := side.Exists(dir + "/" + id); err != nil {
			t.Fatal(err)
		} else if !there {
			put(t, side, dir+"/"+id, data)
		} else if i%3 == 0 {
			put(t, side, dir+"/"+id, strings.Replace(data, `"v":1`, fmt.Sprintf(`"v":1,"weight":%d`, i), 1))
		} else if err := side.Delete(dir+"/"+id, -1); err != nil {
			t.Fatal(err)
		}
	}
	names, _, err := side.Children(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]registry.Endpoint{}
	for _, name := range names {
		data, _, err := side.Get(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		eps, err := Native{}.Parse("orders", Place{}, name, data)
		if err != nil {
			t.Fatal(err)
		}
		want[name] = eps[0]
	}
	sink.WaitSet("what a fresh list shows", func(s registry.Set) bool {
		for _, e := range s.Endpoints {
			if w, there := want[e.ID]; !there || w.Weight != e.Weight {
				return false
			}
		}
		return len(s.Endpoints) == len(want)
	})
}

func testMany(t *testing.T, addr string, side *zk.Conn, root string) {
	const n = 5000
	dir := root + "/v1/services/orders/instances"
	mkdir(t, side, dir)
	var addresses []string
	var ops []any
	for i := range n {
		address := fmt.Sprintf("h%d:1", i)
		addresses = append(addresses, address)
		id, data := instanceAt(t, address)
		ops = append(ops, &zk.CreateRequest{Path: dir + "/" + id, Data: []byte(data), Acl: zk.WorldACL(zk.PermAll)})
		if len(ops) == 500 {
			if _, err := side.Multi(ops...); err != nil {
				t.Fatal(err)
			}
			ops = ops[:0]
		}
	}
	conn := connect(t, Config{Servers: []string{addr}, Root: root})
	began := time.Now()
	sink, stop := registrytest.Watch(t, &Resolver{Conn: conn, Relist: time.Hour}, "orders")
	defer stop() //nolint:errcheck // the context's error
	sink.Wait(addresses...)
	t.Logf("%d instances known after %v", n, time.Since(began).Round(time.Millisecond))
	// 2,000 vanish at once: none of them is left.
	for i := range 2000 {
		ops = append(ops, &zk.DeleteRequest{Path: dir + "/" + fmt.Sprintf("h%d-1", i), Version: -1})
		if len(ops) == 500 {
			if _, err := side.Multi(ops...); err != nil {
				t.Fatal(err)
			}
			ops = ops[:0]
		}
	}
	sink.Wait(addresses[2000:]...)

	few, stopFew := registrytest.Watch(t, &Resolver{Conn: conn, Most: 2999}, "orders")
	defer stopFew() //nolint:errcheck // the context's error
	if err := few.WaitFail(); !strings.Contains(err.Error(), "at most 2999") {
		t.Errorf("want the limit named, found %v", err)
	}
}

func testBeats(t *testing.T, addr string, session time.Duration, root string) {
	conn := connect(t, Config{Servers: []string{addr}, Root: root, Session: session})
	load := 0.0
	r := &Registrar{Conn: conn, Beat: 20 * time.Millisecond, Load: func() float64 { load += 0.001; return load }}
	lease, err := r.Register(short(t), "orders", registry.Endpoint{Address: "a:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&Registrar{Conn: conn}).Register(short(t), "orders", registry.Endpoint{Address: "b:1"}); err != nil {
		t.Fatal(err)
	}
	before, _ := conn.now()
	sink, stop := registrytest.Watch(t, &Resolver{Conn: conn, Beats: 30 * time.Millisecond}, "orders")
	defer stop() //nolint:errcheck // the context's error
	sink.Wait("a:1", "b:1")
	beats := sink.WaitBeats("a-1", 5)
	for i := 1; i < len(beats); i++ {
		if beats[i].Load <= beats[i-1].Load || !beats[i].At.After(beats[i-1].At) {
			t.Errorf("want beats of rising load and time, found %v", beats)
		}
	}
	updates := sink.Updates()
	after, _ := conn.now()
	if err := lease.Close(short(t)); err != nil {
		t.Fatal(err)
	}
	sink.Wait("b:1")
	if updates != 1 && after.links == before.links { // the end of an outage is told
		t.Errorf("want beats to change no set, found %d sets", updates)
	}
}

func TestResolverReadsAgainOnANewSession(t *testing.T) {
	t.Parallel()
	s, addr := startDev(t)
	side := plain(t, addr)
	g := startGate(t, addr)
	conn := connect(t, Config{Servers: []string{g.addr()}, Session: 3 * time.Second}) // it is ended, and does not end by itself
	sink, stop := registrytest.Watch(t, &Resolver{Conn: conn, Relist: time.Hour}, "orders")
	defer stop() //nolint:errcheck // the context's error
	dir := "/causeway/v1/services/orders/instances"
	setInstances(t, side, dir, "a:1", "b:1")
	sink.Wait("a:1", "b:1")
	before, _ := conn.now()
	g.set(refuse)
	s.ExpireSessions()
	if err := sink.WaitFail(); !strings.HasPrefix(err.Error(), "zookeeper: orders: ") {
		t.Errorf("want the service named, found %v", err)
	}
	side = plain(t, addr)
	_, data := instanceAt(t, "a:1")
	put(t, side, dir+"/a-1", strings.Replace(data, `"v":1`, `"v":1,"weight":7`, 1))
	g.set(pass)
	sink.WaitSet("the new weight", func(s registry.Set) bool { return s.Endpoints[0].Weight == 7 })
	if after, _ := conn.now(); after.generation != before.generation+1 || after.session == before.session {
		t.Errorf("want one new session, found %+v after %+v", after, before)
	}
	// Its watches are armed.
	setInstances(t, side, dir, "c:1")
	sink.Wait("c:1")
}

// timedSink notes when a set came.
type timedSink struct {
	*registrytest.Sink
	mu   sync.Mutex
	last time.Time
}

// Update takes a set.
func (s *timedSink) Update(set registry.Set) {
	s.mu.Lock()
	s.last = time.Now()
	s.mu.Unlock()
	s.Sink.Update(set)
}

func (s *timedSink) at() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// TestReconnectIsGentle holds that a connection that comes back with its session does not list everything at once, that what has
// changed meanwhile is heard before that, and that everything is confirmed in the end.
func TestReconnectIsGentle(t *testing.T) {
	t.Parallel()
	_, addr := startDev(t)
	side := plain(t, addr)
	const services = 100
	g := startGate(t, addr)
	conn := connect(t, Config{Servers: []string{g.addr()}, Session: 3 * time.Second})
	dir := func(n int) string { return fmt.Sprintf("/causeway/v1/services/orders%d/instances", n) }
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	sinks := make([]*timedSink, services)
	for i := range sinks {
		setInstances(t, side, dir(i), "a:1")
		sinks[i] = &timedSink{Sink: registrytest.NewSink(t)}
		all.Go(func() {
			_ = (&Resolver{Conn: conn, Relist: time.Hour}).Watch(ctx, fmt.Sprintf("orders%d", i), sinks[i])
		}) // until ctx ends
	}
	for _, s := range sinks {
		s.Wait("a:1")
	}
	for try := 0; ; try++ {
		before, _ := conn.now()
		g.set(refuse)
		for _, s := range sinks {
			if err := s.WaitFail(); err == nil {
				t.Error("want the outage told")
			}
		}
		now := []string{"a:1", fmt.Sprintf("b:%d", try+1)}
		setInstances(t, side, dir(7), now...)
		began := time.Now()
		g.set(pass)
		changed := sinks[7].Wait(now...)
		heard := sinks[7].at()
		if len(changed.Endpoints) != 2 {
			t.Errorf("want the change, found %+v", changed)
		}
		last := heard
		for _, s := range sinks {
			s.WaitSet("it confirmed", func(registry.Set) bool { return true })
			if at := s.at(); at.After(last) {
				last = at
			}
		}
		if after, _ := conn.now(); after.generation != before.generation {
			if try > 4 {
				t.Fatal("want a session that lasts")
			}
			continue // the machine stood still for as long
		}
		t.Logf("the change was heard after %v, all was confirmed after %v", heard.Sub(began), last.Sub(began))
		if least := (services - 2) * time.Second / relistReads; last.Sub(began) < least {
			t.Errorf("want the re-lists spread over %v at least, found %v", least, last.Sub(began))
		}
		if !heard.Before(last) {
			t.Error("want what has changed heard before the rest is confirmed")
		}
		return
	}
}

// TestPace holds the turns of re-lists to their rate, and the wait for one to its limit.
func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	now := time.Unix(1000, 0)
	var want time.Duration
	for _, reads := range []int{1, 5, 1, 100, 1} {
		if at := p.turn(now, reads); at.Sub(now) != want {
			t.Errorf("%d reads: want a turn after %v, found %v", reads, want, at.Sub(now))
		}
		want += time.Duration(reads) * 20 * time.Millisecond
	}
	now = now.Add(time.Minute)
	if at := p.turn(now, 1); at != now {
		t.Errorf("want a turn at once after a rest, found %v", at.Sub(now))
	}
	for range 5000 {
		if at := p.turn(now, 3); at.Sub(now) > relistWait {
			t.Fatalf("want nobody to wait for longer than %v, found %v", relistWait, at.Sub(now))
		}
	}
}

// TestWatchesAreShared holds that what resolvers leave behind does not grow: the library cannot take a watch back.
func TestWatchesAreShared(t *testing.T) {
	t.Parallel()
	_, addr := startDev(t)
	side := plain(t, addr)
	dir := "/causeway/v1/services/orders/instances"
	setInstances(t, side, dir, "a:1", "b:1")
	conn := connect(t, Config{Servers: []string{addr}})
	for range 50 {
		sink, stop := registrytest.Watch(t, &Resolver{Conn: conn}, "orders")
		sink.Wait("a:1", "b:1")
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	first, stopFirst := registrytest.Watch(t, &Resolver{Conn: conn, Relist: time.Hour}, "orders")
	defer stopFirst() //nolint:errcheck // the context's error
	second, stopSecond := registrytest.Watch(t, &Resolver{Conn: conn, Relist: time.Hour}, "orders")
	defer stopSecond() //nolint:errcheck // the context's error
	missing, stopMissing := registrytest.Watch(t, &Resolver{Conn: conn, Relist: time.Hour}, "payments")
	defer stopMissing() //nolint:errcheck // the context's error
	for _, at := range [][]string{{"a:1", "b:1"}, {"c:1"}, {}, {"a:1"}} {
		setInstances(t, side, dir, at...)
		first.Wait(at...)
		second.Wait(at...)
	}
	missing.Wait()
	conn.mu.Lock()
	armed := len(conn.armed)
	conn.mu.Unlock()
	if armed != 3 { // the list of one service, its instance, and the place where the other is not
		t.Errorf("want 3 watches, found %d", armed)
	}
	watches := reflect.ValueOf(conn.client.zk).Elem().FieldByName("watchers")
	channels := 0
	for _, key := range watches.MapKeys() {
		channels += watches.MapIndex(key).Len()
	}
	if channels != 3 {
		t.Errorf("want the library to keep 3 watches, found %d", channels)
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	_, addr := startDev(t)
	side := plain(t, addr)
	setInstances(t, side, "/causeway/v1/services/orders/instances", "10.0.0.1:1", "169.254.169.254:80")
	sink, stop := registrytest.Watch(t, &Resolver{Conn: connect(t, Config{Servers: []string{addr}})}, "orders")
	defer stop() //nolint:errcheck // the context's error
	if set := sink.Wait("10.0.0.1:1"); set.Skipped != 1 {
		t.Errorf("want the other counted, found %d", set.Skipped)
	}
}

func TestServiceNames(t *testing.T) {
	conn := connect(t, Config{Servers: []string{"127.0.0.1:1"}})
	for _, name := range []string{"", "a/b", "..", "a\x00", strings.Repeat("x", 513)} {
		err := (&Resolver{Conn: conn}).Watch(short(t), name, registrytest.NewSink(t))
		if err == nil || errors.Is(err, short(t).Err()) {
			t.Errorf("%q: want the name refused, found %v", name, err)
		}
	}
}
