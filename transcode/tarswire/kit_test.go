package tarswire_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarsidl"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

const captures = "../../testdata/tars"

type noIncludes struct{}

func (noIncludes) Include(_, _ string) (tarsidl.File, error) {
	return tarsidl.File{}, errors.New("no file is included")
}

// compile makes a schema of IDL.
func compile(t testing.TB, idl string) *schema.Schema {
	t.Helper()
	res, err := tarsidl.Compile([]tarsidl.File{{Name: "a.tars", Path: "a.tars", Text: []byte(idl)}}, noIncludes{}, tarsidl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return link(t, res.Files...)
}

func link(t testing.TB, fds ...*descriptorpb.FileDescriptorProto) *schema.Schema {
	t.Helper()
	files := &protoregistry.Files{}
	for _, fd := range []protoreflect.FileDescriptor{descriptorpb.File_google_protobuf_descriptor_proto, tarsv1.File_causeway_tars_v1_tars_proto} {
		if err := files.RegisterFile(fd); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range fds {
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

// kit is the schema of the captures.
func kit(t testing.TB) *schema.Schema {
	t.Helper()
	idl, err := os.ReadFile(filepath.Join(captures, "Kit.tars"))
	if err != nil {
		t.Fatal(err)
	}
	return compile(t, string(idl))
}

func function(t testing.TB, s *schema.Schema, name string) *tarswire.Function {
	t.Helper()
	m, ok := s.Method(name)
	if !ok {
		t.Fatalf("no method %s", name)
	}
	var c tarswire.Compiler
	f, err := c.Function(m)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func table(t testing.TB, s *schema.Schema, name string) *tarswire.Message {
	t.Helper()
	m, ok := s.Message(name)
	if !ok {
		t.Fatalf("no message %s", name)
	}
	var c tarswire.Compiler
	tab, err := c.Message(m)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// call is what a capture holds of one exchange.
type call struct {
	name     string // "go/add"
	function string
	version  int64
	request  []byte
	response []byte // nil without one
	ret      int64
}

// exchanges reads the captures: those whose request is one frame.
func exchanges(t testing.TB) []call {
	t.Helper()
	var out []call
	for _, sdk := range []string{"go", "node"} {
		paths, err := filepath.Glob(filepath.Join(captures, sdk, "*.hex"))
		if err != nil || len(paths) < 35 {
			t.Fatalf("%d captures of %s: %v", len(paths), sdk, err)
		}
		for _, p := range paths {
			text, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			c := call{name: sdk + "/" + strings.TrimSuffix(filepath.Base(p), ".hex")}
			for line := range strings.Lines(string(text)) {
				raw, err := hex.DecodeString(strings.TrimSpace(strings.TrimLeft(line, "<> ")))
				if line[0] == '#' || err != nil || len(raw) < 4 || int(binary.BigEndian.Uint32(raw)) != len(raw) {
					continue
				}
				switch {
				case line[0] == '>':
					var buf map[uint8][]byte
					var nums map[uint8]int64
					nums, buf = packet(t, raw[4:])
					c.version, c.function, c.request = nums[1], string(buf[6]), buf[7]
				case c.version == 3:
					_, buf := packet(t, raw[4:])
					c.response = buf[7]
				default:
					nums, buf := packet(t, raw[4:])
					c.response, c.ret = buf[6], nums[5]
				}
			}
			if c.function != "" {
				out = append(out, c)
			}
		}
	}
	return out
}

// packet reads the numbers, strings and bytes of a packet.
func packet(t testing.TB, in []byte) (map[uint8]int64, map[uint8][]byte) {
	t.Helper()
	nums, buf := map[uint8]int64{}, map[uint8][]byte{}
	r := tarswire.NewReader(in)
	for r.More() {
		tag, typ := r.Head()
		switch {
		case typ <= tarswire.Long || typ == tarswire.Zero:
			nums[tag] = r.Int(typ, tarswire.Long)
		case typ == tarswire.Map:
			r.Skip(typ)
		default:
			buf[tag] = slices.Clone(r.Bytes(typ))
			if buf[tag] == nil {
				buf[tag] = []byte{}
			}
		}
	}
	if r.Fault() != "" {
		t.Fatalf("%x: %s", in, r.Fault())
	}
	return nums, buf
}
