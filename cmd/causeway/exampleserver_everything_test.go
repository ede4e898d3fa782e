package main

import (
	"io"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
)

const stringMessage = "grpc.gateway.examples.internal.proto.sub.StringMessage"

// scalars are the values that testABECreate and testABECreateBody share.
const scalars = `"floatValue":1.5,"doubleValue":2.5,"int64Value":"4294967296","uint64Value":"9223372036854775807","int32Value":-2147483648,` +
	`"fixed64Value":"9223372036854775807","fixed32Value":4294967295,"boolValue":true,"stringValue":"strprefix/foo","uint32Value":4294967295,` +
	`"sfixed32Value":2147483647,"sfixed64Value":"-4611686018427387904","sint32Value":2147483647,"sint64Value":"4611686018427387903",` +
	`"nonConventionalNameValue":"camelCase"`

// createPath is the path that gives those values, and four enums.
func createPath(float, double, text, enums string) string {
	return "/v1/example/a_bit_of_everything/" + float + "/" + double + "/4294967296/separator/9223372036854775807/-2147483648/9223372036854775807/4294967295/true/" +
		text + "/4294967295/2147483647/-4611686018427387904/2147483647/4611686018427387903/camelCase/" + enums
}

// createBody is the message that testABECreateBody sends and wants back.
const createBody = `{` + scalars + `,"enumValue":"ONE","pathEnumValue":"ABC","nestedPathEnumValue":"GHI",
	"nested":[{"name":"bar","amount":10},{"name":"baz","amount":20}],"repeatedStringValue":["a","b","c"],"oneofString":"x",
	"mapValue":{"a":"ONE","b":"ZERO"},"mappedStringValue":{"a":"x","b":"y"},
	"mappedNestedValue":{"a":{"name":"x","amount":1},"b":{"name":"y","amount":2}},
	"repeatedEnumAnnotation":["ONE","ZERO"],"enumValueAnnotation":"ONE","repeatedStringAnnotation":["a","b"],
	"repeatedNestedAnnotation":[{"name":"hoge","amount":10},{"name":"fuga","amount":20}],
	"nestedAnnotation":{"name":"hoge","amount":10},"optionalStringValue":"optional-str"}`

// repeatedPath, the fields in its order, and repeated are the values of testABERepeated.
const (
	repeatedPath = "/1.5,-1.5/2.5,-2.5/4294967296,-4294967296/0,9223372036854775807/2147483647,-2147483648/0,9223372036854775807" +
		"/0,4294967295/true,false/foo,bar/AA==,_w==/0,4294967295/ZERO,ONE/2147483647,-2147483648/4294967296,-4294967296" +
		"/2147483647,-2147483648/4611686018427387903,-4611686018427387904"
	repeatedNames = "float_value double_value int64_value uint64_value int32_value fixed64_value fixed32_value bool_value string_value bytes_value " +
		"uint32_value enum_value sfixed32_value sfixed64_value sint32_value sint64_value"
	repeated = `{"pathRepeatedFloatValue":[1.5,-1.5],"pathRepeatedDoubleValue":[2.5,-2.5],"pathRepeatedInt64Value":["4294967296","-4294967296"],
		"pathRepeatedUint64Value":["0","9223372036854775807"],"pathRepeatedInt32Value":[2147483647,-2147483648],
		"pathRepeatedFixed64Value":["0","9223372036854775807"],"pathRepeatedFixed32Value":[0,4294967295],
		"pathRepeatedBoolValue":[true,false],"pathRepeatedStringValue":["foo","bar"],"pathRepeatedBytesValue":["AA==","/w=="],
		"pathRepeatedUint32Value":[0,4294967295],"pathRepeatedEnumValue":["ZERO","ONE"],
		"pathRepeatedSfixed32Value":[2147483647,-2147483648],"pathRepeatedSfixed64Value":["4294967296","-4294967296"],
		"pathRepeatedSint32Value":[2147483647,-2147483648],"pathRepeatedSint64Value":["4611686018427387903","-4611686018427387904"]}`
)

// everythingCases are those of TestABE and of the generated client for the same service.
func everythingCases() []exampleCase {
	const at, path, message = "TestABE/", "/v1/example/a_bit_of_everything", "ABitOfEverything"
	const example = `{"bool_value": true, "string_value": "strprefix/example"}`
	notFound := func(te ...string) func(*exampleRun) {
		return func(x *exampleRun) {
			a := x.g.call("GET", path+"/not_exist", "", te...)
			if s := x.failed(a, 404, codes.NotFound, ""); s.GetMessage() != "not found" {
				x.Errorf("want the service's message, found %q", s.GetMessage())
			}
			x.header(a, "Grpc-Metadata-Uuid", "not_exist")
			x.trailers(a, "Grpc-Trailer-Foo", "foo2", len(te) > 0)
			x.trailers(a, "Grpc-Trailer-Bar", "bar2", len(te) > 0)
		}
	}
	return []exampleCase{
		{name: at + "testABECreate(8088)", run: func(x *exampleRun) {
			a := x.g.call("POST", createPath("1.500000", "2.500000", "strprefix/foo", "ZERO/DEF/JKL/ONE"), "{}", "Content-Type", "application/json")
			x.ok(a, message, `{`+scalars+`,"pathEnumValue":"DEF","nestedPathEnumValue":"JKL","enumValueAnnotation":"ONE"}`)
			if a.text(x, "uuid") == "" {
				x.Error("want a uuid")
			}
		}},
		{name: at + "testABECreateBody(8088)", run: func(x *exampleRun) {
			a := x.g.call("POST", path, createBody, "Content-Type", "application/json")
			x.ok(a, message, createBody)
			if a.text(x, "uuid") == "" {
				x.Error("want a uuid")
			}
		}},
		{name: at + "testABEBulkCreate(8088, true)", run: bulkCreate("TE", "trailers")},
		{name: at + "testABEBulkCreate(8088, false)", run: bulkCreate()},
		{name: at + "testABEBulkCreateWithError(8088)", run: bulkCreateWithError},
		{name: at + "testABELookup(8088)", run: func(x *exampleRun) {
			uuid := x.create(example)
			a := x.g.call("GET", path+"/"+uuid, "")
			x.ok(a, message, example)
			x.header(a, "Grpc-Metadata-Uuid", uuid)
			if got := a.text(x, "uuid"); got != uuid {
				x.Errorf("uuid: want %q, found %q", uuid, got)
			}
		}},
		{name: at + "testABELookupNotFound(8088, true)", run: notFound("TE", "trailers")},
		{name: at + "testABELookupNotFound(8088, false)", run: notFound()},
		{name: at + "testABEList(8088)", convention: true, run: list},
		{name: at + "testABEDownload(8088)", convention: true, run: lines("/v1/example/download", "text/html", "Hello 1\nHello 2\n")},
		{name: at + "testABEBulkEcho(8088)", convention: true, run: bulkEcho},
		{name: at + "testABEBulkEchoZeroLength(8088)", convention: true, run: bulkEchoZeroLength},
		{name: at + "testAdditionalBindings(8088)", run: func(x *exampleRun) {
			const want = `{"value":"hello"}`
			x.ok(x.g.call("GET", path+"/echo/hello", ""), stringMessage, want)
			x.ok(x.g.call("POST", "/v2/example/echo", `"hello"`, "Content-Type", "application/json"), stringMessage, want)
			x.ok(x.chunked("/v2/example/echo", `"hello"`), stringMessage, want)
			x.ok(x.g.call("GET", "/v2/example/echo?value=hello", ""), stringMessage, want)
		}},
		{name: at + "testABERepeated(8088)", run: func(x *exampleRun) {
			const path = "/v1/example/a_bit_of_everything_repeated"
			if x.compatible {
				x.ok(x.g.call("GET", path+repeatedPath, ""), "ABitOfEverythingRepeated", repeated)
				return
			}
			query := []string{}
			values := strings.Split(repeatedPath[1:], "/")
			for i, name := range strings.Fields(repeatedNames) {
				for v := range strings.SplitSeq(values[i], ",") {
					query = append(query, "path_repeated_"+name+"="+v)
				}
			}
			x.ok(x.g.call("GET", path+"?"+strings.Join(query, "&"), ""), "ABitOfEverythingRepeated", repeated)
		}},
		{name: at + "testABEExists(8088)", run: func(x *exampleRun) {
			if a := x.g.call("HEAD", path+"/"+x.create(example), ""); a.status != http.StatusOK || a.body != "" {
				x.Errorf("want 200 without a body, found %d %q", a.status, a.body)
			}
		}},
		{name: at + "testABEExistsNotFound(8088)", run: func(x *exampleRun) {
			if a := x.g.call("HEAD", path+"/not_exist", ""); a.status != http.StatusNotFound || a.body != "" {
				x.Errorf("want 404 without a body, found %d %q", a.status, a.body)
			}
		}},
		{name: at + "testABEOptions(8088)", run: func(x *exampleRun) {
			a := x.g.call("OPTIONS", path+"/test", example, "Content-Type", "application/json")
			x.exactly(a, "{}")
			x.header(a, "Grpc-Metadata-Allow", "OPTIONS, GET, HEAD, POST, PUT, TRACE")
		}},
		{name: at + "testABETrace(8088)", run: func(x *exampleRun) {
			a := x.g.call("TRACE", path+"/test", example, "Content-Type", "application/json")
			x.ok(a, message, "{}") // the binding takes no body
			if got := a.text(x, "uuid"); got != "test" {
				x.Errorf("uuid: want test, found %q", got)
			}
		}},
		{name: "TestAbitOfEverythingClient/testABEClientCreate(cl)", convention: true, run: func(x *exampleRun) {
			// The generated client sends the / of strprefix/foo as %2F.
			const query = "?required_field_behavior_json_name_custom=test&required_field_schema_json_name_custom=test" +
				"&requiredStringField1=&requiredStringField2=&requiredStringViaFieldBehaviorAnnotation=&uuid=6ba7b810-9dad-11d1-80b4-00c04fd430c8"
			a := x.g.call("POST", createPath("1.5", "2.5", "strprefix%2Ffoo", "ZERO/ABC/JKL/ZERO")+query, "")
			x.ok(a, message, `{`+scalars+`,"nestedPathEnumValue":"JKL","required_field_behavior_json_name_custom":"test","required_field_schema_json_name_custom":"test"}`)
			if got := a.text(x, "uuid"); got == "" || strings.Contains(got, "-") {
				x.Errorf("want a uuid that the server made, found %q", got)
			}
		}},
	}
}

// chunked posts a body whose length is not stated.
func (x *exampleRun) chunked(path, body string) answer {
	x.Helper()
	req, err := http.NewRequestWithContext(x.Context(), http.MethodPost, x.g.url+path, struct{ io.Reader }{strings.NewReader(body)})
	if err != nil {
		x.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := x.g.client.Do(req)
	if err != nil {
		x.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		x.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(raw)}
}
