package trpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/klauspost/compress/snappy"

	"github.com/causeway-gateway/causeway/rpcadapters/envelope"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Content encodings. What trpc-go and trpc-cpp mean by encodingSnappy differs, so requests never say it; the two formats can be told
// apart.
const (
	encodingNone         = 0
	encodingGzip         = 1
	encodingSnappy       = 2
	encodingZlib         = 3
	encodingSnappyStream = 4
	encodingSnappyBlock  = 5
	encodingLZ4Stream    = 6
	encodingLZ4Block     = 7
)

// encodingNames are for errors and the configuration.
var encodingNames = [...]string{"none", "gzip", "snappy", "zlib", "snappy-stream", "snappy-block", "lz4-stream", "lz4-block"}

// unpackable tells the encodings that appendUnpacked knows.
func unpackable(encoding uint32) bool { return encoding <= encodingLZ4Block }

var (
	errTooLarge = errors.New("larger than the limit when unpacked")
	errBudget   = errors.New("the gateway holds as much as it may at one moment")
	errCorrupt  = errors.New("not of its format, or cut")
)

// unpackFault is why a body could not be unpacked; it wraps one of the errors above.
type unpackFault struct {
	encoding uint32
	err      error
}

func (u *unpackFault) Error() string {
	return fmt.Sprintf("wanted a body packed by %s: %v", encodingNames[u.encoding], u.err)
}

func (u *unpackFault) Unwrap() error { return u.err }

// appendUnpacked appends what src unpacks to, at most limit bytes. What is appended is taken from budget; taken says how much,
// also beside an error: it is the caller's to give back. An empty src is an empty body, as no SDK packs one.
func appendUnpacked(dst, src []byte, encoding uint32, limit int, budget *rpc.Budget) (out []byte, taken int, err error) {
	if len(src) == 0 {
		return dst, 0, nil
	}
	if encoding == encodingSnappy {
		encoding = snappyOf(src)
	}
	switch encoding {
	case encodingGzip:
		out, taken, err = envelope.Decompress(dst, src, envelope.Gzip, limit, budget)
	case encodingZlib:
		out, taken, err = envelope.Decompress(dst, src, envelope.Deflate, limit, budget)
	case encodingSnappyBlock:
		out, taken, err = appendBlock(dst, src, limit, budget)
	case encodingSnappyStream:
		out, taken, err = appendStream(dst, src, limit, budget)
	case encodingLZ4Block:
		out, taken, err = appendLZ4(dst, src, 0, limit, budget)
	case encodingLZ4Stream:
		out, taken, err = appendLZ4Stream(dst, src, limit, budget)
	default:
		return dst, 0, fmt.Errorf("content_encoding %d is not known here", encoding)
	}
	if err != nil {
		err = &unpackFault{encoding, cause(err)}
	}
	return out, taken, err
}

// snappyOf tells which of the formats a body is in that says only that it is one of snappy: trpc-go means that of streams, trpc-cpp
// that of blocks.
func snappyOf(body []byte) uint32 {
	if len(body) >= len(snappyIdentifier) && string(body[:len(snappyIdentifier)]) == snappyIdentifier {
		return encodingSnappyStream
	}
	return encodingSnappyBlock
}

// cause sorts an error.
func cause(err error) error {
	if e, ok := errors.AsType[*rpc.Error](err); ok {
		switch e.Reason {
		case "MESSAGE_TOO_LARGE":
			return errTooLarge
		case "TRANSLATION_BUDGET":
			return errBudget
		}
		return errCorrupt
	}
	return err
}

// appendPacked appends src packed by encoding, which is not encodingSnappy. An empty src stays empty.
func appendPacked(dst, src []byte, encoding uint32) ([]byte, error) {
	if len(src) == 0 {
		return dst, nil
	}
	switch encoding {
	case encodingNone:
		return append(dst, src...), nil
	case encodingGzip:
		return envelope.Compress(dst, src, envelope.Gzip)
	case encodingZlib:
		return envelope.Compress(dst, src, envelope.Deflate)
	case encodingSnappyBlock:
		return packBlock(dst, src), nil
	case encodingSnappyStream:
		return packStream(dst, src), nil
	case encodingLZ4Block:
		return packLZ4(dst, src)
	case encodingLZ4Stream:
		return packLZ4Stream(dst, src)
	}
	return dst, fmt.Errorf("content_encoding %d is not known here", encoding)
}

// mostOfBlock is how many bytes one byte of a block can stand for, rounded up: three make a copy of 64.
const mostOfBlock = 22

// appendBlock appends what a block of snappy (https://github.com/google/snappy/blob/main/format_description.txt) unpacks to.
// What it says of its size is held against the bytes that are there before room is made.
func appendBlock(dst, src []byte, limit int, budget *rpc.Budget) (out []byte, taken int, err error) {
	size, n := binary.Uvarint(src)
	switch {
	case n <= 0 || size > 1<<32-1 || size > uint64(len(src))*mostOfBlock:
		return dst, 0, errCorrupt
	case size > uint64(limit): //nolint:gosec // a limit is positive
		return dst, 0, errTooLarge
	case !budget.Take(int(size)):
		return dst, 0, errBudget
	}
	taken = int(size)
	start := len(dst)
	dst = slices.Grow(dst, taken)
	if _, err := snappy.DecodeStrict(dst[start:start:start+taken], src); err != nil {
		return dst, taken, errCorrupt
	}
	return dst[:start+taken], taken, nil
}

func packBlock(dst, src []byte) []byte {
	most := snappy.MaxEncodedLen(len(src))
	dst = slices.Grow(dst, most)
	at := len(dst)
	return dst[:at+len(snappy.Encode(dst[at:at+most], src))]
}

// The framing format of snappy (https://github.com/google/snappy/blob/main/framing_format.txt).
const (
	snappyIdentifier = "\xff\x06\x00\x00sNaPpY"
	chunkPacked      = 0x00
	chunkPlain       = 0x01
	chunkSkippable   = 0x80
	chunkIdentifier  = 0xff
	mostOfChunk      = 65536 // bytes of one chunk, unpacked
	sumLen           = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// appendStream appends what a stream of snappy unpacks to.
func appendStream(dst, src []byte, limit int, budget *rpc.Budget) (out []byte, taken int, err error) {
	for first := true; len(src) > 0; first = false {
		if len(src) < 4 {
			return dst, taken, errCorrupt
		}
		kind, size := src[0], int(src[1])|int(src[2])<<8|int(src[3])<<16
		if size > len(src)-4 || first && kind != chunkIdentifier {
			return dst, taken, errCorrupt
		}
		chunk := src[4 : 4+size]
		src = src[4+size:]
		switch {
		case kind == chunkIdentifier:
			if string(chunk) != snappyIdentifier[4:] {
				return dst, taken, errCorrupt
			}
		case kind == chunkPacked || kind == chunkPlain:
			if size < sumLen {
				return dst, taken, errCorrupt
			}
			sum, start := binary.LittleEndian.Uint32(chunk), len(dst)
			var n int
			if kind == chunkPacked {
				dst, n, err = appendBlock(dst, chunk[sumLen:], min(mostOfChunk, limit-taken), budget)
			} else {
				dst, n, err = appendPlain(dst, chunk[sumLen:], limit-taken, budget)
			}
			taken += n
			switch {
			case errors.Is(err, errTooLarge) && limit-taken >= mostOfChunk:
				return dst, taken, errCorrupt
			case err != nil:
				return dst, taken, err
			case checksum(dst[start:]) != sum:
				return dst, taken, errCorrupt
			}
		case kind < chunkSkippable:
			return dst, taken, errCorrupt
		}
	}
	return dst, taken, nil
}

func appendPlain(dst, chunk []byte, limit int, budget *rpc.Budget) (out []byte, taken int, err error) {
	switch {
	case len(chunk) > mostOfChunk:
		return dst, 0, errCorrupt
	case len(chunk) > limit:
		return dst, 0, errTooLarge
	case !budget.Take(len(chunk)):
		return dst, 0, errBudget
	}
	return append(dst, chunk...), len(chunk), nil
}

func packStream(dst, src []byte) []byte {
	dst = append(dst, snappyIdentifier...)
	for len(src) > 0 {
		piece := src[:min(len(src), mostOfChunk)]
		src = src[len(piece):]
		start := len(dst)
		dst = append(dst, chunkPacked, 0, 0, 0)
		dst = binary.LittleEndian.AppendUint32(dst, checksum(piece))
		dst = packBlock(dst, piece)
		if len(dst)-start-4-sumLen >= len(piece) {
			dst = append(dst[:start+4+sumLen], piece...)
			dst[start] = chunkPlain
		}
		size := len(dst) - start - 4
		dst[start+1], dst[start+2], dst[start+3] = byte(size), byte(size>>8), byte(size>>16) //nolint:gosec // at most a chunk
	}
	return dst
}
