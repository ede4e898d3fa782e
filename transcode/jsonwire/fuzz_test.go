package jsonwire_test

import (
	"bytes"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

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
			return ours != nil && strings.Contains(ours.Error(), "nested deeper") && bytes.Count(in, []byte("type.googleapis.com")) > 0
		},
	},
	{
		"foreign extension", "with unknown fields ignored, the extension of another message is one; protojson refuses it all the same",
		func(_ []byte, _, theirs error) bool {
			return theirs != nil && strings.Contains(theirs.Error(), "cannot be extended by")
		},
	},
}

// wireDifferences is the whole list for wire -> JSON.
var wireDifferences = []difference{
	{
		"depth", "the codec stops at 100 levels of messages, as C++ and Java do; protobuf-go at 10,000",
		oursSays("nested deeper than 100 levels"),
	},
}

// agree fails unless both sides accept or both refuse, or the list permits the difference. It says whether both accept.
func agree(t *testing.T, list []difference, in []byte, ours, theirs error) bool {
	t.Helper()
	if (ours == nil) == (theirs == nil) {
		return ours == nil
	}
	for _, d := range list {
		if d.matches(in, ours, theirs) {
			return false
		}
	}
	t.Fatalf("accept or refuse differs\n  input %q\n  ours   %v\n  theirs %v", in, ours, theirs)
	return false
}

// checkError holds a refusal against what is promised of errors.
func checkError(t *testing.T, err error, json bool) {
	t.Helper()
	if err == nil {
		return
	}
	var e *jsonwire.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is a %T: %v", err, err)
	}
	if e.Message == "" || !utf8.ValidString(e.Error()) || len(e.Message) > 2000 {
		t.Fatalf("poor message %q", e.Error())
	}
	if json && (e.Line < 1 || e.Column < 1) {
		t.Fatalf("no position: %v", e)
	}
}

const prefix = "kept"

// canary checks that the codec neither touched dst's content nor its input.
func canary(t *testing.T, dst, in, before []byte) {
	t.Helper()
	if !bytes.HasPrefix(dst, []byte(prefix)) {
		t.Fatalf("dst was %q, is %q", prefix, dst)
	}
	if !bytes.Equal(in, before) {
		t.Fatal("the input was changed")
	}
}

// compareJSON reads in as m on both sides.
func (w *world) compareJSON(t *testing.T, m *schema.Message, in []byte, ignoreUnknown bool) {
	t.Helper()
	before := bytes.Clone(in)
	dst, ours := jsonwire.AppendWire([]byte(prefix), in, m, &jsonwire.Options{IgnoreUnknown: ignoreUnknown})
	canary(t, dst, in, before)
	checkError(t, ours, true)
	want, theirs := w.oracleParse(m, in, ignoreUnknown)
	if !agree(t, jsonDifferences, in, ours, theirs) {
		return
	}
	wire := dst[len(prefix):]
	got := dynamicpb.NewMessage(m.Desc)
	if err := (proto.UnmarshalOptions{Resolver: w.types}).Unmarshal(wire, got); err != nil {
		t.Fatalf("the wire form of %q is broken: %v", in, err)
	}
	w.normalise(got)
	w.normalise(want.ProtoReflect())
	if !proto.Equal(got, want) {
		t.Fatalf("%s %q\n got %v\nwant %v\nwire %x", m.Name, in, got, want, wire)
	}
}

// compareWire writes in, as an encoded m, on both sides.
func (w *world) compareWire(t *testing.T, m *schema.Message, in []byte, flags byte) {
	t.Helper()
	o := jsonwire.Options{EmitUnpopulated: flags&1 != 0, ProtoNames: flags&2 != 0, EnumNumbers: flags&4 != 0}
	before := bytes.Clone(in)
	dst, ours := jsonwire.AppendJSON([]byte(prefix), in, m, &o)
	canary(t, dst, in, before)
	checkError(t, ours, false)
	want, theirs := w.oracleJSON(m, in, protojson.MarshalOptions{
		Resolver: w.types, EmitDefaultValues: o.EmitUnpopulated, UseProtoNames: o.ProtoNames, UseEnumNumbers: o.EnumNumbers,
	})
	if errors.Is(theirs, errPanic) {
		return
	}
	if !agree(t, wireDifferences, in, ours, theirs) {
		return
	}
	if a, b := compact(t, want), string(dst[len(prefix):]); a != b {
		t.Fatalf("%s %x\n got %s\nwant %s", m.Name, in, b, a)
	}
}

// TestSeeds reads every seed as every root.
func TestSeeds(t *testing.T) {
	w := theWorld(t)
	for _, name := range roots {
		m := w.message(t, name)
		for _, s := range jsonSeeds {
			w.compareJSON(t, m, []byte(s), false)
			w.compareJSON(t, m, []byte(s), true)
			if wire, err := jsonwire.AppendWire(nil, []byte(s), m, nil); err == nil {
				w.compareWire(t, m, wire, 0)
				w.compareWire(t, m, append(wire, wire...), 7)
			}
		}
		for _, s := range wireSeeds {
			w.compareWire(t, m, []byte(s), 0)
		}
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

// queryDifferences is the whole list for parameters, against grpc-gateway's runtime.
var queryDifferences = []difference{
	{
		"map[key]", "maps are refused here",
		func(in []byte, _, _ error) bool {
			return bytes.ContainsAny(in, "[") || bytes.Contains(in, []byte("%5"))
		},
	},
	{
		"enum", "grpc-gateway looks enums up among the generated types, and so finds none of the schema's",
		func(_ []byte, _, theirs error) bool {
			return theirs != nil && strings.Contains(theirs.Error(), "is not registered")
		},
	},
	{
		"duration", "grpc-gateway takes Go's durations in a query, this codec the JSON form in all places",
		func(in []byte, _, _ error) bool { return bytes.Contains(in, []byte("uration")) },
	},
	{
		"time", "grpc-gateway takes more than nine decimals and the years beyond 9999 or before 1",
		func(_ []byte, ours, _ error) bool {
			return ours != nil && strings.Contains(ours.Error(), "a time as in RFC 3339")
		},
	},
	{
		"messages", "grpc-gateway takes Struct, Value and Empty as text, which AppendRequest does not promise",
		oursSays("cannot be given as a parameter"),
	},
	{
		"mask", "grpc-gateway takes any text for the paths of a mask",
		oursSays("a field mask"),
	},
	{
		"whole and part", "grpc-gateway lets a message and its fields be given side by side, in the order of a map",
		func(_ []byte, ours, _ error) bool {
			return ours != nil && (strings.Contains(ours.Error(), "gives a part of it") || strings.Contains(ours.Error(), `the query gives "`))
		},
	},
	{
		"unknown name", "grpc-gateway ignores names that are no field; here that is a choice",
		oursSays("names no field"),
	},
	{
		"one name in two spellings", "grpc-gateway refuses a repeated field spelt in two ways",
		func(_ []byte, _, theirs error) bool {
			return theirs != nil && strings.Contains(theirs.Error(), "duplicate field")
		},
	},
	{
		"oneof", "grpc-gateway forgets a member of message type, and a second look at the same one",
		func(_ []byte, ours, theirs error) bool {
			return ours != nil && strings.Contains(ours.Error(), "oneof") || theirs != nil && strings.Contains(theirs.Error(), "oneof")
		},
	},
	{
		"form", "grpc-gateway's caller drops pairs that do not parse, with a semicolon in them, or are not UTF-8",
		func(in []byte, ours, _ error) bool {
			return ours != nil && (strings.Contains(ours.Error(), "in the query") || strings.Contains(ours.Error(), "UTF-8")) || bytes.Contains(in, []byte(";"))
		},
	},
}

func FuzzQuery(f *testing.F) {
	w := theWorld(f)
	for i := range roots[:8] {
		for _, s := range querySeeds {
			f.Add(byte(i), s)
		}
	}
	f.Fuzz(func(t *testing.T, root byte, query string) {
		m := w.message(t, roots[int(root)%8])
		o := &jsonwire.Options{}
		params, ours := jsonwire.AppendQuery(nil, m, query, o, nil)
		checkError(t, ours, false)
		var wire []byte
		if ours == nil {
			wire, ours = jsonwire.AppendRequest([]byte(prefix), &jsonwire.Request{Message: m, Params: params}, o)
			canary(t, wire, nil, nil)
			checkError(t, ours, false)
		}
		if m.HasRequired {
			return // grpc-gateway does not look for required fields
		}
		values, theirs := url.ParseQuery(query)
		want := dynamicpb.NewMessage(m.Desc)
		if theirs == nil {
			theirs = runtime.PopulateQueryParameters(want, values, utilities.NewDoubleArray(nil))
		}
		if !agree(t, queryDifferences, []byte(query), ours, theirs) {
			return
		}
		if slices.ContainsFunc(params, func(p jsonwire.Param) bool { return notComparable(p.Field) }) || strings.Contains(query, "[") {
			return
		}
		got, err := w.oracleDecode(m, wire[len(prefix):])
		if err != nil {
			t.Fatal(err)
		}
		// Through bytes: grpc-gateway puts generated messages into the dynamic one, which proto.Equal tells apart.
		raw, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.oracleDecode(m, raw)
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, again) {
			t.Fatalf("%s %q\n got %v\nwant %v", m.Name, query, got, again)
		}
	})
}

// notComparable are the fields whose text grpc-gateway reads in another way: see queryDifferences.
func notComparable(p schema.Path) bool {
	f := p.Last()
	return f.Message != nil && (f.Message.WellKnown == schema.FieldMask || f.Message.WellKnown == schema.Duration) || len(p) > 1
}
