// Package upstream keeps the instances of a service: it takes what a resolver sends, keeps the nodes that stay with their
// connections, dials new ones and drains those that are gone, and lets a balancer pick among them.
package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters"
)

// Config is what a service is made of.
type Config struct {
	Name     string
	Resolver registry.Resolver
	Dial     func(registry.Endpoint) (rpcadapters.Transport, error)
	Balancer balancer.Config
	Log      *slog.Logger
}

// Service is one upstream. It outlives snapshots: a reload that does not concern it takes it over as it is.
type Service struct {
	cfg    Config
	picker atomic.Pointer[picker]
	stop   context.CancelFunc
	done   chan struct{}
	ready  chan struct{} // closed when the first set has arrived

	mu     sync.Mutex
	nodes  map[string]*balancer.Node
	closed bool
	once   sync.Once
}

// picker boxes the interface, so that it can be swapped atomically.
type picker struct {
	balancer.Picker
	nodes []*balancer.Node
}

// New starts watching. Close ends it.
func New(cfg Config) *Service {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{cfg: cfg, stop: cancel, done: make(chan struct{}), ready: make(chan struct{}), nodes: map[string]*balancer.Node{}}
	s.picker.Store(&picker{Picker: balancer.New(cfg.Balancer, nil)})
	go s.watch(ctx)
	return s
}

func (s *Service) watch(ctx context.Context) {
	defer close(s.done)
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Log.Error("panic while watching a service; its last instances stay in force", "service", s.cfg.Name, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	if err := s.cfg.Resolver.Watch(ctx, s.cfg.Name, s); err != nil && ctx.Err() == nil {
		s.cfg.Log.Error("resolver gave up; the last instances stay in force", "service", s.cfg.Name, "error", err)
	}
}

// Ready is closed when the service knows its instances for the first time.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Pick chooses a node for one call. The caller starts it, and picks again when it will not start.
func (s *Service) Pick(info balancer.Info) (*balancer.Node, error) { return s.picker.Load().Pick(info) }

// Nodes are the service's nodes, sorted by ID. Read-only.
func (s *Service) Nodes() []*balancer.Node { return s.picker.Load().nodes }

// Update takes a complete set of instances. It is called by the resolver.
func (s *Service) Update(set registry.Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	nodes := make([]*balancer.Node, 0, len(set.Endpoints))
	members := make([]balancer.Member, 0, len(set.Endpoints))
	kept := make(map[string]*balancer.Node, len(set.Endpoints))
	for _, ep := range set.Endpoints {
		n := s.nodes[ep.ID]
		if n == nil || n.Address != ep.Address {
			t, err := s.cfg.Dial(ep)
			if err != nil {
				s.cfg.Log.Warn("instance left out", "service", s.cfg.Name, "instance", ep.ID, "error", err)
				continue
			}
			n = balancer.NewNode(ep, t, nil)
		}
		kept[ep.ID] = n
		nodes = append(nodes, n)
		members = append(members, balancer.Member{Node: n, Weight: 1, Up: true})
	}
	old := s.nodes
	s.nodes = kept
	s.picker.Store(&picker{Picker: balancer.New(s.cfg.Balancer, members), nodes: nodes})
	for id, n := range old {
		if kept[id] != n {
			n.Drain()
		}
	}
	s.once.Do(func() { close(s.ready) })
}

// Beat is a sign of life of one instance. Policies that weigh load read it; round robin does not.
func (s *Service) Beat(string, registry.Beat) {}

// Fail says that the instances known may be stale; they stay in force.
func (s *Service) Fail(err error) {
	s.cfg.Log.Warn("instances may be stale", "service", s.cfg.Name, "error", err)
}

// Close stops watching and drains every node. Calls in flight end as they would.
func (s *Service) Close() {
	s.stop()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, n := range s.nodes {
		n.Drain()
	}
}

// String names the service with its instances, for logs.
func (s *Service) String() string {
	return fmt.Sprintf("%s (%d instances)", s.cfg.Name, len(s.Nodes()))
}
