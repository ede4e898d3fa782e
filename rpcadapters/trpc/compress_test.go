package trpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// bodies are of several sizes and textures.
func bodies() map[string][]byte {
	noise := make([]byte, 200_000)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(noise) // never fails
	return map[string][]byte{
		"empty": {}, "one": {7}, "text": []byte(strings.Repeat("some text, ", 100)), "zeros": make([]byte, 1<<20), "noise": noise,
		"chunk": make([]byte, mostOfChunk), "chunk and one": noise[:mostOfChunk+1],
	}
}

func TestPackRoundTrip(t *testing.T) {
	for _, encoding := range []uint32{encodingNone, encodingGzip, encodingZlib, encodingSnappyStream, encodingSnappyBlock, encodingLZ4Stream, encodingLZ4Block} {
		for name, body := range bodies() {
			packed, err := appendPacked([]byte("before"), body, encoding)
			if err != nil {
				t.Fatal(err)
			}
			if encoding == encodingNone {
				if string(packed) != "before"+string(body) {
					t.Errorf("%s: not as it was", name)
				}
				continue
			}
			packed = packed[len("before"):]
			for _, as := range []uint32{encoding, encodingSnappy} {
				if as == encodingSnappy && encoding != encodingSnappyStream && encoding != encodingSnappyBlock {
					continue
				}
				budget := rpc.NewBudget(int64(len(body)))
				out, taken, err := appendUnpacked([]byte("before"), packed, as, len(body), budget)
				if err != nil || string(out) != "before"+string(body) || taken != len(body) || budget.Used() != int64(taken) {
					t.Errorf("%s by %s: %d bytes, %d taken, %v", name, encodingNames[as], len(out), taken, err)
				}
				if len(body) == 0 {
					continue
				}
				if _, _, err = appendUnpacked(nil, packed, as, len(body)-1, nil); !errors.Is(err, errTooLarge) {
					t.Errorf("%s by %s, one byte too many: %v", name, encodingNames[as], err)
				}
				if _, _, err = appendUnpacked(nil, packed, as, len(body), rpc.NewBudget(int64(len(body)-1))); !errors.Is(err, errBudget) {
					t.Errorf("%s by %s beyond the budget: %v", name, encodingNames[as], err)
				}
				if len(body) < 4 {
					continue
				}
				if _, _, err = appendUnpacked(nil, packed[:len(packed)-3], as, len(body), nil); !errors.Is(err, errCorrupt) {
					t.Errorf("%s by %s, cut: %v", name, encodingNames[as], err)
				}
			}
		}
	}
}

// TestSnappyOfOthers: the library's streams are read, and ours are read by it.
func TestSnappyOfOthers(t *testing.T) {
	for name, body := range bodies() {
		var b bytes.Buffer
		w := snappy.NewBufferedWriter(&b)
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out, _, err := appendUnpacked(nil, b.Bytes(), encodingSnappyStream, len(body), nil)
		if err != nil || !bytes.Equal(out, body) {
			t.Errorf("%s of the library: %d bytes, %v", name, len(out), err)
		}
		back, err := io.ReadAll(snappy.NewReader(bytes.NewReader(packStream(nil, body))))
		if err != nil || !bytes.Equal(back, body) {
			t.Errorf("%s read by the library: %d bytes, %v", name, len(back), err)
		}
		block, err := snappy.Decode(nil, packBlock(nil, body))
		if err != nil || !bytes.Equal(block, body) {
			t.Errorf("%s as a block: %d bytes, %v", name, len(block), err)
		}
	}
}

// TestUnpackLies: sizes are held against what is there and against the limit before there is room for them.
func TestUnpackLies(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<32-1)
	stream := []byte(snappyIdentifier)
	good := packStream(nil, []byte("some text"))
	wrongSum := bytes.Clone(good)
	wrongSum[len(snappyIdentifier)+4] ^= 1
	big := packStream(nil, make([]byte, mostOfChunk))[len(snappyIdentifier)+8:]
	grown := append([]byte(nil), packBlock(nil, make([]byte, mostOfChunk+1))...)
	for _, c := range []struct {
		name     string
		encoding uint32
		src      []byte
		want     error
	}{
		{"block that claims 4 GiB", encodingSnappyBlock, append(huge, 0), errCorrupt},
		{"block without a size", encodingSnappyBlock, []byte{0xff}, errCorrupt},
		{"block of nothing that is short", encodingSnappyBlock, []byte{3, 0}, errCorrupt},
		{"repeat of no offset", encodingSnappyBlock, []byte{8, 0, 'a', 0x01, 0}, errCorrupt},
		{"stream without identifier", encodingSnappyStream, good[len(snappyIdentifier):], errCorrupt},
		{"stream of a wrong sum", encodingSnappyStream, wrongSum, errCorrupt},
		{"chunk longer than the stream", encodingSnappyStream, append(bytes.Clone(stream), 0, 0xff, 0xff, 0xff), errCorrupt},
		{"chunk without sum", encodingSnappyStream, append(bytes.Clone(stream), 0, 3, 0, 0, 1, 2, 3), errCorrupt},
		{"chunk that must be known", encodingSnappyStream, append(bytes.Clone(stream), 2, 0, 0, 0), errCorrupt},
		{"cut head of a chunk", encodingSnappyStream, append(bytes.Clone(stream), 0, 0), errCorrupt},
		{"another identifier", encodingSnappyStream, []byte("\xff\x06\x00\x00S2sTwO"), errCorrupt},
		{"bomb", encodingSnappyBlock, packBlock(nil, make([]byte, 2<<20)), errTooLarge},
		{"bomb in chunks", encodingSnappyStream, packStream(nil, make([]byte, 2<<20)), errTooLarge},
		{"not gzip", encodingGzip, []byte("text"), errCorrupt},
		{"not zlib", encodingZlib, big, errCorrupt},
		{"chunk larger than a chunk may be", encodingSnappyStream, chunk(stream, grown), errCorrupt},
	} {
		_, taken, err := appendUnpacked(nil, c.src, c.encoding, 1<<20, nil)
		if !errors.Is(err, c.want) || taken > 1<<20 {
			t.Errorf("%s: %v, %d bytes", c.name, err, taken)
		}
	}
	if _, _, err := appendUnpacked(nil, []byte{1}, 8, 10, nil); err == nil || err.Error() != "content_encoding 8 is not known here" {
		t.Errorf("one of the future: %v", err)
	}
	skipped := append(bytes.Clone(good), 0xfe, 2, 0, 0, 0, 0)
	if out, _, err := appendUnpacked(nil, skipped, encodingSnappyStream, 1<<20, nil); err != nil || string(out) != "some text" {
		t.Errorf("padding: %q %v", out, err)
	}
}

// chunk is a stream with one packed chunk, whose sum does not matter.
func chunk(stream, block []byte) []byte {
	out := append(bytes.Clone(stream), chunkPacked, 0, 0, 0, 0, 0, 0, 0)
	out = append(out, block...)
	n := len(block) + sumLen
	at := len(stream)
	out[at+1], out[at+2], out[at+3] = byte(n), byte(n>>8), byte(n>>16)
	return out
}

// FuzzUnpack: what is unpacked stays within the limit, is what was counted, and agrees with the library where that reads it.
func FuzzUnpack(f *testing.F) {
	for _, body := range bodies() {
		body = body[:min(len(body), 2000)] // large ones are slow to mutate
		for _, e := range []uint32{encodingGzip, encodingZlib, encodingSnappyStream, encodingSnappyBlock, encodingLZ4Stream, encodingLZ4Block} {
			packed, err := appendPacked(nil, body, e)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(e), packed)
		}
	}
	f.Fuzz(func(t *testing.T, encoding byte, data []byte) {
		const limit = 1 << 20
		budget := rpc.NewBudget(limit + 1)
		e := uint32(encoding)%encodingLZ4Block + 1
		out, taken, err := appendUnpacked(nil, data, e, limit, budget)
		if budget.Used() != int64(taken) {
			t.Fatalf("%d taken, %d told", budget.Used(), taken)
		}
		if len(out) > limit+1 {
			t.Fatalf("%d bytes", len(out))
		}
		if err == nil && (len(out) != taken || len(out) > limit) {
			t.Fatalf("%d bytes of which %d are counted", len(out), taken)
		}
		if e != encodingSnappyStream && e != encodingSnappyBlock || len(data) == 0 {
			return
		}
		var want []byte
		var wantErr error
		if e == encodingSnappyBlock {
			if n, err := snappy.DecodedLen(data); err != nil || n > limit {
				return
			}
			want, wantErr = snappy.DecodeStrict(nil, data)
		} else {
			want, wantErr = io.ReadAll(io.LimitReader(snappy.NewReader(bytes.NewReader(data)), limit+1))
			if len(want) > limit {
				return
			}
		}
		// The library reads more than the format has: extensions of its own.
		if err == nil && (wantErr != nil || !bytes.Equal(out, want)) {
			t.Fatalf("%d bytes, the library has %d: %v", len(out), len(want), wantErr)
		}
		if e == encodingSnappyBlock && err != nil && wantErr == nil {
			t.Fatalf("%v, the library has %d bytes", err, len(want))
		}
	})
}
