package jsonwire_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// surrogate is an escape that encoding/json replaces when it stands alone.
var surrogate = regexp.MustCompile(`\\u[dD][89a-fA-F]`)

// tarsDifferences is the whole list of what codec and oracle may decide differently on besides jsonDifferences.
var tarsDifferences = slices.Concat(jsonDifferences, []difference{
	{
		"surrogates", "encoding/json, which the oracle reads with, puts U+FFFD in the place of a lone surrogate; here it is refused",
		func(in []byte, ours, _ error) bool { return ours != nil && surrogate.Match(in) },
	},
})

// tarsSeeds are read as every root; most fit one or two and are refused by the others.
var tarsSeeds = []string{
	`{}`, `null`, `[]`, `{"matrix":[[1,2],[],[-3]],"cube":[[["a"],[]],[],[["b","c"]]],"rows":[{"a":"1"},{},{"b":2,"c":3}]}`,
	`{"groups":{"x":[1.5,"NaN"],"":[]},"deep":{"a":{"1":[{"matrix":[[1]]},{}],"-2":[]},"b":{}},"flags":{"true":{"false":true},"0":{"1":false}}}`,
	`{"chunks":["AQ==","",[],[1,-1,255,-128,127],null],"files":{"a":"AQI=","b":[0,128,1e2,2.0],"c":[]},"blob":[1,2,3],"small":[1,255]}`,
	`{"palette":[["LOW",3,"Other_LOW"],["ZERO"],[7]],"level":"low_","other":"LOW"}`, `{"parts":[[{"blob":"AA=="}],[],null,[{"parts":[[]]}]]}`,
	`{"matrix":null,"rows":null,"groups":null}`, `{"matrix":[null,[1]],"groups":{"a":null},"rows":[null],"deep":{"a":null,"b":{"1":null}}}`,
	`{"matrix":[{"items":[1,2]},{}],"groups":{"a":{"items":[1]}},"rows":[{"items":{"a":"1"}}]}`, `{"matrix":[1]}`, `{"matrix":[{"items":[1]}]}`, `{"matrix":[[[1]]]}`, `{"matrix":{}}`, `{"groups":[[1]]}`, `{"groups":{"a":{}}}`, `{"matrix":[[null]]}`, `{"rows":[[]]}`,
	`{"blob":[256]}`, `{"blob":[-129]}`, `{"blob":[1.5]}`, `{"blob":["1"]}`, `{"blob":[1,]}`, `{"blob":[`, `{"blob":{}}`, `{"blob":[01]}`, `{"blob":[-0,1e0,10e-1]}`, `{"blob":[1e400]}`, `{"blob":[99999999999999999999]}`, `{"blob":[null]}`, `{"blob":true}`,
	`{"byDouble":[{"key":1.5,"value":"a"},{"key":0,"value":""},{"value":"b"},{"key":-0.0},{}]}`, `{"byDouble":{"1.5":"a","0":"","-1e3":null,"NaN":"n"}}`, `{"byDouble":{"x":"a"}}`, `{"byDouble":[1]}`, `{"byDouble":[null]}`, `{"byDouble":{"1":"a","1":"b"}}`, `{"byDouble":{}}`, `{"byDouble":[{"key":1,"key":2}]}`, `{"byDouble":[{"nope":1}]}`,
	`{"byFloat":[{"key":1.5,"value":[1,2]},{"key":"Infinity","value":null}],"byStruct":[{"key":{"x":1,"name":"n"},"value":{"x":2}},{"key":null}]}`, `{"byFloat":{"3.5e38":[]}}`,
	`{"byStruct":{"{\"x\":1,\"name\":\"a\\\"b\"}":{"x":2},"{}":null}}`, `{"byStruct":{"{":{}}}`, `{"byStruct":{"{\"nope\":1}":{}}}`, `{"byStruct":{"{} {}":{}}}`, `{"byStruct":{"null":{}}}`, `{"byStruct":{"":{}}}`,
	`{"byVector":[{"key":[1,2],"value":{"a":"b"}},{}]}`, `{"byVector":{"[1,2]":{"a":"b"}," [] ":{},"[3":{}}}`, `{"byVector":{"[1,2]":{"a":"b"},"[]":{}}}`, `{"byVector":{"null":{}}}`,
	`{"byBytes":[{"key":"AQ==","value":[1]},{"key":[1,2]}]}`, `{"byBytes":{"AQ==":"AQ==","[1,-2]":[3],"":null}}`, `{"byBytes":{"[1":""}}`, `{"byBytes":{"null":""}}`, `{"byBytes":{"\u005b1]":""}}`,
	`{"byMap":[{"key":{"a":1},"value":{"matrix":[[1]]}}]}`, `{"byMap":{"{\"a\":1,\"b\":2}":{"matrix":[[1]]},"{}":{}}}`, `{"byMap":{"{\"a\":1,\"a\":2}":{}}}`,
	`{"byKeyed":[{"key":{"byDouble":{"1":"a"}},"value":{"byDouble":[{"key":1}]}}]}`, `{"byKeyed":{"{\"byDouble\":{\"1\":\"a\"}}":{}}}`, `{"byKeyed":{"{\"byStruct\":{\"{}\":{}}}":{}}}`, `{"byKeyed":{"{\"byStruct\":[{\"key\":{}}]}":{"byStruct":{"{}":{}}}}}`,
	`{"rows":[[{"key":1,"value":true}],{"2":true,"3":false},[],{},null]}`, `{"within":{"a":[{"key":1.5,"value":"5"}],"b":{"2.5":5},"c":null}}`,
	`{"byMatrix":[{"key":[["a"],[]],"value":"LOW"}]}`, `{"byMatrix":{"[[\"a\"],null]":"LOW","[]":3}}`, `{"byKeyedMap":[{"key":[{"key":1,"value":2}],"value":"x"}]}`, `{"byKeyedMap":{"{\"1.5\":2}":"x"}}`, `{"byKeyedMap":{"[{\"key\":1}]":"x"}}`,
	`{"textS":{"":1,"a":2},"text_s":{"a":1},"yesNo":{"1":1,"true":2,"false":0,"0":3},"yes_no":{"1":"a","false":"b"},"largeS":{"9223372036854775807":1,"0":0},"kindS":{"LOW":1,"3":2,"ZERO":0,"-1":5}}`,
	`{"yes_no":{"1":"a","true":"b"}}`, `{"yesNo":{"2":1}}`, `{"yesNo":{"yes":1}}`, `{"kindS":{"NOSUCH":1}}`, `{"kindS":{"1.5":1}}`, `{"kindS":{"-":1}}`, `{"largeS":{"9223372036854775808":1}}`, `{"largeS":{"x":1}}`, `{"textS":[{"key":"a","value":1}]}`, `{"yesNo":{1:2}}`, `{"yesNo":{"1" 2}}`, `{"yesNo":{"1":2,}}`, `{"yesNo":{"1":2`,
	`{"b":true,"i8":-5,"i64":"5","f32":1.5,"f64":"NaN","s":"x","level":"HIGH","byLevel":{"1":"a","-7":"b"},"yes":{"1":"y"},"point":{"x":1},"blob":""}`, `{"yes":{"2":""}}`, `{"b":1}`, `{"level":3}`, `{"level":"NOSUCH"}`,
	`{"ret":[[1],[2]],"ratios":[{"key":1,"value":{"x":1}}],"digest":[1,2]}`, `{"tars_ret":[[1]]}`, `{"ret":1,"tars_ret":2}`, `{"tars_ret":5}`, `{"tars_ret":"a","ret":7}`, `{"tars_ret":"9223372036854775807"}`, `{"tars_ret":null}`,
	`[[1],[2,3]]`, `[1,2]`, `[1,null]`, `{"key":1.5,"value":"a"}`, `{"key":{"x":1},"value":null}`,
	`{"name":"n","weight":-1,"labels":["a"],"counts":{"a":1},"blob":[1],"at":{"x":1,"y":2},"children":[{"name":"c"},{}]}`,
	`{"matrix":[[1,2],[3]],"byId":{"1":"a"},"groups":{"a":["b"]},"nested":{"a":{"b":"1"}},"rows":[{"a":"b"}],"ubytes":[1],"flags":[true],"grid":[{"key":{"x":1,"y":2},"value":"p"}],"palette":["RED",5],"files":{"a":"AA=="},"histogram":{"5":1},"chunks":["AA=="],"yesno":{"1":"a"},"ratios":{"1":2}}`,
	`{"grid":{"{\"y\":2,\"x\":1}":"p"}}`, `{"grid":{"{\"y\":2,\"x\":1}":"p","{\"y\":2,\"x\":\"z\"}":"p"}}`,
	`{"parts":` + strings.Repeat(`[[{"parts":`, 33) + `[]` + strings.Repeat(`}]]`, 33) + `}`, `{"parts":` + strings.Repeat(`[[{"parts":`, 50) + `[]` + strings.Repeat(`}]]`, 50) + `}`,
	`{"byKeyed":` + strings.Repeat(`[{"value":{"byKeyed":`, 49) + `[]` + strings.Repeat(`}}]`, 49) + `}`, `{"byKeyed":` + strings.Repeat(`[{"value":{"byKeyed":`, 50) + `[]` + strings.Repeat(`}}]`, 50) + `}`,
	`{"byKeyed":` + strings.Repeat(`{"{}":{"byKeyed":`, 49) + `{}` + strings.Repeat(`}}`, 49) + `}`, `{"byKeyed":` + strings.Repeat(`{"{}":{"byKeyed":`, 50) + `{}` + strings.Repeat(`}}`, 50) + `}`,
	`{"byKeyed":` + strings.Repeat(`{"{}":{"byKeyed":`, 47) + `{"{}":{"rows":[{"1":true}]}}` + strings.Repeat(`}}`, 47) + `}`, `{"byKeyed":` + strings.Repeat(`{"{}":{"byKeyed":`, 48) + `{"{}":{"rows":[{"1":true}]}}` + strings.Repeat(`}}`, 48) + `}`,
	`{"unknown":{"a":[1]},"blob":[1]}`, `{"byStruct":{"{\"nope\":1,\"x\":2}":{"nope":1}}}`, `{"byDouble":{"1":"\ud800"}}`, "{\"byDouble\":{\"1\":\"\xff\"}}", "{\"byStruct\":{\"{\\\"name\\\":\\\"\\t\\\"}\":{}}}", "{\"byStruct\":{\"{\\\"name\\\":\\\"\\\\t\\\"}\":{}}}",
}

// compareTarsSeeds reads every seed as every root, and what it becomes back.
func (w *world) compareTarsSeeds(t testing.TB) error {
	t.Helper()
	for _, name := range tarsRoots {
		m := w.message(t, name)
		for i, s := range tarsSeeds {
			for _, ignore := range []bool{false, true} {
				if err := w.diffTarsJSON(m, []byte(s), ignore); err != nil {
					return err
				}
			}
			if wire, err := jsonwire.AppendWire(nil, []byte(s), m, nil); err == nil {
				for _, flags := range []byte{0, 31, 64, byte(i)} {
					if err := w.diffTarsWire(m, wire, flags); err != nil {
						return err
					}
					if err := w.diffTarsWire(m, append(bytes.Clone(wire), wire...), flags); err != nil {
						return err
					}
					if err := w.diffTarsWire(m, backwards(wire), flags); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func TestTarsSeeds(t *testing.T) {
	w := theTars(t).with(realCodec)
	if err := w.compareTarsSeeds(t); err != nil {
		t.Fatal(err)
	}
	t.Log(w.tally)
	if w.tally.taken < 1000 || w.tally.refused < 500 {
		t.Errorf("the seeds show little: %s", w.tally)
	}
}

// TestTarsBrokenCodecs turns the comparison red with each broken variant.
func TestTarsBrokenCodecs(t *testing.T) {
	for _, b := range []struct {
		name string
		codec
	}{
		{"the view of protobuf", codec{jsonwire.AppendWire, after(jsonwire.AppendJSON, func(_, out []byte) []byte { return replaceAll(out, "[[", `[{"items":[`) })}},
		{"a zero key lost", codec{jsonwire.AppendWire, after(jsonwire.AppendJSON, func(_, out []byte) []byte { return replaceAll(out, `{"key":0,`, `{`) })}},
		{"bytes without sign", codec{jsonwire.AppendWire, after(jsonwire.AppendJSON, func(_, out []byte) []byte { return replaceAll(out, "-1,-1,", "255,255,") })}},
		{"the return value's other name", codec{jsonwire.AppendWire, after(jsonwire.AppendJSON, func(_, out []byte) []byte { return replaceAll(out, `"tars_ret"`, `"ret"`) })}},
		{"unsigned bytes refused", codec{before(jsonwire.AppendWire, func(in []byte) []byte { return replaceAll(in, "255", "256") }), jsonwire.AppendJSON}},
		{"a key of a bool as number refused", codec{before(jsonwire.AppendWire, func(in []byte) []byte { return replaceAll(in, `"1":`, `"yes":`) }), jsonwire.AppendJSON}},
	} {
		t.Run(b.name, func(t *testing.T) {
			w := theTars(t).with(b.codec)
			err := w.compareTarsSeeds(t)
			if err == nil {
				t.Fatalf("no difference is seen in %s", w.tally)
			}
			t.Logf("red: %s", strings.ReplaceAll(err.Error(), "\n", " | "))
		})
	}
}

// randomIDL is a struct with members of random types, and others that they use.
func randomIDL(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString("module R {\n  enum E { A, B = 5, C = -1 };\n")
	scalars := []string{"bool", "byte", "short", "int", "long", "float", "double", "string", "unsigned byte", "unsigned short", "unsigned int", "E"}
	structs := []string{"S0", "S1", "S2"}
	var typ func(level int) string
	typ = func(level int) string {
		switch n := r.IntN(10); {
		case level < 5 && n < 3:
			return "vector<" + typ(level+1) + " >"
		case level < 5 && n < 6:
			return "map<" + typ(level+1) + ", " + typ(level+1) + " >"
		case n < 7 && level > 0:
			return structs[r.IntN(len(structs))]
		case n < 8:
			return "vector<byte>"
		}
		return scalars[r.IntN(len(scalars))]
	}
	for _, s := range structs {
		fmt.Fprintf(&b, "  struct %s {\n    0 optional int n;\n", s)
		for i := range 1 + r.IntN(6) {
			fmt.Fprintf(&b, "    %d optional %s f%d;\n", i*r.IntN(3)+i+1, typ(0), i)
		}
		b.WriteString("  };\n")
	}
	fmt.Fprintf(&b, "  interface I { %s f(%s a, out %s b); };\n};\n", typ(0), typ(0), typ(0))
	return b.String()
}

// randomTars compares codec and oracle on a random schema: random messages both ways, and what random changes make of their
// JSON.
func randomTars(seed uint64, messages int) (*tally, error) {
	r := rand.New(rand.NewPCG(seed, 7))
	var w *world
	var idl string
	for w == nil { // tags that are there twice, mostly
		idl = randomIDL(r)
		w, _ = tarsOf(idl)
	}
	w = w.with(realCodec)
	g := &generator{Rand: r, w: w}
	for n := range messages {
		name := []string{"R.S0", "R.S1", "R.S2", "R.fRequest", "R.fResponse"}[n%5]
		m, ok := w.schema.Message(name)
		if !ok {
			return nil, fmt.Errorf("no message %s in\n%s", name, idl)
		}
		g.left = 5 + g.IntN(100)
		wire, err := proto.Marshal(g.message(m.Desc, 0).Interface())
		if err != nil {
			return nil, err
		}
		if g.IntN(2) == 0 {
			wire = g.scatter(wire, m)
		}
		flags := byte(g.IntN(128))
		if err := w.diffTarsWire(m, wire, flags); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, idl)
		}
		o := tarsOptions(flags)
		text, err := jsonwire.AppendJSON(nil, wire, m, &o)
		if err != nil {
			continue
		}
		if err := w.diffTarsJSON(m, text, false); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, idl)
		}
		if err := w.survives(m, wire, text, &o); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, idl)
		}
		for range 4 {
			text = changed(g, text)
			if err := w.diffTarsJSON(m, text, g.IntN(2) == 0); err != nil {
				return nil, fmt.Errorf("%w\n%s", err, idl)
			}
		}
	}
	return w.tally, nil
}

// survives says whether JSON is read as the message that it was written from.
func (w *world) survives(m *schema.Message, wire, text []byte, o *jsonwire.Options) error {
	back, err := jsonwire.AppendWire(nil, text, m, o)
	if err != nil {
		return err
	}
	want, err := w.oracleDecode(m, wire)
	if err != nil {
		return err
	}
	got, err := w.oracleDecode(m, back)
	if err != nil {
		return err
	}
	completed(want.ProtoReflect())
	completed(got.ProtoReflect())
	if a, b := w.canonical(got), w.canonical(want); !bytes.Equal(a, b) {
		return fmt.Errorf("%s does not survive as %s\n got %v\nwant %v", m.Name, text, got, want)
	}
	return nil
}

// completed drops what is unknown and sets the structs of entries, which are always written.
func completed(m protoreflect.Message) {
	m.SetUnknown(nil)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				m.Get(fd).Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { completed(v.Message()); return true })
			}
		case fd.IsList():
			for j := range m.Get(fd).List().Len() {
				if fd.Message() != nil {
					completed(m.Get(fd).List().Get(j).Message())
				}
			}
		case fd.Message() != nil && (m.Has(fd) || kindOf(m.Descriptor()) == tarsv1.Struct_ENTRY):
			completed(m.Mutable(fd).Message())
		}
	}
}

var tarsBits = []string{
	"null", "{}", "[]", "0", "-1", "255", "256", "1.5", `"1"`, `"true"`, `""`, "[1,2]", "[[1]]", `{"1":2}`, `{"key":1,"value":2}`, `{"{}":{}}`, `"ret"`, `"tars_ret"`, `"A"`, `"R_C"`, ",", ":", "{", "}", "[", "]", `"`, `\"`,
}

// changed puts something into text, or takes a part of it away.
func changed(g *generator, text []byte) []byte {
	if len(text) == 0 {
		return text
	}
	out := bytes.Clone(text)
	from := g.IntN(len(out))
	to := min(len(out), from+g.IntN(6))
	// Mostly a whole value, so that it stays JSON.
	if ends := valueAt(out, from); g.IntN(4) > 0 && ends > from {
		to = ends
	}
	return slices.Replace(out, from, to, []byte(pick(g, tarsBits))...)
}

// valueAt is where the value ends that begins at an offset; that offset when none does.
func valueAt(text []byte, at int) int {
	switch c := text[at]; c {
	case '{', '[':
		depth := 0
		for i := at; i < len(text); i++ {
			switch text[i] {
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	case '"':
		if i := bytes.IndexByte(text[at+1:], '"'); i >= 0 {
			return at + i + 2
		}
	}
	return at
}

func TestTarsRandomSchemas(t *testing.T) {
	rounds := uint64(200)
	if raceEnabled || testing.Short() {
		rounds = 10
	}
	var taken, refused int
	for seed := range rounds {
		c, err := randomTars(seed, 60)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		taken, refused = taken+c.taken, refused+c.refused
	}
	t.Logf("%d random schemas: both sides took %d and refused %d", rounds, taken, refused)
	if taken < 500 || refused < 100 {
		t.Errorf("taken %d, refused %d", taken, refused)
	}
}

func FuzzTarsJSON(f *testing.F) {
	w := theTars(f)
	for n, s := range tarsSeeds {
		for i, name := range tarsRoots {
			if _, err := jsonwire.AppendWire(nil, []byte(s), w.message(f, name), nil); err == nil && s != "{}" || n%len(tarsRoots) == i {
				f.Add(byte(i), n%2 == 0, []byte(s))
			}
		}
	}
	f.Fuzz(func(t *testing.T, root byte, ignoreUnknown bool, in []byte) {
		if err := w.diffTarsJSON(w.message(t, tarsRoots[int(root)%len(tarsRoots)]), in, ignoreUnknown); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzTarsWire(f *testing.F) {
	w := theTars(f)
	for i, name := range tarsRoots {
		for n, s := range tarsSeeds {
			if wire, err := jsonwire.AppendWire(nil, []byte(s), w.message(f, name), nil); err == nil && len(wire) > 0 {
				f.Add(byte(i), byte(n), wire)
			}
		}
	}
	f.Fuzz(func(t *testing.T, root, flags byte, in []byte) {
		if err := w.diffTarsWire(w.message(t, tarsRoots[int(root)%len(tarsRoots)]), in, flags); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzTarsSchema compares random messages of random schemas.
func FuzzTarsSchema(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(1_000 + seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		if _, err := randomTars(seed, 2); err != nil {
			t.Fatal(err)
		}
	})
}
