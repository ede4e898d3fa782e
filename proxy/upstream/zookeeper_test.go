package upstream

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/registry/zookeeper/devserver"
)

// keeper runs the embedded server at an address until stop is called.
func keeper(t *testing.T, address string) (at string, stop func()) {
	t.Helper()
	server := devserver.New(devserver.Config{Tick: 100 * time.Millisecond})
	var l net.Listener
	eventually(t, "the address to be free", func() bool {
		var err error
		l, err = net.Listen("tcp", address)
		return err == nil
	})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	return l.Addr().String(), func() {
		_ = server.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("want %s, waited 20 s", what)
		}
	}
}

// TestWithZooKeeper: instances register themselves, drain, outlive the loss of the registry with all that it knew, and are served
// from the snapshot by a gateway that starts meanwhile.
func TestWithZooKeeper(t *testing.T) {
	address, stop := keeper(t, "127.0.0.1:0")
	zk := zookeeper.Config{Servers: []string{address}, Session: time.Second}
	var leases []registry.Lease
	var endpoints []registry.Endpoint
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		conn, err := zookeeper.Connect(zk)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		lease, err := (&zookeeper.Registrar{Conn: conn, Window: 50 * time.Millisecond}).Register(ctx, "orders", registry.Endpoint{Address: l.Addr().String()})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, lease)
		endpoints = append(endpoints, up(l.Addr().String()))
	}
	slices.SortFunc(endpoints, func(a, b registry.Endpoint) int {
		if a.Address < b.Address {
			return -1
		}
		return 1
	})
	pool := health.NewPool((&journal{}).logger())
	defer pool.Close()
	net := newNetwork()
	shelf := NewShelf(t.TempDir())
	log := &journal{}
	serve := func() (*Service, func()) {
		conn, err := zookeeper.Connect(zk)
		if err != nil {
			t.Fatal(err)
		}
		s := New(Config{
			Name: "orders", Log: log.logger(), Dial: net.dial, Pool: pool, Shelf: shelf,
			Implied: &Check{Key: "tcp", Dial: func(ep registry.Endpoint) (health.Prober, error) { return health.TCP(ep.Address, nil) }},
			Sources: []Source{{Name: "zk", Key: "orders", Resolver: &zookeeper.Resolver{Conn: conn}, Guard: true}},
		}, nil)
		return s, func() {
			s.Close()
			conn.Close()
		}
	}
	used := func(s *Service) []string {
		var out []string
		for _, v := range s.Inspect().Instances {
			if v.Used {
				out = append(out, v.Address)
			}
		}
		return out
	}
	fresh := func(s *Service) bool { return s.Inspect().Sources[0].Stale == 0 }
	s, end := serve()
	eventually(t, "all instances", func() bool { return slices.Equal(used(s), addresses(endpoints)) })

	// The registry dies and comes back with nothing; the instances register again. Nobody is missed at any moment.
	stop()
	eventually(t, "the outage noticed", func() bool { return !fresh(s) })
	if !slices.Equal(used(s), addresses(endpoints)) {
		t.Errorf("in an outage: want all, found %v", used(s))
	}
	second, endSecond := serve()
	eventually(t, "the snapshot served", func() bool { return slices.Equal(used(second), addresses(endpoints)) })
	<-second.Ready()
	_, stop = keeper(t, address)
	eventually(t, "the registry back", func() bool {
		if found := used(s); !slices.Equal(found, addresses(endpoints)) {
			t.Fatalf("while the registry comes back empty: want all, found %v", found)
		}
		v := s.Inspect().Sources[0]
		return v.Stale == 0 && v.Instances == 3 && v.Suspects == 0
	})
	eventually(t, "the second gateway to know", func() bool { return fresh(second) && slices.Equal(used(second), addresses(endpoints)) })
	for address, wires := range net.dialed {
		if len(wires) != 2 {
			t.Errorf("%s: want one transport for each gateway, found %d", address, len(wires))
		}
	}

	// One drains, and leaves.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	left := leases[0]
	if err := left.Drain(ctx); err != nil {
		t.Error(err)
	}
	eventually(t, "two instances", func() bool { return len(used(s)) == 2 && len(used(second)) == 2 })
	if err := left.Close(ctx); err != nil {
		t.Error(err)
	}
	eventually(t, "two nodes", func() bool { return len(s.Nodes()) == 2 })
	var errs []error
	for _, lease := range leases[1:] {
		errs = append(errs, lease.Close(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	endSecond()
	end()
	stop()
	net.checkClosed(t)
}
