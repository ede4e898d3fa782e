package tarsidl

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// messageBuilder is one message in the making.
type messageBuilder struct {
	d    *descriptorpb.DescriptorProto
	full string          // full name
	used map[string]bool // names inside it: fields, oneofs and nested messages are of one kind
}

func (b *fileBuilder) message(name string, kind tarsv1.Struct_Kind) *messageBuilder {
	return b.marked(b.fd.GetPackage()+"."+name, name, kind)
}

// marked begins a message with the option that says what it is.
func (b *fileBuilder) marked(full, name string, kind tarsv1.Struct_Kind) *messageBuilder {
	m := &messageBuilder{
		d:    &descriptorpb.DescriptorProto{Name: proto.String(name), Options: &descriptorpb.MessageOptions{}},
		full: full,
		used: map[string]bool{},
	}
	proto.SetExtension(m.d.Options, tarsv1.E_Struct, &tarsv1.Struct{Kind: kind})
	b.imports[optionsFile] = true
	return m
}

// nested begins a message inside m, named after a field of m.
func (b *fileBuilder) nested(m *messageBuilder, field, suffix string, kind tarsv1.Struct_Kind) *messageBuilder {
	name := unused(m.used, camel(field)+suffix)
	m.used[name] = true
	return b.marked(m.full+"."+name, name, kind)
}

// done sets the options of the field that was added last.
func (m *messageBuilder) done(o *tarsv1.Member) {
	f := m.d.Field[len(m.d.Field)-1]
	f.Options = &descriptorpb.FieldOptions{}
	proto.SetExtension(f.Options, tarsv1.E_Member, o)
}

// field adds a field to m; done must follow. With presence a scalar is optional.
func (b *fileBuilder) field(m *messageBuilder, name string, tag int, t *typ, presence bool) *tarsv1.Member {
	f := &descriptorpb.FieldDescriptorProto{
		Name:     proto.String(name),
		JsonName: proto.String(name),
		Number:   proto.Int32(int32(tag) + 1), //nolint:gosec // at most 256
		Label:    descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
	o := &tarsv1.Member{Tag: int32(tag)} //nolint:gosec // at most 255
	repeated := descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	m.used[name] = true
	switch {
	case t.mapping() && b.plainMap(m, f, t, o):
	case t.mapping():
		f.Label = repeated
		pair := b.nested(m, name, "Pair", tarsv1.Struct_ENTRY)
		pair.done(b.field(pair, "key", 0, t.key, false))
		pair.done(b.field(pair, "value", 1, t.elem, false))
		m.d.NestedType = append(m.d.NestedType, pair.d)
		setType(f, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, pair.full)
		o.Key, o.Type = kindOf(t.key), kindOf(t.elem)
	case t.vector() && t.elem.kind == tarsv1.Type_BYTE:
		setType(f, descriptorpb.FieldDescriptorProto_TYPE_BYTES, "")
		o.Type = tarsv1.Type_BYTES
	case t.vector():
		f.Label = repeated
		o.Type = b.element(m, f, t.elem)
	default:
		o.Type = b.element(m, f, t)
		if presence && t.strukt == nil {
			b.optional(m, f)
		}
	}
	m.d.Field = append(m.d.Field, f)
	return o
}

// optional gives f presence, by the oneof around it that proto3 demands.
func (b *fileBuilder) optional(m *messageBuilder, f *descriptorpb.FieldDescriptorProto) {
	f.Proto3Optional = proto.Bool(true)
	oneof := "_" + f.GetName()
	for m.used[oneof] {
		oneof = "X" + oneof
	}
	m.used[oneof] = true
	f.OneofIndex = proto.Int32(index(m.d.OneofDecl))
	m.d.OneofDecl = append(m.d.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String(oneof)})
}

// element gives f the type t, by a message around it when it is a vector or map.
func (b *fileBuilder) element(m *messageBuilder, f *descriptorpb.FieldDescriptorProto, t *typ) tarsv1.Type {
	switch {
	case t.elem == nil:
		b.single(f, t)
	case t.vector() && t.elem.kind == tarsv1.Type_BYTE:
		setType(f, descriptorpb.FieldDescriptorProto_TYPE_BYTES, "")
	default:
		wrapper := b.nested(m, f.GetName(), "Items", tarsv1.Struct_WRAPPER)
		wrapper.done(b.field(wrapper, "items", 0, t, false))
		m.d.NestedType = append(m.d.NestedType, wrapper.d)
		setType(f, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, wrapper.full)
	}
	return kindOf(t)
}

// kindOf is the type of a value that is not a repeated field itself.
func kindOf(t *typ) tarsv1.Type {
	switch {
	case t.elem == nil:
		return t.kind
	case t.vector() && t.elem.kind == tarsv1.Type_BYTE:
		return tarsv1.Type_BYTES
	}
	return tarsv1.Type_WRAPPED
}

// plainMap makes f a map of protobuf when t's keys allow it.
func (b *fileBuilder) plainMap(m *messageBuilder, f *descriptorpb.FieldDescriptorProto, t *typ, o *tarsv1.Member) bool {
	name := camel(f.GetName()) + "Entry"
	if t.key.elem != nil || keyKinds[t.key.kind] == 0 || m.used[name] {
		return false
	}
	m.used[name] = true
	part := func(name string, number int32) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), JsonName: proto.String(name), Number: proto.Int32(number),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	key, value := part("key", 1), part("value", 2)
	setType(key, keyKinds[t.key.kind], "")
	value.Name = f.Name // for the name of a wrapper, which stands beside the map
	o.Type = b.element(m, value, t.elem)
	value.Name = proto.String("value")
	o.Key = t.key.kind
	m.d.NestedType = append(m.d.NestedType, &descriptorpb.DescriptorProto{
		Name:    proto.String(name),
		Field:   []*descriptorpb.FieldDescriptorProto{key, value},
		Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
	})
	f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	setType(f, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, m.full+"."+name)
	return true
}

// single gives f the type of a scalar, enum or struct.
func (b *fileBuilder) single(f *descriptorpb.FieldDescriptorProto, t *typ) {
	switch {
	case t.enum != nil:
		b.imports[b.files[t.enum]] = true
		setType(f, descriptorpb.FieldDescriptorProto_TYPE_ENUM, b.pkg(t.enum.module.name)+"."+t.enum.name)
	case t.strukt != nil:
		b.imports[b.files[t.strukt]] = true
		setType(f, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, b.pkg(t.strukt.module.name)+"."+t.strukt.name)
	default:
		setType(f, kinds[t.kind], "")
	}
}

func setType(f *descriptorpb.FieldDescriptorProto, t descriptorpb.FieldDescriptorProto_Type, full string) {
	f.Type = t.Enum()
	if full != "" {
		f.TypeName = proto.String("." + full)
	}
}

// kinds are what scalars are in protobuf.
var kinds = map[tarsv1.Type]descriptorpb.FieldDescriptorProto_Type{
	tarsv1.Type_BOOL:           descriptorpb.FieldDescriptorProto_TYPE_BOOL,
	tarsv1.Type_BYTE:           descriptorpb.FieldDescriptorProto_TYPE_INT32,
	tarsv1.Type_SHORT:          descriptorpb.FieldDescriptorProto_TYPE_INT32,
	tarsv1.Type_INT:            descriptorpb.FieldDescriptorProto_TYPE_INT32,
	tarsv1.Type_LONG:           descriptorpb.FieldDescriptorProto_TYPE_INT64,
	tarsv1.Type_UNSIGNED_BYTE:  descriptorpb.FieldDescriptorProto_TYPE_UINT32,
	tarsv1.Type_UNSIGNED_SHORT: descriptorpb.FieldDescriptorProto_TYPE_UINT32,
	tarsv1.Type_UNSIGNED_INT:   descriptorpb.FieldDescriptorProto_TYPE_UINT32,
	tarsv1.Type_FLOAT:          descriptorpb.FieldDescriptorProto_TYPE_FLOAT,
	tarsv1.Type_DOUBLE:         descriptorpb.FieldDescriptorProto_TYPE_DOUBLE,
	tarsv1.Type_STRING:         descriptorpb.FieldDescriptorProto_TYPE_STRING,
}

// keyKinds are what keys of maps are in protobuf; the others it does not allow.
var keyKinds = map[tarsv1.Type]descriptorpb.FieldDescriptorProto_Type{
	tarsv1.Type_BOOL:           descriptorpb.FieldDescriptorProto_TYPE_BOOL,
	tarsv1.Type_BYTE:           descriptorpb.FieldDescriptorProto_TYPE_INT32,
	tarsv1.Type_SHORT:          descriptorpb.FieldDescriptorProto_TYPE_INT32,
	tarsv1.Type_INT:            descriptorpb.FieldDescriptorProto_TYPE_INT32,
	tarsv1.Type_LONG:           descriptorpb.FieldDescriptorProto_TYPE_INT64,
	tarsv1.Type_UNSIGNED_BYTE:  descriptorpb.FieldDescriptorProto_TYPE_UINT32,
	tarsv1.Type_UNSIGNED_SHORT: descriptorpb.FieldDescriptorProto_TYPE_UINT32,
	tarsv1.Type_UNSIGNED_INT:   descriptorpb.FieldDescriptorProto_TYPE_UINT32,
	tarsv1.Type_STRING:         descriptorpb.FieldDescriptorProto_TYPE_STRING,
	tarsv1.Type_ENUM:           descriptorpb.FieldDescriptorProto_TYPE_INT32,
}

// camel is the name of a field as protobuf has it in the names of its map entries.
func camel(s string) string {
	var b strings.Builder
	upper := true
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '_':
			upper = true
			continue
		case upper && 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		upper = false
		b.WriteByte(c)
	}
	return b.String()
}
