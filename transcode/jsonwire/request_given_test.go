package jsonwire_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// request is one HTTP request as the tests of this file write it.
type request struct {
	root        string
	body        string
	bodyField   string
	path        string // name=value, divided by &, as they are
	query, form string
	policy      jsonwire.QueryOptions
	capture     string
	override    bool
	mask        string
	raw         bool
	contentType string
}

func (c *request) wire(t testing.TB, w *world, dst []byte) ([]byte, error) {
	t.Helper()
	m := w.message(t, c.root)
	r := jsonwire.Request{Message: m, Body: []byte(c.body), Override: c.override, Raw: c.raw, ContentType: c.contentType}
	if c.bodyField != "" {
		r.BodyField = pathOf(t, m, c.bodyField)
	}
	if c.mask != "" {
		r.Mask = pathOf(t, m, c.mask)
	}
	if c.capture != "" {
		p, err := jsonwire.CaptureField(m, c.capture)
		if err != nil {
			t.Fatal(err)
		}
		c.policy.Unknown, c.policy.Capture = jsonwire.CaptureUnknown, p
	}
	if c.path != "" {
		for v := range strings.SplitSeq(c.path, "&") {
			name, value, _ := strings.Cut(v, "=")
			r.Params = jsonwire.AppendPath(r.Params, pathOf(t, m, name), value, &c.policy)
		}
	}
	var err error
	if r.Params, err = jsonwire.AppendQuery(r.Params, m, c.query, nil, &c.policy); err != nil {
		return dst, err
	}
	if c.form != "" {
		if r.Params, err = jsonwire.AppendForm(r.Params, m, []byte(c.form), r.BodyField, nil, &c.policy); err != nil {
			return dst, err
		}
	}
	return jsonwire.AppendRequest(dst, &r, nil)
}

// json is the request's message as JSON, and the same message as the oracle writes it, so that what is decoded twice or
// joined shows.
func (c *request) json(t testing.TB, w *world) (string, error) {
	t.Helper()
	wire, err := c.wire(t, w, []byte(prefix))
	if err != nil {
		if string(wire) != prefix {
			t.Fatalf("dst is %q after a refusal", wire)
		}
		return "", err
	}
	m := w.message(t, c.root)
	got, err := jsonwire.AppendJSON(nil, wire[len(prefix):], m, nil)
	if err != nil {
		t.Fatalf("the wire form %x is broken: %v", wire, err)
	}
	return string(got), nil
}

type requestCase struct {
	name string
	request
	want    string // the message as JSON
	refused string // or a part of the error
}

func runRequests(t *testing.T, cases []requestCase) {
	t.Helper()
	w := theWorld(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.json(t, w)
			switch {
			case c.refused == "" && err != nil:
				t.Fatal(err)
			case c.refused != "" && err == nil:
				t.Fatalf("taken as %s, want an error with %q", got, c.refused)
			case c.refused != "" && !strings.Contains(err.Error(), c.refused):
				t.Fatalf("refused with %q, want %q", err, c.refused)
			case err != nil:
				return
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

const book = "test.http.Book"

// TestPathAgainstBody: each case is run as it stands, and with Override. Where the body gives the same or nothing, both
// take it with one result; else the first refuses it.
func TestPathAgainstBody(t *testing.T) {
	w := theWorld(t)
	for _, c := range []struct {
		name string
		request
		want    string // with Override
		refused string // without; "" where the same is wanted
	}{
		{"same", request{root: book, body: `{"name":"a","pageCount":"1"}`, path: "name=a"}, `{"name":"a","pageCount":"1"}`, ""},
		{"other", request{root: book, body: `{"name":"a","pageCount":"1"}`, path: "name=b"}, `{"name":"b","pageCount":"1"}`, `name: wanted in the body what the path gives, "b", found "a"; leave "name" out of the body or give the same value (a route may set path_conflict: override)`},
		{"absent", request{root: book, body: `{"pageCount":"1"}`, path: "name=b"}, `{"name":"b","pageCount":"1"}`, ""},
		{"null", request{root: book, body: `{"name":null}`, path: "name=b"}, `{"name":"b"}`, ""},
		{"no body", request{root: book, path: "name=b"}, `{"name":"b"}`, ""},
		{"zero is not given", request{root: book, body: `{"pageCount":0,"name":"","price":0.0,"genre":0}`, path: "page_count=3&name=x&price=1.5&genre=POEM"}, `{"name":"x","pageCount":"3","genre":"POEM","price":1.5}`, ""},
		{"zero is not given, beside a query", request{root: book, body: `{"pageCount":0,"author":{"name":""}}`, path: "page_count=3&author.name=x", query: "genre=POEM"}, `{"pageCount":"3","author":{"name":"x"},"genre":"POEM"}`, ""},
		{"zero is not given in a form", request{root: book, form: "page_count=0&price=0&name=", path: "page_count=3&price=1&name=n"}, `{"name":"n","pageCount":"3","price":1}`, ""},
		{"minus zero is a value", request{root: book, body: `{"price":-0.0}`, path: "price=1"}, `{"price":1}`, `found -0`},
		{"zero with presence", request{root: book, body: `{"edition":0}`, path: "edition=3"}, `{"edition":3}`, `edition: wanted in the body what the path gives, 3, found 0`},
		{"zero with presence, same", request{root: book, body: `{"edition":0}`, path: "edition=0"}, `{"edition":0}`, ""},
		{"zero in the path", request{root: book, body: `{"pageCount":5}`, path: "page_count=0"}, `{}`, `pageCount: wanted in the body what the path gives, "0", found "5"`},
		{"number written otherwise", request{root: book, body: `{"pageCount":1e2}`, path: "page_count=+100"}, `{"pageCount":"100"}`, ""},
		{"enum by number", request{root: book, body: `{"genre":2}`, path: "genre=POEM"}, `{"genre":"POEM"}`, ""},
		{"enum, other", request{root: book, body: `{"genre":1}`, path: "genre=POEM"}, `{"genre":"POEM"}`, `genre: wanted in the body what the path gives, "POEM", found "NOVEL"`},
		{"wrapper", request{root: book, body: `{"isbn":"1"}`, path: "isbn=2"}, `{"isbn":"2"}`, `isbn: wanted in the body what the path gives, "2", found "1"`},
		{"wrapper, same", request{root: book, body: `{"isbn":"1"}`, path: "isbn=1"}, `{"isbn":"1"}`, ""},
		{"wrapper of nothing in the body", request{root: book, body: `{"isbn":""}`, path: "isbn=1"}, `{"isbn":"1"}`, `found ""`},
		{"wrapper of nothing in the path", request{root: book, body: `{"isbn":"1"}`, path: "isbn="}, `{"isbn":""}`, `gives, "", found "1"`},
		{"wrapper of nothing in both", request{root: book, body: `{"isbn":""}`, path: "isbn="}, `{"isbn":""}`, ""},
		{"time", request{root: book, body: `{"published":"2024-01-01T00:00:00.5Z"}`, path: "published=2024-01-01T00:00:00Z"}, `{"published":"2024-01-01T00:00:00Z"}`, `found "2024-01-01T00:00:00.500Z"`},
		{"time in another zone", request{root: book, body: `{"published":"2024-01-01T01:00:00+01:00"}`, path: "published=2024-01-01T00:00:00.000Z"}, `{"published":"2024-01-01T00:00:00Z"}`, ""},
		{"time zero", request{root: book, body: `{"published":"2024-01-01T00:00:00Z"}`, path: "published=1970-01-01T00:00:00Z"}, `{"published":"1970-01-01T00:00:00Z"}`, `gives, "1970-01-01T00:00:00Z", found "2024-01-01T00:00:00Z"`},
		{"duration", request{root: book, body: `{"readTime":"5400.0s"}`, path: "read_time=1h30m"}, `{"readTime":"5400s"}`, ""},
		{"duration, other", request{root: book, body: `{"readTime":"1.5s"}`, path: "read_time=1s"}, `{"readTime":"1s"}`, `found "1.500s"`},
		{"mask is replaced, not joined", request{root: book, body: `{"shown":"name,tags"}`, path: "shown=pageCount"}, `{"shown":"pageCount"}`, `shown: wanted in the body what the path gives, "pageCount", found "name,tags"`},
		{"mask in another order", request{root: book, body: `{"shown":"name,pageCount,name"}`, path: "shown=page_count,name"}, `{"shown":"pageCount,name"}`, ""},
		{"mask, empty in the body", request{root: book, body: `{"shown":""}`, path: "shown=name"}, `{"shown":"name"}`, `found ""`},
		{"value is replaced", request{root: book, body: `{"anyValue":{"a":1,"b":2}}`, path: `any_value={"c":3}`}, `{"anyValue":{"c":3}}`, `gives, {"c":3}, found {"a":1,"b":2}`},
		{"struct in another order", request{root: book, body: `{"extra":{"a":1,"b":2}}`, path: `extra={"b":2.0,"a":1}`}, `{"extra":{"a":1,"b":2}}`, ""},
		{"struct is replaced", request{root: book, body: `{"extra":{"a":1}}`, path: `extra={"b":2}`}, `{"extra":{"b":2}}`, `found {"a":1}`},
		{"list is replaced", request{root: book, body: `{"list":[1,2]}`, path: `list=[3]`}, `{"list":[3]}`, `found [1,2]`},
		{"nested", request{root: book, body: `{"author":{"name":"a","fullName":"f"},"pageCount":"1"}`, path: "author.name=b"}, `{"pageCount":"1","author":{"name":"b","fullName":"f"}}`, `author.name: wanted in the body what the path gives, "b", found "a"`},
		{"nested, same", request{root: book, body: `{"author":{"name":"a","fullName":"f"}}`, path: "author.name=a"}, `{"author":{"name":"a","fullName":"f"}}`, ""},
		{"nested, parent null", request{root: book, body: `{"author":null}`, path: "author.name=a"}, `{"author":{"name":"a"}}`, ""},
		{"nested, parent empty", request{root: book, body: `{"author":{}}`, path: "author.name=a"}, `{"author":{"name":"a"}}`, ""},
		{"nested, zero", request{root: book, body: `{"author":{"name":""}}`, path: "author.name=a"}, `{"author":{"name":"a"}}`, ""},
		{"deep", request{root: book, body: `{"sequel":{"sequel":{"author":{"mentor":{"name":"m","fullName":"M"}},"name":"2"},"name":"1"},"name":"0"}`, path: "sequel.sequel.author.mentor.name=n&sequel.name=1"}, `{"name":"0","sequel":{"name":"1","sequel":{"name":"2","author":{"mentor":{"name":"n","fullName":"M"}}}}}`, `sequel.sequel.author.mentor.name: wanted in the body what the path gives, "n", found "m"`},
		{"part of a time", request{root: book, body: `{"published":"1970-01-01T00:00:05Z"}`, path: "published.seconds=5"}, `{"published":"1970-01-01T00:00:05Z"}`, ""},
		{"part of a time, other", request{root: book, body: `{"published":"1970-01-01T00:00:05.5Z"}`, path: "published.seconds=6"}, `{"published":"1970-01-01T00:00:06.500Z"}`, `gives, "6", found "5"`},
		{"long values", request{root: book, body: `{"name":"` + strings.Repeat("ä", 100) + `"}`, path: "name=" + strings.Repeat("b", 100)}, `{"name":"` + strings.Repeat("b", 100) + `"}`, `gives, "` + strings.Repeat("b", 63) + `..., found "` + strings.Repeat("ä", 31) + `...;`},
		{"in the body's field", request{root: "test.http.Update", bodyField: "book", body: `{"name":"a","pageCount":"1"}`, path: "book.name=b"}, `{"book":{"name":"b","pageCount":"1"}}`, `book.name: wanted in the body what the path gives, "b", found "a"`},
		{"in the body's field, same", request{root: "test.http.Update", bodyField: "book", body: `{"name":"a"}`, path: "book.name=a&id=i"}, `{"book":{"name":"a"},"id":"i"}`, ""},
		{"in the body's field, null", request{root: "test.http.Update", bodyField: "book", body: `null`, path: "book.name=a"}, `{"book":{"name":"a"}}`, ""},
		{"in the body's field, no body", request{root: "test.http.Update", bodyField: "book", path: "book.name=a"}, `{"book":{"name":"a"}}`, ""},
		{"the body's field itself", request{root: "test.http.Update", bodyField: "id", body: `"a"`, path: "id=b"}, `{"id":"b"}`, `id: wanted in the body what the path gives, "b", found "a"`},
		{"the body's field is a mask", request{root: "test.http.Update", bodyField: "update_mask", body: `"a"`, path: "update_mask=b"}, `{"updateMask":"b"}`, `updateMask: wanted`},
		{"the body's field is below", request{root: "test.http.Update", bodyField: "book.author.name", body: `"a"`, path: "book.author.name=b"}, `{"book":{"author":{"name":"b"}}}`, `book.author.name: wanted`},
		{"oneof, other member", request{root: book, body: `{"picture":"p","name":"n"}`, path: "by.name=x"}, `{"name":"n","by":{"name":"x"}}`, `picture: the path gives "by", another member of oneof "cover"; leave "picture" out of the body (a route may set path_conflict: override)`},
		{"oneof, message member", request{root: book, body: `{"by":{"name":"x","fullName":"f"}}`, path: "picture=p"}, `{"picture":"p"}`, `by: the path gives "picture", another member of oneof "cover"`},
		{"oneof, member null", request{root: book, body: `{"by":null}`, path: "picture=p"}, `{"picture":"p"}`, ""},
		{"oneof, null that is a value", request{root: book, body: `{"free":null}`, path: "picture=p"}, `{"picture":"p"}`, `free: the path gives "picture"`},
		{"oneof, member of zero", request{root: book, body: `{"picture":""}`, path: "by.name=x"}, `{"by":{"name":"x"}}`, `picture: the path gives "by"`},
		{"oneof, same member", request{root: book, body: `{"by":{"fullName":"f"}}`, path: "by.name=x"}, `{"by":{"name":"x","fullName":"f"}}`, ""},
		{"oneof, zero of the same member", request{root: book, body: `{"picture":""}`, path: "picture=x"}, `{"picture":"x"}`, `gives, "x", found ""`},
		{"oneof, deep", request{root: book, body: `{"sequel":{"by":{"name":"x"},"name":"s"}}`, path: "sequel.picture=p"}, `{"sequel":{"name":"s","picture":"p"}}`, `sequel.by: the path gives "picture", another member of oneof "cover"`},
		{"oneof in the body's field", request{root: "test.http.Update", bodyField: "book", body: `{"by":{"name":"x"}}`, path: "book.picture=p"}, `{"book":{"picture":"p"}}`, `book.by: the path gives "picture"`},
		{"in groups", request{root: "test.two.Two", body: `{"mygroup":{"inside":"a","deeper":{"farInside":5}}}`, path: "mygroup.deeper.farInside=6"}, `{"mygroup":{"inside":"a","deeper":{"farInside":6}}}`, `mygroup.deeper.farInside: wanted in the body what the path gives, 6, found 5`},
		{"in groups, same", request{root: "test.two.Two", body: `{"mygroup":{"deeper":{"farInside":5},"inside":"a"}}`, path: "mygroup.deeper.farInside=5&mygroup.inside=a"}, `{"mygroup":{"inside":"a","deeper":{"farInside":5}}}`, ""},
		{"several", request{root: book, body: `{"name":"a","pageCount":1,"author":{"name":"x"},"shown":"a","tags":["t"]}`, path: "shown=b&author.name=y&page_count=2&name=z"}, `{"name":"z","pageCount":"2","author":{"name":"y"},"tags":["t"],"shown":"b"}`, `name: wanted in the body`},
		{"form, same", request{root: book, form: "name=a&pageCount=01", path: "name=a&page_count=1"}, `{"name":"a","pageCount":"1"}`, ""},
		{"form, other", request{root: book, form: "name=a&pageCount=1", path: "name=b"}, `{"name":"b","pageCount":"1"}`, `name: wanted in the body what the path gives, "b", found "a"`},
		{"form, time in parts", request{root: book, form: "published.seconds=5&name=n&published.nanos=500000000", path: "published=1970-01-01T00:00:05.5Z"}, `{"name":"n","published":"1970-01-01T00:00:05.500Z"}`, ""},
		{"form, time in parts, other", request{root: book, form: "published.seconds=5&published.nanos=500000000", path: "published=1970-01-01T00:00:05Z"}, `{"published":"1970-01-01T00:00:05Z"}`, `found "1970-01-01T00:00:05.500Z"`},
		{"list of the path, as grpc-gateway", request{root: book, body: `{"tags":["a","b"],"ratings":[1]}`, path: "tags=a,b&ratings=1", policy: jsonwire.QueryOptions{GRPCGateway: true}}, `{"tags":["a","b"],"ratings":[1]}`, ""},
		{"list of the path, other", request{root: book, body: `{"tags":["a","b"]}`, path: "tags=a", policy: jsonwire.QueryOptions{GRPCGateway: true}}, `{"tags":["a"]}`, `tags: wanted in the body what the path gives, ["a"], found ["a","b"]`},
		{"list of the path, packed", request{root: book, body: `{"ratings":[1,2]}`, path: "ratings=1,3", policy: jsonwire.QueryOptions{GRPCGateway: true}}, `{"ratings":[1,3]}`, `found [1,2]`},
		{"list of the path, scattered form", request{root: book, form: "tags=a&name=x&tags=b", path: "tags=c", policy: jsonwire.QueryOptions{GRPCGateway: true}}, `{"name":"x","tags":["c"]}`, `found ["a","b"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.json(t, w)
			switch {
			case c.refused != "" && err == nil:
				t.Errorf("taken as %s, want an error with %s", got, c.refused)
			case c.refused != "" && !strings.Contains(err.Error(), c.refused):
				t.Errorf("refused with\n%s, want\n%s", err, c.refused)
			case c.refused == "" && err != nil:
				t.Error(err)
			case c.refused == "" && got != c.want:
				t.Error(cmp.Diff(c.want, got))
			}
			c.override = true
			if got, err = c.json(t, w); err != nil {
				t.Fatal("with Override:", err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error("with Override:", d)
			}
		})
	}
}

// TestPathAlone: what the path overrides is no longer there at all, so that not even a reader that joins or shows
// duplicates sees it.
func TestPathAlone(t *testing.T) {
	c := request{root: book, body: `{"name":"secret","shown":"secret","author":{"name":"secret","best":{"picture":"secret"}}}`, path: "name=n&shown=s&author.name=a&author.best.by.name=b", override: true}
	wire, err := c.wire(t, theWorld(t), nil)
	if err != nil || bytes.Contains(wire, []byte("secret")) {
		t.Errorf("%q, %v", wire, err)
	}
}

// TestQueryAgainstBody holds the query against a body that is the whole message, deep down, and many parameters against a
// large one.
func TestQueryAgainstBody(t *testing.T) {
	runRequests(t, []requestCase{
		{"deep", request{root: book, body: `{"sequel":{"author":{"name":"a"}}}`, query: "sequel.author.name=b"}, "", `sequel.author.name: a parameter of the query is refused: the body gives it`},
		{"deep, same", request{root: book, body: `{"sequel":{"author":{"name":"a"}}}`, query: "sequel.author.name=a"}, "", `the body gives it`},
		{"deep, zero", request{root: book, body: `{"sequel":{"author":{"name":""}}}`, query: "sequel.author.name=a"}, "", `the body gives it`},
		{"deep, beside", request{root: book, body: `{"sequel":{"author":{"fullName":"b"}}}`, query: "sequel.author.name=a"}, `{"sequel":{"author":{"name":"a","fullName":"b"}}}`, ""},
		{"deep oneof", request{root: book, body: `{"sequel":{"by":{}}}`, query: "sequel.picture=a"}, "", `the body gives "by", another member of oneof "cover"`},
		{"whole beside part", request{root: book, body: `{"published":"2024-01-01T00:00:00Z"}`, query: "published.seconds=1"}, "", `the body gives it`},
		{"part beside whole", request{root: book, form: "published.seconds=1", query: "published=2024-01-01T00:00:00Z"}, "", `the body gives it`},
		{"map", request{root: book, body: `{"labels":{"a":"b"}}`, query: "labels[c]=d"}, "", `labels.c: a parameter of the query is refused: the body gives it`},
		{"form", request{root: book, form: "name=a", query: "name=a"}, "", `the body gives it`},
		{"form beside", request{root: book, form: "name=a&author.name=x", query: "page_count=1&author.full_name=y"}, `{"name":"a","pageCount":"1","author":{"name":"x","fullName":"y"}}`, ""},
		{"form and its field", request{root: "test.http.Update", bodyField: "book", form: "name=a", query: "book.page_count=1"}, "", `book.pageCount: a parameter of the query is refused: the body gives "book"`},
		{"path and Override leave the query", request{root: book, body: `{"name":"a"}`, query: "name=b", override: true}, "", `the body gives it`},
	})
}

// TestManyParametersBesideLargeBody counts the steps of the walk.
func TestManyParametersBesideLargeBody(t *testing.T) {
	w := theWorld(t)
	m := w.message(t, book)
	// 100,000 elements in 90 levels, each level with a field that a query beside it would give.
	var b strings.Builder
	const levels, each = 90, 400
	for range levels {
		b.WriteString(`{"tags":[` + strings.TrimSuffix(strings.Repeat(`"t",`, each), ",") + `],"sequel":`)
	}
	b.WriteString("{}" + strings.Repeat("}", levels))
	var query strings.Builder
	for i := range levels {
		prefix := strings.Repeat("sequel.", i)
		for _, name := range []string{"name", "page_count", "isbn", "picture", "author.name", "edition"} {
			query.WriteString("&" + prefix + name + "=1")
		}
	}
	body := []byte(b.String())
	params, err := jsonwire.AppendQuery(nil, m, query.String(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	steps := func(r *jsonwire.Request) int {
		n, err := jsonwire.StepsOfRequest(r)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	alone := steps(&jsonwire.Request{Message: m, Body: body})
	both := steps(&jsonwire.Request{Message: m, Body: body, Params: params})
	t.Logf("%d steps for the body alone, %d beside %d parameters", alone, both, len(params))
	// Walked once for each parameter, the body would cost hundreds of times as much.
	if both > 3*alone+len(params) {
		t.Errorf("%d steps for the body alone, %d beside %d parameters", alone, both, len(params))
	}
}

// badRequests are refused, by what is wrong with them.
var badRequests = []request{
	{root: book, body: `{"name":"a"}`, path: "name=b"},
	{root: book, body: `{"author":{"name":"a"}}`, path: "author.name=b"},
	{root: book, body: `{"shown":"name,tags"}`, path: "shown=name"},
	{root: book, body: `{"picture":"p"}`, path: "by.name=x"},
	{root: book, path: "page_count=many"},
	{root: book, body: `{"pageCount":1}`, path: "page_count=many"},
	{root: book, path: "name=a", query: "name=b"},
	{root: "test.http.Update", bodyField: "book", body: `{}`, query: "book.name=x"},
	{root: book, body: `{"sequel":{"by":{}}}`, query: "sequel.picture=p"},
	{root: book, form: "name=a&name=b"},
	{root: book, form: "nam=a"},
	{root: book, form: "name=%zz"},
	{root: book, form: "name=a", body: "{}"},
	{root: "test.http.Update", bodyField: "id", form: "a=b"},
	{root: "test.http.Update", bodyField: "book", form: "nam=b"},
	{root: "test.http.Update", bodyField: "book", form: "author=b"},
	{root: book, query: "labels=x"},
	{root: book, query: "labels.a=x"},
	{root: book, query: "labels[a=x"},
	{root: book, query: "labels[a].b=x"},
	{root: book, query: "author.links=x"},
	{root: book, query: "labels[a]=x&labels[a]=y"},
	{root: book, query: "notes[1]=x&notes[01]=y"},
	{root: book, query: "notes[one]=x"},
	{root: book, query: "flags[yes]=1"},
	{root: book, query: "flags[true]=much"},
	{root: book, query: "shelves[a]=NOVELL"},
	{root: book, query: "translators[a]=x"},
	{root: book, query: "lent[a]=now"},
	{root: book, query: "tags[a]=x"},
	{root: book, query: "name[a]=x"},
	{root: book, query: "author[a]=x"},
	{root: book, query: "editors[a]=x"},
	{root: book, query: "published[a]=x"},
	{root: book, query: "author=x"},
	{root: book, query: "author.mentor=x"},
	{root: book, query: "editors=x"},
	{root: book, query: "any={}"},
	{root: book, query: "empty=x"},
	{root: book, query: `extra={"a":1`},
	{root: book, query: `extra=[1]`},
	{root: book, query: `any_value=abc`},
	{root: book, query: `list={}`},
	{root: book, query: "read_time=long"},
	{root: book, query: "shown=a,,b"},
	{root: book, query: "genre=7"},
	{root: book, query: "isbn=a&isbn=b"},
	{root: book, query: "extra={}&extra.fields[a]=1"},
	{root: book, query: "anything=1", policy: jsonwire.QueryOptions{Unbound: true}},
	{root: "test.http.Kept", query: "utm=1&utm=2", capture: "map"},
	{root: "test.http.Kept", query: "utm=1&map[utm]=2", capture: "map"},
	{root: "test.http.Kept", query: `utm=1&struct={}`, capture: "struct"},
	{root: "test.http.Kept", query: `struct={}&utm=1`, capture: "struct"},
	{root: "test.http.Kept", body: `{"struct":{"a":1}}`, query: "utm=1", capture: "struct", policy: jsonwire.QueryOptions{Unbound: true}},
	{root: "test.http.Kept", body: `{"pairs":["a"]}`, query: "utm=1", capture: "pairs"},
	{root: "google.api.HttpBody", body: "x", raw: true, contentType: "text/plain\r\nX-Evil: 1"},
	{root: "google.api.HttpBody", body: "x", raw: true, contentType: "text/\xff"},
	{root: book, body: "x", raw: true},
	{root: "test.http.Update", bodyField: "book", body: "x", raw: true},
	{root: "test.two.Two", mask: "", query: "needy.id=1"},
}

// TestRequestErrors holds what users see to testdata/request_errors.golden. CAUSEWAY_UPDATE=1 writes it anew.
func TestRequestErrors(t *testing.T) {
	w := theWorld(t)
	var b strings.Builder
	for _, c := range badRequests {
		got, err := c.json(t, w)
		if err == nil {
			t.Errorf("%+v is taken as %s", c, got)
			continue
		}
		checkError(t, err, false)
		b.WriteString(c.root)
		for _, part := range [...][2]string{{"path", c.path}, {"query", c.query}, {"form", c.form}, {"body", c.body}, {"body field", c.bodyField}, {"captured in", c.capture}, {"content type", c.contentType}} {
			if part[1] != "" {
				fmt.Fprintf(&b, ", %s %s", part[0], strings.Trim(strconv.Quote(part[1]), `"`))
			}
		}
		fmt.Fprintf(&b, "\n    %s\n", err)
	}
	for _, name := range []string{"name", "by_number", "masks", "numbers", "value", "strings", "nam", "deeper.struct.fields"} {
		_, err := jsonwire.CaptureField(w.message(t, "test.http.Kept"), name)
		if err == nil {
			t.Errorf("%s can keep parameters", name)
			continue
		}
		fmt.Fprintf(&b, "capture in %s\n    %s\n", name, err)
	}
	golden := filepath.Join("testdata", "request_errors.golden")
	if os.Getenv("CAUSEWAY_UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Error(d)
	}
}
