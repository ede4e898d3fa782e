package source

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "github.com/causeway-gateway/causeway/protos/causeway/tars/v1" // as the others above

	// The files that may be imported without being given.
	_ "github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2/options"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/api/error_reason"
	_ "google.golang.org/genproto/googleapis/api/httpbody"
	_ "google.golang.org/genproto/googleapis/api/visibility"
	_ "google.golang.org/genproto/googleapis/rpc/code"
	_ "google.golang.org/genproto/googleapis/rpc/context/attribute_context"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	_ "google.golang.org/genproto/googleapis/rpc/status"
	_ "google.golang.org/protobuf/types/gofeaturespb"
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/apipb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/sourcecontextpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/typepb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"
	_ "google.golang.org/protobuf/types/pluginpb"
)

const (
	protobufFolder  = "google/protobuf/"
	tarsFolder      = "causeway/tars/"
	tarsOptionsFile = tarsFolder + "v1/tars.proto" // the options of what was compiled from .tars files
	httpFile        = "google/api/http.proto"
	annotationsFile = "google/api/annotations.proto"
	httpExtension   = "google.api.http"
	methodOptions   = "google.protobuf.MethodOptions"
	httpNumber      = 72295728
)

// bundle is what is linked into the program: the files that may be imported without being given, and the extensions
// that options are read with.
type bundle struct {
	files map[string]protoreflect.FileDescriptor
	exts  map[extensionKey]protoreflect.ExtensionType
}

type extensionKey struct {
	extendee protoreflect.FullName
	number   protoreflect.FieldNumber
}

// bundled is made once, from the registry of linked-in packages; other packages' files there are left alone, so that
// what a binary happens to link changes nothing.
var bundled = sync.OnceValue(func() *bundle {
	b := &bundle{
		files: map[string]protoreflect.FileDescriptor{},
		exts:  map[extensionKey]protoreflect.ExtensionType{},
	}
	protoregistry.GlobalFiles.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		if bundledPath(fd.Path()) {
			b.files[fd.Path()] = fd
		}
		return true
	})
	protoregistry.GlobalTypes.RangeExtensions(func(xt protoreflect.ExtensionType) bool {
		if x := xt.TypeDescriptor(); bundledPath(x.ParentFile().Path()) {
			b.exts[extensionKey{x.ContainingMessage().FullName(), x.Number()}] = xt
		}
		return true
	})
	return b
})

func bundledPath(path string) bool {
	for _, folder := range []string{protobufFolder, "google/api/", "google/rpc/", "google/type/", "protoc-gen-openapiv2/options/", tarsFolder} {
		if strings.HasPrefix(path, folder) {
			return true
		}
	}
	return false
}

// FindFileByPath makes the bundle a resolver of files.
func (b *bundle) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if fd, ok := b.files[path]; ok {
		return fd, nil
	}
	return nil, protoregistry.NotFound
}

// FindDescriptorByName makes the bundle a resolver of symbols. It finds only what bundled files declare.
func (b *bundle) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil || !bundledPath(d.ParentFile().Path()) {
		return nil, protoregistry.NotFound
	}
	return d, nil
}

// protected says that path can only be the built-in file: code relies on its messages having their known fields.
func protected(path string) bool {
	return strings.HasPrefix(path, protobufFolder) || path == httpFile || path == annotationsFile || path == tarsOptionsFile
}

// languageFeatures are the files of protobuf that no Go package carries: they only extend FeatureSet.
func languageFeatures(fd *descriptorpb.FileDescriptorProto) bool {
	return strings.HasSuffix(fd.GetName(), "_features.proto") && fd.GetPackage() == "pb"
}

// shadow compares a file at a protected path with the built-in one. nil means that the built-in one may take its
// place. Official versions of a file differ: what both declare must be the same on the wire, and the files whose
// messages have a JSON form of their own must declare exactly the known fields.
func shadow(fd *descriptorpb.FileDescriptorProto, own protoreflect.FileDescriptor) error {
	c := shadowing{path: fd.GetName(), exact: !growing(fd.GetName())}
	if fd.GetPackage() != string(own.Package()) {
		return c.differs("package", fd.GetPackage(), string(own.Package()))
	}
	if err := c.messages(string(own.Package()), fd.GetMessageType(), own.Messages()); err != nil {
		return err
	}
	if err := c.enums(string(own.Package()), fd.GetEnumType(), own.Enums()); err != nil {
		return err
	}
	for _, x := range fd.GetExtension() {
		name := string(own.Package()) + "." + x.GetName()
		if xd := own.Extensions().ByName(protoreflect.Name(x.GetName())); xd == nil {
			return fmt.Errorf("%s: declares extension %s, which the built-in file has not; %s", c.path, name, shadowFix)
		} else if !sameName(x.GetExtendee(), xd.ContainingMessage().FullName()) {
			return c.differs("extension "+name+" of", x.GetExtendee(), string(xd.ContainingMessage().FullName()))
		} else if err := c.field(name, x, xd); err != nil {
			return err
		}
	}
	return nil
}

const shadowFix = "leave the file out, or compile with protobuf's or googleapis' own copy of it"

// growing tells the files that gain fields from version to version and have no JSON form of their own.
func growing(path string) bool {
	switch path {
	case protobufFolder + "descriptor.proto", protobufFolder + "compiler/plugin.proto", protobufFolder + "type.proto",
		protobufFolder + "api.proto", protobufFolder + "go_features.proto", httpFile, tarsOptionsFile:
		return true
	}
	return false
}

type shadowing struct {
	path  string
	exact bool
}

func (c shadowing) differs(what, here, builtin string) error {
	return fmt.Errorf("%s: %s is %s here and %s in the built-in file; %s", c.path, what, orNone(here), orNone(builtin), shadowFix)
}

func decimal(n int32) string { return strconv.Itoa(int(n)) }

func orNone(s string) string {
	if s == "" {
		return "absent"
	}
	return s
}

func (c shadowing) messages(scope string, ms []*descriptorpb.DescriptorProto, own protoreflect.MessageDescriptors) error {
	for _, m := range ms {
		name := scope + "." + m.GetName()
		md := own.ByName(protoreflect.Name(m.GetName()))
		if md == nil {
			if c.exact {
				return fmt.Errorf("%s: declares message %s, which the built-in file has not; %s", c.path, name, shadowFix)
			}
			continue
		}
		if draft(md.FullName()) {
			continue
		}
		if err := c.message(name, m, md); err != nil {
			return err
		}
	}
	return nil
}

// draft tells the two messages of descriptor.proto whose fields were renumbered while editions were made, in protoc 23
// to 26. No gateway code reads them from a message.
func draft(name protoreflect.FullName) bool {
	return name == "google.protobuf.FeatureSet" || name == "google.protobuf.FeatureSetDefaults"
}

func (c shadowing) message(name string, m *descriptorpb.DescriptorProto, md protoreflect.MessageDescriptor) error {
	for _, f := range m.GetField() {
		field := name + "." + f.GetName()
		byName := md.Fields().ByName(protoreflect.Name(f.GetName()))
		if byName == nil {
			if other := md.Fields().ByNumber(protoreflect.FieldNumber(f.GetNumber())); other != nil {
				return c.differs(fmt.Sprintf("field %d of %s", f.GetNumber(), name), f.GetName(), string(other.Name()))
			}
			if c.exact {
				return fmt.Errorf("%s: declares field %s, which the built-in file has not; %s", c.path, field, shadowFix)
			}
			continue
		}
		if err := c.field(field, f, byName); err != nil {
			return err
		}
	}
	if c.exact {
		for i := range md.Fields().Len() {
			want := md.Fields().Get(i)
			if !hasField(m, string(want.Name())) {
				return fmt.Errorf("%s: message %s lacks the field %s = %d that the built-in file has; %s",
					c.path, name, want.Name(), want.Number(), shadowFix)
			}
		}
	}
	if err := c.messages(name, m.GetNestedType(), md.Messages()); err != nil {
		return err
	}
	return c.enums(name, m.GetEnumType(), md.Enums())
}

func hasField(m *descriptorpb.DescriptorProto, name string) bool {
	for _, f := range m.GetField() {
		if f.GetName() == name {
			return true
		}
	}
	return false
}

func (c shadowing) field(name string, f *descriptorpb.FieldDescriptorProto, own protoreflect.FieldDescriptor) error {
	want := protodesc.ToFieldDescriptorProto(own)
	if f.GetNumber() != want.GetNumber() {
		return c.differs("number of "+name, decimal(f.GetNumber()), decimal(want.GetNumber()))
	}
	repeated := descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	if (f.GetLabel() == repeated) != (want.GetLabel() == repeated) || f.GetType() != want.GetType() {
		return c.differs("field "+name, shape(f), shape(want))
	}
	if want.TypeName != nil && !sameName(f.GetTypeName(), protoreflect.FullName(strings.TrimPrefix(want.GetTypeName(), "."))) {
		return c.differs("type of "+name, f.GetTypeName(), want.GetTypeName())
	}
	return nil
}

func shape(f *descriptorpb.FieldDescriptorProto) string {
	s := strings.ToLower(strings.TrimPrefix(f.GetType().String(), "TYPE_"))
	if f.GetLabel() == descriptorpb.FieldDescriptorProto_LABEL_REPEATED {
		return "repeated " + s
	}
	return s
}

// sameName says that a reference, absolute or relative, can mean name.
func sameName(ref string, name protoreflect.FullName) bool {
	if abs, ok := strings.CutPrefix(ref, "."); ok {
		return abs == string(name)
	}
	return ref != "" && (ref == string(name) || strings.HasSuffix(string(name), "."+ref))
}

func (c shadowing) enums(scope string, es []*descriptorpb.EnumDescriptorProto, own protoreflect.EnumDescriptors) error {
	for _, e := range es {
		name := scope + "." + e.GetName()
		ed := own.ByName(protoreflect.Name(e.GetName()))
		if ed == nil {
			if c.exact {
				return fmt.Errorf("%s: declares enum %s, which the built-in file has not; %s", c.path, name, shadowFix)
			}
			continue
		}
		for _, v := range e.GetValue() {
			vd := ed.Values().ByName(protoreflect.Name(v.GetName()))
			switch {
			case vd != nil && int32(vd.Number()) != v.GetNumber():
				return c.differs("number of "+name+"."+v.GetName(), decimal(v.GetNumber()), decimal(int32(vd.Number())))
			case vd == nil && c.exact:
				return fmt.Errorf("%s: declares value %s.%s, which the built-in file has not; %s", c.path, name, v.GetName(), shadowFix)
			}
		}
	}
	return nil
}
