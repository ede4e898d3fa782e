package grpc

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	googlegrpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
)

// The contract of transports, against grpc-go.
func TestOutbound(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := googlegrpc.NewServer(googlegrpc.UnknownServiceHandler(func(_ any, ss googlegrpc.ServerStream) error {
		var m adaptertest.Message
		if err := ss.RecvMsg(&m); err != nil {
			return err
		}
		md, _ := metadata.FromIncomingContext(ss.Context())
		ss.SetTrailer(metadata.MD{"x-echo-trailer": md.Get("x-echo")})
		var code codes.Code
		if n, _ := fmt.Sscanf(m.GetText(), "fail %d", &code); n == 1 {
			return status.Error(code, strings.SplitN(m.GetText(), " ", 3)[2])
		}
		if m.GetText() == "wait" {
			<-ss.Context().Done()
			return ss.Context().Err()
		}
		return ss.SendMsg(&m)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln) // ends with Stop
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	adaptertest.Outbound(t, adaptertest.Outward{Adapter: Adapter{}, Address: ln.Addr().String()})
}
