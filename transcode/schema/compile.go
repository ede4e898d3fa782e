package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// denseLimit is the highest field number kept in the direct table; beyond it numbers are looked up in a map.
const denseLimit = 255

// compiler builds the tables of one schema. The first fault is kept and the rest of the walk is harmless.
type compiler struct {
	s    *Schema
	exts map[protoreflect.FullName][]protoreflect.ExtensionDescriptor
	err  error
}

func (c *compiler) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *compiler) extensions(files *protoregistry.Files) {
	c.exts = map[protoreflect.FullName][]protoreflect.ExtensionDescriptor{}
	add := func(xs protoreflect.ExtensionDescriptors) {
		for i := range xs.Len() {
			x := xs.Get(i)
			c.exts[x.ContainingMessage().FullName()] = append(c.exts[x.ContainingMessage().FullName()], x)
		}
	}
	var nested func(ms protoreflect.MessageDescriptors)
	nested = func(ms protoreflect.MessageDescriptors) {
		for i := range ms.Len() {
			add(ms.Get(i).Extensions())
			nested(ms.Get(i).Messages())
		}
	}
	files.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		add(fd.Extensions())
		nested(fd.Messages())
		return true
	})
	for _, xs := range c.exts {
		slices.SortFunc(xs, func(a, b protoreflect.ExtensionDescriptor) int {
			return strings.Compare(string(a.FullName()), string(b.FullName()))
		})
	}
}

func (c *compiler) messages(ms protoreflect.MessageDescriptors) {
	for i := range ms.Len() {
		md := ms.Get(i)
		if !md.IsMapEntry() {
			c.message(md)
		}
		c.messages(md.Messages())
	}
}

// message compiles md, or returns the table it has: recursion ends because the table is stored before its fields are
// gone over.
func (c *compiler) message(md protoreflect.MessageDescriptor) *Message {
	if m, ok := c.s.messages[md.FullName()]; ok {
		return m
	}
	m := &Message{Name: string(md.FullName()), WellKnown: wellKnown[md.FullName()], Schema: c.s, Desc: md}
	c.s.messages[md.FullName()] = m
	if m.WellKnown == NotWellKnown {
		tarsMessage(m, md)
	}
	if o, ok := md.Options().(*descriptorpb.MessageOptions); ok && o.GetMessageSetWireFormat() {
		c.fail("message %s uses message_set_wire_format, which protobuf itself has retired: declare a plain message with extensions instead", md.FullName())
		return m
	}
	oneofs := map[protoreflect.FullName]int{}
	for i := range md.Oneofs().Len() {
		if od := md.Oneofs().Get(i); !od.IsSynthetic() {
			oneofs[od.FullName()] = len(m.Oneofs)
			m.Oneofs = append(m.Oneofs, Oneof{Name: string(od.Name())})
		}
	}
	fds := make([]protoreflect.FieldDescriptor, 0, md.Fields().Len())
	for i := range md.Fields().Len() {
		fds = append(fds, md.Fields().Get(i))
	}
	fds = append(fds, c.exts[md.FullName()]...)
	m.Fields = make([]*Field, 0, len(fds))
	m.names = make(map[string]*Field, 2*len(fds))
	var top protowire.Number
	for _, fd := range fds {
		f := c.field(m, fd)
		f.Index = len(m.Fields)
		f.Self = Path{f}
		if od := fd.ContainingOneof(); od != nil && !od.IsSynthetic() {
			f.Oneof = oneofs[od.FullName()]
			m.Oneofs[f.Oneof].Fields = append(m.Oneofs[f.Oneof].Fields, f)
		}
		f.Plain = f.Cardinality == Singular && f.Message == nil && f.Oneof < 0
		m.Fields = append(m.Fields, f)
		if f.Required {
			m.Required = append(m.Required, f)
		}
		if f.Number <= denseLimit {
			top = max(top, f.Number)
		}
	}
	if m.WellKnown != NotWellKnown && !wellFormed(m) {
		if m.Tars {
			c.fail("message %s does not have the fields that its option (%s) promises: a WRAPPER has one repeated or map field, an ENTRY the fields key and value", md.FullName(), tarsStruct)
			return m
		}
		c.fail("message %s is not declared as in protobuf's own file: leave it out of the upload, the standard one is bundled", md.FullName())
		return m
	}
	c.index(m, md)
	m.dense = make([]*Field, top+1)
	for _, f := range m.Fields {
		if f.Number <= denseLimit {
			m.dense[f.Number] = f
			continue
		}
		if m.sparse == nil {
			m.sparse = map[protowire.Number]*Field{}
		}
		m.sparse[f.Number] = f
	}
	m.tarsResult()
	return m
}

// index fills the names of m in the order in which protobuf's JSON mapping tries them: JSON names, then text names. A
// group is also known by the lower-case form of its names when protobuf-go knows it by them.
func (c *compiler) index(m *Message, md protoreflect.MessageDescriptor) {
	add := func(name string, f *Field) {
		if _, taken := m.names[name]; !taken {
			m.names[name] = f
		}
	}
	for _, f := range m.Fields {
		add(f.JSONName, f)
	}
	for _, f := range m.Fields {
		if lower := strings.ToLower(f.JSONName); f.Kind == protoreflect.GroupKind && md.Fields().ByJSONName(lower) == f.Desc {
			add(lower, f)
		}
	}
	for _, f := range m.Fields {
		add(f.Name, f)
	}
	for _, f := range m.Fields {
		if lower := strings.ToLower(f.Name); f.Kind == protoreflect.GroupKind && md.Fields().ByTextName(lower) == f.Desc {
			add(lower, f)
		}
	}
}

func (c *compiler) field(parent *Message, fd protoreflect.FieldDescriptor) *Field {
	f := &Field{
		Name:     fd.TextName(),
		JSONName: fd.JSONName(),
		Number:   fd.Number(),
		Kind:     fd.Kind(),
		Presence: fd.HasPresence(),
		Required: fd.Cardinality() == protoreflect.Required,
		Oneof:    -1,
		Parent:   parent,
		Desc:     fd,
		Tars:     parent != nil && parent.Tars,
	}
	f.JSONNext, f.ProtoNext = ","+quote(f.JSONName)+":", ","+quote(f.Name)+":"
	f.JSONKey, f.ProtoKey = f.JSONNext[1:], f.ProtoNext[1:]
	f.Wire = wireTypes[f.Kind]
	f.Tag = protowire.EncodeTag(f.Number, f.Wire)
	switch {
	case fd.IsMap():
		f.Cardinality = Map
		f.MapKey = c.field(nil, fd.MapKey())
		f.MapValue = c.field(nil, fd.MapValue())
		f.Message, f.Enum = f.MapValue.Message, f.MapValue.Enum
		f.MapKey.Tars, f.MapValue.Tars = f.Tars, f.Tars
		return f
	case fd.IsList():
		f.Cardinality = Repeated
		f.Packed = fd.IsPacked()
		if f.Wire != protowire.BytesType && f.Wire != protowire.StartGroupType {
			f.PackedTag = protowire.EncodeTag(f.Number, protowire.BytesType)
		}
	}
	switch f.Kind {
	case protoreflect.GroupKind:
		f.EndTag = protowire.EncodeTag(f.Number, protowire.EndGroupType)
		f.Message = c.message(fd.Message())
	case protoreflect.MessageKind:
		f.Message = c.message(fd.Message())
	case protoreflect.EnumKind:
		f.Enum = c.enum(fd.Enum())
	case protoreflect.StringKind:
		f.UTF8 = enforceUTF8(fd)
	}
	return f
}

// quote returns s as a JSON string: a json_name may hold any character.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return strconv.Quote(s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// required finds the messages with required fields below them: the flag spreads from a message to those that hold it.
func (c *compiler) required() {
	holders := map[*Message][]*Message{}
	var todo []*Message
	for _, m := range c.s.messages {
		for _, f := range m.Fields {
			if f.Message != nil {
				holders[f.Message] = append(holders[f.Message], m)
			}
		}
		if len(m.Required) > 0 {
			m.HasRequired = true
			todo = append(todo, m)
		}
	}
	for len(todo) > 0 {
		m := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, h := range holders[m] {
			if !h.HasRequired {
				h.HasRequired = true
				todo = append(todo, h)
			}
		}
	}
}

// enforceUTF8 follows protobuf-go: proto3 always, editions by the feature, proto2 never.
func enforceUTF8(fd protoreflect.FieldDescriptor) bool {
	if u, ok := fd.(interface{ EnforceUTF8() bool }); ok {
		return u.EnforceUTF8()
	}
	return fd.Syntax() == protoreflect.Proto3
}

func (c *compiler) enum(ed protoreflect.EnumDescriptor) *Enum {
	if e, ok := c.s.enums[ed.FullName()]; ok {
		return e
	}
	e := &Enum{
		Name:    string(ed.FullName()),
		Closed:  ed.IsClosed(),
		Null:    ed.FullName() == "google.protobuf.NullValue",
		Desc:    ed,
		numbers: make(map[string]int32, ed.Values().Len()),
		names:   make(map[int32]string, ed.Values().Len()),
	}
	c.s.enums[ed.FullName()] = e
	for i := range ed.Values().Len() {
		v := ed.Values().Get(i)
		e.numbers[string(v.Name())] = int32(v.Number())
		if _, ok := e.names[int32(v.Number())]; !ok {
			e.names[int32(v.Number())] = string(v.Name())
		}
	}
	e.tarsValues()
	for n := int32(0); ; n++ {
		name, ok := e.names[n]
		if !ok {
			break
		}
		e.low = append(e.low, name)
	}
	return e
}

var wireTypes = [...]protowire.Type{
	protoreflect.BoolKind:     protowire.VarintType,
	protoreflect.EnumKind:     protowire.VarintType,
	protoreflect.Int32Kind:    protowire.VarintType,
	protoreflect.Sint32Kind:   protowire.VarintType,
	protoreflect.Uint32Kind:   protowire.VarintType,
	protoreflect.Int64Kind:    protowire.VarintType,
	protoreflect.Sint64Kind:   protowire.VarintType,
	protoreflect.Uint64Kind:   protowire.VarintType,
	protoreflect.Sfixed32Kind: protowire.Fixed32Type,
	protoreflect.Fixed32Kind:  protowire.Fixed32Type,
	protoreflect.FloatKind:    protowire.Fixed32Type,
	protoreflect.Sfixed64Kind: protowire.Fixed64Type,
	protoreflect.Fixed64Kind:  protowire.Fixed64Type,
	protoreflect.DoubleKind:   protowire.Fixed64Type,
	protoreflect.StringKind:   protowire.BytesType,
	protoreflect.BytesKind:    protowire.BytesType,
	protoreflect.MessageKind:  protowire.BytesType,
	protoreflect.GroupKind:    protowire.StartGroupType,
}
