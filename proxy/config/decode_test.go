package config

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/dynamicpb"
)

// kinds compiles testdata/kinds.proto.
func kinds(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{"testdata"}})}
	files, err := c.Compile(context.Background(), "kinds.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0].Messages().ByName("Kinds")
}

// readOne reads a document as any message.
func readOne(t testing.TB, md protoreflect.MessageDescriptor, text string) (proto.Message, error) {
	t.Helper()
	src := newSource("test.yaml", text)
	node, fault := parseYAML(src)
	if fault != nil {
		return nil, Faults{fault}
	}
	m := dynamicpb.NewMessage(md)
	if node == nil {
		return m, nil
	}
	r := &reader{doc: &Document{root: &place{index: -1}}, file: src, newMessage: func(md protoreflect.MessageDescriptor) (protoreflect.Message, error) {
		return dynamicpb.NewMessage(md), nil
	}}
	r.message(node, m, r.doc.root)
	return m, r.faults.sorted()
}

// TestProtoJSON compares the reader with protojson over texts that are JSON and YAML at once: what one takes the other
// takes too, with the same result, but for the exceptions that are named.
func TestProtoJSON(t *testing.T) {
	md := kinds(t)
	const (
		same     = iota
		stricter // refused here, taken by protojson
	)
	tests := []struct {
		text string
		want int
	}{
		{text: `{}`},
		{text: `{"b": true}`},
		{text: `{"b": "true"}`},
		{text: `{"b": 1}`},
		{text: `{"i32": 2147483647}`},
		{text: `{"i32": -2147483648}`},
		{text: `{"i32": 2147483648}`},
		{text: `{"i32": -2147483649}`},
		{text: `{"i32": "5"}`},
		{text: `{"i32": "-5"}`},
		{text: `{"i32": " 5"}`},
		{text: `{"i32": ""}`},
		{text: `{"i32": "0x5"}`},
		{text: `{"i32": 1.0}`},
		{text: `{"i32": 1e3}`},
		{text: `{"i32": 1.5}`},
		{text: `{"i32": 10e-1}`},
		{text: `{"i32": 15e-1}`},
		{text: `{"i32": 1.5e1}`},
		{text: `{"i32": 0.0}`},
		{text: `{"i32": -0}`},
		{text: `{"i32": 100000e-5}`},
		{text: `{"i32": 1e10}`},
		{text: `{"i32": 0.00021474e8}`},
		{text: `{"i32": true}`},
		{text: `{"i32": []}`},
		{text: `{"i32": {}}`},
		{text: `{"s32": -1}`},
		{text: `{"sf32": 7}`},
		{text: `{"u32": 4294967295}`},
		{text: `{"u32": 4294967296}`},
		{text: `{"u32": -1}`},
		{text: `{"f32": "9"}`},
		{text: `{"i64": 9223372036854775807}`},
		{text: `{"i64": "9223372036854775807"}`},
		{text: `{"i64": 9223372036854775808}`},
		{text: `{"i64": -9223372036854775808}`},
		{text: `{"i64": -9223372036854775809}`},
		{text: `{"i64": 9.223372036854775807e18}`},
		{text: `{"i64": 1e18}`},
		{text: `{"i64": 1e19}`},
		{text: `{"i64": 1e400}`},
		{text: `{"i64": 0e5}`},
		{text: `{"s64": "-1"}`},
		{text: `{"sf64": 3}`},
		{text: `{"u64": 18446744073709551615}`},
		{text: `{"u64": "18446744073709551616"}`},
		{text: `{"u64": 1.8446744073709551615e19}`},
		{text: `{"f64": 1}`},
		{text: `{"u64": "-1"}`},
		{text: `{"fl": 1.5}`},
		{text: `{"fl": 3.4028235e38}`},
		{text: `{"fl": 3.5e38}`},
		{text: `{"fl": "NaN"}`},
		{text: `{"fl": "Infinity"}`},
		{text: `{"fl": "-Infinity"}`},
		{text: `{"fl": "inf"}`},
		{text: `{"fl": "1.5"}`},
		{text: `{"fl": 1e-50}`},
		{text: `{"fl": 0.1}`},
		{text: `{"db": 1.7976931348623157e308}`},
		{text: `{"db": 1e309}`},
		{text: `{"db": 0.1}`},
		{text: `{"db": -0.0}`},
		{text: `{"db": 5}`},
		{text: `{"db": "x"}`},
		{text: `{"db": 5e-324}`},
		{text: `{"str": "x"}`},
		{text: `{"str": ""}`},
		{text: `{"str": 5}`},
		{text: `{"str": true}`},
		{text: `{"str": "ü\u0041\n"}`},
		{text: `{"byt": "YWI="}`},
		{text: `{"byt": "YWI"}`},
		{text: `{"byt": "-_-_"}`},
		{text: `{"byt": "+/+/"}`},
		{text: `{"byt": "-/=="}`},
		{text: `{"byt": "Y"}`},
		{text: `{"byt": 5}`},
		{text: `{"byt": ""}`},
		{text: `{"level": "LEVEL_HIGH"}`},
		{text: `{"level": "LEVEL_NONE"}`},
		{text: `{"level": 1}`, want: stricter},
		{text: `{"level": 99}`, want: stricter},
		{text: `{"level": ""}`},
		{text: `{"child": {"child": {"i32": 1}}}`},
		{text: `{"child": []}`},
		{text: `{"child": "x"}`},
		{text: `{"list_of_int": [1, "2", 3.0]}`},
		{text: `{"listOfInt": []}`},
		{text: `{"listOfInt": 1}`},
		{text: `{"listOfInt": [null]}`},
		{text: `{"listOfInt": null}`},
		{text: `{"children": [{"i32": 1}, {}]}`},
		{text: `{"children": {}}`},
		{text: `{"labels": {"a": "b", "": ""}}`},
		{text: `{"labels": {"a": 1}}`},
		{text: `{"labels": []}`},
		{text: `{"labels": {"a": "b", "a": "c"}}`},
		{text: `{"labels": {"a": null}}`},
		{text: `{"by_number": {"1": {"i32": 2}, "-7": {}}}`},
		{text: `{"byNumber": {"x": {}}}`},
		{text: `{"byBool": {"true": "LEVEL_LOW"}}`},
		{text: `{"byBool": {"yes": "LEVEL_LOW"}}`},
		{text: `{"byNumber": {"2147483648": {}}}`},
		{text: `{"rates": {"18446744073709551615": 0.5}}`},
		{text: `{"duration": "1.5s"}`},
		{text: `{"duration": "-1.5s"}`},
		{text: `{"duration": "0s"}`},
		{text: `{"duration": "315576000000s"}`},
		{text: `{"duration": "315576000001s"}`},
		{text: `{"duration": "-315576000000s"}`},
		{text: `{"duration": "315576000000.1s"}`, want: stricter},
		{text: `{"duration": "1.000000001s"}`},
		{text: `{"duration": "1.0000000001s"}`},
		{text: `{"duration": "1"}`},
		{text: `{"duration": "1m"}`},
		{text: `{"duration": 1}`},
		{text: `{"duration": "-0.5s"}`},
		{text: `{"duration": "01s"}`},
		{text: `{"duration": "1.s"}`, want: stricter},
		{text: `{"duration": "+1s"}`, want: stricter},
		{text: `{"duration": ".5s"}`, want: stricter},
		{text: `{"durations": ["1s", "2s"]}`},
		{text: `{"durations": [null]}`},
		{text: `{"timestamp": "2026-01-02T03:04:05Z"}`},
		{text: `{"timestamp": "2026-01-02T03:04:05.123456789+01:00"}`},
		{text: `{"timestamp": "0001-01-01T00:00:00Z"}`},
		{text: `{"timestamp": "9999-12-31T23:59:59.999999999Z"}`},
		{text: `{"timestamp": "0000-12-31T00:00:00Z"}`},
		{text: `{"timestamp": "2026-13-01T00:00:00Z"}`},
		{text: `{"timestamp": "2026-01-01"}`},
		{text: `{"timestamp": "2026-01-01t00:00:00z"}`},
		{text: `{"timestamp": "2026-02-30T00:00:00Z"}`},
		{text: `{"timestamp": "0001-01-01T00:00:00+01:00"}`},
		{text: `{"timestamp": "2026-01-01T00:00:00.Z"}`},
		{text: `{"timestamp": "2026-01-01T00:00:00,5Z"}`, want: stricter},
		{text: `{"bool_value": false}`},
		{text: `{"bool_value": null}`},
		{text: `{"int64_value": "0"}`},
		{text: `{"string_value": ""}`},
		{text: `{"bytes_value": "YQ=="}`},
		{text: `{"double_value": "NaN"}`},
		{text: `{"double_value": {}}`},
		{text: `{"string_value": "x"}`},
		{text: `{"struct": {"a": 1, "b": [true, null, "x", {"c": 1.5}], "": {}}}`},
		{text: `{"struct": []}`},
		{text: `{"value": null}`},
		{text: `{"value": [1, "a"]}`},
		{text: `{"value": {"a": null}}`},
		{text: `{"value": 1e3}`},
		{text: `{"value": "1"}`},
		{text: `{"value": false}`},
		{text: `{"list_value": [null, 1]}`},
		{text: `{"list_value": {}}`},
		{text: `{"maybe": 0}`},
		{text: `{"maybe": null}`, want: stricter},
		{text: `{"left": ""}`},
		{text: `{"right": 0}`},
		{text: `{"left": "a", "right": 1}`},
		{text: `{"middle": {}}`},
		{text: `{"left": null}`, want: stricter},
		{text: `{"i32": 1, "i32": 2}`},
		{text: `{"listOfInt": [1], "list_of_int": [2]}`},
		{text: `{"unknown": 1}`},
		{text: `{"I32": 1}`},
		{text: `[]`},
		{text: `"x"`},
		{text: `{"child": null}`, want: stricter},
		{text: `{"i32": null}`, want: stricter},
	}
	for _, test := range tests {
		want := dynamicpb.NewMessage(md)
		wantErr := protojson.Unmarshal([]byte(test.text), want)
		got, gotErr := readOne(t, md, test.text)
		switch {
		case test.want == stricter:
			if wantErr != nil || gotErr == nil {
				t.Errorf("%s: protojson says %v, the reader %v; want it refused by the reader only", test.text, wantErr, gotErr)
			}
		case (wantErr == nil) != (gotErr == nil):
			t.Errorf("%s: protojson says %v, the reader %v", test.text, wantErr, gotErr)
		case wantErr == nil && !equal(want, got):
			t.Errorf("%s: (-protojson +reader)\n%s", test.text, cmp.Diff(proto.Message(want), got, protocmp.Transform()))
		}
	}
}

// equal compares encoded, so that NaN equals NaN and -0 differs from 0.
func equal(a, b proto.Message) bool {
	opts := proto.MarshalOptions{Deterministic: true}
	x, errX := opts.Marshal(a)
	y, errY := opts.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

func TestYAMLOnly(t *testing.T) {
	md := kinds(t)
	tests := []struct {
		name, text string
		want       string // JSON; empty: refused
		fault      string
	}{
		{name: "binary", text: "i32: 0b11", fault: "write it in decimal digits: 3"},
		{name: "octal", text: "i32: 0o17", fault: "write it in decimal digits: 15"},
		{name: "plus", text: "i32: +5", fault: "write it without sign and leading zeros: 5"},
		{name: "yes", text: "b: yes", fault: "write true"},
		{name: "nan", text: "db: .nan", fault: `write "NaN"`},
		{name: "loop", text: "value: &v [1, *v]", fault: "the alias *v stands for something that contains it"},
		{name: "loop through mapping", text: "struct: &s {a: {b: *s}}", fault: "the alias *s stands for something that contains it"},
		{name: "growing aliases", text: "struct:\n  a: &a [1,1,1,1,1,1,1,1,1,1]\n  b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n  c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n  d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n  e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n", fault: "aliases stand for more than 10000 values"},
		{name: "aliases", text: "child: &c {i32: 1}\nchildren: [*c, *c]", want: `{"child":{"i32":1},"children":[{"i32":1},{"i32":1}]}`},
		{name: "enum number", text: "level: 2", fault: "write high"},
		{name: "enum near", text: "level: Hihg", fault: "write high; one of low, high"},
		{name: "enum short", text: "level: high", want: `{"level":"LEVEL_HIGH"}`},
		{name: "enum unsaid", text: "level: unspecified", fault: "write one of low, high"},
		{name: "date", text: "str: 2026-01-02", want: `{"str":"2026-01-02"}`},
		{name: "merge in map", text: "labels: {<<: {a: b}}", fault: "wanted a plain key"},
		{name: "list in map", text: "labels: {a: [b]}", fault: `labels["a"]: wanted a string, found a list`},
		{name: "unicode escape", text: `str: "\ud800"`, fault: "not YAML"},
		{name: "byte order mark", text: "\ufeffi32: 1", want: `{"i32":1}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readOne(t, md, test.text)
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) {
					t.Fatalf("error:\n%v\nwant %q in it", err, test.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := dynamicpb.NewMessage(md)
			if err := protojson.Unmarshal([]byte(test.want), want); err != nil {
				t.Fatal(err)
			}
			if !equal(want, got) {
				t.Errorf("(-want +got)\n%s", cmp.Diff(proto.Message(want), got, protocmp.Transform()))
			}
		})
	}
}

// FuzzScalars compares the conversion of single values with protojson's.
func FuzzScalars(f *testing.F) {
	for _, s := range []string{`1`, `-1`, `1e3`, `1.5`, `0.1e1`, `9223372036854775807`, `1e400`, `-0`, `"5"`, `"1.5s"`, `"YWI="`, `null`, `true`, `"LEVEL_LOW"`, `"2026-01-02T03:04:05.5Z"`, `"NaN"`, `3.4028236e38`, `1e-400`, `123456789012345678901234567890e-20`, `1e-1`} {
		f.Add(s)
	}
	md := kinds(f)
	fields := []string{"b", "i32", "u32", "i64", "u64", "fl", "db", "byt", "duration", "timestamp"}
	f.Fuzz(func(t *testing.T, value string) {
		if len(value) > 64 || !json.Valid([]byte(value)) || strings.ContainsAny(value, "\\$[{\t\n\r") {
			return // what is not JSON, or what YAML or ${...} give a meaning of their own
		}
		for _, name := range fields {
			text := `{"` + name + `": ` + value + `}`
			want := dynamicpb.NewMessage(md)
			wantErr := protojson.Unmarshal([]byte(text), want)
			got, gotErr := readOne(t, md, text)
			if gotErr != nil {
				if wantErr == nil && !lenient(name, value) {
					t.Errorf("%s: refused, taken by protojson:\n%v", text, gotErr)
				}
				continue
			}
			if wantErr != nil {
				if strings.ContainsAny(value, "eE") { // protojson gives up on long fractions with large exponents
					continue
				}
				t.Errorf("%s: taken, refused by protojson: %v", text, wantErr)
			} else if !equal(want, got) {
				t.Errorf("%s: (-protojson +reader)\n%s", text, cmp.Diff(proto.Message(want), got, protocmp.Transform()))
			}
		}
	})
}

// lenient names what protojson takes and the reader does not.
func lenient(field, value string) bool {
	if strings.TrimSpace(value) == "null" || strings.ContainsRune(value, '\t') {
		return true
	}
	// "+1s", "1.s", ".5s"
	return field == "duration" &&
		(strings.HasPrefix(value, `"+`) || strings.Contains(value, `.s"`) || strings.HasPrefix(value, `".`) || strings.HasPrefix(value, `"-.`))
}

func TestSecondsText(t *testing.T) {
	for _, test := range []struct {
		text, want string
	}{{"500ms", "0.5s"}, {"1d", "86400s"}, {"100us", "0.0001s"}, {"1h1m1s", "3661s"}, {"2 min", "120s"}, {"1ns", "0.000000001s"}} {
		d, ok := guessDuration(literal{text: test.text, tag: "!!str"})
		if got := secondsText(d); !ok || got != test.want {
			t.Errorf("%s: %s, %v; want %s", test.text, got, ok, test.want)
		}
	}
	for _, text := range []string{"NaNd", "Infd", "1e9d", "d", "soon", ""} {
		if d, ok := guessDuration(literal{text: text, tag: "!!str"}); ok {
			t.Errorf("%q: taken for %s", text, d)
		}
	}
}
