package jsonwire_test

import (
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// What goes into a wire form by hand.

func text(n protowire.Number, s string) string { return string(bytesField(n, []byte(s))) }

func number(n protowire.Number, v uint64) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v))
}

func double(n protowire.Number, v float64) string {
	return string(protowire.AppendFixed64(protowire.AppendTag(nil, n, protowire.Fixed64Type), math.Float64bits(v)))
}

func float(n protowire.Number, v float32) string {
	return string(protowire.AppendFixed32(protowire.AppendTag(nil, n, protowire.Fixed32Type), math.Float32bits(v)))
}

func group(n protowire.Number, content string) string {
	return string(protowire.AppendGroup(protowire.AppendTag(nil, n, protowire.StartGroupType), n, []byte(content)))
}

// shapes are wire forms that are not what an encoder would write, and the JSON that they stand for.
var shapes = []struct {
	name, root, wire, want string
}{
	{"the last value", "test.three.Tree", text(1, "a") + text(1, "b"), `{"name":"b"}`},
	{"the last value is zero", "test.three.Tree", text(1, "a") + text(1, ""), `{}`},
	{"the last value is not zero", "test.three.Scalars", number(3, 0) + number(3, 7), `{"fInt32":7}`},
	{"fields backwards", "test.three.Request", number(9, 1) + text(6, "t") + number(3, 1) + text(1, "n"), `{"name":"n","urgent":true,"tags":["t"],"color":"RED"}`},
	{"fields twice and backwards", "test.three.Request", text(6, "1") + number(3, 0) + text(1, "n") + text(6, "2") + number(3, 1) + text(1, "m"), `{"name":"m","urgent":true,"tags":["1","2"]}`},

	{"a sub-message in parts", "test.three.Tree", text(3, text(1, "a")) + text(2, "") + text(3, text(4, "")), `{"left":{"name":"a","kids":[{}]},"right":{}}`},
	{"parts of parts", "test.three.Tree", text(3, text(3, text(1, "a"))) + text(3, text(3, text(4, ""))+text(1, "b")), `{"left":{"name":"b","left":{"name":"a","kids":[{}]}}}`},
	{"messages of a list are not merged", "test.three.Tree", text(4, text(1, "a")) + text(4, text(4, "")), `{"kids":[{"name":"a"},{"kids":[{}]}]}`},
	{"a group in parts", "test.two.Two", group(6, text(1, "a")) + number(1, 1) + group(6, group(2, number(1, 5))), `{"number":1,"mygroup":{"inside":"a","deeper":{"farInside":5}}}`},
	{"groups of a list", "test.two.Two", group(7, number(1, 1)) + group(7, ""), `{"many":[{"n":1},{}]}`},
	{"an unknown group in a group in a group", "test.two.Two", group(6, group(9, group(9, text(1, "x")))+group(2, group(9, "")+number(1, 5))), `{"mygroup":{"deeper":{"farInside":5}}}`},
	{"a time in parts", "test.three.Known", text(2, number(1, 1)) + text(2, number(2, 500_000_000)), `{"time":"1970-01-01T00:00:01.500Z"}`},
	{"a time of parts replaced", "test.three.Known", text(2, number(1, 1)+number(2, 5)) + text(2, number(1, 2)), `{"time":"1970-01-01T00:00:02.000000005Z"}`},
	{"a wrapper in parts", "test.three.Known", text(13, number(1, 1)) + text(13, number(1, 2)), `{"wInt64":"2"}`},
	{"a wrapper set to zero", "test.three.Known", text(13, number(1, 1)) + text(13, number(1, 0)), `{"wInt64":"0"}`},
	{"a mask in parts", "test.three.Known", text(4, text(1, "a_b")) + text(4, text(1, "c.d")), `{"mask":"aB,c.d"}`},
	{"an Any in parts", "test.three.Known", text(1, text(1, "type.googleapis.com/test.three.Tree")) + text(1, text(2, text(1, "n"))), `{"any":{"@type":"type.googleapis.com/test.three.Tree","name":"n"}}`},
	{"an Any with two values", "google.protobuf.Any", text(2, text(1, "m")) + text(1, "type.googleapis.com/test.three.Tree") + text(2, text(3, "")), `{"@type":"type.googleapis.com/test.three.Tree","left":{}}`},
	{"an Any with two types", "google.protobuf.Any", text(1, "type.googleapis.com/test.three.Maps") + text(1, "type.googleapis.com/test.three.Tree"), `{"@type":"type.googleapis.com/test.three.Tree"}`},
	{"an Any of an Any", "google.protobuf.Any", text(1, "type.googleapis.com/google.protobuf.Any") + text(2, text(1, "type.googleapis.com/google.protobuf.Empty")), `{"@type":"type.googleapis.com/google.protobuf.Any","value":{"@type":"type.googleapis.com/google.protobuf.Empty"}}`},
	{"a Value in parts", "google.protobuf.Value", text(6, text(1, number(4, 1))) + text(6, text(1, number(1, 0))), `[true,null]`},
	{"a Value changed", "google.protobuf.Value", text(3, "a") + number(4, 1), `true`},

	{"a oneof changed", "test.three.Tree", text(7, "a") + number(9, 1), `{"number":1}`},
	{"a oneof changed back", "test.three.Tree", text(8, text(1, "a")) + number(9, 1) + text(8, text(3, "")), `{"tree":{"left":{}}}`},
	{"a oneof changed to zero", "test.three.Tree", text(7, "a") + number(9, 0), `{"number":0}`},
	{"a member of a oneof in parts", "test.three.Tree", text(8, text(1, "a")) + number(14, 1) + text(8, text(3, "")), `{"tree":{"name":"a","left":{}},"yes":true}`},
	{"two oneofs", "test.three.Tree", number(14, 1) + text(7, "a") + text(15, "b") + number(9, 2), `{"number":2,"raw":"Yg=="}`},

	{"the last of two entries", "test.three.Tree", text(5, text(1, "k")+text(2, text(1, "a"))) + text(5, text(1, "k")+text(2, text(3, ""))), `{"named":{"k":{"left":{}}}}`},
	{"the last of two entries has no value", "test.three.Maps", text(3, number(1, 1)+text(2, "a")) + text(3, number(1, 1)), `{"mInt32":{"1":""}}`},
	{"a value of an entry in parts", "test.three.Tree", text(5, text(1, "k")+text(2, text(1, "a"))+text(2, text(3, ""))), `{"named":{"k":{"name":"a","left":{}}}}`},
	{"a value of an entry twice", "test.three.Maps", text(3, text(2, "a")+number(1, 1)+text(2, "b")), `{"mInt32":{"1":"b"}}`},
	{"two keys in an entry", "test.three.Maps", text(3, number(1, 1)+number(1, 2)), `{"mInt32":{"2":""}}`},
	{"two keys in an entry, text", "test.three.Request", text(7, text(1, "a")+text(1, "b")), `{"labels":{"b":""}}`},
	{"an empty entry", "test.three.Maps", text(3, "") + text(13, "") + text(6, "") + text(14, "") + text(1, "") + text(2, ""), `{"mInt32":{"0":""},"mUint64":{"0":0},"mBool":{"false":"NONE"},"mTree":{"":{}},"mTime":{"":"1970-01-01T00:00:00Z"},"mNull":{"":null}}`},
	{"an unknown field in an entry", "test.three.Maps", text(3, text(9, "x")+number(1, 1)+group(5, "")+text(2, "a")), `{"mInt32":{"1":"a"}}`},
	{"keys as numbers", "test.three.Maps", text(3, number(1, 10)) + text(3, number(1, 9)) + text(3, number(1, math.MaxUint64)), `{"mInt32":{"-1":"","9":"","10":""}}`},

	{"unpacked where packed is declared", "test.three.Scalars", number(63, 1) + number(63, 2), `{"rInt32":[1,2]}`},
	{"packed where unpacked is declared", "test.three.Scalars", text(64, "\x01\x02"), `{"rInt64":["1","2"]}`},
	{"packed and unpacked", "test.three.Scalars", text(63, "\x01\x02") + number(63, 3) + text(63, "") + text(63, "\x04"), `{"rInt32":[1,2,3,4]}`},
	{"packed without elements", "test.three.Scalars", text(63, "") + text(63, ""), `{}`},
	{"a string is not packed", "test.three.Scalars", text(74, "") + text(74, ""), `{"rString":["",""]}`},
	{"another wire type", "test.three.Scalars", text(3, "\x01") + number(1, 1) + number(30, 1), `{}`},

	{"zeros without presence", "test.three.Scalars", double(30, 0) + float(2, 0) + number(3, 0) + number(5, 0) + number(7, 0) + number(13, 0) + text(1, "") + text(15, "") + number(16, 0), `{}`},
	{"minus zero", "test.three.Scalars", double(30, math.Copysign(0, -1)) + float(2, float32(math.Copysign(0, -1))), `{"fDouble":-0,"fFloat":-0}`},
	{"minus zero replaced", "test.three.Scalars", double(30, math.Copysign(0, -1)) + double(30, 0), `{}`},
	{"zeros with presence", "test.three.Scalars", double(31, 0) + number(33, 0) + number(43, 0) + text(44, "") + text(45, "") + number(46, 0), `{"oDouble":0,"oInt32":0,"oBool":false,"oString":"","oBytes":"","oColor":"NONE"}`},
	{"defaults of proto2 that are set", "test.two.Two", number(1, 41) + number(3, 7) + double(19, math.Inf(1)), `{"number":41,"shade":"DARK","real":"Infinity"}`},
	{"zeros in lists", "test.three.Scalars", text(61, string(make([]byte, 16))) + text(73, "\x00\x01"), `{"rDouble":[0,0],"rBool":[false,true]}`},
	{"32 bits in ten bytes", "test.three.Scalars", number(3, 1<<32+5) + number(5, 1<<32+6) + number(7, 1<<32+8) + number(16, 1<<32+1), `{"fInt32":5,"fUint32":6,"fSint32":4,"fColor":"RED"}`},
	{"a zero in ten bytes", "test.three.Scalars", number(3, 1<<32) + number(5, 1<<40), `{}`},
	{"a bool in ten bytes", "test.three.Scalars", number(13, 1<<40) + number(43, 1<<63), `{"fBool":true,"oBool":true}`},
	{"unknown numbers of enums", "test.three.Scalars", number(16, 99) + number(46, math.MaxUint64) + text(76, "\x01\x63"), `{"fColor":99,"oColor":-1,"rColor":["RED",99]}`},
	{"an extension", "test.two.Two", number(100, 0) + text(102, "a") + text(101, number(1, 1)), `{"[test.two.ext_list]":["a"],"[test.two.ext_number]":0,"[test.two.ext_two]":{"number":1}}`},
	{"an extension's empty list", "test.two.Two", text(103, ""), `{}`},
	{"a group as an extension", "test.two.Two", group(105, text(1, "d")), `{"[test.two.extgroup]":{"deep":"d"}}`},
	{"an edition's delimited message in parts", "test.edition.Edition", number(3, 1) + group(8, number(1, 1)) + group(8, group(2, "")), `{"legacyRequired":1,"delimited":{"n":1,"sub":{}}}`},
	{"an edition's implicit zero", "test.edition.Edition", number(3, 0) + text(1, "") + text(2, "") + number(16, 0), `{"explicit":"","legacyRequired":0}`},
	{"an edition's unchecked text", "test.edition.Edition", number(3, 1) + text(6, "a") + text(6, "b"), `{"legacyRequired":1,"unchecked":"b"}`},
}

// TestShapes holds wire forms to the JSON given here, and to the oracle's.
func TestShapes(t *testing.T) {
	w := theWorld(t)
	for _, c := range shapes {
		t.Run(c.name, func(t *testing.T) {
			m := w.message(t, c.root)
			got, err := jsonwire.AppendJSON(nil, []byte(c.wire), m, nil)
			if err != nil || string(got) != c.want {
				t.Fatalf("%x\n got %s, %v\nwant %s", c.wire, got, err, c.want)
			}
			w.compareWire(t, m, []byte(c.wire), 0)
			w.compareWire(t, m, []byte(c.wire), 7)
			w.compareJSON(t, m, got, false)
		})
	}
}
