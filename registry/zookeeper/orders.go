package zookeeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/causeway-gateway/causeway/registry"
)

// An operator's order is written to the instance's node, where gateways see it at once and the instance keeps to it. But when the
// instance's session ends before it has looked, the order goes with the node. So the same order is left in a persistent node
// beside, in the same step, for as long as the instance has not seen it: whose node is gone looks there before it makes another.

// mail is the data of that node.
type mail struct {
	Status  string `json:"status"`
	Session string `json:"session"` // of the instance's node, hexadecimal: the order is for this process, not for the next one under its id
}

// orders is the node whose children are the orders that a service's instances have not seen.
func (n Native) orders(service string) (string, error) {
	at, err := n.node(service)
	return at + "/orders", err
}

// Order writes a status to an instance's node. The instance keeps to it, also over a new session, until it is ordered to be
// up; what it says of itself (draining, down) comes before an order to be up.
func (c *Conn) Order(ctx context.Context, service, id string, status registry.Status) error {
	native := Native{Root: c.cfg.Root}
	dir, err := native.Instances(service)
	if err != nil {
		return err
	}
	beside, err := native.orders(service)
	if err != nil {
		return err
	}
	if status == registry.Starting {
		return errors.New("zookeeper: want an order to be up, draining or down, found starting")
	}
	return c.retry(ctx, func(generation uint64) error {
		path := dir + "/" + id
		for range 5 { // while the instance writes, too
			now, err := c.read(ctx, generation, path)
			if err != nil {
				return err
			}
			if now.stat == nil || strings.Contains(id, "/") {
				return fmt.Errorf("zookeeper: %s has no instance %q", service, id)
			}
			err = c.order(ctx, generation, path, beside+"/"+id, now, status)
			if !errors.Is(err, zk.ErrBadVersion) && !errors.Is(err, zk.ErrNoNode) && !errors.Is(err, zk.ErrNodeExists) {
				return err
			}
		}
		return fmt.Errorf("zookeeper: %s changes faster than it is written", path)
	})
}

// order writes to the node as it was read, and beside it. Who may not do the latter orders all the same.
func (c *Conn) order(ctx context.Context, generation uint64, path, beside string, now found, status registry.Status) error {
	data, err := WithStatus(now.data, status)
	if err != nil {
		return err
	}
	alone := &zk.SetDataRequest{Path: path, Data: data, Version: now.stat.Version}
	ops := []any{alone}
	if owner := now.stat.EphemeralOwner; owner != 0 { // else no session takes the node away
		note, err := json.Marshal(mail{status.String(), strconv.FormatUint(uint64(owner), 16)}) //nolint:gosec // the bits of an id
		if err != nil {
			return fmt.Errorf("zookeeper: order %s: %w", path, err)
		}
		former, err := c.read(ctx, generation, beside)
		switch {
		case errors.Is(err, zk.ErrNoAuth):
		case err != nil:
			return err
		case former.stat != nil:
			ops = append(ops, &zk.SetDataRequest{Path: beside, Data: note, Version: former.stat.Version})
		default:
			if err := c.makeParents(ctx, generation, beside); lost(err) {
				return err
			} else if err == nil {
				ops = append(ops, &zk.CreateRequest{Path: beside, Data: note, Acl: c.acl})
			}
		}
	}
	multi := func(ops []any) error {
		_, err := do(ctx, c, generation, func(z *zk.Conn) ([]zk.MultiResponse, error) { return z.Multi(ops...) })
		if err != nil {
			return fmt.Errorf("zookeeper: write %s: %w", path, err)
		}
		return nil
	}
	err = multi(ops)
	if errors.Is(err, zk.ErrNoAuth) && len(ops) > 1 {
		err = multi(ops[:1])
	}
	return err
}

// heed takes the status that somebody else has written to the node: an operator drains an instance, or takes that back. What
// else was changed is not taken, and written over.
func (l *Lease) heed(s state, data []byte) {
	own := func(b []byte) bool { return bytes.Equal(data, b) }
	if own(l.wrote) || slices.ContainsFunc(l.unsure, own) {
		return
	}
	written, err := ParseInstance(data)
	if err != nil || !l.obey(written.Status) {
		return
	}
	// Seen: what is beside has done its work. If that cannot be taken away, it says what was seen, and is taken away later.
	if m, version, err := l.mailbox(s); err == nil && m.Status == written.Status {
		_ = l.empty(s, version)
	}
}

// obey reports whether a status is an order, and follows it.
func (l *Lease) obey(status string) bool {
	order, err := parseStatus(status)
	if err != nil || order == registry.Starting {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if order != l.status() {
		l.c.cfg.Log.Info("zookeeper: status ordered", "node", l.path, "status", order.String())
		l.order = order
	}
	return true
}

// recall follows the order that went with the node of a former session.
func (l *Lease) recall(s state) error {
	m, version, err := l.mailbox(s)
	switch {
	case errors.Is(err, zk.ErrNoNode), errors.Is(err, zk.ErrNoAuth):
		return nil
	case err != nil:
		return err
	}
	session, garbled := strconv.ParseUint(m.Session, 16, 64)
	if garbled != nil || !l.c.own(int64(session)) { //nolint:gosec // the bits of an id
		return nil //nolint:nilerr // for another process that was here before, or nobody's
	}
	l.obey(m.Status)
	if err := l.empty(s, version); lost(err) {
		return err
	}
	return nil
}

// mailbox reads what is beside the node; what it cannot understand is empty.
func (l *Lease) mailbox(s state) (m mail, version int32, err error) {
	now, err := do(l.ctx, l.c, s.generation, func(z *zk.Conn) (found, error) {
		data, stat, err := z.Get(l.mail)
		return found{data, stat}, err
	})
	if err != nil {
		return m, 0, err
	}
	if json.Unmarshal(now.data, &m) != nil {
		m = mail{}
	}
	return m, now.stat.Version, nil
}

func (l *Lease) empty(s state, version int32) error {
	_, err := do(l.ctx, l.c, s.generation, func(z *zk.Conn) (struct{}, error) { return struct{}{}, z.Delete(l.mail, version) })
	return err
}
