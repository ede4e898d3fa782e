// Package server accepts connections and has them served: by HTTP/1.1 or HTTP/2, whichever the client speaks. It owns their
// list, the sweeper that keeps time for all of them, and their end.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// Options of a server. The zero value of a field means what stands beside it.
type Options struct {
	TLS       *tls.Config   // plain text; with TLS the protocol is agreed on by ALPN
	Conns     int           // open at a time; what comes above is closed at once: 10,000. A handler may allow fewer, see wire.Admitter
	Handshake time.Duration // for a TLS handshake, and for the first bytes where they tell the protocol: 10 s
	Log       *slog.Logger  // of faults of the server's own; those of single connections are told at level debug. None
}

const (
	defaultConns     = 10_000
	defaultHandshake = 10 * time.Second
)

// Server is a wire.Server. Its methods are safe for concurrent use.
type Server struct {
	handler      wire.Handler
	admits       wire.Admitter // nil: the handler bounds no connections
	http1, http2 wire.Protocol
	opts         Options
	tls          *tls.Config
	log          *slog.Logger

	draining atomic.Bool
	hurried  atomic.Bool
	accepted atomic.Int64
	open     atomic.Int64
	refused  quiet // connections above the limit
	starved  quiet // accepting failed
	panicked atomic.Int64

	mu        sync.Mutex
	conns     []*conn
	listeners []net.Listener
	stopped   bool          // by Shutdown
	stop      chan struct{} // closed then
	running   sync.WaitGroup

	sweeper sweeper
}

// New makes a server that hands exchanges to h. http2 may be nil: then every client is spoken to in HTTP/1.1.
func New(h wire.Handler, http1, http2 wire.Protocol, o Options) *Server {
	o.Conns, o.Handshake = cmp.Or(o.Conns, defaultConns), cmp.Or(o.Handshake, defaultHandshake)
	admits, _ := h.(wire.Admitter)
	s := &Server{handler: h, admits: admits, http1: http1, http2: http2, opts: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), stop: make(chan struct{})}
	if o.TLS != nil {
		s.tls = o.TLS.Clone()
		if len(s.tls.NextProtos) == 0 {
			s.tls.NextProtos = s.protocols()
		}
	}
	s.sweeper.init(s)
	return s
}

// One makes a server whose connections all speak p, which is not HTTP. h says how many connections there may be, if it is a
// wire.Admitter; p finds what serves its calls itself.
func One(h wire.Handler, p wire.Protocol, o Options) *Server {
	s := New(h, p, nil, o)
	if s.tls != nil {
		s.tls.NextProtos = o.TLS.NextProtos // such protocols have no names
	}
	return s
}

// protocols are the names of what is served in ALPN.
func (s *Server) protocols() []string {
	if s.http2 == nil {
		return []string{"http/1.1"}
	}
	return []string{"h2", "http/1.1"}
}

// Pauses after a failed accept, doubled from the first to the last.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// Serve takes connections from l until l is closed or Shutdown is called; it returns nil then. While the process has no
// descriptor left it waits, longer each time, and goes on.
func (s *Server) Serve(l net.Listener) error {
	if !s.listen(l) {
		return l.Close()
	}
	defer s.unlisten(l)
	pause := time.Duration(0)
	for {
		c, err := l.Accept()
		if err == nil {
			pause = 0
			s.take(c)
			continue
		}
		if errors.Is(err, net.ErrClosed) || s.ending() {
			return nil
		}
		if !passing(err) {
			return err
		}
		pause = min(max(2*pause, firstPause), lastPause)
		if n, tell := s.starved.tell(time.Now()); tell {
			s.log.Warn("connections cannot be accepted; trying again", "listener", l.Addr().String(), "error", err, "times", n)
		}
		if !s.wait(pause) {
			return nil
		}
	}
}

// wait tells whether the time passed before Shutdown.
func (s *Server) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.stop:
		return false
	}
}

func (s *Server) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.listeners = append(s.listeners, l)
	return true
}

func (s *Server) unlisten(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = slices.DeleteFunc(s.listeners, func(o net.Listener) bool { return o == l })
}

func (s *Server) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// take serves an accepted connection in a goroutine of its own.
func (s *Server) take(nc net.Conn) {
	if !s.admit() {
		_ = nc.Close() // nothing was read from it
		if n, tell := s.refused.tell(time.Now()); tell {
			s.log.Warn("connections refused: too many are open", "open", s.open.Load(), "times", n)
		}
		return
	}
	s.accepted.Add(1)
	c := newConn(s, nc)
	if !s.enlist(c) {
		s.left()
		_ = nc.Close() // as above
		return
	}
	go c.run()
}

// admit counts a connection in, unless there are too many.
func (s *Server) admit() bool {
	if s.open.Add(1) > int64(s.opts.Conns) || s.admits != nil && !s.admits.Admit() {
		s.open.Add(-1)
		return false
	}
	return true
}

// left counts a connection out.
func (s *Server) left() {
	s.open.Add(-1)
	if s.admits != nil {
		s.admits.Left()
	}
}

func (s *Server) enlist(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	c.index = len(s.conns)
	s.conns = append(s.conns, c)
	s.running.Add(1)
	s.sweeper.start()
	return true
}

func (s *Server) delist(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.conns) - 1
	s.conns[c.index] = s.conns[last]
	s.conns[c.index].index = c.index
	s.conns[last] = nil
	s.conns = s.conns[:last]
	s.left()
	s.running.Done()
}

// all appends the open connections to dst.
func (s *Server) all(dst []*conn) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(dst, s.conns...)
}

// Drain makes every answer from now on tell its client to leave the connection. It implements wire.Server.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.leave()
}

// Hurry says whether connections are kept: while they are not, every answer asks its client to leave. A connection that was told
// so ends, also if others are kept again meanwhile.
func (s *Server) Hurry(on bool) {
	if s.hurried.Store(on); on {
		s.leave()
	}
}

func (s *Server) leave() {
	for _, c := range s.all(nil) {
		if p := c.serving(); p != nil {
			p.Drain()
		}
	}
}

// CloseIdle closes the connections that have had no call since it was called before. It does not wait for them to end.
func (s *Server) CloseIdle() {
	for _, c := range s.all(nil) {
		if p := c.serving(); p != nil && p.Idle() && c.unused.Swap(true) {
			c.abort()
		}
	}
}

// Conns is the number of open connections.
func (s *Server) Conns() int64 { return s.open.Load() }

// Accepted is how many connections there have been.
func (s *Server) Accepted() int64 { return s.accepted.Load() }

// Panics is how many panics were caught: those that ended a connection, and those that a protocol has caught itself.
func (s *Server) Panics() int64 {
	n := s.panicked.Load()
	for _, p := range [...]wire.Protocol{s.http1, s.http2} {
		if c, ok := p.(interface{ Panics() int64 }); ok {
			n += c.Panics()
		}
	}
	return n
}

const (
	idlePoll = 5 * time.Millisecond   // how often Shutdown looks for connections that have become idle
	cutGrace = 500 * time.Millisecond // for calls that were cut to notice
)

// Shutdown closes listeners and idle connections and waits for calls in flight until ctx ends; then it cuts them and
// returns ctx's error. It implements wire.Server.
func (s *Server) Shutdown(ctx context.Context) error {
	s.halt()
	s.Drain()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s.running.Wait()
		s.sweeper.ended.Wait()
	}()
	tick := time.NewTicker(idlePoll)
	defer tick.Stop()
	var open []*conn
	for {
		open = s.all(open[:0])
		for _, c := range open {
			if c.idle() {
				c.abort()
			}
		}
		select {
		case <-gone:
			return nil
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	for _, c := range s.all(nil) {
		c.abort()
	}
	grace := time.NewTimer(cutGrace)
	defer grace.Stop()
	select {
	case <-gone:
	case <-grace.C: // a handler does not heed its context; its connection is closed
	}
	return ctx.Err()
}

// halt closes the listeners and has Serve return.
func (s *Server) halt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.stopped = true
		close(s.stop)
	}
	for _, l := range s.listeners {
		_ = l.Close() // closed twice at worst
	}
}

// quiet tells of what happens often once in ten seconds.
type quiet struct {
	mu    sync.Mutex
	times int
	last  time.Time
}

func (q *quiet) tell(now time.Time) (times int, tell bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.times++
	if !q.last.IsZero() && now.Sub(q.last) < 10*time.Second {
		return 0, false
	}
	q.last = now
	times, q.times = q.times, 0
	return times, true
}
