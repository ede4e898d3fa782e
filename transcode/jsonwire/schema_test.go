package jsonwire_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// world is the schema of the tests and the oracle's view of the same descriptors.
type world struct {
	schema *schema.Schema
	files  *protoregistry.Files
	types  resolver
	codec  codec  // what compareJSON and compareWire hold against the oracle
	tally  *tally // of what they compared
}

// with is the same world with a codec, and nothing counted yet.
func (w *world) with(c codec) *world { return &world{w.schema, w.files, w.types, c, &tally{}} }

// resolver gives the oracle what the codec has: types of the schema, and one prefix of type URLs.
type resolver struct{ *dynamicpb.Types }

func (r resolver) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	name, ok := strings.CutPrefix(url, "type.googleapis.com/")
	if !ok {
		return nil, protoregistry.NotFound
	}
	mt, err := r.FindMessageByName(protoreflect.FullName(name))
	if err == nil && mt.Descriptor().IsMapEntry() {
		return nil, protoregistry.NotFound
	}
	return mt, err
}

var loadWorld = sync.OnceValues(func() (*world, error) {
	return newWorld(plainFile("testdata"), "three.proto", "two.proto", "edition.proto", "http.proto", "http_open.proto")
})

// plainFile opens the files of a folder.
func plainFile(folder string) func(name string) (io.ReadCloser, error) {
	return func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(folder, name)) }
}

// newWorld compiles .proto files.
func newWorld(open func(name string) (io.ReadCloser, error), names ...string) (*world, error) {
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: open})}
	compiled, err := c.Compile(context.Background(), names...)
	if err != nil {
		return nil, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(fd protoreflect.FileDescriptor)
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
	for _, fd := range compiled {
		add(fd)
	}
	// Through bytes, so that options are plain descriptor options again.
	raw, err := proto.Marshal(set)
	if err != nil {
		return nil, err
	}
	set = &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, err
	}
	s, err := schema.New(files)
	if err != nil {
		return nil, err
	}
	return &world{s, files, resolver{dynamicpb.NewTypes(files)}, realCodec, &tally{}}, nil
}

func theWorld(t testing.TB) *world {
	t.Helper()
	w, err := loadWorld()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) message(t testing.TB, name string) *schema.Message {
	t.Helper()
	m, ok := w.schema.Message(name)
	if !ok {
		t.Fatalf("no message %s", name)
	}
	return m
}

// roots are the messages that generated and fuzzed input is read as.
var roots = []string{
	"test.three.Scalars", "test.three.Tree", "test.three.Maps", "test.three.Known", "test.three.Request",
	"test.two.Two", "test.two.Needy", "test.edition.Edition",
	"google.protobuf.Any", "google.protobuf.Value", "google.protobuf.Struct", "google.protobuf.Timestamp",
	"google.protobuf.Duration", "google.protobuf.FieldMask", "google.protobuf.ListValue", "google.protobuf.Int64Value",
	"google.protobuf.FloatValue", "google.protobuf.BytesValue", "google.protobuf.Empty",
}

// depth is the limit of both sides.
const depth = 100

func (w *world) oracleParse(m *schema.Message, json []byte, ignoreUnknown bool) (proto.Message, error) {
	msg := dynamicpb.NewMessage(m.Desc)
	err := protojson.UnmarshalOptions{Resolver: w.types, RecursionLimit: depth, DiscardUnknown: ignoreUnknown}.Unmarshal(json, msg)
	return msg, err
}

// errPanic stands for a panic of the oracle.
var errPanic = errors.New("the oracle panics")

func (w *world) oracleJSON(m *schema.Message, wire []byte, o protojson.MarshalOptions) (json []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errPanic
		}
	}()
	msg, err := w.oracleDecode(m, wire)
	if err != nil {
		return nil, err
	}
	return o.Marshal(msg)
}

// oracleDecode has errPanic for an entry of a map with two keys, of which the second is of another wire type.
func (w *world) oracleDecode(m *schema.Message, wire []byte) (_ proto.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errPanic
		}
	}()
	msg := dynamicpb.NewMessage(m.Desc)
	err = proto.UnmarshalOptions{Resolver: w.types}.Unmarshal(wire, msg)
	return msg, err
}
