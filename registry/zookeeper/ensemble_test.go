package zookeeper

import (
	"os"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/registrytest"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// TestProofEnsemble lets members of a real ensemble fall silent, die and lose their quorum. Nobody is delisted, nobody is
// forgotten, and no set is empty on the way. In the short form each happens once, in full ten times.
func TestProofEnsemble(t *testing.T) {
	t.Parallel()
	all := realserver.StartEnsemble(t)
	var servers []string
	for _, z := range all {
		servers = append(servers, z.Address)
	}
	rounds, session := 1, 2*time.Second
	if os.Getenv("CAUSEWAY_PROOF") == "1" {
		rounds, session = 10, 6*time.Second
	}
	instance := connect(t, Config{Servers: servers, Session: session})
	gateway := connect(t, Config{Servers: servers, Session: session})
	if _, err := (&Registrar{Conn: instance}).Register(short(t), "orders", registry.Endpoint{Address: "a:1"}); err != nil {
		t.Fatal(err)
	}
	sink, stop := registrytest.Watch(t, &Resolver{Conn: gateway, Relist: time.Hour}, "orders")
	defer stop() //nolint:errcheck // the context's error
	sink.Wait("a:1")
	first, _ := instance.now()

	// serves shows that everything works: another instance comes and goes, and both see it.
	serves := func(what string) {
		t.Helper()
		lease, err := (&Registrar{Conn: instance}).Register(short(t), "orders", registry.Endpoint{Address: "b:1"})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		sink.Wait("a:1", "b:1")
		if err := lease.Close(short(t)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		sink.Wait("a:1")
	}
	serverOf := func(c *Conn) *realserver.ZooKeeper {
		c.mu.Lock()
		defer c.mu.Unlock()
		at := c.client.zk.Server()
		for _, z := range all {
			if z.Address == at {
				return z
			}
		}
		t.Fatalf("no server at %s", at)
		return nil
	}

	for range rounds {
		silent := serverOf(gateway)
		before, _ := gateway.now()
		began := time.Now()
		silent.Pause()
		eventually(t, "another member", func() bool {
			s, _ := gateway.now()
			return s.connected && s.links > before.links && serverOf(gateway) != silent
		})
		t.Logf("a member that falls silent is left after %v", time.Since(began).Round(10*time.Millisecond))
		serves("with one member silent")
		silent.Resume()

		leader := realserver.Leader(t, all)
		began = time.Now()
		leader.Kill()
		serves("after the leader was killed")
		t.Logf("served %v after the leader was killed", time.Since(began).Round(10*time.Millisecond))
		leader.Start()

		// Two of three die: no quorum, for longer than the session. Nobody can tell who lives, so everybody is kept.
		all[0].Kill()
		all[1].Kill()
		if err := sink.WaitFail(); err == nil {
			t.Error("want the loss of the quorum told")
		}
		away := time.NewTimer(session + session/2)
		<-away.C
		all[0].Start()
		all[1].Start()
		sink.Wait("a:1")
		serves("after the quorum came back")
	}
	now, _ := instance.now()
	t.Logf("%d rounds, %d sets, %d empty; the instance had %d sessions", rounds, sink.Updates(), sink.Emptied(), now.generation)
	// Where the machine stands still for longer than the short form's session, the instance is delisted, and empty is the truth.
	if n := sink.Emptied(); n != 0 && (rounds > 1 || now.session == first.session) {
		t.Errorf("want no empty set, found %d", n)
	}
	if rounds > 1 && now.session != first.session { // in the short form the machine may stand still for longer than a session
		t.Errorf("want the instance's session kept, found %x after %x", now.session, first.session)
	}
}
