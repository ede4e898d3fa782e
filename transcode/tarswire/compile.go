package tarswire

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// maxTag is the highest tag.
const maxTag = 255

// Message is the table of one message: a struct, or the parameters of a function. Read-only and safe for concurrent use.
type Message struct {
	Schema *schema.Message

	fields   []*field // by tag
	byTag    []*field // nil where there is none; up to the highest tag
	words    int      // of the masks, as many as the tags need
	required mask     // tags that must be there
	filled   mask     // tags whose default is written when they are not there
	byName   map[string]*field
	ret      *field // the return value, or nil
}

// mask is a set of tags.
type mask [4]uint64

func (m *mask) add(tag uint8)      { m[tag>>6] |= 1 << (tag & 63) }
func (m *mask) has(tag uint8) bool { return m[tag>>6]>>(tag&63)&1 != 0 }

// shape is how often a field's value occurs.
type shape uint8

const (
	single shape = iota
	list
	mapping // a map of protobuf
	pairs   // a map whose entries are messages
)

// field is a member, a parameter, or a part of a wrapper or map entry. What nearly every value needs stands first, in 64 bytes.
type field struct {
	tag      uint8
	shape    shape
	plain    plain
	widest   Type // of numbers
	presence bool
	lean     bool // zero, or empty, is as if it were not there
	isBool   bool // in TARS: any number but zero is true
	zigzag   bool // sint32 and sint64 of protobuf
	require  bool
	part     bool // of a map entry: never omitted
	packed   bool
	wire     protowire.Type // of one element
	// The type of the value, of the elements or, in maps, of nothing: they have an entry.
	kind      tarsv1.Type
	wireTag   uint64 // number and type of one element in protobuf
	packedTag uint64 // lists of numbers: of the packed form
	low       int64
	high      int64
	message   *Message // STRUCT, and WRAPPED: then with the one field items
	index     int      // position in fields

	name  string
	entry *Message // maps: key with tag 0, value with tag 1

	fill   []byte // protobuf: the default with its tag
	def    []byte // TARS: the default with its head; nil without a default
	mapKey protoreflect.Kind

	typeName string // of a parameter, in TUP of version 2
}

// scalar says how numbers of a type are bounded.
var scalar = map[tarsv1.Type]struct {
	widest    Type
	low, high int64
}{
	tarsv1.Type_BOOL:           {Byte, 0, 1},
	tarsv1.Type_BYTE:           {Byte, math.MinInt8, math.MaxInt8},
	tarsv1.Type_SHORT:          {Short, math.MinInt16, math.MaxInt16},
	tarsv1.Type_INT:            {Int, math.MinInt32, math.MaxInt32},
	tarsv1.Type_LONG:           {Long, math.MinInt64, math.MaxInt64},
	tarsv1.Type_UNSIGNED_BYTE:  {Short, 0, math.MaxUint8},
	tarsv1.Type_UNSIGNED_SHORT: {Int, 0, math.MaxUint16},
	tarsv1.Type_UNSIGNED_INT:   {Long, 0, math.MaxUint32},
	tarsv1.Type_ENUM:           {Int, math.MinInt32, math.MaxInt32},
	tarsv1.Type_FLOAT:          {},
	tarsv1.Type_DOUBLE:         {},
	tarsv1.Type_STRING:         {},
	tarsv1.Type_BYTES:          {},
	tarsv1.Type_STRUCT:         {},
	tarsv1.Type_WRAPPED:        {},
}

// natural is what a type is in protobuf.
var natural = map[tarsv1.Type]protoreflect.Kind{
	tarsv1.Type_BOOL:           protoreflect.BoolKind,
	tarsv1.Type_BYTE:           protoreflect.Int32Kind,
	tarsv1.Type_SHORT:          protoreflect.Int32Kind,
	tarsv1.Type_INT:            protoreflect.Int32Kind,
	tarsv1.Type_LONG:           protoreflect.Int64Kind,
	tarsv1.Type_UNSIGNED_BYTE:  protoreflect.Uint32Kind,
	tarsv1.Type_UNSIGNED_SHORT: protoreflect.Uint32Kind,
	tarsv1.Type_UNSIGNED_INT:   protoreflect.Uint32Kind,
	tarsv1.Type_FLOAT:          protoreflect.FloatKind,
	tarsv1.Type_DOUBLE:         protoreflect.DoubleKind,
	tarsv1.Type_STRING:         protoreflect.StringKind,
	tarsv1.Type_ENUM:           protoreflect.EnumKind,
	tarsv1.Type_BYTES:          protoreflect.BytesKind,
	tarsv1.Type_STRUCT:         protoreflect.MessageKind,
	tarsv1.Type_WRAPPED:        protoreflect.MessageKind,
}

// Compiler makes tables, each once. It is for load time and not safe for concurrent use.
type Compiler struct {
	seen map[*schema.Message]*Message
	// natural: messages without options are compiled too, see Natural; within are those being compiled.
	natural bool
	within  []*schema.Message
}

// Function is what a method is in TARS.
type Function struct {
	Name       string   // on the wire
	Interface  string   // "Module.Interface"
	Parameters []string // the names of all parameters, in and out: the first has tag 1
	In, Out    *Message
	RouteKey   *schema.Field // the parameter marked routekey, or nil
	// Natural says that In and Out are not the parameters but structs: the one parameter, and the return value.
	Natural bool
}

// OneWay says that the function has nothing to answer, so that it may be called without waiting.
func (f *Function) OneWay() bool { return len(f.Out.fields) == 0 }

// Function compiles a method. The error says what about it has no TARS form.
func (c *Compiler) Function(m *schema.Method) (*Function, error) {
	o, ok := extension[*tarsv1.Function](m.Desc.Options(), tarsv1.E_Function)
	if !ok {
		return nil, fmt.Errorf("%s has no option causeway.tars.v1.function: it was not compiled from TARS IDL", m.Name)
	}
	if m.Kind != schema.Unary {
		return nil, fmt.Errorf("%s is a %s, and TARS has none", m.Name, m.Kind)
	}
	f := &Function{Name: o.GetName(), Parameters: o.GetParameters(), Interface: m.Service.Name}
	if f.Name == "" {
		f.Name = string(m.Desc.Name())
	}
	if i, ok := extension[*tarsv1.Interface](m.Service.Desc.Options(), tarsv1.E_Interface); ok && i.GetName() != "" {
		f.Interface = i.GetName()
	}
	for _, side := range []struct {
		is  *schema.Message
		as  tarsv1.Struct_Kind
		out **Message
	}{{m.Input, tarsv1.Struct_REQUEST, &f.In}, {m.Output, tarsv1.Struct_RESPONSE, &f.Out}} {
		t, err := c.Message(side.is)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
		if k := kindOf(side.is); k != side.as {
			return nil, fmt.Errorf("%s: %s is marked as %s, wanted %s", m.Name, side.is.Name, k, side.as)
		}
		*side.out = t
	}
	for _, fd := range m.Input.Fields {
		if o, _ := extension[*tarsv1.Member](fd.Desc.Options(), tarsv1.E_Member); o.GetRoutekey() {
			f.RouteKey = fd
		}
	}
	return f, nil
}

// Message compiles a message and those below it. The error names what has no TARS form.
func (c *Compiler) Message(m *schema.Message) (*Message, error) {
	if t, ok := c.seen[m]; ok {
		return t, nil
	}
	_, declared := extension[*tarsv1.Struct](m.Desc.Options(), tarsv1.E_Struct)
	if !declared && c.natural {
		return c.naturalMessage(m)
	}
	if !declared {
		return nil, fmt.Errorf("message %s has no option causeway.tars.v1.struct: it was not compiled from TARS IDL", m.Name)
	}
	if c.seen == nil {
		c.seen = map[*schema.Message]*Message{}
	}
	t := &Message{Schema: m, byName: map[string]*field{}}
	c.seen[m] = t
	kind := kindOf(m)
	for _, fd := range m.Fields {
		o, ok := extension[*tarsv1.Member](fd.Desc.Options(), tarsv1.E_Member)
		if !ok {
			return nil, c.forget(m, fd, "has no option causeway.tars.v1.member")
		}
		f, err := c.field(fd, o)
		if err != nil {
			return nil, c.forget(m, fd, err.Error())
		}
		f.part = kind == tarsv1.Struct_ENTRY || kind == tarsv1.Struct_WRAPPER
		t.add(f)
	}
	if kind == tarsv1.Struct_WRAPPER && (len(t.fields) != 1 || t.fields[0].tag != 0 || t.fields[0].shape == single) {
		c.seen = nil
		return nil, fmt.Errorf("message %s is marked as a wrapper, and does not have one repeated or map field with tag 0", m.Name)
	}
	if kind == tarsv1.Struct_ENTRY && (len(t.fields) != 2 || t.fields[0].tag != 0 || t.fields[1].tag != 1) {
		c.seen = nil
		return nil, fmt.Errorf("message %s is marked as an entry, and does not have two fields with tags 0 and 1", m.Name)
	}
	t.finish(kind == tarsv1.Struct_REQUEST || kind == tarsv1.Struct_RESPONSE, kind == tarsv1.Struct_RESPONSE)
	return t, nil
}

// forget drops all tables, for others may already refer to the one that failed.
func (c *Compiler) forget(m *schema.Message, fd *schema.Field, why string) error {
	c.seen = nil
	return fmt.Errorf("field %s of %s %s", fd.Name, m.Name, why)
}

func kindOf(m *schema.Message) tarsv1.Struct_Kind {
	o, _ := extension[*tarsv1.Struct](m.Desc.Options(), tarsv1.E_Struct)
	return o.GetKind()
}

// extension reads an option.
func extension[T proto.Message](o proto.Message, x protoreflect.ExtensionType) (T, bool) {
	var zero T
	if !o.ProtoReflect().IsValid() || !proto.HasExtension(o, x) {
		return zero, false
	}
	v, ok := proto.GetExtension(o, x).(T)
	return v, ok
}

func (t *Message) add(f *field) {
	t.fields = append(t.fields, f)
	t.byName[f.name] = f
}

// finish fills what is found by tag.
func (t *Message) finish(parameters, response bool) {
	slices.SortFunc(t.fields, func(a, b *field) int { return int(a.tag) - int(b.tag) })
	if n := len(t.fields); n > 0 {
		t.byTag = make([]*field, int(t.fields[n-1].tag)+1)
		t.words = (len(t.byTag) + 63) / 64
	}
	for i, f := range t.fields {
		f.index = i
		f.plain = f.plainness()
		t.byTag[f.tag] = f
		if parameters {
			f.typeName = f.tupType()
		}
		if f.require || f.part {
			t.required.add(f.tag)
		} else if f.fill != nil {
			t.filled.add(f.tag)
		}
		if response && f.tag == 0 {
			t.ret = f
			for _, alias := range []string{"", "tars_ret"} {
				if _, taken := t.byName[alias]; !taken {
					t.byName[alias] = f
				}
			}
		}
	}
}

// tagged finds the field with a tag, or nil.
func (t *Message) tagged(tag uint8) *field {
	if int(tag) < len(t.byTag) {
		return t.byTag[tag]
	}
	return nil
}

// number finds the field with a number of protobuf, or nil.
func (t *Message) number(n protowire.Number) *field {
	if n > 0 && int64(n) <= int64(len(t.byTag)) {
		return t.byTag[n-1]
	}
	return nil
}

func (c *Compiler) field(fd *schema.Field, o *tarsv1.Member) (*field, error) {
	if fd.Number < 1 || fd.Number > maxTag+1 || o.GetTag() != int32(fd.Number)-1 {
		return nil, fmt.Errorf("has number %d and tag %d: the tag is the number - 1, and at most %d", fd.Number, o.GetTag(), maxTag)
	}
	if fd.Oneof >= 0 && !c.natural {
		return nil, errors.New("is in a oneof, which TARS does not have")
	}
	f := &field{
		name: fd.JSONName, tag: uint8(o.GetTag()), require: o.GetRequire(), wireTag: fd.Tag, wire: fd.Wire,
		packedTag: fd.PackedTag, packed: fd.Packed, presence: fd.Presence,
	}
	switch {
	case fd.Cardinality == schema.Map:
		f.shape = mapping
		f.mapKey = fd.MapKey.Kind
		return f, c.mapEntry(f, fd, o)
	case fd.Cardinality == schema.Repeated && o.GetKey() != 0:
		f.shape = pairs
		if fd.Message == nil || kindOf(fd.Message) != tarsv1.Struct_ENTRY {
			return nil, errors.New("has the type of a key, and is no map and no list of entries")
		}
		var err error
		f.entry, err = c.Message(fd.Message)
		return f, err
	case fd.Cardinality == schema.Repeated:
		f.shape = list
	}
	if err := c.value(f, fd, o.GetType()); err != nil {
		return nil, err
	}
	if f.shape == single && fd.Message == nil {
		return f, f.defaults(fd, o.GetDefault())
	}
	if o.GetDefault() != nil {
		return nil, errors.New("has a default, which only a single number or string can have")
	}
	return f, nil
}

// mapEntry makes the table of a map's entries.
func (c *Compiler) mapEntry(f *field, fd *schema.Field, o *tarsv1.Member) error {
	f.entry = &Message{byName: map[string]*field{}}
	for tag, part := range []struct {
		fd  *schema.Field
		typ tarsv1.Type
	}{{fd.MapKey, o.GetKey()}, {fd.MapValue, o.GetType()}} {
		p := &field{name: part.fd.Name, tag: uint8(tag), part: true, wireTag: part.fd.Tag, wire: part.fd.Wire, zigzag: zigzag(part.fd)}
		if tag == 0 && part.typ == tarsv1.Type_ENUM && part.fd.Kind == protoreflect.Int32Kind {
			part.typ = tarsv1.Type_INT // protobuf has no keys that are enums
		}
		if err := c.value(p, part.fd, part.typ); err != nil {
			return err
		}
		f.entry.add(p)
	}
	f.entry.finish(false, false)
	return nil
}

// value settles the type of f's value or elements.
func (c *Compiler) value(f *field, fd *schema.Field, t tarsv1.Type) error {
	want, ok := natural[t]
	if !ok {
		return errors.New("has no type of TARS in its option")
	}
	if c.natural && naturalType(fd) == t {
		want = fd.Kind
	}
	if fd.Kind != want {
		return fmt.Errorf("is %s in protobuf, and %s in TARS, which is %s", fd.Kind, t, want)
	}
	s := scalar[t]
	f.kind, f.widest, f.low, f.high, f.isBool = t, s.widest, s.low, s.high, t == tarsv1.Type_BOOL
	if fd.Kind == protoreflect.Uint64Kind || fd.Kind == protoreflect.Fixed64Kind {
		f.low = 0 // what is higher than a long has no form
	}
	if fd.Message == nil {
		return nil
	}
	want2 := tarsv1.Struct_STRUCT
	if t == tarsv1.Type_WRAPPED {
		want2 = tarsv1.Struct_WRAPPER
	}
	if k := kindOf(fd.Message); k != want2 {
		return fmt.Errorf("has type %s, and message %s is marked as %s", t, fd.Message.Name, k)
	}
	var err error
	f.message, err = c.Message(fd.Message)
	return err
}

// defaults prepares what is written when a single number or string is not there: in protobuf its default, or zero, unless
// protobuf would not tell it from nothing; in TARS its default.
func (f *field) defaults(fd *schema.Field, d *tarsv1.Default) error {
	e := encoder{}
	bits, str := uint64(0), ""
	switch v := d.GetValue().(type) {
	case nil:
	case *tarsv1.Default_Integer:
		bits = uint64(v.Integer)
		switch f.kind {
		case tarsv1.Type_FLOAT, tarsv1.Type_DOUBLE, tarsv1.Type_STRING, tarsv1.Type_BYTES:
			return fmt.Errorf("has a whole number as default, and is %s", f.kind)
		}
		if v.Integer < f.low || v.Integer > f.high {
			return fmt.Errorf("has the default %d, wanted %d to %d", v.Integer, f.low, f.high)
		}
	case *tarsv1.Default_Number:
		switch f.kind {
		case tarsv1.Type_FLOAT:
			bits = uint64(math.Float32bits(float32(v.Number)))
		case tarsv1.Type_DOUBLE:
			bits = math.Float64bits(v.Number)
		default:
			return fmt.Errorf("has a fraction as default, and is %s", f.kind)
		}
	case *tarsv1.Default_Text:
		if str = v.Text; f.kind != tarsv1.Type_STRING {
			return fmt.Errorf("has a string as default, and is %s", f.kind)
		}
	}
	if d != nil {
		if f.kind == tarsv1.Type_STRING {
			f.def = AppendString(nil, f.tag, str)
		} else {
			e.number(f, f.tag, bits)
			f.def = e.out
		}
	}
	if !fd.Presence && bits == 0 && str == "" {
		return nil
	}
	f.fill = appendVarint(nil, f.wireTag)
	switch f.wire {
	case protowire.VarintType:
		f.fill = appendVarint(f.fill, bits)
	case protowire.Fixed32Type:
		f.fill = protowire.AppendFixed32(f.fill, uint32(bits))
	case protowire.Fixed64Type:
		f.fill = protowire.AppendFixed64(f.fill, bits)
	default:
		f.fill = protowire.AppendString(f.fill, str)
	}
	return nil
}
