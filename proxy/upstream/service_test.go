package upstream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"

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
	fail  error
}

func (s *script) Watch(ctx context.Context, _ string, to registry.Sink) error {
	s.sink = to
	close(s.ready)
	if s.fail != nil {
		return s.fail
	}
	<-ctx.Done()
	return ctx.Err()
}

type wire struct {
	mu     sync.Mutex
	closed int
}

func (w *wire) Unary(context.Context, *rpc.Call, *rpc.Message, *rpc.Reply) error { return nil }

func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed++
	return nil
}

func newService(t *testing.T, s *script) (*Service, map[string][]*wire) {
	t.Helper()
	dialed := map[string][]*wire{}
	sv := New(Config{Name: "a", Resolver: s, Log: slog.New(slog.DiscardHandler), Dial: func(ep registry.Endpoint) (rpcadapters.Transport, error) {
		if ep.Address == "bad" {
			return nil, errors.New("malformed")
		}
		w := &wire{}
		dialed[ep.Address] = append(dialed[ep.Address], w)
		return w, nil
	}})
	<-s.ready
	return sv, dialed
}

func set(t *testing.T, addresses ...string) registry.Set {
	t.Helper()
	var eps []registry.Endpoint
	for _, a := range addresses {
		eps = append(eps, registry.Endpoint{ID: a, Address: a})
	}
	s, err := registry.NewSet("a", 1, eps)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNodesStayComeAndGo(t *testing.T) {
	s := &script{ready: make(chan struct{})}
	sv, dialed := newService(t, s)
	if _, err := sv.Pick(balancer.Info{}); !errors.Is(err, balancer.ErrNoNode) {
		t.Fatalf("before the first set: want ErrNoNode, found %v", err)
	}
	s.sink.Update(set(t, "x", "y"))
	<-sv.Ready()
	x := sv.Nodes()[0]
	if !x.Start() {
		t.Fatal("want a node that takes calls")
	}
	s.sink.Update(set(t, "y", "z", "bad"))
	if n := len(sv.Nodes()); n != 2 {
		t.Errorf("want y and z, found %d nodes", n)
	}
	if len(dialed["y"]) != 1 {
		t.Errorf("want y dialed once, found %d times", len(dialed["y"]))
	}
	if dialed["x"][0].closed != 0 {
		t.Error("x: want it open while a call holds it")
	}
	if x.Start() {
		t.Error("x: want no new calls")
	}
	if x.Done(); dialed["x"][0].closed != 1 {
		t.Error("x: want it closed with its last call")
	}
	s.sink.Fail(errors.New("session lost"))
	if n := len(sv.Nodes()); n != 2 {
		t.Errorf("after a failure: want the last set in force, found %d nodes", n)
	}
	sv.Close()
	if dialed["y"][0].closed != 1 || dialed["z"][0].closed != 1 {
		t.Error("want every transport closed with the service")
	}
	s.sink.Update(set(t, "late"))
	if len(dialed["late"]) != 0 {
		t.Error("want nothing dialed after the end")
	}
}

func TestResolverThatGivesUpLeavesTheLastSet(t *testing.T) {
	s := &script{ready: make(chan struct{}), fail: errors.New("no such registry")}
	sv, _ := newService(t, s)
	defer sv.Close()
	if _, err := sv.Pick(balancer.Info{}); !errors.Is(err, balancer.ErrNoNode) {
		t.Errorf("want ErrNoNode, found %v", err)
	}
}
