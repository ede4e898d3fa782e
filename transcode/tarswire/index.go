package tarswire

import (
	"bytes"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxNumber is the highest field number that a message may have.
const maxNumber = uint64(protowire.MaxValidNumber)

// tag reads a tag at in[i:end].
func (e *encoder) tag(i, end int, top uint64) (num protowire.Number, typ protowire.Type, next int) {
	v, next := varint(e.in, i, end)
	if next < 0 || v>>3 > top || v>>3 == 0 || v&7 > 5 {
		return 0, 0, -1
	}
	return protowire.Number(v >> 3), protowire.Type(v & 7), next
}

// skip passes over the value of a field at in[i:end]; -1 when it is not well formed. depth is how deep groups may nest.
func (e *encoder) skip(num protowire.Number, typ protowire.Type, i, end, depth int) int {
	switch typ {
	case protowire.VarintType:
		_, i = varint(e.in, i, end)
		return i
	case protowire.Fixed32Type:
		i += 4
	case protowire.Fixed64Type:
		i += 8
	case protowire.BytesType:
		n, at := varint(e.in, i, end)
		if at < 0 || n > uint64(end-at) {
			return -1
		}
		return at + int(n)
	case protowire.StartGroupType:
		return e.skipGroup(num, i, end, depth-1)
	default:
		return -1
	}
	if i > end {
		return -1
	}
	return i
}

// skipGroup passes over the group num whose content begins at i. Groups are unknown here: no message of TARS has them.
func (e *encoder) skipGroup(num protowire.Number, i, end, depth int) int {
	if depth < 0 || !e.count(1) {
		return -1
	}
	for i >= 0 {
		e.steps++
		n, typ, next := e.tag(i, end, math.MaxInt32)
		switch {
		case next < 0:
			return -1
		case typ == protowire.EndGroupType && n == num:
			return next
		case typ == protowire.EndGroupType:
			return -1
		}
		i = e.skip(n, typ, next, end, depth)
	}
	return i
}

// index appends the occurrences of m's fields in the parts occs[lo:hi], in the order of tags and, within a field, of the
// wire. Fields that m does not know, or that have another wire type than it says, are left out.
func (e *encoder) index(m *Message, lo, hi int) bool {
	base := len(e.occs)
	sorted, last := true, 0
	in := e.in
	for part := lo; part < hi; part++ {
		i, end := e.span(e.occs[part])
		for i < end {
			num, typ, ok := oneByteTag(in[i])
			next := i + 1
			if !ok {
				num, typ, next = e.tag(i, end, maxNumber)
			}
			if next < 0 || typ == protowire.EndGroupType {
				return e.broken(m)
			}
			if !e.count(1) {
				return false
			}
			switch { // nearly all values first
			case typ == protowire.VarintType && next < end && in[next] < 0x80:
				i = next + 1
			case typ == protowire.BytesType && next < end && in[next] < 0x80 && next+1+int(in[next]) <= end:
				i = next + 1 + int(in[next])
			default:
				if i = e.skip(num, typ, next, end, e.maxDepth); i < 0 {
					return e.broken(m)
				}
			}
			f := m.number(num)
			if f == nil || f.wireType() != typ && (f.packedTag == 0 || typ != protowire.BytesType) {
				continue
			}
			if f.index < last {
				sorted = false
			}
			last = f.index
			if len(e.occs) == cap(e.occs) {
				e.room(i, end, part, hi)
			}
			e.occs = append(e.occs, occurrence{pos: uint32(next), info: uint32(f.index)<<3 | uint32(typ)})
		}
	}
	if !sorted {
		e.sort(base)
	}
	return true
}

// wireType is the wire type of one element.
func (f *field) wireType() protowire.Type {
	if f.shape == mapping || f.shape == pairs {
		return protowire.BytesType
	}
	return f.wire
}

func (e *encoder) broken(m *Message) bool {
	return e.failf("wanted the wire form of %s, found bytes that are not", m.name())
}

// room makes e.occs large enough for one occurrence and for all fields that follow it, at in[i:end] and in the parts
// behind the one at hand. Counting them first costs less than growing by doubling, in time and in memory.
func (e *encoder) room(i, end, part, hi int) {
	const least = 64
	n := least
	for {
		for i >= 0 && i < end {
			num, typ, next := e.tag(i, end, maxNumber)
			if next < 0 || typ == protowire.StartGroupType {
				break // the walk will find the fault, or grow again behind the group
			}
			e.steps++
			n++
			i = e.skip(num, typ, next, end, 0)
		}
		if part++; part >= hi || n > e.maxElements {
			break
		}
		i, end = e.span(e.occs[part])
	}
	e.grow(min(n, e.maxElements+least))
}

// grow makes room for n more occurrences, or for an eighth of those that are there.
func (e *encoder) grow(n int) {
	occs := make([]occurrence, len(e.occs), len(e.occs)+max(n, len(e.occs)/8))
	copy(occs, e.occs)
	e.occs = occs
}

// push adds one occurrence.
func (e *encoder) push(o occurrence) {
	if len(e.occs) == cap(e.occs) {
		e.grow(64)
	}
	e.occs = append(e.occs, o)
}

// sort orders occs[base:] by field, keeping the order within a field: by insertion when they are few, else by one
// counting pass, for a message has at most 256 fields.
func (e *encoder) sort(base int) {
	const few = 12
	occs := e.occs[base:]
	e.steps += len(occs)
	if len(occs) <= few {
		for i := 1; i < len(occs); i++ {
			o := occs[i]
			j := i
			for ; j > 0 && occs[j-1].info>>3 > o.info>>3; j-- {
				occs[j] = occs[j-1]
			}
			occs[j] = o
		}
		return
	}
	if cap(e.places) < len(occs) {
		e.places = make([]uint32, len(occs))
	}
	places := e.places[:len(occs)]
	e.steps += len(occs)
	var counts [maxTag + 1]uint32
	for _, o := range occs {
		counts[o.info>>3]++
	}
	sum := uint32(0)
	for i, c := range counts {
		counts[i] = sum
		sum += c
	}
	for i, o := range occs {
		d := o.info >> 3
		places[i] = counts[d]
		counts[d]++
	}
	for i := range occs {
		for j := places[i]; j != uint32(i); j = places[i] {
			occs[i], occs[j] = occs[j], occs[i]
			places[i], places[j] = places[j], j
		}
	}
}

// mapKey is one entry of a map: its key in a form that sorts (numbers), or where it stands (strings); and where the
// entry stands, which tells the later of two with the same key.
type mapKey struct {
	key uint64
	pos uint32
}

// entryKey reads the key of an entry, the last one if it is given twice.
func (e *encoder) entryKey(f *field, o occurrence) (k mapKey, ok bool) {
	k.pos = o.pos
	text := f.mapKey == protoreflect.StringKind
	if !text {
		k.key = sortable(f.mapKey, 0)
	}
	wire := f.entry.fields[0].wire
	i, end := e.span(o)
	for i < end {
		e.steps++
		num, typ, next := e.tag(i, end, maxNumber)
		if next < 0 || typ == protowire.EndGroupType {
			return k, e.failf("wanted an entry of a map, found bytes that are not")
		}
		if i = e.skip(num, typ, next, end, e.maxDepth); i < 0 {
			return k, e.failf("wanted an entry of a map, found bytes that are not")
		}
		switch {
		case num != 1 || typ != wire:
		case text:
			start, stop := e.span(occurrence{pos: uint32(next), info: uint32(typ)})
			k.key = uint64(start)<<32 | uint64(stop-start)
		default:
			v, _ := number(e.in, next, end, typ)
			k.key = sortable(f.mapKey, v)
		}
	}
	return k, true
}

// sortable turns the wire bits of a map key into a number in the order of the keys.
func sortable(kind protoreflect.Kind, v uint64) uint64 {
	const sign = 1 << 63
	switch kind {
	case protoreflect.BoolKind:
		return min(v, 1)
	case protoreflect.Uint32Kind:
		return uint64(uint32(v))
	case protoreflect.Int32Kind:
		return uint64(int64(int32(v))) ^ sign
	}
	return v ^ sign
}

func (e *encoder) keyBytes(k mapKey) []byte {
	start := k.key >> 32
	return e.in[start : start+k.key&math.MaxUint32]
}

func (e *encoder) compareKeys(text bool, a, b mapKey) int {
	if text {
		return bytes.Compare(e.keyBytes(a), e.keyBytes(b))
	}
	switch {
	case a.key < b.key:
		return -1
	case a.key > b.key:
		return 1
	}
	return 0
}

// sortKeys sorts keys[base:], leaves of those that are equal the last, and gives how many there are.
func (e *encoder) sortKeys(f *field, base int) int {
	keys := e.keys[base:]
	text := f.mapKey == protoreflect.StringKind
	sorted := true
	for i := 1; i < len(keys) && sorted; i++ {
		sorted = e.compareKeys(text, keys[i-1], keys[i]) < 0
	}
	if sorted {
		return len(keys)
	}
	slices.SortFunc(keys, func(a, b mapKey) int {
		if c := e.compareKeys(text, a, b); c != 0 {
			return c
		}
		return int(int64(a.pos) - int64(b.pos))
	})
	n := 0
	for i, k := range keys {
		if i+1 < len(keys) && e.compareKeys(text, k, keys[i+1]) == 0 {
			continue
		}
		keys[n] = k
		n++
	}
	e.keys = e.keys[:base+n]
	return n
}
