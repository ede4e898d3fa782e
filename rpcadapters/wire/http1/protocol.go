// Package http1 is the HTTP/1.1 engine: it reads requests from a connection, strictly, and writes their answers. Framing is
// that of RFC 9112; what could be read in two ways is refused and ends the connection, and nothing of it is handed on.
package http1

import (
	"cmp"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/socket"
)

// Limits of what a connection may do. The zero value of a field means the default that stands beside it: every limit is on.
type Limits struct {
	HeaderBytes  int // of a request's head, request line and all: 64 KiB
	HeaderFields int // in a head: 100
	URI          int // bytes of a request target: 8 KiB

	Head  time.Duration // for a head to come, and for a new connection to send the first byte: 10 s
	Idle  time.Duration // without a request: 60 s
	Write time.Duration // for the client to take an answer, or one piece of a streamed one: 60 s

	// A body may come slower than BodyRate bytes a second (1 KiB) for BodyGrace (10 s) at most. Only time spent waiting
	// for bytes counts. A negative rate: as slow as it likes.
	BodyGrace time.Duration
	BodyRate  int
}

// What the zero values of Limits mean.
const (
	defaultHeaderBytes  = 64 << 10
	defaultHeaderFields = 100
	defaultURI          = 8 << 10
	defaultHead         = 10 * time.Second
	defaultIdle         = 60 * time.Second
	defaultWrite        = 60 * time.Second
	defaultBodyGrace    = 10 * time.Second
	defaultBodyRate     = 1 << 10
)

func (l Limits) withDefaults() Limits {
	return Limits{
		HeaderBytes:  cmp.Or(l.HeaderBytes, defaultHeaderBytes),
		HeaderFields: cmp.Or(l.HeaderFields, defaultHeaderFields),
		URI:          cmp.Or(l.URI, defaultURI),
		Head:         cmp.Or(l.Head, defaultHead),
		Idle:         cmp.Or(l.Idle, defaultIdle),
		Write:        cmp.Or(l.Write, defaultWrite),
		BodyGrace:    cmp.Or(l.BodyGrace, defaultBodyGrace),
		BodyRate:     cmp.Or(l.BodyRate, defaultBodyRate),
	}
}

// Limits that nobody has had reason to change.
const (
	maxExtensions  = 1 << 10 // bytes of chunk extensions in one body
	maxTrailer     = 8 << 10 // bytes of a request's trailer section
	maxMethod      = 64
	maxUnread      = 64 << 10              // bytes of an unread body that are still taken after a refusal
	lingerTime     = time.Second           // for the client to take an answer after which the connection ends
	smallBuffer    = 4 << 10               // what a connection keeps for reading
	streamBuffer   = 16 << 10              // what a streamed answer collects before it is sent
	copied         = 64 << 10              // what of an answer's body is copied behind its head, so that both go out in one write
	lookAfter      = 40 * time.Millisecond // the age from when on somebody looks whether the caller is still there; see Sweep
	keptHeaders    = 32                    // entries of the header list that a connection keeps between requests
	chunkSizeWidth = 15                    // hex digits of a chunk size: 2^60 and no overflow
)

// Refused is told of requests that the engine has answered itself: what was malformed, too large or too slow never was an
// exchange. It is called in the connection's goroutine.
type Refused interface {
	Refused(peer netip.AddrPort, status int, reason string)
}

// Protocol makes connections that speak HTTP/1.1. It is safe for concurrent use.
type Protocol struct {
	limits  Limits
	refused Refused
	dates   dates
}

// New makes the protocol. refused may be nil.
func New(limits Limits, refused Refused) *Protocol {
	p := &Protocol{limits: limits.withDefaults(), refused: refused}
	p.dates.tick(time.Now())
	return p
}

// NewConn serves c for h. It implements wire.Protocol.
func (p *Protocol) NewConn(c net.Conn, read []byte, state *tls.ConnectionState, h wire.Handler) wire.Conn {
	n := &conn{p: p, nc: c, raw: c, in: socket.NewReader(c), once: socket.NewWriter(c), h: h, scheme: "http"}
	if state != nil {
		n.scheme = "https"
	}
	if t, ok := c.(*tls.Conn); ok {
		n.raw = t.NetConn()
	}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		n.peer = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	n.seenAt = time.Now()
	if len(read) > 0 {
		n.buf = make([]byte, max(smallBuffer, len(read)))
		n.w = copy(n.buf, read)
	}
	return n
}
