package zookeeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
)

// Resolver watches services in ZooKeeper. A zero field but Conn takes the default named; none is changed once it is in use.
type Resolver struct {
	Conn   *Conn
	Layout Layout        // Native below the connection's root
	Relist time.Duration // how often everything is looked at again, besides events; 30 s, give or take a fifth
	Settle time.Duration // how long changes are waited for that come with the first one; 20 ms
	Most   int           // instances of one service; 10,000. More of them are a Fail
	// Allow is where instances may be. Who can write to the registry could else make the gateway call what only it can reach.
	// Empty: everywhere but link-local (where clouds have their metadata), multicast and unspecified addresses. Else host names,
	// too, are left out.
	Allow []netip.Prefix
	// Beats is how often the beats of the native layout are read; 0, the default: never.
	Beats time.Duration
}

const rereads = 10 // re-lists after which the data of every entry has been read again

// Watch reports the instances of a service to to until ctx ends.
func (r *Resolver) Watch(ctx context.Context, service string, to registry.Sink) error {
	layout := r.Layout
	native, isNative := layout.(Native)
	if layout == nil {
		native, isNative = Native{Root: r.Conn.cfg.Root}, true
		layout = native
	}
	places, err := layout.Places(service)
	if err != nil {
		return err
	}
	w := &watch{
		c: r.Conn, to: to, service: service, layout: layout, allow: r.Allow,
		relist: cmp.Or(r.Relist, 30*time.Second), settle: cmp.Or(r.Settle, 20*time.Millisecond), most: cmp.Or(r.Most, 10_000),
	}
	if isNative {
		if w.home.service, err = native.node(service); err != nil {
			return err
		}
		w.home.path = native.services()
	}
	var nodes []string
	for _, p := range places {
		w.places = append(w.places, &place{Place: p, entries: map[string]*entry{}})
		nodes = append(nodes, p.Path)
	}
	w.sub = r.Conn.subscribe(nodes...)
	defer w.sub.close()
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	beats := make(chan seen, 64)
	if r.Beats > 0 && isNative {
		at, err := native.Beats(service)
		if err != nil {
			return err
		}
		b := &beatReader{c: r.Conn, at: at, every: r.Beats, out: beats, versions: map[string]beatVersion{}}
		readers.Go(func() { b.run(ctx) })
	}
	return w.run(ctx, beats)
}

// watch is one call of Watch; all of it belongs to that goroutine.
type watch struct {
	c       *Conn
	to      registry.Sink
	service string
	layout  Layout
	allow   []netip.Prefix
	sub     *subscription
	relist  time.Duration
	settle  time.Duration
	most    int

	home home // of the native layout

	places     []*place
	generation uint64
	links      uint64
	renew      bool      // everything is to be read again, once there is time: the session is a new one
	round      int       // of re-lists
	turn       time.Time // when the re-list that is due may begin; zero: none is due
	sent       registry.Set
	revision   int64
	failed     bool // a Fail is in force
	known      bool // a set was sent
	nowhere    bool // it was told that none of the places is there
}

// home is the node that all services of the native layout are below. While it is the same node, a service's node that is missing
// has been deleted by somebody; where all data was lost, it is another one.
type home struct {
	path      string // empty: another layout
	service   string // the service's own node
	id        int64  // the transaction that made it; 0: not known
	read      uint64 // the generation in which that was read
	withdrawn bool
}

// look brings up to date what is known of the service's node, behind a list.
func (h *home) look(ctx context.Context, w *watch) error {
	if h.path == "" {
		return nil
	}
	h.withdrawn = false
	missing := w.places[0].missing
	if !missing {
		if id, known := w.c.home(h.path, w.generation); known {
			h.id, h.read = id, w.generation
		}
		if h.read == w.generation {
			return nil
		}
	}
	now, err := w.c.read(ctx, w.generation, h.path)
	switch {
	case errors.Is(err, zk.ErrNoAuth):
		return nil // nobody can tell
	case err != nil:
		return err
	case now.stat == nil:
		return nil // everything is gone
	case !missing:
		h.id, h.read = now.stat.Czxid, w.generation
		w.c.keepHome(h.path, w.generation, h.id)
		return nil
	case h.id != now.stat.Czxid:
		return nil
	}
	own, err := w.c.read(ctx, w.generation, h.service)
	h.withdrawn = err == nil && own.stat == nil
	return err
}

// place is what is known of one of the layout's places.
type place struct {
	Place
	fresh   bool // it has been read in this session, and no read has failed since
	missing bool // it was not there when it was listed last
	entries map[string]*entry
	own     []registry.Endpoint // of a leaf
	bad     int                 // of a leaf
	why     error               // of a leaf: why
}

// entry is what is known of one child.
type entry struct {
	read      bool   // its data has been read, since its watch fired last
	bad       bool   // what was read last could not be parsed
	denied    bool   // nor read, for want of a right, so it is not watched either
	other     string // the host of one that is sound and speaks no protocol that is wanted
	why       error  // it is bad, or another
	endpoints []registry.Endpoint
}

// run pulls whenever there is a reason to, until ctx ends.
func (w *watch) run(ctx context.Context, beats <-chan seen) error {
	again := time.NewTimer(0) // the next pull, if nothing happens before
	defer again.Stop()
	full := true // the next pull lists everything
	for {
		due := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b := <-beats:
			w.to.Beat(b.id, b.beat)
			continue
		case <-w.sub.wake:
			if w.known {
				pause(ctx, w.settle)
			}
		case <-again.C:
			due = true
		}
		s, since := w.c.now()
		if !s.connected {
			// A connection that is back at once is no outage.
			if patience := w.c.cfg.Session/6 - time.Since(since); patience > 0 {
				again.Reset(patience)
				continue
			}
			w.fail(fmt.Errorf("zookeeper: %s: %w", w.service, s.err))
			again.Reset(w.relist)
			continue
		}
		if w.generation != s.generation {
			told := !full && s.told && w.hears()
			if full || s.told && !told { // what could not be read before, or is not watched any more, waits for no turn
				if w.known { // but many gateways do not ask at the same moment
					pause(ctx, time.Duration(rand.Int64N(int64(w.c.cfg.Session/2)))) //nolint:gosec // spreads load, no secret
				}
				full = true
			}
			w.generation, w.renew = s.generation, true
			again.Reset(rand.N(w.c.cfg.Session/2 + 1)) //nolint:gosec // spreads load, no secret
			due, w.turn = false, time.Time{}
			if told && w.failed { // what has changed is told; the rest is as it was
				w.send()
			}
		} else if w.links != s.links && !full {
			// The library sets its watches again, and the server tells what has changed meanwhile: that is read at once. This does not
			// depend on it, but it has time.
			again.Reset(rand.N(w.c.cfg.Session/2 + 1)) //nolint:gosec // spreads load, no secret
			due, w.turn = false, time.Time{}
		}
		w.links = s.links
		if due && !full {
			full = w.mayRelist(again)
		}
		fired := w.sub.take()
		if !full && len(fired) == 0 {
			continue
		}
		err := w.pull(ctx, full, fired)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			w.send()
			if full {
				full, w.renew, w.turn = false, false, time.Time{}
				again.Reset(w.relist + time.Duration((rand.Float64()-0.5)*0.4*float64(w.relist))) //nolint:gosec // spreads load, no secret
			}
		case lost(err):
			full = true
			again.Reset(min(w.c.cfg.Session/6, time.Second)) // or earlier, when the connection is back
		default:
			w.fail(err)
			full = true
			again.Reset(min(w.relist, 5*time.Second))
		}
	}
}

// fail says once that what was sent is stale.
func (w *watch) fail(err error) {
	if !w.failed {
		w.failed = true
		w.to.Fail(err)
	}
}

// hears reports whether every change of what is known would be heard.
func (w *watch) hears() bool {
	for _, p := range w.places {
		if !w.sub.hears(watchKey{p.Path, !p.Leaf && !p.missing}) {
			return false
		}
		for name, e := range p.entries {
			if !p.Name && !e.denied && !w.sub.hears(watchKey{p.Path + "/" + name, false}) {
				return false
			}
		}
	}
	return true
}

// forget is for a new session, in which everything is read once more.
func (w *watch) forget() {
	for _, p := range w.places {
		p.fresh = false
		for _, e := range p.entries {
			e.read = false
		}
	}
}

// mayRelist reports whether a re-list that nothing has called for may begin. If not, again fires when it may.
func (w *watch) mayRelist(again *time.Timer) bool {
	if w.turn.IsZero() {
		reads := 0
		for _, p := range w.places {
			reads++
			for name, e := range p.entries {
				if w.renew || !e.read || (w.round+1)%rereads == hash(name)%rereads {
					reads++
				}
			}
		}
		w.turn = w.c.pace.turn(time.Now(), reads)
	}
	if wait := time.Until(w.turn); wait > 0 {
		again.Reset(wait)
		return false
	}
	return true
}

// pull brings what is known up to date: with what has fired, or with everything listed again when full.
func (w *watch) pull(ctx context.Context, full bool, fired map[string]struct{}) error {
	if full {
		w.round++
		if w.renew {
			w.forget()
		}
	}
	again := full || len(fired) > 0 // every event lists again: what it does not tell is seen all the same
	var stale []func() error        // reads to be done
	for _, p := range w.places {
		for path := range fired {
			if dir, name, below := cutLast(path); below && dir == p.Path && p.entries[name] != nil {
				p.entries[name].read = false
			}
		}
		if p.Leaf {
			if !p.fresh || again {
				if err := w.readLeaf(ctx, p); err != nil {
					return err
				}
			}
			continue
		}
		if !p.fresh || again {
			if err := w.list(ctx, p); err != nil {
				return err
			}
		}
		for name, e := range p.entries {
			if e.read && (!full || w.round%rereads != hash(name)%rereads) {
				continue
			}
			stale = append(stale, func() error { return w.read(ctx, p, name, e) })
		}
	}
	if err := w.home.look(ctx, w); err != nil {
		return err
	}
	if err := w.tellNowhere(ctx); err != nil {
		return err
	}
	return inParallel(stale)
}

func cutLast(path string) (dir, name string, found bool) {
	at := strings.LastIndexByte(path, '/')
	if at < 0 {
		return "", "", false
	}
	return path[:at], path[at+1:], true
}

func hash(s string) int {
	h := 0
	for i := range len(s) {
		h = h*31 + int(s[i])
	}
	return h & 0xffff
}

// inParallel does some at a time and returns the first error.
func inParallel(work []func() error) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var first error
	next := 0
	for range min(32, len(work)) {
		all.Go(func() {
			for {
				mu.Lock()
				if first != nil || next >= len(work) {
					mu.Unlock()
					return
				}
				do := work[next]
				next++
				mu.Unlock()
				if err := do(); err != nil {
					mu.Lock()
					first = cmp.Or(first, err)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return first
}

// list reads the names of a place's children and has a watch on the next change, also when the node itself is not there:
// containers vanish with their last child and come back with the next one.
func (w *watch) list(ctx context.Context, p *place) error {
	p.fresh = false
	for range 5 {
		names, err := w.c.list(ctx, w.generation, p.Path)
		if errors.Is(err, zk.ErrNoNode) {
			var there bool
			if there, err = w.c.exists(ctx, w.generation, p.Path); err == nil && there {
				continue // it has just been made
			}
			p.missing = true
		} else {
			p.missing = false
		}
		if err != nil {
			return fmt.Errorf("zookeeper: list %s: %w", p.Path, err)
		}
		if len(names) > w.most {
			return fmt.Errorf("zookeeper: want at most %d instances in %s, found %d", w.most, p.Path, len(names))
		}
		p.fresh = true
		there := make(map[string]struct{}, len(names))
		for _, name := range names {
			there[name] = struct{}{}
			if p.entries[name] == nil {
				p.entries[name] = &entry{}
			}
		}
		maps.DeleteFunc(p.entries, func(name string, _ *entry) bool { _, stays := there[name]; return !stays })
		return nil
	}
	return fmt.Errorf("zookeeper: list %s: the node comes and goes faster than it is read", p.Path)
}

// read reads one child. What is gone meanwhile stays until the next list, which is due.
func (w *watch) read(ctx context.Context, p *place, name string, e *entry) error {
	var data []byte
	if !p.Name {
		now, err := w.c.get(ctx, w.generation, p.Path+"/"+name)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			return nil
		case errors.Is(err, zk.ErrNoAuth):
			e.read, e.bad, e.denied = true, true, true
			return nil
		case err != nil:
			return fmt.Errorf("zookeeper: read %s/%s: %w", p.Path, name, err)
		}
		data, e.denied = now.data, false
	}
	endpoints, err := w.layout.Parse(w.service, p.Place, name, data)
	e.other = ""
	if unwanted, is := errors.AsType[*otherProtocol](err); is {
		e.other, e.why, err = unwanted.host, err, nil
	}
	e.read, e.bad = true, err != nil
	if err == nil { // else what it said last holds
		e.endpoints = endpoints
	} else {
		e.why = err
		w.c.cfg.Log.Debug("zookeeper: entry skipped", "node", p.Path+"/"+name, "error", err)
	}
	return nil
}

// readLeaf reads a place that holds all instances in its own data.
func (w *watch) readLeaf(ctx context.Context, p *place) error {
	p.fresh = false
	for range 5 {
		now, err := w.c.get(ctx, w.generation, p.Path)
		if errors.Is(err, zk.ErrNoNode) {
			var there bool
			if there, err = w.c.exists(ctx, w.generation, p.Path); err == nil && there {
				continue // it has just been made
			}
			if err == nil {
				p.fresh, p.own, p.bad, p.missing = true, nil, 0, true
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("zookeeper: read %s: %w", p.Path, err)
		}
		p.fresh, p.missing = true, false
		endpoints, err := w.layout.Parse(w.service, p.Place, "", now.data)
		if len(endpoints) > w.most {
			return fmt.Errorf("zookeeper: want at most %d instances in %s, found %d", w.most, p.Path, len(endpoints))
		}
		p.bad = 0
		if err != nil {
			p.bad, p.why = 1, err
			w.c.cfg.Log.Debug("zookeeper: entries skipped", "node", p.Path, "error", err)
		}
		if err == nil || len(endpoints) > 0 {
			p.own = endpoints
		}
		return nil
	}
	return fmt.Errorf("zookeeper: read %s: the node comes and goes faster than it is read", p.Path)
}

// send sends what is known, if it differs from what was sent or has to be confirmed.
func (w *watch) send() {
	var all []registry.Endpoint
	skipped := 0
	var why error // one of them is
	for _, p := range w.places {
		all = append(all, p.own...)
		if skipped += p.bad; p.bad > 0 {
			why = p.why
		}
		for _, name := range slices.Sorted(maps.Keys(p.entries)) {
			e := p.entries[name]
			all = append(all, e.endpoints...)
			if e.bad {
				skipped++
				why = fmt.Errorf("%s: %w", name, cmp.Or(e.why, zk.ErrNoAuth))
			}
		}
	}
	all = slices.DeleteFunc(all, func(e registry.Endpoint) bool {
		refused := !registry.Allowed(w.allow, e.Address)
		if refused {
			skipped++
			why = fmt.Errorf("%s: want an address within what is allowed, found %s", e.ID, e.Address)
		}
		return refused
	})
	if other, reason := w.unwanted(all); other > 0 {
		skipped, why = skipped+other, cmp.Or(why, reason)
	}
	slices.SortStableFunc(all, func(a, b registry.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	unique := slices.CompactFunc(all, func(a, b registry.Endpoint) bool {
		if a.ID == b.ID && a.Address != b.Address {
			skipped++ // else it is one instance that is entered twice, as after a restart whose ghost is still there
			why = fmt.Errorf("%s: want one address of an instance, found %s and %s", a.ID, a.Address, b.Address)
		}
		return a.ID == b.ID
	})
	if w.known && !w.failed && w.sent.Skipped == skipped && w.sent.Withdrawn == w.home.withdrawn && reflect.DeepEqual(w.sent.Endpoints, unique) {
		return
	}
	if skipped > w.sent.Skipped {
		w.c.cfg.Log.Warn("zookeeper: entries of a service cannot be read and are left out", "service", w.service, "entries", skipped, "one", why)
	}
	w.revision++
	w.sent = registry.Set{Service: w.service, Revision: w.revision, Endpoints: unique, Skipped: skipped, Withdrawn: w.home.withdrawn}
	w.known, w.failed = true, false
	out := w.sent
	out.Endpoints = slices.Clone(unique) // the taker's own
	for i := range out.Endpoints {
		out.Endpoints[i].Meta = maps.Clone(out.Endpoints[i].Meta)
	}
	w.to.Update(out)
}
