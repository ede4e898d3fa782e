package source

import (
	"fmt"
	"maps"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// extensionTypes are the extensions that options are read with.
type extensionTypes map[extensionKey]protoreflect.ExtensionType

// FindExtensionByName is not needed to read wire bytes.
func (t extensionTypes) FindExtensionByName(protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return nil, protoregistry.NotFound
}

// FindExtensionByNumber finds the built-in extension that the set has not put another one in the place of.
func (t extensionTypes) FindExtensionByNumber(message protoreflect.FullName, field protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	if xt, ok := t[extensionKey{message, field}]; ok {
		return xt, nil
	}
	return nil, protoregistry.NotFound
}

// typesFor are the built-in extensions without those whose number the files use for something else: numbers of options
// are given out by agreement only, and a house's own option may have any.
func typesFor(files []*descriptorpb.FileDescriptorProto) extensionTypes {
	types := extensionTypes(maps.Clone(bundled().exts))
	for _, fd := range files {
		eachExtension(fd, func(scope string, x *descriptorpb.FieldDescriptorProto) {
			k := extensionKey{protoreflect.FullName(strings.TrimPrefix(x.GetExtendee(), ".")), protoreflect.FieldNumber(x.GetNumber())}
			if xt, ok := types[k]; ok && string(xt.TypeDescriptor().FullName()) != join(scope, x.GetName()) && k.number != httpNumber {
				delete(types, k)
			}
		})
	}
	return types
}

func eachExtension(fd *descriptorpb.FileDescriptorProto, f func(scope string, x *descriptorpb.FieldDescriptorProto)) {
	for _, x := range fd.GetExtension() {
		f(fd.GetPackage(), x)
	}
	var nested func(scope string, ms []*descriptorpb.DescriptorProto)
	nested = func(scope string, ms []*descriptorpb.DescriptorProto) {
		for _, m := range ms {
			name := join(scope, m.GetName())
			for _, x := range m.GetExtension() {
				f(name, x)
			}
			nested(name, m.GetNestedType())
		}
	}
	nested(fd.GetPackage(), fd.GetMessageType())
}

func join(scope, name string) string {
	if scope == "" {
		return name
	}
	return scope + "." + name
}

// optionReader reads the options of declarations again, so that google.api.http and the like are typed extensions
// whatever wrote the set.
type optionReader struct {
	counter *counter
	types   extensionTypes
}

func (r *optionReader) read(symbol string, opts proto.Message) error {
	m := opts.ProtoReflect()
	if !m.IsValid() || len(m.GetUnknown()) == 0 {
		return nil
	}
	raw := m.GetUnknown()
	if err := r.counter.message(m.Descriptor(), raw, r.counter.l.MaxNesting, 0); err != nil {
		return fmt.Errorf("options of %s: %w", symbol, err)
	}
	m.SetUnknown(nil)
	unmarshal := r.counter.unmarshal(r.types)
	unmarshal.Merge = true
	if err := unmarshal.Unmarshal(raw, opts); err != nil {
		return fmt.Errorf("options of %s do not decode as the built-in extensions: %w", symbol, plain(err))
	}
	return nil
}

func (r *optionReader) file(fd *descriptorpb.FileDescriptorProto) error {
	if err := r.read(fd.GetName(), fd.GetOptions()); err != nil {
		return err
	}
	for _, m := range fd.GetMessageType() {
		if err := r.message(join(fd.GetPackage(), m.GetName()), m); err != nil {
			return err
		}
	}
	for _, e := range fd.GetEnumType() {
		if err := r.enum(join(fd.GetPackage(), e.GetName()), e); err != nil {
			return err
		}
	}
	if err := r.fields(fd.GetPackage(), fd.GetExtension()); err != nil {
		return err
	}
	for _, s := range fd.GetService() {
		name := join(fd.GetPackage(), s.GetName())
		if err := r.read(name, s.GetOptions()); err != nil {
			return err
		}
		for _, m := range s.GetMethod() {
			if err := r.read(join(name, m.GetName()), m.GetOptions()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *optionReader) message(name string, m *descriptorpb.DescriptorProto) error {
	if err := r.read(name, m.GetOptions()); err != nil {
		return err
	}
	if err := r.fields(name, m.GetField()); err != nil {
		return err
	}
	if err := r.fields(name, m.GetExtension()); err != nil {
		return err
	}
	for _, o := range m.GetOneofDecl() {
		if err := r.read(join(name, o.GetName()), o.GetOptions()); err != nil {
			return err
		}
	}
	for _, x := range m.GetExtensionRange() {
		if err := r.read(name, x.GetOptions()); err != nil {
			return err
		}
	}
	for _, e := range m.GetEnumType() {
		if err := r.enum(join(name, e.GetName()), e); err != nil {
			return err
		}
	}
	for _, n := range m.GetNestedType() {
		if err := r.message(join(name, n.GetName()), n); err != nil {
			return err
		}
	}
	return nil
}

func (r *optionReader) fields(scope string, fs []*descriptorpb.FieldDescriptorProto) error {
	for _, f := range fs {
		if err := r.read(join(scope, f.GetName()), f.GetOptions()); err != nil {
			return err
		}
	}
	return nil
}

func (r *optionReader) enum(name string, e *descriptorpb.EnumDescriptorProto) error {
	if err := r.read(name, e.GetOptions()); err != nil {
		return err
	}
	for _, v := range e.GetValue() {
		if err := r.read(join(name, v.GetName()), v.GetOptions()); err != nil {
			return err
		}
	}
	return nil
}
