package framed

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// keeper has its calls go on without their clients.
type keeper struct {
	left   <-chan struct{} // closed once the client has left
	begun  chan struct{}   // a call has begun
	then   chan error      // what its context says after Keep
	ended  chan error      // what ended it
	before bool            // Keep is said before the client leaves
}

func (k *keeper) Begin(*Incoming) Handler { return k }

func (k *keeper) Run(in *Incoming) {
	if k.before {
		in.Keep()
	}
	k.begun <- struct{}{}
	<-k.left
	if !k.before {
		for end := time.Now().Add(20 * time.Second); in.ctx.Err() == nil && time.Now().Before(end); {
			time.Sleep(time.Millisecond) // the loss is seen by the reader
		}
		in.Keep()
	}
	k.then <- in.Context().Err()
	<-in.Context().Done()
	k.ended <- in.Context().Err()
}

// A call that is kept goes on when its client leaves, also when that was before, and ends when the server cuts its connections.
func TestKeep(t *testing.T) {
	for name, before := range map[string]bool{"before it leaves": true, "after it has left": false} {
		t.Run(name, func(t *testing.T) {
			left := make(chan struct{})
			k := &keeper{left: left, begun: make(chan struct{}, 1), then: make(chan error, 1), ended: make(chan error, 1), before: before}
			s, addr := serve(t, ServerConfig{Service: k}, server.Options{})
			c, err := net.Dial("tcp", addr) //nolint:noctx // loopback
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write(unary("told").AppendFrame(nil, 7))
			<-k.begun
			_ = c.Close()
			close(left)
			if err := <-k.then; err != nil {
				t.Errorf("want the call to go on, found %v", err)
			}
			select {
			case err := <-k.ended:
				t.Errorf("want the call to go on, found it ended: %v", err)
			case <-time.NewTimer(50 * time.Millisecond).C:
			}
			now, cancel := context.WithCancel(context.Background())
			cancel()
			_ = s.Shutdown(now) // that a call was cut is what was asked for
			if err := <-k.ended; err == nil {
				t.Error("want the call cancelled with its server")
			}
		})
	}
}
