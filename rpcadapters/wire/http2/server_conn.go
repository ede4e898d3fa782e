package http2

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/batch"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/socket"
)

// serverConn is one connection of a client. The goroutine of Serve reads; calls run on the server's workers; whoever has
// something to send appends it to the writer's batch. All that is not said to belong to the reader is guarded by w's lock.
type serverConn struct {
	server  *Server
	conn    net.Conn
	handler wire.Handler
	scheme  string
	remote  netip.AddrPort
	w       batch.Writer

	// The reader's alone.
	read  []byte // what was read before the connection came to us
	fr    *frameReader
	dec   *requestDecoder
	head  fields
	recv  recvWindow // of the connection
	now   time.Time  // of the latest read
	empty int        // empty DATA frames in a row
	waste wasteGuard
	// ids says of the streams that were opened lately whether they were used, and whether it was we who reset them.
	ids idHistory

	peer    peerSettings
	send    sendWindow // of the connection
	flood   floodGuard
	late    int32           // bytes that may be on their way on streams that we have reset
	streams openStreams     // as the client sees it
	lastID  uint32          // the highest stream that was taken up
	running int             // calls whose handler has not returned
	calls   sync.Cond       // running has become less
	waiting []*serverStream // calls that wait for a place among those running
	acked   bool            // our SETTINGS are acknowledged
	hello   bool            // our SETTINGS are in the batch
	greeted bool            // the client's SETTINGS have come
	leave   leaving
	retire  time.Time // when to ask the client to leave
	// idleSince is when the last stream ended; it counts while there are none. rested: its buffers were let go since.
	idleSince time.Time
	rested    bool
	// clock is about now while there are streams: the last head's time or Sweep's, so that a stream's end need not ask.
	clock   time.Time
	flushed heldUp // the batch that is being written

	// For Sweep to see without the lock, so that it costs next to nothing for connections that are idle.
	alarm  atomic.Int64 // when to look next, see monotonic
	active atomic.Int32 // len(streams) + running
	// parting: the client has been asked to leave.
	parting atomic.Bool
	over    atomic.Bool // the connection is lost or being ended: nothing is taken up any more
	reader  atomic.Pointer[frameReader]
	begun   heldUp    // a head that has come in part
	cutAt   time.Time // when the connection is cut, whatever the client does; zero: it is not being ended
}

// Serve reads requests until the connection ends. It returns when the last call's handler has.
func (c *serverConn) Serve() {
	c.server.workers.enter()
	defer c.server.workers.leave()
	c.finish(c.readAll())
}

// readAll reads frames until the connection's end: nil when the client has gone, *ConnError where it broke the rules.
func (c *serverConn) readAll() error {
	rest, err := c.preface()
	if err != nil {
		return err
	}
	c.fr = newFrameReader(socket.NewReader(c.conn), rest)
	c.reader.Store(c.fr)
	c.dec = newRequestDecoder(c.server.limits.Headers + 5)
	c.now = time.Now()
	c.greet()
	var f inFrame
	for first := true; ; first = false {
		wait := !c.fr.buffered()
		if wait {
			c.kick()
		}
		err := c.fr.next(&f)
		switch {
		case err == nil:
		case isTimeout(err) && !c.over.Load():
			// Sweep wants a buffer that grew under load to be let go.
			c.fr.shrink()
			_ = c.conn.SetReadDeadline(time.Time{}) // a connection that cannot is closed
			continue
		default:
			return err
		}
		if c.over.Load() {
			return nil
		}
		if wait {
			c.now = time.Now()
		}
		if first && (f.typ != frameSettings || f.has(flagAck)) {
			return connFault(ProtocolError, "want SETTINGS first, found "+f.typ.String())
		}
		if err := c.take(&f); err != nil {
			return err
		}
	}
}

var errPreface = connFault(ProtocolError, "want the preface of HTTP/2")

// preface reads the client's preface and returns what was read behind it.
func (c *serverConn) preface() ([]byte, error) {
	var room [len(preface)]byte
	got, read := room[:0], c.read
	c.read = nil
	for len(got) < len(preface) {
		if len(read) == 0 {
			n, err := c.conn.Read(room[len(got):])
			if n == 0 && err != nil {
				return nil, err
			}
			got = room[:len(got)+n]
		} else {
			n := min(len(read), len(preface)-len(got))
			got, read = append(got, read[:n]...), read[n:]
		}
		if string(got) != preface[:len(got)] {
			return nil, errPreface
		}
	}
	return read, nil
}

// greet sends our SETTINGS.
func (c *serverConn) greet() {
	l := &c.server.limits
	// Before the client has our SETTINGS it may use the protocol's windows.
	c.recv = newRecvWindow(int32(max(l.ConnWindow, defaultWindow))) //nolint:gosec // a window
	c.w.Lock()
	c.w.Batch = appendSettings(
		c.w.Batch,
		setting{settingMaxConcurrentStreams, uint32(l.Streams)},   //nolint:gosec // positive
		setting{settingInitialWindowSize, uint32(l.StreamWindow)}, //nolint:gosec // positive
		setting{settingMaxHeaderListSize, uint32(maxHeaderList)},  // what decode allows
		setting{settingMaxFrameSize, uint32(maxFrameSize)},        // the protocol's default
		setting{settingHeaderTableSize, uint32(defaultTableSize)}, // the protocol's default
	)
	if more := c.recv.size - defaultWindow; more > 0 {
		c.w.Batch = appendWindowUpdate(c.w.Batch, 0, uint32(more))
	}
	c.hello = true
	c.leave.say(c)
	c.w.UnlockKick()
}

// kick has written what the reader appended.
func (c *serverConn) kick() {
	c.w.Lock()
	c.w.UnlockKick()
}

// take acts on one frame.
func (c *serverConn) take(f *inFrame) error {
	switch f.typ {
	case frameHeaders:
		return c.takeHeaders(f)
	case frameData:
		return c.takeData(f)
	case frameRSTStream:
		return c.takeReset(f)
	case frameWindowUpdate:
		return c.takeWindow(f)
	case frameSettings:
		return c.takeSettings(f)
	}
	c.w.Lock()
	defer c.w.Unlock()
	if !c.flood.spend() {
		return errFlood
	}
	switch f.typ {
	case framePriority:
		if s := c.streams.get(f.stream); f.fault != NoError && s != nil {
			c.fail(s, f.fault)
		} else if f.fault != NoError {
			return connFault(f.fault, f.reason)
		}
	case framePing:
		if f.has(flagAck) {
			c.leave.pong(c, f.payload)
			return nil
		}
		c.w.Batch = appendPing(c.w.Batch, true, f.payload)
	case frameGoAway:
		// The client opens no further streams. It closes when it has its answers.
	}
	return c.crowded()
}

// crowded tells that what we answer is not read. With w locked.
func (c *serverConn) crowded() error {
	if c.w.Flooded() {
		return connFault(EnhanceYourCalm, "answers to control frames are not read")
	}
	return nil
}

func (c *serverConn) takeSettings(f *inFrame) error {
	c.w.Lock()
	defer c.w.Unlock()
	if !c.flood.spend() {
		return errFlood
	}
	if f.has(flagAck) {
		c.acked = true
		return nil
	}
	c.greeted = true
	former := c.peer.initialWindow
	if err := c.peer.apply(f); err != nil {
		return err
	}
	if d := int64(c.peer.initialWindow) - int64(former); d != 0 {
		ok := true
		c.streams.each(func(s *serverStream) bool {
			ok = s.send.add(d)
			s.wake()
			return ok
		})
		if !ok {
			return connFault(FlowControlError, "INITIAL_WINDOW_SIZE makes a stream's window too wide")
		}
	}
	c.w.Batch = appendSettingsAck(c.w.Batch)
	return c.crowded()
}

func (c *serverConn) takeWindow(f *inFrame) error {
	c.w.Lock()
	defer c.w.Unlock()
	if !c.flood.spend() {
		return errFlood
	}
	if f.stream == 0 {
		if !c.send.add(int64(f.increment())) {
			return connFault(FlowControlError, "WINDOW_UPDATE makes the connection's window too wide")
		}
		c.wakeWriters()
		return nil
	}
	s := c.streams.get(f.stream)
	switch {
	case s == nil && c.idle(f.stream):
		return errIdle
	case s == nil:
	case f.fault != NoError:
		c.fail(s, f.fault)
	case !s.send.add(int64(f.increment())):
		c.fail(s, FlowControlError)
	default:
		s.wake()
	}
	return c.wasted()
}

var errIdle = connFault(ProtocolError, "a frame on a stream that was never opened")

// idle tells whether a stream was never opened. Once we have said that we take up no more, it may have been, in vain. With
// w locked.
func (c *serverConn) idle(id uint32) bool { return id%2 == 0 || id > c.lastID && !c.leave.refuses(id) }

func (c *serverConn) takeReset(f *inFrame) error {
	c.w.Lock()
	defer c.w.Unlock()
	s := c.streams.get(f.stream)
	if s == nil {
		if c.idle(f.stream) {
			return errIdle
		}
		if !c.flood.spend() {
			return errFlood
		}
		return nil
	}
	if !s.headSent && c.now.Sub(s.x.Start) < wastedWithin {
		c.waste.reset(c.now)
	}
	c.drop(s)
	return c.wasted()
}

// wasted ends a connection whose client wastes streams. With w locked.
func (c *serverConn) wasted() error {
	if c.waste.over(c.server.limits.Resets) {
		return connFault(EnhanceYourCalm, "too many streams were cancelled at once or reset for a fault")
	}
	return c.crowded()
}

// reset sends RST_STREAM for a stream that is not among c.streams, as an answer to what the client did. With w locked.
func (c *serverConn) reset(id uint32, code ErrCode) {
	c.ids.reset(id)
	c.w.Batch = appendRSTStream(c.w.Batch, id, code)
	c.waste.reset(c.now)
}

// fail resets a stream for a fault of the client. With w locked, by the reader.
func (c *serverConn) fail(s *serverStream, code ErrCode) {
	id := s.id
	c.onItsWay(s.recv.left)
	c.drop(s)
	c.reset(id, code)
}

// onItsWay notes what the client may send on a stream before it knows that we have reset it. With w locked.
func (c *serverConn) onItsWay(credit int32) { c.late = min(c.late+credit, c.recv.size) }

// wasOnItsWay tells whether n bytes on a stream that we have reset were sent before the client knew. With w locked.
func (c *serverConn) wasOnItsWay(n int) bool {
	if n == 0 || n > int(c.late) {
		return false
	}
	c.late -= int32(n) //nolint:gosec // at most late
	return true
}

// drop ends a stream that is open: its call is cancelled. With w locked.
func (c *serverConn) drop(s *serverStream) {
	s.reset = true
	s.ctx.Cancel()
	s.wake()
	c.remove(s)
	if s.queued {
		s.queued = false
		c.unqueue(s)
		c.release(s)
	}
}

// remove takes a stream off the open ones. With w locked.
func (c *serverConn) remove(s *serverStream) {
	if !c.streams.remove(s) {
		return
	}
	c.active.Add(-1)
	if c.streams.n == 0 {
		c.idleSince, c.rested = c.clock, false
		c.leave.empty(c)
	}
}

// takeData takes DATA into the stream's buffer.
func (c *serverConn) takeData(f *inFrame) error {
	c.w.Lock()
	defer c.w.Unlock()
	if !c.recv.receive(f.length) {
		return connFault(FlowControlError, "more DATA than the connection's window allows")
	}
	// The connection's credit is given back at once, so that a body that nobody reads holds up nobody else.
	if n := c.recv.consume(f.length); n > 0 {
		c.w.Batch = appendWindowUpdate(c.w.Batch, 0, n)
	}
	if len(f.payload) == 0 && !f.has(flagEndStream) {
		c.empty++
		if c.empty > emptyFrames || !c.flood.spend() {
			return connFault(EnhanceYourCalm, "empty DATA frames")
		}
	} else {
		c.empty = 0
	}
	s := c.streams.get(f.stream)
	if s == nil {
		switch {
		case c.idle(f.stream):
			return errIdle
		case c.ids.wasReset(f.stream) || c.leave.refuses(f.stream):
			// It was on its way when our RST_STREAM was.
			if len(f.payload) < tinyData && !c.wasOnItsWay(len(f.payload)) && !c.flood.spend() {
				return errFlood
			}
			return nil
		}
		c.reset(f.stream, StreamClosed)
		return c.wasted()
	}
	if s.ended {
		c.fail(s, StreamClosed)
		return c.wasted()
	}
	if code := s.receive(f); code != NoError {
		c.fail(s, code)
		return c.wasted()
	}
	return nil
}

// takeHeaders takes a request's head, or the trailers of its body.
func (c *serverConn) takeHeaders(f *inFrame) error {
	if f.stream <= c.lastID { // only this goroutine changes it
		if s := c.openStream(f.stream); s != nil {
			return c.takeTrailers(s, f)
		}
	}
	s := c.server.takeStream(c)
	c.head.list = s.x.HTTP.Header
	err := c.dec.decode(f.payload, requestBlock, &c.head)
	s.x.HTTP.Header, c.head.list = c.head.list, nil
	if err != nil {
		return err
	}
	held := headSize(&c.head, s.x.HTTP.Header)
	c.w.Lock()
	defer c.w.Unlock()
	id := f.stream
	if id <= c.lastID || id%2 == 0 {
		c.release(s)
		return c.takeLate(id)
	}
	if c.leave.refuses(id) {
		c.release(s)
		if !c.flood.spend() {
			return errFlood
		}
		c.onItsWay(c.streamWindow())
		return nil // GOAWAY said that it would not be taken up
	}
	c.lastID = id
	c.ids.use(id)
	c.waste.open(c.now)
	c.flood.earn(1)
	code, status := c.admit(s, f, held)
	switch {
	case code == RefusedStream && (!c.acked || c.streams.n < c.server.limits.Streams):
		// The client could not know.
		c.release(s)
		c.onItsWay(c.streamWindow())
		c.ids.reset(id)
		c.w.Batch = appendRSTStream(c.w.Batch, id, code)
		return c.crowded()
	case code != NoError:
		c.release(s)
		c.reset(id, code)
		return c.wasted()
	}
	s.id, s.ended, s.held = id, f.has(flagEndStream), held
	s.x.Start = c.now
	c.server.tellDate(c.now) // nothing sweeps while there are no connections
	c.clock = c.now
	s.send, s.recv = sendWindow(c.peer.initialWindow), newRecvWindow(c.streamWindow())
	c.server.memory.Add(held)
	c.streams.put(s)
	c.active.Add(1)
	if status != 0 {
		c.refuse(s, status)
		return c.crowded()
	}
	c.dispatch(s)
	return nil
}

// openStream is the open stream of an id, or nil.
func (c *serverConn) openStream(id uint32) *serverStream {
	c.w.Lock()
	defer c.w.Unlock()
	return c.streams.get(id)
}

// streamWindow is how much a new stream may be sent: before the client has our SETTINGS at least the protocol's default.
func (c *serverConn) streamWindow() int32 {
	w := int32(c.server.limits.StreamWindow) //nolint:gosec // a window
	if !c.acked {
		w = max(w, defaultWindow)
	}
	return w
}

// admit decides about a new stream: a code to reset it with, or a status to answer it with, or neither. With w locked.
func (c *serverConn) admit(s *serverStream, f *inFrame, held int64) (ErrCode, int) {
	switch {
	case f.fault != NoError:
		return f.fault, 0
	case c.head.fault != "":
		return ProtocolError, 0
	case c.streams.n >= c.server.limits.Streams:
		return RefusedStream, 0
	case c.server.memory.Load()+held > c.server.limits.Memory:
		return RefusedStream, 0
	case c.head.tooLarge || len(s.x.HTTP.Header) > c.server.limits.Headers:
		return NoError, 431
	}
	return s.request(&c.head, f.has(flagEndStream))
}

// refuse answers a request without its handler. With w locked.
func (c *serverConn) refuse(s *serverStream, status int) {
	id, ended := s.id, s.ended
	s.block = append(append(s.block[:0], statuses[status]...), c.server.date.Load().field...)
	s.block = AppendNamed(s.block, IndexContentLength, "0")
	c.w.Batch = appendHeaders(c.w.Batch, id, true, s.block, c.peer.frameSize)
	c.remove(s)
	c.release(s)
	if !ended {
		c.onItsWay(c.streamWindow())
		c.ids.reset(id)
		c.w.Batch = appendRSTStream(c.w.Batch, id, NoError)
	}
}

// dispatch has a stream's call run, or wait for a place. With w locked.
func (c *serverConn) dispatch(s *serverStream) {
	if c.running >= c.server.limits.Streams {
		s.queued = true
		c.waiting = append(c.waiting, s)
		return
	}
	c.running++
	c.active.Add(1)
	c.server.workers.run(s)
}

func (c *serverConn) unqueue(s *serverStream) {
	for i, q := range c.waiting {
		if q == s {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			return
		}
	}
}

// returned counts a call whose handler has returned, and starts the next one. With w locked.
func (c *serverConn) returned() {
	c.running--
	c.active.Add(-1)
	if c.running == 0 {
		c.calls.Broadcast()
	}
	if len(c.waiting) > 0 {
		s := c.waiting[0]
		n := copy(c.waiting, c.waiting[1:])
		c.waiting[n] = nil
		c.waiting = c.waiting[:n]
		s.queued = false
		c.dispatch(s)
	}
}

// wakeWriters wakes all who wait for the connection's window or for room. With w locked.
func (c *serverConn) wakeWriters() {
	c.streams.each(func(s *serverStream) bool {
		s.wake()
		return true
	})
}

// alone tells that nobody else is about to send. With w locked.
func (c *serverConn) alone() bool { return c.streams.n <= 1 }

// room is called by the writer, with w locked.
func (c *serverConn) room() { c.wakeWriters() }
