package tarswire_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// TestAllocBudget holds every call to no allocation at all once its buffers have grown.
func TestAllocBudget(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	calls, complete := 0, 0
	for _, m := range tables(t) {
		for i, wire := range samples(t, m) {
			zeros := &tarswire.Options{Zeros: true}
			tars, err := tarswire.AppendTARS(nil, wire, m, zeros)
			if err != nil {
				t.Fatal(err)
			}
			mirrored, strict := backwards(t, wire), zeros
			if _, err := tarswire.AppendTARS(nil, wire, m, nil); err == nil {
				strict, complete = nil, complete+1
			}
			for _, c := range []struct {
				name string
				run  func(dst []byte) ([]byte, error)
			}{
				{"to TARS", func(dst []byte) ([]byte, error) { return tarswire.AppendTARS(dst, wire, m, zeros) }},
				{"backwards to TARS", func(dst []byte) ([]byte, error) { return tarswire.AppendTARS(dst, mirrored, m, strict) }},
				{"to wire", func(dst []byte) ([]byte, error) { return tarswire.AppendWire(dst, tars, m, nil) }},
				{"to TUP and back", func(dst []byte) ([]byte, error) {
					tup, err := tarswire.AppendTUP(dst, wire, m, zeros)
					if err != nil {
						return dst, err
					}
					return tarswire.AppendTUPWire(tup, tup, m, nil)
				}},
			} {
				dst := make([]byte, 0, 256<<10)
				if _, err := c.run(dst); err != nil {
					t.Fatalf("%s %d %s: %v", m.Schema.Name, i, c.name, err)
				}
				calls++
				if n := testing.AllocsPerRun(20, func() { _, _ = c.run(dst) }); n != 0 {
					t.Errorf("%s %d %s: %v allocations, want none", m.Schema.Name, i, c.name, n)
				}
			}
		}
	}
	if complete == 0 {
		t.Error("no sample has all that is required")
	}
	t.Logf("%d calls without an allocation, %d samples with all that is required", calls, complete)
}

// backwards turns round the order of the fields of a message.
func backwards(t testing.TB, wire []byte) []byte {
	t.Helper()
	var fields [][]byte
	for rest := wire; len(rest) > 0; {
		_, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		fields = append(fields, rest[:n])
		rest = rest[n:]
	}
	slices.Reverse(fields)
	return bytes.Join(fields, nil)
}

// TestOrder: any order of tags and fields gives the same TARS, ascending.
func TestOrder(t *testing.T) {
	s := kit(t)
	m := table(t, s, "Kit.Scalars")
	straight := samples(t, m)[0]
	want, err := tarswire.AppendTARS(nil, straight, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tarswire.AppendTARS(nil, backwards(t, straight), m, nil)
	if err != nil || !bytes.Equal(want, got) {
		t.Errorf("%x backwards, want %x (%v)", got, want, err)
	}
	// Tags: what was read one after the other, out of order.
	var members [][]byte
	for r := tarswire.NewReader(want); r.More(); {
		at := r.Offset()
		_, typ := r.Head()
		r.Skip(typ)
		members = append(members, r.Since(at))
	}
	if len(members) != 14 {
		t.Fatalf("%d members, want 14", len(members))
	}
	slices.Reverse(members)
	wire, err := tarswire.AppendWire(nil, bytes.Join(members, nil), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = tarswire.AppendTARS(nil, wire, m, nil); err != nil || !bytes.Equal(want, got) {
		t.Errorf("%x of tags backwards, want %x (%v)", got, want, err)
	}
}

// TestSplit: a sub-message that protobuf was sent in pieces, lists in between.
func TestSplit(t *testing.T) {
	m := table(t, kit(t), "Kit.Node")
	piece := func(number protowire.Number, content ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
	}
	wire := slices.Concat(
		piece(6, 8, 3), // at.x
		piece(3, 'a'),
		piece(1, 'o', 'l', 'd'),
		piece(6, 16, 4), // at.y
		piece(3, 'b'),
		piece(1, 'n', 'e', 'w'),
	)
	got, err := tarswire.AppendTARS(nil, wire, m, nil)
	want := []byte{0x06, 3, 'n', 'e', 'w', 0x29, 0x00, 2, 0x06, 1, 'a', 0x06, 1, 'b', 0x5a, 0x00, 3, 0x10, 4, 0x0b}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, want %x (%v)", got, want, err)
	}
}

// TestLies: lengths and counts that the data cannot hold are refused before anything is made of them.
func TestLies(t *testing.T) {
	s := kit(t)
	node, nasty := table(t, s, "Kit.Node"), table(t, s, "Kit.Nasty")
	huge := []byte{0x02, 0x7f, 0xff, 0xff, 0xff}
	for _, c := range []struct {
		name string
		m    *tarswire.Message
		tars []byte
		want string
	}{
		{"string", node, []byte{0x07, 0x7f, 0xff, 0xff, 0xff, 'a'}, "name: wanted a string at offset 1, found a length beyond the end of the data"},
		{"string of a negative length", node, []byte{0x07, 0xff, 0xff, 0xff, 0xff, 'a'}, "name: wanted a string at offset 1, found a length beyond the end of the data"},
		{"list", node, append([]byte{0x29}, huge...), "labels: wanted a number of elements at offset 1 that the data can hold, found another"},
		{"negative list", node, []byte{0x29, 0x00, 0xff}, "labels: wanted a number of elements at offset 1 that the data can hold, found another"},
		{"map", node, append([]byte{0x38}, huge...), "counts: wanted a number of entries at offset 1 that the data can hold, found another"},
		{"map of one byte an entry", node, []byte{0x38, 0x00, 2, 0x06, 0x00, 0x1c}, "counts: wanted a number of entries at offset 1 that the data can hold, found another"},
		{"bytes", node, append([]byte{0x4d, 0x00}, huge...), "blob: wanted a number of bytes at offset 1 that the data can hold, found another"},
		{"bytes as list", node, append([]byte{0x49}, huge...), "blob: wanted a number of elements at offset 1 that the data can hold, found another"},
		{"simple list of something else", node, []byte{0x4d, 0x01, 0x0c}, "blob: wanted a number of bytes at offset 1 that the data can hold, found another"},
		{"count with a tag", node, []byte{0x29, 0x1c}, "labels: wanted a number of elements at offset 1 that the data can hold, found another"},
		{"count as a long", node, []byte{0x29, 0x03, 0, 0, 0, 0, 0, 0, 0, 0}, "labels: wanted a number of elements at offset 1 that the data can hold, found another"},
		{"unknown list", node, append([]byte{0xb9}, huge...), "wanted a value of type LIST at offset 1, found bytes that are not, or nested deeper than 100 levels"},
		{"struct without end", node, []byte{0x06, 0x00, 0x5a, 0x0c, 0x1c}, "at: the data ends at offset 5, in the middle of a value"},
		{"end without struct", node, []byte{0x06, 0x00, 0x0b}, "wanted a member, found STRUCT_END at offset 2"},
		{"no such type", node, []byte{0x0e}, "wanted a type from 0 to 13, found 14 at offset 0"},
		{"tag cut off", node, []byte{0xf0}, "the data ends at offset 1, in the middle of a value"},
		{"twice", node, []byte{0x06, 0x00, 0x06, 0x00}, "tag 0 (name) is given twice"},
		{"missing", node, []byte{0x1c}, "Kit.Node lacks tag 0 (name), which is required"},
		{"int too wide", node, []byte{0x06, 0x00, 0x13, 0, 0, 0, 0, 0, 0, 0, 1}, "weight: wanted an integer up to INT, found LONG at offset 3"},
		{"number for a string", node, []byte{0x0c}, "name: wanted STRING1 or STRING4, found ZERO at offset 1"},
		{"not UTF-8", node, []byte{0x06, 0x02, 'a', 0xff}, "name: wanted UTF-8, found byte 0xff at offset 3"},
		{"inside", nasty, []byte{0x09, 0x00, 1, 0x09, 0x00, 2, 0x0c, 0x06, 0x00}, "matrix[0][1]: wanted an integer up to INT, found STRING1 at offset 8"},
		{"element with a tag", nasty, []byte{0x69, 0x00, 1, 0x1c}, "flags[0]: wanted tag 0 for an element, found 1"},
		{"entry with a tag", nasty, []byte{0x18, 0x00, 1, 0x0c, 0x26, 0x00}, "byId[0]: wanted tag 1 for the value of an entry, found 2"},
		{"unsigned byte of 256", nasty, []byte{0x59, 0x00, 1, 0x01, 1, 0}, "ubytes[0]: wanted 0 to 255, found 256 at offset 4"},
		{"unsigned byte of -1", nasty, []byte{0x59, 0x00, 1, 0x00, 0xff}, "ubytes[0]: wanted 0 to 255, found -1 at offset 4"},
	} {
		dst := []byte("kept")
		out, err := tarswire.AppendWire(dst, c.tars, c.m, nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		if string(out) != "kept" {
			t.Errorf("%s: dst became %q", c.name, out)
		}
	}
	if raceEnabled {
		return
	}
	// A frame that lies about everything does not make memory grow: ten bytes ask for 2 GiB.
	lie := append([]byte{0x29}, huge...)
	if n := testing.AllocsPerRun(20, func() { _, _ = tarswire.AppendWire(nil, lie, node, nil) }); n > 8 {
		t.Errorf("%v allocations for a lie, want those of its error", n)
	}
}

// TestEncodeErrors: what has no TARS form is refused by name.
func TestEncodeErrors(t *testing.T) {
	s := kit(t)
	for _, c := range []struct {
		name string
		m    *tarswire.Message
		wire []byte
		want string
	}{
		{"missing parameter", function(t, s, "/Kit.Echo/add").In, protowire.AppendVarint([]byte{2 << 3}, 1), "b: is required and not given"},
		{"missing member", function(t, s, "/Kit.Echo/echoNode").In, []byte{2<<3 | 2, 0}, "req.name: is required and not given"},
		{"byte of 128", table(t, s, "Kit.Scalars"), []byte{1 << 3, 1, 2 << 3, 0x80, 1}, "i8: wanted -128 to 127, found 128"},
		{"not UTF-8", table(t, s, "Kit.Node"), []byte{1<<3 | 2, 1, 0xff}, "name: wanted UTF-8, found byte 0xff"},
		{"cut", table(t, s, "Kit.Node"), []byte{1<<3 | 2, 5, 'a'}, "wanted the wire form of Kit.Node, found bytes that are not"},
		{"unsigned byte of 256", table(t, s, "Kit.Nasty"), []byte{6<<3 | 2, 2, 0x80, 2}, "ubytes[0]: wanted 0 to 255, found 256"},
		{"packed list cut", table(t, s, "Kit.Nasty"), []byte{6<<3 | 2, 1, 0x80}, "ubytes: wanted packed values of UNSIGNED_BYTE, found bytes that are not"},
	} {
		if _, err := tarswire.AppendTARS(nil, c.wire, c.m, nil); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// TestZeros: with Zeros what is required and missing is zero.
func TestZeros(t *testing.T) {
	f := function(t, kit(t), "/Kit.Echo/echoNode")
	got, err := tarswire.AppendTARS(nil, nil, f.In, &tarswire.Options{Zeros: true})
	if want := []byte{0x1a, 0x06, 0x00, 0x0b}; err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, want %x (%v)", got, want, err)
	}
	// A required member with a default gets that, also without Zeros.
	m := table(t, compile(t, `module M { struct S { 0 require int a = 300; 1 require string b = "x"; 2 require vector<int> c; 3 require map<int,int> d; 15 require vector<byte> e; }; };`), "M.S")
	got, err = tarswire.AppendTARS(nil, nil, m, nil)
	if want := []byte{0x01, 1, 44, 0x16, 1, 'x', 0x29, 0x0c, 0x38, 0x0c, 0xfd, 15, 0x00, 0x0c}; err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, want %x (%v)", got, want, err)
	}
}

// TestReplaceUTF8: both ways.
func TestReplaceUTF8(t *testing.T) {
	m := table(t, kit(t), "Kit.Node")
	o := &tarswire.Options{ReplaceUTF8: true}
	long := bytes.Repeat([]byte{'x', 0xff, 0xfe}, 100)
	wire, err := tarswire.AppendWire(nil, tarswire.AppendString(nil, 0, string(long)), m, o)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("x\uFFFD"), 100)
	if got := inJSON(t, wire, m); !strings.Contains(got, string(want)) {
		t.Errorf("%s", got)
	}
	raw := protowire.AppendBytes([]byte{1<<3 | 2}, long)
	tars, err := tarswire.AppendTARS(nil, raw, m, o)
	if err != nil || !bytes.Equal(tars, tarswire.AppendString(nil, 0, string(want))) {
		t.Errorf("%x (%v)", tars, err)
	}
	short, err := tarswire.AppendTARS(nil, []byte{1<<3 | 2, 2, 'a', 0xff}, m, o)
	if want := tarswire.AppendString(nil, 0, "a\uFFFD"); err != nil || !bytes.Equal(short, want) {
		t.Errorf("%x, want %x (%v)", short, want, err)
	}
}

// TestLimits: depth, elements and output are bounded, and what is spent on a hostile message grows as it is long.
func TestLimits(t *testing.T) {
	s := kit(t)
	node := table(t, s, "Kit.Node")
	nested := func(depth int) []byte {
		var b []byte
		for range depth {
			b = append(b, 0x06, 0x00, 0x69, 0x00, 1, 0x0a)
		}
		b = append(b, 0x06, 0x00)
		for range depth {
			b = append(b, 0x0b)
		}
		return b
	}
	if _, err := tarswire.AppendWire(nil, nested(50), node, nil); err != nil {
		t.Errorf("50 structs in 50 lists: %v", err)
	}
	if _, err := tarswire.AppendWire(nil, nested(51), node, nil); err == nil || !strings.HasSuffix(err.Error(), "nested deeper than 100 levels") {
		t.Errorf("51 structs in 51 lists: %v", err)
	}
	wire, err := tarswire.AppendWire(nil, nested(50), node, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tarswire.AppendTARS(nil, wire, node, &tarswire.Options{MaxDepth: 99}); err == nil || !strings.HasSuffix(err.Error(), "nested deeper than 99 levels") {
		t.Errorf("to TARS: %v", err)
	}
	// Unknown members nest as deep as known ones.
	unknown := append(bytes.Repeat([]byte{0xfa, 77}, 100), bytes.Repeat([]byte{0x0b}, 100)...)
	if _, err := tarswire.AppendWire(nil, append([]byte{0x06, 0x00}, unknown...), node, nil); err != nil {
		t.Errorf("100 unknown structs: %v", err)
	}
	unknown = append(bytes.Repeat([]byte{0xfa, 77}, 101), bytes.Repeat([]byte{0x0b}, 101)...)
	if _, err := tarswire.AppendWire(nil, append([]byte{0x06, 0x00}, unknown...), node, nil); err == nil {
		t.Error("101 unknown structs are taken")
	}
	// Elements: each at least a byte.
	nasty := table(t, s, "Kit.Nasty")
	flags := func(n int) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0x69, 0x02}, uint32(n)), bytes.Repeat([]byte{0x0c}, n)...)
	}
	if _, err := tarswire.AppendWire(nil, flags(99_999), nasty, nil); err != nil {
		t.Errorf("99,999 elements: %v", err)
	}
	if _, err := tarswire.AppendWire(nil, flags(100_001), nasty, nil); err == nil || !strings.HasSuffix(err.Error(), "more than 100000 members and elements in one message") {
		t.Errorf("100,001 elements: %v", err)
	}
	// Defaults make a message larger than what was read: two bytes for each struct here.
	m := table(t, compile(t, `module M { struct S { 0 optional string a = "`+strings.Repeat("x", 2000)+`"; }; struct L { 0 optional vector<S> s; }; };`), "M.L")
	list := append(binary.BigEndian.AppendUint32([]byte{0x09, 0x02}, 40_000), bytes.Repeat([]byte{0x0a, 0x0b}, 40_000)...)
	if _, err := tarswire.AppendWire(nil, list, m, nil); err == nil || !strings.HasSuffix(err.Error(), "the message has more than 67108864 bytes with its defaults, the limit") {
		t.Errorf("80 MB of defaults: %v", err)
	}
	if out, err := tarswire.AppendWire(nil, list[:6+2*10_000], m, &tarswire.Options{MaxOutput: 1 << 20}); err == nil || len(out) > 0 {
		t.Errorf("a limit of 1 MiB: %d bytes, %v", len(out), err)
	}
}

// TestLinear: what a translation costs grows as its input, whatever is in it.
func TestLinear(t *testing.T) {
	s := kit(t)
	node, nasty := table(t, s, "Kit.Node"), table(t, s, "Kit.Nasty")
	for _, c := range []struct {
		name string
		m    *tarswire.Message
		tars func(n int) []byte
		wire func(n int) []byte
	}{
		{"fields in turns", node, nil, func(n int) []byte {
			b := []byte{1<<3 | 2, 1, 'n'}
			for range n / 2 {
				b = append(b, 3<<3|2, 1, 'a', 7<<3|2, 3, 1<<3|2, 1, 'c')
			}
			return b
		}},
		{"a struct in pieces", node, nil, func(n int) []byte {
			b := []byte{1<<3 | 2, 1, 'n', 6<<3 | 2, 4, 1 << 3, 1, 2 << 3, 1}
			for range n {
				b = append(b, 6<<3|2, 2, 1<<3, 1)
			}
			return b
		}},
		{"keys in descending order", nasty, nil, func(n int) []byte {
			var b []byte
			for i := range n {
				key := protowire.AppendVarint([]byte{1 << 3}, uint64(n-i))
				b = protowire.AppendBytes(append(b, 2<<3|2), key)
			}
			return b
		}},
		{"the first field last", node, nil, func(n int) []byte {
			b := bytes.Repeat([]byte{3<<3 | 2, 1, 'x'}, n)
			return append(b, 1<<3|2, 1, 'n')
		}},
		{"unknown groups", node, nil, func(n int) []byte {
			b := []byte{1<<3 | 2, 1, 'n'}
			for range n {
				b = append(b, 9<<3|3, 9<<3|4)
			}
			return b
		}},
		{"lists of lists", nasty, func(n int) []byte {
			return append(binary.BigEndian.AppendUint32([]byte{0x09, 0x02}, uint32(n)), bytes.Repeat([]byte{0x09, 0x0c}, n)...)
		}, nil},
		{"unknown structs", nasty, func(n int) []byte {
			return bytes.Repeat([]byte{0xfa, 99, 0x0a, 0x0b, 0x0b}, n)
		}, nil},
		{"lengths of two bytes", node, func(n int) []byte {
			b := binary.BigEndian.AppendUint32([]byte{0x06, 0x00, 0x69, 0x02}, uint32(n))
			for range n {
				b = append(tarswire.AppendString(append(b, 0x0a), 0, strings.Repeat("x", 150)), 0x0b)
			}
			return b
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cost := func(n int) (int, int) {
				if c.tars != nil {
					in := c.tars(n)
					steps, moved, err := tarswire.StepsOfWire(in, c.m, nil)
					if err != nil {
						t.Fatal(err)
					}
					if moved > 2*len(in) {
						t.Errorf("%d bytes moved for %d", moved, len(in))
					}
					return steps, len(in)
				}
				in := c.wire(n)
				steps, scratch, err := tarswire.StepsOfTARS(in, c.m, nil)
				if err != nil {
					t.Fatal(err)
				}
				if most := 28*4*n + 8192; n > 5000 && scratch > most { // small ones find what others left in the pool
					t.Errorf("%d bytes of scratch for %d elements, at most %d wanted", scratch, n, most)
				}
				return steps, len(in)
			}
			small, _ := cost(1000)
			large, size := cost(10_000)
			// What the pool has room for is not counted first, which is a third of the steps at most.
			if large > 15*small || large > 8*size {
				t.Errorf("%d steps for 1,000 and %d for 10,000 (%d bytes)", small, large, size)
			}
		})
	}
}
