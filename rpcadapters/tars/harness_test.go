package tars

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarsidl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type noIncludes struct{}

func (noIncludes) Include(_, _ string) (tarsidl.File, error) {
	return tarsidl.File{}, errors.New("no file is included")
}

// kit is the schema of the captures.
func kit(t testing.TB) *schema.Schema {
	t.Helper()
	text, err := os.ReadFile("../../testdata/tars/Kit.tars")
	if err != nil {
		t.Fatal(err)
	}
	res, err := tarsidl.Compile([]tarsidl.File{{Name: "a.tars", Path: "a.tars", Text: text}}, noIncludes{}, tarsidl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := &protoregistry.Files{}
	for _, fd := range []protoreflect.FileDescriptor{descriptorpb.File_google_protobuf_descriptor_proto, tarsv1.File_causeway_tars_v1_tars_proto} {
		if err := files.RegisterFile(fd); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range res.Files {
		fd, err := protodesc.NewFile(f, files)
		if err != nil {
			t.Fatal(err)
		}
		if err := files.RegisterFile(fd); err != nil {
			t.Fatal(err)
		}
	}
	s, err := schema.New(files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const servant = "Kit.EchoServer.EchoObj"

func kitMethod(t testing.TB, s *schema.Schema, function string) *schema.Method {
	t.Helper()
	m, ok := s.Method("/Kit.Echo/" + function)
	if !ok {
		t.Fatalf("no function %s", function)
	}
	return m
}

// message makes the wire form of a message of its JSON.
func message(t testing.TB, m *schema.Message, json string) []byte {
	t.Helper()
	d := dynamicpb.NewMessage(m.Desc)
	if err := protojson.Unmarshal([]byte(json), d); err != nil {
		t.Fatalf("%s: %v", json, err)
	}
	raw, err := proto.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// shown is a message in JSON without white space, by the names of the IDL.
func shown(t testing.TB, m *schema.Message, wire []byte) string {
	t.Helper()
	d := dynamicpb.NewMessage(m.Desc)
	if err := proto.Unmarshal(wire, d); err != nil {
		t.Fatalf("%x: %v", wire, err)
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	quoted := false
	for i, c := range raw { // protojson varies its white space
		if c == '"' && raw[i-1] != '\\' {
			quoted = !quoted
		}
		if c != ' ' || quoted {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// capture is an exchange of one request and at most one answer.
type capture struct {
	name          string // "go/add"
	request       Request
	answer        []byte // packet; nil: none
	requestPacket []byte
}

func captures(t testing.TB) []capture {
	t.Helper()
	var out []capture
	for _, sdk := range []string{"go", "node"} {
		paths, err := filepath.Glob(filepath.Join("../../testdata/tars", sdk, "*.hex"))
		if err != nil || len(paths) < 35 {
			t.Fatalf("%d captures of %s: %v", len(paths), sdk, err)
		}
		for _, p := range paths {
			name := sdk + "/" + strings.TrimSuffix(filepath.Base(p), ".hex")
			if strings.Contains(name, "probe_") {
				continue
			}
			text, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			c := capture{name: name}
			for line := range strings.Lines(string(text)) {
				raw, err := hex.DecodeString(strings.TrimSpace(strings.TrimLeft(line, "<> ")))
				if line[0] == '#' || err != nil || len(raw) < 4 {
					continue
				}
				if line[0] == '>' && c.requestPacket == nil {
					c.requestPacket = raw[4:]
					if err := ParseRequest(&c.request, raw[4:]); err != nil {
						t.Fatal(err)
					}
				} else if line[0] == '<' && c.answer == nil {
					c.answer = raw[4:]
				}
			}
			out = append(out, c)
		}
	}
	return out
}

// peer accepts connections and has each served by f; a connection is closed when f returns.
func peer(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return ln.Addr().String()
}

// readPacket reads a frame and gives its packet.
func readPacket(c net.Conn) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	_, err := io.ReadFull(c, b)
	return b, err
}

func writePacket(c net.Conn, packet []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(packet)+4)), packet...))
	return err
}

// servantOf answers every request with what f makes of it; nil: not at all.
func servantOf(t testing.TB, f func(r *Request) *Response) string {
	t.Helper()
	return peer(t, func(c net.Conn) {
		for {
			packet, err := readPacket(c)
			if err != nil {
				return
			}
			var r Request
			if err := ParseRequest(&r, packet); err != nil {
				t.Errorf("the request: %v", err)
				return
			}
			if a := f(&r); a != nil {
				a.ID = r.ID
				if a.Version == 0 {
					a.Version = r.Version
				}
				if writePacket(c, AppendResponse(nil, a)) != nil {
					return
				}
			}
		}
	})
}

// dial makes a transport that is closed when the test ends.
func dial(t testing.TB, address string, o *tarsadapterv1.Options) *transport {
	t.Helper()
	if o == nil {
		o = &tarsadapterv1.Options{}
	}
	if o.GetServant() == "" {
		o.Servant = servant
	}
	tr, err := Adapter{}.Dial(rpcadapters.Target{Address: address, MaxMessage: 4 << 20, DialTimeout: 20 * time.Second, Config: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr.(*transport)
}

// bind makes a call's plan.
func bind(t testing.TB, m *schema.Method, o *tarsadapterv1.Options) any {
	t.Helper()
	if o == nil {
		o = &tarsadapterv1.Options{}
	}
	if o.GetServant() == "" {
		o.Servant = servant
	}
	p, err := Adapter{}.Bind(m, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// invoke calls a function with a request in JSON.
func invoke(ctx context.Context, t testing.TB, tr *transport, m *schema.Method, o *tarsadapterv1.Options, header rpc.Metadata, json string) (rpc.Reply, string, error) {
	t.Helper()
	c := &rpc.Call{Method: m, Header: header, Plan: bind(t, m, o)}
	var out rpc.Reply
	err := tr.Unary(ctx, c, &rpc.Message{Data: message(t, m.Input, json)}, &out)
	if err != nil {
		return out, "", err
	}
	return out, shown(t, m.Output, out.Message.Data), nil
}
