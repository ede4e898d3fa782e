package http2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// handler is an exchange's handler as a function.
type handler func(ctx context.Context, x *wire.Exchange)

func (h handler) ServeExchange(ctx context.Context, x *wire.Exchange) { h(ctx, x) }

// listening is a server of the engine's connections as small as can be: it accepts, sweeps and ends them.
type listening struct {
	address  string
	protocol *Server
	listener net.Listener
	done     chan struct{}
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[wire.Conn]struct{}
}

// serve serves h on loopback until the test is over. tlsConfig nil: plain text.
func serve(t testing.TB, l Limits, tlsConfig *tls.Config, h handler) *listening {
	t.Helper()
	s, err := listen(l, tlsConfig, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// listen serves h on loopback until it is closed.
func listen(l Limits, tlsConfig *tls.Config, h handler) (*listening, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &listening{address: ln.Addr().String(), protocol: NewServer(l), listener: ln, done: make(chan struct{}), conns: map[wire.Conn]struct{}{}}
	s.wg.Go(func() { s.accept(tlsConfig, h) })
	s.wg.Go(s.sweep)
	return s, nil
}

func (s *listening) accept(tlsConfig *tls.Config, h wire.Handler) {
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			var state *tls.ConnectionState
			if tlsConfig != nil {
				tc := tls.Server(nc, tlsConfig)
				if tc.Handshake() != nil || tc.ConnectionState().NegotiatedProtocol != "h2" {
					_ = nc.Close()
					return
				}
				cs := tc.ConnectionState()
				nc, state = tc, &cs
			}
			c := s.protocol.NewConn(nc, nil, state, h)
			s.mu.Lock()
			s.conns[c] = struct{}{}
			s.mu.Unlock()
			c.Serve()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

func (s *listening) sweep() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, c := range s.list() {
				c.Sweep(now)
			}
		case <-s.done:
			return
		}
	}
}

func (s *listening) list() []wire.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]wire.Conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// one waits for the server to have one connection and returns it.
func (s *listening) one(t testing.TB) *serverConn {
	t.Helper()
	var list []wire.Conn
	eventually(t, "one connection", func() bool { list = s.list(); return len(list) == 1 })
	return list[0].(*serverConn)
}

func (s *listening) close() {
	_ = s.listener.Close()
	close(s.done)
	for _, c := range s.list() {
		c.Abort()
	}
	s.wg.Wait()
}

// eventually waits for a condition, for as long as a slow machine needs.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%s: it did not come to pass", what)
		}
	}
}

// raw is a client that sends frame by frame what it is told, well formed or not, by x/net's Framer.
type raw struct {
	t    testing.TB
	conn net.Conn
	fr   *http2.Framer
	enc  *hpack.Encoder
	buf  bytes.Buffer

	settings map[http2.SettingID]uint32 // the server's first
	stingy   bool                       // gives no windows back
	silent   bool                       // does not acknowledge SETTINGS
	answers  map[uint32]*rawAnswer
	resets   map[uint32]http2.ErrCode
	goAways  []http2.ErrCode
	lastID   uint32 // of the last GOAWAY
	reason   string // that it gave
	pongs    int
	acks     int
	updates  map[uint32]uint32 // window updates by stream
	ended    error             // why reading ended
}

type rawAnswer struct {
	header, trailer []hpack.HeaderField
	body            []byte
	frames          []http2.FrameHeader
	ended           bool
}

func (a *rawAnswer) status() string { return field(a.header, ":status") }

func field(fields []hpack.HeaderField, name string) string {
	for _, f := range fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// dialRaw connects and goes through the handshake.
func dialRaw(t testing.TB, address string, settings ...http2.Setting) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return newRaw(t, conn, settings...)
}

func newRaw(t testing.TB, conn net.Conn, settings ...http2.Setting) *raw {
	t.Helper()
	r := silentRaw(t, conn)
	r.send([]byte(http2.ClientPreface))
	r.must(r.fr.WriteSettings(settings...))
	r.until("the server's SETTINGS and its ACK", func() bool { return r.settings != nil && r.acks > 0 })
	return r
}

// silentRaw is a client that has sent nothing yet.
func silentRaw(t testing.TB, conn net.Conn) *raw {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, conn: conn, answers: map[uint32]*rawAnswer{}, resets: map[uint32]http2.ErrCode{}, updates: map[uint32]uint32{}}
	r.fr = http2.NewFramer(conn, conn)
	r.fr.AllowIllegalWrites = true
	r.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.enc = hpack.NewEncoder(&r.buf)
	return r
}

func (r *raw) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// send sends bytes as they are. That the server has closed is no fault: what it said before is still read.
func (r *raw) send(b []byte) bool {
	_, err := r.conn.Write(b)
	return err == nil
}

// block encodes header fields, given as name and value by turns.
func (r *raw) block(fields ...string) []byte {
	r.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = r.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // to memory
	}
	return slices.Clone(r.buf.Bytes())
}

// get are the fields of a small request, with more behind them.
func get(more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "http", ":authority", "example.com", ":path", "/"}, more...)
}

func post(more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "http", ":authority", "example.com", ":path", "/"}, more...)
}

// headers sends a request's head. A failed write shows in what is read.
func (r *raw) headers(id uint32, end bool, fields ...string) {
	block := r.block(fields...)
	first := block[:min(len(block), 16<<10)]
	block = block[len(first):]
	_ = r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndHeaders: len(block) == 0, EndStream: end})
	for len(block) > 0 {
		next := block[:min(len(block), 16<<10)]
		block = block[len(next):]
		_ = r.fr.WriteContinuation(id, len(block) == 0, next)
	}
}

func (r *raw) data(id uint32, end bool, body string) {
	_ = r.fr.WriteData(id, end, []byte(body)) // a failed write shows in what is read
}

// frame appends a frame's bytes, whatever they are.
func frame(dst []byte, kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) []byte {
	n := len(payload)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	return append(dst, payload...)
}

// read takes one frame. False: the connection is over.
func (r *raw) read() bool {
	if r.ended != nil {
		return false
	}
	f, err := r.fr.ReadFrame()
	if err != nil {
		r.ended = err
		return false
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			r.acks++
			break
		}
		r.settings = map[http2.SettingID]uint32{}
		_ = f.ForeachSetting(func(s http2.Setting) error { r.settings[s.ID] = s.Val; return nil })
		if !r.silent {
			_ = r.fr.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if f.IsAck() {
			r.pongs++
		} else {
			_ = r.fr.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		r.updates[f.StreamID] += f.Increment
	case *http2.GoAwayFrame:
		r.goAways = append(r.goAways, f.ErrCode)
		r.lastID, r.reason = f.LastStreamID, string(f.DebugData())
	case *http2.RSTStreamFrame:
		r.resets[f.StreamID] = f.ErrCode
	case *http2.MetaHeadersFrame:
		a := r.answer(f.StreamID)
		a.frames = append(a.frames, f.FrameHeader)
		if a.header == nil {
			a.header = slices.Clone(f.Fields)
		} else {
			a.trailer = slices.Clone(f.Fields)
		}
		a.ended = f.StreamEnded()
	case *http2.DataFrame:
		a := r.answer(f.StreamID)
		a.frames = append(a.frames, f.FrameHeader)
		a.body = append(a.body, f.Data()...)
		a.ended = f.StreamEnded()
		if n := uint32(len(f.Data())); n > 0 && !r.stingy {
			_ = r.fr.WriteWindowUpdate(0, n)
			if !a.ended {
				_ = r.fr.WriteWindowUpdate(f.StreamID, n)
			}
		}
	}
	return true
}

func (r *raw) answer(id uint32) *rawAnswer {
	a := r.answers[id]
	if a == nil {
		a = &rawAnswer{}
		r.answers[id] = a
	}
	return a
}

// until reads frames until ok.
func (r *raw) until(what string, ok func() bool) {
	r.t.Helper()
	for !ok() {
		if !r.read() {
			r.t.Fatalf("want %s, found the end of the connection: %v; resets %v, GOAWAY %v, answers %d", what, r.ended, r.resets, r.goAways, len(r.answers))
		}
	}
}

// wantAnswer waits for the whole answer of a stream.
func (r *raw) wantAnswer(id uint32, status string) *rawAnswer {
	r.t.Helper()
	a := r.answer(id)
	r.until("an answer on stream "+strconv.Itoa(int(id)), func() bool { _, reset := r.resets[id]; return a.ended || reset })
	if got := a.status(); got != status || !a.ended {
		r.t.Fatalf("stream %d: want the answer %s, found %q (ended %v), resets %v, body %q", id, status, got, a.ended, r.resets, a.body)
	}
	return a
}

// wantReset waits for a stream to be reset, and finds the connection alive and the code as wanted.
func (r *raw) wantReset(id uint32, code http2.ErrCode) {
	r.t.Helper()
	r.until("a reset of stream "+strconv.Itoa(int(id)), func() bool { _, ok := r.resets[id]; return ok || r.answer(id).ended })
	if got, ok := r.resets[id]; !ok || got != code {
		r.t.Fatalf("stream %d: want RST_STREAM %v, found %v of %v, answer %q", id, code, got, r.resets, r.answer(id).status())
	}
}

// wantGoAway reads to the end of the connection and finds one GOAWAY with an error.
func (r *raw) wantGoAway(code http2.ErrCode) {
	r.t.Helper()
	for r.read() {
	}
	if len(r.goAways) == 0 || r.goAways[len(r.goAways)-1] != code {
		r.t.Fatalf("want GOAWAY %v and the end, found %v and %v; resets %v", code, r.goAways, r.ended, r.resets)
	}
	if !errors.Is(r.ended, io.EOF) && !strings.Contains(r.ended.Error(), "reset by peer") {
		r.t.Fatalf("want the connection closed, found %v", r.ended)
	}
}

// sync proves that the server has taken in all frames sent so far.
func (r *raw) sync() {
	r.t.Helper()
	before := r.pongs
	r.must(r.fr.WritePing(false, [8]byte{1}))
	r.until("an answer to PING", func() bool { return r.pongs > before })
}

// hello answers every request with a short body.
func hello(_ context.Context, x *wire.Exchange) { _ = x.Respond(200, nil, []byte("hello")) }

// mirror answers with what it understood of the request, its body behind it.
func mirror(_ context.Context, x *wire.Exchange) {
	body, err := io.ReadAll(x)
	if err != nil {
		_ = x.Respond(400, nil, []byte(err.Error()))
		return
	}
	_ = x.Respond(200, rpc.Metadata{{Key: "content-type", Value: "text/plain"}}, append(describe(x), body...))
}

// describe writes an exchange's request as text.
func describe(x *wire.Exchange) []byte {
	var b bytes.Buffer
	b.WriteString(x.Proto + " " + x.HTTP.Method + " " + x.HTTP.Scheme + " " + x.HTTP.Host + " " + x.HTTP.Path + " ? " + x.HTTP.Query + " " + strconv.FormatInt(x.ContentLength, 10) + "\n")
	for _, p := range x.HTTP.Header {
		b.WriteString(p.Key + ": " + p.Value + "\n")
	}
	b.WriteString("\n")
	return b.Bytes()
}

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVar); name != "" {
		if err := role(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func dialTCP(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// wantResetAfter waits for a reset that follows an answer.
func (r *raw) wantResetAfter(id uint32, code http2.ErrCode) {
	r.t.Helper()
	r.until("a reset", func() bool { _, ok := r.resets[id]; return ok })
	if r.resets[id] != code {
		r.t.Fatalf("stream %d: want RST_STREAM %v, found %v", id, code, r.resets[id])
	}
}
