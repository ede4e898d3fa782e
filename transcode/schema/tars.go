package schema

import (
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The options of causeway/tars/v1/tars.proto that concern JSON, and the kinds of a Struct there.
const (
	tarsStruct     protoreflect.FullName = "causeway.tars.v1.struct"
	tarsEnumerator protoreflect.FullName = "causeway.tars.v1.enumerator"

	tarsResponse = 2
	tarsWrapper  = 3
	tarsEntry    = 4
)

// tarsReturn is the name of a return value in the JSON of the SDKs of TARS.
const tarsReturn = "tars_ret"

// tarsMessage notes what the options of a message that was compiled from TARS IDL say; the fields come later.
func tarsMessage(m *Message, md protoreflect.MessageDescriptor) {
	o := option(md.Options(), tarsStruct)
	if o == nil {
		return
	}
	m.Tars = true
	kind := o.Descriptor().Fields().ByName("kind")
	if kind == nil || kind.Kind() != protoreflect.EnumKind || kind.IsList() {
		return
	}
	switch o.Get(kind).Enum() {
	case tarsWrapper:
		m.WellKnown = TarsItems
	case tarsEntry:
		m.WellKnown = TarsEntry
	case tarsResponse:
		m.answer = true
	}
}

// option finds an option of a message type by its name, whatever Go type it was read into; nil when it is not set.
func option(options protoreflect.ProtoMessage, name protoreflect.FullName) protoreflect.Message {
	var found protoreflect.Message
	if options == nil {
		return nil
	}
	options.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.FullName() == name && fd.Message() != nil && !fd.IsList() {
			found = v.Message()
		}
		return found == nil
	})
	return found
}

// tarsFormed says whether a marked message has the fields that its mark promises.
func tarsFormed(m *Message) bool {
	if len(m.Oneofs) > 0 || len(m.Required) > 0 {
		return false
	}
	if m.WellKnown == TarsItems {
		return len(m.Fields) == 1 && m.Fields[0].Cardinality != Singular
	}
	return len(m.Fields) == 2 && m.Fields[0].Name == "key" && m.Fields[1].Name == "value"
}

// tarsResult makes the return value of a function known by the name that it has in the JSON of the SDKs, unless an out
// parameter has it.
func (m *Message) tarsResult() {
	f := m.ByNumber(1) // of tag 0
	if !m.answer || f == nil || m.names[tarsReturn] != nil {
		return
	}
	f.Return = true
	m.names[tarsReturn] = f
}

// tarsValues makes the values of an enum known by their names in the IDL, where protobuf had to have others.
func (e *Enum) tarsValues() {
	values := e.Desc.Values()
	for i := range values.Len() {
		o := option(values.Get(i).Options(), tarsEnumerator)
		if o == nil {
			continue
		}
		fd := o.Descriptor().Fields().ByName("name")
		if fd == nil || fd.Kind() != protoreflect.StringKind || fd.IsList() {
			continue
		}
		name := o.Get(fd).String()
		if _, taken := e.numbers[name]; name != "" && !taken {
			e.numbers[name] = int32(values.Get(i).Number())
		}
	}
}
