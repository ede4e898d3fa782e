package grpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
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

// h2c is a client of HTTP/2 without TLS.
func h2c(t *testing.T) *http.Client {
	t.Helper()
	tr := &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestServerWithConnectGo(t *testing.T) {
	_, address := serve(t)
	for name, opts := range map[string][]connect.ClientOption{
		"proto": nil, "json": {connect.WithProtoJSON()}, "gzip": {connect.WithSendGzip()}, "json gzip": {connect.WithProtoJSON(), connect.WithSendGzip()},
	} {
		t.Run(name, func(t *testing.T) {
			opts := append([]connect.ClientOption{connect.WithGRPC()}, opts...)
			of := func(method string) *connect.Client[echov1.CallRequest, echov1.CallRequest] {
				return connect.NewClient[echov1.CallRequest, echov1.CallRequest](h2c(t), "http://"+address+method, opts...)
			}
			text := strings.Repeat("hello ", 1000)
			req := connect.NewRequest(&echov1.CallRequest{Text: text, Data: []byte{0, 255}, Number: 3})
			req.Header().Set("x-echo", "a")
			res, err := of(adaptertest.Unary).CallUnary(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			if res.Msg.GetText() != text || !bytes.Equal(res.Msg.GetData(), []byte{0, 255}) || res.Header().Get("x-echo") != "a" || res.Trailer().Get("x-echo-trailer") != "a" {
				t.Errorf("found %v %v", res.Header(), res.Trailer())
			}
			server, err := of(adaptertest.Server).CallServerStream(t.Context(), connect.NewRequest(&echov1.CallRequest{Text: text, Number: 3}))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for server.Receive() {
				n++
			}
			if server.Err() != nil || n != 3 || server.Close() != nil {
				t.Errorf("want 3 messages, found %d, %v", n, server.Err())
			}
			up := of(adaptertest.Client).CallClientStream(t.Context())
			for range 3 {
				if err := up.Send(&echov1.CallRequest{Text: "x"}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := up.CloseAndReceive()
			if err != nil || got.Msg.GetText() != "x x x" {
				t.Errorf("found %v, %v", got, err)
			}
			_, err = of(adaptertest.Unary).CallUnary(t.Context(), connect.NewRequest(&echov1.CallRequest{Text: "fail 7 no"}))
			if e := new(connect.Error); !errors.As(err, &e) || e.Code() != connect.CodePermissionDenied || e.Message() != "no" || len(e.Details()) != 1 {
				t.Errorf("found %v", err)
			}
		})
	}
}
