package tarswire_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// TestIDL: the IDL of a service compiles, and what it says is on the wire is what the natural form has.
func TestIDL(t *testing.T) {
	file := plainFile()
	file.Package = proto.String("a.b.v1")
	fix := func(s *string) *string {
		if s == nil {
			return nil
		}
		return proto.String(strings.Replace(*s, ".p.", ".a.b.v1.", 1))
	}
	for _, m := range file.GetMessageType() {
		for _, f := range m.GetField() {
			f.TypeName = fix(f.TypeName)
		}
		for _, n := range m.GetNestedType() {
			for _, f := range n.GetField() {
				f.TypeName = fix(f.TypeName)
			}
		}
	}
	for _, m := range file.GetService()[0].GetMethod() {
		m.InputType, m.OutputType = fix(m.InputType), fix(m.OutputType)
	}
	file.Service[0].Method = append(file.Service[0].Method, &descriptorpb.MethodDescriptorProto{
		Name: proto.String("Watch"), InputType: proto.String(".a.b.v1.Inner"), OutputType: proto.String(".a.b.v1.Inner"), ServerStreaming: proto.Bool(true),
	})
	s := link(t, file)
	text := tarswire.IDL(s.Services())
	for _, line := range []string{
		"module a_b_v1\n{\n", "        Inner F(All req);\n", "        // Watch is not there: /a.b.v1.S/Watch is a server stream, and TARS has none\n",
		"    struct Inner\n    {\n        255 optional long x;\n    };\n", "optional map<string, Inner> message_map;", "optional vector<vector<byte> > bytess;",
		"    enum E\n    {\n        ZERO = 0,\n        MINUS = -5\n    };\n", " optional string string_;\n", " optional vector<All> self;\n",
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("want %q in\n%s", line, text)
		}
	}
	compiled := compile(t, string(text))
	f := function(t, compiled, "/a_b_v1.S/F")
	m, _ := s.Method("/a.b.v1.S/F")
	var c tarswire.Compiler
	natural, err := c.Natural(m)
	if err != nil {
		t.Fatal(err)
	}
	d := dynamicpb.NewMessage(m.Input.Desc)
	if err := protojson.Unmarshal([]byte(`{"int32":-5,"sint64":"-6","strings":["a"],"fixed32s":[7],"sint32Map":{"-1":-2},"bytess":["AQ=="],"message":{"x":"3"},"enum":"MINUS","double":1.5,"self":[{"bool":true}]}`), d); err != nil {
		t.Fatal(err)
	}
	wire, err := proto.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	body := tarswire.AppendHead(nil, 1, tarswire.StructBegin)
	if body, err = tarswire.AppendTARS(body, wire, natural.In, nil); err != nil {
		t.Fatal(err)
	}
	body = append(body, byte(tarswire.StructEnd))
	asDeclared, err := tarswire.AppendWire(nil, body, f.In, nil)
	if err != nil {
		t.Fatalf("what the natural form writes is not what the IDL says: %v", err)
	}
	again, err := tarswire.AppendTARS(nil, asDeclared, f.In, nil)
	if err != nil {
		t.Fatal(err)
	}
	in := tarswire.NewReader(again)
	in.Head()
	back, err := tarswire.AppendWire(nil, again[in.Offset():len(again)-1], natural.In, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := dynamicpb.NewMessage(m.Input.Desc)
	if err := proto.Unmarshal(back, got); err != nil {
		t.Fatal(err)
	}
	// Clients that are generated write what is optional with its zero.
	var want, found bytes.Buffer
	for _, one := range []struct {
		b *bytes.Buffer
		m proto.Message
	}{{&want, d}, {&found, got}} {
		one.b.WriteString(protojson.MarshalOptions{EmitUnpopulated: true}.Format(one.m))
	}
	if strings.ReplaceAll(want.String(), " ", "") != strings.ReplaceAll(found.String(), " ", "") {
		t.Errorf("want %s\nfound %s", &want, &found)
	}
}
