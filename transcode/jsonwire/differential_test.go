package jsonwire_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Codec and oracle, which is protojson with dynamicpb, must take and refuse the same input, and make the same of what they
// take: from JSON the same message, from wire bytes the same JSON. What may differ is in the two lists below, and nothing
// else may.

// codec is what is held against the oracle: this package, or a broken variant of it that shows that the comparison can fail.
type codec struct {
	toWire, toJSON func(dst, in []byte, m *schema.Message, o *jsonwire.Options) ([]byte, error)
}

var realCodec = codec{jsonwire.AppendWire, jsonwire.AppendJSON}

// difference is a case in which codec and oracle may decide differently.
type difference struct {
	name   string
	reason string
	// matches gets the input and what each side says; one of the errors is nil.
	matches func(in []byte, ours, theirs error) bool
}

func oursSays(part string) func([]byte, error, error) bool {
	return func(_ []byte, ours, _ error) bool { return ours != nil && strings.Contains(ours.Error(), part) }
}

var bareExponent = regexp.MustCompile(`[0-9][eE][-+]?([^0-9]|$)`)

// jsonDifferences is the whole list for JSON -> wire.
var jsonDifferences = []difference{
	{
		"long number", "a number of more than 64 bytes is no number that anybody means; the limit keeps parsing cheap",
		oursSays("a number of at most 64 bytes"),
	},
	{
		"elements", "a message has 100,000 fields and elements at most, a bound on what it costs; protojson has none",
		oursSays("more than 100000 fields and elements"),
	},
	{
		"closed enum", "a closed enum has no unknown values in JSON (protobuf's enum guide); protojson takes any number",
		oursSays("is closed and has no value"),
	},
	{
		"bare exponent", "protojson takes 1e as the integer 1; RFC 8259 wants digits after e",
		func(in []byte, ours, _ error) bool { return ours != nil && bareExponent.Match(in) },
	},
	{
		"levels of Any", "here what an Any holds is always a level of its own; protojson counts it for some types only",
		func(in []byte, ours, _ error) bool {
			return ours != nil && strings.Contains(ours.Error(), "nested deeper") && bytes.Contains(in, []byte("type.googleapis.com"))
		},
	},
	{
		"foreign extension", "with unknown fields ignored, the extension of another message is one; protojson refuses it all the same",
		func(_ []byte, ours, theirs error) bool {
			return ours == nil && strings.Contains(theirs.Error(), "cannot be extended by")
		},
	},
}

// wireDifferences is the whole list for wire -> JSON.
var wireDifferences = []difference{
	{
		"depth", "the codec stops at 100 levels of messages, as C++ and Java do; protobuf-go at 10,000",
		oursSays("nested deeper than 100 levels"),
	},
	{
		"elements", "a message has 100,000 fields and elements at most, a bound on what it costs; protobuf-go has none",
		oursSays("more than 100000 fields and elements"),
	},
	{
		"panic", "protobuf-go 1.36.12 panics at a map entry whose key comes twice, the second time with a wrong wire type",
		func(_ []byte, _, theirs error) bool { return errors.Is(theirs, errPanic) },
	},
}

// differenceExamples has an input for each entry of the two lists that is refused or taken otherwise because of it.
var differenceExamples = []struct {
	json       bool
	name       string
	root, text string
	ignore     bool // unknown fields
}{
	{true, "long number", "test.three.Scalars", `{"fDouble":1.` + strings.Repeat("0", 63) + `}`, false},
	{true, "elements", "google.protobuf.ListValue", `[` + strings.Repeat("0,", 100_000) + `0]`, false},
	{true, "closed enum", "test.two.Two", `{"shade":4}`, false},
	{true, "bare exponent", "test.three.Scalars", `{"fInt32":1e}`, false},
	{true, "levels of Any", "google.protobuf.Any", anyOf(99, `{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}`), false},
	{true, "foreign extension", "test.two.Needy", `{"id":1,"name":"","[test.two.ext_number]":1}`, true},
	{false, "depth", "test.three.Tree", nestedWire(100), false},
	{false, "elements", "test.three.Tree", strings.Repeat("\x22\x00", 100_001), false},
	{false, "panic", "test.three.Maps", "\x1a\x07\x08\x01\x0d\x00\x00\x00\x00", false},
}

// anyOf is an Any in so many others.
func anyOf(levels int, inner string) string {
	return strings.Repeat(`{"@type":"type.googleapis.com/google.protobuf.Any","value":`, levels) + inner + strings.Repeat(`}`, levels)
}

// nestedWire is a Tree in which so many trees are nested.
func nestedWire(levels int) string {
	var b []byte
	for range levels {
		b = protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), b)
	}
	return string(b)
}

// tally counts what was compared.
type tally struct {
	mu              sync.Mutex
	texts, messages int
	taken, refused  int
	permitted       map[string]int
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d executions: %d texts and %d encoded messages; both sides took %d and refused %d", c.texts+c.messages, c.texts, c.messages, c.taken, c.refused)
	for _, name := range slices.Sorted(maps.Keys(c.permitted)) {
		fmt.Fprintf(&b, "; %s: %d", name, c.permitted[name])
	}
	return b.String()
}

// permittedBy gives the entry of a list that allows the two sides to differ.
func permittedBy(list []difference, in []byte, ours, theirs error) *difference {
	for i, d := range list {
		if d.matches(in, ours, theirs) {
			return &list[i]
		}
	}
	return nil
}

// decide says whether both sides take the input. An error is a difference that the list does not allow.
func (c *tally) decide(list []difference, in []byte, ours, theirs error) (taken bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case ours == nil && theirs == nil:
		c.taken++
		return true, nil
	case ours != nil && theirs != nil:
		c.refused++
		return false, nil
	}
	if d := permittedBy(list, in, ours, theirs); d != nil {
		if c.permitted == nil {
			c.permitted = map[string]int{}
		}
		c.permitted[d.name]++
		return false, nil
	}
	return false, fmt.Errorf("accept or refuse differs\n  input %q\n  ours   %v\n  theirs %v", in, ours, theirs) //nolint:errorlint // one of them is nil
}

// agree is decide for a test that counts nothing.
func agree(t *testing.T, list []difference, in []byte, ours, theirs error) bool {
	t.Helper()
	taken, err := new(tally).decide(list, in, ours, theirs)
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

// poor says what is wrong with a refusal, by what is promised of errors.
func poor(err error, json bool) error {
	var e *jsonwire.Error
	switch {
	case err == nil:
	case !errors.As(err, &e):
		return fmt.Errorf("the error is a %T: %w", err, err)
	case e.Message == "" || !utf8.ValidString(e.Error()) || len(e.Message) > 2000:
		return fmt.Errorf("poor message %q", e.Error())
	case json && (e.Line < 1 || e.Column < 1):
		return fmt.Errorf("no position: %w", e)
	}
	return nil
}

func checkError(t *testing.T, err error, json bool) {
	t.Helper()
	if err := poor(err, json); err != nil {
		t.Fatal(err)
	}
}

const prefix = "kept"

// touched says what the codec did to dst's content or to its input.
func touched(dst, in, before []byte) error {
	if !bytes.HasPrefix(dst, []byte(prefix)) {
		return fmt.Errorf("dst was %q, is %q", prefix, dst)
	}
	if !bytes.Equal(in, before) {
		return errors.New("the input was changed")
	}
	return nil
}

func canary(t *testing.T, dst, in, before []byte) {
	t.Helper()
	if err := touched(dst, in, before); err != nil {
		t.Fatal(err)
	}
}

// diffJSON reads in as m on both sides. What they make of it must have the same bytes, once the fields are in one order.
func (w *world) diffJSON(m *schema.Message, in []byte, ignoreUnknown bool) error {
	before := bytes.Clone(in)
	dst, ours := w.codec.toWire([]byte(prefix), in, m, &jsonwire.Options{IgnoreUnknown: ignoreUnknown})
	if err := errors.Join(touched(dst, in, before), poor(ours, true)); err != nil {
		return err
	}
	want, theirs := w.oracleParse(m, in, ignoreUnknown)
	w.tally.mu.Lock()
	w.tally.texts++
	w.tally.mu.Unlock()
	if taken, err := w.tally.decide(jsonDifferences, in, ours, theirs); !taken {
		return err
	}
	wire := dst[len(prefix):]
	got := dynamicpb.NewMessage(m.Desc)
	if err := (proto.UnmarshalOptions{Resolver: w.types}).Unmarshal(wire, got); err != nil {
		return fmt.Errorf("the wire form of %q is broken: %w", in, err)
	}
	a, b := w.canonical(got), w.canonical(want)
	if !bytes.Equal(a, b) {
		return fmt.Errorf("%s %q\n got %v\nwant %v\nwire %x\n got %x\nwant %x", m.Name, in, got, want, wire, a, b)
	}
	return nil
}

// canonical is a message's wire form with everything in one order.
func (w *world) canonical(m proto.Message) []byte {
	w.normalise(m.ProtoReflect())
	b, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(m)
	if err != nil {
		return []byte("cannot be encoded: " + err.Error())
	}
	return b
}

func (w *world) compareJSON(t *testing.T, m *schema.Message, in []byte, ignoreUnknown bool) {
	t.Helper()
	if err := w.diffJSON(m, in, ignoreUnknown); err != nil {
		t.Fatal(err)
	}
}

// diffWire writes in, as an encoded m, on both sides. The JSON must be the same but for white space, which protojson varies.
func (w *world) diffWire(m *schema.Message, in []byte, flags byte) error {
	o := jsonwire.Options{EmitUnpopulated: flags&1 != 0, ProtoNames: flags&2 != 0, EnumNumbers: flags&4 != 0}
	before := bytes.Clone(in)
	dst, ours := w.codec.toJSON([]byte(prefix), in, m, &o)
	if err := errors.Join(touched(dst, in, before), poor(ours, false)); err != nil {
		return err
	}
	want, theirs := w.oracleJSON(m, in, protojson.MarshalOptions{
		Resolver: w.types, EmitDefaultValues: o.EmitUnpopulated, UseProtoNames: o.ProtoNames, UseEnumNumbers: o.EnumNumbers,
	})
	w.tally.mu.Lock()
	w.tally.messages++
	w.tally.mu.Unlock()
	if taken, err := w.tally.decide(wireDifferences, in, ours, theirs); !taken {
		return err
	}
	a, err := compacted(want)
	if err != nil {
		return err
	}
	if b := string(dst[len(prefix):]); a != b {
		return fmt.Errorf("%s %x\n got %s\nwant %s", m.Name, in, b, a)
	}
	return nil
}

func (w *world) compareWire(t *testing.T, m *schema.Message, in []byte, flags byte) {
	t.Helper()
	if err := w.diffWire(m, in, flags); err != nil {
		t.Fatal(err)
	}
}

// TestDifferences shows for each entry of the lists an input that needs it, so that none outlives its reason.
func TestDifferences(t *testing.T) {
	w := theWorld(t)
	shown := map[*difference]bool{}
	for _, e := range differenceExamples {
		t.Run(fmt.Sprintf("json=%v/%s", e.json, e.name), func(t *testing.T) {
			m, in, list := w.message(t, e.root), []byte(e.text), wireDifferences
			var ours, theirs error
			if e.json {
				list = jsonDifferences
				_, ours = jsonwire.AppendWire(nil, in, m, &jsonwire.Options{IgnoreUnknown: e.ignore})
				_, theirs = w.oracleParse(m, in, e.ignore)
			} else {
				_, ours = jsonwire.AppendJSON(nil, in, m, nil)
				_, theirs = w.oracleJSON(m, in, protojson.MarshalOptions{Resolver: w.types})
			}
			if (ours == nil) == (theirs == nil) {
				t.Fatalf("both sides decide alike:\n  ours   %v\n  theirs %v", ours, theirs)
			}
			d := permittedBy(list, in, ours, theirs)
			if d == nil || d.name != e.name || d.reason == "" {
				t.Fatalf("%+v is what permits it\n  ours   %v\n  theirs %v", d, ours, theirs)
			}
			shown[d] = true
		})
	}
	if len(shown) != len(jsonDifferences)+len(wireDifferences) {
		t.Errorf("%d of %d differences have an example", len(shown), len(jsonDifferences)+len(wireDifferences))
	}
}

// compareSeeds reads every seed as every root.
func (w *world) compareSeeds(t *testing.T) error {
	t.Helper()
	for _, name := range roots {
		m := w.message(t, name)
		for _, s := range jsonSeeds {
			if err := errors.Join(w.diffJSON(m, []byte(s), false), w.diffJSON(m, []byte(s), true)); err != nil {
				return err
			}
			if wire, err := jsonwire.AppendWire(nil, []byte(s), m, nil); err == nil {
				if err := errors.Join(w.diffWire(m, wire, 0), w.diffWire(m, append(wire, wire...), 7)); err != nil {
					return err
				}
			}
		}
		for _, s := range wireSeeds {
			if err := w.diffWire(m, []byte(s), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestSeeds(t *testing.T) {
	w := theWorld(t).with(realCodec)
	if err := w.compareSeeds(t); err != nil {
		t.Fatal(err)
	}
	t.Log(w.tally)
}

// brokenCodecs are variants with one fault each, made by changing what goes in or comes out.
var brokenCodecs = []struct {
	name string
	codec
}{
	{"minus zero printed as zero", codec{jsonwire.AppendWire, after(jsonwire.AppendJSON, func(_, out []byte) []byte { return replaceAll(out, ":-0", ":0") })}},
	{"an escape left out", codec{jsonwire.AppendWire, after(jsonwire.AppendJSON, func(_, out []byte) []byte { return replaceAll(out, `\n`, "\n") })}},
	{"64-bit numbers unquoted", codec{jsonwire.AppendWire, after(jsonwire.AppendJSON, func(_, out []byte) []byte { return replaceAll(out, `"9223372036854775807"`, `9223372036854775807`) })}},
	{"a comma at the end taken", codec{before(jsonwire.AppendWire, func(in []byte) []byte { return replaceAll(in, ",}", "}") }), jsonwire.AppendJSON}},
	{"the last field lost", codec{after(jsonwire.AppendWire, func(_, out []byte) []byte {
		fields := split(out)
		return bytes.Join(fields[:max(0, len(fields)-1)], nil)
	}), jsonwire.AppendJSON}},
	{"a zero with presence lost", codec{after(jsonwire.AppendWire, func(_, out []byte) []byte {
		return bytes.Join(slices.DeleteFunc(split(out), func(f []byte) bool { return bytes.HasSuffix(f, []byte{0x02, 0}) && len(f) == 3 }), nil)
	}), jsonwire.AppendJSON}},
	{"not UTF-8 taken", codec{before(jsonwire.AppendWire, func(in []byte) []byte { return bytes.ToValidUTF8(in, []byte("?")) }), jsonwire.AppendJSON}},
	{"input changed", codec{func(dst, in []byte, m *schema.Message, o *jsonwire.Options) ([]byte, error) {
		out, err := jsonwire.AppendWire(dst, in, m, o)
		if len(in) > 0 {
			in[0] ^= 1
		}
		return out, err
	}, jsonwire.AppendJSON}},
	{"dst not kept on refusal", codec{func(dst, in []byte, m *schema.Message, o *jsonwire.Options) ([]byte, error) {
		out, err := jsonwire.AppendWire(dst, in, m, o)
		if err != nil {
			return nil, err
		}
		return out, nil
	}, jsonwire.AppendJSON}},
}

type translate = func(dst, in []byte, m *schema.Message, o *jsonwire.Options) ([]byte, error)

func replaceAll(b []byte, old, with string) []byte {
	return bytes.ReplaceAll(b, []byte(old), []byte(with))
}

// after changes what f gives.
func after(f translate, change func(in, out []byte) []byte) translate {
	return func(dst, in []byte, m *schema.Message, o *jsonwire.Options) ([]byte, error) {
		out, err := f(nil, in, m, o)
		if err != nil {
			return dst, err
		}
		return append(dst, change(in, out)...), nil
	}
}

// before changes what f gets.
func before(f translate, change func(in []byte) []byte) translate {
	return func(dst, in []byte, m *schema.Message, o *jsonwire.Options) ([]byte, error) {
		return f(dst, change(in), m, o)
	}
}

// TestBrokenCodecs turns the comparison red with each broken variant, and says with which input.
func TestBrokenCodecs(t *testing.T) {
	for _, b := range brokenCodecs {
		t.Run(b.name, func(t *testing.T) {
			w := theWorld(t).with(b.codec)
			err := w.compareSeeds(t)
			if err == nil {
				t.Fatalf("no difference is seen in %s", w.tally)
			}
			t.Logf("red after %d executions: %s", w.tally.texts+w.tally.messages, strings.ReplaceAll(err.Error(), "\n", " | "))
		})
	}
}

func FuzzJSONToWire(f *testing.F) {
	w := theWorld(f)
	for n, s := range jsonSeeds {
		for i, name := range roots {
			if _, err := jsonwire.AppendWire(nil, []byte(s), w.message(f, name), nil); err == nil && s != "{}" || n%len(roots) == i {
				f.Add(byte(i), n%2 == 0, []byte(s))
			}
		}
	}
	f.Fuzz(func(t *testing.T, root byte, ignoreUnknown bool, in []byte) {
		w.compareJSON(t, w.message(t, roots[int(root)%len(roots)]), in, ignoreUnknown)
	})
}

func FuzzWireToJSON(f *testing.F) {
	w := theWorld(f)
	for i, name := range roots {
		for n, s := range jsonSeeds {
			if wire, err := jsonwire.AppendWire(nil, []byte(s), w.message(f, name), nil); err == nil && len(wire) > 0 {
				f.Add(byte(i), byte(n), wire)
			}
		}
		for n, s := range wireSeeds {
			if n%len(roots) == i {
				f.Add(byte(i), byte(0), []byte(s))
			}
		}
	}
	f.Fuzz(func(t *testing.T, root, flags byte, in []byte) {
		w.compareWire(t, w.message(t, roots[int(root)%len(roots)]), in, flags)
	})
}
