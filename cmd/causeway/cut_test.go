package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
)

// cutBackend is a server of HTTP/2 that answers every call in the same way, mostly a wrong one.
type cutBackend struct {
	address string
	answer  atomic.Pointer[cutAnswer]
	calls   atomic.Int64
}

// cutAnswer is how a call is answered: b makes the frames. Before they are all sent the connection is closed where cut says:
// from 0, before the first byte, to cuts-1, before the last one.
type cutAnswer struct {
	b   func(f *cutFrames)
	cut int
}

const (
	cuts  = 12
	uncut = -1
)

// cutFrames writes the frames of one answer.
type cutFrames struct {
	*http2.Framer
	id       uint32
	streamed bool // the method's answers are
}

func (f *cutFrames) head(end bool, fields ...string) {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true}) // not kept in the table
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.id, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: end})
}

func (f *cutFrames) data(end bool, b []byte) { _ = f.WriteData(f.id, end, b) }

// begin is the head and all messages of a right answer.
func (f *cutFrames) begin() {
	f.head(false, ":status", "200", "content-type", "application/grpc")
	f.data(false, cutMessage())
	if f.streamed {
		f.data(false, cutMessage())
	}
}

// cutMessage is a message of every type that the methods below answer with.
func cutMessage() []byte {
	m, err := proto.Marshal(&httpbody.HttpBody{ContentType: "text/plain", Data: []byte("hello")})
	if err != nil {
		return nil
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...) //nolint:gosec // small
}

func startCutBackend(t *testing.T) *cutBackend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	b := &cutBackend{address: ln.Addr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go b.serve(c)
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	return b
}

func (b *cutBackend) serve(c net.Conn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = f.WriteSettings() // a connection that is gone is found below
	streamed := map[uint32]bool{}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = f.WritePing(true, frame.Data)
			}
		case *http2.MetaHeadersFrame:
			path := frame.PseudoValue("path")
			streamed[frame.StreamID] = strings.Contains(path, "Chat")
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			ended = frame.StreamEnded()
		}
		if !ended {
			continue
		}
		b.calls.Add(1)
		a := b.answer.Load()
		var raw bytes.Buffer
		a.b(&cutFrames{http2.NewFramer(&raw, nil), frame.Header().StreamID, streamed[frame.Header().StreamID]})
		if a.cut == uncut {
			_, _ = c.Write(raw.Bytes())
			continue
		}
		_, _ = c.Write(raw.Bytes()[:a.cut*(raw.Len()-1)/(cuts-1)])
		return
	}
}

// cutCaller makes a call by one protocol, and says what its caller makes of the answer: the code of the status, and
// whether it looks whole.
type cutCaller struct {
	name string
	call func(t *testing.T, g *gatewayTest) (code codes.Code, whole bool)
}

var cutCode = regexp.MustCompile(`"code":(\d+)`)

// restCode reads the last status in an answer.
func restCode(a streamed) codes.Code {
	all := cutCode.FindAllStringSubmatch(a.body, -1)
	if len(all) == 0 {
		return codes.OK
	}
	n, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil {
		return codes.OK
	}
	return codes.Code(n) //nolint:gosec // one of few
}

func cutCallers(t *testing.T) (all []cutCaller) {
	t.Helper()
	for version, client := range versions(t) {
		rest := func(name, method, path, form string) {
			all = append(all, cutCaller{version + " " + name, func(t *testing.T, g *gatewayTest) (codes.Code, bool) {
				body := io.Reader(http.NoBody)
				if method == http.MethodPost {
					body = strings.NewReader("{}")
				}
				a := stream(t, client, method, g.url+path, body, "Accept", form, "Content-Type", "application/json")
				code := restCode(a)
				if a.status != 0 && a.status != http.StatusOK && a.status < rpcadapters.HTTPStatus(codes.InvalidArgument) {
					t.Errorf("found status %d", a.status)
				}
				if code == codes.OK && a.err != nil {
					code = codes.Code(cutOff)
				}
				return code, a.whole(form)
			}})
		}
		rest("REST", "POST", "/v1/echo", "")
		for _, form := range []string{"application/json", "application/x-ndjson", "text/event-stream"} {
			rest("REST "+form, "GET", "/v1/rooms/x/messages", form)
		}
		rest("REST content", "GET", "/v1/rooms/x/files/y", "")
		for name, opts := range map[string][]connect.ClientOption{"Connect": nil, "Connect in JSON": {connect.WithProtoJSON()}, "gRPC-Web": {connect.WithGRPCWeb()}, "gRPC": {connect.WithGRPC()}} {
			if name == "gRPC" && version == "HTTP/1.1" {
				continue
			}
			all = append(all, cutCaller{version + " " + name, func(t *testing.T, g *gatewayTest) (codes.Code, bool) {
				_, err := connectClient[echov1.CallRequest, echov1.CallReply](client, g.url, echov1.Echo_Call_FullMethodName, opts).CallUnary(t.Context(), connect.NewRequest(&echov1.CallRequest{}))
				return cutOf(err), err == nil
			}}, cutCaller{version + " " + name + " stream", func(t *testing.T, g *gatewayTest) (codes.Code, bool) {
				s, err := connectClient[chatv1.ListenRequest, chatv1.Message](client, g.url, chatv1.Chat_Listen_FullMethodName, opts).CallServerStream(t.Context(), connect.NewRequest(&chatv1.ListenRequest{Room: "x"}))
				if err != nil {
					return cutOf(err), false
				}
				for s.Receive() {
				}
				_ = s.Close() // its error is told
				return cutOf(s.Err()), s.Err() == nil
			}})
		}
	}
	return append(all, cutCaller{"WebSocket", func(t *testing.T, g *gatewayTest) (codes.Code, bool) {
		e := socketEnded(t, dialSocket(t, g, "/v1/rooms/x/messages"))
		return codes.Code(max(e.Code-4000, 0)), e.Code == 1000 //nolint:gosec // small
	}})
}

// cutOff is what a caller finds who is told of a failure by the end of the connection alone.
const cutOff = 1000

func cutOf(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return codes.Code(connect.CodeOf(err))
}

// Whatever a service answers that is no answer, or not all of one: the callers of every protocol are told by the code that
// the fault has, and none takes what came for the whole.
func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	b := startCutBackend(t)
	g := startGateway(t, cutConfig(t, b.address))
	callers := cutCallers(t)
	right := func(f *cutFrames) { f.begin(); f.head(true, "grpc-status", "0") }
	try := func(name string, a cutAnswer, want codes.Code) {
		t.Run(name, func(t *testing.T) {
			b.answer.Store(&a)
			for _, c := range callers {
				before := b.calls.Load()
				code, whole := c.call(t, g)
				cut := code == cutOff && strings.HasSuffix(c.name, "content")
				if code != want && !cut || whole != (want == codes.OK) {
					t.Errorf("%s: want %s, found %s, looks whole: %v", c.name, want, code, whole)
				}
				if b.calls.Load() == before {
					t.Errorf("%s: the call did not reach the service", c.name)
				}
			}
		})
	}
	try("right", cutAnswer{right, uncut}, codes.OK)
	for i := range cuts {
		try(fmt.Sprint("cut ", i), cutAnswer{right, i}, codes.Unavailable)
	}
	reset := func(code http2.ErrCode, began bool) func(f *cutFrames) {
		return func(f *cutFrames) {
			if began {
				f.begin()
			}
			_ = f.WriteRSTStream(f.id, code)
		}
	}
	page := func(status string) func(f *cutFrames) {
		return func(f *cutFrames) {
			f.head(false, ":status", status, "content-type", "text/html")
			f.data(true, []byte("<html>"))
		}
	}
	ends := func(fields ...string) func(f *cutFrames) {
		return func(f *cutFrames) { f.begin(); f.head(true, fields...) }
	}
	for _, tc := range []struct {
		name string
		b    func(f *cutFrames)
		want codes.Code
	}{
		{"reset at once", reset(http2.ErrCodeInternal, false), codes.Internal},
		{"reset in the middle", reset(http2.ErrCodeInternal, true), codes.Internal},
		{"reset with CANCEL", reset(http2.ErrCodeCancel, true), codes.Unavailable},
		{"reset with ENHANCE_YOUR_CALM", reset(http2.ErrCodeEnhanceYourCalm, true), codes.ResourceExhausted},
		{"HTTP 401", page("401"), codes.Unauthenticated},
		{"HTTP 403", page("403"), codes.PermissionDenied},
		{"HTTP 404", page("404"), codes.Unimplemented},
		{"HTTP 429", page("429"), codes.Unavailable},
		{"HTTP 500", page("500"), codes.Unknown},
		{"HTTP 503", page("503"), codes.Unavailable},
		{"a page", page("200"), codes.Unknown},
		{"no trailers", func(f *cutFrames) { f.begin(); f.data(true, nil) }, codes.Internal},
		{"trailers without a status", ends("x", "y"), codes.Unknown},
		{"a status that is none", ends("grpc-status", "abc"), codes.Internal},
		{"a status of its own", ends("grpc-status", "99"), codes.Unknown},
		{"two statuses", ends("grpc-status", "0", "grpc-status", "0"), codes.Internal},
		{"lines in a message", ends("grpc-status", "5", "grpc-message", "a\r\nb"), codes.Internal},
		{"half a message", func(f *cutFrames) {
			f.begin()
			f.data(false, cutMessage()[:8])
			f.head(true, "grpc-status", "0")
		}, codes.Internal},
		{"half a prefix", func(f *cutFrames) { f.begin(); f.data(false, []byte{0, 0}); f.head(true, "grpc-status", "0") }, codes.Internal},
		{"an error behind messages", ends("grpc-status", "9"), codes.FailedPrecondition},
	} {
		try(tc.name, cutAnswer{tc.b, uncut}, tc.want)
	}
}

// cutConfig is a gateway before both services at an address. Nobody is given up for his answers.
func cutConfig(t *testing.T, address string) string {
	t.Helper()
	raw, err := proto.Marshal(union(echov1.File_demo_echo_v1_echo_proto, chatv1.File_demo_chat_v1_chat_proto))
	if err != nil {
		t.Fatal(err)
	}
	set := filepath.Join(t.TempDir(), "all.binpb")
	if err := os.WriteFile(set, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return `listen: [{address: "127.0.0.1:0"}]
schemas: [{name: all, descriptor_set: ` + set + `}]
services: [{name: all, schema: all, outliers: {off: true}, retry: {attempts: 1}, endpoints: [{address: "` + address + `"}]}]
`
}
