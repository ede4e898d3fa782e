package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/testdata/bench/benchpb"
)

// cannedAnswer is what the canned backend sends for a path: a length-prefixed message, or none and an error's trailers.
type cannedAnswer struct {
	data  []byte // length-prefixed messages; empty for an error
	each  int    // bytes of one of them: a frame has no more, as that of a server which sends them one by one
	block []byte // header block of the trailers, or of the only HEADERS frame when data is empty
}

// canned is a gRPC backend that costs a microsecond or two per call, so that the gateway in front of it is what
// saturates: one goroutine per connection reads what has arrived, answers every call in it with bytes made in advance and
// writes all answers at once. It speaks HTTP/2 with prior knowledge: flow control both ways, SETTINGS and PING
// acknowledged, CONTINUATION and padding understood. Messages are not looked at; the grpc-go backend checks them.
// A connection that begins as one of TARS or tRPC is answered in that protocol.
type canned struct {
	answers map[string]*cannedAnswer
	unknown *cannedAnswer
	head    []byte // header block of an answer with a message
	framed  framed
}

func newCanned() (*canned, error) {
	ok := appendLiteral(nil, "grpc-status", "0")
	framed, err := newFramed()
	if err != nil {
		return nil, err
	}
	c := &canned{answers: map[string]*cannedAnswer{}, head: appendHead(nil), framed: framed}
	for path, m := range map[string]proto.Message{
		benchpb.Orders_Place_FullMethodName: order(),
		benchpb.Orders_Find_FullMethodName:  order(),
		benchpb.Orders_List_FullMethodName:  listReply(),
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			return nil, err
		}
		data = lengthPrefixed(data)
		c.answers[path] = &cannedAnswer{data: data, each: len(data), block: ok}
	}
	one := c.answers[benchpb.Orders_Place_FullMethodName].data
	c.answers[benchpb.Orders_Watch_FullMethodName] = &cannedAnswer{data: bytes.Repeat(one, streamed), each: len(one), block: ok}
	st, err := missing()
	if err != nil {
		return nil, err
	}
	details, err := proto.Marshal(st.Proto())
	if err != nil {
		return nil, err
	}
	fault := appendHead(nil)
	fault = appendLiteral(fault, "grpc-status", strconv.Itoa(int(st.Code())))
	fault = appendLiteral(fault, "grpc-message", st.Message())
	fault = appendLiteral(fault, "grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(details))
	c.answers[benchpb.Orders_Cancel_FullMethodName] = &cannedAnswer{block: fault}
	none := appendHead(nil)
	none = appendLiteral(none, "grpc-status", strconv.Itoa(int(codes.Unimplemented)))
	c.unknown = &cannedAnswer{block: none}
	return c, nil
}

// appendHead appends `:status: 200` from the static table and the content type.
func appendHead(dst []byte) []byte {
	return appendLiteral(append(dst, 0x88), "content-type", "application/grpc")
}

// appendLiteral appends a literal header field without indexing and without Huffman coding (RFC 7541 section 6.2.2): the
// block depends on nothing that was sent before.
func appendLiteral(dst []byte, name, value string) []byte {
	dst = append(dst, 0)
	dst = appendString(dst, name)
	return appendString(dst, value)
}

func appendString(dst []byte, s string) []byte {
	n := len(s)
	if n < 127 {
		dst = append(dst, byte(n))
	} else {
		dst = append(dst, 127)
		dst = binary.AppendUvarint(dst, uint64(n-127))
	}
	return append(dst, s...)
}

func (c *canned) serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go func() {
			defer conn.Close()
			if err := c.run(conn); !errors.Is(err, io.EOF) {
				complain("canned backend", err)
			}
		}()
	}
}

// run answers the calls of one connection.
func (c *canned) run(conn net.Conn) error {
	var first [1]byte
	if _, err := conn.Read(first[:]); err != nil {
		return err
	}
	if first[0] != http2.ClientPreface[0] {
		return c.framed.run(conn, first[0])
	}
	return newCannedConn(c).run(conn)
}

const (
	frameHead      = 9
	maxFrame       = 16384
	defaultWindow  = 65535
	maxWindow      = 1<<31 - 1
	maxStreams     = 4096
	cannedReadSize = 256 << 10
	// returnAfter is how many bytes of the connection's window may be used up before they are given back.
	returnAfter = 1 << 20
)

// cannedStream is a call that has begun and is not answered to its end.
type cannedStream struct {
	answer *cannedAnswer
	window int64 // bytes that may still be sent on the stream
	sent   int   // bytes of answer.data already sent
	asked  bool  // the request has ended
	begun  bool  // the answer's HEADERS are sent
}

// cannedConn is one connection; its goroutine owns all of it.
type cannedConn struct {
	server  *canned
	hpack   *hpack.Decoder
	path    *cannedAnswer // of the header block being decoded
	block   []byte        // of a header block that CONTINUATION frames go on with
	opened  uint32        // the stream of that block, 0 without one
	ended   bool          // that block's HEADERS had END_STREAM
	streams map[uint32]*cannedStream
	free    []*cannedStream
	waiting []uint32 // calls that wait for a window, oldest first
	window  int64    // bytes that may still be sent on the connection
	initial int64    // window of a new stream
	used    uint32   // bytes received since the connection's window was last given back
	out     []byte
}

func newCannedConn(c *canned) *cannedConn {
	cc := &cannedConn{server: c, streams: map[uint32]*cannedStream{}, window: defaultWindow, initial: defaultWindow}
	cc.hpack = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":path" {
			if cc.path = c.answers[f.Value]; cc.path == nil {
				cc.path = c.unknown
			}
		}
	})
	return cc
}

// run goes on behind the first byte of the preface.
func (cc *cannedConn) run(conn net.Conn) error {
	buf := make([]byte, cannedReadSize)
	preface := buf[:len(http2.ClientPreface)-1] // its first byte has been read
	if _, err := io.ReadFull(conn, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface[1:] {
		return fmt.Errorf("want the HTTP/2 preface, got %q", preface)
	}
	cc.out = appendFrame(cc.out, http2.FrameSettings, 0, 0,
		0, byte(http2.SettingMaxConcurrentStreams), 0, 0, maxStreams>>8, maxStreams&0xff,
		0, byte(http2.SettingInitialWindowSize), 0, 0x10, 0, 0)
	cc.out = appendWindowUpdate(cc.out, 0, maxWindow-defaultWindow)
	have := 0
	for {
		if len(cc.out) > 0 {
			if _, err := conn.Write(cc.out); err != nil {
				return err
			}
			cc.out = cc.out[:0]
		}
		n, err := conn.Read(buf[have:])
		if err != nil {
			return err
		}
		have += n
		rest := buf[:have]
		for len(rest) >= frameHead {
			size := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
			if size > maxFrame {
				return fmt.Errorf("frame of %d bytes", size)
			}
			if len(rest) < frameHead+size {
				break
			}
			stream := binary.BigEndian.Uint32(rest[5:]) & maxWindow
			payload := rest[frameHead : frameHead+size]
			if err := cc.frame(http2.FrameType(rest[3]), http2.Flags(rest[4]), stream, payload); err != nil {
				return err
			}
			rest = rest[frameHead+size:]
		}
		have = copy(buf, rest)
	}
}

// frame takes one frame in.
func (cc *cannedConn) frame(kind http2.FrameType, flags http2.Flags, id uint32, p []byte) error {
	if cc.opened != 0 && (kind != http2.FrameContinuation || id != cc.opened) {
		return fmt.Errorf("want CONTINUATION of stream %d, got %v of stream %d", cc.opened, kind, id)
	}
	switch kind {
	case http2.FrameHeaders:
		return cc.headers(flags, id, p)
	case http2.FrameContinuation:
		if cc.opened == 0 || len(cc.block)+len(p) > 64<<10 {
			return errors.New("CONTINUATION out of place or too long")
		}
		cc.block = append(cc.block, p...)
		if flags.Has(http2.FlagContinuationEndHeaders) {
			cc.opened = 0
			return cc.open(id, cc.block, cc.ended)
		}
		return nil
	case http2.FrameData:
		return cc.data(flags, id, p)
	case http2.FrameSettings:
		if flags.Has(http2.FlagSettingsAck) {
			return nil
		}
		return cc.settings(p)
	case http2.FrameWindowUpdate:
		if len(p) != 4 {
			return errors.New("WINDOW_UPDATE of a wrong size")
		}
		n := int64(binary.BigEndian.Uint32(p) & maxWindow)
		if id == 0 {
			cc.window += n
		} else if s := cc.streams[id]; s != nil {
			s.window += n
		}
		cc.resume()
		return nil
	case http2.FramePing:
		if len(p) != 8 {
			return errors.New("PING of a wrong size")
		}
		if !flags.Has(http2.FlagPingAck) {
			cc.out = appendFrame(cc.out, http2.FramePing, http2.FlagPingAck, 0, p...)
		}
		return nil
	case http2.FrameRSTStream:
		cc.forget(id)
		return nil
	case http2.FrameGoAway, http2.FramePriority:
		return nil
	case http2.FramePushPromise:
		return errors.New("PUSH_PROMISE from a client")
	default:
		return nil // unknown frames are ignored (RFC 9113 section 5.5)
	}
}

func (cc *cannedConn) headers(flags http2.Flags, id uint32, p []byte) error {
	p, err := unpad(p, flags.Has(http2.FlagHeadersPadded))
	if err != nil {
		return err
	}
	if flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return errors.New("HEADERS of a wrong size")
		}
		p = p[5:]
	}
	if !flags.Has(http2.FlagHeadersEndHeaders) {
		cc.opened, cc.ended = id, flags.Has(http2.FlagHeadersEndStream)
		cc.block = append(cc.block[:0], p...)
		return nil
	}
	return cc.open(id, p, flags.Has(http2.FlagHeadersEndStream))
}

// open begins a call with its complete header block.
func (cc *cannedConn) open(id uint32, block []byte, ended bool) error {
	cc.path = cc.server.unknown
	if _, err := cc.hpack.Write(block); err != nil {
		return err
	}
	if err := cc.hpack.Close(); err != nil {
		return err
	}
	if id&1 == 0 || cc.streams[id] != nil || len(cc.streams) >= maxStreams {
		return fmt.Errorf("stream %d may not be opened", id)
	}
	var s *cannedStream
	if n := len(cc.free); n > 0 {
		s, cc.free = cc.free[n-1], cc.free[:n-1]
	} else {
		s = new(cannedStream)
	}
	*s = cannedStream{answer: cc.path, window: cc.initial}
	cc.streams[id] = s
	if ended {
		cc.asked(id, s)
	}
	return nil
}

func (cc *cannedConn) data(flags http2.Flags, id uint32, p []byte) error {
	if cc.used += uint32(len(p)); cc.used >= returnAfter { //nolint:gosec // at most 16 KB
		cc.out = appendWindowUpdate(cc.out, 0, cc.used)
		cc.used = 0
	}
	s := cc.streams[id]
	if s == nil || s.asked {
		return nil // reset meanwhile
	}
	if flags.Has(http2.FlagDataEndStream) {
		cc.asked(id, s)
	} else if len(p) > 0 {
		cc.out = appendWindowUpdate(cc.out, id, uint32(len(p))) //nolint:gosec // at most 16 KB
	}
	return nil
}

func (cc *cannedConn) settings(p []byte) error {
	if len(p)%6 != 0 {
		return errors.New("SETTINGS of a wrong size")
	}
	for ; len(p) > 0; p = p[6:] {
		if http2.SettingID(binary.BigEndian.Uint16(p)) != http2.SettingInitialWindowSize {
			continue // header blocks are stateless and frames never above the smallest maximum: nothing else matters
		}
		initial := int64(binary.BigEndian.Uint32(p[2:]))
		for _, s := range cc.streams {
			s.window += initial - cc.initial
		}
		cc.initial = initial
	}
	cc.out = appendFrame(cc.out, http2.FrameSettings, http2.FlagSettingsAck, 0)
	cc.resume()
	return nil
}

// asked answers a call whose request has ended, as far as the windows allow.
func (cc *cannedConn) asked(id uint32, s *cannedStream) {
	s.asked = true
	if !cc.answer(id, s) {
		cc.waiting = append(cc.waiting, id)
	}
}

// resume goes on with the calls that wait for a window.
func (cc *cannedConn) resume() {
	kept := cc.waiting[:0]
	for _, id := range cc.waiting {
		if s := cc.streams[id]; s != nil && !cc.answer(id, s) {
			kept = append(kept, id)
		}
	}
	cc.waiting = kept
}

// answer appends what may be sent of a call's answer and reports whether that was all of it.
func (cc *cannedConn) answer(id uint32, s *cannedStream) bool {
	a := s.answer
	if len(a.data) > 0 && !s.begun {
		cc.out = appendFrame(cc.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, cc.server.head...)
		s.begun = true
	}
	for s.sent < len(a.data) {
		n := min(int64(a.each-s.sent%a.each), maxFrame, cc.window, s.window)
		if n <= 0 {
			return false
		}
		cc.out = appendFrame(cc.out, http2.FrameData, 0, id, a.data[s.sent:s.sent+int(n)]...)
		s.sent += int(n)
		s.window -= n
		cc.window -= n
	}
	cc.out = appendFrame(cc.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id, a.block...)
	cc.forget(id)
	return true
}

func (cc *cannedConn) forget(id uint32) {
	if s := cc.streams[id]; s != nil {
		delete(cc.streams, id)
		cc.free = append(cc.free, s)
	}
}

func unpad(p []byte, padded bool) ([]byte, error) {
	if !padded {
		return p, nil
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, errors.New("padding of a wrong size")
	}
	return p[1 : len(p)-int(p[0])], nil
}

func appendFrame(dst []byte, kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) []byte {
	n := len(payload)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	dst = binary.BigEndian.AppendUint32(dst, id)
	return append(dst, payload...)
}

func appendWindowUpdate(dst []byte, id, n uint32) []byte {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], n)
	return appendFrame(dst, http2.FrameWindowUpdate, 0, id, p[:]...)
}
