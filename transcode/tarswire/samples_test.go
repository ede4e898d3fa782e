package tarswire_test

import (
	"math/rand"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// samples are messages in wire form, always the same: nearly all fields set, some set, none set.
func samples(t testing.TB, m *tarswire.Message) [][]byte {
	t.Helper()
	var out [][]byte
	for i, rate := range []float64{0.95, 0.5, 0.5, 0} {
		r := &filler{rand: rand.New(rand.NewSource(int64(i)))}
		d := dynamicpb.NewMessage(m.Schema.Desc)
		r.message(d, rate, 3)
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, raw)
	}
	return out
}

// filler sets fields. When it is safe, numbers are those that a float64 holds.
type filler struct {
	rand *rand.Rand
	safe bool
}

func (r *filler) message(m protoreflect.Message, rate float64, depth int) {
	fds := m.Descriptor().Fields()
	for i := range fds.Len() {
		fd := fds.Get(i)
		if r.rand.Float64() >= rate && !member(fd).GetRequire() || depth == 0 && (fd.IsList() || fd.IsMap() || fd.Message() != nil) {
			continue
		}
		switch {
		case fd.IsMap():
			to := m.Mutable(fd).Map()
			for range r.rand.Intn(4) {
				key := r.scalar(fd.MapKey(), member(fd).GetKey())
				value := to.NewValue()
				if fd.MapValue().Message() != nil {
					r.message(value.Message(), rate, depth-1)
				} else {
					value = r.scalar(fd.MapValue(), member(fd).GetType())
				}
				to.Set(key.MapKey(), value)
			}
		case fd.IsList():
			to := m.Mutable(fd).List()
			for range r.rand.Intn(4) {
				if fd.Message() != nil {
					r.message(to.AppendMutable().Message(), rate, depth-1)
					if member(fd).GetKey() != 0 && twice(to) {
						to.Truncate(to.Len() - 1)
					}
				} else {
					to.Append(r.scalar(fd, member(fd).GetType()))
				}
			}
		case fd.Message() != nil:
			r.message(m.Mutable(fd).Message(), rate, depth-1)
		default:
			m.Set(fd, r.scalar(fd, member(fd).GetType()))
		}
	}
}

// twice says that the last entry of a map has the key of another.
func twice(list protoreflect.List) bool {
	last := list.Get(list.Len() - 1).Message()
	key := last.Descriptor().Fields().ByNumber(1)
	for i := range list.Len() - 1 {
		if list.Get(i).Message().Get(key).Equal(last.Get(key)) {
			return true
		}
	}
	return false
}

var texts = []string{"", "a", "tars", "日本語", string(make([]byte, 255)), string(make([]byte, 256))}

func (r *filler) scalar(fd protoreflect.FieldDescriptor, t tarsv1.Type) protoreflect.Value {
	bits := map[tarsv1.Type]int{
		tarsv1.Type_BYTE: 8, tarsv1.Type_SHORT: 16, tarsv1.Type_INT: 32, tarsv1.Type_LONG: 64, tarsv1.Type_ENUM: 32,
		tarsv1.Type_UNSIGNED_BYTE: 8, tarsv1.Type_UNSIGNED_SHORT: 16, tarsv1.Type_UNSIGNED_INT: 32,
	}[t]
	n := int64(r.rand.Uint64()) >> (64 - max(bits, 1)) >> r.rand.Intn(max(bits, 1))
	if r.safe {
		n = max(min(n, 1<<53), -1<<53)
	}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n != 0)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n & (1<<bits - 1)))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(r.rand.Float32() * float32(r.rand.Intn(3)))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(r.rand.NormFloat64() * float64(r.rand.Intn(3)))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(texts[r.rand.Intn(len(texts))]))
	default:
		return protoreflect.ValueOfString(texts[r.rand.Intn(len(texts))])
	}
}
