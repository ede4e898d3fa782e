package http2

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// roleVar names the server that this test binary is started as, by benchmarks and proofs.
const roleVar = "CAUSEWAY_HTTP2_ROLE"

// cannedAnswer is a gRPC message of 331 bytes with its prefix.
var cannedAnswer = append(binary.BigEndian.AppendUint32([]byte{0}, 331), bytes.Repeat([]byte("a"), 331)...)

var (
	cannedHeader  = rpc.Metadata{{Key: "content-type", Value: "application/grpc"}}
	cannedTrailer = rpc.Metadata{{Key: "grpc-status", Value: "0"}}
)

var bodies = sync.Pool{New: func() any { return new([512]byte) }}

// canned takes a request's body and answers as a unary gRPC call is answered.
func canned(_ context.Context, x *wire.Exchange) {
	b := bodies.Get().(*[512]byte)
	defer bodies.Put(b)
	for {
		if _, err := x.Read(b[:]); err != nil {
			break
		}
	}
	_ = x.WriteHead(200, cannedHeader)
	_ = x.Write(cannedAnswer)
	_ = x.End(cannedTrailer)
}

// role serves on a port of its own, which it prints, until its input ends, or does what its name says.
func role(name string) error {
	switch name {
	case besiegedRole:
		return besieged()
	case attackerRole:
		return attacker()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, ln.Addr())
	switch name {
	case "causeway":
		go acceptAll(ln)
	case "net/http":
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = w.Write(cannedAnswer)
			w.Header().Set("Grpc-Status", "0")
		})
		go func() { _ = (&http.Server{Handler: h, Protocols: &p}).Serve(ln) }()
	case "grpc-go":
		s := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			var m []byte
			if err := stream.RecvMsg(&m); err != nil {
				return err
			}
			m = cannedAnswer[5:]
			return stream.SendMsg(&m)
		}))
		go func() { _ = s.Serve(ln) }()
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func acceptAll(ln net.Listener) {
	p := NewServer(Limits{})
	var mu sync.Mutex
	var conns []wire.Conn
	go func() {
		for now := range time.Tick(10 * time.Millisecond) {
			mu.Lock()
			for _, c := range conns {
				c.Sweep(now)
			}
			mu.Unlock()
		}
	}()
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		c := p.NewConn(nc, nil, nil, handler(canned))
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		go c.Serve()
	}
}

// rawCodec passes messages as they are.
type rawCodec struct{}

var _ encoding.CodecV2 = rawCodec{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// load is one connection that keeps so many calls in flight.
type load struct {
	conn  net.Conn
	enc   *hpack.Encoder
	block bytes.Buffer
	out   []byte
	next  uint32
	n     int
}

func newLoad(address string) (*load, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	l := &load{conn: conn, next: 1}
	l.enc = hpack.NewEncoder(&l.block)
	l.out = append(l.out, preface...)
	l.out = appendSettings(l.out, setting{settingInitialWindowSize, 1 << 20})
	l.out = appendWindowUpdate(l.out, 0, 1<<31-1-65535)
	return l, nil
}

var loadToken = "Bearer " + strings.Repeat("eyJhbGciOi", 30)

// call appends a request as a gRPC client sends it: some fields differ each time.
func (l *load) call() {
	l.n++
	l.block.Reset()
	for _, f := range [...]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/acme.library.v1.Library/GetBook"},
		{Name: ":authority", Value: "library.example.com"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: "grpc-go/1.85.0"},
		{Name: "te", Value: "trailers"},
		{Name: "grpc-timeout", Value: strconv.Itoa(900_000+l.n%100_000) + "u"},
		{Name: "authorization", Value: loadToken},
		{Name: "traceparent", Value: fmt.Sprintf("00-%032x-%016x-01", l.n, l.n)},
	} {
		_ = l.enc.WriteField(f) // to memory
	}
	l.out = appendHeaders(l.out, l.next, false, l.block.Bytes(), 16<<10)
	var body [5 + 199]byte
	body[4] = 199
	l.out = appendData(l.out, l.next, true, body[:], nil)
	l.next += 2
}

// run makes calls, so many at a time.
func (l *load) run(calls, inFlight int) error {
	b := make([]byte, 64<<10)
	begun, done, have := 0, 0, 0
	for ; begun < inFlight && begun < calls; begun++ {
		l.call()
	}
	for done < calls {
		if len(l.out) > 0 {
			if _, err := l.conn.Write(l.out); err != nil {
				return err
			}
			l.out = l.out[:0]
		}
		n, err := l.conn.Read(b[have:])
		if err != nil {
			return err
		}
		have += n
		at := 0
		for have-at >= 9 {
			size := 9 + frameLength(b[at:])
			if have-at < size {
				break
			}
			typ, flags := frameType(b[at+3]), b[at+4]
			switch typ {
			case frameHeaders, frameData:
				if flags&flagEndStream != 0 {
					if done++; begun < calls {
						begun++
						l.call()
					}
				}
			case frameSettings:
				if flags&flagAck == 0 {
					l.out = appendSettingsAck(l.out)
				}
			case framePing:
				if flags&flagAck == 0 {
					l.out = appendPing(l.out, true, b[at+9:])
				}
			case frameRSTStream, frameGoAway:
				return fmt.Errorf("%v %x", typ, b[at:at+size])
			}
			at += size
		}
		have = copy(b, b[at:have])
	}
	return nil
}

// BenchmarkServer compares what a unary gRPC call costs a server, in CPU of its process: the wall clock of a benchmark says
// nothing on a machine that others use.
func BenchmarkServer(b *testing.B) {
	for _, shape := range []struct{ conns, streams int }{{64, 1}, {8, 16}} {
		for _, name := range []string{"causeway", "net/http", "grpc-go"} {
			b.Run(fmt.Sprintf("%dx%d/%s", shape.conns, shape.streams, strings.ReplaceAll(name, "/", "-")), func(b *testing.B) {
				cmd := exec.CommandContext(b.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), roleVar+"="+name, "GOMAXPROCS=1")
				cmd.Stderr = os.Stderr
				in, err := cmd.StdinPipe()
				if err != nil {
					b.Fatal(err)
				}
				out, err := cmd.StdoutPipe()
				if err != nil {
					b.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					b.Fatal(err)
				}
				address, err := bufio.NewReader(out).ReadString('\n')
				if err != nil {
					b.Fatal(err)
				}
				var wg sync.WaitGroup
				each := max(1, b.N/shape.conns)
				b.ResetTimer()
				for range shape.conns {
					wg.Go(func() {
						l, err := newLoad(strings.TrimSpace(address))
						if err != nil {
							b.Error(err)
							return
						}
						defer l.conn.Close()
						if err := l.run(each, shape.streams); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				_ = in.Close()
				if err := cmd.Wait(); err != nil {
					b.Fatal(err)
				}
				cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				b.ReportMetric(float64(cpu.Microseconds())/float64(each*shape.conns), "cpu-us/call")
			})
		}
	}
}

// BenchmarkServerSweep is what a tick costs for a connection that is idle.
func BenchmarkServerSweep(b *testing.B) {
	p := NewServer(Limits{})
	conns := make([]*serverConn, 10_000)
	for i := range conns {
		conns[i] = p.NewConn(&memConn{}, nil, nil, handler(hello)).(*serverConn)
		conns[i].reader.Store(newFrameReader(nil, nil))
		conns[i].greeted = true
	}
	now := time.Now()
	for i := range b.N {
		conns[i%len(conns)].Sweep(now)
	}
}
