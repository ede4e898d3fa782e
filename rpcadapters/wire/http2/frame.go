package http2

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strconv"
	"sync/atomic"
)

type frameType uint8

const (
	frameData         frameType = 0x0
	frameHeaders      frameType = 0x1
	framePriority     frameType = 0x2
	frameRSTStream    frameType = 0x3
	frameSettings     frameType = 0x4
	framePushPromise  frameType = 0x5
	framePing         frameType = 0x6
	frameGoAway       frameType = 0x7
	frameWindowUpdate frameType = 0x8
	frameContinuation frameType = 0x9
)

const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const frameHeaderLen = 9

// preface is what a client sends first (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// inFrame is one frame as read. A HEADERS frame comes with the CONTINUATION frames that follow it.
type inFrame struct {
	typ    frameType
	flags  uint8
	stream uint32
	// length is the payload's on the wire, padding included: what flow control counts for DATA.
	length int
	// payload is without padding and priority; of HEADERS the whole header block. Valid until the next frame is read.
	payload []byte
	// fault is an error of the stream alone, NoError else. What the connection shares is to be kept up all the same.
	fault  ErrCode
	reason string
}

func (f *inFrame) has(flag uint8) bool { return f.flags&flag != 0 }

// frameReader reads frames in place from one buffer. One goroutine uses it; reads may be looked at by others.
type frameReader struct {
	src        io.Reader
	buf        []byte
	start, end int
	head       inFrame // HEADERS whose block is in several frames
	block      []byte  // what came of it
	parts      int     // in how many frames so far; 0: none is being read
	prior      []byte  // the payload handed out last, for the poison build
	full       int     // reads in a row that filled the buffer
	err        error   // a read's error, after the bytes that came with it

	maxBlock         int // bytes of a header block
	maxContinuations int

	size  atomic.Uint32 // of the buffer, for whoever asks
	reads atomic.Uint32 // counts reads that brought bytes: whoever looks twice knows whether the peer was heard
	// begun is not 0 while a frame, DATA excepted, or a header block has come in part. It differs each time, so that
	// whoever looks now and then can tell how long one takes.
	begun  atomic.Uint32
	begins uint32
}

// newFrameReader reads from src after what was read from it already, which is copied.
func newFrameReader(src io.Reader, read []byte) *frameReader {
	r := &frameReader{
		src: src, buf: make([]byte, max(readBufferMin, len(read))),
		maxBlock: maxHeaderBlock, maxContinuations: maxContinuations,
	}
	r.end = copy(r.buf, read)
	r.size.Store(uint32(len(r.buf))) //nolint:gosec // a buffer
	return r
}

// buffered tells whether the next frame can be had without reading from the network.
func (r *frameReader) buffered() bool {
	have := r.end - r.start
	return have >= frameHeaderLen && have >= frameHeaderLen+frameLength(r.buf[r.start:])
}

// whole tells whether the next frame, with those that go on with it, can be had so.
func (r *frameReader) whole() bool {
	return r.buffered() && (frameType(r.buf[r.start+3]) != frameHeaders || r.buf[r.start+4]&flagEndHeaders != 0)
}

// shrink lets a buffer grown under load go. It is called by the reading goroutine, between frames.
func (r *frameReader) shrink() {
	if r.start == r.end && r.parts == 0 && len(r.buf) > readBufferMin {
		r.buf, r.start, r.end, r.prior, r.block = make([]byte, readBufferMin), 0, 0, nil, nil
		r.size.Store(readBufferMin)
	}
}

// next reads one frame. The error is a *ConnError, or what reading the network said; after a timeout it may be called
// again and goes on where it was.
func (r *frameReader) next(f *inFrame) error {
	if r.parts == 0 {
		if r.begun.Load() != 0 {
			r.begun.Store(0)
		}
		if err := r.one(f); err != nil {
			return err
		}
		if f.typ == frameContinuation {
			return connFault(ProtocolError, "CONTINUATION without HEADERS before it")
		}
		if f.typ != frameHeaders || f.has(flagEndHeaders) {
			return nil
		}
		r.head, r.parts = *f, 1
		r.head.payload = nil
		r.block = append(r.block[:0], f.payload...)
	}
	for {
		var c inFrame
		if err := r.one(&c); err != nil {
			return err
		}
		switch {
		case c.typ != frameContinuation || c.stream != r.head.stream:
			return connFault(ProtocolError, "a frame between HEADERS and its CONTINUATION")
		case r.parts > r.maxContinuations:
			return connFault(EnhanceYourCalm, "more than "+strconv.Itoa(r.maxContinuations)+" CONTINUATION frames")
		case len(r.block)+len(c.payload) > r.maxBlock:
			return connFault(EnhanceYourCalm, "header block larger than "+strconv.Itoa(r.maxBlock)+" bytes")
		}
		r.parts++
		r.block = append(r.block, c.payload...)
		if c.has(flagEndHeaders) {
			break
		}
	}
	*f, r.parts = r.head, 0
	f.flags |= flagEndHeaders
	f.payload = r.block
	if cap(r.block) > maxFrameSize {
		r.block = nil // rare, and not kept
	}
	return nil
}

func frameLength(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

func (r *frameReader) one(f *inFrame) error {
	poison(r.prior)
	r.prior = nil
	for r.end-r.start < frameHeaderLen {
		if err := r.fill(frameHeaderLen); err != nil {
			return err
		}
	}
	n := frameLength(r.buf[r.start:])
	if n > maxFrameSize {
		return connFault(FrameSizeError, "frame of "+strconv.Itoa(n)+" bytes, want "+strconv.Itoa(maxFrameSize)+" at most")
	}
	for r.end-r.start < frameHeaderLen+n {
		if err := r.fill(frameHeaderLen + n); err != nil {
			return err
		}
	}
	h := r.buf[r.start : r.start+frameHeaderLen+n]
	r.start += len(h)
	r.prior = h
	*f = inFrame{
		typ: frameType(h[3]), flags: h[4], stream: binary.BigEndian.Uint32(h[5:]) & maxStreamID,
		length: n, payload: h[frameHeaderLen:],
	}
	return f.check()
}

// fill reads more, so that at least need bytes of one frame have room.
func (r *frameReader) fill(need int) error {
	if r.err != nil {
		return r.err
	}
	switch {
	case r.start == r.end:
		r.start, r.end = 0, 0
		if r.full >= 2 && len(r.buf) < readBufferMax {
			r.buf, r.full = make([]byte, 2*len(r.buf)), 0 // the peer sends faster than this buffer takes
		}
	case r.start+need > len(r.buf):
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if need > len(r.buf) {
		b := make([]byte, min(readBufferMax, max(need, 2*len(r.buf))))
		r.end = copy(b, r.buf[r.start:r.end])
		r.buf, r.start = b, 0
	}
	if r.parts > 0 || r.start < r.end && (r.end-r.start < frameHeaderLen || frameType(r.buf[r.start+3]) != frameData) {
		if r.begun.Load() == 0 {
			r.begins += 2
			r.begun.Store(r.begins | 1)
		}
	}
	if n := uint32(len(r.buf)); n != r.size.Load() { //nolint:gosec // a buffer
		r.size.Store(n)
	}
	n, err := r.src.Read(r.buf[r.end:])
	if n > 0 {
		if r.end += n; r.end == len(r.buf) {
			r.full++
		} else {
			r.full = 0
		}
		r.reads.Add(1)
		if err != nil && !isTimeout(err) {
			r.err = err
		}
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// check holds a frame against RFC 9113 section 6 as far as it speaks of the frame alone, and takes padding and priority off.
func (f *inFrame) check() error {
	switch f.typ {
	case frameData, frameHeaders, framePriority, frameRSTStream, frameContinuation:
		if f.stream == 0 {
			return connFault(ProtocolError, f.typ.String()+" on stream 0")
		}
	case frameSettings, framePing, frameGoAway:
		if f.stream != 0 {
			return connFault(ProtocolError, f.typ.String()+" on a stream")
		}
	case framePushPromise:
		return connFault(ProtocolError, "PUSH_PROMISE, which is not enabled")
	}
	switch f.typ {
	case frameData:
		return f.unpad()
	case frameHeaders:
		if err := f.unpad(); err != nil {
			return err
		}
		if f.has(flagPriority) {
			if len(f.payload) < 5 {
				return connFault(FrameSizeError, "HEADERS too short for its priority")
			}
			f.dependency(f.payload)
			f.payload = f.payload[5:]
		}
	case framePriority:
		if f.length != 5 {
			f.fault, f.reason = FrameSizeError, "PRIORITY of a length that is not 5"
			return nil
		}
		f.dependency(f.payload)
	case frameRSTStream:
		return f.want(4)
	case frameSettings:
		switch {
		case f.has(flagAck) && f.length != 0:
			return connFault(FrameSizeError, "SETTINGS ACK with a payload")
		case f.length%6 != 0:
			return connFault(FrameSizeError, "SETTINGS of a length that is no multiple of 6")
		case f.length/6 > maxSettingsValues:
			return connFault(EnhanceYourCalm, "SETTINGS of more than "+strconv.Itoa(maxSettingsValues)+" values")
		}
	case framePing:
		return f.want(8)
	case frameGoAway:
		if f.length < 8 {
			return connFault(FrameSizeError, "GOAWAY shorter than 8 bytes")
		}
	case frameWindowUpdate:
		if err := f.want(4); err != nil {
			return err
		}
		if f.increment() == 0 {
			if f.stream == 0 {
				return connFault(ProtocolError, "WINDOW_UPDATE of 0")
			}
			f.fault, f.reason = ProtocolError, "WINDOW_UPDATE of 0"
		}
	case framePushPromise, frameContinuation:
	}
	return nil
}

func (f *inFrame) want(n int) error {
	if f.length != n {
		return connFault(FrameSizeError, f.typ.String()+" of "+strconv.Itoa(f.length)+" bytes, want "+strconv.Itoa(n))
	}
	return nil
}

func (f *inFrame) unpad() error {
	if !f.has(flagPadded) {
		return nil
	}
	if len(f.payload) == 0 {
		return connFault(FrameSizeError, f.typ.String()+" too short for its padding")
	}
	pad := int(f.payload[0])
	if pad >= len(f.payload) {
		return connFault(ProtocolError, f.typ.String()+" with more padding than payload")
	}
	f.payload = f.payload[1 : len(f.payload)-pad]
	return nil
}

// dependency refuses a stream that depends on itself (RFC 7540 section 5.3.1); else priorities mean nothing here.
func (f *inFrame) dependency(p []byte) {
	if binary.BigEndian.Uint32(p)&maxStreamID == f.stream {
		f.fault, f.reason = ProtocolError, "a stream that depends on itself"
	}
}

// code is the error code of RST_STREAM.
func (f *inFrame) code() ErrCode { return ErrCode(binary.BigEndian.Uint32(f.payload)) }

// increment is that of WINDOW_UPDATE.
func (f *inFrame) increment() uint32 { return binary.BigEndian.Uint32(f.payload) & maxStreamID }

// goAway are last stream id, code and debug data of GOAWAY.
func (f *inFrame) goAway() (last uint32, code ErrCode, debug []byte) {
	return binary.BigEndian.Uint32(f.payload) & maxStreamID, ErrCode(binary.BigEndian.Uint32(f.payload[4:])), f.payload[8:]
}

var frameNames = [...]string{
	"DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION",
}

// String returns the type's name, or its number when it has none.
func (t frameType) String() string {
	if int(t) < len(frameNames) {
		return frameNames[t]
	}
	return "frame type " + strconv.Itoa(int(t))
}

// isTimeout tells an error after which the network may be read again.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
