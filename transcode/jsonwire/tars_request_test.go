package jsonwire_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// TestTarsErrors: what users see when the JSON of a message of TARS is wrong.
func TestTarsErrors(t *testing.T) {
	w := theTars(t)
	for _, c := range []struct{ root, text, want string }{
		{"Nested", `{"matrix":[1]}`, `line 1 column 12: matrix[0]: wanted an array of an integer from -2147483648 to 2147483647 (int32), found 1`},
		{"Nested", `{"matrix":{"items":[]}}`, `line 1 column 11: matrix: wanted an array of arrays, found an object`},
		{"Nested", `{"matrix":[[1],[2,"x"]]}`, `line 1 column 19: matrix[1][1]: wanted an integer from -2147483648 to 2147483647 (int32), found "x"`},
		{"Nested", `{"cube":[["a"]]}`, `line 1 column 11: cube[0][0]: wanted an array of a string, found "a"`},
		{"Nested", `{"rows":[[1]]}`, `line 1 column 10: rows[0]: wanted an object for a map, found an array`},
		{"Nested", `{"rows":5}`, `line 1 column 9: rows: wanted an array of objects, found 5`},
		{"Nested", `{"groups":{"a":{"b":1}}}`, `line 1 column 16: groups.a: wanted an array of a number (double), found an object`},
		{"Nested", `{"blob":[1,2,300]}`, `line 1 column 14: blob[2]: wanted a byte, an integer from -128 to 255, found 300`},
		{"Nested", `{"blob":5}`, `line 1 column 9: blob: wanted bytes, as a string in base64 or an array of numbers, found 5`},
		{"Nested", `{"flags":{"2":{}}}`, `line 1 column 11: flags.2: wanted true or false, found "2"`},
		{"Nested", `{"level":"HIGHER"}`, `line 1 column 10: level: enum Shapes.Level has no value "HIGHER"; did you mean "HIGH"?`},
		{"Keyed", `{"byDouble":[1]}`, `line 1 column 14: byDouble[0]: wanted an object for Shapes.Keyed.ByDoublePair, found 1`},
		{"Keyed", `{"byDouble":"x"}`, `line 1 column 13: byDouble: wanted an array of objects with key and value, found "x"`},
		{"Keyed", `{"byDouble":[{"keys":1}]}`, `line 1 column 15: byDouble[0].keys: Shapes.Keyed.ByDoublePair has no field "keys"; did you mean "key"?`},
		{"Keyed", `{"byDouble":{"x":"a"}}`, `line 1 column 14: byDouble.x: wanted a number (double), found "x"`},
		{"Keyed", `{"byStruct":{"{\"x\":1,}":{}}}`, `line 1 column 14: byStruct["{\"x\":1,}"]: wanted the JSON of Shapes.Key as a key: at its byte 8 wanted a key in quotes, found "}"`},
		{"Keyed", `{"byStruct":{"{\"x\":1":{}}}`, `line 1 column 14: byStruct["{\"x\":1"]: wanted the JSON of Shapes.Key as a key: at its byte 7 wanted "," or "}", found the end of the key`},
		{"Keyed", `{"byVector":{"1,2":{}}}`, `line 1 column 14: byVector["1,2"]: wanted the JSON of an array of an integer from -2147483648 to 2147483647 (int32) as a key: at its byte 1 wanted an array of an integer from -2147483648 to 2147483647 (int32), found 1`},
		{"Keyed", `{"byKeyed":{"{\"byStruct\":{\"{}\":{}}}":{}}}`, `line 1 column 13: byKeyed["{\"byStruct\":{\"{}\":{}}}"]: wanted the JSON of Shapes.Keyed as a key: at its byte 14 wanted a list of {key, value} for a map inside a key, found a key inside a key`},
		{"Keyed", `{"yesNo":{"yes":1}}`, `line 1 column 11: yesNo.yes: wanted true or false, found "yes"`},
	} {
		_, err := jsonwire.AppendWire(nil, []byte(c.text), w.message(t, "Shapes."+c.root), nil)
		if err == nil {
			t.Errorf("%s is taken, want %s", c.text, c.want)
		} else if d := cmp.Diff(c.want, err.Error()); d != "" {
			t.Errorf("%s: %s", c.text, d)
		}
	}
	m := w.message(t, "Shapes.Nested")
	_, err := jsonwire.AppendJSON(nil, bytesField(2, append(bytesField(1, nil), bytesField(1, bytesField(1, []byte("\xff")))...)), m, nil)
	if want := `cube[0][1][0]: wanted UTF-8 in a string, found byte 0xff at offset 0`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = jsonwire.AppendJSON(nil, bytesField(1, bytesField(2, []byte("\xff"))), w.message(t, "Shapes.Keyed"), nil)
	if want := `byDouble[0].value: wanted UTF-8 in a string, found byte 0xff at offset 0`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestTarsRequest: parameters and bodies for what TARS has and protobuf has not.
func TestTarsRequest(t *testing.T) {
	w := theTars(t)
	for _, c := range []struct {
		name, root, body, bodyField, query string
		path                               []string
		override                           bool
		want, refused                      string
	}{
		{name: "vectors in a query", root: "Nested", query: "matrix=[1,2]&matrix=[]&matrix=[3]", want: `{"matrix":[[1,2],[],[3]]}`},
		{name: "a map in a query", root: "Nested", query: `rows={"a":1}`, want: `{"rows":[{"a":"1"}]}`},
		{name: "vectors by key", root: "Nested", query: "groups[a]=[1.5]&groups[b]=[]&blob=AQ&level=low_&other=3", want: `{"groups":{"a":[1.5],"b":[]},"blob":"AQ==","level":"low__NEG7","other":"Other_LOW"}`},
		{name: "entries in a query", root: "Keyed", query: `byDouble={"key":1.5,"value":"a"}&byDouble={}`, want: `{"byDouble":[{"key":1.5,"value":"a"},{"key":0,"value":""}]}`},
		{name: "no JSON", root: "Nested", query: "matrix=1,2", refused: `matrix: a parameter of the query is refused: wanted JSON text for Shapes.Nested.MatrixItems: at byte 1 wanted an array of an integer`},
		{name: "the field inside", root: "Nested", query: "matrix.items=1", refused: `field "matrix" of Shapes.Nested is repeated message, so it has no field "items"`},
		{name: "the field inside by key", root: "Nested", query: "groups.items=1", refused: `is map<string, Shapes.Nested.GroupsItems> and given entry by entry, as in groups[key]=value`},
		{name: "body of vectors", root: "Nested", body: `[[1],[2]]`, bodyField: "matrix", query: "level=HIGH", want: `{"matrix":[[1],[2]],"level":"HIGH"}`},
		{name: "body of entries", root: "Keyed", body: `{"1":"a"}`, bodyField: "byDouble", want: `{"byDouble":[{"key":1,"value":"a"}]}`},
		{name: "body of bytes", root: "Nested", body: `[1,-1]`, bodyField: "blob", want: `{"blob":"Af8="}`},
		{name: "path against the body", root: "Nested", body: `{"matrix":[[1]]}`, path: []string{"matrix=[2]"}, refused: `matrix: wanted in the body what the path gives, [[2]], found [[1]]`},
		{name: "path as the body", root: "Nested", body: `{"matrix":[[1]]}`, path: []string{"matrix=[1]"}, want: `{"matrix":[[1]]}`},
		{name: "path over the body", root: "Nested", body: `{"matrix":[[1]],"rows":[{}]}`, path: []string{"matrix=[2]"}, override: true, want: `{"matrix":[[2]],"rows":[{}]}`},
		{name: "query beside the body", root: "Nested", body: `{"matrix":[[]]}`, query: "matrix=[2]", refused: `matrix: a parameter of the query is refused: the body gives it`},
		{name: "empty vectors", root: "Nested", body: `{"matrix":[],"rows":[]}`, query: "level=1", want: `{"level":"LOW"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := w.message(t, "Shapes."+c.root)
			r := jsonwire.Request{Message: m, Body: []byte(c.body), Override: c.override}
			if c.bodyField != "" {
				r.BodyField = pathOf(t, m, c.bodyField)
			}
			for _, v := range c.path {
				name, value, _ := strings.Cut(v, "=")
				r.Params = append(r.Params, jsonwire.Param{Field: pathOf(t, m, name), Value: value, From: jsonwire.FromPath})
			}
			var wire []byte
			var err error
			if r.Params, err = jsonwire.AppendQuery(r.Params, m, c.query, nil, nil); err == nil {
				wire, err = jsonwire.AppendRequest(nil, &r, nil)
			}
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Fatalf("%v, want %s", err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := jsonwire.AppendJSON(nil, wire, m, nil)
			if d := cmp.Diff(c.want, string(got)); err != nil || d != "" {
				t.Error(err, d)
			}
		})
	}
	// map<string, vector<string>> keeps parameters, each with all its values.
	m := w.message(t, "Kit.Nasty")
	field, err := jsonwire.CaptureField(m, "groups")
	if err != nil {
		t.Fatal(err)
	}
	params, err := jsonwire.AppendQuery(nil, m, "a=1&b=2&a=3", nil, &jsonwire.QueryOptions{Unknown: jsonwire.CaptureUnknown, Capture: field})
	if err != nil {
		t.Fatal(err)
	}
	wire, err := jsonwire.AppendRequest(nil, &jsonwire.Request{Message: m, Params: params}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := jsonwire.AppendJSON(nil, wire, m, nil); err != nil || string(got) != `{"groups":{"a":["1","3"],"b":["2"]}}` {
		t.Errorf("%s %v", got, err)
	}
}

// TestTarsFields: one field as an answer, and the other name of a return value.
func TestTarsFields(t *testing.T) {
	w := theTars(t)
	m := w.message(t, "Shapes.rotateResponse")
	wire, err := jsonwire.AppendWire(nil, []byte(`{"ret":[[1],[]],"ratios":{"0.5":{"x":1}},"digest":[1,-1]}`), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	sdk := tarsOptions(31)
	for _, c := range []struct {
		path string
		o    *jsonwire.Options
		want string
	}{
		{"ret", nil, `[[1],[]]`},
		{"tars_ret", nil, `[[1],[]]`},
		{"ratios", nil, `[{"key":0.5,"value":{"x":1}}]`},
		{"digest", nil, `"Af8="`},
		{"digest", &sdk, `[1,-1]`},
	} {
		got, err := jsonwire.AppendFieldJSON(nil, wire, m, pathOf(t, m, c.path), c.o)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v, want %s", c.path, got, err, c.want)
		}
		empty, err := jsonwire.AppendFieldJSON(nil, nil, m, pathOf(t, m, c.path), &sdk)
		if err != nil || string(empty) != "[]" {
			t.Errorf("%s, not set: %s, %v", c.path, empty, err)
		}
	}
	for _, c := range []struct {
		o    jsonwire.Options
		want string
	}{
		{jsonwire.Options{TarsReturn: true}, `{"tars_ret":[[1],[]],"ratios":[{"key":0.5,"value":{"x":1}}],"digest":"Af8="}`},
		{jsonwire.Options{ProtoNames: true}, `{"ret":[[1],[]],"ratios":[{"key":0.5,"value":{"x":1}}],"digest":"Af8="}`},
		{sdk, `{"tars_ret":[[1],[]],"ratios":[{"key":0.5,"value":{"x":1}}],"digest":[1,-1]}`},
	} {
		if got, err := jsonwire.AppendJSON(nil, wire, m, &c.o); err != nil || string(got) != c.want {
			t.Errorf("%+v: %s, %v, want %s", c.o, got, err, c.want)
		}
	}
	// An out parameter of that name keeps it.
	m = w.message(t, "Shapes.tarsResponse")
	if wire, err = jsonwire.AppendWire(nil, []byte(`{"ret":1,"tars_ret":"out"}`), m, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := jsonwire.AppendJSON(nil, wire, m, &sdk); err != nil || string(got) != `{"ret":1,"tars_ret":"out"}` {
		t.Errorf("%s %v", got, err)
	}
}

// TestBytesAsArray: a schema that is not of TARS takes arrays of numbers where it is asked to.
func TestBytesAsArray(t *testing.T) {
	m := theWorld(t).message(t, "test.three.Scalars")
	in := []byte(`{"fBytes":[1,-1,255],"rBytes":["YQ==",[],[2]]}`)
	if _, err := jsonwire.AppendWire(nil, in, m, nil); err == nil || !strings.Contains(err.Error(), "fBytes: wanted a string in base64, found an array") {
		t.Errorf("%v", err)
	}
	o := &jsonwire.Options{BytesAsArray: true}
	wire, err := jsonwire.AppendWire(nil, in, m, o)
	if err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]*jsonwire.Options{
		`{"fBytes":"Af//","rBytes":["YQ==","","Ag=="]}`: nil, `{"fBytes":[1,-1,-1],"rBytes":[[97],[],[2]]}`: o,
	} {
		if got, err := jsonwire.AppendJSON(nil, wire, m, o); err != nil || string(got) != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	for _, text := range []string{`{"rBytes":[null]}`, `{"fBytes":{}}`, `{"fBytes":[256]}`} {
		if _, err := jsonwire.AppendWire(nil, []byte(text), m, o); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

// TestTarsCaptures: what SDKs wrote as JSON is read, and written as they write it.
func TestTarsCaptures(t *testing.T) {
	w := theTars(t)
	sdk := tarsOptions(31)
	n := 0
	check := func(name, root, text string) {
		t.Helper()
		n++
		m := w.message(t, root)
		wire, err := jsonwire.AppendWire(nil, []byte(text), m, &jsonwire.Options{IgnoreUnknown: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		got, err := jsonwire.AppendJSON(nil, wire, m, &sdk)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if d := cmp.Diff(sorted(t, []byte(text)), sorted(t, got)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	raw, err := os.ReadFile("../../testdata/tars/cpp/structs.hex")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if typ := map[string]string{"cpp_node_full_json": "Kit.Node", "cpp_scalars_zero_json": "Kit.Scalars"}[name]; typ != "" {
			check(name, typ, text)
		}
	}
	for _, sdk := range []string{"go", "node"} {
		paths, err := filepath.Glob("../../testdata/tars/" + sdk + "/json_*.hex")
		if err != nil || len(paths) < 2 {
			t.Fatalf("%d captures of %s: %v", len(paths), sdk, err)
		}
		for _, p := range paths {
			text, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			function := map[string]string{"json_add.hex": "add", "json_echonode.hex": "echoNode"}[filepath.Base(p)]
			for line := range strings.Lines(string(text)) {
				if line[0] != '>' && line[0] != '<' {
					continue
				}
				frame, err := hex.DecodeString(strings.TrimSpace(line[1:]))
				if err != nil {
					t.Fatal(err)
				}
				from, to := strings.IndexByte(string(frame), '{'), strings.LastIndexByte(string(frame), '}')
				if from < 0 || to < from {
					continue // an error
				}
				check(sdk+"/"+filepath.Base(p), "Kit."+function+map[byte]string{'>': "Request", '<': "Response"}[line[0]], string(frame[from:to+1]))
			}
		}
	}
	if n < 9 {
		t.Errorf("%d captures, want at least 9", n)
	}
}

// sorted is JSON with its members in one order; what is null in one SDK and empty in another is left out.
func sorted(t testing.TB, text []byte) string {
	t.Helper()
	n, err := readNode(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return n.sorted().String()
}

// TestTarsMarks: a message that does not have the fields that its option promises is refused when the schema is loaded.
func TestTarsMarks(t *testing.T) {
	w := theTars(t)
	for name, want := range map[string]schema.WellKnown{
		"Shapes.Nested": schema.NotWellKnown, "Shapes.Nested.MatrixItems": schema.TarsItems, "Shapes.Keyed.ByDoublePair": schema.TarsEntry,
	} {
		if m := w.message(t, name); m.WellKnown != want || !m.Tars || m.WellKnown.Wrapper() {
			t.Errorf("%s: %v", name, m.WellKnown)
		}
	}
}
