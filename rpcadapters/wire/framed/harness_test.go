package framed

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The protocol of these tests: four bytes of length (of the whole), one of kind, four of number, content. Kind 'u' is a call
// or its answer, 's' a frame of a stream, 'x' noise, 'l' asks to leave.
const headLen = 9

type framing struct{}

func (framing) Head() int { return 4 }

func (framing) Length(head []byte) (int, error) {
	n := binary.BigEndian.Uint32(head)
	if n < headLen {
		return 0, errors.New("too short")
	}
	return int(n), nil
}

func (framing) Label(f []byte) (Label, error) {
	l := Label{ID: binary.BigEndian.Uint32(f[5:])}
	switch f[4] {
	case 'u':
	case 's':
		l.Kind = OfStream
	case 'x':
		l.Kind = Noise
	case 'l':
		l.Kind = Leave
	default:
		return l, errors.New("no such kind")
	}
	return l, nil
}

type text struct {
	kind byte
	body []byte
}

func (t *text) AppendFrame(dst []byte, id uint32) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(headLen+len(t.body)))
	dst = append(dst, t.kind)
	dst = binary.BigEndian.AppendUint32(dst, id)
	return append(dst, t.body...)
}

func unary(s string) *text    { return &text{'u', []byte(s)} }
func ofStream(s string) *text { return &text{'s', []byte(s)} }

// echo answers calls with their content, except: "wait" is not answered before its context ends, "slow" after release is
// closed, "panic" panics. Streams echo every frame until one that says "end".
type echo struct {
	release chan struct{}

	mu    sync.Mutex
	seen  []string // contents of calls
	ended int      // "wait"s whose context has ended
	why   []Refused
}

func (e *echo) Begin(in *Incoming) Handler {
	if in.Kind == OfStream {
		if in.Refused != Taken {
			in.SendNow(ofStream("refused"))
			return nil
		}
		return &echoStream{in: in, news: make(chan *rpc.Buffer, 1000)}
	}
	return e
}

func (e *echo) Run(in *Incoming) {
	body := string(in.Frame[headLen:])
	e.mu.Lock()
	e.why = append(e.why, in.Refused)
	if in.Refused == Taken {
		e.seen = append(e.seen, body)
	}
	e.mu.Unlock()
	if in.Refused != Taken {
		_ = in.Send(unary("refused"))
		return
	}
	switch body {
	case "wait":
		<-in.Context().Done()
		e.mu.Lock()
		e.ended++
		e.mu.Unlock()
	case "deadline":
		in.Context().SetDeadline(in.Start.Add(30 * time.Millisecond))
		<-in.Context().Done()
		_ = in.Send(unary(in.Context().Err().Error()))
	case "slow":
		<-e.release
		_ = in.Send(unary("slow"))
	case "panic":
		panic("asked")
	default:
		_ = in.Send(unary(body))
	}
}

type echoStream struct {
	in   *Incoming
	news chan *rpc.Buffer
	once sync.Once
}

func (s *echoStream) Frame(b *rpc.Buffer) { s.news <- b }
func (s *echoStream) Broken(*Fault)       { s.once.Do(func() { close(s.news) }) }

func (s *echoStream) Run(in *Incoming) {
	_ = in.Send(ofStream("begun " + string(in.Frame[headLen:])))
	for b := range s.news {
		body := string(b.B[headLen:])
		b.Free()
		if in.Send(ofStream(body)) != nil || body == "end" {
			return
		}
	}
}

// serve serves until the test ends and returns the server and its address.
func serve(t testing.TB, cfg ServerConfig, o server.Options) (*server.Server, string) {
	t.Helper()
	cfg.Framing = framing{}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	s := server.One(nobody{}, NewServer(cfg), o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // cuts what a failed test left
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, ln.Addr().String()
}

type nobody struct{}

func (nobody) ServeExchange(context.Context, *wire.Exchange) {}

func client(t testing.TB, address string, cfg ClientConfig) *Client {
	t.Helper()
	cfg.Framing, cfg.Address = framing{}, address
	cl, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cl.Close()
		if n := cl.Panics(); n != 0 {
			t.Errorf("%d panics in the client", n)
		}
	})
	return cl
}

// ask makes one call.
func ask(ctx context.Context, cl *Client, body string) (string, error) {
	c := &Call{}
	if err := cl.Unary(ctx, c, unary(body)); err != nil {
		return "", err
	}
	defer c.Reset()
	return string(c.Answer()[headLen:]), nil
}

func mustAsk(t testing.TB, cl *Client, body, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if got, err := ask(ctx, cl, body); err != nil || got != want {
		t.Fatalf("answer to %.20q: want %.20q, found %.20q, %v", body, want, got, err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after 20 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func isFault(t testing.TB, err error, kind FaultKind, sent bool) {
	t.Helper()
	var f *Fault
	if !errors.As(err, &f) || f.Kind != kind || f.Sent != sent {
		t.Fatalf("want a fault %q with sent %v, found %v", faultNames[kind], sent, err)
	}
}

// listen accepts connections and has each served by f.
func listen(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); all.Wait() })
	return ln.Addr().String()
}

// read reads one frame by hand.
func read(c net.Conn) (kind byte, id uint32, body string, err error) {
	var head [headLen]byte
	if _, err = readFull(c, head[:]); err != nil {
		return 0, 0, "", err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:])-headLen)
	_, err = readFull(c, b)
	return head[4], binary.BigEndian.Uint32(head[5:]), string(b), err
}

func readFull(c net.Conn, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := c.Read(b[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
