package framed

import (
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// TestRollingDrain has a server ask its clients to leave again and again, under load: no call fails.
func TestRollingDrain(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		o, cc := server.Options{}, ClientConfig{}
		if secure {
			o.TLS, cc.TLS = pair(t)
		}
		s, addr := serve(t, ServerConfig{Service: &echo{}, Leave: &text{'l', nil}}, o)
		cl := client(t, addr, cc)
		var calls atomic.Int64
		var stop atomic.Bool
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				for n := 0; !stop.Load(); n++ {
					body := strconv.Itoa(i) + " " + strconv.Itoa(n)
					if got, err := ask(t.Context(), cl, body); err != nil || got != body {
						t.Errorf("want %q, found %q, %v", body, got, err)
						return
					}
					calls.Add(1)
				}
			})
		}
		eventually(t, "the first calls", func() bool { return calls.Load() > 0 || t.Failed() })
		for range 5 {
			before, made := calls.Load(), cl.Made()
			s.Hurry(true)
			eventually(t, "a new connection", func() bool { return cl.Made() > made || t.Failed() })
			s.Hurry(false)
			eventually(t, "more calls", func() bool { return calls.Load() > before+100 || t.Failed() })
		}
		stop.Store(true)
		all.Wait()
		if cl.Made() < 6 {
			t.Errorf("%d connections were made, want at least 6", cl.Made())
		}
	}
}

// TestNumbers: numbers begin anew at the end of their space, and none that is in use is given out.
func TestNumbers(t *testing.T) {
	tab := table{first: 100, last: maxID - 2}
	var kept []*entry
	for _, want := range []uint32{maxID - 1, maxID, 100, 101} {
		e := &entry{id: tab.number()}
		if e.id != want {
			t.Fatalf("want %d, found %d", want, e.id)
		}
		tab.put(e)
		kept = append(kept, e)
	}
	tab.last = maxID - 2
	if n := tab.number(); n != 102 {
		t.Errorf("want 102, found %d", n)
	}
	for _, e := range kept {
		if tab.get(e.id) != e || !tab.remove(e) || tab.remove(e) || tab.get(e.id) != nil {
			t.Errorf("entry %d", e.id)
		}
	}
	for i := range uint32(1000) {
		tab.put(&entry{id: i})
	}
	if len(tab.all(nil)) != 1000 || tab.n != 1000 {
		t.Errorf("%d entries, want 1000", tab.n)
	}
}

// FuzzClient has a peer answer with anything: calls and streams end, with an answer or a fault, and nothing panics.
func FuzzClient(f *testing.F) {
	f.Add(unary("one").AppendFrame(unary("two").AppendFrame(nil, 2), 1), uint16(3))
	f.Add(ofStream("a").AppendFrame((&text{'l', nil}).AppendFrame(unary("x").AppendFrame(nil, 1), 0), 50), uint16(100))
	f.Add((&text{'x', []byte("noise")}).AppendFrame(nil, 1), uint16(1))
	f.Add([]byte("\x00\x01\x00\x00u\x00\x00\x00\x01rest"), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		cl, err := NewClient(ClientConfig{Framing: framing{}, Address: "nobody:1", MaxFrame: 1000, FirstStream: 50})
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		ours, theirs := net.Pipe()
		c := newClientConn(cl, ours, ours)
		cl.mu.Lock()
		cl.dialing++
		cl.mu.Unlock()
		if !cl.up(c) {
			t.Fatal("the connection is not taken")
		}
		served := make(chan struct{})
		go func() { c.serve(); cl.forget(c); close(served) }()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var s Stream
		sink := make(sinkChan, 100_000)
		opened := make(chan error, 1)
		go func() { opened <- cl.Open(ctx, &s, sink, ofStream("s")) }()
		if _, _, _, err := read(theirs); err != nil {
			t.Fatal(err)
		}
		if err := <-opened; err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 2)
		for range 2 {
			go func() { _, err := ask(ctx, cl, "u"); ended <- err }()
			if _, _, _, err := read(theirs); err != nil {
				t.Fatal(err)
			}
		}
		_ = theirs.SetDeadline(time.Now().Add(time.Minute))
		for rest := data; len(rest) > 0; {
			n, err := theirs.Write(rest[:min(len(rest), int(piece)+1)])
			if err != nil {
				break // it has closed the connection
			}
			rest = rest[n:]
		}
		_ = theirs.Close()
		<-served
		for range 2 {
			if err := <-ended; err != nil {
				if _, ok := err.(*Fault); !ok { //nolint:errorlint // exactly that
					t.Fatalf("found %v", err)
				}
			}
		}
		s.Close()
		if cl.Panics() != 0 || c.calls.n != 0 || c.streams.n != 0 {
			t.Fatalf("%d panics, %d calls, %d streams at the end", cl.Panics(), c.calls.n, c.streams.n)
		}
	})
}
