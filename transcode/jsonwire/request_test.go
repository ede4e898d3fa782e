package jsonwire_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func TestAppendRequest(t *testing.T) {
	w := theWorld(t)
	for _, c := range []struct {
		name      string
		root      string
		body      string
		bodyField string
		path      []string // name=value
		query     string
		override  bool
		want      string // JSON of the message
		refused   string // or a part of the error
	}{
		{name: "nothing", root: "test.three.Request", want: `{}`},
		{name: "body", root: "test.three.Request", body: `{"name":"a"}`, want: `{"name":"a"}`},
		{name: "body field", root: "test.three.Request", body: `{"city":"a"}`, bodyField: "address", want: `{"address":{"city":"a"}}`},
		{name: "body field: scalar", root: "test.three.Request", body: `"a"`, bodyField: "name", want: `{"name":"a"}`},
		{name: "body field: list", root: "test.three.Request", body: `["a","b"]`, bodyField: "tags", want: `{"tags":["a","b"]}`},
		{name: "body field: map", root: "test.three.Request", body: `{"a":"b"}`, bodyField: "labels", want: `{"labels":{"a":"b"}}`},
		{name: "body field: null", root: "test.three.Request", body: `null`, bodyField: "address", want: `{}`},
		{name: "body field: dotted", root: "test.three.Tree", body: `"deep"`, bodyField: "left.right.name", want: `{"left":{"right":{"name":"deep"}}}`},
		{name: "body field: dotted, nothing in it", root: "test.three.Tree", body: `null`, bodyField: "left.right.name", want: `{}`},
		{name: "body field: no body", root: "test.three.Request", bodyField: "address", want: `{}`},
		{name: "body field: in groups", root: "test.two.Two", body: `5`, bodyField: "mygroup.deeper.farInside", want: `{"mygroup":{"deeper":{"farInside":5}}}`},
		{name: "body field: fault", root: "test.three.Request", body: "{\n\"cty\":1}", bodyField: "address", refused: `line 2 column 1: address.cty: test.three.Address has no field "cty"; did you mean "city"?`},
		{name: "body field: junk", root: "test.three.Request", body: `"a" 1`, bodyField: "name", refused: "wanted the end of the body"},
		{name: "path over body", override: true, root: "test.three.Request", body: `{"name":"a","total":"5"}`, path: []string{"name=b"}, want: `{"name":"b","total":"5"}`},
		{name: "path over body with zero", override: true, root: "test.three.Request", body: `{"name":"a","total":"5","urgent":true,"color":"RED"}`, path: []string{"name=", "total=0", "urgent=false", "color=NONE"}, want: `{}`},
		{name: "path over body, well-known", override: true, root: "test.three.Known", body: `{"wInt64":"5","time":"2024-01-01T00:00:00.5Z"}`, path: []string{"w_int64=0", "time=2024-01-01T00:00:00Z"}, want: `{"time":"2024-01-01T00:00:00Z","wInt64":"0"}`},
		{name: "path over body in a oneof", override: true, root: "test.three.Tree", body: `{"text":"a"}`, path: []string{"number=7"}, want: `{"number":7}`},
		{name: "path into body field", override: true, root: "test.three.Request", body: `{"city":"a","street":"s"}`, bodyField: "address", path: []string{"address.city=b"}, want: `{"address":{"street":"s","city":"b"}}`},
		{name: "path and query", root: "test.three.Request", path: []string{"name=a"}, query: "total=5&address.city=x&address.street=y", want: `{"name":"a","total":"5","address":{"street":"y","city":"x"}}`},
		{name: "repeated", root: "test.three.Scalars", query: "rInt32=1&rString=a&rInt32=2&rString=b&rColor=RED&rColor=2", want: `{"rInt32":[1,2],"rString":["a","b"],"rColor":["RED","GREEN"]}`},
		{
			name: "scalars", root: "test.three.Scalars", query: "fDouble=1e3&fFloat=inf&fInt32=-1&fInt64=9223372036854775807&fUint32=1&fUint64=18446744073709551615&fBool=T&fString=a%20b%2B+c&fBytes=-_8%3D&fColor=CRIMSON",
			want: `{"fDouble":1000,"fFloat":"Infinity","fInt32":-1,"fInt64":"9223372036854775807","fUint32":1,"fUint64":"18446744073709551615","fBool":true,"fString":"a b+ c","fBytes":"+/8=","fColor":"RED"}`,
		},
		{name: "fixed and signed", root: "test.three.Scalars", query: "fSint32=-5&fSint64=-5&fFixed32=5&fFixed64=5&fSfixed32=-5&fSfixed64=-5", want: `{"fSint32":-5,"fSint64":"-5","fFixed32":5,"fFixed64":"5","fSfixed32":-5,"fSfixed64":"-5"}`},
		{
			name: "well-known", root: "test.three.Known", query: "time=2024-01-01T00:00:00.5Z&duration=-1.5s&mask=fooBar,baz&wString=&wBool=false&wBytes=YQ&wDouble=NaN",
			want: `{"time":"2024-01-01T00:00:00.500Z","duration":"-1.500s","mask":"fooBar,baz","wDouble":"NaN","wBool":false,"wString":"","wBytes":"YQ=="}`,
		},
		{name: "mask as declared", root: "test.three.Known", query: "mask=foo_bar,address.zip_code", want: `{"mask":"fooBar,address.zipCode"}`},
		{name: "groups", root: "test.two.Two", query: "mygroup.deeper.farInside=1&mygroup.inside=a", want: `{"mygroup":{"inside":"a","deeper":{"farInside":1}}}`},
		{name: "extension", root: "test.two.Two", query: "%5Btest.two.ext_number%5D=5", want: `{"[test.two.ext_number]":5}`},
		{name: "two of one message member", root: "test.three.Tree", query: "leaf.fInt32=1&leaf.fString=a", want: `{"leaf":{"fInt32":1,"fString":"a"}}`},
		{name: "query beside body", root: "test.three.Request", body: `{"address":{"city":"a"}}`, query: "address.street=b&name=n", want: `{"name":"n","address":{"street":"b","city":"a"}}`},
		{name: "query beside null in the body", root: "test.three.Request", body: `{"name":null}`, query: "name=n", want: `{"name":"n"}`},
		{name: "query beside another list in the body", root: "test.three.Tree", body: `{"kids":[{}]}`, query: "name=n", want: `{"name":"n","kids":[{}]}`},
		{name: "required from three places", root: "test.two.Two", body: `{"id":1,"name":"n"}`, bodyField: "needy", path: []string{"number=1"}, query: "child.needy.id=2&child.needy.name=x", want: `{"number":1,"needy":{"id":1,"name":"n"},"child":{"needy":{"id":2,"name":"x"}}}`},
		{name: "required from body and path", root: "test.two.Needy", body: `{"name":"n"}`, path: []string{"id=0"}, want: `{"id":0,"name":"n"}`},
		{name: "required missing", root: "test.two.Two", query: "needy.id=1", refused: `needy: test.two.Needy lacks what is required: "name"`},
		{name: "required missing, nothing given", root: "test.two.Needy", refused: `test.two.Needy lacks what is required: "id", "name"`},

		{name: "twice in the path", root: "test.three.Request", path: []string{"name=a", "name=b"}, refused: "name: a parameter of the path is refused: it is given twice"},
		{name: "path and query", root: "test.three.Request", path: []string{"name=a"}, query: "name=a", refused: `name: a parameter of the query is refused: the path gives "name"`},
		{name: "path and query, list", root: "test.three.Request", path: []string{"tags=a"}, query: "tags=b", refused: `the path gives "tags"`},
		{name: "body field and query", root: "test.three.Request", body: `{}`, bodyField: "address", query: "address.city=a", refused: `address.city: a parameter of the query is refused: the body gives "address"`},
		{name: "within body field and query", root: "test.three.Tree", body: `"x"`, bodyField: "left.name", query: "left.name=a", refused: `the body gives "left.name"`},
		{name: "beside body field", root: "test.three.Tree", body: `"x"`, bodyField: "left.name", query: "left.number=1", want: `{"left":{"name":"x","number":1}}`},
		{name: "oneof of body field and query", root: "test.three.Tree", body: `{"name":"x"}`, bodyField: "tree", query: "text=a", refused: `another member of oneof "choice" is given by the body`},
		{name: "oneof of body field and path", override: true, root: "test.three.Tree", body: `{"name":"x"}`, bodyField: "tree", path: []string{"text=a"}, want: `{"text":"a"}`},
		{name: "oneof of path and query", root: "test.three.Tree", path: []string{"text=a"}, query: "number=1", refused: `number: a parameter of the query is refused: another member of oneof "choice" is given by the path`},
		{name: "oneof of body and query", root: "test.three.Tree", body: `{"number":0}`, query: "text=a", refused: `the body gives "number", another member of oneof "choice"`},
		{name: "body and query, zero", root: "test.three.Request", body: `{"total":0}`, query: "total=1", refused: "the body gives it"},
		{name: "body and query, list", root: "test.three.Request", body: `{"tags":["a"]}`, query: "tags=b", refused: "the body gives it"},
		{name: "body and query, nested", root: "test.two.Two", body: `{"mygroup":{"deeper":{"farInside":0}}}`, query: "mygroup.deeper.farInside=1", refused: "the body gives it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := w.message(t, c.root)
			r := jsonwire.Request{Message: m, Body: []byte(c.body), Override: c.override}
			if c.bodyField != "" {
				r.BodyField = pathOf(t, m, c.bodyField)
			}
			for _, v := range c.path {
				name, value, _ := strings.Cut(v, "=")
				r.Params = append(r.Params, jsonwire.Param{Field: pathOf(t, m, name), Value: value, From: jsonwire.FromPath})
			}
			var err error
			if r.Params, err = jsonwire.AppendQuery(r.Params, m, c.query, nil, nil); err != nil {
				t.Fatal(err)
			}
			wire, err := jsonwire.AppendRequest([]byte(prefix), &r, nil)
			switch {
			case c.refused != "" && err == nil:
				t.Fatalf("taken as %x, want an error with %q", wire, c.refused)
			case c.refused != "":
				if !strings.Contains(err.Error(), c.refused) {
					t.Fatalf("refused with %q, want %q", err, c.refused)
				}
				if string(wire) != prefix {
					t.Fatalf("dst is %q after a refusal", wire)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			got, err := jsonwire.AppendJSON(nil, wire[len(prefix):], m, nil)
			if err != nil {
				t.Fatalf("the wire form %x is broken: %v", wire, err)
			}
			if d := cmp.Diff(c.want, string(got)); d != "" {
				t.Error(d)
			}
		})
	}
}

func pathOf(t testing.TB, m *schema.Message, dotted string) schema.Path {
	t.Helper()
	p, err := m.Path(dotted)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAppendQuery(t *testing.T) {
	w := theWorld(t)
	m := w.message(t, "test.three.Request")
	for _, c := range []struct {
		query string
		want  string // path=value, sorted as given
	}{
		{"", ""},
		{"&&", ""},
		{"name", "name="},
		{"name=a=b", "name=a=b"},
		{"name=a;total=1", "name=a;total=1"},
		{"address.city=a%26b&tags=x+y&tags=%2B", "address.city=a&b tags=x y tags=+"},
		{"n%61me=%C3%A9", "name=é"},
	} {
		params, err := jsonwire.AppendQuery(nil, m, c.query, nil, nil)
		if err != nil {
			t.Errorf("%q: %v", c.query, err)
			continue
		}
		var got []string
		for _, p := range params {
			if p.From != jsonwire.FromQuery {
				t.Errorf("%q: from %v", c.query, p.From)
			}
			got = append(got, p.Field.String()+"="+p.Value)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q gives %q, want %q", c.query, s, c.want)
		}
	}
	params, err := jsonwire.AppendQuery(nil, m, "nope=1&name=a&address.nope=%41", nil, &jsonwire.QueryOptions{Unknown: jsonwire.IgnoreUnknown})
	if err != nil || len(params) != 1 || params[0].Value != "a" {
		t.Errorf("with unknown names ignored: %v, %v", params, err)
	}
	if _, err := jsonwire.AppendQuery(nil, m, "nope=%4", nil, &jsonwire.QueryOptions{Unknown: jsonwire.IgnoreUnknown}); err == nil {
		t.Error("bad encoding in an ignored parameter is taken")
	}
	if _, err := jsonwire.AppendQuery(nil, m, "tags=1&tags=2", &jsonwire.Options{MaxElements: 1}, nil); err == nil {
		t.Error("MaxElements is not kept")
	}
}

func TestAppendFieldJSON(t *testing.T) {
	w := theWorld(t)
	for _, c := range []struct{ root, json, path, want string }{
		{"test.three.Request", `{"name":"a"}`, "name", `"a"`},
		{"test.three.Request", `{"items":[{"sku":"a"},{}]}`, "items", `[{"sku":"a"},{}]`},
		{"test.three.Request", `{"address":{"city":"a"}}`, "address", `{"city":"a"}`},
		{"test.three.Request", `{"address":{"city":"a"}}`, "address.city", `"a"`},
		{"test.three.Request", `{"labels":{"b":"1","a":"2"}}`, "labels", `{"a":"2","b":"1"}`},
		{"test.three.Request", `{"created":"2024-01-01T00:00:00Z"}`, "created", `"2024-01-01T00:00:00Z"`},
		{"test.three.Request", `{"name":"a"}`, "address", `null`},
		{"test.three.Request", `{"name":"a"}`, "address.city", `""`},
		{"test.three.Request", `{}`, "items", `[]`},
		{"test.three.Request", `{}`, "labels", `{}`},
		{"test.three.Request", `{}`, "total", `"0"`},
		{"test.three.Request", `{}`, "color", `"NONE"`},
		{"test.three.Request", `{}`, "urgent", `false`},
		{"test.three.Tree", `{"number":5}`, "number", `5`},
		{"test.three.Tree", `{"number":5}`, "text", `""`},
		{"test.two.Two", `{}`, "number", `41`},
		{"test.two.Two", `{}`, "text", `"default \" text"`},
		{"test.two.Two", `{}`, "shade", `"DARK"`},
		{"test.two.Two", `{}`, "data", `"AQI="`},
		{"test.two.Two", `{}`, "real", `"Infinity"`},
		{"test.two.Two", `{}`, "plain", `[]`},
		{"test.two.Two", `{"needy":{"id":1,"name":"x"}}`, "needy.id", `1`},
	} {
		m := w.message(t, c.root)
		wire, err := jsonwire.AppendWire(nil, []byte(c.json), m, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := jsonwire.AppendFieldJSON([]byte(prefix), wire, m, pathOf(t, m, c.path), nil)
		if err != nil || string(got) != prefix+c.want {
			t.Errorf("%s of %s: %s, %v; want %s", c.path, c.json, got, err, c.want)
		}
	}
	m := w.message(t, "test.three.Tree")
	got, err := jsonwire.AppendFieldJSON([]byte(prefix), []byte("\x1a\x05\x0a\x03a\xffb"), m, pathOf(t, m, "left.name"), nil)
	if err == nil || err.Error() != "left.name: wanted UTF-8 in a string, found byte 0xff at offset 1" || string(got) != prefix {
		t.Errorf("broken text gives %q, %v", got, err)
	}
	split := []byte("\x1a\x03\x0a\x01a\x1a\x00\x1a\x03\x0a\x01b")
	if got, err = jsonwire.AppendFieldJSON(nil, split, m, pathOf(t, m, "left.name"), nil); err != nil || string(got) != `"b"` {
		t.Errorf("a split message gives %s, %v", got, err)
	}
}

// TestOptions holds each choice against a text; TestGenerated holds most of them against protojson.
func TestOptions(t *testing.T) {
	w := theWorld(t)
	const in = `{"fInt64":"5","fUint64":"18446744073709551615","fColor":"RED","rInt64":["1"],"oInt32":0,"other name":"x"}`
	m := w.message(t, "test.three.Scalars")
	wire, err := jsonwire.AppendWire(nil, []byte(in), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    jsonwire.Options
		want string
	}{
		{jsonwire.Options{}, `{"fInt64":"5","fUint64":"18446744073709551615","fColor":"RED","oInt32":0,"rInt64":["1"],"other name":"x"}`},
		{jsonwire.Options{Int64Numbers: true}, `{"fInt64":5,"fUint64":18446744073709551615,"fColor":"RED","oInt32":0,"rInt64":[1],"other name":"x"}`},
		{jsonwire.Options{EnumNumbers: true, ProtoNames: true}, `{"f_int64":"5","f_uint64":"18446744073709551615","f_color":1,"o_int32":0,"r_int64":["1"],"named":"x"}`},
	} {
		got, err := jsonwire.AppendJSON(nil, wire, m, &c.o)
		if err != nil || string(got) != c.want {
			t.Errorf("%+v: %s, %v; want %s", c.o, got, err, c.want)
		}
	}
	got, err := jsonwire.AppendJSON(nil, nil, w.message(t, "test.three.Request"), &jsonwire.Options{EmitUnpopulated: true})
	if want := `{"name":"","total":"0","urgent":false,"items":[],"tags":[],"labels":{},"color":"NONE"}`; err != nil || string(got) != want {
		t.Errorf("unpopulated: %s, %v; want %s", got, err, want)
	}
}
