package source

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

const (
	// otherPerField bounds what is neither message nor field (names, values, methods, options, comments), as a multiple
	// of the field limit.
	otherPerField = 2
	// optionDepth is what options may nest below the declaration they stand at.
	optionDepth = 64
	// deepest bounds nesting whatever limit is set: linking and compiling recurse.
	deepest = 1000
)

// counter holds a descriptor set to its limits while it is still wire bytes. An empty message takes two bytes there and
// a hundred times that once decoded, so counting afterwards would be too late.
type counter struct {
	l                              Limits
	files, messages, fields, other int
	// exts are the extensions that options will be read with; nil while their bytes are left alone.
	exts map[extensionKey]protoreflect.ExtensionType
}

func (c *counter) count(md protoreflect.MessageDescriptor) error {
	switch md.FullName() {
	case "google.protobuf.DescriptorProto":
		if c.messages++; c.messages > c.l.MaxMessages {
			return fmt.Errorf("more than %d messages, the limit", c.l.MaxMessages)
		}
	case "google.protobuf.FieldDescriptorProto":
		if c.fields++; c.fields > c.l.MaxFields {
			return fmt.Errorf("more than %d fields, the limit", c.l.MaxFields)
		}
	default:
		return c.countOther()
	}
	return nil
}

func (c *counter) countOther() error {
	if c.other++; c.other > otherPerField*c.l.MaxFields {
		return fmt.Errorf("more than %d names, values, methods, options and comments, twice the limit on fields", otherPerField*c.l.MaxFields)
	}
	return nil
}

// message goes over the wire bytes of one md. nesting is the number of message declarations around it.
func (c *counter) message(md protoreflect.MessageDescriptor, b []byte, depth, nesting int) error {
	if depth > c.l.MaxNesting+optionDepth {
		return fmt.Errorf("options nest deeper than %d", optionDepth)
	}
	if md.FullName() == "google.protobuf.DescriptorProto" {
		if nesting++; nesting > c.l.MaxNesting {
			return fmt.Errorf("message declarations nest deeper than %d, the limit", c.l.MaxNesting)
		}
	}
	return eachField(b, func(num protowire.Number, typ protowire.Type, val []byte) error {
		if typ != protowire.BytesType {
			return nil
		}
		fd := md.Fields().ByNumber(num)
		if fd == nil && c.exts != nil {
			if xt, ok := c.exts[extensionKey{md.FullName(), num}]; ok {
				fd = xt.TypeDescriptor()
			}
		}
		switch {
		case fd == nil:
			return nil
		case fd.Kind() == protoreflect.MessageKind:
			if err := c.count(fd.Message()); err != nil {
				return err
			}
			return c.message(fd.Message(), val, depth+1, nesting)
		case fd.IsList() && (fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.BytesKind):
			return c.countOther()
		}
		return nil
	})
}

// eachField calls f for every field of a message; val is set for length-delimited ones only.
func eachField(b []byte, f func(num protowire.Number, typ protowire.Type, val []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return broken(n)
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return broken(n)
		}
		var val []byte
		if typ == protowire.BytesType {
			val, _ = protowire.ConsumeBytes(b)
		}
		if err := f(num, typ, val); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func broken(n int) error {
	return fmt.Errorf("the bytes are broken: %w", plain(protowire.ParseError(n)))
}

// Numbers of descriptor.proto that are read before decoding.
const (
	setFile        = 1 // FileDescriptorSet.file
	fileName       = 1 // FileDescriptorProto.name
	fileSourceInfo = 9 // FileDescriptorProto.source_code_info
	infoLocation   = 1 // SourceCodeInfo.location
	fileDependency = 3 // FileDescriptorProto.dependency, as a path into a file
)

// decodeSet counts and decodes a set. Options are not read yet: extensions stay bytes.
func (c *counter) decodeSet(b []byte) ([]*descriptorpb.FileDescriptorProto, error) {
	var files []*descriptorpb.FileDescriptorProto
	err := eachField(b, func(num protowire.Number, typ protowire.Type, val []byte) error {
		if num != setFile || typ != protowire.BytesType {
			return nil // a later version of protobuf, or buf's own
		}
		if c.files++; c.files > c.l.MaxFiles {
			return fmt.Errorf("more than %d files, the limit", c.l.MaxFiles)
		}
		fd, err := c.decodeFile(val)
		if err != nil {
			if name := peekName(val); name != "" {
				return fmt.Errorf("%s: %w", name, err)
			}
			return fmt.Errorf("file %d of the set: %w", c.files, err)
		}
		files = append(files, fd)
		return nil
	})
	return files, err
}

// decodeFile decodes one file. Of its source info only comments and the places of imports are kept: the rest is most of
// a set's bytes and nobody reads it.
func (c *counter) decodeFile(b []byte) (*descriptorpb.FileDescriptorProto, error) {
	body := make([]byte, 0, len(b))
	var locations []*descriptorpb.SourceCodeInfo_Location
	at := b
	for len(at) > 0 {
		num, typ, n := protowire.ConsumeField(at)
		if n < 0 {
			return nil, broken(n)
		}
		if num != fileSourceInfo || typ != protowire.BytesType {
			body = append(body, at[:n]...)
			at = at[n:]
			continue
		}
		_, _, tag := protowire.ConsumeTag(at)
		info, _ := protowire.ConsumeBytes(at[tag:])
		at = at[n:]
		kept, err := c.locations(info)
		if err != nil {
			return nil, err
		}
		locations = append(locations, kept...)
	}
	fd := &descriptorpb.FileDescriptorProto{}
	if err := c.message(fd.ProtoReflect().Descriptor(), body, 1, 0); err != nil {
		return nil, err
	}
	if err := c.unmarshal(nil).Unmarshal(body, fd); err != nil {
		return nil, plain(err)
	}
	fd.ProtoReflect().SetUnknown(nil)
	if len(locations) > 0 {
		fd.SourceCodeInfo = &descriptorpb.SourceCodeInfo{Location: locations}
	}
	return fd, nil
}

func (c *counter) locations(info []byte) ([]*descriptorpb.SourceCodeInfo_Location, error) {
	var kept []*descriptorpb.SourceCodeInfo_Location
	err := eachField(info, func(num protowire.Number, typ protowire.Type, val []byte) error {
		if num != infoLocation || typ != protowire.BytesType || !wantedLocation(val) {
			return nil
		}
		if err := c.countOther(); err != nil {
			return err
		}
		loc := &descriptorpb.SourceCodeInfo_Location{}
		if err := c.message(loc.ProtoReflect().Descriptor(), val, 1, 0); err != nil {
			return err
		}
		if err := c.unmarshal(nil).Unmarshal(val, loc); err != nil {
			return plain(err)
		}
		if n := len(loc.GetSpan()); n == 3 || n == 4 {
			kept = append(kept, loc)
		}
		return nil
	})
	return kept, err
}

// wantedLocation says that a location has a comment or is that of an import.
func wantedLocation(b []byte) bool {
	wanted := false
	err := eachField(b, func(num protowire.Number, typ protowire.Type, val []byte) error {
		if typ != protowire.BytesType || len(val) == 0 {
			return nil
		}
		switch num {
		case 1: // path, packed
			first, n := protowire.ConsumeVarint(val)
			wanted = wanted || n > 0 && first == fileDependency
		case 3, 4, 6: // leading, trailing and detached comments
			wanted = true
		}
		return nil
	})
	return wanted && err == nil
}

// unmarshal decodes with the extensions of types, or, when nil, leaves every extension as bytes.
func (c *counter) unmarshal(types extensionTypes) proto.UnmarshalOptions {
	return proto.UnmarshalOptions{
		AllowPartial:   true,
		RecursionLimit: c.l.MaxNesting + optionDepth + 8,
		Resolver:       types,
	}
}

// peekName is the name of a file that did not decode, or "".
func peekName(b []byte) string {
	name := ""
	// The bytes are known to be broken somewhere: what was found before that is good enough for a message.
	_ = eachField(b, func(num protowire.Number, typ protowire.Type, val []byte) error {
		if num == fileName && typ == protowire.BytesType && name == "" {
			name = string(val)
		}
		return nil
	})
	if len(name) > 200 || !printable(name) {
		return ""
	}
	return name
}

func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return false
		}
	}
	return true
}

// plain takes the marks of the protobuf runtime off an error's text: its prefix, and the no-break spaces it mixes in.
func plain(err error) error {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return &runtimeError{text: strings.TrimPrefix(text, "proto: "), err: err}
}

type runtimeError struct {
	text string
	err  error
}

func (e *runtimeError) Error() string { return e.text }
func (e *runtimeError) Unwrap() error { return e.err }
