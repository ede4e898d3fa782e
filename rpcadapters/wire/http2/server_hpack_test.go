package http2

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestStaticFields(t *testing.T) {
	for i, f := range staticFields {
		if f.Key == "" {
			t.Errorf("index %d: no field", i+1)
		}
	}
	if staticFields[0].Key != ":authority" || staticFields[60].Key != "www-authenticate" {
		t.Errorf("found %v", staticFields)
	}
}

// Every string decodes to what it was, and only so.
func TestHuffman(t *testing.T) {
	var all []byte
	for s := range 256 {
		all = append(all, byte(s))
		for n := 1; n < 10; n++ {
			text := strings.Repeat(string([]byte{byte(s)}), n)
			if got, ok := appendHuffmanDecoded(nil, hpack.AppendHuffmanString(nil, text)); !ok || string(got) != text {
				t.Errorf("%q: found %q %v", text, got, ok)
			}
		}
	}
	if got, ok := appendHuffmanDecoded([]byte("x"), hpack.AppendHuffmanString(nil, string(all))); !ok || string(got) != "x"+string(all) {
		t.Errorf("found %q %v", got, ok)
	}
	for _, bad := range [][]byte{{0xff}, {0xff, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xfc}, {0x00}, {0x1f, 0xff}, {0x18}} {
		if got, ok := appendHuffmanDecoded(nil, bad); ok {
			t.Errorf("%x: want it refused, found %q", bad, got)
		}
	}
}

// decodeBoth decodes blocks, given one behind the other with their lengths before them, by ours and by x/net's decoder.
func decodeBoth(t *testing.T, blocks [][]byte) {
	t.Helper()
	ours, theirs := newRequestDecoder(maxHeaderFields), newHeaderDecoder()
	var a, b fields
	for _, block := range blocks {
		kind := requestBlock
		if len(block) > 0 && block[0]&1 == 1 {
			kind = trailerBlock
		}
		aerr := ours.decode(block, kind, &a)
		berr := theirs.decode(block, kind, &b)
		switch {
		case aerr != nil && berr != nil:
			return
		case aerr != nil:
			// Of what comes behind the limit, theirs decodes only what the table is to have.
			if !errors.Is(aerr, errSizeUpdate) && !errors.Is(aerr, errNumber) && !(b.tooLarge && errors.Is(aerr, errHuffman)) {
				t.Fatalf("%x: ours refuses it: %v; x/net reads %v", block, aerr, b)
			}
			return
		case berr != nil:
			if !strings.Contains(berr.Error(), "longer than the limit") {
				t.Fatalf("%x: x/net refuses it: %v; ours reads %v", block, berr, a)
			}
			return
		}
		if a.tooLarge != b.tooLarge {
			// Theirs counts no pseudo headers, and nothing behind a fault.
			if a.fault != "" || b.fault != "" || len(b.list)+4 >= maxHeaderFields {
				continue
			}
			t.Fatalf("%x: too large: ours says %v, x/net %v", block, a.tooLarge, b.tooLarge)
		}
		if a.tooLarge {
			continue
		}
		if a.fault != b.fault {
			t.Fatalf("%x: ours says %q, x/net %q", block, a.fault, b.fault)
		}
		if a.fault == "" && (a.method != b.method || a.scheme != b.scheme || a.authority != b.authority || a.path != b.path || !slices.Equal(a.list, b.list)) {
			t.Fatalf("%x: ours reads %v, x/net %v", block, a, b)
		}
	}
}

// Header blocks mean what x/net's decoder says they do, block by block over one table.
func FuzzRequestDecoder(f *testing.F) {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	var seed []byte
	for i := range 4 {
		buf.Reset()
		for _, h := range []hpack.HeaderField{
			{Name: ":method", Value: "POST"},
			{Name: ":scheme", Value: "http"},
			{Name: ":path", Value: "/a/b"},
			{Name: ":authority", Value: "example.com"},
			{Name: "x-" + strings.Repeat("n", i), Value: "v"},
			{Name: "grpc-timeout", Value: strings.Repeat("1", i) + "u"},
			{Name: "secret", Value: "s", Sensitive: true},
			{Name: "x-large", Value: strings.Repeat("l", 1500)},
		} {
			_ = enc.WriteField(h) // to memory
		}
		seed = append(seed, byte(buf.Len()>>8), byte(buf.Len()))
		seed = append(seed, buf.Bytes()...)
	}
	f.Add(seed)
	f.Add([]byte{0, 3, 0x20, 0x82, 0x86, 0, 2, 0x3f, 0xe1})
	f.Add([]byte{0, 6, 0x40, 1, 'a', 1, 'b', 0xbe, 0, 1, 0xbe})
	f.Add([]byte{0, 5, 0x0f, 0x2f, 0x81, 0xff, 0x00})
	f.Add(append(append([]byte{0x08, 0x05}, bytes.Repeat([]byte{0xab}, 0x800)...), 0, 1, 'a', 0x81, 0)) // a code that is none, too late
	f.Fuzz(func(t *testing.T, b []byte) {
		var blocks [][]byte
		for len(b) >= 2 {
			n := min(int(b[0])<<8|int(b[1]), len(b)-2)
			blocks = append(blocks, b[2:2+n])
			b = b[2+n:]
		}
		decodeBoth(t, blocks)
	})
}

// The table forgets as RFC 7541 has it forget, over many blocks.
func TestRequestDecoderTable(t *testing.T) {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	var blocks [][]byte
	for i := range 300 {
		buf.Reset()
		if i%97 == 50 {
			enc.SetMaxDynamicTableSize(uint32(i))
		} else if i%97 == 60 {
			enc.SetMaxDynamicTableSize(4096)
		}
		for _, h := range append([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/" + strings.Repeat("p", i%300)}},
			hpack.HeaderField{Name: "x-" + strings.Repeat("n", i%7), Value: strings.Repeat("v", i*i%2000)},
			hpack.HeaderField{Name: "x-nn", Value: strings.Repeat("w", i%11)},
			hpack.HeaderField{Name: "x-huge", Value: strings.Repeat("h", i%50*100)}) {
			_ = enc.WriteField(h) // to memory
		}
		blocks = append(blocks, bytes.Clone(buf.Bytes()))
	}
	decodeBoth(t, blocks)
	d := newRequestDecoder(100)
	var got fields
	for i, b := range blocks {
		if err := d.decode(b, requestBlock, &got); err != nil || got.fault != "" || got.tooLarge {
			t.Fatalf("block %d: %v %q %v", i, err, got.fault, got.tooLarge)
		}
	}
	if n := cap(d.table.values); n > 16<<10 {
		t.Errorf("want the table's bytes bounded, found %d", n)
	}
	want := rpc.Metadata{{Key: "x-" + strings.Repeat("n", 299%7), Value: strings.Repeat("v", 299*299%2000)}, {Key: "x-nn", Value: "ww"}, {Key: "x-huge", Value: strings.Repeat("h", 4900)}}
	if diff := cmp.Diff(want, got.list); diff != "" {
		t.Error(diff)
	}
}

// A request whose values differ each time costs one allocation.
func TestRequestDecoderAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	l := &load{}
	l.enc = hpack.NewEncoder(&l.block)
	var blocks [][]byte
	for range 200 {
		l.call()
		blocks = append(blocks, bytes.Clone(l.block.Bytes()))
	}
	d := newRequestDecoder(100)
	var f fields
	for range 50 {
		if err := d.decode(blocks[0], requestBlock, &f); err != nil {
			t.Fatal(err)
		}
		blocks = blocks[1:]
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := d.decode(blocks[0], requestBlock, &f); err != nil || f.fault != "" || len(f.list) != 6 {
			t.Fatal(err, f)
		}
		blocks = blocks[1:]
	}); n > 1 {
		t.Errorf("want one allocation for a request's head, found %v", n)
	}
}

func BenchmarkRequestDecoder(b *testing.B) {
	l := &load{}
	l.enc = hpack.NewEncoder(&l.block)
	var blocks [][]byte
	for range 1000 {
		l.call()
		blocks = append(blocks, bytes.Clone(l.block.Bytes()))
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		d := newRequestDecoder(100)
		var f fields
		for i := range b.N {
			if i%len(blocks) == 0 {
				d = newRequestDecoder(100) // the blocks build on each other
			}
			if err := d.decode(blocks[i%len(blocks)], requestBlock, &f); err != nil || f.fault != "" {
				b.Fatal(err, f.fault)
			}
		}
	})
	b.Run("x-net", func(b *testing.B) {
		b.ReportAllocs()
		d := newHeaderDecoder()
		var f fields
		for i := range b.N {
			if i%len(blocks) == 0 {
				d = newHeaderDecoder() // the blocks build on each other
			}
			if err := d.decode(blocks[i%len(blocks)], requestBlock, &f); err != nil || f.fault != "" {
				b.Fatal(err, f.fault)
			}
		}
	})
}
