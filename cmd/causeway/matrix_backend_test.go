package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/cmd/causeway/servant"
	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/rpcadapters/trpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// kindsServant is what the service of adaptertest.File is called over TARS.
const kindsServant = "Test.KindsServer.KindsObj"

// kindsBackend is a service with methods of every kind, which notes what reaches it. Requests that are answered come back as
// adaptertest.Echo has it. A text "fail" ends the call with an error of the application, "refuse NUMBER" with one of the
// framework, and "wait" waits for the end of the call, or until the backend lets it go.
type kindsBackend struct {
	address string
	waiting atomic.Int64 // calls that wait now
	told    atomic.Int64 // those whose end they were told

	mu   sync.Mutex
	seen []kindsCall
	let  chan struct{}
}

// kindsCall is a call that reached the backend.
type kindsCall struct {
	method string
	header rpc.Metadata
	left   time.Duration // until its deadline; 0: it has none
}

// The application's error of "fail", in protocols that have numbers for that and in gRPC.
const (
	failNumber = 10001
	failCode   = codes.NotFound
	failText   = "no gold"
)

func (b *kindsBackend) note(ctx context.Context, method string, header rpc.Metadata) {
	c := kindsCall{method: method, header: header}
	if due, ok := ctx.Deadline(); ok {
		c.left = time.Until(due)
	}
	b.mu.Lock()
	b.seen = append(b.seen, c)
	b.mu.Unlock()
}

// take gives the calls since the last time.
func (b *kindsBackend) take() []kindsCall {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.seen
	b.seen = nil
	return out
}

// letGo ends the calls that wait.
func (b *kindsBackend) letGo() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.let)
	b.let = make(chan struct{})
}

var errFail = errors.New("fail")

// refusal is an error of the framework.
type refusal codes.Code

func (r refusal) Error() string { return "refused on request" }

func (b *kindsBackend) act(ctx context.Context, text string) error {
	var n uint32
	switch {
	case text == "fail":
		return errFail
	case text == "wait":
		b.mu.Lock()
		let := b.let
		b.mu.Unlock()
		b.waiting.Add(1)
		defer b.waiting.Add(-1)
		select {
		case <-ctx.Done():
			b.told.Add(1)
			return ctx.Err()
		case <-let:
		}
	case strings.HasPrefix(text, "refuse "):
		if _, err := fmt.Sscanf(text, "refuse %d", &n); err == nil {
			return refusal(n)
		}
	}
	return nil
}

// handle answers a call of any kind.
func (b *kindsBackend) handle(ctx context.Context, method string, recv func(*adaptertest.Message) error, send func(*adaptertest.Message) error) error {
	var texts []string
	for {
		var m adaptertest.Message
		err := recv(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.told.Add(1) // before it had the request
			return err
		}
		if err := b.act(ctx, m.GetText()); err != nil {
			return err
		}
		texts = append(texts, m.GetText())
		switch method {
		case adaptertest.Unary, adaptertest.Safe:
			return send(&m)
		case adaptertest.Server:
			for range m.GetNumber() {
				if err := send(&m); err != nil {
					return err
				}
			}
			return nil
		case adaptertest.Bidi:
			if err := send(&m); err != nil {
				return err
			}
		}
	}
	if method == adaptertest.Client {
		return send(&adaptertest.Message{Text: strings.Join(texts, " "), Number: int64(len(texts))})
	}
	return nil
}

// startKinds runs the backend behind a protocol.
func startKinds(t testing.TB, protocol string, s *schema.Schema) *kindsBackend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	b := &kindsBackend{address: ln.Addr().String(), let: make(chan struct{})}
	var serve, stop func()
	switch protocol {
	case "gRPC":
		server := grpc.NewServer(grpc.UnknownServiceHandler(b.overGRPC), grpc.MaxRecvMsgSize(16<<20))
		serve, stop = func() { _ = server.Serve(ln) }, server.Stop // ends with Stop
	case "TARS":
		serve, stop = b.over(t, ln, tars.Inlet{}, &tarsadapterv1.Listener{Servants: []*tarsadapterv1.Servant{{Name: kindsServant, Service: "test.v1.Kinds"}}}, s, adaptertest.Unary, adaptertest.Safe)
	default:
		serve, stop = b.over(t, ln, trpc.Inlet{}, trpc.Inlet{}.Config(), s, adaptertest.Unary, adaptertest.Safe, adaptertest.Server, adaptertest.Client, adaptertest.Bidi)
	}
	done := make(chan struct{})
	go func() { defer close(done); serve() }()
	t.Cleanup(func() { stop(); <-done })
	return b
}

func (b *kindsBackend) overGRPC(_ any, ss grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(ss)
	md, _ := metadata.FromIncomingContext(ss.Context())
	var header rpc.Metadata
	for k, values := range md {
		for _, v := range values {
			header.Add(k, v)
		}
	}
	b.note(ss.Context(), method, header)
	if err := ss.SetHeader(metadata.Pairs("x-answer", "yes", "x-answer-bin", "\x00\xff", "x-consumer-name", "boss")); err != nil {
		return err
	}
	ss.SetTrailer(metadata.Pairs("x-end", "3"))
	err := b.handle(ss.Context(), method, func(m *adaptertest.Message) error { return ss.RecvMsg(m) }, func(m *adaptertest.Message) error { return ss.SendMsg(m) })
	var r refusal
	switch {
	case errors.Is(err, errFail):
		st, err := status.New(failCode, failText).WithDetails(&errdetails.ErrorInfo{Reason: "ASKED", Domain: "test"})
		if err != nil {
			return err
		}
		return st.Err()
	case errors.As(err, &r):
		return status.Error(codes.Code(r), r.Error())
	}
	return err
}

// over serves some of the methods by an inlet.
func (b *kindsBackend) over(t testing.TB, ln net.Listener, in rpcadapters.Inlet, conf proto.Message, s *schema.Schema, methods ...string) (serve, stop func()) {
	t.Helper()
	handlers := map[string]rpc.Handler{}
	for _, m := range methods {
		handlers[m] = kindsHandler{b}
	}
	server, err := servant.New(in, conf, s, handlers, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = server.Serve(ln) }, server.Stop // ends with Stop
}

// kindsHandler is the backend behind an inlet.
type kindsHandler struct{ b *kindsBackend }

// Handle implements rpc.Handler.
func (h kindsHandler) Handle(ctx context.Context, c *rpc.Call) error {
	h.b.note(ctx, c.Method.Name, c.Clone().Header)
	c.Reply.Header.Add("x-answer", "yes")
	c.Reply.Header.Add("x-answer-bin", "\x00\xff")
	c.Reply.Header.Add("x-consumer-name", "boss")
	c.Reply.Trailer.Add("x-end", "3")
	recv := func(m *adaptertest.Message) error {
		var in rpc.Message
		if err := c.Stream.Recv(&in); err != nil {
			return err
		}
		defer in.Free()
		return proto.Unmarshal(in.Data, m)
	}
	send := func(m *adaptertest.Message) error {
		raw, err := proto.Marshal(m)
		if err != nil {
			return err
		}
		return c.Stream.Send(&rpc.Message{Data: raw}, false)
	}
	if c.Method.Kind == schema.Unary {
		recv = func(m *adaptertest.Message) error {
			in, err := c.Body.Message(ctx, c.Method.Input)
			if err != nil {
				return err
			}
			return proto.Unmarshal(in.Data, m)
		}
		send = func(m *adaptertest.Message) (err error) {
			c.Reply.Message.Data, err = proto.Marshal(m)
			return err
		}
	}
	err := h.b.handle(ctx, c.Method.Name, recv, send)
	var r refusal
	switch {
	case errors.Is(err, errFail):
		return &rpc.Error{Code: codes.Unknown, Class: rpc.Business, Executed: true, Native: failNumber, Message: failText}
	case errors.As(err, &r):
		return rpc.Refuse(codes.Code(r), "ASKED", "%s", r)
	}
	return err
}
