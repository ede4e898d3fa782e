package grpc_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/envelope"
	"github.com/causeway-gateway/causeway/rpcadapters/grpc"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// framed puts messages into envelopes.
func framed(t testing.TB, flags byte, payloads ...[]byte) []byte {
	t.Helper()
	var b []byte
	for _, p := range payloads {
		prefix := envelope.Prefix(flags, len(p))
		b = append(append(b, prefix[:]...), p...)
	}
	return b
}

func request(t testing.TB, text string, number int64) []byte {
	t.Helper()
	raw, err := proto.Marshal(&echov1.CallRequest{Text: text, Number: number})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// call serves one request without a network.
func call(t testing.TB, e *adaptertest.Engine, method string, h rpc.Handler) {
	t.Helper()
	m := e.Matched(adaptertest.Method(t, adaptertest.Schema(t), method))
	face := grpc.NewFace()
	if !face.Match(&e.X) {
		t.Fatal("want the face to match")
	}
	face.Serve(t.Context(), &e.X, m, h)
	if e.Done != 1 {
		t.Errorf("the finisher was told %d times", e.Done)
	}
	if n := m.Options.Budget.Used(); n != 0 {
		t.Errorf("%d bytes of the budget are held", n)
	}
}

func head(more ...string) rpc.Metadata {
	h := rpc.Metadata{{Key: "content-type", Value: "application/grpc"}, {Key: "te", Value: "trailers"}}
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

func TestServerUnary(t *testing.T) {
	body := request(t, "hello", 7)
	big := request(t, strings.Repeat("hello ", 1000), 7)
	packed, err := envelope.Compress(nil, big, envelope.Gzip)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name            string
		header          rpc.Metadata
		body            []byte
		wantHeader      rpc.Metadata
		wantBody        []byte
		wantTrailer     rpc.Metadata
		wantCode        codes.Code
		wantTrailerless bool
	}{
		{
			"plain", head(), framed(t, 0, body),
			rpc.Metadata{{Key: "content-type", Value: "application/grpc"}, {Key: "x-request-id", Value: "id-1"}},
			framed(t, 0, body),
			rpc.Metadata{{Key: "grpc-status", Value: "0"}},
			codes.OK, false,
		},
		{
			"metadata both ways", head("content-type", "application/grpc+proto", "x-echo", "a", "x-echo-bin", "AAE"), framed(t, 0, body),
			rpc.Metadata{{Key: "content-type", Value: "application/grpc+proto"}, {Key: "x-request-id", Value: "id-1"}, {Key: "x-echo", Value: "a"}, {Key: "x-echo-bin", Value: "AAE"}},
			framed(t, 0, body),
			rpc.Metadata{{Key: "grpc-status", Value: "0"}, {Key: "x-echo-trailer", Value: "a"}, {Key: "x-echo-trailer-bin", Value: "AAE"}},
			codes.OK, false,
		},
		{
			"json", head("content-type", "application/grpc+json"), framed(t, 0, []byte(`{"text": "hello"}`)),
			rpc.Metadata{{Key: "content-type", Value: "application/grpc+json"}, {Key: "x-request-id", Value: "id-1"}},
			framed(t, 0, []byte(`{"text":"hello"}`)),
			rpc.Metadata{{Key: "grpc-status", Value: "0"}},
			codes.OK, false,
		},
		{
			"gzip, answered alike", head("grpc-encoding", "gzip", "grpc-accept-encoding", "identity, gzip"), framed(t, envelope.Compressed, packed),
			rpc.Metadata{{Key: "content-type", Value: "application/grpc"}, {Key: "x-request-id", Value: "id-1"}, {Key: "grpc-encoding", Value: "gzip"}},
			framed(t, envelope.Compressed, packed),
			rpc.Metadata{{Key: "grpc-status", Value: "0"}},
			codes.OK, false,
		},
		{
			"gzip, not accepted back", head("grpc-encoding", "gzip"), framed(t, envelope.Compressed, packed),
			rpc.Metadata{{Key: "content-type", Value: "application/grpc"}, {Key: "x-request-id", Value: "id-1"}},
			framed(t, 0, big),
			rpc.Metadata{{Key: "grpc-status", Value: "0"}},
			codes.OK, false,
		},
		{
			"an error of the service", head(), framed(t, 0, request(t, "fail 5 no such thing: 100% ü", 0)),
			rpc.Metadata{
				{Key: "content-type", Value: "application/grpc"},
				{Key: "x-request-id", Value: "id-1"},
				{Key: "grpc-status", Value: "5"},
				{Key: "grpc-message", Value: "no such thing: 100%25 %C3%BC"},
				{Key: "grpc-status-details-bin", Value: "CAUSFm5vIHN1Y2ggdGhpbmc6IDEwMCUgw7waOQoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLkVycm9ySW5mbxINCgVBU0tFRBIEdGVzdA"},
			},
			nil, nil, codes.NotFound, true,
		},
		{
			"an error beside the service's headers", head("x-echo", "a"), framed(t, 0, request(t, "fail 9", 0)),
			rpc.Metadata{{Key: "content-type", Value: "application/grpc"}, {Key: "x-request-id", Value: "id-1"}, {Key: "x-echo", Value: "a"}},
			nil,
			rpc.Metadata{
				{Key: "grpc-status", Value: "9"},
				{Key: "grpc-status-details-bin", Value: "CAkaOQoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLkVycm9ySW5mbxINCgVBU0tFRBIEdGVzdA"},
				{Key: "x-echo-trailer", Value: "a"},
			},
			codes.FailedPrecondition, false,
		},
	} {
		for _, piece := range []int{0, 1, 7} {
			t.Run(tc.name, func(t *testing.T) {
				e := &adaptertest.Engine{Piece: piece}
				e.Reset("POST", adaptertest.Unary, "HTTP/2.0", tc.header, tc.body)
				call(t, e, adaptertest.Unary, adaptertest.Echo{})
				if d := cmp.Diff(tc.wantHeader, e.Header); d != "" {
					t.Errorf("head (-want +found):\n%s", d)
				}
				if d := cmp.Diff(string(tc.wantBody), e.Out.String()); d != "" {
					t.Errorf("body (-want +found):\n%s", d)
				}
				if d := cmp.Diff(len(tc.wantTrailer), len(e.Trailer)); d != "" {
					t.Errorf("trailers: %v", e.Trailer)
				} else if d := cmp.Diff(tc.wantTrailer, e.Trailer); d != "" && len(tc.wantTrailer) > 0 {
					t.Errorf("trailers (-want +found):\n%s", d)
				}
				if e.Status != 200 || !e.Ended || e.Aborted || e.Sent.Code != tc.wantCode || e.Sent.Status != 200 {
					t.Errorf("status %d, ended %v, aborted %v, sent %+v", e.Status, e.Ended, e.Aborted, e.Sent)
				}
			})
		}
	}
}

// What is wrong with a request has its code; the answer is Trailers-Only.
func TestServerRefusals(t *testing.T) {
	ok := request(t, "hello", 1)
	zero := make([]byte, adaptertest.MaxBody+1)
	bomb, err := envelope.Compress(nil, zero, envelope.Gzip)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		header rpc.Metadata
		method string
		body   []byte
		code   string
		reason string
	}{
		{"no message", head(), adaptertest.Unary, nil, "12", "CARDINALITY"},
		{"two messages", head(), adaptertest.Unary, framed(t, 0, ok, ok), "12", "CARDINALITY"},
		{"no message for a server stream", head(), adaptertest.Server, nil, "12", "CARDINALITY"},
		{"two messages for a server stream", head(), adaptertest.Server, framed(t, 0, ok, ok), "12", "CARDINALITY"},
		{"a cut prefix", head(), adaptertest.Unary, []byte{0, 0, 0}, "13", "MALFORMED_MESSAGE"},
		{"a cut message", head(), adaptertest.Client, framed(t, 0, ok)[:8], "13", "MALFORMED_MESSAGE"},
		{"something behind the message", head(), adaptertest.Unary, append(framed(t, 0, ok), 0), "13", "MALFORMED_MESSAGE"},
		{"a length beyond the limit", head(), adaptertest.Unary, []byte{0, 0xff, 0xff, 0xff, 0xff}, "8", "MESSAGE_TOO_LARGE"},
		{"a bomb", head("grpc-encoding", "gzip"), adaptertest.Unary, framed(t, 1, bomb), "8", "MESSAGE_TOO_LARGE"},
		{"unknown flags", head(), adaptertest.Unary, framed(t, 2, ok), "13", "MALFORMED_MESSAGE"},
		{"the flag of gRPC-Web's trailers", head(), adaptertest.Bidi, framed(t, 0x80, ok), "13", "MALFORMED_MESSAGE"},
		{"compressed without an encoding", head(), adaptertest.Unary, framed(t, 1, ok), "13", "MALFORMED_MESSAGE"},
		{"compressed as identity", head("grpc-encoding", "identity"), adaptertest.Unary, framed(t, 1, ok), "13", "MALFORMED_MESSAGE"},
		{"not gzip", head("grpc-encoding", "gzip"), adaptertest.Unary, framed(t, 1, ok), "13", "MALFORMED_MESSAGE"},
		{"an unknown encoding", head("grpc-encoding", "foo"), adaptertest.Unary, framed(t, 0, ok), "12", "UNSUPPORTED_ENCODING"},
		{"not JSON", head("content-type", "application/grpc+json"), adaptertest.Unary, framed(t, 0, []byte("{")), "3", "INVALID_REQUEST"},
		{"a malformed timeout", head("grpc-timeout", "1"), adaptertest.Unary, framed(t, 0, ok), "3", "INVALID_TIMEOUT"},
		{"a timeout of nothing", head("grpc-timeout", "0S"), adaptertest.Unary, framed(t, 0, ok), "4", "DEADLINE_EXCEEDED"},
		{"a timeout that passes", head("grpc-timeout", "1m"), adaptertest.Unary, framed(t, 0, request(t, "wait", 0)), "4", "DEADLINE_EXCEEDED"},
		{"binary metadata that is not base64", head("a-bin", "!"), adaptertest.Unary, framed(t, 0, ok), "3", "INVALID_METADATA"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &adaptertest.Engine{}
			e.Reset("POST", tc.method, "HTTP/2.0", tc.header, tc.body)
			call(t, e, tc.method, adaptertest.Echo{})
			status := e.Header
			if !status.Has("grpc-status") {
				status = e.Trailer // the answer had begun, or has headers of its own
			}
			if got := status.Get("grpc-status"); got != tc.code || e.Sent.Reason != tc.reason || e.Status != 200 || !e.Ended || e.Out.Len() > 0 {
				t.Errorf("want grpc-status %s, %s; found %s, %s, status %d, %d bytes (%v)", tc.code, tc.reason, got, e.Sent.Reason, e.Status, e.Out.Len(), e.Sent.Err)
			}
			if tc.reason == "UNSUPPORTED_ENCODING" && e.Header.Get("grpc-accept-encoding") != envelope.Names {
				t.Errorf("want grpc-accept-encoding, found %v", e.Header)
			}
		})
	}
}

// What is not gRPC is refused in plain HTTP.
func TestServerNotGRPC(t *testing.T) {
	for _, tc := range []struct {
		name, verb, proto, typ string
		status                 int
		header, value          string
	}{
		{"a verb", "DELETE", "HTTP/2.0", "application/grpc", 405, "allow", "POST"},
		{"a version", "POST", "HTTP/1.1", "application/grpc", 505, "", ""},
		{"a codec", "POST", "HTTP/2.0", "application/grpc+thrift", 415, "accept-post", "application/grpc, application/grpc+proto, application/grpc+json"},
	} {
		for _, refuse := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				e := &adaptertest.Engine{}
				e.Reset(tc.verb, adaptertest.Unary, tc.proto, rpc.Metadata{{Key: "content-type", Value: tc.typ}}, nil)
				if refuse {
					e.Sent = grpc.NewFace().Refuse(&e.X, rpc.Refuse(codes.NotFound, "X", "x"))
				} else {
					call(t, e, adaptertest.Unary, adaptertest.Echo{})
				}
				if e.Status != tc.status || !e.Whole || e.Sent.Code != codes.Unknown || tc.header != "" && e.Header.Get(tc.header) != tc.value {
					t.Errorf("found %d %v %+v", e.Status, e.Header, e.Sent)
				}
			})
		}
	}
}

func TestServerMatches(t *testing.T) {
	for typ, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc+x": true, "Application/GRPC": true, "application/grpc; charset=utf-8": true,
		"": false, "application/grpc-web": false, "application/grpcx": false, "application/json": false, "application/grp": false,
	} {
		e := &adaptertest.Engine{}
		e.Reset("POST", "/", "HTTP/2.0", rpc.Metadata{{Key: "content-type", Value: typ}}, nil)
		if got := grpc.NewFace().Match(&e.X); got != want {
			t.Errorf("%q: want %v", typ, want)
		}
	}
}

// A request without a route is answered in gRPC.
func TestServerRefusesInItsOwnForm(t *testing.T) {
	e := &adaptertest.Engine{}
	e.Reset("POST", "/a/b", "HTTP/2.0", head(), nil)
	sent := grpc.NewFace().Refuse(&e.X, rpc.Refuse(codes.Unimplemented, "ROUTE_NOT_FOUND", "no route takes POST /a/b").WithStatus(404))
	want := rpc.Metadata{
		{Key: "content-type", Value: "application/grpc"},
		{Key: "x-request-id", Value: "id-1"},
		{Key: "grpc-status", Value: "12"},
		{Key: "grpc-message", Value: "no route takes POST /a/b"},
		{Key: "grpc-status-details-bin", Value: "CAwSGG5vIHJvdXRlIHRha2VzIFBPU1QgL2EvYhpHCih0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuRXJyb3JJbmZvEhsKD1JPVVRFX05PVF9GT1VORBIIY2F1c2V3YXk"},
	}
	if d := cmp.Diff(want, e.Header); d != "" || e.Status != 200 || sent.Code != codes.Unimplemented || sent.Reason != "ROUTE_NOT_FOUND" {
		t.Errorf("status %d, sent %+v, head (-want +found):\n%s", e.Status, sent, d)
	}
}

// An answer of a plugin's own is its code and message.
func TestServerHTTPAnswer(t *testing.T) {
	e := &adaptertest.Engine{}
	e.Reset("POST", adaptertest.Unary, "HTTP/2.0", head(), nil)
	call(t, e, adaptertest.Unary, handler(func(context.Context, *rpc.Call) error {
		return &rpc.Answer{Status: 302, Header: rpc.Metadata{{Key: "location", Value: "/login"}}, Code: codes.Unauthenticated, Message: "log in"}
	}))
	if e.Header.Get("grpc-status") != "16" || e.Header.Get("grpc-message") != "log in" || e.Status != 200 {
		t.Errorf("found %d %v", e.Status, e.Header)
	}
}

type handler func(ctx context.Context, c *rpc.Call) error

func (h handler) Handle(ctx context.Context, c *rpc.Call) error { return h(ctx, c) }

// A stream is flushed when nothing follows at once, and its status comes last.
func TestServerStreams(t *testing.T) {
	one := request(t, "a", 3)
	for _, tc := range []struct {
		name, method string
		body, want   []byte
		flushes      int
		status       string
	}{
		{"server", adaptertest.Server, framed(t, 0, one), framed(t, 0, one, one, one), 2, "0"},
		{"server that answers nothing", adaptertest.Server, framed(t, 0, request(t, "a", 0)), nil, 0, "0"},
		{"server that fails late", adaptertest.Server, framed(t, 0, request(t, "fail 10", 1)), framed(t, 0, request(t, "fail 10", 1)), 1, "10"},
		{"client", adaptertest.Client, framed(t, 0, request(t, "a", 0), request(t, "b", 0)), framed(t, 0, request(t, "a b", 2)), 1, "0"},
		{"client without a request", adaptertest.Client, nil, framed(t, 0, nil), 1, "0"},
		{"bidi", adaptertest.Bidi, framed(t, 0, request(t, "a", 0), nil, request(t, "b", 0)), framed(t, 0, request(t, "a", 0), nil, request(t, "b", 0)), 4, "0"},
		{"bidi that breaks", adaptertest.Bidi, framed(t, 0, one, one)[:len(one)+7], framed(t, 0, one), 2, "13"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &adaptertest.Engine{Piece: 3}
			e.Reset("POST", tc.method, "HTTP/2.0", head("x-echo", "a"), tc.body)
			call(t, e, tc.method, adaptertest.Echo{})
			if d := cmp.Diff(string(tc.want), e.Out.String()); d != "" {
				t.Errorf("body (-want +found):\n%s", d)
			}
			if e.Flushes != tc.flushes || e.Trailer.Get("grpc-status") != tc.status || !e.Ended || e.Header.Get("x-echo") != "a" {
				t.Errorf("found %d flushes, head %v, trailers %v, ended %v", e.Flushes, e.Header, e.Trailer, e.Ended)
			}
		})
	}
}

// An answer that cannot be finished is broken off.
func TestServerAborts(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, method := range []string{adaptertest.Unary, adaptertest.Server, adaptertest.Bidi} {
		e := &adaptertest.Engine{Break: broken, Room: 3}
		e.Reset("POST", method, "HTTP/2.0", head(), framed(t, 0, request(t, "a", 3)))
		call(t, e, method, adaptertest.Echo{})
		if !e.Aborted || e.Ended || e.Sent.Code != codes.Canceled || e.Sent.Status != 499 || !errors.Is(e.Sent.Err, broken) {
			t.Errorf("%s: aborted %v, ended %v, sent %+v", method, e.Aborted, e.Ended, e.Sent)
		}
	}
}

// A deadline that passes while the caller takes nothing is said in the trailers, behind what was written.
func TestServerDeadlineInAFlush(t *testing.T) {
	for _, method := range []string{adaptertest.Server, adaptertest.Bidi} {
		e := &adaptertest.Engine{Late: context.DeadlineExceeded}
		e.Reset("POST", method, "HTTP/2.0", head(), framed(t, 0, request(t, "a", 3)))
		call(t, e, method, adaptertest.Echo{})
		if e.Aborted || !e.Ended || e.Trailer.Get("grpc-status") != "4" || e.Sent.Code != codes.DeadlineExceeded {
			t.Errorf("%s: aborted %v, ended %v, trailers %v, sent %+v", method, e.Aborted, e.Ended, e.Trailer, e.Sent)
		}
	}
}

// After Stop no request is received.
func TestServerStop(t *testing.T) {
	e := &adaptertest.Engine{}
	e.Reset("POST", adaptertest.Bidi, "HTTP/2.0", head(), framed(t, 0, request(t, "a", 3)))
	call(t, e, adaptertest.Bidi, handler(func(_ context.Context, c *rpc.Call) error {
		var m rpc.Message
		if err := c.Stream.Recv(&m); err != nil {
			t.Error(err)
		}
		m.Free()
		c.Stream.Stop()
		for range 2 {
			if err := c.Stream.Recv(&m); err == nil || rpc.AsError(err).Code != codes.Canceled {
				t.Errorf("after Stop: %v", err)
			}
		}
		return nil
	}))
	if e.Trailer.Get("grpc-status") != "0" || !e.Ended {
		t.Errorf("want the handler's word to count, found head %v, trailers %v", e.Header, e.Trailer)
	}
}

// Raw gives the message as sent, in its envelope, also after it was read.
func TestServerRaw(t *testing.T) {
	sent := framed(t, 0, request(t, "a", 3))
	e := &adaptertest.Engine{}
	e.Reset("POST", adaptertest.Unary, "HTTP/2.0", head(), sent)
	call(t, e, adaptertest.Unary, handler(func(ctx context.Context, c *rpc.Call) error {
		m, err := c.Body.Message(ctx, c.Method.Input)
		if err != nil {
			return err
		}
		again, err := c.Body.Message(ctx, c.Method.Input)
		if err != nil || again != m {
			t.Errorf("the message is not memoised: %v", err)
		}
		raw, err := c.Body.Raw(ctx)
		if err != nil || string(raw) != string(sent) || &raw[envelope.PrefixLen] != &m.Data[0] {
			t.Errorf("raw %q, %v", raw, err)
		}
		return nil
	}))
}

// A unary call costs no allocation of the face's.
func TestServerUnaryAllocations(t *testing.T) {
	if adaptertest.Race {
		t.Skip("the race detector allocates")
	}
	m := adaptertest.Method(t, adaptertest.Schema(t), adaptertest.Unary)
	h := handler(func(ctx context.Context, c *rpc.Call) error {
		req, err := c.Body.Message(ctx, c.Method.Input)
		if err != nil {
			return err
		}
		c.Reply.Header = append(c.Reply.Header, rpc.Pair{Key: "a", Value: "b"})
		c.Reply.Message = req.Retain()
		return nil
	})
	e := &adaptertest.Engine{}
	face := grpc.NewFace()
	header := head("user-agent", "x", "authorization", "y", "traceparent", "z")
	body := framed(t, 0, request(t, "hello", 7))
	matched := e.Matched(m)
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		e.Reset("POST", adaptertest.Unary, "HTTP/2.0", header, body)
		face.Serve(ctx, &e.X, matched, h)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if e.Status != 200 || e.Out.Len() != len(body) {
		t.Errorf("found %d, %d bytes", e.Status, e.Out.Len())
	}
}

// BenchmarkServerUnary is what the face adds to a unary call.
func BenchmarkServerUnary(b *testing.B) {
	m := adaptertest.Method(b, adaptertest.Schema(b), adaptertest.Unary)
	h := handler(func(ctx context.Context, c *rpc.Call) error {
		req, err := c.Body.Message(ctx, c.Method.Input)
		if err == nil {
			c.Reply.Message = req.Retain()
		}
		return err
	})
	e := &adaptertest.Engine{}
	face := grpc.NewFace()
	header := head("user-agent", "x", "authorization", "y", "traceparent", "z")
	body := framed(b, 0, request(b, "hello", 7))
	matched := e.Matched(m)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		e.Reset("POST", adaptertest.Unary, "HTTP/2.0", header, body)
		face.Serve(ctx, &e.X, matched, h)
	}
}

// Whatever a request's head and body are, it gets one answer, and nothing is held afterwards.
func FuzzServe(f *testing.F) {
	face, types := grpc.NewFace(), adaptertest.Schema(f)
	f.Add(uint8(0), "", "", "", "1S", framed(f, 0, []byte("\x0a\x01a")))
	f.Add(uint8(0), "+json", "", "", "", framed(f, 0, []byte(`{"text":"a"}`)))
	f.Add(uint8(2), "+proto", "gzip", "gzip", "", framed(f, 1, []byte("\x18\x02")))
	f.Add(uint8(4), "", "zstd", "", "", framed(f, 0, nil, []byte("\x18\x02")))
	f.Fuzz(func(t *testing.T, kind uint8, sub, encoding, accept, timeout string, body []byte) {
		typ := "application/grpc"
		header := rpc.Metadata{{Key: "content-type", Value: typ + sub}, {Key: "grpc-encoding", Value: encoding}, {Key: "grpc-accept-encoding", Value: accept}}
		if timeout != "" {
			header.Add("grpc-timeout", timeout)
		}
		adaptertest.ServeAnything(t, face, types, kind, "POST", "", header, body)
	})
}
