package trpc

import (
	"errors"
	"net"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// TestAnswerLies: each answer that cannot be ends its call with an error that says so, and nothing else.
func TestAnswerLies(t *testing.T) {
	m := method(t, kitSchema(t), "/trpc.kit.echo.Echo/Echo")
	bomb, err := appendPacked(nil, make([]byte, 1<<20), encodingGzip)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 1 << 16
	for _, c := range []struct {
		name   string
		answer func(req *trpckit.Frame) []byte
		want   string
		cut    bool // the connection is of no use afterwards
	}{
		{"header is no protobuf", func(req *trpckit.Frame) []byte {
			b := trpckit.Response(req, nil).Bytes()
			b[16] = 0xff
			return b
		}, "UPSTREAM_MALFORMED", false},
		{"attachment beyond the frame", func(req *trpckit.Frame) []byte {
			return trpckit.Response(req, []byte("body")).Set("attachment_size", uint32(5)).Bytes()
		}, "UPSTREAM_MALFORMED", false},
		{"attachment of 4 GiB", func(req *trpckit.Frame) []byte {
			return trpckit.Response(req, []byte("body")).Set("attachment_size", ^uint32(0)).Bytes()
		}, "UPSTREAM_MALFORMED", false},
		{"unknown encoding", func(req *trpckit.Frame) []byte {
			return trpckit.Response(req, []byte("body")).Set("content_encoding", uint32(6)).Bytes()
		}, "UPSTREAM_MALFORMED", false},
		{"unknown content", func(req *trpckit.Frame) []byte {
			return trpckit.Response(req, []byte("body")).Set("content_type", uint32(128)).Bytes()
		}, "UPSTREAM_MALFORMED", false},
		{"not JSON", func(req *trpckit.Frame) []byte {
			return trpckit.Response(req, []byte("body")).Set("content_type", uint32(2)).Bytes()
		}, "UPSTREAM_MALFORMED", false},
		{"not gzip", func(req *trpckit.Frame) []byte {
			return trpckit.Response(req, []byte("body")).Set("content_encoding", uint32(1)).Bytes()
		}, "UPSTREAM_MALFORMED", false},
		{"bomb", func(req *trpckit.Frame) []byte {
			return trpckit.Response(req, bomb).Set("content_encoding", uint32(1)).Bytes()
		}, "ANSWER_TOO_LARGE", false},
		{"larger than is taken", func(req *trpckit.Frame) []byte {
			return trpckit.Response(req, make([]byte, limit+1)).Bytes()
		}, "ANSWER_TOO_LARGE", false},
		{"larger than any frame", func(req *trpckit.Frame) []byte {
			return trpckit.Response(req, make([]byte, limit+maxHeader+headLen)).Bytes()
		}, "ANSWER_TOO_LARGE", false},
		{"length of 4 GiB", func(req *trpckit.Frame) []byte {
			b := trpckit.Response(req, nil).Bytes()
			copy(b[4:], "\xff\xff\xff\xff")
			return b
		}, "UPSTREAM_RESET", true},
		{"length of less than its head", func(req *trpckit.Frame) []byte {
			b := trpckit.Response(req, nil).Bytes()
			copy(b[4:], "\x00\x00\x00\x0f")
			return b
		}, "UPSTREAM_RESET", true},
		{"magic", func(req *trpckit.Frame) []byte {
			b := trpckit.Response(req, nil).Bytes()
			b[1]++
			return b
		}, "UPSTREAM_RESET", true},
		{"cut", func(req *trpckit.Frame) []byte {
			b := trpckit.Response(req, []byte("body")).Bytes()
			return b[:len(b)-1]
		}, "UPSTREAM_RESET", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := scripted(t, func(nc net.Conn) {
				for lied := false; ; lied = true {
					req, err := trpckit.Read(nc, true)
					if err != nil {
						return
					}
					answer := trpckit.Response(req, req.Body).Bytes()
					if !lied {
						// Frames that are nobody's do not disturb.
						other := trpckit.Response(trpckit.Request(req.ID+1, "", nil), nil)
						write(nc, other, trpckit.End(7, 1, 1, "uninitialized meta"))
						answer = c.answer(req)
					}
					if _, err := nc.Write(answer); err != nil || !lied && c.cut {
						return
					}
				}
			})
			tr, err := Adapter{}.Dial(rpcadapters.Target{Address: addr, MaxMessage: limit})
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			var out rpc.Reply
			e, ok := errors.AsType[*rpc.Error](tr.Unary(deadline(t), callOf(t, m, nil), &rpc.Message{}, &out))
			if !ok || e.Reason != c.want || !e.Executed {
				t.Fatalf("%+v", e)
			}
			if c.cut {
				return
			}
			if err := tr.Unary(deadline(t), callOf(t, m, nil), &rpc.Message{Data: []byte("\n\x01x")}, &out); err != nil || string(out.Message.Data) != "\n\x01x" {
				t.Errorf("afterwards: %v %q", err, out.Message.Data)
			}
			out.Reset()
		})
	}
}
