package proxy

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// retirements are the snapshots on their way out, and the goroutines that close what only those used: closing may take as long as
// a registry takes to say goodbye, and neither a call nor a change waits for that.
type retirements struct {
	log    *slog.Logger
	panics counter

	mu    sync.Mutex
	alive []*retirement // those that have not ended, the oldest first
	over  bool          // nothing is waited for any more
	tasks sync.WaitGroup
}

// retirement is a snapshot on its way out. What watches for it (resolvers, probers, registries) ends at once, whatever calls are
// inside; what calls use ends with the last of them.
type retirement struct {
	all    *retirements
	routes []*route
	left   atomic.Int64 // routes with calls inside, and one while watching ends
	done   chan struct{}

	// What follows is under all.mu.
	uses    map[any]bool
	closers []closer // in their order
}

// closer ends something that snapshots share.
type closer struct {
	of    any // what it is known by
	close func()
}

// retire begins the end of prev: what next (nil: nothing) does not take over is closed, in a goroutine of its own.
func (rs *retirements) retire(prev, next *Snapshot) *retirement {
	kept := map[any]bool{}
	if next != nil {
		for _, c := range next.closers() {
			kept[c.of] = true
		}
		for _, r := range next.registries {
			kept[r] = true
		}
	}
	stays := func(c closer) bool { return kept[c.of] }
	r := &retirement{all: rs, routes: prev.routes, done: make(chan struct{}), uses: map[any]bool{}}
	for _, c := range prev.closers() {
		r.uses[c.of] = true
		if !stays(c) {
			r.closers = append(r.closers, c)
		}
	}
	watching := slices.DeleteFunc(prev.watchers(), stays)
	r.left.Store(int64(len(prev.routes)) + 1)
	rs.mu.Lock()
	rs.alive = append(rs.alive, r)
	if !rs.over {
		rs.tasks.Add(1)
	}
	counted := !rs.over
	rs.mu.Unlock()
	leave := func() {
		if r.left.Add(-1) == 0 {
			go r.end(counted)
		}
	}
	for _, rt := range prev.routes {
		rt.gate.Shut(leave)
	}
	go func() {
		defer leave()
		for _, c := range watching {
			rs.run(c)
		}
	}()
	return r
}

// end closes what nobody uses any more now that the snapshot has been left; an older one that calls are still inside of may use
// the same, and then closes it later.
func (r *retirement) end(counted bool) {
	rs := r.all
	defer close(r.done)
	if counted {
		defer rs.tasks.Done()
	}
	rs.mu.Lock()
	rs.alive = slices.DeleteFunc(rs.alive, func(o *retirement) bool { return o == r })
	var now []closer
	for _, c := range r.closers {
		if i := slices.IndexFunc(rs.alive, func(o *retirement) bool { return o.uses[c.of] }); i >= 0 {
			rs.alive[i].closers = append(rs.alive[i].closers, c)
			continue
		}
		now = append(now, c)
	}
	rs.mu.Unlock()
	for _, c := range now {
		rs.run(c)
	}
}

// run closes one thing.
func (rs *retirements) run(c closer) {
	defer func() {
		if p := recover(); p != nil {
			rs.panics.Add(1)
			rs.log.Error("panic while something was closed that a former configuration used", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	c.close()
}

// each calls f with the routes of every snapshot that calls have not left so far.
func (rs *retirements) each(f func([]*route)) {
	rs.mu.Lock()
	alive := slices.Clone(rs.alive)
	rs.mu.Unlock()
	for _, r := range alive {
		f(r.routes)
	}
}

const (
	// closePatience is how long a stop waits for what configurations used to be closed, once their calls have been cut.
	closePatience = 15 * time.Second
	// closeHurry is how long it waits when it is to be quick.
	closeHurry = time.Second
)

// wait waits until everything is closed, and reports whether that was in time. Nothing that is retired later is waited for.
func (rs *retirements) wait(hurry context.Context) bool {
	rs.mu.Lock()
	rs.over = true
	rs.mu.Unlock()
	ended := make(chan struct{})
	go func() { // ends with the last of them
		rs.tasks.Wait()
		close(ended)
	}()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	for hurried := hurry.Done(); ; {
		select {
		case <-ended:
			return true
		case <-hurried:
			hurried = nil
			timer.Reset(closeHurry)
		case <-timer.C:
			return false
		}
	}
}

// watchers are what of s looks at the world by itself: services at registries and at their instances, and then the registries.
func (s *Snapshot) watchers() []closer {
	var out []closer
	for _, sv := range s.services {
		out = append(out, closer{sv.up, sv.up.Retire})
	}
	for _, r := range s.registries {
		out = append(out, closer{r, func() { _ = r.Close() }}) // nobody uses it any more
	}
	return out
}

// closers are what calls of s use.
func (s *Snapshot) closers() []closer {
	var out []closer
	for _, sv := range s.services {
		out = append(out, closer{sv.up, sv.up.Close})
	}
	for _, p := range s.plugins {
		out = append(out, closer{p, func() { _ = p.close() }}) // its sink says itself when a last line is lost
	}
	if s.export != nil {
		out = append(out, closer{s.export, s.export.Close}) // unless it is in use: then the gateway ends it
	}
	for _, st := range s.stores {
		out = append(out, closer{st, func() { _ = st.Close() }}) // nobody uses it any more
	}
	return out
}
