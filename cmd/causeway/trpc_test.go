package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/echo"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// startTRPC is a gateway with a service over tRPC (kit) and one over gRPC (echo), and the listeners of both.
func startTRPC(t testing.TB, options string) (g *gatewayTest, kit *trpckit.Server, kitSchema *schema.Schema, trpcAddress string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kit = &trpckit.Server{}
	done := make(chan struct{})
	go func() { defer close(done); kit.Serve(l) }()
	t.Cleanup(func() { l.Close(); <-done })
	backend := echo.Start(t, "127.0.0.1:0", "a")
	dir := t.TempDir()
	text, err := os.ReadFile("../../testdata/trpc/kit.proto")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/kit.proto", text)
	writeFile(t, dir+"/echo.binpb", descriptors.Encode(t, echov1.File_demo_echo_v1_echo_proto))
	g = startGateway(t, fmt.Sprintf(`listen: [{address: "127.0.0.1:0"}, {address: "127.0.0.1:0", protocol: trpc}]
admin: {address: "127.0.0.1:0"}
schemas:
  - {name: kit, proto: {paths: [%s/kit.proto]}}
  - {name: echo, descriptor_set: %s/echo.binpb}
services:
  - {name: kit, schema: kit, adapter: trpc, endpoints: [{address: %q}], options: {callee: trpc.kit.echo.Echo, caller: trpc.causeway.test, %s}}
  - {name: echo, schema: echo, endpoints: [{address: %q}]}
routes:
  - {name: say, service: kit, http: {method: trpc.kit.echo.Echo/Echo, post: "/v1/say/{msg}", body: "nested"}, response_headers: [app-resp]}
  - {name: fail, service: kit, http: {method: trpc.kit.echo.Echo/Fail, post: "/v1/fail", body: "*"}}
  - {name: meta, service: kit, http: {method: trpc.kit.echo.Echo/Meta, get: "/v1/meta"}, request_headers: [app-key], response_headers: [app-resp]}
  - {name: slow, service: kit, http: {method: trpc.kit.echo.Echo/Slow, get: "/v1/slow"}, timeout: 0.05s}
  - {name: count, service: kit, http: {method: trpc.kit.echo.Stream/Count, get: "/v1/count/{n}"}}
`, dir, dir, l.Addr().String(), options, backend.Address))
	set, err := source.Proto(t.Context(), []string{dir + "/kit.proto"}, nil, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if kitSchema, err = set.Schema(); err != nil {
		t.Fatal(err)
	}
	return g, kit, kitSchema, g.gateway.Addresses()[1]
}

// dynamic makes a message of its JSON.
func dynamic(t testing.TB, m *schema.Message, json string) *dynamicpb.Message {
	t.Helper()
	d := dynamicpb.NewMessage(m.Desc)
	if json == "" {
		return d
	}
	if err := protojson.Unmarshal([]byte(json), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func textOf(m protoreflect.Message, name protoreflect.Name) string {
	return m.Get(m.Descriptor().Fields().ByName(name)).String()
}

// TestTRPCBackend: clients of the other protocols reach a tRPC backend: values, metadata, errors, deadlines and streams.
func TestTRPCBackend(t *testing.T) {
	t.Parallel()
	g, kit, s, _ := startTRPC(t, "errors: [{from: 404, code: NOT_FOUND}]")

	a := g.call("POST", "/v1/say/hello", `{"msg":"in"}`)
	if a.status != 200 || a.text(t, "msg") != "hello" || a.text(t, "nested", "msg") != "in" {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = g.call("POST", "/v1/fail", `{"code":10001,"message":"no gold"}`)
	if a.status != 500 || a.text(t, "message") != "no gold" || a.header.Get("Trpc-Func-Ret") != "10001" || !strings.Contains(a.body, `"domain":"trpc"`) {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	if a = g.call("POST", "/v1/fail", `{"code":404,"message":"no such thing"}`); a.status != 404 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a = g.call("POST", "/v1/fail", `{"code":23,"message":"slow down","framework":true}`); a.status != 429 {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = g.call("GET", "/v1/meta", "", "app-key", "v1", "trpc-env", "forged", "X-Request-Timeout", "5")
	if a.status != 200 || a.header.Get("App-Resp") != "pong" || a.text(t, "caller") != "trpc.causeway.test" || a.text(t, "callee") != "trpc.kit.echo.Echo" ||
		a.text(t, "transInfo", "app-key") != "djE=" || strings.Contains(a.body, "trpc-env") || a.header.Get("Grpc-Metadata-App-Key") != "" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	if a = g.call("GET", "/v1/slow?ms=400", ""); a.status != 504 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a = g.call("GET", "/v1/count/3", ""); a.status != 200 || strings.Count(a.body, `"text":"item-`) != 3 {
		t.Errorf("%d %s", a.status, a.body)
	}

	conn, err := grpc.NewClient(strings.TrimPrefix(g.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, _ := s.Message("trpc.kit.echo.EchoRequest")
	reply, _ := s.Message("trpc.kit.echo.EchoReply")
	out := dynamicpb.NewMessage(reply.Desc)
	if err := conn.Invoke(ctx, "/trpc.kit.echo.Echo/Echo", dynamic(t, request, `{"msg":"hello","big":"9007199254740993","tags":["a"]}`), out); err != nil || textOf(out, "msg") != "hello" || textOf(out, "big") != "9007199254740993" {
		t.Errorf("%v %v", out, err)
	}
	fail, _ := s.Message("trpc.kit.echo.FailRequest")
	empty, _ := s.Message("trpc.kit.echo.Empty")
	var header, trailer metadata.MD
	err = conn.Invoke(ctx, "/trpc.kit.echo.Echo/Fail", dynamic(t, fail, `{"code":11,"message":"no gold"}`), dynamic(t, empty, ""), grpc.Header(&header), grpc.Trailer(&trailer))
	st := status.Convert(err)
	if st.Code() != codes.Unknown || st.Message() != "no gold" || len(st.Details()) != 1 || len(header["trpc-func-ret"])+len(trailer["trpc-func-ret"]) != 1 {
		t.Errorf("%v %v %v", err, header, trailer)
	} else if info, ok := st.Details()[0].(*errdetails.ErrorInfo); !ok || info.GetDomain() != "trpc" || info.GetReason() != "BUSINESS" || info.GetMetadata()["code"] != "11" {
		t.Errorf("%v", st.Details())
	}

	item, _ := s.Message("trpc.kit.echo.Item")
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/trpc.kit.echo.Stream/Chat")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := stream.SendMsg(dynamic(t, item, fmt.Sprintf(`{"index":%d,"text":"abc"}`, i))); err != nil {
			t.Fatal(err)
		}
		in := dynamicpb.NewMessage(item.Desc)
		if err := stream.RecvMsg(in); err != nil || textOf(in, "text") != "ABC" || textOf(in, "index") != strconv.Itoa(i) {
			t.Fatalf("%v %v", in, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(dynamicpb.NewMessage(item.Desc)); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	ctx, cancel = context.WithCancel(ctx)
	if _, err = conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/trpc.kit.echo.Stream/Chat"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the stream is open", func() bool { return len(kit.Opened()) == 3 })
	cancel()
	waitFor(t, "the stream is reset", func() bool { return len(kit.Resets()) == 1 })

	res := g.call("POST", "/trpc.kit.echo.Echo/Echo", `{"msg":"by http"}`, "Content-Type", "application/json", "trpc-callee", "trpc.kit.echo.Echo", "trpc-caller", "x")
	if res.status != 200 || res.header.Get("Trpc-Ret") != "0" || !strings.HasPrefix(res.body, `{"msg":"by http",`) {
		t.Errorf("%d %v %s", res.status, res.header, res.body)
	}
}

// TestTRPCListener: clients of tRPC reach tRPC and gRPC backends, with plugins in front.
func TestTRPCListener(t *testing.T) {
	t.Parallel()
	g, kit, _, address := startTRPC(t, "")
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	ask := func(f *trpckit.Frame) *trpckit.Frame {
		t.Helper()
		if _, err := nc.Write(f.Bytes()); err != nil {
			t.Fatal(err)
		}
		for {
			back, err := trpckit.Read(nc, false)
			if err != nil {
				t.Fatal(err)
			}
			if back.Kind != trpckit.Feedback {
				return back
			}
		}
	}
	req := trpckit.Request(7, "/trpc.kit.echo.Echo/Attach", []byte("\n\x01x")).Set("trans_info", map[string]string{"app-key": "v", "trpc-env": "test", "trpc-dyeing-key": "d"})
	req.Attached = []byte("attached")
	req.Set("message_type", uint32(2)).Set("caller", "trpc.peer.test.Client").Set("callee", "trpc.kit.echo.Echo") // traced
	back := ask(req)
	if back.Uint("message_type") != 2 || string(back.Body) != "\n\x01x" || string(back.Attached) != "ATTACHED" || back.Uint("request_id") != 7 {
		t.Errorf("%v %q %q", back.Header, back.Body, back.Attached)
	}
	if seen := kit.Requests()[0]; seen.Uint("message_type") != 7 || seen.Info("trans_info")["trpc-env"] != "test" || seen.Info("trans_info")["app-key"] != "v" {
		t.Errorf("%v", seen.Header)
	}
	if back = ask(trpckit.Request(8, "/trpc.kit.echo.Echo/Fail", []byte("\x08\x91\x4e\x12\x01m"))); back.Int("func_ret") != 10001 || back.Int("ret") != 0 || back.Text("error_msg") != "m" {
		t.Errorf("%v", back.Header)
	}
	if back = ask(trpckit.Request(8, "/trpc.kit.echo.Echo/Fail", []byte("\x08\x17\x12\x01m\x18\x01"))); back.Int("ret") != 23 || back.Int("func_ret") != 0 {
		t.Errorf("%v", back.Header)
	}
	if back = ask(trpckit.Request(9, "/no.Such/Method", nil)); back.Int("ret") != 12 {
		t.Errorf("%v", back.Header)
	}

	raw, err := proto.Marshal(&echov1.CallRequest{Text: "hello", Number: 5})
	if err != nil {
		t.Fatal(err)
	}
	back = ask(trpckit.Request(10, "/demo.echo.v1.Echo/Call", raw).Set("trans_info", map[string]string{"app-key": "v"}))
	var out echov1.CallReply
	if err := proto.Unmarshal(back.Body, &out); err != nil || out.GetText() != "hello" || out.GetNumber() != 5 {
		t.Errorf("%v %v %v", back.Header, &out, err)
	}
	back = ask(trpckit.Request(11, "/demo.echo.v1.Echo/Call", []byte(`{"text":"json"}`)).Set("content_type", uint32(2)))
	if !strings.Contains(string(back.Body), `"text":"json"`) || back.Uint("content_type") != 2 {
		t.Errorf("%v %s", back.Header, back.Body)
	}
	raw, err = proto.Marshal(&echov1.FailRequest{Code: int32(codes.NotFound), Message: "gone"})
	if err != nil {
		t.Fatal(err)
	}
	if back = ask(trpckit.Request(12, "/demo.echo.v1.Echo/Fail", raw)); back.Int("func_ret") != int32(codes.NotFound) || back.Text("error_msg") != "gone" {
		t.Errorf("%v", back.Header)
	}

	if back = ask(trpckit.Open(100, "/trpc.kit.echo.Stream/Chat", 65535)); back.Kind != trpckit.Init || back.Int("response_meta.ret") != 0 {
		t.Errorf("%v", back.Header)
	}
	if back = ask(trpckit.Message(100, []byte("\x12\x03abc"))); string(back.Body) != "\x12\x03ABC" {
		t.Errorf("%q", back.Body)
	}
	if back = ask(trpckit.End(100, 0, 0, "")); back.Kind != trpckit.Close || back.Int("close_type") != 0 {
		t.Errorf("%v", back.Header)
	}
	ask(trpckit.Open(101, "/trpc.kit.echo.Stream/Chat", 65535))
	waitFor(t, "the stream is open", func() bool { return len(kit.Opened()) == 2 })
	nc.Close()
	waitFor(t, "the stream is reset", func() bool { return len(kit.Resets()) == 1 })
	_ = g
}

// TestTRPCReadme runs the configurations of the adapter's README, and asks what it asks.
func TestTRPCReadme(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	kit := &trpckit.Server{}
	go func() { defer close(done); kit.Serve(l) }()
	t.Cleanup(func() { l.Close(); <-done })
	text, err := os.ReadFile("../../rpcadapters/trpc/README.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "```")
	if len(parts) < 5 {
		t.Fatal("the README has fewer than two configurations")
	}
	conf := strings.TrimPrefix(parts[1], "yaml\n")
	_, routes, _ := strings.Cut(conf, "schemas:")
	conf = strings.TrimPrefix(parts[3], "yaml\n") + "admin: {address: \"127.0.0.1:0\"}\nschemas:" + routes // with both listeners
	proto, err := os.ReadFile("../../testdata/trpc/kit.proto")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, dir+"/kit.proto", proto)
	conf = strings.NewReplacer(`"127.0.0.1:8000"`, strconv.Quote(l.Addr().String()), `":8080"`, `"127.0.0.1:0"`, `":8000"`, `"127.0.0.1:0"`, "kit.proto", dir+"/kit.proto").Replace(conf)
	g := startGateway(t, conf)
	if a := g.call("POST", "/v1/say", `{"msg":"hello"}`); a.body != `{"msg":"hello"}` {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := g.call("POST", "/v1/fail", `{"code":10001,"message":"no gold"}`); a.status != 409 || !strings.HasPrefix(a.body, `{"code":9,"message":"no gold",`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	nc, err := net.Dial("tcp", g.gateway.Addresses()[1])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(trpckit.Request(7, "/trpc.kit.echo.Echo/Echo", []byte("\n\x01x")).Bytes()); err != nil {
		t.Fatal(err)
	}
	if f, err := trpckit.Read(nc, false); err != nil || string(f.Body) != "\n\x01x" {
		t.Errorf("%v", err)
	}
}
