package balancer

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
)

var hashing = []Policy{RingHash, Maglev}

const keys = 20_000

// owners is who takes each key, by address.
func owners(t *testing.T, cfg Config, members []Member) []string {
	t.Helper()
	p := New(cfg, members)
	out := make([]string, keys)
	for i := range out {
		n, err := p.Pick(Info{Hash: uint64(i), Hashed: true, Subset: -1})
		if err != nil {
			t.Fatal(err)
		}
		out[i] = n.Address
	}
	return out
}

// moved is the part of keys that have another owner than before, of those that were not of the one named, and of all.
func moved(before, after []string, gone string) (others, all float64) {
	stayed, changed := 0, 0
	for i := range before {
		if before[i] != after[i] {
			all++
		}
		if before[i] == gone || after[i] == gone {
			continue
		}
		stayed++
		if before[i] != after[i] {
			changed++
		}
	}
	return float64(changed) / float64(stayed), all / float64(len(before))
}

// One of n that goes, or comes, moves its own keys and few besides; so does one that is down and is up again, or changes its
// weight.
func TestStability(t *testing.T) {
	for _, policy := range hashing {
		for _, n := range []int{2, 3, 10, 100, 4000} {
			for _, even := range []bool{true, false} {
				if raceEnabled && n > 10 {
					continue // the same at ten times the time
				}
				t.Run(fmt.Sprintf("%s/n=%d/even=%v", policy, n, even), func(t *testing.T) {
					cfg := Config{Policy: policy, Panic: -1}
					members := crowd(n, even)
					gone := &members[n/3]
					before := owners(t, cfg, members)
					share := float64(gone.Weight) / sumOf(members)

					without := owners(t, cfg, slices.Delete(slices.Clone(members), n/3, n/3+1))
					others, all := moved(before, without, gone.Address)
					// Of a ring, nobody else's keys move as long as each has its 256 points; points are counted by the median weight, which
					// may change with the one that goes. Of maglev, those whose owners lose a place to another's next choice.
					limit := 0.0
					switch {
					case policy == Maglev && n > 1:
						limit = 0.02 + 2*share
					case !even || n > ringSize/pointsEach:
						limit = 0.005 + 1.5*share
					}
					if others > limit || all > 0.01+limit+1.6*share {
						t.Errorf("one of %d gone (%.4f of the keys): want at most %.4f of the others' keys moved, found %.4f; of all %.4f", n, share, limit, others, all)
					}
					if i := slices.Index(without, gone.Address); i >= 0 {
						t.Errorf("key %d: want it with somebody else", i)
					}

					gone.Up = false
					if down := owners(t, cfg, members); !slices.Equal(down, without) {
						t.Error("want one that is down to leave the others what one that is gone leaves them")
					}
					gone.Up = true
					if again := owners(t, cfg, members); !slices.Equal(again, before) {
						t.Error("want everything as before when it is up again")
					}
					gone.Share = 0.5
					half := owners(t, cfg, members)
					if others, all := moved(before, half, gone.Address); others > limit || all > 0.015+limit+share {
						t.Errorf("half the weight: want at most %.4f of the others' keys moved, found %.4f; of all %.4f", limit, others, all)
					}
				})
			}
		}
	}
}

// Who takes a key does not depend on the order in which instances are listed.
func TestHashKnowsNoOrder(t *testing.T) {
	for _, policy := range hashing {
		for _, even := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/even=%v", policy, even), func(t *testing.T) {
				members := crowd(50, even)
				before := owners(t, Config{Policy: policy}, members)
				seeded(3).Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
				if after := owners(t, Config{Policy: policy}, members); !slices.Equal(before, after) {
					t.Error("want the same owners in any order")
				}
			})
		}
	}
}

// Gateways agree, also those of another release: who takes a key is fixed here. If this has to change, every cache behind such
// a service is cold on the day of the update.
func TestHashIsTheSameEverywhere(t *testing.T) {
	for _, tt := range []struct {
		policy Policy
		want   []string
	}{
		{RingHash, []string{"3", "6", "1", "6", "5", "3", "4", "2", "4", "4", "4", "3"}},
		{Maglev, []string{"4", "3", "6", "4", "1", "3", "5", "2", "4", "3", "4", "2"}},
	} {
		t.Run(tt.policy.String(), func(t *testing.T) {
			p := New(Config{Policy: tt.policy}, crowd(7, false))
			var found []string
			for i := range 12 {
				n, err := p.Pick(Info{Hash: uint64(i) * 1e15, Hashed: true, Subset: -1})
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, n.Address[len("10.0.0."):len("10.0.0.0")])
			}
			if !slices.Equal(found, tt.want) {
				t.Errorf("want %q, found %q", tt.want, found)
			}
		})
	}
}

// A call that was refused goes to the next on the ring, the same one each time; a call without a key goes anywhere.
func TestNextOnTheRing(t *testing.T) {
	for _, policy := range hashing {
		t.Run(policy.String(), func(t *testing.T) {
			p := New(Config{Policy: policy}, crowd(10, true))
			seconds := map[*Node]bool{}
			for i := range uint64(2000) {
				info := Info{Hash: i, Hashed: true, Subset: -1}
				first, err := p.Pick(info)
				if err != nil {
					t.Fatal(err)
				}
				info.Tried = []*Node{first}
				second, err := p.Pick(info)
				again, _ := p.Pick(info)
				if err != nil || second == first || second != again {
					t.Fatalf("key %d: want another one after %s, always the same, found %v and %v, %v", i, first.Address, second, again, err)
				}
				seconds[second] = true
			}
			if len(seconds) != 10 {
				t.Errorf("want the keys of one to go on to all the others, found %d of 10", len(seconds))
			}
			anywhere := map[*Node]bool{}
			for range 1000 {
				n, err := p.Pick(Info{Hash: 5, Subset: -1})
				if err != nil {
					t.Fatal(err)
				}
				anywhere[n] = true
			}
			if len(anywhere) != 10 {
				t.Errorf("without a key: want all of 10, found %d", len(anywhere))
			}
		})
	}
}

// Weights far apart and tables too small starve nobody and end.
func TestHashOfOddSizes(t *testing.T) {
	for _, policy := range hashing {
		for _, tt := range []struct {
			n, ringSize, table int
			heaviest           uint32
		}{
			{2, 0, 0, 4e9}, {5000, 0, 0, 1e6}, {300, 1, 1, 1}, {1, 0, 0, 1}, {20, 100, 7, 3}, {9000, 50_000, 0, 1},
		} {
			if raceEnabled && tt.n > 1000 {
				continue // the same at ten times the time
			}
			t.Run(fmt.Sprintf("%s/n=%d/heaviest=%d", policy, tt.n, tt.heaviest), func(t *testing.T) {
				members := crowd(tt.n, true)
				for i := range members {
					members[i].Weight = 1
				}
				members[tt.n/2].Weight = tt.heaviest
				p := New(Config{Policy: policy, RingSize: tt.ringSize, Table: tt.table}, members)
				has := map[*Node]bool{}
				switch p := p.(*picker).any.entries[0].group.policy.(type) {
				case *ring:
					for _, pt := range p.points {
						has[p.nodes[pt.node]] = true
					}
					if !slices.IsSortedFunc(p.points, func(a, b point) int { return cmp.Compare(a.at, b.at) }) {
						t.Error("want the points in order")
					}
				case *maglev:
					for _, at := range p.table {
						has[p.nodes[at]] = true
					}
				case single:
					has[p.node] = true
				}
				if len(has) != tt.n {
					t.Errorf("want each of %d in the table, found %d", tt.n, len(has))
				}
				picks(t, p, 1000, Info{Subset: -1})
			})
		}
	}
}

func TestPrime(t *testing.T) {
	for _, tt := range [][2]int{{0, 2}, {2, 2}, {4, 5}, {65536, 65537}, {65537, 65537}, {524296, 524309}} {
		if p := prime(tt[0]); p != tt[1] {
			t.Errorf("from %d: want %d, found %d", tt[0], tt[1], p)
		}
	}
}
