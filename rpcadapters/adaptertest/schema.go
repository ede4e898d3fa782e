// Package adaptertest is what the tests of adapters and faces share: a schema with methods of every kind, a handler in the
// gateway's place that says what reached it, an exchange without a network, and a server with all engines.
package adaptertest

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// The methods of the schema. All take and give demo.echo.v1.CallRequest.
const (
	Unary  = "/test.v1.Kinds/Unary"
	Safe   = "/test.v1.Kinds/Safe" // unary, without side effects
	Server = "/test.v1.Kinds/Server"
	Client = "/test.v1.Kinds/Client"
	Bidi   = "/test.v1.Kinds/Bidi"
)

// File describes one service, with a method of every kind.
func File(t testing.TB) protoreflect.FileDescriptor {
	t.Helper()
	message := (&echov1.CallRequest{}).ProtoReflect().Descriptor()
	method := func(name string, client, server bool, o *descriptorpb.MethodOptions) *descriptorpb.MethodDescriptorProto {
		typ := proto.String("." + string(message.FullName()))
		return &descriptorpb.MethodDescriptorProto{
			Name: proto.String(name), InputType: typ, OutputType: typ,
			ClientStreaming: proto.Bool(client), ServerStreaming: proto.Bool(server), Options: o,
		}
	}
	safe := &descriptorpb.MethodOptions{IdempotencyLevel: descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()}
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("test/v1/kinds.proto"), Package: proto.String("test.v1"), Syntax: proto.String("proto3"),
		Dependency: []string{message.ParentFile().Path()},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: proto.String("Kinds"),
			Method: []*descriptorpb.MethodDescriptorProto{
				method("Unary", false, false, nil), method("Safe", false, false, safe), method("Server", false, true, nil),
				method("Client", true, false, nil), method("Bidi", true, true, nil),
			},
		}},
	}
	files := new(protoregistry.Files)
	register(t, files, message.ParentFile())
	fd, err := protodesc.NewFile(file, files)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// Schema is a schema with the service of File.
func Schema(t testing.TB) *schema.Schema {
	t.Helper()
	files := new(protoregistry.Files)
	register(t, files, File(t))
	s, err := schema.New(files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// register adds a file and what it imports.
func register(t testing.TB, files *protoregistry.Files, fd protoreflect.FileDescriptor) {
	t.Helper()
	if _, err := files.FindFileByPath(fd.Path()); err == nil {
		return
	}
	for i := range fd.Imports().Len() {
		register(t, files, fd.Imports().Get(i).FileDescriptor)
	}
	if err := files.RegisterFile(fd); err != nil {
		t.Fatal(err)
	}
}

// Method finds a method of the schema.
func Method(t testing.TB, s *schema.Schema, name string) *schema.Method {
	t.Helper()
	m, ok := s.Method(name)
	if !ok {
		t.Fatalf("the schema has no method %s", name)
	}
	return m
}
