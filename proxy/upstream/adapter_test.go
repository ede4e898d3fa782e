package upstream

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/proxy/outlier"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/grpc"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// TestOutcomesOfGRPC holds together what an adapter says and what Classify makes of it.
func TestOutcomesOfGRPC(t *testing.T) {
	for name, c := range map[string]struct {
		server  func(net.Listener) // nil: nobody listens
		timeout time.Duration
		want    outlier.Outcome
	}{
		"nobody listens": {nil, 20 * time.Second, outlier.Unreached},
		"it hangs up before it has said anything": {func(l net.Listener) {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				var some [64]byte
				_, _ = conn.Read(some[:]) // whatever comes
				_ = conn.Close()
			}
		}, 20 * time.Second, outlier.Unreached},
		"the caller has no time": {func(net.Listener) {}, 20 * time.Millisecond, outlier.Neutral},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan struct{})
			if c.server == nil {
				l.Close()
				close(served)
			} else {
				go func() {
					defer close(served)
					c.server(l)
				}()
			}
			transport, err := grpc.Adapter{}.Dial(rpcadapters.Target{Address: l.Addr().String(), DialTimeout: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
			defer cancel()
			var out rpc.Reply
			err = transport.Unary(ctx, &rpc.Call{Method: &schema.Method{Name: "/shop.Orders/Get"}}, &rpc.Message{}, &out)
			if err == nil {
				t.Fatal("want an error, found none")
			}
			if got := Classify(err, 10*time.Millisecond); got != c.want {
				t.Errorf("want %d of %v, found %d", c.want, err, got)
			}
			if err := transport.Close(); err != nil {
				t.Error(err)
			}
			l.Close()
			<-served
		})
	}
}
