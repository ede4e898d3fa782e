package schema_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// tarsSchema compiles a file of which the messages and enums are given as text.
func tarsSchema(t *testing.T, declared string) (*schema.Schema, error) {
	t.Helper()
	fd := &descriptorpb.FileDescriptorProto{}
	text := `name: "t.proto" package: "t" syntax: "proto3" dependency: "causeway/tars/v1/tars.proto" ` + declared
	if err := prototext.Unmarshal([]byte(text), fd); err != nil {
		t.Fatal(err)
	}
	files := &protoregistry.Files{}
	for _, known := range []protoreflect.FileDescriptor{descriptorpb.File_google_protobuf_descriptor_proto, tarsv1.File_causeway_tars_v1_tars_proto} {
		if err := files.RegisterFile(known); err != nil {
			t.Fatal(err)
		}
	}
	f, err := protodesc.NewFile(fd, files)
	if err != nil {
		t.Fatal(err)
	}
	if err := files.RegisterFile(f); err != nil {
		t.Fatal(err)
	}
	return schema.New(files)
}

func marked(kind, fields string) string {
	return `message_type {name: "M" ` + fields + ` options {[causeway.tars.v1.struct] {kind: ` + kind + `}}}`
}

const (
	items    = `field {name: "items" number: 1 label: LABEL_REPEATED type: TYPE_INT32}`
	keyField = `field {name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_DOUBLE} `
	pair     = keyField + `field {name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_INT32}`
	ret      = `field {name: "ret" json_name: "ret" number: 1 label: LABEL_OPTIONAL type: TYPE_INT32} `
)

func TestTarsMarks(t *testing.T) {
	for _, c := range []struct {
		name, declared string
		want           schema.WellKnown
		fault          string
	}{
		{"struct", marked("STRUCT", items), schema.NotWellKnown, ""},
		{"wrapper", marked("WRAPPER", items), schema.TarsItems, ""},
		{"entry", marked("ENTRY", pair), schema.TarsEntry, ""},
		{"wrapper of nothing", marked("WRAPPER", ""), 0, "message t.M does not have the fields that its option (causeway.tars.v1.struct) promises"},
		{"wrapper of one", marked("WRAPPER", keyField), 0, "a WRAPPER has one repeated or map field"},
		{"wrapper of two", marked("WRAPPER", items+pair[len(keyField):]), 0, "a WRAPPER has one repeated or map field"},
		{"entry without value", marked("ENTRY", keyField), 0, "an ENTRY the fields key and value"},
		{"entry of others", marked("ENTRY", strings.Replace(pair, "key", "k", 1)), 0, "an ENTRY the fields key and value"},
		{"entry in a oneof", marked("ENTRY", strings.Replace(pair, "TYPE_DOUBLE", "TYPE_DOUBLE oneof_index: 0", 1)+` oneof_decl {name: "o"}`), 0, "an ENTRY the fields key and value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := tarsSchema(t, c.declared)
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Fatalf("%v, want %s", err, c.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m, _ := s.Message("t.M")
			if m.WellKnown != c.want || !m.Tars || !m.Fields[0].Tars || m.WellKnown.Wrapper() {
				t.Errorf("%d, %t: want %d", m.WellKnown, m.Tars, c.want)
			}
		})
	}
	s, err := tarsSchema(t, `message_type {name: "M" `+items+`}`)
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := s.Message("t.M"); m.Tars || m.Fields[0].Tars {
		t.Error("a message without options is one of TARS")
	}
}

func TestTarsNames(t *testing.T) {
	s, err := tarsSchema(t, marked("RESPONSE", ret))
	if err != nil {
		t.Fatal(err)
	}
	m, _ := s.Message("t.M")
	if f := m.ByNameString("tars_ret"); f == nil || f.Name != "ret" || !f.Return {
		t.Errorf("tars_ret is %v", f)
	}
	for name, declared := range map[string]string{
		"the name is taken":  marked("RESPONSE", ret+`field {name: "tars_ret" number: 2 label: LABEL_OPTIONAL type: TYPE_INT32}`),
		"nothing returned":   marked("RESPONSE", strings.Replace(ret, "number: 1", "number: 2", 1)),
		"a struct":           marked("STRUCT", ret),
		"not of TARS at all": `message_type {name: "M" ` + ret + `}`,
	} {
		if s, err = tarsSchema(t, declared); err != nil {
			t.Fatal(err)
		}
		m, _ = s.Message("t.M")
		if f := m.ByNameString("tars_ret"); m.Fields[0].Return || f != nil && f.Name != "tars_ret" {
			t.Errorf("%s: tars_ret is %v", name, f)
		}
	}
	s, err = tarsSchema(t, `enum_type {name: "E" value {name: "ZERO" number: 0} value {name: "E_LOW" number: 1 options {[causeway.tars.v1.enumerator] {name: "LOW"}}}
		value {name: "MAX" number: 2 options {[causeway.tars.v1.enumerator] {name: "ZERO"}}}}
		message_type {name: "M" field {name: "e" number: 1 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".t.E"}}`)
	if err != nil {
		t.Fatal(err)
	}
	m, _ = s.Message("t.M")
	e := m.Fields[0].Enum
	for name, want := range map[string]int32{"ZERO": 0, "E_LOW": 1, "LOW": 1, "MAX": 2} {
		if n, ok := e.NumberOf(name); !ok || n != want {
			t.Errorf("%s is %d, %t", name, n, ok)
		}
	}
	if name, _ := e.NameOf(1); name != "E_LOW" {
		t.Errorf("1 is %s", name)
	}
}
