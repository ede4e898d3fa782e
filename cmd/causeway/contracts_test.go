package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// breakWith asks the service to fail with a code and details.
func breakWith(t testing.TB, g *gatewayTest, code codes.Code, details ...*anypb.Any) answer {
	t.Helper()
	r := &echov1.BreakRequest{Code: int32(code), Message: "broken"} //nolint:gosec // a code is small
	for _, d := range details {
		r.Details = append(r.Details, &echov1.BreakRequest_Detail{TypeUrl: d.GetTypeUrl(), Value: d.GetValue()})
	}
	raw, err := protojson.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return g.call("POST", "/v1/break", string(raw))
}

func packed(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// standardDetails is one of each message that google/rpc/error_details.proto has.
var standardDetails = []proto.Message{
	&errdetails.ErrorInfo{Reason: "NO_STOCK", Domain: "shop.example", Metadata: map[string]string{"sku": "mug", "wanted": "3"}},
	&errdetails.RetryInfo{RetryDelay: durationpb.New(1500000000)},
	&errdetails.DebugInfo{StackEntries: []string{"a.go:1", "b.go:2"}, Detail: "<deep>"},
	&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: "project:7", Description: "daily limit", ApiService: "shop.example", QuotaValue: 9007199254740993}}},
	&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: "TOS", Subject: "shop.example", Description: "not accepted"}}},
	&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "items[0].sku", Description: "unknown", Reason: "NOT_FOUND", LocalizedMessage: &errdetails.LocalizedMessage{Locale: "de", Message: "unbekannt"}},
		{Field: "note"},
	}},
	&errdetails.RequestInfo{RequestId: "r-1", ServingData: "opaque"},
	&errdetails.ResourceInfo{ResourceType: "order", ResourceName: "orders/1", Owner: "user:7", Description: "gone"},
	&errdetails.Help{Links: []*errdetails.Help_Link{{Description: "Grüße", Url: "https://shop.example/help"}}},
	&errdetails.LocalizedMessage{Locale: "ja", Message: "在庫がありません"},
}

// The details of an error come decoded: those of google/rpc/error_details.proto, which the schema does not have, and those
// of the schema's own.
func TestDetailsAreDecoded(t *testing.T) {
	if n := errdetails.File_google_rpc_error_details_proto.Messages().Len(); n != len(standardDetails) {
		t.Errorf("error_details.proto has %d messages, %d are tried", n, len(standardDetails))
	}
	g, _ := startMirror(t, "")
	every := append([]proto.Message{&echov1.Sold{ItemNumber: 9007199254740993, BuyerName: "Ann"}}, standardDetails...)
	want := &statuspb.Status{Code: int32(codes.FailedPrecondition), Message: "broken"}
	for _, m := range every {
		t.Run(string(m.ProtoReflect().Descriptor().Name()), func(t *testing.T) {
			detail := packed(t, m)
			want.Details = append(want.Details, detail)
			a := breakWith(t, g, codes.FailedPrecondition, detail)
			got := &statuspb.Status{}
			if err := protojson.Unmarshal([]byte(a.body), got); a.status != 400 || err != nil {
				t.Fatalf("want 400 with google.rpc.Status, found %d %v %s", a.status, err, a.body)
			}
			if diff := cmp.Diff(&statuspb.Status{Code: want.GetCode(), Message: "broken", Details: []*anypb.Any{detail}}, got, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
	a := breakWith(t, g, codes.FailedPrecondition, want.GetDetails()...)
	got := &statuspb.Status{}
	if err := protojson.Unmarshal([]byte(a.body), got); err != nil {
		t.Fatal(err, a.body)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("all together:\n%s", diff)
	}
	if !strings.Contains(a.body, `{"@type":"type.googleapis.com/demo.echo.v1.Sold","itemNumber":"9007199254740993","buyerName":"Ann"}`) {
		t.Errorf("want the schema's own detail decoded, found %s", a.body)
	}
}

// What cannot be decoded keeps its bytes.
func TestUnknownDetailsKeepTheirBytes(t *testing.T) {
	g, _ := startMirror(t, "")
	retry := packed(t, &errdetails.RetryInfo{RetryDelay: durationpb.New(1000000000)})
	for _, tc := range []struct {
		name   string
		detail *anypb.Any
	}{
		{"a type that nobody has", &anypb.Any{TypeUrl: "type.googleapis.com/acme.Gone", Value: []byte{0, 1, 0xfe, 0xff}}},
		{"another authority", &anypb.Any{TypeUrl: "types.acme.example/google.rpc.RetryInfo", Value: retry.GetValue()}},
		{"bytes that are not of the type", &anypb.Any{TypeUrl: retry.GetTypeUrl(), Value: []byte{0x0a, 0x7f}}},
		{"no type", &anypb.Any{Value: []byte("x")}},
		{"no value", &anypb.Any{TypeUrl: "type.googleapis.com/acme.Gone"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := breakWith(t, g, codes.NotFound, packed(t, &echov1.Sold{ItemNumber: 1}), tc.detail, retry)
			var body struct{ Details []json.RawMessage }
			if err := json.Unmarshal([]byte(a.body), &body); err != nil || len(body.Details) != 3 {
				t.Fatalf("want three details, found %v %s", err, a.body)
			}
			want := fmt.Sprintf(`{"@type":%q,"value":%q}`, tc.detail.GetTypeUrl(), base64.StdEncoding.EncodeToString(tc.detail.GetValue()))
			if diff := cmp.Diff(want, string(body.Details[1])); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(string(body.Details[2]), `"retryDelay":"1s"`) {
				t.Errorf("want the detail behind it decoded, found %s", body.Details[2])
			}
		})
	}
}

// What is wrong with a request is said with its JSON path, and for a body with line and column.
func TestViolationsNameTheirPaths(t *testing.T) {
	g, backend := startMirror(t, "")
	for _, tc := range []struct {
		name, method, path, body string
		field, message           string
	}{
		{"a field", "POST", "/v1/mirror", `{"smallNumber":"x"}`, "smallNumber", "line 1 column 16: smallNumber: "},
		{"under its declared name", "POST", "/v1/mirror", `{"small_number":"x"}`, "small_number", "line 1 column 17: small_number: "},
		{"an element", "POST", "/v1/mirror", "{\n  \"tags\": [\"a\", 7]\n}", "tags[1]", "line 2 column 17: tags[1]: "},
		{"a map", "POST", "/v1/mirror", `{"labels":{"a":"b","c d":1}}`, `labels["c d"]`, `: labels["c d"]: `},
		{"below", "POST", "/v1/mirror", `{"nested":{"nested":{"flag":1}}}`, "nested.nested.flag", "line 1 column 29: nested.nested.flag: "},
		{"unknown below", "POST", "/v1/mirror", `{"nested":{"flagg":true}}`, "nested.flagg", `did you mean "flag"?`},
		{"a body that is a field", "POST", "/v1/mirror/a/nested", `{"tags":[1]}`, "nested.tags[0]", "line 1 column 10: nested.tags[0]: "},
		{"the query", "GET", "/v1/mirror?nested.small_number=x", "", "nested.smallNumber", `query`},
		{"an unknown name in the query", "GET", "/v1/mirror?nested.smal_number=1", "", "nested.smal_number", `did you mean "small_number"?`},
		{"twice in the query", "GET", "/v1/mirror?text=a&text=b", "", "text", "query"},
		{"the path", "PATCH", "/v1/items/a", `{"text":"b"}`, "item.text", "path"},
		{"the mask", "GET", "/v1/mirror?color=PINK", "", "color", "PINK"},
		{"a form", "POST", "/v1/mirror", "smallNumber=x", "smallNumber", "form"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var header []string
			if strings.HasPrefix(tc.name, "a form") {
				header = []string{"Content-Type", "application/x-www-form-urlencoded"}
			}
			a := g.call(tc.method, tc.path, tc.body, header...)
			s := &statuspb.Status{}
			if err := protojson.Unmarshal([]byte(a.body), s); a.status != 400 || err != nil {
				t.Fatalf("want 400 with google.rpc.Status, found %d %v %s", a.status, err, a.body)
			}
			if !strings.Contains(s.GetMessage(), tc.message) {
				t.Errorf("message: want %q in it, found %q", tc.message, s.GetMessage())
			}
			var bad errdetails.BadRequest
			var info errdetails.ErrorInfo
			for _, d := range s.GetDetails() {
				_, _ = d.UnmarshalTo(&bad), d.UnmarshalTo(&info) // it is one of the two
			}
			if info.GetReason() != "INVALID_REQUEST" || info.GetDomain() != "causeway" {
				t.Errorf("want ErrorInfo, found %s", a.body)
			}
			if v := bad.GetFieldViolations(); len(v) != 1 || v[0].GetField() != tc.field || v[0].GetDescription() == "" || strings.Contains(v[0].GetDescription(), "line 1") {
				t.Errorf("want one violation of %q with a description, found %s", tc.field, a.body)
			}
		})
	}
	if n := backend.Calls.Load(); n != 0 {
		t.Errorf("want the service not reached, it was %d times", n)
	}
}

func TestRetryAfter(t *testing.T) {
	g, _ := startMirror(t, "")
	retry := func(d *durationpb.Duration) *anypb.Any { return packed(t, &errdetails.RetryInfo{RetryDelay: d}) }
	after := func(seconds int64, nanos int32) *anypb.Any {
		return retry(&durationpb.Duration{Seconds: seconds, Nanos: nanos})
	}
	for _, tc := range []struct {
		name    string
		code    codes.Code
		details []*anypb.Any
		want    string
	}{
		{"503", codes.Unavailable, []*anypb.Any{after(3, 0)}, "3"},
		{"429", codes.ResourceExhausted, []*anypb.Any{after(3, 0)}, "3"},
		{"rounded up", codes.Unavailable, []*anypb.Any{after(1, 1)}, "2"},
		{"less than a second", codes.Unavailable, []*anypb.Any{after(0, 1)}, "1"},
		{"at once", codes.Unavailable, []*anypb.Any{after(0, 0)}, "0"},
		{"no detail", codes.Unavailable, nil, ""},
		{"a detail without a delay", codes.Unavailable, []*anypb.Any{retry(nil)}, ""},
		{"negative", codes.Unavailable, []*anypb.Any{after(-3, 0)}, ""},
		{"a little negative", codes.Unavailable, []*anypb.Any{after(0, -1)}, ""},
		{"negative by both", codes.Unavailable, []*anypb.Any{after(-1, -5)}, ""},
		{"for ever", codes.Unavailable, []*anypb.Any{after(315576000000, 0)}, ""},
		{"beyond any clock", codes.Unavailable, []*anypb.Any{after(9223372036854775807, 999999999)}, ""},
		{"the first of two", codes.Unavailable, []*anypb.Any{after(5, 0), after(9, 0)}, "5"},
		{"the first that can be", codes.Unavailable, []*anypb.Any{retry(nil), after(-1, 0), after(9, 0)}, "9"},
		{"behind another", codes.ResourceExhausted, []*anypb.Any{packed(t, &errdetails.ErrorInfo{Reason: "x"}), after(4, 0)}, "4"},
		{"broken bytes", codes.Unavailable, []*anypb.Any{{TypeUrl: "type.googleapis.com/google.rpc.RetryInfo", Value: []byte{0x0a, 0x7f}}}, ""},
		{"a type that ends alike", codes.Unavailable, []*anypb.Any{{TypeUrl: "type.googleapis.com/x.google.rpc.RetryInfo", Value: after(4, 0).GetValue()}}, ""},
		{"another status", codes.Aborted, []*anypb.Any{after(3, 0)}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := breakWith(t, g, tc.code, tc.details...)
			if got := strings.Join(a.header.Values("Retry-After"), ", "); got != tc.want {
				t.Errorf("Retry-After: want %q, found %q: %d %s", tc.want, got, a.status, a.body)
			}
		})
	}
}

// Each reason to refuse a request, with the service not reached.
func TestRefusedRequestsDoNotReachTheService(t *testing.T) {
	g, backend := startMirror(t, `limits: {translation_bytes: 60000}
routes:
  - {name: small, hosts: [small.test], service: mirror, methods: ['demo.echo.v1.Mirror/*'], max_body: 100}
  - {name: all, service: mirror, methods: ['demo.echo.v1.Mirror/*']}
`)
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	small := []string{"Host", "small.test"}
	for _, c := range []exchangeCase{
		{"JSON", "POST", "/v1/mirror", `{"text":`, nil, 400, []string{"INVALID_REQUEST"}, nil},
		{"path that JSON goes against", "PUT", "/v1/mirror/a", `{"text":"b"}`, nil, 400, []string{"INVALID_REQUEST"}, nil},
		{"path that is ambiguous", "PUT", "/v1/mirror/..", `{}`, nil, 400, []string{"INVALID_PATH"}, nil},
		{"path that does not fit", "GET", "/v1/downloads/many", ``, nil, 400, []string{"INVALID_REQUEST", "size"}, nil},
		{"query", "GET", "/v1/mirror?nope=1", ``, nil, 400, []string{"INVALID_REQUEST"}, nil},
		{"query beside a body that is the whole", "POST", "/v1/mirror?text=a", `{}`, nil, 400, []string{"INVALID_REQUEST"}, nil},
		{"query that is badly encoded", "GET", "/v1/mirror?text=%zz", ``, nil, 400, []string{"INVALID_REQUEST"}, nil},
		{"form", "POST", "/v1/mirror", `smallNumber=x`, form, 400, []string{"INVALID_REQUEST"}, nil},
		{"form with an unknown name", "POST", "/v1/mirror", `smalNumber=1`, form, 400, []string{"INVALID_REQUEST", "did you mean"}, nil},
		{"mask", "PATCH", "/v1/items/a?update_mask=..", `{}`, nil, 400, []string{"INVALID_REQUEST"}, nil},
		{"body for a rule without one", "GET", "/v1/mirror", `{"text":"a"}`, nil, 400, []string{"INVALID_REQUEST", "takes no body"}, nil},
		{"content type", "POST", "/v1/mirror", `{}`, []string{"Content-Type", "text/plain"}, 415, []string{"UNSUPPORTED_MEDIA_TYPE"}, nil},
		{"encoding", "POST", "/v1/mirror", `{}`, []string{"Content-Encoding", "gzip"}, 415, []string{"UNSUPPORTED_ENCODING"}, nil},
		{"encoding behind another", "POST", "/v1/mirror", `{}`, []string{"Content-Encoding", "identity", "Content-Encoding", "gzip"}, 415, []string{"UNSUPPORTED_ENCODING"}, nil},
		{"encoding of a raw body", "POST", "/v1/uploads", "\x1f\x8b", []string{"Content-Encoding", "gzip"}, 415, []string{"UNSUPPORTED_ENCODING"}, nil},
		{"content type that is no text", "POST", "/v1/uploads", "x", []string{"Content-Type", "text/\xff"}, 400, []string{"INVALID_REQUEST"}, nil},
		{"too large", "POST", "/v1/mirror", `{"text":"` + strings.Repeat("x", 100) + `"}`, small, 413, []string{"BODY_TOO_LARGE", "100 bytes"}, nil},
		{"raw and too large", "POST", "/v1/uploads", strings.Repeat("x", 101), small, 413, []string{"BODY_TOO_LARGE"}, nil},
		{"form and too large", "POST", "/v1/mirror", "text=" + strings.Repeat("x", 100), append(form, small...), 413, []string{"BODY_TOO_LARGE"}, nil},
		{"budget", "POST", "/v1/mirror", `{"text":"` + strings.Repeat("x", 60000) + `"}`, nil, 503, []string{"TRANSLATION_BUDGET"}, nil},
		{"budget of body and message", "POST", "/v1/mirror", `{"text":"` + strings.Repeat("x", 40000) + `"}`, nil, 503, []string{"TRANSLATION_BUDGET"}, nil},
		{"nesting", "POST", "/v1/mirror", strings.Repeat(`{"nested":`, 101) + "{}" + strings.Repeat("}", 101), nil, 400, []string{"INVALID_REQUEST", "100 levels"}, nil},
		{"timeout", "POST", "/v1/mirror", `{}`, []string{"Grpc-Timeout", "soon"}, 400, []string{"INVALID_TIMEOUT"}, nil},
		{"metadata", "POST", "/v1/mirror", `{}`, []string{"Grpc-Metadata-X-Bin", "***"}, 400, []string{"INVALID_METADATA"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, g, backend) })
	}
	if a := g.call("POST", "/v1/mirror", `{"text":"`+strings.Repeat("x", 60000)+`"}`); a.header.Get("Retry-After") != "1" {
		t.Errorf("the budget: want Retry-After: 1, found %q", a.header.Get("Retry-After"))
	}
	// What was refused holds nothing of the budget.
	if a := g.call("POST", "/v1/mirror", `{"text":"`+strings.Repeat("x", 14000)+`"}`); a.status != 200 {
		t.Errorf("after them: want 200, found %d %.200s", a.status, a.body)
	}
	if n := backend.Calls.Load(); n != 1 {
		t.Errorf("want the service reached once, it was %d times", n)
	}
}

// The limits that a route has where nothing is said of them. What is beyond one is refused before it costs more, and what is
// just within it is served.
func TestLimitsByDefault(t *testing.T) {
	g, backend := startMirror(t, "")
	post := func(name, body string, status int, want ...string) exchangeCase {
		return exchangeCase{name: name, method: "POST", path: "/v1/mirror", body: body, status: status, want: want}
	}
	filled := func(size int) string { return `{"text":"` + strings.Repeat("x", size-len(`{"text":""}`)) + `"}` }
	nested := func(levels int) string {
		return strings.Repeat(`{"nested":`, levels-1) + "{}" + strings.Repeat("}", levels-1)
	}
	tags := func(n int) string { return `{"tags":[""` + strings.Repeat(`,""`, n-2) + `]}` } // the field is an element too
	for _, c := range []exchangeCase{
		post("4 MiB", filled(4<<20), 200, filled(4<<20)),
		post("a byte more", filled(4<<20+1), 413, "BODY_TOO_LARGE", "4194304 bytes"),
		post("100 levels", nested(100), 200, nested(100)),
		post("a level more", nested(101), 400, "100 levels"),
		post("100,000 elements", tags(100_000), 200, tags(100_000)),
		post("an element more", tags(100_001), 400, "more than 100000 fields and elements"),
		post("a number of 64 bytes", `{"ratio":1.`+strings.Repeat("0", 62)+`}`, 200, `{"ratio":1}`),
		post("a byte more of a number", `{"ratio":1.`+strings.Repeat("0", 63)+`}`, 400, "ratio", "a number of at most 64 bytes"),
		post("no UTF-8", "{\"text\":\"\xc3(\"}", 400, "UTF-8"),
		post("a key twice", `{"labels":{"a":"1","\u0061":"2"}}`, 400, "labels[", "is given twice"),
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, g, backend) })
	}
}

// An answer that is beyond the budget is 503, too: the service has run the call, and the caller learns that much.
func TestAnswersBeyondTheBudget(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "limits: {translation_bytes: 60000}\n", backend.Address)
	for fill, status := range map[int]int{20000: 200, 40000: 503, 100000: 503} {
		if a := g.call("POST", "/v1/echo", fmt.Sprintf(`{"fill":%d}`, fill)); a.status != status {
			t.Errorf("an answer of %d bytes: want %d, found %d %.200s", fill, status, a.status, a.body)
		}
	}
	// The last bytes are given back when the answer is out, which its caller may see before.
	waitFor(t, "nothing to be held after them", func() bool {
		return strings.Contains(g.control("GET", "/metrics", nil).body, "\ncauseway_translation_bytes 0\n")
	})
}

// What a service sends behind its answer is not lost: it comes as HTTP trailers to callers of grpc-gateway's kind who take
// them, where there is room for them, and as headers else.
func TestTrailers(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	routes := "routes: [{name: plain, hosts: [plain.test], service: echo, methods: ['demo.echo.v1.Echo/*']}, " +
		"{name: gateway, hosts: [gateway.test], service: echo, methods: ['demo.echo.v1.Echo/*'], rest: {compatibility: grpc_gateway}}]\n"
	g := startEcho(t, routes, backend.Address)
	for _, tc := range []struct {
		name, method, proto, host, te string
		trailer                       bool
	}{
		{"asked for", "GET", "HTTP/1.1", "gateway.test", "TE: trailers\r\n", true},
		{"asked for among others", "GET", "HTTP/1.1", "gateway.test", "TE: gzip;q=0.5, Trailers\r\n", true},
		{"asked for in a second field", "GET", "HTTP/1.1", "gateway.test", "TE: gzip\r\nTE: trailers\r\n", true},
		{"not asked for", "GET", "HTTP/1.1", "gateway.test", "", false},
		{"something else asked for", "GET", "HTTP/1.1", "gateway.test", "TE: no-trailers\r\n", false},
		{"HEAD has no body that they could follow", "HEAD", "HTTP/1.1", "gateway.test", "TE: trailers\r\n", false},
		{"HTTP/1.0 has none", "GET", "HTTP/1.0", "gateway.test", "TE: trailers\r\n", false},
		{"without the conventions", "GET", "HTTP/1.1", "plain.test", "TE: trailers\r\n", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://")) //nolint:noctx // on loopback
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "%s /v1/echo/x %s\r\nHost: %s\r\n%sConnection: close\r\n\r\n", tc.method, tc.proto, tc.host, tc.te); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: tc.method})
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.ReadAll(resp.Body); err != nil {
				t.Fatal(err)
			}
			const name = "Grpc-Trailer-X-Cost"
			here, there := resp.Header, resp.Trailer
			if tc.trailer {
				here, there = there, here
			}
			if here.Get(name) != "3" || there.Get(name) != "" {
				t.Errorf("want it as a trailer: %v, found header %v, trailer %v", tc.trailer, resp.Header, resp.Trailer)
			}
		})
	}
}

// grepLines are the lines of a text that have a word in them.
func grepLines(text, word string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			out.WriteString(line)
		}
	}
	return out.String()
}
