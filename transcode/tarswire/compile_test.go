package tarswire_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// TestFunction: what an adapter learns of a method.
func TestFunction(t *testing.T) {
	s := kit(t)
	f := function(t, s, "/Kit.Echo/transform")
	if f.Name != "transform" || f.Interface != "Kit.Echo" || len(f.Parameters) != 4 || f.Parameters[3] != "note" || f.OneWay() || f.RouteKey != nil {
		t.Errorf("transform: %+v", f)
	}
	if f := function(t, s, "/Kit.Echo/note"); !f.OneWay() {
		t.Error("note has something to answer")
	}
	o := compile(t, `module M { interface I { void f(int a, routekey string k); }; struct I { 0 require int x; }; };`)
	f = function(t, o, "/M.IService/f")
	if f.Interface != "M.I" || f.RouteKey == nil || f.RouteKey.Name != "k" {
		t.Errorf("f: %+v", f)
	}
}

// field makes a field of a message of which nothing is compiled from IDL.
func field(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, o *tarsv1.Member) *descriptorpb.FieldDescriptorProto {
	f := &descriptorpb.FieldDescriptorProto{
		Name: proto.String(name), Number: proto.Int32(number), Type: kind.Enum(),
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Options: &descriptorpb.FieldOptions{},
	}
	if o != nil {
		proto.SetExtension(f.Options, tarsv1.E_Member, o)
	}
	return f
}

// TestCompileErrors: options that do not go with their message, as a set from elsewhere may have them, are refused by name.
func TestCompileErrors(t *testing.T) {
	const i32, str = descriptorpb.FieldDescriptorProto_TYPE_INT32, descriptorpb.FieldDescriptorProto_TYPE_STRING
	repeated := func(f *descriptorpb.FieldDescriptorProto) *descriptorpb.FieldDescriptorProto {
		f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		return f
	}
	integer := func(v int64) *tarsv1.Default { return &tarsv1.Default{Value: &tarsv1.Default_Integer{Integer: v}} }
	for _, c := range []struct {
		name  string
		kind  tarsv1.Struct_Kind
		field *descriptorpb.FieldDescriptorProto
		want  string
	}{
		{"no option", 0, field("a", 1, i32, nil), "field a of m.M has no option causeway.tars.v1.member"},
		{"tag is not the number", 0, field("a", 3, i32, &tarsv1.Member{Tag: 3, Type: tarsv1.Type_INT}), "field a of m.M has number 3 and tag 3: the tag is the number - 1, and at most 255"},
		{"tag too large", 0, field("a", 257, i32, &tarsv1.Member{Tag: 256, Type: tarsv1.Type_INT}), "field a of m.M has number 257 and tag 256: the tag is the number - 1, and at most 255"},
		{"no type", 0, field("a", 1, i32, &tarsv1.Member{}), "field a of m.M has no type of TARS in its option"},
		{"another type", 0, field("a", 1, i32, &tarsv1.Member{Type: tarsv1.Type_LONG}), "field a of m.M is int32 in protobuf, and LONG in TARS, which is int64"},
		{"default out of range", 0, field("a", 1, i32, &tarsv1.Member{Type: tarsv1.Type_BYTE, Default: integer(200)}), "field a of m.M has the default 200, wanted -128 to 127"},
		{"default of a string", 0, field("a", 1, str, &tarsv1.Member{Type: tarsv1.Type_STRING, Default: integer(2)}), "field a of m.M has a whole number as default, and is STRING"},
		{"default of a list", 0, repeated(field("a", 1, i32, &tarsv1.Member{Type: tarsv1.Type_INT, Default: integer(2)})), "field a of m.M has a default, which only a single number or string can have"},
		{"key without entries", 0, repeated(field("a", 1, i32, &tarsv1.Member{Type: tarsv1.Type_INT, Key: tarsv1.Type_INT})), "field a of m.M has the type of a key, and is no map and no list of entries"},
	} {
		m := &descriptorpb.DescriptorProto{Name: proto.String("M"), Field: []*descriptorpb.FieldDescriptorProto{c.field}, Options: &descriptorpb.MessageOptions{}}
		proto.SetExtension(m.Options, tarsv1.E_Struct, &tarsv1.Struct{Kind: c.kind})
		s := link(t, &descriptorpb.FileDescriptorProto{
			Name: proto.String("m.proto"), Package: proto.String("m"), Syntax: proto.String("proto3"),
			Dependency: []string{"causeway/tars/v1/tars.proto"}, MessageType: []*descriptorpb.DescriptorProto{m},
		})
		is, _ := s.Message("m.M")
		var compiler tarswire.Compiler
		if _, err := compiler.Message(is); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	// A method that no IDL has declared.
	s := link(t, &descriptorpb.FileDescriptorProto{
		Name: proto.String("m.proto"), Package: proto.String("m"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{{
			Name: proto.String("F"), InputType: proto.String(".m.M"), OutputType: proto.String(".m.M"),
		}}}},
	})
	m, _ := s.Method("/m.S/F")
	var compiler tarswire.Compiler
	const want = "/m.S/F has no option causeway.tars.v1.function: it was not compiled from TARS IDL"
	if _, err := compiler.Function(m); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
