// Package schema is the immutable view over protobuf descriptors that the rest of the gateway works with: services,
// methods, and per message the tables that codecs and routers read.
//
// A Schema is compiled once, off the request path, and never changes; a new version of a descriptor is a new Schema.
// Every Schema is closed in itself: two of them may define the same name differently and are never mixed.
package schema

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Schema is one closed set of descriptors, compiled. It is safe for concurrent use and never changes.
type Schema struct {
	files    *protoregistry.Files
	services []*Service
	byName   map[string]*Service
	methods  map[string]*Method
	messages map[protoreflect.FullName]*Message
	enums    map[protoreflect.FullName]*Enum
}

// Service is one protobuf service of a schema.
type Service struct {
	Name    string // full name, "acme.library.v1.Library"
	Methods []*Method
	Desc    protoreflect.ServiceDescriptor
}

// Method is one RPC of a schema.
type Method struct {
	Name       string // the gRPC path, "/acme.library.v1.Library/GetBook"
	Service    *Service
	Kind       MethodKind
	Idempotent bool // option idempotency_level is IDEMPOTENT or NO_SIDE_EFFECTS
	ReadOnly   bool // option idempotency_level is NO_SIDE_EFFECTS
	Input      *Message
	Output     *Message
	Schema     *Schema
	Desc       protoreflect.MethodDescriptor
}

// MethodKind says which sides of a method are streams.
type MethodKind uint8

// The four kinds of method.
const (
	Unary MethodKind = iota
	ServerStream
	ClientStream
	Bidi
)

// String returns the kind as users write it.
func (k MethodKind) String() string {
	return [...]string{"unary", "server stream", "client stream", "bidirectional stream"}[k&3]
}

// New compiles files into a Schema. The files must be linked (every import present); they are kept and must not be
// registered into afterwards. The error names the symbol that cannot be served.
func New(files *protoregistry.Files) (*Schema, error) {
	c := compiler{s: &Schema{
		files:    files,
		byName:   map[string]*Service{},
		methods:  map[string]*Method{},
		messages: map[protoreflect.FullName]*Message{},
		enums:    map[protoreflect.FullName]*Enum{},
	}}
	c.extensions(files)
	var services []protoreflect.ServiceDescriptor
	files.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		for i := range fd.Services().Len() {
			services = append(services, fd.Services().Get(i))
		}
		c.messages(fd.Messages())
		return true
	})
	slices.SortFunc(services, func(a, b protoreflect.ServiceDescriptor) int {
		if a.FullName() < b.FullName() {
			return -1
		}
		return 1
	})
	for _, sd := range services {
		c.service(sd)
	}
	if c.err != nil {
		return nil, c.err
	}
	c.required()
	return c.s, nil
}

// Files are the descriptors the schema was compiled from. Read-only.
func (s *Schema) Files() *protoregistry.Files { return s.files }

// Services are the schema's services, sorted by name. Read-only.
func (s *Schema) Services() []*Service { return s.services }

// Service finds a service by its full name.
func (s *Schema) Service(name string) (*Service, bool) {
	sv, ok := s.byName[name]
	return sv, ok
}

// Method finds a method by its gRPC path, "/acme.library.v1.Library/GetBook".
func (s *Schema) Method(path string) (*Method, bool) {
	m, ok := s.methods[path]
	return m, ok
}

// Message finds a message by its full name, as the last part of an Any's type URL has it.
func (s *Schema) Message(name string) (*Message, bool) {
	m, ok := s.messages[protoreflect.FullName(name)]
	return m, ok
}

func (c *compiler) service(sd protoreflect.ServiceDescriptor) {
	sv := &Service{Name: string(sd.FullName()), Desc: sd}
	for i := range sd.Methods().Len() {
		md := sd.Methods().Get(i)
		m := &Method{
			Name:    fmt.Sprintf("/%s/%s", sd.FullName(), md.Name()),
			Service: sv,
			Input:   c.message(md.Input()),
			Output:  c.message(md.Output()),
			Schema:  c.s,
			Desc:    md,
		}
		switch {
		case md.IsStreamingClient() && md.IsStreamingServer():
			m.Kind = Bidi
		case md.IsStreamingClient():
			m.Kind = ClientStream
		case md.IsStreamingServer():
			m.Kind = ServerStream
		}
		if o, ok := md.Options().(*descriptorpb.MethodOptions); ok {
			m.ReadOnly = o.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
			m.Idempotent = m.ReadOnly || o.GetIdempotencyLevel() == descriptorpb.MethodOptions_IDEMPOTENT
		}
		sv.Methods = append(sv.Methods, m)
		c.s.methods[m.Name] = m
	}
	c.s.services = append(c.s.services, sv)
	c.s.byName[sv.Name] = sv
}
