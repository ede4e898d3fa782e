package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// all reads every element of a body.
func all(r io.Reader, limit int) (texts []string, err error) {
	e := elements{read: r.Read, limit: limit}
	for {
		text, err := e.next()
		if errors.Is(err, io.EOF) {
			return texts, nil
		}
		if err != nil {
			return texts, err
		}
		texts = append(texts, string(text))
	}
}

func TestElements(t *testing.T) {
	for _, c := range []struct {
		body    string
		want    []string
		refused string
	}{
		{body: ""},
		{body: " \n"},
		{body: "[]"},
		{body: " [ ] \n"},
		{body: `{"a":1}`, want: []string{`{"a":1}`}},
		{body: "{\"a\":1}\n{\"a\":[2]}\r\n\n{}", want: []string{`{"a":1}`, `{"a":[2]}`, `{}`}},
		{body: `{}{}`, want: []string{`{}`, `{}`}},
		{body: `1 "a b" null`, want: []string{`1`, `"a b"`, `null`}},
		{body: `[{"a":"]}\\\""},{"b":{"c":[1,2]}}]`, want: []string{`{"a":"]}\\\""}`, `{"b":{"c":[1,2]}}`}},
		{body: "[1, 2 ,\n3 ]", want: []string{"1", "2", "3"}},
		{body: `[[1],[2]]`, want: []string{"[1]", "[2]"}},
		{body: `{"cut":`, want: []string{`{"cut":`}}, // the codec says what is missing
		{body: `[{}`, want: []string{`{}`}, refused: "is not closed"},
		{body: `[`, refused: "is not closed"},
		{body: `[{},`, want: []string{`{}`}, refused: "is not closed"},
		{body: `[{},]`, want: []string{`{}`}, refused: `found "]"`},
		{body: `[,{}]`, refused: `wanted a request, found ","`},
		{body: `[{} {}]`, want: []string{`{}`}, refused: `wanted "," or "]" between requests, found "{"`},
		{body: `[] {}`, refused: "wanted the end of the body"},
		{body: `, {}`, refused: `wanted a request, found ","`},
		{body: `}`, refused: `wanted a request, found "}"`},
		{body: `{"a":"` + strings.Repeat("x", 200) + `"}`, refused: "larger than 100 bytes"},
	} {
		for how, r := range map[string]io.Reader{"whole": strings.NewReader(c.body), "byte by byte": iotest.OneByteReader(strings.NewReader(c.body))} {
			got, err := all(r, 100)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s, %s: %s", c.body, how, d)
			}
			if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s, %s: want %q, found %v", c.body, how, c.refused, err)
			}
		}
	}
}

// A body as large as one likes takes the room of its largest element.
func TestElementsTakeConstantMemory(t *testing.T) {
	one := `{"text":"` + strings.Repeat("x", 3000) + `"},`
	r := io.MultiReader(strings.NewReader("["), io.LimitReader(&repeated{text: one}, int64(1000*len(one))), strings.NewReader("{}]"))
	e := elements{read: r.Read, limit: 4 << 20}
	n := 0
	for {
		_, err := e.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 1001 || cap(e.b) > 16<<10 {
		t.Errorf("%d elements in %d bytes of room", n, cap(e.b))
	}
}

type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// What encoding/json takes as an array, or as a run of texts, is cut into the same texts.
func FuzzElements(f *testing.F) {
	for _, s := range []string{"", "[]", `[{"a":"]"},[1,"\""]]`, "{}\n{}", `[1,2`, `["\\"]`, "1 2", `{"a":[{}]}{}`} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, slow bool) {
		var r io.Reader = bytes.NewReader(body)
		if slow {
			r = iotest.OneByteReader(r)
		}
		got, err := all(r, 1<<20)
		var want []string
		if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
			var list []json.RawMessage
			if json.Unmarshal(body, &list) != nil {
				return
			}
			for _, e := range list {
				want = append(want, string(e))
			}
		} else {
			for d := json.NewDecoder(bytes.NewReader(body)); ; {
				var e json.RawMessage
				if derr := d.Decode(&e); errors.Is(derr, io.EOF) {
					break
				} else if derr != nil {
					return
				}
				if e[0] != '{' && e[0] != '[' && e[0] != '"' {
					return // "12" beside "1 2": texts that are no messages may run into each other
				}
				want = append(want, string(e))
			}
		}
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", body, d)
		}
	})
}
