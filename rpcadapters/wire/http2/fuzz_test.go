package http2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// FuzzFrames holds the reader against x/net's Framer: what both take means the same, and what we take it takes.
func FuzzFrames(f *testing.F) {
	var all []byte
	all = appendSettings(all, setting{settingInitialWindowSize, 7})
	all = appendHeaders(all, 1, false, bytes.Repeat([]byte{0x88}, 100), 40)
	all = appendData(all, 1, true, []byte("abc"), []byte("def"))
	all = append(all, 0, 0, 4, 0, flagPadded, 0, 0, 0, 1, 2, 'x', 0, 0)
	all = append(all, 0, 0, 6, 1, flagPriority|flagEndHeaders, 0, 0, 0, 1, 0, 0, 0, 3, 9, 0x88)
	all = appendPing(all, true, make([]byte, 8))
	all = appendGoAway(all, 9, Cancel, "debug")
	all = appendWindowUpdate(all, 3, 10)
	all = appendRSTStream(all, 3, Cancel)
	all = append(all, 0, 0, 1, 0xb, 0xff, 0, 0, 0, 0, 1)
	f.Add(all, uint8(0))
	f.Add(all[:len(all)-2], uint8(3))
	f.Add(appendFrameHeader(nil, 1<<20, frameData, 0, 1), uint8(1))
	f.Fuzz(func(t *testing.T, wire []byte, step uint8) {
		r := newFrameReader(&inSteps{bytes.NewReader(wire), int(step)}, nil)
		oracle := http2.NewFramer(io.Discard, bytes.NewReader(wire))
		oracle.SetMaxReadFrameSize(maxFrameSize)
		for {
			var got inFrame
			if err := r.next(&got); err != nil {
				return // whoever is stricter may be
			}
			want, err := oracle.ReadFrame()
			if err != nil {
				if got.typ > frameContinuation {
					return // it knows types that are none of RFC 9113
				}
				if s := defaultSettings(); got.typ == frameSettings && s.apply(&got) != nil {
					return // which is where we look at the values
				}
				// Faults of a stream we hand on with the frame.
				var se http2.StreamError
				if got.fault == NoError || !errors.As(err, &se) {
					if got.typ == frameWindowUpdate || got.typ == framePriority || got.typ == frameHeaders {
						return // it counts some of them as the connection's
					}
					t.Fatalf("%v of %d bytes was taken; the oracle says %v", got.typ, got.length, err)
				}
				return
			}
			h := want.Header()
			if frameType(h.Type) != got.typ || h.StreamID != got.stream || int(h.Length) != got.length {
				t.Fatalf("want %v, found %v on %d of %d", h, got.typ, got.stream, got.length)
			}
			switch w := want.(type) {
			case *http2.DataFrame:
				same(t, w.Data(), got.payload)
			case *http2.HeadersFrame:
				block := bytes.Clone(w.HeaderBlockFragment())
				for ended := w.HeadersEnded(); !ended; {
					next, err := oracle.ReadFrame()
					if err != nil {
						t.Fatalf("a block was joined; the oracle says %v", err)
					}
					c, ok := next.(*http2.ContinuationFrame)
					if !ok {
						t.Fatalf("a block was joined across %v", next)
					}
					block = append(block, c.HeaderBlockFragment()...)
					ended = c.HeadersEnded()
				}
				same(t, block, got.payload)
			case *http2.RSTStreamFrame:
				if uint32(w.ErrCode) != uint32(got.code()) {
					t.Fatalf("want %v, found %v", w.ErrCode, got.code())
				}
			case *http2.WindowUpdateFrame:
				if w.Increment != got.increment() {
					t.Fatalf("want %d, found %d", w.Increment, got.increment())
				}
			case *http2.GoAwayFrame:
				last, code, debug := got.goAway()
				if last != w.LastStreamID || uint32(code) != uint32(w.ErrCode) {
					t.Fatalf("want %v, found %d %v", w, last, code)
				}
				same(t, w.DebugData(), debug)
			case *http2.PingFrame:
				same(t, w.Data[:], got.payload)
			case *http2.SettingsFrame:
				s := defaultSettings()
				if err := s.apply(&got); err != nil {
					return
				}
				if v, ok := w.Value(http2.SettingMaxConcurrentStreams); ok && !w.HasDuplicates() && v != s.maxStreams {
					t.Fatalf("want %d, found %d", v, s.maxStreams)
				}
			}
		}
	})
}

func same(t *testing.T, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		t.Fatalf("want %q, found %q", want, got)
	}
}

// inSteps reads a few bytes at a time.
type inSteps struct {
	r    io.Reader
	step int
}

func (s *inSteps) Read(p []byte) (int, error) {
	if s.step > 0 && len(p) > s.step {
		p = p[:s.step]
	}
	return s.r.Read(p)
}

// FuzzHeaderBlock holds the decoder, and what is kept of it by the memo, against x/net's decoder.
func FuzzHeaderBlock(f *testing.F) {
	f.Add([]byte{0x88}, uint8(1), false)
	f.Add(AppendField(AppendIndexed(nil, 8), "grpc-status", "0"), uint8(1), true)
	f.Add(AppendNamed(AppendIndexed(AppendIndexed(nil, 3), 6), 4, "/a"), uint8(0), false)
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, h := range []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}, {Name: "x", Value: "y"}, {Name: "x", Value: "y"}} {
		_ = enc.WriteField(h)
	}
	f.Add(b.Bytes(), uint8(1), false)
	f.Add([]byte{0x3f, 0xe1, 0x1f, 0x82}, uint8(2), true)
	f.Add(append(bytes.Repeat([]byte{0xab}, maxHeaderList/32), 0, 1, 'a', 0x81, 0), uint8(0), false) // a code that is none, too late
	f.Fuzz(func(t *testing.T, block []byte, k uint8, stateless bool) {
		kind := blockKind(k % 3)
		d := newHeaderDecoder()
		oracle := hpack.NewDecoder(defaultTableSize, nil)
		if stateless {
			d.stateless()
			oracle.SetAllowedMaxDynamicTableSize(0)
			oracle.SetMaxDynamicTableSize(0)
		}
		for range 2 { // the second time the table may have something of the first
			want, werr := oracle.DecodeFull(block)
			var got fields
			err := d.decode(block, kind, &got)
			if err != nil {
				if werr == nil && len(block) <= maxHeaderList/2 {
					t.Fatalf("refused: %v; the oracle has %v", err, want)
				}
				return
			}
			if werr != nil {
				if got.tooLarge && errors.Is(werr, hpack.ErrInvalidHuffman) {
					return // of what comes behind the limit, only what the table is to have is decoded
				}
				t.Fatalf("taken; the oracle says %v", werr)
			}
			if got.fault != "" || got.tooLarge {
				continue
			}
			i := 0
			for _, h := range want {
				if h.IsPseudo() {
					continue
				}
				if i >= len(got.list) || got.list[i].Key != h.Name || got.list[i].Value != h.Value {
					t.Fatalf("want %v, found %v", want, got.list)
				}
				i++
			}
			if i != len(got.list) {
				t.Fatalf("want %d fields, found %v", i, got.list)
			}
			for _, p := range got.list {
				if !validName(p.Key) || bytes.ContainsAny([]byte(p.Value), "\r\n\x00") {
					t.Fatalf("found %q", p)
				}
			}
		}
	})
}

// FuzzClientConn feeds a client what no server would send: whatever it is, calls end, and nothing is left behind.
func FuzzClientConn(f *testing.F) {
	greeting := appendSettings(nil, setting{settingMaxConcurrentStreams, 10})
	answer := appendHeaders(nil, 1, false, AppendIndexed(nil, IndexStatus200), 16384)
	answer = appendData(answer, 1, false, nil, []byte("hello"))
	answer = appendHeaders(answer, 1, true, AppendField(nil, "grpc-status", "0"), 16384)
	f.Add(append(bytes.Clone(greeting), answer...))
	f.Add(append(append(bytes.Clone(greeting), answer...), answer...))
	f.Add(appendGoAway(bytes.Clone(greeting), 0, NoError, ""))
	f.Add(appendRSTStream(bytes.Clone(greeting), 1, RefusedStream))
	f.Add(appendWindowUpdate(appendWindowUpdate(bytes.Clone(greeting), 0, maxWindow), 1, 5))
	f.Add(appendSettings(appendSettingsAck(bytes.Clone(greeting)), setting{settingInitialWindowSize, 0}))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, says []byte) {
		a, b := net.Pipe()
		cl, err := NewClient(ClientConfig{Address: "127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		c := newClientConn(cl, a, a)
		cl.all[c] = struct{}{}
		cl.dialing = 1
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			up := false
			err := c.serve(func() {
				up = true
				cl.up(c)
			})
			cl.forget(c)
			if !up {
				cl.down(err)
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, b) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		type result struct {
			body string
			err  error
		}
		unary, streaming := make(chan result, 2), make(chan result, 1)
		for range 2 {
			go func() {
				body, err := ask(ctx, cl, "x")
				unary <- result{body, err}
			}()
		}
		go func() {
			s, err := cl.Open(ctx, requestHead, 0)
			if err != nil {
				streaming <- result{"", err}
				return
			}
			_ = s.Send(nil, make([]byte, 10))
			_ = s.CloseSend()
			body, err := io.ReadAll(s)
			s.Cancel()
			streaming <- result{string(body), err}
		}()
		_, _ = b.Write(says)
		_ = b.Close() // what the server said is all it will ever say
		<-ended
		cl.Close()
		for range 2 {
			if r := <-unary; r.err == nil && ctx.Err() != nil {
				t.Errorf("a call took until its deadline: %q", r.body)
			}
		}
		<-streaming
		if ctx.Err() != nil {
			t.Error("a call hung")
		}
		if n := cl.Conns(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}
