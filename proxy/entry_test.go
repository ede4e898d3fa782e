package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// talk is an inlet whose calls are made by hand. A servant of its options gives the methods of a service the name "servant/Method";
// of a service without one the names are the methods' own. Wait is not served.
type talk struct{ doors []rpcadapters.Entry }

func (*talk) Name() string          { return "talk" }
func (*talk) Config() proto.Message { return &tarsadapterv1.Listener{} }

var errNoWait = errors.New("nobody waits here")

// Check wants every service that a servant leads to among those of the methods.
func (*talk) Check(conf proto.Message, methods []*schema.Method) error {
	for i, s := range conf.(*tarsadapterv1.Listener).GetServants() {
		if s.GetService() != "*" && !slices.ContainsFunc(methods, func(m *schema.Method) bool { return m.Service.Name == s.GetService() }) {
			return fmt.Errorf("servants[%d].service: nobody serves %s", i, s.GetService())
		}
	}
	return nil
}

func (*talk) Bind(m *schema.Method, conf proto.Message) (rpcadapters.Bound, error) {
	if m.Desc.Name() == "Wait" {
		return rpcadapters.Bound{}, errNoWait
	}
	b := rpcadapters.Bound{Plan: m.Name}
	for _, s := range conf.(*tarsadapterv1.Listener).GetServants() {
		if s.GetService() == m.Service.Name {
			b.Names = append(b.Names, s.GetName()+"/"+string(m.Desc.Name()))
		} else if s.GetService() == "*" {
			b.Names = append(b.Names, s.GetName())
		}
	}
	if b.Names == nil {
		b.Names = []string{m.Name}
	}
	return b, nil
}

func (k *talk) New(e rpcadapters.Entry, conf proto.Message, _ rpcadapters.Limits) (wire.Protocol, error) {
	if conf.(*tarsadapterv1.Listener).GetCharset() == "none" {
		return nil, errors.New("charset: want one")
	}
	if fmt.Sprintf("%T", e) != "proxy.nowhere" { // made to see whether it can be
		k.doors = append(k.doors, e)
	}
	return talking{}, nil
}

type talking struct{}

func (talking) NewConn(net.Conn, []byte, *tls.ConnectionState, wire.Handler) wire.Conn { return nil }

// said is a call of talk: its body, and who is told what became of it.
type said struct {
	call    rpc.Call
	message rpc.Message
	refused *rpc.Error
	answer  string
}

func (s *said) Raw(context.Context) ([]byte, error) { return s.message.Data, nil }
func (s *said) Message(context.Context, *schema.Message) (*rpc.Message, error) {
	return &s.message, nil
}

func (s *said) Answer(e *rpc.Error) rpc.Sent {
	s.refused, s.answer = e, string(s.call.Reply.Message.Data)
	sent := rpc.Sent{End: time.Now()}
	if e != nil {
		sent.Code, sent.Reason, sent.Err = e.Code, e.Reason, e
	}
	s.call.Reply.Reset()
	return sent
}

// find asks the newest door for a method.
func (k *talk) find(name string, header ...rpc.Pair) (*said, *rpcadapters.Found) {
	s := &said{call: rpc.Call{Protocol: "talk", Header: header, Peer: netip.MustParseAddrPort("192.0.2.1:7")}}
	s.call.Times.Start, s.call.Body = time.Now(), s
	return s, k.doors[len(k.doors)-1].Find(name, &s.call)
}

// say calls a method.
func (k *talk) say(name string, header ...rpc.Pair) *said {
	s, f := k.find(name, header...)
	var ctx wire.Context
	ctx.Reset(context.Background())
	f.Run(&ctx, &s.call, "talk", 0, s)
	ctx.Release()
	return s
}

const talkDocument = `listen: [{address: "127.0.0.1:0"}, {address: "localhost:0", protocol: talk OPTIONS}]
schemas: [{name: echo, descriptor_set: SET}]
services: [{name: echo, schema: echo, endpoints: [{address: "a:1"}]}, {name: other, schema: echo, serves: [], endpoints: [{address: "b:1"}]}]
`

func talkText(options, more string) string {
	return strings.Replace(strings.Replace(talkDocument, ", {name: other, schema: echo, serves: [], endpoints: [{address: \"b:1\"}]}", "", 1), " OPTIONS", options, 1) + more
}

func mustTalk(t *testing.T, text string, kinds ...plugin.Kind) (*bench, *talk) {
	t.Helper()
	k := &talk{}
	b, err := newBenchOf(t, text, []rpcadapters.Inlet{k}, kinds...)
	if err != nil {
		t.Fatal(err)
	}
	return b, k
}

const talkCall = "/demo.echo.v1.Echo/Call"

// Calls of an inlet go through routes as others do: conditions and priorities hold, routes with hosts are not for them, and what
// has no name is refused.
func TestEntryFindsRoutes(t *testing.T) {
	const method = "service: echo, methods: [demo.echo.v1.Echo/Call]"
	b, k := mustTalk(t, talkText("", `routes:
  - {name: plain, `+method+`}
  - {name: canary, `+method+`, headers: [{name: x-canary, exact: "1"}]}
  - {name: both, `+method+`, headers: [{name: x-canary, exact: "1"}, {name: x-team, prefix: core}]}
  - {name: top, `+method+`, headers: [{name: x-top, present: true}], priority: 5}
  - {name: low, `+method+`, headers: [{name: x-canary, exact: "1"}, {name: x-team, prefix: core}, {name: x-low, present: true}], priority: -5}
  - {name: hosted, service: echo, methods: [demo.echo.v1.Echo/Fail], hosts: [api.example.com]}
`))
	canary, team := rpc.Pair{Key: "x-canary", Value: "1"}, rpc.Pair{Key: "x-team", Value: "core-a"}
	for _, tc := range []struct {
		want   string
		header []rpc.Pair
	}{
		{"plain", nil},
		{"plain", []rpc.Pair{{Key: "x-canary", Value: "2"}}},
		{"canary", []rpc.Pair{canary}},
		{"both", []rpc.Pair{team, canary}},
		{"top", []rpc.Pair{team, canary, {Key: "x-top", Value: ""}}},
		{"both", []rpc.Pair{team, canary, {Key: "x-low", Value: "1"}}},
	} {
		s := k.say(talkCall, tc.header...)
		if s.refused != nil || s.call.Route != tc.want || s.call.Service != "echo" || s.call.Method.Name != talkCall || s.call.ID == "" || s.call.Header.Get("x-request-id") != s.call.ID || s.answer != "\x0a\x02hi" {
			t.Errorf("%v: want route %s, found %q: %v", tc.header, tc.want, s.call.Route, s.refused)
		}
	}
	for _, name := range []string{"/demo.echo.v1.Echo/Fail", "/demo.echo.v1.Echo/Wait", "Call", "", strings.Repeat("x", 1000), "\x00\n"} {
		if s := k.say(name); s.refused == nil || s.refused.Code != codes.Unimplemented || s.refused.Reason != "METHOD_NOT_FOUND" || len(s.refused.Message) > 500 || strings.Contains(s.refused.Message, "\n") {
			t.Errorf("%.20q: found %v", name, s.refused)
		}
	}

	// What explain says of them.
	snap := b.gateway.Current()
	for _, tc := range []struct {
		url  string
		want proxy.Also
	}{
		{"/v1/echo/x", proxy.Also{Protocol: "talk", Names: []string{talkCall}}},
		{"http://api.example.com/v1/fail/5", proxy.Also{Protocol: "talk", Why: "its routes want a host, and such callers name none"}},
		{"/v1/wait", proxy.Also{Protocol: "talk", Why: errNoWait.Error()}},
	} {
		e := snap.Explain(proxy.Question{Method: "GET", URL: tc.url})
		if e.Taken == nil {
			t.Errorf("%s: %+v", tc.url, e)
		} else if d := cmp.Diff([]proxy.Also{tc.want}, e.Taken.Also); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.url, d)
		}
	}
	e := snap.Explain(proxy.Question{Method: "talk", URL: talkCall, Headers: []string{"X-Canary: 1"}})
	if e.Taken == nil || e.Taken.Route != "route canary" || e.Taken.Rule != "talk "+talkCall || e.Taken.RPC != talkCall[1:] || len(e.Others) != 4 || !strings.Contains(e.Others[0].Why, "x-top") || e.Fault != "" {
		t.Errorf("found %+v %+v", e.Taken, e)
	}
	if e = snap.Explain(proxy.Question{Method: "talk", URL: "/grpc.health.v1.Health/Check"}); e.Taken == nil || e.Taken.Schema != "" {
		t.Errorf("found %+v", e)
	}
	e = snap.Explain(proxy.Question{Method: "talk", URL: "/demo.echo.v1.Echo/Wait"})
	if e.Taken != nil || e.Fault != "no method /demo.echo.v1.Echo/Wait is served there" || len(e.Others) != 1 || e.Others[0].Why != errNoWait.Error() {
		t.Errorf("found %+v", e)
	}
}

// What cannot be served refuses the configuration where that is a fault, with its place.
func TestEntryRefusedAtLoad(t *testing.T) {
	for _, tc := range []struct{ options, want string }{
		{", options: {servants: [{name: all, service: \"*\"}]}", `demo.echo.v1.Echo/Fail are both called "all" over talk`},
		{", options: {servants: [{name: a, service: demo.echo.v1.Ecko}]}", "listen[1].options: servants[0].service: nobody serves demo.echo.v1.Ecko"},
		{", options: {charset: none}", "listen[1].options: charset: want one"},
		{", options: {servant: []}", "servant"},
	} {
		_, err := newBenchOf(t, talkText(tc.options, ""), []rpcadapters.Inlet{&talk{}})
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "causeway.yaml:1:") {
			t.Errorf("%s: want %q, found %v", tc.options, tc.want, err)
		}
	}
}

// A call that was found belongs to its configuration until it leaves, whatever is loaded meanwhile.
func TestEntryAcrossReloads(t *testing.T) {
	spy := &spy{name: "spy"}
	spy.handle = func(next rpc.Handler, ctx context.Context, c *rpc.Call) error { return next.Handle(ctx, c) }
	plugged := "plugins: [{name: spy}]\n"
	b, k := mustTalk(t, talkText("", plugged), spy.kind())
	s, f := k.find(talkCall)
	b.set(talkText("", "routes: [{name: new, service: echo, methods: [\"*\"]}]\n"))
	if err := b.gateway.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if later := k.say(talkCall); later.refused != nil || later.call.Route != "new" {
		t.Errorf("after the reload: found route %q, %v", later.call.Route, later.refused)
	}
	if _, closed, sent := spy.counts(); closed != 0 || sent != 0 {
		t.Errorf("want the plugin in use, found it closed %d times", closed)
	}
	var ctx wire.Context
	ctx.Reset(context.Background())
	if clean := f.Run(&ctx, &s.call, "talk", 0, s); !clean || s.refused != nil || s.call.Route == "new" || s.answer != "\x0a\x02hi" {
		t.Errorf("the call from before: found route %q, %v", s.call.Route, s.refused)
	}
	if _, _, sent := spy.counts(); sent != 1 {
		t.Errorf("want the plugin told of one call, found %d", sent)
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, closed, _ := spy.counts(); closed != 1; _, closed, _ = spy.counts() {
		if time.Now().After(deadline) {
			t.Fatal("want the plugin closed once its last call has left")
		}
		time.Sleep(time.Millisecond)
	}
}

// New options of a listener hold for those who are there already; another protocol does not come by a reload.
func TestEntryOptionsReloaded(t *testing.T) {
	b, k := mustTalk(t, talkText("", ""))
	if s := k.say(talkCall); s.refused != nil {
		t.Fatal(s.refused)
	}
	old := slices.Clone(k.doors)
	b.set(talkText(", options: {servants: [{name: Echo, service: demo.echo.v1.Echo}]}", ""))
	if err := b.gateway.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.doors = old // of connections from before
	if s := k.say("Echo/Call"); s.refused != nil || s.call.Method.Name != talkCall {
		t.Errorf("the new name: %v", s.refused)
	}
	if s := k.say(talkCall); s.refused == nil || s.refused.Reason != "METHOD_NOT_FOUND" {
		t.Errorf("the former name: %v", s.refused)
	}
	b.set(strings.Replace(talkText("", ""), "protocol: talk", "protocol: http", 1))
	if err := b.gateway.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "listen[1]: localhost:0 serves already, and another protocol cannot be spoken there") {
		t.Errorf("another protocol: %v", err)
	}
	if s := k.say("Echo/Call"); s.refused != nil {
		t.Errorf("want what was in force to serve on, found %v", s.refused)
	}
}

// A panic of the chain is an answer, and is counted as others are.
func TestEntryPanics(t *testing.T) {
	spy := &spy{name: "spy", handle: func(rpc.Handler, context.Context, *rpc.Call) error { panic("boom") }}
	_, k := mustTalk(t, talkText("", "plugins: [{name: spy}]\n"), spy.kind())
	s := k.say(talkCall)
	if s.refused == nil || s.refused.Code != codes.Internal || strings.Contains(s.refused.Message, "boom") {
		t.Errorf("found %v", s.refused)
	}
	if _, _, sent := spy.counts(); sent != 1 {
		t.Errorf("want it told of once, found %d", sent)
	}
}

// A gateway that has stopped takes no calls of connections that are still there.
func TestEntryAfterTheEnd(t *testing.T) {
	b, k := mustTalk(t, talkText("", ""))
	b.gateway.Shutdown(context.Background(), proxy.Stop{})
	if s := k.say(talkCall); s.refused == nil || s.refused.Code != codes.Unavailable || s.refused.Reason != "STOPPING" {
		t.Errorf("found %v", s.refused)
	}
}

// A gateway that is out of memory refuses calls by their names alone, and takes them again when it has some.
func TestEntryWithoutMemory(t *testing.T) {
	b, k := mustTalk(t, talkText("", "limits: {memory_bytes: 1}\n"))
	reached := false
	b.unary = func(context.Context, *rpc.Call, *rpc.Message, *rpc.Reply) error { reached = true; return nil }
	deadline := time.Now().Add(20 * time.Second)
	var s *said
	for s = k.say(talkCall); s.refused == nil; s = k.say(talkCall) {
		if reached = false; time.Now().After(deadline) {
			t.Fatal("want calls refused")
		}
		time.Sleep(time.Millisecond)
	}
	if s.refused.Code != codes.Unavailable || s.refused.Reason != "OUT_OF_MEMORY" || s.call.Method != nil || reached {
		t.Errorf("found %v, the service was reached: %v", s.refused, reached)
	}
	b.set(talkText("", "limits: {memory_bytes: 1000000000000}\n"))
	if err := b.gateway.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for s = k.say(talkCall); s.refused != nil; s = k.say(talkCall) {
		if time.Now().After(deadline) {
			t.Fatalf("want calls taken again, found %v", s.refused)
		}
		time.Sleep(time.Millisecond)
	}
}

// Other options of a listener are in force with the snapshot that has them, and no call falls in between.
func TestEntryFindsMethodsWhileOptionsChange(t *testing.T) {
	b, k := mustTalk(t, talkText("", ""))
	door, stop, done := k.doors[0], make(chan struct{}), make(chan *rpc.Error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			s := &said{call: rpc.Call{Protocol: "talk", Peer: netip.MustParseAddrPort("192.0.2.1:7")}}
			s.call.Times.Start, s.call.Body = time.Now(), s
			f := door.Find(talkCall, &s.call)
			var ctx wire.Context
			ctx.Reset(context.Background())
			f.Run(&ctx, &s.call, "talk", 0, s)
			ctx.Release()
			if s.refused != nil {
				done <- s.refused
				return
			}
		}
	}()
	for i := range 20 {
		b.set(talkText([2]string{", options: {charset: gbk}", ""}[i%2], ""))
		if err := b.gateway.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if e := <-done; e != nil {
		t.Errorf("want every call answered, found %v", e)
	}
}
