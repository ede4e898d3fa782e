package builtin

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// reflect answers a stream of questions about the descriptors, by grpc-go's own server.
func (h *Handler) reflect(ctx context.Context, c *rpc.Call) error {
	catalog := h.Current()
	own, err := compiled()
	if err != nil {
		return rpc.AsError(err)
	}
	view := &view{catalog: catalog, own: own.Files()}
	server := reflection.NewServerV1(reflection.ServerOptions{Services: view, DescriptorResolver: view, ExtensionResolver: catalog})
	err = server.ServerReflectionInfo(&questions{ctx: ctx, stream: c.Stream})
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*rpc.Error](err); ok {
		return e
	}
	st := status.Convert(err)
	return rpc.Refuse(st.Code(), "REFLECTION", "%s", st.Message())
}

// view is the catalog with the gateway's own services.
type view struct {
	catalog Catalog
	own     *protoregistry.Files
}

// GetServiceInfo implements reflection.ServiceInfoProvider: of the services their names.
func (v *view) GetServiceInfo() map[string]grpc.ServiceInfo {
	out := map[string]grpc.ServiceInfo{}
	for _, name := range v.catalog.Services() {
		out[name] = grpc.ServiceInfo{}
	}
	for _, name := range []string{"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"} {
		out[name] = grpc.ServiceInfo{}
	}
	return out
}

// FindFileByPath implements protodesc.Resolver.
func (v *view) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if fd, err := v.catalog.FindFileByPath(path); err == nil {
		return fd, nil
	}
	return v.own.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (v *view) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := v.catalog.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	return v.own.FindDescriptorByName(name)
}

// questions is a call's stream as grpc-go's server wants it.
type questions struct {
	grpc.ServerStream
	ctx    context.Context
	stream rpc.Stream
}

// Context implements grpc.ServerStream.
func (q *questions) Context() context.Context { return q.ctx }

// Recv gives the next question.
func (q *questions) Recv() (*reflectionpb.ServerReflectionRequest, error) {
	var m rpc.Message
	if err := q.stream.Recv(&m); err != nil {
		return nil, err
	}
	defer m.Free()
	req := &reflectionpb.ServerReflectionRequest{}
	return req, read(&m, req)
}

// Send sends an answer.
func (q *questions) Send(answer *reflectionpb.ServerReflectionResponse) error {
	m, err := encoded(answer)
	if err != nil {
		return err
	}
	return q.stream.Send(&m, false)
}
