package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Echo stands in the gateway's place. A unary call is answered with its request; a server stream with as many copies of it
// as its number says; a client stream with the texts of its requests joined and their count; a bidirectional stream with
// every request as it comes. Metadata x-echo comes back as a header and as the trailer x-echo-trailer, -bin likewise. A text
// "fail CODE MESSAGE" is answered with that error, which carries a google.rpc.ErrorInfo; in a stream, after what came before.
// "wait" lasts until the call's context has ended.
type Echo struct{}

// Handle implements rpc.Handler.
func (Echo) Handle(ctx context.Context, c *rpc.Call) error {
	for _, p := range c.Header {
		switch p.Key {
		case "x-echo":
			c.Reply.Header.Add(p.Key, p.Value)
			c.Reply.Trailer.Add("x-echo-trailer", p.Value)
		case "x-echo-bin":
			c.Reply.Header.Add(p.Key, p.Value)
			c.Reply.Trailer.Add("x-echo-trailer-bin", p.Value)
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		c.Reply.Header.Add("x-deadline", time.Until(deadline).Round(time.Second).String())
	}
	switch c.Method.Kind {
	case schema.Unary:
		req, err := c.Body.Message(ctx, c.Method.Input)
		if err != nil {
			return err
		}
		if err := asked(ctx, req); err != nil {
			return err
		}
		c.Reply.Message = req.Retain()
		return nil
	case schema.ServerStream:
		return serverStream(ctx, c)
	case schema.ClientStream:
		return clientStream(ctx, c)
	case schema.Bidi:
		return bidi(ctx, c)
	}
	return errors.New("a method of no kind")
}

func serverStream(ctx context.Context, c *rpc.Call) error {
	var req rpc.Message
	if err := c.Stream.Recv(&req); err != nil {
		return err
	}
	defer req.Free()
	var m echov1.CallRequest
	if err := proto.Unmarshal(req.Data, &m); err != nil {
		return err
	}
	for i := range m.GetNumber() {
		if err := c.Stream.Send(&req, i%2 == 1); err != nil {
			return err
		}
	}
	return asked(ctx, &req)
}

func clientStream(ctx context.Context, c *rpc.Call) error {
	var texts []string
	for {
		var req rpc.Message
		err := c.Stream.Recv(&req)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		var m echov1.CallRequest
		err = errors.Join(proto.Unmarshal(req.Data, &m), asked(ctx, &req))
		req.Free()
		if err != nil {
			return err
		}
		texts = append(texts, m.GetText())
	}
	raw, err := proto.Marshal(&echov1.CallRequest{Text: strings.Join(texts, " "), Number: int64(len(texts))})
	if err != nil {
		return err
	}
	return c.Stream.Send(&rpc.Message{Data: raw}, false)
}

func bidi(ctx context.Context, c *rpc.Call) error {
	if err := c.Stream.Start(); err != nil {
		return err
	}
	for {
		var req rpc.Message
		err := c.Stream.Recv(&req)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err = asked(ctx, &req); err == nil {
			err = c.Stream.Send(&req, false)
		}
		req.Free()
		if err != nil {
			return err
		}
	}
}

// asked does what a request's text asks for.
func asked(ctx context.Context, req *rpc.Message) error {
	var m echov1.CallRequest
	if err := proto.Unmarshal(req.Data, &m); err != nil {
		return rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "not a message: %s", err)
	}
	if m.GetText() == "wait" {
		<-ctx.Done()
		return ctx.Err()
	}
	var code codes.Code
	var message string
	if n, _ := fmt.Sscanf(m.GetText(), "fail %d", &code); n == 0 {
		return nil
	}
	_, message, _ = strings.Cut(m.GetText(), " ")
	_, message, _ = strings.Cut(message, " ")
	detail, err := anypb.New(&errdetails.ErrorInfo{Reason: "ASKED", Domain: "test"})
	if err != nil {
		return err
	}
	raw, err := proto.Marshal(detail)
	if err != nil {
		return err
	}
	return &rpc.Error{Code: code, Message: message, Details: [][]byte{raw}, Class: rpc.Business, Executed: true}
}

// Pass answers every request with itself and waits for nothing: for fuzzing.
type Pass struct{}

// Handle implements rpc.Handler.
func (Pass) Handle(ctx context.Context, c *rpc.Call) error {
	if c.Stream == nil {
		m, err := c.Body.Message(ctx, c.Method.Input)
		if err == nil {
			c.Reply.Message = m.Retain()
		}
		return err
	}
	for {
		var m rpc.Message
		err := c.Stream.Recv(&m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = c.Stream.Send(&m, false)
			m.Free()
		}
		if err != nil {
			return err
		}
	}
}

// ServeAnything serves one request that may be anything, and holds the face to one whole answer, with nothing held
// afterwards. kind chooses the method.
func ServeAnything(t testing.TB, face rpcadapters.Face, s *schema.Schema, kind uint8, verb, query string, header rpc.Metadata, body []byte) {
	t.Helper()
	methods := [...]string{Unary, Safe, Server, Client, Bidi}
	method := methods[int(kind)%len(methods)]
	e := &Engine{Piece: int(kind)%7 + 1}
	e.Reset(verb, method, "HTTP/2.0", header, body)
	e.X.HTTP.Query = query
	if !face.Match(&e.X) {
		return
	}
	m := e.Matched(Method(t, s, method))
	face.Serve(t.Context(), &e.X, m, Pass{})
	if e.Done != 1 || e.Status == 0 || !e.Ended || e.Aborted || m.Options.Budget.Used() != 0 {
		t.Errorf("told %d times, status %d, ended %v, aborted %v, %d bytes held", e.Done, e.Status, e.Ended, e.Aborted, m.Options.Budget.Used())
	}
}
