package zookeeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
)

// ErrDenied is within the errors of what ZooKeeper does not let this connection do.
var ErrDenied = zk.ErrNoAuth

// Entry is one node that holds an instance, or several, as it is: for people.
type Entry struct {
	Path         string
	Name         string // the last of the path; of an instance in the native layout, its id
	Data         []byte
	Owner        int64 // the session; 0: the node is not ephemeral, and outlives its instance
	Version      int32
	Czxid, Mzxid int64               // the changes that have made it, and written it last
	Created      time.Time           // by the server's clock, like Modified and Beat
	Modified     time.Time           //
	Beat         time.Time           // when the last beat was written; zero: there is none, as in all layouts but the native one
	Load         float64             // of the last beat; negative: not stated
	Endpoints    []registry.Endpoint // what a gateway makes of it
	Fault        error               // why a gateway leaves it out, or a part of it
}

// wait waits for the connection, or the end of ctx.
func (c *Conn) wait(ctx context.Context) (uint64, error) {
	sub := c.subscribe("")
	defer sub.close()
	for {
		s, _ := c.now()
		if s.connected {
			return s.generation, nil
		}
		select {
		case <-sub.wake:
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", ctx.Err(), s.err)
		case <-c.ctx.Done():
			return 0, errClosed
		}
	}
}

// retry does something again when the connection is lost meanwhile, until ctx ends.
func (c *Conn) retry(ctx context.Context, what func(generation uint64) error) error {
	for {
		generation, err := c.wait(ctx)
		if err != nil {
			return err
		}
		if err = what(generation); !lost(err) || ctx.Err() != nil {
			return err
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// children lists the children of a node, sorted; one that is not there has none.
func (c *Conn) children(ctx context.Context, generation uint64, path string) ([]string, error) {
	names, err := do(ctx, c, generation, func(z *zk.Conn) ([]string, error) { names, _, err := z.Children(path); return names, err })
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("zookeeper: list %s: %w", path, err)
	}
	slices.Sort(names)
	return names, nil
}

// catalog is a layout whose services can be listed.
type catalog interface {
	// services is the node whose children stand for services; service is the one that a child stands for, "" for none.
	services() string
	service(child string) string
}

func (n Native) services() string          { return cmp.Or(n.Root, "/causeway") + "/v1/services" }
func (Native) service(child string) string { return child }

func (d Dubbo) services() string { return cmp.Or(d.Root, "/dubbo") }

// service takes what Dubbo itself keeps beside its interfaces for none.
func (Dubbo) service(child string) string {
	name, err := url.QueryUnescape(child)
	if err != nil || slices.Contains([]string{"config", "mapping", "metadata"}, name) {
		return ""
	}
	return name
}

func (c Curator) services() string          { return cmp.Or(c.Root, "/services") }
func (Curator) service(child string) string { return child }

func (k Kratos) services() string          { return cmp.Or(k.Root, "/microservices") }
func (Kratos) service(child string) string { return child }

func (s Seed) services() string { return cmp.Or(s.Root, "/zookeeper") }

// service takes ZooKeeper's own nodes, which are there too, for none.
func (Seed) service(child string) string {
	if child == "config" || child == "quota" {
		return ""
	}
	return child
}

// native is the layout named, or this connection's native one for nil.
func (c *Conn) native(layout Layout) Layout {
	if layout == nil {
		return Native{Root: c.cfg.Root}
	}
	return layout
}

// Services lists the services of a layout, sorted; nil is the native one below the connection's root. Those of a Generic
// layout cannot be listed. A service may have no instances.
func (c *Conn) Services(ctx context.Context, layout Layout) (names []string, err error) {
	listed, is := c.native(layout).(catalog)
	if !is {
		return nil, fmt.Errorf("zookeeper: services of %T cannot be listed", layout)
	}
	err = c.retry(ctx, func(generation uint64) error {
		children, err := c.children(ctx, generation, listed.services())
		names = names[:0]
		for _, child := range children {
			if name := listed.service(child); name != "" {
				names = append(names, name)
			}
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

// Inspect reads the nodes of a service's instances, sorted by path, sound or not; a nil layout is the native one below the
// connection's root.
func (c *Conn) Inspect(ctx context.Context, layout Layout, service string) (entries []Entry, err error) {
	layout = c.native(layout)
	places, err := layout.Places(service)
	if err != nil {
		return nil, err
	}
	var beats string
	if native, is := layout.(Native); is {
		if beats, err = native.Beats(service); err != nil {
			return nil, err
		}
	}
	err = c.retry(ctx, func(generation uint64) error {
		entries = nil
		for _, p := range places {
			more, err := c.inspect(ctx, generation, layout, service, p, beats)
			if err != nil {
				return err
			}
			entries = append(entries, more...)
		}
		return nil
	})
	return entries, err
}

// inspect reads one place; beats is where the beats of its instances are, "" for nowhere.
func (c *Conn) inspect(ctx context.Context, generation uint64, layout Layout, service string, at Place, beats string) ([]Entry, error) {
	paths := []string{at.Path}
	if !at.Leaf {
		names, err := c.children(ctx, generation, at.Path)
		if err != nil {
			return nil, err
		}
		paths = paths[:0]
		for _, name := range names {
			paths = append(paths, at.Path+"/"+name)
		}
	}
	entries := make([]Entry, len(paths))
	work := make([]func() error, len(paths))
	for i, path := range paths {
		work[i] = func() (err error) {
			entries[i], err = c.entry(ctx, generation, layout, service, at, path, beats)
			return err
		}
	}
	if err := inParallel(work); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e Entry) bool { return e.Path == "" }), nil
}

// entry reads one node, and the beat beside it; one that is not there has no path.
func (c *Conn) entry(ctx context.Context, generation uint64, layout Layout, service string, at Place, path, beats string) (Entry, error) {
	now, err := c.read(ctx, generation, path)
	if err != nil || now.stat == nil {
		return Entry{}, err
	}
	_, name, _ := cutLast(path)
	e := Entry{
		Path: path, Name: name, Data: now.data, Owner: now.stat.EphemeralOwner, Version: now.stat.Version,
		Czxid: now.stat.Czxid, Mzxid: now.stat.Mzxid,
		Created: time.UnixMilli(now.stat.Ctime), Modified: time.UnixMilli(now.stat.Mtime), Load: -1,
	}
	if at.Leaf {
		name = ""
	}
	e.parse(layout, service, at, name)
	if beats == "" {
		return e, nil
	}
	beat, err := c.read(ctx, generation, beats+"/"+name)
	if err == nil && beat.stat != nil {
		e.Beat = time.UnixMilli(beat.stat.Mtime)
		e.Load, _ = parseBeat(beat.data) // -1 when it is no number
	}
	return e, err
}

// InspectInstance reads one instance of the native layout; one that is not there is an Entry without a path.
func (c *Conn) InspectInstance(ctx context.Context, service, id string) (e Entry, err error) {
	native := Native{Root: c.cfg.Root}
	dir, err := native.Instances(service)
	if err != nil {
		return Entry{}, err
	}
	if err := instanceID(id); err != nil {
		return Entry{}, err
	}
	beats, err := native.Beats(service)
	if err != nil {
		return Entry{}, err
	}
	err = c.retry(ctx, func(generation uint64) error {
		e, err = c.entry(ctx, generation, native, service, Place{Path: dir}, dir+"/"+id, beats)
		return err
	})
	return e, err
}

// parse does with the data what a Resolver does, with what it allows by default.
func (e *Entry) parse(layout Layout, service string, at Place, name string) {
	endpoints, err := layout.Parse(service, at, name, e.Data)
	faults := []error{err}
	for _, ep := range endpoints {
		if registry.Allowed(nil, ep.Address) {
			e.Endpoints = append(e.Endpoints, ep)
			continue
		}
		faults = append(faults, fmt.Errorf("zookeeper: want an address that others can reach, found %s", ep.Address))
	}
	e.Fault = errors.Join(faults...)
}

// read reads a node; one that is not there has no stat.
func (c *Conn) read(ctx context.Context, generation uint64, path string) (found, error) {
	now, err := do(ctx, c, generation, func(z *zk.Conn) (found, error) {
		data, stat, err := z.Get(path)
		return found{data, stat}, err
	})
	if errors.Is(err, zk.ErrNoNode) {
		return found{}, nil
	}
	if err != nil {
		return found{}, fmt.Errorf("zookeeper: read %s: %w", path, err)
	}
	return now, nil
}
