package devserver

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// The operations, see org.apache.zookeeper.ZooDefs.OpCode.
const (
	opCreate           int32 = 1
	opDelete           int32 = 2
	opExists           int32 = 3
	opGetData          int32 = 4
	opSetData          int32 = 5
	opGetACL           int32 = 6
	opSetACL           int32 = 7
	opGetChildren      int32 = 8
	opSync             int32 = 9
	opPing             int32 = 11
	opGetChildren2     int32 = 12
	opCheck            int32 = 13
	opMulti            int32 = 14
	opCreate2          int32 = 15
	opCheckWatches     int32 = 17
	opRemoveWatches    int32 = 18
	opCreateContainer  int32 = 19
	opCreateTTL        int32 = 21
	opMultiRead        int32 = 22
	opAuth             int32 = 100
	opSetWatches       int32 = 101
	opGetEphemerals    int32 = 103
	opAllChildrenCount int32 = 104
	opSetWatches2      int32 = 105
	opAddWatch         int32 = 106
	opCloseSession     int32 = -11
	opError            int32 = -1
)

// call is one request in execution: what it says, and its answer so far.
type call struct {
	c   *conn
	r   *reader
	out []byte
	now int64 // ms
}

// execute does what a packet asks for and queues the answer, after the events of the change. It returns false when the
// connection is to end.
func (s *Server) execute(c *conn, frame []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses := c.session
	if ses == nil {
		return false
	}
	now := time.Now()
	ses.heard = now
	s.requests++
	r := reader{b: frame}
	xid, op := r.int32(), r.int32()
	if r.err != nil {
		return false
	}
	k := call{c: c, r: &r, now: now.UnixMilli()}
	var err code
	switch op {
	case opPing:
	case opAuth:
		r.int32()
		err = c.authenticate(r.string(), string(r.buffer()))
	case opCloseSession:
		s.unwatch(c)
		ses.conn, c.session = nil, nil // so that the answer is sent after the change
		s.endSession(ses)
		zxid := s.tree.zxid
		c.send(func(dst []byte) []byte { return appendHeader(dst, xid, zxid, ok) })
		return false
	case opMulti:
		err = s.multi(&k)
	case opMultiRead:
		err = s.multiRead(&k)
	case opCreate, opCreate2, opCreateContainer, opCreateTTL, opDelete, opSetData, opSetACL, opCheck:
		s.tree.begin()
		err = s.change(&k, op)
		if err == ok && r.err != nil {
			err = marshallingError
		}
		if err != ok {
			s.tree.rollback()
		}
		s.fire(s.tree.events)
	default:
		err = s.look(&k, op)
	}
	if r.err != nil {
		err = marshallingError
	}
	if err != ok {
		k.out = nil
	}
	zxid := s.tree.zxid
	c.send(func(dst []byte) []byte { return append(appendHeader(dst, xid, zxid, err), k.out...) })
	if c.watching > s.cfg.MaxWatches {
		s.cfg.Log.Warn("connection ended: too many watches", "session", ses.id, "watches", c.watching)
		return false
	}
	return err != authFailed && err != marshallingError
}

func (c *conn) authenticate(scheme, credentials string) code {
	if scheme != "digest" {
		return authFailed
	}
	who, valid := digest(credentials)
	if !valid {
		return authFailed
	}
	if !slices.Contains(c.ids, who) {
		if len(c.ids) >= 64 {
			return authFailed
		}
		c.ids = append(c.ids, who)
	}
	return ok
}

// change executes an operation that writes, within a change that the caller has begun and ends.
func (s *Server) change(k *call, op int32) code {
	path := k.r.string()
	switch op {
	case opCreate, opCreate2, opCreateContainer, opCreateTTL:
		return s.create(k, op, path)
	case opDelete:
		version := k.r.int32()
		if parentPath, _ := split("/" + strings.TrimPrefix(path, "/")); s.tree.nodes[path] != nil && !s.tree.nodes[parentPath].allowed(permDelete, k.c.ids) {
			return noAuth
		}
		return s.tree.drop(path, version)
	case opSetData:
		data, version := k.r.buffer(), k.r.int32()
		if n := s.tree.nodes[path]; n != nil && !n.allowed(permWrite, k.c.ids) {
			return noAuth
		}
		n, err := s.tree.set(path, data, version, k.now)
		if err == ok {
			k.out = n.appendStat(k.out)
		}
		return err
	case opSetACL:
		return s.setACL(k, path)
	default: // opCheck
		version := k.r.int32()
		n := s.tree.nodes[path]
		switch {
		case n == nil:
			return noNode
		case !n.allowed(permRead, k.c.ids):
			return noAuth
		case version != -1 && version != n.version:
			return badVersion
		}
		return ok
	}
}

func (s *Server) create(k *call, op int32, path string) code {
	data, acls, flags := k.r.buffer(), k.r.acls(), k.r.int32()
	what := kind(flags)
	var ttl int64
	if op == opCreateTTL {
		ttl = k.r.int64()
		if what.base() != withTTL || ttl <= 0 || ttl > maxTTL {
			return badArguments
		}
	} else if what < persistent || what > container || op == opCreateContainer && what != container {
		return badArguments
	}
	if k.r.err != nil {
		return marshallingError
	}
	acls, err := resolve(acls, k.c.ids)
	if err != ok {
		return err
	}
	if validPath(path, what.sequential()) {
		parentPath, _ := split(path)
		if parent := s.tree.nodes[parentPath]; parent != nil && !parent.allowed(permCreate, k.c.ids) {
			return noAuth
		}
	}
	path, err = s.tree.create(path, data, acls, what, k.c.session.id, ttl, k.now)
	if err != ok {
		return err
	}
	k.out = appendString(k.out, path)
	if op != opCreate {
		k.out = s.tree.nodes[path].appendStat(k.out)
	}
	return ok
}

func (s *Server) setACL(k *call, path string) code {
	acls, version := k.r.acls(), k.r.int32()
	n := s.tree.nodes[path]
	if n == nil {
		return noNode
	}
	if !n.allowed(permAdmin, k.c.ids) {
		return noAuth
	}
	acls, err := resolve(acls, k.c.ids)
	if err != ok {
		return err
	}
	if version != -1 && version != n.aversion {
		return badVersion
	}
	before := n.acl
	n.acl = acls
	n.aversion++
	s.tree.undo = append(s.tree.undo, func() { n.acl = before; n.aversion-- })
	k.out = n.appendStat(k.out)
	return ok
}

// look executes an operation that changes no node.
func (s *Server) look(k *call, op int32) code {
	switch op {
	case opSetWatches, opSetWatches2:
		return s.watchAgain(k.c, k.r, op == opSetWatches2)
	case opGetEphemerals:
		return s.getEphemerals(k)
	}
	path := k.r.string()
	if !validPath(path, false) {
		if k.r.err != nil {
			return marshallingError
		}
		return badArguments
	}
	n := s.tree.nodes[path]
	switch op {
	case opSync:
		k.out = appendString(k.out, path)
		return ok
	case opAddWatch:
		return s.addWatch(k, path)
	case opCheckWatches, opRemoveWatches:
		return s.removeWatches(k, path, op == opRemoveWatches)
	case opExists:
		if k.r.bool() && k.r.err == nil {
			s.dataWatches.add(path, k.c, once)
		}
		if n == nil {
			return noNode
		}
		k.out = n.appendStat(k.out)
		return ok
	case opGetData, opGetChildren, opGetChildren2, opGetACL, opAllChildrenCount:
	default:
		return unimplemented
	}
	watch := false // read in any case: in a multi more follows
	if op != opGetACL && op != opAllChildrenCount {
		if watch = k.r.bool(); k.r.err != nil {
			return marshallingError
		}
	}
	if n == nil {
		return noNode
	}
	if !n.allowed(permRead, k.c.ids) && !(op == opGetACL && n.allowed(permAdmin, k.c.ids)) {
		return noAuth
	}
	switch op {
	case opGetData:
		if watch {
			s.dataWatches.add(path, k.c, once)
		}
		k.out = n.appendStat(appendBuffer(k.out, n.data))
	case opGetChildren, opGetChildren2:
		if watch {
			s.childWatches.add(path, k.c, once)
		}
		k.out = appendStrings(k.out, n.names())
		if op == opGetChildren2 {
			k.out = n.appendStat(k.out)
		}
	case opGetACL:
		k.out = n.appendStat(appendACLs(k.out, n.acl))
	case opAllChildrenCount:
		below := strings.TrimSuffix(path, "/") + "/"
		var count int32
		for p := range s.tree.nodes {
			if p != "/" && strings.HasPrefix(p, below) {
				count++
			}
		}
		k.out = appendInt32(k.out, count)
	}
	return ok
}

func (s *Server) getEphemerals(k *call) code {
	prefix := k.r.string()
	var own []string
	for _, path := range slices.Sorted(maps.Keys(s.tree.ephemerals[k.c.session.id])) {
		if strings.HasPrefix(path, prefix) {
			own = append(own, path)
		}
	}
	k.out = appendStrings(k.out, own)
	return ok
}

func (s *Server) addWatch(k *call, path string) code {
	var m mode
	switch k.r.int32() {
	case 0:
		m = forever
	case 1:
		m = forTheTree
	default:
		return badArguments
	}
	if k.r.err != nil {
		return marshallingError
	}
	s.dataWatches.add(path, k.c, m)
	s.childWatches.add(path, k.c, m)
	k.out = appendInt32(k.out, int32(ok))
	return ok
}

func (s *Server) removeWatches(k *call, path string, remove bool) code {
	const children, data, anything = 1, 2, 3
	what := k.r.int32()
	if what < children || what > anything {
		return badArguments
	}
	found := false
	for kind, w := range map[int32]watches{children: s.childWatches, data: s.dataWatches} {
		if what != anything && what != kind {
			continue
		}
		_, has := w[path][k.c]
		found = found || has
		if remove && has {
			w.drop(path, k.c)
		}
	}
	if !found {
		return noWatcher
	}
	return ok
}
