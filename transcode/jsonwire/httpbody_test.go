package jsonwire_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

func TestIsHTTPBody(t *testing.T) {
	w := theWorld(t)
	if !jsonwire.IsHTTPBody(w.message(t, "google.api.HttpBody")) {
		t.Error("google.api.HttpBody is not known")
	}
	if jsonwire.IsHTTPBody(nil) || jsonwire.IsHTTPBody(w.message(t, book)) {
		t.Error("another message is taken for an HttpBody")
	}
	fake := *w.message(t, book) // its field 2 is a number
	fake.Name = "google.api.HttpBody"
	if jsonwire.IsHTTPBody(&fake) {
		t.Error("a message of that name with other fields is taken for an HttpBody")
	}
}

func TestRawBody(t *testing.T) {
	const upload, data = "test.http.Upload", "\x00\xff{}"
	runRequests(t, []requestCase{
		{"whole", request{root: "google.api.HttpBody", raw: true, contentType: "image/png; q=ü", body: data}, `{"contentType":"image/png; q=ü","data":"AP97fQ=="}`, ""},
		{"no body", request{root: "google.api.HttpBody", raw: true}, `{}`, ""},
		{"type alone", request{root: "google.api.HttpBody", raw: true, contentType: "a/b"}, `{"contentType":"a/b"}`, ""},
		{"large", request{root: "google.api.HttpBody", raw: true, body: strings.Repeat("\x00", 300)}, `{"data":"` + strings.Repeat("AAAA", 100) + `"}`, ""},
		{"in a field", request{root: upload, bodyField: "file", raw: true, contentType: "a/b", body: data, path: "name=n"}, `{"name":"n","file":{"contentType":"a/b","data":"AP97fQ=="}}`, ""},
		{"in a deep field", request{root: upload, bodyField: "inner.page", raw: true, contentType: "a/b", body: strings.Repeat("\x00", 300), query: "name=n"}, `{"name":"n","inner":{"page":{"contentType":"a/b","data":"` + strings.Repeat("AAAA", 100) + `"}}}`, ""},
		{"type in the path", request{root: upload, bodyField: "file", raw: true, contentType: "a/b", path: "file.content_type=a/c"}, "", `file.contentType: wanted in the body what the path gives, "a/c", found "a/b"`},
		{"type in the query", request{root: upload, bodyField: "file", raw: true, query: "file.content_type=a/c"}, "", `the body gives "file"`},
		{"oneof in the path", request{root: upload, bodyField: "inner.page", raw: true, body: "x", path: "inner.text=t"}, "", `inner.page: the path gives "text"`},
		{"oneof in the path, overridden", request{root: upload, bodyField: "inner.page", raw: true, body: "x", path: "inner.text=t", override: true}, `{"inner":{"text":"t"}}`, ""},
		{"no mask of it", request{root: book, bodyField: "", body: "", mask: "shown", raw: true}, "", "wanted google.api.HttpBody"},
		{"not an HttpBody", request{root: upload, bodyField: "name", raw: true, body: "x"}, "", "name: wanted google.api.HttpBody"},
		{"line break in the type", request{root: "google.api.HttpBody", raw: true, contentType: "a\nb"}, "", `wanted a content type without control characters, found "a\nb"`},
		{"other control in the type", request{root: "google.api.HttpBody", raw: true, contentType: "a\u0085b"}, "", `without control characters`},
	})
}

func TestSplitHTTPBody(t *testing.T) {
	w := theWorld(t)
	upload := w.message(t, "test.http.Upload")
	file, page := pathOf(t, upload, "file"), pathOf(t, upload, "inner.page")
	for _, c := range []struct {
		name, wire        string
		path              string
		contentType, data string
		err               string
	}{
		{name: "nothing"},
		{name: "both", wire: "\x0a\x03a/b\x12\x02hi", contentType: "a/b", data: "hi"},
		{name: "other order, extensions, unknown fields", wire: "\x12\x02hi\x1a\x02\x0a\x00\x28\x01\x33\x08\x01\x34\x0a\x03a/b", contentType: "a/b", data: "hi"},
		{name: "the last wins", wire: "\x0a\x01a\x12\x02hi\x0a\x01b\x12\x00", contentType: "b"},
		{name: "other wire types are other fields", wire: "\x0a\x01a\x08\x05\x10\x05\x0d\x01\x02\x03\x04", contentType: "a"},
		{name: "cut", wire: "\x0a\x05a", err: "wanted the wire form of google.api.HttpBody, found bytes that are not"},
		{name: "field 0", wire: "\x02\x00", err: "found bytes that are not"},
		{name: "line break", wire: "\x0a\x03a\r\n", err: `contentType: wanted a content type without control characters, found "a\r\n"`},
		{name: "no UTF-8", wire: "\x0a\x01\xff", err: "contentType: wanted a content type in UTF-8, found byte 0xff"},
		{name: "an overridden type is not looked at", wire: "\x0a\x01\n\x0a\x01b", contentType: "b"},
		{name: "in a field", path: "file", wire: "\x0a\x01n\x12\x05\x0a\x03a/b\x12\x04\x12\x02hi", contentType: "a/b", data: "hi"},
		{name: "in a field, absent", path: "file", wire: "\x0a\x01n"},
		{name: "in a field, cut within", path: "file", wire: "\x12\x02\x0a\x05", err: "file: wanted the wire form"},
		{name: "in a field, bad type", path: "file", wire: "\x12\x03\x0a\x01\n", err: "file.contentType: wanted a content type"},
		{name: "deep", path: "inner.page", wire: "\x1a\x05\x0a\x03\x0a\x01a\x1a\x05\x0a\x03\x12\x01d", contentType: "a", data: "d"},
		{name: "deep, another member later", path: "inner.page", wire: "\x1a\x05\x0a\x03\x0a\x01a\x1a\x03\x12\x01t"},
		{name: "deep, another member before", path: "inner.page", wire: "\x1a\x03\x12\x01t\x1a\x05\x0a\x03\x0a\x01a", contentType: "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := file[:0]
			switch c.path {
			case "file":
				path = file
			case "inner.page":
				path = page
			}
			contentType, data, err := jsonwire.SplitHTTPBody([]byte(c.wire), path)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || contentType != nil || data != nil {
					t.Errorf("%q, %q, %v; want the error %q", contentType, data, err, c.err)
				}
				return
			}
			if err != nil || string(contentType) != c.contentType || string(data) != c.data {
				t.Errorf("%q, %q, %v; want %q and %q", contentType, data, err, c.contentType, c.data)
			}
		})
	}
}

// FuzzHTTPBody holds SplitHTTPBody against the generated message, and AppendHTTPBody against SplitHTTPBody.
func FuzzHTTPBody(f *testing.F) {
	w := theWorld(f)
	upload := w.message(f, "test.http.Upload")
	file, page := pathOf(f, upload, "file"), pathOf(f, upload, "inner.page")
	for _, s := range append(wireSeeds, "\x0a\x03a/b\x12\x02hi", "\x12\x02hi\x1a\x02\x0a\x00\x0a\x01\n", "\x12\x05\x0a\x03a/b\x12\x04\x12\x02hi", "\x1a\x05\x0a\x03\x0a\x01a\x1a\x03\x12\x01t", "\x1b\x0a\x00\x1c") {
		f.Add([]byte(s), "text/plain; charset=utf-8")
	}
	f.Fuzz(func(t *testing.T, wire []byte, contentType string) {
		out, err := jsonwire.AppendHTTPBody([]byte(prefix), contentType, wire)
		checkError(t, err, false)
		canary(t, out, nil, nil)
		if safe := utf8.ValidString(contentType) && strings.IndexFunc(contentType, unicode.IsControl) < 0; safe != (err == nil) {
			t.Fatalf("content type %q: %v", contentType, err)
		}
		if err == nil {
			var want httpbody.HttpBody
			if err := proto.Unmarshal(out[len(prefix):], &want); err != nil || want.GetContentType() != contentType || !bytes.Equal(want.GetData(), wire) {
				t.Fatalf("%q and %q become %x", contentType, wire, out)
			}
			typ, data, err := jsonwire.SplitHTTPBody(out[len(prefix):], nil)
			if err != nil || string(typ) != contentType || !bytes.Equal(data, wire) {
				t.Fatalf("%q, %q, %v", typ, data, err)
			}
		}
		for _, path := range [][2]int{{0, 0}, {1, 0}, {2, 0}} {
			p := file[:0]
			var body *httpbody.HttpBody
			var theirs error
			switch path[0] {
			case 0:
				body = new(httpbody.HttpBody)
				theirs = proto.UnmarshalOptions{RecursionLimit: 10_000}.Unmarshal(wire, body)
			case 1, 2:
				p = file
				fields := []protowire.Number{2}
				if path[0] == 2 {
					p, fields = page, []protowire.Number{3, 1}
				}
				msg, err := w.oracleDecode(upload, wire)
				if theirs = err; err == nil {
					raw, err := proto.Marshal(msg)
					if err != nil {
						t.Skip()
					}
					for _, n := range fields {
						raw = fieldOf(raw, n)
					}
					body = new(httpbody.HttpBody)
					if err := proto.Unmarshal(raw, body); err != nil {
						t.Fatal(err)
					}
				}
			}
			typ, data, ours := jsonwire.SplitHTTPBody(wire, p)
			checkError(t, ours, false)
			switch {
			case theirs != nil:
				// They look into the extensions and the fields beside the path, and at strings that are overridden.
			case ours != nil && strings.Contains(ours.Error(), "control characters"):
				if strings.IndexFunc(body.GetContentType(), unicode.IsControl) < 0 {
					t.Fatalf("%q: %v", body.GetContentType(), ours)
				}
			case ours != nil:
				t.Fatalf("%x: %v", wire, ours)
			case string(typ) != body.GetContentType() || !bytes.Equal(data, body.GetData()):
				t.Fatalf("%x at %v\n got %q and %q\nwant %v", wire, p, typ, data, body)
			}
		}
	})
}

// fieldOf is the content of a message field that occurs once at most.
func fieldOf(wire []byte, want protowire.Number) []byte {
	for len(wire) > 0 {
		num, typ, n := protowire.ConsumeTag(wire)
		size := protowire.ConsumeFieldValue(num, typ, wire[n:])
		if num == want && typ == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(wire[n:])
			return content
		}
		wire = wire[n+size:]
	}
	return nil
}
