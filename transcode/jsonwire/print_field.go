package jsonwire

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// fieldAt writes the field at the end of a path, found in the parts occs[lo:hi] of m.
func (p *printer) fieldAt(m *schema.Message, path schema.Path, lo, hi int) bool {
	if len(path) == 0 {
		return p.message(m, lo, hi)
	}
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
		p.bytes(f.Desc.Default().Bytes())
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
