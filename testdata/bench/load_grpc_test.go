package main

import (
	"context"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/causeway-gateway/causeway/testdata/bench/benchpb"
)

// TestLoadGRPC runs the gRPC load against a grpc-go server that answers right, wrong, and breaks off.
func TestLoadGRPC(t *testing.T) {
	all, err := newCalls()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		call  *call
		set   func(*load)
		place func(s *orders, n int64) (*benchpb.Order, error)
		want  string // part of the error, empty for none
	}{
		{name: "closed loop", call: all.grpc},
		{name: "constant rate", call: all.grpc, set: func(l *load) { l.rate, l.latency = 500, true }},
		{name: "streams", call: all.grpcStream},
		{
			name: "wrong message", call: all.grpc, want: "unexpected answer: ",
			place: func(_ *orders, n int64) (*benchpb.Order, error) {
				o := order()
				if n == 50 {
					o.Total++
				}
				return o, nil
			},
		},
		{
			name: "short message", call: all.grpc, want: "unexpected answer: ",
			place: func(s *orders, n int64) (*benchpb.Order, error) {
				if n == 50 {
					return &benchpb.Order{}, nil
				}
				return s.order, nil
			},
		},
		{
			name: "wrong status", call: all.grpc, want: `unexpected answer: grpc-status "14" "gone", want 0`,
			place: func(s *orders, n int64) (*benchpb.Order, error) {
				if n == 50 {
					return nil, status.Error(codes.Unavailable, "gone")
				}
				return s.order, nil
			},
		},
		{name: "stream cut short", call: &call{
			protocol: speaksGRPC, target: all.grpcStream.target, body: all.grpc.body, answer: append(all.grpcStream.answer, 0), messages: 1,
		}, want: "unexpected answer: 172000 bytes, want 172001"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := &misled{orders: orders{order: order(), list: listReply()}, place: tt.place, t: t}
			s := grpc.NewServer()
			benchpb.RegisterOrdersServer(s, served)
			go func() { _ = s.Serve(ln) }()
			defer s.Stop()
			l := &load{
				address: ln.Addr().String(), call: tt.call, body: tt.call.answer, conns: 2, streams: 3, pid: os.Getpid(),
				warm: 20 * time.Millisecond, measure: 200 * time.Millisecond,
			}
			if tt.set != nil {
				tt.set(l)
			}
			out, err := l.run(t.Context())
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("error %v, want %s", err, tt.want)
			case tt.want != "":
				return
			}
			if out.calls == 0 || int64(out.calls) > served.calls.Load() || out.bytes < len(tt.call.answer) || out.cpu.total <= 0 {
				t.Errorf("measured %+v, served %d", out, served.calls.Load())
			}
			if l.rate > 0 && (out.calls < 50 || out.calls > 150 || len(out.latency) != out.calls) {
				t.Errorf("%d calls and %d latencies in 0.2 s at 500 calls per second", out.calls, len(out.latency))
			}
		})
	}
}

// misled is the backend with a Place that may go wrong.
type misled struct {
	orders

	t     *testing.T
	calls atomic.Int64
	seen  atomic.Pointer[string] // the last call's deadline and trace context
	place func(s *orders, n int64) (*benchpb.Order, error)
}

// meet checks the metadata of a call.
func (m *misled) meet(md metadata.MD) int64 {
	one := strings.Join(md.Get("traceparent"), ",")
	if last := m.seen.Swap(&one); len(one) != 55 || last != nil && *last == one {
		m.t.Errorf("traceparent %q after %v", one, last)
	}
	if a := md.Get("authorization"); len(a) != 1 || a[0] != token || len(token) < 300 {
		m.t.Errorf("authorization %q", a)
	}
	return m.calls.Add(1)
}

func (m *misled) Place(ctx context.Context, r *benchpb.PlaceRequest) (*benchpb.Order, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	n := m.meet(md)
	if m.place != nil {
		return m.place(&m.orders, n)
	}
	if left, ok := ctx.Deadline(); !ok || time.Until(left) > 10*time.Second {
		m.t.Errorf("deadline %v", left)
	}
	return m.orders.Place(ctx, r)
}

func (m *misled) Watch(r *benchpb.PlaceRequest, to grpc.ServerStreamingServer[benchpb.Order]) error {
	md, _ := metadata.FromIncomingContext(to.Context())
	m.meet(md)
	return m.orders.Watch(r, to)
}
