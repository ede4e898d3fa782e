package framed

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
	batchHigh = 256 << 10 // bytes that wait to be written, above which senders wait
	batchMax  = 1 << 20   // what SendNow may add to beyond that: then the peer has us speak and does not read
	batchKept = 64 << 10  // larger buffers are let go when they are written
	rounds    = 4         // how often one caller writes for others before it goes about its own business
)

// writer combines what many goroutines send on one connection into few writes. Its lock is the connection's lock. The first
// one to find nobody writing yields once, so that others may append, and writes for all: where the connection can be
// written to without waiting (plain TCP) itself, and what the kernel does not take at once is left to a goroutine; else
// (TLS) a goroutine writes from the start.
type writer struct {
	mu       sync.Mutex
	conn     net.Conn
	raw      *socket.Writer // nil where the connection has no way to be written to without waiting
	batch    []byte         // appended to under mu
	spare    []byte
	taken    int64 // bytes taken out of the batch so far, to be written
	flushing bool  // somebody writes
	ending   bool  // close our side when everything is written
	refused  bool  // somebody found no room
	shut     bool  // our side is closed
	err      error // why nothing is written any more
	direct   bool  // callers of unlockFlush write themselves also where that may wait
	left     []byte
	panics   *atomic.Int64
	// onRoom is called under mu when the batch was taken after room has said no, and when our side was closed; onError once, without mu, when a write failed.
	// Neither changes after init. lone: tells under mu that nobody else is about to send, so that who writes need not yield.
	onRoom  func()
	onError func(error)
	lone    func() bool
}

func (w *writer) init(c net.Conn, onRoom func(), onError func(error), lone func() bool, panics *atomic.Int64) {
	w.conn, w.onRoom, w.onError, w.lone, w.panics = c, onRoom, onError, lone, panics
	w.raw = socket.NewWriter(c)
}

// position is how many bytes were appended so far. With mu held.
func (w *writer) position() int64 { return w.taken + int64(len(w.batch)) }

// attempted tells whether any byte from position p on may have gone out. With mu held.
func (w *writer) attempted(p int64) bool { return p < w.taken }

// room tells whether a frame may be appended; if not, onRoom will be called. With mu held.
func (w *writer) room() bool {
	if len(w.batch) < batchHigh {
		return true
	}
	w.refused = true
	return false
}

// flooded tells whether even what cannot wait has no room. With mu held.
func (w *writer) flooded() bool { return len(w.batch) > batchMax+batchHigh }

// claim tells whether the caller has to see to it that the batch is written. With mu held.
func (w *writer) claim() bool {
	if w.flushing || w.err != nil || len(w.batch) == 0 && !w.ending {
		return false
	}
	w.flushing = true
	return true
}

// unlockFlush unlocks mu and writes the batch unless somebody is at it.
func (w *writer) unlockFlush() {
	mine := w.claim()
	yield := mine && !w.lone()
	w.mu.Unlock()
	switch {
	case !mine:
	case w.raw != nil || w.direct:
		w.flush(yield)
	default:
		w.hand(nil)
	}
}

// unlockKick unlocks mu and has the batch written by another goroutine: for the one that reads.
func (w *writer) unlockKick() {
	mine := w.claim()
	w.mu.Unlock()
	if mine {
		w.hand(nil)
	}
}

// hand has another goroutine write left and what comes after it.
func (w *writer) hand(left []byte) {
	w.left = left
	go w.drain()
}

// finish closes our side once everything is written, within a second. With mu held; unlocks it.
func (w *writer) finish() {
	w.ending = true
	failed := w.err != nil
	_ = w.conn.SetWriteDeadline(time.Now().Add(time.Second)) // a connection that cannot is closed
	w.unlockKick()
	if failed {
		_ = w.conn.Close() // it is over either way
	}
}

// flush writes batches in the caller's goroutine, without waiting for the network unless direct. With yield it lets others
// append first, also after a write: then it writes for them too.
func (w *writer) flush(yield bool) {
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
func (w *writer) write(p []byte) (int, error) {
	if w.raw != nil {
		return w.raw.Write(p)
	}
	return w.conn.Write(p)
}

// drain writes what is left of a batch, and further batches until there are none, in a goroutine that may wait.
func (w *writer) drain() {
	defer func() {
		if r := recover(); r != nil {
			w.panics.Add(1)
			w.fail(fmt.Errorf("framed: panic while writing: %v", r))
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
		if _, err := w.conn.Write(left); err != nil {
			w.fail(err)
			return
		}
		left = left[:0]
	}
}

// take takes the batch; nil: there is none, and the claim is given up. written is kept for the batch after next.
func (w *writer) take(written []byte) []byte {
	out, last := w.takeBatch(written)
	if last {
		w.close() // not under mu: TLS has a last word, and may wait for the peer to take it
		w.mu.Lock()
		w.shut = true
		w.onRoom() // who waits for that may go
		w.mu.Unlock()
	}
	return out
}

func (w *writer) takeBatch(written []byte) (out []byte, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep(written)
	if len(w.batch) == 0 || w.err != nil {
		w.flushing = false
		if last = w.ending && w.err == nil; last {
			w.err = net.ErrClosed
		}
		return nil, last
	}
	out = w.batch
	w.taken += int64(len(out))
	w.batch, w.spare = w.spare, nil
	if w.refused {
		w.refused = false
		w.onRoom()
	}
	return out, false
}

// close closes our side of the connection, or all of it where it has no sides.
func (w *writer) close() {
	if hc, ok := w.conn.(interface{ CloseWrite() error }); ok {
		_ = hc.CloseWrite() // a peer that has gone needs none
		return
	}
	_ = w.conn.Close()
}

// give keeps a batch that was written for the one after next.
func (w *writer) give(out []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep(out)
}

// keep is give with mu held.
func (w *writer) keep(out []byte) {
	if cap(out) <= batchKept && cap(out) > cap(w.spare) && w.err == nil {
		w.spare = out[:0]
	}
}

// shrink lets buffers grown under load go, when nothing is to be written. With mu held.
func (w *writer) shrink() {
	if !w.flushing && len(w.batch) == 0 {
		w.batch, w.spare = nil, nil
	}
}

// fail ends writing.
func (w *writer) fail(err error) {
	w.mu.Lock()
	first := w.err == nil
	if first {
		w.err = err
	}
	w.flushing = false
	w.batch, w.spare = nil, nil
	w.mu.Unlock()
	if first {
		w.onError(err)
	}
}
