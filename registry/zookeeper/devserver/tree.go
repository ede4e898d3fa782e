package devserver

import (
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// code is an error of the protocol, see org.apache.zookeeper.KeeperException.Code.
type code int32

const (
	ok                      code = 0
	systemError             code = -1
	inconsistency           code = -2 // in the answer to a multi: not executed, for an earlier operation failed
	marshallingError        code = -5
	unimplemented           code = -6
	badArguments            code = -8
	noNode                  code = -101
	noAuth                  code = -102
	badVersion              code = -103
	noChildrenForEphemerals code = -108
	nodeExists              code = -110
	notEmpty                code = -111
	sessionExpired          code = -112
	invalidACL              code = -114
	authFailed              code = -115
	noWatcher               code = -121
	quotaExceeded           code = -125
)

// kind is what makes a node vanish. The values are the flags of a create request.
type kind int32

const (
	persistent           kind = 0
	ephemeral            kind = 1
	persistentSequential kind = 2
	ephemeralSequential  kind = 3
	container            kind = 4
	withTTL              kind = 5
	withTTLSequential    kind = 6
)

func (k kind) sequential() bool {
	return k == persistentSequential || k == ephemeralSequential || k == withTTLSequential
}

// base is the kind without its number.
func (k kind) base() kind {
	switch k {
	case persistentSequential:
		return persistent
	case ephemeralSequential:
		return ephemeral
	case withTTLSequential:
		return withTTL
	default:
		return k
	}
}

// node is one node of the tree.
type node struct {
	kind         kind
	data         []byte
	acl          []acl
	owner        int64 // the session of an ephemeral node
	ttl          int64 // ms
	czxid, mzxid int64
	pzxid        int64
	ctime, mtime int64 // ms
	version      int32
	aversion     int32
	created      int32 // children created so far: the number of the next sequential one
	deleted      int32 // children deleted so far
	children     map[string]struct{}
}

func (n *node) appendStat(dst []byte) []byte {
	for _, v := range [...]int64{n.czxid, n.mzxid, n.ctime, n.mtime} {
		dst = appendInt64(dst, v)
	}
	for _, v := range [...]int32{n.version, n.created + n.deleted, n.aversion} {
		dst = appendInt32(dst, v)
	}
	dst = appendInt64(dst, n.owner)
	dst = appendInt32(dst, int32(len(n.data)))     //nolint:gosec // bounded by the packet it came in
	dst = appendInt32(dst, int32(len(n.children))) //nolint:gosec // bounded by the number of nodes
	return appendInt64(dst, n.pzxid)
}

// tree holds the nodes. It belongs to whoever holds the server's lock.
type tree struct {
	nodes      map[string]*node
	ephemerals map[int64]map[string]struct{} // by session
	bytes      int                           // of paths and data
	maxNodes   int
	maxBytes   int
	zxid       int64    // of the last change
	undo       []func() // of the change in progress, newest last
	events     []event  // of the change in progress
}

// event is what watchers are told.
type event struct {
	typ  int32
	path string
}

const (
	nodeCreated         int32 = 1
	nodeDeleted         int32 = 2
	nodeDataChanged     int32 = 3
	nodeChildrenChanged int32 = 4
)

func newTree(zxid int64, maxNodes, maxBytes int) *tree {
	t := &tree{
		nodes:      map[string]*node{},
		ephemerals: map[int64]map[string]struct{}{},
		maxNodes:   maxNodes, maxBytes: maxBytes,
		zxid: zxid,
	}
	for _, path := range []string{"/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"} {
		t.nodes[path] = &node{acl: openACL(), children: map[string]struct{}{}}
		if parent, name := split(path); name != "" {
			t.nodes[parent].children[name] = struct{}{}
		}
	}
	return t
}

// split cuts a path into its parent and its name; the root has no name.
func split(path string) (parent, name string) {
	at := strings.LastIndexByte(path, '/')
	if at == 0 {
		return "/", path[1:]
	}
	return path[:at], path[at+1:]
}

// validPath is ZooKeeper's PathUtils.validatePath; of a sequential node the last name may be empty.
func validPath(path string, sequential bool) bool {
	if sequential {
		path += "1"
	}
	if path == "" || path[0] != '/' || !utf8.ValidString(path) {
		return false
	}
	if path == "/" {
		return true
	}
	for name := range strings.SplitSeq(path[1:], "/") {
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	for _, c := range path {
		if c <= 0x1f || c >= 0x7f && c <= 0x9f || c >= 0xd800 && c <= 0xf8ff || c >= 0xfff0 && c <= 0xffff {
			return false
		}
	}
	return true
}

// create adds a node and returns its path, which for a sequential one has its number at the end.
func (t *tree) create(path string, data []byte, acls []acl, k kind, owner, ttl, now int64) (string, code) {
	if !strings.HasPrefix(path, "/") {
		return "", badArguments
	}
	if path == "/" {
		return "", nodeExists
	}
	parentPath, _ := split(path)
	parent := t.nodes[parentPath]
	if parent == nil {
		return "", noNode
	}
	if !validPath(path, k.sequential()) {
		return "", badArguments
	}
	if k.sequential() {
		path += tenDigits(parent.created)
	}
	if t.nodes[path] != nil {
		return "", nodeExists
	}
	if parent.kind == ephemeral {
		return "", noChildrenForEphemerals
	}
	if len(t.nodes) >= t.maxNodes || t.bytes+len(path)+len(data) > t.maxBytes {
		return "", quotaExceeded
	}
	_, name := split(path)
	n := &node{
		kind: k.base(), data: data, acl: acls, ttl: ttl,
		czxid: t.zxid, mzxid: t.zxid, pzxid: t.zxid, ctime: now, mtime: now,
		children: map[string]struct{}{},
	}
	if n.kind == ephemeral {
		n.owner = owner
	}
	before := parent.pzxid
	t.insert(path, n)
	parent.children[name] = struct{}{}
	parent.created++
	parent.pzxid = t.zxid
	t.undo = append(t.undo, func() {
		t.remove(path, n)
		delete(parent.children, name)
		parent.created--
		parent.pzxid = before
	})
	t.events = append(t.events, event{nodeCreated, path}, event{nodeChildrenChanged, parentPath})
	return path, ok
}

func (t *tree) insert(path string, n *node) {
	t.nodes[path] = n
	t.bytes += len(path) + len(n.data)
	if n.kind == ephemeral {
		if t.ephemerals[n.owner] == nil {
			t.ephemerals[n.owner] = map[string]struct{}{}
		}
		t.ephemerals[n.owner][path] = struct{}{}
	}
}

func (t *tree) remove(path string, n *node) {
	delete(t.nodes, path)
	t.bytes -= len(path) + len(n.data)
	if n.kind == ephemeral {
		delete(t.ephemerals[n.owner], path)
		if len(t.ephemerals[n.owner]) == 0 {
			delete(t.ephemerals, n.owner)
		}
	}
}

// drop deletes a node; version -1 is any.
func (t *tree) drop(path string, version int32) code {
	if !validPath(path, false) || path == "/" || path == "/zookeeper" || strings.HasPrefix(path, "/zookeeper/") {
		return badArguments
	}
	n := t.nodes[path]
	if n == nil {
		return noNode
	}
	if version != -1 && version != n.version {
		return badVersion
	}
	if len(n.children) > 0 {
		return notEmpty
	}
	parentPath, name := split(path)
	parent := t.nodes[parentPath]
	before := parent.pzxid
	t.remove(path, n)
	delete(parent.children, name)
	parent.deleted++
	parent.pzxid = t.zxid
	t.undo = append(t.undo, func() {
		t.insert(path, n)
		parent.children[name] = struct{}{}
		parent.deleted--
		parent.pzxid = before
	})
	t.events = append(t.events, event{nodeDeleted, path}, event{nodeChildrenChanged, parentPath})
	return ok
}

// set replaces the data of a node; version -1 is any.
func (t *tree) set(path string, data []byte, version int32, now int64) (*node, code) {
	n := t.nodes[path]
	if n == nil {
		return nil, noNode
	}
	if version != -1 && version != n.version {
		return nil, badVersion
	}
	if t.bytes-len(n.data)+len(data) > t.maxBytes {
		return nil, quotaExceeded
	}
	before, bytes := *n, t.bytes
	t.bytes += len(data) - len(n.data)
	n.data, n.mzxid, n.mtime = data, t.zxid, now
	n.version++
	t.undo = append(t.undo, func() {
		n.data, n.mzxid, n.mtime, n.version = before.data, before.mzxid, before.mtime, before.version
		t.bytes = bytes
	})
	t.events = append(t.events, event{nodeDataChanged, path})
	return n, ok
}

// names are the children of a node, sorted.
func (n *node) names() []string { return slices.Sorted(maps.Keys(n.children)) }

// begin opens a change, which commit or rollback ends.
func (t *tree) begin() {
	t.zxid++
	t.undo, t.events = t.undo[:0], t.events[:0]
}

func (t *tree) rollback() {
	for _, undo := range slices.Backward(t.undo) {
		undo()
	}
	t.undo, t.events = t.undo[:0], t.events[:0]
}

// vanishing returns the containers that have lost their last child and the nodes whose time to live is over.
func (t *tree) vanishing(now int64) []string {
	var gone []string
	for path, n := range t.nodes {
		if len(n.children) > 0 {
			continue
		}
		if n.kind == container && n.created > 0 || n.kind == withTTL && now-n.mtime > n.ttl {
			gone = append(gone, path)
		}
	}
	return gone
}

func tenDigits(n int32) string {
	var b [10]byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return string(b[:])
}

// maxTTL is the longest time to live that ZooKeeper takes with its extended types, in ms.
const maxTTL = math.MaxInt64 >> 24
