package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
)

// What a unary call may cost from edge to edge, with access log and metrics on.
const (
	maxAllocs = 2
	maxBytes  = 2 << 10
)

// TestAllocsOverRealBytes holds unary calls to their budget over real bytes: a client and a backend that do not allocate on
// loopback sockets, and the gateway as the program runs it in between.
func TestAllocsOverRealBytes(t *testing.T) {
	if adaptertest.Race {
		t.Skip("the race detector allocates")
	}
	backend := startCanned(t)
	g := startBytes(t, backend, "")
	address := strings.TrimPrefix(g.url, "http://")
	for _, tt := range []struct {
		name   string
		caller func(*testing.T, string, int) byteCaller
	}{
		{"REST POST", func(t *testing.T, a string, _ int) byteCaller {
			return newRESTCaller(t, a, "POST", "/v1/orders", "", create)
		}},
		{"REST GET", func(t *testing.T, a string, _ int) byteCaller {
			return newRESTCaller(t, a, "GET", "/v1/customers/customers-7f3a91c2/orders/42", "", "")
		}},
		{"gRPC", newGRPCCaller},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const warm, calls = 1000, 5000
			c := tt.caller(t, address, warm+calls)
			allocs, size := measureBytes(t, c, warm, calls)
			t.Logf("%.2f allocations and %.0f bytes per call", allocs, size)
			if allocs > maxAllocs || size > maxBytes {
				t.Errorf("%.2f allocations and %.0f bytes per call, want at most %d and %d", allocs, size, maxAllocs, maxBytes)
			}
		})
	}
	if n := backend.served(); n < 18_000 {
		t.Errorf("the backend served %d calls, want all", n)
	}
	g.end()
	log, err := os.ReadFile(filepath.Join(filepath.Dir(g.file), "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(log, []byte{'\n'}); n < 18_000 {
		t.Errorf("the access log has %d lines, want one for each call", n)
	}
}

// startBytes is a gateway before a canned backend, with access log and metrics, and more plugins behind these.
func startBytes(t *testing.T, backend *cannedBackend, plugins string) *gatewayTest {
	t.Helper()
	set := filepath.Join(t.TempDir(), "orders.binpb")
	writeFile(t, set, descriptors.Encode(t, ordersv1.File_demo_orders_v1_orders_proto))
	return startGateway(t, fmt.Sprintf(`listen:
  - address: 127.0.0.1:0
admin: {address: "127.0.0.1:0"}
schemas:
  - {name: orders, descriptor_set: %q}
services:
  - {name: orders, schema: orders, endpoints: [{address: %q}]}
plugins:
  - {name: metrics}
  - name: access_log
    config: {output: DIR/access.log}
`, set, backend.address)+plugins)
}

// create is the body of a REST call.
const create = `{"customer":"customers/7f3a91c2","items":[{"sku":"SKU-100381","quantity":2,"priceCents":"49925"},` +
	`{"sku":"SKU-200773","quantity":1,"priceCents":"28600"}],"labels":{"gift":"yes"},"pickupShop":12}`

// measureBytes makes calls and says what one of them allocates, after those that warm up. They are counted in several parts,
// of which the least counts: what a call allocates is in each of them, what else runs in the process, and for longer on a busy
// machine, is not.
func measureBytes(t *testing.T, c byteCaller, warm, calls int) (allocs, size float64) {
	t.Helper()
	const parts = 10
	run := func(n int) {
		for i := range n {
			if err := c.call(); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
		}
	}
	run(warm)
	n := calls / parts
	for part := range parts {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		run(n)
		runtime.ReadMemStats(&after)
		a, b := float64(after.Mallocs-before.Mallocs)/float64(n), float64(after.TotalAlloc-before.TotalAlloc)/float64(n)
		if part == 0 || a < allocs {
			allocs, size = a, b
		}
	}
	return allocs, size
}

// The chain of a token's check and a limit allocates nothing for a token that was seen before.
func TestAllocsOfTheAuthenticatedChain(t *testing.T) {
	if adaptertest.Race {
		t.Skip("the race detector allocates")
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "u1", "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(matrixSecret))
	if err != nil {
		t.Fatal(err)
	}
	backend := startCanned(t)
	var allocs [2]float64
	for i, plugins := range []string{"", "  - {name: jwt_auth, config: {keys: [{algorithm: HS256, secret: " + matrixSecret + "}]}}\n" +
		"  - {name: limit_count, config: {count: 9000, window: 3600s, key: {claim: sub}}}\n"} {
		g := startBytes(t, backend, plugins)
		allocs[i], _ = measureBytes(t, newRESTCaller(t, strings.TrimPrefix(g.url, "http://"), "POST", "/v1/orders", token, create), 1000, 5000)
	}
	t.Logf("%.2f allocations per call, %.2f with jwt_auth and limit_count", allocs[0], allocs[1])
	if allocs[1] > allocs[0]+0.1 {
		t.Errorf("%.2f allocations per call, want those of a call without the chain, %.2f", allocs[1], allocs[0])
	}
}

// byteCaller makes one call after the other on one connection, and checks each answer.
type byteCaller interface{ call() error }

// restCaller calls by HTTP/1.1.
type restCaller struct {
	conn        net.Conn
	request     []byte
	varies      []byte // the part of request that differs from call to call
	n           uint64
	buf         []byte
	body        []byte
	size        int // of an answer with its head
	headStarted []byte
}

func newRESTCaller(t *testing.T, address, method, path, token, body string) byteCaller {
	c := &restCaller{conn: dialBytes(t, address), buf: make([]byte, 8<<10), headStarted: []byte("HTTP/1.1 200 ")}
	const digits = "0000000000000000"
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: orders-app/5.14.2 (Android 16; Pixel 9)\r\nAccept: application/json\r\n",
		method, path, address)
	if body != "" {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	head += "Authorization: Bearer " + cmp.Or(token, strings.Repeat("eyJhbGciOi", 30)) + "\r\nX-Request-Timeout: 9.125s\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-"
	c.request = []byte(head + digits + "-01\r\n\r\n" + body)
	c.varies = c.request[len(head) : len(head)+len(digits)]
	// The first answer says what all others are like.
	c.vary()
	if _, err := c.conn.Write(c.request); err != nil {
		t.Fatal(err)
	}
	have := 0
	for {
		n, err := c.conn.Read(c.buf[have:])
		if err != nil {
			t.Fatal(err)
		}
		have += n
		head, rest, whole := bytes.Cut(c.buf[:have], []byte("\r\n\r\n"))
		if !whole {
			continue
		}
		_, length, _ := strings.Cut(strings.ToLower(string(head))+"\r\n", "\r\ncontent-length: ")
		length, _, _ = strings.Cut(length, "\r\n")
		size, err := strconv.Atoi(length)
		if err != nil || !bytes.HasPrefix(head, c.headStarted) {
			t.Fatalf("answer %q", c.buf[:have])
		}
		if len(rest) == size {
			c.body, c.size = bytes.Clone(rest), have
			break
		}
	}
	if !bytes.Contains(c.body, []byte(`"name":"orders/42"`)) {
		t.Fatalf("answer %s", c.body)
	}
	return c
}

func (c *restCaller) vary() {
	const hexadecimal = "0123456789abcdef"
	c.n++
	for i, n := len(c.varies)-1, c.n; i >= 0; i, n = i-1, n>>4 {
		c.varies[i] = hexadecimal[n&15]
	}
}

func (c *restCaller) call() error {
	c.vary()
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	for have := 0; have < c.size; {
		n, err := c.conn.Read(c.buf[have:])
		if err != nil {
			return err
		}
		have += n
	}
	if a := c.buf[:c.size]; !bytes.HasPrefix(a, c.headStarted) || !bytes.HasSuffix(a, c.body) {
		return fmt.Errorf("unexpected answer %q", a)
	}
	return nil
}

// grpcCaller calls by HTTP/2. Its header blocks are made before, for they depend on those before them.
type grpcCaller struct {
	conn   net.Conn
	frames [][]byte // HEADERS and DATA of each call
	next   int
	reader http2Reader
	answer []byte // length-prefixed
}

func newGRPCCaller(t *testing.T, address string, calls int) byteCaller {
	c := &grpcCaller{conn: dialBytes(t, address), answer: cannedOrder(t)}
	c.reader = http2Reader{conn: c.conn, buf: make([]byte, 64<<10)}
	in, err := proto.Marshal(&ordersv1.GetOrderRequest{Name: "orders/42", Customer: strings.Repeat("customers-7f3a91c2", 5)})
	if err != nil {
		t.Fatal(err)
	}
	in = prefixed(in)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := range calls {
		block.Reset()
		for _, f := range [][2]string{
			{":method", "POST"},
			{":scheme", "http"},
			{":path", ordersv1.Orders_GetOrder_FullMethodName},
			{":authority", address},
			{"content-type", "application/grpc"},
			{"user-agent", "grpc-go/1.85.0"},
			{"te", "trailers"},
			{"authorization", "Bearer " + strings.Repeat("eyJhbGciOi", 30)},
			{"grpc-timeout", fmt.Sprintf("%du", 9_000_000+i)},
			{"traceparent", fmt.Sprintf("00-%032x-%016x-01", i*7919+1, i+1)},
		} {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				t.Fatal(err)
			}
		}
		id := uint32(2*i + 1) //nolint:gosec // a few thousand
		call := appendHTTP2(nil, http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, block.Bytes())
		c.frames = append(c.frames, appendHTTP2(call, http2.FrameData, http2.FlagDataEndStream, id, in))
	}
	hello := appendHTTP2([]byte(http2.ClientPreface), http2.FrameSettings, 0, 0, nil)
	hello = appendHTTP2(hello, http2.FrameWindowUpdate, 0, 0, []byte{0x40, 0, 0, 0})
	if _, err := c.conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *grpcCaller) call() error {
	if _, err := c.conn.Write(c.frames[c.next]); err != nil {
		return err
	}
	id := uint32(2*c.next + 1) //nolint:gosec // a few thousand
	c.next++
	right := false
	for {
		kind, flags, stream, p, err := c.reader.next()
		if err != nil {
			return err
		}
		switch {
		case kind == http2.FrameSettings && !flags.Has(http2.FlagSettingsAck):
			if _, err := c.conn.Write(settingsAck); err != nil {
				return err
			}
		case kind == http2.FrameData && stream == id:
			right = bytes.Equal(p, c.answer)
		case kind == http2.FrameHeaders && stream == id && flags.Has(http2.FlagHeadersEndStream):
			if !right {
				return errors.New("the answer is not the right one")
			}
			return nil
		case kind == http2.FrameRSTStream || kind == http2.FrameGoAway:
			return fmt.Errorf("%v: %x", kind, p)
		}
	}
}

var settingsAck = appendHTTP2(nil, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)

func dialBytes(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // it is done with
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func prefixed(message []byte) []byte {
	b := make([]byte, 5, 5+len(message))
	binary.BigEndian.PutUint32(b[1:], uint32(len(message))) //nolint:gosec // a few hundred
	return append(b, message...)
}

// cannedOrder is what the backend answers, length-prefixed.
func cannedOrder(t *testing.T) []byte {
	t.Helper()
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(&ordersv1.Order{
		Name: "orders/42", Customer: "customers/7f3a91c2", State: ordersv1.State_SHIPPED,
		Items: []*ordersv1.Item{
			{Sku: "SKU-100381", Quantity: 2, PriceCents: 49925, Tags: []string{"gift"}},
			{Sku: "SKU-200773", Quantity: 1, PriceCents: 28600},
		},
		Labels:     map[string]string{"gift": "yes", "van": "next-day"},
		Created:    &timestamppb.Timestamp{Seconds: 1_790_000_000, Nanos: 125_000_000},
		Delivery:   &ordersv1.Order_Address{Address: &ordersv1.Address{Street: "Hafenstraße 12", City: "Hamburg", Country: "DE"}},
		TotalCents: 128450, DeliveryTime: durationpb.New(90 * time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	return prefixed(out)
}

// cannedBackend is a gRPC server that answers every call with the same bytes and allocates for connections only.
type cannedBackend struct {
	address string
	ln      net.Listener
	answer  []byte // frames of an answer on stream 0
	mu      sync.Mutex
	conns   []net.Conn
	calls   int
	wg      sync.WaitGroup
}

func startCanned(t *testing.T) *cannedBackend {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &cannedBackend{address: ln.Addr().String(), ln: ln}
	literal := func(name, value string) string {
		return "\x00" + string(rune(len(name))) + name + string(rune(len(value))) + value
	}
	b.answer = appendHTTP2(b.answer, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0, []byte("\x88"+literal("content-type", "application/grpc")))
	b.answer = appendHTTP2(b.answer, http2.FrameData, 0, 0, cannedOrder(t))
	b.answer = appendHTTP2(b.answer, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 0, []byte(literal("grpc-status", "0")))
	b.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns = append(b.conns, conn)
			b.mu.Unlock()
			b.wg.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close() // ends Accept
		b.mu.Lock()
		for _, c := range b.conns {
			_ = c.Close() // ends its reader
		}
		b.mu.Unlock()
		b.wg.Wait()
	})
	return b
}

func (b *cannedBackend) served() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

func (b *cannedBackend) serve(conn net.Conn) {
	reader := http2Reader{conn: conn, buf: make([]byte, 64<<10)}
	answer := bytes.Clone(b.answer)
	preface := reader.buf[:len(http2.ClientPreface)]
	if _, err := io.ReadFull(conn, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	hello := appendHTTP2(nil, http2.FrameSettings, 0, 0, nil)
	hello = appendHTTP2(hello, http2.FrameWindowUpdate, 0, 0, []byte{0x40, 0, 0, 0})
	if _, err := conn.Write(hello); err != nil {
		return
	}
	for {
		kind, flags, stream, p, err := reader.next()
		if err != nil {
			return
		}
		out := []byte(nil)
		switch {
		case kind == http2.FrameSettings && !flags.Has(http2.FlagSettingsAck):
			out = settingsAck
		case kind == http2.FramePing && !flags.Has(http2.FlagPingAck):
			out = appendHTTP2(nil, http2.FramePing, http2.FlagPingAck, 0, p)
		case kind == http2.FrameData && flags.Has(http2.FlagDataEndStream):
			for at := 0; at < len(answer); at += 9 + int(binary.BigEndian.Uint32(answer[at:])>>8) {
				binary.BigEndian.PutUint32(answer[at+5:], stream)
			}
			out = answer
			b.mu.Lock()
			b.calls++
			b.mu.Unlock()
		}
		if len(out) == 0 {
			continue
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

func appendHTTP2(dst []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags)) //nolint:gosec // 24 bits
	dst = binary.BigEndian.AppendUint32(dst, stream)
	return append(dst, payload...)
}

// http2Reader reads the frames of a connection, all into one buffer.
type http2Reader struct {
	conn  net.Conn
	buf   []byte
	have  int // bytes in buf
	given int // of which the frame given last takes these, at the start
}

// next reads a frame. Its payload holds until the next call.
func (r *http2Reader) next() (kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte, err error) {
	r.have, r.given = copy(r.buf, r.buf[r.given:r.have]), 0
	for {
		if r.have >= 9 {
			size := 9 + int(binary.BigEndian.Uint32(r.buf)>>8)
			if size > len(r.buf) {
				return 0, 0, 0, nil, fmt.Errorf("frame of %d bytes", size)
			}
			if r.have >= size {
				r.given = size
				return http2.FrameType(r.buf[3]), http2.Flags(r.buf[4]), binary.BigEndian.Uint32(r.buf[5:]), r.buf[9:size], nil
			}
		}
		n, err := r.conn.Read(r.buf[r.have:])
		if err != nil {
			return 0, 0, 0, nil, err
		}
		r.have += n
	}
}
