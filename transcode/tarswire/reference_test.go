package tarswire_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// The reference codec: plain and slow, over trees of values and dynamicpb, written from the protocol's description and not
// from the code under test. It has no limits.

// tree is one value as it is encoded.
type tree struct {
	tag  int
	typ  int
	num  int64   // of integers
	bits uint64  // of floats
	data []byte  // of strings and simple lists
	kids []*tree // of lists, structs and maps (key, value, key, value)
}

var errShort = errors.New("data ends")

// readTree reads one value; end says that it was a STRUCT_END.
func readTree(in []byte) (v *tree, rest []byte, err error) {
	if len(in) == 0 {
		return nil, nil, errShort
	}
	v = &tree{tag: int(in[0] >> 4), typ: int(in[0] & 15)}
	in = in[1:]
	if v.tag == 15 {
		if len(in) == 0 {
			return nil, nil, errShort
		}
		v.tag = int(in[0])
		in = in[1:]
	}
	take := func(n int) []byte {
		if n < 0 || n > len(in) {
			err = errShort
			return make([]byte, 8)
		}
		b := in[:n]
		in = in[n:]
		return b
	}
	count := func() int {
		var c *tree
		if err != nil {
			return 0
		}
		if c, in, err = readTree(in); err != nil {
			return 0
		}
		if c.tag != 0 || c.typ != 12 && c.typ > 2 || c.num < 0 || c.num > int64(len(in)) {
			err = errors.New("bad count")
			return 0
		}
		return int(c.num)
	}
	children := func(n int) {
		for ; n > 0 && err == nil; n-- {
			var k *tree
			if k, in, err = readTree(in); err == nil && k.typ == 11 {
				err = errors.New("STRUCT_END in a list")
			}
			v.kids = append(v.kids, k)
		}
	}
	switch v.typ {
	case 0:
		v.num = int64(int8(take(1)[0]))
	case 1:
		v.num = int64(int16(binary.BigEndian.Uint16(take(2))))
	case 2:
		v.num = int64(int32(binary.BigEndian.Uint32(take(4))))
	case 3:
		v.num = int64(binary.BigEndian.Uint64(take(8)))
	case 4:
		v.bits = uint64(binary.BigEndian.Uint32(take(4)))
	case 5:
		v.bits = binary.BigEndian.Uint64(take(8))
	case 6:
		v.data = take(int(take(1)[0]))
	case 7:
		v.data = take(int(binary.BigEndian.Uint32(take(4))))
	case 8:
		n := count()
		if 2*n > len(in) {
			return nil, nil, errShort
		}
		children(2 * n)
	case 9:
		children(count())
	case 10:
		for err == nil {
			var k *tree
			if k, in, err = readTree(in); err == nil {
				if k.typ == 11 {
					break
				}
				v.kids = append(v.kids, k)
			}
		}
	case 11, 12:
	case 13:
		if take(1)[0] != 0 {
			return nil, nil, errors.New("a simple list of something else")
		}
		v.data = take(count())
	default:
		return nil, nil, errors.New("no such type")
	}
	if err != nil {
		return nil, nil, err
	}
	return v, in, nil
}

func member(fd protoreflect.FieldDescriptor) *tarsv1.Member {
	return proto.GetExtension(fd.Options(), tarsv1.E_Member).(*tarsv1.Member)
}

func kindOf(md protoreflect.MessageDescriptor) tarsv1.Struct_Kind {
	return proto.GetExtension(md.Options(), tarsv1.E_Struct).(*tarsv1.Struct).GetKind()
}

// refDecode reads members into a message.
func refDecode(in []byte, md protoreflect.MessageDescriptor) (*dynamicpb.Message, error) {
	var members []*tree
	for len(in) > 0 {
		v, rest, err := readTree(in)
		if err != nil {
			return nil, err
		}
		if v.typ == 11 {
			return nil, errors.New("STRUCT_END at the top")
		}
		members = append(members, v)
		in = rest
	}
	m := dynamicpb.NewMessage(md)
	return m, refMembers(m, members)
}

func refMembers(m protoreflect.Message, members []*tree) error {
	fds := m.Descriptor().Fields()
	seen := map[int]bool{}
	for _, v := range members {
		fd := fds.ByNumber(protoreflect.FieldNumber(v.tag + 1))
		if fd == nil {
			continue
		}
		if seen[v.tag] {
			return errors.New("given twice")
		}
		seen[v.tag] = true
		if err := refField(m, fd, v); err != nil {
			return fmt.Errorf("%s: %w", fd.Name(), err)
		}
	}
	for i := range fds.Len() {
		fd := fds.Get(i)
		o := member(fd)
		if seen[int(o.GetTag())] {
			continue
		}
		if o.GetRequire() {
			return fmt.Errorf("%s is missing", fd.Name())
		}
		if fd.HasOptionalKeyword() {
			m.Set(fd, refDefault(fd, o))
		}
	}
	return nil
}

func refDefault(fd protoreflect.FieldDescriptor, o *tarsv1.Member) protoreflect.Value {
	d := o.GetDefault()
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(d.GetInteger() != 0)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(d.GetInteger()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(d.GetInteger())
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(d.GetInteger()))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(d.GetInteger()))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(d.GetNumber()))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(d.GetNumber())
	default:
		return protoreflect.ValueOfString(d.GetText())
	}
}

func refField(m protoreflect.Message, fd protoreflect.FieldDescriptor, v *tree) error {
	o := member(fd)
	switch {
	case fd.IsMap():
		if v.typ != 8 {
			return errors.New("no map")
		}
		to := m.Mutable(fd).Map()
		for i := 0; i < len(v.kids); i += 2 {
			key, val := v.kids[i], v.kids[i+1]
			if key.tag != 0 || val.tag != 1 {
				return errors.New("tags of an entry")
			}
			k, err := refScalar(fd.MapKey().Kind(), o.GetKey(), key)
			if err != nil {
				return err
			}
			value := to.NewValue()
			if fd.MapValue().Message() != nil {
				err = refMessage(value.Message(), o.GetType(), val)
			} else {
				value, err = refScalar(fd.MapValue().Kind(), o.GetType(), val)
			}
			if err != nil {
				return err
			}
			to.Set(k.MapKey(), value)
		}
		return nil
	case fd.IsList() && o.GetKey() != 0:
		if v.typ != 8 {
			return errors.New("no map")
		}
		to := m.Mutable(fd).List()
		for i := 0; i < len(v.kids); i += 2 {
			if v.kids[i].tag != 0 || v.kids[i+1].tag != 1 {
				return errors.New("tags of an entry")
			}
			e := to.AppendMutable().Message()
			for j, fd := range []protoreflect.FieldDescriptor{e.Descriptor().Fields().ByNumber(1), e.Descriptor().Fields().ByNumber(2)} {
				if err := refField(e, fd, v.kids[i+j]); err != nil {
					return err
				}
			}
		}
		return nil
	case fd.IsList():
		if v.typ != 9 {
			return errors.New("no list")
		}
		to := m.Mutable(fd).List()
		for _, k := range v.kids {
			if k.tag != 0 {
				return errors.New("tag of an element")
			}
			if fd.Message() != nil {
				if err := refMessage(to.AppendMutable().Message(), o.GetType(), k); err != nil {
					return err
				}
				continue
			}
			e, err := refScalar(fd.Kind(), o.GetType(), k)
			if err != nil {
				return err
			}
			to.Append(e)
		}
		return nil
	case fd.Message() != nil:
		return refMessage(m.Mutable(fd).Message(), o.GetType(), v)
	}
	e, err := refScalar(fd.Kind(), o.GetType(), v)
	if err == nil {
		m.Set(fd, e)
	}
	return err
}

func refMessage(m protoreflect.Message, t tarsv1.Type, v *tree) error {
	if t == tarsv1.Type_WRAPPED {
		return refField(m, m.Descriptor().Fields().ByNumber(1), v)
	}
	if v.typ != 10 {
		return errors.New("no struct")
	}
	return refMembers(m, v.kids)
}

func refScalar(kind protoreflect.Kind, t tarsv1.Type, v *tree) (protoreflect.Value, error) {
	no := func(format string, args ...any) (protoreflect.Value, error) {
		return protoreflect.Value{}, fmt.Errorf(format, args...)
	}
	switch t {
	case tarsv1.Type_STRING:
		if v.typ != 6 && v.typ != 7 || !utf8.Valid(v.data) {
			return no("no string")
		}
		return protoreflect.ValueOfString(string(v.data)), nil
	case tarsv1.Type_BYTES:
		data := v.data
		switch v.typ {
		case 13:
		case 9:
			data = nil
			for _, k := range v.kids {
				if k.tag != 0 || k.typ != 0 && k.typ != 12 {
					return no("no bytes")
				}
				data = append(data, byte(k.num))
			}
		default:
			return no("no bytes")
		}
		return protoreflect.ValueOfBytes(slices.Clone(data)), nil
	case tarsv1.Type_FLOAT:
		if v.typ != 4 && v.typ != 12 {
			return no("no float")
		}
		return protoreflect.ValueOfFloat32(math.Float32frombits(uint32(v.bits))), nil
	case tarsv1.Type_DOUBLE:
		switch v.typ {
		case 4:
			return protoreflect.ValueOfFloat64(float64(math.Float32frombits(uint32(v.bits)))), nil
		case 5, 12:
			return protoreflect.ValueOfFloat64(math.Float64frombits(v.bits)), nil
		}
		return no("no double")
	}
	widest := map[tarsv1.Type]int{
		tarsv1.Type_SHORT: 1, tarsv1.Type_UNSIGNED_BYTE: 1, tarsv1.Type_INT: 2, tarsv1.Type_ENUM: 2,
		tarsv1.Type_UNSIGNED_SHORT: 2, tarsv1.Type_LONG: 3, tarsv1.Type_UNSIGNED_INT: 3,
	}[t]
	if v.typ != 12 && v.typ > widest {
		return no("too wide")
	}
	switch kind {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(v.num != 0), nil
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(v.num)), nil
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(v.num)), nil
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(v.num), nil
	}
	top := map[tarsv1.Type]int64{tarsv1.Type_UNSIGNED_BYTE: math.MaxUint8, tarsv1.Type_UNSIGNED_SHORT: math.MaxUint16, tarsv1.Type_UNSIGNED_INT: math.MaxUint32}[t]
	if v.num < 0 || v.num > top {
		return no("out of range")
	}
	return protoreflect.ValueOfUint32(uint32(v.num)), nil
}

// refEncode writes the members of a message.
func refEncode(m protoreflect.Message, zeros bool) ([]byte, error) {
	var fds []protoreflect.FieldDescriptor
	for i := range m.Descriptor().Fields().Len() {
		fds = append(fds, m.Descriptor().Fields().Get(i))
	}
	slices.SortFunc(fds, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	var out []byte
	for _, fd := range fds {
		o := member(fd)
		tag := int(o.GetTag())
		part := kindOf(m.Descriptor()) == tarsv1.Struct_ENTRY
		if !m.Has(fd) && !part {
			empty := fd.IsList() || fd.IsMap() || o.GetType() == tarsv1.Type_BYTES
			switch {
			case !o.GetRequire():
				continue
			case o.GetDefault() != nil:
				out = append(out, refNumber(tag, o.GetType(), refDefault(fd, o))...)
				continue
			case !empty && !zeros:
				return nil, fmt.Errorf("%s is required", fd.Name())
			}
		}
		b, err := refValue(tag, fd, o, m.Get(fd), zeros)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fd.Name(), err)
		}
		out = append(out, b...)
	}
	return out, nil
}

func refHead(tag, typ int) []byte {
	if tag < 15 {
		return []byte{byte(tag<<4 | typ)}
	}
	return []byte{byte(0xF0 | typ), byte(tag)}
}

func refInt(tag int, v int64) []byte {
	var b []byte
	switch {
	case v == 0:
		return refHead(tag, 12)
	case v == int64(int8(v)):
		b = append(refHead(tag, 0), byte(v))
	case v == int64(int16(v)):
		b = binary.BigEndian.AppendUint16(refHead(tag, 1), uint16(v))
	case v == int64(int32(v)):
		b = binary.BigEndian.AppendUint32(refHead(tag, 2), uint32(v))
	default:
		b = binary.BigEndian.AppendUint64(refHead(tag, 3), uint64(v))
	}
	return b
}

func refValue(tag int, fd protoreflect.FieldDescriptor, o *tarsv1.Member, v protoreflect.Value, zeros bool) ([]byte, error) {
	switch {
	case fd.IsMap():
		type entry struct {
			key protoreflect.MapKey
			val protoreflect.Value
		}
		var entries []entry
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			entries = append(entries, entry{k, v})
			return true
		})
		slices.SortFunc(entries, func(a, b entry) int {
			switch x := a.key.Interface().(type) {
			case string:
				return strings.Compare(x, b.key.String())
			case bool:
				if x == b.key.Bool() {
					return 0
				} else if x {
					return 1
				}
				return -1
			case uint32:
				return int(int64(x) - int64(b.key.Uint()))
			}
			if a.key.Int() < b.key.Int() {
				return -1
			}
			return 1
		})
		out := append(refHead(tag, 8), refInt(0, int64(len(entries)))...)
		for _, e := range entries {
			k, err := refElement(0, o.GetKey(), e.key.Value(), zeros)
			if err != nil {
				return nil, err
			}
			val, err := refElement(1, o.GetType(), e.val, zeros)
			if err != nil {
				return nil, err
			}
			out = append(append(out, k...), val...)
		}
		return out, nil
	case fd.IsList():
		typ := 9
		if o.GetKey() != 0 {
			typ = 8
		}
		out := append(refHead(tag, typ), refInt(0, int64(v.List().Len()))...)
		for i := range v.List().Len() {
			var b []byte
			var err error
			if e := v.List().Get(i); typ == 8 {
				b, err = refEncode(e.Message(), zeros)
			} else {
				b, err = refElement(0, o.GetType(), e, zeros)
			}
			if err != nil {
				return nil, err
			}
			out = append(out, b...)
		}
		return out, nil
	}
	return refElement(tag, o.GetType(), v, zeros)
}

func refElement(tag int, t tarsv1.Type, v protoreflect.Value, zeros bool) ([]byte, error) {
	switch t {
	case tarsv1.Type_STRUCT:
		b, err := refEncode(v.Message(), zeros)
		return append(append(refHead(tag, 10), b...), 11), err
	case tarsv1.Type_WRAPPED:
		items := v.Message().Descriptor().Fields().ByNumber(1)
		return refValue(tag, items, member(items), v.Message().Get(items), zeros)
	case tarsv1.Type_BYTE, tarsv1.Type_SHORT:
		top := map[tarsv1.Type]int64{tarsv1.Type_BYTE: 128, tarsv1.Type_SHORT: 32768}[t]
		if v.Int() < -top || v.Int() >= top {
			return nil, errors.New("out of range")
		}
	case tarsv1.Type_UNSIGNED_BYTE, tarsv1.Type_UNSIGNED_SHORT:
		top := map[tarsv1.Type]uint64{tarsv1.Type_UNSIGNED_BYTE: 256, tarsv1.Type_UNSIGNED_SHORT: 65536}[t]
		if v.Uint() >= top {
			return nil, errors.New("out of range")
		}
	}
	return refNumber(tag, t, v), nil
}

func refNumber(tag int, t tarsv1.Type, v protoreflect.Value) []byte {
	switch x := v.Interface().(type) {
	case bool:
		if x {
			return refInt(tag, 1)
		}
		return refInt(tag, 0)
	case int32:
		return refInt(tag, int64(x))
	case int64:
		return refInt(tag, x)
	case uint32:
		return refInt(tag, int64(x))
	case protoreflect.EnumNumber:
		return refInt(tag, int64(x))
	case float32:
		return binary.BigEndian.AppendUint32(refHead(tag, 4), math.Float32bits(x))
	case float64:
		return binary.BigEndian.AppendUint64(refHead(tag, 5), math.Float64bits(x))
	case []byte:
		return append(append(append(refHead(tag, 13), 0), refInt(0, int64(len(x)))...), x...)
	case string:
		if len(x) < 256 {
			return append(append(refHead(tag, 6), byte(len(x))), x...)
		}
		return append(binary.BigEndian.AppendUint32(refHead(tag, 7), uint32(len(x))), x...)
	}
	return []byte("no value of type " + t.String())
}
