package tars

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// codec writes and reads the bodies of one method.
type codec struct {
	method *schema.Method
	fn     *tarswire.Function
	wire   tarswire.Options
}

// compile makes the tables of a method. With version JSON a method that is not of TARS IDL needs none: its fields are the
// parameters.
func (k *codec) compile(m *schema.Method, version int16, charset string, lenient, replace bool) error {
	k.method = m
	k.wire = tarswire.Options{Zeros: lenient, ReplaceUTF8: replace}
	switch charset {
	case "", "utf8":
	case "gbk":
		k.wire.Charset = tarswire.GBK
	default:
		return fmt.Errorf("options.charset: want utf8 or gbk, found %q%s", charset, schema.DidYouMean(charset, []string{"utf8", "gbk"}))
	}
	var c tarswire.Compiler
	fn, err := c.Natural(m)
	if err != nil {
		if version != VersionJSON || m.Kind != schema.Unary {
			return err
		}
		fn = &tarswire.Function{Name: string(m.Desc.Name()), Interface: m.Service.Name, Natural: true}
	}
	k.fn = fn
	return nil
}

// side is one message of a method, and how it stands in a body where it is a struct of its own.
type side struct {
	table *tarswire.Message
	typ   *schema.Message
	tag   uint8
	name  string // of the parameter, in TUP and JSON
}

func (k *codec) in() side {
	return side{k.fn.In, k.method.Input, 1, tarswire.NaturalParameter}
}

func (k *codec) out() side { return side{k.fn.Out, k.method.Output, 0, ""} }

// jsonNames are the names in JSON; the first that is there counts.
func (s *side) jsonNames() []string {
	if s.name == "" {
		return []string{returnName, ""}
	}
	return []string{s.name}
}

// jsonOptions are those of methods that are not of TARS IDL: as the SDKs write JSON.
var jsonOptions = &jsonwire.Options{ProtoNames: true, EnumNumbers: true, Int64Numbers: true, BytesAsArray: true, EmitUnpopulated: true, IgnoreUnknown: true}

// appendBody appends the body that stands for a message in wire form. flat: in JSON the members of a message that is not of
// TARS IDL are the parameters themselves.
func (k *codec) appendBody(dst, wire []byte, s side, version int16, flat bool) ([]byte, error) {
	switch {
	case version == VersionJSON && k.fn.Natural && flat:
		return jsonwire.AppendJSON(dst, wire, s.typ, jsonOptions)
	case version == VersionJSON && k.fn.Natural:
		name := s.name
		if name == "" {
			name = returnName
		}
		dst = append(append(append(dst, `{"`...), name...), `":`...)
		dst, err := jsonwire.AppendJSON(dst, wire, s.typ, jsonOptions)
		return append(dst, '}'), err
	case version == VersionJSON:
		return tarswire.AppendJSON(dst, wire, s.table, &k.wire)
	case version == VersionTUP && !k.fn.Natural:
		return tarswire.AppendTUP(dst, wire, s.table, &k.wire)
	case version == VersionTUP2 && !k.fn.Natural:
		return tarswire.AppendTUP2(dst, wire, s.table, &k.wire)
	case version == VersionTUP || version == VersionTUP2:
		return k.appendNaturalTUP(dst, wire, s, version)
	case k.fn.Natural:
		return k.appendStruct(dst, wire, s, s.tag)
	}
	return tarswire.AppendTARS(dst, wire, s.table, &k.wire)
}

// returnName is the key of a return value in JSON.
const returnName = tarswire.ReturnName

func (k *codec) appendStruct(dst, wire []byte, s side, tag uint8) ([]byte, error) {
	dst = tarswire.AppendHead(dst, tag, tarswire.StructBegin)
	dst, err := tarswire.AppendTARS(dst, wire, s.table, &k.wire)
	return append(dst, byte(tarswire.StructEnd)), err
}

// appendNaturalTUP appends a map of one entry, whose value is bytes that hold the struct with tag 0.
func (k *codec) appendNaturalTUP(dst, wire []byte, s side, version int16) ([]byte, error) {
	dst = tarswire.AppendMapHead(dst, 0, 1)
	dst = tarswire.AppendString(dst, 0, s.name)
	if version == VersionTUP2 {
		dst = tarswire.AppendTUPType(dst, s.typ.Name)
	}
	at := len(dst)
	dst, err := k.appendStruct(dst, wire, s, 0)
	if err != nil {
		return dst, err
	}
	n := len(dst) - at
	var room [16]byte
	head := tarswire.AppendBytesHead(room[:0], 1, n)
	dst = append(dst, head...)
	copy(dst[at+len(head):], dst[at:at+n])
	copy(dst[at:], head)
	return dst, nil
}

// body appends the wire form of the message that a body stands for.
func (k *codec) body(dst, body []byte, s side, version int16, flat bool) ([]byte, error) {
	switch {
	case version == VersionJSON && k.fn.Natural && flat:
		return jsonwire.AppendWire(dst, body, s.typ, jsonOptions)
	case version == VersionJSON && k.fn.Natural:
		value, err := tarswire.JSONMember(body, s.jsonNames()...)
		if err != nil {
			return dst, err
		}
		return jsonwire.AppendWire(dst, value, s.typ, jsonOptions)
	case version == VersionJSON:
		return tarswire.AppendJSONWire(dst, body, s.table, &k.wire)
	case (version == VersionTUP || version == VersionTUP2) && !k.fn.Natural:
		return tarswire.AppendTUPWire(dst, body, s.table, &k.wire)
	case version == VersionTUP || version == VersionTUP2:
		return k.naturalTUP(dst, body, s, version)
	case k.fn.Natural:
		return k.structure(dst, body, s, s.tag)
	}
	return tarswire.AppendWire(dst, body, s.table, &k.wire)
}

// structure finds the struct with a tag in a body; there may be others, which are passed over.
func (k *codec) structure(dst, body []byte, s side, tag uint8) ([]byte, error) {
	in := tarswire.NewReader(body)
	for in.More() {
		at, t := in.Head()
		if in.Fault() != "" {
			break
		}
		start := in.Offset()
		in.Skip(t)
		if in.Fault() != "" || at != tag {
			continue
		}
		if t != tarswire.StructBegin {
			return dst, fmt.Errorf("tag %d: wanted STRUCT_BEGIN, found %s", tag, t)
		}
		members := in.Since(start)
		return tarswire.AppendWire(dst, members[:len(members)-1], s.table, &k.wire) // without STRUCT_END
	}
	if in.Fault() != "" {
		return dst, errors.New(in.Fault())
	}
	return dst, fmt.Errorf("lacks the struct with tag %d", tag)
}

// naturalTUP finds the struct in a TUP body.
func (k *codec) naturalTUP(dst, body []byte, s side, version int16) ([]byte, error) {
	in := tarswire.NewReader(body)
	tag, t := in.Head()
	if in.Fault() != "" || tag != 0 || t != tarswire.Map {
		return dst, errors.New("wanted a map with tag 0")
	}
	for n := in.Len(t); n > 0 && in.Fault() == ""; n-- {
		_, t = in.Head()
		key := in.Bytes(t)
		_, t = in.Head()
		if version == VersionTUP2 {
			// A map from the name of a type to the bytes.
			if t != tarswire.Map || in.Len(t) < 1 {
				break
			}
			_, t = in.Head()
			in.Bytes(t)
			_, t = in.Head()
		}
		value := in.Bytes(t)
		if in.Fault() == "" && string(key) == s.name || s.name == "" && string(key) == returnName {
			return k.structure(dst, value, s, 0)
		}
	}
	if in.Fault() != "" {
		return dst, errors.New(in.Fault())
	}
	return dst, fmt.Errorf("lacks %q", s.name)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
