package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/causeway-gateway/causeway/testdata/bench/benchpb"
)

// scenario is one kind of call that several candidates are measured with, side by side.
type scenario struct {
	name     string
	about    string
	many     bool // with extraRoutes methods loaded beside the called one
	latency  bool // latency is taken too
	blocking bool // the load has a goroutine per connection, as TLS needs it, for all entrants alike
	alike    bool // whatever the backend: the short form takes the first one only
	backends []string
	entrants []entrant
}

// entrant is a candidate in a scenario: how it is set up and how it is called.
type entrant struct {
	candidate string // the name of a candidate
	name      string // in the report; empty: the candidate's
	call      *call
	conns     int    // of the load; 0: as the flags say
	streams   int    // calls at once on each connection; 0: 1
	procs     int    // GOMAXPROCS; 0: as the flags say
	tls       bool   // callers speak TLS 1.3
	canned    bool   // only at the canned backend
	upstream  string // what causeway speaks to the backend: tars or trpc; empty: gRPC
}

// What the backend may speak beside gRPC, by the names of causeway's adapters.
const (
	upstreamTARS = "tars"
	upstreamTRPC = "trpc"
)

// label is the entrant's name in the report.
func (e *entrant) label() string { return cmp.Or(e.name, e.candidate) }

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

// streamed is how many messages a stream of the bench has.
const streamed = 1000

// calls are all calls of the bench.
type calls struct {
	post, get, list, fault             *call
	grpc, grpcStream, ndjson, web, con *call
	hs, rs                             *call // post with a token that counts
}

func newCalls() (*calls, error) {
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
	in, err := proto.Marshal(placeRequest())
	if err != nil {
		return nil, err
	}
	out, err := proto.Marshal(order())
	if err != nil {
		return nil, err
	}
	in, out = lengthPrefixed(in), lengthPrefixed(out)
	hs, err := hsToken()
	if err != nil {
		return nil, err
	}
	rs, err := rsToken()
	if err != nil {
		return nil, err
	}
	place, watch := benchpb.Orders_Place_FullMethodName, benchpb.Orders_Watch_FullMethodName
	return &calls{
		post:  &call{protocol: speaksREST, verb: "POST", target: "/v1/orders", body: request, status: 200, answer: answer},
		hs:    &call{protocol: speaksREST, verb: "POST", target: "/v1/orders", body: request, status: 200, answer: answer, token: hs},
		rs:    &call{protocol: speaksREST, verb: "POST", target: "/v1/orders", body: request, status: 200, answer: answer, token: rs},
		get:   &call{protocol: speaksREST, verb: "GET", target: findTarget, status: 200, answer: answer},
		list:  &call{protocol: speaksREST, verb: "POST", target: "/v1/orders:list", body: request, status: 200, answer: list},
		fault: &call{protocol: speaksREST, verb: "POST", target: "/v1/orders:cancel", body: request, status: 404, answer: fault},
		grpc:  &call{protocol: speaksGRPC, verb: "POST", target: place, body: in, status: 200, answer: out},
		grpcStream: &call{
			protocol: speaksGRPC, verb: "POST", target: watch, body: in, status: 200,
			answer: bytes.Repeat(out, streamed), messages: streamed,
		},
		ndjson: &call{
			protocol: speaksREST, verb: "POST", target: "/v1/orders:watch", accept: "application/x-ndjson", body: request, status: 200,
			answer: bytes.Repeat(append(bytes.Clone(answer), '\n'), streamed), messages: streamed,
		},
		web: &call{protocol: speaksWeb, verb: "POST", target: place, body: in, status: 200, answer: out},
		con: &call{protocol: speaksConnect, verb: "POST", target: place, body: request, status: 200, answer: answer},
	}, nil
}

// restEntrants are the candidates that a REST call is measured with.
func restEntrants(c *call) []entrant {
	return []entrant{
		{candidate: floorName, call: c},
		{candidate: peerName, call: c},
		{candidate: nginxName, call: c, canned: true},
		{candidate: causewayName, call: c},
		{candidate: causewayFullName, call: c},
	}
}

// grpcEntrants are the candidates that a gRPC call is measured with. The floor stays the HTTP/1.1 floor.
func grpcEntrants(c, floor *call, conns, streams int) []entrant {
	list := []entrant{{candidate: floorName, call: floor}}
	for _, name := range []string{nginxName, grpcPeerName, causewayName, causewayFullName} {
		list = append(list, entrant{candidate: name, call: c, conns: conns, streams: streams})
	}
	return list
}

// scenarios returns every scenario in the order of the report.
func scenarios() ([]scenario, error) {
	c, err := newCalls()
	if err != nil {
		return nil, err
	}
	both, canned := []string{"canned", "grpc-go"}, []string{"canned"}
	eight := restEntrants(c.post)
	for i := range eight {
		eight[i].conns = 8
	}
	return []scenario{
		{
			name: "post", about: fmt.Sprintf("unary POST, %d bytes of JSON in, %d out", requestBytes, answerBytes),
			latency: true, backends: both, entrants: restEntrants(c.post),
		},
		{
			name: "get", about: fmt.Sprintf("GET with 2 path and 6 query variables, %d bytes out", answerBytes),
			backends: both, entrants: restEntrants(c.get),
		},
		{
			name: "list", about: fmt.Sprintf("unary POST with a large answer, %d bytes out", len(c.list.answer)),
			alike: true, backends: both, entrants: restEntrants(c.list),
		},
		{
			name: "error", about: fmt.Sprintf("NOT_FOUND with two details, %d bytes out", len(c.fault.answer)),
			backends: both, entrants: restEntrants(c.fault),
		},
		{
			name: "routes", about: fmt.Sprintf("post with %d more methods loaded, the called one in the middle", extraRoutes),
			many: true, alike: true, backends: both, entrants: restEntrants(c.post),
		},
		{
			name: "post8", about: "post at 8 connections, the floor too", backends: canned, entrants: eight,
		},
		{
			name: "procs", about: "post at GOMAXPROCS=1 and 2", backends: canned, entrants: []entrant{
				{candidate: floorName, call: c.post},
				{candidate: causewayName, call: c.post},
				{candidate: causewayName, name: causewayTwoName, call: c.post, procs: 2},
			},
		},
		{
			name: "tls", about: "post with and without TLS 1.3, from a load with a goroutine per connection", latency: true, blocking: true,
			alike: true, backends: both, entrants: []entrant{
				{candidate: floorName, call: c.post},
				{candidate: floorName, name: floorTLSName, call: c.post, tls: true},
				{candidate: peerName, name: peerTLSName, call: c.post, tls: true},
				{candidate: causewayName, call: c.post},
				{candidate: causewayName, name: causewayTLSName, call: c.post, tls: true},
			},
		},
		{
			name: "grpc64x1", about: fmt.Sprintf("unary gRPC to gRPC, 64 connections x 1 stream, %d bytes in, %d out; the floor with post",
				len(c.grpc.body), len(c.grpc.answer)),
			latency: true, backends: both, entrants: grpcEntrants(c.grpc, c.post, 64, 1),
		},
		{
			name: "grpc8x16", about: "the same, 8 connections x 16 streams; the floor with post and as many connections as elsewhere",
			alike: true, backends: both, entrants: grpcEntrants(c.grpc, c.post, 8, 16),
		},
		{
			name: "streams", about: fmt.Sprintf("server streams of %d messages to 16 callers, the cost of one message; the floor with post", streamed),
			backends: canned, entrants: []entrant{
				{candidate: floorName, call: c.post},
				{candidate: peerName, name: peerStreamName, call: c.ndjson, conns: 16},
				{candidate: grpcPeerName, name: grpcPeerStreamName, call: c.grpcStream, conns: 16},
				{candidate: causewayName, name: causewayNDJSONName, call: c.ndjson, conns: 16},
				{candidate: causewayName, name: causewayStreamName, call: c.grpcStream, conns: 16},
			},
		},
		{
			name: "auth", about: "post with a bearer token, through jwt_auth, limit_count, metrics and access_log", backends: canned, entrants: []entrant{
				{candidate: floorName, call: c.hs},
				{candidate: causewayName, call: c.hs},
				{candidate: causewayAuthName, name: causewayHSName, call: c.hs},
				{candidate: causewayAuthName, name: causewayRSName, call: c.rs},
			},
		},
		{
			name: "faces", about: "unary, by every protocol over HTTP/1.1 that has the method", backends: canned, entrants: []entrant{
				{candidate: floorName, call: c.post},
				{candidate: causewayName, call: c.post},
				{candidate: causewayName, name: causewayWebName, call: c.web},
				{candidate: causewayName, name: causewayConnectName, call: c.con},
			},
		},
		{
			name: "protocols", about: "unary to what speaks gRPC, tRPC and TARS, from REST and from gRPC at 64 connections x 1 stream; the floor with post",
			backends: canned, entrants: []entrant{
				{candidate: floorName, call: c.post},
				{candidate: causewayName, name: causewayRESTName, call: c.post},
				{candidate: causewayName, name: causewayTRPCName, call: c.post, upstream: upstreamTRPC},
				{candidate: causewayName, name: causewayTARSName, call: c.post, upstream: upstreamTARS},
				{candidate: causewayName, name: causewayStreamName, call: c.grpc, conns: 64},
				{candidate: causewayName, name: causewayGRPCToTRPCName, call: c.grpc, conns: 64, upstream: upstreamTRPC},
			},
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
