// Package devserver is a small ZooKeeper-compatible server in one process, for development, demonstrations and tests. It
// keeps everything in memory and knows no ensemble: it is never for production.
//
// It speaks ZooKeeper's client protocol (3.8), as clients use it for discovery: sessions that survive their connection and
// expire, ephemeral, sequential, container and TTL nodes, versions, access lists, watches (one-shot and persistent), multi,
// and the four-letter words ruok, srvr and stat. It knows no SASL, no TLS, no quotas, no reconfiguration.
package devserver

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

// Config is what a server keeps to. A zero field takes the default named.
type Config struct {
	Tick        time.Duration // sessions last 2 to 20 ticks, as in ZooKeeper; 2 s
	MaxPacket   int           // bytes of one request; 1 MiB less one, as in ZooKeeper
	MaxNodes    int           // 250,000
	MaxBytes    int           // of all paths and data; 256 MiB
	MaxSessions int           // 10,000
	MaxConns    int           // 10,000
	MaxWatches  int           // of one connection; 250,000
	Vanish      time.Duration // how often empty containers and nodes past their time to live are looked for; 60 s, as in ZooKeeper
	Log         *slog.Logger  // none by default
}

// Server holds the tree. It is safe for concurrent use.
type Server struct {
	cfg  Config
	done chan struct{}
	end  func() // closes done
	all  sync.WaitGroup

	mu           sync.Mutex
	tree         *tree
	dataWatches  watches // of data and existence
	childWatches watches // of lists of children
	sessions     map[int64]*session
	lastSession  int64
	conns        map[*conn]struct{}
	listeners    map[net.Listener]struct{}
	closed       bool
	requests     int64
}

// New makes a server that listens nowhere yet. Close ends it.
func New(cfg Config) *Server {
	cfg.Tick = cmp.Or(cfg.Tick, 2*time.Second)
	cfg.MaxPacket = cmp.Or(cfg.MaxPacket, 1<<20-1)
	cfg.MaxNodes = cmp.Or(cfg.MaxNodes, 250_000)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 256<<20)
	cfg.MaxSessions = cmp.Or(cfg.MaxSessions, 10_000)
	cfg.MaxConns = cmp.Or(cfg.MaxConns, 10_000)
	cfg.MaxWatches = cmp.Or(cfg.MaxWatches, 250_000)
	cfg.Vanish = cmp.Or(cfg.Vanish, time.Minute)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	// A client refuses no server, but a server refuses clients that have seen later changes than it has made. With its start in
	// the upper half, where ZooKeeper has the epoch, a server that begins anew is later than the one before it.
	now := time.Now()
	s := &Server{
		cfg:         cfg,
		tree:        newTree(now.Unix()<<32, cfg.MaxNodes, cfg.MaxBytes),
		dataWatches: watches{}, childWatches: watches{},
		sessions: map[int64]*session{}, lastSession: now.UnixNano() >> 8 & (1<<55 - 1),
		conns: map[*conn]struct{}{}, listeners: map[net.Listener]struct{}{},
		done: make(chan struct{}),
	}
	s.end = sync.OnceFunc(func() { close(s.done) })
	s.start("the clock", s.clock)
	return s
}

var errClosed = errors.New("devserver: the server is closed")

// Serve takes connections from l until l or the server is closed. It returns nil only after Close, and owns l.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		if l != nil {
			_ = l.Close()
		}
		return errClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		_ = l.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, l)
	}()
	for {
		nc, err := l.Accept()
		if err != nil {
			select {
			case <-s.done:
				return nil
			default:
			}
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				continue
			}
			return fmt.Errorf("devserver: accept: %w", err)
		}
		if !s.take(nc) {
			_ = nc.Close()
		}
	}
}

// take starts serving a connection, unless there are too many.
func (s *Server) take(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.cfg.MaxConns {
		return false
	}
	c := newConn(s, nc)
	s.conns[c] = struct{}{}
	s.start("a connection's answers", c.write)
	s.start("a connection", func() {
		defer s.leave(c)
		c.read()
	})
	return true
}

// leave forgets a connection; its session lives on until it expires.
func (s *Server) leave(c *conn) {
	c.shut()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwatch(c)
	delete(s.conns, c)
	if c.session != nil && c.session.conn == c {
		c.session.conn = nil
	}
}

// start runs f in a goroutine that Close waits for. A panic there ends only f.
func (s *Server) start(what string, f func()) {
	s.all.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				s.cfg.Log.Error("panic in "+what, "panic", r, "stack", string(debug.Stack()))
			}
		}()
		f()
	})
}

// Close ends all connections and waits for everything to end. What the server held is gone.
func (s *Server) Close() error {
	s.end()
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.shut()
	}
	s.mu.Unlock()
	s.all.Wait()
	return nil
}

// DropConnections ends every connection; the sessions live on. It is for tests of clients.
func (s *Server) DropConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.shut()
	}
}

// ExpireSessions ends every session, as if none had been heard of in time. It is for tests of clients.
func (s *Server) ExpireSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ses := range s.sessions {
		s.endSession(ses)
	}
}

// clock ends sessions that were not heard of, and lets nodes vanish.
func (s *Server) clock() {
	sessions := time.NewTicker(max(s.cfg.Tick/4, time.Millisecond))
	defer sessions.Stop()
	vanish := time.NewTicker(s.cfg.Vanish)
	defer vanish.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-sessions.C:
			s.expire(time.Now())
		case <-vanish.C:
			s.vanish(time.Now())
		}
	}
}

func (s *Server) vanish(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range s.tree.vanishing(now.UnixMilli()) {
		s.tree.begin()
		if s.tree.drop(path, -1) == ok {
			s.fire(s.tree.events)
		}
	}
}
