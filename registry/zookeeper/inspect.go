package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
)

// Entry is one instance's node as it is, for people.
type Entry struct {
	Name     string
	Data     []byte
	Owner    int64 // the session; 0: the node is not ephemeral, and outlives its instance
	Version  int32
	Created  time.Time         // by the server's clock, like Modified and Beat
	Modified time.Time         //
	Beat     time.Time         // when the last beat was written; zero: there is none
	Load     float64           // of the last beat; negative: not stated
	Endpoint registry.Endpoint // what a gateway makes of it
	Fault    error             // why a gateway leaves it out
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

// Services lists the services of the native layout, sorted.
func (c *Conn) Services(ctx context.Context) (names []string, err error) {
	err = c.retry(ctx, func(generation uint64) error {
		names, err = c.children(ctx, generation, c.cfg.Root+"/v1/services")
		return err
	})
	return names, err
}

// Inspect reads the instances of a service in the native layout, sorted by name, sound or not.
func (c *Conn) Inspect(ctx context.Context, service string) (entries []Entry, err error) {
	native := Native{Root: c.cfg.Root}
	dir, err := native.Instances(service)
	if err != nil {
		return nil, err
	}
	beats, err := native.Beats(service)
	if err != nil {
		return nil, err
	}
	err = c.retry(ctx, func(generation uint64) error {
		entries, err = c.inspect(ctx, generation, native, service, dir, beats)
		return err
	})
	return entries, err
}

func (c *Conn) inspect(ctx context.Context, generation uint64, native Native, service, dir, beats string) ([]Entry, error) {
	names, err := c.children(ctx, generation, dir)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(names))
	work := make([]func() error, len(names))
	for i, name := range names {
		work[i] = func() error {
			e := &entries[i]
			now, err := c.read(ctx, generation, dir+"/"+name)
			if err != nil {
				return err
			}
			if now.stat == nil {
				return nil // gone meanwhile
			}
			*e = Entry{
				Name: name, Data: now.data, Owner: now.stat.EphemeralOwner, Version: now.stat.Version,
				Created: time.UnixMilli(now.stat.Ctime), Modified: time.UnixMilli(now.stat.Mtime), Load: -1,
			}
			if eps, err := native.Parse(service, Place{Path: dir}, name, now.data); err != nil {
				e.Fault = err
			} else {
				e.Endpoint = eps[0]
			}
			beat, err := c.read(ctx, generation, beats+"/"+name)
			if err == nil && beat.stat != nil {
				e.Beat = time.UnixMilli(beat.stat.Mtime)
				e.Load, _ = parseBeat(beat.data) // -1 when it is no number
			}
			return err
		}
	}
	if err := inParallel(work); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(e Entry) bool { return e.Name == "" }), nil
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

// Order writes a status to an instance's node. The instance keeps to it, also over a new session, until it is ordered to be
// up; what it says of itself (draining, down) comes before an order to be up.
func (c *Conn) Order(ctx context.Context, service, id string, status registry.Status) error {
	dir, err := Native{Root: c.cfg.Root}.Instances(service)
	if err != nil {
		return err
	}
	if status == registry.Starting {
		return errors.New("zookeeper: want an order to be up, draining or down, found starting")
	}
	return c.retry(ctx, func(generation uint64) error { return c.order(ctx, generation, dir, service, id, status) })
}

func (c *Conn) order(ctx context.Context, generation uint64, dir, service, id string, status registry.Status) error {
	path := dir + "/" + id
	for range 5 { // while the instance writes, too
		now, err := c.read(ctx, generation, path)
		if err != nil {
			return err
		}
		if now.stat == nil || strings.Contains(id, "/") {
			return fmt.Errorf("zookeeper: %s has no instance %q", service, id)
		}
		data, err := WithStatus(now.data, status)
		if err != nil {
			return err
		}
		_, err = do(ctx, c, generation, func(z *zk.Conn) (*zk.Stat, error) { return z.Set(path, data, now.stat.Version) })
		if !errors.Is(err, zk.ErrBadVersion) && !errors.Is(err, zk.ErrNoNode) {
			if err != nil {
				return fmt.Errorf("zookeeper: write %s: %w", path, err)
			}
			return nil
		}
	}
	return fmt.Errorf("zookeeper: %s changes faster than it is written", path)
}
