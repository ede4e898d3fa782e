package jsonwire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// vectors are the facts of testdata/http-rule-cases.json that concern messages; package httprule has the others.
type vectors struct {
	Examples []struct {
		Source string
		Rule   struct {
			Template string
			Body     *string
		}
		Request string
		JSON    json.RawMessage `json:"request_json"`
		Want    map[string]any  `json:"expect_request_fields"`
	} `json:"http_proto_examples"`
	Prose     []string      `json:"prose_rules"`
	Requests  []requestRow  `json:"json_request"`
	Responses []responseRow `json:"json_response"`
}

type requestRow struct {
	Source    string
	Message   *string
	Body      string
	Bindings  [][2]string
	Streaming bool
	JSON      string `json:"input_json"`
	Expect    struct {
		Messages []string `json:"messages_prototext"`
		Error    string
	}
}

type responseRow struct {
	Source   string
	Always   bool `json:"always_print_primitive_fields"`
	Message  string
	Messages []string `json:"messages_prototext"`
	Expect   struct {
		Chunks []string `json:"json_compact_chunks"`
	}
}

func readVectors(t *testing.T) *vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/http-rule-cases.json")
	if err != nil {
		t.Fatal(err)
	}
	v := &vectors{}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	return v
}

// bookstore is the schema of the rows.
type bookstore struct{ schema *schema.Schema }

var loadBookstore = sync.OnceValues(func() (*bookstore, error) {
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{"testdata"}})}
	compiled, err := c.Compile(context.Background(), "bookstore.proto")
	if err != nil {
		return nil, err
	}
	files := &protoregistry.Files{}
	var add func(fd protoreflect.FileDescriptor) error
	add = func(fd protoreflect.FileDescriptor) error {
		if _, err := files.FindFileByPath(fd.Path()); err == nil {
			return nil
		}
		for i := range fd.Imports().Len() {
			if err := add(fd.Imports().Get(i).FileDescriptor); err != nil {
				return err
			}
		}
		plain, err := protodesc.NewFile(protodesc.ToFileDescriptorProto(fd), files)
		if err != nil {
			return err
		}
		return files.RegisterFile(plain)
	}
	if err := add(compiled[0]); err != nil {
		return nil, err
	}
	s, err := schema.New(files)
	return &bookstore{s}, err
})

func theBookstore(t *testing.T) *bookstore {
	t.Helper()
	b, err := loadBookstore()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// message finds a message as the rows name it: of the bookstore, or with its full name after "::". No name is a Struct.
func (b *bookstore) message(t *testing.T, name string) *schema.Message {
	t.Helper()
	full, ok := strings.CutPrefix(name, "::")
	if !ok {
		full = "bookstore." + name
	}
	if full = strings.ReplaceAll(full, "::", "."); name == "" {
		full = "google.protobuf.Struct"
	}
	m, ok := b.schema.Message(full)
	if !ok {
		t.Fatalf("no message %s", full)
	}
	return m
}

// textMessage reads a message in text format.
func textMessage(t *testing.T, m *schema.Message, s string) *dynamicpb.Message {
	t.Helper()
	msg := dynamicpb.NewMessage(m.Desc)
	if err := prototext.Unmarshal([]byte(s), msg); err != nil {
		t.Fatal(err)
	}
	return msg
}

// holdsMessage wants wire to be the message want.
func holdsMessage(t *testing.T, m *schema.Message, wire []byte, want proto.Message) {
	t.Helper()
	got := dynamicpb.NewMessage(m.Desc)
	if err := proto.Unmarshal(wire, got); err != nil {
		t.Fatalf("%x: %v", wire, err)
	}
	if d := cmp.Diff(want, proto.Message(got), protocmp.Transform()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// trailing finds the commas that protobuf's JSON forbids. No row has one inside a string.
var trailing = regexp.MustCompile(`,(\s*[}\]])`)

// streamed divides what a row sends as a stream into the messages that it is made of.
func streamed(t *testing.T, s string) []string {
	t.Helper()
	var raw []json.RawMessage
	if err := json.Unmarshal([]byte("["+s+"]"), &raw); err != nil {
		t.Fatal(err)
	}
	out := make([]string, len(raw))
	for i, r := range raw {
		out[i] = string(r)
	}
	return out
}

func TestRequestVectors(t *testing.T) {
	// Rows of which nothing can be checked without a stream, each with the reason.
	skipped := map[string]string{
		"json_request_translator_test.cc:StreamingErrorNotAnArray": "one message is right by itself: that a stream has to be an array is for the reader of streams",
	}
	b := theBookstore(t)
	rows := readVectors(t).Requests
	if len(rows) < 18 {
		t.Fatalf("wanted 18 rows or more, found %d", len(rows))
	}
	for _, row := range rows {
		if skipped[row.Source] != "" {
			continue
		}
		t.Run(row.Source, func(t *testing.T) {
			m := b.message(t, orEmpty(row.Message))
			var o *jsonwire.Options
			if strings.HasSuffix(row.Source, ":UnknownsIgnored") {
				o = &jsonwire.Options{IgnoreUnknown: true}
				refuseRow(t, m, row, row.JSON, nil, `has no field "unknownField"`)
			}
			if trailing.MatchString(row.JSON) {
				closing := trailing.FindStringSubmatch(row.JSON)[1]
				refuseRow(t, m, row, elementOf(row), nil, `found "`+closing[len(closing)-1:]+`"`)
				row.JSON = trailing.ReplaceAllString(row.JSON, "$1")
			}
			if row.Expect.Error != "" {
				refuseRow(t, m, row, row.JSON, o, `(int64), found "abc"`)
				return
			}
			bodies := streamed(t, row.JSON)
			if row.JSON == "" {
				bodies = []string{""}
			}
			if len(bodies) != len(row.Expect.Messages) {
				t.Fatalf("%d messages are sent and %d expected", len(bodies), len(row.Expect.Messages))
			}
			for i, body := range bodies {
				if i > 0 {
					row.Bindings = nil // they are for the first message of a stream
				}
				wire, err := askRow(t, m, row, body, o)
				if err != nil {
					t.Fatal(err)
				}
				holdsMessage(t, m, wire, textMessage(t, m, row.Expect.Messages[i]))
			}
		})
	}
}

// elementOf is the first of the messages that a row with trailing commas sends, as it is sent.
func elementOf(row requestRow) string {
	first, _, _ := strings.Cut(row.JSON, "}, {")
	if first != row.JSON {
		first += "}"
	}
	return first
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// askRow translates one message of a row.
func askRow(t *testing.T, m *schema.Message, row requestRow, body string, o *jsonwire.Options) ([]byte, error) {
	t.Helper()
	r := jsonwire.Request{Message: m, Body: []byte(body)}
	if row.Body != "*" {
		r.BodyField = pathOf(t, m, row.Body)
	}
	for _, b := range row.Bindings {
		r.Params = append(r.Params, jsonwire.Param{Field: pathOf(t, m, b[0]), Value: b[1], From: jsonwire.FromPath})
	}
	return jsonwire.AppendRequest(nil, &r, o)
}

func refuseRow(t *testing.T, m *schema.Message, row requestRow, body string, o *jsonwire.Options, want string) {
	t.Helper()
	if wire, err := askRow(t, m, row, body, o); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: wanted an error with %s, found %x, %v", body, want, wire, err)
	}
}

func TestResponseVectors(t *testing.T) {
	b := theBookstore(t)
	rows := readVectors(t).Responses
	if len(rows) < 12 {
		t.Fatalf("wanted 12 rows or more, found %d", len(rows))
	}
	for _, row := range rows {
		t.Run(row.Source, func(t *testing.T) {
			m := b.message(t, row.Message)
			if len(row.Messages) != len(row.Expect.Chunks) {
				t.Fatalf("%d messages and %d chunks", len(row.Messages), len(row.Expect.Chunks))
			}
			for i, s := range row.Messages {
				wire, err := proto.Marshal(textMessage(t, m, s))
				if err != nil {
					t.Fatal(err)
				}
				got, err := jsonwire.AppendJSON(nil, wire, m, &jsonwire.Options{EmitUnpopulated: row.Always})
				if err != nil {
					t.Fatal(err)
				}
				var want bytes.Buffer
				if err := json.Compact(&want, []byte(row.Expect.Chunks[i])); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want.String(), string(got)); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
			}
		})
	}
}

// TestExampleVectors makes the messages of the worked examples of google/api/http.proto: path, query and body together.
func TestExampleVectors(t *testing.T) {
	m := theBookstore(t).message(t, "MessagingRequest")
	variable := regexp.MustCompile(`\{(\w+)(?:=([^}]*))?\}`)
	for _, e := range readVectors(t).Examples {
		t.Run(e.Source, func(t *testing.T) {
			// Routing is not what is tested: the template is made a regular expression.
			pattern := variable.ReplaceAllStringFunc(e.Rule.Template, func(v string) string {
				parts := variable.FindStringSubmatch(v)
				if parts[2] == "" {
					parts[2] = "*"
				}
				return "(?P<" + parts[1] + ">" + strings.ReplaceAll(parts[2], "*", "[^/]+") + ")"
			})
			_, target, _ := strings.Cut(e.Request, " ")
			path, query, _ := strings.Cut(target, "?")
			re := regexp.MustCompile("^" + pattern + "$")
			found := re.FindStringSubmatch(path)
			if found == nil {
				t.Fatalf("%s does not fit %s", path, pattern)
			}
			r := jsonwire.Request{Message: m}
			var err error
			if r.Params, err = jsonwire.AppendQuery(nil, m, query, nil, nil); err != nil {
				t.Fatal(err)
			}
			for i, name := range re.SubexpNames()[1:] {
				r.Params = append(r.Params, jsonwire.Param{Field: pathOf(t, m, name), Value: found[i+1], From: jsonwire.FromPath})
			}
			switch body := orEmpty(e.Rule.Body); body {
			case "":
			case "*":
				r.Body = e.JSON
			default:
				r.Body, r.BodyField = e.JSON, pathOf(t, m, body)
			}
			wire, err := jsonwire.AppendRequest(nil, &r, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := jsonwire.AppendJSON(nil, wire, m, &jsonwire.Options{ProtoNames: true})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]any{}
			if err := json.Unmarshal(answer, &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(e.Want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestProseRules checks what the rules in prose say of query parameters and bodies; what they say of templates and rules
// is checked in package httprule.
func TestProseRules(t *testing.T) {
	m := theBookstore(t).message(t, "ProseRequest")
	query := func(t *testing.T, s string, q *jsonwire.QueryOptions) (*dynamicpb.Message, error) {
		t.Helper()
		params, err := jsonwire.AppendQuery(nil, m, s, nil, q)
		if err != nil {
			return nil, err
		}
		wire, err := jsonwire.AppendRequest(nil, &jsonwire.Request{Message: m, Params: params}, nil)
		if err != nil {
			return nil, err
		}
		msg := dynamicpb.NewMessage(m.Desc)
		return msg, proto.Unmarshal(wire, msg)
	}
	same := func(t *testing.T, got *dynamicpb.Message, err error, want string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(textMessage(t, m, want), got, protocmp.Transform()); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	checks := map[string]func(t *testing.T){
		"http.proto: body '*' => no query parameters": func(t *testing.T) {
			if msg, err := query(t, "name=a", &jsonwire.QueryOptions{Unbound: true}); err == nil {
				t.Errorf("wanted a parameter beside the whole message refused, found %v", msg)
			}
			msg, err := query(t, "name=a&book.title=b", nil)
			same(t, msg, err, `name: "a" book {title: "b"}`)
		},
		"http.proto: repeated message fields must not be query parameters": func(t *testing.T) {
			for _, s := range []string{"books=a", "books.name=a", "books={}", "book=a"} {
				if msg, err := query(t, s, nil); err == nil {
					t.Errorf("%s: wanted it refused, found %v", s, msg)
				}
			}
			msg, err := query(t, "tags=A&tags=B&book.name=a&book.author_info.firstName=b", nil)
			same(t, msg, err, `tags: "A" tags: "B" book {name: "a" author_info {first_name: "b"}}`)
		},
		"http.proto: body/response_body must name a top-level field": func(t *testing.T) {
			for _, c := range []struct{ field, json, want string }{
				{"books", `[{"name":"a"},{"name":"b"}]`, `books {name: "a"} books {name: "b"}`},
				{"tags", `["a","b"]`, `tags: "a" tags: "b"`},
				{"book", `{"name":"a"}`, `book {name: "a"}`},
				{"book.title", `"a"`, `book {title: "a"}`}, // a dotted one as grpc-gateway takes it
			} {
				r := jsonwire.Request{Message: m, Body: []byte(c.json), BodyField: pathOf(t, m, c.field)}
				wire, err := jsonwire.AppendRequest(nil, &r, nil)
				if err != nil {
					t.Fatal(err)
				}
				holdsMessage(t, m, wire, textMessage(t, m, c.want))
				back, err := jsonwire.AppendFieldJSON(nil, wire, m, r.BodyField, nil)
				if err != nil || string(back) != c.json {
					t.Errorf("%s: wanted %s back, found %s, %v", c.field, c.json, back, err)
				}
			}
		},
		"HttpBody: google.api.HttpBody as request": func(t *testing.T) {
			file := pathOf(t, m, "file")
			r := jsonwire.Request{Message: m, Body: []byte("not JSON: \x00\xff"), BodyField: file, Raw: true, ContentType: "image/png"}
			wire, err := jsonwire.AppendRequest(nil, &r, nil)
			if err != nil {
				t.Fatal(err)
			}
			holdsMessage(t, m, wire, textMessage(t, m, `file {content_type: "image/png" data: "not JSON: \000\377"}`))
			contentType, data, err := jsonwire.SplitHTTPBody(wire, file)
			if err != nil || string(contentType) != "image/png" || !bytes.Equal(data, r.Body) {
				t.Errorf("found %q, %q, %v", contentType, data, err)
			}
		},
		"AIP-134 PATCH: update_mask in the query": func(t *testing.T) {
			mask := jsonwire.MaskField(m)
			for _, c := range []struct{ query, want string }{
				{"", `book {title: "a" author_info {first_name: "b"}} update_mask {paths: "title" paths: "author_info.first_name"}`},
				{"updateMask=title", `book {title: "a" author_info {first_name: "b"}} update_mask {paths: "title"}`},
			} {
				r := jsonwire.Request{Message: m, Body: []byte(`{"title":"a","authorInfo":{"firstName":"b"}}`), BodyField: pathOf(t, m, "book"), Mask: mask}
				var err error
				if r.Params, err = jsonwire.AppendQuery(nil, m, c.query, nil, nil); err != nil {
					t.Fatal(err)
				}
				wire, err := jsonwire.AppendRequest(nil, &r, nil)
				if err != nil {
					t.Fatal(err)
				}
				holdsMessage(t, m, wire, textMessage(t, m, c.want))
			}
		},
	}
	// The other rules say nothing of query and body.
	routing := []string{"http.proto: ** ", "http.proto: {var} ", "http.proto: single-segment ", "http.proto: path variable ", "http.proto: additional_bindings ", "http.proto: custom kind "}
	done := 0
	for _, rule := range readVectors(t).Prose {
		begins := func(prefix string) bool { return strings.HasPrefix(rule, prefix) }
		for begin, check := range checks {
			if begins(begin) {
				done++
				t.Run(rule, check)
			}
		}
		if slices.ContainsFunc(routing, begins) {
			done++
		}
	}
	if want := len(checks) + len(routing); done != want || want != 11 {
		t.Errorf("%d rules of %d dealt with", done, want)
	}
}
