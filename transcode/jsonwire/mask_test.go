package jsonwire_test

import (
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

func TestMaskField(t *testing.T) {
	w := theWorld(t)
	for name, want := range map[string]string{
		"test.http.Update": "update_mask", book: "shown", "test.http.TwoMasks": "", "test.http.ManyMasks": "", "test.three.Request": "", "test.three.Known": "",
		"test.http.Author": "",
	} {
		got := ""
		if p := jsonwire.MaskField(w.message(t, name)); p != nil {
			got = p.String()
		}
		if got != want {
			t.Errorf("MaskField(%s) is %q, want %q", name, got, want)
		}
	}
}

func TestMask(t *testing.T) {
	const update = "test.http.Update"
	patch := func(body string) request {
		return request{root: update, bodyField: "book", mask: "update_mask", body: body}
	}
	with := func(c request, change func(*request)) request { change(&c); return c }
	runRequests(t, []requestCase{
		{"fields", patch(`{"name":"n","pageCount":"0","page_count":null}`), "", `is given twice`},
		{"scalars", patch(`{ "name" : "n" , "pageCount" : 0, "price":-1.5e3, "edition":null}`), `{"book":{"name":"n","price":-1500},"updateMask":"name,pageCount,price,edition"}`, ""},
		{"declared names", patch(`{"page_count":1,"read_time":"1s"}`), `{"book":{"pageCount":"1","readTime":"1s"},"updateMask":"pageCount,readTime"}`, ""},
		{"escaped names", patch(`{"\u006eame":"n","tags":["\"]}"],"author":{"full\u004eame":"\\\"{"}}`), `{"book":{"name":"n","author":{"fullName":"\\\"{"},"tags":["\"]}"]},"updateMask":"name,tags,author.fullName"}`, ""},
		{"nested", patch(`{"author":{"name":"a","mentor":{"full_name":"b","links":{}}},"name":"n"}`), `{"book":{"name":"n","author":{"name":"a","mentor":{"fullName":"b"}}},"updateMask":"author.name,author.mentor.fullName,author.mentor.links,name"}`, ""},
		{"empty message", patch(`{"author":{ },"sequel":{"author":{}}}`), `{"book":{"author":{},"sequel":{"author":{}}},"updateMask":"author,sequel.author"}`, ""},
		{"null message", patch(`{"author":null,"sequel":{"author":null}}`), `{"book":{"sequel":{}},"updateMask":"author,sequel.author"}`, ""},
		{"lists and maps", patch(`{"tags":["a",{"b":1}],"labels":{"a":"b"}}`), "", `wanted a string`},
		{"lists and maps are ends", patch(`{"editors":[{"name":"a"},{}],"labels":{"a":"b"},"translators":{"x":{"name":"y"}},"ratings":[]}`), `{"book":{"labels":{"a":"b"},"editors":[{"name":"a"},{}],"translators":{"x":{"name":"y"}}},"updateMask":"editors,labels,translators,ratings"}`, ""},
		{
			"well-known types are ends", patch(`{"published":"1970-01-01T00:00:00Z","readTime":"0s","shown":"a","isbn":"","extra":{"a":{"b":1}},"anyValue":{"c":[1]},"list":[{}],"any":{"@type":"type.googleapis.com/test.http.Author","name":"x"},"empty":{},"none":{}}`),
			`{"book":{"published":"1970-01-01T00:00:00Z","readTime":"0s","shown":"a","isbn":"","extra":{"a":{"b":1}},"anyValue":{"c":[1]},"list":[{}],"any":{"@type":"type.googleapis.com/test.http.Author","name":"x"},"empty":{},"none":{}},"updateMask":"published,readTime,shown,isbn,extra,anyValue,list,any,empty,none"}`, "",
		},
		{"json_name", patch(`{"odd.name":1}`), `{"book":{"odd.name":1},"updateMask":"oddName"}`, ""},
		{"empty body", patch(`{}`), `{"book":{}}`, ""},
		{"null body", patch(`null`), `{}`, ""},
		{"no body", patch(``), `{}`, ""},
		{"the body's field is deeper", request{root: update, bodyField: "book.author", mask: "update_mask", body: `{"name":"a","mentor":{"name":"m"}}`}, `{"book":{"author":{"name":"a","mentor":{"name":"m"}}},"updateMask":"name,mentor.name"}`, ""},
		{"the body's field is a scalar", request{root: update, bodyField: "id", mask: "update_mask", body: `"x"`}, `{"id":"x"}`, ""},
		{"the body's field is a time", request{root: update, bodyField: "book.published", mask: "update_mask", body: `"1970-01-01T00:00:00Z"`}, `{"book":{"published":"1970-01-01T00:00:00Z"}}`, ""},
		{"the body's field is a list", request{root: update, bodyField: "book.editors", mask: "update_mask", body: `[{"name":"x"}]`}, `{"book":{"editors":[{"name":"x"}]}}`, ""},
		{"given by the query", with(patch(`{"name":"n"}`), func(c *request) { c.query = "update_mask=tags,pageCount" }), `{"book":{"name":"n"},"updateMask":"tags,pageCount"}`, ""},
		{"given empty by the query", with(patch(`{"name":"n"}`), func(c *request) { c.query = "update_mask" }), `{"book":{"name":"n"},"updateMask":""}`, ""},
		{"given in part by the query", with(patch(`{"name":"n"}`), func(c *request) { c.query = "updateMask.paths=tags" }), `{"book":{"name":"n"},"updateMask":"tags"}`, ""},
		{"given by the path", with(patch(`{"name":"n"}`), func(c *request) { c.path = "update_mask=tags" }), `{"book":{"name":"n"},"updateMask":"tags"}`, ""},
		{"whole body", request{root: update, mask: "update_mask", body: `{"id":"i","book":{"name":"n"}}`}, `{"book":{"name":"n"},"updateMask":"id,book.name","id":"i"}`, ""},
		{"whole body with the mask", request{root: update, mask: "update_mask", body: `{"id":"i","updateMask":"book"}`}, `{"updateMask":"book","id":"i"}`, ""},
		{"whole body with an empty mask", request{root: update, mask: "update_mask", body: `{"id":"i","update_mask":""}`}, `{"updateMask":"id","id":"i"}`, ""},
		{"whole body with a null mask", request{root: update, mask: "update_mask", body: `{"id":"i","updateMask":null,"book":null}`}, `{"updateMask":"id,book","id":"i"}`, ""},
		{"beside the path", with(patch(`{"name":"n","pageCount":1}`), func(c *request) { c.path = "book.name=n&id=i" }), `{"book":{"name":"n","pageCount":"1"},"updateMask":"name,pageCount","id":"i"}`, ""},
		{"beside an overriding path", with(patch(`{"name":"x","pageCount":1}`), func(c *request) { c.path, c.override = "book.name=n", true }), `{"book":{"name":"n","pageCount":"1"},"updateMask":"name,pageCount"}`, ""},
		{
			"form",
			request{root: update, bodyField: "book", mask: "update_mask", form: "name=n&author.links[a]=x&author.links[b]=y&tags=1&tags=2&published.seconds=5&page_count=0"},
			`{"book":{"name":"n","author":{"links":{"a":"x","b":"y"}},"tags":["1","2"],"published":"1970-01-01T00:00:05Z"},"updateMask":"name,author.links,tags,published,pageCount"}`, "",
		},
		{"form of the whole", request{root: update, mask: "update_mask", form: "id=i&book.name=n"}, `{"book":{"name":"n"},"updateMask":"id,book.name","id":"i"}`, ""},
		{"extension", request{root: "test.http.Open", mask: "mask", body: `{"name":"a","[test.http.more]":"b"}`}, "", `mask: extension [test.http.more] of the body has no path in a field mask; give the mask in the query`},
		{"extension in a form", request{root: "test.http.Open", mask: "mask", form: `name=a&[test.http.more]=b`}, "", `mask: extension [test.http.more] of the body has no path`},
		{"extension beside a mask", request{root: "test.http.Open", mask: "mask", body: `{"[test.http.more]":"b"}`, query: "mask=name"}, `{"mask":"name","[test.http.more]":"b"}`, ""},
		{"group", request{root: "test.http.Open", mask: "mask", body: `{"part":{"inner":"b"},"name":"n"}`}, `{"mask":"part.inner,name","name":"n","part":{"inner":"b"}}`, ""},
		{"form with the mask", request{root: update, mask: "update_mask", form: "id=i&update_mask=book"}, `{"updateMask":"book","id":"i"}`, ""},
		{
			"long paths", patch(`{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"sequel":{"name":"` + strings.Repeat("n", 150) + `"}}}}}}}}}}}}}}}}}}}}}`),
			`{"book":` + strings.Repeat(`{"sequel":`, 20) + `{"name":"` + strings.Repeat("n", 150) + `"}` + strings.Repeat("}", 20) + `,"updateMask":"` + strings.Repeat("sequel.", 20) + `name"}`, "",
		},
	})
}

// TestMaskOfUnknownFields: what is ignored in the body is not in the mask.
func TestMaskOfUnknownFields(t *testing.T) {
	w := theWorld(t)
	m := w.message(t, "test.http.Update")
	r := jsonwire.Request{Message: m, BodyField: pathOf(t, m, "book"), Mask: pathOf(t, m, "update_mask"), Body: []byte(`{"nope":{"a":["}",{"b":"\"{"}]},"name":"n","author":{"nope":1,"name":"x"},"more":-1.5e3}`)}
	wire, err := jsonwire.AppendRequest(nil, &r, &jsonwire.Options{IgnoreUnknown: true})
	if err != nil {
		t.Fatal(err)
	}
	got, err := jsonwire.AppendJSON(nil, wire, m, nil)
	if want := `{"book":{"name":"n","author":{"name":"x"}},"updateMask":"name,author.name"}`; err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

// TestHostileMasks holds masks to sizes that grow with the body only.
func TestHostileMasks(t *testing.T) {
	w := theWorld(t)
	m := w.message(t, "test.http.Update")
	book := pathOf(t, m, "book")
	mask := pathOf(t, m, "update_mask")
	var wide func(levels int) string
	wide = func(levels int) string {
		if levels == 0 {
			return `{"author":{}}`
		}
		below := wide(levels - 1)
		return `{"sequel":` + below + `,"by":{"best":` + below + `},"author":{"best":` + below + `}}`
	}
	deep := func(inside string, levels int) string {
		return strings.Repeat(`{"sequel":`, levels) + inside + strings.Repeat("}", levels)
	}
	for _, c := range []struct {
		name, body string
		refused    string
	}{
		{"deep", deep("{}", 97), ""},
		{"too deep", deep("{}", 100), "nested deeper than 100 levels"},
		{"wide", wide(5), ""},
		{"wide and deep", deep(wide(8), 70), "wanted a mask of at most"},
		{"a long list", `{"tags":[` + strings.Repeat(`"]}",`, 90_000) + `""]}`, ""},
		{"many braces in one value", `{"name":"` + strings.Repeat("{[", 100_000) + `"}`, ""},
		{"a field twice", `{"name":"a","name":"b"}`, "is given twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := jsonwire.Request{Message: m, BodyField: book, Mask: mask, Body: []byte(c.body)}
			wire, err := jsonwire.AppendRequest(nil, &r, nil)
			switch {
			case c.refused != "":
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%.200v with %d bytes", err, len(wire))
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			if limit := len(c.body) + max(len(c.body), 64<<10) + 100; len(wire) > limit {
				t.Errorf("%d bytes of body become %d", len(c.body), len(wire))
			}
		})
	}
}
