package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
)

// failing asks the echo for an error with a detail.
func failing(t *testing.T) *echov1.FailRequest {
	t.Helper()
	detail, err := anypb.New(&errdetails.ErrorInfo{Reason: "SOLD_OUT", Domain: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	return &echov1.FailRequest{Code: int32(codes.FailedPrecondition), Message: "sold ☃ out", Details: []*anypb.Any{detail}}
}

// wantEcho holds an answer of the echo against the request of the tests below.
func wantEcho(t *testing.T, r *echov1.CallReply) {
	t.Helper()
	if r.GetText() != "hällo" || r.GetNumber() != 1<<60 || r.GetInstance() != "a" || r.GetMetadata()["x-shop"] != "7" || r.GetMetadata()["x-key-bin"] != "00ff" {
		t.Errorf("found %v", r)
	}
	if left := r.GetDeadline().AsDuration(); left <= time.Second || left > 14*time.Second {
		t.Errorf("want a deadline of 14 s (gateways have 15 s by default) less what has passed, found %v", left)
	}
}

var saidLines = []string{"message 0", "message 1", "message 2"}

// TestGRPCGo calls the whole gateway by grpc-go's generated clients.
func TestGRPCGo(t *testing.T) {
	t.Parallel()
	g := startClientsGateway(t, "", "")
	conn, err := grpc.NewClient(strings.TrimPrefix(g.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing is lost
	echo, chat := echov1.NewEchoClient(conn), chatv1.NewChatClient(conn)

	t.Run("unary", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "x-shop", "7", "x-key-bin", "\x00\xff"), 14*time.Second)
		defer cancel()
		var header, trailer metadata.MD
		r, err := echo.Call(ctx, &echov1.CallRequest{Text: "hällo", Number: 1 << 60}, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, r)
		if !slices.Equal(header["x-instance"], []string{"a"}) || !slices.Equal(header["x-raw-bin"], []string{"\x00\xff"}) || !slices.Equal(trailer["x-cost"], []string{"3"}) {
			t.Errorf("header %v, trailer %v", header, trailer)
		}
	})
	t.Run("error with details", func(t *testing.T) {
		_, err := echo.Fail(t.Context(), failing(t))
		s := status.Convert(err)
		if s.Code() != codes.FailedPrecondition || s.Message() != "sold ☃ out" || len(s.Details()) != 1 {
			t.Fatalf("found %v %v", err, s.Details())
		}
		if info, ok := s.Details()[0].(*errdetails.ErrorInfo); !ok || info.GetReason() != "SOLD_OUT" {
			t.Errorf("detail: %v", s.Details()[0])
		}
	})
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := echo.Wait(ctx, &echov1.WaitRequest{Time: durationpb.New(20 * time.Second)}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("found %v", err)
		}
		waitFor(t, "the service's call to end", func() bool { return g.echo.Waiting.Load() == 0 })
	})
	t.Run("server stream", func(t *testing.T) {
		s, err := chat.Listen(t.Context(), &chatv1.ListenRequest{Room: "head.3"})
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		m, err := s.Recv()
		for ; err == nil; m, err = s.Recv() {
			texts = append(texts, m.GetText())
		}
		header, headErr := s.Header()
		if !errors.Is(err, io.EOF) || !slices.Equal(texts, saidLines) || headErr != nil || !slices.Equal(header["x-head"], []string{"yes"}) || !slices.Equal(s.Trailer()["x-cost"], []string{"3"}) {
			t.Errorf("found %q, %v; header %v (%v), trailer %v", texts, err, header, headErr, s.Trailer())
		}
	})
	t.Run("server stream that fails", func(t *testing.T) {
		s, err := chat.Listen(t.Context(), &chatv1.ListenRequest{Room: "1.fail7"})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := s.Recv(); err != nil || m.GetText() != saidLines[0] {
			t.Errorf("found %v %v", m, err)
		}
		if _, err := s.Recv(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("found %v", err)
		}
	})
	t.Run("client stream", func(t *testing.T) {
		s, err := chat.Import(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := s.Send(&chatv1.Message{Room: "x", Text: "12345"}); err != nil {
				t.Fatal(err)
			}
		}
		if sum, err := s.CloseAndRecv(); err != nil || sum.GetMessages() != 5 || sum.GetBytes() != 25 {
			t.Errorf("found %v %v", sum, err)
		}
	})
	t.Run("both ways", func(t *testing.T) {
		s, err := chat.Talk(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range saidLines {
			if err := s.Send(&chatv1.Message{Room: "x", Text: text}); err != nil {
				t.Fatal(err)
			}
			if m, err := s.Recv(); err != nil || m.GetText() != text {
				t.Fatalf("found %v %v", m, err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("want the end, found %v", err)
		}
	})
}

// connectClient is a client of one method.
func connectClient[Req, Res any](c *http.Client, url, method string, opts []connect.ClientOption) *connect.Client[Req, Res] {
	return connect.NewClient[Req, Res](c, url+method, opts...)
}

// TestConnectGo calls the whole gateway by connect-go, in each of its protocols.
func TestConnectGo(t *testing.T) {
	t.Parallel()
	g := startClientsGateway(t, "", "")
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &h2c}
	t.Cleanup(tr.CloseIdleConnections)
	two := &http.Client{Transport: tr}
	for _, c := range []struct {
		name   string
		client *http.Client
		duplex bool
		opts   []connect.ClientOption
	}{
		{"Connect", two, true, nil},
		{"Connect in JSON and gzip", two, true, []connect.ClientOption{connect.WithProtoJSON(), connect.WithSendGzip()}},
		{"Connect over HTTP 1", g.client, false, nil},
		{"gRPC", two, true, []connect.ClientOption{connect.WithGRPC()}},
		{"gRPC-Web", two, true, []connect.ClientOption{connect.WithGRPCWeb()}},
		{"gRPC-Web over HTTP 1", g.client, false, []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		t.Run(c.name, func(t *testing.T) { connectCalls(t, g, c.client, c.duplex, c.opts) })
	}
}

func connectCalls(t *testing.T, g *clientsGateway, c *http.Client, duplex bool, opts []connect.ClientOption) {
	t.Helper()
	t.Run("unary", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 14*time.Second)
		defer cancel()
		req := connect.NewRequest(&echov1.CallRequest{Text: "hällo", Number: 1 << 60})
		req.Header().Set("x-shop", "7")
		req.Header().Set("x-key-bin", connect.EncodeBinaryHeader([]byte{0, 255}))
		r, err := connectClient[echov1.CallRequest, echov1.CallReply](c, g.url, echov1.Echo_Call_FullMethodName, opts).CallUnary(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, r.Msg)
		if r.Header().Get("x-instance") != "a" || r.Header().Get("x-raw-bin") != "AP8" || r.Trailer().Get("x-cost") != "3" {
			t.Errorf("header %v, trailer %v", r.Header(), r.Trailer())
		}
	})
	t.Run("error with details", func(t *testing.T) {
		_, err := connectClient[echov1.FailRequest, echov1.CallReply](c, g.url, echov1.Echo_Fail_FullMethodName, opts).CallUnary(t.Context(), connect.NewRequest(failing(t)))
		e := new(connect.Error)
		if !errors.As(err, &e) || e.Code() != connect.CodeFailedPrecondition || e.Message() != "sold ☃ out" || len(e.Details()) != 1 {
			t.Fatalf("found %v", err)
		}
		v, err := e.Details()[0].Value()
		if info, ok := v.(*errdetails.ErrorInfo); err != nil || !ok || info.GetReason() != "SOLD_OUT" {
			t.Errorf("detail: %v %v", v, err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := connectClient[echov1.WaitRequest, echov1.CallReply](c, g.url, echov1.Echo_Wait_FullMethodName, opts).CallUnary(ctx, connect.NewRequest(&echov1.WaitRequest{Time: durationpb.New(20 * time.Second)}))
		if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			t.Errorf("found %v", err)
		}
	})
	t.Run("server stream", func(t *testing.T) {
		for room, want := range map[string]connect.Code{"head.3": 0, "3.fail7": connect.CodePermissionDenied} {
			s, err := connectClient[chatv1.ListenRequest, chatv1.Message](c, g.url, chatv1.Chat_Listen_FullMethodName, opts).CallServerStream(t.Context(), connect.NewRequest(&chatv1.ListenRequest{Room: room}))
			if err != nil {
				t.Fatal(err)
			}
			var texts []string
			for s.Receive() {
				texts = append(texts, s.Msg().GetText())
			}
			if !slices.Equal(texts, saidLines) || (s.Err() == nil) != (want == 0) || want != 0 && connect.CodeOf(s.Err()) != want || want == 0 && s.ResponseTrailer().Get("x-cost") != "3" {
				t.Errorf("%s: %q, %v, trailer %v", room, texts, s.Err(), s.ResponseTrailer())
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("client stream", func(t *testing.T) {
		s := connectClient[chatv1.Message, chatv1.Summary](c, g.url, chatv1.Chat_Import_FullMethodName, opts).CallClientStream(t.Context())
		for range 5 {
			if err := s.Send(&chatv1.Message{Room: "x", Text: "12345"}); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := s.CloseAndReceive(); err != nil || r.Msg.GetMessages() != 5 || r.Msg.GetBytes() != 25 {
			t.Errorf("found %v %v", r, err)
		}
	})
	if !duplex {
		return // the client has no such streams over HTTP/1.1
	}
	t.Run("both ways", func(t *testing.T) {
		s := connectClient[chatv1.Message, chatv1.Message](c, g.url, chatv1.Chat_Talk_FullMethodName, opts).CallBidiStream(t.Context())
		for _, text := range saidLines {
			if err := s.Send(&chatv1.Message{Room: "x", Text: text}); err != nil {
				t.Fatal(err)
			}
			if m, err := s.Receive(); err != nil || m.GetText() != text {
				t.Fatalf("found %v %v", m, err)
			}
		}
		if err := s.CloseRequest(); err != nil {
			t.Error(err)
		}
		if _, err := s.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("want the end, found %v", err)
		}
		if err := s.CloseResponse(); err != nil {
			t.Error(err)
		}
	})
}
