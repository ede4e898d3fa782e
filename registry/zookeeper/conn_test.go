package zookeeper

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// TestLossEndsWaits holds that whoever waits for an answer, or for a place among those who may ask, is told when the connection is
// lost: the library keeps requests that it has not sent until there is a connection again.
func TestLossEndsWaits(t *testing.T) {
	t.Parallel()
	_, addr := startDev(t)
	g := startGate(t, addr)
	conn := connect(t, Config{Servers: []string{g.addr()}, Session: 3 * time.Second})
	eventually(t, "a session", func() bool { return conn.Err() == nil })
	s, _ := conn.now()
	const many = 400 // many more than may ask at one time
	g.set(hold)
	lost := make(chan error, many)
	for i := range many {
		go func() {
			_, err := do(short(t), conn, s.generation, func(z *zk.Conn) (bool, error) { b, _, err := z.Exists(fmt.Sprintf("/%d", i)); return b, err })
			lost <- err
		}()
	}
	eventually(t, "the loss noticed", func() bool { return conn.Err() != nil })
	began := time.Now()
	for range many {
		if err := <-lost; !errors.Is(err, errLost) && !errors.Is(err, zk.ErrConnectionClosed) {
			t.Errorf("want the connection lost, found %v", err)
		}
	}
	if took := time.Since(began); took > 20*time.Second { // a round of 32 after the other would take minutes
		t.Errorf("want everybody told at once, found it told after %v", took)
	}
	g.set(pass)
	eventually(t, "a session again", func() bool { return conn.Err() == nil })
}
