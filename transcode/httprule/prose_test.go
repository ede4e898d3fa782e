package httprule

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// proseProto has what the rules of google/api/http.proto speak of.
const proseProto = `
	syntax = "proto3";
	package prose;
	import "google/protobuf/field_mask.proto";
	import "google/api/httpbody.proto";
	service S {
		rpc M(Request) returns (Request);
		rpc Raw(google.api.HttpBody) returns (google.api.HttpBody);
		rpc Upload(RawRequest) returns (RawRequest);
	}
	message Book {string name = 1; repeated string authors = 2;}
	message RawRequest {string id = 1; google.api.HttpBody file = 2;}
	message Request {
		string name = 1;
		Book book = 2;
		repeated Book books = 3;
		repeated string tags = 4;
		map<string, string> labels = 5;
		google.protobuf.FieldMask update_mask = 6;
	}
`

// prose compiles rules for the methods of proseProto and asks them.
type prose struct {
	*testing.T
	schema *schema.Schema
}

func (p prose) compile(name string, r *annotations.HttpRule) ([]*Binding, error) {
	return Compile(method(p, p.schema, "/prose.S/"+name), r)
}

func (p prose) binding(r *annotations.HttpRule) *Binding {
	p.Helper()
	bindings, err := p.compile("M", r)
	if err != nil {
		p.Fatal(err)
	}
	return bindings[0]
}

// refused wants a rule refused with a part of a message.
func (p prose) refused(r *annotations.HttpRule, want string) {
	p.Helper()
	if _, err := p.compile("M", r); err == nil || !strings.Contains(err.Error(), want) {
		p.Errorf("%v: wanted it refused with %q, found %v", r, want, err)
	}
}

// captures wants a template to fit a path and to capture want.
func (p prose) captures(template, path string, want ...string) {
	p.Helper()
	if got, ok := p.ask(http.MethodGet, template, path); !ok || !slices.Equal(got, want) {
		p.Errorf("%s on %s: wanted %q, found %q, %v", template, path, want, got, ok)
	}
}

// misses wants a template not to fit a path.
func (p prose) misses(template, path string) {
	p.Helper()
	if got, ok := p.ask(http.MethodGet, template, path); ok {
		p.Errorf("%s on %s: wanted nothing, found %q", template, path, got)
	}
}

func (p prose) ask(verb, template, path string) ([]string, bool) {
	p.Helper()
	segs, err := AppendSegments(nil, path)
	if err != nil {
		p.Fatal(err)
	}
	tree := routes(p, "GET "+template)
	_, vars, ok := tree.MatchPath(verb, path, segs, struct{}{}, nil)
	return vars, ok
}

// proseRules are the rules in prose of the vectors, by how they begin. What they say of query parameters and of bodies is
// checked where those are read, in package jsonwire (TestProseRules) and the REST adapter.
var proseRules = []struct {
	begins string
	check  func(prose)
}{
	{"http.proto: ** matches zero or more segments", func(p prose) {
		p.captures("/a/{b=**}", "/a", "")
		p.captures("/a/{b=**}", "/a/x", "x")
		p.captures("/a/{b=**}", "/a/x/y/z", "x/y/z")
		p.captures("/a/{b=**}:go", "/a/x/y:go", "x/y")
		if _, err := Parse("/**/a/**"); err == nil {
			p.Error("wanted a second ** refused")
		}
		// Taken all the same, for the public template tests have it: more behind the only "**".
		p.captures("/a/{b=c/**}/d/e", "/a/c/x/y/d/e", "c/x/y")
	}},
	{"http.proto: {var} == {var=*}", func(p prose) {
		if a, b := mustParse(p, "/{var}"), mustParse(p, "/{var=*}"); a.String() != b.String() {
			p.Errorf("found %s and %s", a, b)
		}
		p.captures("/{var=*}", "/x", "x")
		p.misses("/{var}", "/x/y")
		if _, err := Parse("/{a=b/{c}}"); err == nil || !strings.Contains(err.Error(), "a variable cannot hold another") {
			p.Errorf("wanted a variable in a variable refused, found %v", err)
		}
	}},
	{"http.proto: single-segment variable: fully percent-decoded", func(p prose) {
		p.captures("/{a}", "/x%2Fy%20%3F%25", "x/y ?%")
		p.captures("/{a=s/*}", "/s/x%2Fy%20%3F%25", "s/x%2Fy ?%")
		p.captures("/{a=**}", "/x%2fy%20/%3F", "x%2fy /?")
		// The other text, of google.api.Http, by choice.
		segs := []string{"s", "x%2Fy%20%3F%25"}
		if _, vars, _ := decodingTree(p, ExceptReserved, "/{name=s/*}").Match(http.MethodGet, segs, struct{}{}, nil); vars[0] != "s/x%2Fy %3F%" {
			p.Errorf("found %q", vars)
		}
	}},
	{"http.proto: path variable must not be repeated/map, must not capture the leading '/'", func(p prose) {
		p.refused(rule("get", "/{tags}", ""), "found repeated string")
		p.refused(rule("get", "/{books}", ""), "found repeated message")
		p.refused(rule("get", "/{labels}", ""), "found a map")
		p.refused(rule("get", "{name}", ""), `path column 1: wanted "/", found "{"`)
		p.refused(rule("get", "/{name=/a}", ""), `wanted a segment`)
		p.captures("/{a=**}", "/x/y", "x/y")
	}},
	{"http.proto: body '*' => no query parameters; body omitted => no HTTP body", func(p prose) {
		if b := p.binding(rule("post", "/x/{name}", "*")); b.Body != WholeBody || b.BodyField != nil {
			p.Errorf("found %+v", b)
		}
		if b := p.binding(rule("post", "/x/{name}", "")); b.Body != NoBody || b.BodyField != nil {
			p.Errorf("found %+v", b)
		}
		if b := p.binding(rule("post", "/x/{name}", "book")); b.Body != FieldBody || b.BodyField.String() != "book" {
			p.Errorf("found %+v", b)
		}
	}},
	{"http.proto: repeated message fields must not be query parameters", func(p prose) {
		// A rule says nothing of query parameters: they are all that neither path nor body binds.
		if b := p.binding(rule("get", "/x/{name}", "")); len(b.Vars) != 1 || b.Body != NoBody {
			p.Errorf("found %+v", b)
		}
	}},
	{"http.proto: body/response_body must name a top-level field", func(p prose) {
		p.refused(rule("post", "/x", "nobook"), `prose.Request has no field "nobook"`)
		p.refused(response(rule("post", "/x", "*"), "nobook"), `prose.Request has no field "nobook"`)
		for _, field := range []string{"book", "books", "tags", "labels", "name", "book.name", "book.authors"} { // a dotted one as grpc-gateway takes it
			b := p.binding(response(rule("post", "/x", field), field))
			if b.Body != FieldBody || b.BodyField.String() != field || b.ResponseBody.String() != field {
				p.Errorf("%s: found %+v", field, b)
			}
		}
	}},
	{"http.proto: additional_bindings nest one level only", func(p prose) {
		bindings, err := p.compile("M", also(rule("get", "/a", ""), rule("get", "/b", ""), rule("post", "/c", "*")))
		if err != nil || len(bindings) != 3 {
			p.Errorf("found %v, %v", bindings, err)
		}
		p.refused(also(rule("get", "/a", ""), also(rule("get", "/b", ""), rule("get", "/c", ""))), "cannot have additional_bindings of its own")
	}},
	{"http.proto: custom kind '*' leaves the method unspecified", func(p prose) {
		b := p.binding(rule("*", "/x", ""))
		tree := NewTree(func(*Binding, struct{}) bool { return true })
		tree.Add(b.Verb, b.Template, b)
		for _, verb := range []string{"GET", "HEAD", "POST", "PURGE", "x"} {
			if _, _, ok := tree.Match(verb, []string{"x"}, struct{}{}, nil); !ok || !b.Takes(verb) {
				p.Errorf("%s is not taken", verb)
			}
		}
	}},
	{"HttpBody: google.api.HttpBody as request", func(p prose) {
		raw := response(rule("post", "/x", "*"), "")
		if bindings, err := p.compile("Raw", raw); err != nil || bindings[0].Body != WholeBody || bindings[0].Method.Input.Name != "google.api.HttpBody" {
			p.Errorf("found %v, %v", bindings, err)
		}
		bindings, err := p.compile("Upload", response(rule("post", "/x/{id}", "file"), "file"))
		if err != nil || bindings[0].BodyField.Last().Message.Name != "google.api.HttpBody" || bindings[0].ResponseBody.Last().Message.Name != "google.api.HttpBody" {
			p.Errorf("found %v, %v", bindings, err)
		}
	}},
	{"AIP-134 PATCH: update_mask in the query", func(p prose) {
		b := p.binding(rule("patch", "/{book.name=books/*}", "book"))
		mask, err := b.Method.Input.Path("update_mask")
		if err != nil || b.Verb != http.MethodPatch || within(mask, b.BodyField) || within(mask, b.Vars[0]) {
			p.Errorf("wanted update_mask left to the query, found %+v, %v", b, err)
		}
	}},
}

func TestProseRules(t *testing.T) {
	s := newSchema(t, compileProto(t, proseProto))
	rules := readVectors(t).Prose
	if len(rules) != len(proseRules) {
		t.Errorf("%d rules, %d checks", len(rules), len(proseRules))
	}
	for _, text := range rules {
		t.Run(text, func(t *testing.T) {
			for _, r := range proseRules {
				if strings.HasPrefix(text, r.begins) {
					r.check(prose{t, s})
					return
				}
			}
			t.Error("no check")
		})
	}
}
