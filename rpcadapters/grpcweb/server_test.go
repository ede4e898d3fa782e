package grpcweb

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
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

func head(more ...string) rpc.Metadata {
	h := rpc.Metadata{{Key: "content-type", Value: "application/grpc-web+proto"}}
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

// serve serves one request without a network.
func serve(t testing.TB, e *adaptertest.Engine, method string, h rpc.Handler) {
	t.Helper()
	m := e.Matched(adaptertest.Method(t, adaptertest.Schema(t), method))
	face := NewFace()
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

// answer takes the body of an answer apart: its messages, and the trailers, which must be the last one.
func answer(t testing.TB, body []byte) (messages [][]byte, trailers string) {
	t.Helper()
	for len(body) > 0 {
		if len(body) < envelope.PrefixLen {
			t.Fatalf("a cut prefix %x", body)
		}
		size := int(binary.BigEndian.Uint32(body[1:]))
		payload := body[envelope.PrefixLen:][:size]
		if trailers != "" {
			t.Fatalf("something behind the trailers: %x", body)
		}
		if body[0]&envelope.Trailer != 0 {
			trailers = string(payload)
		} else {
			messages = append(messages, payload)
		}
		body = body[envelope.PrefixLen+size:]
	}
	if trailers == "" {
		t.Error("no trailers")
	}
	return messages, trailers
}

// untext decodes base64 that may be padded at any group.
func untext(t testing.TB, text string) []byte {
	t.Helper()
	var b []byte
	for len(text) > 0 {
		if len(text) < 4 {
			t.Fatalf("a cut group %q", text)
		}
		group, err := base64.StdEncoding.DecodeString(text[:4])
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, group...)
		text = text[4:]
	}
	return b
}

const asked = "grpc-status-details-bin: CAUSAm5vGjkKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5FcnJvckluZm8SDQoFQVNLRUQSBHRlc3Q\r\n"

func TestCalls(t *testing.T) {
	one := request(t, "a", 3)
	for _, tc := range []struct {
		name, method string
		header       rpc.Metadata
		body         []byte
		typ          string
		messages     [][]byte
		trailers     string
	}{
		{"unary", adaptertest.Unary, head(), framed(0, one), "application/grpc-web+proto", [][]byte{one}, "grpc-status: 0\r\n"},
		{
			"unary with metadata", adaptertest.Unary, head("x-echo", "b", "x-echo-bin", "AP8="), framed(0, one), "application/grpc-web+proto",
			[][]byte{one},
			"grpc-status: 0\r\nx-echo-trailer: b\r\nx-echo-trailer-bin: AP8\r\n",
		},
		{"unary json", adaptertest.Unary, head("content-type", "application/grpc-web+json"), framed(0, []byte(`{"number":3}`)), "application/grpc-web+json", [][]byte{[]byte(`{"number":"3"}`)}, "grpc-status: 0\r\n"},
		{"unary error", adaptertest.Unary, head("content-type", "application/grpc-web"), framed(0, request(t, "fail 5 no", 0)), "application/grpc-web", nil, "grpc-status: 5\r\ngrpc-message: no\r\n" + asked},
		{"server", adaptertest.Server, head(), framed(0, one), "application/grpc-web+proto", [][]byte{one, one, one}, "grpc-status: 0\r\n"},
		{"server error", adaptertest.Server, head(), framed(0, request(t, "fail 5 no", 1)), "application/grpc-web+proto", [][]byte{request(t, "fail 5 no", 1)}, "grpc-status: 5\r\ngrpc-message: no\r\n" + asked},
		{"client", adaptertest.Client, head(), framed(0, one, one), "application/grpc-web+proto", [][]byte{request(t, "a a", 2)}, "grpc-status: 0\r\n"},
		{"bidi", adaptertest.Bidi, head(), framed(0, one, nil), "application/grpc-web+proto", [][]byte{one, {}}, "grpc-status: 0\r\n"},
	} {
		for _, text := range []bool{false, true} {
			for _, size := range []int{0, 1, 5} {
				t.Run(tc.name, func(t *testing.T) {
					e := &adaptertest.Engine{Piece: size}
					header, body, typ := append(rpc.Metadata(nil), tc.header...), tc.body, tc.typ
					if text {
						typ = strings.Replace(typ, "grpc-web", "grpc-web-text", 1)
						header.Set("content-type", strings.Replace(tc.header.Get("content-type"), "grpc-web", "grpc-web-text", 1))
						// In two pieces, each padded on its own, as a client sends it that flushes between.
						cut := len(body) / 2
						body = []byte(base64.StdEncoding.EncodeToString(body[:cut]) + base64.StdEncoding.EncodeToString(body[cut:]))
					}
					e.Reset("POST", tc.method, "HTTP/1.1", header, body)
					serve(t, e, tc.method, adaptertest.Echo{})
					out := e.Out.Bytes()
					if text {
						out = untext(t, e.Out.String())
					}
					messages, trailers := answer(t, out)
					if d := cmp.Diff(tc.messages, messages); d != "" {
						t.Errorf("messages (-want +found):\n%s", d)
					}
					if d := cmp.Diff(tc.trailers, trailers); d != "" {
						t.Errorf("trailers (-want +found):\n%s", d)
					}
					if e.Status != 200 || !e.Ended || e.Aborted || e.Header.Get("content-type") != typ || e.Header.Get("x-request-id") != "id-1" || len(e.Trailer) > 0 {
						t.Errorf("status %d, head %v, trailers %v, ended %v", e.Status, e.Header, e.Trailer, e.Ended)
					}
					if whole := tc.method == adaptertest.Unary; e.Whole != whole {
						t.Errorf("want a unary answer in one piece, and no other")
					}
				})
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	ok := request(t, "hello", 1)
	text := head("content-type", "application/grpc-web-text")
	for _, tc := range []struct {
		name   string
		header rpc.Metadata
		method string
		body   []byte
		status string
		reason string
	}{
		{"no message", head(), adaptertest.Unary, nil, "12", "CARDINALITY"},
		{"two messages", head(), adaptertest.Server, framed(0, ok, ok), "12", "CARDINALITY"},
		{"a cut message", head(), adaptertest.Unary, framed(0, ok)[:6], "13", "MALFORMED_MESSAGE"},
		{"trailers in a request", head(), adaptertest.Client, framed(0x80, ok), "13", "MALFORMED_MESSAGE"},
		{"compressed as identity", head("grpc-encoding", "identity"), adaptertest.Unary, framed(1, ok), "13", "MALFORMED_MESSAGE"},
		{"an unknown encoding", head("grpc-encoding", "foo"), adaptertest.Unary, framed(0, ok), "12", "UNSUPPORTED_ENCODING"},
		{"an unknown encoding of a stream", head("grpc-encoding", "foo"), adaptertest.Bidi, framed(0, ok), "12", "UNSUPPORTED_ENCODING"},
		{"a compressed body", head("content-encoding", "gzip"), adaptertest.Unary, framed(0, ok), "12", "UNSUPPORTED_ENCODING"},
		{"text that is none", text, adaptertest.Unary, []byte("AAAA!AAA"), "13", "MALFORMED_MESSAGE"},
		{"cut text", text, adaptertest.Unary, []byte("AAAAAAA"), "13", "MALFORMED_MESSAGE"},
		{"text of more than the limit", text, adaptertest.Unary, []byte("AP////8A"), "8", "MESSAGE_TOO_LARGE"},
		{"a malformed timeout", head("grpc-timeout", "x"), adaptertest.Unary, framed(0, ok), "3", "INVALID_TIMEOUT"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &adaptertest.Engine{}
			e.Reset("POST", tc.method, "HTTP/2.0", tc.header, tc.body)
			serve(t, e, tc.method, adaptertest.Echo{})
			out := e.Out.Bytes()
			if strings.Contains(tc.header.Get("content-type"), "text") {
				out = untext(t, e.Out.String())
			}
			_, trailers := answer(t, out)
			if !strings.HasPrefix(trailers, "grpc-status: "+tc.status+"\r\n") || e.Sent.Reason != tc.reason || e.Status != 200 {
				t.Errorf("want status %s, %s; found %q, %s, %v", tc.status, tc.reason, trailers, e.Sent.Reason, e.Sent.Err)
			}
			if tc.reason == "UNSUPPORTED_ENCODING" && tc.header.Has("grpc-encoding") && e.Header.Get("grpc-accept-encoding") != envelope.Names {
				t.Errorf("want grpc-accept-encoding, found %v", e.Header)
			}
		})
	}
}

func TestNotGRPCWeb(t *testing.T) {
	for _, tc := range []struct {
		verb, typ string
		status    int
	}{
		{"DELETE", "application/grpc-web", 405},
		{"GET", "application/grpc-web-text", 405},
		{"POST", "application/grpc-web+thrift", 415},
		{"POST", "application/grpc-web-texture", 415},
	} {
		for _, refuse := range []bool{false, true} {
			e := &adaptertest.Engine{}
			e.Reset(tc.verb, adaptertest.Unary, "HTTP/1.1", rpc.Metadata{{Key: "content-type", Value: tc.typ}}, nil)
			if refuse {
				e.Sent = NewFace().Refuse(&e.X, rpc.Refuse(codes.NotFound, "X", "x"))
			} else {
				serve(t, e, adaptertest.Unary, adaptertest.Echo{})
			}
			if e.Status != tc.status || !e.Whole || e.Sent.Code != codes.Unknown {
				t.Errorf("%s %s: found %d %v %+v", tc.verb, tc.typ, e.Status, e.Header, e.Sent)
			}
		}
	}
}

func TestMatches(t *testing.T) {
	for typ, want := range map[string]bool{
		"application/grpc-web": true, "application/grpc-web+proto": true, "application/grpc-web-text": true, "application/grpc-web-text+proto; x=y": true,
		"Application/grpc-Web": true, "": false, "application/grpc": false, "application/grpc-webby": false, "application/json": false,
	} {
		e := &adaptertest.Engine{}
		e.Reset("POST", "/", "HTTP/1.1", rpc.Metadata{{Key: "content-type", Value: typ}}, nil)
		if got := NewFace().Match(&e.X); got != want {
			t.Errorf("%q: want %v", typ, want)
		}
	}
}

func TestRefusesInItsOwnForm(t *testing.T) {
	e := &adaptertest.Engine{}
	e.Reset("POST", "/a/b", "HTTP/1.1", head("accept", "application/grpc-web-text"), nil)
	sent := NewFace().Refuse(&e.X, rpc.Refuse(codes.Unimplemented, "ROUTE_NOT_FOUND", "no route takes POST /a/b").WithStatus(404))
	_, trailers := answer(t, untext(t, e.Out.String()))
	if !strings.HasPrefix(trailers, "grpc-status: 12\r\ngrpc-message: no route takes POST /a/b\r\ngrpc-status-details-bin: ") || e.Status != 200 || sent.Code != codes.Unimplemented {
		t.Errorf("found %d %q", e.Status, trailers)
	}
	if typ := e.Header.Get("content-type"); typ != "application/grpc-web-text+proto" {
		t.Errorf("want the answer that accept asks for, found %s", typ)
	}
}

// A value cannot end its line.
func TestTrailersHoldTheirLines(t *testing.T) {
	got := string(appendBlock(nil, rpc.Metadata{{Key: "a", Value: "b\r\ngrpc-status: 0"}, {Key: "c", Value: "\x00\td"}}))
	if want := "a: b  grpc-status: 0\r\nc:  \td\r\n"; got != want {
		t.Errorf("want %q, found %q", want, got)
	}
}

// An answer that cannot be finished is broken off.
func TestAborts(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, method := range []string{adaptertest.Unary, adaptertest.Server, adaptertest.Bidi} {
		for _, typ := range []string{"application/grpc-web", "application/grpc-web-text"} {
			e := &adaptertest.Engine{Break: broken, Room: 3}
			body := framed(0, request(t, "a", 3))
			if strings.HasSuffix(typ, "text") {
				body = []byte(base64.StdEncoding.EncodeToString(body))
			}
			e.Reset("POST", method, "HTTP/1.1", head("content-type", typ), body)
			serve(t, e, method, adaptertest.Echo{})
			if method != adaptertest.Unary && (!e.Aborted || e.Ended) || e.Sent.Code != codes.Canceled || e.Sent.Status != 499 || !errors.Is(e.Sent.Err, broken) {
				t.Errorf("%s %s: aborted %v, ended %v, sent %+v", method, typ, e.Aborted, e.Ended, e.Sent)
			}
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
	for _, typ := range []string{"application/grpc-web", "application/grpc-web-text"} {
		e := &adaptertest.Engine{}
		face := NewFace()
		header, body := head("content-type", typ), framed(0, request(t, "hello", 7))
		if strings.HasSuffix(typ, "text") {
			body = []byte(base64.StdEncoding.EncodeToString(body))
		}
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

// Text in pieces of any size, padded anywhere, gives what was encoded; what is no base64 is an error.
func FuzzTextReader(f *testing.F) {
	f.Add([]byte("hello world"), uint8(3), uint8(2))
	f.Add([]byte{}, uint8(0), uint8(0))
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1}, uint8(5), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, step, size uint8) {
		var text []byte
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			text = base64.StdEncoding.AppendEncode(text, rest[:n])
			rest = rest[n:]
		}
		r := &textReader{}
		r.reset(&pieces{text, int(size) + 1})
		got, err := io.ReadAll(&pieces2{r, int(step)%7 + 1})
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("want %x, found %x, %v", data, got, err)
		}
	})
}

// Whatever comes as text, a reader ends, and gives what a decoder of whole groups gives.
func FuzzText(f *testing.F) {
	f.Add([]byte("AAAA"), uint8(1))
	f.Add([]byte("AA==AAA="), uint8(3))
	f.Add([]byte("A=AA"), uint8(3))
	f.Add([]byte("AAA\nAAAA"), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		var want []byte
		var bad bool
		for rest := text; len(rest) > 0 && !bad; {
			n := min(4, len(rest))
			group, err := base64.StdEncoding.AppendDecode(nil, rest[:n])
			bad = err != nil || n < 4
			if !bad {
				want = append(want, group...)
			}
			rest = rest[n:]
		}
		if bytes.ContainsAny(text, "\r\n") {
			return // the library's decoder passes over line ends, wherever they are in what it is given
		}
		r := &textReader{}
		r.reset(&pieces{text, int(size) + 1})
		got, err := io.ReadAll(r)
		if bad != (err != nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("%q: want %x, bad %v; found %x, %v", text, want, bad, got, err)
		}
	})
}

// pieces gives b at most n bytes at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(to[:min(len(to), p.n)], p.b)
	p.b = p.b[n:]
	return n, nil
}

// pieces2 reads at most n bytes at a time.
type pieces2 struct {
	r io.Reader
	n int
}

func (p *pieces2) Read(to []byte) (int, error) { return p.r.Read(to[:min(len(to), p.n)]) }

// Whatever a request's head and body are, it gets one answer, and nothing is held afterwards.
func FuzzServe(f *testing.F) {
	face, types := NewFace(), adaptertest.Schema(f)
	f.Add(uint8(0), "", "", "", "1S", false, framed(0, []byte("\x0a\x01a")))
	f.Add(uint8(0), "+json", "", "", "", false, framed(0, []byte(`{"text":"a"}`)))
	f.Add(uint8(2), "+proto", "gzip", "gzip", "", false, framed(1, []byte("\x18\x02")))
	f.Add(uint8(4), "", "zstd", "", "", false, framed(0, nil, []byte("\x18\x02")))
	f.Add(uint8(2), "+proto", "", "", "", true, []byte("AAAAAAIYAQ=="))
	f.Fuzz(func(t *testing.T, kind uint8, sub, encoding, accept, timeout string, text bool, body []byte) {
		typ := "application/grpc-web"
		if text {
			typ += "-text"
		}
		header := rpc.Metadata{{Key: "content-type", Value: typ + sub}, {Key: "grpc-encoding", Value: encoding}, {Key: "grpc-accept-encoding", Value: accept}}
		if timeout != "" {
			header.Add("grpc-timeout", timeout)
		}
		adaptertest.ServeAnything(t, face, types, kind, "POST", "", header, body)
	})
}
