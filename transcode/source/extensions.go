package source

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Extensions finds the extensions that are declared in sets of files. Where several sets have one, the first counts.
type Extensions []*protoregistry.Files

// FindExtensionByName finds an extension by its full name; protoregistry.NotFound when there is none.
func (e Extensions) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	for _, files := range e {
		if d, err := files.FindDescriptorByName(name); err == nil {
			if xd, ok := d.(protoreflect.ExtensionDescriptor); ok && xd.IsExtension() {
				return dynamicpb.NewExtensionType(xd), nil
			}
		}
	}
	return nil, protoregistry.NotFound
}

// FindExtensionByNumber finds the extension of a message with a field number; protoregistry.NotFound when there is none.
func (e Extensions) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	var found protoreflect.ExtensionType
	e.RangeExtensionsByMessage(message, func(xt protoreflect.ExtensionType) bool {
		if xt.TypeDescriptor().Number() == number {
			found = xt
		}
		return found == nil
	})
	if found == nil {
		return nil, protoregistry.NotFound
	}
	return found, nil
}

// RangeExtensionsByMessage calls f for every extension of a message until f returns false.
func (e Extensions) RangeExtensionsByMessage(message protoreflect.FullName, f func(protoreflect.ExtensionType) bool) {
	for _, files := range e {
		files.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
			return rangeExtensions(fd, message, f)
		})
	}
}

// declarer is a file or message: what extensions may be declared in.
type declarer interface {
	Extensions() protoreflect.ExtensionDescriptors
	Messages() protoreflect.MessageDescriptors
}

func rangeExtensions(in declarer, message protoreflect.FullName, f func(protoreflect.ExtensionType) bool) bool {
	for i := range in.Extensions().Len() {
		if xd := in.Extensions().Get(i); xd.ContainingMessage().FullName() == message && !f(dynamicpb.NewExtensionType(xd)) {
			return false
		}
	}
	for i := range in.Messages().Len() {
		if !rangeExtensions(in.Messages().Get(i), message, f) {
			return false
		}
	}
	return true
}
