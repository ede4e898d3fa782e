package main

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
)

// Why a case is not run, where it holds for several.
const (
	isOpenAPI = "about the OpenAPI document that grpc-gateway generates"
	isMux     = "about an option of grpc-gateway's mux, a function that changes the answer"
	isGreeter = "the test brings a server of its own, which the example server does not have"
)

// exampleTable is every case of grpc-gateway's integration tests.
func exampleTable() []exampleCase {
	var table []exampleCase
	for _, part := range [][]exampleCase{echoCases("v1"), echoCases("v2"), singleEchoCases(), everythingCases(), patchCases(), queryCases("TestRequestQueryParams/testRequestQueryParams(8088)"), queryCases("TestRequestQueryParamsInProcessGateway/testRequestQueryParams(8089)"), responseBodyCases(), excessBodyCases(), otherCases(), leftCases()} {
		table = append(table, part...)
	}
	return table
}

// echoCases are those of TestEcho for one prefix: v1 is EchoService by the rules in its proto, v2 UnannotatedEchoService
// by rules of the configuration.
func echoCases(prefix string) []exampleCase {
	message, at := "SimpleMessage", "TestEcho/"+prefix+"/"
	if prefix == "v2" {
		message = "UnannotatedSimpleMessage"
	}
	path := "/" + prefix + "/example/"
	body := func(te ...string) func(*exampleRun) {
		return func(x *exampleRun) {
			a := x.g.call("POST", path+"echo_body", `{"id":"example"}`, te...)
			x.ok(a, message, `{"id":"example"}`)
			x.header(a, "Grpc-Metadata-Foo", "foo1")
			x.header(a, "Grpc-Metadata-Bar", "bar1")
			x.trailers(a, "Grpc-Trailer-Foo", "foo2", len(te) > 0)
			x.trailers(a, "Grpc-Trailer-Bar", "bar2", len(te) > 0)
		}
	}
	withHeader := func(name, value string) func(*exampleRun) {
		return func(x *exampleRun) {
			x.ok(x.g.call("POST", path+"echo/myid", "{}", "Content-Type", "application/json", name, value), message, `{"id":"myid"}`)
		}
	}
	return []exampleCase{
		{name: at + `testEcho(8088, apiPrefix, "application/json")`, run: func(x *exampleRun) {
			x.ok(x.g.call("POST", path+"echo/myid", "{}", "Content-Type", "application/json"), message, `{"id":"myid"}`)
		}},
		{name: at + `testEchoOneof(8088, apiPrefix, "application/json")`, run: func(x *exampleRun) {
			x.ok(x.g.call("GET", path+"echo/myid/10/golang", ""), message, `{"id":"myid","num":"10","lang":"golang"}`)
		}},
		{name: at + `testEchoOneof1(8088, apiPrefix, "application/json")`, run: func(x *exampleRun) {
			x.ok(x.g.call("GET", path+"echo1/myid/10/golang", ""), message, `{"id":"myid","lineNum":"10","status":{"note":"golang"}}`)
		}},
		{name: at + `testEchoOneof2(8088, apiPrefix, "application/json")`, run: func(x *exampleRun) {
			x.ok(x.g.call("GET", path+"echo2/golang", ""), message, `{"no":{"note":"golang"}}`)
		}},
		{name: at + "testEchoPathParamOverwrite(8088)", convention: true, run: func(x *exampleRun) {
			x.ok(x.g.call("GET", "/v1/example/echo/resource/my_resource_id?resourceId=bad_resource_id", ""), "SimpleMessage", `{"resourceId":"my_resource_id"}`)
		}},
		{name: at + "testEchoNested(8088)", run: func(x *exampleRun) {
			x.ok(x.g.call("GET", "/v1/example/echo/nested/my_nested_id?n_id.val=foo", ""), "SimpleMessage", `{"nId":{"nId":"my_nested_id","val":"foo"}}`)
		}},
		{name: at + "testEchoNestedOverride(8088)", convention: true, run: func(x *exampleRun) {
			x.ok(x.g.call("GET", "/v1/example/echo/nested/my_nested_id?nId.nId=bad_id", ""), "SimpleMessage", `{"nId":{"nId":"my_nested_id"}}`)
		}},
		{name: at + "testEchoBody(8088, apiPrefix, true)", run: body("TE", "trailers")},
		{name: at + "testEchoBody(8088, apiPrefix, false)", run: body()},
		{name: at + "testEchoBody(8089, apiPrefix, true)", run: body("TE", "trailers")},
		{name: at + "testEchoBody(8089, apiPrefix, false)", run: body()},
		{name: at + "testEchoWithNonASCIIHeaderValues(8088, apiPrefix)", convention: true, run: withHeader("Grpc-Metadata-Location", "Gjøvik")},
		{name: at + "testEchoWithInvalidHeaderKey(8088, apiPrefix)", convention: true, run: withHeader("Grpc-Metadata-Foo+Bar", "Hello")},
	}
}

func singleEchoCases() []exampleCase {
	return []exampleCase{
		{name: "TestEchoUnauthorized", convention: true, run: func(x *exampleRun) {
			a := x.g.call("GET", "/v1/example/echo_unauthorized", "")
			if s := x.failed(a, 401, codes.Unauthenticated, ""); s.GetMessage() != "unauthorized err" {
				x.Errorf("want the service's message, found %q", s.GetMessage())
			}
			x.header(a, "Www-Authenticate", "unauthorized err")
		}},
		{name: "TestEchoPatch", run: func(x *exampleRun) {
			const sent = `{"struct_field":{"struct_key":{"layered_struct_key":"struct_val"}},"value_field":{"value_struct_key":"value_struct_val"}}`
			mask := "structField,valueField"
			if x.compatible {
				mask = "structField.structKey.layeredStructKey,valueField.valueStructKey"
			}
			x.ok(x.g.call("PATCH", "/v1/example/echo_patch", sent), "DynamicMessageUpdate", `{"body":`+sent+`,"updateMask":"`+mask+`"}`)
		}},
		{name: "TestEchoClient", run: func(x *exampleRun) {
			x.ok(x.g.call("POST", "/v1/example/echo/foo", ""), "SimpleMessage", `{"id":"foo"}`)
		}},
		{name: "TestEchoBodyClient", run: func(x *exampleRun) {
			x.ok(x.g.call("POST", "/v1/example/echo_body", `{"id":"foo"}`, "Content-Type", "application/json"), "SimpleMessage", `{"id":"foo"}`)
		}},
		{name: "TestEchoBody2Client", run: func(x *exampleRun) {
			x.ok(x.g.call("PUT", "/v1/example/echo_body/foo", `{"note":"note"}`, "Content-Type", "application/json"), "SimpleMessage", `{"id":"foo","no":{"note":"note"}}`)
		}},
		{name: "TestUnannotatedEchoClient", run: func(x *exampleRun) {
			x.ok(x.g.call("POST", "/v1/example/echo/foo?num=1", ""), "SimpleMessage", `{"id":"foo","num":"1"}`)
		}},
		{name: "TestUnannotatedEchoBodyClient", run: func(x *exampleRun) {
			x.ok(x.g.call("POST", "/v1/example/echo_body", `{"id":"foo","num":"1"}`, "Content-Type", "application/json"), "SimpleMessage", `{"id":"foo","num":"1"}`)
		}},
		{name: "TestRequestParseForm", convention: true, run: func(x *exampleRun) {
			a := x.g.call("POST", "/v1/example/echo/myid1", "num=1", "Content-Type", "application/x-www-form-urlencoded")
			x.ok(a, "SimpleMessage", `{"id":"myid1","num":"1"}`)
		}},
		{name: "TestInvalidArgument", run: func(x *exampleRun) {
			x.failed(x.g.call("GET", "/v1/example/echo/myid/not_int64", ""), 400, codes.InvalidArgument, "INVALID_REQUEST")
		}},
		{name: "TestNotImplemented", convention: true, run: func(x *exampleRun) {
			x.failed(x.g.call("GET", "/v1/example/echo/myid", ""), 501, codes.Unimplemented, "")
		}},
	}
}

// patchCases are those where an update mask says what changes.
func patchCases() []exampleCase {
	patchBody := func(stored, sent, want string) func(x *exampleRun) {
		return func(x *exampleRun) {
			uuid := x.create(stored)
			x.exactly(x.g.call("PATCH", "/v2a/example/a_bit_of_everything/"+uuid, sent), "{}")
			x.ok(x.g.call("GET", "/v1/example/a_bit_of_everything/"+uuid, ""), "ABitOfEverything", want)
		}
	}
	const (
		update = `"abe":{"stringValue":"some updated value","singleNested":{"amount":456}}`
		stored = `{"int32Value":42,"stringValue":"rabbit","singleNested":{"name":"some value that will get overwritten","amount":345}}`
		whole  = `{"stringValue":"some updated value","singleNested":{"amount":456}}`
	)
	cases := []exampleCase{
		{name: "TestABEPatch", run: func(x *exampleRun) {
			uuid := x.create(`{"stringValue":"strprefix/bar","int32Value":32}`)
			x.exactly(x.g.call("PATCH", "/v2/example/a_bit_of_everything/"+uuid, `{"string_value": "strprefix/foo"}`), "{}")
			x.ok(x.g.call("GET", "/v1/example/a_bit_of_everything/"+uuid, ""), "ABitOfEverything", `{"stringValue":"strprefix/foo","int32Value":32}`)
		}},
		{name: "TestABEPatchBody/with fieldmask provided", run: patchBody(stored, `{`+update+`,"updateMask":"singleNested"}`, `{"int32Value":42,"stringValue":"rabbit","singleNested":{"amount":456}}`)},
		{name: "TestABEPatchBody/with empty fieldmask", run: patchBody(stored, `{`+update+`,"updateMask":""}`, whole)},
		{name: "TestABEPatchBody/with nil fieldmask", run: patchBody(stored, `{`+update+`}`, whole)},
	}
	const (
		protoNames = `{"id":"foo","Num":"1","line_num":"42","langIdent":"English","STATUS":"good","en_GB":"1","no":"yes","thing":{"subThing":{"sub_value":"hi"}}}`
		camelCase  = `{"id":"foo","Num":"1","lineNum":"42","langIdent":"English","STATUS":"good","enGB":"1","no":"yes","thing":{"subThing":{"subValue":"hi"}}}`
		jsonNames  = `{"ID":"foo","Num":"1","LineNum":"42","langIdent":"English","status":"good","En_GB":"1","yes":"yes","Thingy":{"SubThing":{"sub_Value":"hi"}}}`
	)
	for _, c := range []struct{ name, host, method, body string }{
		{"Test standard update method", "proto-names.test", "update", protoNames},
		{"Test update method using json_names in message", "proto-names.test", "update_with_json_names", protoNames},
		{"Test standard update method with UseProtoNames: false marshaller option", "", "update", camelCase},
		{"Test update method using json_names in message with UseProtoNames: false marshaller option", "", "update_with_json_names", jsonNames},
	} {
		cases = append(cases, exampleCase{name: "TestNonStandardNames/" + c.name, convention: true, run: func(x *exampleRun) {
			x.exactly(x.g.call("PATCH", "/v1/example/non_standard/"+c.method, c.body, "Host", c.host), c.body)
		}})
	}
	return cases
}

// queryCases are those of testRequestQueryParams, which grpc-gateway runs by gRPC and in process.
func queryCases(at string) []exampleCase {
	const path = "/v1/example/a_bit_of_everything/params/"
	get := func(rest, want string) func(*exampleRun) {
		return func(x *exampleRun) {
			x.ok(x.g.call("GET", path+rest, "", "Content-Type", "application/json"), "ABitOfEverything", want)
		}
	}
	return []exampleCase{
		{name: at + "/get url query values", run: get("get/foo?double_value=1234.56&bool_value=true&mapped_string_value[map_key]=map_value",
			`{"singleNested":{"name":"foo"},"doubleValue":1234.56,"boolValue":true,"mappedStringValue":{"map_key":"map_value"}}`)},
		{name: at + "/get nested enum url parameter", run: get("get/nested_enum/TRUE", `{"singleNested":{"ok":"TRUE"}}`)},
		{name: at + "/get oneof of empty url query value", run: get("get/foo?oneof_empty=", `{"singleNested":{"name":"foo"},"oneofEmpty":{}}`)},
		{name: at + "/post url query values", run: func(x *exampleRun) {
			a := x.g.call("POST", path+"post/hello-world?double_value=1234.56&bool_value=true", `{"name":"foo","amount":100}`, "Content-Type", "application/json")
			x.ok(a, "ABitOfEverything", `{"singleNested":{"name":"foo","amount":100},"doubleValue":1234.56,"boolValue":true,"stringValue":"hello-world"}`)
		}},
		{name: at + "/post form and url query values", convention: true, run: func(x *exampleRun) {
			const form = "optional_string_value=optional-val&repeated_string_value=demo1&repeated_string_value=demo2&string_value=hello-world"
			a := x.g.call("POST", path+"get/foo?double_value=1234.56&bool_value=true", form, "Content-Type", "application/x-www-form-urlencoded")
			x.ok(a, "ABitOfEverything", `{"singleNested":{"name":"foo"},"doubleValue":1234.56,"boolValue":true,"stringValue":"hello-world",
				"repeatedStringValue":["demo1","demo2"],"optionalStringValue":"optional-val"}`)
		}},
	}
}

func responseBodyCases() []exampleCase {
	get := func(path, want string) func(*exampleRun) {
		return func(x *exampleRun) { x.exactly(x.g.call("GET", path, ""), want) }
	}
	return []exampleCase{
		{name: "TestResponseBody/testResponseBody(8088)", run: get("/responsebody/foo", `{"data":"foo"}`)},
		{name: "TestResponseBody/testResponseBodies(8088)", run: get("/responsebodies/foo", `[{"data":"foo","type":"UNKNOWN"}]`)},
		{name: "TestResponseBody/testResponseStrings(8088)/Response strings", run: get("/responsestrings/foo", `["hello","foo"]`)},
		{name: "TestResponseBody/testResponseStrings(8088)/Empty response strings", run: get("/responsestrings/empty", `[]`)},
		{name: "TestResponseBody/testResponseStrings(8088)/Response bodies", run: get("/responsebodies/foo", `[{"data":"foo","type":"UNKNOWN"}]`)},
		{name: "TestResponseBodySameName", run: get("/responsebody/samename/foo", `"foo"`)},
		{name: "TestResponseBodyImportedType", run: get("/responsebody/importedtype/foo", `"foo"`)},
		{name: "TestResponseBodyStream", convention: true, run: lines("/responsebody/stream/foo", "application/json", "{\"result\":{\"data\":\"first foo\"}}\n{\"result\":{\"data\":\"second foo\"}}\n")},
		{name: "TestResponseBodyStreamHttpBody", convention: true, run: lines("/v1/example/download", "text/html", "Hello 1\nHello 2\n")},
		{name: "TestResponseBodyStreamHttpBodyError", convention: true, run: lines("/v1/example/download?error=true", "text/html", "Hello 1\nHello 2\n{\"error\":{\"code\":3,\"message\":\"error\",\"details\":[]}}\n")},
	}
}

// excessBodyCases hold that a caller who leaves takes the call along, whatever body was sent.
func excessBodyCases() []exampleCase {
	leave := func(path, body string) func(*exampleRun) {
		return func(x *exampleRun) { x.leave("/rpc/excess-body/"+path, body) }
	}
	const at = "TestExcessBody/testExcessBody"
	return []exampleCase{
		{name: at + "RPC(8088)", run: leave("rpc", "")},
		{name: at + "RPCUnexpected(8088)", run: leave("rpc", "{}")},
		{name: at + "RPCWithBody(8088)", run: leave("rpc/with-body", "{}")},
		{name: at + "RPCWithBodyUnexpected(8089)", convention: true, run: leave("rpc/with-body", "{}.")},
		{name: at + "Stream(8088)", run: leave("stream", "")},
		{name: at + "StreamUnexpected(8088)", run: leave("stream", "{}")},
		{name: at + "StreamWithBody(8088)", run: leave("stream/with-body", "{}")},
		{name: at + "StreamWithBodyUnexpected(8088)", convention: true, run: leave("stream/with-body", "{}"+strings.Repeat(".", 511))},
	}
}

func otherCases() []exampleCase {
	return []exampleCase{
		{name: "TestTimeout", run: func(x *exampleRun) {
			if a := x.g.call("GET", "/v2/example/timeout", "", "Grpc-Timeout", "10m"); a.status != http.StatusGatewayTimeout {
				x.Errorf("want 504, found %d %s", a.status, a.body)
			}
		}},
		{name: "TestInvalidTimeout", run: func(x *exampleRun) {
			x.failed(x.g.call("GET", "/v2/example/timeout", "", "Grpc-Timeout", "INVALID"), 400, codes.InvalidArgument, "INVALID_TIMEOUT")
		}},
		{name: "TestPostWithEmptyBody", run: func(x *exampleRun) {
			x.exactly(x.g.call("POST", "/v2/example/postwithemptybody/name", "", "Content-Type", "application/json"), "{}")
		}},
		{name: "TestUnknownPath", run: func(x *exampleRun) {
			code := codes.Unimplemented
			if x.compatible {
				code = codes.NotFound
			}
			x.failed(x.g.call("POST", "", "{}", "Content-Type", "application/json"), 404, code, "ROUTE_NOT_FOUND")
		}},
		{name: "TestNestedEnumGetQueryParams", run: func(x *exampleRun) {
			x.ok(x.g.call("GET", "/v1/example/a_bit_of_everything/params/get/nested_enum/1", ""), "ABitOfEverything", `{"singleNested":{"ok":"TRUE"}}`)
		}},
		{name: "TestABEOracle_Echo", run: func(x *exampleRun) {
			x.ok(x.g.call("GET", "/v1/example/a_bit_of_everything/echo/hello-oracle", ""), stringMessage, `{"value":"hello-oracle"}`)
		}},
		{name: "TestABEOracle_CheckStatus", run: func(x *exampleRun) {
			x.ok(x.g.call("GET", "/v1/example/checkStatus", ""), "CheckStatusResponse", `{"status":{}}`)
		}},
		{name: "TestABEOracle_CreateLookupDelete", run: func(x *exampleRun) {
			const sent = `{"stringValue":"oracle-string","int64Value":"123456789"}`
			at := "/v1/example/a_bit_of_everything/" + x.create(sent)
			x.ok(x.g.call("GET", at, ""), "ABitOfEverything", sent)
			x.exactly(x.g.call("DELETE", at, ""), "{}")
			x.failed(x.g.call("GET", at, ""), 404, codes.NotFound, "")
		}},
		{name: "TestABEOracle_DeepPathEcho", run: func(x *exampleRun) {
			a := x.g.call("POST", "/v1/example/deep_path/oracle-deep", `{"singleNested":{"amount":42}}`, "Content-Type", "application/json")
			x.ok(a, "ABitOfEverything", `{"singleNested":{"name":"oracle-deep","amount":42}}`)
		}},
	}
}

// leftCases are of another kind altogether.
func leftCases() []exampleCase {
	return []exampleCase{
		{name: `TestForwardResponseOption/testEcho(port, "v1", "application/vnd.docker.plugins.v1.1+json")`, note: isMux},
		{name: `TestForwardResponseOptionHTTPPathPattern/testEcho(port, "v1", "/v1/example/echo/{id}")`, note: isMux},
		{name: "TestABESpec_AdditionalBindings", note: isOpenAPI},
		{name: "TestABESpec_ComponentSchemas", note: isOpenAPI},
		{name: "TestABESpec_DefaultErrorResponse", note: isOpenAPI},
		{name: "TestABESpec_EnumEncoding", note: isOpenAPI},
		{name: "TestABESpec_MultiWildcardParams", note: isOpenAPI},
		{name: "TestABESpec_OneofShape", note: isOpenAPI},
		{name: "TestABESpec_PathExpansion", note: isOpenAPI},
		{name: "TestABESpec_PathItemSharing", note: isOpenAPI},
		{name: "TestOracle_SayHello", note: isGreeter},
		{name: "TestOracle_SayHello_Int32ValBinding", note: isGreeter},
	}
}
