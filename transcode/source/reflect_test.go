package source_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/source"
)

// library gives a server the library service of smallSet without generated code.
func library(t *testing.T, s *grpc.Server) reflection.ServerOptions {
	t.Helper()
	compiled, err := accept(t, smallSet(t)).Schema()
	if err != nil {
		t.Fatal(err)
	}
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "library.Library", HandlerType: (*any)(nil), Metadata: "library.proto"}, struct{}{})
	healthv1.RegisterHealthServer(s, health.NewServer())
	// The server finds the library in its own files, and its other services in the linked-in ones.
	return reflection.ServerOptions{Services: s, DescriptorResolver: both{compiled.Files(), protoregistry.GlobalFiles}}
}

// serve runs a server until the test ends and returns its address.
func serve(t *testing.T, s *grpc.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String()
}

func short(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestReflect(t *testing.T) {
	cert, pool := certificate(t)
	for _, tt := range []struct {
		name     string
		options  []grpc.ServerOption
		register func(s *grpc.Server, o reflection.ServerOptions)
		tls      *tls.Config
	}{
		{"v1", nil, func(s *grpc.Server, o reflection.ServerOptions) {
			reflectionv1.RegisterServerReflectionServer(s, reflection.NewServerV1(o))
		}, nil},
		{"v1alpha only", nil, func(s *grpc.Server, o reflection.ServerOptions) {
			reflectionv1alpha.RegisterServerReflectionServer(s, reflection.NewServer(o))
		}, nil},
		{"TLS", []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&cert))}, func(s *grpc.Server, o reflection.ServerOptions) {
			reflectionv1.RegisterServerReflectionServer(s, reflection.NewServerV1(o))
		}, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := grpc.NewServer(tt.options...)
			tt.register(s, library(t, s))
			set, err := source.Reflect(short(t), serve(t, s), tt.tls, source.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if len(set.Watch) != 0 {
				t.Errorf("watch %v, want nothing", set.Watch)
			}
			compiled, err := set.Schema()
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, sv := range compiled.Services() {
				names = append(names, sv.Name)
			}
			if !slices.Equal(names, []string{"library.Library"}) {
				t.Errorf("services %v, want the library alone", names)
			}
			m, ok := compiled.Method("/library.Library/Get")
			if !ok {
				t.Fatal("the method is missing")
			}
			if rule, ok := proto.GetExtension(m.Desc.Options(), annotations.E_Http).(*annotations.HttpRule); !ok || rule.GetGet() != "/v1/books/{name}" {
				t.Errorf("google.api.http is %v", rule)
			}
			if want := accept(t, smallSet(t)).Digest; set.Digest != want {
				t.Errorf("digest %s, want that of the descriptor set, %s", set.Digest, want)
			}
		})
	}
}

// TestReflectInfrastructure: health is all there is, so it is what is wanted.
func TestReflectInfrastructure(t *testing.T) {
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	set, err := source.Reflect(short(t), serve(t, s), nil, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := set.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := compiled.Method("/grpc.health.v1.Health/Check"); !ok {
		t.Error("the health service is missing")
	}
}

func TestReflectRefuses(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	plain := grpc.NewServer()
	healthv1.RegisterHealthServer(plain, health.NewServer())
	bare := serve(t, plain)
	cert, pool := certificate(t)
	secured := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	reflection.Register(secured)
	secure := serve(t, secured)
	full := grpc.NewServer()
	reflectionv1.RegisterServerReflectionServer(full, reflection.NewServerV1(library(t, full)))
	offered := serve(t, full)
	hostile := serve(t, hostileServer(t))

	for _, tt := range []struct {
		name, target string
		tls          *tls.Config
		limits       source.Limits
		timeout      time.Duration
		want         string // with the target for %s; a text that ends in "..." is a prefix
		is           error
	}{
		{"refused", closed, nil, source.Limits{}, 0, "reflection: %s refuses connections: nothing listens there; start the server, or mend the address: connection refused", syscall.ECONNREFUSED},
		{"silent", silent.Addr().String(), nil, source.Limits{}, 300 * time.Millisecond, "reflection: %s did not answer in time: context deadline exceeded", context.DeadlineExceeded},
		{"no reflection", bare, nil, source.Limits{}, 0, "reflection: %s offers no gRPC reflection (v1 or v1alpha): start the server with reflection, or give --descriptor-set or --proto", nil},
		{"no port", "localhost", nil, source.Limits{}, 0, `reflection: address "localhost" is not host:port: address localhost: missing port in address`, nil},
		{"plain text to TLS", secure, nil, source.Limits{}, 0, "reflection: %s does not speak plain-text gRPC; if it speaks TLS, ask for TLS: ...", nil},
		{"TLS to plain text", bare, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, source.Limits{}, 0, "reflection: no TLS connection to %s: ...", nil},
		{"unknown authority", secure, &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}, source.Limits{}, 0, "reflection: no TLS connection to %s: ...", nil},
		{"limit on files", offered, nil, source.Limits{MaxFiles: 1}, 0, "reflection of %s: more than 1 files, the limit", nil},
		{"limit on bytes", offered, nil, source.Limits{MaxBytes: 2000}, 0, "reflection of %s: the descriptors have more than 2000 bytes, the limit...", nil},
		{"bomb", hostile, nil, source.Limits{}, 0, "reflection of %s: bomb.proto: more than 50000 messages, the limit", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := short(t)
			if tt.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tt.timeout)
				defer cancel()
			}
			start := time.Now()
			set, err := source.Reflect(ctx, tt.target, tt.tls, tt.limits)
			if err == nil || set != nil {
				t.Fatalf("set %v, error %v", set, err)
			}
			want := strings.ReplaceAll(tt.want, "%s", tt.target)
			prefix, isPrefix := strings.CutSuffix(want, "...")
			if isPrefix && !strings.HasPrefix(err.Error(), prefix) || !isPrefix && err.Error() != want {
				t.Errorf("error\n%v, want\n%s", err, want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %v is not %v", err, tt.is)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has several lines: %q", err)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// hostileServer answers with a file that is small on the wire and large once decoded, and never ends the stream.
func hostileServer(t *testing.T) *grpc.Server {
	t.Helper()
	s := grpc.NewServer()
	reflectionv1.RegisterServerReflectionServer(s, bomber{})
	return s
}

type bomber struct {
	reflectionv1.UnimplementedServerReflectionServer
}

func (bomber) ServerReflectionInfo(stream grpc.BidiStreamingServer[reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse]) error {
	bomb := append([]byte("\x0a\x0abomb.proto"), []byte(strings.Repeat("\x22\x00", 1<<20))...)
	for {
		req, err := stream.Recv()
		if err != nil {
			<-stream.Context().Done()
			return nil
		}
		resp := &reflectionv1.ServerReflectionResponse{MessageResponse: &reflectionv1.ServerReflectionResponse_ListServicesResponse{
			ListServicesResponse: &reflectionv1.ListServiceResponse{Service: []*reflectionv1.ServiceResponse{{Name: "bomb.Service"}}},
		}}
		if req.GetFileContainingSymbol() != "" {
			resp.MessageResponse = &reflectionv1.ServerReflectionResponse_FileDescriptorResponse{
				FileDescriptorResponse: &reflectionv1.FileDescriptorResponse{FileDescriptorProto: [][]byte{bomb}},
			}
		}
		if err := stream.Send(resp); err != nil {
			return nil
		}
	}
}

// TestReflectShadowed: what a server sends is judged like what a file holds.
func TestReflectShadowed(t *testing.T) {
	s := grpc.NewServer()
	fd := &descriptorpb.FileDescriptorProto{
		Name: proto.String("google/protobuf/timestamp.proto"), Package: proto.String("google.protobuf"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Timestamp")}},
		Service:     []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Evil")}},
	}
	data, err := proto.Marshal(fd)
	if err != nil {
		t.Fatal(err)
	}
	reflectionv1.RegisterServerReflectionServer(s, shadower{file: data})
	_, err = source.Reflect(short(t), serve(t, s), nil, source.Limits{})
	if err == nil || !strings.Contains(err.Error(), "google/protobuf/timestamp.proto: message google.protobuf.Timestamp lacks the field seconds = 1") {
		t.Errorf("error %v", err)
	}
}

type shadower struct {
	reflectionv1.UnimplementedServerReflectionServer
	file []byte
}

func (s shadower) ServerReflectionInfo(stream grpc.BidiStreamingServer[reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse]) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return nil
		}
		resp := &reflectionv1.ServerReflectionResponse{MessageResponse: &reflectionv1.ServerReflectionResponse_FileDescriptorResponse{
			FileDescriptorResponse: &reflectionv1.FileDescriptorResponse{FileDescriptorProto: [][]byte{s.file}},
		}}
		if req.GetListServices() != "" {
			resp.MessageResponse = &reflectionv1.ServerReflectionResponse_ListServicesResponse{
				ListServicesResponse: &reflectionv1.ListServiceResponse{Service: []*reflectionv1.ServiceResponse{{Name: "google.protobuf.Evil"}}},
			}
		}
		if err := stream.Send(resp); err != nil {
			return nil
		}
	}
}

// certificate is a fresh self-signed one for 127.0.0.1, and the pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
