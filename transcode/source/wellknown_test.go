package source_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/source"
)

// TestShadowedWellKnownTypes: a set that redefines a well-known type crashes a translator that trusts its name, so
// every such type is refused whichever way it is bent, and taken when it is protobuf's own.
func TestShadowedWellKnownTypes(t *testing.T) {
	for _, name := range []protoreflect.FullName{
		"Any", "Timestamp", "Duration", "Struct", "Value", "ListValue", "FieldMask",
		"DoubleValue", "FloatValue", "Int64Value", "UInt64Value", "Int32Value", "UInt32Value", "BoolValue", "StringValue", "BytesValue",
	} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName("google.protobuf." + name)
		if err != nil {
			t.Fatal(err)
		}
		path := d.ParentFile().Path()
		for _, bend := range []struct {
			name string
			edit func(*descriptorpb.DescriptorProto)
			want string // with %s for the message and %f for its first field
		}{
			{"without fields", func(m *descriptorpb.DescriptorProto) { m.Field = nil }, "message %s lacks the field %f = 1 that the built-in file has"},
			{"renumbered", func(m *descriptorpb.DescriptorProto) { m.Field[0].Number = proto.Int32(77) }, "number of %s.%f is 77 here and 1 in the built-in file"},
			{"renamed", func(m *descriptorpb.DescriptorProto) { m.Field[0].Name = proto.String("other") }, "field 1 of %s is other here and %f in the built-in file"},
			{"another type", func(m *descriptorpb.DescriptorProto) {
				m.Field[0].Type = descriptorpb.FieldDescriptorProto_TYPE_SFIXED64.Enum()
				m.Field[0].TypeName = nil
			}, "field %s.%f is "},
			{"with a field more", func(m *descriptorpb.DescriptorProto) {
				m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
					Name: proto.String("extra"), Number: proto.Int32(99),
					Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_INT32.Enum(),
				})
			}, "declares field %s.extra, which the built-in file has not"},
		} {
			t.Run(fmt.Sprintf("%s/%s", name, bend.name), func(t *testing.T) {
				fd := protodesc.ToFileDescriptorProto(d.ParentFile())
				first := ""
				for _, m := range fd.GetMessageType() {
					if m.GetName() == string(name) {
						first = m.GetField()[0].GetName()
						bend.edit(m)
					}
				}
				set, err := source.DescriptorSet(marshalSet(t, fd), source.Limits{})
				want := path + ": " + strings.NewReplacer("%s", "google.protobuf."+string(name), "%f", first).Replace(bend.want)
				if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), "own copy of it") {
					t.Errorf("error %v, want %s...", err, want)
				}
				if set != nil {
					t.Error("an error came with a set")
				}
			})
		}
		t.Run(string(name)+"/as it is", func(t *testing.T) {
			set := accept(t, marshalSet(t, protodesc.ToFileDescriptorProto(d.ParentFile())))
			compiled, err := set.Schema()
			if err != nil {
				t.Fatal(err)
			}
			m, ok := compiled.Message("google.protobuf." + string(name))
			if !ok || m.WellKnown == 0 {
				t.Errorf("the message is not taken for what it is: %v", m)
			}
		})
	}
	t.Run("Empty with a field", func(t *testing.T) {
		d, err := protoregistry.GlobalFiles.FindFileByPath("google/protobuf/empty.proto")
		if err != nil {
			t.Fatal(err)
		}
		fd := protodesc.ToFileDescriptorProto(d)
		fd.MessageType[0].Field = append(fd.MessageType[0].Field, &descriptorpb.FieldDescriptorProto{
			Name: proto.String("x"), Number: proto.Int32(1),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_INT32.Enum(),
		})
		if _, err := source.DescriptorSet(marshalSet(t, fd), source.Limits{}); err == nil {
			t.Error("accepted")
		}
	})
}

// TestOfficialVersions: descriptor.proto gains fields from version to version; an older or newer copy is taken, and the
// built-in one stands in its place.
func TestOfficialVersions(t *testing.T) {
	d, err := protoregistry.GlobalFiles.FindFileByPath("google/protobuf/descriptor.proto")
	if err != nil {
		t.Fatal(err)
	}
	older := protodesc.ToFileDescriptorProto(d)
	newer := proto.CloneOf(older)
	for _, m := range older.GetMessageType() {
		if n := len(m.GetField()); n > 2 {
			m.Field = m.Field[:n-1]
		}
		m.OneofDecl = nil
	}
	for _, m := range newer.GetMessageType() {
		m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
			Name: proto.String("later"), Number: proto.Int32(998),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_INT32.Enum(),
		})
	}
	for name, fd := range map[string]*descriptorpb.FileDescriptorProto{"older": older, "newer": newer} {
		set := accept(t, marshalSet(t, fd))
		if !proto.Equal(set.Files.GetFile()[0], protodesc.ToFileDescriptorProto(d)) {
			t.Errorf("%s: the built-in file does not stand in its place", name)
		}
	}
}
