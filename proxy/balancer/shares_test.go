package balancer

import (
	"fmt"
	"testing"
)

// The shares of priorities, from Envoy's documentation; it counts in whole per cent.
func TestPriorityShares(t *testing.T) {
	for _, tt := range []struct {
		up, want []float64
		enough   bool
	}{
		{[]float64{100}, []float64{100}, true},
		{[]float64{50}, []float64{100}, false},
		{[]float64{100, 100}, []float64{100, 0}, true},
		{[]float64{72, 72}, []float64{100, 0}, true},
		{[]float64{71, 71}, []float64{99.4, 0.6}, true},
		{[]float64{50, 50}, []float64{70, 30}, true},
		{[]float64{50, 60}, []float64{70, 30}, true},
		{[]float64{25, 100}, []float64{35, 65}, true},
		{[]float64{0, 100}, []float64{0, 100}, true},
		{[]float64{25, 25}, []float64{50, 50}, false},
		{[]float64{5, 65}, []float64{7.14, 92.86}, false},
		{[]float64{50, 50, 100}, []float64{70, 30, 0}, true},
		{[]float64{25, 25, 100}, []float64{35, 35, 30}, true},
		{[]float64{25, 25, 20}, []float64{35.7, 35.7, 28.6}, false},
		{[]float64{0, 0}, []float64{100, 0}, false},
		{nil, nil, false},
	} {
		t.Run(fmt.Sprint(tt.up), func(t *testing.T) {
			var crews []crew
			for i, up := range tt.up {
				size := float64(10 * (i + 1)) // sizes do not matter
				crews = append(crews, crew{up * size / 100, size})
			}
			shares, enough := priorityShares(crews, 1.4)
			sum := 0.0
			for i := range shares {
				near(t, fmt.Sprint("priority ", i), tt.want[i]/100, shares[i], 0.0006)
				sum += shares[i]
			}
			if enough != tt.enough {
				t.Errorf("enough: want %v, found %v", tt.enough, enough)
			}
			if len(shares) > 0 {
				near(t, "sum", 1, sum, 1e-9)
			}
		})
	}
}

func TestNearShare(t *testing.T) {
	for _, tt := range []struct {
		name            string
		near, elsewhere crew
		places          int
		want            float64
	}{
		{"all well", crew{4, 4}, crew{4, 4}, 2, 1},
		{"3 of 4", crew{3, 4}, crew{4, 4}, 2, 1},
		{"2 of 4: what they can carry", crew{2, 4}, crew{4, 4}, 2, 0.7},
		{"1 of 4: the whole is short too", crew{1, 4}, crew{4, 4}, 2, 0.35 / 0.875},
		{"none", crew{0, 4}, crew{4, 4}, 2, 0},
		{"half of everybody: nowhere is better", crew{2, 4}, crew{2, 4}, 2, 1},
		{"half of everybody, 3 places", crew{2, 4}, crew{4, 8}, 3, 1},
		{"worse than the others, who are bad", crew{1, 4}, crew{2, 4}, 2, 0.35 / 0.525},
		{"the others gone", crew{1, 4}, crew{0, 4}, 2, 1},
		{"nobody else", crew{1, 4}, crew{}, 1, 1},
		{"no instance here", crew{}, crew{4, 4}, 2, 0},
		{"1 against 9: 1.4 of the mean", crew{1, 1}, crew{9, 9}, 2, 0.28},
		{"9 against 1", crew{9, 9}, crew{1, 1}, 2, 1},
		{"3 places, one small", crew{2, 2}, crew{8, 8}, 3, 0.84},
	} {
		t.Run(tt.name, func(t *testing.T) {
			whole := crew{tt.near.up + tt.elsewhere.up, tt.near.all + tt.elsewhere.all}
			near(t, "share", tt.want, nearShare(tt.near, whole, tt.places, 1.4), 1e-9)
		})
	}
}

// Whatever the state of things: nothing goes where nobody is up, nothing spills when all are, an instance nearby is never made to
// carry more than it should, and the more of them are up the more stays.
func TestNearShareHoldsItsBounds(t *testing.T) {
	rnd := seeded(4)
	for range 20_000 {
		places, factor := 1+rnd.IntN(5), 1+rnd.Float64()
		own := crew{all: float64(1 + rnd.IntN(20))}
		own.up = float64(rnd.IntN(int(own.all) + 1))
		whole := own
		for range places - 1 {
			all := 1 + rnd.IntN(20)
			whole.all += float64(all)
			whole.up += float64(rnd.IntN(all + 1))
		}
		share := nearShare(own, whole, places, factor)
		at := fmt.Sprintf("%+v of %+v in %d places, factor %.2f: %.4f", own, whole, places, factor, share)
		switch {
		case share < 0 || share > 1:
			t.Fatal("want a share, found " + at)
		case own.up == 0 && share != 0:
			t.Fatal("want nothing where nobody is up, found " + at)
		case own.up > 0 && whole.up == own.up && share != 1:
			t.Fatal("want everything where nobody else is up, found " + at)
		case own.up == own.all && factor*float64(places)*own.up >= whole.up && share != 1:
			t.Fatal("want everything while all are well and enough, found " + at)
		}
		// Of calls that come evenly to the places, an instance here gets at most factor times the mean.
		if each, mean := share/float64(places)/own.up, 1/whole.up; own.up > 0 && each > factor*mean*(1+1e-6) {
			t.Fatal("want no overload, found " + at)
		}
		if own.up < own.all {
			more, larger := crew{own.up + 1, own.all}, crew{whole.up + 1, whole.all}
			if better := nearShare(more, larger, places, factor); better < share-1e-9 {
				t.Fatalf("want no less with one more up, found %.4f after %s", better, at)
			}
		}
	}
}

// In any scene, groups take what is planned, all together the whole, and within a group nodes take what their weights say.
func TestScenesAsPlanned(t *testing.T) {
	const calls = 4000
	for seed := range uint64(150) {
		cfg, members := scene(seed, RoundRobin)
		p := New(cfg, members)
		for subset := -1; subset < len(cfg.Subsets); subset++ {
			tb := &p.(*picker).any
			if subset >= 0 {
				tb = &p.(*picker).subsets[subset]
			}
			if len(tb.entries) == 0 {
				continue
			}
			counts := picks(t, p, calls, Info{Subset: subset})
			sum := 0.0
			for _, e := range tb.entries {
				of, weights := 0, 0.0
				for _, n := range e.group.nodes {
					of += counts[n]
					weights += weightOf(members, n)
				}
				sum += e.share
				near(t, fmt.Sprintf("seed %d, subset %d: share of %+v", seed, subset, e.group.Group), e.share, float64(of)/calls, 0.005)
				for _, n := range e.group.nodes {
					near(t, fmt.Sprintf("seed %d, subset %d: %s of %d calls", seed, subset, n.Address, of), float64(of)*weightOf(members, n)/weights, float64(counts[n]), 4)
				}
			}
			near(t, fmt.Sprintf("seed %d, subset %d: sum of shares", seed, subset), 1, sum, 1e-9)
		}
	}
}

// weightOf is what a node is to take among those of its group.
func weightOf(members []Member, n *Node) float64 {
	for _, m := range members {
		if m.Node == n {
			w := float64(m.Weight)
			if m.Share > 0 && m.Share < 1 {
				w *= m.Share
			}
			return w
		}
	}
	return 0
}
