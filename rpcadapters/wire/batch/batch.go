// Package batch combines what many goroutines send on one connection into few writes. Both engines that have many calls on
// a connection, http2 and framed, send by it.
package batch

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire/socket"
)

const (
	// High is the number of bytes that wait to be written, from which on senders wait.
	High = 256 << 10
	// Max is what those who cannot wait may add up to: beyond it the peer has us answer and does not read.
	Max = High + 1<<20

	kept   = 64 << 10 // larger buffers are let go when they are written
	rounds = 4        // how often one caller writes for others before it goes about its own business
)

// Writer combines what many goroutines send on one connection into few writes. Its lock is the connection's lock: who
// sends holds it while ids are given out, windows are charged and frames are appended, so frames stand in that order in the
// batch. The first one to find nobody writing yields once, so that others may append, and writes for all.
//
// Where the connection can be written to without waiting (plain TCP), the caller writes itself, and what the kernel does
// not take at once is left to a goroutine; else (TLS) a goroutine writes from the start. So nobody's deadline waits for a
// peer that does not read.
//
// All fields but the lock belong to its holder.
type Writer struct {
	sync.Mutex
	Conn    net.Conn
	Batch   []byte // what is to be written: appended to, and then written by UnlockFlush or UnlockKick
	Err     error  // why nothing is written any more; owners set it to have nothing more written
	Taken   int64  // bytes taken out of Batch so far, to be written
	Writing bool   // somebody writes
	Ending  bool   // close the connection when everything is written
	Half    bool   // of the connection, Ending closes our side only, where it has sides
	Shut    bool   // what Ending asks for is done

	raw     *socket.Writer // nil where the connection has no way to be written to without waiting
	spare   []byte
	left    []byte // what Drain begins with; belongs to who writes
	refused bool   // somebody found no room
	owner   Owner
}

// Owner is what a writer asks of the connection that it writes for. OnRoom, OnError and Panics are needed.
type Owner struct {
	// OnRoom is called under the lock when the batch was taken after Room has said no.
	OnRoom func()
	// OnShut is called under the lock when Ending has been done; nil: nobody waits for it.
	OnShut func()
	// OnError is called once, without the lock, when a write failed.
	OnError func(error)
	// Spawn has another goroutine call Drain; nil: a new one does.
	Spawn func()
	// Direct has callers of UnlockFlush write themselves also where that may wait.
	Direct bool
	// Alone tells under the lock that nobody else is about to send: who writes does not yield first. nil: somebody may.
	Alone func() bool
	// Panics counts panics of Drain, which are a failed write to everybody else.
	Panics *atomic.Int64
}

// Init makes w write to c; before anything else, once.
func (w *Writer) Init(c net.Conn, owner Owner) {
	w.Conn, w.owner = c, owner
	w.raw = socket.NewWriter(c)
}

// Position is how many bytes were appended so far. With the lock held.
func (w *Writer) Position() int64 { return w.Taken + int64(len(w.Batch)) }

// Attempted tells whether any byte from position p on may have gone out. With the lock held.
func (w *Writer) Attempted(p int64) bool { return p < w.Taken }

// Room tells whether what can wait may be appended; if not, OnRoom will be called. With the lock held.
func (w *Writer) Room() bool {
	if len(w.Batch) < High {
		return true
	}
	w.refused = true
	return false
}

// Flooded tells whether even what cannot wait has no room: the peer has us answer and does not read. With the lock held.
func (w *Writer) Flooded() bool { return len(w.Batch) > Max }

// claim tells whether the caller has to see to it that the batch is written. With the lock held.
func (w *Writer) claim() bool {
	if w.Writing || w.Err != nil || len(w.Batch) == 0 && !w.Ending {
		return false
	}
	w.Writing = true
	return true
}

// UnlockFlush unlocks w and writes the batch unless somebody is at it.
func (w *Writer) UnlockFlush() {
	mine := w.claim()
	yield := mine && (w.owner.Alone == nil || !w.owner.Alone())
	w.Unlock()
	switch {
	case !mine:
	case w.raw != nil || w.owner.Direct:
		w.flush(yield)
	default:
		w.hand(nil)
	}
}

// hand has another goroutine write left and what comes after it.
func (w *Writer) hand(left []byte) {
	w.left = left
	if w.owner.Spawn != nil {
		w.owner.Spawn()
		return
	}
	go w.Drain()
}

// UnlockKick unlocks w and has the batch written by another goroutine: for the one that reads.
func (w *Writer) UnlockKick() {
	mine := w.claim()
	w.Unlock()
	if mine {
		w.hand(nil)
	}
}

// Finish closes the connection once everything is written, within a second. With the lock held, which it gives up.
func (w *Writer) Finish() {
	w.Ending = true
	failed := w.Err != nil
	_ = w.Conn.SetWriteDeadline(time.Now().Add(time.Second)) // a connection that cannot is closed
	w.UnlockKick()
	if failed {
		_ = w.Conn.Close() // it is over either way
	}
}

// flush writes batches in the caller's goroutine, without waiting for the network unless Owner.Direct. With yield it
// lets others append first, also after a write: then it writes for them too.
func (w *Writer) flush(yield bool) {
	var out []byte
	for range rounds {
		if yield {
			runtime.Gosched()
		}
		if out = w.take(out); out == nil {
			return
		}
		n, err := w.write(out)
		if err != nil {
			w.fail(err)
			return
		}
		if n < len(out) {
			w.hand(out[n:])
			return
		}
	}
	w.give(out)
	w.hand(nil)
}

// write writes what is taken at once, or all of it where that cannot be.
func (w *Writer) write(p []byte) (int, error) {
	if w.raw != nil {
		return w.raw.Write(p)
	}
	return w.Conn.Write(p)
}

// Drain writes what is left of a batch, and further batches until there are none, in a goroutine that may wait.
func (w *Writer) Drain() {
	defer func() {
		if r := recover(); r != nil {
			w.owner.Panics.Add(1)
			w.fail(fmt.Errorf("panic while writing: %v", r))
		}
	}()
	left := w.left
	w.left = nil
	for {
		if len(left) == 0 {
			runtime.Gosched()
			if left = w.take(left); left == nil {
				return
			}
		}
		if _, err := w.Conn.Write(left); err != nil {
			w.fail(err)
			return
		}
		left = left[:0]
	}
}

// take takes the batch; nil: there is none, and the claim is given up. written is kept for the batch after next.
func (w *Writer) take(written []byte) []byte {
	out, last := w.takeBatch(written)
	if last {
		w.close() // not under the lock: TLS has a last word, and may wait for the peer to take it
		w.Lock()
		w.Shut = true
		if w.owner.OnShut != nil {
			w.owner.OnShut()
		}
		w.Unlock()
	}
	return out
}

// takeBatch is take without the end of the connection, which is last said to have come.
func (w *Writer) takeBatch(written []byte) (out []byte, last bool) {
	w.Lock()
	defer w.Unlock()
	w.keep(written)
	if len(w.Batch) == 0 || w.Err != nil {
		w.Writing = false
		if last = w.Ending && w.Err == nil; last {
			w.Err = net.ErrClosed
		}
		return nil, last
	}
	out = w.Batch
	w.Taken += int64(len(out))
	w.Batch, w.spare = w.spare, nil
	if w.refused {
		w.refused = false
		w.owner.OnRoom()
	}
	return out, false
}

// close closes the connection, or our side of it.
func (w *Writer) close() {
	if hc, ok := w.Conn.(interface{ CloseWrite() error }); ok && w.Half {
		_ = hc.CloseWrite() // a peer that has gone needs none
		return
	}
	_ = w.Conn.Close() // nobody is left to be told
}

// give keeps a batch that was written for the one after next.
func (w *Writer) give(out []byte) {
	w.Lock()
	defer w.Unlock()
	w.keep(out)
}

// keep is give with the lock held.
func (w *Writer) keep(out []byte) {
	if cap(out) <= kept && cap(out) > cap(w.spare) && w.Err == nil {
		w.spare = out[:0]
	}
}

// Shrink lets buffers grown under load go, when nothing is to be written. With the lock held.
func (w *Writer) Shrink() {
	if !w.Writing && len(w.Batch) == 0 {
		w.Batch, w.spare = nil, nil
	}
}

// Held is how many bytes of buffers w has. With the lock held.
func (w *Writer) Held() int { return cap(w.Batch) + cap(w.spare) }

// fail ends writing.
func (w *Writer) fail(err error) {
	w.Lock()
	first := w.Err == nil
	if first {
		w.Err = err
	}
	w.Writing = false
	w.Batch, w.spare = nil, nil
	w.Unlock()
	if first {
		w.owner.OnError(err)
	}
}
