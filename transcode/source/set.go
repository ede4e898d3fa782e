package source

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"
)

const howToMake = "make it with `protoc --include_imports --descriptor_set_out=FILE ...` or `buf build -o FILE`"

// DescriptorSet reads a binary google.protobuf.FileDescriptorSet, plain or gzip, as protoc and buf write it. It keeps
// nothing of data.
func DescriptorSet(data []byte, l Limits) (*Set, error) {
	data, err := unpack(data, l.withDefaults().MaxBytes)
	if err != nil {
		return nil, err
	}
	if like := lookalike(data); like != nil {
		return nil, like
	}
	set, err := check(data, l)
	if err != nil && singleFile(data) {
		return nil, fmt.Errorf("this is a single FileDescriptorProto, not a FileDescriptorSet; %s", howToMake)
	}
	return set, err
}

// DescriptorSetFile is DescriptorSet for a file. Errors begin with its path.
func DescriptorSetFile(path string, l Limits) (*Set, error) {
	limit := l.withDefaults().MaxBytes
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s: is a folder, not a descriptor set; give it as .proto source, or %s", path, howToMake)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	set, err := DescriptorSet(data, l)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	set.Watch = []string{path}
	return set, nil
}

// unpack returns data, unpacked when it is gzip, and stops at the limit.
func unpack(data []byte, limit int64) ([]byte, error) {
	if len(data) == 0 {
		return nil, errors.New("the descriptor set is empty: it has no bytes")
	}
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		if int64(len(data)) > limit {
			return nil, fmt.Errorf("the descriptor set has more than %d bytes, the limit", limit)
		}
		return data, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("the descriptor set begins like gzip but does not unpack: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(zr, limit+1))
	if int64(len(plain)) > limit {
		return nil, fmt.Errorf("the descriptor set has more than %d bytes once unpacked, the limit", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("the descriptor set begins like gzip but does not unpack: %w", err)
	}
	if len(plain) == 0 {
		return nil, errors.New("the descriptor set is empty: it has no bytes once unpacked")
	}
	return plain, nil
}

// lookalike recognises what is often given in place of a descriptor set. No set begins with these bytes: a set is
// fields of number 1 and wire type 2, so it begins with a line feed, after which comes a length.
func lookalike(data []byte) error {
	if data[0] == '\n' && wellFormed(data) {
		return nil
	}
	head := bytes.TrimPrefix(data[:min(len(data), 512)], []byte("\xef\xbb\xbf"))
	text := strings.TrimLeft(string(head), " \t\r\n")
	switch {
	case text == "":
		return errors.New("the descriptor set is empty: it has nothing but white space")
	case text[0] == '{' || text[0] == '[':
		return fmt.Errorf("this looks like JSON, not a binary descriptor set; %s", howToMake)
	case text[0] == '<':
		return fmt.Errorf("this looks like HTML or XML, not a binary descriptor set; %s", howToMake)
	case strings.HasPrefix(text, "PK\x03\x04"):
		return fmt.Errorf("this looks like a zip archive, not a binary descriptor set; unpack it, or %s", howToMake)
	case hasAnyPrefix(text, "file {", "file{", "file:"):
		return fmt.Errorf("this looks like a descriptor set in text format, not a binary one; %s", howToMake)
	case hasAnyPrefix(text, "syntax", "edition", "package ", "import ", "message ", "service ", "option ", "//", "/*"):
		return fmt.Errorf("this looks like .proto source, not a binary descriptor set; give it as .proto source, or %s", howToMake)
	case utf8.ValidString(text) && printable(strings.Join(strings.Fields(text), "")):
		return fmt.Errorf("this looks like text, not a binary descriptor set; %s", howToMake)
	}
	return nil
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func wellFormed(data []byte) bool {
	return eachField(data, func(protowire.Number, protowire.Type, []byte) error { return nil }) == nil
}

// singleFile says that data is one FileDescriptorProto: its first field is then a name that ends in .proto, where a set
// has a whole file.
func singleFile(data []byte) bool {
	if !strings.HasSuffix(peekName(data), ".proto") {
		return false
	}
	c := &counter{l: Limits{}.withDefaults()}
	return c.message((*descriptorpb.FileDescriptorProto)(nil).ProtoReflect().Descriptor(), data, 1, 0) == nil
}
