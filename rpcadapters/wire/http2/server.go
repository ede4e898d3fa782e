package http2

import (
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/batch"
)

// Server makes server connections of HTTP/2; it implements wire.Protocol. Connections share its workers, which run the
// calls, and its budget of memory. Its methods are safe for concurrent use.
type Server struct {
	limits  Limits
	look    time.Duration // how often an idle connection is looked at
	workers workers
	streams sync.Pool // of *serverStream
	memory  atomic.Int64
	date    atomic.Pointer[date]
	panics  atomic.Int64
	trimmed atomic.Int64 // when idle workers were last looked at, see monotonic
}

var _ wire.Protocol = (*Server)(nil)

// NewServer makes a server; limits that are zero have their defaults.
func NewServer(l Limits) *Server {
	s := &Server{limits: l.withDefaults()}
	s.look = min(lookAgain, s.limits.HeadTimeout, s.limits.IdleTimeout, s.limits.MaxAge)
	s.streams.New = func() any { return newServerStream() }
	s.tellDate(time.Now())
	return s
}

// Panics is how many calls ended in a panic that the handler let through, and how many connections in one of their own: a
// fault of the program, not of a client.
func (s *Server) Panics() int64 { return s.panics.Load() }

// NewConn serves c, which speaks HTTP/2 by ALPN (state) or by prior knowledge, for h. read starts with the client's
// preface, as far as it was read.
func (s *Server) NewConn(c net.Conn, read []byte, state *tls.ConnectionState, h wire.Handler) wire.Conn {
	now := time.Now()
	sc := &serverConn{server: s, conn: c, handler: h, scheme: "http", read: read, peer: defaultSettings(), send: defaultWindow}
	if state != nil {
		sc.scheme = "https"
	}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		sc.remote = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	sc.calls.L = &sc.w
	sc.idleSince = now
	sc.alarm.Store(monotonic(now.Add(s.look)))
	// A tenth of jitter, so that clients that came together do not leave together.
	age := s.limits.MaxAge
	sc.retire = now.Add(age - age/10 + time.Duration(rand.Int64N(int64(age/5)+1))) //nolint:gosec // spreads load
	sc.w.Init(c, batch.Owner{OnRoom: sc.room, OnError: sc.lost, Spawn: sc.spawn, Direct: state != nil, Alone: sc.alone, Panics: &s.panics})
	return sc
}

// date is the date field of answers, encoded, for one second.
type date struct {
	second int64
	field  []byte
}

// tellDate keeps the date field of answers current.
func (s *Server) tellDate(now time.Time) {
	if d := s.date.Load(); d == nil || d.second != now.Unix() {
		s.date.Store(&date{now.Unix(), AppendField(nil, "date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"))})
	}
}

// statuses are the encoded :status fields that the static table does not have, and those that it has, by status.
var statuses = func() (t [600][]byte) {
	for i := 200; i < len(t); i++ {
		t[i] = AppendField(nil, ":status", strconv.Itoa(i))
	}
	return t
}()
