package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/causeway-gateway/causeway/testdata/bench/benchpb"
)

// scenario is one kind of call that every candidate is measured with.
type scenario struct {
	name   string
	about  string
	verb   string
	target string // path and query
	body   []byte
	status int    // HTTP status of the right answer
	answer []byte // compact JSON of the right answer
	many   bool   // with extraRoutes methods loaded beside the called one
	tls    bool   // callers speak TLS 1.3
}

// extraRoutes is how many annotated methods are loaded beside the called one in the scenario "routes".
const extraRoutes = 10_000

// The size of the unary request and answer as compact JSON, in bytes.
const (
	requestBytes = 199
	answerBytes  = 331
)

func placeRequest() *benchpb.PlaceRequest {
	return &benchpb.PlaceRequest{
		OrderId:  "ord-7f3a91c2-55d0",
		Sequence: 9007199254740993,
		Total:    1284.5,
		Buyer:    &benchpb.Buyer{Name: "Zoë Brandt", Email: "zoe@example.com", Level: 3},
		Tags:     []string{"gift", "fragile", "next-day-van"},
		Express:  true,
	}
}

func findRequest() *benchpb.FindRequest {
	return &benchpb.FindRequest{
		Shop:     "harbour-12",
		Order:    &benchpb.OrderKey{Id: "ord-7f3a91c2-55d0", Region: "eu-north"},
		PageSize: 50,
		Filter:   "state = shipped",
		Tags:     []string{"gift", "fragile"},
		Deep:     true,
	}
}

const findTarget = "/v1/shops/harbour-12/orders/ord-7f3a91c2-55d0" +
	"?order.region=eu-north&pageSize=50&filter=state%20%3D%20shipped&tags=gift&tags=fragile&deep=true"

func order() *benchpb.Order {
	return &benchpb.Order{
		OrderId:  "ord-7f3a91c2-55d0",
		Sequence: 9007199254740993,
		State:    benchpb.State_STATE_SHIPPED,
		Total:    1284.5,
		Buyer:    &benchpb.Buyer{Name: "Zoë Brandt", Email: "zoe@example.com", Level: 3},
		Items: []*benchpb.Item{
			{Sku: "SKU-100381", Count: 2, Price: 499.25},
			{Sku: "SKU-200773", Count: 1, Price: 286},
		},
		Tags: []string{"gift", "fragile"},
		Note: "leave it at \"the blue door\"",
	}
}

// listReply is about 10 KB as JSON: the usual answer 30 times.
func listReply() *benchpb.ListReply {
	reply := &benchpb.ListReply{NextPageToken: "b3JkLTdmM2E5MWMyLTU1ZDA"}
	for i := range 30 {
		o := order()
		o.OrderId = fmt.Sprintf("ord-7f3a91c2-%04d", i)
		o.Sequence += int64(i)
		reply.Orders = append(reply.Orders, o)
	}
	return reply
}

// missing is the error answer: NOT_FOUND with two details.
func missing() (*status.Status, error) {
	return status.New(codes.NotFound, "order ord-7f3a91c2-55d0 was not found in shop harbour-12").WithDetails(
		&errdetails.ErrorInfo{
			Reason:   "ORDER_MISSING",
			Domain:   "orders.example.com",
			Metadata: map[string]string{"shop": "harbour-12"},
		},
		&benchpb.OrderMissing{
			OrderId: "ord-7f3a91c2-55d0",
			Retry:   &errdetails.RetryInfo{RetryDelay: durationpb.New(2_500_000_000)},
		},
	)
}

// scenarios returns every scenario in the order of the report.
func scenarios() ([]scenario, error) {
	request, err := compactJSON(placeRequest())
	if err != nil {
		return nil, err
	}
	if len(request) != requestBytes {
		return nil, fmt.Errorf("the request is %d bytes of JSON, want %d: %s", len(request), requestBytes, request)
	}
	answer, err := compactJSON(order())
	if err != nil {
		return nil, err
	}
	if len(answer) != answerBytes {
		return nil, fmt.Errorf("the answer is %d bytes of JSON, want %d: %s", len(answer), answerBytes, answer)
	}
	list, err := compactJSON(listReply())
	if err != nil {
		return nil, err
	}
	st, err := missing()
	if err != nil {
		return nil, err
	}
	fault, err := compactJSON(st.Proto())
	if err != nil {
		return nil, err
	}
	return []scenario{
		{
			name: "post", about: fmt.Sprintf("unary POST, %d bytes of JSON in, %d out", len(request), len(answer)),
			verb: "POST", target: "/v1/orders", body: request, status: 200, answer: answer,
		},
		{
			name: "get", about: fmt.Sprintf("GET with 2 path and 6 query variables, %d bytes out", len(answer)),
			verb: "GET", target: findTarget, status: 200, answer: answer,
		},
		{
			name: "list", about: fmt.Sprintf("unary POST with a large answer, %d bytes out", len(list)),
			verb: "POST", target: "/v1/orders:list", body: request, status: 200, answer: list,
		},
		{
			name: "error", about: fmt.Sprintf("NOT_FOUND with two details, %d bytes out", len(fault)),
			verb: "POST", target: "/v1/orders:cancel", body: request, status: 404, answer: fault,
		},
		{
			name: "routes", about: fmt.Sprintf("post with %d more methods loaded, the called one in the middle", extraRoutes),
			verb: "POST", target: "/v1/orders", body: request, status: 200, answer: answer, many: true,
		},
		{
			name: "tls", about: "post over TLS 1.3",
			verb: "POST", target: "/v1/orders", body: request, status: 200, answer: answer, tls: true,
		},
	}, nil
}

// compactJSON is ProtoJSON without the spaces that protojson puts in at random.
func compactJSON(m proto.Message) ([]byte, error) {
	text, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := json.Compact(&buf, text); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// sameJSON compares two JSON texts by what they say: both are decoded and encoded again with sorted keys.
func sameJSON(got, want []byte) error {
	g, err := canonical(got)
	if err != nil {
		return fmt.Errorf("the answer is not JSON: %w: %q", err, got)
	}
	w, err := canonical(want)
	if err != nil {
		return err
	}
	if !bytes.Equal(g, w) {
		return fmt.Errorf("the answer differs\n got %s\nwant %s", g, w)
	}
	return nil
}

func canonical(text []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // 1284.5 stays 1284.5
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("more than one value")
	}
	return json.Marshal(v)
}

// timeoutHeader is the name of the deadline header that a candidate reads, with the value's parts around the six digits
// that differ from call to call.
type timeoutHeader struct{ name, before, after string }

// request is one pre-built HTTP/1.1 request. The load writes new digits at `timeout` and new hexadecimal at `trace` and
// `span` before each call, as no two calls of a real client are the same there.
type request struct {
	bytes                []byte
	timeout, trace, span int
}

// newRequest builds the request with a realistic head: host, user agent, accept, content type, a 300-byte token, a
// deadline and a trace context.
func newRequest(sc *scenario, host string, timeout timeoutHeader) request {
	var (
		b strings.Builder
		r request
	)
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", sc.verb, sc.target)
	fmt.Fprintf(&b, "Host: %s\r\n", host)
	b.WriteString("User-Agent: orders-app/5.14.2 (Android 16; Pixel 9)\r\nAccept: application/json\r\n")
	if sc.body != nil {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(sc.body))
	}
	fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", strings.Repeat("eyJhbGciOiJIUzI1NiJ9.", 14)+"signature")
	fmt.Fprintf(&b, "%s: %s", timeout.name, timeout.before)
	r.timeout = b.Len()
	fmt.Fprintf(&b, "000000%s\r\n", timeout.after)
	b.WriteString("Traceparent: 00-")
	r.trace = b.Len()
	b.WriteString(strings.Repeat("0", 32) + "-")
	r.span = b.Len()
	b.WriteString(strings.Repeat("0", 16) + "-01\r\n\r\n")
	b.Write(sc.body)
	r.bytes = []byte(b.String())
	return r
}

// clone copies the request for one connection.
func (r request) clone() request {
	r.bytes = bytes.Clone(r.bytes)
	return r
}

// vary gives the request new deadline digits and a new trace context made from the random words a, b and c.
func (r *request) vary(a, b, c uint64) {
	n := a % 1_000_000
	for i := 5; i >= 0; i-- {
		r.bytes[r.timeout+i] = byte('0' + n%10)
		n /= 10
	}
	putHex(r.bytes[r.trace:], a)
	putHex(r.bytes[r.trace+16:], b)
	putHex(r.bytes[r.span:], c|1) // an all-zero span id is not valid
}

func putHex(dst []byte, v uint64) {
	const digits = "0123456789abcdef"
	for i := range 16 {
		dst[15-i] = digits[v&15]
		v >>= 4
	}
}
