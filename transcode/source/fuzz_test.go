package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/source"
)

// FuzzDescriptorSet: whatever the bytes, no panic; what is accepted has a schema, is accepted again as it came out, with
// the same digest, and links with the protobuf runtime alone.
func FuzzDescriptorSet(f *testing.F) {
	f.Add(smallSet(f))
	f.Add(zip(f, smallSet(f)))
	f.Add([]byte("syntax = \"proto3\";"))
	for _, path := range []string{"google/protobuf/any.proto", "google/protobuf/struct.proto", "google/api/annotations.proto"} {
		fd, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(marshalSet(f, protodesc.ToFileDescriptorProto(fd)))
	}
	cases, err := filepath.Glob("testdata/sets/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range cases {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, section := range archive.Files {
			var fds descriptorpb.FileDescriptorSet
			if section.Name == "set.txtpb" && prototext.Unmarshal(section.Data, &fds) == nil {
				f.Add(marshalSet(f, fds.GetFile()...))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := source.DescriptorSet(data, source.Limits{MaxBytes: 1 << 20})
		if err != nil {
			if strings.Contains(err.Error(), "cannot be linked") {
				t.Fatalf("the last defence was needed: %v", err)
			}
			if set != nil || err.Error() == "" {
				t.Fatalf("set %v with error %q", set, err)
			}
			return
		}
		if _, err := set.Schema(); err != nil {
			t.Fatalf("accepted, but has no schema: %v", err)
		}
		if _, err := protodesc.NewFiles(set.Files); err != nil {
			t.Fatalf("accepted, but the runtime does not link it: %v", err)
		}
		out, err := proto.MarshalOptions{AllowPartial: true}.Marshal(set.Files)
		if err != nil {
			t.Fatal(err)
		}
		again, err := source.DescriptorSet(out, source.Limits{})
		if err != nil {
			t.Fatalf("accepted, but not as it came out: %v", err)
		}
		if again.Digest != set.Digest {
			t.Fatalf("digest %s, then %s", set.Digest, again.Digest)
		}
	})
}

// FuzzProto: whatever the text, no panic; every fault has its file; what is accepted has a schema.
func FuzzProto(f *testing.F) {
	cases, err := filepath.Glob("testdata/protos/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range cases {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, section := range archive.Files {
			if filepath.Ext(section.Name) == ".proto" {
				f.Add(section.Data)
			}
		}
	}
	file := filepath.Join(f.TempDir(), "a.proto")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := source.Proto(t.Context(), []string{file}, nil, source.Limits{MaxBytes: 1 << 16})
		if err != nil {
			if strings.Contains(err.Error(), "cannot be compiled") || strings.Contains(err.Error(), "cannot be linked") {
				t.Fatalf("the last defence was needed: %v", err)
			}
			if !strings.Contains(err.Error(), "a.proto") {
				t.Fatalf("the error does not name the file: %v", err)
			}
			return
		}
		if _, err := set.Schema(); err != nil {
			t.Fatalf("accepted, but has no schema: %v", err)
		}
	})
}
