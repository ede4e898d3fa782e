package jsonwire_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"

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
	for name, c := range map[string]struct {
		m    *schema.Message
		in   func(n int) []byte
		most int
	}{
		"numbers":  {scalars, func(n int) []byte { return list("rInt32", "7", n) }, most - 1},
		"strings":  {scalars, func(n int) []byte { return list("rString", `""`, n) }, most - 1},
		"messages": {tree, func(n int) []byte { return list("kids", `{}`, n) }, most - 1},
		"values":   {w.message(t, "google.protobuf.Value"), func(n int) []byte { return list("a", `[]`, n) }, most - 1},
	} {
		t.Run(name, func(t *testing.T) {
			wire, err := jsonwire.AppendWire(nil, c.in(c.most), c.m, nil)
			if err != nil {
				t.Fatal(err)
			}
			if name != "values" { // which have more fields on the wire than elements in JSON
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
	if _, err := jsonwire.AppendWire(nil, []byte(`{"left":{}}`), tree, &jsonwire.Options{MaxDepth: 1}); err == nil {
		t.Error("MaxDepth is not kept")
	}
}

// wideMessage has as many repeated fields as are asked for, plus one plain one.
func wideMessage(t *testing.T, fields int) *schema.Message {
	t.Helper()
	var b strings.Builder
	b.WriteString("syntax = \"proto3\";\npackage wide;\nmessage Wide {\n")
	for i := range fields {
		fmt.Fprintf(&b, "  repeated bool f%d = %d [packed = false];\n", i, i+1)
	}
	fmt.Fprintf(&b, "  Wide wide = %d;\n}\n", fields+1)
	c := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"wide.proto": b.String()})}}
	files, err := c.Compile(context.Background(), "wide.proto")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := protodesc.NewFile(protodesc.ToFileDescriptorProto(files[0]), nil)
	if err != nil {
		t.Fatal(err)
	}
	var reg protoregistry.Files
	if err := reg.RegisterFile(fd); err != nil {
		t.Fatal(err)
	}
	s, err := schema.New(&reg)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := s.Message("wide.Wide")
	return m
}

// TestLinear counts what is looked at: input in its worst order may cost three times the best, and no more.
func TestLinear(t *testing.T) {
	w := theWorld(t)
	tree, two := w.message(t, "test.three.Tree"), w.message(t, "test.two.Two")
	wide := wideMessage(t, 1000)
	field := func(n protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), content)
	}
	flag := func(n protowire.Number) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), 1)
	}
	var ordered, interleaved []byte
	for f := range 1000 {
		for range 90 {
			ordered = append(ordered, flag(protowire.Number(f+1))...)
		}
	}
	for range 90 {
		for f := range 1000 {
			interleaved = append(interleaved, flag(protowire.Number(1000-f))...)
		}
	}
	var inOrder, outOfOrder []byte
	for range 98 {
		var head []byte
		for f := range 500 {
			head = append(head, flag(protowire.Number(f+1))...)
		}
		inOrder = append(head, field(1001, inOrder)...)
		var tail []byte
		for f := range 500 {
			tail = append(tail, flag(protowire.Number(500-f))...)
		}
		outOfOrder = append(field(1001, outOfOrder), tail...)
	}
	const parts = 10_000
	one, many := field(3, bytes.Repeat(field(4, nil), parts)), bytes.Repeat(field(3, field(4, nil)), parts)
	group := func(inner []byte) []byte {
		b := protowire.AppendTag(nil, 6, protowire.StartGroupType)
		b = protowire.AppendTag(b, 2, protowire.StartGroupType)
		b = append(b, field(3, inner)...)
		b = protowire.AppendTag(b, 2, protowire.EndGroupType)
		return protowire.AppendTag(b, 6, protowire.EndGroupType)
	}
	content := bytes.Repeat(flag(4), 50_000)
	shallow, deep := group(content), content
	for range 33 {
		deep = group(deep)
	}
	chain := content // groups directly in groups, unknown to the message
	for range 98 {
		chain = append(append(protowire.AppendTag(nil, 90, protowire.StartGroupType), chain...), protowire.AppendTag(nil, 90, protowire.EndGroupType)...)
	}
	for _, c := range []struct {
		name        string
		m           *schema.Message
		best, worst []byte
	}{
		{"interleaved", wide, ordered, interleaved},
		{"levels out of order", wide, inOrder, outOfOrder},
		{"split", tree, one, many},
		{"groups", two, shallow, deep},
		{"unknown groups", two, content, chain},
	} {
		t.Run(c.name, func(t *testing.T) {
			best, err := jsonwire.StepsToJSON(c.best, c.m)
			if err != nil {
				t.Fatal(err)
			}
			worst, err := jsonwire.StepsToJSON(c.worst, c.m)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d steps in order, %d out of order", best, worst)
			if best < len(c.best)/20 || worst > 3*best {
				t.Errorf("%d steps in order, %d out of order", best, worst)
			}
		})
	}
	t.Run("type last", func(t *testing.T) {
		const typ = `"@type":"type.googleapis.com/test.three.Known"`
		inner := `{"rNull":[` + strings.TrimSuffix(strings.Repeat("null,", 20_000), ",") + `],` + typ + `}`
		first, last := inner, inner
		for range 48 {
			first = `{` + typ + `,"any":` + first + `}`
			last = `{"any":` + last + `,` + typ + `}`
		}
		best, err := jsonwire.StepsToWire([]byte(first), w.message(t, "google.protobuf.Any"))
		if err != nil {
			t.Fatal(err)
		}
		worst, err := jsonwire.StepsToWire([]byte(last), w.message(t, "google.protobuf.Any"))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d steps with the type first, %d with it last", best, worst)
		if best < 20_000 || worst > 3*best {
			t.Errorf("%d steps with the type first, %d with it last", best, worst)
		}
	})
}
