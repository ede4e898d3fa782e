package expr

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// body is a request that was received.
type body struct {
	data  []byte
	err   error
	asked int
}

func (b *body) Raw(context.Context) ([]byte, error) { return b.data, b.err }

func (b *body) Message(context.Context, *schema.Message) (*rpc.Message, error) {
	b.asked++
	return &rpc.Message{Data: b.data}, b.err
}

type variables2 map[string]string

func (v variables2) Param(name string) (string, bool) { s, ok := v[name]; return s, ok }

func mirror(t testing.TB) *schema.Schema {
	t.Helper()
	files, err := protodesc.NewFiles(descriptors.Set(echov1.File_demo_echo_v1_mirror_proto))
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.New(files)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func values() *echov1.Values {
	maybe := int32(0)
	return &echov1.Values{
		Text: "héllo", SmallNumber: -7, LargeNumber: 1 << 60, Natural: 1<<63 + 1, Flag: true, Color: 2, Data: []byte{0, 255},
		Ratio: 0.5, Nested: &echov1.Values{Text: "inner", Tags: []string{"x"}}, Tags: []string{"a", "b"},
		Labels: map[string]string{"tier": "gold", "": "none"}, Note: wrapperspb.String("noted"),
		Side: &echov1.Values_Right{Right: ""}, Maybe: &maybe,
		Extra: &structpb.Struct{Fields: map[string]*structpb.Value{"k": structpb.NewNumberValue(3)}},
	}
}

func callOf(t testing.TB, m proto.Message) (*rpc.Call, *body) {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	method, ok := mirror(t).Method("/demo.echo.v1.Mirror/Show")
	if !ok {
		t.Fatal("no method")
	}
	b := &body{data: raw}
	return &rpc.Call{
		Method: method, Protocol: "rest", Route: "show", Service: "echo", ID: "id1", Peer: netip.MustParseAddrPort("[::ffff:10.1.2.3]:99"),
		Consumer: &rpc.Consumer{Name: "shop", Groups: []string{"partners", "eu"}, Labels: map[string]string{"tier": "gold"}},
		Claims:   rpc.Claims{"sub": "u1", "roles": []any{"admin"}, "age": 42.0},
		HTTP:     &rpc.HTTP{Method: "POST", Scheme: "https", Host: "api.example.com", Path: "/v1/show", Query: "a=1", Header: rpc.Metadata{{Key: "x-a", Value: "1"}, {Key: "x-a", Value: "2"}}},
		Header:   rpc.Metadata{{Key: "tenant", Value: "t9"}},
		Params:   variables2{"shelf": "7"}, Body: b,
	}, b
}

func TestVariables(t *testing.T) {
	c, _ := callOf(t, values())
	c.Times.Start = time.Now()
	sent := rpc.Sent{Status: 503, Code: codes.Unavailable, Reason: "OVERLOADED", End: c.Times.Start.Add(2 * time.Second), BytesIn: 5, BytesOut: 9}
	for _, text := range []string{
		`request.method == 'POST' && request.scheme == 'https' && request.host == 'api.example.com'`,
		`request.path.startsWith('/v1/') && request.query == 'a=1' && request.protocol == 'rest' && request.id == 'id1'`,
		`request.headers['x-a'] == '1' && 'x-a' in request.headers && !('x-b' in request.headers) && request.headers['x-b'] == ''`,
		`metadata.tenant == 't9' && has(metadata.tenant) && !has(metadata.other) && metadata.other == ''`,
		`request.headers.exists(h, h == 'x-a') && size(request.headers) == 1`,
		`path.shelf == '7' && path['none'] == '' && !has(path.none)`,
		`request.address == '10.1.2.3' && ip_in(request.address, ['10.0.0.0/8'])`,
		`rpc.service == 'demo.echo.v1.Mirror' && rpc.method == 'Show' && route == 'show' && service == 'echo'`,
		`consumer.name == 'shop' && 'eu' in consumer.groups && consumer.labels.tier == 'gold' && consumer.labels['none'] == ''`,
		`claims.sub == 'u1' && 'admin' in claims.roles && claims.age > 41.0 && !has(claims.none)`,
		`message.text == 'héllo' && message.smallNumber == -7 && message.small_number == -7`,
		`answer.status == 503 && answer.code == 'UNAVAILABLE' && answer.reason == 'OVERLOADED' && answer.duration > duration('1s') && answer.bytes_in == 5 && answer.bytes_out == 9`,
	} {
		p, err := Bool(text)
		if err != nil {
			t.Errorf("%s: %s", text, err)
			continue
		}
		at := &sent
		if strings.Contains(text, "message") {
			at = nil
		}
		if p.AfterAnswer() != strings.Contains(text, "answer.") {
			t.Errorf("%s: asks for the answer: %v", text, p.AfterAnswer())
		}
		if got, err := p.Bool(t.Context(), c, at); err != nil || !got {
			t.Errorf("%s: want true, found %v, %v", text, got, err)
		}
	}
}

// A call that does not come by HTTP has its metadata for headers and the name of its method for a path.
func TestCallWithoutHTTP(t *testing.T) {
	c, _ := callOf(t, values())
	c.HTTP, c.Protocol = nil, "tars"
	for _, text := range []string{
		`request.headers.tenant == 't9' && !('x-a' in request.headers) && size(request.headers) == 1`,
		`request.path == '/demo.echo.v1.Mirror/Show' && request.method == '' && request.host == '' && request.query == ''`,
	} {
		p, err := Bool(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Bool(t.Context(), c, nil); err != nil || !got {
			t.Errorf("%s: want true, found %v, %v", text, got, err)
		}
	}
}

// A call without anything has empty variables, and none of them fails but the fields of the message, which are not there.
func TestEmptyCall(t *testing.T) {
	for text, fails := range map[string]bool{"has(message.text)": false, "message.text == 'a'": true, "message == 1": true, "has(message.text) && message.text == 'a'": false} {
		p, err := Bool(text)
		if err != nil {
			t.Fatalf("%s: %s", text, err)
		}
		if ok, err := p.Bool(t.Context(), &rpc.Call{}, nil); ok || (err != nil) != fails {
			t.Errorf("%s: found %v, %v", text, ok, err)
		}
	}
	for _, v := range all {
		text := v.name
		if strings.HasPrefix(text, "answer.") {
			continue
		}
		p, err := Bool("size([dyn(" + text + ")]) == 1")
		if err != nil {
			t.Errorf("%s: %s", text, err)
			continue
		}
		if _, err := p.Bool(t.Context(), &rpc.Call{}, nil); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRefusedAtLoad(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "column 1 of the expression: Syntax error: mismatched input '<EOF>'",
		"consumer.nam == 'x'":        "undeclared reference to 'consumer.nam' (did you mean 'consumer.name'?)",
		"request.method":             "wanted an expression that is bool, found one that is string",
		"request.method == 1":        "found no matching overload",
		"request.path.matches('(')":  "",
		strings.Repeat("1+", 3000):   "at most 4096 are taken",
		"ip_in('1.2.3.4', ['x/99'])": "",
	} {
		_, err := Bool(text)
		if err == nil && want == "" {
			continue // found when it is evaluated
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: want an error with %q, found %v", text, want, err)
		}
	}
}

func TestText(t *testing.T) {
	c, _ := callOf(t, values())
	for text, want := range map[string]string{
		`consumer.name + ':' + claims.sub`: "shop:u1",
		`message.large_number`:             "1152921504606846976",
		`message.flag`:                     "true",
		`message.ratio`:                    "0.5",
		`message.nested.text`:              "inner",
		`message.labels['tier']`:           "gold",
		`message.note`:                     "noted",
	} {
		p, err := Text(text)
		if err != nil {
			t.Errorf("%s: %s", text, err)
			continue
		}
		if got, err := p.Text(t.Context(), c, nil); err != nil || got != want {
			t.Errorf("%s: want %q, found %q, %v", text, want, got, err)
		}
	}
	p, err := Text("message.tags")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Text(t.Context(), c, nil); err == nil {
		t.Error("want a list refused as text")
	}
}

// What costs more than the bound is ended with an error, and so is what its context ends.
func TestCostIsBounded(t *testing.T) {
	m := values()
	m.Tags = make([]string, 5000)
	c, _ := callOf(t, m)
	p, err := Bool(`message.tags.all(a, message.tags.all(b, a == b))`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Bool(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "cost") {
		t.Errorf("want the cost refused, found %v", err)
	}
	m.Tags = make([]string, maxElements+1)
	c, _ = callOf(t, m)
	if p, err = Bool(`size(message.tags) > 0`); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Bool(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "more than 10000 elements") {
		t.Errorf("want so many elements refused, found %v", err)
	}
}

func TestMessageIsAskedForOnlyWhenUsed(t *testing.T) {
	c, b := callOf(t, values())
	p, err := Bool(`request.method == 'GET' && message.text == 'x'`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.Bool(t.Context(), c, nil); got || err != nil || b.asked != 0 {
		t.Errorf("found %v, %v, asked %d times", got, err, b.asked)
	}
	b.err = rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "no JSON")
	if p, err = Bool(`message.text == 'x'`); err != nil {
		t.Fatal(err)
	}
	_, err = p.Bool(t.Context(), c, nil)
	if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Reason != "INVALID_REQUEST" {
		t.Errorf("want the body's own error, found %v", err)
	}
}
