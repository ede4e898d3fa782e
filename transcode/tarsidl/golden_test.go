package tarsidl_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarsidl"
)

// link makes a schema of what was compiled: protobuf's own rules hold, and every message has its table.
func link(t *testing.T, res *tarsidl.Result) *schema.Schema {
	t.Helper()
	files := &protoregistry.Files{}
	for _, fd := range []protoreflect.FileDescriptor{descriptorpb.File_google_protobuf_descriptor_proto, tarsv1.File_causeway_tars_v1_tars_proto} {
		if err := files.RegisterFile(fd); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range res.Files {
		fd, err := protodesc.NewFile(f, files)
		if err != nil {
			t.Fatal(err)
		}
		if err := files.RegisterFile(fd); err != nil {
			t.Fatal(err)
		}
	}
	s, err := schema.New(files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// short writes descriptors in few words: one line a declaration.
func short(res *tarsidl.Result) string {
	var b strings.Builder
	for _, f := range res.Files {
		fmt.Fprintf(&b, "file %s package %s\n", f.GetName(), f.GetPackage())
		for _, dep := range f.GetDependency() {
			fmt.Fprintf(&b, "  import %s\n", dep)
		}
		for _, e := range f.GetEnumType() {
			fmt.Fprintf(&b, "  enum %s", e.GetName())
			for _, v := range e.GetValue() {
				fmt.Fprintf(&b, " %s=%d", v.GetName(), v.GetNumber())
				if o := proto.GetExtension(v.GetOptions(), tarsv1.E_Enumerator).(*tarsv1.Enumerator); o != nil {
					fmt.Fprintf(&b, "{%s}", oneLine(o))
				}
			}
			b.WriteString("\n")
		}
		for _, m := range f.GetMessageType() {
			shortMessage(&b, "  ", m)
		}
		for _, s := range f.GetService() {
			o := proto.GetExtension(s.GetOptions(), tarsv1.E_Interface).(*tarsv1.Interface)
			fmt.Fprintf(&b, "  service %s {%s}\n", s.GetName(), oneLine(o))
			for _, m := range s.GetMethod() {
				o := proto.GetExtension(m.GetOptions(), tarsv1.E_Function).(*tarsv1.Function)
				fmt.Fprintf(&b, "    rpc %s(%s) %s {%s}\n", m.GetName(), m.GetInputType(), m.GetOutputType(), oneLine(o))
			}
		}
	}
	for _, w := range res.Warnings {
		fmt.Fprintf(&b, "warning: %v\n", w)
	}
	return b.String()
}

func shortMessage(b *strings.Builder, indent string, m *descriptorpb.DescriptorProto) {
	o := proto.GetExtension(m.GetOptions(), tarsv1.E_Struct).(*tarsv1.Struct)
	kind := o.GetKind().String()
	if m.GetOptions().GetMapEntry() {
		kind = "map entry"
	}
	fmt.Fprintf(b, "%smessage %s %s\n", indent, m.GetName(), kind)
	for _, f := range m.GetField() {
		label := strings.ToLower(strings.TrimPrefix(f.GetLabel().String(), "LABEL_"))
		if label == "optional" && !f.GetProto3Optional() {
			label = "plain"
		}
		typ := strings.ToLower(strings.TrimPrefix(f.GetType().String(), "TYPE_"))
		fmt.Fprintf(b, "%s  %s %s%s %s = %d {%s}\n", indent, label, typ, f.GetTypeName(), f.GetName(), f.GetNumber(),
			oneLine(proto.GetExtension(f.GetOptions(), tarsv1.E_Member).(*tarsv1.Member)))
	}
	for _, n := range m.GetNestedType() {
		shortMessage(b, indent+"  ", n)
	}
}

// oneLine is prototext without the white space that it varies.
func oneLine(m proto.Message) string {
	return strings.Join(strings.Fields(prototext.MarshalOptions{}.Format(m)), " ")
}

// TestCases: testdata/cases holds files and what they compile to. The section "options" has the package; the first file
// is compiled, or all that "args" names. With CAUSEWAY_REFRESH=<glob over base names> the section "want" is written.
func TestCases(t *testing.T) {
	cases, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			files, args, pkg, at := folder{}, []string(nil), "", -1
			for i, f := range archive.Files {
				switch f.Name {
				case "want":
					at = i
				case "args":
					args = strings.Fields(string(f.Data))
				case "package":
					pkg = strings.TrimSpace(string(f.Data))
				default:
					files[f.Name] = f.Data
				}
			}
			if args == nil {
				args = []string{archive.Files[0].Name}
			}
			var in []tarsidl.File
			for _, a := range args {
				in = append(in, tarsidl.File{Name: a, Path: a, Text: files[a]})
			}
			res, err := tarsidl.Compile(in, files, tarsidl.Options{Package: pkg})
			var got string
			if err != nil {
				got = err.Error() + "\n"
			} else {
				link(t, res)
				got = short(res)
			}
			if ok, _ := path.Match(os.Getenv("CAUSEWAY_REFRESH"), filepath.Base(file)); ok {
				if at < 0 {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					at = len(archive.Files) - 1
				}
				archive.Files[at].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if at < 0 {
				t.Fatalf("%s has no section \"want\"; got:\n%s", file, got)
			}
			if diff := cmp.Diff(string(archive.Files[at].Data), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
