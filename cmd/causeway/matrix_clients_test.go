package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// overClient calls by one of the product's adapters, as clients of its protocol do.
type overClient struct {
	adapter   rpcadapters.Adapter
	conf      proto.Message
	schema    *schema.Schema
	transport rpcadapters.Transport
}

// dialOver makes a client; servant is what TARS wants to know. Close it.
func dialOver(t testing.TB, a rpcadapters.Adapter, address string, s *schema.Schema, servant string, oneWay ...string) *overClient {
	t.Helper()
	c := &overClient{adapter: a, schema: s}
	if in, ok := a.(rpcadapters.Configured); ok {
		c.conf = in.Config()
	}
	if o, ok := c.conf.(*tarsadapterv1.Options); ok {
		o.Servant = servant
	}
	if o, ok := c.conf.(interface {
		proto.Message
		GetOneWay() []string
	}); ok && len(oneWay) > 0 {
		list := o.ProtoReflect().Mutable(o.ProtoReflect().Descriptor().Fields().ByName("one_way")).List()
		for _, m := range oneWay {
			list.Append(protoreflect.ValueOfString(m))
		}
	}
	var err error
	if c.transport, err = a.Dial(rpcadapters.Target{Address: address, DialTimeout: 20 * time.Second, MaxMessage: 16 << 20, Config: c.conf}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *overClient) close(t testing.TB) {
	t.Helper()
	if err := c.transport.Close(); err != nil {
		t.Error(err)
	}
}

// overReply is what became of a call.
type overReply struct {
	header, trailer rpc.Metadata
	err             *rpc.Error
}

// call is a call of a method, bound.
func (c *overClient) call(t testing.TB, method string, header rpc.Metadata) *rpc.Call {
	t.Helper()
	m, ok := c.schema.Method(method)
	if !ok {
		t.Fatalf("the schema has no method %s", method)
	}
	call := &rpc.Call{Method: m, Protocol: "test", Header: header}
	if b, ok := c.adapter.(rpcadapters.Binder); ok {
		var err error
		if call.Plan, err = b.Bind(m, c.conf); err != nil {
			t.Fatal(err)
		}
	}
	return call
}

// unary sends in and reads the answer into out.
func (c *overClient) unary(ctx context.Context, t testing.TB, method string, header rpc.Metadata, in, out proto.Message) overReply {
	t.Helper()
	raw, err := proto.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var answer rpc.Reply
	defer answer.Message.Free()
	err = c.transport.Unary(ctx, c.call(t, method, header), &rpc.Message{Data: raw}, &answer)
	got := overReply{header: answer.Header, trailer: answer.Trailer}
	if err != nil {
		if !errors.As(err, &got.err) {
			t.Fatalf("want an *rpc.Error, found %v", err)
		}
		got.header = append(got.header, got.err.Header...)
		return got
	}
	if err := proto.Unmarshal(answer.Message.Data, out); err != nil {
		t.Fatal(err)
	}
	return got
}

// schemaOf compiles the descriptors of a file of generated code.
func schemaOf(file protoreflect.FileDescriptor) (*schema.Schema, error) {
	files, err := protodesc.NewFiles(descriptors.Set(file))
	if err != nil {
		return nil, err
	}
	return schema.New(files)
}

var echoSchemaOnce = sync.OnceValues(func() (*schema.Schema, error) { return schemaOf(echov1.File_demo_echo_v1_echo_proto) })

// echoSchema is the schema of the service echo.
func echoSchema(t testing.TB) *schema.Schema {
	t.Helper()
	s, err := echoSchemaOnce()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stream sends all requests, and then reads the answers.
func (c *overClient) stream(ctx context.Context, t testing.TB, method string, header rpc.Metadata, in []*echov1.CallRequest) (out []*echov1.CallRequest, got overReply) {
	t.Helper()
	end := func(err error) overReply {
		if !errors.As(err, &got.err) {
			t.Fatalf("want an *rpc.Error, found %v", err)
		}
		got.header = append(got.header, got.err.Header...)
		return got
	}
	s, err := c.transport.(rpcadapters.Streamer).Open(ctx, c.call(t, method, header))
	if err != nil {
		return nil, end(err)
	}
	defer s.Close()
	for _, m := range in {
		raw, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&rpc.Message{Data: raw}); err != nil && !errors.Is(err, io.EOF) {
			return nil, end(err)
		}
	}
	if err := s.CloseSend(); err != nil {
		return nil, end(err)
	}
	for {
		var m rpc.Message
		err := s.Recv(&m)
		if err == nil {
			one := &echov1.CallRequest{}
			err = proto.Unmarshal(m.Data, one)
			m.Free()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, one)
			continue
		}
		head, _ := s.Header() // the error is that of the call
		got.header, got.trailer = append(got.header, head...), append(got.trailer, s.Trailer()...)
		if errors.Is(err, io.EOF) {
			return out, got
		}
		return out, end(err)
	}
}
