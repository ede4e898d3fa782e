package upstream

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/registry"
)

// guarded makes a service with one guarded source and an implied check.
func guarded(t *testing.T) (*bench, *doctor, func()) {
	t.Helper()
	d := newDoctor()
	pool := health.NewPool((&journal{}).logger())
	b := start(t, Config{Pool: pool, Implied: d.check("tcp")}, nil, "zk")
	return b, d, func() {
		b.end()
		pool.Close()
	}
}

// A service that somebody has withdrawn has no suspects, nor keeps those that it had.
func TestWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, end := guarded(t)
		defer end()
		b.update("zk", many("i", 4)...)
		b.update("zk")
		after(time.Second)
		b.wantPicked("suspects", "i0", "i1", "i2", "i3")
		b.sources["zk"].sink.Update(registry.Set{Service: "orders", Revision: 2, Withdrawn: true})
		settled()
		if n := len(b.Nodes()); n != 0 {
			t.Errorf("want nobody left, found %d", n)
		}
		b.update("zk", many("i", 4)...)
		b.sources["zk"].sink.Update(registry.Set{Service: "orders", Revision: 4, Withdrawn: true})
		settled()
		if n, g := len(b.Nodes()), b.Stats().Guarded; n != 0 || g != 1 {
			t.Errorf("want nobody left and no alert, found %d and %d alerts", n, g)
		}
	})
}

// A source that is asked elsewhere, or read in another way, keeps what is known until there is an answer with somebody in it; nobody
// of before is missed then.
func TestChangedOriginIsMeant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoctor()
		pool := health.NewPool((&journal{}).logger())
		defer pool.Close()
		from := func(origin string) (Config, *script) {
			r := newScript()
			return Config{Pool: pool, Implied: d.check("tcp"), Sources: []Source{{Name: "zk", Key: "orders", Resolver: r, Guard: true, Origin: origin}}}, r
		}
		cfg, r := from("here")
		old := start(t, cfg, nil)
		<-r.ready
		old.sources["zk"] = r
		old.update("zk", many("old", 4)...)

		cfg, r = from("there")
		next := start(t, cfg, old.Service)
		<-r.ready
		next.sources["zk"] = r
		old.end()
		next.wantPicked("until there is an answer", "old0", "old1", "old2", "old3")
		next.update("zk")
		after(3 * time.Second)
		next.wantPicked("nobody at all is doubted", "old0", "old1", "old2", "old3")
		next.update("zk", many("new", 2)...)
		next.wantPicked("somebody is meant", "new0", "new1")
		if v := next.Inspect(); len(v.Instances) != 2 || v.Sources[0].Suspects != 0 {
			t.Errorf("want nobody else, found %+v", v.Instances)
		}
		next.update("zk", many("new", 2)[0])
		next.update("zk")
		after(3 * time.Second)
		next.wantPicked("from then on as ever: most are missed", "new0", "new1")

		cfg, r = from("there")
		same := start(t, cfg, next.Service)
		<-r.ready
		same.sources["zk"] = r
		next.end()
		same.update("zk", many("third", 1)...)
		after(3 * time.Second)
		same.wantPicked("the same origin forgets no suspects", "new0", "new1", "third0")
		same.end()
	})
}

func TestMassRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d, end := guarded(t)
		defer end()
		all := many("i", 10)
		b.update("zk", all...)
		if n := d.count("i0"); n != 0 {
			t.Errorf("want nobody checked whom a registry vouches for, found %d probes", n)
		}
		b.update("zk", all[5:]...) // half of them: believed
		if n, g := len(b.Nodes()), b.Stats().Guarded; n != 5 || g != 0 {
			t.Fatalf("want half of them gone, found %d left and %d alarms", n, g)
		}
		after(guardWindow + time.Second)
		d.set(d.ill, true, "i5")
		b.update("zk", all[8:]...) // three of five: not believed
		after(time.Second)
		b.wantPicked("three of five", "i6", "i7", "i8", "i9")
		if b.log.count("level=ERROR", "most instances of a service have vanished at once", "vanished=3", "left=2") != 1 {
			t.Error("want an alert")
		}
		if v := b.instance("i5"); v.State != StateLost || !strings.HasPrefix(v.Why, "not used: zk lost it with most of the others 1s ago, and its check does not pass: it failed ") {
			t.Errorf("want the reason, found %+v", v)
		}
		if v := b.instance("i6"); v.State != StateSuspect || !v.Used || !strings.HasPrefix(v.Why, "used as a suspect: zk lost it with most of the others 1s ago; its check passed ") || !strings.HasSuffix(v.Why, " ago; it is let go in 59s") {
			t.Errorf("want the reason, found %+v", v)
		}
		s := b.Stats()
		if s.Guarded != 1 || s.Instances[StateSuspect] != 2 || s.Instances[StateLost] != 1 || s.Instances[StateUp] != 2 {
			t.Errorf("want one alarm, two suspects and one lost, found %+v", s)
		}
		// It comes to life, and dies.
		d.set(d.ill, false, "i5")
		d.set(d.ill, true, "i6")
		after(3 * time.Second)
		b.wantPicked("their checks decide", "i5", "i7", "i8", "i9")
		// A second removal while suspects are there.
		b.update("zk")
		b.wantPicked("an empty list", "i5", "i7", "i8", "i9")
		// One comes back, on its transport.
		b.update("zk", all[5])
		if v := b.instance("i5"); v.Why != "used" || len(b.net.of("i5")) != 1 {
			t.Errorf("want i5 back as it was, found %q and %d transports", v.Why, len(b.net.of("i5")))
		}
		after(suspectTime - 3*time.Second) // since the first removal
		b.wantPicked("the first have had their time", "i5", "i8", "i9")
		after(4 * time.Second)
		b.wantPicked("all have", "i5")
		if n := len(b.Nodes()); n != 1 {
			t.Errorf("want one node, found %d", n)
		}
		before := d.count("i5")
		after(5 * time.Second)
		if n := d.count("i5"); n > before {
			t.Errorf("want nobody checked any more, found %d probes", n-before)
		}
	})
}

func TestAnnouncedLeavesAreNoMassRemoval(t *testing.T) {
	for name, steps := range map[string][][]registry.Endpoint{
		"draining, then gone": {
			many("i", 4),
			{said("i0", registry.Draining), said("i1", registry.Draining), said("i2", registry.Draining), up("i3")},
			{up("i3")},
		},
		"weight 0, then gone": {
			many("i", 4),
			{with(up("i0"), func(ep *registry.Endpoint) { ep.Weight = 0 }), with(up("i1"), func(ep *registry.Endpoint) { ep.Weight = 0 }), said("i2", registry.Down), up("i3")},
			{up("i3")},
		},
		"all draining": {
			many("i", 2),
			{said("i0", registry.Draining), said("i1", registry.Draining)},
			{},
		},
		"as many come as go": {
			many("i", 4),
			many("j", 4),
		},
		"the same slots at other addresses": {
			{{ID: "a", Address: "x1", Weight: 1}, {ID: "b", Address: "x2", Weight: 1}},
			{{ID: "a", Address: "y1", Weight: 1}},
		},
		"starting, never up": {
			{said("i0", registry.Starting), said("i1", registry.Starting)},
			{},
		},
	} {
		for _, together := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b, _, end := guarded(t)
				defer end()
				b.update("zk", steps[0]...)
				for _, s := range steps[1:] {
					b.send("zk", s...)
					if !together {
						settled()
					}
				}
				settled()
				want := addresses(steps[len(steps)-1])
				var found []string
				for _, n := range b.Nodes() {
					found = append(found, n.Address)
				}
				if !slices.Equal(found, want) || b.Stats().Guarded != 0 {
					t.Errorf("%s (seen together: %v): want %v, found %v and %d alarms", name, together, want, found, b.Stats().Guarded)
				}
			})
		}
	}
}

func TestMassRemovalBitByBit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d, end := guarded(t)
		defer end()
		all := many("i", 6)
		d.set(d.mute, true, "i0")
		d.set(d.ill, true, "i1")
		b.update("zk", all...)
		for n := 1; n <= 4; n++ { // one every other second: the fourth is one too many
			after(2 * time.Second)
			b.update("zk", all[n:]...)
		}
		if n, suspects := b.Stats().Guarded, b.Inspect().Sources[0].Suspects; n != 1 || suspects != 4 {
			t.Fatalf("want an alarm and four suspects, found %d and %d", n, suspects)
		}
		// Those whose nodes were let go already come back only with a check that passes.
		b.wantPicked("the dead are not called", "i2", "i3", "i4", "i5")
		after(2 * time.Second)
		b.wantPicked("the dead are not called", "i2", "i3", "i4", "i5")
		if n := len(b.net.of("i2")); n != 2 {
			t.Errorf("want i2 dialled again, found %d transports", n)
		}
		if n := len(b.net.of("i3")); n != 1 {
			t.Errorf("want i3 kept, found %d transports", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b, _, end := guarded(t)
		defer end()
		all := many("i", 6)
		b.update("zk", all...)
		for n := 1; n <= 6; n++ { // slowly: that is how people stop a service
			after(guardWindow)
			b.update("zk", all[n:]...)
			if n < 3 && b.Stats().Guarded != 0 {
				t.Errorf("want no alarm after %d, found one", n)
			}
		}
	})
}

func TestMassRemovalOfASingleInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d, end := guarded(t)
		defer end()
		b.update("zk", up("x"))
		b.update("zk")
		b.wantPicked("its only instance has vanished", "x")
		d.set(d.ill, true, "x")
		after(3 * time.Second)
		b.wantPicked("and is dead")
		after(suspectTime)
		if n := len(b.Nodes()); n != 0 {
			t.Errorf("want it let go, found %d nodes", n)
		}
	})
}

func TestMassRemovalUnguarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newScript()
		b := start(t, Config{Sources: []Source{{Name: "zk", Resolver: r}}}, nil)
		defer b.end()
		b.sources["zk"] = r
		<-r.ready
		b.update("zk", many("i", 4)...)
		b.update("zk")
		if n := len(b.Nodes()); n != 0 {
			t.Errorf("want the list believed, found %d nodes", n)
		}
	})
}

func TestSuspectsOutlastAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, end := guarded(t)
		defer end()
		b.update("zk", many("i", 4)...)
		b.update("zk")
		after(suspectTime / 2)
		b.fail("zk")
		after(2 * suspectTime)
		b.wantPicked("while the registry cannot be asked", "i0", "i1", "i2", "i3")
		b.update("zk", up("i0"))
		after(suspectTime - time.Second)
		b.wantPicked("their time begins again", "i0", "i1", "i2", "i3")
		after(2 * time.Second)
		b.wantPicked("and ends", "i0")
	})
}

func TestDeadServiceIsToldFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d, end := guarded(t)
		defer end()
		all := many("i", 2000)
		for _, ep := range all {
			d.set(d.ill, true, ep.Address)
		}
		b.update("zk", all...)
		b.update("zk")
		after(3 * time.Second)
		if n, err := b.Pick(anyNode); err == nil {
			t.Errorf("want no node when all checks fail, found %s: %s", n.Address, b.instance(n.Address).Why)
		}
		if n := b.Stats().Instances[StateLost]; n != 2000 {
			t.Errorf("want all lost, found %d", n)
		}
	})
}

func TestDelistingOfTheDeadIsBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d, end := checked(t, Config{}, false)
		defer end()
		b.sources["zk"].sink.Update(registry.Set{Endpoints: many("i", 6)})
		d.set(d.ill, true, "i0", "i1", "i2", "i3")
		after(3 * time.Second)
		b.update("zk", many("i", 6)[4:]...)
		if n, g := len(b.Nodes()), b.Stats().Guarded; n != 2 || g != 0 {
			t.Errorf("want two left and no alarm, found %d and %d", n, g)
		}
	})
}

func TestSuspectThatComesBackMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, end := guarded(t)
		defer end()
		b.update("zk", up("x"), up("y"))
		b.update("zk")
		b.update("zk", up("x"), up("y"))
		b.update("zk", said("x", registry.Draining), up("y"))
		b.update("zk", up("y"))
		b.wantPicked("x has said goodbye", "y")
		if n := len(b.Nodes()); n != 1 {
			t.Errorf("want one node, found %d", n)
		}
	})
}

func TestRegistryThatComesBackWithoutAFew(t *testing.T) {
	for _, whole := range []bool{true, false} { // an outage may be over before anybody has looked
		synctest.Test(t, func(t *testing.T) {
			b, d, end := guarded(t)
			defer end()
			all := many("i", 6)
			b.update("zk", all...)
			b.sources["zk"].sink.Fail(errors.New("session lost"))
			if whole {
				settled()
			}
			d.set(d.ill, true, "i5")
			b.update("zk", all[:4]...)
			after(2 * time.Second)
			b.wantPicked("two have not registered again so far, one is dead", "i0", "i1", "i2", "i3", "i4")
			if b.Stats().Guarded != 0 || b.log.count("level=WARN", "are not listed any more after an outage", "vanished=2", "left=4") != 1 {
				t.Error("want it told without an alarm")
			}
			if v := b.instance("i4"); !strings.HasPrefix(v.Why, "used as a suspect: zk has come back from an outage without it 2s ago; its check passed ") {
				t.Errorf("want the reason, found %q", v.Why)
			}
			b.update("zk", all[:5]...)
			if v := b.instance("i4"); v.Why != "used" {
				t.Errorf("want i4 as it was, found %q", v.Why)
			}
			after(guardWindow)
			b.update("zk", all[:3]...)
			b.wantPicked("long after the outage its word counts", "i0", "i1", "i2")
		})
	}
}
