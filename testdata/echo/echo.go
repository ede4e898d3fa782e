// Package echo is a gRPC server for tests: it says what reached it, counts its calls, and can fail or wait on request.
package echo

import (
	"context"
	"encoding/hex"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
)

// Server is a running instance.
type Server struct {
	echov1.UnimplementedEchoServer
	Address   string
	Calls     atomic.Int64 // calls that reached it
	Cancelled atomic.Int64 // Wait calls whose caller left
	Waiting   atomic.Int64 // Wait calls in progress
	Conns     atomic.Int64 // connections accepted

	grpc *grpc.Server
	name string
}

// Start runs an instance on address ("127.0.0.1:0" for a free port) until the test ends. Its name is in its answers.
func Start(t testing.TB, address, name string, opts ...grpc.ServerOption) *Server {
	t.Helper()
	s := &Server{grpc: grpc.NewServer(opts...), name: name}
	echov1.RegisterEchoServer(s.grpc, s)
	s.start(t, address)
	return s
}

// StartMirror runs an instance with the service Mirror, and only that.
func StartMirror(t testing.TB) *Server {
	t.Helper()
	s := &Server{grpc: grpc.NewServer()}
	echov1.RegisterMirrorServer(s.grpc, mirror{s: s})
	s.start(t, "127.0.0.1:0")
	return s
}

func (s *Server) start(t testing.TB, address string) {
	t.Helper()
	ln, err := net.Listen("tcp", address) //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	s.Address = ln.Addr().String()
	reflection.Register(s.grpc)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.grpc.Serve(counting{ln, s}) // ends with Stop
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
}

// Stop ends the instance at once. It may be called twice.
func (s *Server) Stop() { s.grpc.Stop() }

// GracefulStop lets calls in flight end and sends GOAWAY.
func (s *Server) GracefulStop() { s.grpc.GracefulStop() }

type counting struct {
	net.Listener
	s *Server
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.s.Conns.Add(1)
	}
	return c, err
}

// Call answers with the request and what came beside it.
func (s *Server) Call(ctx context.Context, r *echov1.CallRequest) (*echov1.CallReply, error) {
	s.Calls.Add(1)
	out := &echov1.CallReply{
		Text: r.GetText(), Data: r.GetData(), Number: r.GetNumber(), Instance: s.name,
		Filler: strings.Repeat("x", int(r.GetFill())), Metadata: map[string]string{},
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for k, v := range md {
		if strings.HasSuffix(k, "-bin") {
			out.Metadata[k] = hex.EncodeToString([]byte(strings.Join(v, "")))
			continue
		}
		out.Metadata[k] = strings.Join(v, ", ")
	}
	if d, ok := ctx.Deadline(); ok {
		out.Deadline = durationpb.New(time.Until(d))
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-instance", s.name, "x-raw-bin", "\x00\xff")); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("x-cost", "3")); err != nil {
		return nil, err
	}
	return out, nil
}

// Fail answers with the status that it is asked for.
func (s *Server) Fail(_ context.Context, r *echov1.FailRequest) (*echov1.CallReply, error) {
	s.Calls.Add(1)
	if r.GetCode() == int32(codes.OK) {
		return &echov1.CallReply{Instance: s.name}, nil
	}
	return nil, status.FromProto(&spb.Status{Code: r.GetCode(), Message: r.GetMessage(), Details: r.GetDetails()}).Err()
}

// Wait answers after a while, unless the caller leaves.
func (s *Server) Wait(ctx context.Context, r *echov1.WaitRequest) (*echov1.CallReply, error) {
	s.Calls.Add(1)
	s.Waiting.Add(1)
	defer s.Waiting.Add(-1)
	t := time.NewTimer(r.GetTime().AsDuration())
	defer t.Stop()
	select {
	case <-t.C:
		return &echov1.CallReply{Instance: s.name}, nil
	case <-ctx.Done():
		s.Cancelled.Add(1)
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}
