package upstream

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/breaker"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/registry"
)

func TestChangedConfigurationServesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoctor()
		pool := health.NewPool((&journal{}).logger())
		defer pool.Close()
		cfg := Config{
			Pool: pool, Health: d.check("grpc"), Outliers: &outlier.Config{Base: time.Minute}, Breaker: &breaker.Config{MaxCalls: 10}, Balancer: neverPanic,
			Priority: nil,
		}
		old := start(t, cfg, nil, "zk")
		d.set(d.ill, true, "i1")
		old.update("zk", append(many("i", 5), with(up("u"), func(ep *registry.Endpoint) { ep.Unverified = true }))...)
		after(3 * time.Second)
		for range 5 {
			old.Report(old.node("i0"), brokenOff(), time.Millisecond)
		}
		settled()
		old.wantPicked("before", "i2", "i3", "i4", "u")
		old.Budget().Withdraw()
		left := old.Budget().Left()

		cfg.SlowStart = time.Minute
		next := start(t, cfg, old.Service, "zk")
		select {
		case <-next.Ready():
		default:
			t.Error("want it ready at once")
		}
		if n, err := next.Pick(anyNode); err != nil || n == nil {
			t.Fatalf("want calls taken at once, found %v", err)
		}
		next.wantPicked("at once: no health and no ejection is forgotten", "i2", "i3", "i4", "u")
		if v := next.instance("i2"); v.Effective != 100 {
			t.Errorf("want no slow start of what is there already, found %+v", v)
		}
		if next.Breaker() != old.Breaker() || next.Budget() != old.Budget() || next.Budget().Left() != left {
			t.Error("want the breaker and the budget kept")
		}
		old.wantPicked("the former goes on until it is closed", "i2", "i3", "i4", "u")
		probes := d.count("i2")
		old.end()
		after(10 * time.Second)
		if n := d.count("i2") - probes; n < 9 || n > 11 {
			t.Errorf("want one probe a second still, found %d in 10 s", n)
		}
		// What happens next is the new one's.
		next.update("zk", append(many("i", 5), with(up("u"), func(ep *registry.Endpoint) { ep.Unverified = true }))...)
		after(guardWindow + time.Second)
		next.update("zk", many("i", 3)...)
		if n := len(next.Nodes()); n != 3 {
			t.Errorf("want three nodes, found %d", n)
		}
		d.set(d.ill, false, "i1")
		after(3 * time.Second)
		next.wantPicked("i1 is well again, i0 has had its check", "i0", "i1", "i2")
		if s := next.Stats(); s.Ejections[outlier.ReasonConsecutive] != 1 {
			t.Errorf("want totals to go on, found %+v", s)
		}
		next.end()
	})
}

func TestChangedConfigurationOfSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := newMemory()
		old := start(t, Config{Shelf: shelf}, nil, "zk", "gone")
		old.update("zk", many("i", 4)...)
		old.update("gone", up("x"))
		old.fail("zk")
		after(time.Minute)

		if err := shelf.Save("orders@zk/orders", registry.Set{Endpoints: many("older", 2)}); err != nil {
			t.Fatal(err)
		}
		next := start(t, Config{Shelf: shelf, Sources: []Source{{Name: "endpoints", Resolver: fixed{up("s")}, Static: true}}}, old.Service, "zk", "new")
		next.wantPicked("sources that stayed, and the static one", "i0", "i1", "i2", "i3", "s")
		if v := next.Inspect().Sources[1]; v.Stale < time.Minute || v.Err == "" || !v.Known {
			t.Errorf("want it stale still, found %+v", v)
		}
		old.end()
		after(5 * time.Second)
		next.wantPicked("silence is no reason", "i0", "i1", "i2", "i3", "s")
		next.update("new", up("n"))
		next.update("zk", many("i", 4)...)
		after(guardWindow + time.Second)
		next.update("zk", many("i", 4)[:2]...)
		next.wantPicked("they have answered", "i0", "i1", "n", "s")
		if n := next.Stats().Guarded; n != 0 {
			t.Errorf("want no alarm, found %d", n)
		}
		next.end()
	})
}

func TestChangedConfigurationKeepsSuspects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, _, end := guarded(t)
		old.update("zk", many("i", 4)...)
		old.update("zk")
		next := start(t, Config{}, old.Service, "zk")
		end()
		next.update("zk")
		next.wantPicked("suspects", "i0", "i1", "i2", "i3")
		after(suspectTime)
		next.wantPicked("their time is over")
		next.end()
	})
}

func TestChangedConfigurationThatIsThrownAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shelf := newMemory()
		cfg := Config{Shelf: shelf, Outliers: &outlier.Config{Base: time.Minute}}
		old := start(t, cfg, nil, "zk")
		old.update("zk", many("i", 4)...)
		next := start(t, cfg, old.Service, "zk")
		next.end()
		for range 5 {
			old.Report(old.node("i0"), brokenOff(), time.Millisecond)
		}
		settled()
		old.wantPicked("the former judges on", "i1", "i2", "i3")
		old.update("zk", many("i", 3)...)
		after(5 * time.Second)
		if n, _ := shelf.has("orders@zk/orders"); n != 3 {
			t.Errorf("want the former to save on, found %d instances", n)
		}
		old.end()
	})
}

func TestCallsOfAFormerConfigurationCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Outliers: &outlier.Config{Base: time.Minute}}
		old := start(t, cfg, nil, "zk")
		old.update("zk", many("i", 4)...)
		node := old.node("i0")
		if !node.Start() {
			t.Fatal("want the call taken")
		}
		next := start(t, cfg, old.Service, "zk")
		old.Close()
		old.Report(node, refused(), time.Millisecond)
		node.Done()
		settled()
		next.wantPicked("a call that began before", "i1", "i2", "i3")
		old.net.checkClosed(t)
		next.end()
	})
}

func TestChangedBreakerIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := start(t, Config{Breaker: &breaker.Config{MaxCalls: 1}, Budget: 0.1}, nil, "zk")
		defer old.end()
		next := start(t, Config{Breaker: &breaker.Config{MaxCalls: 2}, Budget: 0.3}, old.Service, "zk")
		defer next.end()
		if next.Breaker() == old.Breaker() || next.Budget() == old.Budget() {
			t.Error("want another breaker and another budget")
		}
		none := start(t, Config{}, next.Service, "zk")
		defer none.end()
		if none.Breaker() != nil || none.Budget() == nil {
			t.Error("want no breaker, and the usual budget")
		}
	})
}

// TestManyConfigurations: what is kept through reloads does not grow with them.
func TestManyConfigurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoctor()
		pool := health.NewPool((&journal{}).logger())
		defer pool.Close()
		cfg := Config{Pool: pool, Health: d.check("grpc"), Outliers: &outlier.Config{}}
		b := start(t, cfg, nil, "zk")
		b.update("zk", many("i", 3)...)
		after(time.Second)
		begun, probes := time.Now(), d.count("i0")
		for range 200 {
			next := start(t, cfg, b.Service, "zk")
			b.end()
			b = next
			b.update("zk", many("i", 3)...)
			b.wantPicked("after a reload", "i0", "i1", "i2")
		}
		after(30 * time.Second)
		want := time.Since(begun).Seconds()
		if n := float64(d.count("i0") - probes); n < want*0.95 || n > want*1.05 {
			t.Errorf("want one probe a second through all of it, found %.0f in %.0f s", n, want)
		}
		if n := len(b.records.tracked); n != 3 {
			t.Errorf("want three records, found %d", n)
		}
		b.end()
	})
}

func TestChangedCheckFindsNobodyUnverifiedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoctor()
		pool := health.NewPool((&journal{}).logger())
		defer pool.Close()
		old := start(t, Config{Pool: pool, Health: d.check("grpc")}, nil, "zk")
		unverified := func(ep *registry.Endpoint) { ep.Unverified = true }
		d.set(d.ill, true, "y")
		old.update("zk", with(up("x"), unverified), with(up("y"), unverified))
		after(time.Second)
		old.wantPicked("before", "x")
		d.set(d.mute, true, "x", "y")
		next := start(t, Config{Pool: pool, Health: d.check("http")}, old.Service, "zk")
		defer next.end()
		old.end()
		next.wantPicked("another check, which has not answered so far", "x")
	})
}

func TestLateCallsPickFromTheSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := start(t, Config{Outliers: &outlier.Config{}}, nil, "zk")
		old.update("zk", many("i", 3)...)
		next := start(t, Config{Outliers: &outlier.Config{}}, old.Service, "zk")
		next.update("zk", many("i", 4)...)
		last := start(t, Config{}, next.Service, "zk")
		old.end()
		next.end()
		old.wantPicked("two configurations later", "i0", "i1", "i2", "i3")
		subset := []balancer.Subset{{Name: "v2", Match: map[string]string{"version": "2"}, Weight: 1}}
		other := start(t, Config{Balancer: balancer.Config{Subsets: subset}}, last.Service, "zk")
		last.end()
		n, err := last.Pick(anyNode)
		if err == nil && n.Start() {
			t.Errorf("want no call to go to what may be another subset, found %s taken", n.Address)
		}
		other.end()
		if n, err := other.Pick(anyNode); err == nil && n.Start() {
			t.Errorf("want no call taken once all is closed, found %s", n.Address)
		}
	})
}

// TestFormerServicesAreLetGo: nothing that lasts points back at a configuration that is no longer in force.
func TestFormerServicesAreLetGo(t *testing.T) {
	d := newDoctor()
	pool := health.NewPool((&journal{}).logger())
	defer pool.Close()
	cfg := Config{
		Name: "orders", Log: (&journal{}).logger(), Dial: newNetwork().dial, Pool: pool, Health: d.check("grpc"), Outliers: &outlier.Config{},
		Shelf: newMemory(), Sources: []Source{{Name: "zk", Resolver: fixed(many("i", 3)), Guard: true}},
	}
	s := New(cfg, nil)
	<-s.Ready()
	first := weak.Make(s)
	for range 5 {
		next := New(cfg, s)
		s.Close()
		s = next
	}
	for end := time.Now().Add(20 * time.Second); first.Value() != nil; runtime.GC() {
		if time.Now().After(end) {
			t.Fatal("want the first service to be collected, it is still reachable")
		}
	}
	s.Close()
}

// A service that is retired watches and probes nobody any more. Calls under it go on with what is known until it is closed, and
// their outcomes reach whoever is in force by then.
func TestRetiredServiceServesItsCallsAndAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoctor()
		pool := health.NewPool((&journal{}).logger())
		defer pool.Close()
		cfg := Config{Pool: pool, Health: d.check("grpc"), Outliers: &outlier.Config{Base: time.Minute}, Balancer: neverPanic}
		first := start(t, cfg, nil, "zk")
		first.update("zk", many("i", 3)...)
		after(3 * time.Second)
		second := start(t, cfg, first.Service, "zk")
		third := start(t, cfg, second.Service, "zk")
		second.Retire()
		second.Close()
		first.Retire()
		first.Retire() // nothing more
		third.update("zk", many("i", 2)...)
		after(guardWindow + suspectTime)
		third.wantPicked("what is in force", "i0", "i1")
		first.wantPicked("the former, as it was", "i0", "i1", "i2")
		probes, gone := d.count("i0"), d.count("i2")
		after(10 * time.Second)
		if n := d.count("i0") - probes; n < 9 || n > 11 {
			t.Errorf("want one probe a second, found %d in 10 s", n)
		}
		if n := d.count("i2") - gone; n != 0 {
			t.Errorf("want nobody probed for a service that is retired, found %d in 10 s", n)
		}
		for range 5 {
			first.Report(first.node("i0"), brokenOff(), time.Millisecond)
		}
		settled()
		third.wantPicked("an instance that failed a call of the former", "i1")
		first.Close()
		third.Close()
	})
}
