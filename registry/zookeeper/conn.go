// Package zookeeper registers instances in ZooKeeper and resolves services from it. A service imports it to announce
// itself; beside the standard library it needs github.com/go-zookeeper/zk and package registry, nothing of the gateway.
//
// The README describes the nodes and their data, which are a contract: programs in any language may write and read them.
package zookeeper

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// Config says where ZooKeeper is. A zero field but Servers takes the default named.
type Config struct {
	Servers []string      // host:port of every member
	Root    string        // of the native layout; /causeway
	Session time.Duration // after which the nodes of a dead process vanish; 6 s. The server keeps it within 2 to 20 of its ticks
	Auth    string        // user:password of the digest scheme; none. With it, what is written may be changed by that user only, and read by all
	TLS     *tls.Config   // nil is plain TCP
	Log     *slog.Logger  // none by default
	// Dial connects to a member; by default TCP, within a third of the session.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Conn is a connection to ZooKeeper that goes on for ever: it finds a member that answers, keeps its session as long as the
// servers do, and begins a new one when they do not. Registrars and resolvers share it. It is safe for concurrent use.
type Conn struct {
	cfg  Config
	acl  []zk.ACL
	ctx  context.Context // ends with Close, and the goroutines with it
	end  context.CancelFunc
	all  sync.WaitGroup
	wake chan struct{} // of the supervisor

	life   sync.Mutex // of closed, and of what all waits for
	closed bool

	pool chan struct{} // bounds the reads at one time
	pace pace

	mu       sync.Mutex
	client   *client
	state    state
	settled  time.Time // when state.connected last changed
	dials    int       // since the last session was there, with that one's
	former   []int64   // sessions that this connection has had, the latest last
	watching map[string]map[*subscription]struct{}
	armed    map[watchKey]*arming // the watches that the library has set in a session
	armedIn  int64                // that session
	carried  map[watchKey]bool    // those of former sessions that only carry has set again: whether on the coming of a node
	heard    int64                // the change up to which all that was watched has been told, before the connection in use
	carries  int                  // tries to set them since the connection was usable last
	counting *fence               // the connection whose answers carry that on; nil: none yet
	mark     landmark
	homes    map[string]homeNode // by path
}

// state is what is known of the connection.
type state struct {
	connected  bool
	session    int64         // 0 before the first one
	generation uint64        // rises with each session: all ephemeral nodes of an earlier one are void, and its watches but for those that are told
	told       bool          // in this generation the server has told what has changed since the former one, and goes on telling
	links      uint64        // rises with each connection, also of the same session
	err        error         // why it is not connected
	down       chan struct{} // closed when this connection is lost
}

// client is one use of the library, from its Connect to its Close.
type client struct {
	zk *zk.Conn // set before ready is closed

	// Under the connection's lock.
	live     *fence // the network connection in use
	session  int64
	timeout  time.Duration
	has      bool      // the library has a session on a live connection
	watching bool      // the library has set watches, in this session
	given    bool      // it is given up, and connects no more
	authed   bool      // the credentials were sent, in this or an earlier connection: the library sends them again
	refused  time.Time // since when servers take the connection and give no session; zero when they do not
	last     error     // of the last connection
}

// errLost is what operations end with while there is no connection.
var errLost = errors.New("zookeeper: no connection")

// errClosed is what everything ends with after Close.
var errClosed = errors.New("zookeeper: the connection is closed")

// Connect starts connecting and returns at once: a registry that is down is no error. Close ends it.
func Connect(cfg Config) (*Conn, error) {
	if len(cfg.Servers) == 0 {
		return nil, errors.New("zookeeper: want the address of a server, found none")
	}
	for _, s := range cfg.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return nil, fmt.Errorf("zookeeper: want servers as host:port, found %q: %w", s, err)
		}
	}
	cfg.Root = cmp.Or(cfg.Root, "/causeway")
	if !strings.HasPrefix(cfg.Root, "/") || strings.HasSuffix(cfg.Root, "/") {
		return nil, fmt.Errorf("zookeeper: want a root such as /causeway, found %q", cfg.Root)
	}
	cfg.Session = cmp.Or(cfg.Session, 6*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Conn{
		cfg: cfg, acl: zk.WorldACL(zk.PermAll),
		wake: make(chan struct{}, 1), pool: make(chan struct{}, 32),
		settled:  time.Now(),
		watching: map[string]map[*subscription]struct{}{}, armed: map[watchKey]*arming{}, carried: map[watchKey]bool{}, homes: map[string]homeNode{},
		state: state{err: errLost},
	}
	c.ctx, c.end = context.WithCancel(context.Background())
	if cfg.Auth != "" {
		user, password, found := strings.Cut(cfg.Auth, ":")
		if !found {
			return nil, errors.New("zookeeper: want auth as user:password")
		}
		c.acl = append(zk.DigestACL(zk.PermAll, user, password), zk.WorldACL(zk.PermRead)...)
	}
	if c.cfg.Dial == nil {
		dialer := &net.Dialer{Timeout: cfg.Session / 3}
		c.cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	c.start("the supervisor", c.supervise)
	return c, nil
}

// Close ends the session, and with it every node that lives by it.
func (c *Conn) Close() {
	c.life.Lock()
	c.closed = true
	c.life.Unlock()
	c.end()
	c.mu.Lock()
	cl := c.client
	c.mu.Unlock()
	cl.zk.Close()
	c.all.Wait()
}

// start runs f in a goroutine that Close waits for; after Close it does not, and returns false. A panic there ends only f.
func (c *Conn) start(what string, f func()) bool {
	c.life.Lock()
	defer c.life.Unlock()
	if c.closed {
		return false
	}
	c.all.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				c.cfg.Log.Error("zookeeper: panic in "+what, "panic", r, "stack", string(debug.Stack()))
			}
		}()
		f()
	})
	return true
}

// open begins with a new client of the library, without a session.
func (c *Conn) open() error {
	cl := &client{}
	ready := make(chan struct{})
	defer close(ready)
	conn, _, err := zk.Connect(c.cfg.Servers, c.cfg.Session,
		zk.WithLogger(quiet{}), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxFrame), zk.WithHostProvider(&hosts{}),
		zk.WithEventCallback(func(e zk.Event) { // drops nothing, unlike the channel
			<-ready
			c.event(cl, e)
		}),
		zk.WithDialer(func(_, address string, _ time.Duration) (net.Conn, error) {
			<-ready
			return c.dial(cl, address)
		}))
	if err != nil {
		return fmt.Errorf("zookeeper: %w", err)
	}
	cl.zk = conn
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client = cl
	return nil
}

// dial connects to one member, with a fence around the connection.
func (c *Conn) dial(cl *client, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.Session/3)
	defer cancel()
	c.mu.Lock()
	if cl.given {
		c.mu.Unlock()
		return nil, errClosed
	}
	most := time.Duration(0)
	switch { // so that many clients do not come back at the same moment; a lost session costs more, so soon at first
	case c.dials == 1:
		most = c.cfg.Session / 12
	case c.dials > 1:
		most = c.cfg.Session / 6
	}
	// A member that is slow is soon left for another one. When all are, as under the weight of many clients that come back, it does
	// not help to begin again and again.
	patience := min(c.cfg.Session/3*time.Duration(1+c.dials/len(c.cfg.Servers)), c.cfg.Session)
	c.dials++
	c.mu.Unlock()
	if most > 0 {
		pause(ctx, time.Duration(rand.Int64N(int64(most)))) //nolint:gosec // spreads load, no secret
	}
	nc, err := c.cfg.Dial(ctx, address)
	if err == nil && c.cfg.TLS != nil {
		cfg := c.cfg.TLS.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName, _, _ = net.SplitHostPort(address)
		}
		secure := tls.Client(nc, cfg)
		if err = secure.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
		}
		nc = secure
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && cl.given {
		_ = nc.Close()
		err = errClosed
	}
	if err != nil {
		cl.last, cl.refused = err, time.Time{}
		return nil, err
	}
	if c.counting != nil {
		c.heard = cmp.Or(c.counting.zxid.Load(), c.heard)
		c.counting = nil
	}
	if cl.live != nil {
		_ = cl.live.Close() // the library leaves that of an expired session open
	}
	if cl.refused.IsZero() {
		cl.refused = time.Now() // until the server gives a session
	}
	cl.live = newFence(nc, patience, func(id int64, timeout time.Duration) {
		c.mu.Lock()
		defer c.mu.Unlock()
		cl.refused = time.Time{}
		cl.session, cl.timeout = id, timeout
		cl.watching = cl.watching && id != 0
	}, func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !errors.Is(err, net.ErrClosed) { // then it has another reason
			cl.last = err
		}
	})
	if cl.watching {
		cl.live.mask = time.Now().Add(c.cfg.Session) // that long after the handshake it has sent them, if there are any
		cl.live.counts = cl.live.mask
	}
	return cl.live, nil
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// event hears what the library says, in its goroutines. It must not block.
func (c *Conn) event(cl *client, e zk.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl != c.client {
		return // one that was given up
	}
	if e.Type != zk.EventSession {
		if e.Type != zk.EventNotWatching { // the library forgets its watches with the session, see carry
			c.fired(e)
		}
		return
	}
	switch e.State {
	case zk.StateHasSession:
		cl.has = true
	case zk.StateDisconnected, zk.StateExpired, zk.StateConnecting:
		cl.has = false
		c.disconnected(cmp.Or(cl.last, errLost))
	default: // nothing is known yet
	}
	poke(c.wake)
}

// disconnected is called with the lock held.
func (c *Conn) disconnected(err error) {
	if c.state.connected {
		c.state.connected = false
		close(c.state.down)
		c.settled = time.Now()
		if c.ctx.Err() == nil { // else it is closed
			c.cfg.Log.Warn("zookeeper: connection lost", "error", err)
		}
	}
	c.state.err = err
	c.fireAll()
}

// supervise declares the connection usable, and gives up a client that gets nowhere.
func (c *Conn) supervise() {
	tick := time.NewTicker(max(c.cfg.Session/6, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
		case <-tick.C:
		}
		c.mu.Lock()
		cl := c.client
		has, connected, authed, refused := cl.has, c.state.connected, cl.authed, cl.refused
		c.mu.Unlock()
		switch {
		case has && !connected:
			if c.cfg.Auth != "" && !authed && !c.authenticate(cl) {
				continue
			}
			if told, usable := c.carry(cl); usable {
				c.connected(cl, told)
			}
		case !has && !refused.IsZero() && time.Since(refused) > 2*c.cfg.Session:
			// A server is there and takes connections, but not this session, and says no more: its data is gone or older than what
			// was seen. No patience helps.
			c.cfg.Log.Warn("zookeeper: begins anew: servers take the connection and refuse the session", "for", time.Since(refused).Round(time.Second))
			c.replace(cl)
		}
	}
}

func (c *Conn) authenticate(cl *client) bool {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.Session)
	defer cancel()
	_, err := run(ctx, c, cl, nil, func(z *zk.Conn) (struct{}, error) { return struct{}{}, z.AddAuth("digest", []byte(c.cfg.Auth)) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		cl.last = fmt.Errorf("zookeeper: authenticate: %w", err)
		c.state.err = cl.last
		return false
	}
	cl.authed = true
	return true
}

// connected makes the connection usable; told says whether all that has changed since the last one is told.
func (c *Conn) connected(cl *client, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !cl.has || cl != c.client || c.armedIn != cl.session {
		return
	}
	if c.state.session != cl.session || !told {
		c.state.generation++
		c.state.told = told
	}
	if c.state.session != cl.session {
		c.state.session = cl.session
		c.former = append(c.former, cl.session)
		if len(c.former) > 16 {
			c.former = slices.Delete(c.former, 0, 1)
		}
	}
	if !c.state.connected {
		c.state.down = make(chan struct{})
	}
	c.state.connected, c.state.err, cl.last = true, nil, nil
	c.state.links++
	c.counting = cl.live
	c.dials, c.carries = 1, 0
	c.settled = time.Now()
	c.cfg.Log.Debug("zookeeper: connected", "session", c.state.session, "timeout", cl.timeout)
	c.fireAll()
}

// replace gives a client up and begins with a new one. The former session is left to expire: to close it would take its nodes away
// before the new one has put its own in their place.
func (c *Conn) replace(cl *client) {
	c.mu.Lock()
	if cl.has { // it has come round
		c.mu.Unlock()
		return
	}
	cl.given = true
	if cl.live != nil {
		_ = cl.live.Close()
	}
	c.mu.Unlock()
	if !c.start("closing a client", cl.zk.Close) {
		return
	}
	if err := c.open(); err != nil {
		c.cfg.Log.Error("zookeeper: cannot begin anew", "error", err)
		return
	}
	if c.ctx.Err() != nil { // Close may have seen the former one only
		c.mu.Lock()
		now := c.client
		c.mu.Unlock()
		now.zk.Close()
	}
}

// now is the state of the connection, and since when.
func (c *Conn) now() (state, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.settled
}

// Err is nil while the connection is usable, else why it is not.
func (c *Conn) Err() error {
	s, _ := c.now()
	return s.err
}

// own reports whether a session is or was this connection's.
func (c *Conn) own(session int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.former, session)
}

// do executes one operation on the session of a generation. The library has no way to give a request up: when the operation
// takes longer than the session, or ctx ends first, the caller goes on, and a connection that does not answer is ended.
func do[T any](ctx context.Context, c *Conn, generation uint64, f func(*zk.Conn) (T, error)) (T, error) {
	c.mu.Lock()
	cl, s := c.client, c.state
	c.mu.Unlock()
	if !s.connected || s.generation != generation {
		var none T
		return none, errLost
	}
	return run(ctx, c, cl, s.down, f)
}

// run is do for one use of the library; down ends the wait, also that for a place among others.
func run[T any](ctx context.Context, c *Conn, cl *client, down <-chan struct{}, f func(*zk.Conn) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	select {
	case c.pool <- struct{}{}:
	case <-down:
		return none, errLost
	case <-ctx.Done():
		return none, ctx.Err()
	case <-c.ctx.Done():
		return none, errClosed
	}
	answer := make(chan result, 1)
	if !c.start("a request", func() {
		defer func() { <-c.pool }()
		value, err := f(cl.zk)
		answer <- result{value, err}
	}) {
		<-c.pool
		return none, errClosed
	}
	timeout := time.NewTimer(c.cfg.Session)
	defer timeout.Stop()
	select {
	case r := <-answer:
		if r.err != nil && r.err.Error() == tooLongText { // the library keeps no code that it does not know
			return none, errTooLong
		}
		return r.value, r.err
	case <-down:
		return none, errLost
	case <-ctx.Done():
		return none, ctx.Err()
	case <-c.ctx.Done():
		return none, errClosed
	case <-timeout.C:
		c.mu.Lock()
		live := cl.live
		cl.last = fmt.Errorf("zookeeper: no answer within %v", c.cfg.Session)
		c.mu.Unlock()
		if live != nil {
			_ = live.Close()
		}
		return none, errLost
	}
}

var tooLongText = fmt.Sprintf("unknown error: %d", tooLong)

// lost reports whether an operation failed for want of a connection or a session, and nothing is known of its effect.
func lost(err error) bool {
	for _, e := range []error{
		errLost, zk.ErrConnectionClosed, zk.ErrNoServer, zk.ErrSessionExpired, zk.ErrClosing, zk.ErrSessionMoved,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// hosts gives the members in turn, by name: the library's own looks names up once, before anything else, and fails if it
// cannot.
type hosts struct {
	mu      sync.Mutex
	servers []string
	next    int
	tries   int // since the last connection
}

// Init is called first.
func (h *hosts) Init(servers []string) error {
	h.servers = servers
	return nil
}

// Len is the number of members.
func (h *hosts) Len() int { return len(h.servers) }

// Next is the member to be tried. When told to, the library first waits a second, ends requests that nobody has taken, and
// looks whether it is to stop. That is for every fourth round: dial has a pause of its own, which is no second for all.
func (h *hosts) Next() (server string, retryStart bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries++
	h.next = (h.next + 1) % len(h.servers)
	return h.servers[h.next], h.tries > 1 && (h.tries-1)%(4*len(h.servers)) == 0
}

// Connected says that the last one was fine.
func (h *hosts) Connected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries = 0
}

// quiet keeps the library from writing to the standard logger.
type quiet struct{}

func (quiet) Printf(string, ...any) {}
