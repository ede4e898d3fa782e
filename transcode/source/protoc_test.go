package source_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/testdata/realserver"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// protocTree is what the tests below compile: every kind of thing that protoc writes a little differently from others.
var protocTree = map[string]string{
	"shop/v1/shop.proto": `syntax = "proto3";
package shop.v1;

import "google/api/annotations.proto";
import "google/protobuf/any.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/descriptor.proto";
import "shop/v1/item.proto";

// A basket.
message Basket {
  string id = 1;
  map<string, Item> items = 2;
  optional int32 count = 3;
  google.protobuf.Timestamp at = 4;
  google.protobuf.Any extra = 5;
  google.protobuf.FieldOptions options = 6;
}

service Shop {
  // Gets a basket.
  rpc Get(Basket) returns (Basket) {
    option (google.api.http) = {
      get: "/v1/baskets/{id}"
      additional_bindings { post: "/v1/baskets:get" body: "*" }
    };
  }
}
`,
	"shop/v1/item.proto": `syntax = "proto2";
package shop.v1;
message Item {
  required string sku = 1;
  repeated group Part = 2 { optional int32 size = 1 [default = 7]; }
  extensions 100 to 199;
}
extend Item { optional string colour = 100; }
`,
	"google/api/annotations.proto": `syntax = "proto3";
package google.api;
import "google/api/http.proto";
import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { HttpRule http = 72295728; }
`,
	"google/api/http.proto": `syntax = "proto3";
package google.api;
message Http { repeated HttpRule rules = 1; bool fully_decode_reserved_expansion = 2; }
message HttpRule {
  string selector = 1;
  oneof pattern { string get = 2; string put = 3; string post = 4; string delete = 5; string patch = 6; CustomHttpPattern custom = 8; }
  string body = 7;
  string response_body = 12;
  repeated HttpRule additional_bindings = 11;
}
message CustomHttpPattern { string kind = 1; string path = 2; }
`,
}

// protoc writes the tree and runs the real protoc in it.
func protoc(t *testing.T, args ...string) (dir string, set []byte) {
	t.Helper()
	binary := realserver.Need(t, "protoc", "protobuf-compiler")
	dir = t.TempDir()
	for name, text := range protocTree {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out.binpb")
	cmd := exec.Command(binary, append([]string{"-I", dir, "--descriptor_set_out=" + out}, args...)...)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, text)
	}
	set, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return dir, set
}

func TestProtoc(t *testing.T) {
	dir, data := protoc(t, "--include_imports", "--include_source_info", "shop/v1/shop.proto")
	set := accept(t, data)
	compiled, err := set.Schema()
	if err != nil {
		t.Fatal(err)
	}
	m, ok := compiled.Method("/shop.v1.Shop/Get")
	if !ok {
		t.Fatal("the method is missing")
	}
	rule, ok := proto.GetExtension(m.Desc.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule.GetGet() != "/v1/baskets/{id}" || len(rule.GetAdditionalBindings()) != 1 {
		t.Errorf("google.api.http is %v", rule)
	}
	if c := m.Desc.ParentFile().SourceLocations().ByDescriptor(m.Desc).LeadingComments; c != " Gets a basket.\n" {
		t.Errorf("the method's comment is %q", c)
	}
	// Its own descriptor.proto, of another version, has given way to the built-in one.
	options, ok := compiled.Message("google.protobuf.FieldOptions")
	if !ok || options.ByNameString("features") == nil {
		t.Error("descriptor.proto is not the built-in one")
	}
	_, bare := protoc(t, "--include_imports", "shop/v1/shop.proto")
	if got := accept(t, bare).Digest; got != set.Digest {
		t.Errorf("digest %s without source info, %s with it", got, set.Digest)
	}
	// The same tree, compiled here.
	here, err := source.Proto(t.Context(), []string{dir}, nil, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if here.Digest != set.Digest {
		t.Errorf("digest %s when compiled here, %s by protoc\nhere %v\nprotoc %v", here.Digest, set.Digest, own(here), own(set))
	}
}

// own are the files of the tree without comments.
func own(set *source.Set) []*descriptorpb.FileDescriptorProto {
	var files []*descriptorpb.FileDescriptorProto
	for _, fd := range set.Files.GetFile() {
		if strings.HasPrefix(fd.GetName(), "shop/") {
			fd = proto.CloneOf(fd)
			fd.SourceCodeInfo = nil
			files = append(files, fd)
		}
	}
	return files
}

func TestProtocWithoutImports(t *testing.T) {
	for _, tt := range []struct {
		args []string
		line string
	}{
		{[]string{"shop/v1/shop.proto"}, ""},
		{[]string{"--include_source_info", "shop/v1/shop.proto"}, ":8"},
	} {
		_, data := protoc(t, tt.args...)
		want := `missing import "shop/v1/item.proto", imported by shop/v1/shop.proto` + tt.line +
			": add --include_imports to protoc, or make the set with buf build"
		if _, err := source.DescriptorSet(data, source.Limits{}); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// TestProtocEveryWellKnownFile: protoc's own copies of protobuf's files are of its version, not of the one linked in.
func TestProtocEveryWellKnownFile(t *testing.T) {
	names := []string{"any", "api", "descriptor", "duration", "empty", "field_mask", "source_context", "struct", "timestamp", "type", "wrappers"}
	args := []string{"--include_imports"}
	for _, n := range names {
		args = append(args, "google/protobuf/"+n+".proto")
	}
	_, data := protoc(t, args...)
	if got := len(accept(t, data).Files.GetFile()); got != len(names) {
		t.Errorf("%d files, want %d", got, len(names))
	}
}
