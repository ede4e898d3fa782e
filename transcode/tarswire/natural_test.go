package tarswire_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// plainFile has a field of every scalar kind, single and repeated, and maps of all of them.
func plainFile() *descriptorpb.FileDescriptorProto {
	m := &descriptorpb.DescriptorProto{Name: proto.String("All")}
	number := int32(1)
	add := func(name string, typ descriptorpb.FieldDescriptorProto_Type, label descriptorpb.FieldDescriptorProto_Label, of string) {
		f := &descriptorpb.FieldDescriptorProto{Name: proto.String(name), Number: proto.Int32(number), Type: typ.Enum(), Label: label.Enum()}
		if of != "" {
			f.TypeName = proto.String(of)
		}
		m.Field = append(m.Field, f)
		number++
	}
	const one, many = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	for kind := descriptorpb.FieldDescriptorProto_TYPE_DOUBLE; kind <= descriptorpb.FieldDescriptorProto_TYPE_SINT64; kind++ {
		short := strings.ToLower(strings.TrimPrefix(kind.String(), "TYPE_"))
		of := ""
		switch kind {
		case descriptorpb.FieldDescriptorProto_TYPE_GROUP:
			continue
		case descriptorpb.FieldDescriptorProto_TYPE_MESSAGE:
			of = ".p.Inner"
		case descriptorpb.FieldDescriptorProto_TYPE_ENUM:
			of = ".p.E"
		}
		add(short, kind, one, of)
		add(short+"s", kind, many, of)
		entry := strings.ToUpper(short[:1]) + short[1:] + "MapEntry"
		value := &descriptorpb.FieldDescriptorProto{Name: proto.String("value"), Number: proto.Int32(2), Type: kind.Enum(), Label: one.Enum()}
		if of != "" {
			value.TypeName = proto.String(of)
		}
		key := descriptorpb.FieldDescriptorProto_TYPE_STRING
		if of == "" && !strings.ContainsAny(short, "y") && short != "double" && short != "float" {
			key = kind
		}
		m.NestedType = append(m.NestedType, &descriptorpb.DescriptorProto{
			Name: proto.String(entry), Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
			Field: []*descriptorpb.FieldDescriptorProto{{Name: proto.String("key"), Number: proto.Int32(1), Type: key.Enum(), Label: one.Enum()}, value},
		})
		add(short+"_map", descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, many, ".p.All."+entry)
	}
	add("self", descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, many, ".p.All")
	return &descriptorpb.FileDescriptorProto{
		Name: proto.String("p.proto"), Package: proto.String("p"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{m, {Name: proto.String("Inner"), Field: []*descriptorpb.FieldDescriptorProto{
			{Name: proto.String("x"), Number: proto.Int32(256), Type: descriptorpb.FieldDescriptorProto_TYPE_SINT64.Enum(), Label: one.Enum()},
		}}},
		EnumType: []*descriptorpb.EnumDescriptorProto{{Name: proto.String("E"), Value: []*descriptorpb.EnumValueDescriptorProto{
			{Name: proto.String("ZERO"), Number: proto.Int32(0)}, {Name: proto.String("MINUS"), Number: proto.Int32(-5)},
		}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("F"), InputType: proto.String(".p.All"), OutputType: proto.String(".p.Inner")},
		}}},
	}
}

// TestNatural: messages that know nothing of TARS survive it, whatever their fields are.
func TestNatural(t *testing.T) {
	s := link(t, plainFile())
	method, _ := s.Method("/p.S/F")
	var c tarswire.Compiler
	f, err := c.Natural(method)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Natural || f.Name != "F" || f.Interface != "p.S" {
		t.Errorf("%+v", f)
	}
	const sample = `{
		"int32":-2147483648,"int64":"-9223372036854775808","uint32":4294967295,"uint64":"9223372036854775807","sint32":-7,"sint64":"-9223372036854775808",
		"fixed32":4294967295,"fixed64":"9223372036854775807","sfixed32":-1,"sfixed64":"-9","bool":true,"string":"日本","bytes":"AAH/","double":-0.5,"float":1.5,
		"enum":"MINUS","message":{"x":"-3"},
		"int32s":[0,1,-1],"sint32s":[0,-1,300],"sint64s":["0","-5"],"fixed32s":[0,7],"fixed64s":["8"],"sfixed32s":[-8],"sfixed64s":["-9","0"],"bools":[true,false],
		"strings":["","a"],"bytess":["","AQ=="],"doubles":[0,1.25],"floats":[2],"enums":["ZERO","MINUS"],"messages":[{},{"x":"1"}],"uint64s":["1"],"uint32s":[3],"int64s":["-4"],
		"int32Map":{"-1":5,"0":0},"sint32Map":{"-6":-7},"sint64Map":{"-8":"9"},"fixed32Map":{"4":5},"fixed64Map":{"1":"2"},"sfixed32Map":{"-1":-2},"sfixed64Map":{"-3":"-4"},
		"boolMap":{"true":true,"false":false},"stringMap":{"":"","k":"v"},"bytesMap":{"b":"AQ=="},"doubleMap":{"d":1.5},"floatMap":{"f":2.5},"enumMap":{"e":"MINUS"},
		"messageMap":{"m":{"x":"2"},"empty":{}},"self":[{"int32":1},{}]
	}`
	d := dynamicpb.NewMessage(method.Input.Desc)
	if err := protojson.Unmarshal([]byte(sample), d); err != nil {
		t.Fatal(err)
	}
	wire, err := proto.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	tars, err := tarswire.AppendTARS(nil, wire, f.In, nil)
	if err != nil {
		t.Fatal(err)
	}
	back, err := tarswire.AppendWire(nil, tars, f.In, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := dynamicpb.NewMessage(method.Input.Desc)
	if err := proto.Unmarshal(back, got); err != nil || !proto.Equal(d, got) {
		t.Errorf("want %v\nfound %v, %v", d, got, err)
	}
	text, err := tarswire.AppendJSON(nil, wire, f.In, nil)
	if err != nil {
		t.Fatal(err)
	}
	again := dynamicpb.NewMessage(method.Input.Desc)
	if back, err = tarswire.AppendJSONWire(nil, text, f.In, nil); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(back, again); err != nil || !proto.Equal(d, again) {
		t.Errorf("want %v\nfound %v, %v", d, again, err)
	}
	for _, one := range []string{`{"uint64":"9223372036854775808"}`, `{"fixed64s":["18446744073709551615"]}`} {
		d := dynamicpb.NewMessage(method.Input.Desc)
		if err := protojson.Unmarshal([]byte(one), d); err != nil {
			t.Fatal(err)
		}
		wire, err := proto.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tarswire.AppendTARS(nil, wire, f.In, nil); err == nil || !strings.Contains(err.Error(), "wanted 0 to 9223372036854775807, found -") {
			t.Errorf("%s: %v", one, err)
		}
	}
}

// TestNaturalZeros: what clients write though they have not set it is as good as nothing; of a oneof the last that is not zero
// counts.
func TestNaturalZeros(t *testing.T) {
	file := plainFile()
	file.MessageType[0].OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: proto.String("either")}}
	var one, others []*descriptorpb.FieldDescriptorProto
	for _, f := range file.GetMessageType()[0].GetField() {
		switch f.GetName() {
		case "string", "message", "sint32", "enum":
			f.OneofIndex = proto.Int32(0)
			one = append(one, f)
		default:
			others = append(others, f)
		}
	}
	file.MessageType[0].Field = append(one, others...)
	s := link(t, file)
	m, _ := s.Method("/p.S/F")
	var c tarswire.Compiler
	f, err := c.Natural(m)
	if err != nil {
		t.Fatal(err)
	}
	zeros := func(with string) []byte {
		var b []byte
		for n := range uint8(100) {
			fd := m.Input.ByNumber(protowire.Number(n) + 1)
			if fd == nil || fd.Cardinality != schema.Singular {
				continue
			}
			switch fd.Name {
			case "string":
				if with == "string" {
					b = tarswire.AppendString(b, n, "set")
				} else {
					b = tarswire.AppendString(b, n, "")
				}
			case "bytes":
				b = tarswire.AppendBytes(b, n, nil)
			case "message":
				b = tarswire.AppendHead(b, n, tarswire.StructBegin)
				if with == "message" {
					b = tarswire.AppendInt(b, 255, 7)
				} else {
					b = tarswire.AppendInt(b, 255, 0)
				}
				b = append(b, byte(tarswire.StructEnd))
			default:
				b = tarswire.AppendInt(b, n, 0)
			}
		}
		return b
	}
	for with, want := range map[string]string{"": "{}", "string": `{"string":"set"}`, "message": `{"message":{"x":"7"}}`} {
		wire, err := tarswire.AppendWire(nil, zeros(with), f.In, nil)
		if err != nil || inJSON(t, wire, f.In) != want {
			t.Errorf("want %s, found %s, %v", want, inJSON(t, wire, f.In), err)
		}
	}
}

// TestNaturalErrors: what has no form in TARS is refused by name.
func TestNaturalErrors(t *testing.T) {
	file := plainFile()
	for _, f := range file.GetMessageType()[0].GetField() {
		if f.GetName() == "string" {
			f.Number = proto.Int32(300)
		}
	}
	m, _ := link(t, file).Method("/p.S/F")
	var c tarswire.Compiler
	const want = "/p.S/F: field string of p.All has number 300 and tag 299: the tag is the number - 1, and at most 255"
	if _, err := c.Natural(m); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// FuzzNatural: what went through the natural form once goes through it unchanged, over TARS and over JSON; and it is a message of
// protobuf.
func FuzzNatural(f *testing.F) {
	s := link(f, plainFile())
	m, _ := s.Method("/p.S/F")
	var c tarswire.Compiler
	fn, err := c.Natural(m)
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		`{"int32":-5,"sint64":"-6","strings":["a",""],"fixed32s":[7,0],"sint32Map":{"-1":-2},"bytess":["AQ=="],"message":{"x":"3"}}`,
		`{"enum":"MINUS","double":-0.0,"self":[{"bool":true},{}],"messageMap":{"a":{}},"bytes":"AA==","float":"NaN"}`, `{}`,
	} {
		d := dynamicpb.NewMessage(m.Input.Desc)
		if err := protojson.Unmarshal([]byte(text), d); err != nil {
			f.Fatal(err)
		}
		wire, err := proto.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	through := func(wire []byte) ([]byte, []byte, error) {
		tars, err := tarswire.AppendTARS(nil, wire, fn.In, nil)
		if err != nil {
			return nil, nil, err
		}
		back, err := tarswire.AppendWire(nil, tars, fn.In, nil)
		return back, tars, err
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		once, _, err := through(wire)
		if err != nil {
			return
		}
		if err := unmarshal(once, dynamicpb.NewMessage(m.Input.Desc)); err != nil {
			t.Fatalf("%x became %x: %v", wire, once, err)
		}
		twice, tars, err := through(once)
		if err != nil {
			if limited(err) {
				return
			}
			t.Fatalf("%x became %x, which does not pass: %v", wire, once, err)
		}
		thrice, again, err := through(twice)
		if err != nil || !bytes.Equal(twice, thrice) || !bytes.Equal(tars, again) {
			t.Fatalf("%x became %x, and then %x, %v", once, twice, thrice, err)
		}
	})
}
