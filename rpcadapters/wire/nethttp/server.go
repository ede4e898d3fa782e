// Package nethttp is the engine that serves exchanges by the standard library's net/http, over HTTP/1.1 and, with TLS,
// HTTP/2.
package nethttp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// Limits of what a connection may do; every one is on by default.
const (
	maxHeaderBytes  = 64 << 10
	headerTimeout   = 10 * time.Second
	idleTimeout     = 60 * time.Second
	writeTimeout    = 60 * time.Second // for a client to take an answer
	unreadTimeout   = 2 * time.Second  // for a body that nobody asked for to come
	maxHTTP2Streams = 100
)

// Server serves one or more listeners. Its methods are safe for concurrent use.
type Server struct {
	http     http.Server
	handler  wire.Handler
	draining atomic.Bool
	conns    atomic.Int64
	accepted atomic.Int64
	pool     sync.Pool
}

// New makes a server that hands exchanges to h. tlsConfig nil: plain text. Faults of single connections go to log at
// level debug: they are the business of those who make them.
func New(h wire.Handler, tlsConfig *tls.Config, log *slog.Logger) *Server {
	s := &Server{handler: h}
	s.pool.New = func() any { return &engine{} }
	s.http = http.Server{
		Handler:           s,
		TLSConfig:         tlsConfig,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// OPTIONS * is answered by the gateway like every other request.
		DisableGeneralOptionsHandler: true,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxHTTP2Streams},
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState:                    s.track,
	}
	return s
}

func (s *Server) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
		s.accepted.Add(1)
	case http.StateHijacked, http.StateClosed:
		s.conns.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}

// Serve takes connections from l until l is closed or Shutdown is called; it returns nil then.
func (s *Server) Serve(l net.Listener) error {
	var err error
	if s.http.TLSConfig != nil {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Drain makes every answer from now on tell its client to close the connection.
func (s *Server) Drain() { s.draining.Store(true) }

// Conns is the number of open connections; Accepted how many there have been.
func (s *Server) Conns() int64 { return s.conns.Load() }

// Accepted is how many connections there have been.
func (s *Server) Accepted() int64 { return s.accepted.Load() }

// Shutdown closes the listeners and idle connections and waits for calls in flight until ctx ends; then it cuts them.
func (s *Server) Shutdown(ctx context.Context) error {
	// A listener may have been closed before; that is no fault.
	if err := s.http.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		_ = s.http.Close() // the deadline has passed: what is left is cut
		return err
	}
	return nil
}

// ServeHTTP makes an exchange of a request. It is net/http's way in, called in the connection's goroutine.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := s.pool.Get().(*engine)
	e.w, e.r, e.s = w, r, s
	x := &e.x
	x.Reset(e, nil)
	x.Start = time.Now()
	x.Proto = r.Proto
	x.ContentLength = r.ContentLength
	x.HTTP.Method = r.Method
	x.HTTP.Scheme = "http"
	if r.TLS != nil {
		x.HTTP.Scheme = "https"
	}
	x.HTTP.Host = host(r.Host)
	if i := strings.LastIndexByte(r.Host, ':'); i >= 0 && strings.IndexByte(r.Host[i:], ']') < 0 {
		x.HTTP.Port = r.Host[i+1:]
	}
	x.HTTP.Path, x.HTTP.Query = target(r.RequestURI)
	x.Peer, _ = netip.ParseAddrPort(r.RemoteAddr) // the zero address where the peer has none
	for k, vs := range r.Header {
		key := lower(k)
		for _, v := range vs {
			x.HTTP.Header = append(x.HTTP.Header, rpc.Pair{Key: key, Value: v})
		}
	}
	s.handler.ServeExchange(r.Context(), x)
	e.w, e.r, e.deadlined, e.ended = nil, nil, false, false
	s.pool.Put(e)
}

// target splits a request target into path and query. An absolute target gives its path; the host was taken by net/http.
func target(uri string) (path, query string) {
	if !strings.HasPrefix(uri, "/") {
		if _, rest, ok := strings.Cut(uri, "://"); ok {
			if i := strings.IndexAny(rest, "/?"); i >= 0 && rest[i] == '/' {
				uri = rest[i:]
			} else if i >= 0 {
				uri = "/" + rest[i:]
			} else {
				uri = "/"
			}
		}
	}
	path, query, _ = strings.Cut(uri, "?")
	return path, query
}

// host returns a Host header's name: lower case, without port and without the dot of a rooted name.
func host(h string) string {
	if i := strings.LastIndexByte(h, ':'); i >= 0 && strings.IndexByte(h[i:], ']') < 0 {
		h = h[:i]
	}
	h = strings.TrimSuffix(h, ".")
	return strings.ToLower(h)
}

// lower returns a canonical header name in lower case; the common ones without allocation.
func lower(k string) string {
	if l, ok := commonHeaders[k]; ok {
		return l
	}
	return strings.ToLower(k)
}

var commonHeaders = func() map[string]string {
	m := map[string]string{}
	for _, l := range [...]string{
		"accept", "accept-encoding", "accept-language", "authorization", "cache-control", "connection", "content-length",
		"content-type", "cookie", "grpc-timeout", "origin", "referer", "traceparent", "tracestate", "user-agent",
		"x-b3-sampled", "x-b3-spanid", "x-b3-traceid", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "x-request-id",
		"x-request-timeout", "grpc-encoding", "x-request-id", "content-encoding", "sec-fetch-mode", "pragma",
	} {
		m[http.CanonicalHeaderKey(l)] = l
	}
	return m
}()

// canonical returns a header name as net/http spells it; those of every answer without allocation.
func canonical(k string) string {
	switch k {
	case "content-type":
		return "Content-Type"
	case "x-request-id":
		return "X-Request-Id"
	}
	return http.CanonicalHeaderKey(k)
}

// engine carries one exchange over net/http.
type engine struct {
	x wire.Exchange
	s *Server
	w http.ResponseWriter
	r *http.Request
	// deadlined: the connection's read deadline was set for this body.
	deadlined bool
	ended     bool // the body was read to its end
}

// deadliner is what net/http's response writers can do beside writing.
type deadliner interface {
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Read reads body bytes until the exchange's deadline, so that a slow sender cannot hold a call.
func (e *engine) Read(p []byte) (int, error) {
	if !e.deadlined && !e.x.Deadline.IsZero() && e.x.ContentLength != 0 {
		e.deadlined = true
		if d, ok := e.w.(deadliner); ok {
			if err := d.SetReadDeadline(e.x.Deadline); err != nil {
				return 0, err
			}
		}
	}
	n, err := e.r.Body.Read(p)
	e.ended = e.ended || errors.Is(err, io.EOF)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.DeadlineExceeded
	}
	return n, err
}

// Respond writes the answer. It does not wait for ever: not for a client that does not read, nor for the rest of a body,
// which net/http reads away before it answers.
func (e *engine) Respond(status int, header rpc.Metadata, body []byte) error {
	if d, ok := e.w.(deadliner); ok {
		now := time.Now()
		if err := d.SetWriteDeadline(now.Add(writeTimeout)); err != nil {
			return err
		}
		if e.x.ContentLength != 0 && !e.ended {
			if err := d.SetReadDeadline(now.Add(unreadTimeout)); err != nil {
				return err
			}
		}
	}
	h := e.w.Header()
	values := make([]string, len(header)) // one array for the lists of all names that stand once
	for i := range header {
		name := canonical(header[i].Key)
		if former := h[name]; former != nil {
			h[name] = append(former, header[i].Value)
			continue
		}
		values[i] = header[i].Value
		h[name] = values[i : i+1 : i+1]
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if e.s.draining.Load() {
		h.Set("Connection", "close")
	}
	e.w.WriteHeader(status)
	if len(body) == 0 || e.r.Method == http.MethodHead {
		return nil
	}
	_, err := e.w.Write(body)
	return err
}
