package tars

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// plain is a schema with a service that knows nothing of TARS: Do and Stream.
func plain(t testing.TB) *schema.Schema {
	t.Helper()
	type kind = descriptorpb.FieldDescriptorProto_Type
	f := func(name string, n int32, k kind, typ string, repeated bool) *descriptorpb.FieldDescriptorProto {
		out := &descriptorpb.FieldDescriptorProto{Name: proto.String(name), Number: proto.Int32(n), Type: k.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		if repeated {
			out.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}
		if typ != "" {
			out.TypeName = proto.String(typ)
		}
		return out
	}
	const (
		i64, str, sint, msg, bytes = descriptorpb.FieldDescriptorProto_TYPE_INT64, descriptorpb.FieldDescriptorProto_TYPE_STRING,
			descriptorpb.FieldDescriptorProto_TYPE_SINT32, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, descriptorpb.FieldDescriptorProto_TYPE_BYTES
		fixed, flag, double = descriptorpb.FieldDescriptorProto_TYPE_FIXED64, descriptorpb.FieldDescriptorProto_TYPE_BOOL, descriptorpb.FieldDescriptorProto_TYPE_DOUBLE
	)
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("plain.proto"), Package: proto.String("plain.v1"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("Nested"), Field: []*descriptorpb.FieldDescriptorProto{f("word", 3, str, "", false)}},
			{Name: proto.String("Message"), Field: []*descriptorpb.FieldDescriptorProto{
				f("id", 1, i64, "", false), f("word", 2, str, "", false), f("list", 3, sint, "", true), f("nested", 16, msg, ".plain.v1.Nested", false),
				f("raw", 17, bytes, "", false), f("fixed", 18, fixed, "", false), f("flag", 20, flag, "", false), f("double", 21, double, "", false),
				f("many", 22, msg, ".plain.v1.Nested", true), f("counts", 23, msg, ".plain.v1.Message.CountsEntry", true), f("self", 24, msg, ".plain.v1.Message", true),
			}, NestedType: []*descriptorpb.DescriptorProto{{
				Name: proto.String("CountsEntry"), Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
				Field: []*descriptorpb.FieldDescriptorProto{f("key", 1, str, "", false), f("value", 2, sint, "", false)},
			}}},
			{Name: proto.String("Far"), Field: []*descriptorpb.FieldDescriptorProto{f("far", 257, str, "", false)}},
			{Name: proto.String("Loop"), Field: []*descriptorpb.FieldDescriptorProto{f("loop", 1, msg, ".plain.v1.Loop", false)}},
		},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Plain"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("Do"), InputType: proto.String(".plain.v1.Message"), OutputType: proto.String(".plain.v1.Message")},
			{Name: proto.String("Stream"), InputType: proto.String(".plain.v1.Message"), OutputType: proto.String(".plain.v1.Message"), ServerStreaming: proto.Bool(true)},
			{Name: proto.String("Far"), InputType: proto.String(".plain.v1.Far"), OutputType: proto.String(".plain.v1.Message")},
			{Name: proto.String("Loop"), InputType: proto.String(".plain.v1.Message"), OutputType: proto.String(".plain.v1.Loop")},
		}}},
	}
	files := new(protoregistry.Files)
	fd, err := protodesc.NewFile(file, files)
	if err != nil {
		t.Fatal(err)
	}
	if err := files.RegisterFile(fd); err != nil {
		t.Fatal(err)
	}
	s, err := schema.New(files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
