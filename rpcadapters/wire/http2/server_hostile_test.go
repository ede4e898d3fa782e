package http2

import (
	"context"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// canary is a polite client beside a hostile one: its calls never fail.
type canary struct {
	stop chan struct{}
	done sync.WaitGroup
	n    int
}

func sing(t *testing.T, s *listening) *canary {
	t.Helper()
	c := &canary{stop: make(chan struct{})}
	r := dialRaw(t, s.address)
	c.done.Go(func() {
		for id := uint32(1); ; id += 2 {
			r.headers(id, true, get()...)
			for a := r.answer(id); !a.ended; {
				if _, reset := r.resets[id]; reset || !r.read() {
					t.Errorf("the canary's call %d: want an answer, found %v, %v, %v", id, r.resets, r.goAways, r.ended)
					return
				}
			}
			delete(r.answers, id)
			c.n++
			select {
			case <-c.stop:
				return
			default:
			}
		}
	})
	return c
}

func (c *canary) end(t *testing.T) {
	t.Helper()
	close(c.stop)
	c.done.Wait()
	if c.n == 0 {
		t.Error("the canary did not sing")
	}
}

// Requests that are malformed (RFC 9113 section 8.1.1) reset their stream alone.
func TestServerRefusesRequests(t *testing.T) {
	served := atomic.Int64{}
	s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Path != "/good" {
			served.Add(1)
		}
		mirror(ctx, x)
	})
	r := dialRaw(t, s.address)
	good := func(more ...string) []string {
		return append([]string{":method", "GET", ":scheme", "http", ":path", "/good", ":authority", "x"}, more...)
	}
	r.headers(1, false, good()...) // open all the time
	id := uint32(1)
	for _, tc := range []struct {
		name   string
		fields []string
	}{
		{"no :method", []string{":scheme", "http", ":path", "/", ":authority", "x"}},
		{"no :scheme", []string{":method", "GET", ":path", "/", ":authority", "x"}},
		{"no :path", []string{":method", "GET", ":scheme", "http", ":authority", "x"}},
		{"nothing", nil},
		{"no pseudo header", []string{"a", "b"}},
		{"empty :path", []string{":method", "GET", ":scheme", "http", ":path", "", ":authority", "x"}},
		{":path without a slash", []string{":method", "GET", ":scheme", "http", ":path", "service/Method", ":authority", "x"}},
		{":path *", []string{":method", "GET", ":scheme", "http", ":path", "*", ":authority", "x"}},
		{":path **", []string{":method", "OPTIONS", ":scheme", "http", ":path", "**", ":authority", "x"}},
		{":path that is a URI", []string{":method", "GET", ":scheme", "http", ":path", "http://y/", ":authority", "x"}},
		{":path with space", []string{":method", "GET", ":scheme", "http", ":path", "/a HTTP/1.1", ":authority", "x"}},
		{":path with CR LF", []string{":method", "GET", ":scheme", "http", ":path", "/a\r\nx: y", ":authority", "x"}},
		{":path with NUL", []string{":method", "GET", ":scheme", "http", ":path", "/a\x00", ":authority", "x"}},
		{":method with space", []string{":method", "GET /admin", ":scheme", "http", ":path", "/", ":authority", "x"}},
		{"empty :method", []string{":method", "", ":scheme", "http", ":path", "/", ":authority", "x"}},
		{":scheme of another kind", []string{":method", "GET", ":scheme", "file", ":path", "/", ":authority", "x"}},
		{":scheme with more", []string{":method", "GET", ":scheme", "http://y/?", ":path", "/", ":authority", "x"}},
		{":method twice", good(":method", "GET")},
		{":path twice", []string{":method", "GET", ":path", "/", ":scheme", "http", ":path", "/admin", ":authority", "x"}},
		{":authority twice", []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x", ":authority", "x"}},
		{"pseudo header after others", []string{":method", "GET", ":scheme", "http", "a", "b", ":path", "/", ":authority", "x"}},
		{":status", good(":status", "200")},
		{"an unknown pseudo header", []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x", ":evil", "x"}},
		{":protocol", []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "x"}},
		{":Path", []string{":method", "GET", ":scheme", "http", ":Path", "/", ":authority", "x"}},
		{":authority with user", []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a@x"}},
		{":authority with path", []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x/y"}},
		{":authority with space", []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x y"}},
		{"host that differs", good("host", "y")},
		{"two hosts", good("host", "x", "host", "y")},
		{"two hosts alone", []string{":method", "GET", ":scheme", "http", ":path", "/", "host", "x", "host", "y"}},
		{"an upper-case name", good("X-Upper", "a")},
		{"an empty name", good("", "a")},
		{"a name with space", good("a b", "c")},
		{"a name with colon", good("a:b", "c")},
		{"a name with CR LF", good("a\r\nb", "c")},
		{"a name with NUL", good("a\x00", "c")},
		{"a name beyond ASCII", good("\xc3\xa4", "c")},
		{"a value with CR LF", good("a", "b\r\nx-consumer: mallory")},
		{"a value with LF", good("a", "b\nc")},
		{"a value with CR", good("a", "b\rc")},
		{"a value with NUL", good("a", "b\x00c")},
		{"a value with DEL", good("a", "b\x7fc")},
		{"a value with space before", good("a", " b")},
		{"a value with tab behind", good("a", "b\t")},
		{"connection", good("connection", "x-consumer")},
		{"Connection's close", good("connection", "close")},
		{"keep-alive", good("keep-alive", "5")},
		{"proxy-connection", good("proxy-connection", "close")},
		{"transfer-encoding", good("transfer-encoding", "chunked")},
		{"upgrade", good("upgrade", "h2c")},
		{"te", good("te", "trailers, deflate")},
		{"te gzip", good("te", "gzip")},
		{"content-length twice", good("content-length", "0", "content-length", "0")},
		{"content-lengths", good("content-length", "0, 0")},
		{"content-length +0", good("content-length", "+0")},
		{"content-length -1", good("content-length", "-1")},
		{"content-length 0x0", good("content-length", "0x0")},
		{"content-length empty", good("content-length", "")},
		{"content-length 2^64", good("content-length", "18446744073709551616")},
		{"content-length without a body", good("content-length", "1")},
	} {
		id += 2
		// A reset for each; so many in a second would be an attack of their own.
		if id%400 == 1 {
			time.Sleep(time.Second + time.Millisecond)
		}
		r.headers(id, true, tc.fields...)
		r.until(tc.name, func() bool { _, ok := r.resets[id]; return ok || r.answer(id).ended })
		if code, ok := r.resets[id]; !ok || code != http2.ErrCodeProtocol {
			t.Errorf("%s: want a reset with PROTOCOL_ERROR, found %v, answered %q %q", tc.name, r.resets[id], r.answer(id).status(), r.answer(id).body)
		}
	}
	if n := served.Load(); n != 0 {
		t.Errorf("want none of them served, found %d", n)
	}
	r.data(1, true, "")
	r.wantAnswer(1, "200") // the one beside them all
}

// What is odd but well formed is the edge's to judge: it comes through as it is.
func TestServerPassesToTheEdge(t *testing.T) {
	s := serve(t, Limits{}, nil, mirror)
	r := dialRaw(t, s.address)
	for i, path := range []string{
		"/public/../admin", "/%2e%2e%2fadmin", "//admin", "/admin;x", "/a%2Fb", "/a%252Fb", `/a\b`, "/a%00", "/a#b", "/%", "/\xc3\xa4", "/a?b?c#d", "/?", "/a/", "/.",
	} {
		id := uint32(2*i + 1)
		r.headers(id, true, ":method", "GET", ":scheme", "http", ":path", path, ":authority", "x")
		p, q, _ := strings.Cut(path, "?")
		if got, want := string(r.wantAnswer(id, "200").body), "HTTP/2.0 GET http x "+p+" ? "+q+" -1\n\n"; got != want {
			t.Errorf("want %q, found %q", want, got)
		}
	}
	// Names that only look like others are themselves.
	r.headers(101, true, get("x_consumer", "a", "x-consumer", "b", "grpc-timeout", "99999999H", "grpc-encoding", "x", "host", "EXAMPLE.com")...)
	if got := string(r.wantAnswer(101, "200").body); !strings.HasSuffix(got, " -1\nx_consumer: a\nx-consumer: b\ngrpc-timeout: 99999999H\ngrpc-encoding: x\n\n") {
		t.Errorf("found %q", got)
	}
	r.headers(103, true, ":method", "CONNECT", ":authority", "internal:22")
	r.wantAnswer(103, "405")
}

// Bodies that are not what their heads say.
func TestServerBodyFaults(t *testing.T) {
	s := serve(t, Limits{}, nil, mirror)
	r := dialRaw(t, s.address)
	for i, tc := range []struct {
		name string
		send func(id uint32)
		code http2.ErrCode
	}{
		{"longer than it says", func(id uint32) { r.headers(id, false, post("content-length", "2")...); r.data(id, false, "abc") }, http2.ErrCodeProtocol},
		{"shorter than it says", func(id uint32) { r.headers(id, false, post("content-length", "4")...); r.data(id, true, "abc") }, http2.ErrCodeProtocol},
		{"shorter, by trailers", func(id uint32) {
			r.headers(id, false, post("content-length", "4")...)
			r.data(id, false, "abc")
			r.headers(id, true, "a", "b")
		}, http2.ErrCodeProtocol},
		{"longer, in several", func(id uint32) {
			r.headers(id, false, post("content-length", "4")...)
			r.data(id, false, "abc")
			r.data(id, true, "de")
		}, http2.ErrCodeProtocol},
		{"trailers that do not end", func(id uint32) { r.headers(id, false, post()...); r.headers(id, false, "a", "b") }, http2.ErrCodeProtocol},
		{"trailers with a pseudo header", func(id uint32) { r.headers(id, false, post()...); r.headers(id, true, ":path", "/admin") }, http2.ErrCodeProtocol},
		{"trailers with a connection header", func(id uint32) {
			r.headers(id, false, post()...)
			r.headers(id, true, "transfer-encoding", "chunked")
		}, http2.ErrCodeProtocol},
		{"more than the window", func(id uint32) {
			r.headers(id, false, post("x-hold", "1")...)
			for range 5 {
				r.data(id, false, strings.Repeat("x", 16<<10))
			}
		}, http2.ErrCodeFlowControl},
		{"a window too wide", func(id uint32) {
			r.headers(id, false, post()...)
			_ = r.fr.WriteWindowUpdate(id, 1<<31-1)
		}, http2.ErrCodeFlowControl},
		{"a window by nothing", func(id uint32) {
			r.headers(id, false, post()...)
			_ = r.fr.WriteWindowUpdate(id, 0)
		}, http2.ErrCodeProtocol},
		{"depends on itself", func(id uint32) {
			_ = r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(get()...), EndHeaders: true, EndStream: true, Priority: http2.PriorityParam{StreamDep: id}})
		}, http2.ErrCodeProtocol},
	} {
		id := uint32(2*i + 1)
		if tc.name == "more than the window" { // somebody has to leave the window full
			continue
		}
		tc.send(id)
		r.until(tc.name, func() bool { _, ok := r.resets[id]; return ok || r.answer(id).ended })
		if code, ok := r.resets[id]; !ok || code != tc.code {
			t.Errorf("%s: want a reset with %v, found %v, answered %q", tc.name, tc.code, r.resets, r.answer(id).status())
		}
	}
	r.headers(201, true, get()...)
	r.wantAnswer(201, "200")
	hold := serve(t, Limits{}, nil, func(ctx context.Context, _ *wire.Exchange) { <-ctx.Done() })
	r = dialRaw(t, hold.address)
	r.headers(1, false, post()...)
	for range 5 {
		r.data(1, false, strings.Repeat("x", 16<<10))
	}
	r.wantReset(1, http2.ErrCodeFlowControl)
}

// Frames that end the connection, each with its code.
func TestServerConnectionFaults(t *testing.T) {
	s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Method == "POST" {
			<-ctx.Done()
			return
		}
		hello(ctx, x)
	})
	bird := sing(t, s)
	const end = http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream
	some := func(r *raw) []byte { return r.block(get()...) }
	for _, tc := range []struct {
		name  string
		bytes func(r *raw) []byte
		code  http2.ErrCode
	}{
		{"DATA on stream 0", func(*raw) []byte { return frame(nil, http2.FrameData, 0, 0, 1) }, http2.ErrCodeProtocol},
		{"DATA on a stream never opened", func(*raw) []byte { return frame(nil, http2.FrameData, 0, 7, 1) }, http2.ErrCodeProtocol},
		{"DATA on a stream of ours", func(*raw) []byte { return frame(nil, http2.FrameData, 0, 2, 1) }, http2.ErrCodeProtocol},
		{"HEADERS on stream 0", func(r *raw) []byte { return frame(nil, http2.FrameHeaders, end, 0, some(r)...) }, http2.ErrCodeProtocol},
		{"HEADERS on a stream of ours", func(r *raw) []byte { return frame(nil, http2.FrameHeaders, end, 2, some(r)...) }, http2.ErrCodeProtocol},
		{"HEADERS on a lower stream", func(r *raw) []byte {
			return frame(frame(nil, http2.FrameHeaders, end, 5, some(r)...), http2.FrameHeaders, end, 3, some(r)...)
		}, http2.ErrCodeProtocol},
		{"PUSH_PROMISE", func(*raw) []byte { return frame(nil, http2.FramePushPromise, end, 1, 0, 0, 0, 2) }, http2.ErrCodeProtocol},
		{"RST_STREAM on a stream never opened", func(*raw) []byte { return frame(nil, http2.FrameRSTStream, 0, 7, 0, 0, 0, 8) }, http2.ErrCodeProtocol},
		{"RST_STREAM on stream 0", func(*raw) []byte { return frame(nil, http2.FrameRSTStream, 0, 0, 0, 0, 0, 8) }, http2.ErrCodeProtocol},
		{"RST_STREAM of 3 bytes", func(*raw) []byte { return frame(nil, http2.FrameRSTStream, 0, 1, 0, 0, 0) }, http2.ErrCodeFrameSize},
		{"WINDOW_UPDATE on a stream never opened", func(*raw) []byte { return frame(nil, http2.FrameWindowUpdate, 0, 7, 0, 0, 0, 8) }, http2.ErrCodeProtocol},
		{"WINDOW_UPDATE of 0", func(*raw) []byte { return frame(nil, http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0) }, http2.ErrCodeProtocol},
		{"WINDOW_UPDATE too wide", func(*raw) []byte { return frame(nil, http2.FrameWindowUpdate, 0, 0, 0x7f, 255, 255, 255) }, http2.ErrCodeFlowControl},
		{"SETTINGS on a stream", func(*raw) []byte { return frame(nil, http2.FrameSettings, 0, 1) }, http2.ErrCodeProtocol},
		{"SETTINGS of 5 bytes", func(*raw) []byte { return frame(nil, http2.FrameSettings, 0, 0, 1, 2, 3, 4, 5) }, http2.ErrCodeFrameSize},
		{"SETTINGS ACK with more", func(*raw) []byte { return frame(nil, http2.FrameSettings, 1, 0, 0, 1, 0, 0, 0, 0) }, http2.ErrCodeFrameSize},
		{"ENABLE_PUSH 2", func(*raw) []byte { return frame(nil, http2.FrameSettings, 0, 0, 0, 2, 0, 0, 0, 2) }, http2.ErrCodeProtocol},
		{"INITIAL_WINDOW_SIZE 2^31", func(*raw) []byte { return frame(nil, http2.FrameSettings, 0, 0, 0, 4, 0x80, 0, 0, 0) }, http2.ErrCodeFlowControl},
		{"MAX_FRAME_SIZE 0", func(*raw) []byte { return frame(nil, http2.FrameSettings, 0, 0, 0, 5, 0, 0, 0, 0) }, http2.ErrCodeProtocol},
		{"PING of 7 bytes", func(*raw) []byte { return frame(nil, http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7) }, http2.ErrCodeFrameSize},
		{"PING on a stream", func(*raw) []byte { return frame(nil, http2.FramePing, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8) }, http2.ErrCodeProtocol},
		{"GOAWAY of 7 bytes", func(*raw) []byte { return frame(nil, http2.FrameGoAway, 0, 0, 1, 2, 3, 4, 5, 6, 7) }, http2.ErrCodeFrameSize},
		{"CONTINUATION alone", func(r *raw) []byte { return frame(nil, http2.FrameContinuation, end, 1, some(r)...) }, http2.ErrCodeProtocol},
		{"PING in a header block", func(r *raw) []byte {
			return frame(frame(nil, http2.FrameHeaders, 0, 1, some(r)...), http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)
		}, http2.ErrCodeProtocol},
		{"CONTINUATION of another stream", func(r *raw) []byte {
			return frame(frame(nil, http2.FrameHeaders, 0, 1, some(r)...), http2.FrameContinuation, end, 3)
		}, http2.ErrCodeProtocol},
		{"a frame of 16385 bytes", func(*raw) []byte { return frame(nil, http2.FrameData, 0, 1, make([]byte, 16385)...) }, http2.ErrCodeFrameSize},
		{"padding longer than the frame", func(*raw) []byte { return frame(nil, http2.FrameData, http2.FlagDataPadded, 1, 9, 1) }, http2.ErrCodeProtocol},
		{"an HPACK index that is not there", func(*raw) []byte { return frame(nil, http2.FrameHeaders, end, 1, 0xff, 0x7f) }, http2.ErrCodeCompression},
		{"an HPACK block cut short", func(*raw) []byte { return frame(nil, http2.FrameHeaders, end, 1, 0x40, 0x05, 'a') }, http2.ErrCodeCompression},
		{"HPACK padding of Huffman", func(*raw) []byte { return frame(nil, http2.FrameHeaders, end, 1, 0x40, 1, 'a', 0x81, 0) }, http2.ErrCodeCompression},
		{"an HPACK table too large", func(*raw) []byte { return frame(nil, http2.FrameHeaders, end, 1, 0x3f, 0xff, 0xff, 0x7f) }, http2.ErrCodeCompression},
		{"more than the connection's window", func(r *raw) []byte {
			var b []byte
			for id := uint32(1); id < 60; id += 2 {
				b = frame(b, http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, r.block(post()...)...)
				for range 3 {
					b = frame(b, http2.FrameData, 0, id, make([]byte, 16<<10)...)
				}
			}
			return b
		}, 0}, // its credit comes back at once: none of this is too much
		{"HEADERS on a closed stream", func(r *raw) []byte {
			r.headers(1, true, get()...)
			r.wantAnswer(1, "200")
			return frame(nil, http2.FrameHeaders, end, 1, some(r)...)
		}, http2.ErrCodeStreamClosed},
		{"a header block of more than 64 KiB", func(*raw) []byte {
			b := frame(nil, http2.FrameHeaders, 0, 1, make([]byte, 16<<10)...)
			for range 5 {
				b = frame(b, http2.FrameContinuation, 0, 1, make([]byte, 16<<10)...)
			}
			return b
		}, http2.ErrCodeEnhanceYourCalm},
		{"CONTINUATION without end", func(*raw) []byte {
			b := frame(nil, http2.FrameHeaders, 0, 1, 0x82)
			for range 100_000 {
				b = frame(b, http2.FrameContinuation, 0, 1)
			}
			return b
		}, http2.ErrCodeEnhanceYourCalm},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := dialRaw(t, s.address)
			b := tc.bytes(r)
			go r.send(b)
			if tc.code == 0 {
				r.sync()
				return
			}
			r.wantGoAway(tc.code)
			_ = r.conn.Close()
		})
	}
	t.Run("something else first", func(t *testing.T) {
		r := dialRaw(t, s.address)
		_ = r.conn.Close()
		for _, first := range [][]byte{frame(nil, http2.FramePing, 0, 0, make([]byte, 8)...), frame(nil, http2.FrameSettings, 1, 0), []byte("GET / HTTP/1.1\r\n\r\n")} {
			conn := dialRaw(t, s.address).conn
			_ = conn.Close()
			r := silentRaw(t, dialTCP(t, s.address))
			if first[0] != 'G' {
				r.send([]byte(preface))
			}
			r.send(first)
			for r.read() {
			}
			if len(r.goAways) != 1 || r.goAways[0] != http2.ErrCodeProtocol && r.goAways[0] != http2.ErrCodeFrameSize {
				t.Errorf("%.20q: found %v, %v", first, r.goAways, r.ended)
			}
		}
	})
	bird.end(t)
}

// Heads that are too large are answered, and the connection goes on.
func TestServerHeadLimits(t *testing.T) {
	s := serve(t, Limits{}, nil, mirror)
	r := dialRaw(t, s.address)
	var many []string
	for i := range 96 {
		many = append(many, "x-"+strconv.Itoa(i), "v")
	}
	r.headers(1, true, get(many...)...)
	r.wantAnswer(1, "200")
	many = append(many, "x-97", "", "x-98", "", "x-99", "", "x-100", "", "x-101", "")
	r.headers(3, true, get(many...)...)
	r.wantAnswer(3, "431")
	r.headers(5, false, get(many...)...)
	r.wantAnswer(5, "431")
	r.wantResetAfter(5, http2.ErrCodeNo)
	// A value of 4,000 bytes and references to it, of one byte each: an HPACK bomb.
	bomb := get("x-bomb", strings.Repeat("b", 4000))
	for range 90 {
		bomb = append(bomb, "x-bomb", strings.Repeat("b", 4000))
	}
	block := r.block(bomb...)
	if len(block) > 4<<10 {
		t.Fatalf("the bomb takes %d bytes", len(block))
	}
	_ = r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, BlockFragment: block, EndHeaders: true, EndStream: true})
	r.wantAnswer(7, "431")
	r.headers(9, true, get("x-after", "the table is as it was")...)
	if got := string(r.wantAnswer(9, "200").body); !strings.Contains(got, "the table is as it was") {
		t.Errorf("found %q", got)
	}
}

// Frames that cost more than they say, 100,000 of each: the connection ends, and nobody else notices.
func TestServerFloods(t *testing.T) {
	var running, most atomic.Int64
	s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		if x.HTTP.Method == "POST" {
			<-ctx.Done()
			return
		}
		hello(ctx, x)
	})
	bird := sing(t, s)
	const end = http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream
	repeat := func(n int, one []byte) func(*raw) []byte { return func(*raw) []byte { return slices.Repeat(one, n) } }
	opened := func(then []byte, n int) func(r *raw) []byte {
		return func(r *raw) []byte {
			b := frame(nil, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, r.block(post()...)...)
			return append(b, slices.Repeat(then, n)...)
		}
	}
	each := func(flags http2.Flags, fields []string, then func(b []byte, id uint32) []byte) func(r *raw) []byte {
		return func(r *raw) []byte {
			b := frame(nil, http2.FrameHeaders, end, 1, r.block(get()...)...)
			var block []byte
			for i := 0; i < len(fields); i += 2 {
				block = AppendField(block, fields[i], fields[i+1])
			}
			for i := range 100_000 {
				id := uint32(2*i + 3)
				b = then(frame(b, http2.FrameHeaders, flags, id, block...), id)
			}
			return b
		}
	}
	for _, tc := range []struct {
		name  string
		bytes func(r *raw) []byte
	}{
		{"PING", repeat(100_000, frame(nil, http2.FramePing, 0, 0, make([]byte, 8)...))},
		{"PING ACK", repeat(100_000, frame(nil, http2.FramePing, 1, 0, make([]byte, 8)...))},
		{"SETTINGS", repeat(100_000, frame(nil, http2.FrameSettings, 0, 0))},
		{"SETTINGS with values", repeat(100_000, frame(nil, http2.FrameSettings, 0, 0, 0, 4, 0, 0, 1, 0))},
		{"SETTINGS ACK", repeat(100_000, frame(nil, http2.FrameSettings, 1, 0))},
		{"PRIORITY", repeat(100_000, frame(nil, http2.FramePriority, 0, 1, 0, 0, 0, 3, 7))},
		{"unknown frames", repeat(100_000, frame(nil, 0x0a, 0xff, 0x7fffffff, 1, 2, 3))},
		{"unknown frames on 0", repeat(100_000, frame(nil, 0x0f, 0, 0))},
		{"empty DATA", opened(frame(nil, http2.FrameData, 0, 1), 100_000)},
		{"padded empty DATA", opened(frame(nil, http2.FrameData, http2.FlagDataPadded, 1, 1, 0), 100_000)},
		{"WINDOW_UPDATE", opened(frame(nil, http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 1), 100_000)},
		{"WINDOW_UPDATE on 0", repeat(100_000, frame(nil, http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 1))},
		{"GOAWAY", repeat(100_000, frame(nil, http2.FrameGoAway, 0, 0, make([]byte, 8)...))},
		{"RST_STREAM of one stream", opened(frame(nil, http2.FrameRSTStream, 0, 1, 0, 0, 0, 8), 100_000)},
		{"DATA on a closed stream", opened(append(frame(nil, http2.FrameRSTStream, 0, 1, 0, 0, 0, 8), frame(nil, http2.FrameData, 0, 1, 1)...), 100_000)},
		{"rapid reset", each(end, get(), func(b []byte, id uint32) []byte { return frame(b, http2.FrameRSTStream, 0, id, 0, 0, 0, 8) })},
		{"rapid reset of calls that hang", each(http2.FlagHeadersEndHeaders, post(), func(b []byte, id uint32) []byte { return frame(b, http2.FrameRSTStream, 0, id, 0, 0, 0, 8) })},
		{"resets provoked by windows", each(http2.FlagHeadersEndHeaders, post(), func(b []byte, id uint32) []byte { return frame(b, http2.FrameWindowUpdate, 0, id, 0, 0, 0, 0) })},
		{"resets provoked by wide windows", each(http2.FlagHeadersEndHeaders, post(), func(b []byte, id uint32) []byte {
			return frame(b, http2.FrameWindowUpdate, 0, id, 0x7f, 0xff, 0xff, 0xff)
		})},
		{"resets provoked by DATA after the end", each(end, post(), func(b []byte, id uint32) []byte { return frame(b, http2.FrameData, 0, id, 1) })},
		{"resets provoked by HEADERS after the end", each(end, post(), func(b []byte, id uint32) []byte { return frame(b, http2.FrameHeaders, end, id, 0x82) })},
		{"malformed requests", each(end, []string{"a", "b"}, func(b []byte, _ uint32) []byte { return b })},
		{"streams beyond the limit", each(end, post(), func(b []byte, _ uint32) []byte { return b })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := dialRaw(t, s.address)
			before := heap()
			b := tc.bytes(r)
			go r.send(b)
			r.wantGoAway(http2.ErrCodeEnhanceYourCalm)
			_ = r.conn.Close()
			eventually(t, "its calls ended", func() bool { return running.Load() <= 1 && len(s.list()) == 1 })
			if grown := heap() - before; grown > 8<<20 {
				t.Errorf("want what it took given back, found %d bytes more", grown)
			}
		})
	}
	bird.end(t)
	if most.Load() > 101 { // and the canary
		t.Errorf("want at most 100 calls of a connection at once, found %d", most.Load())
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A client that sends questions and reads no answers is left before they are many.
func TestServerAnswersNotRead(t *testing.T) {
	s := serve(t, Limits{}, nil, hello)
	bird := sing(t, s)
	r := dialRaw(t, s.address)
	go func() {
		ping := frame(nil, http2.FramePing, 0, 0, make([]byte, 8)...)
		for r.send(slices.Repeat(ping, 900)) {
			time.Sleep(time.Millisecond)
		}
	}()
	eventually(t, "the connection ended", func() bool { return len(s.list()) == 1 })
	bird.end(t)
}

// The handlers of a connection are bounded, however many streams its client opens and cancels.
func TestServerHandlersBounded(t *testing.T) {
	var running, most, begun atomic.Int64
	release := make(chan struct{})
	s := serve(t, Limits{}, nil, func(context.Context, *wire.Exchange) { // deaf to being cancelled
		begun.Add(1)
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-release
		running.Add(-1)
	})
	r := dialRaw(t, s.address)
	for id := uint32(1); id < 600; id += 2 {
		r.headers(id, true, get()...)
		if id%50 == 49 {
			time.Sleep(2 * wastedWithin)
		}
		r.must(r.fr.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	r.sync()
	eventually(t, "100 calls", func() bool { return begun.Load() == 100 })
	// Those that wait and are not cancelled have their turn.
	for id := uint32(601); id < 700; id += 2 {
		r.headers(id, true, get()...)
	}
	r.sync()
	if begun.Load() != 100 {
		t.Errorf("want 100 calls begun, found %d", begun.Load())
	}
	close(release)
	eventually(t, "the calls that waited", func() bool { return begun.Load() == 150 && running.Load() == 0 })
	if most.Load() > 100 {
		t.Errorf("want at most 100 at once, found %d", most.Load())
	}
	eventually(t, "nothing held", func() bool { return s.protocol.memory.Load() == 0 })
}

// A polite client that cancels all its calls, after their answers have begun or after 10 ms, is never punished.
func TestServerPoliteCanceller(t *testing.T) {
	const calls = 10_000
	s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Method == "GET" {
			_ = x.WriteHead(200, nil)
			_ = x.Flush()
		}
		<-ctx.Done()
	})
	r := dialRaw(t, s.address)
	id := uint32(1)
	for done := 0; done < calls; {
		begun := time.Now()
		n := min(100, calls-done)
		first := id
		method := "GET"
		if done/100%10 == 9 {
			method = "POST"
		}
		for range n {
			r.headers(id, true, ":method", method, ":scheme", "http", ":path", "/", ":authority", "x")
			id += 2
		}
		if method == "GET" {
			r.until("the beginnings of all answers", func() bool { return r.answers[id-2] != nil && len(r.answers) == n })
			clear(r.answers)
		} else {
			r.sync()
			time.Sleep(10*time.Millisecond - time.Since(begun))
		}
		for i := first; i < id; i += 2 {
			r.must(r.fr.WriteRSTStream(i, http2.ErrCodeCancel))
		}
		done += n
	}
	r.sync()
	if len(r.goAways) != 0 || len(r.resets) != 0 {
		t.Errorf("want no punishment, found %v and %v", r.goAways, r.resets)
	}
}

// Many connections with the largest heads, whose answers are not taken: what they hold is bounded for all together, and
// comes back with the streams.
func TestServerMemoryBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("holds 100 MiB")
	}
	const connections, streams = 200, 100
	s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Path == "/" && x.HTTP.Header.Has("x-bomb") {
			<-ctx.Done()
			return
		}
		hello(ctx, x)
	})
	before := heap()
	var all []*raw
	refused := 0
	var block, attack []byte
	for i, f := 0, get("x-bomb", strings.Repeat("b", 30<<10)); i < len(f); i += 2 {
		block = AppendField(block, f[i], f[i+1])
	}
	for i := range streams {
		attack = appendHeaders(attack, uint32(2*i+1), false, block, 16<<10)
	}
	for range connections {
		r := dialRaw(t, s.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		all = append(all, r)
		r.send(attack)
		r.sync()
		refused += len(r.resets)
	}
	if held := s.protocol.memory.Load(); held > s.protocol.limits.Memory || held < s.protocol.limits.Memory/2 {
		t.Errorf("want most of %d bytes held and no more, found %d", s.protocol.limits.Memory, held)
	}
	if grown := heap() - before; grown > 300<<20 {
		t.Errorf("want less than 300 MiB more, found %d", grown)
	}
	if refused == 0 {
		t.Error("want streams refused")
	}
	for _, r := range all {
		for i := range streams {
			_ = r.fr.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		}
	}
	eventually(t, "all given back", func() bool { return s.protocol.memory.Load() == 0 })
	r := dialRaw(t, s.address)
	r.headers(1, true, get()...)
	r.wantAnswer(1, "200")
}

// Bodies that nobody reads count as well.
func TestServerMemoryOfBodies(t *testing.T) {
	s := serve(t, Limits{Memory: 1 << 20}, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Method == "POST" {
			<-ctx.Done()
			return
		}
		hello(ctx, x)
	})
	r := dialRaw(t, s.address)
	for id := uint32(1); id < 60; id += 2 {
		r.headers(id, false, post()...)
		for range 3 {
			r.data(id, false, strings.Repeat("x", 16<<10))
		}
	}
	r.sync()
	if len(r.resets) == 0 {
		t.Fatal("want streams reset")
	}
	for id, code := range r.resets {
		if code != http2.ErrCodeEnhanceYourCalm && code != http2.ErrCodeRefusedStream {
			t.Errorf("stream %d: found %v", id, code)
		}
	}
	for id := uint32(1); id < 60; id += 2 {
		if _, reset := r.resets[id]; !reset {
			r.must(r.fr.WriteRSTStream(id, http2.ErrCodeCancel))
		}
	}
	eventually(t, "all given back", func() bool { return s.protocol.memory.Load() == 0 })
	r.headers(101, true, get()...)
	r.wantAnswer(101, "200")
}

// A body larger than the window arrives whole, read in whatever pieces.
func TestServerLargeBody(t *testing.T) {
	s := serve(t, Limits{}, nil, func(_ context.Context, x *wire.Exchange) {
		n, err := io.Copy(io.Discard, x)
		if err != nil {
			t.Error(err)
		}
		_ = x.Respond(200, nil, strconv.AppendInt(nil, n, 10))
	})
	r := dialRaw(t, s.address)
	r.headers(1, false, post("content-length", "10000000")...)
	window := 65535
	for sent := 0; sent < 10_000_000; {
		n := min(10_000, 10_000_000-sent)
		r.until("credit", func() bool { return window+int(r.updates[1])-sent >= n })
		r.data(1, sent+n == 10_000_000, strings.Repeat("x", n))
		sent += n
	}
	if got := string(r.wantAnswer(1, "200").body); got != "10000000" {
		t.Errorf("found %s", got)
	}
}

// What polite clients do a lot of is no attack: bodies on their way when they were refused, credit in small pieces, a PING
// for each piece of an answer.
func TestServerPoliteClients(t *testing.T) {
	t.Run("refused uploads", func(t *testing.T) {
		s := serve(t, Limits{}, nil, hello)
		r := dialRaw(t, s.address)
		var b []byte
		for id := uint32(1); id < 200; id += 2 {
			r.headers(id, false, post()...)
		}
		for id := uint32(1); id < 200; id += 2 {
			r.wantAnswer(id, "200")
			for range 63 {
				b = appendData(b, id, false, make([]byte, 1<<10), nil)
			}
		}
		r.send(b)
		r.sync()
		if len(r.goAways) != 0 {
			t.Errorf("found %v", r.goAways)
		}
	})
	t.Run("credit and PING for every KiB", func(t *testing.T) {
		s := serve(t, Limits{}, nil, func(_ context.Context, x *wire.Exchange) { _ = x.Respond(200, nil, make([]byte, 4<<20)) })
		r := dialRaw(t, s.address)
		r.stingy = true
		r.headers(1, true, get()...)
		for given := 0; !r.answer(1).ended; {
			if !r.read() {
				t.Fatalf("found %v %q %v", r.goAways, r.reason, r.ended)
			}
			var b []byte
			for ; given+1024 <= len(r.answer(1).body); given += 1024 {
				b = appendWindowUpdate(appendWindowUpdate(b, 0, 1024), 1, 1024)
			}
			if len(b) > 0 {
				r.send(appendPing(b, false, make([]byte, 8)))
			}
		}
	})
}
