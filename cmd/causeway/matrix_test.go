package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/tarskit"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// kindsGateway is a gateway before a backend of one protocol, with listeners for all.
type kindsGateway struct {
	*gatewayTest
	out     string
	backend *kindsBackend
	schema  *schema.Schema
}

// kindsOptions are the options of a service by its protocol, and its adapter.
var kindsOptions = map[string][2]string{
	"gRPC": {"grpc", ""},
	"TARS": {"tars", ", options: {servant: " + kindsServant + ", one_way: [Safe]}"},
	"tRPC": {"trpc", ", options: {one_way: [Safe]}"},
}

// kindsDocument is its configuration; methods are those that there are, and options the service's.
func kindsDocument(t testing.TB, out, options, address string, methods ...string) string {
	t.Helper()
	dir := t.TempDir()
	set := descriptors.Set(adaptertest.File(t))
	own := set.GetFile()[len(set.GetFile())-1].GetService()[0]
	own.Method = slices.DeleteFunc(own.GetMethod(), func(m *descriptorpb.MethodDescriptorProto) bool {
		return !slices.Contains(methods, "/test.v1.Kinds/"+m.GetName())
	})
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/kinds.binpb", raw)
	var routes strings.Builder
	for _, m := range methods {
		m = m[1:]
		_, name, _ := strings.Cut(m, "/")
		fmt.Fprintf(&routes, "  - {name: %s, service: kinds, http: {method: %s, post: /v1/kinds/%[1]s, body: \"*\"}}\n", strings.ToLower(name), m)
		if name == "Unary" && address != "127.0.0.1:1" {
			fmt.Fprintf(&routes, "  - {name: gone, service: gone, headers: [{name: x-gone, exact: \"1\"}], http: {method: %s, post: /v1/kinds/%s, body: \"*\"}}\n", m, strings.ToLower(name))
		}
	}
	adapter := kindsOptions[out][0]
	return fmt.Sprintf(`listen:
  - {address: "127.0.0.1:0"}
  - {address: "127.0.0.1:0", protocol: tars, options: {servants: [{name: %s, service: test.v1.Kinds}]}}
  - {address: "127.0.0.1:0", protocol: trpc}
admin: {address: "127.0.0.1:0"}
schemas: [{name: kinds, descriptor_set: %s/kinds.binpb}]
services:
  - {name: kinds, schema: kinds, serves: [test.v1.Kinds], adapter: %s, endpoints: [{address: %q}]%s}
  - {name: gone, schema: kinds, serves: [test.v1.Kinds], adapter: %s, endpoints: [{address: "127.0.0.1:1"}]%s}
routes:
%splugins: [{name: metrics}]
`, kindsServant, dir, adapter, address, options, adapter, kindsOptions[out][1], &routes)
}

var kindsMethods = []string{adaptertest.Unary, adaptertest.Safe, adaptertest.Server, adaptertest.Client, adaptertest.Bidi}

func startKindsGateway(t testing.TB, out string) *kindsGateway {
	t.Helper()
	g := &kindsGateway{out: out, schema: adaptertest.Schema(t)}
	g.backend = startKinds(t, out, g.schema)
	methods := kindsMethods
	if out == "TARS" {
		methods = methods[:2]
	}
	g.gatewayTest = startGateway(t, kindsDocument(t, out, kindsOptions[out][1], g.backend.address, methods...))
	return g
}

// asked is a call of a method.
func (g *kindsGateway) asked(t testing.TB, method string, in ...*adaptertest.Message) kindsAsked {
	t.Helper()
	return kindsAsked{schema: g.schema, method: adaptertest.Method(t, g.schema, method), in: in}
}

// reached waits until the backend has had a call, and gives it.
func (g *kindsGateway) reached(t testing.TB) kindsCall {
	t.Helper()
	var calls []kindsCall
	waitFor(t, "the backend to have the call", func() bool { calls = append(calls, g.backend.take()...); return len(calls) > 0 })
	if len(calls) != 1 {
		t.Errorf("the backend was called %d times", len(calls))
	}
	return calls[0]
}

// untouched fails if the backend was called.
func (g *kindsGateway) untouched(t testing.TB) {
	t.Helper()
	if calls := g.backend.take(); len(calls) != 0 {
		t.Errorf("the backend was called: %v", calls)
	}
}

// kind is a column of the matrix.
type kind struct {
	name   string
	method string // "": several
	test   func(t *testing.T, g *kindsGateway, in kindsCaller)
}

var kinds = []kind{
	{"unary", adaptertest.Unary, answers(adaptertest.Unary)},
	{"server stream", adaptertest.Server, answers(adaptertest.Server)},
	{"client stream", adaptertest.Client, answers(adaptertest.Client)},
	{"bidi", adaptertest.Bidi, answers(adaptertest.Bidi)},
	{"one-way", adaptertest.Safe, passesOneWay},
	{"error", "", passesErrors},
	{"deadline", "", passesDeadline},
	{"cancel", "", passesCancel},
	{"large", "", passesLarge},
	{"metadata", "", passesMetadata},
}

// Every protocol that calls come by, to every one that services speak, with every kind of call: it passes, or it is refused
// when the configuration is loaded, or it has no name on the listener; and the reason is told.
func TestMatrix(t *testing.T) {
	t.Parallel()
	for _, out := range []string{"gRPC", "TARS", "tRPC"} {
		g := startKindsGateway(t, out)
		for _, in := range kindsCallers {
			for _, k := range kinds {
				t.Run(fmt.Sprintf("%s to %s/%s", in.name, out, k.name), func(t *testing.T) {
					defer g.untouched(t)
					if !refused(t, g, in, k) {
						k.test(t, g, in)
					}
				})
			}
		}
	}
}

// refused tells whether a cell is refused, and holds the reason against what it has to be.
func refused(t *testing.T, g *kindsGateway, in kindsCaller, k kind) bool {
	t.Helper()
	var m *schema.Method
	if k.method != "" {
		m = adaptertest.Method(t, g.schema, k.method)
	}
	streams := m != nil && m.Kind != schema.Unary
	none := ""
	if streams {
		none = fmt.Sprintf("%s is a %s, and TARS has none", m.Name, m.Kind)
	}
	switch own := in.name == "TARS" || in.name == "tRPC"; {
	case streams && g.out == "TARS":
		refusedAtLoad(t, kindsDocument(t, "TARS", kindsOptions["TARS"][1], "127.0.0.1:1", k.method), `service "kinds"`, none)
	case streams && in.name == "TARS":
		if _, err := (tars.Inlet{}).Bind(m, nil); err == nil || err.Error() != none {
			t.Errorf("want %s, found %v", none, err)
		}
		nc, err := net.Dial("tcp", g.gateway.Addresses()[1]) //nolint:noctx // the test's own
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		c := &tarskit.Client{Conn: nc}
		if a, err := c.Call(tarskit.Packet{Servant: kindsServant, Function: string(m.Desc.Name()), Body: []byte{1<<4 | 10, 11}}); err != nil || a.Ret != -3 {
			t.Errorf("want no such function, found %+v %v", a, err)
		}
	case k.name == "one-way" && g.out == "gRPC" && !own:
		refusedAtLoad(t, kindsDocument(t, "gRPC", ", options: {one_way: [Safe]}", "127.0.0.1:1", k.method), "services[0].options", "grpc")
	default:
		return false
	}
	return true
}

func refusedAtLoad(t *testing.T, text string, parts ...string) {
	t.Helper()
	_, err := tryGateway(t, t.TempDir(), text)
	if err == nil {
		t.Fatalf("want the configuration refused with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("want the configuration refused with %q, found %v", p, err)
		}
	}
}

// answers holds an answer against what the backend makes of a call.
func answers(method string) func(t *testing.T, g *kindsGateway, in kindsCaller) {
	return func(t *testing.T, g *kindsGateway, in kindsCaller) {
		one := &adaptertest.Message{Text: "grün", Data: []byte{0, 255}, Number: 3, Fill: -1}
		requests, want := []*adaptertest.Message{one}, []*adaptertest.Message{one}
		switch method {
		case adaptertest.Server:
			want = []*adaptertest.Message{one, one, one}
		case adaptertest.Client:
			requests, want = []*adaptertest.Message{{Text: "a"}, {Text: "b"}, {Text: "c"}}, []*adaptertest.Message{{Text: "a b c", Number: 3}}
		case adaptertest.Bidi:
			requests = []*adaptertest.Message{{Text: "a"}, one, {Text: "c", Number: -1}}
			want = requests
		}
		got := in.call(t.Context(), t, g.gatewayTest, g.asked(t, method, requests...))
		if got.failed {
			t.Fatalf("%s %s", got.code, got.text)
		}
		if d := cmp.Diff(want, got.out, protocmp.Transform()); d != "" {
			t.Errorf("answers (-want +got):\n%s", d)
		}
		if c := g.reached(t); c.method != method {
			t.Errorf("the backend was asked for %s", c.method)
		}
	}
}

// passesOneWay: the request arrives, and nobody waits for an answer.
func passesOneWay(t *testing.T, g *kindsGateway, in kindsCaller) {
	a := g.asked(t, adaptertest.Safe, &adaptertest.Message{Text: "note"})
	a.oneWay = true
	got := in.call(t.Context(), t, g.gatewayTest, a)
	if got.failed || len(got.out) > 0 && !cmp.Equal(got.out[0], &adaptertest.Message{}, protocmp.Transform()) {
		t.Errorf("want an empty answer at most, found %+v", got)
	}
	if c := g.reached(t); c.method != adaptertest.Safe {
		t.Errorf("the backend was asked for %s", c.method)
	}
}

// passesErrors: numbers of the application stay what they are, those of frameworks are translated, and an instance that is not
// there is unavailable.
func passesErrors(t *testing.T, g *kindsGateway, in kindsCaller) {
	call := func(text string, header ...rpc.Pair) kindsGot {
		t.Helper()
		a := g.asked(t, adaptertest.Unary, &adaptertest.Message{Text: text})
		a.header = header
		got := in.call(t.Context(), t, g.gatewayTest, a)
		if !got.failed {
			t.Fatalf("%s: want an error, found %+v", text, got)
		}
		return got
	}
	own := in.name == "TARS" || in.name == "tRPC"
	got := call("fail")
	g.reached(t)
	number, code, status, domain, reason := int32(failNumber), codes.Unknown, 500, kindsOptions[g.out][0], "BUSINESS"
	if g.out == "gRPC" {
		number, code, status, domain, reason = int32(failCode), failCode, 404, "test", "ASKED"
	}
	if own { // what they are told is a number and a text
		code, domain, reason = codes.Unknown, strings.ToLower(in.name), "BUSINESS"
		if got.native != number {
			t.Errorf("want the number %d, found %d", number, got.native)
		}
	}
	if got.code != code || got.text != failText || got.info.GetDomain() != domain || got.info.GetReason() != reason || in.name == "REST" && got.status != status {
		t.Errorf("want %s %q with %s of %s, found %+v", code, failText, reason, domain, got)
	}
	if n := strconv.Itoa(failNumber); g.out != "gRPC" && !own && (got.info.GetMetadata()["code"] != n || got.header.Get(kindsOptions[g.out][0]+map[string]string{"TARS": "-ret", "tRPC": "-func-ret"}[g.out]) != n) {
		t.Errorf("want the number %s beside it, found %+v", n, got)
	}

	// A stream ends with it as well.
	if g.out != "TARS" && in.name != "TARS" {
		got := in.call(t.Context(), t, g.gatewayTest, g.asked(t, adaptertest.Server, &adaptertest.Message{Text: "fail", Number: 3}))
		if !got.failed || len(got.out) > 0 || got.code != code || got.text != failText || own && got.native != number || got.info.GetReason() != reason {
			t.Errorf("a stream: want %s %q, found %+v", code, failText, got)
		}
		g.reached(t)
	}

	// The framework's, as each protocol has them.
	for code, numbers := range map[codes.Code]map[string]int32{
		codes.Unimplemented:    {"TARS": -3, "tRPC": 12},
		codes.Internal:         {"TARS": -99, "tRPC": 31},
		codes.DeadlineExceeded: {"TARS": -7, "tRPC": 21},
	} {
		got := call(fmt.Sprintf("refuse %d", code))
		g.reached(t)
		if g.out == "gRPC" && own && code == codes.Internal { // a status that services of gRPC give themselves, too
			if got.native != int32(code) || got.info.GetReason() != "BUSINESS" {
				t.Errorf("refused with %s: want %d, found %+v", code, code, got)
			}
			continue
		}
		if got.code != code || got.info.GetReason() == "BUSINESS" || own && got.native != numbers[in.name] {
			t.Errorf("refused with %s: found %+v", code, got)
		}
	}

	got = call("hello", rpc.Pair{Key: "x-gone", Value: "1"})
	if got.code != codes.Unavailable || in.name == "REST" && got.status != 503 || in.name == "TARS" && got.native != -8 && got.native != -10 || in.name == "tRPC" && got.native != 111 && got.native != 131 {
		t.Errorf("no instance: found %+v", got)
	}
}

// passesDeadline: the backend is told how long the caller waits, and the call ends then on both sides.
func passesDeadline(t *testing.T, g *kindsGateway, in kindsCaller) {
	before := g.backend.told.Load()
	for timeout := 100 * time.Millisecond; ; timeout *= 3 {
		a := g.asked(t, adaptertest.Unary, &adaptertest.Message{Text: "wait"})
		a.timeout = timeout
		got := in.call(t.Context(), t, g.gatewayTest, a)
		if !got.failed || got.code != codes.DeadlineExceeded || in.name == "REST" && got.status != 504 {
			t.Fatalf("want the deadline exceeded, found %+v", got)
		}
		waitFor(t, "the end of the call at the backend", func() bool { return g.backend.waiting.Load() == 0 })
		calls := g.backend.take()
		// On a busy machine a call takes longer than that to get there, or comes when the next is made already.
		late := func(c kindsCall) bool { return c.left < 0 }
		if calls = slices.DeleteFunc(calls, late); len(calls) == 0 && timeout < 10*time.Second {
			continue
		}
		if len(calls) == 0 || slices.ContainsFunc(calls, func(c kindsCall) bool { return c.left == 0 || c.left > timeout }) {
			t.Fatalf("want a call with at most %s left, found %+v", timeout, calls)
		}
		waitFor(t, "the backend to be told", func() bool { return g.backend.told.Load() > before })
		return
	}
}

// passesCancel: who has left holds nothing in the gateway, and the backend is told where its protocol can: TARS cannot, and tRPC
// can in streams.
func passesCancel(t *testing.T, g *kindsGateway, in kindsCaller) {
	method, tells := adaptertest.Unary, g.out == "gRPC"
	if g.out == "tRPC" && in.name != "TARS" {
		method, tells = adaptertest.Bidi, true
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	before := g.backend.told.Load()
	done := make(chan kindsGot, 1)
	go func() { done <- in.call(ctx, t, g.gatewayTest, g.asked(t, method, &adaptertest.Message{Text: "wait"})) }()
	waitFor(t, "the call at the backend", func() bool { return g.backend.waiting.Load() == 1 })
	cancel()
	if got := <-done; !got.failed || got.code != codes.Canceled {
		t.Errorf("want it cancelled, found %+v", got)
	}
	waitFor(t, "the gateway to have forgotten the call", func() bool {
		for line := range strings.Lines(g.control("GET", "/metrics", nil).body) {
			if strings.HasPrefix(line, "causeway_requests_in_flight{") && !strings.HasSuffix(line, " 0\n") {
				return false
			}
		}
		return true
	})
	if tells {
		waitFor(t, "the backend to be told", func() bool { return g.backend.told.Load() == before+1 })
	} else {
		if g.backend.told.Load() != before || g.backend.waiting.Load() != 1 {
			t.Errorf("want the backend to wait on: there is no way to tell it")
		}
		g.backend.letGo()
		waitFor(t, "the backend's call to end", func() bool { return g.backend.waiting.Load() == 0 })
	}
	g.reached(t)
}

// passesLarge: a megabyte there and back, which on a stream is more than the windows of tRPC.
func passesLarge(t *testing.T, g *kindsGateway, in kindsCaller) {
	data := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data) // it never fails
	methods := []string{adaptertest.Unary}
	if g.out != "TARS" && in.name != "TARS" {
		methods = append(methods, adaptertest.Bidi)
	}
	for _, method := range methods {
		got := in.call(t.Context(), t, g.gatewayTest, g.asked(t, method, &adaptertest.Message{Data: data}))
		if got.failed || len(got.out) != 1 || !bytes.Equal(got.out[0].GetData(), data) {
			t.Errorf("%s: want a megabyte back, found %s %s", method, got.code, got.text)
		}
		g.reached(t)
	}
}

// passesMetadata: metadata goes both ways; who a caller says that it is, and what is a framework's, goes neither.
func passesMetadata(t *testing.T, g *kindsGateway, in kindsCaller) {
	a := g.asked(t, adaptertest.Unary, &adaptertest.Message{})
	a.header = rpc.Metadata{
		{Key: "x-tenant", Value: "acme"},
		{Key: "x-raw-bin", Value: "\x00\xfe"},
		{Key: "x-consumer-name", Value: "root"},
		{Key: "x_consumer_groups", Value: "root"},
		{Key: "x-credential-identifier", Value: "root"},
		{Key: "x-causeway-mirror", Value: "root"},
		{Key: "x-forwarded-for", Value: "192.0.2.9"},
		{Key: "x-real-ip", Value: "192.0.2.9"},
		{Key: "trpc-env", Value: "forged"},
		{Key: "status_dyed_key", Value: "forged"},
		{Key: "tars-status-status_grid_key", Value: "forged"},
	}
	got := in.call(t.Context(), t, g.gatewayTest, a)
	if got.failed {
		t.Fatalf("%s %s", got.code, got.text)
	}
	c := g.reached(t)
	if c.header.Get("x-tenant") != "acme" || c.header.Get("x-raw-bin") != "\x00\xfe" || c.header.Get("x-request-id") == "" || c.header.Get("x-request-id") != got.header.Get("x-request-id") {
		t.Errorf("the backend was told %q", c.header)
	}
	for _, p := range c.header {
		key := strings.ReplaceAll(p.Key, "_", "-")
		foreign := slices.ContainsFunc([]string{"x-consumer", "x-credential", "x-causeway", "x-forwarded", "x-real-ip"}, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
		if foreign || g.out == "TARS" && strings.Contains(key, "status-") || g.out == "tRPC" && strings.HasPrefix(key, "trpc-") {
			t.Errorf("the backend was told %s = %q", p.Key, p.Value)
		}
	}
	if got.header.Get("x-answer") != "yes" || got.header.Get("x-answer-bin") != "\x00\xff" || got.header.Get("x-end") != "3" || got.header.Has("x-consumer-name") {
		t.Errorf("the caller was told %q", got.header)
	}
}
