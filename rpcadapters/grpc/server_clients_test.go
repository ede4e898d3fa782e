package grpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	googlegrpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/grpc"
)

func serve(t *testing.T) (*adaptertest.Gateway, string) {
	t.Helper()
	g := &adaptertest.Gateway{Faces: []rpcadapters.Face{grpc.NewFace()}}
	return g, adaptertest.Serve(t, g)
}

func client(t *testing.T, address string) *googlegrpc.ClientConn {
	t.Helper()
	cc, err := googlegrpc.NewClient("passthrough:///"+address, googlegrpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func TestServerWithGRPCGo(t *testing.T) {
	_, address := serve(t)
	cc := client(t, address)
	for _, opts := range [][]googlegrpc.CallOption{nil, {googlegrpc.UseCompressor(gzip.Name)}} {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "x-echo", "a", "x-echo", "b", "x-echo-bin", "\x00\xff"), 20*time.Second)
		defer cancel()
		for _, text := range []string{"", "hello", strings.Repeat("hello ", 100_000)} {
			var header, trailer metadata.MD
			var out echov1.CallRequest
			if err := cc.Invoke(ctx, adaptertest.Unary, &echov1.CallRequest{Text: text}, &out, append(opts, googlegrpc.Header(&header), googlegrpc.Trailer(&trailer))...); err != nil {
				t.Fatal(err)
			}
			if out.GetText() != text {
				t.Errorf("want %d bytes, found %d", len(text), len(out.GetText()))
			}
			if d := cmp.Diff([][]string{{"a", "b"}, {"\x00\xff"}, {"a", "b"}, {"20s"}}, [][]string{header.Get("x-echo"), header.Get("x-echo-bin"), trailer.Get("x-echo-trailer"), header.Get("x-deadline")}); d != "" {
				t.Errorf("metadata (-want +found):\n%s", d)
			}
		}
		stream, err := cc.NewStream(ctx, &googlegrpc.StreamDesc{ServerStreams: true, ClientStreams: true}, adaptertest.Bidi, opts...)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := stream.Header(); err != nil || h.Get("x-echo") == nil {
			t.Fatalf("want the head before the first message, found %v %v", h, err)
		}
		for i := range 50 {
			want := fmt.Sprint(strings.Repeat("x", i*1000), i)
			var out echov1.CallRequest
			if err := errors.Join(stream.SendMsg(&echov1.CallRequest{Text: want}), stream.RecvMsg(&out)); err != nil || out.GetText() != want {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&echov1.CallRequest{}); !errors.Is(err, io.EOF) || len(stream.Trailer().Get("x-echo-trailer")) != 2 {
			t.Errorf("want the end, found %v, %v", err, stream.Trailer())
		}
	}
}

func TestServerErrorsWithGRPCGo(t *testing.T) {
	_, address := serve(t)
	cc := client(t, address)
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		text := fmt.Sprintf("fail %d wörds: 100%%\n", code)
		unary := cc.Invoke(t.Context(), adaptertest.Unary, &echov1.CallRequest{Text: text}, &echov1.CallRequest{})
		stream, err := cc.NewStream(t.Context(), &googlegrpc.StreamDesc{ServerStreams: true}, adaptertest.Server)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(stream.SendMsg(&echov1.CallRequest{Text: text, Number: 2}), stream.CloseSend()); err != nil {
			t.Fatal(err)
		}
		var late error
		n := 0
		for ; late == nil; n++ {
			late = stream.RecvMsg(&echov1.CallRequest{})
		}
		if n != 3 {
			t.Errorf("want two messages before the error, found %d", n-1)
		}
		for _, err := range []error{unary, late} {
			st := status.Convert(err)
			if st.Code() != code || st.Message() != "wörds: 100%\n" || len(st.Details()) != 1 {
				t.Errorf("want %v, found %v", code, err)
				continue
			}
			if info, ok := st.Details()[0].(*errdetails.ErrorInfo); !ok || info.GetReason() != "ASKED" {
				t.Errorf("details: %v", st.Details())
			}
		}
	}
	err := cc.Invoke(t.Context(), "/no.Such/Method", &echov1.CallRequest{}, &echov1.CallRequest{})
	if st := status.Convert(err); st.Code() != codes.Unimplemented || len(st.Details()) != 1 {
		t.Errorf("want UNIMPLEMENTED with an ErrorInfo, found %v %v", err, st.Details())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := cc.Invoke(ctx, adaptertest.Unary, &echov1.CallRequest{Text: "wait"}, &echov1.CallRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("want DEADLINE_EXCEEDED, found %v", err)
	}
}

// A caller that leaves ends its call.
func TestServerCancelledByGRPCGo(t *testing.T) {
	g, address := serve(t)
	cc := client(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := cc.NewStream(ctx, &googlegrpc.StreamDesc{ServerStreams: true, ClientStreams: true}, adaptertest.Bidi)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stream.SendMsg(&echov1.CallRequest{}), stream.RecvMsg(&echov1.CallRequest{})); err != nil {
		t.Fatal(err)
	}
	cancel()
	for deadline := time.Now().Add(10 * time.Second); len(g.Sent()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the call goes on without its caller")
		}
	}
	if sent := g.Sent()[0]; sent.Code != codes.Canceled || sent.Status != 499 {
		t.Errorf("sent %+v", sent)
	}
}

func TestServerWithConnectGo(t *testing.T) {
	_, address := serve(t)
	adaptertest.ConnectGo(t, address, false, connect.WithGRPC())
}

// What is no gRPC is refused on the wire as without a network.
func TestServerOverHTTP1(t *testing.T) {
	_, address := serve(t)
	res, err := adaptertest.HTTP1(t).Post("http://"+address+adaptertest.Unary, "application/grpc", strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); res.StatusCode != 505 || err != nil || !strings.HasPrefix(string(body), "gRPC is spoken over HTTP/2, found HTTP/1.1") {
		t.Errorf("found %d %q, %v", res.StatusCode, body, err)
	}
}
