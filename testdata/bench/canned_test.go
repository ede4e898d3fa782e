package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/testdata/bench/benchpb"
)

// startBackends serves both backends in this process and returns their addresses by name.
func startBackends(t *testing.T) map[string]string {
	t.Helper()
	c, err := newCanned()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	addresses := map[string]string{}
	for name, serve := range map[string]func(context.Context, net.Listener) error{"canned": c.serve, "grpc-go": backend} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses[name] = l.Addr().String()
		serving.Go(func() {
			if err := serve(ctx, l); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	return addresses
}

// TestBackendsAgree calls both backends with grpc-go, many calls at once, and wants the same answers from both.
func TestBackendsAgree(t *testing.T) {
	fault, err := missing()
	if err != nil {
		t.Fatal(err)
	}
	for name, address := range startBackends(t) {
		t.Run(name, func(t *testing.T) {
			conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			client := benchpb.NewOrdersClient(conn)
			var calls sync.WaitGroup
			for range 32 {
				calls.Go(func() {
					for range 30 {
						if got, err := client.Place(t.Context(), placeRequest()); err != nil || !proto.Equal(got, order()) {
							t.Errorf("Place: %v, %v", got, err)
						}
						if got, err := client.Find(t.Context(), findRequest()); err != nil || !proto.Equal(got, order()) {
							t.Errorf("Find: %v, %v", got, err)
						}
						if got, err := client.List(t.Context(), placeRequest()); err != nil || !proto.Equal(got, listReply()) {
							t.Errorf("List: %v", err)
						}
						_, err := client.Cancel(t.Context(), placeRequest())
						if got := status.Convert(err); !proto.Equal(got.Proto(), fault.Proto()) {
							t.Errorf("Cancel: %v", got)
						}
					}
				})
			}
			calls.Wait()
			err = conn.Invoke(t.Context(), "/causeway.bench.v1.Orders/None", placeRequest(), &benchpb.Order{})
			if status.Code(err) != codes.Unimplemented {
				t.Errorf("unknown method: %v", err)
			}
		})
	}
}

// TestBackendChecksRequests shows that the grpc-go backend finds a lost field.
func TestBackendChecksRequests(t *testing.T) {
	conn, err := grpc.NewClient(startBackends(t)["grpc-go"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := benchpb.NewOrdersClient(conn)
	place := placeRequest()
	place.Buyer.Level = 0
	if _, err := client.Place(t.Context(), place); status.Code(err) != codes.InvalidArgument {
		t.Errorf("Place without the buyer's level: %v", err)
	}
	find := findRequest()
	find.Tags = find.Tags[:1]
	if _, err := client.Find(t.Context(), find); status.Code(err) != codes.InvalidArgument {
		t.Errorf("Find without the second tag: %v", err)
	}
}

// TestCannedFlowControl is a client with windows of a few hundred bytes, padding and CONTINUATION, written with x/net's
// framer: no window may be overrun, and the answer must come whole.
func TestCannedFlowControl(t *testing.T) {
	conn, err := net.Dial("tcp", startBackends(t)["canned"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(conn, conn)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	const window = 300
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}))
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", benchpb.Orders_List_FullMethodName},
		{":authority", "x"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		must(enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	half := block.Len() / 2
	must(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()[:half], PadLength: 7}))
	must(fr.WriteContinuation(1, true, block.Bytes()[half:]))
	must(fr.WriteDataPadded(1, false, []byte{0, 0, 0}, make([]byte, 9)))
	must(fr.WriteData(1, true, []byte{0, 0}))
	must(fr.WritePing(false, [8]byte{1, 2, 3, 4, 5, 6, 7, 8}))
	var (
		body         []byte
		pinged, sett bool
		open         = window
	)
	for done := false; !done; {
		f, err := fr.ReadFrame()
		must(err)
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				sett = true
			} else {
				must(fr.WriteSettingsAck())
			}
		case *http2.PingFrame:
			pinged = f.IsAck() && f.Data == [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
		case *http2.DataFrame:
			if open -= len(f.Data()); open < 0 {
				t.Fatalf("the window was overrun by %d bytes", -open)
			}
			body = append(body, f.Data()...)
			if open == 0 {
				open = 777
				must(fr.WriteWindowUpdate(1, 777))
			}
		case *http2.MetaHeadersFrame:
			if done = f.StreamEnded(); done && f.RegularFields()[0] != (hpack.HeaderField{Name: "grpc-status", Value: "0"}) {
				t.Errorf("trailers %v", f.Fields)
			}
		}
	}
	var got benchpb.ListReply
	must(proto.Unmarshal(body[5:], &got))
	if !proto.Equal(&got, listReply()) || !pinged || !sett {
		t.Errorf("pinged %v, settings %v, answer of %d bytes", pinged, sett, len(body))
	}
}

// FuzzCanned feeds a connection's frames to the canned backend: it may refuse them, it may not crash or answer more than
// it was asked.
func FuzzCanned(f *testing.F) {
	c, err := newCanned()
	if err != nil {
		f.Fatal(err)
	}
	var block []byte
	block = appendLiteral(block, ":path", benchpb.Orders_List_FullMethodName)
	seed := appendFrame(nil, http2.FrameSettings, 0, 0, 0, 4, 0, 0, 0, 9)
	seed = appendFrame(seed, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, block...)
	seed = appendFrame(seed, http2.FrameData, http2.FlagDataEndStream, 1, 0, 0, 0, 0, 0)
	seed = appendWindowUpdate(seed, 1, 20_000)
	seed = appendFrame(seed, http2.FramePing, 0, 0, make([]byte, 8)...)
	seed = appendFrame(seed, http2.FrameHeaders, http2.FlagHeadersEndStream, 3, block[:4]...)
	seed = appendFrame(seed, http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3, block[4:]...)
	seed = appendFrame(seed, http2.FrameRSTStream, 0, 3, 0, 0, 0, 8)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := &memoryConn{in: io.MultiReader(bytes.NewReader([]byte(http2.ClientPreface)), bytes.NewReader(b))}
		if err := c.run(conn); err == nil {
			t.Fatal("a connection that has ended gave no error")
		}
		fr := http2.NewFramer(io.Discard, &conn.out)
		fr.SetMaxReadFrameSize(maxFrame)
		for {
			if _, err := fr.ReadFrame(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatalf("x/net refuses what was sent: %v", err)
			}
		}
	})
}

// FuzzCannedFramed holds that whatever arrives over TARS or tRPC the canned backend neither panics nor hangs, and answers with
// whole frames.
func FuzzCannedFramed(f *testing.F) {
	c, err := newCanned()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\x00\x00\x00\x0a\x10\x01\x2c\x3c\x40\x07\x00\x00\x00\x0d\x10\x01\x2c\x3c\x42\x00\x01\x00\x00"))
	f.Add([]byte("\x09\x30\x00\x00\x00\x00\x00\x12\x00\x02\x00\x00\x00\x07\x01\x00\x18\x07"))
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := &memoryConn{in: bytes.NewReader(b)}
		if len(b) > 0 && b[0] == http2.ClientPreface[0] {
			return // FuzzCanned
		}
		if err := c.run(conn); err == nil {
			t.Fatal("a connection that has ended gave no error")
		}
		answer, size := c.framed.tars.frame, tarsSize
		if len(b) > 0 && b[0] == trpcMagic>>8 {
			answer, size = c.framed.trpc.frame, trpcSize
		}
		for out := conn.out.Bytes(); len(out) > 0; out = out[len(answer):] {
			if n, err := size(out); n != len(answer) || err != nil || len(out) < n {
				t.Fatalf("want frames of %d bytes, found one of %d, %v", len(answer), n, err)
			}
		}
	})
}

// memoryConn is a connection without a network.
type memoryConn struct {
	net.Conn

	in  io.Reader
	out bytes.Buffer
}

func (c *memoryConn) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *memoryConn) Write(p []byte) (int, error) { return c.out.Write(p) }

// TestDescriptorSet shows that the generated descriptors are sound, closed and as many as said.
func TestDescriptorSet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "set.binpb")
	if err := writeDescriptorSet(path, extraRoutes); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	methods, paths, at := 0, map[string]bool{}, 0
	for i, f := range set.GetFile() {
		if f.GetName() == "bench.proto" {
			at = i
		}
	}
	if middle := len(set.GetFile()) / 2; at < middle-5 || at > middle+5 {
		t.Errorf("the called service is file %d of %d", at, len(set.GetFile()))
	}
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			for j := range f.Services().Get(i).Methods().Len() {
				options := f.Services().Get(i).Methods().Get(j).Options()
				rule, ok := proto.GetExtension(options, annotations.E_Http).(*annotations.HttpRule)
				if !ok || rule.GetPost() == "" && rule.GetGet() == "" {
					t.Fatalf("%s has no binding", f.Services().Get(i).Methods().Get(j).FullName())
				}
				paths[rule.GetPost()+rule.GetGet()] = true
				methods++
			}
		}
		return true
	})
	if methods != extraRoutes+5 || len(paths) != methods {
		t.Errorf("%d methods with %d paths, want %d", methods, len(paths), extraRoutes+5)
	}
}
