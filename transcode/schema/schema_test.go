package schema_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// link compiles .proto sources, by name, into a registry.
func link(t testing.TB, sources map[string]string) *protoregistry.Files {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(sources),
	})}
	var names []string
	for name := range sources {
		names = append(names, name)
	}
	linked, err := compiler.Compile(context.Background(), names...)
	if err != nil {
		t.Fatal(err)
	}
	// The descriptors of the protobuf runtime itself, as the gateway has them.
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(fd protoreflect.FileDescriptor)
	add = func(fd protoreflect.FileDescriptor) {
		if seen[fd.Path()] {
			return
		}
		seen[fd.Path()] = true
		for i := range fd.Imports().Len() {
			add(fd.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	for _, fd := range linked {
		add(fd)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func compile(t testing.TB, sources map[string]string) *schema.Schema {
	t.Helper()
	s, err := schema.New(link(t, sources))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func message(t testing.TB, s *schema.Schema, name string) *schema.Message {
	t.Helper()
	m, ok := s.Message(name)
	if !ok {
		t.Fatalf("no message %s", name)
	}
	return m
}

const proto2 = `syntax = "proto2";
package p2;
message M {
  required int32 must = 1;
  optional string text = 2;
  repeated int32 loose = 3;
  repeated int32 tight = 4 [packed = true];
  optional group Part = 5 { optional string x = 1; }
  repeated group Parts = 6 { required string x = 1; }
  optional E e = 7;
  optional string renamed = 8 [json_name = "a \"quoted\" name"];
  extensions 100 to max;
  enum E { option allow_alias = true; ZERO = 0; ONE = 1; UNO = 1; }
  extend M { optional bool nested = 101; }
}
extend M {
  optional string outer = 100;
  repeated sint64 outers = 536870911 [packed = true];
}
message Holder { optional M m = 1; }
message HolderOfHolder { map<string, Holder> by_name = 1; }
message Free { optional string s = 1; }
`

const proto3 = `syntax = "proto3";
package p3;
import "google/protobuf/timestamp.proto";
import "google/protobuf/struct.proto";
message M {
  int32 plain = 1;
  optional int32 present = 2;
  string text_field = 3;
  repeated int64 packed = 4;
  repeated int64 unpacked = 5 [packed = false];
  repeated string texts = 6;
  repeated M children = 7;
  map<string, M> by_name = 8;
  map<int32, E> enums = 9;
  map<bool, bytes> raw = 10;
  oneof choice { string a = 11; M b = 12; google.protobuf.NullValue c = 13; }
  oneof other { int32 d = 255; fixed64 e = 256; }
  google.protobuf.Timestamp at = 19000000;
  double far = 536870911;
  E open = 14;
}
enum E { ZERO = 0; ONE = 1; }
message None {}
`

const editions = `edition = "2023";
package ed;
message M {
  string explicit = 1;
  string implicit = 2 [features.field_presence = IMPLICIT];
  string must = 3 [features.field_presence = LEGACY_REQUIRED];
  repeated int32 packed = 4;
  repeated int32 expanded = 5 [features.repeated_field_encoding = EXPANDED];
  N delimited = 6 [features.message_encoding = DELIMITED];
  N plain = 7;
  string checked = 8;
  string unchecked = 9 [features.utf8_validation = NONE];
  Closed closed = 10;
  Open open = 11;
  map<string, N> map = 12;
}
message N { string s = 1; }
enum Closed { option features.enum_type = CLOSED; C = 1; }
enum Open { O = 0; }
`

func all(t testing.TB) *schema.Schema {
	t.Helper()
	return compile(t, map[string]string{"p2.proto": proto2, "p3.proto": proto3, "ed.proto": editions})
}

// describe writes all that a table says of a field, to be read beside the .proto.
func describe(f *schema.Field) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s %s", f.Number, f.Name, f.JSONName, f.Kind)
	switch f.Cardinality {
	case schema.Repeated:
		b.WriteString(" repeated")
	case schema.Map:
		fmt.Fprintf(&b, " map<%s>", f.MapKey.Kind)
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"packed", f.Packed}, {"presence", f.Presence}, {"required", f.Required}, {"utf8", f.UTF8}} {
		if flag.set {
			b.WriteString(" " + flag.name)
		}
	}
	if f.Oneof >= 0 {
		fmt.Fprintf(&b, " oneof:%s", f.Parent.Oneofs[f.Oneof].Name)
	}
	if f.Message != nil {
		b.WriteString(" -> " + f.Message.Name)
	}
	if f.Enum != nil {
		b.WriteString(" -> " + f.Enum.Name)
	}
	return b.String()
}

func TestTables(t *testing.T) {
	s := all(t)
	for _, tt := range []struct {
		message string
		want    []string
	}{
		{"p2.M", []string{
			"1 must must int32 presence required",
			"2 text text string presence",
			"3 loose loose int32 repeated",
			"4 tight tight int32 repeated packed",
			"5 Part part group presence -> p2.M.Part",
			"6 Parts parts group repeated -> p2.M.Parts",
			"7 e e enum presence -> p2.M.E",
			`8 renamed a "quoted" name string presence`,
			"101 [p2.M.nested] [p2.M.nested] bool presence",
			"100 [p2.outer] [p2.outer] string presence",
			"536870911 [p2.outers] [p2.outers] sint64 repeated packed",
		}},
		{"p3.M", []string{
			"1 plain plain int32",
			"2 present present int32 presence",
			"3 text_field textField string utf8",
			"4 packed packed int64 repeated packed",
			"5 unpacked unpacked int64 repeated",
			"6 texts texts string repeated utf8",
			"7 children children message repeated -> p3.M",
			"8 by_name byName message map<string> -> p3.M",
			"9 enums enums message map<int32> -> p3.E",
			"10 raw raw message map<bool>",
			"11 a a string presence utf8 oneof:choice",
			"12 b b message presence oneof:choice -> p3.M",
			"13 c c enum presence oneof:choice -> google.protobuf.NullValue",
			"255 d d int32 presence oneof:other",
			"256 e e fixed64 presence oneof:other",
			"19000000 at at message presence -> google.protobuf.Timestamp",
			"536870911 far far double",
			"14 open open enum -> p3.E",
		}},
		{"p3.None", nil},
		{"ed.M", []string{
			"1 explicit explicit string presence utf8",
			"2 implicit implicit string utf8",
			"3 must must string presence required utf8",
			"4 packed packed int32 repeated packed",
			"5 expanded expanded int32 repeated",
			"6 delimited delimited group presence -> ed.N",
			"7 plain plain message presence -> ed.N",
			"8 checked checked string presence utf8",
			"9 unchecked unchecked string presence",
			"10 closed closed enum presence -> ed.Closed",
			"11 open open enum presence -> ed.Open",
			"12 map map message map<string> -> ed.N",
		}},
	} {
		m := message(t, s, tt.message)
		var got []string
		for _, f := range m.Fields {
			got = append(got, describe(f))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.message, diff)
		}
	}
}

// TestTablesAgree holds every table against the descriptor it was made from, and against itself.
func TestTablesAgree(t *testing.T) {
	s := all(t)
	seen := 0
	s.Files().RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		for i := range fd.Messages().Len() {
			md := fd.Messages().Get(i)
			m := message(t, s, string(md.FullName()))
			if m.Desc != md || m.Schema != s {
				t.Errorf("%s: wrong descriptor or schema", m.Name)
			}
			for i, f := range m.Fields {
				seen++
				agree(t, m, i, f)
			}
			for n := range protowire.Number(300) {
				if f := m.ByNumber(n); f != nil && f.Number != n {
					t.Errorf("%s: number %d finds %s", m.Name, n, f.Name)
				}
			}
			for _, n := range []protowire.Number{-1, 0, 18999999, 536870910, protowire.MaxValidNumber + 1} {
				if f := m.ByNumber(n); f != nil {
					t.Errorf("%s: number %d finds %s", m.Name, n, f.Name)
				}
			}
			if m.ByNameString("no such field") != nil || m.ByName(nil) != nil {
				t.Errorf("%s: a name that is not there is found", m.Name)
			}
		}
		return true
	})
	if seen < 50 {
		t.Errorf("only %d fields were looked at", seen)
	}
}

func agree(t *testing.T, m *schema.Message, i int, f *schema.Field) {
	t.Helper()
	if f.Index != i || f.Parent != m {
		t.Errorf("%s.%s: index %d at %d, parent %v", m.Name, f.Name, f.Index, i, f.Parent)
	}
	if m.ByNumber(f.Number) != f || m.ByName([]byte(f.JSONName)) != f || m.ByNameString(f.Name) != f {
		t.Errorf("%s.%s is not found by number %d, JSON name %q and name", m.Name, f.Name, f.Number, f.JSONName)
	}
	num, typ := protowire.DecodeTag(f.Tag)
	if num != f.Number || typ != f.Wire {
		t.Errorf("%s.%s: tag %d is %d/%d", m.Name, f.Name, f.Tag, num, typ)
	}
	packable := f.Cardinality == schema.Repeated && f.Wire != protowire.BytesType && f.Wire != protowire.StartGroupType
	if packable != (f.PackedTag != 0) || packable && f.PackedTag != protowire.EncodeTag(f.Number, protowire.BytesType) {
		t.Errorf("%s.%s: packed tag %d", m.Name, f.Name, f.PackedTag)
	}
	group := f.Kind == protoreflect.GroupKind
	if group != (f.EndTag != 0) || group && f.EndTag != protowire.EncodeTag(f.Number, protowire.EndGroupType) {
		t.Errorf("%s.%s: end tag %d", m.Name, f.Name, f.EndTag)
	}
	if f.Cardinality == schema.Map && (f.MapKey.Number != 1 || f.MapValue.Number != 2 || f.MapKey.Oneof != -1 || f.MapValue.Parent != nil) {
		t.Errorf("%s.%s: map entry %+v, %+v", m.Name, f.Name, f.MapKey, f.MapValue)
	}
	if got, want := f.JSONNext+f.ProtoNext, ","+f.JSONKey+","+f.ProtoKey; got != want {
		t.Errorf("%s.%s: behind another member %s, want %s", m.Name, f.Name, got, want)
	}
	scalar := !f.Desc.IsList() && !f.Desc.IsMap() && f.Desc.Message() == nil
	if od := f.Desc.ContainingOneof(); f.Plain != (scalar && (od == nil || od.IsSynthetic())) {
		t.Errorf("%s.%s: plain %v", m.Name, f.Name, f.Plain)
	}
	if f.Presence != f.Desc.HasPresence() || f.Packed != f.Desc.IsPacked() {
		t.Errorf("%s.%s: presence %v, packed %v", m.Name, f.Name, f.Presence, f.Packed)
	}
}

func TestNamesInJSON(t *testing.T) {
	s := all(t)
	f := message(t, s, "p2.M").ByNameString("renamed")
	if f.JSONKey != `"a \"quoted\" name":` || f.ProtoKey != `"renamed":` {
		t.Errorf("keys %s and %s", f.JSONKey, f.ProtoKey)
	}
	f = message(t, s, "p3.M").ByNameString("text_field")
	if f.JSONKey != `"textField":` || f.ProtoKey != `"text_field":` || message(t, s, "p3.M").ByNameString("textField") != f {
		t.Errorf("keys %s and %s", f.JSONKey, f.ProtoKey)
	}
	// Two fields of proto2 may share a JSON name, and one's JSON name may be the other's declared one.
	clash := message(t, compile(t, map[string]string{"c.proto": `syntax = "proto2"; package c;
		message M { optional int32 foo_bar = 1; optional int32 fooBar = 2; optional int32 x = 3 [json_name = "y"]; optional int32 y = 4 [json_name = "z"]; }`}), "c.M")
	for name, want := range map[string]protowire.Number{"fooBar": 1, "foo_bar": 1, "x": 3, "y": 3, "z": 4} {
		if f := clash.ByNameString(name); f == nil || f.Number != want {
			t.Errorf("%s finds %+v, want number %d", name, f, want)
		}
	}
}

func TestRequired(t *testing.T) {
	s := all(t)
	for name, want := range map[string]bool{
		"p2.M": true, "p2.M.Part": false, "p2.M.Parts": true, "p2.Holder": true, "p2.HolderOfHolder": true, "p2.Free": false,
		"p3.M": false, "ed.M": true, "ed.N": false,
	} {
		m := message(t, s, name)
		if m.HasRequired != want {
			t.Errorf("%s: has required fields below: %v, want %v", name, m.HasRequired, want)
		}
	}
	if r := message(t, s, "p2.M").Required; len(r) != 1 || r[0].Name != "must" {
		t.Errorf("required %v", r)
	}
}

func TestOneofs(t *testing.T) {
	m := message(t, all(t), "p3.M")
	var got []string
	for _, o := range m.Oneofs {
		for _, f := range o.Fields {
			got = append(got, o.Name+"."+f.Name)
		}
	}
	if diff := cmp.Diff([]string{"choice.a", "choice.b", "choice.c", "other.d", "other.e"}, got); diff != "" {
		t.Errorf("the oneof of an optional field is none (-want +got):\n%s", diff)
	}
}

func TestEnums(t *testing.T) {
	s := all(t)
	e := message(t, s, "p2.M").ByNameString("e").Enum
	if n, ok := e.NumberOf("UNO"); !ok || n != 1 {
		t.Errorf("UNO is %d", n)
	}
	if n, ok := e.Number([]byte("ONE")); !ok || n != 1 {
		t.Errorf("ONE is %d", n)
	}
	if name, ok := e.NameOf(1); !ok || name != "ONE" {
		t.Errorf("1 is %s, want the first name", name)
	}
	if _, ok := e.NumberOf("one"); ok {
		t.Error("names have case")
	}
	if _, ok := e.NameOf(2); ok {
		t.Error("2 has a name")
	}
	for path, want := range map[string][2]bool{ // closed, null
		"p2.M.e": {true, false}, "p3.M.open": {false, false}, "p3.M.c": {false, true}, "ed.M.closed": {true, false}, "ed.M.open": {false, false},
	} {
		dot := strings.LastIndexByte(path, '.')
		e := message(t, s, path[:dot]).ByNameString(path[dot+1:]).Enum
		if e.Closed != want[0] || e.Null != want[1] {
			t.Errorf("%s: closed %v, null %v", path, e.Closed, e.Null)
		}
	}
}

func TestWellKnown(t *testing.T) {
	s := all(t)
	for name, want := range map[string]schema.WellKnown{
		"google.protobuf.Timestamp": schema.Timestamp, "google.protobuf.Struct": schema.Struct,
		"google.protobuf.Value": schema.Value, "google.protobuf.ListValue": schema.ListValue, "p3.M": schema.NotWellKnown,
	} {
		if got := message(t, s, name).WellKnown; got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	for w := schema.NotWellKnown; w <= schema.BytesValue; w++ {
		if w.Wrapper() != (w >= schema.DoubleValue) {
			t.Errorf("%d: wrapper %v", w, w.Wrapper())
		}
	}
}

func TestPath(t *testing.T) {
	m := message(t, all(t), "p3.M")
	for _, tt := range []struct{ path, want string }{
		{"plain", "plain"},
		{"textField", "text_field"},
		{"text_field", "text_field"},
		{"b.b.text_field", "b.b.text_field"},
		{"at.seconds", "at.seconds"},
		{"children", "children"},
	} {
		p, err := m.Path(tt.path)
		if err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		if p.String() != tt.want || p.Last() != p[len(p)-1] {
			t.Errorf("%s is %s, want %s", tt.path, p, tt.want)
		}
	}
	for _, tt := range []struct{ path, want string }{
		{"", `p3.M has no field ""`},
		{"plian", `p3.M has no field "plian"; did you mean "plain"?`},
		{"b.textfield", `p3.M has no field "textfield"; did you mean "text_field"?`},
		{"b..plain", `p3.M has no field ""`},
		{"zzzzzz", `p3.M has no field "zzzzzz"`},
		{"plain.x", `field "plain" of p3.M is int32, so it has no field "x"`},
		{"children.plain", `field "children" of p3.M is repeated message, so it has no field "plain"`},
		{"by_name.x", `field "by_name" of p3.M is a map, so it has no field "x"`},
		{"open.x", `field "open" of p3.M is enum p3.E, so it has no field "x"`},
		{"at.second", `google.protobuf.Timestamp has no field "second"; did you mean "seconds"?`},
	} {
		if p, err := m.Path(tt.path); err == nil || err.Error() != tt.want {
			t.Errorf("%q: path %v, error %v, want %s", tt.path, p, err, tt.want)
		}
	}
}

func TestServices(t *testing.T) {
	s := compile(t, map[string]string{"s.proto": `syntax = "proto3"; package s;
		message M {}
		service B { rpc Unary(M) returns (M); rpc Server(M) returns (stream M); rpc Client(stream M) returns (M); rpc Bidi(stream M) returns (stream M); }
		service A {
			rpc Idempotent(M) returns (M) { option idempotency_level = IDEMPOTENT; }
			rpc ReadOnly(M) returns (M) { option idempotency_level = NO_SIDE_EFFECTS; }
		}`, "bare.proto": `syntax = "proto3"; message N {} service Bare { rpc Do(N) returns (N); }`})
	var got []string
	for _, sv := range s.Services() {
		for _, m := range sv.Methods {
			line := m.Name + " " + m.Kind.String()
			if m.Idempotent {
				line += " idempotent"
			}
			if m.ReadOnly {
				line += " read-only"
			}
			got = append(got, line)
			if found, ok := s.Method(m.Name); !ok || found != m || m.Service != sv || m.Schema != s || m.Input == nil || m.Output == nil {
				t.Errorf("%s: %+v", m.Name, m)
			}
		}
		if found, ok := s.Service(sv.Name); !ok || found != sv {
			t.Errorf("service %s is not found", sv.Name)
		}
	}
	want := []string{
		"/Bare/Do unary",
		"/s.A/Idempotent unary idempotent", "/s.A/ReadOnly unary idempotent read-only",
		"/s.B/Unary unary", "/s.B/Server server stream", "/s.B/Client client stream", "/s.B/Bidi bidirectional stream",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, ok := s.Method("s.B/Unary"); ok {
		t.Error("a method without its slash is found")
	}
	if _, ok := s.Service("s.C"); ok {
		t.Error("a service that is not there is found")
	}
}

// TestApart: two schemas define one name differently, and neither sees the other.
func TestApart(t *testing.T) {
	a := compile(t, map[string]string{"x.proto": `syntax = "proto3"; package x; message Y { int32 a = 1; }`})
	b := compile(t, map[string]string{"x.proto": `syntax = "proto3"; package x; message Y { string b = 1; }`})
	ya, yb := message(t, a, "x.Y"), message(t, b, "x.Y")
	if ya == yb || ya.ByNameString("a") == nil || ya.ByNameString("b") != nil || yb.ByNameString("b") == nil {
		t.Error("the schemas are mixed")
	}
}

func TestMessageSet(t *testing.T) {
	// The runtime's own linker refuses it as well, so the descriptor comes from the compiler's.
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{
		"m.proto": `syntax = "proto2"; package m;
		message Set { option message_set_wire_format = true; extensions 4 to max; }
		message Ext { extend Set { optional Ext e = 100; } }`,
	})}}
	linked, err := compiler.Compile(context.Background(), "m.proto")
	if err != nil {
		t.Fatal(err)
	}
	files := &protoregistry.Files{}
	if err := files.RegisterFile(linked[0]); err != nil {
		t.Fatal(err)
	}
	_, err = schema.New(files)
	const want = "message m.Set uses message_set_wire_format, which protobuf itself has retired: declare a plain message with extensions instead"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	m := message(t, all(t), "p3.M")
	e := m.ByNameString("open").Enum
	name, value := []byte("textField"), []byte("ONE")
	if n := testing.AllocsPerRun(100, func() {
		if m.ByName(name) == nil || m.ByNumber(3) == nil || m.ByNumber(19000000) == nil {
			t.Error("not found")
		}
		if _, ok := e.Number(value); !ok {
			t.Error("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
