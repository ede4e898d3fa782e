package jsonwire_test

import (
	"math"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// refusedTexts are bodies with one fault each, and what the error says of it.
var refusedTexts = []struct {
	name, root, text, says string
}{
	{"a value of an Any twice", "google.protobuf.Any", `{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s","value":"2s"}`, `field "value" is given twice`},
	{"another field in an Any of a Duration", "google.protobuf.Any", `{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s","other":1}`, `has no field "other"`},
	{"a type twice, the second last", "google.protobuf.Any", `{"name":"a","@type":"type.googleapis.com/test.three.Tree","@type":"type.googleapis.com/test.three.Tree"}`, `column 59: @type: "@type" is given twice`},
	{"a field twice in an Any", "google.protobuf.Any", `{"@type":"type.googleapis.com/test.three.Tree","name":"a","name":"b"}`, `"name" is given twice`},
	{"a field twice in two spellings", "test.three.Scalars", `{"fInt32":1,"f_int32":1}`, `"f_int32" is given twice`},
	{"a field twice, first null", "test.three.Scalars", `{"fInt32":null,"fInt32":1}`, "is given twice"},
	{"two members of a oneof, one of them zero", "test.three.Tree", `{"text":"","number":0}`, "has a member already"},
	{"a member of a oneof and a null that is a value", "test.three.Tree", `{"text":"","anything":null}`, "has a member already"},
	{"a map key twice", "test.three.Maps", `{"mInt32":{"1":"","1":""}}`, "is given twice"},
	{"a map key twice, once escaped", "test.three.Request", `{"labels":{"a":"","\u0061":""}}`, "is given twice"},
	{"a map key twice among many", "test.three.Request", `{"labels":{"a":"","b":"","c":"","d":"","e":"","f":"","g":"","h":"","i":"","j":"","k":"","l":"","m":"","n":"","o":"","p":"","a":""}}`, "is given twice"},
	{"a map key twice around another map", "test.three.Maps", `{"mMaps":{"a":{"mMaps":{"a":{}}},"a":{}}}`, "is given twice"},
	{"a long map key twice", "test.three.Request", `{"labels":{"` + strings.Repeat("k", 200) + `":"","` + strings.Repeat("k", 200) + `":""}}`, "is given twice"},
	{"an element of a list is null", "test.three.Scalars", `{"rString":[null]}`, "wanted a string, found null"},
	{"a map value is null", "test.three.Maps", `{"mInt32":{"1":null}}`, "wanted a string, found null"},
	{"a closed enum by an unknown number", "test.two.Two", `{"shade":4}`, "is closed and has no value 4"},
	{"a closed enum in a list", "test.two.Two", `{"shades":["LIGHT",4]}`, "is closed and has no value 4"},
	{"a closed enum of an edition", "test.edition.Edition", `{"legacyRequired":1,"closed":3}`, "is closed and has no value 3"},
	{"a required field", "test.two.Needy", `{"name":""}`, `lacks what is required: "id"`},
	{"a required field of an edition", "test.edition.Edition", `{}`, `lacks what is required: "legacy_required"`},
	{"a required field of an extension", "test.two.Two", `{"[test.two.Holder.held]":{"id":1}}`, `lacks what is required: "name"`},
	{"a time in the year 0", "google.protobuf.Timestamp", `"0000-12-31T23:59:59Z"`, "years 1 to 9999"},
	{"a time before the year 1 by its zone", "google.protobuf.Timestamp", `"0001-01-01T00:00:00+01:00"`, "years 1 to 9999"},
	{"a time beyond the year 9999 by its zone", "google.protobuf.Timestamp", `"9999-12-31T23:59:59-01:00"`, "years 1 to 9999"},
	{"a time with ten decimals", "google.protobuf.Timestamp", `"2024-01-01T00:00:00.1234567890Z"`, "at most nine decimals"},
	{"a duration that is too long", "google.protobuf.Duration", `"315576000001s"`, "at most 315576000000s"},
	{"a duration with ten decimals", "google.protobuf.Duration", `"1.0000000000s"`, "at most nine decimals"},
	{"a mask with an underscore", "google.protobuf.FieldMask", `"a_b"`, "a field mask"},
	{"what a Value cannot hold", "google.protobuf.Value", `NaN`, "wanted a JSON value"},
	{"a NUL byte in a string", "test.three.Request", "{\"name\":\"a\x00\"}", "control character 0x00"},
	{"a tab in a string", "test.three.Request", "{\"name\":\"a\tb\"}", "control character 0x09"},
	{"a byte that is not UTF-8 in a key", "test.three.Request", "{\"labels\":{\"a\xff\":\"\"}}", "wanted UTF-8"},
	{"a surrogate in UTF-8", "test.three.Request", "{\"name\":\"\xed\xa0\x80\"}", "wanted UTF-8"},
	{"an overlong form in UTF-8", "test.three.Request", "{\"name\":\"\xc0\x80\"}", "wanted UTF-8"},
	{"a lone surrogate", "test.three.Request", `{"name":"\udc00"}`, "a pair of surrogates"},
	{"a high surrogate before a letter", "test.three.Request", `{"name":"\ud800a"}`, "a pair of surrogates"},
	{"a number of 65 bytes", "test.three.Scalars", `{"fDouble":0.` + strings.Repeat("1", 63) + `}`, "a number of at most 64 bytes, found one of 65"},
	{"a number of 65 bytes in quotes", "test.three.Scalars", `{"fDouble":"0.` + strings.Repeat("1", 63) + `"}`, "a number of at most 64 bytes, found one of 65"},
	{"a number of 65 bytes that is ignored", "test.three.Scalars", `{"rDouble":[0.` + strings.Repeat("1", 63) + `]}`, "a number of at most 64 bytes, found one of 65"},
}

// TestRefusedTexts holds each fault to the words for it, and to a place in the text.
func TestRefusedTexts(t *testing.T) {
	w := theWorld(t)
	for _, c := range refusedTexts {
		t.Run(c.name, func(t *testing.T) {
			m := w.message(t, c.root)
			_, err := jsonwire.AppendWire(nil, []byte(c.text), m, nil)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "line 1 column ") {
				t.Errorf("%s gives %v, want %q", c.text, err, c.says)
			}
			w.compareJSON(t, m, []byte(c.text), false)
		})
	}
}

// refusedWires are wire forms that have no form in JSON.
var refusedWires = []struct {
	name, root, wire, says string
}{
	{"a Value that is no number", "google.protobuf.Value", double(2, math.NaN()), "found the number NaN"},
	{"an infinite Value", "google.protobuf.Value", double(2, math.Inf(-1)), "found the number -Inf"},
	{"a Value of nothing", "google.protobuf.ListValue", text(1, ""), "found none"},
	{"a time before the year 1", "google.protobuf.Timestamp", number(1, 1<<64-62135596801), "the years 1 to 9999"},
	{"a time beyond the year 9999", "google.protobuf.Timestamp", number(1, 253402300800), "the years 1 to 9999"},
	{"a time of negative nanos", "google.protobuf.Timestamp", number(2, math.MaxUint64), "nanos from 0"},
	{"a time of a whole second in nanos", "google.protobuf.Timestamp", number(2, 1_000_000_000), "nanos from 0"},
	{"a duration that is too long", "google.protobuf.Duration", number(1, 315576000001), "at most 315576000000 seconds"},
	{"a negative duration that is too long", "google.protobuf.Duration", number(1, 1<<64-315576000001), "at most 315576000000 seconds"},
	{"a duration of two signs", "google.protobuf.Duration", number(1, 1) + number(2, math.MaxUint64), "of one sign"},
	{"a negative duration of two signs", "google.protobuf.Duration", number(1, math.MaxUint64) + number(2, 1), "of one sign"},
	{"a duration of a whole second in nanos", "google.protobuf.Duration", number(2, 1<<64-1_000_000_000), "nanos from -999999999"},
	{"a mask with a capital", "google.protobuf.FieldMask", text(1, "aB"), "a capital letter"},
	{"a mask with two underscores", "google.protobuf.FieldMask", text(1, "a__b"), "followed by a lower-case letter"},
	{"a mask with a digit behind its underscore", "google.protobuf.FieldMask", text(1, "a_1"), "followed by a lower-case letter"},
	{"a mask that ends with an underscore", "google.protobuf.FieldMask", text(1, "a_"), "followed by a lower-case letter"},
	{"a mask of no name", "google.protobuf.FieldMask", text(1, ""), "a path of field names"},
	{"an Any of another authority", "google.protobuf.Any", text(1, "example.com/test.three.Tree"), "begins with type.googleapis.com/"},
	{"an Any of an unknown type", "google.protobuf.Any", text(1, "type.googleapis.com/no.Such"), "is not in the schema"},
	{"an Any without type", "google.protobuf.Any", text(2, "a"), "a value without one"},
	{"an Any of what is not its type", "google.protobuf.Any", text(1, "type.googleapis.com/test.three.Tree") + text(2, "\x0a\x05a"), "wanted the wire form of test.three.Tree"},
	{"a required field", "test.two.Needy", number(1, 1), `lacks what is required: "name"`},
	{"a required field of a map value", "test.two.Two", text(12, number(1, 1)+text(2, number(1, 1))), `lacks what is required: "name"`},
	{"a group without end", "test.two.Two", "\x33\x0a\x01a", "found bytes that are not"},
	{"a group that another ends", "test.two.Two", "\x33\x3c", "found bytes that are not"},
	{"an end of no group", "test.two.Two", "\x34", "found bytes that are not"},
	{"the number 0", "test.three.Tree", "\x00\x00", "found bytes that are not"},
	{"a varint of eleven bytes", "test.three.Scalars", "\x18" + strings.Repeat("\x80", 10) + "\x01", "found bytes that are not"},
	{"a varint beyond 64 bits", "test.three.Scalars", "\x18" + strings.Repeat("\xff", 9) + "\x02", "found bytes that are not"},
	{"a string that is cut off", "test.three.Tree", "\x0a\x02a", "found bytes that are not"},
	{"packed values that are cut off", "test.three.Scalars", text(61, "1234567"), "packed values of kind double"},
	{"packed varints that are cut off", "test.three.Scalars", text(63, "\x80"), "packed values of kind int32"},
	{"a string that is not UTF-8", "test.three.Tree", text(1, "a\xff"), "byte 0xff at offset 1"},
	{"a map key that is not UTF-8", "test.three.Request", text(7, text(1, "a\xff")), "byte 0xff at offset 1"},
}

// TestRefusedWires holds each fault to the words for it.
func TestRefusedWires(t *testing.T) {
	w := theWorld(t)
	for _, c := range refusedWires {
		t.Run(c.name, func(t *testing.T) {
			m := w.message(t, c.root)
			out, err := jsonwire.AppendJSON(nil, []byte(c.wire), m, nil)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%x gives %s, %v, want %q", c.wire, out, err, c.says)
			}
			w.compareWire(t, m, []byte(c.wire), 0)
		})
	}
}

// TestWideMessage has fields beyond the 64 that one word of marks holds.
func TestWideMessage(t *testing.T) {
	m := wideMessage(t, 200)
	for _, c := range []struct {
		in string
		ok bool
	}{
		{`{"f0":[],"f63":[true],"f64":[true],"f199":[true]}`, true},
		{`{"f64":[true],"f64":[true]}`, false},
		{`{"f199":[],"f3":[],"f199":[]}`, false},
		{`{"f199":[],"wide":{"f199":[],"wide":{"f198":[]}},"f198":[]}`, true},
		{`{"f199":[],"wide":{"f198":[]},"f199":[]}`, false},
		{`{"wide":{"f199":[]},"wide":{}}`, false},
	} {
		if _, err := jsonwire.AppendWire(nil, []byte(c.in), m, nil); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.in, err)
		}
	}
}
