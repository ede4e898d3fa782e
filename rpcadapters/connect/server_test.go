package connect

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/envelope"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newFace(t testing.TB) *Face {
	t.Helper()
	f, err := NewFace()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func framed(flags byte, payloads ...[]byte) []byte {
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

func packed(t testing.TB, c rpc.Compression, b []byte) []byte {
	t.Helper()
	out, err := envelope.Compress(nil, b, c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func head(typ string, more ...string) rpc.Metadata {
	h := rpc.Metadata{{Key: "content-type", Value: typ}}
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

// serve serves one request without a network.
func serve(t testing.TB, e *adaptertest.Engine, method string, h rpc.Handler) {
	t.Helper()
	m := e.Matched(adaptertest.Method(t, adaptertest.Schema(t), method))
	newFace(t).Serve(t.Context(), &e.X, m, h)
	if e.Done != 1 {
		t.Errorf("the finisher was told %d times", e.Done)
	}
	if n := m.Options.Budget.Used(); n != 0 {
		t.Errorf("%d bytes of the budget are held", n)
	}
}

const askedDetail = `"details":[{"type":"google.rpc.ErrorInfo","value":"CgVBU0tFRBIEdGVzdA","debug":{"reason":"ASKED","domain":"test"}}]`

func TestUnary(t *testing.T) {
	body := request(t, "hello", 7)
	big := request(t, strings.Repeat("hello ", 1000), 7)
	gz := packed(t, envelope.Gzip, big)
	for _, tc := range []struct {
		name       string
		header     rpc.Metadata
		body       []byte
		status     int
		wantHeader rpc.Metadata
		wantBody   string
	}{
		{"proto", head("application/proto"), body, 200, head("application/proto"), string(body)},
		{"json", head("application/json; charset=utf-8", "connect-protocol-version", "1"), []byte(`{"text":"hi"}`), 200, head("application/json"), `{"text":"hi"}`},
		{"empty", head("application/proto"), nil, 200, head("application/proto"), ""},
		{"empty, said to be compressed", head("application/proto", "content-encoding", "gzip"), nil, 200, head("application/proto"), ""},
		{
			"metadata", head("application/proto", "x-echo", "a", "x-echo-bin", "AP8"), body, 200,
			append(head("application/proto"), rpc.Metadata{
				{Key: "x-echo", Value: "a"},
				{Key: "x-echo-bin", Value: "AP8"},
				{Key: "trailer-x-echo-trailer", Value: "a"},
				{Key: "trailer-x-echo-trailer-bin", Value: "AP8"},
			}...), string(body),
		},
		{"gzip, nothing said of what is accepted", head("application/proto", "content-encoding", "gzip"), gz, 200, append(head("application/proto"), rpc.Pair{Key: "content-encoding", Value: "gzip"}), string(gz)},
		{"gzip, identity accepted", head("application/proto", "content-encoding", "gzip", "accept-encoding", "identity"), gz, 200, head("application/proto"), string(big)},
		{
			"br asked for before gzip", head("application/proto", "accept-encoding", "foo, gzip;q=0, br;q=0.9, gzip"), big, 200,
			append(head("application/proto"), rpc.Pair{Key: "content-encoding", Value: "br"}), string(packed(t, envelope.Brotli, big)),
		},
		{"zstd, too small to be worth it", head("application/proto", "accept-encoding", "zstd"), body, 200, head("application/proto"), string(body)},
		{"an error of the service", head("application/proto"), request(t, "fail 5 no \"thing\"", 0), 404, head("application/json"), `{"code":"not_found","message":"no \"thing\"",` + askedDetail + `}`},
		{
			"an error beside metadata", head("application/proto", "x-echo", "a"), request(t, "fail 1", 0), 499,
			append(head("application/json"), rpc.Metadata{{Key: "x-echo", Value: "a"}, {Key: "trailer-x-echo-trailer", Value: "a"}}...), `{"code":"canceled",` + askedDetail + `}`,
		},
	} {
		for _, piece := range []int{0, 1} {
			t.Run(tc.name, func(t *testing.T) {
				e := &adaptertest.Engine{Piece: piece}
				e.Reset("POST", adaptertest.Unary, "HTTP/1.1", tc.header, tc.body)
				if !newFace(t).Match(&e.X) {
					t.Fatal("want the face to match")
				}
				serve(t, e, adaptertest.Unary, adaptertest.Echo{})
				want := append(rpc.Metadata{tc.wantHeader[0], {Key: "x-request-id", Value: "id-1"}}, tc.wantHeader[1:]...)
				if d := cmp.Diff(want, e.Header); d != "" {
					t.Errorf("head (-want +found):\n%s", d)
				}
				if e.Status != tc.status || !e.Whole || e.Out.String() != tc.wantBody {
					t.Errorf("want %d %q, found %d %q", tc.status, tc.wantBody, e.Status, e.Out.String())
				}
			})
		}
	}
}

func TestGet(t *testing.T) {
	body := request(t, "hello?", 7)
	gz := packed(t, envelope.Gzip, body)
	std := base64.URLEncoding.EncodeToString(body)
	for _, tc := range []struct {
		name, query string
		header      rpc.Metadata
		method      string
		status      int
		typ, body   string
	}{
		{"json", "connect=v1&encoding=json&message=" + url.QueryEscape(`{"text":"a b"}`), nil, adaptertest.Safe, 200, "application/json", `{"text":"a b"}`},
		{"in any order, with others", "message=%7B%7D&x=y&encoding=json&connect=v1&z", nil, adaptertest.Safe, 200, "application/json", `{}`},
		{"proto", "connect=v1&encoding=proto&base64=1&message=" + base64.RawURLEncoding.EncodeToString(body), nil, adaptertest.Safe, 200, "application/proto", string(body)},
		{"padded", "connect=v1&encoding=proto&base64=1&message=" + url.QueryEscape(std), nil, adaptertest.Safe, 200, "application/proto", string(body)},
		{"gzip", "connect=v1&encoding=proto&base64=1&compression=gzip&message=" + base64.RawURLEncoding.EncodeToString(gz), nil, adaptertest.Safe, 200, "application/proto", string(body)},
		{"empty", "connect=v1&encoding=proto&message=", nil, adaptertest.Safe, 200, "application/proto", ""},
		{"not base64", "connect=v1&encoding=proto&base64=1&message=!", nil, adaptertest.Safe, 400, "application/json", "invalid_argument"},
		{"without a message", "connect=v1&encoding=proto", nil, adaptertest.Safe, 400, "application/json", "invalid_argument"},
		{"without an encoding", "connect=v1&message=", nil, adaptertest.Safe, 400, "application/json", "invalid_argument"},
		{"bad percent-encoding", "connect=v1&encoding=proto&message=%zz", nil, adaptertest.Safe, 400, "application/json", "invalid_argument"},
		{"another codec", "connect=v1&encoding=text&message=", nil, adaptertest.Safe, 415, "application/json", "unknown"},
		{"a streaming codec", "connect=v1&encoding=connect%2Bproto&message=", nil, adaptertest.Safe, 415, "application/json", "unknown"},
		{"unknown compression", "connect=v1&encoding=proto&compression=foo&message=", nil, adaptertest.Safe, 501, "application/json", "unimplemented"},
		{"a method with effects", "connect=v1&encoding=proto&message=", nil, adaptertest.Unary, 405, "application/json", "unknown"},
		{"a stream", "connect=v1&encoding=proto&message=", nil, adaptertest.Server, 405, "application/json", "unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &adaptertest.Engine{}
			e.Reset("GET", tc.method, "HTTP/1.1", tc.header, nil)
			e.X.HTTP.Query = tc.query
			if !newFace(t).Match(&e.X) {
				t.Fatal("want the face to match")
			}
			serve(t, e, tc.method, adaptertest.Echo{})
			got := e.Out.String()
			if tc.status != 200 {
				got = errorCode(t, e.Out.Bytes())
			}
			if e.Status != tc.status || got != tc.body || e.Header.Get("content-type") != tc.typ {
				t.Errorf("want %d %q, found %d %q, %v", tc.status, tc.body, e.Status, got, e.Header)
			}
			if tc.status == 405 && e.Header.Get("allow") != "POST" || tc.status == 200 && e.Header.Get("vary") != "accept-encoding" {
				t.Errorf("head %v", e.Header)
			}
		})
	}
}

// errorCode reads the code of an Error.
func errorCode(t testing.TB, body []byte) string {
	t.Helper()
	var e struct{ Code, Message string }
	if err := json.Unmarshal(body, &e); err != nil || e.Code == "" || e.Message == "" {
		t.Errorf("want an Error, found %q, %v", body, err)
	}
	return e.Code
}

func TestUnaryRefusals(t *testing.T) {
	ok := request(t, "hello", 1)
	for _, tc := range []struct {
		name   string
		header rpc.Metadata
		body   []byte
		status int
		code   string
		reason string
	}{
		{"a verb", head("application/proto", ":verb", "DELETE"), ok, 405, "unknown", "METHOD_NOT_ALLOWED"},
		{"a streaming type", head("application/connect+proto"), framed(0, ok), 415, "unknown", "UNSUPPORTED_MEDIA_TYPE"},
		{"a streaming codec that nobody knows", head("application/connect+foo"), ok, 415, "unknown", "UNSUPPORTED_MEDIA_TYPE"},
		{"another version", head("application/proto", "connect-protocol-version", "2"), ok, 400, "invalid_argument", "UNSUPPORTED_VERSION"},
		{"an empty version", head("application/proto", "connect-protocol-version", ""), ok, 400, "invalid_argument", "UNSUPPORTED_VERSION"},
		{"an unknown encoding", head("application/proto", "content-encoding", "foo"), ok, 501, "unimplemented", "UNSUPPORTED_ENCODING"},
		{"not what the encoding says", head("application/proto", "content-encoding", "gzip"), ok, 400, "invalid_argument", "MALFORMED_MESSAGE"},
		{"too large", head("application/proto"), make([]byte, adaptertest.MaxBody+1), 429, "resource_exhausted", "MESSAGE_TOO_LARGE"},
		{"a bomb", head("application/proto", "content-encoding", "br"), packed(t, envelope.Brotli, make([]byte, adaptertest.MaxBody+1)), 429, "resource_exhausted", "MESSAGE_TOO_LARGE"},
		{"not JSON", head("application/json", "connect-protocol-version", "1"), nil, 400, "invalid_argument", "INVALID_REQUEST"},
		{"a malformed timeout", head("application/proto", "connect-timeout-ms", "1s"), ok, 400, "invalid_argument", "INVALID_TIMEOUT"},
		{"a timeout of eleven digits", head("application/proto", "connect-timeout-ms", "00000000001"), ok, 400, "invalid_argument", "INVALID_TIMEOUT"},
		{"a timeout of nothing", head("application/proto", "connect-timeout-ms", "0"), ok, 504, "deadline_exceeded", "DEADLINE_EXCEEDED"},
		{"a timeout that passes", head("application/proto", "connect-timeout-ms", "1"), request(t, "wait", 0), 504, "deadline_exceeded", "DEADLINE_EXCEEDED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &adaptertest.Engine{}
			verb := "POST"
			if v := tc.header.Get(":verb"); v != "" {
				verb = v
				tc.header.Del(":verb")
			}
			e.Reset(verb, adaptertest.Unary, "HTTP/1.1", tc.header, tc.body)
			if !newFace(t).Match(&e.X) {
				t.Fatal("want the face to match")
			}
			serve(t, e, adaptertest.Unary, adaptertest.Echo{})
			if code := errorCode(t, e.Out.Bytes()); e.Status != tc.status || code != tc.code || e.Sent.Reason != tc.reason || !e.Whole {
				t.Errorf("want %d %s %s, found %d %s %s (%v)", tc.status, tc.code, tc.reason, e.Status, code, e.Sent.Reason, e.Sent.Err)
			}
			if e.Header.Get("content-type") != "application/json" {
				t.Errorf("head %v", e.Header)
			}
		})
	}
}

// split takes the body of a streamed answer apart: its messages, and the end, which must be the last one.
func split(t testing.TB, body []byte) (messages [][]byte, end string) {
	t.Helper()
	for len(body) > 0 {
		size := int(binary.BigEndian.Uint32(body[1:]))
		payload := body[envelope.PrefixLen:][:size]
		if end != "" {
			t.Fatalf("something behind the end: %x", body)
		}
		if body[0]&envelope.EndStream != 0 {
			end = string(payload)
			if !json.Valid(payload) {
				t.Errorf("want JSON, found %s", payload)
			}
		} else {
			messages = append(messages, payload)
		}
		body = body[envelope.PrefixLen+size:]
	}
	if end == "" {
		t.Error("no end")
	}
	return messages, end
}

func TestStreams(t *testing.T) {
	one := request(t, "a", 3)
	gz := packed(t, envelope.Gzip, one)
	const proto, jsn = "application/connect+proto", "application/connect+json"
	for _, tc := range []struct {
		name, method string
		header       rpc.Metadata
		body         []byte
		messages     [][]byte
		end          string
		code         codes.Code
	}{
		{"server", adaptertest.Server, head(proto), framed(0, one), [][]byte{one, one, one}, `{}`, codes.OK},
		{"server in JSON", adaptertest.Server, head(jsn), framed(0, []byte(`{"number":1}`)), [][]byte{[]byte(`{"number":"1"}`)}, `{}`, codes.OK},
		{
			"metadata", adaptertest.Server, append(head(proto, "x-echo", "a", "x-echo-bin", "AP8"), rpc.Pair{Key: "x-echo", Value: "b"}), framed(0, request(t, "", 0)), nil,
			`{"metadata":{"x-echo-trailer":["a","b"],"x-echo-trailer-bin":["AP8"]}}`, codes.OK,
		},
		{"client", adaptertest.Client, head(proto), framed(0, one, one), [][]byte{request(t, "a a", 2)}, `{}`, codes.OK},
		{"client, compressed", adaptertest.Client, head(proto, "connect-content-encoding", "gzip"), append(framed(envelope.Compressed, gz), framed(0, one)...), [][]byte{request(t, "a a", 2)}, `{}`, codes.OK},
		{"bidi", adaptertest.Bidi, head(proto, "connect-protocol-version", "1"), framed(0, one, nil), [][]byte{one, {}}, `{}`, codes.OK},
		{"error late", adaptertest.Server, head(proto, "x-echo", "a"), framed(0, request(t, "fail 14 gone", 1)), [][]byte{request(t, "fail 14 gone", 1)}, `{"error":{"code":"unavailable","message":"gone",` + askedDetail + `},"metadata":{"x-echo-trailer":["a"]}}`, codes.Unavailable},
		{"no request", adaptertest.Server, head(proto), nil, nil, errorEnd("unimplemented", "the method takes one request message, found none"), codes.Unimplemented},
		{"two requests", adaptertest.Server, head(proto), framed(0, one, one), nil, errorEnd("unimplemented", "the method takes one request message, found more"), codes.Unimplemented},
		{
			"not JSON", adaptertest.Bidi, head(jsn), framed(0, []byte("[")), nil,
			`{"error":{"code":"invalid_argument","message":"line 1 column 1: wanted an object for demo.echo.v1.CallRequest, found an array","details":[` +
				`{"type":"google.rpc.ErrorInfo","value":"Cg9JTlZBTElEX1JFUVVFU1QSCGNhdXNld2F5","debug":{"reason":"INVALID_REQUEST","domain":"causeway"}},` +
				`{"type":"google.rpc.BadRequest","value":"Cj8SPXdhbnRlZCBhbiBvYmplY3QgZm9yIGRlbW8uZWNoby52MS5DYWxsUmVxdWVzdCwgZm91bmQgYW4gYXJyYXk",` +
				`"debug":{"fieldViolations":[{"description":"wanted an object for demo.echo.v1.CallRequest, found an array"}]}}]}}`, codes.InvalidArgument,
		},
		{"the end in a request", adaptertest.Client, head(proto), framed(2, one), nil, errorEnd("internal", "a request message has the flags 0x02: want 0 or 1"), codes.Internal},
		{
			"compressed as identity", adaptertest.Server, head(proto, "connect-content-encoding", "identity"), framed(1, one), nil,
			errorEnd("internal", "a message is marked as compressed, and the request names no compression"), codes.Internal,
		},
		{
			"an unknown encoding", adaptertest.Server, head(proto, "connect-content-encoding", "foo"), framed(1, one), nil,
			errorEnd("unimplemented", `connect-content-encoding \"foo\" is not known here: want one of gzip, deflate, zstd, br, identity`), codes.Unimplemented,
		},
		{
			"another version", adaptertest.Bidi, head(proto, "connect-protocol-version", "v1"), nil, nil,
			errorEnd("invalid_argument", `connect-protocol-version is \"v1\": want \"1\"`), codes.InvalidArgument,
		},
	} {
		for _, size := range []int{0, 1} {
			t.Run(tc.name, func(t *testing.T) {
				e := &adaptertest.Engine{Piece: size}
				e.Reset("POST", tc.method, "HTTP/1.1", tc.header, tc.body)
				if !newFace(t).Match(&e.X) {
					t.Fatal("want the face to match")
				}
				serve(t, e, tc.method, adaptertest.Echo{})
				messages, end := split(t, e.Out.Bytes())
				if d := cmp.Diff(tc.messages, messages); d != "" {
					t.Errorf("messages (-want +found):\n%s", d)
				}
				if d := cmp.Diff(tc.end, end); d != "" {
					t.Errorf("end (-want +found):\n%s", d)
				}
				if e.Status != 200 || !e.Ended || e.Aborted || len(e.Trailer) > 0 || e.Header.Get("content-type") != tc.header.Get("content-type") || e.Sent.Code != tc.code {
					t.Errorf("status %d, head %v, sent %+v", e.Status, e.Header, e.Sent)
				}
			})
		}
	}
}

// errorEnd is the end of a stream that was refused as any server would.
func errorEnd(code, message string) string {
	return `{"error":{"code":"` + code + `","message":"` + message + `"}}`
}

// A stream's large answers are compressed as the client likes best, and it is told so in the head.
func TestStreamCompressed(t *testing.T) {
	big := request(t, strings.Repeat("hello ", 1000), 1)
	e := &adaptertest.Engine{}
	e.Reset("POST", adaptertest.Server, "HTTP/2.0", head("application/connect+proto", "connect-accept-encoding", "zstd, gzip"), framed(0, big))
	serve(t, e, adaptertest.Server, adaptertest.Echo{})
	messages, _ := split(t, e.Out.Bytes())
	if e.Header.Get("connect-content-encoding") != "zstd" || len(messages) != 1 || e.Out.Bytes()[0] != envelope.Compressed {
		t.Fatalf("found %v, %d messages", e.Header, len(messages))
	}
	got, _, err := envelope.Decompress(nil, messages[0], envelope.Zstd, len(big), nil)
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("found %d bytes, %v", len(got), err)
	}
}

// A unary method by a streaming type and the other way round are refused with a status, for a client that does not know the
// difference would take an answer of 200 for a success.
func TestKindsByType(t *testing.T) {
	e := &adaptertest.Engine{}
	e.Reset("POST", adaptertest.Server, "HTTP/1.1", head("application/proto"), nil)
	serve(t, e, adaptertest.Server, adaptertest.Echo{})
	if e.Status != 415 || e.Header.Get("accept-post") != "application/connect+proto, application/connect+json" {
		t.Errorf("found %d %v", e.Status, e.Header)
	}
}

func TestRefusesInItsOwnForm(t *testing.T) {
	none := rpc.Refuse(codes.Unimplemented, "ROUTE_NOT_FOUND", "no route takes POST /a/b").WithStatus(404)
	for _, tc := range []struct {
		verb, query string
		header      rpc.Metadata
		err         *rpc.Error
		status      int
		code        string
		stream      bool
	}{
		{"POST", "", head("application/proto"), none, 404, "unimplemented", false},
		{"POST", "", head("application/connect+proto"), none, 200, "unimplemented", true},
		{"GET", "connect=v1&encoding=json&message=", nil, none, 404, "unimplemented", false},
		{"GET", "connect=v1", nil, none, 404, "unimplemented", false},
		{"PUT", "", head("application/proto"), none, 405, "unknown", false},
		{"POST", "", head("application/connect+foo"), none, 415, "unknown", false},
		{"POST", "", head("application/proto"), rpc.Refuse(codes.Unavailable, "STOPPING", "the gateway is stopping"), 503, "unavailable", false},
	} {
		e := &adaptertest.Engine{}
		e.Reset(tc.verb, "/a/b", "HTTP/1.1", tc.header, nil)
		e.X.HTTP.Query = tc.query
		newFace(t).Refuse(&e.X, tc.err)
		var code string
		if tc.stream {
			_, end := split(t, e.Out.Bytes())
			var m struct{ Error json.RawMessage }
			if err := json.Unmarshal([]byte(end), &m); err != nil {
				t.Error(err)
			}
			code = errorCode(t, m.Error)
		} else {
			code = errorCode(t, e.Out.Bytes())
		}
		if e.Status != tc.status || code != tc.code {
			t.Errorf("%s %s: want %d %s, found %d %s", tc.verb, tc.header, tc.status, tc.code, e.Status, code)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, tc := range []struct {
		verb, query string
		header      rpc.Metadata
		want        bool
	}{
		{"POST", "", head("application/proto"), true},
		{"POST", "", head("Application/Proto"), true},
		{"DELETE", "", head("application/proto"), true},
		{"POST", "", head("application/json"), false},
		{"POST", "", head("application/json; charset=utf-8", "connect-protocol-version", "1"), true},
		{"POST", "", head("application/connect+proto"), true},
		{"POST", "", head("application/connect"), false},
		{"POST", "", head("application/protobuf"), false},
		{"POST", "", head("application/grpc"), false},
		{"POST", "", nil, false},
		{"GET", "connect=v1&encoding=json&message=%7B%7D", nil, true},
		{"GET", "a=b&connect=v1", nil, true},
		{"GET", "connect=v2", nil, false},
		{"GET", "", head("application/proto"), false},
	} {
		e := &adaptertest.Engine{}
		e.Reset(tc.verb, "/", "HTTP/1.1", tc.header, nil)
		e.X.HTTP.Query = tc.query
		if got := newFace(t).Match(&e.X); got != tc.want {
			t.Errorf("%s ?%s %v: want %v", tc.verb, tc.query, tc.header, tc.want)
		}
	}
}

// An answer that cannot be finished is broken off.
func TestAborts(t *testing.T) {
	broken := errors.New("broken pipe")
	for method, typ := range map[string]string{adaptertest.Unary: "application/proto", adaptertest.Server: "application/connect+proto", adaptertest.Bidi: "application/connect+proto"} {
		e := &adaptertest.Engine{Break: broken, Room: 3}
		body := request(t, "a", 3)
		if method != adaptertest.Unary {
			body = framed(0, body)
		}
		e.Reset("POST", method, "HTTP/1.1", head(typ), body)
		serve(t, e, method, adaptertest.Echo{})
		if method != adaptertest.Unary && (!e.Aborted || e.Ended) || e.Sent.Code != codes.Canceled || e.Sent.Status != 499 || !errors.Is(e.Sent.Err, broken) {
			t.Errorf("%s: aborted %v, ended %v, sent %+v", method, e.Aborted, e.Ended, e.Sent)
		}
	}
}

func TestUnaryAllocations(t *testing.T) {
	if adaptertest.Race {
		t.Skip("the race detector allocates")
	}
	h := handler(func(ctx context.Context, c *rpc.Call) error {
		req, err := c.Body.Message(ctx, c.Method.Input)
		if err == nil {
			c.Reply.Message = req.Retain()
		}
		return err
	})
	face := newFace(t)
	for typ, body := range map[string][]byte{"application/proto": request(t, "hello", 7), "application/json": []byte(`{"text":"hello"}`)} {
		e := &adaptertest.Engine{}
		header := head(typ, "connect-protocol-version", "1", "user-agent", "x")
		m := e.Matched(adaptertest.Method(t, adaptertest.Schema(t), adaptertest.Unary))
		ctx := t.Context()
		if n := testing.AllocsPerRun(1000, func() {
			e.Reset("POST", adaptertest.Unary, "HTTP/1.1", header, body)
			face.Serve(ctx, &e.X, m, h)
		}); n != 0 {
			t.Errorf("%s: %v allocations", typ, n)
		}
	}
}

type handler func(ctx context.Context, c *rpc.Call) error

func (h handler) Handle(ctx context.Context, c *rpc.Call) error { return h(ctx, c) }

// Every code has its row; a number that is none is unknown.
func TestTable(t *testing.T) {
	want := map[codes.Code]code{1: {"canceled", 499}, 16: {"unauthenticated", 401}, 0: {"unknown", 500}, 17: {"unknown", 500}, 1 << 31: {"unknown", 500}}
	for c, row := range want {
		if of(c) != row {
			t.Errorf("%d: want %v, found %v", c, row, of(c))
		}
	}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		if of(c).name == "" || of(c).status < 400 {
			t.Errorf("%v has no row", c)
		}
		if strings.EqualFold(strings.ReplaceAll(of(c).name, "canceled", "cancelled"), rpc.CodeName(c)) {
			continue
		}
		t.Errorf("%v is called %s", rpc.CodeName(c), of(c).name)
	}
}

// Whatever an upstream sends as message, detail and metadata, the end of a stream is JSON.
func FuzzEnd(f *testing.F) {
	face := newFace(f)
	f.Add("message", []byte("\x0a\x05a/b.C\x12\x01\x00"), "k", "v")
	f.Add("\xff", []byte("\x0a\xff"), "", "\xff\"")
	f.Add("", []byte("\x0a\x28type.googleapis.com/google.rpc.ErrorInfo\x12\x03\x0a\x01\xff"), "a", "")
	f.Fuzz(func(t *testing.T, message string, detail []byte, key, value string) {
		e := &rpc.Error{Code: codes.Aborted, Message: message, Details: [][]byte{detail}}
		raw := appendEnd(nil, e, rpc.Metadata{{Key: key, Value: value}, {Key: "b", Value: ""}, {Key: key, Value: value}}, face.details)
		var got struct {
			Error    struct{ Code string }
			Metadata map[string][]string
		}
		if err := json.Unmarshal(raw, &got); err != nil || got.Error.Code != "aborted" || len(got.Metadata) == 0 {
			t.Errorf("found %v: %s", err, raw)
		}
	})
}

// A query is read as net/url reads it, and a message of a GET never breaks the reader.
func FuzzQuery(f *testing.F) {
	f.Add("connect=v1&encoding=json&message=%7B%7D", "message")
	f.Add("a=b&&c&=d&message=+%zz", "message")
	f.Add("base64=1&encoding=proto&message=AAA=", "base64")
	f.Fuzz(func(t *testing.T, q, name string) {
		if strings.ContainsAny(name, "%+&=;") || strings.Contains(q, ";") || name == "" {
			return // names of ours are plain; net/url has a mind of its own about semicolons
		}
		_, _ = getMessage(q)
		got, ok := query(q, name)
		values, err := url.ParseQuery(q)
		if err != nil {
			return // it reads on behind a fault
		}
		for pair := range strings.SplitSeq(q, "&") {
			if key, _, _ := strings.Cut(pair, "="); strings.ContainsAny(key, "%+") {
				return // an encoded name may be anything
			}
		}
		want, there := values[name]
		if there != ok || there && want[0] != got {
			t.Errorf("%q of %q: want %q %v, found %q %v", name, q, want, there, got, ok)
		}
	})
}

// Whatever a request's head and body are, it gets one answer, and nothing is held afterwards.
func FuzzServe(f *testing.F) {
	face, types := newFace(f), adaptertest.Schema(f)
	f.Add(uint8(0), "application/proto", "gzip", "br", "1000", "", []byte("\x0a\x01a"))
	f.Add(uint8(0), "application/json", "", "", "", "", []byte(`{"text":"a"}`))
	f.Add(uint8(129), "", "", "", "", "connect=v1&encoding=json&message=%7B%7D", []byte{})
	f.Add(uint8(130), "", "", "", "", "connect=v1&encoding=proto&base64=1&compression=gzip&message=AAAA", []byte{})
	f.Add(uint8(2), "application/connect+proto", "gzip", "zstd,gzip", "", "", framed(0, []byte("\x18\x02")))
	f.Add(uint8(4), "application/connect+json", "", "", "", "", framed(0, []byte("{}"), []byte("[]")))
	f.Fuzz(func(t *testing.T, kind uint8, typ, encoding, accept, timeout, query string, body []byte) {
		verb := "POST"
		if kind > 127 {
			verb = "GET"
		}
		header := rpc.Metadata{
			{Key: "content-type", Value: typ},
			{Key: "connect-protocol-version", Value: "1"},
			{Key: "content-encoding", Value: encoding},
			{Key: "connect-content-encoding", Value: encoding},
			{Key: "accept-encoding", Value: accept},
			{Key: "connect-accept-encoding", Value: accept},
		}
		if timeout != "" {
			header.Add("connect-timeout-ms", timeout)
		}
		adaptertest.ServeAnything(t, face, types, kind, verb, query, header, body)
	})
}
