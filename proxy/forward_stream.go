package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/balancer"
	"github.com/causeway-gateway/causeway/proxy/upstream"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// stream forwards a streaming call. Answers pass in the call's goroutine; requests too where there is one only, else in a
// goroutine that ends before the call does.
func (f *forward) stream(ctx context.Context, c *rpc.Call, to *service, subset int) (err error) {
	if c.Stream == nil {
		return rpc.Refuse(codes.Unimplemented, "STREAMING_UNSUPPORTED", "%s is a %s method, and those are not served over %s here", c.Method.Name[1:], c.Method.Kind, c.Protocol)
	}
	if err := f.streams.begin(); err != nil {
		return err
	}
	defer f.streams.end()
	var first rpc.Message
	defer first.Free()
	single := c.Method.Kind == schema.ServerStream
	if single {
		if err := f.receive(c.Stream, &first); err != nil {
			return err
		}
	}
	t := try{to: to, retries: f.retries}
	t.info.Subset = subset
	t.start = time.Now()
	c.Times.Body = t.start
	defer func() { c.Times.Upstream = time.Since(c.Times.Body) }()
	if b := to.up.Breaker(); b != nil {
		pass, err := b.Enter(ctx)
		if err != nil {
			return refused(ctx, b, err)
		}
		counted, failed := true, true // by a panic
		defer func() { b.Leave(pass, counted, failed) }()
		err = f.tryStream(ctx, c, &t, &first, single)
		counted, failed = blamed(err, 0)
		return err
	}
	return f.tryStream(ctx, c, &t, &first, single)
}

// tryStream tries a streaming call until it has ended or may not be tried again.
func (f *forward) tryStream(ctx context.Context, c *rpc.Call, t *try, first *rpc.Message, single bool) error {
	t.to.up.Budget().Deposit()
	for {
		err, again := f.attemptStream(ctx, c, t, first, single)
		if !again || !t.again(ctx, c, err) {
			return err
		}
		c.Reply.Reset()
		t.start = time.Now()
	}
}

// receive waits for the request of a method that takes a single one, for no longer than a stream may be idle.
func (f *forward) receive(from rpc.Stream, m *rpc.Message) error {
	s := &stream{idle: f.options.StreamIdle, born: time.Now(), cut: caller{from}}
	f.streams.enter(s)
	defer f.streams.leave(s)
	return s.outcome(one(from, m))
}

// one receives the request of a method that takes a single one.
func one(s rpc.Stream, m *rpc.Message) error {
	if err := s.Recv(m); err != nil {
		if ended(err) {
			return rpc.Refuse(codes.Unimplemented, "CARDINALITY", "the method takes one request, and the stream has none")
		}
		return err
	}
	var more rpc.Message
	err := s.Recv(&more)
	if err == nil {
		more.Free()
		return rpc.Refuse(codes.Unimplemented, "CARDINALITY", "the method takes one request, and the stream has more")
	}
	if ended(err) {
		return nil
	}
	return err
}

// attemptStream opens the call on one instance and sees it through. again: no instance has run it, and nothing of the
// caller's stream was used up.
func (f *forward) attemptStream(ctx context.Context, c *rpc.Call, t *try, first *rpc.Message, single bool) (err error, again bool) { //nolint:revive // the error is what the call ends with
	node, err := t.pick(ctx, c)
	if err != nil {
		return err, false
	}
	defer node.Done()
	c.Attempts++
	c.Node = node.Address
	if t.to.plans != nil {
		c.Plan = t.to.plans[c.Method]
	}
	defer func() {
		// How long a stream lasts says nothing of its instance.
		t.to.up.Report(node, err, upstream.Unmeasured)
		if err != nil {
			t.info.Tried = append(t.info.Tried, node)
		} else {
			takeLoad(node, &c.Reply)
		}
	}()
	up, err := openStream(ctx, c, node)
	if err != nil {
		return err, notExecuted(err)
	}
	defer up.Close()
	s := &stream{idle: f.options.StreamIdle, born: time.Now(), cut: up, upstream: up}
	f.streams.enter(s)
	defer f.streams.leave(s)
	if single {
		if err = up.Send(first); err == nil || ended(err) {
			err = up.CloseSend()
		}
		if err != nil && !ended(err) {
			return s.outcome(err), notExecuted(err)
		}
		err = f.answers(c, s)
		// An answer that has begun is the caller's already, whatever the upstream says of the call afterwards.
		return s.outcome(err), notExecuted(err) && !s.begun && s.verdict.Load() == nil
	}
	requests := make(chan struct{})
	go func() {
		defer close(requests)
		defer func() {
			if r := recover(); r != nil {
				f.panics.Add(1)
				f.streams.log.Error("panic in the requests of a call", "route", c.Route, "request_id", c.ID, "panic", r, "stack", string(debug.Stack()))
				s.end(panicked(r))
			}
		}()
		if err := f.requests(c, s); err != nil {
			s.end(rpc.AsError(err))
		}
	}()
	defer func() { // also behind a panic: the call may be used again as soon as it is over
		up.Close()
		c.Stream.Stop()
		<-requests
	}()
	return s.outcome(f.answers(c, s)), false // before the requests are ended, which is an error of their own
}

// openStream begins the call on a node.
func openStream(ctx context.Context, c *rpc.Call, node *balancer.Node) (rpcadapters.ClientStream, error) {
	t, ok := node.Transport.(rpcadapters.Streamer)
	if !ok {
		return nil, rpc.Refuse(codes.Unimplemented, "STREAMING_UNSUPPORTED", "the service's protocol has no streams")
	}
	return t.Open(ctx, c)
}

// ended tells the end of a stream from an error that has io.EOF for its cause: a connection that broke.
func ended(err error) bool {
	_, failed := errors.AsType[*rpc.Error](err)
	return !failed && errors.Is(err, io.EOF)
}

// requests passes the caller's requests on until there are no more, or the upstream wants none.
func (f *forward) requests(c *rpc.Call, s *stream) error {
	var m rpc.Message
	for {
		err := c.Stream.Recv(&m)
		if ended(err) {
			err = s.upstream.CloseSend()
		} else if err == nil {
			s.passed()
			err = s.upstream.Send(&m)
			m.Free()
			if err == nil {
				continue
			}
		}
		if ended(err) {
			return nil
		}
		return err
	}
}

// trailer takes the upstream's trailers over, once its answers have ended.
func (s *stream) trailer(c *rpc.Call) {
	c.Reply.Trailer = append(c.Reply.Trailer[:0], s.upstream.Trailer()...)
	if spelled, ok := s.upstream.(rpcadapters.SpelledStream); ok {
		c.Reply.Spelled = append(c.Reply.Spelled[:0], spelled.Spelled()...)
	}
}

// answers passes the upstream's answers on until its end. nil: it ended well.
func (f *forward) answers(c *rpc.Call, s *stream) error {
	header, err := s.upstream.Header()
	if err != nil {
		s.trailer(c)
		return err
	}
	s.begun = true
	c.Reply.Header = append(c.Reply.Header[:0], header...)
	if !s.upstream.Ready() {
		if err := c.Stream.Start(); err != nil {
			return err
		}
	}
	s.passed()
	var m rpc.Message
	for n := 0; ; n++ {
		if err := s.upstream.Recv(&m); err != nil {
			s.trailer(c)
			switch {
			case !ended(err):
				return err
			case n != 1 && c.Method.Kind == schema.ClientStream:
				return malformed(fmt.Errorf("%d answers to a method with one", n))
			}
			return nil
		}
		s.passed()
		err := c.Stream.Send(&m, s.upstream.Ready())
		m.Free()
		if err != nil {
			return err
		}
		s.passed()
	}
}

// malformed is the error of an answer that breaks the rules of its protocol.
func malformed(cause error) *rpc.Error {
	e := rpc.Refuse(codes.Internal, "UPSTREAM_MALFORMED", "the service's answer is malformed").WithStatus(502).WithCause(cause)
	e.Executed = true
	return e
}
