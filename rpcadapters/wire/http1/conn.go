package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/socket"
)

// conn is one connection. Serve's goroutine owns everything but what is said to be the sweeper's, the writer's or atomic.
// While an answer is written piece by piece, one goroutine may read the body and another write: what each of them uses is
// grouped below.
type conn struct {
	p      *Protocol
	nc     net.Conn
	raw    net.Conn       // below TLS, or nc itself: what deadlines and the end of the connection are for
	in     io.Reader      // reads from nc
	once   *socket.Writer // writes to nc what can be written at once; nil where nothing can
	h      wire.Handler
	peer   netip.AddrPort
	scheme string

	x   wire.Exchange
	cx  *wire.Context // of the exchange; the same as in ctx
	req request

	// The reader's: bytes of buf[r:w] have come and were not used yet.
	buf      []byte
	r, w     int
	scan     scanner
	left     int64 // of the body, or of the chunk that is being read
	chunk    chunkState
	extra    int // bytes of chunk extensions so far
	trailing int // bytes of the trailer section so far
	bodyErr  error
	rbroken  atomic.Bool // nothing more can be read; the writer asks too
	noWait   bool        // reading must not wait for the network
	draining bool        // the exchange is over, and what is read of its body is dropped
	unread   int         // bytes that were taken so

	// The writer's.
	out      *rpc.Buffer // of a streamed answer; nil before and after
	headEnd  int         // where its headers end, while they have not gone out; else 0
	answered bool        // an answer was begun
	ended    bool        // and is whole
	headOnly bool        // the answer has no body
	chunked  bool        // the streamed answer is
	keep     bool        // the connection may live on after the answer
	wbroken  bool        // nothing more can be written

	expect struct { // orders "100 Continue" and the answer
		sync.Mutex
		pending atomic.Bool
	}

	// Where Serve is, for the sweeper: the number of the request and its phase; see state.
	state   atomic.Uint64
	writes  atomic.Uint32 // odd while a write is under way
	ctx     atomic.Pointer[wire.Context]
	begun   atomic.Int64 // when a head that did not come at once began, since epoch; 0: it did
	bodyIn  atomic.Int64 // bytes of bodies that were waited for
	cutAt   atomic.Uint64
	slow    atomic.Bool // the body is slower than it may be
	patient atomic.Bool // it may be
	stopped atomic.Bool // nobody reads it any more
	gone    atomic.Bool
	leave   atomic.Bool // answers ask the client to leave
	cutMu   sync.Mutex  // held by the sweeper while it ends a read, and by TakeOver

	// The sweeper's alone.
	seen     uint64 // the state it saw last, and since when
	seenAt   time.Time
	sweptAt  time.Time
	reading  bool // the last look found it waiting for body bytes
	waited   time.Duration
	bodyBase int64
	wseen    uint32
	wseenAt  time.Time
}

// Phases of a connection. idle, head, waiting for body bytes: the sweeper ends the read when it is over the time.
const (
	idle    uint64 = iota // between requests, or before the first
	inHead                // a request has begun
	inCall                // the handler runs
	inBody                // and waits for bytes of the body
	closing               // the last answer is out
	taken                 // the connection belongs to somebody else
	phases  = 8
)

// epoch is what times are counted from where they have to be one word.
var epoch = time.Now()

// Serve reads requests and answers them until the connection ends. It implements wire.Conn.
func (c *conn) Serve() {
	defer c.close()
	for c.serve() {
	}
}

// close ends what is left of the connection, also after a panic of the handler's.
func (c *conn) close() {
	phase := c.phase()
	if cx := c.ctx.Load(); cx != nil {
		cx.Cancel()
	}
	if phase == taken {
		return
	}
	c.enter(closing)
	if c.out != nil {
		c.out.Free()
		c.out = nil
	}
	if phase == idle {
		_ = c.nc.Close() // with TLS it says so; there is nobody left to tell
		return
	}
	_ = c.raw.Close() // as above
}

// enter says where the connection is now.
func (c *conn) enter(phase uint64) {
	c.state.Store(c.state.Load()&^(phases-1) | phase)
}

func (c *conn) phase() uint64 { return c.state.Load() & (phases - 1) }

// serve reads one request and has it answered. It tells whether the connection lives on.
func (c *conn) serve() (again bool) {
	n, ok := c.readHead()
	if !ok {
		return false
	}
	x := &c.x
	c.prepare()
	ref := c.req.parse(c.buf[c.r:c.r+n], &x.HTTP, &c.p.limits)
	head := c.req.isHead(c.buf[c.r : c.r+n])
	poison(c.buf[c.r : c.r+n])
	c.r += n
	if ref != nil {
		c.refuse(ref, head)
		c.linger()
		return false
	}
	c.headOnly = head
	c.expectBody()
	c.enter(inCall)
	c.h.ServeExchange(c.cx, x)
	return c.finish()
}

// isHead tells whether a request, well formed or not, asks for no body.
func (*request) isHead(raw []byte) bool { return len(raw) > 5 && string(raw[:5]) == "HEAD " }

// prepare makes exchange and context ready for a request.
func (c *conn) prepare() {
	if c.cx == nil {
		c.cx = new(wire.Context)
		c.ctx.Store(c.cx)
	}
	c.cx.Reset(context.Background())
	if c.gone.Load() {
		c.cx.Cancel()
	}
	x := &c.x
	x.Reset(c, c.cx)
	x.Start = time.Now()
	x.Peer = c.peer
	x.Proto = "HTTP/1.1"
	x.HTTP.Scheme = c.scheme
	c.answered, c.ended, c.chunked, c.keep = false, false, false, false
	c.unread = 0
	for _, flag := range [...]*atomic.Bool{&c.patient, &c.stopped} {
		if flag.Load() { // which costs less than to store
			flag.Store(false)
		}
	}
}

// expectBody makes the reader ready for the request's body.
func (c *conn) expectBody() {
	c.left, c.chunk, c.extra, c.trailing, c.bodyErr = c.req.length, chunkNone, 0, 0, nil
	if c.req.length < 0 {
		c.left, c.chunk = 0, chunkSize
	}
	if c.req.minor == '0' {
		c.x.Proto = "HTTP/1.0"
	}
	c.x.ContentLength = c.req.length
	if c.req.expect {
		c.expect.pending.Store(true)
	}
}

// finish is what comes after the handler: an answer if there is none, and the end of the connection or the next request.
func (c *conn) finish() (again bool) {
	if c.phase() == taken {
		c.cx.Release()
		return false
	}
	switch {
	case !c.answered:
		c.refuse(&refusal{500, "INTERNAL", "the request was not answered"}, c.headOnly)
	case !c.ended:
		c.Abort() // what was begun cannot be taken for a whole answer
	}
	if !c.cx.Release() {
		c.cx = nil // it belongs to those who asked for it
		c.ctx.Store(nil)
	}
	c.forget()
	if !c.keep || c.wbroken || c.rbroken.Load() || c.gone.Load() || !c.rest() {
		if !c.wbroken {
			c.linger()
		}
		return false
	}
	if c.r == c.w {
		c.r, c.w = 0, 0
		if len(c.buf) > smallBuffer {
			c.buf = nil
		}
	}
	c.begun.Store(0)
	c.state.Store((c.state.Load()/phases + 1) * phases) // idle, and one request on
	return true
}

// rest waits for the rest of the body behind the answer: a client that has its answer may be at the last bytes of its
// request still, and mean to send another one.
func (c *conn) rest() bool {
	if c.skipRest() {
		return true
	}
	done, _ := c.drain(lingerTime)
	return done
}

// forget lets go of the request's text, which an idle connection must not hold.
func (c *conn) forget() {
	clear(c.x.HTTP.Header)
	clear(c.x.Segments)
	if cap(c.x.HTTP.Header) > keptHeaders {
		c.x.HTTP.Header = nil
	}
	c.x.HTTP = rpc.HTTP{Header: c.x.HTTP.Header}
	c.x.ID = ""
}

// readHead reads until a whole head is there and returns its length. What can be no head is refused.
func (c *conn) readHead() (n int, ok bool) {
	c.scan = scanner{}
	for {
		if c.w > c.r {
			n, ref := c.scan.next(c.buf[c.r:c.w], &c.p.limits)
			if ref != nil {
				c.prepare()
				c.refuse(ref, c.req.isHead(c.buf[c.r:c.w]))
				c.linger()
				return 0, false
			}
			if n > 0 {
				c.enter(inHead)
				return n, true
			}
			if c.phase() == idle {
				c.begun.Store(int64(time.Since(epoch)))
				c.enter(inHead)
			}
		}
		if err := c.fill(c.p.limits.HeaderBytes + smallBuffer); err != nil {
			if c.w > c.r && errors.Is(err, os.ErrDeadlineExceeded) {
				c.prepare()
				c.refuse(&refusal{408, "REQUEST_TIMEOUT", "the request head took too long"}, false)
				c.linger()
			}
			return 0, false
		}
	}
}

// fill reads once into the buffer, which may grow to limit bytes.
func (c *conn) fill(limit int) error {
	if c.r > 0 {
		if c.r == c.w {
			c.r, c.w = 0, 0
		} else if c.w == len(c.buf) {
			n := copy(c.buf, c.buf[c.r:c.w])
			c.r, c.w = 0, n
		}
	}
	if c.w == len(c.buf) {
		if len(c.buf) >= limit {
			return errFull
		}
		grown := make([]byte, min(max(smallBuffer, 2*len(c.buf)), max(limit, smallBuffer)))
		copy(grown, c.buf[:c.w])
		c.buf = grown
	}
	n, err := c.read(c.buf[c.w:])
	c.w += n
	return err
}

// errFull: the buffer may not grow more; those who fill it refuse before.
var errFull = errors.New("the read buffer is full")

// read reads from the network. It ends with os.ErrDeadlineExceeded where the sweeper has said so about this very state;
// a word that was meant for an earlier one is overheard.
func (c *conn) read(p []byte) (int, error) {
	for {
		n, err := c.in.Read(p)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.cut():
			if err := c.raw.SetReadDeadline(time.Time{}); err != nil {
				return 0, err
			}
			if !c.cut() {
				continue
			}
			return 0, os.ErrDeadlineExceeded
		case errors.Is(err, io.EOF):
			return 0, io.EOF
		}
		return 0, err
	}
}

// cut tells whether the sweeper has ended the present read.
func (c *conn) cut() bool { return c.cutAt.Load() == c.state.Load()+1 }

// linger ends the sending side and waits a moment for the client to take what was sent: to close a connection that has
// unread bytes resets it, and the client would not see its answer.
func (c *conn) linger() {
	c.enter(closing)
	if t, ok := c.nc.(interface{ CloseWrite() error }); ok {
		if err := t.CloseWrite(); err != nil {
			return
		}
	}
	if c.raw != c.nc {
		if t, ok := c.raw.(interface{ CloseWrite() error }); ok {
			if err := t.CloseWrite(); err != nil {
				return
			}
		}
	}
	if err := c.raw.SetReadDeadline(time.Now().Add(lingerTime)); err != nil {
		return
	}
	if len(c.buf) == 0 {
		c.buf = make([]byte, smallBuffer)
	}
	for c.unread < maxUnread {
		n, err := c.raw.Read(c.buf[:min(len(c.buf), maxUnread-c.unread)])
		if err != nil {
			return
		}
		c.unread += n
	}
	awaitEnd(c.raw)
}

// TakeOver hands the connection over to a handler that has not answered and has read the body, with what the client has
// sent already. It implements wire.Taker. The context ends with the exchange, the connection does not.
func (c *conn) TakeOver() (net.Conn, []byte, error) {
	if c.answered || c.left != 0 || c.chunk != chunkNone {
		return nil, nil, errTaken
	}
	c.cutMu.Lock()
	defer c.cutMu.Unlock()
	c.enter(taken)
	read := append([]byte(nil), c.buf[c.r:c.w]...)
	c.buf, c.r, c.w = nil, 0, 0
	return c.nc, read, c.raw.SetDeadline(time.Time{})
}

var errTaken = errors.New("the connection cannot be taken over: its request was answered or has an unread body")
