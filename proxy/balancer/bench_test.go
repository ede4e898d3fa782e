package balancer

import (
	"fmt"
	"testing"
)

// benchmarked are the composites that benchmarks and budgets look at.
var benchmarked = []struct {
	name string
	cfg  func(Policy) Config
}{
	{"plain", func(p Policy) Config { return Config{Policy: p} }},
	{"zone", func(p Policy) Config { return Config{Policy: p, ZoneFirst: true, Region: "r0", Zone: "r0-z0"} }},
	{"zone+subset", func(p Policy) Config {
		return Config{Policy: p, ZoneFirst: true, Region: "r0", Zone: "r0-z0", Subsets: []Subset{
			{Name: "v1", Match: map[string]string{"version": "v1"}, Weight: 90},
			{Name: "v2", Match: map[string]string{"version": "v2"}, Weight: 10},
		}}
	}},
}

// fleet is n members in two regions of two zones, four in five of version v1, of priority 0. Of every ten, weights differ when
// asked for, and one is down.
func fleet(n int, even bool) []Member {
	members := make([]Member, n)
	for i := range members {
		region := fmt.Sprintf("r%d", i/2%2)
		m := member(fmt.Sprintf("10.%d.%d.%d:8080", i>>16, i>>8&255, i&255), 100)
		m.Region, m.Zone = region, fmt.Sprintf("%s-z%d", region, i/4%2)
		m.Meta = map[string]string{"version": "v1"}
		if i%5 == 1 {
			m.Meta["version"] = "v2"
		}
		if m.Up = i%10 != 9; !even {
			m.Weight = uint32(50 + i*37%100)
		}
		members[i] = m
	}
	return members
}

func BenchmarkPick(b *testing.B) {
	for _, c := range benchmarked {
		for _, policy := range policies {
			for _, n := range []int{2, 100, 5000} {
				for _, even := range []bool{true, false} {
					b.Run(fmt.Sprintf("%s/%s/n=%d/even=%v", c.name, policy, n, even), func(b *testing.B) {
						p := New(c.cfg(policy), fleet(n, even))
						info := Info{Hashed: true, Subset: -1, Now: 1}
						b.ReportAllocs()
						for b.Loop() {
							info.Hash++
							if _, err := p.Pick(info); err != nil {
								b.Fatal(err)
							}
						}
					})
				}
			}
		}
	}
}

func BenchmarkPickParallel(b *testing.B) {
	for _, policy := range policies {
		b.Run(policy.String(), func(b *testing.B) {
			p := New(Config{Policy: policy}, fleet(100, false))
			b.RunParallel(func(pb *testing.PB) {
				info := Info{Hashed: true, Subset: -1, Now: 1}
				for pb.Next() {
					info.Hash++
					if _, err := p.Pick(info); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, c := range benchmarked {
		for _, policy := range policies {
			for _, n := range []int{2, 100, 5000} {
				b.Run(fmt.Sprintf("%s/%s/n=%d", c.name, policy, n), func(b *testing.B) {
					members := fleet(n, false)
					b.ReportAllocs()
					for b.Loop() {
						New(c.cfg(policy), members)
					}
				})
			}
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	n := member("a", 1).Node
	now := int64(0)
	for b.Loop() {
		now += 1 << 18
		n.Observe(1<<20, now)
	}
}
