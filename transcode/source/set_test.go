package source_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/source"
)

// smallSet is a set with one unary method, GET /v1/books/{name}.
func smallSet(t testing.TB, edit ...func(*descriptorpb.FileDescriptorProto)) []byte {
	t.Helper()
	opts := &descriptorpb.MethodOptions{}
	proto.SetExtension(opts, annotations.E_Http, &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: "/v1/books/{name}"}})
	fd := &descriptorpb.FileDescriptorProto{
		Name: proto.String("library.proto"), Package: proto.String("library"), Syntax: proto.String("proto3"),
		Dependency: []string{"google/api/annotations.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Book"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("name"), Number: proto.Int32(1),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
		}}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Library"), Method: []*descriptorpb.MethodDescriptorProto{{
			Name: proto.String("Get"), InputType: proto.String(".library.Book"), OutputType: proto.String(".library.Book"), Options: opts,
		}}}},
	}
	for _, e := range edit {
		e(fd)
	}
	return marshalSet(t, fd)
}

func marshalSet(t testing.TB, fds ...*descriptorpb.FileDescriptorProto) []byte {
	t.Helper()
	data, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: fds})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func zip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if _, err := zw.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func accept(t testing.TB, data []byte) *source.Set {
	t.Helper()
	set, err := source.DescriptorSet(data, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestDescriptorSetTypedOptions(t *testing.T) {
	set := accept(t, smallSet(t))
	compiled, err := set.Schema()
	if err != nil {
		t.Fatal(err)
	}
	m, ok := compiled.Method("/library.Library/Get")
	if !ok {
		t.Fatal("the method is missing")
	}
	rule, ok := proto.GetExtension(m.Desc.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule.GetGet() != "/v1/books/{name}" {
		t.Errorf("google.api.http is %v", rule)
	}
	again, err := set.Schema()
	if err != nil || again != compiled {
		t.Errorf("a second call made another schema: %v", err)
	}
}

func TestDigest(t *testing.T) {
	plain := smallSet(t)
	base := accept(t, plain).Digest
	if !strings.HasPrefix(base, "sha256:") || len(base) != len("sha256:")+64 {
		t.Fatalf("digest %q", base)
	}
	commented := smallSet(t, func(fd *descriptorpb.FileDescriptorProto) {
		fd.SourceCodeInfo = &descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{
			{Path: []int32{4, 0}, Span: []int32{1, 2, 3}, LeadingComments: proto.String(" A book.\n")},
			{Path: []int32{4, 0, 1}, Span: []int32{1, 2, 3}},
		}}
	})
	other := smallSet(t, func(fd *descriptorpb.FileDescriptorProto) { fd.MessageType[0].Field[0].Number = proto.Int32(2) })
	var descriptors descriptorpb.FileDescriptorSet
	for _, fd := range accept(t, plain).Files.GetFile() {
		descriptors.File = append([]*descriptorpb.FileDescriptorProto{fd}, descriptors.File...)
	}
	reversed, err := proto.Marshal(&descriptors)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data []byte
		same bool
	}{
		{"gzip", zip(t, plain), true},
		{"with comments", commented, true},
		{"with the built-in files, in another order", reversed, true},
		{"another field number", other, false},
	} {
		if got := accept(t, tt.data).Digest; (got == base) != tt.same {
			t.Errorf("%s: digest %s, want the same: %v", tt.name, got, tt.same)
		}
	}
	info := accept(t, commented).Files.GetFile()
	if got := info[len(info)-1].GetSourceCodeInfo().GetLocation(); len(got) != 1 || got[0].GetLeadingComments() != " A book.\n" {
		t.Errorf("want the one location with a comment kept, got %v", got)
	}
}

const fix = "; make it with `protoc --include_imports --descriptor_set_out=FILE ...` or `buf build -o FILE`"

func TestDescriptorSetRefusesBytes(t *testing.T) {
	small := smallSet(t)
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(small, &set); err != nil {
		t.Fatal(err)
	}
	single, err := proto.Marshal(set.GetFile()[0])
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := protojson.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	asText, err := prototext.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	// A rule whose bytes are cut short: the option's length fits, what is inside does not.
	badRule := smallSet(t, func(fd *descriptorpb.FileDescriptorProto) {
		opts := &descriptorpb.MethodOptions{}
		opts.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 72295728, protowire.BytesType), []byte{0x12, 0x7f}))
		fd.Service[0].Method[0].Options = opts
	})
	for _, tt := range []struct {
		name   string
		data   []byte
		limits source.Limits
		want   string
	}{
		{"nothing", nil, source.Limits{}, "the descriptor set is empty: it has no bytes"},
		{"white space", []byte(" \n\n"), source.Limits{}, "the descriptor set is empty: it has nothing but white space"},
		{"gzip of nothing", zip(t, nil), source.Limits{}, "the descriptor set is empty: it has no bytes once unpacked"},
		{"JSON", asJSON, source.Limits{}, "this looks like JSON, not a binary descriptor set" + fix},
		{"gzip of JSON", zip(t, asJSON), source.Limits{}, "this looks like JSON, not a binary descriptor set" + fix},
		{"JSON after a line", append([]byte("\n"), asJSON...), source.Limits{}, "this looks like JSON, not a binary descriptor set" + fix},
		{"text format", asText, source.Limits{}, "this looks like a descriptor set in text format, not a binary one" + fix},
		{".proto", []byte("syntax = \"proto3\";\n"), source.Limits{}, "this looks like .proto source, not a binary descriptor set; give it as .proto source, or make it" + fix[len("; make it"):]},
		{".proto with a licence", []byte("\n// Copyright\nsyntax = \"proto3\";\n"), source.Limits{}, "this looks like .proto source, not a binary descriptor set; give it as .proto source, or make it" + fix[len("; make it"):]},
		{"HTML", []byte("<!doctype html>"), source.Limits{}, "this looks like HTML or XML, not a binary descriptor set" + fix},
		{"zip", []byte("PK\x03\x04\x14\x00"), source.Limits{}, "this looks like a zip archive, not a binary descriptor set; unpack it, or make it" + fix[len("; make it"):]},
		{"base64", []byte("Cg9saWJyYXJ5LnByb3Rv"), source.Limits{}, "this looks like text, not a binary descriptor set" + fix},
		{"one file", single, source.Limits{}, "this is a single FileDescriptorProto, not a FileDescriptorSet" + fix},
		{"other message", []byte{0x12, 0x01, 0x00}, source.Limits{}, "the descriptor set holds no files" + fix},
		{"cut short", small[:len(small)-3], source.Limits{}, "the bytes are broken: unexpected EOF"},
		{"broken inside", append([]byte("\x0a\x10\x0a\x07a.proto"), "\x22\x05\x0a\x7fabc"...), source.Limits{}, "a.proto: the bytes are broken: unexpected EOF"},
		{"broken rule", badRule, source.Limits{}, "library.proto: options of library.Library.Get: the bytes are broken: unexpected EOF"},
		{"gzip cut short", zip(t, small)[:20], source.Limits{}, "the descriptor set begins like gzip but does not unpack: unexpected EOF"},
		{"too long", small, source.Limits{MaxBytes: 100}, "the descriptor set has more than 100 bytes, the limit"},
		{"gzip bomb", zip(t, make([]byte, 20<<20)), source.Limits{}, "the descriptor set has more than 16777216 bytes once unpacked, the limit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := bytes.Clone(tt.data)
			set, err := source.DescriptorSet(tt.data, tt.limits)
			if err == nil || err.Error() != tt.want {
				t.Errorf("error\n%v, want\n%s", err, tt.want)
			}
			if set != nil {
				t.Error("an error came with a set")
			}
			if !bytes.Equal(before, tt.data) {
				t.Error("the bytes given were written to")
			}
		})
	}
}

// TestBombs: what is small on the wire and large once decoded is refused before it is decoded.
func TestBombs(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector multiplies the heap")
	}
	repeat := func(element string, n int, wrap ...protowire.Number) []byte {
		b := bytes.Repeat([]byte(element), n)
		for _, num := range wrap {
			b = protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
		}
		return b
	}
	rule := protowire.AppendBytes(protowire.AppendTag(nil, 72295728, protowire.BytesType), bytes.Repeat([]byte("\x5a\x00"), 4<<20))
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty messages", repeat("\x22\x00", 4<<20, 1), "file 1 of the set: more than 50000 messages, the limit"},
		{"empty fields", repeat("\x12\x00", 4<<20, 4, 1), "file 1 of the set: more than 500000 fields, the limit"},
		{"empty files", bytes.Repeat([]byte("\x0a\x00"), 4<<20), "more than 5000 files, the limit"},
		{"empty imports", repeat("\x1a\x00", 4<<20, 1), "file 1 of the set: more than 1000000 names, values, methods, options and comments, twice the limit on fields"},
		{"comments", repeat("\x0a\x03\x1a\x01c", 3<<20, 9, 1), "file 1 of the set: more than 1000000 names, values, methods, options and comments, twice the limit on fields"},
		{"bindings", smallSet(t, func(fd *descriptorpb.FileDescriptorProto) {
			fd.Service[0].Method[0].Options.ProtoReflect().SetUnknown(rule)
		}), "library.proto: options of library.Library.Get: more than 1000000 names, values, methods, options and comments, twice the limit on fields"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := source.DescriptorSet(tt.data, source.Limits{})
			runtime.ReadMemStats(&after)
			if err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			// The bytes may be copied a few times; decoding them would take a hundred times their size.
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
				t.Errorf("allocated %d MiB for %d MiB of input", grown>>20, len(tt.data)>>20)
			}
		})
	}
}

func TestDescriptorSetFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "library.binpb")
	if err := os.WriteFile(file, smallSet(t), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := source.DescriptorSetFile(file, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Watch) != 1 || set.Watch[0] != file {
		t.Errorf("watch %v, want the file", set.Watch)
	}
	for _, tt := range []struct{ path, want string }{
		{dir, dir + ": is a folder, not a descriptor set; give it as .proto source, or make it" + fix[len("; make it"):]},
		{file + "x", "open " + file + "x: no such file or directory"},
	} {
		if _, err := source.DescriptorSetFile(tt.path, source.Limits{}); err == nil || err.Error() != tt.want {
			t.Errorf("error %v, want %s", err, tt.want)
		}
	}
	if _, err := source.DescriptorSetFile(file, source.Limits{MaxBytes: 10}); err == nil || err.Error() != file+": the descriptor set has more than 10 bytes, the limit" {
		t.Errorf("error %v", err)
	}
}

func TestSchemaOfForeignSet(t *testing.T) {
	if _, err := (&source.Set{Digest: "sha256:x"}).Schema(); err == nil {
		t.Error("a set that nobody checked has a schema")
	}
}
