// Package descriptors makes descriptor sets of generated Go, for tests.
package descriptors

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Set is a file and everything it imports, imports first.
func Set(file protoreflect.FileDescriptor) *descriptorpb.FileDescriptorSet {
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
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
	add(file)
	return set
}

// Encode is a file and everything it imports as the bytes of a set.
func Encode(t testing.TB, file protoreflect.FileDescriptor) []byte {
	t.Helper()
	raw, err := proto.Marshal(Set(file))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
