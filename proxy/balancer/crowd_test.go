package balancer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

var policies = []Policy{RoundRobin, LeastRequest, PeakEWMA, RingHash, Maglev, Random}

// checked is the policies that arithmetic is checked with: under the race detector, which sees nothing in it, fewer.
func checked() []Policy {
	if raceEnabled {
		return []Policy{RoundRobin, Maglev}
	}
	return policies
}

// nowhere is a transport that carries nothing.
type nowhere struct{ closed atomic.Int32 }

func (*nowhere) Unary(context.Context, *rpc.Call, *rpc.Message, *rpc.Reply) error { return nil }

func (w *nowhere) Close() error {
	w.closed.Add(1)
	return nil
}

// member is a member that is up.
func member(address string, weight uint32) Member {
	return Member{Node: NewNode(registry.Endpoint{ID: address, Address: address}, &nowhere{}, nil), Weight: weight, Up: true}
}

func address(i int) string { return fmt.Sprintf("10.%d.%d.%d:8080", i>>16, i>>8&255, i&255) }

// crowd is n members that are up; of those of uneven weights, no two neighbours have the same.
func crowd(n int, even bool) []Member {
	members := make([]Member, n)
	for i := range members {
		weight := uint32(100)
		if !even {
			weight = uint32(20 + i*37%160)
		}
		members[i] = member(address(i), weight)
	}
	return members
}

// picks counts n picks, each with a key of its own.
func picks(t *testing.T, p Picker, n int, info Info) map[*Node]int {
	t.Helper()
	counts := map[*Node]int{}
	info.Hashed = true
	for i := range n {
		info.Hash = uint64(i)
		node, err := p.Pick(info)
		if err != nil {
			t.Fatal(err)
		}
		counts[node]++
	}
	return counts
}

// sumOf is the sum of weights.
func sumOf(members []Member) float64 {
	sum := 0.0
	for _, m := range members {
		sum += float64(m.Weight)
	}
	return sum
}

// chance is the value that chi-square of k degrees of freedom passes once in 10^9 times (Wilson and Hilferty).
func chance(k float64) float64 {
	const z = 6
	c := 1 - 2/(9*k) + z*math.Sqrt(2/(9*k))
	return k * c * c * c
}

// near fails unless found is within tolerance of want.
func near(t *testing.T, what string, want, found, tolerance float64) {
	t.Helper()
	if math.Abs(want-found) > tolerance {
		t.Errorf("%s: want %.4f within %.4f, found %.4f", what, want, tolerance, found)
	}
}

// seeded is a source that gives a test the same numbers always.
func seeded(n uint64) *rand.Rand { return rand.New(rand.NewPCG(n, 7)) }
