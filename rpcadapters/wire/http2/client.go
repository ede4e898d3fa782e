package http2

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// ClientConfig says to whom a Client connects and how.
type ClientConfig struct {
	Address     string        // host:port
	TLS         *tls.Config   // nil: plain text with prior knowledge; else h2 is negotiated by ALPN
	DialTimeout time.Duration // for connecting, the TLS handshake and the peer's SETTINGS; 0: 3 s
}

const (
	defaultDialTimeout = 3 * time.Second
	minBackoff         = 100 * time.Millisecond
	maxBackoff         = 2 * time.Second

	softStreams = 256 // streams on a connection before another one is made beside it
	softStart   = 16  // what a connection made for load is given at first; one more with every answer
	hardStreams = 4096
	maxConns    = 8                       // for load
	maxNarrow   = 64                      // where the peer takes few streams on each
	dialSpacing = 50 * time.Millisecond   // between connections made for load, with jitter
	extraIdle   = 60 * time.Second        // after which one of several connections is closed
	sweepTick   = 50 * time.Millisecond   // while calls wait
	idleTick    = time.Second             // while connections are to be closed
	pingAfter   = 1800 * time.Millisecond // of silence while calls wait; with the ticks 2 s
	pingWait    = 850 * time.Millisecond  // for any sign of life; with the ticks all is over within 3 s
	bufferIdle  = 5 * time.Second         // after which an idle connection's buffer is made small
)

// Client is a pool of connections to one address. They are made when calls need them: one, and more when it is full or
// busy. All methods are safe for concurrent use.
type Client struct {
	cfg  ClientConfig
	host string

	// conns take calls, in the order in which they are filled. Read without lock, replaced under mu.
	conns   atomic.Pointer[[]*clientConn]
	waiting atomic.Int32 // how many are in queue
	calls   sync.Pool

	mu      sync.Mutex // comes before a connection's lock
	queue   []*stream
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

	pace    atomic.Int32 // of the sweeper: asleep, slow or fast; changed under sweepMu
	sweepMu sync.Mutex
	timer   *time.Timer // of the sweeper, reset under sweepMu
}

var (
	errClosed  = errors.New("the client is closed")
	errSilent  = errors.New("the peer has not been heard for 3s while calls waited, and does not answer a PING")
	errRetired = errors.New("the connection is no longer needed")
)

// NewClient makes a pool without connecting. The error is about the address.
func NewClient(cfg ClientConfig) (*Client, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("http2: address %q: want host:port: %w", cfg.Address, err)
	}
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = defaultDialTimeout
	}
	cl := &Client{cfg: cfg, host: host, all: map[*clientConn]struct{}{}}
	cl.ctx, cl.cancel = context.WithCancel(context.Background())
	cl.conns.Store(&[]*clientConn{})
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

// retire lets a connection's calls end and then closes it.
func (c *clientConn) retire() {
	c.w.Lock()
	c.away = true
	c.closing = c.streams.n == 0
	closing, ready := c.closing, c.ready
	c.w.Unlock()
	switch {
	case !ready:
		c.abort(errRetired)
	case closing:
		c.leave()
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

// panicked counts a panic and makes an error of it for the calls that it concerns.
func (cl *Client) panicked(what any) error {
	cl.panics.Add(1)
	return fmt.Errorf("http2: %s: panic: %v", cl.cfg.Address, what)
}

// survive is deferred where a panic has nobody to be told of it.
func (cl *Client) survive() {
	if r := recover(); r != nil {
		cl.panics.Add(1)
	}
}

// InFlight is how many calls and streams are open on connections that take calls.
func (cl *Client) InFlight() int {
	n := 0
	for _, c := range *cl.conns.Load() {
		c.w.Lock()
		n += c.streams.n
		c.w.Unlock()
	}
	return n
}

// Conns is the number of connections that are open.
func (cl *Client) Conns() int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return len(cl.all)
}

// awaiter is the context's own way to be told of its end, nil when it has none.
func awaiter(ctx context.Context) *wire.Context {
	w, _ := ctx.(*wire.Context)
	return w
}

// start opens a stream on a connection, which it waits for. With nil as fault the stream is the connection's.
func (cl *Client) start(ctx context.Context, s *stream, head []byte, headSize int) (*clientConn, *Fault) {
	if s.ended.Load() {
		return nil, &Fault{Kind: Ended, Cause: context.Cause(ctx)}
	}
	if cl.waiting.Load() == 0 {
		if c, fault := cl.try(s, head, headSize); c != nil || fault != nil {
			return c, fault
		}
	}
	for again := false; ; again = true {
		if fault := cl.enqueue(s, again); fault != nil {
			return nil, fault
		}
		if fault := cl.await(ctx, s); fault != nil {
			return nil, fault
		}
		if c, fault := cl.try(s, head, headSize); c != nil || fault != nil {
			if fault != nil {
				cl.released(1) // somebody else may have the turn
			}
			return c, fault
		}
	}
}

// try opens the stream on the first connection that is not busy, else on any that takes it. Neither connection nor fault:
// none takes it.
func (cl *Client) try(s *stream, head []byte, headSize int) (*clientConn, *Fault) {
	conns := *cl.conns.Load()
	for _, c := range conns {
		if fault, ok := cl.on(c, s, head, headSize, true); ok {
			return c, fault
		}
	}
	if len(conns) == 0 {
		return nil, nil
	}
	cl.grow()
	for _, c := range conns {
		if fault, ok := cl.on(c, s, head, headSize, false); ok {
			return c, fault
		}
	}
	return nil, nil
}

// on opens the stream on c if c takes it.
func (cl *Client) on(c *clientConn, s *stream, head []byte, headSize int, soft bool) (*Fault, bool) {
	c.w.Lock()
	limit := hardStreams
	if soft {
		limit = c.soft
	}
	if !c.takes(limit) {
		c.w.Unlock()
		return nil, false
	}
	if uint64(headSize) > uint64(c.peer.headerList) { //nolint:gosec // a size is not negative
		c.w.Unlock()
		return &Fault{Kind: HeadTooLarge}, true
	}
	c.begin(s, head)
	c.w.UnlockFlush()
	if cl.pace.Load() != sweepFast {
		cl.arm()
	}
	return nil, true
}

// enqueue has the stream wait for a connection, and sees to it that one is on its way. again: it was at the head of the
// queue already.
func (cl *Client) enqueue(s *stream, again bool) *Fault {
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
	s.queued, s.turn = true, false
	if again {
		cl.queue = slices.Insert(cl.queue, 0, s)
	} else {
		cl.queue = append(cl.queue, s)
	}
	cl.waiting.Add(1)
	// Whoever finishes from here on sees that somebody waits; what came free before is looked for.
	for _, c := range conns {
		c.w.Lock()
		takes := c.takes(hardStreams)
		c.w.Unlock()
		if takes {
			cl.callUp(1)
			break
		}
	}
	return nil
}

// await waits for the stream's turn.
func (cl *Client) await(ctx context.Context, s *stream) *Fault {
	for {
		<-s.sema
		cl.mu.Lock()
		turn, failed, ended := s.turn, s.failed, s.ended.Load()
		s.turn = false
		switch {
		case failed != nil:
		case ended && s.queued:
			i := slices.Index(cl.queue, s)
			cl.queue = slices.Delete(cl.queue, i, i+1)
			cl.waiting.Add(-1)
			s.queued = false
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
		s := cl.queue[0]
		cl.queue[0] = nil
		cl.queue = cl.queue[1:]
		cl.waiting.Add(-1)
		s.queued, s.turn = false, true
		s.signal()
	}
	if len(cl.queue) == 0 {
		cl.queue = nil
	}
}

// refuse empties the queue: no connection can be made. With mu held.
func (cl *Client) refuse(err error) {
	for _, s := range cl.queue {
		s.queued, s.failed = false, &Fault{Kind: Unreachable, Cause: err}
		s.signal()
	}
	cl.waiting.Add(-int32(len(cl.queue))) //nolint:gosec // a queue of calls
	cl.queue = nil
}

// released says that n streams have ended.
func (cl *Client) released(n int) {
	if n > 0 && cl.waiting.Load() > 0 {
		cl.release(n)
	}
}

// release gives the next n of the queue their turn.
func (cl *Client) release(n int) {
	defer cl.survive()
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.callUp(n)
}

// grow makes one more connection when load asks for it.
func (cl *Client) grow() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	conns := *cl.conns.Load()
	if cl.closed || len(conns) == 0 || cl.dialing > 0 {
		return
	}
	now := time.Now()
	if now.Before(cl.extraAt) || now.Before(cl.retryAt) {
		return
	}
	c := conns[0]
	c.w.Lock()
	streams := c.peer.maxStreams
	c.w.Unlock()
	limit := maxConns
	switch {
	case streams == 0:
		limit = 1 // it wants no calls at all for now, not calls elsewhere
	case streams < softStreams/2:
		limit = maxNarrow
	}
	if len(conns) >= limit {
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
	c, err := cl.connect(ctx)
	if err != nil {
		cl.down(err)
		return
	}
	cl.carry(ctx, c)
}

// carry reads a connection until it ends. It is up when the peer's SETTINGS come before ctx ends.
func (cl *Client) carry(ctx context.Context, c *clientConn) {
	stop := context.AfterFunc(ctx, func() { c.abort(context.Cause(ctx)) })
	up := false
	err := c.serve(func() {
		if up = stop(); up { // else it is being aborted, and was never up
			cl.up(c)
		}
	})
	cl.forget(c)
	if !up {
		stop()
		cl.down(fmt.Errorf("http2: %s: %w", cl.cfg.Address, err))
	}
}

// connect dials and shakes hands.
func (cl *Client) connect(ctx context.Context) (c *clientConn, err error) {
	var nc net.Conn
	defer func() { // what looks at certificates may be anybody's
		if r := recover(); r != nil {
			if nc != nil {
				_ = nc.Close()
			}
			c, err = nil, cl.panicked(r)
		}
	}()
	d := net.Dialer{Control: control}
	if nc, err = d.DialContext(ctx, "tcp", cl.cfg.Address); err != nil {
		return nil, err
	}
	secure := nc
	if cl.cfg.TLS != nil {
		cfg := cl.cfg.TLS.Clone()
		cfg.NextProtos = []string{"h2"}
		if cfg.ServerName == "" {
			cfg.ServerName = cl.host
		}
		t := tls.Client(nc, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, fmt.Errorf("http2: %s: %w", cl.cfg.Address, err)
		}
		if p := t.ConnectionState().NegotiatedProtocol; p != "h2" {
			_ = nc.Close()
			return nil, fmt.Errorf("http2: %s: want h2 by ALPN, found %q", cl.cfg.Address, p)
		}
		secure = t
	}
	c = newClientConn(cl, nc, secure)
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.closed {
		_ = nc.Close()
		return nil, errClosed
	}
	cl.all[c] = struct{}{}
	return c, nil
}

// up puts a new connection to use.
func (cl *Client) up(c *clientConn) {
	cl.mu.Lock()
	cl.dialing--
	cl.made++
	cl.backoff, cl.lastErr, cl.retryAt = 0, nil, time.Time{}
	conns := *cl.conns.Load()
	if cl.closed {
		cl.mu.Unlock()
		c.retire()
		return
	}
	c.w.Lock()
	if len(conns) == 0 {
		c.soft = softStreams // nobody to share the load with
	}
	n := int(min(c.peer.maxStreams, hardStreams)) // beyond softStreams they ask for another connection themselves
	c.w.Unlock()
	next := append(slices.Clone(conns), c)
	cl.conns.Store(&next)
	cl.mu.Unlock()
	if n > 0 {
		cl.release(n)
	}
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
	defer cl.survive()
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
