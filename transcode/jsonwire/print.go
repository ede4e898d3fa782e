package jsonwire

import (
	"bytes"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// message writes the message m whose parts are occs[lo:hi]; several parts stand for their concatenation, which is how
// protobuf merges a sub-message that was sent in pieces. No part is the empty message.
func (p *printer) message(m *schema.Message, lo, hi int) bool {
	if p.depth++; p.depth > p.maxDepth {
		return p.failf("nested deeper than %d levels", p.maxDepth)
	}
	ok := false
	if m.WellKnown == schema.NotWellKnown || m.WellKnown == schema.Empty {
		p.out = append(p.out, '{')
		ok = p.fields(m, lo, hi, true)
		p.out = append(p.out, '}')
	} else {
		ok = p.wellKnown(m, lo, hi)
	}
	p.depth--
	return ok
}

// fields writes the members of m without the braces; first says that none stands before them.
func (p *printer) fields(m *schema.Message, lo, hi int, first bool) bool {
	base := len(p.occs)
	if !p.index(m, lo, hi) {
		return false
	}
	top := len(p.occs)
	required, next := 0, 0
	for i := base; i < top; {
		j := p.run(i, top)
		p.steps += j - i
		f := m.Fields[p.occs[i].index()]
		if p.opts.EmitUnpopulated {
			first = p.unpopulated(m, next, f.Index, first)
			next = f.Index + 1
		}
		if f.Required {
			required++
		}
		switch {
		case f.Cardinality == schema.Singular && !f.Presence && !p.opts.EmitUnpopulated && p.isZero(f, p.occs[j-1]):
			if !p.check(f, i, j) {
				return p.inField(f)
			}
		case f.Cardinality == schema.Repeated && (!p.opts.EmitUnpopulated || f.Desc.IsExtension()) && p.noElements(f, i, j):
		default:
			if !first {
				p.out = append(p.out, ',')
			}
			first = false
			if p.opts.ProtoNames {
				p.out = append(p.out, f.ProtoKey...)
			} else {
				p.out = append(p.out, f.JSONKey...)
			}
			if !p.value(f, i, j) {
				return p.inField(f)
			}
		}
		i = j
	}
	if p.opts.EmitUnpopulated {
		p.unpopulated(m, next, len(m.Fields), first)
	}
	if required < len(m.Required) && p.partial == 0 {
		return p.lacks(m, base)
	}
	p.occs = p.occs[:base]
	return true
}

// lacks fails with the required fields of m that are not among occs[base:].
func (p *printer) lacks(m *schema.Message, base int) bool {
	return p.fail(lacks(m, func(f *schema.Field) bool {
		return slices.ContainsFunc(p.occs[base:], func(o occurrence) bool { return o.index() == f.Index })
	}))
}

// unpopulated writes the fields from index i up to end that have no presence, at their zero.
func (p *printer) unpopulated(m *schema.Message, i, end int, first bool) bool {
	for ; i < end; i++ {
		f := m.Fields[i]
		if f.Presence || f.Desc.IsExtension() {
			continue
		}
		if !first {
			p.out = append(p.out, ',')
		}
		first = false
		if p.opts.ProtoNames {
			p.out = append(p.out, f.ProtoKey...)
		} else {
			p.out = append(p.out, f.JSONKey...)
		}
		p.zero(f)
	}
	return first
}

// zero writes what a field without presence has when it is not set.
func (p *printer) zero(f *schema.Field) {
	switch {
	case f.Cardinality == schema.Map:
		p.raw("{}")
	case f.Cardinality == schema.Repeated:
		p.raw("[]")
	case f.Kind == protoreflect.StringKind || f.Kind == protoreflect.BytesKind:
		p.raw(`""`)
	default:
		p.number(f, 0)
	}
}

// isZero says whether the value of a singular scalar is the zero of its kind. Minus zero is not.
func (p *printer) isZero(f *schema.Field, o occurrence) bool {
	if o.typ() == protowire.BytesType {
		return p.emptySpan(o)
	}
	v, _ := number(p.in, int(o.pos), len(p.in), o.typ())
	if f.Kind != protoreflect.BoolKind && bitSize(f.Kind) == 32 {
		v &= math.MaxUint32
	}
	return v == 0
}

// noElements says whether a run of a repeated field holds nothing but packed lists without elements.
func (p *printer) noElements(f *schema.Field, i, j int) bool {
	if f.PackedTag == 0 {
		return false
	}
	for ; i < j; i++ {
		if o := p.occs[i]; o.typ() != protowire.BytesType || p.in[o.pos] != 0 && !p.emptySpan(o) {
			return false
		}
	}
	return true
}

func (p *printer) emptySpan(o occurrence) bool {
	start, end := p.span(o)
	return start == end
}

// value writes the value of field f from the run occs[i:j].
func (p *printer) value(f *schema.Field, i, j int) bool {
	switch f.Cardinality {
	case schema.Repeated:
		return p.list(f, i, j)
	case schema.Map:
		return p.mapping(f, i, j)
	}
	if f.Message != nil {
		return p.message(f.Message, i, j)
	}
	if j-i > 1 && !p.check(f, i, j-1) {
		return false
	}
	return p.scalar(f, p.occs[j-1])
}

func (p *printer) list(f *schema.Field, i, j int) bool {
	p.out = append(p.out, '[')
	n := 0
	for ; i < j; i++ {
		o := p.occs[i]
		if o.typ() == protowire.BytesType && f.PackedTag != 0 {
			at, end := p.span(o)
			for at < end {
				if p.elements++; p.elements > p.maxElements {
					return p.failf("more than %d fields and elements in one message", p.maxElements)
				}
				v, next := number(p.in, at, end, f.Wire)
				if next < 0 {
					p.failf("wanted packed values of kind %s, found bytes that are not", f.Kind)
					return p.inElement(n)
				}
				if n > 0 {
					p.out = append(p.out, ',')
				}
				p.number(f, v)
				n++
				at = next
			}
			continue
		}
		if n > 0 {
			p.out = append(p.out, ',')
		}
		ok := false
		if f.Message != nil {
			ok = p.message(f.Message, i, i+1)
		} else {
			ok = p.scalar(f, o)
		}
		if !ok {
			return p.inElement(n)
		}
		n++
	}
	p.out = append(p.out, ']')
	return true
}

// scalar writes one value that is no message.
func (p *printer) scalar(f *schema.Field, o occurrence) bool {
	switch f.Kind {
	case protoreflect.StringKind:
		start, end := p.span(o)
		var ok bool
		if p.out, ok = appendString(p.out, p.in[start:end]); !ok {
			return p.notUTF8(p.in[start:end])
		}
		return true
	case protoreflect.BytesKind:
		start, end := p.span(o)
		p.out = append(p.out, '"')
		p.out = base64.StdEncoding.AppendEncode(p.out, p.in[start:end])
		p.out = append(p.out, '"')
		return true
	}
	v, _ := number(p.in, int(o.pos), len(p.in), f.Wire)
	p.number(f, v)
	return true
}

func (p *printer) notUTF8(s []byte) bool {
	i := len(validPrefix(s, len(s)))
	return p.failf("wanted UTF-8 in a string, found byte 0x%02x at offset %d", s[i], i)
}

// number writes a number, bool or enum from its bits on the wire.
func (p *printer) number(f *schema.Field, v uint64) {
	switch f.Kind {
	case protoreflect.BoolKind:
		if v != 0 {
			p.raw("true")
		} else {
			p.raw("false")
		}
	case protoreflect.EnumKind:
		p.enum(f.Enum, int32(v))
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		p.out = strconv.AppendInt(p.out, int64(int32(v)), 10)
	case protoreflect.Sint32Kind:
		p.out = strconv.AppendInt(p.out, int64(int32(protowire.DecodeZigZag(v&math.MaxUint32))), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		p.out = strconv.AppendUint(p.out, uint64(uint32(v)), 10)
	case protoreflect.FloatKind:
		p.out = appendFloat(p.out, float64(math.Float32frombits(uint32(v))), 32)
	case protoreflect.DoubleKind:
		p.out = appendFloat(p.out, math.Float64frombits(v), 64)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		p.quote64()
		p.out = strconv.AppendUint(p.out, v, 10)
		p.quote64()
	default:
		if f.Kind == protoreflect.Sint64Kind {
			v = uint64(protowire.DecodeZigZag(v))
		}
		p.quote64()
		p.out = strconv.AppendInt(p.out, int64(v), 10)
		p.quote64()
	}
}

func (p *printer) quote64() {
	if !p.opts.Int64Numbers {
		p.out = append(p.out, '"')
	}
}

func (p *printer) enum(e *schema.Enum, n int32) {
	if e.Null {
		p.raw("null")
		return
	}
	if !p.opts.EnumNumbers {
		if name, ok := e.NameOf(n); ok {
			p.out = append(p.out, '"')
			p.out = append(p.out, name...)
			p.out = append(p.out, '"')
			return
		}
	}
	p.out = strconv.AppendInt(p.out, int64(n), 10)
}

// mapKey is one entry of a map: its key in a form that sorts (numbers), or where it stands (strings); and where the
// entry stands, which tells the later of two with the same key.
type mapKey struct {
	key uint64
	pos uint32
}

// mapping writes the entries of the run occs[i:j], sorted by key; of several with one key the last.
func (p *printer) mapping(f *schema.Field, i, j int) bool {
	base := len(p.keys)
	for ; i < j; i++ {
		k, ok := p.entryKey(f, p.occs[i])
		if !ok {
			return false
		}
		p.keys = append(p.keys, k)
	}
	p.sortKeys(f, base)
	top := len(p.keys)
	p.out = append(p.out, '{')
	first := true
	for k := base; k < top; k++ {
		entry := occurrence{pos: p.keys[k].pos, info: uint32(protowire.BytesType)}
		lo := len(p.occs)
		if !p.entryValue(f, entry) {
			return false
		}
		hi := len(p.occs)
		if k+1 < top && p.compareKeys(f, p.keys[k], p.keys[k+1]) == 0 {
			if !p.check(f.MapValue, lo, hi) {
				return false
			}
			p.occs = p.occs[:lo]
			continue
		}
		if !first {
			p.out = append(p.out, ',')
		}
		first = false
		at := len(p.out)
		if !p.key(f.MapKey, p.keys[k].key) {
			return false
		}
		to := len(p.out)
		p.out = append(p.out, ':')
		if !p.mapValue(f.MapValue, lo, hi) {
			var key strings.Builder
			writeKey(&key, p.out[at:to])
			p.err.Path = joinPath(key.String(), p.err.Path)
			return false
		}
		p.occs = p.occs[:lo]
	}
	p.keys = p.keys[:base]
	p.out = append(p.out, '}')
	return true
}

// entryKey reads the key of an entry, the last one if it is given twice.
func (p *printer) entryKey(f *schema.Field, o occurrence) (k mapKey, ok bool) {
	k.pos = o.pos
	kf := f.MapKey
	if kf.Kind != protoreflect.StringKind {
		k.key = sortable(kf.Kind, 0)
	}
	i, end := p.span(o)
	for i < end {
		num, typ, next := p.tag(i, end)
		if next < 0 || typ == protowire.EndGroupType {
			return k, p.failf("wanted an entry of map %q, found bytes that are not", f.Name)
		}
		if i = p.skip(num, typ, next, end); i < 0 {
			return k, p.failf("wanted an entry of map %q, found bytes that are not", f.Name)
		}
		p.steps++
		if num != kf.Number || typ != kf.Wire {
			continue
		}
		if kf.Kind == protoreflect.StringKind {
			start, stop := p.span(occurrence{pos: uint32(next), info: uint32(typ)})
			if kf.UTF8 && !utf8.Valid(p.in[start:stop]) {
				return k, p.notUTF8(p.in[start:stop])
			}
			k.key = uint64(start)<<32 | uint64(stop-start)
			continue
		}
		v, _ := number(p.in, next, end, typ)
		k.key = sortable(kf.Kind, v)
	}
	return k, true
}

// sortable turns the wire bits of a map key into a number in the order of the keys.
func sortable(kind protoreflect.Kind, v uint64) uint64 {
	const sign = 1 << 63
	switch kind {
	case protoreflect.BoolKind:
		return min(v, 1)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return uint64(uint32(v))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return v
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		return uint64(int64(int32(v))) ^ sign
	case protoreflect.Sint32Kind:
		return uint64(int64(int32(protowire.DecodeZigZag(v&math.MaxUint32)))) ^ sign
	case protoreflect.Sint64Kind:
		return uint64(protowire.DecodeZigZag(v)) ^ sign
	default:
		return v ^ sign
	}
}

func (p *printer) keyBytes(k mapKey) []byte {
	start := k.key >> 32
	return p.in[start : start+k.key&math.MaxUint32]
}

func (p *printer) compareKeys(f *schema.Field, a, b mapKey) int {
	if f.MapKey.Kind == protoreflect.StringKind {
		return bytes.Compare(p.keyBytes(a), p.keyBytes(b))
	}
	switch {
	case a.key < b.key:
		return -1
	case a.key > b.key:
		return 1
	}
	return 0
}

// sortKeys sorts keys[base:] by key and place; what came in order is only looked at.
func (p *printer) sortKeys(f *schema.Field, base int) {
	keys := p.keys[base:]
	sorted := true
	for i := 1; i < len(keys) && sorted; i++ {
		sorted = p.compareKeys(f, keys[i-1], keys[i]) <= 0
	}
	if sorted {
		return
	}
	slices.SortFunc(keys, func(a, b mapKey) int {
		if c := p.compareKeys(f, a, b); c != 0 {
			return c
		}
		return int(int64(a.pos) - int64(b.pos))
	})
}

// key writes a map key as a JSON name.
func (p *printer) key(f *schema.Field, k uint64) bool {
	if f.Kind == protoreflect.StringKind {
		b := p.keyBytes(mapKey{key: k})
		var ok bool
		if p.out, ok = appendString(p.out, b); !ok {
			return p.notUTF8(b)
		}
		return true
	}
	p.out = append(p.out, '"')
	switch {
	case f.Kind == protoreflect.BoolKind && k != 0:
		p.raw("true")
	case f.Kind == protoreflect.BoolKind:
		p.raw("false")
	case isUnsigned(f.Kind):
		p.out = strconv.AppendUint(p.out, k, 10)
	default:
		p.out = strconv.AppendInt(p.out, int64(k^1<<63), 10)
	}
	p.out = append(p.out, '"')
	return true
}

// entryValue appends the occurrences of the value in a map entry.
func (p *printer) entryValue(f *schema.Field, entry occurrence) bool {
	i, end := p.span(entry)
	for i < end {
		num, typ, next := p.tag(i, end)
		i = p.skip(num, typ, next, end)
		p.steps++
		if p.elements++; p.elements > p.maxElements {
			return p.failf("more than %d fields and elements in one message", p.maxElements)
		}
		if num == f.MapValue.Number && typ == f.MapValue.Wire {
			p.occs = append(p.occs, occurrence{pos: uint32(next), info: uint32(typ)})
		}
	}
	return true
}

// mapValue writes the value of a map entry; an entry without one has the default.
func (p *printer) mapValue(f *schema.Field, lo, hi int) bool {
	switch {
	case f.Message != nil:
		return p.message(f.Message, lo, hi)
	case lo < hi:
		return p.check(f, lo, hi-1) && p.scalar(f, p.occs[hi-1])
	case f.Kind == protoreflect.EnumKind:
		p.enum(f.Enum, int32(f.Desc.Default().Enum()))
	default:
		p.zero(f)
	}
	return true
}

// check goes over values that are not written because later ones replace them: what a decoder would refuse in them is
// refused here.
func (p *printer) check(f *schema.Field, i, j int) bool {
	switch {
	case f.Cardinality == schema.Map:
		return p.checkMap(f, i, j)
	case f.Message != nil && f.Cardinality == schema.Singular:
		return p.checkMessage(f.Message, i, j)
	}
	for ; i < j; i++ {
		o := p.occs[i]
		switch {
		case f.Message != nil:
			if !p.checkMessage(f.Message, i, i+1) {
				return false
			}
		case f.UTF8:
			start, end := p.span(o)
			if !utf8.Valid(p.in[start:end]) {
				return p.notUTF8(p.in[start:end])
			}
		case f.PackedTag != 0 && o.typ() == protowire.BytesType:
			at, end := p.span(o)
			for at < end {
				if _, at = number(p.in, at, end, f.Wire); at < 0 {
					return p.failf("wanted packed values of kind %s, found bytes that are not", f.Kind)
				}
			}
		}
	}
	return true
}

func (p *printer) checkMessage(m *schema.Message, lo, hi int) bool {
	if p.depth++; p.depth > p.maxDepth {
		return p.failf("nested deeper than %d levels", p.maxDepth)
	}
	base := len(p.occs)
	if !p.index(m, lo, hi) {
		return false
	}
	top, required := len(p.occs), 0
	for i := base; i < top; {
		j := p.run(i, top)
		f := m.Fields[p.occs[i].index()]
		if !p.check(f, i, j) {
			return p.inField(f)
		}
		if f.Required {
			required++
		}
		i = j
	}
	if p.demand && required < len(m.Required) {
		return p.lacks(m, base)
	}
	p.occs = p.occs[:base]
	p.depth--
	return true
}

func (p *printer) checkMap(f *schema.Field, i, j int) bool {
	for ; i < j; i++ {
		o := p.occs[i]
		if _, ok := p.entryKey(f, o); !ok {
			return false
		}
		lo := len(p.occs)
		if !p.entryValue(f, o) || !p.check(f.MapValue, lo, len(p.occs)) {
			return false
		}
		p.occs = p.occs[:lo]
	}
	return true
}

// fieldAt writes the field at the end of a path, found in the parts occs[lo:hi] of m.
func (p *printer) fieldAt(m *schema.Message, path schema.Path, lo, hi int) bool {
	for n, f := range path {
		base := len(p.occs)
		if !p.index(m, lo, hi) {
			return false
		}
		top := len(p.occs)
		i := base
		for i < top && p.occs[i].index() < f.Index {
			i = p.run(i, top)
		}
		j := i
		if i < top && p.occs[i].index() == f.Index {
			j = p.run(i, top)
		}
		switch {
		case i == j:
			p.unset(path.Last())
			return true
		case n == len(path)-1:
			if !p.value(f, i, j) {
				p.err.Path = joinPath(path.String(), p.err.Path)
				return false
			}
			return true
		}
		p.depth++
		m, lo, hi = f.Message, i, j
	}
	return true
}

// unset writes the default of a field that is not set.
func (p *printer) unset(f *schema.Field) {
	switch {
	case f.Cardinality != schema.Singular:
		p.zero(f)
	case f.Message != nil:
		p.raw("null")
	case f.Kind == protoreflect.StringKind:
		p.out, _ = appendString(p.out, []byte(f.Desc.Default().String()))
	case f.Kind == protoreflect.BytesKind:
		p.out = append(p.out, '"')
		p.out = base64.StdEncoding.AppendEncode(p.out, f.Desc.Default().Bytes())
		p.out = append(p.out, '"')
	default:
		p.number(f, wireBits(f))
	}
}

// wireBits is the default of a numeric field as number takes it.
func wireBits(f *schema.Field) uint64 {
	switch d := f.Desc.Default(); f.Kind {
	case protoreflect.BoolKind:
		return uint64(oneIf(d.Bool()))
	case protoreflect.EnumKind:
		return uint64(d.Enum())
	case protoreflect.FloatKind:
		return uint64(math.Float32bits(float32(d.Float())))
	case protoreflect.DoubleKind:
		return math.Float64bits(d.Float())
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return protowire.EncodeZigZag(d.Int())
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Sfixed32Kind, protoreflect.Sfixed64Kind:
		return uint64(d.Int())
	default:
		return d.Uint()
	}
}
