package trpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// replay is a server that answers each call as the one that was captured, with the number of the call.
func replay(t testing.TB, name string) string {
	t.Helper()
	steps := captures(t)[name]
	return scripted(t, func(c net.Conn) {
		for {
			req, err := trpckit.Read(c, true)
			if err != nil {
				return
			}
			for _, s := range steps {
				if s.client || s.raw == nil {
					continue
				}
				answer, err := trpckit.Read(bytes.NewReader(s.raw), false)
				if err != nil {
					t.Error(err)
					return
				}
				answer.ID = req.ID
				answer.Set("request_id", req.ID)
				if _, err := c.Write(answer.Bytes()); err != nil {
					return
				}
			}
		}
	})
}

// TestCapturedCalls: the gateway's request of a captured call says what the SDK's says, and of the captured answer the caller
// gets what the SDK's client got.
func TestCapturedCalls(t *testing.T) {
	s := kitSchema(t)
	all := captures(t)
	type outcome struct {
		Data, Attached string
		Code           codes.Code
		Native         int32
		Class          rpc.Class
		Message        string
		Header         rpc.Metadata
	}
	for _, c := range []struct {
		name string
		o    *trpcv1.Options
		want outcome
		meta []string
	}{
		{name: "echo", want: outcome{Data: "\n\x05hello"}},
		{name: "echo_empty"},
		{name: "echo_full", want: outcome{Data: "\n\x02hi\x10\x81\x80\x80\x80\x80\x80\x80\x10\x1a\x02\x00\xff\"\x01a\"\x01b*\x05\n\x01x\x10\x010\x02:\x04\n\x02in"}},
		{name: "echo_gzip", o: &trpcv1.Options{Encoding: "gzip", PackAbove: 1}, want: outcome{Data: "\n\xc8\x01" + strings.Repeat("z", 200)}},
		{name: "echo_json", o: &trpcv1.Options{ContentType: "json"}, want: outcome{Data: "\n\x04json\x10\x05"}},
		{name: "attachment", want: outcome{Data: "\n\x04with\x10\x0e", Attached: "ATTACHED BYTES"}},
		{name: "fail_business", want: outcome{Code: codes.Unknown, Native: 10001, Class: rpc.Business, Message: "no gold"}},
		{name: "fail_framework", want: outcome{Code: codes.Unavailable, Native: 22, Class: rpc.Transport, Message: "too busy"}},
		{name: "fail_plain", want: outcome{Code: codes.Unknown, Native: 999, Class: rpc.Business, Message: "plain"}},
		{name: "nofunc", want: outcome{
			Code: codes.Unimplemented, Native: 12, Class: rpc.Framework,
			Message: "service handle: rpc name /trpc.kit.echo.Echo/Nope invalid, current service:trpc.kit.echo.Echo",
		}},
		{name: "meta", meta: []string{"app-key", "v1"}, want: outcome{
			Data:   "\n\r\n\aapp-key\x12\x02v1\x12\x16trpc.kit.client.Caller\x1a\x12trpc.kit.echo.Echo\"\x18/trpc.kit.echo.Echo/Meta(\xb7\x17",
			Header: rpc.Metadata{{Key: "app-resp", Value: "pong"}},
		}},
		{name: "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent, err := trpckit.Read(bytes.NewReader(all[c.name][0].raw), true)
			if err != nil {
				t.Fatal(err)
			}
			o := &trpcv1.Options{Caller: sent.Text("caller"), Callee: sent.Text("callee")}
			if c.o != nil {
				proto.Merge(o, c.o)
			}
			name := sent.Text("func")
			if c.name == "nofunc" {
				name = "/trpc.kit.echo.Echo/Echo"
			}
			m := method(t, s, name)
			tr := dial(t, replay(t, c.name), o)
			call := callOf(t, m, o, c.meta...)

			body := sent.Body
			if c.o.GetEncoding() != "" {
				if body, _, err = appendUnpacked(nil, body, encodingGzip, 1<<20, nil); err != nil {
					t.Fatal(err)
				}
			}
			if c.o.GetContentType() != "" {
				body = []byte("\n\x04json\x10\x05")
			}
			req := rpc.Message{Data: body, Attached: sent.Attached}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			var out rpc.Reply
			err = tr.Unary(ctx, call, &req, &out)
			got := outcome{Data: string(out.Message.Data), Attached: string(out.Message.Attached), Header: out.Header}
			if e, ok := errors.AsType[*rpc.Error](err); ok {
				got.Code, got.Native, got.Class, got.Message = e.Code, e.Native, e.Class, e.Message
			} else if err != nil {
				t.Fatal(err)
			}
			if len(got.Header) == 0 {
				got.Header = nil
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			out.Reset()

			// The frame that went out, with the number and the time of the captured one, is that.
			u := unaryCall{plan: call.Plan.(*plan), rpc: call}
			u.timeout = sent.Uint("timeout")
			var e *rpc.Error
			if u.body, u.encoding, u.made, e = u.plan.pack(&req, false, 1<<20); e != nil {
				t.Fatal(e)
			}
			u.contentType, u.attached, u.attachment = u.plan.form.content, req.Attached, uint32(len(req.Attached))
			frame := u.AppendFrame(nil, sent.ID)
			if c.name == "nofunc" {
				frame = bytes.Replace(frame, []byte("Echo/Echo"), []byte("Echo/Nope"), 1)
			}
			if c.name == "echo_gzip" { // the libraries pack in their own ways
				mine, err := trpckit.Read(bytes.NewReader(frame), true)
				if err != nil || !proto.Equal(mine.Header, sent.Header) {
					t.Errorf("%v: %v, want %v", err, mine.Header, sent.Header)
				}
			} else if !bytes.Equal(frame, all[c.name][0].raw) {
				t.Errorf("the gateway sends\n%x, the SDK\n%x", frame, all[c.name][0].raw)
			}
			if u.made != nil {
				u.made.Free()
			}
		})
	}
}

// TestErrorInfo: a business error says that it is one, with its code and the method, in the details and in a header.
func TestErrorInfo(t *testing.T) {
	s := kitSchema(t)
	m := method(t, s, "/trpc.kit.echo.Echo/Fail")
	o := &trpcv1.Options{Errors: []*trpcv1.ErrorRule{
		{From: 11, Code: "NOT_FOUND"},
		{From: -20, To: proto.Int32(-10), Code: "ABORTED", Status: 418},
	}}
	_, addr := kit(t)
	tr := dial(t, addr, o)
	for _, c := range []struct {
		ret    int
		want   codes.Code
		status int
	}{{11, codes.NotFound, 0}, {-15, codes.Aborted, 418}, {-9, codes.Unknown, 0}, {10001, codes.Unknown, 0}} {
		req := rpc.Message{Data: field(field(nil, 1, int(int32(c.ret))), 2, "text")}
		var out rpc.Reply
		err := tr.Unary(deadline(t), callOf(t, m, o), &req, &out)
		e, ok := errors.AsType[*rpc.Error](err)
		if !ok || e.Code != c.want || e.Class != rpc.Business || e.Native != int32(c.ret) || !e.Executed || e.Status != c.status || len(e.Details) != 1 {
			t.Fatalf("%d: %+v", c.ret, e)
		}
		var packed anypb.Any
		var info errdetails.ErrorInfo
		if err := proto.Unmarshal(e.Details[0], &packed); err != nil {
			t.Fatal(err)
		}
		if err := packed.UnmarshalTo(&info); err != nil {
			t.Fatal(err)
		}
		code := strconv.Itoa(c.ret)
		if info.GetDomain() != "trpc" || info.GetReason() != "BUSINESS" || info.GetMetadata()["code"] != code || info.GetMetadata()["method"] != m.Name {
			t.Errorf("%v", &info)
		}
		if got := e.Header.Get("trpc-func-ret"); got != code {
			t.Errorf("header %q", got)
		}
	}
}

// TestFrameworkCodes holds the table of codes.
func TestFrameworkCodes(t *testing.T) {
	p := &plan{method: method(t, kitSchema(t), "/trpc.kit.echo.Echo/Echo")}
	for _, c := range []struct {
		ret      int32
		code     codes.Code
		status   int
		executed bool
	}{
		{1, codes.Internal, 502, true},
		{2, codes.Internal, 502, true},
		{11, codes.Unimplemented, 501, false},
		{12, codes.Unimplemented, 501, true},
		{21, codes.DeadlineExceeded, 504, true},
		{22, codes.Unavailable, 503, false},
		{23, codes.ResourceExhausted, 429, true},
		{24, codes.DeadlineExceeded, 504, true},
		{31, codes.Internal, 500, true},
		{41, codes.Unauthenticated, 401, true},
		{51, codes.InvalidArgument, 400, true},
		{101, codes.DeadlineExceeded, 504, true},
		{102, codes.DeadlineExceeded, 504, true},
		{111, codes.Unavailable, 503, false},
		{121, codes.Internal, 502, true},
		{122, codes.Internal, 502, true},
		{123, codes.ResourceExhausted, 429, true},
		{124, codes.Unavailable, 503, false},
		{131, codes.Unavailable, 503, false},
		{141, codes.Unavailable, 502, true},
		{151, codes.InvalidArgument, 400, true},
		{161, codes.Canceled, 499, true},
		{171, codes.Unavailable, 502, true},
		{201, codes.Unavailable, 502, true},
		{211, codes.ResourceExhausted, 502, true},
		{222, codes.Internal, 502, true},
		{255, codes.DeadlineExceeded, 504, true},
		{301, codes.Unavailable, 502, true},
		{334, codes.DeadlineExceeded, 504, true},
		{351, codes.Internal, 502, true},
		{354, codes.DeadlineExceeded, 504, true},
		{999, codes.Unknown, 500, true},
		{1000, codes.Unknown, 500, true},
	} {
		e := p.failed(c.ret, 0, nil)
		if e.Code != c.code || e.Status != c.status || e.Executed != c.executed || (e.Class == rpc.Transport) == c.executed || e.Class == rpc.Business || e.Native != c.ret || e.Message != fmt.Sprintf("trpc error %d", c.ret) {
			t.Errorf("%d: %+v", c.ret, e)
		}
	}
	for _, ret := range []int32{77, 200, 256, 300, 356, 10001, -1, -12} {
		if e := p.failed(ret, 0, []byte("text")); e.Class != rpc.Business || e.Native != ret || e.Code != codes.Unknown || e.Message != "text" {
			t.Errorf("%d: %+v", ret, e)
		}
	}
	if e := p.failed(0, 0, []byte("only text")); e.Class != rpc.Business || e.Code != codes.Unknown || e.Message != "only text" {
		t.Errorf("%+v", e)
	}
}

// TestInfo: metadata becomes trans_info and the reverse; what was sent does not come back, and what is the framework's passes
// for those alone who may.
func TestInfo(t *testing.T) {
	s := kitSchema(t)
	m := method(t, s, "/trpc.kit.echo.Echo/Meta")
	answer := func(req *trpckit.Frame) (*trpckit.Frame, bool) {
		a := trpckit.Response(req, nil)
		a.Set("trans_info", req.Info("trans_info"))
		a.Set("trans_info", map[string]string{
			"app-own": "1", "App-Upper": "2", "app-bin": "\x00\xff", "app-raw": "\x00", "bad key": "3", "trpc-secret": "4", "app-changed": "theirs",
		})
		return a, true
	}
	for _, c := range []struct {
		name     string
		o        *trpcv1.Options
		protocol string
		header   []string
		sent     map[string]string
		bits     uint32
		got      []string
	}{
		{
			name: "plain", header: []string{"app-key", "v", "x-request-id", "id", "app-changed", "ours", "trpc-env", "x", "trpc-other", "x", "some-bin", "\x00"},
			sent: map[string]string{"app-key": "v", "x-request-id": "id", "app-changed": "ours", "some-bin": "\x00"},
			got:  []string{"app-bin=\x00\xff", "app-changed=theirs", "app-own=1", "app-upper=2"},
		},
		{
			name: "from tRPC", protocol: "trpc", header: []string{"trpc-env", "test", "trpc-dyeing-key", "d", "trpc-user-ip", "1.2.3.4"},
			sent: map[string]string{"trpc-env": "test", "trpc-dyeing-key": "d"}, bits: 5,
			got: []string{"app-bin=\x00\xff", "app-changed=theirs", "app-own=1", "app-raw=%00", "app-upper=2"},
		},
		{
			name: "configured", o: &trpcv1.Options{
				Env: "formal", DyeingKey: "k", RequestInfo: []string{"app-*"}, ResponseInfo: []string{"app-own", "trpc-secret"}, FrameworkInfo: []string{"trpc-user-ip"},
			},
			header: []string{"app-key", "v", "x-request-id", "id", "trpc-user-ip", "1.2.3.4"},
			sent:   map[string]string{"app-key": "v", "trpc-user-ip": "1.2.3.4", "trpc-env": "formal", "trpc-dyeing-key": "k"}, bits: 5,
			got: []string{"app-own=1", "trpc-secret=4"},
		},
		{
			name: "the caller's own wins", protocol: "trpc", o: &trpcv1.Options{Env: "formal", ResponseInfo: []string{"none"}}, header: []string{"trpc-env", "test"},
			sent: map[string]string{"trpc-env": "test"}, bits: 4,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := &trpckit.Server{Unary: answer}
			tr := dial(t, listen(t, srv.Serve), c.o)
			call := callOf(t, m, c.o, c.header...)
			if c.protocol != "" {
				call.Protocol = c.protocol
			}
			var out rpc.Reply
			if err := tr.Unary(deadline(t), call, &rpc.Message{}, &out); err != nil {
				t.Fatal(err)
			}
			req := srv.Requests()[0]
			if diff := cmp.Diff(c.sent, req.Info("trans_info")); diff != "" {
				t.Error(diff)
			}
			if req.Uint("message_type") != c.bits {
				t.Errorf("message type %d, want %d", req.Uint("message_type"), c.bits)
			}
			var got []string
			for _, p := range out.Header {
				got = append(got, p.Key+"="+p.Value)
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.got, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNames: callee, caller and function are what configuration and schema say.
func TestNames(t *testing.T) {
	m := method(t, kitSchema(t), "/trpc.kit.echo.Echo/Echo")
	srv, addr := kit(t)
	var out rpc.Reply
	if err := dial(t, addr, nil).Unary(deadline(t), callOf(t, m, nil), &rpc.Message{}, &out); err != nil {
		t.Fatal(err)
	}
	req := srv.Requests()[0]
	if req.Text("callee") != "trpc.kit.echo.Echo" || req.Text("caller") != "trpc.causeway.gateway.Gateway" || req.Text("func") != m.Name {
		t.Errorf("%v", req.Header)
	}
	if timeout := req.Uint("timeout"); timeout == 0 || timeout > 20_000 {
		t.Errorf("timeout %d", timeout)
	}
}

// TestOptions: what is wrong in options is told, with the fix.
func TestOptions(t *testing.T) {
	s := kitSchema(t)
	echo := method(t, s, "/trpc.kit.echo.Echo/Echo")
	for _, c := range []struct {
		o    *trpcv1.Options
		want string
	}{
		{&trpcv1.Options{ContentType: "xml"}, `content_type "xml" is not known: want one of pb, json, jce`},
		{&trpcv1.Options{ContentType: "jsn"}, `content_type "jsn" is not known: want one of pb, json, jce; did you mean "json"?`},
		{&trpcv1.Options{Encoding: "gzp"}, `encoding "gzp" is not known: want one of none, gzip, zlib, snappy-stream, snappy-block, lz4-stream, lz4-block; did you mean "gzip"?`},
		{&trpcv1.Options{Encoding: "snappy"}, `encoding "snappy" is not known: want one of none, gzip, zlib, snappy-stream, snappy-block, lz4-stream, lz4-block`},
		{&trpcv1.Options{Window: 1000}, `window: 1000 bytes are out of range: want 65535 to 1073741824`},
		{&trpcv1.Options{Connections: 5000}, `connections: 5000 to one instance are too many: at most 1024`},
		{&trpcv1.Options{Errors: []*trpcv1.ErrorRule{{From: 2, To: proto.Int32(1)}}}, `errors[0]: the range from 2 to 1 is empty`},
		{&trpcv1.Options{Errors: []*trpcv1.ErrorRule{{}, {Code: "NOT_FOND"}}}, `errors[1]: code "NOT_FOND" is none of gRPC that says of an error; did you mean "NOT_FOUND"?`},
		{&trpcv1.Options{Errors: []*trpcv1.ErrorRule{{Status: 99}}}, `errors[0]: status 99: want 200 to 599`},
		{&trpcv1.Options{Caller: strings.Repeat("x", 40_000)}, `caller, callee and name of the method have 40050 bytes, and a header has 65535`},
		{&trpcv1.Options{ContentType: "jce"}, `content_type jce: /trpc.kit.echo.Echo/Echo: field nested of trpc.kit.echo.EchoRequest makes it contain itself without a list or map between, which structs of TARS cannot`},
	} {
		if _, err := (Adapter{}).Bind(echo, c.o); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if _, err := (Adapter{}).Bind(method(t, s, "/trpc.kit.echo.Stream/Chat"), &trpcv1.Options{OneWay: []string{"Chat"}}); err == nil || err.Error() != "one_way: trpc.kit.echo.Stream/Chat is a bidirectional stream method, and those have answers" {
		t.Errorf("%v", err)
	}
}

// TestOneWay: no answer is waited for.
func TestOneWay(t *testing.T) {
	m := method(t, kitSchema(t), "/trpc.kit.echo.Echo/Note")
	o := &trpcv1.Options{OneWay: []string{"Note"}}
	srv, addr := kit(t)
	tr := dial(t, addr, o)
	var out rpc.Reply
	if err := tr.Unary(deadline(t), callOf(t, m, o), &rpc.Message{Data: field(nil, 1, "fire")}, &out); err != nil || len(out.Message.Data) > 0 {
		t.Fatalf("%v %v", err, out)
	}
	eventually(t, "the request", func() bool { return len(srv.Requests()) == 1 })
	if req := srv.Requests()[0]; req.Uint("call_type") != 1 || string(req.Body) != "\n\x04fire" {
		t.Errorf("%v %q", req.Header, req.Body)
	}
}

// TestDeadline: a call that gets no answer ends by its own timer; an answer that comes late is dropped, and the connection
// serves on.
func TestDeadline(t *testing.T) {
	s := kitSchema(t)
	slow, echo := method(t, s, "/trpc.kit.echo.Echo/Slow"), method(t, s, "/trpc.kit.echo.Echo/Echo")
	release := make(chan struct{})
	var once sync.Once
	srv := &trpckit.Server{Unary: func(req *trpckit.Frame) (*trpckit.Frame, bool) {
		if req.Text("func") != slow.Name {
			return nil, false
		}
		<-release
		return trpckit.Response(req, field(nil, 1, "late")), true
	}}
	addr := listen(t, srv.Serve)
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	tr := dial(t, addr, &trpcv1.Options{Connections: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var out rpc.Reply
	err := tr.Unary(ctx, callOf(t, slow, nil), &rpc.Message{}, &out)
	if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.DeadlineExceeded {
		t.Fatalf("%v", err)
	}
	once.Do(func() { close(release) })
	for range 3 {
		if err := tr.Unary(deadline(t), callOf(t, echo, nil), &rpc.Message{Data: field(nil, 1, "x")}, &out); err != nil || string(out.Message.Data) != "\n\x01x" {
			t.Fatalf("%v %q", err, out.Message.Data)
		}
		out.Reset()
	}
	if tr.cl.Made() != 1 {
		t.Errorf("%d connections", tr.cl.Made())
	}
}

// TestUnreachable: what cannot be reached was not executed; a connection that breaks under a call may have been.
func TestUnreachable(t *testing.T) {
	m := method(t, kitSchema(t), "/trpc.kit.echo.Echo/Echo")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	var out rpc.Reply
	tr := dial(t, l.Addr().String(), nil)
	e, ok := errors.AsType[*rpc.Error](tr.Unary(deadline(t), callOf(t, m, nil), &rpc.Message{}, &out))
	if !ok || e.Code != codes.Unavailable || e.Executed || e.Class != rpc.Transport || e.Reason != "UPSTREAM_UNREACHABLE" {
		t.Errorf("%+v", e)
	}
	if err := tr.Probe(deadline(t)); err == nil {
		t.Error("nobody is there, and the probe says that it is well")
	}
	addr := scripted(t, func(c net.Conn) { _, _ = trpckit.Read(c, true) })
	tr = dial(t, addr, nil)
	if err := tr.Probe(deadline(t)); err != nil {
		t.Error(err)
	}
	e, ok = errors.AsType[*rpc.Error](tr.Unary(deadline(t), callOf(t, m, nil), &rpc.Message{}, &out))
	if !ok || e.Code != codes.Unavailable || !e.Executed || e.Class != rpc.Transport || e.Reason != "UPSTREAM_RESET" {
		t.Errorf("%+v", e)
	}
}

// TestForms: every encoding of answers is read, and requests go out in the one that was chosen.
func TestForms(t *testing.T) {
	m := method(t, kitSchema(t), "/trpc.kit.echo.Echo/Echo")
	message := field(nil, 1, strings.Repeat("text ", 1000))
	for encoding, name := range encodingNames {
		t.Run(name, func(t *testing.T) {
			srv := &trpckit.Server{Unary: func(req *trpckit.Frame) (*trpckit.Frame, bool) {
				a := trpckit.Response(req, nil)
				as := uint32(encoding)
				if as == encodingSnappy {
					as = encodingSnappyStream
				}
				a.Body, _ = appendPacked(nil, message, as)
				a.Attached = []byte("attached")
				return a.Set("content_encoding", uint32(encoding)), true
			}}
			o := &trpcv1.Options{Encoding: name}
			if encoding == encodingSnappy {
				o = nil
			}
			tr := dial(t, listen(t, srv.Serve), o)
			var out rpc.Reply
			if err := tr.Unary(deadline(t), callOf(t, m, o), &rpc.Message{Data: message}, &out); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Message.Data, message) || string(out.Message.Attached) != "attached" || out.Message.Comp != rpc.Identity {
				t.Errorf("%d bytes, %q", len(out.Message.Data), out.Message.Attached)
			}
			out.Reset()
			req := srv.Requests()[0]
			body, _, err := appendUnpacked(nil, req.Body, req.Uint("content_encoding"), 1<<20, nil)
			if encoding == encodingNone || encoding == encodingSnappy {
				body, err = req.Body, nil
			} else if req.Uint("content_encoding") != uint32(encoding) {
				t.Errorf("sent in encoding %d", req.Uint("content_encoding"))
			}
			if err != nil || !bytes.Equal(body, message) {
				t.Errorf("sent %d bytes: %v", len(body), err)
			}
			// A caller that takes gzip gets it as it is.
			if encoding == encodingGzip {
				call := callOf(t, m, o)
				call.Packed = rpc.Gzip
				if err := tr.Unary(deadline(t), call, &rpc.Message{Data: message}, &out); err != nil {
					t.Fatal(err)
				}
				if out.Message.Comp != rpc.Gzip || len(out.Message.Data) > len(message)/2 {
					t.Errorf("%d bytes, packed by %d", len(out.Message.Data), out.Message.Comp)
				}
				out.Reset()
			}
		})
	}
}

// TestVersionZero: a peer that puts no number into the head is understood by its header.
func TestVersionZero(t *testing.T) {
	m := method(t, kitSchema(t), "/trpc.kit.echo.Echo/Echo")
	srv := &trpckit.Server{Unary: func(req *trpckit.Frame) (*trpckit.Frame, bool) {
		a := trpckit.Response(req, req.Body)
		a.ID, a.Version = 0, 0
		return a, true
	}}
	tr := dial(t, listen(t, srv.Serve), nil)
	var out rpc.Reply
	if err := tr.Unary(deadline(t), callOf(t, m, nil), &rpc.Message{Data: []byte("\n\x01x")}, &out); err != nil || string(out.Message.Data) != "\n\x01x" {
		t.Errorf("%v %q", err, out.Message.Data)
	}
	out.Reset()
}

// TestMetadataTooLarge: a header that has no room for the metadata is not sent.
func TestMetadataTooLarge(t *testing.T) {
	m := method(t, kitSchema(t), "/trpc.kit.echo.Echo/Echo")
	srv, addr := kit(t)
	tr := dial(t, addr, nil)
	var out rpc.Reply
	e, ok := errors.AsType[*rpc.Error](tr.Unary(deadline(t), callOf(t, m, nil, "app-a", strings.Repeat("x", 65_400)), &rpc.Message{}, &out))
	if !ok || e.Reason != "METADATA_TOO_LARGE" || e.Status != 431 || e.Executed {
		t.Errorf("%+v", e)
	}
	if err := tr.Unary(deadline(t), callOf(t, m, nil, "app-a", strings.Repeat("x", 65_000)), &rpc.Message{}, &out); err != nil {
		t.Error(err)
	}
	if n := len(srv.Requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	out.Reset()
}

// TestManyCalls: calls at once on few connections get their own answers.
func TestManyCalls(t *testing.T) {
	m := method(t, kitSchema(t), "/trpc.kit.echo.Echo/Attach")
	_, addr := kit(t)
	tr := dial(t, addr, nil)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			text := fmt.Sprintf("call-%d", i)
			call := callOf(t, m, nil, "app-key", text)
			var out rpc.Reply
			for range 5 {
				if err := tr.Unary(deadline(t), call, &rpc.Message{Data: field(nil, 1, text), Attached: []byte(text)}, &out); err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(out.Message.Data, field(nil, 1, text)) || string(out.Message.Attached) != strings.ToUpper(text) {
					t.Errorf("%s: %q %q", text, out.Message.Data, out.Message.Attached)
				}
				out.Reset()
			}
		})
	}
	wg.Wait()
	if n := tr.cl.Made(); n > 2 {
		t.Errorf("%d connections", n)
	}
}

// TestAlias: the option trpc.alias is the name that a method is called by.
func TestAlias(t *testing.T) {
	m := method(t, aliased(t), "/alias.test.Kit/Named")
	p, err := newPlan(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := protowire.AppendString(protowire.AppendTag(nil, 7, protowire.BytesType), "/v1/named"); !bytes.HasSuffix(p.names, want) {
		t.Errorf("%q", p.names)
	}
	if p, err = newPlan(method(t, aliased(t), "/alias.test.Kit/Plain"), nil); err != nil || !bytes.HasSuffix(p.names, []byte("/alias.test.Kit/Plain")) {
		t.Errorf("%q %v", p.names, err)
	}
}
