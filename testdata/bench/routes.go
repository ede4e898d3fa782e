package main

import (
	"fmt"
	"os"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/testdata/bench/benchpb"
)

// writeDescriptorSet writes the descriptors of the called service to a file, with extra more methods around it: half of
// them in files before it, half after.
func writeDescriptorSet(path string, extra int) error {
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(fd protoreflect.FileDescriptor)
	add = func(fd protoreflect.FileDescriptor) {
		if seen[fd.Path()] {
			return
		}
		seen[fd.Path()] = true
		for i := range fd.Imports().Len() {
			add(fd.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	own := benchpb.File_bench_proto
	for i := range own.Imports().Len() {
		add(own.Imports().Get(i).FileDescriptor)
	}
	groups := extra / perGroup
	for i := range groups {
		if i == groups/2 {
			add(own)
		}
		set.File = append(set.File, extraFile(i))
	}
	add(own)
	data, err := proto.Marshal(set)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// perGroup is how many methods one generated file holds.
const perGroup = 100

// extraFile is a generated file: one service with perGroup methods, each bound to a POST path of its own and with a
// request and an answer message of six fields.
func extraFile(group int) *descriptorpb.FileDescriptorProto {
	pkg := fmt.Sprintf("causeway.bench.group%03d", group)
	service := &descriptorpb.ServiceDescriptorProto{Name: proto.String("Items")}
	file := &descriptorpb.FileDescriptorProto{
		Name:       proto.String(fmt.Sprintf("group%03d.proto", group)),
		Package:    proto.String(pkg),
		Syntax:     proto.String("proto3"),
		Dependency: []string{"google/api/annotations.proto"},
		Service:    []*descriptorpb.ServiceDescriptorProto{service},
	}
	for i := range perGroup {
		in, out := fmt.Sprintf("Put%03dRequest", i), fmt.Sprintf("Put%03dReply", i)
		file.MessageType = append(file.MessageType, extraMessage(in), extraMessage(out))
		options := &descriptorpb.MethodOptions{}
		proto.SetExtension(options, annotations.E_Http, &annotations.HttpRule{
			Pattern: &annotations.HttpRule_Post{Post: extraPath(group*perGroup + i)},
			Body:    "*",
		})
		service.Method = append(service.Method, &descriptorpb.MethodDescriptorProto{
			Name:       proto.String(fmt.Sprintf("Put%03d", i)),
			InputType:  proto.String("." + pkg + "." + in),
			OutputType: proto.String("." + pkg + "." + out),
			Options:    options,
		})
	}
	return file
}

func extraMessage(name string) *descriptorpb.DescriptorProto {
	m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
	for i, f := range []struct {
		name     string
		kind     descriptorpb.FieldDescriptorProto_Type
		repeated bool
	}{
		{"id", descriptorpb.FieldDescriptorProto_TYPE_STRING, false},
		{"count", descriptorpb.FieldDescriptorProto_TYPE_INT64, false},
		{"price", descriptorpb.FieldDescriptorProto_TYPE_DOUBLE, false},
		{"note", descriptorpb.FieldDescriptorProto_TYPE_STRING, false},
		{"tags", descriptorpb.FieldDescriptorProto_TYPE_STRING, true},
		{"done", descriptorpb.FieldDescriptorProto_TYPE_BOOL, false},
	} {
		label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		if f.repeated {
			label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		}
		m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
			Name:     proto.String(f.name),
			JsonName: proto.String(f.name),
			Number:   proto.Int32(int32(i + 1)), //nolint:gosec // one of six
			Type:     f.kind.Enum(),
			Label:    label.Enum(),
		})
	}
	return m
}
