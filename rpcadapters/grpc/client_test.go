package grpc

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	spb "google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/echo"
	"github.com/causeway-gateway/causeway/transcode/schema"

	_ "google.golang.org/grpc/encoding/gzip" // for the server
)

// dial makes a transport that is closed with the test.
func dial(t testing.TB, target rpcadapters.Target) *transport {
	t.Helper()
	if target.DialTimeout == 0 {
		target.DialTimeout = 20 * time.Second // a busy machine is no fault
	}
	tr, err := Adapter{}.Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = tr.Close()
		eventually(t, "connections closed", func() bool { return tr.(*transport).cl.Conns() == 0 })
	})
	return tr.(*transport)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func call(method string, header ...string) *rpc.Call {
	c := &rpc.Call{Method: &schema.Method{Name: method}}
	for i := 0; i < len(header); i += 2 {
		c.Header.Add(header[i], header[i+1])
	}
	return c
}

// invoke makes a call with generated messages.
func invoke(ctx context.Context, t testing.TB, tr rpcadapters.Transport, c *rpc.Call, in, out proto.Message) (*rpc.Reply, error) {
	t.Helper()
	data, err := proto.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var reply rpc.Reply
	err = tr.Unary(ctx, c, &rpc.Message{Data: data}, &reply)
	if err == nil {
		if uerr := proto.Unmarshal(reply.Message.Data, out); uerr != nil {
			t.Fatal(uerr)
		}
	}
	reply.Message.Free()
	return &reply, err
}

func TestUnaryAgainstGRPCGo(t *testing.T) {
	s := echo.Start(t, "127.0.0.1:0", "a")
	tr := dial(t, rpcadapters.Target{Address: s.Address, MaxMessage: 1 << 20})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := call(echov1.Echo_Call_FullMethodName, "x-one", "1", "x-one", "2", "x-raw-bin", "\x00\xfe\xff", "user-agent", "mine/1", "grpc-timeout", "1n", "te", "gzip")
	var out echov1.CallReply
	reply, err := invoke(ctx, t, tr, c, &echov1.CallRequest{Text: "hello", Fill: 300_000}, &out)
	if err != nil {
		t.Fatal(err)
	}
	if out.GetText() != "hello" || len(out.GetFiller()) != 300_000 || out.GetDeadline().AsDuration() < 15*time.Second || out.GetDeadline().AsDuration() > 20*time.Second {
		t.Errorf("found %q, %d, %v", out.GetText(), len(out.GetFiller()), out.GetDeadline().AsDuration())
	}
	want := map[string]string{
		":authority": s.Address, "content-type": "application/grpc", "grpc-accept-encoding": "gzip",
		"x-one": "1, 2", "x-raw-bin": "00feff", "user-agent": "mine/1",
	}
	if d := cmp.Diff(want, out.GetMetadata()); d != "" {
		t.Errorf("metadata that arrived (-want +got):\n%s", d)
	}
	slices.SortFunc(reply.Header, func(a, b rpc.Pair) int { return strings.Compare(a.Key, b.Key) }) // grpc-go sends them in any order
	if d := cmp.Diff(rpc.Metadata{{Key: "x-instance", Value: "a"}, {Key: "x-raw-bin", Value: "\x00\xff"}}, reply.Header); d != "" {
		t.Errorf("header (-want +got):\n%s", d)
	}
	if d := cmp.Diff(rpc.Metadata{{Key: "x-cost", Value: "3"}}, reply.Trailer); d != "" {
		t.Errorf("trailer (-want +got):\n%s", d)
	}
}

func TestBusinessError(t *testing.T) {
	s := echo.Start(t, "127.0.0.1:0", "a")
	tr := dial(t, rpcadapters.Target{Address: s.Address})
	detail, err := anypb.New(&spb.ErrorInfo{Reason: "R", Domain: "d"})
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := proto.Marshal(detail)
	if err != nil {
		t.Fatal(err)
	}
	_, err = invoke(t.Context(), t, tr, call(echov1.Echo_Fail_FullMethodName), &echov1.FailRequest{Code: int32(codes.NotFound), Message: "no 100% täst\n", Details: []*anypb.Any{detail}}, nil)
	var e *rpc.Error
	if !errors.As(err, &e) {
		t.Fatalf("found %v", err)
	}
	if e.Code != codes.NotFound || e.Message != "no 100% täst\n" || e.Class != rpc.Business || !e.Executed || e.Native != 5 || e.Reason != "" {
		t.Errorf("found %+v", e)
	}
	if len(e.Details) != 1 || string(e.Details[0]) != string(encoded) {
		t.Errorf("details: %q", e.Details)
	}
	// A code that gRPC does not have.
	_, err = invoke(t.Context(), t, tr, call(echov1.Echo_Fail_FullMethodName), &echov1.FailRequest{Code: 77}, nil)
	if !errors.As(err, &e) || e.Code != codes.Unknown || e.Native != 77 || e.Class != rpc.Business {
		t.Errorf("found %+v", e)
	}
	// No such method.
	_, err = invoke(t.Context(), t, tr, call("/demo.echo.v1.Echo/None"), &echov1.FailRequest{}, nil)
	if !errors.As(err, &e) || e.Code != codes.Unimplemented || e.Class != rpc.Business {
		t.Errorf("found %+v", e)
	}
}

func TestManyCallsShareAConnection(t *testing.T) {
	s := echo.Start(t, "127.0.0.1:0", "a")
	tr := dial(t, rpcadapters.Target{Address: s.Address})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 50 {
				var out echov1.CallReply
				if _, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{Text: "x"}, &out); err != nil || out.GetText() != "x" {
					t.Errorf("found %q, %v", out.GetText(), err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := s.Conns.Load(); n != 1 {
		t.Errorf("want one connection, found %d", n)
	}
}

func TestDeadlineAndCancel(t *testing.T) {
	s := echo.Start(t, "127.0.0.1:0", "a")
	tr := dial(t, rpcadapters.Target{Address: s.Address})
	// On a busy machine a short deadline passes before the call is sent.
	var (
		e   *rpc.Error
		ctx context.Context
		err error
	)
	for limit := 50 * time.Millisecond; ; limit *= 2 {
		limited, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		ctx = limited
		_, err = invoke(ctx, t, tr, call(echov1.Echo_Wait_FullMethodName), &echov1.WaitRequest{Time: durationpb.New(time.Minute)}, nil)
		if !errors.As(err, &e) || e.Code != codes.DeadlineExceeded || e.Reason != "DEADLINE_EXCEEDED" {
			t.Fatalf("found %+v", err)
		}
		if e.Executed {
			break
		}
		if limit > 10*time.Second {
			t.Fatal("want the call sent")
		}
	}
	_, err = invoke(ctx, t, tr, call(echov1.Echo_Wait_FullMethodName), &echov1.WaitRequest{}, nil)
	if !errors.As(err, &e) || e.Code != codes.DeadlineExceeded || e.Executed {
		t.Errorf("want a deadline before anything was sent, found %+v", e)
	}
	eventually(t, "the server sees the deadline", func() bool { return s.Cancelled.Load() == 1 && s.Waiting.Load() == 0 })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		eventually(t, "the call waits", func() bool { return s.Waiting.Load() == 1 })
		cancel()
	}()
	_, err = invoke(ctx, t, tr, call(echov1.Echo_Wait_FullMethodName), &echov1.WaitRequest{Time: durationpb.New(time.Minute)}, nil)
	if !errors.As(err, &e) || e.Code != codes.Canceled || !e.Executed {
		t.Errorf("found %+v", e)
	}
	eventually(t, "the server sees the cancellation", func() bool { return s.Cancelled.Load() == 2 })
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	tr := dial(t, rpcadapters.Target{Address: address})
	var e *rpc.Error
	for range 3 {
		_, err = invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{}, nil)
		if !errors.As(err, &e) || e.Code != codes.Unavailable || e.Reason != "UPSTREAM_UNREACHABLE" || e.Executed || e.Class != rpc.Transport {
			t.Fatalf("found %+v", e)
		}
		if strings.Contains(e.Message, address) {
			t.Errorf("want no address in what the caller sees, found %q", e.Message)
		}
	}
	// It comes back: found again without a long wait.
	echo.Start(t, address, "late")
	eventually(t, "reached", func() bool {
		var out echov1.CallReply
		_, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{}, &out)
		return err == nil
	})
	_ = tr.Close()
	if _, err = invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{}, nil); !errors.As(err, &e) || e.Reason != "UPSTREAM_UNREACHABLE" || e.Executed {
		t.Errorf("after Close: found %+v", e)
	}
}

func TestMetadataThatCannotBeSent(t *testing.T) {
	s := echo.Start(t, "127.0.0.1:0", "a", grpc.MaxHeaderListSize(8<<10))
	tr := dial(t, rpcadapters.Target{Address: s.Address})
	var e *rpc.Error
	for _, h := range [][]string{{"x", "a\r\nb"}, {"x", "a\x00"}, {"x y", "a"}, {"X", "a"}, {"x", "ä"}, {"x", " a"}} {
		_, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName, h...), &echov1.CallRequest{}, nil)
		if !errors.As(err, &e) || e.Code != codes.InvalidArgument || e.Reason != "INVALID_METADATA" || e.Executed {
			t.Errorf("%q: found %+v", h, e)
		}
	}
	_, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName, "x", strings.Repeat("x", 9000)), &echov1.CallRequest{}, nil)
	if !errors.As(err, &e) || e.Status != 431 || e.Class != rpc.Framework || e.Reason != "METADATA_TOO_LARGE" || e.Executed {
		t.Errorf("found %+v", e)
	}
	if n := s.Calls.Load(); n != 0 {
		t.Errorf("want nothing to have arrived, found %d", n)
	}
}

func TestAnswerTooLarge(t *testing.T) {
	s := echo.Start(t, "127.0.0.1:0", "a")
	tr := dial(t, rpcadapters.Target{Address: s.Address, MaxMessage: 100_000})
	var e *rpc.Error
	_, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{Fill: 200_000}, nil)
	if !errors.As(err, &e) || e.Code != codes.ResourceExhausted || e.Reason != "ANSWER_TOO_LARGE" || e.Status != 502 || !e.Executed {
		t.Errorf("found %+v", e)
	}
	var out echov1.CallReply
	if _, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{Fill: 90_000}, &out); err != nil || s.Conns.Load() != 1 {
		t.Errorf("want the connection to live on, found %v, %d connections", err, s.Conns.Load())
	}
}

func TestLargeRequest(t *testing.T) {
	s := echo.Start(t, "127.0.0.1:0", "a", grpc.MaxRecvMsgSize(16<<20))
	tr := dial(t, rpcadapters.Target{Address: s.Address, MaxMessage: 16 << 20})
	data := make([]byte, 10<<20)
	for i := range data {
		data[i] = byte(i * 7)
	}
	var out echov1.CallReply
	if _, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{Data: data}, &out); err != nil {
		t.Fatal(err)
	}
	if string(out.GetData()) != string(data) {
		t.Error("want the same bytes back")
	}
}

// A request that is packed goes out as it is, and says so; grpc-go packs its answer in turn.
func TestGzipBothWays(t *testing.T) {
	s := echo.Start(t, "127.0.0.1:0", "a")
	tr := dial(t, rpcadapters.Target{Address: s.Address})
	data, err := proto.Marshal(&echov1.CallRequest{Text: strings.Repeat("packed", 1000)})
	if err != nil {
		t.Fatal(err)
	}
	var reply rpc.Reply
	if err := tr.Unary(t.Context(), call(echov1.Echo_Call_FullMethodName), &rpc.Message{Data: []byte(zip(string(data))), Comp: rpc.Gzip}, &reply); err != nil {
		t.Fatal(err)
	}
	defer reply.Reset()
	var out echov1.CallReply
	if err := proto.Unmarshal(reply.Message.Data, &out); err != nil || out.GetText() != strings.Repeat("packed", 1000) || reply.Message.Comp != rpc.Identity {
		t.Errorf("found %d bytes, packed %v, %v", len(out.GetText()), reply.Message.Comp, err)
	}
}

// A server that is being stopped in an orderly way costs no call.
func TestGracefulStopCostsNoCall(t *testing.T) {
	s := echo.Start(t, "127.0.0.1:0", "a")
	tr := dial(t, rpcadapters.Target{Address: s.Address})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var out echov1.CallReply
				if _, err := invoke(t.Context(), t, tr, call(echov1.Echo_Call_FullMethodName), &echov1.CallRequest{}, &out); err != nil {
					var e *rpc.Error
					if !errors.As(err, &e) || e.Executed {
						t.Errorf("found %v", err)
					}
				}
			}
		})
	}
	for i := range 5 {
		before := s.Calls.Load()
		eventually(t, "calls go through", func() bool { return s.Calls.Load() > before+100 })
		address := s.Address
		s.GracefulStop()
		s = echo.Start(t, address, string(rune('b'+i)))
	}
	close(stop)
	wg.Wait()
}
