package rest

import (
	"context"
	"errors"
	"io"
	"slices"
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

	checked bool    // the body is one to take requests from
	upload  *upload // the body is a form with files

	mu      sync.Mutex // of the writing side: answers and signs of life
	begun   bool
	started bool      // the service has sent its head, though ours may be held back
	sent    int       // answers
	last    time.Time // when something was written
	broken  error     // the caller has gone, or wants no more
	over    bool      // nobody may write any more
	quiet   *tending  // that looks after it; nil: nobody
}

// streams makes the call one of a streaming method.
func (c *call) streams(ctx context.Context) {
	s := &stream{ctx: ctx, c: c}
	s.body = elements{limit: c.m.Options.MaxBody, read: s.read, hold: c.hold, give: c.give}
	c.stream, c.Stream, c.Body = s, s, nil
	c.x.SlowBody()
	switch {
	case c.m.Rule.RawAnswer && c.m.Options.REST.GRPCGateway:
		c.form = gatewayContentForm
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
		if isUpload(c.x.HTTP.Header.Get("content-type")) {
			return s.recvUpload(m)
		}
		return s.recvContent(m)
	}
	if !s.checked {
		if err := s.listed(); err != nil {
			return err
		}
		s.checked = true
	}
	text, err := s.body.next()
	if err != nil {
		return err
	}
	s.got++
	return c.request(m, jsonwire.Request{Body: text}, s.got)
}

// listed refuses a body that is no list of JSON texts.
func (s *stream) listed() error {
	c := s.c
	if err := c.unpacked(); err != nil {
		return err
	}
	switch typ := mediaType(c.x.HTTP.Header.Get("content-type")); {
	case linesType(typ), c.m.Options.REST.GRPCGateway:
		return nil
	case typ == "application/x-www-form-urlencoded":
		return nil // what curl -d says of JSON, too; the codec tells what is none
	}
	_, err := c.contentKind(false)
	return err
}

// read reads the body; its errors are the caller's.
func (s *stream) read(p []byte) (int, error) {
	n, err := s.c.x.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = bodyError(s.ctx, err)
	}
	return n, err
}

// request makes a message of one of a stream's requests, the nth, with what path and query give to each.
func (c *call) request(m *rpc.Message, req jsonwire.Request, n int) error {
	rule, o := c.m.Rule, c.m.Options
	req.Message, req.BodyField = c.Method.Input, rule.BodyField
	req.Override = o.REST.Override || o.REST.GRPCGateway
	req.Params = append(c.params[:0], req.Params...)
	if err := c.parameters(&req); err != nil {
		return err
	}
	buf := rpc.GetBuffer()
	var err error
	if buf.B, err = jsonwire.AppendRequest(buf.B, &req, o.JSON); err != nil {
		buf.Free()
		refused := badRequest(err)
		if n > 1 {
			refused.Message = "request " + strconv.Itoa(n) + " of the stream: " + refused.Message
		}
		return refused
	}
	m.Own(buf)
	return nil
}

// chunk is how much of a body goes into one google.api.HttpBody of a stream.
const chunk = 64 << 10

// recvContent gives the body in pieces, as google.api.HttpBody messages; the first has the content type.
func (s *stream) recvContent(m *rpc.Message) error {
	c := s.c
	if s.got == 0 {
		if err := c.unpacked(); err != nil {
			return err
		}
	}
	if c.raw == nil {
		if !c.hold(chunk) {
			return overloaded()
		}
		c.raw = rpc.GetBuffer()
		c.raw.B = slices.Grow(c.raw.B[:0], chunk)
	}
	n := 0
	for n == 0 {
		var err error
		if n, err = s.read(c.raw.B[:chunk]); n > 0 {
			break // what is there goes on at once; an error comes again
		}
		if errors.Is(err, io.EOF) {
			if s.got > 0 {
				return io.EOF
			}
			break // an empty body is one empty message
		}
		if err != nil {
			return err
		}
	}
	s.got++
	req := jsonwire.Request{Raw: true, Body: c.raw.B[:n]}
	if s.got == 1 {
		req.ContentType = c.x.HTTP.Header.Get("content-type")
	}
	return c.request(m, req, s.got)
}

// Start implements rpc.Stream.
func (s *stream) Start() error {
	if s.c.Method.Kind == schema.ClientStream {
		return nil // the answer is a single one
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	if s.c.form.late() {
		return s.broken
	}
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
	if err := s.head(200, contentType); err != nil {
		return err
	}
	if s.c.x.HTTP.Method == "HEAD" {
		s.broken = errHeadOnly // the head was all that was asked for
		return s.broken
	}
	if s.c.form.keepAlive() != "" {
		s.quiet = &s.c.face.quiet
		s.quiet.add(s)
	}
	return nil
}

// errHeadOnly ends the stream of a caller who asked for the head.
var errHeadOnly = rpc.Refuse(codes.Canceled, "HEAD_ONLY", "the caller asked for the head of the answer only")

// head writes a head. mu is held.
func (s *stream) head(status int, contentType string) error {
	c := s.c
	header := append(c.header[:0],
		rpc.Pair{Key: "content-type", Value: contentType},
		rpc.Pair{Key: "x-request-id", Value: c.ID})
	if c.form == eventsForm {
		// Proxies on the way must neither keep events nor hold them back (the second is nginx's word for it).
		header = append(header, rpc.Pair{Key: "cache-control", Value: "no-store"}, rpc.Pair{Key: "x-accel-buffering", Value: "no"})
	}
	header = rpcadapters.AppendResponseHeaders(header, c.Reply.Header, c.m.Options.Response, metadataPrefix)
	c.header = header
	s.begun = true
	return s.written(c.x.WriteHead(status, header))
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

// tend sends a sign of life when there has been nothing else to send for long. A write may wait, so it has its own
// goroutine. It implements tended.
func (s *stream) tend(now time.Time) {
	if !s.mu.TryLock() {
		return // something is being sent
	}
	defer s.mu.Unlock()
	if !s.over && s.broken == nil && now.Sub(s.last) >= lifeSign {
		s.last = now
		go s.live()
	}
}

func (s *stream) live() {
	defer func() { _ = recover() }() // a sign of life is not worth the process
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.broken != nil {
		return
	}
	if s.written(s.c.x.Write([]byte(s.c.form.keepAlive()))) == nil {
		_ = s.written(s.c.x.Flush()) // what failed is in broken
	}
}

// quit keeps anybody from writing later. It is called when the call is over, however it ended.
func (s *stream) quit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.quiet != nil {
		s.quiet.remove(s)
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
	if c.form.content() {
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
	if after := s.c.form.after(); after != "" {
		if err := s.written(s.c.x.Write(data)); err != nil {
			return err
		}
		data = []byte(after)
	}
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
	s.over = true
	var e *rpc.Error
	if err != nil {
		e = rpc.AsError(err)
	}
	switch {
	case s.begun:
	case c.Method.Kind == schema.ClientStream:
		return rpc.Sent{}, false
	case e == nil:
		typ := c.form.contentType()
		if c.form.content() {
			typ = string(octets)
		}
		_ = s.begin(typ) // what failed is in broken
	case s.started && c.form.late() && c.form != contentForm:
		// As grpc-gateway has it: the status of the error, and its form in the stream.
		status := e.Status
		if status == 0 {
			status = rpcadapters.HTTPStatus(e.Code)
		}
		_ = s.head(status, jsonType) // as above
	default:
		return rpc.Sent{}, false
	}
	if errors.Is(s.broken, errHeadOnly) {
		s.broken, e = nil, nil
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
