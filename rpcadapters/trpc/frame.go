// Package trpc is Tencent's tRPC, protocol version 1 (https://github.com/trpc-group/trpc/blob/main/trpc/trpc.proto), on both
// sides: an Adapter for upstreams, an Inlet for clients, and a Face for clients that send the same over HTTP. Messages are
// protobuf by default, so what a call carries passes as it is.
package trpc

import (
	"encoding/binary"
	"fmt"
)

// headLen is the length of the fixed head of every frame; all numbers in it are big endian:
//
//	0  magic            2 bytes
//	2  frame type       1
//	3  stream frame     1  what a frame of a stream is
//	4  length           4  of the whole frame
//	8  header length    2  of the protobuf header of a unary frame
//	10 id               4  of the call or the stream; each has numbers of its own
//	14 version          1
//	15 reserved         1
const headLen = 16

const magic = 0x0930

// Frame types.
const (
	frameUnary  = 0
	frameStream = 1
)

// What a frame of a stream is.
const (
	streamInit     = 1
	streamData     = 2
	streamFeedback = 3
	streamClose    = 4
)

// maxHeader is the most bytes of a header: its length has two bytes. What opens and ends a stream is bound by it too, though
// its length would have four.
const maxHeader = 1<<16 - 1

// defaultMaxFrame is the most bytes of a frame where nothing else is said, as the SDKs have it.
const defaultMaxFrame = 10 << 20

// head is the fixed head of a frame.
type head struct {
	frame    uint8
	stream   uint8
	size     int // of the whole frame
	header   int // of the header behind the head
	id       uint32
	version  uint8
	reserved uint8
}

// append appends the head. Size and header must fit: see maxHeader.
func (h *head) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, magic)
	dst = append(dst, h.frame, h.stream)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.size))   //nolint:gosec // frames are far smaller
	dst = binary.BigEndian.AppendUint16(dst, uint16(h.header)) //nolint:gosec // see maxHeader
	dst = binary.BigEndian.AppendUint32(dst, h.id)
	return append(dst, h.version, h.reserved)
}

// patch fills in the lengths of a frame that begins at start and whose header ends at bodyAt, once it is complete.
func patch(b []byte, start, bodyAt int) {
	binary.BigEndian.PutUint32(b[start+4:], uint32(len(b)-start))         //nolint:gosec // callers bound frames
	binary.BigEndian.PutUint16(b[start+8:], uint16(bodyAt-start-headLen)) //nolint:gosec // callers bound headers
}

// parse reads the head at the start of b, which has headLen bytes at least. The error says that the peer is not one, or
// that it sends more than max bytes at once: nothing behind such a head can be found.
func (h *head) parse(b []byte, limit int) error {
	if m := binary.BigEndian.Uint16(b); m != magic {
		return fmt.Errorf("wanted a frame of tRPC, which begins with %04x, found %04x", magic, m)
	}
	size := int64(binary.BigEndian.Uint32(b[4:]))
	*h = head{
		frame: b[2], stream: b[3], header: int(binary.BigEndian.Uint16(b[8:])),
		id: binary.BigEndian.Uint32(b[10:]), version: b[14], reserved: b[15],
	}
	switch h.frame {
	case frameUnary:
		if size < headLen+int64(h.header) {
			return fmt.Errorf("wanted a frame with its head and its header of %d bytes, found a length of %d", h.header, size)
		}
	case frameStream:
		if size < headLen {
			return fmt.Errorf("wanted a frame with its head, found a length of %d", size)
		}
		if h.stream < streamInit || h.stream > streamClose {
			return fmt.Errorf("wanted a frame of a stream of type 1 to 4, found %d", h.stream)
		}
		if h.stream != streamData && size > headLen+maxHeader {
			return fmt.Errorf("wanted at most %d bytes that open or end a stream, found %d", maxHeader, size-headLen)
		}
	default:
		return fmt.Errorf("wanted a frame of type 0 or 1, found %d", h.frame)
	}
	if size > int64(limit) {
		return fmt.Errorf("wanted a frame of at most %d bytes, found a length of %d", limit, size)
	}
	h.size = int(size)
	return nil
}

// parts cuts a unary frame, whose head was read, into header, body and attachment. The header says how long the attachment
// is: whoever slices by it looks first.
func parts(frame []byte, h *head, attachment uint32) (body, attached []byte, err error) {
	rest := frame[headLen+h.header:]
	if uint64(attachment) > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("wanted an attachment within the frame, found a size of %d where %d bytes follow the header", attachment, len(rest))
	}
	at := len(rest) - int(attachment)
	return rest[:at:at], rest[at:], nil
}
