package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
)

// HTTP1 is a client of HTTP/1.1.
func HTTP1(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// HTTP2 is a client of HTTP/2 without TLS.
func HTTP2(t testing.TB) *http.Client {
	t.Helper()
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &h2c}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// Message is what the methods of the schema take and give.
type Message = echov1.CallRequest

// session is one way to call: a version of HTTP and options.
type session struct {
	http    *http.Client
	address string
	opts    []connect.ClientOption
	duplex  bool // both sides may send at a time
}

func (s *session) of(method string, opts ...connect.ClientOption) *connect.Client[Message, Message] {
	return connect.NewClient[Message, Message](s.http, "http://"+s.address+method, slices.Concat(s.opts, opts)...)
}

// ConnectGo calls the methods at address, which Echo handles, by Connect's Go client in every way it has: HTTP/2, with http1
// also HTTP/1.1; proto and JSON; compressed and not. opts choose the protocol.
func ConnectGo(t *testing.T, address string, http1 bool, opts ...connect.ClientOption) {
	t.Helper()
	type version struct {
		name   string
		client *http.Client
		duplex bool
	}
	versions := []version{{"HTTP2", HTTP2(t), true}}
	if http1 {
		versions = append(versions, version{"HTTP1", HTTP1(t), false})
	}
	for _, v := range versions {
		for name, more := range map[string][]connect.ClientOption{
			"proto":     nil,
			"json":      {connect.WithProtoJSON()},
			"gzip":      {connect.WithSendGzip()},
			"json gzip": {connect.WithProtoJSON(), connect.WithSendGzip()},
		} {
			t.Run(v.name+" "+name, func(t *testing.T) {
				s := &session{v.client, address, slices.Concat(opts, more), v.duplex}
				t.Run("unary", s.unary)
				t.Run("errors", s.errors)
				t.Run("server stream", s.server)
				t.Run("client stream", s.client)
				t.Run("bidi", s.bidi)
				t.Run("deadline", s.deadline)
			})
		}
	}
}

func (s *session) unary(t *testing.T) {
	for _, size := range []int{0, 10, 5_000, 300_000} {
		req := connect.NewRequest(&Message{Text: strings.Repeat("ü", size), Data: []byte{0, 255}, Number: int64(size)})
		req.Header().Add("x-echo", "a")
		req.Header().Add("x-echo", "b")
		req.Header().Set("x-echo-bin", connect.EncodeBinaryHeader([]byte{0, 255}))
		res, err := s.of(Unary).CallUnary(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if res.Msg.GetText() != req.Msg.GetText() || !bytes.Equal(res.Msg.GetData(), req.Msg.GetData()) || res.Msg.GetNumber() != int64(size) {
			t.Errorf("found another message than that of %d bytes", size)
		}
		bin, err := connect.DecodeBinaryHeader(res.Trailer().Get("x-echo-trailer-bin"))
		if h := res.Header(); err != nil || !bytes.Equal(bin, []byte{0, 255}) || !slices.Equal(h.Values("x-echo"), []string{"a", "b"}) || !slices.Equal(res.Trailer().Values("x-echo-trailer"), []string{"a", "b"}) {
			t.Errorf("head %v, trailers %v, %v", h, res.Trailer(), err)
		}
	}
}

func (s *session) errors(t *testing.T) {
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		req := connect.NewRequest(&Message{Text: fmt.Sprintf("fail %d wörds: 100%%", code)})
		req.Header().Set("x-echo", "a")
		_, err := s.of(Unary).CallUnary(t.Context(), req)
		wantError(t, err, code, "wörds: 100%", "ASKED")
		if e := new(connect.Error); errors.As(err, &e) && (e.Meta().Get("x-echo") != "a" || e.Meta().Get("x-echo-trailer") != "a") {
			t.Errorf("metadata beside the error: %v", e.Meta())
		}
	}
	_, err := s.of("/no.Such/Method").CallUnary(t.Context(), connect.NewRequest(&Message{}))
	wantError(t, err, connect.CodeUnimplemented, "no route takes /no.Such/Method", "ROUTE_NOT_FOUND")
	_, err = s.of(Unary).CallUnary(t.Context(), connect.NewRequest(&Message{Data: make([]byte, 2*MaxBody)}))
	if connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("want resource_exhausted, found %v", err)
	}
}

func wantError(t *testing.T, err error, code connect.Code, message, reason string) {
	t.Helper()
	e := new(connect.Error)
	if !errors.As(err, &e) || e.Code() != code || e.Message() != message || len(e.Details()) != 1 {
		t.Errorf("want %v %q with a detail, found %v", code, message, err)
		return
	}
	v, err := e.Details()[0].Value()
	if info, ok := v.(*errdetails.ErrorInfo); err != nil || !ok || info.GetReason() != reason {
		t.Errorf("want a detail with %s, found %v, %v", reason, v, err)
	}
}

func (s *session) server(t *testing.T) {
	req := connect.NewRequest(&Message{Text: strings.Repeat("x", 3000), Number: 100})
	req.Header().Set("x-echo", "a")
	stream, err := s.of(Server).CallServerStream(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; stream.Receive(); n++ {
		if stream.Msg().GetText() != req.Msg.GetText() {
			t.Fatal("another message")
		}
	}
	if stream.Err() != nil || n != 100 || stream.ResponseHeader().Get("x-echo") != "a" || stream.ResponseTrailer().Get("x-echo-trailer") != "a" {
		t.Errorf("%d messages, %v, head %v, trailers %v", n, stream.Err(), stream.ResponseHeader(), stream.ResponseTrailer())
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if stream, err = s.of(Server).CallServerStream(t.Context(), connect.NewRequest(&Message{Text: "fail 10 late", Number: 2})); err != nil {
		t.Fatal(err)
	}
	n = 0
	for stream.Receive() {
		n++
	}
	if n != 2 {
		t.Errorf("want two messages before the error, found %d", n)
	}
	wantError(t, stream.Err(), connect.CodeAborted, "late", "ASKED")
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
}

func (s *session) client(t *testing.T) {
	stream := s.of(Client).CallClientStream(t.Context())
	for i := range 50 {
		if err := stream.Send(&Message{Text: strconv.Itoa(i), Data: make([]byte, i*100)}); err != nil {
			t.Fatal(err)
		}
	}
	res, err := stream.CloseAndReceive()
	if err != nil || res.Msg.GetNumber() != 50 || !strings.HasPrefix(res.Msg.GetText(), "0 1 2 ") {
		t.Errorf("found %v, %v", res, err)
	}
}

func (s *session) bidi(t *testing.T) {
	if !s.duplex {
		return // the client has no such streams over HTTP/1.1
	}
	stream := s.of(Bidi).CallBidiStream(t.Context())
	for i := range 30 {
		text := strings.Repeat("y", i*500)
		if err := stream.Send(&Message{Text: text}); err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Receive(); err != nil || m.GetText() != text {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := stream.CloseRequest(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("want the end, found %v", err)
	}
	if err := stream.CloseResponse(); err != nil {
		t.Error(err)
	}
}

func (s *session) deadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.of(Unary).CallUnary(ctx, connect.NewRequest(&Message{Text: "wait"})); connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Errorf("want deadline_exceeded, found %v", err)
	}
}
