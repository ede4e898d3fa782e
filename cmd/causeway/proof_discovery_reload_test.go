package main

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/testdata/load"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// All instances are restarted in turn, as a deployment does it: each drains, ends, and comes back, at the same address or at another.
// No call is lost, whether it may be executed twice or not.
func TestProofRollingRestart(t *testing.T) {
	session, window, rounds, each, rate := shortSession, "500ms", 1, 3, 30
	if full() {
		session, window, rounds, each, rate = 6*time.Second, "5s", 10, 4, 600
	} else {
		t.Parallel()
	}
	zk := realserver.StartZooKeeper(t)
	args := []string{"-session", session.String(), "-window", window}
	instances := startInstances(t, each, zk.Address, args...)
	dir := t.TempDir()
	g, err := tryGateway(t, dir, proofConfig(t, dir, zk.Address, session, checked()))
	if err != nil {
		t.Fatal(err)
	}
	c := startCallers(t, strings.TrimPrefix(g.url, "http://"))
	await(t, "all instances", func() bool { return g.used() == each })
	l := load.Start(rate, patient, c.all()...)
	defer l.Stop()
	passes(t, l, rate/2)
	for round := range rounds {
		for i, p := range instances {
			p.stop()
			address := ""
			if round%2 == 1 {
				address = p.address
			}
			before := c.answered(p.name)
			instances[i] = startInstance(t, zk.Address, p.name, address, args...)
			await(t, "calls on the instance that is back", func() bool { return c.answered(p.name) > before })
		}
	}
	if full() {
		await(t, "100,000 calls", func() bool { ended, _ := l.Ended(); return ended >= 100_000 })
	}
	none(t, "rolling restarts", l)
	await(t, "all instances in use at the end", func() bool { return g.used() == each })
}

// probedInstance is an instance in this process that counts what it is asked.
type probedInstance struct {
	instanceEcho

	address string
	stop    func()       // at once
	answer  func() error // nil: it answers at once; set before it is called
	probes  atomic.Int64
	calls   atomic.Int64
	down    atomic.Bool
}

// probedHealth is what an instance says of itself.
type probedHealth struct {
	healthpb.UnimplementedHealthServer

	of *probedInstance
}

// Check counts and answers.
func (h *probedHealth) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.of.probes.Add(1)
	if h.of.down.Load() {
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}, nil
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

// Call counts and answers.
func (p *probedInstance) Call(ctx context.Context, r *echov1.CallRequest) (*echov1.CallReply, error) {
	p.calls.Add(1)
	if p.answer != nil {
		if err := p.answer(); err != nil {
			return nil, err
		}
	}
	return p.instanceEcho.Call(ctx, r)
}

// startProbed starts one on a host; at 0.0.0.0 every address of 127.0.0.0/8 reaches it.
func startProbed(t testing.TB, host, name string) *probedInstance {
	t.Helper()
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	p := &probedInstance{instanceEcho: instanceEcho{name: name}, address: ln.Addr().String()}
	s := grpc.NewServer()
	echov1.RegisterEchoServer(s, p)
	healthpb.RegisterHealthServer(s, &probedHealth{of: p})
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	p.stop = s.Stop
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return p
}

// atRest is what a process has when it rests.
func atRest() (heap int64, goroutines int) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse), runtime.NumGoroutine()
}

// The configuration is loaded again and again, each time with a change, of something else or of the service itself. Each
// instance is asked once per interval all the same, one that is down never gets a call, no call is lost, and nothing piles up.
func TestProofReloads(t *testing.T) {
	reloads, gap, interval, rate, edge := 30, 50*time.Millisecond, "0.25s", 20, 2.0
	if full() {
		reloads, gap, interval, rate, edge = 1000, 90*time.Millisecond, "1s", 300, 1.0
	}
	every, err := time.ParseDuration(interval)
	if err != nil {
		t.Fatal(err)
	}
	_, zk := startZK(t)
	side := zkAt(t, zk)
	instances := []*probedInstance{startProbed(t, "127.0.0.1", "a"), startProbed(t, "127.0.0.1", "b"), startProbed(t, "127.0.0.1", "down")}
	for _, p := range instances {
		register(t, side, registry.Endpoint{Address: p.address, ID: p.name})
	}
	dir := t.TempDir()
	keys := "    health_check: {grpc: {}, interval: " + interval + ", timeout: 20s}\n"
	plain := proofConfig(t, dir, zk, 4*time.Second, keys)
	texts := []string{
		plain,
		plain + "consumers:\n  - name: somebody\n",
		strings.Replace(plain, keys, keys+"    balancer: {policy: least_request}\n", 1),
		strings.Replace(plain, "{name: once, service: echo, methods: [\"*\"]}", "{name: once, service: echo, methods: [\"*\"], timeout: 9s}", 1),
		strings.Replace(plain, keys, keys+"    breaker: {max_calls: 5000}\n    outliers: {consecutive: 7}\n", 1),
	}
	g, err := tryGateway(t, dir, plain)
	if err != nil {
		t.Fatal(err)
	}
	g.stopWatch() // the test itself says when to reload
	await(t, "all instances", func() bool { return g.used() == 3 })
	c := startCallers(t, strings.TrimPrefix(g.url, "http://"))
	sick := instances[2]
	sick.down.Store(true)
	await(t, "the instance that is down to be out", func() bool {
		sick.calls.Store(0)
		for range 30 {
			if _, err := c.rest(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		return sick.calls.Load() == 0
	})

	at := 0
	run := func(n int) {
		t.Helper()
		l := load.Start(rate, patient, c.all()...)
		defer l.Stop()
		var before [3]int64
		for i, p := range instances {
			before[i] = p.probes.Load()
		}
		began := time.Now()
		for i := range n {
			at++
			g.write(texts[at%len(texts)])
			if err := g.gateway.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Until(began.Add(time.Duration(i+1) * gap)))
		}
		wanted := float64(time.Since(began)) / float64(every)
		for i, p := range instances {
			probes := float64(p.probes.Load() - before[i])
			t.Logf("PROOF %d reloads in %s: instance %s was asked %.3f times per interval", n, time.Since(began).Round(100*time.Millisecond), p.name, probes/wanted)
			// One more or less is where the interval begins; in the short form a check of the interval before may come late.
			if probes > 1.05*wanted+edge || full() && probes < 0.95*wanted-1 || wanted > 4 && probes < 1 {
				t.Errorf("want instance %s asked %.1f times, found %.0f", p.name, wanted, probes)
			}
		}
		none(t, "reloads", l)
	}
	rest := func() (int64, int) {
		t.Helper()
		c.http.CloseIdleConnections()
		var heap int64
		var goroutines int
		await(t, "the last snapshots to be let go", func() bool {
			h, n := atRest()
			settled := n == goroutines
			heap, goroutines = h, n
			if !settled {
				time.Sleep(200 * time.Millisecond)
			}
			return settled
		})
		return heap, goroutines
	}
	run(reloads / 10)
	heap, goroutines := rest()
	run(reloads - reloads/10)
	heapAfter, goroutinesAfter := rest()
	t.Logf("PROOF reloads: %d to %d KiB in use, %d to %d goroutines", heap>>10, heapAfter>>10, goroutines, goroutinesAfter)
	if heapAfter > heap+max(heap/10, 20<<20) {
		t.Errorf("want memory flat, found %d and then %d KiB", heap>>10, heapAfter>>10)
	}
	if goroutinesAfter > goroutines+30+reloads/10 { // connections keep some idle, as many as there were calls at once
		t.Errorf("want goroutines flat, found %d and then %d", goroutines, goroutinesAfter)
	}
	if n := sick.calls.Load(); n != 0 {
		t.Errorf("want no call on the instance that is down, found %d", n)
	}
	if up := g.at(instances[0].address); up == nil || !up.Used || instances[0].calls.Load() == 0 || instances[1].calls.Load() == 0 {
		t.Error("want the others called")
	}
}
