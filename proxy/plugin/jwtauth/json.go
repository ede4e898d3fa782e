package jwtauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds the nesting of what is read.
const maxDepth = 16

var (
	errUTF8     = errors.New("the JSON is not UTF-8")
	errTrailing = errors.New("something stands behind the JSON")
	errDepth    = fmt.Errorf("the JSON is nested deeper than %d", maxDepth)
	errObject   = errors.New("wanted a JSON object")
)

// reader reads JSON as little as it may mean two things: no name twice in an object, no byte that is not UTF-8, nothing
// behind it.
type reader struct {
	dec    *json.Decoder
	values int // read so far
}

// readObject reads one object. Numbers are json.Number.
func readObject(text []byte) (object map[string]any, values int, err error) {
	if !utf8.Valid(text) {
		return nil, 0, errUTF8
	}
	r := reader{dec: json.NewDecoder(bytes.NewReader(text))}
	r.dec.UseNumber()
	v, err := r.value(0)
	if err != nil {
		return nil, 0, err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, 0, errTrailing
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, 0, errObject
	}
	return object, r.values, nil
}

func (r *reader) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	r.values++
	t, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		object := map[string]any{}
		for r.dec.More() {
			name, err := r.dec.Token()
			if err != nil {
				return nil, err
			}
			text, ok := name.(string)
			if !ok {
				return nil, errObject
			}
			if _, twice := object[text]; twice {
				return nil, fmt.Errorf("the name %.40q stands twice", text)
			}
			if object[text], err = r.value(depth + 1); err != nil {
				return nil, err
			}
		}
		_, err := r.dec.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for r.dec.More() {
			v, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := r.dec.Token()
		return list, err
	}
	if n, ok := t.(json.Number); ok {
		if _, err := strconv.ParseFloat(n.String(), 64); err != nil {
			return nil, errors.New("a number is too large")
		}
	}
	return t, nil
}

// floats makes float64 of every json.Number below v, in place, and returns v.
func floats(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, _ := v.Float64() // it was read as one
		return f
	case map[string]any:
		for name := range v {
			v[name] = floats(v[name])
		}
	case []any:
		for i := range v {
			v[i] = floats(v[i])
		}
	}
	return v
}
