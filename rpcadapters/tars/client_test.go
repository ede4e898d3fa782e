package tars

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

var bodies = map[int16]string{VersionTARS: "tars", VersionTUP: "tup", VersionJSON: "json"}

// TestReplay has a servant answer with what the SDKs answered, and the adapter call it with what their clients sent: the
// request decodes to the same, and the answer to what the capture says.
func TestReplay(t *testing.T) {
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
			o := &tarsadapterv1.Options{Body: bodies[c.request.Version], Servant: servant}
			p := bind(t, m, o).(*plan)
			want, err := p.body(nil, c.request.Body, p.in(), c.request.Version, true)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			addr := servantOf(t, func(r *Request) *Response {
				if string(r.Servant) != servant || string(r.Function) != function || r.Version != c.request.Version || r.Timeout < 1 {
					t.Errorf("the request: %+v", r)
				}
				if got, err = p.body(nil, r.Body, p.in(), r.Version, true); err != nil {
					t.Errorf("the body of the request: %v", err)
				}
				if c.name == "go/add" && cmp.Diff(c.request.Body, r.Body) != "" {
					t.Errorf("want the body %x, found %x", c.request.Body, r.Body)
				}
				var a Response
				if err := ParseResponse(&a, c.answer); err != nil {
					t.Error(err)
				}
				return &a
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			call := &rpc.Call{Method: m, Plan: p}
			var out rpc.Reply
			err = dial(t, addr, o).Unary(ctx, call, &rpc.Message{Data: want}, &out)
			if diff := cmp.Diff(shown(t, m.Input, want), shown(t, m.Input, got)); diff != "" {
				t.Errorf("the servant got another request:\n%s", diff)
			}
			var a Response
			if err := ParseResponse(&a, c.answer); err != nil {
				t.Fatal(err)
			}
			if a.Ret != 0 {
				var e *rpc.Error
				class := rpc.Business
				if a.Ret < 0 {
					class = rpc.Framework
				}
				if !errors.As(err, &e) || e.Native != a.Ret || e.Class != class || !e.Executed || e.Message != string(a.Desc) {
					t.Errorf("want the error %d %q, found %v", a.Ret, a.Desc, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wire, err := p.body(nil, a.Body, p.out(), a.Version, true)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(shown(t, m.Output, wire), shown(t, m.Output, out.Message.Data)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if n < 66 {
		t.Errorf("%d captures, want at least 66", n)
	}
}

func TestValues(t *testing.T) {
	s := kit(t)
	for _, c := range captures(t) {
		want, ok := map[string]string{
			"go/add":             `{"ret":3}`,
			"node/hello":         `{"ret":"hello tars"}`,
			"go/json_add":        `{"ret":42}`,
			"go/tup_hello":       `{"ret":"hello tup"}`,
			"node/tup_hello":     `{"ret":"hello tup"}`,
			"go/json_echonode":   `{"ret":{"name":"j","weight":7,"labels":["x"],"counts":{"k":1},"blob":"Af8=","at":{"x":1,"y":2}}}`,
			"go/meta":            `{"ret":["p-c:trace=t1","p-s:st=s1"],"reqContext":{"trace":"t1"},"reqStatus":{"st":"s1"}}`,
			"go/transform":       `{"ret":4,"result":{"name":"ROOT","weight":7,"labels":["l"],"counts":{"x":40},"at":{"x":0,"y":0}},"total":40,"note":"labels=1 blob=0 children=0"}`,
			"node/echonode_full": `{"ret":{"name":"root","weight":0,"labels":["a","bb"],"counts":{"x":300},"blob":"/wAB","at":{"x":3,"y":-4}}}`,
			"go/nasty_matrix":    `{"ret":{"matrix":[{"items":[1,2]},{},{"items":[300]}]}}`,
			"go/scalars_set":     `{"ret":{"b":true,"i8":-5,"i16":-300,"i32":70000,"i64":"1099511627776","u8":200,"u16":60000,"u32":4000000000,"f32":1.5,"f64":-2.25,"s":"str","color":"RED","far":"","veryFar":"0"}}`,
			"node/nextcolor":     `{"ret":"BLUE"}`,
			"go/u32_small":       `{"ret":7}`,
		}[c.name]
		if !ok {
			continue
		}
		m := kitMethod(t, s, string(c.request.Function))
		p := bind(t, m, &tarsadapterv1.Options{Body: bodies[c.request.Version], Servant: servant}).(*plan)
		var a Response
		if err := ParseResponse(&a, c.answer); err != nil {
			t.Fatal(err)
		}
		wire, err := p.body(nil, a.Body, p.out(), a.Version, true)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := shown(t, m.Output, wire); got != want {
			t.Errorf("%s: want %s, found %s", c.name, want, got)
		}
	}
}

func TestContext(t *testing.T) {
	m := kitMethod(t, kit(t), "hello")
	o := &tarsadapterv1.Options{
		RequestContext: []string{"x-*", "tars-status-*", "traceparent", "bin-bin"}, ResponseContext: []string{"x-*", "tars-status-*", "b-bin"},
		Status: map[string]string{"STATUS_SETNAME_VALUE": "a.b.c"},
	}
	var got []string
	addr := servantOf(t, func(r *Request) *Response {
		for it := r.Context.Read(); it.Next(); {
			got = append(got, fmt.Sprintf("c:%s=%s", it.Key, it.Value))
		}
		for it := r.Status.Read(); it.Next(); {
			got = append(got, fmt.Sprintf("s:%s=%s", it.Key, it.Value))
		}
		a := &Response{Body: tarswire.AppendString(nil, 0, "hi")}
		a.Context.Add("X-Resp", "1")
		a.Context.Add("b-bin", "AAE")
		a.Context.Add("hidden", "1")
		a.Context.Add("x-newline", "a\nb")
		a.Status.Add("load", "7")
		a.Status.Add("STATUS_RESULT_CODE", "0")
		return a
	})
	header := rpc.Metadata{
		{Key: "x-a", Value: "1"},
		{Key: "secret", Value: "2"},
		{Key: "traceparent", Value: "00-1"},
		{Key: "bin-bin", Value: "\x00\x01"},
		{Key: "status_dyed_key", Value: "no"},
		{Key: "tars-status-mine", Value: "3"},
		{Key: "tars-status-STATUS_GRID_KEY", Value: "no"},
	}
	out, shown, err := invoke(t.Context(), t, dial(t, addr, o), m, o, header, `{"name":"x"}`)
	if err != nil || shown != `{"ret":"hi"}` {
		t.Fatalf("%s, %v", shown, err)
	}
	if diff := cmp.Diff([]string{"c:x-a=1", "c:traceparent=00-1", "c:bin-bin=AAE", "s:STATUS_SETNAME_VALUE=a.b.c", "s:mine=3"}, got); diff != "" {
		t.Error(diff)
	}
	want := rpc.Metadata{{Key: "x-resp", Value: "1"}, {Key: "b-bin", Value: "\x00\x01"}, {Key: "tars-status-load", Value: "7"}}
	if diff := cmp.Diff(want, out.Header); diff != "" {
		t.Error(diff)
	}
}

// TestErrors: what codes mean, by section "Return codes" of the README.
func TestErrors(t *testing.T) {
	m := kitMethod(t, kit(t), "add")
	var ret int32
	var desc string
	addr := servantOf(t, func(*Request) *Response { return &Response{Ret: ret, Desc: []byte(desc), Body: []byte{}} })
	to := int32(2999)
	o := &tarsadapterv1.Options{Errors: []*tarsadapterv1.ErrorRule{
		{From: 404, Code: "NOT_FOUND"}, {From: 2000, To: &to, Code: "FAILED_PRECONDITION", Status: 409}, {From: -500},
	}}
	tr := dial(t, addr, o)
	for _, c := range []struct {
		ret      int32
		desc     string
		code     codes.Code
		status   int
		class    rpc.Class
		executed bool
		message  string
	}{
		{-1, "bad", codes.Internal, 502, rpc.Framework, true, "bad"},
		{-2, "", codes.Internal, 502, rpc.Framework, true, "tars error -2"},
		{-3, "no func", codes.Unimplemented, 501, rpc.Framework, true, "no func"},
		{-4, "", codes.Unimplemented, 501, rpc.Transport, false, "tars error -4"},
		{-5, "", codes.Unavailable, 503, rpc.Transport, false, "tars error -5"},
		{-6, "", codes.DeadlineExceeded, 504, rpc.Transport, false, "tars error -6"},
		{-7, "", codes.DeadlineExceeded, 504, rpc.Framework, true, "tars error -7"},
		{-9, "", codes.Unavailable, 503, rpc.Transport, false, "tars error -9"},
		{-12, "", codes.Internal, 502, rpc.Framework, true, "tars error -12"},
		{-99, "", codes.Internal, 500, rpc.Framework, true, "tars error -99"},
		{1, "func mismatch", codes.Unknown, 0, rpc.Business, true, "func mismatch"},
		{404, "gone", codes.NotFound, 0, rpc.Business, true, "gone"},
		{2500, "", codes.FailedPrecondition, 409, rpc.Business, true, "tars error 2500"},
		{-500, "odd", codes.Unknown, 0, rpc.Business, true, "odd"},
	} {
		ret, desc = c.ret, c.desc
		_, _, err := invoke(t.Context(), t, tr, m, o, nil, `{"a":1,"b":2}`)
		var e *rpc.Error
		if !errors.As(err, &e) {
			t.Fatalf("%d: %v", c.ret, err)
		}
		if e.Code != c.code || e.Status != c.status || e.Class != c.class || e.Executed != c.executed || e.Message != c.message || e.Native != c.ret {
			t.Errorf("%d: found %+v", c.ret, e)
		}
		if business := c.class == rpc.Business; business != (len(e.Details) == 1) || business != (e.Header.Get("tars-ret") == strconv.Itoa(int(c.ret))) {
			t.Errorf("%d: details %q, header %v", c.ret, e.Details, e.Header)
		}
	}
}

func TestReturnedErrors(t *testing.T) {
	s := kit(t)
	m := kitMethod(t, s, "add")
	addr := servantOf(t, func(r *Request) *Response {
		p := bind(t, m, nil).(*plan)
		body, err := p.appendBody(nil, message(t, m.Output, `{"ret":-17}`), p.out(), r.Version, true)
		if err != nil {
			t.Error(err)
		}
		return &Response{Body: body}
	})
	for _, body := range []string{"tars", "tup", "json"} {
		o := &tarsadapterv1.Options{RetErrors: true, Body: body}
		_, _, err := invoke(t.Context(), t, dial(t, addr, o), m, o, nil, `{"a":1,"b":2}`)
		var e *rpc.Error
		if !errors.As(err, &e) || e.Native != -17 || e.Class != rpc.Business {
			t.Errorf("%s: found %v", body, err)
		}
		o = &tarsadapterv1.Options{RetErrors: true, RetErrorMethods: []string{"transform"}, Body: body}
		if _, got, err := invoke(t.Context(), t, dial(t, addr, o), m, o, nil, `{"a":1,"b":2}`); err != nil || got != `{"ret":-17}` {
			t.Errorf("%s: found %s, %v", body, got, err)
		}
	}
}

func TestDeadlineAndLateAnswer(t *testing.T) {
	m := kitMethod(t, kit(t), "hello")
	seen, release := make(chan struct{}), make(chan struct{})
	var timeouts []int32
	addr := servantOf(t, func(r *Request) *Response {
		timeouts = append(timeouts, r.Timeout)
		if len(timeouts) == 1 {
			close(seen)
			<-release
		}
		return &Response{Body: tarswire.AppendString(nil, 0, fmt.Sprint("answer ", len(timeouts)))}
	})
	tr := dial(t, addr, nil)
	var ctx wire.Context
	ctx.Reset(t.Context())
	ctx.SetDeadline(time.Now().Add(time.Minute))
	go func() {
		<-seen
		ctx.SetDeadline(time.Now())
		ctx.Expire(time.Now())
	}()
	_, _, err := invoke(&ctx, t, tr, m, nil, nil, `{"name":"x"}`)
	var e *rpc.Error
	if !errors.As(err, &e) || e.Code != codes.DeadlineExceeded || !e.Executed {
		t.Fatalf("found %v", err)
	}
	close(release)
	if _, got, err := invoke(t.Context(), t, tr, m, nil, nil, `{"name":"x"}`); err != nil || got != `{"ret":"answer 2"}` {
		t.Errorf("found %s, %v", got, err)
	}
	if timeouts[0] < 1 || timeouts[0] > 60_000 || timeouts[1] != 0 {
		t.Errorf("timeouts told: %v", timeouts)
	}
}

func TestOneWay(t *testing.T) {
	m := kitMethod(t, kit(t), "note")
	told := make(chan int8, 1)
	addr := servantOf(t, func(r *Request) *Response {
		told <- r.PacketType
		return nil
	})
	o := &tarsadapterv1.Options{OneWay: []string{"note"}}
	if _, got, err := invoke(t.Context(), t, dial(t, addr, o), m, o, nil, `{"text":"x"}`); err != nil || got != "{}" {
		t.Errorf("found %s, %v", got, err)
	}
	if typ := <-told; typ != OneWay {
		t.Errorf("packet type %d", typ)
	}
}

// TestReconnect: after _reconnect_ new calls go elsewhere, and the one in flight is answered.
func TestReconnect(t *testing.T) {
	m := kitMethod(t, kit(t), "hello")
	var mu sync.Mutex
	conns := 0
	second := make(chan struct{})
	addr := peer(t, func(c net.Conn) {
		mu.Lock()
		conns++
		n := conns
		mu.Unlock()
		for {
			packet, err := readPacket(c)
			if err != nil {
				return
			}
			var r Request
			if err := ParseRequest(&r, packet); err != nil {
				t.Error(err)
				return
			}
			if n == 1 {
				_ = writePacket(c, AppendResponse(nil, &Response{Version: 1, Body: []byte{}, Desc: []byte("a push that nobody knows")}))
				_ = writePacket(c, AppendResponse(nil, &Response{Version: 1, Body: []byte{}, Desc: []byte(Reconnect)}))
				<-second
			}
			_ = writePacket(c, AppendResponse(nil, &Response{Version: 1, ID: r.ID, Body: tarswire.AppendString(nil, 0, strconv.Itoa(n))}))
			if n == 2 {
				close(second)
			}
		}
	})
	tr := dial(t, addr, nil)
	first := make(chan string, 1)
	go func() {
		_, got, err := invoke(t.Context(), t, tr, m, nil, nil, `{"name":"x"}`)
		first <- fmt.Sprint(got, err)
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		mu.Lock()
		n := conns
		mu.Unlock()
		if n == 1 || time.Now().After(deadline) {
			break
		}
	}
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, got, err := invoke(ctx, t, tr, m, nil, nil, `{"name":"x"}`)
		cancel()
		if err == nil {
			if got != `{"ret":"2"}` {
				t.Errorf("found %s", got)
			}
			break
		}
	}
	if got := <-first; got != `{"ret":"1"}<nil>` {
		t.Errorf("the call in flight: %s", got)
	}
}

func TestProbe(t *testing.T) {
	ret := int32(0)
	addr := servantOf(t, func(r *Request) *Response {
		if string(r.Function) != "tars_ping" || string(r.Servant) != servant {
			t.Errorf("%+v", r)
		}
		return &Response{Ret: ret, Body: []byte{}}
	})
	tr := dial(t, addr, nil)
	for code, well := range map[int32]bool{0: true, -3: true, -4: false, -9: false} {
		ret = code
		if err := tr.Probe(t.Context()); (err == nil) != well {
			t.Errorf("%d: %v", code, err)
		}
	}
	hung := dial(t, peer(t, func(c net.Conn) { _, _ = readPacket(c); _, _ = readPacket(c) }), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if hung.Probe(ctx) == nil {
		t.Error("a servant that does not answer is well")
	}
}

// TestLyingServant: answers that are not what they should be fail the call and nothing else.
func TestLyingServant(t *testing.T) {
	m := kitMethod(t, kit(t), "hello")
	good := func(id int32) []byte {
		return AppendResponse(nil, &Response{Version: 1, ID: id, Body: tarswire.AppendString(nil, 0, "ok")})
	}
	for _, lie := range []struct {
		name   string
		packet func(id int32) []byte
		code   codes.Code
		reason string
	}{
		{"no string", func(id int32) []byte {
			return AppendResponse(nil, &Response{Version: 1, ID: id, Body: tarswire.AppendInt(nil, 0, 7)})
		}, codes.Internal, "UPSTREAM_MALFORMED"},
		{"nothing where something is required", func(id int32) []byte {
			return AppendResponse(nil, &Response{Version: 1, ID: id, Body: []byte{}})
		}, codes.Internal, "UPSTREAM_MALFORMED"},
		{"a length beyond the packet", func(id int32) []byte {
			return AppendResponse(nil, &Response{Version: 1, ID: id, Body: []byte{0x07, 0x7f, 0xff, 0xff, 0xff, 'x'}})
		}, codes.Internal, "UPSTREAM_MALFORMED"},
		{"a packet that ends early", func(id int32) []byte { return good(id)[:12] }, codes.Internal, "UPSTREAM_MALFORMED"},
		{"too large", func(id int32) []byte {
			return AppendResponse(nil, &Response{Version: 1, ID: id, Body: tarswire.AppendString(nil, 0, strings.Repeat("x", 5<<20))})
		}, codes.ResourceExhausted, "ANSWER_TOO_LARGE"},
		{"larger than a packet may be", func(id int32) []byte {
			return AppendResponse(nil, &Response{Version: 1, ID: id, Body: tarswire.AppendString(nil, 0, strings.Repeat("x", 11<<20))})
		}, codes.ResourceExhausted, "ANSWER_TOO_LARGE"},
		{"an answer to nobody first", func(int32) []byte { return nil }, codes.OK, ""},
		{"no packet", func(int32) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }, codes.Unavailable, "UPSTREAM_RESET"},
		{"nothing", func(int32) []byte { return []byte{} }, codes.Unavailable, "UPSTREAM_RESET"},
	} {
		t.Run(lie.name, func(t *testing.T) {
			addr := peer(t, func(c net.Conn) {
				for {
					packet, err := readPacket(c)
					if err != nil {
						return
					}
					var r Request
					if ParseRequest(&r, packet) != nil {
						return
					}
					answer := lie.packet(r.ID)
					if string(r.Body) == "\x16\x04good" {
						answer = good(r.ID)
					} else if answer == nil {
						_ = writePacket(c, good(r.ID+1))
						answer = good(r.ID)
					}
					if writePacket(c, answer) != nil {
						return
					}
				}
			})
			tr := dial(t, addr, nil)
			_, got, err := invoke(t.Context(), t, tr, m, nil, nil, `{"name":"x"}`)
			e := &rpc.Error{}
			if lie.code == codes.OK {
				if err != nil || got != `{"ret":"ok"}` {
					t.Errorf("found %s, %v", got, err)
				}
			} else if !errors.As(err, &e) || e.Code != lie.code || e.Reason != lie.reason || !e.Executed {
				t.Errorf("found %v", err)
			}
			if _, got, err := invoke(t.Context(), t, tr, m, nil, nil, `{"name":"good"}`); err != nil || got != `{"ret":"ok"}` {
				t.Errorf("the next call: %s, %v", got, err)
			}
		})
	}
}

// TestBindErrors: every fault of options appears at load.
func TestBindErrors(t *testing.T) {
	s := kit(t)
	for _, c := range []struct {
		o    *tarsadapterv1.Options
		want string
	}{
		{&tarsadapterv1.Options{}, `options.servant: want the servant that the instances serve, like "App.Server.Obj"`},
		{&tarsadapterv1.Options{Servant: "A.B.C@tcp -h 1.2.3.4 -p 1"}, `options.servant: want the name alone, found "A.B.C@tcp -h 1.2.3.4 -p 1": give the addresses as endpoints of the service`},
		{&tarsadapterv1.Options{Servant: "A.B"}, `options.servant: want three names with dots between, like "App.Server.Obj", found "A.B"`},
		{&tarsadapterv1.Options{Servant: servant, Body: "tap"}, `options.body: want tars, tup or json, found "tap"; did you mean "tup"?`},
		{&tarsadapterv1.Options{Servant: servant, Charset: "gb"}, `options.charset: want utf8 or gbk, found "gb"`},
		{&tarsadapterv1.Options{Servant: servant, RetErrors: true, RetErrorMethods: []string{"hello"}}, `options.ret_error_methods: Kit.Echo/hello does not return an int`},
		{&tarsadapterv1.Options{Servant: servant, Errors: []*tarsadapterv1.ErrorRule{{From: 1, Code: "NOPE"}}}, `options.errors[0].code: want a gRPC code like NOT_FOUND, found "NOPE"`},
		{&tarsadapterv1.Options{Servant: servant, Errors: []*tarsadapterv1.ErrorRule{{From: 1, Status: 42}}}, `options.errors[0].status: want an HTTP status from 200 to 599, found 42`},
		{&tarsadapterv1.Options{Servant: servant, FrameworkStatus: []string{"STATUS_DYE_KEY"}}, `options.framework_status[0]: want one of STATUS_GRID_KEY, STATUS_DYED_KEY, STATUS_SETNAME_VALUE, STATUS_TRACE_KEY, found "STATUS_DYE_KEY"; did you mean "STATUS_DYED_KEY"?`},
	} {
		_, err := Adapter{}.Bind(kitMethod(t, s, "hello"), c.o)
		if err == nil || err.Error() != c.want {
			t.Errorf("found %v\nwant  %s", err, c.want)
		}
	}
}

func TestMissingRequired(t *testing.T) {
	m := kitMethod(t, kit(t), "add")
	addr := servantOf(t, func(*Request) *Response { return &Response{Body: tarswire.AppendInt(nil, 0, 1)} })
	_, _, err := invoke(t.Context(), t, dial(t, addr, nil), m, nil, nil, `{"a":1}`)
	var e *rpc.Error
	if !errors.As(err, &e) || e.Code != codes.InvalidArgument || e.Executed || e.Message != "b: is required and not given" {
		t.Errorf("found %v", err)
	}
	o := &tarsadapterv1.Options{LenientRequire: true}
	if _, got, err := invoke(t.Context(), t, dial(t, addr, o), m, o, nil, `{"a":1}`); err != nil || got != `{"ret":1}` {
		t.Errorf("found %s, %v", got, err)
	}
}

func TestManyCalls(t *testing.T) {
	m := kitMethod(t, kit(t), "add")
	addr := servantOf(t, func(r *Request) *Response {
		p := bind(t, m, nil).(*plan)
		wire, err := p.body(nil, r.Body, p.in(), 1, true)
		if err != nil {
			t.Error(err)
		}
		return &Response{Body: tarswire.AppendInt(nil, 0, int64(wire[1])+int64(wire[3]))}
	})
	tr := dial(t, addr, nil)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for j := range 20 {
				if _, got, err := invoke(t.Context(), t, tr, m, nil, nil, fmt.Sprintf(`{"a":%d,"b":%d}`, i+1, j+1)); err != nil || got != fmt.Sprintf(`{"ret":%d}`, i+j+2) {
					t.Errorf("found %s, %v", got, err)
				}
			}
		})
	}
	all.Wait()
}

func TestUnreachable(t *testing.T) {
	m := kitMethod(t, kit(t), "add")
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	_, _, err = invoke(t.Context(), t, dial(t, addr, nil), m, nil, nil, `{"a":1,"b":2}`)
	var e *rpc.Error
	if !errors.As(err, &e) || e.Code != codes.Unavailable || e.Executed || e.Class != rpc.Transport || strings.Contains(e.Message, addr) {
		t.Errorf("found %v", err)
	}
}

// TestSchemaless: in JSON a method that is not of IDL has its fields as parameters.
func TestSchemaless(t *testing.T) {
	m, _ := plain(t).Method("/plain.v1.Plain/Do")
	var got string
	addr := servantOf(t, func(r *Request) *Response {
		got = string(r.Body)
		return &Response{Body: []byte(`{"tars_ret":0,"id":"9007199254740993","nested":{"word":"w"},"unknown":[1]}`)}
	})
	o := &tarsadapterv1.Options{Body: "json"}
	_, answer, err := invoke(t.Context(), t, dial(t, addr, o), m, o, nil, `{"id":"9007199254740993","word":"a","list":[1,-2]}`)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"id":"9007199254740993","nested":{"word":"w"}}`; answer != want {
		t.Errorf("want %s, found %s", want, answer)
	}
	for _, part := range []string{`"id":9007199254740993`, `"word":"a"`, `"list":[1,-2]`} {
		if !strings.Contains(got, part) {
			t.Errorf("want %s in the request, found %s", part, got)
		}
	}
}
