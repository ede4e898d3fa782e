package schema

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Message is the table of one message type: what a codec needs to go over its fields without reflection. Read-only.
type Message struct {
	Name      string // full name
	WellKnown WellKnown
	// Fields stand in the order of JSON output: as declared, then the extensions known to the schema by full name.
	Fields []*Field
	Oneofs []Oneof
	// Required are the proto2 fields that must be set.
	Required []*Field
	// HasRequired says that this message or one below it has required fields, so presence must be checked.
	HasRequired bool
	Tars        bool    // it was compiled from TARS IDL
	Schema      *Schema // the schema the message belongs to: where an Any inside it finds its types
	Desc        protoreflect.MessageDescriptor

	dense  []*Field // by number, for small numbers
	sparse map[protowire.Number]*Field
	names  map[string]*Field
	answer bool // return value and out parameters of a function of TARS
}

// Oneof is a real oneof; the synthetic ones of proto3 optional fields are not listed.
type Oneof struct {
	Name   string
	Fields []*Field
}

// Cardinality says how often a field's value occurs.
type Cardinality uint8

// The cardinalities. A Map field's entries are described by MapKey and MapValue.
const (
	Singular Cardinality = iota
	Repeated
	Map
)

// Field is one field, extension or map entry part. Read-only.
type Field struct {
	Name     string // the text name: as declared; a group's message name; for an extension its full name in brackets
	JSONName string // as JSON has it; for an extension its full name in brackets
	// JSONKey and ProtoKey are the names as they stand in JSON output, quoted and with the colon.
	JSONKey, ProtoKey string
	// JSONNext and ProtoNext are the same behind another member, with a comma.
	JSONNext, ProtoNext string
	Number              protowire.Number
	Kind                protoreflect.Kind
	Wire                protowire.Type // of one element
	Tag                 uint64         // number and Wire, encoded as protowire.EncodeTag does
	EndTag              uint64         // groups only
	PackedTag           uint64         // repeated packable fields only: the tag of the packed form
	Cardinality         Cardinality
	Packed              bool // a repeated field that is written packed
	Presence            bool // singular with explicit presence: set and zero differ from unset
	Required            bool
	Plain               bool // singular, of a scalar kind, in no oneof
	UTF8                bool // a string that must be valid UTF-8 on the wire
	Tars                bool // of a message that was compiled from TARS IDL, or part of a map there
	Return              bool // the return value of a function of TARS: also known as tars_ret
	Index               int  // position in Message.Fields
	Oneof               int  // index in Message.Oneofs, or -1
	Self                Path // the path of this field alone, from its message
	Parent              *Message
	Message             *Message // kinds message and group, and maps whose value is a message
	Enum                *Enum    // kind enum, and maps whose value is an enum
	MapKey, MapValue    *Field   // maps only; numbers 1 and 2 of the entry
	Desc                protoreflect.FieldDescriptor
}

// Enum is the table of one enum type. Read-only.
type Enum struct {
	Name    string
	Closed  bool // unknown numbers are refused in JSON
	Null    bool // google.protobuf.NullValue
	Desc    protoreflect.EnumDescriptor
	numbers map[string]int32
	names   map[int32]string
	low     []string // names of the numbers from 0 on, as far as they have one
}

// Number finds the number of a value name.
func (e *Enum) Number(name []byte) (int32, bool) { n, ok := e.numbers[string(name)]; return n, ok }

// NumberOf is Number for a string.
func (e *Enum) NumberOf(name string) (int32, bool) { n, ok := e.numbers[name]; return n, ok }

// NameOf finds the first declared name of a number.
func (e *Enum) NameOf(n int32) (string, bool) {
	if n >= 0 && int(n) < len(e.low) {
		return e.low[n], true
	}
	s, ok := e.names[n]
	return s, ok
}

// ByNumber finds a field by its number, or nil.
func (m *Message) ByNumber(n protowire.Number) *Field {
	if n >= 0 && int(n) < len(m.dense) {
		return m.dense[n]
	}
	return m.sparse[n]
}

// ByName finds a field by its JSON or declared name, the JSON name first; or nil. It does not allocate.
func (m *Message) ByName(name []byte) *Field { return m.names[string(name)] }

// ByNameString is ByName for a string.
func (m *Message) ByNameString(name string) *Field { return m.names[name] }

// Path is a chain of fields from a message down, as the dotted names of a template variable or query parameter give it.
// Every field but the last is a singular message.
type Path []*Field

// Last is the field the path ends at.
func (p Path) Last() *Field { return p[len(p)-1] }

// String returns the path with declared names.
func (p Path) String() string {
	var b strings.Builder
	for i, f := range p {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(f.Name)
	}
	return b.String()
}

// Is tells whether name is the path's String.
func (p Path) Is(name string) bool {
	for i, f := range p {
		if i > 0 {
			if name == "" || name[0] != '.' {
				return false
			}
			name = name[1:]
		}
		var ok bool
		if name, ok = strings.CutPrefix(name, f.Name); !ok {
			return false
		}
	}
	return name == ""
}

// Path resolves dotted field names (declared or JSON names) from m down. The error names the part that does not
// resolve, and the nearest name.
func (m *Message) Path(dotted string) (Path, error) {
	var p Path
	at := m
	for part := range strings.SplitSeq(dotted, ".") {
		if len(p) > 0 {
			last := p.Last()
			if last.Cardinality != Singular || last.Message == nil {
				return nil, fmt.Errorf("field %q of %s is %s, so it has no field %q", last.Name, last.Parent.Name, last.Shape(), part)
			}
			at = last.Message
		}
		f := at.ByNameString(part)
		if f == nil {
			return nil, fmt.Errorf("%s has no field %q%s", at.Name, part, DidYouMean(part, at.FieldNames()))
		}
		p = append(p, f)
	}
	return p, nil
}

// FieldNames are the declared names of m's fields, for error messages.
func (m *Message) FieldNames() []string {
	names := make([]string, len(m.Fields))
	for i, f := range m.Fields {
		names[i] = f.Name
	}
	return names
}

// Shape describes the field's type for error messages: "a map", "repeated string", "an enum".
func (f *Field) Shape() string {
	switch {
	case f.Cardinality == Map:
		return "a map"
	case f.Cardinality == Repeated:
		return "repeated " + f.Kind.String()
	case f.Message != nil:
		return "message " + f.Message.Name
	case f.Enum != nil:
		return "enum " + f.Enum.Name
	default:
		return f.Kind.String()
	}
}

// WellKnown tells the messages with a JSON form of their own: those of google.protobuf, and those by which descriptors that
// were compiled from TARS IDL say what protobuf has no type for.
type WellKnown uint8

// The messages with a JSON form of their own; NotWellKnown is every other message.
const (
	NotWellKnown WellKnown = iota
	Any
	Timestamp
	Duration
	FieldMask
	Struct
	Value
	ListValue
	Empty
	// TarsItems is a vector or map inside another one, marked as WRAPPER (causeway.tars.v1.struct): its one field, which is
	// repeated or a map, stands for the whole.
	TarsItems
	// TarsEntry is an entry of a map whose keys protobuf does not allow, marked as ENTRY: the fields key and value, which are
	// always written.
	TarsEntry
	DoubleValue
	FloatValue
	Int64Value
	UInt64Value
	Int32Value
	UInt32Value
	BoolValue
	StringValue
	BytesValue
)

// Tars says that the message is one of TARS, TarsItems or TarsEntry.
func (w WellKnown) Tars() bool { return w == TarsItems || w == TarsEntry }

// Wrapper says that the message is one of the wrappers, DoubleValue to BytesValue.
func (w WellKnown) Wrapper() bool { return w >= DoubleValue }

var wellKnown = map[protoreflect.FullName]WellKnown{
	"google.protobuf.Any":         Any,
	"google.protobuf.Timestamp":   Timestamp,
	"google.protobuf.Duration":    Duration,
	"google.protobuf.FieldMask":   FieldMask,
	"google.protobuf.Struct":      Struct,
	"google.protobuf.Value":       Value,
	"google.protobuf.ListValue":   ListValue,
	"google.protobuf.Empty":       Empty,
	"google.protobuf.DoubleValue": DoubleValue,
	"google.protobuf.FloatValue":  FloatValue,
	"google.protobuf.Int64Value":  Int64Value,
	"google.protobuf.UInt64Value": UInt64Value,
	"google.protobuf.Int32Value":  Int32Value,
	"google.protobuf.UInt32Value": UInt32Value,
	"google.protobuf.BoolValue":   BoolValue,
	"google.protobuf.StringValue": StringValue,
	"google.protobuf.BytesValue":  BytesValue,
}

// wellKnownFields says what a codec relies on in the well-known types: field numbers with kind and cardinality, and
// the message a field must hold.
var wellKnownFields = map[WellKnown][]struct {
	number protowire.Number
	kind   protoreflect.Kind
	card   Cardinality
	holds  WellKnown
}{
	Any:         {{1, protoreflect.StringKind, Singular, 0}, {2, protoreflect.BytesKind, Singular, 0}},
	Timestamp:   {{1, protoreflect.Int64Kind, Singular, 0}, {2, protoreflect.Int32Kind, Singular, 0}},
	Duration:    {{1, protoreflect.Int64Kind, Singular, 0}, {2, protoreflect.Int32Kind, Singular, 0}},
	FieldMask:   {{1, protoreflect.StringKind, Repeated, 0}},
	Struct:      {{1, protoreflect.MessageKind, Map, Value}},
	ListValue:   {{1, protoreflect.MessageKind, Repeated, Value}},
	Empty:       {},
	DoubleValue: {{1, protoreflect.DoubleKind, Singular, 0}},
	FloatValue:  {{1, protoreflect.FloatKind, Singular, 0}},
	Int64Value:  {{1, protoreflect.Int64Kind, Singular, 0}},
	UInt64Value: {{1, protoreflect.Uint64Kind, Singular, 0}},
	Int32Value:  {{1, protoreflect.Int32Kind, Singular, 0}},
	UInt32Value: {{1, protoreflect.Uint32Kind, Singular, 0}},
	BoolValue:   {{1, protoreflect.BoolKind, Singular, 0}},
	StringValue: {{1, protoreflect.StringKind, Singular, 0}},
	BytesValue:  {{1, protoreflect.BytesKind, Singular, 0}},
	Value: {
		{1, protoreflect.EnumKind, Singular, 0},
		{2, protoreflect.DoubleKind, Singular, 0},
		{3, protoreflect.StringKind, Singular, 0},
		{4, protoreflect.BoolKind, Singular, 0},
		{5, protoreflect.MessageKind, Singular, Struct},
		{6, protoreflect.MessageKind, Singular, ListValue},
	},
}

// wellFormed says whether a message with the name of a well-known type, or marked as one of TARS, also has its fields, in
// their order, so that codecs may treat it as one.
func wellFormed(m *Message) bool {
	if m.WellKnown == TarsItems || m.WellKnown == TarsEntry {
		return tarsFormed(m)
	}
	want := wellKnownFields[m.WellKnown]
	if len(want) != len(m.Fields) || (m.WellKnown == Value) != (len(m.Oneofs) == 1) {
		return false
	}
	for i, w := range want {
		f := m.Fields[i]
		if f.Number != w.number || f.Kind != w.kind || f.Cardinality != w.card || (f.Oneof >= 0) != (m.WellKnown == Value) {
			return false
		}
		if w.holds != 0 && f.Message.WellKnown != w.holds || w.card == Map && f.MapKey.Kind != protoreflect.StringKind {
			return false
		}
	}
	return true
}
