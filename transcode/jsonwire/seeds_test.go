package jsonwire_test

import "strings"

// jsonSeeds are read as every root; most fit one or two and are refused by the others.
var jsonSeeds = []string{
	``, ` `, `{}`, `null`, `[]`, `{} {}`, `{},`, "\ufeff{}", `{"a":1,}`, `{"a"}`, `{"a" "b"}`, `[1 2]`, `{,}`, `{"fInt32":1 "fBool":true}`,
	`{"fDouble":1.5,"fFloat":-0.0,"fInt32":1e2,"fInt64":"-9223372036854775808","fUint32":4294967295,"fUint64":"18446744073709551615"}`,
	`{"fSint32":-2147483648,"fSint64":"9223372036854775807","fFixed32":"12","fFixed64":1.0,"fSfixed32":-1,"fSfixed64":"-1e3"}`,
	`{"fBool":true,"fString":"a\u00e9\ud83d\ude00\n\"\\\/\b\f\r\t\u0000","fBytes":"-_8=","fColor":"GREEN"}`,
	`{"fBytes":"+/8","oBytes":"","fColor":7,"oColor":"NONE","fColor2":1}`, `{"fBytes":"Y Q=="}`, `{"fBytes":"YQ==\n"}`, `{"fBytes":"YR=="}`,
	`{"f_int32":0,"oInt32":0,"oBool":false,"oString":"","oDouble":-0.0}`, `{"fInt32":1,"f_int32":2}`, `{"fInt32":null,"fInt32":2}`,
	`{"rDouble":[1,"NaN","Infinity","-Infinity",1e308,-0],"rFloat":[3.5e38],"rInt32":[],"rInt64":["1",2,3.0],"rBool":[true,false]}`,
	`{"rString":["",null]}`, `{"rColor":["RED",2,"CRIMSON",99]}`, `{"rColor":["NOSUCH"],"fColor":"NOSUCH"}`, `{"rBytes":["YQ","YWI"]}`,
	`{"fInt32":2147483648}`, `{"fUint32":-0}`, `{"fUint32":-1}`, `{"fInt32":1.5}`, `{"fInt32":"1 "}`, `{"fInt32":0.5e1}`, `{"fInt32":1e}`,
	`{"fInt32":01}`, `{"fInt32":-}`, `{"fInt32":1.}`, `{"fInt32":100e-2}`, `{"fInt64":1e19}`, `{"fUint64":1e19}`, `{"fDouble":1e999}`,
	`{"fDouble":` + strings.Repeat("1", 65) + `}`, `{"fDouble":"` + strings.Repeat("1", 64) + `"}`, `{"other name":"x","far":1}`, `{"named":"x"}`,
	`{"fString":"\ud83d"}`, `{"fString":"\ude00\ud83d"}`, `{"fString":"\u12"}`, `{"fString":"\x"}`, "{\"fString\":\"\xff\"}", "{\"fString\":\"\t\"}", `{"fString":"`,
	`{"name":"n","left":{"name":"l","kids":[{},{"name":"k"}]},"named":{"a":{},"b":{"number":3}},"text":"t","yes":false}`,
	`{"text":"t","tree":{}}`, `{"text":null,"tree":{}}`, `{"nothing":null}`, `{"anything":null}`, `{"empty":{}}`, `{"leaf":{"fInt32":5}}`, `{"unknown":{"a":[1,{"b":null}]},"name":"x"}`,
	`{"mInt32":{"1":"a","-5":"b","+7":"c"},"mInt64":{"9223372036854775807":""},"mUint32":{"4294967295":"YQ=="},"mUint64":{"1":1.5},"mSint32":{"-1":2}}`,
	`{"mSint64":{"-1":true},"mFixed32":{"1":1},"mFixed64":{"1":"1"},"mSfixed32":{"-1":1},"mSfixed64":{"-1":"1"},"mBool":{"true":"RED","false":2}}`,
	`{"mInt32":{"1":"a","01":"b"}}`, `{"mInt32":{"x":"a"}}`, `{"mBool":{"1":1}}`, `{"mTree":{"k":{"name":"n"},"":{}},"mTime":{"t":"2020-01-01T00:00:00Z"}}`,
	`{"mValue":{"a":null,"b":1},"mNull":{"a":null}}`, `{"mTree":{"k":null}}`, `{"mMaps":{"a":{"mMaps":{"a":{},"b":{}}},"b":{}}}`, `{"mBool":{"true":"NOSUCH","true":1}}`,
	`{"any":{"@type":"type.googleapis.com/test.three.Tree","name":"n"},"time":"2024-02-29T23:59:59.5Z","duration":"-1.5s","mask":"fooBar,a.bC"}`,
	`{"any":{"name":"n","@type":"type.googleapis.com/test.three.Tree"}}`, `{"any":{}}`, `{"any":{"a":1}}`, `{"any":{"@type":"test.three.Tree"}}`, `{"any":{"@type":"type.googleapis.com/no.Such"}}`,
	`{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}`, `{"any":{"value":"1s","@type":"type.googleapis.com/google.protobuf.Duration"}}`,
	`{"any":{"@type":"type.googleapis.com/google.protobuf.Any","value":{"@type":"type.googleapis.com/google.protobuf.Empty","value":{}}}}`,
	`{"any":{"@type":"type.googleapis.com/google.protobuf.Empty"}}`, `{"any":{"@type":"type.googleapis.com/test.two.Needy"}}`, `{"@type":"type.googleapis.com/test.three.Tree","@type":"x"}`,
	`{"@type":"type.googleapis.com/test.three.Tree","tree":{"@type":1}}`, `{"rAny":[{},{"tree":{"kids":[{"name":"x"}]},"\u0040type":"type.googleapis.com/test.three.Tree"}]}`,
	`{"struct":{"a":null,"b":[1,"x",{"c":true}],"":-0.0},"value":{"x":[]},"list":[null,[],{}],"empty":{},"null":null}`, `{"struct":{"a":1,"a":2}}`, `{"value":null}`, `{"list":null}`, `{"rNull":[null,"NULL_VALUE",0]}`,
	`{"wDouble":"NaN","wFloat":1.5,"wInt64":"1","wUint64":2,"wInt32":-1,"wUint32":0,"wBool":false,"wString":"","wBytes":"YQ=="}`, `{"wInt32":null}`, `{"rValue":[null,1],"rInt64":["5"],"rTime":["0001-01-01T00:00:00Z"]}`,
	`"2024-02-29T23:59:59.123456789Z"`, `"2023-02-29T00:00:00Z"`, `"2024-01-01T00:00:00+05:30"`, `"9999-12-31T23:59:59.9999999999Z"`, `"2024-01-01t00:00:00z"`, `"2024-01-01T24:00:00Z"`, `"0000-01-01T00:00:00Z"`, `"2024-01-01T00:00:00,5Z"`, `"2024-01-01T1:00:00Z"`,
	`"1s"`, `"-0.000000001s"`, `"1.s"`, `".5s"`, `".s"`, `"+1s"`, `"01s"`, `"315576000001s"`, `"1.0000000000s"`, `"s"`, `"-s"`, `"1"`,
	`"a,bC,d.eF"`, `" a "`, `"a_b"`, `","`, `"a,"`, `""`, `"9"`, `1`, `-0.0`, `"1e3"`, `true`, `"YQ"`, `[null,true,1,"a",[],{}]`, `{"a":{"b":{"c":[]}}}`,
	`{"number":1,"text":"t","shade":"DARK","plain":[1,2],"packed":[3,4],"mygroup":{"inside":"i","deeper":{"farInside":1,"two":{}}},"many":[{"n":1},{}]}`,
	`{"MyGroup":{}}`, `{"myGroup":{}}`, `{"PickGroup":{"x":1}}`, `{"pickgroup":{"x":1}}`, `{"shade":5}`, `{"shades":["LIGHT",7]}`, `{"needy":{"id":1}}`, `{"id":1,"name":"n","again":{"id":2,"name":""}}`, `{"id":null,"name":"n"}`,
	`{"[test.two.ext_number]":5,"[test.two.ext_two]":{"number":1},"[test.two.ext_list]":["a"],"[test.two.ext_packed]":[1],"[test.two.Holder.held]":{"id":1,"name":"n"}}`, `{"[test.two.extgroup]":{"deep":"d"}}`, `{"[test.two.nope]":1}`,
	`{"byName":{"x":"YES"},"needyMap":{"1":{"id":1,"name":"x"}},"a":"","data":"","real":"Infinity"}`,
	`{"explicit":"","implicit":"","legacyRequired":0,"expanded":[1],"packed":[1],"delimited":{"n":1,"sub":{"sub":{}}},"closed":"CLOSED_ONE","open":9,"closedMap":{"a":5}}`, `{"legacyRequired":1,"closed":9}`, `{"legacyRequired":1,"subs":{"a":{"edition":{"legacyRequired":1}}},"delimitedList":[{},{}]}`,
	strings.Repeat(`{"left":`, 99) + `{}` + strings.Repeat(`}`, 99), strings.Repeat(`{"left":`, 100) + `{}` + strings.Repeat(`}`, 100), strings.Repeat(`[`, 99) + strings.Repeat(`]`, 99), strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100), strings.Repeat(`{"x":`, 101) + `1` + strings.Repeat(`}`, 101),
}

// wireSeeds are read as every root.
var wireSeeds = []string{
	"", "\x00", "\x08", "\x08\x01", "\x0a", "\x0a\x00", "\x0a\x01a", "\x0a\x01\xff", "\x0b\x0c", "\x0b", "\x0c", "\x0b\x14", "\x0e", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
	"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "\x08\x80\x80\x80\x80\x10", "\x18\x80\x80\x80\x80\x10",
	"\x3a\x01a\x42\x00\x3a\x01b", "\x42\x03\x0a\x01a\x3a\x01x\x42\x03\x0a\x01b", "\x1a\x00\x1a\x02\x08\x01\x1a\x04\x08\x01\x12\x00", "\x33\x0a\x01a\x34\x33\x0a\x01b\x34", "\xf2\x03\x00", "\xf2\x03\x01", "\xf2\x03\x08\x00\x00\x00\x00\x00\x00\xf8\x7f",
	"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x01", "\x11\x00\x00\x00\x00\x00\x00\xf0\x7f", "\x0a\x03a_1", "\x0a\x01A",
	"\x0a\x24type.googleapis.com/test.three.Tree\x12\x03\x0a\x01n", "\x0a\x23type.googleapis.com/test.three.Tree\x12\x03\x0a\x01n", "\x12\x01a",
	"\xfa\xff\xff\xff\x0f\x00", "\x82\x80\x80\x80\x10\x00", "\x9b\x06\x9b\x06\x9c\x06\x9c\x06",
	"\x8a\x80\x80\x80\x80\x01\x01a", "\x88\x80\x80\x80\x80\x01\x01", "\x8a\x00\x01a", "\x88\x80\x80\x80\x00\x81\x80\x00", // numbers above 32 bits; varints longer than they need be
}

var querySeeds = []string{
	"", "a", "fInt32=1&f_int32=2", "fInt32=1&fString=a+b%20c&fBool=t&rInt32=1&rInt32=2", "fDouble=1e5&fFloat=inf&fBytes=-_8", "fColor=RED", "fInt32=", "fInt32=0x10", "fUint32=-1", "%zz=1", "fString=%ff", "name=x&name=y",
	"left.right.name=x&left.name=y", "text=a&number=1", "tree.name=a&tree.number=1", "named=1", "named[a]=1", "scalars.fInt32=1&scalars.f_int64=2&scalars.rString=a", "kids.name=x", "time=2024-01-01T00:00:00Z&duration=1.5s&mask=a,bC", "wInt64=5&wString=x&wBool=true&wBytes=YQ", "time.seconds=1&time.nanos=2", "time=2024-01-01T00:00:00Z&time.nanos=1", "any=1", "struct={}", "value=1", "rTime=2024-01-01T00:00:00Z&rTime=2024-01-01T00:00:01Z", "address.street=a&address.city=b&tags=1&tags=2&total=5&urgent=1", "labels=1", ";=1", "&&&", "=", "name=a;b", "mygroup.inside=x&MyGroup.inside=y", "other name=1", "mInt32[1]=a", "explicit=&implicit=", "leaf.rInt32=1&leaf.rInt32=2", "tree." + strings.Repeat("x", 3000) + "=1",
}
