package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/rpcadapters/trpc"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
)

// inletsConfig is a configuration with the services echo and chat, more of it behind.
func inletsConfig(t testing.TB, echoAddress, chatAddress, more string) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir+"/echo.binpb", descriptors.Encode(t, echov1.File_demo_echo_v1_echo_proto))
	writeFile(t, dir+"/chat.binpb", descriptors.Encode(t, chatv1.File_demo_chat_v1_chat_proto))
	return fmt.Sprintf(`listen:
  - {address: "127.0.0.1:0"}
  - {address: "127.0.0.1:0", protocol: tars, options: {servants: [{name: Demo.Echo.EchoObj, service: demo.echo.v1.Echo}]}}
  - {address: "127.0.0.1:0", protocol: trpc}
schemas:
  - {name: echo, descriptor_set: %s/echo.binpb}
  - {name: chat, descriptor_set: %s/chat.binpb}
`, dir, dir) + services(echoAddress, chatAddress, "") + more
}

// services is the list of services, with more of them.
func services(echoAddress, chatAddress, more string) string {
	return fmt.Sprintf(`services:
  - {name: echo, schema: echo, endpoints: [{address: %q}]}
  - {name: chat, schema: chat, endpoints: [{address: %q}]}
%s`, echoAddress, chatAddress, more)
}

// head is what a caller says beside its request.
type head map[string]string

// reply is what became of a call.
type reply struct {
	code   codes.Code
	status int // of HTTP; 0 for gRPC, WebSocket, TARS and tRPC
	reason string
	header http.Header
}

func (r reply) String() string { return fmt.Sprintf("%s %d %s", r.code, r.status, r.reason) }

// inlet is one way to call: Call of echo, or Listen of chat over WebSocket.
type inlet struct {
	name   string
	method string // of the request by HTTP; "" where it is none
	path   string
	ask    func(ctx context.Context, t testing.TB, g *gatewayTest, h head) reply
	shows  map[codes.Code]codes.Code // codes that the protocol has not, and what its callers see instead
}

// shown is what callers see of a code.
func (in inlet) shown(c codes.Code) codes.Code {
	if other, ok := in.shows[c]; ok {
		return other
	}
	return c
}

// http tells whether calls come by HTTP.
func (in inlet) http() bool { return in.method != "" }

const echoCall = "/demo.echo.v1.Echo/Call"

// inlets are all protocols that calls come by.
var inlets = []inlet{
	{"REST", "GET", "/v1/echo/x", askREST, nil},
	{"gRPC", "POST", echoCall, askGRPC, nil},
	{"gRPC-Web", "POST", echoCall, askGRPCWeb, nil},
	{"Connect", "POST", echoCall, askConnect, nil},
	{"WebSocket", "GET", "/v1/rooms/1/messages", askWebSocket, nil},
	{"TARS", "", echoCall, askOver(tars.Adapter{}, 1), map[codes.Code]codes.Code{codes.ResourceExhausted: codes.Unavailable, codes.DataLoss: codes.Internal}},
	{"tRPC", "", echoCall, askOver(trpc.Adapter{}, 2), map[codes.Code]codes.Code{codes.PermissionDenied: codes.Unauthenticated, codes.FailedPrecondition: codes.InvalidArgument, codes.DataLoss: codes.Internal}},
}

// askOver asks by a protocol that has a listener of its own, the gateway's at.
func askOver(a rpcadapters.Adapter, at int) func(context.Context, testing.TB, *gatewayTest, head) reply {
	return func(ctx context.Context, t testing.TB, g *gatewayTest, h head) reply {
		t.Helper()
		c := dialOver(t, a, g.gateway.Addresses()[at], echoSchema(t), "Demo.Echo.EchoObj")
		defer c.close(t)
		var md rpc.Metadata
		for k, v := range h {
			if k != "host" { // there is no such thing
				md.Add(k, v)
			}
		}
		got := c.unary(ctx, t, echoCall, md, &echov1.CallRequest{Text: "x"}, &echov1.CallReply{})
		out := reply{header: http.Header{}}
		for _, p := range got.header {
			out.header.Add(p.Key, p.Value)
		}
		if e := got.err; e != nil {
			if out.code = e.Code; e.Class == rpc.Business { // which has the number of whoever said so
				out.code = codes.Code(uint32(e.Native)) //nolint:gosec // as it was sent
			}
			out.reason = e.Message
		}
		return out
	}
}

// request sends a request by HTTP. The code of the answer is for the caller to find.
func request(ctx context.Context, t testing.TB, g *gatewayTest, method, path, contentType string, body []byte, h head) (reply, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, g.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range h {
		if k == "host" {
			r.Host = v
			continue
		}
		r.Header.Set(k, v)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := staying(g).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{status: resp.StatusCode, header: resp.Header}, raw
}

// staying is a client that follows no redirect.
func staying(g *gatewayTest) *http.Client {
	client := *g.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

func askREST(ctx context.Context, t testing.TB, g *gatewayTest, h head) reply {
	t.Helper()
	out, raw := request(ctx, t, g, "GET", "/v1/echo/x", "", nil, h)
	if out.status != http.StatusOK {
		out.refused(raw)
	}
	return out
}

// refused reads the code and the reason of an error's body; one without is Unknown.
func (r *reply) refused(raw []byte) {
	var e struct {
		Code    codes.Code
		Details []struct{ Reason string }
	}
	r.code = codes.Unknown
	if json.Unmarshal(raw, &e) == nil && e.Code != 0 {
		r.code = e.Code
		for _, d := range e.Details {
			r.reason += d.Reason
		}
	}
}

func askGRPC(ctx context.Context, t testing.TB, g *gatewayTest, h head) reply {
	t.Helper()
	u, err := url.Parse(g.url)
	if err != nil {
		t.Fatal(err)
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	md := metadata.MD{}
	for k, v := range h {
		switch k {
		case "user-agent":
			options = append(options, grpc.WithUserAgent(v))
		case "host":
			options = append(options, grpc.WithAuthority(v))
		default:
			md.Set(k, v)
		}
	}
	conn, err := grpc.NewClient(u.Host, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the call has ended
	var header metadata.MD
	_, err = echov1.NewEchoClient(conn).Call(metadata.NewOutgoingContext(ctx, md), &echov1.CallRequest{Text: "x"}, grpc.Header(&header))
	out := reply{code: status.Code(err), header: http.Header{}}
	for k, v := range header {
		out.header[http.CanonicalHeaderKey(k)] = v
	}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(interface{ GetReason() string }); ok {
			out.reason += info.GetReason()
		}
	}
	return out
}

func askGRPCWeb(ctx context.Context, t testing.TB, g *gatewayTest, h head) reply {
	t.Helper()
	out, raw := request(ctx, t, g, "POST", echoCall, "application/grpc-web+proto", []byte("\x00\x00\x00\x00\x03\x0a\x01x"), h)
	out.code = codes.Unknown
	text := out.header.Get("Grpc-Status")
	for len(raw) >= 5 {
		size := binary.BigEndian.Uint32(raw[1:5])
		if raw[0]&0x80 != 0 {
			for line := range strings.SplitSeq(string(raw[5:]), "\r\n") {
				if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, "grpc-status") {
					text = strings.TrimSpace(v)
				}
			}
		}
		raw = raw[min(len(raw), 5+int(size)):]
	}
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		out.code = codes.Code(n)
	}
	return out
}

func askConnect(ctx context.Context, t testing.TB, g *gatewayTest, h head) reply {
	t.Helper()
	withVersion := head{"connect-protocol-version": "1"}
	maps.Copy(withVersion, h)
	out, raw := request(ctx, t, g, "POST", echoCall, "application/proto", []byte("\x0a\x01x"), withVersion)
	if out.status == http.StatusOK {
		return out
	}
	var e struct{ Code string }
	out.code = codes.Unknown
	if json.Unmarshal(raw, &e) == nil {
		if e.Code == "canceled" {
			e.Code = "cancelled"
		}
		_ = out.code.UnmarshalJSON([]byte(strconv.Quote(strings.ToUpper(e.Code)))) // else Unknown
	}
	return out
}

func askWebSocket(ctx context.Context, t testing.TB, g *gatewayTest, h head) reply {
	t.Helper()
	o := &websocket.DialOptions{HTTPHeader: http.Header{}, HTTPClient: staying(g)}
	for k, v := range h {
		if k == "host" {
			o.Host = v
			continue
		}
		o.HTTPHeader.Set(k, v)
	}
	c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(g.url, "http")+"/v1/rooms/1/messages", o) //nolint:bodyclose // the library closes it
	if err != nil {
		if resp == nil {
			t.Fatal(err)
		}
		out := reply{status: resp.StatusCode, header: resp.Header}
		raw, _ := io.ReadAll(resp.Body) // the library keeps its beginning
		out.refused(raw)
		return out
	}
	defer func() { _ = c.CloseNow() }() // it has ended
	end := socketEnd{}
	end.read(t, c)
	out := reply{code: codes.Unknown, header: resp.Header, reason: end.Reason}
	switch {
	case end.Code == int(websocket.StatusNormalClosure):
		out.code = codes.OK
	case end.Code > 4000 && end.Code <= 4016:
		out.code = codes.Code(end.Code - 4000)
	}
	return out
}
