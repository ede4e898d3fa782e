package zookeeper

import (
	"context"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
)

func testOrder(t *testing.T, x registered) {
	lease, ok := x.register(t, &Registrar{Window: time.Minute}, registry.Endpoint{Address: "a:1"}).(*Lease)
	if !ok {
		t.Fatal("want a *Lease")
	}
	order := func(s registry.Status) {
		t.Helper()
		// On a slow machine the session may end, and the node with it, before the lease has seen what was ordered.
		var again time.Time
		eventually(t, "the order obeyed", func() bool {
			if time.Now().After(again) {
				if err := x.conn.Order(short(t), "orders", "a-1", s); err != nil {
					t.Log(err)
				}
				again = time.Now().Add(5 * time.Second)
			}
			return lease.Status() == s
		})
		x.eventually(t, "the node to say so", "a-1", func(in Instance, _ *zk.Stat) bool { return in.Status == s.String() })
	}
	order(registry.Draining)
	x.gate.set(refuse)
	eventually(t, "the node expired", func() bool { _, _, ok := nodeAt(t, x.side, x.dir+"/a-1"); return !ok })
	x.gate.set(pass)
	x.eventually(t, "an order that outlives its node", "a-1", func(in Instance, _ *zk.Stat) bool { return in.Status == "draining" })
	order(registry.Up)
	order(registry.Down)
	order(registry.Up)
	// Its own word comes before an operator's.
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- lease.Drain(ctx) }()
	eventually(t, "it draining", func() bool { return lease.Status() == registry.Draining })
	settled(t, lease)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	data, _, err := x.side.Get(x.dir + "/a-1")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := WithStatus(data, registry.Up)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := x.side.Set(x.dir+"/a-1", changed, -1)
	if err != nil {
		t.Fatal(err)
	}
	x.eventually(t, "it draining all the same", "a-1", func(in Instance, s *zk.Stat) bool { return in.Status == "draining" && s.Version > stat.Version })
}

// An order given while the instance hears nothing is not lost with the session that ends before it hears again; one that was
// given to a process before it is not its own.
func testOrderInTheGap(t *testing.T, x registered) {
	lease, ok := x.register(t, &Registrar{}, registry.Endpoint{Address: "a:1"}).(*Lease)
	if !ok {
		t.Fatal("want a *Lease")
	}
	operator := connect(t, Config{Servers: []string{x.addr}, Root: x.root})
	beside := x.root + "/v1/services/orders/orders/a-1"
	seen := func() bool {
		there, _, err := x.side.Exists(beside)
		return err == nil && !there
	}
	for _, status := range []registry.Status{registry.Draining, registry.Up, registry.Down} {
		eventually(t, "the order given in the gap", func() bool {
			x.eventually(t, "the node", "a-1", func(Instance, *zk.Stat) bool { return true })
			x.gate.set(refuse)
			if err := operator.Order(short(t), "orders", "a-1", status); err == nil {
				return true
			}
			x.gate.set(pass) // the node has gone before
			return false
		})
		eventually(t, "the node expired", func() bool { _, _, ok := nodeAt(t, x.side, x.dir+"/a-1"); return !ok })
		if seen() {
			t.Error("want the order kept beside")
		}
		x.gate.set(pass)
		x.eventually(t, "the order obeyed", "a-1", func(in Instance, _ *zk.Stat) bool { return in.Status == status.String() })
		if got := lease.Status(); got != status {
			t.Errorf("want %s, found %s", status, got)
		}
		eventually(t, "the order taken from beside", seen)
	}
	// What is heard at once is not left there either.
	eventually(t, "up again", func() bool {
		return operator.Order(short(t), "orders", "a-1", registry.Up) == nil && lease.Status() == registry.Up
	})
	eventually(t, "the order taken from beside", seen)

	// A ghost of its own that has an order.
	ghost := plain(t, x.addr)
	_, data := instanceAt(t, "a:1")
	drained, err := WithStatus([]byte(data), registry.Draining)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ghost's session", func() bool { return ghost.SessionID() != 0 })
	x.conn.mu.Lock()
	x.conn.former = append(x.conn.former, ghost.SessionID())
	x.conn.mu.Unlock()
	if _, err := ghost.Multi(&zk.DeleteRequest{Path: x.dir + "/a-1", Version: -1},
		&zk.CreateRequest{Path: x.dir + "/a-1", Data: drained, Acl: zk.WorldACL(zk.PermAll), Flags: zk.FlagEphemeral}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ghost's order obeyed", func() bool { return lease.Status() == registry.Draining })
	eventually(t, "up again", func() bool {
		return operator.Order(short(t), "orders", "a-1", registry.Up) == nil && lease.Status() == registry.Up
	})
	eventually(t, "the order taken from beside", seen)

	put(t, x.side, beside, `{"status":"draining","session":"1"}`)
	_, first, _ := nodeAt(t, x.side, x.dir+"/a-1")
	untilDone(t, func() error { return x.side.Delete(x.dir+"/a-1", -1) })
	x.eventually(t, "no order of its own", "a-1", func(in Instance, stat *zk.Stat) bool { return in.Status == "up" && stat.Czxid > first.Czxid })
	put(t, x.side, beside, "garbage")
	untilDone(t, func() error { return x.side.Delete(x.dir+"/a-1", -1) })
	x.eventually(t, "the node back", "a-1", func(in Instance, _ *zk.Stat) bool { return in.Status == "up" })
	// The next order takes the place of what is there.
	eventually(t, "the next order", func() bool {
		return operator.Order(short(t), "orders", "a-1", registry.Down) == nil && lease.Status() == registry.Down
	})
	eventually(t, "the order taken from beside", seen)
}

// What a lease has written itself, and what nobody knows of whether it was written, is no order.
func TestOwnWordIsNoOrder(t *testing.T) {
	t.Parallel()
	_, addr := startDev(t)
	conn := connect(t, Config{Servers: []string{addr}})
	l := &Lease{c: conn, in: Instance{V: 1, ID: "a-1", Endpoints: []Offer{{Protocol: "grpc", Host: "a", Port: 1}}}}
	say := func(status registry.Status) []byte {
		l.health = status
		data, err := l.data()
		if err != nil {
			t.Fatal(err)
		}
		l.writes(data)
		return data
	}
	s, _ := conn.now()
	down := say(registry.Down)
	if err := l.written(nil); err != nil {
		t.Fatal(err)
	}
	for _, status := range []registry.Status{registry.Up, registry.Up, registry.Starting, registry.Up} { // all of them lost
		say(status)
		l.heed(s, down)
		if l.Status() != status {
			t.Errorf("want %s, found %s", status, l.Status())
		}
	}
	_ = l.written(nil)
	l.ctx = short(t)
	l.heed(s, down)
	if l.Status() != registry.Down {
		t.Errorf("want what somebody writes later obeyed, found %s", l.Status())
	}
}
