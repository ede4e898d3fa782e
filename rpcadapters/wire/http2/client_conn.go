package http2

import (
	"errors"
	"net"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire/batch"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/socket"
)

// clientConn is one connection to an upstream. One goroutine reads it; everybody else goes through the lock of its writer.
type clientConn struct {
	cl *Client
	nc net.Conn // under TLS; closed to end everything at once
	w  batch.Writer

	// The reading goroutine's own.
	r    *frameReader
	dec  *headerDecoder
	memo *headMemo // nil until the peer has acknowledged our header table of size 0
	buf  fields
	// woken are the streams that have news, to be told without the lock.
	woken []*stream

	// Guarded by w's lock.
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
	late     int32 // bytes that may be on their way on streams that we have reset
	over     uint  // streams finished so far
	kick     bool  // the reading goroutine appended something that is to be written

	// Of the sweeper, guarded by w's lock.
	heard     uint32    // reads counted at the last look
	heardAt   time.Time // when calls began to wait or the peer was last heard; zero: no call waits
	pingAt    time.Time // of the PING that is not answered; zero: none
	sweptAt   time.Time // when it was looked at last
	pingSpent bool      // no further PING until the peer has sent HEADERS or DATA
	idleAt    time.Time // since when it has no stream
	shrunk    bool      // its buffer was made small since
}

func newClientConn(cl *Client, nc, secure net.Conn) *clientConn {
	c := &clientConn{
		cl: cl, nc: nc, r: newFrameReader(socket.NewReader(secure), nil), dec: newHeaderDecoder(),
		peer: defaultSettings(), send: defaultWindow, recv: newRecvWindow(connWindow),
		awayID: maxStreamID, soft: softStart,
	}
	c.w.Init(secure, batch.Owner{OnRoom: c.wakeBlocked, OnError: func(error) { _ = nc.Close() }, Panics: &cl.panics})
	c.w.Batch = append(c.w.Batch, preface...)
	c.w.Batch = appendSettings(c.w.Batch,
		setting{settingHeaderTableSize, 0},
		setting{settingEnablePush, 0},
		setting{settingInitialWindowSize, streamWindow},
		setting{settingMaxHeaderListSize, maxHeaderList})
	c.w.Batch = appendWindowUpdate(c.w.Batch, 0, connWindow-defaultWindow)
	return c
}

// takes tells whether a new stream may be opened while there are fewer than limit. With w locked.
func (c *clientConn) takes(limit int) bool {
	return c.ready && !c.away && c.err == nil && c.streams.n < limit && int64(c.streams.n) < int64(c.peer.maxStreams) &&
		c.opened < maxStreamID-2 && c.w.Room()
}

// begin opens a stream and appends its HEADERS and what it may of its body. With w locked.
func (c *clientConn) begin(s *stream, head []byte) {
	if c.opened == 0 {
		c.opened = 1
	} else {
		c.opened += 2
	}
	s.id = c.opened
	s.send = sendWindow(c.peer.initialWindow)
	s.recv = newRecvWindow(streamWindow)
	s.at = c.w.Position()
	c.streams.put(s)
	s.sentEnd = s.last && len(s.prefix)+len(s.body) == 0
	c.w.Batch = appendHeaders(c.w.Batch, s.id, s.sentEnd, head, c.peer.frameSize)
	if !s.sentEnd {
		c.sendBody(s)
	}
}

// sendBody appends what the windows allow of a stream's body; for the rest the stream will be woken. With w locked.
func (c *clientConn) sendBody(s *stream) {
	for {
		left := len(s.prefix) + len(s.body)
		if left == 0 && (!s.last || s.sentEnd) {
			return
		}
		n := max(0, min(left, sendFrameSize, int(s.send), int(c.send)))
		if left > 0 && n == 0 || !c.w.Room() {
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
		c.w.Batch = appendData(c.w.Batch, s.id, s.sentEnd, p, b)
		s.send -= sendWindow(n)
		c.send -= sendWindow(n)
		c.guard.earn(4) // it may answer with a WINDOW_UPDATE for the stream and one for the connection, and more
	}
}

// wakeBlocked has those look again who wait for room to send. With w locked.
func (c *clientConn) wakeBlocked() {
	for i, s := range c.blocked {
		s.waiting = false
		s.wakeSender()
		c.blocked[i] = nil
	}
	c.blocked = c.blocked[:0]
	if c.cl.waiting.Load() > 0 {
		go c.cl.release(softStreams) // not here: the pool's lock comes before this one
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

// finish takes the stream off the connection; fault nil: its answer is whole. With w locked. The caller wakes the
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
		if fault.Kind == Refused && s.head != nil {
			fault.Kind = Reset // it has begun to answer, so it has looked at the request
		}
		// On a connection that lives, what is in the batch goes out.
		fault.Sent = fault.Kind != Refused && (c.err == nil || c.w.Attempted(s.at))
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

// leave closes a connection that has no further use, once what is appended is written. Without w locked.
func (c *clientConn) leave() {
	c.w.Lock()
	if !c.closing || c.err != nil || c.w.Ending {
		c.w.Unlock()
		return
	}
	c.w.Batch = appendGoAway(c.w.Batch, 0, NoError, "")
	c.w.Finish()
}

// cancel ends a stream from our side, unless it has finished.
func (c *clientConn) cancel(s *stream, fault *Fault) {
	c.w.Lock()
	if s.finished.Load() {
		c.w.Unlock()
		return
	}
	c.reset(s, Cancel, fault)
	closing := c.closing
	c.w.UnlockFlush()
	c.cl.released(1)
	if closing {
		c.leave()
	}
}

// reset finishes a stream with RST_STREAM. With w locked.
func (c *clientConn) reset(s *stream, code ErrCode, fault *Fault) {
	id, credit := s.id, s.recv.left // once finished the stream is its user's
	c.finish(s, fault)
	if c.err == nil {
		c.w.Batch = appendRSTStream(c.w.Batch, id, code)
		c.resets.add(id)
		c.late = min(c.late+credit, connWindow)
		c.kick = true
	}
}

// serve reads until the connection ends. up is called once the peer's SETTINGS have come.
func (c *clientConn) serve(up func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = c.end(c.cl.panicked(r))
		}
	}()
	c.w.Lock()
	c.w.UnlockKick()
	var f inFrame
	kick := false
	for {
		if kick && !c.r.buffered() {
			c.w.Lock()
			c.kick = false
			c.w.UnlockKick()
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
			_ = c.w.Conn.SetReadDeadline(time.Time{})
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
	if err := c.begins(f); err != nil {
		return err
	}
	up()
	return nil
}

func (c *clientConn) begins(f *inFrame) error {
	c.w.Lock()
	defer c.w.Unlock()
	err := c.settings(f)
	c.ready = err == nil
	return err
}

// end fails what is open and closes the connection.
func (c *clientConn) end(err error) error {
	c.w.Lock()
	if c.err != nil {
		err = c.err // who ended it knows better
	}
	c.err, c.away = err, true
	c.w.Batch = c.w.Batch[:0] // calls in it are about to be told that they have not been sent
	var open []*stream
	c.streams.each(func(s *stream) { open = append(open, s) })
	for _, s := range open {
		c.finish(s, &Fault{Kind: Broken, Cause: err})
	}
	var ce *ConnError
	if errors.As(err, &ce) && !c.w.Ending {
		c.w.Batch = appendGoAway(c.w.Batch, 0, ce.Code, "")
		c.w.Finish()
	} else {
		c.w.Unlock()
		_ = c.nc.Close()
	}
	for _, s := range open {
		s.wake()
	}
	return err
}

// abort ends the connection from outside; the reading goroutine does the rest.
func (c *clientConn) abort(err error) {
	c.w.Lock()
	if c.err == nil {
		c.err = err
	}
	c.away = true
	c.w.Batch = c.w.Batch[:0] // calls in it may be told from here on that they have not been sent
	c.w.Unlock()
	_ = c.nc.Close()
}

// handle takes a frame and those that were read with it; kick: something is to be written.
func (c *clientConn) handle(f *inFrame) (kick bool, err error) {
	news, err := c.take(f)
	c.cl.released(news.over)
	if news.closing {
		c.leave()
	}
	if err == nil && news.flooded {
		err = errFlood
	}
	return news.kick, err
}

// news is what frames have brought about.
type news struct {
	over                   int // streams that have finished: as many may begin
	closing, kick, flooded bool
}

// atOnce is how many frames are taken in a row before others may have the lock.
const atOnce = 64

// take takes frames with the lock held, which a panic leaves too, and then tells the streams that have news: they find the
// lock free, and what they do next goes out together.
func (c *clientConn) take(f *inFrame) (n news, err error) {
	defer c.tell()
	c.w.Lock()
	defer c.w.Unlock()
	before := c.over
	for i := 1; ; i++ {
		var s *stream
		if s, err = c.dispatch(f); s != nil {
			c.woken = append(c.woken, s)
		}
		if err != nil || c.w.Flooded() || i == atOnce || !c.r.whole() {
			break
		}
		if err = c.r.next(f); err != nil {
			break
		}
	}
	return news{over: int(c.over - before), closing: c.closing, kick: c.kick, flooded: c.w.Flooded()}, err
}

// tell wakes those who wait for woken.
func (c *clientConn) tell() {
	for i, s := range c.woken {
		c.woken[i] = nil
		s.wake()
	}
	c.woken = c.woken[:0]
}
