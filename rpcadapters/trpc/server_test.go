package trpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// asTheSDK are options by which answers have what trpc-go's have, and no more.
func asTheSDK() *trpcv1.Listener {
	return &trpcv1.Listener{EchoInfo: true, ResponseInfo: []string{"app-resp"}, Window: 65535}
}

// TestCapturedClients: what the SDK's clients have sent is answered as the SDK's server has answered it, byte for byte but
// for the texts of errors of its own.
func TestCapturedClients(t *testing.T) {
	s := kitSchema(t)
	for name, steps := range captures(t) {
		switch name {
		case "meta": // its answer has who called
			continue
		case "probe_client_reset": // a reset is not answered with one, nor what came right before it
			continue
		}
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, s)
			p := connect(t, d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{}))
			for i, step := range steps {
				switch {
				case step.client:
					if _, err := p.Write(step.raw); err != nil {
						t.Fatal(err)
					}
				case step.text == "EOF":
					if _, err := p.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
						t.Errorf("step %d: %v", i, err)
					}
				case step.text == "timeout":
					eventually(t, "the call is over", func() bool { calls, _ := d.done(); return len(calls) == 1 })
				default:
					want := step.raw
					got := p.next()
					if name == "probe_two_streams_on_one_conn" {
						// The streams answer beside each other.
						theirs := slices.ContainsFunc(steps, func(s captured) bool { return !s.client && bytes.Equal(s.raw, got.Bytes()) })
						if !theirs {
							t.Errorf("step %d: %x", i, got.Bytes())
						}
						continue
					}
					mine, err := trpckit.Read(bytes.NewReader(want), false)
					if err != nil {
						t.Fatal(err)
					}
					if mine.Kind == trpckit.Unary && mine.Int("ret") == 12 {
						if got.Int("ret") != 12 || got.Text("error_msg") == "" {
							t.Errorf("%v", got.Header)
						}
						continue
					}
					if mine.Kind == trpckit.Close {
						mine.Set("func_ret", mine.Int("ret")) // for clients of trpc-cpp
						want = mine.Bytes()
					}
					if got := got.Bytes(); !bytes.Equal(got, want) {
						if name == "echo_gzip" { // too small to be packed again
							continue
						}
						t.Errorf("step %d:\n%x, the SDK\n%x", i, got, want)
					}
				}
			}
		})
	}
}

type captured = step

// TestServerInfo: trans_info becomes metadata by the header rule, and answers' metadata trans_info; the framework's names are
// nobody's but dyeing and environment.
func TestServerInfo(t *testing.T) {
	d := newDoor(t, kitSchema(t))
	d.handler = func(_ context.Context, c *rpc.Call) error {
		c.Reply.Header.Add("app-head", "h")
		c.Reply.Header.Add("trpc-ret", "forged")
		c.Reply.Header.Add("some-bin", "\x00\xff")
		c.Reply.Trailer.Add("app-tail", "t")
		return nil
	}
	p := connect(t, d.open(&trpcv1.Listener{EchoInfo: true}, rpcadapters.Limits{}, server.Options{}))
	p.send(trpckit.Request(7, "/trpc.kit.echo.Echo/Echo", nil).Set("timeout", uint32(5000)).Set("caller", "trpc.peer.test.Client").Set("callee", "trpc.kit.echo.Echo").Set("message_type", uint32(3)).Set("trans_info", map[string]string{
		"App-Key": "v", "trpc-env": "test", "trpc-dyeing-key": "d", "trpc-user-ip": "1.2.3.4", "x-consumer": "forged", "X_Consumer-Name": "forged",
		"grpc-status": "5", "cookie": "c", "bad key": "1", "raw": "\x00", "own-bin": "\x01\x02", "host": "h", "x-forwarded-for": "8.8.8.8",
	}))
	f := p.next()
	want := map[string]string{
		"App-Key": "v", "trpc-env": "test", "trpc-dyeing-key": "d", "trpc-user-ip": "1.2.3.4", "x-consumer": "forged", "X_Consumer-Name": "forged",
		"grpc-status": "5", "cookie": "c", "bad key": "1", "raw": "\x00", "own-bin": "\x01\x02", "host": "h", "x-forwarded-for": "8.8.8.8",
		"app-head": "h", "app-tail": "t", "some-bin": "\x00\xff", "x-request-id": "id-1",
	}
	if diff := cmp.Diff(want, f.Info("trans_info")); diff != "" {
		t.Error(diff)
	}
	eventually(t, "the call is over", func() bool { calls, _ := d.done(); return len(calls) == 1 })
	calls, _ := d.done()
	var got []string
	for _, pair := range calls[0].Header {
		got = append(got, pair.Key+"="+pair.Value)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"app-key=v", "own-bin=\x01\x02", "raw=%00", "trpc-dyeing-key=d", "trpc-env=test", "x-request-id=id-1"}, got); diff != "" {
		t.Error(diff)
	}
	if c := calls[0]; c.Protocol != "trpc" || !c.Peer.IsValid() || c.HTTP != nil || c.Times.Start.IsZero() ||
		c.Caller != "trpc.peer.test.Client" || c.Callee != "trpc.kit.echo.Echo" || c.Marks != 3 || f.Uint("message_type") != 3 {
		t.Errorf("%+v", c)
	}
}

// TestServerErrors: each end of a call has its code on both kinds of calls.
func TestServerErrors(t *testing.T) {
	s := kitSchema(t)
	for _, c := range []struct {
		name         string
		err          error
		ret, funcRet int32
		message      string
	}{
		{"business", &rpc.Error{Class: rpc.Business, Code: codes.NotFound, Native: 5, Message: "no such thing"}, 0, 5, "no such thing"},
		{"negative", &rpc.Error{Class: rpc.Business, Code: codes.Unknown, Native: -7, Message: "m"}, 0, -7, "m"},
		{"business without a code of its own", &rpc.Error{Class: rpc.Business, Code: codes.Aborted, Message: "m"}, 0, 10, "m"},
		{"too late for a gRPC service", &rpc.Error{Class: rpc.Business, Code: codes.DeadlineExceeded, Native: 4, Message: "m"}, 21, 0, "m"},
		{"unknown to a gRPC service", &rpc.Error{Class: rpc.Business, Code: codes.Unimplemented, Native: 12, Message: "m"}, 12, 0, "m"},
		{"a number of a tRPC service that is also a status", &rpc.Error{Class: rpc.Business, Code: codes.DeadlineExceeded, Native: 4, Message: "m", Header: rpc.Metadata{{Key: "trpc-func-ret", Value: "4"}}}, 0, 4, "m"},
		{"of a tRPC upstream", &rpc.Error{Class: rpc.Framework, Code: codes.Unavailable, Native: 22, Message: "too busy"}, 22, 0, "too busy"},
		{"of a TARS upstream", &rpc.Error{Class: rpc.Framework, Code: codes.Unimplemented, Native: -3, Message: "m"}, 12, 0, "m"},
		{"unreachable", &rpc.Error{Class: rpc.Transport, Code: codes.Unavailable, Reason: "UPSTREAM_UNREACHABLE", Message: "m"}, 111, 0, "m"},
		{"cut off", &rpc.Error{Class: rpc.Transport, Code: codes.Unavailable, Reason: "UPSTREAM_RESET", Executed: true, Message: "m"}, 141, 0, "m"},
		{"nobody there", rpc.Refuse(codes.Unavailable, "NO_INSTANCE", "m"), 131, 0, "m"},
		{"throttled", rpc.Refuse(codes.ResourceExhausted, "RATE_LIMITED", "m"), 23, 0, "m"},
		{"unauthenticated", rpc.Refuse(codes.Unauthenticated, "NO_TOKEN", "m"), 41, 0, "m"},
		{"forbidden", rpc.Refuse(codes.PermissionDenied, "DENIED", "m"), 41, 0, "m"},
		{"invalid", rpc.Refuse(codes.InvalidArgument, "INVALID", "m"), 51, 0, "m"},
		{"deadline", context.DeadlineExceeded, 21, 0, "deadline exceeded"},
		{"cancelled", context.Canceled, 161, 0, "the caller cancelled the call"},
		{"internal", errors.New("secret"), 31, 0, "internal error"},
		{"answered by a plugin", &rpc.Answer{Status: 302, Code: codes.Unauthenticated, Message: "log in"}, 41, 0, "log in"},
		{"long", rpc.Refuse(codes.Unknown, "X", "%s", strings.Repeat("ä", 10_000)), 999, 0, strings.Repeat("ä", maxText/2-1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDoor(t, s)
			started := false
			d.handler = func(_ context.Context, call *rpc.Call) error {
				if call.Stream != nil && started {
					if err := call.Stream.Start(); err != nil {
						return err
					}
				}
				return c.err
			}
			p := connect(t, d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{}))
			p.send(trpckit.Request(7, "/trpc.kit.echo.Echo/Echo", []byte("\n\x01x")))
			f := p.next()
			if f.ID != 7 || f.Uint("request_id") != 7 || f.Int("ret") != c.ret || f.Int("func_ret") != c.funcRet || f.Text("error_msg") != c.message || len(f.Body) > 0 {
				t.Errorf("%v %q", f.Header, f.Body)
			}
			p.send(trpckit.Open(100, kitChat, 65535))
			f = p.next()
			if code := f.Int("response_meta.ret"); f.Kind != trpckit.Init || code != c.ret+c.funcRet || f.Text("response_meta.error_msg") != c.message || f.Text("request_meta.func") != kitChat {
				t.Errorf("%v", f.Header)
			}
			started = true
			p.send(trpckit.Open(101, kitChat, 65535))
			if f = p.next(); f.Kind != trpckit.Init || f.Int("response_meta.ret") != 0 {
				t.Errorf("%v", f.Header)
			}
			f = p.next()
			if f.Kind != trpckit.Close || f.Int("close_type") != 1 || f.Int("ret") != c.ret+c.funcRet || f.Int("func_ret") != c.funcRet || f.Text("msg") != c.message {
				t.Errorf("%v", f.Header)
			}
			eventually(t, "the calls are over", func() bool { calls, _ := d.done(); return len(calls) == 3 })
			_, sent := d.done()
			for _, s := range sent {
				if s.Code != rpcadapters.RPCError(c.err).Code || s.Status != 0 {
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// TestServerForms: requests in every content type and encoding that is known are read; what is not known is told.
func TestServerForms(t *testing.T) {
	d := newDoor(t, kitSchema(t))
	p := connect(t, d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{}))
	message := field(nil, 1, strings.Repeat("text ", 1000))
	for i, as := range []uint32{encodingNone, encodingGzip, encodingSnappyBlock, encodingSnappyStream, encodingZlib, encodingSnappyStream, encodingSnappyBlock, encodingLZ4Stream, encodingLZ4Block} {
		e := as
		if i == 2 || i == 3 { // as trpc-cpp and trpc-go have it
			e = encodingSnappy
		}
		body, err := appendPacked(nil, message, as)
		if err != nil {
			t.Fatal(err)
		}
		req := trpckit.Request(uint32(i)+1, "/trpc.kit.echo.Echo/Attach", body).Set("content_encoding", e)
		req.Attached = []byte("attached")
		p.send(req)
		f := p.next()
		if f.Uint("content_encoding") != e || e != encodingNone && e != encodingLZ4Block && len(f.Body) > len(message)/2 {
			t.Errorf("%s: %v, %d bytes", encodingNames[e], f.Header, len(f.Body))
		}
		got := f.Body
		if as != encodingNone {
			if got, _, err = appendUnpacked(nil, f.Body, as, 1<<20, nil); err != nil {
				t.Error(err)
			}
		}
		if !bytes.Equal(got, message) || string(f.Attached) != "ATTACHED" {
			t.Errorf("%s: %d bytes, %q, %v", encodingNames[e], len(got), f.Attached, f.Header)
		}
	}
	for _, c := range []struct {
		name string
		req  *trpckit.Frame
		ret  int32
		want string
	}{
		{"unknown content", trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", []byte("x")).Set("content_type", uint32(3)), 1, "content_type 3 is not known here: want 0 (pb), 2 (json), or 1 (jce) where the messages have such a form"},
		{"unknown encoding", trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", []byte("x")).Set("content_encoding", uint32(8)), 1, "content_encoding 8 is not known here"},
		{"not JSON", trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", []byte("{")).Set("content_type", uint32(2)), 1, "1:2: the text ends within an object: want a member or }"},
		{"unknown field", trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", []byte(`{"nope":1}`)).Set("content_type", uint32(2)), 1, `1:2: EchoRequest has no field "nope"`},
		{"not gzip", trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", []byte("x")).Set("content_encoding", uint32(1)), 1, "wanted a body packed by gzip: not of its format, or cut"},
		{"bomb", trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", bomb(t)).Set("content_encoding", uint32(1)), 1, "the message is larger than 4194304 bytes"},
		{"too large", trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", make([]byte, 5<<20)), 1, "the message is larger than 4194304 bytes"},
		{"attachment beyond the frame", trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", []byte("x")).Set("attachment_size", uint32(2)), 1, "wanted an attachment within the frame, found a size of 2 where 1 bytes follow the header"},
		{"stream without one", trpckit.Request(9, kitChat, nil), 12, "trpc.kit.echo.Stream/Chat is a bidirectional stream method: open a stream for it"},
		{"no header", trpckit.Request(9, "", nil), 12, "no method  is served here"},
	} {
		p.send(c.req)
		f := p.next()
		if f.Int("ret") != c.ret || f.ID != 9 || f.Uint("request_id") != 9 {
			t.Errorf("%s: %v", c.name, f.Header)
		}
		if msg := f.Text("error_msg"); msg != c.want && !strings.HasPrefix(c.want, "1:") {
			t.Errorf("%s: %s", c.name, msg)
		}
	}
	broken := trpckit.Request(9, "x", nil).Bytes()
	broken[headLen] = 0xff
	if _, err := p.Write(broken); err != nil {
		t.Fatal(err)
	}
	if f := p.next(); f.Int("ret") != 1 || f.Uint("request_id") != 9 || !strings.HasPrefix(f.Text("error_msg"), "header of a request: ") {
		t.Errorf("%v", f.Header)
	}
	p.send(trpckit.Request(10, "/trpc.kit.echo.Echo/Echo", []byte("\n\x01x")))
	if f := p.next(); string(f.Body) != "\n\x01x" {
		t.Errorf("afterwards: %v", f.Header)
	}
}

func bomb(t testing.TB) []byte {
	t.Helper()
	b, err := appendPacked(nil, make([]byte, 8<<20), encodingGzip)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestServerTooLarge: a frame that is larger than is taken is answered, and the connection serves on.
func TestServerTooLarge(t *testing.T) {
	d := newDoor(t, kitSchema(t))
	p := connect(t, d.open(asTheSDK(), rpcadapters.Limits{MaxMessage: 1 << 16}, server.Options{}))
	p.send(trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", make([]byte, 1<<18)))
	if f := p.next(); f.Int("ret") != 1 || f.Uint("request_id") != 9 || f.Text("error_msg") != "the request is larger than is taken" {
		t.Errorf("%v", f.Header)
	}
	p.send(trpckit.Open(100, kitChat, 65535))
	p.next()
	p.send(trpckit.Message(100, make([]byte, 1<<18)))
	if f := p.next(); f.Kind != trpckit.Close || f.Int("ret") != 1 || f.Text("msg") != "the message is larger than is taken" {
		t.Errorf("%v", f.Header)
	}
	p.send(trpckit.Request(10, "/trpc.kit.echo.Echo/Echo", []byte("\n\x01x")))
	if f := p.next(); string(f.Body) != "\n\x01x" {
		t.Errorf("afterwards: %v", f.Header)
	}
}

// TestServerDeadline: a call ends with the time that its client gives it, and that of the route.
func TestServerDeadline(t *testing.T) {
	d := newDoor(t, kitSchema(t))
	p := connect(t, d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{}))
	p.send(trpckit.Request(1, "/trpc.kit.echo.Echo/Slow", field(nil, 1, 60_000)).Set("timeout", uint32(30)))
	if f := p.next(); f.Int("ret") != 21 {
		t.Errorf("%v", f.Header)
	}
	d.options.Timeout, d.options.StreamAge = 30*time.Millisecond, 30*time.Millisecond
	p.send(trpckit.Request(2, "/trpc.kit.echo.Echo/Slow", field(nil, 1, 60_000)).Set("timeout", uint32(60_000)))
	if f := p.next(); f.Int("ret") != 21 {
		t.Errorf("%v", f.Header)
	}
	p.send(trpckit.Open(100, kitChat, 65535))
	if f := p.next(); f.Kind != trpckit.Init {
		t.Errorf("%v", f.Header)
	}
	if f := p.next(); f.Kind != trpckit.Close || f.Int("close_type") != 1 || f.Int("ret") != 21 {
		t.Errorf("%v", f.Header)
	}
}

// TestServerGone: a client that resets a stream, or goes, ends its calls; nothing is left behind.
func TestServerGone(t *testing.T) {
	d := newDoor(t, kitSchema(t))
	d.handler = func(ctx context.Context, c *rpc.Call) error {
		if c.Stream != nil {
			return serveStream(c)
		}
		<-ctx.Done()
		return ctx.Err()
	}
	addr := d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{})
	p := connect(t, addr)
	p.send(trpckit.Open(100, kitChat, 65535))
	p.next()
	p.send(trpckit.End(100, 1, 161, "cancel"))
	eventually(t, "the first call is over", func() bool { calls, _ := d.done(); return len(calls) == 1 })
	_, sent := d.done()
	if sent[0].Code != codes.Canceled {
		t.Errorf("%+v", sent[0])
	}
	// Its number is free again, and nothing was said on it.
	p.send(trpckit.Open(100, kitChat, 65535))
	if f := p.next(); f.Kind != trpckit.Init {
		t.Errorf("%v", f.Header)
	}
	p.send(trpckit.Open(102, kitSum, 65535), trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", nil))
	p.next()
	eventually(t, "three are inside", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.inside == 3 })
	p.Close()
	eventually(t, "all calls are over", func() bool { calls, _ := d.done(); return len(calls) == 4 })
	_, sent = d.done()
	for _, s := range sent {
		if s.Code != codes.Canceled {
			t.Errorf("%+v", s)
		}
	}
}

// TestServerPanic: a call that panics is answered, and the others go on.
func TestServerPanic(t *testing.T) {
	d := newDoor(t, kitSchema(t))
	d.handler = func(context.Context, *rpc.Call) error { panic("asked") }
	p := connect(t, d.open(asTheSDK(), rpcadapters.Limits{}, server.Options{}))
	p.send(trpckit.Request(9, "/trpc.kit.echo.Echo/Echo", nil), trpckit.Open(7, kitChat, 65535))
	for range 2 {
		f := p.next()
		if f.Kind == trpckit.Unary && f.Int("ret") != 31 || f.Kind == trpckit.Init && f.Int("response_meta.ret") != 31 {
			t.Errorf("%v", f.Header)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.panics != 2 {
		t.Errorf("%d panics", d.panics)
	}
}

// TestBothSides: the adapter and the inlet against each other, all kinds of calls at once over TLS-less connections.
func TestBothSides(t *testing.T) {
	s := kitSchema(t)
	d := newDoor(t, s)
	tr := dial(t, d.open(nil, rpcadapters.Limits{}, server.Options{}), nil)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			var out rpc.Reply
			text := fmt.Sprint("t", i)
			if err := tr.Unary(deadline(t), callOf(t, method(t, s, "/trpc.kit.echo.Echo/Attach"), nil), &rpc.Message{Data: field(nil, 1, text), Attached: []byte(text)}, &out); err != nil || string(out.Message.Attached) != strings.ToUpper(text) {
				t.Errorf("%v", err)
			}
			out.Reset()
			err := tr.Unary(deadline(t), callOf(t, method(t, s, "/trpc.kit.echo.Echo/Fail"), nil), &rpc.Message{Data: field(field(nil, 1, 11), 2, text)}, &out)
			if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Class != rpc.Business || e.Native != 11 || e.Message != text {
				t.Errorf("%v", err)
			}
			st, err := tr.Open(deadline(t), callOf(t, method(t, s, kitCount), nil))
			if err != nil {
				t.Error(err)
				return
			}
			defer st.Close()
			if err := st.Send(&rpc.Message{Data: field(field(field(field(nil, 1, 100), 2, 9000), 3, 22), 4, 90)}); err != nil {
				t.Error(err)
			}
			if err := st.CloseSend(); err != nil {
				t.Error(err)
			}
			messages, err := receive(st)
			// A code of the application that is one of the framework's stays what it is.
			if e, ok := errors.AsType[*rpc.Error](err); len(messages) != 90 || !ok || e.Class != rpc.Business || e.Native != 22 {
				t.Errorf("%d messages, %v", len(messages), err)
			}
		})
	}
	wg.Wait()
}
