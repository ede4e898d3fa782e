package upstream

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/registry"
)

func TestNodesStayComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{}, nil, "zk")
		b.panics = true
		if _, err := b.Pick(anyNode); !errors.Is(err, balancer.ErrNoNode) {
			t.Fatalf("before the first set: want ErrNoNode, found %v", err)
		}
		b.update("zk", up("x"), up("y"))
		<-b.Ready()
		x := b.node("x")
		if !x.Start() {
			t.Fatal("want a node that takes calls")
		}
		b.update("zk", up("y"), up("z"), up("bad"), up("panic"))
		if n := len(b.Nodes()); n != 2 {
			t.Errorf("want y and z, found %d nodes", n)
		}
		if n := len(b.net.of("y")); n != 1 {
			t.Errorf("want y dialled once, found %d times", n)
		}
		if b.net.of("x")[0].closed.Load() != 0 {
			t.Error("x: want it open while a call holds it")
		}
		if x.Start() {
			t.Error("x: want no new calls")
		}
		if x.Done(); b.net.of("x")[0].closed.Load() != 1 {
			t.Error("x: want it closed with its last call")
		}
		for address, why := range map[string]string{"bad": "left out: want host:port, found bad", "panic": "left out: dialling it panicked: "} {
			if v := b.instance(address); !strings.HasPrefix(v.Why, why) || v.State != StateLeftOut || v.Used {
				t.Errorf("%s: want it %q, found %+v", address, why, v)
			}
		}
		if got := b.String(); got != "orders (2 instances)" {
			t.Errorf("want the service named with its instances, found %q", got)
		}
		b.fail("zk")
		if n := len(b.Nodes()); n != 2 {
			t.Errorf("after a failure: want the last set in force, found %d nodes", n)
		}
		b.end()
		b.Close()
		b.sources["zk"].sink.Update(registry.Set{Endpoints: []registry.Endpoint{up("late")}})
		settled()
		if len(b.net.of("late")) != 0 {
			t.Error("want nothing dialled after the end")
		}
	})
}

func TestWhatIsLeftOutIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{}, nil, "zk")
		defer b.end()
		b.update("zk", up("bad"), up("x"))
		b.update("zk", up("bad"), up("x"), up("y"))
		b.update("zk", up("bad"), up("y"))
		if n := b.log.count("instance left out", "address=bad"); n != 1 {
			t.Errorf("want one line of it, found %d", n)
		}
		b.update("zk", append(many("bad", 50), up("x"))...)
		if n := b.log.count("instance left out"); n != 1+mostTold {
			t.Errorf("want %d lines of fifty at once, found %d", mostTold, n-1)
		}
	})
}

func TestChangesAreTakenOverOnTheSameTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{Balancer: balancer.Config{Subsets: []balancer.Subset{{Name: "v2", Match: map[string]string{"version": "2"}}}}}, nil, "zk")
		defer b.end()
		x := up("x")
		b.update("zk", x, up("y"))
		node := b.node("x")
		for _, step := range []struct {
			what   string
			change func(*registry.Endpoint)
			check  func() bool
		}{
			{"weight", func(ep *registry.Endpoint) { ep.Weight = 300 }, func() bool { p := b.picked(400); return p["x"] == 300 && p["y"] == 100 }},
			{"weight 0", func(ep *registry.Endpoint) { ep.Weight = 0 }, func() bool { return b.picked(100)["x"] == 0 }},
			{"draining", func(ep *registry.Endpoint) { ep.Status = registry.Draining }, func() bool { return b.picked(100)["x"] == 0 }},
			{"up again", func(ep *registry.Endpoint) { ep.Status, ep.Weight = registry.Up, 100 }, func() bool { return b.picked(100)["x"] == 50 }},
			{"zone", func(ep *registry.Endpoint) { ep.Zone = "a" }, func() bool { return b.instance("x").Zone == "a" }},
			{"metadata", func(ep *registry.Endpoint) { ep.Meta = map[string]string{"version": "2"} }, func() bool {
				n, err := b.Pick(balancer.Info{Subset: 0})
				return err == nil && n.Address == "x"
			}},
			{"a new ID", func(ep *registry.Endpoint) { ep.ID = "slot-9" }, func() bool { return b.node("x").Endpoint().ID == "slot-9" }},
		} {
			step.change(&x)
			b.update("zk", x, up("y"))
			if !step.check() {
				t.Errorf("%s: not in force; found %v, %s", step.what, b.picked(100), b.reasons())
			}
			if b.node("x") != node || len(b.net.of("x")) != 1 {
				t.Errorf("%s: want the same node on the same transport, found %d transports", step.what, len(b.net.of("x")))
			}
		}
		for _, change := range []func(*registry.Endpoint){
			func(ep *registry.Endpoint) { ep.TLS = true },
			func(ep *registry.Endpoint) { ep.Protocol = "grpc" },
		} {
			before := b.node("x")
			change(&x)
			b.update("zk", x, up("y"))
			if b.node("x") == before || before.Start() {
				t.Error("protocol or TLS: want another node, and the old one drained")
			}
			b.wantPicked("after a change of protocol or TLS", "x", "y")
		}
		if n := len(b.net.of("x")); n != 3 {
			t.Errorf("want three transports, found %d", n)
		}
	})
}

func TestProtocolsThatTheServiceDoesNotSpeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newScript()
		b := start(t, Config{Sources: []Source{{Name: "zk", Resolver: r, Protocols: []string{"grpc", "grpcs"}}}}, nil)
		defer b.end()
		b.sources["zk"] = r
		<-r.ready
		b.update("zk", up("x"), with(up("y"), func(ep *registry.Endpoint) { ep.Protocol = "dubbo" }), with(up("z"), func(ep *registry.Endpoint) { ep.Protocol = "grpcs" }))
		b.wantPicked("by protocol", "x", "z")
		want := `left out: it speaks "dubbo"; the service takes grpc, grpcs`
		if v := b.instance("y"); v.Why != want {
			t.Errorf("want %q, found %q", want, v.Why)
		}
		if n := b.Stats().LeftOut; n != 1 {
			t.Errorf("want one left out, found %d", n)
		}
	})
}

func TestResolverThatEndsIsStartedAgain(t *testing.T) {
	for name, fail := range map[string]func(run int32) error{
		"error": func(run int32) error {
			if run < 4 {
				return errors.New("no such registry")
			}
			return nil
		},
		"panic": func(run int32) error {
			if run < 4 {
				panic("a bug in a resolver")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newScript()
				r.fail = fail
				begun := time.Now()
				b := start(t, Config{Sources: []Source{{Name: "zk", Resolver: r}}}, nil)
				defer b.end()
				b.sources["zk"] = r
				settled()
				if v := b.Inspect().Sources[0]; v.Err == "" || v.Known {
					t.Errorf("want the source stale with a reason, found %+v", v)
				}
				<-r.ready
				if took := time.Since(begun); took != 7*time.Second {
					t.Errorf("want it started again after 1, 2 and 4 s, found it well after %v", took)
				}
				b.update("zk", up("x"))
				b.wantPicked("after the resolver came back", "x")
				if v := b.Inspect().Sources[0]; v.Err != "" || v.Stale != 0 {
					t.Errorf("want the source fresh, found %+v", v)
				}
			})
		})
	}
}

func TestReadyWhenTheSourcesHaveAnswered(t *testing.T) {
	ready := func(b *bench) bool {
		select {
		case <-b.Ready():
			return true
		default:
			return false
		}
	}
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{}, nil, "one", "two")
		defer b.end()
		b.update("one", up("x"))
		if ready(b) {
			t.Error("want a moment for the second source, found it ready")
		}
		b.wantPicked("one source", "x")
		b.update("two")
		if !ready(b) {
			t.Error("want it ready once both have answered")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{}, nil, "one", "two")
		defer b.end()
		b.update("one", up("x"))
		after(silence)
		if !ready(b) {
			t.Error("want it ready without the second source")
		}
		if v := b.Inspect().Sources[1]; v.Known || v.Err == "" {
			t.Errorf("want the second source unknown, and said so, found %+v", v)
		}
	})
}

func TestStaticInstancesAreThereAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{Sources: []Source{{Name: "endpoints", Resolver: fixed{up("x"), up("y")}, Static: true}}}, nil)
		defer b.end()
		if n := len(b.Nodes()); n != 2 {
			t.Fatalf("want both when New returns, found %d", n)
		}
		<-b.Ready()
		b.wantPicked("static", "x", "y")
	})
}

func TestResolverThatDoesNotEndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &loose{release: make(chan struct{})}
		b := start(t, Config{Sources: []Source{{Name: "zk", Resolver: r}}}, nil)
		synctest.Wait()
		begun := time.Now()
		b.end()
		if took := time.Since(begun); took != patience {
			t.Errorf("want Close after %v, found %v", patience, took)
		}
		if b.log.count("a resolver does not end") != 1 {
			t.Error("want it told")
		}
		close(r.release)
		synctest.Wait()
	})
}
