package wire

import (
	"crypto/tls"
	"net"
	"time"
)

// Protocol makes connections that speak it. Engines with a protocol of their own (http1, http2) implement it; the server
// that accepts connections finds out which one a client speaks, and owns their list, their sweeper and their end.
type Protocol interface {
	// NewConn serves c for h. read is what was read from c already. state is the TLS handshake's result, nil in plain text.
	NewConn(c net.Conn, read []byte, state *tls.ConnectionState, h Handler) Conn
}

// Conn is one connection being served. Serve runs in a goroutine of the connection's own; the other methods are called
// by the server's sweeper and by its end, at any time, also before and after Serve, and never block.
type Conn interface {
	// Serve reads requests and answers them until the connection ends, and closes it.
	Serve()
	// Sweep ends what is overdue at now: heads, bodies, idle times, writes, calls. It tells whether a call has run for so
	// long that somebody should look whether the client is still there.
	Sweep(now time.Time) (watch bool)
	// Gone says that the client has closed its side: calls in flight are cancelled.
	Gone()
	// Drain makes answers from now on ask the client to leave; a protocol that can ask without an answer does so.
	Drain()
	// Idle tells whether no call is in flight and no request has begun.
	Idle() bool
	// Abort cuts the connection and cancels its calls.
	Abort()
}

// Counter is a Handler that is told of calls that are no exchanges, so that the time of connections with calls is looked
// after closely. Looked up once, when a connection is made.
type Counter interface {
	// Began says that a call has begun, Over that one has ended.
	Began()
	Over()
}
