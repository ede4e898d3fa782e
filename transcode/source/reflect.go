package source

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/jhump/protoreflect/grpcreflect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Reflect asks a live gRPC server (host:port) for its descriptors: grpc.reflection v1, or v1alpha when it has no other.
// With a tlsConfig the connection is TLS. ctx bounds the whole of it; a server that cannot be reached is an error at
// once. The reflection and health services are left out unless there is nothing else.
func Reflect(ctx context.Context, target string, tlsConfig *tls.Config, l Limits) (set *Set, err error) {
	// Last defence, as in check: the client links what the server sends before it is judged here.
	defer func() {
		if p := recover(); p != nil {
			set, err = nil, fmt.Errorf("reflection: the descriptors of %s cannot be linked: %v", target, p)
		}
	}()
	if _, _, err := net.SplitHostPort(target); err != nil {
		return nil, fmt.Errorf("reflection: address %q is not host:port: %w", target, err)
	}
	r := &reflection{target: target, secure: tlsConfig != nil, limit: l.withDefaults().MaxBytes, seen: map[[sha256.Size]byte]bool{}, graph: importGraph{}}
	r.counter.l = l.withDefaults()
	creds := insecure.NewCredentials()
	if tlsConfig != nil {
		creds = credentials.NewTLS(tlsConfig)
	}
	conn, err := grpc.NewClient("passthrough:///"+target,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(r.dial),
		grpc.WithStreamInterceptor(r.intercept),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(int(min(r.limit, 1<<31-1)))),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("reflection: %w", err)
	}
	defer conn.Close() //nolint:errcheck // nothing is left to lose
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.cancel = cancel
	client := grpcreflect.NewClientAuto(ctx, conn)
	defer client.Reset()
	defer cancel() // before Reset, which waits for the server to end the stream
	client.AllowFallbackResolver(bundled(), nil)
	files, err := r.files(client)
	if err != nil {
		return nil, r.explain(ctx, err)
	}
	data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(&descriptorpb.FileDescriptorSet{File: files})
	if err != nil {
		return nil, fmt.Errorf("reflection: %w", plain(err))
	}
	set, err = check(data, l)
	if err != nil {
		return nil, fmt.Errorf("reflection of %s: %w", target, err)
	}
	return set, nil
}

// reflection is one conversation with a server.
type reflection struct {
	target string
	secure bool
	limit  int64

	mu      sync.Mutex
	dialErr error
	counter counter // of what was sent so far: files are held to the limits before the client decodes them
	bytes   int64
	seen    map[[sha256.Size]byte]bool
	graph   importGraph
	refused error // by the limits
	cancel  context.CancelFunc
}

func (r *reflection) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	r.mu.Lock()
	r.dialErr = err
	r.mu.Unlock()
	return conn, err
}

// files are those of the server's services and all they import.
func (r *reflection) files(client *grpcreflect.Client) ([]*descriptorpb.FileDescriptorProto, error) {
	all, err := client.ListServices()
	if err != nil {
		return nil, err
	}
	services := slices.DeleteFunc(slices.Clone(all), infrastructure)
	if len(services) == 0 {
		services = all
	}
	slices.Sort(services)
	var files []*descriptorpb.FileDescriptorProto
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
		files = append(files, protodesc.ToFileDescriptorProto(fd))
	}
	for _, s := range services {
		fd, err := client.FileContainingSymbol(s)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", s, err)
		}
		add(fd.UnwrapFile())
	}
	return files, nil
}

func infrastructure(service string) bool {
	return strings.HasPrefix(service, "grpc.reflection.") || strings.HasPrefix(service, "grpc.health.")
}

// explain says in a user's terms why the conversation failed.
func (r *reflection) explain(ctx context.Context, err error) error {
	r.mu.Lock()
	dialErr, refused := r.dialErr, r.refused
	r.mu.Unlock()
	code := status.Code(err)
	switch {
	case refused != nil:
		return fmt.Errorf("reflection of %s: %w", r.target, refused)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("reflection: %s did not answer in time: %w", r.target, context.DeadlineExceeded)
	case ctx.Err() != nil:
		return fmt.Errorf("reflection of %s: %w", r.target, ctx.Err())
	case errors.Is(dialErr, syscall.ECONNREFUSED):
		return fmt.Errorf("reflection: %s refuses connections: nothing listens there; start the server, or mend the address: %w", r.target, syscall.ECONNREFUSED)
	case dialErr != nil:
		return fmt.Errorf("reflection: %s is not reachable: %w", r.target, dialErr)
	case code == codes.ResourceExhausted:
		return fmt.Errorf("reflection of %s: the descriptors have more than %d bytes, the limit: %s", r.target, r.limit, status.Convert(err).Message())
	case code == codes.Unimplemented:
		return fmt.Errorf("reflection: %s offers no gRPC reflection (v1 or v1alpha): start the server with reflection, or give --descriptor-set or --proto", r.target)
	case grpcreflect.IsElementNotFoundError(err), grpcreflect.IsElementNotFoundError(errors.Unwrap(err)):
		return fmt.Errorf("reflection: %s lacks descriptors that it names: %w", r.target, plainLines(err))
	case code == codes.Unavailable && !r.secure:
		return fmt.Errorf("reflection: %s does not speak plain-text gRPC; if it speaks TLS, ask for TLS: %s", r.target, status.Convert(err).Message())
	case code == codes.Unavailable:
		return fmt.Errorf("reflection: no TLS connection to %s: %s", r.target, status.Convert(err).Message())
	}
	return fmt.Errorf("reflection of %s: %w", r.target, plainLines(err))
}

// plainLines puts an error of several lines on one.
func plainLines(err error) error {
	return &runtimeError{text: strings.ReplaceAll(plain(err).Error(), "\n", ": "), err: err}
}

// intercept looks at every answer of the server before the client decodes the files in it.
func (r *reflection) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &countingStream{ClientStream: s, of: r}, nil
}

type countingStream struct {
	grpc.ClientStream
	of *reflection
}

// RecvMsg is ClientStream.RecvMsg that refuses what goes beyond the limits.
func (s *countingStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	switch resp := m.(type) {
	case *reflectionv1.ServerReflectionResponse:
		return s.of.admit(resp.GetFileDescriptorResponse().GetFileDescriptorProto())
	case *reflectionv1alpha.ServerReflectionResponse:
		return s.of.admit(resp.GetFileDescriptorResponse().GetFileDescriptorProto())
	}
	return nil
}

// admit counts files as check will do once more; servers may send a file several times.
func (r *reflection) admit(files [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	md := (*descriptorpb.FileDescriptorProto)(nil).ProtoReflect().Descriptor()
	for _, b := range files {
		sum := sha256.Sum256(b)
		if r.refused != nil || r.seen[sum] {
			continue
		}
		r.seen[sum] = true
		r.counter.files++
		r.bytes += int64(len(b))
		switch {
		case r.bytes > r.limit:
			r.refused = fmt.Errorf("the descriptors have more than %d bytes, the limit", r.limit)
		case r.counter.files > r.counter.l.MaxFiles:
			r.refused = fmt.Errorf("more than %d files, the limit", r.counter.l.MaxFiles)
		default:
			r.graph.addWire(b)
			if err := r.counter.message(md, b, 1, 0); err != nil {
				r.refused = fmt.Errorf("%s: %w", peekName(b), err)
			}
		}
	}
	if r.refused == nil && len(files) > 0 {
		r.refused = r.graph.check()
	}
	if r.refused != nil {
		r.cancel() // the client would wait for the server to end the stream
		return status.Error(codes.ResourceExhausted, r.refused.Error())
	}
	return nil
}
