package httprule

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vectors are the facts of testdata/http-rule-cases.json that concern templates and matching.
type vectors struct {
	TemplateParse []struct {
		Source, Template string
		Expect           struct {
			Valid     bool
			Segments  []string
			Variables []struct {
				Start, End int
				Field      string
				Wildcard   bool
			}
			Verb *string
		}
	} `json:"template_parse"`
	Examples []struct {
		Source string
		Rule   struct {
			Method, Template string
			Body             *string
		}
		Request string
		Want    map[string]any `json:"expect_request_fields"`
	} `json:"http_proto_examples"`
	Prose []string `json:"prose_rules"`
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

func (s segment) String() string {
	return [...]string{s.text, "*", "**"}[s.kind]
}

// TestParseVectors runs every row of the public template tests.
func TestParseVectors(t *testing.T) {
	// Rows decided differently, each with the reason.
	differently := map[string]string{
		"/a/{b=*}/**:verb": "the row records segments and verb only: its list of variables is empty, though the template has {b}",
	}
	rows := readVectors(t).TemplateParse
	if len(rows) < 90 {
		t.Fatalf("wanted 90 rows or more, found %d", len(rows))
	}
	valid := 0
	for _, row := range rows {
		t.Run(row.Source+" "+row.Template, func(t *testing.T) {
			tmpl, err := Parse(row.Template)
			if (err == nil) != row.Expect.Valid {
				t.Fatalf("wanted valid %v, found error %v", row.Expect.Valid, err)
			}
			if err != nil {
				return
			}
			valid++
			segs := []string{}
			for _, s := range tmpl.segs {
				segs = append(segs, s.String())
			}
			if d := cmp.Diff(row.Expect.Segments, segs); d != "" {
				t.Errorf("segments (-want +got):\n%s", d)
			}
			if row.Expect.Verb != nil && tmpl.verb != *row.Expect.Verb {
				t.Errorf("wanted verb %q, found %q", *row.Expect.Verb, tmpl.verb)
			}
			if why := differently[row.Template]; why != "" {
				t.Log(why)
				return
			}
			if len(tmpl.vars) != len(row.Expect.Variables) {
				t.Fatalf("wanted %d variables, found %v", len(row.Expect.Variables), tmpl.vars)
			}
			for i, want := range row.Expect.Variables {
				v := tmpl.vars[i]
				if want.End < 0 { // counted from the end of the path: -1 is the end
					want.End += len(tmpl.segs) + 1
				}
				if v.Field != want.Field || v.span.start != want.Start || v.span.end != want.End {
					t.Errorf("wanted %+v, found %+v", want, v)
				}
				wildcard := v.span.start <= tmpl.glob && tmpl.glob < v.span.end
				if wildcard != want.Wildcard {
					t.Errorf("variable %s: wanted wildcard %v, found %v", v.Field, want.Wildcard, wildcard)
				}
			}
		})
	}
	if valid < 40 {
		t.Errorf("wanted 40 valid rows or more, found %d", valid)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		template string
		column   int
		message  string // after the column
	}{
		{"", 1, `wanted "/", found the end`},
		{"v1", 1, `wanted "/", found "v"`},
		{"/a//b", 4, `wanted a segment (a literal, "*", "**" or "{variable}"), found "/"`},
		{"/a/", 4, `wanted a segment (a literal, "*", "**" or "{variable}"), found the end`},
		{"/:get", 2, `wanted a segment (a literal, "*", "**" or "{variable}"), found ":"`},
		{"/a:", 4, `wanted a verb after ":", found the end`},
		{"/*:get/x", 7, `wanted the end after the verb, found "/"`},
		{"/{a}:b:c/d", 9, `wanted the end after the verb, found "/"`},
		{"/***", 2, `wanted "*" or "**", found "***"`},
		{"/*a", 3, `wanted "/", ":" or the end after a wildcard, found "a": a wildcard is a whole segment ("%2A" is a literal asterisk)`},
		{"/a*", 3, `wanted a literal, found "*": a wildcard is a whole segment ("%2A" is a literal asterisk)`},
		{"/**/a/**", 7, `wanted "*" or a literal, found a second "**": it would be unclear which segments each stands for`},
		{"/{a=**}/{b=**}", 12, `wanted "*" or a literal, found a second "**": it would be unclear which segments each stands for`},
		{"/{", 3, `wanted a field name, found the end`},
		{"/{}", 3, `wanted a field name, found "}"`},
		{"/{1}", 3, `wanted a field name, found "1"`},
		{"/{a.}", 5, `wanted a field name, found "}"`},
		{"/{a-b}", 4, `wanted ".", "=" or the "}" that ends the variable of column 2, found "-"`},
		{"/v1/{name", 10, `wanted ".", "=" or the "}" that ends the variable of column 5, found the end`},
		{"/v1/{name=a/*", 14, `wanted "/" or the "}" that ends the variable of column 5, found the end`},
		{"/v1/{name=a:b}", 12, `wanted a literal, found ":" ("%3A" is a literal colon)`},
		{"/{a=b/{c}}", 7, `wanted a literal, "*" or "**", found "{": a variable cannot hold another`},
		{"/{a=/b}", 5, `wanted a segment (a literal, "*", "**" or "{variable}"), found "/"`},
		{"/{a}b", 5, `wanted "/", ":" or the end, found "b": a variable is a whole segment`},
		{"/a{b}", 3, `wanted "/", ":" or the end, found "{": a variable is a whole segment`},
		{"/{a}/{b}/{a}", 11, `wanted a variable not bound before, found "a" again`},
		{"/a}", 3, `wanted a literal, found "}"`},
		{"/*}", 3, `wanted "/", ":" or the end, found "}"`},
		{"/a b", 3, `wanted a literal, found " "`},
		{"/a?b=c", 3, `wanted a literal, found "?"`},
		{"/a#b", 3, `wanted a literal, found "#"`},
		{"/a\x00", 3, `wanted a literal, found "\x00"`},
		{"/\x00", 2, `wanted a segment (a literal, "*", "**" or "{variable}"), found "\x00"`},
		{"/caf\u00e9", 5, `wanted a literal, found "é", to be percent-encoded here`},
		{"/a\xff", 3, `wanted a literal, found byte 0xFF`},
		{"/a/%zz", 4, `wanted a literal that a request path can have, found bad percent-encoding "%zz"`},
		{"/a/b%2", 5, `wanted a literal that a request path can have, found bad percent-encoding "%2"`},
		{"/a/b%2fc", 5, `wanted a literal that a request path can have, found an encoded "/"`},
		{"/a/../b", 4, `wanted a literal that a request path can have, found a ".." segment`},
		{"/a/%2E", 4, `wanted a literal that a request path can have, found a "." segment`},
		{"/a/x%5Cb", 5, `wanted a literal that a request path can have, found a backslash`},
		{"/a/x%2541", 5, `wanted a literal that a request path can have, found double percent-encoding`},
		{"/a:%ff", 4, `wanted a literal that a request path can have, found not UTF-8`},
		{"/" + strings.Repeat("a", maxTemplate), maxTemplate + 1, `wanted the end after at most 2048 bytes, found 2049 bytes`},
	} {
		t.Run(abridge(c.template), func(t *testing.T) {
			_, err := Parse(c.template)
			syntax, ok := errors.AsType[*SyntaxError](err)
			if !ok {
				t.Fatalf("wanted a *SyntaxError, found %v", err)
			}
			if syntax.Column != c.column {
				t.Errorf("wanted column %d, found %d", c.column, syntax.Column)
			}
			if !strings.HasSuffix(err.Error(), ": "+c.message) {
				t.Errorf("wanted %s\nfound %v", c.message, err)
			}
		})
	}
}

func TestSyntaxErrorText(t *testing.T) {
	_, err := Parse("/v1/{name")
	want := `path template "/v1/{name": column 10: wanted ".", "=" or the "}" that ends the variable of column 5, found the end`
	if err == nil || err.Error() != want {
		t.Errorf("wanted %s\nfound %v", want, err)
	}
}

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ template, want string }{
		{"/", "/"},
		{"/v1/{name=*}", "/v1/{name}"},
		{"/v1/{name=orders/*}:archive", "/v1/{name=orders/*}:archive"},
		{"/v1/{a.b.c=**}/x", "/v1/{a.b.c=**}/x"},
		{"/{x=me}", "/{x=me}"},
		{"/caf%c3%a9/%41%2d", "/caf%C3%A9/A-"},
		{"/a:b/c", "/a%3Ab/c"},
		{"/a:b:c", "/a%3Ab:c"},
		{"/%2A/*", "/%2A/*"},
		{"/a%3ab", "/a%3Ab"},
		{"/a:%62", "/a:b"},
		{"/$metadata/(x)", "/$metadata/(x)"},
		{"/{x}:custom:custom", "/{x}:custom:custom"},
		{"/{x}:a%3ab", "/{x}:a:b"},
		{"/{x=a/**}:b:c", "/{x=a/**}:b:c"},
		{"/*:a:b", "/*:a%3Ab"},
		{"/x:a:b", "/x%3Aa:b"},
		{"/{x=a}/y:b%3Ac", "/{x=a}/y:b%3Ac"},
	} {
		tmpl := mustParse(t, c.template)
		if got := tmpl.String(); got != c.want {
			t.Errorf("%s: wanted %s, found %s", c.template, c.want, got)
		}
		if again := mustParse(t, tmpl.String()); !cmp.Equal(tmpl, again, cmp.AllowUnexported(Template{}, Variable{}, segment{}, span{})) {
			t.Errorf("%s: parsed again it differs: %+v, %+v", c.template, tmpl, again)
		}
	}
}

// TestVerb: which colon begins the verb.
func TestVerb(t *testing.T) {
	for _, c := range []struct{ template, last, verb string }{
		{"/v1/example/a_bit_of_everything/{uuid}:custom:custom", "*", "custom:custom"},
		{"/{x}:a:b:c", "*", "a:b:c"},
		{"/*:a:b", "*", "a:b"},
		{"/**:a:b", "**", "a:b"},
		{"/{x=y}:a:b", "y", "a:b"},
		{"/y:a:b", "y:a", "b"},
		{"/y%3Aa:b", "y:a", "b"},
		{"/y:a%3Ab", "y", "a:b"},
		{"/{x}::", "*", ":"},
		{"/{x}:a:", "*", "a:"},
	} {
		tmpl := mustParse(t, c.template)
		if last := tmpl.segs[len(tmpl.segs)-1].String(); last != c.last || tmpl.verb != c.verb {
			t.Errorf("%s: wanted %q with verb %q, found %q with %q", c.template, c.last, c.verb, last, tmpl.verb)
		}
	}
}

func TestVars(t *testing.T) {
	tmpl := mustParse(t, "/v1/{a}/{b.c=*}/{d=x}/{e=y/*}/*/{f=**}/{g}:go")
	want := []Variable{{Field: "a"}, {Field: "b.c"}, {Field: "d"}, {Field: "e", Multi: true}, {Field: "f", Multi: true}, {Field: "g"}}
	if d := cmp.Diff(want, tmpl.Vars(), cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".span" }, cmp.Ignore())); d != "" {
		t.Errorf("variables (-want +got):\n%s", d)
	}
}

func mustParse(t testing.TB, s string) *Template {
	t.Helper()
	tmpl, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}
