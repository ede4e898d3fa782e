package http2

import "time"

// sendWindow is how many bytes the peer takes, of a stream or of the connection. It goes below zero when the peer makes
// its streams' windows smaller.
type sendWindow int32

// add widens the window, or narrows it; false: it would be wider than the protocol allows.
func (w *sendWindow) add(n int64) bool {
	sum := int64(*w) + n
	if sum > maxWindow || sum < -maxWindow {
		return false
	}
	*w = sendWindow(sum)
	return true
}

// recvWindow is how many bytes the peer may send, and how many of those that came have not been given back.
type recvWindow struct {
	size int32 // when nothing is on the way
	left int32 // that the peer may send
	owed int32 // taken by the consumer and not yet given back
}

func newRecvWindow(size int32) recvWindow { return recvWindow{size: size, left: size} }

// receive counts n bytes that came; false: the peer was not allowed to send them.
func (w *recvWindow) receive(n int) bool {
	if int64(n) > int64(w.left) {
		return false
	}
	w.left -= int32(n) //nolint:gosec // at most left
	return true
}

// consume gives n bytes back. What is returned, when not 0, is to be sent as a WINDOW_UPDATE: half a window is collected
// first.
func (w *recvWindow) consume(n int) uint32 {
	w.owed += int32(n) //nolint:gosec // at most what was received
	if w.owed < w.size/2 {
		return 0
	}
	return w.giveBack()
}

func (w *recvWindow) giveBack() uint32 {
	n := w.owed
	w.left += n
	w.owed = 0
	return uint32(n) //nolint:gosec // never negative
}

// floodGuard counts frames that are no part of a call: PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE, frames of closed
// streams and of unknown types. A peer that sends floodFrames of them within floodTime, with nothing useful in between, is
// left.
type floodGuard struct {
	spent int
	since time.Time
}

// spend counts one; false: the peer is flooding.
func (g *floodGuard) spend() bool {
	if g.spent == 0 {
		g.since = time.Now()
	}
	g.spent++
	if g.spent < floodFrames {
		return true
	}
	if time.Since(g.since) >= floodTime {
		g.spent = 0
		return true
	}
	return false
}

// earn gives some back for a frame that was useful.
func (g *floodGuard) earn(n int) { g.spent = max(0, g.spent-n) }

var errFlood = connFault(EnhanceYourCalm, "too many frames that are no part of a call")
