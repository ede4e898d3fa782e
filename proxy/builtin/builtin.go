// Package builtin has the services that the gateway answers itself: gRPC's health protocol and server reflection, for what
// the gateway serves.
package builtin

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	alphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Catalog is what is served at one moment. Its methods are safe for concurrent use.
type Catalog interface {
	// Services are the full names of the services, sorted.
	Services() []string
	// Health tells whether there is an instance that takes calls of a service; "" is the gateway itself.
	Health(service string) (serving, known bool)
	protodesc.Resolver
	reflection.ExtensionResolver
}

// Names of the methods.
const (
	healthCheck = "/grpc.health.v1.Health/Check"
	healthList  = "/grpc.health.v1.Health/List"
	healthWatch = "/grpc.health.v1.Health/Watch"
	reflectV1   = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
	reflectV1a  = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
)

// compiled is the schema of the services, made once.
var compiled = sync.OnceValues(func() (*schema.Schema, error) {
	files := new(protoregistry.Files)
	for _, fd := range []protoreflect.FileDescriptor{
		healthpb.File_grpc_health_v1_health_proto,
		reflectionpb.File_grpc_reflection_v1_reflection_proto,
		alphapb.File_grpc_reflection_v1alpha_reflection_proto,
	} {
		if err := files.RegisterFile(fd); err != nil {
			return nil, err
		}
	}
	return schema.New(files)
})

// Methods are the methods of the services: those of health, and with reflection those of it.
func Methods(reflection bool) ([]*schema.Method, error) {
	s, err := compiled()
	if err != nil {
		return nil, err
	}
	names := []string{healthCheck, healthList, healthWatch}
	if reflection {
		names = append(names, reflectV1, reflectV1a)
	}
	methods := make([]*schema.Method, 0, len(names))
	for _, name := range names {
		if m, ok := s.Method(name); ok {
			methods = append(methods, m)
		}
	}
	return methods, nil
}

// Handler answers the services' calls. It is safe for concurrent use.
type Handler struct {
	// Current is what is served now.
	Current func() Catalog
}

// Handle implements rpc.Handler.
func (h *Handler) Handle(ctx context.Context, c *rpc.Call) error {
	switch c.Method.Name {
	case healthCheck:
		return h.check(ctx, c)
	case healthList:
		return h.list(c)
	case healthWatch:
		return h.watch(ctx, c)
	case reflectV1, reflectV1a: // the same messages
		return h.reflect(ctx, c)
	}
	return rpc.Refuse(codes.Unimplemented, "METHOD_NOT_FOUND", "no method %s is served here", c.Method.Name)
}

// read decodes a request.
func read(m *rpc.Message, into proto.Message) error {
	if err := proto.Unmarshal(m.Data, into); err != nil {
		return rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "the request is no valid %s", into.ProtoReflect().Descriptor().FullName()).WithCause(err)
	}
	return nil
}

// encoded is an answer in wire bytes.
func encoded(answer proto.Message) (rpc.Message, error) {
	raw, err := proto.Marshal(answer)
	if err != nil {
		return rpc.Message{}, rpc.AsError(err)
	}
	return rpc.Message{Data: raw}, nil
}
