package jsonwire_test

import (
	"errors"
	"os"
	"sync"
	"testing"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarsidl"
)

type noIncludes struct{}

func (noIncludes) Include(_, _ string) (tarsidl.File, error) {
	return tarsidl.File{}, errors.New("no file is included")
}

// tarsOf compiles TARS IDL.
func tarsOf(texts ...string) (*world, error) {
	var in []tarsidl.File
	for i, text := range texts {
		name := string(rune('a'+i)) + ".tars"
		in = append(in, tarsidl.File{Name: name, Path: name, Text: []byte(text)})
	}
	res, err := tarsidl.Compile(in, noIncludes{}, tarsidl.Options{})
	if err != nil {
		return nil, err
	}
	files := &protoregistry.Files{}
	for _, fd := range []protoreflect.FileDescriptor{descriptorpb.File_google_protobuf_descriptor_proto, tarsv1.File_causeway_tars_v1_tars_proto} {
		if err := files.RegisterFile(fd); err != nil {
			return nil, err
		}
	}
	for _, f := range res.Files {
		fd, err := protodesc.NewFile(f, files)
		if err != nil {
			return nil, err
		}
		if err := files.RegisterFile(fd); err != nil {
			return nil, err
		}
	}
	s, err := schema.New(files)
	if err != nil {
		return nil, err
	}
	return &world{s, files, resolver{dynamicpb.NewTypes(files)}, realCodec, &tally{}}, nil
}

var loadTars = sync.OnceValues(func() (*world, error) {
	shapes, err := os.ReadFile("testdata/shapes.tars")
	if err != nil {
		return nil, err
	}
	kit, err := os.ReadFile("../../testdata/tars/Kit.tars")
	if err != nil {
		return nil, err
	}
	return tarsOf(string(shapes), string(kit))
})

// theTars is the schema of the tests of what TARS has and protobuf has not.
func theTars(t testing.TB) *world {
	t.Helper()
	w, err := loadTars()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// tarsRoots are the messages that generated and fuzzed input is read as.
var tarsRoots = []string{
	"Shapes.Nested", "Shapes.Keyed", "Shapes.Plain", "Shapes.rotateRequest", "Shapes.rotateResponse", "Shapes.tarsResponse", "Shapes.countResponse",
	"Kit.Node", "Kit.Nasty", "Kit.Scalars", "Kit.transformResponse", "Shapes.Nested.MatrixItems", "Shapes.Keyed.ByDoublePair",
}
