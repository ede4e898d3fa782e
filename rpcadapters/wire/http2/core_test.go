package http2

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// readAll reads frames until the error, and describes them.
func readAll(src io.Reader) (got []string, err error) {
	r := newFrameReader(src, nil)
	for {
		var f inFrame
		if err := r.next(&f); err != nil {
			return got, err
		}
		s := f.typ.String() + " " + string(f.payload)
		if f.fault != NoError {
			s += " " + f.fault.String()
		}
		got = append(got, s)
	}
}

func TestFrameReaderRefuses(t *testing.T) {
	head := func(length int, typ frameType, flags uint8, stream uint32, payload ...byte) []byte {
		return append(appendFrameHeader(nil, length, typ, flags, stream), payload...)
	}
	for _, tc := range []struct {
		name  string
		bytes []byte
		code  ErrCode
		fault ErrCode // of the stream
	}{
		{name: "too long", bytes: head(16385, frameData, 0, 1), code: FrameSizeError},
		{name: "data on 0", bytes: head(0, frameData, 0, 0), code: ProtocolError},
		{name: "headers on 0", bytes: head(0, frameHeaders, flagEndHeaders, 0), code: ProtocolError},
		{name: "reset on 0", bytes: head(4, frameRSTStream, 0, 0, 0, 0, 0, 0), code: ProtocolError},
		{name: "reset of 3", bytes: head(3, frameRSTStream, 0, 1, 0, 0, 0), code: FrameSizeError},
		{name: "settings on 1", bytes: head(0, frameSettings, 0, 1), code: ProtocolError},
		{name: "settings of 5", bytes: head(5, frameSettings, 0, 0, 0, 0, 0, 0, 0), code: FrameSizeError},
		{name: "settings ack of 6", bytes: head(6, frameSettings, flagAck, 0, 0, 0, 0, 0, 0, 0), code: FrameSizeError},
		{name: "ping on 1", bytes: head(8, framePing, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), code: ProtocolError},
		{name: "ping of 7", bytes: head(7, framePing, 0, 0, 0, 0, 0, 0, 0, 0, 0), code: FrameSizeError},
		{name: "goaway of 7", bytes: head(7, frameGoAway, 0, 0, 0, 0, 0, 0, 0, 0, 0), code: FrameSizeError},
		{name: "goaway on 1", bytes: head(8, frameGoAway, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0), code: ProtocolError},
		{name: "window of 3", bytes: head(3, frameWindowUpdate, 0, 0, 0, 0, 0), code: FrameSizeError},
		{name: "window of 0", bytes: head(4, frameWindowUpdate, 0, 0, 0, 0, 0, 0), code: ProtocolError},
		{name: "window of 0 on 1", bytes: head(4, frameWindowUpdate, 0, 1, 0, 0, 0, 0), fault: ProtocolError},
		{name: "push", bytes: head(4, framePushPromise, flagEndHeaders, 1, 0, 0, 0, 2), code: ProtocolError},
		{name: "continuation alone", bytes: head(0, frameContinuation, flagEndHeaders, 1), code: ProtocolError},
		{name: "continuation of another", bytes: append(head(0, frameHeaders, 0, 1), head(0, frameContinuation, flagEndHeaders, 3)...), code: ProtocolError},
		{name: "ping in a block", bytes: append(head(0, frameHeaders, 0, 1), head(8, framePing, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)...), code: ProtocolError},
		{name: "padding too long", bytes: head(2, frameData, flagPadded, 1, 2, 0), code: ProtocolError},
		{name: "padding missing", bytes: head(0, frameData, flagPadded, 1), code: FrameSizeError},
		{name: "priority missing", bytes: head(4, frameHeaders, flagPriority|flagEndHeaders, 1, 0, 0, 0, 0), code: FrameSizeError},
		{name: "depends on itself", bytes: head(5, frameHeaders, flagPriority|flagEndHeaders, 1, 0, 0, 0, 1, 0), fault: ProtocolError},
		{name: "priority on itself", bytes: head(5, framePriority, 0, 1, 0, 0, 0, 1, 0), fault: ProtocolError},
		{name: "priority of 4", bytes: head(4, framePriority, 0, 1, 0, 0, 0, 1), fault: FrameSizeError},
		{name: "endless continuation", bytes: append(head(0, frameHeaders, 0, 1), bytes.Repeat(head(0, frameContinuation, 0, 1), 20)...), code: EnhanceYourCalm},
		{name: "huge block", bytes: append(head(16384, frameHeaders, 0, 1, make([]byte, 16384)...), bytes.Repeat(head(16384, frameContinuation, 0, 1, make([]byte, 16384)...), 6)...), code: EnhanceYourCalm},
		{name: "settings without end", bytes: head(6*65, frameSettings, 0, 0, make([]byte, 6*65)...), code: EnhanceYourCalm},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readAll(bytes.NewReader(tc.bytes))
			if tc.fault != NoError {
				if len(got) != 1 || !strings.HasSuffix(got[0], tc.fault.String()) || !errors.Is(err, io.EOF) {
					t.Errorf("want a fault of the stream %v, found %q %v", tc.fault, got, err)
				}
				return
			}
			var ce *ConnError
			if !errors.As(err, &ce) || ce.Code != tc.code {
				t.Errorf("want %v, found %q %v", tc.code, got, err)
			}
		})
	}
}

// One byte at a time and all at once give the same frames.
func TestFrameReaderInPieces(t *testing.T) {
	block := bytes.Repeat([]byte("b"), 40_000)
	var wire []byte
	wire = appendSettings(wire, setting{settingMaxFrameSize, 16384})
	wire = appendHeaders(wire, 1, false, block, 16384)
	wire = appendData(wire, 1, true, []byte("12345"), bytes.Repeat([]byte("d"), 16000))
	wire = appendPing(wire, true, []byte("12345678"))
	wire = appendGoAway(wire, 7, EnhanceYourCalm, "calm")
	wire = appendWindowUpdate(wire, 0, 9)
	wire = appendRSTStream(wire, 1, Cancel)
	whole, err := readAll(bytes.NewReader(wire))
	if !errors.Is(err, io.EOF) || len(whole) != 7 {
		t.Fatalf("found %d frames, %v", len(whole), err)
	}
	if whole[1] != "HEADERS "+string(block) {
		t.Errorf("want the block joined, found %d bytes", len(whole[1]))
	}
	pieces, err := readAll(oneByte{bytes.NewReader(wire)})
	if !errors.Is(err, io.EOF) || strings.Join(whole, "\n") != strings.Join(pieces, "\n") {
		t.Errorf("want the same frames byte by byte, found %d, %v", len(pieces), err)
	}
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

// What is appended is read by x/net's Framer as it was meant.
func TestFramesAsXNetReadsThem(t *testing.T) {
	var buf bytes.Buffer
	enc := AppendIndexed(nil, IndexMethodPOST)
	enc = AppendNamed(enc, IndexPath, "/a.B/C")
	enc = AppendNamed(enc, IndexContentType, "application/grpc")
	enc = AppendField(enc, "te", "trailers")
	enc = AppendField(enc, "long", strings.Repeat("x", 40_000))
	buf.Write(appendHeaders(nil, 3, true, enc, 16384))
	fr := http2.NewFramer(nil, &buf)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f, err := fr.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	m := f.(*http2.MetaHeadersFrame)
	if m.PseudoValue("method") != "POST" || m.PseudoValue("path") != "/a.B/C" || !m.StreamEnded() || m.StreamID != 3 {
		t.Errorf("found %v", m)
	}
	if r := m.RegularFields(); len(r) != 3 || r[0].Value != "application/grpc" || r[1].Name != "te" || len(r[2].Value) != 40_000 {
		t.Errorf("found %d fields", len(r))
	}
}

func TestHeaderDecoder(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		kind       blockKind
		list       []string
	}{
		{"request", "", requestBlock, []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a", "x", "y"}},
		{"no path", "no :path", requestBlock, []string{":method", "GET", ":scheme", "http"}},
		{"empty path", "an empty :path", requestBlock, []string{":method", "GET", ":scheme", "http", ":path", ""}},
		{"no method", "no :method", requestBlock, []string{":scheme", "http", ":path", "/"}},
		{"twice", "pseudo header :path twice", requestBlock, []string{":method", "GET", ":scheme", "http", ":path", "/", ":path", "/"}},
		{"status in request", "pseudo header :status, which does not belong here", requestBlock, []string{":method", "GET", ":status", "200"}},
		{"unknown pseudo", "pseudo header :x, which does not belong here", requestBlock, []string{":x", "GET"}},
		{"pseudo after", "a pseudo header after other headers", requestBlock, []string{":method", "GET", "a", "b", ":path", "/"}},
		{"upper case", "a header name that is no lower-case token", requestBlock, []string{":method", "GET", ":scheme", "http", ":path", "/", "A", "b"}},
		{"space in name", "a header name that is no lower-case token", answerBlock, []string{":status", "200", "a b", "c"}},
		{"line feed", "a header value with a byte that is not allowed", answerBlock, []string{":status", "200", "a", "b\nc"}},
		{"carriage return", "a header value with a byte that is not allowed", answerBlock, []string{":status", "200", "a", "b\r"}},
		{"nul", "a header value with a byte that is not allowed", trailerBlock, []string{"a", "b\x00"}},
		{"nul in path", "a header value with a byte that is not allowed", requestBlock, []string{":method", "GET", ":path", "/\x00"}},
		{"space around", "a header value with a byte that is not allowed", trailerBlock, []string{"a", " b"}},
		{"connection", "a header of the connection, which HTTP/2 does not have: connection", answerBlock, []string{":status", "200", "connection", "close"}},
		{"te", "a header of the connection, which HTTP/2 does not have: te", requestBlock, []string{":method", "GET", "te", "gzip"}},
		{"bad method", "a :method that is no token", requestBlock, []string{":method", "GE T"}},
		{"answer", "", answerBlock, []string{":status", "200", "grpc-status", "0"}},
		{"no status", "no :status", answerBlock, []string{"a", "b"}},
		{"bad status", "a :status that is no number from 100 to 999", answerBlock, []string{":status", "20x"}},
		{"pseudo in trailers", "pseudo header :status, which does not belong here", trailerBlock, []string{":status", "200"}},
		{"trailers", "", trailerBlock, []string{"grpc-status", "0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var block []byte
			for i := 0; i < len(tc.list); i += 2 {
				block = AppendField(block, tc.list[i], tc.list[i+1])
			}
			var f fields
			d := newHeaderDecoder()
			for range 2 { // a faulty block leaves nothing behind
				if err := d.decode(block, tc.kind, &f); err != nil {
					t.Fatal(err)
				}
				if f.fault != tc.want || f.tooLarge {
					t.Errorf("want %q, found %q", tc.want, f.fault)
				}
			}
		})
	}
}

func TestHeaderDecoderLimits(t *testing.T) {
	d := newHeaderDecoder()
	var f fields
	// One large header in the table, and references to it of one byte each.
	bomb := append([]byte{0x40}, appendString(appendString(nil, "a"), strings.Repeat("x", 3000))...)
	bomb = append(bomb, bytes.Repeat([]byte{0x80 | 62}, 10_000)...)
	if err := d.decode(bomb, trailerBlock, &f); err != nil || !f.tooLarge || len(f.list) > 25 {
		t.Errorf("want the bomb cut short, found %d fields, %v, %v", len(f.list), f.tooLarge, err)
	}
	var many []byte
	for range maxHeaderFields + 1 {
		many = AppendField(many, "a", "b")
	}
	if err := d.decode(many, trailerBlock, &f); err != nil || !f.tooLarge || len(f.list) != maxHeaderFields {
		t.Errorf("want %d fields at the most, found %d, %v", maxHeaderFields, len(f.list), err)
	}
	d.stateless()
	if err := d.decode([]byte{0x80 | 62}, trailerBlock, &f); err == nil {
		t.Error("want a reference to a table of size 0 refused")
	}
	if err := d.decode([]byte{0x3f, 0xe1, 0x1f}, trailerBlock, &f); err == nil {
		t.Error("want a table of 4096 refused after 0 was agreed")
	}
}

func TestWindows(t *testing.T) {
	w := sendWindow(10)
	if !w.add(-30) || w != -20 || !w.add(maxWindow) || w.add(maxWindow) {
		t.Errorf("found %d", w)
	}
	r := newRecvWindow(100)
	if r.receive(101) || !r.receive(60) || r.receive(41) || !r.receive(40) {
		t.Errorf("found %+v", r)
	}
	if n := r.consume(49); n != 0 {
		t.Errorf("want nothing given back below half, found %d", n)
	}
	if n := r.consume(1); n != 50 || r.left != 50 {
		t.Errorf("want 50 given back, found %d, left %d", n, r.left)
	}
}

// The few blocks that a service always sends stay, wherever they fall, also among many that come once.
func TestMemoKeepsWhatComesAgain(t *testing.T) {
	for range 200 {
		m := newHeadMemo()
		head := &Head{}
		look := func(block string) bool {
			h, hash, keep := m.get([]byte(block), answerBlock)
			if keep {
				m.put([]byte(block), answerBlock, hash, head)
			}
			return h != nil
		}
		hits := 0
		for i := range 100 {
			for _, block := range []string{"head", "trailer"} {
				if look(block) {
					hits++
				}
			}
			look(string(rune('0' + i)))
		}
		if hits < 190 {
			t.Fatalf("want all but the first sights kept, found %d of 200", hits)
		}
	}
}

func TestMemoKeepsFromTheSecondSight(t *testing.T) {
	m := newHeadMemo()
	block := []byte("abc")
	if h, _, keep := m.get(block, answerBlock); h != nil || keep {
		t.Fatal("want nothing at first sight")
	}
	h, hash, keep := m.get(block, answerBlock)
	if h != nil || !keep {
		t.Fatal("want to keep at the second sight")
	}
	want := &Head{Status: 200}
	m.put(block, answerBlock, hash, want)
	block[0] = 'x' // the memo has bytes of its own
	if h, _, _ := m.get([]byte("abc"), answerBlock); h != want {
		t.Error("want it kept")
	}
	if h, _, _ := m.get([]byte("abc"), trailerBlock); h != nil {
		t.Error("want blocks of another kind apart")
	}
}
