package jsonwire_test

import (
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

func TestQueryForms(t *testing.T) {
	runRequests(t, []requestCase{
		{"map", request{root: book, query: "labels[a]=x&labels[b]=y"}, `{"labels":{"a":"x","b":"y"}}`, ""},
		{"map, encoded brackets", request{root: book, query: "labels%5Ba%5D=x&labels[%C3%A9+b]=y"}, `{"labels":{"a":"x","é b":"y"}}`, ""},
		{"map, dots and brackets in keys", request{root: book, query: "labels[a.b]=x&labels[c[d]]=y&labels[=]=z&labels[&]=w"}, "", `given entry by entry`},
		{"map, dots and brackets in keys, encoded", request{root: book, query: "labels[a.b]=x&labels[c[d]]=y&labels[%3D%26]=z"}, `{"labels":{"=&":"z","a.b":"x","c[d]":"y"}}`, ""},
		{"map, empty key and value", request{root: book, query: "labels[]=&labels[a]"}, `{"labels":{"":"","a":""}}`, ""},
		{"map, nested", request{root: book, query: "author.links[a.b]=x&sequel.author.links[c]=y&author.name=n"}, `{"author":{"name":"n","links":{"a.b":"x"}},"sequel":{"author":{"links":{"c":"y"}}}}`, ""},
		{"map, the same key in two maps", request{root: book, query: "author.links[a]=x&labels[a]=y&sequel.labels[a]=z"}, `{"author":{"links":{"a":"x"}},"labels":{"a":"y"},"sequel":{"labels":{"a":"z"}}}`, ""},
		{"map, values", request{root: book, query: "shelves[a]=NOVEL&shelves[b]=2&flags[T]=1e3&flags[0]=-0&lent[a]=2024-01-01T00:00:00Z&notes[-5]=x"}, `{"notes":{"-5":"x"},"lent":{"a":"2024-01-01T00:00:00Z"},"shelves":{"a":"NOVEL","b":"POEM"},"flags":{"false":-0,"true":1000}}`, ""},
		{"map, long values", request{root: book, query: "labels[a]=" + strings.Repeat("x", 200) + "&labels[" + strings.Repeat("k", 200) + "]=y"}, `{"labels":{"a":"` + strings.Repeat("x", 200) + `","` + strings.Repeat("k", 200) + `":"y"}}`, ""},
		{
			"map, every key",
			request{root: "test.three.Maps", query: "mInt32[-1]=a&mInt64[-2]=a&mUint32[3]=YQ&mUint64[4]=4&mSint32[-5]=5&mSint64[-6]=true&mFixed32[7]=7&mFixed64[8]=8&mSfixed32[-9]=9&mSfixed64[-10]=10&mBool[true]=RED"},
			`{"mInt32":{"-1":"a"},"mInt64":{"-2":"a"},"mUint32":{"3":"YQ=="},"mUint64":{"4":4},"mSint32":{"-5":5},"mSint64":{"-6":true},"mFixed32":{"7":7},"mFixed64":{"8":"8"},"mSfixed32":{"-9":9},"mSfixed64":{"-10":"10"},"mBool":{"true":"RED"}}`, "",
		},
		{"map, key out of range", request{root: "test.three.Maps", query: "mInt32[2147483648]=a"}, "", `the key: wanted an integer from -2147483648 to 2147483647 (int32), found "2147483648"`},
		{"map, negative key", request{root: "test.three.Maps", query: "mUint32[-1]=a"}, "", `the key: wanted an integer from 0`},
		{"map, null of JSON", request{root: "test.three.Maps", query: "mNull[a]=NULL_VALUE&mValue[b]=null"}, `{"mValue":{"b":null},"mNull":{"a":null}}`, ""},
		{"map of messages, a field", request{root: book, query: "translators[a].name=x"}, "", `given entry by entry`},
		{"map, twice in two spellings", request{root: book, query: "flags[true]=1&flags[t]=1"}, "", `it is given twice`},
		{"JSON name with a dot", request{root: book, query: "odd.name=7"}, `{"odd.name":7}`, ""},
		{"extension", request{root: "test.two.Two", query: "[test.two.ext_number]=5&[test.two.ext_two].number=6"}, `{"[test.two.ext_number]":5,"[test.two.ext_two]":{"number":6}}`, ""},

		{"Empty", request{root: book, query: "empty"}, `{"empty":{}}`, ""},
		{"Empty with value", request{root: book, query: "empty={}"}, `{"empty":{}}`, ""},
		{"Empty in a oneof", request{root: book, query: "none="}, `{"none":{}}`, ""},
		{"Empty in a oneof beside another member", request{root: book, query: "none&picture=x"}, "", `another member of oneof "cover" is given by the query`},
		{"Empty, repeated", request{root: book, query: "empties&empties={}"}, `{"empties":[{},{}]}`, ""},
		{"Struct", request{root: book, query: `extra={"a":[1,null,{"b":"%26"}]}`}, `{"extra":{"a":[1,null,{"b":"&"}]}}`, ""},
		{"Value", request{root: book, query: `any_value="text"`}, `{"anyValue":"text"}`, ""},
		{"Value null", request{root: book, query: `free=null`}, `{"free":null}`, ""},
		{"ListValue", request{root: book, query: `list=[1,"a",[]]`}, `{"list":[1,"a",[]]}`, ""},
		{"JSON text, twice the key", request{root: book, query: `extra={"a":1,"a":2}`}, "", `map key "a" is given twice`},
		{"JSON text, more behind", request{root: book, query: `extra={}{}`}, "", `wanted the end of the text`},
		{"JSON text, too deep", request{root: book, query: `list=` + strings.Repeat("[", 101) + strings.Repeat("]", 101)}, "", `nested deeper than 100 levels`},
		{"JSON text, empty", request{root: book, query: `extra=`}, "", `found the end of the text`},
		{"Duration as Go writes it", request{root: book, query: "read_time=1h30m0.5s"}, `{"readTime":"5400.500s"}`, ""},
		{"Duration as JSON has it", request{root: book, query: "read_time=315576000000s"}, `{"readTime":"315576000000s"}`, ""},
		{"mask, mixed", request{root: book, query: "shown=page_count,authorName,author.full_name"}, `{"shown":"pageCount,authorName,author.fullName"}`, ""},
		{"mask, empty", request{root: book, query: "shown="}, `{"shown":""}`, ""},
		{"wrapper", request{root: book, query: "isbn="}, `{"isbn":""}`, ""},
		{"enum by number", request{root: book, query: "genre=2"}, `{"genre":"POEM"}`, ""},
		{"repeated in two spellings", request{root: "test.three.Scalars", query: "rInt32=1&r_int32=2"}, `{"rInt32":[1,2]}`, ""},
	})
}

func TestQueryPolicies(t *testing.T) {
	ignore := jsonwire.QueryOptions{Unknown: jsonwire.IgnoreUnknown}
	unbound := jsonwire.QueryOptions{Unbound: true}
	ignored := jsonwire.QueryOptions{Unbound: true, Unknown: jsonwire.IgnoreUnknown}
	lenient := jsonwire.QueryOptions{GRPCGateway: true}
	lenientUnbound := jsonwire.QueryOptions{GRPCGateway: true, Unbound: true}
	m := theWorld(t).message(t, "test.http.Update")
	bound := jsonwire.QueryOptions{GRPCGateway: true}
	bound.Bound = append(bound.Bound, pathOf(t, m, "id"), pathOf(t, m, "book.author"))
	runRequests(t, []requestCase{
		{"refused", request{root: book, query: "nam=a"}, "", `nam: a parameter of the query names no field: test.http.Book has no field "nam"; did you mean "name"?`},
		{"refused, nested", request{root: book, query: "author.fullname=a"}, "", `author.fullname: a parameter of the query names no field: test.http.Author has no field "fullname"; did you mean "full_name"?`},
		{"ignored", request{root: book, query: "nam=a&name=b&author.x=1&x[y]=2&utm.source=z", policy: ignore}, `{"name":"b"}`, ""},
		{"ignored, but not misuse", request{root: book, query: "name.x=a", policy: ignore}, "", `field "name" of test.http.Book is string, so it has no field "x"`},
		{"ignored, but not a map without key", request{root: book, query: "labels=a", policy: ignore}, "", `labels[key]=value`},
		{"ignored, but not bad encoding", request{root: book, query: "x=%4", policy: ignore}, "", `wanted percent-encoding in the query, found "%4"`},
		{"unbound", request{root: book, body: "{}", query: "name=a", policy: unbound}, "", `name: a parameter of the query names no field: the body is the whole message here`},
		{"unbound, nothing given", request{root: book, body: "{}", query: "&", policy: unbound}, `{}`, ""},
		{"unbound, ignored", request{root: book, body: `{"name":"b"}`, query: "name=a", policy: ignored}, `{"name":"b"}`, ""},
		{"unbound, form", request{root: book, form: "name=a", policy: unbound}, `{"name":"a"}`, ""},
		{"grpc-gateway ignores", request{root: book, query: "nam=a&name=b", policy: lenient}, `{"name":"b"}`, ""},
		{"grpc-gateway ignores all beside a whole body", request{root: book, body: `{}`, query: "nam=a&name=b", policy: lenientUnbound}, `{}`, ""},
		{"grpc-gateway drops what is bound", request{root: "test.http.Update", path: "id=a&book.author=1", query: "id=b", policy: bound}, "", `book.author: a parameter of the path is refused`},
		{"grpc-gateway drops what is bound, and below", request{root: "test.http.Update", path: "id=a", query: "id=b&book.author.name=x&book.name=n&book.author.links[a]=b", policy: bound}, `{"book":{"name":"n"},"id":"a"}`, ""},
		{"of a form, which is the body, nothing is dropped", request{root: "test.http.Update", form: "id=b&book.author.name=x", policy: bound}, `{"book":{"author":{"name":"x"}},"id":"b"}`, ""},
		{"bound counts for grpc-gateway only", request{root: "test.http.Update", path: "id=a", query: "id=b", policy: jsonwire.QueryOptions{Bound: bound.Bound}}, "", `the path gives "id"`},
		{"grpc-gateway splits lists of the path", request{root: book, path: "tags=a,b,&ratings=1,2", policy: lenient}, `{"tags":["a","b",""],"ratings":[1,2]}`, ""},
		{"lists of the path as one", request{root: book, path: "tags=a,b"}, `{"tags":["a,b"]}`, ""},
		{"grpc-gateway splits, a bad element", request{root: book, path: "ratings=1,x", policy: lenient}, "", `ratings: a parameter of the path is refused: wanted an integer`},
	})
}

func TestCapture(t *testing.T) {
	const kept = "test.http.Kept"
	long := strings.Repeat("v", 300)
	runRequests(t, []requestCase{
		{"map", request{root: kept, query: "utm.source=a&name=n&x[y]=%26&b", capture: "map"}, `{"name":"n","map":{"b":"","utm.source":"a","x[y]":"&"}}`, ""},
		{"map, beside its own entries", request{root: kept, query: "utm=a&map[b]=c", capture: "map"}, `{"map":{"b":"c","utm":"a"}}`, ""},
		{"map, nested", request{root: kept, query: "utm=a", capture: "deeper.map"}, `{"deeper":{"map":{"utm":"a"}}}`, ""},
		{"lists", request{root: kept, query: "a=1&b=2&a=3&name=n&a=" + long, capture: "lists"}, `{"name":"n","lists":{"a":{"values":["1","3","` + long + `"]},"b":{"values":["2"]}}}`, ""},
		{"struct", request{root: kept, query: "b=2&a=1&c=&a=3&a=" + long, capture: "struct"}, `{"struct":{"a":["1","3","` + long + `"],"b":"2","c":""}}`, ""},
		{"struct, nested", request{root: kept, query: "b=2&b=3", capture: "deeper.struct"}, `{"deeper":{"struct":{"b":["2","3"]}}}`, ""},
		{"pairs", request{root: kept, query: "b=2&a=1&b=3&name=n&c&pairs=own&d=" + long, capture: "pairs"}, `{"name":"n","pairs":["b=2","a=1","b=3","c=","own","d=` + long + `"]}`, ""},
		{"unbound", request{root: kept, body: `{"name":"n","text":"t"}`, query: "name=x&text=y", capture: "map", policy: jsonwire.QueryOptions{Unbound: true}}, `{"name":"n","map":{"name":"x","text":"y"},"text":"t"}`, ""},
		{"of grpc-gateway", request{root: kept, query: "utm=1", capture: "map", policy: jsonwire.QueryOptions{GRPCGateway: true}}, `{"map":{"utm":"1"}}`, ""},
		{"of a form", request{root: kept, form: "a=1&a=2&name=n", capture: "struct"}, `{"name":"n","struct":{"a":["1","2"]}}`, ""},
		{"of a form into a field", request{root: kept, bodyField: "deeper", form: "a=1&map[x]=y", capture: "map"}, `{"map":{"a":"1"},"deeper":{"map":{"x":"y"}}}`, ""},
		{"of form and query", request{root: kept, form: "a=1", query: "b=1", capture: "struct"}, "", `struct.b: a parameter of the query is refused: the body gives it`},
		{"beside the path", request{root: kept, path: "name=n", query: "a=1", capture: "map"}, `{"name":"n","map":{"a":"1"}}`, ""},
		{"misuse is not captured", request{root: kept, query: "map=1", capture: "map"}, "", `map[key]=value`},
	})
	w := theWorld(t)
	for name, m := range map[string]string{"labels": "test.three.Request", "tags": "test.three.Request", "struct": "test.three.Known", "deeper.struct": kept} {
		if p, err := jsonwire.CaptureField(w.message(t, m), name); err != nil || p.String() != name {
			t.Errorf("CaptureField(%s, %s) is %v, %v", m, name, p, err)
		}
	}
	if _, err := jsonwire.AppendRequest(nil, &jsonwire.Request{Message: w.message(t, kept), Params: []jsonwire.Param{
		{Field: pathOf(t, w.message(t, kept), "name"), Key: "a", From: jsonwire.FromQuery, Captured: true},
	}}, nil); err == nil || !strings.Contains(err.Error(), "keeps no parameters") {
		t.Errorf("a field that cannot keep parameters: %v", err)
	}
}

func TestParamsAreLimited(t *testing.T) {
	w := theWorld(t)
	m := w.message(t, book)
	query := strings.Repeat("x=1&tags=a&", 10)
	if _, err := jsonwire.AppendQuery(nil, m, query, &jsonwire.Options{MaxElements: 9}, &jsonwire.QueryOptions{Unknown: jsonwire.IgnoreUnknown}); err == nil {
		t.Error("more parameters than MaxElements are taken")
	}
	if _, err := jsonwire.AppendForm(nil, m, []byte(query), nil, &jsonwire.Options{MaxElements: 9}, &jsonwire.QueryOptions{Unknown: jsonwire.IgnoreUnknown}); err == nil {
		t.Error("more pairs than MaxElements are taken")
	}
	deep := strings.Repeat("sequel.", 5)
	update := w.message(t, "test.http.Update")
	for _, c := range []struct {
		depth int
		taken bool
	}{{7, true}, {6, false}} {
		_, err := jsonwire.AppendForm(nil, update, []byte(deep+"name=x"), pathOf(t, update, "book"), &jsonwire.Options{MaxDepth: c.depth}, nil)
		if (err == nil) != c.taken {
			t.Errorf("MaxDepth %d for 7 levels: %v", c.depth, err)
		}
	}
	params, err := jsonwire.AppendQuery(nil, m, "extra={\"a\":[1,2,3,4]}&tags=a", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jsonwire.AppendRequest(nil, &jsonwire.Request{Message: m, Params: params}, &jsonwire.Options{MaxElements: 5}); err == nil {
		t.Error("elements of a JSON text are not counted")
	}
}
