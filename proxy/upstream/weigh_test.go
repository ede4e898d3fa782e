package upstream

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/registry"
)

// neverPanic believes checks however few are up.
var neverPanic = balancer.Config{Panic: -1}

// checked makes a service whose instances are checked, or where implied says so only those nobody vouches for.
func checked(t *testing.T, cfg Config, implied bool) (*bench, *doctor, func()) {
	t.Helper()
	d := newDoctor()
	cfg.Pool = health.NewPool((&journal{}).logger())
	if implied {
		cfg.Implied = d.check("tcp")
	} else {
		cfg.Health = d.check("grpc")
	}
	b := start(t, cfg, nil, "zk")
	return b, d, func() {
		b.end()
		cfg.Pool.Close()
	}
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d, end := checked(t, Config{Balancer: neverPanic}, false)
		defer end()
		d.set(d.mute, true, "i0", "i1", "i2", "i3", "i4")
		b.update("zk", many("i", 4)...)
		b.wantPicked("nobody has answered, and nobody else is there", "i0", "i1", "i2", "i3")
		d.set(d.mute, false, "i0", "i1", "i2", "i3")
		d.set(d.ill, true, "i1")
		after(3 * time.Second)
		b.wantPicked("i1 is ill", "i0", "i2", "i3")
		if v := b.instance("i1"); v.State != StateDown || !strings.HasPrefix(v.Why, "not used: its check does not pass: it failed ") || !strings.HasSuffix(v.Why, " ago: connection refused") {
			t.Errorf("want the reason, found %q", v.Why)
		}
		// One that comes later is asked first.
		b.update("zk", many("i", 5)...)
		b.wantPicked("i4 has not answered", "i0", "i2", "i3")
		if v := b.instance("i4"); v.State != StateChecking || v.Why != "not used: its first check has not ended so far" {
			t.Errorf("want the reason, found %+v", v)
		}
		d.set(d.mute, false, "i4")
		after(2 * time.Second)
		b.wantPicked("it has", "i0", "i2", "i3", "i4")
		// When all are replaced, nobody waits for the first checks.
		d.set(d.mute, true, "j0", "j1", "j2", "j3")
		b.update("zk", many("j", 4)...)
		b.wantPicked("all are new", "j0", "j1", "j2", "j3")
		d.set(d.mute, false, "j0", "j1", "j2")
		after(4 * time.Second)
		b.wantPicked("all have been asked", "j0", "j1", "j2")
		before := d.count("i2")
		after(3 * time.Second)
		if n := d.count("i2"); n > before {
			t.Errorf("i2: want it checked no longer, found %d probes", n-before)
		}
	})
}

// When hardly anybody is up all are called, but not those where a check has found that nothing listens where calls go.
func TestChecksThatAreRefused(t *testing.T) {
	for _, own := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			d := newDoctor()
			d.err = fmt.Errorf("nothing listens there: %w", syscall.ECONNREFUSED)
			cfg := Config{Pool: health.NewPool((&journal{}).logger()), Health: d.check("grpc")}
			cfg.Health.Own = own
			b := start(t, cfg, nil, "zk")
			defer cfg.Pool.Close()
			defer b.end()
			b.update("zk", many("i", 4)...)
			after(2 * time.Second)
			d.set(d.ill, true, "i1", "i2", "i3")
			after(4 * time.Second)
			if own {
				b.wantPicked("nothing listens elsewhere", "i0")
			} else {
				b.wantPicked("calls go to other ports than checks", "i0", "i1", "i2", "i3")
			}
			d.set(d.ill, false, "i1", "i2", "i3")
			after(2 * time.Second)
			b.wantPicked("they are back", "i0", "i1", "i2", "i3")
		})
	}
}

func TestUnverifiedInstances(t *testing.T) {
	for _, implied := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b, d, end := checked(t, Config{Balancer: balancer.Config{Panic: 1}}, implied)
			defer end()
			unverified := func(ep *registry.Endpoint) { ep.Unverified = true }
			d.set(d.mute, true, "x")
			d.set(d.ill, true, "y")
			b.update("zk", with(up("x"), unverified), with(up("y"), unverified))
			b.wantPicked("no check has passed, and panic is no reason")
			after(2 * time.Second)
			if v := b.instance("y"); v.State != StateUnverified || !strings.HasPrefix(v.Why, "not used: no heartbeat stands behind its entry in zk, and its check has not passed so far: ") {
				t.Errorf("want the reason, found %q", v.Why)
			}
			d.set(d.mute, false, "x")
			after(2 * time.Second)
			b.wantPicked("x has passed", "x")
			d.set(d.ill, true, "x")
			after(3 * time.Second)
			if v := b.instance("x"); v.State != StateDown || !v.Panic || v.Used || !strings.HasSuffix(v.Why, "; but it is called all the same, for only 0 of 1 are up") {
				t.Errorf("want x down and called in a panic, found %+v", v)
			}
			// Once its registry vouches for it, it is not checked any more where the check was for want of that.
			b.update("zk", up("x"), up("y"))
			if v := b.instance("x"); implied == (v.Health != nil) {
				t.Errorf("want it checked: %v, found %+v", !implied, v)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{}, nil, "zk")
		defer b.end()
		b.update("zk", with(up("x"), func(ep *registry.Endpoint) { ep.Unverified = true }))
		if v := b.instance("x"); v.Used || v.Why != "not used: no heartbeat stands behind its entry in zk, and there is no check that could stand in for one" {
			t.Errorf("want the reason, found %q", v.Why)
		}
	})
}

func TestBeats(t *testing.T) {
	const interval = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		r := newScript()
		b := start(t, Config{Sources: []Source{{Name: "zk", Resolver: r, Beats: interval}}, Balancer: neverPanic}, nil)
		defer b.end()
		b.sources["zk"] = r
		<-r.ready
		b.update("zk", many("i", 3)...) // i2 never beats
		beat := func(ids ...string) {
			for _, id := range ids {
				r.sink.Beat(id, registry.Beat{At: time.Now(), Load: 0.25})
			}
		}
		share := func() [3]float64 {
			var out [3]float64
			for i, v := range b.Inspect().Instances {
				if v.Used {
					out[i] = v.Effective
				}
			}
			return out
		}
		want := func(what string, shares [3]float64) {
			t.Helper()
			if found := share(); found != shares {
				t.Errorf("%s: want %v, found %v: %s", what, shares, found, b.reasons())
			}
		}
		beat("i0", "i1", "unknown")
		settled()
		if l := b.node("i0").Load(); l != 0.25 {
			t.Errorf("want the load taken over, found %v", l)
		}
		if v := b.instance("i2"); v.Beat >= 0 || v.Load >= 0 {
			t.Errorf("i2: want no beat and no load, found %+v", v)
		}
		for range 3 { // only i0 goes on beating
			after(interval - time.Second)
			want("not overdue", [3]float64{100, 100, 100})
			after(time.Second)
			beat("i0")
		}
		settled()
		want("overdue by 3", [3]float64{100, 50, 100})
		if p := b.picked(250); p["i1"] < 45 || p["i1"] > 60 { // the load of i0 counts too
			t.Errorf("want a fifth of the calls, found %v", p)
		}
		if v := b.instance("i1"); v.Why != "used at half its weight: its last beat in zk was 30s ago, 3 intervals" || v.Load >= 0 {
			t.Errorf("want the reason and the load forgotten, found %+v", v)
		}
		for range 3 {
			after(interval)
			beat("i0")
		}
		settled()
		want("overdue by 6", [3]float64{100, 0, 100})
		if v := b.instance("i1"); v.State != StateSilent || v.Why != "not used: its last beat in zk was 1m0s ago, 6 intervals" {
			t.Errorf("want the reason, found %q", v.Why)
		}
		beat("i1")
		after(second)
		want("it beats again", [3]float64{100, 100, 100})
		// While the registry is lost no beat can be seen, and none is overdue, nor at once when it is back.
		b.fail("zk")
		after(20 * interval)
		want("stale", [3]float64{100, 100, 100})
		b.update("zk", many("i", 3)...)
		want("fresh again", [3]float64{100, 100, 100})
		after(3*interval + second)
		want("overdue since then", [3]float64{50, 50, 100})
	})
}

func TestSlowStart(t *testing.T) {
	const window = 20 * time.Second
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{SlowStart: window}, nil, "zk")
		defer b.end()
		b.update("zk", up("x"), up("y"))
		if v := b.instance("x"); v.Effective != 100 {
			t.Errorf("want the first with their full share, found %+v", v)
		}
		after(time.Minute)
		b.update("zk", up("x"), up("y"), up("z"))
		if v := b.instance("z"); v.Effective != 10 || v.Why != "used at 10 % of its weight: it came up 0s ago and takes its full share after 20s" {
			t.Errorf("want a tenth, found %+v", v)
		}
		if p := b.picked(210); p["z"] != 10 {
			t.Errorf("want a tenth of a share, found %v", p)
		}
		after(window / 2)
		if v := b.instance("z"); v.Effective < 45 || v.Effective > 55 {
			t.Errorf("want about half, found %+v", v)
		}
		if p := b.picked(2500); p["z"] < 450 || p["z"] > 550 {
			t.Errorf("want about half a share, found %v", p)
		}
		after(window/2 + second)
		if v := b.instance("z"); v.Effective != 100 || v.Why != "used" {
			t.Errorf("want all of it, found %+v", v)
		}
		before := b.Stats().Pickers
		after(time.Minute)
		if n := b.Stats().Pickers; n != before {
			t.Errorf("want nothing done any more, found %d pickers", n-before)
		}
		// One that drains and comes back starts slowly again.
		b.update("zk", up("x"), up("y"), said("z", registry.Draining))
		b.update("zk", up("x"), up("y"), up("z"))
		if v := b.instance("z"); v.Effective != 10 {
			t.Errorf("want a tenth again, found %+v", v)
		}
	})
}

func TestSlowStartOfInstancesThatWereDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d, end := checked(t, Config{SlowStart: time.Minute}, false)
		defer end()
		d.set(d.ill, true, "x", "y")
		b.update("zk", up("x"), up("y"), up("z"))
		after(time.Second)
		d.set(d.ill, false, "x")
		after(2 * time.Second)
		if v := b.instance("x"); v.Effective != 100 {
			t.Errorf("want the full share of one that comes up with the others, found %+v", v)
		}
		after(time.Minute)
		d.set(d.ill, false, "y")
		after(2 * time.Second)
		if v := b.instance("y"); v.Effective > 15 {
			t.Errorf("want a slow start of one that was down for a minute, found %+v", v)
		}
	})
}

func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{Outliers: &outlier.Config{}}, nil, "zk")
		defer b.end()
		b.update("zk", many("i", 4)...)
		b.Report(b.node("i0"), refused(), time.Millisecond)
		b.wantPicked("one refused connection, before anybody has looked", "i1", "i2", "i3")
		settled()
		b.wantPicked("one refused connection", "i1", "i2", "i3")
		for range 5 {
			b.Report(b.node("i1"), brokenOff(), time.Millisecond)
		}
		settled()
		b.wantPicked("five failures", "i2", "i3")
		if v := b.instance("i1"); v.State != StateEjected || v.Ejection == nil || !strings.HasPrefix(v.Why, "not used for another 5s: ejected 0s ago for consecutive failures (5 ") || !strings.HasSuffix(v.Why, "), time 1") {
			t.Errorf("want the reason, found %+v", v)
		}
		if b.log.count("instance ejected", "address=i1", "reason=consecutive_failures") != 1 {
			t.Error("want it in the log")
		}
		s := b.Stats()
		if s.Ejections[outlier.ReasonUnreached] != 1 || s.Ejections[outlier.ReasonConsecutive] != 1 || s.Instances[StateEjected] != 2 {
			t.Errorf("want them counted, found %+v", s)
		}
		after(time.Second)
		b.wantPicked("a second later", "i0", "i2", "i3")
		after(4 * time.Second)
		b.wantPicked("five seconds later", "i0", "i1", "i2", "i3")
		// Of those that take calls at all, one is always left.
		b.update("zk", up("i0"), said("i1", registry.Draining), said("i2", registry.Draining), said("i3", registry.Draining))
		b.Report(b.node("i0"), refused(), time.Millisecond)
		settled()
		b.wantPicked("the last one", "i0")
	})
}

// Where nobody was reached, a connection is tried until there is one, whatever the service's own checks: neither do calls find
// out in vain, nor does the instance stay out for longer than it is away.
func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoctor()
		pool := health.NewPool((&journal{}).logger())
		defer pool.Close()
		b := start(t, Config{Pool: pool, Implied: d.check("tcp"), Outliers: &outlier.Config{}}, nil, "zk")
		defer b.end()
		b.update("zk", many("i", 3)...)
		d.set(d.ill, true, "i0")
		b.Report(b.node("i0"), refused(), time.Millisecond)
		after(time.Minute)
		b.wantPicked("a minute later", "i1", "i2")
		if n := d.count("i0"); n < 58 || n > 62 || d.count("i1") != 0 {
			t.Errorf("want it tried once a second, and nobody else, found %d and %d", n, d.count("i1"))
		}
		b.Report(b.node("i1"), refused(), time.Millisecond)
		d.set(d.ill, true, "i1")
		after(5 * time.Second)
		b.wantPicked("one of three is left, and no panic brings the others back", "i2")
		d.set(d.ill, false, "i0", "i1")
		after(2 * time.Second)
		b.wantPicked("they are there again", "i0", "i1", "i2")
		before := d.count("i0")
		after(10 * time.Second)
		if n := d.count("i0"); n != before {
			t.Errorf("want it left alone from then on, found %d more probes", n-before)
		}
	})
}

func TestEjectionEndsWithACheckThatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d, end := checked(t, Config{Outliers: &outlier.Config{Base: time.Minute}}, false)
		defer end()
		b.update("zk", many("i", 4)...)
		after(time.Second)
		d.set(d.ill, true, "i0")
		for range 5 {
			b.Report(b.node("i0"), brokenOff(), time.Millisecond)
		}
		after(5 * time.Second)
		b.wantPicked("its check fails too", "i1", "i2", "i3")
		d.set(d.ill, false, "i0")
		after(3 * time.Second)
		b.wantPicked("its check passes", "i0", "i1", "i2", "i3")
		if b.log.count("takes calls again after its ejection", "because="+outlier.ByCheck) != 1 {
			t.Error("want the reason in the log")
		}
	})
}

func TestEjectionsOutlastTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{Outliers: &outlier.Config{Base: 2 * time.Minute}}, nil, "zk")
		defer b.end()
		b.update("zk", many("i", 4)...)
		b.fail("zk")
		for range 5 {
			b.Report(b.node("i0"), brokenOff(), time.Millisecond)
		}
		settled()
		b.wantPicked("ejected in an outage", "i1", "i2", "i3")
		after(30 * time.Second)
		b.update("zk", many("i", 4)...)
		b.wantPicked("listed again after it", "i1", "i2", "i3")
		after(guardWindow + time.Second)
		b.update("zk", many("i", 4)[1:]...)
		after(30 * time.Second)
		b.update("zk", many("i", 4)...)
		b.wantPicked("gone for a while", "i1", "i2", "i3")
		if n := len(b.net.of("i0")); n != 2 {
			t.Errorf("want it dialled again, found %d transports", n)
		}
		after(2 * time.Minute)
		b.wantPicked("in the end", "i0", "i1", "i2", "i3")
	})
}

func TestRecordsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{Outliers: &outlier.Config{}}, nil, "zk")
		defer b.end()
		b.update("zk", many("i", 4)...)
		b.update("zk", many("i", 3)...)
		held := func() int {
			b.records.mu.Lock()
			defer b.records.mu.Unlock()
			return len(b.records.tracked)
		}
		after(recordsKept - time.Second)
		if n := held(); n != 4 {
			t.Errorf("want four records, found %d", n)
		}
		after(2 * time.Second)
		if n := held(); n != 3 {
			t.Errorf("want three records after a while, found %d", n)
		}
		b.update("zk", many("i", 2)...)
		b.update("zk", many("i", 3)...)
		after(2 * recordsKept)
		if n := held(); n != 3 {
			t.Errorf("want the records of those that are there kept, found %d", n)
		}
	})
}

func TestPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoctor()
		pool := health.NewPool((&journal{}).logger())
		defer pool.Close()
		b := start(t, Config{
			Pool: pool, Health: d.check("grpc"), Balancer: neverPanic,
			Priority: func(ep registry.Endpoint) uint32 {
				if ep.Meta["region"] == "south" {
					return 1
				}
				return 0
			},
		}, nil, "zk")
		defer b.end()
		south := func(ep *registry.Endpoint) { ep.Meta = map[string]string{"region": "south"} }
		b.update("zk", up("n0"), up("n1"), with(up("s0"), south))
		b.wantPicked("the first group", "n0", "n1")
		d.set(d.ill, true, "n0", "n1")
		after(3 * time.Second)
		b.wantPicked("it is down", "s0")
		if v := b.instance("s0"); v.Priority != 1 || v.Region != "south" {
			t.Errorf("want it shown, found %+v", v)
		}
	})
}

func TestFailuresOfAPredecessorAreForgiven(t *testing.T) {
	for name, away := range map[string]func(b *bench){
		"draining": func(b *bench) { b.update("zk", said("i0", registry.Draining), up("i1"), up("i2")) },
		"gone":     func(b *bench) { b.update("zk", up("i1"), up("i2")) },
	} {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, Config{Outliers: &outlier.Config{}}, nil, "zk")
			defer b.end()
			b.update("zk", many("i", 3)...)
			node := b.node("i0")
			away(b)
			for range 10 {
				b.Report(node, refused(), time.Millisecond)
			}
			after(time.Minute)
			b.update("zk", many("i", 3)...)
			b.wantPicked(name, "i0", "i1", "i2")
			b.Report(b.node("i1"), nil, time.Millisecond)
			after(3 * time.Second / 2) // the next look, and not yet the end of what it might find
			b.wantPicked(name, "i0", "i1", "i2")
		})
	}
}

func TestUnreachableInstancesAreNotCalledInAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{Outliers: &outlier.Config{Most: 1}, Balancer: balancer.Config{Panic: 1}}, nil, "zk")
		defer b.end()
		b.update("zk", many("i", 4)...)
		b.Report(b.node("i0"), refused(), time.Millisecond)
		for range 5 {
			b.Report(b.node("i1"), brokenOff(), time.Millisecond)
		}
		settled()
		b.wantPicked("those that can be reached", "i1", "i2", "i3")
	})
}

// Who is called in a panic is told of the subset that is in one, and not of others at the same priority.
func TestPanicIsThatOfTheSubset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoctor()
		pool := health.NewPool((&journal{}).logger())
		defer pool.Close()
		b := start(t, Config{Pool: pool, Health: d.check("grpc"), Balancer: balancer.Config{Subsets: []balancer.Subset{
			{Name: "a", Match: map[string]string{"v": "a"}, Weight: 1}, {Name: "b", Match: map[string]string{"v": "b"}, Weight: 1},
		}}}, nil, "zk")
		defer b.end()
		in := func(subset string) func(*registry.Endpoint) {
			return func(ep *registry.Endpoint) { ep.Meta = map[string]string{"v": subset} }
		}
		d.set(d.ill, true, "a2", "b0")
		b.update("zk", with(up("a0"), in("a")), with(up("a1"), in("a")), with(up("a2"), in("a")), with(up("b0"), in("b")))
		after(3 * time.Second)
		if v := b.instance("a2"); v.Used || v.Panic || strings.Contains(v.Why, "all the same") {
			t.Errorf("want a2 down, and not called, found %+v", v)
		}
		if v := b.instance("b0"); v.Used || !v.Panic {
			t.Errorf("want b0 called in a panic of its subset, found %+v", v)
		}
	})
}
