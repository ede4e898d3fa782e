package trpc

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// serverStream is one streaming call of a client. It is the sink of its frames and the call's stream.
type serverStream struct {
	rpc.Call
	inlet *inlet
	init  initMeta // refers to init's frame, which lasts as long as Run
	fault *rpc.Error
	form  *form
	json  *jsonwire.Options
	most  int // bytes of one message

	running *framed.Incoming // Run's own, which conn is as long as it runs

	in     inbox
	out    outbox
	budget *rpc.Budget
	held   int           // taken for the last request
	snappy atomic.Uint32 // what the last request was packed with where INIT says encodingSnappy; 0: none has come

	mu     sync.Mutex
	conn   *framed.Incoming // nil once Run has returned
	opened bool             // INIT was answered
	gone   bool             // the client has reset the stream, or is no more: nothing is sent

	send               dataFrame
	feedback           feedbackFrame
	received, answered int64
}

// newServerStream makes a stream of the frame that opens it. It is called by the goroutine that reads.
func newServerStream(n *inlet, in *framed.Incoming) *serverStream {
	s := &serverStream{inlet: n, conn: in, most: n.most}
	window := int(n.window)
	switch {
	case in.Refused != framed.Taken && in.Refused != framed.TooMany:
		s.fault = notTaken(in.Refused)
	default:
		if err := s.init.parse(in.Frame[headLen:]); err != nil {
			s.fault = malformed(err)
		} else if in.Refused == framed.TooMany {
			s.fault = notTaken(in.Refused)
		}
	}
	if s.init.window == 0 {
		window = 0 // it knows none
	}
	s.in.init(window)
	s.out.init()
	s.out.open(s.init.window)
	return s
}

// Frame implements framed.Sink.
func (s *serverStream) Frame(buf *rpc.Buffer) {
	if e := s.frame(buf); e != nil {
		s.in.close(e, true)
		s.out.close(e)
	}
}

// frame acts on a frame. The error ends the call.
func (s *serverStream) frame(buf *rpc.Buffer) *rpc.Error {
	var h head
	if err := h.parse(buf.B, len(buf.B)); err != nil {
		buf.Free()
		return malformed(err)
	}
	if h.stream == streamData {
		if err := s.in.put(buf, buf.B[headLen:]); err != nil {
			e := rpc.Refuse(codes.ResourceExhausted, "FLOW_CONTROL", "%s", err)
			return e
		}
		return nil
	}
	defer buf.Free()
	payload := buf.B[headLen:]
	switch h.stream {
	case streamInit:
		return malformed(errors.New("wanted one INIT, found another"))
	case streamFeedback:
		n, err := parseFeedback(payload)
		if err != nil {
			return malformed(err)
		}
		s.out.grant(n)
		return nil
	}
	var m closeMeta
	if err := m.parse(payload); err != nil {
		return malformed(err)
	}
	if m.reset == 0 {
		s.in.close(io.EOF, false)
		return nil
	}
	s.leave(rpc.Refuse(codes.Canceled, "CANCELLED", "the caller cancelled the call"))
	return nil
}

// Broken implements framed.Sink.
func (s *serverStream) Broken(f *framed.Fault) {
	if f.Kind == framed.AnswerTooLarge {
		e := rpc.Refuse(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", "the message is larger than is taken").WithStatus(413)
		s.in.close(e, true)
		s.out.close(e)
		return
	}
	s.leave(rpc.Refuse(codes.Canceled, "CLIENT_GONE", "the caller left before the call was over").WithCause(f))
}

// leave ends the call, whose client wants nothing more of it.
func (s *serverStream) leave(e *rpc.Error) {
	s.mu.Lock()
	s.gone = true
	if s.conn != nil {
		s.conn.Context().Cancel()
		s.conn.Stop()
	}
	s.mu.Unlock()
	s.in.close(e, true)
	s.out.close(e)
}

// Run implements framed.Handler.
func (s *serverStream) Run(in *framed.Incoming) {
	stop := context.AfterFunc(in.Context(), s.expired)
	defer func() {
		stop()
		s.mu.Lock()
		s.conn = nil
		s.mu.Unlock()
		s.in.close(io.EOF, true)
		s.budget.Give(s.held)
	}()
	s.run(in)
	s.Reply.Reset()
}

// expired ends what waits when the call's context has ended.
func (s *serverStream) expired() {
	s.mu.Lock()
	in := s.conn
	var e *rpc.Error
	if in != nil {
		e = rpc.AsError(in.Context().Err())
		in.Stop()
	}
	s.mu.Unlock()
	if e != nil {
		s.in.close(e, true)
		s.out.close(e)
	}
}

func (s *serverStream) run(in *framed.Incoming) {
	s.running = in
	if s.fault != nil && in.Refused == framed.Taken {
		s.Answer(s.fault)
		return
	}
	s.Protocol, s.Peer, s.Times.Start = protocolName, in.Peer, in.Start
	s.Header, s.Spelled = appendInfo(nil, nil, &s.init.info)
	_, fn := introduce(&s.Call, nil, s.init.caller, s.init.callee, s.init.fn, s.init.messageType)
	found := s.inlet.entry.Find(fn, &s.Call)
	if e := s.refuse(found); e != nil {
		found.Refusal = e
	} else {
		s.form = found.Plan.(*form)
		s.budget, s.json = found.Options.Budget, found.Options.StubJSON()
		if most := found.Options.MaxBody; most > 0 {
			s.most = min(s.most, most)
		}
		s.Stream = s
	}
	found.Run(in.Context(), &s.Call, scheme(in), 0, s)
}

// refuse says why the call cannot be one of the method that was found.
func (s *serverStream) refuse(found *rpcadapters.Found) *rpc.Error {
	switch {
	case s.fault != nil:
		return s.fault
	case found.Refusal != nil:
		return found.Refusal
	case found.Method.Kind == schema.Unary:
		return rpc.Refuse(codes.Unimplemented, "METHOD_NOT_FOUND", "%s is a unary method: call it without a stream", found.Method.Name[1:])
	case !unpackable(s.init.encoding):
		return rpc.Refuse(codes.InvalidArgument, "UNSUPPORTED_ENCODING", "content_encoding %d is not known here", s.init.encoding)
	case s.init.contentType != contentProto && s.init.contentType != contentJSON:
		return rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "content_type %d is not known on streams here: want 0 (pb) or 2 (json)", s.init.contentType)
	}
	return nil
}

// sender is where frames go; nil: to nobody.
func (s *serverStream) sender() *framed.Incoming {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil
	}
	return s.conn
}

// open answers INIT, once.
func (s *serverStream) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened || s.gone {
		return
	}
	s.opened = true
	s.conn.SendNow(&openedFrame{initMeta{hasResponse: true, window: uint32(s.in.window), contentType: s.init.contentType, encoding: s.init.encoding}}) //nolint:gosec // a window
}

// packing is what answers are packed with: clients read them as they send requests themselves, whatever INIT says.
func (s *serverStream) packing() uint32 {
	if s.init.encoding == encodingSnappy {
		return cmp.Or(s.snappy.Load(), encodingSnappyStream)
	}
	return s.init.encoding
}

// openedFrame answers INIT.
type openedFrame struct{ initMeta }

// AppendFrame implements framed.Frame.
func (f *openedFrame) AppendFrame(dst []byte, id uint32) []byte {
	start := len(dst)
	h := head{frame: frameStream, stream: streamInit, id: id}
	dst = f.append(h.append(dst))
	patch(dst, start, start+headLen)
	return dst
}

// Recv implements rpc.Stream.
func (s *serverStream) Recv(m *rpc.Message) error {
	s.open()
	m.Free()
	s.budget.Give(s.held)
	s.held = 0
	buf, payload, credit, err := s.in.take()
	if err != nil {
		return err
	}
	s.received += int64(len(payload))
	if s.init.encoding == encodingSnappy && len(payload) > 0 {
		s.snappy.Store(snappyOf(payload))
	}
	if in := s.sender(); credit > 0 && in != nil {
		s.feedback.increment = credit
		in.SendNow(&s.feedback)
	}
	if s.init.contentType == contentProto && s.init.encoding == encodingNone {
		if e := large(len(payload), s.most); e != nil {
			buf.Free()
			return e
		}
		m.Own(buf)
		m.Data = payload
		return nil
	}
	b, held, e := s.form.request(payload, nil, s.init.contentType, s.init.encoding, s.json, s.most, s.budget)
	buf.Free()
	s.held = held
	if e != nil {
		return e
	}
	m.Own(b)
	return nil
}

// Start implements rpc.Stream. Metadata of the answer goes out at its end, for the protocol has no other place for it.
func (s *serverStream) Start() error {
	s.open()
	return nil
}

// Send implements rpc.Stream.
func (s *serverStream) Send(m *rpc.Message, _ bool) error {
	s.open()
	body, _, made, err := s.form.answer(m, s.init.contentType, s.packing(), true)
	if made != nil {
		defer made.Free()
	}
	if err != nil {
		return rpc.Refuse(codes.Internal, "INVALID_ANSWER", "the service's answer is not a valid %s", s.form.output.Name).WithStatus(502).WithCause(err)
	}
	if err := s.out.await(len(body)); err != nil {
		return err
	}
	in := s.sender()
	if in == nil {
		return gone(net.ErrClosed)
	}
	s.send.payload = body
	err = in.Send(&s.send)
	s.send.payload = nil
	if err != nil {
		if ended := in.Context().Err(); ended != nil {
			return rpc.AsError(ended)
		}
		return gone(err)
	}
	s.answered += int64(len(body))
	return nil
}

// gone is the error of a call whose client is no more.
func gone(err error) *rpc.Error {
	return rpc.Refuse(codes.Canceled, "CLIENT_GONE", "the caller left before the answer was written").WithCause(err)
}

// Stop implements rpc.Stream.
func (s *serverStream) Stop() {
	s.in.close(rpc.Refuse(codes.Canceled, "CANCELLED", "the call is over"), true)
}

// Answer implements rpcadapters.Answerer: it ends the stream.
func (s *serverStream) Answer(e *rpc.Error) rpc.Sent {
	in := s.running
	s.mu.Lock()
	opened, left := s.opened, s.gone
	s.opened = true
	s.mu.Unlock()
	o := outcomeOf(e)
	switch {
	case left:
	case !opened && e != nil:
		ret := o.ret
		if ret == 0 {
			ret = o.funcRet
		}
		in.SendNow(&openedFrame{initMeta{
			hasRequest: true, caller: s.init.caller, callee: s.init.callee, fn: s.init.fn,
			hasResponse: true, ret: ret, message: []byte(o.message),
		}})
	default:
		if !opened {
			in.SendNow(&openedFrame{initMeta{hasResponse: true, window: uint32(s.in.window), contentType: s.init.contentType, encoding: s.init.encoding}}) //nolint:gosec // a window
		}
		f := &endFrame{stream: s, err: e}
		if e != nil {
			// trpc-go has the codes of the application in ret too.
			f.meta = closeMeta{reset: closeReset, ret: o.ret, message: []byte(o.message), funcRet: o.funcRet}
			if o.ret == 0 {
				f.meta.ret = o.funcRet
			}
		}
		in.SendNow(f)
	}
	sent := rpc.Sent{BytesIn: s.received, BytesOut: s.answered, End: rpcadapters.Now(in.Start)}
	var werr error
	if left && e == nil {
		werr = net.ErrClosed
	}
	finished(&sent, e, werr)
	return sent
}

// endFrame is the CLOSE of a server.
type endFrame struct {
	stream *serverStream
	err    *rpc.Error
	meta   closeMeta
}

// AppendFrame implements framed.Frame.
func (f *endFrame) AppendFrame(dst []byte, id uint32) []byte {
	start := len(dst)
	h := head{frame: frameStream, stream: streamClose, id: id}
	dst = f.meta.appendFront(h.append(dst))
	dst = f.stream.inlet.appendReply(dst, closeInfo, &f.stream.Call, f.err, &f.stream.init.info)
	dst = f.meta.appendBack(dst)
	patch(dst, start, start+headLen)
	return dst
}
