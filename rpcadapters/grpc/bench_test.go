package grpc

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

const (
	cannedEnv        = "CAUSEWAY_TEST_CANNED"
	cannedAddressEnv = "CAUSEWAY_TEST_CANNED_ADDRESS"
)

func TestMain(m *testing.M) {
	if os.Getenv(cannedEnv) != "" {
		runCanned(os.Getenv(cannedEnv))
		return
	}
	goleak.VerifyTestMain(m)
}

// runCanned is the program of a server that answers every call with the same 206 bytes and costs next to nothing, so that
// the client in front of it is what is measured. It ends when its input does.
func runCanned(kind string) {
	address := os.Getenv(cannedAddressEnv)
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go canned(c, kind)
	}
}

func rawFrame(dst []byte, typ, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), typ, flags)
	dst = binary.BigEndian.AppendUint32(dst, stream)
	return append(dst, payload...)
}

func literal(dst []byte, name, value string) []byte {
	dst = append(dst, 0, byte(len(name)))
	dst = append(dst, name...)
	dst = append(dst, byte(len(value)))
	return append(dst, value...)
}

// canned serves one connection. With kind "differ" no two answers have the same trailers, so that nothing is memoised; with
// kind "hang" calls of a method called Hang are not answered.
func canned(c net.Conn, kind string) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 256<<10)
	if _, err := r.Discard(24); err != nil {
		return
	}
	head := literal([]byte{0x88}, "content-type", "application/grpc")
	body := append([]byte{0, 0, 0, 0, 206}, make([]byte, 206)...)
	ok := literal(nil, "grpc-status", "0")
	out := rawFrame(nil, 4, 0, 0, []byte{0, 3, 0, 0, 16, 0, 0, 4, 0, 16, 0, 0})
	out = rawFrame(out, 8, 0, 0, []byte{0x3f, 0xff, 0, 0})
	used, calls, hung := 0, 0, uint32(0)
	for {
		if r.Buffered() < 9 && len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		h, err := r.Peek(9)
		if err != nil {
			return
		}
		n := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
		typ, flags, id := h[3], h[4], binary.BigEndian.Uint32(h[5:])
		payload, err := r.Peek(9 + n)
		if err != nil {
			return
		}
		switch {
		case typ == 4 && flags&1 == 0:
			out = rawFrame(out, 4, 1, 0, nil)
		case typ == 6 && flags&1 == 0:
			out = rawFrame(out, 6, 1, 0, payload[9:])
		case typ == 0:
			if used += n; used > 1<<20 {
				out = rawFrame(out, 8, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(used)))
				used = 0
			}
		}
		if typ == 1 && kind == "hang" && strings.Contains(string(payload[9:]), "/Hang") {
			hung = id
		}
		if typ <= 1 && flags&1 != 0 && id != hung {
			out = rawFrame(out, 1, 4, id, head)
			out = rawFrame(out, 0, 0, id, body)
			if kind == "differ" {
				calls++
				out = rawFrame(out, 1, 5, id, literal(slices.Clip(ok), "x-call", strconv.Itoa(calls)))
			} else {
				out = rawFrame(out, 1, 5, id, ok)
			}
		}
		_, _ = r.Discard(9 + n)
	}
}

// startCanned runs the canned server as a process of its own.
func startCanned(t testing.TB, kind string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), cannedEnv+"="+kind, "GOMAXPROCS=1")
	return started(t, cmd)
}

// cpu is what this process has used so far, in nanoseconds.
func cpu(t testing.TB) int64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// rawCodec passes bytes through grpc-go.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = rawCodec{}

// callContext is a context as the engines make it.
func callContext() *wire.Context {
	c := &wire.Context{}
	c.Reset(context.Background())
	return c
}

// BenchmarkUnary compares 64 concurrent calls, with metadata as a gateway passes it on, through grpc-go's client and through
// ours.
func BenchmarkUnary(b *testing.B) {
	const callers = 64
	request := make([]byte, 108)
	run := func(b *testing.B, one func(caller int) error) {
		b.Helper()
		b.ReportAllocs()
		before := cpu(b)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for range b.N / callers {
					if err := one(i); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
	}
	ours := func(kind string) func(*testing.B) {
		return func(b *testing.B) {
			b.Helper()
			tr := dial(b, rpcadapters.Target{Address: startCanned(b, kind)})
			calls := make([]*rpc.Call, callers)
			contexts := make([]*wire.Context, callers)
			replies := make([]rpc.Reply, callers)
			for i := range calls {
				calls[i] = call("/bench.v1.Orders/Place", "traceparent", fmt.Sprintf("00-4bf92f3577b34da6a3ce929d0e0e%04d-00f067aa0ba902b7-01", i), "x-request-id", strconv.Itoa(i))
				contexts[i] = callContext()
			}
			req := &rpc.Message{Data: request}
			run(b, func(i int) error {
				err := tr.Unary(contexts[i], calls[i], req, &replies[i])
				if err == nil && len(replies[i].Message.Data) != 206 {
					err = fmt.Errorf("%d bytes", len(replies[i].Message.Data))
				}
				replies[i].Reset()
				return err
			})
		}
	}
	b.Run("causeway", ours("same"))
	b.Run("causeway/miss", ours("differ"))
	b.Run("grpc-go", func(b *testing.B) {
		cc, err := grpc.NewClient("passthrough:///"+startCanned(b, "same"), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
		if err != nil {
			b.Fatal(err)
		}
		defer cc.Close()
		run(b, func(int) error {
			var out []byte
			return cc.Invoke(context.Background(), "/bench.v1.Orders/Place", request, &out)
		})
	})
}

// A unary call costs no allocation in the transport.
func TestUnaryAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	tr := dial(t, rpcadapters.Target{Address: startCanned(t, "same")})
	c := call("/bench.v1.Orders/Place", "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x-bin", "\x01\x02", "user-agent", "curl/8")
	ctx := callContext()
	ctx.SetDeadline(time.Now().Add(time.Hour))
	req := &rpc.Message{Data: make([]byte, 108)}
	var reply rpc.Reply
	one := func() {
		if err := tr.Unary(ctx, c, req, &reply); err != nil {
			t.Fatal(err)
		}
		reply.Reset()
	}
	for range 100 {
		one()
	}
	if n := testing.AllocsPerRun(2000, one); n > 0 {
		t.Errorf("want no allocation per call, found %v", n)
	}
}
