package proxy_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
)

// chatBench is a bench that serves the chat, with a plugin in front that puts caller in the place of the caller's stream.
func chatBench(t *testing.T, caller rpc.Stream, open func(context.Context, *rpc.Call) (rpcadapters.ClientStream, error)) (*bench, *spy) {
	t.Helper()
	set := filepath.Join(t.TempDir(), "chat.binpb")
	if err := os.WriteFile(set, descriptors.Encode(t, chatv1.File_demo_chat_v1_chat_proto), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &spy{name: "outer", handle: func(next rpc.Handler, ctx context.Context, c *rpc.Call) error {
		c.Stream = caller
		return next.Handle(ctx, c)
	}}
	b := mustBench(t, strings.ReplaceAll(document, "SET", set)+"plugins: [{name: outer}]\n", s.kind())
	b.open = open
	return b, s
}

// quietCaller is a caller who sends one request, and then nothing until it is stopped.
type quietCaller struct {
	requests int
	once     sync.Once
	stopped  chan struct{}
	inside   atomic.Int64 // calls of Recv
	asked    chan struct{}
	starts   int
	answers  int
	sent     chan struct{} // there was an answer
}

func newQuietCaller() *quietCaller {
	return &quietCaller{stopped: make(chan struct{}), asked: make(chan struct{}, 8), sent: make(chan struct{}, 8)}
}

func (q *quietCaller) Recv(m *rpc.Message) error {
	q.inside.Add(1)
	defer q.inside.Add(-1)
	if q.requests++; q.requests == 1 {
		m.Own(rpc.GetBuffer())
		return nil
	}
	q.asked <- struct{}{}
	<-q.stopped
	return io.EOF
}
func (q *quietCaller) Start() error                  { q.starts++; return nil }
func (q *quietCaller) Send(*rpc.Message, bool) error { q.answers++; q.sent <- struct{}{}; return nil }
func (q *quietCaller) Stop()                         { q.once.Do(func() { close(q.stopped) }) }

// oneCaller is a caller with a single request.
type oneCaller struct{ *quietCaller }

func (o oneCaller) Recv(m *rpc.Message) error {
	if o.requests++; o.requests > 1 {
		return io.EOF
	}
	m.Own(rpc.GetBuffer())
	return nil
}

// upstreamStream is the upstream's half of a streaming call.
type upstreamStream struct {
	header func() (rpc.Metadata, error)
	recv   func(m *rpc.Message) error
	close  func() // nil: nothing is to be done
}

func (u *upstreamStream) Send(*rpc.Message) error       { return nil }
func (u *upstreamStream) CloseSend() error              { return nil }
func (u *upstreamStream) Header() (rpc.Metadata, error) { return u.header() }
func (u *upstreamStream) Recv(m *rpc.Message) error     { return u.recv(m) }
func (u *upstreamStream) Ready() bool                   { return false }
func (u *upstreamStream) Trailer() rpc.Metadata         { return nil }
func (u *upstreamStream) Close() {
	if u.close != nil {
		u.close()
	}
}

// A panic on the way of the answers ends the requests too before the call is over: nobody reads from a call, or from the
// exchange under it, that may serve somebody else by then.
func TestPanicInAnswersEndsTheRequests(t *testing.T) {
	caller := newQuietCaller()
	b, s := chatBench(t, caller, func(context.Context, *rpc.Call) (rpcadapters.ClientStream, error) {
		return &upstreamStream{
			header: func() (rpc.Metadata, error) { return nil, nil },
			recv: func(*rpc.Message) error {
				<-caller.asked // the requests are waited for
				panic("boom")
			},
		}, nil
	})
	var code codes.Code
	s.done = func(_ *rpc.Call, sent rpc.Sent) { code = sent.Code }
	b.visit("POST", "/v1/rooms/a:talk", "")
	if n := caller.inside.Load(); n != 0 {
		t.Errorf("the call is over, and somebody still reads its requests")
	}
	caller.Stop() // for the leak check, whatever came of it
	if n := panics(t, b); n != 1 || code != codes.Internal {
		t.Errorf("want one panic counted and INTERNAL, found %d and %s", n, code)
	}
}

// A panic on the way of the requests is counted, and ends the call with INTERNAL.
func TestPanicInRequestsIsCounted(t *testing.T) {
	caller := &bomb{newQuietCaller()}
	b, s := chatBench(t, caller, func(context.Context, *rpc.Call) (rpcadapters.ClientStream, error) {
		return &upstreamStream{
			header: func() (rpc.Metadata, error) { return nil, nil },
			recv:   func(*rpc.Message) error { <-caller.stopped; return io.EOF },
			close:  caller.Stop,
		}, nil
	})
	var sent rpc.Sent
	s.done = func(_ *rpc.Call, got rpc.Sent) { sent = got }
	b.visit("POST", "/v1/rooms/a:talk", "")
	if n := panics(t, b); n != 1 || sent.Code != codes.Internal {
		t.Errorf("want one panic counted and INTERNAL, found %d and %s", n, sent.Code)
	}
}

// bomb is a caller whose requests panic.
type bomb struct{ *quietCaller }

func (*bomb) Recv(*rpc.Message) error { panic("boom") }

// An upstream that takes its answer back, saying that it has not run the call, is not asked again: the caller has a part of
// the answer already, and would get it twice.
func TestBegunAnswerIsNotTriedAgain(t *testing.T) {
	caller := oneCaller{newQuietCaller()}
	opened := 0
	refused := func() error {
		return &rpc.Error{Code: codes.Unavailable, Class: rpc.Transport, Message: "the stream was refused"}
	}
	b, s := chatBench(t, caller, func(context.Context, *rpc.Call) (rpcadapters.ClientStream, error) {
		opened++
		n := 0
		return &upstreamStream{
			header: func() (rpc.Metadata, error) { return nil, nil },
			recv: func(m *rpc.Message) error {
				if n++; n > 1 {
					return refused()
				}
				m.Own(rpc.GetBuffer())
				return nil
			},
		}, nil
	})
	var sent rpc.Sent
	s.done = func(_ *rpc.Call, got rpc.Sent) { sent = got }
	b.visit("GET", "/v1/rooms/a/messages", "")
	if opened != 1 || caller.answers != 1 || sent.Code != codes.Unavailable {
		t.Errorf("want one attempt, one answer and UNAVAILABLE, found %d, %d and %s", opened, caller.answers, sent.Code)
	}
	opened, caller.answers, caller.requests = 0, 0, 0
	b.open = func(context.Context, *rpc.Call) (rpcadapters.ClientStream, error) {
		opened++
		return &upstreamStream{header: func() (rpc.Metadata, error) { return nil, refused() }}, nil
	}
	b.visit("GET", "/v1/rooms/a/messages", "")
	if opened != 3 {
		t.Errorf("an answer that never began: want 3 attempts, found %d", opened)
	}
}

// A caller who never sends the request of a server stream is idle as any other, and told so when the gateway stops.
func TestWaitingForTheOneRequestEnds(t *testing.T) {
	for _, tc := range []struct {
		end  string
		want codes.Code
	}{
		{"idle", codes.DeadlineExceeded},
		{"stop", codes.Unavailable},
	} {
		t.Run(tc.end, func(t *testing.T) {
			caller := newQuietCaller()
			caller.requests = 1 // has none
			b, s := chatBench(t, caller, nil)
			if tc.end == "idle" {
				b.set(*b.text.Load() + "defaults: {stream: {idle_timeout: 0.1s}}\n")
				if err := b.gateway.Reload(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			var sent rpc.Sent
			s.done = func(_ *rpc.Call, got rpc.Sent) { sent = got }
			done := make(chan struct{})
			go func() {
				defer close(done)
				b.visit("GET", "/v1/rooms/a/messages", "")
			}()
			<-caller.asked
			if tc.end == "stop" {
				b.gateway.Shutdown(context.Background(), proxy.Stop{})
			}
			select {
			case <-done:
			case <-time.After(10 * time.Second): //nolint:forbidigo // a test
				caller.Stop()
				<-done
				t.Fatal("the call waits for ever")
			}
			if sent.Code != tc.want {
				t.Errorf("want %s, found %s", tc.want, sent.Code)
			}
		})
	}
}

// The streams of the gateway's own services end with a status when it stops, and reflection's when nothing passes.
func TestOwnStreamsEnd(t *testing.T) {
	for _, tc := range []struct {
		method, more string
		want         codes.Code
	}{
		{"/grpc.health.v1.Health/Watch", "", codes.Unavailable},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "", codes.Unavailable},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "defaults: {stream: {idle_timeout: 0.1s}}\n", codes.DeadlineExceeded},
	} {
		t.Run(tc.method+tc.more, func(t *testing.T) {
			caller := newQuietCaller()
			if strings.Contains(tc.method, "reflection") {
				caller.requests = 1 // has none
			}
			b, s := chatBench(t, caller, nil)
			b.set(*b.text.Load() + tc.more)
			if err := b.gateway.Reload(context.Background()); err != nil {
				t.Fatal(err)
			}
			var sent rpc.Sent
			s.done = func(_ *rpc.Call, got rpc.Sent) { sent = got }
			done := make(chan struct{})
			go func() {
				defer close(done)
				b.visit("POST", tc.method, "", rpc.Pair{Key: "content-type", Value: "application/connect+proto"})
			}()
			select {
			case <-caller.asked: // reflection waits for a question
			case <-caller.sent: // health is watched
			case <-done:
				t.Fatalf("the call has ended: %v", sent.Err)
			}
			if tc.more == "" {
				b.gateway.Shutdown(context.Background(), proxy.Stop{})
			}
			select {
			case <-done:
			case <-time.After(30 * time.Second): //nolint:forbidigo // a test
				t.Fatal("the call goes on")
			}
			if sent.Code != tc.want {
				t.Errorf("want %s, found %s", tc.want, sent.Code)
			}
		})
	}
}
