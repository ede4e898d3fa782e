package framed

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// ClientConfig says to whom a Client connects and how. The zero value of a field means what stands beside it.
type ClientConfig struct {
	Framing     Framing       // must be given
	Address     string        // host:port; must be given
	TLS         *tls.Config   // plain text
	DialTimeout time.Duration // for connecting and the TLS handshake: 3 s
	Conns       int           // made for load at most: 2
	MaxFrame    int           // bytes of one frame of an answer: 10 MiB
	FirstStream uint32        // lowest number of a stream: 1
	Idle        time.Duration // after which a connection without calls is closed, before the peer does so: 45 s
	// FrameTimeout is for a frame that has begun to come to its end, and a second more for each KiB of it: 10 s. Then the
	// connection is closed, for nothing else can come on it.
	FrameTimeout time.Duration
}

const (
	defaultDialTimeout = 3 * time.Second
	defaultConns       = 2
	defaultMaxFrame    = 10 << 20
	defaultClientIdle  = 45 * time.Second

	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 2 * time.Second
	softCalls   = 64 // on a connection before another one is made beside it
	hardCalls   = 8192
	dialSpacing = 50 * time.Millisecond // between connections made for load, with jitter
	idleTick    = 5 * time.Second       // between looks at connections
)

// Client is a pool of connections to one address. They are made when calls need them: one, and more when it is busy. All
// methods are safe for concurrent use.
type Client struct {
	cfg  ClientConfig
	host string

	// conns take calls, in the order in which they are filled. Read without lock, replaced under mu.
	conns   atomic.Pointer[[]*clientConn]
	waiting atomic.Int32 // how many are in queue

	mu      sync.Mutex // comes before a connection's lock
	queue   []*waiter
	all     map[*clientConn]struct{} // also those that take no more calls
	dialing int
	made    int
	lastErr error     // of the last dial
	retryAt time.Time // no dial before
	backoff time.Duration
	extraAt time.Time // no dial for load before
	closed  bool
	ctx     context.Context //nolint:containedctx // ends dials that are under way when the client is closed
	cancel  context.CancelFunc
	panics  atomic.Int64

	timer *time.Timer // looks after connections while there are any; reset under mu
}

// NewClient makes a pool without connecting. The error is about the address.
func NewClient(cfg ClientConfig) (*Client, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("address %q: want host:port: %w", cfg.Address, err)
	}
	cfg.DialTimeout, cfg.Conns = cmp.Or(cfg.DialTimeout, defaultDialTimeout), cmp.Or(cfg.Conns, defaultConns)
	cfg.MaxFrame, cfg.Idle = cmp.Or(cfg.MaxFrame, defaultMaxFrame), cmp.Or(cfg.Idle, defaultClientIdle)
	cfg.FirstStream, cfg.FrameTimeout = cmp.Or(cfg.FirstStream, 1), cmp.Or(cfg.FrameTimeout, defaultFrameTimeout)
	cl := &Client{cfg: cfg, host: host, all: map[*clientConn]struct{}{}}
	cl.ctx, cl.cancel = context.WithCancel(context.Background())
	cl.conns.Store(&[]*clientConn{})
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.timer = time.AfterFunc(idleTick, cl.sweep) // finds nothing to do, and sleeps
	return cl, nil
}

// Close lets calls in flight end and then closes their connections; it does not wait. Later calls are Unreachable.
func (cl *Client) Close() {
	cl.mu.Lock()
	if cl.closed {
		cl.mu.Unlock()
		return
	}
	cl.closed = true
	cl.cancel()
	cl.conns.Store(&[]*clientConn{})
	all := make([]*clientConn, 0, len(cl.all))
	for c := range cl.all {
		all = append(all, c)
	}
	cl.refuse(errClosed)
	cl.mu.Unlock()
	for _, c := range all {
		c.retire()
	}
}

// Made is how many connections have been made so far.
func (cl *Client) Made() int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.made
}

// Panics is how many panics ended a dial or a connection: a fault of the program, not of a peer.
func (cl *Client) Panics() int64 { return cl.panics.Load() }

// Reach connects anew, and closes that connection again: it tells whether the peer takes connections.
func (cl *Client) Reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cl.cfg.DialTimeout)
	defer cancel()
	raw, _, err := cl.connect(ctx)
	if err == nil {
		_ = raw.Close() // nothing was said on it
	}
	return err
}

// waiter is what waits for a connection.
type waiter struct {
	opener
	ended  atomic.Bool   // the context has
	sema   chan struct{} // a hint to look again: a late one does no harm
	turn   bool          // called up from the queue; guarded by the pool's lock
	queued bool          // in the queue; the same
	failed *Fault
}

// opener begins a call on a connection, with the connection's lock held.
type opener interface{ begin(c *clientConn) }

func (w *waiter) init(o opener) {
	if w.sema == nil {
		w.sema = make(chan struct{}, 1)
	}
	w.opener = o
}

func (w *waiter) signal() {
	select {
	case w.sema <- struct{}{}:
	default:
	}
}

// ContextEnded implements wire.Waiter.
func (w *waiter) ContextEnded() {
	w.ended.Store(true)
	w.signal()
}

// watch has w told of ctx's end until forget is called.
type watch struct {
	ctx  *wire.Context
	stop func() bool
}

func (w *waiter) watch(ctx context.Context) watch {
	if own, ok := ctx.(*wire.Context); ok && own.Await(w) {
		return watch{ctx: own}
	}
	if ctx.Done() == nil {
		return watch{}
	}
	return watch{stop: context.AfterFunc(ctx, w.ContextEnded)}
}

// forget ends watching; false: the waiter may still be told, so it is not used again.
func (w watch) forget() bool {
	if w.ctx != nil {
		w.ctx.Forget()
	}
	return w.stop == nil || w.stop()
}

// start begins on a connection, which it waits for.
func (cl *Client) start(ctx context.Context, w *waiter) (*clientConn, *Fault) {
	if w.ended.Load() {
		return nil, &Fault{Kind: Ended, Cause: context.Cause(ctx)}
	}
	if cl.waiting.Load() == 0 {
		if c := cl.try(w); c != nil {
			return c, nil
		}
	}
	for again := false; ; again = true {
		if fault := cl.enqueue(w, again); fault != nil {
			return nil, fault
		}
		if fault := cl.await(ctx, w); fault != nil {
			return nil, fault
		}
		if c := cl.try(w); c != nil {
			return c, nil
		}
	}
}

// try begins on the first connection that is not busy, else on any that takes it. nil: none does.
func (cl *Client) try(w *waiter) *clientConn {
	conns := *cl.conns.Load()
	for _, c := range conns {
		if c.open(w, softCalls) {
			return c
		}
	}
	if len(conns) == 0 {
		return nil
	}
	if len(conns) < cl.cfg.Conns {
		cl.grow()
	}
	least, at := hardCalls, -1
	for i, c := range conns {
		if n := int(c.load.Load()); n < least {
			least, at = n, i
		}
	}
	for i := range conns {
		if c := conns[(max(at, 0)+i)%len(conns)]; c.open(w, hardCalls) {
			return c
		}
	}
	return nil
}

// enqueue has w wait for a connection, and sees to it that one is on its way. again: it was at the head of the queue
// already.
func (cl *Client) enqueue(w *waiter, again bool) *Fault {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.closed {
		return &Fault{Kind: Unreachable, Cause: errClosed}
	}
	conns := *cl.conns.Load()
	if len(conns) == 0 && cl.dialing == 0 {
		if time.Now().Before(cl.retryAt) {
			return &Fault{Kind: Unreachable, Cause: cl.lastErr}
		}
		cl.dial()
	}
	w.queued, w.turn = true, false
	if again {
		cl.queue = slices.Insert(cl.queue, 0, w)
	} else {
		cl.queue = append(cl.queue, w)
	}
	cl.waiting.Add(1)
	// Whoever finishes from here on sees that somebody waits; what came free before is looked for.
	for _, c := range conns {
		c.w.Lock()
		takes := c.takes(hardCalls)
		c.w.Unlock()
		if takes {
			cl.callUp(1)
			break
		}
	}
	return nil
}

// await waits for w's turn.
func (cl *Client) await(ctx context.Context, w *waiter) *Fault {
	for {
		<-w.sema
		cl.mu.Lock()
		turn, failed, ended := w.turn, w.failed, w.ended.Load()
		w.turn = false
		switch {
		case failed != nil:
			w.failed = nil
		case ended && w.queued:
			i := slices.Index(cl.queue, w)
			cl.queue = slices.Delete(cl.queue, i, i+1)
			cl.waiting.Add(-1)
			w.queued = false
		case ended && turn:
			cl.callUp(1) // somebody else may have it
		}
		cl.mu.Unlock()
		switch {
		case failed != nil:
			return failed
		case ended:
			return &Fault{Kind: Ended, Cause: context.Cause(ctx)}
		case turn:
			return nil
		}
	}
}

// callUp gives the next n of the queue their turn. With mu held.
func (cl *Client) callUp(n int) {
	for ; n > 0 && len(cl.queue) > 0; n-- {
		w := cl.queue[0]
		cl.queue[0] = nil
		cl.queue = cl.queue[1:]
		cl.waiting.Add(-1)
		w.queued, w.turn = false, true
		w.signal()
	}
	if len(cl.queue) == 0 {
		cl.queue = nil
	}
}

// refuse empties the queue: no connection can be made. With mu held.
func (cl *Client) refuse(err error) {
	for _, w := range cl.queue {
		w.queued, w.failed = false, &Fault{Kind: Unreachable, Cause: err}
		w.signal()
	}
	cl.waiting.Add(-int32(len(cl.queue))) //nolint:gosec // a queue of calls
	cl.queue = nil
}

// released says that n calls have ended.
func (cl *Client) released(n int) {
	if n > 0 && cl.waiting.Load() > 0 {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		cl.callUp(n)
	}
}

// grow makes one more connection when load asks for it.
func (cl *Client) grow() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	conns := *cl.conns.Load()
	now := time.Now()
	if cl.closed || len(conns) == 0 || len(conns) >= cl.cfg.Conns || cl.dialing > 0 || now.Before(cl.extraAt) || now.Before(cl.retryAt) {
		return
	}
	cl.extraAt = now.Add(dialSpacing/2 + rand.N(dialSpacing)) //nolint:gosec // load is spread at random
	cl.dial()
}

// dial makes a connection in a goroutine of its own, which then reads it. With mu held.
func (cl *Client) dial() {
	cl.dialing++
	go cl.run()
}

func (cl *Client) run() {
	ctx, cancel := context.WithTimeout(cl.ctx, cl.cfg.DialTimeout)
	defer cancel()
	raw, secure, err := cl.connect(ctx)
	if err != nil {
		cl.down(err)
		return
	}
	c := newClientConn(cl, raw, secure)
	if !cl.up(c) {
		_ = raw.Close() // nothing was said on it
		return
	}
	c.serve()
	cl.forget(c)
}

// connect dials and shakes hands. raw is under secure, or the same.
func (cl *Client) connect(ctx context.Context) (raw, secure net.Conn, err error) {
	defer func() { // what looks at certificates may be anybody's
		if r := recover(); r != nil {
			if raw != nil {
				_ = raw.Close() // it is of no use
			}
			cl.panics.Add(1)
			raw, secure, err = nil, nil, fmt.Errorf("panic: %v", r)
		}
	}()
	d := net.Dialer{Control: control}
	if raw, err = d.DialContext(ctx, "tcp", cl.cfg.Address); err != nil || cl.cfg.TLS == nil {
		return raw, raw, err
	}
	cfg := cl.cfg.TLS.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = cl.host
	}
	t := tls.Client(raw, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // it is of no use
		return nil, nil, fmt.Errorf("%s: %w", cl.cfg.Address, err)
	}
	return raw, t, nil
}

// up puts a new connection to use.
func (cl *Client) up(c *clientConn) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.dialing--
	if cl.closed {
		return false
	}
	cl.made++
	cl.backoff, cl.lastErr, cl.retryAt = 0, nil, time.Time{}
	cl.all[c] = struct{}{}
	next := append(slices.Clone(*cl.conns.Load()), c)
	cl.conns.Store(&next)
	cl.callUp(hardCalls)
	if len(cl.all) == 1 {
		cl.timer.Reset(idleTick)
	}
	return true
}

// down takes note of a dial that failed: those who wait are told, unless there are connections to wait for.
func (cl *Client) down(err error) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.dialing--
	cl.lastErr = err
	cl.backoff = min(max(minBackoff, cl.backoff*8/5), maxBackoff)
	cl.retryAt = time.Now().Add(cl.backoff*4/5 + rand.N(cl.backoff*2/5)) //nolint:gosec // load is spread at random
	if len(*cl.conns.Load()) == 0 && cl.dialing == 0 {
		cl.refuse(err)
	}
}

// gone takes a connection out of use that takes no further calls.
func (cl *Client) gone(c *clientConn) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.drop(c)
}

// drop is gone with mu held. Those in queue get another connection.
func (cl *Client) drop(c *clientConn) {
	conns := *cl.conns.Load()
	i := slices.Index(conns, c)
	if i < 0 {
		return
	}
	next := slices.Delete(slices.Clone(conns), i, i+1)
	cl.conns.Store(&next)
	if len(next) == 0 && len(cl.queue) > 0 && cl.dialing == 0 && !cl.closed {
		cl.dial()
	}
}

// forget takes note of a connection's end.
func (cl *Client) forget(c *clientConn) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	delete(cl.all, c)
	cl.drop(c)
}

// sweep closes connections that have long had no calls, and those that are stuck in a frame, while there are any.
func (cl *Client) sweep() {
	now := time.Now()
	cl.mu.Lock()
	all := make([]*clientConn, 0, len(cl.all))
	for c := range cl.all {
		all = append(all, c)
	}
	cl.mu.Unlock()
	for _, c := range all {
		if c.stuck(now) {
			c.cut(errStuck)
		} else if c.idleFor(now) >= cl.cfg.Idle {
			cl.gone(c)
			c.retire()
		}
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if len(cl.all) > 0 {
		cl.timer.Reset(idleTick)
	}
}
