package balancer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

var errNoSubset = fmt.Errorf("%w: the service has no such subset", ErrNoNode)

// What a Config means by 0.
const (
	overprovision = 1.4
	panicBelow    = 0.5
)

// New makes a Picker. It keeps neither members nor their maps. Members are narrowed down to those of a subset, by weights or as
// the call says; of these to a priority, see priorityShares; of these to those nearby, see nearShare; and of these the policy
// chooses. Only members that are up take calls, but in a panic: when all priorities of a subset together cannot carry the
// calls, those with less than Config.Panic of their weight up take all members of a weight for being up.
func New(cfg Config, members []Member) Picker {
	if cfg.Overprovision <= 0 {
		cfg.Overprovision = overprovision
	}
	cfg.Overprovision = max(1, cfg.Overprovision)
	if cfg.Panic == 0 {
		cfg.Panic = panicBelow
	}
	p := &picker{keyed: cfg.Policy == RingHash || cfg.Policy == Maglev, turns: cfg.Policy == RoundRobin}
	p.seq.Store(rand.Uint32())
	all := make([]*Member, len(members))
	for i := range members {
		all[i] = &members[i]
	}
	b := &builder{cfg: &cfg}
	p.subsets = make([]table, len(cfg.Subsets))
	weight := uint64(0)
	for i := range cfg.Subsets {
		s := &cfg.Subsets[i]
		of := slices.DeleteFunc(slices.Clone(all), func(m *Member) bool { return !s.Has(m) })
		p.subsets[i] = b.spread(s.Name, of)
		if t := &p.subsets[i]; len(t.entries) == 0 {
			if len(of) == 0 && len(all) > 0 {
				t.why = fmt.Sprintf("none of %d known belongs to it", len(all))
			}
			t.fail(fmt.Sprintf("subset %q: %s", s.Name, t.why))
		}
		weight += uint64(s.Weight)
	}
	if weight == 0 {
		p.any = b.spread("", all)
		return p
	}
	p.any = b.join(p.subsets)
	return p
}

// Has tells whether a member belongs to the subset.
func (s *Subset) Has(m *Member) bool {
	for k, v := range s.Match {
		found, ok := m.Meta[k]
		switch k {
		case "region":
			found, ok = m.Region, true
		case "zone":
			found, ok = m.Zone, true
		}
		if !ok || found != v {
			return false
		}
	}
	return true
}

type builder struct{ cfg *Config }

// join makes one table of those of the subsets that have a weight. A subset of which nobody is up is left out while another
// has somebody.
func (b *builder) join(subsets []table) table {
	var joined table
	var reasons []string
	somebody, sum := false, 0.0
	for i := range subsets {
		somebody = somebody || b.cfg.Subsets[i].Weight > 0 && subsets[i].up()
	}
	for i := range subsets {
		t, w := &subsets[i], float64(b.cfg.Subsets[i].Weight)
		if w == 0 {
			continue
		}
		if len(t.entries) == 0 {
			reasons = append(reasons, t.why)
			continue
		}
		if somebody && !t.up() {
			continue
		}
		start := len(joined.entries)
		for _, e := range t.entries {
			joined.entries = append(joined.entries, entry{group: e.group, share: w * e.share, start: start})
		}
		sum += w
	}
	for i := range joined.entries {
		joined.entries[i].share /= sum
	}
	joined.seal()
	if len(joined.entries) == 0 {
		joined.fail(strings.Join(reasons, "; "))
	}
	return joined
}

// up tells whether somebody is.
func (t *table) up() bool {
	return slices.ContainsFunc(t.entries, func(e entry) bool { return e.group.Up > 0 })
}

// spread groups the members of a subset and says what share each group has.
func (b *builder) spread(subset string, members []*Member) table {
	var t table
	priorities := map[uint32][]*Member{}
	crews := map[uint32]crew{}
	down := 0
	for _, m := range members {
		if m.Weight == 0 {
			continue
		}
		priorities[m.Priority] = append(priorities[m.Priority], m)
		c := crews[m.Priority]
		c.all += float64(m.Weight)
		if m.Up {
			c.up += float64(m.Weight)
		} else {
			down++
		}
		crews[m.Priority] = c
	}
	order := slices.Sorted(maps.Keys(priorities))
	sums := make([]crew, len(order))
	for i, p := range order {
		sums[i] = crews[p]
	}
	loads, enough := priorityShares(sums, b.cfg.Overprovision)
	for i, p := range order {
		panics := !enough && sums[i].up/sums[i].all < b.cfg.Panic
		for _, d := range b.distances(priorities[p], panics) {
			g := &group{Group: Group{Subset: subset, Priority: p, Distance: d.distance, Panic: panics, Members: len(d.members)}}
			nodes := make([]weighted, 0, len(d.members))
			for _, m := range d.members {
				if m.Up {
					g.Up++
				}
				if m.Up || panics {
					nodes = append(nodes, weighted{m.Node, b.weight(m)})
				}
			}
			if len(nodes) == 0 {
				continue
			}
			g.nodes = nodesOf(nodes)
			share := loads[i] * d.share
			if share > 0 {
				g.policy = newPolicy(b.cfg, nodes)
			}
			t.entries = append(t.entries, entry{group: g, share: share})
		}
	}
	t.seal()
	if len(t.entries) == 0 {
		t.fail(none(len(members), down))
	}
	return t
}

// fail says why a table is empty.
func (t *table) fail(why string) {
	t.why, t.err = why, fmt.Errorf("%w: %s", ErrNoNode, why)
}

// none says why there is nobody among so many.
func none(members, down int) string {
	zero := members - down
	var why []string
	if zero > 0 {
		why = append(why, strconv.Itoa(zero)+" with weight 0")
	}
	if down > 0 {
		why = append(why, strconv.Itoa(down)+" not well")
	}
	if len(why) == 0 {
		return "none is known"
	}
	return fmt.Sprintf("of %d known, %s", members, strings.Join(why, ", "))
}

// weight is what a member takes among those of its group.
func (b *builder) weight(m *Member) float64 {
	w := float64(m.Weight)
	if m.Share > 0 && m.Share < 1 {
		w *= m.Share
	}
	switch b.cfg.Policy {
	case RoundRobin, LeastRequest, Random:
		// Half at most, so that what the load makes of the weight and the weight of the load comes to rest.
		if load := m.Load(); load > 0 {
			w *= 1 - load/2
		}
	}
	return w
}

// distant is the members of a priority that are about as far away, with their share of its calls.
type distant struct {
	distance Distance
	members  []*Member
	share    float64
}

// distances splits the members of a priority into those of the gateway's zone, the rest of its region, and the rest, as
// far as it is known where the gateway is.
func (b *builder) distances(members []*Member, panics bool) []distant {
	if !b.cfg.ZoneFirst || b.cfg.Zone == "" && b.cfg.Region == "" {
		return []distant{{distance: Anywhere, members: members, share: 1}}
	}
	all := [...]distant{{distance: SameZone}, {distance: SameRegion}, {distance: Elsewhere}}
	var sums [3]crew
	zones, regions := map[string]bool{}, map[string]bool{}
	for _, m := range members {
		d := b.distance(m)
		at := d - SameZone
		all[at].members = append(all[at].members, m)
		sums[at].all += float64(m.Weight)
		if m.Up || panics {
			sums[at].up += float64(m.Weight)
		}
		switch d {
		case SameZone:
			zones[b.cfg.Zone], regions[b.cfg.Region] = true, true
		case SameRegion:
			zones[m.Zone], regions[b.cfg.Region] = true, true
		default:
			regions[m.Region] = true
		}
	}
	region := crew{sums[0].up + sums[1].up, sums[0].all + sums[1].all}
	whole := crew{region.up + sums[2].up, region.all + sums[2].all}
	near := nearShare(region, whole, len(regions), b.cfg.Overprovision)
	own := nearShare(sums[0], region, len(zones), b.cfg.Overprovision)
	all[0].share, all[1].share, all[2].share = near*own, near*(1-own), 1-near
	return slices.DeleteFunc(all[:], func(d distant) bool { return len(d.members) == 0 })
}

// distance is how far a member is. One that says its zone but no region is taken to be in the gateway's when the zone is.
func (b *builder) distance(m *Member) Distance {
	region := m.Region == b.cfg.Region || b.cfg.Region == ""
	zone := b.cfg.Zone != "" && m.Zone == b.cfg.Zone
	switch {
	case zone && (region || m.Region == ""):
		return SameZone
	case region:
		return SameRegion
	default:
		return Elsewhere
	}
}
