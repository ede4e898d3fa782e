package jsonwire_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func TestDepth(t *testing.T) {
	w := theWorld(t)
	const deep = 100_000
	tree, known, two := w.message(t, "test.three.Tree"), w.message(t, "test.three.Known"), w.message(t, "test.two.Two")
	nest := func(open, inner, closing string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(closing, n)
	}
	anyOpen := `{"@type":"type.googleapis.com/google.protobuf.Any","value":`
	texts := []struct {
		name string
		m    *schema.Message
		most int // levels that are taken
		in   func(n int) string
	}{
		{name: "messages", m: tree, most: 99, in: func(n int) string { return nest(`{"left":`, `{}`, `}`, n) }},
		{name: "lists of messages", m: tree, most: 99, in: func(n int) string { return nest(`{"kids":[`, `{}`, `]}`, n) }},
		{name: "arrays", m: known, most: 98, in: func(n int) string { return `{"list":` + nest(`[`, `[]`, `]`, n) + `}` }},
		{name: "objects", m: known, most: 98, in: func(n int) string { return `{"value":` + nest(`{"a":`, `1`, `}`, n) + `}` }},
		{name: "any", m: w.message(t, "google.protobuf.Any"), most: 98, in: func(n int) string { return nest(anyOpen, `{}`, `}`, n) }},
	}
	for _, c := range texts {
		t.Run(c.name, func(t *testing.T) {
			for _, n := range []int{1, 50, c.most} {
				wire, err := jsonwire.AppendWire(nil, []byte(c.in(n)), c.m, nil)
				if err != nil {
					t.Fatalf("%d levels: %v", n, err)
				}
				if _, err := jsonwire.AppendJSON(nil, wire, c.m, nil); err != nil {
					t.Fatalf("%d levels back: %v", n, err)
				}
			}
			for _, n := range []int{c.most + 2, deep} {
				if _, err := jsonwire.AppendWire(nil, []byte(c.in(n)), c.m, nil); err == nil {
					t.Fatalf("%d levels are taken", n)
				}
			}
		})
	}
	for _, ignored := range []string{nest(`[`, ``, `]`, deep), nest(`{"a":`, `1`, `}`, deep), strings.Repeat(`[`, deep)} {
		if _, err := jsonwire.AppendWire(nil, []byte(`{"ignored":`+ignored+`}`), tree, &jsonwire.Options{IgnoreUnknown: true}); err == nil {
			t.Fatal("an ignored field is taken at any depth")
		}
	}
	var lengths []byte
	for range deep {
		lengths = append(protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.BytesType), uint64(len(lengths))), lengths...)
		if len(lengths) > 1<<10 {
			break
		}
	}
	for name, c := range map[string]struct {
		m    *schema.Message
		wire []byte
	}{
		"messages":       {tree, lengths},
		"known groups":   {two, append(bytes.Repeat([]byte{0x33}, deep), bytes.Repeat([]byte{0x34}, deep)...)},
		"unknown groups": {tree, append(bytes.Repeat([]byte{0xfb, 0x01}, deep), bytes.Repeat([]byte{0xfc, 0x01}, deep)...)},
		"open groups":    {two, bytes.Repeat([]byte{0x33}, deep)},
		// Not so many that the limit of elements would refuse them.
		"some unknown groups": {tree, append(bytes.Repeat([]byte{0xfb, 0x01}, 101), bytes.Repeat([]byte{0xfc, 0x01}, 101)...)},
		"overridden messages": {tree, append(bytesField(8, []byte(nestedWire(500))), number(9, 1)...)},
	} {
		if _, err := jsonwire.AppendJSON(nil, c.wire, c.m, nil); err == nil {
			t.Errorf("%s are taken at any depth", name)
		}
	}
}

func TestElements(t *testing.T) {
	w := theWorld(t)
	const most = 100_000
	scalars, tree := w.message(t, "test.three.Scalars"), w.message(t, "test.three.Tree")
	list := func(name, element string, n int) []byte {
		return []byte(`{"` + name + `":[` + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + `]}`)
	}
	labels := func(n int) []byte {
		b := []byte(`{"labels":{"":""`)
		for i := range n - 1 {
			b = append(strconv.AppendInt(append(b, `,"`...), int64(i), 10), `":""`...)
		}
		return append(b, `}}`...)
	}
	for name, c := range map[string]struct {
		m    *schema.Message
		in   func(n int) []byte
		most int
	}{
		"numbers":  {scalars, func(n int) []byte { return list("rInt32", "7", n) }, most - 1},
		"strings":  {scalars, func(n int) []byte { return list("rString", `""`, n) }, most - 1},
		"messages": {tree, func(n int) []byte { return list("kids", `{}`, n) }, most - 1},
		"values":   {w.message(t, "google.protobuf.Value"), func(n int) []byte { return list("a", `[]`, n) }, most - 2}, // a map entry is two
		"map":      {w.message(t, "test.three.Request"), labels, most/2 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			wire, err := jsonwire.AppendWire(nil, c.in(c.most), c.m, nil)
			if err != nil {
				t.Fatal(err)
			}
			if name != "values" && name != "map" { // which have more fields on the wire than elements in JSON
				if _, err := jsonwire.AppendJSON(nil, wire, c.m, nil); err != nil {
					t.Fatal(err)
				}
			}
			if _, err = jsonwire.AppendWire(nil, c.in(c.most+1), c.m, nil); err == nil {
				t.Fatal("one more is taken")
			}
			if _, err = jsonwire.AppendJSON(nil, append(wire, wire...), c.m, nil); err == nil {
				t.Fatal("twice as many are taken on the wire")
			}
		})
	}
	if _, err := jsonwire.AppendWire(nil, list("rInt32", "7", 3), scalars, &jsonwire.Options{MaxElements: 3}); err == nil {
		t.Error("MaxElements is not kept")
	}
	plain := []byte(text(1, "n") + number(2, 5) + number(3, 1))
	request := w.message(t, "test.three.Request")
	if _, err := jsonwire.AppendJSON(nil, plain, request, &jsonwire.Options{MaxElements: 3}); err != nil {
		t.Error(err)
	}
	if _, err := jsonwire.AppendJSON(nil, plain, request, &jsonwire.Options{MaxElements: 2}); err == nil {
		t.Error("MaxElements is not kept in plain fields")
	}
	if _, err := jsonwire.AppendWire(nil, []byte(`{"left":{}}`), tree, &jsonwire.Options{MaxDepth: 1}); err == nil {
		t.Error("MaxDepth is not kept")
	}
}
