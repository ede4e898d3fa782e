package balancer

import (
	"fmt"
	"math"
	"testing"
)

// Idle nodes are taken by weight, whatever the policy.
func TestSpread(t *testing.T) {
	for _, policy := range policies {
		for _, n := range []int{2, 3, 10, 100, 1000} {
			for _, even := range []bool{true, false} {
				if raceEnabled && n > 100 {
					continue // the same at ten times the time
				}
				t.Run(fmt.Sprintf("%s/n=%d/even=%v", policy, n, even), func(t *testing.T) {
					members := crowd(n, even)
					sum := sumOf(members)
					calls := max(20_000, 50*n)
					counts := picks(t, New(Config{Policy: policy}, members), calls, Info{Subset: -1})
					chi := 0.0
					for _, m := range members {
						want, found := float64(calls)*float64(m.Weight)/sum, float64(counts[m.Node])
						chi += (found - want) * (found - want) / want
						switch policy {
						case RoundRobin:
							near(t, m.Address, want, found, 3)
						case RingHash:
							points := 256 * float64(m.Weight) * float64(n) / sum
							near(t, m.Address, want, found, want*5/math.Sqrt(points)+5*math.Sqrt(want))
						case Maglev:
							near(t, m.Address, want, found, want*float64(n)*2/maglevTable+5*math.Sqrt(want))
						}
					}
					if limit := chance(float64(n - 1)); policy != RingHash && policy != Maglev && chi > limit {
						t.Errorf("chi-square: want at most %.0f, found %.0f", limit, chi)
					}
				})
			}
		}
	}
}

// A ring that is bounded to few points for each node, and a table of few entries, are less even, as far as is stated.
func TestSpreadOfManyNodes(t *testing.T) {
	for _, policy := range []Policy{RingHash, Maglev} {
		t.Run(policy.String(), func(t *testing.T) {
			members := crowd(5000, true)
			p := New(Config{Policy: policy}, members).(*picker).any.entries[0].group.policy
			shares := map[*Node]float64{}
			if r, ok := p.(*ring); ok {
				last := uint32(0)
				for _, pt := range r.points {
					shares[r.nodes[pt.node]] += float64(pt.at-last) / (1 << 32)
					last = pt.at
				}
				if len(r.points) > ringSize+len(members) {
					t.Errorf("want at most %d points, found %d", ringSize+len(members), len(r.points))
				}
			}
			if m, ok := p.(*maglev); ok {
				for _, at := range m.table {
					shares[m.nodes[at]] += 1 / float64(len(m.table))
				}
			}
			worst, square := 0.0, 0.0
			for _, m := range members {
				d := shares[m.Node]*5000 - 1
				worst, square = max(worst, math.Abs(d)), square+d*d
			}
			deviation := math.Sqrt(square / 5000)
			t.Logf("%s: standard deviation %.3f, worst %.3f of the mean share", policy, deviation, worst)
			limit, most := 0.16, 0.8 // 52 points: one in the root of 52
			if policy == Maglev {
				limit, most = 0.04, 0.09 // 13 entries, or 14
			}
			if deviation > limit || worst > most {
				t.Errorf("want a deviation of at most %.2f and %.2f at worst, found %.3f and %.3f", limit, most, deviation, worst)
			}
		})
	}
}

// In any stretch of a round robin, a node is taken as often as its weight says, but for a few calls.
func TestRoundRobinIsSmooth(t *testing.T) {
	type tuple struct {
		name    string
		weights []uint32
		off     float64 // most calls that a node may be before or behind its share in any stretch
		run     int     // most calls in a row to one node
	}
	mixed := make([]uint32, 50)
	for i := range mixed {
		mixed[i] = uint32(20 + i*37%160)
	}
	heavy := make([]uint32, 100)
	for i := range heavy {
		heavy[i] = 1
	}
	heavy[40] = 100
	for _, tt := range []tuple{
		{"1:1", []uint32{1, 1}, 1, 1},
		{"1:1:1:1:1", []uint32{1, 1, 1, 1, 1}, 1, 1},
		{"2:1", []uint32{2, 1}, 1.5, 2},
		{"5:1:1", []uint32{5, 1, 1}, 2, 5},
		{"9:1", []uint32{9, 1}, 2, 10},
		{"99:1", []uint32{99, 1}, 2, 100},
		{"3:2:1", []uint32{3, 2, 1}, 2, 2},
		{"100:101:99", []uint32{100, 101, 99}, 2, 2},
		{"4000000000:1", []uint32{4e9, 1}, 2, 1 << 30},
		{"50 mixed", mixed, 3, 2},
		{"one of half the weight", heavy, 5, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var members []Member
			for i, w := range tt.weights {
				members = append(members, member(address(i), w))
			}
			p := New(Config{}, members)
			sum := sumOf(members)
			ahead, low, high := map[*Node]float64{}, map[*Node]float64{}, map[*Node]float64{}
			var last *Node
			run, longest := 0, 0
			for range 5000 {
				n, err := p.Pick(Info{Subset: -1})
				if err != nil {
					t.Fatal(err)
				}
				if n == last {
					run++
				} else {
					last, run = n, 1
				}
				longest = max(longest, run)
				ahead[n]++
				for _, m := range members {
					ahead[m.Node] -= float64(m.Weight) / sum
					low[m.Node], high[m.Node] = min(low[m.Node], ahead[m.Node]), max(high[m.Node], ahead[m.Node])
				}
			}
			worst := 0.0
			for _, m := range members {
				// The farthest before its share, and the farthest behind it after or before: the most of any stretch.
				worst = max(worst, high[m.Node]-low[m.Node])
			}
			t.Logf("off by %.2f calls at most, %d in a row", worst, longest)
			if worst > tt.off || longest > tt.run {
				t.Errorf("want at most %.2f calls off and %d in a row, found %.2f and %d", tt.off, tt.run, worst, longest)
			}
		})
	}
}

// Places follow each other, also in rounds of odd sizes, wherever the count stands.
func TestRound(t *testing.T) {
	for _, size := range []uint64{2, 3, 7, 100, 5000, 65537, 1 << 31, 1<<32 - 1} {
		for _, from := range []uint32{0, 1, 1 << 20, 1 << 31, 1<<32 - 300} {
			var r round
			r.size, r.part = size, math.MaxUint64/size+1
			r.count.Store(from)
			for i := range uint64(299) {
				n := uint64(from) + 1 + i
				if rounds, at := r.next(); rounds != n/size || at != n%size {
					t.Fatalf("%d of %d: want round %d and place %d, found %d and %d", n, size, n/size, n%size, rounds, at)
				}
			}
		}
	}
}

// The least of weights beside the largest is too little for a stride and gets the smallest one there is.
func TestRoundRobinOfTheLeastWeight(t *testing.T) {
	least := member("a", 1)
	least.Share = 0.1
	r, ok := New(Config{}, []Member{least, member("b", 1<<32-1)}).(*picker).any.entries[0].group.policy.(*roundRobin)
	if !ok || r.slots[0].stride != 1 || r.slots[1].stride != whole {
		t.Errorf("want strides of 1 and %d, found %+v", uint64(whole), r)
	}
}

// The round is as long as stated: however uneven the weights, few slots are passed over for one that is taken.
func TestRoundRobinPassesOverFewSlots(t *testing.T) {
	for _, n := range []int{2, 10, 1000} {
		for _, heavy := range []uint32{1, 2, 100, 1e6} {
			t.Run(fmt.Sprintf("n=%d/heaviest=%d", n, heavy), func(t *testing.T) {
				members := crowd(n, true)
				for i := range members {
					members[i].Weight = 1
				}
				members[n/2].Weight = heavy
				p := New(Config{}, members)
				r, ok := p.(*picker).any.entries[0].group.policy.(*roundRobin)
				if !ok {
					return // all the same: none is passed over
				}
				before := r.round.count.Load()
				picks(t, p, 10_000, Info{Subset: -1})
				if per := float64(r.round.count.Load()-before) / 10_000; per > 3.1 || len(r.slots) > n+n/2+1 {
					t.Errorf("want at most 3.1 slots looked at for a call and %d slots, found %.2f and %d", n+n/2+1, per, len(r.slots))
				}
			})
		}
	}
}

// Calls that stay for a while even out: in flight by weight, none starved.
func TestLeastRequestInFlight(t *testing.T) {
	for _, even := range []bool{true, false} {
		for _, held := range []int{100, 1000} {
			t.Run(fmt.Sprintf("even=%v/held=%d", even, held), func(t *testing.T) {
				members := crowd(10, even)
				p, rnd := New(Config{Policy: LeastRequest}, members), seeded(1)
				var calls []*Node
				mean := map[*Node]float64{}
				for range 20 * held {
					n, err := p.Pick(Info{Subset: -1})
					if err != nil {
						t.Fatal(err)
					}
					n.Start()
					if calls = append(calls, n); len(calls) > held {
						j := rnd.IntN(len(calls))
						calls[j].Done()
						calls[j] = calls[len(calls)-1]
						calls = calls[:len(calls)-1]
					}
					for _, m := range members {
						mean[m.Node] += float64(m.Inflight()) / float64(20*held)
					}
				}
				for _, m := range members {
					want := 0.975 * float64(held) * float64(m.Weight) / sumOf(members) // it takes a twentieth of the time to get there
					near(t, m.Address, want, mean[m.Node], 1+want/10)
				}
			})
		}
	}
}

// A slow instance gets fewer calls under the policies that look, and is not starved. Time is simulated: each instance answers in
// its time, plus as much for each call it has already.
func TestSlowInstance(t *testing.T) {
	for _, tt := range []struct {
		policy    Policy
		atMost    float64 // of the calls that its weight would give it
		fastShare float64 // least that each other gets of what weights give
	}{
		{LeastRequest, 0.9, 0.9}, {PeakEWMA, 0.25, 0.8}, {RoundRobin, 1.1, 0.9},
	} {
		for _, even := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/even=%v", tt.policy, even), func(t *testing.T) {
				members := crowd(6, even)
				counts := simulate(t, New(Config{Policy: tt.policy}, members), members, 60_000, func(n *Node) int64 {
					if n == members[2].Node {
						return 100e6
					}
					return 10e6
				})
				total := 0
				for _, c := range counts {
					total += c
				}
				for i, m := range members {
					share := float64(counts[m.Node]) / float64(total) * sumOf(members) / float64(m.Weight)
					switch {
					case i == 2 && (share > tt.atMost || counts[m.Node] < 5):
						t.Errorf("slow: want some calls and at most %.2f of its share, found %.3f (%d)", tt.atMost, share, counts[m.Node])
					case i != 2 && share < tt.fastShare:
						t.Errorf("%s: want at least %.2f of its share, found %.3f", m.Address, tt.fastShare, share)
					}
				}
			})
		}
	}
}

// simulate sends a call each millisecond and counts who got it.
func simulate(t *testing.T, p Picker, members []Member, calls int, takes func(*Node) int64) map[*Node]int {
	t.Helper()
	type pending struct {
		node       *Node
		began, end int64
	}
	var open []pending
	counts := map[*Node]int{}
	rnd := seeded(2)
	for i := range calls {
		now := int64(i+1) * 1e6
		kept := open[:0]
		for _, c := range open {
			if c.end > now {
				kept = append(kept, c)
				continue
			}
			c.node.Observe(0+nanoseconds(c.end-c.began), now)
			c.node.Done()
		}
		open = kept
		n, err := p.Pick(Info{Subset: -1, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		n.Start()
		counts[n]++
		took := takes(n)
		open = append(open, pending{n, now, now + took*9/10 + rnd.Int64N(took/5)})
	}
	for _, c := range open {
		c.node.Done()
	}
	for _, m := range members {
		if m.Inflight() != 0 {
			t.Errorf("%s: want nothing in flight, found %d", m.Address, m.Inflight())
		}
	}
	return counts
}

// Latencies that are alike leave the spread to the weights.
func TestPeakEWMAByWeight(t *testing.T) {
	for _, even := range []bool{true, false} {
		t.Run(fmt.Sprintf("even=%v", even), func(t *testing.T) {
			members := crowd(8, even)
			counts := simulate(t, New(Config{Policy: PeakEWMA}, members), members, 60_000, func(*Node) int64 { return 100e6 })
			for _, m := range members {
				want := 60_000 * float64(m.Weight) / sumOf(members)
				near(t, m.Address, want, float64(counts[m.Node]), want/4)
			}
		})
	}
}

// An instance that nobody knows yet gets one call, and more when it has answered; one that fails is avoided though it fails soon.
func TestPeakEWMAProbesGently(t *testing.T) {
	members := crowd(3, true)
	for _, m := range members[:2] {
		m.Observe(nanoseconds(10e6), 1e9)
	}
	p := New(Config{Policy: PeakEWMA}, members)
	for range 1000 {
		n, err := p.Pick(Info{Subset: -1, Now: 1e9})
		if err != nil {
			t.Fatal(err)
		}
		if n.Start(); members[2].Inflight() > 1 {
			t.Fatal("want no second call to an instance before it has answered one")
		}
	}
	if members[2].Inflight() != 1 {
		t.Errorf("want one call to try it, found %d", members[2].Inflight())
	}
	for _, m := range members {
		for m.Inflight() > 0 {
			m.Done()
		}
	}
	members[2].ObserveFailure(1000, 1e9)
	if found := picks(t, p, 1000, Info{Subset: -1, Now: 1e9})[members[2].Node]; found != 0 {
		t.Errorf("want no calls to the one that failed, found %d", found)
	}
	for _, m := range members[:2] {
		m.Observe(nanoseconds(10e6), 100e9)
	}
	if found := picks(t, p, 1000, Info{Subset: -1, Now: 100e9})[members[2].Node]; found == 0 {
		t.Error("want it tried again after minutes, found no call")
	}
}

// What instances report of their load moves calls from the loaded ones, by as much as is stated.
func TestReportedLoad(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			members := crowd(4, true)
			for _, m := range members {
				m.Observe(nanoseconds(10e6), 1e9)
			}
			members[0].SetLoad(1, epoch)
			members[1].SetLoad(0.5, epoch)
			members[2].SetLoad(0, epoch)
			counts := picks(t, New(Config{Policy: policy}, members), 20_000, Info{Subset: -1, Now: 1e9})
			share := func(i int) float64 { return float64(counts[members[i].Node]) / 20_000 }
			switch policy {
			case RingHash, Maglev:
				near(t, "full", 0.25, share(0), 0.03)
			case PeakEWMA:
				near(t, "full", 0, share(0), 0)
			default:
				near(t, "full", 0.5/3.25, share(0), 0.015)
				near(t, "half", 0.75/3.25, share(1), 0.015)
				near(t, "idle", 1/3.25, share(2), 0.015)
				near(t, "silent", 1/3.25, share(3), 0.015)
			}
		})
	}
}

// An instance that has just come up gets its part of its weight, under every policy.
func TestSlowStartShare(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			members := crowd(5, true)
			members[0].Share = 0.1
			counts := picks(t, New(Config{Policy: policy}, members), 20_000, Info{Subset: -1})
			near(t, "share", 0.1/4.1, float64(counts[members[0].Node])/20_000, 0.01)
		})
	}
	for _, tt := range []struct{ age, want float64 }{{0, 0.1}, {1, 0.1}, {3, 0.3}, {10, 1}, {11, 1}} {
		near(t, "SlowStart", tt.want, SlowStart(seconds(tt.age), seconds(10)), 1e-9)
	}
	near(t, "without a window", 1, SlowStart(0, 0), 0)
}
