package http2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// memConn is a connection whose client has sent all it will, and takes whatever it is sent.
type memConn struct {
	in     *bytes.Reader
	wait   func() // before the end of in is told
	closed chan struct{}
	once   sync.Once
}

func (c *memConn) Read(p []byte) (int, error) {
	if c.in.Len() == 0 {
		c.wait()
		return 0, io.EOF
	}
	return c.in.Read(p)
}

func (c *memConn) Write(p []byte) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
		return len(p), nil
	}
}

func (c *memConn) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }
func (c *memConn) LocalAddr() net.Addr              { return nil }
func (c *memConn) RemoteAddr() net.Addr             { return nil }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// taken is a request as a server took it.
type taken struct {
	method, host, path string
	header             []string
	body               string
	length             int64
}

// serveBytes has our server take what a client sends, and returns the requests that came whole, by stream.
func serveBytes(t *testing.T, sent []byte) map[uint32]taken {
	t.Helper()
	var mu sync.Mutex
	got := map[uint32]taken{}
	h := func(_ context.Context, x *wire.Exchange) {
		r := taken{method: x.HTTP.Method, host: x.HTTP.Host, path: x.HTTP.Path, length: x.ContentLength}
		if x.HTTP.Query != "" {
			r.path += "?" + x.HTTP.Query
		}
		for _, p := range x.HTTP.Header {
			r.header = append(r.header, strings.Clone(p.Key+": "+p.Value))
		}
		body, err := io.ReadAll(x)
		if err != nil {
			return
		}
		r.body = string(body)
		mu.Lock()
		got[x.Engine().(*serverStream).id] = r
		mu.Unlock()
		if len(body)%2 == 0 {
			_ = x.Respond(200, nil, body)
			return
		}
		_ = x.WriteHead(200, nil)
		_ = x.Write(body)
		_ = x.Flush()
		_ = x.End(rpc.Metadata{{Key: "grpc-status", Value: "0"}})
	}
	s := NewServer(Limits{Memory: 1 << 20})
	conn := &memConn{in: bytes.NewReader(sent), closed: make(chan struct{})}
	c := s.NewConn(conn, nil, nil, handler(h)).(*serverConn)
	conn.wait = func() {
		for range 20 {
			if c.active.Load() == 0 {
				return
			}
			c.Sweep(time.Now())
			time.Sleep(50 * time.Microsecond)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Serve()
	}()
	hang := time.NewTimer(time.Minute)
	defer hang.Stop()
	select {
	case <-done:
	case <-hang.C:
		t.Fatalf("the server hangs on %x", sent)
	}
	if n := s.memory.Load(); n != 0 {
		t.Fatalf("%d bytes are still held after %x", n, sent)
	}
	if n := s.Panics(); n != 0 {
		t.Fatalf("%d panics on %x", n, sent)
	}
	if c.active.Load() != 0 || c.running != 0 || c.streams.n != 0 || len(c.waiting) != 0 {
		t.Fatalf("calls are left: %d running, %d open, %d waiting, %d active after %x", c.running, c.streams.n, len(c.waiting), c.active.Load(), sent)
	}
	return got
}

// oracle reads the requests of what a client sends by x/net's Framer and hpack, and which of them it has seen the end of. whole: it
// found no fault in the frames.
func oracle(sent []byte) (requests map[uint32]*taken, ended map[uint32]bool, whole bool) {
	requests, ended = map[uint32]*taken{}, map[uint32]bool{}
	if !bytes.HasPrefix(sent, []byte(preface)) {
		return requests, ended, false
	}
	fr := http2.NewFramer(io.Discard, bytes.NewReader(sent[len(preface):]))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.MaxHeaderListSize = 1 << 20
	fr.SetMaxReadFrameSize(16 << 10)
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			if _, ok := errors.AsType[http2.StreamError](err); ok {
				continue
			}
			return requests, ended, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			ended[f.StreamID] = ended[f.StreamID] || f.StreamEnded()
			if requests[f.StreamID] != nil {
				continue // trailers
			}
			r := &taken{method: f.PseudoValue("method"), host: f.PseudoValue("authority"), path: f.PseudoValue("path"), length: -1}
			if path, query, _ := strings.Cut(r.path, "?"); query == "" {
				r.path = path // an empty query is none
			}
			cookie := -1
			for _, h := range f.RegularFields() {
				switch {
				case h.Name == "host":
					r.host = h.Value
					continue
				case h.Name == "content-length":
					r.length = parseLength(h.Value)
				case h.Name == "cookie" && cookie >= 0:
					r.header[cookie] += "; " + h.Value
					continue
				case h.Name == "cookie":
					cookie = len(r.header)
				}
				r.header = append(r.header, h.Name+": "+h.Value)
			}
			r.host = hostOf(r.host)
			requests[f.StreamID] = r
		case *http2.DataFrame:
			// What comes behind the end is not of the request, which may have been taken by then.
			if r := requests[f.StreamID]; r != nil && !ended[f.StreamID] {
				r.body += string(f.Data())
			}
			ended[f.StreamID] = ended[f.StreamID] || f.StreamEnded()
		}
	}
}

// Whatever a client sends, the server neither panics nor hangs, and nothing of it is held afterwards; and the requests that
// it takes are those that x/net's Framer and hpack read in the same frames.
func FuzzServerConn(f *testing.F) {
	var sent bytes.Buffer
	r := &raw{t: f, conn: nil}
	r.fr = http2.NewFramer(&sent, nil)
	r.fr.AllowIllegalWrites = true
	r.enc = hpack.NewEncoder(&r.buf)
	seed := func(fill func()) {
		sent.Reset()
		r.enc = hpack.NewEncoder(&r.buf)
		_ = r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
		_ = r.fr.WriteSettingsAck()
		fill()
		f.Add(bytes.Clone(sent.Bytes()))
	}
	seed(func() {
		r.headers(1, true, get("cookie", "a", "cookie", "b", "host", "Example.com")...)
		r.headers(3, false, post("content-length", "5", "x-a", "b")...)
		r.data(3, false, "ab")
		r.headers(5, true, ":method", "OPTIONS", ":scheme", "http", ":path", "*")
		r.data(3, true, "cde")
	})
	seed(func() {
		r.headers(1, false, post("expect", "100-continue")...)
		_ = r.fr.WriteDataPadded(1, false, []byte("abc"), make([]byte, 10))
		_ = r.fr.WriteWindowUpdate(1, 10)
		_ = r.fr.WriteWindowUpdate(0, 10)
		_ = r.fr.WritePing(false, [8]byte{1})
		r.headers(1, true, "x-trailer", "a")
		r.headers(3, false, post()...)
		_ = r.fr.WriteRSTStream(3, http2.ErrCodeCancel)
		_ = r.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
	})
	seed(func() {
		block := r.block(get("x-long", strings.Repeat("l", 300))...)
		_ = r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:10], EndStream: true, Priority: http2.PriorityParam{StreamDep: 3}})
		_ = r.fr.WriteContinuation(1, false, block[10:20])
		_ = r.fr.WriteContinuation(1, true, block[20:])
		_ = r.fr.WritePriority(5, http2.PriorityParam{StreamDep: 1})
		_ = r.fr.WriteRawFrame(0x0c, 0xff, 9, []byte("unknown"))
		r.headers(7, true, get("x-long", strings.Repeat("l", 300))...)
	})
	seed(func() {
		r.headers(1, true, get("Upper", "a")...)
		r.headers(3, true, get("a", "b\r\nc")...)
		r.headers(5, true, get("content-length", "7")...)
		r.headers(7, true, ":method", "CONNECT", ":authority", "x:1")
		r.headers(9, true, get()...)
		r.data(9, false, "after the end")
		r.headers(9, true, get()...)
	})
	seed(func() { // a priority of RFC 9218, on a stream
		r.headers(1, false, ":method", "POST", ":scheme", "http", ":path", "/a?", "content-length", "010")
		_ = r.fr.WriteRawFrame(http2.FramePriorityUpdate, 0, 5, []byte("abc"))
		r.data(1, true, "0123456789")
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		sent := append([]byte(preface), b...)
		got := serveBytes(t, sent)
		if len(got) == 0 {
			return
		}
		want, ended, whole := oracle(sent)
		for id, g := range got {
			w := want[id]
			if !whole && !ended[id] {
				continue // the Framer stopped before: it knows types of frames that are none of RFC 9113, and finds faults in them
			}
			if w == nil {
				if whole {
					t.Fatalf("stream %d: ours took %+v, x/net's Framer saw none; sent %x", id, g, b)
				}
				continue
			}
			if diff := cmp.Diff(*w, g, cmp.AllowUnexported(taken{}), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("stream %d: x/net reads (-) and ours took (+)\n%s; sent %x", id, diff, b)
			}
		}
	})
}

// A server takes nothing but the preface first.
func FuzzServerPreface(f *testing.F) {
	f.Add([]byte(preface), 10)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 3)
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), 24)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if cut < 0 || cut > len(b) {
			return
		}
		s := NewServer(Limits{})
		conn := &memConn{in: bytes.NewReader(b[cut:]), closed: make(chan struct{}), wait: func() {}}
		c := s.NewConn(conn, b[:cut], nil, handler(hello)).(*serverConn)
		c.Serve()
		if took := c.reader.Load() != nil; took != bytes.HasPrefix(b, []byte(preface)) {
			t.Errorf("%q: taken for HTTP/2: %v", b, took)
		}
	})
}
