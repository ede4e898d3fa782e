package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-gateway/causeway/proxy/breaker"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/registry"
)

func TestStormOfUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{}, nil, "zk")
		defer b.end()
		all := many("i", 50)
		b.update("zk", all...)
		before := b.Stats().Pickers
		const changes = 2000
		for n := range changes { // 1,000 a second
			all[n%50].Weight = uint32(1 + n)
			b.send("zk", all...)
			time.Sleep(time.Millisecond)
		}
		after(settle)
		if v := b.instance("i49"); v.Weight != changes {
			t.Errorf("want the last change in force one picker later, found the weight %d", v.Weight)
		}
		if n := b.Stats().Pickers - before; n > 110 || n < 50 {
			t.Errorf("want about 100 pickers in 2 s, found %d", n)
		}
	})
}

func TestPanicsLeaveTheLastPicker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		b := start(t, Config{Priority: func(registry.Endpoint) uint32 {
			if broken.Load() {
				panic("a bug")
			}
			return 0
		}}, nil, "zk")
		b.panics = true
		b.update("zk", up("x"), up("y"))
		broken.Store(true)
		b.update("zk", up("y"), up("z"))
		b.wantPicked("while nothing works", "x", "y")
		if b.log.count("panic while the instances of a service were looked at") == 0 || b.Stats().Panics == 0 {
			t.Error("want it told and counted")
		}
		broken.Store(false)
		after(2 * time.Second)
		b.wantPicked("it works again, by itself", "y", "z")
		if n := b.net.of("x")[0].closed.Load(); n != 1 {
			t.Errorf("want x closed once, found %d", n)
		}
		b.end()
	})
}

// TestCloseWhileEverythingHappens runs in real time, for the race detector.
func TestCloseWhileEverythingHappens(t *testing.T) {
	for round := range 3 {
		d, net := newDoctor(), newNetwork()
		pool := health.NewPool((&journal{}).logger())
		all := many("i", 20)
		var former *Service
		var callers, services sync.WaitGroup
		stop := make(chan struct{})
		var current atomic.Pointer[Service]
		cfg := Config{
			Name: "orders", Log: (&journal{}).logger(), Dial: net.dial, Pool: pool, Health: d.check("grpc"), SlowStart: time.Second,
			Outliers: &outlier.Config{}, Breaker: &breaker.Config{MaxCalls: 100}, Shelf: newMemory(),
			Sources: []Source{
				{Name: "one", Guard: true, Beats: time.Second, Resolver: noise{all: all, seed: uint64(round)}},
				{Name: "two", Guard: true, Resolver: noise{all: all, seed: uint64(round + 100)}},
			},
		}
		calls := atomic.Int64{}
		for range 4 {
			callers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					s := current.Load()
					if s == nil {
						time.Sleep(time.Millisecond)
						continue
					}
					n, err := s.Pick(anyNode)
					if err != nil || !n.Start() {
						time.Sleep(time.Millisecond)
						continue
					}
					var out error
					switch rand.N(20) {
					case 0:
						out = refused()
					case 1:
						out = brokenOff()
					}
					s.Report(n, out, time.Millisecond)
					n.Done()
					calls.Add(1)
					_, _, _ = s.Inspect(), s.Stats(), s.String()
				}
			})
		}
		for range 10 {
			s := New(cfg, former)
			current.Store(s)
			if former != nil {
				services.Go(former.Close)
			}
			former = s
			d.set(d.ill, rand.N(2) == 0, all[rand.N(len(all))].Address)
			<-s.Ready()
			time.Sleep(10 * time.Millisecond)
		}
		former.Close()
		close(stop)
		callers.Wait()
		services.Wait()
		pool.Close()
		net.checkClosed(t)
		if calls.Load() == 0 {
			t.Error("want calls to have gone through, found none")
		}
	}
}

// noise is a resolver that says random things as fast as it can.
type noise struct {
	all  []registry.Endpoint
	seed uint64
}

func (n noise) Watch(ctx context.Context, _ string, to registry.Sink) error {
	r := rand.New(rand.NewPCG(n.seed, 1))
	for i := int64(0); ctx.Err() == nil; i++ {
		switch r.IntN(6) {
		case 0:
			to.Fail(errors.New("session lost"))
		case 1:
			to.Beat(n.all[r.IntN(len(n.all))].ID, registry.Beat{At: time.Now(), Load: r.Float64()})
		default:
			var eps []registry.Endpoint
			for _, ep := range n.all {
				if r.IntN(3) > 0 {
					ep.TLS = r.IntN(20) == 0
					ep.Status = registry.Status(r.IntN(5) / 4)
					eps = append(eps, ep)
				}
			}
			to.Update(registry.Set{Revision: i, Endpoints: eps})
		}
		time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond)
	}
	return ctx.Err()
}

// model is what the service should know, kept in the plainest way.
type model struct {
	listed [2]map[string]registry.Endpoint // by source
	known  [2]bool
	stale  [2]bool
	ill    map[string]bool
}

// TestModel does random things and compares the service with a model of it after each.
func TestModel(t *testing.T) {
	seeds := 25
	if testing.Short() || raceEnabled {
		seeds = 8
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { runModel(t, uint64(seed)) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func runModel(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	d := newDoctor()
	pool := health.NewPool((&journal{}).logger())
	defer pool.Close()
	var b *bench
	defer func() { b.Close() }()
	guard := seed%2 == 0
	sources := map[string]*script{}
	config := func() Config {
		c := Config{Pool: pool, Health: d.check("grpc"), Outliers: &outlier.Config{}, Balancer: neverPanic}
		for _, name := range []string{"s0", "s1"} {
			sources[name] = newScript()
			c.Sources = append(c.Sources, Source{Name: name, Resolver: sources[name], Guard: guard})
		}
		return c
	}
	b = start(t, config(), nil)
	b.sources = sources
	net := []*network{b.net}
	m := &model{ill: map[string]bool{}}
	for i := range m.listed {
		m.listed[i] = map[string]registry.Endpoint{}
		<-sources[fmt.Sprintf("s%d", i)].ready
	}
	pool20 := many("i", 12)
	was := 0 // instances that were usable before the step
	var trail []string
	for step := range 120 {
		at := r.IntN(2)
		name := fmt.Sprintf("s%d", at)
		outage := false
		what := r.IntN(10)
		switch what {
		case 0, 1, 2: // a set
			next := map[string]registry.Endpoint{}
			for _, ep := range pool20 {
				old, had := m.listed[at][ep.Address]
				switch {
				case had && r.IntN(5) > 0:
					ep = old
				case r.IntN(3) == 0:
					continue
				}
				switch r.IntN(8) {
				case 0:
					ep.Status = registry.Draining
				case 1:
					ep.Status, ep.Weight = registry.Up, uint32(r.IntN(300))
				case 2:
					ep.Zone = fmt.Sprint("z", r.IntN(3))
				}
				next[ep.Address] = ep
			}
			m.listed[at], m.known[at], m.stale[at] = next, true, false
			var eps []registry.Endpoint
			for _, ep := range next {
				eps = append(eps, ep)
			}
			b.send(name, eps...)
		case 3:
			b.sources[name].sink.Fail(errors.New("lost"))
			m.stale[at], outage = true, true
		case 4, 5:
			a := pool20[r.IntN(len(pool20))].Address
			m.ill[a] = !m.ill[a]
			d.set(d.ill, m.ill[a], a)
			after(4 * time.Second)
		case 6, 7: // calls that go wrong
			if n, err := b.Pick(anyNode); err == nil {
				for range 6 {
					b.Report(n, []error{refused(), brokenOff()}[r.IntN(2)], time.Millisecond)
				}
			}
		case 8:
			after(time.Duration(r.IntN(90)) * time.Second)
		case 9:
			next := start(t, config(), b.Service)
			next.sources = sources
			for _, s := range sources {
				<-s.ready
			}
			b.Close()
			net = append(net, next.net)
			b = next
		}
		for settled(); b.unseen(); {
			settled()
		}
		trail = append(trail, fmt.Sprint(what, name))
		b.compare(m, guard, step, outage && was > 0)
		if t.Failed() {
			t.Fatalf("step %d after %v: %s", step, trail, b.reasons())
		}
		was = 0
		for _, v := range b.Inspect().Instances {
			if v.Used {
				was++
			}
		}
	}
	b.Close()
	if n := b.Stats().Panics; n > 0 {
		t.Errorf("want no panic, found %d", n)
	}
	for _, n := range net {
		n.checkClosed(t)
	}
}

// unseen tells whether a check has ended so lately that the picker may not know of it.
func (b *bench) unseen() bool {
	now := time.Now()
	return slices.ContainsFunc(b.Inspect().Instances, func(v InstanceView) bool { return v.Health != nil && now.Sub(v.Health.Last) <= settle })
}

// compare checks what must hold at any time.
func (b *bench) compare(m *model, guard bool, step int, served bool) {
	b.t.Helper()
	view := map[string]InstanceView{}
	usable := 0
	for _, v := range b.Inspect().Instances {
		view[v.Address] = v
		if v.Used {
			usable++
		}
	}
	// Nodes are those that any source lists, and suspects.
	want := map[string]bool{}
	for i := range m.listed {
		for a := range m.listed[i] {
			want[a] = true
		}
	}
	for a := range want {
		if view[a].Address == "" {
			b.t.Errorf("step %d: want %s, which is listed", step, a)
		}
	}
	for a, v := range view {
		if !want[a] && (!guard || v.State != StateSuspect && v.State != StateLost && v.State != StateEjected && v.State != StateDown && v.State != StateChecking) {
			b.t.Errorf("step %d: %s is listed by nobody, found %s", step, a, v.Why)
		}
	}
	if len(b.Nodes()) != len(view) {
		b.t.Errorf("step %d: want %d nodes, found %d", step, len(view), len(b.Nodes()))
	}
	// Weight, status and zone are those that the rule of merging gives.
	for a, v := range view {
		if !want[a] {
			continue
		}
		first, held := registry.Endpoint{}, registry.Up
		for i := range m.listed {
			if ep, ok := m.listed[i][a]; ok {
				if first.Address == "" {
					first = ep
				}
				held = max(held, ep.Status)
			}
		}
		if v.Weight != first.Weight || v.Status != held || v.Zone != first.Zone {
			b.t.Errorf("step %d: %s: want weight %d, %v and zone %q, found %+v", step, a, first.Weight, held, first.Zone, v)
		}
		if (v.Used || v.Effective != 0) && (first.Weight == 0 || held != registry.Up) {
			b.t.Errorf("step %d: %s is used with no weight, or %v", step, a, held)
		}
	}
	// Calls go to those that are used, and to nobody else while there are any.
	var stray []string
	for a := range b.picked(150) {
		if !view[a].Used {
			stray = append(stray, a)
		}
	}
	if slices.Sort(stray); len(stray) > 0 {
		b.t.Errorf("step %d: want calls to those that are used alone, found some to %v", step, stray)
	}
	_, err := b.Pick(anyNode)
	if usable > 0 && err != nil {
		b.t.Errorf("step %d: want a node of %d that are usable, found %v", step, usable, err)
	}
	if served && err != nil {
		b.t.Errorf("step %d: an outage has emptied the service: %v", step, err)
	}
}

func TestFiveThousandInstances(t *testing.T) {
	n := 5000
	if raceEnabled {
		n = 1000
	}
	synctest.Test(t, func(t *testing.T) {
		d := newDoctor()
		pool := health.NewPool((&journal{}).logger())
		defer pool.Close()
		b := start(t, Config{Pool: pool, Health: d.check("grpc"), Outliers: &outlier.Config{}, Shelf: newMemory()}, nil, "zk")
		defer b.end()
		b.update("zk", many("i", n)...)
		after(3 * time.Second)
		if s := b.Stats(); s.Instances[StateUp] != n {
			t.Errorf("want all up, found %+v", s.Instances)
		}
		b.update("zk", many("i", n)[:n-1]...)
		if len(b.Nodes()) != n-1 {
			t.Errorf("want one gone, found %s", b)
		}
	})
}
