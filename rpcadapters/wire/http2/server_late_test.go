package http2

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// What comes after END_STREAM is answered alike, whether the stream is open still, ends while the reader decodes the header
// block, or has ended. The test is the connection's reader.
func TestServerFramesAfterTheEnd(t *testing.T) {
	some := AppendField(nil, ":method", "GET")
	some = AppendField(some, ":scheme", "http")
	some = AppendField(some, ":path", "/")
	some = AppendField(some, ":authority", "x")
	const end = flagEndHeaders | flagEndStream
	headers := &inFrame{typ: frameHeaders, flags: end, stream: 1, length: len(some), payload: some}
	data := &inFrame{typ: frameData, flags: flagEndStream, stream: 1, length: 1, payload: []byte("x")}
	whole := func(x *wire.Exchange) { _ = x.Respond(200, nil, nil) }
	for _, tc := range []struct {
		name   string
		answer func(x *wire.Exchange) // what ends the stream
		open   bool                   // it has not ended when the frame is taken
		frame  func(c *serverConn, s *serverStream) error
		fault  ErrCode // of the connection
		wasted int     // streams that we have reset for what the client did
	}{
		{name: "HEADERS, then the end", answer: whole, open: true, frame: func(c *serverConn, _ *serverStream) error { return c.take(headers) }, wasted: 1},
		{name: "the end during HEADERS", answer: whole, frame: func(c *serverConn, s *serverStream) error { return c.takeTrailers(s, headers) }, fault: StreamClosed},
		{name: "the end, then HEADERS", answer: whole, frame: func(c *serverConn, _ *serverStream) error { return c.take(headers) }, fault: StreamClosed},
		{name: "our reset during HEADERS", answer: (*wire.Exchange).Abort, frame: func(c *serverConn, s *serverStream) error { return c.takeTrailers(s, headers) }},
		{name: "our reset, then HEADERS", answer: (*wire.Exchange).Abort, frame: func(c *serverConn, _ *serverStream) error { return c.take(headers) }},
		{name: "DATA, then the end", answer: whole, open: true, frame: func(c *serverConn, _ *serverStream) error { return c.take(data) }, wasted: 1},
		{name: "the end, then DATA", answer: whole, frame: func(c *serverConn, _ *serverStream) error { return c.take(data) }, wasted: 1},
		{name: "our reset, then DATA", answer: (*wire.Exchange).Abort, frame: func(c *serverConn, _ *serverStream) error { return c.take(data) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer := make(chan struct{})
			h := func(_ context.Context, x *wire.Exchange) {
				<-answer
				tc.answer(x)
			}
			c := NewServer(Limits{}).NewConn(&memConn{closed: make(chan struct{})}, nil, nil, handler(h)).(*serverConn)
			c.server.workers.enter()
			c.dec, c.now = newRequestDecoder(100), time.Now()
			c.greet()
			if err := c.take(headers); err != nil {
				t.Fatal(err)
			}
			s := c.openStream(1)
			if s == nil {
				t.Fatal("want the stream open")
			}
			if !tc.open {
				close(answer)
				eventually(t, "the stream's end", func() bool { return c.openStream(1) == nil })
			}
			err := tc.frame(c, s)
			var fault *ConnError
			if errors.As(err, &fault); (err == nil) != (tc.fault == NoError) || err != nil && (fault == nil || fault.Code != tc.fault) {
				t.Errorf("want %v for the connection, found %v", tc.fault, err)
			}
			if c.openStream(1) != nil {
				t.Error("want the stream ended")
			}
			if c.waste.wasted != tc.wasted {
				t.Errorf("want %d streams reset for a fault, found %d", tc.wasted, c.waste.wasted)
			}
			if tc.open {
				close(answer)
			}
			eventually(t, "the handler back", func() bool { return c.active.Load() == 0 })
			c.server.workers.leave()
		})
	}
}
