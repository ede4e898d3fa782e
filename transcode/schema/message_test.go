package schema_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

const (
	optional = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
	repeated = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
)

func newField(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, label descriptorpb.FieldDescriptorProto_Label, typeName string) *descriptorpb.FieldDescriptorProto {
	f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: &kind, Label: &label}
	if typeName != "" {
		f.TypeName = &typeName
	}
	return f
}

func compileProtos(t *testing.T, files ...*descriptorpb.FileDescriptorProto) (*schema.Schema, error) {
	t.Helper()
	reg, err := protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: files})
	if err != nil {
		t.Fatal(err)
	}
	return schema.New(reg)
}

// TestNames: JSON names come before declared ones, and a group answers to the lower-case form of its name.
func TestNames(t *testing.T) {
	const str, group = descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_GROUP
	clash := newField("clash", 2, str, optional, "")
	clash.JsonName = proto.String("first_name")
	s, err := compileProtos(t, &descriptorpb.FileDescriptorProto{
		Name: proto.String("a.proto"), Package: proto.String("a"),
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("M"),
			Field: []*descriptorpb.FieldDescriptorProto{
				newField("first_name", 1, str, optional, ""), clash, newField("mygroup", 3, group, optional, ".a.M.MyGroup"),
			},
			NestedType: []*descriptorpb.DescriptorProto{{Name: proto.String("MyGroup")}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m, _ := s.Message("a.M")
	for name, want := range map[string]string{"firstName": "first_name", "first_name": "clash", "clash": "clash", "MyGroup": "MyGroup", "mygroup": "MyGroup", "myGroup": ""} {
		got := ""
		if f := m.ByNameString(name); f != nil {
			got = f.Name
		}
		if got != want {
			t.Errorf("%q names field %q, want %q", name, got, want)
		}
	}
	for _, f := range m.Fields {
		if len(f.Self) != 1 || f.Self[0] != f {
			t.Errorf("the path of %q itself is %v", f.Name, f.Self)
		}
	}
}

// TestWellKnownShapes: protobuf's own files are recognised, and a message that only has the name of one is refused.
func TestWellKnownShapes(t *testing.T) {
	var files []*descriptorpb.FileDescriptorProto
	for _, m := range []proto.Message{
		&anypb.Any{}, &timestamppb.Timestamp{}, &durationpb.Duration{}, &fieldmaskpb.FieldMask{}, &structpb.Struct{}, &emptypb.Empty{}, &wrapperspb.BoolValue{},
	} {
		files = append(files, protodesc.ToFileDescriptorProto(m.ProtoReflect().Descriptor().ParentFile()))
	}
	s, err := compileProtos(t, files...)
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	s.Files().RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		for i := range fd.Messages().Len() {
			md := fd.Messages().Get(i)
			m, ok := s.Message(string(md.FullName()))
			if !ok || m.WellKnown == schema.NotWellKnown {
				t.Errorf("%s is not taken for a well-known type", md.FullName())
			}
			known++
		}
		return true
	})
	if known != 17 {
		t.Errorf("%d well-known types, want 17", known)
	}
	for _, original := range files {
		for i, md := range original.MessageType {
			for _, bend := range []struct {
				how  string
				bend func(*descriptorpb.DescriptorProto)
			}{
				{"without fields", func(m *descriptorpb.DescriptorProto) {
					m.Field, m.OneofDecl, m.NestedType = nil, nil, nil
				}},
				{"with a field more", func(m *descriptorpb.DescriptorProto) {
					m.Field = append(m.Field, newField("more", 99, descriptorpb.FieldDescriptorProto_TYPE_BOOL, optional, ""))
				}},
				{"with another number", func(m *descriptorpb.DescriptorProto) {
					if len(m.Field) > 0 {
						m.Field[0].Number = proto.Int32(55)
					}
				}},
				{"repeated", func(m *descriptorpb.DescriptorProto) {
					if len(m.Field) > 0 && m.Field[0].OneofIndex == nil && m.Field[0].GetTypeName() == "" {
						l := repeated
						if m.Field[0].GetLabel() == repeated {
							l = optional
						}
						m.Field[0].Label = &l
					}
				}},
			} {
				file := proto.CloneOf(original)
				bend.bend(file.MessageType[i])
				if proto.Equal(file, original) {
					continue
				}
				_, err := compileProtos(t, file)
				if err == nil || !strings.Contains(err.Error(), "google.protobuf."+md.GetName()) {
					t.Errorf("%s %s: %v", md.GetName(), bend.how, err)
				}
			}
		}
	}
}

// TestStandardFiles: the well-known types as linked into this binary compile.
func TestStandardFiles(t *testing.T) {
	if _, err := schema.New(protoregistry.GlobalFiles); err != nil {
		t.Fatal(err)
	}
}
