package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
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
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/rpcadapters/trpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// kindsAsked is a call for a caller to make: all requests, and then all answers.
type kindsAsked struct {
	schema  *schema.Schema
	method  *schema.Method
	header  rpc.Metadata
	in      []*adaptertest.Message
	timeout time.Duration // 0: none
	oneWay  bool          // for no answer, where the protocol has such calls
}

// kindsGot is what came back.
type kindsGot struct {
	out    []*adaptertest.Message
	header rpc.Metadata // with the trailers
	failed bool
	code   codes.Code
	native int32 // over TARS and tRPC, the number of the error
	status int   // over REST
	text   string
	info   *errdetails.ErrorInfo
}

// fail notes an error.
func (g *kindsGot) fail(code codes.Code, text string, details ...[]byte) {
	g.failed, g.code, g.text = true, code, text
	for _, raw := range details {
		var detail anypb.Any
		var info errdetails.ErrorInfo
		if proto.Unmarshal(raw, &detail) == nil && detail.UnmarshalTo(&info) == nil {
			g.info = &info
		}
	}
}

// addHTTP adds headers of an answer.
func (g *kindsGot) addHTTP(h http.Header, prefixes ...string) {
	for k, values := range h {
		key := strings.ToLower(k)
		for _, p := range prefixes {
			key = strings.TrimPrefix(key, p)
		}
		for _, v := range values {
			if strings.HasSuffix(key, "-bin") {
				raw, _ := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
				v = string(raw)
			}
			g.header.Add(key, v)
		}
	}
}

// kindsCaller calls a gateway by one protocol.
type kindsCaller struct {
	name string
	call func(ctx context.Context, t testing.TB, g *gatewayTest, a kindsAsked) kindsGot
}

// kindsCallers are all protocols that calls come by: clients of others where they can be had, else the product's own.
var kindsCallers = []kindsCaller{
	{"REST", callREST},
	{"gRPC", callGRPC},
	{"gRPC-Web", callConnect(connect.WithGRPCWeb())},
	{"Connect", callConnect()},
	{"TARS", callOver(tars.Adapter{}, 1)},
	{"tRPC", callOver(trpc.Adapter{}, 2)},
}

func callREST(ctx context.Context, t testing.TB, g *gatewayTest, a kindsAsked) (got kindsGot) {
	t.Helper()
	var body bytes.Buffer
	for _, m := range a.in {
		raw, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		body.Write(append(raw, '\n'))
	}
	r, err := http.NewRequestWithContext(ctx, "POST", g.url+"/v1/kinds/"+strings.ToLower(string(a.method.Desc.Name())), &body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if a.method.Desc.IsStreamingClient() {
		r.Header.Set("Content-Type", "application/x-ndjson")
	}
	if a.method.Desc.IsStreamingServer() {
		r.Header.Set("Accept", "application/x-ndjson")
	}
	for _, p := range a.header {
		v := p.Value
		if strings.HasSuffix(p.Key, "-bin") {
			v = base64.StdEncoding.EncodeToString([]byte(v))
		}
		r.Header.Add(p.Key, v)
		r.Header.Add("Grpc-Metadata-"+p.Key, v)
	}
	if a.timeout > 0 {
		r.Header.Set("X-Request-Timeout", strconv.FormatFloat(a.timeout.Seconds(), 'f', 3, 64))
	}
	resp, err := g.client.Do(r)
	if err != nil {
		got.fail(codes.Canceled, err.Error())
		return got
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		got.fail(codes.Canceled, err.Error())
		return got
	}
	got.status = resp.StatusCode
	got.addHTTP(resp.Header, "grpc-metadata-", "grpc-trailer-")
	got.addHTTP(resp.Trailer, "grpc-metadata-", "grpc-trailer-")
	if resp.StatusCode != http.StatusOK {
		got.failREST(t, raw)
		return got
	}
	for line := range bytes.Lines(raw) {
		if rest, ok := bytes.CutPrefix(line, []byte(`{"@error":`)); ok {
			got.failREST(t, bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("}")))
			return got
		}
		m := &adaptertest.Message{}
		if err := protojson.Unmarshal(line, m); err != nil {
			t.Fatalf("%v: %.200q", err, line)
		}
		got.out = append(got.out, m)
	}
	return got
}

func (g *kindsGot) failREST(t testing.TB, raw []byte) {
	t.Helper()
	var e struct {
		Code    codes.Code
		Message string
		Details []struct {
			Reason, Domain string
			Metadata       map[string]string
		}
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatalf("%v: %.200q", err, raw)
	}
	g.fail(e.Code, e.Message)
	for _, d := range e.Details {
		g.info = &errdetails.ErrorInfo{Reason: d.Reason, Domain: d.Domain, Metadata: d.Metadata}
	}
}

func callGRPC(ctx context.Context, t testing.TB, g *gatewayTest, a kindsAsked) (got kindsGot) {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(g.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if a.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.timeout)
		defer cancel()
	}
	for _, p := range a.header {
		ctx = metadata.AppendToOutgoingContext(ctx, p.Key, p.Value)
	}
	end := func(err error) kindsGot {
		st := status.Convert(err)
		var details [][]byte
		for _, d := range st.Proto().GetDetails() {
			raw, err := proto.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			details = append(details, raw)
		}
		got.fail(st.Code(), st.Message(), details...)
		return got
	}
	desc := a.method.Desc
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: desc.IsStreamingClient(), ServerStreams: desc.IsStreamingServer()}, a.method.Name)
	if err != nil {
		return end(err)
	}
	for _, m := range a.in {
		if err := stream.SendMsg(m); err != nil && !errors.Is(err, io.EOF) {
			return end(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return end(err)
	}
	note := func() {
		header, _ := stream.Header() // the error is that of the call
		for _, md := range []metadata.MD{header, stream.Trailer()} {
			for k, values := range md {
				for _, v := range values {
					got.header.Add(k, v)
				}
			}
		}
	}
	for {
		m := &adaptertest.Message{}
		err := stream.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			note()
			return got
		}
		if err != nil {
			note()
			return end(err)
		}
		if got.out = append(got.out, m); !desc.IsStreamingServer() {
			note()
			return got
		}
	}
}

func callConnect(opts ...connect.ClientOption) func(context.Context, testing.TB, *gatewayTest, kindsAsked) kindsGot {
	return func(ctx context.Context, t testing.TB, g *gatewayTest, a kindsAsked) (got kindsGot) {
		t.Helper()
		h2 := &http.Transport{Protocols: new(http.Protocols)}
		h2.Protocols.SetUnencryptedHTTP2(true)
		defer h2.CloseIdleConnections()
		client := connect.NewClient[adaptertest.Message, adaptertest.Message](&http.Client{Transport: h2}, g.url+a.method.Name, opts...)
		if a.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.timeout)
			defer cancel()
		}
		say := func(h http.Header) {
			for _, p := range a.header {
				v := p.Value
				if strings.HasSuffix(p.Key, "-bin") {
					v = connect.EncodeBinaryHeader([]byte(v))
				}
				h.Add(p.Key, v)
			}
		}
		end := func(err error) kindsGot {
			var e *connect.Error
			if !errors.As(err, &e) {
				got.fail(codes.Unknown, err.Error())
				return got
			}
			var details [][]byte
			for _, d := range e.Details() {
				raw, err := proto.Marshal(&anypb.Any{TypeUrl: "type.googleapis.com/" + d.Type(), Value: d.Bytes()})
				if err != nil {
					t.Fatal(err)
				}
				details = append(details, raw)
			}
			got.addHTTP(e.Meta())
			got.fail(codes.Code(e.Code()), e.Message(), details...)
			return got
		}
		switch a.method.Kind {
		case schema.Unary:
			r := connect.NewRequest(a.in[0])
			say(r.Header())
			res, err := client.CallUnary(ctx, r)
			if err != nil {
				return end(err)
			}
			got.addHTTP(res.Header())
			got.addHTTP(res.Trailer())
			got.out = append(got.out, res.Msg)
		case schema.ServerStream:
			r := connect.NewRequest(a.in[0])
			say(r.Header())
			stream, err := client.CallServerStream(ctx, r)
			if err != nil {
				return end(err)
			}
			defer stream.Close()
			for stream.Receive() {
				got.out = append(got.out, stream.Msg())
			}
			if stream.Err() != nil {
				return end(stream.Err())
			}
			got.addHTTP(stream.ResponseHeader())
			got.addHTTP(stream.ResponseTrailer())
		case schema.ClientStream:
			stream := client.CallClientStream(ctx)
			say(stream.RequestHeader())
			for _, m := range a.in {
				if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
					return end(err)
				}
			}
			res, err := stream.CloseAndReceive()
			if err != nil {
				return end(err)
			}
			got.addHTTP(res.Header())
			got.addHTTP(res.Trailer())
			got.out = append(got.out, res.Msg)
		case schema.Bidi:
			stream := client.CallBidiStream(ctx)
			defer func() { _ = stream.CloseResponse() }() // it has been read
			say(stream.RequestHeader())
			for _, m := range a.in {
				if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
					return end(err)
				}
			}
			if err := stream.CloseRequest(); err != nil {
				return end(err)
			}
			for {
				m, err := stream.Receive()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return end(err)
				}
				got.out = append(got.out, m)
			}
			got.addHTTP(stream.ResponseHeader())
			got.addHTTP(stream.ResponseTrailer())
		}
		return got
	}
}

// callOver calls by a protocol that has a listener of its own, the gateway's at. Each call has a connection of its own, which is
// closed at the end.
func callOver(adapter rpcadapters.Adapter, at int) func(context.Context, testing.TB, *gatewayTest, kindsAsked) kindsGot {
	return func(ctx context.Context, t testing.TB, g *gatewayTest, a kindsAsked) (got kindsGot) {
		t.Helper()
		var oneWay []string
		if a.oneWay {
			oneWay = []string{a.method.Name}
		}
		c := dialOver(t, adapter, g.gateway.Addresses()[at], a.schema, kindsServant, oneWay...)
		defer c.close(t)
		if a.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.timeout)
			defer cancel()
		}
		note := func(r overReply) kindsGot {
			got.header = append(append(got.header, r.header...), r.trailer...)
			if r.err != nil {
				got.fail(r.err.Code, r.err.Message, r.err.Details...)
				got.native = r.err.Native
			}
			return got
		}
		if a.method.Kind == schema.Unary {
			out := &adaptertest.Message{}
			r := c.unary(ctx, t, a.method.Name, a.header, a.in[0], out)
			if r.err == nil && !a.oneWay {
				got.out = append(got.out, out)
			}
			return note(r)
		}
		out, r := c.stream(ctx, t, a.method.Name, a.header, a.in)
		got.out = out
		return note(r)
	}
}
