package zookeeper

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	relistReads = 50               // a second, of re-lists that no event has called for
	relistWait  = 20 * time.Second // that one waits for its turn at most: with very many instances there are more reads a second
)

// pace spreads the reads of re-lists that no event has called for over all services of a connection, so that many gateways that
// come back to a registry at one moment leave it time for others.
type pace struct {
	mu   sync.Mutex
	next time.Time // when the reads that were granted are done
}

// turn is when somebody may do some reads; he is expected to.
func (p *pace) turn(now time.Time, reads int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.next
	if at.Before(now) {
		at = now
	}
	if latest := now.Add(relistWait); at.After(latest) {
		at = latest
	}
	p.next = at.Add(time.Duration(reads) * time.Second / relistReads)
	return at
}

// homeNode is the node that all services of a layout are below, as one of their resolvers has seen it.
type homeNode struct {
	generation uint64
	id         int64 // the transaction that made it
}

// home is the transaction that made the node at a path, if a resolver has read that in this session.
func (c *Conn) home(path string, generation uint64) (id int64, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.homes[path]
	return h.id, h.id != 0 && h.generation == generation
}

func (c *Conn) keepHome(path string, generation uint64, id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.homes[path] = homeNode{generation, id}
}

// watchKey names a watch: on the list of a node's children, or on its data, which is also a watch on its coming and going.
type watchKey struct {
	path     string
	children bool
}

// arming is a watch that is set, or about to be. All of it is under the connection's lock.
type arming struct {
	set    bool // the server has it
	absent bool // it is on the coming of a node
	failed bool // it came to nothing
	relied bool // somebody else has read without a watch of his own meanwhile
}

// watched executes an operation that sets a watch, or, when the connection has that watch already, the same one without. The
// library keeps a channel for every watch that it is asked for, until it fires, and cannot take one back: without this, each
// resolver of a service that changes seldom would leave its own behind. Events go to all subscriptions whoever has set the
// watch.
func watched[T any](ctx context.Context, c *Conn, generation uint64, key watchKey, plain, setting func(*zk.Conn) (T, error)) (T, error) {
	c.mu.Lock()
	a := c.armed[key]
	if a != nil {
		c.mu.Unlock()
		value, err := do(ctx, c, generation, plain)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			if a.relied = true; a.failed {
				c.fire(key.path)
			}
		}
		return value, err
	}
	a = &arming{} // before it is: its event may come before the answer is seen here
	c.armed[key] = a
	c.client.watching = true
	c.mu.Unlock()
	value, err := do(ctx, c, generation, setting)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		a.failed = true
		if c.armed[key] == a {
			delete(c.armed, key)
		}
		if a.relied {
			c.fire(key.path)
		}
		return value, err
	}
	a.set = true
	delete(c.carried, key) // the library has it now
	return value, nil
}

// get reads a node and has a watch on it.
func (c *Conn) get(ctx context.Context, generation uint64, path string) (found, error) {
	return watched(ctx, c, generation, watchKey{path, false}, func(z *zk.Conn) (found, error) {
		data, stat, err := z.Get(path)
		return found{data, stat}, err
	}, func(z *zk.Conn) (found, error) {
		data, stat, _, err := z.GetW(path)
		return found{data, stat}, err
	})
}

// exists looks for a node and has a watch on its coming, or on its going and its data.
func (c *Conn) exists(ctx context.Context, generation uint64, path string) (bool, error) {
	key := watchKey{path, false}
	there, err := watched(ctx, c, generation, key, func(z *zk.Conn) (bool, error) {
		there, _, err := z.Exists(path)
		return there, err
	}, func(z *zk.Conn) (bool, error) {
		there, _, _, err := z.ExistsW(path)
		return there, err
	})
	if err == nil && !there {
		c.mu.Lock()
		defer c.mu.Unlock()
		if a := c.armed[key]; a != nil {
			a.absent = true
		}
	}
	return there, err
}

// list lists the children of a node and has a watch on the list.
func (c *Conn) list(ctx context.Context, generation uint64, path string) ([]string, error) {
	type listed struct {
		names []string
		stat  *zk.Stat
	}
	l, err := watched(ctx, c, generation, watchKey{path, true}, func(z *zk.Conn) (listed, error) {
		names, stat, err := z.Children(path)
		return listed{names, stat}, err
	}, func(z *zk.Conn) (listed, error) {
		names, stat, _, err := z.ChildrenW(path)
		return listed{names, stat}, err
	})
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mark.see(path, l.stat)
	}
	return l.names, err
}

// fired is called with the lock held: an event has come, and its watches are used up.
func (c *Conn) fired(e zk.Event) {
	if e.Type != zk.EventNodeChildrenChanged {
		delete(c.armed, watchKey{e.Path, false})
		delete(c.carried, watchKey{e.Path, false})
	}
	if e.Type != zk.EventNodeDataChanged && e.Type != zk.EventNodeCreated {
		delete(c.armed, watchKey{e.Path, true})
		delete(c.carried, watchKey{e.Path, true})
	}
	c.fire(e.Path)
}

// subscription collects what has changed below some nodes, and says that it has.
type subscription struct {
	wake  chan struct{} // has room for one
	c     *Conn
	nodes []string
	fired map[string]struct{} // under the connection's lock
}

// subscribe hears of nodes and their children, once watches are set on them, and of every change of the connection.
func (c *Conn) subscribe(nodes ...string) *subscription {
	s := &subscription{wake: make(chan struct{}, 1), c: c, nodes: nodes, fired: map[string]struct{}{}}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range nodes {
		if c.watching[n] == nil {
			c.watching[n] = map[*subscription]struct{}{}
		}
		c.watching[n][s] = struct{}{}
	}
	return s
}

func (s *subscription) close() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for _, n := range s.nodes {
		delete(s.c.watching[n], s)
		if len(s.c.watching[n]) == 0 {
			delete(s.c.watching, n)
		}
	}
}

// take returns the nodes whose watches have fired, and forgets them.
func (s *subscription) take() map[string]struct{} {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	fired := s.fired
	s.fired = map[string]struct{}{}
	return fired
}

// fire is called with the lock held.
func (c *Conn) fire(path string) {
	tell := func(at string) {
		for s := range c.watching[at] {
			s.fired[path] = struct{}{}
			poke(s.wake)
		}
	}
	tell(path)
	if at := strings.LastIndexByte(path, '/'); at > 0 {
		tell(path[:at])
	}
}

// fireAll is called with the lock held.
func (c *Conn) fireAll() {
	for _, by := range c.watching {
		for s := range by {
			poke(s.wake)
		}
	}
}

func poke(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
