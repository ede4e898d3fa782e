package http2

import (
	"encoding/binary"
	"slices"
	"sort"

	"golang.org/x/net/http2/hpack"
)

// Huffman codes (RFC 7541 appendix B), asked of x/net one symbol at a time. Codes of up to 8 bits, of letters, digits and
// what stands in tokens, are looked up in a table so small that it stays where the processor keeps what it needs at once;
// those of 10 bits in another one; longer ones, which are of control characters mostly, are searched.
type huffmanCode struct {
	code   uint32 // at the left end
	length uint8
	symbol byte
}

const (
	huffmanBits = 8
	huffmanTens = 0x3f8      // the first 10 bits of the first code of 10
	huffmanMost = 5          // bits of the shortest code
	huffmanEnd  = 0xfffffffc // the code of EOS, 30 ones, at the left end
)

// huffmanShort has by its first 8 bits, and huffmanTen by 10 bits less huffmanTens, what a code is: its length above its
// symbol; 0: it is longer.
var huffmanShort, huffmanTen, huffmanLong = func() (short [1 << huffmanBits]uint16, ten [8]uint16, long []huffmanCode) {
	for s := range 256 {
		length := uint8(hpack.HuffmanEncodeLength(string([]byte{byte(s), byte(s), byte(s), byte(s), byte(s), byte(s), byte(s), byte(s)})))
		var left [4]byte
		copy(left[:], hpack.AppendHuffmanString(nil, string([]byte{byte(s)})))
		code := uint32(left[0])<<24 | uint32(left[1])<<16 | uint32(left[2])<<8 | uint32(left[3])
		code &^= 1<<(32-length) - 1 // the padding
		is := uint16(length)<<8 | uint16(s)
		switch {
		case length <= huffmanBits:
			from := code >> (32 - huffmanBits)
			for i := range uint32(1) << (huffmanBits - length) {
				short[from+i] = is
			}
		case length == 10:
			ten[code>>22-huffmanTens] = is
		default:
			long = append(long, huffmanCode{code, length, byte(s)})
		}
	}
	sort.Slice(long, func(i, j int) bool { return long[i].code < long[j].code })
	return short, ten, long
}()

// appendHuffmanDecoded appends what p says. It is false for EOS, and for padding that is longer than seven bits or not
// of ones.
func appendHuffmanDecoded(dst, p []byte) ([]byte, bool) {
	n := len(dst)
	dst = slices.Grow(dst, len(p)*8/huffmanMost)
	out := dst[n:cap(dst)]
	n = 0
	var bits uint64 // at the left end
	var have uint
	for len(p) >= 8 {
		// As many whole bytes as there is room for; the rest of what is read stands where it will be read again.
		bits |= binary.BigEndian.Uint64(p) >> have
		p = p[(63-have)>>3:]
		have |= 56
		for have >= 32 { // more than any code has
			is := huffmanShort[bits>>(64-huffmanBits)]
			if is == 0 {
				if is = huffmanLonger(uint32(bits >> 32)); is == 0 {
					return dst, false
				}
			}
			out[n] = byte(is) //nolint:gosec // its lower half
			n++
			bits <<= is >> 8 & 63
			have -= uint(is >> 8)
		}
	}
	if have > 0 {
		bits &^= 1<<(64-have) - 1
	} else {
		bits = 0
	}
	for {
		for have <= 56 && len(p) > 0 {
			bits |= uint64(p[0]) << (56 - have)
			have += 8
			p = p[1:]
		}
		if have == 0 {
			break
		}
		next := bits
		if have < 32 {
			next |= (1<<64 - 1) >> have // as if padding went on
		}
		is := huffmanShort[next>>(64-huffmanBits)]
		if is == 0 {
			if is = huffmanLonger(uint32(next >> 32)); is == 0 {
				if have >= 8 {
					return dst, false
				}
				break // padding
			}
		}
		if uint(is>>8) > have {
			if have >= 8 || bits>>(64-have) != 1<<have-1 {
				return dst, false
			}
			break
		}
		out[n] = byte(is) //nolint:gosec // its lower half
		n++
		bits <<= is >> 8 & 63
		have -= uint(is >> 8)
	}
	return dst[:len(dst)+n], true
}

// huffmanLonger is the code of more than 8 bits at the left end of top; 0: it is EOS.
func huffmanLonger(top uint32) uint16 {
	if i := top>>22 - huffmanTens; i < uint32(len(huffmanTen)) && huffmanTen[i] != 0 {
		return huffmanTen[i]
	}
	if top >= huffmanEnd {
		return 0
	}
	c := huffmanLong[sort.Search(len(huffmanLong), func(i int) bool { return huffmanLong[i].code > top })-1]
	return uint16(c.length)<<8 | uint16(c.symbol)
}
