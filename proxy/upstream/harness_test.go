package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/health"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// anyNode asks for a node with nothing known of the call.
var anyNode = balancer.Info{Subset: -1}

// script is a resolver that a test speaks through.
type script struct {
	sink  registry.Sink // once ready is closed
	ready chan struct{}
	once  sync.Once
	runs  atomic.Int32
	fail  func(run int32) error // what a run ends with at once; nil: it lasts
}

func newScript() *script { return &script{ready: make(chan struct{})} }

func (s *script) Watch(ctx context.Context, _ string, to registry.Sink) error {
	run := s.runs.Add(1)
	if s.fail != nil {
		if err := s.fail(run); err != nil {
			return err
		}
	}
	s.once.Do(func() {
		s.sink = to
		close(s.ready)
	})
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

func newNetwork() *network { return &network{dialed: map[string][]*wire{}} }

func (n *network) dial(ep registry.Endpoint) (rpcadapters.Transport, error) {
	if strings.HasPrefix(ep.Address, "bad") {
		return nil, errors.New("want host:port, found " + ep.Address)
	}
	if strings.HasPrefix(ep.Address, "panic") {
		panic("a bug in an adapter")
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

// doctor answers checks. All are well that nobody has said anything of.
type doctor struct {
	mu     sync.Mutex
	err    error // of those who are ill
	ill    map[string]bool
	mute   map[string]bool // probes hang
	probes map[string]int
	closed map[string]int
}

func newDoctor() *doctor {
	return &doctor{err: errors.New("connection refused"), ill: map[string]bool{}, mute: map[string]bool{}, probes: map[string]int{}, closed: map[string]int{}}
}

func (d *doctor) set(what map[string]bool, value bool, addresses ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range addresses {
		what[a] = value
	}
}

func (d *doctor) count(address string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.probes[address]
}

// check is a Check by the doctor, once a second.
func (d *doctor) check(key string) *Check {
	return &Check{Key: key, Timing: health.Timing{Interval: time.Second, Timeout: 500 * time.Millisecond}, Dial: func(ep registry.Endpoint) (health.Prober, error) {
		return health.Func(func(ctx context.Context) error {
			d.mu.Lock()
			d.probes[ep.Address]++
			ill, mute := d.ill[ep.Address], d.mute[ep.Address]
			d.mu.Unlock()
			if mute {
				<-ctx.Done()
				return ctx.Err()
			}
			if ill {
				return d.err
			}
			return nil
		}, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.closed[ep.Address]++
		}), nil
	}}
}

// journal keeps what was logged.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// count is how many lines have all of the words.
func (j *journal) count(words ...string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for line := range strings.Lines(j.buf.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

// bench is a service under test, in a bubble of virtual time.
type bench struct {
	*Service
	t       *testing.T
	net     *network
	log     *journal
	sources map[string]*script
	panics  bool // some are meant
}

// start makes a service with a guarded source for each name, or with those of the configuration.
func start(t *testing.T, cfg Config, former *Service, names ...string) *bench {
	t.Helper()
	b := &bench{t: t, net: newNetwork(), log: &journal{}, sources: map[string]*script{}}
	if cfg.Dial == nil {
		cfg.Dial = b.net.dial
	}
	if cfg.Name == "" {
		cfg.Name = "orders"
	}
	if cfg.Log == nil {
		cfg.Log = b.log.logger()
	}
	for _, name := range names {
		r := newScript()
		b.sources[name] = r
		cfg.Sources = append(cfg.Sources, Source{Name: name, Key: "orders", Resolver: r, Guard: true})
	}
	b.Service = New(cfg, former)
	for _, r := range b.sources {
		<-r.ready
	}
	return b
}

// update has a source send endpoints, and waits until the service has settled.
func (b *bench) update(source string, endpoints ...registry.Endpoint) {
	b.t.Helper()
	b.send(source, endpoints...)
	settled()
}

// send has a source send endpoints.
func (b *bench) send(source string, endpoints ...registry.Endpoint) {
	b.t.Helper()
	set, err := registry.NewSet("orders", 1, slices.Clone(endpoints))
	if err != nil {
		b.t.Fatal(err)
	}
	b.sources[source].sink.Update(set)
}

// fail has a source fail.
func (b *bench) fail(source string) {
	b.sources[source].sink.Fail(errors.New("session lost"))
	settled()
}

// settled waits until nothing is left to do at once.
func settled() {
	synctest.Wait()
	time.Sleep(settle)
	synctest.Wait()
}

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// view is one instance as it is shown; one without an address is not there.
func (b *bench) instance(address string) InstanceView {
	for _, v := range b.Inspect().Instances {
		if v.Address == address {
			return v
		}
	}
	return InstanceView{}
}

// picked counts which addresses calls go to.
func (b *bench) picked(calls int) map[string]int {
	out := map[string]int{}
	for range calls {
		n, err := b.Pick(anyNode)
		if err != nil {
			continue
		}
		if !n.Start() {
			continue
		}
		out[n.Address]++
		n.Done()
	}
	return out
}

// wantPicked checks which addresses take calls.
func (b *bench) wantPicked(what string, addresses ...string) {
	b.t.Helper()
	found := b.picked(20 * max(5, len(b.Nodes())))
	for _, a := range addresses {
		if found[a] == 0 {
			b.t.Errorf("%s: want calls to %s, found %v", what, a, found)
		}
		delete(found, a)
	}
	if len(found) > 0 {
		b.t.Errorf("%s: want calls to %v alone, found some to %v; %s", what, addresses, found, b.reasons())
	}
}

// reasons are what Inspect says, a line for each instance.
func (b *bench) reasons() string {
	var out strings.Builder
	for _, v := range b.Inspect().Instances {
		fmt.Fprintf(&out, "\n%s: %s", v.Address, v.Why)
	}
	return out.String()
}

// end closes the service and checks that nothing is left of it.
func (b *bench) end() {
	b.t.Helper()
	b.Close()
	b.net.checkClosed(b.t)
	if n := b.Stats().Panics; n > 0 && !b.panics {
		b.t.Errorf("want no panic, found %d", n)
	}
}

func up(address string) registry.Endpoint {
	return registry.Endpoint{ID: address, Address: address, Weight: 100}
}

func with(ep registry.Endpoint, change func(*registry.Endpoint)) registry.Endpoint {
	change(&ep)
	return ep
}

func said(address string, status registry.Status) registry.Endpoint {
	return registry.Endpoint{ID: address, Address: address, Status: status}
}

// many are n instances whose addresses begin with a name.
func many(name string, n int) []registry.Endpoint {
	var out []registry.Endpoint
	for i := range n {
		out = append(out, up(fmt.Sprintf("%s%d", name, i)))
	}
	return out
}

func addresses(eps []registry.Endpoint) []string {
	var out []string
	for _, ep := range eps {
		out = append(out, ep.Address)
	}
	return out
}

// refused is the error of a call that found no connection, brokenOff of one that was cut off.
func refused() error {
	return &rpc.Error{Code: codes.Unavailable, Class: rpc.Transport, Reason: "UPSTREAM_UNREACHABLE"}
}

func brokenOff() error {
	return &rpc.Error{Code: codes.Unavailable, Class: rpc.Transport, Executed: true}
}

// node finds a node by its address.
func (b *bench) node(address string) *balancer.Node {
	b.t.Helper()
	for _, n := range b.Nodes() {
		if n.Address == address {
			return n
		}
	}
	b.t.Fatalf("want a node at %s, found none", address)
	return nil
}

// fixed is a resolver that says one thing.
type fixed []registry.Endpoint

func (f fixed) Watch(ctx context.Context, service string, to registry.Sink) error {
	set, err := registry.NewSet(service, 1, slices.Clone(f))
	if err != nil {
		return err
	}
	to.Update(set)
	<-ctx.Done()
	return ctx.Err()
}

// loose is a resolver that does not end with its context.
type loose struct{ release chan struct{} }

func (l *loose) Watch(_ context.Context, _ string, to registry.Sink) error {
	<-l.release
	to.Update(registry.Set{Endpoints: []registry.Endpoint{up("late")}})
	return nil
}
