package http2

import (
	"encoding/binary"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// clientConn is one connection to an upstream. One goroutine reads it; everybody else goes through the lock of its writer.
type clientConn struct {
	cl *Client
	nc net.Conn // under TLS; closed to end everything at once
	w  writer

	// The reading goroutine's own.
	r    *frameReader
	dec  *headerDecoder
	memo *headMemo // nil until the peer has acknowledged our header table of size 0
	buf  fields

	// Guarded by w.mu.
	peer     peerSettings
	ready    bool // the peer's SETTINGS have come
	streams  streamTable
	opened   uint32 // the highest stream id used
	send     sendWindow
	recv     recvWindow
	blocked  []*stream // wait for room to send
	guard    floodGuard
	soft     int    // streams it is given before another connection is made
	away     bool   // takes no further streams
	awayID   uint32 // of GOAWAY: the highest stream id that the peer handles
	awayCode ErrCode
	closing  bool
	err      error // why it ended
	resets   resetRing
	over     uint // streams finished so far
	kick     bool // the reading goroutine appended something that is to be written

	// Of the sweeper, guarded by w.mu.
	heard     uint32    // reads counted at the last look
	heardAt   time.Time // when calls began to wait or the peer was last heard; zero: no call waits
	pingAt    time.Time // of the PING that is not answered; zero: none
	pingSpent bool      // no further PING until the peer has sent HEADERS or DATA
	idleAt    time.Time // since when it has no stream
	shrunk    bool      // its buffer was made small since
}

func newClientConn(cl *Client, nc, secure net.Conn) *clientConn {
	c := &clientConn{
		cl: cl, nc: nc, r: newFrameReader(secure, nil), dec: newHeaderDecoder(),
		peer: defaultSettings(), send: defaultWindow, recv: newRecvWindow(connWindow),
		awayID: maxStreamID, soft: softStart,
	}
	c.w.init(secure, c.wakeBlocked, func(error) { _ = nc.Close() })
	c.w.batch = append(c.w.batch, preface...)
	c.w.batch = appendSettings(c.w.batch,
		setting{settingHeaderTableSize, 0},
		setting{settingEnablePush, 0},
		setting{settingInitialWindowSize, streamWindow},
		setting{settingMaxHeaderListSize, maxHeaderList})
	c.w.batch = appendWindowUpdate(c.w.batch, 0, connWindow-defaultWindow)
	return c
}

// takes tells whether a new stream may be opened while there are fewer than limit. With w.mu held.
func (c *clientConn) takes(limit int) bool {
	return c.ready && !c.away && c.err == nil && c.streams.n < limit && int64(c.streams.n) < int64(c.peer.maxStreams) &&
		c.opened < maxStreamID-2 && c.w.room()
}

// begin opens a stream and appends its HEADERS and what it may of its body. With w.mu held.
func (c *clientConn) begin(s *stream, head []byte) {
	if c.opened == 0 {
		c.opened = 1
	} else {
		c.opened += 2
	}
	s.id = c.opened
	s.send = sendWindow(c.peer.initialWindow)
	s.recv = newRecvWindow(streamWindow)
	s.at = c.w.position()
	c.streams.put(s)
	s.sentEnd = s.last && len(s.prefix)+len(s.body) == 0
	c.w.batch = appendHeaders(c.w.batch, s.id, s.sentEnd, head, c.peer.frameSize)
	if !s.sentEnd {
		c.sendBody(s)
	}
}

// sendBody appends what the windows allow of a stream's body; for the rest the stream will be woken. With w.mu held.
func (c *clientConn) sendBody(s *stream) {
	for {
		left := len(s.prefix) + len(s.body)
		if left == 0 && (!s.last || s.sentEnd) {
			return
		}
		n := max(0, min(left, sendFrameSize, int(s.send), int(c.send)))
		if left > 0 && n == 0 || !c.w.room() {
			if !s.waiting {
				s.waiting = true
				c.blocked = append(c.blocked, s)
			}
			return
		}
		p := s.prefix[:min(n, len(s.prefix))]
		b := s.body[:n-len(p)]
		s.prefix, s.body = s.prefix[len(p):], s.body[len(b):]
		s.sentEnd = s.last && n == left
		c.w.batch = appendData(c.w.batch, s.id, s.sentEnd, p, b)
		s.send -= sendWindow(n) //nolint:gosec // at most a frame
		c.send -= sendWindow(n) //nolint:gosec // at most a frame
		c.guard.earn(4)         // it may answer with a WINDOW_UPDATE for the stream and one for the connection, and more
	}
}

// wakeBlocked has those look again who wait for room to send. With w.mu held.
func (c *clientConn) wakeBlocked() {
	for i, s := range c.blocked {
		s.waiting = false
		s.wakeSender()
		c.blocked[i] = nil
	}
	c.blocked = c.blocked[:0]
	if c.cl.waiting.Load() > 0 {
		go c.cl.release(1) // not here: the pool's lock comes before this one
	}
}

func (s *stream) wakeSender() {
	if s.flow != nil {
		s.flow.wakeSender()
		return
	}
	s.signal()
}

// wake tells whoever waits that the stream has news or is finished.
func (s *stream) wake() {
	if s.flow != nil {
		s.flow.wake()
		return
	}
	s.signal()
}

// finish takes the stream off the connection; fault nil: its answer is whole. With w.mu held. The caller wakes the
// stream's user and calls the pool's release after unlocking.
func (c *clientConn) finish(s *stream, fault *Fault) {
	c.streams.remove(s)
	if s.waiting {
		s.waiting = false
		for i, b := range c.blocked {
			if b == s {
				c.blocked = append(c.blocked[:i], c.blocked[i+1:]...)
				break
			}
		}
	}
	if fault != nil {
		fault.Sent = fault.Kind != Refused && c.w.attempted(s.at)
		s.fault = fault
	} else if c.soft < softStreams {
		c.soft++
	}
	c.over++
	s.finished.Store(true)
	if c.streams.n == 0 && c.away {
		c.closing = true
	}
}

// leave closes a connection that has no further use, once what is appended is written. Without w.mu.
func (c *clientConn) leave() {
	c.w.mu.Lock()
	if !c.closing || c.err != nil || c.w.ending {
		c.w.mu.Unlock()
		return
	}
	c.w.batch = appendGoAway(c.w.batch, 0, NoError, "")
	c.w.finish()
}

// cancel ends a stream from our side, unless it has finished.
func (c *clientConn) cancel(s *stream, fault *Fault) {
	c.w.mu.Lock()
	if s.finished.Load() {
		c.w.mu.Unlock()
		return
	}
	c.reset(s, Cancel, fault)
	closing := c.closing
	c.w.unlockFlush()
	c.cl.released()
	if closing {
		c.leave()
	}
}

// reset finishes a stream with RST_STREAM. With w.mu held.
func (c *clientConn) reset(s *stream, code ErrCode, fault *Fault) {
	id := s.id // once finished the stream is its user's
	c.finish(s, fault)
	if c.err == nil {
		c.w.batch = appendRSTStream(c.w.batch, id, code)
		c.resets.add(id)
		c.kick = true
	}
}

// serve reads until the connection ends. up is called once the peer's SETTINGS have come.
func (c *clientConn) serve(up func()) error {
	c.w.mu.Lock()
	c.w.unlockKick()
	var f inFrame
	kick := false
	for {
		if kick && !c.r.buffered() {
			c.w.mu.Lock()
			c.kick = false
			c.w.unlockKick()
		}
		err := c.r.next(&f)
		if err == nil {
			if !c.ready {
				kick, err = true, c.greet(&f, up)
			} else {
				kick, err = c.handle(&f)
			}
		}
		if err != nil && c.ready && isTimeout(err) {
			c.r.shrink()
			_ = c.w.conn.SetReadDeadline(time.Time{})
			continue
		}
		if err != nil {
			return c.end(err)
		}
	}
}

// greet takes the peer's first frame, which has to be its SETTINGS.
func (c *clientConn) greet(f *inFrame, up func()) error {
	if f.typ != frameSettings || f.has(flagAck) {
		return connFault(ProtocolError, "want SETTINGS first, found "+f.typ.String())
	}
	c.w.mu.Lock()
	err := c.settings(f)
	c.ready = err == nil
	c.w.mu.Unlock()
	if err == nil {
		up()
	}
	return err
}

// end fails what is open and closes the connection.
func (c *clientConn) end(err error) error {
	c.w.mu.Lock()
	if c.err != nil {
		err = c.err // who ended it knows better
	}
	c.err, c.away = err, true
	var open []*stream
	c.streams.each(func(s *stream) { open = append(open, s) })
	for _, s := range open {
		c.finish(s, &Fault{Kind: Broken, Cause: err})
	}
	var ce *ConnError
	if errors.As(err, &ce) && !c.w.ending {
		c.w.batch = appendGoAway(c.w.batch, 0, ce.Code, "")
		c.w.finish()
	} else {
		c.w.mu.Unlock()
		_ = c.nc.Close()
	}
	for _, s := range open {
		s.wake()
	}
	return err
}

// abort ends the connection from outside; the reading goroutine does the rest.
func (c *clientConn) abort(err error) {
	c.w.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.away = true
	c.w.mu.Unlock()
	_ = c.nc.Close()
}

// handle takes one frame; kick: something is to be written.
func (c *clientConn) handle(f *inFrame) (kick bool, err error) {
	c.w.mu.Lock()
	before := c.over
	s, err := c.dispatch(f)
	over, closing, kick, flooded := c.over != before, c.closing, c.kick, c.w.flooded()
	c.w.mu.Unlock()
	if s != nil {
		s.wake()
	}
	if over {
		c.cl.released()
	}
	if closing {
		c.leave()
	}
	if err == nil && flooded {
		err = errFlood
	}
	return kick, err
}

// dispatch returns the stream that has news. With w.mu held.
func (c *clientConn) dispatch(f *inFrame) (*stream, error) {
	switch f.typ {
	case frameHeaders:
		return c.headers(f)
	case frameData:
		return c.data(f)
	case frameRSTStream:
		s, err := c.lookup(f)
		if s == nil {
			return nil, err
		}
		fault := &Fault{Kind: Reset, Code: f.code()}
		if fault.Code == RefusedStream {
			fault.Kind = Refused
		}
		c.finish(s, fault)
		return s, nil
	case frameWindowUpdate:
		return c.windowUpdate(f)
	case frameSettings:
		if f.has(flagAck) {
			if c.memo == nil {
				c.dec.stateless()
				c.memo = newHeadMemo()
				return nil, nil
			}
			return nil, c.spend()
		}
		if err := c.spend(); err != nil {
			return nil, err
		}
		return nil, c.settings(f)
	case framePing:
		if f.has(flagAck) {
			return nil, c.spend() // that something was heard is all that counts
		}
		c.w.batch = appendPing(c.w.batch, true, f.payload)
		c.kick = true
		return nil, c.spend()
	case frameGoAway:
		return nil, c.goAway(f)
	case framePriority, framePushPromise, frameContinuation:
	}
	return nil, c.spend()
}

func (c *clientConn) spend() error {
	if c.guard.spend() {
		return nil
	}
	return errFlood
}

// lookup finds a frame's stream; nil: it is over, and the frame has been dealt with.
func (c *clientConn) lookup(f *inFrame) (*stream, error) {
	s := c.streams.get(f.stream)
	switch {
	case s != nil:
		return s, nil
	case f.stream&1 == 0 || f.stream > c.opened:
		return nil, connFault(ProtocolError, f.typ.String()+" on stream "+strconv.FormatUint(uint64(f.stream), 10)+", which was never opened")
	case f.typ == frameHeaders || f.typ == frameData:
		if !c.resets.has(f.stream) {
			return nil, connFault(StreamClosed, f.typ.String()+" after the end of its stream")
		}
	}
	return nil, c.spend()
}

// headers takes the head of an answer, or its trailers.
func (c *clientConn) headers(f *inFrame) (*stream, error) {
	s, err := c.lookup(f)
	if s == nil {
		if err == nil && c.memo == nil { // what it does to the table counts all the same
			err = c.dec.decode(f.payload, trailerBlock, &c.buf)
		}
		return nil, err
	}
	kind := answerBlock
	if s.head != nil {
		kind = trailerBlock
	}
	head, fault, err := c.decode(f.payload, kind)
	if err != nil {
		return nil, err
	}
	c.pingSpent = false
	end := f.has(flagEndStream)
	switch {
	case f.fault != NoError:
		fault = f.reason
	case fault != "":
	case kind == trailerBlock && !end:
		fault = "a second head"
	case kind == answerBlock && head.Status < 200:
		s.informational++
		switch {
		case end:
			fault = "an informational answer that ends the stream"
		case head.Status == 101:
			fault = "status 101, which HTTP/2 does not have"
		case s.informational > maxInformational:
			fault = "more than " + strconv.Itoa(maxInformational) + " informational answers"
		default:
			return nil, c.spend()
		}
	}
	if fault != "" {
		c.malformed(s, fault)
		return s, nil
	}
	c.guard.earn(10)
	if kind == trailerBlock {
		s.trailer = head
	} else {
		s.head = head
	}
	if end {
		c.whole(s)
		return s, nil
	}
	if s.flow == nil {
		return nil, nil // more will come
	}
	return s, nil
}

// whole finishes a stream whose answer has ended.
func (c *clientConn) whole(s *stream) {
	if s.head.length >= 0 && s.head.length != s.received {
		c.malformed(s, "a body of another length than its content-length")
		return
	}
	if s.sentEnd {
		c.finish(s, nil)
		return
	}
	c.reset(s, NoError, nil) // it does not want the rest of the request
}

func (c *clientConn) malformed(s *stream, what string) {
	c.reset(s, ProtocolError, &Fault{Kind: Malformed, Cause: malformed(what)})
}

// decode makes a head of a block; fault: why it breaks the rules.
func (c *clientConn) decode(block []byte, kind blockKind) (head *Head, fault string, err error) {
	var hash uint64
	var keep bool
	if c.memo != nil {
		if head, hash, keep = c.memo.get(block, kind); head != nil {
			return head, "", nil
		}
	}
	if err := c.dec.decode(block, kind, &c.buf); err != nil {
		return nil, "", err
	}
	if c.buf.tooLarge {
		return nil, "headers larger than the limit", nil
	}
	if c.buf.fault != "" {
		return nil, c.buf.fault, nil
	}
	head = &Head{Status: c.buf.status, Fields: append(make(rpc.Metadata, 0, len(c.buf.list)), c.buf.list...)}
	var ok bool
	if head.length, ok = contentLength(head.Fields); !ok {
		return nil, "a content-length that is no number, or two of them", nil
	}
	clear(c.buf.list)
	if keep {
		c.memo.put(block, kind, hash, head)
	}
	return head, "", nil
}

// contentLength is what the fields say of the body's length, -1 when nothing.
func contentLength(m rpc.Metadata) (n int64, ok bool) {
	n = -1
	for i := range m {
		if m[i].Key != "content-length" {
			continue
		}
		v, err := strconv.ParseUint(m[i].Value, 10, 63)
		if err != nil || n >= 0 {
			return 0, false
		}
		n = int64(v) //nolint:gosec // 63 bits
	}
	return n, true
}

// data takes a piece of an answer's body.
func (c *clientConn) data(f *inFrame) (*stream, error) {
	if !c.recv.receive(f.length) {
		return nil, connFault(FlowControlError, "more DATA than the connection's window allows")
	}
	if n := c.recv.consume(f.length); n > 0 {
		c.w.batch = appendWindowUpdate(c.w.batch, 0, n)
		c.kick = true
	}
	s, err := c.lookup(f)
	if s == nil {
		return nil, err
	}
	c.pingSpent = false
	end := f.has(flagEndStream)
	if len(f.payload) > 0 {
		c.guard.earn(1)
	} else if !end {
		if err := c.spend(); err != nil {
			return nil, err
		}
	}
	switch {
	case s.head == nil:
		c.malformed(s, "a body before its head")
		return s, nil
	case !s.recv.receive(f.length):
		c.reset(s, FlowControlError, &Fault{Kind: Malformed, Cause: malformed("more DATA than the stream's window allows")})
		return s, nil
	}
	s.received += int64(len(f.payload))
	given := f.length // what is given back of the stream's window at once
	switch {
	case s.flow != nil:
		s.flow.in = s.flow.append(f.payload)
		given -= len(f.payload)
	case s.received > int64(s.max):
		c.reset(s, Cancel, &Fault{Kind: AnswerTooLarge})
		return s, nil
	case len(f.payload) > 0:
		if s.data == nil {
			s.data = rpc.GetBuffer()
		}
		s.data.B = append(s.data.B, f.payload...)
	}
	if end {
		c.whole(s)
		return s, nil
	}
	if n := s.recv.consume(given); n > 0 {
		c.w.batch = appendWindowUpdate(c.w.batch, s.id, n)
		c.kick = true
	}
	if s.flow == nil {
		return nil, nil
	}
	return s, nil
}

func (c *clientConn) windowUpdate(f *inFrame) (*stream, error) {
	if err := c.spend(); err != nil {
		return nil, err
	}
	if f.stream == 0 {
		if !c.send.add(int64(f.increment())) {
			return nil, connFault(FlowControlError, "the connection's window beyond 2^31-1")
		}
		c.wakeBlocked()
		return nil, nil
	}
	s, err := c.lookup(f)
	if s == nil {
		return nil, err
	}
	switch {
	case f.fault != NoError:
		c.malformed(s, f.reason)
		return s, nil
	case !s.send.add(int64(f.increment())):
		c.reset(s, FlowControlError, &Fault{Kind: Malformed, Cause: malformed("a stream's window beyond 2^31-1")})
		return s, nil
	}
	if s.waiting {
		s.wakeSender()
	}
	return nil, nil
}

// settings takes over what the peer says of itself.
func (c *clientConn) settings(f *inFrame) error {
	old := c.peer
	if err := c.peer.apply(f); err != nil {
		return err
	}
	if c.peer.enablePush && !old.enablePush || c.pushed(f) {
		return connFault(ProtocolError, "ENABLE_PUSH from a server")
	}
	if d := int64(c.peer.initialWindow) - int64(old.initialWindow); d != 0 {
		ok := true
		c.streams.each(func(s *stream) { ok = s.send.add(d) && ok })
		if !ok {
			return connFault(FlowControlError, "a stream's window beyond 2^31-1")
		}
		if d > 0 {
			c.wakeBlocked()
		}
	}
	if c.peer.maxStreams > old.maxStreams && c.cl.waiting.Load() > 0 {
		go c.cl.release(int(min(c.peer.maxStreams-old.maxStreams, softStreams)))
	}
	c.w.batch = appendSettingsAck(c.w.batch)
	c.kick = true
	return nil
}

// pushed tells whether a frame sets ENABLE_PUSH to 1, which a server may not.
func (c *clientConn) pushed(f *inFrame) bool {
	for p := f.payload; len(p) >= 6; p = p[6:] {
		if settingID(binary.BigEndian.Uint16(p)) == settingEnablePush && binary.BigEndian.Uint32(p[2:]) == 1 {
			return true
		}
	}
	return false
}

// goAway takes the peer's farewell: streams above its last id were not looked at and may be tried elsewhere.
func (c *clientConn) goAway(f *inFrame) error {
	last, code, _ := f.goAway()
	first := !c.away
	c.away, c.awayCode = true, code
	c.awayID = min(c.awayID, last)
	var refused []*stream
	c.streams.each(func(s *stream) {
		if s.id > c.awayID {
			refused = append(refused, s)
		}
	})
	for _, s := range refused {
		c.finish(s, &Fault{Kind: Refused, Code: NoError, Cause: connFault(code, "GOAWAY")})
		s.wake()
	}
	c.closing = c.streams.n == 0
	if first {
		go c.cl.gone(c) // not here: the pool's lock comes before this one
	}
	return c.spend()
}
