package source_test

import (
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// both resolves in the first, then in the second.
type both struct{ first, second protodesc.Resolver }

func (b both) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if fd, err := b.first.FindFileByPath(path); err == nil {
		return fd, nil
	}
	return b.second.FindFileByPath(path)
}

func (b both) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := b.first.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	return b.second.FindDescriptorByName(name)
}
