package tarswire

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// NaturalParameter is the name of the one parameter of a method that was not compiled from TARS IDL.
const NaturalParameter = "req"

// Natural compiles a method whether it was compiled from TARS IDL or not. One that was not is a function of its own name, in
// an interface with the full name of its service, with one parameter and a return value that are structs. A message is a
// struct whose tags are the numbers of its fields less one, all of them optional with zero as default: since clients write what
// they have not set, a zero, an empty struct too, is as if it were not there, and of a oneof the last that is not zero counts.
// The error says what has no such form.
func (c *Compiler) Natural(m *schema.Method) (*Function, error) {
	if _, ok := extension[*tarsv1.Function](m.Desc.Options(), tarsv1.E_Function); ok {
		return c.Function(m)
	}
	if m.Kind != schema.Unary {
		return nil, fmt.Errorf("%s is a %s, and TARS has none", m.Name, m.Kind)
	}
	c.natural = true
	defer func() { c.natural, c.within = false, nil }()
	f := &Function{Name: string(m.Desc.Name()), Interface: m.Service.Name, Parameters: []string{NaturalParameter}, Natural: true}
	var err error
	if f.In, err = c.Message(m.Input); err == nil {
		f.Out, err = c.Message(m.Output)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	return f, nil
}

// naturalMessage compiles a message without options.
func (c *Compiler) naturalMessage(m *schema.Message) (*Message, error) {
	if c.seen == nil {
		c.seen = map[*schema.Message]*Message{}
	}
	t := &Message{Schema: m, byName: map[string]*field{}}
	c.seen[m] = t
	c.within = append(c.within, m)
	for _, fd := range m.Fields {
		if fd.Desc.IsExtension() {
			continue // as a field that is not known
		}
		if fd.Message != nil && fd.Cardinality == schema.Singular && slices.Contains(c.within, fd.Message) {
			return nil, c.forget(m, fd, "makes it contain itself without a list or map between, which structs of TARS cannot")
		}
		within := c.within
		if fd.Cardinality != schema.Singular {
			c.within = nil
		}
		f, err := c.naturalField(fd)
		if c.within = within; err != nil {
			return nil, c.forget(m, fd, err.Error())
		}
		t.add(f)
	}
	c.within = c.within[:len(c.within)-1]
	t.finish(false, false)
	return t, nil
}

func (c *Compiler) naturalField(fd *schema.Field) (*field, error) {
	o := &tarsv1.Member{Tag: int32(fd.Number) - 1, Require: fd.Required}
	part := fd
	if fd.Cardinality == schema.Map {
		part = fd.MapValue
		if o.Key = naturalType(fd.MapKey); o.GetKey() == 0 {
			return nil, fmt.Errorf("has keys of type %s, which TARS does not have", fd.MapKey.Kind)
		}
	}
	if o.Type = naturalType(part); o.GetType() == 0 {
		return nil, fmt.Errorf("is %s, which TARS does not have", part.Kind)
	}
	f, err := c.field(fd, o)
	if err != nil {
		return nil, err
	}
	if fd.Cardinality == schema.Map && f.entry == nil {
		return nil, errors.New("is a map without entries")
	}
	f.name, f.fill, f.zigzag = fd.Name, nil, zigzag(fd)
	f.lean = f.shape == single && !fd.Required && (!fd.Presence || fd.Message != nil || fd.Oneof >= 0)
	return f, nil
}

// naturalType is the type of TARS for a field of protobuf without options; 0: there is none.
func naturalType(fd *schema.Field) tarsv1.Type {
	switch fd.Kind {
	case protoreflect.BoolKind:
		return tarsv1.Type_BOOL
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return tarsv1.Type_INT
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return tarsv1.Type_UNSIGNED_INT
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return tarsv1.Type_LONG
	case protoreflect.FloatKind:
		return tarsv1.Type_FLOAT
	case protoreflect.DoubleKind:
		return tarsv1.Type_DOUBLE
	case protoreflect.StringKind:
		return tarsv1.Type_STRING
	case protoreflect.BytesKind:
		return tarsv1.Type_BYTES
	case protoreflect.EnumKind:
		return tarsv1.Type_ENUM
	case protoreflect.MessageKind:
		return tarsv1.Type_STRUCT
	case protoreflect.GroupKind:
	}
	return 0
}

func zigzag(fd *schema.Field) bool {
	return fd.Kind == protoreflect.Sint32Kind || fd.Kind == protoreflect.Sint64Kind
}
