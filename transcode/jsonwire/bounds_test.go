package jsonwire_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// wideMessage has as many repeated fields as are asked for, plus one plain one.
func wideMessage(tb testing.TB, fields int) *schema.Message {
	tb.Helper()
	var b strings.Builder
	b.WriteString("message Wide {\n")
	for i := range fields {
		fmt.Fprintf(&b, "  repeated bool f%d = %d [packed = false];\n", i, i+1)
	}
	fmt.Fprintf(&b, "  Wide wide = %d;\n}\n", fields+1)
	return wideOf(tb, b.String())
}

// wideOf is the message Wide as it is declared.
func wideOf(tb testing.TB, declared string) *schema.Message {
	tb.Helper()
	w, err := newWorld(func(name string) (io.ReadCloser, error) {
		if name != "wide.proto" {
			return nil, fs.ErrNotExist
		}
		return io.NopCloser(strings.NewReader("syntax = \"proto3\";\npackage wide;\n" + declared)), nil
	}, "wide.proto")
	if err != nil {
		tb.Fatal(err)
	}
	return w.message(tb, "wide.Wide")
}

// order is one content in its best order and in a bad one.
type order struct {
	name        string
	m           *schema.Message
	json        bool // what goes in; else it is wire bytes
	best, worst []byte
}

func bytesField(n protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), content)
}

func flagField(n protowire.Number) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), 1)
}

// orders are the shapes that cost codecs most which take fields as they come, each as large as the limits let it be.
func orders(tb testing.TB) []order {
	tb.Helper()
	w := theWorld(tb)
	tree, two := w.message(tb, "test.three.Tree"), w.message(tb, "test.two.Two")
	anyMessage := w.message(tb, "google.protobuf.Any")
	wide := wideMessage(tb, 1000)
	var all []order

	// 100,000 elements of 1,000 fields.
	var ordered, interleaved []byte
	for f := range 1000 {
		ordered = append(ordered, bytes.Repeat(flagField(protowire.Number(f+1)), 100)...)
	}
	for range 100 {
		for f := range 1000 {
			interleaved = append(interleaved, flagField(protowire.Number(1000-f))...)
		}
	}
	all = append(all, order{"interleaved", wide, false, ordered, interleaved})

	// 100 levels of 999 fields each, every level out of order, with the next level first or last.
	var inOrder, outOfOrder []byte
	for level := range 100 {
		var up, down []byte
		for f := range 999 {
			up = append(up, flagField(protowire.Number(f+1))...)
			down = append(down, flagField(protowire.Number(999-f))...)
		}
		if level == 0 {
			inOrder, outOfOrder = up, down
			continue
		}
		inOrder, outOfOrder = append(up, bytesField(1001, inOrder)...), append(bytesField(1001, outOfOrder), down...)
	}
	all = append(all, order{"levels out of order", wide, false, inOrder, outOfOrder})

	// A sub-message in 10,000 parts, at one level and at two.
	const parts = 10_000
	kid := bytesField(4, nil)
	all = append(all,
		order{"split", tree, false, bytesField(3, bytes.Repeat(kid, 8*parts)), bytes.Repeat(bytesField(3, bytes.Repeat(kid, 8)), parts)},
		order{
			"split at two levels", tree, false,
			bytesField(3, bytesField(2, bytes.Repeat(kid, 6*parts))),
			bytes.Repeat(bytesField(3, append(bytesField(2, kid), append(bytesField(2, kid), kid...)...)), parts),
		})

	// Messages whose fields are in order but for the first, which comes last: what was written in one look is taken back, where
	// the message has no more fields than that pays for.
	for _, plain := range []int{255, 299} {
		var declared strings.Builder
		declared.WriteString("message Wide {\n")
		for i := range plain {
			fmt.Fprintf(&declared, "  bool f%d = %d;\n", i, i+1)
		}
		fmt.Fprintf(&declared, "  repeated Wide kids = %d;\n}\n", plain+1)
		var early []byte
		for f := range plain {
			early = append(early, flagField(protowire.Number(f+1))...)
		}
		late := append(slices.Clone(early[2:]), early[:2]...)
		in := func(kid []byte) []byte { return bytes.Repeat(bytesField(protowire.Number(plain+1), kid), 90_000/plain) }
		all = append(all, order{fmt.Sprintf("first of %d fields last", plain), wideOf(tb, declared.String()), false, in(early), in(late)})
	}

	// Groups in groups, which a decoder goes over once per level to find their ends.
	group := func(inner []byte) []byte {
		b := protowire.AppendTag(nil, 6, protowire.StartGroupType)
		b = protowire.AppendTag(b, 2, protowire.StartGroupType)
		b = append(b, bytesField(3, inner)...)
		b = protowire.AppendTag(b, 2, protowire.EndGroupType)
		return protowire.AppendTag(b, 6, protowire.EndGroupType)
	}
	content := bytes.Repeat(flagField(4), 50_000)
	shallow, deep := group(content), content
	for range 33 {
		deep = group(deep)
	}
	chain := content // groups directly in groups, unknown to the message
	for range 98 {
		chain = append(append(protowire.AppendTag(nil, 90, protowire.StartGroupType), chain...), protowire.AppendTag(nil, 90, protowire.EndGroupType)...)
	}
	all = append(all, order{"groups", two, false, shallow, deep}, order{"unknown groups", two, false, content, chain})

	// 33,000 map keys, sorted or in the order of a multiplication modulo a prime.
	var sorted, mixed []byte
	const entries, prime, factor = 33_000, 33_013, 7919
	label := func(n int) []byte { return bytesField(7, bytesField(1, fmt.Appendf(nil, "label-%05d", n))) }
	for i := range prime {
		if i < entries {
			sorted = append(sorted, label(i)...)
		}
		if n := i * factor % prime; n < entries {
			mixed = append(mixed, label(n)...)
		}
	}
	all = append(all, order{"map keys", w.message(tb, "test.three.Request"), false, sorted, mixed})

	// An Any whose type is known last, in an Any whose type is known last.
	const typ = `"@type":"type.googleapis.com/test.three.Known"`
	first := `{"rNull":[` + strings.TrimSuffix(strings.Repeat("null,", 90_000), ",") + `],` + typ + `}`
	last := first
	for range 48 {
		first = `{` + typ + `,"any":` + first + `}`
		last = `{"any":` + last + `,` + typ + `}`
	}
	all = append(all, order{"type last", anyMessage, true, []byte(first), []byte(last)})

	// 29,400 lengths of two bytes, in one list or 300 at each of 98 levels.
	kids := func(n int) string {
		return `"kids":[` + strings.TrimSuffix(strings.Repeat(`{"name":"`+strings.Repeat("n", 127)+`"},`, n), ",") + `]`
	}
	nested := `{` + kids(300) + `}`
	for range 97 {
		nested = `{"left":` + nested + `,` + kids(300) + `}`
	}
	all = append(all, order{"lengths at every level", tree, true, []byte(`{` + kids(98*300) + `}`), []byte(nested)})

	// 50 levels of 999 keys, upwards or downwards.
	var upward, downward string
	for range 50 {
		var up, down []string
		for f := range 999 {
			up, down = append(up, fmt.Sprintf(`"f%d":[true]`, f)), append(down, fmt.Sprintf(`"f%d":[true]`, 998-f))
		}
		if upward != "" {
			up, down = append(up, `"wide":`+upward), append([]string{`"wide":` + downward}, down...)
		}
		upward, downward = `{`+strings.Join(up, ",")+`}`, `{`+strings.Join(down, ",")+`}`
	}
	return append(all, order{"keys out of order", wide, true, []byte(upward), []byte(downward)})
}

// cost is what a translation looks at, moves and holds.
func (o order) cost(tb testing.TB, in []byte) jsonwire.Cost {
	tb.Helper()
	count := jsonwire.CostToJSON
	if o.json {
		count = jsonwire.CostToWire
	}
	c, err := count(in, o.m)
	if err != nil {
		tb.Fatalf("%s: %v", o.name, err)
	}
	return c
}

// TestLinear counts what is looked at: the worst order may cost three times the best, and no more. It counts steps (a tag,
// element or occurrence looked at, also when it is looked at again) and not time, since a count is the same on every machine
// and every run; BenchmarkOrders shows that processor time follows it.
func TestLinear(t *testing.T) {
	for _, o := range orders(t) {
		t.Run(o.name, func(t *testing.T) {
			best, worst := o.cost(t, o.best), o.cost(t, o.worst)
			t.Logf("%d elements: %d steps in order, %d out of order", worst.Elements, best.Steps, worst.Steps)
			if best.Steps < best.Elements/2 || best.Steps < 40_000 || worst.Steps > 3*best.Steps {
				t.Errorf("%d steps in order, %d out of order", best.Steps, worst.Steps)
			}
			if worst.Moved > worst.Output {
				t.Errorf("%d bytes are moved for an output of %d: some more than once", worst.Moved, worst.Output)
			}
		})
	}
}

// TestScratch holds what a translation has allocated for itself, the room for growth included, to 16 bytes for each element
// that counts against MaxElements, and a fixed sum for the levels and the schema's tables. Capacities are counted, not what
// the allocator says, which is rounded.
func TestScratch(t *testing.T) {
	const fixed = 128 << 10
	w := theWorld(t)
	request, two, maps := w.message(t, "test.three.Request"), w.message(t, "test.two.Two"), w.message(t, "test.three.Maps")
	all := orders(t)
	add := func(name string, m *schema.Message, json bool, in []byte) {
		all = append(all, order{name, m, json, in, in})
	}
	add("empty map entries", request, false, bytes.Repeat(bytesField(7, nil), 33_000))
	var entries, fields []byte
	for i := range 24_000 {
		entries = append(append(entries, bytesField(7, bytesField(1, []byte(strconv.Itoa(99_999-i))))...), flagField(2)...)
	}
	add("map entries out of order", request, false, entries)
	add("groups side by side", two, false, bytes.Repeat([]byte{7<<3 | 3, 7<<3 | 4}, 49_999))
	add("groups inside an unknown one", two, false, append(append([]byte{0xfb, 0x01}, bytes.Repeat([]byte{7<<3 | 3, 7<<3 | 4}, 99_000)...), 0xfc, 0x01))
	for i := range 30_000 {
		fields = append(fields, fmt.Sprintf(`,"%d":{"name":"%s"}`, i, strings.Repeat("n", 100))...)
	}
	add("map in JSON", maps, true, append(append([]byte(`{"mTree":{`), fields[1:]...), `}}`...))
	add("maps in maps in JSON", w.message(t, "google.protobuf.Value"), true,
		[]byte(`[`+strings.TrimSuffix(strings.Repeat(`{"a":{"b":{"c":0}}},`, 12_000), ",")+`]`))
	add("Any with its type last", w.message(t, "google.protobuf.Any"), true,
		[]byte(`{"rEmpty":[`+strings.TrimSuffix(strings.Repeat(`{},`, 99_000), ",")+`],"@type":"type.googleapis.com/test.three.Known"}`))
	for _, o := range all {
		t.Run(o.name, func(t *testing.T) {
			for _, in := range [][]byte{o.best, o.worst} {
				c := o.cost(t, in)
				t.Logf("%d elements, %d bytes of scratch: %.1f each", c.Elements, c.Scratch, float64(c.Scratch)/float64(c.Elements))
				if len(in) < 40_000 || c.Scratch > 16*c.Elements+fixed {
					t.Errorf("%d elements take %d bytes of scratch, more than 16 each and %d", c.Elements, c.Scratch, fixed)
				}
			}
		})
	}
}
