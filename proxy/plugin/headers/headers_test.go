package headers

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing", Config: `{request: {}}`, Path: "", Want: "no changes", Fix: "set"},
		{Name: "framing", Config: `{request: {set: {Content-Length: "1"}}}`, Path: `request.set["Content-Length"]`, Want: "the protocol's own", Fix: "remove"},
		{Name: "host", Config: `{request: {set: {host: a}}}`, Path: `request.set["host"]`, Want: "the protocol's own", Fix: "remove"},
		{Name: "status", Config: `{response: {add: {grpc-status: "0"}}}`, Path: `response.add["grpc-status"]`, Want: "the protocol's own", Fix: "remove"},
		{Name: "id", Config: `{response: {remove: [a, X-Request-Id]}}`, Path: "response.remove[1]", Want: "the protocol's own", Fix: "remove"},
		{Name: "name", Config: `{request: {remove: ["a b"]}}`, Path: "request.remove[0]", Want: "not the name of a header", Fix: "letters"},
		{Name: "pseudo header", Config: `{request: {set: {":path": a}}}`, Path: `request.set[":path"]`, Want: "not the name of a header", Fix: "letters"},
		{Name: "line end in a name", Config: `{request: {rename: {a: "b\r\nc"}}}`, Path: `request.rename["a"]`, Want: "not the name of a header", Fix: "letters"},
		{Name: "line end in a value", Config: `{response: {set: {a: "b\r\nc: d"}}}`, Path: `response.set["a"]`, Want: "cannot stand in a header", Fix: "-bin"},
		{Name: "long", Config: `{response: {set: {a: "` + strings.Repeat("x", 8193) + `"}}}`, Path: `response.set["a"]`, Want: "8193 bytes", Fix: "ascii"},
		{Name: "itself", Config: `{request: {rename: {a: A}}}`, Path: `request.rename["a"]`, Want: "itself", Fix: "remove"},
		{Name: "form", Config: `{request: {rename: {a: b-bin}}}`, Path: `request.rename["a"]`, Want: "another form", Fix: "-bin"},
		{Name: "expression", Config: `{request: {add: {a: "{{ clams.sub }}"}}}`, Path: `request.add["a"]`, Want: "undeclared reference to 'clams'", Fix: "EXPRESSION"},
		{Name: "open", Config: `{request: {add: {a: "{{ route"}}}`, Path: `request.add["a"]`, Want: "without", Fix: "EXPRESSION"},
		{Name: "answer", Config: `{response: {set: {a: "{{ answer.code }}"}}}`, Path: `response.set["a"]`, Want: "not known", Fix: "request"},
	})
}

func lines(m rpc.Metadata) string {
	var out []string
	for _, p := range m {
		out = append(out, p.Key+": "+p.Value)
	}
	return strings.Join(out, "\n")
}

func call() *rpc.Call {
	c := plugintest.Call("GET", "/v1/orders/7", "x-a", "1", "x-a", "2", "x-b", "3", "x-raw-bin", "\x00\xff")
	c.Consumer = &rpc.Consumer{Name: "shop", Labels: map[string]string{"tier": "gold"}}
	c.Claims = rpc.Claims{"sub": "ann", "evil": "a\r\nset-cookie: b", "name": "Jörg"}
	return c
}

func TestRequest(t *testing.T) {
	const rest = "x-a: 1\nx-a: 2\nx-b: 3\nx-raw-bin: \x00\xff"
	for _, tc := range []struct{ name, config, want string }{
		{"set", `{request: {set: {X-A: "{{ route }}-{{ metadata['x-b'] }}", x-new: v}}}`, "x-b: 3\nx-raw-bin: \x00\xff\nx-a: orders-3\nx-new: v"},
		{"spaces around", `{request: {set: {x-a: " {{ route }} ", x-b: " ", x-raw-bin: " "}}}`, "x-a: orders\nx-raw-bin:  "},
		{"set to nothing", `{request: {set: {x-a: "{{ metadata['none'] }}"}}}`, "x-b: 3\nx-raw-bin: \x00\xff"},
		{"add", `{request: {add: {x-a: "{{ consumer.name }}"}}}`, rest + "\nx-a: shop"},
		{"add nothing", `{request: {add: {x-a: "{{ metadata['none'] }}"}}}`, rest},
		{"remove", `{request: {remove: [X-A, none]}}`, "x-b: 3\nx-raw-bin: \x00\xff"},
		{"rename", `{request: {rename: {x-a: x-b, none: x-raw}}}`, "x-b: 1\nx-b: 2\nx-raw-bin: \x00\xff"},
		{"rename bytes", `{request: {rename: {x-raw-bin: y-bin}, remove: [x-a, x-b]}}`, "y-bin: \x00\xff"},
		{"bytes", `{request: {set: {y-bin: "{{ claims.evil }}{{ claims.name }}"}, remove: [x-a, x-b, x-raw-bin]}}`, "y-bin: a\r\nset-cookie: bJörg"},
		{"in their order", `{request: {rename: {x-a: y}, remove: [x-a, y], set: {x-a: s}, add: {x-a: t}}}`, "x-b: 3\nx-raw-bin: \x00\xff\nx-a: s\nx-a: t"},
		{"who calls", `{request: {set: {x-consumer-name: "{{ claims.sub }}"}, remove: [x-a, x-b, x-raw-bin]}}`, "x-consumer-name: ann"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, next := call(), &plugintest.Next{}
			if err := plugintest.New(t, Kind, plugintest.Env(t), tc.config).Wrap(next).Handle(t.Context(), c); err != nil || next.Calls != 1 {
				t.Fatal(err, next.Calls)
			}
			if diff := cmp.Diff(tc.want, lines(c.Header)); diff != "" {
				t.Error(diff)
			}
			if lines(c.HTTP.Header) != rest || len(c.HTTP.Answer) != 0 {
				t.Errorf("want the request's own head unchanged, found %v, answer %v", c.HTTP.Header, c.HTTP.Answer)
			}
		})
	}
}

func TestValuesThatCannotBeSent(t *testing.T) {
	for _, tc := range []struct {
		config string
		code   codes.Code
		status int
		reason string
	}{
		{`{request: {set: {x: "{{ claims.evil }}"}}}`, codes.InvalidArgument, 0, "HEADER_VALUE"},
		{`{request: {add: {x: "a{{ claims.name }}"}}}`, codes.InvalidArgument, 0, "HEADER_VALUE"},
		{`{response: {set: {x: "{{ claims.evil }}"}}}`, codes.InvalidArgument, 0, "HEADER_VALUE"},
		{`{response: {add: {x: "{{ metadata['long'] }}"}}}`, codes.InvalidArgument, 0, "HEADER_VALUE"},
		{`{request: {set: {x: "{{ claims.none }}"}}}`, codes.Internal, 0, "HEADER_FAILED"},
		{`{response: {add: {x: "{{ claims.none }}"}}}`, codes.Internal, 0, "HEADER_FAILED"},
	} {
		next, c := &plugintest.Next{}, call()
		c.Header.Add("long", strings.Repeat("x", 8193))
		e := plugintest.Refused(t, plugintest.New(t, Kind, plugintest.Env(t), tc.config).Wrap(next).Handle(t.Context(), c), tc.code, tc.status, tc.reason)
		if next.Calls != 0 || strings.Contains(e.Error(), "cookie") || strings.Contains(e.Error(), "rg") && tc.reason == "HEADER_VALUE" && strings.Contains(e.Error(), "J") {
			t.Errorf("%s: %d calls, %v", tc.config, next.Calls, &e)
		}
	}
}

func TestResponse(t *testing.T) {
	const config = `{response: {rename: {x-instance: x-served-by, x-raw-bin: y-bin, x-cost: x-price}, remove: [x-secret], set: {x-set: "{{ consumer.name }}", z-bin: "\u0000"}, add: {x-add: "{{ claims.sub }}", x-none: "{{ metadata['none'] }}"}}}`
	replied := func(c *rpc.Call) {
		c.Reply.Header = rpc.Metadata{{Key: "x-instance", Value: "a"}, {Key: "x-set", Value: "service"}, {Key: "x-add", Value: "service"}, {Key: "x-secret", Value: "s"}, {Key: "x-raw-bin", Value: "\x00"}}
		c.Reply.Trailer = rpc.Metadata{{Key: "x-cost", Value: "3"}, {Key: "x-secret", Value: "s"}}
	}
	const answer = "x-set: shop\nz-bin: AA\nx-add: ann"
	broken := rpc.Refuse(codes.Aborted, "R", "m")
	for _, tc := range []struct {
		name                    string
		http                    bool
		do                      func(context.Context, *rpc.Call) error
		answer, header, trailer string
	}{
		{"an answer", true, func(_ context.Context, c *rpc.Call) error { replied(c); return nil }, answer + "\nx-served-by: a\ny-bin: AA", "x-add: service", "x-price: 3"},
		{"an error", true, func(_ context.Context, c *rpc.Call) error { replied(c); return broken }, answer + "\nx-served-by: a\ny-bin: AA", "x-add: service", "x-price: 3"},
		{"a refusal", true, func(context.Context, *rpc.Call) error { return broken }, answer, "", ""},
		{"without HTTP", false, func(_ context.Context, c *rpc.Call) error { replied(c); return nil }, "", "x-served-by: a\nx-add: service\ny-bin: \x00\nx-set: shop\nz-bin: \x00\nx-add: ann", "x-price: 3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, next := call(), &plugintest.Next{Do: tc.do}
			c.HTTP.Answer.Add("x-set", "another plugin's")
			h := c.HTTP
			if !tc.http {
				c.HTTP = nil
			}
			err := plugintest.New(t, Kind, plugintest.Env(t), config).Wrap(next).Handle(t.Context(), c)
			if want := tc.do(t.Context(), call()); err != want { //nolint:errorlint // the very one
				t.Errorf("want %v, found %v", want, err)
			}
			if tc.http {
				if diff := cmp.Diff(tc.answer, lines(h.Answer)); diff != "" {
					t.Error(diff)
				}
			}
			if diff := cmp.Diff(tc.header+"\n--\n"+tc.trailer, lines(c.Reply.Header)+"\n--\n"+lines(c.Reply.Trailer)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// headed is a stream that remembers with what its head went out.
type headed struct {
	rpc.Stream
	c          *rpc.Call
	head       string
	started, n int
}

func (s *headed) Start() error {
	s.started++
	s.head = lines(s.c.HTTP.Answer) + "|" + lines(s.c.Reply.Header)
	return nil
}

func (s *headed) Send(*rpc.Message, bool) error {
	if s.n++; s.started == 0 {
		return s.Start()
	}
	return nil
}

func TestStream(t *testing.T) {
	for name, begin := range map[string]func(rpc.Stream) error{
		"started": func(s rpc.Stream) error { return s.Start() },
		"sent":    func(s rpc.Stream) error { return s.Send(&rpc.Message{}, false) },
	} {
		t.Run(name, func(t *testing.T) {
			c := call()
			s := &headed{c: c}
			c.Stream = s
			next := &plugintest.Next{Do: func(_ context.Context, c *rpc.Call) error {
				c.Reply.Header = rpc.Metadata{{Key: "x-instance", Value: "a"}, {Key: "x-secret", Value: "s"}}
				if err := begin(c.Stream); err != nil {
					return err
				}
				c.Reply.Trailer = rpc.Metadata{{Key: "x-secret", Value: "s"}, {Key: "x-cost", Value: "3"}}
				return c.Stream.Send(&rpc.Message{}, false)
			}}
			const config = `{response: {rename: {x-instance: x-served-by}, remove: [x-secret], set: {x-set: s}}}`
			if err := plugintest.New(t, Kind, plugintest.Env(t), config).Wrap(next).Handle(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if s.head != "x-set: s\nx-served-by: a|" || s.started != 1 || lines(c.Reply.Trailer) != "x-cost: 3" {
				t.Errorf("head %q, started %d times, trailer %v", s.head, s.started, c.Reply.Trailer)
			}
		})
	}
}

func TestAsserts(t *testing.T) {
	p := plugintest.New(t, Kind, plugintest.Env(t), `{request: {set: {X-User: "{{ claims.sub }}", x-path: "{{ request.path }}"}, add: {x-shop: "a-{{ consumer.name }}"}}, response: {set: {x-who: "{{ consumer.name }}"}}}`)
	if diff := cmp.Diff([]string{"x-user", "x-shop"}, p.(plugin.Asserter).Asserts()); diff != "" { //nolint:forcetypeassert // it is, by the package
		t.Error(diff)
	}
}

// Whatever a caller sends, a header stays one header.
func FuzzValue(f *testing.F) {
	for _, seed := range []string{"a", "a\r\nb: c", "\x00", "\x7f", "ü", "{{ route }}", " "} {
		f.Add(seed)
	}
	p := plugintest.New(f, Kind, plugintest.Env(f), `{request: {set: {x: "{{ metadata['in'] }}"}}, response: {add: {y: "<{{ metadata['in'] }}>"}}}`)
	f.Fuzz(func(t *testing.T, value string) {
		c, next := call(), &plugintest.Next{}
		c.Header = rpc.Metadata{{Key: "in", Value: value}}
		err := p.Wrap(next).Handle(t.Context(), c)
		if err != nil {
			if next.Calls != 0 || plugin.HeaderValue(value) && len(value) < maxValue-2 {
				t.Errorf("%q: %v", value, err)
			}
			return
		}
		if c.Header.Get("x") != strings.Trim(value, " ") || c.HTTP.Answer.Get("y") != "<"+value+">" || strings.ContainsAny(value, "\r\n\x00") {
			t.Errorf("%q: %v %v", value, c.Header, c.HTTP.Answer)
		}
	})
}

func TestHandleAllocs(t *testing.T) {
	h := plugintest.New(t, Kind, plugintest.Env(t), `{request: {set: {x-a: v}, remove: [x-b]}, response: {set: {y: v}}}`).Wrap(&plugintest.Next{})
	plugintest.Allocs(t, 0, h, call())
}

func BenchmarkTemplate(b *testing.B) {
	h := plugintest.New(b, Kind, plugintest.Env(b), `{request: {set: {x-user: "{{ claims.sub }}"}}}`).Wrap(&plugintest.Next{})
	c, ctx := call(), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}
