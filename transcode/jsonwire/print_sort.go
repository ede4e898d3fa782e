package jsonwire

import (
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// sortKeys sorts keys[base:] by key and, since they come in the order of the wire, by place. What came in order is only
// looked at; the rest costs what the keys are long, whatever their order.
func (p *printer) sortKeys(f *schema.Field, base int) {
	keys := p.keys[base:]
	sorted := true
	for i := 1; i < len(keys) && sorted; i++ {
		sorted = p.compareKeys(f, keys[i-1], keys[i]) <= 0
	}
	if sorted {
		return
	}
	if cap(p.places) < len(keys) {
		p.places = make([]uint32, len(keys))
	}
	p.radix(f, keys, 0)
}

// digit is the number in a key's byte at depth, from 1 on; 0 behind its end.
func (p *printer) digit(f *schema.Field, k mapKey, depth int) int {
	if f.MapKey.Kind != protoreflect.StringKind {
		if depth == 8 {
			return 0
		}
		return int(k.key>>(56-8*depth)&0xFF) + 1
	}
	if b := p.keyBytes(k); depth < len(b) {
		return int(b[depth]) + 1
	}
	return 0
}

// radix sorts keys that are equal in their first depth bytes, and leaves those that are equal as they were: by one byte after
// the other, the few by comparing them.
func (p *printer) radix(f *schema.Field, keys []mapKey, depth int) {
	const (
		few    = 24
		passes = 8 // then keys are as good as their own prefixes, and comparing costs less
	)
	for n := 0; n < passes && len(keys) > few; n++ {
		p.steps += len(keys)
		var ends [258]uint32 // where the keys of each digit end, behind those of the digit before
		for _, k := range keys {
			ends[p.digit(f, k, depth)+1]++
		}
		if d := p.digit(f, keys[0], depth); int(ends[d+1]) == len(keys) {
			if d == 0 {
				return
			}
			depth = p.common(f, keys, depth+1)
			continue
		}
		for d := range 257 {
			ends[d+1] += ends[d]
		}
		places := p.places[:len(keys)]
		for i, k := range keys {
			d := p.digit(f, k, depth)
			places[i] = ends[d]
			ends[d]++
		}
		arrange(keys, places)
		// The largest part is sorted in this loop and the others are at most half as large: calls nest as the logarithm only.
		largest, size := 1, uint32(0)
		for d := 1; d < 257; d++ {
			if n := ends[d] - ends[d-1]; n > size {
				largest, size = d, n
			}
		}
		for d := 1; d < 257; d++ {
			if n := ends[d] - ends[d-1]; n > 1 && d != largest {
				p.radix(f, keys[ends[d-1]:ends[d]], depth+1)
			}
		}
		keys = keys[ends[largest-1]:ends[largest]]
		depth++
	}
	slices.SortFunc(keys, func(a, b mapKey) int {
		if c := p.compareKeys(f, a, b); c != 0 {
			return c
		}
		return int(int64(a.pos) - int64(b.pos))
	})
}

// common is the number of bytes that all keys have in common, of which some are known.
func (p *printer) common(f *schema.Field, keys []mapKey, known int) int {
	if f.MapKey.Kind != protoreflect.StringKind {
		return known
	}
	first := p.keyBytes(keys[0])
	n := len(first)
	for _, k := range keys {
		b := p.keyBytes(k)
		if len(b) >= n && string(b[:n]) == string(first[:n]) {
			continue
		}
		n = min(n, len(b))
		for i := known; i < n; i++ {
			if b[i] != first[i] {
				n = i
			}
		}
	}
	return n
}

// arrange puts each element where places says, and leaves places as 0, 1, 2, ...
func arrange[T any](s []T, places []uint32) {
	for i := range s {
		for j := places[i]; j != uint32(i); j = places[i] {
			s[i], s[j] = s[j], s[i]
			places[i], places[j] = places[j], j
		}
	}
}
