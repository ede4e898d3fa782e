package rest

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// stream is the caller's half of a streaming call over REST. Requests are the elements of the body, answers are written in
// the form that the caller accepts.
type stream struct {
	ctx  context.Context
	c    *call
	body elements
	got  int // requests

	mu      sync.Mutex // of the writing side: answers and signs of life
	begun   bool
	sent    int       // answers
	last    time.Time // when something was written
	broken  error     // the caller has gone
	stopped chan struct{}
}

// streams makes the call one of a streaming method.
func (c *call) streams(ctx context.Context) {
	c.stream = &stream{ctx: ctx, c: c}
	c.Stream, c.Body = c.stream, nil
	switch {
	case c.m.Rule.RawAnswer:
		c.form = contentForm
	case c.m.Options.REST.GRPCGateway && formOf(c.x.HTTP.Header.Get("accept")) == arrayForm:
		c.form = gatewayForm
	default:
		c.form = formOf(c.x.HTTP.Header.Get("accept"))
	}
}

// Recv implements rpc.Stream.
func (s *stream) Recv(m *rpc.Message) error {
	c := s.c
	takesOne := c.Method.Kind == schema.ServerStream || c.m.Rule.Body == httprule.NoBody
	if takesOne {
		if s.got > 0 {
			return io.EOF
		}
		msg, err := c.Message(s.ctx, c.Method.Input)
		if err != nil {
			return err
		}
		s.got++
		*m = msg.Retain()
		return nil
	}
	if c.m.Rule.RawBody {
		return s.recvContent(m)
	}
	if s.body.buf == nil {
		if _, err := c.contentKind(c.m.Options.REST.GRPCGateway); err != nil {
			return err
		}
		c.raw = rpc.GetBuffer()
		s.body.buf, s.body.limit = c.raw, c.m.Options.MaxBody
	}
	text, err := s.body.next(s.read)
	if err != nil {
		return err
	}
	s.got++
	return s.request(m, jsonwire.Request{Body: text})
}

// read reads the body; its errors are the caller's.
func (s *stream) read(p []byte) (int, error) {
	n, err := s.c.x.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = bodyError(s.ctx, err)
	}
	return n, err
}

// request makes a message of one element of the body, with what path and query give to each.
func (s *stream) request(m *rpc.Message, req jsonwire.Request) error {
	c := s.c
	rule, o := c.m.Rule, c.m.Options
	req.Message, req.BodyField = c.Method.Input, rule.BodyField
	req.Override = o.REST.Override || o.REST.GRPCGateway
	if err := c.parameters(&req); err != nil {
		return err
	}
	buf := rpc.GetBuffer()
	var err error
	if buf.B, err = jsonwire.AppendRequest(buf.B, &req, o.JSON); err != nil {
		buf.Free()
		refused := badRequest(err)
		if s.got > 1 {
			refused.Message = "request " + strconv.Itoa(s.got) + " of the stream: " + refused.Message
		}
		return refused
	}
	m.Own(buf)
	return nil
}

// chunk is how much of a body goes into one google.api.HttpBody of a stream.
const chunk = 64 << 10

// recvContent gives the body in pieces, as google.api.HttpBody messages.
func (s *stream) recvContent(m *rpc.Message) error {
	c := s.c
	if c.raw == nil {
		c.raw = rpc.GetBuffer()
		if cap(c.raw.B) < chunk {
			c.raw.B = make([]byte, 0, chunk)
		}
	}
	b := c.raw.B[:0]
	for len(b) < chunk {
		n, err := s.read(b[len(b):chunk])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		break // what is there goes on at once
	}
	c.raw.B = b
	if len(b) == 0 && s.got > 0 {
		return io.EOF
	}
	s.got++
	req := jsonwire.Request{Raw: true, Body: b}
	if s.got == 1 {
		req.ContentType = c.x.HTTP.Header.Get("content-type")
	}
	return s.request(m, req)
}

// Start implements rpc.Stream.
func (s *stream) Start() error {
	if s.c.Method.Kind == schema.ClientStream || s.c.form == contentForm {
		return nil // the answer is a single one, or its type is in the first
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(s.c.form.contentType()); err != nil {
		return err
	}
	return s.written(s.c.x.Flush())
}

// begin writes the head. mu is held.
func (s *stream) begin(contentType string) error {
	if s.begun || s.broken != nil {
		return s.broken
	}
	c := s.c
	header := append(c.header[:0],
		rpc.Pair{Key: "content-type", Value: contentType},
		rpc.Pair{Key: "x-request-id", Value: c.ID})
	if c.form == eventsForm {
		header = append(header, rpc.Pair{Key: "cache-control", Value: "no-store"})
	}
	header = rpcadapters.AppendResponseHeaders(header, c.Reply.Header, c.m.Options.Response, metadataPrefix)
	c.header = header
	s.begun = true
	if err := s.written(c.x.WriteHead(200, header)); err != nil {
		return err
	}
	if sign := c.form.keepAlive(); sign != "" {
		s.stopped = make(chan struct{})
		go s.live(sign, s.stopped)
	}
	return nil
}

// written notes how a write went.
func (s *stream) written(err error) error {
	s.last = time.Now()
	if err != nil && s.broken == nil {
		s.broken = rpc.Refuse(codes.Canceled, "CLIENT_GONE", "the caller left before the answer was written").WithCause(err)
	}
	return s.broken
}

// lifeSign is how long nothing is sent before a sign of life is, as WHATWG HTML section 9.2.7 advises.
const lifeSign = 15 * time.Second

// live writes signs of life while there is nothing else to write, until stop is closed.
func (s *stream) live(sign string, stop <-chan struct{}) {
	defer func() { _ = recover() }() // a sign of life is not worth the process
	t := time.NewTicker(lifeSign)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		s.mu.Lock()
		select {
		case <-stop:
			s.mu.Unlock()
			return
		default:
		}
		if s.broken == nil && time.Since(s.last) >= lifeSign/2 {
			if s.written(s.c.x.Write([]byte(sign))) == nil {
				_ = s.written(s.c.x.Flush())
			}
		}
		s.mu.Unlock()
	}
}

// Send implements rpc.Stream.
func (s *stream) Send(m *rpc.Message, more bool) error {
	c := s.c
	if c.Method.Kind == schema.ClientStream {
		c.Reply.Message.Free()
		c.Reply.Message = m.Retain()
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if c.form == contentForm {
		return s.sendContent(m, more)
	}
	buf := rpc.GetBuffer()
	defer buf.Free()
	var err error
	if buf.B, err = c.appendAnswer(buf.B, m, s.sent); err != nil {
		return invalidAnswer(c, err)
	}
	if err := s.begin(c.form.contentType()); err != nil {
		return err
	}
	s.sent++
	return s.write(buf.B, more)
}

func (s *stream) write(b []byte, more bool) error {
	err := s.c.x.Write(b)
	if err == nil && !more {
		err = s.c.x.Flush()
	}
	return s.written(err)
}

// sendContent passes the data of a google.api.HttpBody on; the first one tells the type of the whole.
func (s *stream) sendContent(m *rpc.Message, more bool) error {
	typ, data, err := jsonwire.SplitHTTPBody(m.Data, s.c.m.Rule.ResponseBody)
	if err != nil {
		return invalidAnswer(s.c, err)
	}
	if !s.begun {
		if len(typ) == 0 {
			typ = octets
		}
		if err := s.begin(string(typ)); err != nil {
			return err
		}
	}
	s.sent++
	return s.write(data, more)
}

// Stop implements rpc.Stream.
func (s *stream) Stop() { s.c.x.StopRead() }

// finish ends the answer of a stream that has begun, or that ended well without an answer. done is false where nothing was
// written and the call's error is answered as that of a unary one.
func (f *Face) finish(c *call, err error) (sent rpc.Sent, done bool) {
	s := c.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped != nil {
		close(s.stopped)
	}
	if !s.begun && (err != nil || c.Method.Kind == schema.ClientStream) {
		return rpc.Sent{}, false
	}
	var e *rpc.Error
	if err != nil {
		e = rpc.AsError(err)
	}
	if e == nil {
		typ := c.form.contentType()
		if c.form == contentForm {
			typ = string(octets)
		}
		_ = s.begin(typ) // what failed is in broken
	}
	trailer := rpcadapters.AppendResponseHeaders(nil, c.Reply.Trailer, c.m.Options.Response, trailerPrefix)
	switch {
	case s.broken != nil:
	case e == nil:
		if end := c.form.end(s.sent); end != "" {
			_ = s.written(c.x.Write([]byte(end)))
		}
		_ = s.written(c.x.End(trailer))
	case c.form == contentForm:
		c.x.Abort()
	default:
		status := f.appendStatus(nil, e, c.Method.Schema, c.m.Options.REST.GRPCGateway)
		_ = s.written(c.x.Write(c.form.appendFailure(nil, s.sent, status)))
		_ = s.written(c.x.End(trailer))
	}
	if s.broken != nil && e == nil {
		e = rpc.AsError(s.broken)
	}
	sent = finished(c.x, codes.OK)
	if e != nil {
		sent.Code, sent.Reason, sent.Err = e.Code, e.Reason, e
	}
	if s.broken != nil || sent.Code == codes.Canceled {
		sent.Status = statusClientGone
	}
	return sent, true
}
