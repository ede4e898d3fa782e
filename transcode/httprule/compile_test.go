package httprule

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

const libraryProto = `
syntax = "proto3";
package lib.v1;
import "google/api/annotations.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/any.proto";
service Library {
  rpc GetBook(Request) returns (Book) {
    option deprecated = true;
    option (google.api.http) = {
      get: "/v1/{name=shelves/*/books/*}"
      additional_bindings {get: "/v1/books/{id}" response_body: "title"}
    };
  }
  rpc Plain(Request) returns (Book);
  rpc Old(Request) returns (Book) {option deprecated = true;}
}
message Book {
  string name = 1;
  string title = 2;
  repeated Author authors = 3;
  Author editor = 4;
}
message Author {string name = 1;}
message Request {
  string name = 1;
  int64 id = 2;
  Book book = 3;
  repeated string tags = 4;
  map<string, Book> shelf = 5;
  google.protobuf.Timestamp at = 6;
  google.protobuf.Duration within = 7;
  google.protobuf.FieldMask mask = 8;
  google.protobuf.StringValue note = 9;
  google.protobuf.Struct extra = 10;
  google.protobuf.Value value = 11;
  google.protobuf.Any any = 12;
  Kind kind = 13;
  bytes token = 14;
  oneof place {
    string room = 15;
    Author owner = 16;
  }
  string order_id = 17;
}
enum Kind {UNKNOWN = 0; NOVEL = 1;}
`

// compileProto compiles one file; google/api comes from the descriptors linked in.
func compileProto(t testing.TB, source string) *descriptorpb.FileDescriptorSet {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(protocompile.CompositeResolver{
		&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"test.proto": source})},
		protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
			fd, err := protoregistry.GlobalFiles.FindFileByPath(path)
			return protocompile.SearchResult{Desc: fd}, err
		}),
	})}
	files, err := compiler.Compile(t.Context(), "test.proto")
	if err != nil {
		t.Fatal(err)
	}
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
	add(files[0])
	return set
}

func newSchema(t testing.TB, set *descriptorpb.FileDescriptorSet) *schema.Schema {
	t.Helper()
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.New(files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func method(t testing.TB, s *schema.Schema, name string) *schema.Method {
	t.Helper()
	m, ok := s.Method(name)
	if !ok {
		t.Fatalf("no method %s", name)
	}
	return m
}

// withOptions is a method descriptor with other options.
type withOptions struct {
	protoreflect.MethodDescriptor
	options proto.Message
}

func (d withOptions) Options() protoreflect.ProtoMessage { return d.options }

func TestRule(t *testing.T) {
	compiled := compileProto(t, libraryProto)
	raw, err := proto.Marshal(compiled)
	if err != nil {
		t.Fatal(err)
	}
	reread := func(r protoregistry.ExtensionTypeResolver) *descriptorpb.FileDescriptorSet {
		set := &descriptorpb.FileDescriptorSet{}
		if err := (proto.UnmarshalOptions{Resolver: r}).Unmarshal(raw, set); err != nil {
			t.Fatal(err)
		}
		return set
	}
	want := &annotations.HttpRule{
		Pattern: &annotations.HttpRule_Get{Get: "/v1/{name=shelves/*/books/*}"},
		AdditionalBindings: []*annotations.HttpRule{
			{Pattern: &annotations.HttpRule_Get{Get: "/v1/books/{id}"}, ResponseBody: "title"},
		},
	}
	for name, set := range map[string]*descriptorpb.FileDescriptorSet{
		"as compiled":        compiled,
		"built-in extension": reread(protoregistry.GlobalTypes),
		"unknown bytes":      reread(&protoregistry.Types{}),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSchema(t, set)
			m := method(t, s, "/lib.v1.Library/GetBook")
			if d := cmp.Diff(want, Rule(m), protocmp.Transform()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			for _, none := range []string{"Plain", "Old"} {
				if got := Rule(method(t, s, "/lib.v1.Library/"+none)); got != nil {
					t.Errorf("%s: wanted no rule, found %v", none, got)
				}
			}
		})
	}

	options := func(b ...byte) *descriptorpb.MethodOptions {
		o := &descriptorpb.MethodOptions{}
		o.ProtoReflect().SetUnknown(b)
		return o
	}
	field := func(num protowire.Number, b string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), b)
	}
	dynamic := func(b []byte, r protoregistry.ExtensionTypeResolver) proto.Message {
		files, err := protodesc.NewFiles(compiled)
		if err != nil {
			t.Fatal(err)
		}
		d, err := files.FindDescriptorByName("google.protobuf.MethodOptions")
		md, ok := d.(protoreflect.MessageDescriptor)
		if err != nil || !ok {
			t.Fatalf("found %v, %v", d, err)
		}
		o := dynamicpb.NewMessage(md)
		if err := (proto.UnmarshalOptions{Resolver: r.(interface { //nolint:forcetypeassert // both arguments have it
			protoregistry.ExtensionTypeResolver
		})}).Unmarshal(b, o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	// An extension of the same number by another definition, as a schema may bring along: here a string.
	foreignFile, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("foreign.proto"), Package: proto.String("google.api"), Dependency: []string{"google/protobuf/descriptor.proto"},
		Extension: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("http"), Number: proto.Int32(72295728), Extendee: proto.String(".google.protobuf.MethodOptions"),
			Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	foreignType := dynamicpb.NewExtensionType(foreignFile.Extensions().Get(0))
	foreign := func(text string) proto.Message {
		o := &descriptorpb.MethodOptions{}
		o.ProtoReflect().Set(foreignType.TypeDescriptor(), protoreflect.ValueOfString(text))
		return o
	}
	get := "\x12\x03/ab" // get: "/ab"
	getRule := &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: "/ab"}}
	plain := method(t, newSchema(t, compiled), "/lib.v1.Library/Plain")
	for _, c := range []struct {
		name    string
		options proto.Message
		want    *annotations.HttpRule
	}{
		{"nil", nil, nil},
		{"typed nil", (*descriptorpb.MethodOptions)(nil), nil},
		{"dynamic, known", dynamic(field(72295728, get), protoregistry.GlobalTypes), getRule},
		{"dynamic, unknown", dynamic(field(72295728, get), &protoregistry.Types{}), getRule},
		{"foreign definition, same bytes", foreign(get), getRule},
		{"foreign definition", foreign("hello"), &annotations.HttpRule{}},
		{"next number", options(field(72295729, get)...), nil},
		{"other wire type", options(protowire.AppendVarint(protowire.AppendTag(nil, 72295728, protowire.VarintType), 7)...), &annotations.HttpRule{}},
		{"broken", options(field(72295728, "\x12\x7f/ab")...), &annotations.HttpRule{}},
		{"in two parts", options(append(field(72295728, get), field(72295728, "\x3a\x01*")...)...), &annotations.HttpRule{Pattern: getRule.Pattern, Body: "*"}},
		{"empty", options(field(72295728, "")...), &annotations.HttpRule{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := *plain
			m.Desc = withOptions{plain.Desc, c.options}
			if d := cmp.Diff(c.want, Rule(&m), protocmp.Transform()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// describe shows all of a binding.
func describe(b *Binding) string {
	var s strings.Builder
	s.WriteString(b.String())
	for _, v := range b.Vars {
		fmt.Fprintf(&s, " {%s}", v)
	}
	fmt.Fprintf(&s, " body %s", [...]string{"none", "whole", "field"}[b.Body])
	if b.BodyField != nil {
		fmt.Fprintf(&s, " %s", b.BodyField)
	}
	if b.ResponseBody != nil {
		fmt.Fprintf(&s, " response %s", b.ResponseBody)
	}
	return s.String()
}

func rule(verb, path, body string) *annotations.HttpRule {
	r := &annotations.HttpRule{Body: body}
	switch verb {
	case "get":
		r.Pattern = &annotations.HttpRule_Get{Get: path}
	case "put":
		r.Pattern = &annotations.HttpRule_Put{Put: path}
	case "post":
		r.Pattern = &annotations.HttpRule_Post{Post: path}
	case "delete":
		r.Pattern = &annotations.HttpRule_Delete{Delete: path}
	case "patch":
		r.Pattern = &annotations.HttpRule_Patch{Patch: path}
	case "":
	default:
		r.Pattern = &annotations.HttpRule_Custom{Custom: &annotations.CustomHttpPattern{Kind: verb, Path: path}}
	}
	return r
}

func response(r *annotations.HttpRule, field string) *annotations.HttpRule {
	r.ResponseBody = field
	return r
}

func also(r *annotations.HttpRule, more ...*annotations.HttpRule) *annotations.HttpRule {
	r.AdditionalBindings = append(r.AdditionalBindings, more...)
	return r
}

func TestCompile(t *testing.T) {
	s := newSchema(t, compileProto(t, libraryProto))
	m := method(t, s, "/lib.v1.Library/GetBook")
	for _, c := range []struct {
		rule *annotations.HttpRule
		want []string
	}{
		{Rule(m), []string{
			"GET /v1/{name=shelves/*/books/*} -> lib.v1.Library/GetBook {name} body none",
			"GET /v1/books/{id} -> lib.v1.Library/GetBook {id} body none response title",
		}},
		{rule("put", "/{book.name=books/*}", "book"), []string{"PUT /{book.name=books/*} -> lib.v1.Library/GetBook {book.name} body field book"}},
		{rule("patch", "/{id}", "*"), []string{"PATCH /{id} -> lib.v1.Library/GetBook {id} body whole"}},
		{rule("post", "/x:go", "tags"), []string{"POST /x:go -> lib.v1.Library/GetBook body field tags"}},
		{rule("post", "/x", "shelf"), []string{"POST /x -> lib.v1.Library/GetBook body field shelf"}},
		{rule("post", "/x", "book.title"), []string{"POST /x -> lib.v1.Library/GetBook body field book.title"}},
		{rule("delete", "/{id}", "book"), []string{"DELETE /{id} -> lib.v1.Library/GetBook {id} body field book"}},
		{rule("HEAD", "/", ""), []string{"HEAD / -> lib.v1.Library/GetBook body none"}},
		{rule("*", "/{kind}/{token}", ""), []string{"* /{kind}/{token} -> lib.v1.Library/GetBook {kind} {token} body none"}},
		{
			rule("get", "/{at}/{within}/{mask}/{note}/{room}/{owner.name}", ""),
			[]string{"GET /{at}/{within}/{mask}/{note}/{room}/{owner.name} -> lib.v1.Library/GetBook {at} {within} {mask} {note} {room} {owner.name} body none"},
		},
		{rule("get", "/{orderId}", ""), []string{"GET /{orderId} -> lib.v1.Library/GetBook {order_id} body none"}},
		{rule("get", "/{at.seconds}", ""), []string{"GET /{at.seconds} -> lib.v1.Library/GetBook {at.seconds} body none"}},
		{response(rule("get", "/", ""), "authors"), []string{"GET / -> lib.v1.Library/GetBook body none response authors"}},
		{response(rule("get", "/", ""), "editor.name"), []string{"GET / -> lib.v1.Library/GetBook body none response editor.name"}},
		{response(rule("get", "/", ""), "*"), []string{"GET / -> lib.v1.Library/GetBook body none"}},
		{rule("post", "/{book.editor.name}", "book.editor"), []string{"POST /{book.editor.name} -> lib.v1.Library/GetBook {book.editor.name} body field book.editor"}},
		{rule("post", "/x", "book.authors"), []string{"POST /x -> lib.v1.Library/GetBook body field book.authors"}},
		{rule("*", "/x", "*"), []string{"* /x -> lib.v1.Library/GetBook body whole"}},
		{rule("PURGE", "/{id}:all:now", "*"), []string{"PURGE /{id}:all:now -> lib.v1.Library/GetBook {id} body whole"}},
		{also(rule("get", "/{id}", ""), rule("put", "/{id}", ""), rule("*", "/{name}", ""), rule("HEAD", "/{id}", "")), []string{
			"GET /{id} -> lib.v1.Library/GetBook {id} body none", "PUT /{id} -> lib.v1.Library/GetBook {id} body none",
			"* /{name} -> lib.v1.Library/GetBook {name} body none", "HEAD /{id} -> lib.v1.Library/GetBook {id} body none",
		}},
	} {
		bindings, err := Compile(m, c.rule)
		if err != nil {
			t.Errorf("%v: %v", c.rule, err)
			continue
		}
		var got []string
		for _, b := range bindings {
			got = append(got, describe(b))
			if b.Method != m || len(b.Vars) != len(b.Template.Vars()) {
				t.Errorf("%v: found %+v", c.rule, b)
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%v (-want +got):\n%s", c.rule, d)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	s := newSchema(t, compileProto(t, libraryProto))
	m := method(t, s, "/lib.v1.Library/GetBook")
	many := rule("get", "/", "")
	for i := range maxAdditional + 1 {
		also(many, rule("get", fmt.Sprintf("/%d", i), ""))
	}
	for _, c := range []struct {
		name string
		rule *annotations.HttpRule
		want []string // each after "http rule of lib.v1.Library/GetBook"
	}{
		{"none", nil, []string{`: wanted one of get, put, post, delete, patch and custom, found none`}},
		{"no pattern", rule("", "", "*"), []string{`: wanted one of get, put, post, delete, patch and custom, found none`}},
		{"no kind", &annotations.HttpRule{Pattern: &annotations.HttpRule_Custom{}}, []string{`: custom kind: wanted an HTTP method or "*" for any, found ""`}},
		{"bad kind", rule("GET /", "/", ""), []string{`: custom kind: wanted an HTTP method or "*" for any, found "GET /"`}},
		{"no path", rule("get", "", ""), []string{`, GET : path column 1: wanted "/", found the end`}},
		{"syntax", rule("get", "/v1/{name", ""), []string{`, GET /v1/{name: path column 10: wanted ".", "=" or the "}" that ends the variable of column 5, found the end`}},
		{"unknown variable", rule("get", "/{nam}", ""), []string{`, GET /{nam}: variable {nam}: lib.v1.Request has no field "nam"; did you mean "name"?`}},
		{"unknown below", rule("get", "/{book.titel}", ""), []string{`, GET /{book.titel}: variable {book.titel}: lib.v1.Book has no field "titel"; did you mean "title"?`}},
		{"below a scalar", rule("get", "/{name.x}", ""), []string{`, GET /{name.x}: variable {name.x}: field "name" of lib.v1.Request is string, so it has no field "x"`}},
		{"below a repeated field", rule("get", "/{tags.x}", ""), []string{`, GET /{tags.x}: variable {tags.x}: field "tags" of lib.v1.Request is repeated string, so it has no field "x"`}},
		{"below a map", rule("get", "/{shelf.name}", ""), []string{`, GET /{shelf.name}: variable {shelf.name}: field "shelf" of lib.v1.Request is a map, so it has no field "name"`}},
		{"repeated", rule("get", "/{tags}", ""), []string{`, GET /{tags}: variable {tags}: wanted a field that one string can set, found repeated string`}},
		{"map", rule("get", "/{shelf}", ""), []string{`, GET /{shelf}: variable {shelf}: wanted a field that one string can set, found a map`}},
		{"message", rule("get", "/{book}", ""), []string{`, GET /{book}: variable {book}: wanted a field that one string can set, found message lib.v1.Book`}},
		{"no string form", rule("get", "/{extra}/{value}/{any}", ""), []string{
			`, GET /{extra}/{value}/{any}: variable {extra}: wanted a field that one string can set, found message google.protobuf.Struct`,
			`, GET /{extra}/{value}/{any}: variable {value}: wanted a field that one string can set, found message google.protobuf.Value`,
			`, GET /{extra}/{value}/{any}: variable {any}: wanted a field that one string can set, found message google.protobuf.Any`,
		}},
		{"one field twice", rule("get", "/{order_id}/{orderId}", ""), []string{`, GET /{order_id}/{orderId}: variable {orderId}: {order_id} sets the same field`}},
		{"part of a field", rule("get", "/{at}/{at.seconds}", ""), []string{`, GET /{at}/{at.seconds}: variable {at.seconds}: {at} sets the same field`}},
		{"body on get", rule("get", "/", "*"), []string{`, GET /: body "*": a GET request has no body; leave body out, or use post`}},
		{"body on head", rule("HEAD", "/", "book"), []string{`, HEAD /: body "book": a HEAD request has no body; leave body out, or use post`}},
		{"unknown body", rule("post", "/", "bok"), []string{`, POST /: body "bok": lib.v1.Request has no field "bok"; did you mean "book"?`}},
		{"path and body", rule("post", "/{name}", "name"), []string{`, POST /{name}: body "name": the variable {name} sets the same field`}},
		{"path holds body", rule("post", "/{at}", "at.seconds"), []string{`, POST /{at}: body "at.seconds": the variable {at} sets the same field`}},
		{"unknown response", response(rule("get", "/", ""), "titel"), []string{`, GET /: response_body "titel": lib.v1.Book has no field "titel"; did you mean "title"?`}},
		{"nested", also(rule("get", "/a", ""), rule("get", "/b", ""), also(rule("get", "/c", ""), rule("get", "/d", ""))), []string{
			`, additional binding 2, GET /c: an additional binding cannot have additional_bindings of its own; move them one level up`,
		}},
		{"same requests", also(rule("get", "/a/{id}:x", ""), rule("get", "/a/{id}", ""), rule("get", "/{name=a/*}:x", "")), []string{
			`, additional binding 2, GET /{name=a/*}:x: GET /a/{id}:x of the same rule takes the same requests`,
		}},
		{"unknown below the response", response(rule("get", "/", ""), "authors.name"), []string{`, GET /: response_body "authors.name": field "authors" of lib.v1.Book is repeated message, so it has no field "name"`}},
		{"body below a repeated field", rule("post", "/", "book.authors.name"), []string{`, POST /: body "book.authors.name": field "authors" of lib.v1.Book is repeated message, so it has no field "name"`}},
		{"too many", many, []string{`: wanted at most 50 additional_bindings, found 51`}},
		{"all at once", also(rule("get", "/{nam}/{id}", "*"), rule("", "", ""), rule("put", "/x/", "")), []string{
			`, GET /{nam}/{id}: variable {nam}: lib.v1.Request has no field "nam"; did you mean "name"?`,
			`, GET /{nam}/{id}: body "*": a GET request has no body; leave body out, or use post`,
			`, additional binding 1: wanted one of get, put, post, delete, patch and custom, found none`,
			`, additional binding 2, PUT /x/: path column 4: wanted a segment (a literal, "*", "**" or "{variable}"), found the end`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bindings, err := Compile(m, c.rule)
			if err == nil || bindings != nil {
				t.Fatalf("wanted an error alone, found %v, %v", bindings, err)
			}
			want := make([]string, len(c.want))
			for i, w := range c.want {
				want[i] = "http rule of lib.v1.Library/GetBook" + w
			}
			if d := cmp.Diff(want, strings.Split(err.Error(), "\n")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	if _, err := Compile(m, many); errors.Unwrap(err) != nil {
		t.Errorf("found a wrapped error: %v", err)
	}
}

func TestDefault(t *testing.T) {
	s := newSchema(t, compileProto(t, libraryProto))
	m := method(t, s, "/lib.v1.Library/Plain")
	b := Default(m)
	if got, want := describe(b), "POST /lib.v1.Library/Plain -> lib.v1.Library/Plain body whole"; got != want {
		t.Errorf("wanted %s, found %s", want, got)
	}
	if again := mustParse(t, m.Name); !cmp.Equal(b.Template, again, cmp.AllowUnexported(Template{}, Variable{}, segment{}, span{})) {
		t.Errorf("wanted the template that parsing gives, %+v, found %+v", again, b.Template)
	}
}

// TestExamples compiles and matches the worked examples of google/api/http.proto: the fields that the path sets.
func TestExamples(t *testing.T) {
	s := newSchema(t, compileProto(t, `
		syntax = "proto3";
		package ex;
		service S {rpc M(Request) returns (Request);}
		message Request {string name = 1; string message_id = 2; int64 revision = 3; Sub sub = 4; Message message = 5; string user_id = 6; string text = 7;}
		message Sub {string subfield = 1;}
		message Message {string text = 1;}
	`))
	m := method(t, s, "/ex.S/M")
	examples := readVectors(t).Examples
	if len(examples) < 6 {
		t.Fatalf("wanted 6 examples or more, found %d", len(examples))
	}
	for _, e := range examples {
		t.Run(e.Source, func(t *testing.T) {
			body := ""
			if e.Rule.Body != nil {
				body = *e.Rule.Body
			}
			bindings, err := Compile(m, rule(strings.ToLower(e.Rule.Method), e.Rule.Template, body))
			if err != nil {
				t.Fatal(err)
			}
			tree := NewTree(func(*Binding, struct{}) bool { return true })
			tree.Add(bindings[0].Verb, bindings[0].Template, bindings[0])
			verb, target, _ := strings.Cut(e.Request, " ")
			u, err := url.Parse(target)
			if err != nil {
				t.Fatal(err)
			}
			segs, err := AppendSegments(nil, u.EscapedPath())
			if err != nil {
				t.Fatal(err)
			}
			b, vars, ok := tree.Match(verb, segs, struct{}{}, nil)
			if !ok || len(vars) == 0 || len(vars) != len(b.Vars) {
				t.Fatalf("found %v, %q, %v", b, vars, ok)
			}
			for i, v := range b.Vars {
				if want := e.Want[v.String()]; want != vars[i] {
					t.Errorf("%s: wanted %v, found %q", v, want, vars[i])
				}
			}
			if got, want := b.Body, map[string]Body{"": NoBody, "*": WholeBody, "message": FieldBody}[body]; got != want {
				t.Errorf("wanted body %v, found %v", want, got)
			}
		})
	}
}
