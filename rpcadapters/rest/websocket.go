package rest

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/websocket"
	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// The subprotocols. In both a text message without any content ends the requests, and text is what the gateway itself says;
// see socket.
const (
	jsonProtocol  = "causeway.json"  // messages are JSON in text; also without a subprotocol
	protoProtocol = "causeway.proto" // messages are protobuf in binary
)

// closeStatus is what a status code is added to for the close code of a call that failed: the range from 4000 on is for
// applications to use (RFC 6455 section 7.4.2).
const closeStatus = 4000

// socket is the caller's half of a streaming call over WebSocket.
//
// Each message of the caller is a request, and each answer a message. In JSON a request is what the rule has as the body;
// where it has none, the whole message, to which path and query add their fields. In protobuf it is the whole message, and what
// path and query say replaces what it says of the same fields. A text message without content ends the requests
// (in a browser: ws.send("")): it can be no JSON, and protobuf, where nothing at all is a message, does not come as text.
// A method that takes one request needs no such end, and where the rule has no body it begins without a message.
//
// The call's end is the WebSocket's: 1000 when it ended well; else a text message {"@error": status}, and the close code
// 4000 + the status code with the message as the reason. A caller who closes before that leaves: the call is cancelled.
type socket struct {
	c      *call
	cancel context.CancelFunc

	// The receiving side's.
	got  int  // requests
	done bool // there are no more

	mu      sync.Mutex // of what follows; not held while something is sent
	ws      *websocket.Conn
	binary  bool
	stopped bool
	gone    error            // the caller has left
	fault   *rpc.Error       // of the caller's, found while nobody received
	against *websocket.Fault // the protocol
	watch   sync.WaitGroup   // whoever listens once the requests have ended
}

// serveSocket serves a streaming call to a caller who asks for a WebSocket. The handshake is answered once somebody receives
// or sends: what the gateway refuses before, its plugins above all, is answered as to any other request. What the service
// says is told on the WebSocket, also when it says so at once: a browser shows a page no other answer.
func (f *Face) serveSocket(parent context.Context, c *call, h rpc.Handler) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	s := &socket{c: c, cancel: cancel}
	c.socket, c.Stream, c.Body = s, s, nil
	defer f.quiet.remove(s)
	defer s.leave() // when something panics, too
	defer context.AfterFunc(parent, func() { s.lost(parent.Err()) })()
	var err error
	if e := websocket.Check(c.x, c.m.Options.REST.Origins); e != nil {
		err = e
	} else {
		err = f.handle(ctx, c, h)
	}
	sent := s.finish(f, err)
	c.m.Finish.Done(&c.Call, sent)
	c.release()
	f.calls.Put(c)
}

// lost ends a WebSocket whose client has gone, or is to go, whatever it waits for. One whose time is over is told so.
func (s *socket) lost(why error) {
	if errors.Is(why, context.DeadlineExceeded) {
		return
	}
	s.mu.Lock()
	if s.gone == nil {
		s.gone = why
	}
	ws := s.ws
	s.mu.Unlock()
	if ws != nil {
		ws.Cut()
	}
}

// leave cuts what was not closed.
func (s *socket) leave() {
	s.mu.Lock()
	ws := s.ws
	s.mu.Unlock()
	if ws != nil {
		ws.Cut()
	}
	s.watch.Wait()
}

// open answers the handshake, once; after the call's end only with late. Its errors are *rpc.Error.
func (s *socket) open(late bool) (*websocket.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ws != nil:
		return s.ws, nil
	case s.stopped && !late:
		return nil, stopped()
	case s.gone != nil:
		return nil, clientGone(s.gone)
	}
	c := s.c
	ws, err := websocket.Accept(c.x, websocket.Options{
		Protocols:  []string{jsonProtocol, protoProtocol},
		MaxMessage: c.m.Options.MaxBody,
		Header:     c.x.Dress(rpc.Metadata{{Key: "x-request-id", Value: c.ID}}),
	})
	if err != nil {
		if c.x.Status() == 0 {
			return nil, rpc.Refuse(codes.Unimplemented, "WEBSOCKET_UNSUPPORTED", "this connection cannot become a WebSocket").WithCause(err)
		}
		s.gone = err
		return nil, clientGone(err)
	}
	s.ws, s.binary = ws, ws.Protocol() == protoProtocol
	c.face.quiet.add(s)
	return ws, nil
}

func stopped() *rpc.Error {
	return rpc.Refuse(codes.Canceled, "CANCELLED", "the call is over")
}

func clientGone(cause error) *rpc.Error {
	return rpc.Refuse(codes.Canceled, "CLIENT_GONE", "the caller left before the call was over").WithCause(cause)
}

// tend implements tended.
func (s *socket) tend(now time.Time) { s.ws.Tend(now) }

// Recv implements rpc.Stream.
func (s *socket) Recv(m *rpc.Message) error {
	if s.done {
		return io.EOF
	}
	c := s.c
	ws, err := s.open(false)
	if err != nil {
		return err
	}
	if c.Method.Kind == schema.ServerStream && c.m.Rule.Body == httprule.NoBody {
		if err := c.request(m, jsonwire.Request{}, 1); err != nil {
			return err
		}
		s.got, s.done = 1, true
		s.listen(ws)
		return nil
	}
	kind, err := ws.Next()
	if err != nil {
		return s.readError(err)
	}
	buf := rpc.GetBuffer()
	defer func() { buf.Free() }() // whichever it is by then
	held := 0
	defer func() { c.give(held) }()
	for {
		if len(buf.B) == cap(buf.B) {
			more := max(cap(buf.B), 512)
			if !c.hold(more) {
				return overloaded()
			}
			held += more
			buf.B = slices.Grow(buf.B, more)
		}
		n, err := ws.Read(buf.B[len(buf.B):cap(buf.B)])
		buf.B = buf.B[:len(buf.B)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s.readError(err)
		}
	}
	switch {
	case kind == websocket.Text && len(buf.B) == 0:
		s.done = true
		s.listen(ws)
		return io.EOF
	case kind == websocket.Text && s.binary:
		return s.readError(&websocket.Fault{Code: websocket.UnsupportedData, Text: protoProtocol + " takes binary messages"})
	case kind == websocket.Binary && !s.binary:
		return s.readError(&websocket.Fault{Code: websocket.UnsupportedData, Text: "JSON comes in text messages; for protobuf ask for the subprotocol " + protoProtocol})
	case kind == websocket.Text && !utf8.Valid(buf.B):
		return s.readError(&websocket.Fault{Code: websocket.InvalidText, Text: "the text is not UTF-8"})
	}
	s.got++
	if s.binary {
		err = s.binaryRequest(m, &buf)
	} else {
		err = c.request(m, jsonwire.Request{Body: buf.B}, s.got)
	}
	if err == nil && c.Method.Kind == schema.ServerStream {
		s.done = true
		s.listen(ws)
	}
	return err
}

// binaryRequest makes a message of wire bytes and of what path and query say. The buffer becomes the message's.
func (s *socket) binaryRequest(m *rpc.Message, buf **rpc.Buffer) error {
	c := s.c
	if len(c.m.Rule.Vars) > 0 || c.x.HTTP.Query != "" {
		var given rpc.Message
		if err := c.request(&given, jsonwire.Request{}, s.got); err != nil {
			return err
		}
		(*buf).B = append((*buf).B, given.Data...) // of a field that is there twice the last one counts
		given.Free()
	}
	m.Own(*buf)
	*buf = rpc.GetBuffer()
	return nil
}

// readError is the error of a call whose requests cannot be read any more.
func (s *socket) readError(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := errors.AsType[*websocket.Fault](err); ok {
		s.against = f
		if f.Code == websocket.TooBig {
			return tooLarge(s.c.m.Options.MaxBody)
		}
		return rpc.Refuse(codes.InvalidArgument, "MALFORMED_WEBSOCKET", "%s", f.Text)
	}
	if errors.Is(err, websocket.ErrStopped) {
		return stopped()
	}
	s.gone = err
	return clientGone(err)
}

// listen has somebody hear the caller while no request is wanted: pings are answered, and a caller who leaves ends the call.
func (s *socket) listen(ws *websocket.Conn) {
	s.watch.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				s.cancel()
			}
		}()
		_, err := ws.Next()
		var e *rpc.Error
		switch {
		case err == nil:
			e = rpc.Refuse(codes.InvalidArgument, "CARDINALITY", "a message came after the last request")
		case errors.Is(err, websocket.ErrStopped):
			return
		default:
			e = rpc.AsError(s.readError(err))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.fault == nil {
			s.fault = e
		}
		s.cancel()
	})
}

// Start implements rpc.Stream.
func (s *socket) Start() error {
	_, err := s.open(false)
	return err
}

// Send implements rpc.Stream.
func (s *socket) Send(m *rpc.Message, _ bool) error {
	if err := s.Start(); err != nil {
		return err
	}
	c := s.c
	if s.binary {
		return s.written(s.ws.Write(websocket.Binary, m.Data))
	}
	buf := rpc.GetBuffer()
	defer buf.Free()
	var err error
	if buf.B, err = c.appendJSON(buf.B, m); err != nil {
		return invalidAnswer(c, err)
	}
	return s.written(s.ws.Write(websocket.Text, buf.B))
}

// written notes how a write went.
func (s *socket) written(err error) error {
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == nil {
		s.gone = err
	}
	return clientGone(err)
}

// Stop implements rpc.Stream.
func (s *socket) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.ws != nil {
		s.ws.StopRead()
	}
}

// finish ends the WebSocket as the call ended, or answers a request that never became one.
func (s *socket) finish(f *Face, err error) rpc.Sent {
	c := s.c
	s.mu.Lock()
	ws := s.ws
	s.mu.Unlock()
	if ws == nil {
		if r, ok := errors.AsType[*rpc.Error](err); err != nil && (!ok || r.Class == rpc.Framework) {
			return f.answer(c, err)
		}
		var oerr error
		if ws, oerr = s.open(true); oerr != nil {
			return f.answer(c, oerr)
		}
	}
	ws.StopRead()
	s.watch.Wait()
	s.mu.Lock()
	e, gone, against := s.fault, s.gone, s.against
	s.mu.Unlock()
	if err == nil {
		e = nil
	} else if e == nil {
		e = rpcadapters.RPCError(err)
	}
	switch {
	case gone != nil:
		ws.Cut()
	case against != nil:
		ws.Close(against.Code, against.Text)
	case e == nil:
		ws.Close(websocket.Normal, "")
	default:
		status := append(f.appendStatus([]byte(`{"@error":`), e, c.Method.Schema, c.m.Options.REST.GRPCGateway), '}')
		code := closeStatus + int(e.Code)
		if e.Reason == "STOPPING" {
			code = websocket.GoingAway
		}
		if gone = ws.Write(websocket.Text, status); gone == nil {
			ws.Close(code, e.Message)
		}
	}
	sent := rpc.Sent{Status: c.x.Status(), End: time.Now()}
	sent.BytesIn, sent.BytesOut = ws.Bytes()
	if e == nil && gone != nil {
		e = clientGone(gone)
	}
	if e != nil {
		sent.Code, sent.Reason, sent.Err = e.Code, e.Reason, e
	}
	if gone != nil || sent.Code == codes.Canceled {
		sent.Status = statusClientGone
	}
	return sent
}
