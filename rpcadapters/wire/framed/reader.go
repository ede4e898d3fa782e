package framed

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

const (
	readBufferMin = 4 << 10
	readBufferMax = 64 << 10
	labelled      = 512 // bytes of a frame that is too large which its label is told from
	// skipMax is how large a frame that is too large may be to be passed over; beyond it the length is not believed.
	skipMax = 256 << 20
)

// reader reads frames from a connection. Small ones are copied out of its buffer, large ones are read into one of their own,
// which grows as the bytes come.
type reader struct {
	in      io.Reader
	framing Framing
	head    int
	max     int
	budget  *rpc.Budget

	buf        []byte
	start, end int

	large *rpc.Buffer // the frame that is being read, where it does not fit buf
	want  int         // its bytes
	took  int         // what the budget gave for it
	skip  int         // bytes of a frame that are to be passed over

	// For others to see without a lock.
	begun atomic.Int64  // 0: no frame has come in part; else bytes of it that have come, plus one
	count atomic.Uint32 // frames so far
	grown atomic.Bool   // the buffer is larger than it need be
}

// Refused says why a frame was not taken.
type Refused uint8

// The reasons.
const (
	Taken    Refused = iota
	TooLarge         // more bytes than are taken
	NoMemory         // the budget for what all connections hold is used up
	TooMany          // streams
)

func newReader(in io.Reader, f Framing, maxFrame int, budget *rpc.Budget, read []byte) *reader {
	r := &reader{in: in, framing: f, head: f.Head(), max: maxFrame, budget: budget}
	r.buf = make([]byte, max(readBufferMin, len(read)))
	r.end = copy(r.buf, read)
	return r
}

// frame is one that was read. buf has all of it, or its first bytes where it was refused; who gets it frees it, and gives
// len(buf.B) back to the budget.
type frame struct {
	label Label
	buf   *rpc.Buffer
	why   Refused
	took  int
}

// whole tells whether the next frame can be had without reading.
func (r *reader) whole() bool {
	if r.large != nil || r.skip > 0 || r.end-r.start < r.head {
		return false
	}
	n, err := r.framing.Length(r.buf[r.start : r.start+r.head])
	return err != nil || n <= r.end-r.start
}

// empty tells that no frame has come in part.
func (r *reader) empty() bool { return r.start == r.end && r.large == nil && r.skip == 0 }

// next reads a frame. The error is that of the connection, or of frames that are none.
func (r *reader) next(f *frame) error {
	for {
		ok, err := r.step(f)
		if ok {
			r.count.Add(1)
		}
		if ok || err != nil {
			return err
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
}

// step takes a frame out of what was read; false: more is needed.
func (r *reader) step(f *frame) (bool, error) {
	if r.skip > 0 {
		n := min(r.skip, r.end-r.start)
		r.start += n
		if r.skip -= n; r.skip > 0 {
			r.begun.Add(int64(n))
			return false, nil
		}
		r.begun.Store(0)
	}
	if r.large != nil {
		if len(r.large.B) < r.want {
			return false, nil
		}
		return true, r.done(f)
	}
	have := r.end - r.start
	if have < r.head {
		r.noteBegun(have)
		return false, nil
	}
	b := r.buf[r.start:r.end]
	n, err := r.framing.Length(b[:r.head])
	switch {
	case err != nil:
		return false, err
	case n < r.head:
		return false, fmt.Errorf("wanted a frame of at least %d bytes, found one of %d", r.head, n)
	case n > skipMax:
		return false, fmt.Errorf("wanted a frame of at most %d bytes, found one of %d", r.max, n)
	case n > r.max:
		return r.pass(f, b, n, TooLarge)
	case have >= n:
		return r.small(f, b[:n])
	case n <= len(r.buf) && n <= readBufferMin:
		r.noteBegun(have)
		return false, nil // it will fit
	}
	if !r.budget.Take(have) {
		return r.pass(f, b, n, NoMemory)
	}
	r.took, r.want = have, n
	r.large = rpc.GetBuffer()
	r.large.B = append(r.large.B, b...)
	r.start, r.end = 0, 0
	r.noteBegun(have)
	return false, nil
}

// small takes a frame that is in the buffer.
func (r *reader) small(f *frame, b []byte) (bool, error) {
	r.begun.Store(0)
	label, err := r.framing.Label(b)
	if err != nil {
		return false, err
	}
	r.start += len(b)
	*f = frame{label: label}
	if label.Kind == Noise || label.Kind == Leave {
		return true, nil
	}
	f.buf = rpc.GetBuffer()
	if !r.budget.Take(len(b)) {
		f.why, b = NoMemory, b[:min(len(b), labelled)]
	} else {
		f.took = len(b)
	}
	f.buf.B = append(f.buf.B, b...)
	return true, nil
}

// pass gives the beginning of a frame that is not taken; the rest is passed over.
func (r *reader) pass(f *frame, b []byte, n int, why Refused) (bool, error) {
	if len(b) < min(n, labelled) {
		r.noteBegun(len(b))
		return false, nil
	}
	b = b[:min(n, len(b), labelled)]
	label, err := r.framing.Label(b)
	if err != nil {
		return false, err
	}
	*f = frame{label: label, buf: rpc.GetBuffer(), why: why}
	f.buf.B = append(f.buf.B, b...)
	r.start += len(b)
	r.skip = n - len(b)
	r.noteBegun(len(b))
	if r.skip == 0 {
		r.begun.Store(0)
	}
	return true, nil
}

// done gives out the large frame.
func (r *reader) done(f *frame) error {
	r.begun.Store(0)
	label, err := r.framing.Label(r.large.B)
	if err != nil {
		return err // drop frees it
	}
	*f = frame{label: label, buf: r.large, took: r.took}
	r.large, r.took = nil, 0
	if label.Kind == Noise || label.Kind == Leave {
		f.free(r.budget)
	}
	return nil
}

// free gives a frame back that nobody takes.
func (f *frame) free(budget *rpc.Budget) {
	if f.buf != nil {
		f.buf.Free()
		budget.Give(f.took)
	}
	f.buf, f.took = nil, 0
}

// drop gives back what was read of a frame that will not be whole.
func (r *reader) drop() {
	if r.large != nil {
		r.large.Free()
		r.budget.Give(r.took)
		r.large, r.took = nil, 0
	}
}

var errStarved = errors.New("no memory for a frame that has come in part")

// fill reads more.
func (r *reader) fill() error {
	if r.large != nil {
		return r.fillLarge()
	}
	switch {
	case r.start == r.end:
		r.start, r.end = 0, 0
	case r.end == len(r.buf) && r.start > 0:
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) { // full of one frame's beginning
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	}
	n, err := r.in.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		if r.start == 0 && r.end == len(r.buf) && len(r.buf) < readBufferMax {
			r.grow()
		}
		return nil
	}
	return err
}

// grow makes the buffer larger, for what came filled it.
func (r *reader) grow() {
	b := make([]byte, min(4*len(r.buf), readBufferMax))
	copy(b, r.buf[:r.end])
	r.buf = b
	r.grown.Store(true)
}

// fillLarge reads into the large frame, whose room at most doubles what has come.
func (r *reader) fillLarge() error {
	b := r.large.B
	if len(b) == cap(b) {
		room := min(r.want-len(b), max(len(b), readBufferMax))
		grown := make([]byte, len(b), len(b)+room)
		copy(grown, b)
		b = grown
	}
	n, err := r.in.Read(b[len(b):min(cap(b), r.want)])
	r.large.B = b[:len(b)+n]
	if n > 0 {
		if !r.budget.Take(n) {
			return errStarved
		}
		r.took += n
		r.noteBegun(len(r.large.B))
		return nil
	}
	return err
}

func (r *reader) noteBegun(n int) {
	if n > 0 {
		r.begun.Store(int64(n) + 1)
	}
}

// rest lets a buffer grown under load go, if it is empty.
func (r *reader) rest() {
	r.grown.Store(false)
	if r.start == r.end && len(r.buf) > readBufferMin {
		r.buf, r.start, r.end = make([]byte, readBufferMin), 0, 0
	}
}

// past is a deadline that has passed: a reader that waits comes back, rests and reads on.
var past = time.Unix(1, 0)

// rested tells whether a read ended because the reader was to rest, which it then has.
func (r *reader) rested(c net.Conn, err error) bool {
	if !r.grown.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	r.rest()
	return c.SetReadDeadline(time.Time{}) == nil
}
