package zookeeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	handshakeFrame = 4 << 10 // bytes that the answer to a connect request may have
	maxFrame       = 4 << 20 // bytes of any other answer
	maxSkipped     = 1 << 28 // bytes of an answer that is read past; a longer one is none
	statSize       = 68      // bytes of a Stat

	opSetWatches int32 = 101
)

// fence stands between the network and the client library. The library waits 6.7 times the session for a server that takes
// the connection and says nothing; it believes every length, also the first, and ends the process with a panic on some that
// are wrong. So the fence keeps the handshake to a deadline of its own, takes whole frames only, and hands on none whose
// lengths do not fit into it.
//
// It also puts in order what the library leaves to chance when it sets its watches again, see masked.
//
// The library writes one whole packet per Write, and reads and writes in one goroutine each.
type fence struct {
	net.Conn
	handshake time.Duration
	session   func(id int64, timeout time.Duration) // hears of the session that the server gives, 0 when the former one has expired
	broken    func(error)                           // hears why nothing more can be read

	zxid      atomic.Int64  // the last change that an answer has named
	counts    time.Time     // from when on: before, the library may not have set its watches again
	ended     chan struct{} // closed when nothing more can be read
	endedOnce sync.Once

	mu    sync.Mutex
	again chan<- watchesAnswer // where answers to watchAgain go; has room for them
	asked map[int32]int32      // the operation of each request that has no answer yet, by its number
	until time.Time            // of the handshake; zero when it is over
	mask  time.Time            // until when, or until the library has sent its watches again, it hears of no new change; see masked

	began   bool   // the connect request was written
	frame   []byte // the frame being handed on
	pending []byte // what is left of it
}

func newFence(nc net.Conn, handshake time.Duration, session func(int64, time.Duration), broken func(error)) *fence {
	return &fence{Conn: nc, handshake: handshake, session: session, broken: broken, ended: make(chan struct{}), asked: map[int32]int32{}}
}

// Write notes which operation is asked for under which number.
func (f *fence) Write(p []byte) (int, error) {
	f.mu.Lock()
	if !f.began {
		f.began = true
		f.until = time.Now().Add(f.handshake)
		if err := f.SetDeadline(f.until); err != nil {
			f.mu.Unlock()
			return 0, err
		}
	} else if len(p) >= 12 {
		if xid, op := be32(p[4:]), be32(p[8:]); xid >= 0 {
			f.asked[xid] = op
			if op == opSetWatches {
				f.mask = time.Time{}
			}
		}
	}
	f.mu.Unlock()
	return f.Conn.Write(p)
}

// SetReadDeadline never takes the handshake's deadline away.
func (f *fence) SetReadDeadline(t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Conn.SetReadDeadline(f.within(t))
}

// SetWriteDeadline never takes the handshake's deadline away.
func (f *fence) SetWriteDeadline(t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Conn.SetWriteDeadline(f.within(t))
}

func (f *fence) within(t time.Time) time.Time {
	if !f.until.IsZero() && (t.IsZero() || t.After(f.until)) {
		return f.until
	}
	return t
}

// Read hands on the bytes of frames that are sound.
func (f *fence) Read(p []byte) (int, error) {
	if len(f.pending) == 0 {
		if err := f.next(); err != nil {
			f.broken(err)
			f.endedOnce.Do(func() { close(f.ended) })
			return 0, err
		}
	}
	n := copy(p, f.pending)
	f.pending = f.pending[n:]
	return n, nil
}

// next reads a frame.
func (f *fence) next() error {
	f.mu.Lock()
	first := !f.until.IsZero()
	f.mu.Unlock()
	var head [4]byte
	if _, err := io.ReadFull(f.Conn, head[:]); err != nil {
		return err
	}
	least, most := 16, maxFrame
	if first {
		least, most = 20, handshakeFrame
	}
	n := binary.BigEndian.Uint32(head[:])
	if !first && n > maxFrame && n <= maxSkipped {
		return f.skip(n)
	}
	if n < uint32(least) || n > uint32(most) {
		return fmt.Errorf("zookeeper: want a frame of %d to %d bytes, found %d: is this a ZooKeeper server?", least, most, n)
	}
	if cap(f.frame) < int(n)+4 || cap(f.frame) > 64<<10 && n < 16<<10 {
		f.frame = make([]byte, n+4)
	}
	f.frame = f.frame[:n+4]
	copy(f.frame, head[:])
	body := f.frame[4:]
	if _, err := io.ReadFull(f.Conn, body); err != nil {
		return err
	}
	if first {
		if !soundConnected(body) {
			return errUnsound
		}
		f.mu.Lock()
		f.until = time.Time{}
		err := f.Conn.SetDeadline(f.until)
		f.mu.Unlock()
		if err != nil {
			return err
		}
		f.session(int64(binary.BigEndian.Uint64(body[8:])), time.Duration(be32(body[4:]))*time.Millisecond) //nolint:gosec // the wire carries the bits of an int64
	} else {
		if !f.sound(body) {
			return errUnsound
		}
		f.count(body)
		f.masked(body)
	}
	f.pending = f.frame
	return nil
}

// count keeps the number of the last change that an answer names: the events of all that is watched, up to it, have come before.
func (f *fence) count(header []byte) {
	xid, zxid := be32(header), int64(binary.BigEndian.Uint64(header[4:])) //nolint:gosec // the wire carries the bits of an int64
	if (xid >= 0 || xid == watchesXid) && zxid > 0 && time.Now().After(f.counts) {
		f.zxid.Store(zxid)
	}
	if xid != watchesXid {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case f.again <- watchesAnswer{zxid, be32(header[12:])}:
	default: // nobody has asked
	}
}

// masked takes the number of the last change out of an answer, while the library may still be looking up the one before.
// With its watches it asks the server for the events since the last change that it has seen, and it looks that up unguarded
// while answers come in: the number in one to a new request would hide the events that were missed.
func (f *fence) masked(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mask.IsZero() || be32(b) < 0 {
		return
	}
	if time.Now().After(f.mask) {
		f.mask = time.Time{}
		return
	}
	clear(b[4:12])
}

// tooLong is the code of the answer that the library gets in the place of one that is too long. Only its request fails then,
// not the connection and everybody else's watches with it.
const tooLong int32 = -1_000_001

var errTooLong = fmt.Errorf("zookeeper: want an answer of at most %d bytes", maxFrame)

// skip reads past the answer to a request and hands on that it was too long.
func (f *fence) skip(n uint32) error {
	f.frame = append(f.frame[:0], 0, 0, 0, 16)
	f.frame = append(f.frame, make([]byte, 16)...)
	header := f.frame[4:]
	if _, err := io.ReadFull(f.Conn, header); err != nil {
		return err
	}
	xid := be32(header)
	f.mu.Lock()
	_, known := f.asked[xid]
	delete(f.asked, xid)
	f.mu.Unlock()
	if xid < 0 || !known {
		return errUnsound
	}
	if _, err := io.CopyN(io.Discard, f.Conn, int64(n)-16); err != nil {
		return err
	}
	code := tooLong
	f.count(header)
	f.masked(header)
	binary.BigEndian.PutUint32(header[12:], uint32(code)) //nolint:gosec // the wire carries the bits of an int32
	f.pending = f.frame
	return nil
}

var errUnsound = errors.New("zookeeper: a frame's lengths do not fit into it: is this a ZooKeeper server?")

// sound reports whether the library can decode a frame: an event, or the answer to what was asked.
func (f *fence) sound(b []byte) bool {
	xid, failed := be32(b), be32(b[12:]) != 0
	if xid == -1 {
		r := record{b[16:]}
		return r.skip(8) && r.text()
	}
	if xid < 0 {
		return true // the library looks no further
	}
	f.mu.Lock()
	op, known := f.asked[xid]
	delete(f.asked, xid)
	f.mu.Unlock()
	if !known {
		return false
	}
	return failed || soundAnswer(op, b[16:])
}

func soundConnected(b []byte) bool {
	r := record{b}
	return r.skip(16) && r.buffer() && be32(b[4:]) >= 0
}

// soundAnswer follows zookeeper.jute for the operations that the library knows.
func soundAnswer(op int32, b []byte) bool {
	r := record{b}
	switch op {
	case 1, 9, 19, 21: // create and its like, sync
		return r.text()
	case 3, 5, 7: // exists, setData, setACL
		return r.skip(statSize)
	case 4, 16: // getData, reconfig
		return r.buffer() && r.skip(statSize)
	case 6: // getACL
		return r.vector(func() bool { return r.skip(4) && r.text() && r.text() }) && r.skip(statSize)
	case 12: // getChildren2
		return r.vector(r.text) && r.skip(statSize)
	case 14:
		return r.multi()
	case 2, 100, opSetWatches, -11: // delete, setAuth, closeSession
		return true
	default:
		return false
	}
}

// record is a jute record being looked through; each step reports whether it fits.
type record struct{ b []byte }

func (r *record) skip(n int) bool {
	if n < 0 || n > len(r.b) {
		return false
	}
	r.b = r.b[n:]
	return true
}

func (r *record) int32() (int32, bool) {
	if len(r.b) < 4 {
		return 0, false
	}
	n := be32(r.b)
	r.b = r.b[4:]
	return n, true
}

func (r *record) text() bool {
	n, fits := r.int32()
	return fits && r.skip(int(n))
}

// buffer may be absent, which a string may not.
func (r *record) buffer() bool {
	n, fits := r.int32()
	return fits && (n == -1 || r.skip(int(n)))
}

func (r *record) vector(element func() bool) bool {
	n, fits := r.int32()
	if !fits || n < 0 || int(n) > len(r.b)/4 {
		return false
	}
	for range n {
		if !element() {
			return false
		}
	}
	return true
}

func (r *record) multi() bool {
	for {
		if len(r.b) < 9 {
			return false
		}
		typ, done := be32(r.b), r.b[4] != 0
		r.b = r.b[9:]
		if done {
			return true
		}
		fits := true
		switch typ {
		case -1:
			fits = r.skip(4)
		case 1:
			fits = r.text()
		case 5:
			fits = r.skip(statSize)
		}
		if !fits {
			return false
		}
	}
}

func be32(b []byte) int32 { return int32(binary.BigEndian.Uint32(b)) } //nolint:gosec // the wire carries the bits of an int32
