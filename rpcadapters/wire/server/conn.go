package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// conn is a connection from the server's side. It stands before the handler, so that the sweeper knows which connections
// have calls.
type conn struct {
	s     *Server
	raw   net.Conn
	watch watcher // tells whether the client is still there
	index int     // in the server's list; by the server's lock

	proto  atomic.Pointer[protocol] // nil while it is not known
	calls  atomic.Int32             // in flight
	listed atomic.Bool              // among those that the sweeper looks at each tick
	quiet  int                      // ticks without a call; the sweeper's
	ended  atomic.Bool
	unused atomic.Bool // since the last CloseIdle
}

// protocol holds what serves a connection.
type protocol struct{ wire.Conn }

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, raw: nc}
	c.raw = c.watch.init(nc)
	return c
}

// serving is what serves the connection; nil while its protocol is not known.
func (c *conn) serving() wire.Conn {
	if p := c.proto.Load(); p != nil {
		return p.Conn
	}
	return nil
}

// idle tells whether nothing is lost when the connection is closed.
func (c *conn) idle() bool {
	p := c.serving()
	return p == nil || p.Idle()
}

func (c *conn) abort() {
	c.ended.Store(true)
	if p := c.serving(); p != nil {
		p.Abort()
		return
	}
	_ = c.raw.Close() // run closes it again at worst
}

// run serves the connection to its end.
func (c *conn) run() {
	defer c.s.delist(c)
	defer func() {
		if r := recover(); r != nil {
			c.s.panicked.Add(1)
			c.s.log.Error("panic in a connection, which ends with it", "panic", r, "stack", string(debug.Stack()))
			c.abort()
		}
	}()
	p := c.greet()
	if p == nil {
		_ = c.raw.Close() // nobody speaks on it
		return
	}
	c.proto.Store(&protocol{p})
	if c.s.draining.Load() || c.s.hurried.Load() {
		p.Drain()
	}
	if c.ended.Load() {
		p.Abort() // it was to end while its protocol was not known
	}
	p.Serve()
}

// greet finds out what the client speaks. It returns nil for one that did not get so far.
func (c *conn) greet() wire.Conn {
	s := c.s
	if s.tls == nil && s.http2 == nil { // one protocol, in plain text
		return s.http1.NewConn(c.raw, nil, nil, c)
	}
	if err := c.raw.SetDeadline(time.Now().Add(s.opts.Handshake)); err != nil {
		return nil
	}
	var p wire.Conn
	if s.tls != nil {
		p = c.handshake()
	} else {
		p = c.sniff()
	}
	if p == nil || c.raw.SetDeadline(time.Time{}) != nil {
		return nil
	}
	return p
}

func (c *conn) handshake() wire.Conn {
	t := tls.Server(c.raw, c.s.tls)
	if err := t.HandshakeContext(context.Background()); err != nil {
		c.s.log.Debug("TLS handshake failed", "peer", c.raw.RemoteAddr().String(), "error", err)
		return nil
	}
	state := t.ConnectionState()
	if state.NegotiatedProtocol == "h2" && c.s.http2 != nil {
		return c.s.http2.NewConn(t, nil, &state, c)
	}
	return c.s.http1.NewConn(t, nil, &state, c)
}

// preface is what an HTTP/2 client begins with that knows what the server speaks (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// sniff reads until the bytes are the preface of HTTP/2 or cannot be.
func (c *conn) sniff() wire.Conn {
	buf := make([]byte, 1<<10)
	read := 0
	for {
		n, err := c.raw.Read(buf[read:])
		read += n
		b := buf[:read]
		switch {
		case bytes.HasPrefix(b, []byte(preface)):
			return c.s.http2.NewConn(c.raw, b, nil, c)
		case read > 0 && !bytes.HasPrefix([]byte(preface), b):
			return c.s.http1.NewConn(c.raw, b, nil, c)
		case err != nil:
			return nil
		}
	}
}

// ServeExchange implements wire.Handler.
func (c *conn) ServeExchange(ctx context.Context, x *wire.Exchange) {
	c.Began()
	defer c.Over()
	c.s.handler.ServeExchange(ctx, x)
}

// Began implements wire.Counter.
func (c *conn) Began() {
	c.calls.Add(1)
	if c.unused.Load() {
		c.unused.Store(false)
	}
	if !c.listed.Load() {
		c.s.sweeper.add(c)
	}
}

// Over implements wire.Counter.
func (c *conn) Over() { c.calls.Add(-1) }
