package trpc

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	trpcv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/trpc/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kitSchema is the schema of testdata/trpc/kit.proto.
func kitSchema(t testing.TB) *schema.Schema {
	t.Helper()
	set, err := source.Proto(t.Context(), []string{"../../testdata/trpc/kit.proto"}, nil, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := set.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func method(t testing.TB, s *schema.Schema, name string) *schema.Method {
	t.Helper()
	m, ok := s.Method(name)
	if !ok {
		t.Fatalf("no method %s", name)
	}
	return m
}

// listen listens for the test's length and has serve serve.
func listen(t testing.TB, serve func(l net.Listener)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(l)
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// scripted answers each connection by a function, and ends it when that returns.
func scripted(t testing.TB, f func(c net.Conn)) string {
	t.Helper()
	return listen(t, func(l net.Listener) {
		var open []net.Conn
		done := make(chan struct{})
		n := 0
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			open = append(open, c)
			n++
			go func() {
				defer func() { done <- struct{}{} }()
				defer c.Close()
				f(c)
			}()
		}
		for _, c := range open {
			c.Close()
		}
		for range n {
			<-done
		}
	})
}

// write sends frames; whoever reads may have gone.
func write(c net.Conn, frames ...*trpckit.Frame) {
	for _, f := range frames {
		_, _ = c.Write(f.Bytes()) // as said
	}
}

// dial makes a transport that is closed with the test.
func dial(t testing.TB, address string, o *trpcv1.Options) *transport {
	t.Helper()
	target := rpcadapters.Target{Address: address, Service: "kit"}
	if o != nil {
		target.Config = o
	}
	tr, err := Adapter{}.Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr.(*transport)
}

// callOf makes a call with the plan of its method.
func callOf(t testing.TB, m *schema.Method, o *trpcv1.Options, header ...string) *rpc.Call {
	t.Helper()
	var conf proto.Message
	if o != nil {
		conf = o
	}
	p, err := Adapter{}.Bind(m, conf)
	if err != nil {
		t.Fatal(err)
	}
	c := &rpc.Call{Method: m, Plan: p, Protocol: "grpc"}
	for i := 0; i < len(header); i += 2 {
		c.Header.Add(header[i], header[i+1])
	}
	return c
}

// kit is a server with the services of kit.proto.
func kit(t testing.TB) (*trpckit.Server, string) {
	t.Helper()
	s := &trpckit.Server{}
	return s, listen(t, s.Serve)
}

// deadline is a context for what must not wait for ever.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// field makes a field of a message: a number or a string.
func field(b []byte, n protowire.Number, v any) []byte {
	switch v := v.(type) {
	case int:
		return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
	case string:
		return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	return b
}

// aliased is a schema with a method that has an alias, as trpc.proto declares that.
func aliased(t testing.TB) *schema.Schema {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"trpc.proto": `syntax = "proto3"; package trpc; import "google/protobuf/descriptor.proto";
			extend google.protobuf.MethodOptions { string alias = 50001; }`,
		"kit.proto": `syntax = "proto3"; package alias.test; import "trpc.proto";
			message M { string s = 1; }
			service Kit { rpc Named(M) returns (M) { option (trpc.alias) = "/v1/named"; } rpc Plain(M) returns (M); }`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := source.Proto(t.Context(), []string{dir}, nil, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := set.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
