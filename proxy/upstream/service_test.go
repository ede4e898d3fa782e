package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a resolver that a test speaks through.
type script struct {
	sink  registry.Sink
	ready chan struct{}
	once  sync.Once
	fail  error
}

func newScript() *script { return &script{ready: make(chan struct{})} }

func (s *script) Watch(ctx context.Context, _ string, to registry.Sink) error {
	s.once.Do(func() {
		s.sink = to
		close(s.ready)
	})
	if s.fail != nil {
		return s.fail
	}
	<-ctx.Done()
	return ctx.Err()
}

// wire is a transport that counts how often it is closed.
type wire struct{ closed atomic.Int32 }

func (w *wire) Unary(context.Context, *rpc.Call, *rpc.Message, *rpc.Reply) error { return nil }

func (w *wire) Close() error {
	w.closed.Add(1)
	return nil
}

// network keeps the transports that were dialled.
type network struct {
	mu     sync.Mutex
	dialed map[string][]*wire
}

func (n *network) dial(ep registry.Endpoint) (rpcadapters.Transport, error) {
	if ep.Address == "bad" {
		return nil, errors.New("malformed")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	w := &wire{}
	n.dialed[ep.Address] = append(n.dialed[ep.Address], w)
	return w, nil
}

// of returns the transports dialled to an address.
func (n *network) of(address string) []*wire {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialed[address]
}

// checkClosed checks that each transport has been closed exactly once.
func (n *network) checkClosed(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for address, ws := range n.dialed {
		for i, w := range ws {
			if c := w.closed.Load(); c != 1 {
				t.Errorf("transport %d to %s: want it closed once, found %d times", i, address, c)
			}
		}
	}
}

// bench is a service under test, in a bubble of virtual time.
type bench struct {
	*Service
	t       *testing.T
	net     *network
	sources map[string]*script
}

// run calls f in a bubble, with a service made of the configuration and a source for each name. Names that begin with
// "guarded" are guarded.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func newNetwork() *network { return &network{dialed: map[string][]*wire{}} }

func start(t *testing.T, cfg Config, former *Service, names ...string) *bench {
	t.Helper()
	b := &bench{t: t, net: newNetwork(), sources: map[string]*script{}}
	if cfg.Dial == nil {
		cfg.Dial = b.net.dial
	}
	if cfg.Name == "" {
		cfg.Name = "orders"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Sources == nil {
		for _, name := range names {
			r := newScript()
			b.sources[name] = r
			cfg.Sources = append(cfg.Sources, Source{Name: name, Key: "orders", Resolver: r, Guard: true})
		}
	}
	b.Service = New(cfg, former)
	for _, r := range b.sources {
		<-r.ready
	}
	return b
}

// update has a source send endpoints and waits until the service has settled.
func (b *bench) update(source string, endpoints ...registry.Endpoint) {
	b.t.Helper()
	set, err := registry.NewSet("orders", 1, endpoints)
	if err != nil {
		b.t.Fatal(err)
	}
	b.sources[source].sink.Update(set)
	b.settle()
}

// settle waits until nothing is left to do at once.
func (b *bench) settle() {
	time.Sleep(settle)
	synctest.Wait()
}

func up(address string) registry.Endpoint {
	return registry.Endpoint{ID: address, Address: address, Weight: 100}
}

func ups(n int) []registry.Endpoint {
	var out []registry.Endpoint
	for i := range n {
		out = append(out, up(fmt.Sprintf("10.0.0.%d:80", i+1)))
	}
	return out
}

func TestNodesStayComeAndGo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := start(t, Config{}, nil, "zk")
		if _, err := b.Pick(balancer.Info{Subset: -1}); !errors.Is(err, balancer.ErrNoNode) {
			t.Fatalf("before the first set: want ErrNoNode, found %v", err)
		}
		b.update("zk", up("x"), up("y"))
		<-b.Ready()
		x := b.Nodes()[0]
		if !x.Start() {
			t.Fatal("want a node that takes calls")
		}
		b.update("zk", up("y"), up("z"), up("bad"))
		if n := len(b.Nodes()); n != 2 {
			t.Errorf("want y and z, found %d nodes", n)
		}
		if n := len(b.net.of("y")); n != 1 {
			t.Errorf("want y dialed once, found %d times", n)
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
		b.sources["zk"].sink.Fail(errors.New("session lost"))
		b.settle()
		if n := len(b.Nodes()); n != 2 {
			t.Errorf("after a failure: want the last set in force, found %d nodes", n)
		}
		b.Close()
		b.net.checkClosed(t)
		b.sources["zk"].sink.Update(registry.Set{Endpoints: []registry.Endpoint{up("late")}})
		b.settle()
		if len(b.net.of("late")) != 0 {
			t.Error("want nothing dialed after the end")
		}
	})
}

func TestResolverThatGivesUpLeavesTheLastSet(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newScript()
		r.fail = errors.New("no such registry")
		b := start(t, Config{Sources: []Source{{Name: "zk", Resolver: r}}}, nil)
		defer b.Close()
		<-r.ready
		if _, err := b.Pick(balancer.Info{Subset: -1}); !errors.Is(err, balancer.ErrNoNode) {
			t.Errorf("want ErrNoNode, found %v", err)
		}
	})
}
