package zookeeper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"

	"github.com/go-zookeeper/zk"
)

// A new session has no watches, and the library forgets those of the former one. To read everything again for that is a burden
// on the registry when many gateways do so at one moment, and to do it slowly would leave changes unseen meanwhile. So what was
// watched is watched again as a connection that comes back with its session does it: with the last change that was heard of, and
// the server tells which of the nodes have changed since.

const (
	watchesFrame = 128 << 10 // bytes of a request that sets watches: the server takes no more than its jute.maxbuffer
	watchesXid   = -8        // its number, as in the Java client; the library passes over answers that have it
)

// landmark is a node by which data is known to be the same as before: numbers of changes begin anew where all data was lost.
type landmark struct {
	path string // empty: none
	id   int64  // the change that made it
	born int64  // when, by the server's clock
}

// see is called with the lock held: a node that outlives sessions was there.
func (m *landmark) see(path string, s *zk.Stat) {
	if s.EphemeralOwner == 0 && (m.path == "" || m.path == path) {
		*m = landmark{path, s.Czxid, s.Ctime}
	}
}

// errOtherData is why what was heard of before says nothing about what is there now.
var errOtherData = errors.New("zookeeper: the data is not what it was before")

// carry sets the watches again that the library does not. It reports whether the server has told all that has changed since they
// were set first, if not, nothing is known of them; and whether the connection has outlasted that.
func (c *Conn) carry(cl *client) (told, usable bool) {
	c.mu.Lock()
	if !cl.has {
		c.mu.Unlock()
		return false, false
	}
	if c.armedIn != cl.session {
		for key, a := range c.armed {
			if a.set && c.subscribed(key.path) {
				c.carried[key] = a.absent
			}
		}
		c.armed, c.armedIn = map[watchKey]*arming{}, cl.session
	}
	if c.carries++; c.carries > 3 { // each has ended the connection: there is something that does not understand it
		c.carried = map[watchKey]bool{}
		c.mu.Unlock()
		return false, true
	}
	keys, since, mark, live := maps.Clone(c.carried), c.heard, c.mark, cl.live
	if c.state.session == cl.session {
		mark = landmark{} // no session outlives the data
	}
	c.mu.Unlock()
	if len(keys) == 0 {
		return true, true
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.Session)
	defer cancel()
	err := c.same(ctx, cl, mark)
	if err == nil {
		err = live.watchAgain(ctx, since, keys)
	}
	if err == nil {
		return true, true
	}
	if lost(err) { // it is tried again on the next connection
		return false, false
	}
	c.cfg.Log.Info("zookeeper: what was watched is read again", "because", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.carried, c.heard, c.mark = map[watchKey]bool{}, 0, landmark{}
	return false, true
}

// subscribed is called with the lock held. It reports whether somebody wants to hear of a node.
func (c *Conn) subscribed(path string) bool {
	dir, _, _ := cutLast(path)
	return len(c.watching[path]) > 0 || len(c.watching[dir]) > 0
}

// same looks whether a landmark is where it was.
func (c *Conn) same(ctx context.Context, cl *client, mark landmark) error {
	if mark.path == "" {
		return nil
	}
	now, err := run(ctx, c, cl, nil, func(z *zk.Conn) (*zk.Stat, error) {
		there, stat, err := z.Exists(mark.path)
		if err == nil && !there {
			err = zk.ErrNoNode
		}
		return stat, err
	})
	switch {
	case errors.Is(err, zk.ErrNoNode):
		return errOtherData
	case err != nil:
		return err
	case now.Czxid != mark.id || now.Ctime != mark.born:
		return errOtherData
	}
	return nil
}

// watchAgain sets watches on the connection and returns when the server has told which of their nodes have changed since a
// change. The keys say of each node that is watched for itself whether it was absent.
func (f *fence) watchAgain(ctx context.Context, since int64, keys map[watchKey]bool) error {
	frames := watchFrames(since, keys)
	answers := make(chan watchesAnswer, len(frames))
	f.mu.Lock()
	f.again = answers
	f.mu.Unlock()
	for _, frame := range frames {
		if _, err := f.Conn.Write(frame); err != nil { // whole, so it gets between two of the library's
			return fmt.Errorf("%w: %w", errLost, err)
		}
	}
	for range frames {
		select {
		case a := <-answers:
			switch {
			case a.code != 0:
				return fmt.Errorf("zookeeper: set watches: code %d", a.code)
			case a.zxid < since: // also a member that is behind: it would tell later changes, but not those in between
				return fmt.Errorf("%w: at change %x, after %x", errOtherData, a.zxid, since)
			}
		case <-f.ended:
			return errLost
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// watchesAnswer is what the server says at the end of what it tells.
type watchesAnswer struct {
	zxid int64
	code int32
}

// watchFrames are the requests that set watches, each of a size that servers take.
func watchFrames(since int64, keys map[watchKey]bool) [][]byte {
	var frames [][]byte
	var lists [3][]string // data, coming, children, as in the request
	size := 0
	flush := func() {
		b := binary.BigEndian.AppendUint32(make([]byte, 4, size+64), 1<<32+watchesXid)
		b = binary.BigEndian.AppendUint32(b, uint32(opSetWatches))
		b = binary.BigEndian.AppendUint64(b, uint64(since)) //nolint:gosec // the wire carries the bits of an int64
		for i, paths := range lists {
			b = binary.BigEndian.AppendUint32(b, uint32(len(paths))) //nolint:gosec // bounded by watchesFrame
			for _, p := range paths {
				b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...) //nolint:gosec // a path
			}
			lists[i] = lists[i][:0]
		}
		binary.BigEndian.PutUint32(b, uint32(len(b)-4)) //nolint:gosec // bounded by watchesFrame
		frames, size = append(frames, b), 0
	}
	for key, absent := range keys {
		if size > 0 && size+4+len(key.path) > watchesFrame {
			flush()
		}
		which := 0
		switch {
		case key.children:
			which = 2
		case absent:
			which = 1
		}
		lists[which] = append(lists[which], key.path)
		size += 4 + len(key.path)
	}
	flush()
	return frames
}

// hears reports whether a change of a node since it was read is heard, or was already and is waiting to be taken.
func (s *subscription) hears(key watchKey) bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	_, carried := s.c.carried[key]
	_, fired := s.fired[key.path]
	a := s.c.armed[key]
	return carried || fired || a != nil && a.set
}
