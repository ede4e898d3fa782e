package trpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/pierrec/lz4/v4"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// framesOfOthers are frames as the library writes them, with all that it can have in them.
func framesOfOthers(t testing.TB, body []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for name, options := range map[string][]lz4.Option{
		"as trpc-go writes them": nil,
		"without sums":           {lz4.ChecksumOption(false)},
		"sums of blocks":         {lz4.BlockChecksumOption(true), lz4.BlockSizeOption(lz4.Block64Kb)},
		"with a size":            {lz4.SizeOption(uint64(len(body))), lz4.BlockSizeOption(lz4.Block256Kb)},
		"packed well":            {lz4.CompressionLevelOption(lz4.Level9)},
	} {
		var b bytes.Buffer
		w := lz4.NewWriter(&b)
		if err := w.Apply(options...); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out[name] = b.Bytes()
	}
	return out
}

// unpackedByGo is what trpc-go makes of a block: its room is ten times the block.
func unpackedByGo(block []byte) ([]byte, error) {
	out := make([]byte, lz4Growth*len(block))
	n, err := lz4.UncompressBlock(block, out)
	return out[:max(n, 0)], err
}

// TestLZ4OfOthers: what the library of trpc-go writes is read, and what is written here is read by it.
func TestLZ4OfOthers(t *testing.T) {
	all := bodies()
	all["fifteen"], all["two hundred and seventy"] = make([]byte, 15), make([]byte, 270)
	for name, body := range all {
		if len(body) == 0 {
			continue // no SDK packs it
		}
		for form, frame := range framesOfOthers(t, body) {
			if out, taken, err := appendUnpacked([]byte("before"), frame, encodingLZ4Stream, len(body), nil); err != nil || string(out) != "before"+string(body) || taken != len(body) {
				t.Errorf("%s, %s: %d bytes, %v", name, form, len(out), err)
			}
			if _, _, err := appendUnpacked(nil, frame, encodingLZ4Stream, len(body)-1, nil); !errors.Is(err, errTooLarge) {
				t.Errorf("%s, %s, one byte too many: %v", name, form, err)
			}
		}
		packed, err := packLZ4Stream(nil, body)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := io.ReadAll(lz4.NewReader(bytes.NewReader(packed))); err != nil || !bytes.Equal(back, body) {
			t.Errorf("%s read by the library: %d bytes, %v", name, len(back), err)
		}
		if packed, err = packLZ4(nil, body); err != nil {
			t.Fatal(err)
		}
		if back, err := unpackedByGo(packed); err != nil || !bytes.Equal(back, body) {
			t.Errorf("%s as a block read by trpc-go: %d bytes, %v", name, len(back), err)
		}
	}
}

// TestLZ4Linked: blocks that repeat what is in others before them, as the reference's writer makes them, with something between frames.
func TestLZ4Linked(t *testing.T) {
	// A block of four literals, then one that repeats them from the block before.
	first, second := []byte{4 << 4, 'a', 'b', 'c', 'd'}, []byte{0<<4 | 4, 4, 0, 5 << 4, '1', '2', '3', '4', '5'}
	frame := func(flags byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, lz4Magic)
		b = append(b, flags, lz4Smallest<<4)
		b = append(b, lz4HeadSum(b[4:]))
		for _, block := range [][]byte{first, second} {
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(block))), block...)
		}
		return append(b, 0, 0, 0, 0)
	}
	skipped := append(binary.LittleEndian.AppendUint32(nil, lz4Skippable+3), 2, 0, 0, 0, 'x', 'x')
	linked := frame(lz4Version)
	out, _, err := appendUnpacked([]byte("kept"), append(append(bytes.Clone(linked), skipped...), linked...), encodingLZ4Stream, 100, nil)
	if err != nil || string(out) != "keptabcdabcdabcd12345abcdabcdabcd12345" {
		t.Errorf("%q, %v", out, err)
	}
	if back, err := io.ReadAll(lz4.NewReader(bytes.NewReader(linked))); err != nil || string(back) != "abcdabcdabcd12345" {
		t.Errorf("the library: %q, %v", back, err)
	}
	if out, _, err = appendUnpacked([]byte("kept"), frame(lz4Version|lz4Apart), encodingLZ4Stream, 100, nil); !errors.Is(err, errCorrupt) {
		t.Errorf("blocks that say that they repeat nothing: %q, %v", out, err)
	}
}

// TestLZ4Lies: what is said of sizes makes no room.
func TestLZ4Lies(t *testing.T) {
	good, err := packLZ4Stream(nil, []byte("some text, some text, some text"))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, to ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[at:], to)
		b[6] = lz4HeadSum(b[4:6])
		return b
	}
	headSum := bytes.Clone(good)
	headSum[6] ^= 1
	bomb := append(append([]byte{1<<4 | 15, 'x', 1, 0}, bytes.Repeat([]byte{255}, 10_000)...), 0, 0)
	for name, c := range map[string]struct {
		encoding uint32
		src      []byte
		want     error
	}{
		"no frame":                      {encodingLZ4Stream, []byte("some text"), errCorrupt},
		"the sum of the head":           {encodingLZ4Stream, headSum, errCorrupt},
		"the sum of all":                {encodingLZ4Stream, changed(len(good)-1, good[len(good)-1]^1), errCorrupt},
		"another version":               {encodingLZ4Stream, changed(4, 2<<6), errCorrupt},
		"a dictionary":                  {encodingLZ4Stream, changed(4, lz4Version|1), errCorrupt},
		"blocks of a size that is none": {encodingLZ4Stream, changed(5, 3<<4), errCorrupt},
		"a block longer than all":       {encodingLZ4Stream, changed(7, 0xff, 0xff, 0xff, 0x7f), errCorrupt},
		"a frame without an end":        {encodingLZ4Stream, good[:len(good)-8], errCorrupt},
		"to be passed over, too long":   {encodingLZ4Stream, []byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff}, errCorrupt},
		"literals that are not there":   {encodingLZ4Block, []byte{0xf0, 255, 255, 255, 0}, errCorrupt},
		"lengths without an end":        {encodingLZ4Block, bytes.Repeat([]byte{255}, 100), errCorrupt},
		"an end within":                 {encodingLZ4Block, []byte{1 << 4, 'x', 1}, errCorrupt},
		"an end behind a repeat":        {encodingLZ4Block, []byte{1 << 4, 'x', 1, 0}, errCorrupt},
		"from before the beginning":     {encodingLZ4Block, []byte{1 << 4, 'x', 9, 0, 1 << 4, 'y'}, errCorrupt},
		"from nowhere":                  {encodingLZ4Block, []byte{1 << 4, 'x', 0, 0, 1 << 4, 'y'}, errCorrupt},
		"a bomb":                        {encodingLZ4Block, bomb, errTooLarge},
	} {
		budget := rpc.NewBudget(1 << 20)
		out, taken, err := appendUnpacked(nil, c.src, c.encoding, 1<<20, budget)
		if !errors.Is(err, c.want) || cap(out) > 1<<12 || budget.Used() != int64(taken) {
			t.Errorf("%s: %v, room of %d bytes, %d taken", name, err, cap(out), taken)
		}
	}
}

// TestXXH32 has the values of the specification's sanity checks and of the reference.
func TestXXH32(t *testing.T) {
	for text, want := range map[string]uint32{"": 0x02CC5D05, "a": 0x550D7456, "abc": 0x32D153FF, "Nobody inspects the spammish repetition": 0xE2293B2F} {
		if got := xxh32([]byte(text)); got != want {
			t.Errorf("%q: %#x, want %#x", text, got, want)
		}
	}
}

// FuzzLZ4: any body goes through both forms and the library, both ways, and is what it was.
func FuzzLZ4(f *testing.F) {
	for _, body := range bodies() {
		f.Add(body[:min(len(body), 300)], byte(3))
	}
	// One of each, as they are used again and again.
	var buf bytes.Buffer
	w, r := lz4.NewWriter(&buf), lz4.NewReader(&buf)
	f.Fuzz(func(t *testing.T, body []byte, times byte) {
		body = bytes.Repeat(body[:min(len(body), 1000)], int(times%100)+1)
		if len(body) == 0 {
			return
		}
		buf.Reset()
		w.Reset(&buf)
		if err := w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.BlockChecksumOption(times >= 128)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if out, _, err := appendUnpacked(nil, buf.Bytes(), encodingLZ4Stream, len(body), nil); err != nil || !bytes.Equal(out, body) {
			t.Fatal(len(out), len(body), err)
		}
		frame, err1 := packLZ4Stream(nil, body)
		block, err2 := packLZ4(nil, body)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if out, _, err := appendUnpacked(nil, block, encodingLZ4Block, len(body), nil); err != nil || !bytes.Equal(out, body) {
			t.Fatal(len(out), len(body), err)
		}
		r.Reset(bytes.NewReader(frame))
		if back, err := io.ReadAll(r); err != nil || !bytes.Equal(back, body) {
			t.Fatal(len(back), len(body), err)
		}
		if back, err := unpackedByGo(block); err != nil || !bytes.Equal(back, body) {
			t.Fatal(len(back), len(body), err)
		}
	})
}
