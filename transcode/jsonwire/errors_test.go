package jsonwire_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// badJSON are bodies that are refused, by the message they are read as.
var badJSON = []struct{ root, json string }{
	{"test.three.Request", ``},
	{"test.three.Request", `  `},
	{"test.three.Request", `null`},
	{"test.three.Request", `[1]`},
	{"test.three.Request", "\xef\xbb\xbf{}"},
	{"test.three.Request", `{} x`},
	{"test.three.Request", `{"name":"a"`},
	{"test.three.Request", `{"name":"a",}`},
	{"test.three.Request", `{"name" "a"}`},
	{"test.three.Request", `{name:"a"}`},
	{"test.three.Request", "{\n  \"name\": \"a\",\n  \"itmes\": []\n}"},
	{"test.three.Request", "{\n  \"items\": [\n    {\"sku\": \"a\"},\n    {\"sku\": \"b\", \"quantity\": \"many\"}\n  ]\n}"},
	{"test.three.Request", `{"items":[{"quantity":2147483648}]}`},
	{"test.three.Request", `{"items":{"quantity":1}}`},
	{"test.three.Request", `{"items":[null]}`},
	{"test.three.Request", `{"address":{"street":1}}`},
	{"test.three.Request", `{"address":"here"}`},
	{"test.three.Request", `{"name":"a","name":"b"}`},
	{"test.three.Request", `{"labels":{"a":"1","a":"2"}}`},
	{"test.three.Request", `{"labels":{"a b":1}}`},
	{"test.three.Request", `{"labels":[]}`},
	{"test.three.Request", `{"labels":{1:"a"}}`},
	{"test.three.Request", `{"color":"GREN"}`},
	{"test.three.Request", `{"color":"#%&"}`},
	{"test.three.Request", `{"color":true}`},
	{"test.three.Request", `{"urgent":"true"}`},
	{"test.three.Request", `{"urgent":maybe}`},
	{"test.three.Request", `{"total":"12 "}`},
	{"test.three.Request", `{"total":1.5}`},
	{"test.three.Request", `{"total":9223372036854775808}`},
	{"test.three.Request", `{"total":01}`},
	{"test.three.Request", `{"total":` + strings.Repeat("1", 65) + `}`},
	{"test.three.Request", `{"name":"\ud83d!"}`},
	{"test.three.Request", `{"name":"\u00g0"}`},
	{"test.three.Request", `{"name":"\q"}`},
	{"test.three.Request", "{\"name\":\"caf\xe9\"}"},
	{"test.three.Request", "{\"name\":\"a\nb\"}"},
	{"test.three.Request", `{"name":"never ends`},
	{"test.three.Request", `{"created":"yesterday"}`},
	{"test.three.Request", `{"created":"2024-02-30T00:00:00Z"}`},
	{"test.three.Request", `{"created":1700000000}`},
	{"test.three.Known", `{"duration":"1h"}`},
	{"test.three.Known", `{"mask":"user_name"}`},
	{"test.three.Known", `{"any":{"a":1}}`},
	{"test.three.Known", `{"any":{"@type":"example.com/test.three.Tree"}}`},
	{"test.three.Known", `{"any":{"@type":"type.googleapis.com/test.three.Trea"}}`},
	{"test.three.Known", `{"any":{"@type":"type.googleapis.com/test.three.Tree","nam":""}}`},
	{"test.three.Known", `{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","seconds":1}}`},
	{"test.three.Known", `{"any":{"@type":"type.googleapis.com/google.protobuf.Duration"}}`},
	{"test.three.Known", `{"any":{"@type":"type.googleapis.com/test.three.Tree","@type":""}}`},
	{"test.three.Known", `{"any":{"@type":7}}`},
	{"test.three.Known", `{"value":nothing}`},
	{"test.three.Known", `{"struct":[]}`},
	{"test.three.Tree", `{"text":"a","number":1}`},
	{"test.three.Tree", strings.Repeat(`{"left":`, 100) + `{}` + strings.Repeat(`}`, 100)},
	{"test.three.Scalars", `{"fUint32":-1}`},
	{"test.three.Scalars", `{"fBytes":"a"}`},
	{"test.three.Scalars", `{"fDouble":1e999}`},
	{"test.three.Scalars", `{"fFloat":"inf"}`},
	{"test.three.Maps", `{"mInt32":{"one":""}}`},
	{"test.three.Maps", `{"mBool":{"yes":1}}`},
	{"test.two.Needy", `{"id":1}`},
	{"test.two.Two", `{"needies":[{"id":1,"name":"n"},{"name":"n"}]}`},
	{"test.two.Two", `{"shade":4}`},
	{"test.two.Two", `{"[test.two.ext_numbr]":4}`},
}

// badWire are messages that cannot be written.
var badWire = []struct{ root, wire string }{
	{"test.three.Tree", "\x0a\x05abc"},
	{"test.three.Tree", "\x22\x00\x22\x03\x0a\x01\xff"},
	{"test.three.Tree", "\x0c"},
	{"test.three.Maps", "\x1a\x04\x08\x01\x12\x05"},
	{"test.three.Maps", "\x72\x08\x0a\x01k\x12\x03\x0a\x01\xff"},
	{"test.three.Known", "\x12\x02\x10\x7f\x12\x0b\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"},
	{"test.three.Known", "\x1a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1a\x02\x10\x01"},
	{"test.three.Known", "\x22\x05\x0a\x03a_1"},
	{"test.three.Known", "\x32\x00"},
	{"test.three.Known", "\x0a\x0b\x0a\x09no.prefix"},
	{"test.three.Known", "\x0a\x1d\x0a\x1btype.googleapis.com/no.Such"},
	{"test.three.Known", "\x0a\x03\x12\x01a"},
	{"test.three.Scalars", "\xea\x03\x03\x00\x00\x00"},
	{"test.two.Needy", "\x08\x01"},
}

// badQueries are refused as parameters, beside a body.
var badQueries = []struct{ root, body, query string }{
	{"test.three.Request", "", "nam=x"},
	{"test.three.Request", "", "address.zip=x"},
	{"test.three.Request", "", "items.sku=x"},
	{"test.three.Request", "", "name.x=1"},
	{"test.three.Request", "", "%zz=1"},
	{"test.three.Request", "", "name=%ff"},
	{"test.three.Request", "", "name=a&name=b"},
	{"test.three.Request", "", "total=many"},
	{"test.three.Request", "", "urgent=maybe"},
	{"test.three.Request", "", "color=GREN"},
	{"test.three.Request", "", "color=9"},
	{"test.three.Request", "", "address=x"},
	{"test.three.Request", "", "items=x"},
	{"test.three.Request", "", "labels=x"},
	{"test.three.Request", "", "created=now"},
	{"test.three.Request", "", "created=2024-01-01T00:00:00Z&created.seconds=1"},
	{"test.three.Request", "", "created.seconds=1&created=2024-01-01T00:00:00Z"},
	{"test.three.Request", `{"name":""}`, "name=b"},
	{"test.three.Request", `{"address":{"city":"x"}}`, "address.city=b"},
	{"test.three.Tree", "", "text=a&number=1"},
	{"test.three.Tree", "", "text=a&tree.name=1"},
	{"test.three.Tree", `{"text":"a"}`, "tree.name=1"},
	{"test.three.Tree", "", strings.Repeat("left.", 100) + "name=x"},
	{"test.two.Needy", "", "id=1"},
}

// TestErrors holds every message that users may see to testdata/errors.golden. CAUSEWAY_UPDATE=1 writes it anew.
func TestErrors(t *testing.T) {
	w := theWorld(t)
	var b strings.Builder
	note := func(kind, root, in string, err error) {
		if err == nil {
			t.Errorf("%s %s %q is taken", kind, root, in)
			return
		}
		if len(in) > 150 {
			in = in[:60] + "..." + in[len(in)-60:]
		}
		fmt.Fprintf(&b, "%s %s %q\n    %s\n", kind, root, in, err)
	}
	for _, c := range badJSON {
		dst, err := jsonwire.AppendWire([]byte(prefix), []byte(c.json), w.message(t, c.root), nil)
		if string(dst) != prefix {
			t.Errorf("AppendWire(%q) gave %q with its error", c.json, dst)
		}
		note("json", c.root, c.json, err)
	}
	for _, c := range badWire {
		dst, err := jsonwire.AppendJSON([]byte(prefix), []byte(c.wire), w.message(t, c.root), nil)
		if string(dst) != prefix {
			t.Errorf("AppendJSON(%x) gave %q with its error", c.wire, dst)
		}
		note("wire", c.root, c.wire, err)
	}
	for _, c := range badQueries {
		m := w.message(t, c.root)
		params, err := jsonwire.AppendQuery(nil, m, c.query, nil, nil)
		if err == nil {
			_, err = jsonwire.AppendRequest(nil, &jsonwire.Request{Message: m, Body: []byte(c.body), Params: params}, nil)
		}
		note("query", c.root, strings.TrimSpace(c.body+" "+c.query), err)
	}
	golden := filepath.Join("testdata", "errors.golden")
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

func TestUnknownType(t *testing.T) {
	w := theWorld(t)
	const url = "\x0a\x1btype.googleapis.com/no.Such"
	_, err := jsonwire.AppendAny(nil, []byte(url), w.schema, nil)
	if !errors.Is(err, jsonwire.ErrUnknownType) {
		t.Errorf("AppendAny: %v", err)
	}
	_, err = jsonwire.AppendJSON(nil, []byte("\x0a\x1d"+url), w.message(t, "test.three.Known"), nil)
	if !errors.Is(err, jsonwire.ErrUnknownType) {
		t.Errorf("AppendJSON: %v", err)
	}
	_, err = jsonwire.AppendWire(nil, []byte(`{"@type":"type.googleapis.com/no.Such"}`), w.message(t, "google.protobuf.Any"), nil)
	if !errors.Is(err, jsonwire.ErrUnknownType) {
		t.Errorf("AppendWire: %v", err)
	}
	got, err := jsonwire.AppendAny([]byte(prefix), []byte("\x0a\x24type.googleapis.com/test.three.Item\x12\x03\x0a\x01s"), w.schema, nil)
	if err == nil {
		t.Errorf("a length that lies is taken: %s", got)
	}
	got, err = jsonwire.AppendAny([]byte(prefix), []byte("\x0a\x23type.googleapis.com/test.three.Item\x12\x03\x0a\x01s"), w.schema, nil)
	if want := prefix + `{"@type":"type.googleapis.com/test.three.Item","sku":"s"}`; err != nil || string(got) != want {
		t.Errorf("AppendAny gives %s, %v; want %s", got, err, want)
	}
}
