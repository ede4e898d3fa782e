package trpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
)

// clientStream is a streaming call on an upstream. It is the sink of its frames.
type clientStream struct {
	framed.Stream
	ctx  context.Context //nolint:containedctx // why a call was cut off is told by its context
	plan *plan
	rpc  *rpc.Call
	max  int // bytes of one message
	most int // bytes of a frame that is sent

	in    inbox
	out   outbox
	heard chan struct{} // closed when the peer has answered INIT, or the stream is over
	stop  func() bool   // of watching ctx

	mu       sync.Mutex
	init     initMeta // of the peer, without what refers to its frame
	listened bool     // heard is closed
	over     bool
	trailer  rpc.Metadata
	spelled  rpc.Spelled // how trailer stood
	late     *time.Timer // ends what the peer does not know any more; nil: it has not said so

	send     dataFrame
	feedback feedbackFrame // the receiver's
}

// Open begins a streaming call.
func (t *transport) Open(ctx context.Context, c *rpc.Call) (rpcadapters.ClientStream, error) {
	if err := ctx.Err(); err != nil {
		return nil, rpc.AsError(err)
	}
	p, err := t.planOf(c)
	if err != nil {
		return nil, err
	}
	size, messageType := p.measure(c)
	if size > maxHeader {
		return nil, tooMuchMetadata(size)
	}
	s := &clientStream{ctx: ctx, plan: p, rpc: c, max: t.max, most: t.most, heard: make(chan struct{})}
	s.in.init(int(p.window))
	s.out.init()
	if err := t.cl.Open(ctx, &s.Stream, s, &initFrame{plan: p, rpc: c, messageType: messageType}); err != nil {
		return nil, framed.Failed(ctx, err)
	}
	s.stop = context.AfterFunc(ctx, s.cancelled)
	return s, nil
}

// initFrame opens a stream.
type initFrame struct {
	plan        *plan
	rpc         *rpc.Call
	messageType uint32
}

// AppendFrame implements framed.Frame.
func (f *initFrame) AppendFrame(dst []byte, id uint32) []byte {
	start := len(dst)
	h := head{frame: frameStream, stream: streamInit, id: id}
	dst = h.append(dst)
	at := len(dst)
	dst = append(dst, f.plan.meta...)
	dst = appendUint(dst, 4, f.messageType)
	dst = f.plan.appendInfo(dst, f.rpc, initInfo)
	dst = prefixed(dst, at, 1)
	m := initMeta{window: f.plan.window, contentType: f.plan.form.content, encoding: f.plan.encoding}
	dst = m.appendRest(dst)
	patch(dst, start, start+headLen)
	return dst
}

// dataFrame is a message on a stream.
type dataFrame struct{ payload []byte }

// AppendFrame implements framed.Frame.
func (f *dataFrame) AppendFrame(dst []byte, id uint32) []byte {
	h := head{frame: frameStream, stream: streamData, id: id, size: headLen + len(f.payload)}
	return append(h.append(dst), f.payload...)
}

// feedbackFrame gives a peer back what was taken.
type feedbackFrame struct{ increment uint32 }

// AppendFrame implements framed.Frame.
func (f *feedbackFrame) AppendFrame(dst []byte, id uint32) []byte {
	start := len(dst)
	h := head{frame: frameStream, stream: streamFeedback, id: id}
	dst = appendFeedback(h.append(dst), f.increment)
	patch(dst, start, start+headLen)
	return dst
}

// closeFrame ends a stream, or our side of it.
type closeFrame struct{ closeMeta }

// AppendFrame implements framed.Frame.
func (f *closeFrame) AppendFrame(dst []byte, id uint32) []byte {
	start := len(dst)
	h := head{frame: frameStream, stream: streamClose, id: id}
	dst = f.append(h.append(dst))
	patch(dst, start, start+headLen)
	return dst
}

// Frame implements framed.Sink.
func (s *clientStream) Frame(buf *rpc.Buffer) {
	if err := s.frame(buf); err != nil {
		s.fail(misshapen(err), retClientDecode)
	}
}

// frame acts on a frame, and frees what it does not keep. The error says that the peer breaks the rules.
func (s *clientStream) frame(buf *rpc.Buffer) error {
	var h head
	if err := h.parse(buf.B, len(buf.B)); err != nil {
		buf.Free()
		return err
	}
	payload := buf.B[headLen:]
	if h.stream == streamData {
		if opened, _ := s.out.begun(); !opened {
			buf.Free()
			return errors.New("wanted INIT before DATA")
		}
		return s.in.put(buf, payload)
	}
	defer buf.Free()
	switch h.stream {
	case streamInit:
		return s.opened(payload)
	case streamFeedback:
		n, err := parseFeedback(payload)
		s.out.grant(n)
		return err
	}
	var m closeMeta
	if err := m.parse(payload); err != nil {
		return err
	}
	s.closed(&m)
	return nil
}

// opened takes the peer's answer to INIT.
func (s *clientStream) opened(payload []byte) error {
	var m initMeta
	if err := m.parse(payload); err != nil {
		return err
	}
	if m.ret != retOK {
		e := s.plan.failed(m.ret, 0, m.message)
		s.end(e, false)
		return nil
	}
	s.mu.Lock()
	s.init = initMeta{contentType: m.contentType, encoding: m.encoding}
	s.mu.Unlock()
	if !s.out.open(m.window) {
		return errors.New("wanted one INIT, found another")
	}
	s.tell()
	return nil
}

// uninitialized is what servers say of frames on a stream that they do not know.
const uninitialized = "uninitialized meta"

// afterwards is how long the end of a stream may take that the peer no longer knows.
const afterwards = 2 * time.Second

// crossed tells the answer to a frame of ours that came when the peer had ended the stream already. Those of trpc-go forget a stream
// before they send its end, so it can be before that; on a stream that was opened it says nothing else.
func (s *clientStream) crossed(m *closeMeta) bool {
	opened, _ := s.out.begun()
	return opened && m.reset == closeReset && m.ret == retDecode && string(m.message) == uninitialized
}

// closed takes the end of the stream.
func (s *clientStream) closed(m *closeMeta) {
	if s.crossed(m) {
		e := s.plan.failed(m.ret, m.funcRet, m.message)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.late == nil && !s.over {
			s.late = time.AfterFunc(afterwards, func() { s.end(e, false) })
		}
		return
	}
	s.mu.Lock()
	s.trailer, s.spelled = s.plan.appendMetadata(nil, nil, s.rpc, &m.info)
	s.mu.Unlock()
	if m.reset == 0 && m.ret == retOK && m.funcRet == 0 {
		s.end(io.EOF, false)
		return
	}
	s.end(s.plan.failed(m.ret, m.funcRet, m.message), false)
}

// Broken implements framed.Sink.
func (s *clientStream) Broken(f *framed.Fault) { s.end(framed.Failed(s.ctx, f), false) }

// tell says to who waits for the head that it is there, or will not come.
func (s *clientStream) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.listened {
		s.listened = true
		close(s.heard)
	}
}

// end ends the stream on our side; false: it was over. cut: what has come is not wanted.
func (s *clientStream) end(why error, cut bool) bool {
	s.mu.Lock()
	over := s.over
	s.over = true
	if s.late != nil {
		s.late.Stop()
	}
	s.mu.Unlock()
	if !over {
		s.out.close(why) // before who receives sees the end
	}
	s.in.close(why, cut)
	if over {
		return false
	}
	s.tell()
	s.Stream.Close()
	return true
}

// fail ends the stream and says so to the peer.
func (s *clientStream) fail(e *rpc.Error, ret int32) {
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	if !over {
		s.SendNow(&closeFrame{closeMeta{reset: closeReset, ret: ret, message: []byte(e.Message)}})
	}
	s.end(e, true)
}

// cancelled ends the stream because its context has ended.
func (s *clientStream) cancelled() {
	e := rpc.AsError(s.ctx.Err())
	e.Executed = true
	s.fail(e, retClientCanceled)
}

// Send sends one message. What is attached to it stays behind, for frames of a stream have no place for it.
func (s *clientStream) Send(m *rpc.Message) error {
	payload, _, made, e := s.plan.pack(m, true, s.max)
	if made != nil {
		defer made.Free()
	}
	if e == nil && headLen+len(payload) > s.most {
		e = requestTooLarge(headLen+len(payload), s.most)
	}
	if e != nil {
		return e
	}
	if err := s.out.await(len(payload)); err != nil {
		return s.ended(err)
	}
	s.send.payload = payload
	err := s.Stream.Send(&s.send)
	s.send.payload = nil
	if err != nil {
		return s.ended(err)
	}
	return nil
}

// CloseSend says that there are no more messages, once the service has said that it takes any.
func (s *clientStream) CloseSend() error {
	if err := s.out.awaitOpen(); err != nil {
		return s.ended(err)
	}
	if err := s.Stream.Send(&closeFrame{}); err != nil {
		return s.ended(err)
	}
	return nil
}

// ended is what Send says on a stream that is over: why, where that is our own doing, else io.EOF, for Recv tells.
func (s *clientStream) ended(err error) error {
	_, end := s.out.begun()
	if end == nil {
		return framed.Failed(s.ctx, err) // the connection ended, and the sink is about to be told
	}
	if e, ok := errors.AsType[*rpc.Error](end); ok && (e.Class == rpc.Transport || e.Code == codes.Canceled || s.ctx.Err() != nil) {
		return e
	}
	return io.EOF
}

// Header waits for the answer to INIT, which has no metadata.
func (s *clientStream) Header() (rpc.Metadata, error) {
	<-s.heard
	opened, end := s.out.begun()
	if opened || errors.Is(end, io.EOF) {
		return nil, nil
	}
	return nil, end
}

// Recv receives one message.
func (s *clientStream) Recv(m *rpc.Message) error {
	m.Free()
	buf, payload, credit, err := s.in.take()
	if err != nil {
		return err
	}
	if credit > 0 {
		s.feedback.increment = credit
		s.SendNow(&s.feedback)
	}
	content, encoding := s.forms(payload)
	if content == contentProto && encoding == encodingNone {
		m.Own(buf)
		m.Data = payload
		return nil
	}
	b, e := s.plan.form.read(payload, nil, content, encoding, s.plan.method.Output, s.max)
	buf.Free()
	if e != nil {
		s.fail(e, retClientDecode)
		return e
	}
	m.Own(b)
	return nil
}

// forms tells what a message of the peer is in. One that did not say so answers in what it was asked in, or, as gzip shows,
// not packed.
func (s *clientStream) forms(payload []byte) (content, encoding uint32) {
	s.mu.Lock()
	content, encoding = s.init.contentType, s.init.encoding
	s.mu.Unlock()
	if content == contentProto {
		content = s.plan.form.content
	}
	if encoding == encodingNone {
		encoding = s.plan.encoding
		if encoding == encodingGzip && (len(payload) < 2 || payload[0] != 0x1f || payload[1] != 0x8b) {
			encoding = encodingNone // no message in protobuf or JSON begins so
		}
	}
	return content, encoding
}

// Ready tells whether a message, or the end, is there.
func (s *clientStream) Ready() bool { return s.in.ready() }

// Trailer is the metadata at the end of the call.
func (s *clientStream) Trailer() rpc.Metadata {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trailer
}

// Spelled implements rpcadapters.SpelledStream.
func (s *clientStream) Spelled() rpc.Spelled {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spelled
}

// Close ends the call.
func (s *clientStream) Close() {
	s.stop()
	s.fail(rpc.Refuse(codes.Canceled, "CANCELLED", "the call was given up"), retClientCanceled)
}
