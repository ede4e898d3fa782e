package jsonwire_test

import (
	"testing"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

func TestForm(t *testing.T) {
	const update = "test.http.Update"
	runRequests(t, []requestCase{
		{"nothing", request{root: book, form: "&"}, `{}`, ""},
		{"fields", request{root: book, form: "name=a+b%21&tags=x&tags=y&author.full_name=f&labels[k]=v&genre=NOVEL"}, `{"name":"a b!","author":{"fullName":"f"},"tags":["x","y"],"labels":{"k":"v"},"genre":"NOVEL"}`, ""},
		{"into a field", request{root: update, bodyField: "book", form: "name=a&author.name=b", path: "id=i"}, `{"book":{"name":"a","author":{"name":"b"}},"id":"i"}`, ""},
		{"into a deep field", request{root: update, bodyField: "book.author", form: "name=a&links[x]=y"}, `{"book":{"author":{"name":"a","links":{"x":"y"}}}}`, ""},
		{"path of the field", request{root: update, bodyField: "book", form: "name=a&page_count=3", path: "book.name=a"}, `{"book":{"name":"a","pageCount":"3"}}`, ""},
		{"query beside a field", request{root: update, bodyField: "book", form: "name=a", query: "id=i"}, `{"book":{"name":"a"},"id":"i"}`, ""},
		{"oneof within", request{root: book, form: "picture=a&by.name=x"}, "", `another member of oneof "cover" is given by the form`},
		{"whole and part", request{root: book, form: "published=2024-01-01T00:00:00Z&published.nanos=1"}, "", `the form gives "published"`},
		{"oneof against the path", request{root: book, form: "picture=a", path: "by.name=x"}, "", `picture: the path gives "by", another member of oneof "cover"`},
		{"oneof against the query", request{root: book, form: "picture=a", query: "by.name=x"}, "", `the body gives "picture", another member of oneof "cover"`},
		{"map key twice", request{root: book, form: "labels[a]=1&labels[a]=2"}, "", `labels.a: a parameter of the form is refused: it is given twice`},
		{"required from form and path", request{root: "test.two.Needy", form: "name=n", path: "id=1"}, `{"id":1,"name":"n"}`, ""},
		{"required missing", request{root: "test.two.Needy", form: "name=n"}, "", `lacks what is required: "id"`},
		{"a field that is no message", request{root: update, bodyField: "id", form: "x=y"}, "", `wanted JSON in the body`},
	})
}

// TestFormIsCopied: what is read from a form does not change with its buffer.
func TestFormIsCopied(t *testing.T) {
	m := theWorld(t).message(t, book)
	body := []byte("name=value&labels[key]=value")
	params, err := jsonwire.AppendForm(nil, m, body, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = '?'
	}
	if params[0].Value != "value" || params[1].Key != "key" || params[1].Value != "value" {
		t.Errorf("%+v", params)
	}
}
