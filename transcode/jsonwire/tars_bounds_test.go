package jsonwire_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// tarsOrders are orders of messages of TARS.
func tarsOrders(tb testing.TB) []order {
	tb.Helper()
	w := theTars(tb)
	nested, keyed := w.message(tb, "Shapes.Nested"), w.message(tb, "Shapes.Keyed")
	var all []order

	// 24,000 entries, as a list, or as an object whose names are JSON.
	var entries, names []string
	for i := range 24_000 {
		entries = append(entries, fmt.Sprintf(`{"key":{"x":%d},"value":{}}`, i))
		names = append(names, fmt.Sprintf(`"{\"x\":%d}":{}`, i))
	}
	all = append(all, order{"names that are JSON", keyed, true, []byte(`{"byStruct":[` + strings.Join(entries, ",") + `]}`), []byte(`{"byStruct":{` + strings.Join(names, ",") + `}}`)})

	// Vectors of three, each whole or in three parts that are packed apart, beside a field that belongs before.
	var whole, parts []byte
	for range 10_000 {
		whole = append(whole, bytesField(1, bytesField(1, []byte{1, 2, 3}))...)
		parts = append(parts, bytesField(1, append(append(bytesField(1, []byte{1}), 1<<3, 2), bytesField(1, []byte{3})...))...)
	}
	last := protowire.AppendVarint(protowire.AppendTag(nil, 13, protowire.VarintType), 1)
	all = append(all, order{"vectors in parts", nested, false, append(bytes.Clone(whole), last...), append(last, parts...)})

	// Entries whose value stands before the key, with another key before that does not count.
	var tidy, untidy []byte
	key := func(n byte) []byte {
		return append(protowire.AppendTag(nil, 1, protowire.Fixed64Type), n, 0, 0, 0, 0, 0, 0, 0)
	}
	for i := range 20_000 {
		tidy = append(tidy, bytesField(1, append(key(byte(i)), bytesField(2, []byte("v"))...))...)
		untidy = append(untidy, bytesField(1, bytes.Join([][]byte{key(1), bytesField(2, []byte("v")), key(byte(i))}, nil))...)
	}
	return append(all, order{"entries out of order", keyed, false, tidy, untidy})
}

func TestTarsLinear(t *testing.T) {
	const fixed = 128 << 10
	for _, o := range tarsOrders(t) {
		t.Run(o.name, func(t *testing.T) {
			best, worst := o.cost(t, o.best), o.cost(t, o.worst)
			t.Logf("%d elements: %d steps in order, %d out of order, %d bytes of scratch", worst.Elements, best.Steps, worst.Steps, worst.Scratch)
			if best.Steps < best.Elements/2 || best.Steps < 20_000 || worst.Steps > 3*best.Steps {
				t.Errorf("%d steps in order, %d out of order", best.Steps, worst.Steps)
			}
			if worst.Moved > worst.Output {
				t.Errorf("%d bytes are moved for an output of %d", worst.Moved, worst.Output)
			}
			if worst.Scratch > 16*worst.Elements+fixed {
				t.Errorf("%d elements take %d bytes of scratch", worst.Elements, worst.Scratch)
			}
		})
	}
}

// TestTarsElements: what the SDKs write as an object counts like the list, and stops where it does.
func TestTarsElements(t *testing.T) {
	w := theTars(t)
	m := w.message(t, "Shapes.Keyed")
	for _, text := range []string{
		`{"byDouble":{` + strings.TrimSuffix(strings.Repeat(`"1":"",`, 60_000), ",") + `}}`,
		`{"byDouble":[` + strings.TrimSuffix(strings.Repeat(`{"key":1,"value":""},`, 40_000), ",") + `]}`,
	} {
		if _, err := jsonwire.AppendWire(nil, []byte(text), m, nil); err == nil || !strings.Contains(err.Error(), "more than 100000 fields and elements") {
			t.Errorf("%.40s: %v", text, err)
		}
	}
	// Numbers of a vector of bytes are no elements: a byte of output takes two of text.
	blob := []byte(`{"byBytes":[{"key":[` + strings.TrimSuffix(strings.Repeat("-1,", 300_000), ",") + `]}]}`)
	wire, err := jsonwire.AppendWire(nil, blob, m, nil)
	if err != nil || len(wire) < 300_000 || len(wire) > 300_020 {
		t.Errorf("%d bytes, %v", len(wire), err)
	}
	back, err := jsonwire.AppendJSON(nil, wire, m, &jsonwire.Options{BytesAsArray: true})
	if want := bytes.Replace(blob, []byte("]}]}"), []byte(`],"value":[]}]}`), 1); err != nil || !bytes.Equal(back, want) {
		t.Errorf("%d bytes come back as %d, %v", len(blob), len(back), err)
	}
}

// TestTarsAllocBudget holds the forms of TARS to no allocation at all once the buffers have grown.
func TestTarsAllocBudget(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w := theTars(t)
	sdk := tarsOptions(31)
	for root, text := range map[string]string{
		"Shapes.Nested": `{"matrix":[[1,2],[3]],"rows":[{"a":"1"}],"groups":{"x":[1.5]},"flags":{"true":{"false":true}},"chunks":[[1,-1,255]],"blob":[1,2,3],"parts":[[{"level":"HIGH"}]]}`,
		"Shapes.Keyed": `{"byDouble":[{"key":1.5,"value":"a"}],"byFloat":{"2.5":[1]},"byStruct":{"{\"x\":1,\"name\":\"a\\\"b\"}":{"x":2}},"byBytes":[{"key":[1],"value":"AQ=="}],` +
			`"byVector":{"[1,2]":{"a":"b"}},"yesNo":{"1":1}}`,
		"Shapes.countResponse": `{"tars_ret":9007199254740993}`,
	} {
		m := w.message(t, root)
		in, dst := []byte(text), make([]byte, 0, 64<<10)
		wire, err := jsonwire.AppendWire(nil, in, m, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, run := range map[string]func() ([]byte, error){
			"to wire":               func() ([]byte, error) { return jsonwire.AppendWire(dst, in, m, nil) },
			"to JSON":               func() ([]byte, error) { return jsonwire.AppendJSON(dst, wire, m, nil) },
			"to JSON as SDKs write": func() ([]byte, error) { return jsonwire.AppendJSON(dst, wire, m, &sdk) },
		} {
			if n := testing.AllocsPerRun(50, func() {
				if _, err := run(); err != nil {
					t.Error(err)
				}
			}); n > 0 {
				t.Errorf("%s %s: %v allocations, 0 are allowed", root, name, n)
			}
		}
	}
}

// BenchmarkTars measures the JSON view of nested vectors beside that of protobuf for the same message.
func BenchmarkTars(b *testing.B) {
	tars := theTars(b).message(b, "Shapes.Nested")
	row := strings.TrimSuffix(strings.Repeat("1234,", 8), ",")
	matrix := `{"matrix":[` + strings.TrimSuffix(strings.Repeat("["+row+"],", 20), ",") + `]}`
	in := []byte(matrix)
	wire, err := jsonwire.AppendWire(nil, in, tars, nil)
	if err != nil {
		b.Fatal(err)
	}
	var dst []byte
	b.Run("to_wire", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			if dst, err = jsonwire.AppendWire(dst[:0], in, tars, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("to_JSON", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			if dst, err = jsonwire.AppendJSON(dst[:0], wire, tars, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
