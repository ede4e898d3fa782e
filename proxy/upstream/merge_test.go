package upstream

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/registry"
)

func TestMergeOfTwoRegistriesDuringAMigration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{}, nil, "old", "new")
		defer b.end()
		b.update("old", up("a"), up("b"), up("c"))
		b.update("new")
		b.wantPicked("before", "a", "b", "c")
		// a registers in the new registry too, with other figures; d only there.
		b.update("new", with(up("a"), func(ep *registry.Endpoint) { ep.ID, ep.Weight, ep.Zone = "A", 7, "z2" }), up("d"))
		b.wantPicked("both", "a", "b", "c", "d")
		v := b.instance("a")
		if !slices.Equal(v.IDs, []string{"a", "A"}) || !slices.Equal(v.Sources, []string{"old", "new"}) || v.Weight != 100 || v.Zone != "" {
			t.Errorf("want what the source says that is listed first, found %+v", v)
		}
		// The old registry says that a is leaving: its process is told so only there.
		b.update("old", said("a", registry.Draining), up("b"), up("c"))
		b.wantPicked("draining in the old one", "b", "c", "d")
		if v := b.instance("a"); v.Why != "not used: old says that it is draining" {
			t.Errorf("want the reason, found %q", v.Why)
		}
		b.update("old", up("b"), up("c"))
		b.wantPicked("gone from the old one", "a", "b", "c", "d")
		if v := b.instance("a"); v.Weight != 7 || v.Zone != "z2" {
			t.Errorf("want what the new registry says, found %+v", v)
		}
		b.update("new", up("a"), up("b"), up("c"), up("d"))
		b.update("old")
		b.wantPicked("moved", "a", "b", "c", "d")
		if n := b.Stats().Guarded; n != 0 {
			t.Errorf("want nobody suspected whom the other registry has, found %d alarms", n)
		}
		for _, a := range []string{"a", "b", "c", "d"} {
			if n := len(b.net.of(a)); n != 1 {
				t.Errorf("%s: want one transport through all of it, found %d", a, n)
			}
		}
		b.update("new", up("a"), up("b"), up("c"))
		if len(b.Nodes()) != 3 {
			t.Errorf("want d gone when none has it, found %s", b)
		}
	})
}

func TestMerge(t *testing.T) {
	type entry = registry.Endpoint
	for name, c := range map[string]struct {
		one, two []entry
		want     entry
		holder   string
	}{
		"the first gives weight, zone and metadata": {
			one:  []entry{{ID: "a", Address: "x", Weight: 5, Zone: "z1", Meta: map[string]string{"version": "1"}}},
			two:  []entry{{ID: "b", Address: "x", Weight: 9, Zone: "z2", Meta: map[string]string{"version": "2"}}},
			want: entry{ID: "a", Address: "x", Weight: 5, Zone: "z1", Meta: map[string]string{"version": "1"}},
		},
		"any that says it is leaving": {
			one: []entry{{ID: "a", Address: "x", Weight: 5}}, two: []entry{{ID: "a", Address: "x", Status: registry.Starting}},
			want: entry{ID: "a", Address: "x", Weight: 5, Status: registry.Starting}, holder: "two",
		},
		"the one that says the worse": {
			one: []entry{{ID: "a", Address: "x", Status: registry.Starting}}, two: []entry{{ID: "a", Address: "x", Status: registry.Down}},
			want: entry{ID: "a", Address: "x", Status: registry.Down}, holder: "two",
		},
		"the first of two that say the same": {
			one: []entry{{ID: "a", Address: "x", Status: registry.Down}}, two: []entry{{ID: "a", Address: "x", Status: registry.Down}},
			want: entry{ID: "a", Address: "x", Status: registry.Down}, holder: "one",
		},
		"a ghost and its successor": {
			one:  []entry{{ID: "a", Address: "x", Status: registry.Draining}, {ID: "b", Address: "x", Weight: 3}},
			want: entry{ID: "b", Address: "x", Weight: 3},
		},
		"verified by the second": {
			one: []entry{{ID: "a", Address: "x", Weight: 5, Unverified: true}}, two: []entry{{ID: "a", Address: "x", Weight: 5}},
			want: entry{ID: "a", Address: "x", Weight: 5},
		},
		"verified by neither": {
			one: []entry{{ID: "a", Address: "x", Weight: 5, Unverified: true}}, two: []entry{{ID: "a", Address: "x", Weight: 5, Unverified: true}},
			want: entry{ID: "a", Address: "x", Weight: 5, Unverified: true},
		},
		"the protocol of the first that tells": {
			one: []entry{{ID: "a", Address: "x", Weight: 5}}, two: []entry{{ID: "a", Address: "x", Weight: 5, Protocol: "grpc", TLS: true}},
			want: entry{ID: "a", Address: "x", Weight: 5, Protocol: "grpc", TLS: true},
		},
		"one registry names a protocol that is not spoken": {
			one: []entry{{ID: "a", Address: "x", Weight: 5, Protocol: "dubbo"}}, two: []entry{{ID: "b", Address: "x", Weight: 6}},
			want: entry{ID: "b", Address: "x", Weight: 6},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Service{}
			for i, eps := range [][]entry{c.one, c.two} {
				src := newSource(s, Source{Name: []string{"one", "two"}[i], Protocols: []string{"grpc"}})
				set, err := registry.NewSet("orders", 1, eps)
				if err != nil {
					t.Fatal(err)
				}
				src.set, src.at = set, src.index(set.Endpoints)
				s.sources = append(s.sources, src)
			}
			offers, left := s.merge()
			if len(offers) != 1 || len(left) != 0 {
				t.Fatalf("want one instance and none left out, found %v and %v", offers, left)
			}
			if diff := cmp.Diff(c.want, offers["x"].ep); diff != "" {
				t.Errorf("-want +found:\n%s", diff)
			}
			if h := offers["x"].holder; h != c.holder {
				t.Errorf("want it held by %q, found %q", c.holder, h)
			}
		})
	}
}

func TestEntryWithoutAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, Config{}, nil, "zk")
		defer b.end()
		b.update("zk", registry.Endpoint{ID: "a", Weight: 1}, up("x"))
		b.wantPicked("one entry without an address", "x")
		if v := b.instance(""); v.Why != "left out: it has no address" {
			t.Errorf("want it told, found %q", v.Why)
		}
	})
}
