package config

import (
	"encoding/json"
	"math"
	"regexp"

	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
)

// JSONSchema is the JSON Schema (2020-12) of a document, for editors. It says which keys and kinds of values there are;
// what else must hold is said by Load. The text is the same for the same types.
func JSONSchema(types Types) ([]byte, error) {
	b := schemaBuilder{types: types, defs: object{}}
	root := (*configv1.Config)(nil).ProtoReflect().Descriptor()
	b.define(root)
	out, err := json.MarshalIndent(object{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "Causeway configuration",
		"$ref":    reference(root),
		"$defs":   b.defs,
	}, "", "  ")
	return append(out, '\n'), err
}

type object map[string]any

type schemaBuilder struct {
	types Types
	defs  object
}

func reference(md protoreflect.MessageDescriptor) string { return "#/$defs/" + string(md.FullName()) }

// define adds the definition of a message, and of all that it refers to.
func (b *schemaBuilder) define(md protoreflect.MessageDescriptor) {
	name := string(md.FullName())
	if _, ok := b.defs[name]; ok {
		return
	}
	properties, others := object{}, object{}
	def := object{"type": "object", "properties": properties, "additionalProperties": false}
	b.defs[name] = def
	fds := md.Fields()
	for i := range fds.Len() {
		fd := fds.Get(i)
		s := b.field(fd)
		properties[string(fd.Name())] = s
		if fd.JSONName() != string(fd.Name()) { // taken, but not offered
			others["^"+regexp.QuoteMeta(fd.JSONName())+"$"] = s
		}
	}
	if len(others) > 0 {
		def["patternProperties"] = others
	}
	var rules []any
	for i := range md.Oneofs().Len() {
		if od := md.Oneofs().Get(i); !od.IsSynthetic() {
			rules = append(rules, oneofRule(od, md.ParentFile().Package() == "causeway.config.v1"))
		}
	}
	switch md.FullName() {
	case pluginName:
		rules = append(rules, object{"oneOf": []any{object{"required": []string{"name"}}, object{"anyOf": []any{
			object{"required": []string{"any_of"}}, object{"required": []string{"anyOf"}},
		}}}})
		rules = append(rules, b.namedRules("name", "config", b.types.Plugins)...)
	case credentialName:
		rules = append(rules, object{"required": []string{"plugin"}})
		rules = append(rules, b.namedRules("plugin", "config", b.types.Credentials)...)
	case serviceName:
		rules = append(rules, b.namedRules("adapter", "options", b.types.Adapters)...)
	case listenerName:
		rules = append(rules, b.namedRules("protocol", "options", b.types.Protocols)...)
	}
	if len(rules) > 0 {
		def["allOf"] = rules
	}
}

// oneofRule allows one member, or none unless one is required.
func oneofRule(od protoreflect.OneofDescriptor, required bool) object {
	var each, all []any
	for i := range od.Fields().Len() {
		fd := od.Fields().Get(i)
		has := object{"required": []string{string(fd.Name())}}
		if fd.JSONName() != string(fd.Name()) {
			has = object{"anyOf": []any{has, object{"required": []string{fd.JSONName()}}}}
		}
		each, all = append(each, has), append(all, has)
	}
	if !required {
		each = append(each, object{"not": object{"anyOf": all}})
	}
	return object{"oneOf": each}
}

// namedRules give a field the shape that the name under key asks for.
func (b *schemaBuilder) namedRules(key, field string, types Messages) []any {
	names := types.names()
	var rules []any
	if len(names) > 0 {
		known := append([]string(nil), names...)
		rules = append(rules, object{"properties": object{key: object{"anyOf": []any{object{"enum": known}, placeholder}}}})
	}
	for _, name := range names {
		md := types[name]
		if md == nil {
			continue
		}
		b.define(md)
		rules = append(rules, object{
			"if":   object{"properties": object{key: object{"const": name}}, "required": []string{key}},
			"then": object{"properties": object{field: object{"anyOf": []any{object{"type": "null"}, object{"$ref": reference(md)}}}}},
		})
	}
	return rules
}

// placeholder fits a text with a ${...} in it, which can stand for anything.
var placeholder = object{"type": "string", "pattern": `\$\{`}

func (b *schemaBuilder) field(fd protoreflect.FieldDescriptor) object {
	switch {
	case fd.IsMap():
		return object{"type": []string{"object", "null"}, "additionalProperties": b.value(fd.MapValue())}
	case fd.IsList():
		return object{"type": []string{"array", "null"}, "items": b.value(fd)}
	case wraps(fd):
		return object{"anyOf": []any{object{"type": "null"}, b.value(fd)}}
	}
	return b.value(fd)
}

// or adds ${...} to what a value may be.
func or(s object) object { return object{"anyOf": []any{s, placeholder}} }

func (b *schemaBuilder) value(fd protoreflect.FieldDescriptor) object {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return b.message(fd.Message())
	case protoreflect.BoolKind:
		return or(object{"type": "boolean"})
	case protoreflect.StringKind:
		return object{"type": "string"}
	case protoreflect.BytesKind:
		return or(object{"type": "string", "pattern": "^[A-Za-z0-9+/_-]*={0,2}$"})
	case protoreflect.EnumKind:
		return or(object{"enum": enumNames(fd.Enum())})
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return object{"type": []string{"number", "string"}}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return integer(math.MinInt32, int64(math.MaxInt32))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return integer(math.MinInt64, int64(math.MaxInt64))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return integer(0, int64(math.MaxUint32))
	default:
		return integer(0, uint64(math.MaxUint64))
	}
}

// integer is a number, or one in quotes.
func integer[T int64 | uint64](low int64, high T) object {
	return object{"type": []string{"integer", "string"}, "minimum": low, "maximum": high}
}

func (b *schemaBuilder) message(md protoreflect.MessageDescriptor) object {
	switch md.FullName() {
	case "google.protobuf.Duration":
		return or(object{"type": "string", "pattern": jsonDuration.String()})
	case "google.protobuf.Timestamp":
		return or(object{"type": "string", "pattern": rfc3339.String()})
	case "google.protobuf.Struct":
		return object{"type": "object"}
	case "google.protobuf.ListValue":
		return object{"type": "array"}
	case "google.protobuf.Value":
		return object{}
	case "google.protobuf.Any": // settings: see namedRules
		return object{"type": []string{"object", "null"}}
	case "google.protobuf.DoubleValue", "google.protobuf.FloatValue", "google.protobuf.Int64Value",
		"google.protobuf.UInt64Value", "google.protobuf.Int32Value", "google.protobuf.UInt32Value",
		"google.protobuf.BoolValue", "google.protobuf.StringValue", "google.protobuf.BytesValue":
		return b.value(md.Fields().ByNumber(1))
	}
	b.define(md)
	return object{"$ref": reference(md)}
}
