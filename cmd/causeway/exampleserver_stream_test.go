package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
)

// streamed sends a request with a body whose length is not stated, and reads the answer's trailers too.
func (x *exampleRun) streamed(method, path string, body io.Reader, header ...string) answer {
	x.Helper()
	req, err := http.NewRequestWithContext(x.Context(), method, x.g.url+path, body)
	if err != nil {
		x.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := x.g.client.Do(req)
	if err != nil {
		x.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		x.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(raw), trailer: resp.Trailer}
}

// slowly gives texts one by one.
func slowly(texts ...string) io.Reader {
	r, w := io.Pipe()
	go func() {
		for _, t := range texts {
			if _, err := io.WriteString(w, t); err != nil {
				return // the server has answered already
			}
		}
		_ = w.Close() // a pipe's never fails
	}()
	return r
}

const bulkPath = "/v1/example/a_bit_of_everything/bulk"

// bulk are the five messages of testABEBulkCreate, one in a line.
func bulk(body string) []string {
	var lines []string
	for _, v := range []string{"foo", "bar", "baz", "qux", "quux"} {
		lines = append(lines, strings.ReplaceAll(strings.ReplaceAll(body, "\n", ""), "strprefix/foo", "strprefix/"+v)+"\n")
	}
	return lines
}

// bulkCreate is testABEBulkCreate.
func bulkCreate(te ...string) func(*exampleRun) {
	return func(x *exampleRun) {
		lines := bulk(createBody)
		a := x.streamed("POST", bulkPath, slowly(lines...), append(te, "Content-Type", "application/json")...)
		x.exactly(a, "{}")
		x.header(a, "Grpc-Metadata-Count", strconv.Itoa(len(lines)))
		x.trailers(a, "Grpc-Trailer-Foo", "foo2", len(te) > 0)
		x.trailers(a, "Grpc-Trailer-Bar", "bar2", len(te) > 0)
	}
}

// bulkCreateWithError is testABEBulkCreateWithError: the server answers while the client still sends.
func bulkCreateWithError(x *exampleRun) {
	a := x.streamed("POST", bulkPath, slowly(bulk(`{"stringValue":"strprefix/foo"}`)...), "Grpc-Metadata-error", "some error")
	x.failed(a, 400, codes.InvalidArgument, "")
}

// results reads an answer of JSON texts, one after the other, each with a result.
func (x *exampleRun) results(body, typ string) (texts []string) {
	x.Helper()
	dec := json.NewDecoder(strings.NewReader(body))
	for {
		var item struct {
			Result json.RawMessage
			Error  map[string]any
		}
		err := dec.Decode(&item)
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil || item.Error != nil {
			x.Fatalf("want results, found %v %v: %s", err, item.Error, body)
		}
		x.message(typ, string(item.Result))
		texts = append(texts, string(item.Result))
	}
}

// list is testABEList. What is listed was created by the cases before.
func list(x *exampleRun) {
	x.create(`{"stringValue":"strprefix/listed"}`)
	a := x.streamed("GET", "/v1/example/a_bit_of_everything", nil)
	n := len(x.results(a.body, "ABitOfEverything"))
	if count, err := strconv.Atoi(a.header.Get("Grpc-Metadata-Count")); a.status != 200 || n == 0 || err != nil || count != n {
		x.Errorf("want results and their count, found %d with %d, and %q", a.status, n, a.header.Get("Grpc-Metadata-Count"))
	}
}

// lines is an answer of lines, with its content type.
func lines(path, typ, want string) func(*exampleRun) {
	return func(x *exampleRun) {
		a := x.streamed("GET", path, nil)
		x.exactly(a, want)
		x.header(a, "Content-Type", typ)
	}
}

const echoPath = "/v1/example/a_bit_of_everything/echo"

// bulkEcho is testABEBulkEcho: JSON texts with nothing between them, and the answers while they are sent.
func bulkEcho(x *exampleRun) {
	var texts []string
	for i := range 10 {
		texts = append(texts, `{"value":"message `+strconv.Itoa(i)+`"}`)
	}
	a := x.streamed("POST", echoPath, slowly(texts...), "Content-Type", "application/json")
	got := x.results(a.body, stringMessage)
	if a.status != 200 || strings.Join(got, "") != strings.Join(texts, "") {
		x.Errorf("found %d %s", a.status, a.body)
	}
}

// bulkEchoZeroLength is testABEBulkEchoZeroLength.
func bulkEchoZeroLength(x *exampleRun) {
	x.exactly(x.streamed("POST", echoPath, slowly(), "Content-Type", "application/json"), "")
}
