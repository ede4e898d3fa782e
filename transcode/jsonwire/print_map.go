package jsonwire

import (
	"bytes"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// mapKey is one entry of a map: its key in a form that sorts (numbers), or where it stands (strings); and where the
// entry stands, which tells the later of two with the same key.
type mapKey struct {
	key uint64
	pos uint32
}

// mapping writes the entries of the run occs[i:j], sorted by key; of several with one key the last.
func (p *printer) mapping(f *schema.Field, i, j int) bool {
	base := len(p.keys)
	if n := base + j - i; n > cap(p.keys) {
		keys := make([]mapKey, base, max(n, cap(p.keys)+cap(p.keys)/8))
		copy(keys, p.keys)
		p.keys = keys
	}
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

// entryKey reads the key of an entry, the last one if it is given twice. Whether that one is UTF-8 shows when it is
// written.
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
			if !p.checkKey(kf, k) { // the one that is replaced
				return k, false
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
		p.out = appendUint(p.out, k)
	default:
		p.out = appendInt(p.out, int64(k^1<<63))
	}
	p.out = append(p.out, '"')
	return true
}

// entryValue appends the occurrences of the value in a map entry. The entry counts for its key and its value, whether they
// are written or not, besides what it counts as a field.
func (p *printer) entryValue(f *schema.Field, entry occurrence) bool {
	i, end := p.span(entry)
	p.elements++ // the key
	if !p.element() {
		return false
	}
	extra := -2
	for i < end {
		num, typ, next := p.tag(i, end)
		i = p.skip(num, typ, next, end)
		p.steps++
		if extra++; extra > 0 && !p.element() {
			return false
		}
		if num == f.MapValue.Number && typ == f.MapValue.Wire {
			p.push(occurrence{pos: uint32(next), info: uint32(typ)})
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
