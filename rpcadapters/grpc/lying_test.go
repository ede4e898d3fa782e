package grpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// A server that lies is made of raw frames: nothing stands between the bytes of a case and the client.

const (
	tData, tHeaders, tPriority, tReset, tSettings, tPush, tPing, tGoAway, tWindow, tContinuation = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9

	fEnd, fAck, fEndHeaders, fPadded = 1, 1, 4, 8
)

// block encodes header fields given in pairs.
func block(fields ...string) []byte {
	var b []byte
	for i := 0; i < len(fields); i += 2 {
		b = append(b, 0)
		for _, s := range fields[i : i+2] {
			if len(s) < 127 {
				b = append(b, byte(len(s)))
			} else {
				b = binary.AppendUvarint(append(b, 127), uint64(len(s)-127))
			}
			b = append(b, s...)
		}
	}
	return b
}

func headers(id uint32, end bool, fields ...string) []byte {
	flags := byte(fEndHeaders)
	if end {
		flags |= fEnd
	}
	return rawFrame(nil, tHeaders, flags, id, block(fields...))
}

func data(id uint32, end bool, body []byte) []byte {
	if end {
		return rawFrame(nil, tData, fEnd, id, body)
	}
	return rawFrame(nil, tData, 0, id, body)
}

func message(body string) []byte { return flagged(0, body) }

func flagged(flags byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(body)))
	return append(b, body...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// grpcHead is what an honest answer begins with, and okay what it ends with.
func grpcHead(id uint32, more ...string) []byte {
	return headers(id, false, append([]string{":status", "200", "content-type", "application/grpc"}, more...)...)
}

func okay(id uint32) []byte { return headers(id, true, "grpc-status", "0") }

func zip(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

// liar is a server whose answer to the first call of each connection is a case's, and honest after that.
type liar struct {
	address string
	conns   atomic.Int64
	frames  chan string // what the client sent besides requests: "RST_STREAM 8", "GOAWAY 1"
}

// then says what the server does after its lie.
const (
	stay = iota
	hangUp
)

func startLiar(t *testing.T, greeting []byte, lie func(id uint32) []byte, after int) *liar {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &liar{address: l.Addr().String(), frames: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		defer func() {
			for _, c := range open {
				_ = c.Close()
			}
		}()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			open = append(open, c)
			go s.serve(c, greeting, lie, after)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return s
}

func (s *liar) serve(c net.Conn, greeting []byte, lie func(id uint32) []byte, after int) {
	defer c.Close()
	var buf [24]byte
	if _, err := io.ReadFull(c, buf[:]); err != nil {
		return
	}
	if greeting == nil {
		greeting = rawFrame(nil, tSettings, 0, 0, nil)
	}
	if _, err := c.Write(greeting); err != nil {
		return
	}
	calls := 0
	for {
		var h [9]byte
		if _, err := io.ReadFull(c, h[:]); err != nil {
			return
		}
		payload := make([]byte, int(h[0])<<16|int(h[1])<<8|int(h[2]))
		if _, err := io.ReadFull(c, payload); err != nil {
			return
		}
		id := binary.BigEndian.Uint32(h[5:])
		switch {
		case h[3] == tSettings && h[4]&fAck == 0:
			_, _ = c.Write(rawFrame(nil, tSettings, fAck, 0, nil))
		case h[3] == tPing && h[4]&fAck == 0:
			_, _ = c.Write(rawFrame(nil, tPing, fAck, 0, payload))
		case h[3] == tReset:
			s.note(fmt.Sprintf("RST_STREAM %d", binary.BigEndian.Uint32(payload)))
		case h[3] == tGoAway:
			s.note(fmt.Sprintf("GOAWAY %d", binary.BigEndian.Uint32(payload[4:])))
		case h[3] <= tHeaders && h[4]&fEnd != 0:
			calls++
			if calls > 1 {
				_, _ = c.Write(join(grpcHead(id), data(id, false, message("fine")), okay(id)))
				continue
			}
			_, _ = c.Write(lie(id))
			if after == hangUp {
				return
			}
		}
	}
}

func (s *liar) note(what string) {
	select {
	case s.frames <- what:
	default:
	}
}

// lie is one way to answer wrongly, or rightly in an unusual way.
type lie struct {
	name   string
	answer func(id uint32) []byte
	after  int

	code   codes.Code
	reason string
	text   string // of an error of the service's own, or the answer
	conn   bool   // the connection is given up
	large  bool   // more than the socket takes at once
}

func lies() []lie {
	bigStatus, _ := proto.Marshal(&spb.Status{Code: 5, Message: "from details"})
	other, _ := proto.Marshal(&spb.Status{Code: 7})
	m := message("hello")
	ok := func(parts ...func(uint32) []byte) func(uint32) []byte {
		return func(id uint32) []byte {
			var b []byte
			for _, p := range parts {
				b = append(b, p(id)...)
			}
			return b
		}
	}
	head := func(id uint32) []byte { return grpcHead(id) }
	body := func(b []byte) func(uint32) []byte { return func(id uint32) []byte { return data(id, false, b) } }
	end := func(fields ...string) func(uint32) []byte {
		return func(id uint32) []byte { return headers(id, true, fields...) }
	}
	only := func(fields ...string) func(uint32) []byte { return end(fields...) }
	const malformed, reset, notGRPC = "UPSTREAM_MALFORMED", "UPSTREAM_RESET", "UPSTREAM_NOT_GRPC"
	return []lie{
		// Right, if unusual.
		{name: "honest", answer: ok(head, body(m), okay), text: "hello"},
		{name: "in pieces", answer: ok(head, body(m[:3]), body(nil), body(m[3:7]), body(m[7:]), okay), text: "hello"},
		{name: "padded", answer: func(id uint32) []byte {
			return join(grpcHead(id), rawFrame(nil, tData, fPadded, id, join([]byte{4}, m, make([]byte, 4))), okay(id))
		}, text: "hello"},
		{name: "empty message", answer: ok(head, body(message("")), okay), text: ""},
		{name: "informational first", answer: func(id uint32) []byte {
			return join(headers(id, false, ":status", "100"), headers(id, false, ":status", "103", "link", "x"), grpcHead(id), data(id, false, m), okay(id))
		}, text: "hello"},
		{name: "continuation", answer: func(id uint32) []byte {
			b := block("grpc-status", "0", "x", strings.Repeat("x", 100))
			return join(grpcHead(id), data(id, false, m), rawFrame(nil, tHeaders, fEnd, id, b[:7]), rawFrame(nil, tContinuation, 0, id, nil), rawFrame(nil, tContinuation, fEndHeaders, id, b[7:]))
		}, text: "hello"},
		{name: "unknown frames", answer: func(id uint32) []byte {
			return join(rawFrame(nil, 0xa, 0xff, id, m), rawFrame(nil, 0xf, 0xff, 0, nil), grpcHead(id), rawFrame(nil, 0xbb, 0, 99, nil), data(id, false, m), okay(id))
		}, text: "hello"},
		{name: "subtype", answer: ok(func(id uint32) []byte {
			return headers(id, false, ":status", "200", "content-type", "Application/GRPC+proto")
		}, body(m), okay), text: "hello"},
		{name: "gzip", answer: ok(func(id uint32) []byte { return grpcHead(id, "grpc-encoding", "gzip") }, body(flagged(1, zip("hello"))), okay), text: "hello"},
		{name: "gzip, not packed", answer: ok(func(id uint32) []byte { return grpcHead(id, "grpc-encoding", "gzip") }, body(m), okay), text: "hello"},
		{name: "right content-length", answer: ok(func(id uint32) []byte { return grpcHead(id, "content-length", "10") }, body(m), okay), text: "hello"},

		// Errors of the service's own.
		{name: "trailers only", answer: only(":status", "200", "content-type", "application/grpc", "grpc-status", "5", "grpc-message", "gone%21"), code: codes.NotFound, text: "gone!"},
		{name: "error after a message", answer: ok(head, body(m), end("grpc-status", "9", "grpc-message", "no")), code: codes.FailedPrecondition, text: "no"},
		{name: "trailers only, another HTTP status", answer: only(":status", "503", "content-type", "application/grpc", "grpc-status", "8"), code: codes.ResourceExhausted},
		{name: "status 99", answer: ok(head, end("grpc-status", "99", "grpc-message", "odd")), code: codes.Unknown, text: "odd"},
		{name: "message badly encoded", answer: ok(head, end("grpc-status", "2", "grpc-message", "50%, %zz %c3%a4 %ff%")), code: codes.Unknown, text: "50%, %zz ä \uFFFD%"},
		{name: "details", answer: ok(head, end("grpc-status", "5", "grpc-message", "m", "grpc-status-details-bin", base64.StdEncoding.EncodeToString(bigStatus))), code: codes.NotFound, text: "m"},
		{name: "details of another code", answer: ok(head, end("grpc-status", "5", "grpc-message", "m", "grpc-status-details-bin", base64.StdEncoding.EncodeToString(other))), code: codes.NotFound, text: "m"},
		{name: "details that are none", answer: ok(head, end("grpc-status", "5", "grpc-message", "m", "grpc-status-details-bin", "!!!")), code: codes.NotFound, text: "m"},

		// The status is not as it should be.
		{name: "no status", answer: ok(head, body(m), end("x", "y")), code: codes.Unknown, reason: malformed},
		{name: "empty trailers", answer: ok(head, body(m), func(id uint32) []byte { return rawFrame(nil, tHeaders, fEnd|fEndHeaders, id, nil) }), code: codes.Unknown, reason: malformed},
		{name: "status abc", answer: ok(head, body(m), end("grpc-status", "abc")), code: codes.Internal, reason: malformed},
		{name: "status 00", answer: ok(head, body(m), end("grpc-status", "00")), code: codes.Internal, reason: malformed},
		{name: "status -1", answer: ok(head, body(m), end("grpc-status", "-1")), code: codes.Internal, reason: malformed},
		{name: "status empty", answer: ok(head, body(m), end("grpc-status", "")), code: codes.Internal, reason: malformed},
		{name: "status too large", answer: ok(head, body(m), end("grpc-status", "99999999999")), code: codes.Internal, reason: malformed},
		{name: "two statuses", answer: ok(head, body(m), end("grpc-status", "0", "grpc-status", "0")), code: codes.Internal, reason: malformed},
		{name: "status in the head alone", answer: ok(func(id uint32) []byte { return grpcHead(id, "grpc-status", "0") }, func(id uint32) []byte { return data(id, true, m) }), code: codes.Internal, reason: malformed},
		{name: "no trailers", answer: ok(head, func(id uint32) []byte { return data(id, true, m) }), code: codes.Internal, reason: malformed},
		{name: "head alone", answer: only(":status", "200", "content-type", "application/grpc"), code: codes.Unknown, reason: malformed},
		{name: "trailers only OK", answer: only(":status", "200", "content-type", "application/grpc", "grpc-status", "0"), code: codes.Internal, reason: malformed},
		{name: "message with line feed", answer: ok(head, end("grpc-status", "5", "grpc-message", "a\r\nb")), code: codes.Internal, reason: malformed},
		{name: "bad -bin", answer: ok(head, body(m), end("grpc-status", "0", "x-bin", "!")), code: codes.Internal, reason: malformed},

		// The messages are not as they should be.
		{name: "no message", answer: ok(head, okay), code: codes.Internal, reason: malformed},
		{name: "two messages", answer: ok(head, body(m), body(m), okay), code: codes.Internal, reason: malformed},
		{name: "bytes after the message", answer: ok(head, body(append(message("hello"), 0)), okay), code: codes.Internal, reason: malformed},
		{name: "length 2^32-1", answer: ok(head, body([]byte{0, 255, 255, 255, 255, 1}), okay), code: codes.Internal, reason: malformed},
		{name: "length beyond the body", answer: ok(head, body(m[:9]), okay), code: codes.Internal, reason: malformed},
		{name: "cut in the prefix", answer: ok(head, body(m[:3]), okay), code: codes.Internal, reason: malformed},
		{name: "flag 0x80", answer: ok(head, body(flagged(0x80, "grpc-status: 0")), okay), code: codes.Internal, reason: malformed},
		{name: "packed without encoding", answer: ok(head, body(flagged(1, zip("x"))), okay), code: codes.Internal, reason: malformed},
		{name: "unknown encoding", answer: ok(func(id uint32) []byte { return grpcHead(id, "grpc-encoding", "zstd") }, body(flagged(1, "x")), okay), code: codes.Internal, reason: malformed},
		{name: "no gzip", answer: ok(func(id uint32) []byte { return grpcHead(id, "grpc-encoding", "gzip") }, body(flagged(1, "hello")), okay), code: codes.Internal, reason: malformed},
		{name: "cut gzip", answer: ok(func(id uint32) []byte { return grpcHead(id, "grpc-encoding", "gzip") }, body(flagged(1, zip("hello")[:15])), okay), code: codes.Internal, reason: malformed},
		{name: "gzip bomb", answer: ok(func(id uint32) []byte { return grpcHead(id, "grpc-encoding", "gzip") }, body(flagged(1, zip(strings.Repeat("0", 4<<20)))), okay), code: codes.ResourceExhausted, reason: "ANSWER_TOO_LARGE"},
		{name: "too large", answer: func(id uint32) []byte {
			b := grpcHead(id)
			for range 3 {
				b = append(b, data(id, false, make([]byte, 16000))...)
			}
			return b
		}, code: codes.ResourceExhausted, reason: "ANSWER_TOO_LARGE"},
		{name: "wrong content-length", answer: ok(func(id uint32) []byte { return grpcHead(id, "content-length", "11") }, body(m), okay), code: codes.Internal, reason: malformed},
		{name: "content-length that is none", answer: ok(func(id uint32) []byte { return grpcHead(id, "content-length", "ten") }, body(m), okay), code: codes.Internal, reason: malformed},

		// It is not gRPC.
		{name: "404", answer: ok(func(id uint32) []byte { return headers(id, false, ":status", "404", "content-type", "text/html") }, func(id uint32) []byte { return data(id, true, []byte("<html>")) }), code: codes.Unimplemented, reason: notGRPC},
		{name: "503", answer: only(":status", "503"), code: codes.Unavailable, reason: notGRPC},
		{name: "200 text", answer: ok(func(id uint32) []byte { return headers(id, false, ":status", "200", "content-type", "text/plain") }, body([]byte("x")), okay), code: codes.Unknown, reason: notGRPC},
		{name: "200 grpc-web", answer: ok(func(id uint32) []byte {
			return headers(id, false, ":status", "200", "content-type", "application/grpc-web")
		}, body(m), okay), code: codes.Unknown, reason: notGRPC},
		{name: "502 in grpc without status", answer: only(":status", "502", "content-type", "application/grpc"), code: codes.Unavailable, reason: notGRPC},
		{name: "endless html", answer: func(id uint32) []byte {
			b := headers(id, false, ":status", "200", "content-type", "text/html")
			for range 3 {
				b = append(b, data(id, false, make([]byte, 16000))...)
			}
			return b
		}, code: codes.Unknown, reason: notGRPC},

		// It breaks off.
		{name: "reset CANCEL", answer: ok(head, func(id uint32) []byte { return rawFrame(nil, tReset, 0, id, u32(8)) }), code: codes.Unavailable, reason: reset},
		{name: "reset INTERNAL_ERROR", answer: ok(head, body(m), func(id uint32) []byte { return rawFrame(nil, tReset, 0, id, u32(2)) }), code: codes.Internal, reason: reset},
		{name: "reset NO_ERROR", answer: ok(head, body(m), func(id uint32) []byte { return rawFrame(nil, tReset, 0, id, u32(0)) }), code: codes.Internal, reason: reset},
		{name: "reset ENHANCE_YOUR_CALM", answer: func(id uint32) []byte { return rawFrame(nil, tReset, 0, id, u32(11)) }, code: codes.ResourceExhausted, reason: reset},
		{name: "reset INADEQUATE_SECURITY", answer: func(id uint32) []byte { return rawFrame(nil, tReset, 0, id, u32(12)) }, code: codes.PermissionDenied, reason: reset},
		{name: "hangs up at once", answer: func(uint32) []byte { return nil }, after: hangUp, code: codes.Unavailable, reason: reset, conn: true},
		{name: "hangs up after the head", answer: head, after: hangUp, code: codes.Unavailable, reason: reset, conn: true},
		{name: "hangs up within the message", answer: ok(head, body(m[:7])), after: hangUp, code: codes.Unavailable, reason: reset, conn: true},
		{name: "hangs up before the trailers", answer: ok(head, body(m)), after: hangUp, code: codes.Unavailable, reason: reset, conn: true},
		{name: "hangs up within a frame", answer: func(id uint32) []byte { b := join(grpcHead(id), data(id, false, m), okay(id)); return b[:len(b)-3] }, after: hangUp, code: codes.Unavailable, reason: reset, conn: true},

		// It breaks the rules of HTTP, on the stream.
		{name: "body before the head", answer: ok(body(m), head, okay), code: codes.Internal, reason: malformed},
		{name: "two heads", answer: ok(head, head, body(m), okay), code: codes.Internal, reason: malformed},
		{name: "trailers without end", answer: ok(head, body(m), func(id uint32) []byte { return headers(id, false, "grpc-status", "0") }), code: codes.Internal, reason: malformed},
		{name: "no :status", answer: ok(func(id uint32) []byte { return headers(id, false, "content-type", "application/grpc") }, body(m), okay), code: codes.Internal, reason: malformed},
		{name: "status 20", answer: only(":status", "20"), code: codes.Internal, reason: malformed},
		{name: "two :status", answer: only(":status", "200", ":status", "200"), code: codes.Internal, reason: malformed},
		{name: "request pseudo header", answer: only(":status", "200", ":path", "/"), code: codes.Internal, reason: malformed},
		{name: "upper case", answer: ok(func(id uint32) []byte { return grpcHead(id, "X-Up", "1") }, body(m), okay), code: codes.Internal, reason: malformed},
		{name: "connection header", answer: ok(func(id uint32) []byte { return grpcHead(id, "connection", "close") }, body(m), okay), code: codes.Internal, reason: malformed},
		{name: "line feed in a header", answer: ok(func(id uint32) []byte { return grpcHead(id, "x", "a\nb: c") }, body(m), okay), code: codes.Internal, reason: malformed},
		{name: "pseudo header in trailers", answer: ok(head, body(m), end("grpc-status", "0", ":status", "200")), code: codes.Internal, reason: malformed},
		{name: "64k headers", answer: ok(func(id uint32) []byte {
			var more []string
			for i := range 300 {
				more = append(more, fmt.Sprint("x-", i), "y")
			}
			return grpcHead(id, more...)
		}, body(m), okay), code: codes.Internal, reason: malformed},
		{name: "informational without end", answer: func(id uint32) []byte {
			return bytes.Repeat(headers(id, false, ":status", "100"), 20)
		}, code: codes.Internal, reason: malformed},
		{name: "status 101", answer: func(id uint32) []byte { return headers(id, false, ":status", "101") }, code: codes.Internal, reason: malformed},
		{name: "window of 0", answer: func(id uint32) []byte { return rawFrame(nil, tWindow, 0, id, u32(0)) }, code: codes.Internal, reason: malformed},
		{name: "window overflow", answer: func(id uint32) []byte { return rawFrame(nil, tWindow, 0, id, u32(1<<31-1)) }, code: codes.Internal, reason: malformed},

		// It breaks the rules of HTTP, on the connection.
		{name: "push", answer: func(id uint32) []byte { return rawFrame(nil, tPush, fEndHeaders, id, u32(2)) }, code: codes.Unavailable, reason: reset, conn: true},
		{name: "frame too large", answer: func(id uint32) []byte { return append([]byte{0, 64, 1, 0, 0}, u32(id)...) }, code: codes.Unavailable, reason: reset, conn: true},
		{name: "idle stream", answer: func(id uint32) []byte { return headers(id+2, true, ":status", "200") }, code: codes.Unavailable, reason: reset, conn: true},
		{name: "even stream", answer: func(uint32) []byte { return headers(2, true, ":status", "200") }, code: codes.Unavailable, reason: reset, conn: true},
		{name: "bad hpack", answer: func(id uint32) []byte { return rawFrame(nil, tHeaders, fEndHeaders, id, []byte{0x80}) }, code: codes.Unavailable, reason: reset, conn: true},
		{name: "continuation of another", answer: func(id uint32) []byte {
			return join(rawFrame(nil, tHeaders, 0, id, nil), rawFrame(nil, tContinuation, fEndHeaders, id+2, nil))
		}, code: codes.Unavailable, reason: reset, conn: true},
		{name: "continuation flood", answer: func(id uint32) []byte {
			return join(rawFrame(nil, tHeaders, 0, id, nil), bytes.Repeat(rawFrame(nil, tContinuation, 0, id, nil), 100))
		}, code: codes.Unavailable, reason: reset, conn: true},
		{name: "connection window overflow", answer: func(uint32) []byte { return rawFrame(nil, tWindow, 0, 0, u32(1<<31-1)) }, code: codes.Unavailable, reason: reset, conn: true},
		{name: "max frame size 0", answer: func(uint32) []byte { return rawFrame(nil, tSettings, 0, 0, []byte{0, 5, 0, 0, 0, 0}) }, code: codes.Unavailable, reason: reset, conn: true},
		{name: "enable push", answer: func(uint32) []byte { return rawFrame(nil, tSettings, 0, 0, []byte{0, 2, 0, 0, 0, 1}) }, code: codes.Unavailable, reason: reset, conn: true},
		{name: "ping flood", answer: func(uint32) []byte { return bytes.Repeat(rawFrame(nil, tPing, 0, 0, make([]byte, 8)), 100_000) }, code: codes.Unavailable, reason: reset, conn: true, large: true},
		{name: "settings flood", answer: func(uint32) []byte { return bytes.Repeat(rawFrame(nil, tSettings, 0, 0, nil), 100_000) }, code: codes.Unavailable, reason: reset, conn: true, large: true},
		{name: "priority flood", answer: func(id uint32) []byte { return bytes.Repeat(rawFrame(nil, tPriority, 0, id, make([]byte, 5)), 100_000) }, code: codes.Unavailable, reason: reset, conn: true, large: true},
		{name: "empty data flood", answer: ok(head, func(id uint32) []byte { return bytes.Repeat(data(id, false, nil), 100_000) }), code: codes.Unavailable, reason: reset, conn: true, large: true},
		{name: "window flood", answer: func(id uint32) []byte { return bytes.Repeat(rawFrame(nil, tWindow, 0, id, u32(1)), 100_000) }, code: codes.Unavailable, reason: reset, conn: true, large: true},
		{name: "unknown flood", answer: func(id uint32) []byte { return bytes.Repeat(rawFrame(nil, 0xb, 0, id, nil), 100_000) }, code: codes.Unavailable, reason: reset, conn: true, large: true},
	}
}

// Whatever a server answers: no lie looks like success, and each fault is called by its name.
func TestLyingServer(t *testing.T) {
	t.Parallel()
	for _, tc := range lies() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := startLiar(t, nil, tc.answer, tc.after)
			tr := dial(t, rpcadapters.Target{Address: s.address, MaxMessage: 40_000})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var reply rpc.Reply
			err := tr.Unary(ctx, call("/a.B/C"), &rpc.Message{Data: []byte("x")}, &reply)
			var e *rpc.Error
			switch {
			case tc.code == codes.OK:
				if err != nil || string(reply.Message.Data) != tc.text {
					t.Fatalf("want %q, found %q, %v", tc.text, reply.Message.Data, err)
				}
			case !errors.As(err, &e):
				t.Fatalf("want an error, found %q, %v", reply.Message.Data, err)
			case tc.reason == "":
				if e.Code != tc.code || e.Class != rpc.Business || e.Message != tc.text || !e.Executed {
					t.Errorf("want %v %q of the service, found %+v", tc.code, tc.text, e)
				}
			case e.Code != tc.code || e.Reason != tc.reason || !e.Executed || (e.Class == rpc.Transport) == (tc.reason == "ANSWER_TOO_LARGE"):
				t.Errorf("want %v %s, found %+v: %v", tc.code, tc.reason, e, e)
			}
			reply.Reset()
			// The next call is answered: on the same connection, unless that was to be given up.
			eventually(t, "the next call", func() bool {
				err := tr.Unary(ctx, call("/a.B/C"), &rpc.Message{Data: []byte("x")}, &reply)
				fine := err == nil && string(reply.Message.Data) == "fine"
				reply.Reset()
				// A connection that lies on its first call lies again.
				return fine || tc.conn
			})
			if n := s.conns.Load(); (n > 1) != tc.conn {
				t.Errorf("want the connection given up: %v, found %d connections", tc.conn, n)
			}
		})
	}
}

// What comes after the end of an answer is no part of any other.
func TestSurplusAfterTheEnd(t *testing.T) {
	for name, surplus := range map[string]func(id uint32) []byte{
		"data":     func(id uint32) []byte { return data(id, true, message("more")) },
		"trailers": okay,
		"answer":   func(id uint32) []byte { return join(grpcHead(id), data(id, false, message("second")), okay(id)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := startLiar(t, nil, func(id uint32) []byte {
				return join(grpcHead(id), data(id, false, message("first")), okay(id), surplus(id))
			}, stay)
			tr := dial(t, rpcadapters.Target{Address: s.address})
			var reply rpc.Reply
			if err := tr.Unary(t.Context(), call("/a.B/C"), &rpc.Message{}, &reply); err != nil || string(reply.Message.Data) != "first" {
				t.Fatalf("found %q, %v", reply.Message.Data, err)
			}
			reply.Reset()
			if got := <-s.frames; got != "GOAWAY 5" {
				t.Errorf("want the connection ended with STREAM_CLOSED, found %s", got)
			}
		})
	}
}
