package expr

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// message is a message in wire bytes as a value of CEL: fields are looked for when an expression asks for them. Fields go
// by their declared or JSON names; enums are their numbers; what is not set is its default.
type message struct {
	data []byte
	typ  *schema.Message // nil: there is none
	work *int            // of the evaluation, see maxWork
}

var errNoMessage = errors.New("`message` is the request of a unary call, before its answer")

// request is the request's message; it is received now if nobody asked before.
func request(a *activation) any {
	ctx, c, sent := a.ctx, a.call, a.sent
	if c.Body == nil || c.Method == nil || c.Method.Kind != schema.Unary || sent != nil {
		return message{work: &a.work} // so that has(message.x) is false
	}
	m, err := c.Body.Message(ctx, c.Method.Input)
	if err != nil {
		return types.WrapErr(err)
	}
	return message{m.Data, c.Method.Input, &a.work}
}

// Get implements traits.Indexer.
func (m message) Get(key ref.Val) ref.Val {
	if m.typ == nil {
		return types.WrapErr(errNoMessage)
	}
	f, bad := m.field(key)
	if bad != nil {
		return bad
	}
	v, _ := m.value(f)
	return v
}

// IsSet implements traits.FieldTester.
func (m message) IsSet(key ref.Val) ref.Val {
	if m.typ == nil {
		return types.False
	}
	f, bad := m.field(key)
	if bad != nil {
		return types.False // as of another method's message
	}
	v, set := m.value(f)
	if types.IsError(v) {
		return v
	}
	return types.Bool(set)
}

func (m message) field(key ref.Val) (*schema.Field, ref.Val) {
	name, ok := key.(types.String)
	if !ok {
		return nil, types.MaybeNoSuchOverloadErr(key)
	}
	if f := m.typ.ByNameString(string(name)); f != nil {
		return f, nil
	}
	names := make([]string, len(m.typ.Fields))
	for i, f := range m.typ.Fields {
		names[i] = f.Name
	}
	return nil, types.NewErr("%s has no field %q%s", m.typ.Name, string(name), schema.DidYouMean(string(name), names))
}

// occurrence is one element of a field.
type occurrence struct {
	wire  protowire.Type
	bits  uint64
	bytes []byte
}

// errWire is the error of bytes that are no message; a request that was received is one.
var errWire = errors.New("the message is malformed")

// maxWork bounds what one evaluation goes through of a message, which CEL's own costs do not see: each field and packed
// element that is passed is one, and so are some bytes of what is taken or has to be skipped piece by piece.
const maxWork = 4_000_000

var errWork = errors.New("the message has too many fields for the expression")

func (m message) spend(n int) error {
	if *m.work += n; *m.work > maxWork {
		return errWork
	}
	return nil
}

// each calls take for each element of a field, packed ones one by one.
func (m message) each(f *schema.Field, take func(occurrence) error) error {
	for data := m.data; len(data) > 0; {
		num, typ, size := protowire.ConsumeTag(data)
		if size < 0 {
			return errWire
		}
		data = data[size:]
		rest := protowire.ConsumeFieldValue(num, typ, data)
		if rest < 0 {
			return errWire
		}
		value := data[:rest]
		data = data[rest:]
		n := 1
		if num == f.Number || typ == protowire.StartGroupType {
			n += rest / 32
		}
		if err := m.spend(n); err != nil {
			return err
		}
		if num != f.Number {
			continue
		}
		if typ == protowire.BytesType && f.Cardinality == schema.Repeated && f.Wire != protowire.BytesType && f.Wire != protowire.StartGroupType { // packed
			packed, _ := protowire.ConsumeBytes(value)
			for len(packed) > 0 {
				o, size := scalar(f.Wire, packed)
				if size < 0 {
					return errWire
				}
				if err := m.spend(1); err != nil {
					return err
				}
				if err := take(o); err != nil {
					return err
				}
				packed = packed[size:]
			}
			continue
		}
		if typ != f.Wire {
			continue // as decoders have it: an unknown field
		}
		o := occurrence{wire: typ}
		switch typ {
		case protowire.BytesType:
			o.bytes, _ = protowire.ConsumeBytes(value)
		case protowire.StartGroupType:
			o.bytes, _ = protowire.ConsumeGroup(num, value)
		default:
			o, _ = scalar(typ, value)
		}
		if err := take(o); err != nil {
			return err
		}
	}
	return nil
}

func scalar(typ protowire.Type, b []byte) (occurrence, int) {
	o := occurrence{wire: typ}
	var size int
	switch typ {
	case protowire.VarintType:
		o.bits, size = protowire.ConsumeVarint(b)
	case protowire.Fixed32Type:
		var v uint32
		v, size = protowire.ConsumeFixed32(b)
		o.bits = uint64(v)
	case protowire.Fixed64Type:
		o.bits, size = protowire.ConsumeFixed64(b)
	default:
		size = -1
	}
	return o, size
}

// maxElements bounds what an expression may make a list or a map of.
const maxElements = 10_000

// value is a field's value and whether it is set.
func (m message) value(f *schema.Field) (v ref.Val, set bool) {
	var err error
	switch f.Cardinality {
	case schema.Repeated:
		var list []ref.Val
		err = m.each(f, func(o occurrence) error {
			if len(list) == maxElements {
				return fmt.Errorf("field %q has more than %d elements", f.Name, maxElements)
			}
			list = append(list, m.convert(f, o))
			return nil
		})
		v, set = types.NewRefValList(types.DefaultTypeAdapter, list), len(list) > 0
	case schema.Map:
		entries := map[ref.Val]ref.Val{}
		err = m.each(f, func(o occurrence) error {
			if len(entries) == maxElements {
				return fmt.Errorf("field %q has more than %d entries", f.Name, maxElements)
			}
			key, _ := message{o.bytes, nil, m.work}.value(f.MapKey)
			value, _ := message{o.bytes, nil, m.work}.value(f.MapValue)
			entries[key] = value
			return nil
		})
		v, set = types.NewRefValMap(types.DefaultTypeAdapter, entries), len(entries) > 0
	case schema.Singular:
		var last occurrence
		count := 0
		err = m.each(f, func(o occurrence) error {
			if count++; f.Message != nil && count > 1 { // parts of a message are merged, which their concatenation is
				if count == 2 {
					last.bytes = slices.Clip(last.bytes) // the message's own; from here on it is a copy that grows
				}
				o.bytes = append(last.bytes, o.bytes...)
			}
			last = o
			return nil
		})
		if count == 0 {
			v = m.zero(f)
		} else {
			v, set = m.convert(f, last), true
			if !f.Presence && f.Message == nil && isZero(f, last) {
				set = false
			}
		}
	}
	if err != nil {
		return types.WrapErr(err), false
	}
	return v, set
}

// isZero tells an element that is its type's zero; -0.0 is not.
func isZero(f *schema.Field, o occurrence) bool {
	switch f.Kind {
	case protoreflect.EnumKind, protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Uint32Kind:
		return uint32(o.bits) == 0 //nolint:gosec // what decoders make of it
	default:
		return o.bits == 0 && len(o.bytes) == 0
	}
}

// zero is the value of a singular field that is not set.
func (m message) zero(f *schema.Field) ref.Val {
	if f.Message != nil {
		if wrapped(f.Message) {
			return types.NullValue
		}
		return m.convert(f, occurrence{wire: f.Wire})
	}
	if f.Desc != nil && f.Desc.HasDefault() {
		switch d := f.Desc.Default().Interface().(type) {
		case protoreflect.EnumNumber:
			return types.Int(d)
		default:
			return types.DefaultTypeAdapter.NativeToValue(d)
		}
	}
	if f.Enum != nil && f.Desc != nil { // a proto2 enum's first value
		return types.Int(f.Desc.Default().Enum())
	}
	return m.convert(f, occurrence{wire: f.Wire})
}

func wrapped(m *schema.Message) bool { return m.WellKnown.Wrapper() }

// convert makes a value of one element. Strings and bytes are copied: the value may outlive the message.
func (m message) convert(f *schema.Field, o occurrence) ref.Val {
	switch f.Kind {
	case protoreflect.BoolKind:
		return types.Bool(protowire.DecodeBool(o.bits))
	case protoreflect.EnumKind, protoreflect.Int32Kind:
		return types.Int(int32(o.bits)) //nolint:gosec // what decoders make of it
	case protoreflect.Sint32Kind:
		return types.Int(int32(protowire.DecodeZigZag(o.bits & math.MaxUint32))) //nolint:gosec // as above
	case protoreflect.Sfixed32Kind:
		return types.Int(int32(o.bits)) //nolint:gosec // as above
	case protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		return types.Int(o.bits) //nolint:gosec // as above
	case protoreflect.Sint64Kind:
		return types.Int(protowire.DecodeZigZag(o.bits))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return types.Uint(uint32(o.bits)) //nolint:gosec // as above
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return types.Uint(o.bits)
	case protoreflect.FloatKind:
		return types.Double(math.Float32frombits(uint32(o.bits))) //nolint:gosec // 4 bytes of wire
	case protoreflect.DoubleKind:
		return types.Double(math.Float64frombits(o.bits))
	case protoreflect.StringKind:
		return types.String(o.bytes)
	case protoreflect.BytesKind:
		return types.Bytes(append([]byte(nil), o.bytes...))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return known(message{o.bytes, f.Message, m.work})
	}
	return types.NewErr("field %q is of a kind that expressions do not know", f.Name)
}

// known makes of well-known messages the values that CEL has for them.
func known(m message) ref.Val {
	switch {
	case m.typ.WellKnown == schema.Timestamp:
		s, n := m.pair()
		return types.Timestamp{Time: time.Unix(s, n).UTC()}
	case m.typ.WellKnown == schema.Duration:
		s, n := m.pair()
		return types.Duration{Duration: (&durationpb.Duration{Seconds: s, Nanos: int32(n)}).AsDuration()} //nolint:gosec // read as 32 bits
	case m.typ.WellKnown.Wrapper():
		v, _ := m.value(m.typ.ByNumber(1))
		return v
	default:
		return m
	}
}

// pair reads the seconds and nanoseconds of a time.
func (m message) pair() (seconds, nanos int64) {
	for i, to := range []*int64{&seconds, &nanos} {
		if f := m.typ.ByNumber(protowire.Number(i + 1)); f != nil {
			if v, _ := m.value(f); v.Type() == types.IntType {
				*to = int64(v.(types.Int)) //nolint:forcetypeassert // its type says so
			}
		}
	}
	return seconds, nanos
}

// ConvertToNative implements ref.Val.
func (m message) ConvertToNative(typ reflect.Type) (any, error) {
	return nil, fmt.Errorf("no %s can be made of a message", typ)
}

// ConvertToType implements ref.Val.
func (m message) ConvertToType(typ ref.Type) ref.Val {
	if m.typ == nil {
		return types.WrapErr(errNoMessage)
	}
	return types.NewErr("no %s can be made of %s: name one of its fields", typ.TypeName(), m.typ.Name)
}

// Equal implements ref.Val: messages are not compared, their fields are.
func (m message) Equal(ref.Val) ref.Val {
	if m.typ == nil {
		return types.WrapErr(errNoMessage)
	}
	return types.False
}

// Type implements ref.Val.
func (m message) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (m message) Value() any { return m.data }
