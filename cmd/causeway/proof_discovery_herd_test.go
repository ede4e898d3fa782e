package main

import (
	"context"
	"fmt"
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
	gateways, services, session := 5, 20, 3*time.Second
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
	for _, path := range []string{"/neighbour", "/neighbour/a", "/neighbour/b", "/causeway", "/causeway/v1", "/causeway/v1/services"} {
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

	// All gateways share this process, and with it the machine. Somebody else and the registry are before them there, where the user
	// of the tests may have that.
	other := startNeighbour(t, server.Address, "/neighbour")
	favoured := favour(other.pid, server.Pid())
	for _, lost := range []struct {
		what string
		do   func()
	}{
		{"a restart", func() { server.Kill(); server.Start(); favoured = favour(server.Pid()) && favoured }},
		{"the end of their sessions", func() {
			server.Pause()
			await(t, "everybody to notice", func() bool { return h.fresh.Load() == 0 })
			time.Sleep(session)
			server.Resume()
		}},
	} {
		lost.do()
		began := time.Now()
		other.begin()
		back := await(t, "everybody to be back", func() bool { return converged() && time.Since(began) > session/2 })
		if full() { // what is told at once is read again in turn: that, too, is to leave time for others
			time.Sleep(time.Until(began.Add(session/2 + 20*time.Second)))
		}
		if !full() {
			await(t, "somebody else to be back", func() bool { answers, _, _ := other.end(); return answers > 0 })
		}
		answers, p99, most := other.end()
		t.Logf("PROOF herd: after %s everybody is back within %s; meanwhile somebody else (before them on this machine: %t) was answered %d times, p99 %s, at most %s; in the server requests took min/avg/max %s ms",
			lost.what, ms(back), favoured, answers, ms(p99), ms(most), server.Latency())
		within(t, "what somebody else waits for", p99, 100*time.Millisecond)
		if answers == 0 {
			t.Error("want somebody else answered")
		}
		within(t, "back", back, 30*time.Second)
	}
}
