package trpc

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"sync"

	"github.com/pierrec/lz4/v4"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// lz4Size is what a block of LZ4 (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md) unpacks to; more than most, where that
// is known before its end. Blocks do not say so themselves.
func lz4Size(src []byte, most int) (n int, ok bool) {
	for i := 0; i < len(src); {
		token := src[i]
		i++
		literals, i2, ok := lz4Length(src, i, int(token>>4))
		if i = i2; !ok || literals > len(src)-i {
			return 0, false
		}
		i += literals
		n += literals
		if i == len(src) {
			return n, true // the last sequence is literals alone
		}
		i += 2 // where it is repeated from
		if i > len(src) {
			return 0, false
		}
		repeated, i2, ok := lz4Length(src, i, int(token&15))
		if i = i2; !ok {
			return 0, false
		}
		if n += repeated + lz4Repeat; n > most {
			return n, true
		}
	}
	return 0, false
}

// lz4Repeat is the least that is repeated.
const lz4Repeat = 4

// lz4Length reads a length that a token begins.
func lz4Length(src []byte, i, n int) (length, next int, ok bool) {
	if n < 15 {
		return n, i, true
	}
	for i < len(src) && n < 1<<30 {
		b := src[i]
		i++
		if n += int(b); b != 255 {
			return n, i, true
		}
	}
	return n, i, n >= 1<<30
}

// appendLZ4 appends what a block of LZ4 unpacks to, at most limit bytes. history is how many of the bytes before may be repeated.
func appendLZ4(dst, src []byte, history, limit int, budget *rpc.Budget) (out []byte, taken int, err error) {
	size, ok := lz4Size(src, limit)
	switch {
	case !ok:
		return dst, 0, errCorrupt
	case size > limit:
		return dst, 0, errTooLarge
	case !budget.Take(size):
		return dst, 0, errBudget
	case size == 0:
		return dst, 0, nil
	}
	start := len(dst)
	dst = slices.Grow(dst, size)
	n, err := lz4.UncompressBlockWithDict(src, dst[start:start+size:start+size], dst[start-history:start])
	if err != nil || n != size {
		return dst, size, errCorrupt
	}
	return dst[:start+size], size, nil
}

var lz4Compressors = sync.Pool{New: func() any { return &lz4.Compressor{} }}

// lz4Growth is how many times larger than its block a message of trpc-go may be: its room for that has no more.
const lz4Growth = 10

// packLZ4 appends src as a block that trpc-go has room for.
func packLZ4(dst, src []byte) ([]byte, error) {
	at := len(dst)
	dst, err := packLZ4Block(dst, src)
	if err != nil || len(src) <= (len(dst)-at)*lz4Growth {
		return dst, err
	}
	dst = dst[:at] // literals alone
	if len(src) < 15 {
		dst = append(dst, byte(len(src)<<4)) //nolint:gosec // less than 16
		return append(dst, src...), nil
	}
	dst = append(dst, 15<<4)
	left := len(src) - 15
	for ; left >= 255; left -= 255 {
		dst = append(dst, 255)
	}
	return append(append(dst, byte(left)), src...), nil //nolint:gosec // less than 255
}

// packLZ4Block appends src as a block.
func packLZ4Block(dst, src []byte) ([]byte, error) {
	at, most := len(dst), lz4.CompressBlockBound(len(src))
	dst = slices.Grow(dst, most)
	c := lz4Compressors.Get().(*lz4.Compressor)
	n, err := c.CompressBlock(src, dst[at:at+most])
	lz4Compressors.Put(c)
	return dst[:at+n], err
}

// The frame format of LZ4 (https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md).
const (
	lz4Magic     = 0x184D2204
	lz4Skippable = 0x184D2A50 // with any last nibble
	lz4Version   = 1 << 6
	lz4Apart     = 1 << 5 // blocks repeat nothing of others
	lz4BlockSums = 1 << 4
	lz4Sized     = 1 << 3
	lz4Summed    = 1 << 2
	lz4Plain     = 1 << 31 // a block that is not packed
	lz4Window    = 64 << 10
	lz4Smallest  = 4 // the code of blocks of 64 KiB
)

// lz4Reader reads the numbers of a frame.
type lz4Reader struct{ left []byte }

func (r *lz4Reader) bytes(n int) ([]byte, bool) {
	if n > len(r.left) {
		return nil, false
	}
	b := r.left[:n]
	r.left = r.left[n:]
	return b, true
}

func (r *lz4Reader) uint32() (uint32, bool) {
	b, ok := r.bytes(4)
	if !ok {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b), true
}

// appendLZ4Stream appends what frames of LZ4 unpack to. Room is made for blocks that are there.
func appendLZ4Stream(dst, src []byte, limit int, budget *rpc.Budget) (out []byte, taken int, err error) {
	r := lz4Reader{src}
	for len(r.left) > 0 {
		magic, ok := r.uint32()
		switch {
		case ok && magic&^15 == lz4Skippable:
			size, ok := r.uint32()
			if !ok || uint64(size) > uint64(len(r.left)) {
				return dst, taken, errCorrupt
			}
			r.left = r.left[size:]
			continue
		case !ok || magic != lz4Magic:
			return dst, taken, errCorrupt
		}
		var n int
		dst, n, err = r.frame(dst, limit-taken, budget)
		if taken += n; err != nil {
			return dst, taken, err
		}
	}
	return dst, taken, nil
}

// frame reads a frame behind its magic number.
func (r *lz4Reader) frame(dst []byte, limit int, budget *rpc.Budget) (out []byte, taken int, err error) {
	size := 2
	if len(r.left) > 0 && r.left[0]&lz4Sized != 0 {
		size += 8
	}
	head, ok := r.bytes(size)
	sum, ok2 := r.bytes(1)
	if !ok || !ok2 || lz4HeadSum(head) != sum[0] {
		return dst, 0, errCorrupt
	}
	flags, code := head[0], head[1]>>4
	if flags>>6 != 1 || flags&3 != 0 || code < lz4Smallest || code > 7 || head[1]&15 != 0 { // a dictionary is one that nobody has agreed on
		return dst, 0, errCorrupt
	}
	most := 1 << (8 + 2*code)
	start := len(dst)
	for {
		n, ok := r.uint32()
		if !ok {
			return dst, taken, errCorrupt
		}
		if n == 0 {
			break
		}
		plain := n&lz4Plain != 0
		block, ok := r.bytes(int(n &^ lz4Plain))
		if !ok || len(block) > most {
			return dst, taken, errCorrupt
		}
		if flags&lz4BlockSums != 0 {
			if sum, ok := r.uint32(); !ok || sum != xxh32(block) {
				return dst, taken, errCorrupt
			}
		}
		var got int
		room := limit - taken
		if plain {
			dst, got, err = appendPlainBlock(dst, block, room, budget)
		} else {
			history := 0
			if flags&lz4Apart == 0 {
				history = min(len(dst)-start, lz4Window)
			}
			dst, got, err = appendLZ4(dst, block, history, min(most, room), budget)
		}
		taken += got
		switch {
		case errors.Is(err, errTooLarge) && room >= most:
			return dst, taken, errCorrupt
		case err != nil:
			return dst, taken, err
		}
	}
	if flags&lz4Sized != 0 && binary.LittleEndian.Uint64(head[2:]) != uint64(taken) {
		return dst, taken, errCorrupt
	}
	if flags&lz4Summed != 0 {
		if sum, ok := r.uint32(); !ok || sum != xxh32(dst[start:]) {
			return dst, taken, errCorrupt
		}
	}
	return dst, taken, nil
}

func appendPlainBlock(dst, block []byte, limit int, budget *rpc.Budget) (out []byte, taken int, err error) {
	switch {
	case len(block) > limit:
		return dst, 0, errTooLarge
	case !budget.Take(len(block)):
		return dst, 0, errBudget
	}
	return append(dst, block...), len(block), nil
}

// packLZ4Stream appends src as a frame of blocks of 64 KiB.
func packLZ4Stream(dst, src []byte) ([]byte, error) {
	dst = binary.LittleEndian.AppendUint32(dst, lz4Magic)
	dst = append(dst, lz4Version|lz4Apart|lz4Summed, lz4Smallest<<4)
	dst = append(dst, lz4HeadSum(dst[len(dst)-2:]))
	var err error
	for rest := src; len(rest) > 0; {
		piece := rest[:min(len(rest), lz4Window)]
		rest = rest[len(piece):]
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		if dst, err = packLZ4Block(dst, piece); err != nil {
			return dst, err
		}
		size := uint32(len(dst) - at - 4) //nolint:gosec // at most a block
		if int(size) >= len(piece) {
			dst = append(dst[:at+4], piece...)
			size = uint32(len(piece)) | lz4Plain //nolint:gosec // at most a block
		}
		binary.LittleEndian.PutUint32(dst[at:], size)
	}
	dst = append(dst, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint32(dst, xxh32(src)), nil
}

// lz4HeadSum is the checksum of the head of a frame.
func lz4HeadSum(head []byte) byte { return byte(xxh32(head) >> 8 & 0xff) }

// xxh32 is the checksum of such frames (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md), with the seed 0.
func xxh32(b []byte) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	h, n := uint32(p5), uint32(len(b)) //nolint:gosec // as it is defined
	if len(b) >= 16 {
		v := [4]uint32{p1 + p2 - 1<<32, p2, 0, 1<<32 - p1}
		for ; len(b) >= 16; b = b[16:] {
			for i := range v {
				v[i] = bits.RotateLeft32(v[i]+binary.LittleEndian.Uint32(b[4*i:])*p2, 13) * p1
			}
		}
		h = bits.RotateLeft32(v[0], 1) + bits.RotateLeft32(v[1], 7) + bits.RotateLeft32(v[2], 12) + bits.RotateLeft32(v[3], 18)
	}
	h += n
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(b)*p3, 17) * p4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
