package rpc

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestGateRunsItsEndOnceWhenTheLastHasLeft(t *testing.T) {
	var g Gate
	ended := 0
	end := func() { ended++ }
	for range 2 {
		if !g.Enter() {
			t.Fatal("want an open gate to let in")
		}
	}
	g.Shut(end)
	if g.Enter() {
		t.Fatal("want a shut gate to let nobody in")
	}
	if g.Leave(); ended != 0 || g.Inside() != 1 {
		t.Fatalf("want one inside and no end, found %d inside and %d ends", g.Inside(), ended)
	}
	if g.Leave(); ended != 1 {
		t.Fatalf("want the end with the last to leave, found %d", ended)
	}
	if g.Enter() || ended != 1 {
		t.Fatalf("want it to stay shut and ended once, found %d", ended)
	}
}

// Whoever gets in leaves before the end, and the end comes once, whatever the order of things.
func TestGateUnderContention(t *testing.T) {
	for range 200 {
		var g Gate
		var wg sync.WaitGroup
		var inside, ends, late atomic.Int64
		for range 4 {
			wg.Go(func() {
				for g.Enter() {
					inside.Add(1)
					if ends.Load() > 0 {
						late.Add(1)
					}
					inside.Add(-1)
					g.Leave()
				}
			})
		}
		g.Shut(func() {
			ends.Add(1)
			if inside.Load() != 0 {
				late.Add(1)
			}
		})
		wg.Wait()
		if ends.Load() != 1 || late.Load() != 0 {
			t.Fatalf("want one end with nobody inside, found %d ends, %d calls at the wrong time", ends.Load(), late.Load())
		}
	}
}

func TestMessageBytesHaveOwners(t *testing.T) {
	var m Message
	b := GetBuffer()
	b.B = append(b.B, "abc"...)
	m.Own(b)
	second := m.Retain()
	m.Free()
	m.Free() // twice is harmless
	if string(second.Data) != "abc" || b.refs.Load() != 1 {
		t.Fatalf("want the second owner's bytes whole, found %q with %d owners", second.Data, b.refs.Load())
	}
	second.Free()
	defer func() {
		if recover() == nil {
			t.Error("want a buffer freed more often than owned to panic: it would hand one caller's bytes to another")
		}
	}()
	b.Free()
}

func TestCloneStandsAlone(t *testing.T) {
	c := &Call{HTTP: &HTTP{Path: "/a", Header: Metadata{{"k", "v"}}}, Header: Metadata{{"a", "1"}}}
	c.Reply.Header.Add("x", "1")
	n := c.Clone()
	c.Header[0].Value, c.HTTP.Header[0].Value, c.HTTP.Path, c.Reply.Header[0].Value = "2", "w", "/b", "2"
	if n.Header.Get("a") != "1" || n.HTTP.Header.Get("k") != "v" || n.HTTP.Path != "/a" || n.Reply.Header.Get("x") != "1" {
		t.Errorf("want the clone unchanged, found %+v %+v", n, n.HTTP)
	}
}

func TestMetadata(t *testing.T) {
	m := Metadata{{"a", "1"}, {"b", "2"}, {"a", "3"}}
	if m.Get("a") != "1" || m.Count("a") != 2 || m.Has("c") {
		t.Errorf("found %q, %d, %v", m.Get("a"), m.Count("a"), m.Has("c"))
	}
	m.Set("a", "4")
	if len(m) != 2 || m[0] != (Pair{"b", "2"}) || m[1] != (Pair{"a", "4"}) {
		t.Errorf("after Set: %v", m)
	}
}
