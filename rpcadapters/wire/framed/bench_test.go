package framed

import (
	"context"
	"sync"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// TestAllocs holds a call to its budget: none by the client, and what the server needs in the same process.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	_, addr := serve(t, ServerConfig{Service: &still{}}, server.Options{})
	cl := client(t, addr, ClientConfig{Conns: 1})
	var ctx wire.Context
	ctx.Reset(context.Background())
	c, r := &Call{}, unary("hello")
	call := func() {
		if err := cl.Unary(&ctx, c, r); err != nil {
			t.Fatal(err)
		}
		if !c.Reset() {
			t.Fatal("the call cannot be used again")
		}
	}
	call()
	if n := testing.AllocsPerRun(2000, call); n > 1 {
		t.Errorf("%.1f allocations per call on both sides together, want at most 1", n)
	}
}

// still answers with what it got, and keeps nothing.
type still struct{ answers sync.Pool }

func (s *still) Begin(*Incoming) Handler { return s }

func (s *still) Run(in *Incoming) {
	t, _ := s.answers.Get().(*text)
	if t == nil {
		t = &text{kind: 'u'}
	}
	t.body = append(t.body[:0], in.Frame[headLen:]...)
	_ = in.Send(t)
	s.answers.Put(t)
}

// BenchmarkUnary is a call over loopback, alone and among many.
func BenchmarkUnary(b *testing.B) {
	_, addr := serve(b, ServerConfig{Service: &still{}}, server.Options{})
	cl := client(b, addr, ClientConfig{})
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		c, r := &Call{}, unary("hello")
		for b.Loop() {
			if err := cl.Unary(context.Background(), c, r); err != nil {
				b.Fatal(err)
			}
			c.Reset()
		}
	})
	b.Run("many", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			c, r := &Call{}, unary("hello")
			for pb.Next() {
				if err := cl.Unary(context.Background(), c, r); err != nil {
					b.Fatal(err)
				}
				c.Reset()
			}
		})
	})
}
