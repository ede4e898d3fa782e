package source_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/testdata/realserver"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// TestTars: testdata/tars holds trees of .tars files and what becomes of them. The section "args" holds the paths, after
// "roots" the import roots and after "package" the package. With a section "export" what Export writes follows.
func TestTars(t *testing.T) {
	golden(t, "testdata/tars/*.txtar", func(t *testing.T, files map[string]string) string {
		writeTree(t, files)
		args, pkg, _ := strings.Cut(files["args"], "package")
		paths, roots, _ := strings.Cut(args, "roots")
		set, err := source.Tars(context.Background(), strings.Fields(paths), strings.Fields(roots), strings.TrimSpace(pkg), limits(t, files["limits"]))
		out := outcome(t, set, err)
		if err != nil {
			return out
		}
		var b strings.Builder
		b.WriteString(out)
		for _, w := range set.Warnings {
			b.WriteString("warning: " + w + "\n")
		}
		b.WriteString("watch: " + strings.Join(set.Watch, " ") + "\n")
		if _, ok := files["export"]; ok {
			texts, err := source.Export(set, source.ExportOptions{TarsOptions: strings.TrimSpace(files["export"]) == "options"})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range texts {
				if f.Name != "causeway/tars/v1/tars.proto" {
					b.WriteString("== " + f.Name + "\n" + string(f.Text))
				}
			}
		}
		return b.String()
	})
}

// writeTree writes the files, those sections whose name has a dot, into a new folder and makes it the current one.
func writeTree(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if !strings.Contains(name, ".") {
			continue
		}
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

// TestExportCompiles: what Export writes compiles to the descriptors that it was written from, with the options of TARS and
// without them.
func TestExportCompiles(t *testing.T) {
	idl, err := os.ReadFile("../../testdata/tars/Kit.tars")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := txtar.ParseFile("testdata/tars/export_odd.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"kit": idl, "odd": archive.Files[0].Data} {
		for _, options := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				writeTree(t, map[string]string{"a.tars": string(text)})
				set, err := source.Tars(t.Context(), []string{"a.tars"}, nil, "acme.games", source.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				texts, err := source.Export(set, source.ExportOptions{TarsOptions: options})
				if err != nil {
					t.Fatal(err)
				}
				files := map[string]string{}
				for _, f := range texts {
					files["out/"+f.Name] = string(f.Text)
				}
				writeTree(t, files)
				again, err := source.Proto(t.Context(), []string{"out"}, nil, source.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(bare(set, options), bare(again, true), protocmp.Transform()); diff != "" {
					t.Errorf("options %v (-compiled from .tars +from .proto):\n%s", options, diff)
				}
			})
		}
	}
}

// TestExportProtoc: protoc takes what Export writes.
func TestExportProtoc(t *testing.T) {
	bin := realserver.Need(t, "protoc", "protobuf-compiler")
	archive, err := txtar.ParseFile("testdata/tars/export_odd.txtar")
	if err != nil {
		t.Fatal(err)
	}
	idl, err := os.ReadFile("../../testdata/tars/Kit.tars")
	if err != nil {
		t.Fatal(err)
	}
	writeTree(t, map[string]string{"odd.tars": string(archive.Files[0].Data), "kit.tars": string(idl)})
	set, err := source.Tars(t.Context(), []string{"."}, nil, "", source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	texts, err := source.Export(set, source.ExportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files, args := map[string]string{}, []string{"--descriptor_set_out=out.binpb", "--include_imports"}
	for _, f := range texts {
		files[f.Name] = string(f.Text)
		args = append(args, f.Name)
	}
	writeTree(t, files)
	if out, err := exec.CommandContext(t.Context(), bin, args...).CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, out)
	}
	data, err := os.ReadFile("out.binpb")
	if err != nil {
		t.Fatal(err)
	}
	again, err := source.DescriptorSet(data, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bare(set, false), bare(again, true), protocmp.Transform()); diff != "" {
		t.Errorf("(-compiled from .tars +by protoc):\n%s", diff)
	}
}

// bare are the files of a set without source info, by name; without the built-in ones and, unless asked for, without
// options.
func bare(s *source.Set, options bool) map[string]*descriptorpb.FileDescriptorProto {
	out := map[string]*descriptorpb.FileDescriptorProto{}
	for _, fd := range s.Files.GetFile() {
		if strings.HasPrefix(fd.GetName(), "google/") || strings.HasPrefix(fd.GetName(), "causeway/") {
			continue
		}
		fd = proto.CloneOf(fd)
		fd.SourceCodeInfo = nil
		arrange(fd.MessageType)
		slices.SortFunc(fd.EnumType, func(a, b *descriptorpb.EnumDescriptorProto) int { return strings.Compare(a.GetName(), b.GetName()) })
		if !options {
			fd.Dependency = fd.Dependency[:len(fd.Dependency)-1]
			for _, m := range fd.MessageType {
				dropOptions(m)
			}
			for _, e := range fd.EnumType {
				for _, v := range e.Value {
					v.Options = nil
				}
			}
			for _, sv := range fd.Service {
				sv.Options = nil
				for _, m := range sv.Method {
					m.Options = nil
				}
			}
		}
		out[fd.GetName()] = fd
	}
	return out
}

// arrange puts messages and fields in a fixed order: the text has that of the IDL, where tags need not ascend.
func arrange(ms []*descriptorpb.DescriptorProto) {
	for _, m := range ms {
		slices.SortFunc(m.Field, func(a, b *descriptorpb.FieldDescriptorProto) int { return int(a.GetNumber() - b.GetNumber()) })
		m.OneofDecl = nil // those of optional fields, in the order of the fields
		for _, f := range m.Field {
			f.OneofIndex = nil
			f.Name = f.JsonName // Export may have to change the other
			for _, n := range m.NestedType {
				if n.GetOptions().GetMapEntry() && strings.HasSuffix(f.GetTypeName(), "."+m.GetName()+"."+n.GetName()) {
					n.Name = proto.String(f.GetName() + " entry")
					f.TypeName = n.Name
				}
			}
		}
		arrange(m.NestedType)
	}
	slices.SortFunc(ms, func(a, b *descriptorpb.DescriptorProto) int { return strings.Compare(a.GetName(), b.GetName()) })
}

func dropOptions(m *descriptorpb.DescriptorProto) {
	if !m.GetOptions().GetMapEntry() {
		m.Options = proto.CloneOf(m.GetOptions())
		proto.ClearExtension(m.Options, tarsv1.E_Struct)
		if proto.Size(m.Options) == 0 {
			m.Options = nil
		}
	}
	for _, f := range m.Field {
		f.Options = nil
	}
	for _, n := range m.NestedType {
		dropOptions(n)
	}
}
