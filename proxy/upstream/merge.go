package upstream

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/registry"
)

// offer is what all sources together say of one address.
type offer struct {
	ep       registry.Endpoint
	listings []listing
	suspect  *suspect // no source has it any more; nil: one has
	shelved  bool     // nothing but the shelf vouches for it
	first    bool     // it was there when a source spoke for the first time
	holder   string   // the source that keeps it from taking calls; empty: none does
}

// listing is one source's entry for an address.
type listing struct {
	src *source
	id  string
}

// leftOut is an entry that does not become an instance.
type leftOut struct {
	address, id string
	src         *source
	why         string
}

// merge puts together what the sources say, and what cannot be used with the reason.
func (s *Service) merge() (map[string]*offer, []leftOut) {
	size := 0
	for _, src := range s.sources {
		size = max(size, len(src.at))
	}
	offers := make(map[string]*offer, size)
	room := make([]offer, 0, size) // most offers, in one piece
	var left []leftOut
	for _, src := range s.sources {
		for i := range src.set.Endpoints {
			ep := &src.set.Endpoints[i]
			if ep.Address == "" {
				left = append(left, leftOut{"", ep.ID, src, "it has no address"})
				continue
			}
			if !src.accepts(ep) {
				left = append(left, leftOut{ep.Address, ep.ID, src, fmt.Sprintf("it speaks %q; the service takes %s", ep.Protocol, strings.Join(src.Protocols, ", "))})
				continue
			}
			holds := src.at[ep.Address] == i
			o := offers[ep.Address]
			if o == nil {
				if len(room) == cap(room) {
					room = make([]offer, 0, max(16, size/8))
				}
				room = append(room, offer{shelved: true})
				o = &room[len(room)-1]
				offers[ep.Address] = o
			}
			o.listings = append(o.listings, listing{src, ep.ID})
			if holds {
				o.add(src, ep)
			}
		}
	}
	for _, src := range s.sources {
		for _, address := range slices.Sorted(maps.Keys(src.suspects)) {
			if offers[address] != nil {
				continue
			}
			v := src.suspects[address]
			offers[address] = &offer{ep: v.ep, listings: []listing{{src, v.ep.ID}}, suspect: &v}
		}
	}
	left = slices.DeleteFunc(left, func(l leftOut) bool { return offers[l.address] != nil })
	return offers, left
}

// add counts in the entry of a further source.
func (o *offer) add(src *source, ep *registry.Endpoint) {
	before := o.ep.Status
	if o.ep.Address == "" {
		o.ep = *ep
	} else {
		if o.ep.Protocol == "" && ep.Protocol != "" { // the first does not say what it speaks, nor over what
			o.ep.Protocol, o.ep.TLS = ep.Protocol, ep.TLS
		}
		o.ep.Unverified = o.ep.Unverified && ep.Unverified
		o.ep.Status = max(o.ep.Status, ep.Status)
	}
	if ep.Status != registry.Up {
		if o.holder == "" || ep.Status > before {
			o.holder = src.Name
		}
	}
	o.shelved = o.shelved && src.shelved
	o.first = o.first || src.first
}

// same tells whether a registry has changed nothing of an endpoint.
func same(a, b *registry.Endpoint) bool {
	return a.ID == b.ID && a.Address == b.Address && a.Zone == b.Zone && a.Weight == b.Weight && a.Status == b.Status &&
		a.Protocol == b.Protocol && a.TLS == b.TLS && a.Unverified == b.Unverified && maps.Equal(a.Meta, b.Meta)
}
