package grpc

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// handler is a function as a handler.
type handler func(ctx context.Context, c *rpc.Call) error

func (h handler) Handle(ctx context.Context, c *rpc.Call) error { return h(ctx, c) }

// An answer that the service has packed stays so where its caller takes it so and nobody reads it.
func TestPackedAnswers(t *testing.T) {
	text := strings.Repeat("hello ", 100) // too short for the face to pack it itself
	packed, plain := flagged(1, zip(text)), message(text)
	for _, tc := range []struct {
		name   string
		header rpc.Metadata
		reads  bool // a plugin reads the answer
		want   []byte
	}{
		{"taken so", rpc.Metadata{{Key: "grpc-encoding", Value: "gzip"}, {Key: "grpc-accept-encoding", Value: "identity,gzip"}}, false, packed},
		{"read", rpc.Metadata{{Key: "grpc-encoding", Value: "gzip"}, {Key: "grpc-accept-encoding", Value: "identity,gzip"}}, true, plain},
		{"not taken", rpc.Metadata{{Key: "grpc-encoding", Value: "gzip"}}, false, plain},
		{"plain request", rpc.Metadata{{Key: "grpc-accept-encoding", Value: "gzip"}}, false, plain},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := startLiar(t, nil, func(id uint32) []byte {
				return join(grpcHead(id, "grpc-encoding", "gzip"), data(id, false, packed), okay(id))
			}, stay)
			tr := dial(t, rpcadapters.Target{Address: s.address})
			e := &adaptertest.Engine{}
			header := append(rpc.Metadata{{Key: "content-type", Value: "application/grpc"}, {Key: "te", Value: "trailers"}}, tc.header...)
			e.Reset("POST", adaptertest.Unary, "HTTP/2.0", header, message("\x0a\x01x"))
			m := e.Matched(adaptertest.Method(t, adaptertest.Schema(t), adaptertest.Unary))
			NewFace().Serve(t.Context(), &e.X, m, handler(func(ctx context.Context, c *rpc.Call) error {
				if tc.reads {
					c.Packed = rpc.Identity
				}
				req, err := c.Body.Message(ctx, c.Method.Input)
				if err != nil {
					return err
				}
				return tr.Unary(ctx, c, req, &c.Reply)
			}))
			if e.Sent.Code != codes.OK {
				t.Fatalf("found %+v", e.Sent)
			}
			if got := e.Out.String(); got != string(tc.want) {
				t.Errorf("found %d bytes that begin with %.5q, want %d with %.5q", len(got), got, len(tc.want), tc.want)
			}
			if n := m.Options.Budget.Used(); n != 0 {
				t.Errorf("%d bytes of the budget are held", n)
			}
		})
	}
}

// What stays packed is bounded as it came; and where it is unpacked, as before.
func TestPackedAnswerTooLarge(t *testing.T) {
	large := make([]byte, 40_000) // that nothing packs
	for i, x := 0, uint32(1); i < len(large); i++ {
		x = x*1664525 + 1013904223
		large[i] = byte(x >> 24)
	}
	s := startLiar(t, nil, func(id uint32) []byte {
		b := grpcHead(id, "grpc-encoding", "gzip")
		for p := flagged(1, zip(string(large))); len(p) > 0; {
			n := min(len(p), 16<<10)
			b, p = append(b, data(id, false, p[:n])...), p[n:]
		}
		return join(b, okay(id))
	}, stay)
	tr := dial(t, rpcadapters.Target{Address: s.address, MaxMessage: 30_000})
	c := call("/a.B/C")
	c.Packed = rpc.Gzip
	var reply rpc.Reply
	err := tr.Unary(t.Context(), c, &rpc.Message{Data: []byte("x")}, &reply)
	var e *rpc.Error
	if !errors.As(err, &e) || e.Reason != "ANSWER_TOO_LARGE" {
		t.Errorf("found %v, want it refused", err)
	}
	reply.Reset()
}
