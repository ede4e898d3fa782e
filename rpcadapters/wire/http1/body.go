package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// chunkState is what comes next of a chunked body.
type chunkState uint8

const (
	chunkNone    chunkState = iota // nothing, or the body is not chunked
	chunkSize                      // the line with the size of a chunk
	chunkData                      // left bytes of a chunk
	chunkEnd                       // CR LF after them
	chunkTrailer                   // lines of the trailer section
)

// direct is the size from which on body bytes are read to where they are wanted without going through the buffer.
const direct = 512

// Read reads body bytes. It implements wire.Engine. A deadline or the client's departure ends it with the error of the
// exchange's context, a body that breaks the rules or is too slow with an *rpc.Error; all of these stay.
func (c *conn) Read(p []byte) (int, error) {
	if c.bodyErr != nil {
		return 0, c.bodyErr
	}
	if c.stopped.Load() {
		return 0, context.Canceled
	}
	n, err := c.readBody(p)
	c.bodyErr = err
	return n, err
}

func (c *conn) readBody(p []byte) (int, error) {
	for c.left == 0 {
		if c.chunk == chunkNone {
			return 0, io.EOF
		}
		if err := c.nextChunk(); err != nil {
			return 0, err
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	var n int
	switch {
	case c.w > c.r:
		n = copy(p, c.buf[c.r:c.w])
		c.r += n
	case len(p) >= direct:
		var err error
		if n, err = c.receive(p); err != nil {
			return 0, err
		}
	default:
		if err := c.more(); err != nil {
			return 0, err
		}
		n = copy(p, c.buf[c.r:c.w])
		c.r += n
	}
	if c.left -= int64(n); c.left == 0 {
		if c.chunk == chunkNone {
			return n, io.EOF
		}
		c.chunk = chunkEnd
	}
	return n, nil
}

// more waits for body bytes and puts them into the buffer.
func (c *conn) more() error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if c.w == len(c.buf) {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		grown := make([]byte, max(smallBuffer, 2*len(c.buf))) // for a line, whose length is limited
		copy(grown, c.buf[:c.w])
		c.buf = grown
	}
	n, err := c.receive(c.buf[c.w:])
	c.w += n
	return err
}

// receive reads body bytes from the network.
func (c *conn) receive(p []byte) (int, error) {
	if c.noWait {
		return 0, errWait
	}
	if c.draining {
		return c.in.Read(p)
	}
	if err := c.cx.Err(); err != nil {
		return 0, err
	}
	if err := c.invite(); err != nil {
		return 0, err
	}
	c.enter(inBody)
	n, err := 0, context.Canceled
	if !c.stopped.Load() { // else StopRead may have come before it could see that somebody reads
		n, err = c.read(p)
	}
	if err == nil {
		c.enter(inCall)
		c.bodyIn.Add(int64(n))
		return n, nil
	}
	if !c.stopped.Load() || !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.Canceled) {
		c.rbroken.Store(true) // else nobody wants more of it, and where it stands is known
	}
	c.enter(inCall)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && c.slow.Load():
		return 0, rpc.Refuse(codes.DeadlineExceeded, "REQUEST_TIMEOUT", "the request body came too slowly").WithStatus(408)
	case c.cx.Err() != nil:
		return 0, c.cx.Err()
	case c.stopped.Load():
		return 0, context.Canceled
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, context.DeadlineExceeded
	case errors.Is(err, io.EOF):
		return 0, io.ErrUnexpectedEOF
	}
	return 0, err
}

// StopRead ends a Read that waits, and all later ones, with context.Canceled. It implements wire.ReadStopper.
func (c *conn) StopRead() {
	c.stopped.Store(true)
	if state := c.state.Load(); state%phases == inBody {
		c.endRead(state)
	}
}

// SlowBody lets the request's body come as slowly as it likes: a stream's messages come when there are any. What a face
// asks of an engine beyond wire.Engine it finds by an interface of its own.
func (c *conn) SlowBody() { c.patient.Store(true) }

// errWait: there is more to read and the reader would not wait for it.
var errWait = errors.New("the rest of the body has not come yet")

// invite asks for the body where the client waits for that, unless the answer has begun.
func (c *conn) invite() error {
	if !c.expect.pending.Load() {
		return nil
	}
	c.expect.Lock()
	defer c.expect.Unlock()
	if !c.expect.pending.Load() {
		return nil
	}
	// Cleared after the write: who finds it cleared may write the answer.
	defer c.expect.pending.Store(false)
	return c.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}

// uninvite ends the client's wait for word about its body: the answer comes now.
func (c *conn) uninvite() {
	if !c.expect.pending.Load() {
		return
	}
	c.expect.Lock()
	defer c.expect.Unlock()
	c.expect.pending.Store(false)
}

// nextChunk goes on to the next bytes of data, or to the body's end.
func (c *conn) nextChunk() error {
	switch c.chunk {
	case chunkEnd:
		for c.w-c.r < 2 {
			if c.w > c.r && c.buf[c.r] != '\r' {
				break
			}
			if err := c.more(); err != nil {
				return err
			}
		}
		if c.buf[c.r] != '\r' || c.buf[c.r+1] != '\n' {
			return c.badBody("want CR LF after a chunk's data")
		}
		c.r += 2
		c.chunk = chunkSize
	case chunkSize:
		line, err := c.line(chunkSizeWidth + maxExtensions)
		if err != nil {
			return err
		}
		if c.left, err = c.chunkSize(line); err != nil {
			return err
		}
		c.chunk = chunkData
		if c.left == 0 {
			c.chunk = chunkTrailer
		}
	case chunkTrailer:
		line, err := c.line(maxTrailer)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			c.chunk = chunkNone
			return nil
		}
		if c.trailing += len(line) + 2; c.trailing > maxTrailer {
			return c.badBody("the trailer section is larger than 8192 bytes")
		}
		c.extra++ // fields count with the extensions: neither is many
		if _, ref := field(line, 0, len(line), 0); ref != nil {
			return c.badBody("the trailer section is malformed")
		}
	case chunkNone, chunkData:
	}
	return nil
}

// chunkSize reads the line before a chunk: hex digits and extensions, which are dropped.
func (c *conn) chunkSize(line []byte) (int64, error) {
	var size int64
	i := 0
	for ; i < len(line); i++ {
		d := hexDigit[line[i]]
		if d == 0 {
			break
		}
		size = size<<4 | int64(d-1)
	}
	if i == 0 || i > chunkSizeWidth {
		return 0, c.badBody("want the size of a chunk in hex digits")
	}
	if i < len(line) {
		if line[i] != ';' || unclean(line[i:]) >= 0 {
			return 0, c.badBody("want CR LF or an extension after the size of a chunk")
		}
		if c.extra += len(line) - i; c.extra > maxExtensions {
			return 0, c.badBody("chunk extensions are larger than 1024 bytes")
		}
	}
	return size, nil
}

// line takes a line that ends in CR LF out of the buffer, waiting for it if need be; it is at most limit bytes long.
func (c *conn) line(limit int) ([]byte, error) {
	for seen := 0; ; {
		b := c.buf[c.r:c.w]
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			i += seen
			if i == 0 || b[i-1] != '\r' {
				return nil, c.badBody("a line ends in a bare LF: want CR LF")
			}
			if i-1 > limit {
				return nil, c.badBody("a line of the chunked body is too long")
			}
			c.r += i + 1
			return b[:i-1], nil
		}
		if len(b) > limit+1 {
			return nil, c.badBody("a line of the chunked body is too long")
		}
		seen = len(b)
		if err := c.more(); err != nil {
			return nil, err
		}
	}
}

// badBody ends the reading of a body that is not framed as it should be: where the next request begins is not known.
func (c *conn) badBody(message string) error {
	c.rbroken.Store(true)
	return rpc.Refuse(codes.InvalidArgument, "MALFORMED_BODY", "the chunked request body is malformed: %s", message)
}

// hexDigit holds the value of a hex digit plus one, for other bytes 0.
var hexDigit = func() (t [256]byte) {
	for i, c := range []byte("0123456789abcdef") {
		t[c] = byte(i + 1)
	}
	for i, c := range []byte("ABCDEF") {
		t[c] = byte(i + 11)
	}
	return t
}()

// skipRest passes over what of the body was not read, as far as it has come, and tells whether that was all of it.
func (c *conn) skipRest() bool {
	c.noWait = true
	defer func() { c.noWait = false }()
	for c.left > 0 || c.chunk != chunkNone {
		if c.left > 0 {
			n := int(min(c.left, int64(c.w-c.r)))
			c.r += n
			if c.left -= int64(n); c.left > 0 {
				return false
			}
			if c.chunk == chunkData {
				c.chunk = chunkEnd
			}
			continue
		}
		if c.nextChunk() != nil {
			return false
		}
	}
	return true
}

// settleTime is how long an answer waits for the rest of a body that nobody reads, to know whether the connection can go
// on: a client writes the end of a chunked body by itself, just behind what came before it.
const settleTime = 5 * time.Millisecond

// settled tells whether the rest of the body has come, or may be waited for behind the answer.
func (c *conn) settled() bool {
	if c.skipRest() {
		return true
	}
	if c.expect.pending.Load() || c.left > maxUnread {
		return false
	}
	done, some := c.drain(settleTime)
	return done || !some && c.left == 0
}

// drain reads what is left of a body and drops it, for a time and up to maxUnread bytes in all. It tells whether that was all,
// and whether there was some.
func (c *conn) drain(wait time.Duration) (done, some bool) {
	if c.left > maxUnread || c.rbroken.Load() || c.raw.SetReadDeadline(time.Now().Add(wait)) != nil {
		return false, false
	}
	c.draining = true
	var scratch [512]byte
	for c.unread < maxUnread {
		n, err := c.readBody(scratch[:])
		c.unread += n
		some = some || n > 0
		if err != nil {
			done = errors.Is(err, io.EOF) && c.left == 0 && c.chunk == chunkNone && !c.rbroken.Load()
			break
		}
	}
	c.draining = false
	return done && c.raw.SetReadDeadline(time.Time{}) == nil, some
}
