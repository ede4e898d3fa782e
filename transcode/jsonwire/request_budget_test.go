package jsonwire_test

import (
	"testing"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// TestRequestAllocBudget holds requests from several places to their allocations, once buffers have grown.
func TestRequestAllocBudget(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w := theWorld(t)
	m := w.message(t, book)
	update := w.message(t, "test.http.Update")
	name, id, bookName := pathOf(t, m, "name"), pathOf(t, update, "id"), pathOf(t, update, "book.name")
	field, mask := pathOf(t, update, "book"), pathOf(t, update, "update_mask")
	kept := w.message(t, "test.http.Kept")
	capture, err := jsonwire.CaptureField(kept, "map")
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"pageCount":"12","author":{"fullName":"f"},"tags":["a","b"],"labels":{"a":"b"},"published":"2024-01-01T00:00:00Z"}`)
	same := []byte(`{"name":"books/1","pageCount":"12","author":{"fullName":"f"},"tags":["a","b"]}`)
	form := []byte("name=a&page_count=5&tags=x&tags=y")
	params := make([]jsonwire.Param, 0, 8)
	dst := make([]byte, 0, 4096)
	strict, policy := jsonwire.QueryOptions{}, jsonwire.QueryOptions{Unknown: jsonwire.CaptureUnknown, Capture: capture}
	for _, c := range []struct {
		name   string
		budget float64
		run    func() error
	}{
		{"a path variable and a JSON body", 0, func() error {
			params = jsonwire.AppendPath(params[:0], name, "books/1", &strict)
			_, err := jsonwire.AppendRequest(dst, &jsonwire.Request{Message: m, Body: body, Params: params}, nil)
			return err
		}},
		{"a path variable and a JSON body that says the same", 0, func() error {
			params = jsonwire.AppendPath(params[:0], name, "books/1", &strict)
			_, err := jsonwire.AppendRequest(dst, &jsonwire.Request{Message: m, Body: same, Params: params}, nil)
			return err
		}},
		{"a path variable in the body's field, and a mask", 0, func() error {
			params = jsonwire.AppendPath(params[:0], bookName, "books/1", &strict)
			params = jsonwire.AppendPath(params, id, "1", &strict)
			_, err := jsonwire.AppendRequest(dst, &jsonwire.Request{Message: update, Body: body, BodyField: field, Params: params, Mask: mask}, nil)
			return err
		}},
		{"three parameters of the query", 0, func() error {
			var err error
			if params, err = jsonwire.AppendQuery(params[:0], m, "page_count=12&genre=NOVEL&tags=a", nil, &strict); err != nil {
				return err
			}
			_, err = jsonwire.AppendRequest(dst, &jsonwire.Request{Message: m, Params: params}, nil)
			return err
		}},
		{"an entry of a map and a time", 0, func() error {
			var err error
			if params, err = jsonwire.AppendQuery(params[:0], m, "labels[a.b]=x&notes[7]=y&published=2024-01-01T00:00:00Z&read_time=1.5s", nil, &strict); err != nil {
				return err
			}
			_, err = jsonwire.AppendRequest(dst, &jsonwire.Request{Message: m, Params: params}, nil)
			return err
		}},
		{"a captured parameter", 0, func() error {
			var err error
			if params, err = jsonwire.AppendQuery(params[:0], kept, "utm=1&name=x&ref=y", nil, &policy); err != nil {
				return err
			}
			_, err = jsonwire.AppendRequest(dst, &jsonwire.Request{Message: kept, Params: params}, nil)
			return err
		}},
		{"a form", 1, func() error { // its copy
			var err error
			if params, err = jsonwire.AppendForm(params[:0], m, form, nil, nil, &strict); err != nil {
				return err
			}
			_, err = jsonwire.AppendRequest(dst, &jsonwire.Request{Message: m, Params: params}, nil)
			return err
		}},
		{"an HttpBody", 0, func() error {
			out, err := jsonwire.AppendHTTPBody(dst, "text/plain; charset=utf-8", body)
			if err != nil {
				return err
			}
			_, _, err = jsonwire.SplitHTTPBody(out, nil)
			return err
		}},
	} {
		if err := c.run(); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		n := testing.AllocsPerRun(50, func() {
			if err := c.run(); err != nil {
				t.Error(err)
			}
		})
		if n > c.budget {
			t.Errorf("%s: %v allocations, %v are allowed", c.name, n, c.budget)
		}
	}
}
