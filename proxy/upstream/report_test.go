package upstream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestClassify(t *testing.T) {
	const short, long = 10 * time.Millisecond, 2 * time.Second
	deadline := rpc.AsError(context.DeadlineExceeded)
	sent := rpc.AsError(context.DeadlineExceeded)
	sent.Executed = true
	for name, c := range map[string]struct {
		err  error
		took time.Duration
		want outlier.Outcome
	}{
		"the method's own error":              {&rpc.Error{Code: codes.NotFound, Class: rpc.Business, Executed: true}, short, outlier.Success},
		"the method says that it is off":      {&rpc.Error{Code: codes.Unavailable, Class: rpc.Business, Executed: true}, short, outlier.Success},
		"the method's own timeout":            {&rpc.Error{Code: codes.DeadlineExceeded, Class: rpc.Business, Executed: true}, long, outlier.Success},
		"refused by the gateway":              {rpc.Refuse(codes.ResourceExhausted, "ANSWER_TOO_LARGE", "too large"), long, outlier.Neutral},
		"no connection":                       {refused(), short, outlier.Unreached},
		"broken off":                          {brokenOff(), short, outlier.Failed},
		"wrapped":                             {fmt.Errorf("attempt 2: %w", brokenOff()), short, outlier.Failed},
		"a malformed answer":                  {&rpc.Error{Code: codes.Internal, Class: rpc.Transport, Executed: true}, short, outlier.Failed},
		"one try took too long":               {&rpc.Error{Code: codes.DeadlineExceeded, Class: rpc.Transport, Executed: true}, short, outlier.Failed},
		"the caller left":                     {context.Canceled, long, outlier.Neutral},
		"the caller left a transport":         {&rpc.Error{Code: codes.Canceled, Class: rpc.Transport, Executed: true}, long, outlier.Neutral},
		"the caller had no time":              {sent, short, outlier.Neutral},
		"the instance had time":               {sent, long, outlier.Failed},
		"no connection in the time there was": {deadline, long, outlier.Failed},
		"turned away before it was looked at": {&rpc.Error{Code: codes.Unavailable, Class: rpc.Transport, Reason: "UPSTREAM_RESET"}, short, outlier.Failed},
		"any other error":                     {errors.New("bug"), long, outlier.Neutral},
	} {
		if got := Classify(c.err, c.took); got != c.want {
			t.Errorf("%s: want %d, found %d", name, c.want, got)
		}
	}
}

// serve makes a service with n instances outside of a bubble.
func serve(t testing.TB, cfg Config, n int) *Service {
	t.Helper()
	cfg.Name, cfg.Log, cfg.Dial = "orders", (&journal{}).logger(), newNetwork().dial
	cfg.Sources = []Source{{Name: "endpoints", Resolver: fixed(many("i", n)), Static: true}}
	s := New(cfg, nil)
	t.Cleanup(s.Close)
	if len(s.Nodes()) != n {
		t.Fatalf("want %d nodes, found %d", n, len(s.Nodes()))
	}
	return s
}

func TestLatencyIsThatOfAnswers(t *testing.T) {
	s := serve(t, Config{}, 1)
	n := s.Nodes()[0]
	s.Report(n, nil, Unmeasured)
	s.Report(n, context.Canceled, time.Minute)
	s.Report(n, brokenOff(), Unmeasured)
	if l := n.Latency(s.Clock()); l != 0 {
		t.Errorf("want no latency of what says nothing of it, found %v", l)
	}
	s.Report(n, nil, 30*time.Millisecond)
	if l := n.Latency(s.Clock()); l <= 0 || l > 30*time.Millisecond {
		t.Errorf("want about 30ms, found %v", l)
	}
	s.Report(n, brokenOff(), time.Millisecond)
	if l := n.Latency(s.Clock()); l < 100*time.Millisecond {
		t.Errorf("want one that breaks calls off to be slow, found %v", l)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, policy := range []balancer.Policy{balancer.RoundRobin, balancer.LeastRequest, balancer.PeakEWMA, balancer.RingHash} {
		s := serve(t, Config{Outliers: &outlier.Config{FailureRate: 0.5}, Balancer: balancer.Config{Policy: policy}}, 10)
		info := anyNode
		if n := testing.AllocsPerRun(1000, func() {
			n, err := s.Pick(info)
			if err != nil || !n.Start() {
				t.Error("want a node")
				return
			}
			s.Report(n, nil, time.Millisecond)
			n.Done()
			info.Hash, info.Hashed = info.Hash+1, true
		}); n > 0 {
			t.Errorf("policy %d: want no allocation, found %v", policy, n)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	for _, n := range []int{2, 100, 5000} {
		for _, policy := range []balancer.Policy{balancer.RoundRobin, balancer.PeakEWMA} {
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				s := serve(b, Config{Outliers: &outlier.Config{}, Balancer: balancer.Config{Policy: policy}}, n)
				b.ReportAllocs()
				for b.Loop() {
					n, err := s.Pick(anyNode)
					if err != nil || !n.Start() {
						b.Fatal("want a node")
					}
					s.Report(n, nil, time.Millisecond)
					n.Done()
				}
			})
		}
	}
}

// BenchmarkUpdate is one change of one instance among many, from the sink to the picker.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{10, 5000} {
		for _, policy := range []balancer.Policy{balancer.RoundRobin, balancer.RingHash} {
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				s := serve(b, Config{Outliers: &outlier.Config{}, Balancer: balancer.Config{Policy: policy}}, n)
				src := s.sources[0]
				to := &sink{src: src}
				sets := [2]registry.Set{}
				for i := range sets {
					set, err := registry.NewSet("orders", 1, many("i", n))
					if err != nil {
						b.Fatal(err)
					}
					set.Endpoints[n/2].Weight = uint32(50 + i)
					sets[i] = set
				}
				at := 0
				b.ReportAllocs()
				for b.Loop() {
					at++
					to.Update(sets[at%2])
					s.step()
				}
			})
		}
	}
}
