package http2

import "time"

// The limits of this package, in one place. Those marked "advertised" are told to the peer in SETTINGS.
const (
	maxFrameSize      = 16 << 10 // bytes of one frame's payload that is taken; advertised (the protocol's least)
	maxHeaderBlock    = 64 << 10 // bytes of one header block as sent
	maxContinuations  = 8        // CONTINUATION frames of one header block
	maxHeaderList     = 64 << 10 // bytes of one header list decoded, counted as RFC 9113 section 6.5.2 does; advertised
	maxHeaderFields   = 256      // fields of one header list
	streamWindow      = 64 << 10 // bytes a stream may have on the way to its consumer; advertised
	connWindow        = 1 << 20  // bytes a connection may have on the way; advertised by a WINDOW_UPDATE
	defaultWindow     = 65_535   // what both windows are before anybody says otherwise
	defaultFrameSize  = 16 << 10 // what a peer takes before it says otherwise
	defaultTableSize  = 4096     // HPACK table before anybody says otherwise, and what clients are offered
	maxWindow         = 1<<31 - 1
	maxStreamID       = 1<<31 - 1
	sendFrameSize     = 16 << 10 // DATA frames are not made larger, whatever the peer takes: others want to send too
	readBufferMin     = 4 << 10
	readBufferMax     = 64 << 10
	memoEntries       = 64
	memoBlock         = 1 << 10 // larger blocks are not memoised
	maxInformational  = 8       // 1xx answers before the real one
	floodFrames       = 1000    // frames that are no part of a call, see floodGuard
	floodTime         = 10 * time.Second
	maxSettingsValues = 64 // values in one SETTINGS frame
)
