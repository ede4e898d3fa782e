package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
)

// socketEnd is how a WebSocket ended, with the messages before.
type socketEnd struct {
	Texts  []string
	Code   int // 0: the connection was lost without a word
	Reason string
}

func dialSocket(t testing.TB, g *gatewayTest, path string, protocols ...string) *websocket.Conn {
	t.Helper()
	c, resp, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(g.url, "http")+path, &websocket.DialOptions{Subprotocols: protocols, HTTPClient: g.client}) //nolint:bodyclose // the library closes it
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("X-Request-Id") == "" {
		t.Error("want X-Request-Id on the handshake")
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func say(t testing.TB, c *websocket.Conn, texts ...string) {
	t.Helper()
	for _, m := range texts {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
}

func hear(t testing.TB, c *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, b, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// end reads to the end.
func (e *socketEnd) read(t testing.TB, c *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		_, b, err := c.Read(ctx)
		if err != nil {
			if ce, ok := errors.AsType[websocket.CloseError](err); ok {
				e.Code, e.Reason = int(ce.Code), ce.Reason
			}
			return
		}
		e.Texts = append(e.Texts, string(b))
	}
}

func socketEnded(t testing.TB, c *websocket.Conn) (e socketEnd) {
	t.Helper()
	e.read(t, c)
	return e
}

// Every kind of method over WebSocket, and every end.
func TestWebSocketMethods(t *testing.T) {
	t.Parallel()
	b := startChat(t)
	g := startChatGateway(t, b, "")
	const deniedError = `{"@error":` + denied + `}`
	message := func(room, text string) string { return `{"room":"` + room + `","text":"` + text + `"}` }
	for _, tc := range []struct {
		name, path string
		say        []string
		want       socketEnd
	}{
		{"a server stream begins without a message", "/v1/rooms/2/messages", nil, socketEnd{[]string{message("2", "message 0"), message("2", "message 1")}, 1000, ""}},
		{"without an answer", "/v1/rooms/0/messages", nil, socketEnd{nil, 1000, ""}},
		{"fails in the middle", "/v1/rooms/1.fail7/messages", nil, socketEnd{[]string{message("1.fail7", "message 0"), deniedError}, 4007, "asked to"}},
		{"the query says what the rule lets it", "/v1/rooms/1/messages?latest=3", nil, socketEnd{[]string{message("1", "xxx")}, 1000, ""}},
		{"a client stream", "/v1/rooms/0/messages:import", []string{`{"text":"a"}`, `{"text":"bc"}`, ""}, socketEnd{[]string{`{"messages":"2","bytes":"3"}`}, 1000, ""}},
		{"a client stream fails", "/v1/rooms/0/messages:import", []string{`{"text":"a"}`, `{"text":"fail 7"}`}, socketEnd{[]string{deniedError}, 4007, "asked to"}},
		{"a client stream fails at its end", "/v1/rooms/fail7/messages:import", []string{`{"text":"a"}`, ""}, socketEnd{[]string{deniedError}, 4007, "asked to"}},
		{"both ways", "/v1/rooms/0:talk", []string{`{"text":"a"}`, `{"text":"b"}`, ""}, socketEnd{[]string{message("0", "a"), message("0", "b")}, 1000, ""}},
		{"the service ends first", "/v1/rooms/1:talk", []string{`{"text":"a"}`, `{"text":"do"}`}, socketEnd{[]string{message("1", "a"), message("1", "message 0")}, 1000, ""}},
		{"both ways, fails", "/v1/rooms/0:talk", []string{`{"text":"a"}`, `{"text":"fail 7"}`}, socketEnd{[]string{message("0", "a"), deniedError}, 4007, "asked to"}},
		{"an upload, message by message", "/v1/rooms/r/files", []string{`{"contentType":"text/plain","data":"YWJj"}`, `{"data":"ZA=="}`, ""}, socketEnd{[]string{`{"messages":"2","bytes":"4","files":["r/ text/plain 4 88d4266f"]}`}, 1000, ""}},
		{"a download", "/v1/rooms/1/files/x", nil, socketEnd{[]string{`{"contentType":"text/plain","data":"cGllY2UgMAo="}`}, 1000, ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dialSocket(t, g, tc.path)
			say(t, c, tc.say...)
			if d := cmp.Diff(tc.want, socketEnded(t, c)); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("what is no request", func(t *testing.T) {
		for text, want := range map[string]string{
			`{"txet":"a"}`: "did you mean", `{"text":`: "", `[]`: "", `{"text":"a","room":"other"}`: "room",
		} {
			c := dialSocket(t, g, "/v1/rooms/0:talk")
			say(t, c, `{"text":"good"}`)
			hear(t, c)
			say(t, c, text)
			e := socketEnded(t, c)
			if e.Code != 4003 || len(e.Texts) != 1 || !strings.Contains(e.Texts[0], `{"@error":{"code":3,"message":"request 2 of the stream: `) || !strings.Contains(e.Texts[0], want) {
				t.Errorf("%s: found %+v", text, e)
			}
		}
	})
	t.Run("the server is killed", func(t *testing.T) {
		b := startChat(t)
		g := startChatGateway(t, b, "")
		c := dialSocket(t, g, "/v1/rooms/1.wait/messages")
		hear(t, c)
		b.server.Stop()
		if e := socketEnded(t, c); e.Code != 4014 || len(e.Texts) != 1 || !strings.Contains(e.Texts[0], `{"@error":{"code":14,`) {
			t.Errorf("found %+v", e)
		}
	})
	t.Run("a deadline", func(t *testing.T) {
		e := inTime(func(limit string) socketEnd {
			g := startChatGateway(t, b, "defaults: {stream: {max_age: "+limit+"}}\n")
			return socketEnded(t, dialSocket(t, g, "/v1/rooms/1.wait/messages"))
		}, func(e socketEnd) bool { return len(e.Texts) > 1 })
		if e.Code != 4004 || len(e.Texts) != 2 {
			t.Errorf("found %+v", e)
		}
		b.ended(t)
	})
	t.Run("nothing passes", func(t *testing.T) {
		e := inTime(func(limit string) socketEnd {
			g := startChatGateway(t, b, "defaults: {stream: {idle_timeout: "+limit+"}}\n")
			c := dialSocket(t, g, "/v1/rooms/x:talk")
			_ = c.Write(t.Context(), websocket.MessageText, []byte(`{"text":"a"}`)) // what is heard tells
			return socketEnded(t, c)
		}, func(e socketEnd) bool { return len(e.Texts) > 1 })
		if e.Code != 4004 || len(e.Texts) != 2 || !strings.Contains(e.Texts[1], "STREAM_IDLE") {
			t.Errorf("found %+v", e)
		}
		b.ended(t)
	})
	t.Run("a message after the last", func(t *testing.T) {
		c := dialSocket(t, g, "/v1/rooms/wait:talk")
		say(t, c, `{"text":"a"}`, "", `{"text":"b"}`)
		if e := socketEnded(t, c); e.Code != 4003 || !strings.Contains(e.Texts[len(e.Texts)-1], "CARDINALITY") {
			t.Errorf("found %+v", e)
		}
		b.ended(t)
	})
	t.Run("the log has it", func(*testing.T) {
		g.logged("a WebSocket that ended well", `"status":101`, `"code":"OK"`, "Talk")
		g.logged("one that failed", `"status":101`, `"code":"PERMISSION_DENIED"`, "Talk")
	})
}

// In the protobuf subprotocol messages are binary, and text is what the gateway says.
func TestWebSocketProtobuf(t *testing.T) {
	b := startChat(t)
	g := startChatGateway(t, b, "")
	c := dialSocket(t, g, "/v1/rooms/0:talk", "other", "causeway.proto")
	if c.Subprotocol() != "causeway.proto" {
		t.Fatalf("found subprotocol %q", c.Subprotocol())
	}
	for _, text := range []string{"a", "ü"} {
		raw, err := proto.Marshal(&chatv1.Message{Text: text, Room: "overruled"})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Write(t.Context(), websocket.MessageBinary, raw); err != nil {
			t.Fatal(err)
		}
		typ, raw, err := c.Read(t.Context())
		var got chatv1.Message
		if err != nil || typ != websocket.MessageBinary || proto.Unmarshal(raw, &got) != nil || got.GetText() != text || got.GetRoom() != "0" {
			t.Errorf("found %v %v %v", typ, err, &got)
		}
	}
	// Nothing at all is a message too.
	if err := c.Write(t.Context(), websocket.MessageBinary, nil); err != nil {
		t.Fatal(err)
	}
	if _, raw, err := c.Read(t.Context()); err != nil || len(raw) == 0 {
		t.Errorf("want a message with the room, found %q %v", raw, err)
	}
	say(t, c, "")
	if e := socketEnded(t, c); e.Code != 1000 {
		t.Errorf("found %+v", e)
	}
	c = dialSocket(t, g, "/v1/rooms/fail7/messages", "causeway.proto")
	if typ, raw, err := c.Read(t.Context()); err != nil || typ != websocket.MessageText || string(raw) != `{"@error":`+denied+`}` {
		t.Errorf("found %v %s %v", typ, raw, err)
	}
	if e := socketEnded(t, c); e.Code != 4007 {
		t.Errorf("found %+v", e)
	}
}

// A caller who leaves, in whatever way and whatever the gateway waits for, cancels the call.
func TestWebSocketDeparture(t *testing.T) {
	b := startChat(t)
	g := startChatGateway(t, b, "")
	for name, path := range map[string]string{"who only hears": "/v1/rooms/1.wait/messages", "who talks": "/v1/rooms/x:talk", "who waits": "/v1/rooms/wait:talk"} {
		for how, leave := range map[string]func(*websocket.Conn){
			"closes":    func(c *websocket.Conn) { _ = c.Close(websocket.StatusNormalClosure, "bye") },
			"is killed": func(c *websocket.Conn) { _ = c.CloseNow() },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				before := b.cancelled.Load()
				c := dialSocket(t, g, path)
				if strings.Contains(path, "talk") {
					say(t, c, `{"text":"a"}`)
				}
				hear(t, c)
				if name == "who waits" {
					say(t, c, "")
				}
				left := time.Now()
				leave(c)
				waitFor(t, "the service to hear that the client has gone", func() bool { return b.cancelled.Load() == before+1 })
				took := time.Unix(0, b.left.Load()).Sub(left)
				t.Logf("the service heard after %s", took.Round(time.Millisecond))
				if took > 10*time.Second { // before anything else could end the call
					t.Errorf("it took %s", took)
				}
			})
		}
	}
	g.logged("the departure", `"status":499`, `"code":"CANCELLED"`)
}

// rawSocket is a client that may send what it likes.
type rawSocket struct {
	net.Conn
	r    *bufio.Reader
	head *http.Response // of the handshake
}

const handshakeHead = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

func rawDial(t testing.TB, g *gatewayTest, request string) rawSocket {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://")) //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	s := rawSocket{Conn: conn, r: bufio.NewReader(conn)}
	if s.head, err = http.ReadResponse(s.r, nil); err != nil { //nolint:bodyclose // it ends with the connection
		t.Fatal(err)
	}
	return s
}

// frame is one frame of a client, masked with zeros.
func frame(first byte, length uint64, payload string) string {
	b := []byte{first}
	switch {
	case length < 126:
		b = append(b, 0x80|byte(length))
	case length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), length)
	}
	return string(b) + "\x00\x00\x00\x00" + payload
}

func text(s string) string { return frame(0x81, uint64(len(s)), s) }

// closed reads frames up to the close frame; code 0: the connection ended without one.
func (s rawSocket) closed() (code int, reason string, texts []string) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(s.r, head[:]); err != nil {
			return 0, err.Error(), texts
		}
		n := int(head[1] & 0x7f)
		if n == 126 {
			var more [2]byte
			if _, err := io.ReadFull(s.r, more[:]); err != nil {
				return 0, err.Error(), texts
			}
			n = int(binary.BigEndian.Uint16(more[:]))
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(s.r, payload); err != nil {
			return 0, err.Error(), texts
		}
		switch head[0] & 0xf {
		case 8:
			if n < 2 {
				return -1, "", texts
			}
			return int(binary.BigEndian.Uint16(payload)), string(payload[2:]), texts
		case 1, 2:
			texts = append(texts, string(payload))
		}
	}
}

// What a client may do to a WebSocket, frame by frame, and what becomes of it: the connection is closed with the code, and
// the service's call ends.
func TestHostileWebSockets(t *testing.T) {
	t.Parallel()
	b := startChat(t)
	g := startChatGateway(t, b, "defaults: {max_body: 100000}\n")
	flood := func(one string, n int) string { return strings.Repeat(one, n) }
	for _, tc := range []struct {
		name, frames string
		codes        []int
	}{
		{"a frame that is not masked", "\x81\x02{}", []int{1002}},
		{"a length of 2^63", "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", []int{1002}},
		{"a length of 2^63-1", frame(0x81, 1<<63-1, strings.Repeat("x", 200_000)), []int{1009}},
		{"a message over the limit", text(`{"text":"` + strings.Repeat("x", 100_000) + `"}`), []int{1009}},
		{"a message over the limit in fragments", frame(0x01, 60_000, strings.Repeat("x", 60_000)) + frame(0x80, 60_000, strings.Repeat("x", 60_000)), []int{1009}},
		{"10^6 empty fragments", frame(0x01, 1, "{") + flood(frame(0x00, 0, ""), 1_000_000), []int{1008}},
		{"10^5 fragments of a byte", frame(0x01, 1, "{") + flood(frame(0x00, 1, " "), 100_000), []int{1008, 1009}},
		{"a flood of pings", flood(frame(0x89, 0, ""), 100_000), []int{1008}},
		{"a flood of pongs", flood(frame(0x8a, 4, "pong"), 100_000), []int{1008}},
		{"text that is not UTF-8", text("{\"text\":\"\xff\"}"), []int{1007}},
		{"binary beside JSON", frame(0x82, 2, "{}"), []int{1003}},
		{"a continuation of nothing", frame(0x80, 2, "{}"), []int{1002}},
		{"a message within a message", frame(0x01, 1, "{") + text("{}"), []int{1002}},
		{"an unknown opcode", frame(0x83, 0, ""), []int{1002}},
		{"an unknown control opcode", frame(0x8b, 0, ""), []int{1002}},
		{"a reserved bit", frame(0xc1, 2, "{}"), []int{1002}},
		{"a long ping", frame(0x89, 126, strings.Repeat("x", 126)), []int{1002}},
		{"a ping in fragments", frame(0x09, 0, ""), []int{1002}},
		{"close with half a code", frame(0x88, 1, "\x03"), []int{1002}},
		{"close with 1005", frame(0x88, 2, "\x03\xed"), []int{1002}},
		{"close with 999", frame(0x88, 2, "\x03\xe7"), []int{1002}},
		{"close with 1016", frame(0x88, 2, "\x03\xf8"), []int{1002}},
		{"close with 5000", frame(0x88, 2, "\x13\x88"), []int{1002}},
		{"an ordinary close is answered", frame(0x88, 2, "\x03\xe8"), []int{1000}},
		{"a close without a code is answered", frame(0x88, 0, ""), []int{-1}},
		{"a close of an application's own is answered", frame(0x88, 2, "\x0f\xa1"), []int{4001}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := rawDial(t, g, "GET /v1/rooms/x:talk HTTP/1.1\r\nHost: x\r\n"+handshakeHead+"\r\n")
			if s.head.StatusCode != 101 || s.head.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
				t.Fatalf("found %+v", s.head)
			}
			go func() { _, _ = io.WriteString(s, tc.frames) }() // the gateway need not take all of it
			code, reason, _ := s.closed()
			ok := false
			for _, want := range tc.codes {
				ok = ok || code == want
			}
			if !ok {
				t.Errorf("want %v, found %d %s", tc.codes, code, reason)
			}
			b.ended(t)
		})
	}
	t.Run("a ping is answered while a message is on its way", func(t *testing.T) {
		s := rawDial(t, g, "GET /v1/rooms/x:talk HTTP/1.1\r\nHost: x\r\n"+handshakeHead+"\r\n")
		if _, err := io.WriteString(s, frame(0x01, 9, `{"text":"`)+frame(0x89, 2, "hi")+frame(0x80, 3, `a"}`)); err != nil {
			t.Fatal(err)
		}
		var pong [4]byte
		if _, err := io.ReadFull(s.r, pong[:]); err != nil || string(pong[:]) != "\x8a\x02hi" {
			t.Errorf("found %q %v", pong, err)
		}
		if _, err := io.WriteString(s, text("")); err != nil {
			t.Fatal(err)
		}
		if code, _, texts := s.closed(); code != 1000 || len(texts) != 1 {
			t.Errorf("found %d %q", code, texts)
		}
	})
	if calls := b.calls.Load(); calls != 27 {
		t.Errorf("want a call for each, found %d", calls)
	}
}

// Who may open a WebSocket, and what a request must be to become one.
func TestWebSocketHandshake(t *testing.T) {
	b := startChat(t)
	g := startChatGateway(t, b, `defaults:
  rest: {websocket_origins: ["https://app.example.com", "https://*.below.example.com", "http://localhost:3000"]}
routes:
  - {name: open, hosts: [open.test], service: chat, methods: [demo.chat.v1.Chat/*], rest: {websocket_origins: ["*"]}}
  - {name: default, service: chat, methods: [demo.chat.v1.Chat/*]}
  - {name: closed, hosts: [closed.test], service: chat, methods: [demo.chat.v1.Chat/*], rest: {}}
`)
	const path = "/v1/rooms/1/messages"
	for _, tc := range []struct {
		name, line, head string
		status           int
		reason           string
	}{
		{"no origin", "GET " + path, "Host: x\r\n" + handshakeHead, 101, ""},
		{"its own origin", "GET " + path, "Host: x:8080\r\nOrigin: http://x:8080\r\n" + handshakeHead, 101, ""},
		{"its own origin by another scheme", "GET " + path, "Host: x\r\nOrigin: https://x\r\n" + handshakeHead, 101, ""},
		{"its own origin with another port", "GET " + path, "Host: x:8080\r\nOrigin: http://x:8081\r\n" + handshakeHead, 403, "ORIGIN_NOT_ALLOWED"},
		{"an allowed origin", "GET " + path, "Host: x\r\nOrigin: https://app.example.com\r\n" + handshakeHead, 101, ""},
		{"in capitals", "GET " + path, "Host: x\r\nOrigin: HTTPS://APP.example.com\r\n" + handshakeHead, 101, ""},
		{"a name below", "GET " + path, "Host: x\r\nOrigin: https://a.b.below.example.com\r\n" + handshakeHead, 101, ""},
		{"with a port", "GET " + path, "Host: x\r\nOrigin: http://localhost:3000\r\n" + handshakeHead, 101, ""},
		{"the domain itself", "GET " + path, "Host: x\r\nOrigin: https://below.example.com\r\n" + handshakeHead, 403, "ORIGIN_NOT_ALLOWED"},
		{"a name that only ends so", "GET " + path, "Host: x\r\nOrigin: https://evilbelow.example.com\r\n" + handshakeHead, 403, "ORIGIN_NOT_ALLOWED"},
		{"the wrong scheme", "GET " + path, "Host: x\r\nOrigin: http://app.example.com\r\n" + handshakeHead, 403, "ORIGIN_NOT_ALLOWED"},
		{"another origin", "GET " + path, "Host: x\r\nOrigin: https://evil.example\r\n" + handshakeHead, 403, "ORIGIN_NOT_ALLOWED"},
		{"a page of no origin", "GET " + path, "Host: x\r\nOrigin: null\r\n" + handshakeHead, 403, "ORIGIN_NOT_ALLOWED"},
		{"an empty origin", "GET " + path, "Host: x\r\nOrigin: \r\n" + handshakeHead, 403, "ORIGIN_NOT_ALLOWED"},
		{"two origins", "GET " + path, "Host: x\r\nOrigin: http://x\r\nOrigin: http://x\r\n" + handshakeHead, 403, "ORIGIN_NOT_ALLOWED"},
		{"open to all", "GET " + path, "Host: open.test\r\nOrigin: https://evil.example\r\n" + handshakeHead, 101, ""},
		{"open to none", "GET " + path, "Host: closed.test\r\nOrigin: https://app.example.com\r\n" + handshakeHead, 403, "ORIGIN_NOT_ALLOWED"},
		{"an old version", "GET " + path, "Host: x\r\n" + strings.Replace(handshakeHead, ": 13", ": 8", 1), 426, "WEBSOCKET_VERSION"},
		{"no key", "GET " + path, "Host: x\r\n" + strings.Replace(handshakeHead, "Sec-WebSocket-Key", "X-Key", 1), 400, "MALFORMED_WEBSOCKET"},
		{"a bad key", "GET " + path, "Host: x\r\n" + strings.Replace(handshakeHead, "dGhlIHNhbXBsZSBub25jZQ==", "YWJj", 1), 400, "MALFORMED_WEBSOCKET"},
		{"two keys", "GET " + path, "Host: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + handshakeHead, 400, "MALFORMED_WEBSOCKET"},
		{"no Connection", "GET " + path, "Host: x\r\n" + strings.Replace(handshakeHead, "Connection: Upgrade", "Connection: keep-alive", 1), 400, "MALFORMED_WEBSOCKET"},
		{"several tokens", "GET " + path, "Host: x\r\n" + strings.Replace(handshakeHead, "Connection: Upgrade", "Connection: keep-alive, Upgrade", 1), 101, ""},
		{"a method by POST", "GET /v1/rooms/0:talk", "Host: x\r\n" + handshakeHead, 101, ""},
		{"without the headers it is a verb like any other", "GET /v1/rooms/0:talk", "Host: x\r\n", 405, "METHOD_NOT_ALLOWED"},
		{"no such path", "GET /v1/nothing", "Host: x\r\n" + handshakeHead, 404, "ROUTE_NOT_FOUND"},
		{"another verb", "POST /v1/rooms/0:talk", "Host: x\r\nContent-Length: 2\r\n" + handshakeHead, 400, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rest := ""
			if strings.HasPrefix(tc.line, "POST") {
				rest = "{}"
			}
			resp := rawDial(t, g, tc.line+" HTTP/1.1\r\n"+tc.head+"\r\n"+rest).head
			if tc.name == "another verb" {
				if resp.StatusCode != 200 {
					t.Errorf("want the request served as any other, found %d", resp.StatusCode)
				}
				return
			}
			var body []byte
			if resp.StatusCode != 101 {
				var err error
				if body, err = io.ReadAll(resp.Body); err != nil {
					t.Fatal(err)
				}
			}
			if resp.StatusCode != tc.status || !strings.Contains(string(body), tc.reason) {
				t.Errorf("want %d %s, found %d %s", tc.status, tc.reason, resp.StatusCode, body)
			}
		})
	}
	b.ended(t)
}

// What comes with the handshake is not lost.
func TestWebSocketFramesWithTheHandshake(t *testing.T) {
	b := startChat(t)
	g := startChatGateway(t, b, "")
	s := rawDial(t, g, "GET /v1/rooms/0:talk HTTP/1.1\r\nHost: x\r\n"+handshakeHead+"\r\n"+text(`{"text":"early"}`)+text(""))
	if code, _, texts := s.closed(); code != 1000 || len(texts) != 1 || !strings.Contains(texts[0], "early") {
		t.Errorf("found %d %q", code, texts)
	}
	if s := rawDial(t, g, fmt.Sprintf("GET /v1/rooms/0:talk HTTP/1.1\r\nHost: x\r\n%s\r\n%s", handshakeHead, text("")+strings.Repeat(text(""), 3000))); s.head.StatusCode == 101 {
		if code, _, _ := s.closed(); code != 1000 && code != 4003 {
			t.Errorf("found %d", code)
		}
	}
	b.ended(t)
}
