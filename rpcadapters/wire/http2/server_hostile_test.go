package http2

import (
	"context"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

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
		{":authority that folds to the host", []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "\u212aiss", "host", "kiss"}},
		{"host that folds to :authority", []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "kiss", "host", "ki\u017fs"}},
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
	bird := sing(t, s.address, 0)
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
