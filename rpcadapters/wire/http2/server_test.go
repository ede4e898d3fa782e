package http2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

func TestServerExchangeOfARequest(t *testing.T) {
	var peer atomic.Value
	s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		peer.Store(x.Peer.Addr().IsLoopback() && !x.Start.IsZero() && x.Peer.Port() != 0)
		mirror(ctx, x)
	})
	r := dialRaw(t, s.address)
	r.headers(1, false, ":method", "POST", ":scheme", "https", ":path", "/a%2Fb//c?x=1&y", ":authority", "API.Example.com.:8080",
		"x-one", "a", "cookie", "a=b", "x-one", "b", "te", "trailers", "cookie", "c=d", "x-empty", "", "content-length", "3")
	r.data(1, false, "ab")
	r.data(1, true, "c")
	a := r.wantAnswer(1, "200")
	want := "HTTP/2.0 POST http api.example.com /a%2Fb//c ? x=1&y 3\nx-one: a\ncookie: a=b; c=d\nx-one: b\nte: trailers\nx-empty: \ncontent-length: 3\n\nabc"
	if diff := cmp.Diff(want, string(a.body)); diff != "" {
		t.Error(diff)
	}
	if field(a.header, "content-type") != "text/plain" || field(a.header, "content-length") != strconv.Itoa(len(want)) {
		t.Errorf("found %v", a.header)
	}
	if d, err := time.Parse(time.RFC1123, field(a.header, "date")); err != nil || time.Since(d).Abs() > time.Minute {
		t.Errorf("date: found %v %v", d, err)
	}
	if !peer.Load().(bool) {
		t.Error("want the peer's address and the time of the start")
	}
	r.headers(3, true, ":method", "GET", ":scheme", "http", ":path", "/", "host", "From.Host:1")
	if got := string(r.wantAnswer(3, "200").body); got != "HTTP/2.0 GET http from.host / ?  -1\n\n" {
		t.Errorf("found %q", got)
	}
	r.headers(5, true, ":method", "OPTIONS", ":scheme", "http", ":path", "*", ":authority", "x")
	if got := string(r.wantAnswer(5, "200").body); !strings.Contains(got, " * ?") {
		t.Errorf("found %q", got)
	}
	c := s.one(t)
	eventually(t, "an idle connection", c.Idle)
	if held := s.protocol.memory.Load(); held != 0 {
		t.Errorf("want nothing held after the calls, found %d bytes", held)
	}
}

// Answers of every shape, and the frames they come in.
func TestServerAnswers(t *testing.T) {
	for _, tc := range []struct {
		name    string
		method  string
		answer  func(x *wire.Exchange) error
		status  string
		body    string
		frames  string
		header  string // a field that has to be there
		trailer string
	}{
		{name: "whole", answer: func(x *wire.Exchange) error { return x.Respond(200, nil, []byte("hi")) }, status: "200", body: "hi", frames: "H D2+", header: "content-length: 2"},
		{name: "empty", answer: func(x *wire.Exchange) error { return x.Respond(404, nil, nil) }, status: "404", frames: "H+", header: "content-length: 0"},
		{name: "no content", answer: func(x *wire.Exchange) error { return x.Respond(204, nil, []byte("no")) }, status: "204", frames: "H+"},
		{name: "HEAD", method: "HEAD", answer: func(x *wire.Exchange) error { return x.Respond(200, nil, []byte("hidden")) }, status: "200", frames: "H+", header: "content-length: 6"},
		{name: "its own length is not believed", answer: func(x *wire.Exchange) error {
			return x.Respond(200, rpc.Metadata{{Key: "content-length", Value: "7"}}, []byte("hi"))
		}, status: "200", body: "hi", frames: "H D2+", header: "content-length: 2"},
		{name: "fields that HTTP/2 does not have", answer: func(x *wire.Exchange) error {
			return x.Respond(200, rpc.Metadata{{Key: "connection", Value: "close"}, {Key: ":status", Value: "500"}, {Key: "x-a", Value: " two\r\nlines "}, {Key: "UPPER", Value: "x"}, {Key: "transfer-encoding", Value: "chunked"}}, nil)
		}, status: "200", frames: "H+", header: "x-a: two  lines"},
		{name: "a status that ends nothing", answer: func(x *wire.Exchange) error { return x.Respond(101, nil, nil) }, status: "500", frames: "H+"},
		{name: "pieces", answer: func(x *wire.Exchange) error {
			return errors.Join(x.WriteHead(200, nil), x.Write([]byte("ab")), x.Write([]byte("cd")), x.End(nil))
		}, status: "200", body: "abcd", frames: "H D4+"},
		{name: "pieces with trailers", answer: func(x *wire.Exchange) error {
			return errors.Join(x.WriteHead(200, nil), x.Write([]byte("ab")), x.End(rpc.Metadata{{Key: "grpc-status", Value: "0"}}))
		}, status: "200", body: "ab", frames: "H D2 H+", trailer: "grpc-status: 0"},
		{name: "flushed", answer: func(x *wire.Exchange) error {
			return errors.Join(x.WriteHead(200, nil), x.Flush(), x.Write([]byte("ab")), x.Flush(), x.Flush(), x.Write([]byte("c")), x.End(nil))
		}, status: "200", body: "abc", frames: "H D2 D1+"},
		{name: "trailers only", answer: func(x *wire.Exchange) error {
			return errors.Join(x.WriteHead(200, rpc.Metadata{{Key: "grpc-status", Value: "5"}}), x.End(nil))
		}, status: "200", frames: "H+", header: "grpc-status: 5"},
		{name: "end after a flush", answer: func(x *wire.Exchange) error {
			return errors.Join(x.WriteHead(200, nil), x.Write([]byte("ab")), x.Flush(), x.End(nil))
		}, status: "200", body: "ab", frames: "H D2 D0+"},
		{name: "pieces to HEAD", method: "HEAD", answer: func(x *wire.Exchange) error {
			return errors.Join(x.WriteHead(200, nil), x.Write([]byte("ab")), x.Write(make([]byte, 1<<20)), x.End(nil))
		}, status: "200", frames: "H+"},
		{name: "pieces and trailers to HEAD", method: "HEAD", answer: func(x *wire.Exchange) error {
			return errors.Join(x.WriteHead(200, nil), x.End(rpc.Metadata{{Key: "a", Value: "b"}}))
		}, status: "200", frames: "H+"},
		{name: "more after the end", answer: func(x *wire.Exchange) error {
			err := errors.Join(x.WriteHead(200, nil), x.Write([]byte("ab")), x.End(nil))
			if !errors.Is(errors.Join(x.Write([]byte("c")), x.Flush()), errEnded) || !errors.Is(x.End(nil), errEnded) {
				return errors.New("want it refused")
			}
			return err
		}, status: "200", body: "ab", frames: "H D2+"},
		{name: "large", answer: func(x *wire.Exchange) error { return x.Respond(200, nil, bytes.Repeat([]byte("x"), 40<<10)) }, status: "200", body: strings.Repeat("x", 40<<10), frames: "H D16384 D16384 D8192+"},
		{name: "large pieces", answer: func(x *wire.Exchange) error {
			return errors.Join(x.WriteHead(200, nil), x.Write([]byte("yy")), x.Write(bytes.Repeat([]byte("x"), 16<<10)), x.End(nil))
		}, status: "200", body: "yy" + strings.Repeat("x", 16<<10), frames: "H D16384 D2 D0+"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, Limits{}, nil, func(_ context.Context, x *wire.Exchange) {
				if err := tc.answer(x); err != nil {
					t.Error(err)
				}
			})
			r := dialRaw(t, s.address)
			method := tc.method
			if method == "" {
				method = "GET"
			}
			r.headers(1, true, ":method", method, ":scheme", "http", ":path", "/", ":authority", "x")
			a := r.wantAnswer(1, tc.status)
			if string(a.body) != tc.body {
				t.Errorf("want the body %.80q, found %.80q", tc.body, a.body)
			}
			var frames []string
			for _, f := range a.frames {
				kind := "H"
				if f.Type == http2.FrameData {
					kind = "D" + strconv.Itoa(int(f.Length))
				}
				if f.Flags.Has(http2.FlagDataEndStream) {
					kind += "+"
				}
				frames = append(frames, kind)
			}
			if got := strings.Join(frames, " "); got != tc.frames {
				t.Errorf("want the frames %s, found %s", tc.frames, got)
			}
			if k, v, _ := strings.Cut(tc.header, ": "); k != "" && field(a.header, k) != v {
				t.Errorf("want %s, found %v", tc.header, a.header)
			}
			if k, v, _ := strings.Cut(tc.trailer, ": "); k != "" && field(a.trailer, k) != v {
				t.Errorf("want %s, found %v", tc.trailer, a.trailer)
			}
			r.sync()
			if len(r.resets) != 0 {
				t.Errorf("want no reset, found %v", r.resets)
			}
		})
	}
}

// An answer that was not finished must not look like one.
func TestServerBrokenAnswers(t *testing.T) {
	for name, answer := range map[string]handler{
		"none":    func(context.Context, *wire.Exchange) {},
		"no end":  func(_ context.Context, x *wire.Exchange) { _ = x.WriteHead(200, nil); _ = x.Write([]byte("a")) },
		"flushed": func(_ context.Context, x *wire.Exchange) { _ = x.WriteHead(200, nil); _ = x.Flush() },
		"abort": func(_ context.Context, x *wire.Exchange) {
			_ = x.WriteHead(200, nil)
			_ = x.Flush()
			x.Abort()
			x.Abort()
		},
		"panic": func(context.Context, *wire.Exchange) { panic("a fault of the handler") },
		"half done": func(_ context.Context, x *wire.Exchange) {
			_ = x.WriteHead(200, nil)
			_ = x.Flush()
			panic("half done")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
				if x.HTTP.Path == "/good" {
					hello(ctx, x)
					return
				}
				answer(ctx, x)
			})
			r := dialRaw(t, s.address)
			r.headers(1, true, get()...)
			r.wantReset(1, http2.ErrCodeInternal)
			r.headers(3, true, ":method", "GET", ":scheme", "http", ":path", "/good", ":authority", "x")
			r.wantAnswer(3, "200")
			panicked := strings.HasPrefix(name, "panic") || strings.HasPrefix(name, "half")
			if want := map[bool]int64{true: 1}[panicked]; s.protocol.Panics() != want {
				t.Errorf("want %d panics counted, found %d", want, s.protocol.Panics())
			}
			eventually(t, "nothing held", func() bool { return s.protocol.memory.Load() == 0 && s.one(t).Idle() })
		})
	}
}

// A body that nobody reads is not asked for any further, after the answer.
func TestServerUnreadBody(t *testing.T) {
	s := serve(t, Limits{}, nil, hello)
	r := dialRaw(t, s.address)
	r.headers(1, false, post("content-length", "100000")...)
	r.data(1, false, "the beginning")
	r.wantAnswer(1, "200")
	r.until("a reset", func() bool { _, ok := r.resets[1]; return ok })
	if r.resets[1] != http2.ErrCodeNo {
		t.Errorf("want NO_ERROR, found %v", r.resets[1])
	}
	for range 20 { // these were on their way
		r.data(1, false, strings.Repeat("x", 10000))
	}
	r.headers(3, true, get()...)
	r.wantAnswer(3, "200")
	if len(r.resets) != 1 {
		t.Errorf("found %v", r.resets)
	}
	if r.updates[0] < 100_000 {
		t.Errorf("want the connection's credit given back, found %d bytes of it", r.updates[0])
	}
}

// The stream's credit comes back as its body is read, the connection's at once.
func TestServerCredit(t *testing.T) {
	read := make(chan int)
	s := serve(t, Limits{}, nil, func(ctx context.Context, x *wire.Exchange) {
		if x.HTTP.Method == "PUT" {
			<-ctx.Done()
			return
		}
		b := make([]byte, 8<<10)
		total := 0
		for n := range read {
			m, err := io.ReadFull(x, b[:n])
			total += m
			if err != nil {
				t.Error(err)
			}
		}
		n, err := x.Read(b)
		if n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("want the end, found %d %v", n, err)
		}
		_ = x.Respond(200, nil, strconv.AppendInt(nil, int64(total), 10))
	})
	r := dialRaw(t, s.address)
	if r.settings[http2.SettingInitialWindowSize] != 64<<10 || r.settings[http2.SettingMaxConcurrentStreams] != 100 || r.settings[http2.SettingMaxHeaderListSize] != 64<<10 {
		t.Errorf("settings: found %v", r.settings)
	}
	if r.updates[0] != 1<<20-65535 {
		t.Errorf("want the connection's window at 1 MiB, found %d more", r.updates[0])
	}
	r.headers(1, false, post()...)
	r.sync()
	for range 4 {
		r.data(1, false, strings.Repeat("x", 16<<10))
	}
	r.sync()
	if r.updates[1] != 0 {
		t.Errorf("want no credit for what nobody has read, found %d", r.updates[1])
	}
	for range 4 {
		read <- 8 << 10
	}
	r.until("half a window", func() bool { return r.updates[1] == 32<<10 })
	for range 4 {
		read <- 8 << 10
	}
	r.until("a window", func() bool { return r.updates[1] == 64<<10 })
	r.data(1, true, "")
	close(read)
	if got := string(r.wantAnswer(1, "200").body); got != "65536" {
		t.Errorf("found %s", got)
	}
	// The connection's comes back by halves whoever reads.
	for id := uint32(3); id < 23; id += 2 {
		r.headers(id, false, ":method", "PUT", ":scheme", "http", ":path", "/", ":authority", "x")
		for range 4 {
			r.data(id, false, strings.Repeat("x", 16<<10))
		}
	}
	r.sync()
	if r.updates[0] < 1<<20-65535+512<<10 {
		t.Errorf("want the connection's credit given back, found %d", r.updates[0])
	}
}

// Who does not read holds its own answer and nobody else's.
func TestServerSlowReader(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 300_000)
	s := serve(t, Limits{}, nil, func(_ context.Context, x *wire.Exchange) {
		if x.HTTP.Path == "/big" {
			_ = x.Respond(200, nil, big)
			return
		}
		_ = x.Respond(200, nil, []byte("small"))
	})
	r := dialRaw(t, s.address)
	r.stingy = true
	r.must(r.fr.WriteWindowUpdate(0, 10<<20))
	r.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/big", ":authority", "x")
	r.until("a window full of the answer", func() bool { return len(r.answer(1).body) == 65535 })
	for id := uint32(3); id < 100; id += 2 {
		r.headers(id, true, get()...)
		r.wantAnswer(id, "200")
	}
	c := s.one(t)
	c.w.Lock()
	held := len(c.w.Batch)
	c.w.Unlock()
	if held > 64<<10 || len(r.answer(1).body) != 65535 {
		t.Errorf("want at most 64 KiB held, found %d, and %d bytes sent", held, len(r.answer(1).body))
	}
	r.must(r.fr.WriteWindowUpdate(1, 1<<20))
	if got := len(r.wantAnswer(1, "200").body); got != len(big) {
		t.Errorf("found %d bytes", got)
	}
	// The connection's own window holds all of them, and nothing but them.
	r.headers(201, true, ":method", "GET", ":scheme", "http", ":path", "/big", ":authority", "x")
	r.must(r.fr.WriteWindowUpdate(201, 1<<20))
	r.wantAnswer(201, "200")
}

// A window is narrowed and widened while an answer waits for it.
func TestServerWindowChanges(t *testing.T) {
	s := serve(t, Limits{}, nil, func(_ context.Context, x *wire.Exchange) { _ = x.Respond(200, nil, []byte("0123456789")) })
	r := dialRaw(t, s.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4})
	r.stingy = true
	r.headers(1, true, get()...)
	r.until("4 bytes", func() bool { return len(r.answer(1).body) == 4 })
	r.must(r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 2})) // the window is -2 now
	r.must(r.fr.WriteWindowUpdate(1, 3))
	r.until("one byte more", func() bool { return len(r.answer(1).body) == 5 })
	r.sync()
	if n := len(r.answer(1).body); n != 5 {
		t.Errorf("want 5 bytes, found %d", n)
	}
	r.must(r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}))
	if got := string(r.wantAnswer(1, "200").body); got != "0123456789" {
		t.Errorf("found %q", got)
	}
}

// Header blocks of answers that are larger than a frame go on in CONTINUATION.
func TestServerLargeAnswerHead(t *testing.T) {
	value := strings.Repeat("v", 40<<10)
	s := serve(t, Limits{}, nil, func(_ context.Context, x *wire.Exchange) {
		_ = x.Respond(200, rpc.Metadata{{Key: "x-large", Value: value}}, []byte("body"))
	})
	r := dialRaw(t, s.address)
	r.headers(1, true, get()...)
	if a := r.wantAnswer(1, "200"); field(a.header, "x-large") != value || string(a.body) != "body" {
		t.Error("the answer is not what was sent")
	}
}

func TestServerExpectContinue(t *testing.T) {
	s := serve(t, Limits{}, nil, mirror)
	r := dialRaw(t, s.address)
	r.headers(1, false, post("expect", "100-continue")...)
	r.until("100 Continue", func() bool { return r.answer(1).status() == "100" })
	r.answer(1).header = nil
	r.data(1, true, "now")
	if a := r.wantAnswer(1, "200"); !strings.HasSuffix(string(a.body), "now") {
		t.Errorf("found %q", a.body)
	}
}

// A body's trailers end it; a body is as long as it says.
func TestServerBodyEnds(t *testing.T) {
	s := serve(t, Limits{}, nil, mirror)
	r := dialRaw(t, s.address)
	r.headers(1, false, post("content-length", "2")...)
	r.data(1, false, "ab")
	r.headers(1, true, "x-trailer", "dropped", "x-consumer", "mallory")
	if a := r.wantAnswer(1, "200"); !strings.HasSuffix(string(a.body), "\n\nab") || strings.Contains(string(a.body), "mallory") {
		t.Errorf("found %q", a.body)
	}
}

// Over TLS, and with the preface read by somebody else, all is the same.
func TestServerTLS(t *testing.T) {
	conf := serverTLS(t)
	s := serve(t, Limits{}, conf, mirror)
	conn, err := tls.Dial("tcp", s.address, clientTLS(t, conf))
	if err != nil {
		t.Fatal(err)
	}
	r := newRaw(t, conn)
	for id := uint32(1); id < 20; id += 2 {
		r.headers(id, false, post()...)
		r.data(id, true, "abc")
		if a := r.wantAnswer(id, "200"); !strings.HasPrefix(string(a.body), "HTTP/2.0 POST https example.com / ") {
			t.Errorf("found %q", a.body)
		}
	}
	s.one(t).Drain()
	r.wantGoAway(http2.ErrCodeNo)
}

// What was read before the connection was handed over is part of it, wherever it was cut.
func TestServerReadBefore(t *testing.T) {
	var sent bytes.Buffer
	sent.WriteString(preface)
	fr := http2.NewFramer(&sent, nil)
	_ = fr.WriteSettings()
	_ = fr.WriteSettingsAck()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i, f := 0, get(); i < len(f); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: f[i], Value: f[i+1]})
	}
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for cut := range sent.Len() + 1 {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := NewServer(Limits{}).NewConn(server, sent.Bytes()[:cut], nil, handler(hello))
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Serve()
		}()
		r := silentRaw(t, client)
		r.send(sent.Bytes()[cut:])
		r.wantAnswer(1, "200")
		c.Abort()
		<-done
	}
}
