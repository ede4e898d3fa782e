package devserver

import (
	"crypto/rand"
	"crypto/subtle"
	"maps"
	"slices"
	"time"
)

// session is what a client keeps over its connections.
type session struct {
	id       int64
	password [16]byte
	timeout  time.Duration
	heard    time.Time
	conn     *conn // nil while it has none
}

// attach answers the first request of a connection: it makes a session, or finds the one that the client asks for. It
// returns false when the connection must end, after what was queued.
func (s *Server) attach(c *conn, frame []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := reader{b: frame}
	r.int32() // the protocol's version: there is but one
	seen := r.int64()
	timeout := time.Duration(r.int32()) * time.Millisecond
	sid, password := r.int64(), r.buffer()
	if r.err != nil {
		s.cfg.Log.Debug("a connection began with no connect request", "error", r.err)
		return false
	}
	knowsReadOnly := len(r.b) > 0
	if seen > s.tree.zxid {
		s.cfg.Log.Debug("client refused: it has seen later changes than were made here", "seen", seen, "last", s.tree.zxid)
		return false
	}
	ses := s.sessions[sid]
	switch {
	case sid == 0:
		if len(s.sessions) >= s.cfg.MaxSessions || s.closed {
			return false
		}
		s.lastSession++
		ses = &session{id: s.lastSession}
		_, _ = rand.Read(ses.password[:]) // never fails
		s.sessions[ses.id] = ses
	case ses == nil || subtle.ConstantTimeCompare(ses.password[:], password) != 1:
		c.sendConnected(&session{}, knowsReadOnly) // a session of zeros is one that has expired
		return false
	default:
		if ses.conn != nil {
			s.unwatch(ses.conn)
			ses.conn.session = nil
			ses.conn.shut()
		}
	}
	ses.timeout = min(max(timeout, 2*s.cfg.Tick), 20*s.cfg.Tick)
	ses.heard = time.Now()
	ses.conn, c.session = c, ses
	c.sendConnected(ses, knowsReadOnly)
	return true
}

// expire ends the sessions that were not heard of in time.
func (s *Server) expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ses := range s.sessions {
		if now.Sub(ses.heard) > ses.timeout {
			s.cfg.Log.Debug("session expired", "session", ses.id)
			s.endSession(ses)
		}
	}
}

// endSession deletes the session's ephemeral nodes, all in one change, and ends its connection.
func (s *Server) endSession(ses *session) {
	delete(s.sessions, ses.id)
	s.tree.begin()
	for _, path := range slices.Sorted(maps.Keys(s.tree.ephemerals[ses.id])) {
		s.tree.drop(path, -1)
	}
	s.fire(s.tree.events)
	if c := ses.conn; c != nil {
		s.unwatch(c)
		c.session, ses.conn = nil, nil
		c.shutAfterSending()
	}
}
