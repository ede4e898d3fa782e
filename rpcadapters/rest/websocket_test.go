package rest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// taken is a connection whose client has sent all it will and takes everything. Then it leaves, or with stay waits for
// the end.
type taken struct {
	net.Conn
	in    io.Reader
	stay  bool
	ended chan struct{} // by a deadline or Close
	once  sync.Once

	mu  sync.Mutex
	out bytes.Buffer
}

func (c *taken) end() { c.once.Do(func() { close(c.ended) }) }

func (c *taken) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if err != nil && c.stay {
		<-c.ended
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

func (c *taken) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *taken) Close() error                    { c.end(); return nil }
func (*taken) SetDeadline(time.Time) error       { return nil }
func (*taken) SetWriteDeadline(time.Time) error  { return nil }
func (c *taken) SetReadDeadline(time.Time) error { c.end(); return nil }

// taker is an engine that hands its connection over.
type taker struct {
	*adaptertest.Engine
	conn  *taken
	early []byte // what came with the head
}

// TakeOver implements wire.Taker.
func (t *taker) TakeOver() (net.Conn, []byte, error) { return t.conn, t.early, nil }

// open makes an exchange of a client that asks for a WebSocket and then sends frames.
func open(frames []byte, early int) (*adaptertest.Engine, *taker) {
	early = min(early, len(frames))
	e := &adaptertest.Engine{}
	_, well := requests(frames)
	k := &taker{e, &taken{in: bytes.NewReader(frames[early:]), stay: well, ended: make(chan struct{})}, frames[:early]}
	e.Reset("GET", adaptertest.Bidi, "HTTP/1.1", nil, nil)
	x := &e.X
	x.Reset(k, nil)
	x.HTTP = rpc.HTTP{Method: "GET", Scheme: "http", Host: "x", Path: adaptertest.Bidi, Header: rpc.Metadata{
		{Key: "connection", Value: "Upgrade"}, {Key: "upgrade", Value: "websocket"}, {Key: "sec-websocket-version", Value: "13"}, {Key: "sec-websocket-key", Value: "dGhlIHNhbXBsZSBub25jZQ=="},
	}}
	x.Proto, x.Start, x.ID = "HTTP/1.1", time.Now(), "id-1"
	return e, k
}

// frame is one frame as RFC 6455 section 5.2 has it.
type frame struct {
	fin     bool
	reserve byte
	opcode  byte
	masked  bool
	payload []byte
}

// next takes a frame off b; ok: it was all there.
func next(b []byte) (f frame, rest []byte, ok bool) {
	if len(b) < 2 {
		return f, nil, false
	}
	f.fin, f.reserve, f.opcode, f.masked = b[0]&0x80 != 0, b[0]&0x70, b[0]&0xf, b[1]&0x80 != 0
	n := uint64(b[1] & 0x7f)
	b = b[2:]
	wide := map[uint64]int{126: 2, 127: 8}[n]
	if len(b) < wide {
		return f, nil, false
	}
	if wide > 0 {
		n = binary.BigEndian.Uint64(append(make([]byte, 8-wide), b[:wide]...))
		b = b[wide:]
	}
	var mask [4]byte
	if f.masked {
		if len(b) < 4 {
			return f, nil, false
		}
		b = b[copy(mask[:], b):]
	}
	if n > uint64(len(b)) {
		return f, nil, false
	}
	f.payload = bytes.Clone(b[:n])
	for i := range f.payload {
		f.payload[i] ^= mask[i%4]
	}
	return f, b[n:], true
}

// requests are the messages of a client up to the first thing that it may not do or that is the end; well: that was the
// ordinary end of its requests.
func requests(b []byte) (texts []string, well bool) {
	var message []byte
	within := false
	for {
		f, rest, ok := next(b)
		b = rest
		switch {
		case !ok, f.reserve != 0, !f.masked, f.opcode > 2 && f.opcode != 9 && f.opcode != 10:
			return texts, false
		case f.opcode >= 8:
			if !f.fin || len(f.payload) > 125 {
				return texts, false
			}
			continue
		case (f.opcode == 0) != within, f.opcode == 2:
			return texts, false
		}
		message, within = append(message, f.payload...), !f.fin
		if !f.fin {
			continue
		}
		if len(message) == 0 {
			return texts, true
		}
		if !utf8.Valid(message) {
			return texts, false
		}
		texts, message = append(texts, string(message)), nil
	}
}

func masked(first byte, payload string) string {
	b := []byte{first, 0x80 | byte(len(payload)), 1, 2, 3, 4}
	for i := range len(payload) {
		b = append(b, payload[i]^byte(i%4+1))
	}
	return string(b)
}

// Whatever a client sends: the service gets the messages up to the first fault and nothing else, and the client a stream of
// proper frames with one end.
func FuzzWebSocket(f *testing.F) {
	a, end := masked(0x81, `{"text":"a"}`), masked(0x81, "")
	for _, s := range []string{
		"", a, a + a + end, masked(0x01, `{"te`) + masked(0x89, "ping") + masked(0x80, `xt":"b"}`) + end, end + a, masked(0x82, "{}"), "\x81\x02{}",
		masked(0x88, "\x03\xe8bye") + a, masked(0x81, "\xff"), masked(0x81, "{"), masked(0x81, `{"text":"fail 5 gone"}`), masked(0xc1, "{}"), masked(0x80, ""), masked(0x01, "") + masked(0x80, ""),
		"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x81\xfe\x00\x02\x00\x00\x00\x00{}", masked(0x88, ""), masked(0x88, "\x00"), masked(0x8a, "pong") + a + end,
	} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(200))
	}
	method := adaptertest.Method(f, adaptertest.Schema(f), adaptertest.Bidi)
	face := newFace(f)
	f.Fuzz(func(t *testing.T, frames []byte, early uint8) {
		e, k := open(frames, int(early))
		m := bound(t, e, method)
		var got [][]byte
		ended := false
		face.Serve(t.Context(), &e.X, m, handler(func(_ context.Context, c *rpc.Call) error {
			for {
				var r rpc.Message
				if err := c.Stream.Recv(&r); errors.Is(err, io.EOF) {
					ended = true
					return nil
				} else if err != nil {
					return err
				}
				got = append(got, bytes.Clone(r.Data))
				err := c.Stream.Send(&r, false)
				r.Free()
				if err != nil {
					return err
				}
			}
		}))
		texts, well := requests(frames)
		if len(got) > len(texts) {
			t.Fatalf("%d requests, where there are %d", len(got), len(texts))
		}
		for i, text := range texts {
			want, err := jsonwire.AppendWire(nil, []byte(text), method.Input, m.Options.JSON)
			if err != nil {
				if well = false; len(got) > i {
					t.Fatalf("request %d: %q was taken: %v", i, text, err)
				}
				break
			}
			if i == len(got) {
				t.Fatalf("request %d did not reach the service: %q", i, text)
			}
			if !bytes.Equal(want, got[i]) {
				t.Errorf("request %d: want %x, found %x", i, want, got[i])
			}
		}
		if ended != well {
			t.Errorf("the requests ended well: %v, want %v", ended, well)
		}
		written(t, k.conn.out.Bytes(), len(got), well)
		if e.Done != 1 || m.Options.Budget.Used() != 0 {
			t.Errorf("told %d times, %d bytes held", e.Done, m.Options.Budget.Used())
		}
	})
}

// written checks what a client was sent: the handshake, answers, and one end.
func written(t *testing.T, out []byte, answers int, well bool) {
	t.Helper()
	head, b, ok := bytes.Cut(out, []byte("\r\n\r\n"))
	if !ok || !strings.HasPrefix(string(head), "HTTP/1.1 101 Switching Protocols\r\n") {
		t.Fatalf("found %q", out)
	}
	texts, closed := 0, false
	for len(b) > 0 {
		f, rest, ok := next(b)
		if !ok || f.masked || f.reserve != 0 || !f.fin || closed {
			t.Fatalf("found %q", b)
		}
		switch b = rest; f.opcode {
		case 1:
			texts++
			if !utf8.Valid(f.payload) {
				t.Errorf("found %q", f.payload)
			}
		case 8:
			closed = true
			if well && !bytes.Equal(f.payload, []byte("\x03\xe8")) {
				t.Errorf("want 1000, found %q", f.payload)
			}
			// A reason may be the client's own, which the library gives back as it came.
		case 10:
		default:
			t.Errorf("found opcode %d", f.opcode)
		}
	}
	if texts != answers && texts != answers+1 {
		t.Errorf("want %d answers, and an error at most, found %d", answers, texts)
	}
	if well && (!closed || texts != answers) {
		t.Errorf("want an ordinary end, found %d texts and closed: %v", texts, closed)
	}
}
