package websocket

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// epoch is what times are counted from where they have to be one word.
var epoch = time.Now()

const (
	// writeTime is how long the client may take for what one write hands over.
	writeTime = 60 * time.Second
	// overhead is how many bytes of frames around messages (heads of fragments, pings) may come with one message, and
	// between two, and overheadRate how many more with each second: a client can keep nobody busy with frames that say
	// nothing.
	overhead     = 64 << 10
	overheadRate = 1 << 10
)

// tap is the connection below the framing. It counts, and holds the client to limits that framing knows nothing of.
type tap struct {
	net.Conn
	pending []byte // came before the connection was taken over

	in, out atomic.Int64
	heard   atomic.Int64 // when something came last, as nanoseconds since epoch
	closing atomic.Bool
	linger  atomic.Bool // the client is to take what was sent before the connection goes

	// The reader's: bytes since the last message ended, and how many of them were its successor's content.
	raw, payload int64
	wanted       int64 // bytes of content that are being read just now
	since        time.Time

	pingAfter, pongWithin, writeTime time.Duration
}

func newTap(nc net.Conn, read []byte) *tap {
	t := &tap{Conn: nc, pending: read, since: time.Now(), pingAfter: pingAfter, pongWithin: pongWithin, writeTime: writeTime}
	t.heard.Store(int64(time.Since(epoch)))
	return t
}

// messageDone gives the next message its allowance.
func (t *tap) messageDone() { t.raw, t.payload, t.since = 0, 0, time.Now() }

// Read implements net.Conn.
func (t *tap) Read(p []byte) (n int, err error) {
	if len(t.pending) > 0 {
		n = copy(p, t.pending)
		t.pending = t.pending[n:]
	} else {
		t.pending = nil
		n, err = t.Conn.Read(p)
	}
	now := time.Now()
	if n > 0 {
		t.in.Add(int64(n))
		t.raw += int64(n)
		t.heard.Store(int64(now.Sub(epoch)))
	}
	if !t.closing.Load() && t.raw-t.payload > overhead+t.wanted+int64(now.Sub(t.since).Seconds()*overheadRate) {
		return 0, &Fault{PolicyViolation, "too many frames for what they carry"}
	}
	if err == io.EOF { //nolint:errorlint // as connections return it
		err = errLost
	}
	return n, err
}

// errLost stands for the end of a connection. The framing must not see io.EOF there: where it waits for a message's content,
// it would take that for the message's end, and a message cut short for a whole one.
var errLost = errors.New("the connection ended")

// lingers is how many bytes are taken from a client that goes on sending while it is to take the end.
const lingers = 1 << 20

// Close implements net.Conn. To close a connection that has unread bytes resets it, and what was sent last is lost: with
// linger the client gets a moment to read, within the deadline that is set.
func (t *tap) Close() error {
	if t.linger.Swap(false) {
		if c, ok := t.Conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
			b := make([]byte, 4<<10)
			for taken := 0; taken < lingers; {
				n, err := t.Conn.Read(b)
				if err != nil {
					break
				}
				taken += n
			}
		}
	}
	return t.Conn.Close()
}

// Write implements net.Conn.
func (t *tap) Write(p []byte) (int, error) {
	if err := t.SetWriteDeadline(time.Now().Add(t.writeTime)); err != nil {
		return 0, err
	}
	n, err := t.Conn.Write(p)
	t.out.Add(int64(n))
	return n, err
}
