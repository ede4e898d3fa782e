package requestsize

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing", Config: `{}`, Path: "", Want: "no bounds", Fix: "max_body"},
		{Name: "below", Config: `{max_body: -1}`, Path: "max_body", Want: "found -1", Fix: "number"},
		{Name: "above", Config: `{max_message: 2147483648}`, Path: "max_message", Want: "found 2147483648", Fix: "number"},
		{Name: "stream", Config: `{max_stream: -5}`, Path: "max_stream", Want: "found -5", Fix: "number"},
	})
}

// sentBody is a body of which is known what was read.
type sentBody struct {
	raw, message string
	read         bool
}

func (b *sentBody) Raw(context.Context) ([]byte, error) { b.read = true; return []byte(b.raw), nil }

func (b *sentBody) Message(context.Context, *schema.Message) (*rpc.Message, error) {
	b.read = true
	return &rpc.Message{Data: []byte(b.message)}, nil
}

// boundBody can be bounded.
type boundBody struct {
	sentBody
	most int
}

func (b *boundBody) Bound(most int) { b.most = most }

func reading(message bool) *plugintest.Next {
	return &plugintest.Next{Do: func(ctx context.Context, c *rpc.Call) error {
		if message {
			_, err := c.Body.Message(ctx, nil)
			return err
		}
		_, err := c.Body.Raw(ctx)
		return err
	}}
}

func TestStatedLength(t *testing.T) {
	for length, passes := range map[string]bool{"10": true, "15": true, "16": false, "9223372036854775807": false, "99999999999999999999": true, "": true, "x": true} {
		next, b := &plugintest.Next{}, &boundBody{}
		c := plugintest.Call("POST", "/", "content-length", length)
		c.Body = b
		err := plugintest.New(t, Kind, plugintest.Env(t), `{max_body: 10}`).Wrap(next).Handle(t.Context(), c)
		if !passes {
			plugintest.Refused(t, err, codes.ResourceExhausted, 413, "BODY_TOO_LARGE")
		} else if err != nil || b.most != 10 {
			t.Errorf("%q: %v, bound %d", length, err, b.most)
		}
		if b.read || (next.Calls == 1) != passes {
			t.Errorf("%q: read %v, %d calls", length, b.read, next.Calls)
		}
	}
}

func TestBodyThatCannotBeBounded(t *testing.T) {
	for _, tc := range []struct {
		name         string
		raw, message string
		asMessage    bool
		passes       bool
	}{
		{"fits", "0123456789", "0123456789", false, true},
		{"does not", "0123456789a", "", false, false},
		{"message fits", "0123456789", "0123456789", true, true},
		{"its bytes do not", "0123456789a", "0", true, false},
		{"unpacked it does not", "0", "0123456789a", true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := plugintest.Call("POST", "/")
			c.Body = &sentBody{raw: tc.raw, message: tc.message}
			h := plugintest.New(t, Kind, plugintest.Env(t), `{max_body: 10}`).Wrap(reading(tc.asMessage))
			h = plugintest.New(t, Kind, plugintest.Env(t), `{max_body: 100}`).Wrap(h)
			err := h.Handle(t.Context(), c)
			if !tc.passes {
				plugintest.Refused(t, err, codes.ResourceExhausted, 413, "BODY_TOO_LARGE")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// messages are the requests of a stream.
type messages struct {
	rpc.Stream
	sizes []int
}

func (s *messages) Recv(m *rpc.Message) error {
	if len(s.sizes) == 0 {
		return io.EOF
	}
	*m = rpc.Message{Data: make([]byte, s.sizes[0])}
	s.sizes = s.sizes[1:]
	return nil
}

func TestStream(t *testing.T) {
	for _, tc := range []struct {
		name, config string
		sizes        []int
		got          int
		want         string // of the error; "": none
	}{
		{"fits", `{max_message: 10, max_stream: 25}`, []int{10, 0, 10, 5}, 4, ""},
		{"a message", `{max_message: 10, max_stream: 25}`, []int{10, 11, 1}, 1, "a message of the stream is larger than 10 bytes"},
		{"all", `{max_message: 10, max_stream: 25}`, []int{10, 10, 6}, 2, "the stream of requests is larger than 25 bytes"},
		{"no bound on all", `{max_message: 10}`, []int{10, 10, 10, 10}, 4, ""},
		{"no bound on one", `{max_stream: 25}`, []int{20, 6}, 1, "the stream of requests is larger than 25 bytes"},
		{"bodies only", `{max_body: 5}`, []int{20, 6}, 2, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := 0
			next := &plugintest.Next{Do: func(_ context.Context, c *rpc.Call) error {
				for {
					var m rpc.Message
					if err := c.Stream.Recv(&m); errors.Is(err, io.EOF) {
						return nil
					} else if err != nil {
						return err
					}
					got++
				}
			}}
			c := plugintest.Call("POST", "/")
			c.Method = &schema.Method{Name: "/acme.v1.Orders/Put", Kind: schema.ClientStream}
			c.Stream = &messages{sizes: tc.sizes}
			err := plugintest.New(t, Kind, plugintest.Env(t), tc.config).Wrap(next).Handle(t.Context(), c)
			if tc.want == "" && err != nil || got != tc.got {
				t.Errorf("found %v after %d", err, got)
			}
			if tc.want != "" {
				if e := plugintest.Refused(t, err, codes.ResourceExhausted, 413, "BODY_TOO_LARGE"); !strings.Contains(e.Message, tc.want) {
					t.Errorf("found %q", e.Message)
				}
			}
		})
	}
}

func TestHandleAllocs(t *testing.T) {
	c := plugintest.Call("POST", "/", "content-length", "5")
	c.Body = &boundBody{}
	plugintest.Allocs(t, 0, plugintest.New(t, Kind, plugintest.Env(t), `{max_body: 10}`).Wrap(&plugintest.Next{}), c)
}

func BenchmarkHandle(b *testing.B) {
	c := plugintest.Call("POST", "/", "content-length", "5")
	c.Body = &boundBody{}
	h, ctx := plugintest.New(b, Kind, plugintest.Env(b), `{max_body: 10}`).Wrap(&plugintest.Next{}), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}
