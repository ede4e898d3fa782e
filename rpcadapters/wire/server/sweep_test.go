package server

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// counted is a connection that counts what the sweeper asks it.
type counted struct {
	wire.Conn
	watch bool
	panic bool
	swept int
	gone  atomic.Int64 // told in a goroutine where the kernel cannot be asked
}

func (c *counted) Sweep(time.Time) bool {
	c.swept++
	if c.panic && !c.watch {
		panic("on purpose")
	}
	return c.watch
}

func (c *counted) Gone() {
	c.gone.Add(1)
	if c.panic {
		panic("on purpose")
	}
}

// noting is a handler that notes that it was called.
type noting func()

func (n noting) ServeExchange(context.Context, *wire.Exchange) { n() }

// sweeping makes a server with connections, some of which have a call, and no goroutine.
func sweeping(idle, busy int) (*Server, []*counted) {
	s := New(nil, nil, nil, Options{})
	var all []*counted
	for i := range idle + busy {
		n := &counted{}
		c := &conn{s: s, index: i}
		c.watch.fd = -1
		c.proto.Store(&protocol{n})
		s.conns = append(s.conns, c)
		all = append(all, n)
		if i >= idle {
			c.calls.Store(1)
			s.sweeper.add(c)
		}
	}
	return s, all
}

// A connection without calls is looked at once in a round, one with calls each tick until it has had none for long; then
// it costs nothing but its place in the round.
func TestWhoIsLookedAt(t *testing.T) {
	s, conns := sweeping(1000, 3)
	noted := 0
	s.handler = noting(func() {
		if s.conns[1000].calls.Load() != 1 {
			t.Error("want the call counted")
		}
		noted++
	})
	w := &s.sweeper
	now := time.Now()
	w.begin()
	ticks := 1
	for w.lookAtSome(now) {
		ticks++
	}
	if ticks < 10 || ticks > rounded {
		t.Errorf("want a round spread over some ticks, found %d", ticks)
	}
	for i, c := range conns {
		if c.swept != 1 {
			t.Errorf("connection %d: want one look, found %d", i, c.swept)
		}
	}
	for range 5 {
		if !w.look(now) {
			t.Error("want it busy")
		}
	}
	for i, c := range conns {
		if want := map[bool]int{true: 1, false: 6}[i < 1000]; c.swept != want {
			t.Errorf("connection %d: want %d looks, found %d", i, want, c.swept)
		}
	}
	// One call ends.
	s.conns[1000].calls.Store(0)
	for range quietLook {
		w.look(now)
	}
	if len(w.active) != 2 || s.conns[1000].listed.Load() || !s.conns[1001].listed.Load() {
		t.Errorf("want two left, found %d", len(w.active))
	}
	// It has others.
	for range 2 {
		s.conns[1000].ServeExchange(context.Background(), nil)
	}
	if len(w.active) != 3 || s.conns[1000].calls.Load() != 0 || noted != 2 {
		t.Errorf("want three, found %d, and %d calls in flight of %d", len(w.active), s.conns[1000].calls.Load(), noted)
	}
	for _, c := range s.conns[1000:] {
		c.calls.Store(0)
	}
	for range quietLook {
		w.look(now)
	}
	if w.look(now) || len(w.active) != 0 {
		t.Errorf("want none left, found %d", len(w.active))
	}
}

// What one connection does wrong is counted, and the others are looked at all the same.
func TestPanicsOfConnections(t *testing.T) {
	s, conns := sweeping(0, 3)
	conns[0].panic = true
	conns[1].panic, conns[1].watch = true, true
	s.sweeper.look(time.Now())
	s.conns[1].tell()
	if s.Panics() != 2 || conns[2].swept != 1 {
		t.Errorf("want two panics and the third looked at, found %d and %d", s.Panics(), conns[2].swept)
	}
}

// A call that begins just as its connection is dropped is not lost.
func TestCallWhileDropped(t *testing.T) {
	s, _ := sweeping(0, 1)
	c := s.conns[0]
	c.quiet = quietLook
	s.sweeper.drop()
	if !c.listed.Load() || len(s.sweeper.active) != 1 || c.quiet != 0 {
		t.Error("want it kept: it has a call")
	}
}

// Of many long calls some are looked for in each tick, and all of them in turn.
func TestManyLongCalls(t *testing.T) {
	const many = 2*watchedAtOnce + 10
	s, conns := sweeping(0, many)
	for _, c := range conns {
		c.watch = true
	}
	a, b := net.Pipe()
	defer b.Close()
	_ = a.Close()
	for _, c := range s.conns { // each of them shows that it has ended when it is looked at
		c.watch.init(a)
	}
	total := func() (n int) {
		for _, c := range conns {
			n += int(c.gone.Load())
		}
		return n
	}
	for i := range 3 {
		s.sweeper.look(time.Now())
		want := min(many, (i+1)*watchedAtOnce)
		for end := time.Now().Add(30 * time.Second); total() < want && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if n := total(); n != want {
			t.Errorf("tick %d: want %d looked for, found %d", i, want, n)
		}
	}
}

// BenchmarkTick is what a tick costs the sweeper, by how many connections have a call, and a look at all that have none.
func BenchmarkTick(b *testing.B) {
	for _, busy := range []int{0, 64, 1000} {
		b.Run(fmt.Sprintf("busy=%d", busy), func(b *testing.B) {
			s, _ := sweeping(10_000, busy)
			now := time.Now()
			for b.Loop() {
				s.sweeper.look(now)
			}
		})
	}
	b.Run("round=10000", func(b *testing.B) {
		s, _ := sweeping(10_000, 0)
		now := time.Now()
		for b.Loop() {
			s.sweeper.begin()
			for s.sweeper.lookAtSome(now) {
			}
		}
	})
}
