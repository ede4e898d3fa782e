package http2

import (
	"encoding/binary"
	"strconv"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// dispatch returns the stream that has news. With w locked.
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
		c.w.Batch = appendPing(c.w.Batch, true, f.payload)
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
		if !c.resets.has(f.stream) && f.stream <= c.awayID { // what it disowned by GOAWAY is over on both sides
			return nil, connFault(StreamClosed, f.typ.String()+" after the end of its stream")
		}
		if n := int32(f.length); f.typ == frameData && n > 0 && n <= c.late { //nolint:gosec // a frame is small
			c.late -= n // it was on its way when our RST_STREAM was, and the stream's window allowed it
			return nil, nil
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
		n = int64(v)
	}
	return n, true
}

// data takes a piece of an answer's body.
func (c *clientConn) data(f *inFrame) (*stream, error) {
	if !c.recv.receive(f.length) {
		return nil, connFault(FlowControlError, "more DATA than the connection's window allows")
	}
	if n := c.recv.consume(f.length); n > 0 {
		c.w.Batch = appendWindowUpdate(c.w.Batch, 0, n)
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
		c.w.Batch = appendWindowUpdate(c.w.Batch, s.id, n)
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
		go c.cl.release(int(min(c.peer.maxStreams-old.maxStreams, hardStreams)))
	}
	c.w.Batch = appendSettingsAck(c.w.Batch)
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
