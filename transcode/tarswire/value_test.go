package tarswire_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// TestAppendInt: the smallest type that holds a number as a signed one.
func TestAppendInt(t *testing.T) {
	for v, want := range map[int64][]byte{
		0: {0x1c}, 1: {0x10, 1}, -1: {0x10, 0xff}, 127: {0x10, 127}, -128: {0x10, 0x80},
		128: {0x11, 0, 128}, -129: {0x11, 0xff, 0x7f}, 200: {0x11, 0, 200}, 32767: {0x11, 0x7f, 0xff}, -32768: {0x11, 0x80, 0},
		32768: {0x12, 0, 0, 0x80, 0}, -32769: {0x12, 0xff, 0xff, 0x7f, 0xff}, math.MaxInt32: {0x12, 0x7f, 0xff, 0xff, 0xff}, math.MinInt32: {0x12, 0x80, 0, 0, 0},
		math.MaxUint32: {0x13, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, math.MinInt64: {0x13, 0x80, 0, 0, 0, 0, 0, 0, 0},
	} {
		got := tarswire.AppendInt(nil, 1, v)
		if !bytes.Equal(got, want) {
			t.Errorf("%d is %x, want %x", v, got, want)
		}
		r := tarswire.NewReader(got)
		tag, typ := r.Head()
		if back := r.Int(typ, tarswire.Long); tag != 1 || back != v || r.Fault() != "" || r.More() {
			t.Errorf("%x is %d with tag %d (%s)", got, back, tag, r.Fault())
		}
	}
}

// TestHeads: tags up to 14 share a byte with the type.
func TestHeads(t *testing.T) {
	for _, c := range []struct {
		tag  uint8
		want []byte
	}{{0, []byte{0x06}}, {14, []byte{0xe6}}, {15, []byte{0xf6, 15}}, {255, []byte{0xf6, 255}}} {
		if got := tarswire.AppendHead(nil, c.tag, tarswire.String1); !bytes.Equal(got, c.want) {
			t.Errorf("tag %d is %x, want %x", c.tag, got, c.want)
		}
	}
}

// TestSkip: values of every type are passed over whole.
func TestSkip(t *testing.T) {
	values := map[string][]byte{
		"BYTE": {1}, "SHORT": {1, 2}, "INT": {1, 2, 3, 4}, "LONG": {1, 2, 3, 4, 5, 6, 7, 8}, "FLOAT": {1, 2, 3, 4}, "DOUBLE": {1, 2, 3, 4, 5, 6, 7, 8},
		"STRING1": {2, 'a', 'b'}, "STRING4": {0, 0, 0, 2, 'a', 'b'}, "MAP": {0x00, 1, 0x06, 1, 'k', 0x1a, 0x0b}, "LIST": {0x00, 2, 0x0c, 0x09, 0x0c},
		"STRUCT_BEGIN": {0x0c, 0xfa, 99, 0x0b, 0x0b}, "ZERO": {}, "SIMPLE_LIST": {0x00, 0x00, 2, 'a', 'b'},
	}
	n := 0
	for typ := tarswire.Byte; typ <= tarswire.SimpleList; typ++ {
		value, ok := values[typ.String()]
		if !ok { // STRUCT_END is no value
			continue
		}
		n++
		in := append(append(tarswire.AppendHead(nil, 7, typ), value...), 0x2c)
		r := tarswire.NewReader(in)
		_, got := r.Head()
		r.Skip(got)
		if tag, _ := r.Head(); got != typ || tag != 2 || r.More() || r.Fault() != "" {
			t.Errorf("%s: skipped to tag %d (%s)", typ, tag, r.Fault())
		}
		for cut := range value {
			r := tarswire.NewReader(in[:1+cut])
			_, got := r.Head()
			if r.Skip(got); r.Fault() == "" {
				t.Errorf("%s of %d bytes is taken", typ, cut)
			}
		}
	}
	if n != len(values) {
		t.Errorf("%d types, want %d", n, len(values))
	}
}
