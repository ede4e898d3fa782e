package tarswire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// parsed is JSON as encoding/json has it; what is null in one SDK and empty in another is the same.
func parsed(t testing.TB, text string) any {
	t.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return emptied(v)
}

func emptied(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			if v[k] = emptied(v[k]); v[k] == nil {
				delete(v, k)
			}
		}
		if len(v) == 0 {
			return nil
		}
		return v
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			v[i] = emptied(v[i])
		}
		return v
	}
	return v
}

// TestJSONCaptures: what the SDKs wrote as JSON is read as the same message as what they wrote in TARS, and written as the
// same JSON.
func TestJSONCaptures(t *testing.T) {
	s := kit(t)
	raw, err := os.ReadFile(filepath.Join(captures, "cpp/structs.hex"))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		lines[name] = rest
	}
	n := 0
	for name, typ := range map[string]string{"cpp_node_full": "Kit.Node", "cpp_scalars_zero": "Kit.Scalars"} {
		m := table(t, s, typ)
		tars, err := hex.DecodeString(lines[name])
		if err != nil {
			t.Fatal(err)
		}
		r := tarswire.NewReader(tars)
		r.Head()
		wire, err := tarswire.AppendWire(nil, tars[r.Offset():len(tars)-1], m, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tarswire.AppendJSON(nil, wire, m, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(parsed(t, lines[name+"_json"]), parsed(t, string(got))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		back, err := tarswire.AppendJSONWire(nil, []byte(lines[name+"_json"]), m, nil)
		if err != nil || inJSON(t, back, m) != inJSON(t, wire, m) {
			t.Errorf("%s: want %s, found %s, %v", name, inJSON(t, wire, m), inJSON(t, back, m), err)
		}
		n++
	}
	for _, c := range exchanges(t) {
		if c.version != 5 || len(c.response) == 0 {
			continue
		}
		n++
		f := function(t, s, "/Kit.Echo/"+c.function)
		for _, side := range []struct {
			m    *tarswire.Message
			body []byte
		}{{f.In, c.request}, {f.Out, c.response}} {
			wire, err := tarswire.AppendJSONWire(nil, side.body, side.m, nil)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			got, err := tarswire.AppendJSON(nil, wire, side.m, nil)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			want := string(side.body)
			if side.m == f.In { // clients leave members out
				want = strings.Replace(want, `"labels"`, `"weight":7,"labels"`, 1)
			}
			if diff := cmp.Diff(parsed(t, want), parsed(t, string(got))); diff != "" {
				t.Errorf("%s: %s", c.name, diff)
			}
		}
	}
	if n < 5 {
		t.Errorf("%d captures, want at least 5", n)
	}
}

// TestJSONSamples: every message survives JSON as it survives TARS.
func TestJSONSamples(t *testing.T) {
	for _, m := range tables(t) {
		for _, wire := range samples(t, m) {
			o := &tarswire.Options{Zeros: true, MaxElements: 1 << 30}
			tars, err := tarswire.AppendTARS(nil, wire, m, o)
			if err != nil {
				continue
			}
			want, err := tarswire.AppendWire(nil, tars, m, o)
			if err != nil {
				t.Fatal(err)
			}
			text, err := tarswire.AppendJSON([]byte("before"), wire, m, o)
			if err != nil || !json.Valid(text[6:]) {
				t.Errorf("%s: %.300s, %v", m.Schema.Name, text, err)
				continue
			}
			got, err := tarswire.AppendJSONWire(nil, text[6:], m, o)
			if err != nil {
				t.Errorf("%s: %s: %v", m.Schema.Name, text, err)
				continue
			}
			if !finite(text) {
				continue // not a number is null, which is nothing where it stands alone
			}
			again, err := tarswire.AppendJSON(nil, got, m, o)
			if err != nil || string(again) != string(text[6:]) {
				t.Errorf("%s: %.300s\nwritten again %.300s, %v", m.Schema.Name, text[6:], again, err)
			}
			viaTARS, err := tarswire.AppendJSON(nil, want, m, o)
			if err != nil || !cmp.Equal(parsed(t, string(viaTARS)), parsed(t, string(again))) {
				t.Errorf("%s: %.300s\nover TARS %.300s, %v", m.Schema.Name, again, viaTARS, err)
			}
		}
	}
}

func finite(text []byte) bool { return !bytes.Contains(text, []byte("null")) }

func TestJSONErrors(t *testing.T) {
	s := kit(t)
	f := function(t, s, "/Kit.Echo/scalars")
	for in, want := range map[string]string{
		``:                                    `wanted '{' at offset 0 of the JSON text, found its end`,
		`{}`:                                  `Kit.scalarsRequest lacks tag 1 (req), which is required`,
		`{"req":{}} x`:                        `req: Kit.Scalars lacks tag 0 (b), which is required`,
		`{"req":{"b":1,"b":0}}`:               `req: b is given twice`,
		`{"req":{"i8":128}}`:                  `req.i8: wanted -128 to 127, found 128`,
		`{"req":{"i8":1.5}}`:                  `req.i8: wanted a whole number at offset 13 of the JSON text, found "1.5"`,
		`{"req":{"i8":01}}`:                   `req.i8: wanted a whole number at offset 13 of the JSON text, found "01"`,
		`{"req":{"i64":9223372036854775808}}`: `req.i64: wanted a whole number at offset 14 of the JSON text, found "9223372036854775808"`,
		`{"req":{"s":"\x"}}`:                  `req.s: wanted an escape at offset 13 of the JSON text, found \x`,
		`{"req":{"s":"a}}`:                    `req.s: the JSON text ends in the middle of a string`,
		`{"req":{"s":7}}`:                     `req.s: wanted '"' at offset 12 of the JSON text, found '7'`,
		`{"req":{"unknown":tru}}`:             `req: wanted a value at offset 18 of the JSON text, found "tru"`,
		"{\"req\":{\"s\":\"\xff\"}}":          `req.s: wanted UTF-8, found byte 0xff at offset 13`,
		`{"req":{"x":` + strings.Repeat("[", 200): `req: nested deeper than 100 levels`,
	} {
		if _, err := tarswire.AppendJSONWire(nil, []byte(in), f.In, nil); err == nil || err.Error() != want {
			t.Errorf("%.40s: found %v\nwant %s", in, err, want)
		}
	}
	if _, err := tarswire.AppendJSON(nil, nil, f.In, nil); err == nil || err.Error() != "req: is required and not given" {
		t.Errorf("found %v", err)
	}
}

func TestJSONMember(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1,"tars_ret": {"x":[1,2]} ,"":5}`: `{"x":[1,2]}`,
		`{"":5,"a":{"tars_ret":1}}`:             `5`,
	} {
		if got, err := tarswire.JSONMember([]byte(in), "tars_ret", ""); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{`{"a":1}`: `lacks "tars_ret"`, `[]`: `wanted '{' at offset 0 of the JSON text, found '['`, `{"a":1} 2`: `wanted the end of the JSON text at offset 8, found more`} {
		if _, err := tarswire.JSONMember([]byte(in), "tars_ret", ""); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

// FuzzJSON: what is taken is JSON, and is the same message when it is written and read again.
func FuzzJSON(f *testing.F) {
	all := tables(f)
	for _, c := range exchanges(f) {
		if c.version == 5 {
			f.Add(uint8(0), c.request)
			f.Add(uint8(1), c.response)
			f.Add(uint8(4), c.request)
		}
	}
	for i, m := range all {
		for _, wire := range samples(f, m) {
			if text, err := tarswire.AppendJSON(nil, wire, m, &tarswire.Options{Zeros: true}); err == nil {
				f.Add(uint8(i), text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		m := all[int(which)%len(all)]
		wire, err := tarswire.AppendJSONWire(nil, text, m, nil)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("taken, and is no JSON: %q", text)
		}
		again, err := tarswire.AppendJSON(nil, wire, m, nil)
		if err != nil {
			if limited(err) {
				return
			}
			t.Fatalf("%q is %x: %v", text, wire, err)
		}
		if !json.Valid(again) {
			t.Fatalf("written, and is no JSON: %q", again)
		}
		back, err := tarswire.AppendJSONWire(nil, again, m, nil)
		if err != nil && (limited(err) || strings.Contains(err.Error(), "twice")) {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", again, err)
		}
		if unmarshal(wire, dynamicpb.NewMessage(m.Schema.Desc)) != nil {
			t.Fatalf("%q: the wire form is malformed: %x", text, wire)
		}
		if same, err := tarswire.AppendJSON(nil, back, m, nil); finite(again) && string(same) != string(again) {
			t.Fatalf("%q was written as %q, and then as %q, %v", text, again, same, err)
		}
	})
}
