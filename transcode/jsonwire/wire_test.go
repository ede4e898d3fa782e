package jsonwire_test

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// split cuts a wire form into its fields.
func split(wire []byte) [][]byte {
	var out [][]byte
	for len(wire) > 0 {
		_, _, n := protowire.ConsumeField(wire)
		if n < 0 {
			return append(out, wire)
		}
		out = append(out, wire[:n])
		wire = wire[n:]
	}
	return out
}

func numberOf(field []byte) protowire.Number {
	num, _, _ := protowire.ConsumeTag(field)
	return num
}

// unknownField is a field that no message of the schema has.
func unknownField(g *generator) []byte {
	switch g.IntN(4) {
	case 0:
		return protowire.AppendVarint(protowire.AppendTag(nil, 9999, protowire.VarintType), 7)
	case 1:
		return protowire.AppendString(protowire.AppendTag(nil, 9999, protowire.BytesType), "unknown")
	case 2:
		return protowire.AppendFixed64(protowire.AppendTag(nil, 9999, protowire.Fixed64Type), 7)
	default:
		b := protowire.AppendTag(nil, 9999, protowire.StartGroupType)
		b = protowire.AppendTag(b, 5, protowire.StartGroupType)
		b = protowire.AppendTag(b, 5, protowire.EndGroupType)
		return protowire.AppendTag(b, 9999, protowire.EndGroupType)
	}
}

// normalise rewrites the values of Any deterministically, since their bytes may have the fields in any order.
func (w *world) normalise(m protoreflect.Message) {
	if m.Descriptor().FullName() == "google.protobuf.Any" {
		fds := m.Descriptor().Fields()
		mt, err := w.types.FindMessageByURL(m.Get(fds.ByNumber(1)).String())
		if err != nil {
			return
		}
		inner := mt.New()
		if err := (proto.UnmarshalOptions{AllowPartial: true, Resolver: w.types}).Unmarshal(m.Get(fds.ByNumber(2)).Bytes(), inner.Interface()); err != nil {
			return
		}
		w.normalise(inner)
		b, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(inner.Interface())
		if err != nil {
			return
		}
		m.Set(fds.ByNumber(2), protoreflect.ValueOfBytes(b))
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { w.normalise(v.Message()); return true })
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				w.normalise(v.List().Get(i).Message())
			}
		default:
			w.normalise(v.Message())
		}
		return true
	})
}
