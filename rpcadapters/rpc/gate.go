package rpc

import (
	"sync"
	"sync/atomic"
)

// Gate counts the calls inside something that is to be closed when the last has left. The zero Gate is open.
type Gate struct {
	n     atomic.Int64 // calls inside, plus shut once Shut was called
	once  sync.Once
	empty func()
}

const shut = 1 << 62

// Enter lets a call in; false: the gate is shut, look for another way. Every Enter that returned true is followed by one
// Leave.
func (g *Gate) Enter() bool {
	if g.n.Add(1) < shut {
		return true
	}
	g.Leave()
	return false
}

// Leave ends a call's stay. The last one out of a shut gate runs what Shut was given.
func (g *Gate) Leave() {
	if g.n.Add(-1) == shut {
		g.once.Do(g.empty)
	}
}

// Shut lets nobody in any more, and runs empty once nobody is inside: at once, or in the goroutine of the last to leave.
// It is called at most once.
func (g *Gate) Shut(empty func()) {
	g.empty = empty
	if g.n.Add(shut) == shut {
		g.once.Do(empty)
	}
}

// Inside is the number of calls inside.
func (g *Gate) Inside() int64 { return g.n.Load() &^ shut }
