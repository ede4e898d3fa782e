package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// silent is a logger of the library.
type silent struct{}

// Printf says nothing.
func (silent) Printf(string, ...any) {}

// herd is what the gateways of a herd know together.
type herd struct {
	fresh   atomic.Int64 // watches whose last word was a set with an instance
	updates atomic.Int64
}

// herdSink is one watch of it.
type herdSink struct {
	of   *herd
	well bool
}

func (s *herdSink) turn(well bool) {
	if well != s.well {
		s.well = well
		if well {
			s.of.fresh.Add(1)
		} else {
			s.of.fresh.Add(-1)
		}
	}
}

// Update takes a set.
func (s *herdSink) Update(set registry.Set) {
	s.of.updates.Add(1)
	s.turn(len(set.Endpoints) > 0)
}

// Beat is not watched.
func (*herdSink) Beat(string, registry.Beat) {}

// Fail says that the set is stale.
func (s *herdSink) Fail(error) { s.turn(false) }

// Many gateways watch many services each. The registry restarts, or stands still for so long that it ends their sessions, and
// they all come back: it goes on answering others meanwhile.
func TestProofHerd(t *testing.T) {
	gateways, services, session := 5, 20, 2*time.Second
	if full() {
		gateways, services, session = 100, 500, 6*time.Second
	} else {
		t.Parallel()
	}
	server := realserver.StartZooKeeper(t)
	side, _, err := zk.Connect([]string{server.Address}, 10*time.Second, zk.WithEventCallback(func(zk.Event) {}), zk.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	defer side.Close()
	put := func(path, data string) {
		t.Helper()
		if _, err := side.Create(path, []byte(data), 0, zk.WorldACL(zk.PermAll)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/causeway", "/causeway/v1", "/causeway/v1/services"} {
		put(path, "")
	}
	names := make([]string, services)
	for i := range names {
		names[i] = fmt.Sprintf("shop.v1.Service%d", i)
		put("/causeway/v1/services/"+names[i], "")
		put("/causeway/v1/services/"+names[i]+"/instances", "")
		put("/causeway/v1/services/"+names[i]+"/instances/a", entry("a", "10.0.0.1:80", 100))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	h := &herd{}
	began := time.Now()
	for range gateways {
		c, err := zookeeper.Connect(zookeeper.Config{Servers: []string{server.Address}, Session: session})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, name := range names {
			all.Go(func() { _ = (&zookeeper.Resolver{Conn: c}).Watch(ctx, name, &herdSink{of: h}) }) // until ctx ends
		}
	}
	wanted := int64(gateways * services)
	converged := func() bool { return h.fresh.Load() == wanted }
	await(t, "everybody to know everything", converged)
	t.Logf("PROOF herd: %d gateways with %d services each know all %s after their start", gateways, services, ms(time.Since(began)))

	// others measures what the registry takes for somebody else, every 50 ms.
	others := func(end <-chan struct{}) (took []time.Duration) {
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return took
			case <-ticker.C:
			}
			began := time.Now()
			if _, _, err := side.Get("/causeway/v1/services/" + names[0] + "/instances/a"); err != nil {
				continue // it is not connected so far
			}
			took = append(took, time.Since(began))
		}
	}
	for _, lost := range []struct {
		what string
		do   func()
	}{
		{"a restart", func() { server.Kill(); server.Start() }},
		{"the end of their sessions", func() {
			server.Pause()
			await(t, "everybody to notice", func() bool { return h.fresh.Load() == 0 })
			time.Sleep(session)
			server.Resume()
		}},
	} {
		lost.do()
		began := time.Now()
		end := make(chan struct{})
		var took []time.Duration
		var probe sync.WaitGroup
		probe.Go(func() { took = others(end) })
		back := await(t, "everybody to be back", func() bool { return converged() && time.Since(began) > session/2 })
		close(end)
		probe.Wait()
		slices.Sort(took)
		p99 := time.Duration(0)
		if len(took) > 0 {
			p99 = took[len(took)*99/100]
		}
		// All gateways share this process with whoever asks beside them, so what the server itself took is told as well.
		t.Logf("PROOF herd: after %s everybody is back within %s; meanwhile somebody else was answered %d times, p99 %s; in the server requests took min/avg/max %s ms",
			lost.what, ms(back), len(took), ms(p99), server.Latency())
		within(t, "back", back, 30*time.Second)
	}
}
