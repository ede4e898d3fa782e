package balancer

// crew is how many of a group's instances are well, as sums of their weights.
type crew struct{ up, all float64 }

// health is what a crew can carry of its usual load, as if each of its instances could carry factor times its own; at
// most 1.
func (c crew) health(factor float64) float64 {
	if c.all == 0 {
		return 0
	}
	return min(1, factor*c.up/c.all)
}

// tiny is what rounding makes of 0.
const tiny = 1e-9

// priorityShares is what priorities, lowest number first, take of the calls: each as much as it can carry, the rest spills to
// the next; together all, in proportion where they cannot carry it. enough tells that they can: else those below the
// panic threshold are in panic. With nobody up anywhere the first takes all. This is Envoy's rule.
//
//	health(p) = min(1, factor * up(p) / all(p))
//	sum       = min(1, health(0) + health(1) + ...)
//	share(p)  = min(1 - share(0) - ... - share(p-1), health(p) / sum)
func priorityShares(crews []crew, factor float64) (shares []float64, enough bool) {
	shares = make([]float64, len(crews))
	sum := 0.0
	for _, c := range crews {
		sum += c.health(factor)
	}
	if sum == 0 {
		if len(shares) > 0 {
			shares[0] = 1
		}
		return shares, false
	}
	rest := 1.0
	for i, c := range crews {
		shares[i] = min(rest, c.health(factor)/min(1, sum))
		if rest -= shares[i]; rest < tiny {
			rest = 0
		}
	}
	return shares, sum >= 1
}

// nearShare is what the instances nearby take of this gateway's calls; the others take the rest. n is how many places there
// are, this one with them.
//
//	share = min(1, factor * n * near.up / whole.up, health(near) / health(whole))
//
// The first bound keeps a place with few instances from overload: if callers come evenly to the n places, an instance of
// this one takes at most factor times the mean of all instances. The second is that of priorities: what a place has lost beyond
// what its instances can make up for goes elsewhere, but not when it is everywhere the same.
func nearShare(near, whole crew, n int, factor float64) float64 {
	if near.up == 0 {
		return 0
	}
	share := min(factor*float64(n)*near.up/whole.up, near.health(factor)/whole.health(factor))
	if share > 1-tiny {
		return 1
	}
	return share
}
