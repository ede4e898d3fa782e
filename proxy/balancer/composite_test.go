package balancer

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// place is a member somewhere.
func place(i int, region, zone string, up bool) Member {
	m := member(address(i), 10)
	m.Region, m.Zone, m.Up = region, zone, up
	return m
}

// places makes members of "region/zone:up/all" each.
func places(t *testing.T, specs ...string) []Member {
	t.Helper()
	var members []Member
	for _, s := range specs {
		var region, zone string
		var up, all int
		if _, err := fmt.Sscanf(s, "%s %s %d %d", &region, &zone, &up, &all); err != nil {
			t.Fatal(err)
		}
		if region == "-" {
			region = ""
		}
		if zone == "-" {
			zone = ""
		}
		for i := range all {
			members = append(members, place(len(members), region, zone, i < up))
		}
	}
	return members
}

// The shares of zone, region and elsewhere by the documented formula, and what picks make of them.
func TestZoneFirst(t *testing.T) {
	for _, tt := range []struct {
		name         string
		region, zone string // of the gateway
		members      []string
		want         [3]float64 // zone, region, elsewhere
	}{
		{"two zones, all well", "", "a", []string{"- a 4 4", "- b 4 4"}, [3]float64{1, 0, 0}},
		{"two zones, half of the own", "", "a", []string{"- a 2 4", "- b 4 4"}, [3]float64{0.7, 0.3, 0}},
		{"two zones, the own dead", "", "a", []string{"- a 0 4", "- b 4 4"}, [3]float64{0, 1, 0}},
		{"two zones, the other dead", "", "a", []string{"- a 4 4", "- b 0 4"}, [3]float64{1, 0, 0}},
		{"two zones, none in the own", "", "c", []string{"- a 4 4", "- b 4 4"}, [3]float64{0, 1, 0}},
		{"a small zone", "", "a", []string{"- a 1 1", "- b 9 9"}, [3]float64{0.28, 0.72, 0}},
		{"two data centres, all well", "x", "a", []string{"x a 2 2", "x b 2 2", "y c 2 2", "y d 2 2"}, [3]float64{1, 0, 0}},
		{"own zone dead", "x", "a", []string{"x a 0 4", "x b 4 4", "y c 4 4", "y d 4 4"}, [3]float64{0, 0.7, 0.3}},
		{"own zone half", "x", "a", []string{"x a 2 4", "x b 4 4", "y c 4 4", "y d 4 4"}, [3]float64{0.7, 0.3, 0}},
		{
			"worse here than there, and there than elsewhere", "x", "a",
			[]string{"x a 1 4", "x b 2 4", "y c 4 4", "y d 4 4"},
			[3]float64{0.525 / 0.9625 * 2 / 3, 0.525 / 0.9625 / 3, 1 - 0.525/0.9625},
		},
		{"own data centre dead", "x", "a", []string{"x a 0 4", "x b 0 4", "y c 4 4", "y d 4 4"}, [3]float64{0, 0, 1}},
		{"other data centre dead", "x", "a", []string{"x a 4 4", "x b 4 4", "y c 0 4", "y d 0 4"}, [3]float64{1, 0, 0}},
		{"region without zones", "x", "", []string{"x a 4 4", "x b 4 4", "y c 4 4"}, [3]float64{0, 1, 0}},
		{"instances name zones only", "x", "a", []string{"- a 4 4", "- b 4 4"}, [3]float64{1, 0, 0}},
		{"a zone of the same name elsewhere", "x", "a", []string{"x a 0 4", "y a 4 4"}, [3]float64{0, 0, 1}},
		{"panic: 2 of 8, all taken", "", "a", []string{"- a 0 4", "- b 2 4"}, [3]float64{1, 0, 0}},
		{"instances without a place", "x", "a", []string{"- - 4 4", "x a 4 4"}, [3]float64{1, 0, 0}},
	} {
		for _, policy := range checked() {
			t.Run(tt.name+"/"+policy.String(), func(t *testing.T) {
				members := places(t, tt.members...)
				cfg := Config{Policy: policy, ZoneFirst: true, Region: tt.region, Zone: tt.zone}
				p := New(cfg, members)
				var shares [3]float64
				for _, g := range Groups(p) {
					shares[g.Distance-SameZone] += g.Share
				}
				of := map[*Node]int{}
				for i := range members {
					of[members[i].Node] = int((&builder{&cfg}).distance(&members[i]) - SameZone)
				}
				const calls = 20_000
				var found [3]float64
				counts := picks(t, p, calls, Info{Subset: -1})
				for n, c := range counts {
					found[of[n]] += float64(c) / calls
				}
				for i, d := range []Distance{SameZone, SameRegion, Elsewhere} {
					near(t, d.String()+" as planned", tt.want[i], shares[i], 1e-9)
					near(t, d.String()+" as picked", tt.want[i], found[i], 0.025)
					if tt.want[i] == 0 && found[i] != 0 {
						t.Errorf("%s: want no call, found %.4f", d, found[i])
					}
				}
				if policy == RingHash {
					return // its points are uneven
				}
				for i := range members { // within a place, evenly
					peers := 0.0
					for j := range members {
						if of[members[j].Node] == of[members[i].Node] && counts[members[j].Node] > 0 {
							peers++
						}
					}
					if c := counts[members[i].Node]; c > 0 {
						near(t, members[i].Address, found[of[members[i].Node]]*calls/peers, float64(c), 500)
					}
				}
			})
		}
	}
}

// Without being asked, nobody looks at zones.
func TestZonesOffByDefault(t *testing.T) {
	members := places(t, "x a 1 1", "y b 3 3")
	for _, cfg := range []Config{{Region: "x", Zone: "a"}, {ZoneFirst: true}} {
		near(t, "own zone", 0.25, float64(picks(t, New(cfg, members), 4000, Info{Subset: -1})[members[0].Node])/4000, 0.001)
	}
}

func TestPriorities(t *testing.T) {
	for _, policy := range checked() {
		for _, tt := range []struct {
			name  string
			up    []int // of 4 at each priority
			panic float64
			want  []float64
			from  []int // how many instances take calls at each
		}{
			{"all well", []int{4, 4, 4}, 0, []float64{1, 0, 0}, []int{4, 0, 0}},
			{"3 of 4", []int{3, 4, 4}, 0, []float64{1, 0, 0}, []int{3, 0, 0}},
			{"half", []int{2, 4, 4}, 0, []float64{0.7, 0.3, 0}, []int{2, 4, 0}},
			{"one, one", []int{1, 1, 4}, 0, []float64{0.35, 0.35, 0.3}, []int{1, 1, 4}},
			{"none", []int{0, 4, 4}, 0, []float64{0, 1, 0}, []int{0, 4, 0}},
			{"none, none", []int{0, 0, 4}, 0, []float64{0, 0, 1}, []int{0, 0, 4}},
			{"together enough", []int{1, 2, 0}, 0, []float64{0.35, 0.65, 0}, []int{1, 2, 0}},
			{"panic everywhere", []int{1, 1, 0}, 0, []float64{0.5, 0.5, 0}, []int{4, 4, 0}},
			{"all down", []int{0, 0, 0}, 0, []float64{1, 0, 0}, []int{4, 0, 0}},
			{"no panic", []int{1, 1, 0}, -1, []float64{0.5, 0.5, 0}, []int{1, 1, 0}},
			{"early panic", []int{2, 1, 0}, 0.7, []float64{0.7, 0.3, 0}, []int{2, 1, 0}}, // together enough: none
			{"no panic while others can", []int{1, 4, 0}, 0.9, []float64{0.35, 0.65, 0}, []int{1, 4, 0}},
		} {
			t.Run(tt.name+"/"+policy.String(), func(t *testing.T) {
				var members []Member
				for p, up := range tt.up {
					for i := range 4 {
						m := member(address(len(members)), 7)
						m.Priority, m.Up = uint32(10*p), i < up
						members = append(members, m)
					}
				}
				counts := picks(t, New(Config{Policy: policy, Panic: tt.panic}, members), 20_000, Info{Subset: -1})
				for p := range tt.up {
					calls, from := 0, 0
					for _, m := range members {
						if m.Priority == uint32(10*p) && counts[m.Node] > 0 {
							calls += counts[m.Node]
							from++
						}
					}
					near(t, fmt.Sprint("priority ", p), tt.want[p], float64(calls)/20_000, 0.02)
					if from != tt.from[p] {
						t.Errorf("priority %d: want calls to %d instances, found %d", p, tt.from[p], from)
					}
				}
			})
		}
	}
}

// Below the threshold at one priority, above it at the next, and together too few: only the first takes all.
func TestPanicOfOnePriority(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy.String(), func(t *testing.T) {
			members := places(t, "- - 1 4", "- - 2 4")
			for i := range members[4:] {
				members[4+i].Priority = 1
			}
			counts := picks(t, New(Config{Policy: policy, Overprovision: 1}, members), 20_000, Info{Subset: -1})
			first, second := 0, 0
			for i, m := range members {
				switch c := counts[m.Node]; {
				case i < 4 && c == 0, i >= 6 && c > 0, i >= 4 && i < 6 && c == 0:
					t.Errorf("instance %d: found %d calls", i, c)
				case i < 4:
					first += c
				default:
					second += c
				}
			}
			near(t, "first", 1./3, float64(first)/20_000, 0.02)
			near(t, "second", 2./3, float64(second)/20_000, 0.02)
		})
	}
}

// versions are members of versions, "v1 up all" each.
func versions(t *testing.T, specs ...string) []Member {
	t.Helper()
	var members []Member
	for _, s := range specs {
		var version string
		var up, all int
		if _, err := fmt.Sscanf(s, "%s %d %d", &version, &up, &all); err != nil {
			t.Fatal(err)
		}
		for i := range all {
			m := member(address(len(members)), 10)
			m.Up, m.Meta = i < up, map[string]string{"version": version, "x": "y"}
			members = append(members, m)
		}
	}
	return members
}

func TestSubsets(t *testing.T) {
	subsets := func(w1, w2 uint32) []Subset {
		return []Subset{
			{Name: "stable", Match: map[string]string{"version": "v1"}, Weight: w1},
			{Name: "canary", Match: map[string]string{"version": "v2", "x": "y"}, Weight: w2},
		}
	}
	for _, tt := range []struct {
		name    string
		subsets []Subset
		members []string
		subset  int
		want    map[string]float64 // by version
		err     string
	}{
		{"by weight", subsets(90, 10), []string{"v1 2 2", "v2 5 5"}, -1, map[string]float64{"v1": 0.9, "v2": 0.1}, ""},
		{"by weight, others out", subsets(1, 1), []string{"v1 2 2", "v2 5 5", "v3 4 4"}, -1, map[string]float64{"v1": 0.5, "v2": 0.5}, ""},
		{"pinned", subsets(90, 10), []string{"v1 2 2", "v2 5 5"}, 1, map[string]float64{"v2": 1}, ""},
		{"pinned to one of weight 0", subsets(90, 0), []string{"v1 2 2", "v2 5 5"}, 1, map[string]float64{"v2": 1}, ""},
		{"weight 0 gets none", subsets(90, 0), []string{"v1 2 2", "v2 5 5"}, -1, map[string]float64{"v1": 1}, ""},
		{"no weights: all", subsets(0, 0), []string{"v1 2 2", "v3 2 2"}, -1, map[string]float64{"v1": 0.5, "v3": 0.5}, ""},
		{"nobody is of the canary", subsets(90, 10), []string{"v1 2 2"}, -1, map[string]float64{"v1": 1}, ""},
		{"all of the canary down", subsets(90, 10), []string{"v1 2 2", "v2 0 3"}, -1, map[string]float64{"v1": 1}, ""},
		{"pinned to the canary, all down: panic", subsets(90, 10), []string{"v1 2 2", "v2 0 3"}, 1, map[string]float64{"v2": 1}, ""},
		{"everybody down: panic", subsets(50, 50), []string{"v1 0 2", "v2 0 3"}, -1, map[string]float64{"v1": 0.5, "v2": 0.5}, ""},
		{"pinned, nobody", subsets(90, 10), []string{"v1 2 2"}, 1, nil, `no instance is available: subset "canary": none of 2 known belongs to it`},
		{"nobody of any", subsets(90, 10), []string{"v3 2 2"}, -1, nil, `no instance is available: subset "stable": none of 2 known belongs to it; subset "canary": none of 2 known belongs to it`},
		{"of weight 0, or of no subset", subsets(90, 0), []string{"v3 2 2"}, -1, nil, `no instance is available: subset "stable": none of 2 known belongs to it`},
		{"no such subset", subsets(90, 10), []string{"v1 2 2"}, 2, nil, "no instance is available: the service has no such subset"},
	} {
		for _, policy := range checked() {
			t.Run(tt.name+"/"+policy.String(), func(t *testing.T) {
				members := versions(t, tt.members...)
				p := New(Config{Policy: policy, Subsets: tt.subsets}, members)
				if tt.want == nil {
					_, err := p.Pick(Info{Subset: tt.subset})
					if !errors.Is(err, ErrNoNode) || err.Error() != tt.err {
						t.Fatalf("want %q, found %q", tt.err, err)
					}
					return
				}
				found := map[string]float64{}
				counts := picks(t, p, 20_000, Info{Subset: tt.subset})
				for _, m := range members {
					found[m.Meta["version"]] += float64(counts[m.Node]) / 20_000
				}
				for v, share := range found {
					near(t, v, tt.want[v], share, 0.02)
				}
			})
		}
	}
}

// What a subset asks for, an instance must have, if only as an empty value.
func TestWhoBelongsToASubset(t *testing.T) {
	m := member("a", 1)
	m.Region, m.Zone, m.Meta = "x", "b", map[string]string{"version": "v1", "empty": "", "zone": "other"}
	for _, tt := range []struct {
		match map[string]string
		want  bool
	}{
		{nil, true},
		{map[string]string{"version": "v1"}, true},
		{map[string]string{"version": "v1", "zone": "b", "region": "x"}, true},
		{map[string]string{"version": "v1", "zone": "a"}, false},
		{map[string]string{"zone": "other"}, false},
		{map[string]string{"region": "y"}, false},
		{map[string]string{"empty": ""}, true},
		{map[string]string{"missing": ""}, false},
		{map[string]string{"version": "V1"}, false},
	} {
		if found := (&Subset{Match: tt.match}).Has(&m); found != tt.want {
			t.Errorf("%v: want %v, found %v", tt.match, tt.want, found)
		}
	}
}

// A subset keeps its share where it has instances of a later priority only, and its own zones.
func TestSubsetsHaveTheirOwnPriorities(t *testing.T) {
	members := versions(t, "v1 4 4", "v2 2 2")
	for i := range members {
		if members[i].Meta["version"] == "v2" {
			members[i].Priority = 1
		}
	}
	p := New(Config{Subsets: []Subset{
		{Name: "v1", Match: map[string]string{"version": "v1"}, Weight: 3}, {Name: "v2", Match: map[string]string{"version": "v2"}, Weight: 1},
	}}, members)
	counts := picks(t, p, 4000, Info{Subset: -1})
	near(t, "v2", 0.25, float64(counts[members[4].Node]+counts[members[5].Node])/4000, 0.001)
	want := []Group{
		{Subset: "v1", Members: 4, Up: 4, Share: 0.75, Pinned: 1},
		{Subset: "v2", Priority: 1, Members: 2, Up: 2, Share: 0.25, Pinned: 1},
	}
	if d := cmp.Diff(want, Groups(p)); d != "" {
		t.Error(d)
	}
}

// Under a hashing policy, a key stays in its subset and its place, and of a canary that grows nobody goes back.
func TestKeysStayInTheirSubset(t *testing.T) {
	for _, policy := range hashing {
		t.Run(policy.String(), func(t *testing.T) {
			members := versions(t, "v1 4 4", "v2 4 4")
			version := map[*Node]string{}
			for _, m := range members {
				version[m.Node] = m.Meta["version"]
			}
			of := func(canary uint32) []string {
				p := New(Config{Policy: policy, Subsets: []Subset{
					{Name: "v1", Match: map[string]string{"version": "v1"}, Weight: 100 - canary},
					{Name: "v2", Match: map[string]string{"version": "v2"}, Weight: canary},
				}}, members)
				var out []string
				for i := range uint64(5000) {
					n, err := p.Pick(Info{Hash: i, Hashed: true, Subset: -1})
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, version[n])
				}
				return out
			}
			few, again, more := of(10), of(10), of(30)
			if !slices.Equal(few, again) {
				t.Error("want the same version for the same key")
			}
			for i := range few {
				if few[i] == "v2" && more[i] == "v1" {
					t.Fatalf("key %d: want it to stay with the canary when that grows", i)
				}
			}
		})
	}
}

func TestWhyNobody(t *testing.T) {
	for _, tt := range []struct {
		name    string
		members []Member
		want    string
	}{
		{"none", nil, "no instance is available: none is known"},
		{"down", places(t, "- - 0 3"), "no instance is available: of 3 known, 3 not well"},
		{"weight 0", []Member{{Node: member("a", 0).Node, Up: true}}, "no instance is available: of 1 known, 1 with weight 0"},
		{"both", append(places(t, "- - 0 3"), member("a", 0), member("b", 0)), "no instance is available: of 5 known, 2 with weight 0, 3 not well"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(Config{Panic: -1}, tt.members).Pick(Info{Subset: -1})
			if !errors.Is(err, ErrNoNode) || err.Error() != tt.want {
				t.Errorf("want %q, found %q", tt.want, err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	var found []string
	for _, p := range policies {
		found = append(found, p.String())
	}
	for _, d := range []Distance{Anywhere, SameZone, SameRegion, Elsewhere} {
		found = append(found, d.String())
	}
	want := []string{"round_robin", "least_request", "peak_ewma", "ring_hash", "maglev", "random", "", "zone", "region", "elsewhere"}
	if d := cmp.Diff(want, found); d != "" {
		t.Error(d)
	}
	if Groups(nil) != nil {
		t.Error("want no groups of nothing")
	}
}
