package tars

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// handler makes of a request in wire form an answer in wire form.
type handler func(ctx context.Context, c *rpc.Call, wire []byte) ([]byte, error)

// Handle implements rpc.Handler.
func (h handler) Handle(ctx context.Context, c *rpc.Call) error {
	m, err := c.Body.Message(ctx, c.Method.Input)
	if err != nil {
		return err
	}
	out, err := h(ctx, c, m.Data)
	if err != nil {
		return err
	}
	b := rpc.GetBuffer()
	b.B = append(b.B, out...)
	c.Reply.Message.Own(b)
	return nil
}

// door stands in the gateway's place.
type door struct {
	t       testing.TB
	bound   map[string]rpcadapters.Bound
	methods map[string]*schema.Method
	options rpcadapters.Options
	handler rpc.Handler

	mu     sync.Mutex
	sent   []rpc.Sent
	left   int
	found  int
	panics int
	calls  []rpc.Call
}

// newDoor binds every method of a schema that can be.
func newDoor(t testing.TB, s *schema.Schema, o *tarsadapterv1.Listener, h handler) *door {
	t.Helper()
	d := &door{t: t, bound: map[string]rpcadapters.Bound{}, methods: map[string]*schema.Method{}, handler: h}
	d.options = rpcadapters.Options{Route: "r", Service: "s", MaxBody: 1 << 20, JSON: &jsonwire.Options{}, Budget: rpc.NewBudget(64 << 20)}
	for _, sv := range s.Services() {
		for _, m := range sv.Methods {
			b, err := Inlet{}.Bind(m, o)
			if err != nil {
				continue
			}
			for _, name := range b.Names {
				d.bound[name], d.methods[name] = b, m
			}
		}
	}
	return d
}

// ServeExchange implements wire.Handler; nobody calls it.
func (d *door) ServeExchange(context.Context, *wire.Exchange) {}

// Find implements rpcadapters.Entry.
func (d *door) Find(name string, c *rpc.Call) *rpcadapters.Found {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found++
	c.ID = "id-1"
	f := &rpcadapters.Found{Visit: &visit{d}, Handler: d.handler}
	f.Options, f.Finish = &d.options, &visit{d}
	b, ok := d.bound[name]
	if !ok {
		f.Refusal = rpc.Refuse(codes.Unimplemented, "METHOD_NOT_FOUND", "no method %s is served here", name)
		f.NoService = true
		for known := range d.bound {
			if known[:strings.LastIndexByte(known, '/')] == name[:strings.LastIndexByte(name, '/')] {
				f.NoService = false
			}
		}
		return f
	}
	f.Method, f.Plan = d.methods[name], b.Plan
	return f
}

type visit struct{ d *door }

// Leave implements rpcadapters.Visit.
func (v *visit) Leave() { v.d.mu.Lock(); v.d.left++; v.d.mu.Unlock() }

// Panicked implements rpcadapters.Visit.
func (v *visit) Panicked(*rpc.Call, any) *rpc.Error {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	v.d.panics++
	return rpc.Refuse(codes.Internal, "INTERNAL", "internal error")
}

// Done implements rpc.Finisher.
func (v *visit) Done(c *rpc.Call, sent rpc.Sent) {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	v.d.sent = append(v.d.sent, sent)
	v.d.calls = append(v.d.calls, *c.Clone())
}

// last is what the last call was told of, once there have been n.
func (d *door) last(n int) (rpc.Sent, rpc.Call) {
	d.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		if len(d.sent) >= n && d.left >= n {
			defer d.mu.Unlock()
			return d.sent[len(d.sent)-1], d.calls[len(d.calls)-1]
		}
		d.mu.Unlock()
		if time.Now().After(deadline) {
			d.t.Fatalf("%d calls were told of, want %d", len(d.sent), n)
		}
	}
}

// open serves d until the test ends and returns the server and its address.
func (d *door) open(o *tarsadapterv1.Listener, limits rpcadapters.Limits, so server.Options) (*server.Server, string) {
	d.t.Helper()
	if limits.Budget == nil {
		limits.Budget = rpc.NewBudget(64 << 20)
	}
	p, err := Inlet{}.New(d, o, limits)
	if err != nil {
		d.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		d.t.Fatal(err)
	}
	s := server.One(d, p, so)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	d.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // cuts what a failed test left
		if err := <-done; err != nil {
			d.t.Errorf("Serve: %v", err)
		}
		if limits.Budget.Used() != 0 || d.options.Budget.Used() != 0 {
			d.t.Errorf("%d and %d bytes are held after the last call", limits.Budget.Used(), d.options.Budget.Used())
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.found != d.left || d.found != len(d.sent) {
			d.t.Errorf("%d calls were found, %d left, %d were told of", d.found, d.left, len(d.sent))
		}
	})
	return s, ln.Addr().String()
}

func connect(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// exchange sends a request and reads its answer.
func exchange(t testing.TB, c net.Conn, packet []byte) *Response {
	t.Helper()
	if err := writePacket(c, packet); err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, c)
}

func readAnswer(t testing.TB, c net.Conn) *Response {
	t.Helper()
	got, err := readPacket(c)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	var a Response
	if err := ParseResponse(&a, got); err != nil {
		t.Fatal(err)
	}
	return &a
}

// kitListener has the servant of the captures.
func kitListener() *tarsadapterv1.Listener {
	return &tarsadapterv1.Listener{Servants: []*tarsadapterv1.Servant{{Name: servant, Service: "Kit.Echo"}}}
}

// TestInletReplay has clients send what those of the SDKs sent, and the gateway answer with what their servants answered:
// the packets hold the same. Those of TarsGo are the same bytes.
func TestInletReplay(t *testing.T) {
	s := kit(t)
	n := 0
	for _, c := range captures(t) {
		function := string(c.request.Function)
		if c.answer == nil || function == "tars_ping" || function == "nope" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			n++
			m := kitMethod(t, s, function)
			p := bind(t, m, nil).(*plan)
			var want Response
			if err := ParseResponse(&want, c.answer); err != nil {
				t.Fatal(err)
			}
			d := newDoor(t, s, kitListener(), func(_ context.Context, call *rpc.Call, wire []byte) ([]byte, error) {
				sent, err := p.body(nil, c.request.Body, p.in(), c.request.Version, true)
				if err != nil {
					return nil, err
				}
				if diff := cmp.Diff(shown(t, m.Input, sent), shown(t, m.Input, wire)); diff != "" {
					t.Error(diff)
				}
				if function == "meta" && (call.Header.Get("trace") != "t1" || call.Header.Get("tars-status-st") != "s1") {
					t.Errorf("metadata %v", call.Header)
				}
				call.Reply.Header, call.Reply.Spelled = appendEntries(nil, nil, &want.Context, &want.Status, nil, true)
				if want.Ret != 0 {
					return nil, &rpc.Error{Class: rpc.Business, Code: codes.Unknown, Native: want.Ret, Message: string(want.Desc)}
				}
				return p.body(nil, want.Body, p.out(), want.Version, true)
			})
			_, addr := d.open(kitListener(), rpcadapters.Limits{}, server.Options{})
			got := exchange(t, connect(t, addr), c.requestPacket)
			if got.ID != c.request.ID || got.Version != c.request.Version || got.Ret != want.Ret || string(got.Desc) != string(want.Desc) {
				t.Errorf("found %+v", got)
			}
			if want.Ret == 0 {
				a, err1 := p.body(nil, want.Body, p.out(), want.Version, true)
				b, err2 := p.body(nil, got.Body, p.out(), got.Version, true)
				if err1 != nil || err2 != nil || shown(t, m.Output, a) != shown(t, m.Output, b) {
					t.Errorf("want %s, found %s, %v, %v", shown(t, m.Output, a), shown(t, m.Output, b), err1, err2)
				}
				// TarsGo leaves out what is optional and as its default.
				same := want.Version == VersionTARS && !slices.Contains([]string{"go/meta", "go/echonode_defaults", "go/scalars_zero", "go/transform"}, c.name)
				if strings.HasPrefix(c.name, "go/") && same && cmp.Diff(want.Body, got.Body) != "" {
					t.Errorf("want the bytes %x, found %x", want.Body, got.Body)
				}
			}
			if function == "meta" && len(pairsOf(got.Context)) != 2 || pairsOf(got.Context)["x-request-id"] != "id-1" {
				t.Errorf("context %v", pairsOf(got.Context))
			}
			for key, value := range pairsOf(want.Status) {
				if !reservedStatus(key) && pairsOf(got.Status)[key] != value {
					t.Errorf("status %v, want %s=%s", pairsOf(got.Status), key, value)
				}
			}
		})
	}
	if n < 66 {
		t.Errorf("%d captures, want at least 66", n)
	}
}

func pairsOf(e Entries) map[string]string {
	out := map[string]string{}
	for it := e.Read(); it.Next(); {
		out[string(it.Key)] = string(it.Value)
	}
	return out
}

// kitRequest makes a packet of a call of the kit.
func kitRequest(t testing.TB, s *schema.Schema, function, json string, change func(r *Request)) []byte {
	t.Helper()
	m := kitMethod(t, s, function)
	r := Request{Version: VersionTARS, ID: 7, Servant: []byte(servant), Function: []byte(function)}
	if change != nil {
		change(&r)
	}
	p := bind(t, m, &tarsadapterv1.Options{Servant: servant, Body: bodies[r.Version]}).(*plan)
	if r.Body == nil {
		var err error
		if r.Body, err = p.appendBody(nil, message(t, m.Input, json), p.in(), r.Version, true); err != nil {
			t.Fatal(err)
		}
	}
	return AppendRequest(nil, &r)
}

func TestInletNatural(t *testing.T) {
	s := plain(t)
	const sample = `{"id":"-3","word":"wörd","list":[-1,2,-2147483648],"nested":{"word":"n"},"raw":"AAEC","fixed":"77","flag":true,"double":1.5,"many":[{},{"word":"m"}],"counts":{"a":-5,"b":0},"self":[{"id":"9"}]}`
	m, _ := s.Method("/plain.v1.Plain/Do")
	d := newDoor(t, s, nil, func(_ context.Context, _ *rpc.Call, wire []byte) ([]byte, error) {
		if got := shown(t, m.Input, wire); got != shown(t, m.Input, message(t, m.Input, sample)) {
			t.Errorf("found %s", got)
		}
		return wire, nil
	})
	if len(d.bound) != 1 {
		t.Errorf("want one method bound, found %v", d.bound)
	}
	_, addr := d.open(nil, rpcadapters.Limits{}, server.Options{})
	c := connect(t, addr)
	p := bind(t, m, nil).(*plan)
	for _, version := range []int16{VersionTARS, VersionTUP2, VersionTUP, VersionJSON} {
		body, err := p.appendBody(nil, message(t, m.Input, sample), p.in(), version, false)
		if err != nil {
			t.Fatal(err)
		}
		got := exchange(t, c, AppendRequest(nil, &Request{Version: version, ID: 3, Servant: []byte("plain.v1.Plain"), Function: []byte("Do"), Body: body}))
		if got.Ret != 0 {
			t.Fatalf("version %d: %d %s", version, got.Ret, got.Desc)
		}
		wire, err := p.body(nil, got.Body, p.out(), version, false)
		if err != nil || shown(t, m.Output, wire) != shown(t, m.Output, message(t, m.Output, sample)) {
			t.Errorf("version %d: found %s, %v", version, shown(t, m.Output, wire), err)
		}
		if version == VersionJSON && !strings.Contains(string(got.Body), `"raw":[0,1,2],`) {
			t.Errorf("SDKs know bytes as an array of numbers; found %s", got.Body)
		}
	}
	for name, want := range map[string]string{
		"Stream": "/plain.v1.Plain/Stream is a server stream, and TARS has none",
		"Far":    "/plain.v1.Plain/Far: field far of plain.v1.Far has number 257 and tag 256: the tag is the number - 1, and at most 255",
		"Loop":   "/plain.v1.Plain/Loop: field loop of plain.v1.Loop makes it contain itself without a list or map between, which structs of TARS cannot",
	} {
		m, _ := s.Method("/plain.v1.Plain/" + name)
		if _, err := (Inlet{}).Bind(m, nil); err == nil || err.Error() != want {
			t.Errorf("%s: found %v", name, err)
		}
	}
}

// TestInletAnswers: what clients get of what can go wrong.
func TestInletAnswers(t *testing.T) {
	s := kit(t)
	fail := error(nil)
	d := newDoor(t, s, kitListener(), func(ctx context.Context, c *rpc.Call, _ []byte) ([]byte, error) {
		switch {
		case errors.Is(fail, errWait):
			<-ctx.Done()
			return nil, ctx.Err()
		case errors.Is(fail, errPanic):
			panic("asked")
		case errors.Is(fail, errOdd):
			return []byte("\x0a\x01\xff"), nil // no UTF-8
		}
		return message(t, c.Method.Output, `{"ret":"ok"}`), fail
	})
	_, addr := d.open(kitListener(), rpcadapters.Limits{MaxMessage: 1 << 20}, server.Options{})
	c := connect(t, addr)
	calls := 0
	for _, one := range []struct {
		name   string
		fail   error
		packet []byte
		ret    int32
		desc   string
		told   codes.Code
		reason string
		silent bool // nobody is told
	}{
		{"ok", nil, kitRequest(t, s, "hello", `{"name":"x"}`, nil), 0, "", codes.OK, "", false},
		{"no function", nil, AppendRequest(nil, &Request{Version: 1, ID: 7, Servant: []byte(servant), Function: []byte("nope")}), -3, "no method Kit.EchoServer.EchoObj/nope is served here", codes.Unimplemented, "METHOD_NOT_FOUND", false},
		{"no servant", nil, AppendRequest(nil, &Request{Version: 1, ID: 7, Servant: []byte("A.B.C"), Function: []byte("hello")}), -4, "no method A.B.C/hello is served here", codes.Unimplemented, "METHOD_NOT_FOUND", false},
		{"a parameter is missing", nil, kitRequest(t, s, "hello", `{"name":"x"}`, func(r *Request) { r.Body = []byte{} }), -1, "the request: Kit.helloRequest lacks tag 1 (name), which is required", codes.InvalidArgument, "MALFORMED_BODY", false},
		{"a parameter of another type", nil, kitRequest(t, s, "hello", `{}`, func(r *Request) { r.Body = tarswire.AppendInt(nil, 1, 5) }), -1, "the request: name: wanted STRING1 or STRING4, found BYTE at offset 1", codes.InvalidArgument, "MALFORMED_BODY", false},
		{"the application's code", &rpc.Error{Class: rpc.Business, Native: 1001, Code: codes.Unknown, Message: "mine"}, kitRequest(t, s, "hello", `{"name":"x"}`, nil), 1001, "mine", codes.Unknown, "", false},
		{"a gRPC status", &rpc.Error{Class: rpc.Business, Native: 5, Code: codes.NotFound, Message: "no book"}, kitRequest(t, s, "hello", `{"name":"x"}`, nil), 5, "no book", codes.NotFound, "", false},
		{"the time of a gRPC service", &rpc.Error{Class: rpc.Business, Native: 4, Code: codes.DeadlineExceeded, Message: "mine"}, kitRequest(t, s, "hello", `{"name":"x"}`, nil), -7, "mine", codes.DeadlineExceeded, "", false},
		{"a method that a gRPC service has not", &rpc.Error{Class: rpc.Business, Native: 12, Code: codes.Unimplemented, Message: "mine"}, kitRequest(t, s, "hello", `{"name":"x"}`, nil), -3, "mine", codes.Unimplemented, "", false},
		{"the application's code 4", &rpc.Error{Class: rpc.Business, Native: 4, Code: codes.DeadlineExceeded, Message: "mine", Header: rpc.Metadata{{Key: "tars-ret", Value: "4"}}}, kitRequest(t, s, "hello", `{"name":"x"}`, nil), 4, "mine", codes.DeadlineExceeded, "", false},
		{"an error without a number", &rpc.Error{Class: rpc.Business, Code: codes.Unknown, Message: "mine", Header: rpc.Metadata{{Key: "trpc-func-ret", Value: "0"}}}, kitRequest(t, s, "hello", `{"name":"x"}`, nil), 2, "mine", codes.Unknown, "", false},
		{"refused", rpc.Refuse(codes.Unauthenticated, "NO_CREDENTIALS", "who are you"), kitRequest(t, s, "hello", `{"name":"x"}`, nil), 16, "who are you", codes.Unauthenticated, "NO_CREDENTIALS", false},
		{"too many", rpc.Refuse(codes.ResourceExhausted, "RATE_LIMITED", "slow down"), kitRequest(t, s, "hello", `{"name":"x"}`, nil), -9, "slow down", codes.ResourceExhausted, "RATE_LIMITED", false},
		{"no instance", rpc.Refuse(codes.Unavailable, "NO_INSTANCE", "none"), kitRequest(t, s, "hello", `{"name":"x"}`, nil), -10, "none", codes.Unavailable, "NO_INSTANCE", false},
		{"internals", errors.New("secret"), kitRequest(t, s, "hello", `{"name":"x"}`, nil), -99, "internal error", codes.Internal, "INTERNAL", false},
		{"deadline", errWait, kitRequest(t, s, "hello", `{"name":"x"}`, func(r *Request) { r.Timeout = 30 }), -7, "deadline exceeded", codes.DeadlineExceeded, "DEADLINE_EXCEEDED", false},
		{"panic", errPanic, kitRequest(t, s, "hello", `{"name":"x"}`, nil), -99, "internal error", codes.Internal, "INTERNAL", false},
		{"an answer that is no text", errOdd, kitRequest(t, s, "hello", `{"name":"x"}`, nil), -2, "the service's answer cannot be written in TARS: ret: wanted UTF-8, found byte 0xff", codes.Internal, "ANSWER_NOT_TARS", false},
		{"version 9", nil, kitRequest(t, s, "hello", `{"name":"x"}`, func(r *Request) { r.Version = 9; r.Body = []byte{} }), -1, "version 9 is not served: want 1, 2, 3 or 5", 0, "", true},
		{"TUP", &rpc.Error{Class: rpc.Business, Native: 1001, Code: codes.Unknown, Message: "mine"}, kitRequest(t, s, "hello", `{"name":"x"}`, func(r *Request) { r.Version = 3 }), 1001, "mine", codes.Unknown, "", false},
		{"TUP of version 2", &rpc.Error{Class: rpc.Business, Native: 1001, Code: codes.Unknown, Message: "mine"}, kitRequest(t, s, "hello", `{"name":"x"}`, func(r *Request) {
			r.Version = 2
			r.Body = append([]byte{0x08, 0, 1, 0x06, 4, 'n', 'a', 'm', 'e', 0x18, 0, 1, 0x06, 6, 's', 't', 'r', 'i', 'n', 'g', 0x1d, 0, 0, 3}, 0x06, 1, 'x')
		}), 1001, "mine", codes.Unknown, "", false},
		{"JSON", &rpc.Error{Class: rpc.Business, Native: 1001, Code: codes.Unknown, Message: "mine"}, kitRequest(t, s, "hello", `{"name":"x"}`, func(r *Request) { r.Version = 5 }), 1001, "mine", codes.Unknown, "", false},
		{"no JSON", nil, kitRequest(t, s, "hello", ``, func(r *Request) { r.Version = 5; r.Body = []byte("[]") }), -1, `the request: wanted '{' at offset 0 of the JSON text, found '['`, codes.InvalidArgument, "MALFORMED_BODY", false},
		{"ping", nil, AppendRequest(nil, &Request{Version: 1, ID: 7, Servant: []byte("any"), Function: []byte("tars_ping")}), 0, "", 0, "", true},
		{"too large for the route", nil, kitRequest(t, s, "hello", `{"name":"`+strings.Repeat("x", 1<<20)+`"}`, nil), -1, "the request has 1048581 bytes: at most 1048576 are taken", codes.ResourceExhausted, "MESSAGE_TOO_LARGE", false},
		{"too large for the listener", nil, kitRequest(t, s, "hello", `{"name":"`+strings.Repeat("x", 2<<20)+`"}`, nil), -1, "the request is larger than is taken", 0, "", true},
		{"a packet without a version", nil, []byte{0x40, 0x07}, -1, "", 0, "", true},
	} {
		t.Run(one.name, func(t *testing.T) {
			fail = one.fail
			got := exchange(t, c, one.packet)
			if one.name == "a packet without a version" {
				if got.Ret != -1 || got.ID != 7 || string(got.Desc) != "request packet: lacks tag 1" {
					t.Errorf("found %+v", got)
				}
				return
			}
			if got.Version == VersionTUP && (len(got.Body) == 0 || string(got.Servant) != servant || string(got.Function) != "hello") { // which SDKs read before the code
				t.Errorf("found the body %x of %s/%s", got.Body, got.Servant, got.Function)
			}
			if got.ID != 7 || got.Ret != one.ret || string(got.Desc) != one.desc {
				t.Errorf("found %d %q of call %d", got.Ret, got.Desc, got.ID)
			}
			if one.silent {
				return
			}
			calls++
			if sent, call := d.last(calls); sent.Code != one.told || sent.Reason != one.reason || call.Protocol != "tars" || sent.BytesIn == 0 || sent.BytesOut == 0 {
				t.Errorf("told %+v", sent)
			}
		})
	}
	if d.panics != 1 {
		t.Errorf("%d panics told, want 1", d.panics)
	}
}

var errWait, errPanic, errOdd = errors.New("wait"), errors.New("panic"), errors.New("odd")

func TestInletOneWay(t *testing.T) {
	s := kit(t)
	ran := make(chan string, 2)
	d := newDoor(t, s, kitListener(), func(_ context.Context, c *rpc.Call, wire []byte) ([]byte, error) {
		ran <- shown(t, c.Method.Input, wire)
		return message(t, c.Method.Output, `{"ret":1}`), nil
	})
	_, addr := d.open(kitListener(), rpcadapters.Limits{}, server.Options{})
	c := connect(t, addr)
	oneWay := func(r *Request) { r.PacketType = OneWay; r.ID = 5 }
	for _, packet := range [][]byte{
		AppendRequest(nil, &Request{Version: 1, PacketType: OneWay, Servant: []byte(servant), Function: []byte("nope")}),
		kitRequest(t, s, "add", `{"a":1,"b":2}`, oneWay),
	} {
		if err := writePacket(c, packet); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-ran; got != `{"a":1,"b":2}` {
		t.Errorf("found %s", got)
	}
	if got := exchange(t, c, kitRequest(t, s, "add", `{"a":3,"b":4}`, nil)); got.ID != 7 {
		t.Errorf("a call that wants no answer was answered: %+v", got)
	}
	d.last(3)
}

// TestInletManyAtOnce: answers come as they are ready, and each to its call.
func TestInletManyAtOnce(t *testing.T) {
	s := kit(t)
	release := make(chan struct{})
	d := newDoor(t, s, kitListener(), func(_ context.Context, c *rpc.Call, wire []byte) ([]byte, error) {
		if shown(t, c.Method.Input, wire) == `{"name":"0"}` {
			<-release
		}
		return message(t, c.Method.Output, `{"ret":"hello"}`), nil
	})
	_, addr := d.open(kitListener(), rpcadapters.Limits{}, server.Options{})
	c := connect(t, addr)
	var all []byte
	const n = 300
	for i := range n {
		p := kitRequest(t, s, "hello", fmt.Sprintf(`{"name":"%d"}`, i), func(r *Request) { r.ID = int32(i - 100) })
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(p)+4)), p...)
	}
	for len(all) > 0 { // in odd pieces
		k := min(len(all), 777)
		if _, err := c.Write(all[:k]); err != nil {
			t.Fatal(err)
		}
		all = all[k:]
	}
	seen := map[int32]bool{}
	for i := range n {
		if i == n-1 {
			close(release)
		}
		a := readAnswer(t, c)
		if seen[a.ID] || a.Ret != 0 {
			t.Fatalf("found %+v", a)
		}
		seen[a.ID] = true
		if a.ID == -100 && i != n-1 {
			t.Error("the call that waits was answered")
		}
	}
}

func TestInletDrain(t *testing.T) {
	t.Parallel()
	s := kit(t)
	started, release := make(chan struct{}), make(chan struct{})
	d := newDoor(t, s, kitListener(), func(_ context.Context, c *rpc.Call, _ []byte) ([]byte, error) {
		close(started)
		<-release
		return message(t, c.Method.Output, `{"ret":"done"}`), nil
	})
	srv, addr := d.open(kitListener(), rpcadapters.Limits{}, server.Options{})
	c := connect(t, addr)
	if err := writePacket(c, kitRequest(t, s, "hello", `{"name":"x"}`, nil)); err != nil {
		t.Fatal(err)
	}
	<-started
	srv.Drain()
	if a := readAnswer(t, c); a.ID != 0 || string(a.Desc) != Reconnect || a.Ret != 0 {
		t.Errorf("want a push that asks to leave, found %+v", a)
	}
	close(release)
	if a := readAnswer(t, c); a.ID != 7 || a.Ret != 0 {
		t.Errorf("the call in flight: %+v", a)
	}
	if _, err := readPacket(c); !errors.Is(err, io.EOF) {
		t.Errorf("want the end, found %v", err)
	}
}

func TestInletClientGone(t *testing.T) {
	s := kit(t)
	started := make(chan struct{})
	d := newDoor(t, s, kitListener(), func(ctx context.Context, _ *rpc.Call, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	_, addr := d.open(kitListener(), rpcadapters.Limits{}, server.Options{})
	c := connect(t, addr)
	if err := writePacket(c, kitRequest(t, s, "hello", `{"name":"x"}`, nil)); err != nil {
		t.Fatal(err)
	}
	<-started
	_ = c.Close()
	if sent, _ := d.last(1); sent.Code != codes.Canceled {
		t.Errorf("told %+v", sent)
	}
}

// TestInletIdentity: what clients say of who they are does not pass, nor does what belongs to the framework.
func TestInletIdentity(t *testing.T) {
	s := kit(t)
	var header rpc.Metadata
	var spelled rpc.Spelled
	d := newDoor(t, s, kitListener(), func(_ context.Context, c *rpc.Call, _ []byte) ([]byte, error) {
		header, spelled = append(header, c.Header...), append(spelled, c.Spelled...)
		return message(t, c.Method.Output, `{"ret":"x"}`), nil
	})
	_, addr := d.open(kitListener(), rpcadapters.Limits{}, server.Options{})
	exchange(t, connect(t, addr), kitRequest(t, s, "hello", `{"name":"x"}`, func(r *Request) {
		for _, k := range []string{"X-Consumer-Name", "x_consumer_id", "X-Forwarded-For", "x-causeway-a", "Connection", "grpc-timeout", "STATUS_DYED_KEY", "cookie", "te", "bad key", "x-credential-x"} {
			r.Context.Add(k, "forged")
		}
		r.Context.Add("Mine", "1")
		r.Context.Add("data-bin", "AAE=")
		r.Context.Add("chinese", "\xe4\xbd\xa0")
		r.Context.Add("tars-status-forged", "1")
		r.Status.Add("STATUS_GRID_KEY", "forged")
		r.Status.Add("Weight", "3")
	}))
	want := rpc.Metadata{{Key: "mine", Value: "1"}, {Key: "data-bin", Value: "\x00\x01"}, {Key: "chinese", Value: "%E4%BD%A0"}, {Key: "tars-status-weight", Value: "3"}, {Key: "x-request-id", Value: "id-1"}}
	if diff := cmp.Diff(want, header); diff != "" {
		t.Error(diff)
	}
	var stood []string
	for _, s := range spelled {
		stood = append(stood, s.Name+"="+s.Text)
	}
	if diff := cmp.Diff([]string{"bad key=forged", "Mine=1", "data-bin=AAE=", "chinese=\xe4\xbd\xa0", "tars-status-Weight=3"}, stood); diff != "" {
		t.Error(diff)
	}
}
